package engine

import (
	"fmt"
	"testing"
)

// BenchmarkRestoreParts puts a cut of small strings into an empty cache, part by part, as a restoration does; a pass is a key.
func BenchmarkRestoreParts(b *testing.B) {
	const keys = 200_000
	from := New(Seed{1, 2})
	id := CacheID{1}
	from.Apply(&Entry{Now: 1, Tasks: []*Task{ConfigureTask(id, Settings{})}})
	set := MustLookup("SET")
	for i := range keys {
		from.Apply(&Entry{Now: 1, Tasks: []*Task{{Cache: id, Calls: []Call{{Command: set, Args: [][]byte{[]byte("SET"), fmt.Appendf(nil, "key:%012d", i), fmt.Appendf(nil, "%064d", i)}}}}}})
	}
	cut, ok := from.CutCache(id, CutOptions{NoOnce: true, NoFlush: true})
	if !ok {
		b.Fatal("no cut")
	}
	var parts []*CutPart
	split := &CutSplitter{All: 1, To: func(int, []byte) int { return 0 }, Emit: func(p *CutPart) error { parts = append(parts, p); return nil }}
	var buf []byte
	for more := true; more; {
		buf, more = cut.Read(buf[:0], 64<<10)
		if _, err := split.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	if err := split.Done(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += keys {
		to := New(Seed{3, 4})
		to.Apply(&Entry{Now: 1, Tasks: []*Task{ConfigureTask(id, Settings{})}})
		for _, p := range parts {
			to.Apply(&Entry{Now: 1, Tasks: []*Task{RestoreTask(id, p)}})
			to.Maintain(stepsPerEntry)
		}
		if to.caches[id].dbs[0].table.Len() != keys {
			b.Fatal("not all is there")
		}
		b.StopTimer()
		to.Close()
		b.StartTimer()
	}
}
