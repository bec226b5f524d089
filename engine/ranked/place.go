package ranked

import "fmt"

// A Place is where an entry stands, by every way of counting, and a cursor that keeps count as it moves.
//
//	Index   how many entries come before it in ascending order
//	From,To the indexes [From, To) of its run: it is not less than From others, and Len-To are greater
//	Dense   how many different scores are less
//
// So in descending order, where equal scores stay ascending, Len-To+Index-From entries come before it, Len-To
// have a better score, and there are Runs-1-Dense different better scores. A page costs one Place and a step
// for each entry: O(1) a step on the average, and O(log n) where a run is longer than a leaf.
//
// A change to the tree makes its places meaningless.
type Place struct {
	cursor          Cursor
	Index, From, To int
	Dense           int
}

// Place returns the place of e, and whether e is there. One way down, and one more for each end of the run that
// lies more than a leaf away.
func (t *Tree) Place(e Entry) (p Place, found bool) {
	q := t.probe(e)
	id := t.root
	for range t.depth {
		n := t.inner(id)
		i := n.find(&q)
		p.passing(n, i)
		id = n.kids[i]
	}
	l := t.leaf(id)
	at := l.lower(t, &q)
	if !l.holds(t, at, &q) {
		return Place{cursor: Cursor{tree: t}}, false
	}
	p.arrive(t, l, at)
	return p, true
}

// PlaceAt returns the place of the entry at index, not valid if there is none.
func (t *Tree) PlaceAt(index int) (p Place) {
	if index < 0 || index >= t.count {
		return Place{cursor: Cursor{tree: t}}
	}
	id := t.root
	for range t.depth {
		n := t.inner(id)
		i, rest := n.holding(index)
		p.passing(n, i)
		id, index = n.kids[i], rest
	}
	p.arrive(t, t.leaf(id), index)
	return p
}

// DescPlaceAt returns the place of the entry that offset others come before in descending order (see
// DescRank), not valid if there is none.
func (t *Tree) DescPlaceAt(offset int) Place {
	// Descending order turns the order of the runs about but not the runs, so the entry at offset lies
	// in the same run as the entry that is as far from the end of the ascending order.
	p := t.PlaceAt(t.count - 1 - offset)
	if p.Valid() {
		p.to(p.From + offset - (t.count - p.To))
	}
	return p
}

// passing counts what lies before child i of n, on the way down.
func (p *Place) passing(n *inner, i int) {
	count, runs := n.before(i)
	p.Index += count
	p.Dense += runs
}

// arrive ends the way down at entry at of l.
func (p *Place) arrive(t *Tree, l *leaf, at int) {
	p.cursor = Cursor{t, l, at}
	p.Index += at
	p.Dense += countRuns(l.scores[:at+1]) - 1
	p.From, p.To = p.cursor.runStart(p.Index), p.cursor.runEnd(p.Index)
}

// Valid reports whether the place is that of an entry. It no longer is after a step off either end.
func (p Place) Valid() bool { return p.cursor.Valid() }

// Entry returns the entry at a valid place.
func (p Place) Entry() Entry { return p.cursor.Entry() }

// DescIndex is how many entries come before this one in descending order.
func (p Place) DescIndex() int { return p.cursor.tree.count - p.To + p.Index - p.From }

// Next moves to the following entry in ascending order.
func (p *Place) Next() {
	if p.to(p.Index + 1); p.Index == p.To {
		p.enterNextRun()
	}
}

// Prev moves to the preceding entry in ascending order.
func (p *Place) Prev() {
	if p.to(p.Index - 1); p.Index < p.From {
		p.enterPrevRun()
	}
}

// DescNext moves to the following entry in descending order.
func (p *Place) DescNext() {
	if scores, at := &p.cursor.leaf.scores, p.cursor.at; p.To-p.From == 1 && at > 1 && scores[at-2] != scores[at-1] {
		// From a run of one to a run of one in the same leaf, as on most boards for most steps.
		p.cursor.at--
		p.Index--
		p.From--
		p.To--
		p.Dense--
	} else if p.Index+1 < p.To {
		p.to(p.Index + 1)
	} else if p.to(p.From - 1); p.Valid() {
		p.enterPrevRun()
		p.to(p.From)
	}
}

// DescPrev moves to the preceding entry in descending order.
func (p *Place) DescPrev() {
	if p.Index > p.From {
		p.to(p.Index - 1)
	} else if p.to(p.To); p.Valid() {
		p.enterNextRun()
		p.to(p.To - 1)
	}
}

func (p *Place) enterNextRun() {
	if p.Valid() {
		p.From, p.To = p.To, p.cursor.runEnd(p.Index)
		p.Dense++
	}
}

func (p *Place) enterPrevRun() {
	if p.Valid() {
		p.From, p.To = p.cursor.runStart(p.Index), p.From
		p.Dense--
	}
}

// to moves to the entry at index, which is mostly in the same leaf or the first beyond it.
func (p *Place) to(index int) {
	at := p.cursor.at + index - p.Index
	p.Index = index
	switch l := p.cursor.leaf; {
	case at >= 0 && at < l.n:
		p.cursor.at = at
	case at == l.n:
		p.cursor.at = l.n - 1
		p.cursor.Next()
	case at == -1:
		p.cursor.at = 0
		p.cursor.Prev()
	default:
		p.cursor = p.cursor.tree.Seek(index)
	}
}

// runStart returns the index where the run begins of the entry at index, on which the cursor stands. It looks
// through this leaf and the one before it, which ends most runs, before it goes down the tree.
func (c *Cursor) runStart(index int) int {
	score, l, at := c.score(), c.leaf, c.at
	for range 2 {
		from := at
		for from > 0 && l.scores[from-1] == score {
			from--
		}
		index -= at - from
		if from > 0 || l.prev == 0 {
			return index
		}
		l = c.tree.leaf(l.prev)
		at = l.n
	}
	if l.scores[l.n-1] != score {
		return index
	}
	return c.tree.LowerBound(score)
}

// runEnd returns the index after the run of the entry at index, on which the cursor stands.
func (c *Cursor) runEnd(index int) int {
	score, l, at := c.score(), c.leaf, c.at
	for range 2 {
		to := at
		for to < l.n && l.scores[to] == score {
			to++
		}
		index += to - at
		if to < l.n || l.next == 0 {
			return index
		}
		l, at = c.tree.leaf(l.next), 0
	}
	if l.scores[0] != score {
		return index
	}
	return c.tree.UpperBound(score)
}

// DescPage visits up to limit entries in descending order (see DescRank), from the one at offset on,
// until visit returns false. The cost is O(log n) and a constant for each entry visited, whether
// the runs are long or short. The tree must not change meanwhile.
func (t *Tree) DescPage(offset, limit int, visit func(Entry) bool) {
	if offset < 0 {
		panic(fmt.Sprintf("ranked: DescPage from offset %d", offset))
	}
	if limit <= 0 || offset >= t.count {
		return
	}
	for p := t.DescPlaceAt(offset); limit > 0 && p.Valid() && visit(p.Entry()); limit-- {
		p.DescNext()
	}
}
