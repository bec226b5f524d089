package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var web = &Principal{Type: TypeKey, Tenant: "acme", ARN: "arn:cache:iam::acme:key/web"}

// mustParse is Parse for documents that are right.
func mustParse(t testing.TB, name, text string, kind Kind) *Document {
	t.Helper()
	d, err := Parse(name, []byte(text), kind)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d
}

// identity compiles documents of single statements into the set of one principal.
func identity(t testing.TB, mode Mode, texts ...string) *Set {
	t.Helper()
	var p Policies
	for i, text := range texts {
		p.Identity = append(p.Identity, mustParse(t, fmt.Sprintf("p%d", i), text, KindIdentity))
	}
	return Compile(p, mode)
}

func keyRequest(cache, key string) *Request {
	return &Request{Principal: web, Action: CacheGet, Resource: NewItem("eu1", "acme", cache, "key", []byte(key))}
}

// The cases of the specification hold in both modes.
func TestCaseFile(t *testing.T) {
	text, err := os.ReadFile("testdata/policy-cases.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{ModeStrict, ModeAWS} {
		rep, err := RunFile(bytes.NewReader(text), mode)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range rep.Failures {
			t.Errorf("mode %d: %v", mode, f)
		}
		if want := 121 + 38 + 32 + 3; rep.Passed != want {
			t.Errorf("mode %d: %d passed, want %d", mode, rep.Passed, want)
		}
	}
}

