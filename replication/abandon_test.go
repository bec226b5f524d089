package replication

import (
	"context"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
)

// TestWhoIsGoneDoesNotWait: the link to a gateway breaks between its request and the moment at which that finds nothing and would
// wait. It does not, or it would take for nobody what comes.
func TestWhoIsGoneDoesNotWait(t *testing.T) {
	w := newWorld(t, 4, 3)
	w.found(1, "n1", "n2", "n3")
	g := w.waitLeader(1)
	w.run(time.Second, nil)
	local := NewLocal(engine.Seed{1, 2}, w.nodes[0], [32]byte{1}, w.log)
	if err := local.Execute(t.Context(), engine.ConfigureTask(testCache, engine.Settings{MemoryLimit: 1 << 20})); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]struct {
		Replica
		do func(*engine.Task) *engine.Recording
	}{
		"group": {g, func(x *engine.Task) *engine.Recording {
			reply, err := w.ask(g, x)
			if err != nil {
				t.Fatal(err)
			}
			return reply
		}},
		"local": {local, func(x *engine.Task) *engine.Recording {
			reply := &engine.Recording{}
			x.Reply = reply
			if err := local.Execute(context.Background(), x); err != nil {
				t.Fatal(err)
			}
			return reply
		}},
	} {
		for _, begun := range []bool{false, true} {
			waiter := &engine.Waiter{Reply: &engine.Recording{}, Done: func(*engine.Waiter) { t.Errorf("%s: who is gone is answered", name) }}
			if at.Release(waiter, nil) {
				t.Errorf("%s: who has not begun to wait is released", name)
			}
			block := task(testCache, "BLPOP l 0")
			block.Waiter, block.Waits = waiter, true
			if begun {
				at.do(block)
				at.Abandon(waiter)
			} else {
				at.Abandon(waiter)
				at.do(block)
			}
			if callers, _, _ := at.Waiting(testCache); callers != 0 {
				t.Errorf("%s: %d wait", name, callers)
			}
			reply := at.do(task(testCache, "RPUSH l a"))
			if c := reply.Cursor(); c.Next().Int != 1 {
				t.Errorf("%s: what was pushed was taken for nobody", name)
			}
			at.do(task(testCache, "DEL l"))
		}
	}
}
