package transfer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine/rdb"
)

// maxDirty bounds the keys of which events tell that they have changed, and that have not been copied again. If there are
// more, a pass over all keys finds them.
const maxDirty = 1 << 20

// A Scan copies a source that takes no replica: key by key, by SCAN and DUMP. Events of the source, where it tells them, say
// which keys are to be copied again; passes over all keys find what they did not say.
type Scan struct {
	*Migration
	Report *Report
	To     Server        // the target, to be asked
	Every  time.Duration // how long is waited between two passes; 0 for the default

	source *asked
	copied map[[16]byte]bool // keys that this migration has stored, by a sum

	mu    sync.Mutex
	dirty map[place]bool
	mute  map[place]bool // streams, of whose groups no events tell
	over  bool           // some could not be kept
	deaf  bool           // the source tells no events, or none any more
}

type place struct {
	db  int
	key string
}

func (p place) sum() (s [16]byte) {
	whole := sha256.Sum256([]byte(strconv.Itoa(p.db) + " " + p.key))
	copy(s[:], whole[:])
	return s
}

// betweenPasses is how long is waited between two passes over all keys, where no events are told, and over all streams.
const betweenPasses = 10 * time.Second

// Run copies everything, verifies it in a second pass, and then goes on with what changes, until ctx ends. caughtUp is called
// when the second pass is done.
func (s *Scan) Run(ctx context.Context, caughtUp func()) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.source, err = s.Source.server(ctx); err != nil {
		return err
	}
	defer s.source.Close()
	s.follows.Store(followsByScan)
	defer s.follows.Store(followsNot)
	s.copied, s.dirty, s.mute = map[[16]byte]bool{}, map[place]bool{}, map[place]bool{}
	if err := s.listen(ctx); err != nil {
		s.deaf = true
		s.Report.note("the source tells no events of its keys: what is written while this runs is found by passes over all keys, so let nothing write before the last one")
		s.Log("The source tells no events of its keys (%v): changes are found by passes over all keys.", err)
	}
	if err := s.pass(ctx, false); err != nil {
		return err
	}
	s.Log("The copy is there: %d keys. Now a second pass verifies it.", s.Report.Keys)
	for first := true; ; first = false {
		if err := s.again(ctx); err != nil {
			return err
		}
		if err := s.pass(ctx, true); err != nil {
			return err
		}
		if err := s.again(ctx); err != nil {
			return err
		}
		if first && caughtUp != nil {
			caughtUp()
		}
		every := cmp.Or(s.Every, betweenPasses)
		for until := time.Now().Add(every); !s.lost() || time.Now().Before(until); {
			if time.Now().After(until) {
				until = time.Now().Add(every)
				s.mu.Lock()
				maps.Copy(s.dirty, s.mute)
				s.mu.Unlock()
			}
			if err := sleep(ctx, lingering); err != nil {
				return err
			}
			if err := s.again(ctx); err != nil {
				return err
			}
		}
	}
}

// lost reports whether changes may have been missed.
func (s *Scan) lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deaf || s.over
}

// listen has the source tell which keys change.
func (s *Scan) listen(ctx context.Context) error {
	c, err := s.Source.dial(ctx)
	if err != nil {
		return err
	}
	v, err := c.do("CONFIG", "GET", "notify-keyspace-events")
	if err != nil {
		return err
	}
	classes := ""
	if list, _ := v.([]any); len(list) == 2 {
		text, _ := list[1].([]byte)
		classes = string(text)
	}
	if !strings.Contains(classes, "E") || !strings.Contains(classes, "A") {
		s.Log("The source is asked to tell events of its keys (CONFIG SET notify-keyspace-events %sEA).", classes)
		if _, err := c.do("CONFIG", "SET", "notify-keyspace-events", classes+"EA"); err != nil {
			return err
		}
	}
	if _, err := c.do("PSUBSCRIBE", "__keyevent@*__:*"); err != nil {
		return err
	}
	go func() {
		for {
			v, err := c.answer()
			if err != nil {
				s.mu.Lock()
				s.deaf = true
				s.mu.Unlock()
				return
			}
			s.event(v)
		}
	}()
	go func() { // so that an idle source is heard of, too
		for sleep(ctx, idleTimeout/4) == nil && c.send(command("PING")) == nil {
		}
	}()
	return nil
}

func (s *Scan) event(v any) {
	list, _ := v.([]any)
	if len(list) != 4 {
		return
	}
	channel, _ := list[2].([]byte)
	key, _ := list[3].([]byte)
	number, _, _ := strings.Cut(strings.TrimPrefix(string(channel), "__keyevent@"), "__:")
	db, err := strconv.Atoi(number)
	if err != nil || s.Source.DB >= 0 && db != s.Source.DB {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dirty) >= maxDirty {
		s.over = true
		return
	}
	s.dirty[place{db, string(key)}] = true
}

