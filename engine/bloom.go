package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/larder-cache/larder/internal/fault"
)

// A bloom is a scalable Bloom filter: a chain of filters, each of which has room for so many items with a rate of false
// positives that is half that of the one before. Items are added to the last; when that is full it gets a successor.
//
//	family (1 byte)  items (8)  links (4)  options (4)  expansion (4)
//
// and for each link
//
//	bytes (8)  bits (8)  items (8)  error (8)  bits for each item (8)  hashes (4)  capacity (8)  logarithm of bits or 0 (1)
//	so many bytes of bits
//
// Heads and bits are RedisBloom's own, so that BF.LOADCHUNK here takes what its BF.SCANDUMP gave, and the reverse.
//
//	F1: links cover the record without a gap, and each has as many bits and hashes as its error says
//	F2: items is the sum of the links' items
//	F3: links have at most mostHashes hashes together
type bloom []byte

const (
	bloomHead     = 21
	bloomLinkHead = 53

	// What BLOOM_OPT_… stands for in a head.
	bloomNoRound    = 1
	bloomHash64     = 4
	bloomNonScaling = 8

	maxBloomCapacity  = 1 << 30
	maxBloomExpansion = 32768
	highestBloomError = 0.25 // what asks for more gets this
	mostHashes        = 2048 // of all links of a filter: so many bits a look-up reads at most
	maxBloomChunk     = 4 << 20
)

var bloomCommands = []Command{
	{Name: "BF.RESERVE", Arity: -4, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupBloom, Action: "cache:Set", Facts: sizeFacts(bloomReserveSize), room: roomFor(bloomReserveSize), run: bfReserve,
		Usage: "key error_rate capacity [EXPANSION expansion] [NONSCALING]", Summary: "Makes an empty Bloom filter", Complexity: "O(1)", Since: "Bloom 1.0.0"},
	{Name: "BF.ADD", Arity: 3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupBloom, Action: "cache:Set", Facts: itemFacts(2, 1), run: bfAdd,
		Usage: "key item", Summary: "Adds an item to a Bloom filter, which is made when there is none", Complexity: "O(K) in the number of hashes", Since: "Bloom 1.0.0"},
	{Name: "BF.MADD", Arity: -3, Keys: oneKey, Flags: Writes | Grows, Group: GroupBloom, Action: "cache:Set", Facts: itemFacts(2, 1), run: bfMadd,
		Usage: "key item [item ...]", Summary: "Adds items to a Bloom filter, which is made when there is none", Complexity: "O(K*N) in the numbers of hashes and of items", Since: "Bloom 1.0.0"},
	{Name: "BF.INSERT", Arity: -4, Keys: oneKey, Flags: Writes | Grows, Group: GroupBloom, Action: "cache:Set", Facts: itemFacts(3, 1), room: roomFor(bloomInsertSize), run: bfInsert,
		Usage:   "key [CAPACITY capacity] [ERROR error] [EXPANSION expansion] [NOCREATE] [NONSCALING] ITEMS item [item ...]",
		Summary: "Adds items to a Bloom filter, which is made as the options say when there is none", Complexity: "O(K*N) in the numbers of hashes and of items", Since: "Bloom 1.0.0"},
	{Name: "BF.EXISTS", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupBloom, Action: "cache:Get", run: bfExists,
		Usage: "key item", Summary: "Says whether an item may have been added to a Bloom filter", Complexity: "O(K) in the number of hashes", Since: "Bloom 1.0.0"},
	{Name: "BF.MEXISTS", Arity: -3, Keys: oneKey, Group: GroupBloom, Action: "cache:Get", run: bfMexists,
		Usage: "key item [item ...]", Summary: "Says which items may have been added to a Bloom filter", Complexity: "O(K*N) in the numbers of hashes and of items", Since: "Bloom 1.0.0"},
	{Name: "BF.CARD", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupBloom, Action: "cache:Get", run: bfCard,
		Usage: "key", Summary: "Counts the items that were new to a Bloom filter when they were added", Complexity: "O(1)", Since: "Bloom 2.4.4"},
	{Name: "BF.INFO", Arity: -2, Keys: oneKey, Flags: Fast, Group: GroupBloom, Action: "cache:Get", run: bfInfo,
		Usage: "key [CAPACITY | SIZE | FILTERS | ITEMS | EXPANSION]", Summary: "Describes a Bloom filter", Complexity: "O(1)", Since: "Bloom 1.0.0"},
	{Name: "BF.DEBUG", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupBloom, Action: "cache:Get", run: bfDebug,
		Usage: "key", Summary: "Describes the links of a Bloom filter", Complexity: "O(N) in the number of links", Since: "Bloom 1.0.0"},
	{Name: "BF.SCANDUMP", Arity: 3, Keys: oneKey, Group: GroupBloom, Action: "cache:Get", run: bfScandump,
		Usage: "key iterator", Summary: "Returns a part of a Bloom filter with the iterator of the next, for BF.LOADCHUNK", Complexity: "O(N) in the length of the part", Since: "Bloom 1.0.0"},
	{Name: "BF.LOADCHUNK", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupBloom, Action: "cache:Set", Facts: valueAt(3), room: roomFor(bloomLoadSize), run: bfLoadchunk,
		Usage: "key iterator chunk", Summary: "Restores a part of a Bloom filter that BF.SCANDUMP returned", Complexity: "O(N) in the length of the part", Since: "Bloom 1.0.0"},
}

