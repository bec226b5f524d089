package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/larder-cache/larder/internal/etcdembed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const prefix = "/larder/"

// testPace is the usual pace in a hurry, so that tests wait for little.
var testPace = pace{
	request:   5 * time.Second,
	saveAfter: 10 * time.Millisecond,
	probe:     100 * time.Millisecond,
	retry:     5 * time.Millisecond,
	retryTo:   50 * time.Millisecond,
}

// A world is one etcd that can be stopped and started, and the disk of one machine.
type world struct {
	t      *testing.T
	dir    string
	server *etcdembed.Server
	log    *lockedBuffer // what the mirrors logged
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "etcd"), log: &lockedBuffer{}}
	w.start()
	t.Cleanup(func() { w.server.Close() })
	return w
}

func (w *world) start() {
	w.t.Helper()
	s, err := etcdembed.Start(w.t.Context(), etcdembed.Config{Dir: w.dir, UnsafeNoFsync: true, Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil))})
	if err != nil {
		w.t.Fatal(err)
	}
	w.server = s
}

// client returns a client of its own, so that one user's broken connection is nobody else's.
func (w *world) client() *clientv3.Client {
	w.t.Helper()
	c, err := etcdembed.NewClient(w.server.Endpoints(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

func (w *world) config(path string) Config {
	return Config{
		Client:      w.client(),
		Prefix:      prefix,
		Path:        path,
		Logger:      slog.New(slog.NewTextHandler(io.MultiWriter(w.t.Output(), w.log), nil)),
		OpenTimeout: 10 * time.Second,
	}
}

// open opens a mirror with a disk copy at path, or with none if path is empty.
func (w *world) open(path string) *Mirror {
	w.t.Helper()
	m, err := open(w.t.Context(), w.config(path), testPace)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { m.Close() })
	return m
}

// openDown is open while etcd is known to be down.
func (w *world) openDown(path string) (*Mirror, error) {
	cfg := w.config(path)
	cfg.OpenTimeout = 50 * time.Millisecond
	m, err := open(w.t.Context(), cfg, testPace)
	if err == nil {
		w.t.Cleanup(func() { m.Close() })
	}
	return m, err
}

// backup stops etcd, copies its data, starts it again and waits until m follows it.
func (w *world) backup(m *Mirror) string {
	w.t.Helper()
	w.server.Close()
	eventually(w.t, "the mirror notices that etcd is down", disconnected(m))
	dir := filepath.Join(w.t.TempDir(), "backup")
	if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
		w.t.Fatal(err)
	}
	w.start()
	eventually(w.t, "the mirror is back", connected(m))
	return dir
}

// swap stops etcd and starts it again with the data in dir, which is gone then.
func (w *world) swap(dir string) {
	w.t.Helper()
	w.server.Close()
	if err := errors.Join(os.RemoveAll(w.dir), os.Rename(dir, w.dir)); err != nil {
		w.t.Fatal(err)
	}
	w.start()
}

// elsewhere runs fn on an etcd with the data in dir, new if there is none, which no mirror of this world can
// reach, and stops it again.
func (w *world) elsewhere(dir string, fn func(c *clientv3.Client)) {
	w.t.Helper()
	e := &world{t: w.t, dir: dir}
	e.start()
	defer e.server.Close()
	fn(e.client())
}

// away is elsewhere with this world's own data, while this world's etcd is down; then that is started again.
// So the mirrors cannot see the steps of fn one by one.
func (w *world) away(m *Mirror, fn func(c *clientv3.Client)) {
	w.t.Helper()
	w.server.Close()
	eventually(w.t, "the mirror notices that etcd is down", disconnected(m))
	dir := w.dir + ".away"
	if err := os.Rename(w.dir, dir); err != nil {
		w.t.Fatal(err)
	}
	w.elsewhere(dir, fn)
	if err := os.Rename(dir, w.dir); err != nil {
		w.t.Fatal(err)
	}
	w.start()
	eventually(w.t, "the mirror is back", connected(m))
	if err := m.Sync(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// must returns a function that gives the value or ends the test.
func must(t *testing.T) func(v any, err error) any {
	return func(v any, err error) any {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// ok fails the test on a write's error and returns its revision.
func ok(t *testing.T) func(rev int64, err error) int64 {
	return func(rev int64, err error) int64 {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if rev == 0 {
			t.Fatal("no error and no revision")
		}
		return rev
	}
}

// eventually waits for what has no moment of its own; the test's own time limit bounds it.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func connected(m *Mirror) func() bool    { return func() bool { return m.Status().Connected } }
func disconnected(m *Mirror) func() bool { return func() bool { return !m.Status().Connected } }

// dump is the mirror's content by eye: "a=1 b=2".
func dump(m *Mirror) string {
	var out []string
	for _, r := range m.List(prefix, "", 0) {
		out = append(out, strings.TrimPrefix(r.Key, prefix)+"="+string(r.Value))
	}
	return strings.Join(out, " ")
}

// tape records changes as "+a=1", "~a=2" and "-a".
type tape struct {
	mu    sync.Mutex
	lines []string
	last  int64
	err   error
}

func (tp *tape) note(c Change) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	key := strings.TrimPrefix(c.Key, prefix)
	switch {
	case c.New == nil:
		tp.lines = append(tp.lines, "-"+key)
	case c.Old == nil:
		tp.lines = append(tp.lines, "+"+key+"="+string(c.New.Value))
	default:
		tp.lines = append(tp.lines, "~"+key+"="+string(c.New.Value))
	}
	if c.Revision < tp.last {
		tp.err = fmt.Errorf("revision %d after %d", c.Revision, tp.last)
	}
	tp.last = c.Revision
}

// wants compares what was recorded, and forgets it.
func (tp *tape) wants(t *testing.T, want string) {
	t.Helper()
	tp.mu.Lock()
	defer tp.mu.Unlock()
	if tp.err != nil {
		t.Fatal(tp.err)
	}
	if got := strings.Join(tp.lines, " "); got != want {
		t.Fatalf("changes are %q, want %q", got, want)
	}
	tp.lines = nil
}

func TestWrites(t *testing.T) {
	w := newWorld(t)
	m := w.open("")
	ctx := t.Context()
	a, b := prefix+"a", prefix+"b"

	rev := ok(t)(m.Create(ctx, a, []byte("1")))
	if r, is := m.Get(a); !is || string(r.Value) != "1" || r.CreateRevision != rev || r.ModRevision != rev || r.Leased {
		t.Fatalf("after Create at %d: %+v", rev, r)
	}
	if _, err := m.Create(ctx, a, []byte("2")); !errors.Is(err, ErrConflict) {
		t.Fatalf("Create of what exists: %v", err)
	}
	second := ok(t)(m.Update(ctx, a, []byte("2"), rev))
	if _, err := m.Update(ctx, a, []byte("3"), rev); !errors.Is(err, ErrConflict) {
		t.Fatalf("Update of what has changed: %v", err)
	}
	if _, err := m.Update(ctx, b, []byte("3"), 1); !errors.Is(err, ErrConflict) {
		t.Fatalf("Update of what does not exist: %v", err)
	}
	if _, err := m.Delete(ctx, a, rev); !errors.Is(err, ErrConflict) {
		t.Fatalf("Delete of what has changed: %v", err)
	}
	if r, _ := m.Get(a); r.CreateRevision != rev || r.ModRevision != second || string(r.Value) != "2" {
		t.Fatalf("after Update: %+v", r)
	}
	ok(t)(m.Put(ctx, b, nil))
	ok(t)(m.Delete(ctx, a, second))
	if got := dump(m); got != "b=" {
		t.Fatalf("left: %q", got)
	}
	ok(t)(m.Delete(ctx, a, 0)) // no such key: not an error, and nothing to wait for

	rev = ok(t)(m.Txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(a), "=", 0)},
		[]clientv3.Op{clientv3.OpPut(a, "x"), clientv3.OpDelete(b), clientv3.OpPut(prefix+"c", "y")}))
	if got := dump(m); got != "a=x c=y" {
		t.Fatalf("after Txn: %q", got)
	}
	if got := m.Revision(); got != rev {
		t.Fatalf("revision is %d, want %d", got, rev)
	}
	if _, err := m.Txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(a), "=", 1)}, []clientv3.Op{clientv3.OpPut(a, "z")}); !errors.Is(err, ErrConflict) {
		t.Fatalf("Txn whose comparison fails: %v", err)
	}
}

