package engine

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
)

// sortedSet returns what a reading command finds under key, nil when there is nothing.
func (c *call) sortedSet(key []byte) (*sortedSet, error) {
	z, _, err := lookup[*sortedSet](c, key)
	if err == nil {
		c.count(z != nil)
	}
	return z, err
}

var sortedSetCommands = []Command{
	{Name: "ZADD", Arity: -4, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Also: zaddRights, Facts: zaddFacts, run: zadd,
		Usage:   "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
		Summary: "Adds members with their scores, or gives members other scores", Complexity: "O(log N) for each member", Since: "1.2.0"},
	{Name: "ZINCRBY", Arity: 4, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Also: readsFirst, Facts: zincrbyFacts, run: zincrby,
		Usage: "key increment member", Summary: "Adds to the score of a member, which is 0 for a new one", Complexity: "O(log N)", Since: "1.2.0"},
	{Name: "ZREM", Arity: -3, Keys: oneKey, Flags: Writes | Fast, Group: GroupSortedSet, Action: "cache:SortedSetWrite", run: zrem,
		Usage: "key member [member ...]", Summary: "Removes members and counts those that were there", Complexity: "O(log N) for each member", Since: "1.2.0"},
	{Name: "ZCARD", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupSortedSet, Action: "cache:SortedSetRead", run: zcard,
		Usage: "key", Summary: "Counts the members", Complexity: "O(1)", Since: "1.2.0"},
	{Name: "ZSCORE", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupSortedSet, Action: "cache:SortedSetRead", run: zscore,
		Usage: "key member", Summary: "Returns the score of a member", Complexity: "O(1)", Since: "1.2.0"},
	{Name: "ZMSCORE", Arity: -3, Keys: oneKey, Flags: Fast, Group: GroupSortedSet, Action: "cache:SortedSetRead", run: zmscore,
		Usage: "key member [member ...]", Summary: "Returns the scores of members", Complexity: "O(1) for each member", Since: "6.2.0"},
	{Name: "ZRANK", Arity: -3, Keys: oneKey, Flags: Fast, Group: GroupSortedSet, Action: "cache:SortedSetRead", run: func(c *call) error { return zrank(c, false) },
		Usage: "key member [WITHSCORE]", Summary: "Returns how many members stand before a member, the lowest score first", Complexity: "O(log N)", Since: "2.0.0"},
	{Name: "ZREVRANK", Arity: -3, Keys: oneKey, Flags: Fast, Group: GroupSortedSet, Action: "cache:SortedSetRead", run: func(c *call) error { return zrank(c, true) },
		Usage: "key member [WITHSCORE]", Summary: "Returns how many members stand before a member, the highest score first", Complexity: "O(log N)", Since: "2.0.0"},
	{Name: "ZCOUNT", Arity: 4, Keys: oneKey, Flags: Fast, Group: GroupSortedSet, Action: "cache:SortedSetRead", run: func(c *call) error { return zcount(c, byScore) },
		Usage: "key min max", Summary: "Counts the members with scores in a range", Complexity: "O(log N)", Since: "2.0.0"},
	{Name: "ZLEXCOUNT", Arity: 4, Keys: oneKey, Flags: Fast, Group: GroupSortedSet, Action: "cache:SortedSetRead", run: func(c *call) error { return zcount(c, byLex) },
		Usage: "key min max", Summary: "Counts the members in a range of names, where all scores are equal", Complexity: "O(log² N)", Since: "2.8.9"},

	{Name: "ZRANGE", Arity: -4, Keys: oneKey, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: zrangeFacts, run: func(c *call) error { return zrange(c, rangeForm{}) },
		Usage:   "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
		Summary: "Returns the members in a range of indexes, scores or names", Complexity: "O(log N + M) for M members", Since: "1.2.0"},
	{Name: "ZREVRANGE", Arity: -4, Keys: oneKey, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: zrangeFacts, run: func(c *call) error { return zrange(c, rangeForm{by: byIndex, reverse: true, fixed: true}) },
		Usage: "key start stop [WITHSCORES]", Summary: "Returns the members in a range of indexes, the highest score first", Complexity: "O(log N + M) for M members", Since: "1.2.0"},
	{Name: "ZRANGEBYSCORE", Arity: -4, Keys: oneKey, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: zrangebyFacts, run: func(c *call) error { return zrange(c, rangeForm{by: byScore, fixed: true}) },
		Usage: "key min max [WITHSCORES] [LIMIT offset count]", Summary: "Returns the members with scores in a range", Complexity: "O(log N + M) for M members", Since: "1.0.5"},
	{Name: "ZREVRANGEBYSCORE", Arity: -4, Keys: oneKey, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: zrangebyFacts, run: func(c *call) error { return zrange(c, rangeForm{by: byScore, reverse: true, fixed: true}) },
		Usage: "key max min [WITHSCORES] [LIMIT offset count]", Summary: "Returns the members with scores in a range, the highest score first", Complexity: "O(log N + M) for M members", Since: "2.2.0"},
	{Name: "ZRANGEBYLEX", Arity: -4, Keys: oneKey, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: zrangebyFacts, run: func(c *call) error { return zrange(c, rangeForm{by: byLex, fixed: true}) },
		Usage: "key min max [LIMIT offset count]", Summary: "Returns the members in a range of names, where all scores are equal", Complexity: "O(log² N + M) for M members", Since: "2.8.9"},
	{Name: "ZREVRANGEBYLEX", Arity: -4, Keys: oneKey, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: zrangebyFacts, run: func(c *call) error { return zrange(c, rangeForm{by: byLex, reverse: true, fixed: true}) },
		Usage: "key max min [LIMIT offset count]", Summary: "Returns the members in a range of names, backwards, where all scores are equal", Complexity: "O(log² N + M) for M members", Since: "2.8.9"},
	{Name: "ZRANGESTORE", Arity: -5, Keys: twoKeys, Flags: Writes | Grows, rests: true, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Rights: zrangestoreRights, run: zrangestore,
		Usage:   "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
		Summary: "Stores the members in a range under another key", Complexity: "O(log N + M log M) for M members", Since: "6.2.0"},
	{Name: "ZREMRANGEBYRANK", Arity: 4, Keys: oneKey, Flags: Writes, Group: GroupSortedSet, Action: "cache:SortedSetWrite", run: func(c *call) error { return zremrange(c, byIndex) },
		Usage: "key start stop", Summary: "Removes the members in a range of indexes", Complexity: "O(log N + M) for M members", Since: "2.0.0"},
	{Name: "ZREMRANGEBYSCORE", Arity: 4, Keys: oneKey, Flags: Writes, Group: GroupSortedSet, Action: "cache:SortedSetWrite", run: func(c *call) error { return zremrange(c, byScore) },
		Usage: "key min max", Summary: "Removes the members with scores in a range", Complexity: "O(log N + M) for M members", Since: "1.2.0"},
	{Name: "ZREMRANGEBYLEX", Arity: 4, Keys: oneKey, Flags: Writes, Group: GroupSortedSet, Action: "cache:SortedSetWrite", run: func(c *call) error { return zremrange(c, byLex) },
		Usage: "key min max", Summary: "Removes the members in a range of names, where all scores are equal", Complexity: "O(log² N + M) for M members", Since: "2.8.9"},

	{Name: "ZPOPMIN", Arity: -2, Keys: oneKey, Flags: Writes | Fast, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Also: readsFirst, Facts: zpopFacts, run: func(c *call) error { return zpop(c, false) },
		Usage: "key [count]", Summary: "Removes and returns the members with the lowest scores", Complexity: "O(log N + M) for M members", Since: "5.0.0"},
	{Name: "ZPOPMAX", Arity: -2, Keys: oneKey, Flags: Writes | Fast, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Also: readsFirst, Facts: zpopFacts, run: func(c *call) error { return zpop(c, true) },
		Usage: "key [count]", Summary: "Removes and returns the members with the highest scores", Complexity: "O(log N + M) for M members", Since: "5.0.0"},
	{Name: "ZMPOP", Arity: -4, Keys: countedKeys, Flags: Writes, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Also: zmpopRights, Facts: zmpopFacts, run: zmpop,
		Usage: "numkeys key [key ...] <MIN | MAX> [COUNT count]", Summary: "Removes and returns the outermost members of the first set that has any", Complexity: "O(K + log N + M) for K keys and M members", Since: "7.0.0"},
	{Name: "ZRANDMEMBER", Arity: -2, Keys: oneKey, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: zrandmemberFacts, run: zrandmember,
		Usage: "key [count [WITHSCORES]]", Summary: "Returns members drawn at random: different ones, or with a negative count any", Complexity: "O(M log N) for M members, at most O(N) for different ones", Since: "6.2.0"},
	{Name: "ZSCAN", Arity: -3, Keys: oneKey, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: zscanFacts, run: zscan,
		Usage: "key cursor [MATCH pattern] [COUNT count] [NOSCORES]", Summary: "Visits the members a few at a time", Complexity: "O(1) a call, O(N) for all", Since: "2.8.0"},

	{Name: "ZUNION", Arity: -3, Keys: countedKeys, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: wholeListing, run: func(c *call) error { return zcombine(c, union) },
		Usage: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX | COUNT>] [WITHSCORES]", Summary: "Returns the members that any of the sets has", Complexity: "O(N + M log M) for sets of N members in all and a result of M", Since: "6.2.0"},
	{Name: "ZINTER", Arity: -3, Keys: countedKeys, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: wholeListing, run: func(c *call) error { return zcombine(c, intersection) },
		Usage: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX | COUNT>] [WITHSCORES]", Summary: "Returns the members that all the sets have", Complexity: "O(NK + M log M) for K sets, the smallest of N members, and a result of M", Since: "6.2.0"},
	{Name: "ZDIFF", Arity: -3, Keys: countedKeys, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: wholeListing, run: func(c *call) error { return zcombine(c, difference) },
		Usage: "numkeys key [key ...] [WITHSCORES]", Summary: "Returns the members that only the first set has", Complexity: "O(NK) for K sets, the first of N members", Since: "6.2.0"},
	{Name: "ZUNIONSTORE", Arity: -4, Keys: storeKeys, Flags: Writes | Grows, rests: true, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Rights: zstoreRights, run: func(c *call) error { return zstore(c, union) },
		Usage: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX | COUNT>]", Summary: "Stores the members that any of the sets has", Complexity: "O(N + M log M) for sets of N members in all and a result of M", Since: "2.0.0"},
	{Name: "ZINTERSTORE", Arity: -4, Keys: storeKeys, Flags: Writes | Grows, rests: true, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Rights: zstoreRights, run: func(c *call) error { return zstore(c, intersection) },
		Usage: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX | COUNT>]", Summary: "Stores the members that all the sets have", Complexity: "O(NK + M log M) for K sets, the smallest of N members, and a result of M", Since: "2.0.0"},
	{Name: "ZDIFFSTORE", Arity: -4, Keys: storeKeys, Flags: Writes | Grows, rests: true, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Rights: zstoreRights, run: func(c *call) error { return zstore(c, difference) },
		Usage: "destination numkeys key [key ...]", Summary: "Stores the members that only the first set has", Complexity: "O(NK + M log M) for K sets, the first of N members, and a result of M", Since: "6.2.0"},
	{Name: "ZINTERCARD", Arity: -3, Keys: countedKeys, Group: GroupSortedSet, Action: "cache:SortedSetRead", run: zintercard,
		Usage: "numkeys key [key ...] [LIMIT limit]", Summary: "Counts the members that all the sets have", Complexity: "O(NK) for K sets, the smallest of N members", Since: "7.0.0"},
}

