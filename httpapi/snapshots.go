package httpapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/snapshots"
	"github.com/larder-cache/larder/tenants"
)

func (a *API) snapshotRoutes() []route {
	const all, one = "/v1/caches/:cache/snapshots", "/v1/caches/:cache/snapshots/:id"
	return []route{
		{method: http.MethodPost, path: all, manage: true, serve: (*exchange).createSnapshot},
		{method: http.MethodGet, path: all, manage: true, serve: (*exchange).listSnapshots},
		{method: http.MethodPut, path: all, manage: true, long: true, serve: (*exchange).takeSnapshot},
		{method: http.MethodGet, path: one, manage: true, serve: (*exchange).describeSnapshot},
		{method: http.MethodDelete, path: one, manage: true, serve: (*exchange).deleteSnapshot},
		{method: http.MethodGet, path: one + "/download", manage: true, serve: (*exchange).downloadSnapshot},
		{method: http.MethodPost, path: one + "/restore", manage: true, serve: (*exchange).restoreSnapshot},
		{method: http.MethodGet, path: "/v1/caches/:cache/restoration", manage: true, serve: (*exchange).describeRestoration},
		{method: http.MethodDelete, path: "/v1/caches/:cache/restoration", manage: true, serve: (*exchange).cancelRestoration},
		{method: http.MethodPost, path: "/v1/caches/:cache/branches", manage: true, serve: (*exchange).createBranch},
	}
}

// Snapshot is what a cache held at one moment, kept in the store of snapshots.
type Snapshot struct {
	ID        string       `json:"id" example:"20261127t081500-9f3a61c2"`
	Cache     string       `json:"cache" example:"main"`
	State     string       `json:"state" enums:"creating,available,failed" example:"available"` // available: it was read back and is whole
	Problem   string       `json:"problem,omitempty" example:""`                                // why it failed
	Prefix    string       `json:"prefix,omitempty" example:""`                                 // only keys that begin so are in it
	CreatedAt string       `json:"created_at" example:"2026-11-27T08:15:00.000Z"`               // when the cache was as it is in the snapshot
	Keys      int64        `json:"keys" example:"1200"`
	Bytes     int64        `json:"bytes" example:"524288"`                                                            // before encryption
	SizeBytes int64        `json:"size_bytes" example:"525000"`                                                       // in the store
	Schedule  string       `json:"schedule,omitempty" example:"nightly"`                                              // by which it was made
	Final     bool         `json:"final,omitempty" example:"false"`                                                   // its cache is deleted once it is available
	Digest    string       `json:"digest" example:"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"` // the same for the same keys, values and deadlines
	Progress  *JobProgress `json:"progress,omitempty"`                                                                // while it is made
}

// JobProgress is how far something is that takes its time.
type JobProgress struct {
	Phase     string  `json:"phase" enums:"reading,uploading,verifying" example:"reading"` // what the numbers below are of
	StartedAt string  `json:"started_at" example:"2026-11-27T08:15:00.000Z"`
	Keys      int64   `json:"keys" example:"800"`
	TotalKeys int64   `json:"total_keys" example:"1200"` // about
	Bytes     int64   `json:"bytes" example:"350000"`
	SizeBytes int64   `json:"size_bytes,omitempty" example:"525000"` // of what is uploaded
	Rate      int64   `json:"bytes_per_second" example:"120000000"`
	Remaining *string `json:"remaining" example:"3s"`       // of this phase, about; null while that cannot be told
	Waiting   string  `json:"waiting,omitempty" example:""` // for what, where it does not go on
}

func showProgress(p snapshots.Progress, now time.Time) *JobProgress {
	shown := &JobProgress{
		Phase: string(p.Phase), StartedAt: showTime(p.Began), Keys: p.Keys, TotalKeys: p.Total, Bytes: p.Bytes, SizeBytes: p.Size, Rate: p.Rate(now), Waiting: p.Trouble,
	}
	if left := p.Remaining(now); left > 0 {
		text := formatDuration(left.Milliseconds())
		shown.Remaining = &text
	}
	return shown
}

func (x *exchange) showSnapshot(s *snapshots.Snapshot, p snapshots.Progress) Snapshot {
	shown := Snapshot{
		ID: s.ID, Cache: s.Cache, State: string(s.State), Problem: s.Problem, Prefix: string(s.Prefix), CreatedAt: showTime(s.Created),
		Keys: s.Keys, Bytes: s.Bytes, SizeBytes: s.Size, Digest: s.Digest, Schedule: s.Schedule, Final: s.Final,
	}
	if s.State == snapshots.Creating && !p.Began.IsZero() {
		shown.Progress = showProgress(p, x.api.Gateway.Now())
	}
	return shown
}

