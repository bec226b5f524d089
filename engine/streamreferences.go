package engine

import (
	"math"

	"github.com/larder-cache/larder/internal/fault"
)

// references say what becomes of an entry that groups still refer to, because it is pending in them or was not yet read, when
// it is to be removed.
type references byte

const (
	keepReferences   references = iota // it goes, what is pending stays
	deleteReferences                   // it goes, and from all that is pending as well
	acknowledged                       // it stays until every group has read and acknowledged it
)

// parseReferences reads the word for references and reports whether a is one. Of several the last counts.
func parseReferences(a []byte, to *references) bool {
	switch {
	case is(a, "KEEPREF"):
		*to = keepReferences
	case is(a, "DELREF"):
		*to = deleteReferences
	case is(a, "ACKED"):
		*to = acknowledged
	default:
		return false
	}
	return true
}

var streamReferenceCommands = []Command{
	{Name: "XDELEX", Arity: -5, Keys: oneKey, Flags: Writes | Fast, Group: GroupStream, Action: "cache:StreamWrite", run: xdelex,
		Usage: "key [KEEPREF | DELREF | ACKED] IDS numids id [id ...]", Summary: "Removes entries, with or without what is pending, or only those that every group has acknowledged", Complexity: "O(G log N) for each entry and G groups", Since: "8.2.0"},
	{Name: "XACKDEL", Arity: -6, Keys: oneKey, Flags: Writes | Fast, Group: GroupStream, Action: "cache:StreamWrite", run: xackdel,
		Usage: "key group [KEEPREF | DELREF | ACKED] IDS numids id [id ...]", Summary: "Acknowledges entries and removes them", Complexity: "O(G log N) for each entry and G groups", Since: "8.2.0"},
}

// What XDELEX and XACKDEL answer for an entry.
const (
	entryMissing = -1
	entryRemoved = 1
	entryKept    = 2 // for others refer to it
)

// parseReferencedIDs reads options and ids, in whatever order they come.
func parseReferencedIDs(op string, args [][]byte) (refs references, ids []streamID, err error) {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case parseReferences(a, &refs):
		case is(a, "IDS") && ids == nil && i+1 < len(args):
			n, ok := parseInt(args[i+1])
			if !ok || n < 1 {
				return refs, nil, fault.About(fault.InvalidArgument, op, "numids", "Number of IDs must be a positive integer")
			}
			rest := args[i+2:]
			if n > int64(len(rest)) {
				return refs, nil, fault.About(fault.InvalidArgument, op, "numids", "The `numids` parameter must match the number of arguments")
			}
			if ids, err = parseIDs(rest[:n]); err != nil {
				return refs, nil, err
			}
			i += 1 + int(n)
		default:
			return refs, nil, errSyntax
		}
	}
	if ids == nil {
		return refs, nil, errSyntax
	}
	return refs, ids, nil
}

// referred reports whether a group still has to read or to acknowledge an entry.
func (s *streamValue) referred(id streamID) bool {
	for _, g := range s.groups {
		if id.above(g.last) || g.delivery(id) != nil {
			return true
		}
	}
	return false
}

// forget makes an entry no longer pending in any group, and reports whether it was in one.
func (s *streamValue) forget(j *journal, id streamID) (was bool) {
	for _, g := range s.groups {
		was = s.settle(j, g, id) || was
	}
	return was
}

// removeReferred removes the entry with an id as refs say; changed reports whether that changed anything.
func (s *streamValue) removeReferred(j *journal, id streamID, refs references) (answer int64, changed bool) {
	if refs == acknowledged {
		if _, _, _, found := s.find(id); found && s.referred(id) {
			return entryKept, false
		}
	}
	if refs == deleteReferences {
		changed = s.forget(j, id)
	}
	if s.remove(j, id) {
		return entryRemoved, true
	}
	return entryMissing, changed
}

func xdelex(c *call) error {
	refs, ids, err := parseReferencedIDs(c.cmd.Name, c.args[2:])
	if err != nil {
		return err
	}
	s, it, err := lookup[*streamValue](c, c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(len(ids))
	any := false
	for _, id := range ids {
		answer := int64(entryMissing)
		if s != nil {
			var changed bool
			answer, changed = s.removeReferred(c.p.journal, id, refs)
			any = any || changed
		}
		c.out.Int(answer)
	}
	if any {
		c.changed(it)
	}
	return nil
}

// XACKDEL removes only what was pending in the group.
func xackdel(c *call) error {
	refs, ids, err := parseReferencedIDs(c.cmd.Name, c.args[3:])
	if err != nil {
		return err
	}
	s, g, it, err := c.streamGroupAt(c.args[1], c.args[2])
	if err != nil {
		return err
	}
	c.out.Array(len(ids))
	any := false
	for _, id := range ids {
		answer := int64(entryMissing)
		if g != nil && s.settle(c.p.journal, g, id) {
			any = true
			if answer, _ = s.removeReferred(c.p.journal, id, refs); answer == entryMissing {
				answer = entryRemoved // it had gone before, and now nothing is left of it here
			}
		}
		c.out.Int(answer)
	}
	if any {
		c.changed(it)
	}
	return nil
}

// trimReferenced is trim for a stream with groups, whose references are not just kept. It looks at entries one by one, from the
// first to the last that may go, at most limit of them. Blocks are not spared: with ~ as without, exactly those go that may.
func (s *streamValue) trimReferenced(j *journal, t *trimming) (removed int64) {
	last, excess, looks := s.last, int64(math.MaxInt64), int64(math.MaxInt64)
	if t.byLength {
		excess = int64(s.n) - t.maxLen
	}
	if t.byID {
		var below bool
		if last, below = t.minID.prev(); !below {
			return 0
		}
	}
	if t.limit > 0 {
		looks = t.limit
	}
	if t.references == acknowledged { // what some group has not read stays in any case
		for _, g := range s.groups {
			if last.above(g.last) {
				last = g.last
			}
		}
	}
	var ids []streamID
	for from, more := s.first(), true; more && s.n > 0 && looks > 0 && int64(len(ids)) < excess; {
		more = false
		s.walk(streamSpan{from, last, int(min(looks, streamBlockEntries))}, func(e streamEntry) {
			looks--
			from, more = e.id.next()
			if int64(len(ids)) < excess && (t.references != acknowledged || !s.referred(e.id)) {
				ids = append(ids, e.id)
			}
		})
	}
	for _, id := range ids {
		s.removeReferred(j, id, t.references)
	}
	return int64(len(ids))
}
