package engine

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/larder-cache/larder/internal/fault"
)

// A tDigest estimates how many of the values that were added to it are below another, and which value so many are below:
// the merging digest of Dunning and Ertl (arXiv:1902.04023) with the capacity and the bounds that RedisBloom gives it. Values
// are kept as they come until the record is full. Then neighbours are merged into centroids, a mean with a weight, which are
// small at both ends and large in the middle: the digest is exact about extremes.
//
//	family (1 byte)  unused (3)  compression (4)  least value (8)  greatest (8)
//	merged centroids (4)  values behind them (4)  weight of the merged (8)  of the others (8)  how often it was merged (8)
//	6*compression+10 centroids: mean (8)  weight (8)
//
// To read a digest is to merge a copy: a query leaves the state as it is.
//
//	D1: the record is as long as the compression says
//	D2: the weights of the merged and of the others are the sums of their centroids', each of which is at least 1
//	D3: the merged ascend, and no mean lies beyond the least and the greatest value
type tDigest []byte

const (
	tDigestHead           = 56
	tDigestNode           = 16
	defaultCompression    = 100
	maxTDigestCompression = 10_000 // so that one of a digest's merges, which any read may need, takes a few milliseconds
)

var tDigestCommands = []Command{
	{Name: "TDIGEST.CREATE", Arity: -2, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupTDigest, Action: "cache:Set", Facts: sizeFacts(tDigestCreateSize), room: roomFor(tDigestCreateSize), run: tdigestCreate,
		Usage: "key [COMPRESSION compression]", Summary: "Makes an empty t-digest", Complexity: "O(1)", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.RESET", Arity: 2, Keys: oneKey, Flags: Writes | Fast, Group: GroupTDigest, Action: "cache:Set", run: tdigestReset,
		Usage: "key", Summary: "Empties a t-digest", Complexity: "O(1)", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.ADD", Arity: -3, Keys: oneKey, Flags: Writes | Grows, Group: GroupTDigest, Action: "cache:Set", Facts: itemFacts(2, 1), run: tdigestAdd,
		Usage: "key value [value ...]", Summary: "Adds values to a t-digest", Complexity: "O(N) in the number of values, with a merge now and then", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.MERGE", Arity: -4, Keys: Keys{First: 1, Last: 1, Step: 1, Count: 2}, Flags: Writes | Grows, Group: GroupTDigest, Action: "cache:Set", Rights: cmsMergeRights, run: tdigestMerge,
		Usage: "destination numkeys source [source ...] [COMPRESSION compression] [OVERRIDE]", Summary: "Adds to a t-digest what was added to others", Complexity: "O(N) in the centroids of all digests", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.MIN", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupTDigest, Action: "cache:Get", run: tdigestMin,
		Usage: "key", Summary: "Returns the least value of a t-digest", Complexity: "O(1)", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.MAX", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupTDigest, Action: "cache:Get", run: tdigestMax,
		Usage: "key", Summary: "Returns the greatest value of a t-digest", Complexity: "O(1)", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.QUANTILE", Arity: -3, Keys: oneKey, Group: GroupTDigest, Action: "cache:Get", run: tdigestQuantile,
		Usage: "key quantile [quantile ...]", Summary: "Estimates the values below which such fractions of all values are", Complexity: "O(N) in the number of centroids, for each quantile", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.CDF", Arity: -3, Keys: oneKey, Group: GroupTDigest, Action: "cache:Get", run: tdigestCDF,
		Usage: "key value [value ...]", Summary: "Estimates the fractions of all values that are below values", Complexity: "O(N) in the number of centroids, for each value", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.RANK", Arity: -3, Keys: oneKey, Group: GroupTDigest, Action: "cache:Get", run: func(c *call) error { return tdigestRank(c, false) },
		Usage: "key value [value ...]", Summary: "Estimates how many values are below values", Complexity: "O(N) in the number of centroids, for each value", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.REVRANK", Arity: -3, Keys: oneKey, Group: GroupTDigest, Action: "cache:Get", run: func(c *call) error { return tdigestRank(c, true) },
		Usage: "key value [value ...]", Summary: "Estimates how many values are above values", Complexity: "O(N) in the number of centroids, for each value", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.BYRANK", Arity: -3, Keys: oneKey, Group: GroupTDigest, Action: "cache:Get", run: func(c *call) error { return tdigestByRank(c, false) },
		Usage: "key rank [rank ...]", Summary: "Estimates the values that so many are below", Complexity: "O(N) in the number of centroids, for each rank", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.BYREVRANK", Arity: -3, Keys: oneKey, Group: GroupTDigest, Action: "cache:Get", run: func(c *call) error { return tdigestByRank(c, true) },
		Usage: "key reverse_rank [reverse_rank ...]", Summary: "Estimates the values that so many are above", Complexity: "O(N) in the number of centroids, for each rank", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.TRIMMED_MEAN", Arity: 4, Keys: oneKey, Group: GroupTDigest, Action: "cache:Get", run: tdigestTrimmedMean,
		Usage: "key low_cut_quantile high_cut_quantile", Summary: "Estimates the mean of the values between two quantiles", Complexity: "O(N) in the number of centroids", Since: "Bloom 2.4.0"},
	{Name: "TDIGEST.INFO", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupTDigest, Action: "cache:Get", run: tdigestInfo,
		Usage: "key", Summary: "Describes a t-digest", Complexity: "O(1)", Since: "Bloom 2.4.0"},
}

