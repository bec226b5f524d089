// Package gateway is the one front door: every protocol hands its commands to Gateway.Do, which asks who may
// do what (auth/policy), whether the limits allow it (tenants), where the data lives (placement), has it done
// (replication), meters it, and lets the answer flow into the protocol's own encoder.
//
// A right, a limit, a metric and a bug fix therefore exist once for all protocols. Start with Do.
package gateway

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

// An Executor carries out tasks on one partition, here or on another node.
type Executor interface {
	// Execute returns when t's replies are written. An error means that nothing was done, except for
	// fault.OutcomeUnknown.
	Execute(ctx context.Context, t *engine.Task) error
	// Watch begins to watch a key.
	Watch(cache engine.CacheID, db int, key []byte) engine.Watch
	// Release ends a wait with an error, or with the answer that nothing was found when that is nil. It reports whether
	// the waiter was still waiting.
	Release(w *engine.Waiter, e *fault.Error) bool
	// Abandon forgets a waiter that is gone.
	Abandon(w *engine.Waiter)
	// Waiting tells how many callers wait in a cache, for how many keys, and for how many that may also go.
	Waiting(cache engine.CacheID) (callers, keys, gone int)
	// Observe says whether the Hub wants to hear of a cache's keys.
	Observe(cache engine.CacheID, on bool)
}

// Partitions finds the executor of a partition; nil when it cannot be reached from here.
type Partitions func(placement.PartitionID) Executor

// A Gateway has no state of its own but caches and counters: any number of them serve the same tenants.
type Gateway struct {
	accounts   *tenants.Store
	meters     *tenants.Meters
	partitions Partitions
	region     string
	clock      func() time.Time
	began      time.Time // limits count from here: on a steady clock, whatever happens to the system's

	routes  *lru.Cache[routeKey, *route]
	changes atomic.Uint64                    // of records; see changed
	buckets *lru.Cache[bucketsKey, *buckets] // of tenants and of caches
	nowhere tenants.Meter                    // of caches that do not exist; nobody reads it
	hub     *Hub
}

type routeKey struct{ tenant, cache string }

// A route is what is known of a cache, looked up once and kept until a record changes.
type route struct {
	owner limit          // the tenant's
	own   limit          // the cache's
	cache *tenants.Cache // nil when the tenant has none of that name
	meter *tenants.Meter
	only  Executor // the partition, while the cache has just one range

	largest int64    // bytes of a value
	homes   []home   // the partitions of a cache with several ranges, each once
	byRange []uint16 // which of them has each range

	record   *tenants.Cache // with followed: what cache was made of, by what partitions have said
	followed int            // how often a request has been sent elsewhere before it came to this route: see follow
	began    time.Time      // when it was for the first time
}

// New makes a gateway. Each record that changes drops the routes that depend on it.
func New(accounts *tenants.Store, meters *tenants.Meters, partitions Partitions, region string, clock func() time.Time) *Gateway {
	routes, err := lru.New[routeKey, *route](65536)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	kept, err := lru.New[bucketsKey, *buckets](65536)
	if err != nil {
		panic(err)
	}
	g := &Gateway{accounts: accounts, meters: meters, partitions: partitions, region: region, clock: clock, began: clock(), routes: routes, buckets: kept, hub: newHub()}
	accounts.OnCacheChange(func(old, new *tenants.Cache) {
		g.changed(func() {
			for _, c := range []*tenants.Cache{old, new} {
				if c != nil {
					g.routes.Remove(routeKey{c.Tenant, c.Name})
				}
			}
		})
	})
	accounts.OnTenantChange(func(old, new *tenants.Tenant) {
		g.changed(g.routes.Purge)
	})
	return g
}

// changed drops the routes that a changed record made old. It counts before, so that route keeps none that was read from
// the old record, and behind, so that no standing holds on to one that was found while it was about to be dropped.
func (g *Gateway) changed(drop func()) {
	g.changes.Add(1)
	drop()
	g.changes.Add(1)
}

