package tenants

import (
	"testing"

	"pgregory.net/rapid"
)

func TestRanges(t *testing.T) {
	g := Growth{MaxRanges: 8, RangeBytes: 100, RangeOps: 1000}
	tests := []struct {
		name  string
		grows Growth
		loads []RangeLoad
		most  int
		calm  bool
		want  int
	}{
		{"nothing is asked for", Growth{RangeBytes: 1}, []RangeLoad{{Bytes: 50}}, 16, false, 1},
		{"below the limits", g, []RangeLoad{{100, 1000}}, 16, false, 1},
		{"too many bytes", g, []RangeLoad{{101, 0}}, 16, false, 2},
		{"too many commands", g, []RangeLoad{{0, 1001}}, 16, false, 2},
		{"one of them is enough", g, []RangeLoad{{1, 1}, {101, 1}, {1, 1}}, 16, false, 6},
		{"no more than it may have", g, []RangeLoad{{101, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}}, 16, false, 8},
		{"no more than there are partitions", g, []RangeLoad{{101, 0}, {1, 1}, {1, 1}}, 4, false, 4},
		{"more than it may have already", Growth{MaxRanges: 2, RangeBytes: 10}, []RangeLoad{{11, 0}, {1, 1}, {1, 1}}, 16, false, 3},
		{"quiet, but not for long", g, []RangeLoad{{1, 1}, {1, 1}}, 16, false, 2},
		{"quiet for long", g, []RangeLoad{{1, 1}, {1, 1}}, 16, true, 1},
		{"quiet, with as much as one range could just bear", g, []RangeLoad{{45, 1}, {45, 1}}, 16, true, 2},
		{"quiet, without limits to judge by", Growth{MaxRanges: 8}, []RangeLoad{{1, 1}, {1, 1}}, 16, true, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.grows.Ranges(tt.loads, tt.most, tt.calm); got != tt.want {
				t.Errorf("got %d ranges, want %d", got, tt.want)
			}
		})
	}
}

// W2: whatever ranges a cache is given or loses, the same load spread over them does not turn that back.
func TestRangesComeToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := Growth{MaxRanges: rapid.IntRange(2, 64).Draw(t, "max"), RangeBytes: rapid.Int64Range(0, 1000).Draw(t, "bytes"), RangeOps: rapid.Int64Range(0, 1000).Draw(t, "ops")}
		bytes, ops := rapid.Int64Range(0, 10_000).Draw(t, "all bytes"), rapid.Int64Range(0, 10_000).Draw(t, "all ops")
		n, grew, shrank := rapid.IntRange(1, 64).Draw(t, "ranges"), false, false
		for range 20 {
			loads := make([]RangeLoad, n)
			for i := range loads {
				loads[i] = RangeLoad{bytes / int64(n), ops / int64(n)}
			}
			next := g.Ranges(loads, 64, true)
			grew, shrank = grew || next > n, shrank || next < n
			if grew && shrank {
				t.Fatalf("%d ranges become %d, after it was the other way", n, next)
			}
			n = next
		}
	})
}
