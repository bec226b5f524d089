package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/heap"
	"github.com/larder-cache/larder/internal/logs"
	"github.com/larder-cache/larder/memcacheapi"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

// What `larder dev` sets up.
const (
	demoTenant = "demo"
	demoCache  = "main"
)

// defaultDataDir is where servers keep what survives a restart unless they are told another place.
const defaultDataDir = "larder-data"

// devFileName is in the data directory of a development server while that serves, and no longer.
const devFileName = "dev.json"

// devFile is what dev.json tells programs: where a development server is and how to get in.
type devFile struct {
	HTTP          string `json:"http"`
	REST          string `json:"rest"`                    // the base URL of the REST dialect
	Redis         string `json:"redis,omitempty"`         // host:port
	Memcache      string `json:"memcache,omitempty"`      // host:port
	MemcacheOpen  string `json:"memcache_open,omitempty"` // host:port, of the demo cache, without login
	Tenant        string `json:"tenant"`
	Cache         string `json:"cache"`
	APIKey        string `json:"api_key"`
	OperatorToken string `json:"operator_token"`

	Nodes []devNode `json:"nodes,omitempty"` // with --nodes, all of them; the addresses above are the first one's
}

// devNode is one of several nodes.
type devNode struct {
	Name     string `json:"name"`
	Zone     string `json:"zone"`
	HTTP     string `json:"http"`
	Redis    string `json:"redis,omitempty"`
	Memcache string `json:"memcache,omitempty"`
}

