package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/sdk/api"
)

// importFlags say what is imported, and how.
type importFlags struct {
	cache, newCache, prefix, db, format string
	replace, skip                       bool
}

func (f *importFlags) mode() string {
	switch {
	case f.replace:
		return "replace"
	case f.skip:
		return "skip"
	}
	return "refuse"
}

func importCommand() *cobra.Command {
	var f importFlags
	cmd := verb{
		use: "import FILE", short: "Import an RDB file of Redis or Valkey, JSON lines, or an append-only file", args: cobra.ExactArgs(1),
		long: `
Import a file into a cache; - is the standard input, and s3://BUCKET/NAME, gs://…, azblob://… or file:///… is a file in a store that the
server reads, where its operator allows that (larder serve --import-from). What the file is shows at its beginning: an RDB file of Redis or Valkey,
JSON lines as "larder export" writes them, or commands as Redis's append-only file has them.

Keys land as they come, and stay if the import ends early: then import again with --replace. With --new-cache the cache is made
for it, and deleted again unless all of the file was read.`,
		example: "  larder import dump.rdb --cache main --replace\n  larder import dump.rdb --new-cache from-redis\n  larder import s3://dumps/acme/dump.rdb --cache main",
		flags: func(set *pflag.FlagSet) {
			set.StringVar(&f.cache, "cache", "", "the cache that gets the keys")
			set.StringVar(&f.newCache, "new-cache", "", "make this cache for the keys")
			set.BoolVar(&f.replace, "replace", false, "replace keys that exist")
			set.BoolVar(&f.skip, "skip-existing", false, "leave keys that exist as they are")
			set.StringVar(&f.prefix, "prefix", "", "only keys that begin so")
			set.StringVar(&f.db, "db", "", "only these databases, such as 0,3")
			set.StringVar(&f.format, "format", "", "what the file is: rdb, jsonl or commands; found out without it")
		},
		run: func(c *call) error { return importFile(c, &f) },
	}.command()
	cmd.MarkFlagsMutuallyExclusive("replace", "skip-existing")
	cmd.MarkFlagsMutuallyExclusive("cache", "new-cache")
	cmd.MarkFlagsOneRequired("cache", "new-cache")
	return cmd
}

// openImport opens what an import reads here: nothing of a file in a store. size is -1 where it is not known.
func openImport(c *call) (file io.Reader, size int64, err error) {
	switch name := c.args[0]; {
	case strings.Contains(name, "://"):
		return strings.NewReader(""), 0, nil
	case name == "-":
		return c.InOrStdin(), -1, nil
	default:
		opened, err := os.Open(name)
		if err != nil {
			return nil, 0, misuse("%v", err)
		}
		info, err := opened.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, opened.Close())
		}
		if !info.Mode().IsRegular() {
			return opened, -1, nil
		}
		return opened, info.Size(), nil
	}
}

func importFile(c *call, f *importFlags) (err error) {
	file, size, err := openImport(c)
	if err != nil {
		return err
	}
	if opened, ok := file.(*os.File); ok && opened != os.Stdin {
		defer opened.Close()
	}
	var from *string
	if strings.Contains(c.args[0], "://") {
		from = &c.args[0]
	}
	cache := f.cache
	if f.newCache != "" {
		cache = f.newCache
		if _, err := c.api.CreateCache(c.ctx, api.CreateCacheRequest{Name: cache}); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = c.dropCache(cache, err)
			}
		}()
	}
	body := &counted{r: file}
	stop := c.follow(cache, body, size)
	report, err := c.api.ImportCache(c.ctx, cache, &api.ImportCacheParams{
		Format: given(c, "format", f.format), Mode: new(f.mode()), Prefix: given(c, "prefix", f.prefix), DB: given(c, "db", f.db), From: from,
	}, "application/octet-stream", []byte{}, api.WithBody(body, size))
	stop()
	if err != nil {
		return err
	}
	return showImport(c, report)
}

// dropCache deletes a cache that was made for an import that failed.
func (c *call) dropCache(cache string, failure error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), 10*time.Second)
	defer cancel()
	if err := c.api.DeleteCache(ctx, cache); err != nil {
		return errors.Join(failure, fmt.Errorf("the cache %s, which was made for it, stays: %w", cache, err))
	}
	fmt.Fprintf(c.notes, "The cache %s, which was made for it, is deleted again.\n", cache)
	return failure
}

// showImport shows what became of an import. It is an error that something was left out.
func showImport(c *call, r api.ImportReport) error {
	fields := []field{{"format", r.Format}, {"source", r.Source}, {"keys", r.Keys}}
	for _, kind := range slices.Sorted(maps.Keys(r.ByType)) {
		fields = append(fields, field{"  " + kind, r.ByType[kind]})
	}
	fields = append(fields, field{"read", bytesize(r.Bytes)})
	for _, n := range []struct {
		name  string
		count int64
	}{{"expired, dropped", r.Expired}, {"not asked for", r.Filtered}, {"functions", r.Functions}, {"commands", r.Commands}} {
		if n.count > 0 {
			fields = append(fields, field{n.name, n.count})
		}
	}
	left := int64(0)
	for _, s := range r.Skipped {
		left += s.Count
		fields = append(fields, field{"left out", fmt.Sprintf("%d: %s; the first is %s", s.Count, s.Reason, printable(s.First))})
	}
	for _, note := range r.Notes {
		fields = append(fields, field{"note", note})
	}
	if err := c.show(r, fields...); err != nil {
		return err
	}
	if left > 0 {
		return &statusError{exitFailed, fmt.Errorf("%d keys or commands were left out", left)}
	}
	return nil
}

