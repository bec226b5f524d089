// Package e2e drives the real binary as its users do: it starts servers, speaks HTTP to them, stops and kills
// them, and calls the operator's verbs.
//
// TestMain builds the binary once. Every server listens on a free port and has a data directory of its own, so
// tests run beside each other and beside anything else. An etcd that runs by itself, as in production, is this
// test binary started once more (see etcd), since a machine that has Go has nothing else.
//
// Nothing here asserts a time: a test waits for what must come, with patience as its only bound.
//
// LARDER_E2E_SECONDS is how long the clients of TestManyClients work: 5 unless it says otherwise.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/etcdembed"
)

// patience is how long a test waits for something that must happen. It is no promise of ours: the machine may
// be busy.
const patience = 60 * time.Second

// binary is the larder that is tested.
var binary string

func TestMain(m *testing.M) {
	if dir := os.Getenv("LARDER_E2E_ETCD"); dir != "" {
		if err := serveEtcd(dir, os.Getenv("LARDER_E2E_ETCD_ADDR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Most of what is tested here is waiting, for drains, leases and certificates: more at once than there are
	// cores, unless somebody asked for another number.
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("6"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(build(m.Run))
}

// build makes the binary in a temporary directory for as long as run takes.
func build(run func() int) int {
	dir, err := os.MkdirTemp("", "larder-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "larder")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/larder-cache/larder/cmd/larder").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return run()
}

// serveEtcd runs an etcd until standard input ends, which it does at the latest with the process that started
// this one. Its first line of output is where it listens.
func serveEtcd(dir, addr string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	server, err := etcdembed.Start(context.Background(), etcdembed.Config{Dir: dir, ListenClient: addr, Logger: log})
	if err != nil {
		return err
	}
	defer server.Close()
	fmt.Println(server.Endpoints()[0])
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// A process is a program that a test started. It does not outlive the test.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *text
	stderr *text
	exited chan struct{} // closed when it has ended
	err    error         // how; read after exited
}

// A text is what a process has written so far.
type text struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.buf.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.buf.String()
}

// environment is this process's without what would change the programs under test, and with more.
func environment(more ...string) []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "LARDER_") && !strings.HasPrefix(pair, "XDG_CONFIG_HOME=") && !strings.HasPrefix(pair, "HOME=") {
			env = append(env, pair)
		}
	}
	return append(env, more...)
}

// start begins a process, whose standard input stays open until the test ends.
func start(t *testing.T, program string, args, env []string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), stdout: &text{}, stderr: &text{}, exited: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = environment(env...), t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s wrote:\n%s%s", filepath.Base(program), strings.Join(args, " "), p.stdout, p.stderr)
		}
	})
	return p
}

// kill ends the process at once, as a power cut would, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails if it has ended
	<-p.exited
}

// signal sends a signal.
func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait waits for the process to end and returns its exit status, -1 when a signal ended it.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatal("the process does not end")
		return 0
	}
}

// stop asks the process to end as Ctrl-C does, and fails the test unless it exits with 0.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, os.Interrupt)
	if status := p.wait(t); status != 0 {
		t.Fatalf("exit status %d (%v) after Ctrl-C, want 0", status, p.err)
	}
}

// until waits for ok.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("this does not happen: %s", what)
		}
	}
}

// A server is a larder that serves.
type server struct {
	*process
	url      string
	key      string // of an owner of tenant; empty when nobody made one
	operator string // an operator's key
}

// dev starts `larder dev` and waits for dev.json.
func dev(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	p := start(t, binary, append([]string{"dev", "--data-dir", dir, "--http-addr", "127.0.0.1:0"}, args...), nil)
	var facts struct {
		HTTP          string `json:"http"`
		Tenant        string `json:"tenant"`
		Cache         string `json:"cache"`
		APIKey        string `json:"api_key"`
		OperatorToken string `json:"operator_token"`
	}
	until(t, "dev.json is written", func() bool {
		p.mustRun(t)
		content, err := os.ReadFile(filepath.Join(dir, "dev.json"))
		return err == nil && json.Unmarshal(content, &facts) == nil
	})
	if facts.Tenant != "demo" || facts.Cache != "main" {
		t.Fatalf("dev.json holds %+v", facts)
	}
	return &server{p, facts.HTTP, facts.APIKey, facts.OperatorToken}
}

