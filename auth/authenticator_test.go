package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/records"
)

func TestMintArguments(t *testing.T) {
	n := newNode(t)
	_, text := n.newKey("owner")
	maker := n.enter(text)
	many := make([]string, policy.MaxTokenStatements+1)
	for i := range many {
		many[i] = statement("Allow", `"cache:Get"`, "*")
	}
	scopes := make([]string, MaxScopes+1)
	for i := range scopes {
		scopes[i] = fmt.Sprint("s", i)
	}
	// Valid as a policy, but too long for a text of 8 KiB.
	long := documentOf(statement("Allow", `"cache:Get"`, "arn:cache:cache:*:acme:cache/main/key/"+repeat("k", 7000)))
	for _, tc := range []struct {
		name string
		spec TokenSpec
		kind fault.Kind
		arg  string
	}{
		{"the least", TokenSpec{TTL: MinTokenLife}, 0, ""},
		{"the longest life", TokenSpec{TTL: MaxTokenLife}, 0, ""},
		{"no life", TokenSpec{}, fault.OutOfRange, "ttl"},
		{"a shorter life", TokenSpec{TTL: MinTokenLife - 1}, fault.OutOfRange, "ttl"},
		{"a longer life", TokenSpec{TTL: MaxTokenLife + 1}, fault.OutOfRange, "ttl"},
		{"the longest subject", TokenSpec{TTL: time.Hour, Subject: repeat("s", maxSubject)}, 0, ""},
		{"a longer subject", TokenSpec{TTL: time.Hour, Subject: repeat("s", maxSubject+1)}, fault.InvalidArgument, "subject"},
		{"a subject of two lines", TokenSpec{TTL: time.Hour, Subject: "a\nb"}, fault.InvalidArgument, "subject"},
		{"a refresh token", TokenSpec{TTL: time.Hour, Use: UseRefresh}, fault.InvalidArgument, "use"},
		{"an unknown use", TokenSpec{TTL: time.Hour, Use: "all"}, fault.InvalidArgument, "use"},
		{"the most scopes", TokenSpec{TTL: time.Hour, Scopes: scopes[1:]}, 0, ""},
		{"one scope more", TokenSpec{TTL: time.Hour, Scopes: scopes}, fault.InvalidArgument, "scopes"},
		{"a scope of two words", TokenSpec{TTL: time.Hour, Scopes: []string{"a b"}}, fault.InvalidArgument, "scopes"},
		{"the most statements", TokenSpec{TTL: time.Hour, Policy: []byte(documentOf(many[1:]...))}, 0, ""},
		{"one statement more", TokenSpec{TTL: time.Hour, Policy: []byte(documentOf(many...))}, fault.InvalidArgument, "policy"},
		{"no policy language", TokenSpec{TTL: time.Hour, Policy: []byte(`{}`)}, fault.InvalidArgument, "policy"},
		{"an empty policy", TokenSpec{TTL: time.Hour, Policy: []byte{}}, fault.InvalidArgument, "policy"},
		{"too long for a token", TokenSpec{TTL: time.Hour, Policy: []byte(long)}, fault.InvalidArgument, "policy"},
	} {
		info, token, err := n.Mint(t.Context(), maker, tc.spec)
		if tc.kind == 0 && err != nil || tc.kind != 0 && (!fault.Is(err, tc.kind) || fault.From(err).Argument != tc.arg) {
			t.Errorf("%s: got %v", tc.name, err)
		}
		if tc.kind == 0 && err == nil {
			if p := n.enter(token); p.Kind != KindToken || p.ID != info.ID || p.Name != info.Subject || !p.Expires.Equal(info.ExpiresAt) {
				t.Errorf("%s: the principal is %+v", tc.name, p)
			}
		}
	}
	_, token := n.mint(text, TokenSpec{Use: UseData})
	_, _, err := n.Mint(t.Context(), n.enter(token), TokenSpec{TTL: time.Hour})
	wantKind(t, err, fault.Denied, "token")
}

