package replication

import (
	"context"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// A Feed is what becomes of a cache on one partition from a cut on, as a replica of Redis carries it out: see engine.Feed. Whoever began
// it closes it.
type Feed interface {
	// Next waits until something has happened, and returns it: whole units, good until it is called again. An error is the end, and
	// says that something is missing.
	Next(ctx context.Context) ([]byte, error)
	Close()
}

// FeedBytes is how much of what becomes of a cache may wait on each of its partitions.
const FeedBytes = 64 << 20

// feedLook is how often one looks that waits for something to happen.
const feedLook = time.Second

var (
	errFeeds    = fault.New(fault.Conflict, "replication.follow", "as many follow the cache as may: end some")
	errFeedLost = fault.New(fault.Unavailable, "replication.follow", "the replica that was followed is not here any more")
)

// A CacheFeed is the feed of a cache on one partition that is here. A replica may be followed that leads no more: what it carries
// out, it does in the same order.
type CacheFeed struct {
	d    *desk
	f    *engine.Feed
	bell chan struct{} // has one in it when there may be something
	b    []byte
}

// followHere cuts a cache, and begins its feed at the same moment. The caller holds the lock.
func (l *desk) followHere(id engine.CacheID, o engine.CutOptions) (*CacheCut, *CacheFeed, error) {
	c, err := l.cutHere(id, o)
	if err != nil {
		return nil, nil, err
	}
	f := &CacheFeed{d: l, bell: make(chan struct{}, 1)}
	var ok bool
	if f.f, ok = l.p.Feed(id, FeedBytes, f.ring); !ok {
		c.end()
		return nil, nil, errFeeds
	}
	if l.feeds == nil {
		l.feeds = map[*CacheFeed]bool{}
	}
	l.feeds[f] = true
	return c, f, nil
}

func (f *CacheFeed) ring() {
	select {
	case f.bell <- struct{}{}:
	default: // it has been rung
	}
}

// Next implements Feed.
func (f *CacheFeed) Next(ctx context.Context) ([]byte, error) {
	for {
		b, err := f.take()
		if err != nil || len(b) > 0 {
			return b, err
		}
		select {
		case <-f.bell:
		case <-time.After(feedLook): // a partition that has stopped rings no bell
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// keptFeed is how large a buffer may be that is kept while nothing happens.
const keptFeed = 1 << 20

func (f *CacheFeed) take() (b []byte, err error) {
	l := f.d
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.f == nil {
		return nil, errFeedLost
	}
	if l.broken {
		return nil, errBroken
	}
	if cap(f.b) > keptFeed {
		f.b = nil
	}
	b, err = f.f.Take(f.b)
	f.b = b
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "replication.follow", err, "the cache cannot be followed on")
	}
	return b, nil
}

// Close implements Feed.
func (f *CacheFeed) Close() {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.end()
}

// end ends the feed. The caller holds the lock.
func (f *CacheFeed) end() {
	if f.f != nil {
		f.f.Close()
		f.f = nil
		delete(f.d.feeds, f)
		f.ring()
	}
}

// endFeeds ends all feeds, for the partition goes elsewhere. The caller holds the lock.
func (l *desk) endFeeds() {
	for f := range l.feeds {
		f.end()
	}
}