func digestFault(kind fault.Kind, format string, args ...any) *fault.Error {
	return fault.New(kind, "engine.tdigest", "T-Digest: "+format, args...)
}

var (
	errNoTDigest      = digestFault(fault.NotFound, "key does not exist")
	errDigestOverflow = digestFault(fault.Overflow, "overflow detected")
)

// tDigestCapacity is how many centroids a digest has room for.
func tDigestCapacity(compression int64) int64 { return 6*compression + 10 }

func tDigestSize(compression int64) int64 {
	return tDigestHead + tDigestNode*tDigestCapacity(compression)
}

func parseCompression(arg []byte) (int64, error) {
	n, ok := parseInt(arg)
	switch {
	case !ok:
		return 0, digestFault(fault.InvalidArgument, "error parsing compression parameter")
	case n <= 0:
		return 0, digestFault(fault.OutOfRange, "compression parameter needs to be a positive integer")
	case n > maxTDigestCompression:
		return 0, digestFault(fault.OutOfRange, "compression parameter needs to be at most %d", maxTDigestCompression)
	}
	return n, nil
}

func parseTDigestCreate(args [][]byte) (compression int64, err error) {
	if len(args) < 4 {
		return defaultCompression, nil
	}
	if !is(args[2], "COMPRESSION") {
		return 0, digestFault(fault.InvalidArgument, "wrong keyword")
	}
	return parseCompression(args[3])
}

func tDigestCreateSize(args [][]byte) (int64, error) {
	n, err := parseTDigestCreate(args)
	return tDigestSize(n), err
}

func (d tDigest) read32(at int) uint32     { return binary.LittleEndian.Uint32(d[at:]) }
func (d tDigest) read64(at int) uint64     { return binary.LittleEndian.Uint64(d[at:]) }
func (d tDigest) readFloat(at int) float64 { return math.Float64frombits(d.read64(at)) }
func (d tDigest) compression() int64       { return int64(d.read32(4)) }
func (d tDigest) least() float64           { return d.readFloat(8) }
func (d tDigest) greatest() float64        { return d.readFloat(16) }
func (d tDigest) merged() int              { return int(d.read32(24)) }
func (d tDigest) others() int              { return int(d.read32(28)) }
func (d tDigest) mergedWeight() int64      { return int64(d.read64(32)) }
func (d tDigest) otherWeight() int64       { return int64(d.read64(40)) }
func (d tDigest) merges() uint64           { return d.read64(48) }
func (d tDigest) weight() int64            { return d.mergedWeight() + d.otherWeight() }
func (d tDigest) node(i int) (at int)      { return tDigestHead + tDigestNode*i }
func (d tDigest) capacity() int            { return int(tDigestCapacity(d.compression())) }
func (d tDigest) full() bool               { return d.merged()+d.others() >= d.capacity()-1 }

