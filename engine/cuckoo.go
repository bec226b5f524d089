package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strings"

	"github.com/larder-cache/larder/internal/fault"
)

// A cuckoo is a cuckoo filter: it knows for each item a fingerprint of 8 bits, which stands in one of two buckets and can be
// taken out again. When neither has room, fingerprints there make way for others, up to a number of times; then the filter
// gets another, expansion times as large as the one before.
//
//	family (1 byte)  bucket size (1)  iterations (2)  expansion (2)  filters (2)  buckets of the first (8)  items (8)  deleted (8)
//	fingerprints of all filters, bucket by bucket; 0 is an empty slot
//
// Fingerprints and their places are RedisBloom's own, so that CF.LOADCHUNK here takes what its CF.SCANDUMP gave, and the
// reverse. Where items are deleted from a filter with several, it is not made smaller: their slots are used again.
//
//	C1: the record is as long as its filters together; buckets and expansion are powers of two, or expansion is 0 and filters 1
type cuckoo []byte

const (
	cuckooHead     = 32
	cuckooDumpHead = 38

	minCuckooCapacity   = 4
	maxCuckooCapacity   = 1 << 30
	maxCuckooBucket     = 255
	maxCuckooExpansion  = 32768
	maxCuckooIterations = 65535
	mostDisplaced       = 1024 // fingerprints that make way for one, whatever the iterations: an item that finds no room reads so many buckets twice
	maxCuckooFilters    = 32
	maxCuckooChunk      = 4 << 20
)

var cuckooCommands = []Command{
	{Name: "CF.RESERVE", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupCuckoo, Action: "cache:Set", Facts: sizeFacts(cuckooReserveSize), room: roomFor(cuckooReserveSize), run: cfReserve,
		Usage: "key capacity [BUCKETSIZE bucketsize] [MAXITERATIONS maxiterations] [EXPANSION expansion]", Summary: "Makes an empty cuckoo filter", Complexity: "O(1)", Since: "Bloom 1.0.0"},
	{Name: "CF.ADD", Arity: 3, Keys: oneKey, Flags: Writes | Grows, Group: GroupCuckoo, Action: "cache:Set", Facts: itemFacts(2, 1), run: func(c *call) error { return cfAdd(c, false) },
		Usage: "key item", Summary: "Adds an item to a cuckoo filter, which is made when there is none", Complexity: "O(K+I) in the numbers of filters and of iterations", Since: "Bloom 1.0.0"},
	{Name: "CF.ADDNX", Arity: 3, Keys: oneKey, Flags: Writes | Grows, Group: GroupCuckoo, Action: "cache:Set", Facts: itemFacts(2, 1), run: func(c *call) error { return cfAdd(c, true) },
		Usage: "key item", Summary: "Adds an item to a cuckoo filter, unless it may be there", Complexity: "O(K+I) in the numbers of filters and of iterations", Since: "Bloom 1.0.0"},
	{Name: "CF.INSERT", Arity: -4, Keys: oneKey, Flags: Writes | Grows, Group: GroupCuckoo, Action: "cache:Set", Facts: itemFacts(3, 1), room: roomFor(cuckooInsertSize), run: func(c *call) error { return cfInsert(c, false) },
		Usage: "key [CAPACITY capacity] [NOCREATE] ITEMS item [item ...]", Summary: "Adds items to a cuckoo filter, which is made as the options say when there is none", Complexity: "O(N*(K+I)) in the numbers of items, filters and iterations", Since: "Bloom 1.0.0"},
	{Name: "CF.INSERTNX", Arity: -4, Keys: oneKey, Flags: Writes | Grows, Group: GroupCuckoo, Action: "cache:Set", Facts: itemFacts(3, 1), room: roomFor(cuckooInsertSize), run: func(c *call) error { return cfInsert(c, true) },
		Usage: "key [CAPACITY capacity] [NOCREATE] ITEMS item [item ...]", Summary: "Adds those items to a cuckoo filter that cannot be there", Complexity: "O(N*(K+I)) in the numbers of items, filters and iterations", Since: "Bloom 1.0.0"},
	{Name: "CF.EXISTS", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupCuckoo, Action: "cache:Get", run: cfExists,
		Usage: "key item", Summary: "Says whether an item may be in a cuckoo filter", Complexity: "O(K) in the number of filters", Since: "Bloom 1.0.0"},
	{Name: "CF.MEXISTS", Arity: -3, Keys: oneKey, Group: GroupCuckoo, Action: "cache:Get", run: cfMexists,
		Usage: "key item [item ...]", Summary: "Says which items may be in a cuckoo filter", Complexity: "O(K*N) in the numbers of filters and of items", Since: "Bloom 1.0.0"},
	{Name: "CF.COUNT", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupCuckoo, Action: "cache:Get", run: cfCount,
		Usage: "key item", Summary: "Estimates how often an item was added to a cuckoo filter", Complexity: "O(K) in the number of filters", Since: "Bloom 1.0.0"},
	{Name: "CF.DEL", Arity: 3, Keys: oneKey, Flags: Writes | Fast, Group: GroupCuckoo, Action: "cache:Set", run: cfDel,
		Usage: "key item", Summary: "Takes an item out of a cuckoo filter, once", Complexity: "O(K) in the number of filters", Since: "Bloom 1.0.0"},
	{Name: "CF.INFO", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupCuckoo, Action: "cache:Get", run: cfInfo,
		Usage: "key", Summary: "Describes a cuckoo filter", Complexity: "O(1)", Since: "Bloom 1.0.0"},
	{Name: "CF.DEBUG", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupCuckoo, Action: "cache:Get", run: cfDebug,
		Usage: "key", Summary: "Describes a cuckoo filter in one line", Complexity: "O(1)", Since: "Bloom 1.0.0"},
	{Name: "CF.SCANDUMP", Arity: 3, Keys: oneKey, Group: GroupCuckoo, Action: "cache:Get", run: cfScandump,
		Usage: "key iterator", Summary: "Returns a part of a cuckoo filter with the iterator of the next, for CF.LOADCHUNK", Complexity: "O(N) in the length of the part", Since: "Bloom 1.0.0"},
	{Name: "CF.LOADCHUNK", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupCuckoo, Action: "cache:Set", Facts: valueAt(3), room: roomFor(cuckooLoadSize), run: cfLoadchunk,
		Usage: "key iterator chunk", Summary: "Restores a part of a cuckoo filter that CF.SCANDUMP returned", Complexity: "O(N) in the length of the part", Since: "Bloom 1.0.0"},
}

