package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"unsafe"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/memory"
)

// A deque is a list too large for one block: blocks in order, each the value of a record in a table of the deque's own. Which
// block is where stands in pages, which are records of the same table: a page is an entry for each of its blocks, the
// block's number and how many elements it has, 8 bytes. So element i is found by going through the sums of pages, then
// through one page, then through one block: for ten million elements of 20 bytes about 200 sums, 256 entries and 100 elements.
//
//	L1: pages hold 1 to pageBlocks entries; no two neighbours have half as many together
//	L2: an entry's count is its block's, a page's n the sum of its entries', n the sum of the pages'
//	L3: no two neighbouring blocks fit into half a block together, and all keep B1 to B3
//	L4: size is the bytes of the elements in blocks within blockBytes, alone what longer elements cost
//	L5: the table holds the pages and the blocks and nothing else, each under a number below next
//
// Which block an element is in depends on how the list came about and is no part of the state: replicas agree on the
// elements, and so on size and alone, by which memory is accounted. Methods that change the list leave in the journal (nil
// outside an atomic task) how to take the change back.
type deque struct {
	store *dense.Store
	table *dense.Table
	pages []page
	next  uint64 // number of the next record
	n     int
	size  int64
	alone int64
}

// A page is what is known of a page of entries beside its record.
type page struct {
	number uint64
	blocks int
	n      int // elements
}

const (
	entryBytes  = 8
	numberBytes = 6
	entryCount  = 16 // of an entry: maxElements are fewer
	pageBlocks  = 256

	kindBlock dense.Kind = 1
	kindPage  dense.Kind = 2
)

// dequeBytes is what a deque costs beside its blocks: itself, its table with a first segment, its first page and the room
// at its ends.
const dequeBytes = int64(unsafe.Sizeof(deque{})+unsafe.Sizeof(page{})+unsafe.Sizeof(listValue{})+unsafe.Sizeof(dense.Table{})) + 256

func newDeque(s *dense.Store) *deque {
	return &deque{store: s, table: s.NewTable(false, nil, nil), next: 1}
}

// bytes is what the deque costs, the same wherever the elements are the same. Beside the bytes of the elements a block costs
// its head and room, its record's header, its share of the index, its entry and what is left over of the store's blocks: together
// about one in 32. Half of what edge
// allows is the room at the ends.
func (d *deque) bytes() int64 {
	return dequeBytes + d.size + d.size/32 + min(d.size/32, blockBytes/2) + d.alone
}

// edge is how much room there may be in the block at an end: a sixteenth of the list, or a whole block. So who pushes to a
// large list, or pops from it, moves nothing and leaves no holes.
func (d *deque) edge() int { return int(min(d.size/16, blockFull)) }

// tally adds an element that takes so many bytes packed to the sums, or takes it out of them.
func (d *deque) tally(size, sign int) {
	d.n += sign
	if size <= blockFull {
		d.size += int64(sign * size)
		return
	}
	value := size + blockHead
	cost := dense.RecordSize(numberBytes, value, 0, false) + indexShare + entryBytes
	if value >= dense.Apart {
		cost += (value + memory.PageSize - 1) / memory.PageSize * memory.PageSize
	}
	d.alone += int64(sign * cost)
}

// destroy leaves the records to Maintain. O(1).
func (d *deque) destroy() { d.table.Drop() }

func (d *deque) clone(step func()) *deque {
	twin := newDeque(d.store)
	for cur := d.seek(0); cur.ok(); cur.skip() {
		step()
		twin.append(cur.b.elements(), cur.b.n())
	}
	twin.n, twin.size, twin.alone = d.n, d.size, d.alone
	return twin
}

// append adds a block of these elements, at most one block's, to the end. It leaves the sums to the caller, and L3 too.
func (d *deque) append(elements []byte, n int) {
	pi, ei := 0, 0
	if len(d.pages) > 0 {
		pi = len(d.pages) - 1
		ei = d.pages[pi].blocks
	}
	pi, ei = d.add(pi, ei, len(elements), n, 0, 0)
	copy(d.at(pi, ei).b[blockHead:], elements)
}

// Numbers and records.

type blockNumber [numberBytes]byte

func keyOf(n uint64) (key blockNumber) {
	for i := range key {
		key[i] = byte(n >> (8 * i))
	}
	return key
}

func (d *deque) fresh() uint64 {
	d.next++
	return d.next - 1
}

