package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/larder-cache/larder/internal/fault"
)

// A countMin is a count-min sketch: rows of counters, where each item has one counter in each row. The least of them is at
// least how often the item was counted, and more by no more than what shares all of its counters.
//
//	family (1 byte)  unused (7)  width (8)  depth (8)  count of all items (8)
//	counters, 4 bytes each, row by row
//
// A counter that is full stays so; the sketch's count does too.
//
//	M1: the record is as long as width times depth counters; neither is 0, and depth is at most maxCountMinDepth
type countMin []byte

const (
	countMinHead     = 32
	maxCountMinDepth = 1024 // counters that an item has, and so the work of counting it
)

var countMinCommands = []Command{
	{Name: "CMS.INITBYDIM", Arity: 4, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupCountMin, Action: "cache:Set", Facts: sizeFacts(countMinDimSize), room: roomFor(countMinDimSize),
		run:   func(c *call) error { return c.initCountMin(parseCountMinDim) },
		Usage: "key width depth", Summary: "Makes an empty count-min sketch of so many counters in so many rows", Complexity: "O(1)", Since: "Bloom 2.0.0"},
	{Name: "CMS.INITBYPROB", Arity: 4, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupCountMin, Action: "cache:Set", Facts: sizeFacts(countMinProbSize), room: roomFor(countMinProbSize),
		run:   func(c *call) error { return c.initCountMin(parseCountMinProb) },
		Usage: "key error probability", Summary: "Makes an empty count-min sketch that errs by so much of the count of all items, but with a probability", Complexity: "O(1)", Since: "Bloom 2.0.0"},
	{Name: "CMS.INCRBY", Arity: -4, Keys: oneKey, Flags: Writes | Grows, Group: GroupCountMin, Action: "cache:Set", Facts: itemFacts(2, 2), run: cmsIncrby,
		Usage: "key item increment [item increment ...]", Summary: "Counts items, each so many times more", Complexity: "O(N) in the number of items", Since: "Bloom 2.0.0"},
	{Name: "CMS.QUERY", Arity: -3, Keys: oneKey, Group: GroupCountMin, Action: "cache:Get", run: cmsQuery,
		Usage: "key item [item ...]", Summary: "Estimates how often items were counted, never too low", Complexity: "O(N) in the number of items", Since: "Bloom 2.0.0"},
	{Name: "CMS.MERGE", Arity: -4, Keys: Keys{First: 1, Last: 1, Step: 1, Count: 2}, Flags: Writes | Grows, Group: GroupCountMin, Action: "cache:Set", Rights: cmsMergeRights, run: cmsMerge,
		Usage: "destination numkeys source [source ...] [WEIGHTS weight [weight ...]]", Summary: "Makes a count-min sketch the sum of others of its size, each multiplied by a weight", Complexity: "O(N) in the counters of all sketches", Since: "Bloom 2.0.0"},
	{Name: "CMS.INFO", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupCountMin, Action: "cache:Get", run: cmsInfo,
		Usage: "key", Summary: "Tells the width, the depth and the count of a count-min sketch", Complexity: "O(1)", Since: "Bloom 2.0.0"},
}

var (
	errNoCountMin       = bare(fault.NotFound, "CMS: key does not exist")
	errCountMinOverflow = bare(fault.Overflow, "CMS: INCRBY overflow")
	errMergeOverflow    = bare(fault.Overflow, "CMS: MERGE overflow")
)

func parseCountMinDim(args [][]byte) (width, depth int64, err error) {
	width, ok := parseInt(args[2])
	if !ok || width < 1 {
		return 0, 0, bare(fault.OutOfRange, "CMS: invalid width")
	}
	if depth, ok = parseInt(args[3]); !ok || depth < 1 {
		return 0, 0, bare(fault.OutOfRange, "CMS: invalid depth")
	}
	if depth > maxCountMinDepth {
		return 0, 0, bare(fault.OutOfRange, "CMS: invalid depth: it is at most %d", maxCountMinDepth)
	}
	return width, depth, nil
}

func parseCountMinProb(args [][]byte) (width, depth int64, err error) {
	rate, ok := parseFloat(args[2])
	if !ok || !(rate > 0 && rate < 1) {
		return 0, 0, bare(fault.OutOfRange, "CMS: invalid overestimation value")
	}
	probability, ok := parseFloat(args[3])
	if !ok || !(probability > 0 && probability < 1) {
		return 0, 0, bare(fault.OutOfRange, "CMS: invalid prob value")
	}
	if width = math.MaxInt64; 2/rate < 1<<62 {
		width = int64(math.Ceil(2 / rate))
	}
	return width, min(halvings(probability), maxCountMinDepth), nil
}

// halvings is how many times 1 has to be halved until it is at most p, which is below 1.
func halvings(p float64) int64 {
	_, e := math.Frexp(p) // p is at least 2 to the power e-1
	return int64(1 - e)
}

