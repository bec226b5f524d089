package replication

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/larder-cache/larder/engine"
)

// task makes a task of commands given as words.
func task(cache engine.CacheID, commands ...string) *engine.Task {
	t := &engine.Task{Cache: cache}
	for _, words := range commands {
		var call engine.Call
		for _, w := range strings.Fields(words) {
			call.Args = append(call.Args, []byte(w))
		}
		call.Command = engine.LookupCall(call.Args)
		t.Calls = append(t.Calls, call)
	}
	return t
}

// randomTask draws a task out of commands of several types, some of which fail.
func randomTask(rng *rand.Rand) *engine.Task {
	key := func() string { return string(rune('a' + rng.IntN(6))) }
	var commands []string
	for range 1 + rng.IntN(5) {
		n := rng.IntN(1000)
		commands = append(commands, [...]string{
			fmt.Sprintf("SET %s %d", key(), n), fmt.Sprintf("set %s %d PX %d", key(), n, n+1), "INCR " + key(), "GET " + key(),
			fmt.Sprintf("RPUSH l%s %d %d", key(), n, n), "LPOP l" + key(), fmt.Sprintf("SADD s%s %d %d", key(), n, n+1), "SPOP s" + key(),
			fmt.Sprintf("HSET h%s f %d", key(), n), "DEL " + key(), "APPEND " + key() + " x", fmt.Sprintf("ZADD z%s %d m%d", key(), n, n%7),
			"EVAL return{redis.call('incr',KEYS[1])} 1 " + key(), fmt.Sprintf("XADD x%s * f %d", key(), n),
		}[rng.IntN(14)])
	}
	t := task(testCache, commands...)
	t.DB, t.Atomic, t.Whole, t.Quiet = rng.IntN(2), rng.IntN(4) == 0, rng.IntN(8) == 0, rng.IntN(8) == 0
	if rng.IntN(4) == 0 {
		t.Once = &engine.Once{Key: [16]byte{byte(rng.IntN(20))}, Fingerprint: [16]byte{byte(rng.IntN(2))}}
	}
	switch rng.IntN(4) {
	case 0:
		t.Rights = func() *engine.Rights { return &engine.Rights{Everything: true} }
	case 1:
		rights := &engine.Rights{Named: []engine.NamedRights{{On: engine.OnKey, Name: []byte("a"), Actions: []string{"cache:Incr", "cache:Increment", "cache:Set"}}}}
		t.Rights, t.Allowed = func() *engine.Rights { return rights }, rights.Allowed
	}
	return t
}

// TestEntriesMeanWhatTheyWere: a partition that is given tasks and one that is given their bytes end in the same state and
// answer the same.
func TestEntriesMeanWhatTheyWere(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 1))
		first, second := engine.New(engine.Seed{1}), engine.New(engine.Seed{1})
		now := int64(1_800_000_000_000)
		var d decoder
		configured := false
		for step := range 150 {
			now += rng.Int64N(300)
			e := &engine.Entry{Now: now, Seed: rng.Uint64()}
			if !configured {
				e.Tasks, configured = append(e.Tasks, engine.ConfigureTask(testCache, engine.Settings{MemoryLimit: 1 << 20})), true
			}
			for range 1 + rng.IntN(3) {
				e.Tasks = append(e.Tasks, randomTask(rng))
			}
			if sweep := first.Sweep(now, 10); sweep != nil {
				e.Tasks = append(e.Tasks, sweep)
			}
			b := appendEntry(nil, e.Now, e.Seed)
			for _, t := range e.Tasks {
				b = appendTask(b, t)
			}
			read, err := d.decode(b)
			if err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			var here, there engine.Recording
			for i := range e.Tasks {
				e.Tasks[i].Reply, read.Tasks[i].Reply = &here, &there
			}
			first.Apply(e)
			second.Apply(read)
			if !reflect.DeepEqual(here, there) || step%10 == 0 && first.Digest() != second.Digest() {
				t.Fatalf("seed %d, step %d: the partitions differ", seed, step)
			}
		}
	}
}

func TestAnEntryNamesRowsThatItsFirstWordDoesNot(t *testing.T) {
	want := task(testCache, "SCRIPT LOAD return", "CONFIG GET maxmemory", "get k", "PING")
	var d decoder
	e, err := d.decode(appendTask(appendEntry(nil, 5, 6), want))
	if err != nil {
		t.Fatal(err)
	}
	if e.Now != 5 || e.Seed != 6 || len(e.Tasks) != 1 {
		t.Fatalf("%+v", e)
	}
	for i, c := range e.Tasks[0].Calls {
		if c.Command != want.Calls[i].Command || !reflect.DeepEqual(c.Args, want.Calls[i].Args) {
			t.Errorf("%s %q came back as %s %q", want.Calls[i].Command.Name, want.Calls[i].Args, c.Command.Name, c.Args)
		}
	}
}

func TestToReadAnEntryAllocatesNothing(t *testing.T) {
	b := appendTask(appendEntry(nil, 5, 6), task(testCache, "SET k v", "INCR n", "HSET h f v"))
	var d decoder
	read := func() {
		if _, err := d.decode(b); err != nil {
			t.Fatal(err)
		}
	}
	read()
	if n := testing.AllocsPerRun(100, read); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRightsInsideScripts(t *testing.T) {
	rights := &engine.Rights{Named: []engine.NamedRights{{On: engine.OnKey, Name: []byte("mine"), Actions: []string{"cache:Get"}}}}
	rights.On[engine.OnCache] = []string{"cache:Inspect"}
	for words, want := range map[string]bool{"GET mine": true, "GET other": false, "SET mine v": false, "MGET mine other": false, "DBSIZE": true, "FLUSHALL": false, "GET": false} {
		c := task(testCache, words).Calls[0]
		if got := rights.Allowed(c.Command, c.Args) == nil; got != want {
			t.Errorf("%s: %v", words, got)
		}
	}
}

func FuzzEntry(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		f.Add(appendTask(appendTask(appendEntry(nil, rng.Int64(), rng.Uint64()), randomTask(rng)), randomTask(rng)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d decoder
		e, err := d.decode(b)
		if err != nil {
			return
		}
		// What was read and is written again reads the same.
		again := appendEntry(nil, e.Now, e.Seed)
		for _, task := range e.Tasks {
			if task.Allowed != nil {
				return // the rights are inside of a function
			}
			again = appendTask(again, task)
		}
		var other decoder
		twice, err := other.decode(again)
		if err != nil || len(twice.Tasks) != len(e.Tasks) {
			t.Fatalf("%v", err)
		}
		for i, task := range e.Tasks {
			for j, c := range task.Calls {
				o := twice.Tasks[i].Calls[j]
				if o.Command != c.Command || !bytes.Equal(bytes.Join(o.Args, []byte{0}), bytes.Join(c.Args, []byte{0})) {
					t.Fatalf("call %d of task %d differs", j, i)
				}
			}
		}
	})
}
