package engine

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/keyslot"
)

// spanDigest is a fingerprint of all that a partition has of some slots.
func spanDigest(p *Partition, s tenure.Span) (sum [sha256.Size]byte) {
	for db, k := range p.caches[testCache].dbs {
		if k == nil {
			continue
		}
		k.table.Each(0, func(_ uint64, r dense.Ref) bool {
			it := &item{home: k, ref: r}
			if it.load(); s.Has(keyslot.Of(it.key)) && !it.expiredAt(p.now) {
				one := sha256.Sum256(it.value.encode([]byte(fmt.Sprintf("%d %q %s %d ", db, it.key, it.value.kind(), it.expireAt))))
				for i := range sum {
					sum[i] ^= one[i]
				}
			}
			return true
		})
	}
	return sum
}

// A mover takes a span from one world to another, as package replication/move does.
type mover struct {
	t        *testing.T
	from, to *world
	span     tenure.Span
	epoch    uint64
	attempt  uint64
	part     uint64
	x        *Export
}

func (m *mover) ask(w *world, task *Task) []int64 {
	m.t.Helper()
	reply := &Recording{}
	task.Reply = reply
	w.apply(task)
	list, err := Integers(reply)
	if err != nil {
		m.t.Fatal(err)
	}
	return list
}

func (m *mover) op(w *world, op MoveOp, hidden []int64) (tenure.Verdict, []int64) {
	m.t.Helper()
	list := m.ask(w, MoveTask(testCache, op, m.epoch, m.attempt, m.span, 7, hidden))
	m.attempt = uint64(list[1])
	return tenure.Verdict(list[0]), list[2:]
}

func (m *mover) purge(w *world) {
	for db, at := int64(0), int64(0); db < Databases; {
		list := m.ask(w, PurgeTask(testCache, int(db), uint64(at), 50))
		db, at = list[0], list[1]
	}
}

// begin sets out with another attempt.
func (m *mover) begin() {
	m.t.Helper()
	if v, _ := m.op(m.to, MoveBegin, nil); v != tenure.Done {
		m.t.Fatalf("begin: %v", v)
	}
	m.purge(m.to)
	if v, _ := m.op(m.from, MoveOffer, nil); v != tenure.Done {
		m.t.Fatalf("offer: %v", v)
	}
	if m.x != nil {
		m.x.Close()
	}
	x, ok := m.from.p.Export(testCache, m.span)
	if !ok {
		m.t.Fatal("no export")
	}
	m.x, m.part = x, 0
}

// copy takes one part over, and reports whether there is more.
func (m *mover) copy(bytes int) (more bool) {
	m.t.Helper()
	frames, more := m.x.Read(nil, bytes)
	if len(frames) == 0 {
		return more
	}
	m.part++
	for range 2 { // a part that comes twice makes no difference
		if v := tenure.Verdict(m.ask(m.to, StageTask(testCache, m.epoch, m.attempt, m.part, m.x.Version(), frames))[0]); v == tenure.Over {
			m.begin()
			return true
		}
	}
	return more
}

// TestWhatMovesIsWhatWasThere: spans go from one partition to the other and back while commands of all kinds change their keys.
// When a span has passed, the target has of it what the source had, to the byte; and the replicas of both agree.
func TestWhatMovesIsWhatWasThere(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 5))
		a, b := newWorld(t), newWorld(t)
		b.apply(DropTask(testCache))
		none := tenure.Tenure{}
		b.configure(Settings{Holdings: string(none.Append(nil))})
		a.checkEvery, b.checkEvery = 20, 20
		worlds := []*world{a, b}
		moved := 0
		step := func() {
			for _, w := range worlds {
				w.now += rng.Int64N(3)
				if a.now > b.now {
					b.now = a.now
				} else {
					a.now = b.now
				}
				var calls [][]string
				for range 1 + rng.IntN(3) {
					calls = append(calls, bigCommand(rng))
				}
				task := w.task(calls...)
				task.Atomic = rng.IntN(4) == 0
				w.apply(task)
				if task.Moved != nil {
					if moved++; task.Reply.(*Recording).Len() != 0 {
						t.Fatal("a task that was not begun has a reply")
					}
				}
				if sweep := w.p.Sweep(w.now, 20); sweep != nil {
					w.apply(sweep)
				}
			}
		}
		for range 150 {
			step()
		}
		for epoch := uint64(1); epoch <= 4; epoch++ {
			m := &mover{t: t, from: a, to: b, epoch: epoch, span: tenure.Span{From: 0, To: 7999}}
			if epoch%2 == 0 {
				m.from, m.to = b, a
			}
			m.begin()
			for quiet := 0; quiet < 2; {
				if m.x.Lost() || rng.IntN(200) == 0 {
					m.begin()
					quiet = 0
				}
				if !m.copy(1 + rng.IntN(30_000)) {
					quiet++
				}
				if rng.IntN(3) == 0 {
					step()
				}
			}
			if v, _ := m.op(m.from, MoveFreeze, nil); v != tenure.Done {
				t.Fatalf("freeze: %v", v)
			}
			for more := true; more || m.x.Lost(); {
				if m.x.Lost() { // something was emptied before the freeze
					m.begin()
					for m.copy(1 << 20) {
					}
					m.op(m.from, MoveFreeze, nil)
				}
				step() // what is frozen does not change
				more = m.copy(30_000)
			}
			want := spanDigest(m.from.p, m.span)
			v, counts := m.op(m.to, MoveActivate, nil)
			if v == tenure.Over { // the target's databases were emptied, and with them what was staged
				m.begin()
				for m.copy(1 << 20) {
				}
				m.op(m.from, MoveFreeze, nil)
				for m.copy(1 << 20) {
				}
				want = spanDigest(m.from.p, m.span)
				v, counts = m.op(m.to, MoveActivate, nil)
			}
			if v != tenure.Done {
				t.Fatalf("activate: %v", v)
			}
			if got := spanDigest(m.to.p, m.span); got != want {
				t.Fatalf("seed %d, movement %d: the target has something else than the source had", seed, epoch)
			}
			m.x.Close()
			if v, _ := m.op(m.from, MoveRelease, counts); v != tenure.Done {
				t.Fatalf("release: %v", v)
			}
			for range 10 {
				step()
			}
			m.purge(m.from)
			if got := spanDigest(m.from.p, m.span); got != [sha256.Size]byte{} {
				t.Fatal("something is left at the source")
			}
			for _, w := range worlds {
				w.check()
			}
		}
		if moved == 0 {
			t.Error("no task met a slot that is served elsewhere")
		}
	}
}