// A centroid is a mean of values, with how many there are.
type centroid struct {
	mean   float64
	weight int64
}

func (d tDigest) centroid(i int) centroid {
	at := d.node(i)
	return centroid{d.readFloat(at), int64(d.read64(at + 8))}
}

// mergedNodes returns the digest's centroids as they are after a merge, which the digest itself does not do.
func (d tDigest) mergedNodes() []centroid {
	nodes := make([]centroid, d.merged()+d.others())
	for i := range nodes {
		nodes[i] = d.centroid(i)
	}
	if d.others() == 0 {
		return nodes
	}
	return mergeCentroids(nodes, float64(d.compression()), float64(d.weight()))
}

// mergeCentroids sorts centroids of so much weight together, and merges neighbours where compression allows.
func mergeCentroids(nodes []centroid, compression, total float64) []centroid {
	slices.SortFunc(nodes, func(a, b centroid) int {
		if d := cmp.Compare(a.mean, b.mean); d != 0 {
			return d
		}
		return cmp.Compare(a.weight, b.weight)
	})
	if total <= 1 {
		return nodes
	}
	normalizer := compression / (2 * math.Pi * total * ln(total))
	at, before := 0, 0.0 // before is the weight of what stands before at
	for _, next := range nodes[1:] {
		cur := &nodes[at]
		weight := float64(cur.weight) + float64(next.weight)
		z, q0, q2 := weight*normalizer, before/total, (before+weight)/total
		if z <= q0*(1-q0) && z <= q2*(1-q2) {
			cur.mean = average(cur.mean, float64(cur.weight), next.mean, float64(next.weight))
			cur.weight += next.weight
			continue
		}
		before += float64(cur.weight)
		at++
		nodes[at] = next
	}
	return nodes[:at+1]
}

// average is the mean of two values with their weights, between the two, of which the first is not the greater. It does not
// overflow, and is the same on every machine.
func average(a, weightA, b, weightB float64) float64 {
	share := weightB / (weightA + weightB)
	mean := a + float64((b-a)*share)
	if math.IsInf(b-a, 0) {
		mean = float64(a*(1-share)) + float64(b*share)
	}
	return min(max(mean, a), b)
}

func (d tDigest) check() error {
	if len(d) < tDigestHead {
		return errors.New("D1: a t-digest without a head")
	}
	if n := d.compression(); n < 1 || n > maxTDigestCompression || int64(len(d)) != tDigestSize(n) {
		return fmt.Errorf("D1: %d bytes for a compression of %d", len(d), n)
	}
	if int64(d.read32(24))+int64(d.read32(28)) > int64(d.capacity()) {
		return fmt.Errorf("D1: %d and %d centroids in room for %d", d.read32(24), d.read32(28), d.capacity())
	}
	var merged, others int64
	last := math.Inf(-1)
	for i := range d.merged() + d.others() {
		n := d.centroid(i)
		if n.weight < 1 {
			return fmt.Errorf("D2: centroid %d has a weight of %d", i, n.weight)
		}
		if !(d.least() <= n.mean && n.mean <= d.greatest()) {
			return fmt.Errorf("D3: centroid %d at %g is beyond %g and %g", i, n.mean, d.least(), d.greatest())
		}
		if i >= d.merged() {
			others += n.weight
			continue
		}
		if merged += n.weight; n.mean < last {
			return fmt.Errorf("D3: centroid %d at %g comes after %g", i, n.mean, last)
		}
		last = n.mean
	}
	if merged != d.mergedWeight() || others != d.otherWeight() {
		return fmt.Errorf("D2: centroids of %d and %d are counted as %d and %d", merged, others, d.mergedWeight(), d.otherWeight())
	}
	return nil
}

