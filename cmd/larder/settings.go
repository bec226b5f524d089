package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/larder-cache/larder/internal/logs"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

// settings are what `larder serve` can be told. Each is declared once, in flags: as a flag, whose name is also
// the key in a YAML file, and with LARDER_ in front, in capitals and with underscores, the environment
// variable. A flag outweighs the environment, which outweighs the file.
type settings struct {
	config      string
	name        string
	zone        string
	region      string
	roles       []string
	dataDir     string
	walSizeText string

	replicaBacklogText string
	etcd               []string
	etcdCert           string
	etcdKey            string
	etcdCA             string
	partitions         int
	replicas           int
	peerAddr           string
	peerAdvertise      string
	peerCA             string
	peerCert           string
	peerKey            string
	httpAddr           string
	httpAny            bool // where httpAddr is taken, any other port will do
	redisAddr          string
	redisAny           bool // the same of redisAddr
	memcacheAddr       string
	memcacheAny        bool // the same of memcacheAddr
	endpointPorts      string
	endpointDomain     string
	tlsCert            string
	tlsKey             string
	tlsMin             string
	clientCA           string
	allowPlaintext     bool
	trustedProxies     []string
	openMetrics        bool
	operatorToken      string
	drainWait          time.Duration
	growthCalm         time.Duration
	snapshotStore      string
	importFrom         []string
	kms                string
	drainDelay         time.Duration
	drainTimeout       time.Duration
	logLevel           string
	logFormat          string

	endpointsElsewhere bool // another node of this process has the ports of endpoints

	trusted   []netip.Prefix
	endpoints tenants.EndpointSpace
	walSize   int64 // bytes; 0 for the default

	replicaBacklog int64 // bytes
	level          slog.Level
}

// minWALSize is the least that --wal-size may be.
const minWALSize = 8 << 20

// allRoles are what a process can do. A gateway needs engine nodes to be of use; one process is usually both.
var allRoles = []string{"gateway", "engine"}

