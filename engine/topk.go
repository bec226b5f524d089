package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/larder-cache/larder/internal/fault"
)

// A topK keeps the k most frequent of all items that it was given: HeavyKeeper (Gong and others, USENIX ATC 2018). Each item
// has one bucket in each row, a fingerprint with a count. An item that meets another's fingerprint takes one from its count,
// the less likely the higher that is, and the bucket when nothing is left. The items with the highest counts stand in a heap,
// the lowest first.
//
//	family (1 byte)  unused (3)  k (4)  width (4)  depth (4)  decay (8)  bytes in use behind the heap (4)  of them by items (4)
//	buckets, row by row: fingerprint (4)  count (4)
//	k places of the heap: fingerprint (4)  count (4)  where its item begins (4)  item's length (4)
//	items, and room for more
//
//	T1: the record is as long as its parts, and no item ends behind the bytes in use
//	T2: the heap's items have as many bytes as it says; a place without a count has no item
//	T3: no place of the heap has a higher count than one that is below it
type topK []byte

const (
	topKHead      = 32
	topKBucket    = 8
	topKPlace     = 16
	maxTopK       = 1 << 16 // items: so many an addition looks at
	maxTopKDepth  = 256     // buckets of an item
	maxTopKWidth  = math.MaxUint32
	maxTopKAdd    = 100_000 // that TOPK.INCRBY adds at once
	topKDraws     = 64      // of the dice that one addition makes for a row; see decayed
	topKItemsSpan = 64      // the record grows by so many bytes at least
)

var topKCommands = []Command{
	{Name: "TOPK.RESERVE", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupTopK, Action: "cache:Set", Facts: sizeFacts(topKReserveSize), room: roomFor(topKReserveSize), run: topkReserve,
		Usage: "key topk [width depth decay]", Summary: "Makes an empty Top-k", Complexity: "O(1)", Since: "Bloom 2.0.0"},
	{Name: "TOPK.ADD", Arity: -3, Keys: oneKey, Flags: Writes | Grows, Group: GroupTopK, Action: "cache:Set", Facts: itemFacts(2, 1), run: topkAdd,
		Usage: "key item [item ...]", Summary: "Counts items, and says for each which item left the Top-k for it", Complexity: "O(N*(K+D)) in the numbers of items given, items kept and rows", Since: "Bloom 2.0.0"},
	{Name: "TOPK.INCRBY", Arity: -4, Keys: oneKey, Flags: Writes | Grows, Group: GroupTopK, Action: "cache:Set", Facts: itemFacts(2, 2), run: topkIncrby,
		Usage: "key item increment [item increment ...]", Summary: "Counts items, each so many times more, and says which items left the Top-k", Complexity: "O(N*(K+D)) in the numbers of items given, items kept and rows", Since: "Bloom 2.0.0"},
	{Name: "TOPK.QUERY", Arity: -3, Keys: oneKey, Group: GroupTopK, Action: "cache:Get", run: topkQuery,
		Usage: "key item [item ...]", Summary: "Says which items are among the most frequent", Complexity: "O(N*K) in the numbers of items given and kept", Since: "Bloom 2.0.0"},
	{Name: "TOPK.COUNT", Arity: -3, Keys: oneKey, Group: GroupTopK, Action: "cache:Get", run: topkCount,
		Usage: "key item [item ...]", Summary: "Estimates how often items were counted, which is seldom too much", Complexity: "O(N*(K+D)) in the numbers of items given, items kept and rows", Since: "Bloom 2.0.0"},
	{Name: "TOPK.LIST", Arity: -2, Keys: oneKey, Group: GroupTopK, Action: "cache:Get", run: topkList,
		Usage: "key [WITHCOUNT]", Summary: "Lists the most frequent items, the most frequent first", Complexity: "O(K*log(K)) in the number of items kept", Since: "Bloom 2.0.0"},
	{Name: "TOPK.INFO", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupTopK, Action: "cache:Get", run: topkInfo,
		Usage: "key", Summary: "Tells the shape of a Top-k", Complexity: "O(1)", Since: "Bloom 2.0.0"},
}

