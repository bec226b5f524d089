package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/larder-cache/larder/internal/fault"
)

// A hashValue maps fields to values. It keeps fields in a slice, whose order is the same on every replica: a
// small hash has them in the order in which they came, as in Redis; in a large one, a removed field's place
// goes to the last, so that a removal costs the same whatever the size.
//
//	H1: no field stands twice
//	H2: index is nil, or maps each field to its place; a hash of more than smallHash fields has one
//	H3: text is the sum of the lengths of fields and values
type hashValue struct {
	entries []hashEntry
	index   map[string]int
	text    int64
}

type hashEntry struct{ field, value string }

// smallHash is how many fields are found by looking at each; it is also Redis's bound of a compact hash, which
// HSCAN returns whole.
const smallHash = 128

// What a hash costs beside its text, in bytes: itself, an entry with its two strings' rounding and the slack
// of a growing slice, and a field's place in the index.
const (
	hashOverhead  = 96
	entryOverhead = 56
	indexOverhead = 40
)

func (h *hashValue) kind() string { return "hash" }
func (h *hashValue) empty() bool  { return len(h.entries) == 0 }
func (h *hashValue) len() int     { return len(h.entries) }

func (h *hashValue) bytes() int64 {
	each := int64(entryOverhead)
	if h.index != nil {
		each += indexOverhead
	}
	return hashOverhead + each*int64(len(h.entries)) + h.text
}

// encode includes the order, which HRANDFIELD and HSCAN draw on.
func (h *hashValue) encode(dst []byte) []byte {
	for _, e := range h.entries {
		for _, s := range [2]string{e.field, e.value} {
			dst = binary.AppendUvarint(dst, uint64(len(s)))
			dst = append(dst, s...)
		}
	}
	return dst
}

func (h *hashValue) clone() largeValue {
	twin := &hashValue{entries: slices.Clone(h.entries), text: h.text}
	if h.index != nil {
		twin.buildIndex()
	}
	return twin
}

func (h *hashValue) buildIndex() {
	h.index = make(map[string]int, len(h.entries))
	for i, e := range h.entries {
		h.index[e.field] = i
	}
}

func (h *hashValue) check() error {
	seen, text := map[string]bool{}, int64(0)
	for i, e := range h.entries {
		if seen[e.field] {
			return fmt.Errorf("H1: field %q stands twice", e.field)
		}
		seen[e.field] = true
		text += int64(len(e.field) + len(e.value))
		if at, ok := h.index[e.field]; h.index != nil && (!ok || at != i) {
			return fmt.Errorf("H2: field %q stands at %d, not at %d", e.field, i, at)
		}
	}
	switch {
	case h.index != nil && len(h.index) != len(h.entries):
		return fmt.Errorf("H2: %d fields in the index of %d", len(h.index), len(h.entries))
	case h.index == nil && len(h.entries) > smallHash:
		return fmt.Errorf("H2: %d fields without an index", len(h.entries))
	case text != h.text:
		return fmt.Errorf("H3: %d bytes counted, there are %d", h.text, text)
	}
	return nil
}

// find returns the place of field, or -1.
func (h *hashValue) find(field []byte) int {
	if h.index != nil {
		if i, ok := h.index[string(field)]; ok {
			return i
		}
		return -1
	}
	for i := range h.entries {
		if h.entries[i].field == string(field) {
			return i
		}
	}
	return -1
}

// get returns the value of field.
func (h *hashValue) get(field []byte) (v string, ok bool) {
	if i := h.find(field); i >= 0 {
		return h.entries[i].value, true
	}
	return "", false
}

// set gives field a value and reports whether field is new. Here and in remove, j, if there is one, learns how
// to take the change back to the very same order.
func (h *hashValue) set(j *journal, field, value []byte) (added bool) {
	if i := h.find(field); i >= 0 {
		old := h.entries[i].value
		if j != nil {
			j.add(func() { h.replace(i, old) })
		}
		h.replace(i, string(value))
		return false
	}
	indexed := h.index != nil
	e := hashEntry{string(field), string(value)}
	h.entries = append(h.entries, e)
	h.text += int64(len(field) + len(value))
	switch {
	case indexed:
		h.index[e.field] = len(h.entries) - 1 // the entry's own text: the account has it once
	case len(h.entries) > smallHash:
		h.buildIndex()
	}
	if j != nil {
		j.add(func() {
			h.cut(len(h.entries) - 1)
			if !indexed {
				h.index = nil
			}
		})
	}
	return true
}

