// Command http measures what a GET of a 64-byte value costs the server, beside a bare echo handler that answers
// the same bytes: CPU time per request of both server processes, in turn, in one run, as a ratio.
//
// It starts bin/larder (make build) and itself as the bare server, and loads them with wrk where that is
// installed, else with a loader of its own. CPU time is the kernel's account of the server process.
package main

import (
	"bufio"
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
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
)

var (
	bare        = flag.Bool("bare", false, "be the bare server (used by this program itself)")
	rounds      = flag.Int("rounds", 7, "how often each server is measured, in turn")
	seconds     = flag.Int("seconds", 3, "how long each measurement loads its server")
	connections = flag.Int("connections", 64, "concurrent connections")
	binary      = flag.String("larder", "bin/larder", "the server to measure")
)

var value = []byte(strings.Repeat("v", 64))

func main() {
	flag.Parse()
	log.SetFlags(0)
	if *bare {
		serveBare()
		return
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// serveBare answers every GET with the value, through echo and nothing else.
func serveBare() {
	e := echo.New()
	e.GET("/v1/caches/:cache/kv/:key", func(c echo.Context) error {
		return c.Blob(http.StatusOK, "application/octet-stream", value)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("http://" + l.Addr().String())
	log.Fatal(http.Serve(l, e))
}

// A server is a process under measurement.
type server struct {
	cmd   *exec.Cmd
	name  string
	url   string
	key   string
	pid   int
	costs []float64 // CPU microseconds per request, one for each round
	rates []float64 // requests a second
}

func run() error {
	plain, err := startBare()
	if err != nil {
		return err
	}
	defer plain.stop()
	dir, err := os.MkdirTemp("", "larder-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	full, err := startLarder(dir)
	if err != nil {
		return err
	}
	defer full.stop()
	plain.key = full.key // the same request to both
	loader := "a loader of our own"
	if _, err := exec.LookPath("wrk"); err == nil {
		loader = "wrk"
	}
	fmt.Printf("GET of a 64-byte value, %d connections, loaded by %s, %d rounds of %d s in turn\n\n", *connections, loader, *rounds, *seconds)
	for range *rounds {
		for _, s := range []*server{plain, full} {
			if err := s.measure(loader == "wrk"); err != nil {
				return err
			}
		}
	}
	ratios := make([]float64, *rounds)
	for i := range ratios {
		ratios[i] = full.costs[i] / plain.costs[i]
	}
	fmt.Printf("%-8s %16s %16s\n", "", "CPU µs/request", "requests/s")
	for _, s := range []*server{plain, full} {
		fmt.Printf("%-8s %16.2f %16.0f\n", s.name, median(s.costs), median(s.rates))
	}
	fmt.Printf("\nserver CPU per request, larder to bare echo: median %.2f, min %.2f, max %.2f\n", median(ratios), slices.Min(ratios), slices.Max(ratios))
	return nil
}

// stop ends the process.
func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // says that it was killed
}

func startBare() (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-bare")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	return &server{cmd: cmd, name: "bare", url: strings.TrimSpace(url), pid: cmd.Process.Pid}, err
}

func startLarder(dir string) (*server, error) {
	cmd := exec.Command(*binary, "dev", "--data-dir", dir, "--http-addr", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var facts struct {
		HTTP   string
		APIKey string `json:"api_key"`
	}
	for tries := 0; ; tries++ {
		text, err := os.ReadFile(filepath.Join(dir, "dev.json"))
		if err == nil {
			if err := json.Unmarshal(text, &facts); err != nil {
				return nil, err
			}
			break
		}
		if tries == 300 {
			return nil, fmt.Errorf("larder did not start: %w", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	s := &server{cmd: cmd, name: "larder", url: facts.HTTP, key: facts.APIKey, pid: cmd.Process.Pid}
	req, err := http.NewRequest(http.MethodPut, s.target(), bytes.NewReader(value))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("PUT answered %s", resp.Status)
	}
	return s, nil
}

func (s *server) target() string { return s.url + "/v1/caches/main/kv/sixteen-byte-key" }

// measure loads the server for a while and notes what a request cost it.
func (s *server) measure(wrk bool) error {
	before, err := cpu(s.pid)
	if err != nil {
		return err
	}
	began := time.Now()
	var requests int64
	if wrk {
		requests, err = s.loadWithWrk()
	} else {
		requests, err = s.load()
	}
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := cpu(s.pid)
	if err != nil {
		return err
	}
	s.costs = append(s.costs, float64((after-before).Microseconds())/float64(requests))
	s.rates = append(s.rates, float64(requests)/took.Seconds())
	return nil
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkBad      = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
)

func (s *server) loadWithWrk() (int64, error) {
	out, err := exec.Command("wrk", "-t1", "-c", strconv.Itoa(*connections), "-d", strconv.Itoa(*seconds)+"s", "-H", "Authorization: Bearer "+s.key, s.target()).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	if bad := wrkBad.FindSubmatch(out); bad != nil {
		return 0, fmt.Errorf("%s answered %s requests with an error", s.name, bad[1])
	}
	found := wrkRequests.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("wrk said: %s", out)
	}
	return strconv.ParseInt(string(found[1]), 10, 64)
}

// load sends requests on keep-alive connections, one at a time on each, and checks every answer.
func (s *server) load() (int64, error) {
	var requests atomic.Int64
	var failed atomic.Pointer[error]
	stop := time.Now().Add(time.Duration(*seconds) * time.Second)
	var all sync.WaitGroup
	for range *connections {
		all.Go(func() {
			if err := s.loadOne(stop, &requests); err != nil {
				failed.Store(&err)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return requests.Load(), nil
}

func (s *server) loadOne(stop time.Time, requests *atomic.Int64) error {
	host := strings.TrimPrefix(s.url, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return err
	}
	defer conn.Close()
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", strings.TrimPrefix(s.target(), s.url), host, s.key)
	in := bufio.NewReader(conn)
	for time.Now().Before(stop) {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || !bytes.Equal(body, value) {
			return fmt.Errorf("%s answered %s", s.name, resp.Status)
		}
		requests.Add(1)
	}
	return nil
}

// cpu is the CPU time that a process has used, in user and kernel, as Linux accounts it.
func cpu(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const ticksPerSecond = 100 // USER_HZ
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
