package ordered

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A naive is what a Tree claims to be, in a form that a reader can verify by eye: a sorted slice, and
// each question answered by looking at all of it.
type naive []Entry

func (n *naive) insert(e Entry) bool {
	at, had := slices.BinarySearchFunc(*n, e, compare)
	if !had {
		*n = slices.Insert(*n, at, e)
	}
	return !had
}

func (n *naive) delete(e Entry) bool {
	at, had := slices.BinarySearchFunc(*n, e, compare)
	if had {
		*n = slices.Delete(*n, at, at+1)
	}
	return had
}

func (n naive) count(is func(Entry) bool) int {
	all := 0
	for _, e := range n {
		if is(e) {
			all++
		}
	}
	return all
}

func (n naive) runs(is func(score float64) bool) int {
	seen := map[float64]bool{}
	for _, e := range n {
		if is(e.Score) {
			seen[e.Score] = true // -0 and +0 are one key
		}
	}
	return len(seen)
}

func (n naive) desc() []Entry {
	d := slices.Clone(n)
	slices.SortFunc(d, func(a, b Entry) int {
		if a.Score != b.Score {
			if a.Score > b.Score {
				return -1
			}
			return 1
		}
		return compare(a, b)
	})
	return d
}

func page(t *Tree, offset, limit int) []Entry {
	var got []Entry
	t.DescPage(offset, limit, func(e Entry) bool { got = append(got, e); return true })
	return got
}

// A twin makes every call on a Tree and on a naive, and stops the test where the two differ.
type twin struct {
	t interface {
		Helper()
		Fatalf(string, ...any)
	}
	tree  *Tree
	model naive
}

func (w *twin) same(what string, got, want any) {
	w.t.Helper()
	if got != want {
		w.t.Fatalf("%s = %v, want %v", what, got, want)
	}
}

func (w *twin) insert(e Entry) {
	w.t.Helper()
	w.same(fmt.Sprintf("Insert(%v)", e), w.tree.Insert(e), w.model.insert(e))
}

func (w *twin) delete(e Entry) {
	w.t.Helper()
	w.same(fmt.Sprintf("Delete(%v)", e), w.tree.Delete(e), w.model.delete(e))
}

func (w *twin) deleteRange(from, to int) {
	w.tree.DeleteRange(from, to)
	w.model = slices.Delete(w.model, from, to)
}

// check compares all that can be read in order.
func (w *twin) check() {
	w.t.Helper()
	if err := w.tree.Check(); err != nil {
		w.t.Fatalf("%v", err)
	}
	w.same("Len", w.tree.Len(), len(w.model))
	w.same("Runs", w.tree.Runs(), w.model.runs(func(float64) bool { return true }))
	i := 0
	for c := w.tree.Seek(0); c.Valid(); c.Next() {
		w.same(fmt.Sprintf("entry %d going up", i), c.Entry(), w.model[i])
		i++
	}
	w.same("entries going up", i, len(w.model))
	for c := w.tree.Seek(i - 1); c.Valid(); c.Prev() {
		i--
		w.same(fmt.Sprintf("entry %d going down", i), c.Entry(), w.model[i])
	}
	w.same("entries left below", i, 0)
	w.same("Seek(Len)", w.tree.Seek(len(w.model)).Valid(), false)
	w.same("Seek(-1)", w.tree.Seek(-1).Valid(), false)
}

// ask compares the answers to every question about e, whether or not it is there.
func (w *twin) ask(e Entry) {
	w.t.Helper()
	less := func(x Entry) bool { return x.Score < e.Score }
	more := func(x Entry) bool { return x.Score > e.Score }
	before := func(x Entry) bool { return compare(x, e) < 0 }

	index, found := w.tree.Rank(e)
	w.same(fmt.Sprintf("Rank(%v)", e), index, w.model.count(before))
	w.same(fmt.Sprintf("Rank(%v) found", e), found, slices.ContainsFunc(w.model, func(x Entry) bool { return x == e }))
	if found {
		w.same(fmt.Sprintf("At(%d)", index), w.tree.At(index), e)
	}
	index, dfound := w.tree.DescRank(e)
	inRun := w.model.count(func(x Entry) bool { return x.Score == e.Score && before(x) })
	w.same(fmt.Sprintf("DescRank(%v)", e), index, w.model.count(more)+inRun)
	w.same(fmt.Sprintf("DescRank(%v) found", e), dfound, found)

	s := e.Score
	w.same(fmt.Sprintf("LowerBound(%v)", s), w.tree.LowerBound(s), w.model.count(less))
	w.same(fmt.Sprintf("UpperBound(%v)", s), w.tree.UpperBound(s), len(w.model)-w.model.count(more))
	w.same(fmt.Sprintf("DenseRank(%v)", s), w.tree.DenseRank(s), w.model.runs(func(x float64) bool { return x < s }))
	w.same(fmt.Sprintf("DescDenseRank(%v)", s), w.tree.DescDenseRank(s), w.model.runs(func(x float64) bool { return x > s }))
}

