package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Who listens to a cache while its slots move and its leaders change: to messages, to keyspace notifications, and to what
// becomes of keys of which it keeps copies.

// A keeper is a client of RESP3 that keeps copies of what it reads, and drops those that it is told to.
type keeper struct {
	*client
	copies map[string]string
	latest map[string]int // that were read
	own    string         // a key that nobody else writes; "" for a client that hears of its own writes
	fault  error
}

// newKeeper begins to track, with options of CLIENT TRACKING.
func newKeeper(t *testing.T, addr, key string, options ...string) *keeper {
	t.Helper()
	k := &keeper{client: newClient(t, addr, key), copies: map[string]string{}, latest: map[string]int{}}
	for _, args := range [][]string{{"HELLO", "3"}, append([]string{"CLIENT", "TRACKING", "ON"}, options...)} {
		if _, err := k.do(args...); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// do sends a command and returns its answer. What is pushed before it is heeded.
func (k *keeper) do(args ...string) (any, error) {
	text := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		text += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	if err := k.c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(k.c, text); err != nil {
		return nil, err
	}
	for {
		got, push, err := k.value()
		if err != nil {
			return nil, err
		}
		if !push {
			return got, nil
		}
		k.heed(got.([]any))
	}
}

// value reads one value of RESP3: nil, a string, or a list.
func (k *keeper) value() (v any, push bool, err error) {
	line, err := k.r.ReadString('\n')
	if err != nil {
		return nil, false, err
	}
	line = strings.TrimRight(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '-':
		return nil, false, fmt.Errorf("answered with %s", line)
	case '_':
		return nil, false, nil
	case '$':
		b := make([]byte, n+2)
		_, err := io.ReadFull(k.r, b)
		return string(b[:n]), false, err
	case '%':
		n *= 2
		fallthrough
	case '*', '~', '>':
		list := []any{}
		for range n {
			one, _, err := k.value()
			if err != nil {
				return nil, false, err
			}
			list = append(list, one)
		}
		return list, line[0] == '>', nil
	}
	return line[1:], false, nil
}

// heed drops copies.
func (k *keeper) heed(push []any) {
	if len(push) != 2 || push[0] != "invalidate" {
		return
	}
	keys, some := push[1].([]any)
	if !some {
		clear(k.copies)
	}
	for _, key := range keys {
		if name := key.(string); name == k.own {
			k.fault = fmt.Errorf("it hears that it has itself changed %s", name)
		}
		delete(k.copies, key.(string))
	}
}

// read reads a key, unless there is a copy. What it reads is never older than what it has read before.
func (k *keeper) read(key string) error {
	if _, kept := k.copies[key]; kept {
		return k.fault
	}
	got, err := k.do("GET", key)
	if err != nil {
		return fmt.Errorf("GET %s: %w", key, err)
	}
	text, _ := got.(string)
	n, _ := strconv.Atoi(text)
	if n < k.latest[key] {
		return fmt.Errorf("GET %s is answered with %d after %d", key, n, k.latest[key])
	}
	k.copies[key], k.latest[key] = text, n
	return k.fault
}

const keptKeys = 48

func keptKey(i int) string { return fmt.Sprint("kept:", i) }

// keeping has a client at each of some addresses keep copies, of each kind there is, while others write. What is returned ends the
// writing: then no copy may stay that is old.
func keeping(t *testing.T, addrs []string, key string) (done func()) {
	var stop atomic.Bool
	var work sync.WaitGroup
	var keepers []*keeper
	written := make([]atomic.Int64, keptKeys)
	for i, options := range [][]string{{}, {"BCAST", "PREFIX", "kept:"}, {"NOLOOP"}} {
		k := newKeeper(t, addrs[i%len(addrs)], key, options...)
		if len(options) > 0 && options[0] == "NOLOOP" {
			k.own = "own"
		}
		keepers = append(keepers, k)
		rng := rand.New(rand.NewPCG(7, uint64(i)))
		work.Go(func() {
			for !stop.Load() {
				err := k.read(keptKey(rng.IntN(keptKeys)))
				if k.own != "" && err == nil {
					if _, err = k.do("INCR", k.own); err == nil {
						_, err = k.do("GET", k.own)
					}
				}
				if err != nil {
					t.Errorf("client %d, which keeps copies: %v", i, err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	writer := newClient(t, addrs[len(addrs)-1], key)
	work.Go(func() {
		for n := int64(1); !stop.Load(); n++ {
			i := n % keptKeys
			if _, err := writer.do("SET", keptKey(int(i)), fmt.Sprint(n)); err != nil {
				t.Error(err)
				return
			}
			written[i].Store(n)
			time.Sleep(time.Millisecond)
		}
	})
	return func() {
		stop.Store(true)
		work.Wait()
		for i, k := range keepers {
			until(t, fmt.Sprintf("client %d keeps nothing old", i), func() bool {
				if _, err := k.do("PING"); err != nil {
					t.Fatal(err)
				}
				for at := range written {
					if kept, ok := k.copies[keptKey(at)]; ok && kept != fmt.Sprint(written[at].Load()) {
						return false
					}
				}
				return true
			})
		}
	}
}

// A subscriber counts what it hears.
type subscriber struct {
	*client
	mu    sync.Mutex
	heard map[string]int
}

// subscribe listens at an address to a channel and to what is written under a prefix.
func subscribe(t *testing.T, addr, key, channel, prefix string) *subscriber {
	t.Helper()
	s := &subscriber{client: newClient(t, addr, key), heard: map[string]int{}}
	for _, args := range [][]string{{"SUBSCRIBE", channel}, {"PSUBSCRIBE", "__keyspace@0__:" + prefix + "*"}} {
		if _, err := s.do(args...); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.c.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	go func() { // until the connection is closed, with the test
		for {
			got, err := s.read()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.heard[got]++
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *subscriber) times(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard[what]
}

const noted = "note:"

func message(i any) string { return fmt.Sprint("message news ", i) }
func notice(i any) string {
	return fmt.Sprintf("pmessage __keyspace@0__:%s* __keyspace@0__:%s%v set", noted, noted, i)
}

// listening has a client at each of some addresses listen, while messages are published and keys written at all of them. What is
// returned ends that: nobody has heard anything twice, and everybody hears what is said from then on, wherever.
func listening(t *testing.T, addrs []string, key string) (done func()) {
	config := newClient(t, addrs[0], key)
	if _, err := config.do("CONFIG", "SET", "notify-keyspace-events", "K$"); err != nil {
		t.Fatal(err)
	}
	var subscribers []*subscriber
	var speakers []*client
	for _, addr := range addrs {
		subscribers = append(subscribers, subscribe(t, addr, key, "news", noted))
		speakers = append(speakers, newClient(t, addr, key))
	}
	// say has something said through each node until everybody has heard it.
	say := func(when string) {
		t.Helper()
		for i, speaker := range speakers {
			for n := 0; ; n++ {
				id := fmt.Sprint(when, i, "-", n)
				if _, err := speaker.do("PUBLISH", "news", id); err != nil {
					t.Fatal(err)
				}
				if _, err := speaker.do("SET", noted+id, "v"); err != nil {
					t.Fatal(err)
				}
				all := func() bool {
					for _, s := range subscribers {
						if s.times(message(id)) == 0 || s.times(notice(id)) == 0 {
							return false
						}
					}
					return true
				}
				for end := time.Now().Add(2 * time.Second); !all() && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				}
				if all() {
					break
				}
				if n == 10 { // a message is promised to nobody, but ten times in a row it does not just happen
					t.Fatalf("%s, somebody does not hear what is said at node %d", when, i)
				}
			}
		}
	}
	say("before")
	var stop atomic.Bool
	var work sync.WaitGroup
	for i, speaker := range speakers {
		work.Go(func() {
			for n := 0; !stop.Load(); n++ {
				for _, args := range [][]string{{"PUBLISH", "news", fmt.Sprint("during", i, "-", n)}, {"SET", fmt.Sprint(noted, "during", i, "-", n), "v"}} {
					if _, err := speaker.do(args...); err != nil {
						t.Errorf("%v: %v", args, err)
						return
					}
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	return func() {
		t.Helper()
		stop.Store(true)
		work.Wait()
		say("after")
		for i, s := range subscribers {
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.heard) < 10 {
				t.Errorf("subscriber %d has heard %d things", i, len(s.heard))
			}
			for what, times := range s.heard {
				if times > 1 {
					t.Errorf("subscriber %d has heard %q %d times", i, what, times)
					break
				}
			}
		}
	}
}
