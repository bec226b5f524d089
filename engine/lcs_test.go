package engine

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// naiveLCS tries every subsequence of a.
func naiveLCS(a, b string) (longest int) {
	for chosen := range 1 << len(a) {
		n, rest, ok := 0, b, true
		for i := range len(a) {
			if chosen>>i&1 == 1 && ok {
				n++
				_, rest, ok = strings.Cut(rest, a[i:i+1])
			}
		}
		if ok {
			longest = max(longest, n)
		}
	}
	return longest
}

func TestModelLCS(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching("[abc]{0,10}")
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		common, matches := (&call{p: &Partition{}}).commonSubsequence([]byte(a), []byte(b))
		if want := naiveLCS(a, b); len(common) != want {
			t.Fatalf("%q is not as long as %d", common, want)
		}
		var joined string
		for i, m := range matches {
			if a[m.aFirst:m.aLast+1] != b[m.bFirst:m.bLast+1] {
				t.Fatalf("%+v are not the same", m)
			}
			if i > 0 && (m.aLast >= matches[i-1].aFirst || m.bLast >= matches[i-1].bFirst) {
				t.Fatalf("%+v is not before %+v", m, matches[i-1])
			}
			joined = a[m.aFirst:m.aLast+1] + joined
		}
		if joined != string(common) {
			t.Fatalf("the matches make up %q, not %q", joined, common)
		}
	})
}

// TestLCSRefusesBeforeItAllocates: two values within every other limit would need a table of terabytes.
func TestLCSRefusesBeforeItAllocates(t *testing.T) {
	w := newWorld(t)
	w.do("SETRANGE", "a", "1048575", "x")
	task := w.task([]string{"LCS", "a", "a"})
	allocated := testing.AllocsPerRun(1, func() { w.p.Query(w.now, 1, task) })
	if got := show(task.Reply.(*Recording)); !strings.HasPrefix(got, "(error) ERR the strings are too long for LCS") || allocated > 50 {
		t.Errorf("%s after %v allocations", got, allocated)
	}
	w.do("SETRANGE", "b", "4094", "x")
	w.do("SETRANGE", "c", "4095", "x")
	if got := w.do("LCS", "b", "b", "LEN"); got != "4095" {
		t.Errorf("up to the limit: %s", got)
	}
	if got := w.do("LCS", "b", "c", "LEN"); !strings.HasPrefix(got, "(error)") {
		t.Errorf("one past the limit: %s", got)
	}
}
