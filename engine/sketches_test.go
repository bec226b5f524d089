package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A step is a command, its arguments between spaces, with its answer.
type step struct{ command, want string }

// plain is do with doubles written as other numbers are.
func (w *world) plain(args ...string) string {
	w.t.Helper()
	return strings.ReplaceAll(strings.ReplaceAll(w.do(args...), "(double) ", ""), "NaN", "nan")
}

// play runs commands in order.
func (w *world) play(t *testing.T, steps []step) {
	t.Helper()
	for _, s := range steps {
		if got := w.plain(strings.Fields(s.command)...); got != s.want {
			t.Errorf("%s: %s, want %s", s.command, got, s.want)
		}
	}
}

// numbered returns a command with the numbers from i up to n-1 as its last arguments.
func numbered(command string, i, n int) []string {
	args := strings.Fields(command)
	for ; i < n; i++ {
		args = append(args, strconv.Itoa(i))
	}
	return args
}

func TestSketchesHaveTypes(t *testing.T) {
	w := newWorld(t)
	for _, s := range []struct{ make, kind string }{
		{"BF.ADD k x", "MBbloom--"}, {"CF.ADD k x", "MBbloomCF"}, {"CMS.INITBYDIM k 10 2", "CMSk-TYPE"}, {"TOPK.RESERVE k 3", "TopK-TYPE"}, {"TDIGEST.CREATE k", "TDIS-TYPE"},
	} {
		w.do(strings.Fields(s.make)...)
		if got := w.do("TYPE", "k"); got != s.kind {
			t.Errorf("%s: type %s, want %s", s.make, got, s.kind)
		}
		if got := w.do("OBJECT", "ENCODING", "k"); got != `"raw"` {
			t.Errorf("%s: encoding %s", s.make, got)
		}
		if got := w.do("GET", "k"); !strings.Contains(got, "WRONGTYPE") && !strings.Contains(got, "wrong kind") {
			t.Errorf("%s: GET answers %s", s.make, got)
		}
		for _, other := range []string{"BF.ADD k x", "CF.ADD k x", "CMS.QUERY k x", "TOPK.ADD k x", "TDIGEST.ADD k 1"} {
			wrong := strings.Contains(w.do(strings.Fields(other)...), "wrong kind")
			if same := strings.HasPrefix(other, strings.Fields(s.make)[0][:3]); wrong == same {
				t.Errorf("%s, then %s: wrong type is %t", s.make, other, wrong)
			}
		}
		w.do("DEL", "k")
	}
}

