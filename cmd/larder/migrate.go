package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"crypto/x509"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/sdk/api"
	"github.com/larder-cache/larder/transfer"
)

// sourceEnv is where the URL of a source may stand, so that its password is in no list of processes.
const sourceEnv = "LARDER_MIGRATE_SOURCE"

type migrateFlags struct {
	cache, sourceCA    string
	once, scan, verify bool
	noCompare          bool
	sample             int
}

func migrateCommand() *cobra.Command {
	var f migrateFlags
	cmd := verb{
		use: "migrate SOURCE", short: "Bring all that a running Redis or Valkey holds into a cache, and follow what is written there", args: cobra.MaximumNArgs(1),
		long: `
Copy all that a running Redis, Valkey or ElastiCache holds into a cache, and go on with every write to it until you interrupt it. The
source is redis://[USER:PASSWORD@]HOST[:PORT][/DB], or rediss:// with TLS; without DB, all of its databases. Give it in
LARDER_MIGRATE_SOURCE, and the password is in no list of processes.

Where the source allows it, this acts as its replica (PSYNC): every write comes over, in its order. Where it does not, as with
managed services, keys are copied one by one (SCAN, DUMP), events of keys tell what changes, and a second pass verifies.

Keys of the cache that the source has are replaced; others stay. Run it again after an interruption: it begins anew, and
ends with the same. With --once it ends when it has caught up. To move over: let it run until it is not behind, stop what writes
to the source, run it with --verify, and point your applications to the cache.`,
		example: "  larder migrate redis://10.0.0.5:6379 --cache main --once",
		flags: func(set *pflag.FlagSet) {
			set.StringVar(&f.cache, "cache", "", "the cache that gets the keys")
			set.BoolVar(&f.once, "once", false, "end when all is there that was written until then")
			set.BoolVar(&f.scan, "scan", false, "do not act as a replica: copy key by key")
			set.BoolVar(&f.verify, "verify", false, "copy nothing: only compare the two")
			set.BoolVar(&f.noCompare, "no-compare", false, "do not compare the two at the end")
			set.IntVar(&f.sample, "sample", 1, "compare about one of so many keys; 1 for all")
			set.StringVar(&f.sourceCA, "source-ca", "", "certificates to trust for the source instead of the system's, PEM")
		},
		run: func(c *call) error { return migrate(c, &f) },
	}.command()
	_ = cmd.MarkFlagRequired("cache") // which is declared
	cmd.MarkFlagsMutuallyExclusive("once", "verify")
	cmd.MarkFlagsMutuallyExclusive("no-compare", "verify")
	return cmd
}

// A migrationReport is what a migration prints in the end.
type migrationReport struct {
	Method     string               `json:"method,omitempty"` // replica or scan
	Copied     *transfer.Report     `json:"copied,omitempty"`
	Moved      transfer.Moved       `json:"moved"`
	Comparison *transfer.Comparison `json:"comparison,omitempty"`
}

func migrate(c *call, f *migrateFlags) error {
	text := os.Getenv(sourceEnv)
	if len(c.args) > 0 {
		text = c.args[0]
	}
	if text == "" {
		return misuse("no source: give its URL, or set %s", sourceEnv)
	}
	source, err := transfer.ParseSource(text)
	if err != nil {
		return &usageError{err}
	}
	if f.sample < 1 {
		return misuse("--sample is at least 1, not %d", f.sample)
	}
	if f.sourceCA != "" {
		pem, err := os.ReadFile(f.sourceCA)
		if err != nil {
			return misuse("source-ca: %v", err)
		}
		if source.TLS == nil {
			return misuse("--source-ca goes with a source that begins with rediss://")
		}
		source.TLS.RootCAs = x509.NewCertPool()
		if !source.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return misuse("source-ca: %s holds no certificate", f.sourceCA)
		}
	}
	cache, err := c.api.DescribeCache(c.ctx, f.cache)
	if err != nil {
		return err
	}
	plain := *c.api
	plain.NewKey = nil // what is asked need not be remembered
	to := &httpTarget{api: &plain, cache: f.cache}
	began := time.Now()
	m := &transfer.Migration{
		Source: source, Target: to, Limit: cache.MaxValueBytes,
		Log: func(format string, args ...any) {
			c.endBar()
			fmt.Fprintf(c.notes, format+"\n", args...)
		},
		Told: func(now transfer.Moved) { c.moved(now, time.Since(began)) },
	}
	report := &migrationReport{}
	if !f.verify {
		if err := bring(c, f, m, to, report); err != nil {
			return err
		}
	} else if report.Comparison, err = compare(c.ctx, c, f, m, to); err != nil {
		return err
	}
	return showMigration(c, f, report)
}