// clearTDigest makes a digest empty.
func (e *sketchEdit) clearTDigest() {
	e.keep(8, tDigestHead-8)
	clear(e.b[8:tDigestHead])
	binary.LittleEndian.PutUint64(e.b[8:], math.Float64bits(math.MaxFloat64))
	binary.LittleEndian.PutUint64(e.b[16:], math.Float64bits(-math.MaxFloat64))
}

// newTDigest makes an empty digest under key, in the place of whatever was there.
func (c *call) newTDigest(key []byte, compression, expireAt int64) sketchEdit {
	e := c.newSketch(key, tDigestFamily, int(tDigestSize(compression)), expireAt)
	binary.LittleEndian.PutUint32(e.b[4:], uint32(compression))
	e.clearTDigest()
	return e
}

// addValue adds a finite value, so many times. The weights' sum fits: whoever adds has seen to it.
func (e *sketchEdit) addValue(v float64, weight int64) {
	d := tDigest(e.b)
	if d.full() {
		e.mergeTDigest()
	}
	le, i := binary.LittleEndian, d.merged()+d.others()
	e.keep(8, tDigestHead-8)
	le.PutUint64(d[8:], math.Float64bits(min(d.least(), v)))
	le.PutUint64(d[16:], math.Float64bits(max(d.greatest(), v)))
	le.PutUint32(d[28:], uint32(d.others()+1))
	le.PutUint64(d[40:], uint64(d.otherWeight()+weight))
	e.keep(d.node(i), tDigestNode)
	le.PutUint64(d[d.node(i):], math.Float64bits(v))
	le.PutUint64(d[d.node(i)+8:], uint64(weight))
}

// mergeTDigest merges what was added since the last time.
func (e *sketchEdit) mergeTDigest() {
	d, le := tDigest(e.b), binary.LittleEndian
	nodes := d.mergedNodes()
	e.keep(24, len(d)-24)
	for i, n := range nodes {
		le.PutUint64(d[d.node(i):], math.Float64bits(n.mean))
		le.PutUint64(d[d.node(i)+8:], uint64(n.weight))
	}
	clear(d[d.node(len(nodes)):])
	weight := d.weight()
	le.PutUint32(d[24:], uint32(len(nodes)))
	le.PutUint32(d[28:], 0)
	le.PutUint64(d[32:], uint64(weight))
	le.PutUint64(d[40:], 0)
	le.PutUint64(d[48:], d.merges()+1)
}

func tdigestCreate(c *call) error {
	if len(c.args) != 2 && len(c.args) != 4 {
		return errArity(c)
	}
	key := c.args[1]
	if _, it, err := c.sketchOf(key, tDigestFamily); err != nil {
		return err
	} else if it != nil {
		return digestFault(fault.Conflict, "key already exists")
	}
	compression, err := parseTDigestCreate(c.args)
	if err != nil {
		return err
	}
	if err := c.checkSketch(key, tDigestSize(compression), digestFault(fault.TooLarge, "allocation failed"), "compression"); err != nil {
		return err
	}
	c.newTDigest(key, compression, c.defaultDeadline())
	c.out.Status("OK")
	return nil
}

// openTDigest returns the digest under the first key with its item.
func (c *call) openTDigest() (tDigest, *item, error) {
	b, it, err := c.sketchOf(c.args[1], tDigestFamily)
	if err == nil && b == nil {
		err = errNoTDigest
	}
	return b, it, err
}

// readTDigest is openTDigest for a command that reads.
func (c *call) readTDigest() (tDigest, error) {
	b, err := c.readSketch(c.args[1], tDigestFamily)
	if err == nil && b == nil {
		err = errNoTDigest
	}
	return b, err
}

