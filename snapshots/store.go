package snapshots

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/gcerrors"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/seal"
)

// A Store is where snapshots lie: a directory of this node, or a bucket that all nodes see.
type Store struct {
	bucket *blob.Bucket
	Shared bool   // all nodes see the same
	spool  string // a directory for files on their way to a store that is elsewhere
	pause  time.Duration
}

// Bounds of sending a file to a store.
const (
	partBytes   = 16 << 20 // of an upload; what breaks off within one is sent again by the driver
	partsAtOnce = 2
	firstPause  = time.Second // between two attempts, and twice as long each time
	longPause   = time.Minute
	giveUpAfter = 24 * time.Hour
)

// OpenStore opens a store: file:///DIRECTORY, s3://BUCKET?region=…&endpoint=…, gs://BUCKET or azblob://CONTAINER, each with prefix=… for a part of it.
// Whoever calls it imports the drivers of gocloud.dev that it wants; credentials come from where the provider's own tools take them. spool is for files on their way.
func OpenStore(ctx context.Context, at, spool string) (*Store, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, errors.New("a store is a URL such as file:///var/lib/larder/snapshots or s3://bucket?region=eu-central-1")
	}
	if u.Scheme == "file" {
		return openDirectory(u)
	}
	bucket, err := blob.OpenBucket(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("%s://%s: %w", u.Scheme, u.Host, err)
	}
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return nil, err
	}
	left, err := filepath.Glob(filepath.Join(spool, "*"+spooled+"*")) // of a process before this one
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return nil, err
	}
	return &Store{bucket: bucket, Shared: true, spool: spool, pause: firstPause}, nil
}

func openDirectory(u *url.URL) (*Store, error) {
	if u.Host != "" || u.Path == "" || u.RawQuery != "" && u.RawQuery != "shared=true" {
		return nil, errors.New("a directory is file:///PATH, with ?shared=true where all nodes see the same one")
	}
	bucket, err := fileblob.OpenBucket(filepath.FromSlash(u.Path), &fileblob.Options{
		CreateDir: true, NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: 0o700,
	})
	if err != nil {
		return nil, err
	}
	return &Store{bucket: bucket, Shared: u.RawQuery != ""}, nil
}

// Close closes the store.
func (t *Store) Close() error { return t.bucket.Close() }

// An Object is one that is being read.
type Object struct {
	io.ReadCloser
	Size int64
}

// file is what comes next of the object as a file that another process may read: its own, or a pipe that it is sent through. release ends
// that, and tells what came between.
func (o *Object) file() (f *os.File, release func() error, err error) {
	var plain io.Reader
	if r, ok := o.ReadCloser.(*blob.Reader); ok && r.As(&plain) {
		if f, ok := plain.(*os.File); ok {
			return f, func() error { return nil }, nil
		}
	}
	f, to, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(to, o.ReadCloser)
		_ = to.Close() // the reader has what came
		sent <- err
	}()
	return f, func() error {
		_ = f.Close() // it was read
		if err := <-sent; !errors.Is(err, syscall.EPIPE) {
			return err
		}
		return nil // somebody wanted no more
	}, nil
}

// Open begins to read an object.
func (t *Store) Open(ctx context.Context, object string) (*Object, error) {
	r, err := t.bucket.NewReader(ctx, object, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fault.New(fault.NotFound, "snapshots.open", "the snapshot is not in the store")
	}
	if err != nil {
		return nil, unreachable(err)
	}
	return &Object{r, r.Size()}, nil
}

func unreachable(err error) error {
	return fault.Wrap(fault.Unavailable, "snapshots.store", err, "the store of snapshots cannot be reached at the moment")
}

// Drop removes an object, if it is there.
func (t *Store) Drop(ctx context.Context, object string) error {
	if err := t.bucket.Delete(ctx, object); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return unreachable(err)
	}
	return nil
}

// spooled ends the names of files on their way.
const spooled = ".spooled"

// A draft is a snapshot that is being written. It has its name in the store when it is whole, and not before.
//
// In a directory it is written where it will lie. On the way to a store elsewhere it is first written to this machine's disk, sealed as it
// is: the cut of the cache, which costs memory for what is overwritten meanwhile, takes no longer for a store that is slow or down.
type draft struct {
	t      *Store
	object string
	w      io.WriteCloser
	file   *os.File           // what w writes to, without a buffer: who writes there need not use w
	cancel context.CancelFunc // has w's Close leave nothing
	path   string             // of a spooled file
}

func (t *Store) draft(ctx context.Context, object string) (*draft, error) {
	d := &draft{t: t, object: object}
	if t.spool != "" {
		d.path = filepath.Join(t.spool, strings.ReplaceAll(object, "/", "_")+spooled)
		f, err := seal.CreateFile(d.path)
		if err != nil {
			return nil, err
		}
		d.w, d.file, d.cancel = f, f.File, func() {}
		return d, nil
	}
	// The directory shows an object only when its writer is closed, and not at all when the context has ended before.
	ctx, d.cancel = context.WithCancel(ctx)
	w, err := t.bucket.NewWriter(ctx, object, &blob.WriterOptions{ContentType: contentType, BeforeWrite: func(as func(any) bool) error {
		if !as(&d.file) {
			return errors.New("the directory of snapshots gives no file to write to")
		}
		return nil
	}})
	if err != nil {
		d.cancel()
		return nil, err
	}
	d.w = w
	return d, nil
}

const contentType = "application/octet-stream"

// discard leaves nothing of a draft that is not whole.
func (d *draft) discard() error {
	d.cancel()
	if f, ok := d.w.(*seal.File); ok {
		return f.Discard()
	}
	_ = d.w.Close() // says that it was cancelled
	return nil
}

// finish gives a whole draft its name in the store. Where that takes attempts, j shows why.
func (d *draft) finish(ctx context.Context, j *job) error {
	defer d.cancel()
	f, ok := d.w.(*seal.File)
	if !ok {
		return d.w.Close()
	}
	if err := f.Commit(); err != nil {
		return err
	}
	err := d.t.upload(ctx, d.path, d.object, j)
	return errors.Join(err, os.Remove(d.path))
}

// upload sends a file to the store, and tries again for as long as that may be of use.
func (t *Store) upload(ctx context.Context, path, object string, j *job) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	pause, began := t.pause, j.s.cfg.Now()
	for attempt := 1; ; attempt++ {
		j.enter(Uploading, info.Size())
		if err = t.uploadOnce(ctx, path, object, j); err == nil || ctx.Err() != nil {
			return err
		}
		if j.s.cfg.Now().Sub(began) > giveUpAfter {
			return unreachable(err)
		}
		j.s.cfg.Log.Warn("a snapshot could not be sent to the store; it is tried again", "snapshot", j.progress().Snapshot, "attempt", attempt, "in", pause, "error", err)
		j.change(func(p *Progress) {
			p.Retries, p.Trouble = attempt, "the store of snapshots cannot be reached; it is tried again"
		})
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, longPause)
	}
}

func (t *Store) uploadOnce(ctx context.Context, path, object string, j *job) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := t.bucket.NewWriter(ctx, object, &blob.WriterOptions{ContentType: contentType, BufferSize: partBytes, MaxConcurrency: partsAtOnce})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, &counted{r: f, told: func(n int64) { j.told(0, n) }}); err != nil {
		cancel()
		_ = w.Close() // says that it was cancelled
		return err
	}
	return w.Close()
}

// counted tells how much has been read.
type counted struct {
	r    io.Reader
	n    int64
	told func(n int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.n += int64(n); n > 0 {
		c.told(c.n)
	}
	return n, err
}
