package engine

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"github.com/larder-cache/larder/engine/ranked"
	"github.com/larder-cache/larder/internal/fault"
)

// A board is what makes a sorted set a leaderboard: who comes first among equal scores, and how many members
// it keeps. A sorted set without settings is a leaderboard too, with the zero board: equal scores rank by
// name, and all members stay. Every Redis command on the set follows the board's settings.
//
// A member under FIRST or LAST draws a sequence number whenever its score changes. FIRST ranks the lower
// number first, LAST the higher, which is why LAST keeps the complement as the tie. The rule holds in both
// orders: the highest first or the lowest first, equal scores stand in the same succession.
type board struct {
	configured bool // by LEADERBOARD.CREATE: the board stays when its last member has left
	ties       tieRule
	keep       int   // the best so many stay, 0 for all
	keepOrder  order // says which are the best
	seq        uint64
}

// A tieRule ranks equal scores.
type tieRule uint8

const (
	tiesMember tieRule = iota // by name
	tiesFirst                 // who had the score first
	tiesLast                  // who had it last
	numTieRules
)

var tieRuleNames = [numTieRules]string{"MEMBER", "FIRST", "LAST"}

func (r tieRule) String() string { return tieRuleNames[r] }

// An order says which end of a board is the top.
type order uint8

const (
	descending order = iota // the highest score first
	ascending               // the lowest score first
)

func (o order) String() string {
	if o == ascending {
		return "ASC"
	}
	return "DESC"
}

func (b *board) nextTie() uint64 {
	switch b.ties {
	case tiesFirst:
		b.seq++
		return b.seq
	case tiesLast:
		b.seq++
		return ^b.seq
	}
	return 0
}

// sequence is the number that a member drew with its tie.
func (b *board) sequence(tie uint64) uint64 {
	if b.ties == tiesLast {
		return ^tie
	}
	return tie
}

func (b *board) encode(dst []byte) []byte {
	var configured byte
	if b.configured {
		configured = 1
	}
	dst = append(dst, configured, byte(b.ties), byte(b.keepOrder))
	dst = binary.AppendUvarint(dst, uint64(b.keep))
	return binary.AppendUvarint(dst, b.seq)
}

// A standing is where a member stands: all ranks count from 1.
type standing struct {
	rank        int // every member has its own: equal scores follow the tie rule
	competition int // equal scores share the best rank: 1 2 2 4
	dense       int // and the next score follows at once: 1 2 2 3
}

// standing works out where a member of the board stands. O(log n).
func (z *sortedSet) standing(o order, s spot) standing {
	if z.table == nil {
		return z.packed.standing(o, s.index, s.score)
	}
	p, _ := z.tree.Place(s.entry())
	return z.standingAt(o, p)
}

// standingAt is the standing of an entry of a large set.
func (z *sortedSet) standingAt(o order, p ranked.Place) standing {
	if o == descending {
		return standing{p.DescIndex() + 1, z.tree.Len() - p.To + 1, z.tree.Runs() - p.Dense}
	}
	return standing{p.Index + 1, p.From + 1, p.Dense + 1}
}

// page visits up to limit entries in order o, from the one with offset others before it, each with its
// standing. O(log n) and a constant for each entry.
func (z *sortedSet) page(o order, offset, limit int, visit func(scored, standing)) {
	switch {
	case limit <= 0 || offset >= z.len():
	case z.table == nil:
		z.packed.standings(o, offset, limit, visit)
	default:
		p := z.tree.PlaceAt(offset)
		if o == descending {
			p = z.tree.DescPlaceAt(offset)
		}
		for ; limit > 0 && p.Valid(); limit-- {
			e := p.Entry()
			visit(scored{e.Score, e.Tie, z.Name(e.Member)}, z.standingAt(o, p))
			if o == descending {
				p.DescNext()
			} else {
				p.Next()
			}
		}
	}
}

// trim removes all but the best n in order o and reports how many that are. O(log n) and a constant for each.
func (e *rankEdit) trim(o order, n int) (removed int) {
	z := e.z
	removed = z.len() - n
	switch {
	case removed <= 0:
		return 0
	case o == ascending || n == 0:
		e.cut(n, z.len())
		return removed
	}
	// Lower scores than the last one kept go whole; among its equals the succession is ascending, so the ones
	// to go are those at the end of its run. The run is that of the entry that is as far from the end.
	score := z.at(z.len() - n).score
	from, to := z.lowerBound(score), z.upperBound(score)
	better := z.len() - to
	e.cut(from+n-better, to)
	e.cut(0, from)
	return removed
}

