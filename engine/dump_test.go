package engine

import (
	"encoding/binary"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/engine/rdb"
)

// activeTime is not carried along either, so that Redis 7.0 can restore a dump.
var activeTime = regexp.MustCompile(`"active-time" -?\d+`)

// contents is what can be seen of a value of a Redis type.
func (w *world) contents(key string) string {
	looks := map[string][]string{
		"string": {"GET"}, "list": {"LRANGE", "0", "-1"}, "set": {"SORT_RO", "ALPHA"}, "zset": {"ZRANGE", "0", "-1", "WITHSCORES"},
	}
	kind := w.do("TYPE", key)
	look := looks[kind]
	switch kind {
	case "hash":
		return w.hash(key)
	case "stream":
		full := w.do("XINFO", "STREAM", key, "FULL", "COUNT", "0")
		_, rest, _ := strings.Cut(full, `"last-generated-id"`) // how many nodes it has before that is not carried along
		return activeTime.ReplaceAllString(rest, "")
	case "none", "session":
		return kind
	}
	return w.do(append([]string{look[0], key}, look[1:]...)...)
}

// hash is a hash's fields with values and deadlines, sorted.
func (w *world) hash(key string) string {
	var lines []string
	it := w.p.caches[testCache].dbs[w.db].find([]byte(key))
	it.value.(*hashValue).each(w.now, func(f hashField) bool {
		lines = append(lines, strconv.Quote(string(f.field.append(nil)))+strconv.Quote(string(f.value.append(nil)))+strconv.FormatInt(f.at, 10))
		return true
	})
	w.p.viewed = 0
	return strings.Join(slices.Sorted(slices.Values(lines)), "\n")
}

// TestDumpsComeBack: whatever commands have made of a key, its dump makes another with the same contents, also inside of a
// batch that is undone.
func TestDumpsComeBack(t *testing.T) {
	restored := map[string]int{}
	first := [][]string{ // so that every type is met, whatever the generator prefers
		{"SET", "a", "x"}, {"HSET", "a", "f", "v"}, {"RPUSH", "a", "x"}, {"SADD", "a", "x"}, {"ZADD", "a", "1", "x"}, {"XADD", "a", "*", "f", "v"},
	}
	rapid.Check(t, func(t *rapid.T) {
		w, choose := newWorld(t), chance(t)
		w.do(first[choose(len(first))]...)
		for range 150 {
			w.now += int64(choose(3))
			w.apply(someTask(choose, Commands(), 2))
			w.db = 0
			for _, key := range []string{"a", "b"} {
				w.sweep(1000)
				task := w.task([]string{"DUMP", key})
				w.p.Query(w.now, 1, task)
				c := task.Reply.(*Recording).Cursor()
				payload := c.Next()
				if payload.Kind != ReplyBulk {
					continue
				}
				before := w.contents(key)
				undone := w.task([]string{"RESTORE", key, "5", string(payload.Bytes), "REPLACE"}, []string{"RESTORE", "copy", "0", string(payload.Bytes), "REPLACE"}, []string{"INCR", "list of things", "x"})
				undone.Atomic = true
				digest := w.p.Digest()
				if w.apply(undone); undone.Failed != 2 || w.p.Digest() != digest {
					t.Fatalf("call %d failed, or not all was undone", undone.Failed)
				}
				if got := w.do("RESTORE", "copy", "0", string(payload.Bytes), "REPLACE"); got != "OK" {
					t.Fatalf("RESTORE of %q answers %s", payload.Bytes, got)
				}
				if after := w.contents("copy"); after != before {
					t.Fatalf("%q came back as %s, was %s", payload.Bytes, after, before)
				}
				if got := w.do("TTL", "copy"); got != "-1" {
					t.Fatalf("TTL %s", got)
				}
				restored[w.do("TYPE", "copy")]++
				w.do("DEL", "copy")
			}
		}
	})
	for _, kind := range []string{"string", "hash", "list", "set", "zset", "stream"} {
		if restored[kind] == 0 {
			t.Errorf("no %s was restored", kind)
		}
	}
}

// TestOldStreamsAreRestored: before Redis 7 a dump did not tell what groups had read.
func TestOldStreamsAreRestored(t *testing.T) {
	w := newWorld(t)
	payload := rdb.AppendText([]byte{byte(rdb.TypeStream), 0, 0, 5, 1, 1}, []byte("g")) // no entries, the last 5-1, one group
	payload = rdb.AppendTrailer(append(payload, 3, 0, 0, 0))                            // at 3-0, with nothing pending and no consumer
	if got := w.do("RESTORE", "k", "0", string(payload)); got != "OK" {
		t.Fatal(got)
	}
	if got := w.do("XINFO", "GROUPS", "k"); !strings.Contains(got, `"entries-read" 0`) {
		t.Errorf("a group that has read nothing of an empty stream: %s", got)
	}
}

