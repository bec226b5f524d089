package engine

import (
	"bufio"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine/script"
)

// hostileScripts reads testdata/hostile.lua: scripts that are up to no good, each under a line with its name and how it is
// to end: "stopped", "fails" with an error of its own, "returns", or "ends" one way or another.
func hostileScripts(t testing.TB) (list []hostile) {
	f, err := os.Open("testdata/hostile.lua")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if head, ok := strings.CutPrefix(lines.Text(), "---- "); ok {
			ending, name, _ := strings.Cut(head, ": ")
			list = append(list, hostile{name: name, ending: ending})
			continue
		}
		list[len(list)-1].text += lines.Text() + "\n"
	}
	return list
}

type hostile struct{ name, ending, text string }

// What a script may take, whatever it tries. Of time, tests measure that of the processor, since the machine that they run
// on has other work; it is the time that the partition is held up where there is none. Of memory they count all that is
// allocated, whether or not it is garbage by the end.
const (
	hostileTime   = 150 * time.Millisecond
	hostileMemory = 96 << 20
)

// TestHostileScripts: whatever a script tries, it ends soon and in bounded memory, and has changed nothing when it was
// stopped; and the partition goes on.
func TestHostileScripts(t *testing.T) {
	list := hostileScripts(t)
	if len(list) < 40 {
		t.Errorf("only %d scripts", len(list))
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // lest the collector's work count for the script's
	for _, h := range list {
		t.Run(h.name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			w := newWorld(t)
			w.do("SET", "a", "1")
			w.do("RPUSH", "l", "1", "2", "3")
			w.do("ZADD", "z", "1", "m")
			w.do("HSET", "h", "f", "v")
			w.do("SCRIPT", "LOAD", h.text)
			task := w.task([]string{"EVAL", h.text, "2", "a", "l", "x", "y"})
			task.Reply = &Bounded{Recording: &Recording{}, Max: maxRemembered}
			entry := &Entry{Now: w.now, Seed: 1, Tasks: []*Task{task}}
			before := w.p.Digest()
			runtime.GC()
			var m, n runtime.MemStats
			runtime.ReadMemStats(&m)
			cpu := threadTime()
			w.p.Apply(entry)
			cpu = threadTime() - cpu
			runtime.ReadMemStats(&n)
			out := show(task.Reply.(*Bounded).Recording)
			t.Logf("%v, %d KiB allocated, %d steps and %d KiB accounted: %.150s", cpu, (n.TotalAlloc-m.TotalAlloc)>>10, w.p.scriptUsed.Steps, w.p.scriptUsed.Bytes>>10, out)
			if cpu > hostileTime && !raceEnabled {
				t.Errorf("it took %v of the processor", cpu)
			}
			if took := n.TotalAlloc - m.TotalAlloc; took > hostileMemory && !raceEnabled {
				t.Errorf("it allocated %d MiB", took>>20)
			}
			ending := "returns"
			switch {
			case strings.Contains(out, "was stopped"):
				ending = "stopped"
				if w.p.Digest() != before {
					t.Error("it was stopped and changed something")
				}
			case strings.HasPrefix(out, "(error)"):
				ending = "fails"
			}
			if h.ending != ending && h.ending != "ends" {
				t.Errorf("it %s, want %s", ending, h.ending)
			}
			if w.p.scriptUsed.Steps > scriptSteps+scriptSteps/8 {
				t.Errorf("%d steps", w.p.scriptUsed.Steps)
			}
			if err := w.p.check(); err != nil {
				t.Error(err)
			}
			if got := w.do("EVAL", "return {redis.call('GET', 'b'), KEYS[1], #ARGV, tostring(1.5), ('x'):rep(3), cjson.encode({1})}", "1", "k"); !strings.HasSuffix(got, `"k" 0 "1.5" "xxx" "[1]"]`) {
				t.Errorf("the next script answers %s", got)
			}
			w.do("SET", "after", "1")
		})
	}
}

