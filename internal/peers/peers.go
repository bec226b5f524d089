// Package peers starts the real servers that tests hold ours against. Each test has one of its own, so that tests may run
// side by side and empty what they like.
package peers

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// within is how long a peer has to listen, on a machine that does a lot else.
const within = 30 * time.Second

// Redis starts the program that LARDER_REDIS names, such as redis-server or valkey-server, until the test ends. It returns
// the path of the server's socket. Without LARDER_REDIS the test is skipped.
func Redis(t testing.TB) string {
	t.Helper()
	return start(t, "LARDER_REDIS", func(socket string) []string {
		return []string{"--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--enable-debug-command", "local", "--dir", filepath.Dir(socket)}
	})
}

// RedisCluster is Redis for a server that is a cluster by itself and has all slots.
func RedisCluster(t testing.TB) string {
	t.Helper()
	var ports []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
		_ = l.Close()
	}
	return start(t, "LARDER_REDIS", func(socket string) []string {
		return []string{"--cluster-enabled", "yes", "--bind", "127.0.0.1", "--port", ports[0], "--cluster-port", ports[1], "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", filepath.Dir(socket)}
	})
}

// Memcached starts the program that LARDER_MEMCACHED names until the test ends. It returns the path of the server's socket.
// Without LARDER_MEMCACHED the test is skipped.
func Memcached(t testing.TB) string {
	t.Helper()
	return start(t, "LARDER_MEMCACHED", func(socket string) []string {
		args := []string{"-s", socket, "-m", "256"}
		if os.Getuid() == 0 { // which it refuses to be unless it is told to
			args = append(args, "-u", "root")
		}
		return args
	})
}

// start runs the program that the environment names with arguments that make it listen at a socket.
func start(t testing.TB, variable string, args func(socket string) []string) string {
	t.Helper()
	program := os.Getenv(variable)
	if program == "" {
		t.Skip(variable + " names no program to compare with: see make compat")
	}
	dir, err := os.MkdirTemp("", "peer") // t.TempDir's names may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	server := exec.Command(program, args(socket)...)
	if err := server.Start(); err != nil {
		t.Fatalf("%s=%s: %v", variable, program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = os.RemoveAll(dir)
	})
	for deadline := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			return socket
		}
		select {
		case err := <-ended:
			t.Fatalf("%s=%s ended: %v", variable, program, err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s=%s did not listen within %v", variable, program, within)
		}
	}
}
