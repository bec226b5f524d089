package replication

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/placement"
)

// A house is a host with a keeper, which can be left and entered again.
type house struct {
	t     *testing.T
	dir   string
	keys  seal.KMS
	clock *hand
	host  *Host
	k     *Keeper
	stop  context.CancelFunc
	run   sync.WaitGroup
}

const housePartition = 3

func newHouse(t *testing.T) *house {
	h := &house{t: t, dir: t.TempDir(), keys: seal.NewKey(), clock: &hand{}}
	h.clock.ms.Store(1_800_000_000_000)
	h.enter()
	return h
}

// enter starts the partition, and returns when it is loaded.
func (h *house) enter() *Local {
	h.t.Helper()
	log := slog.New(slog.DiscardHandler)
	h.host = NewHost(h.clock, log)
	var err error
	if h.k, err = NewKeeper(h.host, KeeperConfig{Dir: h.dir, Keys: h.keys, Cluster: "c", Node: "n", Log: log, LogSize: 4 << 20, Fail: func(err error) { h.t.Error(err) }}); err != nil {
		h.t.Fatal(err)
	}
	h.host.Start(&placement.Partition{ID: housePartition})
	if err := h.k.Load(); err != nil {
		h.t.Fatal(err)
	}
	h.k.loads.Wait()
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.run.Go(func() { h.k.Run(ctx) })
	return h.local()
}

func (h *house) local() *Local { return h.host.Local(housePartition) }

// leave ends the process in order, but for the hand-over.
func (h *house) leave() {
	h.stop()
	h.run.Wait()
	if err := h.k.Close(); err != nil {
		h.t.Error(err)
	}
}

func (h *house) make(id engine.CacheID, s engine.Settings, class Class) {
	h.t.Helper()
	if err := errors.Join(h.host.Keep(housePartition, id, class), h.host.Configure(housePartition, id, &s)); err != nil {
		h.t.Fatal(err)
	}
}

