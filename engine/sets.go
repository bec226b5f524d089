package engine

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
)

// The commands on sets. setforms.go has what a set is, setedit.go how one changes.

var setCommands = []Command{
	{Name: "SADD", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupSet, Action: "cache:SetWrite", Facts: saddFacts, run: sadd,
		Usage: "key member [member ...]", Summary: "Adds members to a set and counts the new ones", Complexity: "O(1) for each member", Since: "1.0.0"},
	{Name: "SREM", Arity: -3, Keys: oneKey, Flags: Writes | Fast, Group: GroupSet, Action: "cache:SetWrite", run: srem,
		Usage: "key member [member ...]", Summary: "Removes members and counts those that were there", Complexity: "O(1) for each member", Since: "1.0.0"},
	{Name: "SMOVE", Arity: 4, Keys: twoKeys, Flags: Writes | Fast, Group: GroupSet, Action: "cache:SetWrite", Also: setReadRight, run: smove,
		Usage: "source destination member", Summary: "Moves a member from one set to another", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "SPOP", Arity: -2, Keys: oneKey, Flags: Writes | Fast, Group: GroupSet, Action: "cache:SetWrite", Also: setReadRight, Facts: zpopFacts, run: spop,
		Usage: "key [count]", Summary: "Removes and returns members drawn at random", Complexity: "O(M) for M members", Since: "1.0.0"},

	{Name: "SCARD", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupSet, Action: "cache:SetRead", run: scard,
		Usage: "key", Summary: "Counts the members", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "SISMEMBER", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupSet, Action: "cache:SetRead", run: sismember,
		Usage: "key member", Summary: "Tells whether a set has a member", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "SMISMEMBER", Arity: -3, Keys: oneKey, Flags: Fast, Group: GroupSet, Action: "cache:SetRead", run: smismember,
		Usage: "key member [member ...]", Summary: "Tells of each member whether a set has it", Complexity: "O(1) for each member", Since: "6.2.0"},
	{Name: "SMEMBERS", Arity: 2, Keys: oneKey, Group: GroupSet, Action: "cache:SetRead", Facts: wholeListing, run: smembers,
		Usage: "key", Summary: "Returns all members", Complexity: "O(N) for a set of N members", Since: "1.0.0"},
	{Name: "SRANDMEMBER", Arity: -2, Keys: oneKey, Group: GroupSet, Action: "cache:SetRead", Facts: zrandmemberFacts, run: srandmember,
		Usage: "key [count]", Summary: "Returns members drawn at random: different ones, or with a negative count any", Complexity: "O(M) for M members", Since: "1.0.0"},
	{Name: "SSCAN", Arity: -3, Keys: oneKey, Group: GroupSet, Action: "cache:SetRead", Facts: zscanFacts, run: sscan,
		Usage: "key cursor [MATCH pattern] [COUNT count]", Summary: "Visits the members a few at a time", Complexity: "O(1) a call, O(N) for all", Since: "2.8.0"},

	{Name: "SINTER", Arity: -2, Keys: allKeys, Group: GroupSet, Action: "cache:SetRead", Facts: wholeListing, run: func(c *call) error { return scombine(c, intersection) },
		Usage: "key [key ...]", Summary: "Returns the members that all the sets have", Complexity: "O(NK) for K sets, the smallest of N members", Since: "1.0.0"},
	{Name: "SUNION", Arity: -2, Keys: allKeys, Group: GroupSet, Action: "cache:SetRead", Facts: wholeListing, run: func(c *call) error { return scombine(c, union) },
		Usage: "key [key ...]", Summary: "Returns the members that any of the sets has", Complexity: "O(N) for sets of N members in all", Since: "1.0.0"},
	{Name: "SDIFF", Arity: -2, Keys: allKeys, Group: GroupSet, Action: "cache:SetRead", Facts: wholeListing, run: func(c *call) error { return scombine(c, difference) },
		Usage: "key [key ...]", Summary: "Returns the members that only the first set has", Complexity: "O(NK) for K sets, the first of N members", Since: "1.0.0"},
	{Name: "SINTERSTORE", Arity: -3, Keys: allKeys, Flags: Writes | Grows, rests: true, Group: GroupSet, Action: "cache:SetWrite", Rights: sstoreRights, run: func(c *call) error { return sstore(c, intersection) },
		Usage: "destination key [key ...]", Summary: "Stores the members that all the sets have", Complexity: "O(NK) for K sets, the smallest of N members", Since: "1.0.0"},
	{Name: "SUNIONSTORE", Arity: -3, Keys: allKeys, Flags: Writes | Grows, rests: true, Group: GroupSet, Action: "cache:SetWrite", Rights: sstoreRights, run: func(c *call) error { return sstore(c, union) },
		Usage: "destination key [key ...]", Summary: "Stores the members that any of the sets has", Complexity: "O(N) for sets of N members in all", Since: "1.0.0"},
	{Name: "SDIFFSTORE", Arity: -3, Keys: allKeys, Flags: Writes | Grows, rests: true, Group: GroupSet, Action: "cache:SetWrite", Rights: sstoreRights, run: func(c *call) error { return sstore(c, difference) },
		Usage: "destination key [key ...]", Summary: "Stores the members that only the first set has", Complexity: "O(NK) for K sets, the first of N members", Since: "1.0.0"},
	{Name: "SINTERCARD", Arity: -3, Keys: countedKeys, Group: GroupSet, Action: "cache:SetRead", run: func(c *call) error { return cardinality(c, intersection) },
		Usage: "numkeys key [key ...] [LIMIT limit]", Summary: "Counts the members that all the sets have", Complexity: "O(NK) for K sets, the smallest of N members", Since: "7.0.0"},
	{Name: "SUNIONCARD", Arity: -3, Keys: countedKeys, Group: GroupSet, Action: "cache:SetRead", run: func(c *call) error { return cardinality(c, union) },
		Usage: "numkeys key [key ...] [APPROX] [LIMIT limit]", Summary: "Counts the members that any of the sets has", Complexity: "O(N) for sets of N members in all", Since: "8.10.0"},
	{Name: "SDIFFCARD", Arity: -3, Keys: countedKeys, Group: GroupSet, Action: "cache:SetRead", run: func(c *call) error { return cardinality(c, difference) },
		Usage: "numkeys key [key ...] [LIMIT limit]", Summary: "Counts the members that only the first set has", Complexity: "O(NK) for K sets, the first of N members", Since: "8.10.0"},
}