func (s *settings) flags(f *pflag.FlagSet) {
	host, err := os.Hostname()
	if err != nil {
		host = "larder"
	}
	f.StringVar(&s.config, "config", "", "YAML file with these settings, by the names of the flags")
	f.StringVar(&s.name, "name", host, "name of this node, unique in the cluster and the same after a restart")
	f.StringVar(&s.zone, "zone", "zone-1", "availability zone that this node stands in")
	f.StringVar(&s.region, "region", "local", "region in resource names (arn:cache:cache:REGION:…)")
	f.StringSliceVar(&s.roles, "roles", allRoles, "what this process does: gateway, engine or both")
	f.StringVar(&s.dataDir, "data-dir", defaultDataDir, "directory for what survives a restart; made if missing")
	f.StringVar(&s.walSizeText, "wal-size", "256MiB", "how long the write-ahead log of durable caches may get before state files take its place, at least 8MiB; it may always get as long as these caches are")
	f.StringSliceVar(&s.etcd, "etcd", []string{"embedded"}, "etcd endpoints (http://host:2379,…), or embedded for one inside this process")
	f.StringVar(&s.etcdCert, "etcd-cert", "", "client certificate for etcd, PEM; its common name is the etcd user")
	f.StringVar(&s.etcdKey, "etcd-key", "", "key of the client certificate for etcd, PEM")
	f.StringVar(&s.etcdCA, "etcd-ca", "", "certificate authority of etcd, PEM")
	f.IntVar(&s.partitions, "partitions", placement.DefaultPartitions, "number of partitions of a cluster that does not exist yet, 1 to 1024")
	f.IntVar(&s.replicas, "replicas", placement.DefaultReplicas, "replicas of each partition, 1, 3 or 5, as far as there are nodes for them; the same on all nodes")
	f.StringVar(&s.peerAddr, "peer-addr", "", "address for other nodes of the cluster, such as 10.0.0.7:7946; port 0 picks a free one; empty for a cluster of one process")
	f.StringVar(&s.peerAdvertise, "peer-advertise", "", "host:port at which other nodes reach --peer-addr, where that is not what it says")
	f.StringVar(&s.peerCA, "peer-ca", "", "certificate authority of the cluster's nodes, PEM: see larder cluster certs")
	f.StringVar(&s.peerCert, "peer-cert", "", "certificate of this node for other nodes, PEM, for its --name; read again when the file changes")
	f.StringVar(&s.peerKey, "peer-key", "", "key of that certificate, PEM; read again when the file changes")
	f.StringVar(&s.httpAddr, "http-addr", "127.0.0.1:8080", "address of the HTTP API; port 0 picks a free one")
	f.StringVar(&s.redisAddr, "redis-addr", "", "address of the Redis protocol, plain and TLS on one port, such as 127.0.0.1:6379; empty for none")
	f.StringVar(&s.memcacheAddr, "memcache-addr", "", "address of the memcached protocols, plain and TLS on one port; empty for none")
	f.StringVar(&s.endpointPorts, "memcache-endpoint-ports", "", "ports for endpoints that imply a credential, FROM-TO such as 11300-11399, on the host of --memcache-addr; the same on all nodes; empty for none")
	f.StringVar(&s.endpointDomain, "memcache-endpoint-domain", "", "domain for endpoints by TLS server name, such as mc.cache.example.com, for whose subdomains the certificate is; empty for none")
	f.StringVar(&s.tlsCert, "tls-cert", "", "certificate chain for clients, PEM; read again when the file changes")
	f.StringVar(&s.tlsKey, "tls-key", "", "key of the certificate, PEM; read again when the file changes")
	f.StringVar(&s.tlsMin, "tls-min", "1.3", "lowest TLS version that clients may use, 1.2 or 1.3")
	f.StringVar(&s.clientCA, "client-ca", "", "certificate authorities of clients that log in to the Redis and memcached protocols by certificate, PEM; read again when the file changes")
	f.BoolVar(&s.allowPlaintext, "allow-plaintext", false, "listen beyond loopback without TLS, for a network that is private by other means")
	f.StringSliceVar(&s.trustedProxies, "trusted-proxies", nil, "networks (CIDR) of proxies whose X-Forwarded-For is believed")
	f.BoolVar(&s.openMetrics, "open-metrics", false, "serve /metrics without a credential")
	f.StringVar(&s.operatorToken, "operator-token-file", "", "where the first operator's key is written when the cluster is new (default DATA-DIR/operator-token)")
	f.DurationVar(&s.drainWait, "drain-wait", 0, "how long to serve on, before draining, while the partitions here would lose their quorum without this node; nodes that wait go one after another")
	f.DurationVar(&s.growthCalm, "growth-calm", tenants.Calm, "for how long a cache that grows by itself has to need fewer slot ranges before it gets fewer; the same on all nodes")
	f.StringVar(&s.snapshotStore, "snapshot-store", "", "where snapshots lie: file:///PATH, s3://BUCKET?region=…, gs://BUCKET or azblob://CONTAINER; the same on all nodes (default DATA-DIR/snapshots)")
	f.StringSliceVar(&s.importFrom, "import-from", nil, "stores that tenants may import files from by URL: s3://BUCKET?region=…, gs://BUCKET, azblob://CONTAINER or file:///PATH, each with prefix=…/ for a part of it, in which {tenant} stands for the tenant's name; the same on all nodes; empty for none")
	f.StringVar(&s.kms, "kms", "", "where the master key is: awskms://…, gcpkms://…, azurekeyvault://… or hashivault://KEY; the same on all nodes (default DATA-DIR/master-keys.json)")
	f.StringVar(&s.replicaBacklogText, "replica-backlog", "256MiB", "how much of what changes is kept for a replica of Redis that follows a cache and has not acknowledged it, 1MiB to 16GiB; one that is further behind begins anew")
	f.DurationVar(&s.drainDelay, "drain-delay", 5*time.Second, "how long to answer while not ready, before draining, so that load balancers notice")
	f.DurationVar(&s.drainTimeout, "drain-timeout", 60*time.Second, "how long requests under way may take when draining")
	f.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&s.logFormat, "log-format", "auto", "text, json, or auto: text on a terminal, JSON elsewhere")
	f.VisitAll(func(flag *pflag.Flag) { flag.Usage += " [" + envName(flag.Name) + "]" })
}

// A settingError is a refused setting, by the name it was given under.
type settingError struct{ name, problem string }

func (e *settingError) Error() string { return e.name + ": " + e.problem }

func refuse(name, format string, args ...any) error {
	return &settingError{name, fmt.Sprintf(format, args...)}
}

// serviceVariables are what Kubernetes puts into the environment of every container beside a service called
// larder. They are nobody's settings.
var serviceVariables = regexp.MustCompile(`^LARDER_(SERVICE_|PORT$|PORT_)`)

