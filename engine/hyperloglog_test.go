package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// elements returns PFADD of so many elements e0, e1, …
func elements(key string, n int) []string {
	args := []string{"PFADD", key}
	for i := range n {
		args = append(args, "e"+strconv.Itoa(i))
	}
	return args
}

// TestSketchesHaveRedisBytes: digests of what redis-server 7.0.15 holds after the same commands, and its estimates.
func TestSketchesHaveRedisBytes(t *testing.T) {
	for _, c := range []struct {
		elements, size int
		digest, count  string
	}{
		{0, 18, "a548e8daa487445a", "0"},
		{1, 21, "b0e9338b711c718f", "1"},
		{10, 48, "5e1f7c888c80593c", "10"},
		{500, 1068, "fdd072e10d5463ce", "506"},
		{1200, 2235, "9108f72e242f7b6a", "1207"},
		{3000, 12304, "641370c2fb88649b", "2979"},
		{20000, 12304, "f491acb3b4a2b530", "19901"},
	} {
		w := newWorld(t)
		w.do(elements("k", c.elements)...)
		data := unquote(w.do("GET", "k"))
		digest := sha256.Sum256([]byte(data))
		if got := hex.EncodeToString(digest[:8]); len(data) != c.size || got != c.digest {
			t.Errorf("%d elements: %d bytes with digest %s, Redis has %d with %s", c.elements, len(data), got, c.size, c.digest)
		}
		if got := w.do("PFCOUNT", "k"); got != c.count {
			t.Errorf("%d elements are estimated as %s, Redis has %s", c.elements, got, c.count)
		}
	}
}

// TestEstimatesAreClose: six standard errors are as good as never exceeded.
func TestEstimatesAreClose(t *testing.T) {
	w := newWorld(t)
	for n := 1; n <= 100_000; n *= 10 {
		w.do("DEL", "k")
		for from := 0; from < n; from += 1000 {
			args := []string{"PFADD", "k"}
			for i := from; i < min(n, from+1000); i++ {
				args = append(args, strconv.Itoa(i))
			}
			w.do(args...)
		}
		got, _ := strconv.ParseFloat(w.do("PFCOUNT", "k"), 64)
		if off := math.Abs(got - float64(n)); off > 6*0.0081*float64(n)+1 {
			t.Errorf("%d elements are estimated as %v", n, got)
		}
	}
}

// A sketchTwin knows each key's registers and nothing of encodings; nil for a key that is not there.
type sketchTwin map[string]map[int]byte

func (t sketchTwin) do(args []string) string {
	key := args[1]
	old := t[key]
	now := map[int]byte{}
	maps.Copy(now, old)
	switch args[0] {
	case "PFADD":
		for _, e := range args[2:] {
			i, v := hashed([]byte(e))
			now[i] = max(now[i], v)
		}
		t[key] = now
		return flagOf(old == nil || !maps.Equal(old, now))
	case "PFMERGE":
		for _, source := range args[2:] {
			for i, v := range t[source] {
				now[i] = max(now[i], v)
			}
		}
		t[key] = now
		return "OK"
	case "COPY":
		if old == nil {
			return "0"
		}
		t[args[2]] = now
		return "1"
	}
	delete(t, key)
	return flagOf(old != nil)
}

func TestModelHyperLogLogs(t *testing.T) {
	keys := []string{"a", "b", "c"}
	draw := func(t *rapid.T) []string {
		key := from(t, "key", keys...)
		switch from(t, "command", "PFADD", "PFADD", "PFADD", "PFADD", "PFMERGE", "COPY", "DEL") {
		case "PFADD":
			args := []string{"PFADD", key}
			first := rapid.IntRange(0, 5000).Draw(t, "first")
			for i := range pickOne(t, 0, 1, 2, 5, 50, 700) {
				args = append(args, strconv.Itoa(first+i))
			}
			return args
		case "PFMERGE":
			return line("PFMERGE %s %s %s", key, from(t, "source", keys...), from(t, "another", "", "a", "b", "c"))
		case "COPY":
			return line("COPY %s %s REPLACE", key, from(t, "to", slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return k == key })...))
		}
		return line("DEL %s", key)
	}
	rapid.Check(t, func(t *rapid.T) {
		twin := sketchTwin{}
		save := func() func() {
			before := maps.Clone(twin) // the registers themselves are never changed
			return func() { clear(twin); maps.Copy(twin, before) }
		}
		twinRun(t, draw, save, func(args []string) string { return twin.do(args) }, func(w *world) {
			for _, key := range keys {
				it := w.p.caches[testCache].dbs[0].find([]byte(key))
				if (it != nil) != (twin[key] != nil) {
					t.Fatalf("%s: there is %v, want %v", key, it, twin[key])
				}
				if it == nil {
					continue
				}
				h, got := sketch(it.value.(*stringValue).data), map[int]byte{}
				if err := h.check(); err != nil {
					t.Fatal(err)
				}
				if h.each(func(i int, v byte) { got[i] = v }); !maps.Equal(got, twin[key]) {
					t.Fatalf("%s has %d registers, want %d", key, len(got), len(twin[key]))
				}
				if n, ok := h.cached(); ok {
					t.Fatalf("%s has a cached cardinality of %d, which nobody worked out", key, n)
				}
				if !h.dense() && len(h) > sparseMost {
					t.Fatalf("%s is sparse and has %d bytes", key, len(h))
				}
				counts, dense := h.histogram(), h.toDense().histogram()
				if counts != dense {
					t.Fatalf("%s counts otherwise when dense", key)
				}
			}
		})
	})
}

func pickOne(t *rapid.T, list ...int) int { return rapid.SampledFrom(list).Draw(t, "n") }

// FuzzSketch: any string is a sketch or an error, and what a command makes of a sketch is one again.
func FuzzSketch(f *testing.F) {
	f.Add([]byte("HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff"), "x")
	f.Add([]byte("HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x84\x00\x7f\xf0\x3f"), "x")
	f.Add([]byte("HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f"), "")
	f.Add([]byte("HYLL\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80"+strings.Repeat("\xff", registers*6/8)), "x")
	f.Add([]byte("HYLL\x02"+strings.Repeat("\x00", 20)), "x")
	f.Fuzz(func(t *testing.T, data []byte, element string) {
		w := newWorld(t)
		w.do("SET", "k", string(data))
		for _, command := range [][]string{{"PFCOUNT", "k"}, {"PFADD", "k"}, {"PFCOUNT", "k", "other"}, {"PFADD", "k", element, element + "2"}, {"PFMERGE", "m", "k"}, {"PFMERGE", "k"}, {"PFCOUNT", "k"}} {
			before := w.p.Digest()
			got := w.do(command...)
			failed := strings.HasPrefix(got, "(error)")
			if failed && got != "(error) INVALIDOBJ Corrupted HLL object detected" && got != "(error) WRONGTYPE Key is not a valid HyperLogLog string value." {
				t.Fatalf("%q: %s", command, got)
			}
			if failed && w.p.Digest() != before {
				t.Fatalf("%q failed and changed something", command)
			}
			if failed || command[0] == "PFCOUNT" || len(command) == 2 {
				continue
			}
			if err := sketch(unquote(w.do("GET", command[1]))).check(); err != nil {
				t.Fatalf("%q left %v", command, err)
			}
		}
	})
}
