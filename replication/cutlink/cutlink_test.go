package cutlink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
)

// links are nodes that are reached by their names, over real sockets.
type links map[string]string

func (l links) Open(ctx context.Context, to string, _ byte) (io.ReadWriteCloser, error) {
	at, ok := l[to]
	if !ok {
		return nil, errors.New("no such node")
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", at)
}

// serve makes a node that has these partitions.
func (l links) serve(t *testing.T, name string, at func(placement.PartitionID) replication.Holder, wrap func(net.Conn) io.ReadWriteCloser) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	l[name] = listener.Addr().String()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _ = Serve(wrap(conn), at) }()
		}
	}()
}

func plain(c net.Conn) io.ReadWriteCloser { return c }

type still struct{}

func (still) Now() int64 { return 1_800_000_000_000 }

var cache = engine.CacheID{1}

// filled is a partition with a cache.
func filled(t *testing.T, keys int) *replication.Local {
	t.Helper()
	l := replication.NewLocal(engine.Seed{1, 2}, still{}, [32]byte{}, slog.New(slog.DiscardHandler))
	if err := l.Execute(t.Context(), engine.ConfigureTask(cache, engine.Settings{})); err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		args := [][]byte{[]byte("SET"), fmt.Append(nil, "k", i), []byte(strings.Repeat("v", 1000))}
		if err := l.Execute(t.Context(), &engine.Task{Cache: cache, Calls: []engine.Call{{Command: engine.MustLookup("SET"), Args: args}}}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// A follower leads nothing, and says who does.
type follower struct{ leader string }

func (f follower) Hold(context.Context, engine.CacheID) (replication.Held, error) {
	return nil, &replication.NotLeader{Node: f.leader}
}

// read counts what is in a cut.
func read(c replication.Cut) (keys int64, err error) {
	s := &engine.CutSplitter{To: func(int, []byte) int { return -1 }, Emit: func(*engine.CutPart) error { return nil }}
	if _, err := io.Copy(s, c); err != nil {
		return 0, err
	}
	return s.Keys, s.Done()
}

// TestACutFromAfar: the leader is found by what another node says, and its cut is the same as if it were here; a part of the slots, or
// of the keys, is one.
func TestACutFromAfar(t *testing.T) {
	l := filled(t, 500)
	nodes := links{}
	nodes.serve(t, "follower", func(placement.PartitionID) replication.Holder { return follower{"leader"} }, plain)
	nodes.serve(t, "leader", func(id placement.PartitionID) replication.Holder {
		if id != 3 {
			return nil
		}
		return l
	}, plain)
	far := &Far{Links: nodes, Partition: 3, Nodes: []string{"gone", "follower"}}
	for name, o := range map[string]Options{"all": {}, "prefix": {Prefix: []byte("k1")}, "half": {Slots: [][2]int{{0, 8191}}}, "other half": {Slots: [][2]int{{8192, 16383}}}} {
		far.Options = o
		cuts, err := replication.CutCache(t.Context(), []replication.Holder{far}, cache, func(int) engine.CutOptions { return o.Cut() }, nil)
		if err != nil {
			t.Fatal(name, err)
		}
		keys, err := read(cuts[0])
		cuts[0].Close()
		if err != nil || keys == 0 || name != "all" && keys == 500 {
			t.Errorf("%s: %d keys, %v", name, keys, err)
		}
		var here []replication.Cut
		for range 1000 { // until the leader has seen that it is closed
			time.Sleep(time.Millisecond)
			if here, err = replication.CutCache(t.Context(), []replication.Holder{l}, cache, func(int) engine.CutOptions { return o.Cut() }, nil); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if want, err := read(here[0]); err != nil || want != keys {
			t.Errorf("%s: %d keys here, %d from afar: %v", name, want, keys, err)
		}
		here[0].Close()
	}
	far.Partition, far.Nodes = 4, []string{"leader"}
	if _, err := far.Hold(t.Context(), cache); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a partition that is nowhere: %v", err)
	}
}

// breaking is a connection that ends after so many bytes.
type breaking struct {
	net.Conn
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		_ = b.Close()
		return 0, errors.New("broken")
	}
	return b.Conn.Write(p)
}

// TestABrokenCutHasNoEnd: wherever the stream breaks, what came is not taken for a cut.
func TestABrokenCutHasNoEnd(t *testing.T) {
	l := filled(t, 50)
	for left := 0; left < 50_000; left += 1_777 {
		nodes := links{}
		nodes.serve(t, "leader", func(placement.PartitionID) replication.Holder { return l }, func(c net.Conn) io.ReadWriteCloser { return &breaking{c, left} })
		var cuts []replication.Cut
		var err error
		for range 1000 { // the one before may not be over
			time.Sleep(time.Millisecond)
			if cuts, err = replication.CutCache(t.Context(), []replication.Holder{&Far{Links: nodes, Nodes: []string{"leader"}}}, cache, func(int) engine.CutOptions { return engine.CutOptions{} }, nil); err == nil || left < 1000 {
				break
			}
		}
		if err != nil {
			continue
		}
		if keys, err := read(cuts[0]); err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("broken after %d bytes: %d keys, %v", left, keys, err)
		}
		cuts[0].Close()
	}
}

// FuzzServe: whatever another node says, it is an error at worst.
func FuzzServe(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}c"))
	f.Add([]byte("\x00\x00\x00\x3b{\"partition\":1,\"cache\":\"AQAAAAAAAAAAAAAAAAAAAA==\",\"options\":{}}cr"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := replication.NewLocal(engine.Seed{1, 2}, still{}, [32]byte{}, slog.New(slog.DiscardHandler))
		_ = l.Execute(t.Context(), engine.ConfigureTask(cache, engine.Settings{}))
		_ = Serve(struct {
			io.Reader
			io.Writer
			io.Closer
		}{bytes.NewReader(b), io.Discard, io.NopCloser(nil)}, func(placement.PartitionID) replication.Holder { return l })
	})
}
