// Package usage makes up calls of commands for tests, from what the command table says their arguments look like: a new
// row is under test from its first day.
package usage

import (
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"strings"
)

// A Choice returns one of the numbers below n.
type Choice func(n int) int

func pick[T any](choose Choice, from []T) T { return from[choose(len(from))] }

// More are arguments that a test has to offer for what Usage calls by a name.
var More = map[string][]string{}

// Make makes up the arguments of a call of a command with this name and usage, at time now in milliseconds since 1970. With
// a nil choice they are the least that a call needs.
func Make(name, usage string, now int64, choose Choice) []string {
	return appendUsage([]string{name}, now, choose, parse(usage))
}

// part is a part of a Usage: words in order, or alternatives.
type part struct {
	word     string   // when neither group nor alternatives
	options  [][]part // what stands between brackets, by alternatives
	optional bool     // in square brackets
	repeats  bool     // ended by "..."
}

// parse reads Redis's notation: UPPER is a literal, lower a value, [x] optional, <x | y> one of, and
// "..." inside brackets repeats them.
func parse(text string) [][]part {
	for _, sign := range []string{"[", "]", "<", ">", "|", "..."} {
		text = strings.ReplaceAll(text, sign, " "+sign+" ")
	}
	words := strings.Fields(text)
	var alternatives func(end string) [][]part
	alternatives = func(end string) [][]part {
		all := [][]part{nil}
		for len(words) > 0 && words[0] != end {
			w := words[0]
			words = words[1:]
			last := &all[len(all)-1]
			switch w {
			case "|":
				all = append(all, nil)
			case "...":
				*last = append(*last, part{repeats: true})
			case "[", "<":
				group := part{options: alternatives(map[string]string{"[": "]", "<": ">"}[w]), optional: w == "["}
				words = words[1:]
				*last = append(*last, group)
			default:
				*last = append(*last, part{word: w})
			}
		}
		return all
	}
	return alternatives("")
}

// appendUsage appends arguments that fit one of the alternatives. With a nil choice it takes the least that a call needs.
func appendUsage(args []string, now int64, choose Choice, alternatives [][]part) []string {
	sequence := alternatives[0]
	if choose != nil {
		sequence = pick(choose, alternatives)
	}
	for _, u := range sequence {
		switch {
		case u.options != nil && u.optional && (choose == nil || choose(2) == 0):
		case u.options != nil:
			args = appendUsage(args, now, choose, u.options)
		case u.repeats:
			again := 0
			if choose != nil {
				again = choose(4)
			}
			for range again {
				for _, v := range sequence {
					if v.word != "" && v.word != strings.ToUpper(v.word) {
						args = append(args, Argument(v.word, now, choose))
					}
				}
			}
		case u.word == strings.ToUpper(u.word):
			args = append(args, u.word)
		default:
			args = append(args, Argument(u.word, now, choose))
		}
	}
	return args
}

