package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/httpapi"
	"github.com/larder-cache/larder/internal/deadline"
	"github.com/larder-cache/larder/internal/etcdembed"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/internal/tlsfile"
	"github.com/larder-cache/larder/memcacheapi"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/redisapi"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/snapshots"
	"github.com/larder-cache/larder/tenants"
	"github.com/larder-cache/larder/transfer"
)

// A node is one process of a cluster with all of its parts. What start opens, close closes in reverse.
type node struct {
	settings    settings
	log         *slog.Logger
	url         string // where its HTTP API is, once it listens
	redisAt     string // host:port of the Redis protocol, "" for none
	redis       *redisapi.Server
	memcacheAt  string // host:port of the memcached protocols, "" for none
	memcache    *memcacheapi.Server
	identity    *auth.Authenticator
	place       *placement.Map
	accounts    *tenants.Store
	credentials *auth.Store
	answers     *httpapi.Answers
	keys        *seal.Keyset // of this node: what it leaves to its next process
	kms         seal.KMS     // wraps the keys of tenants
	shared      *sharedKeys  // kms, where it is a keyset; nil where a service has the master key
	snapshots   *snapshots.Service
	meters      *tenants.Meters
	host        *replication.Host
	keeper      *replication.Keeper // nil in a cluster of several
	vault       *replication.Vault  // of durable partitions; nil but there
	mirror      *mirror.Mirror
	etcd        *clientv3.Client
	peers       *neighbours // nil in a cluster of one process
	tls         *tls.Config // nil without TLS
	socketTLS   *tls.Config // of the Redis and memcached protocols; nil without TLS
	gateway     *gateway.Gateway
	ready       atomic.Bool
	known       sync.Map // of engine.CacheID: caches that the partitions here have been told of
	placing     placings
	telling     sync.Mutex // partitions are told of caches, or caches of partitions
	placed      func()     // is told, under telling, that a replica has come; nil before anybody wants to know
	parting     func()     // called between draining and closing; nil for nothing to do
	closers     []func()
}

// headroom is by how much a server's heap may grow between collections at least, in bytes.
const headroom = 128 << 20

// run starts a node, calls ready once it serves, and drains it when ctx ends. It returns when all is closed.
func run(ctx context.Context, s settings, log *slog.Logger, ready func(context.Context, *node) error) (err error) {
	n := &node{settings: s, log: log}
	defer n.close()
	server, listener, err := n.start(ctx)
	if ctx.Err() != nil {
		return nil // told to stop before it served
	}
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	n.ready.Store(true)
	if ready != nil {
		if err := ready(ctx, n); err != nil && ctx.Err() == nil {
			return errors.Join(err, server.Close())
		}
	}
	log.Info("larder serves", "url", n.url, "redis", n.redisAt, "memcached", n.memcacheAt, "node", s.name, "zone", s.zone, "version", version)
	select {
	case err := <-served:
		return fmt.Errorf("the HTTP server stopped: %w", err)
	case <-ctx.Done():
	}
	if errors.Is(context.Cause(ctx), errKilled) {
		return n.cut(server)
	}
	err = n.drain(server)
	if n.parting != nil {
		n.parting()
	}
	return err
}

// cut ends serving as if the process were killed: nobody is told, and what is under way fails.
func (n *node) cut(server *http.Server) error {
	if n.peers != nil {
		n.peers.links.Close()
	}
	return server.Close()
}

// drain stops serving without failing a request: first load balancers are told, then what is under way ends.
func (n *node) drain(server *http.Server) error {
	n.linger()
	n.ready.Store(false)
	n.withdraw()
	n.log.Info("draining", "delay", n.settings.drainDelay, "timeout", n.settings.drainTimeout)
	n.resign()
	time.Sleep(n.settings.drainDelay)
	ctx, cancel := context.WithTimeout(context.Background(), n.settings.drainTimeout)
	defer cancel()
	if n.redis != nil {
		if err := n.redis.Shutdown(ctx); err != nil {
			n.log.Warn("Redis connections were cut off", "error", err)
		}
	}
	if n.memcache != nil {
		if err := n.memcache.Shutdown(ctx); err != nil {
			n.log.Warn("memcached connections were cut off", "error", err)
		}
	}
	if err := server.Shutdown(ctx); err != nil {
		n.log.Warn("requests were cut off", "error", err)
		return server.Close()
	}
	if n.peers != nil {
		last, cancel := context.WithTimeout(ctx, leaveTime)
		defer cancel()
		n.peers.hop.Leave(last)
	}
	return nil
}