// A cuckooShape is what a filter is asked to be, and what one is beside its items.
type cuckooShape struct {
	bucket     int64 // slots
	iterations int64
	expansion  int64
	filters    int64
	buckets    int64 // of the first filter
	create     bool
	items      [][]byte
}

// shapeCuckoo is the shape of an empty filter for so many items.
func shapeCuckoo(capacity, bucket, iterations, expansion int64) cuckooShape {
	return cuckooShape{bucket: bucket, iterations: iterations, expansion: powerOfTwo(expansion), filters: 1, buckets: max(powerOfTwo(capacity/bucket), 1), create: true}
}

// powerOfTwo is the least power of two that is not below n, and 0 for 0.
func powerOfTwo(n int64) int64 {
	if n == 0 {
		return 0
	}
	return 1 << bits.Len64(uint64(n-1))
}

const (
	defaultCuckooCapacity   = 1024
	defaultCuckooBucket     = 2
	defaultCuckooIterations = 20
	defaultCuckooExpansion  = 1
)

func defaultCuckoo(capacity int64) cuckooShape {
	return shapeCuckoo(capacity, defaultCuckooBucket, defaultCuckooIterations, defaultCuckooExpansion)
}

// slots is how many slots filter i has.
func (s *cuckooShape) slots(i int64) int64 {
	n := atMost(s.buckets, s.bucket)
	for ; i > 0 && n < math.MaxInt64; i-- {
		n = atMost(n, s.expansion)
	}
	return n
}

// size is the record's length.
func (s *cuckooShape) size() int64 {
	n := int64(cuckooHead)
	for i := range s.filters {
		if n += s.slots(i); n < 0 {
			return math.MaxInt64
		}
	}
	return n
}

