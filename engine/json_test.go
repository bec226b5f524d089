package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/engine/jsondoc"
)

// json runs a command written with spaces between its words, and returns its reply without backslashes before quotes.
func (w *world) json(command string) string {
	w.t.Helper()
	return strings.ReplaceAll(w.do(strings.Split(command, " ")...), `\"`, `"`)
}

func (w *world) steps(t *testing.T, list []step) {
	t.Helper()
	for _, s := range list {
		if got := w.json(s.command); got != s.want {
			t.Errorf("%s\n answers %s\n     not %s", s.command, got, s.want)
		}
	}
}

// TestJSONAsRedisJSON: what RedisJSON answers to the same, by its own documentation and tests, in RESP2.
func TestJSONAsRedisJSON(t *testing.T) {
	const noKey, noPath = "(error) ERR could not perform this operation on a key that doesn't exist", "(error) ERR Path does not exist"
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"SET and GET", []step{
			{`JSON.SET k $ {"a":1,"nested":{"a":2,"b":3}}`, "OK"},
			{`JSON.GET k`, `"{"a":1,"nested":{"a":2,"b":3}}"`},
			{`JSON.GET k $`, `"[{"a":1,"nested":{"a":2,"b":3}}]"`},
			{`JSON.GET k $..a`, `"[1,2]"`},
			{`JSON.GET k ..a`, `"1"`},
			{`JSON.GET k $.none`, `"[]"`},
			{`JSON.GET k .none`, noPath},
			{`JSON.GET k $..b $.a $.none`, `"{"$..b":[3],"$.a":[1],"$.none":[]}"`},
			{`JSON.GET k ..a $.a`, `"{"..a":[1,2],"$.a":[1]}"`},
			{`JSON.GET k .a nested.b`, `"{".a":1,"nested.b":3}"`},
			{`JSON.GET k .a .none`, noPath},
			{`JSON.GET k $.a $.a`, `"{"$.a":[1]}"`},
			{`JSON.GET k NOESCAPE INDENT __ NEWLINE | SPACE _ .nested`, `"{|__"a":_2,|__"b":_3|}"`},
			{`JSON.GET k INDENT - $.a .nested`, `"{-"$.a":[--1-],-".nested":[--{---"a":2,---"b":3--}-]}"`},
			{`JSON.GET k INDENT`, "(error) ERR wrong number of arguments for 'json.get' command"},
			{`JSON.GET none $`, "(nil)"},
			{`JSON.GET none`, "(nil)"},
			{`JSON.GET k FORMAT EXPAND $`, "(error) ERR FORMAT argument is not supported on RESP2"},
			{`JSON.SET k $..a 4.2`, "OK"},
			{`JSON.GET k .`, `"{"a":4.2,"nested":{"a":4.2,"b":3}}"`},
			{`JSON.SET k .nested.new [true]`, "OK"},
			{`JSON.SET k nested.new[0] null`, "OK"},
			{`JSON.GET k $.nested`, `"[{"a":4.2,"b":3,"new":[null]}]"`},
		}},
		{"where SET creates nothing", []step{
			{`JSON.SET k $.a 1`, "(error) ERR new objects must be created at the root"},
			{`JSON.SET k $ {"a":[1]} XX`, "(nil)"},
			{`JSON.SET k $ {"a":[1]} NX`, "OK"},
			{`JSON.SET k $ {} NX`, "(nil)"},
			{`JSON.SET k $.a 2 NX`, "(nil)"},
			{`JSON.SET k $.b 2 XX`, "(nil)"},
			{`JSON.SET k $.b 2 NX`, "OK"},
			{`JSON.SET k $.b 3 XX`, "OK"},
			{`JSON.SET k $.b.c 3`, "(nil)"},
			{`JSON.SET k $.c.d 3`, "(nil)"},
			{`JSON.SET k $..z 3`, "(error) Err wrong static path"},
			{`JSON.SET k $['x','y'] 3`, "(error) Err wrong static path"},
			{`JSON.SET k $.a[1] 3`, "(error) ERR array index out of range"},
			{`JSON.SET k $.a[0] 3 NX`, "(nil)"},
			{`JSON.SET k $.a[-1] 3`, "OK"},
			{`JSON.SET k $ 1 NX XX`, "(error) ERR syntax error"},
			{`JSON.SET fp $ [0.1,1] NX fpha FP16`, "OK"},
			{`JSON.SET fp $ [] FPHA FP32 NX`, "(nil)"},
			{`JSON.GET fp`, `"[0.1,1]"`},
			{`JSON.SET fp $ [] FPHA FP8`, "(error) ERR invalid FPHA type"},
			{`JSON.SET fp $ [] FPHA`, "(error) ERR wrong number of arguments for 'json.set' command"},
			{`JSON.SET k $ 1 FORMAT BSON`, "(error) ERR wrong format"},
			{`JSON.SET k $ 1e400`, "(error) ERR number out of range at line 1 column 6"},
			{`JSON.SET k $ {"a":x}`, "(error) ERR expected value at line 1 column 6"},
			{`JSON.SET k $ `, "(error) ERR EOF while parsing a value at line 1 column 1"},
			{"JSON.SET k $ \"\xff\"", "(error) ERR Couldn't parse as UTF-8 string"},
			{`JSON.SET k $. 1`, "(error) ERR Error occurred on position 2, expected a name, * or ["},
			{`JSON.GET k`, `"{"a":[3],"b":3}"`},
		}},
		{"MSET and MGET", []step{
			{`JSON.MSET k $ {"a":1,"n":{"a":3}} l $ {"a":4,"n":{"a":[6]}}`, "OK"},
			{`JSON.MGET k none l $..a`, `["[1,3]" (nil) "[4,[6]]"]`},
			{`JSON.MGET k none l n.a`, `["3" (nil) "[6]"]`},
			{`SET s x`, "OK"},
			{`JSON.MGET k s l n.a[0]`, `[(nil) (nil) "6"]`},
			{`JSON.MSET k $.a 2 k $.b {} k $.b.c 7 l $ [0] l $[0] 1`, "OK"},
			{`JSON.MGET k l $`, `["[{"a":2,"n":{"a":3},"b":{"c":7}}]" "[[1]]"]`},
			{`JSON.MSET k $.a 9 none $.a 1`, "(error) ERR new objects must be created at the root"},
			{`JSON.MSET k $.a 9 l $[5] 1`, "(error) ERR array index out of range"},
			{`JSON.MSET k $.a 9 s $ 1`, "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
			{`JSON.MSET k $.a 9 l $ {`, "(error) ERR EOF while parsing a value at line 1 column 2"},
			{`JSON.MSET k $.a 9 l $`, "(error) ERR wrong number of arguments for 'json.mset' command"},
			{`JSON.MSET k $.a 9 k $.x.y 1`, "(nil)"},
			{`JSON.GET k`, `"{"a":9,"n":{"a":3},"b":{"c":7}}"`},
		}},
		{"MERGE", []step{
			{`JSON.MERGE k $.a 1`, "(error) ERR new objects must be created at the root"},
			{`JSON.MERGE k $ {"f1":{"a":1},"f2":{"a":2}}`, "OK"},
			{`JSON.MERGE k $ {"f1":null,"f2":{"a":3,"b":4},"f3":[2,4,6]}`, "OK"},
			{`JSON.GET k`, `"{"f2":{"a":3,"b":4},"f3":[2,4,6]}"`},
			{`JSON.MERGE k $.new {"x":null,"y":1}`, "OK"},
			{`JSON.MERGE k $.f3[1] {"x":null,"y":1}`, "OK"},
			{`JSON.MERGE k $.f2.a 5`, "OK"},
			{`JSON.MERGE k $.none.a 5`, "(nil)"},
			{`JSON.GET k`, `"{"f2":{"a":5,"b":4},"f3":[2,{"y":1},6],"new":{"x":null,"y":1}}"`},
			{`JSON.MERGE k $.* {"z":0}`, "OK"},
			{`JSON.GET k`, `"{"f2":{"a":5,"b":4,"z":0},"f3":{"z":0},"new":{"x":null,"y":1,"z":0}}"`},
		}},
		{"DEL and FORGET", []step{
			{`JSON.DEL k`, "0"},
			{`JSON.SET k $ {"a":{"a":2,"b":3},"b":["a","b"],"nested":{"b":[true,"a"]}}`, "OK"},
			{`JSON.DEL k $..a`, "1"},
			{`JSON.GET k`, `"{"b":["a","b"],"nested":{"b":[true,"a"]}}"`},
			{`JSON.FORGET k $.b[1,0]`, "2"},
			{`JSON.DEL k $.none`, "0"},
			{`JSON.DEL k .nested.b[-1]`, "1"},
			{`JSON.GET k`, `"{"b":[],"nested":{"b":[true]}}"`},
			{`JSON.DEL k $.*`, "2"},
			{`EXISTS k`, "0"},
			{`JSON.SET k $ [1]`, "OK"},
			{`JSON.DEL k`, "1"},
			{`EXISTS k`, "0"},
		}},
		{"CLEAR", []step{
			{`JSON.CLEAR k`, noKey},
			{`JSON.SET k $ {"obj":{"a":1,"b":2},"arr":[1,2,3],"str":"foo","bool":true,"int":42,"float":3.14,"e":[],"zero":0}`, "OK"},
			{`JSON.CLEAR k $.*`, "4"},
			{`JSON.GET k`, `"{"obj":{},"arr":[],"str":"foo","bool":true,"int":0,"float":0,"e":[],"zero":0}"`},
			{`JSON.CLEAR k $.*`, "0"},
			{`JSON.CLEAR k`, "1"},
			{`JSON.GET k`, `"{}"`},
			{`JSON.CLEAR k $ $`, "(error) ERR wrong number of arguments for 'json.clear' command"},
		}},
		{"TYPE", []step{
			{`JSON.SET k $ {"n":null,"b":true,"i":1,"u":18446744073709551615,"d":1.0,"s":"","a":[],"o":{}}`, "OK"},
			{`JSON.TYPE k $.*`, `["null" "boolean" "integer" "integer" "number" "string" "array" "object"]`},
			{`JSON.TYPE k`, `"object"`},
			{`JSON.TYPE k .s`, `"string"`},
			{`JSON.TYPE k .none`, "(nil)"},
			{`JSON.TYPE k $.none`, "[]"},
			{`JSON.TYPE none`, "(nil)"},
			{`JSON.TYPE none $`, "(nil)"},
			{`TYPE k`, "ReJSON-RL"},
			{`OBJECT ENCODING k`, `"raw"`},
		}},
		{"numbers", []step{
			{`JSON.NUMINCRBY k $ 1`, noKey},
			{`JSON.SET k $ {"a":"b","b":[{"a":2},{"a":5.0},{"a":"c"}]}`, "OK"},
			{`JSON.NUMINCRBY k $..a 2`, `"[null,4,7.0,null]"`},
			{`JSON.NUMINCRBY k $.b[1].a -10`, `"[-3.0]"`},
			{`JSON.NUMINCRBY k $.a 2`, `"[null]"`},
			{`JSON.NUMINCRBY k .b[0].a 0.5`, `"4.5"`},
			{`JSON.NUMINCRBY k .b[0].a 0.5`, `"5.0"`},
			{`JSON.NUMINCRBY k .a 2`, "(error) ERR Path does not exist or does not contains a number"},
			{`JSON.NUMINCRBY k ..a 1`, `"-2.0"`},
			{`JSON.NUMINCRBY k $.none 1`, `"[]"`},
			{`JSON.NUMINCRBY k $..a "1"`, "(error) ERR result is not a number"},
			{`JSON.SET k $ [9223372036854775807,-9223372036854775808,3,1e308,0]`, "OK"},
			{`JSON.NUMINCRBY k $[0] 1`, "(error) ERR numeric overflow"},
			{`JSON.NUMINCRBY k $[*] 1`, "(error) ERR numeric overflow"},
			{`JSON.NUMINCRBY k $[1] -1`, "(error) ERR numeric overflow"},
			{`JSON.NUMMULTBY k $[1] -1`, "(error) ERR numeric overflow"},
			{`JSON.NUMMULTBY k $[3] 10`, "(error) ERR result is not a number"},
			{`JSON.NUMMULTBY k $[2] -3`, `"[-9]"`},
			{`JSON.NUMMULTBY k [2] 1.0`, `"-9.0"`},
			{`JSON.NUMINCRBY k $[0,1] 0`, `"[9223372036854775807,-9223372036854775808]"`},
			{`JSON.NUMINCRBY k $[0,1,0] 0.0`, `"[9.223372036854776e18,-9.223372036854776e18,9.223372036854776e18]"`},
			{`JSON.NUMPOWBY k $[2] 2`, `"[81.0]"`},
			{`JSON.NUMPOWBY k $[4] 0`, `"[1]"`},
			{`JSON.SET k $ [-2,3]`, "OK"},
			{`JSON.NUMPOWBY k $[0] 63`, `"[-9223372036854775808]"`},
			{`JSON.NUMPOWBY k $[1] 40`, "(error) ERR numeric overflow"},
			{`JSON.NUMPOWBY k $[1] -1`, "(error) ERR numeric overflow"},
			{`JSON.NUMPOWBY k $[1] 0.5`, `"[1.7320508075688772]"`},
		}},
		{"strings", []step{
			{`JSON.STRAPPEND k $ "x"`, noKey},
			{`JSON.STRLEN k $`, noKey},
			{`JSON.STRLEN k`, "(nil)"},
			{`JSON.SET k $ {"a":"foo","n":{"a":"hello"},"m":{"a":31}}`, "OK"},
			{`JSON.STRAPPEND k $..a "bar"`, "[6 8 (nil)]"},
			{`JSON.STRAPPEND k ..a "é"`, "10"},
			{`JSON.STRAPPEND k .none "x"`, "(error) ERR Path does not exist or not a string"},
			{`JSON.STRAPPEND k $.a 1`, "(error) WRONGTYPE wrong type of path value - expected string"},
			{`JSON.STRLEN k $..a`, "[8 10 (nil)]"},
			{`JSON.STRLEN k .n.a`, "10"},
			{`JSON.STRLEN k .m.a`, "(error) WRONGTYPE wrong type of path value - expected string"},
			{`JSON.STRLEN k .none`, noPath},
			{`JSON.SET k $ "abcd"`, "OK"},
			{`JSON.STRAPPEND k "piu"`, "7"},
			{`JSON.STRLEN k`, "7"},
		}},
		{"TOGGLE", []step{
			{`JSON.TOGGLE k $`, noKey},
			{`JSON.SET k $ {"a":true,"b":[false,1]}`, "OK"},
			{`JSON.TOGGLE k $..*`, "[0 (nil) 1 (nil)]"},
			{`JSON.TOGGLE k .a`, `"true"`},
			{`JSON.TOGGLE k .b`, "(error) ERR Path does not exist or not a bool"},
			{`JSON.GET k`, `"{"a":true,"b":[true,1]}"`},
		}},
		{"ARRAPPEND, ARRINSERT, ARRLEN", []step{
			{`JSON.ARRAPPEND k $ 1`, noKey},
			{`JSON.ARRINSERT k $ 0 1`, noKey},
			{`JSON.ARRLEN k $`, noKey},
			{`JSON.ARRLEN k`, "(nil)"},
			{`JSON.SET k $ {"a":["foo"],"n":{"a":["hello",null,"world"]},"m":{"a":31}}`, "OK"},
			{`JSON.ARRAPPEND k $..a "bar" "racuda"`, "[3 5 (nil)]"},
			{`JSON.ARRAPPEND k ..a 1`, "6"},
			{`JSON.ARRINSERT k $..a 1 {} []`, "[6 8 (nil)]"},
			{`JSON.ARRINSERT k n.a -1 2`, "9"},
			{`JSON.ARRINSERT k $..a 7 2`, "(error) ERR index out of bounds"},
			{`JSON.ARRINSERT k $..a -7 2`, "(error) ERR index out of bounds"},
			{`JSON.ARRINSERT k $.a 6 "last"`, "[7]"},
			{`JSON.ARRAPPEND k .m.a 1`, "(error) ERR Path does not exist or not an array"},
			{`JSON.ARRLEN k $..a`, "[7 9 (nil)]"},
			{`JSON.ARRLEN k .a`, "7"},
			{`JSON.ARRLEN k .m.a`, "(error) ERR Path does not exist or not an array"},
			{`JSON.ARRLEN k .none`, noPath},
			{`JSON.GET k`, `"{"a":["foo",{},[],"bar","racuda",1,"last"],"n":{"a":["hello",{},[],null,"world","bar","racuda",2,1]},"m":{"a":31}}"`},
		}},
		{"ARRINDEX", []step{
			{`JSON.ARRINDEX k $ 1`, noPath},
			{`JSON.SET k $ {"a":[1,"2",[3],{"x":1,"y":2},1,null,2.0,[4.0]],"n":{"a":4}}`, "OK"},
			{`JSON.ARRINDEX k .a 2`, "-1"}, // it is another number for RedisJSON
			{`JSON.ARRINDEX k .a 2.0`, "6"},
			{`JSON.ARRINDEX k .a [4]`, "-1"},
			{`JSON.DEL k $.a[6:]`, "2"},
			{`JSON.ARRINDEX k $..a "2"`, "[1 (nil)]"},
			{`JSON.ARRINDEX k .a {"y":2,"x":1}`, "3"},
			{`JSON.ARRINDEX k .a [3]`, "2"},
			{`JSON.ARRINDEX k .a null`, "5"},
			{`JSON.ARRINDEX k .a 1 1`, "4"},
			{`JSON.ARRINDEX k .a 1 1 4`, "-1"},
			{`JSON.ARRINDEX k .a 1 -2 0`, "4"},
			{`JSON.ARRINDEX k .a 1 -2 -1`, "4"},
			{`JSON.ARRINDEX k .a 1 -9 1`, "0"},
			{`JSON.ARRINDEX k .a 7`, "-1"},
			{`JSON.ARRINDEX k .n 7`, "(error) WRONGTYPE wrong type of path value - expected array"},
			{`JSON.ARRINDEX k .a 7 x`, "(error) ERR value is not an integer or out of range"},
		}},
		{"ARRPOP", []step{
			{`JSON.ARRPOP k $`, noKey},
			{`JSON.SET k $ {"a":["foo"],"n":{"a":["hello",null,"world"]},"m":{"a":31}}`, "OK"},
			{`JSON.ARRPOP k $..a 1`, `[""foo"" "null" (nil)]`},
			{`JSON.ARRPOP k $..a`, `[(nil) ""world"" (nil)]`},
			{`JSON.ARRPOP k .n.a -2`, `""hello""`},
			{`JSON.ARRPOP k .n.a`, "(nil)"},
			{`JSON.ARRPOP k .m`, "(error) ERR Path does not exist or not an array"},
			{`JSON.SET k $ {"a":[[1,2,3],[4,5,6]]}`, "OK"},
			{`JSON.ARRPOP k $..*`, `["[4,5]" "3" "6" (nil) (nil) (nil) (nil) (nil) (nil)]`},
			{`JSON.GET k`, `"{"a":[[1,2]]}"`},
			{`JSON.SET k $ [0,1,2]`, "OK"},
			{`JSON.ARRPOP k`, `"2"`},
			{`JSON.ARRPOP k . 0`, `"0"`},
		}},
		{"ARRTRIM", []step{
			{`JSON.ARRTRIM k $ 0 1`, noKey},
			{`JSON.SET k $ {"a":["foo"],"n":{"a":["hello",null,"world"]},"m":{"a":31}}`, "OK"},
			{`JSON.ARRTRIM k $..a 1 -1`, "[0 2 (nil)]"},
			{`JSON.ARRTRIM k .n.a 0 9`, "2"},
			{`JSON.ARRTRIM k $.n.a -9 0`, "[1]"},
			{`JSON.GET k`, `"{"a":[],"n":{"a":[null]},"m":{"a":31}}"`},
			{`JSON.ARRTRIM k $.n.a 1 0`, "[0]"},
			{`JSON.ARRTRIM k .m 1 0`, "(error) ERR Path does not exist or not an array"},
		}},
		{"OBJKEYS and OBJLEN", []step{
			{`JSON.OBJKEYS k`, "(nil)"},
			{`JSON.OBJKEYS k $`, noKey},
			{`JSON.OBJLEN k`, "(nil)"},
			{`JSON.OBJLEN k $`, "(error) ERR Path does not exist or not an object"},
			{`JSON.SET k $ {"n":{"a":{"foo":10,"bar":20}},"a":["foo"],"m":{"a":{"baz":50}}}`, "OK"},
			{`JSON.OBJKEYS k $..a`, `[(nil) ["foo" "bar"] ["baz"]]`},
			{`JSON.OBJKEYS k .*.a`, `["foo" "bar"]`},
			{`JSON.OBJKEYS k`, `["n" "a" "m"]`},
			{`JSON.OBJKEYS k .a`, "(error) ERR Path does not exist or not an object"},
			{`JSON.OBJKEYS k .none`, "(nil)"},
			{`JSON.OBJLEN k $..a`, "[(nil) 2 1]"},
			{`JSON.OBJLEN k .m.a`, "1"},
			{`JSON.OBJLEN k .none`, "(nil)"},
			{`JSON.OBJLEN k .a`, "(error) WRONGTYPE wrong type of path value - expected object"},
		}},
		{"RESP", []step{
			{`JSON.SET k $ {"a":[1,2.5,true,false,null,"s"],"o":{}}`, "OK"},
			{`JSON.RESP k`, `[{ "a" [[ 1 (double) 2.5 true false (nil) "s"] "o" [{]]`},
			{`JSON.RESP k $.a`, `[[[ 1 (double) 2.5 true false (nil) "s"]]`},
			{`JSON.RESP k .a[0]`, "1"},
			{`JSON.RESP k .none`, noPath},
			{`JSON.RESP none $`, "(nil)"},
		}},
		{"DEBUG", []step{
			{`JSON.SET k $ {"a":[1,2,3]}`, "OK"},
			{`JSON.DEBUG MEMORY k`, "11"},
			{`JSON.DEBUG MEMORY k $.a $`, "[6]"},
			{`JSON.DEBUG MEMORY k .none`, noPath},
			{`JSON.DEBUG MEMORY none`, "0"},
			{`JSON.DEBUG MEMORY none $`, "[]"},
			{`JSON.DEBUG HELP`, `["MEMORY <key> [path] - reports memory usage" "HELP                - this message"]`},
			{`JSON.DEBUG`, "(error) ERR wrong number of arguments for 'json.debug' command"},
			{`JSON.DEBUG X`, "(error) ERR unknown subcommand - try `JSON.DEBUG HELP`"},
		}},
		{"another type", []step{
			{`SET k 1`, "OK"},
			{`JSON.GET k`, "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
			{`JSON.SET k $ 1`, "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
			{`JSON.DEL k`, "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
			{`JSON.ARRAPPEND k $ 1`, "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
			{`DEL k`, "1"},
			{`JSON.SET k $ 1`, "OK"},
			{`GET k`, "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
			{`APPEND k x`, "(error) WRONGTYPE Operation against a key holding the wrong kind of value"},
			{`SET k x`, "OK"},
			{`TYPE k`, "string"},
		}},
		{"keys", []step{
			{`JSON.SET k $ {"a":1}`, "OK"},
			{`PEXPIRE k 1000`, "1"},
			{`JSON.SET k $ {"a":2}`, "OK"},
			{`JSON.NUMINCRBY k a 1`, `"3"`},
			{`PTTL k`, "1000"},
			{`COPY k l`, "1"},
			{`JSON.SET l $.b 2`, "OK"},
			{`RENAME k m`, "OK"},
			{`JSON.MGET k l m $`, `[(nil) "[{"a":3,"b":2}]" "[{"a":3}]"]`},
			{`PTTL l`, "1000"},
			{`SCAN 0 TYPE ReJSON-RL COUNT 100`, `["0" ["l" "m"]]`},
		}},
	} {
		t.Run(test.name, func(t *testing.T) { newWorld(t).steps(t, test.steps) })
	}
}

// TestJSONIsBounded: whatever a client asks for, a document and an answer stay within what the cache allows.
func TestJSONIsBounded(t *testing.T) {
	const limit = 64 << 10
	many := "[" + strings.Repeat("1,", 9999) + "1]"
	deep := strings.Repeat("[", jsondoc.MaxDepth) + strings.Repeat("]", jsondoc.MaxDepth)
	text := `"` + strings.Repeat("x", 30000) + `"`
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"a value that is too large", []step{{`JSON.SET k $ "` + strings.Repeat("x", limit) + `"`, fmt.Sprintf("(error) ERR max value size exceeded. Limit: %d bytes, Actual: %d bytes", limit, limit+2)}}},
		{"a document that would be", []step{{`JSON.SET k $ {"a":` + text + `}`, "OK"}, {`JSON.SET k $.b ` + text, "OK"}, {`JSON.SET k $.c ` + text, "(error) ERR max value size exceeded. Limit: 65536 bytes"}}},
		{"a value for many places", []step{{`JSON.SET k $ ` + many, "OK"}, {`JSON.SET k $[*] ` + text, "(error) ERR max value size exceeded. Limit: 65536 bytes, Actual: 270036 bytes"}}},
		{"strings that grow", []step{{`JSON.SET k $ ` + strings.ReplaceAll(many, "1", `"x"`), "OK"}, {`JSON.STRAPPEND k $[*] ` + text, "(error) ERR max value size exceeded. Limit: 65536 bytes, Actual: 270045 bytes"}}},
		{"an answer that is too long", []step{{`JSON.SET k $ ` + text, "OK"}, {`JSON.SET k $ [` + text + `]`, "OK"}, {`JSON.GET k $[` + strings.Repeat("0,", 9) + `0]`, "(error) ERR the answer would have more than 262144 bytes"},
			{`JSON.RESP k $[` + strings.Repeat("0,", 9) + `0]`, "(error) ERR the answer would have more than 262144 bytes"}}},
		{"an indent that is long", []step{{`JSON.SET k $ ` + many, "OK"}, {`JSON.GET k INDENT ` + text + ` $`, "(error) ERR the answer would have more than 262144 bytes"}}},
		{"a path that takes long", []step{{`JSON.SET k $ ` + deep, "OK"}, {`JSON.GET k $..*..*..*..*..*`, "(error) ERR the path asks for too much work: a command may look at 1048576 values, and 2 for each byte of its documents"}}},
		{"many documents that grow", []step{{`JSON.MSET a $ [` + text + `] b $ [` + text + `] c $ [` + text + `]`, "OK"},
			{`JSON.MSET` + strings.Repeat(` a $[0] 1 b $[0] 1 c $[0] 1`, 9), "OK"}, {`JSON.MSET` + strings.Repeat(` a $[1] 1`, 9), "(error) ERR array index out of range"},
			{`JSON.MSET a $[0] ` + strings.Repeat(text+" b $[0] "+text+" c $[0] "+text+" a $[0] ", 3) + "1", "(error) ERR max value size exceeded. Limit: 65536 bytes, Actual: 270117 bytes"},
			{`JSON.MGET a b c $[0]`, `["[1]" "[1]" "[1]"]`}}},
		{"merges within each other", []step{{`JSON.SET k $ ` + strings.Repeat(`{"a":`, 100) + `{"b":` + text + "}" + strings.Repeat("}", 100), "OK"}, {`JSON.MERGE k $..a {"z":1}`, "(error) ERR max value size exceeded. Limit: 65536 bytes"}}},
		{"a value that lies too deep", []step{{`JSON.SET k $ [` + deep + `]`, "(error) ERR recursion limit exceeded"}, {`JSON.SET k $ [1]`, "OK"}, {`JSON.SET k $[0] ` + deep, "(error) ERR recursion limit exceeded"},
			{`JSON.ARRAPPEND k $ ` + deep, "(error) ERR recursion limit exceeded"}, {`JSON.MERGE k $[0] ` + deep, "(error) ERR recursion limit exceeded"}}},
		{"a long path", []step{{`JSON.GET k $.` + strings.Repeat("a", 9000), "(error) ERR Error occurred on position 8192, expected a path of at most 8192 bytes"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.configure(Settings{MaxValue: limit})
			w.steps(t, test.steps)
		})
	}
}

// TestManyValuesAreNotChangedAtOnce: an edit takes more memory than a small value.
func TestManyValuesAreNotChangedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.json(`JSON.SET k $ [` + strings.Repeat("1,", jsonEditsMost-1) + "1]")
	if got := w.json("JSON.NUMINCRBY k $[*] 1"); !strings.HasPrefix(got, `"[2,2,`) {
		t.Errorf("as many as may be: %.100s", got)
	}
	w.json("JSON.ARRAPPEND k $ 1")
	if got := w.json("JSON.NUMINCRBY k $[*] 1"); got != "(error) ERR the path selects too many values: a command may change 262144" {
		t.Errorf("one more: %.100s", got)
	}
}

// TestJSONStaysWithinTheMemoryLimit: also when it takes more than its text.
func TestJSONStaysWithinTheMemoryLimit(t *testing.T) {
	const limit = 1 << 20
	w := newWorld(t)
	w.configure(Settings{MemoryLimit: limit})
	refused := 0
	for i := range 1000 {
		doc := "[" + strings.Repeat("0.5,", 100+i) + "0.5]"
		if got := w.do("JSON.SET", "k"+strconv.Itoa(i), "$", doc); strings.HasPrefix(got, "(error) OOM") {
			refused++
		}
		if s, _ := w.p.Stats(testCache); s.Bytes > limit {
			t.Fatalf("%d bytes are used of %d", s.Bytes, limit)
		}
	}
	if refused == 0 {
		t.Error("the limit was never reached")
	}
}

// TestJSONIsUndone: an atomic task that fails leaves documents as they were.
func TestJSONIsUndone(t *testing.T) {
	w := newWorld(t)
	w.json(`JSON.SET a $ {"x":[1,2,3],"y":"s"}`)
	w.json(`JSON.SET b $ 1`)
	w.json(`PEXPIRE a 500`)
	before := w.p.Digest()
	task := w.task([]string{"JSON.ARRPOP", "a", "$.x"}, []string{"JSON.SET", "a", "$", "[]"}, []string{"JSON.DEL", "b"}, []string{"JSON.SET", "c", "$", "1"}, []string{"RENAME", "a", "b"},
		[]string{"JSON.NUMINCRBY", "c", "$", "9223372036854775807"})
	task.Atomic = true
	w.apply(task)
	if w.p.Digest() != before || task.Failed != 5 {
		t.Errorf("call %d failed: %s", task.Failed, show(task.Reply.(*Recording)))
	}
	if got := w.json("JSON.GET a"); got != `"{"x":[1,2,3],"y":"s"}"` {
		t.Errorf("it is %s", got)
	}
	if got := w.json("PTTL a"); got != "500" {
		t.Errorf("it lives for %s", got)
	}
}

// TestJSONAccount: what a document costs is what its record takes.
func TestJSONAccount(t *testing.T) {
	w := newWorld(t)
	const n = 300
	for i := range n {
		w.json(fmt.Sprintf(`JSON.SET k%d $ {"id":%d,"name":"item-%d","tags":["a","b"],"price":1.5}`, i, i, i))
	}
	s, _ := w.p.Stats(testCache)
	text := len(fmt.Sprintf(`{"id":%d,"name":"item-%d","tags":["a","b"],"price":1.5}`, n, n))
	if each := int(s.Bytes) / n; each > text+len("k1999")+newItem {
		t.Errorf("a document of %d bytes of text is accounted with %d", text, each)
	}
}

// A naiveJSON is a document as a tree: nil, bool, int64, string, []any and members, changed where it stands.
type naiveJSON struct{ root any }

type naiveObject struct {
	names  []string
	values map[string]any
}

func (m *naiveObject) MarshalJSON() ([]byte, error) {
	var parts []string
	for _, name := range m.names {
		n, _ := json.Marshal(name)
		parts = append(parts, string(n)+":"+naiveText(m.values[name]))
	}
	return []byte("{" + strings.Join(parts, ",") + "}"), nil
}

func naiveText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

type naiveArray struct{ list []any }

func (l *naiveArray) MarshalJSON() ([]byte, error) {
	var parts []string
	for _, v := range l.list {
		parts = append(parts, naiveText(v))
	}
	return []byte("[" + strings.Join(parts, ",") + "]"), nil
}

// drawNaive draws a value of few names and small numbers, so that paths meet something.
func drawNaive(t *rapid.T, depth int) any {
	most := 5
	if depth == 0 {
		most = 3
	}
	switch rapid.IntRange(0, most).Draw(t, "kind") {
	case 0:
		return rapid.SampledFrom([]any{nil, true, false}).Draw(t, "word")
	case 1:
		return rapid.Int64Range(-3, 300).Draw(t, "int")
	case 2, 3:
		return strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 2, 63, 64, 300}).Draw(t, "length"))
	case 4:
		l := &naiveArray{}
		for range rapid.IntRange(0, 4).Draw(t, "elements") {
			l.list = append(l.list, drawNaive(t, depth-1))
		}
		return l
	}
	m := &naiveObject{values: map[string]any{}}
	for _, name := range []string{"a", "b", "c"} {
		if rapid.Bool().Draw(t, "member") {
			m.names = append(m.names, name)
			m.values[name] = drawNaive(t, depth-1)
		}
	}
	return m
}