// clientVariables belong to the operator's verbs.
var clientVariables = []string{"LARDER_URL", "LARDER_API_KEY", "LARDER_CA"}

// load fills in what the flags did not say: from the environment, then from the file.
func (s *settings) load(cmd *cobra.Command, environ []string) error {
	f := cmd.Flags()
	given := map[string]bool{}
	f.Visit(func(flag *pflag.Flag) { given[flag.Name] = true })
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "LARDER_") || serviceVariables.MatchString(name) || slices.Contains(clientVariables, name) {
			continue
		}
		flag := f.Lookup(strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "LARDER_"), "_", "-")))
		if flag == nil || flag.Name == "help" || name != envName(flag.Name) {
			return refuse(name, "there is no such setting; larder serve --help lists them")
		}
		if given[flag.Name] {
			continue
		}
		if err := f.Set(flag.Name, value); err != nil {
			return refuse(name, "%q: %v", value, errors.Unwrap(err))
		}
		given[flag.Name] = true
	}
	if s.config != "" {
		if err := s.loadFile(f, given); err != nil {
			return err
		}
	}
	return s.check()
}

func envName(flag string) string {
	return "LARDER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (s *settings) loadFile(f *pflag.FlagSet, given map[string]bool) error {
	text, err := os.ReadFile(s.config)
	if err != nil {
		return refuse("config", "%v", err)
	}
	var file map[string]yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) { // nothing but comments is no document
		return refuse("config", "%s: %v", s.config, err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return refuse("config", "%s: want one YAML document, not several", s.config)
	}
	for _, name := range slices.Sorted(maps.Keys(file)) {
		flag := f.Lookup(name)
		if flag == nil || name == "config" || name == "help" {
			return refuse(name, "there is no such setting (in %s); larder serve --help lists them", s.config)
		}
		node := file[name]
		value, err := scalars(&node)
		if err != nil {
			return refuse(name, "%s, line %d: %v", s.config, node.Line, err)
		}
		if given[name] {
			continue
		}
		if err := f.Set(name, value); err != nil {
			return refuse(name, "%s, line %d: %q: %v", s.config, node.Line, value, errors.Unwrap(err))
		}
	}
	return nil
}