func (h *hashValue) replace(i int, value string) {
	h.text += int64(len(value) - len(h.entries[i].value))
	h.entries[i].value = value
}

// remove takes field out and reports whether it was there.
func (h *hashValue) remove(j *journal, field []byte) bool {
	i := h.find(field)
	if i < 0 {
		return false
	}
	e := h.cut(i)
	if j != nil {
		j.add(func() { h.restore(i, e) })
	}
	return true
}

// cut takes out the entry at i: the later ones close up, or in a large hash the last takes its place.
func (h *hashValue) cut(i int) hashEntry {
	e, last := h.entries[i], len(h.entries)-1
	if h.index == nil {
		copy(h.entries[i:], h.entries[i+1:])
	} else {
		h.entries[i] = h.entries[last]
		h.index[h.entries[i].field] = i
		delete(h.index, e.field)
	}
	h.entries[last] = hashEntry{}
	h.entries = h.entries[:last]
	if cap(h.entries) > 64 && len(h.entries) < cap(h.entries)/4 {
		h.entries = append(make([]hashEntry, 0, cap(h.entries)/2), h.entries...)
	}
	h.text -= int64(len(e.field) + len(e.value))
	return e
}

// restore is the inverse of cut.
func (h *hashValue) restore(i int, e hashEntry) {
	if h.index == nil {
		h.entries = slices.Insert(h.entries, i, e)
	} else if last := len(h.entries); i == last {
		h.entries = append(h.entries, e)
		h.index[e.field] = i
	} else {
		h.entries = append(h.entries, h.entries[i])
		h.index[h.entries[last].field] = last
		h.entries[i] = e
		h.index[e.field] = i
	}
	h.text += int64(len(e.field) + len(e.value))
}

var hashCommands = []Command{
	{Name: "HSET", Arity: -4, Keys: oneKey, Flags: Writes | Fast | Grows, Group: GroupHash, Action: "cache:HashWrite", Facts: hashFacts, run: hset,
		Usage: "key field value [field value ...]", Summary: "Gives fields of a hash their values and counts the new ones", Complexity: "O(N) for N fields", Since: "2.0.0"},
	{Name: "HMSET", Arity: -4, Keys: oneKey, Flags: Writes | Fast | Grows, Group: GroupHash, Action: "cache:HashWrite", Facts: hashFacts, run: hset,
		Usage: "key field value [field value ...]", Summary: "Gives fields of a hash their values", Complexity: "O(N) for N fields", Since: "2.0.0"},
	{Name: "HSETNX", Arity: 4, Keys: oneKey, Flags: Writes | Fast | Grows, Group: GroupHash, Action: "cache:HashWrite", Facts: hashFacts, run: hsetnx,
		Usage: "key field value", Summary: "Gives a field its value unless it has one", Complexity: "O(1)", Since: "2.0.0"},
	{Name: "HGET", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead", run: hget,
		Usage: "key field", Summary: "Returns the value of a field", Complexity: "O(1)", Since: "2.0.0"},
	{Name: "HMGET", Arity: -3, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead", run: hmget,
		Usage: "key field [field ...]", Summary: "Returns the values of fields", Complexity: "O(N) for N fields", Since: "2.0.0"},
	{Name: "HGETALL", Arity: 2, Keys: oneKey, Group: GroupHash, Action: "cache:HashRead", run: hgetall,
		Usage: "key", Summary: "Returns all fields with their values", Complexity: "O(N) for a hash of N fields", Since: "2.0.0"},
	{Name: "HDEL", Arity: -3, Keys: oneKey, Flags: Writes | Fast, Group: GroupHash, Action: "cache:HashWrite", run: hdel,
		Usage: "key field [field ...]", Summary: "Removes fields and counts those that existed", Complexity: "O(N) for N fields", Since: "2.0.0"},
	{Name: "HEXISTS", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead", run: hexists,
		Usage: "key field", Summary: "Tells whether a field exists", Complexity: "O(1)", Since: "2.0.0"},
	{Name: "HLEN", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead", run: hlen,
		Usage: "key", Summary: "Counts the fields of a hash", Complexity: "O(1)", Since: "2.0.0"},
	{Name: "HSTRLEN", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead", run: hstrlen,
		Usage: "key field", Summary: "Returns the length of a field's value", Complexity: "O(1)", Since: "3.2.0"},
	{Name: "HKEYS", Arity: 2, Keys: oneKey, Group: GroupHash, Action: "cache:HashRead", run: hkeys,
		Usage: "key", Summary: "Returns all fields", Complexity: "O(N) for a hash of N fields", Since: "2.0.0"},
	{Name: "HVALS", Arity: 2, Keys: oneKey, Group: GroupHash, Action: "cache:HashRead", run: hvals,
		Usage: "key", Summary: "Returns all values", Complexity: "O(N) for a hash of N fields", Since: "2.0.0"},
	{Name: "HINCRBY", Arity: 4, Keys: oneKey, Flags: Writes | Fast | Grows, Group: GroupHash, Action: "cache:HashWrite", Also: hashReadRight, run: hincrby,
		Usage: "key field increment", Summary: "Adds to the integer in a field, 0 where there is none", Complexity: "O(1)", Since: "2.0.0"},
	{Name: "HINCRBYFLOAT", Arity: 4, Keys: oneKey, Flags: Writes | Fast | Grows, Group: GroupHash, Action: "cache:HashWrite", Also: hashReadRight, run: hincrbyfloat,
		Usage: "key field increment", Summary: "Adds to the number in a field, 0 where there is none", Complexity: "O(1)", Since: "2.6.0"},
	{Name: "HSCAN", Arity: -3, Keys: oneKey, Group: GroupHash, Action: "cache:HashRead", run: hscan,
		Usage: "key cursor [MATCH pattern] [COUNT count] [NOVALUES]", Summary: "Walks over the fields of a hash in steps", Complexity: "O(1) for each step", Since: "2.8.0"},
	{Name: "HRANDFIELD", Arity: -2, Keys: oneKey, Group: GroupHash, Action: "cache:HashRead", run: hrandfield,
		Usage: "key [count [WITHVALUES]]", Summary: "Draws fields at random", Complexity: "O(N) for N fields", Since: "6.2.0"},
}