// leaveTime is how long a node that ends waits for what other nodes have asked it for.
const leaveTime = 2 * time.Second

// later registers what close has to do.
func (n *node) later(fn func()) { n.closers = append(n.closers, fn) }

func (n *node) close() {
	for _, fn := range slices.Backward(n.closers) {
		fn()
	}
}

// loop runs fn in the background until close; fn ends with its context.
func (n *node) loop(fn func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(ctx)
	}()
	n.later(func() { cancel(); <-done })
}

// start opens the parts from the bottom up and returns a server that is about to serve.
func (n *node) start(ctx context.Context) (*http.Server, net.Listener, error) {
	s := n.settings
	if err := os.MkdirAll(s.dataDir, 0o700); err != nil {
		return nil, nil, err
	}
	if err := n.lock(); err != nil {
		return nil, nil, err
	}
	client, err := n.openEtcd(ctx)
	if err != nil {
		return nil, nil, err
	}
	n.etcd = client
	m, err := mirror.Open(ctx, mirror.Config{Client: client, Prefix: records.Root, Path: filepath.Join(s.dataDir, "control.copy"), Logger: n.log})
	if err != nil {
		return nil, nil, fmt.Errorf("reading the control data: %w", err)
	}
	n.later(func() {
		if err := m.Close(); err != nil {
			n.log.Warn("the local copy of the control data is not up to date", "error", err)
		}
	})
	listener, err := n.listen()
	if err != nil {
		return nil, nil, err
	}
	n.later(func() { _ = listener.Close() }) // closed already when the server has been shut down

	n.mirror = m
	peerListener, peerAt, err := n.listenPeers()
	if err != nil {
		return nil, nil, err
	}
	self := placement.Node{Name: s.name, Zone: s.zone, Roles: s.roles, Version: version, Format: replication.Format, HTTP: n.url, Peer: peerAt}
	keeps, _, err := replication.KeptReplicas(filepath.Join(s.dataDir, vaultDir))
	if err != nil {
		return nil, nil, err
	}
	if n.place, err = placement.Open(ctx, m, placement.Config{Self: self, Partitions: s.partitions, Hosts: slices.Contains(s.roles, "engine"), Keeps: keeps}, n.log); err != nil {
		return nil, nil, err
	}
	n.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := n.place.Close(ctx); err != nil {
			n.log.Warn("this node's record stays in etcd until its lease ends", "error", err)
		}
	})
	n.loop(n.place.Settle)
	n.accounts = tenants.Open(m, n.place, n.log)
	if n.credentials, err = auth.Open(auth.Config{
		Mirror: m, Tenants: n.accounts, Now: time.Now, Log: n.log, Issuer: "larder:" + n.place.Cluster.ID, Audience: "larder",
	}); err != nil {
		return nil, nil, err
	}
	if err := n.found(ctx); err != nil {
		return nil, nil, err
	}
	authenticator, err := auth.NewAuthenticator(n.credentials)
	if err != nil {
		return nil, nil, err
	}
	n.identity = authenticator
	n.answers = httpapi.OpenAnswers(m, time.Now, n.log)
	if err := n.openKeys(ctx, m); err != nil {
		return nil, nil, err
	}
	if err := n.openPeers(peerListener, peerAt); err != nil {
		return nil, nil, err
	}
	if err := n.startEngine(ctx); err != nil {
		return nil, nil, err
	}
	n.meters = tenants.OpenMeters(m, s.name, n.log)
	n.accounts.OnCacheChange(func(old, new *tenants.Cache) {
		if old != nil && (new == nil || new.ID != old.ID) {
			n.meters.Forget(old.ID)
		}
	})
	n.gateway = gateway.New(n.accounts, n.meters, n.executor, s.region, time.Now)

	n.join(peerListener, client)
	n.openMovement()
	if err := n.serveRedis(authenticator); err != nil {
		return nil, nil, err
	}
	if err := n.serveMemcache(); err != nil {
		return nil, nil, err
	}

	if err := n.openSnapshots(ctx, m); err != nil {
		return nil, nil, err
	}
	stores, err := transfer.OpenStores(s.importFrom)
	if err != nil {
		return nil, nil, refuse("import-from", "%v", err)
	}
	n.later(func() { _ = stores.Close() }) // they were read
	n.loop(n.host.Run)
	if n.keeper != nil {
		n.loop(n.keeper.Run)
	}
	if n.vault != nil {
		n.loop(func(ctx context.Context) { n.vault.Run(ctx, n.peers.cluster) })
	}
	n.loop(n.meters.Run)
	n.loop(n.housekeep)

	api := httpapi.New(httpapi.Config{
		Gateway: n.gateway, Accounts: n.accounts, Meters: n.meters, Credentials: n.credentials, Answers: n.answers, Place: n.place, Snapshots: n.snapshots, RotateMaster: n.rotateMaster,
		Identity:    authenticator,
		Stats:       n.stats,
		Durability:  n.durability,
		Endpoint:    n.endpointProblem,
		Metrics:     n.metrics,
		OpenMetrics: s.openMetrics, Ready: n.readiness, Trusted: s.trusted, Version: version, Stores: stores, Scratch: s.dataDir, Log: n.log,
	})
	if n.tls == nil {
		listener = api.Front(listener)
	}
	return api.Server(), listener, nil
}

