package hop

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"github.com/larder-cache/larder/engine"
)

// Names of what can be listened to, as gateway.ChannelKind numbers them.
const (
	toChannel byte = iota
	toShardChannel
	toPattern
	listenKinds
)

// heard is what the clients of a gateway listen to in one cache, with how many do.
type heard struct {
	names    [2]map[string]int // by channel and shard channel
	patterns map[string]*pattern
	steps    int // that it takes to match all of them, for each byte of a channel's name
}

type pattern struct {
	engine.Pattern
	count int
}

func (h *heard) size() int64 {
	return int64(len(h.names[toChannel]) + len(h.names[toShardChannel]) + len(h.patterns))
}

// set says how many listen to a name.
func (h *heard) set(what byte, name string, count int) {
	switch {
	case what == toPattern && count == 0:
		if p := h.patterns[name]; p != nil {
			delete(h.patterns, name)
			h.steps -= p.Steps(1)
		}
	case what == toPattern && h.patterns[name] != nil:
		h.patterns[name].count = count
	case what == toPattern:
		if p, err := engine.NewPattern([]byte(name)); err == nil { // the gateway has compiled it before
			h.patterns[name] = &pattern{p, count}
			h.steps += p.Steps(1)
		}
	case count == 0:
		delete(h.names[what], name)
	default:
		h.names[what][name] = count
	}
}

// count is how many hear a message.
func (h *heard) count(sharded bool, channel []byte) (n int) {
	if sharded {
		return h.names[toShardChannel][string(channel)]
	}
	n = h.names[toChannel][string(channel)]
	if len(channel)*h.steps > engine.MaxMatching {
		return n
	}
	for _, p := range h.patterns {
		if p.Match(channel) {
			n += p.count
		}
	}
	return n
}