// A naiveSpot is where a value is: a member or an element of a container, or the root when that is nil.
type naiveSpot struct {
	in   any
	name string
	i    int
}

func (d *naiveJSON) get(s naiveSpot) any {
	switch in := s.in.(type) {
	case *naiveObject:
		return in.values[s.name]
	case *naiveArray:
		return in.list[s.i]
	}
	return d.root
}

func (d *naiveJSON) set(s naiveSpot, v any) {
	switch in := s.in.(type) {
	case *naiveObject:
		in.values[s.name] = v
	case *naiveArray:
		in.list[s.i] = v
	default:
		d.root = v
	}
}

// find follows a path of the segments a name, a number, * and .. before a name.
func (d *naiveJSON) find(path []string) []naiveSpot {
	spots := []naiveSpot{{}}
	for _, segment := range path {
		var next []naiveSpot
		for _, s := range spots {
			if name, deep := strings.CutPrefix(segment, ".."); deep {
				next = append(next, d.descend(s, name)...)
			} else {
				next = append(next, d.step(s, segment)...)
			}
		}
		spots = next
	}
	return spots
}

func (d *naiveJSON) step(s naiveSpot, segment string) (spots []naiveSpot) {
	switch v := d.get(s).(type) {
	case *naiveObject:
		for _, name := range v.names {
			if segment == name || segment == "*" {
				spots = append(spots, naiveSpot{in: v, name: name})
			}
		}
	case *naiveArray:
		for i := range v.list {
			if segment == strconv.Itoa(i) || segment == "*" {
				spots = append(spots, naiveSpot{in: v, i: i})
			}
		}
	}
	return spots
}

