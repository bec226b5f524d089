package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/larder-cache/larder/internal/fault"
)

// A sketch is a HyperLogLog: a string that estimates how many different elements were added to it, with a
// standard error of 0.81 %. Its bytes are Redis's own, so that one that Redis wrote goes on counting here, and
// the reverse:
//
//	"HYLL"  encoding (1 byte)  unused (3)  cached cardinality (8, little-endian; its highest bit set: out of date)
//
// Behind the header stand 16384 registers. The dense encoding has 6 bits for each, the lowest bits of a byte
// first. The sparse encoding, at most sparseMost bytes with the header, is a row of runs of equal registers:
//
//	00nnnnnn           n+1 zeros
//	01nnnnnn nnnnnnnn  n+1 zeros
//	1vvvvvnn           n+1 registers of v+1
//
// A dense sketch changes in place as bitmaps do; a sparse one is copied. PFCOUNT believes a cached cardinality
// and never writes one: it is a query, which leaves the state as it is.
type sketch []byte

const (
	registerBits    = 14
	registers       = 1 << registerBits
	highestRegister = 64 - registerBits + 1 // the most that a hash puts into a register
	sketchHeader    = 16
	sketchDense     = sketchHeader + registers*6/8
	sparseMost      = 3000 // Redis's default for hll-sparse-max-bytes
	sparseHighest   = 32   // the most that a sparse register holds
	denseEncoding   = 0
	sparseEncoding  = 1
)

var hyperLogLogCommands = []Command{
	{Name: "PFADD", Arity: -2, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupHyperLogLog, Action: "cache:Set", Facts: pfaddFacts, run: pfadd,
		Usage: "key [element [element ...]]", Summary: "Adds elements to a HyperLogLog and says whether its estimate may have changed", Complexity: "O(1) for each element", Since: "2.8.9"},
	{Name: "PFCOUNT", Arity: -2, Keys: allKeys, Group: GroupHyperLogLog, Action: "cache:Get", run: pfcount,
		Usage: "key [key ...]", Summary: "Estimates how many different elements were added to any of the HyperLogLogs", Complexity: "O(N) in the number of keys, with a large constant", Since: "2.8.9"},
	{Name: "PFMERGE", Arity: -2, Keys: allKeys, Flags: Writes | Grows, Group: GroupHyperLogLog, Action: "cache:Set", Rights: pfmergeRights, run: pfmerge,
		Usage: "destkey [sourcekey [sourcekey ...]]", Summary: "Adds to a HyperLogLog what was added to others", Complexity: "O(N) in the number of keys, with a large constant", Since: "2.8.9"},
	{Name: "PFDEBUG", Arity: 3, Keys: Keys{First: 2, Last: 2, Step: 1}, Flags: Writes | Grows | Dangerous, Group: GroupHyperLogLog, Action: "cache:Set", Also: pfdebugRights, run: pfdebug,
		Usage: "<GETREG | DECODE | ENCODING | TODENSE> key", Summary: "Shows how a HyperLogLog is kept", Complexity: "O(1), with a large constant", Since: "2.8.9",
		Categorized: []string{"@write", "@hyperloglog", "@admin", "@slow", "@dangerous"}},
	{Name: "PFSELFTEST", Arity: 1, Flags: Dangerous, Group: GroupHyperLogLog, Action: "cache:Inspect", run: pfselftest,
		Summary: "Checks the arithmetic of HyperLogLogs", Complexity: "O(N)", Since: "2.8.9",
		Categorized: []string{"@hyperloglog", "@admin", "@slow", "@dangerous"}},
}

var (
	errNotSketch     = fault.New(fault.WrongType, "engine.hyperloglog", "Key is not a valid HyperLogLog string value.")
	errCorruptSketch = &fault.Error{Kind: fault.WrongType, Op: "engine.hyperloglog", Prefix: "INVALIDOBJ", Message: "Corrupted HLL object detected"}
)