// A40: whatever the maker's role and the token's policy say, a token does nothing that its maker may not do,
// and nothing that its own policy does not allow. The facts differ between the two, and the policies ask for
// those that do.
func TestTokenNarrowsOnly(t *testing.T) {
	n := newNode(t)
	n.policy("under-test", mayGet)
	n.role("app", "under-test")
	_, text := n.newKeyOf("acme", KeySpec{Name: "u1", Role: "app"})

	conditions := []string{
		``, ``, ``,
		`"StringEquals":{"jwt:sub":"u1"}`,
		`"StringNotEquals":{"jwt:sub":"u1"}`,
		`"StringEquals":{"cache:username":"u1"}`,
		`"StringEquals":{"cache:PrincipalType":"session"}`,
		`"StringNotEquals":{"cache:PrincipalType":"key"}`,
		`"StringEquals":{"cache:AuthMethod":"api_key"}`,
		`"Null":{"jwt:jti":"false"}`,
		`"Null":{"cache:TokenIssueTime":"true"}`,
		`"ForAnyValue:StringEquals":{"jwt:scope":"s"}`,
		`"ArnLike":{"cache:PrincipalArn":"arn:cache:iam::acme:role/*"}`,
		`"NumericLessThan":{"cache:TokenAge":"60"}`,
	}
	resources := []string{
		"*", "arn:cache:cache:*:acme:cache/main/*", "arn:cache:cache:*:acme:cache/main/key/u1",
		"arn:cache:cache:*:acme:cache/main/key/${jwt:sub}", "arn:cache:cache:*:acme:cache/main/key/${cache:username}",
		"arn:cache:cache:*:acme:cache/main/key/${jwt:sub, 'u2'}",
	}
	draw := rapid.Custom(func(t *rapid.T) string {
		var list []string
		for range rapid.IntRange(1, 3).Draw(t, "statements") {
			s := fmt.Sprintf(`{"Effect":%q,"Action":%s,"Resource":%q`,
				rapid.SampledFrom([]string{"Allow", "Allow", "Deny"}).Draw(t, "effect"),
				rapid.SampledFrom([]string{`"cache:Get"`, `"cache:Set"`, `"*"`}).Draw(t, "action"),
				rapid.SampledFrom(resources).Draw(t, "resource"))
			if c := rapid.SampledFrom(conditions).Draw(t, "condition"); c != "" {
				s += `,"Condition":{` + c + `}`
			}
			list = append(list, s+"}")
		}
		return documentOf(list...)
	})
	allowed := 0
	rapid.Check(t, func(t *rapid.T) {
		of := draw.Draw(t, "maker's policy")
		if _, _, err := n.PutPolicy(context.Background(), "acme", "under-test", []byte(of)); err != nil {
			t.Fatal(err)
		}
		own := draw.Draw(t, "token's policy")
		maker, err := n.Authenticate(UseData, text, somewhere)
		if err != nil {
			t.Fatal(err)
		}
		info, tokenText, err := n.Mint(context.Background(), maker, TokenSpec{
			TTL: time.Hour, Policy: []byte(own), Scopes: []string{"s"},
			Subject: rapid.SampledFrom([]string{"u1", "u2", "*", "${jwt:sub}"}).Draw(t, "subject"),
		})
		if err != nil {
			t.Fatal(err)
		}
		token, err := n.Authenticate(UseData, tokenText, somewhere)
		if err != nil {
			t.Fatal(err)
		}
		alone := policy.Compile(policy.Policies{Identity: []*policy.Document{policy.Load("alone", []byte(own), policy.KindIdentity)}}, policy.ModeStrict)
		for _, action := range []policy.Action{policy.CacheGet, policy.CacheSet, policy.CacheDelete} {
			for _, key := range []string{"u1", "u2", "x", "*"} {
				on := policy.NewItem("local", "acme", "main", "key", []byte(key))
				if n.verdict(token, action, on).Decision == policy.Deny {
					continue
				}
				allowed++
				if v := n.verdict(maker, action, on); v.Decision == policy.Deny {
					t.Fatalf("the token may %v %s, its maker may not: %v", action, key, v)
				}
				c := &Context{Now: n.clock.now(), caller: token}
				if v := alone.Decide(&policy.Request{Principal: &token.Identity, Action: action, Resource: on, Context: c}); v.Decision == policy.Deny {
					t.Fatalf("the token may %v %s, its policy alone may not: %v", action, key, v)
				}
			}
		}
		if err := n.RevokeToken(context.Background(), "acme", info.ID); err != nil {
			t.Fatal(err)
		}
	})
	if allowed == 0 {
		t.Fatal("no token could do anything: the property was not tested")
	}
}

// What a maker loses, its tokens lose at once.
func TestTokenFollowsMaker(t *testing.T) {
	n, ctx := newNode(t), t.Context()
	n.policy("reading", mayGet)
	n.role("app", "reading")
	info, text := n.newKey("app")
	_, token := n.mint(text, TokenSpec{Policy: []byte(mayDo), Subject: "u1"})
	p := n.enter(token)
	if !n.may(p, policy.CacheGet, "k") || n.may(p, policy.CacheSet, "k") {
		t.Fatal("the token's rights are not its maker's")
	}
	if p.Identity.ARN != "arn:cache:iam::acme:session/app/u1" || p.Identity.RoleARN != "arn:cache:iam::acme:role/app" || p.Tenant != "acme" || p.Role != "app" {
		t.Fatalf("principal %+v", p)
	}
	n.policy("reading", maySet)
	if p = n.enter(token); n.may(p, policy.CacheGet, "k") || !n.may(p, policy.CacheSet, "k") {
		t.Fatal("the token goes by the old text")
	}
	if _, err := n.UpdateKey(ctx, "acme", info.ID, KeyUpdate{Role: new("owner")}); err != nil {
		t.Fatal(err)
	}
	if p = n.enter(token); !n.may(p, policy.CacheGet, "k") || p.Role != "owner" {
		t.Fatal("the token goes by the old role")
	}

	// It ends with its maker: with the end of the grace, and when the maker is revoked.
	if _, _, err := n.RotateKey(ctx, "acme", info.ID, time.Minute, ""); err != nil {
		t.Fatal(err)
	}
	p = n.enter(token)
	n.clock.add(time.Minute)
	if n.valid(p) {
		t.Fatal("a token outlived its maker")
	}
	n.refuses(token, Expired)

	last, text := n.newKeyOf("acme", KeySpec{Name: "k", Role: "owner", ExpiresAt: n.clock.now().Add(time.Hour)})
	made, token := n.mint(text, TokenSpec{TTL: MaxTokenLife})
	if !made.ExpiresAt.Equal(last.ExpiresAt) {
		t.Fatalf("the token ends at %v, its maker at %v", made.ExpiresAt, last.ExpiresAt)
	}
	p = n.enter(token)
	maker := n.enter(text)
	if err := n.RevokeKey(ctx, "acme", last.ID); err != nil {
		t.Fatal(err)
	}
	n.refuses(token, Revoked)
	if _, err := n.Recheck(p, UseData, somewhere); !fault.Is(err, fault.Unauthenticated) {
		t.Fatalf("an open connection goes on: %v", err)
	}
	_, _, err := n.Mint(ctx, maker, TokenSpec{TTL: time.Hour})
	wantKind(t, err, fault.Unauthenticated)
}

