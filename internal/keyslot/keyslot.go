// Package keyslot knows into which slot a key falls. The rule is Redis Cluster's.
package keyslot

import "bytes"

// Count is how many slots a cache's keys fall into.
const Count = 16384

// Of returns the slot of a key: CRC16 of the key, or of its hash tag (what stands between the first { and the next }, if
// that is not empty), modulo Count.
func Of(key []byte) uint16 {
	if open := bytes.IndexByte(key, '{'); open >= 0 {
		if length := bytes.IndexByte(key[open+1:], '}'); length > 0 {
			key = key[open+1 : open+1+length]
		}
	}
	return crc16(key) % Count
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
