package placement

import (
	"bytes"
	"fmt"
)

// Slots is how many slots a cache's keys fall into, as in Redis Cluster.
const Slots = 16384

// Slot returns the slot of a key: CRC16 of the key, or of its hash tag (what stands between the first { and
// the next }, if that is not empty), modulo Slots. The rule is Redis Cluster's.
func Slot(key []byte) uint16 {
	if open := bytes.IndexByte(key, '{'); open >= 0 {
		if length := bytes.IndexByte(key[open+1:], '}'); length > 0 {
			key = key[open+1 : open+1+length]
		}
	}
	return crc16(key) % Slots
}

// crc16 is CRC-16/XMODEM: polynomial 0x1021, start 0, nothing reflected.
func crc16(b []byte) (crc uint16) {
	for _, c := range b {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^c]
	}
	return crc
}

var crcTable = func() (t [256]uint16) {
	for i := range t {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		t[i] = crc
	}
	return t
}()

// A Range is a run of slots of one cache that lives on one partition. A new cache is one range with all slots.
type Range struct {
	From      uint16      `json:"from"`
	To        uint16      `json:"to"` // the last slot, inclusive
	Partition PartitionID `json:"partition"`
}

// CheckRanges returns an error unless ranges cover every slot once, in order.
func CheckRanges(ranges []Range) error {
	next := 0
	for _, r := range ranges {
		if int(r.From) != next || r.To < r.From || r.To >= Slots {
			return fmt.Errorf("slot range %d-%d does not continue at slot %d", r.From, r.To, next)
		}
		next = int(r.To) + 1
	}
	if next != Slots {
		return fmt.Errorf("slots %d-%d are in no range", next, Slots-1)
	}
	return nil
}

// Find returns the partition of a slot. ranges are as CheckRanges wants them.
func Find(ranges []Range, slot uint16) PartitionID {
	for i := range ranges {
		if slot <= ranges[i].To {
			return ranges[i].Partition
		}
	}
	panic("placement: ranges do not cover every slot")
}
