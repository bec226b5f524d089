package auth

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/sdk"
)

// signedByBotocore was made by SigV4QueryAuth of botocore 1.43.11, AWS's own library for Python, with the access key
// AbCdEfGhIj12 and the SHA-256 of "some text" for a secret.
const signedByBotocore = "main/?Action=connect&User=AbCdEfGhIj12&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AbCdEfGhIj12%2F20261127%2Feu-central-1%2Flarder%2Faws4_request&X-Amz-Date=20261127T080000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=fd33db5a727ae3ef3929a54f2b0b947aea35d449bbbe80c374460129ae670d54"

func TestSignersOfAWSPresign(t *testing.T) {
	p, err := parsePresigned(signedByBotocore)
	if err != nil {
		t.Fatal(err)
	}
	if p.cache != "main" || p.key != "AbCdEfGhIj12" || p.life != PresignedLife || !p.at.Equal(time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", p)
	}
	right, wrong := Hash("some text"), Hash("some other text")
	if !p.fits(&right) || p.fits(&wrong) || p.fits(nil) {
		t.Error("the signature is judged wrongly")
	}
}

// Whatever is changed about a presigned password, it opens nothing.
func TestPresignedPasswordsCannotBeChanged(t *testing.T) {
	right := Hash("some text")
	good := func(text string) bool {
		p, err := parsePresigned(text)
		return err == nil && p.fits(&right)
	}
	for i := range signedByBotocore {
		for _, c := range []byte{signedByBotocore[i] ^ 1, '0', 'z', '&', '%', ' '} {
			text := signedByBotocore[:i] + string(c) + signedByBotocore[i+1:]
			if text != signedByBotocore && good(text) {
				p, _ := parsePresigned(text)
				q, _ := parsePresigned(signedByBotocore)
				if *p != *q { // another spelling of the same, such as %2f
					t.Errorf("byte %d changed to %q: it passes as %+v", i, c, p)
				}
			}
		}
	}
	for name, text := range map[string]string{
		"empty":                "/?",
		"cut":                  signedByBotocore[:len(signedByBotocore)-1],
		"longer":               signedByBotocore + "0",
		"another parameter":    signedByBotocore + "&a=b",
		"a parameter twice":    signedByBotocore + "&Action=connect",
		"a token of a session": signedByBotocore + "&X-Amz-Security-Token=t",
		"no action":            strings.Replace(signedByBotocore, "Action=connect&", "", 1),
		"another action":       strings.Replace(signedByBotocore, "connect", "delete", 1),
		"with a scheme":        "http://" + signedByBotocore,
		"a path":               strings.Replace(signedByBotocore, "main/", "main/x", 1),
		"a port":               strings.Replace(signedByBotocore, "main/", "main:80/", 1),
		"another service":      strings.Replace(signedByBotocore, "larder", "elasticache", 1),
		"too long":             signedByBotocore + strings.Repeat("&", maxPresigned),
		"an hour":              strings.Replace(signedByBotocore, "=900", "=3600", 1),
		"no time":              strings.Replace(signedByBotocore, "=900", "=0", 1),
		"a time with a unit":   strings.Replace(signedByBotocore, "=900", "=1m", 1),
	} {
		if good(text) {
			t.Errorf("%s: it passes", name)
		}
	}
}

var here = netip.MustParseAddr("192.0.2.1")

