package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// What deployments/ says to `larder serve` is what it can be told: each file is read, and its settings are loaded and checked as
// a node would.

const deployments = "../../deployments"

func readDeployment(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployments, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// loaded are the settings that an environment makes.
func loaded(t *testing.T, args []string, env map[string]string) settings {
	t.Helper()
	var environ []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		environ = append(environ, name+"="+env[name])
	}
	s, err := load(t, args, environ, "")
	if err != nil {
		t.Error(err)
	}
	return s
}

// inTime fails the test unless a node has the time that its settings give it for going.
func inTime(t *testing.T, s settings, grace time.Duration) {
	t.Helper()
	if need := s.drainWait + s.drainDelay + s.drainTimeout; grace <= need {
		t.Errorf("it is killed after %s, and may take %s", grace, need)
	}
}

func TestCompose(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Command     []string
			Environment map[string]string
			Volumes     []string
			Grace       string                       `yaml:"stop_grace_period"`
			DependsOn   map[string]map[string]string `yaml:"depends_on"`
			Healthcheck struct{ Test []string }      `yaml:"healthcheck"`
		}
		Volumes map[string]any
	}
	if err := yaml.Unmarshal(readDeployment(t, "compose.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	zones, certified := map[string]bool{}, file.Services["certs"].Command
	for name, service := range file.Services {
		for _, v := range service.Volumes {
			if volume, _, _ := strings.Cut(v, ":"); !keyed(file.Volumes, volume) {
				t.Errorf("%s mounts %s, which is no volume", name, volume)
			}
		}
		for other := range service.DependsOn {
			if !keyed(file.Services, other) {
				t.Errorf("%s depends on %s, which is no service", name, other)
			}
		}
		if service.Environment["LARDER_NAME"] == "" {
			continue
		}
		s := loaded(t, nil, service.Environment)
		zones[s.zone] = true
		grace, err := time.ParseDuration(service.Grace)
		if err != nil {
			t.Error(err)
		}
		inTime(t, s, grace)
		if s.drainWait == 0 {
			t.Errorf("%s does not wait for the others", name)
		}
		if s.name != name || s.peerAdvertise != name+":7946" || s.peerCert != "/certs/"+name+".crt" || !slices.Contains(certified, name) {
			t.Errorf("%s is called %s, reached at %s, and has the certificate %s of %v", name, s.name, s.peerAdvertise, s.peerCert, certified)
		}
		if check := service.Healthcheck.Test; len(check) < 3 || !isCommand(check[2:]) {
			t.Errorf("%s is checked by %v", name, check)
		}
	}
	if len(zones) != 3 || !isCommand(certified) {
		t.Errorf("zones %v, certificates by %v", zones, certified)
	}
}

func keyed[T any](m map[string]T, key string) bool { _, ok := m[key]; return ok }

// isCommand reports whether words are a command line of ours, with flags that there are.
func isCommand(words []string) bool {
	cmd, rest, err := root().Find(words)
	return err == nil && cmd.Runnable() && len(words) > 0 && cmd.ParseFlags(rest) == nil
}

func TestUnit(t *testing.T) {
	unit := string(readDeployment(t, "larder.service"))
	value := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit has no %s", key)
		}
		return m[1]
	}
	words := strings.Fields(value("ExecStart"))
	if len(words) < 2 || words[1] != "serve" || !isCommand(words[1:]) {
		t.Errorf("it starts %v", words)
	}
	s := loaded(t, []string{"--config", filepath.Join(deployments, "larder.yaml")}, nil)
	grace, err := time.ParseDuration(value("TimeoutStopSec"))
	if err != nil {
		t.Fatal(err)
	}
	inTime(t, s, grace)
	if s.dataDir != "/var/lib/"+value("StateDirectory") {
		t.Errorf("the data is in %s, and the unit makes /var/lib/%s", s.dataDir, value("StateDirectory"))
	}
}

// Every flag in the script that starts a cluster on one machine is one that its commands have.
func TestLocalClusterScript(t *testing.T) {
	known := map[string]bool{}
	each(root(), func(c *cobra.Command) { c.Flags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true }) })
	script := string(readDeployment(t, "local-cluster.sh"))
	all := regexp.MustCompile(`\s--([a-z][a-z-]+)`).FindAllStringSubmatch(script, -1)
	for _, m := range all {
		if !known[m[1]] && m[1] != "version" {
			t.Errorf("there is no flag --%s", m[1])
		}
	}
	if len(all) < 10 {
		t.Errorf("only %d flags were found", len(all))
	}
}