var (
	errNoSketch       = fault.New(fault.NotFound, "engine.bloom", "not found")
	errBloomFull      = fault.New(fault.OutOfRange, "engine.bloom", "non scaling filter is full")
	errBadChunk       = fault.New(fault.InvalidArgument, "engine.bloom", "received bad data")
	errUnknownArg     = bare(fault.InvalidArgument, "Unknown argument received")
	errBloomExpansion = bare(fault.InvalidArgument, "Nonscaling filters cannot expand")
)

// A bloomShape is what a filter is asked to be.
type bloomShape struct {
	errorRate  float64
	capacity   int64
	expansion  int64
	nonScaling bool
	create     bool
	items      [][]byte
}

// defaultBloom is the shape of a filter that BF.ADD makes.
var defaultBloom = bloomShape{errorRate: 0.01, capacity: 100, expansion: 2, create: true}

// first is the shape's first link. A filter that grows gives half of its error to the links to come.
func (s *bloomShape) first() bloomLink {
	if s.nonScaling {
		return newBloomLink(uint64(s.capacity), s.errorRate)
	}
	return newBloomLink(uint64(s.capacity), s.errorRate*0.5)
}

func (s *bloomShape) size() int64 {
	l := s.first()
	return bloomHead + l.size()
}

// parseBloomReserve reads BF.RESERVE's arguments.
func parseBloomReserve(args [][]byte) (s bloomShape, err error) {
	s = defaultBloom
	var ok bool
	if s.errorRate, ok = parseFloat(args[2]); !ok {
		return s, fault.About(fault.InvalidArgument, "engine.bloom", "error_rate", "bad error rate")
	}
	if !(s.errorRate > 0 && s.errorRate < 1) {
		return s, fault.About(fault.OutOfRange, "engine.bloom", "error_rate", "error rate must be in the range (%f, %f)", 0.0, 1.0)
	}
	s.errorRate = min(s.errorRate, highestBloomError)
	if s.capacity, ok = parseInt(args[3]); !ok {
		return s, fault.About(fault.InvalidArgument, "engine.bloom", "capacity", "bad capacity")
	}
	if s.capacity < 1 || s.capacity > maxBloomCapacity {
		return s, fault.About(fault.OutOfRange, "engine.bloom", "capacity", "capacity must be in the range [%d, %d]", 1, maxBloomCapacity)
	}
	expands := false
	for rest := args[4:]; len(rest) > 0; rest = rest[1:] {
		switch {
		case is(rest[0], "NONSCALING"):
			s.nonScaling = true
		case is(rest[0], "EXPANSION") && len(rest) == 1:
			return s, fault.About(fault.InvalidArgument, "engine.bloom", "EXPANSION", "no expansion")
		case is(rest[0], "EXPANSION"):
			if s.expansion, ok = parseInt(rest[1]); !ok {
				return s, fault.About(fault.InvalidArgument, "engine.bloom", "EXPANSION", "bad expansion")
			}
			expands, rest = s.expansion != 0, rest[1:]
		default:
			return s, errUnknownArg
		}
	}
	switch {
	case s.nonScaling && expands:
		return s, errBloomExpansion
	case s.expansion < 0 || s.expansion > maxBloomExpansion:
		return s, fault.About(fault.OutOfRange, "engine.bloom", "EXPANSION", "expansion must be in the range [%d, %d]", 0, maxBloomExpansion)
	}
	s.nonScaling = s.nonScaling || s.expansion == 0
	return s, nil
}