func TestBadWrites(t *testing.T) {
	w := newWorld(t)
	m := w.open("")
	ctx := t.Context()
	put := func(key string, value []byte) error { _, err := m.Put(ctx, key, value); return err }
	many := make([]clientv3.Op, maxOps+1)
	for i := range many {
		many[i] = clientv3.OpPut(fmt.Sprint(prefix, i), "")
	}
	txn := func(then ...clientv3.Op) error { _, err := m.Txn(ctx, nil, then); return err }
	upd := func(rev int64) error { _, err := m.Update(ctx, prefix+"a", nil, rev); return err }
	del := func(rev int64) error { _, err := m.Delete(ctx, prefix+"a", rev); return err }
	session := func(ttl time.Duration) error { _, err := m.NewSession(ttl); return err }
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"the largest", errors.Join(put(prefix+strings.Repeat("k", maxKey-len(prefix)), make([]byte, maxValue)), txn(many[1:]...)), ""},
		{"a key outside of the prefix", put("/other/a", nil), `does not begin with "/larder/"`},
		{"an empty key", put("", nil), `does not begin with "/larder/"`},
		{"a key too long", put(prefix+strings.Repeat("k", maxKey), nil), "key has 1032 bytes, at most 1024"},
		{"a value too long", put(prefix, make([]byte, maxValue+1)), "value has 1048577 bytes, at most 1048576"},
		{"an empty transaction", txn(), "0 operations, want"},
		{"too many operations", txn(many...), "129 operations, want"},
		{"a read in a transaction", txn(clientv3.OpGet(prefix)), "neither the put nor the delete"},
		{"a deleted range", txn(clientv3.OpDelete(prefix, clientv3.WithPrefix())), "neither the put nor the delete"},
		{"one key twice", txn(many[0], many[0]), "duplicate key"},
		{"an update of nothing", upd(0), "modRevision is 0"},
		{"a delete before the beginning", del(-1), "modRevision is -1"},
		{"a short session", session(time.Second), "ttl is 1s, want 2s to 1h"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			switch {
			case tc.want == "" && tc.err != nil:
				t.Fatal(tc.err)
			case tc.want != "" && (tc.err == nil || !strings.Contains(tc.err.Error(), tc.want)):
				t.Fatalf("error is %v, want one with %q", tc.err, tc.want)
			case errors.Is(tc.err, ErrUnavailable) || errors.Is(tc.err, ErrConflict):
				t.Fatalf("the caller's mistake looks like a state of etcd: %v", tc.err)
			}
		})
	}
}