// Incrementing a field also tells what it was.
func hashReadRight(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:HashRead", On: OnKey, Name: args[1]})
}

func hashFacts(args [][]byte, _ int64) Facts {
	f := Facts{TTL: -1, MaxItems: -1}
	for i := 3; i < len(args); i += 2 {
		f.ValueSize += int64(len(args[i]))
	}
	return f
}

var (
	errHashNotInteger = fault.New(fault.InvalidArgument, "hash", "hash value is not an integer")
	errHashNotFloat   = fault.New(fault.InvalidArgument, "hash", "hash value is not a float")
)

// hashAt returns the hash under key for reading, nil when there is none.
func (c *call) hashAt(key []byte) (*hashValue, error) {
	h, _, err := lookup[*hashValue](c, key)
	if err == nil {
		c.count(h != nil)
	}
	return h, err
}

// hashFor returns the hash under key with its item, and makes one where there is none. All that can fail has
// been checked by then.
func (c *call) hashFor(h *hashValue, it *item, key []byte) (*hashValue, *item) {
	if h != nil {
		return h, it
	}
	h = &hashValue{}
	return h, c.put(key, h, c.defaultDeadline())
}

// checkField refuses fields and values over their limits.
func (c *call) checkField(field, value []byte) error {
	if len(field) > MaxKey {
		return fault.About(fault.TooLarge, c.cmd.Name, "field", "max field size exceeded. Limit: %d bytes, Actual: %d bytes", MaxKey, len(field))
	}
	return c.checkSizes(c.args[1], int64(len(value)))
}

func hset(c *call) error {
	key, pairs := c.args[1], c.args[2:]
	if len(pairs)%2 != 0 {
		return errArity(c)
	}
	h, it, err := lookup[*hashValue](c, key)
	if err != nil {
		return err
	}
	for i := 0; i < len(pairs); i += 2 {
		if err := c.checkField(pairs[i], pairs[i+1]); err != nil {
			return err
		}
	}
	h, it = c.hashFor(h, it, key)
	var added int64
	for i := 0; i < len(pairs); i += 2 {
		if h.set(c.p.journal, pairs[i], pairs[i+1]) {
			added++
		}
	}
	c.changed(it)
	if c.cmd.Name == "HMSET" {
		c.out.Status("OK")
	} else {
		c.out.Int(added)
	}
	return nil
}

