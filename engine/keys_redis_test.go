package engine

import (
	"strconv"
	"strings"
	"testing"
)

// use selects a database on both sides.
func (r *redisTwin) use(db int) {
	r.w.db = db
	r.theirs("SELECT", strconv.Itoa(db))
}

// TestKeysAnswerAsRedis: keys of every type in several databases, moved, copied, renamed and swapped.
func TestKeysAnswerAsRedis(t *testing.T) {
	r := newRedisTwin(t)
	key := func() string { return r.pick("a", "b", "c", "d") }
	db := func() string {
		return r.pick("0", "1", "2", "1", "0", "-1", "16", "x", "4294967296", "15", "")
	}
	far := func() string {
		return r.pick("1000000", "2000000", "3000000", "-1", "0", "x", "9223372036854775807", "-9223372036854775808", "1e3")
	}
	made := [][]string{{"SET", "v"}, {"HSET", "f", "v"}, {"RPUSH", "e"}, {"SADD", "m"}, {"ZADD", "1", "m"}, {"XADD", "1-*", "f", "v"}, {"APPEND", "x"}}
	for i := range times(20000) {
		if i%300 == 0 {
			r.same("FLUSHALL")
		}
		switch r.IntN(16) {
		case 0:
			r.use(r.IntN(3))
		case 1, 2:
			m := made[r.IntN(len(made))]
			r.same(append([]string{m[0], key()}, m[1:]...)...)
		case 3:
			r.same("MOVE", key(), db())
		case 4:
			r.same("SWAPDB", db(), db())
		case 5:
			r.same(append([]string{"COPY", key(), key()}, r.some("DB "+r.pick("0", "1", "2", "-1", "16"), "REPLACE", "FOO")...)...)
		case 6:
			r.same(r.pick("RENAME", "RENAMENX"), key(), key())
		case 7:
			r.same(append([]string{r.pick("EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"), key(), far()}, r.some("NX", "XX", "GT", "LT", "FOO")...)...)
		case 8:
			ours, theirs := r.answers("TTL", key()) // the two clocks are not one, and ours stands still
			if a, b := number64(strings.TrimSpace(ours)), number64(strings.TrimSpace(theirs)); (a < 0) != (b < 0) || a < 0 && a != b {
				t.Errorf("TTL %s, Redis has %s", ours, theirs)
			}
		case 9:
			r.same("PERSIST", key())
		case 10:
			r.same("TYPE", key())
		case 11:
			r.same("DBSIZE")
		case 12:
			r.same(r.pick("DEL", "UNLINK", "EXISTS", "TOUCH"), key(), key())
		case 13:
			if k := key(); !strings.Contains("set list string", r.w.do("TYPE", k)) { // which 7.0 keeps otherwise while they are small
				r.same("OBJECT", r.pick("ENCODING", "REFCOUNT", "FOO"), k)
			}
			r.same(append([]string{"OBJECT"}, r.some("ENCODING", "REFCOUNT a b", "HELP x", "FOO")...)...)
		case 14:
			r.same(strings.Fields(r.pick("MEMORY FOO", "MEMORY USAGE", "MEMORY STATS x", "MEMORY", "MEMORY USAGE none", "MEMORY USAGE none SAMPLES x", "MEMORY USAGE none SAMPLES -1", "MEMORY PURGE"))...)
		case 15:
			k := key()
			r.same("GETRANGE", k, strconv.Itoa(r.IntN(9)-4), strconv.Itoa(r.IntN(9)-4))
		}
	}
}

// TestPFDebugAnswersAsRedis: the runs of sparse sketches, and all registers.
func TestPFDebugAnswersAsRedis(t *testing.T) {
	r := newRedisTwin(t)
	r.same("FLUSHALL")
	r.same("SET", "text", "x")
	r.same("RPUSH", "list", "x")
	r.same("PFSELFTEST")
	for i := range times(3000) {
		k := r.pick("a", "b", "c")
		switch r.IntN(7) {
		case 0, 1:
			args := []string{"PFADD", k}
			for range r.IntN(1 << r.IntN(9)) {
				args = append(args, strconv.FormatUint(r.Uint64(), 36))
			}
			r.same(args...)
		case 2:
			r.same("PFDEBUG", r.pick("ENCODING", "encoding", "DECODE", "FOO"), r.pick(k, k, "text", "list", "none"))
		case 3:
			r.same("PFDEBUG", "DECODE", k)
		case 4:
			if i%10 == 0 {
				r.same("PFDEBUG", r.pick("GETREG", "TODENSE"), k)
			}
		case 5:
			r.same("PFCOUNT", k)
		case 6:
			if r.IntN(5) == 0 {
				r.same("DEL", k)
			}
		}
	}
}