// storeKeys: the destination, then how many keys follow.
var storeKeys = Keys{First: 1, Last: 1, Step: 1, Count: 2}

var (
	errNaN        = fault.New(fault.OutOfRange, "engine", "resulting score is not a number (NaN)")
	errScoreRange = fault.New(fault.InvalidArgument, "engine", "min or max is not a float")
	errLexRange   = fault.New(fault.InvalidArgument, "engine", "min or max not valid string range item")
)

// Rights and facts are asked for once the arguments have been counted, and before the command has looked at them.
// Facts must never promise less than the command may do: a policy that bounds listings leans on them.

func reads(dst []Right, keys ...[]byte) []Right {
	for _, key := range keys {
		dst = append(dst, Right{Action: "cache:SortedSetRead", On: OnKey, Name: key})
	}
	return dst
}

// nth returns args[i], nil when there are not so many.
func nth(args [][]byte, i int) []byte {
	if i < len(args) {
		return args[i]
	}
	return nil
}

// readsFirst: the answer of a writing command tells what its key held.
func readsFirst(dst []Right, args [][]byte) []Right { return reads(dst, args[1]) }

// ZADD with INCR answers with a score, so it takes the right to read as well.
func zaddRights(dst []Right, args [][]byte) []Right {
	if o, _ := parseZaddOptions(args); o.incr {
		return readsFirst(dst, args)
	}
	return dst
}

