package move

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/larder-cache/larder/engine/tenure"
)

// The model: one span of slots with one value in it, which counts the writes that were acknowledged; a source and a target with
// the tenures of package tenure; two drivers that run Progress, of which only the one on the node that leads the source can reach the
// source, and both reach the target and the record, with requests that come late, twice or never, and answers that are lost.
// The one that leads may lose that to the other at any time, and a driver may crash; both forget what they knew. It is gone
// through exhaustively, breadth first, so a failure comes with the shortest way to it.
//
//	M1: source and target never both serve
//	M2: who serves has every write that was acknowledged
//	M3: from every state the movement can come to its end, with one owner, the one that the record names

var span = tenure.Span{From: 100, To: 200}

const (
	epoch     = 1
	maxLost   = 2 // faults: crashes, changes of the leader, answers that do not come, requests that come twice, staged data that is lost
	maxFlying = 2 // requests that the target has not got, or may get again
)

// maxWrites is how many writes clients make: 1, or LARDER_MODEL_WRITES, each of which makes three times as many states.
var maxWrites = func() int8 {
	if n, err := strconv.ParseInt(os.Getenv("LARDER_MODEL_WRITES"), 10, 8); err == nil {
		return int8(n)
	}
	return 1
}()

type pilot struct {
	p       Progress
	export  bool // it reads the source's changes: from Offer until it loses the source
	walked  bool // the value has been read once
	dirty   bool // and has changed since
	part    int8 // parts that have arrived
	unsent  bool // one is read, and not known to have arrived
	value   int8 // what is in it
	waiting bool // for the answer to a request
	what    Step
}

type request struct {
	live    bool // its driver waits for the answer
	from    int8
	step    Step // Begin, Copy (or Drain) for a part, Activate, Cancel
	attempt int8
	part    int8
	value   int8
	floor   int8
	again   bool // it was delivered once
}

type state struct {
	source, target   tenure.Tenure
	value, staged    int8 // at the source; at the target
	acked            int8
	committed, abort bool
	over             bool // the record of the movement is gone
	drivers          [2]pilot
	leads            int8
	flying           [maxFlying]request // in some order: the network keeps none
	flights          int8
	lost             int8
}

// A key is a state without pointers.
type key struct {
	source, target   side
	value, staged    int8
	acked            int8
	committed, abort bool
	over             bool
	drivers          [2]pilot
	leads            int8
	flying           [maxFlying]request
	lost             int8
}

// A side is a tenure of the one span.
type side struct {
	epoch, attempt, parts       int8
	owns, move, out, froze, rip bool
}

func sideOf(t *tenure.Tenure) side {
	d := side{epoch: int8(t.Epoch), owns: t.Holds(span.From), move: t.Move != nil}
	if m := t.Move; m != nil {
		d.attempt, d.parts, d.out, d.froze, d.rip = int8(m.Attempt), int8(m.Parts), m.Out, m.Frozen, m.Torn
	}
	return d
}

func (s *state) key() key {
	return key{sideOf(&s.source), sideOf(&s.target), s.value, s.staged, s.acked, s.committed, s.abort, s.over, s.drivers, s.leads, s.flying, s.lost}
}

func (s *state) check() error {
	for _, t := range []*tenure.Tenure{&s.source, &s.target} {
		if err := t.Check(); err != nil {
			return err
		}
	}
	at := span.From
	fromSource, fromTarget := s.source.Owner(at), s.target.Owner(at)
	switch {
	case fromSource && fromTarget:
		return fmt.Errorf("M1: both serve")
	case fromSource && s.value != s.acked:
		return fmt.Errorf("M2: the source serves %d of %d writes", s.value, s.acked)
	case fromTarget && s.staged != s.acked:
		return fmt.Errorf("M2: the target serves %d of %d writes", s.staged, s.acked)
	case s.over && s.committed != fromTarget, s.over && !s.committed != fromSource:
		return fmt.Errorf("M3: the movement is over, the record is not true: committed %v", s.committed)
	}
	return nil
}

// A move of the model is a name and what it leads to.
type next struct {
	name string
	to   state
}

