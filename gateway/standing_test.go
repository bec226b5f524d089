package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

// stay makes s a connection: what its requests find out is kept for those that follow.
func (s someone) stay() *someone {
	s.Stays = true
	return &s
}

// next is the next request of a connection, which begins like each by asking whether the login still stands. It returns the
// answer to one command in short, and how the connection ends when it does.
func (s *someone) next(t testing.TB, cache, command string) string {
	t.Helper()
	now, err := s.identify.Recheck(s.Principal, auth.UseData, s.Source)
	if err != nil {
		return "ended: " + fault.From(err).Kind.String()
	}
	s.Principal = now
	r, reply := s.request(cache, command)
	if err := s.Do(t.Context(), r); err != nil {
		return fault.From(err).Kind.String()
	}
	return answers(reply)[0]
}

// remembers reports whether a connection knows by heart that it may use a command.
func (s *someone) remembers(command string) bool {
	n := engine.MustLookup(command).Number()
	return s.standing != nil && s.standing.always[n/64]&(1<<(n%64)) != 0
}

// plainCommands are those that a request may consist of with nobody waiting for it.
func plainCommands() (list []*engine.Command) {
	for _, c := range engine.Commands() {
		if c.Flags&(engine.Session|engine.Connection|engine.Blocks) == 0 && c.Group != engine.GroupScripting {
			list = append(list, c)
		}
	}
	return list
}

