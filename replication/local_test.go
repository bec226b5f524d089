package replication

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testCache = engine.CacheID{1}

// A hand is a clock turned by hand.
type hand struct{ ms atomic.Int64 }

func (h *hand) Now() int64 { return h.ms.Load() }

func newLocal(t *testing.T, s engine.Settings) (*Local, *hand) {
	t.Helper()
	clock := &hand{}
	clock.ms.Store(1_800_000_000_000)
	l := NewLocal(engine.Seed{1, 2}, clock, [32]byte{3}, slog.New(slog.DiscardHandler))
	if err := l.Execute(t.Context(), engine.ConfigureTask(testCache, s)); err != nil {
		t.Fatal(err)
	}
	return l, clock
}

// do runs one command and returns the first piece of its answer.
func do(t testing.TB, l *Local, args ...string) engine.Token {
	t.Helper()
	var reply engine.Recording
	call := engine.Call{Command: engine.MustLookup(args[0])}
	for _, a := range args {
		call.Args = append(call.Args, []byte(a))
	}
	if err := l.Execute(context.Background(), &engine.Task{Cache: testCache, Calls: []engine.Call{call}, Reply: &reply}); err != nil {
		t.Fatal(err)
	}
	c := reply.Cursor()
	return c.Next()
}

func TestAClockSetBackRevivesNothing(t *testing.T) {
	l, clock := newLocal(t, engine.Settings{})
	do(t, l, "SET", "k", "v", "PX", "1000")
	clock.ms.Add(1000)
	if got := do(t, l, "GET", "k"); got.Kind != engine.ReplyNull { // a query that has seen the time
		t.Fatalf("at its deadline: %q", got.Bytes)
	}
	clock.ms.Add(-500)
	if got := do(t, l, "GET", "k"); got.Kind != engine.ReplyNull {
		t.Errorf("the clock was set back and the key lives again: %q", got.Bytes)
	}
	if got := do(t, l, "EXPIRE", "k", "100"); got.Int != 0 {
		t.Error("an expired key was given a new deadline")
	}
}

func TestADeadlineThatHasPassedBeginsNothing(t *testing.T) {
	l, _ := newLocal(t, engine.Settings{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.Execute(ctx, engine.DropTask(testCache))
	if !fault.Is(err, fault.Timeout) {
		t.Errorf("got %v", err)
	}
	if _, ok := l.Stats(testCache); !ok {
		t.Error("the task was carried out")
	}
}

func TestAFullCacheMakesRoom(t *testing.T) {
	const limit = 1 << 20
	l, _ := newLocal(t, engine.Settings{MemoryLimit: limit})
	for i := range 5000 {
		if got := do(t, l, "SET", "key-"+strconv.Itoa(i), fmt.Sprintf("%0500d", i)); got.Kind != engine.ReplyStatus {
			t.Fatalf("write %d: %v", i, got.Err)
		}
	}
	s, _ := l.Stats(testCache)
	if s.Bytes > limit || s.Evicted == 0 || s.Items < 1000 {
		t.Errorf("%+v under a limit of %d bytes", s, limit)
	}
}

func TestABrokenPartitionStopsAlone(t *testing.T) {
	l, _ := newLocal(t, engine.Settings{})
	neighbour, _ := newLocal(t, engine.Settings{})
	bad := engine.Call{Command: engine.MustLookup("GET"), Args: [][]byte{[]byte("GET"), []byte("k")}}
	err := l.Execute(t.Context(), &engine.Task{Cache: testCache, Calls: []engine.Call{bad}, Reply: exploding{}})
	if !fault.Is(err, fault.Internal) {
		t.Fatalf("a panic came out as %v", err)
	}
	if err := l.Execute(t.Context(), engine.DropTask(testCache)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after a panic the partition answers %v", err)
	}
	if s, ok := l.Stats(testCache); ok {
		t.Errorf("after a panic the partition still counts: %+v", s)
	}
	if got := do(t, neighbour, "SET", "k", "v"); got.Kind != engine.ReplyStatus {
		t.Errorf("the neighbour answers %v", got.Err)
	}
}

// exploding is a Reply that breaks while the partition is being asked.
type exploding struct{ engine.Reply }

func (exploding) Null() { panic("broken invariant") }

func TestIncrementsFromManyGoroutinesAllCount(t *testing.T) {
	l, _ := newLocal(t, engine.Settings{})
	const clients, each = 16, 500
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range each {
				do(t, l, "INCR", "n")
				do(t, l, "GET", "n")
			}
		})
	}
	all.Wait()
	if got := do(t, l, "INCRBY", "n", "0"); got.Int != clients*each {
		t.Errorf("counted %d of %d", got.Int, clients*each)
	}
}

func TestTheHostSweepsWhatExpired(t *testing.T) {
	clock := &hand{}
	clock.ms.Store(1_800_000_000_000)
	h := NewHost(clock, slog.New(slog.DiscardHandler))
	h.Start(&placement.Partition{ID: 7})
	h.Start(&placement.Partition{ID: 7}) // again changes nothing
	l := h.Local(7)
	if l == nil || h.Local(8) != nil {
		t.Fatal("the host does not know its replicas")
	}
	if err := l.Execute(t.Context(), engine.ConfigureTask(testCache, engine.Settings{})); err != nil {
		t.Fatal(err)
	}
	const items = 3 * sweepBatch
	for i := range items {
		do(t, l, "SET", strconv.Itoa(i), "v", "PX", "1000")
	}
	do(t, l, "SET", "stays", "v")
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { h.Run(ctx) })
	defer run.Wait()
	defer cancel()
	clock.ms.Add(1000)
	for tries := 0; ; tries++ {
		if s, _ := l.Stats(testCache); s.Items == 1 && s.Expired == items {
			return
		} else if tries == 1000 {
			t.Fatalf("still %+v", s)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestTheSteadyClockRunsOn(t *testing.T) {
	c := NewSteadyClock()
	a := c.Now()
	if off := a - time.Now().UnixMilli(); off < -1000 || off > 1000 {
		t.Errorf("the clock is off by %d ms", off)
	}
	time.Sleep(5 * time.Millisecond)
	if b := c.Now(); b <= a {
		t.Errorf("the clock stands: %d, then %d", a, b)
	}
}
