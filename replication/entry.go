package replication

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/tenure"
)

// An entry of the log is an engine.Entry in bytes:
//
//	entry: version, now (varint), seed (8 bytes), tasks until the end
//	task:  cache (16 bytes), database, flags (uvarint), what the flags announce, calls (uvarint), each call
//	call:  arguments (uvarint, times two, plus one when the row has another name than the first argument), [name], arguments
//
// A task may also have come in parts before, see large.go: then it is its cache, its database and taskGathered.
//
// Rows go by their names, so that nodes of different versions agree on them. A task's bytes stand for themselves: callers
// encode theirs without a lock, and whoever forms an entry only strings them together.
const entryVersion = 1

// The flags of a task.
const (
	taskAtomic = 1 << iota
	taskWhole
	taskWaits
	taskAgain
	taskQuiet
	taskOnce
	taskEverything // its scripts may do anything
	taskRights     // what its scripts may do follows
	taskGathered   // alone: it is what has been gathered
	taskSlots      // what it expects to be held here follows
	taskExactly    // that, and nothing else
	knownTaskFlags = 1<<iota - 1
)

// appendEntry begins an entry; tasks are appended behind it.
func appendEntry(dst []byte, now int64, seed uint64) []byte {
	dst = append(dst, entryVersion)
	dst = binary.AppendVarint(dst, now)
	return binary.LittleEndian.AppendUint64(dst, seed)
}

// appendTask appends a task. What only its leader needs (Reply, Guard, Origin and their like) stays behind.
func appendTask(dst []byte, t *engine.Task) []byte {
	dst = appendTaskHead(dst, t)
	for i := range t.Calls {
		c := &t.Calls[i]
		dst = appendCallHead(dst, c)
		for _, a := range c.Args {
			dst = appendText(dst, a)
		}
	}
	return dst
}

// appendGathered appends a task that has been gathered.
func appendGathered(dst []byte, t *engine.Task) []byte {
	dst = append(dst, t.Cache[:]...)
	return binary.AppendUvarint(append(dst, byte(t.DB)), taskGathered)
}

// appendTaskHead appends what stands before a task's calls.
func appendTaskHead(dst []byte, t *engine.Task) []byte {
	dst = append(dst, t.Cache[:]...)
	dst = append(dst, byte(t.DB))
	flags := uint64(0)
	for _, f := range [...]struct {
		on  bool
		bit uint64
	}{{t.Atomic, taskAtomic}, {t.Whole, taskWhole}, {t.Waits, taskWaits}, {t.Again, taskAgain}, {t.Quiet, taskQuiet}, {t.Once != nil, taskOnce}, {t.Slots != nil, taskSlots}, {t.Exactly, taskExactly}} {
		if f.on {
			flags |= f.bit
		}
	}
	var rights *engine.Rights
	if t.Rights != nil {
		if rights = t.Rights(); rights.Everything {
			flags |= taskEverything
		} else {
			flags |= taskRights
		}
	}
	dst = binary.AppendUvarint(dst, flags)
	if t.Once != nil {
		dst = append(append(dst, t.Once.Key[:]...), t.Once.Fingerprint[:]...)
	}
	if flags&taskRights != 0 {
		dst = appendRights(dst, rights)
	}
	if t.Slots != nil {
		dst = tenure.AppendSpans(dst, t.Slots)
	}
	return binary.AppendUvarint(dst, uint64(len(t.Calls)))
}

// appendCallHead appends what stands before a call's arguments.
func appendCallHead(dst []byte, c *engine.Call) []byte {
	named := uint64(0)
	if len(c.Args) == 0 || !isName(c.Args[0], c.Command.Name) {
		named = 1
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Args))<<1|named)
	if named != 0 {
		dst = appendText(dst, c.Command.Name)
	}
	return dst
}

func appendText[T []byte | string](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// isName reports whether a client that writes word means the row called name.
func isName(word []byte, name string) bool {
	if len(word) != len(name) {
		return false
	}
	for i := range word {
		if upper(word[i]) != name[i] {
			return false
		}
	}
	return true
}

func upper(b byte) byte {
	if 'a' <= b && b <= 'z' {
		return b - ('a' - 'A')
	}
	return b
}

// AppendRights writes rights for another node; ReadRights reads them, and returns what stands behind them.
func AppendRights(dst []byte, r *engine.Rights) []byte {
	if r.Everything {
		return append(dst, 1)
	}
	return appendRights(append(dst, 0), r)
}

// ReadRights reads what AppendRights wrote.
func ReadRights(b []byte) (_ *engine.Rights, rest []byte, err error) {
	r := &reader{b: b}
	if r.byte() == 1 {
		return &engine.Rights{Everything: true}, r.b, nil
	}
	rights := decodeRights(r)
	if r.bad {
		return nil, nil, errEntry
	}
	return rights, r.b, nil
}

func appendRights(dst []byte, r *engine.Rights) []byte {
	for _, actions := range r.On {
		dst = appendTexts(dst, actions)
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.Named)))
	for _, n := range r.Named {
		dst = appendTexts(appendText(append(dst, byte(n.On)), n.Name), n.Actions)
	}
	return dst
}

func appendTexts(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendText(dst, s)
	}
	return dst
}

// A decoder reads entries. What it returns points into the entry's bytes and into the decoder's own room, which the next
// entry reuses.
type decoder struct {
	entry engine.Entry
	tasks []engine.Task
	onces []engine.Once
	calls []engine.Call
	args  [][]byte

	gathered []byte // the task that has come in parts, nil for none
	used     bool   // the entry has it carried out
}