// bring copies and follows until it is to end, and compares meanwhile: while writes go on, what was written is on its way.
func bring(c *call, f *migrateFlags, m *transfer.Migration, to *httpTarget, report *migrationReport) error {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	copied := &transfer.Report{ByType: map[string]int64{}, Skipped: []transfer.Skipped{}}
	caught, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		err := transfer.ErrNoReplica
		report.Method = "replica"
		if !f.scan {
			err = m.Replicate(ctx, copied, func() { close(caught) })
		}
		if errors.Is(err, transfer.ErrNoReplica) {
			if !f.scan {
				m.Log("%v. Its keys are copied one by one.", err)
			}
			report.Method = "scan"
			err = (&transfer.Scan{Migration: m, Report: copied, To: to}).Run(ctx, func() { close(caught) })
		}
		ended <- err
	}()
	var err error
	select {
	case err = <-ended:
		caught = nil
	case <-caught:
		m.Log("All is there that was written until now.")
		switch {
		case f.once && f.noCompare:
		case f.once:
			report.Comparison, err = compare(ctx, c, f, m, to)
		default:
			m.Log("What is written from now on comes over, until you interrupt this. Then compare with --verify, and move over.")
			err = <-ended
			ended <- err
		}
		cancel()
		if over := <-ended; err == nil && !errors.Is(over, context.Canceled) {
			err = over
		}
	}
	c.endBar()
	if errors.Is(err, context.Canceled) && c.ctx.Err() != nil && caught != nil && !f.once {
		err = nil // as was asked for
	}
	report.Copied, report.Moved = copied, m.Now()
	if err != nil {
		return fmt.Errorf("the migration ended early; run it again, it begins anew: %w", err)
	}
	return nil
}

func compare(ctx context.Context, c *call, f *migrateFlags, m *transfer.Migration, to *httpTarget) (*transfer.Comparison, error) {
	m.Log("The two are compared.")
	defer c.endBar()
	return m.Compare(ctx, to, f.sample, func(keys int64) {
		if c.watched() {
			fmt.Fprintf(c.notes, "\r%d keys compared   ", keys)
		}
	})
}

// lastMoved is when the line about a migration was written over last.
var lastMoved struct {
	sync.Mutex
	at time.Time
}

func (c *call) moved(now transfer.Moved, took time.Duration) {
	if !c.watched() {
		return
	}
	lastMoved.Lock()
	defer lastMoved.Unlock()
	if time.Since(lastMoved.at) < pollEvery {
		return
	}
	lastMoved.at = time.Now()
	if now.Phase == "copying" {
		size := int64(-1)
		if now.Total > 0 {
			size = now.Total
		}
		c.progress(now.Keys, now.Bytes, size, took)
		return
	}
	fmt.Fprintf(c.notes, "\r%d keys copied, %d writes repeated, %v behind   ", now.Keys, now.Commands, bytesize(now.Behind))
}

func showMigration(c *call, f *migrateFlags, r *migrationReport) error {
	var fields []field
	if r.Copied != nil {
		fields = append(fields, field{"method", r.Method}, field{"keys copied", r.Copied.Keys}, field{"writes repeated", r.Moved.Commands})
		for _, s := range r.Copied.Skipped {
			fields = append(fields, field{"left out", fmt.Sprintf("%d: %s; the first is %s", s.Count, s.Reason, printable(s.First))})
		}
		for _, note := range r.Copied.Notes {
			fields = append(fields, field{"note", note})
		}
	}
	if d := r.Comparison; d != nil {
		fields = append(fields, field{"compared", d.Keys}, field{"equal", d.Equal}, field{"different", d.Different}, field{"missing", d.Missing},
			field{"in the cache alone", d.Extra}, field{"changing meanwhile", d.Changing}, field{"not comparable", d.Unknown}, field{"keys of the source", d.Source}, field{"keys of the cache", d.Target})
		for _, example := range d.Examples {
			fields = append(fields, field{"example", example})
		}
	}
	if err := c.show(r, fields...); err != nil {
		return err
	}
	if d := r.Comparison; d != nil && !d.Same() {
		return &statusError{exitFailed, fmt.Errorf("the two are not the same: %d keys differ, %d are missing, %d are in the cache alone", d.Different, d.Missing, d.Extra)}
	}
	if r.Copied != nil && r.Copied.Left() > 0 {
		return &statusError{exitFailed, fmt.Errorf("%d keys or writes were left out", r.Copied.Left())}
	}
	if !c.json && (f.verify || f.once) {
		fmt.Fprintln(c.notes, "To move over: stop what writes to the source, run this once more with --verify, point your applications to the cache.")
	}
	return nil
}