// The tables of actions, keys and names are those of the specification.
func TestTables(t *testing.T) {
	text, err := os.ReadFile("testdata/policy-cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Actions       []string
		HowToRead     struct{ Reasons []Reason }  `json:"how_to_read"`
		ConditionKeys map[string]string           `json:"condition_keys"`
		Grammar       struct{ Resource []string } `json:"arn_grammar"`
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(Actions(), spec.Actions) {
		t.Errorf("actions: %v", Actions())
	}
	if !slices.Equal(reasons, spec.HowToRead.Reasons) {
		t.Errorf("reasons: %v", reasons)
	}
	keys := map[string]string{}
	for _, k := range ConditionKeys() {
		keys[k.Name] = k.Type
	}
	if fmt.Sprint(keys) != fmt.Sprint(spec.ConditionKeys) {
		t.Errorf("keys: %v", keys)
	}
	var paths []string
	for _, service := range []string{"cache", "iam", "admin"} {
		paths = append(paths, Shapes()[service]...)
	}
	if !slices.Equal(paths, spec.Grammar.Resource) {
		t.Errorf("paths: %v", paths)
	}
	for a := Action(1); a < actionEnd; a++ {
		if got, ok := LookupAction(strings.ToUpper(a.String())); !ok || got != a || actions[a].class == 0 {
			t.Errorf("%v: looked up %v, class %d", a, got, actions[a].class)
		}
	}
}

// Rules that the case file leaves open, or that are ours.
func TestDecide(t *testing.T) {
	const acme = "arn:cache:cache:*:acme:"
	for _, c := range []struct {
		name    string
		policy  string
		request *Request
		context facts
		want    Decision
		aws     Decision
	}{
		{name: "all in a cache, its keys too", policy: oneStatement("Resource", `"`+acme+`cache/s/*"`),
			request: keyRequest("s", "a/b"), want: Allow, aws: Allow},
		{name: "all in a cache is not the cache", policy: oneStatement("Action", `"*"`, "Resource", `"`+acme+`cache/s/*"`),
			request: &Request{Principal: web, Action: CacheDeleteCache, Resource: NewResource("cache", "eu1", "acme", "cache", "s")}},
		{name: "a name with a star at its end stays in its slot", policy: oneStatement("Resource", `"`+acme+`cache/s*"`),
			request: keyRequest("s1", "a"), want: Deny, aws: Allow},
		{name: "the empty key is a key", policy: oneStatement("Resource", `"`+acme+`cache/s/key/*"`),
			request: keyRequest("s", ""), want: Allow, aws: Allow},
		{name: "bytes that are not text stand as %XX", policy: oneStatement("Resource", `"`+acme+`cache/s/key/a%FF%00?"`),
			request: keyRequest("s", "a\xff%00z"), want: Allow, aws: Allow},
		{name: "? is a character of several bytes", policy: oneStatement("Resource", `"`+acme+`cache/s/key/?"`),
			request: keyRequest("s", "é"), want: Allow, aws: Allow},
		{name: "region is matched", policy: oneStatement("Resource", `"arn:cache:cache:us?:acme:*"`), request: keyRequest("s", "a")},
		{name: "variable between stars", policy: oneStatement("Resource", `"`+acme+`cache/s/key/*:${jwt:sub}:*"`),
			request: keyRequest("s", "x:u4:u42:y"), context: facts{{key: KeyJWTSubject}: Text("u42")}, want: Allow, aws: Allow},
		{name: "default with a brace", policy: oneStatement("Resource", `"`+acme+`cache/s/key/${jwt:sub, 'a}b'}"`),
			request: keyRequest("s", "a}b"), want: Allow, aws: Allow},
		{name: "default is not needed", policy: oneStatement("Resource", `"`+acme+`cache/s/key/${jwt:sub, 'd'}"`),
			request: keyRequest("s", "d"), context: facts{{key: KeyJWTSubject}: Text("u")}},
		{name: "typed fact as a variable", policy: oneStatement("Resource", `"`+acme+`cache/s/key/${cache:SourceIp}/${cache:KeyCount}"`),
			request: keyRequest("s", "10.0.0.1/3"), want: Allow, aws: Allow,
			context: facts{{key: KeySourceIP}: Addr(netip.MustParseAddr("10.0.0.1")), {key: KeyKeyCount}: Number(3)}},
		{name: "typed facts", request: keyRequest("s", "k"), want: Allow, aws: Allow,
			policy: oneStatement("Condition", `{"NumericLessThan":{"cache:TlsVersion":1.35},"Bool":{"cache:SecureTransport":"true"},
				"DateGreaterThan":{"cache:CurrentTime":"2026-01-01"},"IpAddress":{"cache:SourceIp":"10.0.0.0/8"}}`, "Resource", `"*"`),
			context: facts{
				{key: KeyTLSVersion}:      Number(1.3),
				{key: KeySecureTransport}: Bool(true),
				{key: KeyCurrentTime}:     Date(time.Date(2026, 1, 1, 0, 0, 0, 1, time.UTC)),
				{key: KeySourceIP}:        Addr(netip.MustParseAddr("::ffff:10.1.2.3")),
			}},
		{name: "ignoring case over a variable", policy: oneStatement("Resource", `"*"`, "Condition",
			`{"StringEqualsIgnoreCase":{"cache:username":"x-${jwt:sub}"}}`), request: keyRequest("s", "k"), want: Allow, aws: Allow,
			context: facts{{key: KeyUsername}: Text("X-ÉVA"), {key: KeyJWTSubject}: Text("Éva")}},
		{name: "binary", policy: oneStatement("Resource", `"*"`, "Condition", `{"BinaryEquals":{"cache:username":"YQ=="}}`),
			request: keyRequest("s", "k"), context: facts{{key: KeyUsername}: Text("YQ==")}, want: Allow, aws: Allow},
		{name: "boolean from a variable", policy: oneStatement("Resource", `"*"`, "Condition",
			`{"Bool":{"cache:SecureTransport":"${cache:PrincipalTag/tls}"}}`), request: keyRequest("s", "k"), want: Allow, aws: Allow,
			context: facts{{key: KeySecureTransport}: Bool(false), {KeyPrincipalTag, "tls"}: Text("false")}},
		{name: "an empty list is null", policy: oneStatement("Resource", `"*"`, "Condition",
			`{"ForAllValues:StringEquals":{"jwt:scope":"a"},"Null":{"jwt:scope":"false"}}`), request: keyRequest("s", "k"),
			context: facts{{key: KeyJWTScope}: List(nil)}},
		{name: "one value of a list given as text", policy: oneStatement("Resource", `"*"`, "Condition",
			`{"ForAnyValue:StringEquals":{"jwt:aud":"a"}}`), request: keyRequest("s", "k"), want: Allow, aws: Allow,
			context: facts{{key: KeyJWTAudience}: Text("a")}},
		{name: "an operator action outside the system tenant", policy: oneStatement("Action", `"*"`, "Resource", `"*"`),
			request: &Request{Principal: web, Action: AdminDrainNode, Resource: NewResource("admin", "", "acme", "node", "n1")}},
		{name: "the root has no power elsewhere", policy: oneStatement("Action", `"iam:*"`),
			request: &Request{Principal: &Principal{Type: TypeRoot, Tenant: "globex", ARN: "arn:cache:iam::globex:root"},
				Action: CacheGet, Resource: keyRequest("s", "k").Resource}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.request.Context = c.context
			for mode, want := range map[Mode]Decision{ModeStrict: c.want, ModeAWS: c.aws} {
				if got := identity(t, mode, c.policy).Decide(c.request); got.Decision != want {
					t.Errorf("mode %d: got %v, want %v", mode, got, want)
				}
			}
		})
	}
}

