package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
)

// A hashValue maps fields to values. Each field may have a deadline of its own, from which on nobody sees it.
//
// A small hash is packed: the bytes of its record, in which fields stand in the order in which they came. A large one has a
// table of its own, whose order is that of the fields' hashes. A hash becomes large when it gets more than packedFields
// fields or an element of more than packedText bytes, and small again when removals leave it packedAgain fields, all of them
// short. Looked at in an item, a small hash is a view of the record's bytes, a large one an object of the partition.
//
//	H1: a packed hash is written as packedHash says, and no field stands twice
//	H2: the head of a packed hash tells the earliest deadline of its fields
//	H3: agenda, nil until a field of a large hash has a deadline, holds those of all records, and no other
//	H4: told is the earliest deadline of a field as the keyspace knows it, while a record holds the hash; see keyspace.awaits
//
// Fields whose time has come stay until a change of the hash or a sweep removes them; whatever reads passes over them,
// and counts without them, in O(1) for a packed hash without any and O(log n) for a large one. That is stricter than
// Redis, whose HLEN counts what it has not removed yet, and whose key lives on without a field that can be seen.
type hashValue struct {
	p      *Partition
	packed packedHash
	fields *dense.Table // nil in a small hash
	agenda *dense.Agenda
	told   int64
}

// kindField is the kind of all records in the table of a large hash.
const kindField dense.Kind = 1

// What a large hash costs beside its records and their share of the index, in bytes: itself with its table, and a
// deadline's share of the agenda.
const (
	hashOverhead = 320
	agendaShare  = 10
)

// unpackHash makes the item's own hashValue a view of the record's bytes.
func unpackHash(it *item, b []byte) value {
	it.fields = hashValue{p: it.home.p, packed: b}
	it.fields.told = it.fields.packed.wakes()
	return &it.fields
}

func (h *hashValue) kind() string { return "hash" }
func (h *hashValue) empty() bool  { return h.size() == 0 }

// encoding is Redis's name for the form.
func (h *hashValue) encoding() string {
	switch {
	case h.fields != nil:
		return "hashtable"
	case h.packed.wakes() != 0:
		return "listpackex"
	}
	return "listpack"
}

func (h *hashValue) pack(dst []byte) ([]byte, dense.Kind) {
	if h.fields != nil {
		return dst, kindObject
	}
	return append(dst, h.packed...), kindHash
}

func (h *hashValue) bytes() int64 {
	return hashOverhead + h.fields.Bytes() + dense.IndexBytes(h.fields.Len()) + agendaShare*int64(h.fields.Timed())
}

// parts and header are for a cut: fields and their deadlines are all that there is.
func (h *hashValue) parts() []*dense.Table    { return []*dense.Table{h.fields} }
func (h *hashValue) header(dst []byte) []byte { return dst }

func (h *hashValue) destroy() {
	h.fields.Drop()
	if h.agenda != nil {
		h.p.graves = append(h.p.graves, h.agenda)
		h.agenda = nil
	}
}

// encode includes the form, which decides about accounts, draws and the order of fields.
func (h *hashValue) encode(dst []byte) []byte {
	if h.fields == nil {
		return append(append(dst, 'p'), h.packed...)
	}
	dst = append(dst, 't')
	h.fields.Each(0, func(_ uint64, r dense.Ref) bool {
		rec := h.p.store.Open(r)
		for _, part := range [2][]byte{rec.Key, rec.Value} {
			dst = binary.AppendUvarint(dst, uint64(len(part)))
			dst = append(dst, part...)
		}
		dst = binary.AppendUvarint(dst, uint64(rec.ExpireAt))
		return true
	})
	return dst
}

// clone returns a hash of its own with the same fields in the same form.
func (h *hashValue) clone(step func()) largeValue {
	if h.fields == nil {
		return h // whoever stores it copies its bytes
	}
	twin := &hashValue{p: h.p, fields: h.p.store.NewTable(false, nil, nil)}
	h.fields.Each(0, func(_ uint64, r dense.Ref) bool {
		step()
		rec := h.p.store.Open(r)
		twin.write(h.p.store.Hash(rec.Key), 0, rec.Key, rec.Value, rec.ExpireAt)
		return true
	})
	return twin
}