// A counted reader tells how much was read of it.
type counted struct {
	r io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// follow shows people how far an import is until it is stopped.
func (c *call) follow(cache string, body *counted, size int64) (stop func()) {
	if !c.watched() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(c.ctx)
	done := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; _ = sleep(ctx, pollEvery) {
			keys := int64(0)
			if p, err := c.api.DescribeImport(ctx, cache); err == nil {
				keys = p.Keys
			}
			c.progress(keys, body.n.Load(), size, time.Since(began))
		}
	}()
	return func() {
		cancel()
		<-done
		c.endBar()
	}
}

// progress shows keys and bytes, in one line that is written over.
func (c *call) progress(keys, n, size int64, took time.Duration) {
	const width = 30
	bar, left := "", ""
	rate := float64(n) / max(took.Seconds(), 0.001)
	if size > 0 {
		bar = fmt.Sprintf("[%-*s] ", width, strings.Repeat("#", int(min(n*width/size, width))))
		if n > 0 && n < size {
			left = fmt.Sprintf(", about %v left", time.Duration(float64(size-n)/rate*float64(time.Second)).Round(time.Second))
		}
	}
	count := ""
	if keys > 0 {
		count = fmt.Sprintf("%d keys, ", keys)
	}
	fmt.Fprintf(c.notes, "\r%s%s%v, %v/s%s   ", bar, count, bytesize(n), bytesize(int64(rate)), left)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func exportCommand() *cobra.Command {
	var format, file, prefix, snapshot string
	var version int
	return verb{
		use: "export CACHE", short: "Write what a cache or a snapshot of it holds to a file: RDB, JSON lines, CSV", args: cobra.ExactArgs(1),
		long: `
Write what a cache holds at this moment to a file, or with --snapshot what a snapshot of it holds. The file has its name when it
is whole; with --file - it goes to the standard output. An RDB file is loaded by redis-server 7.0 and later and by Valkey.`,
		example: "  larder export main --file main.rdb\n  larder export main --format jsonl --file - | head",
		flags: func(f *pflag.FlagSet) {
			f.StringVar(&format, "format", "", "rdb, jsonl or csv; rdb if neither this nor the file's name says another")
			f.StringVarP(&file, "file", "f", "", "the file; CACHE.FORMAT if not given")
			f.StringVar(&prefix, "prefix", "", "only keys that begin so")
			f.StringVar(&snapshot, "snapshot", "", "the id of a snapshot")
			f.IntVar(&version, "rdb-version", 0, "of an RDB file: 9 for Redis 5, 10 for Redis 7.0, 12 for Redis 7.4, which has deadlines of fields")
		},
		run: func(c *call) error {
			if format == "" {
				format = "rdb"
				if end := strings.TrimPrefix(filepath.Ext(file), "."); end == "jsonl" || end == "csv" {
					format = end
				}
			}
			if file == "" {
				file = c.args[0] + "." + format
			}
			return exportCache(c, file, &api.ExportCacheParams{
				Format: &format, Prefix: given(c, "prefix", prefix), Snapshot: given(c, "snapshot", snapshot), RdbVersion: given(c, "rdb-version", version),
			})
		},
	}.command()
}

// exportCache writes an export to a file, which has its name when it is whole.
func exportCache(c *call, file string, params *api.ExportCacheParams) error {
	answer, err := c.api.ExportCache(c.ctx, c.args[0], params)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if file == "-" {
		if _, err := io.Copy(c.OutOrStdout(), answer.Body); err != nil {
			return fmt.Errorf("the export broke off: what was written is not whole: %w", err)
		}
		return leftOut(answer.Trailer)
	}
	f, err := seal.CreateFile(file)
	if err != nil {
		return err
	}
	body, began := &counted{r: answer.Body}, time.Now()
	ctx, cancel := context.WithCancel(c.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c.watched() && ctx.Err() == nil {
			c.progress(0, body.n.Load(), -1, time.Since(began))
			_ = sleep(ctx, pollEvery)
		}
	}()
	_, err = io.Copy(f, body)
	cancel()
	<-done
	c.endBar()
	if err != nil {
		return errors.Join(fmt.Errorf("the export broke off, and nothing was written: %w", err), f.Discard())
	}
	if err := f.Commit(); err != nil {
		return err
	}
	if err := c.done("%s has %s keys, %v.", file, answer.Trailer.Get("X-Larder-Keys"), bytesize(body.n.Load())); err != nil {
		return err
	}
	return leftOut(answer.Trailer)
}

// leftOut is an error when not all keys are in an export.
func leftOut(trailer http.Header) error {
	if n := trailer.Get("X-Larder-Left-Out"); n != "0" && n != "" {
		return &statusError{exitFailed, fmt.Errorf("%s keys were left out, of types that the format does not have: JSON lines have them", n)}
	}
	return nil
}