// drawStatements draws what a policy says. What covers everything without a condition is common, since only of that a
// connection knows anything by heart.
func drawStatements(t *rapid.T, tenant string) string {
	statement := rapid.Custom(func(t *rapid.T) string {
		s := map[string]any{
			"Effect":   rapid.SampledFrom([]string{"Allow", "Allow", "Allow", "Deny"}).Draw(t, "effect"),
			"Action":   rapid.SampledFrom([]string{"*", "*", "cache:*", "cache:Get", "cache:S*", "leaderboard:*", "cache:Delete", "cache:HashRead"}).Draw(t, "action"),
			"Resource": "arn:cache:cache:*:" + tenant + ":" + rapid.SampledFrom([]string{"*", "*", "cache/main/*", "cache/*/key/*", "cache/main/key/a*", "cache/other/*", "cache/main/leaderboard/*", "cache/main/key/?"}).Draw(t, "resource"),
		}
		if condition := rapid.SampledFrom([]string{"", "", "", `{"NumericLessThan":{"cache:KeyCount":"2"}}`, `{"StringEquals":{"cache:Protocol":"http"}}`, `{"StringLike":{"cache:Command":"*GET*"}}`}).Draw(t, "condition"); condition != "" {
			s["Condition"] = json.RawMessage(condition)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	})
	return strings.Join(rapid.SliceOfN(statement, 1, 3).Draw(t, "statements"), ",")
}

// A connection that remembers gets the verdicts of one that asks anew each time, for any command on any keys, and with
// rights that change under way.
func TestRememberingChangesNoVerdict(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	owner.cache(t, tenants.Cache{Name: "other"})
	who := owner.withStatements(t, `{"Effect":"Allow","Action":"*","Resource":"*"}`).stay()
	written := who.Principal.Role // and the policy has the same name
	commands, words := plainCommands(), []string{"a", "b", "ab", "aa", "0", "1", "2", "-1", ""}
	byHeart, refused, allowed := 0, 0, 0
	rapid.Check(t, func(r *rapid.T) {
		document := `{"Version":"2012-10-17","Statement":[` + drawStatements(r, owner.tenant) + `]}`
		if _, _, err := owner.credentials.PutPolicy(t.Context(), owner.tenant, written, []byte(document)); err != nil {
			r.Fatal(err)
		}
		for range rapid.IntRange(1, 20).Draw(r, "requests") {
			c := rapid.SampledFrom(commands).Draw(r, "command")
			args := [][]byte{[]byte(c.Name)}
			n := max(c.Arity, -c.Arity)
			if c.Arity < 0 {
				n += rapid.IntRange(0, 3).Draw(r, "more")
			}
			for len(args) < n {
				args = append(args, []byte(rapid.SampledFrom(words).Draw(r, "argument")))
			}
			cache := rapid.SampledFrom([]string{"main", "main", "other"}).Draw(r, "cache")
			now, err := who.identify.Recheck(who.Principal, auth.UseData, who.Source)
			if err != nil {
				r.Fatal(err)
			}
			who.Principal = now
			forgetful := Caller{Principal: now, Source: who.Source, Protocol: who.Protocol}
			for round := range 2 { // the second finds what the first remembers
				reply := &engine.Recording{}
				err := who.Do(t.Context(), &Request{Caller: &who.Caller, Cache: cache, Calls: []engine.Call{{Command: c, Args: args}}, Reply: reply})
				if err != nil {
					r.Fatalf("%q: %v", args, err)
				}
				got := answers(reply)[0] == fault.Denied.String()
				want := fault.Is(who.Refusal(&forgetful, cache, engine.Call{Command: c, Args: args}), fault.Denied)
				if got != want {
					r.Fatalf("round %d: %q on %s refused: %v, to who asks anew: %v; policy %s", round, args, cache, got, want, document)
				}
				switch {
				case got:
					refused++
				case who.remembers(c.Name):
					byHeart++
				default:
					allowed++
				}
			}
		}
	})
	if byHeart == 0 || refused == 0 || allowed == 0 {
		t.Errorf("%d verdicts were known by heart, %d were refusals, and %d others allowed: each has to occur", byHeart, refused, allowed)
	}
}

// Each kind of change holds from the very next request on, of a connection that had everything by heart.
func TestChangesReachWhoRemembers(t *testing.T) {
	all := `{"Effect":"Allow","Action":"*","Resource":"*"}`
	put := func(t *testing.T, owner someone, name, statements string) {
		t.Helper()
		if _, _, err := owner.credentials.PutPolicy(t.Context(), owner.tenant, name, []byte(`{"Version":"2012-10-17","Statement":[`+statements+`]}`)); err != nil {
			t.Fatal(err)
		}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		who    func(*testing.T, someone) someone // nil for a key that may do all
		change func(*testing.T, someone, *someone)
		want   string // what GET k answers then
	}{
		{name: "nothing", change: func(*testing.T, someone, *someone) {}, want: "v"},
		{name: "the role gets another policy", change: func(t *testing.T, owner someone, who *someone) {
			put(t, owner, "other", `{"Effect":"Allow","Action":"cache:Set","Resource":"*"}`)
			_, err := owner.credentials.UpdateRole(t.Context(), owner.tenant, who.Principal.Role, auth.RoleUpdate{Policies: &[]string{"other"}})
			must(t, err)
		}, want: "denied"},
		{name: "the policy is edited", change: func(t *testing.T, owner someone, who *someone) {
			put(t, owner, who.Principal.Role, all+`,{"Effect":"Deny","Action":"*","Resource":"arn:cache:cache:*:`+owner.tenant+`:cache/main/key/k"}`)
		}, want: "denied"},
		{name: "the policy gets a condition", change: func(t *testing.T, owner someone, who *someone) {
			put(t, owner, who.Principal.Role, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"cache:Protocol":"http"}}}`)
		}, want: "denied"},
		{name: "the key gets another role", change: func(t *testing.T, owner someone, who *someone) {
			role := policy.RoleMetrics
			_, err := owner.credentials.UpdateKey(t.Context(), owner.tenant, who.Principal.ID, auth.KeyUpdate{Role: &role})
			must(t, err)
		}, want: "denied"},
		{name: "a boundary", change: func(t *testing.T, owner someone, who *someone) {
			put(t, owner, "bound", `{"Effect":"Allow","Action":"cache:Set","Resource":"*"}`)
			bound := "bound"
			_, err := owner.credentials.UpdateRole(t.Context(), owner.tenant, who.Principal.Role, auth.RoleUpdate{Boundary: &bound})
			must(t, err)
		}, want: "denied"},
		{name: "the key is revoked", change: func(t *testing.T, owner someone, who *someone) {
			must(t, owner.credentials.RevokeKey(t.Context(), owner.tenant, who.Principal.ID))
		}, want: "ended: unauthenticated"},
		{name: "the key expires", who: func(t *testing.T, owner someone) someone {
			_, text, err := owner.credentials.CreateKey(t.Context(), owner.tenant, auth.KeySpec{Name: "k", Role: policy.RoleOwner, ExpiresAt: time.UnixMilli(owner.Now()).Add(time.Hour)})
			must(t, err)
			return owner.with(t, text)
		}, change: func(_ *testing.T, owner someone, _ *someone) { owner.now.Add(time.Hour.Milliseconds()) }, want: "ended: unauthenticated"},
		{name: "the token expires", who: func(t *testing.T, owner someone) someone {
			_, text, err := owner.credentials.Mint(t.Context(), owner.withRole(t, policy.RoleOwner).Principal, auth.TokenSpec{TTL: time.Hour})
			must(t, err)
			return owner.with(t, text)
		}, change: func(_ *testing.T, owner someone, _ *someone) { owner.now.Add((time.Hour + time.Minute).Milliseconds()) }, want: "ended: unauthenticated"},
		{name: "the token's maker is revoked", who: func(t *testing.T, owner someone) someone {
			maker := owner.withRole(t, policy.RoleOwner)
			_, text, err := owner.credentials.Mint(t.Context(), maker.Principal, auth.TokenSpec{TTL: time.Hour})
			must(t, err)
			return owner.with(t, text)
		}, change: func(t *testing.T, owner someone, who *someone) {
			must(t, owner.credentials.RevokeKey(t.Context(), owner.tenant, who.Principal.Claims.Maker))
		}, want: "ended: unauthenticated"},
		{name: "the tenant is suspended", change: func(t *testing.T, owner someone, _ *someone) {
			_, err := owner.store.Update(t.Context(), owner.tenant, func(t *tenants.Tenant) error { t.Status = tenants.Suspended; return nil })
			must(t, err)
		}, want: "ended: denied"},
		{name: "a guardrail", change: func(t *testing.T, owner someone, _ *someone) {
			_, err := owner.store.Update(t.Context(), owner.tenant, func(t *tenants.Tenant) error {
				t.Guardrails = []json.RawMessage{json.RawMessage(`{"Version":"2012-10-17","Statement":[` + all + `,{"Effect":"Deny","Action":"cache:Get","Resource":"*"}]}`)}
				return nil
			})
			must(t, err)
		}, want: "denied"},
		{name: "the cache is deleted", change: func(t *testing.T, owner someone, _ *someone) {
			must(t, owner.store.DeleteCache(t.Context(), owner.tenant, "main"))
		}, want: "not_found"},
		{name: "the cache is made anew", change: func(t *testing.T, owner someone, _ *someone) {
			must(t, owner.store.DeleteCache(t.Context(), owner.tenant, "main"))
			owner.cache(t, tenants.Cache{Name: "main"})
		}, want: "null"},
		{name: "the cache gets a limit", change: func(t *testing.T, owner someone, _ *someone) {
			_, err := owner.store.UpdateCache(t.Context(), owner.tenant, "main", func(c *tenants.Cache) error { c.Limits.UnitsPerSecond = 1; return nil })
			must(t, err)
			for range 3 { // into debt, by another
				_, _ = owner.do(t, "GET k")
			}
		}, want: "throttled"},
		{name: "the cache's tag changes", who: func(t *testing.T, owner someone) someone {
			_, err := owner.store.UpdateCache(t.Context(), owner.tenant, "main", func(c *tenants.Cache) error { c.Tags = map[string]string{"env": "dev"}; return nil })
			must(t, err)
			return owner.withStatements(t, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"cache:ResourceTag/env":"dev"}}}`)
		}, change: func(t *testing.T, owner someone, _ *someone) {
			_, err := owner.store.UpdateCache(t.Context(), owner.tenant, "main", func(c *tenants.Cache) error { c.Tags = map[string]string{"env": "prod"}; return nil })
			must(t, err)
		}, want: "denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			owner := newTenant(t, tenants.Limits{})
			one := owner.withStatements(t, all)
			if tt.who != nil {
				one = tt.who(t, owner)
			}
			who := one.stay()
			if got := who.next(t, "main", "SET k v"); got != "OK" {
				t.Fatalf("SET: %s", got)
			}
			for range 3 {
				if got := who.next(t, "main", "GET k"); got != "v" {
					t.Fatalf("before: %s", got)
				}
			}
			if who.standing == nil || tt.who == nil && !who.remembers("GET") {
				t.Fatal("the connection remembers nothing, so this test can tell nothing")
			}
			tt.change(t, owner, who)
			if got := who.next(t, "main", "GET k"); got != tt.want {
				t.Errorf("after: %s, want %s", got, tt.want)
			}
		})
	}
}

