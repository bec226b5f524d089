package engine

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/engine/dense"
)

// readAll reads a cut to its end, a little at a time, with something else in between.
func readAll(s *CutStream, atMost func() int, between func()) (b []byte) {
	defer s.Close()
	for more := true; more; {
		between()
		b, more = s.Read(b, atMost())
	}
	return b
}

// restored is a partition made of a cut that comes in pieces of any size.
func restored(t tester, seed Seed, b []byte, atMost func() int) *Partition {
	t.Helper()
	p := New(seed)
	r := RestorePartition(p)
	for len(b) > 0 {
		n := min(len(b), atMost())
		if _, err := r.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	if err := r.Done(); err != nil {
		t.Fatal(err)
	}
	if err := p.check(); err != nil {
		t.Fatal(err)
	}
	return p
}

// sameState compares all that replicas agree on, with the accounts.
func sameState(t tester, got, want *Partition) {
	t.Helper()
	for _, id := range want.Caches() {
		a, _ := got.Stats(id)
		b, _ := want.Stats(id)
		if a.Bytes != b.Bytes || a.Items != b.Items {
			t.Fatalf("cache %s has %d items of %d bytes, should have %d of %d", id, a.Items, a.Bytes, b.Items, b.Bytes)
		}
	}
	if got.Digest() == want.Digest() && got.now == want.now {
		return
	}
	for _, id := range want.Caches() {
		a, b := itemsOf(got, id), itemsOf(want, id)
		for key, text := range b {
			if a[key] != text {
				t.Fatalf("cache %s differs in %s:\n got %.400q\nwant %.400q", id, key, a[key], text)
			}
		}
	}
	t.Fatalf("the digests differ; version %d, should be %d; time %d, should be %d", got.version, want.version, got.now, want.now)
}

// itemsOf are the items of a cache as the digest has them.
func itemsOf(p *Partition, id CacheID) map[string]string {
	all := map[string]string{}
	for db, k := range p.caches[id].dbs {
		if k == nil {
			continue
		}
		k.table.Each(0, func(_ uint64, r dense.Ref) bool {
			it := &item{home: k, ref: r}
			it.load()
			all[fmt.Sprintf("%d %q %s", db, it.key, it.value.kind())] = fmt.Sprint(it.expireAt, " ", string(it.value.encode(nil)))
			return true
		})
	}
	return all
}

// TestRestoredPartitionIsTheSame: a cut is read while entries of every kind go on; what is restored from it is the partition as
// it was when the cut began, and stays the same as the original when it is given the entries that came after.
func TestRestoredPartitionIsTheSame(t *testing.T) {
	met := map[frameKind]int{}
	rapid.Check(t, func(t *rapid.T) {
		w, choose := newWorld(t), chance(t)
		still := New(Seed{1, 2})
		w.p.Apply(&Entry{Now: start, Tasks: []*Task{ConfigureTask(CacheID{2}, Settings{MemoryLimit: 1 << 20, DefaultTTL: 5})}})
		still.Apply(&Entry{Now: start, Tasks: []*Task{ConfigureTask(testCache, Settings{})}})
		still.Apply(&Entry{Now: start, Tasks: []*Task{ConfigureTask(CacheID{2}, Settings{MemoryLimit: 1 << 20, DefaultTTL: 5})}})
		entry := func() *Entry {
			w.now += int64(choose(12))
			w.seed++
			e := someEntry(choose, w.p, w.now, w.seed)
			for _, task := range e.Tasks {
				if choose(4) == 0 && len(task.Calls) > 0 && task.Calls[0].Command.Flags&internal == 0 {
					task.Cache = CacheID{2}
				}
			}
			return e
		}
		library := "#!lua name=first\nserver.register_function('first', function() return 1 end)" // which the generator does rarely
		load := &Entry{Now: w.now, Tasks: []*Task{w.task([]string{"FUNCTION", "LOAD", library}, []string{"SCRIPT", "LOAD", "return 1"}, []string{"MC.FLUSH", "100"})}}
		w.p.Apply(load)
		still.Apply(deaf(load))
		for range 30 {
			e := entry()
			w.p.Apply(e)
			still.Apply(deaf(e))
		}
		var after []*Entry
		step := func() {
			for range choose(4) {
				e := entry()
				w.p.Apply(e)
				after = append(after, deaf(e))
			}
		}
		cut, ok := w.p.CutPartition()
		if !ok {
			t.Fatal("no cut")
		}
		b := readAll(cut, func() int { return 1 + choose(400) }, step)
		for r, rest := (&frameReader{}), b; len(rest) > 0; {
			var frame []byte
			frame, rest, _ = r.next(rest)
			met[frameKind(frame[0])]++
		}
		twin := restored(t, Seed{1, 2}, b, func() int { return 1 + choose(300) })
		sameState(t, twin, still)
		for _, e := range after {
			twin.Apply(deaf(e))
			still.Apply(deaf(e))
			if err := twin.check(); err != nil {
				t.Fatal(err)
			}
			sameState(t, twin, still)
		}
		sameState(t, twin, w.p)
	})
	met[frameOnce] += met[frameOnceAt] // of tasks that know their slot
	for kind := frameBegin; kind <= frameEnd; kind++ {
		if met[kind] == 0 && kind != frameObject && kind != frameElement && kind != frameObjectEnd && !testing.Short() {
			t.Errorf("no cut had a frame %d", kind)
		}
	}
}

// bigWorlds are a partition with large collections, and a replica of it.
func bigWorlds(t tester, rng *rand.Rand) (live, still *world, step func(worlds ...*world)) {
	live, still = newWorld(t), newWorld(t)
	now := start
	for _, w := range []*world{live, still} {
		for _, line := range [][]string{
			{"XGROUP", "CREATE", "xa", "g", "0", "MKSTREAM"}, {"XGROUP", "CREATE", "xb", "h", "0", "MKSTREAM"},
			{"LEADERBOARD.CREATE", "zb", "TIES", "FIRST"}, {"LEADERBOARD.CREATE", "zc", "TIES", "LAST", "KEEP", "700"},
		} {
			w.do(line...)
		}
	}
	command := func() []string {
		key := string(rune('a' + rng.IntN(3)))
		switch rng.IntN(12) {
		case 0:
			return []string{"XREADGROUP", "GROUP", "g", fmt.Sprint("c", rng.IntN(3)), "COUNT", fmt.Sprint(1 + rng.IntN(90)), "STREAMS", "xa", ">"}
		case 1:
			return []string{"XTRIM", "x" + key, "MAXLEN", "~", "150"}
		case 2, 3, 4:
			return []string{"XADD", "x" + key, "*", "f", fmt.Sprint(rng.IntN(100)), fmt.Sprint("g", rng.IntN(2)), "v"}
		case 5:
			return []string{"APPEND", "apart" + key, string(bytes.Repeat([]byte("long"), rng.IntN(1<<14)))}
		case 6:
			return []string{"BF.ADD", "bf" + key, fmt.Sprint(rng.IntN(1000))}
		case 7:
			return []string{"EVAL", fmt.Sprintf("return %d", rng.IntN(9)), "0"}
		}
		return bigCommand(rng)
	}
	return live, still, func(worlds ...*world) {
		now += rng.Int64N(3)
		var calls [][]string
		for range 1 + rng.IntN(3) {
			calls = append(calls, command())
		}
		atomic, seed := rng.IntN(4) == 0, rng.Uint64()
		var sweep *Task
		for i, w := range worlds {
			task := w.task(calls...)
			task.Atomic = atomic
			w.p.Apply(&Entry{Now: now, Seed: seed, Tasks: []*Task{task}})
			if i == 0 {
				sweep = w.p.Sweep(now, 20)
			}
			if sweep != nil {
				w.p.Apply(&Entry{Now: now, Seed: seed, Tasks: []*Task{sweep}})
			}
			w.p.Maintain(rng.IntN(50))
			w.now = now
		}
	}
}

// TestRestoredCollectionsAreTheSame is TestRestoredPartitionIsTheSame for large collections.
func TestRestoredCollectionsAreTheSame(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 78))
		live, still, step := bigWorlds(t, rng)
		for range 400 {
			step(live, still)
		}
		cut, ok := live.p.CutPartition()
		if !ok {
			t.Fatal("no cut")
		}
		if _, ok := live.p.CutPartition(); ok {
			t.Fatal("two cuts at once")
		}
		b := readAll(cut, func() int { return rng.IntN(1 << 14) }, func() {
			for range rng.IntN(4) {
				step(live)
			}
		})
		twin := restored(t, Seed{1, 2}, b, func() int { return 1 + rng.IntN(1<<15) })
		sameState(t, twin, still.p)
		copied := &world{t: t, p: twin, now: still.now, seed: still.seed}
		for range 100 {
			step(still, copied)
		}
		sameState(t, twin, still.p)
		if err := twin.check(); err != nil {
			t.Fatal(err)
		}
		again, ok := live.p.CutPartition()
		if !ok {
			t.Fatal("no cut after a cut")
		}
		sameState(t, restored(t, Seed{1, 2}, readAll(again, func() int { return 1 << 20 }, func() {}), func() int { return 1 << 20 }), live.p)
	}
}