// Bounds of one call.
const (
	maxBoardMembers = 10_000   // members named in a call, or returned by one
	maxBoardMember  = 32 << 10 // bytes in a member
)

var leaderboardCommands = []Command{
	{Name: "LEADERBOARD.CREATE", Arity: -2, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupLeaderboard, Action: "leaderboard:Create", Facts: boardCreateFacts, run: boardCreate,
		Usage:   "key [TIES <MEMBER | FIRST | LAST>] [PX milliseconds] [KEEP count <DESC | ASC>]",
		Summary: "Makes a leaderboard or changes its settings; options not given stay as they are", Complexity: "O(1), with KEEP O(log N + M) for M members removed", Since: "1.0.0"},
	{Name: "LEADERBOARD.INFO", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupLeaderboard, Action: "leaderboard:Length", run: boardInfo,
		Usage: "key", Summary: "Returns a leaderboard's size, TTL and settings", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "LEADERBOARD.PUT", Arity: -5, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupLeaderboard, Action: "leaderboard:Upsert", Rights: boardPutRights, Facts: boardPutFacts, run: boardPut,
		Usage:   "key <SET | INCREMENT | MAX | MIN> [PX milliseconds] score member [score member ...]",
		Summary: "Gives members scores, all of them or none; PX counts only for a board that is made by it", Complexity: "O(log N) for each member", Since: "1.0.0"},
	{Name: "LEADERBOARD.GET", Arity: -4, Keys: oneKey, Flags: Fast, Group: GroupLeaderboard, Action: "leaderboard:GetRank", run: boardGet,
		Usage: "key <DESC | ASC> member [member ...]", Summary: "Returns the standings of members", Complexity: "O(log N) for each member", Since: "1.0.0"},
	{Name: "LEADERBOARD.PAGE", Arity: -5, Keys: oneKey, Group: GroupLeaderboard, Action: "leaderboard:FetchByRank", Rights: boardPageRights, Facts: boardPageFacts, run: boardPage,
		Usage: "key <DESC | ASC> offset limit [SCORE min max]", Summary: "Returns a page of standings, of all members or of those with scores in a range", Complexity: "O(log N + M) for M members returned", Since: "1.0.0"},
	{Name: "LEADERBOARD.AROUND", Arity: 6, Keys: oneKey, Group: GroupLeaderboard, Action: "leaderboard:GetRank", Facts: boardAroundFacts, run: boardAround,
		Usage: "key <DESC | ASC> member above below", Summary: "Returns the standings of a member and of those just above and below it", Complexity: "O(log N + M) for M members returned", Since: "1.0.0"},
	{Name: "LEADERBOARD.AMONG", Arity: -4, Keys: oneKey, Group: GroupLeaderboard, Action: "leaderboard:GetRank", Facts: boardAmongFacts, run: boardAmong,
		Usage: "key <DESC | ASC> member [member ...]", Summary: "Returns the standings of the members present, the best first, with their ranks among themselves", Complexity: "O(M log N + M log M) for M members", Since: "1.0.0"},
	{Name: "LEADERBOARD.REMOVE", Arity: -3, Keys: oneKey, Flags: Writes | Fast, Group: GroupLeaderboard, Action: "leaderboard:Remove", run: boardRemove,
		Usage: "key member [member ...]", Summary: "Removes members and counts those that were there", Complexity: "O(log N) for each member", Since: "1.0.0"},
	{Name: "LEADERBOARD.TRIM", Arity: 4, Keys: oneKey, Flags: Writes, Group: GroupLeaderboard, Action: "leaderboard:Remove", run: boardTrim,
		Usage: "key <DESC | ASC> count", Summary: "Removes all but the best members and counts those removed", Complexity: "O(log N + M) for M members removed", Since: "1.0.0"},
	{Name: "LEADERBOARD.DELETE", Arity: 2, Keys: oneKey, Flags: Writes, Group: GroupLeaderboard, Action: "leaderboard:Delete", run: boardDelete,
		Usage: "key", Summary: "Removes a leaderboard with its settings", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "LEADERBOARD.EXPIRE", Arity: 3, Keys: oneKey, Flags: Writes | Fast, Group: GroupLeaderboard, Action: "leaderboard:Create", Facts: boardExpireFacts, run: boardExpire,
		Usage: "key milliseconds", Summary: "Sets how long a leaderboard lives from now on, 0 for ever", Complexity: "O(log N) in the number of keys that expire", Since: "1.0.0"},
	{Name: "LEADERBOARD.LIST", Arity: -2, Spread: PartsInTurn, PageItem: 3, PageCount: 10, Group: GroupLeaderboard, Action: "leaderboard:List", Facts: boardListFacts, run: boardList,
		Usage: "cursor [PREFIX prefix] [COUNT count]", Summary: "Visits the leaderboards of the selected database a few at a time", Complexity: "O(1) a call, O(N) for all keys", Since: "1.0.0"},
}

