// Command rest measures ["GET","k"] over the REST dialect beside the same through Webdis before a redis-server: requests a
// second, and CPU time per request of all server processes, in turn, in one run, as ratios.
//
// It starts bin/larder (make build), redis-server and webdis, and loads them with wrk; all but the first must be installed.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	rounds      = flag.Int("rounds", 5, "how often each is measured, in turn")
	seconds     = flag.Int("seconds", 4, "how long each measurement takes")
	connections = flag.Int("connections", 64, "concurrent connections")
	binary      = flag.String("larder", "bin/larder", "the server to measure")
)

// A target is what is measured: the processes that serve it, and what wrk is told to ask for it.
type target struct {
	name  string
	pids  []int
	wrk   []string
	costs []float64 // CPU microseconds per request, one for each round
	rates []float64 // requests a second
}

func main() {
	flag.Parse()
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "larder-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var running []*exec.Cmd
	defer func() {
		for _, cmd := range slices.Backward(running) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // says that it was killed
		}
	}()
	start := func(name string, args ...string) (int, error) {
		cmd := exec.Command(name, args...)
		if cmd.Dir = dir; name != "webdis" { // which has much to say when its clients leave
			cmd.Stderr = os.Stderr
		}
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		running = append(running, cmd)
		return cmd.Process.Pid, nil
	}
	larder, err := startLarder(dir, start)
	if err != nil {
		return err
	}
	webdis, err := startWebdis(dir, start)
	if err != nil {
		return err
	}
	targets := []*target{larder, webdis}
	fmt.Printf("GET of a 64-byte value, %d connections, loaded by wrk, %d rounds of %d s in turn\n\n", *connections, *rounds, *seconds)
	for range *rounds {
		for _, t := range targets {
			if err := t.measure(); err != nil {
				return err
			}
		}
	}
	fmt.Printf("%-8s %16s %16s\n", "", "CPU µs/request", "requests/s")
	for _, t := range targets {
		fmt.Printf("%-8s %16.2f %16.0f\n", t.name, median(t.costs), median(t.rates))
	}
	fmt.Printf("\nlarder to webdis with redis-server: requests a second %.2f, CPU per request %.2f\n", median(larder.rates)/median(webdis.rates), median(larder.costs)/median(webdis.costs))
	return nil
}

var value = strings.Repeat("v", 64)

func startLarder(dir string, start func(string, ...string) (int, error)) (*target, error) {
	path, err := filepath.Abs(*binary)
	if err != nil {
		return nil, err
	}
	pid, err := start(path, "dev", "--data-dir", dir, "--http-addr", "127.0.0.1:0", "--redis-addr", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var facts struct {
		REST   string
		APIKey string `json:"api_key"`
	}
	err = eventually(func() error {
		text, err := os.ReadFile(filepath.Join(dir, "dev.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &facts)
	})
	if err != nil {
		return nil, err
	}
	script := filepath.Join(dir, "rest.lua")
	text := fmt.Sprintf("wrk.method='POST'; wrk.body='[\"GET\",\"k\"]'; wrk.headers['Content-Type']='application/json'; wrk.headers['Authorization']='Bearer %s'\n", facts.APIKey)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return nil, err
	}
	t := &target{name: "larder", pids: []int{pid}, wrk: []string{"-s", script, facts.REST}}
	return t, expect("POST", facts.REST, `["SET","k","`+value+`"]`, facts.APIKey, `{"result":"OK"}`)
}

func startWebdis(dir string, start func(string, ...string) (int, error)) (*target, error) {
	redis, web := freePort(), freePort()
	redisPID, err := start("redis-server", "--port", strconv.Itoa(redis), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning")
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"redis_host": "127.0.0.1", "redis_port": redis, "http_host": "127.0.0.1", "http_port": web, "threads": 4, "pool_size": 20,
		"daemonize": false, "websockets": false, "database": 0, "verbosity": 0, "logfile": filepath.Join(dir, "webdis.log"),
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "webdis.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	time.Sleep(time.Second) // webdis gives up when redis-server is not there yet
	webPID, err := start("webdis", file)
	if err != nil {
		return nil, err
	}
	url := "http://127.0.0.1:" + strconv.Itoa(web)
	t := &target{name: "webdis", pids: []int{redisPID, webPID}, wrk: []string{url + "/GET/k"}}
	return t, eventually(func() error { return expect("GET", url+"/SET/k/"+value, "", "", `{"SET":[true,"OK"]}`) })
}

// expect makes a request and compares its answer.
func expect(method, url, body, key, want string) error {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err != nil || string(got) != want {
		return fmt.Errorf("%s answered %s: %s %w", url, response.Status, got, err)
	}
	return nil
}

func eventually(try func() error) (err error) {
	for range 300 {
		if err = try(); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// freePort is a port that nobody listened on a moment ago.
func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkBad      = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
)

// measure loads a target for a while and notes what a request cost.
func (t *target) measure() error {
	before, err := cpu(t.pids)
	if err != nil {
		return err
	}
	began := time.Now()
	out, err := exec.Command("wrk", append([]string{"-t2", "-c", strconv.Itoa(*connections), "-d", strconv.Itoa(*seconds) + "s"}, t.wrk...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("wrk: %w: %s", err, out)
	}
	took := time.Since(began)
	after, err := cpu(t.pids)
	if err != nil {
		return err
	}
	found := wrkRequests.FindSubmatch(out)
	if found == nil || wrkBad.Match(out) {
		return fmt.Errorf("%s: wrk said: %s", t.name, out)
	}
	requests, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		return err
	}
	t.costs = append(t.costs, float64((after-before).Microseconds())/requests)
	t.rates = append(t.rates, requests/took.Seconds())
	return nil
}

// cpu is the CPU time that processes have used, in user and kernel, as Linux accounts it.
func cpu(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
		for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * time.Second / 100
		}
	}
	return sum, nil
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
