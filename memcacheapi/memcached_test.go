package memcacheapi

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/peers"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

// TestAnswersAsMemcached sends the same random commands to us and to a real memcached, and compares the bytes that come
// back. What differs on purpose is in docs/guides/memcached.md; the commands made up here leave it out, and hide takes away
// what cannot be the same: tokens, ages and sizes.
func TestAnswersAsMemcached(t *testing.T) { answersAsMemcached(t, 100_000, 1) }

// TestAnswersAsMemcachedOverRanges is the same for a cache whose keys are on four partitions.
func TestAnswersAsMemcachedOverRanges(t *testing.T) { answersAsMemcached(t, 10_000, 4) }

// answersAsMemcached gives a difference two more chances: memcached rewrites a number in its place, with blanks behind it, unless
// one of its own threads looks at it in that moment. What is ours comes again, in the same batch.
func answersAsMemcached(t *testing.T, commands, ranges int) {
	if testing.Short() {
		commands = 5_000
	}
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("LARDER_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("LARDER_SEED=%d", seed)
	met := map[int]bool{}
	for range 3 {
		batch, difference := compareWithMemcached(t, commands, ranges, seed)
		if difference == "" {
			return
		}
		if met[batch] {
			t.Fatalf("batch %d, LARDER_SEED=%d:\n%s", batch, seed, difference)
		}
		met[batch] = true
		t.Logf("batch %d differs, once:\n%s", batch, difference)
	}
}

// compareWithMemcached returns the first batch that is answered differently, and how.
func compareWithMemcached(t *testing.T, commands, ranges int, seed uint64) (batch int, difference string) {
	peer := peers.Memcached(t)
	us := newTenant(t, tenants.Cache{MaxValue: 1 << 20, Ranges: placement.Even(ranges)}).listen(t)
	sides := [2]*side{dialSide(t, "tcp", us), dialSide(t, "unix", peer)}
	for _, s := range sides {
		s.alike = ranges > 1 // partitions count by themselves, and give tokens twice
		s.exchange(t, []byte("flush_all\r\n"), "start")
	}
	c := &chooser{Rand: rand.New(rand.NewPCG(seed, 0))}
	for ; c.made < commands; batch++ {
		script := c.batch()
		var said [2]string
		for i, s := range sides {
			said[i] = s.exchange(t, s.fill(script), fmt.Sprintf("end%d", batch))
		}
		if said[0] != said[1] {
			ours, theirs := differ(said[0], said[1])
			return batch, fmt.Sprintf("%q\nLarder says:\n%s\nmemcached says:\n%s", cut(sides[0].fill(script)), ours, theirs)
		}
	}
	return batch, ""
}

// cut is a script without most of a value that is too large.
func cut(script []byte) []byte { return bytes.ReplaceAll(script, bytes.Repeat([]byte("v"), 1000), nil) }

// differ returns the lines from the first that is not the same.
func differ(a, b string) (string, string) {
	x, y := strings.Split(lines(a), "\n"), strings.Split(lines(b), "\n")
	for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
		x, y = x[1:], y[1:]
	}
	return strings.Join(x[:min(len(x), 8)], "\n"), strings.Join(y[:min(len(y), 8)], "\n")
}

// A side is one of the two servers, as a client sees it.
type side struct {
	net.Conn
	tokens
	last map[string]string // the token that was seen last of each key
}

func dialSide(t *testing.T, network, address string) *side {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &side{Conn: c, last: map[string]string{}}
}

// placeholder stands in a script for the token that the server has told last of a key.
var placeholder = regexp.MustCompile(`<(\w+)>`)

func (s *side) fill(script string) []byte {
	return []byte(placeholder.ReplaceAllStringFunc(script, func(match string) string {
		if token := s.last[match[1:len(match)-1]]; token != "" {
			return token
		}
		return "1"
	}))
}