func parseCuckooReserve(args [][]byte) (s cuckooShape, err error) {
	capacity, ok := parseInt(args[2])
	if !ok {
		return s, bare(fault.InvalidArgument, "Bad capacity")
	}
	bucket, iterations, expansion := int64(defaultCuckooBucket), int64(defaultCuckooIterations), int64(defaultCuckooExpansion)
	for rest := args[3:]; len(rest) > 0; rest = rest[2:] {
		var option *int64
		low, high := int64(1), int64(0)
		switch {
		case len(rest) == 1:
			return s, errUnknownArg
		case is(rest[0], "BUCKETSIZE"):
			option, high = &bucket, maxCuckooBucket
		case is(rest[0], "MAXITERATIONS"):
			option, high = &iterations, maxCuckooIterations
		case is(rest[0], "EXPANSION"):
			option, low, high = &expansion, 0, maxCuckooExpansion
		default:
			return s, errUnknownArg
		}
		word := strings.ToUpper(string(rest[0]))
		if *option, ok = parseInt(rest[1]); !ok {
			return s, bare(fault.InvalidArgument, "Couldn't parse %s", word)
		}
		if *option < low || *option > high {
			return s, bare(fault.OutOfRange, "%s: value must be in the range [%d, %d]", word, low, high)
		}
	}
	if capacity < 2*bucket || capacity > maxCuckooCapacity {
		return s, bare(fault.OutOfRange, "Capacity must be in the range [2 * BUCKETSIZE, %d]", maxCuckooCapacity)
	}
	return shapeCuckoo(capacity, bucket, iterations, expansion), nil
}

// parseCuckooInsert reads CF.INSERT's arguments. They are too few where it answers errSyntax.
func parseCuckooInsert(args [][]byte) (s cuckooShape, err error) {
	s = defaultCuckoo(defaultCuckooCapacity)
	create := true
	for rest := args[2:]; len(rest) > 0; rest = rest[1:] {
		switch {
		case is(rest[0], "ITEMS"):
			if s.items, s.create = rest[1:], create; len(s.items) == 0 {
				return s, errSyntax
			}
			return s, nil
		case is(rest[0], "NOCREATE"):
			create = false
		case !is(rest[0], "CAPACITY"):
			return s, errUnknownArg
		case len(rest) == 1:
			return s, errSyntax
		default:
			capacity, ok := parseInt(rest[1])
			if !ok {
				return s, bare(fault.InvalidArgument, "Bad capacity")
			}
			if capacity < minCuckooCapacity || capacity > maxCuckooCapacity {
				return s, bare(fault.OutOfRange, "Capacity must be in the range [cf-bucket-size * 2, %d]", maxCuckooCapacity)
			}
			s, rest = defaultCuckoo(capacity), rest[1:]
		}
	}
	return s, errSyntax
}

func cuckooReserveSize(args [][]byte) (int64, error) {
	s, err := parseCuckooReserve(args)
	if err != nil {
		return 0, err
	}
	return s.size(), nil
}

func cuckooInsertSize(args [][]byte) (int64, error) {
	s, err := parseCuckooInsert(args)
	if err != nil {
		return 0, err
	}
	return s.size(), nil
}

func (f cuckoo) shape() cuckooShape {
	le := binary.LittleEndian
	return cuckooShape{bucket: int64(f[1]), iterations: int64(le.Uint16(f[2:])), expansion: int64(le.Uint16(f[4:])), filters: int64(le.Uint16(f[6:])), buckets: int64(le.Uint64(f[8:]))}
}

// told is the size that CF.INFO tells: RedisBloom's figure for such a filter, which is a little more than the record's length.
func (f cuckoo) told() int64 {
	return int64(len(f)-cuckooHead) + 40 + 16*f.shape().filters
}

func (f cuckoo) items() uint64   { return binary.LittleEndian.Uint64(f[16:]) }
func (f cuckoo) deleted() uint64 { return binary.LittleEndian.Uint64(f[24:]) }