// TestLargeSketches: a filter of 100 MB is made and changed without a look at its bytes, costs what it takes and not 5 % more,
// and an undo of a change puts back the bytes that it changed.
func TestLargeSketches(t *testing.T) {
	w := newWorld(t)
	w.configure(Settings{MaxValue: HardMaxValue})
	began := time.Now()
	if got := w.do("BF.RESERVE", "k", "0.01", "75000000"); got != "OK" {
		t.Fatal(got)
	}
	size := int64(75_000_000 * -math.Log(0.005) / math.Ln2 / math.Ln2 / 8)
	if used := w.p.caches[testCache].used; used < size || used > size*105/100 {
		t.Errorf("%d bytes are accounted for a filter of %d", used, size)
	}
	for i := range 200 {
		w.do("BF.ADD", "k", strconv.Itoa(i))
		if i%100 == 0 {
			task := w.task([]string{"BF.ADD", "k", "undone" + strconv.Itoa(i)}, []string{"GET"})
			task.Atomic = true
			w.apply(task)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if got := w.do("BF.MEXISTS", "k", "1", "199", "undone0", "undone100"); got != "[true true false false]" {
		t.Error(got)
	}
	if got := w.do("BF.CARD", "k"); got != "200" {
		t.Error(got)
	}
	e := w.task([]string{"BF.ADD", "k", "1"})
	if n := testing.AllocsPerRun(100, func() { w.p.Apply(&Entry{Now: w.now, Seed: 1, Tasks: []*Task{e}}) }); n > 4 {
		t.Errorf("an addition makes %g allocations", n)
	}
}

func TestSketchLimits(t *testing.T) {
	w := newWorld(t)
	w.configure(Settings{MaxValue: 1000})
	w.play(t, []step{
		{"BF.RESERVE k 0.01 1000", "(error) ERR Insufficient memory to create filter: with this capacity it takes 1458 bytes. Limit: 1000 bytes (max value size)"},
		{"BF.RESERVE k 0.01 100", "OK"},
		{"CMS.INITBYDIM c 1000 1", "(error) CMS: Insufficient memory to create the key: with this width it takes 4032 bytes. Limit: 1000 bytes (max value size)"},
		{"CMS.INITBYDIM c 9223372036854775807 1000", "(error) CMS: Insufficient memory to create the key: with this width it takes more bytes than can be counted. Limit: 1000 bytes (max value size)"},
		{"CF.RESERVE f 1024", "(error) ERR Insufficient memory to create filter: with this capacity it takes 1056 bytes. Limit: 1000 bytes (max value size)"},
		{"TOPK.RESERVE t 3 100 2 0.9", "(error) ERR Insufficient memory to create topk data structure: with this width it takes 1680 bytes. Limit: 1000 bytes (max value size)"},
		{"TDIGEST.CREATE d", "(error) ERR T-Digest: allocation failed: with this compression it takes 9816 bytes. Limit: 1000 bytes (max value size)"},
	})
	got := w.do(numbered("BF.MADD k", 0, 2000)...)
	if !strings.HasSuffix(got, "(error) ERR problem inserting into filter: to grow it takes 1332 bytes. Limit: 1000 bytes (max value size)]") {
		t.Error(got[max(0, len(got)-200):])
	}
	w.configure(Settings{MemoryLimit: 5000})
	w.play(t, []step{
		{"BF.RESERVE big 0.01 10000", "(error) ERR Insufficient memory to create filter: with this capacity it takes 13866 bytes. Limit: 5000 bytes (memory limit)"},
		{"BF.RESERVE mid 0.01 3200", "(error) OOM command not allowed when used memory > 'maxmemory'."},
	})
	w.configure(Settings{MemoryLimit: 5000, Eviction: AllKeysLRU})
	task := w.task(strings.Fields("BF.RESERVE mid 0.01 3200"))
	if relief := w.p.Relieve(w.now, 1, task); relief == nil {
		t.Error("nothing goes for a filter that there is room for")
	} else {
		w.apply(relief, task)
	}
	if got := show(task.Reply.(*Recording)); got != "OK" {
		t.Error(got)
	}
}

func TestBloomAnswers(t *testing.T) {
	w := newWorld(t)
	w.do("SET", "s", "x")
	w.play(t, []step{
		{"BF.ADD k a", "true"}, {"BF.ADD k a", "false"}, {"BF.EXISTS k a", "true"}, {"BF.EXISTS k b", "false"}, {"BF.CARD k", "1"},
		{"BF.MADD k a b c", "[false true true]"}, {"BF.MEXISTS k a z c", "[true false true]"}, {"BF.MEXISTS none a z", "[false false]"}, {"BF.EXISTS none a", "false"},
		{"BF.CARD none", "0"}, {"BF.CARD s", "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
		{"BF.INFO k", "{Capacity 100 Size 240 Number of filters 1 Number of items inserted 3 Expansion rate 2}"},
		{"BF.INFO k capacity", "[100]"}, {"BF.INFO k SIZE", "[240]"}, {"BF.INFO k filters", "[1]"}, {"BF.INFO k items", "[3]"}, {"BF.INFO k expansion", "[2]"},
		{"BF.INFO k other", "(error) Invalid information value"}, {"BF.INFO none", "(error) ERR not found"}, {"BF.INFO k items size", "(error) ERR wrong number of arguments for 'bf.info' command"},
		{"BF.RESERVE r 0.001 100", "OK"}, {"BF.INFO r size", "[296]"}, {"BF.RESERVE r 0.001 100", "(error) ERR item exists"},
		{"BF.RESERVE s 0.001 100", "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
		{"BF.RESERVE x blah 100", "(error) ERR bad error rate"}, {"BF.RESERVE x 1 100", "(error) ERR error rate must be in the range (0.000000, 1.000000)"},
		{"BF.RESERVE x 0 100", "(error) ERR error rate must be in the range (0.000000, 1.000000)"}, {"BF.RESERVE x 0.1 blah", "(error) ERR bad capacity"},
		{"BF.RESERVE x 0.1 0", "(error) ERR capacity must be in the range [1, 1073741824]"}, {"BF.RESERVE x 0.1 9 EXPANSION", "(error) ERR no expansion"},
		{"BF.RESERVE x 0.1 9 EXPANSION y", "(error) ERR bad expansion"}, {"BF.RESERVE x 0.1 9 EXPANSION -1", "(error) ERR expansion must be in the range [0, 32768]"},
		{"BF.RESERVE x 0.1 9 NONSCALING EXPANSION 2", "(error) Nonscaling filters cannot expand"}, {"BF.RESERVE x 0.1 9 OTHER", "(error) Unknown argument received"},
		{"BF.RESERVE x 0.1 9 EXPANSION 2 NONSCALING more", "(error) ERR wrong number of arguments for 'bf.reserve' command"},
		{"BF.INSERT n NOCREATE ITEMS a b", "(error) ERR not found"}, {"BF.INSERT n DONTEXIST NOCREATE", "(error) Unknown argument received"},
		{"BF.INSERT n NOCREATE ITEMS", "(error) ERR wrong number of arguments for 'bf.insert' command"}, {"BF.INSERT n NOCREATE CAPACITY", "(error) ERR wrong number of arguments for 'bf.insert' command"},
		{"BF.INSERT n CAPACITY 0.3 ITEMS a", "(error) Bad capacity"}, {"BF.INSERT n ERROR big ITEMS a", "(error) Bad error rate"}, {"BF.INSERT n EXPANSION -1 ITEMS a", "(error) Bad expansion"},
		{"BF.INSERT n ERROR 0.001 CAPACITY 50000 EXPANSION 2 ITEMS foo", "[true]"},
		{"BF.DEBUG n", `["size:1" "bytes:98880 bits:791040 hashes:11 hashwidth:64 capacity:50000 size:1 ratio:0.0005"]`},
		{"BF.INSERT n ERROR 0.1 ITEMS foo bar baz", "[false true true]"},
		{"BF.INSERT f CAPACITY 3 NONSCALING ITEMS a b c", "[true true true]"},
		{"BF.INSERT f ITEMS a b c d d", "[false false false (error) ERR non scaling filter is full]"}, {"BF.ADD f d", "(error) ERR non scaling filter is full"},
		{"BF.INFO f", "{Capacity 3 Size 104 Number of filters 1 Number of items inserted 3 Expansion rate (nil)}"},
		{"BF.RESERVE z 0.01 4 EXPANSION 0", "OK"}, {"BF.INFO z expansion", "[(nil)]"},
		{"BF.SCANDUMP none 0", "(error) ERR not found"}, {"BF.SCANDUMP k x", "(error) Second argument must be numeric"}, {"BF.SCANDUMP k -5", `[0 ""]`}, {"BF.SCANDUMP k 999999", `[0 ""]`},
		{"BF.LOADCHUNK l x d", "(error) ERR Second argument must be numeric"}, {"BF.LOADCHUNK l 1 d", "(error) ERR received bad data"}, {"BF.LOADCHUNK l 5 d", "(error) ERR not found"},
		{"BF.LOADCHUNK k 0 d", "(error) ERR received bad data"}, {"BF.LOADCHUNK k 1000 d", "(error) ERR invalid offset - no link found"},
	})
}

// TestBloomsGrowAsRedisBlooms: what RedisBloom's BF.DEBUG prints after the same commands, to the bit where items collide.
func TestBloomsGrowAsRedisBlooms(t *testing.T) {
	w := newWorld(t)
	w.do("BF.RESERVE", "a", "0.01", "10")
	w.do(numbered("BF.MADD a", 0, 100)...)
	w.do("BF.RESERVE", "b", "0.001", "100")
	w.do(numbered("BF.MADD b", 0, 4000)...)
	for _, e := range []string{"1", "2", "4"} {
		w.do("BF.RESERVE", "x"+e, "0.01", "4", "EXPANSION", e)
		w.do(numbered("BF.MADD x"+e, 0, 100)...)
	}
	w.play(t, []step{
		{"BF.DEBUG a", `["size:99" "bytes:16 bits:128 hashes:8 hashwidth:64 capacity:10 size:10 ratio:0.005" "bytes:32 bits:256 hashes:9 hashwidth:64 capacity:20 size:20 ratio:0.0025"` +
			` "bytes:72 bits:576 hashes:10 hashwidth:64 capacity:40 size:40 ratio:0.00125" "bytes:160 bits:1280 hashes:11 hashwidth:64 capacity:80 size:29 ratio:0.000625"]`},
		{"BF.DEBUG b", `["size:3997" "bytes:200 bits:1600 hashes:11 hashwidth:64 capacity:100 size:100 ratio:0.0005" "bytes:432 bits:3456 hashes:12 hashwidth:64 capacity:200 size:200 ratio:0.00025"` +
			` "bytes:936 bits:7488 hashes:13 hashwidth:64 capacity:400 size:400 ratio:0.000125" "bytes:2016 bits:16128 hashes:14 hashwidth:64 capacity:800 size:800 ratio:6.25e-05"` +
			` "bytes:4320 bits:34560 hashes:15 hashwidth:64 capacity:1600 size:1600 ratio:3.125e-05" "bytes:9216 bits:73728 hashes:16 hashwidth:64 capacity:3200 size:897 ratio:1.5625e-05"]`},
		{"BF.INFO x1 filters", "[23]"}, {"BF.INFO x2 filters", "[5]"}, {"BF.INFO x4 filters", "[4]"},
	})
}

// TestBloomErrors: nothing that was added is missing, and what was not is found at twice the asked rate at most.
func TestBloomErrors(t *testing.T) {
	for _, scaling := range []string{"NONSCALING", ""} {
		for _, rate := range []string{"0.1", "0.01", "0.001"} {
			w := newWorld(t)
			w.do(strings.Fields("BF.RESERVE k " + rate + " 2000 " + scaling)...)
			n := 2000
			if scaling == "" {
				n = 20000
			}
			for i := 0; i < n; i += 1000 {
				w.do(numbered("BF.MADD k", i, i+1000)...)
			}
			if got := w.do(numbered("BF.MEXISTS k", 0, n)...); strings.Contains(got, "false") {
				t.Errorf("%s %s: an item is missing", rate, scaling)
			}
			found := strings.Count(w.do(numbered("BF.MEXISTS k", 1_000_000, 1_050_000)...), "true")
			want, _ := strconv.ParseFloat(rate, 64)
			if got := float64(found) / 50000; got > 2*want {
				t.Errorf("%s %s: %g of strangers are found", rate, scaling, got)
			}
		}
	}
}

// moved dumps a filter chunk by chunk and loads it under another key.
func moved(t *testing.T, w *world, family, from, to string) {
	t.Helper()
	for iterator := int64(0); ; {
		task := w.task([]string{family + ".SCANDUMP", from, strconv.FormatInt(iterator, 10)})
		w.p.Query(w.now, 1, task)
		c := task.Reply.(*Recording).Cursor()
		c.Next()
		iterator = c.Next().Int
		data := c.Next().Bytes
		if iterator == 0 {
			return
		}
		if got := w.do(family+".LOADCHUNK", to, strconv.FormatInt(iterator, 10), string(data)); got != "OK" {
			t.Fatalf("iterator %d: %s", iterator, got)
		}
	}
}

func TestDumpsRestoreFilters(t *testing.T) {
	w := newWorld(t)
	w.do("BF.RESERVE", "bf", "0.0001", "3000000") // several chunks
	w.do(numbered("BF.MADD bf", 0, 1000)...)
	w.do(numbered("BF.MADD small", 0, 1000)...) // several links
	w.do("CF.RESERVE", "cf", "8000000")
	w.do("CF.RESERVE", "grown", "8", "EXPANSION", "2")
	w.do(numbered("CF.INSERT cf ITEMS", 0, 1000)...)
	w.do(numbered("CF.INSERT grown ITEMS", 0, 1000)...)
	for _, f := range []struct{ family, key string }{{"BF", "bf"}, {"BF", "small"}, {"CF", "cf"}, {"CF", "grown"}} {
		moved(t, w, f.family, f.key, "copy")
		for _, ask := range [][]string{{f.family + ".DEBUG"}, numbered(f.family+".MEXISTS", 500, 2000)} {
			one := append([]string{ask[0], f.key}, ask[1:]...)
			two := append([]string{ask[0], "copy"}, ask[1:]...)
			if a, b := w.do(one...), w.do(two...); a != b {
				t.Errorf("%s: %s answers %s, its copy %s", f.key, ask[0], a, b)
			}
		}
		w.do("DEL", "copy")
	}
}

// FuzzLoadChunk: whoever sends a chunk, what it makes is a sound filter, or an error.
func FuzzLoadChunk(f *testing.F) {
	for _, dump := range someDumps() {
		f.Add(false, int64(1), []byte(dump), int64(20), []byte("data"))
		f.Add(true, int64(1), []byte(dump), int64(5), []byte("data"))
	}
	w := newWorld(f)
	w.do("BF.MADD", "b", "1", "2")
	f.Fuzz(func(t *testing.T, isCuckoo bool, iterator int64, head []byte, next int64, data []byte) {
		w, family := newWorld(t), "BF"
		w.configure(Settings{MaxValue: 1 << 20})
		if isCuckoo {
			family = "CF"
		}
		w.do(family+".LOADCHUNK", "k", strconv.FormatInt(iterator, 10), string(head)) // w.do checks all invariants
		w.do(family+".LOADCHUNK", "k", strconv.FormatInt(next, 10), string(data))
		for _, ask := range []string{".SCANDUMP k 0", ".SCANDUMP k 1", ".INFO k", ".EXISTS k x", ".ADD k x", ".ADD k y", ".EXISTS k x"} {
			w.do(strings.Fields(family + ask)...)
		}
	})
}

func TestCuckooAnswers(t *testing.T) {
	w := newWorld(t)
	w.play(t, []step{
		{"CF.EXISTS none x", "false"}, {"CF.MEXISTS none x y", "[false false]"}, {"CF.COUNT none x", "0"}, {"CF.DEL none x", "(error) Not found"},
		{"CF.ADD k a", "true"}, {"CF.ADD k a", "true"}, {"CF.COUNT k a", "2"}, {"CF.ADDNX k a", "false"}, {"CF.ADDNX k b", "true"}, {"CF.MEXISTS k a b c", "[true true false]"},
		{"CF.DEL k a", "true"}, {"CF.COUNT k a", "1"}, {"CF.DEL k a", "true"}, {"CF.DEL k a", "false"}, {"CF.EXISTS k a", "false"},
		{"CF.INFO k", "{Size 1080 Number of buckets 512 Number of filters 1 Number of items inserted 1 Number of items deleted 2 Bucket size 2 Expansion rate 1 Max iterations 20}"},
		{"CF.INSERT n NOCREATE ITEMS a", "(error) ERR not found"}, {"CF.INSERT n CAPACITY 10000 ITEMS a", "[true]"}, {"CF.INSERTNX n ITEMS a b", "[0 1]"},
		{"CF.DEBUG n", `"bktsize:2 buckets:8192 items:2 deletes:0 filters:1 max_iterations:20 expansion:1"`},
		{"CF.INSERT n CAPACITY 3 ITEMS a", "(error) Capacity must be in the range [cf-bucket-size * 2, 1073741824]"}, {"CF.INSERT n CAPACITY x ITEMS a", "(error) Bad capacity"},
		{"CF.INSERT n NOCREATE CAPACITY", "(error) ERR wrong number of arguments for 'cf.insert' command"}, {"CF.INSERT n NOCREATE DONTEXIST", "(error) Unknown argument received"},
		{"CF.INSERT n NOCREATE ITEMS", "(error) ERR wrong number of arguments for 'cf.insert' command"},
		{"CF.RESERVE r str", "(error) Bad capacity"}, {"CF.RESERVE r 1", "(error) Capacity must be in the range [2 * BUCKETSIZE, 1073741824]"},
		{"CF.RESERVE r 10 EXPANSION", "(error) ERR wrong number of arguments for 'cf.reserve' command"}, {"CF.RESERVE r 10 EXPANSION -1", "(error) EXPANSION: value must be in the range [0, 32768]"},
		{"CF.RESERVE r 10 BUCKETSIZE 0", "(error) BUCKETSIZE: value must be in the range [1, 255]"}, {"CF.RESERVE r 10 BUCKETSIZE x", "(error) Couldn't parse BUCKETSIZE"},
		{"CF.RESERVE r 10 maxiterations 65536", "(error) MAXITERATIONS: value must be in the range [1, 65535]"}, {"CF.RESERVE r 10 OTHER 1", "(error) Unknown argument received"},
		{"CF.RESERVE r 10 MAXITERATIONS 10", "OK"}, {"CF.RESERVE r 10", "(error) ERR item exists"},
		{"CF.DEBUG r", `"bktsize:2 buckets:8 items:0 deletes:0 filters:1 max_iterations:10 expansion:1"`},
		{"CF.RESERVE e 4 EXPANSION 0", "OK"}, {"CF.INSERT e ITEMS 1 2 3 4 5 6", "[true true true true -1 -1]"}, {"CF.ADD e 7", "(error) Filter is full"}, {"CF.MEXISTS e 1 2 3 4", "[true true true true]"},
		{"CF.SCANDUMP r 0", "[0 (nil)]"}, {"CF.SCANDUMP k -1", "(error) Invalid position"}, {"CF.SCANDUMP none 0", "(error) ERR not found"}, {"CF.SCANDUMP k 99999", "[0 (nil)]"},
		{"CF.LOADCHUNK l 0 d", "(error) Invalid position"}, {"CF.LOADCHUNK l 1 d", "(error) Invalid header"}, {"CF.LOADCHUNK k 1 d", "(error) ERR item exists"},
		{"CF.LOADCHUNK l 5 d", "(error) ERR not found"}, {"CF.LOADCHUNK k 99999 d", "(error) Couldn't load chunk!"},
	})
}

// TestCuckoosGrowAsRedisBlooms: what RedisBloom's CF.DEBUG prints after the same commands.
func TestCuckoosGrowAsRedisBlooms(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ reserve, want string }{
		{"64 BUCKETSIZE 1", "bktsize:1 buckets:64 items:1000 deletes:0 filters:18 max_iterations:20 expansion:1"},
		{"64 BUCKETSIZE 2", "bktsize:2 buckets:32 items:1000 deletes:0 filters:17 max_iterations:20 expansion:1"},
		{"256 BUCKETSIZE 4 MAXITERATIONS 500", "bktsize:4 buckets:64 items:1000 deletes:0 filters:4 max_iterations:500 expansion:1"},
		{"64 EXPANSION 2", "bktsize:2 buckets:32 items:1000 deletes:0 filters:5 max_iterations:20 expansion:2"},
		{"64 EXPANSION 4 MAXITERATIONS 500", "bktsize:2 buckets:32 items:1000 deletes:0 filters:3 max_iterations:500 expansion:4"},
	} {
		w.do(strings.Fields("CF.RESERVE k " + c.reserve)...)
		w.do(numbered("CF.INSERT k ITEMS", 0, 1000)...)
		if got := w.do("CF.DEBUG", "k"); got != strconv.Quote(c.want) {
			t.Errorf("%s: %s, want %s", c.reserve, got, c.want)
		}
		if got := w.do(numbered("CF.MEXISTS k", 0, 1000)...); strings.Contains(got, "false") {
			t.Errorf("%s: an item is missing", c.reserve)
		}
		w.do("DEL", "k")
	}
	w.do("CF.RESERVE", "k", "2", "BUCKETSIZE", "1")
	if got := w.do(append([]string{"CF.INSERT", "k", "ITEMS"}, slices.Repeat([]string{"1 "}, 10000)...)...); !strings.HasSuffix(got, "-1]") {
		t.Errorf("a filter without end: %.100s", got)
	}
}

// TestCuckooModel: against the items in a multiset, none is missing that was added more often than deleted, and few are
// counted too often.
func TestCuckooModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, choose := newWorld(t), chance(t)
		w.do("CF.RESERVE", "k", "16", "EXPANSION", strconv.Itoa(1+choose(3)))
		have, missed, wrong := map[string]int{}, 0, 0
		for range 600 {
			item := strconv.Itoa(choose(200))
			switch choose(3) {
			case 0:
				if have[item] > 0 { // what was not added must not be deleted
					if w.do("CF.DEL", "k", item) != "true" {
						missed++
					}
					have[item]--
				}
			default:
				if w.do("CF.ADD", "k", item) == "true" {
					have[item]++
				}
			}
		}
		for item, n := range have {
			got, _ := strconv.Atoi(w.do("CF.COUNT", "k", item))
			if got < n {
				missed++
			}
			if got > n {
				wrong++
			}
		}
		if missed > 0 || wrong > len(have)/4 {
			t.Fatalf("%d items are missing, %d of %d counted too often", missed, wrong, len(have))
		}
	})
}