func countMinSize(width, depth int64) int64 {
	n := atMost(4, atMost(width, depth))
	if n > math.MaxInt64-countMinHead {
		return math.MaxInt64
	}
	return countMinHead + n
}

func countMinDimSize(args [][]byte) (int64, error) {
	width, depth, err := parseCountMinDim(args)
	return countMinSize(width, depth), err
}

func countMinProbSize(args [][]byte) (int64, error) {
	width, depth, err := parseCountMinProb(args)
	return countMinSize(width, depth), err
}

func (s countMin) width() uint64 { return binary.LittleEndian.Uint64(s[8:]) }
func (s countMin) depth() int    { return int(binary.LittleEndian.Uint64(s[16:])) }
func (s countMin) total() int64  { return int64(binary.LittleEndian.Uint64(s[24:])) }

// counter is where an item has its counter in a row.
func (s countMin) counter(key rowKey, row int) int {
	return countMinHead + 4*(row*int(s.width())+int(uint64(key.hash(row))%s.width()))
}

// count is the least of an item's counters.
func (s countMin) count(item []byte) uint32 {
	key, least := rowKeyOf(item), uint32(math.MaxUint32)
	for row := range s.depth() {
		least = min(least, binary.LittleEndian.Uint32(s[s.counter(key, row):]))
	}
	return least
}

func (s countMin) check() error {
	if len(s) < countMinHead {
		return errors.New("M1: a count-min sketch without a head")
	}
	width, depth := binary.LittleEndian.Uint64(s[8:]), binary.LittleEndian.Uint64(s[16:])
	if width == 0 || depth == 0 || depth > maxCountMinDepth || width > HardMaxValue || int64(len(s)) != countMinSize(int64(width), int64(depth)) {
		return fmt.Errorf("M1: %d bytes for %d rows of %d counters", len(s), depth, width)
	}
	return nil
}

// initCountMin makes a sketch where there is nothing.
func (c *call) initCountMin(parse func(args [][]byte) (width, depth int64, err error)) error {
	key := c.args[1]
	if c.get(key) != nil {
		return bare(fault.Conflict, "CMS: key already exists")
	}
	width, depth, err := parse(c.args)
	if err != nil {
		return err
	}
	size := countMinSize(width, depth)
	if err := c.checkSketch(key, size, bare(fault.TooLarge, "CMS: Insufficient memory to create the key"), "width"); err != nil {
		return err
	}
	e := c.newSketch(key, countMinFamily, int(size), c.defaultDeadline())
	binary.LittleEndian.PutUint64(e.b[8:], uint64(width))
	binary.LittleEndian.PutUint64(e.b[16:], uint64(depth))
	c.out.Status("OK")
	return nil
}

// saturated adds numbers that are not negative, up to most.
func saturated(a, b, most int64) int64 {
	if b > most-a {
		return most
	}
	return a + b
}

func cmsIncrby(c *call) error {
	if len(c.args)%2 != 0 {
		return errArity(c)
	}
	b, it, err := c.sketchOf(c.args[1], countMinFamily)
	if err != nil {
		return err
	}
	if b == nil {
		return errNoCountMin
	}
	for i := 3; i < len(c.args); i += 2 {
		switch n, ok := parseInt(c.args[i]); {
		case !ok:
			return bare(fault.InvalidArgument, "CMS: Cannot parse number")
		case n < 0:
			return bare(fault.OutOfRange, "CMS: Number cannot be negative")
		}
	}
	e := c.editSketch(it)
	c.out.Array(len(c.args)/2 - 1)
	for i := 2; i < len(c.args); i += 2 {
		n, _ := parseInt(c.args[i+1])
		if least := e.countItem(c.args[i], n); least == math.MaxUint32 {
			c.out.Error(errCountMinOverflow)
		} else {
			c.out.Int(int64(least))
		}
	}
	return nil
}

// countItem counts an item n times more, and returns the least of its counters.
func (e *sketchEdit) countItem(item []byte, n int64) uint32 {
	s := countMin(e.b)
	key, least := rowKeyOf(item), uint32(math.MaxUint32)
	for row := range s.depth() {
		at := s.counter(key, row)
		v := uint32(saturated(int64(binary.LittleEndian.Uint32(e.b[at:])), n, math.MaxUint32))
		e.put32(at, v)
		least = min(least, v)
	}
	e.put64(24, uint64(saturated(s.total(), n, math.MaxInt64)))
	return least
}

func cmsQuery(c *call) error {
	b, err := c.readSketch(c.args[1], countMinFamily)
	if err != nil {
		return err
	}
	if b == nil {
		return errNoCountMin
	}
	c.out.Array(len(c.args) - 2)
	for _, item := range c.args[2:] {
		c.step()
		c.out.Int(int64(countMin(b).count(item)))
	}
	return nil
}

