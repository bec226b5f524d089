package engine

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"unsafe"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
)

// A stringValue is bytes with what HTTP and memcached keep beside them. Looked at in an item, its bytes are the
// record's own; given to putString, they are anybody's.
type stringValue struct {
	data        []byte
	version     uint64 // ETag over HTTP, CAS token over memcached; 56 bits
	contentType string // as given over HTTP; empty for values written otherwise
	flags       uint32 // memcached's
	marks       marks  // memcached's, 0 for nearly all
	accessed    uint32 // with marks: when one of memcached's fetches that tell of it was the last; see accessTime
	room        int    // bytes that a long value may have before it has to move, which the account goes by
}

func (s *stringValue) kind() string { return "string" }
func (s *stringValue) empty() bool  { return false }
func (s *stringValue) len() int     { return len(s.data) }

// What stands before the data in a record.
const (
	versionBytes = 7
	flagsBytes   = 4
	markBytes    = 5
)

// form is the kind of the record that s needs, and how many bytes stand before the data.
func (s *stringValue) form() (kind dense.Kind, head int) {
	switch {
	case s.marks != 0:
		return kindMarked, versionBytes + flagsBytes + 1 + markBytes + len(s.contentType)
	case s.contentType != "" || s.flags != 0:
		return kindTagged, versionBytes + flagsBytes + 1 + len(s.contentType)
	}
	return kindString, versionBytes
}

// load makes s a view of a record's value.
func (s *stringValue) load(kind dense.Kind, b []byte, room int) {
	*s = stringValue{version: uint64(binary.LittleEndian.Uint32(b)) | uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48, room: room}
	at := versionBytes
	if kind != kindString {
		s.flags = binary.LittleEndian.Uint32(b[at:])
		at += flagsBytes + 1
		label := int(b[at-1])
		if kind == kindMarked {
			s.marks, s.accessed = marks(b[at]), binary.LittleEndian.Uint32(b[at+1:])
			at += markBytes
		}
		s.contentType = text(b[at : at+label])
		at += label
	}
	s.data = b[at:]
	s.room -= at
}

// encode tells the room too, where it is more than the data needs: memory is accounted by it, and who is refused for
// want of memory must not differ between replicas.
func (s *stringValue) encode(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, s.version)
	dst = binary.AppendUvarint(dst, uint64(s.flags))
	dst = binary.AppendUvarint(append(dst, byte(s.marks)), uint64(s.accessed))
	dst = binary.AppendUvarint(dst, uint64(s.room))
	dst = binary.AppendUvarint(dst, uint64(len(s.contentType)))
	dst = append(dst, s.contentType...)
	return append(dst, s.data...)
}

// putString stores s in it, the view of what is under key, nil for nothing.
func (k *keyspace) putString(it *item, key []byte, s stringValue, expireAt int64) *item {
	if s.version >= 1<<56 {
		panic("engine: versions have run out")
	}
	kind, head := s.form()
	if kind == kindString && k.overwrite(it, &s, expireAt) {
		return it
	}
	var label [MaxContentType]byte // the content type may be a view of what is overwritten
	copy(label[:], s.contentType)
	it, b := k.hold(it, key, kind, head+len(s.data), head+s.room, expireAt)
	if data := b[head:]; len(data) > 0 && &data[0] != unsafe.SliceData(s.data) {
		copy(data, s.data)
	}
	putVersion(b, s.version)
	if kind != kindString {
		binary.LittleEndian.PutUint32(b[versionBytes:], s.flags)
		b[versionBytes+flagsBytes] = byte(len(s.contentType))
		copy(b[head-len(s.contentType):], label[:len(s.contentType)])
	}
	if kind == kindMarked {
		at := versionBytes + flagsBytes + 1
		b[at] = byte(s.marks)
		binary.LittleEndian.PutUint32(b[at+1:], s.accessed)
	}
	return k.loaded(it)
}

