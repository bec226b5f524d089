package hop

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

// A follower is a replica that answers reads from what it has, without leading.
type follower struct {
	*member
	age    atomic.Int64  // how far it is behind, in nanoseconds
	block  chan struct{} // reads wait for it; nil for no waiting
	now    int64         // its clock, in milliseconds
	asked  atomic.Int64
	floors chan int64 // the floor of each read
}

func (f *follower) ReadNear(t *engine.Task, atMost time.Duration) error {
	f.asked.Add(1)
	if f.floors != nil {
		f.floors <- t.Floor
	}
	if f.block != nil {
		<-f.block
	}
	age := time.Duration(f.age.Load())
	if age < 0 || atMost > 0 && age > atMost {
		return fault.Wrap(fault.Unavailable, "follower", notLeader{}, "behind")
	}
	t.Floor = max(t.Floor, f.now)
	t.Answered(engine.Eventual, age.Milliseconds())
	return f.Local.Execute(context.Background(), t)
}

// follow starts a node in a zone with a replica that has a value of its own under "who".
func (w *world) follow(name, zone string) (*node, *follower) {
	n := w.start(name, false)
	f := &follower{member: &member{Local: newLocal(w.t)}}
	if err := f.Local.Execute(w.t.Context(), task("SET who "+name)); err != nil {
		w.t.Fatal(err)
	}
	n.near.Store(f)
	w.mu.Lock()
	defer w.mu.Unlock()
	n.zone = zone
	w.part.Replicas = append(w.part.Replicas, placement.Replica{ID: uint64(len(w.part.Replicas) + 1), Node: name})
	return n, f
}

// connected waits until a node has links to all others.
func (w *world) connected(n *node) {
	w.t.Helper()
	within(w.t, "the links", func() bool {
		for _, other := range w.Nodes() {
			if other.Name != n.name && !n.links.Connected(other.Name) {
				return false
			}
		}
		return true
	})
}

// who asks who answers an eventual read.
func who(t *testing.T, r *Route) (name string, x *engine.Task) {
	t.Helper()
	x = task("GET who")
	x.Consistency = engine.Eventual
	said := string(do(t, r, x))
	for _, name := range []string{"near", "same", "far", "leader"} {
		if strings.Contains(said, name) {
			return name, x
		}
	}
	t.Fatalf("answered %q", said)
	return "", nil
}

// The nearest replica answers that is not too far behind; where all are, the leader; and where there is none, the nearest of
// those that have data at all.
func TestTheNearestAnswers(t *testing.T) {
	w := newWorld(t)
	leader := w.start("leader", true)
	do(t, leader.local.Load(), task("SET who leader"))
	leads := &follower{member: leader.local.Load()}
	leads.age.Store(-1) // it answers as the leader alone
	leader.near.Store(leads)
	_, far := w.follow("far", "z2")
	_, same := w.follow("same", "z1")
	own, near := w.follow("near", "z1")
	r := own.hop.Route(3)
	w.connected(own)
	behind := func(f *follower, age time.Duration) func() { return func() { f.age.Store(int64(age)) } }
	for _, step := range []struct {
		name   string
		change func()
		want   string
		was    engine.Consistency
		ageMs  int64
	}{
		{"the one in this process", behind(near, time.Second), "near", engine.Eventual, 1000},
		{"the one in this zone", behind(near, MaxBehind+1), "same", engine.Eventual, 0},
		{"another", behind(same, time.Hour), "far", engine.Eventual, 0},
		{"the leader, since all are behind", behind(far, 2*time.Hour), "leader", engine.DefaultConsistency, 0},
		{"the one in this process, since nobody leads", func() { leader.stop() }, "near", engine.Eventual, (MaxBehind + 1).Milliseconds()},
		{"the one in this zone, since that here has no data", behind(near, -1), "same", engine.Eventual, time.Hour.Milliseconds()},
	} {
		step.change()
		name, x := who(t, r)
		if name != step.want || x.Was != step.was || x.AgeMs != step.ageMs {
			t.Errorf("%s: %s answers, as %q of %d ms", step.name, name, x.Was, x.AgeMs)
		}
	}
}