func (d *naiveJSON) descend(s naiveSpot, segment string) []naiveSpot {
	spots := d.step(s, segment)
	for _, child := range d.step(s, "*") {
		spots = append(spots, d.descend(child, segment)...)
	}
	return spots
}

// do runs a command whose path is of the new dialect and returns its reply. Spots are changed from the last to the
// first, so that what lies within a value is changed before it.
func (d *naiveJSON) do(command string, spots []naiveSpot, arg any, n int) string {
	replies := make([]string, len(spots))
	for i := len(spots) - 1; i >= 0; i-- {
		s := spots[i]
		replies[i] = "(nil)"
		l, isList := d.get(s).(*naiveArray)
		switch v := d.get(s).(type) {
		case bool:
			if command == "JSON.TOGGLE" {
				d.set(s, !v)
				replies[i] = map[bool]string{true: "1", false: "0"}[!v]
			}
		case int64:
			if command == "JSON.NUMINCRBY" {
				d.set(s, v+int64(n))
				replies[i] = strconv.FormatInt(v+int64(n), 10)
			}
		case string:
			switch command {
			case "JSON.STRAPPEND":
				d.set(s, v+"yz")
				replies[i] = strconv.Itoa(len(v) + 2)
			case "JSON.STRLEN":
				replies[i] = strconv.Itoa(len(v))
			}
		case *naiveObject:
			switch command {
			case "JSON.OBJLEN":
				replies[i] = strconv.Itoa(len(v.names))
			case "JSON.OBJKEYS":
				replies[i] = strings.ReplaceAll(fmt.Sprintf("%q", v.names), `\"`, `"`)
			}
		}
		if !isList {
			continue
		}
		switch command {
		case "JSON.ARRLEN":
			replies[i] = strconv.Itoa(len(l.list))
		case "JSON.ARRAPPEND":
			l.list = append(l.list, arg)
			replies[i] = strconv.Itoa(len(l.list))
		case "JSON.ARRINSERT":
			l.list = slices.Insert(l.list, 0, arg)
			replies[i] = strconv.Itoa(len(l.list))
		case "JSON.ARRPOP":
			if len(l.list) > 0 {
				at := min(n, len(l.list)-1)
				replies[i] = `"` + naiveText(l.list[at]) + `"`
				l.list = slices.Delete(l.list, at, at+1)
			}
		case "JSON.ARRTRIM":
			if n >= len(l.list) {
				l.list = nil
			} else {
				l.list = slices.Clone(l.list[n:])
			}
			replies[i] = strconv.Itoa(len(l.list))
		}
	}
	if command == "JSON.NUMINCRBY" {
		return `"[` + strings.ReplaceAll(strings.Join(replies, ","), "(nil)", "null") + `]"`
	}
	return "[" + strings.Join(replies, " ") + "]"
}

