package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/peerlink"
	"github.com/larder-cache/larder/internal/tlsfile"
	"github.com/larder-cache/larder/internal/wire"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/replication/hop"
	"github.com/larder-cache/larder/tenants"
)

// neighbours are this node's dealings with other nodes.
type neighbours struct {
	links   *peerlink.Links
	cluster *replication.Cluster
	hop     *hop.Hop
}

// listenPeers opens the port for other nodes, if there is to be one, and tells where they find it.
func (n *node) listenPeers() (net.Listener, string, error) {
	s := n.settings
	if s.peerAddr == "" {
		return nil, "", nil
	}
	l, err := net.Listen("tcp", s.peerAddr)
	if err != nil {
		return nil, "", refuse("peer-addr", "%v", err)
	}
	n.later(func() { _ = l.Close() }) // the links may have closed it
	if s.peerAdvertise != "" {
		return l, s.peerAdvertise, nil
	}
	return l, l.Addr().String(), nil
}

// openPeers makes what this node needs to deal with others, if it has a port for them.
func (n *node) openPeers(listener net.Listener, at string) error {
	if listener == nil {
		return nil
	}
	config, err := n.peerTLS()
	if err != nil {
		return err
	}
	if err := n.openVault(); err != nil {
		return err
	}
	self := n.place.Self()
	p := &neighbours{links: peerlink.New(peerlink.Config{
		Cluster: n.place.Cluster.ID, Self: self.Name, Incarnation: self.Incarnation, Advertise: at, TLS: config, Log: n.log,
		Address: func(node string) string {
			if record, ok := n.place.Node(node); ok {
				return record.Peer
			}
			return ""
		},
	})}
	n.later(p.links.Close)
	p.cluster = replication.NewCluster(replication.Config{
		Node: self.Name, Boot: rand.Uint64(), Life: self.Incarnation, Kind: peerlink.KindRaft, Dice: rand.Uint64, Format: n.place.Format, Vault: n.vault, Log: n.log,
	}, replication.NewSteadyClock(), p.links)
	ctx, cancel := context.WithCancel(context.Background())
	n.later(cancel)
	p.cluster.OnLost(func(id placement.PartitionID, replica uint64) { n.renew(ctx, id, replica) })
	p.cluster.OnRevive(func(id placement.PartitionID) {
		if part, ok := n.place.Partition(id); ok {
			n.replace(part) // it has heard of no cache
		}
	})
	n.peers = p
	return nil
}

// turns is who is told when event loops bring tasks; nil in a process by itself.
func (n *node) turns() wire.Turns {
	if n.peers == nil {
		return nil
	}
	return n.peers.cluster
}

// join has this node take part in its cluster. Without a port for others, all that it serves is in this process.
func (n *node) join(listener net.Listener, client *clientv3.Client) {
	hub := n.gateway.Hub()
	if n.peers == nil {
		hub.OnObserve(n.observe)
		n.host.Listen(hub)
		return
	}
	p := n.peers
	p.hop = hop.New(hop.Config{
		Self: n.settings.name, Links: p.links, Place: n.place, Locals: n.local, Hosted: n.hosted, Listener: hub,
		Interests: func(fn func(engine.CacheID, byte, string, int)) {
			hub.Interests(func(id engine.CacheID, kind gateway.ChannelKind, name string, listeners int) {
				fn(id, byte(kind), name, listeners)
			})
		},
		Revision: n.mirror.Revision, Await: n.await, Format: n.place.Format, Log: n.log,
	})
	n.later(p.hop.Close)
	hub.OnInterest(func(id engine.CacheID, kind gateway.ChannelKind, name string, listeners int) {
		p.hop.Interest(id, byte(kind), name, listeners)
	})
	hub.OnAwait(p.hop.Settle)
	hub.OnObserve(p.hop.Observe)
	n.host.Listen(p.hop.Listener())
	n.telling.Lock()
	n.placed = p.hop.Placed
	n.telling.Unlock()
	n.place.OnPartitionChange(n.replace)
	if n.shared != nil {
		p.links.HandleStream(peerlink.KindKeys, n.shared.serve)
	}
	n.accept(listener, p.links.Serve)
	n.loop(p.hop.Run)
	if slices.Contains(n.settings.roles, "engine") {
		n.loop(n.report)
		n.loop(n.attend)
		n.loop(func(ctx context.Context) { n.place.Control(ctx, client, n.settings.replicas) })
	}
}

// replace does what a partition's new record asks of this node.
func (n *node) replace(p *placement.Partition) {
	if !n.placing.later(p) {
		n.placeHere(p)
	}
}

// reportEvery is how often leaders on this node say how their partitions are.
const reportEvery = time.Second

// report tells the controller how the partitions are that this node leads, and hands those on that another should lead.
func (n *node) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	strange := strangers{n: n, seen: map[stranger]*sighting{}}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		n.dismiss()
		strange.look(ctx, time.Now())
		sizes := n.sizes()
		for _, part := range n.place.Hosted() {
			s := placement.Status{Partition: part.ID, Generation: part.Generation, Leader: n.settings.name, Bytes: sizes[part.ID]}
			group := n.peers.cluster.Group(part.ID)
			switch {
			case group != nil && group.Leads():
				now := group.Status()
				if now.Generation != part.Generation {
					continue
				}
				s.Members = now.Voters
				n.readmit(ctx, part)
				if best := part.Replicas[0]; best.ID != now.Self && slices.Contains(now.Voters, best.ID) && n.fit(best) {
					group.Transfer(best.ID)
				}
			case group == nil && !part.Durable && len(part.Replicas) == 1:
				s.Members = []uint64{part.Replicas[0].ID}
			default:
				continue
			}
			slices.Sort(s.Members)
			if err := n.place.Report(ctx, s); err != nil && !fault.Is(err, fault.Unavailable) && ctx.Err() == nil {
				n.log.Warn("how a partition is could not be noted", "partition", part.ID, "error", err)
			}
		}
	}
}

