package ranked

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/larder-cache/larder/engine/memory"
	"pgregory.net/rapid"
)

// An item is an Entry with its member's name.
type item struct {
	Score  float64
	Tie    uint64
	Member string
}

// compareItems is the order of the package's doc, word for word.
func compareItems(a, b item) int {
	return cmp.Or(cmp.Compare(a.Score, b.Score), cmp.Compare(a.Tie, b.Tie), cmp.Compare(a.Member, b.Member))
}

// A store keeps names under refs from all over the 40 bits. It stops the test when it is asked for a name that
// it does not have (any more).
type store struct {
	names map[Ref][]byte
	made  uint64
}

func (s *store) Name(r Ref) []byte {
	name, ok := s.names[r]
	if !ok {
		panic(fmt.Sprintf("asked for the name of ref %d, which is not there", r))
	}
	return name
}

func (s *store) add(name string) Ref {
	if s.names == nil {
		s.names = map[Ref][]byte{}
	}
	s.made++
	r := Ref(s.made*0x9E3779B97F) & maxRef // the factor is odd, so all refs are different
	s.names[r] = []byte(name)
	return r
}

// A naive is what a Tree claims to be, in a form that a reader can verify by eye: a sorted slice, and
// each question answered by looking at all of it.
type naive []item

func (n *naive) insert(e item) bool {
	at, had := slices.BinarySearchFunc(*n, e, compareItems)
	if !had {
		*n = slices.Insert(*n, at, e)
	}
	return !had
}

func (n *naive) delete(e item) bool {
	at, had := slices.BinarySearchFunc(*n, e, compareItems)
	if had {
		*n = slices.Delete(*n, at, at+1)
	}
	return had
}

