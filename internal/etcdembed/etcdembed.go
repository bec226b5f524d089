// Package etcdembed runs one etcd member inside the process, for a Larder that lives on one machine.
//
// It promises:
//
//   - Nobody else gets in. Without ListenClient the member is reached through a Unix socket that lies in a
//     directory of mode 0700, so only the user who runs Larder can open it; a loopback port would be open to
//     every user of the machine. There is no peer listener at all: a single member never talks to a peer.
//   - The data outlives the process and its addresses. The peer address that etcd stores in its data is a
//     constant that nobody dials, so a restart may change the port, the socket or the place of Dir.
//   - Every new Dir is a cluster of its own, with its own cluster id, so a client that remembers the id
//     notices when the data was thrown away and begun anew.
//   - Two processes cannot open one Dir: the second Start fails at once and says so.
//
// An embedded etcd shares the fate of its process: where etcd itself gives up (a failed fsync of its log,
// say), the process ends. In production etcd runs by itself, and only NewClient of this package is used.
//
// Start with Start.
package etcdembed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

const (
	// electionMs and tickMs make a lone member elect itself within a tenth of a second of its start. Nobody
	// can outvote it, so the short timeout carries no risk; 50 ticks a second cost next to nothing.
	electionMs = 100
	tickMs     = 20

	// quotaBytes bounds etcd's database; beyond it etcd refuses writes and keeps serving reads.
	quotaBytes = 2 << 30

	// compactAfter is how much history is kept: a client that was away for longer lists everything again.
	compactAfter = "10m"

	// walSegmentBytes is how much log etcd allocates ahead, twice. Its own default of 64 MB would make an
	// empty data directory weigh 128 MB.
	walSegmentBytes = 8 << 20

	// maxSocketPath is the longest path every system we build for accepts for a Unix socket (macOS: 104
	// bytes with the terminating zero; Linux: 108).
	maxSocketPath = 103

	// peerURL is stored in the data and never dialled; see the package comment.
	peerURL = "http://127.0.0.1:2380"

	memberName = "larder"
)

func init() { wal.SegmentSizeBytes = walSegmentBytes }

// Config says where the member keeps its data and how it is reached.
type Config struct {
	// Dir holds the data. It is created with mode 0700, and an existing one is brought to that mode.
	Dir string

	// ListenClient is a loopback host:port for tools that cannot use a Unix socket; port 0 picks a free one.
	// Whoever may log in to the machine can then read and change everything, so leave it empty for the
	// socket.
	ListenClient string

	// Logger receives etcd's warnings and errors; nil means slog.Default().
	Logger *slog.Logger

	// UnsafeNoFsync gives up durability for speed. For tests only.
	UnsafeNoFsync bool
}

// A Server is a running member.
type Server struct {
	etcd      *embed.Etcd
	endpoints []string
	lock      *fileutil.LockedFile
	socketDir string // a temporary directory to remove on Close; empty when the socket lies in Dir
	grpc      atomic.Pointer[grpc.Server]
	closing   atomic.Bool
	close     sync.Once
}