// contents is a digest of what a cache holds, deadlines and remembered tasks included.
func contents(t *testing.T, l *Local, id engine.CacheID) string {
	t.Helper()
	cuts, err := CutCache(t.Context(), []Holder{l}, id, func(int) engine.CutOptions { return engine.CutOptions{} }, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer cuts[0].Close()
	sp := &engine.CutSplitter{To: func(int, []byte) int { return -1 }, All: 1, Emit: func(*engine.CutPart) error { return nil }}
	if _, err := io.Copy(sp, cuts[0]); err != nil {
		t.Fatal(err)
	}
	if err := sp.Done(); err != nil {
		t.Fatal(err)
	}
	s, _ := l.Stats(id)
	return fmt.Sprintf("%x, %d keys, %d bytes, at %d", sp.Digest, sp.Keys, s.Bytes, sp.Settings.MemoryLimit)
}

// random carries out something that depends on the time, on chance, on what was evicted or on what others did.
func random(t *testing.T, l *Local, id engine.CacheID, dice *rand.Rand) {
	t.Helper()
	key := func() string { return "k" + strconv.Itoa(dice.IntN(200)) }
	pick := [][]string{
		{"SET", key(), strings.Repeat("v", dice.IntN(600))}, {"SET", key(), "x", "PX", strconv.Itoa(1 + dice.IntN(3000))}, {"SET", key(), "nx", "NX"},
		{"INCR", "n" + key()}, {"APPEND", key(), "more"}, {"SADD", "s" + key(), key(), key()}, {"SPOP", "s" + key()}, {"RPUSH", "l" + key(), "a", "b"}, {"LPOP", "l" + key()},
		{"ZADD", "z" + key(), strconv.Itoa(dice.IntN(9)), key()}, {"HSET", "h" + key(), key(), "f"}, {"DEL", key()}, {"EXPIRE", key(), "1"}, {"RENAME", key(), key()},
		{"XADD", "x" + key(), "*", "f", "v"}, {"GETDEL", key()}, {"PERSIST", key()}, {"EVAL", "redis.call('SET', KEYS[1], redis.call('TIME')[1]); return redis.call('INCR', KEYS[2])", "2", key(), "n" + key()},
	}
	task := &engine.Task{Cache: id, Reply: &engine.Recording{}}
	for range 1 + dice.IntN(3) {
		args := pick[dice.IntN(len(pick))]
		call := engine.Call{Command: engine.MustLookup(args[0])}
		for _, a := range args {
			call.Args = append(call.Args, []byte(a))
		}
		task.Calls = append(task.Calls, call)
	}
	switch dice.IntN(5) {
	case 0:
		task.Atomic = true
	case 1:
		task.Whole = true
	case 2:
		task.Once = &engine.Once{Key: [16]byte{byte(dice.IntN(40))}}
	case 3:
		left := dice.IntN(3)
		task.Enough = func() bool { left--; return left < 0 }
	}
	if err := l.Execute(context.Background(), task); err != nil {
		t.Fatal(err)
	}
}

// What was written down gives the same caches, whatever else happened in their partition.
func TestWhatWasWrittenDownGivesTheSameCaches(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(strconv.Itoa(int(seed)), func(t *testing.T) {
			h := newHouse(t)
			dice := rand.New(rand.NewPCG(seed, 3))
			small := engine.Settings{MemoryLimit: 40 << 10}
			full := engine.Settings{MemoryLimit: 60 << 10, Eviction: engine.NoEviction}
			durable, async, strict, memory, later := engine.CacheID{1}, engine.CacheID{2}, engine.CacheID{3}, engine.CacheID{4}, engine.CacheID{5}
			h.make(durable, small, Durable)
			h.make(async, engine.Settings{}, Async)
			h.make(strict, full, Durable)
			h.make(memory, small, Memory)
			h.make(later, small, Memory)
			caches := []engine.CacheID{durable, async, strict, memory, later}
			for round := range 4 {
				l := h.local()
				for range 1200 {
					h.clock.ms.Add(int64(dice.IntN(40)))
					random(t, l, caches[dice.IntN(len(caches))], dice)
					if dice.IntN(20) == 0 {
						l.tend()
					}
				}
				if round == 1 {
					h.clock.ms.Add(engine.OnceWindow.Milliseconds()) // and remembered tasks are forgotten
					if err := h.host.Keep(housePartition, later, Durable); err != nil {
						t.Fatal(err)
					}
					for tries := 0; ; tries++ {
						if class, done := l.Durability(later); class == Durable && done {
							break
						} else if tries == 10_000 {
							t.Fatal("it does not become durable")
						}
						time.Sleep(time.Millisecond)
					}
				}
				if round == 2 {
					if err := l.writeState(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				kept := []engine.CacheID{durable, async, strict}
				if round >= 1 {
					kept = append(kept, later)
				}
				want := map[engine.CacheID]string{}
				for _, id := range kept {
					want[id] = contents(t, l, id)
				}
				h.leave()
				l = h.enter()
				for _, id := range kept {
					if got := contents(t, l, id); got != want[id] {
						t.Fatalf("round %d, cache %d:\n got %s\nwant %s", round, id[0], got, want[id])
					}
				}
				if l.Holds(memory) {
					t.Fatal("a memory cache came back")
				}
				h.make(memory, small, Memory)
				h.make(later, small, map[bool]Class{true: Durable}[round >= 1])
				for _, id := range kept[:3] {
					if err := h.host.Keep(housePartition, id, Durable); err != nil {
						t.Fatal(err)
					}
				}
				if err := h.host.Keep(housePartition, async, Async); err != nil {
					t.Fatal(err)
				}
			}
			h.leave()
		})
	}
}

// told is a waiter that closes a channel.
type told struct{ ch chan struct{} }

func (w told) Synced() { close(w.ch) }

func TestRepliesAreHeldUntilTheyAreOnDisk(t *testing.T) {
	h := newHouse(t)
	defer h.leave()
	h.make(testCache, engine.Settings{}, Durable)
	l := h.local()
	set := engine.Call{Command: engine.MustLookup("SET"), Args: [][]byte{[]byte("SET"), []byte("k"), []byte("v")}}
	get := engine.Call{Command: engine.MustLookup("GET"), Args: [][]byte{[]byte("GET"), []byte("k")}}
	write := &engine.Task{Cache: testCache, Calls: []engine.Call{set}, Reply: &engine.Recording{}, Holds: true}
	if err := l.Execute(t.Context(), write); err != nil || write.Held.Log == nil {
		t.Fatalf("a write is not held: %v", err)
	}
	read := &engine.Task{Cache: testCache, Calls: []engine.Call{get}, Reply: &engine.Recording{}, Holds: true}
	if err := l.Execute(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	if read.Held.Log == nil && write.Held.Pending() {
		t.Error("a read shows what could still be lost")
	}
	w := told{make(chan struct{})}
	write.Held.Log.Tell(write.Held.At, w)
	<-w.ch
	if write.Held.Pending() {
		t.Error("told too early")
	}
	waits := &engine.Task{Cache: testCache, Calls: []engine.Call{set}, Reply: &engine.Recording{}}
	if err := l.Execute(t.Context(), waits); err != nil || h.k.log.Synced() < h.k.log.Last() {
		t.Errorf("a caller that does not hold its replies got them before they were safe: %v", err)
	}
	again := &engine.Task{Cache: testCache, Calls: []engine.Call{get}, Reply: &engine.Recording{}, Holds: true}
	if err := l.Execute(t.Context(), again); err != nil || again.Held.Log != nil {
		t.Errorf("a read of what is safe is held: %v", err)
	}
}

func TestALoadingPartitionSaysSo(t *testing.T) {
	h := newHouse(t)
	h.make(testCache, engine.Settings{}, Durable)
	l := h.local()
	do(t, l, "SET", "k", "v")
	l.mu.Lock()
	l.loading = true
	l.mu.Unlock()
	err := l.Execute(t.Context(), engine.DropTask(testCache))
	if f := fault.From(err); !fault.Is(err, fault.Unavailable) || !strings.HasPrefix(f.Redis(), "LOADING") || f.RetryAfter == 0 {
		t.Errorf("got %v", err)
	}
	l.mu.Lock()
	l.loading = false
	l.mu.Unlock()
	h.leave()
}

func TestADamagedStateFileStopsItsPartition(t *testing.T) {
	h := newHouse(t)
	h.make(testCache, engine.Settings{}, Durable)
	do(t, h.local(), "SET", "k", "canary in a state file")
	if err := h.local().writeState(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.leave()
	files, _ := filepath.Glob(filepath.Join(h.dir, "*.state"))
	if len(files) != 1 {
		t.Fatalf("%v", files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil || strings.Contains(string(b), "canary") {
		t.Fatalf("%v, or it is plain text", err)
	}
	b[len(b)-20] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	before := sha256.Sum256(b)
	l := h.enter()
	if err := l.Execute(t.Context(), engine.DropTask(testCache)); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
	h.leave()
	if b, err := os.ReadFile(files[0]); err != nil || sha256.Sum256(b) != before {
		t.Errorf("the damaged file is not as it was: %v", err)
	}
}

func TestTheLogIsCutBehindStateFiles(t *testing.T) {
	h := newHouse(t)
	h.make(testCache, engine.Settings{}, Async)
	l := h.local()
	value := strings.Repeat("v", 64<<10)
	for i := range 400 { // 25 MiB into a log of 4
		for {
			task := &engine.Task{Cache: testCache, Reply: &engine.Recording{}, Calls: []engine.Call{{Command: engine.MustLookup("SET"), Args: [][]byte{[]byte("SET"), []byte(strconv.Itoa(i % 10)), []byte(value)}}}}
			err := l.Execute(t.Context(), task)
			if err == nil {
				break
			}
			if !fault.Is(err, fault.Unavailable) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond) // it is more than a second behind
		}
	}
	want := contents(t, l, testCache)
	for tries := 0; h.k.log.Size() > 8<<20; tries++ {
		if tries == 2000 {
			t.Fatalf("the log has %d bytes", h.k.log.Size())
		}
		time.Sleep(10 * time.Millisecond)
	}
	h.leave()
	if got := contents(t, h.enter(), testCache); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	h.leave()
}