func (n naive) count(is func(item) bool) int {
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

func (n naive) desc() []item {
	d := slices.Clone(n)
	slices.SortFunc(d, func(a, b item) int {
		if a.Score != b.Score {
			if a.Score > b.Score {
				return -1
			}
			return 1
		}
		return compareItems(a, b)
	})
	return d
}

// A twin makes every call on a Tree and on a naive, and stops the test where the two differ.
type twin struct {
	t interface {
		Helper()
		Fatalf(string, ...any)
	}
	nodes *Nodes
	tree  *Tree
	store store
	refs  map[item]Ref // of the entries in the tree; -0 and +0 are one key
	model naive
}

func newTwin(t interface {
	Helper()
	Fatalf(string, ...any)
}, leafMost, innerMost int) *twin {
	w := &twin{t: t, nodes: sized(memory.New(), leafMost, innerMost), refs: map[item]Ref{}}
	w.tree = New(w.nodes, &w.store)
	return w
}

// build makes the tree anew, of items that ascend.
func (w *twin) build(items []item) error {
	if w.tree != nil {
		w.free(w.tree)
	}
	clear(w.refs)
	clear(w.store.names)
	w.model = slices.Clone(items)
	var err error
	w.tree, err = Build(w.nodes, &w.store, func(yield func(Entry) bool) {
		for _, e := range items {
			w.refs[e] = w.store.add(e.Member)
			if !yield(w.entry(e)) {
				return
			}
		}
	})
	return err
}

func (w *twin) free(t *Tree) {
	w.t.Helper()
	before := w.nodes.leaves.Used() + w.nodes.inners.Used()
	for t.FreeSome(3) {
		now := w.nodes.leaves.Used() + w.nodes.inners.Used()
		w.same("nodes freed at once", before-now, 3)
		before = now
	}
	w.same("bytes after all was freed", t.Bytes(), int64(0))
}

// end frees the tree and looks for what is left.
func (w *twin) end() {
	w.t.Helper()
	w.free(w.tree)
	w.same("nodes left", w.nodes.leaves.Used()+w.nodes.ties.Used()+w.nodes.inners.Used(), 0)
	w.nodes.Close()
}

func (w *twin) entry(e item) Entry { return Entry{e.Score, e.Tie, w.refs[e]} }
func (w *twin) key(e item) Key     { return Key{e.Score, e.Tie, []byte(e.Member)} }
func (w *twin) item(e Entry) item  { return item{e.Score, e.Tie, string(w.store.Name(e.Member))} }

// known calls with e as an entry: its own if it is in the tree, or else one of a member that is not.
func (w *twin) known(e item, call func(Entry)) {
	if ref, ok := w.refs[e]; ok {
		call(Entry{e.Score, e.Tie, ref})
		return
	}
	ref := w.store.add(e.Member)
	call(Entry{e.Score, e.Tie, ref})
	delete(w.store.names, ref)
}

func (w *twin) page(offset, limit int) (got []item) {
	w.tree.DescPage(offset, limit, func(e Entry) bool { got = append(got, w.item(e)); return true })
	return got
}

func (w *twin) same(what string, got, want any) {
	w.t.Helper()
	if got != want {
		w.t.Fatalf("%s = %v, want %v", what, got, want)
	}
}

func (w *twin) insert(e item) {
	w.t.Helper()
	ref := w.store.add(e.Member)
	added := w.tree.Insert(Entry{e.Score, e.Tie, ref})
	w.same(fmt.Sprintf("Insert(%v)", e), added, w.model.insert(e))
	if added {
		w.refs[e] = ref
	} else {
		delete(w.store.names, ref)
	}
}

func (w *twin) delete(e item) {
	w.t.Helper()
	w.known(e, func(entry Entry) {
		w.same(fmt.Sprintf("Delete(%v)", e), w.tree.Delete(entry), w.model.delete(e))
	})
	w.forget(e)
}

func (w *twin) forget(e item) {
	delete(w.store.names, w.refs[e])
	delete(w.refs, e)
}

func (w *twin) deleteRange(from, to int) {
	for _, e := range w.model[from:to] {
		w.forget(e) // DeleteRange asks for no names
	}
	w.tree.DeleteRange(from, to)
	w.model = slices.Delete(w.model, from, to)
}

// move gives e another place, if its name is not there yet.
func (w *twin) move(e item, score float64, tie uint64) {
	w.t.Helper()
	to := item{score, tie, e.Member}
	if _, taken := w.refs[to]; taken && to != e {
		return
	}
	w.known(e, func(entry Entry) {
		had := w.model.delete(e)
		w.same(fmt.Sprintf("Move(%v, %v, %d)", e, score, tie), w.tree.Move(entry, score, tie), had)
		if had {
			w.model.insert(to)
			delete(w.refs, e)
			w.refs[to] = entry.Member
		}
	})
}

// relocate stores the member of e elsewhere; where it was, there is nothing any more.
func (w *twin) relocate(e item) {
	w.t.Helper()
	old := w.entry(e)
	to := w.store.add(e.Member)
	delete(w.store.names, old.Member)
	w.same(fmt.Sprintf("Relocate(%v)", e), w.tree.Relocate(old, to), true)
	w.refs[e] = to
	if got, found := w.tree.Rank(w.entry(e)); !found || w.tree.At(got).Member != to {
		w.t.Fatalf("%v, relocated, is not there", e)
	}
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
		w.same(fmt.Sprintf("entry %d going up", i), w.item(c.Entry()), w.model[i])
		w.same(fmt.Sprintf("ref of entry %d", i), c.Entry().Member, w.refs[w.model[i]])
		i++
	}
	w.same("entries going up", i, len(w.model))
	for c := w.tree.Seek(i - 1); c.Valid(); c.Prev() {
		i--
		w.same(fmt.Sprintf("entry %d going down", i), w.item(c.Entry()), w.model[i])
	}
	w.same("entries left below", i, 0)
	w.same("Seek(Len)", w.tree.Seek(len(w.model)).Valid(), false)
	w.same("Seek(-1)", w.tree.Seek(-1).Valid(), false)
}