func hsetnx(c *call) error {
	key, field, value := c.args[1], c.args[2], c.args[3]
	h, it, err := lookup[*hashValue](c, key)
	if err != nil {
		return err
	}
	if err := c.checkField(field, value); err != nil {
		return err
	}
	if h != nil && h.find(field) >= 0 {
		c.out.Int(0)
		return nil
	}
	h, it = c.hashFor(h, it, key)
	h.set(c.p.journal, field, value)
	c.changed(it)
	c.out.Int(1)
	return nil
}

func hget(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	c.field(h, c.args[2])
	return nil
}

// field replies the value of a field, of no hash when h is nil.
func (c *call) field(h *hashValue, field []byte) {
	if h != nil {
		if v, ok := h.get(field); ok {
			c.out.Text(v)
			return
		}
	}
	c.out.Null()
}

func hmget(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	for _, field := range c.args[2:] {
		c.field(h, field)
	}
	return nil
}

func hgetall(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	entries := h.all()
	c.out.Map(len(entries))
	for _, e := range entries {
		c.out.Text(e.field)
		c.out.Text(e.value)
	}
	return nil
}

// all returns the entries, none of no hash.
func (h *hashValue) all() []hashEntry {
	if h == nil {
		return nil
	}
	return h.entries
}

func hkeys(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(len(h.all()))
	for _, e := range h.all() {
		c.out.Text(e.field)
	}
	return nil
}

func hvals(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(len(h.all()))
	for _, e := range h.all() {
		c.out.Text(e.value)
	}
	return nil
}

func hdel(c *call) error {
	h, it, err := lookup[*hashValue](c, c.args[1])
	if err != nil {
		return err
	}
	var removed int64
	if h != nil {
		for _, field := range c.args[2:] {
			if h.remove(c.p.journal, field) {
				removed++
			}
		}
		c.changed(it)
	}
	c.out.Int(removed)
	return nil
}

func hexists(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	if h != nil && h.find(c.args[2]) >= 0 {
		c.out.Int(1)
	} else {
		c.out.Int(0)
	}
	return nil
}

func hlen(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Int(int64(len(h.all())))
	return nil
}

func hstrlen(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	n := 0
	if h != nil {
		v, _ := h.get(c.args[2])
		n = len(v)
	}
	c.out.Int(int64(n))
	return nil
}

func hincrby(c *call) error {
	key, field := c.args[1], c.args[2]
	by, ok := parseInt(c.args[3])
	if !ok {
		return errNotInteger
	}
	h, it, err := lookup[*hashValue](c, key)
	if err != nil {
		return err
	}
	var n int64
	if h != nil {
		if v, ok := h.get(field); ok {
			if n, ok = parseInt([]byte(v)); !ok {
				return errHashNotInteger
			}
		}
	}
	if n, ok = sum(n, by); !ok {
		return errIncrOverflow(c.cmd.Name)
	}
	value := strconv.AppendInt(nil, n, 10)
	if err := c.checkField(field, value); err != nil {
		return err
	}
	h, it = c.hashFor(h, it, key)
	h.set(c.p.journal, field, value)
	c.changed(it)
	c.out.Int(n)
	return nil
}

func hincrbyfloat(c *call) error {
	key, field := c.args[1], c.args[2]
	by, ok := parseFloat(c.args[3])
	if !ok {
		return errNotFloat
	}
	if math.IsInf(by, 0) {
		return fault.New(fault.InvalidArgument, c.cmd.Name, "value is NaN or Infinity")
	}
	h, it, err := lookup[*hashValue](c, key)
	if err != nil {
		return err
	}
	old := []byte("0")
	if h != nil {
		if v, ok := h.get(field); ok {
			old = []byte(v)
			if _, ok := parseFloat(old); !ok {
				return errHashNotFloat
			}
		}
	}
	value, ok := addDecimals(old, c.args[3])
	if !ok {
		return fault.New(fault.Overflow, c.cmd.Name, "increment would produce NaN or Infinity")
	}
	if err := c.checkField(field, value); err != nil {
		return err
	}
	h, it = c.hashFor(h, it, key)
	h.set(c.p.journal, field, value)
	c.changed(it)
	c.out.Bulk(value)
	return nil
}

