package transfer

import (
	"bytes"

	"github.com/larder-cache/larder/engine/rdb"
)

// Bounds of a block of a stream's entries, as Redis has them.
const (
	blockEntries = 100
	blockBytes   = 4096
)

type streamEntry struct {
	id     rdb.StreamID
	fields [][]byte
}

// blockOf is how many of the entries make a block.
func blockOf(entries []streamEntry) (n int) {
	size := 0
	for n < len(entries) && n < blockEntries && (n == 0 || size < blockBytes) {
		for _, f := range entries[n].fields {
			size += len(f)
		}
		n++
	}
	return n
}

// appendBlock writes entries as a block.
func appendBlock(dst []byte, block *rdb.StreamBlock, entries []streamEntry) []byte {
	names := evens(entries[0].fields, 0)
	block.Begin(entries[0].id, len(entries), names)
	for _, e := range entries {
		if own := evens(e.fields, 0); same(own, names) {
			block.Entry(e.id, false, evens(e.fields, 1))
		} else {
			block.Entry(e.id, true, e.fields)
		}
	}
	return block.AppendTo(dst)
}

// evens is every second text, from the first or the second on.
func evens(texts [][]byte, from int) [][]byte {
	half := make([][]byte, 0, len(texts)/2)
	for i := from; i < len(texts); i += 2 {
		half = append(half, texts[i])
	}
	return half
}

func same(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// A groupList writes the groups of a stream, whose numbers are known only at their end.
type groupList struct {
	counted bool // the stream is of a type that tells what was read, and when a consumer was last active
	list    []streamGroup
}

type streamGroup struct {
	head      []byte // name and ids
	pending   []byte
	waiting   uint64
	consumers []byte
	count     uint64
	open      bool   // more may be owed to the last consumer
	owed      []byte // to it
	owes      uint64
}

func (l *groupList) last() *streamGroup { return &l.list[len(l.list)-1] }

func (l *groupList) group(name []byte, last rdb.StreamID, read int64) {
	g := streamGroup{head: rdb.AppendID(rdb.AppendText(nil, name), last)}
	if l.counted {
		g.head = rdb.AppendLength(g.head, uint64(read)) // unknown as in Redis: all bits set
	}
	l.list = append(l.list, g)
}

func (l *groupList) pending(at rdb.StreamID, when int64, times uint64) {
	g := l.last()
	g.waiting++
	g.pending = rdb.AppendLength(rdb.AppendMillis(rdb.AppendRawID(g.pending, at), when), times)
}

func (l *groupList) consumer(name []byte, seen, active int64) {
	g := l.last()
	g.close()
	g.count++
	g.open = true
	g.consumers = rdb.AppendMillis(rdb.AppendText(g.consumers, name), seen)
	if l.counted && active != noActivity {
		g.consumers = rdb.AppendMillis(g.consumers, active)
	}
}

// noActivity says that the type of the stream does not tell when a consumer was last active.
const noActivity = -1 << 63

func (l *groupList) owed(at rdb.StreamID) {
	g := l.last()
	g.owes++
	g.owed = rdb.AppendRawID(g.owed, at)
}

// close writes what is owed to the last consumer.
func (g *streamGroup) close() {
	if g.open {
		g.consumers = append(rdb.AppendLength(g.consumers, g.owes), g.owed...)
		g.owed, g.owes, g.open = nil, 0, false
	}
}

// append writes the groups.
func (l *groupList) append(b []byte) []byte {
	b = rdb.AppendLength(b, uint64(len(l.list)))
	for i := range l.list {
		g := &l.list[i]
		g.close()
		b = append(rdb.AppendLength(append(b, g.head...), g.waiting), g.pending...)
		b = append(rdb.AppendLength(b, g.count), g.consumers...)
	}
	return b
}