func cmsMergeRights(dst []Right, args [][]byte) []Right {
	dst = append(dst, Right{Action: "cache:Set", On: OnKey, Name: args[1]})
	for _, key := range (Keys{Count: 2}).counted(args) {
		dst = append(dst, Right{Action: "cache:Get", On: OnKey, Name: key})
	}
	return dst
}

// A weighed sketch is one that is merged, with its weight.
type weighed struct {
	s      countMin
	weight int64
}

// parseCountMinMerge returns the sketches to merge into one of the size of into, each once.
func (c *call) parseCountMinMerge(into countMin) ([]weighed, error) {
	n, ok := parseInt(c.args[2])
	if !ok {
		return nil, bare(fault.InvalidArgument, "CMS: invalid numkeys")
	}
	if n <= 0 {
		return nil, bare(fault.OutOfRange, "CMS: Number of keys must be positive")
	}
	rest, weights := c.args[3:], [][]byte(nil)
	for i, word := range rest {
		if is(word, "WEIGHTS") {
			if int64(i) != n || len(rest) != 2*i+1 {
				return nil, bare(fault.InvalidArgument, "CMS: wrong number of keys/weights")
			}
			weights = rest[i+1:]
			break
		}
	}
	if weights == nil && n != int64(len(rest)) {
		return nil, bare(fault.InvalidArgument, "CMS: wrong number of keys")
	}
	var merged []weighed
	place := map[string]int{}
	for i, key := range rest[:n] {
		weight := int64(1)
		if weights != nil {
			if weight, ok = parseInt(weights[i]); !ok {
				return nil, bare(fault.InvalidArgument, "CMS: invalid weight value")
			}
		}
		b, _, err := c.sketchOf(key, countMinFamily)
		if err != nil {
			return nil, err
		}
		s := countMin(b)
		switch {
		case b == nil:
			return nil, errNoCountMin
		case s.width() != into.width() || s.depth() != into.depth():
			return nil, bare(fault.InvalidArgument, "CMS: width/depth is not equal")
		}
		at, known := place[string(key)]
		if !known {
			place[string(key)] = len(merged)
			merged = append(merged, weighed{s, weight})
			continue
		}
		if merged[at].weight, ok = addInt(merged[at].weight, weight); !ok {
			return nil, errMergeOverflow
		}
	}
	return merged, nil
}

// addInt and mulInt compute in 64 bits; ok is false where that overflows.
func addInt(a, b int64) (sum int64, ok bool) {
	sum = a + b
	return sum, (sum > a) == (b > 0)
}

func mulInt(a, b int64) (product int64, ok bool) {
	product = a * b
	return product, a == 0 || product/a == b && !(a == -1 && b == math.MinInt64)
}

// weigh is the sum of what read finds in the sketches, each multiplied by its weight; ok is false where it is negative or over most.
func weigh(merged []weighed, most int64, read func(s countMin) int64) (sum int64, ok bool) {
	for _, m := range merged {
		product, ok := mulInt(read(m.s), m.weight)
		if !ok {
			return 0, false
		}
		if sum, ok = addInt(sum, product); !ok {
			return 0, false
		}
	}
	return sum, 0 <= sum && sum <= most
}

func cmsMerge(c *call) error {
	into, it, err := c.sketchOf(c.args[1], countMinFamily)
	if err != nil {
		return err
	}
	if into == nil {
		return errNoCountMin
	}
	merged, err := c.parseCountMinMerge(into)
	if err != nil {
		return err
	}
	total, ok := weigh(merged, math.MaxInt64, countMin.total)
	for at := countMinHead; ok && at < len(into); at += 4 {
		_, ok = weigh(merged, math.MaxUint32, func(s countMin) int64 { return int64(binary.LittleEndian.Uint32(s[at:])) })
	}
	if !ok {
		return errMergeOverflow
	}
	e := c.editSketch(it)
	e.keep(0, len(e.b))
	for at := countMinHead; at < len(e.b); at += 4 { // a counter of the destination is read before it is written
		sum, _ := weigh(merged, math.MaxUint32, func(s countMin) int64 { return int64(binary.LittleEndian.Uint32(s[at:])) })
		binary.LittleEndian.PutUint32(e.b[at:], uint32(sum))
	}
	binary.LittleEndian.PutUint64(e.b[24:], uint64(total))
	c.out.Status("OK")
	return nil
}

func cmsInfo(c *call) error {
	b, err := c.readSketch(c.args[1], countMinFamily)
	if err != nil {
		return err
	}
	if b == nil {
		return errNoCountMin
	}
	s := countMin(b)
	c.out.Map(3)
	c.out.Status("width")
	c.out.Int(int64(s.width()))
	c.out.Status("depth")
	c.out.Int(int64(s.depth()))
	c.out.Status("count")
	c.out.Int(s.total())
	return nil
}