// What a script does is asked for command by command, also of who remembers that EVAL itself is allowed, and whether or not
// the script said which keys it would touch.
func TestScriptsMayDoWhatTheirCallerMay(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	if _, err := owner.do(t, "MSET a 1 b 2"); err != nil {
		t.Fatal(err)
	}
	script := `{"Effect":"Allow","Action":"cache:EvalScript","Resource":"*"},`
	onA := owner.withStatements(t, script+`{"Effect":"Allow","Action":["cache:Get","cache:Set"],"Resource":"arn:cache:cache:*:TENANT:cache/main/key/a*"}`)
	notB := owner.withStatements(t, `{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","Resource":"arn:cache:cache:*:TENANT:cache/main/key/b"}`)
	reader := owner.withStatements(t, script+`{"Effect":"Allow","Action":"cache:Get","Resource":"*"}`)
	const no = "ACL failure in script: "
	for _, tt := range []struct {
		name string
		who  someone
		body string
		keys []string
		want string // the whole answer, or how an error begins
	}{
		{"a declared key", onA, "return redis.call('GET', KEYS[1])", []string{"a"}, "1"},
		{"an undeclared key that is one's own", onA, "return redis.call('GET', 'a')", nil, "1"},
		{"an undeclared key that is not", onA, "return redis.call('GET', 'b')", nil, no},
		{"another than was declared", onA, "return redis.call('GET', 'b')", []string{"a"}, no},
		{"one key of two", onA, "return redis.call('MGET', 'a', 'b')", []string{"a"}, no},
		{"an action that one lacks", onA, "return redis.call('DEL', 'a')", []string{"a"}, no},
		{"an action on the whole cache", onA, "return redis.call('DBSIZE')", nil, no},
		{"writing where one reads", reader, "return redis.call('SET', KEYS[1], '1')", []string{"b"}, no},
		{"reading where one reads", reader, "return redis.call('GET', KEYS[1])", []string{"b"}, "2"},
		{"a denied key", notB, "return redis.call('GET', 'b')", nil, no},
		{"beside a denied key", notB, "return redis.call('GET', 'a')", nil, "1"},
		{"a publication", reader, "return redis.call('PUBLISH', 'c', 'm')", nil, no},
		{"caught", onA, "return redis.pcall('GET', 'b')['err']", nil, "ERR " + no},
		{"what was done before is undone or stands, but is one's own", onA, "redis.call('SET', 'a', '1'); return redis.call('GET', 'b')", []string{"a"}, no},
		{"asking first", onA, "return {redis.acl_check_cmd('GET', 'a') and 1 or 0, redis.acl_check_cmd('GET', 'b') and 1 or 0}", nil, "[1 0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			who := tt.who.stay()
			for round := range 2 {
				args := [][]byte{[]byte("EVAL"), []byte(tt.body), fmt.Append(nil, len(tt.keys))}
				for _, k := range tt.keys {
					args = append(args, []byte(k))
				}
				reply := &engine.Recording{}
				r := &Request{Caller: &who.Caller, Cache: "main", Calls: []engine.Call{{Command: engine.MustLookup("EVAL"), Args: args}}, Reply: reply}
				if err := who.Do(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				got := ""
				cursor := reply.Cursor()
				if e := cursor.Next(); e.Kind == engine.ReplyError {
					got = e.Err.Message
				} else {
					got = answers(reply)[0]
				}
				if got != tt.want && !(strings.Contains(tt.want, no) && strings.HasPrefix(got, tt.want)) {
					t.Errorf("round %d: %q, want %q", round, got, tt.want)
				}
			}
		})
	}
}