func (f cuckoo) write(s *cuckooShape) {
	le := binary.LittleEndian
	f[1] = byte(s.bucket)
	le.PutUint16(f[2:], uint16(s.iterations))
	le.PutUint16(f[4:], uint16(s.expansion))
	le.PutUint16(f[6:], uint16(s.filters))
	le.PutUint64(f[8:], uint64(s.buckets))
}

// valid reports whether a shape is one that RedisBloom or we could have made, whoever sent it.
func (s *cuckooShape) valid() bool {
	power := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	return 1 <= s.bucket && s.bucket <= maxCuckooBucket && 1 <= s.iterations && s.iterations <= maxCuckooIterations && 1 <= s.filters && s.filters <= maxCuckooFilters &&
		power(s.buckets) && s.expansion <= maxCuckooExpansion && (s.expansion == 0 && s.filters == 1 || power(s.expansion))
}

func (f cuckoo) check() error {
	if len(f) < cuckooHead {
		return fmt.Errorf("C1: a cuckoo filter without a head")
	}
	if s := f.shape(); !s.valid() || int64(len(f)) != s.size() {
		return fmt.Errorf("C1: %d bytes for %+v", len(f), s)
	}
	return nil
}

// A cuckooItem is what a filter knows of an item.
type cuckooItem struct {
	hash  uint64
	print byte
}

func hashCuckoo(item []byte) cuckooItem {
	h := murmur64(item, 0)
	return cuckooItem{h, byte(h%255 + 1)}
}

// other is a fingerprint's other bucket, modulo their number, which is a power of two.
func other(print byte, bucket uint64) uint64 { return bucket ^ uint64(print)*0x5bd1e995 }

// A cuckooPart is one of a filter's filters.
type cuckooPart struct {
	at      int // where its fingerprints begin
	buckets uint64
	bucket  int
}

func (p *cuckooPart) slots(bucket uint64) int { return p.at + int(bucket&(p.buckets-1))*p.bucket }

// parts visits the filters, the oldest first, until visit says that it is enough.
func (f cuckoo) parts(visit func(p cuckooPart) (more bool)) {
	s := f.shape()
	p := cuckooPart{at: cuckooHead, buckets: uint64(s.buckets), bucket: int(s.bucket)}
	for range s.filters {
		if !visit(p) {
			return
		}
		p.at += int(p.buckets) * p.bucket
		p.buckets *= uint64(s.expansion)
	}
}

// find returns where print stands in one of the two buckets of an item, -1 for nowhere.
func (f cuckoo) find(p *cuckooPart, it cuckooItem, print byte) int {
	for _, bucket := range [2]uint64{it.hash, other(it.print, it.hash)} {
		at := p.slots(bucket)
		if i := bytes.IndexByte(f[at:at+p.bucket], print); i >= 0 {
			return at + i
		}
	}
	return -1
}

// locate returns where print stands in the buckets of an item, in the newest filter that has it; -1 for nowhere.
func (f cuckoo) locate(it cuckooItem, print byte) (at int) {
	at = -1
	f.parts(func(p cuckooPart) bool {
		if found := f.find(&p, it, print); found >= 0 {
			at = found
		}
		return true
	})
	return at
}

// has reports whether an item may be in a filter, if there is one.
func (f cuckoo) has(it cuckooItem) (found bool) {
	if f == nil {
		return false
	}
	f.parts(func(p cuckooPart) bool {
		found = f.find(&p, it, it.print) >= 0
		return !found
	})
	return found
}

// count is how often an item's fingerprint stands in its buckets.
func (f cuckoo) count(it cuckooItem) (n int) {
	if f == nil {
		return 0
	}
	f.parts(func(p cuckooPart) bool {
		one, two := p.slots(it.hash), p.slots(other(it.print, it.hash))
		n += bytes.Count(f[one:one+p.bucket], []byte{it.print})
		if two != one {
			n += bytes.Count(f[two:two+p.bucket], []byte{it.print})
		}
		return true
	})
	return n
}