// overwrite is putString for the case that a plain string takes the place of one as long, which most SETs of a cache are: the
// record stays where it is, and no account changes. It reports false, and has done nothing, where there is more to do.
func (k *keyspace) overwrite(it *item, s *stringValue, expireAt int64) bool {
	if it == nil || it.kind != kindString || len(it.str.data) != len(s.data) || dense.IsApart(len(it.key), versionBytes+len(s.data)) ||
		!dense.SameWidth(it.expireAt, expireAt) {
		return false
	}
	if before := it.expireAt; before != expireAt {
		k.table.SetExpire(it.hash, it.ref, expireAt)
		it.expireAt = expireAt
		k.scheduled(it.hash, before, expireAt)
	} else {
		k.table.Touch(it.hash, it.key, it.ref)
	}
	putVersion(k.p.store.Value(it.ref), s.version)
	copy(it.str.data, s.data)
	it.str.version = s.version
	k.touched(it.key)
	return true
}

func putVersion(b []byte, version uint64) {
	binary.LittleEndian.PutUint32(b, uint32(version))
	b[4], b[5], b[6] = byte(version>>32), byte(version>>40), byte(version>>48)
}

var stringCommands = []Command{
	{Name: "GET", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupString, Action: "cache:Get", run: get, short: shortGet,
		Usage: "key", Summary: "Returns the string under a key", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "MGET", Arity: -2, Spread: KeysListed, Keys: allKeys, Flags: Fast, Group: GroupString, Action: "cache:Get", run: mget,
		Usage: "key [key ...]", Summary: "Returns the strings under several keys", Complexity: "O(N) in the number of keys", Since: "1.0.0"},
	{Name: "STRLEN", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupString, Action: "cache:Inspect", run: strlen,
		Usage: "key", Summary: "Returns the length of a string in bytes", Complexity: "O(1)", Since: "2.2.0"},
	{Name: "GETRANGE", Arity: 4, Keys: oneKey, Group: GroupString, Action: "cache:GetRange", run: getrange,
		Usage: "key start end", Summary: "Returns a part of a string", Complexity: "O(N) in the length returned", Since: "2.4.0"},
	{Name: "SUBSTR", Arity: 4, Keys: oneKey, Group: GroupString, Action: "cache:GetRange", run: getrange,
		Usage: "key start end", Summary: "Returns a part of a string: the old name of GETRANGE", Complexity: "O(N) in the length returned", Since: "1.0.0"},

	{Name: "SET", Arity: -3, Keys: oneKey, Flags: Writes | Grows, Group: GroupString, Action: "cache:Set", Also: setRights, Facts: setFacts, run: set, short: shortSet,
		Usage:   "key value [NX | XX | IFEQ value | IFNE value | IFDEQ digest | IFDNE digest] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
		Summary: "Stores a string, whatever was there before", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "SETNX", Arity: 3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupString, Action: "cache:Set", Facts: valueAt(2), run: setnx,
		Usage: "key value", Summary: "Stores a string where there is none", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "SETEX", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupString, Action: "cache:Set", Facts: setexFacts("EX"),
		run:   func(c *call) error { return setex(c, "EX") },
		Usage: "key seconds value", Summary: "Stores a string that expires", Complexity: "O(1)", Since: "2.0.0"},
	{Name: "PSETEX", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupString, Action: "cache:Set", Facts: setexFacts("PX"),
		run:   func(c *call) error { return setex(c, "PX") },
		Usage: "key milliseconds value", Summary: "Stores a string that expires after so many milliseconds", Complexity: "O(1)", Since: "2.6.0"},
	{Name: "MSET", Arity: -3, Spread: KeysSame, Keys: Keys{First: 1, Last: -1, Step: 2}, Flags: Writes | Grows, Group: GroupString, Action: "cache:Set", Facts: msetFacts,
		run:   func(c *call) error { return mset(c, false) },
		Usage: "key value [key value ...]", Summary: "Stores several strings at once", Complexity: "O(N) in the number of keys", Since: "1.0.1"},
	{Name: "MSETNX", Arity: -3, Keys: Keys{First: 1, Last: -1, Step: 2}, Flags: Writes | Grows, Group: GroupString, Action: "cache:Set", Facts: msetFacts,
		run:   func(c *call) error { return mset(c, true) },
		Usage: "key value [key value ...]", Summary: "Stores several strings at once, unless one of the keys is there", Complexity: "O(N) in the number of keys", Since: "1.0.1"},
	{Name: "GETSET", Arity: 3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupString, Action: "cache:Set", Also: alsoOnKey("cache:Get"), Facts: valueAt(2), run: getset,
		Usage: "key value", Summary: "Stores a string and returns the one before", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "GETDEL", Arity: 2, Keys: oneKey, Flags: Writes | Fast, Group: GroupString, Action: "cache:Get", Also: alsoOnKey("cache:Delete"), run: getdel,
		Usage: "key", Summary: "Returns a string and removes it", Complexity: "O(1)", Since: "6.2.0"},
	{Name: "GETEX", Arity: -2, Keys: oneKey, Flags: Writes | Fast, Group: GroupString, Action: "cache:Get", Also: getexRights, Facts: getexFacts, run: getex,
		Usage:   "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
		Summary: "Returns a string and changes when it expires", Complexity: "O(1)", Since: "6.2.0"},
	{Name: "APPEND", Arity: 3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupString, Action: "cache:Append", Facts: valueAt(2), run: appendTo,
		Usage: "key value", Summary: "Adds bytes to the end of a string", Complexity: "O(1) on average, for a short addition", Since: "2.0.0"},
	{Name: "SETRANGE", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupString, Action: "cache:Set", Facts: setrangeFacts, run: setrange,
		Usage: "key offset value", Summary: "Overwrites a part of a string", Complexity: "O(N) in the length of the string", Since: "2.2.0"},

	{Name: "INCR", Arity: 2, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupString, Action: "cache:Increment",
		run:   func(c *call) error { return c.incr(1) },
		Usage: "key", Summary: "Adds one to an integer", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "DECR", Arity: 2, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupString, Action: "cache:Increment",
		run:   func(c *call) error { return c.incr(-1) },
		Usage: "key", Summary: "Takes one from an integer", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "INCRBY", Arity: 3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupString, Action: "cache:Increment", run: incrby,
		Usage: "key increment", Summary: "Adds to an integer", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "DECRBY", Arity: 3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupString, Action: "cache:Increment", run: decrby,
		Usage: "key decrement", Summary: "Takes from an integer", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "INCRBYFLOAT", Arity: 3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupString, Action: "cache:Increment", run: incrbyfloat,
		Usage: "key increment", Summary: "Adds to a number that may have a fraction", Complexity: "O(1)", Since: "2.6.0"},
}