func TestBadConfig(t *testing.T) {
	w := newWorld(t)
	c := w.client()
	for _, tc := range []struct {
		want string
		cfg  Config
	}{
		{"Client", Config{Prefix: prefix}},
		{"Prefix has 0 bytes", Config{Client: c}},
		{"Prefix has 1025 bytes", Config{Client: c, Prefix: strings.Repeat("p", maxKey+1)}},
		{"OpenTimeout", Config{Client: c, Prefix: prefix, OpenTimeout: -1}},
	} {
		if _, err := Open(t.Context(), tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error is %v, want one with %q", err, tc.want)
		}
	}
}

func TestList(t *testing.T) {
	w := newWorld(t)
	m := w.open("")
	for _, k := range []string{"a", "b/", "b/1", "b/2", "b/3", "c"} {
		ok(t)(m.Put(t.Context(), prefix+k, nil))
	}
	for _, tc := range []struct {
		name, prefix, after string
		limit               int
		want                string
	}{
		{"all", "", "", 0, "a b/ b/1 b/2 b/3 c"},
		{"a prefix", "b/", "", 0, "b/ b/1 b/2 b/3"},
		{"the first of a prefix", "b/", "", 2, "b/ b/1"},
		{"behind one", "b/", "b/1", 2, "b/2 b/3"},
		{"behind one that does not exist", "b/", "b/11", 1, "b/2"},
		{"behind the last", "b/", "b/3", 0, ""},
		{"behind the prefix", "b/", "c", 0, ""},
		{"behind one before the prefix", "b/", "a", 1, "b/"},
		{"no such prefix", "bb", "", 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			after := tc.after
			if after != "" {
				after = prefix + after
			}
			var got []string
			for _, r := range m.List(prefix+tc.prefix, after, tc.limit) {
				got = append(got, strings.TrimPrefix(r.Key, prefix))
			}
			if s := strings.Join(got, " "); s != tc.want {
				t.Fatalf("got %q, want %q", s, tc.want)
			}
		})
	}
}

