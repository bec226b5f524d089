package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

// A mover moves spans of a cache between partitions without telling the gateway: what it learns it learns from them.
type mover struct {
	*someone
	fail  func(format string, args ...any)
	id    engine.CacheID
	epoch uint64
	all   engine.Settings
}

// moverOf begins to move spans of a cache.
func (s *someone) moverOf(t testing.TB, c *tenants.Cache) *mover {
	return &mover{someone: s, fail: t.Fatalf, id: c.ID, epoch: 100, all: c.Settings()}
}

// on carries out a task of a movement.
func (m *mover) on(p placement.PartitionID, task *engine.Task) []int64 {
	reply := &engine.Recording{}
	task.Reply = reply
	if err := m.host.Local(p).Execute(context.Background(), task); err != nil {
		m.fail("partition %d: %v", p, err)
	}
	list, err := engine.Integers(reply)
	if err != nil && len(reply.Bytes()) > 0 && task.Calls[0].Command.Name != "LARDER.CONFIGURE" {
		m.fail("partition %d: %v", p, err)
	}
	return list
}

// move takes a span from one partition to another. between is called where nobody serves it. Like the real one it tries again when
// what is written meanwhile, as by FLUSHALL, ends an attempt.
func (m *mover) move(s tenure.Span, from, to placement.PartitionID, between func()) {
	m.epoch++
	settings := m.all
	empty := tenure.Tenure{Epoch: m.epoch - 1}
	settings.Split, settings.Holdings = true, string(empty.Append(nil))
	m.on(to, engine.ConfigureTask(m.id, settings))
	for floor, done := uint64(0), false; !done; {
		floor, done = m.attempt(s, from, to, floor, between)
	}
	m.purge(from)
}

// op takes a step of a movement, which must come to one of two verdicts.
func (m *mover) op(at placement.PartitionID, what engine.MoveOp, attempt uint64, s tenure.Span, other placement.PartitionID, counts []int64, or tenure.Verdict) (list []int64, done bool) {
	list = m.on(at, engine.MoveTask(m.id, what, m.epoch, attempt, s, uint16(other), counts))
	switch tenure.Verdict(list[0]) {
	case tenure.Done:
		return list, true
	case or:
		return list, false
	}
	m.fail("%c of %v at %d: %v", what, s, at, tenure.Verdict(list[0]))
	return nil, false
}

// attempt reports its number, and whether the span has moved.
func (m *mover) attempt(s tenure.Span, from, to placement.PartitionID, floor uint64, between func()) (attempt uint64, done bool) {
	begun, _ := m.op(to, engine.MoveBegin, floor, s, from, nil, tenure.Done)
	attempt = uint64(begun[1])
	m.purge(to)
	m.op(from, engine.MoveOffer, attempt, s, to, nil, tenure.Done)
	x, err := m.host.Local(from).Export(m.id, s)
	if err != nil {
		m.fail("%v", err)
	}
	defer x.Close()
	part := uint64(0)
	send := func() bool {
		for {
			frames, version, more, err := x.Read(nil, 64<<10)
			if fault.Is(err, fault.Conflict) {
				return false
			} else if err != nil {
				m.fail("%v", err)
			}
			if len(frames) > 0 {
				part++
				switch list := m.on(to, engine.StageTask(m.id, m.epoch, attempt, part, version, frames)); tenure.Verdict(list[0]) {
				case tenure.Done:
				case tenure.Over:
					return false
				default:
					m.fail("staging: %v", list)
				}
			}
			if left, walked := x.Left(); !more || walked && left == 0 {
				return true
			}
		}
	}
	if !send() {
		return attempt, false
	}
	m.op(from, engine.MoveFreeze, attempt, s, to, nil, tenure.Done)
	if !send() {
		return attempt, false
	}
	if between != nil {
		between()
	}
	list, active := m.op(to, engine.MoveActivate, attempt, s, from, nil, tenure.Over)
	if !active {
		return attempt, false
	}
	m.op(from, engine.MoveRelease, 0, s, to, list[2:], tenure.Done)
	return attempt, true
}

func (m *mover) purge(at placement.PartitionID) {
	for db, from := int64(0), int64(0); db < engine.Databases; {
		list := m.on(at, engine.PurgeTask(m.id, int(db), uint64(from), 1000))
		db, from = list[0], list[1]
	}
}