func (c *call) newCuckoo(key []byte, s *cuckooShape) (sketchEdit, error) {
	if err := c.checkSketch(key, s.size(), errNoRoom, "capacity"); err != nil {
		return sketchEdit{}, err
	}
	e := c.newSketch(key, cuckooFamily, int(s.size()), c.defaultDeadline())
	cuckoo(e.b).write(s)
	return e, nil
}

// openCuckoo begins to change the filter under key, which it makes if it may.
func (c *call) openCuckoo(key []byte, s *cuckooShape) (sketchEdit, error) {
	b, it, err := c.sketchOf(key, cuckooFamily)
	switch {
	case err != nil:
		return sketchEdit{}, err
	case it != nil:
		if s := cuckoo(b).shape(); s.filters >= maxCuckooFilters {
			return sketchEdit{}, bare(fault.OutOfRange, "Maximum expansions reached")
		}
		return c.editSketch(it), nil
	case !s.create:
		return sketchEdit{}, errNoSketch
	}
	return c.newCuckoo(key, s)
}

var errCuckooFull = bare(fault.OutOfRange, "Filter is full")

// addCuckoo adds an item. With an error nothing has changed.
func (e *sketchEdit) addCuckoo(it cuckooItem) error {
	f := cuckoo(e.b)
	at := f.locate(it, 0)
	if at >= 0 {
		e.put8(at, it.print)
	} else if !e.displace(it) {
		if err := e.growCuckoo(); err != nil {
			return err
		}
		e.put8(cuckoo(e.b).locate(it, 0), it.print)
	}
	e.put64(16, cuckoo(e.b).items()+1)
	return nil
}

// displace puts an item into the newest filter where others make way for it. If none of them finds room, all is as it was.
func (e *sketchEdit) displace(it cuckooItem) bool {
	f := cuckoo(e.b)
	s := f.shape()
	var p cuckooPart
	f.parts(func(part cuckooPart) bool { p = part; return true })
	print, bucket, victim := it.print, it.hash, 0
	swap := func() {
		at := p.slots(bucket) + victim
		was := e.b[at]
		e.put8(at, print)
		print = was
	}
	tries := min(s.iterations, mostDisplaced)
	for range tries {
		swap()
		bucket = other(print, bucket)
		at := p.slots(bucket)
		if i := bytes.IndexByte(e.b[at:at+p.bucket], 0); i >= 0 {
			e.put8(at+i, print)
			return true
		}
		victim = (victim + 1) % p.bucket
	}
	for range tries {
		victim = (victim + p.bucket - 1) % p.bucket
		bucket = other(print, bucket)
		swap()
	}
	return false
}

// growCuckoo adds a filter behind the last.
func (e *sketchEdit) growCuckoo() error {
	f := cuckoo(e.b)
	s := f.shape()
	switch {
	case s.expansion == 0:
		return errCuckooFull
	case s.filters >= maxCuckooFilters:
		return bare(fault.OutOfRange, "Maximum expansions reached")
	}
	s.filters++
	size := s.size()
	if limit, name := e.c.cache.sketchLimit(); size > limit {
		return fault.New(fault.TooLarge, "engine.cuckoo", "Insufficient memory: to grow the filter takes %s. Limit: %d bytes (%s)", countBytes(size), limit, name)
	}
	e.grow(int(size))
	e.keep(6, 2)
	binary.LittleEndian.PutUint16(e.b[6:], uint16(s.filters))
	return nil
}

func cfReserve(c *call) error {
	if len(c.args)%2 == 0 {
		return errArity(c)
	}
	s, err := parseCuckooReserve(c.args)
	if err != nil {
		return err
	}
	if _, it, err := c.sketchOf(c.args[1], cuckooFamily); err != nil {
		return err
	} else if it != nil {
		return errSketchExists
	}
	if _, err := c.newCuckoo(c.args[1], &s); err != nil {
		return err
	}
	c.out.Status("OK")
	return nil
}

func cfAdd(c *call, onlyNew bool) error {
	s := defaultCuckoo(defaultCuckooCapacity)
	e, err := c.openCuckoo(c.args[1], &s)
	if err != nil {
		return err
	}
	it := hashCuckoo(c.args[2])
	if onlyNew && cuckoo(e.b).has(it) {
		c.out.Bool(false)
		return nil
	}
	if err := e.addCuckoo(it); err != nil {
		return err
	}
	c.out.Bool(true)
	return nil
}

