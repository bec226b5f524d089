package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/engine/rdb"
)

// A Server is somebody who answers commands: nil, []byte, int64, []any, or an error in the place of the answer to one.
type Server interface {
	Ask(ctx context.Context, db int, commands []Command) ([]any, error)
}

// An asked connection asks a source. It is for one goroutine at a time.
type asked struct {
	*conn
	db int
}

// Ask implements Server.
func (s *asked) Ask(_ context.Context, db int, commands []Command) ([]any, error) {
	if db != s.db {
		if _, err := s.do("SELECT", strconv.Itoa(db)); err != nil {
			return nil, err
		}
		s.db = db
	}
	if err := s.send(commands...); err != nil {
		return nil, err
	}
	answers := make([]any, len(commands))
	for i := range answers {
		v, err := s.answer()
		if err != nil && !isAnswer(err) {
			return nil, err
		}
		if answers[i] = v; err != nil {
			answers[i] = err
		}
	}
	return answers, nil
}

// server connects to the source, to ask it.
func (s *Source) server(ctx context.Context) (*asked, error) {
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	return &asked{c, 0}, nil
}

// databases lists those of the source that have keys.
func (m *Migration) databases(c *asked) (list []int, err error) {
	v, err := c.do("INFO", "keyspace")
	if err != nil {
		if m.Source.DB >= 0 {
			return []int{m.Source.DB}, nil
		}
		return nil, fmt.Errorf("the source does not tell its databases; name one in the URL: %w", err)
	}
	text, _ := v.([]byte)
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, ":")
		if n, err := strconv.Atoi(strings.TrimPrefix(name, "db")); err == nil && strings.HasPrefix(name, "db") && (m.Source.DB < 0 || n == m.Source.DB) {
			list = append(list, n)
		}
	}
	return list, nil
}

// scan visits the keys of a database, some of them perhaps twice.
func scan(ctx context.Context, s Server, db int, visit func(keys [][]byte) error) error {
	cursor := []byte("0")
	for {
		answers, err := s.Ask(ctx, db, []Command{{[]byte("SCAN"), cursor, []byte("COUNT"), []byte("250")}})
		if err != nil {
			return err
		}
		page, _ := answers[0].([]any)
		if len(page) != 2 {
			return fmt.Errorf("SCAN answers %.200v", answers[0])
		}
		next, _ := page[0].([]byte)
		list, _ := page[1].([]any)
		keys := make([][]byte, 0, len(list))
		for _, k := range list {
			if key, ok := k.([]byte); ok {
				keys = append(keys, key)
			}
		}
		if len(keys) > 0 {
			if err := visit(keys); err != nil {
				return err
			}
		}
		if cursor = next; len(next) == 0 || string(next) == "0" {
			return nil
		}
	}
}

// A dumped value is what a server says of a key.
type dumped struct {
	payload []byte // nil if there is no such key
	ttl     int64  // milliseconds, -1 for ever
	err     error  // why it cannot be told
}

// dumps asks for keys, a few megabytes or so at a time.
func dumps(ctx context.Context, s Server, db int, keys [][]byte) ([]dumped, error) {
	const atOnce = 32
	all := make([]dumped, 0, len(keys))
	for part := range slices.Chunk(keys, atOnce) {
		commands := make([]Command, 0, 2*len(part))
		for _, k := range part {
			commands = append(commands, Command{[]byte("PTTL"), k}, Command{[]byte("DUMP"), k})
		}
		answers, err := s.Ask(ctx, db, commands)
		if err != nil {
			return nil, err
		}
		for i := 0; i+1 < len(answers); i += 2 {
			var d dumped
			d.ttl, _ = answers[i].(int64)
			switch v := answers[i+1].(type) {
			case []byte:
				d.payload = v
			case error:
				d.err = v
			}
			all = append(all, d)
		}
	}
	return all, nil
}

// A summing sink makes a digest of a value, which does not depend on how it is written: where the order of elements does not
// count, the sums of elements are added up. Times at which consumers did something are left out.
type summing struct {
	ordered bool
	sum     [sha256.Size]byte
	b       []byte
}

func (s *summing) add(kind byte, numbers []uint64, texts ...[]byte) error {
	s.b = append(s.b[:0], kind)
	if s.ordered {
		s.b = append(s.b, s.sum[:]...)
	}
	for _, n := range numbers {
		s.b = binary.BigEndian.AppendUint64(s.b, n)
	}
	for _, t := range texts {
		s.b = append(binary.AppendUvarint(s.b, uint64(len(t))), t...)
	}
	sum := sha256.Sum256(s.b)
	if s.ordered {
		s.sum = sum
		return nil
	}
	for i := range sum {
		s.sum[i] ^= sum[i]
	}
	return nil
}

