package gateway

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// A Hub knows who listens to what on this node: to channels and patterns, to the commands on a cache, and to changes of
// keys that a client keeps copies of. Partitions tell it what happens; it is their replication.Listener.
//
// What it passes on it passes on at once, under its own lock and often a partition's as well: receivers only put it
// aside for their connections.
type Hub struct {
	mu        sync.RWMutex
	caches    map[engine.CacheID]*audience
	monitored atomic.Int32 // monitors of all caches
	settling  []func()     // see Tracker

	observe  func(engine.CacheID, bool)                     // has the partitions tell of a cache's keys, or not
	interest func(engine.CacheID, ChannelKind, string, int) // is told how many listen to a name; nil for nobody
	known    func()                                         // waits until interest has got about; nil for no waiting
}

// An audience is who listens in one cache.
type audience struct {
	channels [2]map[string][]Receiver // by ChannelKind
	patterns map[string]*listeners
	compiled int // bytes that these take
	steps    int // that it takes to match all of them, for each byte of a channel's name
	monitors []Monitor
	keys     map[string][]Tracker // who has a copy of what is under a key
	prefixes map[string][]Tracker // who wants to hear of all keys that begin with it
	tracked  int                  // entries in keys
	held     int                  // bytes of keys
	trackers int                  // clients that track
}

// listeners are who listens to the channels that match a pattern.
type listeners struct {
	pattern engine.Pattern
	to      []Receiver
}

// Bounds of the patterns of one cache; see also engine.MaxMatching.
const (
	maxPatterns     = 16_384
	maxPatternBytes = 64 << 20
)

// ChannelKind tells the name spaces of channels apart.
type ChannelKind uint8

// The kinds of channels.
const (
	Channel ChannelKind = iota
	ShardChannel
	Pattern
)

// A Message is one that was published. Its bytes do not change.
type Message struct {
	Kind    ChannelKind // how it reaches this receiver
	Pattern string      // that matched, for Kind Pattern
	Channel string
	Payload []byte
}

// A Receiver is told of messages. It must be quick, and comparable.
type Receiver interface{ Receive(m *Message) }

// A Monitor is told of commands. It must be quick, and comparable.
type Monitor interface{ Show(line []byte) }

// A Tracker is told of keys that have changed. It must be quick, and comparable.
type Tracker interface {
	// Invalidate names a key, nil for all of them. origin is who changed it, as its request said. What it returns, if
	// anything, is called once the task is over that changed the key, so that what a task changes can be told in one message.
	Invalidate(key []byte, origin any) (settled func())
}

func newHub() *Hub {
	return &Hub{caches: map[engine.CacheID]*audience{}, observe: func(engine.CacheID, bool) {}}
}

// Hub is who listens on this node.
func (g *Gateway) Hub() *Hub { return g.hub }

// OnObserve sets who is told whether the keys of a cache are of interest. It is called before the hub is used.
func (h *Hub) OnObserve(fn func(engine.CacheID, bool)) { h.observe = fn }

// of returns the audience of a cache, and makes it if need be. The caller holds the lock.
func (h *Hub) of(id engine.CacheID) *audience {
	a := h.caches[id]
	if a == nil {
		a = &audience{patterns: map[string]*listeners{}, keys: map[string][]Tracker{}, prefixes: map[string][]Tracker{}}
		for i := range a.channels {
			a.channels[i] = map[string][]Receiver{}
		}
		h.caches[id] = a
	}
	return a
}

// settle forgets an audience of nobody. The caller holds the lock.
func (h *Hub) settle(id engine.CacheID, a *audience) {
	if len(a.channels[Channel])+len(a.channels[ShardChannel])+len(a.patterns)+len(a.monitors)+a.trackers == 0 {
		delete(h.caches, id)
	}
}

