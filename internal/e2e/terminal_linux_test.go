package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// A terminal is what a person sits at: what is written to it is typed, and screen is what it shows.
type terminal struct {
	keyboard *os.File
	screen   *text
	far      *os.File // the program's side
}

// newTerminal opens a pseudo-terminal.
func newTerminal(t *testing.T) *terminal {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	raw, err := keyboard.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number, lock int32
	err = raw.Control(func(fd uintptr) {
		for request, value := range map[uintptr]*int32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &lock} {
			if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(value))); errno != 0 {
				t.Errorf("ioctl %x: %v", request, errno)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { _ = far.Close() })
	term := &terminal{keyboard: keyboard, screen: &text{}, far: far}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := keyboard.Read(buf)
			_, _ = term.screen.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	return term
}

// run calls larder at the terminal, types an answer when it is asked a question, and returns the exit status.
func (term *terminal) run(t *testing.T, sh *shell, question, answer string, args ...string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir, cmd.Env = sh.dir, sh.env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.far, term.far, term.far
	before := len(term.screen.String())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the question "+question, func() bool { return strings.Contains(term.screen.String()[before:], question) })
	if _, err := term.keyboard.WriteString(answer + "\r"); err != nil { // as the key Enter does
		t.Fatal(err)
	}
	_ = cmd.Wait() // tells no more than the status does
	return cmd.ProcessState.ExitCode()
}

// People are asked before something is lost, and the key that they type is not shown.
func TestTerminal(t *testing.T) {
	t.Parallel()
	s := dev(t, filepath.Join(t.TempDir(), "data"))
	sh, term := newShell(t, s), newTerminal(t)
	sh.do(t, "cache", "create", "mine")
	sh.do(t, "kv", "set", "k", "v", "--cache", "mine")
	const flush, remove = `Delete all that the cache "mine" holds? [y/N]`, `Delete the cache "mine" and all that it holds? [y/N]`
	for _, answer := range []string{"", "n", "no", "Y E S"} {
		if status := term.run(t, sh, flush, answer, "cache", "flush", "mine"); status != 1 {
			t.Errorf("exit status %d after the answer %q", status, answer)
		}
		if status := term.run(t, sh, remove, answer, "cache", "delete", "mine"); status != 1 {
			t.Errorf("exit status %d after the answer %q", status, answer)
		}
	}
	sh.do(t, "kv", "get", "k", "--cache", "mine")
	if status := term.run(t, sh, remove, "y", "cache", "delete", "mine"); status != 0 {
		t.Errorf("exit status %d after a yes", status)
	}
	sh.run(t, "", "cache", "show", "mine").fails(t, 3)

	visitor := emptyShell(t)
	if status := term.run(t, visitor, "API key: ", s.key, "login", "--url", s.url); status != 0 {
		t.Errorf("exit status %d after a login", status)
	}
	if strings.Contains(term.screen.String(), s.key) {
		t.Error("the key that was typed is on the screen")
	}
	visitor.json(t, "whoami").says(t, "tenant", "demo")
	s.stop(t)
}