// TestLargeDumpsComeBack: collections of both forms, and the bounds between them.
func TestLargeDumpsComeBack(t *testing.T) {
	w := newWorld(t)
	for _, n := range []int{1, 10, 127, 128, 129, 511, 512, 513, 3000} {
		for _, width := range []int{1, 60, 300} {
			for _, name := range []string{"RPUSH", "SADD", "ZADD", "HSET", "XADD"} {
				call := []string{name, "k"}
				if name == "XADD" {
					call = append(call, "*")
				}
				for i := range n {
					e := strings.Repeat("x", width) + strconv.Itoa(i)
					switch name {
					case "ZADD":
						call = append(call, strconv.Itoa(i%7), e)
					case "HSET", "XADD":
						call = append(call, e, e)
					default:
						call = append(call, e)
					}
				}
				w.do(call...)
				task := w.task([]string{"DUMP", "k"})
				w.p.Query(w.now, 1, task)
				c := task.Reply.(*Recording).Cursor()
				payload := string(c.Next().Bytes)
				if got := w.do("RESTORE", "copy", "0", payload); got != "OK" {
					t.Fatalf("%s of %d: %s", name, n, got)
				}
				if before, after := w.contents("k"), w.contents("copy"); before != after {
					t.Fatalf("%s of %d came back as %.300s, was %.300s", name, n, after, before)
				}
				w.do("DEL", "k", "copy")
			}
		}
	}
}

// TestRestoreIsBounded: a payload that holds more than the cache may, or than one value may, changes nothing.
func TestRestoreIsBounded(t *testing.T) {
	sealed := func(value []byte) string { return string(rdb.AppendTrailer(value)) }
	w := newWorld(t)
	w.configure(Settings{MaxValue: 1 << 20})
	w.do("SET", "k", "v")
	compressed := append([]byte{0, 'x'}, strings.Repeat("\xe0\xff\x00", 20_000)...)
	bomb := rdb.AppendLength(rdb.AppendLength([]byte{0, 0xc3}, uint64(len(compressed))), 1+20_000*264)
	if got := w.do("RESTORE", "k", "0", sealed(append(bomb, compressed...)), "REPLACE"); !strings.HasPrefix(got, "(error) ERR the payload holds more than") {
		t.Errorf("5 MiB: %.100s", got)
	}
	w.configure(Settings{MemoryLimit: 4 << 20, MaxValue: 32 << 20})
	if got := w.do("RESTORE", "k", "0", sealed(append(bomb, compressed...)), "REPLACE"); !strings.HasPrefix(got, "(error) OOM") {
		t.Errorf("5 MiB where 4 may be: %.100s", got)
	}
	long := append(rdb.AppendLength([]byte{byte(rdb.TypeSet), 1}, MaxKey+1), make([]byte, MaxKey+1)...)
	if got := w.do("RESTORE", "k", "0", sealed(long), "REPLACE"); !strings.HasPrefix(got, "(error) ERR max member size exceeded") {
		t.Errorf("a long member: %.100s", got)
	}
	if got := w.do("GET", "k"); got != `"v"` {
		t.Errorf("k is %s", got)
	}
}

// FuzzRestore: whatever is restored leaves every invariant true, and can be dumped and restored again.
func FuzzRestore(f *testing.F) {
	for _, dump := range someDumps() {
		if len(dump) > 10 {
			f.Add([]byte(dump[:len(dump)-10]), uint16(binary.LittleEndian.Uint16([]byte(dump[len(dump)-10:]))))
		}
	}
	w := newWorld(f)
	w.do("XADD", "k", "5-1", "f", "v", "g", "w")
	w.do("XADD", "k", "6-1", "f", "v")
	w.do("XADD", "k", "7-1", "f", "v", "g", "x")
	w.do("XGROUP", "CREATE", "k", "g", "0")
	w.do("XREADGROUP", "GROUP", "g", "ann", "COUNT", "2", "STREAMS", "k", ">")
	w.do("XDEL", "k", "6-1")
	task := w.task([]string{"DUMP", "k"})
	w.p.Query(w.now, 1, task)
	c := task.Reply.(*Recording).Cursor()
	dump := c.Next().Bytes
	f.Add(dump[:len(dump)-10], uint16(10))
	f.Fuzz(func(t *testing.T, value []byte, version uint16) {
		w := newWorld(t)
		w.configure(Settings{MaxValue: 1 << 20, MemoryLimit: 8 << 20})
		dump := binary.LittleEndian.AppendUint16(append([]byte(nil), value...), version)
		dump = binary.LittleEndian.AppendUint64(dump, rdb.Checksum(dump))
		if w.do("RESTORE", "k", "0", string(dump)) != "OK" || w.do("EXISTS", "k") == "0" {
			return
		}
		task := w.task([]string{"DUMP", "k"})
		w.p.Query(w.now, 1, task)
		c := task.Reply.(*Recording).Cursor()
		again := c.Next()
		if got := w.do("RESTORE", "again", "0", string(again.Bytes)); got != "OK" {
			t.Fatalf("RESTORE of %q answers %s", again.Bytes, got)
		}
		if a, b := w.contents("k"), w.contents("again"); a != b {
			t.Fatalf("%.500s came back as %.500s", a, b)
		}
	})
}
