package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestBenchHitRatio(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		in     string
		status int
		want   []string
	}{
		{name: "a loop", args: []string{"--trace", "-", "--capacity", "2,3", "--policy", "lru,belady,allkeys-lru"},
			in: strings.Repeat("a\nb\nc\n", 4), want: []string{"12 requests of 3 keys", "lru   0.00  75.00", "belady  41.67  75.00"}},
		{name: "runs of blocks", args: []string{"--trace", "-", "--format", "arc", "--capacity", "4", "--policy", "lru"},
			in: "1 4 0 0\n1 4 0 0\n", want: []string{"8 requests of 4 keys", "50.00"}},
		{name: "a line that is no run", args: []string{"--trace", "-", "--format", "arc", "--capacity", "4"}, in: "x\n", status: exitUsage,
			want: []string{"line 1"}},
		{name: "no such policy", args: []string{"--trace", "-", "--capacity", "4", "--policy", "noeviction"}, in: "x\n", status: exitUsage,
			want: []string{`no "noeviction"`, "allkeys-adaptive"}},
		{name: "no room", args: []string{"--trace", "-", "--capacity", "4,0"}, in: "x\n", status: exitUsage, want: []string{"--capacity"}},
		{name: "no trace", args: []string{"--capacity", "4"}, status: exitUsage, want: []string{"trace"}},
		{name: "no such file", args: []string{"--trace", "/no/such/file", "--capacity", "4"}, status: exitUsage, want: []string{"/no/such/file"}},
	} {
		var out, errs bytes.Buffer
		status := execute(t.Context(), append([]string{"bench", "hitratio"}, c.args...), strings.NewReader(c.in), &out, &errs)
		if status != c.status {
			t.Errorf("%s: exit status %d, want %d: %s", c.name, status, c.status, errs.String())
		}
		for _, w := range c.want {
			if !strings.Contains(out.String()+errs.String(), w) {
				t.Errorf("%s: no %q in\n%s%s", c.name, w, out.String(), errs.String())
			}
		}
	}
}