// mayOnSnapshot asks for a right on a snapshot of the path's cache, "*" for all of them.
func (x *exchange) mayOnSnapshot(action policy.Action, id string) error {
	return x.api.Gateway.Authorize(&x.caller, action, policy.NewResource("cache", x.api.Gateway.Region(), x.who().Tenant, "snapshot", x.cache(), id))
}

// tenantID is the caller's tenant's.
func (x *exchange) tenantID() (string, error) {
	t, ok := x.api.Accounts.Get(x.who().Tenant)
	if !ok {
		return "", fault.New(fault.NotFound, "snapshots", "no tenant %q", x.who().Tenant)
	}
	return string(t.ID), nil
}

// snapshot finds the snapshot of the path.
func (x *exchange) snapshot(action policy.Action) (*snapshots.Snapshot, snapshots.Progress, error) {
	id := x.Param("id")
	if err := x.mayOnSnapshot(action, id); err != nil {
		return nil, snapshots.Progress{}, err
	}
	tenant, err := x.tenantID()
	if err != nil {
		return nil, snapshots.Progress{}, err
	}
	return x.api.Snapshots.Get(x.Request().Context(), x.who().Tenant, tenant, x.cache(), id)
}

// ToCut is a cache as snapshots see it.
func ToCut(accounts *tenants.Store, c *tenants.Cache) *snapshots.Cache {
	s := &snapshots.Cache{Tenant: c.Tenant, TenantID: string(c.TenantID), Name: c.Name, ID: c.ID, Settings: c.Settings()}
	at := c.Partitions()
	slices.Sort(at)
	for _, p := range at {
		s.Place, s.Shares = append(s.Place, uint16(p)), append(s.Shares, c.SettingsAt(p))
	}
	s.Targets = len(s.Place)
	ranges := c.Ranges
	s.To = func(key []byte) int {
		slot := placement.Slot(key)
		for _, r := range ranges {
			if slot <= r.To {
				return slices.Index(s.Place, uint16(r.Partition))
			}
		}
		return -1
	}
	s.Slots = func(i int) (runs [][2]int) {
		for _, r := range ranges {
			if uint16(r.Partition) == s.Place[i] {
				runs = append(runs, [2]int{int(r.From), int(r.To)})
			}
		}
		return runs
	}
	s.Same = func() bool {
		now, ok := accounts.Cache(c.Tenant, c.Name)
		return ok && now.ID == c.ID && slices.Equal(now.Ranges, ranges) && now.Move == nil // what moves is in two places
	}
	return s
}

// CreateSnapshotRequest says what is to be in a snapshot.
type CreateSnapshotRequest struct {
	Prefix string `json:"prefix,omitempty" maxLength:"32768" example:""` // only keys that begin so; empty: all
	Final  bool   `json:"final,omitempty" example:"false"`               // the cache is deleted once the snapshot is available
}

// createSnapshot serves POST /v1/caches/:cache/snapshots.
//
// @Summary     Make a snapshot of a cache
// @Description What the cache holds at this moment, on all of its partitions, while writes go on. It is good when its state is
// @Description available: it has been read back from the store by then. Idempotency keys are not in it. The cache of a final one is
// @Description deleted then; what is written meanwhile is lost.
// @Tags        snapshots
// @Param       request body CreateSnapshotRequest true "what is to be in it"
// @Success     202 {object} Snapshot
// @Failure     default {object} Problem
// @Header      202 {string} Location "where the snapshot is"
// @Router      /v1/caches/{cache}/snapshots [post]
func (x *exchange) createSnapshot() error {
	var req CreateSnapshotRequest
	if err := x.read(&req); err != nil {
		return err
	}
	if err := x.mayOnSnapshot(policy.SnapshotCreate, "*"); err != nil {
		return err
	}
	c, ok := x.api.Accounts.Cache(x.who().Tenant, x.cache())
	if !ok {
		return fault.About(fault.NotFound, "caches", "cache", "no cache %q", x.cache())
	}
	options := snapshots.CreateOptions{Prefix: []byte(req.Prefix)}
	if req.Final {
		if err := x.mayUse(policy.CacheDeleteCache, c.Name, nil); err != nil {
			return err
		}
		options.Then = func(ctx context.Context) error { return x.api.Accounts.DeleteThat(ctx, c) }
	}
	snap, err := x.api.Snapshots.Create(x.Request().Context(), ToCut(x.api.Accounts, c), options)
	if err != nil {
		return err
	}
	x.Response().Header()["Location"] = []string{"/v1/caches/" + c.Name + "/snapshots/" + snap.ID}
	return x.json(http.StatusAccepted, x.showSnapshot(snap, snapshots.Progress{}))
}