func TestOnChange(t *testing.T) {
	w := newWorld(t)
	m := w.open("")
	ctx := t.Context()
	ok(t)(m.Put(ctx, prefix+"a", []byte("1")))
	ok(t)(m.Put(ctx, prefix+"x/a", []byte("1")))

	var all, part, late tape
	stop := m.OnChange(prefix, true, all.note)
	defer m.OnChange(prefix+"x/", false, part.note)()
	all.wants(t, "+a=1 +x/a=1")

	// Inside of a call the mirror stands at the change's revision, though others have followed already.
	defer m.OnChange(prefix, false, func(c Change) {
		r, is := m.Get(c.Key)
		if is != (c.New != nil) || is && r.ModRevision != c.New.ModRevision || m.Revision() != c.Revision {
			t.Errorf("a change at %d was told at %d", c.Revision, m.Revision())
		}
	})()
	ok(t)(m.Txn(ctx, nil, []clientv3.Op{clientv3.OpPut(prefix+"b", "2"), clientv3.OpDelete(prefix + "a"), clientv3.OpPut(prefix+"x/a", "2")}))
	ok(t)(m.Delete(ctx, prefix+"x/a", 0))
	all.wants(t, "+b=2 -a ~x/a=2 -x/a")
	part.wants(t, "~x/a=2 -x/a")
	stop()
	defer m.OnChange(prefix, true, late.note)()
	late.wants(t, "+b=2")
	ok(t)(m.Put(ctx, prefix+"b", []byte("3")))
	all.wants(t, "")
	late.wants(t, "~b=3")
}

// What happens outside of the prefix moves the revision and nothing else, and is no reason to wait for ever.
func TestForeignKeys(t *testing.T) {
	w := newWorld(t)
	rare := testPace
	rare.probe = time.Hour // so that only those who wait ask etcd for its progress
	m, err := open(t.Context(), w.config(""), rare)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var all tape
	defer m.OnChange("", false, all.note)()
	resp, err := w.client().Put(t.Context(), "/other/a", "1")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.Revision() < resp.Header.Revision {
		t.Fatalf("after Sync the mirror is at %d, etcd at %d", m.Revision(), resp.Header.Revision)
	}
	ok(t)(m.Delete(t.Context(), prefix+"a", 0))
	all.wants(t, "")
}

// On an etcd where nothing ever happens the watch is known to be alive, and is not mistaken for a dead one.
func TestQuietEtcd(t *testing.T) {
	w := newWorld(t)
	m := w.open("")
	for range 8 {
		last := m.Status().LastContact
		eventually(t, "etcd is heard again", func() bool { return m.Status().LastContact.After(last) })
	}
	if !m.Status().Connected || strings.Contains(w.log.String(), "lost etcd") {
		t.Fatalf("log:\n%s", w.log.String())
	}
}

// Eight writers count one record up through two mirrors. Each success was read in the writer's own mirror
// (M3), so the sum is exact, and both mirrors tell the same story in the same order.
func TestTwoMirrorsAgree(t *testing.T) {
	w := newWorld(t)
	mirrors := []*Mirror{w.open(""), w.open("")}
	key := prefix + "n"
	ok(t)(mirrors[0].Create(t.Context(), key, []byte("0")))
	if err := mirrors[1].Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	tapes := make([]tape, 2)
	for i, m := range mirrors {
		defer m.OnChange(prefix, false, tapes[i].note)()
	}
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for i := range writers {
		m := mirrors[i%2]
		wg.Go(func() {
			for done := 0; done < each; {
				r, _ := m.Get(key)
				var n int
				fmt.Sscan(string(r.Value), &n)
				rev, err := m.Update(t.Context(), key, fmt.Append(nil, n+1), r.ModRevision)
				switch {
				case errors.Is(err, ErrConflict):
				case err != nil:
					t.Error(err)
					return
				default:
					if now, _ := m.Get(key); now.ModRevision < rev {
						t.Errorf("stored at %d, but read at %d", rev, now.ModRevision)
					}
					done++
				}
			}
		})
	}
	wg.Wait()
	for i, m := range mirrors {
		if err := m.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := dump(m), fmt.Sprintf("n=%d", writers*each); got != want {
			t.Errorf("mirror %d has %s, want %s", i, got, want)
		}
	}
	if !slices.Equal(tapes[0].lines, tapes[1].lines) || len(tapes[0].lines) != writers*each {
		t.Errorf("two stories:\n%v\n%v", tapes[0].lines, tapes[1].lines)
	}
}

