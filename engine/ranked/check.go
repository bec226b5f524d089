package ranked

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
)

// Check returns the first invariant of Tree that is broken, by its name, or nil. It visits every
// entry, so it is for tests and for the doctor, not for requests. Its errors give indexes, never
// members.
func (t *Tree) Check() error {
	c := checker{tree: t}
	all, err := c.node(t.root, t.depth)
	switch {
	case err != nil:
		return err
	case all.count != t.count:
		return fmt.Errorf("T2 records: the tree counts %d entries and holds %d", t.count, all.count)
	case c.leaf != nil && c.leaf.next != 0:
		return fmt.Errorf("T5 chain: a leaf follows the last one")
	case c.bytes != t.bytes:
		return fmt.Errorf("T7 bytes: %d noted, %d counted", t.bytes, c.bytes)
	}
	return nil
}

// A checker walks a tree in order. It works everything out from the entries, which are its only ground.
type checker struct {
	tree  *Tree
	leaf  *leaf // the last one visited
	last  Entry // the last one visited
	seen  int
	bytes int64
}

// node checks what lies at and below node id, where the leaves should lie level inner nodes further down.
func (c *checker) node(id uint32, level int) (record, error) {
	var x node
	if level == 0 {
		x = c.tree.leaf(id)
	} else {
		n := c.tree.inner(id)
		if int(n.level) != level {
			return record{}, fmt.Errorf("T4 depth: a node by entry %d lies %d above the leaves, not %d", c.seen, level, n.level)
		}
		x = n
	}
	if x.number() != id {
		return record{}, fmt.Errorf("T6 numbers: node %d by entry %d takes itself for %d", id, c.seen, x.number())
	}
	if most := c.tree.most(x); x.fill() > most || id != c.tree.root && x.fill() < most/2 {
		return record{}, fmt.Errorf("T3 fill: a node by entry %d holds %d of %d", c.seen, x.fill(), most)
	}
	if l, ok := x.(*leaf); ok {
		return c.entries(l)
	}
	return c.children(x.(*inner), level)
}

func (c *checker) entries(l *leaf) (record, error) {
	c.bytes += leafBytes
	if l.ties != 0 {
		c.bytes += tiesBytes
	}
	before := uint32(0)
	if c.leaf != nil {
		before = c.leaf.id
	}
	if l.prev != before || c.leaf != nil && c.leaf.next != l.id {
		return record{}, fmt.Errorf("T5 chain: broken before the leaf of entry %d", c.seen)
	}
	c.leaf = l
	var all record
	for i := range l.n {
		e := l.entry(c.tree, i)
		if math.IsNaN(e.Score) {
			return record{}, fmt.Errorf("T1 order: entry %d has NaN for its score", c.seen)
		}
		if c.seen > 0 && c.tree.compare(c.last, e) >= 0 {
			return record{}, fmt.Errorf("T1 order: entry %d does not come after the one before", c.seen)
		}
		if i == 0 {
			all.first = e
		}
		if i == 0 || all.last != e.Score {
			all.runs++
		}
		all.last = e.Score
		all.count++
		c.last = e
		c.seen++
	}
	return all, nil
}

func (c *checker) children(n *inner, level int) (record, error) {
	c.bytes += innerBytes
	if n.n < 2 {
		return record{}, fmt.Errorf("T3 fill: an inner node by entry %d has %d children", c.seen, n.n)
	}
	var all record
	for i := range n.n {
		start := c.seen
		got, err := c.node(n.kids[i], level-1)
		if err != nil {
			return record{}, err
		}
		if noted := n.noted(i); noted != got {
			return record{}, fmt.Errorf("T2 records: child of entries %d to %d: %d entries in %d runs noted, %d in %d counted",
				start, c.seen-1, noted.count, noted.runs, got.count, got.runs)
		}
		if i == 0 {
			all.first = got.first
		} else if all.last == got.first.Score {
			all.runs--
		}
		all.last = got.last
		all.count += got.count
		all.runs += got.runs
	}
	if int(n.allCount) != all.count || int(n.allRuns) != all.runs {
		return record{}, fmt.Errorf("T2 records: totals before entry %d: %d entries in %d runs noted, %d in %d counted",
			c.seen, n.allCount, n.allRuns, all.count, all.runs)
	}
	return all, nil
}

// compare spells the order out, apart from the searches that it checks.
func (t *Tree) compare(a, b Entry) int {
	if order := cmp.Or(cmp.Compare(a.Score, b.Score), cmp.Compare(a.Tie, b.Tie)); order != 0 {
		return order
	}
	return bytes.Compare(t.names.Name(a.Member), t.names.Name(b.Member))
}
