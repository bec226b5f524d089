package engine

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// naiveHash is what a hash ought to be: fields in a slice, looked at one by one.
type naiveHash [][2]string

func (n naiveHash) find(field string) int {
	return slices.IndexFunc(n, func(e [2]string) bool { return e[0] == field })
}

// TestModelHash compares a hash, small and large, with the naive one, and takes a whole history of changes
// back at the end.
func TestModelHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, model := &hashValue{}, naiveHash{}
		fields := rapid.SampledFrom([]int{3, smallHash + 3, 3 * smallHash}).Draw(t, "fields")
		for range rapid.SampledFrom([]int{0, smallHash, 2 * smallHash}).Draw(t, "full") {
			field := strconv.Itoa(len(model))
			h.set(nil, []byte(field), nil)
			model = append(model, [2]string{field, ""})
		}
		start, began := h.encode(nil), h.bytes()
		j := &journal{}
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			field := strconv.Itoa(rapid.IntRange(0, fields).Draw(t, "field"))
			at := model.find(field)
			if rapid.Bool().Draw(t, "set") {
				value := rapid.StringN(0, 3, 5).Draw(t, "value")
				if added := h.set(j, []byte(field), []byte(value)); added != (at < 0) {
					t.Fatalf("set %q: added %v", field, added)
				}
				if at < 0 {
					model = append(model, [2]string{field, value})
				} else {
					model[at][1] = value
				}
			} else {
				large := h.index != nil
				if removed := h.remove(j, []byte(field)); removed != (at >= 0) {
					t.Fatalf("remove %q: %v", field, removed)
				}
				if at >= 0 && large {
					model[at] = model[len(model)-1]
					model = model[:len(model)-1]
				} else if at >= 0 {
					model = slices.Delete(model, at, at+1)
				}
			}
			if err := h.check(); err != nil {
				t.Fatal(err)
			}
			if len(h.entries) != len(model) {
				t.Fatalf("%d fields, want %d", len(h.entries), len(model))
			}
			for i, e := range model {
				if h.entries[i] != (hashEntry{e[0], e[1]}) {
					t.Fatalf("field %d is %v, want %v", i, h.entries[i], e)
				}
			}
		}
		twin := h.clone().(*hashValue)
		if err := twin.check(); err != nil {
			t.Fatal("clone: ", err)
		}
		before := string(twin.encode(nil))
		for i := len(j.inverse) - 1; i >= 0; i-- {
			j.inverse[i]()
		}
		if err := h.check(); err != nil {
			t.Fatal("undone: ", err)
		}
		if string(h.encode(nil)) != string(start) || h.bytes() != began {
			t.Fatal("undone, the hash is not what it was")
		}
		if string(twin.encode(nil)) != before {
			t.Fatal("a clone changed with its original")
		}
	})
}

// TestHscanVisitsWhatStays lets fields come and go between the steps of a scan.
func TestHscanVisitsWhatStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		var staying []string
		for i := range rapid.IntRange(1, 3*smallHash).Draw(t, "staying") {
			staying = append(staying, fmt.Sprint("s", i))
			w.do("HSET", "h", staying[i], "")
		}
		seen, guests := map[string]bool{}, 0
		for cursor := "0"; ; {
			task := w.task([]string{"HSCAN", "h", cursor, "NOVALUES", "COUNT", strconv.Itoa(rapid.IntRange(1, 50).Draw(t, "count"))})
			w.p.Query(w.now, 1, task)
			c := task.Reply.(*Recording).Cursor()
			c.Next()
			cursor = string(c.Next().Bytes)
			for range c.Next().Int {
				seen[string(c.Next().Bytes)] = true
			}
			if cursor == "0" {
				break
			}
			for range rapid.IntRange(0, 30).Draw(t, "changes") {
				if guests == 0 || rapid.Bool().Draw(t, "add") {
					w.do("HSET", "h", fmt.Sprint("g", guests), "")
					guests++
				} else {
					w.do("HDEL", "h", fmt.Sprint("g", rapid.IntRange(0, guests-1).Draw(t, "guest")))
				}
			}
		}
		for _, field := range staying {
			if !seen[field] {
				t.Fatalf("%s was never visited", field)
			}
		}
	})
}

func TestHrandfieldDrawsFairly(t *testing.T) {
	w := newWorld(t)
	for i := range 10 {
		w.do("HSET", "h", strconv.Itoa(i), "")
	}
	drawn := map[string]int{}
	for range 2000 {
		task := w.task([]string{"HRANDFIELD", "h", "3"})
		w.seed++
		w.p.Query(w.now, w.seed, task)
		c := task.Reply.(*Recording).Cursor()
		once := map[string]bool{}
		for range c.Next().Int {
			field := string(c.Next().Bytes)
			if once[field] {
				t.Fatalf("%s was drawn twice", field)
			}
			once[field] = true
			drawn[field]++
		}
	}
	for field, times := range drawn { // 600 each; the deviation is about 20
		if times < 500 || times > 700 {
			t.Errorf("%s was drawn %d times of 2000", field, times)
		}
	}
}