// The data plane's promise: etcd goes, reads stay; etcd comes back, and what was missed is told in order.
func TestEtcdDownAndBack(t *testing.T) {
	w := newWorld(t)
	m := w.open("")
	ctx := t.Context()
	ok(t)(m.Put(ctx, prefix+"a", []byte("1")))
	ok(t)(m.Put(ctx, prefix+"b", []byte("1")))
	var all tape
	defer m.OnChange(prefix, false, all.note)()

	w.server.Close()
	eventually(t, "the mirror notices", disconnected(m))
	if got := dump(m); got != "a=1 b=1" {
		t.Fatalf("with etcd down: %q", got)
	}
	for name, err := range map[string]error{
		"Create": second(m.Create(ctx, prefix+"c", nil)),
		"Update": second(m.Update(ctx, prefix+"a", nil, 1)),
		"Put":    second(m.Put(ctx, prefix+"a", nil)),
		"Delete": second(m.Delete(ctx, prefix+"a", 0)),
		"Sync":   m.Sync(ctx),
	} {
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUncertain) {
			t.Errorf("%s with etcd down: %v", name, err)
		}
	}

	w.away(m, func(c *clientv3.Client) {
		must(t)(c.Put(ctx, prefix+"c", "1"))
		must(t)(c.Delete(ctx, prefix+"a"))
		must(t)(c.Put(ctx, prefix+"b", "2"))
		must(t)(c.Put(ctx, prefix+"b", "3"))
	})
	if got := dump(m); got != "b=3 c=1" {
		t.Fatalf("after the return: %q", got)
	}
	all.wants(t, "+c=1 -a ~b=2 ~b=3")
	ok(t)(m.Put(ctx, prefix+"d", []byte("1")))
	all.wants(t, "+d=1")
	if s := m.Status(); s.Refused != "" || s.LastContact.IsZero() || s.Records != 3 {
		t.Fatalf("status: %+v", s)
	}
}

func second[T any](_ T, err error) error { return err }

// A pipe stands between a client and etcd, and can hold all bytes back, as a paused process or a cut cable
// does: nothing is refused, nothing is answered.
type pipe struct {
	listener net.Listener
	gate     sync.RWMutex // locked while bytes are held back
	wg       sync.WaitGroup
}

func newPipe(t *testing.T, to string) *pipe {
	dir, err := os.MkdirTemp("", "pipe") // shorter than t.TempDir, as sockets want it
	if err != nil {
		t.Fatal(err)
	}
	p := &pipe{}
	p.listener, err = net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.listener.Close()
		p.wg.Wait()
		os.RemoveAll(dir)
	})
	forward := func(to, from net.Conn) {
		defer to.Close()
		defer from.Close()
		b := make([]byte, 4096)
		for {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			p.gate.RLock()
			_, err = to.Write(b[:n])
			p.gate.RUnlock()
			if err != nil {
				return
			}
		}
	}
	p.wg.Go(func() {
		for {
			near, err := p.listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", strings.TrimPrefix(to, "unix://"))
			if err != nil {
				near.Close()
				continue
			}
			p.wg.Go(func() { forward(near, far) })
			p.wg.Go(func() { forward(far, near) })
		}
	})
	return p
}