// alsoOnKey makes the rights of a command that needs one more action on its first key.
func alsoOnKey(action string) rights {
	return func(dst []Right, args [][]byte) []Right {
		if len(args) > 1 {
			dst = append(dst, Right{Action: action, On: OnKey, Name: args[1]})
		}
		return dst
	}
}

// valueAt makes the facts of a command whose value is argument i.
func valueAt(i int) facts {
	return func(args [][]byte, _ int64) Facts {
		f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
		if i < len(args) {
			f.ValueSize = int64(len(args[i]))
		}
		return f
	}
}

// exactly copies data into an array of its own with no room to spare.
func exactly(data []byte) []byte {
	own := make([]byte, len(data))
	copy(own, data)
	return own
}

// room is how many bytes a string of n bytes that was added to gets: at most a quarter more than it needs, and at least
// so much that n bytes appended one by one are copied O(n) times altogether. Short strings get none to spare: to move
// them costs next to nothing.
func room(n int) int {
	step := max(64, 1<<max(0, bits.Len(uint(n))-3))
	return (n + step - 1) / step * step
}

// write stores data under key as a new version of a plain string.
func (c *call) write(key, data []byte, expireAt int64) *item {
	return c.putString(key, stringValue{data: data, version: c.p.nextVersion()}, expireAt)
}