// A41: a presigned password lives fifteen minutes, opens the cache and the key that were signed, again and again, and its
// connection lasts twelve hours.
func TestPresignedLogin(t *testing.T) {
	n := newNode(t)
	info, text := n.newKeyOf("acme", KeySpec{Name: "k", Role: "owner", DefaultCache: "other"})
	_, second := n.newKey("owner")
	signedAt := n.clock.now()
	password, err := larder.PresignPassword(text, "main", signedAt)
	if err != nil {
		t.Fatal(err)
	}
	enter := func(user string) (*Principal, string, error) { return n.Login(user, password, here) }
	for _, user := range []string{"", "default", "main", info.ID} {
		p, cache, err := enter(user)
		if err != nil || cache != "main" {
			t.Fatalf("user %q: cache %q, %v", user, cache, err)
		}
		if p.ID != info.ID || p.Tenant != "acme" || p.AuthMethod != MethodPresigned || !p.Opens(UseData) || p.Opens(UseManage) || p.Opens(UseRefresh) {
			t.Errorf("user %q: %+v", user, p)
		}
		if !n.may(p, policy.CacheGet, "k") {
			t.Error("it may not do what its key may")
		}
	}
	for _, user := range []string{"other", "main2", strings.ToLower(info.ID) + "x", "MAIN", n.enter(second).ID} {
		if _, _, err := enter(user); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("user %q: %v", user, err)
		}
	}
	if _, err := n.Authenticate(UseData, password, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("where there is no connection: %v", err)
	}
	// Signed with another key, or for a key there is not.
	for _, other := range []string{second, strings.Replace(text, info.ID, "000000000000", 1)} {
		forged, err := larder.PresignPassword(other, "main", signedAt)
		if err != nil {
			t.Fatal(err)
		}
		query, _ := url.ParseQuery(forged)
		if _, _, err := n.Login("main", strings.ReplaceAll(forged, query.Get("User"), info.ID), here); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("forged: %v", err)
		}
	}
	n.clock.add(failureWindow)
	n.clock.add(signedAt.Add(PresignedLife - time.Second).Sub(n.clock.now()))
	last, _, err := enter("main")
	if err != nil {
		t.Fatalf("at 14:59: %v", err)
	}
	entered := n.clock.now()
	n.clock.add(time.Second)
	if _, _, err := enter("main"); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("at 15:00: %v", err)
	}
	// The connection outlives the password, through changes of the records, but not for ever.
	n.clock.add(6 * time.Hour)
	n.policy("p", mayGet)
	again, err := n.Recheck(last, UseData, here)
	if err != nil || again == last || again.AuthMethod != MethodPresigned || again.Opens(UseManage) {
		t.Fatalf("after six hours: %+v, %v", again, err)
	}
	n.clock.add(entered.Add(PresignedStay - time.Second).Sub(n.clock.now()))
	if again, err = n.Recheck(again, UseData, here); err != nil {
		t.Fatalf("after 11:59:59: %v", err)
	}
	n.clock.add(time.Second)
	if _, err := n.Recheck(again, UseData, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("after 12 hours: %v", err)
	}
	// A clock that is ahead of ours by more than it may.
	ahead, _ := larder.PresignPassword(text, "main", n.clock.now().Add(MaxLeeway+2*time.Second))
	if _, _, err := n.Login("main", ahead, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("signed in the future: %v", err)
	}
	// It ends with its key.
	fresh, _ := larder.PresignPassword(text, "main", n.clock.now())
	p, _, err := n.Login("main", fresh, here)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.RevokeKey(t.Context(), "acme", info.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Recheck(p, UseData, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a connection of a revoked key: %v", err)
	}
	if _, _, err := n.Login("main", fresh, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a password of a revoked key: %v", err)
	}
}

// The end of a key is the end of its connections also when that comes before twelve hours.
func TestPresignedEndsWithTheKey(t *testing.T) {
	n := newNode(t)
	_, text := n.newKeyOf("acme", KeySpec{Name: "k", Role: "owner", ExpiresAt: n.clock.now().Add(time.Hour), Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	password, _ := larder.PresignPassword(text, "main", n.clock.now())
	if _, _, err := n.Login("", password, netip.MustParseAddr("198.51.100.1")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("from another network: %v", err)
	}
	p, _, err := n.Login("", password, here)
	if err != nil {
		t.Fatal(err)
	}
	n.clock.add(time.Hour)
	if _, err := n.Recheck(p, UseData, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("after the key's end: %v", err)
	}
}

// Who guesses at presigned passwords has to wait like others.
func TestPresignedGuessesAreBounded(t *testing.T) {
	n := newNode(t)
	_, text := n.newKey("owner")
	password, _ := larder.PresignPassword(text, "main", n.clock.now())
	wrong := password[:len(password)-4] + "0000"
	for range maxFailures {
		if _, _, err := n.Login("", wrong, here); !fault.Is(err, fault.Unauthenticated) {
			break
		}
	}
	if _, _, err := n.Login("", wrong, here); !fault.Is(err, fault.Throttled) {
		t.Errorf("one guess more: %v", err)
	}
	if _, _, err := n.Login("", password, netip.MustParseAddr("198.51.100.9")); err != nil {
		t.Errorf("the owner from elsewhere: %v", err)
	}
}

func FuzzPresigned(f *testing.F) {
	f.Add(signedByBotocore)
	f.Add("/?")
	f.Add("main/?Action=connect;User=%zz")
	digest := Hash("some text")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePresigned(text)
		if err != nil {
			return
		}
		if q, err := parsePresigned(signedByBotocore); err == nil && p.fits(&digest) && *p != *q {
			t.Errorf("forged: %q", text)
		}
	})
}