// An etcd that is there but says nothing must be noticed, and a write that went into the silence is reported
// as what it is: it may have been stored or not.
func TestSilentEtcd(t *testing.T) {
	w := newWorld(t)
	p := newPipe(t, w.server.Endpoints()[0])
	cfg := w.config("")
	var err error
	cfg.Client, err = clientv3.New(clientv3.Config{ // without keepalive: the mirror relies on nobody else
		Endpoints: []string{"unix://" + p.listener.Addr().String()},
		Logger:    zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cfg.Client.Close()
	m, err := open(t.Context(), cfg, testPace)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ok(t)(m.Put(t.Context(), prefix+"a", []byte("1")))

	p.gate.Lock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if rev, err := m.Put(ctx, prefix+"a", []byte("2")); rev != 0 || !errors.Is(err, ErrUncertain) || !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a write into the silence: %d, %v", rev, err)
	}
	eventually(t, "the silence is noticed", disconnected(m))
	if got := dump(m); got != "a=1" {
		t.Errorf("reads in the silence: %q", got)
	}
	if _, err := m.Put(t.Context(), prefix+"a", nil); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUncertain) {
		t.Errorf("a write after the silence was noticed: %v", err)
	}
	p.gate.Unlock()
	eventually(t, "etcd is heard again", connected(m))
	ok(t)(m.Put(t.Context(), prefix+"a", []byte("3")))
	if got := dump(m); got != "a=3" {
		t.Errorf("after the silence: %q", got)
	}
}