// What depends on the leader goes there, whatever the level says.
func TestOnlyReadsAreAnsweredNear(t *testing.T) {
	waits, guarded, once, write, plain := task("XREAD BLOCK 0 STREAMS s $"), task("GET who"), task("GET who"), task("GET who", "SET who x"), task("GET who")
	waits.Waiter, guarded.Guard, once.Once = &engine.Waiter{}, func() bool { return true }, &engine.Once{}
	for _, x := range []*engine.Task{waits, guarded, once, write} {
		if x.Consistency = engine.Eventual; eventual(x) {
			t.Errorf("%s is answered by any replica: %+v", x.Calls[0].Command.Name, x)
		}
	}
	if plain.Consistency = engine.Eventual; !eventual(plain) {
		t.Error("a read is not")
	}
	if plain.Consistency = engine.Leader; eventual(plain) {
		t.Error("a read of the leader is")
	}
}

// When a replica takes long another is asked, and its answer counts; the late one disturbs nobody.
func TestHedging(t *testing.T) {
	w := newWorld(t)
	_, far := w.follow("far", "z2")
	_, same := w.follow("same", "z1")
	own := w.start("own", false)
	w.mu.Lock()
	own.zone = "z1"
	w.mu.Unlock()
	same.block = make(chan struct{})
	w.connected(own)
	if name, _ := who(t, own.hop.Route(3)); name != "far" || same.asked.Load() != 1 {
		t.Errorf("%s answers, %d have been asked before", name, same.asked.Load())
	}
	close(same.block)
	within(t, "the late answer", func() bool {
		name, _ := who(t, own.hop.Route(3))
		return name == "same"
	})
	if far.asked.Load() == 0 {
		t.Error("nobody else was asked")
	}
}

// An item that has expired for a gateway does not come back with the next replica: time goes on from the latest clock that
// answered, as far as that is to be believed.
func TestClocksDoNotRunBack(t *testing.T) {
	w := newWorld(t)
	own, near := w.follow("near", "z1")
	_, same := w.follow("same", "z1")
	w.connected(own)
	r := own.hop.Route(3)
	now := time.Now().UnixMilli()
	near.now = now + 20_000
	who(t, r)
	near.age.Store(-1)
	same.floors = make(chan int64, 10)
	who(t, r)
	if floor := <-same.floors; floor != near.now {
		t.Errorf("after a read at %d comes one at %d", near.now, floor)
	}
	same.now = now + time.Hour.Milliseconds()
	who(t, r)
	<-same.floors
	who(t, r)
	if floor := <-same.floors; floor < now+maxSkewMs || floor > now+maxSkewMs+time.Minute.Milliseconds() {
		t.Errorf("a clock that is an hour ahead takes this one to %d ms ahead", floor-now)
	}
}

// A leader's level travels to the leader, and what the answer was travels back.
func TestTheLeadersLevelTravels(t *testing.T) {
	w := newWorld(t)
	b := w.start("b", true)
	b.local.Load().during = func(x *engine.Task) {
		if x.Consistency == engine.Leader {
			x.Answered(engine.Leader, 0)
		}
	}
	r := w.start("a", false).hop.Route(3)
	for _, level := range []engine.Consistency{engine.DefaultConsistency, engine.Linearizable, engine.Leader} {
		x := task("GET who")
		x.Consistency = level
		do(t, r, x)
		if (x.Was == engine.Leader) != (level == engine.Leader) {
			t.Errorf("asked for %q, it is answered as %q", level, x.Was)
		}
	}
}

// How late an answer has to be follows how late answers are, within bounds.
func TestLateFollowsTheSlowestTwentieth(t *testing.T) {
	var d delays
	if d.late() != hedgeFirst {
		t.Errorf("%s before anything was measured", d.late())
	}
	for i := range 10 * hedgeSample {
		took := 3 * time.Millisecond
		if i%10 == 0 {
			took = 20 * time.Millisecond
		}
		d.note(took)
	}
	if d.late() != 20*time.Millisecond {
		t.Errorf("%s, where a tenth take 20ms", d.late())
	}
	for range hedgeSample {
		d.note(time.Microsecond)
	}
	if d.late() != hedgeLeast {
		t.Errorf("%s, where all are fast", d.late())
	}
	for range hedgeSample {
		d.note(time.Second)
	}
	if d.late() != hedgeMost {
		t.Errorf("%s, where all are slow", d.late())
	}
}
