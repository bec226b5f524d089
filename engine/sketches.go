package engine

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
)

// A sketchValue answers questions about items that it does not keep: whether it has seen one (Bloom and cuckoo filters), how
// often (count-min), which are the most frequent (top-k), how their values are spread (t-digest). Its commands, types, errors
// and answers are RedisBloom's. (A HyperLogLog is a string, as in Redis; see sketch.)
//
// A sketch of any size is one record, as long as its shape says, and is edited where it lies: a command writes the few bytes
// that it changes and copies none but those it has to take back; see sketchEdit. So a filter of 100 MB costs the garbage
// collector nothing, and is made without a look at its bytes. What stands in the record says the file of each family; its
// first byte is the family. Integers are little-endian.
//
// Sketches are the same on every replica, whatever machine it runs on: see ln about logarithms.
type sketchValue struct {
	b    []byte
	room int // bytes that the record can take without moving: a part of the account, and so of the state
}

// A sketchFamily is a type of sketches.
type sketchFamily byte

const (
	bloomFamily sketchFamily = 1 + iota
	cuckooFamily
	countMinFamily
	topKFamily
	tDigestFamily
)

// sketchTypes are the families' names as TYPE gives them: those of RedisBloom's data types.
var sketchTypes = []string{bloomFamily: "MBbloom--", cuckooFamily: "MBbloomCF", countMinFamily: "CMSk-TYPE", topKFamily: "TopK-TYPE", tDigestFamily: "TDIS-TYPE"}

func (v *sketchValue) kind() string     { return sketchTypes[v.b[0]] }
func (v *sketchValue) encoding() string { return "raw" }
func (v *sketchValue) empty() bool      { return false }

func (v *sketchValue) encode(dst []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(v.room)), v.b...)
}

func (v *sketchValue) pack(dst []byte) ([]byte, dense.Kind) {
	return append(dst, v.b...), kindSketch
}

func (v *sketchValue) check() error {
	switch sketchFamily(v.b[0]) {
	case bloomFamily:
		return bloom(v.b).check()
	case cuckooFamily:
		return cuckoo(v.b).check()
	case countMinFamily:
		return countMin(v.b).check()
	case topKFamily:
		return topK(v.b).check()
	case tDigestFamily:
		return tDigest(v.b).check()
	}
	return fmt.Errorf("a sketch of family %d", v.b[0])
}

// bare is an error whose text RedisBloom sends without a prefix.
func bare(kind fault.Kind, format string, args ...any) *fault.Error {
	return &fault.Error{Kind: kind, Op: "engine.sketch", Message: fmt.Sprintf(format, args...), Prefix: fault.Bare}
}

// errNoRoom refuses a filter that is too large; see checkSketch.
var errNoRoom = fault.New(fault.TooLarge, "engine.sketch", "Insufficient memory to create filter")

var errSketchExists = fault.New(fault.Conflict, "engine.sketch", "item exists")

// sketchOf returns the bytes of the sketch under key with its item, nil when there is nothing.
func (c *call) sketchOf(key []byte, family sketchFamily) (b []byte, it *item, err error) {
	v, it, err := lookup[*sketchValue](c, key)
	if err != nil || v == nil {
		return nil, nil, err
	}
	if v.b[0] != byte(family) {
		return nil, nil, errWrongType
	}
	return v.b, it, nil
}

// readSketch is sketchOf for a command that reads: it counts the hit or miss.
func (c *call) readSketch(key []byte, family sketchFamily) ([]byte, error) {
	b, _, err := c.sketchOf(key, family)
	if err == nil {
		c.count(b != nil)
	}
	return b, err
}

// sketchLimit is how many bytes one sketch may have, and what says so.
func (c *cache) sketchLimit() (bytes int64, name string) {
	if bytes, name = c.maxValue(), "max value size"; c.settings.MemoryLimit > 0 && c.settings.MemoryLimit < bytes {
		return c.settings.MemoryLimit, "memory limit"
	}
	return bytes, name
}