// A gateway that has not heard of movements finds every key all the same, each once, and what it does to all of them is done to
// all.
func TestAGatewayThatHasNotHeard(t *testing.T) {
	for _, ranges := range []int{1, 4} {
		t.Run(fmt.Sprint(ranges, " ranges"), func(t *testing.T) {
			s := newTenant(t, tenants.Limits{})
			if err := s.store.DeleteCache(t.Context(), s.tenant, "main"); err != nil {
				t.Fatal(err)
			}
			s.cache(t, tenants.Cache{Name: "main", Ranges: placement.Even(ranges)})
			c, _ := s.store.Cache(s.tenant, "main")
			m := s.moverOf(t, c)
			home := func(slot uint16) placement.PartitionID { return placement.Find(c.Ranges, slot) }
			other := (home(0) + 1) % 4
			const keys = 300
			fill := func() {
				words := []string{"MSET"}
				for i := range keys {
					words = append(words, fmt.Sprint("key", i), "v")
				}
				if got, err := s.do(t, strings.Join(words, " ")); err != nil || got[0] != "OK" {
					t.Fatal(got, err)
				}
			}
			fill()
			if _, err := s.do(t, "DBSIZE", "SCAN 0"); err != nil { // it knows where everything is
				t.Fatal(err)
			}
			m.move(tenure.Span{From: 100, To: 2999}, home(0), other, nil)
			m.move(tenure.Span{From: 1000, To: 1999}, other, (other+1)%4, nil)
			for round := range 3 {
				for _, tt := range []struct{ command, want string }{
					{"DBSIZE", fmt.Sprint(keys)},
					{"FUNCTION LOAD #!lua\x01name=lib\x02redis.register_function('f',\x01function()\x01return\x017\x01end)", "lib"},
					{"FCALL f 0", "7"},
					{"FUNCTION DELETE lib", "OK"},
					{"KV.DELPREFIX 0 key29 COUNT 1000", "[0 11]"},
					{"DBSIZE", fmt.Sprint(keys - 11)},
					{"SWAPDB 0 1", "OK"},
					{"DBSIZE", "0"},
					{"SWAPDB 0 1", "OK"},
					{"DBSIZE;FLUSHALL;DBSIZE;RANDOMKEY", fmt.Sprint(keys-11, " OK 0 null")},
				} {
					got, err := s.doWords(t, strings.Split(tt.command, ";")...)
					if err != nil || strings.Join(got, " ") != tt.want {
						t.Fatalf("round %d: %q: %v %v, want %s", round, tt.command, got, err, tt.want)
					}
				}
				fill()
				list, err := s.do(t, "KEYS *")
				if err != nil {
					t.Fatal(err)
				}
				all := strings.Fields(strings.Trim(list[0], "[]"))
				slices.Sort(all)
				if n := len(slices.Compact(all)); n != keys || len(all) != keys {
					t.Errorf("round %d: KEYS has %d keys, %d of them once", round, len(all), n)
				}
				if found := s.scanned(t); len(found) != keys {
					t.Errorf("round %d: SCAN finds %d keys", round, len(found))
				}
				if round < 2 { // there and back
					m.move(tenure.Span{From: 1000, To: 1999}, []placement.PartitionID{(other + 1) % 4, home(0)}[round], []placement.PartitionID{home(0), other}[round], nil)
				}
			}
		})
	}
}

// doWords is do for commands in which \x01 stands for a blank that parts no words, and \x02 for the end of a line.
func (s *someone) doWords(t testing.TB, commands ...string) ([]string, error) {
	t.Helper()
	r, reply := s.request("main", commands...)
	for i := range r.Calls {
		for j, a := range r.Calls[i].Args {
			r.Calls[i].Args[j] = []byte(strings.NewReplacer("\x01", " ", "\x02", "\n").Replace(string(a)))
		}
	}
	err := s.Do(t.Context(), r)
	return answers(reply), err
}

// scanned is what a scan from beginning to end finds.
func (s *someone) scanned(t testing.TB) map[string]int {
	t.Helper()
	found := map[string]int{}
	for cursor := "0"; ; {
		got, err := s.do(t, "SCAN "+cursor+" COUNT 37")
		if err != nil {
			t.Fatal(err)
		}
		cursor, _, _ = strings.Cut(strings.TrimPrefix(got[0], "["), " ")
		_, keys, _ := strings.Cut(got[0], " [")
		for _, key := range strings.Fields(strings.TrimRight(keys, "]")) {
			found[key]++
		}
		if cursor == "0" {
			return found
		}
	}
}

