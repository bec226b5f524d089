package mirror

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"pgregory.net/rapid"
)

// offline returns a mirror that follows nothing; its test plays etcd.
func offline() *Mirror {
	m := &Mirror{edit: newTree(), wake: make(chan struct{}), dirty: make(chan struct{}, 1)}
	m.view.Store(&view{cluster: 1, revision: 1, records: newTree()})
	return m
}

// check returns the first thing that is wrong with v by itself.
func (v *view) check() error {
	var err error
	last, n := "", 0
	v.records.Ascend(func(r *Record) bool {
		switch {
		case n > 0 && r.Key <= last:
			err = fmt.Errorf("M1: %q does not lie behind %q", r.Key, last)
		case r.CreateRevision > r.ModRevision || r.ModRevision > v.revision:
			err = fmt.Errorf("M1: %q has revisions %d and %d at %d", r.Key, r.CreateRevision, r.ModRevision, v.revision)
		}
		last = r.Key
		n++
		return err == nil
	})
	if err == nil && n != v.records.Len() {
		err = fmt.Errorf("%d records are there, %d are counted", n, v.records.Len())
	}
	return err
}

// A model is the prefix as a plain map.
type model struct {
	revision int64
	records  map[string]Record
}

// list is Mirror.List by a way that needs no thought.
func (m *model) list(prefix, after string, limit int) []Record {
	var out []Record
	for _, k := range slices.Sorted(maps.Keys(m.records)) {
		if strings.HasPrefix(k, prefix) && (after == "" || k > after) && (limit <= 0 || len(out) < limit) {
			out = append(out, m.records[k])
		}
	}
	return out
}

// step draws a transaction: puts and deletes of different keys at the next revision.
func (m *model) step(t *rapid.T) []*mvccpb.Event {
	m.revision += rapid.Int64Range(1, 3).Draw(t, "revisions") // some belong to keys outside of the prefix
	var events []*mvccpb.Event
	for _, key := range rapid.SliceOfNDistinct(keys, 1, 4, rapid.ID).Draw(t, "keys") {
		old, had := m.records[key]
		if had && rapid.Bool().Draw(t, "delete") {
			delete(m.records, key)
			events = append(events, &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: m.revision}})
			continue
		}
		r := Record{
			Key:            key,
			Value:          rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "value"),
			CreateRevision: m.revision,
			ModRevision:    m.revision,
			Leased:         rapid.Bool().Draw(t, "leased"),
		}
		if had {
			r.CreateRevision = old.CreateRevision
		}
		m.records[key] = r
		kv := &mvccpb.KeyValue{Key: []byte(key), Value: r.Value, CreateRevision: r.CreateRevision, ModRevision: r.ModRevision}
		if r.Leased {
			kv.Lease = 7
		}
		events = append(events, &mvccpb.Event{Kv: kv})
	}
	return events
}

var keys = rapid.StringMatching(`[ab]/[ab/]{0,3}`)

func same(a, b []Record) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// Whatever etcd sends, the mirror, every watcher and every view that somebody still holds say what a plain
// map says.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, want := offline(), &model{revision: 1, records: map[string]Record{}}
		told := map[string]Record{} // what a watcher of "a/" makes of its changes
		m.OnChange("a/", true, func(c Change) {
			if !strings.HasPrefix(c.Key, "a/") {
				t.Fatalf("told of %q", c.Key)
			}
			if c.Old == nil && c.New == nil || c.Old != nil && c.New != nil && c.Old.ModRevision >= c.New.ModRevision {
				t.Fatalf("told of no change: %v, %v", c.Old, c.New)
			}
			if old, had := told[c.Key]; had != (c.Old != nil) || had && !same([]Record{old}, []Record{*c.Old}) {
				t.Fatalf("%q was %v, told %v", c.Key, old, c.Old)
			}
			if c.New != nil {
				told[c.Key] = *c.New
			} else {
				delete(told, c.Key)
			}
		})
		type held struct {
			view *view
			want []Record
		}
		var earlier []held
		var last []*mvccpb.Event
		for range rapid.IntRange(1, 40).Draw(t, "rounds") {
			earlier = append(earlier, held{m.view.Load(), want.list("", "", 0)})
			events := last // a watch that begins at a known revision hears of it again
			if !rapid.Bool().Draw(t, "again") {
				events = nil
			}
			for range rapid.IntRange(1, 3).Draw(t, "steps in one message") {
				last = want.step(t)
				events = append(slices.Clip(events), last...)
			}
			m.apply(events)

			if err := m.view.Load().check(); err != nil {
				t.Fatal(err)
			}
			if m.Revision() != want.revision || m.seen != want.revision {
				t.Fatalf("at %d, want %d", m.Revision(), want.revision)
			}
			key := keys.Draw(t, "get")
			got, is := m.Get(key)
			if r, has := want.records[key]; is != has || !same([]Record{got}, []Record{r}) {
				t.Fatalf("%q is %v, want %v", key, got, r)
			}
			prefix := rapid.SampledFrom([]string{"", "a", "a/", "b/b", "c"}).Draw(t, "prefix")
			after := rapid.OneOf(rapid.Just(""), keys).Draw(t, "after")
			limit := rapid.IntRange(-1, 4).Draw(t, "limit")
			if got, want := m.List(prefix, after, limit), want.list(prefix, after, limit); !same(got, want) {
				t.Fatalf("List(%q, %q, %d) is %v, want %v", prefix, after, limit, got, want)
			}
			if got, want := (&model{records: told}).list("", "", 0), want.list("a/", "", 0); !same(got, want) {
				t.Fatalf("the watcher has %v, want %v", got, want)
			}
		}
		for _, h := range earlier {
			if got := h.view.list("", "", 0); !same(got, h.want) {
				t.Fatalf("a view of revision %d has become %v, was %v", h.view.revision, got, h.want)
			}
		}
	})
}