func (w *twin) page(offset, limit int) {
	w.t.Helper()
	want := w.model.desc()
	want = want[min(offset, len(want)):]
	want = want[:max(0, min(limit, len(want)))]
	if got := page(w.tree, offset, limit); !slices.Equal(got, want) {
		w.t.Fatalf("DescPage(%d, %d) = %v, want %v", offset, limit, got, want)
	}
}

var scores = []float64{math.Inf(-1), -math.MaxFloat64, -1, math.Copysign(0, -1), 0,
	math.SmallestNonzeroFloat64, 1, 1.5, 2, 3, math.MaxFloat64, math.Inf(1)}

// entries draws from few scores, ties and members, so that runs are long and calls often meet an
// entry that is there. The tie is mostly 0, so that leaves with and without ties exchange entries.
func entries() *rapid.Generator[Entry] {
	return rapid.Custom(func(t *rapid.T) Entry {
		e := Entry{
			Score:  rapid.SampledFrom(scores).Draw(t, "score"),
			Member: rapid.StringMatching(`[a-c\x00\xff]{0,3}`).Draw(t, "member"),
		}
		if rapid.IntRange(0, 9).Draw(t, "tied") == 0 {
			e.Tie = rapid.SampledFrom([]uint64{1, 2, math.MaxUint64}).Draw(t, "tie")
		}
		return e
	})
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leafMost := rapid.SampledFrom([]int{4, 5, 8, leafCap}).Draw(t, "leafMost")
		innerMost := rapid.SampledFrom([]int{4, 5, 7}).Draw(t, "innerMost")
		w := twin{t: t, tree: sized(leafMost, innerMost)}
		present := func(t *rapid.T) Entry {
			if len(w.model) == 0 {
				t.Skip("no entry yet")
			}
			return rapid.SampledFrom(w.model).Draw(t, "present")
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { w.check() },
			"insert some": func(t *rapid.T) {
				for _, e := range rapid.SliceOfN(entries(), 1, 40).Draw(t, "entries") {
					w.insert(e)
					if err := w.tree.Check(); err != nil {
						t.Fatalf("after Insert(%v): %v", e, err)
					}
				}
			},
			"insert a run": func(t *rapid.T) {
				score := rapid.SampledFrom(scores).Draw(t, "score")
				from := rapid.IntRange(0, 99).Draw(t, "from")
				for i := range rapid.IntRange(1, 60).Draw(t, "size") {
					w.insert(Entry{Score: score, Member: fmt.Sprintf("r%02d", (from+i)%100)})
				}
			},
			"insert distinct": func(t *rapid.T) {
				from := rapid.Float64Range(-4, 4).Draw(t, "from")
				step := rapid.SampledFrom([]float64{-1. / 64, 1. / 64}).Draw(t, "step")
				for i := range rapid.IntRange(1, 60).Draw(t, "size") {
					w.insert(Entry{Score: from + float64(i)*step})
				}
			},
			"delete":         func(t *rapid.T) { w.delete(present(t)) },
			"delete unknown": func(t *rapid.T) { w.delete(entries().Draw(t, "entry")) },
			"delete range": func(t *rapid.T) {
				from := rapid.IntRange(0, len(w.model)).Draw(t, "from")
				to := rapid.IntRange(from, len(w.model)).Draw(t, "to")
				w.deleteRange(from, to)
			},
			"move": func(t *rapid.T) {
				e := present(t)
				w.delete(e)
				e.Score = rapid.SampledFrom(scores).Draw(t, "score")
				w.insert(e)
			},
			"ask":         func(t *rapid.T) { w.ask(present(t)) },
			"ask unknown": func(t *rapid.T) { w.ask(entries().Draw(t, "entry")) },
			"page": func(t *rapid.T) {
				w.page(rapid.IntRange(0, len(w.model)+1).Draw(t, "offset"), rapid.IntRange(-1, len(w.model)+1).Draw(t, "limit"))
			},
			"rebuild": func(t *rapid.T) {
				built, err := build(sized(leafMost, innerMost), slices.Values(w.model))
				if err != nil {
					t.Fatalf("Build: %v", err)
				}
				w.tree = built
			},
		})
	})
}

