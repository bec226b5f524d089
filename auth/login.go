package auth

import (
	"errors"
	"net/netip"
	"strings"
	"time"
)

// MainCache is the cache that a login means which names none, with a credential that names none either.
const MainCache = "main"

// Login lets a client of a socket protocol in: it says who the client is and which cache its connection is for, whether or
// not there is one. The password is an API key, a token, or presigned; the user is a cache, or "default", the key's id or
// nothing for the one that the credential is for. Refusals are as those of Authenticate.
func (a *Authenticator) Login(user, password string, source netip.Addr) (p *Principal, cache string, err error) {
	if looksPresigned(password) {
		return a.loginPresigned(user, password, source)
	}
	if p, err = a.Authenticate(UseData, password, source); err != nil {
		return nil, "", err
	}
	return p, p.cacheFor(user), nil
}

// cacheFor is the cache that a user stands for.
func (p *Principal) cacheFor(user string) string {
	switch {
	case user != "" && user != "default" && user != p.ID:
		return user
	case p.DefaultCache != "":
		return p.DefaultCache
	}
	return MainCache
}

// loginPresigned lets in who shows a presigned password, to the cache that was signed and no other.
func (a *Authenticator) loginPresigned(user, password string, source netip.Addr) (*Principal, string, error) {
	now := a.s.now()
	signed, err := parsePresigned(password)
	if err != nil {
		return nil, "", a.failed(err, "", source, now)
	}
	if wait := a.sources.wait(origin(source), now); wait > 0 {
		return nil, "", throttled(wait)
	}
	p, err := a.s.presignedPrincipal(signed, now)
	if err == nil {
		err = p.admit(UseData, source)
	}
	if err == nil && user != "" && user != "default" && user != p.ID && user != signed.cache {
		err = refuse(WrongUse, "presigned: for another cache or user")
	}
	if err != nil {
		return nil, "", a.failed(err, strings.Clone(signed.key), source, now)
	}
	touch(p.used, now)
	return p, signed.cache, nil
}

// failed counts an attempt that was refused, of a key if its id is known, and returns what the client hears.
func (a *Authenticator) failed(err error, key string, source netip.Addr, now time.Time) error {
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	wait := a.sources.fail(origin(source), now)
	// Of a key whose id is guessed at from many places, the right text still opens the door: to know the id
	// must not be enough to lock its owner out.
	if key != "" {
		wait = max(wait, a.ids.fail(key, now))
	}
	if wait > 0 {
		return throttled(wait)
	}
	return refused(refusal)
}

// visit makes p, which nobody shares yet, the principal of one connection that came in by another way than the key's text:
// for data alone, and until an instant at most.
func (p *Principal) visit(method string, until time.Time) {
	p.AuthMethod, p.visits = method, until
	if p.until.IsZero() || until.Before(p.until) {
		p.until, p.Expires = until, until
	}
}