// A Caller is who asks, and how they came in. One serves all the requests of a connection or an HTTP request.
type Caller struct {
	Principal  *auth.Principal
	Source     netip.Addr
	Secure     bool     // over TLS
	TLSVersion uint16   // as crypto/tls numbers them; 0 without TLS
	Protocol   string   // "http", "redis", "memcached"
	Peer       string   // the address with its port, as MONITOR shows it; may be empty
	Granted    *[]Grant // where the rights of management that were given are noted; nil to note none
	UserAgent  string
	Stays      bool // more requests will follow, one after another: what the first finds out is kept for them

	standing *standing // nil for nothing known
}

// A Reply is an engine.Reply that knows how long it has become, in bytes, for metering.
type Reply interface {
	engine.Reply
	Len() int
}

// A Request is what a caller wants from one cache. It may be used again: protocols keep a pool of them.
//
// Reply gets exactly one answer for each call, in order; a call that may not be done, or whose name nobody
// knows, is answered with an error like one that failed. An atomic request, or one that carries Once or is Whole, is
// done as a whole or refused as a whole.
type Request struct {
	Caller *Caller
	Cache  string
	DB     int
	Calls  []engine.Call // Command nil means that the name in Args[0] is unknown
	Atomic bool
	Whole  bool // nothing of others comes in between, but a call that fails does not undo the others
	Once   *engine.Once
	Reply  Reply
	Refuse func(*engine.Call) error // says why the protocol does not carry a call; nil when it carries all

	Waiter  *engine.Waiter // with one call that blocks: who waits when it finds nothing; nil when nobody can
	Watches []Watch        // with Whole: what has to be as it was
	Enough  func() bool    // see engine.Task; nil for never
	Origin  any            // see engine.Task
	Quiet   bool           // see engine.Task
	Holds   bool           // see engine.Task

	Consistency engine.Consistency // of reads; the default is the cache's

	Units    int64 // set by Do: the request units charged
	Failed   int   // set by Do: see engine.Task
	Replayed bool  // set by Do: see engine.Task
	Done     int   // set by Do: how many of the calls have been carried out
	Parked   Place // set by Do: where the waiter waits; zero unless it does
	Stale    bool  // set by Do: a watch did not stand, and nothing was done
	AgeMs    int64 // set by Do with Was: see engine.Task

	Was  engine.Consistency // set by Do: what the answer is; the default for linearizable
	Held engine.Receipt     // set by Do, with Holds: when the replies may be seen

	task     engine.Task
	rights   []engine.Right
	question policy.Request
	context  auth.Context
	facts    facts
	way      way
}

// Reset empties r for another request and keeps its room.
func (r *Request) Reset() {
	clear(r.rights)
	*r = Request{rights: r.rights[:0]}
}

// Do carries out a request. The error, if any, is about the request as a whole: nothing was done, unless its
// kind is fault.OutcomeUnknown.
//
// A cache's own limit is asked after the policies, and a cache that does not exist answers like one that does:
// whoever may not use a cache learns nothing of it. Begin is Do for who cannot wait.
func (g *Gateway) Do(ctx context.Context, r *Request) error {
	rt, all, now, err := g.admit(r)
	switch {
	case err != nil:
		return err
	case all:
		return g.run(ctx, r, rt, r.Calls, now)
	}
	return g.runAllowed(ctx, r, rt, now)
}

// admit finds the way of a request, and reports whether all of its calls may be done.
func (g *Gateway) admit(r *Request) (rt *route, all bool, now time.Time, err error) {
	r.Units, r.Failed, r.Replayed, r.Done, r.Parked, r.Stale, r.Was, r.AgeMs, r.Held = 0, -1, false, 0, Place{}, false, 0, 0, engine.Receipt{}
	if !r.Caller.Principal.Opens(auth.UseData) {
		return nil, false, now, fault.New(fault.Denied, "gateway.do", "this token is not for data")
	}
	if rt, err = g.standingOf(r.Caller, r.Cache); err != nil {
		return nil, false, now, err
	}
	now = g.clock()
	if wait := rt.owner.wait(g.since(now)); wait > 0 {
		rt.meter.Throttled()
		return nil, false, now, throttled(wait)
	}
	refused := 0
	for i := range r.Calls {
		if g.granted(r, &r.Calls[i]) {
			continue
		}
		if err := g.check(r, rt, i, now); err != nil {
			refused++
		}
	}
	if refused < len(r.Calls) {
		if rt.cache == nil && refused == 0 {
			return nil, false, now, missing(r)
		}
		if wait := rt.own.wait(g.since(now)); wait > 0 {
			rt.meter.Throttled()
			return nil, false, now, throttled(wait)
		}
	}
	return rt, refused == 0 && len(r.Calls) > 0, now, nil
}

