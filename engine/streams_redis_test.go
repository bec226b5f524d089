package engine

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// flattened writes one recorded answer as flat does, in the form of RESP2.
func flattened(c *Cursor, b *strings.Builder) {
	switch t := c.Next(); t.Kind {
	case ReplyKeyed:
		fmt.Fprintf(b, "*%d ", t.Int)
		for range t.Int {
			b.WriteString("*2 ")
			flattened(c, b)
			flattened(c, b)
		}
	case ReplyMap, ReplyArray:
		n := t.Int
		if t.Kind == ReplyMap {
			n *= 2
		}
		fmt.Fprintf(b, "*%d ", n)
		for range n {
			flattened(c, b)
		}
	case ReplyNull, ReplyNullArray:
		b.WriteString("nil ")
	case ReplyInt:
		fmt.Fprintf(b, "%d ", t.Int)
	case ReplyBulk:
		fmt.Fprintf(b, "%q ", t.Bytes)
	case ReplyStatus:
		fmt.Fprintf(b, "%s ", t.Bytes)
	case ReplyError:
		b.WriteString("-" + t.Err.Redis() + " ")
	default:
		panic(fmt.Sprintf("piece %q in an answer about streams", t.Kind))
	}
}

// aged are the parts of an answer that depend on the time: idle times, times of delivery, and the nodes of Redis's tree.
var aged = []struct {
	find    *regexp.Regexp
	replace string
}{
	{regexp.MustCompile(`"(seen-time|idle|radix-tree-nodes)" -?\d+`), `"$1" T`},
	{regexp.MustCompile(`\*8 ("name" "[^"]*" "pending" \d+ "idle" T) "inactive" -?\d+`), `*6 $1`}, // since 7.2
	{regexp.MustCompile(`\*10 ("name" "[^"]*" "seen-time" T) "active-time" -?\d+`), `*8 $1`},      // since 7.2
	{regexp.MustCompile(`\*4 ("\d+-\d+") ("[^"]*") \d+`), `*4 $1 $2 T`},
	{regexp.MustCompile(`\*3 ("\d+-\d+") \d+`), `*3 $1 T`},
}

func ageless(s string) string {
	for _, a := range aged {
		s = a.find.ReplaceAllString(s, a.replace)
	}
	return s
}

// sameStream runs a command on both sides and compares all but times.
func (r *redisTwin) sameStream(args ...string) {
	r.t.Helper()
	r.send(args...)
	task := r.w.task(args)
	if task.Writes() {
		r.w.apply(task)
	} else {
		r.w.p.Query(r.w.now, 1, task)
	}
	theirs := r.receive()
	var b strings.Builder
	c := task.Reply.(*Recording).Cursor()
	flattened(&c, &b)
	if ours, theirs := ageless(b.String()), ageless(theirs); ours != theirs {
		r.t.Errorf("%.300q\n got %.900s\nwant %.900s", args, ours, theirs)
		if r.failures++; r.failures > 15 {
			r.t.FailNow()
		}
	}
}