// setReadRight: the answer of a pop or a move tells what its first key held.
func setReadRight(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:SetRead", On: OnKey, Name: nth(args, 1)})
}

func sstoreRights(dst []Right, args [][]byte) []Right {
	dst = append(dst, Right{Action: "cache:SetWrite", On: OnKey, Name: args[1]})
	for _, key := range args[2:] {
		dst = append(dst, Right{Action: "cache:SetRead", On: OnKey, Name: key})
	}
	return dst
}

func saddFacts(args [][]byte, _ int64) Facts { return elementFacts(args[2:]...) }

// setAt returns the set under key for reading, nil when there is none.
func (c *call) setAt(key []byte) (*setValue, error) {
	s, _, err := lookup[*setValue](c, key)
	if err == nil {
		c.count(s != nil)
	}
	return s, err
}

func sadd(c *call) error {
	key, members := c.args[1], c.args[2:]
	s, it, err := lookup[*setValue](c, key)
	if err != nil {
		return err
	}
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	for _, m := range members {
		if len(m) > MaxKey {
			return fault.About(fault.TooLarge, c.cmd.Name, "member", "max member size exceeded. Limit: %d bytes, Actual: %d bytes", MaxKey, len(m))
		}
	}
	var added int64
	edit, m := c.editSet(s, it), &c.p.member
	for _, text := range members {
		m.setText(text)
		if edit.add(m) {
			added++
		}
	}
	edit.done(key)
	c.out.Int(added)
	return nil
}

func srem(c *call) error {
	key := c.args[1]
	s, it, err := lookup[*setValue](c, key)
	if err != nil {
		return err
	}
	var removed int64
	if s != nil {
		edit, m := c.editSet(s, it), &c.p.member
		for _, text := range c.args[2:] {
			m.setText(text)
			if edit.remove(m) {
				removed++
			}
		}
		edit.done(key)
	}
	c.out.Int(removed)
	return nil
}