func zmpopRights(dst []Right, args [][]byte) []Right {
	return reads(dst, countedKeys.counted(args)...)
}

func writesFirst(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:SortedSetWrite", On: OnKey, Name: args[1]})
}

func zrangestoreRights(dst []Right, args [][]byte) []Right {
	return reads(writesFirst(dst, args), args[2])
}

func zstoreRights(dst []Right, args [][]byte) []Right {
	return reads(writesFirst(dst, args), storeKeys.counted(args)...)
}

func zaddFacts(args [][]byte, _ int64) Facts {
	f := Facts{TTL: -1, MaxItems: -1}
	_, pairs := parseZaddOptions(args)
	for i := 1; i < len(pairs); i += 2 {
		f.ValueSize += int64(len(pairs[i]))
	}
	return f
}

func zincrbyFacts(args [][]byte, _ int64) Facts {
	return Facts{ValueSize: int64(len(args[3])), TTL: -1, MaxItems: -1}
}

// listing is what conditions may ask about a call that returns at most n items.
func listing(n int64) Facts { return Facts{ValueSize: -1, TTL: -1, MaxItems: max(n, 0)} }

func wholeListing([][]byte, int64) Facts { return listing(math.MaxInt64) }

// lastNumber is the number at distance after the last word among args, otherwise when there is none.
func lastNumber(args [][]byte, word string, distance int, otherwise int64) int64 {
	for i := len(args) - 1 - distance; i >= 0; i-- {
		if is(args[i], word) {
			if n, ok := parseInt(args[i+distance]); ok {
				return n
			}
			return otherwise
		}
	}
	return otherwise
}

// limited is the count of the LIMIT among args, where a negative one bounds nothing.
func limited(args [][]byte) int64 {
	if n := lastNumber(args, "LIMIT", 2, -1); n >= 0 {
		return n
	}
	return math.MaxInt64
}

func zrangebyFacts(args [][]byte, _ int64) Facts { return listing(limited(args[4:])) }

// Two indexes counted from the same end bound a range of indexes; LIMIT bounds the others.
func zrangeFacts(args [][]byte, _ int64) Facts {
	options := args[4:]
	for _, a := range options {
		if is(a, "BYSCORE") || is(a, "BYLEX") {
			return listing(limited(options))
		}
	}
	start, ok := parseInt(args[2])
	stop, ok2 := parseInt(args[3])
	if !ok || !ok2 || (start < 0) != (stop < 0) || stop-start == math.MaxInt64 {
		return listing(math.MaxInt64)
	}
	return listing(stop - start + 1)
}

func zpopFacts(args [][]byte, _ int64) Facts {
	if len(args) < 3 {
		return listing(1)
	}
	n, _ := parseInt(args[2])
	return listing(n)
}

func zmpopFacts(args [][]byte, _ int64) Facts {
	options := min(len(args), 2+len(countedKeys.counted(args)))
	return listing(lastNumber(args[options:], "COUNT", 1, 1))
}

func zrandmemberFacts(args [][]byte, _ int64) Facts {
	if len(args) < 3 {
		return listing(1)
	}
	n, _ := parseInt(args[2])
	return listing(max(n, -max(n, -math.MaxInt64)))
}

// A scan's bucket may hold a few more than COUNT asks for; conditions go by what was asked.
func zscanFacts(args [][]byte, _ int64) Facts {
	f := listing(10)
	for i := 3; i+1 < len(args); i += 2 {
		if is(args[i], "COUNT") {
			n, _ := parseInt(args[i+1])
			f.MaxItems = max(n, 0)
		}
	}
	return f
}

// zaddOptions are what stands before the pairs in ZADD.
type zaddOptions struct{ nx, xx, gt, lt, ch, incr bool }

// parseZaddOptions returns the options and what follows them.
func parseZaddOptions(args [][]byte) (o zaddOptions, pairs [][]byte) {
	for i := 2; i < len(args); i++ {
		switch a := args[i]; {
		case is(a, "NX"):
			o.nx = true
		case is(a, "XX"):
			o.xx = true
		case is(a, "GT"):
			o.gt = true
		case is(a, "LT"):
			o.lt = true
		case is(a, "CH"):
			o.ch = true
		case is(a, "INCR"):
			o.incr = true
		default:
			return o, args[i:]
		}
	}
	return o, nil
}

func zadd(c *call) error {
	o, pairs := parseZaddOptions(c.args)
	switch {
	case len(pairs) == 0 || len(pairs)%2 != 0:
		return errSyntax
	case o.nx && o.xx:
		return fault.New(fault.InvalidArgument, "ZADD", "XX and NX options at the same time are not compatible")
	case o.nx && (o.gt || o.lt) || o.gt && o.lt:
		return fault.New(fault.InvalidArgument, "ZADD", "GT, LT, and/or NX options at the same time are not compatible")
	case o.incr && len(pairs) > 2:
		return fault.New(fault.InvalidArgument, "ZADD", "INCR option supports a single increment-element pair")
	}
	return c.addScores(c.args[1], o, pairs)
}

func zincrby(c *call) error {
	return c.addScores(c.args[1], zaddOptions{incr: true}, c.args[2:])
}

