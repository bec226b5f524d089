// Package memory hands out memory that Go's garbage collector never looks at.
//
// Whatever is kept for each cached item lies here: the collector has nothing to scan, its heap goal does not
// follow the size of the cache, and what is freed goes back to the operating system at once. The price is
// that nothing here may hold a Go pointer, and that whoever frees memory vouches that nobody looks at it any more.
//
// Pages is the source: runs of 4 KiB pages, carved out of large mappings. A Pool cuts runs into pieces of one
// type. Neither has a lock: they belong to one partition, whose caller holds its.
package memory

import (
	"math/bits"
	"runtime"
	"slices"
	"unsafe"
)

// PageSize is the unit in which Pages hands out memory, in bytes.
const PageSize = 4096

// A region is a mapping: the first is small, so that a partition that holds next to nothing costs next to
// nothing, and each next one twice as large, up to maxRegion. What does not fit into a region has one of its own.
const (
	minRegion = 256 << 10
	maxRegion = 64 << 20
)

// Pages hands out runs of pages.
//
//	G1: regions ascend by address
//	G2: a bit of a region's used map is set exactly when its page is handed out; used counts them all, but those that
//	    Untouched was told of
//	G3: no page of a region from low on and before the first free one is free: low never lies behind a free page
type Pages struct {
	regions []*region
	next    int   // bytes of the next region
	used    int64 // pages handed out
	mapped  int64 // bytes of all regions
	latest  *region
	reached int // bytes of the latest region that had been handed out when Ahead was asked last
	maps    *mappings
}

// A region is one mapping with a bit for each of its pages.
type region struct {
	mem    []byte
	inUse  []uint64 // a bit for each page
	free   int      // pages not in use
	low    int      // no page before it is free
	top    int      // no page from it on was ever handed out
	ready  int      // bytes up to which Ahead has had it made ready
	longNo int      // a run of so many pages was looked for in vain, and nothing was freed since; 0 for none
}

func (r *region) base() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(r.mem))) }

// New returns an empty source. What it maps is unmapped when the Pages can no longer be reached; Close does
// so at once.
func New() *Pages {
	p := &Pages{next: minRegion, maps: &mappings{}}
	runtime.AddCleanup(p, (*mappings).unmapAll, p.maps)
	return p
}

// Used is how many bytes are handed out, whole pages.
func (p *Pages) Used() int64 { return p.used * PageSize }

// Mapped is how many bytes of addresses are taken, handed out or not; only what was handed out takes memory.
func (p *Pages) Mapped() int64 { return p.mapped }

// Alloc returns at least n bytes, all zero, as whole pages: its length is n rounded up. It panics when the
// operating system has no more. O(1) for most calls, O(pages of a region / 64) at the worst.
func (p *Pages) Alloc(n int) []byte {
	pages := max((n+PageSize-1)/PageSize, 1)
	for i := len(p.regions) - 1; i >= 0; i-- {
		if b := p.regions[i].take(pages); b != nil {
			p.used += int64(pages)
			return b
		}
	}
	r := p.grow(pages * PageSize)
	b := r.take(pages)
	p.used += int64(pages)
	return b
}

func (p *Pages) grow(atLeast int) *region {
	size := max(p.next, atLeast)
	if size == p.next {
		p.next = min(2*p.next, maxRegion)
	}
	pages := size / PageSize
	r := &region{mem: p.maps.add(size), inUse: make([]uint64, (pages+63)/64), free: pages}
	for extra := pages; extra < len(r.inUse)*64; extra++ {
		r.inUse[extra/64] |= 1 << (extra % 64)
	}
	p.mapped += int64(size)
	p.latest, p.reached = r, 0
	at, _ := slices.BinarySearchFunc(p.regions, r.base(), func(r *region, base uintptr) int {
		if r.base() < base {
			return -1
		}
		return 1
	})
	p.regions = slices.Insert(p.regions, at, r)
	return r
}

// take returns a run of free pages, nil when the region has none so long.
func (r *region) take(pages int) []byte {
	if r.free < pages || (r.longNo > 0 && pages >= r.longNo) {
		return nil
	}
	total := len(r.mem) / PageSize
	start, length := r.low, 0
	for at := r.low; at < total; {
		if at%64 == 0 && r.inUse[at/64] == ^uint64(0) { // a whole word in use
			at += 64
			start, length = at, 0
			continue
		}
		word := r.inUse[at/64] >> (at % 64)
		if word&1 != 0 {
			at += bits.TrailingZeros64(^word)
			start, length = at, 0
			continue
		}
		run := min(bits.TrailingZeros64(word), 64-at%64, total-at)
		at += run
		if length += run; length >= pages {
			r.mark(start, pages, true)
			r.free -= pages
			r.top = max(r.top, start+pages)
			if start == r.low {
				r.low = start + pages
			}
			from, to := start*PageSize, (start+pages)*PageSize
			return r.mem[from:to:to]
		}
	}
	r.longNo = pages
	return nil
}

