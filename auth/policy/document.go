package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Kind says what a document is attached to. Only resource documents name principals.
type Kind uint8

// The kinds of document.
const (
	KindIdentity  Kind = iota + 1 // what a key or a role may do
	KindResource                  // who may reach one cache
	KindBoundary                  // the most that an identity may ever do
	KindSession                   // the most that one token may do
	KindGuardrail                 // the most that anybody in a tenant may do, also its root
)

var kindNames = [...]string{"none", "identity", "resource", "boundary", "session", "guardrail"}

// ParseKind finds a kind by its name: identity, resource, boundary, session or guardrail.
func ParseKind(name string) (Kind, bool) {
	k := slices.Index(kindNames[:], name)
	return Kind(max(k, 0)), k > 0
}

func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return kindNames[0]
	}
	return kindNames[k]
}

// The limits of a document.
const (
	MaxCharacters      = 10240     // without the white space between the parts of the JSON text
	MaxBytes           = 64 * 1024 // with it
	MaxTokenStatements = 20        // in a session document, which travels in a token
)

// A Class is the kind of mistake in a refused document; clients may branch on it.
type Class string

// The classes of mistakes. Most are the name of the element that is wrong.
const (
	ClassJSON         Class = "json" // not a JSON object
	ClassDuplicateKey Class = "duplicate_key"
	ClassUnknownField Class = "unknown_field"
	ClassTrailingData Class = "trailing_data"
	ClassTooLarge     Class = "too_large"
	ClassTooMany      Class = "too_many_statements"
	ClassVersion      Class = "version"
	ClassID           Class = "id"
	ClassStatement    Class = "statement"
	ClassSid          Class = "sid"
	ClassEffect       Class = "effect"
	ClassPrincipal    Class = "principal"
	ClassAction       Class = "action"
	ClassResource     Class = "resource"
	ClassCondition    Class = "condition"
	ClassVariable     Class = "variable"
)

// An Error says why a document is refused, and where.
type Error struct {
	Class Class
	Where string // such as "Statement[2].Action"; empty for the document as a whole
	What  string
}

func (e *Error) Error() string {
	if e.Where == "" {
		return fmt.Sprintf("MalformedPolicy (%s): %s", e.Class, e.What)
	}
	return fmt.Sprintf("MalformedPolicy (%s): %s: %s", e.Class, e.Where, e.What)
}

// A Document is a policy, checked and compiled. It does not change once made, and any number of sets may
// hold it.
type Document struct {
	name       string
	kind       Kind
	statements []statement
	err        error
}

// A statement is one rule of a document.
type statement struct {
	sid        string
	index      int
	deny       bool
	actions    actionSet // with NotAction already turned round
	resources  []resourcePattern
	butThese   bool // resources came from NotResource
	principals principals
	conditions []condition
	mayFail    bool // by a fact of the wrong type, or by a pattern that takes too many steps
}

// principals is the Principal or NotPrincipal of a statement.
type principals struct {
	anybody bool
	tenants []string
	arns    []string
	others  bool // came from NotPrincipal
}

// Parse checks a document that somebody wants to write, and refuses whatever is malformed or surely a
// mistake. Every error is an *Error. The name turns up in verdicts.
func Parse(name string, text []byte, kind Kind) (*Document, error) {
	p := parser{kind: kind, write: true}
	d := &Document{name: name, kind: kind}
	var err *Error
	if d.statements, err = p.document(text); err != nil {
		return nil, err
	}
	return d, nil
}

// Load takes a document from the store. One that no longer validates is not skipped: it makes every set that
// holds it deny everything (see Compile), and Err says why, for the alert.
//
// Load waives the two checks that only a writer can act on: an Allow whose ForAllValues has no guard, and a
// resource that no grammar knows. Both have a plain meaning.
func Load(name string, text []byte, kind Kind) *Document {
	p := parser{kind: kind}
	d := &Document{name: name, kind: kind}
	if statements, err := p.document(text); err != nil {
		d.err = fmt.Errorf("stored policy %q: %w", name, err)
	} else {
		d.statements = statements
	}
	return d
}

// Err says why a loaded document is broken, or nil.
func (d *Document) Err() error { return d.err }

// Name is the name given to Parse or Load.
func (d *Document) Name() string { return d.name }

type parser struct {
	kind      Kind
	write     bool
	variables bool // the document is written in the language of 2012
}

