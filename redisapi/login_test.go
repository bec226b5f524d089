package redisapi

import (
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth/policy"
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