func (s *state) successors() (all []next) {
	add := func(name string, change func(n *state)) {
		n := *s
		change(&n)
		n.reduce()
		all = append(all, next{name, n})
	}
	if s.acked < maxWrites {
		if s.source.Owner(span.From) {
			add("write at source", func(n *state) {
				n.value, n.acked = n.value+1, n.acked+1
				if d := &n.drivers[n.leads]; d.export && d.walked {
					d.dirty = true
				}
			})
		}
		if s.target.Owner(span.From) {
			add("write at target", func(n *state) { n.staged, n.acked = n.staged+1, n.acked+1 })
		}
	}
	if !s.abort && !s.committed && !s.over {
		add("operator aborts", func(n *state) { n.abort = true })
	}
	if s.lost < maxLost {
		add("the source's leader changes", func(n *state) {
			n.lost++
			n.leads = 1 - n.leads
			n.forget(int(n.leads))              // it comes to it anew
			n.drivers[1-n.leads].export = false // this one goes on, and does not know yet
		})
		for i := range s.drivers {
			add(fmt.Sprintf("driver %d crashes", i), func(n *state) { n.lost++; n.forget(i) })
		}
		if s.target.Move != nil {
			add("the staged data is torn", func(n *state) { n.lost++; n.target.Tear() })
		}
	}
	for i := range s.flights {
		if s.flying[i].again {
			if s.lost < maxLost {
				add(fmt.Sprintf("%v arrives once more", s.flying[i].step), func(n *state) { n.lost++; n.arrive(i) })
			}
			continue
		}
		add(fmt.Sprintf("%v of driver %d arrives", s.flying[i].step, s.flying[i].from), func(n *state) { n.arrive(i) })
	}
	for i := range s.drivers {
		if s.over {
			continue
		}
		d := &s.drivers[i]
		if d.waiting {
			if s.lost < maxLost {
				add(fmt.Sprintf("driver %d has waited for %v long enough", i, d.what), func(n *state) { n.lost++; n.tire(i) })
			}
			continue
		}
		// A driver reads the record before each step, but the record may change before the step is done: commits are
		// compare-and-swap, and so is the end.
		step := d.p.Next(s.committed, s.abort)
		add(fmt.Sprintf("driver %d: %v", i, step), func(n *state) { n.drive(i, step) })
		if step == Drain && s.leads == int8(i) && s.lost < maxLost { // it takes too long
			add(fmt.Sprintf("driver %d: thaw", i), func(n *state) {
				n.source.Thaw(epoch, n.drivers[i].p.Attempt)
				n.drivers[i].p.Thawed()
				n.lost++
			})
		}
		if s.abort { // it has not heard of that yet
			if late := d.p.Next(s.committed, false); late != step {
				add(fmt.Sprintf("driver %d, late: %v", i, late), func(n *state) { n.drive(i, late) })
			}
		}
	}
	return all
}

// reduce leaves out what makes no difference to what can happen, so that there are fewer states: a driver that has lost the
// source and can do nothing without it is one that knows nothing; a request that comes late and is refused for good is not on
// its way any more; and the two drivers are interchangeable.
func (s *state) reduce() {
	if d := &s.drivers[1-s.leads]; !d.waiting && !d.p.Drained && !d.p.Passed && !d.p.Withdrawn {
		*d = pilot{}
	}
	for i := s.flights - 1; i >= 0; i-- {
		r := &s.flying[i]
		n := *s
		n.arrive(i)
		if !r.live && r.step != Begin && sideOf(&n.target) == sideOf(&s.target) {
			s.land(i)
		}
	}
	if s.leads == 1 {
		s.leads = 0
		s.drivers[0], s.drivers[1] = s.drivers[1], s.drivers[0]
		for i := range s.flights {
			if s.flying[i].live {
				s.flying[i].from = 1 - s.flying[i].from
			}
		}
		s.sort()
	}
}

// forget makes a driver one that has just come to the movement.
func (s *state) forget(i int) {
	s.tire(i)
	s.drivers[i] = pilot{}
}

// tire has a driver wait no more.
func (s *state) tire(i int) {
	s.drivers[i].waiting = false
	for k := range s.flights {
		if r := &s.flying[k]; r.live && r.from == int8(i) {
			r.live, r.from = false, 0
		}
	}
	s.sort()
}

// sort puts what is under way in one order.
func (s *state) sort() {
	slices.SortFunc(s.flying[:s.flights], func(a, b request) int { return cmp.Compare(a.rank(), b.rank()) })
}

func (r *request) rank() (n uint64) {
	for _, b := range [...]int8{r.from, int8(r.step), r.attempt, r.part, r.value, r.floor} {
		n = n<<8 | uint64(uint8(b+1))
	}
	n <<= 2
	if r.live {
		n |= 2
	}
	if r.again {
		n |= 1
	}
	return n
}

// send puts a request on its way. Where there is no room, one that nobody waits for is lost.
func (s *state) send(from int, r request) {
	if s.flights == maxFlying {
		s.land(int8(slices.IndexFunc(s.flying[:], func(r request) bool { return !r.live })))
	}
	r.from, r.live = int8(from), true
	s.flying[s.flights] = r
	s.flights++
	s.drivers[from].waiting, s.drivers[from].what = true, r.step
	s.sort()
}

func (s *state) land(i int8) {
	copy(s.flying[i:], s.flying[i+1:s.flights])
	s.flights--
	s.flying[s.flights] = request{}
}

