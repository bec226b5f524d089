package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/snapshots"
	"github.com/larder-cache/larder/transfer"
)

// What an export is served as, and the end of its file's name.
var exportTypes = map[string]string{"rdb": "application/octet-stream", "jsonl": "application/jsonl; charset=utf-8", "csv": "text/csv; charset=utf-8"}

// exportCache serves GET /v1/caches/:cache/export.
//
// @Summary     Export a cache
// @Description What the cache holds at this moment, on all of its partitions, while writes go on, or what a snapshot of it holds:
// @Description as an RDB file that redis-server loads, as JSON lines, or as a table. An answer that breaks off is no whole
// @Description export. The trailers tell how many keys are in it, and how many had to be left out.
// @Tags        transfer
// @Produce     octet-stream
// @Param       format query string false "what the file is to be" Enums(rdb, jsonl, csv) default(rdb)
// @Param       rdb_version query int false "of an RDB file: 9 for Redis 5, 10 for Redis 7.0 and Valkey, 12 for Redis 7.4, which has deadlines of fields" minimum(9) maximum(12) default(10)
// @Param       prefix query string false "only keys that begin so" maxlength(32768)
// @Param       snapshot query string false "the id of a snapshot, in the place of what the cache holds now" maxlength(64)
// @Success     200 {file} binary "the file"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/export [get]
func (x *exchange) exportCache() error {
	q := x.query()
	o := transfer.ExportOptions{Format: q.one("format", "rdb", "jsonl", "csv"), Now: x.api.Gateway.Now(), Rooms: transfer.Rooms(x.api.Scratch), Server: x.api.Version}
	version := q.number("rdb_version", 10, 0, 1<<16)
	prefix, id := []byte(q.text("prefix", "")), q.text("snapshot", "")
	if err := q.end(); err != nil {
		return err
	}
	if err := transfer.CheckVersion(version); err != nil {
		return err
	}
	o.Version = int(version)
	if len(prefix) > engine.MaxKey {
		return fault.About(fault.TooLarge, "httpapi.export", "prefix", "a prefix has at most %d bytes, this one has %d", engine.MaxKey, len(prefix))
	}
	read, name, err := x.exportSource(id, prefix)
	if err != nil {
		return err
	}
	h := x.Response().Header()
	noStore(h)
	h["Content-Type"] = []string{exportTypes[o.Format]}
	h["Content-Disposition"] = []string{`attachment; filename="` + name + "." + o.Format + `"`}
	h["Trailer"] = []string{"X-Larder-Keys, X-Larder-Left-Out"}
	out := &steadyWriter{x: x}
	e := transfer.NewExporter(out, o)
	defer e.Abandon()
	err = read(x.Request().Context(), e)
	if err == nil {
		err = e.Close()
	}
	if err != nil {
		if !out.begun {
			return err
		}
		if x.Request().Context().Err() == nil && !errors.Is(err, errWrite) {
			x.api.Log.Error("an export broke off", "cache", x.cache(), "error", err)
		}
		panic(http.ErrAbortHandler) // nobody may take it for whole
	}
	h.Set("X-Larder-Keys", strconv.FormatInt(e.Report.Keys, 10))
	h.Set("X-Larder-Left-Out", strconv.FormatInt(e.Report.Left(), 10))
	return nil
}

// exportSource finds what is to be exported, for who may; name is for a file.
func (x *exchange) exportSource(id string, prefix []byte) (read func(context.Context, *transfer.Exporter) error, name string, err error) {
	if id != "" {
		if err := x.mayOnSnapshot(policy.SnapshotExport, id); err != nil {
			return nil, "", err
		}
		tenant, err := x.tenantID()
		if err != nil {
			return nil, "", err
		}
		snap, _, err := x.api.Snapshots.Get(x.Request().Context(), x.who().Tenant, tenant, x.cache(), id)
		if err != nil {
			return nil, "", err
		}
		return func(ctx context.Context, e *transfer.Exporter) error {
			return x.api.Snapshots.Visit(ctx, snap, prefix, e.Part)
		}, snap.Cache + "-" + snap.ID, nil
	}
	if err := x.mayOnSnapshot(policy.SnapshotExport, "*"); err != nil {
		return nil, "", err
	}
	c, ok := x.api.Accounts.Cache(x.who().Tenant, x.cache())
	if !ok {
		return nil, "", fault.About(fault.NotFound, "caches", "cache", "no cache %q", x.cache())
	}
	cuts, err := x.api.Snapshots.Cut(x.Request().Context(), ToCut(x.api.Accounts, c), prefix)
	if err != nil {
		return nil, "", err
	}
	return func(ctx context.Context, e *transfer.Exporter) error { return readCuts(ctx, cuts, e) }, c.Name, nil
}

// readCuts exports cuts, and closes all of them.
func readCuts(ctx context.Context, cuts []snapshots.Cut, e *transfer.Exporter) error {
	defer func() {
		for _, c := range cuts {
			c.Close()
		}
	}()
	for _, c := range cuts {
		if err := e.Cut(&watchedReader{c, ctx}); err != nil {
			return err
		}
	}
	return nil
}

// A watchedReader ends with its context.
type watchedReader struct {
	io.Reader
	ctx context.Context
}

func (r *watchedReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

var errWrite = errors.New("the client reads no more")

// A steadyWriter is an answer of any length, whose reader has to take something every downloadTime.
type steadyWriter struct {
	x     *exchange
	begun bool
}

// Write implements io.Writer.
func (w *steadyWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.begun = true
		w.x.Response().WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(w.x.Response().Writer).SetWriteDeadline(time.Now().Add(downloadTime)) // a writer without deadlines is a test's
	n, err := w.x.Response().Write(p)
	if err != nil {
		err = errors.Join(errWrite, err)
	}
	return n, err
}
