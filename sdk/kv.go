package larder

import (
	"context"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/larder-cache/larder/sdk/api"
)

// A Cache is one cache of the tenant that the credential belongs to. It is a name, not a connection: making
// one asks the server nothing.
type Cache struct {
	api  *api.Client
	name string
}

// Cache names a cache.
func (c *Client) Cache(name string) Cache { return Cache{c.api, name} }

// Name is the cache's name.
func (c Cache) Name() string { return c.name }

// Describe returns the cache's settings and live numbers.
func (c Cache) Describe(ctx context.Context, options ...CallOption) (api.Cache, error) {
	return c.api.DescribeCache(ctx, c.name, options...)
}

// Flush deletes all that the cache holds.
func (c Cache) Flush(ctx context.Context, options ...CallOption) error {
	return c.api.FlushCache(ctx, c.name, options...)
}

// KV has the cache's values.
func (c Cache) KV() KV { return KV(c) }

// KV are the values of a cache: any bytes under keys that are any bytes.
type KV Cache

// A Value is a value with its circumstances.
type Value struct {
	Data        []byte        // nil from Stat
	Size        int64         // of the whole value
	ContentType string        // as it was stored
	ETag        string        // its version
	TTL         time.Duration // how long it still lives; 0 if it does not expire
	Flags       uint32        // memcached's
}

// Get reads a value. ErrNotFound if there is none.
func (k KV) Get(ctx context.Context, key string, options ...CallOption) (Value, error) {
	resp, err := k.api.GetKV(ctx, k.name, key, nil, options...)
	return readValue(resp, err)
}

// GetRange reads the bytes of a value from first to last, both included. ErrRangeNotSatisfiable if the value
// ends before first.
func (k KV) GetRange(ctx context.Context, key string, first, last int64, options ...CallOption) (Value, error) {
	span := "bytes=" + strconv.FormatInt(first, 10) + "-" + strconv.FormatInt(last, 10)
	resp, err := k.api.GetKV(ctx, k.name, key, &api.GetKVParams{Range: &span}, options...)
	return readValue(resp, err)
}

// Stat reads all of a value but its bytes.
func (k KV) Stat(ctx context.Context, key string, options ...CallOption) (Value, error) {
	resp, err := k.api.HeadKV(ctx, k.name, key, nil, options...)
	return readValue(resp, err)
}

// readValue reads an answer with a value.
func readValue(resp *http.Response, err error) (Value, error) {
	if err != nil {
		return Value{}, err
	}
	defer resp.Body.Close()
	h := resp.Header
	v := Value{ContentType: h.Get("Content-Type"), ETag: h.Get("ETag"), Size: max(0, resp.ContentLength)}
	if ms, err := strconv.ParseInt(h.Get("X-Larder-TTL-Ms"), 10, 64); err == nil {
		v.TTL = max(1, time.Duration(ms)*time.Millisecond) // what has no time left still expires
	}
	if flags, err := strconv.ParseUint(h.Get("X-Larder-Flags"), 10, 32); err == nil {
		v.Flags = uint32(flags)
	}
	if resp.Request != nil && resp.Request.Method == http.MethodHead {
		return v, nil
	}
	if v.Data, err = io.ReadAll(resp.Body); err != nil {
		return Value{}, err
	}
	v.Size = int64(len(v.Data))
	if resp.StatusCode == http.StatusPartialContent {
		if _, whole, ok := cutLast(h.Get("Content-Range"), '/'); ok {
			v.Size, _ = strconv.ParseInt(whole, 10, 64)
		}
	}
	return v, nil
}

// A SetOption changes how a value is stored.
type SetOption func(*setting)

type setting struct {
	ttl         time.Duration
	contentType string
	flags       uint32
	calls       []CallOption
}

// TTL is how long a value lives. Without it that is the cache's default.
func TTL(d time.Duration) SetOption { return func(s *setting) { s.ttl = d } }

// ContentType is kept with a value, and comes back with it.
func ContentType(t string) SetOption { return func(s *setting) { s.contentType = t } }

// Flags are memcached's, which stay with a value for its clients.
func Flags(n uint32) SetOption { return func(s *setting) { s.flags = n } }

// Call applies options of calls to a Set.
func Call(options ...CallOption) SetOption {
	return func(s *setting) { s.calls = append(s.calls, options...) }
}

// Set stores a value, and returns its ETag.
func (k KV) Set(ctx context.Context, key string, value []byte, options ...SetOption) (etag string, err error) {
	return k.set(ctx, key, value, api.PutKVParams{}, options)
}