func TestDockerfile(t *testing.T) {
	text := string(readDeployment(t, "Dockerfile"))
	settings := regexp.MustCompile(`LARDER_[A-Z_]+`).FindAllString(strings.ReplaceAll(text, "LARDER_* ", ""), -1)
	for _, name := range settings {
		loaded(t, nil, map[string]string{name: "/var/lib/larder"})
	}
	for _, must := range []string{"\nUSER nonroot", "\nENTRYPOINT [\"/usr/local/bin/larder\"]", "CGO_ENABLED=0", "./cmd/larder"} {
		if !strings.Contains(text, must) {
			t.Errorf("the image has no %q", must)
		}
	}
	if go1 := regexp.MustCompile(`(?m)^ARG GO=(\S+)$`).FindStringSubmatch(text); go1 == nil || !strings.Contains(string(readDeployment(t, "../go.mod")), "\ngo "+go1[1]) {
		t.Errorf("it is built with Go %v, and go.mod wants another", go1)
	}
}

// A chart is rendered with what of Helm's language ours needs. LARDER_HELM=helm compares that with the real one.
type chart struct {
	values map[string]any
	files  *template.Template
}

func openChart(t *testing.T, values string) *chart {
	t.Helper()
	c := &chart{}
	dir := filepath.Join(deployments, "helm/larder")
	for _, text := range []string{string(readDeployment(t, "helm/larder/values.yaml")), values} {
		var more map[string]any
		if err := yaml.Unmarshal([]byte(text), &more); err != nil {
			t.Fatal(err)
		}
		c.values = merged(c.values, more)
	}
	c.files = template.New("").Option("missingkey=error")
	c.files.Funcs(template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var b strings.Builder
			err := c.files.ExecuteTemplate(&b, name, data)
			return b.String(), err
		},
		"toYaml": func(v any) (string, error) {
			text, err := yaml.Marshal(v)
			return strings.TrimSuffix(string(text), "\n"), err
		},
		"nindent": func(n int, s string) string {
			pad := "\n" + strings.Repeat(" ", n)
			return pad + strings.ReplaceAll(s, "\n", pad)
		},
		"quote": func(v any) string { return fmt.Sprintf("%q", fmt.Sprint(v)) },
		"default": func(otherwise, v any) any {
			if v == nil || v == "" {
				return otherwise
			}
			return v
		},
		"trunc":      func(n int, s string) string { return s[:min(n, len(s))] },
		"trimSuffix": func(suffix, s string) string { return strings.TrimSuffix(s, suffix) },
		"contains":   func(part, s string) bool { return strings.Contains(s, part) },
		"join": func(sep string, list []any) string {
			return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(list)), sep), "[]")
		},
		"replace": func(old, new, s string) string { return strings.ReplaceAll(s, old, new) },
		"upper":   strings.ToUpper,
		"first":   func(list []any) any { return list[0] },
		"int":     func(n int) int { return n },
		"until":   func(n int) []int { return make([]int, n) },
		"fail":    func(text string) (string, error) { return "", fmt.Errorf("%s", text) },
		"add": func(numbers ...int) (sum int) {
			for _, n := range numbers {
				sum += n
			}
			return sum
		},
	})
	names, err := filepath.Glob(filepath.Join(dir, "templates/*"))
	if err != nil || len(names) < 5 {
		t.Fatalf("the chart has the templates %v: %v", names, err)
	}
	if _, err := c.files.ParseFiles(names...); err != nil {
		t.Fatal(err)
	}
	return c
}

func merged(into, more map[string]any) map[string]any {
	if into == nil {
		into = map[string]any{}
	}
	for name, v := range more {
		if below, ok := v.(map[string]any); ok {
			old, _ := into[name].(map[string]any)
			v = merged(old, below)
		}
		into[name] = v
	}
	return into
}

// render returns the objects of the chart, by kind and name.
func (c *chart) render() (map[string]any, error) {
	data := map[string]any{
		"Values": c.values, "Release": map[string]any{"Name": "prod", "Namespace": "caches", "Service": "Helm"},
		"Chart": struct{ Name, Version, AppVersion string }{"larder", "0.1.0", "dev"},
	}
	all := &bytes.Buffer{}
	for _, f := range c.files.Templates() {
		if ext := filepath.Ext(f.Name()); ext == ".yaml" || ext == ".txt" {
			out := &bytes.Buffer{}
			if err := f.Execute(out, data); err != nil {
				return nil, err
			}
			if ext == ".yaml" {
				all.WriteString("---\n")
				all.Write(out.Bytes())
			}
		}
	}
	return objects(all.Bytes())
}

func objects(text []byte) (map[string]any, error) {
	all := map[string]any{}
	for _, doc := range bytes.Split(text, []byte("\n---")) {
		var o map[string]any
		if err := yaml.Unmarshal(bytes.TrimPrefix(doc, []byte("---")), &o); err != nil {
			return nil, fmt.Errorf("%w in %s", err, doc)
		}
		if o != nil {
			all[fmt.Sprint(o["kind"], " ", o["metadata"].(map[string]any)["name"])] = o
		}
	}
	return all, nil
}

