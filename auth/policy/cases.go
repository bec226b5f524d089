package policy

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Report is what came of a file of cases.
type Report struct {
	Passed, Failed int
	Failures       []Failure
}

// A Failure is one case that did not turn out as its author expects.
type Failure struct {
	List     string // the list of the file that holds the case, such as "cases"
	ID       string // the case's id or, without one, its place in the list, such as "#3"
	Title    string
	Expected string
	Got      string
}

func (f Failure) String() string {
	return fmt.Sprintf("%s %s %s: expected %s, got %s", f.List, f.ID, f.Title, f.Expected, f.Got)
}

// The limits of a file of cases.
const (
	maxCaseFile = 16 << 20 // bytes
	perfTries   = 3        // the fastest try counts: the machine may have been busy with other things
)

type caseFile struct {
	Cases             []decisionCase   `json:"cases"`
	ValidationCases   []validationCase `json:"validation_cases"`
	WildcardCases     []wildcardCase   `json:"wildcard_cases"`
	WildcardPerfCases []wildcardCase   `json:"wildcard_perf_cases"`

	// What the file says to people. RunFile does not read it.
	SchemaVersion jsontext.Value `json:"schema_version"`
	LicenceNote   jsontext.Value `json:"licence_note"`
	HowToRead     jsontext.Value `json:"how_to_read"`
	Actions       jsontext.Value `json:"actions"`
	ConditionKeys jsontext.Value `json:"condition_keys"`
	ARNGrammar    jsontext.Value `json:"arn_grammar"`
}

type decisionCase struct {
	ID       string `json:"id"`
	Group    string `json:"group"`
	Title    string `json:"title"`
	Source   string `json:"source"`
	Policies struct {
		Identity    []jsontext.Value `json:"identity"`
		Boundary    jsontext.Value   `json:"boundary"`
		Session     jsontext.Value   `json:"session"`
		Resource    jsontext.Value   `json:"resource"`
		Guardrails  []jsontext.Value `json:"guardrails"`
		AllowPublic bool             `json:"allow_public"`
	} `json:"policies"`
	Request struct {
		Principal struct {
			Type    PrincipalType `json:"type"`
			Tenant  string        `json:"tenant"`
			ARN     string        `json:"arn"`
			RoleARN string        `json:"role_arn"`
		} `json:"principal"`
		Action    string                    `json:"action"`
		Resource  *string                   `json:"resource"`
		Resources []string                  `json:"resources"`
		Context   map[string]jsontext.Value `json:"context"`
	} `json:"request"`
	Expected       string `json:"expected"`
	Reason         Reason `json:"reason"`
	ExpectedStrict string `json:"expected_strict"`
	ReasonStrict   Reason `json:"reason_strict"`
}

type validationCase struct {
	ID     string         `json:"id"`
	Title  string         `json:"title"`
	Source string         `json:"source"`
	Kind   string         `json:"kind"`
	Policy jsontext.Value `json:"policy"`
	Raw    *string        `json:"raw"`
	Accept *bool          `json:"accept"`
	Error  Class          `json:"error"`
}

type wildcardCase struct {
	Name      string  `json:"name"`
	Pattern   *string `json:"pattern"`
	Text      *string `json:"text"`
	Match     *bool   `json:"match"`
	MaxMillis int64   `json:"max_millis"`
}