// newSketch returns an empty sketch, which is one run of zeros.
func newSketch() sketch {
	h := make(sketch, sketchHeader, sketchHeader+2)
	copy(h, "HYLL")
	h[4] = sparseEncoding
	return appendZeros(h, registers)
}

func (h sketch) dense() bool { return h[4] == denseEncoding }

// cached is the cardinality in the header, if it is up to date.
func (h sketch) cached() (int64, bool) {
	n := binary.LittleEndian.Uint64(h[8:])
	return int64(n), n>>63 == 0
}

// outdate marks the cached cardinality as out of date.
func (h sketch) outdate() { h[15] |= 0x80 }

// A registerRun is a stretch of registers of one value in the sparse encoding, size bytes long.
type registerRun struct {
	length int
	value  byte
	size   int
}

// firstRun reads the run at the beginning of p, which is not empty. Its size is 0 when it is cut off.
func firstRun(p []byte) registerRun {
	switch b := p[0]; {
	case b>>7 == 1:
		return registerRun{length: int(b&3) + 1, value: b>>2&31 + 1, size: 1}
	case b>>6 == 0:
		return registerRun{length: int(b) + 1, size: 1}
	case len(p) > 1:
		return registerRun{length: int(b&63)<<8 + int(p[1]) + 1, size: 2}
	}
	return registerRun{}
}

// appendZeros appends the shortest run of n zeros, nothing for none.
func appendZeros(dst []byte, n int) []byte {
	switch {
	case n <= 0:
		return dst
	case n <= 64:
		return append(dst, byte(n-1))
	}
	return append(dst, 0x40|byte((n-1)>>8), byte(n-1))
}

// appendRun appends a run of n registers of value, nothing for none. n is at most 4 unless value is 0.
func appendRun(dst []byte, value byte, n int) []byte {
	if value == 0 || n <= 0 {
		return appendZeros(dst, n)
	}
	return append(dst, 0x80|(value-1)<<2|byte(n-1))
}

// check says whether a sketch is whole: every command asks before it trusts runs.
func (h sketch) check() error {
	if h.dense() {
		return nil
	}
	covered := 0
	for p := h[sketchHeader:]; len(p) > 0; {
		r := firstRun(p)
		covered += r.length
		if r.size == 0 || covered > registers {
			return errCorruptSketch
		}
		p = p[r.size:]
	}
	if covered != registers {
		return errCorruptSketch
	}
	return nil
}

// register returns the value of a dense sketch's register.
func (h sketch) register(i int) byte {
	at, shift := sketchHeader+i*6/8, i*6&7
	v := h[at] >> shift
	if shift > 2 {
		v |= h[at+1] << (8 - shift)
	}
	return v & 63
}

// bytesOf are the bytes of a dense sketch that hold a register.
func (h sketch) bytesOf(i int) []byte {
	return h[sketchHeader+i*6/8 : sketchHeader+(i*6+5)/8+1]
}

// setRegister changes a dense sketch's register.
func (h sketch) setRegister(i int, v byte) {
	part, shift := h.bytesOf(i), i*6&7
	part[0] = part[0]&^(63<<shift) | v<<shift
	if len(part) > 1 {
		part[1] = part[1]&^(63>>(8-shift)) | v>>(8-shift)
	}
}

// each visits the registers that are not 0 of a sketch that is whole, in order.
func (h sketch) each(visit func(i int, v byte)) {
	if h.dense() {
		for i := range registers {
			if v := h.register(i); v > 0 {
				visit(i, v)
			}
		}
		return
	}
	i := 0
	for p := h[sketchHeader:]; len(p) > 0; {
		r := firstRun(p)
		for k := range r.length {
			if r.value == 0 {
				break
			}
			visit(i+k, r.value)
		}
		i, p = i+r.length, p[r.size:]
	}
}

// toDense returns a dense sketch with the registers and the cached cardinality of h.
func (h sketch) toDense() sketch {
	twin := make(sketch, sketchDense)
	copy(twin, h[:sketchHeader])
	twin[4] = denseEncoding
	h.each(twin.setRegister)
	return twin
}