func tdigestReset(c *call) error {
	_, it, err := c.openTDigest()
	if err != nil {
		return err
	}
	e := c.editSketch(it)
	e.clearTDigest()
	c.out.Status("OK")
	return nil
}

func tdigestAdd(c *call) error {
	d, it, err := c.openTDigest()
	if err != nil {
		return err
	}
	for _, arg := range c.args[2:] {
		v, ok := parseFloat(arg)
		switch {
		case !ok:
			return digestFault(fault.InvalidArgument, "error parsing val parameter")
		case math.IsInf(v, 0):
			return digestFault(fault.OutOfRange, "val parameter needs to be a finite number")
		}
	}
	if _, ok := addInt(d.weight(), int64(len(c.args))); !ok {
		return errDigestOverflow
	}
	e := c.editSketch(it)
	for _, arg := range c.args[2:] {
		v, _ := parseFloat(arg)
		e.addValue(v, 1)
	}
	c.out.Status("OK")
	return nil
}

// A tDigestMerge is what TDIGEST.MERGE is asked for.
type tDigestMerge struct {
	sources     [][]byte
	compression int64 // 0 for the highest of all sources
	override    bool
}

func parseTDigestMerge(c *call, into tDigest) (m tDigestMerge, err error) {
	n, ok := parseInt(c.args[2])
	switch {
	case !ok:
		return m, digestFault(fault.InvalidArgument, "error parsing numkeys")
	case n <= 0:
		return m, digestFault(fault.OutOfRange, "numkeys needs to be a positive integer")
	case n > int64(len(c.args)-3):
		return m, errArity(c)
	}
	m.sources = c.args[3 : 3+n]
	named := false
	for rest := c.args[3+n:]; len(rest) > 0; rest = rest[1:] {
		switch {
		case is(rest[0], "OVERRIDE"):
			m.override = true
		case !is(rest[0], "COMPRESSION"):
			return m, digestFault(fault.InvalidArgument, "wrong keyword")
		case len(rest) == 1:
			return m, errArity(c)
		default:
			if m.compression, err = parseCompression(rest[1]); err != nil {
				return m, err
			}
			named, rest = true, rest[1:]
		}
	}
	if !named && into != nil && !m.override {
		m.compression = into.compression()
	}
	return m, nil
}

// A digestSource is a digest that is merged, so many times.
type digestSource struct {
	d     tDigest
	times int64
}

// digestSources returns the digests to merge, each once, and their highest compression.
func (c *call) digestSources(m *tDigestMerge, into tDigest) (list []digestSource, highest int64, err error) {
	place := map[string]int{}
	if into != nil && !m.override {
		place[string(c.args[1])], list = 0, append(list, digestSource{into, 1})
	}
	for _, key := range m.sources {
		b, _, err := c.sketchOf(key, tDigestFamily)
		if err != nil {
			return nil, 0, err
		}
		if b == nil {
			return nil, 0, errNoTDigest
		}
		highest = max(highest, tDigest(b).compression())
		if at, known := place[string(key)]; known {
			list[at].times++
			continue
		}
		place[string(key)], list = len(list), append(list, digestSource{b, 1})
	}
	weight := int64(0)
	for _, s := range list {
		w, ok := mulInt(s.d.weight(), s.times)
		if ok {
			weight, ok = addInt(weight, w)
		}
		if !ok {
			return nil, 0, errDigestOverflow
		}
	}
	return list, highest, nil
}