// Subscribe has r told of the messages of a channel, or of those whose channel matches a pattern. r subscribes once to
// each name. The error is that of a pattern out of bounds.
func (h *Hub) Subscribe(id engine.CacheID, kind ChannelKind, name string, r Receiver) error {
	var pattern engine.Pattern
	if kind == Pattern { // before messages wait for the lock
		var err error
		if pattern, err = engine.NewPattern([]byte(name)); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if kind != Pattern {
		c := h.of(id).channels[kind]
		c[name] = append(c[name], r)
		h.listen(id, kind, name, len(c[name]))
		return nil
	}
	a := h.of(id)
	l := a.patterns[name]
	if l == nil {
		if len(a.patterns) >= maxPatterns || a.compiled+pattern.Size() > maxPatternBytes {
			h.settle(id, a)
			return fault.New(fault.TooLarge, "gateway.subscribe", "the clients of a cache listen to at most %d different patterns, and these are kept within %d MiB", maxPatterns, maxPatternBytes>>20)
		}
		l = &listeners{pattern: pattern}
		a.patterns[name] = l
		a.compiled += pattern.Size()
		a.steps += pattern.Steps(1)
	}
	l.to = append(l.to, r)
	h.listen(id, kind, name, len(l.to))
	return nil
}

// OnInterest sets who is told how many clients listen to a name, whenever that changes, and in that order. It must not wait
// and not ask the Hub. Call it before the hub is used.
func (h *Hub) OnInterest(fn func(id engine.CacheID, kind ChannelKind, name string, listeners int)) {
	h.interest = fn
}

// OnAwait sets what Await does. Call it before the hub is used.
func (h *Hub) OnAwait(fn func()) { h.known = fn }

// Await returns when what was subscribed to so far is known wherever messages are published, or after a short while. Who confirms
// a subscription calls it before.
func (h *Hub) Await() {
	if h.known != nil {
		h.known()
	}
}

func (h *Hub) listen(id engine.CacheID, kind ChannelKind, name string, listeners int) {
	if h.interest != nil {
		h.interest(id, kind, name, listeners)
	}
}

// Interests calls fn for each name that somebody listens to, while that does not change.
func (h *Hub) Interests(fn func(id engine.CacheID, kind ChannelKind, name string, listeners int)) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for id, a := range h.caches {
		for kind, names := range a.channels {
			for name, to := range names {
				fn(id, ChannelKind(kind), name, len(to))
			}
		}
		for name, l := range a.patterns {
			fn(id, Pattern, name, len(l.to))
		}
	}
}

// Unsubscribe ends what Subscribe began.
func (h *Hub) Unsubscribe(id engine.CacheID, kind ChannelKind, name string, r Receiver) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.caches[id]
	if a == nil {
		return
	}
	mine := func(other Receiver) bool { return other == r }
	if kind == Pattern {
		if l := a.patterns[name]; l != nil {
			if l.to = slices.DeleteFunc(l.to, mine); len(l.to) == 0 {
				delete(a.patterns, name)
				a.compiled -= l.pattern.Size()
				a.steps -= l.pattern.Steps(1)
			}
			h.listen(id, kind, name, len(l.to))
		}
	} else {
		c := a.channels[kind]
		if c[name] = slices.DeleteFunc(c[name], mine); len(c[name]) == 0 {
			delete(c, name)
		}
		h.listen(id, kind, name, len(c[name]))
	}
	h.settle(id, a)
}

// Channels lists the channels that somebody listens to by name and that match a pattern, nil for all, in order.
func (h *Hub) Channels(id engine.CacheID, kind ChannelKind, matching *engine.Pattern) (names []string) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if a := h.caches[id]; a != nil {
		for name := range a.channels[kind] {
			if matching == nil || matching.Match([]byte(name)) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Listeners counts who listens to a channel by its name.
func (h *Hub) Listeners(id engine.CacheID, kind ChannelKind, name string) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if a := h.caches[id]; a != nil {
		return len(a.channels[kind][name])
	}
	return 0
}

// Patterns counts the patterns that somebody listens to.
func (h *Hub) Patterns(id engine.CacheID) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if a := h.caches[id]; a != nil {
		return len(a.patterns)
	}
	return 0
}

