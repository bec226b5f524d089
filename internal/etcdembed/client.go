package etcdembed

import (
	"crypto/tls"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// NewClient returns a client for an embedded etcd or for one that runs by itself. It does not wait for a
// connection, so it succeeds while etcd is down. tlsConfig is nil unless the endpoints need client
// certificates or a root of their own; https endpoints then trust the system's roots.
//
// A silent peer is noticed after 15 s at the latest, and a returning one is dialled within 2 s (gRPC's own
// default waits up to two minutes). The client logs nothing: every failure reaches its caller.
func NewClient(endpoints []string, tlsConfig *tls.Config) (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		TLS:                  tlsConfig,
		DialTimeout:          5 * time.Second,
		DialKeepAliveTime:    10 * time.Second, // etcd hangs up on clients that ask more often than every 5 s
		DialKeepAliveTimeout: 5 * time.Second,
		Logger:               zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		})},
	})
	if err != nil {
		return nil, fmt.Errorf("etcdembed: client: %w", err)
	}
	return c, nil
}
