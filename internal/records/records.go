// Package records keeps one kind of control data: JSON records under a prefix of the mirror, decoded.
//
// A Table answers reads from memory and never blocks on etcd. Writes go to etcd by compare-and-swap and
// return once this process has seen them, so whoever wrote a record reads it back; other processes see it a
// moment later. A record that cannot be decoded stays invisible and is logged; only Put overwrites it.
package records

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
)

// Root is the prefix of everything that Larder keeps in etcd.
const Root = "/larder/"

// A Table holds the records of one kind. Names may have several parts, joined by slashes.
type Table[T any] struct {
	kind   string // as errors call a record: "cache"
	prefix string
	m      *mirror.Mirror
	log    *slog.Logger

	mu     sync.RWMutex
	known  map[string]entry[T]
	notify []func(name string, old, new *T)
}

type entry[T any] struct {
	value    *T
	revision int64
}

// Open reads the records under Root+path, and follows them from then on.
func Open[T any](m *mirror.Mirror, kind, path string, log *slog.Logger) *Table[T] {
	t := &Table[T]{kind: kind, prefix: Root + path + "/", m: m, log: log, known: map[string]entry[T]{}}
	m.OnChange(t.prefix, true, t.follow)
	return t
}

func (t *Table[T]) follow(c mirror.Change) {
	name := strings.TrimPrefix(c.Key, t.prefix)
	var now *T
	if c.New != nil {
		now = new(T)
		if err := json.Unmarshal(c.New.Value, now); err != nil {
			t.log.Error("a control record cannot be read", "key", c.Key, "error", err)
			now = nil
		}
	}
	t.mu.Lock()
	old := t.known[name].value
	if now == nil {
		delete(t.known, name)
	} else {
		t.known[name] = entry[T]{now, c.New.ModRevision}
	}
	notify := t.notify
	t.mu.Unlock()
	for _, fn := range notify {
		fn(name, old, now)
	}
}

// OnChange calls fn for each record there is, then for every change, in order. fn must be quick and must not
// write: it runs on the goroutine that follows etcd. Nor may it ask this table, which is locked while fn hears of
// the records there are. Call it before the process serves; it cannot be undone.
func (t *Table[T]) OnChange(fn func(name string, old, new *T)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, e := range t.known {
		fn(name, nil, e.value)
	}
	t.notify = append(t.notify, fn)
}

// Get returns the record called name. It is shared: callers do not change it.
func (t *Table[T]) Get(name string) (*T, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, ok := t.known[name]
	return e.value, ok
}

// Names lists the names of all records, in order.
func (t *Table[T]) Names() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Sorted(maps.Keys(t.known))
}

// List returns up to limit records (all when limit is 0) whose names begin with under and come after after, in
// order of their names, and the name to continue after, empty at the end.
func (t *Table[T]) List(under, after string, limit int) (values []*T, next string) {
	from := ""
	if after != "" {
		from = t.prefix + after
	}
	ask := 0
	if limit > 0 {
		ask = limit + 1 // and again, if some of them cannot be read
	}
	for {
		found := t.m.List(t.prefix+under, from, ask)
		for _, r := range found {
			if limit > 0 && len(values) == limit {
				return values, next
			}
			from = r.Key
			name := strings.TrimPrefix(r.Key, t.prefix)
			if v, ok := t.Get(name); ok {
				values, next = append(values, v), name
			}
		}
		if ask == 0 || len(found) < ask {
			return values, ""
		}
	}
}

// Create adds a record; fault.Conflict when there is one of that name.
func (t *Table[T]) Create(ctx context.Context, name string, v *T) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fault.Wrap(fault.Internal, t.kind+".create", err, "")
	}
	_, err = t.m.Create(ctx, t.prefix+name, value)
	if errors.Is(err, mirror.ErrConflict) {
		return fault.New(fault.Conflict, t.kind+".create", "%s %q exists already", t.kind, name[strings.LastIndexByte(name, '/')+1:])
	}
	return t.explain("create", err)
}

// Put writes a record, whatever was there.
func (t *Table[T]) Put(ctx context.Context, name string, v *T) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fault.Wrap(fault.Internal, t.kind+".put", err, "")
	}
	_, err = t.m.Put(ctx, t.prefix+name, value)
	return t.explain("put", err)
}

// Update changes the record called name: it gives change a copy to work on and writes that, again and again
// until nobody else has changed the record meanwhile. fault.NotFound when there is none; an error of change
// is returned as it is, and nothing is written.
func (t *Table[T]) Update(ctx context.Context, name string, change func(*T) error) (*T, error) {
	for {
		t.mu.RLock()
		e, ok := t.known[name]
		t.mu.RUnlock()
		if !ok {
			return nil, t.missing(name)
		}
		v := new(T)
		before, err := json.Marshal(e.value)
		if err == nil {
			err = json.Unmarshal(before, v)
		}
		if err != nil {
			return nil, fault.Wrap(fault.Internal, t.kind+".update", err, "")
		}
		if err := change(v); err != nil {
			return nil, err
		}
		value, err := json.Marshal(v)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, t.kind+".update", err, "")
		}
		switch _, err = t.m.Update(ctx, t.prefix+name, value, e.revision); {
		case err == nil:
			return v, nil
		case !errors.Is(err, mirror.ErrConflict):
			return nil, t.explain("update", err)
		case ctx.Err() != nil:
			return nil, t.explain("update", ctx.Err())
		}
	}
}

// Delete removes a record; fault.NotFound when there is none.
func (t *Table[T]) Delete(ctx context.Context, name string) error {
	if _, ok := t.Get(name); !ok {
		return t.missing(name)
	}
	_, err := t.m.Delete(ctx, t.prefix+name, 0)
	if errors.Is(err, mirror.ErrConflict) {
		return t.missing(name)
	}
	return t.explain("delete", err)
}

func (t *Table[T]) missing(name string) error {
	return fault.New(fault.NotFound, t.kind, "no %s %q", t.kind, name[strings.LastIndexByte(name, '/')+1:])
}

// explain turns the mirror's errors into faults.
func (t *Table[T]) explain(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mirror.ErrUncertain):
		return fault.Wrap(fault.OutcomeUnknown, t.kind+"."+op, err, "the control store did not confirm this change; look before you try again")
	case errors.Is(err, mirror.ErrUnavailable):
		return fault.Wrap(fault.Unavailable, t.kind+"."+op, err, "the control store cannot be reached, so nothing can be changed now; reads and data go on")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault.Wrap(fault.OutcomeUnknown, t.kind+"."+op, err, "the control store did not answer in time; look before you try again")
	}
	return fault.Wrap(fault.Internal, t.kind+"."+op, err, "")
}
