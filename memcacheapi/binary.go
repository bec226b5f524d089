package memcacheapi

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// The binary protocol's frame.
const (
	magicRequest  = 0x80
	magicResponse = 0x81
	headerBytes   = 24
)

// Opcodes. The quiet form of most stands elsewhere: see loud.
const (
	opGet       = 0x00
	opSet       = 0x01
	opAdd       = 0x02
	opReplace   = 0x03
	opDelete    = 0x04
	opIncrement = 0x05
	opDecrement = 0x06
	opQuit      = 0x07
	opFlush     = 0x08
	opNoop      = 0x0a
	opVersion   = 0x0b
	opGetK      = 0x0c
	opAppend    = 0x0e
	opPrepend   = 0x0f
	opStat      = 0x10
	opVerbosity = 0x1b
	opTouch     = 0x1c
	opGAT       = 0x1d
	opSASLList  = 0x20
	opSASLAuth  = 0x21
	opSASLStep  = 0x22
	opGATK      = 0x23
)

// loud finds an opcode's loud form, for those that have two.
var loud = map[byte]byte{
	0x09: opGet, 0x0d: opGetK, 0x11: opSet, 0x12: opAdd, 0x13: opReplace, 0x14: opDelete, 0x15: opIncrement, 0x16: opDecrement,
	0x17: opQuit, 0x18: opFlush, 0x19: opAppend, 0x1a: opPrepend, 0x1e: opGAT, 0x24: opGATK,
}

// Statuses of a response.
const (
	statusOK        = 0x00
	statusNotFound  = 0x01
	statusExists    = 0x02
	statusTooLarge  = 0x03
	statusInvalid   = 0x04
	statusNotStored = 0x05
	statusNotNumber = 0x06
	statusAuth      = 0x20
	statusUnknown   = 0x81
	statusNoMemory  = 0x82
	statusInternal  = 0x84
	statusBusy      = 0x85
)

var statusTexts = map[uint16]string{
	statusNotFound: "Not found", statusExists: "Data exists for key.", statusTooLarge: "Too large.", statusInvalid: "Invalid arguments",
	statusNotStored: "Not stored.", statusNotNumber: "Non-numeric server-side value for incr or decr", statusAuth: "Auth failure.",
	statusUnknown: "Unknown command", statusNoMemory: "Out of memory", statusInternal: "Internal error", statusBusy: "Busy",
}

// noCreate is an increment's expiration that says not to make what is not there.
const noCreate = math.MaxUint32

// A header is a request's.
type header struct {
	op, written byte // the loud form, and as it was sent
	quiet       bool
	key, extra  int
	body        int
	opaque      uint32
	cas         uint64
}

// packet carries out or puts together the request at the beginning of b, and returns how many bytes that has; 0 when it
// has not arrived whole, -1 when it cannot be done now.
func (s *Session) packet(b []byte) int {
	if len(b) < headerBytes {
		s.needs = headerBytes
		return 0
	}
	h := header{
		written: b[1], key: int(binary.BigEndian.Uint16(b[2:])), extra: int(b[4]), body: int(binary.BigEndian.Uint32(b[8:])),
		opaque: binary.BigEndian.Uint32(b[12:]), cas: binary.BigEndian.Uint64(b[16:]),
	}
	if b[0] != magicRequest {
		s.end("no request of the binary protocol", nil)
		return -1
	}
	if len(b) < headerBytes+h.extra+h.key && h.extra+h.key <= h.body {
		s.needs = headerBytes + h.extra + h.key
		return 0
	}
	h.op, h.quiet = h.written, false
	if op, ok := loud[h.op]; ok {
		h.op, h.quiet = op, true
	}
	known := s.Known() || h.op == opVersion || h.op == opSASLList || h.op == opSASLAuth || h.op == opSASLStep
	switch {
	case h.extra+h.key > h.body:
		return s.hangUp(&h, headerBytes, statusUnknown)
	case !known, !s.Known() && h.body > maxLogin:
		return s.hangUp(&h, headerBytes, statusAuth)
	case h.key > maxKey && h.op != opSASLAuth && h.op != opSASLStep:
		return s.hangUp(&h, headerBytes, statusInvalid)
	}
	start := headerBytes + h.extra
	p := pending{render: renderBinary, quiet: h.quiet, op: h.op, opaque: h.opaque, key: b[start : start+h.key : start+h.key]}
	p.meta.mode = h.written
	return s.carry(b, &h, p)
}