// document reads a whole document.
func (p *parser) document(text []byte) ([]statement, *Error) {
	if n := characters(text); n > MaxCharacters {
		return nil, &Error{ClassTooLarge, "", fmt.Sprintf("%d characters without white space; the limit is %d", n, MaxCharacters)}
	}
	if len(text) > MaxBytes {
		return nil, &Error{ClassTooLarge, "", fmt.Sprintf("%d bytes; the limit is %d", len(text), MaxBytes)}
	}
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	value, err := dec.ReadValue()
	if err != nil {
		return nil, jsonError("", err)
	}
	value = value.Clone() // the decoder reuses its buffer
	if _, err := dec.ReadToken(); err != io.EOF {
		return nil, &Error{ClassTrailingData, "", "there is text after the document"}
	}
	var doc struct{ Version, Id, Statement jsontext.Value }
	if err := p.object("", value, &doc); err != nil {
		return nil, err
	}
	if doc.Version != nil {
		switch v, _ := jsonString(doc.Version); v {
		case "2012-10-17":
			p.variables = true
		case "2008-10-17":
		default:
			return nil, &Error{ClassVersion, "Version", `must be "2012-10-17" or "2008-10-17"`}
		}
	}
	if doc.Id != nil {
		if _, ok := jsonString(doc.Id); !ok || p.kind != KindResource {
			return nil, &Error{ClassID, "Id", "must be a string, and stands only in resource policies"}
		}
	}
	var list []jsontext.Value
	switch {
	case doc.Statement.Kind() == '{':
		list = []jsontext.Value{doc.Statement}
	case doc.Statement.Kind() != '[' || json.Unmarshal(doc.Statement, &list) != nil || len(list) == 0:
		return nil, &Error{ClassStatement, "Statement", "must be a statement or a list of at least one"}
	}
	if p.kind == KindSession && len(list) > MaxTokenStatements {
		return nil, &Error{ClassTooMany, "Statement", fmt.Sprintf("%d statements; the limit in a token is %d", len(list), MaxTokenStatements)}
	}
	statements := make([]statement, len(list))
	sids := map[string]int{}
	for i, raw := range list {
		st, err := p.statement(fmt.Sprintf("Statement[%d]", i), raw)
		if err != nil {
			return nil, err
		}
		if first, seen := sids[st.sid]; seen && st.sid != "" {
			return nil, &Error{ClassSid, fmt.Sprintf("Statement[%d].Sid", i), fmt.Sprintf("%q is taken by Statement[%d]", st.sid, first)}
		}
		sids[st.sid] = i
		st.index = i
		statements[i] = st
	}
	return statements, nil
}

// characters counts what the size limit counts: all but the white space between JSON tokens.
func characters(text []byte) (n int) {
	quoted, escaped := false, false
	for _, c := range text {
		switch {
		case escaped:
			escaped = false
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			escaped = true
		case !quoted && (c == ' ' || c == '\t' || c == '\r' || c == '\n'):
			continue
		}
		if utf8.RuneStart(c) {
			n++
		}
	}
	return n
}

// object reads a JSON object into a struct whose fields are its elements.
func (p *parser) object(where string, raw jsontext.Value, into any) *Error {
	if raw.Kind() != '{' {
		class := ClassJSON
		if where != "" {
			class = ClassStatement
		}
		return &Error{class, where, "must be a JSON object"}
	}
	if err := json.Unmarshal(raw, into, json.RejectUnknownMembers(true)); err != nil {
		return jsonError(where, err)
	}
	return nil
}

// jsonError gives an error of the JSON packages its class.
func jsonError(where string, err error) *Error {
	var pointer jsontext.Pointer
	var syntactic *jsontext.SyntacticError
	var semantic *json.SemanticError
	if errors.As(err, &syntactic) {
		pointer = syntactic.JSONPointer
	} else if errors.As(err, &semantic) {
		pointer = semantic.JSONPointer
	}
	if where != "" && pointer != "" {
		where += "."
	}
	where += strings.ReplaceAll(strings.TrimPrefix(string(pointer), "/"), "/", ".")
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return &Error{ClassDuplicateKey, where, "stands twice in one object"}
	case errors.Is(err, json.ErrUnknownName):
		return &Error{ClassUnknownField, where, "is not an element of the policy language; letter case counts"}
	case errors.Is(err, io.EOF):
		return &Error{ClassJSON, where, "is empty"}
	}
	return &Error{ClassJSON, where, err.Error()}
}

