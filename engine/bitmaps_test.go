package engine

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A bitTwin is what bitmaps ought to be, to be verified by eye: strings of the digits 0 and 1.
type bitTwin map[string]string

// grow adds zeros up to whole bytes that hold n bits.
func grow(bits string, n int) string {
	return bits + strings.Repeat("0", max((n+7)/8*8-len(bits), 0))
}

func bitsOf(data string) (bits string) {
	for _, b := range []byte(data) {
		bits += fmt.Sprintf("%08b", b)
	}
	return bits
}

func bytesOf(bits string) (data string) {
	for i := 0; i < len(bits); i += 8 {
		b, _ := strconv.ParseUint(bits[i:i+8], 2, 8)
		data += string([]byte{byte(b)})
	}
	return data
}

// part is the bits that BITCOUNT and BITPOS look at, and where they begin.
func (t bitTwin) part(key string, args []string) (bits string, first int) {
	bits = t[key]
	if len(args) == 0 {
		return bits, 0
	}
	unit := 8
	if args[len(args)-1] == "BIT" {
		unit = 1
	}
	ends := [2]int{0, len(bits)/unit - 1}
	for i := range min(len(args), 2) {
		n, _ := strconv.Atoi(args[i])
		if ends[i] = n; n < 0 {
			ends[i] = max(n+len(bits)/unit, 0)
		}
	}
	ends[1] = min(ends[1], len(bits)/unit-1)
	if ends[0] > ends[1] {
		return "", 0
	}
	return bits[ends[0]*unit : (ends[1]+1)*unit], ends[0] * unit
}

func (t bitTwin) do(args []string) string {
	key := args[1]
	bits := t[key]
	switch args[0] {
	case "SETBIT":
		at, _ := strconv.Atoi(args[2])
		bits = grow(bits, at+1)
		t[key] = bits[:at] + args[3] + bits[at+1:]
		return bits[at : at+1]
	case "GETBIT":
		at, _ := strconv.Atoi(args[2])
		return grow(bits, at+1)[at : at+1]
	case "BITCOUNT":
		if len(args) > 3 && args[2][0] == '-' && args[3][0] == '-' && len(args[2]+args[3]) == 4 && args[2] < args[3] {
			return "0" // -1 -2 is empty even where both are before the beginning
		}
		part, _ := t.part(key, args[2:])
		return strconv.Itoa(strings.Count(part, "1"))
	case "BITPOS":
		if bits == "" {
			return map[string]string{"0": "0", "1": "-1"}[args[2]]
		}
		part, first := t.part(key, args[3:])
		if i := strings.Index(part, args[2]); i >= 0 {
			return strconv.Itoa(first + i)
		}
		if part != "" && args[2] == "0" && len(args) < 5 {
			return strconv.Itoa(first + len(part))
		}
		return "-1"
	case "BITOP":
		longest := 0
		for _, k := range args[3:] {
			longest = max(longest, len(t[k]))
		}
		var result string
		for i := range longest {
			var column string // this bit of every source
			for _, k := range args[3:] {
				column += grow(t[k], longest)[i : i+1]
			}
			first, others := column[0] == '1', strings.Count(column[1:], "1")
			result += flagOf(map[string]bool{
				"AND": !strings.Contains(column, "0"), "OR": strings.Contains(column, "1"), "XOR": strings.Count(column, "1")%2 == 1, "NOT": !first,
				"DIFF": first && others == 0, "DIFF1": !first && others > 0, "ANDOR": first && others > 0, "ONE": strings.Count(column, "1") == 1,
			}[args[1]])
		}
		if t[args[2]] = result; result == "" {
			delete(t, args[2])
		}
		return strconv.Itoa(longest / 8)
	case "BITFIELD":
		return t.bitfield(key, args[2:])
	case "APPEND":
		t[key] += bitsOf(args[2])
		return strconv.Itoa(len(t[key]) / 8)
	case "COPY":
		if bits == "" {
			return "0"
		}
		t[args[2]] = bits
		return "1"
	case "DEL":
		delete(t, key)
		return flagOf(bits != "")
	}
	panic(args[0])
}