// hscan walks from the last entry to the first; the cursor is how many are left. A removal moves entries only
// towards the first, and an unvisited one never past the cursor, and new entries stand behind it: what is there
// all the time is visited. A small hash is returned whole, in its order, unless the pattern is spent on it.
func hscan(c *call) error {
	cursor, err := parseCursor(c.args[2])
	if err != nil {
		return err
	}
	count, noValues := int64(10), false
	var pattern *glob
	for i := 3; i < len(c.args); i++ {
		more := i+1 < len(c.args)
		switch a := c.args[i]; {
		case is(a, "COUNT") && more:
			i++
			n, ok := parseInt(c.args[i])
			if !ok {
				return errNotInteger
			}
			if n < 1 {
				return errSyntax
			}
			count = n
		case is(a, "MATCH") && more:
			i++
			if pattern, err = newGlob(c.cmd.Name, c.args[i]); err != nil {
				return err
			}
		case is(a, "NOVALUES"):
			noValues = true
		default:
			return errSyntax
		}
	}
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	entries := h.all()
	at := len(entries)
	if 0 < cursor && cursor < uint64(at) {
		at = int(cursor)
	}
	end := 0
	if h != nil && h.index != nil {
		end = at - int(min(count, int64(at)))
	}
	var found []hashEntry
	for ; at > end && !pattern.exhausted(); at-- {
		if e := entries[at-1]; pattern.match(e.field) {
			found = append(found, e)
		}
	}
	slices.Reverse(found)
	c.out.Array(2)
	c.out.Text(strconv.Itoa(at))
	if noValues {
		c.out.Array(len(found))
	} else {
		c.out.Array(2 * len(found))
	}
	for _, e := range found {
		c.out.Text(e.field)
		if !noValues {
			c.out.Text(e.value)
		}
	}
	return nil
}

// maxFields bounds how many fields one HRANDFIELD may return beyond the size of the hash, and maxFieldBytes how many
// bytes: a negative count would otherwise make an answer of any size out of a few bytes.
const (
	maxFields     = 1 << 20
	maxFieldBytes = HardMaxValue
)

func hrandfield(c *call) error {
	key := c.args[1]
	if len(c.args) == 2 {
		h, err := c.hashAt(key)
		if err != nil {
			return err
		}
		if h == nil {
			c.out.Null()
			return nil
		}
		c.out.Text(h.entries[c.p.random().IntN(len(h.entries))].field)
		return nil
	}
	count, ok := parseInt(c.args[2])
	if !ok {
		return errNotInteger
	}
	withValues := len(c.args) == 4 && is(c.args[3], "WITHVALUES")
	if len(c.args) > 4 || (len(c.args) == 4 && !withValues) {
		return errSyntax
	}
	if count < -maxFields {
		return fault.About(fault.OutOfRange, c.cmd.Name, "count", "value is out of range, must be at least %d", -maxFields)
	}
	h, err := c.hashAt(key)
	if err != nil {
		return err
	}
	drawn := draw(c.p.random(), h.all(), count)
	var size int64
	for _, e := range drawn {
		size += int64(len(e.field))
		if withValues {
			size += int64(len(e.value))
		}
	}
	if size > maxFieldBytes {
		return fault.About(fault.TooLarge, c.cmd.Name, "count", "the answer would have %d bytes: the limit is %d", size, int64(maxFieldBytes))
	}
	if withValues {
		c.out.Pairs(len(drawn))
	} else {
		c.out.Array(len(drawn))
	}
	for _, e := range drawn {
		c.out.Text(e.field)
		if withValues {
			c.out.Text(e.value)
		}
	}
	return nil
}

// draw returns count different entries, or all there are; for a negative count -count, each drawn from all.
func draw[E any](dice *rand.Rand, entries []E, count int64) (drawn []E) {
	n := len(entries)
	switch {
	case n == 0:
		return nil
	case count < 0:
		for range -count {
			drawn = append(drawn, entries[dice.IntN(n)])
		}
		return drawn
	case count >= int64(n):
		return entries
	}
	// Floyd's way: the last count places in turn, or any place before them.
	taken := make(map[int]bool, count)
	for top := n - int(count); top < n; top++ {
		i := dice.IntN(top + 1)
		if taken[i] {
			i = top
		}
		taken[i] = true
		drawn = append(drawn, entries[i])
	}
	return drawn
}