// runAllowed answers each call of a request of which some are refused, which is rare: the allowed ones as one
// task each, unless all must be done or none.
func (g *Gateway) runAllowed(ctx context.Context, r *Request, rt *route, now time.Time) error {
	whole := r.Atomic || r.Whole || r.Once != nil
	for i := range r.Calls {
		err := g.check(r, rt, i, now)
		if fault.Is(err, fault.Denied) {
			rt.meter.Denied()
		}
		switch {
		case err != nil && whole:
			r.Failed = i
			return err
		case whole:
			continue
		case err == nil && rt.cache == nil:
			err = missing(r)
		case err == nil:
			err = g.run(ctx, r, rt, r.Calls[i:i+1], now)
		}
		if err != nil {
			r.Reply.Error(fault.From(err))
		}
		r.Done = i + 1
	}
	return nil
}

// check returns why call i may not be done: unknown, malformed or not allowed.
func (g *Gateway) check(r *Request, rt *route, i int, now time.Time) error {
	call := &r.Calls[i]
	if r.Refuse != nil {
		if err := r.Refuse(call); err != nil {
			return err
		}
	}
	if call.Command == nil {
		return fault.New(fault.InvalidArgument, "gateway.do", "unknown command '%.128s'", call.Args[0])
	}
	if err := call.Command.CheckArity(len(call.Args)); err != nil {
		return err
	}
	r.rights = call.Command.AppendRights(r.rights[:0], call.Args)
	if len(r.rights) == 0 {
		return fault.New(fault.Internal, "gateway.check", "%s asks for no right", call.Command.Name)
	}
	r.facts = facts{caller: r.Caller, cache: rt.cache, call: call, now: now}
	r.context = auth.Context{Now: now, Request: &r.facts}
	for _, right := range r.rights {
		if err := g.allowed(r, right); err != nil {
			return err
		}
	}
	return nil
}

// actions finds an action by its name as the command table writes it.
var actions = func() map[string]policy.Action {
	all := map[string]policy.Action{}
	for _, name := range policy.Actions() {
		all[name], _ = policy.LookupAction(name)
	}
	return all
}()

// allowed asks the caller's policies for one right on the request's cache.
func (g *Gateway) allowed(r *Request, right engine.Right) error {
	who := r.Caller.Principal
	action, ok := actions[right.Action]
	if !ok {
		return fault.New(fault.Internal, "gateway.allowed", "action %q is unknown", right.Action)
	}
	r.question.Action = action
	switch right.On {
	case engine.OnKey:
		r.question.Resource = policy.NewItem(g.region, who.Tenant, r.Cache, "key", right.Name)
	case engine.OnLeaderboard:
		r.question.Resource = policy.NewItem(g.region, who.Tenant, r.Cache, "leaderboard", right.Name)
	case engine.OnTopic:
		r.question.Resource = policy.NewItem(g.region, who.Tenant, r.Cache, "channel", right.Name)
	default:
		r.question.Resource = policy.NewResource("cache", g.region, who.Tenant, "cache", r.Cache)
	}
	v := policy.Verdict{}
	if right.On == engine.OnKeys {
		r.question.Resource = policy.NewItem(g.region, who.Tenant, r.Cache, "key", everyKey)
		v = who.DecideAll(&r.question, &r.context)
	} else {
		v = who.Decide(&r.question, &r.context)
	}
	if v.Decision == policy.Allow {
		return nil
	}
	return fault.New(fault.Denied, "gateway.allowed", "this credential may not %s on %s", right.Action, r.question.Resource.String())
}

