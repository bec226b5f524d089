package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob/fileblob"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/snapshots"
)

func (h *harness) openSnapshots(ctx context.Context, m *mirror.Mirror, dir string, log *slog.Logger) error {
	bucket, err := fileblob.OpenBucket(filepath.Join(dir, "store"), &fileblob.Options{NoTempDir: true, CreateDir: true, Metadata: fileblob.MetadataDontWrite})
	if err != nil {
		return err
	}
	h.later(func() { _ = bucket.Close() })
	keys, _, err := seal.OpenKeyset(filepath.Join(dir, "keys"))
	if err != nil {
		return err
	}
	h.snapshots, err = snapshots.Open(ctx, snapshots.Config{Mirror: m, Bucket: bucket, KMS: keys, Cluster: h.place.Cluster.ID, Node: "node-1", Engine: cutEngine{h}, Now: h.clock.time, Log: log})
	if err != nil {
		return err
	}
	h.later(h.snapshots.Close)
	return nil
}

// cutEngine is the harness's partitions as snapshots see them.
type cutEngine struct{ h *harness }

func (e cutEngine) Cut(c *snapshots.Cache, o engine.CutOptions) (list []snapshots.Cut, err error) {
	var locals []*replication.Local
	for _, p := range c.Place {
		locals = append(locals, e.h.host.Local(placement.PartitionID(p)))
	}
	cuts, err := replication.CutCache(locals, c.ID, o)
	for _, cut := range cuts {
		list = append(list, cut)
	}
	return list, err
}

func (e cutEngine) Items(*snapshots.Cache) int64 { return 0 }

func (e cutEngine) Execute(ctx context.Context, c *snapshots.Cache, target int, t *engine.Task) error {
	return e.h.host.Local(placement.PartitionID(c.Place[target])).Execute(ctx, t)
}

// eventually waits until a route answers that a member has a value.
func eventually(t *testing.T, c *client, path, member, value string) answer {
	t.Helper()
	for range 2000 {
		a := c.get(path)
		if got := fmt.Sprint(a.get(t, member)); got == value {
			return a
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s never says that %s is %s", path, member, value)
	return answer{}
}