var (
	valueLine = regexp.MustCompile(`(?m)^VALUE (\S+) \d+ \d+ (\d+)`)
	metaLine  = regexp.MustCompile(`(?m)^(?:HD|VA) (?:.* )?k(\w+) (?:.* )?c(\d+)`)
	ttlFlag   = regexp.MustCompile(`(?m)^((?:HD|VA).* t)(\d+)`)
	// A number that has become shorter is filled up with spaces, but not by memcached when one of its threads happens to
	// hold the item.
	paddedNumber = regexp.MustCompile(`(?m)^(VALUE n\d \d+) \d+( cas\d*)?\r\n(.*?) *\r$`)
	ageFlag      = regexp.MustCompile(`(?m)^((?:HD|VA).* l)(\d+)`)
	debugLine    = regexp.MustCompile(`(?m)^(ME \S+ exp=)(-?\d+) la=\d+ (cas=\S+) fetch=\w+ cls=\d+ size=\d+`)
)

// exchange sends a script and an end that cannot be missed, and returns what came back, without what cannot be the same.
func (s *side) exchange(t *testing.T, script []byte, end string) string {
	t.Helper()
	script = append(script, "\r\n\r\n\r\n\r\nmg no-such-key O"+end+"\r\n"...)
	if err := s.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = s.Write(script) }() // the reader hears of what is wrong
	var out []byte
	buf := make([]byte, 64<<10)
	for !bytes.HasSuffix(out, []byte("EN O"+end+"\r\n")) {
		n, err := s.Read(buf)
		if err != nil {
			t.Fatalf("%v, after %q\nto %q", err, out[max(0, len(out)-2000):], script[:min(len(script), 4000)])
		}
		out = append(out, buf[:n]...)
	}
	text := string(out)
	for _, pattern := range []*regexp.Regexp{valueLine, metaLine} {
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			s.last[m[1]] = m[2]
		}
	}
	text = paddedNumber.ReplaceAllString(s.hide(text), "$1 # $2\r\n$3\r")
	text = ttlFlag.ReplaceAllStringFunc(text, func(match string) string {
		m := ttlFlag.FindStringSubmatch(match)
		n, _ := strconv.Atoi(m[2])
		return m[1] + strconv.Itoa((n+5_000)/10_000)
	})
	text = ageFlag.ReplaceAllString(text, "${1}#")
	return debugLine.ReplaceAllStringFunc(text, func(match string) string {
		m := debugLine.FindStringSubmatch(match)
		n, _ := strconv.Atoi(m[2])
		return m[1] + strconv.Itoa((n-5_000)/10_000) + " " + m[3]
	})
}

// A chooser makes up commands.
type chooser struct {
	*rand.Rand
	made   int
	deltas bool // whether the batch may change numbers in place, and so must not fetch them: memcached writes a number elsewhere while a reply holds it
}

func choose[T any](c *chooser, of ...T) T { return of[c.IntN(len(of))] }

func (c *chooser) one(in int) bool { return c.IntN(in) == 0 }

func (c *chooser) batch() string {
	c.deltas = c.one(2)
	var b strings.Builder
	if c.one(50) { // memcached takes back the replies before it, so it stands first
		b.WriteString("get s1 " + strings.Repeat("k", choose(c, 249, 250, 251)) + " s2\r\n")
	}
	for n := 1 + c.IntN(12); n > 0; {
		b.WriteString(c.command())
		c.made++
		n--
	}
	return b.String()
}

// key is of a string; of a number too where those may be fetched.
func (c *chooser) key() string {
	if !c.deltas && c.one(4) {
		return c.numberKey()
	}
	if c.one(200) {
		return strings.Repeat("k", choose(c, 249, 250, 251, 300))
	}
	return c.stringKey()
}

func (c *chooser) stringKey() string { return "s" + strconv.Itoa(c.IntN(5)) }

// short is a key that is not too long.
func (c *chooser) short() string {
	for {
		if key := c.key(); len(key) <= maxKey {
			return key
		}
	}
}

func (c *chooser) numberKey() string { return "n" + strconv.Itoa(c.IntN(3)) }

func (c *chooser) exptime() string {
	return choose(c, "0", "0", "0", "100000", "200000", "-1", "2592001", "4000000000", "x", "", "+100000", "00", "4294967296", "99999999999999999999", "1y")
}

func (c *chooser) time() string { return choose(c, "0", "100000", "200000", "300000") }

func (c *chooser) flags() string {
	return choose(c, "0", "0", "1", "42", "4294967295", "4294967296", "-1", "x", "007", "+3")
}