func TestTokenExpires(t *testing.T) {
	n := newNode(t)
	_, text := n.newKey("owner")
	_, token := n.mint(text, TokenSpec{TTL: time.Minute})
	p := n.enter(token)
	n.clock.add(time.Minute + ownLeeway - time.Nanosecond)
	if n.enter(token) != p {
		t.Fatal("not remembered")
	}
	n.clock.add(time.Nanosecond)
	n.refuses(token, Expired) // remembered
	n.refuses(token, Expired) // read anew
	if _, err := n.Recheck(p, UseData, somewhere); !fault.Is(err, fault.Unauthenticated) {
		t.Fatalf("an open connection goes on: %v", err)
	}
}

// A25, J29.
func TestTokenRevocation(t *testing.T) {
	n, ctx := newNode(t), t.Context()
	maker, text := n.newKey("owner")
	_, otherText := n.newKey("owner")
	_, foreign := n.newKeyOf("globex", KeySpec{Name: "k", Role: "owner"})
	type minted struct{ ann, ben, other, foreign string }
	mint := func() (m minted) {
		_, m.ann = n.mint(text, TokenSpec{Subject: "ann"})
		_, m.ben = n.mint(text, TokenSpec{Subject: "ben"})
		_, m.other = n.mint(otherText, TokenSpec{Subject: "ann"})
		_, m.foreign = n.mint(foreign, TokenSpec{Subject: "ann"})
		return m
	}
	good := func(tokens ...string) {
		t.Helper()
		for _, token := range tokens {
			n.enter(token)
		}
	}
	gone := func(tokens ...string) {
		t.Helper()
		for _, token := range tokens {
			n.refuses(token, Revoked)
		}
	}
	revoke := func(which Revocation) {
		t.Helper()
		if err := n.RevokeTokens(ctx, "acme", which); err != nil {
			t.Fatal(err)
		}
	}

	info, token := n.mint(text, TokenSpec{})
	p := n.enter(token)
	wantKind(t, n.RevokeToken(ctx, "globex", info.ID), fault.NotFound)
	if err := n.RevokeToken(ctx, "acme", info.ID); err != nil {
		t.Fatal(err)
	}
	gone(token)
	if n.valid(p) {
		t.Fatal("valid after it was revoked")
	}
	wantKind(t, n.RevokeToken(ctx, "acme", info.ID), fault.NotFound)
	_, err := n.GetToken("acme", info.ID)
	wantKind(t, err, fault.NotFound)

	m := mint()
	good(m.ann, m.ben, m.other, m.foreign)
	revoke(Revocation{Subject: "ann"})
	// The clock stands still: what is minted in the millisecond of the revocation comes after it.
	later := mint()
	gone(m.ann, m.other)
	good(m.ben, m.foreign, later.ann, later.ben, later.other)

	m = mint()
	revoke(Revocation{Maker: maker.ID})
	later = mint()
	gone(m.ann, m.ben)
	good(m.other, m.foreign, later.ann)

	m = mint()
	revoke(Revocation{})
	later = mint()
	gone(m.ann, m.ben, m.other)
	good(m.foreign, later.ann, later.other)
	restarted := n.another()
	restarted.refuses(m.ann, Revoked)
	restarted.refuses(token, Revoked)
	restarted.enter(later.ann)

	// An earlier instant takes nothing back.
	revoke(Revocation{Before: n.clock.now().Add(-time.Hour)})
	gone(m.ann)
	good(later.ann)

	n.clock.add(time.Second)
	n.tenants.change("acme", func(t *TenantState) { t.TokensNotBefore = n.clock.now() })
	gone(later.ann)
	good(mint().ann, m.foreign)

	for _, which := range []Revocation{
		{Before: n.clock.now().Add(time.Millisecond)},
		{Subject: "ann", Maker: maker.ID},
		{Subject: repeat("s", maxSubject+1)},
		{Maker: "../" + maker.ID},
	} {
		if err := n.RevokeTokens(ctx, "acme", which); !fault.Is(err, fault.OutOfRange) && !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%+v: %v", which, err)
		}
	}
}

