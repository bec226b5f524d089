package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Whoever reads the log stops doing so: requests are answered as before, and the process ends when it is told to.
func TestALogThatNobodyReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo, data := filepath.Join(dir, "log"), filepath.Join(dir, "data")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(fifo, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	raw, err := log.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "/bin/sh", []string{"-c", `exec "$0" "$@" 2> "$LOG"`, binary, "serve", "--data-dir", data, "--http-addr", "127.0.0.1:0", "--log-format", "json", "--drain-delay", "0s"}, []string{"LOG=" + fifo})
	s := &server{process: p}
	var said bytes.Buffer
	until(t, "it serves", func() bool {
		some := make([]byte, 4096)
		n := 0
		if err := raw.Read(func(fd uintptr) bool { n, _ = syscall.Read(int(fd), some); return true }); err != nil {
			t.Fatal(err)
		}
		said.Write(some[:max(n, 0)])
		_, line, found := strings.Cut(said.String(), `"msg":"larder serves"`)
		line, _, whole := strings.Cut(line, "\n")
		if !found || !whole {
			return false
		}
		fields := map[string]any{}
		if err := json.Unmarshal([]byte("{"+strings.TrimPrefix(line, ",")), &fields); err != nil {
			t.Fatal(err)
		}
		s.url = fields["url"].(string)
		return true
	})
	operator, err := os.ReadFile(filepath.Join(data, "operator-token"))
	if err != nil {
		t.Fatal(err)
	}
	s.operator = string(operator)
	if err := raw.Write(func(fd uintptr) bool {
		for _, size := range []int{4096, 1} { // until not a byte goes in
			for err := error(nil); !errors.Is(err, syscall.EAGAIN); {
				_, err = syscall.Write(int(fd), make([]byte, size))
			}
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // each is a line in the log
		s.tenant(t, fmt.Sprint("tenant-", i))
		s.do(t, http.MethodPut, "/v1/caches/main/kv/k", "v").want(t, http.StatusCreated)
	}
	if all := s.asOperator(t, http.MethodGet, "/metrics", "").want(t, http.StatusOK).body; !strings.Contains(all, "larder_log_lines_dropped_total") {
		t.Error("nothing tells of lines that were dropped")
	}
	s.stop(t)
}