// A listing of the same history gives changes that lead from the old records to the new ones, in the promised
// order; one of a history that went another way after some revision is refused or, where all we knew
// of the difference is contained in it, accepted.
func TestCompareModel(t *testing.T) {
	treeOf := func(m *model) *tree {
		tr := newTree()
		for _, r := range m.records {
			tr.ReplaceOrInsert(&r)
		}
		return tr
	}
	grow := func(t *rapid.T, m *model, label string, atLeast int) *model {
		m = &model{m.revision, maps.Clone(m.records)}
		for range rapid.IntRange(atLeast, 5).Draw(t, label) {
			m.step(t)
		}
		return m
	}
	rapid.Check(t, func(t *rapid.T) {
		backup := grow(t, &model{1, map[string]Record{}}, "before the backup", 0)
		old := grow(t, backup, "known", 1)
		next := grow(t, old, "missed", 0)
		changes, newest, err := compare(&view{1, old.revision, treeOf(old)}, treeOf(next), next.revision)
		if err != nil {
			t.Fatal(err)
		}
		got := maps.Clone(old.records)
		puts := false
		last := Change{Key: ""}
		for _, c := range changes {
			was, had := got[c.Key]
			if had != (c.Old != nil) || had && !same([]Record{was}, []Record{*c.Old}) {
				t.Fatalf("%q was %v, told %v", c.Key, was, c.Old)
			}
			switch {
			case c.New == nil && (puts || c.Key <= last.Key):
				t.Fatalf("the end of %q is out of order", c.Key)
			case c.New == nil:
				delete(got, c.Key)
			case puts && c.New.ModRevision < last.New.ModRevision:
				t.Fatalf("the change of %q is out of order", c.Key)
			default:
				got[c.Key] = *c.New
				puts = true
			}
			last = c
		}
		if !maps.EqualFunc(got, next.records, func(a, b Record) bool { return same([]Record{a}, []Record{b}) }) {
			t.Fatalf("the changes lead to %v, want %v", got, next.records)
		}
		for _, r := range next.records {
			if r.ModRevision > newest.revision {
				t.Fatalf("%q changed at %d, behind the newest %v", r.Key, r.ModRevision, newest)
			}
		}

		other := grow(t, backup, "another way", 0)
		other.revision = max(other.revision, old.revision)
		_, _, err = compare(&view{1, old.revision, treeOf(old)}, treeOf(other), other.revision)
		contradiction := false
		for k, r := range other.records {
			was, had := old.records[k]
			contradiction = contradiction || r.ModRevision <= old.revision && (!had || was.ModRevision != r.ModRevision || string(was.Value) != string(r.Value))
		}
		if (err != nil) != contradiction {
			t.Fatalf("contradiction is %v, error is %v", contradiction, err)
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := offline()
			revision := int64(1)
			put := func(i int) {
				revision++
				m.apply([]*mvccpb.Event{{Kv: &mvccpb.KeyValue{Key: fmt.Appendf(nil, "%08d", i), CreateRevision: revision, ModRevision: revision}}})
			}
			for i := range n {
				put(i)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				put(i * 7919 % n)
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	m := offline()
	for i := range int64(100_000) {
		m.apply([]*mvccpb.Event{{Kv: &mvccpb.KeyValue{Key: fmt.Appendf(nil, "%08d", i), CreateRevision: i + 2, ModRevision: i + 2}}})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := m.Get("00054321"); !ok {
			b.Fatal("absent")
		}
	}
}