func (p *parser) statement(where string, raw jsontext.Value) (st statement, _ *Error) {
	var s struct {
		Sid, Effect, Principal, NotPrincipal, Action, NotAction, Resource, NotResource, Condition jsontext.Value
	}
	if err := p.object(where, raw, &s); err != nil {
		return st, err
	}
	bad := func(class Class, field, what string, args ...any) (statement, *Error) {
		return st, &Error{class, where + "." + field, fmt.Sprintf(what, args...)}
	}

	if s.Sid != nil {
		var ok bool
		if st.sid, ok = jsonString(s.Sid); !ok || !isSid(st.sid) {
			return bad(ClassSid, "Sid", "must be letters and digits A-Z, a-z, 0-9, at least one")
		}
	}
	switch effect, _ := jsonString(s.Effect); effect {
	case "Allow":
	case "Deny":
		st.deny = true
	default:
		return bad(ClassEffect, "Effect", `must be "Allow" or "Deny"`)
	}

	if err := p.principals(where, s.Principal, s.NotPrincipal, &st); err != nil {
		return st, err
	}

	field, value := "Action", s.Action
	if s.NotAction != nil {
		field, value = "NotAction", s.NotAction
	}
	if (s.Action == nil) == (s.NotAction == nil) {
		return bad(ClassAction, field, "give either Action or NotAction")
	}
	names, ok := jsonStrings(value)
	if !ok {
		return bad(ClassAction, field, "must be a string or a list of at least one")
	}
	for _, name := range names {
		if err := checkPattern(name); err != nil {
			return bad(ClassAction, field, "%v", err)
		}
		set := matchingActions(name)
		service, _, found := strings.Cut(name, ":")
		if name != "*" && (!found || strings.ContainsAny(service, "*?")) {
			return bad(ClassAction, field, "%q must be * or service:Name; the service takes no wildcards", name)
		}
		if set.empty() {
			return bad(ClassAction, field, "%q is no action and covers none", name)
		}
		st.actions[0] |= set[0]
		st.actions[1] |= set[1]
	}
	if s.NotAction != nil {
		st.actions = st.actions.others()
	}

	field, value = "Resource", s.Resource
	if s.NotResource != nil {
		field, value, st.butThese = "NotResource", s.NotResource, true
	}
	if (s.Resource == nil) == (s.NotResource == nil) {
		return bad(ClassResource, field, "give either Resource or NotResource")
	}
	if names, ok = jsonStrings(value); !ok {
		return bad(ClassResource, field, "must be a string or a list of at least one")
	}
	for _, name := range names {
		pattern, class, err := parseResource(name, p.variables)
		if err != nil {
			return bad(class, field, "%q: %v", name, err)
		}
		if p.write && !pattern.possible() {
			return bad(ClassResource, field, "%q covers no resource that can exist", name)
		}
		st.resources = append(st.resources, pattern)
		st.mayFail = st.mayFail || pattern.mayFail()
	}

	if s.Condition != nil {
		if err := p.conditions(where+".Condition", s.Condition, &st); err != nil {
			return st, err
		}
		st.mayFail = true
	}
	return st, nil
}