// checkPlaces walks all places in the four directions there are.
func (w *twin) checkPlaces() {
	w.t.Helper()
	desc, many := w.model.desc(), len(w.model)
	i := 0
	for p := w.tree.PlaceAt(0); p.Valid(); p.Next() {
		w.place(p, w.model[i])
		i++
	}
	w.same("places going up", i, many)
	for p := w.tree.PlaceAt(many - 1); p.Valid(); p.Prev() {
		i--
		w.place(p, w.model[i])
	}
	w.same("places left below", i, 0)
	for p := w.tree.DescPlaceAt(0); p.Valid(); p.DescNext() {
		w.place(p, desc[i])
		i++
	}
	w.same("places in descending order", i, many)
	for p := w.tree.DescPlaceAt(many - 1); p.Valid(); p.DescPrev() {
		i--
		w.place(p, desc[i])
	}
	w.same("places left before", i, 0)
	w.same("PlaceAt(Len)", w.tree.PlaceAt(many).Valid(), false)
	w.same("PlaceAt(-1)", w.tree.PlaceAt(-1).Valid(), false)
	w.same("DescPlaceAt(Len)", w.tree.DescPlaceAt(many).Valid(), false)
	w.same("DescPlaceAt(-1)", w.tree.DescPlaceAt(-1).Valid(), false)
}

// place compares all that p says with what there is to say about e.
func (w *twin) place(p Place, e item) {
	w.t.Helper()
	w.same("entry at a place", w.item(p.Entry()), e)
	less := w.model.count(func(x item) bool { return x.Score < e.Score })
	more := w.model.count(func(x item) bool { return x.Score > e.Score })
	before := w.model.count(func(x item) bool { return compareItems(x, e) < 0 })
	dense := w.model.runs(func(x float64) bool { return x < e.Score })
	w.same(fmt.Sprintf("place of %v", e), [5]int{p.Index, p.From, p.To, p.Dense, p.DescIndex()},
		[5]int{before, less, len(w.model) - more, dense, more + before - less})
}

// ask compares the answers to every question about e, whether or not it is there.
func (w *twin) ask(e item) {
	w.t.Helper()
	less := func(x item) bool { return x.Score < e.Score }
	more := func(x item) bool { return x.Score > e.Score }
	before := func(x item) bool { return compareItems(x, e) < 0 }
	index, present := w.model.count(before), slices.ContainsFunc(w.model, func(x item) bool { return x == e })
	inRun := w.model.count(func(x item) bool { return x.Score == e.Score && before(x) })
	desc := w.model.count(more) + inRun

	is := func(what string, got int, found bool, want int) {
		w.t.Helper()
		w.same(fmt.Sprintf("%s(%v)", what, e), got, want)
		w.same(fmt.Sprintf("%s(%v) found", what, e), found, present)
	}
	w.known(e, func(entry Entry) {
		got, found := w.tree.Rank(entry)
		is("Rank", got, found, index)
		got, found = w.tree.DescRank(entry)
		is("DescRank", got, found, desc)
		p, found := w.tree.Place(entry)
		w.same(fmt.Sprintf("Place(%v) found", e), found, present)
		w.same(fmt.Sprintf("Place(%v) valid", e), p.Valid(), present)
		if found {
			w.same(fmt.Sprintf("At(%d)", index), w.tree.At(index), entry)
			w.place(p, e)
		}
	})
	got, found := w.tree.RankKey(w.key(e))
	is("RankKey", got, found, index)
	got, found = w.tree.DescRankKey(w.key(e))
	is("DescRankKey", got, found, desc)

	s := e.Score
	w.same(fmt.Sprintf("LowerBound(%v)", s), w.tree.LowerBound(s), w.model.count(less))
	w.same(fmt.Sprintf("UpperBound(%v)", s), w.tree.UpperBound(s), len(w.model)-w.model.count(more))
	w.same(fmt.Sprintf("DenseRank(%v)", s), w.tree.DenseRank(s), w.model.runs(func(x float64) bool { return x < s }))
	w.same(fmt.Sprintf("DescDenseRank(%v)", s), w.tree.DescDenseRank(s), w.model.runs(func(x float64) bool { return x > s }))
}

func (w *twin) samePage(offset, limit int) {
	w.t.Helper()
	want := w.model.desc()
	want = want[min(offset, len(want)):]
	want = want[:max(0, min(limit, len(want)))]
	if got := w.page(offset, limit); !slices.Equal(got, want) {
		w.t.Fatalf("DescPage(%d, %d) = %v, want %v", offset, limit, got, want)
	}
}

var scores = []float64{math.Inf(-1), -math.MaxFloat64, -1, math.Copysign(0, -1), 0,
	math.SmallestNonzeroFloat64, 1, 1.5, 2, 3, math.MaxFloat64, math.Inf(1)}

