package eviction

import "math/bits"

// A note is what the policy knows of one item, in the 4 bytes that each item has for it.
//
//	bits 0–1   segment
//	bits 2–5   frequency when last used
//	bits 6–31  when it was last used, by the policy's clock, from 1; 0 with segment none
type note uint32

// A segment is where an item stands in the cache.
type segment uint32

const (
	none      segment = iota // nothing is known of the item, or it is about to be evicted
	window                   // a newcomer
	probation                // of the main part, not used since it came there
	protected                // of the main part
)

const (
	maxFreq  = 15
	maxStamp = 1<<26 - 1
)

// chosen is the note of an item that Victim has returned.
const chosen = note(maxFreq << 2)

func makeNote(s segment, freq, stamp uint32) note { return note(uint32(s) | freq<<2 | stamp<<6) }

func (n note) segment() segment { return segment(n & 3) }

func (n note) stamp() uint32 { return uint32(n >> 6) }

// freq is about how often the item was used: halved each time the clock's epoch has changed since.
func (n note) freq(clock uint32, epoch uint8) uint32 {
	return aged(uint32(n>>2)&maxFreq, n.stamp(), clock, epoch)
}

func (n note) withSegment(s segment) note { return n&^3 | note(s) }

func (n note) withFreq(f uint32) note { return n&^(maxFreq<<2) | note(f<<2) }

// aged halves a frequency for each epoch that began since a stamp.
func aged(freq, stamp, clock uint32, epoch uint8) uint32 {
	return freq >> min((clock>>epoch-stamp>>epoch)&(maxStamp>>epoch), 31)
}

// age is the ticks since a stamp.
func age(stamp, clock uint32) uint32 { return (clock - stamp) & maxStamp }

// tickShift is chosen so that the clock turns over only after many times as many requests as there are items.
func tickShift(n int) uint8 { return uint8(max(0, bits.Len(uint(n))-20)) }

// epochFor is log2 of an epoch in ticks: about ten requests for each of n items.
func epochFor(n int, shift uint8) uint8 {
	return uint8(max(4, bits.Len(uint(n)*7)-int(shift)))
}

// tag is the part of a hash by which the engine finds an item again.
func tag(hash uint64) uint32 { return uint32(hash >> 32) }

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// beats reports whether a newcomer with one frequency should take the place of an item with another. One that was
// never used before does not, and it takes more than the one use by which the items of a loop are ahead in turn.
func beats(newcomer, resident uint32) bool {
	if resident >= 4 {
		resident++
	}
	return newcomer > max(1, resident)
}
