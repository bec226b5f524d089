package etcdembed

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// A slogCore passes etcd's warnings and errors on to slog.
type slogCore struct {
	log     *slog.Logger
	fields  []zapcore.Field
	closing *atomic.Bool
}

// expected are warnings about what Start does on purpose. The last two come when a new member is asked for
// its storage version before it has flushed its first entry; etcd asks again 4 s later, and only a downgrade
// would care.
var expected = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"simple token is not cryptographically signed":                                         true,
	"Failed to detect schema version":                                                      true,
	"failed to update storage version":                                                     true,
}

// early is part of what a new member says when its timer goes off before it has taken itself in; it stands in the
// middle of ids and terms.
const early = "cannot campaign at term"

// expectedAtClose are complaints about the connections that Close cuts.
var expectedAtClose = map[string]bool{
	"setting up serving from embedded etcd failed.": true,
	"stopping insecure grpc server due to error":    true,
	"stopped insecure grpc server due to error":     true,
}

// private are the fields of etcd's warnings that quote a request, and with it keys of ours.
var private = []string{"request", "response", "request content", "key"}

func (c *slogCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{log: c.log, fields: slices.Concat(c.fields, fields), closing: c.closing}
}

func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) || expected[e.Message] || strings.Contains(e.Message, early) || c.closing.Load() && expectedAtClose[e.Message] {
		return ce
	}
	return ce.AddCore(e, c)
}

func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if e.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(c.fields, fields) {
		f.AddTo(enc)
	}
	for _, name := range private {
		delete(enc.Fields, name)
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields))
	for _, name := range slices.Sorted(maps.Keys(enc.Fields)) {
		attrs = append(attrs, slog.Any(name, enc.Fields[name]))
	}
	c.log.LogAttrs(context.Background(), level, e.Message, attrs...)
	return nil
}

func (c *slogCore) Sync() error { return nil }
