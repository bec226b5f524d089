package engine

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/larder-cache/larder/engine/rdb"
)

// afterDamage are commands for each type, with which a value that was restored from damaged bytes is used.
var afterDamage = map[string][][]string{
	"string": {{"GET", "k"}, {"APPEND", "k", "x"}, {"SETRANGE", "k", "3", "yy"}, {"GETRANGE", "k", "-3", "-1"}, {"INCR", "k"}, {"BITCOUNT", "k"}, {"PFADD", "k", "a"}, {"PFCOUNT", "k"}},
	"hash":   {{"HGETALL", "k"}, {"HSET", "k", "f", "v", "g", "w"}, {"HDEL", "k", "f"}, {"HRANDFIELD", "k", "-5"}, {"HEXPIRE", "k", "100", "FIELDS", "1", "g"}, {"HSCAN", "k", "0"}, {"HINCRBY", "k", "n", "1"}},
	"list":   {{"LRANGE", "k", "0", "-1"}, {"LPUSH", "k", "a", "b"}, {"LINSERT", "k", "BEFORE", "a", "c"}, {"LREM", "k", "0", "a"}, {"LPOP", "k", "2"}, {"LSET", "k", "0", "z"}, {"LTRIM", "k", "1", "-2"}, {"RPOP", "k"}},
	"set":    {{"SMEMBERS", "k"}, {"SADD", "k", "a", "7"}, {"SREM", "k", "a"}, {"SRANDMEMBER", "k", "-5"}, {"SPOP", "k", "2"}, {"SSCAN", "k", "0"}, {"SINTER", "k", "k"}},
	"zset":   {{"ZRANGE", "k", "0", "-1", "WITHSCORES"}, {"ZADD", "k", "1", "a", "2", "b"}, {"ZINCRBY", "k", "3", "a"}, {"ZRANGEBYLEX", "k", "-", "+"}, {"ZREM", "k", "b"}, {"ZPOPMIN", "k"}, {"ZREMRANGEBYRANK", "k", "0", "0"}, {"ZRANK", "k", "a"}},
	"stream": {{"XRANGE", "k", "-", "+"}, {"XADD", "k", "*", "f", "v"}, {"XINFO", "STREAM", "k", "FULL"}, {"XGROUP", "CREATE", "k", "h", "0"}, {"XREADGROUP", "GROUP", "h", "me", "STREAMS", "k", ">"},
		{"XPENDING", "k", "h"}, {"XAUTOCLAIM", "k", "h", "you", "0", "0"}, {"XREADGROUP", "GROUP", "g", "ann", "STREAMS", "k", "0"}, {"XACK", "k", "g", "5-1"}, {"XTRIM", "k", "MAXLEN", "1"}, {"XDEL", "k", "7-1"}, {"XREVRANGE", "k", "+", "-", "COUNT", "2"}},
}

// TestDamagedDumps breaks dumps of every encoding, each with a checksum that fits, as Redis's suite does: what is taken for a value
// behaves as one, whatever is done with it, and everything else is refused.
func TestDamagedDumps(t *testing.T) {
	dice := rand.New(rand.NewPCG(4, 4))
	w := newWorld(t)
	w.configure(Settings{MaxValue: 1 << 20, MemoryLimit: 64 << 20})
	w.checkEvery = 1 << 20
	taken, refused := map[string]int{}, 0
	for _, dump := range someDumps() {
		if len(dump) <= 10 || len(dump) > 4<<10 {
			continue
		}
		for range 60 {
			b := []byte(dump[:len(dump)-8])
			for range 1 + dice.IntN(3) {
				switch at := dice.IntN(len(b)); dice.IntN(4) {
				case 0:
					b[at] = byte(dice.IntN(256))
				case 1:
					b[at] ^= 1 << dice.IntN(8)
				case 2:
					b = append(b[:at], b[min(at+1+dice.IntN(4), len(b)):]...)
				default:
					b = append(b[:at:at], append([]byte{0xff, byte(dice.IntN(256))}, b[at:]...)...)
				}
				if len(b) == 0 {
					b = []byte{0}
				}
			}
			b = binary.LittleEndian.AppendUint64(b, rdb.Checksum(b))
			w.do("DEL", "k")
			if got := w.do("RESTORE", "k", "0", string(b)); got != "OK" {
				if refused++; !strings.HasPrefix(got, "(error) ") {
					t.Fatalf("RESTORE of %q answers %s", b, got)
				}
				continue
			}
			kind := w.do("TYPE", "k")
			taken[kind]++
			for _, args := range afterDamage[kind] {
				w.do(args...)
			}
			if err := w.p.check(); err != nil {
				t.Fatalf("%v after RESTORE of %q", err, b)
			}
		}
	}
	for kind := range afterDamage {
		if taken[kind] == 0 {
			t.Errorf("nothing damaged was taken for a %s: %v", kind, taken)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}