// serve starts `larder serve` and waits until it serves.
func serve(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	args = append([]string{"serve", "--data-dir", dir, "--http-addr", "127.0.0.1:0", "--name", "node-1", "--log-format", "json", "--drain-delay", "0s"}, args...)
	s := &server{process: start(t, binary, args, nil)}
	until(t, "the node serves", func() bool {
		s.mustRun(t)
		s.url = s.logged("larder serves", "url")
		return s.url != ""
	})
	if content, err := os.ReadFile(filepath.Join(dir, "operator-token")); err == nil {
		s.operator = string(content)
	}
	return s
}

// mustRun fails the test if the process has ended.
func (p *process) mustRun(t *testing.T) {
	t.Helper()
	select {
	case <-p.exited:
		t.Fatalf("the process ended: %v", p.err)
	default:
	}
}

// logged returns a member of the first line of the log with a message, or nothing.
func (p *process) logged(message, member string) string {
	for lines := bufio.NewScanner(strings.NewReader(p.stderr.String())); lines.Scan(); {
		var line map[string]any
		if json.Unmarshal(lines.Bytes(), &line) == nil && line["msg"] == message {
			return fmt.Sprint(line[member])
		}
	}
	return ""
}

// etcd starts an etcd that is a process of its own, on addr, whose port may be 0. It returns its endpoint.
func etcd(t *testing.T, dir, addr string) (*process, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, self, nil, []string{"LARDER_E2E_ETCD=" + dir, "LARDER_E2E_ETCD_ADDR=" + addr})
	endpoint := ""
	until(t, "etcd serves", func() bool {
		p.mustRun(t)
		line, _, complete := strings.Cut(p.stdout.String(), "\n")
		endpoint = line
		return complete
	})
	return p, endpoint
}

// An answer is a response, read whole.
type answer struct {
	status  int
	header  http.Header
	body    string
	request string // method and path, for messages
}

// do makes a request with the owner's key. headers are names and values in turn; a name that comes with "" is
// not sent.
func (s *server) do(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	a, err := s.try(http.DefaultClient, method, path, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// asOperator makes a request with the operator's key.
func (s *server) asOperator(t *testing.T, method, path, body string) answer {
	t.Helper()
	return s.do(t, method, path, body, "Authorization", "Bearer "+s.operator)
}

// try is do for those who expect that there may be no answer.
func (s *server) try(client *http.Client, method, path, body string, headers ...string) (answer, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, s.url+path, content)
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	if strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	response, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(read), method + " " + path}, err
}

// want fails the test unless the answer has this status.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("%s: got %d, want %d: %s", a.request, a.status, status, a.body)
	}
	return a
}

// code fails the test unless the answer is a problem with this status and code.
func (a answer) code(t *testing.T, status int, code string) {
	t.Helper()
	if got := a.want(t, status).get(t, "code"); got != code {
		t.Fatalf("%s: got the code %v, want %s: %s", a.request, got, code, a.body)
	}
}

// get returns a member of the body, which is a JSON object. Members of members have dots: "data.name".
func (a answer) get(t *testing.T, path string) any {
	t.Helper()
	var v any
	d := json.NewDecoder(strings.NewReader(a.body))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v: %s", a.request, err, a.body)
	}
	for name := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			member, ok := in[name]
			if !ok {
				t.Fatalf("%s: no %s: %s", a.request, path, a.body)
			}
			v = member
		case []any:
			i := 0
			if _, err := fmt.Sscan(name, &i); err != nil || i >= len(in) {
				t.Fatalf("%s: no %s: %s", a.request, path, a.body)
			}
			v = in[i]
		default:
			t.Fatalf("%s: no %s: %s", a.request, path, a.body)
		}
	}
	return v
}

// says fails the test unless the body has these members: paths and what they hold, as text, in turn.
func (a answer) says(t *testing.T, members ...string) answer {
	t.Helper()
	for i := 0; i < len(members); i += 2 {
		if got := fmt.Sprint(a.get(t, members[i])); got != members[i+1] {
			t.Errorf("%s: %s is %s, want %s: %s", a.request, members[i], got, members[i+1], a.body)
		}
	}
	return a
}

// endedBySignal reports whether a signal ended the process.
func (p *process) endedBySignal(s syscall.Signal) bool {
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == s
}