// The attacks of the list that need the records.
func TestStoreAttacks(t *testing.T) {
	n := newNode(t)
	_, text := n.newKey("owner")

	t.Run("J30 token of one tenant for another's resources", func(t *testing.T) {
		_, token := n.mint(text, TokenSpec{})
		p := n.enter(token)
		if v := n.verdict(p, policy.CacheGet, policy.NewItem("local", "globex", "main", "key", []byte("k"))); v.Decision == policy.Allow {
			t.Fatal("allowed")
		}
	})
	t.Run("J30 claims name another tenant than the maker's", func(t *testing.T) {
		signer := n.signer.Load()
		for _, tenant := range []string{"globex", policy.SystemTenant, ""} {
			claims := &Claims{Subject: "s", Expires: n.clock.now().Add(time.Hour), Tenant: tenant, Use: UseData, Maker: n.enter(text).ID}
			n.refuses(must(signer.Mint(claims, n.clock.now())), Revoked)
		}
	})
	t.Run("a token of an operator's key", func(t *testing.T) {
		ops, _ := n.newKeyOf(policy.SystemTenant, KeySpec{Name: "ops", Role: RoleOperator})
		claims := &Claims{Subject: "s", Expires: n.clock.now().Add(time.Hour), Tenant: policy.SystemTenant, Use: UseManage, Maker: ops.ID}
		n.refuses(must(n.signer.Load().Mint(claims, n.clock.now())), BadClaims)
	})
	t.Run("J32 the wrong door", func(t *testing.T) {
		_, data := n.mint(text, TokenSpec{Use: UseData})
		_, manage := n.mint(text, TokenSpec{Use: UseManage})
		refresh := must(n.signer.Load().Mint(&Claims{Subject: "s", Expires: n.clock.now().Add(time.Hour), Tenant: "acme", Use: UseRefresh, Maker: n.enter(text).ID}, n.clock.now()))
		for _, tc := range []struct {
			credential string
			door       Use
			want       bool
		}{
			{data, UseData, true}, {data, UseManage, false}, {data, UseRefresh, false},
			{manage, UseData, false}, {manage, UseManage, true}, {manage, UseRefresh, false},
			{refresh, UseData, false}, {refresh, UseManage, false}, {refresh, UseRefresh, false},
			{text, UseData, true}, {text, UseManage, true}, {text, UseRefresh, false},
		} {
			for range 2 { // read, then remembered
				n.clock.add(failureWindow)
				_, err := n.Authenticate(tc.door, tc.credential, somewhere)
				if (err == nil) != tc.want || err != nil && !fault.Is(err, fault.Unauthenticated) {
					t.Errorf("%.20s at the door %s: %v", tc.credential, tc.door, err)
				}
			}
		}
		p, err := n.Authenticate(UseData, data, somewhere)
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.Recheck(p, UseManage, somewhere)
		wantKind(t, err, fault.Unauthenticated)
	})
	t.Run("signed by another cluster", func(t *testing.T) {
		foreign := must(NewSigner("https://larder.test", "larder", must(NewKeySet(randomForTest{}))))
		claims := &Claims{Subject: "s", Expires: n.clock.now().Add(time.Hour), Tenant: "acme", Use: UseData, Maker: n.enter(text).ID}
		n.refuses(must(foreign.Mint(claims, n.clock.now())), UnknownKey)
	})
	t.Run("shapes", func(t *testing.T) {
		for _, credential := range []string{" ", "lk_", text + " ", " " + text, text[1:], strings.ToUpper(text), repeat("a", MaxTokenBytes+1), repeat(".", 1<<20), "Bearer " + text} {
			n.refuses(credential, Malformed)
		}
	})
	t.Run("a wrong checksum costs no look-up", func(t *testing.T) {
		n.mu.Lock() // a look-up would wait for ever
		defer n.mu.Unlock()
		if _, err := n.verify(text[:len(text)-1]+"!", Digest{}, n.clock.now()); err == nil {
			t.Fatal("accepted")
		}
	})
}

// A9.
func TestBruteForce(t *testing.T) {
	n := newNode(t)
	info, text := n.newKey("owner")
	guess := func(i int) string {
		body := text[:keySecretAt] + fmt.Sprintf("%0*d", keySecretLen, i)
		sum := keyChecksum(body)
		return body + string(sum[:])
	}
	attacker, other := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	for i := 1; i <= 200; i++ {
		_, err := n.Authenticate(UseData, guess(i), attacker)
		if want := fault.Unauthenticated; i <= maxFailures && !fault.Is(err, want) {
			t.Fatalf("guess %d: %v, want %v", i, err, want)
		}
		if i > maxFailures {
			wantKind(t, err, fault.Throttled)
			if wait := fault.From(err).RetryAfter; wait <= 0 || wait > failureWindow {
				t.Fatalf("retry after %v", wait)
			}
		}
		n.clock.add(failureWindow / 250)
	}
	_, err := n.Authenticate(UseData, text, attacker)
	wantKind(t, err, fault.Throttled) // whatever it tries
	if _, err := n.Authenticate(UseData, text, other); err != nil {
		t.Fatalf("the right key from another address: %v", err)
	}
	if _, err := n.Authenticate(UseData, text, attacker); err != nil {
		t.Fatalf("a key known to be right, from behind the same address: %v", err)
	}
	_, err = n.Authenticate(UseData, guess(0), attacker)
	wantKind(t, err, fault.Throttled)
	n.clock.add(failureWindow)
	if _, err := n.Authenticate(UseData, text, attacker); err != nil {
		t.Fatalf("after the window: %v", err)
	}

	// From many addresses, an id that is guessed at is throttled, and its owner is not.
	n.forget()
	from := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }
	kinds := map[fault.Kind]int{}
	for i := range 100 {
		_, err := n.Authenticate(UseData, guess(i), from(i))
		kinds[fault.KindOf(err)]++
	}
	if kinds[fault.Unauthenticated] != maxFailures || kinds[fault.Throttled] != 100-maxFailures {
		t.Fatalf("guesses at key %s: %v", info.ID, kinds)
	}
	if _, err := n.Authenticate(UseData, text, other); err != nil {
		t.Fatalf("the owner of a key that is guessed at: %v", err)
	}

	// All of a /64 is one source; texts of any shape count; tokens too.
	n.clock.add(failureWindow)
	net := netip.MustParseAddr("2001:db8::").As16()
	for i := range maxFailures {
		net[15] = byte(i)
		_, err := n.Authenticate(UseData, []string{"nonsense", "a.b.c", guess(i)}[i%3], netip.AddrFrom16(net))
		wantKind(t, err, fault.Unauthenticated)
	}
	net[8] = 1
	n.forget()
	_, err = n.Authenticate(UseData, text, netip.AddrFrom16(net))
	wantKind(t, err, fault.Throttled)
	net[7] = 1
	if _, err := n.Authenticate(UseData, text, netip.AddrFrom16(net)); err != nil {
		t.Fatalf("the neighbour: %v", err)
	}

	// Guesses at the same time do not slip through together.
	n.clock.add(failureWindow)
	var refusedCount atomic.Int64
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, err := n.Authenticate(UseData, guess(1000+i), attacker); fault.Is(err, fault.Unauthenticated) {
				refusedCount.Add(1)
			}
		})
	}
	wg.Wait()
	if got := refusedCount.Load(); got != maxFailures {
		t.Fatalf("%d guesses at once were answered, want %d", got, maxFailures)
	}
}

