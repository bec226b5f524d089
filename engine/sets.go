package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/larder-cache/larder/internal/fault"
)

// A setValue is a collection of different members. It keeps them in a slice, whose order is the same on every
// replica, so that drawing one by chance is O(1) and fair: a small set has them in the order in which they came;
// in a large one, a removed member's place goes to the last, so that a removal costs the same whatever the size.
//
//	M1: no member stands twice
//	M2: index is nil, or maps each member to its place; a set of more than smallHash members has one
//	M3: text is the sum of the members' lengths
type setValue struct {
	members []string
	index   map[string]int
	text    int64
}

// What a set costs beside its text, in bytes: itself, a member's string with its rounding and the slack of a
// growing slice, and its place in the index.
const (
	setOverhead       = 48
	setMemberOverhead = 32
)

func (s *setValue) kind() string { return "set" }
func (s *setValue) empty() bool  { return len(s.members) == 0 }
func (s *setValue) len() int     { return len(s.members) }

func (s *setValue) bytes() int64 {
	each := int64(setMemberOverhead)
	if s.index != nil {
		each += indexOverhead
	}
	return setOverhead + each*int64(len(s.members)) + s.text
}

// encode includes the order, which SPOP, SRANDMEMBER and SSCAN draw on.
func (s *setValue) encode(dst []byte) []byte {
	for _, m := range s.members {
		dst = binary.AppendUvarint(dst, uint64(len(m)))
		dst = append(dst, m...)
	}
	return dst
}

func (s *setValue) clone() largeValue {
	twin := &setValue{members: slices.Clone(s.members), text: s.text}
	if s.index != nil {
		twin.buildIndex()
	}
	return twin
}

func (s *setValue) buildIndex() {
	s.index = make(map[string]int, len(s.members))
	for i, m := range s.members {
		s.index[m] = i
	}
}

func (s *setValue) check() error {
	seen, text := map[string]bool{}, int64(0)
	for i, m := range s.members {
		if seen[m] {
			return fmt.Errorf("M1: member %q stands twice", m)
		}
		seen[m] = true
		text += int64(len(m))
		if at, ok := s.index[m]; s.index != nil && (!ok || at != i) {
			return fmt.Errorf("M2: member %q stands at %d, not at %d", m, i, at)
		}
	}
	switch {
	case s.index != nil && len(s.index) != len(s.members):
		return fmt.Errorf("M2: %d members in the index of %d", len(s.index), len(s.members))
	case s.index == nil && len(s.members) > smallHash:
		return fmt.Errorf("M2: %d members without an index", len(s.members))
	case text != s.text:
		return fmt.Errorf("M3: %d bytes counted, there are %d", s.text, text)
	}
	return nil
}

// find returns the place of member, or -1. A nil set has none.
func (s *setValue) find(member []byte) int {
	if s == nil {
		return -1
	}
	if s.index != nil {
		if i, ok := s.index[string(member)]; ok {
			return i
		}
		return -1
	}
	for i := range s.members {
		if s.members[i] == string(member) {
			return i
		}
	}
	return -1
}

// add puts member in and reports whether it is new. Here and in cut, j, if there is one, learns how to take the
// change back to the very same order.
func (s *setValue) add(j *journal, member []byte) (added bool) {
	if s.find(member) >= 0 {
		return false
	}
	s.enter(j, string(member))
	return true
}

// enter puts in a member that is not there.
func (s *setValue) enter(j *journal, member string) {
	indexed := s.index != nil
	s.members = append(s.members, member)
	s.text += int64(len(member))
	switch {
	case indexed:
		s.index[member] = len(s.members) - 1
	case len(s.members) > smallHash:
		s.buildIndex()
	}
	if j != nil {
		j.add(func() {
			s.cut(nil, len(s.members)-1)
			if !indexed {
				s.index = nil
			}
		})
	}
}

// remove takes member out and reports whether it was there.
func (s *setValue) remove(j *journal, member []byte) bool {
	i := s.find(member)
	if i < 0 {
		return false
	}
	s.cut(j, i)
	return true
}

// cut takes out the member at i: the later ones close up, or in a large set the last takes its place.
func (s *setValue) cut(j *journal, i int) {
	member, last := s.members[i], len(s.members)-1
	if s.index == nil {
		copy(s.members[i:], s.members[i+1:])
	} else {
		s.members[i] = s.members[last]
		s.index[s.members[i]] = i
		delete(s.index, member)
	}
	s.members[last] = ""
	s.members = s.members[:last]
	if cap(s.members) > 64 && len(s.members) < cap(s.members)/4 {
		s.members = append(make([]string, 0, cap(s.members)/2), s.members...)
	}
	s.text -= int64(len(member))
	if j != nil {
		j.add(func() { s.restore(i, member) })
	}
}

