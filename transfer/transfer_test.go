package transfer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/rdb"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/peers"
)

const sampleFile = "../engine/rdb/testdata/redis-7.0.rdb"

var (
	cacheID = engine.CacheID{7}
	now     = time.UnixMilli(1_800_000_000_000)
)

// A partition is a target that is one partition of an engine.
type partition struct {
	t    testing.TB
	p    *engine.Partition
	seed uint64

	largest  int          // bytes of the largest command
	refuse   func() error // asked before each batch; nil for never
	commands []string     // names of commands carried out
}

func newPartition(t testing.TB, s engine.Settings) *partition {
	p := &partition{t: t, p: engine.New(engine.Seed{1, 2})}
	p.apply(engine.ConfigureTask(cacheID, s))
	t.Cleanup(p.p.Close)
	return p
}

func (p *partition) apply(task *engine.Task) {
	p.seed++
	p.p.Apply(&engine.Entry{Now: now.UnixMilli(), Seed: p.seed, Tasks: []*engine.Task{task}})
}

// Do implements Target.
func (p *partition) Do(_ context.Context, db int, commands []Command, whole bool) ([]error, error) {
	if p.refuse != nil {
		if err := p.refuse(); err != nil {
			return nil, err
		}
	}
	var reply engine.Recording
	task := &engine.Task{Cache: cacheID, DB: db, Reply: &reply, Whole: whole}
	for _, c := range commands {
		p.largest = max(p.largest, c.size())
		p.commands = append(p.commands, string(c[0]))
		task.Calls = append(task.Calls, engine.Call{Command: engine.MustLookup(strings.ToUpper(string(c[0]))), Args: c})
	}
	p.apply(task)
	c := reply.Cursor()
	results := make([]error, len(commands))
	for i := range results {
		first := c
		if t := first.Next(); t.Kind == engine.ReplyError {
			results[i] = t.Err
		}
		c.Skip()
	}
	return results, nil
}

// Exists implements Asker.
func (p *partition) Exists(_ context.Context, db int, key []byte) (bool, error) {
	return p.int(db, "EXISTS", string(key)) > 0, nil
}

// int carries out a command and returns the integer that it answers.
func (p *partition) int(db int, args ...string) int64 {
	var reply engine.Recording
	c := command(args...)
	p.apply(&engine.Task{Cache: cacheID, DB: db, Reply: &reply, Calls: []engine.Call{{Command: engine.MustLookup(args[0]), Args: c}}})
	cursor := reply.Cursor()
	return cursor.Next().Int
}

// do carries out commands that are separated by semicolons.
func (p *partition) do(text string) {
	p.t.Helper()
	for line := range strings.SplitSeq(text, ";") {
		if results, err := p.Do(context.Background(), 0, []Command{command(strings.Fields(line)...)}, false); err != nil || results[0] != nil {
			p.t.Fatalf("%s: %v, %v", line, err, results)
		}
	}
}

// export writes what the partition holds.
func (p *partition) export(format string, version int) ([]byte, *Report) {
	p.t.Helper()
	var b bytes.Buffer
	e := NewExporter(&b, ExportOptions{Format: format, Version: version, Now: now, Rooms: Rooms(p.t.TempDir()), Server: "test"})
	cut, ok := p.p.CutCache(cacheID, engine.CutOptions{})
	if !ok {
		p.t.Fatal("no cut")
	}
	var all []byte
	for more := true; more; {
		all, more = cut.Read(all, 1<<16)
	}
	cut.Close()
	if err := e.Cut(iotest.HalfReader(bytes.NewReader(all))); err != nil {
		p.t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		p.t.Fatal(err)
	}
	if e.Report.Bytes != int64(b.Len()) {
		p.t.Errorf("%d bytes were written, %d are said to be", b.Len(), e.Report.Bytes)
	}
	return b.Bytes(), &e.Report
}

func options(mode Mode) Options {
	return Options{Mode: mode, MaxValue: 32 << 20, Now: func() time.Time { return now }}
}

func (p *partition) load(file []byte, o Options) (*Report, error) {
	p.t.Helper()
	format, err := Detect(bufio.NewReader(bytes.NewReader(file)))
	if err != nil {
		p.t.Fatal(err)
	}
	in := io.Reader(bytes.NewReader(file))
	if len(file) < 100_000 {
		in = iotest.HalfReader(in)
	}
	switch format {
	case "rdb":
		r, _, err := LoadDatabase(context.Background(), in, p, o)
		return r, err
	case "jsonl":
		return LoadLines(context.Background(), in, p, o)
	}
	r, _, err := LoadCommands(context.Background(), in, p, o)
	return r, err
}