func (c *call) putString(key []byte, s stringValue, expireAt int64) *item {
	k := c.keys()
	return k.putString(c.replacing(k, key), key, s, expireAt)
}

// writeUntil is write for a deadline that a client named: if it has come already, nothing is under the key.
func (c *call) writeUntil(key, data []byte, expireAt int64) {
	if expireAt != 0 && expireAt <= c.now {
		c.remove(key)
		return
	}
	c.write(key, data, expireAt)
}

// modify stores data as a new version of the string s in it, keeping its content type, flags, marks and deadline.
// Where there is none (nil), it makes one.
func (c *call) modify(key []byte, s *stringValue, it *item, data []byte) *item {
	v, at := c.modified(s, it)
	v.data = data
	return c.putString(key, v, at)
}

// modified is the next version of s in it, but for its data, with its deadline.
func (c *call) modified(s *stringValue, it *item) (v stringValue, expireAt int64) {
	v = stringValue{version: c.p.nextVersion()}
	if s == nil {
		return v, c.defaultDeadline()
	}
	v.contentType, v.flags, v.marks, v.accessed = s.contentType, s.flags, s.marks, s.accessed
	return v, it.expireAt
}

// extended makes the string s in it, nil for none, at least n bytes long, zeros behind what it has, and returns its item:
// a new version, whose bytes are to be written.
func (c *call) extended(key []byte, s *stringValue, it *item, n int) *item {
	k := c.keys()
	v, at := c.modified(s, it)
	have := 0
	if s != nil {
		have = len(s.data)
	}
	n = max(n, have)
	if n == have && s != nil {
		v.data, v.room = s.data, s.room
		return k.putString(c.replacing(k, key), key, v, at)
	}
	if j := c.p.journal; j != nil {
		j.remember(place{k, string(key)}, it)
	}
	kind, head := v.form()
	held, b := k.hold(it, key, kind, head+n, head+room(n), at)
	clear(b[head+have:])
	held.load()
	k.account()
	v.data, v.contentType = held.str.data, held.str.contentType
	v.room = held.str.room
	return k.putString(held, key, v, at)
}

// checkSizes refuses a key or value over its limit, naming both the limit and the size.
func (c *call) checkSizes(key []byte, value int64) error {
	if len(key) > MaxKey {
		return fault.About(fault.TooLarge, c.cmd.Name, "key", "max key size exceeded. Limit: %d bytes, Actual: %d bytes", MaxKey, len(key))
	}
	if limit := c.cache.maxValue(); value > limit {
		return fault.About(fault.TooLarge, c.cmd.Name, "value", "string exceeds maximum allowed size (proto-max-bulk-len): max value size exceeded. Limit: %d bytes, Actual: %d bytes", limit, value)
	}
	return nil
}

// read looks up a string for a reading command and counts the hit or miss.
func (c *call) read(key []byte) (*stringValue, *item, error) {
	s, it, err := lookup[*stringValue](c, key)
	if err == nil {
		c.count(s != nil)
	}
	return s, it, err
}

// glance is read for the case that a plain string is under key or nothing, as for most reads of a cache: the string's bytes,
// without a view of it. known is false, and nothing is done, where there is more to it.
func (c *call) glance(key []byte) (data []byte, found, known bool) {
	k, store := c.keys(), c.p.store
	if k.owner.export != nil {
		return nil, false, false
	}
	hash := c.p.hash(key)
	ref := k.table.Find(hash, key)
	if ref == 0 {
		c.notify(EventKeyMiss, "keymiss", key)
		c.count(false)
		return nil, false, true
	}
	rec := store.Open(ref)
	if rec.Kind != kindString || rec.ExpireAt != 0 && rec.ExpireAt <= c.now {
		return nil, false, false
	}
	if !c.quiet {
		store.SetNote(ref, k.policy.Hit(hash, rec.Note, c.now))
	}
	c.count(true)
	return rec.Value[versionBytes:], true, true
}