// find returns the record under a number.
func (d *deque) find(n uint64) (hash uint64, r dense.Ref) {
	key := keyOf(n)
	hash = d.store.Hash(key[:])
	return hash, d.table.Find(hash, key[:])
}

// value is a record's value, which may be written to: a cut that runs is told, whether or not it will be.
func (d *deque) value(n uint64) []byte {
	key := keyOf(n)
	hash := d.store.Hash(key[:])
	r := d.table.Find(hash, key[:])
	d.table.Touch(hash, key[:], r)
	return d.store.Value(r)
}

func (d *deque) make(n uint64, kind dense.Kind, size int) []byte {
	key := keyOf(n)
	return d.store.Value(d.table.Insert(d.store.Hash(key[:]), kind, key[:], size, 0, 0))
}

// resize makes a record so long; a long one gets the pages that it needs and no more.
func (d *deque) resize(n uint64, size int) []byte {
	hash, r := d.find(n)
	return d.store.Value(d.table.Rewrite(hash, r, d.store.Kind(r), size, 0, 0, size >= dense.Apart))
}

func (d *deque) remove(n uint64) {
	hash, r := d.find(n)
	d.table.Remove(hash, r)
}

// Pages and entries.

func entryAt(p []byte, i int) (n uint64, count int) {
	e := binary.LittleEndian.Uint64(p[entryBytes*i:])
	return e >> entryCount, int(e & (1<<entryCount - 1))
}

func putEntry(p []byte, i int, n uint64, count int) {
	binary.LittleEndian.PutUint64(p[entryBytes*i:], n<<entryCount|uint64(count))
}

// add puts a block of n elements in so many bytes, for the caller to write, with room on both sides before block ei of page
// pi, and returns where it is then.
func (d *deque) add(pi, ei int, size, n, front, back int) (int, int) {
	at := d.fresh()
	b := block(d.make(at, kindBlock, blockHead+front+size+back))
	b.count(n)
	b.rooms(front, back)
	pi, ei = d.placeFor(pi, ei)
	pg := &d.pages[pi]
	p := d.resizePage(pg.number, pg.blocks+1)
	copy(p[entryBytes*(ei+1):], p[entryBytes*ei:entryBytes*pg.blocks])
	putEntry(p, ei, at, n)
	pg.blocks++
	pg.n += n
	clear(p[entryBytes*pg.blocks:])
	return pi, ei
}

// placeFor makes sure that page pi takes another entry before its entry ei, and returns the place.
func (d *deque) placeFor(pi, ei int) (int, int) {
	switch {
	case len(d.pages) > 0 && d.pages[pi].blocks < pageBlocks:
		return pi, ei
	case len(d.pages) == 0 || pi == 0 && ei == 0:
		d.addPage(0, nil, 0)
		return 0, 0
	case pi == len(d.pages)-1 && ei == pageBlocks:
		d.addPage(pi+1, nil, 0)
		return pi + 1, 0
	}
	const half = pageBlocks / 2
	pg := &d.pages[pi]
	old := d.value(pg.number)
	moved := 0
	for i := half; i < pageBlocks; i++ {
		_, n := entryAt(old, i)
		moved += n
	}
	pg.blocks, pg.n = half, pg.n-moved
	number := pg.number
	d.addPage(pi+1, old[entryBytes*half:entryBytes*pageBlocks], moved)
	d.resizePage(number, half)
	if ei > half {
		return pi + 1, ei - half
	}
	return pi, ei
}

func (d *deque) addPage(pi int, entries []byte, n int) {
	pg := page{number: d.fresh(), blocks: len(entries) / entryBytes, n: n}
	p := d.make(pg.number, kindPage, pageBytes(pg.blocks))
	clear(p[copy(p, entries):])
	d.pages = slices.Insert(d.pages, pi, pg)
}

// cut removes a block with its entry. The block behind it is at the same place then, or at the beginning of the page there if
// this was the page's only block. L1 is for tidy to restore.
func (d *deque) cut(pi, ei int) {
	pg := &d.pages[pi]
	p := d.value(pg.number)
	at, n := entryAt(p, ei)
	d.remove(at)
	copy(p[entryBytes*ei:], p[entryBytes*(ei+1):entryBytes*(pg.blocks)])
	pg.blocks--
	pg.n -= n
	if pg.blocks == 0 {
		d.remove(pg.number)
		d.pages = slices.Delete(d.pages, pi, pi+1)
		return
	}
	clear(d.resizePage(pg.number, pg.blocks)[entryBytes*pg.blocks:])
}

