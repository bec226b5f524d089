return 1
----
return {1,2,{3,'a',{}},nil,5}
----
return {KEYS[1],KEYS[2],#KEYS,ARGV[1],ARGV[2],ARGV[3],#ARGV}
----
return 3.99
----
return -3.99
----
return tostring(3.99)..' '..tostring(1e15)..' '..tostring(1e100)..' '..tostring(1/0)..' '..tostring(-1/0)..' '..tostring(2^53)..' '..tostring(0.1)..' '..tostring(123456789012345)..' '..tostring(1e14)
----
return tostring(0/0)..tostring(-(0/0))
----
return redis.call('set',KEYS[1],'v')
----
return redis.call('get',KEYS[1])
----
return redis.call('get','none')
----
return {redis.call('get','none'), 1}
----
return redis.pcall('incr',KEYS[1])
----
return redis.call('incr',KEYS[1])
----
return redis.call('nosuch')
----
return redis.call('get')
----
return redis.call('get','a','b')
----
return {err='foo'}
----
return {err='MY bar baz'}
----
return {ok='fine'}
----
return redis.error_reply('My Err')
----
return redis.error_reply('-My Err')
----
return redis.error_reply('MYERR')
----
return redis.status_reply('YES')
----
return redis.error_reply()
----
return redis.sha1hex('')
----
return redis.sha1hex()
----
error('boom')
----
error('boom', 0)
----
error({err='MYCODE boom'})
----
error({err='boom'})
----
error()
----
error(42)
----
local function f() error('deep') end
f()
----
local function f() error('deep', 2) end
local x = 1
f()
return x
----
return foo
----
foo = 1
----
return _G.foo
----
local t = setmetatable({}, {__index=function(t,k) return k..'!' end})
return {t.a, t[1], t['x y']}
----
return nil + 1
----
local a; return a + 1
----
local a = {}; return a.b.c
----
local a = {}; a.b.c = 1
----
local a = {}; return a.b()
----
local a = {}; return a:b()
----
return ('x')()
----
local s = 'x'; return s.y.z
----
return 1 < 'x'
----
return {} < {}
----
return {} .. 'x'
----
local t = {} return t.x .. 'x'
----
return 'a' .. nil
----
return #nil
----
local n return #n
----
return -{}
----
string.rep()
----
('x'):rep({})
----
local rep = string.rep; rep('x')
----
return string.rep('ab', 3)
----
return pcall(string.rep)
----
return {pcall(error)}
----
return {pcall(error, 'x')}
----
return {pcall(error, {err='E x'})}
----
return {pcall(redis.call, 'nosuch')}
----
return {pcall(function() local x = nil; x() end)}
----
return {pcall(function() return foo end)}
----
return {xpcall(function() error('x') end, function(e) return 'h:'..e end)}
----
return {xpcall(function() return 1,2 end, function(e) return e end)}
----
return select('#', 1, nil, 3, nil)
----
return {select(2, 'a', 'b', 'c')}
----
return {select(-1, 'a', 'b', 'c')}
----
return select(0)
----
return select()
----
return {tonumber('10'), tonumber('0x10'), tonumber('1e2'), tonumber(' 5 '), tonumber('z', 36), tonumber('ff', 16), tonumber('8', 8), tonumber(''), tonumber('1 2')}
----
return {tostring(tonumber('inf')), tostring(tonumber('nan')), tostring(tonumber('0x')), tostring(tonumber('1e')), tostring(tonumber('.5')), tostring(tonumber('5.'))}
----
return {tostring(nil), tostring(true), tostring('x'), type(nil), type(1), type('x'), type({}), type(print == nil)}
----
return type()
----
return {type(redis), type(cjson.null), type(pcall), type(coroutine)}
----
return {string.format('%5d|%-5d|%05d|%+d|% d', 42, 42, 42, 42, 42)}
----
return {string.format('%5.1f|%.3f|%e|%g|%g|%g', 3.14159, 2.5, 12345.678, 0.0001, 1e20, 100000)}
----
return {string.format('%x|%X|%#x|%o|%c|%s|%10s|%-10s|%.2s', 255, 255, 255, 8, 65, 'hi', 'hi', 'hi', 'hello')}
----
return string.format('%q', 'a"b\\c\nd\0e\r')
----
return string.format('%d', 3.7) .. string.format('%d', -3.7) .. string.format('%x', -1) .. string.format('%5s%%', 'x')
----
return string.format('%d', 'x')
----
return string.format('%y', 1)
----
return string.format('%', 1)
----
return string.format('%0123d', 1)
----
return string.format('%s')
----
return {string.find('hello world', 'o w'), string.find('hello', 'l+'), string.find('hello', '(l)(l)'), string.find('a.b', '.', 1, true), string.find('abc', 'x')}
----
return {string.find('hello', '', 10), string.find('hello', '', 3), string.find('', '')}
----
return {string.match('key=val', '(%w+)=(%w+)'), string.match('  x  ', '^%s*(.-)%s*$'), string.match('abc', '()b()')}
----
return {string.match('2024-01-02', '(%d+)-(%d+)-(%d+)')}
----
return {string.gsub('hello world', 'o', '0'), string.gsub('hello', 'l', {l='L'}), string.gsub('hello', '.', function(c) return c..c end, 2)}
----
return {string.gsub('abc', '', '-'), string.gsub('abc', 'b*', 'x'), string.gsub('abc', '^a', 'X'), string.gsub('hello', '(l)(l)', '%2%1%0%%')}
----
return string.gsub('abc', 'a', '%9')
----
return string.gsub('abc', '(', 'x')
----
return string.gsub('abc', '[a', 'x')
----
return string.gsub('abc', '%', 'x')
----
return {string.gsub('THE (quick) fox', '%((%w+)%)', '<%1>'), string.find('a [b [c] d] e', '%b[]'), string.gsub('THE (quick) fox', '%f[%a]%a+', 'W')}
----
local r = {} for k, v in string.gmatch('a=1, b=2', '(%w+)=(%w+)') do r[#r+1] = k..v end return r
----
local r = {} for w in ('one two three'):gmatch('%a+') do r[#r+1] = w end return r
----
return {string.byte('ABC'), string.byte('ABC', 2), string.byte('ABC', 1, -1), string.byte('ABC', -1), string.byte('')}
----
return {string.char(72, 105), string.upper('aBc'), string.lower('aBc'), string.reverse('abc'), string.len('abc'), ('x'):rep(0)}
----
return string.char(256)
----
return {string.sub('hello', 2), string.sub('hello', -3), string.sub('hello', 2, -2), string.sub('hello', 0), string.sub('hello', 10), string.sub('hello', -100, 2)}
----
local t = {5,2,8,1} table.sort(t) return t
----
local t = {5,2,8,1} table.sort(t, function(a,b) return a > b end) return t
----
local t = {} for i=1,50 do t[i] = (i*37)%50 end table.sort(t, function(a,b) return a%10 < b%10 end) return t
----
table.sort({1,2,3,4,5,6,7,8}, function() return true end)
----
table.sort({1,'x'})
----
local t = {1,2,3} table.insert(t, 4) table.insert(t, 1, 0) table.remove(t, 2) return {table.concat(t, ','), table.remove(t), table.getn(t), #t}
----
return table.concat({1,2,'x',3.5}, '-', 2, 3)
----
return table.concat({1,{},3})
----
table.insert({}, 1, 2, 3)
----
table.insert(nil, 1)
----
return {table.maxn({1,2,nil,4,[10]=1}), unpack({1,2,3})}
----
return unpack({}, 1, 1e8)
----
local r = {} for k, v in pairs({a=1, b=2, c=3, d=4, e=5, 10, 20, 30}) do r[#r+1] = tostring(k)..'='..tostring(v) end return r
----
local t = {} for i = 1, 40 do t['key'..i] = i end local r = {} for k, v in pairs(t) do r[#r+1] = k end return r
----
local t = {} for i = 40, 1, -1 do t[i] = i end for i = 1, 10 do t[i*7] = i end t.x = 1 t[0] = 2 t[-1] = 3 t[1.5] = 4 local r = {} for k, v in pairs(t) do r[#r+1] = tostring(k) end return r
----
local t = {1,2,3,nil,5,nil} return {#t, #{1,nil}, #{nil,nil,3}, #{n=1}, #{1,2,3,nil}}
----
local t = {} t[1]=1 t[2]=2 t[4]=4 return #t
----
local t = {10,20,30} t[#t+1] = 40 t[2] = nil return {#t, t[1]}
----
local r = {} for i, v in ipairs({1,2,nil,4}) do r[#r+1] = v end return r
----
return {next({}), next({7}), next({a=1})}
----
return next({}, 'nokey')
----
local t = {} t[nil] = 1
----
local t = {} t[0/0] = 1
----
local r = {} for i = 10, 1, -3 do r[#r+1] = i end for i = 1, 0 do r[#r+1] = 'no' end for i = 0.5, 2 do r[#r+1] = tostring(i) end return r
----
for i = 'a', 2 do end
----
for i = 1, {} do end
----
local i = 0 while true do i = i + 1 if i > 5 then break end end repeat local j = i i = i + 1 until j > 7 return i
----
local function fact(n) if n <= 1 then return 1 end return n * fact(n-1) end return fact(10)
----
local function loop(n) if n == 0 then return 'done' end return loop(n-1) end return loop(100000)
----
local fs = {} for i = 1, 3 do fs[i] = function() i = i + 1 return i end end return {fs[1](), fs[1](), fs[2](), fs[3]()}
----
local function f(...) local a, b = ... return select('#', ...), a, b, ... end return {f(1, nil, 3)}
----
local a, b, c = (function() return 1, 2, 3 end)() return {a, b, c, ((function() return 1, 2 end)())}
----
local t = {(function() return 1, 2, 3 end)(), (function() return 1, 2, 3 end)()} return t
----
local a, b = 1 a, b = b, a return {tostring(a), tostring(b)}
----
local i, t = 1, {} i, t[i] = i + 1, 20 return {i, t[1], tostring(t[2])}
----
local x = 1 do local x = 2 end local function g() x = x + 1 return x end g() return x
----
return {1 and 2, nil and 1, false or 'x', nil or false, not nil, not 0, 1 == 1.0, '1' == 1}
----
return {2^10, 7 % 3, -7 % 3, 7 % -3, 5.5 % 2, 10 / 4, 1e308 * 10 == 1/0, '10' + 5, '3' * '4', 10 .. 20}
----
return tostring(5 % 0) .. tostring(5 % (1/0)) .. tostring(-5 % (1/0))
----
return {1 < 2, 'a' < 'b', 'a' < 'B', 'a' <= 'a', 2 >= 3, 'Z' > 'a', 'a\0b' < 'a\0c', '' < 'a'}
----
local mt = {__add=function(a,b) return 'add' end, __eq=function() return true end, __lt=function() return true end, __le=function() return false end, __call=function(self, x) return 'called'..x end, __concat=function(a, b) return 'cat' end, __unm=function() return 'unm' end, __tostring=function() return 'str' end, __len=function() return 99 end}
local a, b = setmetatable({}, mt), setmetatable({}, mt)
return {a + 1, 1 + a, a == b, a < b, a <= b, a(5), a .. 'x', 'x' .. a, -a, tostring(a), #a}
----
local t = setmetatable({}, {__newindex=function(t,k,v) rawset(t, k, v*2) end}) t.a = 5 return {t.a, rawget(t, 'a'), rawequal(t, t)}
----
local t = setmetatable({}, {__index={x=1}, __metatable='locked'}) return {t.x, getmetatable(t)}
----
setmetatable(setmetatable({}, {__metatable=1}), {})
----
setmetatable(1, {})
----
return getmetatable('').__index == string
----
return math.floor(3.7) + math.ceil(3.2) + math.abs(-5) + math.max(1,5,3) + math.min(4,2,8) + math.fmod(7,3) + math.sqrt(16)
----
return {tostring(math.pi), tostring(math.huge), tostring(math.sin(1)), tostring(math.exp(1)), tostring(math.log(10)), tostring(math.log10(1000)), tostring(math.pow(2, 0.5)), tostring(math.atan2(1, 2)), tostring(math.deg(1)), tostring(math.rad(180))}
----
local a, b = math.modf(3.7) local c, d = math.frexp(10) return {tostring(a), tostring(b), tostring(c), tostring(d), tostring(math.ldexp(0.5, 4))}
----
math.randomseed(42) local r = {} for i = 1, 10 do r[i] = tostring(math.random()) end return r
----
math.randomseed(7) local r = {} for i = 1, 10 do r[i] = math.random(100) end for i = 1, 5 do r[#r+1] = math.random(-5, 5) end return r
----
return math.random(0)
----
return math.random(5, 1)
----
return {bit.band(0xff, 0x0f), bit.bor(1, 2, 4), bit.bxor(5, 3), bit.bnot(0), bit.lshift(1, 31), bit.rshift(-1, 28), bit.arshift(-16, 2), bit.rol(0x12345678, 8), bit.ror(0x12345678, 8), bit.bswap(0x12345678), bit.tobit(0xffffffff), bit.tohex(255), bit.tohex(255, 4), bit.tohex(-1, -4), bit.tobit(2^40+1), bit.tobit(1.5), bit.tobit(-1.5)}
----
return cjson.encode({1,2,3,{a=1}, 'x"y/\\\n\t\1\127é', true, false, cjson.null, 1.5, 1e20, 100, -0})
----
return cjson.encode({a=1,b={c=2,d={1,2}},e='x',f=1.5})
----
local t = {} for i = 1, 30 do t['k'..i] = i end return cjson.encode(t)
----
return cjson.encode({})
----
return cjson.encode({[1]=1,[2]=2,[4]=4})
----
return cjson.encode({[1]=1,[100]=2})
----
cjson.encode_sparse_array(true) local r = cjson.encode({[1]=1,[100]=2}) cjson.encode_sparse_array(false) return r
----
return cjson.encode({[1.5]=1})
----
return cjson.encode({[true]=1})
----
return cjson.encode(function() end)
----
return cjson.encode(1/0)
----
cjson.encode_invalid_numbers(true) return cjson.encode({1/0, -1/0, 0/0})
----
cjson.encode_invalid_numbers('null') local r = cjson.encode({1/0}) cjson.encode_invalid_numbers(false) return r
----
cjson.encode_number_precision(3) local r = cjson.encode(3.14159) cjson.encode_number_precision(14) return r
----
local d = cjson.decode('{"a":[1,2,{"b":null}],"c":"x\\u00e9\\n\\ud83d\\ude00","d":1.5e3,"e":true,"f":false}') return {d.a[1], d.a[2], tostring(d.a[3].b), d.c, d.d, d.e, tostring(d.f)}
----
return cjson.decode('{"a":}')
----
return cjson.decode('[1,2')
----
return cjson.decode('[1,2] x')
----
return cjson.decode('"abc')
----
return cjson.decode('"a\\x"')
----
return cjson.decode('"a\\ud800"')
----
return cjson.decode('nul')
----
return cjson.decode('')
----
return cjson.decode('{a:1}')
----
return cjson.decode('[1 2]')
----
return {cjson.decode('0x10'), cjson.decode('[-1, 0.5e1, 1E2]')[2], tostring(cjson.decode('nan')), tostring(cjson.decode('-inf'))}
----
return cjson.decode('01')
----
cjson.decode_invalid_numbers(false) local ok, e = pcall(cjson.decode, '01') cjson.decode_invalid_numbers(true) return e
----
return cjson.decode()
----
cjson.decode_max_depth(2) local ok, e = pcall(cjson.decode, '[[[1]]]') cjson.decode_max_depth(1000) return e
----
local t = {} t.t = t return cjson.encode(t)
----
return cjson.encode_max_depth(0)
----
return cmsgpack.pack({1,2,3,-1,-33,-200,-40000,-3e9,200,70000,5e9,1.5,0.1,'str',true,false,nil})
----
return cmsgpack.pack({a=1,b={c='x'}}, 'y', 5)
----
return {cmsgpack.unpack(cmsgpack.pack({1,2,{3,'x'}}, 'y', 5))}
----
return {cmsgpack.unpack_one(cmsgpack.pack('a','b')), cmsgpack.unpack_limit(cmsgpack.pack('a','b','c'), 2, 1)}
----
return cmsgpack.unpack('\196')
----
return cmsgpack.unpack('\146\1')
----
return cmsgpack.pack()
----
return cmsgpack.unpack_one('x', 5)
----
local t = {} for i = 1, 20 do t['k'..i] = i end return cmsgpack.pack(t)
----
return {struct.pack('>I2i4hB', 258, -5, 7, 255), struct.pack('<d', 1.5), struct.pack('f', 0.1), struct.pack('s', 'abc'), struct.pack('c2', 'abc'), struct.pack('!4 b i', 1, 2)}
----
return {struct.unpack('>I2i4hB', struct.pack('>I2i4hB', 258, -5, 7, 255))}
----
return {struct.unpack('s c2 b', 'abc\0xyz'), struct.size('i4h'), struct.size('!8 b d')}
----
return struct.pack('c5', 'abc')
----
return struct.unpack('i4', 'ab')
----
return struct.pack('z', 1)
----
return struct.size('s')
----
return struct.pack('i33', 1)
----
redis.setresp(3) return redis.call('hgetall', 'nohash')
----
redis.call('hset', 'h', 'f', 'v', 'g', 'w') redis.setresp(3) local r = redis.call('hgetall', 'h') return {r.map.f, r.map.g, redis.call('hgetall', 'h')}
----
redis.call('sadd', 's', 'm') redis.setresp(3) local r = redis.call('smembers', 's') return {tostring(r.set.m), r}
----
redis.call('zadd', 'z', 1.5, 'a', 2, 'b') redis.setresp(3) local r = redis.call('zrange', 'z', 0, -1, 'withscores') return {r[1][1], tostring(r[1][2].double), redis.call('zscore', 'z', 'a')}
----
return {redis.call('zscore', 'z', 'a'), redis.call('zrange', 'z', 0, -1, 'withscores')}
----
redis.setresp(3) return {tostring(redis.call('get', 'none')), type(redis.call('get', 'none'))}
----
redis.setresp(4)
----
redis.setresp()
----
return {double=1.5}
----
return {map={a=1}}
----
return {set={a=true}}
----
return {big_number='123'}
----
return {verbatim_string={string='x', format='txt'}}
----
return {map={a={set={1}}}, 5}
----
redis.call('set', 'k', 1.5) redis.call('append', 'k', 100) redis.call('append', 'k', 1e20) redis.call('append', 'k', -7) return redis.call('get', 'k')
----
return redis.call('incr', {})
----
return redis.call('set', 'k', true)
----
return redis.log(redis.LOG_WARNING, 'x')
----
return redis.log(10, 'x')
----
return redis.log('x')
----
return {redis.LOG_DEBUG, redis.LOG_VERBOSE, redis.LOG_NOTICE, redis.LOG_WARNING, redis.REPL_ALL, redis.REPL_NONE, redis.replicate_commands()}
----
return redis.set_repl(99)
----
redis.call = 1
----
string.x = 1
----
rawset(string, 'x', 1)
----
setmetatable(_G, {})
----
getmetatable(_G).__index = nil
----
setmetatable(string, nil)
----
table.insert(string, 1)
----
return loadstring('return 1 + 1')()
----
return {loadstring('return +')}
----
return {loadstring('x = ', '=chunk')}
----
return load(function() return nil end)()
----
return {pcall(load)}
----
local f = loadstring('error("x")') f()
----
return dofile('x')
----
return loadfile('x')
----
print(1)
----
return require('x')
----
return io.open('x')
----
return debug.getinfo(1)
----
local co = coroutine.create(function(a, b) local c = coroutine.yield(a + b) local d = coroutine.yield(c * 2) return 'end', d end)
return {coroutine.resume(co, 1, 2), select(2, coroutine.resume(co, 10)), select(2, coroutine.resume(co, 'x')), coroutine.status(co), select(2, coroutine.resume(co))}
----
local gen = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) return {gen(), gen(), gen()}
----
local co = coroutine.wrap(function() error('in co') end) co()
----
return {coroutine.resume(coroutine.create(function() error('x') end))}
----
return coroutine.yield(1)
----
return tostring(coroutine.running()) .. coroutine.status(coroutine.create(function() end))
----
return gcinfo() >= 0 and collectgarbage('count') > 0
----
return collectgarbage('bad')
----
assert(false)
----
assert(nil, 'msg')
----
assert(false, {err='X y'})
----
return assert(1, 2)
----
return 'a' b
----
return 1 1
----
x = = 2
----
if true then
----
for i = 1 do end
----
local 1 = 2
----
return "unfinished
----
return [[unfinished
----
--[[ unfinished
----
return 3x
----
return ...
----
break
----
local t = {1,2,3,} return t[3], t[1]
----
return #"\65\066\10x\z" 
----
return "a\
b"
----
return [==[
x]]y]==]
----
goto = 1
----
function f() end
----
local function f() return goto end
----
local t = {} function t.a() return 1 end function t:b() return self == t end return {t.a(), t:b()}
----
f
(1)
----
local f = print
----
local s = 'x' return s:upper():lower():rep(2), s
----
return ("%d"):format(5)
----
local a <const> = 1
----
return 5 // 2
----
return 1 & 2
----
return 0xA + 0Xb + 1e1 + .5 + 3.
----
return {[1]='a', 'b', [2]='c'}
----
return {f=1, 'x', g=2, 'y'}
----
return redis.call('select', 1)
----
return redis.call('select', 99)
----
return redis.call('select', 'x')
----
redis.call('select', 3) redis.call('set', 'in3', 1) return redis.call('dbsize')
----
return redis.call('ping', 'x')
----
return redis.call('echo', 'x')
----
return redis.call('multi')
----
return redis.call('subscribe', 'x')
----
return redis.call('eval', 'return 1', 0)
----
return redis.call('auth', 'x')
----
return redis.call('config', 'get', 'x')
----
return redis.call('flushall')
----
return redis.call()
----
local t = redis.call('mget', 'a', 'b') return {tostring(t[1]), #t}
----
return #redis.call('time')
----
#!lua
return 1
----
#!lua flags=no-writes
return redis.call('set', 'a', 1)
----
#!lua flags=what
return 1
----
#!lua badger=1
return 1
----
#!python
return 1
----
#!lua
----
#!lua flags=no-writes,allow-oom
return redis.call('get', 'a')
----
#!lua flags=no-writes

error('x')
----
#!
return 1

----
return {pcall(function() error('x', 2) end)}
----
local function f() error('lvl2', 2) end local function g() f() end g()
----
return {pcall(pcall, error, 'e')}
----
return {pcall(table.sort, {3, 1, 2}, function(a, b) error({err='E sort'}) end)}
----
table.sort({3, 1, 2}, error)
----
local t = setmetatable({}, {__index = function(t, k) error('idx ' .. k) end}) return t.foo
----
local function f() return f() + 1 end return f()
----
local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x
----
return {string.rep('x', -1), ('x'):rep(3.9)}
----
local a = {} for i = 1, 20 do a[i] = i end for i = 1, 19 do a[i] = nil end return {#a, next(a)}
----
local t = {} for i = 1, 100 do t[#t + 1] = i end for i = 1, 50 do table.remove(t, 1) end return {#t, t[1], t[50], t[51] == nil}
----
local r = {} for _, k in ipairs({'a', 'b'}) do for i = 1, 2 do r[#r + 1] = k .. i end end return r
----
local function v(...) return ... end return {v(), v(1), (v(1, 2)), v(1, 2)}
----
local t = {v = 1} function t:get(x) return self.v + (x or 0) end return t:get() + t:get(5) + t.get({v = 10})
----
return #{unpack({1, 2, 3}, 2)} + select('#', unpack({}, 1, 3))
----
return tostring(setmetatable({}, {__tostring = function() return 'T' end})) .. tostring(1e300 * 1e10)
----
return {1, 2, nil, 4}
----
return {[2] = 1}
----
return function() end
----
return cjson.null
----
return redis.call('zadd', 'zz', 'x', 'y')
----
return {tostring(0.1 + 0.2), tostring(100 * 1.1), tostring(1e15 + 0.5), tostring(2^63), tostring(-2^63), tostring(1e-5), tostring(123456.789e3)}
----
return cjson.encode({0.1 + 0.2, 1/3, 1e15, 123456789012, 1e14, 5e-324, 1.7976931348623157e308})
----
return {redis.call('set', 'n', 0.1 + 0.2), redis.call('get', 'n'), redis.call('set', 'n', 2^53), redis.call('get', 'n'), redis.call('set', 'n', 12345.678), redis.call('get', 'n')}
----
local n = 0 for w in string.gmatch('a,b,,c', '([^,]*)') do n = n + 1 end return n
----
return {('x'):find('x', -10), ('abc'):find('b', -1), ('abc'):match('.-'), ('abc'):match('(a)(b)(c)'), ('  '):match('%S') == nil}
----
return {('%d'):gsub('%%d', '%%s'), ('a.b'):gsub('%.', '%%'), ('abc'):gsub('%w', '%0%0'), ('hello world'):gsub('%w+', '%0 %0', 1)}
----
return {('[test]'):match('%[(.*)%]'), ('a-b'):match('[a%-]+'), ('x^y'):match('[%^x]+'), ('a]b'):match('[]a]+'), ('a-z'):match('[a-]+')}
----
return ('x'):gsub('x', {x = true})
----
return ('x'):gsub('x', function() return {} end)
----
return ('x'):gsub('x')
----
local s = 0 for i, v in ipairs({10, 20, 30}) do if i == 2 then break end s = s + v end return s
----
local t = {3, 1, 2} table.sort(t, nil) return t
----
return {table.foreach({a = 1}, function(k, v) return k .. v end), table.foreachi({1, 2, 3}, function(i, v) if i == 2 then return 'two' end end)}
----
return table.setn({}, 1)
----
return {math.mod(7, 3), math.fmod(-7, 3), tostring(math.fmod(1, 0)), math.floor(-3.5), math.ceil(-3.5), tostring(math.sqrt(-1))}
----
return {tostring(-7 % 0.5), tostring(0/0 == 0/0), 1e15 % 7, -1e15 % 7, 5 % -3, -5 % -3, tostring(3 % -math.huge)}
