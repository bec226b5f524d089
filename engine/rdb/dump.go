package rdb

import (
	"encoding/binary"
	"errors"
	"hash/crc64"
)

// The versions of the format that this package knows. Redis counts on from 1, Valkey from 80. A value is dumped with the
// lowest version that has its type, so that as many servers as can be restore it: 9 is Redis 5, 10 Redis 7, 12 Redis 7.4.
const (
	versionPlain     = 9
	versionStreams   = 10
	versionDeadlines = 12

	lastRedis   = 15
	firstValkey = 80
	lastValkey  = 81
)

// trailer is how many bytes stand behind a dumped value: the version and a checksum.
const trailer = 2 + 8

// ErrDump is the error of a dump that was damaged, or comes from a server too new.
var ErrDump = errors.New("rdb: the version or the checksum of a dump is wrong")

// jones is the polynomial of Redis's checksums, its bits reversed.
var jones = crc64.MakeTable(0x95ac9329ac4bc9b5)

// Checksum is Redis's CRC of 64 bits, which begins at 0.
func Checksum(b []byte) uint64 { return ^crc64.Update(^uint64(0), jones, b) }

// OpenDump checks a dump and returns the value in it, its type first, and the version of the format.
func OpenDump(dump []byte) (value []byte, version int, err error) {
	if len(dump) < trailer+1 {
		return nil, 0, ErrDump
	}
	at := len(dump) - trailer
	version = int(binary.LittleEndian.Uint16(dump[at:]))
	known := version <= lastRedis || firstValkey <= version && version <= lastValkey
	if !known || Checksum(dump[:at+2]) != binary.LittleEndian.Uint64(dump[at+2:]) {
		return nil, 0, ErrDump
	}
	return dump[:at], version, nil
}

// AppendTrailer makes a dump of a value, its type first.
func AppendTrailer(value []byte) []byte {
	version := uint16(versionPlain)
	switch Type(value[0]) {
	case TypeStream2:
		version = versionStreams
	case TypeHashDeadlines:
		version = versionDeadlines
	}
	value = binary.LittleEndian.AppendUint16(value, version)
	return binary.LittleEndian.AppendUint64(value, Checksum(value))
}