// value is of blanks alone never, where memcached looks for a number behind the item's end.
func (c *chooser) value() string {
	b := make([]byte, c.IntN(choose(c, 4, 30, 300)))
	for i := range b {
		b[i] = "abcxyz 019-"[c.IntN(11)]
	}
	if len(b) > 0 && len(bytes.TrimSpace(b)) == 0 {
		b[0] = '-'
	}
	return string(b)
}

// number is one that keeps below 2^63: of a larger one memcached looks for a sign behind the item's end, where anything may be.
func (c *chooser) number() string {
	return choose(c, "0", "1", "9", "10", "99", "100", "12 ", " 7", "9223372036854775000", "18446744073709551616", "-18446744073709551615", "5 apples", "abc", "", "+4", "0x10", "007", "1e3", "\t8", "9-")
}

func (c *chooser) delta() string {
	return choose(c, "0", "1", "1", "9", "100", "18446744073709551616", "-1", "x", "", "+5", "007")
}

func (c *chooser) noreply() string {
	switch c.IntN(12) {
	case 0, 1:
		return " noreply"
	case 2:
		return choose(c, " noreplyx", " 1", " noreply noreply", " ")
	}
	return ""
}

func (c *chooser) end() string {
	if c.one(20) {
		return "\n"
	}
	return "\r\n"
}

// block is a data block with its length, which is seldom wrong.
func (c *chooser) block(v string) (length, data string) {
	n := len(v)
	if c.one(60) {
		n += choose(c, -1, 1, 2, 3)
	}
	length = strconv.Itoa(n)
	if c.one(200) {
		length = choose(c, "-1", "x", "4294967296", "2147483647", "1.5")
		if length == "2147483647" {
			return length, "\r\n"
		}
	}
	return length, v + "\r\n"
}

