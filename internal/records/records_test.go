package records_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/larder-cache/larder/internal/etcdembed"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
)

// A sheep is a record to test with.
type sheep struct {
	Name  string `json:"name"`
	Wool  int    `json:"wool"`
	Black []bool `json:"black,omitempty"`
}

var world struct {
	server *etcdembed.Server
	log    bytes.Buffer
	mu     sync.Mutex // guards log
}

// Write implements io.Writer for the log.
func (w *logWriter) Write(p []byte) (int, error) {
	world.mu.Lock()
	defer world.mu.Unlock()
	return world.log.Write(p)
}

type logWriter struct{}

var logger = slog.New(slog.NewTextHandler(&logWriter{}, nil))

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "records")
	if err == nil {
		world.server, err = etcdembed.Start(context.Background(), etcdembed.Config{Dir: filepath.Join(dir, "etcd"), Logger: logger, UnsafeNoFsync: true})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	world.server.Close()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// open returns a mirror of its own, and a table of sheep in it that no other test uses.
func open(t *testing.T) (*mirror.Mirror, *records.Table[sheep]) {
	t.Helper()
	client, err := etcdembed.NewClient(world.server.Endpoints(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	t.Cleanup(func() { // for the next time the test is run
		if _, err := client.Delete(context.Background(), records.Root+t.Name()+"/", clientv3.WithPrefix()); err != nil {
			t.Error(err)
		}
	})
	m, err := mirror.Open(t.Context(), mirror.Config{Client: client, Prefix: records.Root, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m, records.Open[sheep](m, "sheep", t.Name(), logger)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func names(list []*sheep) (all []string) {
	for _, s := range list {
		all = append(all, s.Name)
	}
	return all
}

func TestARecordsLife(t *testing.T) {
	_, flock := open(t)
	ctx := t.Context()
	if _, ok := flock.Get("fold/dolly"); ok {
		t.Error("a record is there before it was made")
	}
	if err := flock.Create(ctx, "fold/dolly", &sheep{Name: "dolly", Wool: 1}); err != nil {
		t.Fatal(err)
	}
	if s, ok := flock.Get("fold/dolly"); !ok || s.Wool != 1 { // whoever wrote a record reads it back
		t.Errorf("made: %+v", s)
	}
	err := flock.Create(ctx, "fold/dolly", &sheep{})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.From(err).Message, `sheep "dolly" exists`) {
		t.Errorf("made twice: %v", err)
	}
	before, _ := flock.Get("fold/dolly")
	s, err := flock.Update(ctx, "fold/dolly", func(s *sheep) error { s.Wool, s.Black = 2, []bool{true}; return nil })
	if err != nil || s.Wool != 2 || before.Wool != 1 || before.Black != nil {
		t.Errorf("changed: %+v %v; the record that others hold is %+v", s, err, before)
	}
	refused := fault.New(fault.OutOfRange, "", "no")
	if _, err := flock.Update(ctx, "fold/dolly", func(s *sheep) error { s.Wool = 9; return refused }); err != refused {
		t.Errorf("a refused change: %v", err)
	}
	if s, _ := flock.Get("fold/dolly"); s.Wool != 2 {
		t.Errorf("a refused change left %+v", s)
	}
	if err := flock.Put(ctx, "fold/dolly", &sheep{Name: "dolly", Wool: 3}); err != nil {
		t.Fatal(err)
	}
	if s, _ := flock.Get("fold/dolly"); s.Wool != 3 || s.Black != nil {
		t.Errorf("put: %+v", s)
	}
	if err := flock.Delete(ctx, "fold/dolly"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"delete": flock.Delete(ctx, "fold/dolly"),
		"update": func() error {
			_, err := flock.Update(ctx, "fold/dolly", func(*sheep) error { return nil })
			return err
		}(),
	} {
		if !fault.Is(err, fault.NotFound) || !strings.Contains(fault.From(err).Message, `no sheep "dolly"`) {
			t.Errorf("%s of a record that is gone: %v", what, err)
		}
	}
}

// Pages hold every readable record once, whatever the size of the page and whatever cannot be read in between.
func TestPages(t *testing.T) {
	m, flock := open(t)
	ctx := t.Context()
	var want []string
	for i := range 20 {
		name := fmt.Sprintf("%02d", i)
		key := records.Root + t.Name() + "/fold/" + name
		if i%3 == 1 || i > 16 { // broken ones at the end of pages, in a row and at the very end
			must(m.Put(ctx, key, []byte(`{"name":7}`)))
			continue
		}
		if err := flock.Create(ctx, "fold/"+name, &sheep{Name: name}); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	for _, other := range []string{"fol", "fold2/00", "fold"} { // beside the fold, and not in it
		if err := flock.Create(ctx, other, &sheep{Name: other}); err != nil {
			t.Fatal(err)
		}
	}
	for limit := 0; limit <= 21; limit++ {
		var got []string
		for after := ""; ; {
			list, next := flock.List("fold/", after, limit)
			if limit > 0 && len(list) > limit {
				t.Fatalf("a page of %d, limit %d", len(list), limit)
			}
			got = append(got, names(list)...)
			if after = next; after == "" {
				break
			}
			if len(list) == 0 {
				t.Fatalf("limit %d: an empty page that is not the last", limit)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %v, want %v", limit, got, want)
		}
	}
	for _, tt := range []struct{ after, want string }{
		{"fold/", "00"}, {"fold/15", ""}, {"fold/1", "11"}, {"fold/zzz", ""}, {"zzz", ""}, {"a", "00"}, {"fold/00\x00", "02"},
	} {
		list, _ := flock.List("fold/", tt.after, 1)
		if got := strings.Join(names(list), ","); got != tt.want {
			t.Errorf("after %q: %q, want %q", tt.after, got, tt.want)
		}
	}
}

// Changes that many make at the same time, through two mirrors, are all there in the end.
func TestUpdatesDoNotGetLost(t *testing.T) {
	_, here := open(t)
	m, _ := open(t)
	there := records.Open[sheep](m, "sheep", t.Name(), logger)
	if err := here.Create(t.Context(), "dolly", &sheep{}); err != nil {
		t.Fatal(err)
	}
	settle := func() { // a mirror sees at once only what went through itself
		t.Helper()
		if err := m.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	settle()
	const writers, each = 4, 10
	var running sync.WaitGroup
	for i := range writers {
		flock := []*records.Table[sheep]{here, there}[i%2]
		running.Go(func() {
			for range each {
				if _, err := flock.Update(t.Context(), "dolly", func(s *sheep) error { s.Wool++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	settle()
	if s, ok := there.Get("dolly"); !ok || s.Wool != writers*each {
		t.Errorf("%+v, want %d changes", s, writers*each)
	}
}

func TestOnChange(t *testing.T) {
	m, flock := open(t)
	ctx := t.Context()
	if err := flock.Create(ctx, "early", &sheep{Name: "early"}); err != nil {
		t.Fatal(err)
	}
	var heard []string
	flock.OnChange(func(name string, old, new *sheep) {
		say := func(s *sheep) string { return string(must(json.Marshal(s))) }
		heard = append(heard, name+": "+say(old)+" -> "+say(new))
	})
	key := records.Root + t.Name() + "/dolly"
	if err := flock.Create(ctx, "dolly", &sheep{Name: "dolly"}); err != nil {
		t.Fatal(err)
	}
	if _, err := flock.Update(ctx, "dolly", func(s *sheep) error { s.Wool = 5; return nil }); err != nil {
		t.Fatal(err)
	}
	must(m.Put(ctx, key, []byte("wolf"))) // a record that cannot be read is gone
	if _, ok := flock.Get("dolly"); ok {
		t.Error("a record that cannot be read is shown")
	}
	if err := flock.Create(ctx, "dolly", &sheep{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("created over what cannot be read: %v", err)
	}
	if _, err := flock.Update(ctx, "dolly", func(*sheep) error { return nil }); !fault.Is(err, fault.NotFound) {
		t.Errorf("updated what cannot be read: %v", err)
	}
	if r, _ := m.Get(key); string(r.Value) != "wolf" {
		t.Errorf("what could not be read was overwritten: %s", r.Value)
	}
	if err := flock.Put(ctx, "dolly", &sheep{Name: "dolly"}); err != nil {
		t.Fatal(err)
	}
	if err := flock.Delete(ctx, "dolly"); err != nil {
		t.Fatal(err)
	}
	const early, zero, five = `{"name":"early","wool":0}`, `{"name":"dolly","wool":0}`, `{"name":"dolly","wool":5}`
	want := []string{"early: null -> " + early, "dolly: null -> " + zero, "dolly: " + zero + " -> " + five, "dolly: " + five + " -> null",
		"dolly: null -> " + zero, "dolly: " + zero + " -> null"}
	if !slices.Equal(heard, want) {
		t.Errorf("heard\n%s\nwant\n%s", strings.Join(heard, "\n"), strings.Join(want, "\n"))
	}
	world.mu.Lock()
	defer world.mu.Unlock()
	if log := world.log.String(); !strings.Contains(log, "a control record cannot be read") || strings.Contains(log, "wolf") {
		t.Errorf("the log is %s", log)
	}
}

// Without etcd everything can be read and nothing written, and the error says that nothing was changed.
func TestEtcdDown(t *testing.T) {
	dir := t.TempDir()
	server, err := etcdembed.Start(t.Context(), etcdembed.Config{Dir: dir, Logger: logger, UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	client := must(etcdembed.NewClient(server.Endpoints(), nil))
	defer client.Close()
	m, err := mirror.Open(t.Context(), mirror.Config{Client: client, Prefix: records.Root, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	flock := records.Open[sheep](m, "sheep", "sheep", logger)
	if err := flock.Create(t.Context(), "dolly", &sheep{Name: "dolly"}); err != nil {
		t.Fatal(err)
	}
	server.Close()
	for m.Status().Connected {
		time.Sleep(10 * time.Millisecond)
	}
	if s, ok := flock.Get("dolly"); !ok || s.Name != "dolly" {
		t.Error("a record cannot be read without etcd")
	}
	_, updated := flock.Update(t.Context(), "dolly", func(s *sheep) error { s.Wool = 1; return nil })
	for what, err := range map[string]error{
		"create": flock.Create(t.Context(), "lamb", &sheep{}), "update": updated,
		"put": flock.Put(t.Context(), "dolly", &sheep{}), "delete": flock.Delete(t.Context(), "dolly"),
	} {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s without etcd: %v", what, err)
		}
	}
	if s, _ := flock.Get("dolly"); s.Wool != 0 {
		t.Errorf("a write that failed is seen: %+v", s)
	}
}
