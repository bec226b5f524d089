package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/sdk/api"
)

// pollEvery is how often the server is asked how far something is.
const pollEvery = 250 * time.Millisecond

func snapshotCommand() *cobra.Command {
	var page paging
	var prefix, onto, file, to string
	var background, freeze, yesDelete, yesRestore bool
	later := func(f *pflag.FlagSet) { f.BoolVar(&background, "background", false, "do not wait until it is done") }
	return verbs("snapshot", "Snapshots of a cache: make, look at, restore, download, delete",
		verb{
			use: "create CACHE", short: "Make a snapshot of what a cache holds at this moment", args: cobra.ExactArgs(1),
			flags: func(f *pflag.FlagSet) {
				later(f)
				f.StringVar(&prefix, "prefix", "", "only keys that begin so")
			},
			run: func(c *call) error {
				s, err := c.api.CreateSnapshot(c.ctx, c.args[0], api.CreateSnapshotRequest{Prefix: given(c, "prefix", prefix)})
				return c.made(s, err, background)
			},
		},
		verb{
			use: "list CACHE", short: "List the snapshots of a cache, also of one that was deleted", args: cobra.ExactArgs(1), flags: page.flags,
			run: func(c *call) error {
				return list(&c.printer, page, "ID STATE KEYS SIZE CREATED", func(cursor *string, limit *int) ([]api.Snapshot, string, error) {
					p, err := c.api.ListSnapshots(c.ctx, c.args[0], &api.ListSnapshotsParams{Cursor: cursor, Limit: limit})
					return p.Snapshots, p.NextCursor, err
				}, func(s api.Snapshot) []any { return []any{s.ID, s.State, s.Keys, bytesize(s.SizeBytes), s.CreatedAt} })
			},
		},
		verb{
			use: "show CACHE ID", short: "Show a snapshot", args: cobra.ExactArgs(2),
			run: func(c *call) error {
				s, err := c.api.DescribeSnapshot(c.ctx, c.args[0], c.args[1])
				if err != nil {
					return err
				}
				return showSnapshot(c, s)
			},
		},
		verb{
			use: "restore CACHE ID INTO", short: "Restore a snapshot into a new cache, or over one", args: cobra.ExactArgs(3),
			long: `
Restore a snapshot of CACHE into a new cache, INTO, or with --overwrite INTO over one that is there. Nothing of it is seen
before all of it was found right; then INTO stands for what was restored, at once. Times to live have gone on since the
snapshot was made, unless --freeze-ttl lets them begin with what was left.`,
			example: "  larder snapshot restore main 20261127t081500-9f3a61c2 main-copy",
			flags: func(f *pflag.FlagSet) {
				later(f)
				yesFlag(&yesRestore)(f)
				f.StringVar(&prefix, "prefix", "", "only keys that begin so")
				f.BoolVar(&freeze, "freeze-ttl", false, "keys live as long again as they had left")
				f.StringVar(&onto, "overwrite", "", "INTO again: what it holds is replaced")
			},
			run: func(c *call) error { return restoreSnapshot(c, prefix, onto, freeze, background, yesRestore) },
		},
		verb{
			use: "download CACHE ID", short: "Write a snapshot to a file, encrypted as it is", args: cobra.ExactArgs(2),
			flags: func(f *pflag.FlagSet) {
				f.StringVarP(&file, "file", "f", "", "the file; CACHE-ID.larder if not given")
				f.StringVar(&to, "for", "", "the id of a tenant, here or in another cluster with the same master key, that is to upload it")
			},
			run: func(c *call) error {
				if file == "" {
					file = c.args[0] + "-" + c.args[1] + ".larder"
				}
				return downloadSnapshot(c, file, to)
			},
		},
		verb{
			use: "upload CACHE FILE", short: "Make a snapshot of CACHE of a file that download --for wrote", args: cobra.ExactArgs(2),
			long: `
Make a snapshot of a file that larder snapshot download --for wrote for your tenant, here or in another cluster that has the same
master key. CACHE need not exist: restore the snapshot afterwards.`,
			example: "  larder snapshot upload main main-20261127t081500-9f3a61c2.larder",
			run: func(c *call) error {
				f, err := os.Open(c.args[1])
				if err != nil {
					return err
				}
				defer f.Close()
				info, err := f.Stat()
				if err != nil {
					return err
				}
				s, err := c.api.TakeSnapshot(c.ctx, c.args[0], "application/octet-stream", []byte{}, api.WithBody(f, info.Size()))
				if err != nil {
					return err
				}
				return showSnapshot(c, s)
			},
		},
		verb{
			use: "delete CACHE ID", short: "Delete a snapshot, or cancel one that is being made", args: cobra.ExactArgs(2), flags: yesFlag(&yesDelete),
			run: func(c *call) error {
				if err := confirm(c.Command, yesDelete, "Delete the snapshot %q of the cache %q?", c.args[1], c.args[0]); err != nil {
					return err
				}
				if err := c.api.DeleteSnapshot(c.ctx, c.args[0], c.args[1]); err != nil {
					return err
				}
				return c.done("The snapshot %s is deleted.", c.args[1])
			},
		},
	)
}