// An httpTarget is a cache behind the HTTP API.
type httpTarget struct {
	api   *api.Client
	cache string
}

// repeatable are commands that do the same when they are done again.
var repeatable = map[string]bool{"RESTORE": true, "SET": true, "DEL": true, "UNLINK": true, "PEXPIREAT": true, "HSET": true, "SADD": true, "SREM": true, "ZADD": true, "ZREM": true, "HDEL": true, "PERSIST": true, "XSETID": true}

// Do implements transfer.Target.
func (t *httpTarget) Do(ctx context.Context, db int, commands []transfer.Command, whole bool) ([]error, error) {
	first := int64(1)
	all := []transfer.Command{{[]byte("SELECT"), strconv.AppendInt(nil, int64(db), 10)}}
	if whole {
		first++
		all = append(all, transfer.Command{[]byte("MULTI")})
	}
	all = append(all, commands...)
	if whole {
		all = append(all, transfer.Command{[]byte("EXEC")})
	}
	body := transfer.AppendCommands(nil, all...)
	report, err := t.api.ImportCache(ctx, t.cache, &api.ImportCacheParams{Format: new("commands"), Mode: new("replace")}, "application/octet-stream", body)
	if err != nil {
		return nil, t.failed(err, commands)
	}
	results := make([]error, len(commands))
	for _, e := range report.Errors {
		at := e.Index - first
		if at < 0 || at >= int64(len(results)) {
			return nil, fault.New(fault.Internal, "migrate", "the server tells of command %d of %d: %s", e.Index, len(all), e.Message)
		}
		prefix := ""
		if e.Prefix != nil {
			prefix = *e.Prefix
		}
		results[at] = &fault.Error{Kind: kindOf(e.Code), Prefix: prefix, Message: e.Message}
	}
	return results, nil
}

// failed says of a request that failed whether it may be tried again.
func (t *httpTarget) failed(err error, commands []transfer.Command) error {
	var e *api.Error
	if errors.As(err, &e) {
		kind := kindOf(string(e.Code))
		if kind == fault.Internal && e.Status == 503 {
			kind = fault.Unavailable
		}
		return &fault.Error{Kind: kind, Message: e.Detail, RetryAfter: e.RetryAfter, Err: err}
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	for _, c := range commands {
		if !repeatable[string(bytes.ToUpper(c[0]))] {
			return fault.Wrap(fault.OutcomeUnknown, "migrate", err, "nobody knows whether a write was repeated: %v", err)
		}
	}
	return fault.Wrap(fault.Unavailable, "migrate", err, "%v", err)
}

func kindOf(code string) fault.Kind {
	for _, k := range fault.Kinds() {
		if k.String() == code {
			return k
		}
	}
	return fault.Internal
}

// Ask implements transfer.Server.
func (t *httpTarget) Ask(ctx context.Context, db int, commands []transfer.Command) ([]any, error) {
	request := api.CommandsRequest{DB: new(int64(db))}
	for _, c := range commands {
		args := make(api.CommandText, len(c))
		for i, a := range c {
			args[i] = a
		}
		request.Commands = append(request.Commands, args)
	}
	answer, err := t.api.RunCommands(ctx, t.cache, request)
	if err != nil {
		return nil, err
	}
	answers := make([]any, len(answer.Results))
	for i, r := range answer.Results {
		if r.Error != nil {
			answers[i] = errors.New(r.Error.Message)
			continue
		}
		if r.Result == nil {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(*r.Result))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		if answers[i], err = answerOf(v); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// answerOf makes of JSON what it stands for.
func answerOf(v any) (any, error) {
	switch v := v.(type) {
	case string:
		return []byte(v), nil
	case json.Number:
		return v.Int64()
	case map[string]any:
		if s, ok := v["base64"].(string); ok && len(v) == 1 {
			return base64.StdEncoding.DecodeString(s)
		}
	case []any:
		for i := range v {
			var err error
			if v[i], err = answerOf(v[i]); err != nil {
				return nil, err
			}
		}
		return v, nil
	}
	return nil, nil
}