// RunFile tests policies against a file of cases, and reports each case that does not hold. An error means
// that the file itself is not understood; then no case has been run.
//
// The file is one JSON object with any of these lists:
//
//	cases                decisions: given these policies, this request is allowed or denied
//	validation_cases     documents that may, or may not, be written
//	wildcard_cases       {"pattern": "user:*", "text": "user:4", "match": true}
//	wildcard_perf_cases  the same with "name" and "max_millis", in which the matcher must answer
//
// A decision case, in which only policies, request and expected must stand:
//
//	{"id": "D1", "group": "mine", "title": "web reads sessions", "source": "why it should be so",
//	 "policies": {"identity": [POLICY, …], "boundary": POLICY, "session": POLICY, "resource": POLICY,
//	              "guardrails": [POLICY, …], "allow_public": false},
//	 "request": {"principal": {"type": "key", "tenant": "acme", "arn": "arn:cache:iam::acme:key/web", "role_arn": ""},
//	             "action": "cache:Get", "resource": "arn:cache:cache:eu1:acme:cache/sessions/key/a",
//	             "context": {"cache:SecureTransport": true}},
//	 "expected": "Allow", "reason": "identity_policy",
//	 "expected_strict": "Deny", "reason_strict": "implicit_deny"}
//
// The principal's type is key, session, root or anonymous. Instead of "resource", "resources" lists several
// for one call, which is allowed only if each is. A context key that is not given is missing; values are
// strings, numbers, booleans or lists of strings. A reason is compared where the case gives one. In strict
// mode expected_strict and reason_strict count instead, where the case gives them.
//
// A validation case has "kind" (identity, resource, boundary, session or guardrail), the document as "policy"
// or, when it is not JSON that could stand here, as a string "raw"; "accept"; and, where it is refused,
// optionally the class of "error".
//
// Members that are none of these are errors, as are those of the wrong type, but the file may carry
// schema_version, licence_note, how_to_read, actions, condition_keys and arn_grammar for its readers.
func RunFile(r io.Reader, mode Mode) (Report, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxCaseFile+1))
	if err != nil {
		return Report{}, fmt.Errorf("read the cases: %w", err)
	}
	if len(text) > maxCaseFile {
		return Report{}, fmt.Errorf("the file of cases is larger than %d bytes", maxCaseFile)
	}
	var f caseFile
	if err := json.Unmarshal(text, &f, json.RejectUnknownMembers(true)); err != nil {
		return Report{}, fmt.Errorf("not a file of policy cases: %w", err)
	}
	if err := f.check(); err != nil {
		return Report{}, fmt.Errorf("not a file of policy cases: %w", err)
	}
	var rep Report
	for i, c := range f.Cases {
		expected, got := c.run(mode)
		rep.add("cases", c.ID, i, c.Title, expected, got)
	}
	for i, c := range f.ValidationCases {
		expected, got := c.run()
		rep.add("validation_cases", c.ID, i, c.Title, expected, got)
	}
	for i, c := range f.WildcardCases {
		expected, got := c.run()
		rep.add("wildcard_cases", c.Name, i, fmt.Sprintf("%q on %q", *c.Pattern, *c.Text), expected, got)
	}
	for i, c := range f.WildcardPerfCases {
		expected, got := c.runTimed()
		rep.add("wildcard_perf_cases", c.Name, i, "", expected, got)
	}
	return rep, nil
}

// add counts a case; it failed if got is not what was expected.
func (r *Report) add(list, id string, i int, title, expected, got string) {
	if expected == got {
		r.Passed++
		return
	}
	if id == "" {
		id = fmt.Sprintf("#%d", i)
	}
	r.Failed++
	r.Failures = append(r.Failures, Failure{List: list, ID: id, Title: title, Expected: expected, Got: got})
}

// check refuses a file whose cases are incomplete or contradict themselves.
func (f *caseFile) check() error {
	isDecision := func(s string) bool { return s == Allow.String() || s == Deny.String() }
	isReason := func(r Reason) bool { return r == "" || slices.Contains(reasons, r) }
	for i := range f.Cases {
		c := &f.Cases[i]
		where := fmt.Sprintf("cases[%d] %s", i, c.ID)
		switch {
		case !isDecision(c.Expected):
			return fmt.Errorf("%s: expected must be Allow or Deny, not %q", where, c.Expected)
		case c.ExpectedStrict != "" && !isDecision(c.ExpectedStrict):
			return fmt.Errorf("%s: expected_strict must be Allow or Deny, not %q", where, c.ExpectedStrict)
		case !isReason(c.Reason) || !isReason(c.ReasonStrict):
			return fmt.Errorf("%s: %q is not one of the reasons %v", where, c.Reason+c.ReasonStrict, reasons)
		case (c.Request.Resource == nil) == (len(c.Request.Resources) == 0):
			return fmt.Errorf("%s: give either resource or a list of resources", where)
		case c.Request.Action == "":
			return fmt.Errorf("%s: the request has no action", where)
		}
	}
	for i, c := range f.ValidationCases {
		where := fmt.Sprintf("validation_cases[%d] %s", i, c.ID)
		if _, ok := ParseKind(c.Kind); !ok {
			return fmt.Errorf("%s: kind must be one of %v, not %q", where, kindNames[1:], c.Kind)
		}
		if (c.Policy == nil) == (c.Raw == nil) {
			return fmt.Errorf("%s: give either policy or raw", where)
		}
		if c.Accept == nil || *c.Accept && c.Error != "" {
			return fmt.Errorf("%s: accept must be true, or false with an error class or none", where)
		}
	}
	for i, c := range append(slices.Clone(f.WildcardCases), f.WildcardPerfCases...) {
		if c.Pattern == nil || c.Text == nil || c.Match == nil {
			return fmt.Errorf("wildcard case %d %s: needs pattern, text and match", i, c.Name)
		}
		if timed := i >= len(f.WildcardCases); timed != (c.MaxMillis > 0) {
			return fmt.Errorf("wildcard case %d %s: max_millis, above 0, belongs to wildcard_perf_cases", i, c.Name)
		}
	}
	return nil
}

// facts are the context of a case, by key.
type facts map[keyRef]Value

// Lookup makes facts a Context.
func (f facts) Lookup(key Key, name string) Value { return f[keyRef{key, name}] }

