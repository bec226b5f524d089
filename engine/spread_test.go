package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Whoever adds a command without keys says here that one partition will do, or in its row what is to become of it.
func TestEveryCommandKnowsHowItSpreads(t *testing.T) {
	anywhere := strings.Fields("EVAL EVALSHA EVALSHA_RO EVAL_RO FCALL FCALL_RO FUNCTION SCRIPT LOLWUT PFSELFTEST PUBLISH SPUBLISH TIME")
	for _, c := range Commands() {
		if c.Flags&(Session|Connection) != 0 {
			if c.Spread != One {
				t.Errorf("%s is about a connection and spreads %s", c.Name, c.Spread)
			}
			continue
		}
		least := make([][]byte, max(c.Arity, -c.Arity))
		for i := range least {
			least[i] = fmt.Appendf(nil, "a%d", i)
		}
		keys := c.AppendKeys(nil, least)
		switch {
		case c.Spread.ByKey():
			first, end, step, ok := c.KeySpan(least)
			if c.Name == "UPSTASH.UNLINK" { // which may have none
				ok = !ok
			} else if len(keys) != 1 || string(keys[0]) != string(least[first]) || (end-first)/step != 1 {
				t.Errorf("%s: a key at %d, each %d, before %d; and %q are its keys", c.Name, first, step, end, keys)
			}
			if !ok {
				t.Errorf("%s cannot be divided", c.Name)
			}
			if _, _, _, ok := c.KeySpan(append(slices.Clone(least), []byte("more"))); step > 1 && ok {
				t.Errorf("%s is divided although its arguments do not come out even", c.Name)
			}
			if c.Spread != KeysListed && len(least) > end {
				t.Errorf("%s has arguments behind its keys", c.Name)
			}
		case len(keys) > 0 || c.Keys != (Keys{}):
			if c.Spread != One && c.Name != "MEMORY" {
				t.Errorf("%s has keys and spreads %s", c.Name, c.Spread)
			}
		case c.Spread == One && !slices.Contains(anywhere, c.Name):
			t.Errorf("%s has no keys: does it concern one partition, or all?", c.Name)
		}
		if (c.Spread == PartsInTurn) != (c.PageCount > 0) || (c.PageItem > 0 && c.Spread != PartsInTurn) {
			t.Errorf("%s: %d keys to a page, %d elements to a key", c.Name, c.PageCount, c.PageItem)
		}
		if c.Spread == PartsInTurn && !strings.HasPrefix(c.Usage, "cursor") {
			t.Errorf("%s has no cursor to go on with", c.Name)
		}
		for sub := range c.Subspreads {
			if got := c.SpreadOf([][]byte{nil, []byte(strings.ToLower(sub))}); got != c.Subspreads[sub] || got == One {
				t.Errorf("%s %s spreads %s", c.Name, sub, got)
			}
		}
	}
}

// In a cache of several slot ranges a script keeps to the slot that it has declared.
func TestScriptsOfASplitCacheKeepToTheirSlot(t *testing.T) {
	for _, tt := range []struct{ name, script, keys, want string }{
		{"its own key", "return redis.call('SET',KEYS[1],'v')", "1 {t}a", ""},
		{"another of its slot", "return redis.call('SET','{t}b','v')", "1 {t}a", ""},
		{"no key", "return redis.call('ECHO','x')", "0", ""},
		{"a key of another slot", "return redis.call('SET','other','v')", "1 {t}a", "do not hash to the same slot"},
		{"one of several", "return redis.call('MGET','{t}b','other')", "1 {t}a", "do not hash to the same slot"},
		{"where it stores", "return redis.call('GEORADIUS','{t}a',1,1,1,'m','STORE','other')", "1 {t}a", "do not hash to the same slot"},
		{"without a key of its own", "return redis.call('GET','{t}a')", "0", "declared none"},
		{"all keys", "return redis.call('DBSIZE')", "1 {t}a", "not allowed from script"},
		{"a walk", "return redis.call('SCAN','0')", "1 {t}a", "not allowed from script"},
		{"what elements name", "return redis.call('SORT','{t}a','BY','w_*')", "1 {t}a", "BY and GET"},
	} {
		for _, split := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " ", split), func(t *testing.T) {
				p := New(Seed{1, 2})
				id := CacheID{1}
				p.Apply(&Entry{Now: 1, Tasks: []*Task{ConfigureTask(id, Settings{Split: split})}})
				args := [][]byte{[]byte("EVAL"), []byte(tt.script)}
				for word := range strings.FieldsSeq(tt.keys) {
					args = append(args, []byte(word))
				}
				var reply Recording
				p.Apply(&Entry{Now: 2, Tasks: []*Task{{Cache: id, Calls: []Call{{Command: MustLookup("EVAL"), Args: args}}, Reply: &reply}}})
				c := reply.Cursor()
				got := ""
				if e := c.Next().Err; e != nil {
					got = e.Message
				}
				if want := tt.want; !split && got != "" || split && (want == "") != (got == "") || split && !strings.Contains(got, want) {
					t.Errorf("split %v: %q, want %q", split, got, tt.want)
				}
			})
		}
	}
}

// What is written of settings says whether the cache is split.
func TestNotesOfSettings(t *testing.T) {
	for _, s := range []Settings{{Split: true, Notify: EventKeyspace | EventSet}, {Notify: EventSet}, {Split: true}} {
		var got Settings
		got.note(s.notes())
		if got != s {
			t.Errorf("%+v became %+v", s, got)
		}
	}
}
