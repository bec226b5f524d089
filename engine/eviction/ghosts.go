package eviction

// ghosts remember evicted items: for each of the last so many, two bytes that tell it from others, with high
// probability, and how often it was used.
//
// A ghost is 11 bits of the hash, 2 bits of epoch and 3 bits of frequency; 0 is no ghost. They stand in buckets
// of 8, the latest first, so that a ghost's place tells about how many evictions ago it was made. Buckets are
// allocated in chunks, when their first ghost comes.
type ghosts struct {
	chunks  [][]bucket
	buckets uint32
	old     *ghosts // the smaller table that this one replaced, until as many ghosts have been made as it held
	left    int
}

type bucket [bucketSize]uint16

const (
	bucketSize = 8

	// recentGhosts of a bucket are those that ARC heeds: about as many as there are items, and half as many again,
	// because buckets differ.
	recentGhosts = 6

	chunkSize = 256 // buckets
)

// ghostFreq are the frequencies that 3 bits tell apart.
var ghostFreq = [8]uint32{0, 1, 2, 3, 4, 6, 9, 13}

// resize makes room for n ghosts, if that is more than there is by half.
func (g *ghosts) resize(n int) {
	want := uint32(max(n/bucketSize, 4))
	if want <= g.buckets {
		return
	}
	var old *ghosts
	if g.buckets > 0 {
		old = &ghosts{chunks: g.chunks, buckets: g.buckets}
	}
	*g = ghosts{buckets: want, chunks: make([][]bucket, (want+chunkSize-1)/chunkSize), old: old}
	if old != nil {
		g.left = int(old.buckets) * bucketSize
	}
}

// bucket returns the bucket of a hash, nil if it is in a chunk without any ghost.
func (g *ghosts) bucket(hash uint64, fill bool) *bucket {
	i := uint32(uint64(uint32(hash>>16)) * uint64(g.buckets) >> 32)
	c := &g.chunks[i/chunkSize]
	if *c == nil {
		if !fill {
			return nil
		}
		*c = make([]bucket, min(chunkSize, g.buckets-i/chunkSize*chunkSize))
	}
	return &(*c)[i%chunkSize]
}

func ghostMark(hash uint64) uint16 { return uint16(hash*0x9e3779b97f4a7c15>>53) << 5 }

// add makes a ghost.
func (g *ghosts) add(hash uint64, freq, epoch uint32) {
	b := g.bucket(hash, true)
	copy(b[1:], b[:bucketSize-1])
	code := uint16(1)
	for code < 7 && ghostFreq[code+1] <= freq {
		code++
	}
	b[0] = ghostMark(hash) | uint16(epoch&3)<<3 | code
	if g.old != nil {
		if g.left--; g.left == 0 {
			g.old = nil
		}
	}
}

// take removes the ghost of an item that has come back, and tells how often it was used, whether that was once
// when it was evicted, and whether it is of the later ones.
func (g *ghosts) take(hash uint64, epoch uint32) (freq uint32, once, recent, ok bool) {
	b := g.bucket(hash, false)
	if b == nil {
		if g.old != nil {
			return g.old.take(hash, epoch)
		}
		return 0, false, false, false
	}
	mark := ghostMark(hash)
	for i, e := range b {
		if e&7 != 0 && e&^31 == mark {
			copy(b[i:], b[i+1:])
			b[bucketSize-1] = 0
			return ghostFreq[e&7] >> ((epoch - uint32(e>>3)) & 3), e&7 == 1, i < recentGhosts, true
		}
	}
	if g.old != nil {
		return g.old.take(hash, epoch)
	}
	return 0, false, false, false
}

func (g *ghosts) bytes() int {
	n := 24 * cap(g.chunks)
	for _, c := range g.chunks {
		n += 16 * cap(c)
	}
	if g.old != nil {
		n += g.old.bytes()
	}
	return n
}