// scalars are a YAML value the way a flag takes it: as it is written, so that a node called 007 or 1e3 keeps
// its name.
func scalars(v *yaml.Node) (string, error) {
	switch {
	case v.Kind == yaml.ScalarNode && v.Tag != "!!null":
		return v.Value, nil
	case v.Kind == yaml.SequenceNode:
		parts := make([]string, len(v.Content))
		for i, part := range v.Content {
			if part.Kind != yaml.ScalarNode || part.Tag == "!!null" {
				return "", errors.New("want a list of plain values")
			}
			parts[i] = part.Value
		}
		return strings.Join(parts, ","), nil
	}
	return "", errors.New("want a plain value, or a list of them")
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// check refuses what is malformed or contradicts itself.
func (s *settings) check() error {
	if !nodeName.MatchString(s.name) {
		return refuse("name", "%q: a node's name has 1 to 63 letters, digits, dots, dashes and underscores", s.name)
	}
	if !nodeName.MatchString(s.zone) {
		return refuse("zone", "%q: a zone's name has 1 to 63 letters, digits, dots, dashes and underscores", s.zone)
	}
	if !regexp.MustCompile(`^[a-z0-9-]{1,32}$`).MatchString(s.region) {
		return refuse("region", "%q: a region has 1 to 32 characters of a-z, 0-9 and -", s.region)
	}
	for _, r := range s.roles {
		if !slices.Contains(allRoles, r) {
			return refuse("roles", "%q is not one of %s", r, strings.Join(allRoles, ", "))
		}
	}
	if len(s.roles) == 0 {
		return refuse("roles", "name at least one of %s", strings.Join(allRoles, ", "))
	}
	if s.dataDir == "" {
		return refuse("data-dir", "a directory is needed")
	}
	if s.walSizeText != "" { // larder dev has no such flag
		if err := (bytesFlag{&s.walSize}).Set(s.walSizeText); err != nil {
			return refuse("wal-size", "%v", err)
		}
		if s.walSize < minWALSize {
			return refuse("wal-size", "%d bytes are less than %d", s.walSize, minWALSize)
		}
	}
	if s.replicaBacklog = usualBacklog; s.replicaBacklogText != "" {
		if err := (bytesFlag{&s.replicaBacklog}).Set(s.replicaBacklogText); err != nil {
			return refuse("replica-backlog", "%v", err)
		}
		if s.replicaBacklog < minBacklog || s.replicaBacklog > maxBacklog {
			return refuse("replica-backlog", "%d bytes are not %d to %d", s.replicaBacklog, minBacklog, int64(maxBacklog))
		}
	}
	embedded := slices.Contains(s.etcd, "embedded")
	if len(s.etcd) == 0 || (embedded && len(s.etcd) > 1) {
		return refuse("etcd", "either embedded, or endpoints")
	}
	for _, given := range [][2]string{{"etcd-cert", s.etcdCert}, {"etcd-key", s.etcdKey}, {"etcd-ca", s.etcdCA}} {
		if embedded && given[1] != "" {
			return refuse(given[0], "contradicts --etcd embedded, which needs no certificate")
		}
	}
	if !embedded {
		if err := s.checkEndpoints(); err != nil {
			return err
		}
	}
	if (s.etcdCert == "") != (s.etcdKey == "") {
		return refuse("etcd-cert", "--etcd-cert and --etcd-key go together")
	}
	if s.partitions < 1 || s.partitions > 1024 {
		return refuse("partitions", "%d is not within 1 to 1024", s.partitions)
	}
	if s.replicas == 0 { // nobody asked: larder dev has no such flag
		s.replicas = placement.DefaultReplicas
	}
	if s.replicas != 1 && s.replicas != 3 && s.replicas != 5 {
		return refuse("replicas", "%d is not 1, 3 or 5", s.replicas)
	}
	if (s.tlsCert == "") != (s.tlsKey == "") {
		return refuse("tls-cert", "--tls-cert and --tls-key go together")
	}
	if s.clientCA != "" && s.tlsCert == "" {
		return refuse("client-ca", "needs --tls-cert: certificates are shown over TLS")
	}
	if s.tlsMin != "1.2" && s.tlsMin != "1.3" {
		return refuse("tls-min", "%q is not 1.2 or 1.3", s.tlsMin)
	}
	for _, a := range [][2]string{{"http-addr", s.httpAddr}, {"redis-addr", s.redisAddr}, {"memcache-addr", s.memcacheAddr}} {
		if a[0] != "http-addr" && a[1] == "" {
			continue
		}
		host, _, err := net.SplitHostPort(a[1])
		if err != nil {
			return refuse(a[0], "%q is not host:port", a[1])
		}
		if s.tlsCert == "" && !s.allowPlaintext && !isLoopback(host) {
			return refuse(a[0], "%q is reachable from other machines and there is no TLS: give --tls-cert and --tls-key, or --allow-plaintext if the network is private by other means", a[1])
		}
	}
	if err := s.checkPeers(); err != nil {
		return err
	}
	if err := s.checkMemcacheEndpoints(); err != nil {
		return err
	}
	if s.tlsCert != "" && s.allowPlaintext {
		return refuse("allow-plaintext", "contradicts --tls-cert")
	}
	s.trusted = nil
	for _, p := range s.trustedProxies {
		network, err := netip.ParsePrefix(p)
		if err != nil {
			return refuse("trusted-proxies", "%q is not a network such as 10.0.0.0/8", p)
		}
		s.trusted = append(s.trusted, network.Masked())
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"drain-wait", s.drainWait}, {"drain-delay", s.drainDelay}, {"drain-timeout", s.drainTimeout}} {
		if d.value < 0 || d.value > time.Hour {
			return refuse(d.name, "%s is not within 0s to 1h", d.value)
		}
	}
	if s.growthCalm < time.Second {
		return refuse("growth-calm", "%s is less than 1s", s.growthCalm)
	}
	if err := s.level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return refuse("log-level", "%q is not debug, info, warn or error", s.logLevel)
	}
	if !slices.Contains(logs.Formats, s.logFormat) {
		return refuse("log-format", "%q is not one of %s", s.logFormat, strings.Join(logs.Formats, ", "))
	}
	return nil
}