// errEntry is a log that holds what no leader has written.
var errEntry = errors.New("replication: an entry of the log is malformed")

// Bounds of what an entry makes its reader allocate: a call and an argument take at least so many bytes of it.
const (
	leastCall = 1
	leastText = 1
)

// decode reads an entry. Each count in it is checked against the bytes that are left.
func (d *decoder) decode(b []byte) (*engine.Entry, error) {
	r := reader{b: b}
	if v := r.byte(); v != entryVersion {
		return nil, fmt.Errorf("%w: version %d", errEntry, v)
	}
	d.entry.Now, d.entry.Seed = r.varint(), r.uint64()
	clear(d.args)
	d.used = false
	d.tasks, d.onces, d.calls, d.args, d.entry.Tasks = d.tasks[:0], d.onces[:0], d.calls[:0], d.args[:0], d.entry.Tasks[:0]
	// Slices grow while tasks are read, so what points into them is set behind that.
	type span struct{ calls, once int }
	var spans []span
	var few [8]span
	spans = few[:0]
	for len(r.b) > 0 && !r.bad {
		once := d.task(&r)
		spans = append(spans, span{len(d.calls), once})
	}
	if r.bad {
		return nil, errEntry
	}
	at, argsAt := 0, 0
	for i := range d.calls {
		n := len(d.calls[i].Args) // the count; see task
		d.calls[i].Args = d.args[argsAt : argsAt+n : argsAt+n]
		argsAt += n
	}
	for i := range d.tasks {
		d.tasks[i].Calls = d.calls[at:spans[i].calls:spans[i].calls]
		at = spans[i].calls
		if spans[i].once >= 0 {
			d.tasks[i].Once = &d.onces[spans[i].once]
		}
		d.entry.Tasks = append(d.entry.Tasks, &d.tasks[i])
	}
	return &d.entry, nil
}

// task reads one task and returns where its Once is, -1 for none.
func (d *decoder) task(r *reader) (once int) {
	var t engine.Task
	copy(t.Cache[:], r.bytes(len(t.Cache)))
	t.DB = int(r.byte())
	flags := r.uvarint()
	if flags == taskGathered {
		return d.whole(r)
	}
	if flags&^(knownTaskFlags&^taskGathered) != 0 || flags&taskEverything != 0 && flags&taskRights != 0 {
		r.bad = true
	}
	t.Atomic, t.Whole, t.Waits = flags&taskAtomic != 0, flags&taskWhole != 0, flags&taskWaits != 0
	t.Again, t.Quiet = flags&taskAgain != 0, flags&taskQuiet != 0
	once = -1
	if flags&taskOnce != 0 {
		var o engine.Once
		copy(o.Key[:], r.bytes(len(o.Key)))
		copy(o.Fingerprint[:], r.bytes(len(o.Fingerprint)))
		once, d.onces = len(d.onces), append(d.onces, o)
	}
	if flags&taskRights != 0 {
		t.Allowed = decodeRights(r).Allowed
	}
	if flags&taskSlots != 0 {
		slots, rest, err := tenure.ReadSpans(r.b)
		r.b, r.bad = rest, r.bad || err != nil
		t.Slots, t.Exactly = slots, flags&taskExactly != 0
	}
	for n := r.count(leastCall); n > 0 && !r.bad; n-- {
		d.call(r)
	}
	if t.Waits && len(d.calls) == 0 {
		r.bad = true
	}
	d.tasks = append(d.tasks, t)
	return once
}

// whole reads the task that has been gathered, which an entry has once at the most.
func (d *decoder) whole(r *reader) (once int) {
	if d.used || d.gathered == nil {
		r.bad = true
		return -1
	}
	d.used = true
	in := &reader{b: d.gathered}
	once = d.task(in)
	r.bad = r.bad || in.bad || len(in.b) > 0
	return once
}

func (d *decoder) call(r *reader) {
	head := r.uvarint()
	n := head >> 1
	var name []byte
	if head&1 != 0 {
		name = r.text()
	}
	if n > uint64(len(r.b)/leastText) {
		r.bad = true
		return
	}
	first := len(d.args)
	for range n {
		d.args = append(d.args, r.text())
	}
	var folded [40]byte
	if name == nil && n > 0 && len(d.args[first]) <= len(folded) {
		name = folded[:len(d.args[first])]
		for i, b := range d.args[first] {
			name[i] = upper(b)
		}
	}
	cmd := engine.LookupLogged(name)
	if cmd == nil || r.bad {
		r.bad = true
		return
	}
	d.calls = append(d.calls, engine.Call{Command: cmd, Args: d.args[first:]}) // only its length counts so far
}

func decodeRights(r *reader) *engine.Rights {
	rights := &engine.Rights{}
	for i := range rights.On {
		rights.On[i] = r.texts()
	}
	for n := r.count(3); n > 0 && !r.bad; n-- {
		named := engine.NamedRights{On: engine.ResourceKind(r.byte())}
		named.Name, named.Actions = r.text(), r.texts()
		rights.Named = append(rights.Named, named)
	}
	return rights
}

// A reader takes bytes apart. After something did not fit, it is bad and returns nothing more.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) varint() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count reads how many things follow, each of which takes at least so many bytes.
func (r *reader) count(least int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/least) {
		r.b, r.bad = nil, true
		return 0
	}
	return int(n)
}

func (r *reader) text() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	return r.bytes(int(n))
}

func (r *reader) texts() []string {
	n := r.count(leastText)
	if n == 0 {
		return nil
	}
	list := make([]string, 0, min(n, 64))
	for range n {
		list = append(list, string(r.text()))
	}
	return list
}
