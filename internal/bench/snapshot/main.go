// Command snapshot compares a snapshot and its restoration with what redis-server does with the same data: BGSAVE, and loading the file when
// it starts. It measures SETs beside a snapshot as well. Both servers run on this machine, one after the other; ours encrypts, checks and reads
// back what it writes.
//
//	go run ./internal/bench/snapshot -items 5000000
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	items  = flag.Int("items", 5_000_000, "how many keys of 16 bytes with values of 64 bytes")
	larder = flag.String("larder", "bin/larder", "the program")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "bench-snapshot")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	theirs, err := measureRedis(dir)
	if err != nil {
		return fmt.Errorf("redis-server: %w", err)
	}
	ours, err := measureLarder(dir)
	if err != nil {
		return fmt.Errorf("larder: %w", err)
	}
	line := func(what string, theirs, ours time.Duration) {
		fmt.Printf("%-22s redis-server %6.2f s, larder %6.2f s: %.2f × its throughput\n", what, theirs.Seconds(), ours.Seconds(), theirs.Seconds()/ours.Seconds())
	}
	line("write", theirs.write, ours.write)
	line("write and verify", theirs.write, ours.made)
	line("load", theirs.restored, ours.restored)
	fmt.Printf("%-22s larder %6.2f s\n", "branch", ours.branched.Seconds())
	for _, s := range []struct {
		name string
		n    numbers
	}{{"redis-server", theirs}, {"larder", ours}} {
		fmt.Printf("%-22s %s: %v without, %v during a snapshot: %.2f ×\n", "p99 of SET", s.name, s.n.calm, s.n.busy, float64(s.n.busy)/float64(s.n.calm))
	}
	return nil
}