// Attempts against a list of all failures that counted.
func TestAttempts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, now := newAttempts[string](), time.Unix(1e9, 0)
		counted := map[string][]time.Time{}
		wait := func(key string) time.Duration {
			recent := slices.DeleteFunc(slices.Clone(counted[key]), func(at time.Time) bool { return now.Sub(at) >= failureWindow })
			if len(recent) < maxFailures {
				return 0
			}
			return recent[len(recent)-maxFailures].Add(failureWindow).Sub(now)
		}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 100, 999, 5000, 10000}).Draw(t, "ms")) * time.Millisecond)
			key := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")
			if got, want := a.wait(key, now), wait(key); got != want {
				t.Fatalf("wait %v, want %v", got, want)
			}
			want := wait(key)
			if want == 0 {
				counted[key] = append(counted[key], now)
			}
			if got := a.fail(key, now); got != want {
				t.Fatalf("fail says %v, want %v", got, want)
			}
		}
	})
	a := newAttempts[int]()
	for i := range 2 * failuresTables {
		a.fail(i, time.Unix(1, 0))
	}
	if a.table.Len() != failuresTables {
		t.Fatalf("G2: it remembers %d", a.table.Len())
	}
}

// A26.
func TestSigningKeysRotate(t *testing.T) {
	n, ctx := newNode(t), t.Context()
	b := n.another()
	_, text := n.newKey("owner")
	kids := func(n *node) (ids []string) {
		var doc struct {
			Keys []struct{ Kid string }
		}
		if err := json.Unmarshal(must(n.JWKS(ctx)), &doc); err != nil {
			t.Fatal(err)
		}
		for _, k := range doc.Keys {
			ids = append(ids, k.Kid)
		}
		return ids
	}
	if got := kids(n); len(got) != 2 {
		t.Fatalf("%d keys at first", len(got))
	}
	wantKind(t, n.RotateSigningKeys(ctx), fault.Throttled)

	// While keys are rotated ten times, tokens old and new are good on both nodes.
	var mu sync.Mutex
	var tokens []string
	_, first := n.mint(text, TokenSpec{TTL: MaxTokenLife})
	tokens = append(tokens, first)
	b.sync()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, on := range []*node{n, b} {
		wg.Go(func() {
			for {
				mu.Lock()
				all := slices.Clone(tokens)
				mu.Unlock()
				on.forget()
				for _, token := range all {
					if _, err := on.Authenticate(UseData, token, somewhere); err != nil {
						t.Errorf("refused during a rotation: %v", fault.From(err).Err)
						return
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 10 {
		was := kids(n)
		n.clock.add(JWKSMaxAge)
		if err := n.RotateSigningKeys(ctx); err != nil {
			t.Fatal(err)
		}
		if got := kids(n); len(got) != i+3 || got[0] != was[1] {
			t.Fatalf("after rotation %d the keys are %v, before %v", i+1, got, was)
		}
		b.sync()
		_, token := n.mint(text, TokenSpec{TTL: MaxTokenLife - time.Hour})
		b.sync()
		mu.Lock()
		tokens = append(tokens, token)
		mu.Unlock()
	}
	close(stop)
	wg.Wait()

	// Housekeeping rotates once when keys are old, whoever does it first.
	n.clock.add(signingKeyAge - time.Second)
	before := kids(n)
	if err := n.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if got := kids(n); got[0] != before[0] {
		t.Fatal("rotated too early")
	}
	n.clock.add(time.Second)
	for _, on := range []*node{n, b, n} {
		if err := on.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		on.sync()
	}
	b.sync()
	if got := kids(b); len(got) != 3 || got[0] != before[1] || got[2] != before[0] {
		t.Fatalf("after 30 days the keys are %v, before %v", got, before)
	}

	// A key that is withdrawn before its time takes its tokens with it, also those that are remembered.
	_, token := n.mint(text, TokenSpec{})
	p := n.enter(token)
	fresh := must(json.Marshal(signingRecord{RotatedAt: n.clock.now(), Keys: must(NewKeySet(randomStream(1))).Marshal()}))
	n.put("signing/current", string(fresh))
	if n.valid(p) {
		t.Fatal("still valid")
	}
	n.refuses(token, UnknownKey)
	n.enter(text)
}

// randomStream is not random.
type randomStream byte

func (r randomStream) Read(p []byte) (int, error) {
	sum := Hash(fmt.Sprint(r, counter.Add(1)))
	return copy(p, sum[:]), nil
}

var counter atomic.Int64

func TestSweep(t *testing.T) {
	n, ctx := newNode(t), t.Context()
	_, text := n.newKey("owner")
	kept, _ := n.mint(text, TokenSpec{TTL: 2 * time.Hour})
	n.mint(text, TokenSpec{TTL: time.Hour})
	revoked, _ := n.mint(text, TokenSpec{TTL: time.Hour})
	if err := n.RevokeToken(ctx, "acme", revoked.ID); err != nil {
		t.Fatal(err)
	}
	short, shortText := n.newKeyOf("acme", KeySpec{Name: "k", Role: "owner", ExpiresAt: n.clock.now().Add(time.Hour)})
	n.enter(shortText)
	if err := n.RevokeTokens(ctx, "acme", Revocation{Subject: "ann"}); err != nil {
		t.Fatal(err)
	}
	count := func(kind string) int { return len(n.m.List(records.Root+kind+"/", "", 0)) }
	sweep := func(after time.Duration, tokens, keys, cutoffs int) {
		t.Helper()
		n.clock.add(after)
		p := n.enter(text)
		if err := n.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if got := [3]int{count("tokens"), count("keys"), count("cutoffs")}; got != [3]int{tokens, keys, cutoffs} {
			t.Fatalf("tokens, keys, cutoffs left: %v", got)
		}
		if tokens > 0 && !n.valid(p) {
			t.Fatal("sweeping what has ended ended a principal")
		}
	}
	sweep(0, 3, 2, 1)
	sweep(time.Hour+ownLeeway, 3, 2, 1) // a node whose clock is behind may still see the token
	sweep(keepExpiredToken, 1, 2, 1)
	if list, _, _ := n.ListTokens("acme", "", 0); len(list) != 1 || list[0].ID != kept.ID {
		t.Fatalf("listed: %v", list)
	}
	sweep(time.Hour, 0, 2, 1)
	sweep(MaxTokenLife, 0, 2, 0)
	sweep(keepExpiredKey, 0, 1, 0)
	if _, err := n.GetKey("acme", short.ID); !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if len(n.liveTokens) != 0 {
		t.Fatalf("tokens counted after the last was swept: %v", n.liveTokens)
	}
}

func TestRolesAndPolicies(t *testing.T) {
	n, ctx := newNode(t), t.Context()
	names := func(roles []Role) (list []string) {
		for _, r := range roles {
			list = append(list, r.Name)
		}
		return list
	}

	// Ready-made ones exist in every tenant and stay as they are.
	for _, name := range []string{"owner", "read-write", "read-only", "metrics", "operator"} {
		_, errCreate := n.CreateRole(ctx, "acme", Role{Name: name, Policies: []string{"owner"}})
		_, errUpdate := n.UpdateRole(ctx, "acme", name, RoleUpdate{Policies: &[]string{"owner"}})
		_, _, errPut := n.PutPolicy(ctx, "acme", name, []byte(mayDo))
		for _, err := range []error{errCreate, errUpdate, n.DeleteRole(ctx, "acme", name), errPut, n.DeletePolicy(ctx, "acme", name)} {
			wantKind(t, err, fault.Conflict, name)
		}
	}
	for name, bad := range map[string]bool{"": true, "A": true, "-a": true, "a/b": true, "a b": true, "é": true, repeat("a", 64): true, repeat("a", 63): false, "a.b_c-9": false} {
		_, err := n.CreateRole(ctx, "acme", Role{Name: name, Policies: []string{"owner"}})
		_, _, err2 := n.PutPolicy(ctx, "acme", name, []byte(mayGet))
		if fault.Is(err, fault.InvalidArgument) != bad || fault.Is(err2, fault.InvalidArgument) != bad {
			t.Errorf("name %q: %v, %v", name, err, err2)
		}
	}
	for _, r := range []Role{
		{Name: "r"},
		{Name: "r", Policies: []string{"gone"}},
		{Name: "r", Policies: []string{"../owner"}},
		{Name: "r", Policies: []string{"operator"}},
		{Name: "r", Policies: []string{"owner", "owner"}},
		{Name: "r", Policies: []string{"owner"}, Boundary: "gone"},
		{Name: "r", Policies: make([]string, MaxRolePolicies+1)},
		{Name: "r", Policies: []string{"owner"}, Description: repeat("d", MaxDescription+1)},
	} {
		_, err := n.CreateRole(ctx, "acme", r)
		wantKind(t, err, fault.InvalidArgument)
	}
	for _, text := range []string{``, `{}`, `null`, mayGet + "x", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"cache:Nothing","Resource":"*"}}`} {
		_, _, err := n.PutPolicy(ctx, "acme", "p", []byte(text))
		wantKind(t, err, fault.InvalidArgument, "MalformedPolicy")
		var class *policy.Error
		if !errors.As(err, &class) {
			t.Errorf("%q: no class in %v", text, err)
		}
	}

	p, created, err := n.PutPolicy(ctx, "acme", "p", []byte(mayGet))
	if err != nil || !created || p.Version != 1 {
		t.Fatalf("%+v, %t, %v", p, created, err)
	}
	n.clock.add(time.Second)
	p, created, err = n.PutPolicy(ctx, "acme", "p", []byte(maySet))
	if err != nil || created || p.Version != 2 || !p.UpdatedAt.Equal(p.CreatedAt.Add(time.Second)) {
		t.Fatalf("%+v, %t, %v", p, created, err)
	}
	if got := must(n.GetPolicy("acme", "p")); string(got.Document) != maySet || got.Version != 2 {
		t.Fatalf("%+v", got)
	}
	if _, err := n.GetPolicy("globex", "p"); !fault.Is(err, fault.NotFound) {
		t.Fatalf("globex has it: %v", err)
	}
	n.role("r1", "p")
	if _, err := n.CreateRole(ctx, "acme", Role{Name: "r2", Policies: []string{"owner"}, Boundary: "p", Description: "two"}); err != nil {
		t.Fatal(err)
	}
	_, err = n.CreateRole(ctx, "acme", Role{Name: "r1", Policies: []string{"p"}})
	wantKind(t, err, fault.Conflict, `"r1"`)
	wantKind(t, n.DeletePolicy(ctx, "acme", "p"), fault.Conflict, "r1, r2")
	for range 7 {
		n.newKey("r1")
	}
	wantKind(t, n.DeleteRole(ctx, "acme", "r1"), fault.Conflict, "7"[:0], "and 2 more")
	if err := n.DeleteRole(ctx, "acme", "r2"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, n.DeletePolicy(ctx, "acme", "p"), fault.Conflict, "r1")
	wantKind(t, n.DeleteRole(ctx, "acme", "r2"), fault.NotFound, `"r2"`)
	wantKind(t, n.DeletePolicy(ctx, "acme", "gone"), fault.NotFound)
	_, err = n.UpdateRole(ctx, "acme", "gone", RoleUpdate{})
	wantKind(t, err, fault.NotFound)

	// Pages.
	all, next, err := n.ListRoles("acme", "", 0)
	if err != nil || next != "" {
		t.Fatal(next, err)
	}
	if got, want := names(all), []string{"a.b_c-9", repeat("a", 63), "metrics", "owner", "r1", "read-only", "read-write"}; !slices.Equal(got, want) {
		t.Fatalf("roles %v, want %v", got, want)
	}
	var paged []string
	for after, pages := "", 0; pages == 0 || after != ""; pages++ {
		list, next, err := n.ListRoles("acme", after, 2)
		if err != nil || len(list) > 2 {
			t.Fatal(len(list), err)
		}
		paged, after = append(paged, names(list)...), next
	}
	if !slices.Equal(paged, names(all)) {
		t.Fatalf("by pages %v, at once %v", paged, names(all))
	}
	var ids []string
	for after, pages := "", 0; pages == 0 || after != ""; pages++ {
		list, next, err := n.ListKeys("acme", after, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			ids = append(ids, k.ID)
		}
		after = next
	}
	if len(ids) != 7 || !slices.IsSorted(ids) {
		t.Fatalf("keys by pages: %v", ids)
	}
	_, text := n.newKey("owner")
	for range 5 {
		n.mint(text, TokenSpec{})
	}
	first, after, err := n.ListTokens("acme", "", 3)
	rest, end, err2 := n.ListTokens("acme", after, 3)
	if err := errors.Join(err, err2); err != nil || len(first) != 3 || len(rest) != 2 || end != "" || first[2].ID >= rest[0].ID {
		t.Fatalf("tokens by pages: %d, %d, %q, %v", len(first), len(rest), end, err)
	}
	for _, limit := range []int{-1, maxPage + 1} {
		_, _, err1 := n.ListKeys("acme", "", limit)
		_, _, err2 := n.ListRoles("acme", "", limit)
		_, _, err3 := n.ListPolicies("acme", "", limit)
		_, _, err4 := n.ListTokens("acme", "", limit)
		for _, err := range []error{err1, err2, err3, err4} {
			wantKind(t, err, fault.OutOfRange, "1 to 1000")
		}
	}
	if list, _, _ := n.ListPolicies(policy.SystemTenant, "", 0); len(list) != len(readyMades) {
		t.Fatalf("system has %d policies", len(list))
	}
}

func TestLimits(t *testing.T) {
	n := newNode(t)
	acme, _ := n.tenants.Tenant("acme")
	for i := range MaxRoles {
		n.put("roles/"+under(acme.ID, fmt.Sprint("r", i)), fmt.Sprintf(`{"name":"r%d","policies":["owner"]}`, i))
	}
	_, err := n.CreateRole(t.Context(), "acme", Role{Name: "more", Policies: []string{"owner"}})
	wantKind(t, err, fault.Conflict, fmt.Sprint(MaxRoles))
	_, text := n.newKey("owner")
	n.mint(text, TokenSpec{})
	n.mu.Lock()
	n.liveTokens[acme.ID] = MaxTokens
	n.mu.Unlock()
	_, _, err = n.Mint(t.Context(), n.enter(text), TokenSpec{TTL: time.Hour})
	wantKind(t, err, fault.Conflict, fmt.Sprint(MaxTokens))
}

// Creating keys, roles of no concern and tokens must not make everybody of the tenant be looked up again.
func TestUnconcernedStayValid(t *testing.T) {
	n := newNode(t)
	_, text := n.newKey("owner")
	_, token := n.mint(text, TokenSpec{})
	p, q := n.enter(text), n.enter(token)
	n.newKey("read-only")
	n.mint(text, TokenSpec{})
	n.newKeyOf("globex", KeySpec{Name: "k", Role: "owner"})
	n.tenants.change("globex", func(t *TenantState) { t.Active = false })
	if !n.valid(p) || !n.valid(q) || n.enter(text) != p || n.enter(token) != q {
		t.Fatal("made anew for nothing")
	}
	if got, err := n.Recheck(p, UseData, somewhere); err != nil || got != p {
		t.Fatal("rechecked for nothing", err)
	}
}

// T3: a change holds from the first request after the call that made it, however busy the node is.
func TestChangesHoldAtOnce(t *testing.T) {
	n := newNode(t)
	n.policy("p", mayGet)
	n.role("app", "p")
	_, text := n.newKey("app")
	_, token := n.mint(text, TokenSpec{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, credential := range []string{text, token, text} {
		wg.Go(func() {
			for {
				if _, err := n.Authenticate(UseData, credential, somewhere); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 100 {
		get := i%2 == 1
		n.policy("p", map[bool]string{true: mayGet, false: maySet}[get])
		for _, credential := range []string{text, token} {
			if p := n.enter(credential); n.may(p, policy.CacheGet, "k") != get || n.may(p, policy.CacheSet, "k") == get {
				t.Errorf("change %d is not seen", i)
			}
		}
	}
	close(stop)
	wg.Wait()
}

// With etcd gone, whoever has a credential goes on, and changes say that they cannot be made.
func TestWithoutEtcd(t *testing.T) {
	n, ctx := newNode(t), t.Context()
	info, text := n.newKey("owner")
	token, tokenText := n.mint(text, TokenSpec{})
	if err := n.m.Close(); err != nil {
		t.Fatal(err)
	}
	p := n.enter(text)
	n.enter(tokenText)
	_, _, errCreate := n.CreateKey(ctx, "acme", KeySpec{Name: "k", Role: "owner"})
	_, _, errRotate := n.RotateKey(ctx, "acme", info.ID, 0, "")
	_, _, errMint := n.Mint(ctx, p, TokenSpec{TTL: time.Hour})
	n.clock.add(JWKSMaxAge)
	for i, err := range []error{errCreate, errRotate, errMint, n.RevokeKey(ctx, "acme", info.ID), n.RevokeToken(ctx, "acme", token.ID),
		n.RevokeTokens(ctx, "acme", Revocation{}), n.RotateSigningKeys(ctx), n.Sweep(ctx)} {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	n.enter(text)
	n.enter(tokenText)
}

func TestFacts(t *testing.T) {
	n := newNode(t)
	info, text := n.newKey("owner")
	made, token := n.mint(text, TokenSpec{Subject: "u1", Scopes: []string{"b", "a"}})
	n.clock.add(90 * time.Second)
	key, tok := n.enter(text), n.enter(token)
	is := func(v policy.Value, want policy.Value) {
		t.Helper()
		if fmt.Sprint(v) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", v, want)
		}
	}
	now := n.clock.now()
	is(key.Fact(policy.KeyUsername, "", now), policy.Text("a key"))
	is(key.Fact(policy.KeyUserID, "", now), policy.Text(info.ID))
	is(key.Fact(policy.KeyAuthMethod, "", now), policy.Text("api_key"))
	is(key.Fact(policy.KeyTokenIssueTime, "", now), policy.Value{})
	is(key.Fact(policy.KeyJWTSubject, "", now), policy.Value{})
	is(tok.Fact(policy.KeyUsername, "", now), policy.Text("u1"))
	is(tok.Fact(policy.KeyPrincipalType, "", now), policy.Text("session"))
	is(tok.Fact(policy.KeyJWTID, "", now), policy.Text(made.ID))
	is(tok.Fact(policy.KeyJWTScope, "", now), policy.List([]string{"a", "b"}))
	is(tok.Fact(policy.KeyTokenAge, "", now), policy.Number(90))
	is(tok.Fact(policy.KeyTokenIssueTime, "", now), policy.Date(made.IssuedAt))
	is(tok.Fact(policy.KeyJWTIssuer, "", now), policy.Text("https://larder.test"))
	is(tok.Fact(policy.KeyJWTGroups, "", now), policy.Value{})
	c := &Claims{Extra: map[string][]string{"Team": {"red"}, "x": {"1", "2"}, "groups": {"g"}}}
	is(c.fact(policy.KeyJWTClaim, "team", now), policy.Text("red"))
	is(c.fact(policy.KeyJWTClaim, "x", now), policy.List([]string{"1", "2"}))
	is(c.fact(policy.KeyJWTGroups, "", now), policy.List([]string{"g"}))
	is(c.fact(policy.KeyJWTClaim, "none", now), policy.Value{})
	is((&Context{}).Lookup(policy.KeyProtocol, ""), policy.Value{})
}

func TestAuthenticateAllocatesNothing(t *testing.T) {
	n := newNode(t)
	info, text := n.newKeyOf("acme", KeySpec{Name: "k", Role: "read-write", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	p := n.enter(text)
	if got := testing.AllocsPerRun(1000, func() {
		if _, err := n.Authenticate(UseData, text, somewhere); err != nil {
			t.Error(err)
		}
	}); got != 0 {
		t.Errorf("Authenticate of key %s: %v allocations", info.ID, got)
	}
	if got := testing.AllocsPerRun(1000, func() {
		if _, err := n.Recheck(p, UseData, somewhere); err != nil {
			t.Error(err)
		}
	}); got != 0 {
		t.Errorf("Recheck: %v allocations", got)
	}
	_, token := n.mint(text, TokenSpec{Policy: []byte(mayGet)})
	q := n.enter(token)
	req, c, key := &policy.Request{Action: policy.CacheGet}, &Context{Now: n.clock.now()}, []byte("k")
	if got := testing.AllocsPerRun(1000, func() {
		req.Resource = policy.NewItem("local", "acme", "main", "key", key)
		if q.Decide(req, c).Decision == policy.Deny {
			t.Error("denied")
		}
	}); got != 0 {
		t.Errorf("Decide for a token: %v allocations", got)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	n := newNode(b)
	_, text := n.newKey("read-write")
	_, token := n.mint(text, TokenSpec{Policy: []byte(mayGet)})
	for _, bc := range []struct{ name, credential string }{{"key", text}, {"token", token}} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := n.Authenticate(UseData, bc.credential, somewhere); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("key in parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := n.Authenticate(UseData, text, somewhere); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
