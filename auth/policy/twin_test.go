package policy

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The naive twin: the rules once more, on plain JSON values, with regular expressions, maps and no shortcut.
// It shares nothing with the evaluator but the names of modes and reasons, so that an index, a cache or an
// early exit that goes wrong shows up as a difference.

type doc = map[string]any

type scene struct {
	Identity, Guardrails        []doc
	Boundary, Session, Resource doc
	Who                         Principal
	Action, ARN                 string
	Facts                       map[string]any // string or []string, by key in lower case
	Public                      bool
}

func (s *scene) twin(mode Mode) (Decision, Reason) {
	parts := strings.SplitN(s.ARN, ":", 6)
	facts := map[string]any{}
	if s.Who.ARN != "" {
		facts["cache:principalarn"] = s.Who.ARN
		facts["cache:principaltenant"] = s.Who.Tenant
	}
	if s.Who.RoleARN != "" {
		facts["cache:principalarn"] = s.Who.RoleARN
	}
	facts["cache:resourcetenant"] = parts[4]
	for k, v := range s.Facts {
		facts[k] = v
	}
	if strings.HasPrefix(s.Action, "admin:") && parts[4] != "system" {
		return Deny, ReasonError
	}

	denied, failed := false, false
	// eval returns how closely the document's Allow statements name the caller: 0 when none applies.
	eval := func(d doc, resourcePolicy bool) (best int) {
		for _, raw := range d["Statement"].([]any) {
			st := raw.(doc)
			named := 3
			if resourcePolicy {
				named = twinPrincipal(st, s.Who)
			}
			if named == 0 || !twinAction(st, s.Action) || !twinResource(st, d, parts, facts, mode) {
				continue
			}
			ok, err := twinConditions(st, d, facts)
			switch {
			case err:
				failed = true
			case ok && st["Effect"] == "Deny":
				denied = true
			case ok:
				best = max(best, named)
			}
		}
		return best
	}
	identity, granted, boundary, session, guardrails := false, 0, true, true, true
	for _, d := range s.Identity {
		identity = eval(d, false) > 0 || identity
	}
	for _, d := range s.Guardrails {
		guardrails = eval(d, false) > 0 && guardrails
	}
	if s.Boundary != nil {
		boundary = eval(s.Boundary, false) > 0
	}
	if s.Session != nil {
		session = eval(s.Session, false) > 0
	}
	if s.Resource != nil {
		granted = eval(s.Resource, true)
	}
	limits := func(reason Reason) (Decision, Reason) {
		if !boundary {
			return Deny, ReasonNoBoundary
		}
		if !session {
			return Deny, ReasonNoSession
		}
		return Allow, reason
	}
	switch {
	case denied:
		return Deny, ReasonExplicitDeny
	case failed:
		return Deny, ReasonError
	case !guardrails:
		return Deny, ReasonNoGuardrail
	}
	if s.Who.Type == TypeAnonymous {
		switch {
		case granted < 3:
			return Deny, ReasonImplicitDeny
		case mode == ModeAWS:
			return Allow, ReasonResource
		case !s.Public:
			return Deny, ReasonPublicBlocked
		}
		return limits(ReasonResource)
	}
	if s.Who.Tenant == parts[4] {
		switch {
		case s.Who.Type == TypeRoot:
			return limits(ReasonRoot)
		case granted == 3 && mode == ModeAWS:
			return Allow, ReasonResource
		case granted >= 2:
			return limits(ReasonResource)
		case identity:
			return limits(ReasonIdentity)
		}
		return Deny, ReasonImplicitDeny
	}
	switch {
	case !identity:
		return Deny, ReasonImplicitDeny
	case granted == 0:
		return Deny, ReasonNoCrossTenant
	}
	return limits(ReasonCrossTenant)
}

func twinList(v any) []string {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	return v.([]string)
}

// twinPrincipal is 3 for the caller itself or everybody, 2 for its role, 1 for its tenant, 0 for nobody.
func twinPrincipal(st doc, who Principal) int {
	value, not := st["Principal"], false
	if value == nil {
		value, not = st["NotPrincipal"], true
	}
	if value == "*" {
		return 3
	}
	best := 0
	for _, name := range twinList(value.(doc)["Cache"]) {
		switch {
		case name == "*":
			best = 3
		case who.Type == TypeAnonymous:
		case name == who.ARN:
			best = 3
		case name == who.RoleARN:
			best = max(best, 2)
		case name == who.Tenant, name == "arn:cache:iam::"+who.Tenant+":root":
			best = max(best, 1)
		}
	}
	if not && best == 0 {
		return 3
	} else if not {
		return 0
	}
	return best
}

