package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/snapshots"
)

func (h *harness) openSnapshots(ctx context.Context, m *mirror.Mirror, dir string, log *slog.Logger) error {
	store, err := snapshots.OpenStore(ctx, "file://"+filepath.Join(dir, "store"), "")
	if err != nil {
		return err
	}
	h.later(func() { _ = store.Close() })
	keys, _, err := seal.OpenKeyset(filepath.Join(dir, "keys"))
	if err != nil {
		return err
	}
	h.snapshots, err = snapshots.Open(ctx, snapshots.Config{Mirror: m, Store: store, KMS: keys, Cluster: h.place.Cluster.ID, Node: "node-1", Engine: cutEngine{h}, Now: h.clock.time, Log: log})
	if err != nil {
		return err
	}
	h.later(h.snapshots.Close)
	return nil
}

// cutEngine is the harness's partitions as snapshots see them.
type cutEngine struct{ h *harness }

func (e cutEngine) Cut(ctx context.Context, c *snapshots.Cache, o engine.CutOptions) (list []snapshots.Cut, err error) {
	var parts []replication.Holder
	for _, p := range c.Place {
		parts = append(parts, e.h.host.Local(placement.PartitionID(p)))
	}
	cuts, err := replication.CutCache(ctx, parts, c.ID, func(int) engine.CutOptions { return o }, c.Same)
	for _, cut := range cuts {
		list = append(list, cut)
	}
	return list, err
}

func (e cutEngine) Items(*snapshots.Cache) int64 { return 0 }

func (e cutEngine) Execute(ctx context.Context, c *snapshots.Cache, target int, t *engine.Task) error {
	return e.h.host.Local(placement.PartitionID(c.Place[target])).Execute(ctx, t)
}