// parseBloomInsert reads BF.INSERT's arguments. They are too few where it answers errSyntax.
func parseBloomInsert(args [][]byte) (s bloomShape, err error) {
	s = defaultBloom
	for rest := args[2:]; len(rest) > 0; rest = rest[1:] {
		ok := true
		switch word := rest[0]; {
		case is(word, "ITEMS"):
			if s.items = rest[1:]; len(s.items) == 0 {
				return s, errSyntax
			}
			s.nonScaling = s.nonScaling || s.expansion == 0
			return s, nil
		case is(word, "NOCREATE"):
			s.create = false
		case is(word, "NONSCALING"):
			s.nonScaling = true
		case !is(word, "CAPACITY") && !is(word, "ERROR") && !is(word, "EXPANSION"):
			return s, errUnknownArg
		case len(rest) == 1:
			return s, errSyntax
		case is(word, "CAPACITY"):
			if s.capacity, ok = parseInt(rest[1]); !ok || s.capacity < 1 || s.capacity > maxBloomCapacity {
				return s, bare(fault.OutOfRange, "Bad capacity")
			}
			rest = rest[1:]
		case is(word, "ERROR"):
			if s.errorRate, ok = parseFloat(rest[1]); !ok || !(s.errorRate > 0 && s.errorRate < 1) {
				return s, bare(fault.OutOfRange, "Bad error rate")
			}
			s.errorRate = min(s.errorRate, highestBloomError)
			rest = rest[1:]
		default:
			if s.expansion, ok = parseInt(rest[1]); !ok || s.expansion < 0 || s.expansion > maxBloomExpansion {
				return s, bare(fault.OutOfRange, "Bad expansion")
			}
			rest = rest[1:]
		}
	}
	return s, errSyntax
}

func bloomReserveSize(args [][]byte) (int64, error) {
	s, err := parseBloomReserve(args)
	if err != nil {
		return 0, err
	}
	return s.size(), nil
}

func bloomInsertSize(args [][]byte) (int64, error) {
	s, err := parseBloomInsert(args)
	if err != nil {
		return 0, err
	}
	return s.size(), nil
}

// A bloomLink is one filter of a chain, as its head says.
type bloomLink struct {
	at       int // where the head stands in the record
	bytes    uint64
	bits     uint64
	items    uint64
	err      float64
	perItem  float64 // bits
	hashes   uint32
	capacity uint64
	n2       uint8 // 1<<n2 bits are in use, where it is not 0; else all
}

// newBloomLink is an empty link for so many items at that rate of errors.
func newBloomLink(capacity uint64, errorRate float64) bloomLink {
	l := bloomLink{err: errorRate, capacity: capacity, perItem: bitsPerItem(errorRate)}
	l.hashes = hashesFor(l.perItem)
	bits := math.MaxUint64 / 2.0
	if want := float64(capacity) * l.perItem; want < bits {
		bits = want
	}
	l.bytes = (max(uint64(bits), 1) + 63) / 64 * 8
	l.bits = l.bytes * 8
	return l
}

func bitsPerItem(errorRate float64) float64 { return -ln(errorRate) / (math.Ln2 * math.Ln2) }

func hashesFor(bitsPerItem float64) uint32 { return uint32(math.Ceil(math.Ln2 * bitsPerItem)) }

// size is the link's bytes with its head.
func (l *bloomLink) size() int64 {
	if l.bytes > math.MaxInt64-bloomLinkHead-bloomHead {
		return math.MaxInt64 - bloomHead
	}
	return int64(l.bytes) + bloomLinkHead
}

func (l *bloomLink) end() int { return l.at + bloomLinkHead + int(l.bytes) }

func (l *bloomLink) write(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b, l.bytes)
	le.PutUint64(b[8:], l.bits)
	le.PutUint64(b[16:], l.items)
	le.PutUint64(b[24:], math.Float64bits(l.err))
	le.PutUint64(b[32:], math.Float64bits(l.perItem))
	le.PutUint32(b[40:], l.hashes)
	le.PutUint64(b[44:], l.capacity)
	b[52] = l.n2
}

