---- stopped: endless loop
while true do end
---- stopped: endless repeat
repeat until false
---- stopped: endless for
for i = 1, math.huge do end
---- stopped: endless for by nothing
for i = 2, 1, 0 do end
---- stopped: endless loop in pcall
while true do pcall(function() while true do end end) end
---- stopped: writes and never ends
redis.call('SET', 'a', '2') redis.call('DEL', 'l') redis.call('ZADD', 'z', 5, 'n') while true do end
---- stopped: flushes and never ends
redis.call('FLUSHALL') redis.call('SET', 'new', 1) redis.call('FLUSHDB') redis.call('HSET', 'h', 'x', 1) while true do end
---- stopped: writes much and never ends
for i = 1, 1e9 do redis.call('SET', 'k' .. i, string.rep('x', 100)) end
---- stopped: undoes its own writes and never ends
while true do redis.call('RPUSH', 'l', 'x') redis.call('LPOP', 'l') redis.call('RENAME', 'l', 'm') redis.call('RENAME', 'm', 'l') end
---- stopped: long string by rep
return #(('x'):rep(1e9))
---- stopped: longer string by rep
return #(('x'):rep(2^31 - 1):rep(2^31 - 1))
---- stopped: many long strings
local t = {} for i = 1, 1e6 do t[i] = ('x'):rep(1e6) end
---- stopped: doubling by concatenation
local s = 'x' while true do s = s .. s end
---- stopped: concatenation bit by bit
local s = '' while true do s = s .. 'xxxxxxxxxxxxxxxx' end
---- stopped: many tables
local t = {} while true do t = {t} end
---- stopped: one large table
local t = {} for i = 1, 1e9 do t[i] = i end
---- stopped: one large table by names
local t = {} for i = 1, 1e9 do t['k' .. i] = i end
---- ends: a distant index
local t = {} t[2^25] = 1 t[2^26 - 1] = 2 t[67108863] = 3 return #t
---- stopped: tables of many fields
while true do local t = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, a = 1, b = 2, c = 3} end
---- fails: deep recursion
local function f(n) return 1 + f(n + 1) end return f(1)
---- fails: deep recursion with many values
local function f(...) return 1 + f(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...) end return f()
---- stopped: endless tail calls
local function f() return f() end return f()
---- stopped: recursion caught again and again
local function f() pcall(f) return f() end f()
---- stopped: exponential recursion
local function f(n) if n == 0 then return 1 end return f(n - 1) + f(n - 1) end return f(60)
---- fails: recursion of metamethods
local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x
---- fails: chain of __index
local t = setmetatable({}, {}) getmetatable(t).__index = t for i = 1, 1000 do t = setmetatable({}, {__index = t}) end return t.x
---- fails: error in the error handler
return {xpcall(function() error('x') end, function() error('y') end)}, error({err = 'E done'})
---- stopped: error handler that never ends
xpcall(function() error('x') end, function() while true do end end)
---- fails: recursion of error handlers
local function h(e) return xpcall(error, h) end local function g() xpcall(error, h) error('out') end g()
---- stopped: gsub that grows
local s = ('a'):rep(1000) for i = 1, 100 do s = s:gsub('a', 'aaaaaaaaaa') end return #s
---- stopped: gsub with a function that never ends
('x'):gsub('x', function() while true do end end)
---- stopped: gsub of gopher-lua's issue 521
local s = ('x'):rep(1e6) while true do s:gsub('.', '%0%0%0') end
---- stopped: gsub with a long replacement
(('a'):rep(1e5)):gsub('.*', ('%0'):rep(1e5))
---- stopped: catastrophic pattern
return (('a'):rep(5000)):match('.-.-.-.-.-.-b')
---- stopped: catastrophic pattern with stars
return (('a'):rep(3000)):find('a*a*a*a*a*b')
---- stopped: catastrophic frontier
for i = 1, 1e6 do (('a b '):rep(10000)):find('%f[%w]%w+%f[%W]x') end
---- stopped: balance over and over
for i = 1, 1e6 do (('('):rep(1e5)):find('%b()') end
---- ends: pattern of many optional items
return (('a'):rep(100)):match(('a?'):rep(5000) .. 'b')
---- stopped: gmatch without end
for i = 1, 1e6 do for w in (('a '):rep(1e5)):gmatch('%a+') do end end
---- stopped: back references
return (('a'):rep(20000)):find('(a*)%1%1b')
---- stopped: format with wide fields
local t = {} for i = 1, 1e6 do t[#t + 1] = string.format('%99s%99s%99s%99s%99s', 1, 2, 3, 4, 5) end
---- stopped: format of long strings
local s = ('x'):rep(1e6) while true do string.format('%s%s%s%s%s%q', s, s, s, s, s, s) end
---- stopped: table.concat again and again
local t = {} for i = 1, 5000 do t[i] = ('x'):rep(1000) end while true do table.concat(t, ',') end
---- stopped: table.insert in front
local t = {} while true do table.insert(t, 1, 1) end
---- stopped: table.remove in front
local t = {} for i = 1, 200000 do t[i] = 1 end while true do table.remove(t, 1) table.insert(t, 1) end
---- stopped: sort with a comparison that never ends
table.sort({3, 2, 1}, function() while true do end end)
---- ends: sort without order
local t = {} for i = 1, 20000 do t[i] = i % 7 end table.sort(t, function() return true end)
---- stopped: sort of what is hard for quicksort
local t = {} for i = 1, 50000 do t[i] = i % 2 end while true do table.sort(t) table.sort(t, function(a, b) return a > b end) end
---- fails: unpack of much
return unpack({}, 1, 1e9)
---- stopped: unpack again and again
local t = {} for i = 1, 7900 do t[i] = i end while true do local n = select('#', unpack(t)) end
---- ends: many arguments through many functions
local t = {} for i = 1, 7000 do t[i] = i end local function f(...) return select('#', ...) + f(...) end return f(unpack(t))
---- fails: string.byte of much
return string.byte(('x'):rep(1e6), 1, -1)
---- stopped: keys that collide
local t = {} for i = 1, 1e6 do t[i * 2^32 + 0.5] = 1 end
---- stopped: strings that collide
local t = {} local x = ('x'):rep(64) for i = 1, 1e6 do t[x .. ('%08d'):format(i) .. x] = 1 end
---- stopped: a table that is emptied and walked
local t = {} for i = 1, 100000 do t['k' .. i] = 1 end for k in pairs(t) do t[k] = nil end while true do next(t) end
---- stopped: length of a sparse table
local t = {} for i = 1, 26 do t[2^i] = 1 end while true do local n = #t end
---- stopped: long strings compared
local a, b = ('x'):rep(1e6) .. 'a', ('x'):rep(1e6) .. 'b' while true do if a < b then end if a == b then end end
---- stopped: long strings as keys
local t, a = {}, ('x'):rep(1e6) while true do t[a .. 'y'] = 1 end
---- fails: cjson.encode of a circle
local t = {} t.t = t return cjson.encode(t)
---- stopped: cjson.encode of a tangle
local t = {} for i = 1, 100 do t = {t, t} end return cjson.encode(t)
---- fails: cjson.decode of deep nesting
cjson.decode_max_depth(2^30) return cjson.decode(('['):rep(1e6))
---- stopped: cjson.decode again and again
local s = '[' .. ('1,'):rep(50000) .. '1]' while true do cjson.decode(s) end
---- stopped: cmsgpack.pack of a tangle
local t = {} for i = 1, 16 do t = {t, t, t, t} end return cmsgpack.pack(t)
---- fails: cmsgpack.unpack of deep nesting
return cmsgpack.unpack(('\145'):rep(1e6))
---- fails: cmsgpack.unpack of a length that is a lie
return cmsgpack.unpack('\221\255\255\255\255\1')
---- fails: struct.pack of much
return struct.pack('c2000000000', 'x')
---- stopped: struct.unpack again and again
local s = ('x'):rep(1e5) while true do struct.unpack(('b'):rep(5000), s) end
---- stopped: a reply that is a tangle
local t = {} for i = 1, 40 do t = {t, t} end return t
---- returns: a reply that is a circle
local t = {} t[1] = t return t
---- stopped: a reply that is long
local s, t = ('x'):rep(1e6), {} for i = 1, 1000 do t[i] = s end return t
---- stopped: commands without end
while true do redis.call('PING') end
---- stopped: errors of commands without end
while true do redis.pcall('NOSUCH') redis.pcall('INCR', 'l') end
---- stopped: long answers again and again
redis.call('SET', 'long', ('x'):rep(1e6)) while true do redis.call('GET', 'long') end
---- stopped: whole values again and again
for i = 1, 2000 do redis.call('SADD', 's', i) end while true do redis.call('SINTERSTORE', 'd', 's', 's') end
---- stopped: LCS of long strings
redis.call('MSET', 'x', ('ab'):rep(1000), 'y', ('ba'):rep(1000)) while true do redis.call('LCS', 'x', 'y', 'LEN') end
---- stopped: loadstring without end
while true do loadstring('local a = {1, 2, 3} return a')() end
---- ends: loadstring of long text
return loadstring(('a = b '):rep(1e5))
---- stopped: loadstring that makes more of itself
local s = 'return 1' for i = 1, 1e6 do s = 'return loadstring([[' .. ('='):rep(i) .. s .. ']])' loadstring(s) end
---- ends: load from a function without end
return load(function() return ' ' end)
---- fails: coroutine bomb
local t = {} while true do t[#t + 1] = coroutine.create(function() coroutine.yield() end) coroutine.resume(t[#t]) end
---- ends: coroutines within coroutines
local function f() local co = coroutine.create(f) local ok, e = coroutine.resume(co) if not ok then error(e, 0) end end f()
---- stopped: a coroutine that never ends
coroutine.wrap(function() while true do end end)()
---- stopped: a coroutine that swallows everything
local co = coroutine.wrap(function() while true do pcall(function() while true do coroutine.status(coroutine.running()) end end) end end) while true do pcall(co) end
---- stopped: coroutines that go to and fro
local co = coroutine.wrap(function() while true do coroutine.yield(1) end end) while true do co() end
---- ends: coroutines with deep stacks
local function deep(n) if n == 0 then coroutine.yield() return 0 end return 1 + deep(n - 1) end for i = 1, 250 do coroutine.resume(coroutine.create(function() deep(5000) end)) end
---- stopped: closures without end
local t = {} while true do t[#t + 1] = function() return t end end
---- stopped: userdata without end
local t = {} while true do t[#t + 1] = newproxy(true) end
---- fails: tampering with strings
getmetatable('').__index = function() return 'evil' end
---- fails: tampering with the globals
rawset(_G, 'redis', nil)
---- fails: tampering with a library
cjson.encode = nil
---- fails: tampering with a shared constant
getmetatable(cjson.empty_array).__is_cjson_array = 1
---- returns: settings that others must not see
cjson.encode_max_depth(1) math.randomseed(1) redis.setresp(3) return 1
---- stopped: logs without end
while true do redis.log(redis.LOG_WARNING, ('x'):rep(1000)) end
---- stopped: hashes without end
while true do redis.sha1hex(('x'):rep(1e6)) end
---- stopped: numbers to text without end
local t = {} for i = 1, 1e9 do t[i] = tostring(i / 7) end
---- stopped: upper and lower without end
local s = ('aB'):rep(1e6) while true do s = s:upper():lower():reverse() end
---- ends: a long chain of operators
return loadstring('return ' .. ('1+'):rep(50000) .. '1')()
---- ends: deep parentheses
return loadstring('return ' .. ('('):rep(50000) .. '1' .. (')'):rep(50000))()
---- ends: a long chain of conditions
return loadstring('return ' .. ('nil or '):rep(20000) .. '1')()
---- fails: many variables
return loadstring(('local a '):rep(300) .. 'return 1')()
---- stopped: many members at once
local t = {} for i = 1, 200 do t[2*i-1] = i t[2*i] = 'm' .. i end
local j = 0 while true do redis.call('ZADD', 'z' .. j, unpack(t)) j = j + 1 end
---- stopped: many keys at once
local t = {} for i = 1, 200 do t[2*i-1] = 'k' .. i t[2*i] = i end
while true do redis.call('MSET', unpack(t)) end
---- stopped: a string that grows byte by byte
while true do redis.call('APPEND', 's', 'x') end
---- stopped: sketches without end
local i = 0 while true do redis.call('TDIGEST.CREATE', 't' .. i) i = i + 1 end
---- stopped: paths through a document
redis.call('JSON.SET', 'j', '$', '{"a":[' .. string.rep('1,', 5000) .. '1]}')
while true do redis.call('JSON.GET', 'j', '$.a[?@>3]') end
---- stopped: a document changed everywhere
redis.call('JSON.SET', 'j', '$', '{"a":[' .. string.rep('1,', 5000) .. '1]}')
while true do redis.call('JSON.NUMINCRBY', 'j', '$.a[*]', 1) end
---- stopped: scans that find nothing
for i = 1, 3000 do redis.call('SET', 'k' .. i, i) end
while true do redis.call('SCAN', 0, 'COUNT', 1000, 'MATCH', 'nothing*') end
---- stopped: members by lot
for i = 1, 3000 do redis.call('SADD', 's', i) end
while true do redis.call('SRANDMEMBER', 's', 1000) end
---- stopped: everything flushed again and again
while true do redis.call('FLUSHALL') redis.call('SET', 'a', 1) end
---- stopped: counts in a large sorted set
for i = 1, 5000 do redis.call('ZADD', 'zz', 0, i) end
while true do redis.call('ZLEXCOUNT', 'zz', '-', '+') end
