package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/larder-cache/larder/internal/rig"
)

// startRedis starts a primary with two replicas, and waits until both follow.
func startRedis(dir string) (*target, func(), error) {
	var all []*exec.Cmd
	stop := func() {
		for _, c := range all {
			_ = c.Process.Kill()
			_ = c.Wait() // says that it was killed
		}
	}
	var primary string
	for i := range 3 {
		port, err := freePort()
		if err != nil {
			return nil, stop, err
		}
		args := []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir, "--requirepass", "secret", "--masterauth", "secret",
			"--repl-diskless-sync-delay", "0", "--logfile", filepath.Join(dir, fmt.Sprint("redis", i, ".log"))}
		if i > 0 {
			args = append(args, "--replicaof", "127.0.0.1 "+primary)
		} else {
			primary = port
		}
		cmd := exec.Command("redis-server", args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return nil, stop, err
		}
		all = append(all, cmd)
		time.Sleep(300 * time.Millisecond)
	}
	t := &target{addrs: []string{"127.0.0.1:" + primary}, users: []string{"default"}, key: "secret", wait: 2, used: func() (time.Duration, error) {
		var pids []int
		for _, c := range all {
			pids = append(pids, c.Process.Pid)
		}
		return cpuOf(pids...)
	}}
	for tries := 0; ; tries++ {
		if _, err := t.sets(1, 1, time.Millisecond); err == nil {
			return t, stop, nil
		} else if tries == 100 {
			return nil, stop, fmt.Errorf("redis-server's replicas do not follow: %w", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), l.Close()
}

// startCluster starts three nodes with a number of partitions and caches.
func startCluster(dir string, partitions, caches int, args ...string) (*rig.Rig, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	return rig.Start(ctx, rig.Config{Larder: *binary, Dir: dir, Nodes: 3, Partitions: partitions, Caches: caches, Args: append([]string{"--log-level", "info"}, args...)})
}

// users are the names of caches.
func users(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("c", i+1))
	}
	return names
}

// anyNode is a target of all nodes in turn.
func anyNode(r *rig.Rig, caches int) *target {
	t := &target{users: users(caches), key: r.Key, used: func() (time.Duration, error) { return cpu(r.Nodes...) }}
	for _, n := range r.Nodes {
		t.addrs = append(t.addrs, n.Redis)
	}
	return t
}

// leaderOf is the node that leads the only partition.
func leaderOf(r *rig.Rig) (*rig.Node, error) {
	v, err := r.View()
	if err != nil {
		return nil, err
	}
	for _, n := range r.Nodes {
		if n.Name == v.Partitions[0].Leader {
			return n, nil
		}
	}
	return nil, errors.New("nobody leads")
}

// cpu is the CPU time that processes have used, in user and kernel.
func cpu(nodes ...*rig.Node) (time.Duration, error) {
	var pids []int
	for _, n := range nodes {
		pids = append(pids, n.Pid())
	}
	return cpuOf(pids...)
}

func cpuOf(pids ...int) (sum time.Duration, err error) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
		for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
			ticks, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum, nil
}

// startDev starts a node that is alone.
func startDev(data, program string) (*target, func(), error) {
	cmd := exec.Command(program, "dev", "--data-dir", data, "--http-addr", "127.0.0.1:0", "--redis-addr", "127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
	}
	var facts struct {
		Redis, Cache string
		APIKey       string `json:"api_key"`
	}
	for tries := 0; ; tries++ {
		text, err := os.ReadFile(filepath.Join(data, "dev.json"))
		if err == nil {
			if err = json.Unmarshal(text, &facts); err == nil {
				t := &target{addrs: []string{facts.Redis}, users: []string{facts.Cache}, key: facts.APIKey}
				t.used = func() (time.Duration, error) { return cpuOf(cmd.Process.Pid) }
				return t, stop, nil
			}
		}
		if tries == 300 {
			stop()
			return nil, nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}
