// Command durable measures what durability costs: SETs of 64-byte values from 64 clients, on a durable, an async and a memory cache,
// beside redis-server with appendfsync always, in one run on one disk.
//
// All are asked by redis-benchmark, in turn, round by round, so that the noise of a busy machine falls on all of them; what
// counts are the ratios.
package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var (
	rounds   = flag.Int("rounds", 5, "how often each is measured, in turn")
	requests = flag.Int("requests", 100_000, "requests of a measurement")
	clients  = flag.Int("clients", 64, "clients at a time")
	pipeline = flag.Int("pipeline", 1, "requests that a client sends together")
	binary   = flag.String("larder", "bin/larder", "the server to measure")
	dir      = flag.String("dir", "", "directory on the disk to measure; a temporary one if empty")
)

func main() {
	flag.Parse()
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// A target is what is measured.
type target struct {
	name, addr, user, password string
	rates                      []float64 // requests a second
	p50, p99                   []float64 // milliseconds
}

func run() error {
	at, err := os.MkdirTemp(*dir, "larder-bench-durable-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(at)
	redis, stop, err := startRedis(at)
	if err != nil {
		return err
	}
	defer stop()
	targets, stop, err := startLarder(at)
	if err != nil {
		return err
	}
	defer stop()
	targets = append([]*target{redis}, targets...)
	for range *rounds {
		for _, t := range targets {
			if err := t.measure(); err != nil {
				return err
			}
		}
	}
	fmt.Printf("%-36s %10s %8s %8s\n", "SET, "+strconv.Itoa(*clients)+" clients", "a second", "p50 ms", "p99 ms")
	for _, t := range targets {
		fmt.Printf("%-36s %10.0f %8.2f %8.2f\n", t.name, median(t.rates), median(t.p50), median(t.p99))
	}
	durable, async, memory := median(targets[1].rates), median(targets[2].rates), median(targets[3].rates)
	fmt.Printf("\ndurable / redis-server: %.2f (bar: 0.8)\nasync / memory: %.2f (bar: 0.9)\n", durable/median(redis.rates), async/memory)
	return nil
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

func start(cmd *exec.Cmd) (stop func(), err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive us
	cmd.Stderr = os.Stderr
	return func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }, cmd.Start()
}

func startRedis(dir string) (*target, func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		return nil, nil, err
	}
	stop, err := start(exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir", dir, "--requirepass", "secret"))
	return &target{name: "redis-server, appendfsync always", addr: "127.0.0.1:" + port, password: "secret"}, stop, err
}

func startLarder(dir string) (list []*target, stop func(), err error) {
	data := filepath.Join(dir, "larder")
	if stop, err = start(exec.Command(*binary, "dev", "--data-dir", data, "--http-addr", "127.0.0.1:0", "--redis-addr", "127.0.0.1:0", "--memcache-addr", "")); err != nil {
		return nil, nil, err
	}
	var facts struct {
		HTTP, Redis string
		APIKey      string `json:"api_key"`
	}
	for tries := 0; ; tries++ {
		text, err := os.ReadFile(filepath.Join(data, "dev.json"))
		if err == nil {
			if err := json.Unmarshal(text, &facts); err != nil {
				return nil, stop, err
			}
			break
		}
		if tries == 600 {
			return nil, stop, fmt.Errorf("larder did not start: %w", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, class := range []string{"durable", "async", "memory"} {
		body := fmt.Sprintf(`{"name":%q,"durability":%q}`, class, class)
		r, err := http.NewRequest(http.MethodPost, facts.HTTP+"/v1/caches", strings.NewReader(body))
		if err != nil {
			return nil, stop, err
		}
		r.Header.Set("Authorization", "Bearer "+facts.APIKey)
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil, stop, err
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusCreated {
			return nil, stop, errors.Join(fmt.Errorf("making a cache: %s", answer.Status), err)
		}
		list = append(list, &target{name: "larder, " + class, addr: facts.Redis, user: class, password: facts.APIKey})
	}
	return list, stop, nil
}

func (t *target) measure() error {
	host, port, err := net.SplitHostPort(t.addr)
	if err != nil {
		return err
	}
	args := []string{"-h", host, "-p", port, "-a", t.password, "-t", "set", "-n", strconv.Itoa(*requests), "-c", strconv.Itoa(*clients), "-P", strconv.Itoa(*pipeline), "-d", "64", "-r", "100000", "--csv"}
	if t.user != "" {
		args = append(args, "--user", t.user)
	}
	out, err := exec.Command("redis-benchmark", args...).Output()
	if err != nil {
		return fmt.Errorf("redis-benchmark: %w", err)
	}
	lines, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil || len(lines) < 2 || len(lines[1]) < 7 {
		return errors.Join(fmt.Errorf("redis-benchmark wrote %q", out), err)
	}
	for _, f := range []struct {
		to *[]float64
		at int
	}{{&t.rates, 1}, {&t.p50, 4}, {&t.p99, 6}} {
		n, bad := strconv.ParseFloat(lines[1][f.at], 64)
		err = cmp.Or(err, bad)
		*f.to = append(*f.to, n)
	}
	return err
}