// A process that starts while etcd is down serves what its predecessor knew, and catches up later.
func TestRestartWithoutEtcd(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "copy")
	ctx := t.Context()
	m := w.open(path)
	ok(t)(m.Put(ctx, prefix+"a", []byte("1")))
	ok(t)(m.Put(ctx, prefix+"b", []byte("1")))
	s, err := m.NewSession(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ok(t)(s.Put(ctx, prefix+"node", []byte("up")))
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	rev := m.Revision()

	other := w.open("")
	ok(t)(other.Put(ctx, prefix+"b", []byte("2")))
	ok(t)(other.Delete(ctx, prefix+"a", 0))
	ok(t)(other.Put(ctx, prefix+"z", []byte("1")))
	ok(t)(other.Put(ctx, prefix+"c", []byte("1")))
	other.Close()
	w.server.Close()

	m, err = w.openDown(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := dump(m); got != "a=1 b=1 node=up" || m.Revision() != rev {
		t.Fatalf("from disk at %d: %q", m.Revision(), got)
	}
	if r, _ := m.Get(prefix + "node"); !r.Leased {
		t.Fatal("the copy does not say that a record was leased")
	}
	if st := m.Status(); st.Connected || !st.LastContact.IsZero() || st.CopyRevision != rev {
		t.Fatalf("status: %+v", st)
	}
	var all tape
	defer m.OnChange(prefix, true, all.note)()
	all.wants(t, "+a=1 +b=1 +node=up")

	w.start()
	eventually(t, "the mirror catches up", connected(m))
	all.wants(t, "-a ~b=2 +z=1 +c=1")
	if got := dump(m); got != "b=2 c=1 node=up z=1" {
		t.Fatalf("caught up: %q", got)
	}
}

func TestNothingToStartFrom(t *testing.T) {
	w := newWorld(t)
	bad := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(bad, []byte("secret, but not a copy: "+strings.Repeat("x", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.server.Close()
	for path, want := range map[string]string{
		"":                                   "no disk copy",
		filepath.Join(t.TempDir(), "absent"): "no disk copy",
		bad:                                  "checksum",
	} {
		_, err := w.openDown(path)
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want ErrUnavailable with %q", path, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, w.config("")); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if got := w.log.String(); strings.Count(got, "not usable") != 1 || strings.Contains(got, "secret") {
		t.Errorf("log:\n%s", got)
	}

	w.start() // with etcd there, a bad copy does no harm and is replaced
	m := w.open(bad)
	ok(t)(m.Put(t.Context(), prefix+"a", []byte("1")))
	m.Close()
	if v, err := loadCopy(bad, prefix); err != nil || v.records.Len() != 1 {
		t.Errorf("the bad copy was not replaced: %v", err)
	}
}

// A change reaches the disk without anybody closing the mirror, and without a copy of every single change.
func TestCopyFollows(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "copy")
	m := w.open(path)
	for i := range 20 {
		rev := ok(t)(m.Put(t.Context(), prefix+"a", fmt.Append(nil, i)))
		if i%10 == 9 {
			eventually(t, "the change is on disk", func() bool { return m.Status().CopyRevision >= rev })
			v, err := loadCopy(path, prefix)
			if err != nil {
				t.Fatal(err)
			}
			if r, _ := v.records.Get(&Record{Key: prefix + "a"}); string(r.Value) != fmt.Sprint(i) {
				t.Fatalf("on disk: %+v", r)
			}
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}

// The history that a mirror needs may be gone when it comes back. It then learns the sum of the changes: what
// has gone, then what is new or changed, in the order of its last change.
func TestCompactedWhileAway(t *testing.T) {
	for name, last := range map[string]func(m *Mirror) (int64, error){
		"the newest change was a put":    func(m *Mirror) (int64, error) { return m.Put(t.Context(), prefix+"b", []byte("1")) },
		"the newest change was a delete": func(m *Mirror) (int64, error) { return m.Delete(t.Context(), prefix+"x", 0) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			m := w.open("")
			ctx := t.Context()
			for _, k := range []string{"a", "b", "x"} {
				ok(t)(m.Put(ctx, prefix+k, []byte("1")))
			}
			ok(t)(last(m))
			var all tape
			defer m.OnChange(prefix, false, all.note)()
			w.away(m, func(c *clientv3.Client) {
				must(t)(c.Delete(ctx, prefix+"x"))
				must(t)(c.Put(ctx, prefix+"d", "1"))
				must(t)(c.Put(ctx, prefix+"c", "1"))
				must(t)(c.Put(ctx, prefix+"b", "2"))
				must(t)(c.Delete(ctx, prefix+"a"))
				resp := must(t)(c.Put(ctx, prefix+"d", "2")).(*clientv3.PutResponse)
				must(t)(c.Compact(ctx, resp.Header.Revision))
			})
			if got := dump(m); got != "b=2 c=1 d=2" {
				t.Fatalf("caught up: %q", got)
			}
			want := "-a +c=1 ~b=2 +d=2"
			if strings.Contains(name, "put") {
				want = "-a -x +c=1 ~b=2 +d=2"
			}
			all.wants(t, want)
		})
	}
}

// R20: an etcd with another history, whatever gives it away, changes nothing in a mirror that knows better,
// be it running or restarted, and nothing is written to it.
func TestOtherHistory(t *testing.T) {
	fork := func(t *testing.T, c *clientv3.Client) int64 {
		var rev int64
		for i := range 40 {
			rev = must(t)(c.Put(t.Context(), prefix+"fork", fmt.Sprint(i))).(*clientv3.PutResponse).Header.Revision
		}
		return rev
	}
	for _, tc := range []struct {
		name           string
		fork           bool // written to, so that its revision is ahead of ours
		compacted, new bool
		running        string // the reason of a mirror that was running
		restarted      string // and of one that was started anew
	}{
		{name: "older backup", running: "is behind", restarted: "is behind"},
		{name: "older backup that was written to", fork: true, running: "the change we know", restarted: "know to be otherwise"},
		{name: "older backup that was written to and compacted", fork: true, compacted: true, running: "know to be otherwise", restarted: "know to be otherwise"},
		{name: "new etcd", new: true, fork: true, running: "cluster id", restarted: "cluster id"},
	} {
		for _, last := range []string{"put", "delete"} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/last=%s/restart=%v", tc.name, last, restart), func(t *testing.T) {
					t.Parallel() // each waits for an etcd of its own, most of the time
					w := newWorld(t)
					path := filepath.Join(t.TempDir(), "copy")
					ctx := t.Context()
					m := w.open(path)
					ok(t)(m.Put(ctx, prefix+"a", []byte("2")))
					ok(t)(m.Put(ctx, prefix+"b", []byte("1")))
					other := w.backup(m)
					if tc.new {
						other = filepath.Join(t.TempDir(), "new")
					}
					if tc.fork {
						w.elsewhere(other, func(c *clientv3.Client) {
							rev := fork(t, c)
							if tc.compacted {
								must(t)(c.Compact(ctx, rev))
							}
						})
					}
					ok(t)(m.Delete(ctx, prefix+"b", 0)) // with last=delete all that the backup lacks
					if last == "put" {
						ok(t)(m.Put(ctx, prefix+"a", []byte("2")))
					}
					current := w.backup(m)
					rev := m.Revision()
					var all tape
					defer m.OnChange(prefix, false, all.note)()

					if restart {
						m.Close()
					}
					w.swap(other)
					reason := tc.running
					if restart {
						m, reason = w.open(path), tc.restarted
						defer m.OnChange(prefix, false, all.note)()
					}
					eventually(t, "the mirror refuses", func() bool { return m.Status().Refused != "" })
					if s := m.Status(); s.Connected || !strings.Contains(s.Refused, reason) {
						t.Fatalf("status: %+v, want a reason with %q", s, reason)
					}
					if _, err := m.Put(ctx, prefix+"d", nil); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUncertain) {
						t.Fatalf("a write to the other history: %v", err)
					}
					if got := dump(m); got != "a=2" || m.Revision() < rev {
						t.Fatalf("at %d, was %d: %q", m.Revision(), rev, got)
					}
					eventually(t, "an error is in the log", func() bool {
						return strings.Contains(w.log.String(), `level=ERROR msg="etcd does not continue`)
					})

					w.swap(current) // the right one comes back
					eventually(t, "the mirror follows again", connected(m))
					ok(t)(m.Put(ctx, prefix+"d", []byte("1")))
					all.wants(t, "+d=1")
					if s := m.Status(); s.Refused != "" {
						t.Fatalf("status: %+v", s)
					}
				})
			}
		}
	}
}