func (c *chooser) command() string {
	switch c.IntN(26) {
	case 0, 1, 2:
		keys := c.short()
		for range c.IntN(choose(c, 1, 4, 4, 40)) {
			keys += choose(c, " ", " ", "  ") + c.short()
		}
		return choose(c, "get ", "gets ", "gets ", "get ", "  get ") + keys + c.end()
	case 3:
		return choose(c, "gat ", "gats ") + c.exptime() + " " + c.short() + " " + c.short() + c.end()
	case 4, 5, 6:
		length, data := c.block(c.value())
		return "set " + c.key() + " " + c.flags() + " " + c.exptime() + " " + length + c.noreply() + c.end() + data
	case 7, 8:
		length, data := c.block(c.value())
		return choose(c, "add ", "replace ", "append ", "prepend ") + c.stringKey() + " " + c.flags() + " " + c.exptime() + " " + length + c.noreply() + c.end() + data
	case 9, 10:
		length, data := c.block(c.value())
		key := "s" + strconv.Itoa(c.IntN(5))
		return "cas " + key + " " + c.flags() + " " + choose(c, c.time(), "-1", "x") + " " + length + " " + choose(c, "<"+key+">", "<"+key+">", "<"+key+">", "0", "1", "x", "-5", "99999999999999999999") + c.noreply() + c.end() + data
	case 11:
		return "delete " + c.key() + choose(c, "", "", "", " 0", " 0 noreply", " noreply", " 1", " 5 noreply", " 0 0 0") + c.end()
	case 12, 13:
		if !c.deltas {
			v := c.number()
			return "set " + c.numberKey() + " 3 0 " + strconv.Itoa(len(v)) + "\r\n" + v + "\r\n"
		}
		return choose(c, "incr ", "decr ") + c.numberKey() + " " + c.delta() + c.noreply() + c.end()
	case 14:
		return "touch " + c.key() + " " + c.exptime() + c.noreply() + c.end()
	case 15, 16, 17:
		flags := c.metaFlags("vtscfkqu", 12)
		if strings.Contains(flags, "xxx") { // memcached does what the flags say before it finds that an opaque is too long
			return "mg " + c.stringKey() + flags + c.end()
		}
		return "mg " + c.stringKey() + flags + choose(c, "", "", " T"+c.time(), " N"+c.time(), " R50000", " R150000", " R0") + c.end()
	case 18, 19:
		length, data := c.block(c.value())
		key := "s" + strconv.Itoa(c.IntN(5))
		extra := choose(c, "", "", " C<"+key+">", " C<"+key+">", " C1 I", " C<"+key+"> I", " C0")
		return "ms " + key + " " + length + c.metaFlags("ckqF", 20) + extra + choose(c, "", "", " ME", " MA", " MP", " MR", " MS", " MX", " M", " T100000", " T200000", " F5", " I") + c.end() + data
	case 20:
		key := "s" + strconv.Itoa(c.IntN(5))
		return "md " + key + c.metaFlags("qk", 20) + choose(c, "", "", " I", " I T100000", " I", " C<"+key+">", " C1", " C<"+key+"> I") + c.end()
	case 21:
		if !c.deltas {
			return "ms " + c.numberKey() + " 2 T100000\r\n50\r\n"
		}
		flags := c.metaFlags("tcvqk", 20)
		if strings.Contains(flags, "xxx") { // as with mg
			flags = " q q"
		}
		// T is left out: memcached forgets it when the number has become longer.
		return "ma " + c.numberKey() + flags + choose(c, "", "", " D5", " MD D18446744073709551615", " Dx", " MD", " MI", " M+", " M-", " MZ", " MD D7", " N100000 J13", " N0", " C1") + c.end()
	case 22:
		return c.encoded()
	case 23:
		return choose(c, "me "+c.key(), "me", "me "+c.key()+" b", "mn", "mx", "verbosity 1", "verbosity", "verbosity x", "verbosity 1 noreply", "verbosity 99999999999") + c.end()
	case 24:
		return choose(c, "", " ", "a", "foo", "get", "gets", "set", "set a 0 0", "touch", "touch a", "incr", "incr a", "delete", "gat", "gat 5", "GET a", "Set a 0 0 1", "cas a 0 0 1",
			"slabs", "slabs reassign 1", "mg", "ms", "md", "ma", "ms a", "mg a b", "flush_all x", "flush_all 1 2 3 4", "shutdown now and here", "lru_crawler", "get\ta", "get a\x00b", "set k\x00 0 0 1") + c.end()
	default:
		if c.one(10) {
			return choose(c, "flush_all", "flush_all 0", "flush_all -5", "flush_all noreply", "flush_all 0 noreply") + c.end()
		}
		if c.one(400) {
			n := 1_200_000 + c.IntN(1000)
			return choose(c, "set", "add", "append") + " " + c.stringKey() + " 0 0 " + strconv.Itoa(n) + choose(c, "", " noreply") + "\r\n" + strings.Repeat("v", n) + "\r\n"
		}
		// Of these keys nobody asks but by h: memcached notes every fetch, we those.
		key := "h" + strconv.Itoa(c.IntN(2))
		return choose(c, "mg "+key+" h l v", "mg "+key+" s h t", "mg "+key+" h u", "set "+key+" 0 0 1\r\nv", "delete "+key) + "\r\n"
	}
}

// metaFlags is some of the flags, each with so many chances out of so many to be wrong.
func (c *chooser) metaFlags(of string, in int) string {
	var b strings.Builder
	for _, i := range c.Perm(len(of)) {
		if !c.one(3) {
			continue
		}
		b.WriteString(" " + of[i:i+1])
		if of[i] == 'F' {
			b.WriteString(c.flags())
		}
	}
	if c.one(3) {
		b.WriteString(" O" + strconv.Itoa(c.IntN(1000)))
	}
	if c.one(in) {
		b.WriteString(choose(c, " z", " k k", " O"+strings.Repeat("x", 40), " T", " Tx", " R", " N", " Cx", " \x80", " 1", " s s", strings.Repeat(" k", 25)))
	}
	return b.String()
}

// encoded is a command with its key in base64. Only items that were stored so have their keys echoed so by memcached, so
// these keys are used by nobody else.
func (c *chooser) encoded() string {
	key := base64.StdEncoding.EncodeToString([]byte("bin key\x01" + strconv.Itoa(c.IntN(3))))
	if c.one(10) {
		key = choose(c, "a", "ab=", "====", "YWI=", "Y W I =", "!!!!", "YWJj!")
	}
	v := c.value()
	return choose(c, "mg "+key+" b v k", "mg "+key+" b k s O9", "md "+key+" b k q", "me "+key+" b", "ms "+key+" "+strconv.Itoa(len(v))+" b k\r\n"+v, "ms "+key+" "+strconv.Itoa(len(v))+" b ME\r\n"+v) + "\r\n"
}
