package rig

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// inside marks a process that has a network of its own.
const inside = "LARDER_RIG_INSIDE"

// Isolate starts this program again in a network and a mount namespace of its own, in which it can make others, and ends
// with its status. Inside it returns nil. The error of a process that may not make namespaces, or of a system without TUN
// devices, tells why.
func Isolate() error {
	if os.Getenv(inside) != "" {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		return err
	} else if err := f.Close(); err != nil {
		return err
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errors.New("the program ip is not there (Debian: iproute2)")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("network namespaces are not permitted: %w", err)
	}
	stop := make(chan os.Signal, 4)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range stop {
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
	return nil
}

// Isolated reports whether this process has a network of its own.
func Isolated() bool { return os.Getenv(inside) != "" }

// prepare makes what `ip netns` needs, for this process alone.
func prepare() error {
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("rig", "/run/netns", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return ip("link set lo up")
}

// ip calls the program of that name.
func ip(args string) error {
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, out)
	}
	return nil
}

// relayed is the argument with which a program calls itself for Relay.
const relayed = "LARDER_RIG_RELAY"

// Relay serves as a relay when this process was started as one, and does not return then. Whoever starts rigs calls it
// first: etcd listens on loopback only, and the relay stands beside it in its namespace.
func Relay() {
	way := os.Getenv(relayed)
	if way == "" {
		return
	}
	from, to, _ := strings.Cut(way, " ")
	l, err := net.Listen("tcp", from)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		near, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		go func() {
			defer near.Close()
			far, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer far.Close()
			go func() {
				_, _ = io.Copy(far, near) // either side breaks both
				_ = far.Close()
			}()
			_, _ = io.Copy(near, far)
		}()
	}
}
