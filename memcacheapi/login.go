package memcacheapi

import (
	"bytes"
	"crypto/x509"
	"errors"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// connect is what a login asks for.
var connect = engine.Call{Command: engine.MustLookup("AUTH"), Args: [][]byte{[]byte("AUTH"), nil}}

// The text protocol's answers to who has not logged in, in memcached's words.
const (
	notLoggedIn = "CLIENT_ERROR unauthenticated"
	badLogin    = "CLIENT_ERROR authentication failure"
	badEnd      = "CLIENT_ERROR bad command line termination"
	badPair     = "CLIENT_ERROR bad authentication token format"
)

var errNobody = fault.New(fault.Unauthenticated, "memcacheapi.login", "authentication failure")

// logIn lets a client in to a cache. A cache that does not exist answers like one that the credential may not use.
func (s *Session) logIn(user, password []byte) error {
	if !s.caller.Secure && !s.server.Plain && !s.caller.Source.IsLoopback() {
		return fault.New(fault.Denied, "memcacheapi.login", "log in over TLS: this would send the secret in clear text")
	}
	p, name, err := s.server.Identity.Login(string(user), string(password), s.caller.Source)
	if err != nil {
		var refusal *auth.Refusal
		if errors.As(err, &refusal) {
			s.server.Log.Info("a login was refused", "protocol", "memcached", "peer", s.caller.Peer, "reason", refusal)
		}
		if fault.Is(err, fault.Throttled) || fault.Is(err, fault.Denied) {
			return err
		}
		return errNobody
	}
	return s.admit(p, name)
}

// present lets a client in by its certificate, which was verified, if that is enough. If not, it may log in with a password.
func (s *Session) present(leaf *x509.Certificate) {
	p, name, err := s.server.Identity.LoginCertificate("", leaf, s.caller.Source)
	if err == nil {
		err = s.admit(p, name)
	}
	if err != nil {
		s.server.Log.Info("a login by certificate was refused", "protocol", "memcached", "peer", s.caller.Peer, "error", err)
	}
}

// admit lets a principal in to a cache.
func (s *Session) admit(p *auth.Principal, name string) error {
	asking := s.caller
	asking.Principal = p
	if err := s.server.Gateway.Refusal(&asking, name, connect); err != nil {
		return errNobody
	}
	cache := s.server.Gateway.Cache(&asking, name)
	if cache == nil {
		return errNobody
	}
	s.leave()
	s.caller.Principal, s.cache, s.state = p, name, s.server.state(cache)
	s.principal.Store(p)
	s.state.current.Add(1)
	s.out.tally[totalConnections]++
	if s.limit = cache.MaxValue; s.limit <= 0 {
		s.limit = engine.DefaultMaxValue
	}
	return nil
}

// enter logs a session in as its endpoint says.
func (s *Session) enter(as *Implied) error {
	p, err := as.Login(s.caller.Source, s.caller.Secure)
	if err != nil {
		return err
	}
	if err := s.admit(p, as.Cache); err != nil {
		return err
	}
	s.implied.Store(as)
	return nil
}

// asciiLogin reads the text protocol's login: a set of any key whose data is a cache's name and a key's text. It returns
// how many bytes it is done with, 0 when it has not arrived whole.
func (s *Session) asciiLogin(b []byte) int {
	line, n := s.lineOf(b)
	if n <= 0 {
		if n < 0 {
			s.end("a line too long before login", nil)
		}
		return n
	}
	s.alone = true
	s.words = s.words[:0]
	for word, at := nextWord(line, 0); len(word) > 0 && len(s.words) < maxTokens; word, at = nextWord(line, at) {
		s.words = append(s.words, word)
	}
	size := uint32(0)
	ok := false
	if len(s.words) >= 5 && string(s.words[0]) == "set" {
		size, ok = unsigned(s.words[4])
	}
	if !ok || size > maxLogin {
		s.say(notLoggedIn)
		return n
	}
	whole := n + int(size) + 2
	if len(b) < whole {
		s.needs = whole
		return 0
	}
	data := b[n : whole-2]
	if end := bytes.IndexByte(data, 0); end >= 0 {
		data = data[:end]
	}
	user, at := nextWord(data, 0)
	password, _ := nextWord(data, at)
	switch {
	case b[whole-2] != '\r' || b[whole-1] != '\n':
		s.say(badEnd)
	case len(password) == 0:
		s.say(badPair)
	default:
		s.say(s.loginAnswer(user, password))
	}
	return whole
}

func (s *Session) loginAnswer(user, password []byte) string {
	err := s.logIn(user, password)
	s.countLogin(err)
	switch {
	case err == nil:
		return "STORED"
	case fault.Is(err, fault.Unauthenticated):
		return badLogin
	}
	return string(appendFault(nil, fault.From(err)))
}

// countLogin counts one for the cache that it led to, if any.
func (s *Session) countLogin(err error) {
	if err == nil {
		s.out.tally[authCommands]++
	}
}

// saslPlain reads SASL PLAIN's only message: an identity to act for, one to log in as, and a secret.
func saslPlain(data []byte) (user, password []byte, ok bool) {
	parts := bytes.SplitN(data, []byte{0}, 3)
	if len(parts) != 3 || len(parts[2]) == 0 {
		return nil, nil, false
	}
	return parts[1], parts[2], true
}
