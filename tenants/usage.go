package tenants

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
)

// Usage is what was used of a cache since it was made.
type Usage struct {
	Operations int64                 `json:"operations"`
	Units      int64                 `json:"units"`     // request units: see engine.Command.Units
	BytesIn    int64                 `json:"bytes_in"`  // arguments
	BytesOut   int64                 `json:"bytes_out"` // replies
	Denied     int64                 `json:"denied"`    // operations that a policy refused; they cost nothing
	Throttled  int64                 `json:"throttled"` // requests refused by a limit; they cost nothing
	Failed     int64                 `json:"failed"`    // requests that ended in an error of ours
	Classes    map[string]ClassUsage `json:"classes"`   // by command class; those never used are left out
}

// ClassUsage is the part of one class of commands.
type ClassUsage struct {
	Operations int64 `json:"operations"`
	Units      int64 `json:"units"`
}

func (u *Usage) add(v Usage) {
	u.Operations += v.Operations
	u.Units += v.Units
	u.BytesIn += v.BytesIn
	u.BytesOut += v.BytesOut
	u.Denied += v.Denied
	u.Throttled += v.Throttled
	u.Failed += v.Failed
	for name, c := range v.Classes {
		if u.Classes == nil {
			u.Classes = map[string]ClassUsage{}
		}
		sum := u.Classes[name]
		u.Classes[name] = ClassUsage{sum.Operations + c.Operations, sum.Units + c.Units}
	}
}

// A Meter counts the use of one cache in this process. All of its methods are safe for concurrent use.
type Meter struct {
	tenant, cache string
	id            engine.CacheID
	operations    [engine.NumGroups]atomic.Int64
	units         [engine.NumGroups]atomic.Int64
	bytesIn       atomic.Int64
	bytesOut      atomic.Int64
	denied        atomic.Int64
	throttled     atomic.Int64
	failed        atomic.Int64
	saved         Usage // what the roll-up in etcd holds of this node; guarded by Meters.flush
}

// Add counts operations of one class that were carried out.
func (m *Meter) Add(group engine.Group, operations, units int64) {
	m.operations[group].Add(operations)
	m.units[group].Add(units)
}

// AddBytes counts what went in and out.
func (m *Meter) AddBytes(in, out int64) {
	m.bytesIn.Add(in)
	m.bytesOut.Add(out)
}

// Denied counts an operation that a policy refused.
func (m *Meter) Denied() { m.denied.Add(1) }

// Throttled counts a request that a limit refused.
func (m *Meter) Throttled() { m.throttled.Add(1) }

// Failed counts a request that ended in an error of ours.
func (m *Meter) Failed() { m.failed.Add(1) }

// Read returns what was counted since this process began.
func (m *Meter) Read() Usage {
	u := Usage{
		BytesIn: m.bytesIn.Load(), BytesOut: m.bytesOut.Load(),
		Denied: m.denied.Load(), Throttled: m.throttled.Load(), Failed: m.failed.Load(),
		Classes: map[string]ClassUsage{},
	}
	for g := range engine.NumGroups {
		c := ClassUsage{m.operations[g].Load(), m.units[g].Load()}
		if c == (ClassUsage{}) {
			continue
		}
		u.Classes[g.String()] = c
		u.Operations += c.Operations
		u.Units += c.Units
	}
	return u
}

// rollUp is what one node has counted of one cache: everything before its present run, and in it.
type rollUp struct {
	Node  string `json:"node"`
	Usage Usage  `json:"usage"`
}

// Meters are the meters of all caches, and their roll-ups in etcd: one record for each cache and node, written
// now and then, so that a restart loses the last moments at most.
type Meters struct {
	node   string
	log    *slog.Logger
	rolled *records.Table[rollUp] // <cache id>/<node>: a cache made anew under an old name has used nothing

	mu     sync.RWMutex
	meters map[engine.CacheID]*Meter
	before map[engine.CacheID]Usage // of this node's earlier runs
	gone   map[engine.CacheID]bool  // deleted caches whose roll-ups Flush has to remove

	flush sync.Mutex
}