// Rights and facts; see sortedsets.go for what binds them.

func onBoard(dst []Right, action string, args [][]byte) []Right {
	return append(dst, Right{Action: action, On: OnLeaderboard, Name: args[1]})
}

func boardPutRights(dst []Right, args [][]byte) []Right {
	if is(args[2], "INCREMENT") {
		return onBoard(dst, "leaderboard:Increment", args)
	}
	return onBoard(dst, "leaderboard:Upsert", args)
}

func boardPageRights(dst []Right, args [][]byte) []Right {
	if len(args) > 5 {
		return onBoard(dst, "leaderboard:FetchByScore", args)
	}
	return onBoard(dst, "leaderboard:FetchByRank", args)
}

func boardCreateFacts(args [][]byte, _ int64) Facts {
	return Facts{ValueSize: -1, TTL: max(lastNumber(args, "PX", 1, -1), -1), MaxItems: -1}
}

func boardPutFacts(args [][]byte, _ int64) Facts {
	f := Facts{TTL: -1, MaxItems: -1}
	pairs := args[3:]
	if is(pairs[0], "PX") {
		f.TTL = max(lastNumber(pairs[:2], "PX", 1, -1), -1)
		pairs = pairs[2:]
	}
	for i := 1; i < len(pairs); i += 2 {
		f.ValueSize += int64(len(pairs[i]))
	}
	return f
}

func boardPageFacts(args [][]byte, _ int64) Facts {
	limit, _ := parseInt(args[4])
	return listing(limit)
}

func boardAroundFacts(args [][]byte, _ int64) Facts {
	above, _ := parseInt(args[4])
	below, _ := parseInt(args[5])
	return listing(min(max(above, 0), maxBoardMembers) + min(max(below, 0), maxBoardMembers) + 1)
}

func boardAmongFacts(args [][]byte, _ int64) Facts { return listing(int64(len(args) - 3)) }

// EXPIRE with 0 takes the deadline away: no TTL is named.
func boardExpireFacts(args [][]byte, _ int64) Facts {
	f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
	if ttl, ok := parseInt(args[2]); ok && ttl > 0 {
		f.TTL = ttl
	}
	return f
}

func boardListFacts(args [][]byte, _ int64) Facts {
	f := listing(10)
	for i := 2; i+1 < len(args); i += 2 {
		switch {
		case is(args[i], "PREFIX"):
			f.Prefix = args[i+1]
		case is(args[i], "COUNT"):
			n, _ := parseInt(args[i+1])
			f.MaxItems = max(n, 0)
		}
	}
	return f
}

// Arguments.

func (c *call) orderArg(i int) (order, error) {
	switch {
	case is(c.args[i], "DESC"):
		return descending, nil
	case is(c.args[i], "ASC"):
		return ascending, nil
	}
	return descending, fault.About(fault.InvalidArgument, c.cmd.Name, "order", "order must be DESC or ASC")
}

// numberArg reads an argument between least and most, both included.
func (c *call) numberArg(name string, arg []byte, least, most int64) (int64, error) {
	n, ok := parseInt(arg)
	if !ok {
		return 0, fault.About(fault.InvalidArgument, c.cmd.Name, name, "%s must be an integer from %d to %d", name, least, most)
	}
	if n < least || n > most {
		return 0, fault.About(fault.OutOfRange, c.cmd.Name, name, "%s must be from %d to %d, is %d", name, least, most, n)
	}
	return n, nil
}

// ttlArg reads milliseconds from now on, at least least of them, as a deadline.
func (c *call) ttlArg(arg []byte, least int64) (at int64, err error) {
	ttl, err := c.numberArg("ttl", arg, least, math.MaxInt64-c.now)
	return c.now + ttl, err
}