// copied is a value of its own, since what a command stores in several places is no longer one thing.
func copied(t *rapid.T, v any) any {
	switch v := v.(type) {
	case *naiveArray:
		l := &naiveArray{}
		for _, x := range v.list {
			l.list = append(l.list, copied(t, x))
		}
		return l
	case *naiveObject:
		m := &naiveObject{names: slices.Clone(v.names), values: map[string]any{}}
		for name, x := range v.values {
			m.values[name] = copied(t, x)
		}
		return m
	}
	return v
}

func TestJSONAgainstANaiveTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		d := &naiveJSON{root: drawNaive(t, 3)}
		w.do("JSON.SET", "k", "$", naiveText(d.root))
		for range 30 {
			path := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "0", "1", "*", "..a", "..*", "..0"}), 0, 3).Draw(t, "path")
			text := "$"
			for _, s := range path {
				name, deep := strings.CutPrefix(s, "..")
				switch {
				case name == "0" || name == "1":
					name = "[" + name + "]"
				case !deep:
					name = "." + name
				}
				if deep {
					name = ".." + name
				}
				text += name
			}
			spots := d.find(path)
			if len(spots) > 200 || len(naiveText(d.root)) > 20000 { // it grows by itself
				continue
			}
			arg, n := drawNaive(t, 1), rapid.IntRange(0, 3).Draw(t, "n")
			args := []string{rapid.SampledFrom([]string{"JSON.GET", "JSON.SET", "JSON.DEL", "JSON.CLEAR", "JSON.TOGGLE", "JSON.NUMINCRBY", "JSON.STRAPPEND", "JSON.STRLEN", "JSON.OBJLEN", "JSON.OBJKEYS",
				"JSON.ARRLEN", "JSON.ARRAPPEND", "JSON.ARRINSERT", "JSON.ARRPOP", "JSON.ARRTRIM"}).Draw(t, "command"), "k", text}
			seen := map[naiveSpot]bool{}
			twice := false // a path of two descents may select a value twice, which is to change once
			for _, s := range spots {
				twice = twice || seen[s]
				seen[s] = true
			}
			if twice && args[0] != "JSON.GET" {
				continue
			}
			var want string
			switch command := args[0]; command {
			case "JSON.GET":
				var parts []string
				for _, s := range spots {
					parts = append(parts, naiveText(d.get(s)))
				}
				want = `"[` + strings.Join(parts, ",") + `]"`
			case "JSON.SET":
				args = append(args, naiveText(arg))
				if len(spots) == 0 {
					args = append(args, "XX")
					want = "(nil)"
					break
				}
				want = "OK"
				for i := len(spots) - 1; i >= 0; i-- {
					d.set(spots[i], copied(t, arg))
				}
			case "JSON.DEL":
				if len(path) == 0 {
					continue
				}
				want = strconv.Itoa(d.remove(spots))
			case "JSON.CLEAR":
				want = strconv.Itoa(d.clear(spots))
			default:
				switch command {
				case "JSON.NUMINCRBY", "JSON.ARRPOP":
					args = append(args, strconv.Itoa(n))
				case "JSON.STRAPPEND":
					args = append(args, `"yz"`)
				case "JSON.ARRAPPEND":
					args = append(args, naiveText(arg))
				case "JSON.ARRINSERT":
					args = append(args, "0", naiveText(arg))
				case "JSON.ARRTRIM":
					args = append(args, strconv.Itoa(n), "-1")
				}
				want = d.do(command, spots, arg, n)
			}
			if got := strings.ReplaceAll(w.do(args...), `\"`, `"`); got != want {
				t.Fatalf("%q answers\n%s, not\n%s", args, got, want)
			}
			if empty := naiveText(d.root); args[0] == "JSON.DEL" && want != "0" && (empty == "{}" || empty == "[]") {
				if got := w.do("EXISTS", "k"); got != "0" {
					t.Fatalf("an empty document is left by %q", args)
				}
				w.do("JSON.SET", "k", "$", empty)
			}
			if got, want := strings.ReplaceAll(w.do("JSON.GET", "k"), `\"`, `"`), `"`+naiveText(d.root)+`"`; got != want {
				t.Fatalf("%q left\n%s, not\n%s", args, got, want)
			}
		}
	})
}

