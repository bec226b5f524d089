package engine

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"pgregory.net/rapid"
)

// A naive is what a database of strings, counters and hashes of one field ought to be, written to be verified by
// eye: a map that is copied for an atomic task, numbers without bounds, and replies as show writes them.
// It knows the commands of the models below in their well-formed shapes, not how to parse them.
type naive struct {
	now, defaultTTL int64
	version         int64
	items           map[string]twinItem
	once            map[string]twinOnce
}

type twinItem struct {
	data        string
	hash        bool // not a string
	at          int64
	version     int64
	contentType string
	flags       int64
}

type twinOnce struct {
	reply string
	at    int64
}

func (t *naive) get(key string) *twinItem {
	it, ok := t.items[key]
	if !ok || (it.at != 0 && it.at <= t.now) {
		delete(t.items, key)
		return nil
	}
	return &it
}

func (t *naive) next() int64 {
	t.version = max(t.version+1, (t.now-versionEpoch)<<16)
	return t.version
}

// put stores a new version; a deadline that has come leaves nothing.
func (t *naive) put(key string, it twinItem) int64 {
	if it.version == 0 {
		it.version = t.next()
	}
	t.items[key] = it
	t.get(key)
	return it.version
}

func (t *naive) deadline() int64 {
	if t.defaultTTL == 0 {
		return 0
	}
	return t.now + t.defaultTTL
}

// change stores data where old was, nil for nothing.
func (t *naive) change(key string, old *twinItem, data string) int64 {
	if old == nil {
		return t.put(key, twinItem{data: data, at: t.deadline()})
	}
	return t.put(key, twinItem{data: data, at: old.at, contentType: old.contentType, flags: old.flags})
}

const (
	twinWrongType  = "(error) WRONGTYPE Operation against a key holding the wrong kind of value"
	twinNotInteger = "(error) ERR value is not an integer or out of range"
	twinNotFloat   = "(error) ERR value is not a valid float"
)

func bulkOf(it *twinItem) string {
	if it == nil {
		return "(nil)"
	}
	return strconv.Quote(it.data)
}

func flagOf(v bool) string {
	if v {
		return "1"
	}
	return "0"
}

// whole reads an integer of any size as Redis writes one.
func whole(s string) (*big.Int, bool) {
	n, ok := new(big.Int).SetString(s, 10)
	return n, ok && n.String() == s
}

