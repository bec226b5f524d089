package cutlink

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
)

// TestAFeedFromAfar: who waits for the feed while the cut is still being read gets what has changed since, and hears when the cache is gone.
func TestAFeedFromAfar(t *testing.T) {
	l, nodes := filled(t, 2000), links{}
	nodes.serve(t, "far", func(placement.PartitionID) replication.Holder { return l }, plain)
	far := &Far{Links: nodes, Partition: 1, Nodes: []string{"far"}, Follow: true}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cuts, feeds, err := replication.FollowCache(ctx, []replication.Holder{far}, cache, func(int) engine.CutOptions { return engine.CutOptions{} }, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer feeds[0].Close()
	type next struct {
		b   []byte
		err error
	}
	came := make(chan next, 1)
	go func() {
		b, err := feeds[0].Next(ctx)
		came <- next{bytes.Clone(b), err}
	}()
	set := [][]byte{[]byte("SET"), []byte("k0"), []byte("since")}
	if err := l.Execute(ctx, &engine.Task{Cache: cache, Calls: []engine.Call{{Command: engine.MustLookup("SET"), Args: set}}}); err != nil {
		t.Fatal(err)
	}
	if keys, err := read(cuts[0]); keys != 2000 || err != nil {
		t.Fatalf("%d keys, %v", keys, err)
	}
	cuts[0].Close() // which leaves the feed its stream
	const want = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$2\r\nk0\r\n$5\r\nsince\r\n"
	if n := <-came; n.err != nil || string(n.b) != want {
		t.Fatalf("%q, %v", n.b, n.err)
	}
	if err := l.Execute(ctx, engine.DropTask(cache)); err != nil {
		t.Fatal(err)
	}
	if b, err := feeds[0].Next(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("%q, %v behind the end", b, err)
	}
}