// settles waits until a route answers that a member has a value.
func settles(t *testing.T, c caller, path, member, value string) answer {
	t.Helper()
	for range 2000 {
		a := c.do(t, "GET", path, nil).want(t, 200)
		if a.text(t, member) == value {
			return a
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s never says that %s is %s", path, member, value)
	return answer{}
}

func TestSnapshots(t *testing.T) {
	owner := newTenant(t)
	owner.do(t, "PUT", "/v1/caches/main/kv/a1?ttl=1h", "one").want(t, 201)
	owner.do(t, "PUT", "/v1/caches/main/kv/b1", "two").want(t, 201)

	made := owner.do(t, "POST", "/v1/caches/main/snapshots", `{}`).want(t, 202)
	id := made.text(t, "id")
	const all = "/v1/caches/main/snapshots"
	if got := made.header.Get("Location"); got != all+"/"+id || made.text(t, "state") != "creating" {
		t.Errorf("at %s: %s", got, made.body)
	}
	one := settles(t, owner, all+"/"+id, "state", "available")
	if o := one.object(t); o["keys"] != 2.0 || o["digest"] == "" || o["size_bytes"] == 0.0 {
		t.Errorf("%s", one.body)
	}
	if list := owner.do(t, "GET", all, nil).want(t, 200).object(t)["snapshots"].([]any); len(list) != 1 {
		t.Errorf("%v", list)
	}
	file := owner.do(t, "GET", all+"/"+id+"/download", nil).want(t, 200)
	if !strings.HasPrefix(string(file.body), "LARD") || fmt.Sprint(len(file.body)) != fmt.Sprint(one.object(t)["size_bytes"]) {
		t.Errorf("%d bytes: %.20q", len(file.body), file.body)
	}

	owner.do(t, "PUT", "/v1/caches/main/kv/a1", "changed").want(t, 204)
	owner.do(t, "POST", all+"/"+id+"/restore", `{"into":"copy","prefix":"a","settings":{"memory_limit_bytes":2097152}}`).want(t, 202)
	settles(t, owner, "/v1/caches/copy/restoration", "state", "done")
	owner.do(t, "GET", "/v1/caches/copy/kv/a1", nil).exactly(t, 200, "one")
	owner.do(t, "GET", "/v1/caches/copy/kv/b1", nil).want(t, 404)
	if o := owner.do(t, "GET", "/v1/caches/copy", nil).want(t, 200).object(t); o["memory_limit_bytes"] != 2097152.0 {
		t.Errorf("%v", o)
	}

	// What is there is replaced only by who names it again, and then as a whole.
	before := owner.do(t, "GET", "/v1/caches/main", nil).want(t, 200).text(t, "id")
	owner.do(t, "POST", all+"/"+id+"/restore", `{"into":"main"}`).problem(t, 409, "conflict", "")
	owner.do(t, "POST", all+"/"+id+"/restore", `{"into":"main","overwrite":"copy"}`).problem(t, 400, "invalid_argument", "overwrite")
	owner.do(t, "GET", "/v1/caches/main/kv/a1", nil).exactly(t, 200, "changed")
	owner.do(t, "PUT", "/v1/caches/main/kv/new", "new").want(t, 201)
	owner.do(t, "POST", all+"/"+id+"/restore", `{"into":"main","overwrite":"main"}`).want(t, 202)
	settles(t, owner, "/v1/caches/main/restoration", "state", "done")
	owner.do(t, "GET", "/v1/caches/main/kv/a1", nil).exactly(t, 200, "one")
	owner.do(t, "GET", "/v1/caches/main/kv/new", nil).want(t, 404)
	if after := owner.do(t, "GET", "/v1/caches/main", nil).want(t, 200).text(t, "id"); after == before {
		t.Error("the restored cache has the id of the one before")
	}

	// Another tenant, with a cache of the same name, sees nothing of it.
	other := newTenant(t)
	other.do(t, "GET", all+"/"+id, nil).problem(t, 404, "not_found", "id")
	other.do(t, "GET", all+"/"+id+"/download", nil).problem(t, 404, "not_found", "id")
	other.do(t, "POST", all+"/"+id+"/restore", `{"into":"stolen"}`).problem(t, 404, "not_found", "id")

	// Rights: to make one is not to read it.
	maker := owner.allowing(t, "snapshot:Create")
	maker.do(t, "POST", all, `{"prefix":"a"}`).want(t, 202)
	for _, r := range [][2]string{{"GET", all}, {"GET", all + "/" + id}, {"GET", all + "/" + id + "/download"}, {"DELETE", all + "/" + id}} {
		maker.do(t, r[0], r[1], nil).problem(t, 403, "denied", "")
	}
	owner.allowing(t, "snapshot:Restore").do(t, "POST", all+"/"+id+"/restore", `{"into":"main","overwrite":"main"}`).problem(t, 403, "denied", "")

	owner.do(t, "DELETE", all+"/"+id, nil).want(t, 204)
	owner.do(t, "GET", all+"/"+id, nil).problem(t, 404, "not_found", "id")
}

func TestBranchesAndFinalSnapshots(t *testing.T) {
	owner := newTenant(t)
	owner.do(t, "PATCH", "/v1/caches/main", `{"memory_limit_bytes":4194304,"default_ttl":"24h","tags":{"a":"b"}}`).want(t, 200)
	owner.do(t, "PUT", "/v1/caches/main/kv/a1", "one").want(t, 201)
	owner.do(t, "PUT", "/v1/caches/main/kv/b1", "two").want(t, 201)
	owner.do(t, "POST", "/v1/caches/main/branches", `{"name":"twig","prefix":"a","settings":{"description":"a test"}}`).want(t, 202)
	settles(t, owner, "/v1/caches/twig/restoration", "state", "done")
	if o := owner.do(t, "GET", "/v1/caches/twig", nil).want(t, 200).object(t); o["memory_limit_bytes"] != 4194304.0 || o["default_ttl"] != "24h" || o["description"] != "a test" {
		t.Errorf("%v", o)
	}
	owner.do(t, "GET", "/v1/caches/twig/kv/a1", nil).exactly(t, 200, "one")
	owner.do(t, "GET", "/v1/caches/twig/kv/b1", nil).want(t, 404)
	owner.do(t, "PUT", "/v1/caches/twig/kv/a1", "changed").want(t, 204)
	owner.do(t, "GET", "/v1/caches/main/kv/a1", nil).exactly(t, 200, "one")
	owner.do(t, "POST", "/v1/caches/main/branches", `{"name":"twig"}`).problem(t, 409, "conflict", "")
	owner.do(t, "POST", "/v1/caches/none/branches", `{"name":"x"}`).problem(t, 404, "not_found", "cache")
	owner.allowing(t, "cache:CreateCache", "snapshot:Create").do(t, "POST", "/v1/caches/main/branches", `{"name":"x"}`).problem(t, 403, "denied", "")
	owner.allowing(t, "snapshot:*").do(t, "POST", "/v1/caches/main/branches", `{"name":"x"}`).problem(t, 403, "denied", "")

	owner.allowing(t, "snapshot:*").do(t, "POST", "/v1/caches/twig/snapshots", `{"final":true}`).problem(t, 403, "denied", "")
	id := owner.do(t, "POST", "/v1/caches/twig/snapshots", `{"final":true}`).want(t, 202).text(t, "id")
	settles(t, owner, "/v1/caches/twig/snapshots/"+id, "state", "available")
	for range 1000 {
		if owner.do(t, "GET", "/v1/caches/twig", nil).status == 404 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	owner.do(t, "GET", "/v1/caches/twig/kv/a1", nil).want(t, 404)
	owner.do(t, "POST", "/v1/caches/twig/snapshots/"+id+"/restore", `{"into":"twig"}`).want(t, 202)
	settles(t, owner, "/v1/caches/twig/restoration", "state", "done")
	owner.do(t, "GET", "/v1/caches/twig/kv/a1", nil).exactly(t, 200, "changed")
}

func TestSchedulesAndKeys(t *testing.T) {
	owner := newTenant(t)
	const one = "/v1/caches/main/snapshot-schedules/nightly"
	made := owner.do(t, "PUT", one, `{"when":"daily at 03:30","keep_for":"30d"}`).want(t, 201).object(t)
	if made["keep"] != 7.0 || made["keep_for"] != "30d" || made["next"] == nil || made["due_since"] != nil {
		t.Errorf("%v", made)
	}
	owner.do(t, "PUT", one, `{"when":"0 4 * * 1-5","paused":true}`).want(t, 200)
	if o := owner.do(t, "GET", one, nil).want(t, 200).object(t); o["next"] != nil || o["when"] != "0 4 * * 1-5" || o["keep_for"] != nil {
		t.Errorf("%v", o)
	}
	owner.do(t, "PUT", one, `{"when":"sometimes"}`).problem(t, 400, "invalid_argument", "when")
	owner.do(t, "PUT", one, `{"when":"@daily","keep":81}`).problem(t, 400, "out_of_range", "keep")
	owner.do(t, "PUT", "/v1/caches/none/snapshot-schedules/x", `{"when":"@daily"}`).problem(t, 404, "not_found", "cache")
	owner.allowing(t, "snapshot:Create").do(t, "PUT", one, `{"when":"@daily"}`).problem(t, 403, "denied", "")
	if list := owner.do(t, "GET", "/v1/caches/main/snapshot-schedules", nil).want(t, 200).object(t)["schedules"].([]any); len(list) != 1 {
		t.Errorf("%v", list)
	}
	newTenant(t).do(t, "GET", one, nil).problem(t, 404, "not_found", "name")
	owner.do(t, "DELETE", one, nil).want(t, 204)
	owner.do(t, "GET", one, nil).problem(t, 404, "not_found", "name")

	const key = "/v1/encryption-key"
	owner.do(t, "POST", key+"/shred", `{"confirm":"`+owner.tenant+`"}`).problem(t, 404, "not_found", "")
	id := owner.do(t, "POST", "/v1/caches/main/snapshots", `{}`).want(t, 202).text(t, "id")
	settles(t, owner, "/v1/caches/main/snapshots/"+id, "state", "available")
	first := owner.do(t, "GET", key, nil).want(t, 200).text(t, "id")
	if o := owner.do(t, "POST", key+"/rotate", nil).want(t, 200).object(t); o["id"] == first || o["versions"] != 2.0 || o["stale_snapshots"] != 1.0 {
		t.Errorf("%v", o)
	}
	if o := owner.do(t, "POST", key+"/rewrap", `{"retire":true}`).want(t, 200).object(t); o["rewrapped"] != 1.0 {
		t.Errorf("%v", o)
	}
	restore := "/v1/caches/main/snapshots/" + id + "/restore"
	owner.do(t, "POST", restore, `{"into":"a"}`).want(t, 202)
	settles(t, owner, "/v1/caches/a/restoration", "state", "done")
	owner.do(t, "POST", key+"/shred", `{"confirm":"another"}`).problem(t, 409, "conflict", "confirm")
	owner.allowing(t, "kms:RotateTenantKey").do(t, "POST", key+"/shred", `{"confirm":"`+owner.tenant+`"}`).problem(t, 403, "denied", "")
	if o := owner.do(t, "POST", key+"/shred", `{"confirm":"`+owner.tenant+`"}`).want(t, 200).object(t); o["destroy_at"] == nil || o["shredded_at"] == nil {
		t.Errorf("%v", o)
	}
	owner.do(t, "POST", restore, `{"into":"b"}`).problem(t, 409, "conflict", "")
	owner.do(t, "DELETE", key+"/shred", nil).want(t, 204)
	owner.do(t, "POST", restore, `{"into":"b"}`).want(t, 202)
	settles(t, owner, "/v1/caches/b/restoration", "state", "done")
	if o := owner.do(t, "POST", key+"/shred", `{"confirm":"`+owner.tenant+`","wait":"0s"}`).want(t, 200).object(t); o["id"] != "" || o["destroyed_at"] == nil {
		t.Errorf("%v", o)
	}
	owner.do(t, "POST", restore, `{"into":"c"}`).want(t, 202)
	settles(t, owner, "/v1/caches/c/restoration", "state", "failed")
}
