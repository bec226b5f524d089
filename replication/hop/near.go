package hop

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
)

// Reads that any replica may answer: the one in this process first, then one in this zone, then the others. When the first that
// is asked takes long, a second one is asked as well, and the first answer counts.
//
// A replica answers that had, within MaxBehind, all that its leader had. Where none has, the leader is asked; and where that
// cannot be had either, a replica may be as far behind as it is: the answer says how far.

// A Near is an Executor that can answer from what it has, whoever leads; see replication.Group.ReadNear.
type Near interface {
	ReadNear(t *engine.Task, atMost time.Duration) error
}

// MaxBehind is how far behind a replica may be that answers an eventual read, as long as there is a leader.
const MaxBehind = 5 * time.Second

// Bounds of what a read waits for.
const (
	nearTime       = 500 * time.Millisecond // for all other replicas together
	leaderTime     = 300 * time.Millisecond // for the leader, when no replica is fresh
	leaderlessTime = time.Second            // for which nobody asks again for a leader that could not be had
	hedgeFirst     = 5 * time.Millisecond   // until a second replica is asked, before anything has been measured
	hedgeLeast     = time.Millisecond
	hedgeMost      = 50 * time.Millisecond
	hedgeSample    = 64 // answers of which the slowest twentieth counts as late
)

// eventual reports whether any replica may answer a task.
func eventual(t *engine.Task) bool {
	return t.Consistency == engine.Eventual && t.Waiter == nil && t.Guard == nil && t.Once == nil && !t.Writes()
}

// near has a task answered by a replica close by.
func (r *Route) near(ctx context.Context, t *engine.Task) error {
	c := r.h.client
	t.Floor = max(c.clock.Load(), time.Now().UnixMilli())
	defer func() { c.advance(t.Floor) }()
	if c.leaderless(r.part) {
		return r.nearest(ctx, t, 0)
	}
	err := r.nearest(ctx, t, MaxBehind)
	if err != nil && ctx.Err() == nil {
		short, cancel := context.WithTimeout(ctx, leaderTime)
		err = r.find(short, t)
		cancel()
	}
	switch {
	case err == nil:
		c.alone.Delete(r.part)
	case ctx.Err() == nil && (fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Timeout)):
		c.alone.Store(r.part, time.Now())
		return r.nearest(ctx, t, 0)
	}
	return err
}

// nearest has it answered by the nearest replica that is not further behind than atMost; 0 is for any age.
func (r *Route) nearest(ctx context.Context, t *engine.Task, atMost time.Duration) error {
	switch l := r.h.locals(r.part).(type) {
	case nil:
	case Near:
		if err := l.ReadNear(t, atMost); err == nil || !fault.Is(err, fault.Unavailable) {
			return err
		}
	default:
		if leads(l) {
			return l.Execute(ctx, t)
		}
	}
	return r.h.client.readNear(ctx, r.h.client.around(r.part, atMost == 0), r.part, t, atMost)
}

// around lists the other nodes that have a replica of a partition, the nearest first. Of equally near ones each gateway
// prefers its own, always the same, so that what it reads does not go back and forth. Those of which nothing is heard come
// last, or are left out.
func (c *client) around(part placement.PartitionID, silent bool) []string {
	record, ok := c.place.Partition(part)
	if !ok {
		return nil
	}
	zones := map[string]string{}
	for _, n := range c.place.Nodes() {
		zones[n.Name] = n.Zone
	}
	type option struct {
		node string
		rank int // 0 in this zone, 1 in another; 2 more when nothing is heard of it
		luck uint64
	}
	var list []option
	for _, r := range record.Replicas {
		if r.Node == c.self {
			continue
		}
		o := option{node: r.Node, luck: maphash.String(c.seed, r.Node)}
		if zones[r.Node] != zones[c.self] {
			o.rank = 1
		}
		if c.links.LastHeard(r.Node) > silentAfter {
			if !silent {
				continue
			}
			o.rank += 2
		}
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b option) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		if a.luck < b.luck {
			return -1
		}
		return 1
	})
	nodes := make([]string, len(list))
	for i, o := range list {
		nodes[i] = o.node
	}
	return nodes
}

// silentAfter is how long nothing has been heard of a node that counts as silent.
const silentAfter = time.Second

// readNear asks nodes, one after another as they refuse, and a second one while the first takes long.
func (c *client) readNear(ctx context.Context, nodes []string, part placement.PartitionID, t *engine.Task, atMost time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, nearTime)
	defer cancel()
	var open [2]*asked
	defer func() {
		for _, a := range open {
			if a != nil {
				c.giveUp(a)
			}
		}
	}()
	err = errNobody
	ask := func(slot int) {
		for open[slot] == nil && len(nodes) > 0 {
			if a, failed := c.askNear(ctx, nodes[0], part, t, atMost); failed != nil {
				err = failed
			} else {
				open[slot] = a
			}
			nodes = nodes[1:]
		}
	}
	late := time.NewTimer(c.delays.late())
	defer late.Stop()
	hedge := late.C
	if t.Allowed != nil { // a script asks back what it may do, and only one at a time can be told
		hedge = nil
	}
	for {
		if open[0] == nil && open[1] == nil {
			if ask(0); open[0] == nil {
				return err
			}
		}
		slot := 0
		select {
		case <-signal(open[0]):
		case <-signal(open[1]):
			slot = 1
		case <-hedge:
			hedge = nil
			if open[0] == nil {
				open[0], open[1] = open[1], nil
			}
			ask(1)
			continue
		case <-ctx.Done():
			return fault.Wrap(fault.Unavailable, "hop.near", ctx.Err(), "no replica of this part of the cache has answered in time")
		}
		a := open[slot]
		open[slot] = nil
		var done bool
		if done, err = c.tookNear(a, t); done {
			return err
		}
	}
}