// housekeep sweeps what has expired from the credentials and from what management remembers, until ctx ends, and
// then notes once more which keys were used.
func (n *node) housekeep(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := n.credentials.Sweep(ctx); err != nil && ctx.Err() == nil {
				n.log.Warn("housekeeping of credentials failed; it will be tried again", "error", err)
			}
			if err := n.answers.Sweep(ctx); err != nil && ctx.Err() == nil {
				n.log.Warn("housekeeping of idempotency keys failed; it will be tried again", "error", err)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if err := n.credentials.FlushUse(last); err != nil {
				n.log.Warn("when keys were last used was not written", "error", err)
			}
			return
		}
	}
}

// lock makes sure that no other process uses the data directory.
func (n *node) lock() error {
	f, err := lockDir(n.settings.dataDir)
	if err != nil {
		return err
	}
	n.later(func() { _ = f.Close() }) // and with it the lock
	n.withdraw()                      // what a process left that was killed
	n.later(n.withdraw)
	return nil
}

// lockDir locks a data directory until the file is closed, or fails when another process has it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("data-dir: another larder uses %s", dir), f.Close())
	}
	return f, nil
}

func (n *node) withdraw() { withdraw(n.settings.dataDir, n.log) }

// withdraw removes what tells programs that a development server serves here. Only who holds the lock may.
func withdraw(dir string, log *slog.Logger) {
	if err := os.Remove(filepath.Join(dir, devFileName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("a file is out of date and cannot be removed", "error", err)
	}
}

// openEtcd starts the embedded etcd or finds the one outside.
func (n *node) openEtcd(ctx context.Context) (*clientv3.Client, error) {
	s := n.settings
	endpoints, config := s.etcd, (*tls.Config)(nil)
	if slices.Equal(s.etcd, []string{"embedded"}) {
		server, err := etcdembed.Start(ctx, etcdembed.Config{Dir: filepath.Join(s.dataDir, "etcd"), Logger: n.log})
		if err != nil {
			return nil, fmt.Errorf("starting the embedded etcd: %w", err)
		}
		n.later(server.Close)
		endpoints = server.Endpoints()
	} else if s.etcdCA != "" || s.etcdCert != "" || slices.ContainsFunc(s.etcd, func(e string) bool { return strings.HasPrefix(e, "https://") }) {
		var err error
		if config, err = etcdTLS(s); err != nil {
			return nil, err
		}
	}
	client, err := etcdembed.NewClient(endpoints, config)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	n.later(func() { _ = client.Close() }) // says no more than that it was cancelled
	return client, nil
}

func etcdTLS(s settings) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.etcdCA != "" {
		pem, err := os.ReadFile(s.etcdCA)
		if err != nil {
			return nil, refuse("etcd-ca", "%v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, refuse("etcd-ca", "%s holds no certificate", s.etcdCA)
		}
	}
	if s.etcdCert != "" {
		pair, err := tls.LoadX509KeyPair(s.etcdCert, s.etcdKey)
		if err != nil {
			return nil, refuse("etcd-cert", "%v", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// listen opens the HTTP port, under TLS if there is a certificate.
func (n *node) listen() (net.Listener, error) {
	s := n.settings
	listener, err := n.listenOn("http-addr", s.httpAddr, s.httpAny)
	if err != nil {
		return nil, err
	}
	listener = deadline.Listener{Listener: listener}
	scheme := "http"
	if s.tlsCert != "" {
		source, err := tlsfile.Open(s.tlsCert, s.tlsKey, n.log)
		if err != nil {
			return nil, errors.Join(refuse("tls-cert", "%v", err), listener.Close())
		}
		n.loop(source.Run)
		lowest := uint16(tls.VersionTLS13)
		if s.tlsMin == "1.2" {
			lowest = tls.VersionTLS12
		}
		n.tls = source.Config(lowest)
		listener, scheme = tls.NewListener(listener, n.tls), "https"
	}
	if err := n.openClients(); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	n.url = scheme + "://" + reachable(listener.Addr())
	return listener, nil
}

// listenOn opens the port that a setting names, or any free one where another program has it and that will do.
func (n *node) listenOn(setting, addr string, any bool) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil && any && errors.Is(err, syscall.EADDRINUSE) {
		n.log.Warn("another program has the port; a free one is used", setting, addr)
		host, _, _ := net.SplitHostPort(addr) // it was checked
		listener, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, refuse(setting, "%v", err)
	}
	return listener, nil
}

// openClients prepares TLS for the socket protocols, over which clients may log in by certificate.
func (n *node) openClients() error {
	if n.tls == nil {
		return nil
	}
	n.socketTLS = n.tls.Clone()
	n.socketTLS.NextProtos = nil // HTTP's
	if n.settings.clientCA == "" {
		return nil
	}
	clients, err := tlsfile.OpenClients(n.settings.clientCA, n.socketTLS, n.log)
	if err != nil {
		return refuse("client-ca", "%v", err)
	}
	n.loop(clients.Run)
	n.socketTLS = clients.Config()
	return nil
}

// serveRedis opens the port of the Redis protocol, if there is to be one.
func (n *node) serveRedis(identity redisapi.Identity) error {
	s := n.settings
	if s.redisAddr == "" {
		return nil
	}
	listener, err := n.listenOn("redis-addr", s.redisAddr, s.redisAny)
	if err != nil {
		return err
	}
	n.redisAt = reachable(listener.Addr())
	source := n.openReplicas() // which outlives its connections
	n.redis = redisapi.New(redisapi.Config{
		Gateway: n.gateway, Identity: identity, Accounts: n.accounts, Access: n.credentials, Stats: n.stats, Copies: n.copies, Source: source, TLS: n.socketTLS, Trusted: s.trusted, Plain: s.allowPlaintext, Waits: n.peers != nil, Turns: n.turns(), Version: version, Log: n.log,
	})
	n.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = n.redis.Shutdown(ctx) // what is still connected is cut off
	})
	n.loop(n.redis.Run)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.redis.Serve(listener); err != nil {
			n.log.Error("the Redis protocol is not served any more", "error", err)
		}
	}()
	n.later(func() {
		_ = listener.Close() // it may be closed already
		<-done
	})
	return nil
}

// copies is how many replicas, beside the one that leads, have for sure what was acknowledged of a cache: those of the partition that
// has fewest.
func (n *node) copies(c *tenants.Cache) int {
	least := -1
	for _, id := range c.Partitions() {
		copies := 0
		if part, ok := n.place.Partition(id); ok {
			copies = n.place.Copies(part)
		}
		if least < 0 || copies < least {
			least = copies
		}
	}
	return max(least, 0)
}

// serveMemcache opens the port of the memcached protocols, if there is to be one.
func (n *node) serveMemcache() error {
	s := n.settings
	if s.memcacheAddr == "" {
		return nil
	}
	listener, err := n.listenOn("memcache-addr", s.memcacheAddr, s.memcacheAny)
	if err != nil {
		return err
	}
	n.memcacheAt = reachable(listener.Addr())
	n.memcache = memcacheapi.New(memcacheapi.Config{
		Gateway: n.gateway, Identity: n.identity, Endpoints: n.accounts, Keys: n.credentials, Stats: n.stats, TLS: n.socketTLS, Trusted: s.trusted, Plain: s.allowPlaintext, Waits: n.peers != nil, Log: n.log,
	})
	n.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = n.memcache.Shutdown(ctx) // what is still connected is cut off
	})
	n.loop(n.memcache.Run)
	n.accept(listener, n.memcache.Serve)
	n.serveEndpoints()
	return nil
}