func isSid(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// principals reads Principal or NotPrincipal: "*", or {"Cache": names}, where a name is a tenant or the
// full name of a key, role, session or root, or "*".
func (p *parser) principals(where string, principal, not jsontext.Value, st *statement) *Error {
	bad := func(field, what string, args ...any) *Error {
		return &Error{ClassPrincipal, where + "." + field, fmt.Sprintf(what, args...)}
	}
	field, value := "Principal", principal
	if not != nil {
		field, value, st.principals.others = "NotPrincipal", not, true
	}
	switch {
	case p.kind != KindResource:
		if value != nil {
			return bad(field, "stands only in resource policies")
		}
		return nil
	case (principal == nil) == (not == nil):
		return bad(field, "a resource policy needs either Principal or NotPrincipal")
	case not != nil && !st.deny:
		return bad(field, "goes with Deny only: with Allow it would let in everybody else")
	}
	if all, ok := jsonString(value); ok && all == "*" && not == nil {
		st.principals.anybody = true
		return nil
	}
	var who struct{ Cache jsontext.Value }
	if err := p.object(where+"."+field, value, &who); err != nil {
		return bad(field, `must be "*" or {"Cache": names}`)
	}
	names, ok := jsonStrings(who.Cache)
	if !ok {
		return bad(field, "Cache must be a name or a list of at least one")
	}
	for _, name := range names {
		if name == "*" && not == nil {
			st.principals.anybody = true
			continue
		}
		if isTenantName(name) {
			st.principals.tenants = append(st.principals.tenants, name)
			continue
		}
		r, err := ParseARN(name)
		if err != nil || r.service != "iam" || strings.ContainsAny(name, "*?") {
			return bad(field, "%q is neither a tenant nor the name of a key, role, session or root; it takes no wildcards", name)
		}
		st.principals.arns = append(st.principals.arns, name)
		if r.n == 1 && r.slots[0] == "root" { // the root stands for its tenant
			st.principals.tenants = append(st.principals.tenants, r.tenant)
		}
	}
	return nil
}

// conditions reads {operator: {key: values}}, in a fixed order.
func (p *parser) conditions(where string, raw jsontext.Value, st *statement) *Error {
	var blocks map[string]map[string]jsontext.Value
	if err := json.Unmarshal(raw, &blocks); err != nil || len(blocks) == 0 {
		return &Error{ClassCondition, where, "must be an object {operator: {key: values}} with at least one operator"}
	}
	for _, name := range slices.Sorted(maps.Keys(blocks)) {
		where := where + "." + name
		op, quantifier, ifExists, err := parseOperator(name)
		if err != nil {
			return &Error{ClassCondition, where, err.Error()}
		}
		if len(blocks[name]) == 0 {
			return &Error{ClassCondition, where, "must name at least one condition key"}
		}
		seen := map[keyRef]bool{}
		for _, key := range slices.Sorted(maps.Keys(blocks[name])) {
			where := where + "." + key
			c := condition{operator: op, quantifier: quantifier, ifExists: ifExists}
			if c.key, err = p.conditionKey(&c, key); err != nil {
				return &Error{ClassCondition, where, err.Error()}
			}
			if seen[c.key] {
				return &Error{ClassDuplicateKey, where, "stands twice under one operator; letter case does not count"}
			}
			seen[c.key] = true
			values, ok := jsonScalars(blocks[name][key])
			if !ok {
				return &Error{ClassCondition, where, "must be a string, number, boolean, or a list of at least one"}
			}
			for _, text := range values {
				value, class, err := parseOperand(c.compare, text, p.variables)
				if err != nil {
					return &Error{class, where, err.Error()}
				}
				c.values = append(c.values, value)
			}
			st.conditions = append(st.conditions, c)
		}
	}
	if p.write && !st.deny {
		for i := range st.conditions {
			if c := &st.conditions[i]; c.quantifier == forAllValues && !guarded(st.conditions, c.key) {
				return &Error{ClassCondition, where, fmt.Sprintf(`ForAllValues with Allow is also true when %s is missing; `+
					`add "Null": {"%[1]s": "false"}`, c.key)}
			}
		}
	}
	return nil
}

// conditionKey finds the key and checks that the operator suits it.
func (p *parser) conditionKey(c *condition, name string) (keyRef, error) {
	ref, ok := lookupKey(name)
	if !ok {
		return ref, fmt.Errorf("%q is not a condition key", name)
	}
	switch row := &keyTable[ref.key]; {
	case !c.compare.fits(row.typ):
		return ref, fmt.Errorf("is of type %s, which this operator does not compare", row.typ)
	case c.compare == isNull:
	case row.list && c.quantifier == single:
		return ref, errors.New("may have several values: say ForAllValues: or ForAnyValue: before the operator")
	case !row.list && c.quantifier != single:
		return ref, errors.New("has one value: ForAllValues: and ForAnyValue: are for lists")
	}
	return ref, nil
}

// guarded reports whether a Null condition demands that key is there.
func guarded(conditions []condition, key keyRef) bool {
	return slices.ContainsFunc(conditions, func(c condition) bool {
		return c.compare == isNull && c.key == key &&
			!slices.ContainsFunc(c.values, func(o operand) bool { return o.plain != "false" })
	})
}

// jsonString reads a JSON string.
func jsonString(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return string(s), err == nil
}

// jsonStrings reads a string, or a list of at least one.
func jsonStrings(v jsontext.Value) ([]string, bool) {
	return jsonTexts(v, func(k jsontext.Kind) bool { return k == '"' })
}

// jsonScalars reads what a condition compares with: quotes around numbers and booleans may be left out.
func jsonScalars(v jsontext.Value) ([]string, bool) {
	return jsonTexts(v, func(k jsontext.Kind) bool { return k == '"' || k == '0' || k == 't' || k == 'f' })
}

func jsonTexts(v jsontext.Value, fits func(jsontext.Kind) bool) ([]string, bool) {
	list := []jsontext.Value{v}
	if v.Kind() == '[' {
		list = nil
		if json.Unmarshal(v, &list) != nil {
			return nil, false
		}
	}
	var texts []string
	for _, one := range list {
		if !fits(one.Kind()) {
			return nil, false
		}
		text := string(one)
		if one.Kind() == '"' {
			text, _ = jsonString(one)
		}
		texts = append(texts, text)
	}
	return texts, len(texts) > 0
}