var (
	errNoTopK       = bare(fault.NotFound, "TopK: key does not exist")
	errTopKAddition = bare(fault.OutOfRange, "TopK: increment must be an integer greater or equal to 0 and smaller or equal to 100,000")
)

// A topKShape is what a Top-k is asked to be.
type topKShape struct {
	k, width, depth int64
	decay           float64
}

// size is the length of an empty one.
func (s *topKShape) size() int64 {
	n := atMost(topKBucket, atMost(s.width, s.depth))
	if n > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return topKHead + n + topKPlace*s.k
}

func parseTopKReserve(args [][]byte) (s topKShape, err error) {
	s = topKShape{width: 8, depth: 7, decay: 0.9}
	var ok bool
	if s.k, ok = parseInt(args[2]); !ok || s.k < 1 || s.k > maxTopK {
		return s, bare(fault.OutOfRange, "TopK: invalid k: it is between 1 and %d", maxTopK)
	}
	if len(args) != 6 {
		return s, nil
	}
	if s.width, ok = parseInt(args[3]); !ok || s.width < 1 || s.width > maxTopKWidth {
		return s, bare(fault.OutOfRange, "TopK: invalid width")
	}
	if s.depth, ok = parseInt(args[4]); !ok || s.depth < 1 || s.depth > maxTopKDepth {
		return s, bare(fault.OutOfRange, "TopK: invalid depth: it is between 1 and %d", maxTopKDepth)
	}
	if s.decay, ok = parseFloat(args[5]); !ok || !(s.decay > 0 && s.decay <= 1) {
		return s, bare(fault.OutOfRange, "TopK: invalid decay value. must be '<= 1' & '> 0'")
	}
	return s, nil
}

func topKReserveSize(args [][]byte) (int64, error) {
	s, err := parseTopKReserve(args)
	if err != nil {
		return 0, err
	}
	return s.size(), nil
}

func (t topK) read32(at int) uint32 { return binary.LittleEndian.Uint32(t[at:]) }

func (t topK) k() int         { return int(t.read32(4)) }
func (t topK) width() int     { return int(t.read32(8)) }
func (t topK) depth() int     { return int(t.read32(12)) }
func (t topK) decay() float64 { return math.Float64frombits(binary.LittleEndian.Uint64(t[16:])) }
func (t topK) inUse() int     { return int(t.read32(24)) }
func (t topK) byItems() int   { return int(t.read32(28)) }

// heap is where the heap begins, items where the items do.
func (t topK) heap() int  { return topKHead + topKBucket*t.width()*t.depth() }
func (t topK) items() int { return t.heap() + topKPlace*t.k() }

// place is where place i of the heap stands.
func (t topK) place(i int) int { return t.heap() + topKPlace*i }

func (t topK) countAt(i int) uint32 { return t.read32(t.place(i) + 4) }

// itemAt is the item in place i of the heap.
func (t topK) itemAt(i int) []byte {
	at := t.place(i)
	from, n := t.items()+int(t.read32(at+8)), int(t.read32(at+12))
	return t[from : from+n]
}

// A topKItem is what a Top-k knows of an item.
type topKItem struct {
	text  []byte
	key   rowKey
	print uint32
}

func hashTopK(item []byte) topKItem {
	key := rowKeyOf(item)
	return topKItem{item, key, key.hash(1919)} // a seed that is no row's
}

// bucket is where an item's bucket in a row stands.
func (t topK) bucket(it *topKItem, row int) int {
	return topKHead + topKBucket*(row*t.width()+int(it.key.hash(row))%t.width())
}

// find returns an item's place in the heap, -1 for none.
func (t topK) find(it *topKItem) int {
	heap := t[t.heap():t.items()]
	for i := 0; i*topKPlace < len(heap); i++ {
		p := heap[i*topKPlace:]
		if binary.LittleEndian.Uint32(p) == it.print && binary.LittleEndian.Uint32(p[4:]) > 0 && bytes.Equal(t.itemAt(i), it.text) {
			return i
		}
	}
	return -1
}

