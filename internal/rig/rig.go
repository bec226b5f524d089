// Package rig starts real clusters for tests and measurements: an etcd, and processes of `larder serve`, on loopback, or each
// in a network namespace of its own, between which a Switch carries the packets and can lose, delay and cut.
//
// Whatever a rig starts ends with the process that started it, however that ends. Start with Start.
package rig

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config says what to start.
type Config struct {
	Larder     string // the program
	Dir        string // for everything; made if missing
	Nodes      int
	Zones      int // nodes stand in them in turn; 0 for one each
	Partitions int
	Caches     int      // c1, c2 … of one tenant
	Durability string   // of these; "" for memory
	Args       []string // more for each node
	Seed       uint64   // of the switch's dice
}

// A Rig is a cluster.
type Rig struct {
	Nodes  []*Node
	Etcd   *Process
	Switch *Switch // nil on loopback
	Key    string  // of the owner of the caches
	cfg    Config
	client *http.Client
	token  string // an operator's
	etcdAt string
	relay  *Process
}

// A Node is one `larder serve`.
type Node struct {
	*Process
	Name  string
	Addr  netip.Addr
	HTTP  string // host:port
	Redis string

	rig     *Rig
	gateway bool // it hosts no data
}

// A Process can be started again when it has ended.
type Process struct {
	program string
	args    []string
	env     []string
	log     string

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	paused bool
	began  time.Time // last
}

// Start begins the process, unless it runs. before is put in front of its command: a program that starts programs.
func (p *Process) Start(before ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return nil
	}
	args := append(append(append([]string(nil), before...), p.program), p.args...)
	log, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(environment(), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	began, started, exited := time.Now(), make(chan error, 1), make(chan struct{})
	go func() { // Pdeathsig is of the thread that starts it: this one stays for as long as the process
		lockThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.cmd, p.exited, p.paused, p.began = cmd, exited, false, began
	return nil
}

// environment is this process's without what would change the programs under test.
func environment() (env []string) {
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "LARDER_") {
			env = append(env, pair)
		}
	}
	return env
}

// Use has the process be of another program from its next start on.
func (p *Process) Use(program string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.program = program
}

// Runs reports whether the process runs.
func (p *Process) Runs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// started is when the process began.
func (p *Process) started() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.began
}

// Pid is the process's number, 0 when it does not run.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s) // it may have ended
	}
}

// Kill ends the process at once, and returns when it is gone.
func (p *Process) Kill() { _ = p.end(syscall.SIGKILL, time.Minute) }

// Stop asks the process to end.
func (p *Process) Stop(within time.Duration) error { return p.end(syscall.SIGTERM, within) }

func (p *Process) end(s syscall.Signal, within time.Duration) error {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(s) // it may have ended
	var err error
	select {
	case <-exited:
		if s == syscall.SIGTERM && cmd.ProcessState.ExitCode() != 0 {
			err = fmt.Errorf("after SIGTERM it ended with %v", cmd.ProcessState)
		}
	case <-time.After(within):
		_ = cmd.Process.Kill()
		<-exited
		err = fmt.Errorf("it did not end within %v", within)
	}
	p.mu.Lock()
	p.cmd = nil
	p.mu.Unlock()
	return err
}

// etcdName is the namespace of etcd.
const etcdName = "etcd"