// Start opens or creates the data in cfg.Dir and returns when the member serves.
// ctx bounds the start only.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	if cfg.Dir == "" {
		return nil, errors.New("etcdembed: Dir is empty")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("etcdembed: Dir: %w", err)
	}
	if err := makePrivate(dir); err != nil {
		return nil, fmt.Errorf("etcdembed: Dir: %w", err)
	}

	s := &Server{}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	s.lock, err = fileutil.TryLockFile(filepath.Join(dir, "lock"), os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, fmt.Errorf("etcdembed: Dir %s is in use by another process", dir)
	} else if err != nil {
		return nil, fmt.Errorf("etcdembed: locking Dir: %w", err)
	}
	listen, err := s.listenURL(cfg.ListenClient, dir)
	if err != nil {
		return nil, err
	}

	ec := embed.NewConfig()
	ec.Name = memberName
	ec.Dir = filepath.Join(dir, "etcd")
	ec.TickMs, ec.ElectionMs = tickMs, electionMs
	ec.QuotaBackendBytes = quotaBytes
	ec.AutoCompactionMode, ec.AutoCompactionRetention = embed.CompactorModePeriodic, compactAfter
	ec.UnsafeNoFsync = cfg.UnsafeNoFsync
	ec.EnableGRPCGateway = false // nobody speaks JSON to it, and the gateway would dial its own listener
	ec.ListenPeerUrls = nil
	peer, err := url.Parse(peerURL)
	if err != nil {
		return nil, err
	}
	ec.AdvertisePeerUrls = []url.URL{*peer}
	ec.ListenClientUrls = []url.URL{listen}
	ec.AdvertiseClientUrls = []url.URL{listen}
	ec.InitialCluster = ec.InitialClusterFromName(memberName)
	ec.InitialClusterToken = rand.Text() // read on the first start only; makes the cluster id
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(&slogCore{log: cfg.Logger.With("part", "etcd"), closing: &s.closing}))
	ec.ServiceRegister = func(g *grpc.Server) { s.grpc.Store(g) }

	s.etcd, err = embed.StartEtcd(ec)
	if err != nil {
		return nil, fmt.Errorf("etcdembed: start: %w", err)
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
	case <-s.etcd.Server.StopNotify():
		return nil, errors.New("etcdembed: stopped during its start")
	case err := <-s.etcd.Err():
		return nil, fmt.Errorf("etcdembed: start: %w", err)
	case <-ctx.Done():
		return nil, fmt.Errorf("etcdembed: not ready in time: %w", ctx.Err())
	}

	if listen.Scheme == "unix" {
		s.endpoints = []string{"unix://" + listen.Path}
	} else {
		s.endpoints = []string{"http://" + s.etcd.Clients[0].Addr().String()}
	}
	return s, nil
}

// Endpoints are what NewClient wants.
func (s *Server) Endpoints() []string { return s.endpoints }

// Close ends every connection, stops the member and waits for it. The data stays in Dir.
func (s *Server) Close() {
	s.close.Do(func() {
		s.closing.Store(true)
		if g := s.grpc.Load(); g != nil {
			g.Stop() // otherwise etcd waits more than 5 s for each open watch to end by itself
		}
		if s.etcd != nil {
			s.etcd.Close()
		}
		if s.socketDir != "" {
			os.RemoveAll(s.socketDir)
		}
		if s.lock != nil {
			s.lock.Close()
		}
	})
}

// listenURL turns listen into the address that etcd binds, a socket below dir when listen is empty.
func (s *Server) listenURL(listen, dir string) (url.URL, error) {
	if listen != "" {
		host, _, err := net.SplitHostPort(listen)
		if err != nil {
			return url.URL{}, fmt.Errorf("etcdembed: ListenClient %q is not host:port: %w", listen, err)
		}
		if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.IsLoopback()) {
			return url.URL{}, fmt.Errorf("etcdembed: ListenClient %q is not a loopback address", listen)
		}
		return url.URL{Scheme: "http", Host: listen}, nil
	}
	path := filepath.Join(dir, "client.sock")
	if len(path) > maxSocketPath || (&url.URL{Path: path}).EscapedPath() != path {
		// The path is too long for a socket, or would not survive as a URL, the form in which etcd's client
		// takes it. MkdirTemp makes a fresh directory of mode 0700 under an unguessable name.
		tmp, err := os.MkdirTemp("", "larder-etcd-")
		if err != nil {
			return url.URL{}, fmt.Errorf("etcdembed: a place for the socket: %w", err)
		}
		s.socketDir = tmp
		path = filepath.Join(tmp, "client.sock")
		if len(path) > maxSocketPath || (&url.URL{Path: path}).EscapedPath() != path {
			return url.URL{}, fmt.Errorf("etcdembed: neither Dir nor the temporary directory %s can hold a socket: at most %d bytes, and no signs that URLs escape", tmp, maxSocketPath)
		}
	}
	return url.URL{Scheme: "unix", Path: path}, nil
}

// makePrivate creates dir for its owner alone, or takes the rights of others away.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}