// signal is what tells that a request has its answer, nil for no request.
func signal(a *asked) <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.done
}

// askNear sends a node a task that it may answer without leading.
func (c *client) askNear(ctx context.Context, to string, part placement.PartitionID, t *engine.Task, atMost time.Duration) (*asked, error) {
	within := time.Duration(0)
	if end, ok := ctx.Deadline(); ok {
		within = max(time.Until(end), time.Millisecond)
	}
	a := c.begin(to, t)
	c.mu.Lock()
	a.kept, a.sent = true, time.Now()
	c.mu.Unlock()
	message := appendRead(nil, a.id, t, atMost)
	c.plainly(t)
	message = appendTask(message, part, c.revision(), within, t, nil)
	if err := c.post(ctx, to, message, reach); err != nil {
		c.giveUp(a)
		return nil, fault.Wrap(fault.Unavailable, "hop.near", err, "the node that has a replica of this part of the cache cannot be reached")
	}
	return a, nil
}

// tookNear hands over an answer, and reports whether it is one.
func (c *client) tookNear(a *asked, t *engine.Task) (done bool, err error) {
	defer a.give()
	switch {
	case a.broke:
		return false, fault.Wrap(fault.Unavailable, "hop.near", errBroke, "the link to a replica of this part of the cache broke")
	case a.not:
		return false, fault.New(fault.Unavailable, "hop.near", "this replica may be too far behind")
	case a.err != nil:
		return !fault.Is(a.err, fault.Unavailable), a.err
	}
	c.delays.note(time.Since(a.sent))
	t.Done, t.Failed = a.answer.done, a.answer.failed
	t.Answered(a.answer.was, a.answer.age)
	t.Floor = max(t.Floor, min(a.answer.now, time.Now().UnixMilli()+maxSkewMs))
	if err := engine.ReplayBytes(a.said, t.Reply); err != nil {
		return true, fault.Wrap(fault.Internal, "hop.near", err, "")
	}
	return true, nil
}

// maxSkewMs bounds how far other nodes' clocks can take this gateway's ahead.
const maxSkewMs = int64(time.Minute / time.Millisecond)

// giveUp forgets a request that nobody waits for any more.
func (c *client) giveUp(a *asked) {
	c.mu.Lock()
	taken := a.state != open
	a.state = over
	c.drop(a)
	c.mu.Unlock()
	if taken {
		<-a.done
	}
}

// advance keeps the time that the last eventual read was at, so that one which has expired for a client does not come back.
func (c *client) advance(to int64) {
	for {
		now := c.clock.Load()
		if to <= now || c.clock.CompareAndSwap(now, to) {
			return
		}
	}
}

// leaderless reports whether a leader was looked for a moment ago, and not found. Once a while one caller looks again, and the
// others need not wait for what comes of it.
func (c *client) leaderless(part placement.PartitionID) bool {
	at, ok := c.alone.Load(part)
	if !ok {
		return false
	}
	if time.Since(at.(time.Time)) < leaderlessTime {
		return true
	}
	return !c.alone.CompareAndSwap(part, at, time.Now())
}

// delays are how long replicas took to answer lately.
type delays struct {
	mu   sync.Mutex
	ring [hedgeSample]time.Duration
	n    int
	at   atomic.Int64 // the slowest twentieth took longer; 0 for not known yet
}

func (d *delays) note(took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ring[d.n%len(d.ring)] = took
	if d.n++; d.n >= len(d.ring) && d.n%(hedgeSample/4) == 0 {
		sorted := d.ring
		slices.Sort(sorted[:])
		d.at.Store(int64(sorted[hedgeSample*95/100]))
	}
}

// late is how long a second replica is not asked.
func (d *delays) late() time.Duration {
	at := time.Duration(d.at.Load())
	if at == 0 {
		return hedgeFirst
	}
	return min(max(at, hedgeLeast), hedgeMost)
}

// appendRead begins a request that says how current its answer has to be.
func appendRead(dst []byte, id uint64, t *engine.Task, atMost time.Duration) []byte {
	dst = append(head(dst, mRead, id), byte(t.Consistency))
	dst = binary.AppendUvarint(dst, uint64(atMost/time.Millisecond))
	return binary.AppendUvarint(dst, uint64(t.Floor))
}

// reads is how current the answer to a request has to be.
type reads struct {
	level  engine.Consistency
	atMost time.Duration
	floor  int64
}

func (r *reads) read(p *parser) {
	level, atMost, floor := p.byte(), p.uvarint(), p.uvarint()
	if level > byte(engine.Eventual) || atMost > uint64(time.Hour/time.Millisecond) {
		p.fail()
		return
	}
	*r = reads{engine.Consistency(level), time.Duration(atMost) * time.Millisecond, int64(floor)}
}

// carryOutNear has a replica here, which need not lead, answer.
func carryOutNear(ctx context.Context, at Executor, t *engine.Task, atMost time.Duration) error {
	if near, ok := at.(Near); ok {
		return near.ReadNear(t, atMost)
	}
	if !leads(at) {
		return errElsewhere
	}
	return at.Execute(ctx, t)
}

var errElsewhere = fault.Wrap(fault.Unavailable, "hop.near", &replication.NotLeader{}, "this node has no replica")

// appendWas says what an answer was.
func appendWas(dst []byte, t *engine.Task) []byte {
	dst = append(dst, byte(t.Was))
	dst = binary.AppendUvarint(dst, uint64(t.AgeMs))
	return binary.AppendUvarint(dst, uint64(t.Floor))
}