func twinAction(st doc, action string) bool {
	value, not := st["Action"], false
	if value == nil {
		value, not = st["NotAction"], true
	}
	hit := slices.ContainsFunc(twinList(value), func(p string) bool {
		return twinGlob(strings.ToLower(p), strings.ToLower(action))
	})
	return hit != not
}

// twinGlob is the pattern language as a regular expression.
func twinGlob(pattern, text string) bool {
	atoms := make([]string, 0, len(pattern))
	for _, r := range pattern {
		atoms = append(atoms, string(r))
	}
	return twinMatch(atoms, text, nil, true)
}

// twinAtoms cuts a pattern into characters and whole ${…}.
func twinAtoms(pattern string, d doc) []string {
	variable := `\$\{[^}]*\}|`
	if d["Version"] != "2012-10-17" {
		variable = ""
	}
	return regexp.MustCompile(`(?s)`+variable+`.`).FindAllString(pattern, -1)
}

// twinValue is what ${…} stands for.
func twinValue(atom string, facts map[string]any) (string, bool) {
	inner := strings.TrimSuffix(strings.TrimPrefix(atom, "${"), "}")
	if inner == "*" || inner == "?" || inner == "$" {
		return inner, true
	}
	name, deflt, hasDefault := strings.Cut(inner, ",")
	if v, ok := facts[strings.ToLower(name)]; ok {
		return v.(string), true
	}
	return strings.Trim(deflt, " '"), hasDefault
}

func twinMatch(atoms []string, text string, facts map[string]any, wildcards bool) bool {
	expr := "(?s)^"
	for _, a := range atoms {
		switch {
		case wildcards && a == "*":
			expr += ".*"
		case wildcards && a == "?":
			expr += "."
		case strings.HasPrefix(a, "${"):
			v, ok := twinValue(a, facts)
			if !ok {
				return false
			}
			expr += regexp.QuoteMeta(v)
		default:
			expr += regexp.QuoteMeta(a)
		}
	}
	return regexp.MustCompile(expr + "$").MatchString(text)
}

// twinSlots cuts a path into at most as many slots as its first one allows.
func twinSlots(atoms []string) (slots [][]string) {
	limit := 4
	slots = [][]string{nil}
	for _, a := range atoms {
		if a == "/" && len(slots) < limit {
			switch strings.Join(slots[0], "") {
			case "key", "role", "policy", "issuer", "node", "partition", "tenant":
				limit = 2
			case "session", "snapshot":
				limit = 3
			}
			if len(slots) < limit {
				slots = append(slots, nil)
				continue
			}
		}
		slots[len(slots)-1] = append(slots[len(slots)-1], a)
	}
	return slots
}

func twinResource(st, d doc, arn []string, facts map[string]any, mode Mode) bool {
	value, not := st["Resource"], false
	if value == nil {
		value, not = st["NotResource"], true
	}
	hit, unresolved := false, false
	for _, pattern := range twinList(value) {
		if pattern == "*" {
			hit = true
			continue
		}
		part := strings.SplitN(pattern, ":", 6)
		atoms := twinAtoms(part[5], d)
		for _, a := range atoms {
			if _, ok := twinValue(a, facts); strings.HasPrefix(a, "${") && !ok {
				unresolved = true
			}
		}
		ok := part[2] == arn[2] && twinGlob(part[3], arn[3]) && twinGlob(part[4], arn[4])
		if mode == ModeAWS {
			ok = ok && twinMatch(atoms, arn[5], facts, true)
		} else {
			want, have := twinSlots(atoms), twinSlots(twinAtoms(arn[5], nil))
			open := strings.Trim(strings.Join(want[len(want)-1], ""), "*") == "" && len(want[len(want)-1]) > 0
			ok = ok && (len(have) == len(want) || open && len(have) > len(want))
			for i := range want {
				ok = ok && twinMatch(want[i], strings.Join(have[i], ""), facts, true)
			}
		}
		hit = hit || ok
	}
	if not && unresolved && st["Effect"] == "Allow" && mode == ModeStrict {
		return false
	}
	return hit != not
}