// More records than one page of a listing holds.
func TestManyRecords(t *testing.T) {
	w := newWorld(t)
	m := w.open("")
	const n = 2*pageSize + 1
	for i := 0; i < n; i += maxOps {
		var ops []clientv3.Op
		for j := i; j < min(i+maxOps, n); j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%06d", prefix, j), fmt.Sprint(j)))
		}
		ok(t)(m.Txn(t.Context(), nil, ops))
	}
	other := w.open("")
	if got, want := dump(other), dump(m); got != want || other.Status().Records != n {
		t.Fatalf("%d records, want %d", other.Status().Records, n)
	}
}

func TestSession(t *testing.T) {
	w := newWorld(t)
	m := w.open("")
	ctx := t.Context()
	s, err := m.NewSession(2 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	key := prefix + "nodes/a"
	ok(t)(s.Put(ctx, key, []byte("1")))
	ok(t)(s.Put(ctx, key, []byte("2")))
	r, _ := m.Get(key)
	if !r.Leased || string(r.Value) != "2" {
		t.Fatalf("registered: %+v", r)
	}

	// Somebody ends the lease: the record goes, and the session brings it back.
	<-s.turn
	lost := s.lease
	s.give()
	must(t)(w.client().Revoke(ctx, lost))
	eventually(t, "the record is stored again", func() bool {
		again, is := m.Get(key)
		return is && again.Leased && again.CreateRevision > r.CreateRevision
	})

	// The same with etcd away; meanwhile another record is wanted.
	w.server.Close()
	eventually(t, "the mirror notices", disconnected(m))
	if _, err := s.Put(ctx, prefix+"nodes/b", []byte("1")); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("Put with etcd down: %v", err)
	}
	w.start()
	eventually(t, "both records are there", func() bool { return dump(m) == "nodes/a=2 nodes/b=1" })

	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if got := dump(m); got != "" {
		t.Fatalf("after Close: %q", got)
	}
	if _, err := s.Put(ctx, key, nil); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("Put after Close: %v", err)
	}
	if err := s.Close(ctx); err != nil {
		t.Fatalf("a second Close: %v", err)
	}
}

func TestClosed(t *testing.T) {
	w := newWorld(t)
	m := w.open("")
	ok(t)(m.Put(t.Context(), prefix+"a", []byte("1")))
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := dump(m); got != "a=1" {
		t.Fatalf("reads after Close: %q", got)
	}
	if _, err := m.Put(t.Context(), prefix+"a", nil); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("Put after Close: %v", err)
	}
	if _, err := m.NewSession(time.Minute); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("NewSession after Close: %v", err)
	}
}

// A value must not reach the log by any of the ways that lead there.
func TestLogHoldsNoValues(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "no", "such", "directory", "copy")
	m := w.open(path)
	ok(t)(m.Put(t.Context(), prefix+"canary-key", []byte("canary-value")))
	eventually(t, "the failure to save is logged", func() bool { return strings.Contains(w.log.String(), "cannot write the disk copy") })
	w.server.Close()
	eventually(t, "the loss is logged", func() bool { return strings.Contains(w.log.String(), "lost etcd") })
	if err := m.Close(); err == nil {
		t.Fatal("Close does not tell that the copy could not be written")
	}
	if got := w.log.String(); strings.Contains(got, "canary") {
		t.Fatalf("log:\n%s", got)
	}
}