// bulk answers with a string, null where there is none.
func (c *call) bulk(s *stringValue) {
	if s == nil {
		c.out.Null()
		return
	}
	c.out.Bulk(s.data)
}

func get(c *call) error {
	switch data, found, known := c.glance(c.args[1]); {
	case found:
		c.out.Bulk(data)
		return nil
	case known:
		c.out.Null()
		return nil
	}
	s, _, err := c.read(c.args[1])
	if err != nil {
		return err
	}
	c.bulk(s)
	return nil
}

func mget(c *call) error {
	c.out.Array(len(c.args) - 1)
	for _, key := range c.args[1:] {
		s, _, _ := c.read(key) // another type counts as absent
		c.bulk(s)
		if s != nil {
			c.steps(s.len() / restBytes)
		}
		c.step()
	}
	return nil
}

func strlen(c *call) error {
	s, _, err := c.read(c.args[1])
	if err != nil {
		return err
	}
	if s == nil {
		c.out.Int(0)
		return nil
	}
	c.out.Int(int64(s.len()))
	return nil
}

// slice returns the bytes from first to last, both counted from the end when negative, as GETRANGE does.
func slice(data []byte, first, last int64) []byte {
	n := int64(len(data))
	if first < 0 && last < 0 && first > last {
		return nil
	}
	if first < 0 {
		first = max(first+n, 0)
	}
	if last < 0 {
		last = max(last+n, 0)
	}
	last = min(last, n-1)
	if first > last {
		return nil
	}
	return data[first : last+1]
}

func getrange(c *call) error {
	first, ok1 := parseInt(c.args[2])
	last, ok2 := parseInt(c.args[3])
	if !ok1 || !ok2 {
		return errNotInteger
	}
	s, _, err := c.read(c.args[1])
	if err != nil {
		return err
	}
	if s == nil {
		c.out.Bulk(nil)
		return nil
	}
	c.out.Bulk(slice(s.data, first, last))
	return nil
}

// An expiry is an option that says when a value expires, with its argument: EX, PX, EXAT, PXAT.
type expiry struct{ option, arg []byte }

// parse reads the option at the beginning of args and returns how many arguments it takes, 0 when it is
// something else. Repeated, the last counts; another kind of option beside it is an error.
func (e *expiry) parse(args [][]byte) (taken int, err error) {
	a := args[0]
	if !is(a, "EX") && !is(a, "PX") && !is(a, "EXAT") && !is(a, "PXAT") {
		return 0, nil
	}
	if len(args) == 1 || (e.option != nil && !strings.EqualFold(string(e.option), string(a))) {
		return 0, errSyntax
	}
	e.option, e.arg = a, args[1]
	return 2, nil
}

func (e *expiry) given() bool { return e.option != nil }

// ttl is what the option gives a value to live, in milliseconds, as far as it makes sense; -1 when there is none.
func (e *expiry) ttl(now int64) int64 {
	n, ok := parseInt(e.arg)
	if !e.given() || !ok {
		return -1
	}
	return ttlFact(n, is(e.option, "EX") || is(e.option, "EXAT"), is(e.option, "EXAT") || is(e.option, "PXAT"), now)
}

// ttlFact turns a time that a client gave into milliseconds to live, at least 0 and never wrapping around.
func ttlFact(n int64, seconds, absolute bool, now int64) int64 {
	if seconds {
		n = max(min(n, math.MaxInt64/1000), math.MinInt64/1000) * 1000
	}
	if absolute {
		n = max(n, 0) - now
	}
	return max(n, 0)
}