// pageBytes is how long the record of a page is: few lengths, so that the holes that growing pages leave fit others. What is
// behind the entries is zero.
func pageBytes(blocks int) int { return entryBytes * max(4, 1<<bits.Len(uint(max(blocks, 1)-1))) }

func (d *deque) resizePage(n uint64, blocks int) []byte {
	if p := d.value(n); len(p) == pageBytes(blocks) {
		return p
	}
	return d.resize(n, pageBytes(blocks))
}

// tidy restores L1 around page pi, after blocks of it or of the next were cut.
func (d *deque) tidy(pi int) {
	d.joinPages(pi + 1)
	d.joinPages(pi)
	d.joinPages(pi - 1)
}

// joinPages moves the entries of the page behind pi to it when the two have few.
func (d *deque) joinPages(pi int) {
	if pi < 0 || pi+1 >= len(d.pages) || d.pages[pi].blocks+d.pages[pi+1].blocks >= pageBlocks/2 {
		return
	}
	pg, behind := &d.pages[pi], d.pages[pi+1]
	entries := d.value(behind.number)
	p := d.resizePage(pg.number, pg.blocks+behind.blocks)
	copy(p[entryBytes*pg.blocks:], entries[:entryBytes*behind.blocks])
	pg.blocks += behind.blocks
	pg.n += behind.n
	d.remove(behind.number)
	d.pages = slices.Delete(d.pages, pi+1, pi+2)
}

// A cursor is a place in a list: an element of a block.
type cursor struct {
	d      *deque // nil for a small list
	pi, ei int
	p      []byte // the page
	b      block  // nil before the first element and behind the last
	pos    int
}

func (cur *cursor) ok() bool { return cur.b != nil }

// element is what stands at the cursor, and where it ends.
func (cur *cursor) element() (e []byte, end int) { return cur.b.read(cur.pos) }

func (cur *cursor) home(it *item) home {
	if cur.d == nil {
		return home{it: it}
	}
	n, _ := entryAt(cur.p, cur.ei)
	h := home{d: cur.d, number: n}
	if cur.isOuter() {
		h.edge = cur.d.edge()
	}
	return h
}

// isOuter reports whether the block is at an end of its deque.
func (cur *cursor) isOuter() bool {
	last := len(cur.d.pages) - 1
	return cur.pi == 0 && cur.ei == 0 || cur.pi == last && cur.ei == cur.d.pages[last].blocks-1
}

// after goes on to the next element.
func (cur *cursor) after() {
	if _, cur.pos = cur.b.read(cur.pos); cur.pos == cur.b.to() {
		cur.skip()
	}
}

// skip goes on to the first element of the next block.
func (cur *cursor) skip() {
	switch d := cur.d; {
	case d == nil:
		cur.b = nil
		return
	case cur.ei+1 < d.pages[cur.pi].blocks:
		cur.ei++
	case cur.pi+1 < len(d.pages):
		cur.pi, cur.ei = cur.pi+1, 0
		cur.p = d.value(d.pages[cur.pi].number)
	default:
		cur.b = nil
		return
	}
	cur.open()
	cur.pos = cur.b.from()
}

// before goes back to the element before.
func (cur *cursor) before() {
	if cur.pos == cur.b.from() {
		switch d := cur.d; {
		case d == nil || cur.pi == 0 && cur.ei == 0:
			cur.b = nil
			return
		case cur.ei > 0:
			cur.ei--
		default:
			cur.pi--
			cur.ei = d.pages[cur.pi].blocks - 1
			cur.p = d.value(d.pages[cur.pi].number)
		}
		cur.open()
		cur.pos = cur.b.to()
	}
	cur.pos = cur.b.start(cur.pos)
}

func (cur *cursor) open() {
	n, _ := entryAt(cur.p, cur.ei)
	cur.b = cur.d.value(n)
}

// at is a cursor to the beginning of a block.
func (d *deque) at(pi, ei int) cursor {
	cur := cursor{d: d, pi: pi, ei: ei, p: d.value(d.pages[pi].number)}
	cur.open()
	cur.pos = cur.b.from()
	return cur
}

// outer is a cursor to the block at an end.
func (d *deque) outer(at end) cursor {
	if at == head {
		return d.at(0, 0)
	}
	pi := len(d.pages) - 1
	return d.at(pi, d.pages[pi].blocks-1)
}

