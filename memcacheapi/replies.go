package memcacheapi

import (
	"encoding/base64"
	"strconv"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// replies turns what the engine answers into what the client reads, straight into the output. It implements gateway.Reply.
//
// For each call it knows beforehand how to answer it: queue holds that, in order. The pieces of a reply are few, and
// only the last of them may be long, so they are gathered until that one comes.
type replies struct {
	b      []byte
	sent   int // bytes of b that have been sent
	queue  []pending
	at     int // in queue, which is answered next
	ints   [7]int64
	n      int  // of ints that have come
	left   int  // pieces of a reply that are still to come
	group  bool // an answer of a get with several keys has failed: its end says so
	cause  string
	again  []again
	tally  [numCounters]int64 // since the last count
	detail *prefixes          // nil until somebody wants it
}

// again is an answer that needs another question first.
type again struct {
	at      int // where in the output it goes
	pending pending
}

// A render says what kind of answer a pending one is.
type render uint8

const (
	renderText   render = iota // as it stands
	renderDrop                 // text, whatever the call says
	renderGet                  // VALUE …
	renderStore                // STORED …
	renderDelete               // DELETED …
	renderDelta                // a number
	renderTouch                // TOUCHED …
	renderFlush                // OK
	renderMeta                 // ME …
	renderMG
	renderMS
	renderMD
	renderMA
	renderBinary
)

// pending is an answer that is awaited.
type pending struct {
	render  render
	quiet   bool // nothing is said, or nothing of what is usual
	cas     bool // gets
	last    bool // it is the last key of a get
	touches bool // gat
	won     bool // of mg: asked for with MC.FETCH
	op      byte // of the binary protocol; of delta: '+' or '-'
	opaque  uint32
	key     []byte
	rest    []byte // of a meta command: its flags
	text    string
	meta    metaFlags
	used    int // where it ends in what is being fed
	resume  int // where in its line the command goes on
}

// Len implements gateway.Reply.
func (o *replies) Len() int { return len(o.b) }

// Int implements engine.Reply.
func (o *replies) Int(n int64) {
	if o.n < len(o.ints) {
		o.ints[o.n] = n
		o.n++
	}
	if o.left > 1 {
		o.left--
		return
	}
	o.finish(nil, "")
}

// Bulk implements engine.Reply.
func (o *replies) Bulk(b []byte) {
	if o.left > 1 {
		o.left--
		return
	}
	o.finish(b, "")
}

// Array implements engine.Reply.
func (o *replies) Array(n int) { o.n, o.left = 0, n }

// Status implements engine.Reply.
func (o *replies) Status(s string) { o.finish(nil, s) }

// Null implements engine.Reply.
func (o *replies) Null() { o.finish(nil, notFound) }

// NullArray implements engine.Reply.
func (o *replies) NullArray() { o.finish(nil, notFound) }

// Bool implements engine.Reply.
func (o *replies) Bool(bool) { o.finish(nil, "") }

// Double implements engine.Reply.
func (o *replies) Double(float64) { o.finish(nil, "") }

// Text implements engine.Reply.
func (o *replies) Text(s string) { o.Bulk([]byte(s)) }

// Map implements engine.Reply.
func (o *replies) Map(n int) { o.Array(2 * n) }

// Pairs implements engine.Reply.
func (o *replies) Pairs(n int) { o.Array(2 * n) }

// Keyed implements engine.Reply.
func (o *replies) Keyed(n int) { o.Array(2 * n) }

// Set implements engine.Reply.
func (o *replies) Set(n int) { o.Array(n) }

// What the engine's commands answer beside what was found.
const (
	notFound  = "NOT_FOUND"
	notStored = "NOT_STORED"
	exists    = "EXISTS"
)

// Places of what MC.GET answers among the ints. MC.FETCH has the TTL afterwards before them.
const (
	itemFlags = iota
	itemVersion
	itemTTL
	itemMarks
	itemIdle
	itemSize
)

// Error implements engine.Reply.
func (o *replies) Error(e *fault.Error) {
	if o.at >= len(o.queue) {
		return
	}
	p := &o.queue[o.at]
	switch {
	case p.render == renderBinary:
		o.binaryFault(p, e)
	case p.render == renderGet:
		o.group, o.cause = true, string(appendFault(nil, e))
		o.getEnd(p)
	case p.render == renderDrop:
		o.said(p.text)
	case p.quiet && p.render < renderMG:
	default:
		o.b = append(appendFault(o.b, e), '\r', '\n')
	}
	if e.Kind == fault.OutOfMemory {
		o.tally[storeNoMemory]++
	}
	o.next()
}

// next goes on to the next answer, and gives those that need no call.
func (o *replies) next() {
	o.at++
	o.n, o.left = 0, 0
	o.texts()
}

func (o *replies) texts() {
	for o.at < len(o.queue) && o.queue[o.at].render == renderText {
		o.said(o.queue[o.at].text)
		o.at++
	}
}

// said is a line that stands where it is, and none when nothing is to be said.
func (o *replies) said(text string) {
	if text != "" {
		o.line(text)
	}
}

func (o *replies) line(text string) { o.b = append(append(o.b, text...), '\r', '\n') }

// finish answers, once all pieces are there. status is why there is nothing else.
func (o *replies) finish(value []byte, status string) {
	if o.at >= len(o.queue) {
		return
	}
	p := &o.queue[o.at]
	o.note(p, status)
	switch p.render {
	case renderGet:
		o.get(p, value, status)
	case renderBinary:
		o.packet(p, value, status)
	case renderMG:
		o.mg(p, value, status)
	case renderMS:
		o.ms(p, status)
	case renderMD:
		o.md(p, status)
	case renderMA:
		o.ma(p, value, status)
	case renderMeta:
		o.me(p, status)
	case renderDrop:
		o.said(p.text)
	default:
		if !p.quiet {
			o.classic(p, value, status)
		}
	}
	o.next()
}

// classic answers one of the old commands but get.
func (o *replies) classic(p *pending, value []byte, status string) {
	switch {
	case p.render == renderFlush:
		o.line("OK")
	case status != "":
		o.line(status)
	case p.render == renderStore:
		o.line("STORED")
	case p.render == renderTouch:
		o.line("TOUCHED")
	case p.render == renderDelta:
		o.b = append(append(o.b, value...), '\r', '\n')
	}
}

func (o *replies) get(p *pending, value []byte, status string) {
	if status == "" {
		b := append(append(append(o.b, "VALUE "...), p.key...), ' ')
		b = append(strconv.AppendUint(b, uint64(o.ints[itemFlags]), 10), ' ')
		b = strconv.AppendInt(b, int64(len(value)), 10)
		if p.cas {
			b = strconv.AppendInt(append(b, ' '), o.ints[itemVersion], 10)
		}
		b = append(append(b, '\r', '\n'), value...)
		o.b = append(b, '\r', '\n')
	}
	o.getEnd(p)
}

func (o *replies) getEnd(p *pending) {
	switch {
	case !p.last:
	case o.group:
		o.line(o.cause)
		o.group, o.cause = false, ""
	default:
		o.b = append(o.b, "END\r\n"...)
	}
}

// seconds is a TTL as clients read it: a part of a second counts as one, so that an item that is there has time left.
func seconds(milliseconds int64) int64 {
	if milliseconds < 0 {
		return -1
	}
	return (milliseconds + 999) / 1000
}

func (o *replies) me(p *pending, status string) {
	if status != "" {
		o.line("EN")
		return
	}
	o.b = appendKey(append(o.b, "ME "...), p)
	fetched := "no"
	if o.ints[itemMarks]&engine.MarkFetched != 0 {
		fetched = "yes"
	}
	exp := seconds(o.ints[itemTTL])
	if exp > 0 {
		exp = -exp // as memcached 1.6.18 says it: how long ago
	}
	o.b = strconv.AppendInt(append(o.b, " exp="...), exp, 10)
	o.b = strconv.AppendInt(append(o.b, " la="...), o.ints[itemIdle], 10)
	o.b = strconv.AppendInt(append(o.b, " cas="...), o.ints[itemVersion], 10)
	o.b = append(append(o.b, " fetch="...), fetched...)
	o.b = append(o.b, " cls=1 size="...)
	o.b = strconv.AppendInt(o.b, o.ints[itemSize]+int64(len(p.key))+itemOverhead, 10)
	o.b = append(o.b, '\r', '\n')
}

// itemOverhead is about what an item takes beside its key and value, in bytes.
const itemOverhead = 24

// appendKey writes a key the way the client gave it.
func appendKey(b []byte, p *pending) []byte {
	if p.meta.binaryKey {
		return base64.StdEncoding.AppendEncode(b, p.key)
	}
	return append(b, p.key...)
}

// flags calls do for each flag of a meta command.
func (p *pending) flags(do func(flag []byte)) {
	for word, at := nextWord(p.rest, 0); len(word) > 0; word, at = nextWord(p.rest, at) {
		do(word)
	}
}

// common answers a flag that all meta commands know.
func (o *replies) common(p *pending, flag []byte) {
	switch flag[0] {
	case 'O':
		o.b = append(append(o.b, ' '), flag...)
	case 'k':
		o.b = appendKey(append(o.b, ' ', 'k'), p)
		if p.meta.binaryKey {
			o.b = append(o.b, ' ', 'b')
		}
	}
}

func (o *replies) number(flag byte, n int64) {
	o.b = strconv.AppendInt(append(o.b, ' ', flag), n, 10)
}

func (o *replies) mg(p *pending, value []byte, status string) {
	m := &p.meta
	if status != "" {
		if p.quiet {
			return
		}
		o.b = append(o.b, "EN"...)
		p.flags(func(flag []byte) { o.common(p, flag) })
		o.b = append(o.b, '\r', '\n')
		return
	}
	after, i := o.ints[itemTTL], o.ints[:]
	if p.won {
		after, i = o.ints[0], o.ints[1:]
	}
	marks := i[itemMarks]
	if !p.won && marks&engine.MarkStale != 0 && marks&engine.MarkSent == 0 {
		o.again = append(o.again, again{len(o.b), *p})
		return
	}
	size := i[min(itemSize, len(i)-1)]
	shows := m.value && !(m.hasCAS && m.cas == uint64(i[itemVersion]))
	if m.value {
		size = int64(len(value))
	}
	if shows {
		o.b = strconv.AppendInt(append(o.b, "VA "...), size, 10)
	} else {
		o.b = append(o.b, "HD"...)
	}
	ttl := i[itemTTL]
	p.flags(func(flag []byte) {
		switch flag[0] {
		case 'T':
			ttl = after
		case 'N':
			if marks&engine.MarkMade != 0 {
				ttl = after
			}
		case 's':
			o.number('s', size)
		case 't':
			o.number('t', seconds(ttl))
		case 'c':
			o.number('c', i[itemVersion])
		case 'f':
			o.number('f', i[itemFlags])
		case 'l':
			o.number('l', i[itemIdle])
		case 'h':
			o.number('h', (marks&engine.MarkFetched)/engine.MarkFetched)
		default:
			o.common(p, flag)
		}
	})
	if marks&engine.MarkSent != 0 {
		o.b = append(o.b, " Z"...)
	}
	if marks&engine.MarkStale != 0 {
		o.b = append(o.b, " X"...)
	}
	if marks&engine.MarkWon != 0 {
		o.b = append(o.b, " W"...)
	}
	o.b = append(o.b, '\r', '\n')
	if shows {
		o.b = append(append(o.b, value...), '\r', '\n')
	}
}

// metaStatus are the words of the meta commands for what the engine says.
func metaStatus(status string) string {
	switch status {
	case notFound:
		return "NF"
	case notStored:
		return "NS"
	case exists:
		return "EX"
	}
	return "HD"
}

func (o *replies) ms(p *pending, status string) {
	word := metaStatus(status)
	if p.quiet && word == "HD" {
		return
	}
	version := int64(0)
	if status == "" {
		version = o.ints[0]
	}
	o.b = append(o.b, word...)
	p.flags(func(flag []byte) {
		switch {
		case flag[0] == 'c':
			o.number('c', version)
		case flag[0] == 's' && status == "":
			o.number('s', o.ints[1])
		default:
			o.common(p, flag)
		}
	})
	o.b = append(o.b, '\r', '\n')
}

func (o *replies) md(p *pending, status string) {
	word := metaStatus(status)
	if p.quiet && word == "HD" {
		return
	}
	o.b = append(o.b, word...)
	p.flags(func(flag []byte) { o.common(p, flag) })
	o.b = append(o.b, '\r', '\n')
}

// Places of what MC.INCR answers among the ints.
const (
	deltaVersion = iota
	deltaBefore
	deltaAfter
	deltaMade
)

func (o *replies) ma(p *pending, value []byte, status string) {
	word := metaStatus(status)
	if p.quiet && word == "HD" && o.ints[deltaMade] == 0 {
		return
	}
	if status != "" {
		o.b = append(o.b, word...)
		p.flags(func(flag []byte) { o.common(p, flag) })
		o.b = append(o.b, '\r', '\n')
		return
	}
	if p.meta.value {
		o.b = strconv.AppendInt(append(o.b, "VA "...), int64(len(value)), 10)
	} else {
		o.b = append(o.b, "HD"...)
	}
	ttl := o.ints[deltaBefore]
	p.flags(func(flag []byte) {
		switch flag[0] {
		case 'c':
			o.number('c', o.ints[deltaVersion])
		case 't':
			o.number('t', seconds(ttl))
		case 'T':
			ttl = o.ints[deltaAfter]
		case 'N':
			if o.ints[deltaMade] == 1 {
				ttl = o.ints[deltaAfter]
			}
		default:
			o.common(p, flag)
		}
	})
	if p.meta.value {
		o.b = append(append(o.b, '\r', '\n'), value...)
	}
	o.b = append(o.b, '\r', '\n')
}

// maxFault bounds the text of an error, in bytes.
const maxFault = 512

// appendFault writes an error as the text protocol has it, without the end of the line.
func appendFault(b []byte, e *fault.Error) []byte {
	switch e.Kind {
	case fault.OutOfMemory:
		return append(b, "SERVER_ERROR out of memory storing object"...)
	case fault.TooLarge:
		return append(b, "SERVER_ERROR object too large for cache"...)
	case fault.Internal:
		return append(b, "SERVER_ERROR internal error"...)
	}
	word := e.Kind.Face().Memcached
	b = append(b, word...)
	if word != "SERVER_ERROR" && word != "CLIENT_ERROR" {
		return b
	}
	b = append(b, ' ')
	for _, c := range []byte(e.Message[:min(len(e.Message), maxFault)]) { // it may quote a key
		if c < ' ' || c == 0x7f {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}