// addScores is ZADD and ZINCRBY. pairs are score, member, score, member …; with INCR one pair.
func (c *call) addScores(key []byte, o zaddOptions, pairs [][]byte) error {
	var room [16]float64 // most calls have few scores
	scores := room[:0]
	for i := 0; i < len(pairs); i += 2 {
		score, ok := parseFloat(pairs[i])
		if !ok {
			return errNotFloat
		}
		if err := c.checkSizes(key, int64(len(pairs[i+1]))); err != nil {
			return err
		}
		scores = append(scores, score)
	}
	z, it, err := lookup[*sortedSet](c, key)
	if err != nil {
		return err
	}
	if o.incr && z != nil {
		if s, found := z.find(pairs[1]); found && !o.nx {
			scores[0] += s.score
		}
		if math.IsNaN(scores[0]) {
			return errNaN
		}
	}
	if z == nil && o.xx {
		if o.incr {
			c.out.Null()
		} else {
			c.out.Int(0)
		}
		return nil
	}
	e := c.rerank(z, it, key)
	var added, changed int64
	refused := false
	for i, score := range scores {
		member := pairs[2*i+1]
		s, found := e.z.find(member)
		refused = !found && o.xx || found && (o.nx || o.gt && score <= s.score || o.lt && score >= s.score)
		if refused {
			continue
		}
		isNew, isChanged := e.set(member, s, found, score)
		if isNew {
			added++
		}
		if isChanged {
			changed++
		}
	}
	if added > 0 || changed > 0 {
		e.done(c.defaultDeadline())
	} else {
		e.forget()
	}
	switch {
	case o.incr && refused:
		c.out.Null()
	case o.incr:
		c.out.Double(unsigned0(scores[0]))
	case o.ch:
		c.out.Int(added + changed)
	default:
		c.out.Int(added)
	}
	return nil
}

func zrem(c *call) error {
	z, it, err := lookup[*sortedSet](c, c.args[1])
	if err != nil {
		return err
	}
	c.out.Int(c.dropMembers(z, it, c.args[2:]))
	return nil
}

// dropMembers removes members from z, which is nil when there is no set, and counts those that were there.
func (c *call) dropMembers(z *sortedSet, it *item, members [][]byte) (removed int64) {
	if z == nil {
		return 0
	}
	e := c.rerank(z, it, it.key)
	for _, member := range members {
		if e.drop(member) {
			removed++
		}
	}
	if removed > 0 {
		e.done(0)
	} else {
		e.forget()
	}
	return removed
}

func zcard(c *call) error {
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	n := 0
	if z != nil {
		n = z.len()
	}
	c.out.Int(int64(n))
	return nil
}

func zscore(c *call) error {
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	c.scoreOf(z, c.args[2])
	return nil
}

func zmscore(c *call) error {
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	for _, member := range c.args[2:] {
		c.scoreOf(z, member)
		c.step()
	}
	return nil
}

func (c *call) scoreOf(z *sortedSet, member []byte) {
	if s, found := z.find(member); found {
		c.out.Double(s.score)
	} else {
		c.out.Null()
	}
}

func zrank(c *call, reverse bool) error {
	if len(c.args) > 4 {
		return errArity(c)
	}
	withScore := len(c.args) == 4
	if withScore && !is(c.args[3], "WITHSCORE") {
		return errSyntax
	}
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	s, found := z.find(c.args[2])
	if !found {
		if withScore {
			c.out.NullArray()
		} else {
			c.out.Null()
		}
		return nil
	}
	rank := z.rank(s)
	if reverse {
		rank = z.len() - 1 - rank
	}
	if withScore {
		c.out.Array(2)
	}
	c.out.Int(int64(rank))
	if withScore {
		c.out.Double(s.score)
	}
	return nil
}

// rangeBy says what a range is a range of.
type rangeBy uint8

const (
	byIndex rangeBy = iota
	byScore
	byLex
)

// A scoreRange is an interval of scores, as ZRANGEBYSCORE takes it: "1", "(1" without the end itself, "-inf".
type scoreRange struct {
	min, max               float64
	minOutside, maxOutside bool
}

func parseScoreRange(min, max []byte) (r scoreRange, err error) {
	var ok, ok2 bool
	r.min, r.minOutside, ok = parseScoreBound(min)
	r.max, r.maxOutside, ok2 = parseScoreBound(max)
	if !ok || !ok2 {
		return r, errScoreRange
	}
	return r, nil
}

func parseScoreBound(b []byte) (score float64, outside, ok bool) {
	if len(b) > 0 && b[0] == '(' {
		outside, b = true, b[1:]
	}
	score, ok = parseFloat(b)
	return score, outside, ok
}

// in returns the indexes from <= i < to of the entries in the range.
func (r scoreRange) in(z *sortedSet) (from, to int) {
	if r.minOutside {
		from = z.upperBound(r.min)
	} else {
		from = z.lowerBound(r.min)
	}
	if r.maxOutside {
		to = z.lowerBound(r.max)
	} else {
		to = z.upperBound(r.max)
	}
	return from, max(from, to)
}

// A lexBound is one end of a range of names: "[a", "(a" without a itself, "-" before and "+" after all names.
type lexBound struct {
	beyond  int // -1 for "-", 1 for "+"
	outside bool
	name    []byte
}

func parseLexBound(b []byte) (lexBound, bool) {
	switch {
	case len(b) == 1 && b[0] == '-':
		return lexBound{beyond: -1}, true
	case len(b) == 1 && b[0] == '+':
		return lexBound{beyond: 1}, true
	case len(b) > 0 && (b[0] == '[' || b[0] == '('):
		return lexBound{outside: b[0] == '(', name: b[1:]}, true
	}
	return lexBound{}, false
}

// compare tells where member stands: below, at or above the bound.
func (b lexBound) compare(member []byte) int {
	if b.beyond != 0 {
		return -b.beyond
	}
	return bytes.Compare(member, b.name)
}

// A lexRange is an interval of names.
type lexRange struct{ min, max lexBound }

