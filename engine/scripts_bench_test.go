package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/larder-cache/larder/engine/script"
)

// benchScript runs a script by its SHA1.
func benchScript(b *testing.B, text string, args ...string) {
	w := newWorld(b)
	w.do("SET", "k", "value")
	sha := w.do("SCRIPT", "LOAD", text)
	task := w.task(append([]string{"EVALSHA", sha[1 : len(sha)-1]}, args...))
	entry := &Entry{Now: w.now, Tasks: []*Task{task}}
	out := task.Reply.(*Recording)
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		w.p.Apply(entry)
	}
	b.ReportMetric(float64(w.p.scriptUsed.Steps), "steps")
	if steps := w.p.scriptUsed.Steps; steps > 0 {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(steps), "ns/step")
	}
	if s := show(out); len(s) > 7 && s[:7] == "(error)" {
		b.Fatal(s)
	}
}

func BenchmarkScript(b *testing.B) {
	for _, bench := range []struct{ name, text string }{
		{"Nothing", "return 1"},
		{"Get", "return redis.call('GET',KEYS[1])"},
		{"Counter", "local n = redis.call('INCR', 'counter') if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end return n"},
		{"Loop", "local s = 0 for i = 1, 10000 do s = s + i * 2 % 7 end return s"},
		{"While", "local i = 0 while i < 10000 do i = i + 1 end return i"},
		{"Calls", "local function f(x) return x + 1 end local s = 0 for i = 1, 10000 do s = f(s) end return s"},
		{"Table", "local t = {} for i = 1, 10000 do t[i] = i end local s = 0 for i, v in ipairs(t) do s = s + v end return s"},
		{"Fields", "local t = {a = 1} for i = 1, 10000 do t.a = t.a + 1 end return t.a"},
		{"Concat", "local s = '' for i = 1, 1000 do s = s .. 'x' end return #s"},
		{"Keys", "local t = {} for i = 1, 10000 do t['k' .. i] = i end local n = 0 for k in pairs(t) do n = n + 1 end return n"},
		{"Pings", "for i = 1, 10000 do redis.call('PING') end"},
		{"Gets", "for i = 1, 10000 do redis.call('GET', KEYS[1]) end"},
		{"Sets", "for i = 1, 10000 do redis.call('SET', KEYS[1], i) end"},
		{"NewKeys", "for i = 1, 10000 do redis.call('SET', 'key:' .. i, i) end"},
		{"Gsub", "local s = string.rep('hello world ', 1000) for i = 1, 10 do s = s:gsub('o', '0') end return #s"},
		{"Match", "local s = string.rep('a', 2000) return (s:match('.-b'))"},
		{"Find", "local s = string.rep('a', 10000) for i = 1, 100 do s:find('b', 1, true) end"},
		{"JSON", `local t = {} for i = 1, 100 do t[i] = {id = i, name = 'name' .. i} end for i = 1, 10 do t = cjson.decode(cjson.encode(t)) end return #t`},
		{"Pack", `local t = {} for i = 1, 1000 do t[i] = i end for i = 1, 10 do t = cmsgpack.unpack(cmsgpack.pack(t)) end return #t`},
		{"Sort", "local t = {} for i = 1, 2000 do t[i] = (i * 7919) % 2003 end table.sort(t) return t[1]"},
		{"SortBy", "local t = {} for i = 1, 2000 do t[i] = (i * 7919) % 2003 end table.sort(t, function(a, b) return a > b end) return t[1]"},
		{"PCall", "for i = 1, 1000 do pcall(error, 'x') end"},
		{"Format", "for i = 1, 1000 do string.format('%5.2f %d %s', i, i, 'x') end"},
		{"Coroutine", "local g = coroutine.wrap(function() while true do coroutine.yield(1) end end) for i = 1, 1000 do g() end"},
		{"Closures", "for i = 1, 10000 do local f = function() return i end end"},
		{"Insert1", "local t = {} for i = 1, 2000 do table.insert(t, 1, i) end return #t"},
	} {
		b.Run(bench.name, func(b *testing.B) { benchScript(b, bench.text, "1", "k", "60") })
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, unit := range []string{"do local x = redis.call('GET', KEYS[1]) end\n", "t[#t+1]={a=1,b=2,[3]=4} ", "f(a,b,c)\n", "a=b ", "x=function()end ", "s='aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' "} {
		text := strings.Repeat(unit, 64<<10/len(unit))
		b.Run(fmt.Sprintf("%.12q", unit), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := script.Compile(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