// raise gives register i of a sparse sketch that is whole the value v where it has less, and says whether it
// did. It may write to h; the result, which becomes dense when it has to, stands in for it.
func (h sketch) raise(i int, v byte) (sketch, bool) {
	first, at, before := 0, sketchHeader, sketchHeader // where the run of i and the run before it stand
	r := firstRun(h[at:])
	for i >= first+r.length {
		first, before, at = first+r.length, at, at+r.size
		r = firstRun(h[at:])
	}
	if r.value >= v {
		return h, false
	}
	var split [5]byte
	runs := appendRun(split[:0], r.value, i-first)
	if v <= sparseHighest {
		runs = appendRun(runs, v, 1)
	}
	runs = appendRun(runs, r.value, first+r.length-1-i)
	if grows := len(runs) - r.size; v > sparseHighest || grows > 0 && len(h)+grows > sparseMost {
		dense := h.toDense()
		dense.setRegister(i, v)
		dense.outdate()
		return dense, true
	}
	h = slices.Replace(h, at, at+r.size, runs...).join(before)
	h.outdate()
	return h, true
}

// join makes one of neighbouring runs with the same value, among the five runs from at on, as far as one can be
// so long. It is Redis's own measure: another would give other bytes for the same elements.
func (h sketch) join(at int) sketch {
	for range 5 {
		if at >= len(h) {
			break
		}
		r := firstRun(h[at:])
		if r.value > 0 && at+1 < len(h) {
			if next := firstRun(h[at+1:]); next.value == r.value && r.length+next.length <= 4 {
				appendRun(h[:at+1], r.value, r.length+next.length)
				h = slices.Delete(h, at, at+1)
				continue
			}
		}
		at += r.size
	}
	return h
}

// hashed says which register an element goes to, and what it puts there at least.
func hashed(element []byte) (register int, v byte) {
	h := murmur64(element, 0xadc83b19)
	return int(h & (registers - 1)), byte(bits.TrailingZeros64(h>>registerBits|1<<(highestRegister-1)) + 1)
}

// murmur64 is MurmurHash2 for 64-bit machines (64A).
func murmur64(p []byte, seed uint64) uint64 {
	const m = 0xc6a4a7935bd1e995
	h := seed ^ uint64(len(p))*m
	for ; len(p) >= 8; p = p[8:] {
		k := binary.LittleEndian.Uint64(p) * m
		h = (h ^ (k^k>>47)*m) * m
	}
	if len(p) > 0 {
		var last [8]byte
		copy(last[:], p)
		h = (h ^ binary.LittleEndian.Uint64(last[:])) * m
	}
	h = (h ^ h>>47) * m
	return h ^ h>>47
}

// A histogram counts registers by value.
type histogram [64]int

// histogram counts the registers of a sketch that is whole.
func (h sketch) histogram() (counts histogram) {
	counts[0] = registers
	h.each(func(_ int, v byte) {
		counts[0]--
		counts[v]++
	})
	return counts
}

// estimate is Ertl's improved estimator (arXiv:1702.01284, algorithm 6), which needs no tables. ok is false for
// registers that no elements leave behind.
func (counts *histogram) estimate() (n int64, ok bool) {
	const m = float64(registers)
	z := m * tau((m-float64(counts[highestRegister]))/m)
	for k := highestRegister - 1; k > 0; k-- {
		z = (z + float64(counts[k])) * 0.5
	}
	z += m * sigma(float64(counts[0])/m)
	e := math.Round(0.5 / math.Ln2 * m * m / z)
	if !(e < math.MaxInt64) {
		return 0, false
	}
	return int64(e), true
}

func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	z := x
	for y := 1.0; ; y += y {
		x *= x
		before := z
		if z += x * y; z == before {
			return z
		}
	}
}

func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	z := 1 - x
	for y := 0.5; ; y /= 2 {
		x = math.Sqrt(x)
		before := z
		if z -= (1 - x) * (1 - x) * y; z == before {
			return z / 3
		}
	}
}

