package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	maxKey   = 1 << 10
	maxValue = 1 << 20 // etcd takes requests of at most 1.5 MiB
	maxOps   = 128     // etcd's bound for one transaction
)

// Every write returns the revision at which etcd stored it. It returns once the mirror has seen that revision
// (M3), and takes at most 5 s, or less if ctx ends before. A revision that comes with an error says that the
// write is stored but the mirror has not seen it yet; revision 0 comes with every other error.

// Create stores value under a key that must not exist; otherwise ErrConflict.
func (m *Mirror) Create(ctx context.Context, key string, value []byte) (int64, error) {
	return m.set(ctx, "create", key, value, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
}

// Update replaces the value of a record whose ModRevision must still be modRevision; otherwise ErrConflict.
func (m *Mirror) Update(ctx context.Context, key string, value []byte, modRevision int64) (int64, error) {
	if modRevision <= 0 {
		return 0, fmt.Errorf("mirror: update: modRevision is %d, want at least 1", modRevision)
	}
	return m.set(ctx, "update", key, value, clientv3.Compare(clientv3.ModRevision(key), "=", modRevision))
}

// Put stores value whether or not the key exists.
func (m *Mirror) Put(ctx context.Context, key string, value []byte) (int64, error) {
	return m.set(ctx, "put", key, value)
}

// Delete removes key. With a modRevision other than 0 the record must still be at it, or it is ErrConflict;
// with 0 it is no error if there is no such key.
func (m *Mirror) Delete(ctx context.Context, key string, modRevision int64) (int64, error) {
	if modRevision < 0 {
		return 0, fmt.Errorf("mirror: delete: modRevision is %d, want at least 0", modRevision)
	}
	var is []clientv3.Cmp
	if modRevision > 0 {
		is = append(is, clientv3.Compare(clientv3.ModRevision(key), "=", modRevision))
	}
	return m.commit(ctx, "delete", is, []clientv3.Op{clientv3.OpDelete(key)})
}

// Txn does all of then, at one revision, if all comparisons hold; otherwise nothing, and ErrConflict. then
// holds 1 to 128 puts and deletes of different keys below the prefix.
func (m *Mirror) Txn(ctx context.Context, is []clientv3.Cmp, then []clientv3.Op) (int64, error) {
	return m.commit(ctx, "transaction", is, then)
}

// Sync returns when the mirror has seen all that was in etcd when Sync was called.
func (m *Mirror) Sync(ctx context.Context) error {
	if err := m.writable(); err != nil {
		return fmt.Errorf("mirror: sync: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, m.pace.request)
	defer cancel()
	resp, err := m.cfg.Client.Get(ctx, m.cfg.Prefix)
	if err != nil {
		return fmt.Errorf("mirror: sync: %w: %w", ErrUnavailable, err)
	}
	if err := m.waitFor(ctx, resp.Header.Revision, true); err != nil {
		return fmt.Errorf("mirror: sync: %w", err)
	}
	return nil
}

func (m *Mirror) set(ctx context.Context, verb, key string, value []byte, is ...clientv3.Cmp) (int64, error) {
	return m.commit(ctx, verb, is, []clientv3.Op{clientv3.OpPut(key, string(value))})
}

// commit checks the operations, sends them and waits until the mirror has seen the outcome.
func (m *Mirror) commit(ctx context.Context, verb string, is []clientv3.Cmp, then []clientv3.Op) (int64, error) {
	if err := m.check(is, then); err != nil {
		return 0, fmt.Errorf("mirror: %s: %w", verb, err)
	}
	if err := m.writable(); err != nil {
		return 0, fmt.Errorf("mirror: %s: %w", verb, err)
	}
	ctx, cancel := context.WithTimeout(ctx, m.pace.request)
	defer cancel()
	resp, err := m.cfg.Client.Txn(ctx).If(is...).Then(then...).Commit()
	if err != nil {
		return 0, fmt.Errorf("mirror: %s: %w", verb, classify(err))
	}
	rev := resp.Header.Revision
	if resp.Header.ClusterId != m.view.Load().cluster {
		return 0, fmt.Errorf("mirror: %s: %w: %w: another cluster answered", verb, ErrUnavailable, ErrUncertain)
	}
	if !resp.Succeeded {
		_ = m.waitFor(ctx, rev, true) // so that the caller sees what was in the way; in vain if ctx ends
		return 0, fmt.Errorf("mirror: %s: %w", verb, ErrConflict)
	}
	// A revision that changed nothing brings no event, so etcd must be asked how far the mirror is.
	changed := false
	for _, r := range resp.Responses {
		changed = changed || r.GetResponsePut() != nil || r.GetResponseDeleteRange().GetDeleted() > 0
	}
	if err := m.waitFor(ctx, rev, !changed); err != nil {
		// ErrUnavailable alone would say that nothing was changed.
		return rev, fmt.Errorf("mirror: %s: stored at revision %d, but not seen yet: %w: %w: %w", verb, rev, ErrUnavailable, ErrUncertain, err)
	}
	return rev, nil
}

// check refuses what etcd would refuse, and whatever lies outside of the prefix.
func (m *Mirror) check(is []clientv3.Cmp, then []clientv3.Op) error {
	if len(then) == 0 || len(then) > maxOps || len(is) > maxOps {
		return fmt.Errorf("%d comparisons and %d operations, want at most %d and 1 to %d", len(is), len(then), maxOps, maxOps)
	}
	for _, op := range then {
		key := string(op.KeyBytes())
		switch {
		case !op.IsPut() && !op.IsDelete() || len(op.RangeBytes()) > 0:
			return errors.New("an operation is neither the put nor the delete of one key")
		case !strings.HasPrefix(key, m.cfg.Prefix):
			return fmt.Errorf("key does not begin with %q", m.cfg.Prefix)
		case len(key) > maxKey:
			return fmt.Errorf("key has %d bytes, at most %d are allowed", len(key), maxKey)
		case len(op.ValueBytes()) > maxValue:
			return fmt.Errorf("value has %d bytes, at most %d are allowed", len(op.ValueBytes()), maxValue)
		}
	}
	return nil
}

// writable says why nothing can be written now. A write that the mirror could not see would break M3, one to
// another history M2; and failing at once tells the caller for certain that nothing was changed.
func (m *Mirror) writable() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return fmt.Errorf("%w: the mirror is closed", ErrUnavailable)
	case !m.connected: // which includes a refused history
		return fmt.Errorf("%w: %w", ErrUnavailable, m.cause)
	}
	return nil
}

// classify adds the sentinel that an error of a sent write deserves.
func classify(err error) error {
	code := status.Code(err)
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		code = e.Code()
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrUncertain, err)
	case code == codes.ResourceExhausted: // no space, or too many requests: refused before it was proposed
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case code == codes.InvalidArgument, code == codes.NotFound, code == codes.FailedPrecondition,
		code == codes.PermissionDenied, code == codes.Unauthenticated, code == codes.OutOfRange:
		return err
	default:
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrUncertain, err)
	}
}

// waitFor waits until readers and watchers have seen revision. ask says that no change leads there, so etcd
// has to be asked for its progress; an answer may be lost to a reconnection, so it is asked again and again.
func (m *Mirror) waitFor(ctx context.Context, revision int64, ask bool) error {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		m.mu.Lock()
		seen, refused, wake := m.seen, m.refused, m.wake
		m.mu.Unlock()
		if seen >= revision {
			return nil
		}
		if refused != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, refused)
		}
		if ask {
			poke(m.nudge)
			ask = false
		}
		select {
		case <-wake:
		case <-again.C:
			ask = true
		case <-m.ctx.Done():
			return fmt.Errorf("%w: the mirror is closed", ErrUnavailable)
		case <-ctx.Done():
			return fmt.Errorf("%w: the mirror has not seen it yet: %w", ErrUnavailable, ctx.Err())
		}
	}
}
