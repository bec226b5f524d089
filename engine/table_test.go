package engine

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestModelTable drives a table up and down through its resizes and asks for every item after every step.
func TestModelTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, model := newTable(Seed{3, 4}), map[string]*item{}
		goal := 0
		for range rapid.IntRange(1, 600).Draw(t, "steps") {
			if len(model) == goal {
				goal = rapid.IntRange(0, 300).Draw(t, "goal")
			}
			if len(model) < goal {
				it := &item{key: rapid.StringN(1, 4, 8).Draw(t, "key")}
				if model[it.key] == nil {
					model[it.key] = it
					table.insert(it)
				}
			} else if it := table.pick(rapid.Uint64().Draw(t, "victim")); it != nil {
				delete(model, it.key)
				table.remove(it)
			}
			if table.len() != len(model) {
				t.Fatalf("T3: %d items, want %d", table.len(), len(model))
			}
			if n := len(table.cur) + len(table.old); n > 32*len(model)+4*minBuckets {
				t.Fatalf("T4: %d items in %d buckets", len(model), n)
			}
			for key, it := range model {
				if table.find([]byte(key)) != it {
					t.Fatalf("T1: %q is lost", key)
				}
			}
			seen := 0
			table.each(func(it *item) bool {
				seen++
				return model[it.key] == it
			})
			if seen != len(model) {
				t.Fatalf("each visited %d of %d items", seen, len(model))
			}
		}
	})
}

// TestScanVisitsEveryStayingItemExactlyOnce lets a table grow and shrink by a lot between a scan's steps.
func TestScanVisitsEveryStayingItemExactlyOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := newTable(Seed{rapid.Uint64().Draw(t, "seed"), 5})
		named := func(n int) *item { return &item{key: string(binary.BigEndian.AppendUint32(nil, uint32(n)))} }
		var guests []*item
		staying := map[*item]int{}
		for i := range rapid.IntRange(0, 60).Draw(t, "staying") {
			it := named(i)
			staying[it] = 0
			table.insert(it)
		}
		next := 1 << 20
		var last uint64
		for cursor := uint64(0); ; {
			cursor = table.scan(cursor, func(it *item) {
				if p := it.position(); p < last {
					t.Fatalf("went back from position %x to %x", last, p)
				} else {
					last = p
				}
				if _, ok := staying[it]; ok {
					staying[it]++
				}
			})
			if cursor == 0 {
				break
			}
			for goal := rapid.IntRange(0, 800).Draw(t, "guests"); len(guests) != goal; {
				if len(guests) < goal {
					it := named(next)
					next++
					guests = append(guests, it)
					table.insert(it)
					continue
				}
				table.remove(guests[len(guests)-1])
				guests = guests[:len(guests)-1]
			}
		}
		for it, times := range staying {
			if times != 1 {
				t.Fatalf("%x at position %x was visited %d times", it.key, it.position(), times)
			}
		}
	})
}

// TestScanOrderIsNoMatterOfTheSize: two tables with the same items and different pasts scan alike.
func TestScanOrderIsNoMatterOfTheSize(t *testing.T) {
	a, b := newTable(Seed{7, 8}), newTable(Seed{7, 8})
	var guests []*item
	for i := range 5000 {
		it := &item{key: string(binary.BigEndian.AppendUint32(nil, uint32(1<<16+i)))}
		guests = append(guests, it)
		b.insert(it)
	}
	for i := range 700 {
		key := string(binary.BigEndian.AppendUint32(nil, uint32(i)))
		a.insert(&item{key: key})
		b.insert(&item{key: key})
	}
	for _, it := range guests {
		b.remove(it)
	}
	if len(a.cur) == len(b.cur) && (a.old == nil) == (b.old == nil) {
		t.Fatal("the tables are laid out alike, the test shows nothing")
	}
	order := func(t *table) (keys []string) {
		for cursor := uint64(0); ; {
			if cursor = t.scan(cursor, func(it *item) { keys = append(keys, it.key) }); cursor == 0 {
				return keys
			}
		}
	}
	if !slices.Equal(order(&a), order(&b)) {
		t.Error("the order of a scan depends on the table's past")
	}
}

// TestScanTakesAnyCursor: cursors come from clients.
func TestScanTakesAnyCursor(t *testing.T) {
	table := newTable(Seed{1, 2})
	for i := range 100 {
		table.insert(&item{key: string(rune('a' + i))})
	}
	for shift := range 64 {
		for _, cursor := range []uint64{1 << shift, 1<<shift - 1, bits.Reverse64(1 << shift), ^uint64(0) >> shift} {
			steps := 0
			for c := cursor; ; steps++ {
				next := table.scan(c, func(*item) {})
				if next == 0 {
					break
				}
				if next <= c || steps > 1000 {
					t.Fatalf("cursor %d leads to %d", c, next)
				}
				c = next
			}
		}
	}
}
