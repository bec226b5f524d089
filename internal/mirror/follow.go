package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// The watch uses etcd's gRPC service and not clientv3.Watcher: that one resumes a broken watch by itself,
// from the revision it wants next, without looking at whom it then talks to. On an etcd restored from an
// older backup it would wait in silence until that etcd's revisions had caught up, and go on with a history
// that is not ours. Here a broken watch ends follow, and follow begins with the history.

// pageSize is how many records one request of a listing asks for.
const pageSize = 500

// errCompacted says that etcd no longer has the history that we asked for.
var errCompacted = errors.New("compacted")

// A refusal is why etcd's history is not ours; see M2.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// An anchor is the newest change of which we know, and so the one that another history is least likely to
// share. With an empty key we know of none.
type anchor struct {
	key      string
	revision int64
	deleted  bool
}

// run follows etcd until Close.
func (m *Mirror) run() {
	pause := m.pace.retry
	for {
		err := m.follow(m.ctx)
		if m.ctx.Err() != nil {
			m.tell(func() { m.connected = false })
			return
		}
		if m.lost(err) {
			pause = m.pace.retry
		}
		if m.listed && errors.Is(err, errCompacted) {
			m.listed = false
			continue // with a listing, at once
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		case <-m.ctx.Done():
		}
		pause = min(2*pause, m.pace.retryTo)
	}
}

// lost notes why following ended, and logs it when that is news. It reports whether we had been connected.
func (m *Mirror) lost(err error) (was bool) {
	var no *refusal
	isNo := errors.As(err, &no)
	var news bool
	m.tell(func() {
		was = m.connected
		news = was
		if isNo {
			news = m.refused == nil || m.refused.Error() != no.Error()
			m.refused = no
		}
		m.connected, m.cause = false, err
	})
	switch {
	case !news:
	case isNo:
		m.log.Error("etcd does not continue the history we know; serving what we have and refusing to write", "reason", no.reason)
	case errors.Is(err, errCompacted):
		m.log.Info("etcd has compacted the history we need; listing everything again")
	default:
		m.log.Warn("lost etcd; serving what we have and trying again", "err", err)
	}
	return was
}

// found notes that etcd is followed.
func (m *Mirror) found() {
	var news bool
	m.tell(func() {
		news = m.cause != nil
		m.connected, m.refused, m.cause = true, nil, nil
	})
	if news {
		m.log.Info("following etcd", "revision", m.Revision())
	}
}

// heard notes that etcd has answered.
func (m *Mirror) heard() {
	m.mu.Lock()
	m.lastContact = time.Now()
	m.mu.Unlock()
}

// follow makes sure that etcd continues our history, catches up with it and stays with it until the
// connection ends. Its error is never nil.
func (m *Mirror) follow(ctx context.Context) error {
	if m.listed {
		err := m.checkHistory(ctx)
		if err != nil && !errors.Is(err, errCompacted) {
			return err
		}
		m.listed = err == nil
	}
	if !m.listed {
		if err := m.relist(ctx); err != nil {
			return err
		}
		m.listed = true
	}
	return m.watch(ctx)
}

// get asks etcd for one read and knows what its errors mean.
func (m *Mirror) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, m.pace.request)
	defer cancel()
	resp, err := m.cfg.Client.Get(ctx, key, opts...)
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return nil, errCompacted
	case errors.Is(err, rpctypes.ErrFutureRev):
		return nil, refuse("etcd has fewer revisions than we have seen")
	case err != nil:
		return nil, err
	}
	m.heard()
	return resp, nil
}

// sameHistory compares the header of a linearizable read, which speaks for the whole cluster, with our view.
func sameHistory(h *pb.ResponseHeader, v *view) error {
	if h.ClusterId != v.cluster {
		return refuse("the cluster id is %x, we know %x", h.ClusterId, v.cluster)
	}
	if h.Revision < v.revision {
		return refuse("revision %d is behind %d, which we have seen: restored from an older backup?", h.Revision, v.revision)
	}
	return nil
}