// TestCutOutlivesItsCache: what is dropped while a cut runs is in it all the same.
func TestCutOutlivesItsCache(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 79))
	live, still, step := bigWorlds(t, rng)
	for range 200 {
		step(live, still)
	}
	once := still.task([]string{"INCR", "n"})
	once.Once = &Once{Key: [16]byte{1}}
	again := *once
	live.p.Apply(&Entry{Now: live.now, Seed: 1, Tasks: []*Task{once}})
	still.p.Apply(&Entry{Now: live.now, Seed: 1, Tasks: []*Task{&again}})
	cut, _ := live.p.CutPartition()
	b, more := cut.Read(nil, 100)
	if !more {
		t.Fatal("the cut is too small for this test")
	}
	live.apply(DropTask(testCache), ConfigureTask(testCache, Settings{}))
	for range 20 {
		step(live)
		live.p.Maintain(1000)
	}
	b = append(b, readAll(cut, func() int { return 1000 }, func() {})...)
	sameState(t, restored(t, Seed{1, 2}, b, func() int { return 1 << 20 }), still.p)
	for live.p.Maintain(1000) {
	}
	if err := live.p.check(); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedCutIsRefused: a stream that ends anywhere too soon, or with a byte changed, is no cut.
func TestDamagedCutIsRefused(t *testing.T) {
	b := smallCut(t)
	try := func(b []byte) error {
		p := New(Seed{1, 2})
		defer p.Close()
		r := RestorePartition(p)
		if _, err := r.Write(b); err != nil {
			return err
		}
		return r.Done()
	}
	if err := try(b); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(b); n += 1 + n%5 {
		if err := try(b[:n]); !errors.Is(err, ErrCut) {
			t.Fatalf("cut off at %d of %d: %v", n, len(b), err)
		}
		damaged := bytes.Clone(b)
		damaged[n] ^= 1 << (n % 8)
		if err := try(damaged); !errors.Is(err, ErrCut) {
			t.Fatalf("byte %d of %d changed: %v", n, len(b), err)
		}
	}
	if err := try(append(bytes.Clone(b), 0)); !errors.Is(err, ErrCut) {
		t.Fatalf("a byte more: %v", err)
	}
}