func (h *hashValue) check() error {
	switch {
	case h.told != h.wakes():
		return fmt.Errorf("H4: the keyspace knows of deadline %d, not of %d", h.told, h.wakes())
	case h.fields == nil:
		return h.packed.valid()
	case h.agenda == nil && h.fields.Timed() > 0:
		return fmt.Errorf("H3: %d fields have deadlines, and no agenda", h.fields.Timed())
	case h.agenda == nil:
		return nil
	}
	if err := h.agenda.Check(func(each func(uint64, int64)) {
		h.fields.Each(0, func(position uint64, r dense.Ref) bool {
			if at := h.p.store.ExpireAt(r); at != 0 {
				each(position, at)
			}
			return true
		})
	}); err != nil {
		return fmt.Errorf("H3: %w", err)
	}
	return nil
}

// size counts the fields with those whose time has come.
func (h *hashValue) size() int {
	if h.fields == nil {
		return h.packed.len()
	}
	return h.fields.Len()
}

// passed counts the fields whose time has come.
func (h *hashValue) passed(now int64) int {
	switch {
	case h.fields == nil:
		return h.packed.passed(now)
	case h.agenda == nil:
		return 0
	}
	return h.agenda.Passed(now)
}

// live counts the fields that there are at time now, none of no hash.
func (h *hashValue) live(now int64) int {
	if h == nil {
		return 0
	}
	return h.size() - h.passed(now)
}

// wakes is the earliest deadline of a field, 0 for none. O(1).
func (h *hashValue) wakes() (at int64) {
	if h.fields == nil {
		return h.packed.wakes()
	}
	if h.agenda != nil {
		at, _ = h.agenda.First()
	}
	return at
}

// gone reports whether every field's time has come.
func (h *hashValue) gone(now int64) bool {
	at := h.wakes()
	return at != 0 && at <= now && h.live(now) == 0
}

// A hashField is a field with its value and its deadline, 0 for none.
type hashField struct {
	field, value element
	at           int64
}

func (f *hashField) expiredAt(now int64) bool { return f.at != 0 && f.at <= now }

// get returns a field that is there at time now; nothing where there is none, or no hash.
func (h *hashValue) get(now int64, field []byte) (f hashField, ok bool) {
	switch {
	case h == nil:
		return f, false
	case h.fields != nil:
		r := h.fields.Find(h.p.store.Hash(field), field)
		if r == 0 {
			return f, false
		}
		f = h.open(r)
	case len(field) > packedText:
		return f, false
	default:
		var buf [1 + packedText]byte
		at, ok := h.packed.find(appendElement(buf[:0], field))
		if !ok {
			return f, false
		}
		f = h.unpack(at)
	}
	if f.expiredAt(now) {
		return hashField{}, false
	}
	return f, true
}

func (h *hashValue) open(r dense.Ref) hashField {
	rec := h.p.store.Open(r)
	return hashField{element{text: rec.Key}, element{text: rec.Value}, rec.ExpireAt}
}

func (h *hashValue) unpack(f packedField) hashField {
	return hashField{readElement(h.packed[f.field:]), readElement(h.packed[f.value:]), h.packed.deadline(f)}
}

// each visits the fields that there are at time now, in their order, until visit returns false; none of no hash.
func (h *hashValue) each(now int64, visit func(f hashField) bool) {
	switch {
	case h == nil:
	case h.fields != nil:
		h.fields.Each(0, func(_ uint64, r dense.Ref) bool {
			f := h.open(r)
			return f.expiredAt(now) || visit(f)
		})
	default:
		for at := h.packed.body(); at < len(h.packed); {
			p := h.packed.at(at)
			if f := h.unpack(p); !f.expiredAt(now) && !visit(f) {
				return
			}
			at = p.end
		}
	}
}

// write gives a field of a large hash a value and a deadline; r is its record, 0 where there is none. Long values are
// always written anew, so that what they take depends on their length alone.
func (h *hashValue) write(hash uint64, r dense.Ref, field, value []byte, at int64) {
	before := int64(0)
	if r == 0 {
		r = h.fields.Insert(hash, kindField, field, len(value), 0, at)
	} else {
		before = h.p.store.ExpireAt(r)
		r = h.fields.Rewrite(hash, r, kindField, len(value), 0, at, dense.IsApart(len(field), len(value)))
	}
	copy(h.p.store.Value(r), value)
	h.reschedule(hash, before, at)
}

// cut takes a record out of a large hash.
func (h *hashValue) cut(hash uint64, r dense.Ref) {
	h.reschedule(hash, h.p.store.ExpireAt(r), 0)
	h.fields.Remove(hash, r)
}