// TestStreamsAnswerAsRedis: see redisTwin. Ids are given, so that they do not depend on the time; an entry is either
// long idle or not at all.
func TestStreamsAnswerAsRedis(t *testing.T) {
	r := newRedisTwin(t)
	key := func() string { return r.pick("a", "a", "a", "b", "b", "s", "none") }
	group := func() string { return r.pick("g", "g", "g", "h", "nogroup", "") }
	consumer := func() string { return r.pick("c1", "c2", "c3", "c10", "") }
	top := 1
	id := func() string {
		switch r.IntN(30) {
		case 0:
			return r.pick("0", "0-0", "-", "+", "x", "1-", "-1", "1--1", "1-x", " 1-01", "18446744073709551615", "18446744073709551615-18446744073709551615", "18446744073709551616", "1-2-3", "(1", "$", ">", "", "1-*", strings.Repeat("0", 126)+"1", strings.Repeat("0", 127)+"1")
		case 1, 2:
			return strconv.Itoa(r.IntN(top + 3))
		}
		return fmt.Sprintf("%d-%d", r.IntN(top+3), r.IntN(3))
	}
	bound := func() string {
		switch r.IntN(6) {
		case 0:
			return r.pick("-", "+", "-", "+", "(0-0", "(18446744073709551615-18446744073709551615", "(", "(-", "(x")
		case 1:
			return "(" + id()
		}
		return id()
	}
	newID := func() string {
		if r.IntN(8) == 0 {
			return id()
		}
		if r.IntN(3) == 0 {
			top++
		}
		return fmt.Sprintf("%d-%s", top, r.pick("*", "*", "*", "*", strconv.Itoa(r.IntN(5))))
	}
	count := func() string { return r.pick("0", "1", "2", "5", "50", "-1", "x", "9223372036854775807") }
	trim := func() []string {
		o := []string{r.pick("MAXLEN", "maxlen", "MINID", "MINID")}
		o = append(o, r.some(r.pick("~", "~", "="))...)
		if o[0] == "MINID" {
			o = append(o, id())
		} else {
			o = append(o, r.pick("0", "1", "10", "50", "100", "250", "-1", "x"))
		}
		return append(o, r.some("LIMIT "+r.pick("0", "10", "100", "150", "-1", "x"), r.pick("LIMIT", "MAXLEN 5", "FOO"))...)
	}
	entry := func() []string {
		if r.IntN(4) > 0 {
			return []string{"name", r.pick("x", "y", "", "12"), "temp", strconv.Itoa(r.IntN(100))}
		}
		return [][]string{{"name"}, {"name", "1"}, {"other", "2", "name", "3"}, {"name", "1", "temp"}, {"", ""}, {"f", strings.Repeat("q", r.IntN(2)*5000)}}[r.IntN(6)]
	}
	const steps = 40000
	for i := range steps {
		if i%600 == 0 {
			r.same("FLUSHALL")
			r.same("SET", "s", "x")
			top = 1
		}
		idle := func() string { return r.pick("0", "0", "0", "3600000", "-1", "x") }
		var args []string
		switch k := key(); r.IntN(30) {
		case 0, 1, 2, 3, 4:
			if i%1200 < 600 { // many entries in few commands
				for range r.IntN(40) {
					r.sameStream(append([]string{"XADD", k, newID()}, "name", "x", "temp", "1")...)
				}
			}
			args = append([]string{"XADD", k}, r.some("NOMKSTREAM")...)
			if r.IntN(6) == 0 {
				args = append(args, trim()...)
			}
			args = append(append(args, newID()), entry()...)
		case 5:
			args = []string{"XLEN", k}
		case 6, 7, 8:
			args = append([]string{r.pick("XRANGE", "XREVRANGE"), k, bound(), bound()}, r.some("COUNT "+count(), r.pick("COUNT", "FOO", "count 3"))...)
		case 9:
			args = []string{"XDEL", k}
			for range 1 + r.IntN(5) {
				args = append(args, id())
			}
		case 10:
			args = append([]string{"XTRIM", k}, trim()...)
		case 11:
			if r.IntN(4) == 0 {
				args = append([]string{"XSETID", k, id()}, r.some("ENTRIESADDED "+r.pick("0", "5", "100", "-1", "x"), "MAXDELETEDID "+id(), r.pick("FOO", "ENTRIESADDED"))...)
			} else {
				args = []string{"XSETID", k, strconv.Itoa(top) + "-9"}
			}
			if strings.Contains(r.w.do(args...), "current max_deleted_entry_id") { // which 7.0 lets pass
				args = nil
			}
		case 12, 13, 14:
			args = append([]string{"XREAD"}, r.some("COUNT "+count(), "BLOCK "+r.pick("1", "x", "-1"), r.pick("NOACK", "GROUP g c", "FOO", "COUNT"))...)
			args = append(args, "STREAMS", k)
			if r.IntN(3) == 0 {
				args = append(args, key(), id())
			}
			args = append(args, r.pick(id(), id(), id(), "$"))
		case 15, 16:
			args = []string{r.pick("XGROUP", "xgroup"), r.pick("CREATE", "create", "CREATE", "SETID"), k, group(), r.pick("$", "0", "0", id())}
			args = append(args, r.some("MKSTREAM", "ENTRIESREAD "+r.pick("0", "3", "-1", "-2", "x"), r.pick("FOO", "ENTRIESREAD"))...)
		case 17:
			switch r.IntN(8) {
			case 0:
				args = []string{"XGROUP", "DESTROY", k, group()}
			case 1, 2:
				args = []string{"XGROUP", "CREATECONSUMER", k, group(), consumer()}
			case 3, 4:
				args = []string{"XGROUP", "DELCONSUMER", k, group(), consumer()}
			case 5:
				args = append([]string{r.pick("XGROUP", "XINFO")}, strings.Fields(r.pick("HELP", "help", "FOO", "FOO a b", "CREATE", "CREATE a", "CREATE a b", "DESTROY a", "DESTROY a g h", "DELCONSUMER a g", "SETID a g", "STREAM", "STREAM a FOO", "STREAM a FULL COUNT", "STREAM a FULL COUNT x", "STREAM a FULL FOO 1", "STREAM a FULL COUNT 1 2", "GROUPS", "GROUPS a b", "CONSUMERS a", "CONSUMERS a g c", "HELP x"))...)
			}
		case 18, 19, 20, 21:
			args = append([]string{"XREADGROUP", "GROUP", group(), consumer()}, r.some("COUNT "+count(), "NOACK", "BLOCK 1", r.pick("FOO", "GROUP h c2", "COUNT"))...)
			args = append(args, "STREAMS", k)
			if r.IntN(4) == 0 {
				args = append(args, r.pick("a", "b"), ">")
			}
			args = append(args, r.pick(">", ">", ">", "0", id()))
		case 22, 23:
			args = []string{"XACK", k, group()}
			for range 1 + r.IntN(6) {
				args = append(args, id())
			}
		case 24:
			args = append([]string{"XPENDING", k, group()}, r.some("IDLE "+idle())...)
			if r.IntN(4) > 0 {
				args = append(args, bound(), bound(), count())
				args = append(args, r.some("c1", "FOO")...)
			}
		case 25, 26:
			args = []string{"XCLAIM", k, group(), consumer(), idle()}
			for range 1 + r.IntN(5) {
				args = append(args, id())
			}
			args = append(args, r.some("IDLE "+r.pick("0", "7200000", "-1", "x"), "TIME "+r.pick("0", "99999999999999", "-5"), "RETRYCOUNT "+r.pick("0", "5", "-1", "x"), "FORCE", "JUSTID", "LASTID "+id(), r.pick("FOO", "TIME"))...)
		case 27:
			args = append([]string{"XAUTOCLAIM", k, group(), consumer(), idle(), bound()}, r.some("COUNT "+r.pick("1", "2", "7", "0", "x", "9223372036854775807"), "JUSTID", r.pick("FOO", "COUNT"))...)
		case 28:
			args = strings.Fields(r.pick("XINFO STREAM a", "XINFO STREAM b", "XINFO STREAM s", "XINFO GROUPS a", "XINFO GROUPS b", "XINFO CONSUMERS a g", "XINFO CONSUMERS b h", "XINFO STREAM a FULL COUNT 3", "XINFO STREAM b FULL", "XINFO STREAM a FULL COUNT 0", "XINFO STREAM b FULL COUNT -3"))
		case 29:
			args = strings.Fields(r.pick("TYPE a", "OBJECT ENCODING a", "COPY a b REPLACE", "COPY b c", "DEL b", "EXISTS a b", "DEL c"))
		}
		if args != nil && !(strings.HasPrefix(args[0], "XREAD") && slices.Contains(args, "+")) { // which 7.0 does not know
			r.sameStream(args...)
			r.sameConsumers(args)
		}
	}
}

// sameConsumers makes the consumers that a command may have made on both sides: 7.0, unlike 7.2, makes none for a command
// that found nothing.
func (r *redisTwin) sameConsumers(args []string) {
	if len(args) < 4 {
		return
	}
	name, keys := strings.ToUpper(args[0]), args[1:2]
	groups, consumers := args[2:3], args[3:4]
	switch at := slices.Index(args, "STREAMS"); {
	case name == "XREADGROUP" && at > 3:
		keys, groups, consumers = args[at+1:], []string{args[2], "h"}, []string{args[3], "c2"} // by the option of that name
	case name != "XCLAIM" && name != "XAUTOCLAIM":
		return
	}
	for i := range keys {
		for j := range groups {
			r.answers("XGROUP", "CREATECONSUMER", keys[i], groups[j], consumers[j])
		}
	}
}