const leastValues = "zones: [a, b, c]\netcd: {endpoints: [http://e1:2379, http://e2:2379]}\npeers: {secret: peers}\nplaintext: true\n"

// allValues switch on everything that the chart can do.
const allValues = "zones: [a, b, c]\nnodesPerZone: 2\netcd: {endpoints: [https://e1:2379], secret: etcd, clientCertificate: true}\npeers: {secret: peers}\n" +
	"tls: {secret: tls, clientCA: clients}\nrootKey: {secret: root}\nmemcached: {enabled: true}\nsettings: {log-level: debug, memcache-endpoint-ports: 11300-11310}\n" +
	"podAnnotations: {a: b}\npriorityClassName: high\nnodeSelector: {disk: fast}\ntolerations: [{key: x, operator: Exists}]\nimagePullSecrets: [{name: s}]\n" +
	"service: {annotations: {c: d}}\nserviceAccount: {annotations: {e: f}}\npersistence: {storageClass: fast}\n"

func TestChart(t *testing.T) {
	for name, values := range map[string]string{"what is needed": leastValues, "everything": allValues} {
		t.Run(name, func(t *testing.T) {
			all, err := openChart(t, values).render()
			if err != nil {
				t.Fatal(err)
			}
			zones := map[string]bool{}
			for name, o := range all {
				if !strings.HasPrefix(name, "StatefulSet ") {
					continue
				}
				var set statefulSet
				text, err := yaml.Marshal(o)
				if err == nil {
					err = yaml.Unmarshal(text, &set)
				}
				if err != nil || len(set.Spec.Template.Spec.Containers) != 1 {
					t.Fatalf("%s: %v", name, err)
				}
				env := map[string]string{}
				for _, e := range set.Spec.Template.Spec.Containers[0].Env {
					if env[e.Name] = e.Value; e.Name == "LARDER_NAME" {
						env[e.Name] = strings.TrimPrefix(name, "StatefulSet ") + "-0"
					}
				}
				s := loaded(t, nil, env)
				zones[s.zone] = true
				inTime(t, s, time.Duration(set.Spec.Template.Spec.Grace)*time.Second)
				if set.Spec.Template.Spec.Links == nil || *set.Spec.Template.Spec.Links {
					t.Error("variables of services are taken for settings")
				}
				if !strings.Contains(s.peerAdvertise, "."+set.Spec.ServiceName+".") || all["Service "+set.Spec.ServiceName] == nil {
					t.Errorf("nodes are reached at %s, by the service %s", s.peerAdvertise, set.Spec.ServiceName)
				}
			}
			if len(zones) != 3 || all["PodDisruptionBudget prod-larder"] == nil || all["Service prod-larder"] == nil {
				t.Errorf("zones %v, objects %v", zones, slices.Sorted(maps.Keys(all)))
			}
			if helm := os.Getenv("LARDER_HELM"); helm != "" {
				asHelm(t, helm, values, all)
			}
		})
	}
}

// A statefulSet is what the test looks at of one.
type statefulSet struct {
	Spec struct {
		ServiceName string `yaml:"serviceName"`
		Template    struct {
			Spec struct {
				Grace      int   `yaml:"terminationGracePeriodSeconds"`
				Links      *bool `yaml:"enableServiceLinks"`
				Containers []struct {
					Env []struct{ Name, Value string }
				}
			}
		}
	}
}

// asHelm compares what was rendered with what Helm renders.
func asHelm(t *testing.T, helm, values string, want map[string]any) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command(helm, "template", "prod", filepath.Join(deployments, "helm/larder"), "--namespace", "caches", "--kube-version", "1.31.0", "-f", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := objects(text)
	if err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s: Helm renders\n%v, not\n%v", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("Helm renders %d objects, not %d", len(got), len(want))
	}
}

// What is missing or contradicts itself is refused before anything is installed.
func TestChartRefuses(t *testing.T) {
	for says, change := range map[string]string{"zones": "zones: []", "etcd.endpoints": "etcd: {endpoints: []}", "peers.secret": "peers: {secret: ''}", "tls.secret": "plaintext: false", "contradicts": "tls: {secret: tls}"} {
		var values, more map[string]any
		if err := yaml.Unmarshal([]byte(leastValues), &values); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(change), &more); err != nil {
			t.Fatal(err)
		}
		c := openChart(t, "")
		c.values = merged(merged(c.values, values), more)
		if _, err := c.render(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", change, err)
		}
	}
}