// restore is the inverse of cut.
func (s *setValue) restore(i int, member string) {
	if s.index == nil {
		s.members = slices.Insert(s.members, i, member)
	} else {
		s.members = append(s.members, member)
		last := len(s.members) - 1
		s.members[i], s.members[last] = member, s.members[i]
		s.index[s.members[last]] = last
		s.index[member] = i
	}
	s.text += int64(len(member))
}

// all returns the members, none of no set.
func (s *setValue) all() []string {
	if s == nil {
		return nil
	}
	return s.members
}

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
	{Name: "SINTERSTORE", Arity: -3, Keys: allKeys, Flags: Writes | Grows, Group: GroupSet, Action: "cache:SetWrite", Rights: sstoreRights, run: func(c *call) error { return sstore(c, intersection) },
		Usage: "destination key [key ...]", Summary: "Stores the members that all the sets have", Complexity: "O(NK) for K sets, the smallest of N members", Since: "1.0.0"},
	{Name: "SUNIONSTORE", Arity: -3, Keys: allKeys, Flags: Writes | Grows, Group: GroupSet, Action: "cache:SetWrite", Rights: sstoreRights, run: func(c *call) error { return sstore(c, union) },
		Usage: "destination key [key ...]", Summary: "Stores the members that any of the sets has", Complexity: "O(N) for sets of N members in all", Since: "1.0.0"},
	{Name: "SDIFFSTORE", Arity: -3, Keys: allKeys, Flags: Writes | Grows, Group: GroupSet, Action: "cache:SetWrite", Rights: sstoreRights, run: func(c *call) error { return sstore(c, difference) },
		Usage: "destination key [key ...]", Summary: "Stores the members that only the first set has", Complexity: "O(NK) for K sets, the first of N members", Since: "1.0.0"},
	{Name: "SINTERCARD", Arity: -3, Keys: countedKeys, Group: GroupSet, Action: "cache:SetRead", run: sintercard,
		Usage: "numkeys key [key ...] [LIMIT limit]", Summary: "Counts the members that all the sets have", Complexity: "O(NK) for K sets, the smallest of N members", Since: "7.0.0"},
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

// setFor returns the set under key with its item, and makes one where there is none. All that can fail has been
// checked by then.
func (c *call) setFor(s *setValue, it *item, key []byte) (*setValue, *item) {
	if s != nil {
		return s, it
	}
	s = &setValue{}
	return s, c.put(key, s, c.defaultDeadline())
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
	s, it = c.setFor(s, it, key)
	var added int64
	for _, m := range members {
		if s.add(c.p.journal, m) {
			added++
		}
	}
	c.changed(it)
	c.out.Int(added)
	return nil
}

func srem(c *call) error {
	s, it, err := lookup[*setValue](c, c.args[1])
	if err != nil {
		return err
	}
	var removed int64
	if s != nil {
		for _, m := range c.args[2:] {
			if s.remove(c.p.journal, m) {
				removed++
			}
		}
		c.changed(it)
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
	member := c.args[3]
	i := source.find(member)
	if i >= 0 && source != target {
		source.cut(c.p.journal, i)
		c.changed(it)
		target, other = c.setFor(target, other, c.args[2])
		target.add(c.p.journal, member)
		c.changed(other)
	}
	c.flag(i >= 0)
	return nil
}

func scard(c *call) error {
	s, err := c.setAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Int(int64(len(s.all())))
	return nil
}

func sismember(c *call) error {
	s, err := c.setAt(c.args[1])
	if err != nil {
		return err
	}
	c.flag(s.find(c.args[2]) >= 0)
	return nil
}

func smismember(c *call) error {
	s, err := c.setAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	for _, m := range c.args[2:] {
		c.flag(s.find(m) >= 0)
	}
	return nil
}

func smembers(c *call) error {
	s, err := c.setAt(c.args[1])
	if err != nil {
		return err
	}
	c.memberSet(s.all())
	return nil
}

// memberSet replies with members without order.
func (c *call) memberSet(members []string) {
	c.out.Set(len(members))
	for _, m := range members {
		c.out.Text(m)
	}
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
		c.memberSet(s.members)
		c.dropItem(it)
		return nil
	case listed:
		c.out.Set(int(count))
	}
	dice := c.p.random()
	for range count {
		i := dice.IntN(s.len())
		c.out.Text(s.members[i])
		s.cut(c.p.journal, i)
	}
	c.changed(it)
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
	if err != nil {
		return err
	}
	if !listed {
		if s == nil {
			c.out.Null()
		} else {
			c.out.Text(s.members[c.p.random().IntN(s.len())])
		}
		return nil
	}
	drawn := draw(c.p.random(), s.all(), count)
	var size int64
	for _, m := range drawn {
		size += int64(len(m))
	}
	if size > maxFieldBytes {
		return fault.About(fault.TooLarge, c.cmd.Name, "count", "the answer would have %d bytes: the limit is %d", size, int64(maxFieldBytes))
	}
	c.out.Array(len(drawn))
	for _, m := range drawn {
		c.out.Text(m)
	}
	return nil
}