// outermost are the spots that do not lie in another of them.
func (d *naiveJSON) outermost(spots []naiveSpot) (list []naiveSpot) {
	within := map[naiveSpot]bool{}
	for _, s := range spots {
		for _, child := range d.descend(s, "*") {
			within[child] = true
		}
	}
	for _, s := range spots {
		if !within[s] {
			list = append(list, s)
		}
	}
	return list
}

func (d *naiveJSON) remove(spots []naiveSpot) int {
	spots = d.outermost(spots)
	gone := map[naiveSpot]bool{}
	for _, s := range spots {
		gone[s] = true
	}
	for _, s := range spots {
		switch in := s.in.(type) {
		case *naiveObject:
			delete(in.values, s.name)
			in.names = slices.DeleteFunc(in.names, func(n string) bool { return n == s.name })
		case *naiveArray:
			if in.list == nil {
				continue
			}
			var left []any
			for i, v := range in.list {
				if !gone[naiveSpot{in: in, i: i}] {
					left = append(left, v)
				}
			}
			for i := range in.list { // they are done with
				delete(gone, naiveSpot{in: in, i: i})
			}
			if len(left) < len(in.list) {
				in.list = left
			}
		}
	}
	return len(spots)
}

func (d *naiveJSON) clear(spots []naiveSpot) int {
	var full []naiveSpot
	for _, s := range spots {
		switch v := d.get(s).(type) {
		case int64:
			if v != 0 {
				full = append(full, s)
			}
		case *naiveArray:
			if len(v.list) > 0 {
				full = append(full, s)
			}
		case *naiveObject:
			if len(v.names) > 0 {
				full = append(full, s)
			}
		}
	}
	full = d.outermost(full)
	for _, s := range full {
		switch d.get(s).(type) {
		case int64:
			d.set(s, int64(0))
		case *naiveArray:
			d.set(s, &naiveArray{})
		default:
			d.set(s, &naiveObject{values: map[string]any{}})
		}
	}
	return len(full)
}