func (t bitTwin) bitfield(key string, args []string) string {
	var replies []string
	how, end := "WRAP", 0
	for _, execute := range []bool{false, true} { // first it grows as far as it will write, then it writes
		how = "WRAP"
		for i := 0; i < len(args); i += 4 {
			if args[i] == "OVERFLOW" {
				how, i = args[i+1], i-2
				continue
			}
			width, _ := strconv.Atoi(args[i+1][1:])
			at, _ := strconv.Atoi(args[i+2])
			if !execute {
				if args[i] == "GET" {
					i--
				} else {
					end = max(end, at+width)
				}
				continue
			}
			old, _ := new(big.Int).SetString(grow(t[key], at+width)[at:at+width], 2)
			span := new(big.Int).Lsh(big.NewInt(1), uint(width))
			low, high := new(big.Int), new(big.Int).Sub(span, big.NewInt(1))
			if args[i+1][0] == 'i' {
				high.Rsh(high, 1)
				low.Sub(low, high).Sub(low, big.NewInt(1))
				if old.Cmp(high) > 0 {
					old.Sub(old, span)
				}
			}
			if args[i] == "GET" {
				replies = append(replies, old.String())
				i--
				continue
			}
			result, _ := new(big.Int).SetString(args[i+3], 10)
			if args[i] == "INCRBY" {
				result.Add(result, old)
			} else if args[i+1][0] == 'u' && result.Sign() < 0 {
				result.Add(result, new(big.Int).Lsh(big.NewInt(1), 64))
			}
			if fits := result.Cmp(low) >= 0 && result.Cmp(high) <= 0; !fits {
				switch {
				case how == "FAIL":
					replies = append(replies, "(nil)")
					continue
				case how == "SAT" && result.Cmp(high) > 0:
					result.Set(high)
				case how == "SAT":
					result.Set(low)
				default:
					result.Sub(result, low).Mod(result, span).Add(result, low)
				}
			}
			if replies = append(replies, result.String()); args[i] == "SET" {
				replies[len(replies)-1] = old.String()
			}
			raw := new(big.Int).Mod(result, span)
			bits := t[key]
			t[key] = bits[:at] + fmt.Sprintf("%0*s", width, raw.Text(2)) + bits[at+width:]
		}
		if end > 0 {
			t[key] = grow(t[key], end)
		}
	}
	return "[" + strings.Join(replies, " ") + "]"
}

func drawBitCommand(t *rapid.T) []string {
	keys := []string{"a", "b", "c"}
	key := from(t, "key", keys...)
	place := func() string { return strconv.Itoa(rapid.IntRange(0, 150).Draw(t, "place")) }
	index := func() string {
		return from(t, "index", "0", "1", "2", "9", "17", "-1", "-2", "-3", "100")
	}
	part := func() string {
		return from(t, "part", "", index(), index()+" "+index(), index()+" "+index()+" BIT", index()+" "+index()+" BYTE")
	}
	switch from(t, "command", "SETBIT", "SETBIT", "SETBIT", "GETBIT", "BITCOUNT", "BITPOS", "BITOP", "BITFIELD", "BITFIELD", "BITFIELD", "APPEND", "COPY", "DEL") {
	case "SETBIT":
		return line("SETBIT %s %s %s", key, place(), from(t, "bit", "0", "1"))
	case "GETBIT":
		return line("GETBIT %s %s", key, place())
	case "BITCOUNT":
		if p := part(); strings.Contains(p, " ") {
			return line("BITCOUNT %s %s", key, p)
		}
		return line("BITCOUNT %s", key)
	case "BITPOS":
		return line("BITPOS %s %s %s", key, from(t, "bit", "0", "1"), part())
	case "BITOP":
		op := from(t, "op", "AND", "OR", "XOR", "NOT", "DIFF", "DIFF1", "ANDOR", "ONE")
		more := ""
		if op != "NOT" {
			more = from(t, "second", keys...) + " " + from(t, "third", "", "a", "b")
		}
		return line("BITOP %s %s %s %s", op, from(t, "to", keys...), key, more)
	case "BITFIELD":
		command := "BITFIELD " + key
		for range rapid.IntRange(0, 4).Draw(t, "ops") {
			width := from(t, "sign", "i", "u") + strconv.Itoa(from64(t))
			number := from(t, "number", "0", "1", "-1", "3", "100", "-200", "9223372036854775807", "-9223372036854775808")
			command += from(t, "op", " GET "+width+" "+place(), " SET "+width+" "+place()+" "+number, " INCRBY "+width+" "+place()+" "+number, " OVERFLOW "+from(t, "how", "WRAP", "SAT", "FAIL"))
		}
		return line("%s", command)
	case "APPEND":
		return line("APPEND %s %s", key, from(t, "more", "x", strings.Repeat("yz", 40)))
	case "COPY":
		return line("COPY %s %s REPLACE", key, from(t, "to", slices.DeleteFunc(keys, func(k string) bool { return k == key })...))
	}
	return line("DEL %s", key)
}

func from64(t *rapid.T) int { return rapid.IntRange(1, 63).Draw(t, "width") }