// checkPeers refuses addresses and files for other nodes that are malformed or do not go together.
func (s *settings) checkPeers() error {
	files := [][2]string{{"peer-ca", s.peerCA}, {"peer-cert", s.peerCert}, {"peer-key", s.peerKey}}
	given := 0
	for _, f := range files {
		if f[1] != "" {
			given++
		}
	}
	if given > 0 && given < len(files) {
		return refuse("peer-cert", "--peer-ca, --peer-cert and --peer-key go together")
	}
	if s.peerAddr == "" {
		for _, f := range append(files, [2]string{"peer-advertise", s.peerAdvertise}) {
			if f[1] != "" {
				return refuse(f[0], "needs --peer-addr")
			}
		}
		return nil
	}
	host, _, err := net.SplitHostPort(s.peerAddr)
	if err != nil {
		return refuse("peer-addr", "%q is not host:port", s.peerAddr)
	}
	if given == 0 && !isLoopback(host) {
		return refuse("peer-addr", "%q is reachable from other machines and there is no certificate: give --peer-ca, --peer-cert and --peer-key, which larder cluster certs makes", s.peerAddr)
	}
	if s.peerAdvertise == "" {
		if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
			return refuse("peer-advertise", "is needed where --peer-addr (%q) names no address that others can dial", s.peerAddr)
		}
		return nil
	}
	if _, port, err := net.SplitHostPort(s.peerAdvertise); err != nil || port == "" || port == "0" {
		return refuse("peer-advertise", "%q is not host:port", s.peerAdvertise)
	}
	return nil
}

// checkEndpoints refuses endpoints of etcd that are malformed, or at odds with each other or with the files
// for TLS.
func (s *settings) checkEndpoints() error {
	schemes := map[string]bool{}
	for _, e := range s.etcd {
		u, err := url.Parse(e)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Port() == "" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return refuse("etcd", "%q is not http://host:port or https://host:port", e)
		}
		schemes[u.Scheme] = true
	}
	if len(schemes) > 1 {
		return refuse("etcd", "some endpoints are http and some https")
	}
	if schemes["http"] && s.etcdCA != "" {
		return refuse("etcd-ca", "contradicts --etcd, whose endpoints are http")
	}
	if schemes["http"] && s.etcdCert != "" {
		return refuse("etcd-cert", "contradicts --etcd, whose endpoints are http")
	}
	return nil
}

// maxEndpointPorts bounds the ports for endpoints: a node listens on each that is in use.
const maxEndpointPorts = 10_000

var (
	portRange  = regexp.MustCompile(`^([0-9]{1,5})-([0-9]{1,5})$`)
	domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$`)
)

// checkMemcacheEndpoints refuses what cannot be had for endpoints.
func (s *settings) checkMemcacheEndpoints() error {
	s.endpoints = tenants.EndpointSpace{Domain: s.endpointDomain}
	for _, f := range [][2]string{{"memcache-endpoint-ports", s.endpointPorts}, {"memcache-endpoint-domain", s.endpointDomain}} {
		if f[1] != "" && s.memcacheAddr == "" {
			return refuse(f[0], "there are no endpoints without --memcache-addr")
		}
	}
	if s.endpointPorts != "" {
		m := portRange.FindStringSubmatch(s.endpointPorts)
		if m == nil {
			return refuse("memcache-endpoint-ports", "%q is not FROM-TO, such as 11300-11399", s.endpointPorts)
		}
		from, _ := strconv.Atoi(m[1]) // at most five digits
		to, _ := strconv.Atoi(m[2])
		if from < 1 || to > 65535 || from > to || to-from >= maxEndpointPorts {
			return refuse("memcache-endpoint-ports", "%q: want at most %d ports of 1 to 65535, the lowest first", s.endpointPorts, maxEndpointPorts)
		}
		s.endpoints.From, s.endpoints.To = from, to
	}
	if s.endpointDomain == "" {
		return nil
	}
	if len(s.endpointDomain) > maxEndpointDomain || !domainName.MatchString(s.endpointDomain) {
		return refuse("memcache-endpoint-domain", "%q is not a domain such as mc.cache.example.com, in lower case, of at most %d characters", s.endpointDomain, maxEndpointDomain)
	}
	if s.tlsCert == "" {
		return refuse("memcache-endpoint-domain", "server names need TLS: give --tls-cert and --tls-key")
	}
	return nil
}

// maxEndpointDomain leaves room for a label in front of the domain.
const maxEndpointDomain = 200

// isLoopback reports whether a listener on host can be reached from this machine alone.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