func readBloomLink(b []byte) bloomLink {
	le := binary.LittleEndian
	return bloomLink{bytes: le.Uint64(b), bits: le.Uint64(b[8:]), items: le.Uint64(b[16:]), err: math.Float64frombits(le.Uint64(b[24:])),
		perItem: math.Float64frombits(le.Uint64(b[32:])), hashes: le.Uint32(b[40:]), capacity: le.Uint64(b[44:]), n2: b[52]}
}

// valid reports whether a link is one that RedisBloom or we could have made, whoever sent it.
func (l *bloomLink) valid() bool {
	return l.err > 0 && l.err < 1 && l.n2 < 64 && l.bytes > 0 && l.bytes <= HardMaxValue && l.bits == l.bytes*8 && (l.n2 == 0 || l.bits >= 1<<l.n2) &&
		l.perItem > 0 && l.perItem < mostHashes && l.hashes > 0 && l.hashes == hashesFor(l.perItem)
}

func (f bloom) items() uint64     { return binary.LittleEndian.Uint64(f[1:]) }
func (f bloom) links() int        { return int(binary.LittleEndian.Uint32(f[9:])) }
func (f bloom) options() uint32   { return binary.LittleEndian.Uint32(f[13:]) }
func (f bloom) expansion() uint64 { return uint64(binary.LittleEndian.Uint32(f[17:])) }

// told is the size that BF.INFO tells: RedisBloom's figure for such a filter, which is a little more than the record's length.
func (f bloom) told() int64 {
	return int64(len(f)-bloomHead-f.links()*bloomLinkHead) + 32 + 64*int64(f.links())
}

func (f bloom) link(at int) bloomLink {
	l := readBloomLink(f[at:])
	l.at = at
	return l
}

// each visits the links, the oldest first.
func (f bloom) each(visit func(l *bloomLink)) {
	for at := bloomHead; at < len(f); {
		l := f.link(at)
		visit(&l)
		at = l.end()
	}
}

// A bloomHash is an item's hash: its bits are a, a+b, a+2b, …, modulo the number of bits.
type bloomHash struct{ a, b uint64 }

func hashBloom(item []byte) bloomHash {
	a := murmur64(item, 0xc6a4a7935bd1e995)
	return bloomHash{a, murmur64(item, a)}
}

// mod is the number of bits in use.
func (l *bloomLink) mod() uint64 {
	if l.n2 > 0 {
		return 1 << l.n2
	}
	return l.bits
}

// has reports whether all bits of an item are set in a link.
func (f bloom) has(l *bloomLink, h bloomHash) bool {
	bits, mod := f[l.at+bloomLinkHead:l.end()], l.mod()
	for range l.hashes {
		x := h.a % mod
		if bits[x>>3]&(1<<(x&7)) == 0 {
			return false
		}
		h.a += h.b
	}
	return true
}

// find reports whether a link has the item, and which link is the last.
func (f bloom) find(h bloomHash) (last bloomLink, found bool) {
	for at := bloomHead; at < len(f); at = last.end() {
		if last = f.link(at); f.has(&last, h) {
			return last, true
		}
	}
	return last, false
}

func (f bloom) check() error {
	if len(f) < bloomHead {
		return errors.New("F1: a Bloom filter without a head")
	}
	var items uint64
	links, hashes, at := 0, 0, bloomHead
	for ; at < len(f); links++ {
		if len(f)-at < bloomLinkHead {
			return fmt.Errorf("F1: link %d is cut off", links)
		}
		l := f.link(at)
		if !l.valid() || l.end() > len(f) {
			return fmt.Errorf("F1: link %d is not valid: %+v", links, l)
		}
		items += l.items
		hashes += int(l.hashes)
		at = l.end()
	}
	switch {
	case links != f.links() || links == 0:
		return fmt.Errorf("F1: %d links, %d are counted", links, f.links())
	case items != f.items():
		return fmt.Errorf("F2: links have %d items, %d are counted", items, f.items())
	case hashes > mostHashes:
		return fmt.Errorf("F3: links have %d hashes", hashes)
	}
	return nil
}