// twinConditions reports whether all hold, or whether a fact was not of its type.
func twinConditions(st, d doc, facts map[string]any) (ok, failed bool) {
	ok = true
	blocks, _ := st["Condition"].(doc)
	for op, keys := range blocks {
		for key, values := range keys.(doc) {
			holds, err := twinCondition(op, strings.ToLower(key), twinList(values), d, facts)
			ok, failed = ok && holds, failed || err
		}
	}
	return ok && !failed, failed
}

func twinCondition(op, key string, values []string, d doc, facts map[string]any) (holds, failed bool) {
	fact, present := facts[key]
	if op == "Null" {
		list, isList := fact.([]string)
		return slices.Contains(values, fmt.Sprint(!present || isList && len(list) == 0)), false
	}
	set := ""
	if q, rest, ok := strings.Cut(op, ":"); ok {
		set, op = q, rest
	}
	op, ifExists := strings.CutSuffix(op, "IfExists")
	negated := strings.Contains(op, "Not")
	op = strings.Replace(op, "Not", "", 1)
	if !present {
		return ifExists || set == "ForAllValues" || set == "" && negated, false
	}
	one := func(fact string) bool {
		hit := false
		for _, v := range values {
			var ok, err bool
			switch {
			case strings.HasPrefix(op, "String"), op == "Bool":
				atoms := twinAtoms(v, d)
				if op == "StringEqualsIgnoreCase" {
					text, all := "", true
					for _, a := range atoms {
						if strings.HasPrefix(a, "${") {
							t, known := twinValue(a, facts)
							a, all = t, all && known
						}
						text += a
					}
					ok = all && strings.EqualFold(text, fact)
				} else {
					ok = twinMatch(atoms, fact, facts, op == "StringLike")
				}
				err = op == "Bool" && fact != "true" && fact != "false"
			case strings.HasPrefix(op, "Numeric"):
				a, known := new(big.Rat).SetString(fact)
				b, _ := new(big.Rat).SetString(v)
				if err = !known; known {
					ok = twinOrder(strings.TrimPrefix(op, "Numeric"), a.Cmp(b))
				}
			case strings.HasPrefix(op, "Date"):
				a, known := twinDate(fact)
				b, _ := twinDate(v)
				if err = !known; known {
					ok = twinOrder(strings.TrimPrefix(op, "Date"), a.Compare(b))
				}
			case op == "IpAddress":
				a, parseErr := netip.ParseAddr(fact)
				if !strings.Contains(v, "/") {
					b := netip.MustParseAddr(v)
					ok = parseErr == nil && a.Unmap() == b.Unmap()
				} else {
					ok = parseErr == nil && netip.MustParsePrefix(v).Contains(a.Unmap())
				}
				err = parseErr != nil
			case strings.HasPrefix(op, "Arn"):
				want, have := strings.SplitN(v, ":", 6), strings.SplitN(fact, ":", 6)
				if err = len(have) < 6; !err {
					ok = true
					for i := range want {
						ok = ok && twinMatch(twinAtoms(want[i], d), have[i], facts, true)
					}
				}
			default:
				panic(op)
			}
			hit, failed = hit || ok, failed || err
		}
		return hit != negated
	}
	switch set {
	case "":
		return one(fact.(string)), failed
	case "ForAllValues":
		for _, f := range fact.([]string) {
			if !one(f) {
				return false, failed
			}
		}
		return true, failed
	}
	return slices.ContainsFunc(fact.([]string), one), failed
}

func twinOrder(op string, c int) bool {
	return map[string]bool{
		"Equals": c == 0, "LessThan": c < 0, "LessThanEquals": c <= 0, "GreaterThan": c > 0, "GreaterThanEquals": c >= 0,
	}[op]
}

func twinDate(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(r.Num().Int64(), 0), true
}

// What random scenes are made of. The vocabulary is small, so that patterns and requests often meet.