func smove(c *call) error {
	source, it, err := lookup[*setValue](c, c.args[1])
	if err != nil {
		return err
	}
	if source == nil { // as Redis, which then does not mind what the destination is
		c.out.Int(0)
		return nil
	}
	target, other, err := lookup[*setValue](c, c.args[2])
	if err != nil {
		return err
	}
	if err := c.checkSizes(c.args[2], 0); err != nil {
		return err
	}
	m := &c.p.member
	m.setText(c.args[3])
	there := source.has(m)
	if there && source != target {
		from := c.editSet(source, it)
		from.remove(m)
		from.done(c.args[1])
		to := c.editSet(target, other)
		to.add(m)
		to.done(c.args[2])
	}
	c.flag(there)
	return nil
}

func scard(c *call) error {
	s, err := c.setAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Int(int64(s.len()))
	return nil
}

func sismember(c *call) error {
	s, err := c.setAt(c.args[1])
	if err != nil {
		return err
	}
	m := &c.p.member
	m.setText(c.args[2])
	c.flag(s.has(m))
	return nil
}

func smismember(c *call) error {
	s, err := c.setAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	m := &c.p.member
	for _, text := range c.args[2:] {
		m.setText(text)
		c.flag(s.has(m))
		c.step()
	}
	return nil
}

func smembers(c *call) error {
	s, err := c.setAt(c.args[1])
	if err != nil {
		return err
	}
	c.memberSet(s)
	return nil
}

// memberSet replies with all members, without order.
func (c *call) memberSet(s *setValue) {
	c.out.Set(s.len())
	c.eachMember(s)
}

// eachMember replies with one member after the other.
func (c *call) eachMember(s *setValue) {
	s.each(&c.p.member, func(m *setMember) bool {
		c.step()
		c.out.Bulk(m.bytes())
		return true
	})
}

func spop(c *call) error {
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
	s, it, err := lookup[*setValue](c, c.args[1])
	if err != nil {
		return err
	}
	switch {
	case s == nil && listed:
		c.out.Set(0)
		return nil
	case s == nil:
		c.out.Null()
		return nil
	case listed && count >= int64(s.len()):
		c.memberSet(s)
		c.dropItem(it)
		return nil
	case listed:
		c.out.Set(int(count))
	}
	dice, edit, m := c.p.random(), c.editSet(s, it), &c.p.member
	for range count {
		edit.s.draw(dice, m)
		c.out.Bulk(m.bytes())
		edit.remove(m)
	}
	edit.done(c.args[1])
	return nil
}

func srandmember(c *call) error {
	if len(c.args) > 3 {
		return errSyntax
	}
	count, listed := int64(0), len(c.args) == 3
	if listed {
		var ok bool
		switch count, ok = parseInt(c.args[2]); {
		case !ok:
			return errNotInteger
		case count == math.MinInt64:
			return fault.New(fault.OutOfRange, c.cmd.Name, "value is out of range, value must between -9223372036854775807 and 9223372036854775807")
		case count < -maxDraws:
			return fault.About(fault.OutOfRange, c.cmd.Name, "count", "count must be at least %d, is %d", -maxDraws, count)
		}
	}
	s, err := c.setAt(c.args[1])
	switch {
	case err != nil:
		return err
	case !listed && s == nil:
		c.out.Null()
	case !listed:
		s.draw(c.p.random(), &c.p.member)
		c.out.Bulk(c.p.member.bytes())
	case s == nil || count == 0:
		c.out.Array(0)
	case count >= int64(s.len()):
		c.out.Array(s.len())
		c.eachMember(s)
	case s.table != nil:
		return c.drawRecords(s, int(count))
	case count < 0:
		c.drawPlaces(s, int(-count))
	default:
		c.drawDifferent(s, int(count))
	}
	return nil
}

