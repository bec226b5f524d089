package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// load reads settings as `larder serve` does: from flags, an environment and a file, which is named by
// --config unless its text is empty.
func load(t *testing.T, args, environ []string, file string) (settings, error) {
	t.Helper()
	s := settings{}
	cmd := &cobra.Command{Use: "serve"}
	s.flags(cmd.Flags())
	if file != "" {
		path := filepath.Join(t.TempDir(), "larder.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	err := s.load(cmd, environ)
	return s, err
}

func TestSettingsPrecedence(t *testing.T) {
	cases := []struct {
		name    string
		args    []string
		environ []string
		file    string
		get     func(*settings) any
		want    any
	}{
		{name: "the default", get: func(s *settings) any { return s.zone }, want: "zone-1"},
		{name: "a file outweighs the default", file: "zone: f", get: func(s *settings) any { return s.zone }, want: "f"},
		{name: "the environment outweighs the file", environ: []string{"LARDER_ZONE=e"}, file: "zone: f", get: func(s *settings) any { return s.zone }, want: "e"},
		{name: "a flag outweighs both", args: []string{"--zone", "a"}, environ: []string{"LARDER_ZONE=e"}, file: "zone: f", get: func(s *settings) any { return s.zone }, want: "a"},
		{name: "a flag that repeats the default outweighs both", args: []string{"--zone", "zone-1"}, environ: []string{"LARDER_ZONE=e"}, file: "zone: f", get: func(s *settings) any { return s.zone }, want: "zone-1"},
		{name: "a list replaces the default, it does not add to it", file: "roles: [engine]", get: func(s *settings) any { return s.roles }, want: []string{"engine"}},
		{name: "a list from the environment replaces that of the file", environ: []string{"LARDER_ROLES=gateway"}, file: "roles: [engine]", get: func(s *settings) any { return s.roles }, want: []string{"gateway"}},
		{name: "a list with commas in one string", environ: []string{"LARDER_ETCD=http://a:2379,http://b:2379"}, get: func(s *settings) any { return s.etcd }, want: []string{"http://a:2379", "http://b:2379"}},
		{name: "a list over several lines", file: "etcd:\n  - http://a:2379\n  - http://b:2379\n", get: func(s *settings) any { return s.etcd }, want: []string{"http://a:2379", "http://b:2379"}},
		{name: "a duration", environ: []string{"LARDER_DRAIN_DELAY=250ms"}, get: func(s *settings) any { return s.drainDelay }, want: 250 * time.Millisecond},
		{name: "a number", file: "partitions: 3", get: func(s *settings) any { return s.partitions }, want: 3},
		{name: "true", file: "open-metrics: true", get: func(s *settings) any { return s.openMetrics }, want: true},
		{name: "a number where a string is wanted", file: "tls-min: 1.2", get: func(s *settings) any { return s.tlsMin }, want: "1.2"},
		{name: "a name that YAML takes for an octal number", file: "name: 007", get: func(s *settings) any { return s.name }, want: "007"},
		{name: "a name that YAML takes for a date", file: "name: 2026-11-23", get: func(s *settings) any { return s.name }, want: "2026-11-23"},
		{name: "a value with an equals sign", environ: []string{"LARDER_DATA_DIR=/a=b"}, get: func(s *settings) any { return s.dataDir }, want: "/a=b"},
		{name: "a file of comments alone", file: "# nothing yet\n", get: func(s *settings) any { return s.zone }, want: "zone-1"},
		{name: "an empty file", file: "\n", get: func(s *settings) any { return s.zone }, want: "zone-1"},
		{name: "what Kubernetes says of a service called larder", environ: []string{"LARDER_SERVICE_HOST=10.0.0.1", "LARDER_PORT=tcp://10.0.0.1:80", "LARDER_PORT_80_TCP=x"}, get: func(s *settings) any { return s.zone }, want: "zone-1"},
		{name: "what the operator's verbs are told", environ: []string{"LARDER_URL=http://x", "LARDER_API_KEY=k", "LARDER_CA=ca.pem"}, get: func(s *settings) any { return s.zone }, want: "zone-1"},
		{name: "other programs' variables", environ: []string{"LARDERS=1", "larder_zone=x"}, get: func(s *settings) any { return s.zone }, want: "zone-1"},
		{name: "a network is masked", file: "trusted-proxies: [10.1.2.3/8]", get: func(s *settings) any { return s.trusted }, want: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, err := load(t, c.args, c.environ, c.file)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.get(&s); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestSettingsRefused(t *testing.T) {
	cases := []struct {
		name    string
		args    []string
		environ []string
		file    string
		setting string // whose name the error begins with
		says    string // what the error says besides
	}{
		{name: "an unknown variable", environ: []string{"LARDER_ZON=x"}, setting: "LARDER_ZON", says: "no such setting"},
		{name: "a variable in the wrong case", environ: []string{"LARDER_zone=x"}, setting: "LARDER_zone", says: "no such setting"},
		{name: "a variable with a dash", environ: []string{"LARDER_DATA-DIR=x"}, setting: "LARDER_DATA-DIR", says: "no such setting"},
		{name: "help is no setting", environ: []string{"LARDER_HELP=true"}, setting: "LARDER_HELP", says: "no such setting"},
		{name: "a variable of the wrong type", environ: []string{"LARDER_PARTITIONS=many"}, setting: "LARDER_PARTITIONS", says: `"many"`},
		{name: "a duration without a unit", environ: []string{"LARDER_DRAIN_DELAY=5"}, setting: "LARDER_DRAIN_DELAY", says: "missing unit"},
		{name: "an empty number", environ: []string{"LARDER_PARTITIONS="}, setting: "LARDER_PARTITIONS", says: `""`},

		{name: "an unknown key in the file", file: "zon: x", setting: "zon", says: "larder.yaml"},
		{name: "a key with an underscore", file: "http_addr: x", setting: "http_addr", says: "no such setting"},
		{name: "a file that names a file", file: "config: other.yaml", setting: "config", says: "no such setting"},
		{name: "a wrong type in the file", file: "zone: a\npartitions: many", setting: "partitions", says: "line 2"},
		{name: "a wrong value in the file counts although a flag outweighs it", args: []string{"--zone", "a"}, file: "zone: {}", setting: "zone", says: "plain value"},
		{name: "a key without a value", file: "zone:", setting: "zone", says: "plain value"},
		{name: "a map where a list is wanted", file: "etcd: {a: b}", setting: "etcd", says: "plain value"},
		{name: "a list of lists", file: "etcd: [[a]]", setting: "etcd", says: "plain values"},
		{name: "a key that stands twice", file: "zone: a\nzone: b", setting: "config", says: "already defined"},
		{name: "no YAML", file: "zone: [", setting: "config", says: "larder.yaml"},
		{name: "a list instead of keys", file: "- zone", setting: "config", says: "larder.yaml"},
		{name: "two documents", file: "zone: a\n---\nzone: b", setting: "config", says: "one YAML document"},
		{name: "no such file", args: []string{"--config", "/nowhere/larder.yaml"}, setting: "config", says: "/nowhere/larder.yaml"},

		{name: "an empty name", args: []string{"--name", ""}, setting: "name", says: "1 to 63"},
		{name: "a name with a slash", args: []string{"--name", "a/b"}, setting: "name", says: "a/b"},
		{name: "a name of 64", args: []string{"--name", strings.Repeat("n", 64)}, setting: "name", says: "1 to 63"},
		{name: "a zone with a space", args: []string{"--zone", "a b"}, setting: "zone", says: "a b"},
		{name: "a region in capitals", args: []string{"--region", "EU"}, setting: "region", says: "a-z"},
		{name: "ports for endpoints of nothing", args: []string{"--memcache-endpoint-ports", "1-2"}, setting: "memcache-endpoint-ports", says: "--memcache-addr"},
		{name: "ports in the wrong order", args: []string{"--memcache-addr", "127.0.0.1:0", "--memcache-endpoint-ports", "2-1"}, setting: "memcache-endpoint-ports", says: "the lowest first"},
		{name: "a port for endpoints alone", args: []string{"--memcache-addr", "127.0.0.1:0", "--memcache-endpoint-ports", "11300"}, setting: "memcache-endpoint-ports", says: "FROM-TO"},
		{name: "a port beyond all", args: []string{"--memcache-addr", "127.0.0.1:0", "--memcache-endpoint-ports", "60000-65536"}, setting: "memcache-endpoint-ports", says: "65535"},
		{name: "too many ports", args: []string{"--memcache-addr", "127.0.0.1:0", "--memcache-endpoint-ports", "20000-30000"}, setting: "memcache-endpoint-ports", says: "at most 10000"},
		{name: "a domain with a space", args: []string{"--memcache-addr", "127.0.0.1:0", "--memcache-endpoint-domain", "a b.com"}, setting: "memcache-endpoint-domain", says: "a b.com"},
		{name: "a domain without TLS", args: []string{"--memcache-addr", "127.0.0.1:0", "--memcache-endpoint-domain", "mc.example.com"}, setting: "memcache-endpoint-domain", says: "need TLS"},
		{name: "an unknown role", args: []string{"--roles", "gateway,cook"}, setting: "roles", says: "cook"},
		{name: "no role", args: []string{"--roles", ""}, setting: "roles", says: "gateway"},
		{name: "no data directory", args: []string{"--data-dir", ""}, setting: "data-dir", says: "needed"},
		{name: "no partition", args: []string{"--partitions", "0"}, setting: "partitions", says: "1 to 1024"},
		{name: "a partition too many", args: []string{"--partitions", "1025"}, setting: "partitions", says: "1 to 1024"},

		{name: "etcd both inside and outside", args: []string{"--etcd", "embedded,http://a:2379"}, setting: "etcd", says: "either"},
		{name: "no etcd", args: []string{"--etcd", ""}, setting: "etcd", says: "either"},
		{name: "an endpoint without a scheme", args: []string{"--etcd", "a:2379"}, setting: "etcd", says: "http://host:port"},
		{name: "an endpoint without a port", args: []string{"--etcd", "http://a"}, setting: "etcd", says: "http://host:port"},
		{name: "an endpoint with a password", args: []string{"--etcd", "http://u:p@a:2379"}, setting: "etcd", says: "http://host:port"},
		{name: "an endpoint with a path", args: []string{"--etcd", "http://a:2379/larder"}, setting: "etcd", says: "http://host:port"},
		{name: "http and https", args: []string{"--etcd", "http://a:2379,https://b:2379"}, setting: "etcd", says: "some"},
		{name: "a CA for the embedded etcd", args: []string{"--etcd-ca", "ca.pem"}, setting: "etcd-ca", says: "embedded"},
		{name: "a CA for plain http", args: []string{"--etcd", "http://a:2379", "--etcd-ca", "ca.pem"}, setting: "etcd-ca", says: "http"},
		{name: "a certificate for plain http", args: []string{"--etcd", "http://a:2379", "--etcd-cert", "c", "--etcd-key", "k"}, setting: "etcd-cert", says: "http"},
		{name: "an etcd certificate without its key", args: []string{"--etcd", "https://a:2379", "--etcd-cert", "c"}, setting: "etcd-cert", says: "go together"},
		{name: "an etcd key without its certificate", args: []string{"--etcd", "https://a:2379", "--etcd-key", "k"}, setting: "etcd-cert", says: "go together"},

		{name: "an address without a port", args: []string{"--http-addr", "127.0.0.1"}, setting: "http-addr", says: "host:port"},
		{name: "every address without TLS", args: []string{"--http-addr", ":8080"}, setting: "http-addr", says: "--allow-plaintext"},
		{name: "every IPv6 address without TLS", args: []string{"--http-addr", "[::]:8080"}, setting: "http-addr", says: "--allow-plaintext"},
		{name: "another machine's view without TLS", args: []string{"--http-addr", "10.0.0.1:8080"}, setting: "http-addr", says: "--allow-plaintext"},
		{name: "a name that may be anything without TLS", args: []string{"--http-addr", "cache.example:8080"}, setting: "http-addr", says: "--allow-plaintext"},
		{name: "a name that only begins like loopback", args: []string{"--http-addr", "127.0.0.1.example:8080"}, setting: "http-addr", says: "--allow-plaintext"},
		{name: "a certificate without its key", args: []string{"--tls-cert", "c"}, setting: "tls-cert", says: "go together"},
		{name: "a key without its certificate", args: []string{"--tls-key", "k"}, setting: "tls-cert", says: "go together"},
		{name: "TLS and plaintext", args: []string{"--tls-cert", "c", "--tls-key", "k", "--allow-plaintext"}, setting: "allow-plaintext", says: "contradicts"},
		{name: "TLS 1.1", args: []string{"--tls-min", "1.1"}, setting: "tls-min", says: "1.2 or 1.3"},
		{name: "a proxy that is no network", args: []string{"--trusted-proxies", "10.0.0.1"}, setting: "trusted-proxies", says: "10.0.0.0/8"},
		{name: "a negative delay", args: []string{"--drain-delay", "-1s"}, setting: "drain-delay", says: "0s to 1h"},
		{name: "an endless timeout", args: []string{"--drain-timeout", "61m"}, setting: "drain-timeout", says: "0s to 1h"},
		{name: "an unknown level", args: []string{"--log-level", "loud"}, setting: "log-level", says: "loud"},
		{name: "an unknown format", args: []string{"--log-format", "xml"}, setting: "log-format", says: "xml"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.args, c.environ, c.file)
			var refused *settingError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want a refusal of %s", err, c.setting)
			}
			if refused.name != c.setting || !strings.Contains(refused.problem, c.says) {
				t.Errorf("got %q, want a refusal of %s that says %q", err, c.setting, c.says)
			}
			if got := exitStatus(err); got != exitUsage {
				t.Errorf("exit status %d, want %d", got, exitUsage)
			}
		})
	}
}

func TestSettingsAccepted(t *testing.T) {
	cases := []struct {
		name string
		args []string
	}{
		{name: "loopback by name", args: []string{"--http-addr", "localhost:0"}},
		{name: "another address of loopback", args: []string{"--http-addr", "127.3.2.1:0"}},
		{name: "IPv6 loopback", args: []string{"--http-addr", "[::1]:0"}},
		{name: "every address with TLS", args: []string{"--http-addr", ":443", "--tls-cert", "c", "--tls-key", "k"}},
		{name: "every address, told so", args: []string{"--http-addr", ":80", "--allow-plaintext"}},
		{name: "etcd over TLS with a client's certificate", args: []string{"--etcd", "https://a:2379,https://b:2379/", "--etcd-ca", "ca", "--etcd-cert", "c", "--etcd-key", "k"}},
		{name: "the edges", args: []string{"--partitions", "1024", "--drain-delay", "0", "--drain-timeout", "1h", "--name", strings.Repeat("n", 63)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := load(t, c.args, nil, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// Every setting has a row in the help of `larder serve`, with its environment variable.
func TestServeHelpIsComplete(t *testing.T) {
	status, out, _ := cli(t, "", "serve", "--help")
	if status != exitDone {
		t.Fatalf("exit status %d", status)
	}
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(settings).flags(f)
	f.VisitAll(func(flag *pflag.Flag) {
		if !strings.Contains(out, "--"+flag.Name+" ") || !strings.Contains(out, "["+envName(flag.Name)+"]") {
			t.Errorf("no row for %s and %s", flag.Name, envName(flag.Name))
		}
	})
}

// cli carries out a command line in this process.
func cli(t *testing.T, in string, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e strings.Builder
	status = execute(context.WithoutCancel(t.Context()), args, strings.NewReader(in), &o, &e)
	return status, o.String(), e.String()
}