var (
	someActions  = []string{"cache:Get", "cache:Set", "cache:Scan", "leaderboard:GetRank", "iam:CreateKey", "admin:DrainNode"}
	someCovering = []string{"*", "cache:*", "cache:?et", "CACHE:get", "cache:S*", "leaderboard:*", "iam:*Key", "cache:Get", "admin:*"}
	someTenants  = []string{"acme", "globex", "system"}
	somePeople   = []Principal{
		{Type: TypeKey, Tenant: "acme", ARN: "arn:cache:iam::acme:key/web"},
		{Type: TypeSession, Tenant: "acme", ARN: "arn:cache:iam::acme:session/app/u42", RoleARN: "arn:cache:iam::acme:role/app"},
		{Type: TypeKey, Tenant: "globex", ARN: "arn:cache:iam::globex:key/etl"},
		{Type: TypeRoot, Tenant: "acme", ARN: "arn:cache:iam::acme:root"},
		{Type: TypeKey, Tenant: "system", ARN: "arn:cache:iam::system:key/ops"},
		{Type: TypeAnonymous},
	}
	someNames = []string{
		"acme", "globex", "arn:cache:iam::acme:key/web", "arn:cache:iam::acme:role/app", "arn:cache:iam::acme:session/app/u42",
		"arn:cache:iam::globex:key/etl", "arn:cache:iam::acme:root",
	}
	somePaths = []string{
		"cache/a", "cache/ab", "cache/a/key/a", "cache/a/key/b/key/a", "cache/ab/key/a/b", "cache/a/key/é", "cache/a/key/",
		"cache/a/key/*", "cache/a/leaderboard/a", "snapshot/a/1",
	}
	somePathPatterns = []string{
		"*", "cache/*", "cache/a", "cache/a*", "cache/?", "cache/*/key/*", "cache/a/key/a", "cache/a/key/?", "cache/*/key/a*",
		"cache/a/*", "cache/a/key/${cache:username}", "cache/*/key/*/${cache:PrincipalTag/team, 'b'}", "cache/a/key/${*}",
		"cache/${cache:username}/key/*", "cache/a/*/a", "snapshot/a/*", "cache/**/key/**a",
	}
	someText  = []string{"a", "b", "A", "ab", "é", ""}
	someBools = []string{"true", "false"}
	someNums  = []string{"1", "2", "2.5", "-1", "10"}
	someDates = []string{"2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "1767225600", "2026-01-02", "2026-01-01T00:00:01Z"}
	someARNs  = []string{"arn:cache:iam::acme:key/web", "arn:cache:iam:eu1:acme:role/app", "arn:cache:s:eu1:globex:x/acme:y"}
	someKeys  = []struct {
		name   string
		ops    []string
		facts  []string
		values []string
	}{
		{"cache:Protocol", stringOps, someText, append([]string{"a*", "?", "*b", "${cache:username}", "${*}"}, someText...)},
		{"CACHE:username", stringOps, someText, append([]string{"a?", "x${cache:PrincipalTag/Team}*", "${cache:PrincipalTag/team, 'b'}"}, someText...)},
		{"cache:PrincipalTag/team", stringOps, someText, append([]string{"${cache:username}", "?*"}, someText...)},
		{"jwt:scope", nil, someText, append([]string{"a*", "*"}, someText...)},
		{"cache:TagKeys", nil, someText, append([]string{"${cache:username}"}, someText...)},
		{"cache:ValueSize", orderOps("Numeric"), someNums, someNums},
		{"cache:CurrentTime", orderOps("Date"), someDates, someDates},
		{"cache:SecureTransport", []string{"Bool", "BoolIfExists"}, someBools, someBools},
		{"cache:SourceIp", []string{"IpAddress", "NotIpAddress", "IpAddressIfExists"}, []string{"10.0.0.1", "::ffff:10.0.0.2", "2001:db8::1"},
			[]string{"10.0.0.0/8", "10.0.0.2", "2001:db8::/32", "::ffff:10.0.0.1", "::1"}},
		{"cache:SourceArn", []string{"ArnLike", "ArnEquals", "ArnNotLike", "ArnNotEqualsIfExists", "StringLike"}, someARNs,
			append([]string{"arn:cache:*:*:acme:*", "arn:*:iam:*:*:key/*", "arn:cache:s:*:*:*acme*"}, someARNs...)},
	}
	stringOps = []string{
		"StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase",
		"StringEqualsIfExists", "StringNotLikeIfExists",
	}
)

func orderOps(family string) (ops []string) {
	for _, op := range []string{"Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals", "EqualsIfExists"} {
		ops = append(ops, family+op)
	}
	return ops
}

func oneOf[T any](t *rapid.T, from []T) T { return rapid.SampledFrom(from).Draw(t, "pick") }

func chance(t *rapid.T, oneIn int) bool { return rapid.IntRange(1, oneIn).Draw(t, "chance") == 1 }

func someOf(t *rapid.T, from []string) []string {
	return rapid.SliceOfN(rapid.SampledFrom(from), 1, 3).Draw(t, "some")
}

func drawStatement(t *rapid.T, kind Kind, effect string) doc {
	st := doc{"Effect": effect}
	field := "Action"
	if chance(t, 6) {
		field = "NotAction"
	}
	st[field] = someOf(t, someCovering)
	field = "Resource"
	if chance(t, 5) {
		field = "NotResource"
	}
	var resources []string
	for range rapid.IntRange(1, 2).Draw(t, "resources") {
		path := "arn:cache:cache:*:" + oneOf(t, []string{"acme", "globex", "*", "a?me"}) + ":" + oneOf(t, somePathPatterns)
		if chance(t, 3) {
			path = "*"
		}
		resources = append(resources, path)
	}
	st[field] = resources
	if kind == KindResource {
		switch {
		case effect == "Deny" && chance(t, 3):
			st["NotPrincipal"] = doc{"Cache": someOf(t, someNames)}
		case chance(t, 3):
			st["Principal"] = "*"
		default:
			st["Principal"] = doc{"Cache": someOf(t, append([]string{"*"}, someNames...))}
		}
	}
	if conditions := drawConditions(t); len(conditions) > 0 {
		st["Condition"] = conditions
	}
	return st
}

func drawConditions(t *rapid.T) doc {
	blocks := doc{}
	for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "conditions") {
		key := oneOf(t, someKeys)
		op, values := "Null", []string{oneOf(t, someBools)}
		if !chance(t, 8) {
			values = someOf(t, key.values)
			if key.ops == nil {
				op = oneOf(t, []string{"ForAllValues:", "ForAnyValue:"}) + oneOf(t, stringOps)
			} else {
				op = oneOf(t, key.ops)
			}
		}
		if _, ok := blocks[op]; !ok {
			blocks[op] = doc{}
		}
		blocks[op].(doc)[key.name] = values
	}
	return blocks
}