// count estimates how often an item was counted. Of one that is in the heap, buckets below the heap's lowest count are
// those of others that were decayed.
func (t topK) count(it *topKItem) (most uint32) {
	lowest := uint32(0)
	if t.find(it) >= 0 {
		lowest = t.countAt(0)
	}
	for row := range t.depth() {
		at := t.bucket(it, row)
		if n := t.read32(at + 4); t.read32(at) == it.print && n >= lowest {
			most = max(most, n)
		}
	}
	return most
}

func (t topK) check() error {
	if len(t) < topKHead {
		return errors.New("T1: a Top-k without a head")
	}
	k, width, depth, decay := int64(t.read32(4)), int64(t.read32(8)), int64(t.read32(12)), t.decay()
	s := topKShape{k: k, width: width, depth: depth}
	if k == 0 || k > maxTopK || width == 0 || depth == 0 || depth > maxTopKDepth || !(decay > 0 && decay <= 1) || s.size()+int64(t.read32(24)) > int64(len(t)) {
		return fmt.Errorf("T1: %d bytes for %+v with decay %g and %d bytes of items", len(t), s, decay, t.read32(24))
	}
	items := 0
	for i := range t.k() {
		at := t.place(i)
		n := int(t.read32(at + 12))
		if int(t.read32(at+8))+n > t.inUse() {
			return fmt.Errorf("T1: item %d ends behind the bytes in use", i)
		}
		if n > 0 && t.countAt(i) == 0 {
			return fmt.Errorf("T2: place %d has an item without a count", i)
		}
		if i > 0 && t.countAt((i-1)/2) > t.countAt(i) {
			return fmt.Errorf("T3: place %d has a lower count than the one above", i)
		}
		items += n
	}
	if items != t.byItems() {
		return fmt.Errorf("T2: items have %d bytes, %d are counted", items, t.byItems())
	}
	return nil
}

func topkReserve(c *call) error {
	if len(c.args) != 3 && len(c.args) != 6 {
		return errArity(c)
	}
	key := c.args[1]
	if c.get(key) != nil {
		return bare(fault.Conflict, "TopK: key already exists")
	}
	s, err := parseTopKReserve(c.args)
	if err != nil {
		return err
	}
	if err := c.checkSketch(key, s.size(), fault.New(fault.TooLarge, c.cmd.Name, "Insufficient memory to create topk data structure"), "width"); err != nil {
		return err
	}
	e := c.newSketch(key, topKFamily, int(s.size()), c.defaultDeadline())
	le := binary.LittleEndian
	le.PutUint32(e.b[4:], uint32(s.k))
	le.PutUint32(e.b[8:], uint32(s.width))
	le.PutUint32(e.b[12:], uint32(s.depth))
	le.PutUint64(e.b[16:], math.Float64bits(s.decay))
	c.out.Status("OK")
	return nil
}

// editTopK begins to change the Top-k under the first key; every step-th argument is an item, and there is room for all.
func (c *call) editTopK(step int) (e sketchEdit, err error) {
	b, it, err := c.sketchOf(c.args[1], topKFamily)
	if err != nil {
		return e, err
	}
	if b == nil {
		return e, errNoTopK
	}
	size := int64(topK(b).items() + topK(b).byItems() + topKItemsSpan)
	for i := 2; i < len(c.args); i += step {
		size += int64(len(c.args[i]))
	}
	if limit, name := c.cache.sketchLimit(); size > limit {
		return e, fault.About(fault.TooLarge, c.cmd.Name, "item", "the Top-k may take %d bytes with these items. Limit: %d bytes (%s)", size, limit, name)
	}
	return c.editSketch(it), nil
}

func topkAdd(c *call) error {
	e, err := c.editTopK(1)
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	for _, item := range c.args[2:] {
		e.addTopK(item, 1)
	}
	return nil
}

