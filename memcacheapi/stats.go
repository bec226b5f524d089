package memcacheapi

import (
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// A counter is a number that a cache's clients on this node have brought about.
type counter int

const (
	cmdGet counter = iota
	getHits
	getMisses
	cmdSet
	stored
	cmdFlush
	cmdTouch
	touchHits
	touchMisses
	cmdMeta
	deleteHits
	deleteMisses
	incrHits
	incrMisses
	decrHits
	decrMisses
	casHits
	casMisses
	casBad
	storeTooLarge
	storeNoMemory
	authCommands
	totalConnections
	bytesRead
	bytesWritten
	numCounters
)

// count adds what was counted to a cache's numbers.
func (o *replies) count(st *cacheState) {
	if st == nil {
		return
	}
	for i, n := range &o.tally {
		if n != 0 {
			st.tally[i].Add(n)
			o.tally[i] = 0
		}
	}
}

// pick is one of two counters.
func pick(first bool, a, b counter) counter {
	if first {
		return a
	}
	return b
}

// note counts an answer.
func (o *replies) note(p *pending, status string) {
	hit, t := status == "", &o.tally
	if o.detail != nil {
		o.noteDetail(p, status)
	}
	switch p.render {
	case renderGet:
		if !p.touches {
			t[cmdGet]++
			t[pick(hit, getHits, getMisses)]++
			return
		}
		o.noteTouch(hit)
	case renderMG:
		if p.meta.touch {
			o.noteTouch(hit)
			return
		}
		t[cmdGet]++
		t[pick(hit, getHits, getMisses)]++
	case renderStore, renderMS:
		o.noteStore(p, status)
	case renderDelete, renderMD:
		t[pick(status == "DELETED", deleteHits, deleteMisses)]++
	case renderTouch:
		o.noteTouch(hit)
	case renderDelta, renderMA:
		o.noteDelta(p.op == '+', hit)
	case renderFlush:
		t[cmdFlush]++
	case renderMeta:
		t[cmdMeta]++
	case renderBinary:
		o.noteBinary(p, status)
	}
}

func (o *replies) noteTouch(hit bool) {
	o.tally[cmdTouch]++
	o.tally[pick(hit, touchHits, touchMisses)]++
}

func (o *replies) noteDelta(up, hit bool) {
	if up {
		o.tally[pick(hit, incrHits, incrMisses)]++
	} else {
		o.tally[pick(hit, decrHits, decrMisses)]++
	}
}

func (o *replies) noteStore(p *pending, status string) {
	t := &o.tally
	t[cmdSet]++
	if status == "" {
		t[stored]++
	}
	if !p.cas {
		return
	}
	switch status {
	case "":
		t[casHits]++
	case notFound:
		t[casMisses]++
	case exists:
		t[casBad]++
	}
}

func (o *replies) noteBinary(p *pending, status string) {
	hit, t := status == "", &o.tally
	switch p.op {
	case opGet, opGetK:
		t[cmdGet]++
		t[pick(hit, getHits, getMisses)]++
	case opTouch, opGAT, opGATK:
		o.noteTouch(hit)
	case opSet, opAdd, opReplace, opAppend, opPrepend:
		o.noteStore(p, status)
	case opDelete:
		t[pick(status == "DELETED", deleteHits, deleteMisses)]++
	case opIncrement, opDecrement:
		o.noteDelta(p.op == opIncrement, hit)
	case opFlush:
		t[cmdFlush]++
	}
}

// statsLine serves stats of the text protocol.
func (s *Session) statsLine() {
	w := s.words
	if err := s.permit(inspect); err != nil {
		s.say(string(appendFault(nil, fault.From(err))))
		return
	}
	name := ""
	if len(w) > 1 {
		name = string(w[1])
	}
	switch name {
	case "reset":
		s.resetStats()
		s.say("RESET")
		return
	case "cachedump":
		s.say("CLIENT_ERROR stats cachedump not allowed")
		return
	case "detail":
		what := ""
		if len(w) > 2 {
			what = string(w[2])
		}
		switch lines, ok := s.detail(what); {
		case !ok:
			s.say("CLIENT_ERROR usage: stats detail on|off|dump")
		case what == "dump":
			for _, line := range lines {
				s.say(line)
			}
			s.say("END")
		default:
			s.say("OK")
		}
		return
	}
	if s.stats(name, func(name, value string) { s.say("STAT " + name + " " + value) }) {
		s.say("END")
	} else {
		s.say(unknown)
	}
}

// resetStats begins to count anew.
func (s *Session) resetStats() {
	for i := range s.state.tally {
		s.state.tally[i].Store(0)
	}
	if old := s.state.detail.Load(); old != nil {
		s.out.detail = &prefixes{seen: map[string]*prefix{}}
		s.state.detail.CompareAndSwap(old, s.out.detail)
	}
}

// stats tells numbers of the cache, and reports whether there are such.
func (s *Session) stats(name string, tell func(name, value string)) bool {
	s.out.count(s.state)
	cache := s.server.Gateway.Cache(&s.caller, s.cache)
	if cache == nil {
		return false
	}
	var live engine.Stats
	if s.server.Stats != nil {
		live, _ = s.server.Stats(cache)
	}
	number := func(name string, n int64) { tell(name, strconv.FormatInt(n, 10)) }
	t := func(c counter) int64 { return s.state.tally[c].Load() }
	now := time.Now()
	limit := cache.MemoryLimit
	switch name {
	case "":
		number("pid", int64(os.Getpid()))
		number("uptime", int64(now.Sub(s.state.began).Seconds()))
		number("time", now.Unix())
		tell("version", MemcachedVersion)
		number("pointer_size", strconv.IntSize)
		number("curr_connections", s.state.current.Load())
		number("total_connections", t(totalConnections))
		for _, c := range []struct {
			name string
			c    counter
		}{
			{"cmd_get", cmdGet}, {"cmd_set", cmdSet}, {"cmd_flush", cmdFlush}, {"cmd_touch", cmdTouch}, {"cmd_meta", cmdMeta},
			{"get_hits", getHits}, {"get_misses", getMisses}, {"delete_misses", deleteMisses}, {"delete_hits", deleteHits},
			{"incr_misses", incrMisses}, {"incr_hits", incrHits}, {"decr_misses", decrMisses}, {"decr_hits", decrHits},
			{"cas_misses", casMisses}, {"cas_hits", casHits}, {"cas_badval", casBad}, {"touch_hits", touchHits}, {"touch_misses", touchMisses},
			{"store_too_large", storeTooLarge}, {"store_no_memory", storeNoMemory}, {"auth_cmds", authCommands},
			{"bytes_read", bytesRead}, {"bytes_written", bytesWritten}, {"total_items", stored},
		} {
			number(c.name, t(c.c))
		}
		number("get_expired", live.Expired)
		number("limit_maxbytes", limit)
		number("accepting_conns", 1)
		number("threads", int64(runtime.GOMAXPROCS(0)))
		number("bytes", live.Bytes)
		number("curr_items", live.Items)
		number("evictions", live.Evicted)
		number("reclaimed", live.Expired)
	case "settings":
		s.settings(limit, tell)
	case "items":
		if live.Items > 0 {
			number("items:1:number", live.Items)
			number("items:1:mem_requested", live.Bytes)
			number("items:1:evicted", live.Evicted)
			number("items:1:reclaimed", live.Expired)
			number("items:1:outofmemory", t(storeNoMemory))
		}
	case "slabs":
		s.slabs(live, limit, tell)
	case "sizes":
		tell("sizes_status", "disabled")
	case "conns":
		number(strconv.FormatInt(s.id, 10)+":seconds_since_last_cmd", 0)
		tell(strconv.FormatInt(s.id, 10)+":addr", "tcp:"+s.caller.Peer)
		tell(strconv.FormatInt(s.id, 10)+":state", "conn_parse_cmd")
	default:
		return false
	}
	return true
}

// settings tells how the cache is set up, in the words of memcached's settings that mean something here.
func (s *Session) settings(limit int64, tell func(name, value string)) {
	cache := s.server.Gateway.Cache(&s.caller, s.cache)
	evicts := "on"
	if cache.Settings().Eviction == engine.NoEviction {
		evicts = "off"
	}
	tell("maxbytes", strconv.FormatInt(limit, 10))
	tell("maxconns", strconv.Itoa(s.server.front.Clients))
	tell("verbosity", "0")
	tell("evictions", evicts)
	tell("cas_enabled", "yes")
	tell("item_size_max", strconv.FormatInt(s.limit, 10))
	tell("auth_enabled_sasl", "yes")
	tell("auth_enabled_ascii", "yes")
	tell("flush_enabled", "yes")
	tell("dump_enabled", "no")
	tell("detail_enabled", "no")
	tell("shutdown_command", "no")
	tell("binding_protocol", "auto-negotiate")
}

// slabs shows the cache as one class of slabs: what it holds is not kept by size.
func (s *Session) slabs(live engine.Stats, limit int64, tell func(name, value string)) {
	t := func(c counter) string { return strconv.FormatInt(s.state.tally[c].Load(), 10) }
	active := "0"
	if live.Items > 0 {
		active = "1"
		tell("1:chunk_size", strconv.FormatInt(live.Bytes/live.Items, 10))
		tell("1:used_chunks", strconv.FormatInt(live.Items, 10))
		tell("1:mem_requested", strconv.FormatInt(live.Bytes, 10))
		tell("1:get_hits", t(getHits))
		tell("1:cmd_set", t(cmdSet))
		tell("1:delete_hits", t(deleteHits))
		tell("1:incr_hits", t(incrHits))
		tell("1:decr_hits", t(decrHits))
		tell("1:cas_hits", t(casHits))
		tell("1:cas_badval", t(casBad))
		tell("1:touch_hits", t(touchHits))
	}
	tell("active_slabs", active)
	tell("total_malloced", strconv.FormatInt(live.Bytes, 10))
}