// checkMembers refuses too many members, and members that are too long.
func (c *call) checkMembers(members [][]byte, step int) error {
	if n := (len(members) + step - 1) / step; n > maxBoardMembers {
		return fault.About(fault.TooLarge, c.cmd.Name, "members", "at most %d members in a call, there are %d", maxBoardMembers, n)
	}
	for i := 0; i < len(members); i += step {
		if n := len(members[i]); n > maxBoardMember {
			return fault.About(fault.TooLarge, c.cmd.Name, "member", "a member has at most %d bytes, one has %d", maxBoardMember, n)
		}
	}
	return nil
}

func boardCreate(c *call) error {
	key := c.args[1]
	var ties, keep bool
	var wanted board
	var expireAt int64
	for i := 2; i < len(c.args); i++ {
		left := len(c.args) - i - 1
		switch a := c.args[i]; {
		case is(a, "TIES") && left >= 1 && !ties:
			i++
			rule := slices.IndexFunc(tieRuleNames[:], func(name string) bool { return is(c.args[i], name) })
			if rule < 0 {
				return fault.About(fault.InvalidArgument, c.cmd.Name, "ties", "ties must be MEMBER, FIRST or LAST")
			}
			ties, wanted.ties = true, tieRule(rule)
		case is(a, "PX") && left >= 1 && expireAt == 0:
			i++
			at, err := c.ttlArg(c.args[i], 1)
			if err != nil {
				return err
			}
			expireAt = at
		case is(a, "KEEP") && left >= 2 && !keep:
			n, err := c.numberArg("keep", c.args[i+1], 0, math.MaxInt32)
			if err != nil {
				return err
			}
			if wanted.keepOrder, err = c.orderArg(i + 2); err != nil {
				return err
			}
			keep, wanted.keep = true, int(n)
			i += 2
		default:
			return errSyntax
		}
	}
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	z, it, err := lookup[*sortedSet](c, key)
	if err != nil {
		return err
	}
	var b board
	if z != nil {
		b = z.board
	}
	if ties && wanted.ties != b.ties && z != nil && z.len() > 0 {
		return fault.About(fault.Conflict, c.cmd.Name, "ties", "the board has %d members ranked with ties by %s; only an empty board can change that", z.len(), b.ties)
	}
	b.configured = true
	if ties {
		b.ties = wanted.ties
	}
	if keep {
		b.keep, b.keepOrder = wanted.keep, wanted.keepOrder
	}
	switch {
	case it == nil && expireAt == 0:
		expireAt = c.defaultDeadline()
	case it != nil && expireAt != 0:
		if err := c.expire(it, expireAt); err != nil {
			return err
		}
	}
	e := c.rerank(z, it, key)
	e.configure(b)
	e.done(expireAt)
	it = c.peek(key)
	c.info(it.value.(*sortedSet), it)
	return nil
}

func boardInfo(c *call) error {
	z, it, err := lookup[*sortedSet](c, c.args[1])
	if err != nil {
		return err
	}
	c.count(z != nil)
	if z == nil {
		c.out.Null()
		return nil
	}
	c.info(z, it)
	return nil
}

func (c *call) info(z *sortedSet, it *item) {
	c.out.Array(5)
	c.out.Int(int64(z.len()))
	c.out.Int(c.ttlOf(it))
	c.out.Text(z.board.ties.String())
	c.out.Int(int64(z.board.keep))
	c.out.Text(z.board.keepOrder.String())
}

// A putMode says what a score does to the one that is there.
type putMode uint8

const (
	putSet putMode = iota
	putIncrement
	putMax
	putMin
	numPutModes
)

var putModeNames = [numPutModes]string{"SET", "INCREMENT", "MAX", "MIN"}

// of is the score that a member with score old gets.
func (m putMode) of(old, score float64) float64 {
	switch {
	case m == putIncrement:
		return old + score
	case m == putMax && old > score, m == putMin && old < score:
		return old
	}
	return score
}

func boardPut(c *call) error {
	key := c.args[1]
	found := slices.IndexFunc(putModeNames[:], func(name string) bool { return is(c.args[2], name) })
	if found < 0 {
		return fault.About(fault.InvalidArgument, c.cmd.Name, "mode", "mode must be SET, INCREMENT, MAX or MIN")
	}
	mode, pairs, expireAt := putMode(found), c.args[3:], c.defaultDeadline()
	if is(pairs[0], "PX") {
		at, err := c.ttlArg(pairs[1], 1)
		if err != nil {
			return err
		}
		expireAt, pairs = at, pairs[2:]
	}
	if len(pairs) == 0 || len(pairs)%2 != 0 {
		return errArity(c)
	}
	if err := c.checkMembers(pairs[1:], 2); err != nil {
		return err
	}
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	z, it, err := lookup[*sortedSet](c, key)
	if err != nil {
		return err
	}
	scores, err := c.scoresToPut(z, mode, pairs)
	if err != nil {
		return err
	}
	e := c.rerank(z, it, key)
	var added, changed int64
	for i, score := range scores {
		isNew, isChanged := e.put(pairs[2*i+1], score)
		if isNew {
			added++
		}
		if isChanged {
			changed++
		}
	}
	size := e.done(expireAt)
	c.out.Array(4)
	c.out.Int(added)
	c.out.Int(changed)
	c.out.Int(int64(size))
	c.out.Array(len(scores))
	for _, score := range scores {
		c.out.Double(score)
	}
	return nil
}