// seek returns the place of element i, of none when there is no such element.
func (d *deque) seek(i int) cursor {
	if i < 0 || i >= d.n {
		return cursor{d: d}
	}
	cur := cursor{d: d}
	if i < d.n/2 {
		for i >= d.pages[cur.pi].n {
			i -= d.pages[cur.pi].n
			cur.pi++
		}
	} else {
		left := d.n - i // elements from i to the end
		for cur.pi = len(d.pages) - 1; left > d.pages[cur.pi].n; cur.pi-- {
			left -= d.pages[cur.pi].n
		}
		i = d.pages[cur.pi].n - left
	}
	cur.p = d.value(d.pages[cur.pi].number)
	number, n := entryAt(cur.p, 0)
	for ; i >= n; number, n = entryAt(cur.p, cur.ei) {
		i -= n
		cur.ei++
	}
	cur.b = d.value(number)
	cur.pos = cur.b.seek(i)
	return cur
}

// splice is home.splice at a cursor, with the sums of L2 but not those of L4.
func (cur *cursor) splice(end, size, dn int) {
	number, n := entryAt(cur.p, cur.ei)
	cur.b, cur.pos = cur.home(nil).splice(cur.b, cur.pos, end, size, dn)
	putEntry(cur.p, cur.ei, number, n+dn)
	cur.d.pages[cur.pi].n += dn
}

// settle restores L3 and L1 around a block that has become smaller.
func (d *deque) settle(pi, ei int) {
	switch cur := d.at(pi, ei); {
	case cur.b.n() == 0:
		pages := len(d.pages)
		d.cut(pi, ei)
		if len(d.pages) < pages {
			ei = 0
		}
		d.join(pi, ei)
	case cur.b.used() <= blockFull/2:
		d.join(pi, ei+1)
		d.join(pi, ei)
	default:
		return
	}
	d.tidy(pi)
}

// join moves what is in the block at a place to the block before, if the two fit into half a block, and cuts it.
func (d *deque) join(pi, ei int) bool {
	if pi < len(d.pages) && ei == d.pages[pi].blocks {
		pi, ei = pi+1, 0
	}
	if pi >= len(d.pages) || pi == 0 && ei == 0 {
		return false
	}
	left, last := pi, ei-1
	if ei == 0 {
		left, last = pi-1, d.pages[pi-1].blocks-1
	}
	before, b := d.at(left, last), d.at(pi, ei).b
	if before.b.used()+b.used() > blockFull/2 {
		return false
	}
	before.pos = before.b.to()
	before.splice(before.pos, b.used(), b.n())
	copy(before.b[before.pos:], b.elements())
	d.cut(pi, ei)
	return true
}

// push adds an element at an end. O(1) on average.
func (d *deque) push(j *journal, at end, element []byte) {
	if j != nil {
		j.add(func() { d.drop(nil, at, 1) })
	}
	size := packed(len(element))
	d.tally(size, 1)
	if d.n > 1 {
		cur := d.outer(at)
		if at == tail {
			cur.pos = cur.b.to()
		}
		if cur.b.fits(size) {
			cur.splice(cur.pos, size, 1)
			pack(cur.b[cur.pos:cur.pos+size], element)
			return
		}
		cur.home(nil).trim(cur.b) // it may stay as it is for long
	}
	var pi, ei int
	if at == tail && len(d.pages) > 0 {
		pi = len(d.pages) - 1
		ei = d.pages[pi].blocks
	}
	front, back := 0, 0
	if size < longElement {
		back = min(d.edge(), blockFull-size)
	}
	if at == head {
		front, back = back, front
	}
	d.addOne(pi, ei, element, front, back)
}

// addOne is add of a block of one element.
func (d *deque) addOne(pi, ei int, element []byte, front, back int) {
	pi, ei = d.add(pi, ei, packed(len(element)), 1, front, back)
	cur := d.at(pi, ei)
	pack(cur.b[cur.pos:cur.b.to()], element)
}

// drop removes n elements, which there are, from an end: O(1) on average for each of them, and less for whole blocks.
func (d *deque) drop(j *journal, at end, n int) {
	if j != nil && n > 0 {
		d.keepDropped(j, at, n)
	}
	for n > 0 {
		cur := d.outer(at)
		if all := cur.b.n(); n >= all {
			d.untally(cur.b)
			d.cut(cur.pi, cur.ei)
			d.tidy(cur.pi)
			n -= all
			continue
		}
		from, to := cur.b.from(), cur.b.to()
		if at == head {
			to = cur.b.seek(n)
		} else {
			from = cur.b.seek(cur.b.n() - n)
		}
		for pos := from; pos < to; {
			_, end := cur.b.read(pos)
			d.tally(end-pos, -1)
			pos = end
		}
		cur.pos = from
		cur.splice(to, 0, -n)
		if cur.b.used() <= blockFull/2 {
			d.settle(cur.pi, cur.ei)
		}
		return
	}
}