// items draws from few scores, ties and members, so that runs are long and calls often meet an
// entry that is there. The tie is mostly 0, so that leaves with and without ties exchange entries.
func items() *rapid.Generator[item] {
	return rapid.Custom(func(t *rapid.T) item {
		e := item{
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
		w := newTwin(t, leafMost, innerMost)
		present := func(t *rapid.T) item {
			if len(w.model) == 0 {
				t.Skip("no entry yet")
			}
			return rapid.SampledFrom(w.model).Draw(t, "present")
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { w.check() },
			"insert some": func(t *rapid.T) {
				for _, e := range rapid.SliceOfN(items(), 1, 40).Draw(t, "entries") {
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
					w.insert(item{Score: score, Member: fmt.Sprintf("r%02d", (from+i)%100)})
				}
			},
			"insert distinct": func(t *rapid.T) {
				from := rapid.Float64Range(-4, 4).Draw(t, "from")
				step := rapid.SampledFrom([]float64{-1. / 64, 1. / 64}).Draw(t, "step")
				for i := range rapid.IntRange(1, 60).Draw(t, "size") {
					w.insert(item{Score: from + float64(i)*step})
				}
			},
			"delete":         func(t *rapid.T) { w.delete(present(t)) },
			"delete unknown": func(t *rapid.T) { w.delete(items().Draw(t, "entry")) },
			"delete range": func(t *rapid.T) {
				from := rapid.IntRange(0, len(w.model)).Draw(t, "from")
				to := rapid.IntRange(from, len(w.model)).Draw(t, "to")
				w.deleteRange(from, to)
			},
			"delete and insert": func(t *rapid.T) {
				e := present(t)
				w.delete(e)
				e.Score = rapid.SampledFrom(scores).Draw(t, "score")
				w.insert(e)
			},
			"move": func(t *rapid.T) {
				to := items().Draw(t, "to")
				w.move(present(t), to.Score, to.Tie)
			},
			"move a little": func(t *rapid.T) {
				e := present(t)
				w.move(e, e.Score+rapid.SampledFrom([]float64{-1. / 16, -1. / 128, 1. / 128, 1. / 16}).Draw(t, "by"), e.Tie)
			},
			"move unknown": func(t *rapid.T) {
				if e := items().Draw(t, "entry"); w.model.count(func(x item) bool { return x == e }) == 0 {
					w.move(e, 1, 0)
				}
			},
			"relocate": func(t *rapid.T) { w.relocate(present(t)) },
			"relocate all": func(*rapid.T) {
				for _, e := range w.model {
					w.relocate(e)
				}
			},
			"detach": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
					t.Skip("most of the time, let it grow")
				}
				old := w.tree.Detach()
				w.same("detached", old.Len(), len(w.model))
				w.free(old)
				w.model = nil
				clear(w.refs)
			},
			"places":      func(*rapid.T) { w.checkPlaces() },
			"ask":         func(t *rapid.T) { w.ask(present(t)) },
			"ask unknown": func(t *rapid.T) { w.ask(items().Draw(t, "entry")) },
			"page": func(t *rapid.T) {
				w.samePage(rapid.IntRange(0, len(w.model)+1).Draw(t, "offset"), rapid.IntRange(-1, len(w.model)+1).Draw(t, "limit"))
			},
			"rebuild": func(t *rapid.T) {
				if err := w.build(w.model); err != nil {
					t.Fatalf("Build: %v", err)
				}
			},
		})
		w.end()
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
		w := newTwin(t, 4+int(in[0]%4), 4+int(in[0]/4%4))
		for in = in[1:]; len(in) >= 3; in = in[3:] {
			a, b := int(in[1]), int(in[2])
			e := item{Score: scores[a%len(scores)], Tie: uint64(a / 240), Member: string(in[2:3])}
			switch in[0] % 12 {
			case 0, 6:
				w.insert(e)
			case 1:
				w.delete(e)
			case 2:
				w.ask(e)
			case 3:
				w.samePage(a, b)
			case 4:
				from, to := min(a, len(w.model)), min(b, len(w.model))
				w.deleteRange(min(from, to), max(from, to))
			case 5:
				for i := range b % 32 {
					w.insert(item{Score: float64(a*32 + i), Member: string(in[2:3])})
				}
			case 7:
				if len(w.model) > 0 {
					w.delete(w.model[(a<<8|b)%len(w.model)])
				}
			case 8:
				if len(w.model) > 0 {
					w.move(w.model[b%len(w.model)], e.Score, e.Tie)
				}
			case 9:
				if len(w.model) > 0 {
					e := w.model[a%len(w.model)]
					w.move(e, e.Score+float64(b-128)/64, e.Tie)
				}
			case 10:
				if len(w.model) > 0 {
					w.relocate(w.model[(a<<8|b)%len(w.model)])
				}
			case 11:
				if err := w.build(w.model); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.tree.Check(); err != nil {
				t.Fatal(err)
			}
		}
		w.check()
		w.checkPlaces()
		w.end()
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
		{name: "random", score: func(r *rand.Rand, _ int) float64 { return r.Float64() }, fill: 0.8},
		{name: "all equal", score: func(*rand.Rand, int) float64 { return 7 }, fill: 0.9},
		{name: "few runs", score: func(r *rand.Rand, _ int) float64 { return float64(r.IntN(5)) }, fill: 0.75},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			w := newTwin(t, leafCap, innerCap)
			all := make([]item, many)
			for i := range all {
				all[i] = item{Score: tc.score(r, i), Member: member(i)}
				w.refs[all[i]] = w.store.add(all[i].Member)
				if !w.tree.Insert(w.entry(all[i])) {
					t.Fatalf("Insert(%v) met itself", all[i])
				}
			}
			w.model = slices.SortedFunc(slices.Values(all), compareItems)
			w.check()
			if w.tree.depth != 2 {
				t.Fatalf("%d levels above the leaves: this test wants two", w.tree.depth)
			}
			fill := many / float64(w.nodes.leaves.Used()*leafCap)
			t.Logf("leaves are %.0f%% full", fill*100)
			if fill < tc.fill {
				t.Errorf("leaves are %.0f%% full, want %.0f%%", fill*100, tc.fill*100)
			}
			for range 20 {
				w.ask(all[r.IntN(many)])
				w.samePage(r.IntN(many), r.IntN(200))
			}
			w.samePage(0, many)

			r.Shuffle(many, func(i, j int) { all[i], all[j] = all[j], all[i] })
			for i, e := range all[:many-100] {
				if !w.tree.Delete(w.entry(e)) {
					t.Fatalf("Delete(%v) found nothing", e)
				}
				if i%1000 == 0 {
					if err := w.tree.Check(); err != nil {
						t.Fatal(err)
					}
				}
			}
			w.model = slices.SortedFunc(slices.Values(all[many-100:]), compareItems)
			w.check()
			w.end()
		})
	}
}