// I11: a fact of the wrong type denies, even where another statement allows and where a short cut beckons.
func TestDecideErrors(t *testing.T) {
	all := oneStatement("Action", `"*"`, "Resource", `"*"`)
	for name, c := range map[string]struct {
		condition string
		fact      facts
	}{
		"number":   {`{"NumericGreaterThan":{"cache:ValueSize":"5"}}`, facts{{key: KeyValueSize}: Text("many")}},
		"infinite": {`{"NumericGreaterThan":{"cache:ValueSize":"5"}}`, facts{{key: KeyValueSize}: Number(1e300)}},
		"date":     {`{"DateLessThan":{"cache:CurrentTime":"2026-01-01"}}`, facts{{key: KeyCurrentTime}: Text("now")}},
		"address":  {`{"NotIpAddress":{"cache:SourceIp":"10.0.0.0/8"}}`, facts{{key: KeySourceIP}: Addr(netip.Addr{})}},
		"boolean":  {`{"Bool":{"cache:SecureTransport":"false"}}`, facts{{key: KeySecureTransport}: Text("no")}},
		"name":     {`{"ArnNotLike":{"cache:SourceArn":"arn:cache:*:*:*:*"}}`, facts{{key: KeySourceARN}: Text("arn")}},
		"base64":   {`{"BinaryEquals":{"cache:username":"YQ=="}}`, facts{{key: KeyUsername}: Text("!")}},
		"list":     {`{"StringEquals":{"cache:username":"a"}}`, facts{{key: KeyUsername}: List([]string{"a"})}},
		"behind a condition that is false": {
			`{"Bool":{"cache:SecureTransport":"false"},"NumericEquals":{"cache:ValueSize":"1"}}`,
			facts{{key: KeySecureTransport}: Bool(true), {key: KeyValueSize}: Text("x")}},
	} {
		for _, effect := range []string{`"Allow"`, `"Deny"`} {
			flawed := oneStatement("Effect", effect, "Resource", `"*"`, "Condition", c.condition)
			req := keyRequest("s", "k")
			req.Context = c.fact
			for _, set := range []*Set{identity(t, ModeStrict, all, flawed), identity(t, ModeAWS, flawed, all)} {
				if v := set.Decide(req); v.Decision != Deny || v.Reason != ReasonError || v.Err == nil {
					t.Errorf("%s, %s: got %v", name, effect, v)
				}
			}
		}
	}
	// A pattern and a key that are made to take long.
	hard := `"arn:cache:cache:*:acme:cache/s/key/*` + strings.Repeat("a?", 400) + `b*"`
	for _, set := range []*Set{
		identity(t, ModeStrict, all, oneStatement("Effect", `"Deny"`, "Resource", hard)),
		identity(t, ModeStrict, all, oneStatement("Resource", hard)),
		identity(t, ModeStrict, oneStatement("Resource", hard), all),
		identity(t, ModeAWS, all, oneStatement("Resource", `"*"`, "Condition", `{"StringLike":{"jwt:sub":"*`+strings.Repeat("a?", 400)+`b*"}}`)),
	} {
		req := keyRequest("s", strings.Repeat("a", 32<<10))
		req.Context = facts{{key: KeyJWTSubject}: Text(strings.Repeat("a", 32<<10))}
		if v := set.Decide(req); v.Decision != Deny || v.Reason != ReasonError {
			t.Errorf("hard pattern: got %v", v)
		}
	}
	// What gateways never send.
	for name, req := range map[string]*Request{
		"nobody":          {Action: CacheGet, Resource: keyRequest("s", "k").Resource},
		"no tenant":       {Principal: &Principal{Type: TypeRoot, ARN: "r"}, Action: CacheGet, Resource: NewResource("cache", "", "", "cache", "s")},
		"no action":       {Principal: web, Resource: keyRequest("s", "k").Resource},
		"a future action": {Principal: web, Action: actionEnd, Resource: keyRequest("s", "k").Resource},
		"no resource":     {Principal: web, Action: CacheGet},
		"too many slots":  {Principal: web, Action: CacheGet, Resource: NewResource("cache", "", "acme", "cache", "s", "key", "a", "b")},
	} {
		if v := identity(t, ModeStrict, all).Decide(req); v.Decision != Deny || v.Reason != ReasonError || v.Err == nil {
			t.Errorf("%s: got %v", name, v)
		}
	}
}

