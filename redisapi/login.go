package redisapi

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// connect is what a login asks for.
var connect = engine.Call{Command: engine.MustLookup("AUTH"), Args: [][]byte{[]byte("AUTH"), nil}}

// login lets a client in to a cache. The error is what it is told; a cache that does not exist answers like one that the
// credential may not use.
func (s *Session) login(user, password []byte) error {
	if err := s.server.clear(s); err != nil {
		return err
	}
	p, name, err := s.identify(string(user), string(password))
	if err != nil {
		var refusal *auth.Refusal
		if errors.As(err, &refusal) {
			s.server.Log.Info("a login was refused", "protocol", "redis", "peer", s.caller.Peer, "reason", refusal)
		}
		if fault.Is(err, fault.Throttled) || fault.Is(err, fault.Denied) {
			return err
		}
		return wrongPass()
	}
	return s.admit(p, name)
}

// identify finds out who a client is. One that has shown a certificate needs no password.
func (s *Session) identify(user, password string) (*auth.Principal, string, error) {
	if password == "" && s.certificate != nil {
		return s.server.Identity.LoginCertificate(user, s.certificate, s.caller.Source)
	}
	return s.server.Identity.Login(user, password, s.caller.Source)
}

// present takes a client's certificate, which was verified, and lets the client in if that is enough. If not, it may log in with
// a password.
func (s *Session) present(leaf *x509.Certificate) {
	if s.certificate = leaf; leaf != nil {
		_ = s.login(nil, nil) // why not is in the log, and NOAUTH is what the client hears
	}
}

// admit lets a principal in to a cache.
func (s *Session) admit(p *auth.Principal, name string) error {
	asking := s.caller
	asking.Principal = p
	if err := s.server.Gateway.Refusal(&asking, name, connect); err != nil {
		return wrongPass()
	}
	cache := s.server.Gateway.Cache(&asking, name)
	if cache == nil {
		return wrongPass()
	}
	if s.Known() {
		s.logout()
	}
	s.caller.Principal, s.cache = p, name
	s.principal.Store(p)
	s.in.limits(maxArguments, int(min(int64(maxBulk), max(cache.MaxValue, 1<<20))+1<<10))
	s.facts.mu.Lock()
	s.facts.user = userOf(p)
	s.facts.mu.Unlock()
	s.server.enter(s, cache)
	return nil
}

func wrongPass() error {
	e := fault.New(fault.Unauthenticated, "redisapi.login", "invalid username-password pair or user is disabled.")
	return e
}

// authenticate serves AUTH.
func authenticate(s *Session, _ *engine.Command, args [][]byte) {
	var user []byte
	switch len(args) {
	case 2:
	case 3:
		user = args[1]
	default:
		s.out.ErrorText("ERR syntax error")
		return
	}
	if err := s.login(user, args[len(args)-1]); err != nil {
		s.out.Error(fault.From(err))
		return
	}
	s.out.Status("OK")
}

// hello serves HELLO.
func hello(s *Session, _ *engine.Command, args [][]byte) {
	proto := s.out.proto
	if len(args) > 1 {
		n, err := strconv.Atoi(string(args[1]))
		if err != nil {
			s.out.ErrorText("ERR Protocol version is not an integer or out of range")
			return
		}
		if n != 2 && n != 3 {
			s.out.ErrorText("NOPROTO unsupported protocol version")
			return
		}
		proto = n
	}
	var name []byte
	named, asked := false, false
	var user, password []byte
	for i := 2; i < len(args); {
		switch left := len(args) - i - 1; {
		case equalFold(args[i], "AUTH") && left >= 2:
			user, password, asked = args[i+1], args[i+2], true
			i += 3
		case equalFold(args[i], "SETNAME") && left >= 1:
			name, named = args[i+1], true
			i += 2
		default:
			s.out.ErrorText(fmt.Sprintf("ERR Syntax error in HELLO option '%.128s'", args[i]))
			return
		}
	}
	if named && !printableName(name) {
		s.out.ErrorText("ERR Client names cannot contain spaces, newlines or special characters.")
		return
	}
	if asked {
		if err := s.login(user, password); err != nil {
			s.out.Error(fault.From(err))
			return
		}
	}
	if !s.Known() {
		s.out.ErrorText("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return
	}
	if named {
		s.setName(string(name))
	}
	s.out.proto = proto
	s.facts.mu.Lock()
	s.facts.proto = proto
	s.facts.mu.Unlock()
	s.out.Map(7)
	s.out.Text("server")
	s.out.Text("redis")
	s.out.Text("version")
	s.out.Text(RedisVersion)
	s.out.Text("proto")
	s.out.Int(int64(proto))
	s.out.Text("id")
	s.out.Int(s.id)
	s.out.Text("mode")
	s.out.Text("standalone")
	s.out.Text("role")
	s.out.Text("master")
	s.out.Text("modules")
	s.listModules()
}

// RedisVersion is the version of Redis whose commands and replies clients may count on.
const RedisVersion = "7.4.0"

func (s *Session) setName(name string) {
	s.facts.mu.Lock()
	s.facts.name = name
	s.facts.mu.Unlock()
}

// maxName is how many bytes the name of a connection or of a library has at most.
const maxName = 1024

// printableName reports whether a name fits into a line of CLIENT LIST.
func printableName(name []byte) bool {
	if len(name) > maxName {
		return false
	}
	for _, c := range name {
		if c < '!' || c > '~' {
			return false
		}
	}
	return true
}

// quit serves QUIT.
func quit(s *Session, _ *engine.Command, _ [][]byte) {
	s.out.Status("OK")
	s.end("quit", nil)
}

// reset serves RESET.
func reset(s *Session, _ *engine.Command, _ [][]byte) {
	s.logout()
	s.out.proto, s.silence, s.untouching, s.level = 2, speak, false, engine.DefaultConsistency
	s.setName("")
	s.facts.mu.Lock()
	s.facts.proto, s.facts.flags = 2, clientFlags{redirect: -1}
	s.facts.mu.Unlock()
	s.present(s.certificate) // as when the connection began
	s.out.Status("RESET")
}

func equalFold(arg []byte, upper string) bool {
	if len(arg) != len(upper) {
		return false
	}
	for i, c := range arg {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}