// sketch returns the sketch under key as a string with its item, nil when there is nothing.
func (c *call) sketch(key []byte) (*stringValue, *item, error) {
	s, it, err := lookup[*stringValue](c, key)
	if err != nil || s == nil {
		return nil, nil, err
	}
	if h := s.data; len(h) < sketchHeader || string(h[:4]) != "HYLL" || h[4] > sparseEncoding || h[4] == denseEncoding && len(h) != sketchDense {
		return nil, nil, errNotSketch
	}
	return s, it, nil
}

// pfaddFacts tells the size of the elements together, as ZADD's do.
func pfaddFacts(args [][]byte, _ int64) Facts {
	f := Facts{TTL: -1, MaxItems: -1}
	for _, e := range args[2:] {
		f.ValueSize += int64(len(e))
	}
	return f
}

func pfadd(c *call) error {
	key := c.args[1]
	s, it, err := c.sketch(key)
	if err != nil {
		return err
	}
	// h is what s holds, or an array of this call's own.
	var h sketch
	changed, own := s == nil, s == nil
	switch {
	case s == nil:
		h = newSketch()
		h.outdate()
	case sketch(s.data).dense():
		h = s.data
	default:
		h, own = exactly(s.data), true
		if err := h.check(); err != nil && len(c.args) > 2 { // adding nothing works on anything
			return err
		}
	}
	for _, e := range c.args[2:] {
		i, v := hashed(e)
		if !h.dense() {
			var raised bool
			h, raised = h.raise(i, v)
			changed = changed || raised
			continue
		}
		if h.register(i) >= v {
			continue
		}
		if !changed {
			if !own {
				h = c.extended(key, s, it, len(h)).str.data
			}
			h.outdate()
			changed = true
		}
		h.setRegister(i, v)
	}
	if !changed {
		c.out.Int(0)
		return nil
	}
	if own {
		if err := c.storeSketch(key, s, it, h); err != nil {
			return err
		}
	}
	c.out.Int(1)
	return nil
}

// storeSketch makes h, which is not empty and no other value's, the new version of s. A sketch that grows is
// one that has not changed in place, so that nothing has happened when it is too large.
func (c *call) storeSketch(key []byte, s *stringValue, it *item, h sketch) error {
	if len(h) > len(stringBytes(s)) {
		if err := c.checkSizes(key, int64(len(h))); err != nil {
			return err
		}
	}
	c.modify(key, s, it, h)
	return nil
}

func pfcount(c *call) error {
	if len(c.args) == 2 {
		s, _, err := c.sketch(c.args[1])
		if err != nil {
			return err
		}
		if c.count(s != nil); s == nil {
			c.out.Int(0)
			return nil
		}
		h := sketch(s.data)
		n, ok := h.cached()
		if !ok {
			if err := h.check(); err != nil {
				return err
			}
			counts := h.histogram()
			if n, ok = counts.estimate(); !ok {
				return errCorruptSketch
			}
		}
		c.out.Int(n)
		return nil
	}
	most, _, err := c.mergeSketches(c.args[1:])
	if err != nil {
		return err
	}
	var counts histogram
	for _, v := range most {
		counts[v]++
	}
	n, ok := counts.estimate()
	if !ok {
		return errCorruptSketch
	}
	c.out.Int(n)
	return nil
}

// mergeSketches returns the most that any of the sketches has in each register, and whether one of them is dense.
func (c *call) mergeSketches(keys [][]byte) (most *[registers]byte, dense bool, err error) {
	most = new([registers]byte)
	for _, key := range keys {
		s, _, err := c.sketch(key)
		if err != nil {
			return nil, false, err
		}
		if c.count(s != nil); s == nil {
			continue
		}
		h := sketch(s.data)
		if err := h.check(); err != nil {
			return nil, false, err
		}
		c.steps(registers / restBytes)
		h.each(func(i int, v byte) { most[i] = max(most[i], v) })
		dense = dense || h.dense()
	}
	return most, dense, nil
}