// I32: a stored document that no longer validates denies everything that the set is asked, and says why.
func TestStoredInvalidPolicy(t *testing.T) {
	all := mustParse(t, "all", oneStatement("Action", `"*"`, "Resource", `"*"`), KindIdentity)
	broken := Load("old", []byte(strings.Replace(oneStatement(), "cache:Get", "cache:Got", 1)), KindIdentity)
	for name, p := range map[string]Policies{
		"identity":      {Identity: []*Document{all, broken}},
		"guardrail":     {Identity: []*Document{all}, Guardrails: []*Document{broken}},
		"boundary":      {Identity: []*Document{all}, Boundary: broken},
		"session":       {Identity: []*Document{all}, Session: []*Document{broken}},
		"resource":      {Identity: []*Document{all}, Resource: broken},
		"wrong kind":    {Identity: []*Document{all}, Boundary: all},
		"too many":      {Identity: []*Document{all}, Guardrails: slices.Repeat([]*Document{mustParse(t, "g", oneStatement(), KindGuardrail)}, 63)},
		"alone, a Deny": {Identity: []*Document{Load("d", []byte(`{"Statement":[{"Effect":"deny","Action":"*","Resource":"*"}]}`), KindIdentity)}},
	} {
		set := Compile(p, ModeStrict)
		root := &Principal{Type: TypeRoot, Tenant: "acme", ARN: "arn:cache:iam::acme:root"}
		for _, who := range []*Principal{web, root} {
			req := keyRequest("s", "k")
			req.Principal = who
			if v := set.Decide(req); v.Decision != Deny || v.Reason != ReasonError || v.Err == nil || set.Err() == nil {
				t.Errorf("%s: got %v, %v", name, v, set.Err())
			}
		}
	}
	if err := Compile(Policies{Identity: []*Document{broken}}, ModeStrict).Err(); !strings.Contains(err.Error(), `"old"`) {
		t.Error("the alert must name the policy: ", err)
	}
	// What only a writer can act on may still be loaded.
	unguarded := oneStatement("Condition", `{"ForAllValues:StringEquals":{"jwt:scope":"a"}}`)
	if err := Load("u", []byte(unguarded), KindIdentity).Err(); err != nil {
		t.Error(err)
	}
}