// TestHostileScriptsDoTheSameEverywhere: two partitions with different pasts end in the same state with the same answers.
func TestHostileScriptsDoTheSameEverywhere(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	for i, h := range hostileScripts(t) {
		if i%2 == 0 { // b has run another script before
			b.p.Query(b.now, 1, b.task([]string{"EVAL_RO", "local t = {} for i = 1, 500 do t[i] = {} end local function f(n) if n > 0 then return f(n - 1), 1 end end f(200) return #t", "0"}))
		}
		task, twin := a.task([]string{"EVAL", h.text, "2", "a", "l", "x"}), b.task([]string{"EVAL", h.text, "2", "a", "l", "x"})
		a.p.Apply(&Entry{Now: a.now, Seed: uint64(i), Tasks: []*Task{task}})
		b.p.Apply(&Entry{Now: a.now, Seed: uint64(i), Tasks: []*Task{twin}})
		if x, y := show(task.Reply.(*Recording)), show(twin.Reply.(*Recording)); x != y {
			t.Errorf("%s answers %.200s, and %.200s", h.name, x, y)
		}
		if a.p.scriptUsed != b.p.scriptUsed {
			t.Errorf("%s took %v, and %v", h.name, a.p.scriptUsed, b.p.scriptUsed)
		}
		if a.p.Digest() != b.p.Digest() {
			t.Fatalf("%s leaves different states", h.name)
		}
	}
}

// FuzzScript: no text makes the machine panic, or take more than it may.
func FuzzScript(f *testing.F) {
	for _, h := range hostileScripts(f) {
		f.Add(h.text)
	}
	text, _ := os.ReadFile("testdata/scripts.lua")
	for _, s := range strings.Split(string(text), "\n----\n") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w := newWorld(t)
		w.do("SET", "a", "1")
		before := w.p.Digest()
		task := w.task([]string{"EVAL", text, "1", "a", "x"})
		w.p.Apply(&Entry{Now: w.now, Seed: 1, Tasks: []*Task{task}})
		if err := wellFormed(task.Reply.(*Recording), 1); err != nil {
			t.Fatal(err)
		}
		if out := show(task.Reply.(*Recording)); strings.Contains(out, "was stopped") && strings.HasPrefix(out, "(error)") {
			w.do("SCRIPT", "FLUSH")
			if w.p.Digest() != before {
				t.Fatal("it was stopped and changed something")
			}
		}
		if used := w.p.scriptUsed; used.Steps > scriptSteps+scriptSteps/8 || used.Bytes > scriptBytes+1 {
			t.Fatalf("it took %v", used)
		}
		if err := w.p.check(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCompilingIsBounded: text that is no program, and text that is much of one, take their time by their length.
func TestCompilingIsBounded(t *testing.T) {
	for _, unit := range []string{"a=b ", "(", "{", "((((", "a.", "a[", "f(", "f{", "not ", "-", "x=1+", "..", "x=x..", "function() ", "if a then ", "else", "while 1 do ", "do ", "repeat ", "local a ", "a,", "local function f() ", "[", "[=", "--", "[[", "'", "\"\\", "\\", "0", "0x", "1e", "\xff", "\x00", "elseif a then ", "x=a and ", "f'x'", "f\"\"", "a:b()", "{{},", "{[1]=", "return ", "end ", ";"} {
		text := strings.Repeat(unit, script.MaxSource/len(unit))
		for _, s := range []string{text, "return " + text[:len(text)-8], "x=" + text[:len(text)-8]} {
			begin := time.Now()
			var m, n runtime.MemStats
			runtime.ReadMemStats(&m)
			_, err := script.Compile(s)
			runtime.ReadMemStats(&n)
			if took := time.Since(begin); took > 2*time.Second || n.TotalAlloc-m.TotalAlloc > 512*script.MaxSource {
				t.Errorf("%q: %v, %d MiB, %v", unit, took, (n.TotalAlloc-m.TotalAlloc)>>20, err)
			}
		}
	}
	if _, err := script.Compile(strings.Repeat(" ", script.MaxSource+1)); err == nil {
		t.Error("text of any length is compiled")
	}
}