func tdigestMerge(c *call) error {
	key := c.args[1]
	into, it, err := c.sketchOf(key, tDigestFamily)
	if err != nil {
		return err
	}
	m, err := parseTDigestMerge(c, into)
	if err != nil {
		return err
	}
	list, highest, err := c.digestSources(&m, into)
	if err != nil {
		return err
	}
	if m.compression == 0 {
		m.compression = highest
	}
	if err := c.checkSketch(key, tDigestSize(m.compression), digestFault(fault.TooLarge, "allocation of destination digest failed"), "compression"); err != nil {
		return err
	}
	result := sketchEdit{b: make([]byte, tDigestSize(m.compression))} // into may be a source, and is overwritten
	binary.LittleEndian.PutUint32(result.b[4:], uint32(m.compression))
	result.clearTDigest()
	for _, s := range list {
		result.mergeFrom(s)
	}
	at := c.defaultDeadline()
	if it != nil {
		at = it.expireAt
	}
	e := c.newSketch(key, tDigestFamily, len(result.b), at)
	copy(e.b[1:], result.b[1:])
	c.out.Status("OK")
	return nil
}

// mergeFrom adds what another digest has.
func (e *sketchEdit) mergeFrom(s digestSource) {
	if s.d.weight() == 0 {
		return
	}
	for _, n := range s.d.mergedNodes() {
		e.addValue(n.mean, n.weight*s.times)
	}
	d := tDigest(e.b) // the centroids' means may fall short of the values at the ends
	binary.LittleEndian.PutUint64(d[8:], math.Float64bits(min(d.least(), s.d.least())))
	binary.LittleEndian.PutUint64(d[16:], math.Float64bits(max(d.greatest(), s.d.greatest())))
}

// A distribution is a digest that is merged, for who asks.
type distribution struct {
	nodes           []centroid
	before          []float64 // the weight of all centroids before each
	total           float64
	least, greatest float64
}

func (d tDigest) distribution() *distribution {
	s := &distribution{nodes: d.mergedNodes(), total: float64(d.weight()), least: d.least(), greatest: d.greatest()}
	s.before = make([]float64, len(s.nodes))
	sum := int64(0)
	for i, n := range s.nodes {
		s.before[i] = float64(sum)
		sum += n.weight
	}
	return s
}

func (s *distribution) weight(i int) float64 { return float64(s.nodes[i].weight) }

// center is the rank at which centroid i is taken to lie.
func (s *distribution) center(i int) float64 { return s.before[i] + s.weight(i)/2 }

// quantile estimates the value that the fraction q of all values is below, NaN of none.
func (s *distribution) quantile(q float64) float64 {
	n := len(s.nodes)
	switch n {
	case 0:
		return math.NaN()
	case 1:
		return s.nodes[0].mean
	}
	first, last := s.weight(0), s.weight(n-1)
	switch index := q * s.total; {
	case index < 1:
		return s.least
	case first > 1 && index < first/2: // one of them lies at the least value
		return average(s.least, first/2-index, s.nodes[0].mean, index-1)
	case index >= s.total-1:
		return s.greatest
	case last > 1 && s.total-index <= last/2:
		return average(s.nodes[n-1].mean, s.total-index-1, s.greatest, last/2-(s.total-index))
	default:
		return s.between(index)
	}
}

// between estimates the value at a rank between the centers of the first and the last centroid.
func (s *distribution) between(index float64) float64 {
	i := sort.Search(len(s.nodes)-2, func(i int) bool { return s.center(i+1) > index })
	left, right := s.nodes[i], s.nodes[i+1]
	from, to := s.center(i), s.center(i+1)
	if left.weight == 1 { // which lies at its mean, as a whole
		if index-from < 0.5 {
			return left.mean
		}
		from += 0.5
	}
	if right.weight == 1 {
		if to-index <= 0.5 {
			return right.mean
		}
		to -= 0.5
	}
	return average(left.mean, to-index, right.mean, index-from)
}