// again copies the keys that have changed.
func (s *Scan) again(ctx context.Context) error {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = map[place]bool{}
	s.mu.Unlock()
	keys := map[int][][]byte{}
	for p := range dirty {
		keys[p.db] = append(keys[p.db], []byte(p.key))
	}
	for db, list := range keys {
		found, err := dumps(ctx, s.source, db, list)
		if err != nil {
			return err
		}
		if err := s.store(ctx, db, list, found); err != nil {
			return err
		}
		s.tell(func(now *Moved) { now.Phase = "following"; now.Commands += int64(len(list)) })
	}
	return nil
}

// pass visits all keys and copies them; one that verifies copies those that are not the same, and removes those of the target
// that were copied and that the source has no more.
func (s *Scan) pass(ctx context.Context, verify bool) error {
	s.mu.Lock()
	s.over = false
	s.mu.Unlock()
	dbs, err := s.databases(s.source)
	if err != nil {
		return err
	}
	for _, db := range dbs {
		err := scan(ctx, s.source, db, func(keys [][]byte) error { return s.page(ctx, db, keys, verify) })
		if err != nil {
			return err
		}
	}
	if !verify {
		return nil
	}
	for db := range 16 {
		if s.Source.DB >= 0 && db != s.Source.DB {
			continue
		}
		err := scan(ctx, s.To, db, func(keys [][]byte) error { return s.remove(ctx, db, keys) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Scan) page(ctx context.Context, db int, keys [][]byte, verify bool) error {
	found, err := dumps(ctx, s.source, db, keys)
	if err != nil {
		return err
	}
	if verify {
		there, err := dumps(ctx, s.To, db, keys)
		if err != nil {
			return err
		}
		n := 0
		for i := range keys {
			if same, _, err := equal(&found[i], &there[i]); !same || err != nil {
				keys[n], found[n] = keys[i], found[i]
				n++
			}
		}
		keys, found = keys[:n], found[:n]
	}
	return s.store(ctx, db, keys, found)
}

// store stores what was found, and deletes what was not.
func (s *Scan) store(ctx context.Context, db int, keys [][]byte, found []dumped) error {
	var commands []Command
	var of [][]byte
	size := 0
	flush := func() error {
		if len(commands) == 0 {
			return nil
		}
		results, err := persist(ctx, func() ([]error, error) { return s.Target.Do(ctx, db, commands, false) })
		if err != nil {
			return err
		}
		for i, failure := range results {
			if failure != nil {
				s.Report.skip(failure.Error(), string(of[i]), 0)
			}
		}
		commands, of, size = nil, nil, 0
		return nil
	}
	now := time.Now().UnixMilli()
	for i, d := range found {
		p := place{db, string(keys[i])}
		c := Command{[]byte("DEL"), keys[i]}
		switch {
		case d.err != nil:
			s.Report.skip("a value that the source does not dump: "+d.err.Error(), p.key, 0)
			continue
		case d.payload != nil:
			at := int64(0)
			if d.ttl >= 0 {
				at = now + max(d.ttl, 1)
			}
			kind := rdb.Unknown
			if len(d.payload) > 0 {
				kind = rdb.Type(d.payload[0]).Kind()
			}
			if kind == rdb.Stream && len(s.mute) < maxDirty {
				s.mute[p] = true
			}
			if sum := p.sum(); !s.copied[sum] {
				s.copied[sum] = true
				s.Report.counted(kindNames[kind])
			}
			c = Command{[]byte("RESTORE"), keys[i], strconv.AppendInt(nil, at, 10), d.payload, []byte("ABSTTL"), []byte("REPLACE")}
		}
		commands, of, size = append(commands, c), append(of, keys[i]), size+c.size()
		if len(commands) == batchCommands || size > batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	s.tell(func(now *Moved) {
		if now.Keys = s.Report.Keys; now.Phase == "" {
			now.Phase = "copying"
		}
	})
	return flush()
}

// remove deletes keys of the target that were copied and that the source has no more.
func (s *Scan) remove(ctx context.Context, db int, keys [][]byte) error {
	var own []Command
	var names [][]byte
	for _, k := range keys {
		if s.copied[place{db, string(k)}.sum()] {
			own, names = append(own, Command{[]byte("EXISTS"), k}), append(names, k)
		}
	}
	if len(own) == 0 {
		return nil
	}
	answers, err := s.source.Ask(ctx, db, own)
	if err != nil {
		return err
	}
	var gone [][]byte
	for i, a := range answers {
		if n, _ := a.(int64); n == 0 {
			gone = append(gone, names[i])
		}
	}
	return s.store(ctx, db, gone, make([]dumped, len(gone)))
}
