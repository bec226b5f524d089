package auth

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// The bounds of guessing. Only attempts that failed count.
const (
	maxFailures    = 20
	failureWindow  = 10 * time.Second
	failuresTables = 16 << 10 // how many addresses, and how many key ids, are remembered
)

// Attempts remembers who failed to authenticate lately.
//
//	G1: of one key, at most maxFailures failures are counted within any failureWindow; from then on it is
//	    told to wait until the oldest of them is that long ago.
//	G2: it remembers at most failuresTables keys, the ones that failed last.
type attempts[K comparable] struct {
	latest atomic.Int64 // when the last failure of anybody was, in Unix nanoseconds

	mu    sync.Mutex
	table *simplelru.LRU[K, *failures]
}

// Failures are the instants of a key's last failures, in Unix nanoseconds, as a ring; 0 stands for none.
type failures struct {
	at   [maxFailures]int64
	next int // where the next one goes, which is where the oldest one stands
}

func newAttempts[K comparable]() *attempts[K] {
	table, err := simplelru.NewLRU[K, *failures](failuresTables, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &attempts[K]{table: table}
}

// wait is how long key has to wait before it may try again; 0 lets it in.
func (a *attempts[K]) wait(key K, now time.Time) time.Duration {
	t := now.UnixNano()
	if t-a.latest.Load() >= int64(failureWindow) {
		return 0 // nobody failed lately: the usual case costs no lock
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if f, ok := a.table.Peek(key); ok {
		return f.wait(t)
	}
	return 0
}

func (f *failures) wait(t int64) time.Duration {
	oldest := f.at[f.next]
	if oldest == 0 {
		return 0
	}
	return max(0, failureWindow-time.Duration(t-oldest))
}

// fail counts a failure of key, unless it had too many already and has to wait.
func (a *attempts[K]) fail(key K, now time.Time) time.Duration {
	t := now.UnixNano()
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.table.Get(key)
	if !ok {
		f = &failures{}
		a.table.Add(key, f)
	}
	if w := f.wait(t); w > 0 {
		return w
	}
	f.at[f.next] = t
	f.next = (f.next + 1) % maxFailures
	if t > a.latest.Load() {
		a.latest.Store(t)
	}
	return 0
}

// origin is what counts as one source: an IPv4 address, or the /64 that one subscriber has of IPv6.
func origin(source netip.Addr) netip.Addr {
	source = source.Unmap().WithZone("")
	if !source.Is6() {
		return source
	}
	p, _ := source.Prefix(64)
	return p.Addr()
}
