package snapshots_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/snapshots"
)

// another is a world of another cluster, with the master key of this one.
func (w *world) another() *world {
	other := newWorld(w.t)
	other.Close()
	other.cfg.KMS, other.cfg.Cluster = w.cfg.KMS, "d"
	other.open()
	return other
}

func (w *world) carried(snap *snapshots.Snapshot, to string) []byte {
	w.t.Helper()
	r, size, err := w.Carry(w.t.Context(), snap, to)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != size {
		w.t.Fatalf("%d bytes of %d: %v", len(b), size, err)
	}
	return b
}

func TestASnapshotGoesToAnotherCluster(t *testing.T) {
	here := newWorld(t)
	c := here.cache("a", 2)
	here.fill(c)
	snap := here.snapshot(c)
	if _, err := here.RotateKey(t.Context(), c.Tenant, c.TenantID); err != nil { // the file's own wrapping is an old one
		t.Fatal(err)
	}
	if _, err := here.RewrapKeys(t.Context(), c.Tenant, c.TenantID, true); err != nil {
		t.Fatal(err)
	}
	snap = here.made(c, snap)
	there := here.another()
	to := there.cache("b", 3)
	file := here.carried(snap, to.TenantID)
	if bytes.Contains(file, []byte(canary)) {
		t.Error("the file shows what is in the cache")
	}
	took, err := there.Take(t.Context(), to.Tenant, to.TenantID, to.Name, bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if took.State != snapshots.Available || took.Digest != snap.Digest || took.Keys != snap.Keys || took.Tenant != to.Tenant || !took.Created.Equal(snap.Created) {
		t.Errorf("%+v was sent, %+v was taken", snap, took)
	}
	if err := here.Delete(t.Context(), snap); err != nil {
		t.Fatal(err)
	}
	if published, p := there.restore(took, to, snapshots.RestoreOptions{FreezeTTL: true}); !published || p.Keys != 300 {
		t.Fatalf("%+v", p)
	}
	if got := there.do(to, "LLEN", "list7"); got.Int != 5 {
		t.Errorf("the list has %d elements", got.Int)
	}
}

// TestWhatIsNoPortableSnapshotLeavesNothing tries files that are damaged, cut off, longer, another's or of another master key.
func TestWhatIsNoPortableSnapshotLeavesNothing(t *testing.T) {
	here := newWorld(t)
	c := here.cache("a", 1)
	here.fill(c)
	one, two := here.snapshot(c), here.snapshot(c)
	there := here.another()
	to := there.cache("b", 1)
	file, other := here.carried(one, to.TenantID), here.carried(two, to.TenantID)
	plain, _, err := here.Download(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := io.ReadAll(plain)
	_ = plain.Close()
	if err != nil {
		t.Fatal(err)
	}
	stranger := newWorld(t)
	refused := func(w *world, what string, b []byte, kind fault.Kind) {
		t.Helper()
		snap, err := w.Take(t.Context(), to.Tenant, to.TenantID, to.Name, bytes.NewReader(b))
		if snap != nil || !fault.Is(err, kind) {
			t.Fatalf("%s: %+v, %v", what, snap, err)
		}
		if list, _ := w.List(to.Tenant, to.TenantID, to.Name, "", 0); len(list) > 0 {
			t.Fatalf("%s left %+v", what, list[0])
		}
		if left := w.files(); len(left) > 0 {
			t.Fatalf("%s left %v", what, left)
		}
	}
	flip := func(at int) []byte {
		b := bytes.Clone(file)
		b[at] ^= 1
		return b
	}
	pass := file[:len(file)-len(sealed)]
	refused(there, "nothing", nil, fault.InvalidArgument)
	refused(there, "a file without its passport", sealed, fault.InvalidArgument)
	refused(there, "a passport alone", pass, fault.InvalidArgument)
	refused(there, "a byte more", append(bytes.Clone(file), 0), fault.InvalidArgument)
	refused(there, "a passport of another snapshot", append(bytes.Clone(other[:len(other)-len(sealed)]), sealed...), fault.InvalidArgument)
	for at := len(file) - 1; at > 0; at -= len(file) / 25 {
		refused(there, "a file that is cut off", file[:at], fault.InvalidArgument)
		if b := flip(at); at > len(pass) {
			refused(there, "a file with another bit", b, fault.InvalidArgument)
		}
	}
	for at := range pass { // when it says it was made, nobody reads there
		snap, err := there.Take(t.Context(), to.Tenant, to.TenantID, to.Name, bytes.NewReader(flip(at)))
		if err != nil {
			continue
		}
		if snap.Digest != one.Digest || !snap.Created.Equal(one.Created) {
			t.Fatalf("byte %d of the passport changes what is taken: %+v", at, snap)
		}
		if err := there.Delete(t.Context(), snap); err != nil {
			t.Fatal(err)
		}
	}
	refused(there, "a file for another tenant", here.carried(one, c.TenantID), fault.InvalidArgument)
	refused(stranger, "a file of another master key", file, fault.Conflict)
	if _, err := there.Take(t.Context(), to.Tenant, to.TenantID, to.Name, bytes.NewReader(file)); err != nil {
		t.Error("the file itself was refused:", err)
	}
	if _, err := os.Stat(filepath.Join(there.dir, to.TenantID)); err != nil {
		t.Error(err)
	}
}

// TestAPassportIsNoKeyOfAFile: what the master key has wrapped for one is not taken for the other.
func TestAPassportIsNoKeyOfAFile(t *testing.T) {
	master := seal.NewKey()
	h := seal.Head{Kind: "snapshot", Cluster: "c", Tenant: "t", Cache: "x", ID: "i"}
	var file bytes.Buffer
	w, err := seal.Writer(t.Context(), &file, master, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := file.Bytes()
	copy(b, "LARP") // its own head as a passport
	if _, _, err := seal.OpenCarried(t.Context(), io.MultiReader(bytes.NewReader(b), bytes.NewReader(b)), master, "snapshot", "t"); err == nil {
		t.Error("a file is its own passport")
	}
}
