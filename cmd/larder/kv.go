package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	larder "github.com/larder-cache/larder/sdk"
	"github.com/larder-cache/larder/sdk/api"
)

// A shownValue is a value in JSON. Bytes that are not UTF-8 are {"base64": "…"}.
type shownValue struct {
	Key         api.Bytes `json:"key"`
	Value       api.Bytes `json:"value"`
	ContentType string    `json:"content_type"`
	ETag        string    `json:"etag"`
	TTLMs       *int64    `json:"ttl_ms"` // null when it does not expire
}

func kvCommand() *cobra.Command {
	var page paging
	var file, ttl, contentType, ifMatch, ifNoneMatch string
	var delPrefix, delMatch string
	var prefix, match, kind string
	var cache string // --cache; one verb runs in a process
	return verbs("kv", "Values: read, write, delete, list",
		verb{
			use: "get KEY", short: "Write a value to standard output, byte for byte", args: cobra.ExactArgs(1),
			long: `
Write a value to standard output, byte for byte. With --json, print the value with its type, ETag and TTL.`,
			flags: func(f *pflag.FlagSet) { f.StringVar(&cache, "cache", "", cacheHelp) },
			run: func(c *call) error {
				name, err := c.cache(cache)
				if err != nil {
					return err
				}
				v, err := c.client.Cache(name).KV().Get(c.ctx, c.args[0])
				if err != nil {
					return err
				}
				if !c.json {
					_, err := c.out.Write(v.Data)
					return err
				}
				shown := shownValue{Key: api.Bytes(c.args[0]), Value: api.Bytes(v.Data), ContentType: v.ContentType, ETag: v.ETag}
				if v.TTL > 0 {
					ms := v.TTL.Milliseconds()
					shown.TTLMs = &ms
				}
				return writeJSON(c.out, shown)
			},
		},
		verb{
			use: "set KEY [VALUE]", short: "Store a value: VALUE, a file, or standard input", args: cobra.RangeArgs(1, 2),
			example: "  larder kv set greeting hello --ttl 1h\n  larder kv set logo --file logo.png --content-type image/png\n  date | larder kv set now",
			flags: func(f *pflag.FlagSet) {
				f.StringVar(&cache, "cache", "", cacheHelp)
				f.StringVar(&file, "file", "", "file with the value; - is standard input")
				f.StringVar(&ttl, "ttl", "", "how long it lives, such as 1500ms, 90s, 15m, 24h, 7d; the cache's default when left out")
				f.StringVar(&contentType, "content-type", "application/octet-stream", "kept with the value")
				f.StringVar(&ifMatch, "if-match", "", "only over the value with this ETag; * for any")
				f.StringVar(&ifNoneMatch, "if-none-match", "", "* : only if there is none")
			},
			run: func(c *call) error {
				value, err := valueOf(c, file)
				if err != nil {
					return err
				}
				name, err := c.cache(cache)
				if err != nil {
					return err
				}
				params := api.PutKVParams{TTL: given(c, "ttl", ttl), IfMatch: given(c, "if-match", ifMatch), IfNoneMatch: given(c, "if-none-match", ifNoneMatch)}
				var h http.Header
				if err := c.api.PutKV(c.ctx, name, c.args[0], &params, contentType, value, larder.Header(&h)); err != nil {
					return err
				}
				if !c.json {
					return nil
				}
				return writeJSON(c.out, map[string]string{"etag": h.Get("ETag")})
			},
		},
		verb{
			use: "del [KEY]", alias: "delete", short: "Delete a key, or all that begin with a prefix", args: cobra.RangeArgs(0, 1),
			example: "  larder kv del greeting\n  larder kv del --prefix user:4:",
			flags: func(f *pflag.FlagSet) {
				f.StringVar(&cache, "cache", "", cacheHelp)
				f.StringVar(&delPrefix, "prefix", "", "delete all keys that begin so")
				f.StringVar(&delMatch, "if-match", "", "only the value with this ETag")
			},
			run: func(c *call) error {
				byPrefix := delPrefix != ""
				if byPrefix == (len(c.args) == 1) || byPrefix && delMatch != "" {
					return misuse("give either a key or --prefix")
				}
				name, err := c.cache(cache)
				if err != nil {
					return err
				}
				kv := c.client.Cache(name).KV()
				if byPrefix {
					n, err := kv.DeletePrefix(c.ctx, delPrefix)
					if err != nil {
						return err
					}
					return c.show(map[string]int64{"deleted": n}, field{"deleted", n})
				}
				var options []larder.CallOption
				if delMatch != "" {
					options = append(options, larder.IfMatch(delMatch))
				}
				return kv.Delete(c.ctx, c.args[0], options...)
			},
		},
		verb{
			use: "ls", alias: "list", short: "List keys, in no particular order", args: cobra.NoArgs,
			flags: func(f *pflag.FlagSet) {
				f.StringVar(&cache, "cache", "", cacheHelp)
				page.flags(f)
				f.StringVar(&prefix, "prefix", "", "only keys that begin so")
				f.StringVar(&match, "match", "", "only keys that match a pattern with * ? [a-z]")
				f.StringVar(&kind, "type", "", "only keys of this type: string, hash, list, set, zset, session")
			},
			run: func(c *call) error {
				name, err := c.cache(cache)
				if err != nil {
					return err
				}
				return list(&c.printer, page, "KEY TYPE SIZE TTL", func(cursor *string, limit *int) ([]api.KeyEntry, string, error) {
					p, err := c.api.ListKeys(c.ctx, name, &api.ListKeysParams{
						Prefix: given(c, "prefix", prefix), Match: given(c, "match", match), Type: given(c, "type", kind), Cursor: cursor, Limit: limit,
					})
					return p.Keys, p.NextCursor, err
				}, func(k api.KeyEntry) []any {
					ttl := ""
					if k.TTLMs != nil {
						ttl = (time.Duration(*k.TTLMs) * time.Millisecond).String()
					}
					return []any{string(k.Key), k.Type, k.Size, ttl}
				})
			},
		},
	)
}

const cacheHelp = "cache to use; the credential's default cache when left out, or else main"

// cache is the cache that a verb is about: the one that was named, else the credential's own.
func (c *call) cache(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	who, err := c.api.Whoami(c.ctx)
	if err != nil {
		return "", err
	}
	if who.DefaultCache != nil && *who.DefaultCache != "" {
		return *who.DefaultCache, nil
	}
	return "main", nil
}

// valueOf is the value to store: the second argument, a file, or standard input.
func valueOf(c *call, file string) ([]byte, error) {
	if len(c.args) == 2 {
		if file != "" {
			return nil, misuse("give either VALUE or --file")
		}
		return []byte(c.args[1]), nil
	}
	if file == "" {
		file = "-"
	}
	text, err := readAll(c.InOrStdin(), file)
	if err != nil {
		return nil, &usageError{fmt.Errorf("the value: %w", err)}
	}
	return []byte(text), nil
}