func restoreSnapshot(c *call, prefix, onto string, freeze, background, yes bool) error {
	into := c.args[2]
	if onto != "" {
		if err := confirm(c.Command, yes, "Replace all that the cache %q holds?", onto); err != nil {
			return err
		}
	}
	r, err := c.api.RestoreSnapshot(c.ctx, c.args[0], c.args[1], api.SnapshotRestoreRequest{
		Into: into, Overwrite: given(c, "overwrite", onto), Prefix: given(c, "prefix", prefix), FreezeTTL: given(c, "freeze-ttl", freeze),
	})
	return c.restored(r, err, into, background)
}

// made waits for a snapshot, shows people how far it is, and in the end what it is.
func (c *call) made(s api.Snapshot, err error, background bool) error {
	for err == nil && s.State == "creating" && !background {
		c.bar(s.Progress)
		if err = c.pause(); err == nil {
			s, err = c.api.DescribeSnapshot(c.ctx, s.Cache, s.ID)
		}
	}
	c.endBar()
	if err != nil {
		return err
	}
	if s.State == "failed" {
		return &statusError{exitFailed, fmt.Errorf("the snapshot %s failed: %s", s.ID, *s.Problem)}
	}
	return showSnapshot(c, s)
}

// restored is made for a cache that is being filled.
func (c *call) restored(r api.SnapshotRestoration, err error, into string, background bool) error {
	for err == nil && r.State == "running" && !background {
		c.bar(r.Progress)
		if err = c.pause(); err == nil {
			r, err = c.api.DescribeRestoration(c.ctx, into)
		}
	}
	c.endBar()
	if err != nil {
		return err
	}
	if r.State == "failed" {
		return &statusError{exitFailed, fmt.Errorf("nothing was restored into %s: %s", into, *r.Problem)}
	}
	return c.show(r, field{"cache", r.Cache}, field{"snapshot", r.Snapshot}, field{"state", r.State}, field{"keys", r.Progress.Keys})
}

// downloadSnapshot writes a snapshot to a file, which has its name when it is whole.
func downloadSnapshot(c *call, file, to string) error {
	answer, err := c.api.DownloadSnapshot(c.ctx, c.args[0], c.args[1], &api.DownloadSnapshotParams{For: given(c, "for", to)})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	f, err := seal.CreateFile(file)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, answer.Body)
	if err == nil && answer.ContentLength >= 0 && n != answer.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return errors.Join(err, f.Discard())
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return c.done("%s has %d bytes.", file, n)
}

func showSnapshot(c *call, s api.Snapshot) error {
	return c.show(s, field{"id", s.ID}, field{"cache", s.Cache}, field{"state", s.State}, field{"problem", s.Problem}, field{"prefix", s.Prefix},
		field{"keys", s.Keys}, field{"bytes", bytesize(s.Bytes)}, field{"in the store", bytesize(s.SizeBytes)}, field{"digest", s.Digest}, field{"schedule", s.Schedule}, field{"created", s.CreatedAt})
}

// pause waits until the server is to be asked again.
func (c *call) pause() error {
	select {
	case <-c.ctx.Done():
		return c.ctx.Err()
	case <-time.After(pollEvery):
		return nil
	}
}

// bar shows people how far something is, in one line that is written over.
func (c *call) bar(p *api.JobProgress) {
	if p == nil || !c.watched() {
		return
	}
	const width = 30
	done, of, has := width, p.TotalKeys, p.Keys
	if p.Phase == "uploading" && p.SizeBytes != nil {
		of, has = *p.SizeBytes, p.Bytes
	}
	if of > 0 {
		done = int(min(has*width/of, width))
	}
	left := ""
	if p.Remaining != nil {
		left = ", about " + *p.Remaining + " left"
	}
	if p.Waiting != nil {
		left = ": " + *p.Waiting
	}
	fmt.Fprintf(c.notes, "\r\x1b[K%-9s [%-*.*s] %d keys, %v, %v/s%s", p.Phase, width, done, "##############################", p.Keys,
		cell(bytesize(p.Bytes)), cell(bytesize(p.BytesPerSecond)), left)
}

func (c *call) endBar() {
	if c.watched() {
		fmt.Fprint(c.notes, "\r\x1b[K")
	}
}

// watched reports whether somebody looks at the notes.
func (c *call) watched() bool {
	f, ok := c.notes.(*os.File)
	return ok && !c.json && term.IsTerminal(int(f.Fd()))
}