// arrive has the target do what a request asks, which stays on its way to come once more.
func (s *state) arrive(i int8) {
	r := s.flying[i]
	var v tenure.Verdict
	attempt := uint64(r.attempt)
	switch r.step {
	case Begin:
		if attempt, v = s.target.Begin(epoch, uint64(r.floor), span, 1); v == tenure.Done {
			s.staged = -1
		}
	case Copy:
		if v = s.target.Stage(epoch, attempt, uint64(r.part)); v == tenure.Done {
			s.staged = r.value
		}
	case Activate:
		v = s.target.Activate(epoch, attempt, span)
	case Cancel:
		v = s.target.Cancel(epoch, span)
	}
	if r.again {
		s.land(i)
	} else {
		s.flying[i].again, s.flying[i].live, s.flying[i].from = true, false, 0
		s.sort()
	}
	if !r.live {
		return
	}
	d := &s.drivers[r.from]
	d.waiting = false
	switch {
	case r.step == Copy && v != tenure.Over:
		d.part, d.unsent, d.value = r.part, false, 0
	case r.step == Copy:
		d.p.Note(Copy, tenure.Over, 0)
	default:
		if r.step == Activate && v == tenure.Over && s.leads == r.from { // that attempt will never be activated
			s.source.Thaw(epoch, attempt)
		}
		d.p.Note(r.step, v, attempt)
	}
}

// drive has a driver do a step.
func (s *state) drive(i int, step Step) {
	d := &s.drivers[i]
	leads := s.leads == int8(i)
	switch step {
	case Begin:
		if !leads {
			return // it needs the source's word on the attempts before
		}
		floor := int8(0)
		if m := s.source.Move; m != nil {
			floor = int8(m.Attempt)
		}
		s.send(i, request{step: Begin, floor: floor})
	case Offer:
		if !leads {
			return
		}
		v := s.source.Offer(epoch, d.p.Attempt, span, 2)
		d.p.Note(Offer, v, 0)
		*d = pilot{p: d.p, export: v == tenure.Done}
	case Copy, Drain:
		switch {
		case !leads || !d.export:
			d.p.Note(step, tenure.Over, 0)
		case d.unsent || !d.walked || d.dirty: // what is read is sent until it is known to have arrived
			if !d.unsent {
				d.walked, d.dirty, d.unsent, d.value = true, false, true, s.value
			}
			s.send(i, request{step: Copy, attempt: int8(d.p.Attempt), part: d.part + 1, value: d.value})
		default:
			d.p.Note(step, tenure.Done, 0)
		}
	case Freeze:
		if !leads {
			return
		}
		d.p.Note(Freeze, s.source.Freeze(epoch, d.p.Attempt), 0)
	case Activate:
		s.send(i, request{step: Activate, attempt: int8(d.p.Attempt)})
	case Cancel:
		s.send(i, request{step: Cancel})
	case Commit:
		s.committed = true
	case Release:
		if leads {
			d.p.Note(Release, s.source.Release(epoch, span), 0)
		}
	case Withdraw:
		if leads {
			d.p.Note(Withdraw, s.source.Withdraw(epoch), 0)
		}
	case Purge, Forget:
		d.p.Note(step, tenure.Done, 0)
	case Clear, Drop:
		s.over = true
	}
}

func TestNoWayOfAMovementHasTwoOwnersOrLosesAWrite(t *testing.T) {
	first := state{source: *tenure.Whole()}
	type seen struct {
		from int
		name string
	}
	index := map[key]int{first.key(): 0}
	states, ways := []state{first}, []seen{{-1, ""}}
	var back [][]int32 // from which states one comes to a state
	back = append(back, nil)
	var ends []int32
	way := func(at int) (text string) {
		for ; ways[at].from >= 0; at = ways[at].from {
			text = "\n  " + ways[at].name + text
		}
		return text
	}
	for at := 0; at < len(states); at++ {
		s := states[at]
		if err := s.check(); err != nil {
			t.Fatalf("%v, after:%s", err, way(at))
		}
		if s.over {
			ends = append(ends, int32(at))
			continue // a record that is gone has no drivers, and what is still on its way is refused: E3
		}
		for _, n := range s.successors() {
			k := n.to.key()
			to, known := index[k]
			if !known {
				to = len(states)
				index[k] = to
				states, ways, back = append(states, n.to), append(ways, seen{at, n.name}), append(back, nil)
			}
			back[to] = append(back[to], int32(at))
		}
	}
	// M3: go back from the ends.
	reaches := make([]bool, len(states))
	for queue := ends; len(queue) > 0; {
		at := queue[0]
		queue = queue[1:]
		if reaches[at] {
			continue
		}
		reaches[at] = true
		queue = append(queue, back[at]...)
	}
	for at, ok := range reaches {
		if !ok {
			t.Fatalf("M3: the movement never ends, after:%s", way(at))
		}
	}
	t.Logf("%d states, %d ends", len(states), len(ends))
}