// FuzzJSON: no arguments break a document, which every step checks, or the process.
func FuzzJSON(f *testing.F) {
	names := []string{}
	for _, c := range jsonCommands {
		names = append(names, c.Name)
	}
	f.Add(uint8(0), "$..a", `{"a":1}`, "1")
	f.Add(uint8(12), ".a[0]", `[1,"x",{"b":[]}]`, "-1")
	f.Fuzz(func(t *testing.T, command uint8, path, value, more string) {
		w := newWorld(t)
		w.configure(Settings{MaxValue: 4096})
		w.do("JSON.SET", "k", "$", `{"a":[1,"x",{"b":[true,null,1.5],"a":{"c":""}}],"b":{"a":2,"b":"y"}}`)
		w.do("JSON.SET", "l", "$", value)
		for _, key := range []string{"k", "l"} {
			name := names[int(command)%len(names)]
			args := []string{name, key, path, value, more}
			if name == "JSON.DEBUG" {
				args = []string{name, "MEMORY", key, path}
			}
			args = args[:min(len(args), max(len(args)-int(command)/len(names)%3, 2))]
			w.do(args...)
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	small := `{"id":17,"name":"an item","tags":["a","b","c"],"price":19.95,"stock":{"here":3,"there":0}}`
	large := `{"items":[` + strings.Repeat(small+",", 10000) + small + `],"count":1}`
	for _, test := range []struct{ name, doc, command string }{
		{"SET small", small, "JSON.SET k $ " + strings.ReplaceAll(small, " ", "_")},
		{"GET small", small, "JSON.GET k $"},
		{"GET member of small", small, "JSON.GET k $.stock.here"},
		{"NUMINCRBY in small", small, "JSON.NUMINCRBY k $.stock.here 1"},
		{"GET member of 1 MB", large, "JSON.GET k $.count"},
		{"NUMINCRBY in 1 MB", large, "JSON.NUMINCRBY k $.count 1"},
		{"GET element 5000 of 1 MB", large, "JSON.GET k $.items[5000].id"},
		{"GET all of 1 MB", large, "JSON.GET k $..price"},
		{"GET filtered of 1 MB", large, "JSON.GET k $.items[?@.price>20].id"},
		{"SET 1 MB", large, "JSON.SET k $ " + strings.ReplaceAll(large, " ", "_")},
	} {
		b.Run(test.name, func(b *testing.B) {
			p := New(Seed{1, 2})
			p.Apply(&Entry{Now: start, Tasks: []*Task{ConfigureTask(testCache, Settings{})}})
			task := func(args ...string) *Task {
				t := &Task{Cache: testCache, Reply: &Recording{}, Calls: []Call{{Command: Lookup([]byte(args[0]))}}}
				for _, a := range args {
					t.Calls[0].Args = append(t.Calls[0].Args, []byte(a))
				}
				return t
			}
			p.Apply(&Entry{Now: start, Tasks: []*Task{task("JSON.SET", "k", "$", test.doc)}})
			t := task(strings.Split(test.command, " ")...)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				t.Reply.(*Recording).Reset()
				if t.Writes() {
					p.Apply(&Entry{Now: start, Tasks: []*Task{t}})
				} else {
					p.Query(start, 1, t)
				}
			}
		})
	}
}

// A third takes the forms that RESP3 has.
type third struct{ Recording }

func (t *third) Either(_, three func(out Reply)) { three(t) }

// TestJSONInRESP3: what RedisJSON's own tests expect of RESP3.
func TestJSONInRESP3(t *testing.T) {
	w := newWorld(t)
	do := func(command string) string {
		task := w.task(strings.Split(command, " "))
		var out third
		task.Reply = &out
		w.apply(task)
		return strings.ReplaceAll(show(&out.Recording), `\"`, `"`)
	}
	for _, s := range []step{
		{`JSON.SET n $ {"a1":{"b":{"c":1}},"a2":{"b":{"c":2.2}},"a3":{"b":{"c":"val"}}}`, "OK"},
		{`JSON.NUMINCRBY n $.a1.b.c 1`, "[2]"},
		{`JSON.NUMINCRBY n $..c 2`, "[4 (double) 4.2 (nil)]"},
		{`JSON.NUMMULTBY n $.a2.b.c 2`, "[(double) 8.4]"},
		{`JSON.NUMINCRBY n .a1.b.c 1`, "[5]"},
		{`JSON.NUMINCRBY n $.a1.b.c 1.0`, "[(double) 6]"},
		{`JSON.NUMINCRBY n $.none 1`, "[]"},
		{`JSON.SET d $ {"a1":{"b":{"c":true,"d":null}},"a2":{"b":{"c":2,"e":[1.5,"x"]}}}`, "OK"},
		{`JSON.TYPE d $.a1.b.c`, `[["boolean"]]`},
		{`JSON.TYPE d $..b`, `[["object" "object"]]`},
		{`JSON.TYPE d $.none`, "[[]]"},
		{`JSON.TYPE d .a1`, `["object"]`},
		{`JSON.TYPE none $.a`, "[(nil)]"},
		{`JSON.GET d FORMAT EXPAND1 $..b`, `[["{"c":true,"d":null}" "{"c":2,"e":[1.5,"x"]}"]]`},
		{`JSON.GET d FORMAT EXPAND1 $.a1.b.c $.a3 $.a2.b.c`, "[[true] [] [2]]"},
		{`JSON.GET d FORMAT EXPAND $..b`, `[[{"c" true "d" (nil)} {"c" 2 "e" [(double) 1.5 "x"]}]]`},
		{`JSON.GET d FORMAT STRING $.a2.b.c`, `"[2]"`},
		{`JSON.GET d format EXPAND $.a3`, "[[]]"},
		{`JSON.GET none FORMAT EXPAND $`, "(nil)"},
		{`JSON.GET d FORMAT STRINGS $`, "(error) ERR wrong reply format"},
		{`JSON.GET d $.a2.b.c`, `"[2]"`},
		{`JSON.SET p $ {"a":[{"b":2},{"g":[1,2]},3]}`, "OK"},
		{`JSON.ARRPOP p FORMAT EXPAND $.a 1`, `[{"g" [1 2]}]`},
		{`JSON.ARRPOP p FORMAT EXPAND1 $.a 0`, `["{"b":2}"]`},
		{`JSON.ARRPOP p FORMAT STRINGS $.a`, `["3"]`},
		{`JSON.ARRPOP p FORMAT EXPAND $.a`, `[(nil)]`},
		{`JSON.ARRPOP p FORMAT EXPAND .a`, "(error) ERR Legacy paths are supported only with FORMAT STRINGS"},
		{`JSON.ARRPOP p FORMAT STRING $.a`, "(error) ERR wrong reply format"},
		{`BF.RESERVE f 0.01 100`, "OK"},
		{`BF.INFO f CAPACITY`, "{Capacity 100}"},
	} {
		if got := do(s.command); got != s.want {
			t.Errorf("%s\n answers %s\n     not %s", s.command, got, s.want)
		}
	}
}