func parseLexRange(min, max []byte) (r lexRange, err error) {
	var ok, ok2 bool
	r.min, ok = parseLexBound(min)
	r.max, ok2 = parseLexBound(max)
	if !ok || !ok2 {
		return r, errLexRange
	}
	return r, nil
}

// in returns the indexes from <= i < to of the entries in the range, where all scores are equal. Where they
// are not, the answer means nothing, as in Redis; but replicas have to give the same one, so it must not
// depend on how the entries lie in the tree's nodes. Hence a search by index, O(log² n).
func (r lexRange) in(z *sortedSet) (from, to int) {
	from = z.search(func(member []byte) bool {
		at := r.min.compare(member)
		return at < 0 || at == 0 && r.min.outside
	})
	to = z.search(func(member []byte) bool {
		at := r.max.compare(member)
		return at < 0 || at == 0 && !r.max.outside
	})
	return from, max(from, to)
}

// indexRange turns start and stop, where -1 is the last, into from <= i < to, within n entries.
func indexRange(start, stop int64, n int) (from, to int) {
	size := int64(n)
	if start < 0 {
		start = max(start+size, 0)
	}
	if stop < 0 {
		stop += size
	}
	if start > stop || start >= size {
		return 0, 0
	}
	return int(start), int(min(stop, size-1)) + 1
}

func zcount(c *call, by rangeBy) error {
	span, err := parseSpan(by, c.args[2], c.args[3])
	if err != nil {
		return err
	}
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	n := 0
	if z != nil {
		from, to := span.in(z)
		n = to - from
	}
	c.out.Int(int64(n))
	return nil
}

// A span is a range of any sort, read from its two arguments.
type span struct {
	by          rangeBy
	start, stop int64
	scores      scoreRange
	names       lexRange
}

func parseSpan(by rangeBy, min, max []byte) (s span, err error) {
	s.by = by
	switch by {
	case byIndex:
		var ok, ok2 bool
		s.start, ok = parseInt(min)
		s.stop, ok2 = parseInt(max)
		if !ok || !ok2 {
			err = errNotInteger
		}
	case byScore:
		s.scores, err = parseScoreRange(min, max)
	case byLex:
		s.names, err = parseLexRange(min, max)
	}
	return s, err
}

// in returns the indexes from <= i < to of the entries that the span names.
func (s *span) in(z *sortedSet) (from, to int) {
	switch s.by {
	case byScore:
		return s.scores.in(z)
	case byLex:
		return s.names.in(z)
	}
	return indexRange(s.start, s.stop, z.len())
}

func zremrange(c *call, by rangeBy) error {
	span, err := parseSpan(by, c.args[2], c.args[3])
	if err != nil {
		return err
	}
	z, it, err := lookup[*sortedSet](c, c.args[1])
	if err != nil {
		return err
	}
	n := 0
	if z != nil {
		from, to := span.in(z)
		if n = to - from; n > 0 {
			e := c.rerank(z, it, c.args[1])
			e.cut(from, to)
			e.done(0)
		}
	}
	c.out.Int(int64(n))
	return nil
}

// A rangeForm is what a command's name says of its range; fixed when options may not say more, paged when LIMIT may
// stand with indexes as well.
type rangeForm struct {
	by      rangeBy
	reverse bool
	fixed   bool
	paged   bool
}

// A rangeQuery is a range with its options, as ZRANGE and its kin take them.
type rangeQuery struct {
	span       span
	reverse    bool
	withScores bool
	offset     int64
	limit      int64 // negative for none
	paged      bool  // offset and limit hold for indexes as well
}