// fit reports whether a replica can be handed a partition to lead: its process is there, and does not stop.
func (n *node) fit(r placement.Replica) bool {
	at, there := n.place.Node(r.Node)
	return there && at.Incarnation == r.Life && !at.Stopping && n.ready.Load()
}

// dismiss ends replicas here that others have replaced, and that did not hear of it from their groups: nobody speaks to them
// any more.
func (n *node) dismiss() {
	for _, g := range n.peers.cluster.Groups() {
		s := g.Status()
		if id := placement.PartitionID(s.Partition); n.place.Dismissed(id, s.Generation, s.Self) {
			n.log.Info("a replica is no member of its group any more", "partition", id, "replica", s.Self)
			n.peers.cluster.Dismiss(id)
		}
	}
	for _, k := range n.vault.Idle(n.peers.cluster) {
		part, ok := n.place.Partition(k.Partition)
		if !ok || n.placing.busy(k.Partition) {
			continue
		}
		switch { // what is left of an async one may be what the next generation begins with
		case k.Trail && !n.place.Dismissed(k.Partition, part.Generation, k.Replica):
			continue
		case !k.Trail && part.Generation <= k.Generation && !n.place.Dismissed(k.Partition, k.Generation, k.Replica):
			continue
		}
		n.log.Info("a replica that was on disk is no member of its group any more", "partition", k.Partition, "replica", k.Replica)
		if err := n.peers.cluster.Forget(k); err != nil {
			n.log.Error("a durable replica that is not needed any more cannot be removed from disk", "partition", k.Partition, "error", err)
		}
	}
}

// sizes adds up the bytes of the caches in each partition that is led here.
func (n *node) sizes() map[placement.PartitionID]int64 {
	sum := map[placement.PartitionID]int64{}
	n.known.Range(func(_, c any) bool {
		cache := c.(*tenants.Cache)
		for _, p := range cache.Partitions() {
			if at := n.local(p); at != nil {
				if s, ok := at.Stats(cache.ID); ok {
					sum[p] += s.Bytes
				}
			}
		}
		return true
	})
	return sum
}

// resignTime is how long a node that stops waits for others to lead what it leads.
const resignTime = 2 * time.Second

// resign has others lead the partitions that are led here, as far as there are others, and has them keep it so.
func (n *node) resign() {
	if n.peers == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), resignTime)
	defer cancel()
	if err := n.place.Stop(ctx); err != nil {
		n.log.Warn("the others do not know that this node stops", "error", err)
	}
	n.peers.cluster.Resign()
	leads := func() bool { return slices.ContainsFunc(n.peers.cluster.Groups(), (*replication.Group).Leads) }
	for leads() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// peerTLS is how this node proves to others who it is, nil when nothing proves it and only this machine is spoken to.
func (n *node) peerTLS() (*tls.Config, error) {
	s := n.settings
	if s.peerCert == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(s.peerCA)
	if err != nil {
		return nil, refuse("peer-ca", "%v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, refuse("peer-ca", "%s holds no certificate", s.peerCA)
	}
	source, err := tlsfile.Open(s.peerCert, s.peerKey, n.log)
	if err != nil {
		return nil, refuse("peer-cert", "%v", err)
	}
	current, err := source.Config(tls.VersionTLS13).GetCertificate(nil)
	if err == nil {
		err = current.Leaf.VerifyHostname(s.name)
	}
	if err != nil {
		return nil, errors.Join(refuse("peer-cert", "%s is not for the node %q: %v", s.peerCert, s.name, err))
	}
	n.loop(source.Run)
	config := source.Config(tls.VersionTLS13)
	config.RootCAs, config.ClientCAs = pool, pool
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return config.GetCertificate(nil) }
	return config, nil
}

// local finds a partition in this process, nil for none.
func (n *node) local(id placement.PartitionID) hop.Executor {
	if r := n.host.Replica(id); r != nil {
		return r
	}
	return nil
}

// hosted lists the partitions in this process.
func (n *node) hosted() (all []hop.Executor) {
	for _, p := range n.place.Hosted() {
		if local := n.local(p.ID); local != nil {
			all = append(all, local)
		}
	}
	return all
}

// Bounds of waiting for control data that another node has seen already.
const (
	awaitTime    = 2 * time.Second        // for etcd's word
	awaitTelling = 100 * time.Millisecond // for the partitions, when it is here
	awaitStep    = time.Millisecond
)

// await waits until the partitions here know a cache that another node knew at a revision of the control data.
func (n *node) await(ctx context.Context, cache engine.CacheID, revision int64) {
	now := time.Now()
	end, telling := now.Add(awaitTime), time.Time{}
	for ; now.Before(end); now = time.Now() {
		if _, known := n.known.Load(cache); known {
			return
		}
		if n.mirror.Revision() >= revision && telling.IsZero() {
			telling = now
			end = now.Add(awaitTelling)
		}
		select {
		case <-time.After(awaitStep):
		case <-ctx.Done():
			return
		}
	}
}