func (c *decisionCase) facts() (facts, error) {
	f := facts{}
	for _, name := range slices.Sorted(maps.Keys(c.Request.Context)) {
		ref, ok := lookupKey(name)
		if !ok {
			return nil, fmt.Errorf("context: %q is not a condition key", name)
		}
		if _, twice := f[ref]; twice {
			return nil, fmt.Errorf("context: %q stands twice; letter case does not count", name)
		}
		raw := c.Request.Context[name]
		if raw.Kind() == '[' {
			list := []string{}
			if err := json.Unmarshal(raw, &list); err != nil {
				return nil, fmt.Errorf("context: %q must be a list of strings", name)
			}
			f[ref] = List(list)
			continue
		}
		texts, ok := jsonScalars(raw)
		if !ok {
			return nil, fmt.Errorf("context: %q must be a string, number, boolean or list of strings", name)
		}
		f[ref] = Text(texts[0])
	}
	return f, nil
}

// run decides the case. The two texts are equal if it holds.
func (c *decisionCase) run(mode Mode) (expected, got string) {
	expected, reason := c.Expected, c.Reason
	if mode == ModeStrict && c.ExpectedStrict != "" {
		expected, reason = c.ExpectedStrict, c.ReasonStrict
	}
	v, err := c.decide(mode)
	if err != nil {
		return expected, "a mistake in the case: " + err.Error()
	}
	got = v.Decision.String()
	if reason == "" {
		return expected, got
	}
	expected += " (" + string(reason) + ")"
	if short := got + " (" + string(v.Reason) + ")"; short == expected {
		return expected, short
	}
	return expected, v.String()
}

// decide runs the case. An error is a mistake in its request, and not a decision.
func (c *decisionCase) decide(mode Mode) (Verdict, error) {
	var p Policies
	for i, raw := range c.Policies.Identity {
		p.Identity = append(p.Identity, Load(fmt.Sprintf("identity[%d]", i), raw, KindIdentity))
	}
	for i, raw := range c.Policies.Guardrails {
		p.Guardrails = append(p.Guardrails, Load(fmt.Sprintf("guardrails[%d]", i), raw, KindGuardrail))
	}
	if raw := c.Policies.Boundary; given(raw) {
		p.Boundary = Load("boundary", raw, KindBoundary)
	}
	if raw := c.Policies.Session; given(raw) {
		p.Session = []*Document{Load("session", raw, KindSession)}
	}
	if raw := c.Policies.Resource; given(raw) {
		p.Resource = Load("resource", raw, KindResource)
	}
	set := Compile(p, mode)

	action, ok := LookupAction(c.Request.Action)
	if !ok {
		return Verdict{}, fmt.Errorf("%q is not an action", c.Request.Action)
	}
	known, err := c.facts()
	if err != nil {
		return Verdict{}, err
	}
	names := c.Request.Resources
	if c.Request.Resource != nil {
		names = []string{*c.Request.Resource}
	}
	req := Request{
		Principal: &Principal{
			Type:    c.Request.Principal.Type,
			Tenant:  c.Request.Principal.Tenant,
			ARN:     c.Request.Principal.ARN,
			RoleARN: c.Request.Principal.RoleARN,
		},
		Action:      action,
		Context:     known,
		AllowPublic: c.Policies.AllowPublic,
	}
	var v Verdict
	for _, name := range names {
		if req.Resource, err = ParseARN(name); err != nil {
			return Verdict{}, fmt.Errorf("resource %q: %w", name, err)
		}
		if v = set.Decide(&req); v.Decision == Deny {
			return v, nil
		}
	}
	return v, nil
}

// given reports whether an optional document is there; null is a way to say that it is not.
func given(raw jsontext.Value) bool { return raw != nil && raw.Kind() != 'n' }

func (c *validationCase) run() (expected, got string) {
	expected, got = "accepted", "accepted"
	if !*c.Accept {
		expected = "refused"
		if c.Error != "" {
			expected += " (" + string(c.Error) + ")"
		}
	}
	text := []byte(c.Policy)
	if c.Raw != nil {
		text = []byte(*c.Raw)
	}
	kind, _ := ParseKind(c.Kind)
	if _, err := Parse(c.ID, text, kind); err != nil {
		refusal := err.(*Error)
		got = "refused"
		if c.Error != "" {
			got += " (" + string(refusal.Class) + ")"
		}
		if got != expected {
			got = "refused: " + err.Error()
		}
	}
	return expected, got
}

func (c *wildcardCase) run() (expected, got string) {
	word := map[bool]string{true: "a match", false: "no match"}
	return word[*c.Match], word[Match(*c.Pattern, *c.Text)]
}

func (c *wildcardCase) runTimed() (expected, got string) {
	limit := time.Duration(c.MaxMillis) * time.Millisecond
	fastest := time.Duration(-1)
	for range perfTries {
		start := time.Now()
		expected, got = c.run()
		if took := time.Since(start); fastest < 0 || took < fastest {
			fastest = took
		}
	}
	if fastest > limit {
		got += fmt.Sprintf(" after %v", fastest)
		expected += fmt.Sprintf(" within %v", limit)
	}
	return expected, got
}
