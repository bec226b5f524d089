package engine

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func FuzzParseInt(f *testing.F) {
	for _, s := range []string{"0", "-0", "1", "-1", "01", "+1", " 1", "1 ", "", "-", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
		"-9223372036854775809", "18446744073709551616", "99999999999999999999", "1_0", "0x1", "1e3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseInt([]byte(s))
		// The twin: a number is what it would be written as.
		want, err := strconv.ParseInt(s, 10, 64)
		wantOK := err == nil && strconv.FormatInt(want, 10) == s
		if ok != wantOK || (ok && got != want) {
			t.Errorf("%q: %d %v, want %d %v", s, got, ok, want, wantOK)
		}
	})
}

func FuzzParseFloat(f *testing.F) {
	for _, s := range []string{"0", "-0", "1.5", ".5", "5.", "1e3", "1E-3", "inf", "-Infinity", "nan", "1e309", "1e-400", "0e-400", "-0.0e9", "0x1p4", "0x0p-9999",
		"0x1p-9999", "1_0", "0x_1p0", " 1", "1e", "e1", "", "0X1.8P1", "1p3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseFloat([]byte(s))
		want, err := strconv.ParseFloat(s, 64)
		wantOK := err == nil && !math.IsNaN(want) && !strings.Contains(s, "_") && s != "" && len(s) <= 512
		if want == 0 {
			wantOK = wantOK && writtenZero.MatchString(s)
		}
		if ok != wantOK || (ok && got != want) {
			t.Errorf("%q: %v %v, want %v %v", s, got, ok, want, wantOK)
		}
		if !ok {
			return
		}
		// Written as a reply, it reads back as itself.
		if again, ok := parseFloat(appendFloat(nil, got)); !ok || again != got {
			t.Errorf("%q reads as %v, which is written %s", s, got, appendFloat(nil, got))
		}
		sum, ok := addDecimals([]byte(s), []byte("0"))
		if ok != !math.IsInf(got, 0) {
			t.Errorf("%q plus 0: %s %v", s, sum, ok)
		}
		if !ok {
			return
		}
		if again, ok := parseFloat(sum); !ok || math.Abs(again-got) > math.Max(1e-17, math.Abs(got)*1e-15) {
			t.Errorf("%q plus 0 is %s", s, sum)
		}
		if _, integer := parseInt(sum); !integer && strings.TrimRight(string(sum), "0123456789") == "" && len(sum) < 19 {
			t.Errorf("%q plus 0 is written %s", s, sum)
		}
	})
}

// writtenZero matches what has no digit but 0, so that it is no small number that was rounded to 0.
var writtenZero = regexp.MustCompile(`^[+-]?([0.]*([eE].*)?|0[xX][0.]*([pP].*)?)$`)