// checkSketch refuses a sketch of so many bytes that is too large for the cache; refusal is RedisBloom's error for that, and
// argument the one that asks for so much.
func (c *call) checkSketch(key []byte, bytes int64, refusal *fault.Error, argument string) error {
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	limit, name := c.cache.sketchLimit()
	if bytes <= limit {
		return nil
	}
	e := *refusal
	e.Argument = argument
	e.Message = fmt.Sprintf("%s: with this %s it takes %s. Limit: %d bytes (%s)", e.Message, argument, countBytes(bytes), limit, name)
	return &e
}

func countBytes(n int64) string {
	if n == math.MaxInt64 {
		return "more bytes than can be counted"
	}
	return fmt.Sprintf("%d bytes", n)
}

// fits is what need is told of a new sketch: its size, and nothing for one that its command is going to refuse.
func (c *cache) fits(bytes int64) int64 {
	if limit, _ := c.sketchLimit(); bytes > limit {
		return 0
	}
	return bytes
}

// atMost multiplies sizes that are not negative; what does not fit into 63 bits is as much as fits.
func atMost(a, b int64) int64 {
	if a != 0 && b > math.MaxInt64/a {
		return math.MaxInt64
	}
	return a * b
}

// itemFacts tells the size of the items together, which are the first argument named and each step-th behind it.
func itemFacts(first, step int) facts {
	return func(args [][]byte, _ int64) Facts {
		f := Facts{TTL: -1, MaxItems: -1}
		for i := first; i < len(args); i += step {
			f.ValueSize += int64(len(args[i]))
		}
		return f
	}
}

// sizeFacts tells the size of a sketch that is to be made.
func sizeFacts(size func(args [][]byte) (int64, error)) facts {
	return func(args [][]byte, _ int64) Facts {
		f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
		if n, err := size(args); err == nil {
			f.ValueSize = n
		}
		return f
	}
}

// roomFor makes a row's room of such a size.
func roomFor(size func(args [][]byte) (int64, error)) func(*cache, [][]byte) int64 {
	return func(c *cache, args [][]byte) int64 {
		n, err := size(args)
		if err != nil {
			return 0
		}
		return c.fits(n)
	}
}

// A sketchEdit changes a sketch where it lies. Who writes to b calls keep before, with what is about to be overwritten: in an
// atomic task it may have to come back. The bytes of a small sketch are kept as a whole, once; of a large one only those.
type sketchEdit struct {
	c    *call
	it   *item
	b    []byte
	undo *sketchUndo // nil where nothing has to be kept
}

// A sketchUndo is what a large sketch had where it was overwritten, in the order of the writes.
type sketchUndo struct {
	at    place
	wrote []overwritten
}

type overwritten struct {
	at    int
	bytes []byte
}

// smallSketch is up to how many bytes a sketch is kept as a whole.
const smallSketch = 1 << 10

// editSketch begins to change the sketch in it.
func (c *call) editSketch(it *item) sketchEdit {
	it.home.table.Touch(it.hash, it.key, it.ref)
	e := sketchEdit{c: c, it: it, b: it.sketch.b}
	j := c.p.journal
	if j == nil {
		return e
	}
	at := place{it.home, string(it.key)}
	switch {
	case j.known[at]: // an undo brings back what was there before
	case len(e.b) <= smallSketch:
		j.remember(at, it)
	default:
		e.undo = &sketchUndo{at: at}
		j.add(e.undo.revert)
	}
	return e
}

// keep notes n bytes that are about to be overwritten.
func (e *sketchEdit) keep(at, n int) {
	if e.undo != nil {
		e.undo.wrote = append(e.undo.wrote, overwritten{at, append([]byte(nil), e.b[at:at+n]...)})
	}
}

