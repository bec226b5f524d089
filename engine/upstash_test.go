package engine

import (
	"fmt"
	"testing"
)

// UPSTASH.UNLINK is UNLINK, and UPSTASH.ZRANGE is ZRANGE, but for what Redis refuses.
func TestUpstash(t *testing.T) {
	p := New(Seed{1, 2})
	id := CacheID{1}
	p.Apply(&Entry{Now: 1000, Tasks: []*Task{ConfigureTask(id, Settings{MemoryLimit: 1 << 30})}})
	do := func(args ...string) string {
		t.Helper()
		var reply Recording
		call := Call{Command: Lookup([]byte(args[0]))}
		for _, a := range args {
			call.Args = append(call.Args, []byte(a))
		}
		p.Apply(&Entry{Now: 1000, Tasks: []*Task{{Cache: id, Calls: []Call{call}, Reply: &reply}}})
		text := ""
		for c := reply.Cursor(); ; {
			switch token := c.Next(); token.Kind {
			case ReplyEnd:
				return text
			case ReplyBulk:
				text += string(token.Bytes)
			case ReplyDouble:
				text += fmt.Sprint("=", token.Float)
			case ReplyInt:
				text += fmt.Sprint(token.Int)
			case ReplyError:
				text += token.Err.Message
			}
		}
	}
	do("ZADD", "z", "1", "a", "2", "b", "3", "c", "4", "d", "5", "e")
	do("SET", "k", "v")
	const onlyWith = "syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"no keys", "0", []string{"UPSTASH.UNLINK"}},
		{"keys", "1", []string{"UPSTASH.UNLINK", "k", "none"}},
		{"Redis's own", "wrong number of arguments for 'unlink' command", []string{"UNLINK"}},
		{"no limit", "abcde", []string{"UPSTASH.ZRANGE", "z", "0", "-1"}},
		{"a page", "bc", []string{"UPSTASH.ZRANGE", "z", "0", "-1", "LIMIT", "1", "2"}},
		{"the rest", "de", []string{"UPSTASH.ZRANGE", "z", "0", "-1", "LIMIT", "3", "-1"}},
		{"within a range", "cd", []string{"UPSTASH.ZRANGE", "z", "1", "3", "LIMIT", "1", "9"}},
		{"reversed", "cb", []string{"UPSTASH.ZRANGE", "z", "1", "3", "REV", "LIMIT", "1", "9"}},
		{"with scores", "b=2", []string{"UPSTASH.ZRANGE", "z", "0", "-1", "WITHSCORES", "LIMIT", "1", "1"}},
		{"past the end", "", []string{"UPSTASH.ZRANGE", "z", "0", "-1", "LIMIT", "9", "2"}},
		{"none", "", []string{"UPSTASH.ZRANGE", "z", "0", "-1", "LIMIT", "0", "0"}},
		{"by score", "cd", []string{"UPSTASH.ZRANGE", "z", "2", "5", "BYSCORE", "LIMIT", "1", "2"}},
		{"Redis's own", onlyWith, []string{"ZRANGE", "z", "0", "-1", "LIMIT", "1", "2"}},
	} {
		if got := do(tt.args...); got != tt.want {
			t.Errorf("%s: %v: %q, want %q", tt.name, tt.args, got, tt.want)
		}
	}
	for _, tt := range []struct {
		args []string
		want int64
	}{{[]string{"0", "9", "LIMIT", "0", "3"}, 3}, {[]string{"0", "1", "LIMIT", "0", "3"}, 2}, {[]string{"0", "-1", "LIMIT", "0", "3"}, 3}} {
		args := [][]byte{[]byte("UPSTASH.ZRANGE"), []byte("z")}
		for _, a := range tt.args {
			args = append(args, []byte(a))
		}
		if got := MustLookup("UPSTASH.ZRANGE").FactsOf(args, 0).MaxItems; got != tt.want {
			t.Errorf("%v lists at most %d, want %d", tt.args, got, tt.want)
		}
	}
}