// everyKey is how a refusal calls all keys.
var everyKey = []byte("*")

// run has calls, all of them allowed, carried out, and meters them: as one task, unless they concern several partitions.
func (g *Gateway) run(ctx context.Context, r *Request, rt *route, calls []engine.Call, now time.Time) error {
	if g.hub.monitored.Load() > 0 {
		g.hub.show(r, rt.cache.ID, calls, now)
	}
	return g.carry(ctx, r, rt, calls, now)
}

// carry has calls carried out and metered along a route.
func (g *Gateway) carry(ctx context.Context, r *Request, rt *route, calls []engine.Call, now time.Time) error {
	if len(rt.homes) > 0 {
		return g.divide(ctx, r, rt, calls, now)
	}
	to, err := g.executor(rt)
	if err != nil {
		rt.meter.Failed()
		return err
	}
	return g.direct(ctx, r, rt, to, calls, now)
}

// direct has one partition carry out calls as one task, whose replies go straight to whoever asked.
func (g *Gateway) direct(ctx context.Context, r *Request, rt *route, to Executor, calls []engine.Call, now time.Time) error {
	before := r.Reply.Len()
	g.prepare(r, rt, calls, now)
	inTurns := r.Enough == nil && len(calls) > 1 && !r.task.OneGo()
	if inTurns {
		r.task.Enough = never
	}
	var waits *transfer
	if r.Waiter != nil {
		waits = g.transferOf(r, rt, to)
	}
	if err := g.send(ctx, rt, to, &r.task); err != nil {
		if moved := movedBy(err); moved != nil {
			return g.again(ctx, r, rt, calls, now, moved)
		}
		return err
	}
	if r.task.Parked != nil {
		waits.parked(r.task.Parked.For)
		r.Parked = Place{waits, r.Waiter}
	}
	if done := r.task.Done; inTurns && done < len(calls) && r.task.Failed < 0 && !r.task.Stale {
		g.conclude(r, rt, calls[:done], before, now)
		if err := g.direct(ctx, r, rt, to, calls[done:], now); err != nil {
			for range calls[done:] {
				r.Reply.Error(fault.From(err))
			}
		}
		r.Done = len(calls)
		return nil
	}
	g.conclude(r, rt, calls, before, now)
	return nil
}

// prepare makes the task of calls that go to one partition.
func (g *Gateway) prepare(r *Request, rt *route, calls []engine.Call, now time.Time) {
	r.task = engine.Task{
		Cache: rt.cache.ID, DB: r.DB, Calls: calls, Atomic: r.Atomic, Whole: r.Whole, Once: r.Once, Reply: r.Reply,
		Enough: r.Enough, Origin: r.Origin, Quiet: r.Quiet, Waiter: r.Waiter, Waits: r.Waiter != nil,
		Consistency: r.consistency(rt), Holds: r.Holds,
	}
	if len(r.Watches) > 0 {
		r.guard()
	}
	if len(rt.homes) == 0 && concernsAll(calls) {
		r.task.Slots, r.task.Exactly = allSlots, true
	}
	g.equip(r, rt, &r.task, now)
}

// conclude takes what came of the task, whose answers stand in Reply behind the first before bytes.
func (g *Gateway) conclude(r *Request, rt *route, calls []engine.Call, before int, now time.Time) {
	r.heard(&r.task)
	if r.task.Stale {
		r.Stale = true
		return
	}
	r.Failed, r.Replayed, r.Done = r.task.Failed, r.task.Replayed, r.task.Done
	if r.Enough != nil {
		calls = calls[:r.Done]
	}
	g.meter(r, rt, calls, r.Reply.Len()-before, now)
}

// never is the Enough of a task whose caller wants all of it, and has nothing against others that come in between.
func never() bool { return false }