// keep removes all elements before from and from to on; some stay. Where few do, it moves those and leaves the rest to Maintain.
func (d *deque) keep(j *journal, from, to int) {
	if j != nil || d.n-(to-from) < 16*(to-from) {
		d.drop(j, tail, d.n-to)
		d.drop(j, head, from)
		return
	}
	few := newDeque(d.store)
	cur := d.seek(from)
	for range to - from {
		e, _ := cur.element()
		few.push(nil, tail, e)
		cur.after()
	}
	d.destroy()
	*d = *few
}

// untally takes the elements of a block out of the sums.
func (d *deque) untally(b block) {
	if b.n() == 1 {
		d.tally(b.used(), -1)
		return
	}
	d.n -= b.n()
	d.size -= int64(b.used())
}

// keepDropped notes in the journal what drop is about to remove, in the order in which an undo pushes it.
func (d *deque) keepDropped(j *journal, at end, n int) {
	var gone []byte
	cur := d.seek(d.n - n)
	if at == head {
		cur = d.seek(n - 1)
	}
	for range n {
		e, _ := cur.element()
		gone = appendPacked(gone, e)
		if at == head {
			cur.before()
		} else {
			cur.after()
		}
	}
	j.add(func() {
		for pos := 0; pos < len(gone); {
			var e []byte
			e, pos = block(gone).read(pos)
			d.push(nil, at, e)
		}
	})
}

// set replaces element i, which there is.
func (d *deque) set(j *journal, i int, element []byte) {
	cur := d.seek(i)
	old, end := cur.element()
	if j != nil {
		was := bytes.Clone(old)
		j.add(func() { d.set(nil, i, was) })
	}
	size := packed(len(element))
	if cur.b.n() > 1 && !cur.b.fits(size-(end-cur.pos)) {
		d.cutOut(&cur)
		d.insert(nil, i, element)
		return
	}
	d.tally(end-cur.pos, -1)
	d.tally(size, 1)
	shorter := size < end-cur.pos
	cur.splice(end, size, 0)
	pack(cur.b[cur.pos:cur.pos+size], element)
	if shorter {
		d.settle(cur.pi, cur.ei)
	}
}

// cutOut removes the element at a cursor.
func (d *deque) cutOut(cur *cursor) {
	_, end := cur.element()
	d.tally(end-cur.pos, -1)
	cur.splice(end, 0, -1)
	d.settle(cur.pi, cur.ei)
}

// insert puts an element before element i, or at the end when i is the length.
func (d *deque) insert(j *journal, i int, element []byte) {
	if i == d.n {
		d.push(j, tail, element)
		return
	}
	if j != nil {
		j.add(func() {
			cur := d.seek(i)
			d.cutOut(&cur)
		})
	}
	cur, size := d.seek(i), packed(len(element))
	d.tally(size, 1)
	if cur.b.fits(size) {
		cur.splice(cur.pos, size, 1)
		pack(cur.b[cur.pos:cur.pos+size], element)
		return
	}
	pi, ei := cur.pi, cur.ei
	if cur.pos > cur.b.from() { // what stands behind the place becomes a block of its own
		pi, ei = d.split(&cur)
	}
	if back := d.at(pi, ei); back.b.fits(size) {
		back.splice(back.pos, size, 1)
		pack(back.b[back.pos:back.pos+size], element)
	} else {
		d.addOne(pi, ei, element, 0, 0)
	}
	d.tidyAround(i)
}

// split makes the elements from a cursor on, which is not at the beginning of a block, a block of their own, and returns
// where that is.
func (d *deque) split(cur *cursor) (pi, ei int) {
	behind := 0
	for pos := cur.pos; pos < cur.b.to(); behind++ {
		_, pos = cur.b.read(pos)
	}
	moved := cur.b[cur.pos:cur.b.to()]
	number, n := entryAt(cur.p, cur.ei)
	cur.d.pages[cur.pi].n -= behind
	putEntry(cur.p, cur.ei, number, n-behind)
	pi, ei = d.add(cur.pi, cur.ei+1, len(moved), behind, 0, 0)
	copy(d.at(pi, ei).b[blockHead:], moved)
	h := home{d: d, number: number}
	b, _ := h.splice(cur.b, cur.pos, cur.b.to(), 0, -behind)
	h.trim(b)
	return pi, ei
}

