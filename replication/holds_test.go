package replication

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/placement"
)

// onLeader runs a command at whoever leads a partition, and returns the first piece of its answer.
func onLeader(t testing.TB, nodes []*realNode, p placement.PartitionID, args ...string) engine.Token {
	for {
		var reply engine.Recording
		one := task(testCache, strings.Join(args, " "))
		one.Reply = &reply
		err := leaderOf(t, nodes, p).Execute(context.Background(), one)
		var elsewhere *NotLeader
		if errors.As(err, &elsewhere) {
			continue
		}
		if err != nil {
			t.Error(err)
		}
		c := reply.Cursor()
		return c.Next()
	}
}

// counted restores a cut and returns what n is in it.
func counted(t testing.TB, cut Cut) int64 {
	l := NewLocal(engine.Seed{9}, &hand{}, [32]byte{}, slog.New(slog.DiscardHandler))
	s := &engine.CutSplitter{All: 1, To: func(int, []byte) int { return 0 }, Emit: func(p *engine.CutPart) error {
		return l.Execute(t.Context(), engine.RestoreTask(testCache, p))
	}}
	if err := l.Execute(t.Context(), engine.ConfigureTask(testCache, engine.Settings{})); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(s, cut); err != nil {
		t.Fatal(err)
	}
	if err := s.Done(); err != nil {
		t.Fatal(err)
	}
	return do(t, l, "INCRBY", "n", "0").Int
}

// A lateHolder is one at the end of a slow link: it is cut when others have been.
type lateHolder struct {
	Holder
	late time.Duration
}

func (h lateHolder) Hold(ctx context.Context, id engine.CacheID) (Held, error) {
	held, err := h.Holder.Hold(ctx, id)
	if err != nil {
		return nil, err
	}
	return lateHeld{held, h.late}, nil
}

type lateHeld struct {
	Held
	late time.Duration
}

func (h lateHeld) Cut(ctx context.Context, o engine.CutOptions) (Cut, error) {
	time.Sleep(h.late)
	return h.Held.Cut(ctx, o)
}

// TestGroupsAreCutAtOnePoint: while somebody writes n to one group after the other, and leaders change, no cut over all of them
// shows a later one ahead of an earlier one, or lacks what was acknowledged before it began.
func TestGroupsAreCutAtOnePoint(t *testing.T) {
	const partitions = 3
	nodes := realNodes(t, 3, partitions, Config{})
	stop := make(chan struct{})
	var writing sync.WaitGroup
	var mu sync.Mutex
	var acked int64 // by the last group
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			var n int64
			for p := range partitions {
				n = onLeader(t, nodes, placement.PartitionID(p), "INCR", "n").Int
			}
			mu.Lock()
			acked = n
			mu.Unlock()
		}
	})
	made := 0
	for round := 0; made < 8; round++ {
		if round%3 == 2 {
			leaderOf(t, nodes, placement.PartitionID(round%partitions)).Transfer(0)
		}
		holders := make([]Holder, partitions)
		for p := range partitions {
			holders[p] = lateHolder{leaderOf(t, nodes, placement.PartitionID(p)), time.Duration(partitions-p) * 10 * time.Millisecond}
		}
		mu.Lock()
		least := acked
		mu.Unlock()
		cuts, err := CutCache(t.Context(), holders, testCache, func(int) engine.CutOptions { return engine.CutOptions{NoOnce: true} }, nil)
		if err != nil {
			if round > 200 {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond) // a leader has gone: nothing was cut
			continue
		}
		made++
		before := int64(-1)
		for i, c := range cuts {
			n := counted(t, c)
			if n < least {
				t.Errorf("%d was acknowledged before the cut, which has %d of group %d", least, n, i)
			}
			if before >= 0 && (n > before || n < before-1) {
				t.Errorf("%d after %d", n, before)
			}
			before = n
			c.Close()
		}
	}
	close(stop)
	writing.Wait()
}

// TestAHoldEndsByItself: who holds a cache and is never heard of again holds its writes up for HoldTime, and nobody else's at all;
// a cut under a hold that has ended is refused.
func TestAHoldEndsByItself(t *testing.T) {
	nodes := realNodes(t, 3, 1, Config{})
	other := engine.CacheID{2}
	for _, n := range nodes {
		n.cluster.Group(0).Configure(other, &engine.Settings{})
	}
	l, _ := newLocal(t, engine.Settings{})
	if err := l.Execute(t.Context(), engine.ConfigureTask(other, engine.Settings{})); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]interface {
		Holder
		Execute(context.Context, *engine.Task) error
	}{"local": l, "group": leaderOf(t, nodes, 0)} {
		t.Run(name, func(t *testing.T) {
			held, err := at.Hold(t.Context(), testCache)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := at.Hold(t.Context(), testCache); err == nil {
				t.Error("a cache is held twice")
			}
			if err := at.Execute(t.Context(), task(other, "SET k v")); err != nil {
				t.Error("a write to another cache:", err)
			}
			if err := at.Execute(t.Context(), task(testCache, "GET k")); err != nil {
				t.Error("a read:", err)
			}
			short, cancel := context.WithTimeout(t.Context(), HoldTime/10)
			err = at.Execute(short, task(testCache, "SET k v"))
			cancel()
			if err == nil {
				t.Error("a write went through a hold")
			}
			if err := at.Execute(t.Context(), task(testCache, "SET k w")); err != nil {
				t.Error("a write behind a hold:", err)
			}
			if _, err := held.Cut(t.Context(), engine.CutOptions{}); err == nil {
				t.Error("a cut was taken without a hold")
			}
			held.Release()
			again, err := at.Hold(t.Context(), testCache)
			if err != nil {
				t.Fatal(err)
			}
			cut, err := again.Cut(t.Context(), engine.CutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			cut.Close()
			again.Release()
			again.Release()
		})
	}
}
