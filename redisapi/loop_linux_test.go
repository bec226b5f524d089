package redisapi

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/larder-cache/larder/internal/wire"
)

// A client over TLS that waits, with more behind it than is read meanwhile, is noticed when it goes away.
func TestABlockedTLSClientThatGoesIsNoticed(t *testing.T) {
	config := certificate(t)
	s := newService(t, func(c *Config, _ *wire.Patience) { c.TLS = config })
	who := newTenant(t)
	p := newPeer(t, tls.Client(s.dial(t, ""), &tls.Config{InsecureSkipVerify: true}))
	p.authenticate(who)
	p.send(command("BLPOP", "none", "0"))
	eventually(t, "it waits", func() bool {
		for _, c := range s.everybody() {
			if c.facts.blocked.Load() {
				return true
			}
		}
		return false
	})
	p.send(strings.Repeat(command("PING"), (1<<20)/len(command("PING"))+2000))
	if err := p.Conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is gone", func() bool { return s.connections() == 0 })
}