// hangUp answers a request after which nothing can be trusted, and ends the connection.
func (s *Session) hangUp(h *header, n int, status uint16) int {
	if !s.settle() {
		return -1
	}
	s.out.packetStatus(&pending{opaque: h.opaque, meta: metaFlags{mode: h.written}}, status)
	s.end("binary protocol", errors.New(statusTexts[status]))
	return n
}

// carry does one request, whose header, extras and key have arrived.
func (s *Session) carry(b []byte, h *header, p pending) int {
	extras := b[headerBytes : headerBytes+h.extra]
	whole, size := headerBytes+h.body, h.body-h.extra-h.key
	bare := h.extra == 0 && h.key == 0 && h.body == 0
	ok, n := true, 0
	switch h.op {
	case opGet, opGetK:
		if ok = h.extra == 0 && size == 0 && h.key > 0; ok {
			s.add(&n, getCommand.NameArg(), p.key)
			s.call(getCommand, n, p)
		}
	case opTouch, opGAT, opGATK:
		if ok = h.extra == 4 && h.key > 0 && size == 0; ok {
			s.add(&n, gatCommand.NameArg(), p.key, s.unsignedDecimal(nil, uint64(binary.BigEndian.Uint32(extras))))
			cmd := gatCommand
			if h.op == opTouch {
				cmd = touchCommand
				s.arena[len(s.arena)-n] = cmd.NameArg()
			}
			s.call(cmd, n, p)
		}
	case opSet, opAdd, opReplace:
		if ok = h.extra == 8 && h.key > 0; ok {
			return s.binaryStore(b, h, p, extras, size)
		}
	case opAppend, opPrepend:
		if ok = h.extra == 0 && h.key > 0; ok {
			return s.binaryStore(b, h, p, nil, size)
		}
	case opDelete:
		if ok = h.extra == 0 && size == 0 && h.key > 0; ok {
			s.add(&n, delCommand.NameArg(), p.key)
			s.casOption(&n, h.cas)
			s.call(delCommand, n, p)
		}
	case opIncrement, opDecrement:
		if ok = h.extra == 20 && size == 0 && h.key > 0; ok {
			s.binaryDelta(h, p, extras)
		}
	case opFlush:
		if ok = h.key == 0 && size == 0 && (h.extra == 0 || h.extra == 4); ok {
			time := zero
			if h.extra == 4 {
				time = s.unsignedDecimal(nil, uint64(binary.BigEndian.Uint32(extras)))
			}
			s.add(&n, flushCommand.NameArg(), time)
			s.call(flushCommand, n, p)
		}
	case opNoop:
		if ok = bare; ok {
			return s.answer(&p, whole, "")
		}
	case opVersion:
		if ok = bare; ok {
			return s.answer(&p, whole, MemcachedVersion)
		}
	case opVerbosity:
		if ok = h.extra == 4 && h.key == 0 && size == 0; ok {
			return s.answer(&p, whole, "")
		}
	case opQuit:
		if ok = bare; ok {
			if whole = s.answer(&p, whole, ""); whole > 0 {
				s.end("quit", nil)
			}
			return whole
		}
	case opStat:
		if ok = h.extra == 0 && size == 0; ok {
			if !s.settle() {
				return -1
			}
			s.binaryStats(&p)
		}
	case opSASLList:
		if ok = bare; ok {
			return s.answer(&p, whole, "PLAIN")
		}
	case opSASLAuth, opSASLStep:
		if ok = h.extra == 0 && h.key > 0; ok {
			return s.saslLogin(b, h, p, size)
		}
	default:
		if !s.settle() {
			return -1
		}
		s.out.packetStatus(&p, statusUnknown)
		s.swallow = size
		return headerBytes + h.extra + h.key
	}
	if !ok {
		return s.hangUp(h, headerBytes+h.extra+h.key, statusInvalid)
	}
	return whole
}

// answer gives an answer that needs no call.
func (s *Session) answer(p *pending, n int, text string) int {
	if !s.settle() {
		return -1
	}
	if !p.quiet {
		s.out.packetHeader(p, statusOK, 0, 0, len(text), 0)
		s.out.b = append(s.out.b, text...)
	}
	return n
}

