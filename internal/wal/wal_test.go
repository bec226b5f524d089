package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larder-cache/larder/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A model is what the records of a log have to be.
type model struct {
	appended map[uint64]Record // that no recovery has dropped
	acked    uint64            // synced, as the log said
	base     map[uint32]uint64 // of each partition: it has a state file up to there
}

func newLog(files Files, keys seal.KMS, segment int64) *Log {
	l := New(Config{Files: files, Keys: keys, Cluster: "c", Node: "n", Segment: segment, Fail: func(err error) { panic(err) }})
	l.alone = true
	return l
}

// recover opens the log and compares what it holds with the model.
func (m *model) recover(l *Log) error {
	found := map[uint64]bool{}
	last := map[uint32]uint64{}
	floor := uint64(0)
	for _, b := range m.base {
		floor = max(floor, b)
	}
	err := l.Recover(floor, func(r Record) error {
		want, ok := m.appended[r.Index]
		if !ok || want.Partition != r.Partition || want.Kind != r.Kind || !bytes.Equal(want.Data, r.Data) {
			return fmt.Errorf("record %d of partition %d is not one that was appended", r.Index, r.Partition)
		}
		if r.Index <= last[r.Partition] {
			return fmt.Errorf("W1: record %d comes behind %d", r.Index, last[r.Partition])
		}
		last[r.Partition] = r.Index
		found[r.Index] = true
		return nil
	}, func(d *Damage) { panic(d) })
	if err != nil {
		return err
	}
	highest := floor
	for index := range found {
		highest = max(highest, index)
	}
	for index, r := range m.appended {
		switch {
		case found[index] || index <= m.base[r.Partition]:
		case index <= m.acked:
			return fmt.Errorf("record %d of partition %d was safe, and is gone", index, r.Partition)
		case index < highest && index > floor:
			return fmt.Errorf("record %d is gone, and a later one is there", index)
		default:
			delete(m.appended, index)
		}
	}
	if l.Last() < highest || l.Last() < m.acked {
		return fmt.Errorf("the next record would get index %d, which was given out", l.Last()+1)
	}
	m.acked = l.Synced()
	return nil
}

// life appends until it ends or the disk crashes.
func (m *model) life(l *Log, dice *rand.Rand) {
	for range 1 + dice.IntN(12) {
		for range 1 + dice.IntN(6) {
			data := make([]byte, []int{0, 3, 40, 700, 3000, 9000}[dice.IntN(6)])
			for i := range data {
				data[i] = byte(dice.Uint32())
			}
			p := uint32(dice.IntN(3))
			index := l.Append(p, byte(dice.IntN(4)), data, true)
			m.appended[index] = Record{p, index, 0, data}
			r := m.appended[index]
			r.Kind = l.line.b[len(l.line.b)-len(data)-len(binary.AppendUvarint(nil, uint64(len(data))))-1]
			m.appended[index] = r
		}
		if err := l.flush(); err != nil {
			panic(err)
		}
		m.acked = l.Synced()
		if dice.IntN(4) == 0 {
			p := uint32(dice.IntN(3))
			m.base[p] = max(m.base[p], m.acked-min(m.acked, dice.Uint64N(8)))
			if err := l.Release(p, m.base[p]); err != nil {
				panic(err)
			}
		}
	}
}

func crashes(fn func()) (crashed bool) {
	defer func() {
		if r := recover(); r != nil {
			if r != errCrash {
				panic(r)
			}
			crashed = true
		}
	}()
	fn()
	return false
}

// TestNothingThatWasSyncedIsLost has a machine crash at any operation, also while it recovers from the crash before.
func TestNothingThatWasSyncedIsLost(t *testing.T) {
	seeds := 400
	if n, err := strconv.Atoi(os.Getenv("SEEDS")); err == nil {
		seeds = n
	}
	keys := seal.NewKey()
	recovered, torn := 0, 0
	for seed := range seeds {
		dice := rand.New(rand.NewPCG(uint64(seed), 7))
		d := &disk{dice: dice, names: map[string]*platter{}, left: -1}
		m := &model{appended: map[uint64]Record{}, base: map[uint32]uint64{}}
		for range 6 {
			d.left = dice.IntN(60)
			l := newLog(d, keys, 16<<10)
			if crashes(func() {
				if err := m.recover(l); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				recovered++
				m.life(l, dice)
			}) {
				torn++
			}
			d.crash()
		}
	}
	if torn < seeds || recovered < 3*seeds {
		t.Errorf("%d recoveries, %d crashes in the middle: the test does not try what it should", recovered, torn)
	}
}