// fill sets all keys over one connection, pipelined.
func fill(conn net.Conn) error {
	done := make(chan error, 1)
	go func() {
		in := bufio.NewReaderSize(conn, 1<<20)
		for range *items {
			line, err := in.ReadSlice('\n')
			if err == nil && line[0] != '+' {
				err = fmt.Errorf("%s", line)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	out := bufio.NewWriterSize(conn, 1<<20)
	value := strings.Repeat("v", 48)
	for i := range *items {
		fmt.Fprintf(out, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$64\r\n%016d%s\r\n", i, i, value)
	}
	return errors.Join(out.Flush(), <-done)
}

func dial(addr string) (conn net.Conn, err error) {
	for range 600 {
		if conn, err = net.Dial("tcp", addr); err == nil {
			return conn, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, err
}

// ask sends a command in line and reads one line or bulk of an answer.
func ask(conn net.Conn, command string) (string, error) {
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		return "", err
	}
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	if err != nil || line[0] != '$' {
		return strings.TrimSpace(line), err
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if err != nil {
		return "", err
	}
	body := make([]byte, n+2)
	_, err = io.ReadFull(in, body)
	return string(body), err
}

// measureRedis has redis-server save, and load what it has saved.
func measureRedis(dir string) (n numbers, err error) {
	const addr = "127.0.0.1:16399"
	start := func() (*exec.Cmd, net.Conn, error) {
		cmd := exec.Command("redis-server", "--port", "16399", "--dir", dir, "--save", "", "--appendonly", "no")
		if err := cmd.Start(); err != nil {
			return nil, nil, err
		}
		conn, err := dial(addr)
		return cmd, conn, err
	}
	cmd, conn, err := start()
	if err != nil {
		return n, err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if err := fill(conn); err != nil {
		return n, err
	}
	if n.calm, err = p99(conn, 3*time.Second, nil); err != nil {
		return n, err
	}
	other, err := dial(addr)
	if err != nil {
		return n, err
	}
	save := func() error {
		begun := time.Now()
		if _, err := ask(other, "BGSAVE"); err != nil {
			return err
		}
		for {
			info, err := ask(other, "INFO persistence")
			if err != nil {
				return err
			}
			if strings.Contains(info, "rdb_bgsave_in_progress:0") {
				n.write = time.Since(begun)
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	stop := make(chan error, 1)
	go func() { stop <- save() }()
	if n.busy, err = p99(conn, time.Hour, stop); err != nil {
		return n, err
	}
	if err := save(); err != nil { // with nothing beside it, as ours
		return n, err
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	begun := time.Now()
	if cmd, conn, err = start(); err != nil {
		return n, err
	}
	for {
		answer, err := ask(conn, "DBSIZE")
		if err != nil {
			return n, err
		}
		if answer == fmt.Sprint(":", *items) {
			n.restored = time.Since(begun)
			return n, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

type numbers struct {
	write, made, restored, branched time.Duration
	calm, busy                      time.Duration
}

// An api is the server's, with a key.
type api struct{ url, key string }

func (a api) do(method, path, body string) (map[string]any, error) {
	req, err := http.NewRequest(method, a.url+path, bytes.NewBufferString(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+a.key)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %d %s: %w", method, path, answer.StatusCode, text, err)
	}
	out := map[string]any{}
	return out, json.Unmarshal(text, &out)
}

// until polls until a member has a value, and returns when another one first had one that is not wanted any more.
func (a api) until(path, state string, watch func(map[string]any)) error {
	for {
		o, err := a.do("GET", path, "")
		if err != nil {
			return err
		}
		if watch != nil {
			watch(o)
		}
		switch o["state"] {
		case state:
			return nil
		case "failed":
			return fmt.Errorf("%s: %v", path, o["problem"])
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func measureLarder(dir string) (n numbers, err error) {
	const addr, redis = "127.0.0.1:16398", "127.0.0.1:16397"
	data := filepath.Join(dir, "larder")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return n, err
	}
	cmd := exec.Command(*larder, "dev", "--data-dir", data, "--http-addr", addr, "--redis-addr", redis, "--memcache-addr", "")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return n, err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	conn, err := dial(redis)
	if err != nil {
		return n, err
	}
	key, err := os.ReadFile(filepath.Join(data, "demo-key"))
	for range 600 { // it is written when all listens
		if err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
		key, err = os.ReadFile(filepath.Join(data, "demo-key"))
	}
	if err != nil {
		return n, err
	}
	a := api{"http://" + addr, strings.TrimSpace(string(key))}
	const main = "/v1/caches/main"
	if _, err := a.do("PATCH", main, `{"memory_limit_bytes":8589934592}`); err != nil {
		return n, err
	}
	if answer, err := ask(conn, "AUTH main "+a.key); err != nil || answer != "+OK" {
		return n, fmt.Errorf("AUTH: %s: %w", answer, err)
	}
	if err := fill(conn); err != nil {
		return n, err
	}
	if n.calm, err = p99(conn, 3*time.Second, nil); err != nil {
		return n, err
	}
	var id string
	begun := time.Now()
	snapshot := func() error {
		o, err := a.do("POST", main+"/snapshots", `{}`)
		if err != nil {
			return err
		}
		begun = time.Now()
		id = o["id"].(string)
		return a.until(main+"/snapshots/"+id, "available", func(o map[string]any) {
			if p, ok := o["progress"].(map[string]any); ok && p["phase"] == "verifying" && n.write == 0 {
				n.write = time.Since(begun)
			}
		})
	}
	if err := snapshot(); err != nil {
		return n, err
	}
	n.made = time.Since(begun)
	stop := make(chan error, 1)
	go func() { stop <- snapshot() }()
	if n.busy, err = p99(conn, time.Hour, stop); err != nil {
		return n, err
	}
	begun = time.Now()
	if _, err := a.do("POST", main+"/snapshots/"+id+"/restore", `{"into":"copy","settings":{"memory_limit_bytes":8589934592}}`); err != nil {
		return n, err
	}
	if err := a.until("/v1/caches/copy/restoration", "done", nil); err != nil {
		return n, err
	}
	n.restored = time.Since(begun)
	begun = time.Now()
	if _, err := a.do("POST", main+"/branches", `{"name":"twig"}`); err != nil {
		return n, err
	}
	err = a.until("/v1/caches/twig/restoration", "done", nil)
	n.branched = time.Since(begun)
	return n, err
}

// p99 sets keys one after the other for a while, or until stop says something, and returns the time that 99 of 100 took at the most.
func p99(conn net.Conn, atMost time.Duration, stop <-chan error) (time.Duration, error) {
	var took []time.Duration
	in := bufio.NewReader(conn)
	for i, end := 0, time.Now().Add(atMost); time.Now().Before(end); i++ {
		select {
		case err := <-stop:
			if err != nil {
				return 0, err
			}
			end = time.Time{}
		default:
		}
		begun := time.Now()
		if _, err := fmt.Fprintf(conn, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$64\r\n%064d\r\n", i*7919%*items, i); err != nil {
			return 0, err
		}
		if _, err := in.ReadSlice('\n'); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun))
		time.Sleep(200 * time.Microsecond) // a tenth of what the server can take, so that its queue is not what is measured
	}
	slices.Sort(took)
	return took[len(took)*99/100].Round(time.Microsecond), nil
}