// casOption has a command compare the version, if the client gave one.
func (s *Session) casOption(n *int, cas uint64) {
	if cas != 0 {
		s.add(n, casWord, s.unsignedDecimal(nil, cas))
	}
}

func (s *Session) binaryStore(b []byte, h *header, p pending, extras []byte, size int) int {
	start := headerBytes + h.extra + h.key
	if int64(size) > s.limit {
		if !s.settle() {
			return -1
		}
		s.out.tally[storeTooLarge]++
		s.swallow = size
		if h.op == opSet {
			s.arena = append(s.arena, delCommand.NameArg(), p.key)
			s.call(delCommand, 2, pending{render: renderBinary, op: opTooLarge, opaque: p.opaque, meta: p.meta})
		} else {
			s.out.packetStatus(&p, statusTooLarge)
		}
		return start
	}
	whole := start + size
	if len(b) < whole {
		s.needs = whole
		return 0
	}
	n := 0
	s.add(&n, setCommand.NameArg(), p.key, b[start:whole:whole])
	if extras == nil {
		s.add(&n, zero, zero)
	} else {
		s.add(&n, s.unsignedDecimal(nil, uint64(binary.BigEndian.Uint32(extras))), s.unsignedDecimal(nil, uint64(binary.BigEndian.Uint32(extras[4:]))))
	}
	switch {
	case h.op == opAppend:
		s.add(&n, appendWord)
	case h.op == opPrepend:
		s.add(&n, prependWord)
	case h.cas != 0: // whatever it is called, it compares
	case h.op == opAdd:
		s.add(&n, addWord)
	case h.op == opReplace:
		s.add(&n, replaceWord)
	}
	p.cas = h.cas != 0
	s.casOption(&n, h.cas)
	s.call(setCommand, n, p)
	return whole
}

// opTooLarge is no opcode, but stands for the answer to a value that is too large, which takes the old one with it.
const opTooLarge = 0xff

func (s *Session) binaryDelta(h *header, p pending, extras []byte) {
	cmd, n := incrCommand, 0
	if h.op == opDecrement {
		cmd = decrCommand
	}
	s.add(&n, cmd.NameArg(), p.key, s.unsignedDecimal(nil, binary.BigEndian.Uint64(extras)))
	s.casOption(&n, h.cas)
	if expires := binary.BigEndian.Uint32(extras[16:]); expires != noCreate {
		s.add(&n, initialWord, s.unsignedDecimal(nil, binary.BigEndian.Uint64(extras[8:])), s.unsignedDecimal(nil, uint64(expires)))
	}
	s.call(cmd, n, p)
}

func (s *Session) saslLogin(b []byte, h *header, p pending, size int) int {
	start := headerBytes + h.key
	if size > maxLogin {
		return s.hangUp(h, start, statusAuth)
	}
	whole := start + size
	if len(b) < whole {
		s.needs = whole
		return 0
	}
	if !s.settle() {
		return -1
	}
	err := error(errNobody)
	if user, password, ok := saslPlain(b[start:whole]); ok && h.op == opSASLAuth && string(p.key) == "PLAIN" {
		err = s.logIn(user, password)
		s.countLogin(err)
	}
	if err != nil {
		s.out.packetStatus(&p, statusAuth)
		return whole
	}
	return s.answer(&p, whole, "Authenticated")
}

// packetHeader begins a response.
func (o *replies) packetHeader(p *pending, status uint16, extra, key, value int, cas uint64) {
	o.b = append(o.b, magicResponse, p.meta.mode, byte(key>>8), byte(key), byte(extra), 0, byte(status>>8), byte(status))
	o.b = binary.BigEndian.AppendUint32(o.b, uint32(extra+key+value))
	o.b = binary.BigEndian.AppendUint32(o.b, p.opaque)
	o.b = binary.BigEndian.AppendUint64(o.b, cas)
}

// packetStatus is a response that is an error.
func (o *replies) packetStatus(p *pending, status uint16) {
	text := statusTexts[status]
	o.packetHeader(p, status, 0, 0, len(text), 0)
	o.b = append(o.b, text...)
}

