package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/larder-cache/larder/engine/dense"
)

// packedScores are the members of a small sorted set as they lie in its record behind the board's settings: ascending by
// score, tie and name, one after the other:
//
//	score    as an element's number, see packedHash, where it is whole; else scoreMark and 8 bytes
//	tie      8 bytes, on boards with ties by sequence
//	member   its length, 1 byte; its bytes
//
// A member is looked for from the first on, which among so few costs no more than an index would.
type packedScores struct {
	b    []byte
	n    int
	ties bool // whether there are ties in it
}

const (
	packedMembers     = 128 // the most members in the small form; Redis's bound too
	packedMember      = 64  // the most bytes in a member of it
	packedScoresAgain = 32  // a large set that has so few members becomes small again, if it can

	scoreMark = 8 // what no number begins with
	tieBytes  = 8
	maxWhole  = 1 << 53

	// maxPacked is how many bytes an entry takes at most.
	maxPacked = 1 + 8 + tieBytes + 1 + packedMember
)

func appendScore(dst []byte, score float64) []byte {
	if math.Abs(score) >= maxWhole || score != math.Trunc(score) {
		return binary.LittleEndian.AppendUint64(append(dst, scoreMark), math.Float64bits(score))
	}
	n := int64(score)
	if 0 <= n && n < 128 {
		return append(dst, smallNumber+byte(n))
	}
	k := numberWidth(n)
	dst = append(dst, wideNumber+byte(k))
	for ; k > 0; k-- {
		dst = append(dst, byte(n))
		n >>= 8
	}
	return dst
}

// score reads the score of the entry that begins there.
func (p *packedScores) score(begin int) float64 {
	t := p.b[begin]
	if smallNumber <= t && t <= wideNumber {
		return float64(t - smallNumber)
	}
	b, n := p.b[begin+1:], uint64(0)
	if len(b) >= 8 {
		n = binary.LittleEndian.Uint64(b)
	} else {
		for i := len(b); i > 0; i-- {
			n = n<<8 | uint64(b[i-1])
		}
	}
	if t == scoreMark {
		return math.Float64frombits(n)
	}
	unused := 64 - 8*int(t-wideNumber)
	return float64(int64(n<<unused) >> unused)
}

// end is where the entry ends that begins there.
func (p *packedScores) end(begin int) int {
	at := begin + int(elementSize[p.b[begin]])
	if p.ties {
		at += tieBytes
	}
	return at + 1 + int(p.b[at])
}

// A packedSpot says where an entry lies: begin, its parts tie and member, end.
type packedSpot struct{ begin, tie, member, end int }

// spot is the entry that begins there.
func (p *packedScores) spot(begin int) (s packedSpot) {
	s.begin = begin
	s.tie = begin + int(elementSize[p.b[begin]])
	s.member = s.tie
	if p.ties {
		s.member += tieBytes
	}
	s.end = s.member + 1 + int(p.b[s.member])
	return s
}

func (p *packedScores) name(s packedSpot) []byte { return p.b[s.member+1 : s.end : s.end] }

func (p *packedScores) entry(s packedSpot) (e scored) {
	e.score, e.member = p.score(s.begin), p.name(s)
	if p.ties {
		e.tie = binary.LittleEndian.Uint64(p.b[s.tie:])
	}
	return e
}

// find looks for a member, and returns its index too.
func (p *packedScores) find(member []byte) (s packedSpot, index int, ok bool) {
	if len(member) > packedMember {
		return s, 0, false
	}
	for at := 0; at < len(p.b); index++ {
		m := at + int(elementSize[p.b[at]])
		if p.ties {
			m += tieBytes
		}
		end := m + 1 + int(p.b[m])
		if int(p.b[m]) == len(member) && string(p.b[m+1:end]) == string(member) {
			return p.spot(at), index, true
		}
		at = end
	}
	return s, 0, false
}

// offsets is where the entries begin, and behind them the end of the last.
type offsets [packedMembers + 1]uint16

func (p *packedScores) offsets(to *offsets) {
	at := 0
	for i := range p.n {
		to[i] = uint16(at)
		at = p.end(at)
	}
	to[p.n] = uint16(at)
}

// lower is the index of the first entry with a score of at least score, or with beyond of more than it.
func (p *packedScores) lower(score float64, beyond bool) (index int) {
	for at := 0; at < len(p.b); at = p.end(at) {
		if s := p.score(at); s > score || s == score && !beyond {
			break
		}
		index++
	}
	return index
}

// insert puts in an entry, whose member is not there. The bytes change where they are.
func (p *packedScores) insert(e scored) {
	at := 0
	for ; at < len(p.b); at = p.end(at) {
		if score := p.score(at); score > e.score || score == e.score && p.entry(p.spot(at)).compare(e) > 0 {
			break
		}
	}
	var buf [maxPacked]byte
	entry := appendScore(buf[:0], e.score)
	if p.ties {
		entry = binary.LittleEndian.AppendUint64(entry, e.tie)
	}
	entry = append(append(entry, byte(len(e.member))), e.member...)
	p.b = packedHash(p.b).splice(at, at, entry)
	p.n++
}

// cut takes out n entries, which lie from begin to end.
func (p *packedScores) cut(begin, end, n int) {
	p.b = append(p.b[:begin], p.b[end:]...)
	p.n -= n
}