// cfInsert answers 1 for an item that was added, 0 for one that may be there, -1 for one that has no room.
func cfInsert(c *call, onlyNew bool) error {
	s, err := parseCuckooInsert(c.args)
	if err == errSyntax {
		return errArity(c)
	}
	if err != nil {
		return err
	}
	e, err := c.openCuckoo(c.args[1], &s)
	if err != nil {
		return err
	}
	c.out.Array(len(s.items))
	for _, item := range s.items {
		it := hashCuckoo(item)
		exists := onlyNew && cuckoo(e.b).has(it)
		switch {
		case !exists && e.addCuckoo(it) != nil:
			c.out.Int(-1)
		case onlyNew && exists:
			c.out.Int(0)
		case onlyNew:
			c.out.Int(1)
		default:
			c.out.Bool(true)
		}
	}
	return nil
}

func cfExists(c *call) error {
	b, err := c.readSketch(c.args[1], cuckooFamily)
	if err != nil {
		return err
	}
	c.out.Bool(cuckoo(b).has(hashCuckoo(c.args[2])))
	return nil
}

func cfMexists(c *call) error {
	b, err := c.readSketch(c.args[1], cuckooFamily)
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	for _, item := range c.args[2:] {
		c.step()
		c.out.Bool(cuckoo(b).has(hashCuckoo(item)))
	}
	return nil
}

func cfCount(c *call) error {
	b, err := c.readSketch(c.args[1], cuckooFamily)
	if err != nil {
		return err
	}
	c.out.Int(int64(cuckoo(b).count(hashCuckoo(c.args[2]))))
	return nil
}

func cfDel(c *call) error {
	b, item, err := c.sketchOf(c.args[1], cuckooFamily)
	if err != nil {
		return err
	}
	if b == nil {
		return bare(fault.NotFound, "Not found")
	}
	it := hashCuckoo(c.args[2])
	at := cuckoo(b).locate(it, it.print)
	if at >= 0 {
		e := c.editSketch(item)
		f := cuckoo(e.b)
		e.put8(at, 0)
		e.put64(16, f.items()-min(f.items(), 1))
		e.put64(24, f.deleted()+1)
	}
	c.out.Bool(at >= 0)
	return nil
}

func cfInfo(c *call) error {
	b, err := c.readSketch(c.args[1], cuckooFamily)
	if err != nil {
		return err
	}
	if b == nil {
		return errNoSketch
	}
	f := cuckoo(b)
	s := f.shape()
	facts := []struct {
		title string
		n     int64
	}{
		{"Size", f.told()}, {"Number of buckets", s.buckets}, {"Number of filters", s.filters}, {"Number of items inserted", int64(f.items())},
		{"Number of items deleted", int64(f.deleted())}, {"Bucket size", s.bucket}, {"Expansion rate", s.expansion}, {"Max iterations", s.iterations},
	}
	c.out.Map(len(facts))
	for _, fact := range facts {
		c.out.Status(fact.title)
		c.out.Int(fact.n)
	}
	return nil
}

func cfDebug(c *call) error {
	b, err := c.readSketch(c.args[1], cuckooFamily)
	if err != nil {
		return err
	}
	if b == nil {
		return errNoSketch
	}
	f := cuckoo(b)
	s := f.shape()
	c.out.Text(fmt.Sprintf("bktsize:%d buckets:%d items:%d deletes:%d filters:%d max_iterations:%d expansion:%d",
		s.bucket, s.buckets, f.items(), f.deleted(), s.filters, s.iterations, s.expansion))
	return nil
}

// chunk returns the fingerprints at an iterator, which counts them from 1 on, up to the end of their filter.
func (f cuckoo) chunk(iterator int64) (from, to int) {
	if iterator < 1 || iterator > int64(len(f)) {
		return 0, 0
	}
	at := cuckooHead + int(iterator) - 1
	f.parts(func(p cuckooPart) bool {
		if end := p.at + int(p.buckets)*p.bucket; at < end {
			from, to = at, end
		}
		return to == 0
	})
	return from, to
}