// scoresToPut works out the score that each pair gives its member, a member named again counting on from the
// pair before. Unlike ZADD it takes and makes no infinite scores: JSON has none.
func (c *call) scoresToPut(z *sortedSet, mode putMode, pairs [][]byte) ([]float64, error) {
	scores := make([]float64, len(pairs)/2)
	var earlier map[string]float64
	if len(scores) > 1 && mode != putSet {
		earlier = make(map[string]float64, len(scores))
	}
	for i := range scores {
		member := pairs[2*i+1]
		score, ok := parseFloat(pairs[2*i])
		if !ok || math.IsInf(score, 0) {
			return nil, fault.About(fault.InvalidArgument, c.cmd.Name, "score", "score number %d is not a finite number", i+1)
		}
		old, had := earlier[string(member)]
		if !had {
			var s spot
			s, had = z.find(member)
			old = s.score
		}
		if had {
			by := score
			if score = mode.of(old, by); math.IsInf(score, 0) && mode == putIncrement {
				return nil, fault.About(fault.Overflow, c.cmd.Name, "score", "score number %d: %g and %g add up to more than a finite number holds", i+1, old, by)
			}
		}
		scores[i] = unsigned0(score)
		if earlier != nil {
			earlier[string(member)] = score
		}
	}
	return scores, nil
}

// standing replies with six elements.
func (c *call) standing(e scored, s standing, total int) {
	c.out.Bulk(e.member)
	c.out.Double(e.score)
	c.out.Int(int64(s.rank))
	c.out.Int(int64(s.competition))
	c.out.Int(int64(s.dense))
	c.out.Double(100 * float64(total-s.competition+1) / float64(total))
}

func boardGet(c *call) error {
	o, err := c.orderArg(2)
	if err != nil {
		return err
	}
	members := c.args[3:]
	if err := c.checkMembers(members, 1); err != nil {
		return err
	}
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(len(members))
	for _, member := range members {
		s, found := z.find(member)
		if !found {
			c.out.Null()
			continue
		}
		c.out.Array(6)
		c.standing(s.scored, z.standing(o, s), z.len())
	}
	return nil
}

func boardPage(c *call) error {
	o, err := c.orderArg(2)
	if err != nil {
		return err
	}
	offset, err := c.numberArg("offset", c.args[3], 0, math.MaxInt64)
	if err != nil {
		return err
	}
	limit, err := c.numberArg("limit", c.args[4], 0, maxBoardMembers)
	if err != nil {
		return err
	}
	scores := scoreRange{min: math.Inf(-1), max: math.Inf(1)}
	switch {
	case len(c.args) == 5:
	case len(c.args) == 8 && is(c.args[5], "SCORE"):
		if scores, err = parseScoreRange(c.args[6], c.args[7]); err != nil {
			return fault.About(fault.InvalidArgument, c.cmd.Name, "score", "min or max is not a float; write 10, (10 without 10 itself, -inf or +inf")
		}
	default:
		return errSyntax
	}
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	if z == nil {
		c.page(nil, o, 0, 0, 0)
		return nil
	}
	// A range of scores is whole runs, which lie together in both orders.
	from, to := scores.in(z)
	total := to - from
	skip := int(min(offset, int64(total)))
	if o == descending {
		from = z.len() - to
	}
	c.page(z, o, total, from+skip, int(min(limit, int64(total-skip))))
	return nil
}

// page replies with a total and n standings, those from offset on.
func (c *call) page(z *sortedSet, o order, total, offset, n int) {
	c.out.Array(2)
	c.out.Int(int64(total))
	c.out.Array(n)
	if n == 0 {
		return
	}
	z.page(o, offset, n, func(e scored, s standing) {
		c.out.Array(6)
		c.standing(e, s, z.len())
	})
}