// Start starts a cluster and waits until all its replicas vote. In a process that Isolate has given a network each
// node gets a namespace.
func Start(ctx context.Context, cfg Config) (*Rig, error) {
	r := &Rig{cfg: cfg, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	if err := r.start(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Rig) start(ctx context.Context) error {
	if err := os.MkdirAll(r.cfg.Dir, 0o755); err != nil {
		return err
	}
	if Isolated() {
		if err := r.wire(); err != nil {
			return err
		}
	}
	if err := r.startEtcd(ctx); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	for range r.cfg.Nodes {
		if _, err := r.Add(ctx); err != nil {
			return err
		}
	}
	if err := r.populate(ctx); err != nil {
		return err
	}
	return r.Healthy(ctx)
}

// Add starts one node more.
func (r *Rig) Add(ctx context.Context, args ...string) (*Node, error) {
	n, err := r.node(len(r.Nodes))
	if err != nil {
		return nil, err
	}
	n.args = append(n.args, args...)
	n.gateway = slices.Contains(args, "gateway")
	certs := filepath.Join(r.cfg.Dir, "certs")
	if out, err := exec.Command(r.cfg.Larder, "cluster", "certs", "--dir", certs, n.Name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("larder cluster certs: %w: %s", err, out)
	}
	if r.Switch != nil {
		if err := r.addSpace(n.Name, n.Addr); err != nil {
			return nil, err
		}
	}
	r.Nodes = append(r.Nodes, n)
	if err := n.Again(); err != nil {
		return nil, err
	}
	return n, n.Ready(ctx)
}

// wire makes the namespaces and the switch.
func (r *Rig) wire() error {
	if err := prepare(); err != nil {
		return err
	}
	r.Switch = newSwitch(r.cfg.Seed)
	if err := r.Switch.open("lan", address(1)); err != nil {
		return err
	}
	if err := up("", "lan", address(1)); err != nil {
		return err
	}
	return r.addSpace(etcdName, address(2))
}

// addSpace makes a namespace with a way to the switch.
func (r *Rig) addSpace(name string, addr netip.Addr) error {
	if err := ip("netns add " + name); err != nil {
		return err
	}
	if err := r.Switch.open("to-"+name, addr); err != nil {
		return err
	}
	if err := ip("link set to-" + name + " netns " + name); err != nil {
		return err
	}
	if err := ip("-n " + name + " link set lo up"); err != nil {
		return err
	}
	return up("-n "+name, "to-"+name, addr)
}

func up(in, device string, addr netip.Addr) error {
	return errors.Join(
		ip(fmt.Sprintf("%s link set %s mtu %d txqueuelen 10000 up", in, device, mtu)),
		ip(fmt.Sprintf("%s addr add %s/24 dev %s", in, addr, device)))
}

// space is what starts a program in a namespace.
func (r *Rig) space(name string) []string {
	if r.Switch == nil {
		return nil
	}
	return []string{"ip", "netns", "exec", name}
}

// EtcdAddr is where etcd is on the switch.
func (r *Rig) EtcdAddr() netip.Addr { return address(2) }

func (r *Rig) startEtcd(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	local := fmt.Sprint("127.0.0.1:", port)
	r.Etcd = &Process{program: r.cfg.Larder, args: []string{"cluster", "etcd", "--data-dir", filepath.Join(r.cfg.Dir, "etcd"), "--listen", local}, log: filepath.Join(r.cfg.Dir, "etcd.log")}
	r.etcdAt = local
	if err := r.RestartEtcd(); err != nil {
		return err
	}
	if r.Switch != nil {
		r.etcdAt = fmt.Sprint(address(2), ":", port)
		self, err := os.Executable()
		if err != nil {
			return err
		}
		r.relay = &Process{program: self, env: []string{relayed + "=" + r.etcdAt + " " + local}, log: filepath.Join(r.cfg.Dir, "relay.log")}
		if err := r.relay.Start(r.space(etcdName)...); err != nil {
			return err
		}
	}
	return wait(ctx, "etcd serves", func() error {
		text, err := os.ReadFile(r.Etcd.log)
		if err == nil && !bytes.Contains(text, []byte("http://")) {
			err = errors.New("it has not said where")
		}
		return err
	})
}

// RestartEtcd starts etcd, if it does not run.
func (r *Rig) RestartEtcd() error { return r.Etcd.Start(r.space(etcdName)...) }

// node describes the ith node.
func (r *Rig) node(i int) (*Node, error) {
	name := fmt.Sprint("n", i+1)
	zone := i
	if r.cfg.Zones > 0 {
		zone %= r.cfg.Zones
	}
	n := &Node{Name: name, Addr: address(11 + i), rig: r}
	ports, host := [3]int{8080, 6379, 7946}, n.Addr.String()
	if r.Switch == nil {
		host = "127.0.0.1"
		for at := range ports {
			var err error
			if ports[at], err = freePort(); err != nil {
				return nil, err
			}
		}
	}
	n.HTTP, n.Redis = fmt.Sprint(host, ":", ports[0]), fmt.Sprint(host, ":", ports[1])
	certs := filepath.Join(r.cfg.Dir, "certs")
	args := []string{"serve", "--name", name, "--zone", fmt.Sprint("z", zone+1), "--data-dir", filepath.Join(r.cfg.Dir, name), "--etcd", "http://" + r.etcdAt,
		"--partitions", fmt.Sprint(max(r.cfg.Partitions, 1)), "--http-addr", n.HTTP, "--redis-addr", n.Redis, "--peer-addr", fmt.Sprint(host, ":", ports[2]),
		"--peer-ca", filepath.Join(certs, "ca.crt"), "--peer-cert", filepath.Join(certs, name+".crt"), "--peer-key", filepath.Join(certs, name+".key"),
		"--operator-token-file", filepath.Join(r.cfg.Dir, "operator-token"), "--drain-delay", "500ms", "--drain-timeout", "20s", "--log-format", "json", "--allow-plaintext"}
	n.Process = &Process{program: r.cfg.Larder, args: append(args, r.cfg.Args...), log: filepath.Join(r.cfg.Dir, name+".log")}
	return n, nil
}

// Again starts the node, if it does not run. before is put in front of its command.
func (n *Node) Again(before ...string) error {
	return n.Start(append(n.rig.space(n.Name), before...)...)
}

// Ready waits until the node serves.
func (n *Node) Ready(ctx context.Context) error {
	return wait(ctx, n.Name+" is ready", func() error {
		if !n.Runs() {
			return errors.New("it has ended")
		}
		status, _, err := n.rig.ask(n, http.MethodGet, "/readyz", "", "")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}

// populate makes the tenant and its caches.
func (r *Rig) populate(ctx context.Context) error {
	token, err := os.ReadFile(filepath.Join(r.cfg.Dir, "operator-token"))
	if err != nil {
		return err
	}
	r.token = string(token)
	var tenant struct {
		APIKey string `json:"api_key"`
	}
	status, body, err := r.ask(r.Nodes[0], http.MethodPost, "/v1/tenants", r.token, `{"name":"acme"}`)
	if err != nil || status != http.StatusCreated {
		return fmt.Errorf("making a tenant: %d %s: %w", status, body, err)
	}
	if err := json.Unmarshal(body, &tenant); err != nil {
		return err
	}
	r.Key = tenant.APIKey
	for i := range r.cfg.Caches {
		status, body, err := r.ask(r.Nodes[0], http.MethodPost, "/v1/caches", r.Key, fmt.Sprintf(`{"name":"c%d","durability":%q}`, i+1, cmp.Or(r.cfg.Durability, "memory")))
		if err != nil || status != http.StatusCreated {
			return fmt.Errorf("making a cache: %d %s: %w", status, body, err)
		}
	}
	return wait(ctx, "every node knows the caches", func() error {
		for _, n := range r.Nodes {
			if status, body, err := r.ask(n, http.MethodPut, fmt.Sprintf("/v1/caches/c%d/kv/probe", max(r.cfg.Caches, 1)), r.Key, "v"); err != nil || status/100 != 2 {
				return fmt.Errorf("%d %s: %w", status, body, err)
			}
		}
		return nil
	})
}

// ask makes a request of a node.
func (r *Rig) ask(n *Node, method, path, key, body string) (int, []byte, error) {
	req, err := http.NewRequest(method, "http://"+n.HTTP+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if strings.HasPrefix(body, "{") {
		req.Header.Set("Content-Type", "application/json")
	}
	answer, err := r.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

// Operate makes an operator's request of any node that answers.
func (r *Rig) Operate(method, path, body string) ([]byte, error) {
	return r.anywhere(method, path, r.token, body)
}

// Own makes a request of the caches' owner of any node that answers.
func (r *Rig) Own(method, path, body string) ([]byte, error) {
	return r.anywhere(method, path, r.Key, body)
}

func (r *Rig) anywhere(method, path, key, body string) ([]byte, error) {
	last := errors.New("no node runs")
	for _, n := range r.Nodes {
		if !n.Runs() {
			continue
		}
		status, text, err := r.ask(n, method, path, key, body)
		if err == nil && status/100 == 2 {
			return text, nil
		}
		last = fmt.Errorf("%s %s: %d %s: %w", method, path, status, text, err)
	}
	return nil, last
}

// A View is the cluster as a node describes it.
type View struct {
	Nodes []struct {
		Name, State string
		StartedAt   *time.Time `json:"started_at"`
	}
	Partitions []struct {
		ID         int
		Replicas   []string
		Leader     string
		Voters     int
		Generation int
		Bytes      int64
	}
}

// View asks for the cluster's description.
func (r *Rig) View() (*View, error) {
	text, err := r.Operate(http.MethodGet, "/v1/cluster", "")
	if err != nil {
		return nil, err
	}
	v := &View{}
	return v, json.Unmarshal(text, v)
}

// Healthy waits until every node is up, every partition has all its voters, and a write to each cache is acknowledged by
// each node.
func (r *Rig) Healthy(ctx context.Context) error {
	return wait(ctx, "the cluster is healthy", func() error {
		v, err := r.View()
		if err != nil {
			return err
		}
		up, hosts := 0, 0
		for _, n := range r.Nodes {
			if !n.gateway {
				hosts++
			}
		}
		for _, n := range v.Nodes {
			at := slices.IndexFunc(r.Nodes, func(of *Node) bool { return of.Name == n.Name })
			if at < 0 || n.State == "gone" || n.StartedAt == nil {
				continue
			}
			if n.StartedAt.Before(r.Nodes[at].started().Truncate(time.Millisecond)) { // whoever did would count for replicas that are gone
				return fmt.Errorf("the cluster takes %s for the process that it was before", n.Name)
			}
			up++
		}
		if up != len(r.Nodes) {
			return fmt.Errorf("%d of %d nodes are up", up, len(r.Nodes))
		}
		for _, p := range v.Partitions {
			if want := min(3, hosts-(hosts+1)%2); p.Voters != want || p.Leader == "" {
				return fmt.Errorf("partition %d has %d voters of %d on %v, leader %q", p.ID, p.Voters, want, p.Replicas, p.Leader)
			}
		}
		for _, n := range r.Nodes {
			for i := range r.cfg.Caches {
				if status, body, err := r.ask(n, http.MethodPut, fmt.Sprintf("/v1/caches/c%d/kv/probe", i+1), r.Key, "v"); err != nil || status/100 != 2 {
					return fmt.Errorf("a write through %s: %d %s: %w", n.Name, status, body, err)
				}
			}
		}
		return nil
	})
}

// Close ends everything.
func (r *Rig) Close() {
	for _, n := range r.Nodes {
		n.Kill()
	}
	for _, p := range []*Process{r.Etcd, r.relay} {
		if p != nil {
			p.Kill()
		}
	}
	if r.Switch != nil {
		r.Switch.close()
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// wait tries until what succeeds, or ctx ends: then its last error says what is missing.
func wait(ctx context.Context, what string, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("this does not happen: %s: %w", what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