// cdf estimates the fraction of all values that are below v, with half of those that are equal; NaN of none.
func (s *distribution) cdf(v float64) float64 {
	n := len(s.nodes)
	switch {
	case n == 0:
		return math.NaN()
	case v < s.least:
		return 0
	case v > s.greatest:
		return 1
	case n == 1 && s.greatest > s.least && s.nodes[0].weight > 1:
		return along(v, s.least, s.greatest)
	case n == 1:
		return 0.5
	case v < s.nodes[0].mean:
		return s.tail(along(v, s.least, s.nodes[0].mean), s.weight(0))
	case v > s.nodes[n-1].mean:
		return 1 - s.tail(along(v, s.greatest, s.nodes[n-1].mean), s.weight(n-1))
	}
	i := sort.Search(n, func(i int) bool { return s.nodes[i].mean >= v })
	if i == n-1 && s.nodes[i].mean == v {
		return 1 - 0.5/s.total
	}
	if s.nodes[i].mean == v {
		equal := sort.Search(n, func(i int) bool { return s.nodes[i].mean > v })
		end := s.total
		if equal < n {
			end = s.before[equal]
		}
		return (s.before[i] + end) / 2 / s.total
	}
	left, right := s.nodes[i-1], s.nodes[i]
	from, to := s.center(i-1), s.center(i)
	switch {
	case left.weight == 1 && right.weight == 1: // the one is below, the other is not
		return (s.before[i-1] + 1) / s.total
	case left.weight == 1:
		from += 0.5
	case right.weight == 1:
		to -= 0.5
	}
	return (from + (to-from)*along(v, left.mean, right.mean)) / s.total
}

// along is how far v lies on the way from a value to another.
func along(v, from, to float64) float64 {
	if math.IsInf(to-from, 0) {
		v, from, to = v/2, from/2, to/2
	}
	return (v - from) / (to - from)
}

// tail is the fraction of all values between an end and a point on the way from there to the outermost centroid, of so much
// weight. One of its values lies at the end.
func (s *distribution) tail(way, weight float64) float64 {
	if way == 0 {
		return 0.5 / s.total
	}
	return (1 + way*(weight/2-1)) / s.total
}

// trimmedMean is the mean of the values between two quantiles.
func (s *distribution) trimmedMean(low, high float64) float64 {
	switch len(s.nodes) {
	case 0:
		return math.NaN()
	case 1:
		return s.nodes[0].mean
	}
	from, to := math.Floor(s.total*low), math.Ceil(s.total*high)
	sum, count := 0.0, 0.0
	for i, n := range s.nodes {
		begin, end := max(s.before[i], from), min(s.before[i]+s.weight(i), to)
		if end > begin {
			count += end - begin
			sum += (n.mean - sum) * (end - begin) / count // the mean so far, which cannot overflow as a sum can
		}
	}
	if count == 0 {
		return math.NaN()
	}
	return sum
}

// rank estimates how many values are below v and half of those that are equal, or above with reverse: -1 where v lies beyond
// all of them, -2 of an empty digest.
func (s *distribution) rank(v float64, reverse bool) int64 {
	below, above := int64(-1), int64(s.total)
	if reverse {
		below, above = above, below
	}
	switch {
	case s.total == 0:
		return -2
	case v < s.least:
		return below
	case v > s.greatest:
		return above
	}
	rank := s.cdf(v) * s.total
	if reverse {
		return int64(math.Round(s.total - math.Round(rank)))
	}
	return int64(math.Ceil(rank - 0.5)) // a half goes down
}

// byRank estimates the value of a rank, from the greatest with reverse.
func (s *distribution) byRank(rank float64, reverse bool) float64 {
	end, beyond := s.least, 1
	if reverse {
		end, beyond = s.greatest, -1
	}
	switch {
	case s.total == 0:
		return math.NaN()
	case rank == 0:
		return end
	case rank >= s.total:
		return math.Inf(beyond)
	case reverse:
		rank = s.total - rank - 1
	}
	return s.quantile(rank / s.total)
}

func tdigestMin(c *call) error { return tdigestEnd(c, tDigest.least) }
func tdigestMax(c *call) error { return tdigestEnd(c, tDigest.greatest) }

