package redisapi

import (
	"bytes"
	"fmt"
	"testing"
)

// parse takes commands from input that comes in pieces of so many bytes. It returns all that came of it.
func parse(in []byte, size int) string {
	p := parser{}
	p.limits(1000, 1<<20)
	var log bytes.Buffer
	var have []byte
	for i := 0; i < len(in); i += size {
		have = append(have, in[i:min(i+size, len(in))]...)
		for {
			args, n, err := p.next(have, nil)
			if err != nil {
				fmt.Fprintf(&log, "%v", err)
				return log.String()
			}
			if n == 0 {
				break
			}
			fmt.Fprintf(&log, "%q\n", args)
			have = have[n:]
		}
	}
	fmt.Fprintf(&log, "%d left, begun %v", len(have), p.begun())
	return log.String()
}

// The parser panics at nothing, and takes the same from its input however that is cut.
func FuzzParser(f *testing.F) {
	for _, s := range streams {
		f.Add([]byte(s.in), byte(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, size byte) {
		if len(in) > maxInline {
			return // a line that long is told off differently when its end is there already
		}
		if whole, split := parse(in, max(len(in), 1)), parse(in, int(size)+1); whole != split {
			t.Errorf("whole:\n%.500s\nin pieces of %d:\n%.500s", whole, int(size)+1, split)
		}
	})
}

// A session that somebody has logged in to panics at nothing, and what it says is bounded however it is asked.
func FuzzSession(f *testing.F) {
	for _, s := range streams {
		f.Add([]byte(s.in), byte(3))
	}
	f.Add([]byte(command("HELLO", "3")+command("CLIENT", "TRACKING", "ON", "BCAST")+command("SET", "a", "1")), byte(0))
	f.Add([]byte(command("WATCH", "a")+command("MULTI")+command("PING")+command("GET", "a")+command("EXEC")), byte(0))
	f.Add([]byte(command("MONITOR")+command("CLIENT", "LIST")+command("INFO")), byte(9))
	var server *Server
	var who someone
	f.Fuzz(func(t *testing.T, in []byte, size byte) {
		if server == nil {
			server, who = New(theWorld.config), newTenant(t)
		}
		b := newBare(t, server)
		if got := string(b.feed([]byte(command("AUTH", who.key) + command("FLUSHALL")))); got != "+OK\r\n+OK\r\n" {
			t.Fatal(got)
		}
		in = in[:min(len(in), maxInline)]
		for i := 0; i < len(in) && !b.Closing() && !b.Blocked(); i += int(size) + 1 {
			b.in = append(b.in, in[i:min(i+int(size)+1, len(in))]...)
			for {
				lent := bytes.Clone(b.in)
				used := b.Feed(lent)
				clear(lent)
				if used < 0 || used > len(b.in) {
					t.Fatalf("%d of %d bytes used", used, len(b.in))
				}
				b.in = b.in[used:]
				n := len(b.settle())
				b.Attend()
				n += len(b.settle())
				if n > softOutput+2*maxBulkTest && !b.away.quick {
					t.Fatalf("%d bytes of replies", n)
				}
				if b.Closing() || b.Blocked() || len(b.in) == 0 || used == 0 && n == 0 {
					break
				}
			}
		}
		b.Close()
	})
}

// maxBulkTest is what one reply has at most in the cache of these tests: a value, whose cache has the usual limit.
const maxBulkTest = 16 << 20