// written makes a log of so many batches, and returns the disk and where each batch's block begins.
func written(t *testing.T, keys seal.KMS, batches int) *disk {
	t.Helper()
	d := &disk{dice: rand.New(rand.NewPCG(1, 1)), names: map[string]*platter{}, left: -1}
	l := newLog(d, keys, 16<<10)
	if err := l.Recover(0, nil, nil); err != nil {
		t.Fatal(err)
	}
	for i := range batches {
		l.Append(uint32(i%5), 'e', bytes.Repeat([]byte{byte(i)}, 1000), true)
		if err := l.flush(); err != nil {
			t.Fatal(err)
		}
		if i%7 == 3 || i == batches-1 {
			if err := l.rest(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if l.open {
		t.Fatal("the segment has no room for the last block that rests")
	}
	return d
}

func TestDamageIsTold(t *testing.T) {
	keys := seal.NewKey()
	pristine := written(t, keys, 40)
	names, _ := pristine.List()
	dice := rand.New(rand.NewPCG(5, 5))
	tried := 0
	for range 1000 {
		d := &disk{dice: dice, names: map[string]*platter{}, left: -1}
		for n, p := range pristine.names {
			d.names[n] = &platter{now: bytes.Clone(p.now), kept: bytes.Clone(p.now)}
		}
		name := names[dice.IntN(len(names))]
		content := d.names[name].now
		at := dice.IntN(len(content))
		content[at] ^= 1 << dice.IntN(8)
		var records int
		var damage []*Damage
		last := -1
		err := newLog(d, keys, 16<<10).Recover(0, func(r Record) error {
			i := int(r.Index) - 1
			if r.Partition != uint32(i%5) || !bytes.Equal(r.Data, bytes.Repeat([]byte{byte(i)}, 1000)) {
				t.Fatalf("%s, byte %d: record %d is another", name, at, r.Index)
			}
			if i <= last {
				t.Fatalf("%s, byte %d: record %d comes behind %d", name, at, r.Index, last+1)
			}
			for missing := last + 1; missing < i; missing++ {
				told := false
				for _, dm := range damage {
					told = told || dm.Affects(uint32(missing%5))
				}
				if !told {
					t.Fatalf("%s, byte %d: record %d is missing, and nobody was told", name, at, missing+1)
				}
			}
			last = i
			records++
			return nil
		}, func(dm *Damage) { damage = append(damage, dm) })
		if err != nil { // a head that names another key, for one
			continue
		}
		if records < 40 {
			tried++
		}
		if records < 40 && len(damage) == 0 { // the last one as well: the log has rested behind it
			t.Fatalf("%s, byte %d: %d records of 40 came, and no word of damage", name, at, records)
		}
	}
	if tried < 300 {
		t.Errorf("only %d of the changes hit something", tried)
	}
}

func TestASegmentThatIsGoneIsMissed(t *testing.T) {
	keys := seal.NewKey()
	d := written(t, keys, 40)
	delete(d.names, nameOf(2))
	var damage *Damage
	if err := newLog(d, keys, 16<<10).Recover(0, func(Record) error { return nil }, func(dm *Damage) { damage = dm }); err != nil {
		t.Fatal(err)
	}
	if damage == nil || !damage.Affects(0) || !damage.Affects(63) {
		t.Errorf("told: %v", damage)
	}
}

func TestALogOfAnotherKeyIsNotTouched(t *testing.T) {
	d := written(t, seal.NewKey(), 40)
	before := len(d.names)
	err := newLog(d, seal.NewKey(), 16<<10).Recover(0, func(Record) error { t.Error("a record"); return nil }, func(*Damage) { t.Error("damage") })
	if err == nil || len(d.names) != before {
		t.Errorf("%v, and %d files of %d are there", err, len(d.names), before)
	}
}

func TestSegmentsGoThatNobodyNeeds(t *testing.T) {
	keys := seal.NewKey()
	d := &disk{dice: rand.New(rand.NewPCG(1, 1)), names: map[string]*platter{}, left: -1}
	l := newLog(d, keys, 16<<10)
	if err := l.Recover(0, nil, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		l.Append(uint32(i%2), 'e', make([]byte, 1000), true)
		if err := l.flush(); err != nil {
			t.Fatal(err)
		}
	}
	full := len(d.names)
	if err := l.Release(0, 100); err != nil || len(d.names) != full {
		t.Fatalf("partition 1 needs all %d segments, and %d are there: %v", full, len(d.names), err)
	}
	if p, some := l.Pins(); !some || p != 1 {
		t.Errorf("pinned by %d, %v", p, some)
	}
	if err := l.Release(1, 60); err != nil || len(d.names) >= full || len(d.names) < 3 {
		t.Errorf("%d of %d segments are there: %v", len(d.names), full, err)
	}
	if err := l.Release(1, 100); err != nil || len(d.names) != 1 || l.Size() != 16<<10 {
		t.Errorf("%d segments are there, of %d bytes: %v", len(d.names), l.Size(), err)
	}
}

// TestWritersShareASync is the log as it runs, on the operating system's files.
func TestWritersShareASync(t *testing.T) {
	dir := Dir(t.TempDir())
	keys := seal.NewKey()
	open := func() *Log {
		return New(Config{Files: dir, Keys: keys, Cluster: "c", Node: "n", Segment: 64 << 10, Fail: func(err error) { t.Error(err) }})
	}
	l := open()
	if err := l.Recover(0, nil, nil); err != nil {
		t.Fatal(err)
	}
	go l.Run()
	const writers, each = 8, 50
	var all sync.WaitGroup
	canary := []byte("canary-in-the-log")
	for w := range writers {
		all.Go(func() {
			for i := range each {
				index := l.Append(uint32(w), 'e', fmt.Appendf(nil, "%s %d %d", canary, w, i), true)
				if err := l.Wait(context.Background(), index); err != nil || l.Synced() < index {
					t.Errorf("record %d: %v, synced %d", index, err, l.Synced())
				}
			}
		})
	}
	all.Wait()
	lazy := l.Append(1, 'l', []byte("nobody waits"), false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := dir.List()
	for _, name := range files {
		if b, _ := os.ReadFile(filepath.Join(string(dir), name)); bytes.Contains(b, canary) || bytes.Contains(b, []byte("nobody")) {
			t.Errorf("%s holds plain text", name)
		}
	}
	l = open()
	next := make([]int, writers)
	found := false
	if err := l.Recover(0, func(r Record) error {
		if r.Index == lazy {
			found = true
			return nil
		}
		if want := fmt.Sprintf("%s %d %d", canary, r.Partition, next[r.Partition]); string(r.Data) != want {
			t.Errorf("found %q, want %q", r.Data, want)
		}
		next[r.Partition]++
		return nil
	}, func(d *Damage) { t.Error(d) }); err != nil {
		t.Fatal(err)
	}
	for w, n := range next {
		if n != each {
			t.Errorf("writer %d: %d records of %d", w, n, each)
		}
	}
	if !found {
		t.Error("what stood in line when the log was closed is gone")
	}
	go l.Run()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestALazyRecordIsSyncedBeforeLong(t *testing.T) {
	l := New(Config{Files: Dir(t.TempDir()), Keys: seal.NewKey(), Lazy: time.Millisecond, Segment: 1 << 20, Fail: func(err error) { t.Error(err) }})
	if err := l.Recover(0, nil, nil); err != nil {
		t.Fatal(err)
	}
	go l.Run()
	index := l.Append(1, 'e', []byte("x"), false)
	for tries := 0; l.Synced() < index; tries++ {
		if tries == 10_000 {
			t.Fatal("it was not synced")
		}
		time.Sleep(time.Millisecond)
	}
	if age := l.Age(); age != 0 {
		t.Errorf("all is synced, and the oldest record is %v old", age)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// failing is a directory whose files fail.
type failing struct {
	Files
	mu           sync.Mutex
	sync, create error
}

func (f *failing) fail(sync, create error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sync, f.create = sync, create
}

func (f *failing) errors() (sync, create error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sync, f.create
}

func (f *failing) Create(name string, room int64) (File, error) {
	if _, err := f.errors(); err != nil {
		return nil, err
	}
	file, err := f.Files.Create(name, room)
	return &failingFile{file, f}, err
}

type failingFile struct {
	File
	of *failing
}

func (f *failingFile) Sync() error {
	if err, _ := f.of.errors(); err != nil {
		return err
	}
	return f.File.Sync()
}

func TestAnErrorOfASyncIsTheEnd(t *testing.T) {
	files := &failing{Files: Dir(t.TempDir())}
	end := make(chan error, 1)
	l := New(Config{Files: files, Keys: seal.NewKey(), Segment: 1 << 20, Fail: func(err error) { end <- err }})
	if err := l.Recover(0, nil, nil); err != nil {
		t.Fatal(err)
	}
	files.fail(syscall.EIO, nil)
	go l.Run()
	index := l.Append(1, 'e', []byte("x"), true)
	if err := <-end; !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "syncing the log") {
		t.Errorf("the end came with %v", err)
	}
	if l.Synced() >= index {
		t.Error("W2: it counts as synced")
	}
	<-l.done
}

func TestAFullDiskRefusesAndRecovers(t *testing.T) {
	files := &failing{Files: Dir(t.TempDir())}
	l := New(Config{Files: files, Keys: seal.NewKey(), Segment: 64 << 10, Fail: func(err error) { t.Error(err) }})
	if err := l.Recover(0, nil, nil); err != nil {
		t.Fatal(err)
	}
	go l.Run()
	files.fail(nil, syscall.ENOSPC)
	for l.Admit(true) == nil {
		if err := l.Wait(context.Background(), l.Append(1, 'e', make([]byte, 4096), true)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Admit(false); err != nil {
		t.Errorf("a delete is refused too: %v", err)
	}
	files.fail(nil, nil)
	for tries := 0; l.Admit(true) != nil; tries++ {
		if tries == 10_000 {
			t.Fatal("there is room, and it is not used")
		}
		time.Sleep(time.Millisecond)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkAppend(b *testing.B) {
	l := newLog(&disk{names: map[string]*platter{}, left: -1}, seal.NewKey(), 1<<20)
	if err := l.Recover(0, nil, nil); err != nil {
		b.Fatal(err)
	}
	record := make([]byte, 120)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.Append(1, 'e', record, true)
		if i%1000 == 999 {
			b.StopTimer()
			l.line = batch{first: l.next}
			b.StartTimer()
		}
	}
}