// I42: each verdict names the statement that settled it, or the document for want of whose Allow it is a no.
func TestExplain(t *testing.T) {
	read := mustParse(t, "read", oneStatement("Sid", `"Reads"`, "Resource", `"*"`), KindIdentity)
	fence := mustParse(t, "fence", `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
		{"Sid":"NoSecrets","Effect":"Deny","Action":"*","Resource":"arn:cache:cache:*:*:cache/secrets/*"}]}`, KindIdentity)
	narrow := mustParse(t, "narrow", oneStatement("Action", `"cache:Set"`, "Resource", `"*"`), KindSession)
	for _, c := range []struct {
		policies Policies
		cache    string
		want     string
	}{
		{Policies{Identity: []*Document{read}}, "s", `Allow (identity_policy) by statement 0 "Reads" of policy "read"`},
		{Policies{Identity: []*Document{fence, read}}, "secrets", `Deny (explicit_deny) by statement 1 "NoSecrets" of policy "fence"`},
		{Policies{Identity: []*Document{read}, Session: []*Document{narrow}}, "s", `Deny (implicit_deny_session) for want of an Allow in policy "narrow"`},
		{Policies{}, "s", `Deny (implicit_deny)`},
	} {
		if got := Compile(c.policies, ModeStrict).Decide(keyRequest(c.cache, "k")).String(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// readyMade finds a role by its name.
func readyMade(t testing.TB, name string) Role {
	t.Helper()
	i := slices.IndexFunc(roles, func(r Role) bool { return r.Name == name })
	if i < 0 {
		t.Fatal("no role ", name)
	}
	return roles[i]
}

// The ready-made roles are good documents, open what they say, and nothing of another tenant.
func TestRoles(t *testing.T) {
	may := map[string]func(Action) bool{
		RoleOwner: func(a Action) bool { return actions[a].class != operates },
		RoleReadWrite: func(a Action) bool {
			return actions[a].class <= writes || a == CacheListCaches || a == CacheDescribeCache
		},
		RoleReadOnly: func(a Action) bool {
			return actions[a].class == reads || a == CacheListCaches || a == CacheDescribeCache
		},
		RoleMetrics: func(a Action) bool {
			return a == MetricsRead || a == QuotaGet || a == CacheListCaches || a == CacheDescribeCache
		},
	}
	if len(Roles()) != len(may) {
		t.Errorf("%d roles", len(Roles()))
	}
	for name, wants := range may {
		role := readyMade(t, name)
		set := Compile(Policies{Identity: []*Document{mustParse(t, name, string(role.Policy), KindIdentity)}}, ModeStrict)
		for a := Action(1); a < actionEnd; a++ {
			own, foreign := keyRequest("s", "k"), keyRequest("s", "k")
			own.Action, foreign.Action = a, a
			foreign.Resource.tenant = "globex"
			if got := set.Decide(own); (got.Decision == Allow) != wants(a) {
				t.Errorf("%s: %v: %v", name, a, got)
			}
			if got := set.Decide(foreign); got.Decision == Allow {
				t.Errorf("%s in another tenant: %v: %v", name, a, got)
			}
		}
	}
}

func TestParseARN(t *testing.T) {
	for name, want := range map[string]int{
		"arn:cache:cache:eu1:acme:cache/a":          2,
		"arn:cache:cache:eu1:acme:cache/a/key/":     4,
		"arn:cache:cache::acme:cache/a/key/b/c:d/e": 4,
		"arn:cache:cache:eu1:acme:snapshot/a/1/2":   3,
		"arn:cache:iam::acme:root":                  1,
		"arn:cache:iam::acme:key/a/b":               2,
		"arn:cache:admin::system:node/n1":           2,
		"arn:cache:cache:eu1:acme:":                 0,
		"arn:cache:cache:eu1::cache/a":              0,
		"arn:cache::eu1:acme:cache/a":               0,
		"arn:aws:cache:eu1:acme:cache/a":            0,
		"arn:cache:cache:eu1:acme":                  0,
		"":                                          0,
	} {
		r, err := ParseARN(name)
		if r.n != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d slots, %v", name, r.n, err)
		} else if err == nil && r.String() != name {
			t.Errorf("%q came back as %q", name, r.String())
		}
	}
}

func TestParseDate(t *testing.T) {
	at := func(s string) instant {
		t.Helper()
		i, err := parseDate(s)
		if err != nil {
			t.Fatal(s, err)
		}
		return i
	}
	for _, s := range []string{"1767225600", "2026-01-01", "2026-01", "2026-01-01T00:00Z", "2026-01-01T00:00:00.000Z", "2026-01-01T05:30:00+05:30"} {
		if at(s) != at("2026-01-01T00:00:00Z") {
			t.Errorf("%s is %v", s, at(s))
		}
	}
	if at("-0.5") != (instant{-1, 5e8}) || at("0.25") != (instant{0, 25e7}) {
		t.Error(at("-0.5"), at("0.25"))
	}
	if at("2026-01-01T00:00:00.5Z").compare(at("1767225600")) != 1 || at("1969-12-31").compare(at("0")) != -1 {
		t.Error("order")
	}
	for _, s := range []string{"", "-", "2026-13", "2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "1e9", "20260101T000000Z", "9007199254740992"} {
		if i, err := parseDate(s); err == nil {
			t.Errorf("%q was read as %v", s, i)
		}
	}
}

// A file of cases that is wrong is an error, and not a report; a case that is wrong is a failure.
func TestRunFile(t *testing.T) {
	decision := func(request, rest string) string {
		return `{"cases":[{"id":"D1","policies":{"identity":[` + oneStatement() + `],"boundary":null},"request":{"principal":` +
			`{"type":"key","tenant":"acme","arn":"arn:cache:iam::acme:key/web"},` + request + `},` + rest + `}]}`
	}
	const get = `"action":"cache:Get","resource":"arn:cache:cache:eu1:acme:cache/sessions/key/k"`
	for _, c := range []struct {
		name, file   string
		passed, fail int
		err          string
	}{
		{name: "nothing", file: `{}`},
		{name: "a decision", file: decision(get, `"expected":"Allow"`), passed: 1},
		{name: "another reason", file: decision(get, `"expected":"Allow","reason":"root"`), fail: 1},
		{name: "another decision", file: decision(get, `"expected":"Deny"`), fail: 1},
		{name: "strict differs", file: decision(get, `"expected":"Deny","reason":"error","expected_strict":"Allow"`), passed: 1},
		{name: "misspelt action", file: decision(`"action":"cache:Gte","resource":"arn:cache:cache:eu1:acme:cache/s"`, `"expected":"Deny"`), fail: 1},
		{name: "misspelt key", file: decision(get+`,"context":{"cache:Protocl":"x"}`, `"expected":"Allow"`), fail: 1},
		{name: "misspelt resource", file: decision(`"action":"cache:Get","resource":"cache/s"`, `"expected":"Deny"`), fail: 1},
		{name: "key twice", file: decision(get+`,"context":{"cache:Protocol":"x","CACHE:Protocol":"y"}`, `"expected":"Allow"`), fail: 1},
		{name: "a list of numbers", file: decision(get+`,"context":{"jwt:scope":[1]}`, `"expected":"Allow"`), fail: 1},
		{name: "wildcards", file: `{"wildcard_cases":[{"pattern":"a*","text":"ab","match":true},{"pattern":"a","text":"ab","match":true}]}`, passed: 1, fail: 1},
		{name: "timed", file: `{"wildcard_perf_cases":[{"name":"x","pattern":"*","text":"","match":true,"max_millis":5000}]}`, passed: 1},
		{name: "a document", file: `{"validation_cases":[{"kind":"identity","raw":"{}","accept":false,"error":"statement"}]}`, passed: 1},
		{name: "a document, any error", file: `{"validation_cases":[{"kind":"identity","policy":{},"accept":false}]}`, passed: 1},
		{name: "a document, another error", file: `{"validation_cases":[{"kind":"identity","policy":{},"accept":false,"error":"sid"}]}`, fail: 1},
		{name: "a document that is refused", file: `{"validation_cases":[{"kind":"identity","policy":{},"accept":true}]}`, fail: 1},

		{name: "not JSON", file: `cases:`, err: "not a file of policy cases"},
		{name: "two files", file: `{}{}`, err: "not a file of policy cases"},
		{name: "unknown list", file: `{"case":[]}`, err: `"case"`},
		{name: "unknown member", file: decision(get+`,"contxt":{}`, `"expected":"Allow"`), err: "contxt"},
		{name: "no expectation", file: decision(get, `"title":"t"`), err: "cases[0] D1: expected must be Allow or Deny"},
		{name: "unknown reason", file: decision(get, `"expected":"Deny","reason":"bad luck"`), err: "bad luck"},
		{name: "no resource", file: decision(`"action":"cache:Get"`, `"expected":"Deny"`), err: "resource"},
		{name: "no action", file: decision(`"resource":"x"`, `"expected":"Deny"`), err: "no action"},
		{name: "unknown kind", file: `{"validation_cases":[{"kind":"user","policy":{},"accept":true}]}`, err: "identity"},
		{name: "policy and raw", file: `{"validation_cases":[{"kind":"identity","policy":{},"raw":"","accept":true}]}`, err: "either policy or raw"},
		{name: "accepted with an error", file: `{"validation_cases":[{"kind":"identity","policy":{},"accept":true,"error":"sid"}]}`, err: "accept"},
		{name: "no match", file: `{"wildcard_cases":[{"pattern":"a","text":"a"}]}`, err: "needs pattern, text and match"},
		{name: "no time", file: `{"wildcard_perf_cases":[{"pattern":"a","text":"a","match":true}]}`, err: "max_millis"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rep, err := RunFile(strings.NewReader(c.file), ModeStrict)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want an error with %q", err, c.err)
				}
				return
			}
			if err != nil || rep.Passed != c.passed || rep.Failed != c.fail || len(rep.Failures) != c.fail {
				t.Fatalf("%+v, %v", rep, err)
			}
			for _, f := range rep.Failures {
				t.Log(f)
			}
		})
	}
}