// sscan walks from the last member to the first, for the reasons that hscan has.
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
	at := s.len()
	if 0 < cursor && cursor < uint64(at) {
		at = int(cursor)
	}
	end := 0
	if s.index != nil {
		end = at - int(min(count, int64(at)))
	}
	var found []string
	for ; at > end && !pattern.exhausted(); at-- {
		if m := s.members[at-1]; pattern.match(m) {
			found = append(found, m)
		}
	}
	slices.Reverse(found)
	c.out.Array(2)
	c.out.Text(strconv.Itoa(at))
	c.out.Array(len(found))
	for _, m := range found {
		c.out.Text(m)
	}
	return nil
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

// combine works out what several sets have together. The members come in the order of the set that leads: the
// smallest for an intersection, else the first that has them.
func combine(sets []*setValue, how combination) *setValue {
	result := &setValue{}
	switch how {
	case union:
		for _, s := range sets {
			for _, m := range s.all() {
				if result.find([]byte(m)) < 0 {
					result.enter(nil, m)
				}
			}
		}
	case intersection:
		intersect(sets, func(m string) bool {
			result.enter(nil, m)
			return true
		})
	case difference:
	members:
		for _, m := range sets[0].all() {
			for _, s := range sets[1:] {
				if s.find([]byte(m)) >= 0 {
					continue members
				}
			}
			result.enter(nil, m)
		}
	}
	return result
}

// intersect visits what all sets have until visit returns false.
func intersect(sets []*setValue, visit func(member string) bool) {
	sets = slices.Clone(sets)
	slices.SortStableFunc(sets, func(a, b *setValue) int { return len(a.all()) - len(b.all()) })
members:
	for _, m := range sets[0].all() {
		for _, s := range sets[1:] {
			if s.find([]byte(m)) < 0 {
				continue members
			}
		}
		if !visit(m) {
			return
		}
	}
}

func scombine(c *call, how combination) error {
	sets, err := c.setsAt(c.args[1:])
	if err != nil {
		return err
	}
	c.memberSet(combine(sets, how).members)
	return nil
}

func sstore(c *call, how combination) error {
	if err := c.checkSizes(c.args[1], 0); err != nil {
		return err
	}
	sets, err := c.setsAt(c.args[2:])
	if err != nil {
		return err
	}
	result := combine(sets, how)
	if result.empty() {
		c.remove(c.args[1])
	} else {
		c.put(c.args[1], result, c.defaultDeadline())
	}
	c.out.Int(int64(result.len()))
	return nil
}

func sintercard(c *call) error {
	numkeys, ok := parseInt(c.args[1])
	switch {
	case !ok || numkeys < 1:
		return fault.About(fault.OutOfRange, c.cmd.Name, "numkeys", "numkeys should be greater than 0")
	case numkeys > int64(len(c.args)-2):
		return fault.About(fault.InvalidArgument, c.cmd.Name, "numkeys", "Number of keys can't be greater than number of args")
	}
	var limit int64
	for options := c.args[2+numkeys:]; len(options) > 0; options = options[2:] {
		if len(options) < 2 || !is(options[0], "LIMIT") {
			return errSyntax
		}
		if limit, ok = parseInt(options[1]); !ok || limit < 0 {
			return fault.About(fault.OutOfRange, c.cmd.Name, "LIMIT", "LIMIT can't be negative")
		}
	}
	sets, err := c.setsAt(c.args[2 : 2+numkeys])
	if err != nil {
		return err
	}
	var n int64
	intersect(sets, func(string) bool {
		n++
		return n != limit
	})
	c.out.Int(n)
	return nil
}