// Published implements replication.Listener.
func (h *Hub) Published(id engine.CacheID, sharded bool, channel, message []byte) (receivers int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	a := h.caches[id]
	if a == nil {
		return 0
	}
	kind := Channel
	if sharded {
		kind = ShardChannel
	}
	var payload []byte // copied when there is somebody to send it to
	send := func(to []Receiver, kind ChannelKind, pattern string) {
		if payload == nil {
			payload = append(make([]byte, 0, len(message)), message...)
		}
		m := &Message{Kind: kind, Pattern: pattern, Channel: string(channel), Payload: payload}
		for _, r := range to {
			r.Receive(m)
		}
		receivers += len(to)
	}
	if to := a.channels[kind][string(channel)]; len(to) > 0 {
		send(to, kind, "")
	}
	if sharded || len(channel)*a.steps > engine.MaxMatching {
		return receivers
	}
	for name, l := range a.patterns {
		if l.pattern.Match(channel) {
			send(l.to, Pattern, name)
		}
	}
	return receivers
}

// Notified implements replication.Listener: keyspace notifications are messages on channels of their own.
func (h *Hub) Notified(id engine.CacheID, db int, class engine.EventClass, event string, key []byte) {
	at := "@" + strconv.Itoa(db) + "__:"
	if class&engine.EventKeyspace != 0 {
		h.Published(id, false, append([]byte("__keyspace"+at), key...), []byte(event))
	}
	if class&engine.EventKeyevent != 0 {
		h.Published(id, false, []byte("__keyevent"+at+event), key)
	}
}

// Monitor has m shown every command on a cache.
func (h *Hub) Monitor(id engine.CacheID, m Monitor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.of(id)
	a.monitors = append(a.monitors, m)
	h.monitored.Add(1)
}

// Unmonitor ends what Monitor began.
func (h *Hub) Unmonitor(id engine.CacheID, m Monitor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.caches[id]
	if a == nil {
		return
	}
	before := len(a.monitors)
	a.monitors = slices.DeleteFunc(a.monitors, func(other Monitor) bool { return other == m })
	h.monitored.Add(int32(len(a.monitors) - before))
	h.settle(id, a)
}

// Show shows a command to the monitors of a cache. source is where it comes from, as MONITOR prints it.
func (h *Hub) Show(id engine.CacheID, at time.Time, db int, source string, args [][]byte) {
	if h.monitored.Load() == 0 {
		return
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	a := h.caches[id]
	if a == nil || len(a.monitors) == 0 {
		return
	}
	line := monitorLine(at, db, source, args)
	for _, m := range a.monitors {
		m.Show(line)
	}
}

func (h *Hub) show(r *Request, id engine.CacheID, calls []engine.Call, now time.Time) {
	source := r.Caller.Peer
	if source == "" {
		source = r.Caller.Source.String() + ":0"
	}
	for i := range calls {
		h.Show(id, now, r.DB, source, calls[i].Args)
	}
}

// monitorLine is a command as MONITOR shows it.
func monitorLine(at time.Time, db int, source string, args [][]byte) []byte {
	micros := at.UnixMicro()
	b := strconv.AppendInt(nil, micros/1e6, 10)
	b = append(b, '.')
	b = append(b, strconv.Itoa(int(micros%1e6) + 1e6)[1:]...)
	b = append(b, " ["...)
	b = strconv.AppendInt(b, int64(db), 10)
	b = append(append(append(b, ' '), source...), ']')
	for _, a := range args {
		b = append(b, ' ')
		b = AppendQuoted(b, a)
	}
	return b
}

// AppendQuoted writes bytes in quotes, as Redis does where people read them.
func AppendQuoted(dst, text []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ' && c <= '~':
			dst = append(dst, c)
		default:
			if at := strings.IndexByte("\a\b\n\r\t", c); at >= 0 {
				dst = append(dst, '\\', "abnrt"[at])
			} else {
				dst = append(dst, '\\', 'x', digits[c>>4], digits[c&15])
			}
		}
	}
	return append(dst, '"')
}

// Bounds of what a cache remembers for those who keep copies, in entries and in bytes. Beyond them keys are taken for changed.
const (
	maxTracked      = 1 << 20
	maxTrackedBytes = 64 << 20 // of the keys themselves
)

