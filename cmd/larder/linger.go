package main

import (
	"context"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/larder-cache/larder/internal/records"
)

// Nodes that restart, one after another or all at once, as an orchestrator has them, must not take the only replicas with them:
// a replica that restarts begins without data. So a node that is to wait serves on until the others can do without it.
//
//	N1: of the nodes that wait, only one at a time goes: it holds a lock in etcd, which outlives its process by its lease
//	N2: who has the lock goes only when it has seen all that happened before it got it

const (
	leavingKey  = records.Root + "leaving"
	leavingTTL  = 10 // seconds until the next may go, once this process has ended
	lingerEvery = 200 * time.Millisecond
)

// linger serves on until this node can be missed, or it has waited for as long as it may.
func (n *node) linger() {
	if n.settings.drainWait == 0 || n.peers == nil || len(n.place.Hosted()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.settings.drainWait)
	defer cancel()
	n.log.Info("waiting until the other nodes can do without this one", "at most", n.settings.drainWait)
	seen, err := n.turn(ctx)
	if err != nil {
		n.log.Warn("it is not sure that no other node goes at the same time", "error", err)
	}
	tick := time.NewTicker(lingerEvery)
	defer tick.Stop()
	for {
		missed := 0
		for _, p := range n.place.Hosted() {
			if !n.place.Spares(p) {
				missed++
			}
		}
		if missed == 0 && n.mirror.Revision() >= seen {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			n.log.Warn("this node goes although partitions lose their quorum with it", "partitions", missed)
			return
		}
	}
}

// turn waits until no other node is about to go (N1), and returns the revision from which that holds. The lock is given up by
// nobody: it ends when this process has.
func (n *node) turn(ctx context.Context) (revision int64, err error) {
	session, err := concurrency.NewSession(n.etcd, concurrency.WithTTL(leavingTTL))
	if err != nil {
		return 0, err
	}
	n.later(session.Orphan)
	lock := concurrency.NewMutex(session, leavingKey)
	if err := lock.Lock(ctx); err != nil {
		return 0, err
	}
	return lock.Header().Revision, nil
}