// Connections that remember, each with a goroutine of its own, while records change. Once a change is made, no request that
// begins after it gets an old verdict.
func TestRememberingWhileRecordsChange(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	one := owner.withStatements(t, `{"Effect":"Allow","Action":"*","Resource":"*"}`)
	name := one.Principal.Role
	var mu sync.RWMutex // held for writing while the policy changes
	may := true
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 4 {
		who := one.stay()
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.RLock()
				got, want := who.next(t, "main", "GET k"), "denied"
				if may {
					want = "null"
				}
				mu.RUnlock()
				if got != want {
					t.Errorf("got %s, want %s", got, want)
					return
				}
			}
		})
	}
	other := one.stay()
	running.Go(func() { // nobody holds this one up
		for {
			select {
			case <-stop:
				return
			default:
				if got := other.next(t, "main", "GET k"); !slices.Contains([]string{"null", "denied", "not_found", "unavailable"}, got) {
					t.Errorf("got %s", got)
					return
				}
			}
		}
	})
	for i := range 40 {
		effect := []string{"Allow", "Deny"}[i%2]
		mu.Lock()
		_, _, err := owner.credentials.PutPolicy(t.Context(), owner.tenant, name, []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"`+effect+`","Action":"*","Resource":"*"}]}`))
		may = effect == "Allow"
		if err == nil && i%10 == 0 {
			err = owner.store.DeleteCache(t.Context(), owner.tenant, "main")
			owner.cache(t, tenants.Cache{Name: "main"})
		}
		mu.Unlock()
		if err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	running.Wait()
}
