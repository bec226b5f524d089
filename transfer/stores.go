package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/gcerrors"

	"github.com/larder-cache/larder/internal/fault"
)

// Stores are from where files may be imported by a URL: buckets and directories that the operator has allowed. The operator says how
// one is reached and with whose credentials; who imports names a file in it and nothing else. So nobody has this process speak
// to a host, or read a file, that the operator has not thought of.
//
//	Z1: what is opened lies in an allowed store, below its prefix, where {tenant} stands for the name of who asks
//	Z2: who asks for something else hears the same, whether or not it is there
type Stores struct {
	list []*allowed
}

// An allowed store is opened when somebody asks for the first file in it.
type allowed struct {
	scheme, host string // as who imports names them; a directory has no host
	dir          string // of a directory, with a slash at its end
	prefix       string
	open         func(ctx context.Context) (*blob.Bucket, error)

	mu     sync.Mutex
	bucket *blob.Bucket
}

// tenantMark stands for the tenant's name in a prefix.
const tenantMark = "{tenant}"

// OpenStores takes the URLs of stores: s3://BUCKET?region=…, gs://BUCKET, azblob://CONTAINER or file:///DIRECTORY, each with
// prefix=…/ for a part of it. Whoever calls it imports the drivers of gocloud.dev that it wants.
func OpenStores(urls []string) (*Stores, error) {
	s := &Stores{}
	for _, text := range urls {
		a, err := parseAllowed(text)
		if err != nil {
			return nil, err
		}
		s.list = append(s.list, a)
	}
	return s, nil
}

func parseAllowed(text string) (*allowed, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("%.100q is no store: want s3://BUCKET?region=…, gs://BUCKET, azblob://CONTAINER or file:///DIRECTORY, with prefix=…/ for a part of it", text)
	}
	q := u.Query()
	a := &allowed{scheme: u.Scheme, host: u.Host, prefix: q.Get("prefix")}
	q.Del("prefix") // which is looked at here, and not by the driver
	if a.prefix != "" && !strings.HasSuffix(a.prefix, "/") {
		return nil, fmt.Errorf("the prefix %.100q of %s://%s does not end with a slash: so would others that begin like it be allowed", a.prefix, u.Scheme, u.Host)
	}
	if u.Scheme == "file" {
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") || len(q) > 0 {
			return nil, fmt.Errorf("%.100q is no directory: want file:///DIRECTORY, with ?prefix=…/ for a part of it", text)
		}
		a.dir = strings.TrimSuffix(u.Path, "/") + "/"
		a.open = func(context.Context) (*blob.Bucket, error) {
			return fileblob.OpenBucket(filepath.FromSlash(a.dir), &fileblob.Options{Metadata: fileblob.MetadataDontWrite})
		}
		return a, nil
	}
	if !slices.Contains([]string{"s3", "gs", "azblob"}, u.Scheme) || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("%.100q is no bucket: want s3://BUCKET?region=…, gs://BUCKET or azblob://CONTAINER, with prefix=…/ for a part of it", text)
	}
	u.RawQuery, u.Path = q.Encode(), ""
	a.open = func(ctx context.Context) (*blob.Bucket, error) { return blob.OpenBucket(ctx, u.String()) }
	return a, nil
}

// opened is the store's bucket.
func (a *allowed) opened(ctx context.Context) (*blob.Bucket, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bucket == nil {
		b, err := a.open(context.WithoutCancel(ctx))
		if err != nil {
			return nil, err
		}
		a.bucket = b
	}
	return a.bucket, nil
}

// Close closes the stores. Nothing is read from them any more.
func (s *Stores) Close() (err error) {
	for _, a := range s.list {
		a.mu.Lock()
		if a.bucket != nil {
			err = errors.Join(err, a.bucket.Close())
		}
		a.mu.Unlock()
	}
	return err
}

// maxObject is how many bytes the name of a file in a store may have.
const maxObject = 1024