func cfScandump(c *call) error {
	iterator, ok := parseInt(c.args[2])
	if !ok || iterator < 0 {
		return bare(fault.InvalidArgument, "Invalid position")
	}
	b, err := c.readSketch(c.args[1], cuckooFamily)
	if err != nil {
		return err
	}
	if b == nil {
		return errNoSketch
	}
	f := cuckoo(b)
	c.out.Array(2)
	if iterator == 0 && f.items() > 0 {
		c.out.Int(1)
		c.out.Bulk(f.dumpHead())
		return nil
	}
	from, to := f.chunk(iterator)
	if to = min(to, from+maxCuckooChunk); to == 0 || f.items() == 0 {
		c.out.Int(0)
		c.out.Null()
		return nil
	}
	c.out.Int(iterator + int64(to-from))
	c.out.Bulk(f[from:to])
	return nil
}

// dumpHead is the filter's head as CF.SCANDUMP gives it.
func (f cuckoo) dumpHead() []byte {
	s, le := f.shape(), binary.LittleEndian
	head := make([]byte, 0, cuckooDumpHead)
	for _, n := range []uint64{f.items(), uint64(s.buckets), f.deleted(), uint64(s.filters)} {
		head = le.AppendUint64(head, n)
	}
	for _, n := range []int64{s.bucket, s.iterations, s.expansion} {
		head = le.AppendUint16(head, uint16(n))
	}
	return head
}

// parseCuckooDump reads a head that anybody may have sent.
func parseCuckooDump(head []byte) (s cuckooShape, items, deleted uint64, err error) {
	if len(head) != cuckooDumpHead {
		return s, 0, 0, bare(fault.InvalidArgument, "Invalid header")
	}
	le := binary.LittleEndian
	s = cuckooShape{buckets: int64(le.Uint64(head[8:])), filters: int64(le.Uint64(head[24:])), bucket: int64(le.Uint16(head[32:])), iterations: int64(le.Uint16(head[34:])), expansion: int64(le.Uint16(head[36:]))}
	if items, deleted = le.Uint64(head), le.Uint64(head[16:]); !s.valid() || items > math.MaxInt64 || deleted > math.MaxInt64 {
		return s, 0, 0, bare(fault.InvalidArgument, "Couldn't create filter!")
	}
	return s, items, deleted, nil
}

func cuckooLoadSize(args [][]byte) (int64, error) {
	s, _, _, err := parseCuckooDump(args[3])
	if err != nil {
		return 0, err
	}
	return s.size(), nil
}

func cfLoadchunk(c *call) error {
	iterator, ok := parseInt(c.args[2])
	if !ok || iterator == 0 {
		return bare(fault.InvalidArgument, "Invalid position")
	}
	key, data := c.args[1], c.args[3]
	b, it, err := c.sketchOf(key, cuckooFamily)
	switch {
	case err != nil:
		return err
	case iterator == 1 && b != nil:
		return errSketchExists
	case iterator != 1 && b == nil:
		return errNoSketch
	case iterator == 1:
		s, items, deleted, err := parseCuckooDump(data)
		if err != nil {
			return err
		}
		if err := c.checkSketch(key, s.size(), bare(fault.TooLarge, "Couldn't create filter!"), "chunk"); err != nil {
			return err
		}
		f := cuckoo(c.newSketch(key, cuckooFamily, int(s.size()), c.defaultDeadline()).b)
		f.write(&s)
		binary.LittleEndian.PutUint64(f[16:], items)
		binary.LittleEndian.PutUint64(f[24:], deleted)
	default:
		n := int64(len(data))
		from, to := 0, 0
		if n > 0 && iterator > n {
			from, to = cuckoo(b).chunk(iterator - n)
		}
		if to == 0 || len(data) > to-from {
			return bare(fault.OutOfRange, "Couldn't load chunk!")
		}
		e := c.editSketch(it)
		e.keep(from, len(data))
		copy(e.b[from:], data)
	}
	c.out.Status("OK")
	return nil
}
