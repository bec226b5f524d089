package engine

import "github.com/larder-cache/larder/internal/fault"

var lcsCommands = []Command{
	{Name: "LCS", Arity: -3, Keys: twoKeys, Group: GroupString, Action: "cache:Get", run: lcs,
		Usage: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]", Summary: "Returns the longest common subsequence of two strings, its length, or where it stands in them",
		Complexity: "O(NM) for strings of N and M bytes, of which the product is bounded", Since: "7.0.0"},
}

// maxLCS bounds the table that LCS works with, in entries of four bytes: strings of 4095 bytes each, or a longer
// one with a shorter. It bounds the time as well: tens of milliseconds.
const maxLCS = 1 << 24

// A match is a stretch that both strings have, from the first to the last byte of each.
type match struct{ aFirst, aLast, bFirst, bLast int }

func lcs(c *call) error {
	var texts [2][]byte
	for i := range texts {
		s, _, err := c.read(c.args[1+i])
		if err != nil {
			return &fault.Error{Kind: fault.WrongType, Op: c.cmd.Name, Prefix: "ERR", Message: "The specified keys must contain string values"}
		}
		texts[i] = stringBytes(s)
	}
	var wantLength, wantMatches, withLength bool
	var shortest int64
	for i := 3; i < len(c.args); i++ {
		switch a := c.args[i]; {
		case is(a, "IDX"):
			wantMatches = true
		case is(a, "LEN"):
			wantLength = true
		case is(a, "WITHMATCHLEN"):
			withLength = true
		case is(a, "MINMATCHLEN") && i+1 < len(c.args):
			i++
			var ok bool
			if shortest, ok = parseInt(c.args[i]); !ok {
				return errNotInteger
			}
		default:
			return errSyntax
		}
	}
	if wantLength && wantMatches {
		return fault.New(fault.InvalidArgument, c.cmd.Name, "If you want both the length and indexes, please just use IDX.")
	}
	a, b := texts[0], texts[1]
	if int64(len(a)+1)*int64(len(b)+1) > maxLCS { // before anything is allocated
		return fault.New(fault.TooLarge, c.cmd.Name, "the strings are too long for LCS: (%d+1) x (%d+1) bytes, and the limit is %d", len(a), len(b), maxLCS)
	}
	common, matches := c.commonSubsequence(a, b)
	switch {
	case wantLength:
		c.out.Int(int64(len(common)))
	case wantMatches:
		kept := matches[:0]
		for _, m := range matches {
			if int64(m.aLast-m.aFirst+1) >= shortest {
				kept = append(kept, m)
			}
		}
		c.out.Map(2)
		c.out.Text("matches")
		c.out.Array(len(kept))
		for _, m := range kept {
			c.match(m, withLength)
		}
		c.out.Text("len")
		c.out.Int(int64(len(common)))
	default:
		c.out.Bulk(common)
	}
	return nil
}

// match replies with the first and the last byte of a match in each string.
func (c *call) match(m match, withLength bool) {
	parts := 2
	if withLength {
		parts++
	}
	c.out.Array(parts)
	for _, ends := range [2][2]int{{m.aFirst, m.aLast}, {m.bFirst, m.bLast}} {
		c.out.Array(2)
		c.out.Int(int64(ends[0]))
		c.out.Int(int64(ends[1]))
	}
	if withLength {
		c.out.Int(int64(m.aLast - m.aFirst + 1))
	}
}

// commonSubsequence returns the longest common subsequence of a and b, and the matches that make it up, the last
// first. Where several are as long, it is the one that Redis finds.
func (c *call) commonSubsequence(a, b []byte) (common []byte, matches []match) {
	// length[i*width+j] is the length of the longest common subsequence of a[:i] and b[:j].
	width := len(b) + 1
	length := make([]uint32, (len(a)+1)*width)
	for i := range a {
		c.steps(1 + width/256)
		above, row := length[i*width:(i+1)*width], length[(i+1)*width:(i+2)*width]
		for j := range b {
			if a[i] == b[j] {
				row[j+1] = above[j] + 1
			} else {
				row[j+1] = max(above[j+1], row[j])
			}
		}
	}
	left := int(length[len(length)-1])
	common = make([]byte, left)
	for i, j := len(a), len(b); i > 0 && j > 0; {
		switch {
		case a[i-1] == b[j-1]:
			i, j, left = i-1, j-1, left-1
			common[left] = a[i]
			if n := len(matches); n > 0 && matches[n-1].aFirst == i+1 && matches[n-1].bFirst == j+1 {
				matches[n-1].aFirst, matches[n-1].bFirst = i, j
			} else {
				matches = append(matches, match{i, i, j, j})
			}
		case length[(i-1)*width+j] > length[i*width+j-1]:
			i--
		default:
			j--
		}
	}
	return common, matches
}