func boardAround(c *call) error {
	o, err := c.orderArg(2)
	if err != nil {
		return err
	}
	if err := c.checkMembers(c.args[3:4], 1); err != nil {
		return err
	}
	above, err := c.numberArg("above", c.args[4], 0, maxBoardMembers)
	if err != nil {
		return err
	}
	below, err := c.numberArg("below", c.args[5], 0, maxBoardMembers-above)
	if err != nil {
		return err
	}
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	s, found := z.find(c.args[3])
	if !found {
		c.out.Null()
		return nil
	}
	at := z.standing(o, s).rank - 1
	from, to := max(0, at-int(above)), min(z.len(), at+int(below)+1)
	c.page(z, o, z.len(), from, to-from)
	return nil
}

func boardAmong(c *call) error {
	o, err := c.orderArg(2)
	if err != nil {
		return err
	}
	members := c.args[3:]
	if err := c.checkMembers(members, 1); err != nil {
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
	type present struct {
		scored
		standing
	}
	list := make([]present, 0, len(members))
	for _, member := range members {
		if s, found := z.find(member); found {
			list = append(list, present{s.scored, z.standing(o, s)})
		}
	}
	slices.SortFunc(list, func(a, b present) int { return a.rank - b.rank })
	list = slices.CompactFunc(list, func(a, b present) bool { return a.rank == b.rank }) // a member named twice
	c.out.Array(len(list))
	for i, p := range list {
		c.out.Array(7)
		c.standing(p.scored, p.standing, z.len())
		c.out.Int(int64(i + 1))
	}
	return nil
}

func boardRemove(c *call) error {
	if err := c.checkMembers(c.args[2:], 1); err != nil {
		return err
	}
	z, it, err := lookup[*sortedSet](c, c.args[1])
	if err != nil {
		return err
	}
	c.out.Int(c.dropMembers(z, it, c.args[2:]))
	return nil
}

func boardTrim(c *call) error {
	o, err := c.orderArg(2)
	if err != nil {
		return err
	}
	n, err := c.numberArg("count", c.args[3], 0, math.MaxInt64)
	if err != nil {
		return err
	}
	z, it, err := lookup[*sortedSet](c, c.args[1])
	if err != nil {
		return err
	}
	removed := 0
	if z != nil && n < int64(z.len()) {
		e := c.rerank(z, it, c.args[1])
		removed = e.trim(o, int(n))
		e.done(0)
	}
	c.out.Int(int64(removed))
	return nil
}

func boardDelete(c *call) error {
	z, _, err := lookup[*sortedSet](c, c.args[1])
	if err != nil {
		return err
	}
	if z == nil {
		c.out.Int(0)
		return nil
	}
	c.remove(c.args[1])
	c.out.Int(1)
	return nil
}

func boardExpire(c *call) error {
	at, err := c.ttlArg(c.args[2], 0)
	if err != nil {
		return err
	}
	z, it, err := lookup[*sortedSet](c, c.args[1])
	if err != nil {
		return err
	}
	if z == nil {
		c.out.Int(0)
		return nil
	}
	if at == c.now {
		at = 0
	}
	if err := c.expire(it, at); err != nil {
		return err
	}
	c.out.Int(1)
	return nil
}

func boardList(c *call) error {
	cursor, err := parsePlace(c.args[1])
	if err != nil {
		return err
	}
	count, prefix := int64(10), []byte(nil)
	for i := 2; i < len(c.args); i += 2 {
		switch {
		case i+1 < len(c.args) && is(c.args[i], "PREFIX"):
			prefix = c.args[i+1]
		case i+1 < len(c.args) && is(c.args[i], "COUNT"):
			if count, err = c.numberArg("count", c.args[i+1], 1, maxBoardMembers); err != nil {
				return err
			}
		default:
			return errSyntax
		}
	}
	var boards []*item
	visited := int64(0)
	cursor = c.keys().walk(cursor, func() bool { return int64(len(boards)) < count && visited/10 < count }, func(it *item) bool {
		visited++
		_, match := it.value.(*sortedSet)
		match = match && !it.expiredAt(c.now) && bytes.HasPrefix(it.key, prefix)
		if match {
			boards = append(boards, it)
		}
		return match
	})
	c.out.Array(2)
	c.cursor(cursor)
	c.out.Array(3 * len(boards))
	for _, it := range boards {
		c.out.Bulk(it.key)
		c.out.Int(int64(it.value.(*sortedSet).len()))
		c.out.Int(c.ttlOf(it))
	}
	return nil
}