// drawPlaces replies with count members of a packed set, each drawn from all.
func (c *call) drawPlaces(s *setValue, count int) {
	var places [maxIntset]uint16
	n, dice, m := 0, c.p.random(), &c.p.member
	for at := 1; at < len(s.b); at += s.size(at) {
		places[n] = uint16(at)
		n++
	}
	c.out.Array(count)
	for range count {
		s.take(int(places[dice.IntN(n)]), m)
		c.out.Bulk(m.bytes())
	}
}

// drawDifferent replies with count different members of a packed set that has more, in its order: each member in turn is
// taken with the chance of those that are still wanted among those that are left.
func (c *call) drawDifferent(s *setValue, count int) {
	left, dice := s.len(), c.p.random()
	c.out.Array(count)
	s.each(&c.p.member, func(m *setMember) bool {
		if dice.IntN(left) < count {
			c.out.Bulk(m.bytes())
			count--
		}
		left--
		return count > 0
	})
}

// drawRecords replies with members of a large set: count different ones, of which it has more, or for a negative count
// -count, each drawn from all.
func (c *call) drawRecords(s *setValue, count int) error {
	drawn := s.drawRecords(c.p.random(), count)
	var size int64
	m := &c.p.member
	for _, r := range drawn {
		m.setKey(s.store.Key(r))
		size += int64(len(m.bytes()))
	}
	if size > maxFieldBytes {
		return fault.About(fault.TooLarge, c.cmd.Name, "count", "the answer would have %d bytes: the limit is %d", size, int64(maxFieldBytes))
	}
	c.out.Array(len(drawn))
	for _, r := range drawn {
		c.step()
		m.setKey(s.store.Key(r))
		c.out.Bulk(m.bytes())
	}
	return nil
}

// drawRecords draws the records of c.drawRecords. O(count) on average: a large part of the set is chosen on one way
// through it, a small part drawn one by one, again where a record has been drawn before.
func (s *setValue) drawRecords(dice *rand.Rand, count int) []dense.Ref {
	drawn := make([]dense.Ref, 0, max(count, -count))
	left := s.len()
	switch {
	case count < 0:
		for range -count {
			drawn = append(drawn, s.table.Draw(dice.Uint64))
		}
	case count > left/3:
		s.table.Each(0, func(_ uint64, r dense.Ref) bool {
			if dice.IntN(left) < count {
				drawn = append(drawn, r)
				count--
			}
			left--
			return count > 0
		})
	default:
		taken := make(map[dense.Ref]struct{}, count)
		for len(drawn) < count {
			r := s.table.Draw(dice.Uint64)
			if _, again := taken[r]; !again {
				taken[r] = struct{}{}
				drawn = append(drawn, r)
			}
		}
	}
	return drawn
}

// SSCAN visits a packed set at once and a large one by position, as SCAN does. A set that was packed between two steps is
// visited once more as a whole; so what stays in it from the first step to the last is met at least once in any case.
func sscan(c *call) error {
	cursor, err := parseCursor(c.args[2])
	if err != nil {
		return err
	}
	s, err := c.setAt(c.args[1])
	if err != nil {
		return err
	}
	if s == nil { // as Redis, which reads the options only after it found the key
		c.out.Array(2)
		c.out.Text("0")
		c.out.Array(0)
		return nil
	}
	count, pattern := int64(10), (*glob)(nil)
	for i := 3; i < len(c.args); i += 2 {
		switch a := c.args[i]; {
		case i+1 < len(c.args) && is(a, "COUNT"):
			var ok bool
			if count, ok = parseInt(c.args[i+1]); !ok {
				return errNotInteger
			}
			if count < 1 {
				return errSyntax
			}
		case i+1 < len(c.args) && is(a, "MATCH"):
			if pattern, err = newGlob(c.cmd.Name, c.args[i+1]); err != nil {
				return err
			}
		default:
			return errSyntax
		}
	}
	c.out.Array(2)
	if s.table != nil {
		c.scanRecords(s, cursor, count, pattern)
	} else {
		c.scanPacked(s, pattern)
	}
	return nil
}