func (u *sketchUndo) revert() {
	b := u.at.find().sketch.b
	for i := len(u.wrote) - 1; i >= 0; i-- {
		copy(b[u.wrote[i].at:], u.wrote[i].bytes)
	}
}

func (e *sketchEdit) put8(at int, v byte) {
	e.keep(at, 1)
	e.b[at] = v
}

func (e *sketchEdit) put32(at int, v uint32) {
	e.keep(at, 4)
	binary.LittleEndian.PutUint32(e.b[at:], v)
}

func (e *sketchEdit) put64(at int, v uint64) {
	e.keep(at, 8)
	binary.LittleEndian.PutUint64(e.b[at:], v)
}

// grow makes the sketch n bytes long, zeros behind what it has. O(n) to copy it, and in an atomic task to keep it.
func (e *sketchEdit) grow(n int) {
	k, have, ref := e.it.home, len(e.b), e.it.ref
	if j := e.c.p.journal; j != nil {
		j.remember(place{k, string(e.it.key)}, e.it)
		e.undo = nil
	}
	k.hold(e.it, e.it.key, kindSketch, n, 0, e.it.expireAt)
	k.loaded(e.it)
	e.b = e.it.sketch.b
	if e.it.ref == ref || !dense.IsApart(len(e.it.key), n) { // pages are zeros when they are new
		clear(e.b[have:])
	}
}

// newSketch puts a sketch of n zeros but for its family under key, in the place of whatever was there.
func (c *call) newSketch(key []byte, family sketchFamily, n int, expireAt int64) sketchEdit {
	k := c.keys()
	before := c.replacing(k, key)
	it, b := k.hold(before, key, kindSketch, n, 0, expireAt)
	if before != nil || !dense.IsApart(len(key), n) { // pages are zeros when they are new
		clear(b)
	}
	b[0] = byte(family)
	k.loaded(it)
	return sketchEdit{c: c, it: it, b: it.sketch.b}
}

// murmur32 is MurmurHash2.
func murmur32(p []byte, seed uint32) uint32 {
	const m = 0x5bd1e995
	h := seed ^ uint32(len(p))
	for ; len(p) >= 4; p = p[4:] {
		k := binary.LittleEndian.Uint32(p) * m
		h = h*m ^ (k^k>>24)*m
	}
	if len(p) > 0 {
		var last [4]byte
		copy(last[:], p)
		h = (h ^ binary.LittleEndian.Uint32(last[:])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}

// A rowKey is what stands for an item where it is hashed for each row of a table: the item as RedisBloom hashes it, or a hash of
// a long one, so that the rows do not multiply its length.
type rowKey []byte

// longItem is from how many bytes an item is long.
const longItem = 256

func rowKeyOf(item []byte) rowKey {
	if len(item) < longItem {
		return item
	}
	return binary.LittleEndian.AppendUint64(nil, murmur64(item, 0))
}

func (k rowKey) hash(seed int) uint32 { return murmur32(k, uint32(seed)) }

// ln is the natural logarithm of a positive finite number, to about one unit in the last place. Unlike math.Log it is the same
// on every machine: no processor's instructions for it, and no product that is added without being rounded first.
func ln(x float64) float64 {
	f, e := math.Frexp(x)
	if f < math.Sqrt2/2 {
		f, e = f*2, e-1
	}
	s := (f - 1) / (f + 1) // the series of the area hyperbolic tangent: s is at most 0.172
	square, sum := s*s, 0.0
	for i := 23; i > 0; i -= 2 {
		sum = float64(sum*square) + 1/float64(i)
	}
	return float64(2*float64(s*sum)) + float64(float64(e)*math.Ln2)
}

// powInt is base to the power n, the same on every machine.
func powInt(base float64, n uint32) float64 {
	p := 1.0
	for ; n > 0 && p > 0; n >>= 1 {
		if n&1 != 0 {
			p *= base
		}
		base *= base
	}
	return float64(p)
}