// OpenMeters reads the roll-ups of earlier runs.
func OpenMeters(m *mirror.Mirror, node string, log *slog.Logger) *Meters {
	return &Meters{
		node: node, log: log, rolled: records.Open[rollUp](m, "usage", "usage", log),
		meters: map[engine.CacheID]*Meter{}, before: map[engine.CacheID]Usage{}, gone: map[engine.CacheID]bool{},
	}
}

// Of returns the meter of a cache.
func (ms *Meters) Of(c *Cache) *Meter {
	ms.mu.RLock()
	m := ms.meters[c.ID]
	ms.mu.RUnlock()
	if m != nil {
		return m
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if m = ms.meters[c.ID]; m == nil {
		m = &Meter{tenant: c.Tenant, cache: c.Name, id: c.ID}
		ms.meters[c.ID] = m
		if r, ok := ms.rolled.Get(ms.name(c.ID)); ok {
			ms.before[c.ID] = r.Usage
			m.saved = r.Usage
		}
	}
	return m
}

func (ms *Meters) name(id engine.CacheID) string { return id.String() + "/" + ms.node }

// Usage returns what was used of a cache, by all nodes and since it was made.
func (ms *Meters) Usage(c *Cache) Usage {
	u := ms.own(ms.Of(c))
	rolled, _ := ms.rolled.List(c.HexID+"/", "", 0)
	for _, r := range rolled {
		if r.Node != ms.node {
			u.add(r.Usage)
		}
	}
	if u.Classes == nil {
		u.Classes = map[string]ClassUsage{}
	}
	return u
}

func (ms *Meters) own(m *Meter) Usage {
	ms.mu.RLock()
	before := ms.before[m.id]
	ms.mu.RUnlock()
	u := m.Read()
	u.add(before)
	return u
}

// Each calls fn for the meter of every cache used by this process.
func (ms *Meters) Each(fn func(tenant, cache string, u Usage)) {
	ms.mu.RLock()
	all := make([]*Meter, 0, len(ms.meters))
	for _, m := range ms.meters {
		all = append(all, m)
	}
	ms.mu.RUnlock()
	for _, m := range all {
		fn(m.tenant, m.cache, m.Read())
	}
}

// Forget drops the meter of a cache that was deleted, and with the next Flush its roll-ups.
func (ms *Meters) Forget(id engine.CacheID) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	delete(ms.meters, id)
	delete(ms.before, id)
	ms.gone[id] = true
}

// sweep removes the roll-ups of deleted caches, whichever node wrote them: that node may be gone as well.
func (ms *Meters) sweep(ctx context.Context) error {
	ms.mu.Lock()
	gone := maps.Clone(ms.gone)
	ms.mu.Unlock()
	for id := range gone {
		rolled, _ := ms.rolled.List(id.String()+"/", "", 0)
		for _, r := range rolled {
			if err := ms.rolled.Delete(ctx, id.String()+"/"+r.Node); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
		}
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for id := range gone {
		delete(ms.gone, id)
	}
	return nil
}

// Flush writes the roll-ups that have changed.
func (ms *Meters) Flush(ctx context.Context) error {
	ms.flush.Lock()
	defer ms.flush.Unlock()
	if err := ms.sweep(ctx); err != nil {
		return err
	}
	ms.mu.RLock()
	all := make([]*Meter, 0, len(ms.meters))
	for _, m := range ms.meters {
		all = append(all, m)
	}
	ms.mu.RUnlock()
	for _, m := range all {
		u := ms.own(m)
		if u.Operations == m.saved.Operations && u.Denied == m.saved.Denied && u.Throttled == m.saved.Throttled && u.Failed == m.saved.Failed {
			continue
		}
		if err := ms.rolled.Put(ctx, ms.name(m.id), &rollUp{Node: ms.node, Usage: u}); err != nil {
			return err
		}
		m.saved = u
	}
	return nil
}

// flushEvery is how often roll-ups are written.
const flushEvery = 10 * time.Second

// Run writes roll-ups until ctx ends, then once more.
func (ms *Meters) Run(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := ms.Flush(ctx); err != nil && ctx.Err() == nil {
				ms.log.Warn("usage could not be rolled up; it will be tried again", "error", err)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if err := ms.Flush(last); err != nil {
				ms.log.Warn("the last usage was not rolled up", "error", err)
			}
			return
		}
	}
}