// plain writes f as the twin's numbers are, which are quarters and not large.
func plain(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// incr adds to an integer and returns the reply.
func (t *naive) incr(key, by string) string {
	old, was := t.get(key), "0"
	if old != nil {
		was = old.data
	}
	a, ok1 := whole(was)
	b, ok2 := whole(by)
	switch {
	case !ok2 || !b.IsInt64():
		return twinNotInteger
	case old != nil && old.hash:
		return twinWrongType
	case !ok1 || !a.IsInt64():
		return twinNotInteger
	}
	a.Add(a, b)
	if !a.IsInt64() {
		return "(error) ERR increment or decrement would overflow"
	}
	t.change(key, old, a.String())
	return a.String()
}

func (t *naive) ttl(it *twinItem) int64 {
	if it.at == 0 {
		return -1
	}
	return it.at - t.now
}

// reading is a counter's reply.
func (t *naive) reading(key, data string) string {
	it := t.get(key)
	value := data
	if n, ok := whole(data); !ok || !n.IsInt64() {
		f, _ := strconv.ParseFloat(data, 64)
		value = "(double) " + string(appendFloat(nil, f))
	}
	return fmt.Sprintf("[%s %d]", value, t.ttl(it))
}

func number64(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return n }

// do answers one command.
func (t *naive) do(args []string) string {
	key := ""
	if len(args) > 1 {
		key = args[1]
	}
	it := t.get(key)
	isHash := it != nil && it.hash
	switch args[0] {
	case "GET", "STRLEN", "GETRANGE", "GETSET", "GETDEL", "GETEX", "APPEND", "SETRANGE", "INCRBYFLOAT", "KV.GET", "KV.APPEND",
		"COUNTER.GET", "COUNTER.ADD", "COUNTER.SET", "COUNTER.RESET", "COUNTER.DEL":
		if isHash {
			return twinWrongType
		}
	}
	switch args[0] {
	case "HSET":
		switch {
		case it == nil:
			t.items[key] = twinItem{hash: true, at: t.deadline()}
			return "1"
		case !it.hash:
			return twinWrongType
		}
		return "0"
	case "GET":
		return bulkOf(it)
	case "MGET":
		var all []string
		for _, k := range args[1:] {
			it := t.get(k)
			if it != nil && it.hash {
				it = nil
			}
			all = append(all, bulkOf(it))
		}
		return "[" + strings.Join(all, " ") + "]"
	case "STRLEN":
		if it == nil {
			return "0"
		}
		return strconv.Itoa(len(it.data))
	case "GETRANGE":
		if it == nil {
			return `""`
		}
		return strconv.Quote(twinRange(it.data, number64(args[2]), number64(args[3])))
	case "SET": // SET key value [NX|XX|""] [GET|""] [PX n|PXAT n|KEEPTTL|""]
		nx, xx, get, at := false, false, false, t.deadline()
		for i := 3; i < len(args); i++ {
			switch args[i] {
			case "NX":
				nx = true
			case "XX":
				xx = true
			case "GET":
				get = true
			case "KEEPTTL":
				if it != nil {
					at = it.at
				}
			case "PX":
				at = t.now + number64(args[i+1])
				i++
			case "PXAT":
				at = number64(args[i+1])
				i++
			}
		}
		if get && isHash {
			return twinWrongType
		}
		stored := !(nx && it != nil) && !(xx && it == nil)
		if stored {
			if at != 0 && at <= t.now {
				delete(t.items, key) // without using up a version
			} else {
				t.put(key, twinItem{data: args[2], at: at})
			}
		}
		switch {
		case get:
			return bulkOf(it)
		case stored:
			return "OK"
		}
		return "(nil)"
	case "SETNX":
		if it == nil {
			t.put(key, twinItem{data: args[2], at: t.deadline()})
		}
		return flagOf(it == nil)
	case "PSETEX":
		t.put(key, twinItem{data: args[3], at: t.now + number64(args[2])})
		return "OK"
	case "MSET", "MSETNX":
		for i := 1; args[0] == "MSETNX" && i < len(args); i += 2 {
			if t.get(args[i]) != nil {
				return "0"
			}
		}
		for i := 1; i < len(args); i += 2 {
			t.put(args[i], twinItem{data: args[i+1], at: t.deadline()})
		}
		if args[0] == "MSETNX" {
			return "1"
		}
		return "OK"
	case "GETSET":
		t.put(key, twinItem{data: args[2], at: t.deadline()})
		return bulkOf(it)
	case "GETDEL":
		delete(t.items, key)
		return bulkOf(it)
	case "GETEX": // GETEX key [PX n|PERSIST]
		if it != nil && len(args) > 2 {
			changed := *it
			if changed.at = 0; args[2] == "PX" {
				changed.at = t.now + number64(args[3])
			}
			t.items[key] = changed
		}
		return bulkOf(it)
	case "APPEND", "KV.APPEND":
		data := args[2]
		if it != nil {
			data = it.data + data
		}
		version := t.change(key, it, data)
		if args[0] == "APPEND" {
			return strconv.Itoa(len(data))
		}
		return fmt.Sprintf("[%s %d %d]", flagOf(it == nil), version, len(data))
	case "SETRANGE":
		data, offset := "", int(number64(args[2]))
		if it != nil {
			data = it.data
		}
		if args[3] == "" {
			return strconv.Itoa(len(data))
		}
		for len(data) < offset+len(args[3]) {
			data += "\x00"
		}
		data = data[:offset] + args[3] + data[offset+len(args[3]):]
		t.change(key, it, data)
		return strconv.Itoa(len(data))
	case "INCR":
		return t.incr(key, "1")
	case "DECR":
		return t.incr(key, "-1")
	case "INCRBY":
		return t.incr(key, args[2])
	case "DECRBY":
		by, ok := whole(args[2])
		switch {
		case !ok || !by.IsInt64():
			return twinNotInteger
		case args[2] == "-9223372036854775808":
			return "(error) ERR decrement would overflow"
		}
		return t.incr(key, by.Neg(by).String())
	case "INCRBYFLOAT":
		was := "0"
		if it != nil {
			was = it.data
		}
		a, err := strconv.ParseFloat(was, 64)
		if err != nil {
			return twinNotFloat
		}
		b, _ := strconv.ParseFloat(args[2], 64)
		t.change(key, it, plain(a+b))
		return strconv.Quote(plain(a + b))

	case "DEL", "EXISTS", "TOUCH":
		n := 0
		for _, k := range args[1:] {
			if t.get(k) != nil {
				n++
			}
			if args[0] == "DEL" {
				delete(t.items, k)
			}
		}
		return strconv.Itoa(n)
	case "TYPE":
		switch {
		case it == nil:
			return "none"
		case it.hash:
			return "hash"
		}
		return "string"
	case "PTTL", "PEXPIRETIME", "TTL":
		switch {
		case it == nil:
			return "-2"
		case it.at == 0:
			return "-1"
		case args[0] == "PTTL":
			return strconv.FormatInt(it.at-t.now, 10)
		case args[0] == "TTL":
			return strconv.FormatInt((it.at-t.now+500)/1000, 10)
		}
		return strconv.FormatInt(it.at, 10)
	case "PEXPIRE", "PEXPIREAT":
		at := number64(args[2])
		if args[0] == "PEXPIRE" {
			at += t.now
		}
		if it == nil {
			return "0"
		}
		was := big.NewInt(it.at)
		if it.at == 0 { // never is later than any time
			was.Lsh(big.NewInt(1), 100)
		}
		for _, option := range args[3:] {
			refused := false
			switch option {
			case "NX":
				refused = it.at != 0
			case "XX":
				refused = it.at == 0
			case "GT":
				refused = big.NewInt(at).Cmp(was) <= 0
			case "LT":
				refused = big.NewInt(at).Cmp(was) >= 0
			}
			if refused {
				return "0"
			}
		}
		changed := *it
		if changed.at = at; at <= t.now {
			delete(t.items, key)
		} else {
			t.items[key] = changed
		}
		return "1"
	case "PERSIST":
		if it == nil || it.at == 0 {
			return "0"
		}
		changed := *it
		changed.at = 0
		t.items[key] = changed
		return "1"
	case "RENAME", "RENAMENX":
		if it == nil {
			return "(error) ERR no such key"
		}
		if args[0] == "RENAMENX" && t.get(args[2]) != nil {
			return "0"
		}
		delete(t.items, key)
		t.items[args[2]] = *it
		if args[0] == "RENAME" {
			return "OK"
		}
		return "1"
	case "COPY":
		if key == args[2] {
			return "(error) ERR source and destination objects are the same"
		}
		if it == nil || (t.get(args[2]) != nil && len(args) == 3) {
			return "0"
		}
		t.items[args[2]] = *it
		return "1"

	case "KV.GET": // KV.GET key [META|RANGE a b]
		if it == nil {
			return "(nil)"
		}
		data := it.data
		switch {
		case len(args) == 3:
			data = ""
		case len(args) == 5:
			data = twinRange(data, number64(args[3]), number64(args[4]))
		}
		return fmt.Sprintf("[%d %d %q %d %q %d]", it.version, t.ttl(it), it.contentType, len(it.data), data, it.flags)
	case "KV.SET", "KV.DEL": // KV.SET key value [TYPE t] [PX n|KEEPTTL] [IFNONE|IFANY|IFMATCH v]
		at, contentType, flags, refused := t.deadline(), "", int64(0), ""
		for i := 2; i < len(args); i++ {
			switch args[i] {
			case "TYPE":
				contentType = args[i+1]
			case "FLAGS":
				flags = number64(args[i+1])
			case "PX":
				at = t.now + number64(args[i+1])
			case "KEEPTTL":
				if it != nil {
					at = it.at
				}
			case "IFNONE":
				if it != nil {
					refused = "(error) ERR precondition failed: the key exists"
				}
			case "IFANY":
				if it == nil {
					refused = "(error) ERR precondition failed: the key does not exist"
				}
			case "IFMATCH":
				switch {
				case it == nil && args[0] == "KV.DEL":
				case it == nil:
					refused = "(error) ERR precondition failed: the key does not exist"
				case it.hash:
					refused = twinWrongType
				case number64(args[i+1]) != it.version:
					refused = "(error) ERR precondition failed: the value has another version"
				}
			}
		}
		switch {
		case refused != "":
			return refused
		case args[0] == "KV.DEL":
			delete(t.items, key)
			return flagOf(it != nil)
		case isHash:
			return twinWrongType
		}
		version := t.next()
		t.put(key, twinItem{data: args[2], at: at, contentType: contentType, flags: flags, version: version})
		return fmt.Sprintf("[%s %d]", flagOf(it == nil), version)

	case "COUNTER.GET", "COUNTER.RESET", "COUNTER.ADD":
		was := "0"
		if it != nil {
			was = it.data
		}
		if _, err := strconv.ParseFloat(was, 64); err != nil {
			return "(error) WRONGTYPE the key holds a string that is not a number"
		}
		switch {
		case args[0] == "COUNTER.ADD":
			return t.add(key, it, was, args[2], args[3:])
		case it == nil:
			return "(nil)"
		}
		reply := t.reading(key, was)
		if args[0] == "COUNTER.RESET" {
			t.change(key, it, "0")
		}
		return reply
	case "COUNTER.SET": // COUNTER.SET key value [PX n|KEEPTTL]
		at := t.deadline()
		for i, a := range args {
			switch {
			case a == "PX":
				at = t.now + number64(args[i+1])
			case a == "KEEPTTL" && it != nil:
				at = it.at
			}
		}
		data := args[2]
		if strings.Contains(data, ".") {
			f, _ := strconv.ParseFloat(data, 64)
			data = plain(f)
		}
		t.put(key, twinItem{data: data, at: at})
		return t.reading(key, data)
	case "COUNTER.DEL":
		delete(t.items, key)
		return flagOf(it != nil)
	}
	panic("the twin does not know " + args[0])
}

// add is COUNTER.ADD key by [PX n] [MIN n] [MAX n] [OVERFLOW SATURATE]. Bounds are integers; quarters are exact.
func (t *naive) add(key string, it *twinItem, was, by string, options []string) string {
	a, _ := new(big.Rat).SetString(was)
	b, _ := new(big.Rat).SetString(by)
	_, ok1 := whole(was)
	_, ok2 := whole(by)
	integers := ok1 && ok2
	s := new(big.Rat).Add(a, b)
	at, saturate := t.deadline(), false
	var low, high *big.Rat
	if integers {
		low, high = new(big.Rat).SetInt64(-1<<63), new(big.Rat).SetInt64(1<<63-1)
	}
	for i, o := range options {
		switch o {
		case "PX":
			at = t.now + number64(options[i+1])
		case "MIN":
			low, _ = new(big.Rat).SetString(options[i+1])
		case "MAX":
			high, _ = new(big.Rat).SetString(options[i+1])
		case "SATURATE":
			saturate = true
		}
	}
	for _, side := range []struct {
		word  string
		bound *big.Rat
		sign  int
	}{{"maximum", high, 1}, {"minimum", low, -1}} {
		if side.bound == nil || s.Cmp(side.bound) != side.sign {
			continue
		}
		if !saturate {
			return fmt.Sprintf("(error) ERR the counter is %s: adding %s would pass the %s of %s", was, by, side.word, side.bound.RatString())
		}
		s = side.bound
		break
	}
	text := s.RatString()
	if !s.IsInt() {
		f, _ := s.Float64()
		text = plain(f)
	}
	if it == nil {
		t.put(key, twinItem{data: text, at: at})
	} else {
		t.change(key, it, text)
	}
	return t.reading(key, text)
}

// twinRange is GETRANGE by trying every index.
func twinRange(s string, first, last int64) string {
	n := int64(len(s))
	if first < 0 && last < 0 && first > last { // counted from the end and turned around
		return ""
	}
	clamp := func(i int64) int64 {
		if i < 0 {
			i = max(i+n, 0)
		}
		return i
	}
	var part []byte
	for i := range s {
		if clamp(first) <= int64(i) && int64(i) <= clamp(last) {
			part = append(part, s[i])
		}
	}
	return string(part)
}

// run is a whole task: atomic, or under an idempotency key unless that is empty.
func (t *naive) run(commands [][]string, atomic bool, once string) (reply string) {
	if done, ok := t.once[once]; ok && once != "" && done.at > t.now {
		return done.reply
	}
	before, version := maps.Clone(t.items), t.version
	var replies []string
	changed := false
	for _, c := range commands {
		r := t.do(c)
		replies = append(replies, r)
		failed := strings.HasPrefix(r, "(error)")
		if failed && atomic {
			t.items, t.version, changed = before, version, false
			break
		}
		changed = changed || (!failed && Lookup([]byte(c[0])).Flags&Writes != 0)
	}
	reply = strings.Join(replies, "\n")
	if once != "" && changed {
		t.once[once] = twinOnce{reply, t.now + OnceWindow.Milliseconds()}
	}
	return reply
}

// keys lists what is there.
func (t *naive) keys() []string {
	list := []string{}
	for key := range maps.Clone(t.items) {
		if t.get(key) != nil {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list
}

// modelRun gives random tasks of commands to two partitions and a twin, and compares every reply, every
// invariant and, after each entry, the partitions' digests.
func modelRun(t *rapid.T, command func(t *rapid.T, m *naive) []string) {
	w, replica := newWorld(t), newWorld(t)
	m := &naive{now: start, items: map[string]twinItem{}, once: map[string]twinOnce{}}
	if rapid.Bool().Draw(t, "default TTL") {
		m.defaultTTL = 700
		w.configure(Settings{DefaultTTL: m.defaultTTL})
		replica.configure(Settings{DefaultTTL: m.defaultTTL})
	}
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		w.now += rapid.SampledFrom([]int64{0, 0, 1, 100, 900, OnceWindow.Milliseconds()}).Draw(t, "wait")
		replica.now, m.now = w.now, w.now
		commands := [][]string{command(t, m)}
		atomic, once := false, ""
		switch rapid.IntRange(0, 5).Draw(t, "form") {
		case 0:
			atomic = true
		case 1:
			once = rapid.SampledFrom([]string{"k1", "k2", "k3"}).Draw(t, "once")
		}
		for range rapid.IntRange(0, 4).Draw(t, "more") {
			commands = append(commands, command(t, m))
		}
		task, copied := w.task(commands...), w.task(commands...)
		if !task.Writes() {
			once = ""
		}
		for _, x := range []*Task{task, copied} {
			if x.Atomic = atomic; once != "" {
				x.Once = &Once{}
				copy(x.Once.Key[:], once)
			}
		}
		want := m.run(commands, atomic, once)
		if task.Writes() {
			w.apply(task)
			copied.Reply = nil
			replica.seed = w.seed - 1
			replica.apply(copied)
			if w.p.Digest() != replica.p.Digest() {
				t.Fatalf("%q: the replica strayed", commands)
			}
		} else {
			w.p.Query(w.now, 1, task)
		}
		if got := show(task.Reply.(*Recording)); got != want {
			t.Fatalf("%q at %d\n got %s\nwant %s", commands, w.now, got, want)
		}
		if got := w.scanAll("SCAN"); !slices.Equal(got, m.keys()) {
			t.Fatalf("%q: keys %q, want %q", commands, got, m.keys())
		}
		if key := w.do("RANDOMKEY"); (key == "(nil)") != (len(m.keys()) == 0) || (key != "(nil)" && m.do([]string{"EXISTS", unquote(key)}) != "1") {
			t.Fatalf("RANDOMKEY gives %s of %q", key, m.keys())
		}
	}
}

func unquote(s string) string {
	s, _ = strconv.Unquote(s)
	return s
}

// scanAll lists the selected database's keys by a scan to its end, each exactly once, sorted.
func (w *world) scanAll(args ...string) []string {
	w.t.Helper()
	list := []string{}
	for cursor := "0"; ; {
		task := w.task(append([]string{args[0], cursor}, args[1:]...))
		w.p.Query(w.now, 1, task)
		c := task.Reply.(*Recording).Cursor()
		c.Next()
		cursor = string(c.Next().Bytes)
		for range c.Next().Int {
			list = append(list, string(c.Next().Bytes))
		}
		if cursor == "0" {
			break
		}
	}
	slices.Sort(list)
	return list
}