// scanPacked replies with a cursor and the members of a packed set that match. There are too few of them to exhaust any
// pattern.
func (c *call) scanPacked(s *setValue, pattern *glob) {
	var places [maxIntset]uint16
	n, m := 0, &c.p.member
	for at := 1; at < len(s.b); at += s.size(at) {
		if s.take(at, m); pattern.match(text(m.bytes())) {
			places[n] = uint16(at)
			n++
		}
	}
	c.out.Text("0")
	c.out.Array(n)
	for _, at := range places[:n] {
		s.take(int(at), m)
		c.out.Bulk(m.bytes())
	}
}

// scanRecords replies with a cursor and members that match, of about count that it visits from a position on.
func (c *call) scanRecords(s *setValue, from uint64, count int64, pattern *glob) {
	var found []dense.Ref
	var last, next uint64
	visited, m := int64(0), &c.p.member
	s.table.Each(from, func(position uint64, r dense.Ref) bool {
		if (visited >= count || pattern.exhausted()) && visited > 0 && position != last {
			next = position
			return false
		}
		c.step()
		m.setKey(s.store.Key(r))
		if pattern.match(text(m.bytes())) {
			found = append(found, r)
		}
		visited++
		last = position
		return true
	})
	c.cursor(next)
	c.out.Array(len(found))
	for _, r := range found {
		c.step()
		m.setKey(s.store.Key(r))
		c.out.Bulk(m.bytes())
	}
}

// setsAt returns the sets under keys, nil for those that are not there.
func (c *call) setsAt(keys [][]byte) (sets []*setValue, err error) {
	sets = make([]*setValue, len(keys))
	for i, key := range keys {
		if sets[i], err = c.setAt(key); err != nil {
			return nil, err
		}
	}
	return sets, nil
}

// A setWalk is how a combination of sets is found: by going over the members of some of them. It takes O(N) for sets of N
// members in all, whatever their forms, and no memory for each member but a table where many sets have to be held
// against each other.
type setWalk struct {
	call *call
	sets []*setValue                     // to go over, one after the other
	keep func(at int, m *setMember) bool // whether the combination has m, met in the set at that place, not met before
	aid  *setValue                       // a table that keep uses, nil for none
}

// walk plans a combination.
func (c *call) walk(sets []*setValue, how combination) *setWalk {
	switch how {
	case union:
		return c.walkUnion(sets)
	case intersection:
		slices.SortStableFunc(sets, func(a, b *setValue) int { return a.len() - b.len() })
		return &setWalk{call: c, sets: sets[:1], keep: func(_ int, m *setMember) bool {
			return !slices.ContainsFunc(sets[1:], func(s *setValue) bool { return !s.has(m) })
		}}
	}
	return c.walkDifference(sets)
}

// walkUnion begins with the largest set, whose members are looked for nowhere. Those of a few more sets are looked for in
// the sets before; many sets are gathered in a table.
func (c *call) walkUnion(sets []*setValue) *setWalk {
	slices.SortStableFunc(sets, func(a, b *setValue) int { return b.len() - a.len() })
	looks, members := 0, 0
	for i, s := range sets {
		looks += i * s.len()
		members += s.len()
	}
	w := &setWalk{call: c, sets: sets}
	if looks <= 4*members {
		w.keep = func(at int, m *setMember) bool {
			return !slices.ContainsFunc(sets[:at], func(s *setValue) bool { return s.has(m) })
		}
		return w
	}
	w.aid = newLargeSet(c.p.store)
	w.keep = func(_ int, m *setMember) bool {
		if w.aid.has(m) {
			return false
		}
		w.aid.enter(m)
		return true
	}
	return w
}

// walkDifference looks for the members of the first set in the others or, where that costs less, gathers the others in a
// table first.
func (c *call) walkDifference(sets []*setValue) *setWalk {
	first, others := sets[0], sets[1:]
	looks, members := 0, 0
	for _, s := range others {
		members += s.len()
		if looks++; s != nil && s.form == kindPackSet {
			looks += s.len() / 8 // the time of about so many looks into a table
		}
	}
	w := &setWalk{call: c, sets: sets[:1]}
	if first.len()*looks <= 3*members+first.len() {
		w.keep = func(_ int, m *setMember) bool {
			return !slices.ContainsFunc(others, func(s *setValue) bool { return s.has(m) })
		}
		return w
	}
	w.aid = newLargeSet(c.p.store)
	for _, s := range others {
		s.each(&c.p.member, func(m *setMember) bool {
			c.step()
			if !w.aid.has(m) {
				w.aid.enter(m)
			}
			return true
		})
	}
	w.keep = func(_ int, m *setMember) bool { return !w.aid.has(m) }
	return w
}