// FuzzTree reads calls from bytes: the first byte sizes the nodes, then each call takes an
// operation, two bytes of entry and, for ranges and pages, the same two bytes as bounds.
func FuzzTree(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte("\x01" + strings.Repeat("\x00ab\x00ba\x06aa\x01ab", 20)))
	up := []byte{2}
	for i := range 200 {
		up = append(up, 0, byte(i), byte(i/3))
	}
	f.Add(append(up, 4, 10, 150, 1, 7, 2, 3, 0, 200, 4, 0, 255))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 || len(in) > 3000 {
			return // a longer input only repeats itself, and check after each step is quadratic
		}
		w := twin{t: t, tree: sized(4+int(in[0]%4), 4+int(in[0]/4%4))}
		for in = in[1:]; len(in) >= 3; in = in[3:] {
			a, b := int(in[1]), int(in[2])
			e := Entry{Score: scores[a%len(scores)], Tie: uint64(a / 240), Member: string(in[2:3])}
			switch in[0] % 8 {
			case 0, 6:
				w.insert(e)
			case 1:
				w.delete(e)
			case 2:
				w.ask(e)
			case 3:
				w.page(a, b)
			case 4:
				from, to := min(a, len(w.model)), min(b, len(w.model))
				w.deleteRange(min(from, to), max(from, to))
			case 5:
				for i := range b % 32 {
					w.insert(Entry{Score: float64(a*32 + i), Member: string(in[2:3])})
				}
			case 7:
				if len(w.model) > 0 {
					w.delete(w.model[(a<<8|b)%len(w.model)])
				}
			}
			if err := w.tree.Check(); err != nil {
				t.Fatal(err)
			}
		}
		w.check()
	})
}

// TestFullSize grows and shrinks trees of full-sized nodes, three levels deep, in the orders that
// clients really produce.
func TestFullSize(t *testing.T) {
	const many = 30_000
	member := func(i int) string { return fmt.Sprintf("member-%08d", i) }
	for _, tc := range []struct {
		name  string
		score func(r *rand.Rand, i int) float64
		fill  float64 // at least this share of the leaves' slots is in use
	}{
		{name: "ascending, as with timestamps", score: func(_ *rand.Rand, i int) float64 { return float64(i) }, fill: 0.9},
		{name: "descending", score: func(_ *rand.Rand, i int) float64 { return float64(-i) }, fill: 0.9},
		{name: "random", score: func(r *rand.Rand, _ int) float64 { return r.Float64() }, fill: 0.75},
		{name: "all equal", score: func(*rand.Rand, int) float64 { return 7 }, fill: 0.9},
		{name: "few runs", score: func(r *rand.Rand, _ int) float64 { return float64(r.IntN(5)) }, fill: 0.75},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			w := twin{t: t, tree: New()}
			all := make([]Entry, many)
			for i := range all {
				all[i] = Entry{Score: tc.score(r, i), Member: member(i)}
				if !w.tree.Insert(all[i]) {
					t.Fatalf("Insert(%v) met itself", all[i])
				}
			}
			w.model = slices.SortedFunc(slices.Values(all), compare)
			w.check()
			if w.tree.depth != 2 {
				t.Fatalf("%d levels above the leaves: this test wants two", w.tree.depth)
			}
			leaves := 0
			for l := w.tree.Seek(0).leaf; l != nil; l = l.next {
				leaves++
			}
			if fill := many / float64(leaves*leafCap); fill < tc.fill {
				t.Errorf("leaves are %.0f%% full, want %.0f%%", fill*100, tc.fill*100)
			}
			for range 20 {
				w.ask(all[r.IntN(many)])
				w.page(r.IntN(many), r.IntN(200))
			}
			w.page(0, many)

			r.Shuffle(many, func(i, j int) { all[i], all[j] = all[j], all[i] })
			for i, e := range all[:many-100] {
				if !w.tree.Delete(e) {
					t.Fatalf("Delete(%v) found nothing", e)
				}
				if i%1000 == 0 {
					if err := w.tree.Check(); err != nil {
						t.Fatal(err)
					}
				}
			}
			w.model = slices.SortedFunc(slices.Values(all[many-100:]), compare)
			w.check()
		})
	}
}