// newBloom makes a filter under key, where there is nothing.
func (c *call) newBloom(key []byte, s *bloomShape) (sketchEdit, error) {
	if err := c.checkSketch(key, s.size(), errNoRoom, "capacity"); err != nil {
		return sketchEdit{}, err
	}
	e := c.newSketch(key, bloomFamily, int(s.size()), c.defaultDeadline())
	options := uint32(bloomNoRound | bloomHash64)
	if s.nonScaling {
		options |= bloomNonScaling
	}
	binary.LittleEndian.PutUint32(e.b[9:], 1)
	binary.LittleEndian.PutUint32(e.b[13:], options)
	binary.LittleEndian.PutUint32(e.b[17:], uint32(s.expansion))
	l := s.first()
	l.write(e.b[bloomHead:])
	return e, nil
}

// openBloom begins to change the filter under key, which it makes if it may.
func (c *call) openBloom(key []byte, s *bloomShape) (sketchEdit, error) {
	_, it, err := c.sketchOf(key, bloomFamily)
	switch {
	case err != nil:
		return sketchEdit{}, err
	case it != nil:
		return c.editSketch(it), nil
	case !s.create:
		return sketchEdit{}, errNoSketch
	}
	return c.newBloom(key, s)
}

// addBloom adds an item, and reports whether it is new. With an error nothing has changed.
func (e *sketchEdit) addBloom(item []byte) (added bool, err error) {
	h := hashBloom(item)
	l, found := bloom(e.b).find(h)
	if found {
		return false, nil
	}
	if l.items >= l.capacity {
		if l, err = e.growBloom(&l); err != nil {
			return false, err
		}
	}
	bits, mod := l.at+bloomLinkHead, l.mod()
	for range l.hashes {
		x := h.a % mod
		if at, bit := bits+int(x>>3), byte(1)<<(x&7); e.b[at]&bit == 0 {
			e.put8(at, e.b[at]|bit)
		}
		h.a += h.b
	}
	e.put64(l.at+16, l.items+1)
	e.put64(1, bloom(e.b).items()+1)
	return true, nil
}

// growBloom adds a link behind the last, which is full.
func (e *sketchEdit) growBloom(last *bloomLink) (bloomLink, error) {
	f := bloom(e.b)
	if f.options()&bloomNonScaling != 0 {
		return bloomLink{}, errBloomFull
	}
	hashes := uint32(0)
	f.each(func(l *bloomLink) { hashes += l.hashes })
	l := newBloomLink(last.capacity*f.expansion(), last.err*0.5)
	if last.capacity > math.MaxInt64/maxBloomExpansion || l.capacity == 0 || !l.valid() || hashes+l.hashes > mostHashes {
		return bloomLink{}, fault.New(fault.OutOfRange, "engine.bloom",
			"problem inserting into filter: it has grown %d times. A filter has at most %d hash functions: reserve it with more capacity", f.links()-1, mostHashes)
	}
	size := int64(len(f)) + l.size()
	if limit, name := e.c.cache.sketchLimit(); size > limit {
		return bloomLink{}, fault.New(fault.TooLarge, "engine.bloom", "problem inserting into filter: to grow it takes %d bytes. Limit: %d bytes (%s)", size, limit, name)
	}
	l.at = len(f)
	e.grow(int(size))
	l.write(e.b[l.at:]) // nothing of it was there to be kept
	e.put32(9, uint32(f.links()+1))
	return l, nil
}

func bfReserve(c *call) error {
	if len(c.args) > 7 {
		return errArity(c)
	}
	s, err := parseBloomReserve(c.args)
	if err != nil {
		return err
	}
	if _, it, err := c.sketchOf(c.args[1], bloomFamily); err != nil {
		return err
	} else if it != nil {
		return errSketchExists
	}
	if _, err := c.newBloom(c.args[1], &s); err != nil {
		return err
	}
	c.out.Status("OK")
	return nil
}

func bfAdd(c *call) error {
	e, err := c.openBloom(c.args[1], &defaultBloom)
	if err != nil {
		return err
	}
	added, err := e.addBloom(c.args[2])
	if err != nil {
		return err
	}
	c.out.Bool(added)
	return nil
}

func bfMadd(c *call) error {
	s := defaultBloom
	s.items = c.args[2:]
	return c.insertBloom(&s)
}

func bfInsert(c *call) error {
	s, err := parseBloomInsert(c.args)
	if err == errSyntax {
		return errArity(c)
	}
	if err != nil {
		return err
	}
	return c.insertBloom(&s)
}

