package ranked

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine/memory"
)

var huge = flag.Bool("huge", false, "benchmark 10 million members as well")

// BenchmarkTree measures boards with 16-byte names and random scores, nearly all of them different.
// Run it with -bench . -benchmem, and -args -huge for 10 million members.
func BenchmarkTree(b *testing.B) {
	sizes := []int{1_000, 1_000_000}
	if *huge {
		sizes = append(sizes, 10_000_000)
	}
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmark(b, size, func(r *rand.Rand) float64 { return r.Float64() }) })
	}
	b.Run("1000000 in 1000 runs", func(b *testing.B) {
		benchmark(b, 1_000_000, func(r *rand.Rand) float64 { return float64(r.IntN(1000)) })
	})
}

func benchmark(b *testing.B, size int, score func(*rand.Rand) float64) {
	r := rand.New(rand.NewPCG(7, 8))
	names := newNumbered(size)
	nodes := NewNodes(memory.New())
	all := make([]Entry, size)
	for i := range all {
		all[i] = Entry{Score: score(r), Member: Ref(i)}
	}
	tree := New(nodes, names)
	restart := func() {
		tree.FreeSome(size)
		tree = New(nodes, names)
	}
	perEntry := func() float64 { return float64(tree.Bytes()) / float64(size) }
	b.Run("insert", func(b *testing.B) {
		b.ReportAllocs()
		restart()
		for i := range b.N {
			if i%size == 0 && i > 0 {
				restart()
			}
			tree.Insert(all[i%size])
		}
	})
	b.Run("insert ascending", func(b *testing.B) {
		b.ReportAllocs()
		restart()
		for i := range b.N {
			if i%size == 0 && i > 0 {
				restart()
			}
			tree.Insert(Entry{Score: float64(i), Member: Ref(i % size)})
		}
		b.StopTimer()
		for i := tree.Len(); i < size; i++ {
			tree.Insert(Entry{Score: float64(i), Member: Ref(i)})
		}
		b.ReportMetric(perEntry(), "B/entry")
	})
	restart()
	for _, e := range all {
		tree.Insert(e)
	}
	grown := perEntry()

	// Which entry is asked for is drawn beforehand: the dice would cost as much as the answer.
	pick := make([]Entry, 1<<16)
	for i := range pick {
		pick[i] = all[r.IntN(size)]
	}
	run := func(name string, call func(e Entry, i int)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				call(pick[i%len(pick)], i)
			}
		})
	}
	at := func(i int) int { return i * 7919 % size }
	run("rank", func(e Entry, _ int) { tree.Rank(e) })
	run("desc rank", func(e Entry, _ int) { tree.DescRank(e) })
	run("dense rank", func(e Entry, _ int) { tree.DenseRank(e.Score) })
	run("place", func(e Entry, _ int) { tree.Place(e) })
	run("at", func(_ Entry, i int) { tree.At(at(i)) })
	run("page of 10", func(_ Entry, i int) { tree.DescPage(at(i), 10, func(Entry) bool { return true }) })
	run("page of 10 by cursor", func(_ Entry, i int) {
		c := tree.Seek(at(i))
		for k := 0; k < 10 && c.Valid(); k++ {
			_ = c.Entry()
			c.Next()
		}
	})
	run("around by 5", func(e Entry, _ int) {
		p, _ := tree.Place(e)
		for k := 0; k < 5 && p.DescIndex() > 0; k++ {
			p.DescPrev()
		}
		for k := 0; k < 11 && p.Valid(); k++ {
			_ = p.Entry()
			p.DescNext()
		}
	})
	b.Run("move a little", func(b *testing.B) { // within the leaf, nearly always
		b.ReportAllocs()
		for i := range b.N {
			e := &all[at(i)]
			to := e.Score + 4/float64(size)
			tree.Move(*e, to, 0)
			e.Score = to
		}
	})
	fresh := make([]float64, 1<<20)
	for i := range fresh {
		fresh[i] = score(r)
	}
	b.Run("move", func(b *testing.B) { // what a new score for a member costs
		b.ReportAllocs()
		for i := range b.N {
			e := &all[at(i)]
			to := fresh[i%len(fresh)]
			tree.Move(*e, to, 0)
			e.Score = to
		}
		b.ReportMetric(grown, "B/entry-grown")
		b.ReportMetric(perEntry(), "B/entry")
	})
	run("relocate", func(_ Entry, i int) { tree.Relocate(all[at(i)], all[at(i)].Member) })
	sorted := make([]Entry, 0, size)
	for c := tree.Seek(0); c.Valid(); c.Next() {
		sorted = append(sorted, c.Entry())
	}
	rebuild := func() {
		tree.FreeSome(size)
		tree, _ = Build(nodes, names, slices.Values(sorted))
	}
	b.Run("build", func(b *testing.B) {
		for range b.N {
			rebuild()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/entry")
		b.ReportMetric(perEntry(), "B/entry")
	})
	b.Run("delete range of a tenth", func(b *testing.B) {
		for range b.N {
			if tree.Len() < size/2 {
				b.StopTimer()
				rebuild()
				b.StartTimer()
			}
			tree.DeleteRange(size/5, size/5+size/10)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size/10), "ns/entry")
	})
	b.Run("free some", func(b *testing.B) { // 16 nodes, about a thousand entries
		for range b.N {
			if !tree.FreeSome(16) {
				b.StopTimer()
				rebuild()
				b.StartTimer()
			}
		}
	})
	nodes.Close()
}

// BenchmarkSlowest looks for the call that holds the partition up the longest. The same calls build the same tree, so
// what a call takes is the least that it took in a few rounds, and a busy machine is not held against it.
func BenchmarkSlowest(b *testing.B) {
	size, rounds := 1_000_000, 5
	if *huge {
		size = 10_000_000
	}
	names := newNumbered(size)
	inserts, moves := make([]time.Duration, size), make([]time.Duration, size)
	for round := range rounds {
		r := rand.New(rand.NewPCG(7, 8))
		nodes := NewNodes(memory.New())
		tree := New(nodes, names)
		all := make([]Entry, size)
		for i := range all {
			all[i] = Entry{Score: r.Float64(), Member: Ref(i)}
			start := time.Now()
			tree.Insert(all[i])
			if took := time.Since(start); round == 0 || took < inserts[i] {
				inserts[i] = took
			}
		}
		for i := range all {
			score := r.Float64()
			start := time.Now()
			tree.Move(all[i], score, 0)
			if took := time.Since(start); round == 0 || took < moves[i] {
				moves[i] = took
			}
		}
		nodes.Close()
	}
	b.ReportMetric(float64(slices.Max(inserts).Nanoseconds()), "ns-insert")
	b.ReportMetric(float64(slices.Max(moves).Nanoseconds()), "ns-move")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkNaive is the sorted slice that the tree has to beat.
func BenchmarkNaive(b *testing.B) {
	for _, size := range []int{1_000, 100_000} {
		r := rand.New(rand.NewPCG(7, 8))
		var model naive
		for i := range size {
			model = append(model, item{Score: r.Float64(), Member: fmt.Sprintf("member%010d", i)})
		}
		slices.SortFunc(model, compareItems)
		b.Run(fmt.Sprintf("%d/delete and insert", size), func(b *testing.B) {
			for i := range b.N {
				e := model[i*7919%size]
				model.delete(e)
				e.Score = r.Float64()
				model.insert(e)
			}
		})
	}
}