// serveEndpoints keeps the ports of endpoints open beside the one of the memcached protocols.
func (n *node) serveEndpoints() {
	host, _, _ := net.SplitHostPort(n.settings.memcacheAddr) // it was checked
	space := n.settings.endpoints
	space.Free = func(port int) error {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		return l.Close()
	}
	n.accounts.OfferEndpoints(space)
	if n.settings.endpointsElsewhere {
		return
	}
	changed := make(chan struct{}, 1)
	n.accounts.OnEndpointChange(func() {
		select {
		case changed <- struct{}{}:
		default: // it looks at all of them anyway
		}
	})
	n.loop(func(ctx context.Context) { n.memcache.ServeEndpoints(ctx, host, changed) })
}

// endpointProblem says why an endpoint does not serve on this node, nil if it does.
func (n *node) endpointProblem(e *tenants.Endpoint) error {
	if n.memcache == nil {
		return errors.New("this node does not serve the memcached protocols")
	}
	return n.memcache.EndpointProblem(e)
}

// accept has a listener served in the background until close.
func (n *node) accept(l net.Listener, serve func(net.Listener) error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := serve(l); err != nil {
			n.log.Error("a port is not served any more", "address", l.Addr(), "error", err)
		}
	}()
	n.later(func() {
		_ = l.Close() // it may be closed already
		<-done
	})
}