// each goes over the members until visit returns false: at says in which set, nth how many came before.
func (w *setWalk) each(m *setMember, visit func(at, nth int, m *setMember) bool) {
	nth, more := 0, true
	for at, s := range w.sets {
		s.each(m, func(m *setMember) bool {
			w.call.step()
			more = visit(at, nth, m)
			nth++
			return more
		})
		if !more {
			return
		}
	}
}

// kept visits the members of the combination until visit returns false.
func (w *setWalk) kept(m *setMember, visit func(nth int, m *setMember) bool) {
	w.each(m, func(at, nth int, m *setMember) bool { return !w.keep(at, m) || visit(nth, m) })
}

// end gives back what the walk took.
func (w *setWalk) end() {
	if w.aid != nil {
		w.aid.destroy()
	}
}

// scombine goes over the sets twice, because a reply begins with its length: the first time it marks, in a bit for each
// member, what belongs to the combination.
func scombine(c *call, how combination) error {
	sets, err := c.setsAt(c.args[1:])
	if err != nil {
		return err
	}
	w, m := c.walk(sets, how), &c.p.member
	defer w.end()
	members := 0
	for _, s := range w.sets {
		members += s.len()
	}
	marks, n := make([]uint64, members/64+1), 0
	w.kept(m, func(nth int, _ *setMember) bool {
		marks[nth/64] |= 1 << (nth % 64)
		n++
		return true
	})
	c.out.Set(n)
	w.each(m, func(_, nth int, m *setMember) bool {
		if marks[nth/64]>>(nth%64)&1 == 1 {
			c.out.Bulk(m.bytes())
		}
		return true
	})
	return nil
}

func sstore(c *call, how combination) error {
	key := c.args[1]
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	sets, err := c.setsAt(c.args[2:])
	if err != nil {
		return err
	}
	result, m := c.editSet(nil, nil), &c.p.member
	if how == union { // the result itself knows what it has
		for _, s := range sets {
			s.each(m, func(m *setMember) bool {
				c.step()
				result.add(m)
				return true
			})
		}
	} else {
		w := c.walk(sets, how)
		w.kept(m, func(_ int, m *setMember) bool {
			result.enter(m)
			return true
		})
		w.end()
	}
	n := result.s.len()
	c.alone()
	if n == 0 {
		c.remove(key)
	} else {
		result.store(c.replacing(c.keys(), key), key, c.defaultDeadline())
	}
	c.out.Int(int64(n))
	return nil
}

// cardinality counts the members of a combination, up to a limit. APPROX lets a union be an estimate, which an exact count is
// as well.
func cardinality(c *call, how combination) error {
	numkeys, ok := parseInt(c.args[1])
	switch {
	case !ok || numkeys < 1:
		return fault.About(fault.OutOfRange, c.cmd.Name, "numkeys", "numkeys should be greater than 0")
	case numkeys > int64(len(c.args)-2):
		return fault.About(fault.InvalidArgument, c.cmd.Name, "numkeys", "Number of keys can't be greater than number of args")
	}
	var limit int64
	for options := c.args[2+numkeys:]; len(options) > 0; options = options[1:] {
		if how == union && is(options[0], "APPROX") {
			continue
		}
		if len(options) < 2 || !is(options[0], "LIMIT") {
			return errSyntax
		}
		options = options[1:]
		if limit, ok = parseInt(options[0]); !ok || limit < 0 {
			return fault.About(fault.OutOfRange, c.cmd.Name, "LIMIT", "LIMIT can't be negative")
		}
	}
	sets, err := c.setsAt(c.args[2 : 2+numkeys])
	if err != nil {
		return err
	}
	var n int64
	w := c.walk(sets, how)
	defer w.end()
	w.kept(&c.p.member, func(int, *setMember) bool {
		n++
		return n != limit
	})
	c.out.Int(n)
	return nil
}