// consistency is how current the answers have to be: what the request says, or else its cache. One that writes is linearizable as a
// whole, also where it is divided.
func (r *Request) consistency(rt *route) engine.Consistency {
	level := r.Consistency
	if level == engine.DefaultConsistency {
		level = rt.cache.Level()
	}
	if level <= engine.Linearizable {
		return level
	}
	for i := range r.Calls {
		if c := r.Calls[i].Command; c != nil && c.Flags&engine.Writes != 0 {
			return engine.Linearizable
		}
	}
	return level
}

// heard notes what the answers of a task are, and when they may be seen: those of a request are as its weakest.
func (r *Request) heard(t *engine.Task) {
	r.Was, r.AgeMs = max(r.Was, t.Was), max(r.AgeMs, t.AgeMs)
	r.Held.Join(t.Held)
}

// equip gives a task with scripts what they may do.
func (g *Gateway) equip(r *Request, rt *route, t *engine.Task, now time.Time) {
	for i := range t.Calls {
		if t.Calls[i].Command.Group == engine.GroupScripting {
			t.Allowed, t.Surely, t.Rights = g.allowedInside(r, rt, now), g.surelyInside(r), g.rightsInside(r)
			return
		}
	}
}

// send has a partition carry out a task: whatever is done to a cache's data goes through here, or through begin.
func (g *Gateway) send(ctx context.Context, rt *route, to Executor, t *engine.Task) error {
	err := to.Execute(ctx, t)
	rt.failed(err)
	return err
}

// failed counts an error of a partition.
func (rt *route) failed(err error) {
	if err != nil && movedBy(err) == nil && !fault.Is(err, fault.Timeout) { // that is the client's own deadline
		rt.meter.Failed()
	}
}

// meter charges calls that were carried out and answered with so many bytes. A batch's replies are charged together, with
// its last command; what the meter hears is one sum for each run of commands of the same class.
func (g *Gateway) meter(r *Request, rt *route, calls []engine.Call, out int, now time.Time) {
	in, units := 0, int64(0)
	operations, cost := int64(0), int64(0)
	for i := range calls {
		size, reply := 0, 0
		for _, a := range calls[i].Args {
			size += len(a)
		}
		in += size
		last := i == len(calls)-1
		if last {
			reply = out
		}
		group := calls[i].Command.Group
		operations++
		cost += calls[i].Command.Units(size, reply)
		if last || calls[i+1].Command.Group != group {
			rt.meter.Add(group, operations, cost)
			units += cost
			operations, cost = 0, 0
		}
	}
	r.Units += units
	rt.meter.AddBytes(int64(in), int64(out))
	rt.owner.charge(g.since(now), units, int64(in+out))
	rt.own.charge(g.since(now), units, int64(in+out))
}

// stands is the guard of a task that depends on watches.
func (r *Request) stands() bool {
	for _, w := range r.Watches {
		if !w.Stands() {
			return false
		}
	}
	return true
}

// guard has the request's task depend on its watches.
func (r *Request) guard() {
	r.task.Guard = r.stands
	for _, w := range r.Watches {
		r.task.Watches = append(r.task.Watches, w.Watch)
	}
}

// A Watch is one that the gateway has begun.
type Watch struct {
	engine.Watch
	slot uint16 // of the key
}

// A Place is where a caller waits for a blocking command.
type Place struct {
	at *transfer
	w  *engine.Waiter
}

// Waits reports whether somebody waits there.
func (p Place) Waits() bool { return p.at != nil }

// Release ends the wait with an error, or with the answer that nothing was found when that is nil. It reports whether
// the caller was still waiting.
func (p Place) Release(e *fault.Error) bool { return p.at.Release(p.w, e) }

// Abandon ends the wait of a caller that is gone.
func (p Place) Abandon() { p.at.Abandon(p.w) }

// Watch begins to watch a key of a cache, for a caller that may.
func (g *Gateway) Watch(caller *Caller, cache string, db int, key []byte) (Watch, error) {
	rt, err := g.route(caller.Principal.Tenant, cache)
	if err != nil {
		return Watch{}, err
	}
	if rt.cache == nil {
		return Watch{}, missing(&Request{Cache: cache})
	}
	slot := placement.Slot(key)
	to := g.partitions(placement.Find(rt.cache.Ranges, slot))
	if to == nil {
		return Watch{}, errOutOfReach
	}
	return Watch{to.Watch(rt.cache.ID, db, key), slot}, nil
}