// reschedule tells the agenda that a field's deadline was one and is another.
func (h *hashValue) reschedule(hash uint64, before, at int64) {
	if before == at {
		return
	}
	if h.agenda == nil {
		h.agenda = h.p.store.NewAgenda()
	}
	if before != 0 {
		h.agenda.Remove(dense.Position(hash), before)
	}
	if at != 0 {
		h.agenda.Add(dense.Position(hash), at)
	}
}

// revert notes how to give a field of a large hash back the value and the deadline that its record r has, 0 for none.
func (h *hashValue) revert(j *journal, hash uint64, r dense.Ref, field []byte) {
	if j == nil {
		return
	}
	field = exactly(field)
	if r == 0 {
		j.add(func() { h.cut(hash, h.fields.Find(hash, field)) })
		return
	}
	rec := h.p.store.Open(r)
	value, at := exactly(rec.Value), rec.ExpireAt
	j.add(func() { h.write(hash, h.fields.Find(hash, field), field, value, at) })
}

// expand makes a packed hash large.
func (h *hashValue) expand() {
	small := hashValue{p: h.p, packed: h.packed}
	h.fields, h.packed = h.p.store.NewTable(false, nil, nil), nil
	var field, value [packedText]byte
	small.each(0, func(f hashField) bool {
		key := f.field.append(field[:0])
		h.write(h.p.store.Hash(key), 0, key, f.value.append(value[:0]), f.at)
		return true
	})
}

// shrunk appends to dst the packed form of a large hash with few fields, and reports false when one is too long for it.
func (h *hashValue) shrunk(dst packedHash) (b packedHash, ok bool) {
	b, ok = dst, true
	var buf [1 + packedText]byte
	h.each(0, func(f hashField) bool {
		if ok = len(f.field.text) <= packedText && len(f.value.text) <= packedText; ok {
			b = b.with(packedField{}, false, appendElement(buf[:0], f.field.text), f.value.text, f.at)
		}
		return ok
	})
	return b, ok
}

// A hashEdit changes a hash: a copy of a packed one, a large one where it is. done stores what came of it. A command
// has one at a time, and begins it when nothing can fail any more.
type hashEdit struct {
	c   *call
	it  *item // nil while there is no hash
	key []byte
	h   *hashValue
	own hashValue // what h points to unless it was large from the beginning

	expired int // fields removed because their time had come
}

// editBudget is how many fields whose time has come each change of a large hash removes beside what it does.
const editBudget = 16

// edit begins to change the hash h in it, under key; both are nil where there is none.
func (c *call) edit(h *hashValue, it *item, key []byte) *hashEdit {
	e := &c.p.edit
	*e = hashEdit{c: c, it: it, key: key, h: h}
	if h == nil || h.fields == nil {
		e.own = hashValue{p: c.p, packed: packedHash(c.p.scratch[:0])}
		if h != nil {
			e.own.packed = append(e.own.packed, h.packed...)
		}
		e.h = &e.own
	}
	e.expire(editBudget)
	return e
}

// expire removes fields whose time has come: up to atMost from a large hash, all from a small one.
func (e *hashEdit) expire(atMost int) {
	h, now := e.h, e.c.now
	if h.fields == nil {
		before := h.packed.len()
		h.packed = h.packed.unexpired(now)
		e.expired += before - h.packed.len()
		if all := e.c.cache.feeds; all != nil && before != h.packed.len() {
			all.torn = true
		}
		return
	}
	for ; atMost > 0; atMost-- {
		at := h.wakes()
		if !e.passed(at) {
			return
		}
		_, prefix := h.agenda.First()
		var r dense.Ref
		h.fields.AgendaUnder(prefix, func(_ uint64, found dense.Ref) bool {
			if h.p.store.ExpireAt(found) == at {
				r = found
			}
			return r == 0
		})
		field := h.p.store.Key(r)
		hash := h.p.store.Hash(field)
		if all := e.c.cache.feeds; all != nil {
			all.fieldExpired(e.it.home, e.key, field)
		}
		h.revert(e.journal(), hash, r, field)
		h.cut(hash, r)
		e.expired++
	}
}

// journal is where changes of fields are noted: nowhere for a hash that is the edit's own, which an undo takes away as
// a whole.
func (e *hashEdit) journal() *journal {
	if e.h == &e.own {
		return nil
	}
	return e.c.p.journal
}

// get returns a field that is there.
func (e *hashEdit) get(field []byte) (hashField, bool) { return e.h.get(e.c.now, field) }

func (e *hashEdit) passed(at int64) bool { return at != 0 && at <= e.c.now }