func TestCountMinAnswers(t *testing.T) {
	w := newWorld(t)
	w.do("SET", "s", "x")
	const large = "2147483647"
	w.play(t, []step{
		{"CMS.INITBYDIM k 20 5", "OK"}, {"CMS.INCRBY k a 5", "[5]"}, {"CMS.QUERY k a b", "[5 0]"}, {"CMS.INFO k", "{width 20 depth 5 count 5}"},
		{"CMS.INITBYPROB p 0.001 0.01", "OK"}, {"CMS.INFO p", "{width 2000 depth 7 count 0}"},
		{"CMS.INITBYDIM k 20 5", "(error) CMS: key already exists"}, {"CMS.INITBYDIM s 20 5", "(error) CMS: key already exists"},
		{"CMS.INITBYDIM x 0 5", "(error) CMS: invalid width"}, {"CMS.INITBYDIM x 5 y", "(error) CMS: invalid depth"}, {"CMS.INITBYDIM x 5 1025", "(error) CMS: invalid depth: it is at most 1024"},
		{"CMS.INITBYPROB x 1 0.1", "(error) CMS: invalid overestimation value"}, {"CMS.INITBYPROB x 0.1 0", "(error) CMS: invalid prob value"},
		{"CMS.INCRBY none a 1", "(error) CMS: key does not exist"}, {"CMS.INCRBY k a", "(error) ERR wrong number of arguments for 'cms.incrby' command"},
		{"CMS.INCRBY k a 1 b", "(error) ERR wrong number of arguments for 'cms.incrby' command"}, {"CMS.INCRBY k a x", "(error) CMS: Cannot parse number"},
		{"CMS.INCRBY k a -1", "(error) CMS: Number cannot be negative"}, {"CMS.QUERY none a", "(error) CMS: key does not exist"}, {"CMS.INFO none", "(error) CMS: key does not exist"},
		{"CMS.QUERY s a", "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
		// hashes as RedisBloom's: what collides in so small a sketch collides there
		{"CMS.INITBYDIM o 5 2", "OK"}, {"CMS.INCRBY o a " + large + " b 10 c 7 d 5", "[2147483647 10 17 5]"}, {"CMS.QUERY o a b c d", "[2147483647 17 17 5]"},
		{"CMS.INCRBY o a " + large + " b 10 c 7 d 5", "[4294967294 27 34 10]"}, {"CMS.INCRBY o a " + large + " b 10 c 7 d 5", "[(error) CMS: INCRBY overflow 44 51 15]"}, {"CMS.QUERY o a b c d", "[4294967295 51 51 15]"},
		{"CMS.INITBYDIM m1 20 5", "OK"}, {"CMS.INITBYDIM m2 20 5", "OK"}, {"CMS.INITBYDIM m3 20 5", "OK"}, {"CMS.INCRBY m1 a 21", "[21]"}, {"CMS.INCRBY m2 a 22 b 3", "[22 3]"},
		{"CMS.MERGE m3 2 m1 m2", "OK"}, {"CMS.QUERY m3 a b", "[43 3]"}, {"CMS.MERGE m3 2 m1 m2 WEIGHTS 2 3", "OK"}, {"CMS.QUERY m3 a b", "[108 9]"}, {"CMS.INFO m3", "{width 20 depth 5 count 117}"},
		{"CMS.MERGE m3 2 m3 m2 WEIGHTS 1 -3", "OK"}, {"CMS.QUERY m3 a b", "[42 0]"}, {"CMS.MERGE m3 3 m1 m1 m1", "OK"}, {"CMS.QUERY m3 a", "[63]"},
		{"CMS.MERGE m3 1 m1 WEIGHTS -1", "(error) CMS: MERGE overflow"}, {"CMS.MERGE m3 1 m1 WEIGHTS 999999999", "(error) CMS: MERGE overflow"}, {"CMS.MERGE m3 1 m1 WEIGHTS x", "(error) CMS: invalid weight value"},
		{"CMS.MERGE m3 2 m1 p", "(error) CMS: width/depth is not equal"}, {"CMS.MERGE none 1 m1", "(error) CMS: key does not exist"}, {"CMS.MERGE m3 1 none", "(error) CMS: key does not exist"},
		{"CMS.MERGE m3 x m1", "(error) CMS: invalid numkeys"}, {"CMS.MERGE m3 0 m1", "(error) CMS: Number of keys must be positive"}, {"CMS.MERGE m3 2 m1", "(error) CMS: wrong number of keys"},
		{"CMS.MERGE m3 1 m1 WEIGHTS 1 2", "(error) CMS: wrong number of keys/weights"}, {"CMS.MERGE m3 1 s", "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
	})
}

// TestCountMinModel: against exact counts, an estimate is never too low, and too high by more than the asked part of all
// counts for few items.
func TestCountMinModel(t *testing.T) {
	w, dice := newWorld(t), rand.New(rand.NewPCG(1, 2))
	w.do("CMS.INITBYPROB", "k", "0.01", "0.01")
	exact, total := map[string]int{}, 0
	for range 200 {
		args := []string{"CMS.INCRBY", "k"}
		for range 50 {
			item, n := strconv.Itoa(int(math.Exp(dice.Float64()*7))), dice.IntN(10)
			args = append(args, item, strconv.Itoa(n))
			exact[item] += n
			total += n
		}
		w.do(args...)
	}
	over := 0
	for item, n := range exact {
		got, _ := strconv.Atoi(strings.Trim(w.do("CMS.QUERY", "k", item), "[]"))
		if got < n {
			t.Fatalf("%s was counted %d times, not %d", item, n, got)
		}
		if got > n+total/100 {
			over++
		}
	}
	if over > len(exact)/50 {
		t.Errorf("%d of %d items are over by more than 1 %% of all", over, len(exact))
	}
}

func TestTopKAnswers(t *testing.T) {
	w := newWorld(t)
	w.do("SET", "s", "x")
	w.play(t, []step{
		{"TOPK.RESERVE k 20 50 5 0.9", "OK"}, {"TOPK.ADD k bar baz 42", "[(nil) (nil) (nil)]"}, {"TOPK.QUERY k foo bar baz", "[false true true]"}, {"TOPK.COUNT k foo bar baz", "[0 1 1]"},
		{"TOPK.ADD k bar baz", "[(nil) (nil)]"}, {"TOPK.COUNT k foo bar baz 42", "[0 2 2 1]"}, {"TOPK.LIST k", `["bar" "baz" "42"]`}, {"TOPK.LIST k withcount", `["bar" 2 "baz" 2 "42" 1]`},
		{"TOPK.LIST k other", "(error) WITHCOUNT keyword expected"}, {"TOPK.LIST k WITHCOUNT more", "(error) ERR wrong number of arguments for 'topk.list' command"}, {"TOPK.INFO k", "{k 20 width 50 depth 5 decay 0.9}"},
		{"TOPK.RESERVE k 3", "(error) TopK: key already exists"}, {"TOPK.RESERVE d 3", "OK"}, {"TOPK.INFO d", "{k 3 width 8 depth 7 decay 0.9}"}, {"TOPK.LIST d", "[]"},
		{"TOPK.RESERVE x 3 4", "(error) ERR wrong number of arguments for 'topk.reserve' command"}, {"TOPK.RESERVE x 0", "(error) TopK: invalid k: it is between 1 and 65536"},
		{"TOPK.RESERVE x 3 a 5 0.9", "(error) TopK: invalid width"}, {"TOPK.RESERVE x 3 5 a 0.9", "(error) TopK: invalid depth: it is between 1 and 256"},
		{"TOPK.RESERVE x 3 5 5 42", "(error) TopK: invalid decay value. must be '<= 1' & '> 0'"},
		{"TOPK.ADD none a", "(error) TopK: key does not exist"}, {"TOPK.LIST none", "(error) TopK: key does not exist"}, {"TOPK.ADD s a", "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
		{"TOPK.INCRBY k a -5", "(error) TopK: increment must be an integer greater or equal to 0 and smaller or equal to 100,000"},
		{"TOPK.INCRBY k a 123456", "(error) TopK: increment must be an integer greater or equal to 0 and smaller or equal to 100,000"},
		{"TOPK.INCRBY k a 1 b", "(error) ERR wrong number of arguments for 'topk.incrby' command"}, {"TOPK.INCRBY k nothing 0", "[(nil)]"}, {"TOPK.QUERY k nothing", "[false]"},
		{"TOPK.RESERVE i 3 10 3 1", "OK"}, {"TOPK.INCRBY i bar 3 baz 6 42 2", "[(nil) (nil) (nil)]"}, {"TOPK.INCRBY i 42 8 xyzzy 4", `[(nil) "bar"]`}, {"TOPK.COUNT i bar baz 42 xyzzy 4", "[3 6 10 4 0]"},
		{"TOPK.RESERVE l 1 3 3 .9", "OK"}, {"TOPK.INCRBY l bar 300 baz 600 42 200", `[(nil) "bar" (nil)]`}, {"TOPK.INCRBY l 42 80 xyzzy 400", "[(nil) (nil)]"}, {"TOPK.LIST l", `["baz"]`},
	})
	w.do("TOPK.RESERVE", "f", "2", "50", "5", "0.9")
	w.do(strings.Fields("TOPK.ADD f foo bar baz 42 foo bar baz foo baz 42 foo baz foo bar baz foo baz")...)
	w.play(t, []step{{"TOPK.LIST f WITHCOUNT", `["foo" 6 "baz" 6]`}, {"TOPK.ADD f bar bar bar bar bar", `[(nil) (nil) "foo" (nil) (nil)]`}, {"TOPK.LIST f", `["bar" "baz"]`}})

	// What is expelled, and the order of equals, as RedisBloom has it.
	w.do("TOPK.RESERVE", "g", "3", "50", "4", "0.9")
	w.do("TOPK.RESERVE", "h", "5", "20", "4", "0.9")
	w.do(strings.Fields("TOPK.ADD h infinity B nan D -infinity infinity infinity B nan G D B D infinity -infinity -infinity")...)
	w.play(t, []step{
		{"TOPK.ADD g A B C D E A A B C G D B D A E E E", `[(nil) (nil) (nil) "A" "C" "D" (nil) (nil) "E" (nil) "B" "C" (nil) (nil) (nil) "D" (nil)]`},
		{"TOPK.LIST h", `["infinity" "B" "D" "-infinity" "nan"]`},
	})
}

// TestTopKModel: of a skewed stream, nearly all of the k most frequent items are kept, with counts that are seldom too high,
// and items of all lengths come and go without a trace.
func TestTopKModel(t *testing.T) {
	w, dice := newWorld(t), rand.New(rand.NewPCG(3, 4))
	w.do("TOPK.RESERVE", "k", "20", "500", "5", "0.925")
	exact := map[string]int{}
	for range 200 {
		args := []string{"TOPK.ADD", "k"}
		for range 100 {
			n := int(math.Exp(dice.Float64() * 8))
			item := strconv.Itoa(n) + strings.Repeat("x", n%50)
			args = append(args, item)
			exact[item]++
		}
		w.do(args...)
	}
	var items []string
	for item := range exact {
		items = append(items, item)
	}
	slices.SortFunc(items, func(a, b string) int { return exact[b] - exact[a] })
	if kept := strings.Count(w.do(append([]string{"TOPK.QUERY", "k"}, items[:20]...)...), "true"); kept < 17 {
		t.Errorf("only %d of the 20 most frequent items are kept", kept)
	}
	for _, item := range items[:10] {
		got, _ := strconv.Atoi(strings.Trim(w.do("TOPK.COUNT", "k", item), "[]"))
		if n := exact[item]; got > n || got < n*9/10 {
			t.Errorf("%s was counted %d times, %d are told", item, n, got)
		}
	}
}

// TestLargeIncrementsDecayOnAverage: as if the dice had been thrown each time.
func TestLargeIncrementsDecayOnAverage(t *testing.T) {
	dice := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct {
		decay    float64
		count, n uint32
	}{{0.9, 30, 500}, {0.9, 10, 20}, {0.99, 200, 1000}, {0.5, 10, 5000}, {1, 10, 5}, {1, 5, 10}, {0.999999, 50, 40}, {0.9, 5, 100_000}, {0.9, math.MaxUint32, 100_000}} {
		const runs = 300
		sum := 0.0
		for range runs {
			count, n := c.count, c.n
			for ; n > 0 && count > 0; n-- {
				if dice.Float64() < math.Pow(c.decay, float64(count)) {
					if count--; count == 0 {
						sum -= float64(n) // the bucket is the other's
					}
				}
				if c.count == math.MaxUint32 {
					break
				}
			}
			sum += float64(count)
		}
		after, left := decayedOnAverage(c.decay, c.count, c.n)
		got, want := float64(after)-float64(left), sum/runs
		if math.Abs(got-want) > 2+0.05*math.Abs(want) {
			t.Errorf("%+v: %g, on average %g", c, got, want)
		}
		if (left > 0) != (after == 0) || left > c.n {
			t.Errorf("%+v: %d are left, %d the item's", c, after, left)
		}
	}
}

func TestTDigestAnswers(t *testing.T) {
	w := newWorld(t)
	w.do("SET", "s", "x")
	w.do(numbered("TDIGEST.CREATE k", 0, 0)...)
	w.play(t, []step{
		{"TDIGEST.CREATE k", "(error) ERR T-Digest: key already exists"}, {"TDIGEST.CREATE s", "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
		{"TDIGEST.CREATE x COMPRESSION", "(error) ERR wrong number of arguments for 'tdigest.create' command"}, {"TDIGEST.CREATE x string 5", "(error) ERR T-Digest: wrong keyword"},
		{"TDIGEST.CREATE x COMPRESSION a", "(error) ERR T-Digest: error parsing compression parameter"}, {"TDIGEST.CREATE x COMPRESSION 0", "(error) ERR T-Digest: compression parameter needs to be a positive integer"},
		{"TDIGEST.CREATE x COMPRESSION 10001", "(error) ERR T-Digest: compression parameter needs to be at most 10000"},
		{"TDIGEST.MIN k", "nan"}, {"TDIGEST.MAX k", "nan"}, {"TDIGEST.QUANTILE k 0.5", "[nan]"}, {"TDIGEST.CDF k 1", "[nan]"}, {"TDIGEST.RANK k 0 1", "[-2 -2]"}, {"TDIGEST.REVRANK k 0 1", "[-2 -2]"},
		{"TDIGEST.BYRANK k 0", "[nan]"}, {"TDIGEST.TRIMMED_MEAN k 0 1", "nan"}, {"TDIGEST.RESET k", "OK"},
		{"TDIGEST.INFO k", "{Compression 100 Capacity 610 Merged nodes 0 Unmerged nodes 0 Merged weight 0 Unmerged weight 0 Observations 0 Total compressions 0 Memory usage 9840}"},
		{"TDIGEST.ADD none 1", "(error) ERR T-Digest: key does not exist"}, {"TDIGEST.ADD k a 5", "(error) ERR T-Digest: error parsing val parameter"}, {"TDIGEST.ADD k 5 inf", "(error) ERR T-Digest: val parameter needs to be a finite number"},
		{"TDIGEST.ADD k 1 2 2 3 3 3 4 4 4 4 5 5 5 5 5", "OK"}, {"TDIGEST.MIN k", "1"}, {"TDIGEST.MAX k", "5"},
		{"TDIGEST.RANK k 0 1 2 3 4 5 6", "[-1 0 2 4 8 12 15]"}, {"TDIGEST.REVRANK k 0 1 2 3 4 5 6", "[15 14 13 10 7 2 -1]"},
		{"TDIGEST.BYREVRANK k 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", "[5 5 5 5 5 4 4 4 4 3 3 3 2 2 1 -inf]"}, {"TDIGEST.BYRANK k 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0", "[inf 5 5 5 5 5 4 4 4 4 3 3 3 2 2 1]"},
		{"TDIGEST.RANK k a", "(error) ERR T-Digest: error parsing value"}, {"TDIGEST.CDF k a", "(error) ERR T-Digest: error parsing cdf"}, {"TDIGEST.QUANTILE k a", "(error) ERR T-Digest: error parsing quantile"},
		{"TDIGEST.QUANTILE k 1.1", "(error) ERR T-Digest: quantile should be in [0,1]"}, {"TDIGEST.BYRANK k 0.5", "(error) ERR T-Digest: error parsing rank"}, {"TDIGEST.BYRANK k -1", "(error) ERR T-Digest: rank needs to be non negative"},
		{"TDIGEST.TRIMMED_MEAN k a 1", "(error) ERR T-Digest: error parsing low_cut_percentile"}, {"TDIGEST.TRIMMED_MEAN k 0 a", "(error) ERR T-Digest: error parsing high_cut_percentile"},
		{"TDIGEST.TRIMMED_MEAN k 0 1.1", "(error) ERR T-Digest: low_cut_percentile and high_cut_percentile should be in [0,1]"}, {"TDIGEST.TRIMMED_MEAN k 0.9 0.1", "(error) ERR T-Digest: low_cut_percentile should be lower than high_cut_percentile"},
		{"TDIGEST.CREATE t COMPRESSION 1000", "OK"}, {"TDIGEST.ADD t 10 20 30 40 50 60", "OK"}, {"TDIGEST.RANK t 0 10 20 30 40 50 60 70", "[-1 0 1 2 3 4 5 6]"}, {"TDIGEST.CDF t 0 10 30 70", "[0 0.08333333333333333 0.4166666666666667 1]"},
		{"TDIGEST.QUANTILE t 0 0.5 1", "[10 40 60]"}, {"TDIGEST.TRIMMED_MEAN t 0.1 0.9", "35"},
		{"TDIGEST.MERGE s 1 k", "(error) WRONGTYPE Operation against a key holding the wrong kind of value"}, {"TDIGEST.MERGE m 1 s", "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
		{"TDIGEST.MERGE m 1 none", "(error) ERR T-Digest: key does not exist"}, {"TDIGEST.MERGE m 5 m m m m m COMPRESSION 3", "(error) ERR T-Digest: key does not exist"},
		{"TDIGEST.MERGE m x k", "(error) ERR T-Digest: error parsing numkeys"}, {"TDIGEST.MERGE m 0 k", "(error) ERR T-Digest: numkeys needs to be a positive integer"},
		{"TDIGEST.MERGE m 2 k", "(error) ERR wrong number of arguments for 'tdigest.merge' command"}, {"TDIGEST.MERGE m 1 k other", "(error) ERR T-Digest: wrong keyword"},
		{"TDIGEST.MERGE m 1 k COMPRESSION", "(error) ERR wrong number of arguments for 'tdigest.merge' command"}, {"TDIGEST.MERGE m 1 k COMPRESSION a", "(error) ERR T-Digest: error parsing compression parameter"},
		{"TDIGEST.MERGE m 2 k t", "OK"}, {"TDIGEST.MIN m", "1"}, {"TDIGEST.MAX m", "60"},
	})
	for _, s := range []struct{ merge, compression, weight string }{
		{"", "1000", "21"}, {"TDIGEST.MERGE m 1 m", "1000", "42"}, {"TDIGEST.MERGE m 1 k COMPRESSION 50", "50", "57"}, {"TDIGEST.MERGE m 2 t t", "50", "69"}, {"TDIGEST.MERGE m 2 k k OVERRIDE", "100", "30"},
		{"TDIGEST.MERGE m 1 k OVERRIDE COMPRESSION 77", "77", "15"},
	} {
		if s.merge != "" {
			w.do(strings.Fields(s.merge)...)
		}
		if got := w.do("TDIGEST.INFO", "m"); !strings.Contains(got, "Compression "+s.compression+" ") || !strings.Contains(got, "Observations "+s.weight+" ") {
			t.Errorf("%s: %s", s.merge, got)
		}
	}
	w.do("TDIGEST.MERGE", "m", "1", "k", "OVERRIDE")
	for i := 0; ; i++ { // doubles its weight
		if got := w.do("TDIGEST.MERGE", "m", "1", "m"); got != "OK" {
			if got != "(error) ERR T-Digest: overflow detected" || i < 55 {
				t.Errorf("after %d merges: %s", i, got)
			}
			break
		}
	}
}

// TestTDigestsMergeAsRedisBlooms: its TDIGEST.INFO after the same values, one by one.
func TestTDigestsMergeAsRedisBlooms(t *testing.T) {
	w := newWorld(t)
	w.do("TDIGEST.CREATE", "k")
	for i := 1; i <= 10000; i++ {
		w.do("TDIGEST.ADD", "k", strconv.Itoa(i))
	}
	want := "{Compression 100 Capacity 610 Merged nodes 51 Unmerged nodes 422 Merged weight 9578 Unmerged weight 422 Observations 10000 Total compressions 17 Memory usage 9840}"
	if got := w.do("TDIGEST.INFO", "k"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestTDigestModel: against sorted values, a quantile's rank is off by half a centroid at most, which is little and less still at
// the ends; what is asked for a quantile has that fraction below it; merged digests are as good as one.
func TestTDigestModel(t *testing.T) {
	dice := rand.New(rand.NewPCG(7, 8))
	for name, draw := range map[string]func() float64{
		"even": dice.Float64, "normal": dice.NormFloat64, "steep": func() float64 { return math.Exp(20 * dice.Float64()) }, "few": func() float64 { return float64(dice.IntN(5)) },
		"huge": func() float64 { return (dice.Float64() - 0.5) * 2 * math.MaxFloat64 },
	} {
		w := newWorld(t)
		w.do("TDIGEST.CREATE", "whole")
		w.do("TDIGEST.CREATE", "part0")
		w.do("TDIGEST.CREATE", "part1")
		var values []float64
		for i := range 40 {
			whole, part := []string{"TDIGEST.ADD", "whole"}, []string{"TDIGEST.ADD", "part" + strconv.Itoa(i%2)}
			for range 500 {
				v := draw()
				values = append(values, v)
				text := strconv.FormatFloat(v, 'g', -1, 64)
				whole, part = append(whole, text), append(part, text)
			}
			w.do(whole...)
			w.do(part...)
		}
		w.do("TDIGEST.MERGE", "merged", "2", "part0", "part1")
		slices.Sort(values)
		n := float64(len(values))
		for _, key := range []string{"whole", "merged"} {
			for _, q := range []float64{0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1} {
				text := strings.Trim(w.plain("TDIGEST.QUANTILE", key, fmt.Sprint(q)), "[]")
				v, err := strconv.ParseFloat(text, 64)
				if err != nil || math.IsNaN(v) {
					t.Fatalf("%s %s: quantile %g is %s", name, key, q, text)
				}
				low, _ := slices.BinarySearch(values, v)
				high, _ := slices.BinarySearch(values, math.Nextafter(v, math.Inf(1)))
				if limit := q*(1-q)*math.Pi*math.Log(n)/100 + 1.5/n; q < float64(low)/n-limit || q > float64(high)/n+limit {
					if name != "few" || math.Abs(v-math.Round(v)) == 0 { // between few values there is nothing to be right about
						t.Errorf("%s %s: quantile %g is %g, whose ranks are %g to %g", name, key, q, v, float64(low)/n, float64(high)/n)
					}
				}
				cdf, _ := strconv.ParseFloat(strings.Trim(w.plain("TDIGEST.CDF", key, text), "[]"), 64)
				if name != "few" && math.Abs(cdf-q) > 0.001+1/n {
					t.Errorf("%s %s: %g is said to be below %g, which is the quantile %g", name, key, cdf, v, q)
				}
			}
			for end, v := range map[string]float64{"MIN": values[0], "MAX": values[len(values)-1]} {
				if got, _ := strconv.ParseFloat(w.plain("TDIGEST."+end, key), 64); got != v {
					t.Errorf("%s %s: %s is %g, not %g", name, key, end, got, v)
				}
			}
		}
		if name == "even" || name == "normal" {
			sum := 0.0
			for _, v := range values[2000:18000] {
				sum += v
			}
			if got, _ := strconv.ParseFloat(w.plain("TDIGEST.TRIMMED_MEAN", "whole", "0.1", "0.9"), 64); math.Abs(got-sum/16000) > 0.01 {
				t.Errorf("%s: a trimmed mean of %g, not %g", name, got, sum/16000)
			}
		}
	}
}

// TestLogarithmIsExact to the last digits, and decay what it should be.
func TestLogarithmIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := math.Abs(rapid.Float64().Draw(t, "x"))
		if x < 0x1p-1022 || math.IsInf(x, 0) { // of smaller ones math.Log is wrong on amd64 by as much as 0.4
			return
		}
		if got, want := ln(x), math.Log(x); math.Abs(got-want) > 4e-16*math.Max(1, math.Abs(want)) {
			t.Fatalf("the logarithm of %g is %g, not %g", x, got, want)
		}
		n := rapid.Uint32Range(0, 1000).Draw(t, "n")
		if got, want := powInt(0.9, n), math.Pow(0.9, float64(n)); math.Abs(got-want) > 1e-12*want {
			t.Fatalf("0.9^%d is %g, not %g", n, got, want)
		}
	})
}

// TestSketchesOfTwins: two partitions with the same entries have the same sketches, and so does a copy; an atomic task that
// fails leaves none of its changes in small and large ones.
func TestSketchesOfTwins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two, choose := newWorld(t), newWorld(t), chance(t)
		for _, make := range []string{"BF.RESERVE b 0.1 2000", "CF.RESERVE c 64 EXPANSION 2", "CMS.INITBYDIM m 300 4", "TOPK.RESERVE t 5 100 4 0.9", "TDIGEST.CREATE d COMPRESSION 20"} {
			one.do(strings.Fields(make)...)
			two.do(strings.Fields(make)...)
		}
		item := func() string { return strings.Repeat(strconv.Itoa(choose(500)), 1+choose(9)) }
		for range 25 {
			var commands [][]string
			for range 1 + choose(4) {
				n := strconv.Itoa(choose(300))
				commands = append(commands, pick(choose, [][]string{
					{"BF.MADD", "b", item(), item(), item()}, {"BF.MADD", "tiny", item(), item()}, {"CF.INSERT", "c", "ITEMS", item(), item(), item()}, {"CF.DEL", "c", item()}, {"CMS.INCRBY", "m", item(), n},
					{"CMS.MERGE", "m", "2", "m", "m"}, {"TOPK.INCRBY", "t", item(), n, item(), n}, {"TOPK.ADD", "t", item(), item()}, numbered("TDIGEST.ADD d", choose(50), 90), {"TDIGEST.MERGE", "d", "1", "d"},
					{"TDIGEST.RESET", "d"}, {"COPY", "t", "t2", "REPLACE"}, {"RENAME", "b", "b2"}, {"RENAME", "b2", "b"}, {"DEL", pick(choose, []string{"t2", "tiny", "c"})}, {"CF.RESERVE", "c", "64"},
				}))
			}
			one.apply(one.task(commands...))
			two.apply(two.task(commands...))
			if one.p.Digest() != two.p.Digest() {
				t.Fatalf("the partitions differ after %q", commands)
			}
			before, used := one.p.Digest(), one.p.caches[testCache].used
			undone := one.task(append(commands, []string{"GET"})...)
			undone.Atomic = true
			one.apply(undone)
			two.seed++ // the dice of the next entry
			if one.p.Digest() != before || one.p.caches[testCache].used != used {
				t.Fatalf("something is left of %q", commands)
			}
		}
	})
}

func isSketch(g Group) bool { return GroupBloom <= g && g <= GroupTDigest }

// TestFailedSketchCallsChangeNothing: TestFailedCallsChangeNothing among the commands of one family, where there is something.
func TestFailedSketchCallsChangeNothing(t *testing.T) {
	made := [][]string{{"BF.RESERVE", "0.1", "5"}, {"CF.RESERVE", "4"}, {"CMS.INITBYDIM", "10", "2"}, {"TOPK.RESERVE", "2"}, {"TDIGEST.CREATE"}}
	failed, answered := map[string]int{}, map[string]int{}
	for _, make := range made {
		group := MustLookup(make[0]).Group
		commands := commandsThat(func(c *Command) bool { return c.Group == group })
		rapid.Check(t, func(t *rapid.T) {
			w, choose := newWorld(t), chance(t)
			for _, key := range []string{"a", "b", "c", "d"} {
				w.do(append([]string{make[0], key}, make[1:]...)...)
			}
			failsCleanly(t, w, choose, 100, commands, failed, answered)
		})
	}
	for _, c := range Commands() {
		if isSketch(c.Group) && !testing.Short() && answered[c.Name] == 0 {
			t.Errorf("%s never succeeded: it failed %d times, so this test shows little", c.Name, failed[c.Name])
		}
	}
}

// TestCutsShowSketchesAsTheyWere: a sketch that is changed in place while a cut runs comes as it was when the cut began.
func TestCutsShowSketchesAsTheyWere(t *testing.T) {
	live, still := newWorld(t), newWorld(t)
	change := []step{{command: "BF.ADD b x"}, {command: "BF.MADD large x y"}, {command: "CF.ADD c x"}, {command: "CF.DEL c y"}, {command: "CMS.INCRBY m x 3"}, {command: "TOPK.ADD t x y z"}, {command: "TDIGEST.ADD d 1 2 3"}}
	for _, w := range []*world{live, still} {
		for _, make := range []string{"BF.RESERVE large 0.01 100000", "CMS.INITBYDIM m 100 3", "TOPK.RESERVE t 2", "TDIGEST.CREATE d", "CF.ADD c y"} {
			w.do(strings.Fields(make)...)
		}
		for _, s := range change {
			w.do(strings.Fields(s.command)...)
		}
	}
	want := readCut(t, still.p, func() int { return 1000 }, func() {})
	i := 0
	got := readCut(t, live.p, func() int { return 1 }, func() {
		for range 3 {
			args := strings.Fields(change[i%len(change)].command)
			live.do(append(args[:2], strconv.Itoa(i), "1")[:len(args)]...)
			i++
		}
	})
	if !slices.Equal(got, want) {
		t.Errorf("the cut shows %.2000q, want %.2000q", got, want)
	}
	if i < len(change) {
		t.Errorf("only %d changes came while the cut ran", i)
	}
}
