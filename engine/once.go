package engine

import "time"

// OnceWindow is how long a task with an idempotency key is remembered.
const OnceWindow = 24 * time.Hour

// Once makes a task with the same Key take effect once within OnceWindow: a repetition gets the first
// answer again, and one with another Fingerprint is refused.
type Once struct {
	Key         [16]byte // a digest of the principal and the client's idempotency key
	Fingerprint [16]byte // a digest of the request: method, path, body
}

// A onceTable holds the remembered tasks of one cache, in the order in which they will be forgotten. Only
// tasks that changed something are remembered; one that failed may simply be tried again.
type onceTable struct {
	done  map[[16]byte]*onceDone
	queue [][16]byte // keys by age, the oldest first
}

type onceDone struct {
	fingerprint [16]byte
	expireAt    int64
	failed      int
	reply       *Recording
}

// onceOverhead is what a remembered task costs beside its reply, in bytes.
const onceOverhead = 160

func (d *onceDone) bytes() int64 { return onceOverhead + int64(d.reply.Len()) }

func (t *onceTable) find(key [16]byte, now int64) *onceDone {
	d := t.done[key]
	if d == nil || d.expireAt <= now {
		return nil
	}
	return d
}

// add remembers a task and returns how many bytes that takes.
func (t *onceTable) add(once *Once, reply *Recording, failed int, now int64) int64 {
	if t.done == nil {
		t.done = map[[16]byte]*onceDone{}
	}
	var freed int64
	if old := t.done[once.Key]; old != nil { // expired, but not yet swept: its place in the queue serves the new one too early, so it goes
		freed = t.expire(now, len(t.queue))
	}
	d := &onceDone{fingerprint: once.Fingerprint, expireAt: now + OnceWindow.Milliseconds(), failed: failed, reply: reply}
	t.done[once.Key] = d
	t.queue = append(t.queue, once.Key)
	return d.bytes() - freed
}

func (t *onceTable) due(now int64) bool {
	return len(t.queue) > 0 && t.done[t.queue[0]].expireAt <= now
}

// expire forgets at most atMost tasks whose time is over and returns how many bytes that frees.
func (t *onceTable) expire(now int64, atMost int) (freed int64) {
	for ; atMost > 0 && t.due(now); atMost-- {
		freed += t.done[t.queue[0]].bytes()
		delete(t.done, t.queue[0])
		t.queue = t.queue[1:]
	}
	return freed
}