// set gives a field a value and a deadline, 0 for none, and reports whether it was not there.
func (e *hashEdit) set(field, value []byte, at int64) (added bool) {
	h := e.h
	if h.fields == nil {
		var buf [1 + packedText]byte
		if len(field) <= packedText && len(value) <= packedText {
			name := appendElement(buf[:0], field)
			f, there := h.packed.find(name)
			if there || h.packed.len() < packedFields {
				h.packed = h.packed.with(f, there, name, value, at)
				return !there
			}
		}
		e.keep()
		h.expand()
	}
	hash := h.p.store.Hash(field)
	r := h.fields.Find(hash, field)
	added = r == 0 || e.passed(h.p.store.ExpireAt(r))
	h.revert(e.journal(), hash, r, field)
	h.write(hash, r, field, value, at)
	return added
}

// remove takes a field out and reports whether it was there.
func (e *hashEdit) remove(field []byte) bool {
	h := e.h
	if h.fields == nil {
		var buf [1 + packedText]byte
		if len(field) > packedText {
			return false
		}
		f, there := h.packed.find(appendElement(buf[:0], field))
		if there {
			h.packed = h.packed.without(f)
		}
		return there
	}
	hash := h.p.store.Hash(field)
	r := h.fields.Find(hash, field)
	if r == 0 {
		return false
	}
	was := !e.passed(h.p.store.ExpireAt(r))
	h.revert(e.journal(), hash, r, field)
	h.cut(hash, r)
	return was
}

// schedule gives a field that is there, as f, another deadline, 0 for none. One that has come removes it.
func (e *hashEdit) schedule(field []byte, f hashField, at int64) {
	h := e.h
	switch {
	case e.passed(at):
		e.remove(field)
	case h.fields == nil:
		var value [packedText]byte
		e.set(field, f.value.append(value[:0]), at)
	default:
		hash := h.p.store.Hash(field)
		if j := e.journal(); j != nil {
			field := exactly(field)
			j.add(func() {
				h.fields.SetExpire(hash, h.fields.Find(hash, field), f.at)
				h.reschedule(hash, at, f.at)
			})
		}
		h.fields.SetExpire(hash, h.fields.Find(hash, field), at)
		h.reschedule(hash, f.at, at)
	}
}

// keep gives the buffer that the copy of a packed hash was made in back for the next use.
func (e *hashEdit) keep() {
	if e.own.packed != nil {
		e.c.p.scratch = keep(e.own.packed)
	}
}

// done stores the hash in the form that it has now, and removes it when no field is left.
func (e *hashEdit) done() {
	c, h, it := e.c, e.h, e.it
	if e.expired > 0 {
		c.cache.counts.ExpiredFields += int64(e.expired)
	}
	wasLarge := it != nil && it.kind == kindObject
	if j := c.p.journal; j != nil && wasLarge {
		j.changed = append(j.changed, place{it.home, string(it.key)})
	}
	if h.fields != nil && h.fields.Len() <= packedAgain && h.fields.Len() > 0 {
		e.shrink()
		h = e.h
	}
	switch {
	case h.empty() && it != nil:
		c.dropItem(it)
	case h.empty():
	case it == nil:
		c.put(e.key, e.lasting(), c.defaultDeadline())
	case wasLarge && h.fields != nil:
		it.home.resized(it.object())
		it.home.awaits(it)
		it.home.account()
		it.home.touched(it.key)
	case !wasLarge && h.fields == nil && bytes.Equal(e.own.packed, it.fields.packed): // nothing was there to change
	case !wasLarge && h.fields == nil:
		e.repack()
	default:
		if j := c.p.journal; j != nil {
			j.remember(place{it.home, string(it.key)}, it)
		}
		it.home.unindex(it)
		it.home.put(it, it.key, e.lasting(), it.expireAt)
	}
	e.keep()
	*e = hashEdit{}
}

// lasting is the hash as a value that may stay.
func (e *hashEdit) lasting() value {
	if e.h.fields == nil || e.h != &e.own {
		return e.h
	}
	h := e.own
	return &h
}

// shrink goes over to the packed form of a large hash, if it can. The large one is given up when the packed one is stored.
func (e *hashEdit) shrink() {
	b, ok := e.h.shrunk(packedHash(e.c.p.scratch[:0]))
	if !ok {
		return
	}
	if e.h == &e.own { // it became large only just now, and nobody knows it
		e.own.destroy()
	}
	e.own = hashValue{p: e.c.p, packed: b}
	e.h = &e.own
}