// SetIfAbsent stores a value if there is none. ErrPreconditionFailed if there is one, which stays.
func (k KV) SetIfAbsent(ctx context.Context, key string, value []byte, options ...SetOption) (etag string, err error) {
	any := "*"
	return k.set(ctx, key, value, api.PutKVParams{IfNoneMatch: &any}, options)
}

// CompareAndSwap replaces the value that has this ETag; the ETag "*" is that of any value.
// ErrPreconditionFailed if there is another or none, and nothing has changed.
func (k KV) CompareAndSwap(ctx context.Context, key, etag string, value []byte, options ...SetOption) (newETag string, err error) {
	return k.set(ctx, key, value, api.PutKVParams{IfMatch: &etag}, options)
}

func (k KV) set(ctx context.Context, key string, value []byte, params api.PutKVParams, options []SetOption) (string, error) {
	s := setting{contentType: "application/octet-stream"}
	for _, o := range options {
		o(&s)
	}
	if s.ttl != 0 {
		ttl := api.Duration(s.ttl).String()
		params.TTL = &ttl
	}
	if s.flags != 0 {
		flags := int64(s.flags)
		params.Flags = &flags
	}
	if value == nil {
		value = []byte{}
	}
	var h http.Header
	err := k.api.PutKV(ctx, k.name, key, &params, s.contentType, value, append(s.calls, api.Received(&h))...)
	return h.Get("ETag"), err
}

// Delete deletes a key of any type. ErrNotFound if there is none.
func (k KV) Delete(ctx context.Context, key string, options ...CallOption) error {
	return k.api.DeleteKV(ctx, k.name, key, nil, options...)
}

// DeletePrefix deletes all keys that begin with prefix, and returns how many. It goes on where the server left
// off, as long as the context lasts; after an error the count is of those deleted so far.
func (k KV) DeletePrefix(ctx context.Context, prefix string, options ...CallOption) (deleted int64, err error) {
	params := api.DeleteKeysParams{Prefix: prefix}
	for {
		step, err := k.api.DeleteKeys(ctx, k.name, &params, options...)
		if err != nil {
			return deleted, err
		}
		deleted += step.Deleted
		if step.NextCursor == nil || *step.NextCursor == "" {
			return deleted, nil
		}
		params.Cursor = step.NextCursor
	}
}

// Append appends to a value, and makes it if there is none.
func (k KV) Append(ctx context.Context, key string, data []byte, options ...CallOption) (api.AppendResult, error) {
	if data == nil {
		data = []byte{}
	}
	return k.api.AppendKV(ctx, k.name, key, nil, "application/octet-stream", data, options...)
}

// TTL is how long a key still lives; 0 if it does not expire.
func (k KV) TTL(ctx context.Context, key string, options ...CallOption) (time.Duration, error) {
	is, err := k.api.GetTTL(ctx, k.name, key, options...)
	if err != nil || is.TTLMs == nil {
		return 0, err
	}
	return max(1, time.Duration(*is.TTLMs)*time.Millisecond), nil
}

// Expire gives a key a deadline. ErrNotFound if there is no such key.
func (k KV) Expire(ctx context.Context, key string, ttl time.Duration, options ...CallOption) error {
	_, err := k.api.SetTTL(ctx, k.name, key, nil, api.SetTTLRequest{TTL: api.Duration(ttl)}, options...)
	return err
}

// Persist lets a key live until it is deleted.
func (k KV) Persist(ctx context.Context, key string, options ...CallOption) error {
	return k.api.DeleteTTL(ctx, k.name, key, options...)
}

// A Filter says which keys a scan lists. The zero Filter lists all.
type Filter struct {
	Prefix   string // only keys that begin so
	Match    string // only keys that match a pattern with * ? [a-z]
	Type     string // only keys of this type: string, hash, list, set, zset, stream, session, or a sketch's as TYPE names it
	PageSize int    // how many the server is asked for at a time, 1 to 1000; 100 if you do not say
}

// Scan lists keys in no particular order. A key that exists all the time is listed; it may be listed twice.
func (k KV) Scan(ctx context.Context, filter Filter, options ...CallOption) iter.Seq2[api.KeyEntry, error] {
	return pages(func(cursor *string) ([]api.KeyEntry, string, error) {
		page, err := k.api.ListKeys(ctx, k.name, &api.ListKeysParams{
			Prefix: given(filter.Prefix), Match: given(filter.Match), Type: given(filter.Type), Limit: given(filter.PageSize), Cursor: cursor,
		}, options...)
		return page.Keys, page.NextCursor, err
	})
}

// pages goes through all pages of a list. An error ends it.
func pages[T any](fetch func(cursor *string) (items []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var cursor *string
		for {
			items, next, err := fetch(cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			cursor = &next
		}
	}
}

// given is a pointer to a value, nil for the zero value: what is not given is not sent.
func given[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == sep {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
