package engine

import "github.com/larder-cache/larder/internal/fault"

// A Waiter is a caller whose blocking command found nothing. The leader keeps it in the queues of the keys that it waits
// for, and answers it once: with what was found, or, when its time is up, as if nobody could wait.
type Waiter struct {
	// Reply takes the answer, on whatever goroutine brings it. Done is called after that, once, and not under any lock of
	// the partition.
	Reply Reply
	Done  func(*Waiter)

	// Elsewhere is called in the place of Done when the keys are served by another partition from now on: Moved says where, Task
	// is what to ask there, and Reply has nothing. Without it that is an error.
	Elsewhere func(*Waiter)
	Moved     *Moved
	Left      int64 // milliseconds that it waits at most, if it has waited elsewhere before; 0 for as long as the command says

	// What follows is the leader's.
	Task Task // to ask again with
	Wait Parked
	Next int64  // when its time is up, in milliseconds since 1970; 0 for never
	Stop func() // ends its timer
	Over bool   // it has been answered or given up
	Gone bool   // nobody is there any more who would take an answer: it does not begin to wait
}

// A Watch is a key that a transaction depends on. The leader has made it, and knows whether the key is as it was.
type Watch interface {
	// Stands is asked while the partition is locked: see Task.Guard.
	Stands() bool
	// Unwatch ends the watch. It is called once, while the partition is not locked.
	Unwatch()
}

// Refuse answers a waiter with an error, or sends it elsewhere.
func (w *Waiter) Refuse(e *fault.Error) {
	if m, ok := e.Err.(*Moved); ok && w.Elsewhere != nil {
		w.Moved = m
		return
	}
	w.Reply.Error(e)
}

// Tell says to whoever waits that there is an answer, or that there is none here any more.
func (w *Waiter) Tell() {
	if w.Moved != nil {
		w.Elsewhere(w)
		return
	}
	w.Done(w)
}