func drawDocument(t *rapid.T, kind Kind, effects ...string) doc {
	d := doc{}
	if !chance(t, 8) {
		d["Version"] = "2012-10-17"
	}
	var list []any
	for range rapid.IntRange(1, 4).Draw(t, "statements") {
		list = append(list, drawStatement(t, kind, oneOf(t, effects)))
	}
	d["Statement"] = list
	return d
}

// drawScene makes policies and a request. With flaws, some facts are not of their key's type.
func drawScene(t *rapid.T, flaws bool) *scene {
	s := &scene{
		Who:    oneOf(t, somePeople),
		Action: oneOf(t, someActions),
		ARN:    "arn:cache:cache:eu1:" + oneOf(t, someTenants) + ":" + oneOf(t, somePaths),
		Facts:  map[string]any{},
		Public: rapid.Bool().Draw(t, "public"),
	}
	mixed := []string{"Allow", "Allow", "Allow", "Deny"}
	for range rapid.IntRange(0, 3).Draw(t, "identity") {
		s.Identity = append(s.Identity, drawDocument(t, KindIdentity, mixed...))
	}
	if chance(t, 4) {
		s.Guardrails = append(s.Guardrails, drawDocument(t, KindGuardrail, mixed...))
	}
	if chance(t, 4) {
		s.Boundary = drawDocument(t, KindBoundary, mixed...)
	}
	if chance(t, 4) {
		s.Session = drawDocument(t, KindSession, mixed...)
	}
	if chance(t, 2) {
		s.Resource = drawDocument(t, KindResource, mixed...)
	}
	for _, key := range someKeys {
		name := strings.ToLower(key.name)
		switch {
		case rapid.Bool().Draw(t, "missing"):
		case key.ops == nil:
			s.Facts[name] = rapid.SliceOfN(rapid.SampledFrom(key.facts), 0, 3).Draw(t, name)
		case flaws && chance(t, 12):
			s.Facts[name] = "flawed"
		default:
			s.Facts[name] = oneOf(t, key.facts)
		}
	}
	return s
}