// Waiting tells how many callers wait in a cache, for how many keys, and for how many of which they also wait to hear that
// they are gone.
func (g *Gateway) Waiting(caller *Caller, cache string) (callers, keys, gone int) {
	g.eachExecutor(caller, cache, func(id engine.CacheID, to Executor) {
		c, k, n := to.Waiting(id)
		callers, keys, gone = callers+c, keys+k, gone+n
	})
	return callers, keys, gone
}

// eachExecutor calls do for every partition that holds a part of a cache.
func (g *Gateway) eachExecutor(caller *Caller, cache string, do func(engine.CacheID, Executor)) {
	rt, err := g.route(caller.Principal.Tenant, cache)
	if err != nil || rt.cache == nil {
		return
	}
	for _, p := range rt.cache.Partitions() {
		if to := g.partitions(p); to != nil {
			do(rt.cache.ID, to)
		}
	}
}

// Cache is the record of a cache of the caller's tenant, nil when there is none of that name.
func (g *Gateway) Cache(caller *Caller, cache string) *tenants.Cache {
	rt, err := g.route(caller.Principal.Tenant, cache)
	if err != nil {
		return nil
	}
	return rt.cache
}

// allowedInside says which commands a script may carry out: those that its caller may.
func (g *Gateway) allowedInside(r *Request, rt *route, now time.Time) func(*engine.Command, [][]byte) error {
	var call [1]engine.Call
	asking := Request{Caller: r.Caller, Cache: r.Cache, Calls: call[:]}
	reader, _ := r.Origin.(Reader)
	return func(c *engine.Command, args [][]byte) error {
		call[0] = engine.Call{Command: c, Args: args}
		if !g.granted(&asking, &call[0]) {
			if err := g.check(&asking, rt, 0, now); err != nil {
				return err
			}
		}
		if reader != nil {
			reader.Reads(c, args)
		}
		if g.hub.monitored.Load() > 0 {
			g.hub.Show(rt.cache.ID, g.clock(), r.DB, "lua", args)
		}
		return nil
	}
}

// rightsInside says in data what allowedInside says of calls: for partitions whose replicas all carry a script out, and have
// nobody to ask. It knows of what surely holds, on every key and whatever the facts are: of a right on some keys, or under
// conditions, nothing is left.
func (g *Gateway) rightsInside(r *Request) func() *engine.Rights {
	who, cache := r.Caller.Principal, r.Cache
	return func() *engine.Rights {
		rights := &engine.Rights{}
		resource := func(on engine.ResourceKind) policy.Resource {
			if on == engine.OnCache {
				return policy.NewResource("cache", g.region, who.Tenant, "cache", cache)
			}
			return policy.NewItem(g.region, who.Tenant, cache, [...]string{engine.OnKey: "key", engine.OnLeaderboard: "leaderboard", engine.OnTopic: "channel"}[on], nil)
		}
		may := func(on engine.ResourceKind) (list []string) {
			for _, action := range dataActions {
				if who.Always(actions[action], resource(on)) {
					list = append(list, action)
				}
			}
			return list
		}
		all := true
		for _, on := range []engine.ResourceKind{engine.OnKey, engine.OnLeaderboard, engine.OnCache, engine.OnTopic} {
			rights.On[on] = may(on)
			all = all && len(rights.On[on]) == len(dataActions)
		}
		if all {
			return &engine.Rights{Everything: true}
		}
		return rights
	}
}

