package snapshots_test

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/kms"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/snapshots"
)

// readable reports whether a snapshot can be restored.
func (w *world) readable(c *snapshots.Cache, snap *snapshots.Snapshot) bool {
	w.t.Helper()
	to := w.cache("into", 1)
	to.Tenant, to.TenantID = c.Tenant, c.TenantID
	now, _, err := w.Get(w.t.Context(), c.Tenant, c.TenantID, c.Name, snap.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.Restore(w.t.Context(), now, to, snapshots.RestoreOptions{}, func(context.Context) error { return nil }); err != nil {
		return false
	}
	for range 2000 {
		if p, _ := w.Restoring(w.t.Context(), to.TenantID, to.Name); !p.Ended.IsZero() {
			if w.locals[0].Holds(to.ID) != (p.Problem == "") {
				w.t.Errorf("%+v, and something is there: %v", p, w.locals[0].Holds(to.ID))
			}
			return p.Problem == ""
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatal("the restoration does not come to its end")
	return false
}

// TestKeysAreRotated: snapshots of every version of the key are readable; once all are wrapped anew the older versions can go, and the
// files have not been touched. A snapshot that was not wrapped anew is lost with its version, and says so.
func TestKeysAreRotated(t *testing.T) {
	w, _, _, c := newTended(t)
	var made []*snapshots.Snapshot
	for range 5 {
		made = append(made, w.snapshot(c))
		if _, err := w.RotateKey(t.Context(), c.Tenant, c.TenantID); err != nil {
			t.Fatal(err)
		}
	}
	made = append(made, w.snapshot(c))
	before := map[string][]byte{}
	for _, path := range w.files() {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before[path] = b
	}
	if info, ok := w.Key(c.Tenant, c.TenantID); !ok || info.Versions != 6 || info.Stale < 5 {
		t.Errorf("%+v", info)
	}
	for _, snap := range made {
		if !w.readable(c, snap) {
			t.Errorf("%s is not readable", snap.ID)
		}
	}
	if n, err := w.RewrapKeys(t.Context(), c.Tenant, c.TenantID, true); err != nil || n != 5 {
		t.Fatalf("%d rewrapped: %v", n, err)
	}
	if info, _ := w.Key(c.Tenant, c.TenantID); info.Versions != 1 || info.Stale != 0 {
		t.Errorf("%+v", info)
	}
	w.open() // a process that has never had the older versions
	for _, snap := range made {
		if !w.readable(c, snap) {
			t.Errorf("%s is not readable any more", snap.ID)
		}
	}
	for path, b := range before {
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, b) {
			t.Errorf("%s was touched: %v", path, err)
		}
	}
}

// TestMasterKeyIsReplaced: with the keys of tenants wrapped by another master key nobody needs the old one.
func TestMasterKeyIsReplaced(t *testing.T) {
	w, _, old, c := newTended(t)
	snap := w.snapshot(c)
	next := seal.NewKey()
	w.cfg.KMS = kms.Chain{next, old}
	w.open()
	if n, err := w.RewrapTenants(t.Context()); err != nil || n < 1 {
		t.Fatalf("%d: %v", n, err)
	}
	old.set(true)
	w.cfg.KMS = next
	w.open()
	if !w.readable(c, snap) {
		t.Error("a snapshot cannot be read without the old master key")
	}
	w.cfg.KMS = seal.NewKey()
	w.open()
	if w.readable(c, snap) {
		t.Error("a snapshot can be read with another master key")
	}
}

// TestShreddedIsUnreadable: at once, for every process that has had the key, and copies of the files as well; other tenants notice
// nothing. It can be taken back until the keys are destroyed; then nothing brings them back, and the tenant begins anew.
func TestShreddedIsUnreadable(t *testing.T) {
	w, a, _, c := newTended(t)
	neighbour := w.cache("main", 1)
	w.fill(neighbour)
	a.add(neighbour)
	theirs := w.snapshot(neighbour)
	snap := w.snapshot(c)
	second, err := snapshots.Open(t.Context(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Close)
	if err := w.ShredKeys(t.Context(), c.Tenant, c.TenantID, snapshots.ShredWait); err != nil {
		t.Fatal(err)
	}
	if w.readable(c, snap) {
		t.Error("it is readable")
	}
	to := w.cache("by the second", 1)
	to.Tenant, to.TenantID = c.Tenant, c.TenantID
	if err := second.Restore(t.Context(), snap, to, snapshots.RestoreOptions{}, func(context.Context) error { return nil }); !fault.Is(err, fault.Conflict) {
		t.Errorf("another process: %v", err)
	}
	if _, err := w.Create(t.Context(), c, snapshots.CreateOptions{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a snapshot with keys that are shredded: %v", err)
	}
	if !w.readable(neighbour, theirs) {
		t.Error("another tenant's is not readable")
	}
	if err := w.UnshredKeys(t.Context(), c.Tenant, c.TenantID); err != nil {
		t.Fatal(err)
	}
	if !w.readable(c, snap) {
		t.Error("it is not readable, and that was taken back")
	}
	if err := w.ShredKeys(t.Context(), c.Tenant, c.TenantID, snapshots.ShredWait); err != nil {
		t.Fatal(err)
	}
	w.clock.ms.Add(snapshots.ShredWait.Milliseconds() - 5000)
	w.tend()
	if info, _ := w.Key(c.Tenant, c.TenantID); info.ID == "" {
		t.Error("it was destroyed too early")
	}
	w.clock.ms.Add(time.Minute.Milliseconds())
	w.tend()
	if info, _ := w.Key(c.Tenant, c.TenantID); info.ID != "" || info.Versions != 0 || info.Destroyed.IsZero() {
		t.Errorf("%+v", info)
	}
	if err := w.UnshredKeys(t.Context(), c.Tenant, c.TenantID); !fault.Is(err, fault.Conflict) {
		t.Errorf("destroyed keys came back: %v", err)
	}
	fresh := w.snapshot(c)
	if w.readable(c, snap) || !w.readable(c, fresh) {
		t.Error("only what is sealed with the new key is readable")
	}
	if err := w.ForgetTenant(t.Context(), c.Tenant, c.TenantID); err != nil {
		t.Fatal(err)
	}
	if w.readable(c, fresh) {
		t.Error("the tenant's keys are gone, and its snapshot is readable")
	}
}