func (s *summing) String(b []byte) error  { return s.add('s', nil, b) }
func (s *summing) Element(b []byte) error { return s.add('e', nil, b) }
func (s *summing) Member(b []byte, f float64) error {
	return s.add('m', []uint64{math.Float64bits(f + 0)}, b)
}
func (s *summing) Field(b, v []byte, at int64) error { return s.add('f', []uint64{uint64(at)}, b, v) }
func (s *summing) Entry(id rdb.StreamID, f [][]byte) error {
	return s.add('x', []uint64{id.Ms, id.Seq}, f...)
}
func (s *summing) Stream(m rdb.StreamMarks) error {
	return s.add('y', []uint64{m.Last.Ms, m.Last.Seq})
}
func (s *summing) Group(b []byte, last rdb.StreamID, _ int64) error {
	return s.add('g', []uint64{last.Ms, last.Seq}, b)
}
func (s *summing) Pending(id rdb.StreamID, _ int64, n uint64) error {
	return s.add('p', []uint64{id.Ms, id.Seq, n})
}
func (s *summing) Consumer(b []byte, _, _ int64) error { return s.add('c', nil, b) }
func (s *summing) Owed(id rdb.StreamID) error          { return s.add('o', []uint64{id.Ms, id.Seq}) }

// digest is that of a dump, whichever server made it.
func digest(payload []byte) (kind rdb.Kind, sum [sha256.Size]byte, err error) {
	value, version, err := rdb.OpenDump(payload)
	if err != nil {
		return 0, sum, err
	}
	d := rdb.NewDecoder(value, version, rdb.Limits{Text: maxAnswer, Total: math.MaxInt64, Elements: math.MaxInt64})
	t, err := d.Type()
	if err != nil {
		return 0, sum, err
	}
	s := &summing{ordered: t.Kind() == rdb.List || t.Kind() == rdb.Stream}
	err = d.Value(t, s)
	return t.Kind(), s.sum, err
}

// closeTTL is by how many milliseconds two times to live may differ that are asked one after the other over a network.
const closeTTL = 5000

// equal reports whether two servers, of which b may be a target, say the same of a key.
func equal(a, b *dumped) (bool, rdb.Kind, error) {
	if a.payload == nil || b.payload == nil {
		return (a.payload == nil) == (b.payload == nil), 0, nil
	}
	kind, x, err := digest(a.payload)
	if err != nil {
		return false, kind, err
	}
	_, y, err := digest(b.payload)
	if err != nil {
		return false, kind, err
	}
	near := a.ttl == b.ttl || a.ttl >= 0 && b.ttl >= 0 && a.ttl-b.ttl < closeTTL && b.ttl-a.ttl < closeTTL+putOff
	return x == y && near, kind, nil
}

// A Comparison is what two servers have in common.
type Comparison struct {
	Keys      int64            `json:"keys"` // of the source, that were compared
	ByType    map[string]int64 `json:"by_type"`
	Equal     int64            `json:"equal"`
	Different int64            `json:"different"`
	Missing   int64            `json:"missing"`  // in the target
	Extra     int64            `json:"extra"`    // in the target alone
	Changing  int64            `json:"changing"` // that changed whenever they were looked at
	Unknown   int64            `json:"unknown"`  // whose values could not be read, such as those of modules
	Source    int64            `json:"source"`   // keys that the source says it has
	Target    int64            `json:"target"`   // the same of the target
	Examples  []string         `json:"examples,omitempty"`

	m *Migration
}

// Same reports whether nothing was found that differs.
func (c *Comparison) Same() bool { return c.Different+c.Missing+c.Extra == 0 }

func (c *Comparison) example(what string, key []byte) {
	const most = 20
	if len(c.Examples) < most {
		c.Examples = append(c.Examples, fmt.Sprintf("%s: %.200q", what, key))
	}
}

// How often, and after how long, a key is looked at again that is not the same on both sides: what was written to the source
// is on its way.
const (
	looks     = 8
	sureLook  = 4 // a key that is what it was may have been something else in between
	lookAfter = 250 * time.Millisecond
)