// While spans move, and whatever this gateway has heard of it, DBSIZE counts every key once and FLUSHALL leaves none.
func TestSlotsMoveUnderCommandsWithoutKeys(t *testing.T) {
	s := newSplit(t)
	c, _ := s.store.Cache(s.tenant, "main")
	m := s.moverOf(t, c)
	own := slices.Clone(c.Ranges)
	var moving atomic.Bool
	var before func(at placement.PartitionID, t *engine.Task)
	s.hurting(t, func(at placement.PartitionID, t *engine.Task) error {
		if before != nil && !moving.Load() && (t.Calls[0].Command.Name == "DBSIZE" || t.Calls[0].Command.Name == "FLUSHALL") {
			before(at, t)
		}
		return nil
	})
	rapid.Check(t, func(rt *rapid.T) {
		m.fail = rt.Fatalf
		words := []string{"MSET"}
		for i := range 40 {
			words = append(words, fmt.Sprint("key", i), "v")
		}
		before = nil
		if got, err := s.do(t, strings.Join(words, " ")); err != nil || got[0] != "OK" {
			rt.Fatal(got, err)
		}
		moves := rapid.IntRange(0, 3).Draw(rt, "moves")
		turn := make(chan struct{}, 1) // one at a time decides, legs or not
		turn <- struct{}{}
		before = func(placement.PartitionID, *engine.Task) {
			<-turn
			defer func() { turn <- struct{}{} }()
			if moves == 0 || !moving.CompareAndSwap(false, true) {
				return
			}
			defer moving.Store(false)
			moves--
			at := int(moves*7+13) % len(own)
			r := own[at]
			to := c.Ranges[(at+1+moves)%4].Partition
			if to == r.Partition {
				return
			}
			m.move(tenure.Span{From: r.From, To: r.To}, r.Partition, to, nil)
			own = placement.Reassign(own, r.From, r.To, to)
		}
		command := rapid.SampledFrom([]string{"DBSIZE", "FLUSHALL"}).Draw(rt, "command")
		got, err := s.do(t, command)
		if want := map[string]string{"DBSIZE": "40", "FLUSHALL": "OK"}[command]; err != nil || got[0] != want {
			rt.Fatalf("%s: %v %v", command, got, err)
		}
		before = nil
		left := int64(0)
		for p := range placement.PartitionID(4) {
			if stats, ok := s.host.Local(p).Stats(c.ID); ok {
				left += stats.Items
			}
		}
		if want := map[string]int64{"DBSIZE": 40}[command]; left != want {
			rt.Fatalf("after %s there are %d keys", command, left)
		}
	})
}

// What a key is beside its value goes with it: deadlines, versions, leaderboards' and sessions' own settings, and that a request with
// an idempotency key has been done, which is answered from memory at the new place as at the old one.
func TestWhatGoesWithAKey(t *testing.T) {
	s := newTenant(t, tenants.Limits{})
	c, _ := s.store.Cache(s.tenant, "main")
	from := c.Ranges[0].Partition
	m := s.moverOf(t, c)
	for _, commands := range []string{
		"SET t v PX 5000", "HSET h f v g w;HPEXPIRE h 7000 FIELDS 1 f", "LEADERBOARD.PUT b SET 5 ann;LEADERBOARD.PUT b SET 7 bob", "ZADD z 1 m",
		`SESSION.CREATE s {"a":1} IDLE 9000 USER u`, "XADD x 1-1 f v;XGROUP CREATE x g 0;XREADGROUP GROUP g c STREAMS x >", "COUNTER.ADD n 5", "JSON.SET j $ [1,2]",
	} {
		if got, err := s.do(t, strings.Split(commands, ";")...); err != nil || strings.Contains(strings.Join(got, " "), "invalid") {
			t.Fatalf("%s: %v %v", commands, got, err)
		}
	}
	look := func() (all []string) {
		for _, command := range []string{
			"PTTL t", "HPTTL h FIELDS 2 f g", "LEADERBOARD.PAGE b DESC 0 10", "ZRANGE z 0 -1 WITHSCORES", "SESSION.GET s", "XPENDING x g", "XINFO GROUPS x", "COUNTER.GET n", "JSON.GET j", "KV.GET t",
		} {
			got, err := s.do(t, command)
			if text := strings.Join(got, " "); err != nil || text == "" || strings.Contains(text, "invalid_argument") || strings.Contains(text, "not_found") {
				t.Fatalf("%s: %v %v", command, got, err)
			}
			all = append(all, fmt.Sprint(command, ": ", got))
		}
		return all
	}
	count := func() (string, bool) {
		r, reply := s.request("main", "INCR once")
		r.Once = &engine.Once{Key: [16]byte{7}, Fingerprint: [16]byte{7}}
		if err := s.Do(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return answers(reply)[0], r.Replayed
	}
	if got, again := count(); got != "1" || again {
		t.Fatal(got, again)
	}
	before := look()
	to := (from + 1) % 4
	for range 3 { // all of it goes round
		m.move(tenure.All, from, to, nil)
		from, to = to, (to+1)%4
		if after := look(); !slices.Equal(after, before) {
			t.Errorf("on partition %d it is\n%s\nand was\n%s", from, strings.Join(after, "\n"), strings.Join(before, "\n"))
		}
		if got, again := count(); got != "1" || !again {
			t.Errorf("on partition %d the request that was done is answered with %s, replayed %v", from, got, again)
		}
	}
	if got, err := s.do(t, "GET once", "PUBLISH news x"); err != nil || strings.Join(got, " ") != "1 0" {
		t.Error(got, err)
	}
}
