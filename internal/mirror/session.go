package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A Session holds records that exist only while this process is alive, such as the registration of a node.
// They hang on a lease that the session renews three times in its TTL. When the lease is lost all the same,
// because etcd or the network was away for longer than that, the session takes a new one and stores its
// records again.
//
//	S1: from a successful Put on, the record is in etcd under a lease of this session, or the session is
//	    trying to store it there.
type Session struct {
	m      *Mirror
	ttl    time.Duration
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	turn  chan struct{} // holds one token; whoever has it may use the rest
	lease clientv3.LeaseID
	held  map[string]*held
}

// held is one record of a session, and the lease under which etcd is known to have this value.
type held struct {
	value []byte
	under clientv3.LeaseID
}

// NewSession returns a session whose records vanish ttl, 2 s to 1 h, after this process has died. It asks
// nothing of etcd until the first Put. Closing the mirror stops the session as a crash would.
func (m *Mirror) NewSession(ttl time.Duration) (*Session, error) {
	if ttl < 2*time.Second || ttl > time.Hour {
		return nil, fmt.Errorf("mirror: session: ttl is %v, want 2s to 1h", ttl)
	}
	s := &Session{m: m, ttl: ttl, done: make(chan struct{}), turn: make(chan struct{}, 1), held: make(map[string]*held)}
	s.ctx, s.cancel = context.WithCancel(m.ctx)
	s.turn <- struct{}{}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		s.cancel()
		return nil, fmt.Errorf("mirror: session: %w: the mirror is closed", ErrUnavailable)
	}
	m.wg.Go(func() {
		defer close(s.done)
		s.keep()
	})
	return s, nil
}

// Put stores value under key for the session's life, whether or not the key exists. If it fails with
// ErrUnavailable the session keeps trying by itself; after any other error it has forgotten the key.
func (s *Session) Put(ctx context.Context, key string, value []byte) (int64, error) {
	if err := s.m.check(nil, []clientv3.Op{clientv3.OpPut(key, string(value))}); err != nil {
		return 0, fmt.Errorf("mirror: session put: %w", err)
	}
	if err := s.take(ctx); err != nil {
		return 0, fmt.Errorf("mirror: session put: %w", err)
	}
	defer s.give()
	h := &held{value: value}
	s.held[key] = h
	rev, err := s.store(ctx, key, h)
	if err != nil && !errors.Is(err, ErrUnavailable) {
		delete(s.held, key)
	}
	return rev, err
}

// Close ends the lease, and with it the session's records, at once. If etcd cannot be asked, they vanish
// when the TTL is over, and the error says why.
func (s *Session) Close(ctx context.Context) error {
	s.cancel()
	<-s.done
	select {
	case <-s.turn: // from a Put that still has it; no other gets it, because s.ctx has ended
		defer s.give()
	case <-ctx.Done():
		return fmt.Errorf("mirror: session close: %w", ctx.Err())
	}
	if s.lease == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.m.pace.request)
	defer cancel()
	if _, err := s.m.cfg.Client.Revoke(ctx, s.lease); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("mirror: session close: %w: %w", ErrUnavailable, err)
	}
	s.lease = 0
	return nil
}

func (s *Session) take(ctx context.Context) error {
	select {
	case <-s.turn:
		if s.ctx.Err() != nil {
			s.give()
			return fmt.Errorf("%w: the session is closed", ErrUnavailable)
		}
		return nil
	case <-s.ctx.Done():
		return fmt.Errorf("%w: the session is closed", ErrUnavailable)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

func (s *Session) give() { s.turn <- struct{}{} }

// store writes one record under the session's lease, which it takes first if there is none. The caller has
// the turn.
func (s *Session) store(ctx context.Context, key string, h *held) (int64, error) {
	for attempt := 0; ; attempt++ {
		if s.lease == 0 {
			if err := s.grant(ctx); err != nil {
				return 0, err
			}
		}
		put := clientv3.OpPut(key, string(h.value), clientv3.WithLease(s.lease))
		rev, err := s.m.commit(ctx, "session put", nil, []clientv3.Op{put})
		if errors.Is(err, rpctypes.ErrLeaseNotFound) && attempt == 0 {
			s.lease = 0
			continue
		}
		if rev > 0 {
			h.under = s.lease
		}
		return rev, err
	}
}

func (s *Session) grant(ctx context.Context) error {
	if err := s.m.writable(); err != nil {
		return fmt.Errorf("mirror: session: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.m.pace.request)
	defer cancel()
	resp, err := s.m.cfg.Client.Grant(ctx, int64((s.ttl+time.Second-1)/time.Second))
	if err != nil {
		return fmt.Errorf("mirror: session: lease: %w", classify(err))
	}
	s.lease = resp.ID
	return nil
}

// keep renews the lease and stores what is not stored, until the session is closed.
func (s *Session) keep() {
	tick := time.NewTicker(s.ttl / 3)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		if s.take(s.ctx) != nil {
			return
		}
		err := s.refresh()
		s.give()
		if s.ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			s.m.log.Warn("cannot keep a session; trying again", "err", err)
		} else if err == nil && failing {
			s.m.log.Info("the session is kept again")
		}
		failing = err != nil
	}
}

// refresh is one step of keep.
func (s *Session) refresh() error {
	ctx, cancel := context.WithTimeout(s.ctx, s.m.pace.request)
	defer cancel()
	if s.lease != 0 {
		switch left, err := s.renew(ctx); {
		case err != nil:
			return err
		case !left:
			s.m.log.Warn("a session lost its lease; storing its records again", "records", len(s.held))
			s.lease = 0
		}
	}
	for key, h := range s.held {
		if h.under == 0 || h.under != s.lease {
			if _, err := s.store(ctx, key, h); err != nil {
				return err
			}
		}
	}
	return nil
}

// renew reports whether the lease still lived. clientv3's KeepAliveOnce would ask an etcd that is down again
// and again without a pause, so this asks once.
func (s *Session) renew(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := pb.NewLeaseClient(s.m.cfg.Client.ActiveConnection()).LeaseKeepAlive(clientv3.WithRequireLeader(ctx))
	if err != nil {
		return false, err
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(s.lease)}); err != nil {
		return false, err
	}
	resp, err := stream.Recv()
	if err != nil {
		return false, err
	}
	return resp.TTL > 0, nil
}