// TestFactsAndRights: what policies are asked must be what the command will do, option by option.
func TestFactsAndRights(t *testing.T) {
	const now = start
	facts := func(size, ttl, items int64, prefix string) string {
		return fmt.Sprintf("size %d, ttl %d, items %d, prefix %s", size, ttl, items, prefix)
	}
	none := facts(-1, -1, -1, "none")
	tests := []struct{ call, facts, rights string }{
		{"GET k", none, "cache:Get k"},
		{"MGET a b", none, "cache:Get a, cache:Get b"},
		{"GETRANGE k 0 1", none, "cache:GetRange k"},
		{"STRLEN k", none, "cache:Inspect k"},
		{"SET k 12345", facts(5, -1, -1, "none"), "cache:Set k"},
		{"SET k 12345 get", facts(5, -1, -1, "none"), "cache:Set k, cache:Get k"},
		{"SET k 1 EX 60", facts(1, 60_000, -1, "none"), "cache:Set k"},
		{"SET k 1 EX 1 EX 60", facts(1, 60_000, -1, "none"), "cache:Set k"},
		{"SET k 1 PX 60", facts(1, 60, -1, "none"), "cache:Set k"},
		{"SET k 1 EXAT 1800000060", facts(1, 60_000, -1, "none"), "cache:Set k"},
		{"SET k 1 PXAT 1800000000060", facts(1, 60, -1, "none"), "cache:Set k"},
		{"SET k 1 PXAT 1", facts(1, 0, -1, "none"), "cache:Set k"},
		{"SET k 1 EX 9223372036854775807", facts(1, math.MaxInt64/1000*1000, -1, "none"), "cache:Set k"},
		{"SETEX k 60 12", facts(2, 60_000, -1, "none"), "cache:Set k"},
		{"PSETEX k 60 12", facts(2, 60, -1, "none"), "cache:Set k"},
		{"MSET a 1 b 333 c 22", facts(3, -1, -1, "none"), "cache:Set a, cache:Set b, cache:Set c"},
		{"GETSET k 12", facts(2, -1, -1, "none"), "cache:Set k, cache:Get k"},
		{"GETDEL k", none, "cache:Get k, cache:Delete k"},
		{"GETEX k", none, "cache:Get k"},
		{"GETEX k EX 60", facts(-1, 60_000, -1, "none"), "cache:Get k, cache:Expire k"},
		{"GETEX k PERSIST", none, "cache:Get k, cache:Persist k"},
		{"APPEND k 12", facts(2, -1, -1, "none"), "cache:Append k"},
		{"SETRANGE k 100 12", facts(102, -1, -1, "none"), "cache:Set k"},
		{"SETRANGE k 9223372036854775807 12", facts(math.MaxInt64, -1, -1, "none"), "cache:Set k"},
		{"INCRBY k 1", none, "cache:Increment k"},
		{"DEL a b", none, "cache:Delete a, cache:Delete b"},
		{"EXISTS a b", none, "cache:Exists a, cache:Exists b"},
		{"OBJECT ENCODING k", none, "cache:Inspect k"},
		{"OBJECT HELP", none, "cache:Inspect on the cache"},
		{"EXPIRE k 60", facts(-1, 60_000, -1, "none"), "cache:Expire k"},
		{"EXPIRE k -60", facts(-1, 0, -1, "none"), "cache:Expire k"},
		{"PEXPIREAT k 1800000000060 NX", facts(-1, 60, -1, "none"), "cache:Expire k"},
		{"PERSIST k", none, "cache:Persist k"},
		{"TTL k", none, "cache:TTL k"},
		{"RENAME a b", none, "cache:Rename a, cache:Get a, cache:Delete a, cache:Set b"},
		{"COPY a b DB 1", none, "cache:Copy a, cache:Get a, cache:Set b"},
		{"MOVE k 1", none, "cache:Rename k, cache:Get k, cache:Delete k, cache:Set k"},
		{"DUMP k", none, "cache:Get k"},
		{"RESTORE k 60 12345", facts(5, 60, -1, "none"), "cache:Set k"},
		{"RESTORE k 1800000000060 12345 REPLACE ABSTTL", facts(5, 60, -1, "none"), "cache:Set k"},
		{"RESTORE k 0 12345", facts(5, -1, -1, "none"), "cache:Set k"},
		{"SET k 12 IFEQ 1 EX 60", facts(2, 60_000, -1, "none"), "cache:Set k, cache:CompareAndSet k"},
		{"SET k 12 GET IFDNE 0123456789abcdef", facts(2, -1, -1, "none"), "cache:Set k, cache:Get k, cache:CompareAndSet k"},
		{"DELEX k", none, "cache:Delete k"},
		{"DELEX k IFNE v", none, "cache:Delete k, cache:CompareAndSet k"},
		{"DELIFEQ k v", none, "cache:Delete k, cache:CompareAndSet k"},
		{"MSETEX 2 a 1 b 333 PX 60", facts(3, 60, -1, "none"), "cache:Set a, cache:Set b"},
		{"MSETEX 3 a 1 b 333", facts(0, -1, -1, "none"), "cache:Set on the cache"},
		{"INCREX k EX 60 ENX", facts(-1, 60_000, -1, "none"), "cache:Increment k, cache:Expire k"},
		{"INCREX k PERSIST", none, "cache:Increment k, cache:Persist k"},
		{"CL.THROTTLE k 1 1 1", none, "cache:Increment k"},
		{"SWAPDB 0 1", none, "cache:Flush on the cache"},
		{"MEMORY USAGE k", none, "cache:Inspect k"},
		{"MEMORY STATS", none, "cache:Inspect on the cache"},
		{"KEYS user:*", facts(-1, -1, MaxKeysCount, "user:"), "cache:Scan on the cache"},
		{"SCAN 0", facts(-1, -1, 10, "none"), "cache:Scan on the cache"},
		{"SCAN 0 MATCH * COUNT 7", facts(-1, -1, 7, ""), "cache:Scan on the cache"},
		{"SCAN 0 MATCH a* MATCH b*", facts(-1, -1, 10, "b"), "cache:Scan on the cache"},
		{`SCAN 0 MATCH a\*b?`, facts(-1, -1, 10, "a*b"), "cache:Scan on the cache"},
		{"KV.SCAN 0 PREFIX a PREFIX b MATCH *c", facts(-1, -1, 10, "b"), "cache:Scan on the cache"},
		{"KV.SCAN 0 MATCH c*", facts(-1, -1, 10, "c"), "cache:Scan on the cache"},
		{"KV.DELPREFIX 0 a", facts(-1, -1, -1, "a"), "cache:DeleteByPrefix on the cache"},
		{"KV.GET k RANGE 0 1", none, "cache:Get k"},
		{"KV.SET k 12 PX 60 IFMATCH 1", facts(2, 60, -1, "none"), "cache:Set k"},
		{"KV.APPEND k 12", facts(2, -1, -1, "none"), "cache:Append k"},
		{"KV.DEL k", none, "cache:Delete k"},
		{"COUNTER.ADD k 5 PX 60", facts(-1, 60, -1, "none"), "cache:Increment k"},
		{"COUNTER.SET k 5 PX 60", facts(1, 60, -1, "none"), "cache:Set k"},
		{"COUNTER.RESET k", none, "cache:Set k, cache:Get k"},
		{"COUNTER.GET k", none, "cache:Get k"},
		{"COUNTER.DEL k", none, "cache:Delete k"},
	}
	for _, tt := range tests {
		call := (&world{t: t}).task(strings.Fields(tt.call)).Calls[0]
		f := call.Command.FactsOf(call.Args, now)
		prefix := "none"
		if f.Prefix != nil {
			prefix = string(f.Prefix)
		}
		if got := facts(f.ValueSize, f.TTL, f.MaxItems, prefix); got != tt.facts {
			t.Errorf("%s: %s, want %s", tt.call, got, tt.facts)
		}
		var rights []string
		for _, r := range call.Command.AppendRights(nil, call.Args) {
			name := string(r.Name)
			if r.On == OnCache {
				name = "on the cache"
			}
			rights = append(rights, r.Action+" "+name)
		}
		if got := strings.Join(rights, ", "); got != tt.rights {
			t.Errorf("%s takes %s, want %s", tt.call, got, tt.rights)
		}
	}
}