func topkIncrby(c *call) error {
	if len(c.args)%2 != 0 {
		return errArity(c)
	}
	for i := 3; i < len(c.args); i += 2 {
		if n, ok := parseInt(c.args[i]); !ok || n < 0 || n > maxTopKAdd {
			return errTopKAddition
		}
	}
	e, err := c.editTopK(2)
	if err != nil {
		return err
	}
	c.out.Array(len(c.args)/2 - 1)
	for i := 2; i < len(c.args); i += 2 {
		n, _ := parseInt(c.args[i+1])
		e.addTopK(c.args[i], uint32(n))
	}
	return nil
}

// addTopK counts an item n times more, and answers with the item that left the heap for it, null for none.
func (e *sketchEdit) addTopK(item []byte, n uint32) {
	it, out := hashTopK(item), e.c.out
	most := e.countTopK(&it, n)
	t := topK(e.b)
	if most == 0 || most < t.countAt(0) {
		out.Null()
		return
	}
	if i := t.find(&it); i >= 0 {
		out.Null()
		e.put32(t.place(i)+4, most)
		e.sift(i)
		return
	}
	if t.countAt(0) == 0 {
		out.Null()
	} else {
		out.Bulk(t.itemAt(0))
	}
	e.replaceLowest(&it, most)
	e.sift(0)
}

// countTopK counts an item in its buckets, and returns the highest count among those that are its own then.
func (e *sketchEdit) countTopK(it *topKItem, n uint32) (most uint32) {
	t := topK(e.b)
	for row := range t.depth() {
		at := t.bucket(it, row)
		count, left := t.read32(at+4), n
		if count > 0 && t.read32(at) != it.print {
			var after uint32
			if after, left = e.decayed(t.decay(), count, n); left == 0 {
				if after != count {
					e.put32(at+4, after)
				}
				continue
			}
			count = 0
		}
		count = uint32(saturated(int64(count), int64(left), math.MaxUint32))
		e.put32(at, it.print)
		e.put32(at+4, count)
		most = max(most, count)
	}
	return most
}

// decayed is a bucket's count after an item with another fingerprint was counted there n times, each of which takes one away
// with the probability of decay to the power count. When nothing is left, left is how many of n are the item's own.
//
// The first topKDraws times the dice decide. From then on as much goes as would on average, so that a large n costs no more.
func (e *sketchEdit) decayed(decay float64, count, n uint32) (after, left uint32) {
	dice := e.c.p.random()
	for range topKDraws {
		if n == 0 {
			return count, 0
		}
		if p := powInt(decay, count); p == 1 || dice.Float64() < p {
			if count--; count == 0 {
				return 0, n
			}
		}
		n--
	}
	return decayedOnAverage(decay, count, n)
}

// decayedOnAverage is decayed without dice. To take one from a count of c needs 1/decay^c times on average, to take d from it
// (1-decay^d) / (1-decay) times that.
func decayedOnAverage(decay float64, count, n uint32) (after, left uint32) {
	if decay == 1 {
		if n < count {
			return count - n, 0
		}
		return 0, n - count + 1
	}
	p := powInt(decay, count)
	reach := float64(float64(n) * p * (1 - decay))
	if reach >= 1-p {
		return 0, n - min(uint32((1-p)/(p*(1-decay))), n-1)
	}
	return count - min(uint32(ln(1-reach)/ln(decay)), count-1), 0
}

// replaceLowest puts an item with a count into the heap's first place.
func (e *sketchEdit) replaceLowest(it *topKItem, count uint32) {
	t, n := topK(e.b), len(it.text)
	at := t.place(0)
	byItems := t.byItems() - int(t.read32(at+12)) + n
	e.put32(at+12, 0)
	if t.items()+t.inUse()+n > len(t) {
		t = e.tidyTopK(byItems)
	}
	from := t.inUse()
	e.put32(at, it.print)
	e.put32(at+4, count)
	e.put32(at+8, uint32(from))
	e.put32(at+12, uint32(n))
	e.keep(t.items()+from, n)
	copy(t[t.items()+from:], it.text)
	e.put32(24, uint32(from+n))
	e.put32(28, uint32(byItems))
}