// repack stores a packed hash that stays one.
func (e *hashEdit) repack() {
	it, b := e.it, e.own.packed
	k := it.home
	if j := e.c.p.journal; j != nil {
		j.remember(place{k, string(it.key)}, it)
	}
	told := it.fields.told
	_, dst := k.hold(it, it.key, kindHash, len(b), 0, it.expireAt)
	copy(dst, b)
	it.load()
	it.fields.told = told
	k.awaits(it)
	k.account()
}

var hashCommands = []Command{
	{Name: "HSET", Arity: -4, Keys: oneKey, Flags: Writes | Fast | Grows, Group: GroupHash, Action: "cache:HashWrite", Facts: hashFacts, run: hset,
		Usage: "key field value [field value ...]", Summary: "Gives fields of a hash their values and counts the new ones", Complexity: "O(N) for N fields", Since: "2.0.0"},
	{Name: "HMSET", Arity: -4, Keys: oneKey, Flags: Writes | Fast | Grows, Group: GroupHash, Action: "cache:HashWrite", Facts: hashFacts, run: hset,
		Usage: "key field value [field value ...]", Summary: "Gives fields of a hash their values", Complexity: "O(N) for N fields", Since: "2.0.0"},
	{Name: "HSETNX", Arity: 4, Keys: oneKey, Flags: Writes | Fast | Grows, Group: GroupHash, Action: "cache:HashWrite", Facts: hashFacts, run: hsetnx,
		Usage: "key field value", Summary: "Gives a field its value unless it has one", Complexity: "O(1)", Since: "2.0.0"},
	{Name: "HGET", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead", run: hget,
		Usage: "key field", Summary: "Returns the value of a field", Complexity: "O(1)", Since: "2.0.0"},
	{Name: "HMGET", Arity: -3, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead", run: hmget,
		Usage: "key field [field ...]", Summary: "Returns the values of fields", Complexity: "O(N) for N fields", Since: "2.0.0"},
	{Name: "HGETALL", Arity: 2, Keys: oneKey, Group: GroupHash, Action: "cache:HashRead", run: hgetall,
		Usage: "key", Summary: "Returns all fields with their values", Complexity: "O(N) for a hash of N fields", Since: "2.0.0"},
	{Name: "HDEL", Arity: -3, Keys: oneKey, Flags: Writes | Fast, Group: GroupHash, Action: "cache:HashWrite", run: hdel,
		Usage: "key field [field ...]", Summary: "Removes fields and counts those that existed", Complexity: "O(N) for N fields", Since: "2.0.0"},
	{Name: "HEXISTS", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead", run: hexists,
		Usage: "key field", Summary: "Tells whether a field exists", Complexity: "O(1)", Since: "2.0.0"},
	{Name: "HLEN", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead", run: hlen,
		Usage: "key", Summary: "Counts the fields of a hash", Complexity: "O(1)", Since: "2.0.0"},
	{Name: "HSTRLEN", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead", run: hstrlen,
		Usage: "key field", Summary: "Returns the length of a field's value", Complexity: "O(1)", Since: "3.2.0"},
	{Name: "HKEYS", Arity: 2, Keys: oneKey, Group: GroupHash, Action: "cache:HashRead", run: hkeys,
		Usage: "key", Summary: "Returns all fields", Complexity: "O(N) for a hash of N fields", Since: "2.0.0"},
	{Name: "HVALS", Arity: 2, Keys: oneKey, Group: GroupHash, Action: "cache:HashRead", run: hvals,
		Usage: "key", Summary: "Returns all values", Complexity: "O(N) for a hash of N fields", Since: "2.0.0"},
	{Name: "HINCRBY", Arity: 4, Keys: oneKey, Flags: Writes | Fast | Grows, Group: GroupHash, Action: "cache:HashWrite", Also: hashReadRight, run: hincrby,
		Usage: "key field increment", Summary: "Adds to the integer in a field, 0 where there is none", Complexity: "O(1)", Since: "2.0.0"},
	{Name: "HINCRBYFLOAT", Arity: 4, Keys: oneKey, Flags: Writes | Fast | Grows, Group: GroupHash, Action: "cache:HashWrite", Also: hashReadRight, run: hincrbyfloat,
		Usage: "key field increment", Summary: "Adds to the number in a field, 0 where there is none", Complexity: "O(1)", Since: "2.6.0"},
	{Name: "HSCAN", Arity: -3, Keys: oneKey, Group: GroupHash, Action: "cache:HashRead", run: hscan,
		Usage: "key cursor [MATCH pattern] [COUNT count] [NOVALUES]", Summary: "Walks over the fields of a hash in steps", Complexity: "O(1) for each step", Since: "2.8.0"},
	{Name: "HRANDFIELD", Arity: -2, Keys: oneKey, Group: GroupHash, Action: "cache:HashRead", run: hrandfield,
		Usage: "key [count [WITHVALUES]]", Summary: "Draws fields at random", Complexity: "O(N) for N fields", Since: "6.2.0"},
}

