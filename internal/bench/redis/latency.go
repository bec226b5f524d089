package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// measureLatency asks for values at so many requests a second over all connections, each at its own time, and notes how
// long the answers take from the moment when a request is due.
//
// One thread does it all and never sleeps, since a sleeping one wakes late: what it measures is the server and the
// kernel, not a scheduler of our own. A connection whose answer has not come is passed over.
func (s *server) measureLatency(rate float64) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	poll, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	defer syscall.Close(poll)
	fds := make([]int, *connections)
	free := make([]int, 0, len(fds))
	due := make(map[int]time.Time, len(fds))
	for i := range fds {
		c, err := s.dial()
		if err != nil {
			return err
		}
		f, err := c.File()
		if err != nil {
			return err
		}
		defer f.Close()
		if err := c.Close(); err != nil {
			return err
		}
		fds[i] = int(f.Fd())
		if err := syscall.SetNonblock(fds[i], true); err != nil {
			return err
		}
		if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fds[i], &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fds[i])}); err != nil {
			return err
		}
		free = append(free, fds[i])
	}
	dice := rand.New(rand.NewPCG(1, 2))
	var took []float64
	began := time.Now()
	end := began.Add(time.Duration(*seconds) * time.Second)
	next := began
	events, buf, request := make([]syscall.EpollEvent, len(fds)), make([]byte, 4096), []byte(nil)
	for {
		now := time.Now()
		if now.After(end) {
			break
		}
		for !next.After(now) && len(free) > 0 {
			fd := free[0]
			free = free[1:]
			name := keyName(dice.IntN(keys))
			request = fmt.Appendf(request[:0], "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(name), name)
			if _, err := syscall.Write(fd, request); err != nil {
				return err
			}
			due[fd] = next
			next = next.Add(time.Duration(dice.ExpFloat64() / rate * float64(time.Second)))
		}
		n, err := syscall.EpollWait(poll, events, 0)
		if err != nil && err != syscall.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			n, err := syscall.Read(fd, buf)
			if err != nil || n <= 0 || buf[0] != '$' {
				return fmt.Errorf("a GET was answered %q: %w", buf[:max(n, 0)], err)
			}
			took = append(took, float64(time.Since(due[fd]).Nanoseconds())/1000)
			free = append(free, fd)
		}
	}
	if len(took) == 0 {
		return fmt.Errorf("no answer within %d s", *seconds)
	}
	slices.Sort(took)
	s.p50 = append(s.p50, took[len(took)/2])
	s.p999 = append(s.p999, took[len(took)*999/1000])
	return nil
}