// A told sink writes a value down. The order of elements counts in lists and streams alone.
type told struct {
	list []string
}

func (s *told) say(format string, args ...any) error {
	s.list = append(s.list, fmt.Sprintf(format, args...))
	return nil
}
func (s *told) String(b []byte) error                   { return s.say("%q", b) }
func (s *told) Element(b []byte) error                  { return s.say("%q", b) }
func (s *told) Member(b []byte, score float64) error    { return s.say("%q=%v", b, score) }
func (s *told) Field(b, v []byte, at int64) error       { return s.say("%q:%q@%d", b, v, at) }
func (s *told) Entry(id rdb.StreamID, f [][]byte) error { return s.say("%v %q", id, f) }
func (s *told) Stream(m rdb.StreamMarks) error          { return s.say("%+v", m) }
func (s *told) Pending(id rdb.StreamID, at int64, n uint64) error {
	return s.say("pending %v %d %d", id, at, n)
}
func (s *told) Owed(id rdb.StreamID) error { return s.say("owed %v", id) }
func (s *told) Group(b []byte, last rdb.StreamID, read int64) error {
	return s.say("group %q %v %d", b, last, read)
}
func (s *told) Consumer(b []byte, seen, active int64) error { return s.say("consumer %q", b) }

// contents are what an RDB file holds, by database and key.
func contents(t testing.TB, file []byte) map[string]string {
	t.Helper()
	f, err := rdb.NewFile(bytes.NewReader(file), rdb.Limits{Text: math.MaxInt32, Total: math.MaxInt64, Elements: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for {
		r, err := f.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind == rdb.RecordFunction {
			all["function"] = string(r.Text)
		}
		if r.Kind != rdb.RecordValue {
			continue
		}
		s := &told{}
		if err := f.Value(s); err != nil {
			t.Fatal(err)
		}
		if k := r.Type.Kind(); k != rdb.List && k != rdb.Stream {
			slices.Sort(s.list)
		}
		all[fmt.Sprintf("%d %s", r.DB, r.Key)] = fmt.Sprintf("%d %s", r.ExpireAt, strings.Join(s.list, " "))
	}
}

func compare(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			t.Errorf("%s: %s is\n%.300s, not\n%.300s", what, key, got[key], want[key])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d keys, not %d", what, len(got), len(want))
	}
}

func sample(t testing.TB) []byte {
	b, err := os.ReadFile(sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWhatRedisWroteComesBack: in as RDB, out as RDB; out as JSON lines, in again, out as RDB: all the same.
func TestWhatRedisWroteComesBack(t *testing.T) {
	want := contents(t, sample(t))
	delete(want, "3 gone")
	p := newPartition(t, engine.Settings{})
	r, err := p.load(sample(t), options(Refuse))
	if err != nil || r.Keys != 24 || r.Expired != 1 || r.Functions != 1 || len(r.Skipped) > 0 || r.ByType["stream"] != 2 || !strings.HasPrefix(r.Source, "redis 7.0") {
		t.Fatalf("%+v, %v", r, err)
	}
	file, out := p.export("rdb", 0)
	compare(t, "rdb", contents(t, file), want)
	if out.Keys != 24 || out.Left() != 0 {
		t.Errorf("%+v", out)
	}
	lines, out := p.export("jsonl", 0)
	if out.Keys != 24 || len(out.Notes) != 1 {
		t.Errorf("%+v", out)
	}
	again := newPartition(t, engine.Settings{})
	if r, err := again.load(lines, options(Refuse)); err != nil || r.Keys != 24 || len(r.Skipped) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	file, _ = again.export("rdb", 0)
	delete(want, "function")
	compare(t, "jsonl", contents(t, file), want)
}

// large is a file with collections that come in pieces.
func large(version int) []byte {
	var b bytes.Buffer
	w := rdb.NewWriter(&b, version)
	var v []byte
	count := func(n int) { v = rdb.AppendLength(v[:0], uint64(n)) }
	text := func(format string, args ...any) { v = rdb.AppendText(v, fmt.Appendf(nil, format, args...)) }
	at := now.UnixMilli() + 1e9
	w.Key(0, []byte("list"), at, rdb.TypeList)
	count(9000)
	for i := range 9000 {
		text("element %d %s", i, strings.Repeat("x", i%90))
	}
	w.Write(v)
	w.Key(0, []byte("set"), 0, rdb.TypeSet)
	count(5000)
	for i := range 5000 {
		text("%d", i*i)
	}
	w.Write(v)
	w.Key(2, []byte("zset"), at, rdb.TypeZSet)
	count(5000)
	for i := range 5000 {
		text("member:%d", i)
		v = rdb.AppendDouble(v, []float64{float64(i) / 3, math.Inf(1), math.Inf(-1), 1e300, -0.5}[i%5])
	}
	w.Write(v)
	t := rdb.TypeHash
	if version >= rdb.NewestFile {
		t = rdb.TypeHashDeadlines
	}
	w.Key(0, []byte("hash"), 0, t)
	v = v[:0]
	if t == rdb.TypeHashDeadlines {
		v = rdb.AppendMillis(v, at)
	}
	v = rdb.AppendLength(v, 5000)
	for i := range 5000 {
		if t == rdb.TypeHashDeadlines {
			v = rdb.AppendLength(v, uint64([]int{0, 1, 500, 1000}[i%4]))
		}
		text("field:%d", i)
		text("%s", strings.Repeat("v", i%50))
	}
	w.Write(v)
	w.Key(0, []byte("stream"), at, rdb.TypeStream2)
	v = rdb.AppendLength(v[:0], 56)
	var block rdb.StreamBlock
	for i := range 56 {
		var entries []streamEntry
		for j := range 90 {
			entries = append(entries, streamEntry{rdb.StreamID{Ms: uint64(i + 1), Seq: uint64(j)}, [][]byte{[]byte("f"), fmt.Appendf(nil, "value %d", j), []byte("own")[:1+j%3], nil}})
		}
		v = appendBlock(v, &block, entries)
	}
	v = rdb.AppendLength(v, 5040)
	for _, id := range []rdb.StreamID{{Ms: 200}, {Ms: 1}, {Ms: 150}} {
		v = rdb.AppendID(v, id)
	}
	v = rdb.AppendLength(v, 9500)
	g := groupList{counted: true}
	g.group([]byte("g"), rdb.StreamID{Ms: 50, Seq: 3}, 4503)
	g.pending(rdb.StreamID{Ms: 1}, now.UnixMilli()-5, 3)
	g.pending(rdb.StreamID{Ms: 2, Seq: 1}, now.UnixMilli()-4, 1)
	g.consumer([]byte("ann"), now.UnixMilli(), noActivity)
	g.owed(rdb.StreamID{Ms: 2, Seq: 1})
	g.consumer([]byte("bob"), now.UnixMilli(), noActivity)
	g.owed(rdb.StreamID{Ms: 1})
	g.group([]byte("h"), rdb.StreamID{}, -1)
	g.consumer([]byte("idle"), now.UnixMilli(), noActivity)
	w.Write(g.append(v))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// TestLargeCollectionsComeInPieces, none of which is large, and are what they were, whichever way they take.
func TestLargeCollectionsComeInPieces(t *testing.T) {
	for _, version := range []int{rdb.DefaultFile, rdb.NewestFile} {
		file := large(version)
		want := contents(t, file)
		p := newPartition(t, engine.Settings{})
		if r, err := p.load(file, options(Refuse)); err != nil || r.Keys != 5 || len(r.Skipped) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		if p.largest > 1<<20 {
			t.Errorf("a command of %d bytes", p.largest)
		}
		out, _ := p.export("rdb", version)
		compare(t, "rdb", contents(t, out), want)
		lines, _ := p.export("jsonl", 0)
		again := newPartition(t, engine.Settings{})
		again.do("RPUSH list old;SET hash old")
		if r, err := again.load(lines, options(Replace)); err != nil || r.Keys != 5 || len(r.Skipped) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		out, _ = again.export("rdb", version)
		compare(t, "jsonl", contents(t, out), want)
		if version == rdb.NewestFile {
			if _, r := p.export("rdb", rdb.DefaultFile); len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "deadlines of fields") {
				t.Errorf("%+v", r)
			}
		}
	}
}

func TestModes(t *testing.T) {
	file := large(rdb.DefaultFile)
	for _, tt := range []struct {
		mode    Mode
		keys    int64
		skipped int64
		list    int64
		fails   bool
	}{{Refuse, 0, 0, 1, true}, {Skip, 4, 1, 1, false}, {Replace, 5, 0, 9000, false}} {
		p := newPartition(t, engine.Settings{})
		p.do("RPUSH list old")
		r, err := p.load(file, options(tt.mode))
		if (err != nil) != tt.fails || r.Keys != tt.keys || r.Left() != tt.skipped || p.int(0, "LLEN", "list") != tt.list {
			t.Errorf("%+v: %+v, %v, %d elements", tt, r, err, p.int(0, "LLEN", "list"))
		}
		if err != nil && (!fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), `"list"`)) {
			t.Error(err)
		}
	}
	p := newPartition(t, engine.Settings{})
	o := options(Refuse)
	o.DBs, o.Prefix = []int{0}, []byte("s")
	if r, err := p.load(file, o); err != nil || r.Keys != 2 || r.Filtered != 3 || p.int(0, "DBSIZE") != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestTypesOfOurOwn go out as JSON lines and come in again; an RDB file leaves them out and says so.
func TestTypesOfOurOwn(t *testing.T) {
	p := newPartition(t, engine.Settings{})
	p.do(`KV.SET tagged {"a":1} TYPE application/json FLAGS 7 PXAT 1800000100000;JSON.SET doc $ {"a":[1,2.5,null,"x"]};EXPIRE doc 100;SESSION.CREATE s {"n":1} USER ann IDLE 60000 TTL 90000;` +
		`LEADERBOARD.CREATE board TIES FIRST KEEP 10 DESC;LEADERBOARD.PUT board SET 5 zed 5 abe 7 top;LEADERBOARD.CREATE none;BF.ADD filter x;SET plain v`)
	_, r := p.export("rdb", 0)
	if r.Keys != 2 || r.Left() != 5 || len(r.Notes) != 1 {
		t.Errorf("%+v", r)
	}
	lines, r := p.export("jsonl", 0)
	if r.Keys != 7 || r.ByType["leaderboard"] != 2 || r.ByType["session"] != 1 || r.ByType["json"] != 1 {
		t.Errorf("%+v", r)
	}
	again := newPartition(t, engine.Settings{})
	again.do("SET doc old")
	if r, err := again.load(lines, options(Skip)); err != nil || r.Keys != 5 || r.Left() != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	r, err := again.load(lines, options(Replace))
	if err != nil || r.Keys != 6 || r.Left() != 1 || !strings.Contains(r.Skipped[0].Reason, "MBbloom--") {
		t.Fatalf("%+v, %v", r, err)
	}
	once, _ := p.export("jsonl", 0)
	twice, _ := again.export("jsonl", 0)
	for line := range strings.Lines(string(once)) {
		if !strings.Contains(line, "filter") && !strings.Contains(string(twice), line) {
			t.Errorf("%s is not in %s", line, twice)
		}
	}
	table, _ := p.export("csv", 0)
	rows, err := csv.NewReader(bytes.NewReader(table)).ReadAll()
	if err != nil || len(rows) != 8 {
		t.Fatalf("%v: %s", err, table)
	}
	for _, row := range rows {
		if row[1] == "board" && row[4] != `[["zed",5],["abe",5],["top",7]]` || row[1] == "tagged" && (row[3] != "100000" || row[4] != `{"a":1}`) || row[1] == "doc" && row[4] != `{"a":[1,2.5,null,"x"]}` {
			t.Errorf("%q", row)
		}
	}
}

// TestErrorsNameTheOffset, and what came before stays.
func TestErrorsNameTheOffset(t *testing.T) {
	file := sample(t)
	for name, tt := range map[string]struct {
		file []byte
		want string
	}{
		"a damaged RDB file":       {append(slices.Clone(file[:len(file)-1]), 0), "checksum"},
		"one that was cut off":     {file[:5000], "too soon"},
		"a damaged line":           {[]byte(`{"key":"a","type":"string","value":"b"}` + "\n" + `{"key":"a","type":"string","value":}`), "at byte 7"},
		"a line without a value":   {[]byte(`{"key":"a","type":"string"}`), "no value"},
		"a value before the key":   {[]byte(`{"type":"string","value":"v","key":"k"}`), "before the value"},
		"an empty list":            {[]byte(`{"key":"a","type":"list","value":[]}`), "empty collection"},
		"a field without a value":  {[]byte(`{"key":"a","type":"hash","value":[["f"]]}`), "should have 2"},
		"a line that is cut off":   {[]byte(`{"key":"a","type":"string","val`), "EOF"},
		"a command that is cut":    {[]byte("*2\r\n$3\r\nGET\r\n$1\r\n"), "EOF"},
		"no command":               {[]byte("*1\r\n+OK\r\n"), "begins with"},
		"a transaction cut off":    {[]byte("*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"), "not carried out"},
		"a huge number of args":    {[]byte("*99999999\r\n"), "arguments"},
		"an argument without end":  {[]byte("*1\r\n$99999999999\r\n"), "at most"},
		"a score that is no score": {[]byte(`{"key":"a","type":"zset","value":[["m","nan"]]}`), "no score"},
	} {
		p := newPartition(t, engine.Settings{})
		_, err := p.load(tt.file, options(Replace))
		var e *fault.Error
		if !errors.As(err, &e) || !strings.Contains(e.Message, "at byte ") || !strings.Contains(e.Message, tt.want) || p.int(0, "EXISTS", "k") != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := newPartition(t, engine.Settings{MemoryLimit: 1 << 20})
	r, err := p.load(large(rdb.DefaultFile), options(Replace))
	if !fault.Is(err, fault.OutOfMemory) || !strings.Contains(fault.From(err).Message, "at byte ") {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestWhatIsTooLargeIsLeftOut, and nothing of it stays; all else comes.
func TestWhatIsTooLargeIsLeftOut(t *testing.T) {
	var b bytes.Buffer
	w := rdb.NewWriter(&b, rdb.DefaultFile)
	w.Key(0, []byte("big"), 0, rdb.TypeString)
	w.Write(rdb.AppendText(nil, make([]byte, 17<<20)))
	w.Key(0, []byte("list"), 0, rdb.TypeList)
	v := rdb.AppendLength(nil, 10001)
	for range 10000 {
		v = rdb.AppendText(v, []byte("element"))
	}
	w.Write(rdb.AppendText(v, make([]byte, 17<<20)))
	w.Key(0, []byte("k"), 0, rdb.TypeString)
	w.Write(rdb.AppendText(nil, []byte("v")))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p := newPartition(t, engine.Settings{MaxValue: 1 << 20})
	o := options(Refuse)
	o.MaxValue = 1 << 20
	r, err := p.load(b.Bytes(), o)
	if err != nil || r.Keys != 1 || r.Left() != 2 || p.int(0, "DBSIZE") != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestATargetWithoutTimeIsWaitedFor, as long as nothing was done.
func TestATargetWithoutTimeIsWaitedFor(t *testing.T) {
	p := newPartition(t, engine.Settings{})
	asked := 0
	p.refuse = func() error {
		if asked++; asked%2 == 1 {
			return fault.New(fault.Throttled, "test", "wait")
		}
		return nil
	}
	if r, err := p.load([]byte(`{"key":"a","type":"string","value":"b"}`), options(Replace)); err != nil || r.Keys != 1 || asked != 2 {
		t.Errorf("%+v, %v after %d questions", r, err, asked)
	}
	p.refuse = func() error { return fault.New(fault.OutcomeUnknown, "test", "who knows") }
	if _, err := p.load(sample(t), options(Replace)); !fault.Is(err, fault.OutcomeUnknown) {
		t.Error(err)
	}
}

// TestCommandsAndTransactions as clients send them, behind an RDB file as in a log of Redis.
func TestCommandsAndTransactions(t *testing.T) {
	var log []byte
	for line := range strings.SplitSeq("SELECT 0;SET a 1;SELECT 3;INCR a;MULTI;SET b 1;INCR b;EXEC;MULTI;SET c 1;LPUSH c x;EXEC;INCR a;LPUSH a x;#TS:5;PING", ";") {
		if strings.HasPrefix(line, "#") {
			log = append(log, line+"\r\n"...)
			continue
		}
		words := strings.Fields(line)
		log = fmt.Appendf(log, "*%d\r\n", len(words))
		for _, w := range words {
			log = fmt.Appendf(log, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	p := newPartition(t, engine.Settings{})
	r, failures, err := LoadDatabase(context.Background(), bytes.NewReader(append(sample(t), log...)), p, options(Replace))
	if err != nil || r.Keys != 24 || r.Commands != 7 || len(failures) != 2 || failures[0].Index != 10 || failures[1].Code != "wrong_type" || failures[1].Index != 13 || r.Bytes != int64(len(sample(t))+len(log)) {
		t.Errorf("%+v, %v, %v", r, failures, err)
	}
	if a, b, c := p.int(3, "INCR", "a"), p.int(3, "INCR", "b"), p.int(3, "EXISTS", "c"); a != 3 || b != 3 || c != 1 {
		t.Errorf("a is %d, b is %d, c is there %d times", a, b, c)
	}
}

// TestARoomKeepsItsSecret: what is beyond its memory lies in no file that can be read.
func TestARoomKeepsItsSecret(t *testing.T) {
	dir := t.TempDir()
	made, err := Rooms(dir)()
	if err != nil {
		t.Fatal(err)
	}
	r := made.(*room)
	var want []byte
	for i := range 40_000 {
		piece := fmt.Appendf(nil, "canary %d %s;", i, strings.Repeat("y", i%100))
		want = append(want, piece...)
		if _, err := r.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []int{0, 1, 15, 16, 17, 4096, roomBytes - 1, roomBytes, roomBytes + 5, len(want) - 3} {
		got := make([]byte, min(1000, len(want)-at))
		if n, err := r.ReadAt(got, int64(at)); n != len(got) || err != nil && err != io.EOF || !bytes.Equal(got, want[at:at+n]) {
			t.Errorf("at %d: %d bytes, %v", at, n, err)
		}
	}
	raw := make([]byte, 1<<20)
	if _, err := r.file.ReadAt(raw, 0); err != nil || bytes.Contains(raw, []byte("canary")) {
		t.Errorf("%v, or the file can be read", err)
	}
	if names, _ := filepath.Glob(dir + "/*"); len(names) > 0 {
		t.Errorf("%v", names)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// FuzzImport: whatever comes in, it ends, and the partition keeps its invariants.
func FuzzImport(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(`{"db":1,"key":"k","type":"stream","expires_at":1900000000000,"value":{"entries":[["1-1",["a","b"]]],"last_id":"2-0","groups":[{"name":"g","last_id":"1-1","pending":[["1-1",5,1]],"consumers":[{"name":"c","pending":["1-1"]}]}]}}`))
	f.Add([]byte(`{"key":{"base64":"/w=="},"type":"zset","value":[["a",1],["b","inf"]]}`))
	f.Add([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\nPING\r\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		format, err := Detect(bufio.NewReader(bytes.NewReader(file)))
		if err != nil || format == "commands" { // which are the engine's to fuzz
			return
		}
		p := newPartition(t, engine.Settings{MemoryLimit: 64 << 20})
		o := options(Replace)
		o.MaxValue = 1 << 16
		r, err := p.load(file, o)
		if err != nil && fault.From(err).Kind == fault.Internal {
			t.Fatalf("%v", err)
		}
		if r != nil && r.Keys > int64(len(file)) {
			t.Fatalf("%d keys of %d bytes", r.Keys, len(file))
		}
	})
}

// A redis is a connection to a real server.
type redis struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func (r *redis) do(args ...string) string {
	r.t.Helper()
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
	line, err := r.r.ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	if line[0] == '-' {
		r.t.Fatalf("%.100q: %s", args, line)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(line[1:])); line[0] == '$' && err == nil && n >= 0 {
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r.r, b); err != nil {
			r.t.Fatal(err)
		}
		return string(b[:n])
	}
	return strings.TrimSpace(line[1:])
}

// TestExportsLoadIntoRedis: what a real server loads of our file is, by its own digest, what it loads of the file it came from.
func TestExportsLoadIntoRedis(t *testing.T) {
	socket := peers.Redis(t)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := &redis{t, conn, bufio.NewReader(conn)}
	load := func(file []byte) string {
		if err := os.WriteFile(filepath.Join(filepath.Dir(socket), "dump.rdb"), file, 0o600); err != nil {
			t.Fatal(err)
		}
		r.do("DEBUG", "RELOAD", "NOSAVE")
		return r.do("DEBUG", "DIGEST")
	}
	for name, file := range map[string][]byte{"every type and encoding": sample(t), "large collections": large(rdb.DefaultFile)} {
		want := load(file)
		p := newPartition(t, engine.Settings{})
		if report, err := p.load(file, options(Refuse)); err != nil || report.Left() > 0 {
			t.Fatalf("%+v, %v", report, err)
		}
		for _, version := range []int{rdb.OldestFile, rdb.DefaultFile} {
			out, _ := p.export("rdb", version)
			if got := load(out); got != want || strings.Trim(want, "0") == "" {
				t.Errorf("%s, version %d: digest %s, not %s", name, version, got, want)
			}
		}
	}
}