// smallCut is a cut with a value of each kind, small and large.
func smallCut(t tester) []byte {
	w := newWorld(t)
	w.configure(Settings{MemoryLimit: 1 << 30, Notify: EventNew})
	long := string(bytes.Repeat([]byte("long"), 30))
	for _, line := range [][]string{
		{"SET", "s", "v", "PX", "1000"}, {"KV.SET", "kv", "v", "TYPE", "text/plain"}, {"HSET", "h", "f", "1"}, {"HSETEX", "h", "PX", "50", "FIELDS", "1", "g", "v"},
		{"HSET", "H", "f", long, "g", "2"}, {"HPEXPIRE", "H", "70", "FIELDS", "1", "g"}, {"RPUSH", "l", "a", "b"}, {"SADD", "i", "1", "2"}, {"SADD", "t", "a", "b"},
		{"SADD", "T", long, "5", "\xfe"}, {"ZADD", "z", "1", "a"}, {"ZADD", "Z", "1", long, "2", "b"}, {"LEADERBOARD.CREATE", "b", "TIES", "FIRST"}, {"ZADD", "b", "1", long},
		{"XADD", "x", "1-1", "f", "v"}, {"XADD", "x", "1-2", "g", "v"}, {"XGROUP", "CREATE", "x", "g", "0"}, {"XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "x", ">"},
		{"JSON.SET", "j", "$", `{"a":[1,2.5,null]}`}, {"BF.RESERVE", "bf", "0.1", "8"}, {"TOPK.RESERVE", "tk", "2", "4", "2", "0.9"}, {"CMS.INITBYDIM", "cm", "4", "2"}, {"TDIGEST.CREATE", "td", "COMPRESSION", "1"},
		{"TDIGEST.ADD", "td", "1", "5"}, {"CF.RESERVE", "cf", "4"}, {"PFADD", "pf", "a"}, {"SESSION.CREATE", "se", "{}", "IDLE", "1000", "USER", "u"}, {"EVAL", "return 1", "0"}, {"SCRIPT", "LOAD", "return 2"},
		{"FUNCTION", "LOAD", "#!lua name=lib\nserver.register_function('f', function() return 1 end)"},
	} {
		if got := w.do(line...); len(got) > 7 && got[:7] == "(error)" {
			t.Fatalf("%q: %s", line, got)
		}
	}
	for i := range 300 {
		w.do("RPUSH", "L", fmt.Sprint(i, "xxxxxxxxxxxxxxxxxx"))
	}
	w.db = 3
	w.do("SET", "other", "database")
	w.db = 0
	task := w.task([]string{"INCR", "n"}, []string{"LRANGE", "l", "0", "-1"})
	task.Once = &Once{Key: [16]byte{1}}
	w.apply(task)
	cut, ok := w.p.CutPartition()
	if !ok {
		t.Fatal("no cut")
	}
	b := readAll(cut, func() int { return 1 << 20 }, func() {})
	sameState(t, restored(t, Seed{1, 2}, b, func() int { return 7 }), w.p)
	return b
}

// FuzzRestorer: whatever the frames are, they give a partition whose invariants hold, or an error. The frames of a cut are
// shuffled, changed and made up; their lengths and the checksum are right, or nothing would get far.
func FuzzRestorer(f *testing.F) {
	b := smallCut(f)
	var frames [][]byte
	for r, rest := (&frameReader{}), b; len(rest) > 0; {
		var frame []byte
		frame, rest, _ = r.next(rest)
		frames = append(frames, bytes.Clone(frame))
	}
	for i := range frames {
		f.Add(uint16(i), uint16(3), byte(1), []byte{})
		f.Add(uint16(i), uint16(7), byte(0x80), frames[i])
	}
	f.Fuzz(func(t *testing.T, at, pos uint16, change byte, other []byte) {
		p := New(Seed{1, 2})
		defer p.Close()
		r := RestorePartition(p)
		w := &frameWriter{}
		for i, frame := range frames {
			if i == int(at)%len(frames) {
				frame = bytes.Clone(frame)
				frame[int(pos)%len(frame)] ^= change
				if len(other) > 0 {
					frame = other
				}
			}
			w.b = w.b[:0]
			w.begin(frameKind(frame[0]))
			w.rest(frame[1:]...)
			w.end()
			if _, err := r.Write(w.b); err != nil {
				if !errors.Is(err, ErrCut) {
					t.Fatal(err)
				}
				break
			}
		}
		if r.Done() == nil && at != 0 {
			if err := p.check(); err != nil {
				t.Fatal(err)
			}
		}
		p.Digest()
	})
}

// target is a partition that parts of a cut are applied to.
func target(t tester, seed Seed, id CacheID, s Settings) *world {
	w := &world{t: t, p: New(seed), now: start}
	w.p.Apply(&Entry{Now: start, Tasks: []*Task{ConfigureTask(id, s)}})
	return w
}

// split deals a cut out.
func split(t *testing.T, b []byte, s *CutSplitter) []*CutPart {
	t.Helper()
	var parts []*CutPart
	s.Emit = func(part *CutPart) error {
		parts = append(parts, part)
		return nil
	}
	for len(b) > 0 {
		n := min(len(b), 1000)
		if _, err := s.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	if err := s.Done(); err != nil {
		t.Fatal(err)
	}
	return parts
}

// TestCacheRestoredElsewhere: a cache is dealt out to two partitions with other seeds under another id; what is read there is
// what was read at home.
func TestCacheRestoredElsewhere(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 80))
	live, _, step := bigWorlds(t, rng)
	for range 400 {
		step(live)
	}
	live.do("HSETEX", "timed", "PX", "5000", "FIELDS", "1", "f", "v")
	live.do("SESSION.CREATE", "se", "{}", "IDLE", "1000", "USER", "u")
	live.do("SET", "brief", "v", "PX", "2")
	cut, ok := live.p.CutCache(testCache, CutOptions{})
	if !ok {
		t.Fatal("no cut")
	}
	b := readAll(cut, func() int { return 5000 }, func() {})
	id := CacheID{7}
	var targets [2]*world
	for i := range targets {
		targets[i] = target(t, Seed{uint64(i), 9}, id, Settings{})
	}
	s := &CutSplitter{All: 2, To: func(_ int, key []byte) int { return int(key[len(key)-1]) % 2 }, Age: 100, Now: live.now + 100 + 2}
	parts := split(t, b, s)
	if len(parts) < 3 {
		t.Fatalf("%d parts", len(parts))
	}
	for _, part := range parts {
		w := targets[part.Target]
		w.now = live.now + 100
		task := RestoreTask(id, part)
		task.Reply = &Recording{}
		w.p.Apply(&Entry{Now: w.now, Seed: 1, Tasks: []*Task{task}})
		if got := show(task.Reply.(*Recording)); got != "OK" {
			t.Fatal(got)
		}
	}
	if st, _ := live.p.Stats(testCache); s.Keys != st.Items || s.LeftOut == 0 {
		t.Errorf("%d keys came of %d, %d were left out", s.Keys, st.Items, s.LeftOut)
	}
	found := 0
	for db := range Databases {
		k := live.p.caches[testCache].dbs[db]
		if k == nil {
			continue
		}
		k.table.Each(0, func(_ uint64, r dense.Ref) bool {
			key := string(live.p.store.Key(r))
			if at := live.p.store.ExpireAt(r); at > 0 && at <= live.now+2 {
				return true
			}
			found++
			w := targets[int(key[len(key)-1])%2]
			at := w.p.caches[id].dbs[db]
			it, want := (place{at, key}).find(), (place{k, key}).find()
			if it == nil {
				t.Errorf("%d %q is missing", db, key)
				return true
			}
			if before := want.expireAt; it.value.kind() != want.value.kind() || before > 0 && it.expireAt != before+100 || before == 0 && it.expireAt != 0 {
				t.Errorf("%q is a %s until %d, should be a %s until %d", key, it.value.kind(), it.expireAt, want.value.kind(), before)
			}
			return true
		})
	}
	for _, w := range targets {
		if err := w.p.check(); err != nil {
			t.Error(err)
		}
		if n := w.p.Unfinished(id); n > 0 {
			t.Errorf("%d collections are unfinished", n)
		}
	}
	if found < 20 {
		t.Errorf("only %d keys", found)
	}
	for _, line := range [][]string{{"LRANGE", "la", "0", "-1"}, {"ZRANGE", "za", "0", "-1", "WITHSCORES"}, {"XRANGE", "xa", "-", "+"}, {"XPENDING", "xa", "g"}, {"GET", "a"}} {
		key := line[1]
		w := targets[int(key[len(key)-1])%2]
		task := w.task(line)
		task.Cache = id
		w.p.Query(w.now, 0, task)
		if got, want := show(task.Reply.(*Recording)), live.do(line...); got != want {
			t.Errorf("%q answers %.200s, should answer %.200s", line, got, want)
		}
	}
	again, _ := live.p.CutCache(testCache, CutOptions{})
	other := &CutSplitter{All: 1, To: func(int, []byte) int { return -1 }}
	split(t, readAll(again, func() int { return 100 }, func() { live.p.Maintain(10) }), other)
	if other.Digest != s.Digest {
		t.Error("two cuts of the same state have different digests")
	}
}