// SnapshotPage is a page of snapshots, the oldest first.
type SnapshotPage struct {
	Snapshots  []Snapshot `json:"snapshots"`
	NextCursor string     `json:"next_cursor" example:""` // empty on the last page
}

// listSnapshots serves GET /v1/caches/:cache/snapshots.
//
// @Summary     List the snapshots of a cache
// @Description Also of one that was deleted.
// @Tags        snapshots
// @Param       cursor query string false "next_cursor of the page before" maxlength(64)
// @Param       limit query int false "how many a page holds" minimum(1) maximum(1000) default(100)
// @Success     200 {object} SnapshotPage
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/snapshots [get]
func (x *exchange) listSnapshots() error {
	after, limit, err := x.page()
	if err != nil {
		return err
	}
	if err := x.mayOnSnapshot(policy.SnapshotList, "*"); err != nil {
		return err
	}
	tenant, err := x.tenantID()
	if err != nil {
		return err
	}
	list, next := x.api.Snapshots.List(x.who().Tenant, tenant, x.cache(), after, limit)
	page := SnapshotPage{Snapshots: make([]Snapshot, len(list)), NextCursor: next}
	for i, s := range list {
		page.Snapshots[i] = x.showSnapshot(s, snapshots.Progress{})
	}
	return x.json(http.StatusOK, page)
}

// describeSnapshot serves GET /v1/caches/:cache/snapshots/:id.
//
// @Summary     Describe a snapshot
// @Description While it is made, with how far it is.
// @Tags        snapshots
// @Success     200 {object} Snapshot
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/snapshots/{id} [get]
func (x *exchange) describeSnapshot() error {
	if err := x.query().end(); err != nil {
		return err
	}
	s, p, err := x.snapshot(policy.SnapshotDescribe)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, x.showSnapshot(s, p))
}

// deleteSnapshot serves DELETE /v1/caches/:cache/snapshots/:id.
//
// @Summary     Delete a snapshot
// @Description One that is being made is cancelled.
// @Tags        snapshots
// @Success     204 "deleted"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/snapshots/{id} [delete]
func (x *exchange) deleteSnapshot() error {
	if err := x.query().end(); err != nil {
		return err
	}
	s, _, err := x.snapshot(policy.SnapshotDelete)
	if err != nil {
		return err
	}
	if err := x.api.Snapshots.Delete(x.Request().Context(), s); err != nil {
		return err
	}
	return x.noContent()
}

// downloadTime is how long a download may take without a byte getting through.
const downloadTime = 30 * time.Second

// maxTenantID is more bytes than a tenant's id has.
const maxTenantID = 64

// downloadSnapshot serves GET /v1/caches/:cache/snapshots/:id/download.
//
// @Summary     Download a snapshot
// @Description As it lies in the store, encrypted: only this installation can read it. With for=, the id of a tenant, that tenant's cluster can,
// @Description if it has the same master key. This needs the right snapshot:Copy as well; the shredding of the tenant's key here does not reach such a file.
// @Tags        snapshots
// @Produce     octet-stream
// @Param       for query string false "the id of the tenant that is to take it in, in any cluster with the same master key" maxlength(64)
// @Success     200 {file} binary "the snapshot"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/snapshots/{id}/download [get]
func (x *exchange) downloadSnapshot() error {
	q := x.query()
	open := x.api.Snapshots.Download
	to := q.text("for", "")
	if err := q.end(); err != nil {
		return err
	}
	if len(to) > maxTenantID {
		return fault.About(fault.InvalidArgument, "snapshots.download", "for", "for is the id of a tenant: at most %d bytes", maxTenantID)
	}
	s, _, err := x.snapshot(policy.SnapshotExport)
	if err != nil {
		return err
	}
	if to != "" {
		if err := x.mayOnSnapshot(policy.SnapshotCopy, s.ID); err != nil {
			return err
		}
		open = func(ctx context.Context, s *snapshots.Snapshot) (io.ReadCloser, int64, error) {
			return x.api.Snapshots.Carry(ctx, s, to)
		}
	}
	body, size, err := open(x.Request().Context(), s)
	if err != nil {
		return err
	}
	defer body.Close()
	h := x.Response().Header()
	h["Content-Type"], h["Content-Length"] = octetStream, []string{strconv.FormatInt(size, 10)}
	h["Content-Disposition"] = []string{`attachment; filename="` + s.Cache + "-" + s.ID + `.larder"`}
	x.Response().WriteHeader(http.StatusOK)
	control := http.NewResponseController(x.Response())
	buf := make([]byte, 256<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if err := control.SetWriteDeadline(time.Now().Add(downloadTime)); err != nil {
				return nil // the client has the header: what goes wrong now it sees by the length
			}
			if _, err := x.Response().Write(buf[:n]); err != nil {
				return nil
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				x.api.Log.Error("a snapshot could not be read to its end", "snapshot", s.ID, "error", err)
			}
			return nil
		}
	}
}

