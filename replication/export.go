package replication

import (
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/fault"
)

// An Export is an engine.Export of a partition that is led here, read bit by bit under its lock. It ends when this replica
// leads no more. Whoever began it closes it.
type Export struct {
	l *desk
	x *engine.Export // nil when it has ended
}

var errExport = fault.New(fault.Conflict, "replication.export", "what was read of the slots that move is not up to date any more")

// Export begins to read the keys of a span that is on its way out.
func (l *desk) Export(id engine.CacheID, s tenure.Span) (*Export, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.leads() {
		return nil, errExport
	}
	x, ok := l.p.Export(id, s)
	if !ok {
		return nil, errExport
	}
	e := &Export{l, x}
	l.exports[e] = true
	return e, nil
}

// Read appends about so many bytes to dst, and reports whether there is more to read at the moment. version is the last one
// that the partition has given out. An error means that another attempt has to begin.
func (e *Export) Read(dst []byte, bytes int) (_ []byte, version uint64, more bool, err error) {
	l := e.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.x == nil || !l.leads() {
		return dst, 0, false, errExport
	}
	defer l.guard(&err)
	dst, more = e.x.Read(dst, bytes)
	if e.x.Lost() {
		return dst, 0, false, errExport
	}
	return dst, e.x.Version(), more, nil
}

// Left tells how much is left to read: about how many keys, or that the first round is not over.
func (e *Export) Left() (keys int, walked bool) {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	if e.x == nil {
		return 0, false
	}
	return e.x.Left()
}

// Close ends the export.
func (e *Export) Close() {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	e.end()
}

func (e *Export) end() {
	if e.x != nil {
		e.x.Close()
		e.x = nil
	}
	delete(e.l.exports, e)
}

// endExports ends all exports: this replica leads no more, or its partition is about to be another. The caller holds the lock.
func (l *desk) endExports() {
	for e := range l.exports {
		e.end()
	}
}

// TenureOf is what the partition holds of a cache, nil for all of it; ok is false when it does not know the cache, or is not led
// here.
func (l *desk) TenureOf(id engine.CacheID) (t *tenure.Tenure, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.leads() {
		return nil, false
	}
	return l.p.TenureOf(id)
}