// tidyAround restores L3 around element i, where blocks were split, and takes the room from those that are at the end no more.
func (d *deque) tidyAround(i int) {
	for _, i := range [...]int{i + 1, i, i - 1} {
		cur := d.seek(i)
		if !cur.ok() {
			continue
		}
		d.settle(cur.pi, cur.ei)
		if cur = d.seek(i); !cur.isOuter() {
			cur.home(nil).trim(cur.b)
		}
	}
}

// filter removes elements as home.filter does, and tells seen at which places they stood. One pass.
func (d *deque) filter(element []byte, skip, atMost int, seen func(i int)) (removed int) {
	size := packed(len(element))
	first := 0 // the block's first element
	for cur := d.seek(0); cur.ok() && atMost > 0; cur.skip() {
		h, all := cur.home(nil), cur.b.n()
		gone := h.filter(cur.b, element, &skip, &atMost, func(i int) { seen(first + i) })
		putEntry(cur.p, cur.ei, h.number, all-gone)
		d.pages[cur.pi].n -= gone
		for range gone {
			d.tally(size, -1)
		}
		removed += gone
		first += all
	}
	if removed > 0 {
		d.settleAll()
	}
	return removed
}

// settleAll restores L1 and L3 everywhere, after elements have gone.
func (d *deque) settleAll() {
	for pi := len(d.pages) - 1; pi >= 0; pi-- {
		for ei := d.pages[pi].blocks - 1; ei >= 0; ei-- {
			if d.at(pi, ei).b.n() == 0 {
				d.cut(pi, ei)
			} else {
				d.join(pi, ei+1)
			}
		}
		d.tidy(pi)
	}
}

// restore is the inverse of filter: element stands at each of the places again.
func (d *deque) restore(places []int, element []byte) {
	whole := newDeque(d.store)
	cur := d.seek(0)
	for i := 0; cur.ok() || len(places) > 0; i++ {
		if len(places) > 0 && places[0] == i {
			whole.push(nil, tail, element)
			places = places[1:]
			continue
		}
		kept, _ := cur.element()
		whole.push(nil, tail, kept)
		cur.after()
	}
	d.destroy()
	*d = *whole
}

func (d *deque) check() error {
	n, records := 0, 0
	var last block
	sums := deque{}
	for pi, pg := range d.pages {
		if pg.blocks < 1 || pg.blocks > pageBlocks || pi > 0 && d.pages[pi-1].blocks+pg.blocks < pageBlocks/2 {
			return fmt.Errorf("L1: page %d has %d blocks", pi, pg.blocks)
		}
		p := d.value(pg.number)
		if len(p) != pageBytes(pg.blocks) || pg.number >= d.next {
			return fmt.Errorf("L5: page %d of %d blocks has %d bytes", pi, pg.blocks, len(p))
		}
		records += 1 + pg.blocks
		sum := 0
		for ei := range pg.blocks {
			number, count := entryAt(p, ei)
			b := block(d.value(number))
			if err := validBlock(b); err != nil {
				return err
			}
			if outer := pi == 0 && ei == 0 || pi == len(d.pages)-1 && ei == pg.blocks-1; !outer && len(b)-b.used()-blockHead > maxRoom {
				return fmt.Errorf("B2: a block of %d bytes has room for %d", len(b), len(b)-b.used()-blockHead)
			}
			if b.n() != count || number >= d.next {
				return fmt.Errorf("L2: a block of %d elements is entered with %d", b.n(), count)
			}
			if last != nil && last.used()+b.used() <= blockFull/2 {
				return fmt.Errorf("L3: blocks of %d and %d bytes are neighbours", last.used(), b.used())
			}
			for pos := b.from(); pos < b.to(); {
				_, end := b.read(pos)
				sums.tally(end-pos, 1)
				pos = end
			}
			sum += count
			last = b
		}
		if sum != pg.n {
			return fmt.Errorf("L2: page %d has %d elements, counted %d", pi, sum, pg.n)
		}
		n += sum
	}
	switch {
	case n != d.n || sums.n != d.n:
		return fmt.Errorf("L2: %d elements, counted %d", n, d.n)
	case sums.size != d.size || sums.alone != d.alone:
		return fmt.Errorf("L4: %d bytes and %d alone, counted %d and %d", sums.size, sums.alone, d.size, d.alone)
	case records != d.table.Len():
		return fmt.Errorf("L5: %d pages and blocks, %d records", records, d.table.Len())
	}
	return nil
}
