package redisapi

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/certs"
	"github.com/larder-cache/larder/internal/wire"
	larder "github.com/larder-cache/larder/sdk"
)

// A41 over Redis; package auth has the clock that tests how long it lasts.
func TestPresignedPassword(t *testing.T) {
	who := newOwner(t)
	key := who.key(t, policy.RoleOwner)
	password, err := larder.PresignPassword(key, "main", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	late, _ := larder.PresignPassword(key, "main", time.Now().Add(-larder.PresignLife))
	p := who.connect(t, policy.RoleReadOnly)
	for _, user := range []string{"main", "default"} {
		p.want("+OK\r\n", "AUTH "+user+" "+password)
		p.want("+OK\r\n", "SET k v")
	}
	p.want("+OK\r\n", "AUTH "+password)
	p.want("-WRONGPASS *", "AUTH other "+password)
	p.want("-WRONGPASS *", "AUTH main "+late)
	p.want("-WRONGPASS *", "AUTH main "+strings.Replace(password, "main/", "nain/", 1))
	p.want("%7\r\n*", "HELLO 3 AUTH main "+password)
	p.want("+OK\r\n", "MULTI")
	p.want("-ERR Command not allowed inside a transaction\r\n", "AUTH main "+password)
	p.want("-EXECABORT *", "EXEC")
}

// A client whose certificate names a key is logged in as that key from the beginning.
func TestLoginByCertificate(t *testing.T) {
	ca, foreign := certs.New(t), certs.New(t)
	s := newService(t, func(c *Config, _ *wire.Patience) {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Server()}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool()}
	})
	who := newTenant(t)
	info, _, err := theWorld.keys.CreateKey(t.Context(), who.tenant, auth.KeySpec{Name: "k", Role: "owner", ClientCertificate: true})
	if err != nil {
		t.Fatal(err)
	}
	plain, _, err := theWorld.keys.CreateKey(t.Context(), who.tenant, auth.KeySpec{Name: "k", Role: "owner"})
	if err != nil {
		t.Fatal(err)
	}
	dial := func(leaf ...tls.Certificate) *peer {
		return newPeer(t, tls.Client(s.dial(t, ""), &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", Certificates: leaf}))
	}
	p := dial(ca.Client(info.ID, nil))
	p.do("+OK\r\n", "SET", "k", "v")
	p.do("$12\r\n"+info.ID+"\r\n", "ACL", "WHOAMI")
	p.do("+RESET\r\n", "RESET")
	p.do("$1\r\nv\r\n", "GET", "k")
	p.do("+OK\r\n", "AUTH", "main", "") // the certificate is the password
	p.do("-WRONGPASS invalid username-password pair or user is disabled.\r\n", "AUTH", "other", "")
	p.do("+OK\r\n", "AUTH", who.key) // or somebody else's password
	for name, leaf := range map[string][]tls.Certificate{"none": nil, "a key that is not for certificates": {ca.Client(plain.ID, nil)}, "no key": {ca.Client("web", nil)}} {
		t.Run(name, func(t *testing.T) {
			p := dial(leaf...)
			p.do("-NOAUTH Authentication required.\r\n", "GET", "k")
			p.do("-WRONGPASS invalid username-password pair or user is disabled.\r\n", "AUTH", "main", "")
			p.do("+OK\r\n", "AUTH", who.key)
		})
	}
	t.Run("of another authority", func(t *testing.T) {
		p := dial(foreign.Client(info.ID, nil))
		_, err := p.Write([]byte(command("PING")))
		if err == nil {
			_, err = p.Read(make([]byte, 1))
		}
		if err == nil {
			t.Error("it is served")
		}
	})
	if err := theWorld.keys.RevokeKey(t.Context(), who.tenant, info.ID); err != nil {
		t.Fatal(err)
	}
	p = dial(ca.Client(info.ID, nil))
	p.do("-NOAUTH Authentication required.\r\n", "GET", "k")
}