func TestDeleteRangeOfFullSize(t *testing.T) {
	const many = 20_000
	for _, r := range [][2]int{{0, 0}, {0, 1}, {0, many}, {1, many}, {0, many - 1}, {many, many}, {many - 1, many},
		{77, 79}, {78, 156}, {30, 19_000}, {5_000, 15_000}, {4_000, 4_100}, {100, many}} {
		t.Run(fmt.Sprint(r), func(t *testing.T) {
			w := newTwin(t, leafCap, innerCap)
			var all []item
			for i := range many {
				all = append(all, item{Score: float64(i / 90), Tie: uint64(i % 2), Member: fmt.Sprint(i)})
			}
			slices.SortFunc(all, compareItems)
			if err := w.build(all); err != nil {
				t.Fatal(err)
			}
			w.check()
			w.deleteRange(r[0], r[1])
			w.check()
			w.end()
		})
	}
}

func TestDescendingOrder(t *testing.T) {
	w := newTwin(t, leafCap, innerCap)
	for _, e := range []item{{3, 0, "cy"}, {5, 0, "bo"}, {5, 0, "ann"}, {3, 0, "ann2"}, {3, 0, "abe"}, {1, 0, "zoe"}} {
		w.insert(e)
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
			for i, e := range w.page(tc.offset, tc.limit) {
				got = append(got, e.Member)
				if rank, found := w.tree.DescRank(w.entry(e)); !found || rank != tc.offset+i {
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
		w.tree.DescPage(0, 6, func(Entry) bool { visits++; return visits < stop })
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
			w := newTwin(t, leafCap, innerCap)
			for i, m := range []string{"bo", "cy", "ann"} {
				w.insert(item{10, tc.tie(uint64(i)), m})
			}
			var got []string
			for _, e := range w.page(0, 3) {
				got = append(got, e.Member)
			}
			if got := strings.Join(got, " "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestZeroHasOnePlace(t *testing.T) {
	w := newTwin(t, leafCap, innerCap)
	minus := math.Copysign(0, -1)
	w.insert(item{0, 0, "a"})
	w.insert(item{minus, 0, "b"})
	w.insert(item{0, 0, "c"})
	w.insert(item{minus, 0, "a"}) // is there
	tree := w.tree
	if tree.Runs() != 1 || tree.LowerBound(minus) != 0 || tree.UpperBound(minus) != 3 || tree.LowerBound(0) != 0 {
		t.Error("-0 and +0 are not one run")
	}
	if !math.Signbit(tree.At(1).Score) || math.Signbit(tree.At(0).Score) {
		t.Error("the sign of a zero was not kept")
	}
	w.delete(item{0, 0, "b"})
	w.check()
}

func TestEmpty(t *testing.T) {
	w := newTwin(t, leafCap, innerCap)
	w.check()
	w.checkPlaces()
	w.ask(item{})
	w.samePage(0, 10)
	w.deleteRange(0, 0)
	w.delete(item{})
	w.insert(item{}) // the zero item is an item
	w.check()
	w.delete(item{})
	w.check()
	if err := w.build(nil); err != nil || w.tree.Len() != 0 {
		t.Errorf("Build of nothing: %d entries, %v", w.tree.Len(), err)
	}
	w.check()
	w.end()
}

// nilNames has a member without a name, which Go may well hand out as nil.
type nilNames struct{}

func (nilNames) Name(r Ref) []byte {
	if r == 1 {
		return nil
	}
	return []byte("a")
}

func TestEmptyName(t *testing.T) {
	tree := New(NewNodes(memory.New()), nilNames{})
	tree.Insert(Entry{Member: 2})
	tree.Insert(Entry{Member: 1})
	if i, found := tree.RankKey(Key{}); i != 0 || !found || tree.At(0).Member != 1 {
		t.Errorf("the empty name is at %d, %v", i, found)
	}
}

func TestBuild(t *testing.T) {
	for _, many := range []int{1, 2, leafCap - 1, leafCap, leafCap + 1, 2 * leafCap, leafCap * innerCap, leafCap*innerCap + 1, 10_000} {
		w := newTwin(t, leafCap, innerCap)
		var all []item
		for i := range many {
			all = append(all, item{Score: float64(i / 7), Member: fmt.Sprintf("%05d", i)})
		}
		if err := w.build(all); err != nil {
			t.Fatalf("%d entries: %v", many, err)
		}
		w.check()
		w.ask(w.model[many/2])
		w.end()
	}
	for _, tc := range []struct {
		name  string
		items []item
		want  string
	}{
		{"NaN", []item{{math.NaN(), 0, "a"}}, "ranked: entry 0 has NaN for its score"},
		{"the same twice", []item{{1, 0, "a"}, {1, 0, "a"}}, "ranked: entry 1 does not come after entry 0"},
		{"zeros of both signs", []item{{0, 0, "a"}, {math.Copysign(0, -1), 0, "a"}}, "ranked: entry 1 does not come after entry 0"},
		{"score", []item{{1, 0, "a"}, {2, 0, "a"}, {1, 0, "b"}}, "ranked: entry 2 does not come after entry 1"},
		{"tie", []item{{1, 1, "a"}, {1, 0, "b"}}, "ranked: entry 1 does not come after entry 0"},
		{"member", []item{{1, 0, "b"}, {1, 0, "a"}}, "ranked: entry 1 does not come after entry 0"},
	} {
		w := newTwin(t, leafCap, innerCap)
		if err := w.build(tc.items); err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		if left := w.nodes.leaves.Used() + w.nodes.ties.Used(); left != 0 {
			t.Errorf("%s: the failed tree left %d nodes", tc.name, left)
		}
	}
}

func TestMisusePanics(t *testing.T) {
	w := newTwin(t, leafCap, innerCap)
	w.insert(item{1, 0, "a"})
	tree := w.tree
	for name, call := range map[string]func(){
		"NaN":               func() { tree.Insert(Entry{Score: math.NaN()}) },
		"ref":               func() { tree.Insert(Entry{Member: maxRef + 1}) },
		"Move to NaN":       func() { tree.Move(tree.At(0), math.NaN(), 0) },
		"Relocate":          func() { tree.Relocate(tree.At(0), maxRef+1) },
		"At -1":             func() { tree.At(-1) },
		"At Len":            func() { tree.At(1) },
		"DeleteRange down":  func() { tree.DeleteRange(1, 0) },
		"DeleteRange past":  func() { tree.DeleteRange(0, 2) },
		"DeleteRange -1":    func() { tree.DeleteRange(-1, 1) },
		"DescPage negative": func() { tree.DescPage(-1, 1, func(Entry) bool { return true }) },
	} {
		func() {
			defer func() {
				if p, ok := recover().(string); !ok || !strings.HasPrefix(p, "ranked: ") {
					t.Errorf("%s: panicked with %v", name, p)
				}
			}()
			call()
		}()
	}
	w.check()
}

// TestCheckFinds breaks each invariant by hand: a check that cannot fail proves nothing.
func TestCheckFinds(t *testing.T) {
	root := func(t *Tree) *inner { return t.inner(t.root) }
	kid := func(t *Tree, i int) *leaf { return t.leaf(root(t).kids[i]) }
	for _, tc := range []struct {
		want   string
		damage func(t *Tree)
	}{
		{"T1 order", func(t *Tree) { l := kid(t, 1); l.scores[1], l.scores[3] = l.scores[3], l.scores[1] }},
		{"T1 order", func(t *Tree) { kid(t, 0).scores[3] = math.NaN() }},
		{"T1 order", func(t *Tree) { n := root(t); kid(t, 0).scores[0] = 1e9; n.score[0] = 1e9 }},
		{"T1 order", func(t *Tree) { l := kid(t, 2); l.refs[8] = l.refs[7]; l.scores[8] = l.scores[7] }},
		{"T2 records", func(t *Tree) { root(t).count[1]-- }},
		{"T2 records", func(t *Tree) { root(t).runs[0]++ }},
		{"T2 records", func(t *Tree) { root(t).last[0]-- }},
		{"T2 records", func(t *Tree) { root(t).ref[1] = packed{9} }},
		{"T2 records", func(t *Tree) { root(t).tie[1]++ }},
		{"T2 records", func(t *Tree) { root(t).allRuns-- }},
		{"T2 records", func(t *Tree) { t.count++ }},
		{"T3 fill", func(t *Tree) { kid(t, 1).n = leafCap/2 - 1 }},
		{"T4 depth", func(t *Tree) { root(t).level++ }},
		{"T5 chain", func(t *Tree) { kid(t, 0).next = 0 }},
		{"T5 chain", func(t *Tree) { kid(t, 1).prev = 0 }},
		{"T5 chain", func(t *Tree) { n := root(t); kid(t, n.n-1).next = 1 }},
		{"T6 numbers", func(t *Tree) { kid(t, 1).id = 1 }},
		{"T6 numbers", func(t *Tree) { root(t).id++ }},
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

// numbered names its members by their refs.
type numbered []byte

func newNumbered(many int) (n numbered) {
	for i := range many {
		n = fmt.Appendf(n, "member%010d", i)
	}
	return n
}

func (n numbered) Name(r Ref) []byte { return n[r*16 : r*16+16] }

// twoLevels returns a tree of a root and some 25 leaves, with room to spare in all of them.
func twoLevels() *Tree {
	tree := New(NewNodes(memory.New()), newNumbered(1600))
	for i := range 40 * 40 {
		tree.Insert(Entry{Score: float64(i * 7919 % 1600 / 2), Member: Ref(i)})
	}
	return tree
}

// TestSameCallsSameTree is what lets replicas compare notes: shape and accounts follow from the calls.
func TestSameCallsSameTree(t *testing.T) {
	shape := func() string {
		r := rand.New(rand.NewPCG(3, 4))
		tree := New(NewNodes(memory.New()), newNumbered(3))
		for range 20_000 {
			e := Entry{Score: float64(r.IntN(3000)), Member: Ref(r.IntN(3))}
			if !tree.Insert(e) {
				tree.Delete(e)
			}
		}
		var b strings.Builder
		for l := tree.Seek(0).leaf; l != nil; l = tree.beside(l.next) {
			fmt.Fprintln(&b, *l)
		}
		fmt.Fprintln(&b, *tree.inner(tree.root), tree.depth, tree.Bytes())
		return b.String()
	}
	if first, again := shape(), shape(); first != again {
		t.Error("the same calls made different trees")
	}
}

// TestBytes holds the account against the pages that a large tree really takes, and both against the bounds of
// decision 0008.
func TestBytes(t *testing.T) {
	const many = 200_000
	for _, tc := range []struct {
		tied  bool
		bound float64
	}{{false, 18}, {true, 28}} {
		r := rand.New(rand.NewPCG(5, 6))
		pages := memory.New()
		tree := New(NewNodes(pages), newNumbered(1))
		for i := range many {
			e := Entry{Score: r.Float64()}
			if tc.tied {
				e.Tie = uint64(i + 1)
			}
			tree.Insert(e)
		}
		noted, taken := float64(tree.Bytes()), float64(pages.Used())
		t.Logf("ties %v: %.1f bytes an entry noted, %.1f taken", tc.tied, noted/many, taken/many)
		if noted/taken < 0.95 || noted > taken {
			t.Errorf("ties %v: %.0f bytes noted, %.0f taken", tc.tied, noted, taken)
		}
		if noted/many > tc.bound {
			t.Errorf("ties %v: more than %v bytes an entry", tc.tied, tc.bound)
		}
	}
}

// TestSmallTrees holds trees as small as they are made to 2 KiB and 18 bytes an entry.
func TestSmallTrees(t *testing.T) {
	for _, grow := range []string{"random", "ascending"} {
		r := rand.New(rand.NewPCG(7, 8))
		tree := New(NewNodes(memory.New()), newNumbered(1))
		for i := range 5000 {
			score := float64(i)
			if grow == "random" {
				score = r.Float64()
			}
			tree.Insert(Entry{Score: score})
			if n := int64(tree.Len()); n > 128 && tree.Bytes() > 2048+18*n {
				t.Fatalf("%s: %d bytes for %d entries", grow, tree.Bytes(), n)
			}
		}
	}
}

// TestNoAllocation holds every call but Build to no allocation at all.
func TestNoAllocation(t *testing.T) {
	tree := twoLevels()
	e := tree.At(700)
	k := Key{Score: e.Score, Member: []byte("member")}
	visit := func(Entry) bool { return true }
	for name, call := range map[string]func(){
		"Rank":          func() { tree.Rank(e) },
		"RankKey":       func() { tree.RankKey(k) },
		"DescRank":      func() { tree.DescRank(e) },
		"DenseRank":     func() { tree.DenseRank(e.Score) },
		"bounds":        func() { tree.LowerBound(e.Score); tree.UpperBound(e.Score) },
		"DescPage":      func() { tree.DescPage(10, 100, visit) },
		"Cursor":        func() { c := tree.Seek(5); c.Next(); c.Prev(); c.Entry() },
		"Place":         func() { p, _ := tree.Place(e); p.DescNext(); p.DescPrev(); p.Entry() },
		"Delete+Insert": func() { tree.Delete(e); tree.Insert(e) },
		"Move":          func() { tree.Move(e, e.Score+0.25, 0); tree.Move(Entry{e.Score + 0.25, 0, e.Member}, e.Score, 0) },
		"Move far":      func() { tree.Move(e, -1, 0); tree.Move(Entry{-1, 0, e.Member}, e.Score, 0) },
		"Relocate":      func() { tree.Relocate(e, e.Member) },
		"splits and merges": func() {
			for i := range 1600 {
				tree.Insert(Entry{Score: -5, Member: Ref(i)})
			}
			tree.DeleteRange(tree.LowerBound(-5), tree.UpperBound(-5))
		},
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	if err := tree.Check(); err != nil {
		t.Error(err)
	}
}
