package httpapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/transfer"
)

func (a *API) transferRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/caches/:cache/import", serve: (*exchange).importCache},
		{method: http.MethodGet, path: "/v1/caches/:cache/export", manage: true, serve: (*exchange).exportCache},
		{method: http.MethodGet, path: "/v1/caches/:cache/import", manage: true, serve: (*exchange).describeImport},
	}
}

// ImportReport tells what became of an import.
type ImportReport struct {
	Format    string           `json:"format" enums:"rdb,jsonl,commands" example:"rdb"`
	Source    string           `json:"source,omitempty" example:"redis 7.0.15, RDB version 10"`          // who wrote it
	Keys      int64            `json:"keys" example:"1200"`                                              // that were stored
	ByType    map[string]int64 `json:"by_type" swaggertype:"object,integer" example:"{\"string\":1000}"` // the same by type
	Bytes     int64            `json:"bytes" example:"350000"`                                           // that were read
	Expired   int64            `json:"expired" example:"3"`                                              // keys whose time had come, which were dropped
	Filtered  int64            `json:"filtered" example:"0"`                                             // keys that were not asked for
	Functions int64            `json:"functions" example:"0"`                                            // libraries and scripts that were loaded
	Commands  int64            `json:"commands" example:"0"`                                             // that were carried out
	Skipped   []ImportSkipped  `json:"skipped"`
	Notes     []string         `json:"notes,omitempty"`  // what is not as it was, though nothing was skipped
	Errors    []ImportError    `json:"errors,omitempty"` // of commands: the first thousand
}

// ImportSkipped is what was left out for one reason.
type ImportSkipped struct {
	Reason string `json:"reason" example:"the value of a module, ReJSON-RL"`
	Count  int64  `json:"count" example:"2"`
	First  string `json:"first" example:"user:17"`          // the first key, or the command's place
	Offset int64  `json:"offset,omitempty" example:"73401"` // of the first
}

// ImportError is what became of a command.
type ImportError struct {
	Index   int64  `json:"index" example:"17"` // of the command, from 0
	Code    string `json:"code" example:"conflict"`
	Prefix  string `json:"prefix,omitempty" example:"BUSYKEY"` // of Redis's error, where the code has another
	Message string `json:"message" example:"Target key name already exists."`
}

func showReport(r *transfer.Report, failures []transfer.CommandError) ImportReport {
	shown := ImportReport{
		Format: r.Format, Source: r.Source, Keys: r.Keys, ByType: r.ByType, Bytes: r.Bytes, Expired: r.Expired, Filtered: r.Filtered,
		Functions: r.Functions, Commands: r.Commands, Notes: r.Notes, Skipped: []ImportSkipped{},
	}
	for _, s := range r.Skipped {
		shown.Skipped = append(shown.Skipped, ImportSkipped{strings.ToValidUTF8(s.Reason, "\uFFFD"), s.Count, strings.ToValidUTF8(s.First, "\uFFFD"), s.Offset})
	}
	for _, e := range failures {
		shown.Errors = append(shown.Errors, ImportError{e.Index, e.Code, e.Prefix, strings.ToValidUTF8(e.Message, "\uFFFD")})
	}
	return shown
}

// ImportProgress is how far the last import into a cache is that this node has taken.
type ImportProgress struct {
	State     string `json:"state" enums:"running,done,failed" example:"running"`
	StartedAt string `json:"started_at" example:"2026-11-27T08:15:00.000Z"`
	Keys      int64  `json:"keys" example:"800"`
	Bytes     int64  `json:"bytes" example:"350000"` // of the file, that were read
	Problem   string `json:"problem,omitempty" example:""`
}

// imports are how far imports are.
type imports struct {
	mu sync.Mutex
	of map[[2]string]*ImportProgress // by tenant and cache
}

// maxImports bounds the imports that are remembered.
const maxImports = 1024

func (i *imports) begin(at [2]string, now time.Time) *ImportProgress {
	i.mu.Lock()
	defer i.mu.Unlock()
	p := &ImportProgress{State: "running", StartedAt: showTime(now)}
	if i.of == nil || len(i.of) >= maxImports && i.of[at] == nil {
		i.of = map[[2]string]*ImportProgress{}
	}
	i.of[at] = p
	return p
}

func (i *imports) change(p *ImportProgress, change func(p *ImportProgress)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(p)
}