// A gateway's context: a switch over facts at hand.
type gatewayFacts struct{ now time.Time }

func (g *gatewayFacts) Lookup(key Key, name string) Value {
	switch key {
	case KeySourceIP:
		return Addr(netip.AddrFrom4([4]byte{10, 1, 2, 3}))
	case KeySecureTransport:
		return Bool(true)
	case KeyCurrentTime:
		return Date(g.now)
	case KeyJWTSubject:
		return Text("u42")
	case KeyPrincipalTag:
		if name == "team" {
			return Text("blue")
		}
	}
	return Value{}
}

// hitPath is a request that the last of n statements allows, most of them with patterns, some with conditions.
func hitPath(t testing.TB, n int) (*Set, *Request) {
	texts := []string{oneStatement("Effect", `"Deny"`, "Action", `"*"`, "Resource", `"*"`, "Condition", `{"Bool":{"cache:SecureTransport":"false"}}`)}
	for i := len(texts); i < n; i++ {
		text := oneStatement("Action", `["cache:Get","cache:Set"]`, "Resource",
			fmt.Sprintf(`["arn:cache:cache:*:acme:cache/s%d/key/*:${jwt:sub}:*","arn:cache:cache:*:acme:cache/sessions/key/v%d:*"]`, i, i))
		if i%4 == 1 {
			text = oneStatement("Resource", `"arn:cache:cache:*:acme:cache/sess*/key/*:x"`, "Condition",
				`{"IpAddress":{"cache:SourceIp":["192.168.0.0/16","172.16.0.0/12"]},"StringLike":{"cache:PrincipalTag/team":"r*d"}}`)
		}
		if i == n-1 {
			text = oneStatement("Resource", `"arn:cache:cache:*:acme:cache/sess*/key/u:${jwt:sub}:*"`, "Condition",
				`{"DateLessThan":{"cache:CurrentTime":"2999-01-01"}}`)
		}
		texts = append(texts, text)
	}
	req := keyRequest("sessions", "u:u42:cart")
	req.Context = &gatewayFacts{now: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}
	return identity(t, ModeStrict, texts...), req
}

