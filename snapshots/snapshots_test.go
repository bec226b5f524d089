package snapshots_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/aside"
	"github.com/larder-cache/larder/internal/etcdembed"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/keyslot"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/snapshots"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	etcd  *etcdembed.Server
	drawn atomic.Int64
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == helper {
		if aside.Main(snapshots.Errand, 1) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "snapshots")
	if err == nil {
		etcd, err = etcdembed.Start(context.Background(), etcdembed.Config{Dir: filepath.Join(dir, "etcd"), Logger: quiet, UnsafeNoFsync: true})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	etcd.Close()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// helper is the argument of a process that goes on an errand.
const helper = "helper"

// A clock is turned by hand.
type clock struct{ ms atomic.Int64 }

func (c *clock) Now() int64      { return c.ms.Load() }
func (c *clock) time() time.Time { return time.UnixMilli(c.ms.Load()) }

// A world is a service with the partitions of its caches, which are three.
type world struct {
	*snapshots.Service
	t      *testing.T
	cfg    snapshots.Config
	clock  clock
	dir    string // of the store
	locals []*replication.Local
	slow   chan struct{} // each read of a cut waits for one, nil for none
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.clock.ms.Store(1_800_000_000_000)
	for i := range 3 {
		w.locals = append(w.locals, replication.NewLocal(engine.Seed{uint64(i), 7}, &w.clock, [32]byte{3}, quiet))
	}
	client, err := etcdembed.NewClient(etcd.Endpoints(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	m, err := mirror.Open(t.Context(), mirror.Config{Client: client, Prefix: records.Root, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	store, err := snapshots.OpenStore(t.Context(), "file://"+w.dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	keys, _, err := seal.OpenKeyset(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = snapshots.Config{Mirror: m, Store: store, KMS: keys, Cluster: "c", Node: fmt.Sprint("node", drawn.Add(1)), Life: "first", Engine: w, Now: w.clock.time, Log: quiet}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.Service, err = snapshots.Open(w.t.Context(), w.cfg); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.Close)
}

// cache makes a cache for as many partitions.
func (w *world) cache(name string, partitions int) *snapshots.Cache {
	n := byte(drawn.Add(1))
	return &snapshots.Cache{
		Tenant: fmt.Sprint("tenant", n), TenantID: fmt.Sprint("id", n), Name: name, ID: engine.CacheID{n, 1}, Settings: engine.Settings{},
		Targets: partitions, Place: []uint16{0, 1, 2}[:partitions], To: func(key []byte) int { return int(keyslot.Of(key)) * partitions / keyslot.Count },
		Slots: func(i int) [][2]int {
			first := func(i int) int { return (i*keyslot.Count + partitions - 1) / partitions }
			return [][2]int{{first(i), first(i+1) - 1}}
		},
	}
}

// Cut, Items and Execute implement snapshots.Engine.
func (w *world) Cut(ctx context.Context, c *snapshots.Cache, o engine.CutOptions) (list []snapshots.Cut, err error) {
	var parts []replication.Holder
	for _, l := range w.locals[:c.Targets] {
		parts = append(parts, l)
	}
	cuts, err := replication.CutCache(ctx, parts, c.ID, func(int) engine.CutOptions { return o }, nil)
	for _, cut := range cuts {
		list = append(list, &slowCut{cut, w.slow})
	}
	return list, err
}

func (w *world) Items(c *snapshots.Cache) (n int64) {
	for _, l := range w.locals[:c.Targets] {
		s, _ := l.Stats(c.ID)
		n += s.Items
	}
	return n
}

func (w *world) Execute(ctx context.Context, _ *snapshots.Cache, target int, t *engine.Task) error {
	return w.locals[target].Execute(ctx, t)
}

type slowCut struct {
	replication.Cut
	slow chan struct{}
}

func (c *slowCut) Read(p []byte) (int, error) {
	if c.slow != nil {
		<-c.slow
	}
	return c.Cut.Read(p)
}

// do runs a command where its key is, and returns what it answers first.
func (w *world) do(c *snapshots.Cache, args ...string) engine.Token {
	w.t.Helper()
	var reply engine.Recording
	call := engine.Call{Command: engine.MustLookup(args[0])}
	for _, a := range args {
		call.Args = append(call.Args, []byte(a))
	}
	if err := w.locals[c.To(call.Args[1])].Execute(context.Background(), &engine.Task{Cache: c.ID, Calls: []engine.Call{call}, Reply: &reply}); err != nil {
		w.t.Fatal(err)
	}
	cursor := reply.Cursor()
	return cursor.Next()
}

const canary = "canary-5d0c1b7f4e"

// fill makes a cache with values of many types.
func (w *world) fill(c *snapshots.Cache) {
	w.t.Helper()
	for i := range c.Targets {
		if err := w.Execute(w.t.Context(), c, i, engine.ConfigureTask(c.ID, c.Settings)); err != nil {
			w.t.Fatal(err)
		}
	}
	w.do(c, "SCRIPT", "LOAD", "return 1")
	w.do(c, "FUNCTION", "LOAD", "#!lua name=lib\nserver.register_function('one', function() return 1 end)")
	for i := range 60 {
		w.do(c, "SET", fmt.Sprint("string", i), canary, "PX", fmt.Sprint(1000+i))
		w.do(c, "HSET", fmt.Sprint("hash", i), "f", canary, strings.Repeat("long", 30), "v")
		w.do(c, "ZADD", fmt.Sprint("zset", i), "1", canary, "2", "b")
		for range 5 {
			w.do(c, "RPUSH", fmt.Sprint("list", i), strings.Repeat(canary, 100))
			w.do(c, "XADD", fmt.Sprint("stream", i), "*", "f", canary)
		}
	}
}

// made waits for a snapshot to be made.
func (w *world) made(c *snapshots.Cache, snap *snapshots.Snapshot) *snapshots.Snapshot {
	w.t.Helper()
	for range 2000 {
		found, _, err := w.Get(w.t.Context(), c.Tenant, c.TenantID, c.Name, snap.ID)
		if err != nil {
			w.t.Fatal(err)
		}
		if found.State != snapshots.Creating {
			return found
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatal("the snapshot does not come to its end")
	return nil
}

// restore fills a new cache, and returns what became of it.
func (w *world) restore(snap *snapshots.Snapshot, c *snapshots.Cache, o snapshots.RestoreOptions) (published bool, p snapshots.Progress) {
	w.t.Helper()
	err := w.Restore(w.t.Context(), snap, c, o, func(context.Context) error {
		published = true
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for range 2000 {
		if p, _ := w.Restoring(w.t.Context(), c.TenantID, c.Name); !p.Ended.IsZero() {
			return published, p
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatal("the restoration does not come to its end")
	return false, p
}

func (w *world) snapshot(c *snapshots.Cache) *snapshots.Snapshot {
	w.t.Helper()
	snap, err := w.Create(w.t.Context(), c, snapshots.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	if snap = w.made(c, snap); snap.State != snapshots.Available {
		w.t.Fatalf("%+v", snap)
	}
	return snap
}

// files are those in the store.
func (w *world) files() (names []string) {
	_ = filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return nil
	})
	return names
}

func TestSnapshotIsRestored(t *testing.T) {
	for name, start := range map[string]aside.Starter{"here": nil, "by another process": aside.Program(helper)} {
		t.Run(name, func(t *testing.T) { snapshotIsRestored(t, start) })
	}
}

func snapshotIsRestored(t *testing.T, start aside.Starter) {
	w := newWorld(t)
	w.cfg.Aside = start
	w.open()
	c := w.cache("a", 2)
	w.fill(c)
	snap := w.snapshot(c)
	if snap.Keys != 300 || snap.Parts != 2 || snap.Size == 0 || snap.Elements == 0 {
		t.Errorf("%+v", snap)
	}
	if again := w.snapshot(c); again.Digest != snap.Digest || again.ID == snap.ID {
		t.Errorf("two snapshots of the same state: %+v and %+v", snap, again)
	}
	for _, path := range w.files() {
		b, err := os.ReadFile(path)
		if err != nil || bytes.Contains(b, []byte(canary)) {
			t.Errorf("%s shows what is in the cache: %v", path, err)
		}
	}
	w.do(c, "DEL", "list7")
	w.clock.ms.Add(1030)

	to := w.cache("b", 3)
	to.Tenant, to.TenantID = c.Tenant, c.TenantID
	if published, p := w.restore(snap, to, snapshots.RestoreOptions{}); !published || p.Problem != "" || p.Keys != 300 {
		t.Fatalf("%+v", p)
	}
	if got := w.do(to, "LLEN", "list7"); got.Int != 5 {
		t.Errorf("the list has %d elements", got.Int)
	}
	if got := w.do(to, "FCALL", "one", "0"); got.Int != 1 {
		t.Errorf("the function answers %+v", got)
	}
	if got := w.do(to, "GET", "string30"); got.Kind != engine.ReplyNull {
		t.Error("a key is there whose time has come")
	}
	if got := w.do(to, "PTTL", "string31"); got.Int != 1 {
		t.Errorf("a key has %d ms left", got.Int)
	}
	frozen := w.cache("frozen", 1)
	frozen.Tenant, frozen.TenantID = c.Tenant, c.TenantID
	if published, p := w.restore(snap, frozen, snapshots.RestoreOptions{FreezeTTL: true, Prefix: []byte("string")}); !published {
		t.Fatalf("%+v", p)
	}
	if got := w.do(frozen, "PTTL", "string0"); got.Int != 1000 {
		t.Errorf("a key has %d ms left, had 1000", got.Int)
	}
	if n := w.Items(frozen); n != 60 {
		t.Errorf("%d keys with the prefix", n)
	}
	if err := w.Delete(t.Context(), snap); err != nil {
		t.Fatal(err)
	}
	if list, _ := w.List(c.Tenant, c.TenantID, c.Name, "", 0); len(list) != 1 || len(w.files()) != 1 {
		t.Errorf("%d snapshots, %q", len(list), w.files())
	}
	if list, _ := w.List(c.Tenant, "another", c.Name, "", 0); len(list) != 0 {
		t.Error("a tenant of the same name sees the snapshots of the one before")
	}
}

// TestAProcessThatIsGone leaves nothing of a snapshot but a record that says so, and this process as it was.
func TestAProcessThatIsGone(t *testing.T) {
	w := newWorld(t)
	w.slow = make(chan struct{})
	process := make(chan func(), 1)
	w.cfg.Aside = func(ctx context.Context, files ...*os.File) (*aside.Helper, error) {
		ctx, kill := context.WithCancel(ctx)
		process <- kill
		return aside.Program(helper)(ctx, files...)
	}
	w.open()
	c := w.cache("a", 1)
	w.fill(c)
	snap, err := w.Create(t.Context(), c, snapshots.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.slow <- struct{}{}
	(<-process)()
	close(w.slow)
	if snap = w.made(c, snap); snap.State != snapshots.Failed || len(w.files()) > 0 {
		t.Errorf("%+v, %q", snap, w.files())
	}
	if w.slow = nil; w.snapshot(c).Keys != 300 {
		t.Error("the next one has not all")
	}
}

// TestBadSnapshotsShowNothing: whatever happens to the file, nothing of it is ever seen.
func TestBadSnapshotsShowNothing(t *testing.T) {
	w := newWorld(t)
	c := w.cache("a", 1)
	w.fill(c)
	snap := w.snapshot(c)
	path := w.files()[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := w.cache("a", 1) // another tenant's
	w.fill(other)
	w.snapshot(other)
	var foreign []byte
	for _, file := range w.files() {
		if file != path {
			if foreign, err = os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	bad := map[string][]byte{"nothing": {}, "another tenant's": foreign, "a byte more": append(bytes.Clone(whole), 0)}
	for i := range 24 {
		at := i * (len(whole) - 1) / 23
		bad[fmt.Sprint("cut off at ", at)] = whole[:at]
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1
		bad[fmt.Sprint("changed at ", at)] = damaged
	}
	for what, b := range bad {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		to := w.cache("b", 2)
		to.Tenant, to.TenantID = c.Tenant, c.TenantID
		published, p := w.restore(snap, to, snapshots.RestoreOptions{})
		if published || p.Problem == "" {
			t.Errorf("%s: it was restored: %+v", what, p)
		}
		for _, l := range w.locals {
			if l.Holds(to.ID) {
				t.Errorf("%s: something is left", what)
			}
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	to := w.cache("b", 2)
	refused := fault.New(fault.Conflict, "test", "somebody else has the name")
	if err := w.Restore(t.Context(), snap, to, snapshots.RestoreOptions{}, func(context.Context) error { return refused }); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if p, _ := w.Restoring(w.t.Context(), to.TenantID, to.Name); p.Problem != "" {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if p, _ := w.Restoring(w.t.Context(), to.TenantID, to.Name); p.Problem != refused.Message || w.locals[0].Holds(to.ID) {
		t.Errorf("%+v", p)
	}
}

// TestCancelledLeavesNothing: neither a snapshot that is cancelled nor one that a restart interrupts.
func TestCancelledLeavesNothing(t *testing.T) {
	w := newWorld(t)
	c := w.cache("a", 1)
	w.fill(c)
	w.slow = make(chan struct{}, 100)
	w.slow <- struct{}{}
	snap, err := w.Create(t.Context(), c, snapshots.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Create(t.Context(), c, snapshots.CreateOptions{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a cache is cut twice: %v", err)
	}
	deleted := make(chan error)
	go func() { deleted <- w.Delete(context.Background(), snap) }()
	close(w.slow)
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Get(w.t.Context(), c.Tenant, c.TenantID, c.Name, snap.ID); !fault.Is(err, fault.NotFound) || len(w.files()) > 0 {
		t.Errorf("%v, %q", err, w.files())
	}

	w.slow = make(chan struct{}, 100)
	if snap, err = w.Create(t.Context(), c, snapshots.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var closing sync.WaitGroup
	closing.Go(w.Close)
	close(w.slow)
	closing.Wait()
	if len(w.files()) > 0 {
		t.Errorf("%q", w.files())
	}
	w.slow = nil
	w.open()
	w.snapshot(c) // a cut that was cancelled is in nobody's way
}

// TestRestartEndsWhatWasNotFinished: a node that was killed has left a record, and what it had written of the snapshot.
func TestRestartEndsWhatWasNotFinished(t *testing.T) {
	w := newWorld(t)
	c := w.cache("a", 1)
	left := snapshots.Snapshot{ID: "left", Tenant: c.Tenant, TenantID: c.TenantID, Cache: c.Name, CacheID: "x", State: snapshots.Creating, Node: w.cfg.Node, Life: "before"}
	table := records.Open[snapshots.Snapshot](w.cfg.Mirror, "snapshot", "snapshots", quiet)
	if err := table.Create(t.Context(), c.Tenant+"/a/left", &left); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(w.dir, c.TenantID, "x", "left.larder")
	if err := errors.Join(os.MkdirAll(filepath.Dir(half), 0o700), os.WriteFile(half, []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	w.open()
	snap, _, err := w.Get(t.Context(), c.Tenant, c.TenantID, c.Name, "left")
	if err != nil || snap.State != snapshots.Failed || !strings.Contains(snap.Problem, w.cfg.Node) || len(w.files()) > 0 {
		t.Errorf("%+v, %v, %q", snap, err, w.files())
	}
}

// TestFullStoreFails: the owner hears of it, and nothing half is kept.
func TestFullStoreFails(t *testing.T) {
	w := newWorld(t)
	c := w.cache("a", 1)
	w.fill(c)
	if err := os.WriteFile(filepath.Join(w.dir, c.TenantID), nil, 0o600); err != nil { // where a directory should be
		t.Fatal(err)
	}
	snap, err := w.Create(t.Context(), c, snapshots.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if snap = w.made(c, snap); snap.State != snapshots.Failed || snap.Problem == "" {
		t.Errorf("%+v", snap)
	}
	if _, _, err := w.Download(t.Context(), snap); !fault.Is(err, fault.Conflict) {
		t.Error(err)
	}
}

// FuzzContents: what is behind a seal may be anything, and gives an error at worst.
func FuzzContents(f *testing.F) {
	p := engine.New(engine.Seed{1, 2})
	id := engine.CacheID{1}
	p.Apply(&engine.Entry{Now: 1_800_000_000_000, Tasks: []*engine.Task{engine.ConfigureTask(id, engine.Settings{}), {Cache: id, Calls: []engine.Call{
		{Command: engine.MustLookup("SET"), Args: [][]byte{[]byte("SET"), []byte("k"), []byte("v")}}}}}})
	cut, _ := p.CutCache(id, engine.CutOptions{})
	b, _ := cut.Read(nil, 1<<20)
	key := seal.NewKey()
	var file bytes.Buffer
	want, err := snapshots.Write(f.Context(), &file, key, seal.Head{Kind: "snapshot"}, bytes.NewReader(b))
	if err != nil {
		f.Fatal(err)
	}
	_, plain, err := seal.Open(f.Context(), bytes.NewReader(file.Bytes()), key, seal.Head{})
	if err != nil {
		f.Fatal(err)
	}
	whole, err := io.ReadAll(plain)
	if err != nil {
		f.Fatal(err)
	}
	if got, err := snapshots.Read(f.Context(), &file, key, seal.Head{}, snapshots.Sink{}); err != nil || got != want || got.Keys != 1 {
		f.Fatal(got, err)
	}
	f.Add(whole)
	f.Add(whole[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		var file bytes.Buffer
		w, err := seal.Writer(t.Context(), &file, key, seal.Head{Kind: "snapshot"})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(b)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = snapshots.Read(t.Context(), &file, key, seal.Head{}, snapshots.Sink{})
		if (err == nil) != bytes.Equal(b, whole) && !errors.Is(err, snapshots.ErrBad) && !errors.Is(err, engine.ErrCut) {
			t.Errorf("%v", err)
		}
	})
}

// oldKey is the key of the files in testdata.
var oldKey = seal.Key{ID: "testdata", Bytes: []byte("0123456789abcdef0123456789abcdef")}

// TestOldFilesAreRead: what any version has written is read by this one. A file is added with each version, and none is changed:
// LARDER_WRITE_TESTDATA=1 writes those that are missing.
func TestOldFilesAreRead(t *testing.T) {
	head := seal.Head{Kind: "snapshot", Cluster: "c", Tenant: "t", Cache: "k", ID: "old"}
	want := snapshots.Contents{Keys: 5, Parts: 1}
	path := filepath.Join("testdata", "v1.larder")
	if _, err := os.Stat(path); os.IsNotExist(err) && os.Getenv("LARDER_WRITE_TESTDATA") != "" {
		if err := os.WriteFile(path, newFile(t, head), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l := replication.NewLocal(engine.Seed{9, 9}, &clock{}, [32]byte{}, quiet)
	id := engine.CacheID{3}
	if err := l.Execute(t.Context(), engine.ConfigureTask(id, engine.Settings{})); err != nil {
		t.Fatal(err)
	}
	got, err := snapshots.Read(t.Context(), bytes.NewReader(b), oldKey, head, snapshots.Sink{
		Targets: 1, To: func(int, []byte) int { return 0 }, Emit: func(p *engine.CutPart) error { return l.Execute(t.Context(), engine.RestoreTask(id, p)) },
	})
	if err != nil || got.Keys != want.Keys || got.Parts != want.Parts || len(got.Digest) != 64 {
		t.Fatalf("%+v: %v", got, err)
	}
	for _, q := range [][]string{{"GET", "string"}, {"HGET", "hash", "f"}, {"LINDEX", "list", "299"}, {"ZSCORE", "zset", "m"}, {"XLEN", "stream"}} {
		var reply engine.Recording
		call := engine.Call{Command: engine.MustLookup(q[0])}
		for _, a := range q {
			call.Args = append(call.Args, []byte(a))
		}
		if err := l.Execute(t.Context(), &engine.Task{Cache: id, Calls: []engine.Call{call}, Reply: &reply}); err != nil {
			t.Fatal(err)
		}
		cursor := reply.Cursor()
		if token := cursor.Next(); token.Kind == engine.ReplyNull || token.Kind == engine.ReplyError || q[0] == "XLEN" && token.Int != 1 {
			t.Errorf("%q: %+v", q, token)
		}
	}
}

// newFile is a snapshot as this version writes it.
func newFile(t *testing.T, head seal.Head) []byte {
	var time clock
	time.ms.Store(1_800_000_000_000)
	l := replication.NewLocal(engine.Seed{1, 2}, &time, [32]byte{}, quiet)
	id := engine.CacheID{1}
	if err := l.Execute(t.Context(), engine.ConfigureTask(id, engine.Settings{})); err != nil {
		t.Fatal(err)
	}
	lines := [][]string{{"SET", "string", "v"}, {"HSET", "hash", "f", "v"}, {"ZADD", "zset", "1.5", "m"}, {"XADD", "stream", "1-1", "f", "v"}}
	for i := range 300 {
		lines = append(lines, []string{"RPUSH", "list", fmt.Sprint("an element that makes the list large ", i)})
	}
	for _, line := range lines {
		call := engine.Call{Command: engine.MustLookup(line[0])}
		for _, a := range line {
			call.Args = append(call.Args, []byte(a))
		}
		if err := l.Execute(t.Context(), &engine.Task{Cache: id, Calls: []engine.Call{call}}); err != nil {
			t.Fatal(err)
		}
	}
	cuts, err := replication.CutCache(t.Context(), []replication.Holder{l}, id, func(int) engine.CutOptions { return engine.CutOptions{NoOnce: true, NoFlush: true} }, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer cuts[0].Close()
	var b bytes.Buffer
	if _, err := snapshots.Write(t.Context(), &b, oldKey, head, cuts[0]); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