// TestPartitionIsCutWhileACacheIsRestored: a replica that is made in the middle of a restoration goes on with it.
func TestPartitionIsCutWhileACacheIsRestored(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 81))
	live, _, step := bigWorlds(t, rng)
	for range 500 {
		step(live)
	}
	cut, _ := live.p.CutCache(testCache, CutOptions{})
	id := CacheID{7}
	parts := split(t, readAll(cut, func() int { return 5000 }, func() {}), &CutSplitter{All: 1, To: func(int, []byte) int { return 0 }})
	var small []*CutPart // each of few frames
	for _, part := range parts {
		one := &CutPart{Version: part.Version}
		for r, rest := (&frameReader{}), part.Frames; len(rest) > 0; {
			before := len(rest)
			_, rest, _ = r.next(rest)
			one.Frames = append(one.Frames, part.Frames[len(part.Frames)-before:len(part.Frames)-len(rest)]...)
			if rng.IntN(8) == 0 {
				small, one = append(small, one), &CutPart{Version: part.Version}
			}
		}
		small = append(small, one)
	}
	home := target(t, Seed{1, 2}, id, Settings{})
	apply := func(p *Partition, part *CutPart) {
		task := RestoreTask(id, part)
		p.Apply(&Entry{Now: live.now, Seed: 1, Tasks: []*Task{task}})
	}
	unfinished := 0
	for i := 0; i < len(small); {
		unfinished += home.p.Unfinished(id)
		whole, ok := home.p.CutPartition()
		if !ok {
			t.Fatal("no cut")
		}
		from := i
		b := readAll(whole, func() int { return 1 << 15 }, func() {
			for range 1 + len(small)/20 {
				if i < len(small) {
					apply(home.p, small[i])
					i++
				}
			}
		})
		twin := restored(t, Seed{1, 2}, b, func() int { return 1 << 16 })
		for _, part := range small[from:i] {
			apply(twin, part)
		}
		sameState(t, twin, home.p)
		for _, part := range small[i:] {
			apply(twin, part)
		}
		if n := twin.Unfinished(id); n > 0 {
			t.Fatalf("%d collections are unfinished", n)
		}
		if err := twin.check(); err != nil {
			t.Fatal(err)
		}
	}
	if unfinished == 0 {
		t.Error("no cut met an unfinished collection")
	}
	live.apply(DropTask(id))
	home.apply(DropTask(id))
	for home.p.Maintain(1000) {
	}
	if err := home.p.check(); err != nil {
		t.Fatal(err)
	}
}

// TestPartOfACacheIsCut: by the beginning of keys.
func TestPartOfACacheIsCut(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 82))
	live, _, step := bigWorlds(t, rng)
	for range 300 {
		step(live)
	}
	for range 300 {
		live.do("RPUSH", "long", "elements that make it large")
	}
	cut, _ := live.p.CutCache(testCache, CutOptions{Prefix: []byte("l"), NoOnce: true, NoFlush: true, DataOnly: true})
	s := &CutSplitter{All: 1, To: func(_ int, key []byte) int {
		if key[0] != 'l' {
			t.Errorf("%q is in the cut", key)
		}
		return -1
	}}
	split(t, readAll(cut, func() int { return 5000 }, func() {}), s)
	if s.Keys == 0 || s.Elements == 0 {
		t.Errorf("%d keys, %d elements", s.Keys, s.Elements)
	}
}