// checkHistory asks for the newest change that we know. If the answer is the same, then so is all before it.
func (m *Mirror) checkHistory(ctx context.Context) error {
	v := m.view.Load()
	resp, err := m.get(ctx, m.cfg.Prefix)
	if err != nil {
		return err
	}
	if err := sameHistory(resp.Header, v); err != nil {
		return err
	}
	a := m.anchor
	if a.key == "" {
		return nil
	}
	at, err := m.get(ctx, a.key, clientv3.WithRev(a.revision), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	same := len(at.Kvs) == 1 && at.Kvs[0].ModRevision == a.revision
	if a.deleted {
		before, err := m.get(ctx, a.key, clientv3.WithRev(a.revision-1), clientv3.WithKeysOnly())
		if err != nil {
			return err
		}
		same = len(at.Kvs) == 0 && len(before.Kvs) == 1
	}
	if !same {
		return refuse("the change we know at revision %d is not in etcd", a.revision)
	}
	return nil
}

// relist reads the prefix at one revision, compares it with what we know and applies the differences as one
// step: first what has gone, in key order, then what is new or changed, in the order of its revisions.
func (m *Mirror) relist(ctx context.Context) error {
	old := m.view.Load()
	if old == nil {
		old = &view{records: newTree()}
	}
	next := newTree()
	end := clientv3.GetPrefixRangeEnd(m.cfg.Prefix)
	var cluster uint64
	var revision int64
	for from := m.cfg.Prefix; ; {
		resp, err := m.get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
		if err != nil {
			return err
		}
		if revision == 0 {
			cluster, revision = resp.Header.ClusterId, resp.Header.Revision
			if old.cluster != 0 {
				if err := sameHistory(resp.Header, old); err != nil {
					return err
				}
			}
		}
		if resp.Header.ClusterId != cluster {
			return errors.New("the cluster changed during a listing")
		}
		for _, kv := range resp.Kvs {
			next.ReplaceOrInsert(record(kv))
		}
		if !resp.More {
			break
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}

	changes, newest, err := compare(old, next, revision)
	if err != nil {
		return err
	}
	m.anchor = newest
	m.deliver.Lock()
	m.edit = next
	m.publish(cluster, revision, changes)
	m.deliver.Unlock()
	poke(m.dirty)
	return nil
}

// compare returns what makes next, listed at revision, out of old, and next's newest change. A listed record
// that is not newer than old must be in old as it is; if it is not, next belongs to another history.
func compare(old *view, next *tree, revision int64) (changes []Change, newest anchor, err error) {
	old.records.Ascend(func(r *Record) bool {
		if !next.Has(r) {
			changes = append(changes, Change{Key: r.Key, Old: r, Revision: revision})
		}
		return true
	})
	gone := len(changes)
	next.Ascend(func(r *Record) bool {
		if r.ModRevision > newest.revision {
			newest = anchor{key: r.Key, revision: r.ModRevision}
		}
		was, _ := old.records.Get(r)
		switch {
		case old.cluster == 0 || r.ModRevision > old.revision:
			changes = append(changes, Change{Key: r.Key, Old: was, New: r, Revision: revision})
		case was == nil || was.ModRevision != r.ModRevision || !bytes.Equal(was.Value, r.Value):
			err = refuse("etcd has a record of revision %d that we know to be otherwise", r.ModRevision)
		}
		return err == nil
	})
	slices.SortStableFunc(changes[gone:], func(a, b Change) int {
		return cmp.Compare(a.New.ModRevision, b.New.ModRevision)
	})
	return changes, newest, err
}

// watch applies etcd's changes from our revision on, until the stream ends or falls silent.
func (m *Mirror) watch(ctx context.Context) error {
	// A member that is cut off from its cluster must end the watch instead of being silent.
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	defer cancel(nil)
	stream, err := pb.NewWatchClient(m.cfg.Client.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return err
	}
	// The first revision wanted is one that we have: etcd answers questions about progress only when it has
	// reached the first revision of a watch, and on a quiet etcd the next one may never come.
	known := m.view.Load().revision
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key:           []byte(m.cfg.Prefix),
		RangeEnd:      []byte(clientv3.GetPrefixRangeEnd(m.cfg.Prefix)),
		StartRevision: known,
	}}})
	if err != nil {
		return err
	}

	alive := make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() { m.probe(ctx, cancel, stream, alive) })

	for {
		resp, err := stream.Recv()
		if err != nil {
			if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
				return why
			}
			return err
		}
		poke(alive)
		m.heard()
		switch {
		case resp.Header.ClusterId != m.view.Load().cluster:
			return errors.New("the cluster changed during a watch")
		case resp.CompactRevision > 0:
			return errCompacted
		case resp.Canceled:
			return fmt.Errorf("watch: %s", resp.CancelReason)
		case resp.Created:
			if resp.Header.Revision < known {
				// A member that lags, or one of another history: the next attempt tells which.
				return fmt.Errorf("watch: the member is at revision %d, behind %d", resp.Header.Revision, known)
			}
			m.found()
		case len(resp.Events) > 0:
			m.apply(resp.Events)
		default:
			// Progress: all changes up to this revision have been sent.
			if v := m.view.Load(); resp.Header.Revision > v.revision {
				m.deliver.Lock()
				m.publish(v.cluster, resp.Header.Revision, nil)
				m.deliver.Unlock()
			}
		}
	}
}

// probe asks etcd for its progress when somebody waits for it and when the watch has been silent, and ends a
// watch that does not answer.
func (m *Mirror) probe(ctx context.Context, cancel context.CancelCauseFunc, stream pb.Watch_WatchClient, alive <-chan struct{}) {
	tick := time.NewTicker(m.pace.probe)
	defer tick.Stop()
	for silent := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-alive:
			silent = 0
			continue
		case <-m.nudge:
		case <-tick.C:
			if silent++; silent > 3 {
				cancel(errors.New("watch: etcd is silent"))
				return
			}
		}
		ask := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
		if err := stream.Send(ask); err != nil {
			return // Recv sees the stream's end as well, and says why
		}
	}
}

// apply takes over events, one revision at a time. etcd sends all events of a revision together.
func (m *Mirror) apply(events []*mvccpb.Event) {
	v := m.view.Load()
	revision := v.revision
	for len(events) > 0 {
		at := events[0].Kv.ModRevision
		n := 1
		for n < len(events) && events[n].Kv.ModRevision == at {
			n++
		}
		step := events[:n]
		events = events[n:]
		if at <= revision {
			continue // the one that we have asked for although we know it
		}
		revision = at

		m.deliver.Lock()
		var changes []Change
		for _, e := range step {
			c := Change{Key: string(e.Kv.Key), Revision: at}
			if e.Type == mvccpb.Event_DELETE {
				c.Old, _ = m.edit.Delete(&Record{Key: c.Key})
			} else {
				c.New = record(e.Kv)
				c.Old, _ = m.edit.ReplaceOrInsert(c.New)
			}
			m.anchor = anchor{key: c.Key, revision: at, deleted: c.New == nil}
			changes = append(changes, c)
		}
		m.publish(v.cluster, at, changes)
		m.deliver.Unlock()
		poke(m.dirty)
	}
}

func record(kv *mvccpb.KeyValue) *Record {
	return &Record{
		Key:            string(kv.Key),
		Value:          kv.Value,
		CreateRevision: kv.CreateRevision,
		ModRevision:    kv.ModRevision,
		Leased:         kv.Lease != 0,
	}
}
