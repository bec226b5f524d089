package replication

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/larder-cache/larder/engine"
)

// A rotation takes a list's elements and says whether they are the numbers from 0, from some place on and round.
type rotation struct {
	engine.Recording
	n, first, torn int
	began, ended   func()
}

func (r *rotation) Array(int) { r.n, r.torn = 0, 0; r.began() }

func (r *rotation) Bulk(b []byte) {
	v, _ := strconv.Atoi(string(b))
	if r.n == 0 {
		r.first = v
	}
	if v != (r.first+r.n)%rotated {
		r.torn++
	}
	if r.n++; r.n == rotated {
		r.ended()
	}
}

const rotated = 20_000

// TestLongReadingsLetOthersIn: while one goes on, another cache is written to, and its own is not.
func TestLongReadingsLetOthersIn(t *testing.T) {
	l, _ := newLocal(t, engine.Settings{})
	other := engine.CacheID{2}
	if err := l.Execute(t.Context(), engine.ConfigureTask(other, engine.Settings{})); err != nil {
		t.Fatal(err)
	}
	args := []string{"RPUSH", "l"}
	for i := range rotated {
		args = append(args, strconv.Itoa(i))
	}
	do(t, l, args...)
	task := func(cache engine.CacheID, reply engine.Reply, args ...string) *engine.Task {
		call := engine.Call{Command: engine.MustLookup(args[0])}
		for _, a := range args {
			call.Args = append(call.Args, []byte(a))
		}
		return &engine.Task{Cache: cache, Calls: []engine.Call{call}, Reply: reply}
	}
	var done sync.WaitGroup
	var stop atomic.Bool
	var elsewhere, here, looked atomic.Int64
	again := func(count *atomic.Int64, cache engine.CacheID, args ...string) {
		done.Go(func() {
			for !stop.Load() {
				if err := l.Execute(context.Background(), task(cache, nil, args...)); err != nil {
					t.Error(err)
					return
				}
				count.Add(1)
			}
		})
	}
	var begun atomic.Int64
	done.Go(func() { // as an event loop writes, which may not wait
		for !stop.Load() {
			_, err := l.Begin(task(testCache, nil, "LMOVE", "l", "l", "LEFT", "RIGHT"), nil, nil)
			if err == nil {
				begun.Add(1)
			} else if !errors.Is(err, ErrRests) {
				t.Error(err)
				return
			}
			runtime.Gosched()
		}
	})
	again(&elsewhere, other, "INCR", "n")
	again(&here, testCache, "LMOVE", "l", "l", "LEFT", "RIGHT")
	again(&looked, testCache, "LINDEX", "l", "0")
	done.Go(func() {
		for !stop.Load() {
			l.tend()
		}
	})
	progress := func(count *atomic.Int64, sum *int64) func(sign int64) {
		return func(sign int64) { *sum += sign * count.Load() }
	}
	var wroteElsewhere, read int64
	counts := []func(int64){progress(&elsewhere, &wroteElsewhere), progress(&looked, &read)}
	r := &rotation{began: func() {
		for _, c := range counts {
			c(-1)
		}
	}, ended: func() {
		for _, c := range counts {
			c(1)
		}
	}}
	for range 300 {
		if err := l.Execute(t.Context(), task(testCache, r, "LRANGE", "l", "0", "-1")); err != nil {
			t.Fatal(err)
		}
		if r.n != rotated || r.torn > 0 {
			t.Fatalf("%d elements, %d of them of another moment", r.n, r.torn)
		}
		if wroteElsewhere > 20 && read > 20 && here.Load() > 20 && begun.Load() > 20 {
			break
		}
	}
	stop.Store(true)
	done.Wait()
	if wroteElsewhere == 0 || read == 0 || here.Load() == 0 || begun.Load() == 0 {
		t.Errorf("in 300 readings %d writes to another cache and %d reads came in between, and %d and %d writes beside them", wroteElsewhere, read, here.Load(), begun.Load())
	}
}

// TestNobodyIsHeldUpByWhoCannotWait: what lasts is not begun by those who serve others, and they are told when somebody else carries it out.
func TestNobodyIsHeldUpByWhoCannotWait(t *testing.T) {
	l, _ := newLocal(t, engine.Settings{})
	args := []string{"SADD", "s"}
	for i := range rotated {
		args = append(args, strconv.Itoa(i))
	}
	do(t, l, args...)
	task := func(args ...string) *engine.Task {
		call := engine.Call{Command: engine.MustLookup(args[0])}
		for _, a := range args {
			call.Args = append(call.Args, []byte(a))
		}
		return &engine.Task{Cache: testCache, Calls: []engine.Call{call}, Reply: &engine.Recording{}, Enough: func() bool { return false }}
	}
	for _, watched := range []bool{false, true} {
		if watched {
			l.Watch(testCache, 0, []byte("k"))
		}
		for _, args := range [][]string{{"SMEMBERS", "s"}, {"SUNIONSTORE", "d", "s"}, append([]string{"DEL"}, args...)} {
			long := task(args...)
			if _, err := l.Begin(long, nil, nil); !errors.Is(err, ErrRests) || long.Reply.(*engine.Recording).Len() > 0 {
				t.Errorf("%.30q is begun: %v", args, err)
			}
			if l.Busy() {
				t.Errorf("%.30q is still under way", args)
			}
		}
		if _, err := l.Begin(task("SPOP", "s", "10"), nil, nil); err != nil {
			t.Error(err)
		}
		both := task("GET", "none")
		both.Calls = append(both.Calls, task("SMEMBERS", "s").Calls...)
		if _, err := l.Begin(both, nil, nil); err != nil || both.Done != 1 {
			t.Errorf("%d calls are done, %v", both.Done, err)
		}
	}
	seen := &witness{ask: l.Busy}
	long := task("SMEMBERS", "s")
	long.Reply = seen
	if err := l.Execute(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	if !seen.busy || l.Busy() {
		t.Errorf("busy while it lasts: %v, afterwards: %v", seen.busy, l.Busy())
	}
	long = task(append([]string{"DEL"}, args...)...)
	seen.busy = false
	long.Reply = seen
	if err := l.Execute(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	if !seen.busy || l.Busy() {
		t.Errorf("busy while a writing lasts: %v, afterwards: %v", seen.busy, l.Busy())
	}
	l.writing.Add(1)
	if _, err := l.Begin(task("GET", "k"), nil, nil); !errors.Is(err, ErrRests) {
		t.Errorf("who cannot wait would wait for a writing that lasts: %v", err)
	}
}

// A witness asks something for each piece of an answer.
type witness struct {
	engine.Recording
	ask  func() bool
	busy bool
}

func (w *witness) Bulk([]byte) { w.busy = w.busy || w.ask() }
func (w *witness) Int(int64)   { w.busy = w.busy || w.ask() }