func tdigestEnd(c *call, end func(tDigest) float64) error {
	d, err := c.readTDigest()
	if err != nil {
		return err
	}
	if d.weight() == 0 {
		c.out.Double(math.NaN())
		return nil
	}
	c.out.Double(end(d))
	return nil
}

// askTDigest parses numbers and answers each. bad is the error for what is no number, check what else may be wrong with one.
func askTDigest(c *call, parse func(arg []byte) (float64, bool), bad string, check func(v float64) error, answer func(s *distribution, v float64)) error {
	d, err := c.readTDigest()
	if err != nil {
		return err
	}
	for _, arg := range c.args[2:] {
		v, ok := parse(arg)
		if !ok {
			return digestFault(fault.InvalidArgument, "%s", bad)
		}
		if err := check(v); err != nil {
			return err
		}
	}
	s := d.distribution()
	c.out.Array(len(c.args) - 2)
	for _, arg := range c.args[2:] {
		v, _ := parse(arg)
		answer(s, v)
		c.step()
	}
	return nil
}

func anyNumber(float64) error { return nil }

func tdigestQuantile(c *call) error {
	return askTDigest(c, parseFloat, "error parsing quantile", func(v float64) error {
		if v < 0 || v > 1 {
			return digestFault(fault.OutOfRange, "quantile should be in [0,1]")
		}
		return nil
	}, func(s *distribution, v float64) { c.out.Double(s.quantile(v)) })
}

func tdigestCDF(c *call) error {
	return askTDigest(c, parseFloat, "error parsing cdf", anyNumber, func(s *distribution, v float64) { c.out.Double(s.cdf(v)) })
}

func tdigestRank(c *call, reverse bool) error {
	return askTDigest(c, parseFloat, "error parsing value", anyNumber, func(s *distribution, v float64) { c.out.Int(s.rank(v, reverse)) })
}

func tdigestByRank(c *call, reverse bool) error {
	parse := func(arg []byte) (float64, bool) {
		n, ok := parseInt(arg)
		return float64(n), ok
	}
	return askTDigest(c, parse, "error parsing rank", func(v float64) error {
		if v < 0 {
			return digestFault(fault.OutOfRange, "rank needs to be non negative")
		}
		return nil
	}, func(s *distribution, v float64) { c.out.Double(s.byRank(v, reverse)) })
}

func tdigestTrimmedMean(c *call) error {
	d, err := c.readTDigest()
	if err != nil {
		return err
	}
	low, ok := parseFloat(c.args[2])
	if !ok {
		return digestFault(fault.InvalidArgument, "error parsing low_cut_percentile")
	}
	high, ok := parseFloat(c.args[3])
	switch {
	case !ok:
		return digestFault(fault.InvalidArgument, "error parsing high_cut_percentile")
	case low < 0 || low > 1 || high < 0 || high > 1:
		return digestFault(fault.OutOfRange, "low_cut_percentile and high_cut_percentile should be in [0,1]")
	case low >= high:
		return digestFault(fault.OutOfRange, "low_cut_percentile should be lower than high_cut_percentile")
	}
	c.out.Double(d.distribution().trimmedMean(low, high))
	return nil
}

func tdigestInfo(c *call) error {
	d, err := c.readTDigest()
	if err != nil {
		return err
	}
	facts := []struct {
		title string
		n     int64
	}{
		{"Compression", d.compression()}, {"Capacity", int64(d.capacity())}, {"Merged nodes", int64(d.merged())}, {"Unmerged nodes", int64(d.others())},
		{"Merged weight", d.mergedWeight()}, {"Unmerged weight", d.otherWeight()}, {"Observations", d.weight()}, {"Total compressions", int64(d.merges())},
		{"Memory usage", int64(len(d)) - tDigestHead + 80}, // RedisBloom's figure, which is a little more than the record's length
	}
	c.out.Map(len(facts))
	for _, fact := range facts {
		c.out.Status(fact.title)
		c.out.Int(fact.n)
	}
	return nil
}
