package replication

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
)

// ears are a listener that remembers. All nodes of a world share one, as the clients of one gateway do.
type ears struct {
	mu  sync.Mutex
	all []string
}

func (l *ears) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintf(format, args...))
}

// take returns what was told since it was asked last.
func (l *ears) take() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, l.all = l.all, nil
	return all
}

func (l *ears) Published(_ engine.CacheID, _ bool, channel, message []byte) int {
	l.add("published %s %s", channel, message)
	return 1
}

func (l *ears) Notified(_ engine.CacheID, _ int, _ engine.EventClass, event string, key []byte) {
	l.add("notified %s %s", event, key)
}

func (l *ears) Touched(_ engine.CacheID, _ int, key []byte, origin any) {
	l.add("touched %s by %v", key, origin)
}
func (l *ears) Flushed(engine.CacheID, int) { l.add("flushed") }
func (l *ears) Settled()                    { l.add("settled") }

// TestOneReplicaTells: three replicas carry a task out, and who listens hears of it once, and by whom it was. A leader that
// begins has what is kept taken for changed, since nobody may have told of what happened last.
func TestOneReplicaTells(t *testing.T) {
	w, l := newWorld(t, 11, 3), &ears{}
	for _, n := range w.nodes {
		n.cluster.Listen(l)
	}
	w.found(1, "n1", "n2", "n3")
	settings := &engine.Settings{MemoryLimit: 1 << 20, Notify: engine.EventKeyevent | engine.EventString}
	observed := func(on bool) {
		for _, n := range w.nodes {
			n.cluster.Group(1).Configure(testCache, settings)
			n.cluster.Group(1).Observe(testCache, on)
		}
	}
	observed(true)
	g := w.waitLeader(1)
	w.run(time.Second, nil)
	l.take()
	x := task(testCache, "SET k v", "PUBLISH news hello")
	x.Origin = "me"
	if _, err := w.ask(g, x); err != nil {
		t.Fatal(err)
	}
	w.run(time.Second, nil)
	if got, want := l.take(), []string{"touched k by me", "notified set k", "published news hello", "settled"}; !slices.Equal(got, want) {
		t.Errorf("those who listen heard %q, want %q", got, want)
	}
	w.crash(w.node(g.c.cfg.Node))
	g = w.waitLeader(1)
	w.run(time.Second, nil)
	if got, want := l.take(), []string{"flushed", "settled"}; !slices.Equal(got, want) {
		t.Errorf("after another has come to lead those who keep copies heard %q, want %q", got, want)
	}
	if _, err := w.ask(g, task(testCache, "PUBLISH news again")); err != nil {
		t.Fatal(err)
	}
	if got, want := l.take(), []string{"published news again"}; !slices.Equal(got, want) {
		t.Errorf("those who listen heard %q, want %q", got, want)
	}
}