// set compiles the scene's documents, having turned them into JSON and back.
func (s *scene) set(t *rapid.T, mode Mode) *Set {
	load := func(d doc, kind Kind) *Document {
		if d == nil {
			return nil
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		loaded := Load("d", text, kind)
		if loaded.Err() != nil {
			t.Fatalf("%v\n%s", loaded.Err(), text)
		}
		return loaded
	}
	p := Policies{Boundary: load(s.Boundary, KindBoundary), Resource: load(s.Resource, KindResource)}
	for _, d := range s.Identity {
		p.Identity = append(p.Identity, load(d, KindIdentity))
	}
	for _, d := range s.Guardrails {
		p.Guardrails = append(p.Guardrails, load(d, KindGuardrail))
	}
	if s.Session != nil {
		p.Session = []*Document{load(s.Session, KindSession)}
	}
	return Compile(p, mode)
}

func (s *scene) request(t *rapid.T) *Request {
	known := facts{}
	for name, fact := range s.Facts {
		ref, ok := lookupKey(name)
		if !ok {
			t.Fatalf("no key %q", name)
		}
		switch f := fact.(type) {
		case string:
			known[ref] = Text(f)
		case []string:
			known[ref] = List(f)
		}
	}
	r, err := ParseARN(s.ARN)
	if err != nil {
		t.Fatal(err)
	}
	action, _ := LookupAction(s.Action)
	return &Request{Principal: &s.Who, Action: action, Resource: r, Context: known, AllowPublic: s.Public}
}

func (s *scene) decide(t *rapid.T, mode Mode) Verdict { return s.set(t, mode).Decide(s.request(t)) }

func drawMode(t *rapid.T) Mode { return oneOf(t, []Mode{ModeStrict, ModeAWS}) }

// The evaluator and its naive twin agree, on the decision and on the reason.
func TestDecideAgreesWithTwin(t *testing.T) {
	seen := map[Reason]int{}
	rapid.Check(t, func(t *rapid.T) {
		s, mode := drawScene(t, true), drawMode(t)
		got := s.decide(t, mode)
		seen[got.Reason]++
		if decision, reason := s.twin(mode); got.Decision != decision || got.Reason != reason {
			text, _ := json.MarshalIndent(s, "", " ")
			t.Fatalf("mode %d: got %v, the twin says %v (%s)\n%s", mode, got, decision, reason, text)
		}
	})
	t.Log(seen)
}

// I2, I3, I4: what is added to the policies can only move the decision one way.
func TestDecideIsMonotonic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, mode := drawScene(t, false), drawMode(t)
		before := s.decide(t, mode).Decision
		after := *s
		step := oneOf(t, []string{"add deny", "add allow", "add guardrail", "set boundary", "set session"})
		switch step {
		case "add deny":
			after.Identity = append(slices.Clone(s.Identity), drawDocument(t, KindIdentity, "Deny"))
		case "add allow":
			after.Identity = append(slices.Clone(s.Identity), drawDocument(t, KindIdentity, "Allow"))
		case "add guardrail":
			after.Guardrails = append(slices.Clone(s.Guardrails), drawDocument(t, KindGuardrail, "Allow", "Deny"))
		case "set boundary":
			s.Boundary = nil
			before = s.decide(t, mode).Decision
			after.Boundary = drawDocument(t, KindBoundary, "Allow", "Deny")
		case "set session":
			s.Session = nil
			before = s.decide(t, mode).Decision
			after.Session = drawDocument(t, KindSession, "Allow", "Deny")
		}
		got := after.decide(t, mode).Decision
		if wrong := step == "add allow"; got != before && (before == Allow) == wrong {
			t.Fatalf("%s turned %v into %v", step, before, got)
		}
	})
}

// I2: the order of documents and statements decides nothing, with flawed facts or without.
func TestDecideIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, mode := drawScene(t, true), drawMode(t)
		before := s.decide(t, mode)
		s.Identity = rapid.Permutation(s.Identity).Draw(t, "documents")
		for _, d := range append([]doc{s.Boundary, s.Session, s.Resource}, s.Identity...) {
			if d != nil {
				d["Statement"] = rapid.Permutation(d["Statement"].([]any)).Draw(t, "statements")
			}
		}
		if after := s.decide(t, mode); after.Decision != before.Decision || after.Reason != before.Reason {
			t.Fatalf("%v became %v", before, after)
		}
	})
}

// The matcher agrees with regular expressions, also where repeated letters make it look for its place.
func TestMatchAgreesWithRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.SampledFrom([]rune("aabé*?")), 0, 10, -1).Draw(t, "pattern")
		text := rapid.StringOfN(rapid.SampledFrom([]rune("aabé")), 0, 14, -1).Draw(t, "text")
		if got, want := Match(pattern, text), twinGlob(pattern, text); got != want {
			t.Fatalf("Match(%q, %q) = %v", pattern, text, got)
		}
	})
}