func (r *region) mark(start, pages int, inUse bool) {
	for pages > 0 {
		at := start % 64
		n := min(64-at, pages)
		mask := (^uint64(0) >> (64 - n)) << at
		if inUse {
			r.inUse[start/64] |= mask
		} else {
			r.inUse[start/64] &^= mask
		}
		start, pages = start+n, pages-n
	}
}

// Free takes back a run that Alloc returned, whole. Its memory goes to the operating system now.
func (p *Pages) Free(b []byte) {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	i, found := slices.BinarySearchFunc(p.regions, at, func(r *region, at uintptr) int {
		switch {
		case r.base()+uintptr(len(r.mem)) <= at:
			return -1
		case r.base() > at:
			return 1
		}
		return 0
	})
	if !found || len(b) == 0 || len(b)%PageSize != 0 {
		panic("memory: Free of what Alloc did not return")
	}
	r := p.regions[i]
	start, pages := int(at-r.base())/PageSize, len(b)/PageSize
	r.mark(start, pages, false)
	r.free += pages
	r.low = min(r.low, start)
	r.longNo = 0
	p.used -= int64(pages)
	if r.free == len(r.mem)/PageSize && (len(r.mem) > maxRegion || len(p.regions) > 1) {
		p.regions = slices.Delete(p.regions, i, i+1)
		p.mapped -= int64(len(r.mem))
		if r == p.latest {
			p.latest = nil
		}
		if len(p.regions) == 0 {
			p.next = minRegion
		}
		p.maps.remove(r.mem)
		return
	}
	discard(b)
}

// What Ahead says of the future: how far at least it looks, and from how much memory on.
const (
	hugePage   = 2 << 20
	leastAhead = 512 << 10
	aheadFrom  = 32 << 20 // bytes of a region
	aheadShare = 16
)

// Ahead returns a piece of what will be handed out soon, for Prepare, nil for none. It goes by what was handed out since it was
// asked last, which is a moment ago: let it be asked again and again until it answers nil. A source that has little memory has
// none of it made ready; of one that has much at most a sixteenth lies ready, and a huge page.
func (p *Pages) Ahead() []byte {
	r := p.latest
	if r == nil || len(r.mem) < aheadFrom {
		return nil
	}
	used := r.top * PageSize
	target := min(used+max(used-p.reached, leastAhead), used+int(p.mapped/aheadShare))
	first := (used + hugePage - 1) / hugePage * hugePage
	r.ready = max(r.ready, first)
	if r.ready >= target || r.ready+hugePage > len(r.mem) {
		p.reached = used
		return nil
	}
	r.ready += hugePage
	return r.mem[r.ready-hugePage : r.ready]
}

// Prepare makes memory that is not in use yet ready, as a huge page where the machine has those: whoever uses it then does not
// wait for the operating system page by page, nor for the processor to find 4 KiB of it at a time. It may run beside
// everything else, even if the memory has been handed out or given back meanwhile: it changes nothing that can be read.
func Prepare(b []byte) { prepare(b) }

// Untouched tells that so many pages which are handed out are not in use yet; a negative number, that they are now. Used
// leaves them out: a page takes memory from when it is touched first.
func (p *Pages) Untouched(pages int) { p.used -= int64(pages) }

// Reserve returns room for n values, all zero, that takes memory only where it is written to. A pointer in one is not seen
// by the garbage collector, and must be to what the Pages hold.
func Reserve[T any](p *Pages, n int) []T {
	var t T
	b := p.maps.add(n * int(unsafe.Sizeof(t)))
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// Discard gives back the memory of whole pages that stay handed out: they read as zeroes, and take memory again from when
// they are touched.
func Discard(b []byte) {
	if len(b) > 0 {
		discard(b)
	}
}

// Close gives everything back. Nothing that was handed out may be touched any more.
func (p *Pages) Close() {
	p.regions, p.used, p.mapped, p.next, p.latest = nil, 0, 0, minRegion, nil
	p.maps.unmapAll()
	runtime.KeepAlive(p) // or its cleanup may begin before this has ended
}

// mappings are what the Pages took from the operating system, in a place of their own that outlives them until all
// of it is given back.
type mappings struct{ all map[*byte][]byte }

// add maps size bytes, from the beginning of a huge page where they are many of those.
func (m *mappings) add(size int) []byte {
	if m.all == nil {
		m.all = map[*byte][]byte{}
	}
	if size < aheadFrom {
		b := mmap(size)
		m.all[unsafe.SliceData(b)] = b
		return b
	}
	all := mmap(size + hugePage)
	from := -int(uintptr(unsafe.Pointer(unsafe.SliceData(all)))) & (hugePage - 1)
	b := all[from:][:size:size]
	m.all[unsafe.SliceData(b)] = all
	return b
}

func (m *mappings) remove(b []byte) {
	munmap(m.all[unsafe.SliceData(b)])
	delete(m.all, unsafe.SliceData(b))
}

func (m *mappings) unmapAll() {
	for _, b := range m.all {
		munmap(b)
	}
	m.all = nil
}