// takeSnapshot serves PUT /v1/caches/:cache/snapshots.
//
// @Summary     Take in a portable snapshot
// @Description The body is what a download with for= this tenant's id gave, here or in another cluster with the same master key. It becomes a snapshot of the
// @Description cache, which need not exist, once all of it was read, found right, and sealed with the tenant's key here.
// @Tags        snapshots
// @Accept      octet-stream
// @Param       file body string true "the file"
// @Success     201 {object} Snapshot
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/snapshots [put]
func (x *exchange) takeSnapshot() error {
	if err := x.query().end(); err != nil {
		return err
	}
	if len(x.Request().Header["Idempotency-Key"]) > 0 {
		return fault.About(fault.InvalidArgument, "snapshots.take", "Idempotency-Key", "a file that is sent carries no Idempotency-Key")
	}
	if err := tenants.CheckCacheName(x.cache()); err != nil {
		return err
	}
	for _, action := range [...]policy.Action{policy.SnapshotCreate, policy.SnapshotCopy} {
		if err := x.mayOnSnapshot(action, "*"); err != nil {
			return err
		}
	}
	tenant, err := x.tenantID()
	if err != nil {
		return err
	}
	s, err := x.api.Snapshots.Take(x.Request().Context(), x.who().Tenant, tenant, x.cache(), bufio.NewReaderSize(&steadyBody{x: x}, bodyPiece))
	x.steady()
	if err != nil {
		return err
	}
	x.Response().Header()["Location"] = []string{"/v1/caches/" + x.cache() + "/snapshots/" + s.ID}
	return x.json(http.StatusCreated, x.showSnapshot(s, snapshots.Progress{}))
}

// SnapshotRestoreRequest says where a snapshot is to be restored, and how.
type SnapshotRestoreRequest struct {
	Into      string         `json:"into" example:"main-copy" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$"` // the cache, which is new unless overwrite names it
	Overwrite string         `json:"overwrite,omitempty" maxLength:"63" example:""`                 // the same name again: everything that the cache holds is replaced
	Prefix    string         `json:"prefix,omitempty" maxLength:"32768" example:""`                 // only keys that begin so
	FreezeTTL bool           `json:"freeze_ttl,omitempty" example:"false"`                          // keys live as long again as they had left; else time has gone on
	Settings  *CacheSettings `json:"settings,omitempty"`                                            // of a new cache
}

// SnapshotRestoration is what becomes of a cache that is restored.
type SnapshotRestoration struct {
	Cache    string       `json:"cache" example:"main-copy"`
	Snapshot string       `json:"snapshot" example:"20261127t081500-9f3a61c2"`
	State    string       `json:"state" enums:"running,done,failed" example:"running"`
	Problem  string       `json:"problem,omitempty" example:""`
	Progress *JobProgress `json:"progress"`
}

func (x *exchange) showRestoration(cache string, p snapshots.Progress) SnapshotRestoration {
	r := SnapshotRestoration{Cache: cache, Snapshot: p.Snapshot, State: "running", Problem: p.Problem, Progress: showProgress(p, x.api.Gateway.Now())}
	switch {
	case p.Problem != "":
		r.State = "failed"
	case !p.Ended.IsZero():
		r.State = "done"
	}
	return r
}