// insertBloom adds items, and answers for each; the first that cannot be added ends the list with an error.
func (c *call) insertBloom(s *bloomShape) error {
	e, err := c.openBloom(c.args[1], s)
	if err != nil {
		return err
	}
	added := make([]bool, len(s.items))
	for i, item := range s.items {
		if added[i], err = e.addBloom(item); err != nil {
			added = added[:i]
			break
		}
	}
	n := len(added)
	if err != nil {
		n++
	}
	c.out.Array(n)
	for _, v := range added {
		c.out.Bool(v)
	}
	if err != nil {
		c.out.Error(fault.From(err))
	}
	return nil
}

func bfExists(c *call) error {
	b, err := c.readSketch(c.args[1], bloomFamily)
	if err != nil {
		return err
	}
	_, found := bloom(b).find(hashBloom(c.args[2]))
	c.out.Bool(found)
	return nil
}

func bfMexists(c *call) error {
	b, err := c.readSketch(c.args[1], bloomFamily)
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	for _, item := range c.args[2:] {
		c.step()
		_, found := bloom(b).find(hashBloom(item))
		c.out.Bool(found)
	}
	return nil
}

func bfCard(c *call) error {
	b, err := c.readSketch(c.args[1], bloomFamily)
	switch {
	case err != nil:
		return err
	case b == nil:
		c.out.Int(0)
	default:
		c.out.Int(int64(bloom(b).items()))
	}
	return nil
}

// bloomFacts are what BF.INFO tells, with the words that ask for one of them.
var bloomFacts = []struct {
	word, title string
	tell        func(f bloom, out Reply)
}{
	{"CAPACITY", "Capacity", func(f bloom, out Reply) {
		n := uint64(0)
		f.each(func(l *bloomLink) { n += l.capacity })
		out.Int(int64(n))
	}},
	{"SIZE", "Size", func(f bloom, out Reply) { out.Int(f.told()) }},
	{"FILTERS", "Number of filters", func(f bloom, out Reply) { out.Int(int64(f.links())) }},
	{"ITEMS", "Number of items inserted", func(f bloom, out Reply) { out.Int(int64(f.items())) }},
	{"EXPANSION", "Expansion rate", func(f bloom, out Reply) {
		if f.options()&bloomNonScaling != 0 {
			out.Null()
			return
		}
		out.Int(int64(f.expansion()))
	}},
}

// bfInfo answers one fact as a list of one, or as a map in RESP3.
func bfInfo(c *call) error {
	if len(c.args) > 3 {
		return errArity(c)
	}
	b, err := c.readSketch(c.args[1], bloomFamily)
	if err != nil {
		return err
	}
	if b == nil {
		return errNoSketch
	}
	if len(c.args) == 2 {
		c.out.Map(len(bloomFacts))
		for _, fact := range bloomFacts {
			c.out.Status(fact.title)
			fact.tell(b, c.out)
		}
		return nil
	}
	for _, fact := range bloomFacts {
		if is(c.args[2], fact.word) {
			either(c.out, func(out Reply) {
				out.Array(1)
				fact.tell(b, out)
			}, func(out Reply) {
				out.Map(1)
				out.Status(fact.title)
				fact.tell(b, out)
			})
			return nil
		}
	}
	return bare(fault.InvalidArgument, "Invalid information value")
}

func bfDebug(c *call) error {
	b, err := c.readSketch(c.args[1], bloomFamily)
	if err != nil {
		return err
	}
	if b == nil {
		return errNoSketch
	}
	f := bloom(b)
	c.out.Array(1 + f.links())
	c.out.Text(fmt.Sprintf("size:%d", f.items()))
	f.each(func(l *bloomLink) {
		c.out.Text(fmt.Sprintf("bytes:%d bits:%d hashes:%d hashwidth:64 capacity:%d size:%d ratio:%.6g", l.bytes, l.bits, l.hashes, l.capacity, l.items, l.err))
	})
	return nil
}

// chunk returns the bits at an iterator, which counts the bits' bytes of all links from 1 on, up to the end of their link.
func (f bloom) chunk(iterator int64) (from, to int) {
	at := iterator - 1
	f.each(func(l *bloomLink) {
		if n := int64(l.bytes); 0 <= at && at < n && to == 0 {
			from, to = l.at+bloomLinkHead+int(at), l.end()
		}
		at -= int64(l.bytes)
	})
	return from, to
}