// find finds the store that a URL is in, and the file's name there; nil for one that is not allowed (Z1).
func (s *Stores) find(u *url.URL, tenant string) (*allowed, string) {
	for _, a := range s.list {
		name, in := strings.CutPrefix(u.Path, "/")
		if a.scheme == "file" {
			name, in = strings.CutPrefix(u.Path, a.dir)
		}
		if in && u.Scheme == a.scheme && u.Host == a.host && strings.HasPrefix(name, strings.ReplaceAll(a.prefix, tenantMark, tenant)) {
			return a, name
		}
	}
	return nil, ""
}

// plainName reports whether a name goes from folder to folder, and nowhere else.
func plainName(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return len(name) <= maxObject && !strings.ContainsAny(name, "\\\x00")
}

const opOpen = "transfer.open"

// Open begins to read a file for a tenant.
func (s *Stores) Open(ctx context.Context, tenant, from string) (io.ReadCloser, error) {
	u, err := url.Parse(from)
	switch {
	case err != nil || u.Opaque != "" || u.Scheme == "":
		return nil, fault.About(fault.InvalidArgument, opOpen, "from", "from is the URL of a file in a store, such as s3://BUCKET/dump.rdb")
	case u.RawQuery != "" || u.ForceQuery || u.User != nil || u.Fragment != "":
		return nil, fault.About(fault.InvalidArgument, opOpen, "from", "from names a file and nothing else: how a store is reached is the operator's to say")
	}
	a, name := s.find(u, tenant)
	if a == nil || !plainName(name) {
		return nil, fault.About(fault.Denied, opOpen, "from", "nothing is imported from there: the operator allows stores with --import-from")
	}
	bucket, err := a.opened(ctx)
	if err != nil {
		return nil, storeFault(err)
	}
	f := &storedFile{ctx: ctx, bucket: bucket, name: name, pause: firstPause}
	if err := f.open(); err != nil {
		return nil, storeFault(err)
	}
	f.size, f.modified = f.r.Size(), f.r.ModTime()
	return f, nil
}

func storeFault(err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound {
		return fault.About(fault.NotFound, opOpen, "from", "the store has no such file")
	}
	return fault.Wrap(fault.Unavailable, opOpen, err, "the store cannot be reached at the moment, or it refuses")
}

// A storedFile is read from its beginning to its end. Where the store breaks off, it is asked for the rest.
type storedFile struct {
	ctx      context.Context
	bucket   *blob.Bucket
	name     string
	r        *blob.Reader // nil after it broke off
	at, size int64
	modified time.Time
	pause    time.Duration
	waited   time.Duration // since anything came
	broke    error         // why r is nil
}

func (f *storedFile) open() (err error) {
	f.r, err = f.bucket.NewRangeReader(f.ctx, f.name, f.at, -1, nil)
	return err
}

// Read implements io.Reader.
func (f *storedFile) Read(p []byte) (n int, err error) {
	for len(p) > 0 {
		if f.at == f.size {
			return 0, io.EOF
		}
		if f.r != nil {
			n, err = f.r.Read(p[:min(int64(len(p)), f.size-f.at)])
			if n > 0 { // an error comes again
				f.at += int64(n)
				f.pause, f.waited = firstPause, 0
				return n, nil
			}
			if err == nil {
				continue
			}
			_ = f.r.Close() // it has failed, or ended too soon
			f.r, f.broke = nil, err
		}
		if err := f.again(); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// again asks for the rest of the file, after a pause that gets longer each time.
func (f *storedFile) again() error {
	if f.waited >= patience {
		return storeFault(f.broke)
	}
	select {
	case <-time.After(f.pause):
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
	f.waited += f.pause
	f.pause = min(2*f.pause, longestWait)
	if err := f.open(); err != nil {
		f.r, f.broke = nil, err
		if gcerrors.Code(err) == gcerrors.NotFound {
			return storeFault(err)
		}
		return nil // it is asked again
	}
	if f.r.Size() != f.size || !f.r.ModTime().Equal(f.modified) {
		return fault.About(fault.Conflict, opOpen, "from", "the file in the store has changed while it was read")
	}
	return nil
}

// Close implements io.Closer.
func (f *storedFile) Close() error {
	if f.r == nil {
		return nil
	}
	return f.r.Close()
}