// restoreSnapshot serves POST /v1/caches/:cache/snapshots/:id/restore.
//
// @Summary     Restore a snapshot
// @Description Into a new cache, or over one that overwrite names. Nothing of it is seen before all of it was found right;
// @Description then the name stands for what was restored, at once. /v1/caches/{cache}/restoration of that cache tells how far it is.
// @Tags        snapshots
// @Param       request body SnapshotRestoreRequest true "where, and how"
// @Success     202 {object} SnapshotRestoration
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/snapshots/{id}/restore [post]
func (x *exchange) restoreSnapshot() error {
	var req SnapshotRestoreRequest
	if err := x.read(&req); err != nil {
		return err
	}
	if err := tenants.CheckCacheName(req.Into); err != nil {
		return fault.About(fault.InvalidArgument, "snapshots.restore", "into", "%s", fault.From(err).Message)
	}
	if req.Overwrite != "" && req.Overwrite != req.Into {
		return fault.About(fault.InvalidArgument, "snapshots.restore", "overwrite", "overwrite is the name of the cache again, %q, to say that what it holds is to be replaced", req.Into)
	}
	s, _, err := x.snapshot(policy.SnapshotRestore)
	if err != nil {
		return err
	}
	into, publish, err := x.restoreInto(&req)
	if err != nil {
		return err
	}
	o := snapshots.RestoreOptions{Prefix: []byte(req.Prefix), FreezeTTL: req.FreezeTTL}
	if err := x.api.Snapshots.Restore(x.Request().Context(), s, ToCut(x.api.Accounts, into), o, publish); err != nil {
		return err
	}
	p, _ := x.api.Snapshots.Restoring(x.Request().Context(), string(into.TenantID), into.Name)
	x.Response().Header()["Location"] = []string{"/v1/caches/" + into.Name + "/restoration"}
	return x.json(http.StatusAccepted, x.showRestoration(into.Name, p))
}

// restoreInto is the cache that a snapshot goes into, which has no name yet, and what gives it one.
func (x *exchange) restoreInto(req *SnapshotRestoreRequest) (into *tenants.Cache, publish func(context.Context) error, err error) {
	accounts := x.api.Accounts
	if req.Overwrite != "" {
		if req.Settings != nil {
			return nil, nil, fault.About(fault.InvalidArgument, "snapshots.restore", "settings", "a cache that is overwritten keeps its settings")
		}
		for _, action := range [...]policy.Action{policy.CacheFlush, policy.CacheUpdateCache} {
			if err := x.mayUse(action, req.Into, nil); err != nil {
				return nil, nil, err
			}
		}
		old, ok := accounts.Cache(x.who().Tenant, req.Into)
		if !ok {
			return nil, nil, fault.About(fault.NotFound, "caches", "overwrite", "no cache %q", req.Into)
		}
		next := old.Successor()
		return next, func(ctx context.Context) error { return accounts.ReplaceCache(ctx, old, next) }, nil
	}
	return x.newCache(req.Into, nil, req.Settings)
}

// describeRestoration serves GET /v1/caches/:cache/restoration.
//
// @Summary     See how far the last restoration into a cache is
// @Tags        snapshots
// @Success     200 {object} SnapshotRestoration
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/restoration [get]
func (x *exchange) describeRestoration() error {
	if err := x.query().end(); err != nil {
		return err
	}
	if err := x.mayUse(policy.CacheDescribeCache, x.cache(), nil); err != nil {
		return err
	}
	tenant, err := x.tenantID()
	if err != nil {
		return err
	}
	p, ok := x.api.Snapshots.Restoring(x.Request().Context(), tenant, x.cache())
	if !ok {
		return fault.About(fault.NotFound, "caches", "cache", "nothing was restored into a cache %q lately", x.cache())
	}
	return x.json(http.StatusOK, x.showRestoration(x.cache(), p))
}

// cancelRestoration serves DELETE /v1/caches/:cache/restoration.
//
// @Summary     Cancel the restoration of a cache
// @Description Nothing of it is left. One that is over stays as it is.
// @Tags        snapshots
// @Success     204 "cancelled, or over"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/restoration [delete]
func (x *exchange) cancelRestoration() error {
	if err := x.query().end(); err != nil {
		return err
	}
	if err := x.mayUse(policy.CacheCreateCache, x.cache(), nil); err != nil {
		return err
	}
	tenant, err := x.tenantID()
	if err != nil {
		return err
	}
	if err := x.api.Snapshots.CancelRestore(x.Request().Context(), tenant, x.cache()); err != nil {
		return err
	}
	return x.noContent()
}