func bfScandump(c *call) error {
	b, err := c.readSketch(c.args[1], bloomFamily)
	if err != nil {
		return err
	}
	if b == nil {
		return errNoSketch
	}
	iterator, ok := parseInt(c.args[2])
	if !ok {
		return bare(fault.InvalidArgument, "Second argument must be numeric")
	}
	f := bloom(b)
	c.out.Array(2)
	if iterator == 0 {
		head := append([]byte(nil), f[1:bloomHead]...)
		f.each(func(l *bloomLink) { head = append(head, f[l.at:l.at+bloomLinkHead]...) })
		c.out.Int(1)
		c.out.Bulk(head)
		return nil
	}
	from, to := f.chunk(iterator)
	if to = min(to, from+maxBloomChunk); to == 0 {
		c.out.Int(0)
		c.out.Bulk(nil)
		return nil
	}
	c.out.Int(iterator + int64(to-from))
	c.out.Bulk(f[from:to])
	return nil
}

// A bloomDump is the head of a filter as BF.SCANDUMP gives it: the chain's head and those of its links.
type bloomDump struct {
	chain bloom // with the family
	links []byte
	size  int64 // of the filter
}

// parseBloomDump reads a head that anybody may have sent.
func parseBloomDump(head []byte) (d bloomDump, err error) {
	const chain = bloomHead - 1
	if len(head) < chain+bloomLinkHead || (len(head)-chain)%bloomLinkHead != 0 {
		return d, errBadChunk
	}
	d = bloomDump{chain: append(bloom{byte(bloomFamily)}, head[:chain]...), links: head[chain:], size: bloomHead}
	f := d.chain
	if f.links() != len(d.links)/bloomLinkHead || f.options()&^(bloomNoRound|bloomNonScaling) != bloomHash64 || f.expansion() > maxBloomExpansion {
		return d, errBadChunk
	}
	items, hashes := uint64(0), uint32(0)
	for rest := d.links; len(rest) > 0; rest = rest[bloomLinkHead:] {
		l := readBloomLink(rest)
		if !l.valid() || l.items > math.MaxInt64-items {
			return d, errBadChunk
		}
		items += l.items
		if hashes += l.hashes; hashes > mostHashes { // which bounds size too
			return d, errBadChunk
		}
		d.size += l.size()
	}
	if items != f.items() {
		return d, errBadChunk
	}
	return d, nil
}

// bloomLoadSize is the size of the filter that BF.LOADCHUNK is to make.
func bloomLoadSize(args [][]byte) (int64, error) {
	d, err := parseBloomDump(args[3])
	return d.size, err
}

// loadBloom makes a filter of such a head: all its bits are 0.
func (c *call) loadBloom(key, head []byte) error {
	d, err := parseBloomDump(head)
	if err != nil {
		return err
	}
	if err := c.checkSketch(key, d.size, errNoRoom, "chunk"); err != nil {
		return err
	}
	e := c.newSketch(key, bloomFamily, int(d.size), c.defaultDeadline())
	copy(e.b, d.chain)
	for at := bloomHead; len(d.links) > 0; d.links = d.links[bloomLinkHead:] {
		copy(e.b[at:], d.links[:bloomLinkHead])
		l := bloom(e.b).link(at)
		at = l.end()
	}
	return nil
}

func bfLoadchunk(c *call) error {
	iterator, ok := parseInt(c.args[2])
	if !ok {
		return fault.New(fault.InvalidArgument, c.cmd.Name, "Second argument must be numeric")
	}
	b, it, err := c.sketchOf(c.args[1], bloomFamily)
	if err != nil {
		return err
	}
	data := c.args[3]
	switch n := int64(len(data)); {
	case b == nil && iterator == 1:
		if err := c.loadBloom(c.args[1], data); err != nil {
			return err
		}
	case b == nil:
		return errNoSketch
	case iterator <= 0 || iterator < n:
		return errBadChunk
	default:
		from, to := bloom(b).chunk(iterator - n)
		switch {
		case to == 0:
			return fault.New(fault.OutOfRange, c.cmd.Name, "invalid offset - no link found")
		case len(data) > to-from:
			return fault.New(fault.TooLarge, c.cmd.Name, "invalid chunk - Too big for current filter")
		}
		e := c.editSketch(it)
		e.keep(from, len(data))
		copy(e.b[from:], data)
	}
	c.out.Status("OK")
	return nil
}