// importCache serves POST /v1/caches/:cache/import.
//
// @Summary     Import a file
// @Description An RDB file of Redis or Valkey, JSON lines as an export writes them, or commands as Redis clients send them (and as
// @Description Redis's append-only file has them), as the body, of any length: what the file is shows at its beginning. Keys land as they come and
// @Description stay, whatever becomes of the rest; each needs the rights of the commands that store it. An import is not
// @Description repeated by an Idempotency-Key: repeat it with mode=replace. With from, the file lies in a store that the operator allows
// @Description imports from (--import-from), and there is no body: that needs snapshot:Restore on snapshot/CACHE/*, too.
// @Tags        transfer
// @Accept      octet-stream
// @Param       format query string false "what the file is; found out without it" Enums(rdb, jsonl, commands)
// @Param       mode query string false "what is to happen with keys that exist: refuse ends the import at the first" Enums(refuse, replace, skip) default(refuse)
// @Param       prefix query string false "only keys that begin so" maxlength(32768)
// @Param       db query string false "only these databases: numbers with commas in between" maxlength(100)
// @Param       from query string false "the URL of a file in a store, such as s3://BUCKET/dump.rdb, instead of a body" maxlength(2048)
// @Param       file body string false "the file"
// @Success     200 {object} ImportReport
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/import [post]
func (x *exchange) importCache() error {
	q := x.query()
	format := q.one("format", "", "rdb", "jsonl", "commands")
	modes := []string{"refuse", "replace", "skip"}
	mode := q.one("mode", modes...)
	o := transfer.Options{Mode: transfer.Mode(slices.Index(modes, mode)), Prefix: []byte(q.text("prefix", "")), Now: x.api.Gateway.Now}
	list, some := q.get("db")
	from := q.text("from", "")
	if err := q.end(); err != nil {
		return err
	}
	if some {
		for n := range strings.SplitSeq(list, ",") {
			db, err := strconv.Atoi(n)
			if err != nil || db < 0 {
				return fault.About(fault.InvalidArgument, "httpapi.import", "db", "db is numbers of databases with commas in between, not %.100q", list)
			}
			o.DBs = append(o.DBs, db)
		}
	}
	if len(x.Request().Header["Idempotency-Key"]) > 0 {
		return fault.About(fault.InvalidArgument, "httpapi.import", "Idempotency-Key", "an import carries no Idempotency-Key: to repeat one, use mode=replace or mode=skip")
	}
	if encoding := x.Request().Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return fault.About(fault.UnsupportedMedia, "httpapi.body", "Content-Encoding", "bodies are taken as they are, not compressed")
	}
	o.MaxValue = x.api.Gateway.MaxValue(&x.caller, x.cache())
	source, err := x.toImport(from)
	if err != nil {
		return err
	}
	defer source.Close()
	body := bufio.NewReaderSize(source, bodyPiece)
	if format == "" {
		if format, err = transfer.Detect(body); errors.As(err, new(*fault.Error)) {
			return err
		} else if err != nil {
			return bodyError(err)
		}
	}
	at := [2]string{x.who().Tenant, x.cache()}
	p := x.api.imports.begin(at, x.api.Gateway.Now())
	o.Told = func(now transfer.Progress) {
		x.api.imports.change(p, func(p *ImportProgress) { p.Keys, p.Bytes = now.Keys, now.Bytes })
	}
	var report *transfer.Report
	var failures []transfer.CommandError
	target := &gatewayTarget{x: x}
	ctx := x.Request().Context()
	switch format {
	case "rdb":
		report, failures, err = transfer.LoadDatabase(ctx, body, target, o)
	case "jsonl":
		report, err = transfer.LoadLines(ctx, body, target, o)
	default:
		report, failures, err = transfer.LoadCommands(ctx, body, target, o)
	}
	x.api.imports.change(p, func(p *ImportProgress) {
		if p.State = "done"; err != nil {
			p.State, p.Problem = "failed", fault.From(err).Message
		}
		if report != nil {
			p.Keys, p.Bytes = report.Keys, report.Bytes
		}
	})
	x.steady()
	if err == nil && report.Denied != nil && report.Keys+report.Commands == 0 {
		return report.Denied
	}
	if err != nil {
		if report != nil && report.Keys+report.Commands > 0 {
			e := *fault.From(err)
			e.Message = strings.TrimSuffix(e.Message, ".") + "; " + strconv.FormatInt(report.Keys+report.Commands, 10) + " keys or commands before that are in the cache"
			return &e
		}
		return err
	}
	x.charge()
	return x.json(http.StatusOK, showReport(report, failures))
}

// toImport is what is imported: the body, or a file in a store.
func (x *exchange) toImport(from string) (io.ReadCloser, error) {
	if from == "" {
		return io.NopCloser(&steadyBody{x: x}), nil
	}
	if err := x.mayOnSnapshot(policy.SnapshotRestore, "*"); err != nil {
		return nil, err
	}
	if len(from) > maxFrom {
		return nil, fault.About(fault.TooLarge, "httpapi.import", "from", "from has at most %d bytes, this one has %d", maxFrom, len(from))
	}
	if x.Request().ContentLength != 0 {
		return nil, fault.About(fault.InvalidArgument, "httpapi.import", "from", "from stands for the body: send none")
	}
	_ = http.NewResponseController(x.Response().Writer).SetReadDeadline(time.Time{}) // nothing more comes, for however long the store takes
	return x.api.Stores.Open(x.Request().Context(), x.who().Tenant, from)
}

// maxFrom is how many bytes the URL of a file may have.
const maxFrom = 2048