// observe has the partitions of this process tell the hub of a cache's keys, or not.
func (n *node) observe(id engine.CacheID, on bool) {
	for _, p := range n.place.Hosted() {
		if local := n.host.Local(p.ID); local != nil {
			local.Observe(id, on)
		}
	}
}

// reachable is an address that a client on this machine can dial: who listens on every address has none.
func reachable(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return a.String()
}

// found makes what every cluster has: the operators' tenant and, as long as no operator has a key, the first
// one's. Without etcd there is nothing to found: the cluster is not new.
func (n *node) found(ctx context.Context) error {
	if _, ok := n.accounts.Get(tenants.System); !ok {
		_, err := n.accounts.Create(ctx, tenants.Tenant{Name: tenants.System, Description: "Operators of this installation"})
		if fault.Is(err, fault.Conflict) {
			return nil // another node founds the cluster at this moment
		}
		if err != nil {
			return fmt.Errorf("founding the cluster: %w", err)
		}
	}
	if n.settings.operatorToken == "" {
		return nil
	}
	if keys, _, err := n.credentials.ListKeys(tenants.System, "", 1); err != nil || len(keys) > 0 {
		return err
	}
	switch _, err := n.keptKey(ctx, tenants.System, operatorKey, n.settings.operatorToken); {
	case fault.Is(err, fault.Unavailable):
		n.log.Warn("no operator has a key, and none can be made while etcd is down")
		return nil
	case err != nil:
		return fmt.Errorf("operator-token-file: %w", err)
	}
	n.log.Info("no operator has a key yet; the first operator's key is in a file", "file", n.settings.operatorToken)
	return nil
}