// Compare compares every key, or about one of every so many: their values by a digest, and their times to live. While data go
// on being written, what differs is looked at again.
func (m *Migration) Compare(ctx context.Context, target Server, oneOf int, told func(keys int64)) (*Comparison, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	source, err := m.Source.server(ctx)
	if err != nil {
		return nil, err
	}
	dbs, err := m.databases(source)
	if err != nil {
		return nil, err
	}
	c := &Comparison{ByType: map[string]int64{}, m: m}
	for _, db := range dbs {
		if err := c.database(ctx, source, target, db, oneOf, told); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *Comparison) database(ctx context.Context, source *asked, target Server, db, oneOf int, told func(int64)) error {
	page := 0
	err := scan(ctx, source, db, func(keys [][]byte) error {
		if page++; oneOf > 1 && page%oneOf != 1 {
			return nil
		}
		err := c.keys(ctx, source, target, db, keys)
		if told != nil {
			told(c.Keys)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, s := range []struct {
		server Server
		n      *int64
	}{{source, &c.Source}, {target, &c.Target}} {
		answers, err := s.server.Ask(ctx, db, []Command{command("DBSIZE")})
		if err != nil {
			return err
		}
		n, _ := answers[0].(int64)
		*s.n += n
	}
	if oneOf > 1 {
		return nil
	}
	return scan(ctx, target, db, func(keys [][]byte) error { return c.extras(ctx, source, target, db, keys) })
}

// keys compares some keys, those that differ again and again. What counts as different has not changed in the source while the
// target caught up with it.
func (c *Comparison) keys(ctx context.Context, source *asked, target Server, db int, keys [][]byte) error {
	for look := 1; len(keys) > 0; look++ {
		if look == 1 {
			c.Keys += int64(len(keys))
		} else if err := sleep(ctx, lookAfter); err != nil {
			return err
		}
		a, err := dumps(ctx, source, db, keys)
		if err != nil {
			return err
		}
		if look > 1 {
			if err := c.m.settle(ctx, source); err != nil {
				return err
			}
		}
		b, err := dumps(ctx, target, db, keys)
		if err != nil {
			return err
		}
		var differ []int
		for i, key := range keys {
			same, kind, err := equal(&a[i], &b[i])
			if err == nil {
				err = errors.Join(a[i].err, b[i].err)
			}
			switch {
			case err != nil:
				c.Unknown++
				c.example(fmt.Sprintf("cannot be compared (%.80v)", err), key)
			case same:
				if c.Equal++; kind != rdb.Unknown { // neither has it any more
					c.ByType[kindNames[kind]]++
				}
			default:
				differ = append(differ, i)
			}
		}
		if keys, err = c.judge(ctx, source, db, keys, differ, look, a, b); err != nil {
			return err
		}
	}
	return nil
}

// judge says of keys that differ whether they do because the source has changed meanwhile, and returns those that are to be
// looked at again.
func (c *Comparison) judge(ctx context.Context, source *asked, db int, keys [][]byte, differ []int, look int, a, b []dumped) (again [][]byte, err error) {
	for _, i := range differ {
		again = append(again, keys[i])
	}
	if look == 1 || len(again) == 0 {
		return again, nil
	}
	after, err := dumps(ctx, source, db, again)
	if err != nil {
		return nil, err
	}
	again = nil
	for n, i := range differ {
		changed := string(after[n].payload) != string(a[i].payload) || (after[n].payload == nil) != (a[i].payload == nil)
		switch key := keys[i]; {
		case look < sureLook, look < looks && (changed || c.m.follows.Load() == followsByScan):
			again = append(again, key)
		case changed:
			c.Changing++
			c.example("changes all the time", key)
		case b[i].payload == nil:
			c.Missing++
			c.example("missing", key)
		default:
			c.Different++
			c.example("different", key)
		}
	}
	return again, nil
}

// extras finds keys that the target alone has.
func (c *Comparison) extras(ctx context.Context, source, target Server, db int, keys [][]byte) error {
	for look := 1; len(keys) > 0; look++ {
		commands := make([]Command, len(keys))
		for i, k := range keys {
			commands[i] = Command{[]byte("EXISTS"), k}
		}
		in, err := source.Ask(ctx, db, commands)
		if err != nil {
			return err
		}
		has, err := target.Ask(ctx, db, commands)
		if err != nil {
			return err
		}
		var again [][]byte
		for i, key := range keys {
			n, _ := in[i].(int64)
			own, _ := has[i].(int64)
			switch {
			case n > 0 || own == 0:
			case look < looks:
				again = append(again, key)
			default:
				c.Extra++
				c.example("in the target alone", key)
			}
		}
		if keys = again; len(keys) > 0 {
			if err := sleep(ctx, lookAfter); err != nil {
				return err
			}
		}
	}
	return nil
}
