package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A target is a server as clients see it.
type target struct {
	addrs []string // connections are spread over them
	users []string // and over these: a cache each
	key   string
	wait  int                           // replicas that a WAIT behind each pipeline names, 0 for none
	used  func() (time.Duration, error) // CPU time of all its processes; nil for unknown
}

// valueSize is how long a value is, and keySpace how many keys there are.
const (
	valueSize = 100
	keySpace  = 100_000
)

func dial(addr, user, key string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "AUTH %s %s\r\n", user, key); err != nil {
		return nil, err
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "+OK\r\n" {
		return nil, fmt.Errorf("AUTH was answered %q: %w", b, err)
	}
	return c, nil
}

// sets has connections send pipelines of SETs for a while, one at a time each, and returns SETs a second.
func (t *target) sets(connections, pipeline int, d time.Duration) (float64, error) {
	var all sync.WaitGroup
	var done, failed atomic.Int64
	var mu sync.Mutex
	var failure error
	conns := make([]net.Conn, connections)
	for i := range conns {
		c, err := dial(t.addrs[i%len(t.addrs)], t.users[i%len(t.users)], t.key)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		conns[i] = c
	}
	end := time.Now().Add(d)
	began := time.Now()
	for i, c := range conns {
		all.Go(func() {
			n, err := t.pipeline(c, pipeline, end, rand.New(rand.NewPCG(uint64(i), 7)))
			done.Add(n)
			if err != nil {
				failed.Add(1)
				mu.Lock()
				failure = err
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), failure
}

// pipeline sends pipelines over one connection until a time.
func (t *target) pipeline(c net.Conn, depth int, end time.Time, rng *rand.Rand) (n int64, err error) {
	value := strings.Repeat("v", valueSize)
	want := strings.Repeat("+OK\r\n", depth)
	replies := len(want)
	if t.wait > 0 {
		replies += 4
	}
	r := bufio.NewReader(c)
	got := make([]byte, replies)
	var b []byte
	for time.Now().Before(end) {
		b = b[:0]
		for range depth {
			b = fmt.Appendf(b, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n", rng.IntN(keySpace), valueSize, value)
		}
		if t.wait > 0 {
			b = fmt.Appendf(b, "*3\r\n$4\r\nWAIT\r\n$1\r\n%d\r\n$4\r\n1000\r\n", t.wait)
		}
		if _, err := c.Write(b); err != nil {
			return n, err
		}
		if _, err := io.ReadFull(r, got); err != nil {
			return n, err
		}
		if string(got[:len(want)]) != want || (t.wait > 0 && got[len(want)+1] != byte('0'+t.wait)) {
			rest, _ := r.Peek(r.Buffered())
			return n, errors.New("an answer that is none: " + string(got[:min(len(got), 200)]) + string(rest[:min(len(rest), 200)]))
		}
		n += int64(depth)
	}
	return n, nil
}
