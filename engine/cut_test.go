package engine

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// pieces is what a cut has shown, in an order that does not depend on when it was read.
type pieces struct {
	keys     map[string]string
	objects  map[uint64]string
	elements map[uint64][]string
	read     int
}

func (s *pieces) note(t *testing.T, piece *Piece) {
	s.read++
	if piece.Last {
		return
	}
	if !piece.Element && piece.Kind == kindList || piece.Element && strings.HasPrefix(s.objects[piece.Object], "0 \"l") && piece.Kind == kindBlock {
		piece.Value = block(piece.Value).elements() // the room around them may hold anything
	}
	text := fmt.Sprintf("%q kind %d %q until %d", piece.Key, piece.Kind, piece.Value, piece.ExpireAt)
	switch {
	case piece.Element:
		if s.objects[piece.Object] == "" {
			t.Fatal("an element came before its collection")
		}
		s.elements[piece.Object] = append(s.elements[piece.Object], text)
	default:
		name := fmt.Sprintf("%d %q", piece.DB, piece.Key)
		if s.keys[name] != "" {
			t.Fatalf("%s came twice", name)
		}
		s.keys[name] = text + piece.Type
		if piece.Object != 0 {
			s.objects[piece.Object] = name
		}
	}
}

// all is one line for each key, with its elements.
func (s *pieces) all() []string {
	var lines []string
	for id, name := range s.objects {
		slices.Sort(s.elements[id])
		s.keys[name] += strings.Join(s.elements[id], ", ")
	}
	for name, text := range s.keys {
		lines = append(lines, name+": "+text)
	}
	slices.Sort(lines)
	return lines
}

func readCut(t *testing.T, p *Partition, atMost func() int, between func()) []string {
	cut, ok := p.Cut(testCache)
	if !ok {
		t.Fatal("no cut")
	}
	if _, twice := p.Cut(testCache); twice {
		t.Fatal("two cuts of a cache at once")
	}
	s := &pieces{keys: map[string]string{}, objects: map[uint64]string{}, elements: map[uint64][]string{}}
	for more := true; more; {
		between()
		more = cut.Read(atMost(), func(piece *Piece) { s.note(t, piece) })
	}
	between()
	cut.Close()
	return s.all()
}

// bigCommand makes up a command on one of few keys, whose collections become large.
func bigCommand(rng *rand.Rand) []string {
	key := func() string { return string(rune('a' + rng.IntN(12))) }
	elements := func(pair bool) []string {
		var list []string
		for range 1 + rng.IntN(1<<rng.IntN(10)) {
			if pair {
				list = append(list, fmt.Sprint(rng.IntN(900)))
			}
			list = append(list, fmt.Sprint("e", rng.IntN(900)))
		}
		return list
	}
	k := key()
	switch rng.IntN(22) {
	case 0:
		return []string{"SET", k, strings.Repeat("v", rng.IntN(1<<rng.IntN(17)))}
	case 1:
		return append([]string{"HSET", "h" + k}, elements(true)...)
	case 2:
		return append([]string{"SADD", "s" + k}, elements(false)...)
	case 3:
		return append([]string{"RPUSH", "l" + k}, elements(false)...)
	case 4:
		return append([]string{"ZADD", "z" + k}, elements(true)...)
	case 5:
		return append([]string{"HDEL", "h" + k}, elements(false)...)
	case 6:
		return append([]string{"SREM", "s" + k}, elements(false)...)
	case 7:
		return []string{"LTRIM", "l" + k, fmt.Sprint(rng.IntN(50)), fmt.Sprint(rng.IntN(900))}
	case 8:
		return append([]string{"ZREM", "z" + k}, elements(false)...)
	case 9:
		return []string{"DEL", string("hslzx"[rng.IntN(5)]) + k}
	case 10:
		prefix := string("hslzx"[rng.IntN(5)])
		return []string{"RENAME", prefix + k, prefix + key()}
	case 11:
		return []string{"LSET", "l" + k, fmt.Sprint(rng.IntN(100)), "changed"}
	case 12:
		return []string{"PEXPIRE", string("hslzx"[rng.IntN(5)]) + k, fmt.Sprint(1 + rng.IntN(500))}
	case 13:
		return []string{"XADD", "x" + k, "*", "f", fmt.Sprint(rng.IntN(100))}
	case 14:
		return []string{"SUNIONSTORE", "s" + k, "s" + key(), "s" + key()}
	case 15:
		return []string{"SPOP", "s" + k, fmt.Sprint(rng.IntN(100))}
	case 16:
		return []string{"ZADD", "z" + k, fmt.Sprint(rng.IntN(900)), fmt.Sprint("e", rng.IntN(900))}
	case 17:
		if rng.IntN(40) == 0 {
			return []string{"FLUSHALL"}
		}
		return []string{"LPOP", "l" + k, fmt.Sprint(1 + rng.IntN(200))}
	case 18:
		return []string{"HPEXPIRE", "h" + k, "200", "FIELDS", "1", fmt.Sprint(rng.IntN(900))}
	case 19:
		if rng.IntN(10) == 0 {
			return []string{"SWAPDB", fmt.Sprint(rng.IntN(3)), fmt.Sprint(rng.IntN(3))}
		}
		return []string{"SORT", "l" + k, "ALPHA", "STORE", "l" + key()}
	case 20:
		return []string{"MOVE", string("hslzx"[rng.IntN(5)]) + k, fmt.Sprint(1 + rng.IntN(2))}
	default:
		return []string{"APPEND", k, "more"}
	}
}

// TestCutShowsOneMoment: a cut that is read bit by bit while everything changes shows the same as one that a replica read
// at once when it began.
func TestCutShowsOneMoment(t *testing.T) {
	for seed := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 77))
		now, live, still := start, newWorld(t), newWorld(t)
		command := func() []string { return bigCommand(rng) }
		step := func(worlds ...*world) {
			now += rng.Int64N(3)
			var calls [][]string
			for range 1 + rng.IntN(3) {
				calls = append(calls, command())
			}
			atomic := rng.IntN(4) == 0 && calls[0][0] != "FLUSHALL"
			for _, w := range worlds {
				task := w.task(calls...)
				task.Atomic = atomic
				w.p.Apply(&Entry{Now: now, Seed: uint64(now), Tasks: []*Task{task}})
				if sweep := w.p.Sweep(now, 20); sweep != nil {
					w.p.Apply(&Entry{Now: now, Seed: uint64(now), Tasks: []*Task{sweep}})
				}
				w.p.Maintain(rng.IntN(50))
			}
		}
		for range 300 {
			step(live, still)
		}
		want := readCut(t, still.p, func() int { return 1 << 20 }, func() {})
		got := readCut(t, live.p, func() int { return rng.IntN(300) }, func() {
			for range rng.IntN(12) {
				step(live)
			}
		})
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: the cut shows %d keys, there were %d", seed, len(got), len(want))
			for i := range min(len(got), len(want)) {
				if c := cmp.Compare(got[i], want[i]); c != 0 {
					at := 0
					for at < min(len(got[i]), len(want[i])) && got[i][at] == want[i][at] {
						at++
					}
					from := max(0, at-100)
					t.Fatalf("first difference in %.20s\n got %.300s\nwant %.300s", want[i], got[i][from:], want[i][from:])
				}
			}
			t.FailNow()
		}
		if err := live.p.check(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}