// tidyTopK moves the items together so that there is room for byItems bytes of them, and as many again if the cache allows.
func (e *sketchEdit) tidyTopK(byItems int) topK {
	t := topK(e.b)
	if t.items()+2*byItems > len(t) {
		limit, _ := e.c.cache.sketchLimit()
		if n := min(t.items()+2*byItems+topKItemsSpan, int(limit)); n > len(t) {
			e.grow(n)
			t = e.b
		}
	}
	e.keep(t.heap(), len(t)-t.heap())
	var texts []byte
	for i := range t.k() {
		text := t.itemAt(i)
		binary.LittleEndian.PutUint32(t[t.place(i)+8:], uint32(len(texts)))
		texts = append(texts, text...)
	}
	copy(t[t.items():], texts)
	e.put32(24, uint32(len(texts)))
	return t
}

// sift moves place i of the heap to where its count belongs. Among equals it is as with RedisBloom: one of them comes to the top, so
// that the newest is not the first to go.
func (e *sketchEdit) sift(i int) {
	t := topK(e.b)
	for i > 0 && t.countAt((i-1)/2) > t.countAt(i) {
		e.swapPlaces(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for first := true; ; first = false {
		child := 2*i + 1
		if child+1 < t.k() && t.countAt(child) > t.countAt(child+1) {
			child++
		}
		if child >= t.k() || t.countAt(child) > t.countAt(i) || t.countAt(child) == t.countAt(i) && !first {
			return
		}
		e.swapPlaces(i, child)
		i = child
	}
}

func (e *sketchEdit) swapPlaces(i, j int) {
	t := topK(e.b)
	one, two := t.place(i), t.place(j)
	e.keep(one, topKPlace)
	e.keep(two, topKPlace)
	var kept [topKPlace]byte
	copy(kept[:], t[one:])
	copy(t[one:], t[two:two+topKPlace])
	copy(t[two:], kept[:])
}

// readTopK returns the Top-k under the first key for a command that reads.
func (c *call) readTopK() (topK, error) {
	b, err := c.readSketch(c.args[1], topKFamily)
	if err == nil && b == nil {
		err = errNoTopK
	}
	return b, err
}

func topkQuery(c *call) error {
	t, err := c.readTopK()
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	for _, item := range c.args[2:] {
		c.step()
		it := hashTopK(item)
		c.out.Bool(t.find(&it) >= 0)
	}
	return nil
}

func topkCount(c *call) error {
	t, err := c.readTopK()
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	for _, item := range c.args[2:] {
		c.step()
		it := hashTopK(item)
		c.out.Int(int64(t.count(&it)))
	}
	return nil
}

// topkList lists items of equal counts in the order of the heap, as RedisBloom does.
func topkList(c *call) error {
	withCount := len(c.args) == 3 && is(c.args[2], "WITHCOUNT")
	if len(c.args) > 3 {
		return errArity(c)
	}
	if len(c.args) == 3 && !withCount {
		return bare(fault.InvalidArgument, "WITHCOUNT keyword expected")
	}
	t, err := c.readTopK()
	if err != nil {
		return err
	}
	var places []int
	for i := range t.k() {
		if t.countAt(i) > 0 {
			places = append(places, i)
		}
	}
	slices.SortStableFunc(places, func(i, j int) int { return cmp.Compare(t.countAt(j), t.countAt(i)) })
	each := 1
	if withCount {
		each = 2
	}
	c.out.Array(each * len(places))
	for _, i := range places {
		c.out.Bulk(t.itemAt(i))
		if withCount {
			c.out.Int(int64(t.countAt(i)))
		}
	}
	return nil
}

func topkInfo(c *call) error {
	t, err := c.readTopK()
	if err != nil {
		return err
	}
	c.out.Map(4)
	c.out.Status("k")
	c.out.Int(int64(t.k()))
	c.out.Status("width")
	c.out.Int(int64(t.width()))
	c.out.Status("depth")
	c.out.Int(int64(t.depth()))
	c.out.Status("decay")
	c.out.Double(t.decay())
	return nil
}