// listensTo notes how many clients of a gateway listen to a name.
func (s *server) listensTo(from string, p *parser) {
	cache, what, count := p.cache(), p.byte(), p.uvarint()
	name := string(p.b)
	if p.bad || what >= listenKinds || count > 1<<31 {
		return
	}
	g := s.guest(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	h := g.hears[cache]
	if h == nil {
		if count == 0 {
			return
		}
		h = &heard{names: [2]map[string]int{{}, {}}, patterns: map[string]*pattern{}}
		g.hears[cache] = h
	}
	before := h.size()
	if count > 0 && before >= maxInterest {
		return
	}
	h.set(what, name, int(count))
	s.interest.Add(h.size() - before)
	if h.size() == 0 {
		delete(g.hears, cache)
	}
}

// observes notes whether a gateway wants to hear of a cache's keys. Requests that come later find that it is so.
func (s *server) observes(from string, p *parser) {
	cache, on := p.cache(), p.byte() == 1
	if p.bad {
		return
	}
	g := s.guest(from)
	s.mu.Lock()
	if g.observed[cache] != on {
		if on {
			g.observed[cache] = true
			s.watching.Add(1)
		} else {
			delete(g.observed, cache)
			s.watching.Add(-1)
		}
	}
	s.mu.Unlock()
	done := make(chan struct{})
	g.mu.Lock()
	before := g.after
	g.after = done
	g.mu.Unlock()
	s.spawn(func() {
		if before != nil {
			<-before
		}
		s.apply(cache)
		close(done)
		g.mu.Lock()
		if g.after == done {
			g.after = nil
		}
		g.mu.Unlock()
	})
}

// apply has the partitions here tell of a cache's keys if anybody wants to hear of them.
func (s *server) apply(cache engine.CacheID) {
	s.applying.Lock()
	defer s.applying.Unlock()
	s.mu.RLock()
	on := s.watched[cache]
	for _, g := range s.guests {
		on = on || g.observed[cache]
	}
	s.mu.RUnlock()
	for _, l := range s.hosted() {
		l.Observe(cache, on)
	}
}

// Published implements replication.Listener: it tells the listeners of this node, and those of gateways that have some.
func (s *server) Published(cache engine.CacheID, sharded bool, channel, message []byte) (receivers int) {
	if s.listener != nil {
		receivers = s.listener.Published(cache, sharded, channel, message)
	}
	return receivers + s.publish(cache, sharded, channel, message)
}

func (s *server) publish(cache engine.CacheID, sharded bool, channel, message []byte) (receivers int) {
	if s.interest.Load() == 0 {
		return 0
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var text []byte
	for _, g := range s.guests {
		h := g.hears[cache]
		if h == nil {
			continue
		}
		n := h.count(sharded, channel)
		if n == 0 {
			continue
		}
		if text == nil {
			flag := byte(0)
			if sharded {
				flag = 1
			}
			text = append(append([]byte{mPublished}, cache[:]...), flag)
			text = append(appendBytes(text, channel), message...)
		}
		if s.links.Send(g.name, kind, text) { // a message is promised to nobody
			receivers += n
		}
	}
	return receivers
}

// Notified implements replication.Listener.
func (s *server) Notified(cache engine.CacheID, db int, class engine.EventClass, event string, key []byte) {
	if s.listener != nil {
		s.listener.Notified(cache, db, class, event, key)
	}
	if s.interest.Load() == 0 {
		return
	}
	at := "@" + strconv.Itoa(db) + "__:"
	if class&engine.EventKeyspace != 0 {
		s.publish(cache, false, append([]byte("__keyspace"+at), key...), []byte(event))
	}
	if class&engine.EventKeyevent != 0 {
		s.publish(cache, false, []byte("__keyevent"+at+event), key)
	}
}

// Touched implements replication.Listener.
func (s *server) Touched(cache engine.CacheID, db int, key []byte, by any) {
	if s.listener != nil {
		s.listener.Touched(cache, db, key, by)
	}
	if s.watching.Load() == 0 {
		return
	}
	who, _ := by.(origin)
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range s.guests {
		if !g.observed[cache] {
			continue
		}
		id := uint64(0)
		if who.g == g {
			id = who.id
		}
		text := append(append(head(nil, mTouched, id), cache[:]...), byte(db))
		s.tell(g, append(text, key...))
	}
}

// Flushed implements replication.Listener.
func (s *server) Flushed(cache engine.CacheID, db int) {
	if s.listener != nil {
		s.listener.Flushed(cache, db)
	}
	if s.watching.Load() == 0 {
		return
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range s.guests {
		if g.observed[cache] {
			s.tell(g, append(append([]byte{mFlushed}, cache[:]...), byte(db)))
		}
	}
}

// tell sends an event of which none may be missing: when one is, all count as lost.
func (s *server) tell(g *guest, text []byte) {
	g.touched.Store(true)
	if g.lost.Load() || !s.links.Send(g.name, kind, text) {
		g.lost.Store(true)
	}
}

// Settled implements replication.Listener.
func (s *server) Settled() {
	if s.listener != nil {
		s.listener.Settled()
	}
	if s.watching.Load() == 0 {
		return
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range s.guests {
		if g.touched.Swap(false) {
			s.tellLost(g)
			if !s.links.Send(g.name, kind, []byte{mSettled}) {
				g.lost.Store(true)
			}
		}
	}
}

// tellLost tells a gateway that it has missed something, as soon as that can be told.
func (s *server) tellLost(g *guest) {
	if g.lost.Swap(false) && !s.links.Send(g.name, kind, []byte{mLost}) {
		g.lost.Store(true)
	}
}

// event takes what a leader tells this gateway.
func (c *client) event(from string, what byte, p *parser) {
	if c.listener == nil {
		return
	}
	switch what {
	case mPublished:
		cache, sharded, channel := p.cache(), p.byte() == 1, p.bytes()
		if !p.bad {
			c.listener.Published(cache, sharded, channel, p.b)
		}
	case mTouched:
		by := c.originOf(from, p.uvarint())
		cache, db := p.cache(), p.db()
		if !p.bad {
			c.listener.Touched(cache, db, p.b, by)
		}
	case mFlushed:
		cache, db := p.cache(), p.db()
		if !p.bad {
			c.listener.Flushed(cache, db)
		}
	case mSettled:
		c.listener.Settled()
	case mLost:
		c.lost()
	}
}

// Interest says how many clients of this gateway listen to a name, so that leaders pass on what is published. It does not
// wait. Calls about one name are in order.
func (h *Hop) Interest(cache engine.CacheID, what byte, name string, count int) {
	h.announce(interestIn(cache, what, name, count))
}

// settleTime is how long Settle waits at the most.
const settleTime = 100 * time.Millisecond

// Settle returns when all nodes that may lead something know the interests that they have been told of, or after a short while:
// then what is published through another gateway, by who has heard that this one listens, is heard here.
func (h *Hop) Settle() { h.settle(settleTime) }

func (h *Hop) settle(atMost time.Duration) {
	ctx, cancel := context.WithTimeout(h.ctx, atMost)
	defer cancel()
	var leaders []string
	for _, n := range h.place.Nodes() {
		if n.Name != h.self && n.Peer != "" && slices.Contains(n.Roles, "engine") {
			leaders = append(leaders, n.Name)
		}
	}
	h.sync(ctx, leaders)
}

func interestIn(cache engine.CacheID, what byte, name string, count int) []byte {
	text := append(append([]byte{mInterest}, cache[:]...), what)
	return append(binary.AppendUvarint(text, uint64(count)), name...)
}

// Observe says whether this node's listener wants to hear of a cache's keys, from here and from all leaders.
func (h *Hop) Observe(cache engine.CacheID, on bool) {
	h.server.mu.Lock()
	if on {
		h.server.watched[cache] = true
	} else {
		delete(h.server.watched, cache)
	}
	h.server.mu.Unlock()
	h.server.apply(cache)
	h.client.mu.Lock()
	if on {
		h.client.seen[cache] = true
	} else {
		delete(h.client.seen, cache)
	}
	h.client.mu.Unlock()
	h.announce(observeOf(cache, on))
}

func observeOf(cache engine.CacheID, on bool) []byte {
	flag := byte(0)
	if on {
		flag = 1
	}
	return append(append([]byte{mObserve}, cache[:]...), flag)
}

// announce tells all nodes that may lead something. One that cannot be told now is told everything later.
func (h *Hop) announce(text []byte) {
	for _, n := range h.place.Nodes() {
		if n.Name == h.self || n.Peer == "" || !slices.Contains(n.Roles, "engine") {
			continue
		}
		if !h.links.Send(n.Name, kind, text) {
			h.untold(n.Name)
		}
	}
}

// introduce tells a node all that it has to know of this gateway. It reports whether the node was told everything.
func (h *Hop) introduce(to string) bool {
	all := true
	if h.interests != nil {
		h.interests(func(cache engine.CacheID, what byte, name string, count int) {
			all = all && h.links.Send(to, kind, interestIn(cache, what, name, count))
		})
	}
	h.client.mu.Lock()
	defer h.client.mu.Unlock()
	for cache := range h.client.seen {
		all = all && h.links.Send(to, kind, observeOf(cache, true))
	}
	return all
}
