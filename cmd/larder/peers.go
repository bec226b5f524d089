package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/peerlink"
	"github.com/larder-cache/larder/internal/tlsfile"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication/hop"
)

// peers are this node's dealings with other nodes.
type peers struct {
	links *peerlink.Links
	hop   *hop.Hop
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

// join links this node with the others of its cluster. Without a port for them, all that it serves is in this process.
func (n *node) join(listener net.Listener, at string) error {
	if listener == nil {
		n.gateway.Hub().OnObserve(n.observe)
		n.host.Listen(n.gateway.Hub())
		return nil
	}
	config, err := n.peerTLS()
	if err != nil {
		return err
	}
	self := n.place.Self()
	p := &peers{links: peerlink.New(peerlink.Config{
		Cluster: n.place.Cluster.ID, Self: self.Name, Incarnation: self.Incarnation, Advertise: at, TLS: config, Log: n.log,
		Address: func(node string) string {
			if record, ok := n.place.Node(node); ok {
				return record.Peer
			}
			return ""
		},
	})}
	n.later(p.links.Close)
	hub := n.gateway.Hub()
	p.hop = hop.New(hop.Config{
		Self: self.Name, Links: p.links, Place: n.place, Locals: n.local, Hosted: n.hosted, Listener: hub,
		Interests: func(fn func(engine.CacheID, byte, string, int)) {
			hub.Interests(func(id engine.CacheID, kind gateway.ChannelKind, name string, listeners int) {
				fn(id, byte(kind), name, listeners)
			})
		},
		Revision: n.mirror.Revision, Await: n.await, Log: n.log,
	})
	n.later(p.hop.Close)
	hub.OnInterest(func(id engine.CacheID, kind gateway.ChannelKind, name string, listeners int) {
		p.hop.Interest(id, byte(kind), name, listeners)
	})
	hub.OnObserve(p.hop.Observe)
	n.host.Listen(p.hop.Listener())
	n.peers = p
	n.accept(listener, p.links.Serve)
	n.loop(p.hop.Run)
	return nil
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
	if local := n.host.Local(id); local != nil {
		return local
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