// Incrementing a field also tells what it was.
func hashReadRight(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:HashRead", On: OnKey, Name: args[1]})
}

func hashFacts(args [][]byte, _ int64) Facts {
	f := Facts{TTL: -1, MaxItems: -1}
	for i := 3; i < len(args); i += 2 {
		f.ValueSize += int64(len(args[i]))
	}
	return f
}

var (
	errHashNotInteger = fault.New(fault.InvalidArgument, "hash", "hash value is not an integer")
	errHashNotFloat   = fault.New(fault.InvalidArgument, "hash", "hash value is not a float")
)

// hashAt returns the hash under key for reading, nil when there is none.
func (c *call) hashAt(key []byte) (*hashValue, error) {
	h, _, err := lookup[*hashValue](c, key)
	if err == nil {
		c.count(h != nil)
	}
	return h, err
}

// checkField refuses fields and values over their limits.
func (c *call) checkField(field, value []byte) error {
	if len(field) > MaxKey {
		return fault.About(fault.TooLarge, c.cmd.Name, "field", "max field size exceeded. Limit: %d bytes, Actual: %d bytes", MaxKey, len(field))
	}
	return c.checkSizes(c.args[1], int64(len(value)))
}

// checkFields does so for fields and values in turn.
func (c *call) checkFields(pairs [][]byte) error {
	for i := 0; i < len(pairs); i += 2 {
		if err := c.checkField(pairs[i], pairs[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// element answers with an element's bytes.
func (c *call) element(e element) {
	if e.number {
		c.out.Bulk(strconv.AppendInt(c.digits[:0], e.n, 10))
		return
	}
	c.out.Bulk(e.text)
}

func hset(c *call) error {
	key, pairs := c.args[1], c.args[2:]
	if len(pairs)%2 != 0 {
		return errArity(c)
	}
	h, it, err := lookup[*hashValue](c, key)
	if err != nil {
		return err
	}
	if err := c.checkFields(pairs); err != nil {
		return err
	}
	e := c.edit(h, it, key)
	var added int64
	for i := 0; i < len(pairs); i += 2 {
		if e.set(pairs[i], pairs[i+1], 0) {
			added++
		}
	}
	e.done()
	if c.cmd.Name == "HMSET" {
		c.out.Status("OK")
	} else {
		c.out.Int(added)
	}
	return nil
}

func hsetnx(c *call) error {
	key, field, value := c.args[1], c.args[2], c.args[3]
	h, it, err := lookup[*hashValue](c, key)
	if err != nil {
		return err
	}
	if err := c.checkField(field, value); err != nil {
		return err
	}
	if _, ok := h.get(c.now, field); ok {
		c.out.Int(0)
		return nil
	}
	e := c.edit(h, it, key)
	e.set(field, value, 0)
	e.done()
	c.out.Int(1)
	return nil
}

func hget(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	c.field(h, c.args[2])
	return nil
}

// field answers with the value of a field, of no hash when h is nil, and reports whether it is there.
func (c *call) field(h *hashValue, field []byte) bool {
	f, ok := h.get(c.now, field)
	if ok {
		c.element(f.value)
	} else {
		c.out.Null()
	}
	return ok
}

func hmget(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	for _, field := range c.args[2:] {
		c.field(h, field)
		c.step()
	}
	return nil
}

func hgetall(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Map(h.live(c.now))
	h.each(c.now, func(f hashField) bool {
		c.step()
		c.element(f.field)
		c.element(f.value)
		return true
	})
	return nil
}

func hkeys(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(h.live(c.now))
	h.each(c.now, func(f hashField) bool {
		c.step()
		c.element(f.field)
		return true
	})
	return nil
}

func hvals(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(h.live(c.now))
	h.each(c.now, func(f hashField) bool {
		c.step()
		c.element(f.value)
		return true
	})
	return nil
}

func hdel(c *call) error {
	h, it, err := lookup[*hashValue](c, c.args[1])
	if err != nil {
		return err
	}
	var removed int64
	if h != nil {
		e := c.edit(h, it, c.args[1])
		for _, field := range c.args[2:] {
			if e.remove(field) {
				removed++
			}
		}
		e.done()
	}
	c.out.Int(removed)
	return nil
}

func hexists(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	if _, ok := h.get(c.now, c.args[2]); ok {
		c.out.Int(1)
	} else {
		c.out.Int(0)
	}
	return nil
}

func hlen(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Int(int64(h.live(c.now)))
	return nil
}

func hstrlen(c *call) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	n := 0
	if f, ok := h.get(c.now, c.args[2]); ok {
		n = f.value.len()
	}
	c.out.Int(int64(n))
	return nil
}

func hincrby(c *call) error {
	key, field := c.args[1], c.args[2]
	by, ok := parseInt(c.args[3])
	if !ok {
		return errNotInteger
	}
	h, it, err := lookup[*hashValue](c, key)
	if err != nil {
		return err
	}
	f, there := h.get(c.now, field)
	n := f.value.n
	if there && !f.value.number {
		if n, ok = parseInt(f.value.text); !ok {
			return errHashNotInteger
		}
	}
	if n, ok = sum(n, by); !ok {
		return errIncrOverflow(c.cmd.Name)
	}
	value := strconv.AppendInt(c.digits[:0], n, 10)
	if err := c.checkField(field, value); err != nil {
		return err
	}
	c.replaceField(h, it, f, value)
	c.out.Int(n)
	return nil
}

// replaceField gives the field c.args[2] another value; f is what it was, nothing if it is new. Its deadline stays.
func (c *call) replaceField(h *hashValue, it *item, f hashField, value []byte) {
	e := c.edit(h, it, c.args[1])
	e.set(c.args[2], value, f.at)
	e.done()
}

func hincrbyfloat(c *call) error {
	key, field := c.args[1], c.args[2]
	by, ok := parseFloat(c.args[3])
	if !ok {
		return errNotFloat
	}
	if math.IsInf(by, 0) {
		return fault.New(fault.InvalidArgument, c.cmd.Name, "value is NaN or Infinity")
	}
	h, it, err := lookup[*hashValue](c, key)
	if err != nil {
		return err
	}
	old := []byte("0")
	f, there := h.get(c.now, field)
	if there {
		old = f.value.append(nil)
		if _, ok := parseFloat(old); !ok {
			return errHashNotFloat
		}
	}
	value, ok := addDecimals(old, c.args[3])
	if !ok {
		return fault.New(fault.Overflow, c.cmd.Name, "increment would produce NaN or Infinity")
	}
	if err := c.checkField(field, value); err != nil {
		return err
	}
	c.replaceField(h, it, f, value)
	c.out.Bulk(value)
	return nil
}

// A hashScan is what HSCAN was asked for.
type hashScan struct {
	cursor   uint64
	count    int64
	noValues bool
	pattern  *glob
}

func parseHashScan(c *call) (s hashScan, err error) {
	if s.cursor, err = parseCursor(c.args[2]); err != nil {
		return s, err
	}
	s.count = 10
	for i := 3; i < len(c.args); i++ {
		more := i+1 < len(c.args)
		switch a := c.args[i]; {
		case is(a, "COUNT") && more:
			i++
			n, ok := parseInt(c.args[i])
			if !ok {
				return s, errNotInteger
			}
			if n < 1 {
				return s, errSyntax
			}
			s.count = n
		case is(a, "MATCH") && more:
			i++
			if s.pattern, err = newGlob(c.cmd.Name, c.args[i]); err != nil {
				return s, err
			}
		case is(a, "NOVALUES"):
			s.noValues = true
		default:
			return s, errSyntax
		}
	}
	return s, nil
}

// hscan walks over a large hash in the order of its table; the cursor is where it goes on. What is there all the
// time is visited once. A small hash is returned whole, whatever the cursor, so a hash that becomes small on the way loses
// nothing, though it may return something twice.
func hscan(c *call) error {
	s, err := parseHashScan(c)
	if err != nil {
		return err
	}
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	var found []hashField
	next := uint64(0)
	consider := func(f hashField) bool {
		c.step()
		var buf [packedText]byte
		if s.pattern.match(text(f.field.append(buf[:0]))) {
			found = append(found, f)
		}
		return true
	}
	if h != nil && h.fields != nil {
		next = h.scan(s.cursor, c.now, func(visited int64) bool { return visited < s.count && !s.pattern.exhausted() }, consider)
	} else {
		h.each(c.now, consider)
	}
	c.out.Array(2)
	c.cursor(next)
	if s.noValues {
		c.out.Array(len(found))
	} else {
		c.out.Array(2 * len(found))
	}
	for _, f := range found {
		c.step()
		c.element(f.field)
		if !s.noValues {
			c.element(f.value)
		}
	}
	return nil
}

// scan visits the fields of a large hash from a position on, as long as more allows it for so many of them, and returns
// the position of the first one that it did not come to, 0 at the end. Fields that share a position are visited together.
func (h *hashValue) scan(from uint64, now int64, more func(visited int64) bool, visit func(f hashField) bool) (next uint64) {
	last, visited := uint64(0), int64(0)
	h.fields.Each(from, func(position uint64, r dense.Ref) bool {
		if (visited == 0 || position != last) && !more(visited) {
			next = position
			return false
		}
		last = position
		visited++
		f := h.open(r)
		return f.expiredAt(now) || visit(f)
	})
	return next
}

// maxFields bounds how many fields one HRANDFIELD may return beyond the size of the hash, and maxFieldBytes how many
// bytes: a negative count would otherwise make an answer of any size out of a few bytes.
const (
	maxFields     = 1 << 20
	maxFieldBytes = HardMaxValue
)

func hrandfield(c *call) error {
	key := c.args[1]
	if len(c.args) == 2 {
		h, err := c.hashAt(key)
		if err != nil {
			return err
		}
		if h == nil {
			c.out.Null()
			return nil
		}
		c.element(h.draw(c.p.random(), c.now, -1)[0].field)
		return nil
	}
	count, ok := parseInt(c.args[2])
	if !ok {
		return errNotInteger
	}
	withValues := len(c.args) == 4 && is(c.args[3], "WITHVALUES")
	if len(c.args) > 4 || (len(c.args) == 4 && !withValues) {
		return errSyntax
	}
	if count < -maxFields {
		return fault.About(fault.OutOfRange, c.cmd.Name, "count", "value is out of range, must be at least %d", -maxFields)
	}
	h, err := c.hashAt(key)
	if err != nil {
		return err
	}
	drawn := h.draw(c.p.random(), c.now, count)
	var size int64
	for _, f := range drawn {
		size += int64(f.field.len())
		if withValues {
			size += int64(f.value.len())
		}
	}
	if size > maxFieldBytes {
		return fault.About(fault.TooLarge, c.cmd.Name, "count", "the answer would have %d bytes: the limit is %d", size, int64(maxFieldBytes))
	}
	if withValues {
		c.out.Pairs(len(drawn))
	} else {
		c.out.Array(len(drawn))
	}
	for _, f := range drawn {
		c.step()
		c.element(f.field)
		if withValues {
			c.element(f.value)
		}
	}
	return nil
}

// draw returns count different fields that are there, or all of them; for a negative count -count, each drawn from all.
// From a large hash it draws one by one, unless most of what it would meet is of no use: then it goes over all.
func (h *hashValue) draw(dice *rand.Rand, now, count int64) []hashField {
	n := int64(h.live(now))
	if n == 0 || count == 0 {
		return nil
	}
	if h.fields == nil || count >= n/4 || n < int64(h.size()/2) {
		all := make([]hashField, 0, n)
		h.each(now, func(f hashField) bool {
			all = append(all, f)
			return true
		})
		return draw(dice, all, count)
	}
	again := count < 0
	drawn := make([]hashField, 0, max(count, -count))
	met := map[dense.Ref]bool{}
	for len(drawn) < cap(drawn) {
		r := h.fields.Draw(dice.Uint64)
		f := h.open(r)
		if f.expiredAt(now) || (!again && met[r]) {
			continue
		}
		met[r] = !again
		drawn = append(drawn, f)
	}
	return drawn
}

// draw returns count different entries, or all there are; for a negative count -count, each drawn from all.
func draw[E any](dice *rand.Rand, entries []E, count int64) (drawn []E) {
	n := len(entries)
	switch {
	case n == 0:
		return nil
	case count < 0:
		for range -count {
			drawn = append(drawn, entries[dice.IntN(n)])
		}
		return drawn
	case count >= int64(n):
		return entries
	}
	// Floyd's way: the last count places in turn, or any place before them.
	taken := make(map[int]bool, count)
	for top := n - int(count); top < n; top++ {
		i := dice.IntN(top + 1)
		if taken[i] {
			i = top
		}
		taken[i] = true
		drawn = append(drawn, entries[i])
	}
	return drawn
}