// startEngine brings up the partitions that this node hosts, now and whenever that changes, and tells them of their caches
// as these come, change and go.
func (n *node) startEngine(ctx context.Context) error {
	n.host = replication.NewHost(replication.NewSteadyClock(), n.log)
	if n.peers != nil {
		n.host.Join(n.peers.cluster)
	}
	if err := n.openKeeper(); err != nil {
		return err
	}
	if err := n.startPartitions(); err != nil {
		return err
	}
	if n.peers == nil { // in a cluster of several, the other replicas have the data
		if err := n.takeOver(ctx); err != nil {
			return fmt.Errorf("taking over from the last process: %w", err)
		}
		if err := n.loadDurable(); err != nil {
			n.later(n.leaveData)
			return err
		}
		n.later(n.leaveData) // also when this start fails
	}
	n.accounts.OnCacheChange(func(old, new *tenants.Cache) {
		if old != nil && (new == nil || new.ID != old.ID) {
			n.known.Delete(old.ID)
			n.unconfigure(old, nil)
		}
		if new != nil {
			if old != nil && new.ID == old.ID {
				n.unconfigure(old, new.Involved())
			}
			n.keep(new)
			n.telling.Lock()
			n.configure(new)
			n.known.Store(new.ID, new)
			n.telling.Unlock()
		}
	})
	if n.peers == nil {
		return n.dropStrangers()
	}
	return nil
}

// hostsOne reports whether this process has a replica of a partition: one that is wanted, or a durable one that is leaving, and may be
// needed until others have caught up.
func (n *node) hostsOne(p *placement.Partition) bool {
	self := n.place.Self()
	return p.On(self.Name) != nil || p.Durable && p.Of(self.Name, self.Incarnation) != nil
}

// configure tells the partitions here what a cache's settings are.
func (n *node) configure(c *tenants.Cache) {
	for _, p := range c.Involved() {
		settings := c.SettingsAt(p)
		if err := n.host.Configure(p, c.ID, &settings); err != nil {
			n.log.Error("a partition could not take a cache's settings", "partition", p, "error", err)
		}
	}
}

// unconfigure tells the partitions here that a cache is gone, but those that still have to do with it.
func (n *node) unconfigure(c *tenants.Cache, still []placement.PartitionID) {
	for _, p := range c.Involved() {
		if slices.Contains(still, p) {
			continue
		}
		if err := n.host.Configure(p, c.ID, nil); err != nil {
			n.log.Error("a partition could not drop a cache", "partition", p, "error", err)
		}
	}
}

// executor finds a partition, in this process or on another node.
func (n *node) executor(id placement.PartitionID) gateway.Executor {
	if n.peers != nil {
		return n.peers.hop.Route(id)
	}
	if local := n.host.Local(id); local != nil {
		return local
	}
	return nil
}

// stats adds up a cache's live numbers over its partitions.
func (n *node) stats(c *tenants.Cache) (sum engine.Stats, ok bool) {
	for _, p := range c.Partitions() {
		at, ok := n.executor(p).(interface {
			Stats(engine.CacheID) (engine.Stats, bool)
		})
		if !ok {
			return sum, false
		}
		s, known := at.Stats(c.ID)
		if !known {
			return sum, false
		}
		sum.Add(s)
	}
	return sum, true
}

// readiness says why requests should go elsewhere, or nil.
func (n *node) readiness() error {
	if !n.ready.Load() {
		return fault.New(fault.Unavailable, "node.ready", "this node is starting or draining")
	}
	return nil
}