// standings visits up to limit entries in order o with their standings, from the one with offset others before it.
func (p *packedScores) standings(o order, offset, limit int, visit func(scored, standing)) {
	var at offsets
	p.offsets(&at)
	var s standing
	show := func(from, to int) {
		s.dense++
		for i := from; i < to && limit > 0; i++ {
			if s.rank++; s.rank > offset {
				visit(p.entry(p.spot(int(at[i]))), s)
				limit--
			}
		}
	}
	score := func(i int) float64 { return p.score(int(at[i])) }
	if o == ascending {
		for from, to := 0, 0; from < p.n && limit > 0; from = to {
			for to = from + 1; to < p.n && score(to) == score(from); to++ {
			}
			s.competition = from + 1
			show(from, to)
		}
		return
	}
	for from, to := 0, p.n; to > 0 && limit > 0; to = from {
		for from = to - 1; from > 0 && score(from-1) == score(to-1); from-- {
		}
		s.competition = p.n - to + 1
		show(from, to)
	}
}

// standing is where the entry with that index and score stands.
func (p *packedScores) standing(o order, index int, score float64) (s standing) {
	from, to, less, more, last := 0, 0, 0, 0, math.NaN()
	for at := 0; at < len(p.b); at = p.end(at) {
		other := p.score(at)
		switch {
		case other < score:
			from, to = from+1, to+1
			if other != last {
				less++
			}
		case other == score:
			to++
		case other != last:
			more++
		}
		last = other
	}
	if o == ascending {
		return standing{index + 1, from + 1, less + 1}
	}
	return standing{p.n - to + index - from + 1, p.n - to + 1, more + 1}
}

// The settings of a board stand before the members:
//
//	1 byte    the number of members less one, below 128; or, on a configured board, 0x80 and its rules
//	13 bytes  on a configured board: the number of members, 1; how many stay, 4; the sequence, 8
const (
	configuredSet  = 0x80
	boardBytes     = 14
	ascendingBit   = 0x04
	boardRulesMask = configuredSet | ascendingBit | 0x03
)

// pack writes the board and the members of a small set.
func (z *sortedSet) pack(dst []byte) ([]byte, dense.Kind) {
	if z.table != nil {
		return dst, kindObject
	}
	if !z.board.configured {
		return append(append(dst, byte(z.packed.n-1)), z.packed.b...), kindRanks
	}
	rules := configuredSet | byte(z.board.ties)
	if z.board.keepOrder == ascending {
		rules |= ascendingBit
	}
	dst = append(dst, rules, byte(z.packed.n))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(z.board.keep))
	dst = binary.LittleEndian.AppendUint64(dst, z.board.seq)
	return append(dst, z.packed.b...), kindRanks
}

// unpack makes an empty set a view of what pack wrote.
func (z *sortedSet) unpack(b []byte) {
	if b[0]&configuredSet == 0 {
		z.packed = packedScores{b: b[1:], n: int(b[0]) + 1}
		return
	}
	z.board = board{configured: true, ties: tieRule(b[0] & 3), keep: int(binary.LittleEndian.Uint32(b[2:])), seq: binary.LittleEndian.Uint64(b[6:])}
	if b[0]&ascendingBit != 0 {
		z.board.keepOrder = ascending
	}
	z.packed = packedScores{b: b[boardBytes:], n: int(b[1]), ties: z.board.ties != tiesMember}
}

// validRanks says what is wrong with bytes that may come from anywhere, nil when they are those of a packed set.
func validRanks(b []byte) error {
	if len(b) == 0 || b[0]&configuredSet != 0 && (len(b) < boardBytes || b[0]&^boardRulesMask != 0 || tieRule(b[0]&3) >= numTieRules || b[1] > packedMembers) {
		return errors.New("Z3: the head is broken")
	}
	z := &sortedSet{}
	z.unpack(b)
	p := &z.packed
	at, n := 0, 0
	var last scored
	seen := map[string]bool{}
	for ; at < len(p.b); n++ {
		size := int(elementSize[p.b[at]])
		if p.ties {
			size += tieBytes
		}
		if t := p.b[at]; t != scoreMark && t < smallNumber || elementSize[t] == 0 || at+size >= len(p.b) || int(p.b[at+size]) > packedMember || at+size+1+int(p.b[at+size]) > len(p.b) {
			return fmt.Errorf("Z3: entry %d ends too soon", n)
		}
		s := p.spot(at)
		e := p.entry(s)
		switch {
		case math.IsNaN(e.score) || e.score == 0 && math.Signbit(e.score):
			return fmt.Errorf("Z2: entry %d has no score", n)
		case string(appendScore(nil, e.score)) != string(p.b[s.begin:s.tie]):
			return fmt.Errorf("Z3: the score of entry %d can be written shorter", n)
		case n > 0 && last.compare(e) >= 0 || seen[string(e.member)]:
			return fmt.Errorf("Z3: entry %d does not come after the one before, or stands twice", n)
		}
		seen[string(e.member)] = true
		last, at = e, s.end
	}
	if n != p.n || n > packedMembers {
		return fmt.Errorf("Z3: %d members counted, there are %d", p.n, n)
	}
	return nil
}