// describeImport serves GET /v1/caches/:cache/import.
//
// @Summary     See how far the last import into a cache is
// @Description Only the node that takes it knows.
// @Tags        transfer
// @Success     200 {object} ImportProgress
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/import [get]
func (x *exchange) describeImport() error {
	if err := x.query().end(); err != nil {
		return err
	}
	if err := x.mayUse(policy.CacheDescribeCache, x.cache(), nil); err != nil {
		return err
	}
	i := &x.api.imports
	i.mu.Lock()
	p := i.of[[2]string{x.who().Tenant, x.cache()}]
	var now ImportProgress
	if p != nil {
		now = *p
	}
	i.mu.Unlock()
	if p == nil {
		return fault.About(fault.NotFound, "httpapi.import", "cache", "nothing was imported into a cache %q by this node lately", x.cache())
	}
	return x.json(http.StatusOK, now)
}

// A steadyBody is a body of any length, whose sender has to keep up minBodyRate. The time that we take between two pieces does
// not count.
type steadyBody struct {
	x     *exchange
	left  time.Duration // for the piece under way
	piece int
}

// Read implements io.Reader.
func (b *steadyBody) Read(p []byte) (int, error) {
	if b.piece <= 0 {
		b.left, b.piece = pieceTimeout, bodyPiece
	}
	began := time.Now()
	slow := http.NewResponseController(b.x.Response().Writer)
	_ = slow.SetReadDeadline(began.Add(b.left)) // a writer without deadlines is a test's
	n, err := b.x.Request().Body.Read(p)
	b.left -= time.Since(began)
	b.piece -= n
	if err != nil && err != io.EOF {
		err = bodyError(err)
	}
	return n, err
}

// steady gives the answer to a long request the time that one to a short request has.
func (x *exchange) steady() {
	slow := http.NewResponseController(x.Response().Writer)
	_ = slow.SetWriteDeadline(time.Now().Add(requestTimeout))
	_ = slow.SetReadDeadline(time.Now().Add(requestTimeout))
}

// A gatewayTarget carries commands out for the caller of an exchange.
type gatewayTarget struct {
	x       *exchange
	request gateway.Request
	reply   engine.Recording
	calls   []engine.Call
}

// Do implements transfer.Target.
func (t *gatewayTarget) Do(ctx context.Context, db int, commands []transfer.Command, whole bool) ([]error, error) {
	if db >= engine.Databases {
		return nil, fault.New(fault.OutOfRange, "httpapi.import", "a cache has the databases 0 to %d, not %d", engine.Databases-1, db)
	}
	t.calls = t.calls[:0]
	for _, c := range commands {
		t.calls = append(t.calls, engine.Call{Command: engine.LookupCall(c), Args: c})
	}
	results := make([]error, 0, len(commands))
	err := t.do(ctx, db, t.calls, whole, &results)
	if fault.Is(err, fault.NotSupported) && len(t.calls) > 1 { // keys on several partitions: one after the other
		results = results[:0]
		for i := range t.calls {
			if err = t.do(ctx, db, t.calls[i:i+1], false, &results); err != nil {
				return nil, err
			}
		}
	}
	return results, err
}

func (t *gatewayTarget) do(ctx context.Context, db int, calls []engine.Call, whole bool, results *[]error) error {
	t.reply.Reset()
	r := &t.request
	r.Reset()
	r.Caller, r.Cache, r.DB, r.Calls, r.Whole, r.Refuse = &t.x.caller, t.x.cache(), db, calls, whole, carried
	r.Reply = &engine.Bounded{Recording: &t.reply, Max: maxReplies}
	err := t.x.api.Gateway.Do(ctx, r)
	t.x.units += r.Units
	if err != nil {
		return err
	}
	c := t.reply.Cursor()
	for range calls {
		first := c
		if token := first.Next(); token.Kind == engine.ReplyError {
			*results = append(*results, token.Err)
		} else {
			*results = append(*results, nil)
		}
		c.Skip()
	}
	if t.reply.Cap() > maxKept {
		t.reply = engine.Recording{}
	}
	return nil
}

// Exists implements transfer.Asker.
func (t *gatewayTarget) Exists(ctx context.Context, db int, key []byte) (bool, error) {
	t.calls = append(t.calls[:0], engine.Call{Command: cmdExists, Args: [][]byte{cmdExists.NameArg(), key}})
	var results []error
	if err := t.do(ctx, db, t.calls, false, &results); err != nil {
		return false, err
	}
	if results[0] != nil {
		return false, results[0]
	}
	c := t.reply.Cursor()
	return c.Next().Int > 0, nil
}

var cmdExists = engine.MustLookup("EXISTS")

// carried refuses the commands that are about a connection, which an import has none of.
func carried(c *engine.Call) error {
	if c.Command != nil && c.Command.Flags&engine.Session != 0 {
		return fault.New(fault.NotSupported, "httpapi.import", "%s is about a connection, which an import has none of", c.Command.Name)
	}
	return nil
}
