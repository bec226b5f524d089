package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A server is a process under measurement.
type server struct {
	result
	name     string
	cmd      *exec.Cmd
	addr     string
	cache    string // the user to log in as
	password string
}

func newServer(name string, cmd *exec.Cmd) *server {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive us
	cmd.Stderr = os.Stderr
	return &server{name: name, cmd: cmd, result: result{cost: map[load][]float64{}, rate: map[load][]float64{}}}
}

// stop ends the process.
func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // says that it was killed
}

func startRedis(dir string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		return nil, err
	}
	s := newServer("redis-server", exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir,
		"--requirepass", "secret", "--maxclients", "20000"))
	s.addr, s.cache, s.password = "127.0.0.1:"+port, "default", "secret"
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	return s, s.await()
}

func startLarder(dir string) (*server, error) {
	data := filepath.Join(dir, "larder")
	s := newServer("larder", exec.Command(*binary, "dev", "--data-dir", data, "--http-addr", "127.0.0.1:0", "--redis-addr", "127.0.0.1:0"))
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	var facts struct {
		Redis, Cache string
		APIKey       string `json:"api_key"`
	}
	for tries := 0; ; tries++ {
		text, err := os.ReadFile(filepath.Join(data, "dev.json"))
		if err == nil {
			if err := json.Unmarshal(text, &facts); err != nil {
				return nil, err
			}
			break
		}
		if tries == 600 {
			s.stop()
			return nil, fmt.Errorf("larder did not start: %w", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.addr, s.cache, s.password = facts.Redis, facts.Cache, facts.APIKey
	return s, s.await()
}

func (s *server) await() error {
	for tries := 0; ; tries++ {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			return c.Close()
		}
		if tries == 100 {
			s.stop()
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// dial connects and logs in.
func (s *server) dial() (*net.TCPConn, error) {
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "AUTH %s %s\r\n", s.cache, s.password); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || line != "+OK\r\n" {
		return nil, fmt.Errorf("AUTH was answered %q: %w", line, err)
	}
	return c.(*net.TCPConn), nil
}

// keyName is the name of a key as redis-benchmark writes it.
func keyName(i int) string { return fmt.Sprintf("key:%012d", i) }

// fill gives every key a value, so that each GET finds one.
func (s *server) fill() error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	failed := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, c, int64(keys*len("+OK\r\n")))
		failed <- err
	}()
	w := bufio.NewWriterSize(c, 1<<16)
	for i := range keys {
		name := keyName(i)
		fmt.Fprintf(w, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(name), name, valueSize, strings.Repeat("v", valueSize))
	}
	return errors.Join(w.Flush(), <-failed)
}

// measure loads the server and notes what a request cost it.
func (s *server) measure(l load) error {
	n := *requests
	if l.pipeline > 1 {
		n *= 4
	}
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	args := []string{
		"-h", host, "-p", port, "--user", s.cache, "-a", s.password, "-c", strconv.Itoa(*connections), "-n", strconv.Itoa(n), "-r", strconv.Itoa(keys),
		"-d", strconv.Itoa(valueSize), "-P", strconv.Itoa(l.pipeline), "-t", l.command, "--csv",
	}
	before, err := cpu(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	var out, complaints bytes.Buffer
	cmd := exec.Command("redis-benchmark", args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("redis-benchmark: %w: %s", err, complaints.Bytes())
	}
	after, err := cpu(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != 2 {
		return fmt.Errorf("redis-benchmark said %q: %w", rows, err)
	}
	rate, err := strconv.ParseFloat(rows[1][1], 64)
	if err != nil {
		return err
	}
	s.cost[l] = append(s.cost[l], float64((after-before).Microseconds())/float64(n))
	s.rate[l] = append(s.rate[l], rate)
	return nil
}

// measureIdle is how many bytes of RSS n connections take, each, once they have logged in and fallen silent.
func (s *server) measureIdle(n int) (float64, error) {
	before, err := rss(s.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	var all []net.Conn
	defer func() {
		for _, c := range all {
			_ = c.Close()
		}
	}()
	for range n {
		c, err := s.dial()
		if err != nil {
			return 0, fmt.Errorf("connection %d: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	time.Sleep(2 * time.Second)
	after, err := rss(s.cmd.Process.Pid)
	return float64(after-before) / float64(n), err
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

// rss is how much of the machine's memory a process has, in bytes.
func rss(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("no VmRSS in /proc/<pid>/status")
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10, err
}