func TestDecideDoesNotAllocate(t *testing.T) {
	set, req := hitPath(t, 20)
	names := [][]byte{[]byte("u:u42:a"), []byte("u:u42:\xff\xfe")}
	binary := keyRequest("sessions", "u:u42:\xff")
	binary.Context = req.Context
	missed := keyRequest("other", "k")
	missed.Context = req.Context
	for name, c := range map[string]struct {
		run  func() Decision
		want Decision
	}{
		"allowed":    {func() Decision { return set.Decide(req).Decision }, Allow},
		"denied":     {func() Decision { return set.Decide(missed).Decision }, Deny},
		"binary key": {func() Decision { return set.Decide(binary).Decision }, Allow},
		"resource made": {func() Decision {
			req.Resource = NewItem("eu1", "acme", "sessions", "key", names[0])
			return set.Decide(req).Decision
		}, Allow},
	} {
		if got := c.run(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if n := testing.AllocsPerRun(100, func() { c.run() }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// FuzzDecide: whatever the fact, there is a verdict; an error is a Deny, and a Deny on it stays one.
func FuzzDecide(f *testing.F) {
	f.Add(`{"NumericLessThan":{"cache:ValueSize":"5"}}`, `"arn:cache:cache:*:acme:cache/s/key/*"`, []byte("k"), "12")
	f.Add(`{"ForAnyValue:StringNotLike":{"jwt:groups":["a*"]}}`, `"arn:cache:cache:*:*:*/${cache:username, 'x'}"`, []byte("\xff"), "a,b")
	f.Add(`{"IpAddress":{"cache:SourceIp":"::/0"},"DateEquals":{"cache:CurrentTime":"2026"}}`, `"*"`, []byte(""), "::1")
	f.Add(`{"ArnLike":{"cache:SourceArn":"arn:cache:*:*:*:${jwt:sub}"}}`, `["*"]`, []byte("a/b"), "arn:cache:a:b:c:d")
	f.Fuzz(func(t *testing.T, condition, resource string, key []byte, fact string) {
		for _, effect := range []string{`"Allow"`, `"Deny"`} {
			d := Load("p", []byte(oneStatement("Effect", effect, "Action", `"*"`, "Resource", resource, "Condition", condition)), KindIdentity)
			all := mustParse(t, "all", oneStatement("Action", `"*"`, "Resource", `"*"`), KindIdentity)
			for _, mode := range []Mode{ModeStrict, ModeAWS} {
				set := Compile(Policies{Identity: []*Document{d, all}}, mode)
				req := &Request{Principal: web, Action: CacheSet, Resource: NewItem("eu1", "acme", "s", "key", key)}
				req.Context = everything{fact}
				v := set.Decide(req)
				if (v.Reason == ReasonError) != (v.Err != nil) || v.Err != nil && v.Decision != Deny || d.Err() != nil && v.Err == nil {
					t.Fatal(v)
				}
				if again := set.Decide(req); again.Decision != v.Decision || again.Reason != v.Reason {
					t.Fatalf("%v, then %v", v, again)
				}
			}
		}
	})
}

// everything answers each key with the same fact: as a list, where the key may have several values.
type everything struct{ fact string }

func (e everything) Lookup(key Key, _ string) Value {
	if keyTable[key].list {
		return List(strings.Split(e.fact, ","))
	}
	return Text(e.fact)
}

// FuzzGlob compares the matcher with a table that is filled cell by cell.
func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("*a*a*a", "aaaa")
	f.Add("?é*", "xéy")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern)*len(text) > 1<<16 {
			return
		}
		pattern, text = strings.ToValidUTF8(pattern, "?"), strings.ToValidUTF8(text, "�")
		if got, want := Match(pattern, text), tableMatch([]rune(pattern), []rune(text)); got != want {
			t.Fatalf("Match(%q, %q) = %v", pattern, text, got)
		}
	})
}

