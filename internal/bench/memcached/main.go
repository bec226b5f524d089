// Command memcached measures what a GET and a SET cost the server in CPU time, beside memcached itself in the same run:
// one by one over several connections, and pipelined.
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
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	keys        = 10_000
	valueBytes  = 100
	connections = 16
	deep        = 64 // commands sent before the first reply is read, when pipelined
)

func main() {
	binary := flag.String("larder", "bin/larder", "the server to measure")
	count := flag.Int("n", 400_000, "commands of each kind")
	rounds := flag.Int("rounds", 3, "rounds, of which the best counts")
	flag.Parse()
	if err := run(*binary, *count, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A peer is a server under measurement.
type peer struct {
	name, address string
	cmd           *exec.Cmd
}

func run(binary string, count, rounds int) error {
	dir, err := os.MkdirTemp("", "bench-memcached")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	larder, err := startLarder(binary, dir)
	if err != nil {
		return err
	}
	defer larder.stop()
	memcached, err := startMemcached()
	if err != nil {
		return err
	}
	defer memcached.stop()
	fmt.Printf("%-20s %14s %14s %7s\n", "", "larder µs/op", "memcached µs/op", "ratio")
	for _, depth := range []int{1, deep} {
		for _, verb := range []string{"set", "get"} {
			best := [2]time.Duration{time.Hour, time.Hour}
			for range rounds {
				for i, p := range []*peer{larder, memcached} {
					d, err := p.measure(verb, depth, count)
					if err != nil {
						return fmt.Errorf("%s: %w", p.name, err)
					}
					best[i] = min(best[i], d)
				}
			}
			a, b := float64(best[0])/float64(count)/1e3, float64(best[1])/float64(count)/1e3
			fmt.Printf("%-20s %14.2f %14.2f %7.2f\n", fmt.Sprintf("%s, %d at a time", verb, depth), a, b, a/b)
		}
	}
	return nil
}

func startLarder(binary, dir string) (*peer, error) {
	cmd := exec.Command(binary, "dev", "--data-dir", dir, "--http-addr", "127.0.0.1:0", "--redis-addr", "", "--memcache-addr", "127.0.0.1:0")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &peer{name: "larder", cmd: cmd}
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(dir, "dev.json"))
		if err != nil {
			continue
		}
		var facts struct {
			MemcacheOpen string `json:"memcache_open"`
		}
		if err := json.Unmarshal(text, &facts); err != nil {
			return nil, err
		}
		p.address = facts.MemcacheOpen
		return p, nil
	}
	p.stop()
	return nil, errors.New("larder does not serve after a minute")
}

func startMemcached() (*peer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	_ = l.Close() // memcached is to have the port
	_, port, _ := net.SplitHostPort(address)
	args := []string{"-l", "127.0.0.1", "-p", port, "-U", "0", "-m", "1024"}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	p := &peer{name: "memcached", address: address, cmd: exec.Command("memcached", args...)}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		if c, err := net.Dial("tcp", address); err == nil {
			return p, c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.stop()
	return nil, errors.New("memcached does not serve")
}

func (p *peer) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
}

// cpu is the CPU time that the server has used.
func (p *peer) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// measure sends count commands over all connections and returns the CPU time that the server took.
func (p *peer) measure(verb string, depth, count int) (time.Duration, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	failed := make([]error, connections)
	var all sync.WaitGroup
	for i := range connections {
		all.Add(1)
		go func() {
			defer all.Done()
			failed[i] = p.drive(verb, depth, count/connections, i)
		}()
	}
	all.Wait()
	after, err := p.cpu()
	return after - before, errors.Join(append(failed, err)...)
}

func (p *peer) drive(verb string, depth, count, seed int) error {
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		return err
	}
	defer c.Close()
	value := strings.Repeat("v", valueBytes)
	in, reply := bufio.NewReader(c), len("STORED\r\n")
	var batch []byte
	for done, at := 0, seed*977; done < count; done += depth {
		batch = batch[:0]
		for range depth {
			at = (at + 7919) % keys
			if verb == "get" {
				batch = fmt.Appendf(batch, "get key:%08d\r\n", at)
			} else {
				batch = fmt.Appendf(batch, "set key:%08d 0 0 %d\r\n%s\r\n", at, valueBytes, value)
			}
		}
		if verb == "get" {
			reply = len(fmt.Sprintf("VALUE key:%08d 0 %d\r\n%s\r\nEND\r\n", at, valueBytes, value))
		}
		if _, err := c.Write(batch); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, in, int64(reply*depth)); err != nil {
			return err
		}
	}
	return nil
}
