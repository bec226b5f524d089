package engine

import (
	"fmt"
	"slices"
)

// A run is a long sequence of small records in ascending order of their stream ids, kept in chunks so that a change in
// the middle moves few of them, and one at either end next to none. Its records stand in the chunks themselves: a run
// of a million records is some ten thousand objects to the garbage collector.
//
//	R1: keys ascend, and no two are equal
//	R2: n is the number of records
//	R3: a chunk holds 1 to runChunk records
//	R4: no two neighbours have together less than a quarter of a chunk
//
// How records are spread over chunks is no part of the state.
type run[T keyed] struct {
	chunks [][]T
	n      int
}

// keyed is a record that knows its key.
type keyed interface{ key() streamID }

const runChunk = 128

// A runSpot is the place of a record in a run, good until the run changes.
type runSpot struct{ chunk, i int }

func (r *run[T]) at(s runSpot) *T { return &r.chunks[s.chunk][s.i] }

// valid reports whether there is a record at s.
func (r *run[T]) valid(s runSpot) bool { return 0 <= s.chunk && s.chunk < len(r.chunks) }

// first is the spot of the first record, not valid when there is none.
func (r *run[T]) first() runSpot { return runSpot{} }

// last is the spot of the last record, not valid when there is none.
func (r *run[T]) last() runSpot { return r.prev(runSpot{len(r.chunks), 0}) }

func (r *run[T]) next(s runSpot) runSpot {
	if s.i++; s.i == len(r.chunks[s.chunk]) {
		return runSpot{s.chunk + 1, 0}
	}
	return s
}

func (r *run[T]) prev(s runSpot) runSpot {
	if s.i--; s.i < 0 {
		if s.chunk--; s.chunk >= 0 {
			s.i = len(r.chunks[s.chunk]) - 1
		}
	}
	return s
}

// from is the spot of the first record whose key is not below id. It is valid, or one behind the last.
func (r *run[T]) from(id streamID) runSpot {
	low, high := 0, len(r.chunks) // the last chunk that begins at or below id is before high
	for low < high {
		if middle := int(uint(low+high) / 2); r.chunks[middle][0].key().above(id) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	if low == 0 {
		return runSpot{}
	}
	chunk := r.chunks[low-1]
	i, end := 0, len(chunk)
	for i < end {
		if middle := int(uint(i+end) / 2); id.above(chunk[middle].key()) {
			i = middle + 1
		} else {
			end = middle
		}
	}
	if i == len(chunk) {
		return runSpot{low, 0}
	}
	return runSpot{low - 1, i}
}

// after is the spot of the first record whose key is above id. It is valid, or one behind the last.
func (r *run[T]) after(id streamID) runSpot {
	s := r.from(id)
	if r.valid(s) && (*r.at(s)).key() == id {
		return r.next(s)
	}
	return s
}

// upTo is the spot of the last record whose key is not above id, not valid when there is none.
func (r *run[T]) upTo(id streamID) runSpot {
	s := r.from(id)
	if r.valid(s) && (*r.at(s)).key() == id {
		return s
	}
	return r.prev(s)
}

// find is the spot of the record with the key id.
func (r *run[T]) find(id streamID) (s runSpot, found bool) {
	s = r.from(id)
	return s, r.valid(s) && (*r.at(s)).key() == id
}

// insert adds a record with a key that no other has.
func (r *run[T]) insert(v T) {
	r.n++
	last := len(r.chunks) - 1
	if last < 0 || (len(r.chunks[last]) == runChunk && v.key().above(r.chunks[last][runChunk-1].key())) {
		r.chunks = append(r.chunks, []T{v})
		return
	}
	s := r.from(v.key())
	if s.i == 0 && s.chunk > 0 { // as well behind the last of the chunk before
		s = runSpot{s.chunk - 1, len(r.chunks[s.chunk-1])}
	}
	if len(r.chunks[s.chunk]) == runChunk {
		const half = runChunk / 2
		whole := r.chunks[s.chunk]
		r.chunks = slices.Insert(r.chunks, s.chunk+1, slices.Clone(whole[half:]))
		r.chunks[s.chunk] = slices.Clone(whole[:half])
		if s.i > half {
			s = runSpot{s.chunk + 1, s.i - half}
		}
	}
	r.chunks[s.chunk] = slices.Insert(r.chunks[s.chunk], s.i, v)
}

// remove takes out the record at s. At either end that moves nothing.
func (r *run[T]) remove(s runSpot) {
	r.n--
	chunk := r.chunks[s.chunk]
	if s.i == 0 {
		clear(chunk[:1])
		r.chunks[s.chunk] = chunk[1:]
	} else {
		r.chunks[s.chunk] = slices.Delete(chunk, s.i, s.i+1)
	}
	switch left := len(r.chunks[s.chunk]); {
	case left == 0 && s.chunk == 0:
		r.chunks[0] = nil
		r.chunks = r.chunks[1:]
	case left == 0:
		r.chunks = slices.Delete(r.chunks, s.chunk, s.chunk+1)
		r.join(s.chunk - 1)
	case left < runChunk/4:
		r.join(s.chunk)
		r.join(s.chunk - 1)
	}
	if r.n == 0 {
		r.chunks = nil
	}
}

// join restores R4 between a chunk and the next.
func (r *run[T]) join(chunk int) {
	if chunk < 0 || chunk+1 >= len(r.chunks) || len(r.chunks[chunk])+len(r.chunks[chunk+1]) >= runChunk/4 {
		return
	}
	both := make([]T, 0, runChunk/2)
	r.chunks[chunk] = append(append(both, r.chunks[chunk]...), r.chunks[chunk+1]...)
	r.chunks = slices.Delete(r.chunks, chunk+1, chunk+2)
}

func (r *run[T]) clone() run[T] {
	twin := run[T]{n: r.n, chunks: make([][]T, len(r.chunks))}
	for i, chunk := range r.chunks {
		twin.chunks[i] = slices.Clone(chunk)
	}
	return twin
}

func (r *run[T]) check() error {
	n := 0
	var before streamID
	for i, chunk := range r.chunks {
		if len(chunk) < 1 || len(chunk) > runChunk {
			return fmt.Errorf("R3: %d records in a chunk", len(chunk))
		}
		if i > 0 && len(r.chunks[i-1])+len(chunk) < runChunk/4 {
			return fmt.Errorf("R4: chunks of %d and %d records are neighbours", len(r.chunks[i-1]), len(chunk))
		}
		for _, v := range chunk {
			if n > 0 && !v.key().above(before) {
				return fmt.Errorf("R1: %v stands behind %v", v.key(), before)
			}
			before = v.key()
			n++
		}
	}
	if n != r.n {
		return fmt.Errorf("R2: %d records, counted as %d", n, r.n)
	}
	return nil
}