// BeginTracking counts a client that keeps copies of a cache's keys; with prefixes, one that wants to hear of all
// keys that begin with one of them.
func (h *Hub) BeginTracking(id engine.CacheID, t Tracker, prefixes []string) {
	h.mu.Lock()
	a := h.of(id)
	a.trackers++
	first := a.trackers == 1
	for _, p := range prefixes {
		a.prefixes[p] = append(a.prefixes[p], t)
	}
	h.mu.Unlock()
	if first {
		h.observe(id, true)
	}
}

// EndTracking ends what BeginTracking began.
func (h *Hub) EndTracking(id engine.CacheID, t Tracker, prefixes []string) {
	h.mu.Lock()
	a := h.caches[id]
	if a == nil {
		h.mu.Unlock()
		return
	}
	mine := func(other Tracker) bool { return other == t }
	for _, p := range prefixes {
		if a.prefixes[p] = slices.DeleteFunc(a.prefixes[p], mine); len(a.prefixes[p]) == 0 {
			delete(a.prefixes, p)
		}
	}
	a.trackers--
	last := a.trackers == 0
	if last {
		a.keys, a.tracked, a.held = map[string][]Tracker{}, 0, 0
	}
	h.settle(id, a)
	h.mu.Unlock()
	if last {
		h.observe(id, false)
	}
}

// Track notes that t is about to read a key and keeps a copy.
func (h *Hub) Track(id engine.CacheID, key []byte, t Tracker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.caches[id]
	if a == nil || len(key) > engine.MaxKey || slices.Contains(a.keys[string(key)], t) { // nothing is ever under a longer one
		return
	}
	for k := range a.keys {
		if a.tracked < maxTracked && a.held+len(key) <= maxTrackedBytes {
			break
		}
		h.invalidate(a, k, nil)
	}
	to := a.keys[string(key)]
	if to == nil {
		a.held += len(key)
	}
	a.keys[string(key)] = append(to, t)
	a.tracked++
}

// Tracked tells how many keys of a cache are remembered, for how many clients altogether, how many prefixes, and how many
// clients track.
func (h *Hub) Tracked(id engine.CacheID) (keys, items, prefixes, clients int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if a := h.caches[id]; a != nil {
		return len(a.keys), a.tracked, len(a.prefixes), a.trackers
	}
	return 0, 0, 0, 0
}

// later remembers what to do when the task that runs is over, if anything. The caller holds the lock.
func (h *Hub) later(settled func()) {
	if settled != nil {
		h.settling = append(h.settling, settled)
	}
}

// Settled implements replication.Listener.
func (h *Hub) Settled() {
	h.mu.Lock()
	settling := h.settling
	h.settling = nil
	h.mu.Unlock()
	for _, settled := range settling {
		settled()
	}
}

// invalidate tells those who have a copy of a key.
func (h *Hub) invalidate(a *audience, key string, origin any) {
	to := a.keys[key]
	delete(a.keys, key)
	a.tracked -= len(to)
	a.held -= len(key)
	for _, t := range to {
		h.later(t.Invalidate([]byte(key), origin))
	}
}

// Touched implements replication.Listener.
func (h *Hub) Touched(id engine.CacheID, _ int, key []byte, origin any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.caches[id]
	if a == nil {
		return
	}
	if len(a.keys[string(key)]) > 0 {
		h.invalidate(a, string(key), origin)
	}
	for prefix, to := range a.prefixes {
		if bytes.HasPrefix(key, []byte(prefix)) {
			for _, t := range to {
				h.later(t.Invalidate(key, origin))
			}
		}
	}
}

// Flushed implements replication.Listener.
func (h *Hub) Flushed(id engine.CacheID, _ int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.caches[id]
	if a == nil {
		return
	}
	told := map[Tracker]bool{}
	for _, copies := range []map[string][]Tracker{a.keys, a.prefixes} {
		for _, to := range copies {
			for _, t := range to {
				told[t] = true
			}
		}
	}
	a.keys, a.tracked, a.held = map[string][]Tracker{}, 0, 0
	for t := range told {
		h.later(t.Invalidate(nil, nil))
	}
}
