package ordered

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
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
	all := make([]Entry, size)
	for i := range all {
		all[i] = Entry{Score: score(r), Member: fmt.Sprintf("member%010d", i)}
	}
	tree := New()
	b.Run("insert", func(b *testing.B) {
		b.ReportAllocs()
		tree = New()
		for i := range b.N {
			if i%size == 0 && i > 0 {
				tree = New()
			}
			tree.Insert(all[i%size])
		}
	})
	tree = New()
	for _, e := range all {
		tree.Insert(e)
	}
	grown := float64(tree.Bytes()) / float64(size)

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
	run("rank", func(e Entry, _ int) { tree.Rank(e) })
	run("desc rank", func(e Entry, _ int) { tree.DescRank(e) })
	run("dense rank", func(e Entry, _ int) { tree.DenseRank(e.Score) })
	run("at", func(_ Entry, i int) { tree.At(i * 7919 % size) })
	run("page of 20", func(_ Entry, i int) { tree.DescPage(i*7919%size, 20, func(Entry) bool { return true }) })
	run("page of 20 by cursor", func(_ Entry, i int) {
		c := tree.Seek(i * 7919 % size)
		for k := 0; k < 20 && c.Valid(); k++ {
			_ = c.Entry()
			c.Next()
		}
	})
	fresh := make([]float64, len(pick))
	for i := range fresh {
		fresh[i] = score(r)
	}
	b.Run("delete and insert", func(b *testing.B) { // what a new score for a member costs
		b.ReportAllocs()
		for i := range b.N {
			e := &all[i*7919%size]
			tree.Delete(*e)
			e.Score = fresh[i%len(fresh)]
			tree.Insert(*e)
		}
		b.ReportMetric(float64(tree.Bytes())/float64(size), "B/entry")
		b.ReportMetric(grown, "B/entry-grown")
	})
	b.Run("gc", func(b *testing.B) {
		for range b.N {
			runtime.GC()
		}
	})
	sorted := slices.SortedFunc(slices.Values(all), compare)
	b.Run("build", func(b *testing.B) {
		for range b.N {
			tree, _ = Build(slices.Values(sorted))
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/entry")
		b.ReportMetric(float64(tree.Bytes())/float64(size), "B/entry")
	})
	b.Run("delete range of a tenth", func(b *testing.B) {
		for range b.N {
			if tree.Len() < size/2 {
				b.StopTimer()
				tree, _ = Build(slices.Values(sorted))
				b.StartTimer()
			}
			tree.DeleteRange(size/5, size/5+size/10)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size/10), "ns/entry")
	})
	runtime.KeepAlive(tree)
}

// BenchmarkNaive is the sorted slice that the tree has to beat.
func BenchmarkNaive(b *testing.B) {
	for _, size := range []int{1_000, 100_000} {
		r := rand.New(rand.NewPCG(7, 8))
		var model naive
		for i := range size {
			model = append(model, Entry{Score: r.Float64(), Member: fmt.Sprintf("member%010d", i)})
		}
		slices.SortFunc(model, compare)
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
