package redisapi

import (
	"fmt"
	"strconv"
	"testing"
)

// level is what CLIENT CONSISTENCY answers.
func level(wanted, last string, age int) string {
	text := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	return "*6\r\n" + text("consistency") + text(wanted) + text("last") + text(last) + text("age-ms") + fmt.Sprintf(":%d\r\n", age)
}

// READONLY and CLIENT CONSISTENCY say how current the reads of a connection are; what has to be as new as the leader's word is.
func TestConsistencyOfAConnection(t *testing.T) {
	s := newService(t, nil)
	who := newTenant(t)
	p := s.login(t, who)
	last := func(wanted, last string, age int) {
		t.Helper()
		p.do(level(wanted, last, age), "CLIENT", "CONSISTENCY")
	}
	p.do("+OK\r\n", "SET", "k", "v")
	last("default", "linearizable", 0)
	p.do("$1\r\nv\r\n", "GET", "k")
	last("default", "linearizable", 0)
	p.do("+OK\r\n", "READONLY")
	p.do("$1\r\nv\r\n", "GET", "k")
	last("eventual", "eventual", 1500)
	p.do("+OK\r\n", "SET", "k", "w")
	last("eventual", "linearizable", 0)

	p.do("+OK\r\n", "MULTI")
	p.do("+QUEUED\r\n", "GET", "k")
	p.do("*1\r\n$1\r\nw\r\n", "EXEC")
	last("eventual", "eventual", 1500)

	p.do("+OK\r\n", "WATCH", "k") // what is decided by what is read is decided by the newest
	p.do("$1\r\nw\r\n", "GET", "k")
	last("eventual", "linearizable", 0)
	p.do("+OK\r\n", "UNWATCH")
	p.do("$1\r\nw\r\n", "GET", "k")
	last("eventual", "eventual", 1500)

	p.do("+OK\r\n", "CLIENT", "CONSISTENCY", "Leader")
	p.do("$1\r\nw\r\n", "GET", "k")
	last("leader", "leader", 0)
	p.do("-ERR consistency is one of linearizable, leader, eventual and default, not 'strong'\r\n", "CLIENT", "CONSISTENCY", "strong")
	p.do("-ERR wrong number of arguments for 'client|consistency' command\r\n", "CLIENT", "CONSISTENCY", "leader", "x")
	last("leader", "leader", 0)
	p.do("+OK\r\n", "READWRITE")
	last("default", "leader", 0)

	p.do("+OK\r\n", "READONLY")
	p.do("+RESET\r\n", "RESET")
	p.authenticate(who)
	last("default", "leader", 0)
}

// A client that keeps copies hears of changes from the leader, and would keep what a replica still has for ever.
func TestTrackingReadsTheLeader(t *testing.T) {
	s := newService(t, nil)
	who := newTenant(t)
	p := s.login(t, who)
	s.login(t, who)
	id := strconv.FormatInt(s.lastID.Load(), 10)
	p.do("+OK\r\n", "SET", "k", "v")
	p.do("+OK\r\n", "READONLY")
	p.do("+OK\r\n", "CLIENT", "TRACKING", "ON", "REDIRECT", id)
	p.do("$1\r\nv\r\n", "GET", "k")
	p.do(level("eventual", "linearizable", 0), "CLIENT", "CONSISTENCY")
	p.do("+OK\r\n", "CLIENT", "TRACKING", "OFF")
	p.do("$1\r\nv\r\n", "GET", "k")
	p.do(level("eventual", "eventual", 1500), "CLIENT", "CONSISTENCY")
}
