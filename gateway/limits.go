package gateway

import (
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/tenants"
)

// A limit is what a tenant or a cache may use in a second, and what it has used.
type limit struct {
	units, bytes int64    // 0 means no limit
	used         *buckets // nil when there is no limit at all
}

// buckets belong to one tenant or cache and to its present limits: whoever gets other limits starts with none
// used, and owes nothing from before.
type buckets struct{ units, bytes bucket }

type bucketsKey struct {
	of           string // "t:" and a tenant's id, or "c:" and a cache's
	units, bytes int64
}

func (g *Gateway) limitOf(of string, l tenants.Limits) limit {
	if l.UnitsPerSecond == 0 && l.BytesPerSecond == 0 {
		return limit{}
	}
	key := bucketsKey{of, l.UnitsPerSecond, l.BytesPerSecond}
	fresh := &buckets{}
	if kept, ok, _ := g.buckets.PeekOrAdd(key, fresh); ok {
		g.buckets.Get(key) // so that it counts as used
		fresh = kept
	}
	return limit{l.UnitsPerSecond, l.BytesPerSecond, fresh}
}

// since is a time as buckets count it, in nanoseconds.
func (g *Gateway) since(now time.Time) int64 { return int64(now.Sub(g.began)) }

// wait returns how long until a request may pass, 0 for now.
func (l *limit) wait(now int64) time.Duration {
	if l.used == nil {
		return 0
	}
	return max(l.used.units.wait(now, l.units), l.used.bytes.wait(now, l.bytes))
}

func (l *limit) charge(now, units, bytes int64) {
	if l.used == nil {
		return
	}
	l.used.units.charge(now, units, l.units)
	l.used.bytes.charge(now, bytes, l.bytes)
}

// A bucket holds one second's worth of tokens. A request is let in while there is any, and charged afterwards
// with what it really cost, so the bucket may go into debt and refuses until that is paid. It is the generic
// cell rate algorithm: one number, the time when the bucket will be full again, in nanoseconds.
type bucket struct{ full atomic.Int64 }

// maxDebt bounds how long a bucket refuses, however much was taken at once.
const maxDebt = 24 * time.Hour

// wait returns how long until a request may pass, 0 for now. A rate of 0 is no limit.
func (b *bucket) wait(now, rate int64) time.Duration {
	if rate == 0 {
		return 0
	}
	return max(0, time.Duration(b.full.Load()-now)-time.Second)
}

// charge takes n tokens at rate tokens a second.
func (b *bucket) charge(now, n, rate int64) {
	if rate == 0 {
		return
	}
	cost := int64(min(float64(n)/float64(rate)*float64(time.Second), float64(maxDebt)))
	for {
		full := b.full.Load()
		if b.full.CompareAndSwap(full, min(max(full, now)+cost, now+int64(maxDebt))) {
			return
		}
	}
}