// dataActions are the actions that commands ask for.
var dataActions = func() []string {
	seen := map[string]bool{}
	for name := range actions {
		if strings.HasPrefix(name, "cache:") || strings.HasPrefix(name, "leaderboard:") || strings.HasPrefix(name, "topic:") {
			seen[name] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}()

// surelyInside is nil, or tells which commands a script may carry out whatever their keys are. Who wants to hear what a
// script reads, or monitors what is done, has to be asked each time.
func (g *Gateway) surelyInside(r *Request) func() *engine.CommandSet {
	if reader, ok := r.Origin.(Reader); ok && reader.Wants() || g.hub.monitored.Load() > 0 {
		return nil
	}
	return func() *engine.CommandSet {
		set := &engine.CommandSet{}
		for _, c := range engine.Commands() {
			if g.surely(r, c) {
				set.Add(c)
			}
		}
		return set
	}
}

// A Reader is an origin of requests that wants to know what its scripts read, before they do. It must be quick.
type Reader interface {
	Wants() bool // there is something to hear
	Reads(c *engine.Command, args [][]byte)
}

// executor finds the partition of a cache with one range.
func (g *Gateway) executor(rt *route) (Executor, error) {
	if rt.only != nil {
		return rt.only, nil
	}
	if to := g.partitions(rt.cache.Ranges[0].Partition); to != nil {
		return to, nil
	}
	return nil, errOutOfReach
}

var errOutOfReach = fault.New(fault.Unavailable, "gateway.executor", "no node in reach holds this part of the cache")

// route finds a cache of a tenant. Where the tenant has none of that name the route has no cache, and is not
// kept: names that do not exist are without number.
func (g *Gateway) route(tenant, name string) (*route, error) {
	key := routeKey{tenant, name}
	if rt, ok := g.routes.Get(key); ok {
		return rt, nil
	}
	before := g.changes.Load()
	owner, ok := g.accounts.Get(tenant)
	if !ok {
		return nil, fault.New(fault.Unauthenticated, "gateway.route", "the credential's tenant does not exist")
	}
	rt := &route{owner: g.limitOf("t:"+string(owner.ID), owner.Limits), meter: &g.nowhere}
	cache, ok := g.accounts.Cache(tenant, name)
	if !ok {
		return rt, nil
	}
	rt.cache, rt.meter = cache, g.meters.Of(cache)
	rt.own, rt.largest = g.limitOf("c:"+cache.HexID, cache.Limits), cache.LargestValue()
	if len(cache.Ranges) == 1 {
		rt.only = g.partitions(cache.Ranges[0].Partition)
	} else {
		g.settle(rt)
	}
	g.routes.Add(key, rt)
	if g.changes.Load() != before { // the records may have changed after they were read and before this was kept
		g.routes.Remove(key)
	}
	return rt, nil
}

// missing says that the request's cache does not exist.
func missing(r *Request) error {
	return fault.About(fault.NotFound, "gateway.do", "cache", "no cache %q", r.Cache)
}

// MaxValue is the most bytes that a value of the cache may have, so that a protocol can refuse a longer one
// before it reads it. For a cache that does not exist it is the default.
func (g *Gateway) MaxValue(caller *Caller, cache string) int64 {
	if rt, err := g.route(caller.Principal.Tenant, cache); err == nil && rt.cache != nil {
		return rt.largest
	}
	return tenants.DefaultMaxValue
}

// heard is the command whose right a listener to a pattern has to each channel: see Hears.
var heard = func() *engine.Command {
	c := *engine.MustLookup("PSUBSCRIBE")
	c.Name = "PMESSAGE"
	return &c
}()

// Hears reports whether a listener may be told a message. It matters for patterns, since a policy may deny a channel that
// matches a pattern which it allows, and for subscriptions that are older than the policy. Policies see the command by which
// the listener subscribed, or PMESSAGE.
func (g *Gateway) Hears(caller *Caller, cache string, m *Message) bool {
	who := caller.Principal
	if who.Always(policy.TopicSubscribe, policy.NewItem(g.region, who.Tenant, cache, "channel", nil)) {
		return true
	}
	rt, err := g.route(who.Tenant, cache)
	if err != nil {
		return false
	}
	args := [][]byte{nil, []byte(m.Channel)}
	may := func(c *engine.Command) bool {
		args[0] = []byte(c.Name)
		return g.check(&Request{Caller: caller, Cache: cache, Calls: []engine.Call{{Command: c, Args: args}}}, rt, 0, g.clock()) == nil
	}
	return may(subscribes[m.Kind]) || m.Kind == Pattern && may(heard)
}

// subscribes is the command by which a listener came to hear of channels.
var subscribes = [...]*engine.Command{Channel: engine.MustLookup("SUBSCRIBE"), ShardChannel: engine.MustLookup("SSUBSCRIBE"), Pattern: engine.MustLookup("PSUBSCRIBE")}

// Refusal is the error with which a call would be refused, whether or not there is such a cache; nil for none.
func (g *Gateway) Refusal(caller *Caller, cache string, call engine.Call) error {
	rt, err := g.route(caller.Principal.Tenant, cache)
	if err != nil {
		return err
	}
	return g.check(&Request{Caller: caller, Cache: cache, Calls: []engine.Call{call}}, rt, 0, g.clock())
}

// Admit refuses a caller whose tenant is over its limits, before a body is read.
func (g *Gateway) Admit(caller *Caller) error {
	tenant, ok := g.accounts.Get(caller.Principal.Tenant)
	if !ok {
		return nil
	}
	l := g.limitOf("t:"+string(tenant.ID), tenant.Limits)
	if wait := l.wait(g.since(g.clock())); wait > 0 {
		return throttled(wait)
	}
	return nil
}

// Authorize asks for one right outside of a cache's commands: on a key, a role, a tenant.
func (g *Gateway) Authorize(caller *Caller, action policy.Action, on policy.Resource) error {
	return g.authorize(&facts{caller: caller}, action, on)
}

// AuthorizeCache asks for one right on a cache of the caller's tenant as a whole, "*" for all of them. Policies
// may look at the cache's tags, if it exists, and at those that the request would give it.
func (g *Gateway) AuthorizeCache(caller *Caller, action policy.Action, name string, tags map[string]string) error {
	f := &facts{caller: caller, tags: tags}
	f.cache, _ = g.accounts.Cache(caller.Principal.Tenant, name)
	return g.authorize(f, action, policy.NewResource("cache", g.region, caller.Principal.Tenant, "cache", name))
}

func (g *Gateway) authorize(f *facts, action policy.Action, on policy.Resource) error {
	who := f.caller.Principal
	if !who.Opens(auth.UseManage) {
		return fault.New(fault.Denied, "gateway.authorize", "this token is not for management")
	}
	f.now = g.clock()
	v := who.Decide(&policy.Request{Action: action, Resource: on}, &auth.Context{Now: f.now, Request: f})
	if v.Decision == policy.Allow {
		if f.caller.Granted != nil {
			*f.caller.Granted = append(*f.caller.Granted, Grant{action.String(), on.String(), f.tags})
		}
		return nil
	}
	return fault.New(fault.Denied, "gateway.authorize", "this credential may not %s on %s", action, on.String())
}

// A Grant is a right that was asked for and given, in words, so that it can be asked for again later.
type Grant struct {
	Action   string            `json:"action"`
	Resource string            `json:"resource"`
	Tags     map[string]string `json:"tags,omitempty"` // that the request would have given a cache
}

// AuthorizeAgain asks for a right that the caller had before.
func (g *Gateway) AuthorizeAgain(caller *Caller, grant Grant) error {
	on, err := policy.ParseARN(grant.Resource)
	action, ok := policy.LookupAction(grant.Action)
	if err != nil || !ok {
		return fault.Wrap(fault.Internal, "gateway.authorize_again", err, "%s on %s is no right", grant.Action, grant.Resource)
	}
	f := &facts{caller: caller, tags: grant.Tags}
	if _, cache, ok := strings.Cut(grant.Resource, ":cache/"); ok {
		f.cache, _ = g.accounts.Cache(caller.Principal.Tenant, cache)
	}
	return g.authorize(f, action, on)
}

// Now is the time by which the gateway judges.
func (g *Gateway) Now() time.Time { return g.clock() }

// Region is the region in this installation's resource names.
func (g *Gateway) Region() string { return g.region }

func throttled(wait time.Duration) error {
	e := fault.New(fault.Throttled, "gateway.do", "max requests limit exceeded; retry in %s", wait.Round(time.Millisecond))
	e.RetryAfter = wait
	return e
}