func pfmergeRights(dst []Right, args [][]byte) []Right {
	dst = append(dst, Right{Action: "cache:Set", On: OnKey, Name: args[1]})
	for _, key := range args[2:] {
		dst = append(dst, Right{Action: "cache:Get", On: OnKey, Name: key})
	}
	return dst
}

func pfmerge(c *call) error {
	most, dense, err := c.mergeSketches(c.args[1:])
	if err != nil {
		return err
	}
	s, it, err := c.sketch(c.args[1])
	if err != nil {
		return err
	}
	h := newSketch()
	if s != nil {
		h = exactly(s.data)
	}
	if dense && !h.dense() {
		h = h.toDense()
	}
	for i, v := range most {
		switch {
		case v == 0:
		case !h.dense():
			h, _ = h.raise(i, v)
		case h.register(i) < v:
			h.setRegister(i, v)
		}
	}
	h.outdate()
	if err := c.storeSketch(c.args[1], s, it, h); err != nil {
		return err
	}
	c.out.Status("OK")
	return nil
}

// PFDEBUG also tells what a sketch holds.
func pfdebugRights(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:Get", On: OnKey, Name: args[2]})
}

func pfdebug(c *call) error {
	sub, key := c.args[1], c.args[2]
	s, it, err := c.sketch(key)
	if err != nil {
		return err
	}
	if s == nil {
		return fault.New(fault.NotFound, c.cmd.Name, "The specified key does not exist")
	}
	h := sketch(s.data)
	if err := h.check(); err != nil {
		return err
	}
	sparse := !h.dense()
	switch {
	case is(sub, "ENCODING") && sparse:
		c.out.Status("sparse")
	case is(sub, "ENCODING"):
		c.out.Status("dense")
	case is(sub, "DECODE") && !sparse:
		return fault.New(fault.InvalidArgument, c.cmd.Name, "HLL encoding is not sparse")
	case is(sub, "DECODE"):
		c.out.Bulk(h.runs())
	case is(sub, "GETREG"), is(sub, "TODENSE"):
		if sparse { // as Redis, in which both change it
			if err := c.storeSketch(key, s, it, h.toDense()); err != nil {
				return err
			}
		}
		if is(sub, "TODENSE") {
			c.flag(sparse)
			return nil
		}
		s, _, _ = c.sketch(key)
		c.out.Array(registers)
		for i := range registers {
			c.out.Int(int64(sketch(s.data).register(i)))
		}
	default:
		return fault.New(fault.InvalidArgument, c.cmd.Name, "Unknown PFDEBUG subcommand '%.128s'", sub)
	}
	return nil
}

// runs writes the runs of a sparse sketch in Redis's words: z and Z for zeros, in a byte and in two, and v for others.
func (h sketch) runs() (text []byte) {
	for p := h[sketchHeader:]; len(p) > 0; {
		r := firstRun(p)
		switch {
		case r.value > 0:
			text = fmt.Appendf(text, " v:%d,%d", r.value, r.length)
		case r.size == 1:
			text = fmt.Appendf(text, " z:%d", r.length)
		default:
			text = fmt.Appendf(text, " Z:%d", r.length)
		}
		p = p[r.size:]
	}
	return bytes.TrimPrefix(text, []byte(" "))
}

// pfselftest adds elements to a sparse sketch and to a dense one. The two have to agree in every register, and the estimate
// has to be within six standard errors.
func pfselftest(c *call) error {
	const elements = 1000
	sparse, dense := newSketch(), newSketch().toDense()
	for i := range elements {
		at, v := hashed(binary.LittleEndian.AppendUint64(nil, uint64(i)))
		sparse, _ = sparse.raise(at, v)
		if dense.register(at) < v {
			dense.setRegister(at, v)
		}
	}
	counts := sparse.histogram()
	n, ok := counts.estimate()
	sparse.each(func(i int, v byte) { ok = ok && dense.register(i) == v })
	if !ok || math.Abs(float64(n-elements)) > 6*0.0081*elements {
		return fault.New(fault.Internal, c.cmd.Name, "%d elements are estimated as %d", elements, n)
	}
	c.out.Status("OK")
	return nil
}