func TestDeleteRangeOfFullSize(t *testing.T) {
	const many = 20_000
	for _, r := range [][2]int{{0, 0}, {0, 1}, {0, many}, {1, many}, {0, many - 1}, {many, many}, {many - 1, many},
		{61, 63}, {62, 124}, {30, 19_000}, {5_000, 15_000}, {4_000, 4_100}, {100, many}} {
		t.Run(fmt.Sprint(r), func(t *testing.T) {
			w := twin{t: t}
			for i := range many {
				w.model = append(w.model, Entry{Score: float64(i / 90), Tie: uint64(i % 2), Member: fmt.Sprint(i)})
			}
			slices.SortFunc(w.model, compare)
			w.tree, _ = Build(slices.Values(w.model))
			w.check()
			w.deleteRange(r[0], r[1])
			w.check()
		})
	}
}

func TestDescendingOrder(t *testing.T) {
	tree := New()
	for _, e := range []Entry{{3, 0, "cy"}, {5, 0, "bo"}, {5, 0, "ann"}, {3, 0, "ann2"}, {3, 0, "abe"}, {1, 0, "zoe"}} {
		tree.Insert(e)
	}
	for _, tc := range []struct {
		name          string
		offset, limit int
		want          string
	}{
		{"all", 0, 99, "ann bo abe ann2 cy zoe"},
		{"the best", 0, 1, "ann"},
		{"ends inside a run", 0, 3, "ann bo abe"},
		{"starts and ends inside a run", 3, 1, "ann2"},
		{"starts inside a run and leaves it", 4, 2, "cy zoe"},
		{"starts with a run", 2, 3, "abe ann2 cy"},
		{"the last", 5, 5, "zoe"},
		{"past the end", 6, 5, ""},
		{"far past the end", math.MaxInt, math.MaxInt, ""},
		{"no entries", 0, 0, ""},
		{"fewer than none", 0, -1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for i, e := range page(tree, tc.offset, tc.limit) {
				got = append(got, e.Member)
				if rank, found := tree.DescRank(e); !found || rank != tc.offset+i {
					t.Errorf("DescRank(%v) = %d, %v, want %d", e, rank, found, tc.offset+i)
				}
			}
			if got := strings.Join(got, " "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	for stop := 1; stop <= 6; stop++ {
		visits := 0
		tree.DescPage(0, 6, func(Entry) bool { visits++; return visits < stop })
		if visits != stop {
			t.Errorf("%d visits after a stop at %d", visits, stop)
		}
	}
}

// TestTies has two boards with the same three scorers: one where the first to reach a score is ahead,
// and one where the last is, by counting the sequence down.
func TestTies(t *testing.T) {
	for _, tc := range []struct {
		name string
		tie  func(seq uint64) uint64
		want string
	}{
		{"by member", func(uint64) uint64 { return 0 }, "ann bo cy"},
		{"first scorer", func(seq uint64) uint64 { return seq }, "bo cy ann"},
		{"last scorer", func(seq uint64) uint64 { return math.MaxUint64 - seq }, "ann cy bo"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := New()
			for i, m := range []string{"bo", "cy", "ann"} {
				tree.Insert(Entry{10, tc.tie(uint64(i)), m})
			}
			var got []string
			for _, e := range page(tree, 0, 3) {
				got = append(got, e.Member)
			}
			if got := strings.Join(got, " "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestZeroHasOnePlace(t *testing.T) {
	tree := New()
	minus := math.Copysign(0, -1)
	tree.Insert(Entry{0, 0, "a"})
	tree.Insert(Entry{minus, 0, "b"})
	tree.Insert(Entry{0, 0, "c"})
	if tree.Insert(Entry{minus, 0, "a"}) {
		t.Error("-0 and +0 both have member a")
	}
	if tree.Runs() != 1 || tree.LowerBound(minus) != 0 || tree.UpperBound(minus) != 3 || tree.LowerBound(0) != 0 {
		t.Error("-0 and +0 are not one run")
	}
	if !math.Signbit(tree.At(1).Score) || math.Signbit(tree.At(0).Score) {
		t.Error("the sign of a zero was not kept")
	}
	if !tree.Delete(Entry{0, 0, "b"}) {
		t.Error("+0 does not find -0")
	}
}

func TestEmpty(t *testing.T) {
	w := twin{t: t, tree: New()}
	w.check()
	w.ask(Entry{})
	w.page(0, 10)
	w.deleteRange(0, 0)
	w.delete(Entry{})
	w.insert(Entry{}) // the zero entry is an entry
	w.check()
	w.delete(Entry{})
	w.check()
	built, err := Build(slices.Values[[]Entry](nil))
	if err != nil || built.Len() != 0 || built.Check() != nil {
		t.Errorf("Build of nothing: %d entries, %v, %v", built.Len(), err, built.Check())
	}
}

func TestBuild(t *testing.T) {
	for _, many := range []int{1, 2, leafCap - 1, leafCap, leafCap + 1, 2 * leafCap, leafCap * innerCap, leafCap*innerCap + 1, 10_000} {
		w := twin{t: t}
		for i := range many {
			w.model = append(w.model, Entry{Score: float64(i / 7), Member: fmt.Sprintf("%05d", i)})
		}
		var err error
		if w.tree, err = Build(slices.Values(w.model)); err != nil {
			t.Fatalf("%d entries: %v", many, err)
		}
		w.check()
		w.ask(w.model[many/2])
	}
	for _, tc := range []struct {
		name    string
		entries []Entry
		want    string
	}{
		{"NaN", []Entry{{math.NaN(), 0, "a"}}, "ordered: entry 0 has NaN for its score"},
		{"the same twice", []Entry{{1, 0, "a"}, {1, 0, "a"}}, "ordered: entry 1 does not come after entry 0"},
		{"zeros of both signs", []Entry{{0, 0, "a"}, {math.Copysign(0, -1), 0, "a"}}, "ordered: entry 1 does not come after entry 0"},
		{"score", []Entry{{1, 0, "a"}, {2, 0, "a"}, {1, 0, "b"}}, "ordered: entry 2 does not come after entry 1"},
		{"tie", []Entry{{1, 1, "a"}, {1, 0, "b"}}, "ordered: entry 1 does not come after entry 0"},
		{"member", []Entry{{1, 0, "b"}, {1, 0, "a"}}, "ordered: entry 1 does not come after entry 0"},
	} {
		if _, err := Build(slices.Values(tc.entries)); err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestMisusePanics(t *testing.T) {
	tree := New()
	tree.Insert(Entry{1, 0, "a"})
	for name, call := range map[string]func(){
		"NaN":               func() { tree.Insert(Entry{Score: math.NaN()}) },
		"At -1":             func() { tree.At(-1) },
		"At Len":            func() { tree.At(1) },
		"DeleteRange down":  func() { tree.DeleteRange(1, 0) },
		"DeleteRange past":  func() { tree.DeleteRange(0, 2) },
		"DeleteRange -1":    func() { tree.DeleteRange(-1, 1) },
		"DescPage negative": func() { tree.DescPage(-1, 1, func(Entry) bool { return true }) },
	} {
		func() {
			defer func() {
				if p, ok := recover().(string); !ok || !strings.HasPrefix(p, "ordered: ") {
					t.Errorf("%s: panicked with %v", name, p)
				}
			}()
			call()
		}()
	}
	if err := tree.Check(); err != nil || tree.Len() != 1 {
		t.Errorf("afterwards: %d entries, %v", tree.Len(), err)
	}
}

// TestCheckFinds breaks each invariant by hand: a check that cannot fail proves nothing.
func TestCheckFinds(t *testing.T) {
	root := func(t *Tree) *inner { return t.root.(*inner) }
	kid := func(t *Tree, i int) *leaf { return root(t).kids[i].(*leaf) }
	for _, tc := range []struct {
		want   string
		damage func(t *Tree)
	}{
		{"T1 order", func(t *Tree) { l := kid(t, 1); l.scores[1], l.scores[3] = l.scores[3], l.scores[1] }},
		{"T1 order", func(t *Tree) { kid(t, 0).scores[3] = math.NaN() }},
		{"T1 order", func(t *Tree) { n := root(t); kid(t, 0).scores[0] = 1e9; n.score[0] = 1e9 }},
		{"T2 records", func(t *Tree) { root(t).count[1]-- }},
		{"T2 records", func(t *Tree) { root(t).runs[0]++ }},
		{"T2 records", func(t *Tree) { root(t).last[0]-- }},
		{"T2 records", func(t *Tree) { root(t).member[1] = "m" }},
		{"T2 records", func(t *Tree) { root(t).allRuns-- }},
		{"T2 records", func(t *Tree) { t.count++ }},
		{"T3 fill", func(t *Tree) { kid(t, 1).clear(leafCap/2 - 1) }},
		{"T4 depth", func(t *Tree) { t.depth++ }},
		{"T4 depth", func(t *Tree) { t.depth-- }},
		{"T5 chain", func(t *Tree) { kid(t, 0).next = nil }},
		{"T5 chain", func(t *Tree) { kid(t, 1).prev = nil }},
		{"T5 chain", func(t *Tree) { n := root(t); n.kids[n.n-1].(*leaf).next = &leaf{} }},
		{"T6 slack", func(t *Tree) { l := kid(t, 2); l.members[l.n] = "kept" }},
		{"T6 slack", func(t *Tree) { n := root(t); n.kids[n.n] = n.kids[0] }},
		{"T7 bytes", func(t *Tree) { t.bytes-- }},
	} {
		tree := twoLevels()
		if err := tree.Check(); err != nil {
			t.Fatal(err)
		}
		tc.damage(tree)
		if err := tree.Check(); err == nil || !strings.HasPrefix(err.Error(), tc.want+": ") {
			t.Errorf("damage to %s went by as %v", tc.want, err)
		}
	}
}

// twoLevels returns a tree of a root and some thirty leaves, with room to spare in all of them.
func twoLevels() *Tree {
	tree := New()
	for i := range 40 * 40 {
		tree.Insert(Entry{Score: float64(i * 7919 % 1600 / 2), Member: fmt.Sprint(i)})
	}
	return tree
}

// TestSameCallsSameTree is what lets replicas compare notes: shape and accounts follow from the calls.
func TestSameCallsSameTree(t *testing.T) {
	shape := func() string {
		r := rand.New(rand.NewPCG(3, 4))
		tree := New()
		for range 20_000 {
			e := Entry{Score: float64(r.IntN(3000)), Member: fmt.Sprint(r.IntN(3))}
			if !tree.Insert(e) {
				tree.Delete(e)
			}
		}
		var b strings.Builder
		for l := tree.Seek(0).leaf; l != nil; l = l.next {
			fmt.Fprintln(&b, l.n, l.scores[:l.n])
		}
		fmt.Fprintln(&b, tree.depth, tree.Bytes())
		return b.String()
	}
	if first, again := shape(), shape(); first != again {
		t.Error("the same calls made different trees")
	}
}

// TestBytes holds the account against the heap that a large tree really takes.
func TestBytes(t *testing.T) {
	const many = 200_000
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, tied := range []bool{false, true} {
		r := rand.New(rand.NewPCG(5, 6))
		before := heap()
		tree := New()
		for i := range many {
			e := Entry{Score: r.Float64(), Member: "shared"}
			if tied {
				e.Tie = uint64(i + 1)
			}
			tree.Insert(e)
		}
		got := heap() - before
		t.Logf("ties %v: %.1f bytes an entry noted, %.1f on the heap", tied, float64(tree.Bytes())/many, float64(got)/many)
		if off := math.Abs(float64(tree.Bytes())/float64(got) - 1); off > 0.05 {
			t.Errorf("ties %v: %d bytes noted, %d on the heap", tied, tree.Bytes(), got)
		}
		runtime.KeepAlive(tree)
	}
}

// TestNoAllocation holds every read, and a write that splits nothing, to no allocation at all.
func TestNoAllocation(t *testing.T) {
	tree := twoLevels()
	e := tree.At(700)
	visit := func(Entry) bool { return true }
	for name, call := range map[string]func(){
		"Rank":          func() { tree.Rank(e) },
		"DescRank":      func() { tree.DescRank(e) },
		"DenseRank":     func() { tree.DenseRank(e.Score) },
		"bounds":        func() { tree.LowerBound(e.Score); tree.UpperBound(e.Score) },
		"DescPage":      func() { tree.DescPage(10, 100, visit) },
		"Cursor":        func() { c := tree.Seek(5); c.Next(); c.Prev(); c.Entry() },
		"Delete+Insert": func() { tree.Delete(e); tree.Insert(e) },
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