func devCommand() *cobra.Command {
	s := settings{
		name: "dev", zone: "zone-1", region: "local", roles: allRoles, etcd: []string{"embedded"}, tlsMin: "1.3",
		endpointPorts: "11300-11399", partitions: placement.DefaultPartitions, openMetrics: true, drainTimeout: 10 * time.Second, growthCalm: tenants.Calm, logLevel: "warn", logFormat: "auto",
	}
	nodes := 1
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Start everything in one process, with a demo tenant, a cache and a key",
		Long: `Start everything in one process for development: embedded etcd, gateway, one engine node, the tenant "demo"
with the cache "main", and an API key with full rights on the tenant.

When everything serves, DATA-DIR/dev.json tells programs where it is and holds the key. Tenants, caches, keys
and policies survive a restart with the same data directory, and so does what is in the caches, unless the process
is killed and they are not durable.

With --nodes 3 it is a cluster: three nodes in three zones, with replicas of everything, in one process. The first serves at the
addresses given, the others at the ports behind them. Lines on standard input play with it: "kill n2", "stop n2", "start n2".
What is in the caches is in the memory of the nodes then, and gone when all of them have ended.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&s.dataDir, "data-dir", defaultDataDir, "directory for what survives a restart; made if missing")
	cmd.Flags().StringVar(&s.httpAddr, "http-addr", "127.0.0.1:8080", "address of the HTTP API; port 0 picks a free one")
	cmd.Flags().StringVar(&s.redisAddr, "redis-addr", "127.0.0.1:6379", "address of the Redis protocol; port 0 picks a free one, empty is for none; where the default is taken, a free port is picked")
	cmd.Flags().StringVar(&s.memcacheAddr, "memcache-addr", "127.0.0.1:11211", "address of the memcached protocols; port 0 picks a free one, empty is for none; where the default is taken, a free port is picked")
	cmd.Flags().StringVar(&s.endpointPorts, "memcache-endpoint-ports", s.endpointPorts, "ports for endpoints that imply a credential, of which the demo cache has one; empty for none")
	cmd.Flags().StringVar(&s.logLevel, "log-level", s.logLevel, "debug, info, warn or error")
	cmd.Flags().IntVar(&nodes, "nodes", nodes, fmt.Sprintf("nodes of a cluster in this process, each in a zone of its own, 1 to %d", maxDevNodes))
	cmd.Flags().BoolVar(&s.allowPlaintext, "allow-plaintext", false, "listen beyond loopback, although there is no TLS")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if s.memcacheAddr == "" && !cmd.Flags().Changed("memcache-endpoint-ports") {
			s.endpointPorts = ""
		}
		s.redisAny, s.memcacheAny = !cmd.Flags().Changed("redis-addr"), !cmd.Flags().Changed("memcache-addr")
		if err := s.check(); err != nil {
			return err
		}
		if nodes < 1 || nodes > maxDevNodes {
			return refuse("nodes", "%d is not within 1 to %d", nodes, maxDevNodes)
		}
		defer heap.Headroom(headroom)()
		w := logs.NewWriter(os.Stderr)
		defer w.Close()
		log := logs.New(w, s.logFormat, s.level)
		if nodes > 1 {
			return devNodes(cmd.Context(), s, nodes, log, cmd.InOrStdin(), cmd.OutOrStdout())
		}
		return dev(cmd.Context(), s, log, cmd.OutOrStdout())
	}
	return cmd
}

// dev runs a development server until ctx ends and tells out how to use it.
func dev(ctx context.Context, s settings, log *slog.Logger, out io.Writer) error {
	return run(ctx, s, log, func(ctx context.Context, n *node) error {
		facts, err := n.setUpDemo(ctx)
		if err != nil {
			return err
		}
		if err := n.openDemo(ctx, &facts); err != nil {
			return err
		}
		file := filepath.Join(s.dataDir, devFileName)
		err = writeSecret(file, func() ([]byte, error) {
			text, err := json.Marshal(facts)
			return append(text, '\n'), err
		})
		if err != nil {
			return err
		}
		greet(out, facts, file)
		return nil
	})
}

func greet(out io.Writer, f devFile, file string) {
	fmt.Fprintf(out, `Larder serves the cache %[2]q of the tenant %[3]q.

  HTTP API     %[1]s/v1
  Swagger UI   %[1]s/docs
  Redis        redis://%[2]s:%[4]s@%[6]s
  memcached    %[8]s, without login %[9]s
  API key      %[4]s

Try it:

  curl -X PUT  %[1]s/v1/caches/%[2]s/kv/hello -H 'Authorization: Bearer %[4]s' -d 'world'
  curl         %[1]s/v1/caches/%[2]s/kv/hello -H 'Authorization: Bearer %[4]s'

For applications that use Upstash's REST API:

  UPSTASH_REDIS_REST_URL=%[7]s
  UPSTASH_REDIS_REST_TOKEN=%[4]s

The same for programs is in %[5]s. Stop with Ctrl-C.
`, f.HTTP, f.Cache, f.Tenant, f.APIKey, file, f.Redis, f.REST, f.Memcache, f.MemcacheOpen)
	if len(f.Nodes) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%d nodes, each in a zone of its own, of which any serves everything:\n\n", len(f.Nodes))
	for _, n := range f.Nodes {
		fmt.Fprintf(out, "  %s in %s  %s  Redis %s  memcached %s\n", n.Name, n.Zone, n.HTTP, n.Redis, n.Memcache)
	}
	fmt.Fprint(out, "\nType \"kill n1\", \"stop n1\" or \"start n1\" here to see what happens; \"larder cluster status\" tells.\n")
}

// setUpDemo makes the tenant, the cache and the credentials that a development server has, unless an earlier
// run with the same data directory did.
func (n *node) setUpDemo(ctx context.Context) (devFile, error) {
	f := devFile{HTTP: n.url, REST: n.url + "/redis", Redis: n.redisAt, Memcache: n.memcacheAt, Tenant: demoTenant, Cache: demoCache}
	if _, err := n.accounts.Create(ctx, tenants.Tenant{Name: demoTenant, Description: "Made by larder dev"}); err != nil && !fault.Is(err, fault.Conflict) {
		return f, err
	}
	if _, err := n.accounts.CreateCache(ctx, demoTenant, tenants.Cache{Name: demoCache, Description: "Made by larder dev"}); err != nil && !fault.Is(err, fault.Conflict) {
		return f, err
	}
	var err error
	f.APIKey, err = n.keptKey(ctx, demoTenant, auth.KeySpec{Name: "larder dev", Kind: auth.LiveKey, Role: "owner", DefaultCache: demoCache}, filepath.Join(n.settings.dataDir, "demo-key"))
	if err != nil {
		return f, err
	}
	f.OperatorToken, err = n.keptKey(ctx, tenants.System, operatorKey, filepath.Join(n.settings.dataDir, "operator-token"))
	return f, err
}

// openDemo sees to it that there is an endpoint of the demo cache, since hardly any client of memcached can log in: the one of an
// earlier run, unless another program has its port by now.
func (n *node) openDemo(ctx context.Context, f *devFile) error {
	if n.memcache == nil || n.settings.endpoints.From == 0 {
		return nil
	}
	key, err := auth.ParseAPIKey(f.APIKey)
	if err != nil {
		return err
	}
	for {
		e, err := n.demoEndpoint(ctx, key.ID)
		if fault.Is(err, fault.Conflict) {
			n.log.Warn("there is no port without login", "error", err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("the port without login: %w", err)
		}
		if n.opened(ctx, e) {
			host, _, _ := net.SplitHostPort(n.memcacheAt) // an address
			f.MemcacheOpen = net.JoinHostPort(host, strconv.Itoa(e.Port))
			return nil
		}
		if err := n.accounts.DeleteEndpoint(ctx, e.Tenant, e.Cache, e.ID); err != nil {
			return fmt.Errorf("the port without login: %w", err)
		}
	}
}

// demoEndpoint returns an endpoint of the demo cache for a key, and makes one if there is none.
func (n *node) demoEndpoint(ctx context.Context, key string) (*tenants.Endpoint, error) {
	list, _ := n.accounts.Endpoints(demoTenant, demoCache, "", 0)
	for _, e := range list {
		if e.Key == key && e.Port >= n.settings.endpoints.From && e.Port <= n.settings.endpoints.To && len(e.Networks) == 0 && !e.TLS {
			return e, nil
		}
	}
	return n.accounts.CreateEndpoint(ctx, demoTenant, demoCache, tenants.Endpoint{Key: key}, false)
}

// opened waits until this node has opened an endpoint's port, or has found that it cannot.
func (n *node) opened(ctx context.Context, e *tenants.Endpoint) bool {
	for ctx.Err() == nil {
		err := n.memcache.EndpointProblem(e)
		if err == nil {
			return true
		}
		if !errors.Is(err, memcacheapi.ErrNotOpenYet) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// operatorKey is the key of an installation's first operator.
var operatorKey = auth.KeySpec{Name: "first operator", Kind: auth.LiveKey, Role: "operator"}

// keptKey returns the key whose text is in a file, if it still works, or makes one and writes it there.
func (n *node) keptKey(ctx context.Context, tenant string, spec auth.KeySpec, file string) (string, error) {
	if text, err := os.ReadFile(file); err == nil {
		if parsed, err := auth.ParseAPIKey(string(text)); err == nil {
			if _, err := n.credentials.GetKey(tenant, parsed.ID); err == nil {
				return string(text), nil
			}
		}
	}
	var text string
	err := writeSecret(file, func() (_ []byte, err error) {
		_, text, err = n.credentials.CreateKey(ctx, tenant, spec)
		return []byte(text), err
	})
	return text, err
}

// writeSecret writes a file that only its owner may read, whole or not at all. compose is called once it is sure
// that there can be a file, since what it composes cannot be had again.
func writeSecret(path string, compose func() ([]byte, error)) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain once it is renamed
	text, err := compose()
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