// binaryFault answers a fault.
func (o *replies) binaryFault(p *pending, e *fault.Error) {
	status := uint16(statusInvalid)
	switch e.Kind {
	case fault.OutOfMemory:
		status = statusNoMemory
	case fault.TooLarge:
		status = statusTooLarge
	case fault.Denied, fault.Unauthenticated:
		status = statusAuth
	case fault.Throttled, fault.Unavailable, fault.OutcomeUnknown, fault.Timeout:
		status = statusBusy
	case fault.Internal:
		status = statusInternal
	case fault.InvalidArgument:
		if p.op == opIncrement || p.op == opDecrement {
			status = statusNotNumber
		}
	}
	o.packetStatus(p, status)
}

// packet answers a request of the binary protocol.
func (o *replies) packet(p *pending, value []byte, status string) {
	switch p.op {
	case opGet, opGetK, opGAT, opGATK, opTouch:
		o.packetItem(p, value, status)
	case opTooLarge:
		o.packetStatus(p, statusTooLarge)
	case opIncrement, opDecrement:
		if status != "" {
			o.packetStatus(p, map[string]uint16{notFound: statusNotFound, exists: statusExists}[status])
		} else if !p.quiet {
			n, _ := strconv.ParseUint(string(value), 10, 64)
			o.packetHeader(p, statusOK, 0, 0, 8, uint64(o.ints[deltaVersion]))
			o.b = binary.BigEndian.AppendUint64(o.b, n)
		}
	default:
		o.packetDone(p, status)
	}
}

// packetDone answers what stores or removes.
func (o *replies) packetDone(p *pending, status string) {
	switch {
	case status == exists:
		o.packetStatus(p, statusExists)
	case status == notFound:
		o.packetStatus(p, statusNotFound)
	case status == notStored && p.op == opAdd:
		o.packetStatus(p, statusExists)
	case status == notStored && p.op == opReplace:
		o.packetStatus(p, statusNotFound)
	case status == notStored:
		o.packetStatus(p, statusNotStored)
	case p.quiet:
	case p.op == opDelete, p.op == opFlush:
		o.packetHeader(p, statusOK, 0, 0, 0, 0)
	default:
		o.packetHeader(p, statusOK, 0, 0, 0, uint64(o.ints[0]))
	}
}

func (o *replies) packetItem(p *pending, value []byte, status string) {
	withKey := p.op == opGetK || p.op == opGATK
	if status != "" {
		switch {
		case p.quiet:
		case withKey:
			o.packetHeader(p, statusNotFound, 0, len(p.key), 0, 0)
			o.b = append(o.b, p.key...)
		default:
			o.packetStatus(p, statusNotFound)
		}
		return
	}
	key := p.key
	if !withKey {
		key = nil
	}
	flags, version := o.ints[itemFlags], o.ints[itemVersion]
	o.packetHeader(p, statusOK, 4, len(key), len(value), uint64(version))
	o.b = binary.BigEndian.AppendUint32(o.b, uint32(flags))
	o.b = append(append(o.b, key...), value...)
}

// binaryStats answers a stat: a packet for each number, and one without a name at the end.
func (s *Session) binaryStats(p *pending) {
	if err := s.permit(inspect); err != nil {
		s.out.binaryFault(p, fault.From(err))
		return
	}
	if string(p.key) == "reset" {
		s.resetStats()
	} else if what, ok := strings.CutPrefix(string(p.key), "detail "); ok {
		lines, ok := s.detail(what)
		if !ok {
			s.out.packetStatus(p, statusNotFound)
			return
		}
		if all := strings.Join(append(lines, "END\r\n"), "\r\n"); what == "dump" {
			s.out.packetHeader(p, statusOK, 0, len("detailed"), len(all), 0)
			s.out.b = append(append(s.out.b, "detailed"...), all...)
		}
	} else if !s.stats(string(p.key), func(name, value string) {
		s.out.packetHeader(p, statusOK, 0, len(name), len(value), 0)
		s.out.b = append(append(s.out.b, name...), value...)
	}) {
		s.out.packetStatus(p, statusNotFound)
		return
	}
	s.out.packetHeader(p, statusOK, 0, 0, 0, 0)
}

var inspect = engine.Call{Command: engine.MustLookup("DBSIZE"), Args: [][]byte{[]byte("DBSIZE")}}