// parseRange reads min, max and the options after them. Only a listing has WITHSCORES.
func parseRange(args [][]byte, form rangeForm, lists bool) (q rangeQuery, err error) {
	q.limit, q.reverse, q.paged = -1, form.reverse, form.paged
	by, chosen := form.by, form.fixed
	for i := 2; i < len(args); i++ {
		switch a := args[i]; {
		case lists && is(a, "WITHSCORES"):
			q.withScores = true
		case is(a, "LIMIT") && i+2 < len(args):
			var ok, ok2 bool
			q.offset, ok = parseInt(args[i+1])
			q.limit, ok2 = parseInt(args[i+2])
			if !ok || !ok2 {
				return q, errNotInteger
			}
			i += 2
		case !form.fixed && !q.reverse && is(a, "REV"):
			q.reverse = true
		case !chosen && is(a, "BYLEX"):
			by, chosen = byLex, true
		case !chosen && is(a, "BYSCORE"):
			by, chosen = byScore, true
		default:
			return q, errSyntax
		}
	}
	switch {
	case q.limit != -1 && by == byIndex && !q.paged:
		return q, fault.New(fault.InvalidArgument, "engine", "syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
	case q.withScores && by == byLex:
		return q, fault.New(fault.InvalidArgument, "engine", "syntax error, WITHSCORES not supported in combination with BYLEX")
	}
	min, max := args[0], args[1]
	if q.reverse && by != byIndex {
		min, max = max, min
	}
	q.span, err = parseSpan(by, min, max)
	return q, err
}

// in returns the indexes from <= i < to of the entries that the query names, in ascending order.
func (q *rangeQuery) in(z *sortedSet) (from, to int) {
	from, to = q.span.in(z)
	if q.span.by == byIndex {
		if q.reverse {
			from, to = z.len()-to, z.len()-from
		}
		if !q.paged {
			return from, to
		}
	}
	size := int64(to - from)
	skip := min(q.offset, size)
	if q.offset < 0 { // as in Redis, which skips for ever
		skip = size
	}
	take := size - skip
	if q.limit >= 0 {
		take = min(take, q.limit)
	}
	if q.reverse {
		to -= int(skip)
		return to - int(take), to
	}
	from += int(skip)
	return from, from + int(take)
}

func zrange(c *call, form rangeForm) error {
	q, err := parseRange(c.args[2:], form, true)
	if err != nil {
		return err
	}
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	if z == nil {
		c.out.Array(0)
		return nil
	}
	from, to := q.in(z)
	c.members(z, from, to, q.reverse, q.withScores)
	return nil
}

// members replies with the entries from <= i < to, those with the highest index first when reverse.
func (c *call) members(z *sortedSet, from, to int, reverse, withScores bool) {
	if withScores {
		c.out.Pairs(to - from)
	} else {
		c.out.Array(to - from)
	}
	at := from
	if reverse {
		at = to - 1
	}
	cursor := z.seek(at)
	for range to - from {
		c.step()
		e := cursor.entry()
		c.out.Bulk(e.member)
		if withScores {
			c.out.Double(e.score)
		}
		if reverse {
			cursor.prev()
		} else {
			cursor.next()
		}
	}
}

func zrangestore(c *call) error {
	q, err := parseRange(c.args[3:], rangeForm{}, false)
	if err != nil {
		return err
	}
	if err := c.checkSizes(c.args[1], 0); err != nil {
		return err
	}
	z, err := c.sortedSet(c.args[2])
	if err != nil {
		return err
	}
	e := c.rerank(nil, nil, nil)
	if z != nil {
		from, to := q.in(z)
		for cursor := z.seek(from); from < to; from++ {
			c.step()
			m := cursor.entry()
			e.put(m.member, m.score)
			cursor.next()
		}
	}
	c.out.Int(e.replace(c.args[1]))
	return nil
}

func zpop(c *call, highest bool) error {
	if len(c.args) > 3 {
		return errSyntax
	}
	count, listed := int64(1), len(c.args) == 3
	if listed {
		var ok bool
		if count, ok = parseInt(c.args[2]); !ok || count < 0 {
			return fault.New(fault.OutOfRange, c.cmd.Name, "value is out of range, must be positive")
		}
	}
	z, it, err := lookup[*sortedSet](c, c.args[1])
	if err != nil {
		return err
	}
	if z == nil || z.len() == 0 {
		c.out.Array(0)
		return nil
	}
	n := int(min(count, int64(z.len())))
	if !listed { // one member and its score, flat in RESP3 as well
		from := 0
		if highest {
			from = z.len() - 1
		}
		m := z.at(from)
		c.out.Array(2)
		c.out.Bulk(m.member)
		c.out.Double(m.score)
		e := c.rerank(z, it, c.args[1])
		e.cut(from, from+1)
		e.done(0)
		return nil
	}
	c.pop(z, it, n, highest, func(n int) { c.out.Pairs(n) }, func() {})
	return nil
}

// pop replies with the n outermost entries and removes them. list announces them, pair each of them.
func (c *call) pop(z *sortedSet, it *item, n int, highest bool, list func(n int), pair func()) {
	from := 0
	if highest {
		from = z.len() - n
	}
	list(n)
	if n == 0 {
		return
	}
	at := from
	if highest {
		at += n - 1
	}
	cursor := z.seek(at)
	for range n {
		m := cursor.entry()
		pair()
		c.out.Bulk(m.member)
		c.out.Double(m.score)
		if highest {
			cursor.prev()
		} else {
			cursor.next()
		}
	}
	e := c.rerank(z, it, it.key)
	e.cut(from, from+n)
	e.done(0)
}

// parsePops reads the arguments of a pop from the first of several keys that has anything: which keys, whether
// from the end that is called last, and how many.
func (c *call) parsePops(args [][]byte, first, last string) (keys [][]byte, fromLast bool, count int64, err error) {
	numkeys, ok := parseInt(args[1])
	if !ok || numkeys < 1 {
		return nil, false, 0, fault.New(fault.OutOfRange, c.cmd.Name, "numkeys should be greater than 0")
	}
	if numkeys >= int64(len(args)-2) {
		return nil, false, 0, errSyntax
	}
	keys, options := args[2:2+numkeys], args[2+numkeys:]
	fromLast = is(options[0], last)
	if !fromLast && !is(options[0], first) {
		return nil, false, 0, errSyntax
	}
	count = 1
	if len(options) >= 3 && is(options[1], "COUNT") {
		if count, ok = parseInt(options[2]); !ok || count < 1 {
			return nil, false, 0, fault.New(fault.OutOfRange, c.cmd.Name, "count should be greater than 0")
		}
		options = options[2:]
	}
	if len(options) > 1 {
		return nil, false, 0, errSyntax
	}
	return keys, fromLast, count, nil
}

func zmpop(c *call) error {
	keys, highest, count, err := c.parsePops(c.args, "MIN", "MAX")
	if err != nil {
		return err
	}
	done, err := c.zpopFirst(keys, highest, count)
	if err == nil && !done {
		c.out.NullArray()
	}
	return err
}

// zpopFirst pops members of the first sorted set among keys, and reports whether there is any.
func (c *call) zpopFirst(keys [][]byte, highest bool, count int64) (done bool, err error) {
	for _, key := range keys {
		z, it, err := wanted[*sortedSet](c, key)
		if err != nil {
			return false, err
		}
		if z == nil || z.len() == 0 {
			continue
		}
		c.out.Array(2)
		c.out.Bulk(key)
		c.pop(z, it, int(min(count, int64(z.len()))), highest, func(n int) { c.out.Array(n) }, func() { c.out.Array(2) })
		return true, nil
	}
	return false, nil
}

// maxDraws bounds a ZRANDMEMBER with a negative count, which may draw a member again and again.
const maxDraws = 1 << 20

func zrandmember(c *call) error {
	var count int64
	withScores := len(c.args) == 4
	if len(c.args) > 2 {
		var ok bool
		switch count, ok = parseInt(c.args[2]); {
		case !ok:
			return errNotInteger
		case count == math.MinInt64:
			return fault.New(fault.OutOfRange, c.cmd.Name, "value is out of range, value must between -9223372036854775807 and 9223372036854775807")
		case len(c.args) > 4 || withScores && !is(c.args[3], "WITHSCORES"):
			return errSyntax
		case withScores && (count < -math.MaxInt64/2 || count > math.MaxInt64/2):
			return fault.New(fault.OutOfRange, c.cmd.Name, "value is out of range")
		case count < -maxDraws:
			return fault.About(fault.OutOfRange, c.cmd.Name, "count", "count must be at least %d, is %d", -maxDraws, count)
		}
	}
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	none := z == nil || z.len() == 0
	if len(c.args) == 2 {
		if none {
			c.out.Null()
		} else {
			c.out.Bulk(z.at(c.p.random().IntN(z.len())).member)
		}
		return nil
	}
	if none || count == 0 {
		c.out.Array(0)
		return nil
	}
	n := int(min(max(count, -count), int64(z.len())))
	if count < 0 {
		n = int(-count)
	}
	if withScores {
		c.out.Pairs(n)
	} else {
		c.out.Array(n)
	}
	visit := func(e scored) {
		c.step()
		c.out.Bulk(e.member)
		if withScores {
			c.out.Double(e.score)
		}
	}
	if count < 0 {
		for dice := c.p.random(); n > 0; n-- {
			visit(z.at(dice.IntN(z.len())))
		}
	} else {
		z.sample(c.p.random(), n, visit)
	}
	return nil
}

// sample visits n different entries, each choice of n being as likely as any other: few by drawing indexes
// until there are enough, many by walking along all entries and taking each with the chance that is left.
func (z *sortedSet) sample(dice *rand.Rand, n int, visit func(scored)) {
	if size := z.len(); n < size/8 {
		// Floyd's way: the i-th draw is from the first size-n+i indexes, and one that was drawn already stands
		// for the last of these.
		drawn := make(map[int]bool, n)
		for last := size - n; last < size; last++ {
			i := dice.IntN(last + 1)
			if drawn[i] {
				i = last
			}
			drawn[i] = true
			visit(z.at(i))
		}
		return
	}
	left := z.len()
	for c := z.seek(0); n > 0; c.next() {
		if dice.IntN(left) < n {
			visit(c.entry())
			n--
		}
		left--
	}
}

// zscan walks over a large set in the order of its table; the cursor is where it goes on. What is there all the
// time is visited once. A small set is returned whole, whatever the cursor, so a set that becomes small on the way loses
// nothing, though it may return something twice.
func zscan(c *call) error {
	cursor, err := parseCursor(c.args[2])
	if err != nil {
		return err
	}
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	count, pattern := int64(10), (*glob)(nil)
	if z == nil { // as Redis, which reads the options only after it found the key
		c.out.Array(2)
		c.out.Text("0")
		c.out.Array(0)
		return nil
	}
	scores := true
	for i := 3; i < len(c.args); i += 2 {
		switch {
		case is(c.args[i], "NOSCORES"):
			scores = false
			i--
		case i+1 < len(c.args) && is(c.args[i], "COUNT"):
			var ok bool
			if count, ok = parseInt(c.args[i+1]); !ok {
				return errNotInteger
			}
			if count < 1 {
				return errSyntax
			}
		case i+1 < len(c.args) && is(c.args[i], "MATCH"):
			if pattern, err = newGlob(c.cmd.Name, c.args[i+1]); err != nil {
				return err
			}
		default:
			return errSyntax
		}
	}
	var found []scored
	consider := func(e scored) {
		c.step()
		if pattern.match(text(e.member)) {
			found = append(found, e)
		}
	}
	if z.table == nil {
		cursor = 0
		for at := z.seek(0); at.valid(); at.next() {
			consider(at.entry())
		}
	} else {
		cursor = z.scan(cursor, func(visited int64) bool {
			return int64(len(found)) < count && visited/10 < count && !pattern.exhausted()
		}, consider)
	}
	var number [32]byte
	c.out.Array(2)
	c.cursor(cursor)
	if !scores {
		c.out.Array(len(found))
		for _, e := range found {
			c.step()
			c.out.Bulk(e.member)
		}
		return nil
	}
	c.out.Array(2 * len(found))
	for _, e := range found {
		c.step()
		c.out.Bulk(e.member)
		c.out.Bulk(appendFloat(number[:0], e.score))
	}
	return nil
}

// scan visits the members of a large set from a position on, as long as more allows it for so many of them, and returns
// the position of the first one that it did not come to, 0 at the end. Members that share a position are visited together.
func (z *sortedSet) scan(from uint64, more func(visited int64) bool, visit func(scored)) (next uint64) {
	last, visited := uint64(0), int64(0)
	z.table.Each(from, func(position uint64, r dense.Ref) bool {
		if (visited == 0 || position != last) && !more(visited) {
			next = position
			return false
		}
		last = position
		visited++
		visit(z.open(r).scored)
		return true
	})
	return next
}

// A combination is a question about several sets at once.
type combination uint8

const (
	union combination = iota
	intersection
	difference
)

// An aggregate makes one score of two.
type aggregate uint8

const (
	aggregateSum aggregate = iota
	aggregateMin
	aggregateMax
)

// of follows Redis also where infinities meet: their sum is 0.
func (a aggregate) of(x, y float64) float64 {
	switch {
	case a == aggregateSum:
		return numberOr0(x + y)
	case a == aggregateMin && y < x, a == aggregateMax && y > x:
		return y
	}
	return x
}

func numberOr0(score float64) float64 {
	if math.IsNaN(score) {
		return 0
	}
	return score
}

// A weighted is one operand of a combination: a sorted set, or a plain set whose members all have the score 1.
// Both are nil for a key that is not there.
type weighted struct {
	set    *sortedSet
	plain  *setValue
	weight float64
	level  bool // the scores of a sorted set are 1 too
}

// weightedAt returns what a combination finds under key.
func (c *call) weightedAt(key []byte) (w weighted, err error) {
	w.weight = 1
	it := c.get(key)
	if it == nil {
		c.count(false)
		return w, nil
	}
	switch v := it.value.(type) {
	case *sortedSet:
		w.set = v
	case *setValue:
		w.plain = v
	default:
		return w, errWrongType
	}
	c.count(true)
	return w, nil
}

func (w weighted) len() int {
	if w.set == nil {
		return w.plain.len()
	}
	return w.set.len()
}

// each visits the members with their scores until visit returns false.
func (w weighted) each(visit func(member []byte, score float64) bool) {
	w.plain.each(new(setMember), func(m *setMember) bool { return visit(m.bytes(), 1) })
	if w.set == nil {
		return
	}
	for cursor := w.set.seek(0); cursor.valid(); cursor.next() {
		e := cursor.entry()
		if w.level {
			e.score = 1
		}
		if !visit(e.member, e.score) {
			return
		}
	}
}

// find returns the score of a member.
func (w weighted) find(member []byte) (score float64, ok bool) {
	if w.set == nil {
		return 1, w.plain.contains(member)
	}
	s, ok := w.set.find(member)
	if w.level && ok {
		return 1, true
	}
	return s.score, ok
}

// score is an entry's weighted score; 0 times infinity is 0.
func (w weighted) score(score float64) float64 { return unsigned0(numberOr0(w.weight * score)) }

// combinationForm is what a command allows beside its keys.
type combinationForm struct{ weights, lists, counts bool }

// operands are the sets of a combination with its options.
type operands struct {
	sets       []weighted
	aggregate  aggregate
	withScores bool
	limit      int64 // 0 for none
	call       *call
}

// parseOperands reads numkeys, the keys and the options after them, and looks the keys up.
func (c *call) parseOperands(args [][]byte, form combinationForm) (o operands, err error) {
	numkeys, ok := parseInt(args[0])
	switch {
	case !ok:
		return o, errNotInteger
	case numkeys < 1:
		return o, fault.New(fault.InvalidArgument, c.cmd.Name, "at least 1 input key is needed for '%s' command", strings.ToLower(c.cmd.Name))
	case numkeys > int64(len(args)-1):
		return o, errSyntax
	}
	keys, options := args[1:1+numkeys], args[1+numkeys:]
	o.call, o.sets = c, make([]weighted, len(keys))
	for i, key := range keys {
		if o.sets[i], err = c.weightedAt(key); err != nil {
			return o, err
		}
	}
	for i := 0; i < len(options); i++ {
		switch a, left := options[i], len(options)-i-1; {
		case form.weights && left >= len(keys) && is(a, "WEIGHTS"):
			for k := range keys {
				i++
				if o.sets[k].weight, ok = parseFloat(options[i]); !ok {
					return o, fault.New(fault.InvalidArgument, c.cmd.Name, "weight value is not a float")
				}
			}
		case form.weights && left >= 1 && is(a, "AGGREGATE"):
			i++
			if !o.parseAggregate(options[i]) {
				return o, errSyntax
			}
		case form.lists && is(a, "WITHSCORES"):
			o.withScores = true
		case form.counts && left >= 1 && is(a, "LIMIT"):
			i++
			if o.limit, ok = parseInt(options[i]); !ok || o.limit < 0 {
				return o, fault.New(fault.OutOfRange, c.cmd.Name, "LIMIT can't be negative")
			}
		default:
			return o, errSyntax
		}
	}
	return o, nil
}

// parseAggregate reads what stands behind AGGREGATE. COUNT is the sum of the weights of the sets that have a member.
func (o *operands) parseAggregate(a []byte) bool {
	count := is(a, "COUNT")
	switch {
	case is(a, "SUM"), count:
		o.aggregate = aggregateSum
	case is(a, "MIN"):
		o.aggregate = aggregateMin
	case is(a, "MAX"):
		o.aggregate = aggregateMax
	default:
		return false
	}
	for i := range o.sets {
		o.sets[i].level = count
	}
	return true
}

// combine works a combination out, as an edit of no set.
func (o *operands) combine(c *call, how combination) *rankEdit {
	e := c.rerank(nil, nil, nil)
	switch how {
	case union:
		o.union(e)
	case intersection:
		o.intersect(func(member []byte, score float64) bool {
			e.put(member, score)
			return true
		})
	case difference:
		o.subtract(e)
	}
	return e
}

// bySize puts small sets first: less to visit in an intersection, and the order in which Redis adds scores.
func (o *operands) bySize() {
	slices.SortStableFunc(o.sets, func(a, b weighted) int { return a.len() - b.len() })
}

func (o *operands) union(e *rankEdit) {
	o.bySize()
	for _, w := range o.sets {
		w.each(func(member []byte, score float64) bool {
			o.call.step()
			score = w.score(score)
			s, found := e.z.find(member)
			if found {
				score = o.aggregate.of(s.score, score)
			}
			e.set(member, s, found, score)
			return true
		})
	}
}

// intersect visits what all sets have until visit returns false.
func (o *operands) intersect(visit func(member []byte, score float64) bool) {
	o.bySize()
	first := o.sets[0]
	first.each(func(member []byte, score float64) bool {
		o.call.step()
		score = first.score(score)
		for _, w := range o.sets[1:] {
			other, ok := w.find(member)
			if !ok {
				return true
			}
			// Redis keeps 0 times infinity as it is here, so that AGGREGATE MIN and MAX pass over it.
			score = unsigned0(o.aggregate.of(score, w.weight*other))
		}
		return visit(member, score)
	})
}

func (o *operands) subtract(e *rankEdit) {
	o.sets[0].each(func(member []byte, score float64) bool {
		o.call.step()
		for _, w := range o.sets[1:] {
			if _, ok := w.find(member); ok {
				return true
			}
		}
		e.put(member, score)
		return true
	})
}

func zcombine(c *call, how combination) error {
	o, err := c.parseOperands(c.args[1:], combinationForm{weights: how != difference, lists: true})
	if err != nil {
		return err
	}
	e := o.combine(c, how)
	c.members(e.z, 0, e.z.len(), false, o.withScores)
	e.forget()
	return nil
}

func zstore(c *call, how combination) error {
	o, err := c.parseOperands(c.args[2:], combinationForm{weights: how != difference})
	if err != nil {
		return err
	}
	if err := c.checkSizes(c.args[1], 0); err != nil {
		return err
	}
	c.out.Int(o.combine(c, how).replace(c.args[1]))
	return nil
}

func zintercard(c *call) error {
	o, err := c.parseOperands(c.args[1:], combinationForm{counts: true})
	if err != nil {
		return err
	}
	var n int64
	o.intersect(func([]byte, float64) bool {
		n++
		return n != o.limit
	})
	c.out.Int(n)
	return nil
}