// tableMatch says in reach[j] whether the pattern so far covers the first j characters of text.
func tableMatch(pattern, text []rune) bool {
	reach := make([]bool, len(text)+1)
	reach[0] = true
	for _, p := range pattern {
		next := make([]bool, len(text)+1)
		for j := range next {
			switch {
			case p == '*':
				next[j] = reach[j] || j > 0 && next[j-1]
			case j > 0:
				next[j] = reach[j-1] && (p == '?' || p == text[j-1])
			}
		}
		reach = next
	}
	return reach[len(text)]
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{5, 100} {
		b.Run(fmt.Sprintf("statements=%d", n), func(b *testing.B) {
			set, req := hitPath(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if v := set.Decide(req); v.Decision != Allow {
					b.Fatal(v)
				}
			}
		})
	}
	b.Run("read-write", func(b *testing.B) {
		role := readyMade(b, RoleReadWrite)
		set := identity(b, ModeStrict, string(role.Policy))
		req := keyRequest("sessions", "user:42")
		b.ReportAllocs()
		for b.Loop() {
			if v := set.Decide(req); v.Decision != Allow {
				b.Fatal(v)
			}
		}
	})
}

// BenchmarkGlobWorst is what hurts this matcher most: each star makes it look for a long run that nearly
// fits everywhere.
func BenchmarkGlobWorst(b *testing.B) {
	for name, pattern := range map[string]string{
		"stars":     strings.Repeat("*a", 30) + "b*",
		"questions": strings.Repeat("*?", 64) + "z*",
		"long run":  "*" + strings.Repeat("a?", 1000) + "b*",
	} {
		b.Run(name, func(b *testing.B) {
			text := strings.Repeat("a", 8192)
			g := literalGlob(pattern)
			b.ReportAllocs()
			for b.Loop() {
				if g.match(nil, text) {
					b.Fatal("matched")
				}
			}
		})
	}
}