// twinRun gives random tasks, of which some are undone at their last call, to a partition, a follower that owes
// nobody an answer, and a twin. same compares what the partition holds with the twin after each of them.
func twinRun(t *rapid.T, draw func(t *rapid.T) []string, save func() (restore func()), twin func(args []string) string, same func(w *world)) {
	w, follower := newWorld(t), New(Seed{1, 2})
	follower.Apply(&Entry{Now: start, Tasks: []*Task{ConfigureTask(testCache, Settings{})}})
	for range 30 {
		var commands [][]string
		for range rapid.IntRange(1, 4).Draw(t, "calls") {
			commands = append(commands, draw(t))
		}
		undone := rapid.IntRange(0, 2).Draw(t, "undone") == 0
		restore := save()
		var want []string
		for _, args := range commands {
			want = append(want, twin(args))
		}
		if undone {
			restore()
			commands = append(commands, []string{"GET"})
		}
		task := w.task(commands...)
		task.Atomic = undone || rapid.Bool().Draw(t, "atomic")
		before := w.p.Digest()
		w.apply(task)
		got := strings.Split(show(task.Reply.(*Recording)), "\n")
		if !slices.Equal(got[:len(want)], want) {
			t.Fatalf("got %q\nwant %q\n%s", got, want, describe(task))
		}
		if undone && w.p.Digest() != before {
			t.Fatalf("undone, but something changed:\n%s", describe(task))
		}
		follower.Apply(deaf(&Entry{Now: w.now, Seed: w.seed, Tasks: []*Task{task}}))
		if follower.Digest() != w.p.Digest() {
			t.Fatalf("the follower strayed:\n%s", describe(task))
		}
		same(w)
	}
}

func TestModelBitmaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		twin := bitTwin{}
		save := func() func() {
			before := maps.Clone(twin)
			return func() { clear(twin); maps.Copy(twin, before) }
		}
		twinRun(t, drawBitCommand, save, func(args []string) string { return twin.do(args) }, func(w *world) {
			for _, key := range []string{"a", "b", "c"} {
				want := "(nil)"
				if bits, ok := twin[key]; ok {
					want = strconv.Quote(bytesOf(bits))
				}
				if got := w.do("GET", key); got != want {
					t.Fatalf("%s holds %s, want %s", key, got, want)
				}
			}
		})
	})
}

// TestSetbitCopiesLittle: a bit of a large bitmap is changed where it is, also in a task that may be undone.
func TestSetbitCopiesLittle(t *testing.T) {
	w := newWorld(t)
	array := func() *byte { return &w.p.caches[testCache].dbs[0].find([]byte("k")).value.(*stringValue).data[0] }
	w.do("SETRANGE", "k", "1048575", "x")
	w.do("SETBIT", "k", "0", "1")
	first := array()
	for i := range 100 {
		task := w.task([]string{"SETBIT", "k", strconv.Itoa(i * 1000), strconv.Itoa(i % 2)}, []string{"BITFIELD", "k", "INCRBY", "u8", "#77", "1"}, []string{"GET"})
		task.Atomic = i%3 == 0
		w.p.Apply(&Entry{Now: start, Tasks: []*Task{task}})
	}
	if array() != first {
		t.Error("the bitmap was moved")
	}
	w.do("COPY", "k", "l")
	before := w.do("GET", "l")
	w.do("SETBIT", "k", "5", "1")
	if array() != first || w.do("GET", "l") != before {
		t.Error("a copy was written to")
	}
}

// TestBitsRefuseBeforeTheyAllocate: the limit is on where the value would end.
func TestBitsRefuseBeforeTheyAllocate(t *testing.T) {
	w := newWorld(t)
	for _, command := range [][]string{
		{"SETBIT", "k", "4294967295", "1"}, {"SETBIT", "k", "268435456", "0"}, {"SETBIT", "k", "4294967296", "0"}, {"SETBIT", "k", "9223372036854775807", "1"},
		{"BITFIELD", "k", "SET", "u8", "268435449", "1"}, {"BITFIELD", "k", "SET", "i64", "#9223372036854775807", "1"}, {"BITFIELD", "k", "INCRBY", "i64", "4294967295", "1"},
	} {
		task := w.task(command)
		allocated := testing.AllocsPerRun(1, func() { w.p.Apply(&Entry{Now: start, Tasks: []*Task{task}}) })
		if got := show(task.Reply.(*Recording)); !strings.HasPrefix(got, "(error) ERR ") {
			t.Errorf("%q: %s", command, got)
		}
		if allocated > 50 {
			t.Errorf("%q: %v allocations", command, allocated)
		}
	}
	if got := w.do("SETBIT", "k", "268435455", "1") + w.do("STRLEN", "k"); got != "033554432" {
		t.Errorf("up to the limit: %s", got)
	}
}