// Argument makes one up that fits what Usage calls name. Everything is small, so that calls meet each other's keys,
// fields and deadlines.
func Argument(name string, now int64, choose Choice) string {
	if choose == nil {
		return name
	}
	if more := More[name]; more != nil {
		return pick(choose, more)
	}
	keys := []string{"a", "b", "c", "d", "{x}e", ""}
	numbers := []string{"0", "1", "2", "3", "-1", "-2", "5", "10", "100"}
	switch name {
	case "key", "newkey", "source", "destination", "src", "dst", "userkey", "destkey", "sourcekey", "key1", "key2":
		return pick(choose, keys)
	case "field", "member", "member1", "member2":
		return pick(choose, []string{"f", "g", "h", "i", "j", "", "\xff"})
	case "numkeys", "numfields":
		return pick(choose, []string{"1", "2", "3", "2"})
	case "milliseconds", "seconds":
		return pick(choose, []string{"1", "5", "20", "1000", "0", "-1"})
	case "unix-time-seconds":
		return strconv.FormatInt(now/1000+int64(choose(3)-1), 10)
	case "unix-time-milliseconds":
		return strconv.FormatInt(now+int64(choose(200)-20), 10)
	case "data", "patch":
		return pick(choose, []string{`{}`, `{"a":{"b":1.50},"c":null}`, `{"a":{"b":null,"d":[1]}}`, `[1]`, `"x"`, `{"a":`})
	case "json":
		return pick(choose, []string{`{"a":{"b":1.50,"a":[1,"x"]},"f":true,"s":"x","l":[1,[2],{"a":3}]}`, `{"a":null,"l":[]}`, `[1,2,3]`, `[[],true,"s"]`, `"x"`, `7`, `false`, `{"a":`, "1e400"})
	case "path":
		return pick(choose, []string{"$", "$", "$", "$", "$", "$", "$", "$", ".", ".", ".", ".", "$.a", "$..a", "$.*", "$..*", "a", ".a.b", "l[0]", "$.l[1:]", "$[0]", "$.s", "$.f", "$.l", "l", "s", "f", "$.new", "$[?@>1]", "$..[?@.a]", "$[", "..a"})
	case "score", "min", "max", "weight":
		return pick(choose, append([]string{"-inf", "+inf", "inf", "1.5", "(1", "(2", "-", "+", "[f", "(g", "-", "+", "[f", "(i"}, numbers...))
	case "increment", "decrement", "by", "x", "y":
		return pick(choose, append([]string{"0.5", "1e3", "9223372036854775807", "-9223372036854775808"}, numbers...))
	case "longitude", "latitude":
		return pick(choose, []string{"0", "1.5", "-1.25", "13.361389", "38.115556", "85", "-180", "86"})
	case "radius", "width", "height": // the large ones are integers to nobody who would make a sketch of such a width
		return pick(choose, []string{"0", "1", "100", "2e5", "1e7", "inf", "-1"})
	case "error", "error_rate", "probability", "decay", "quantile", "low_cut_quantile", "high_cut_quantile":
		return pick(choose, []string{"0.5", "0.01", "0.9", "0.001", "0.25", "1", "0", "-1", "x"})
	case "iterator":
		return pick(choose, []string{"0", "1", "1", "1", "2", "9", "25", "-1"})
	case "bit":
		return pick(choose, []string{"0", "1"})
	case "encoding":
		return pick(choose, []string{"u8", "i8", "u1", "i5", "u13", "u63", "i64", "i1"})
	case "group", "consumer":
		return pick(choose, []string{"g", "g", "g", "h"})
	case "id", "max-deleted-id", "threshold":
		return pick(choose, []string{"0", "1", "1-1", "2", "2-1", "3", "5-0", "9", "1-*"})
	case "last-id", "lastid":
		return pick(choose, []string{"0", "5-1", "7", "9000000000000", "9000000000000-5", "-"})
	case "min-idle-time", "ms", "entries-read", "entries-added":
		return pick(choose, numbers)
	case "pattern", "prefix":
		return pick(choose, []string{"*", "a*", "?", "[a-c]", "", "{x}"})
	case "type":
		return pick(choose, []string{"string", "hash", "list", "set", "zset", "stream", "session", "none"})
	case "script":
		return pick(choose, Scripts)
	case "sha1":
		h := sha1.Sum([]byte(pick(choose, Scripts)))
		return hex.EncodeToString(h[:])
	case "function", "library-name":
		return pick(choose, []string{"f", "g", "g", "lib", "lib2"})
	case "library-code":
		return pick(choose, Libraries)
	case "payload":
		return pick(choose, []string{"", "\x0b\x00", libraryPayload, libraryPayload})
	case "cursor", "count", "index", "limit", "offset", "start", "stop", "end", "first", "last", "above", "below", "version", "destination-db", "ttl":
		return pick(choose, numbers)
	default:
		return pick(choose, append([]string{"", "x", "hello", "\x00\xff", "1.5"}, numbers...))
	}
}

// Scripts do various things, some of them too much.
var Scripts = []string{
	"return 1", "return redis.call('SET', KEYS[1], ARGV[1] or 'v')", "redis.call('LPUSH', KEYS[1], 1, 2) redis.call('DEL', KEYS[1]) return redis.call('GET', KEYS[1])",
	"redis.call('HSET', 'h', KEYS[1], 1) redis.call('FLUSHDB') redis.call('ZADD', 'z', 1, 'm') error('after')", "for i = 1, 300 do redis.call('RPUSH', 'l', i) end error('full')",
	"redis.call('FLUSHALL') redis.call('SET', 'a', 1) redis.call('EXPIRE', 'a', 100) return redis.call('DBSIZE')",
	"return {redis.pcall('INCR', KEYS[1]), redis.pcall('SADD', 's', ARGV[1] or 1, 2, 3), redis.call('SELECT', 1), redis.call('APPEND', 'a', 'x')}",
	"#!lua flags=no-writes\nreturn #redis.call('KEYS', '*')", "return redis.call('RENAME', 'a', 'b')", "x = ", "redis.call('XADD', 'x', '1-*', 'a', 1) return redis.error_reply('MY error')",
}

// Libraries have functions, some with the same names.
var Libraries = []string{
	"#!lua name=lib\nredis.register_function('f', function(keys, args) return redis.call('SET', keys[1], args[1] or 1) end)",
	"#!lua name=lib3\nredis.register_function{function_name='g', callback=function() return 1 end, flags={'no-writes'}}",
	"#!lua name=lib2\nredis.register_function{function_name='g', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}}",
	"#!lua name=lib\nx", "#!lua name=lib2\nredis.register_function('f', function() return 1 end)",
}

// libraryPayload is a library as FUNCTION DUMP has it; its checksum is left out, as Redis takes it.
const libraryPayload = "\xf5\x40\x62" +
	"#!lua name=lib\nredis.register_function('f', function(keys) return redis.call('INCR', keys[1]) end)" +
	"\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00"