// deadline turns the option into milliseconds since 1970.
func (c *call) deadline(e expiry) (int64, error) {
	n, ok := parseInt(e.arg)
	if !ok {
		return 0, errNotInteger
	}
	seconds := is(e.option, "EX") || is(e.option, "EXAT")
	if n <= 0 || (seconds && n > math.MaxInt64/1000) {
		return 0, errExpireTime(c)
	}
	if seconds {
		n *= 1000
	}
	if is(e.option, "EX") || is(e.option, "PX") {
		if n > math.MaxInt64-c.now {
			return 0, errExpireTime(c)
		}
		n += c.now
	}
	return n, nil
}

func errExpireTime(c *call) error {
	return fault.New(fault.InvalidArgument, c.cmd.Name, "invalid expire time in '%s' command", strings.ToLower(c.cmd.Name))
}

// setOptions are what stands after the value in SET.
type setOptions struct {
	nx, xx, get, keepTTL bool
	condition            condition
	expiry               expiry
}

func parseSetOptions(args [][]byte) (o setOptions, err error) {
	for len(args) > 0 {
		n := 1
		switch a := args[0]; {
		case is(a, "NX") && !o.xx:
			o.nx = true
		case is(a, "XX") && !o.nx:
			o.xx = true
		case is(a, "GET"):
			o.get = true
		case is(a, "KEEPTTL"):
			o.keepTTL = true
		default:
			if n, err = o.expiry.parse(args); err == nil && n == 0 {
				n, err = o.condition.parse(args)
			}
			if err != nil {
				return o, err
			}
			if n == 0 {
				return o, errSyntax
			}
		}
		args = args[n:]
	}
	if o.keepTTL && o.expiry.given() || (o.nx || o.xx) && o.condition.given() {
		return o, errSyntax
	}
	return o, nil
}

// SET with GET reads what was there, so it takes the right to read as well; and whether a condition is met tells something of it.
func setRights(dst []Right, args [][]byte) []Right {
	o, _ := parseSetOptions(args[min(3, len(args)):])
	if o.get {
		dst = append(dst, Right{Action: "cache:Get", On: OnKey, Name: args[1]})
	}
	if o.condition.given() {
		dst = append(dst, Right{Action: "cache:CompareAndSet", On: OnKey, Name: args[1]})
	}
	return dst
}

func setFacts(args [][]byte, now int64) Facts {
	f := valueAt(2)(args, now)
	if o, err := parseSetOptions(args[min(3, len(args)):]); err == nil {
		f.TTL = o.expiry.ttl(now)
	}
	return f
}

func set(c *call) error {
	key, data := c.args[1], c.args[2]
	o, err := parseSetOptions(c.args[3:])
	if err != nil {
		return err
	}
	at := c.defaultDeadline()
	if o.expiry.given() {
		if at, err = c.deadline(o.expiry); err != nil {
			return err
		}
	}
	if err := c.checkSizes(key, int64(len(data))); err != nil {
		return err
	}
	it := c.get(key)
	stored, err := o.condition.met(it)
	if err != nil {
		return err
	}
	stored = stored && (!o.nx || it == nil) && (!o.xx || it != nil)
	if o.get { // before it is overwritten
		var old *stringValue
		if it != nil {
			s, ok := it.value.(*stringValue)
			if !ok {
				return errWrongType
			}
			old = s
		}
		c.bulk(old)
	}
	if stored {
		if o.keepTTL && it != nil {
			at = it.expireAt
		}
		c.writeUntil(key, data, at)
	}
	switch {
	case o.get:
	case stored:
		c.out.Status("OK")
	default:
		c.out.Null()
	}
	return nil
}

func setnx(c *call) error {
	key, data := c.args[1], c.args[2]
	if err := c.checkSizes(key, int64(len(data))); err != nil {
		return err
	}
	if c.get(key) != nil {
		c.out.Int(0)
		return nil
	}
	c.write(key, data, c.defaultDeadline())
	c.out.Int(1)
	return nil
}

func setexFacts(option string) facts {
	return func(args [][]byte, now int64) Facts {
		f := valueAt(3)(args, now)
		if len(args) > 2 {
			f.TTL = (&expiry{option: []byte(option), arg: args[2]}).ttl(now)
		}
		return f
	}
}

func setex(c *call, option string) error {
	key, data := c.args[1], c.args[3]
	at, err := c.deadline(expiry{option: []byte(option), arg: c.args[2]})
	if err != nil {
		return err
	}
	if err := c.checkSizes(key, int64(len(data))); err != nil {
		return err
	}
	c.writeUntil(key, data, at)
	c.out.Status("OK")
	return nil
}

// msetFacts tells the size of the largest value.
func msetFacts(args [][]byte, now int64) Facts {
	f := valueAt(len(args))(args, now)
	for i := 2; i < len(args); i += 2 {
		f.ValueSize = max(f.ValueSize, int64(len(args[i])))
	}
	return f
}

func mset(c *call, onlyNew bool) error {
	pairs := c.args[1:]
	if len(pairs)%2 != 0 {
		return errArity(c)
	}
	for i := 0; i < len(pairs); i += 2 {
		if err := c.checkSizes(pairs[i], int64(len(pairs[i+1]))); err != nil {
			return err
		}
	}
	for i := 0; onlyNew && i < len(pairs); i += 2 {
		if c.get(pairs[i]) != nil {
			c.out.Int(0)
			return nil
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		c.write(pairs[i], pairs[i+1], c.defaultDeadline())
	}
	if onlyNew {
		c.out.Int(1)
	} else {
		c.out.Status("OK")
	}
	return nil
}

func getset(c *call) error {
	key, data := c.args[1], c.args[2]
	if err := c.checkSizes(key, int64(len(data))); err != nil {
		return err
	}
	old, _, err := c.read(key)
	if err != nil {
		return err
	}
	c.bulk(old) // before it is overwritten
	c.write(key, data, c.defaultDeadline())
	return nil
}

func getdel(c *call) error {
	s, it, err := c.read(c.args[1])
	if err != nil {
		return err
	}
	c.bulk(s)
	if s != nil {
		c.dropItem(it)
	}
	return nil
}

// parseGetexOptions reads what stands after the key in GETEX.
func parseGetexOptions(args [][]byte) (e expiry, persist bool, err error) {
	for len(args) > 0 {
		n := 1
		if is(args[0], "PERSIST") {
			persist = true
		} else if n, err = e.parse(args); err != nil {
			return e, persist, err
		} else if n == 0 {
			return e, persist, errSyntax
		}
		args = args[n:]
	}
	if persist && e.given() {
		return e, persist, errSyntax
	}
	return e, persist, nil
}

// GETEX with an option changes a deadline, which takes the right to.
func getexRights(dst []Right, args [][]byte) []Right {
	if e, persist, err := parseGetexOptions(args[min(2, len(args)):]); err == nil {
		if persist {
			dst = append(dst, Right{Action: "cache:Persist", On: OnKey, Name: args[1]})
		}
		if e.given() {
			dst = append(dst, Right{Action: "cache:Expire", On: OnKey, Name: args[1]})
		}
	}
	return dst
}

func getexFacts(args [][]byte, now int64) Facts {
	f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
	if e, _, err := parseGetexOptions(args[min(2, len(args)):]); err == nil {
		f.TTL = e.ttl(now)
	}
	return f
}

func getex(c *call) error {
	e, persist, err := parseGetexOptions(c.args[2:])
	if err != nil {
		return err
	}
	s, it, err := c.read(c.args[1])
	if err != nil {
		return err
	}
	if s != nil && (e.given() || persist) {
		var at int64
		if e.given() {
			if at, err = c.deadline(e); err != nil {
				return err
			}
		}
		c.bulk(s)
		return c.expire(it, at) // a string lets everybody set its deadline
	}
	c.bulk(s)
	return nil
}

// extend appends more to the string under key and returns its item.
func (c *call) extend(key []byte, s *stringValue, it *item, more []byte) (*item, error) {
	have := 0
	if s != nil {
		have = len(s.data)
	}
	n := have + len(more)
	if err := c.checkSizes(key, int64(n)); err != nil {
		return nil, err
	}
	it = c.extended(key, s, it, n)
	copy(it.str.data[have:], more)
	return it, nil
}

func appendTo(c *call) error {
	s, it, err := lookup[*stringValue](c, c.args[1])
	if err != nil {
		return err
	}
	if it, err = c.extend(c.args[1], s, it, c.args[2]); err != nil {
		return err
	}
	c.out.Int(int64(it.value.(*stringValue).len()))
	return nil
}

// setrangeFacts tells the size that the string has at least afterwards: its bytes up to the offset are written
// too where it was shorter.
func setrangeFacts(args [][]byte, now int64) Facts {
	f := valueAt(3)(args, now)
	if f.ValueSize > 0 {
		if offset, ok := parseInt(args[2]); ok && offset > 0 {
			f.ValueSize += min(offset, math.MaxInt64-f.ValueSize)
		}
	}
	return f
}

func setrange(c *call) error {
	key, patch := c.args[1], c.args[3]
	offset, ok := parseInt(c.args[2])
	if !ok {
		return errNotInteger
	}
	if offset < 0 {
		return fault.About(fault.OutOfRange, c.cmd.Name, "offset", "offset is out of range")
	}
	s, it, err := lookup[*stringValue](c, key)
	if err != nil {
		return err
	}
	var old []byte
	if s != nil {
		old = s.data
	}
	if len(patch) == 0 {
		c.out.Int(int64(len(old)))
		return nil
	}
	end := offset + min(int64(len(patch)), math.MaxInt64-offset)
	if err := c.checkSizes(key, end); err != nil { // before anything is allocated
		return err
	}
	it = c.extended(key, s, it, int(end))
	copy(it.str.data[offset:], patch)
	c.out.Int(int64(len(it.str.data)))
	return nil
}

func errIncrOverflow(op string) error {
	return fault.New(fault.Overflow, op, "increment or decrement would overflow")
}

// sum adds without wrapping around.
func sum(a, b int64) (int64, bool) {
	s := a + b
	return s, (s > a) == (b > 0)
}

// incr adds to the integer under the first key, 0 where there is none.
func (c *call) incr(by int64) error {
	key := c.args[1]
	s, it, err := lookup[*stringValue](c, key)
	if err != nil {
		return err
	}
	var n int64
	ok := true
	if s != nil {
		if n, ok = parseInt(s.data); !ok {
			return errNotInteger
		}
	} else if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	if n, ok = sum(n, by); !ok {
		return errIncrOverflow(c.cmd.Name)
	}
	c.modify(key, s, it, c.decimal(n))
	c.out.Int(n)
	return nil
}

// decimal writes n into the partition's scratch buffer.
func (c *call) decimal(n int64) []byte {
	b := strconv.AppendInt(c.p.scratch[:0], n, 10)
	c.p.scratch = keep(b)
	return b
}

func incrby(c *call) error {
	by, ok := parseInt(c.args[2])
	if !ok {
		return errNotInteger
	}
	return c.incr(by)
}

func decrby(c *call) error {
	by, ok := parseInt(c.args[2])
	if !ok {
		return errNotInteger
	}
	if by == math.MinInt64 {
		return fault.New(fault.Overflow, c.cmd.Name, "decrement would overflow")
	}
	return c.incr(-by)
}

func incrbyfloat(c *call) error {
	key := c.args[1]
	s, it, err := lookup[*stringValue](c, key)
	if err != nil {
		return err
	}
	n := []byte("0")
	if s != nil {
		n = s.data
	} else if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	_, ok1 := parseFloat(n)
	_, ok2 := parseFloat(c.args[2])
	if !ok1 || !ok2 {
		return errNotFloat
	}
	text, ok := addDecimals(n, c.args[2])
	if !ok {
		return fault.New(fault.Overflow, c.cmd.Name, "increment would produce NaN or Infinity")
	}
	c.modify(key, s, it, text)
	c.out.Bulk(text)
	return nil
}
