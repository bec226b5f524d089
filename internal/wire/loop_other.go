//go:build !linux

package wire

import "net"

// engines are event loops, which need Linux. Elsewhere each connection has a goroutine.
type engines struct{}

type order uint8

const (
	finish order = iota
	cutAll
	leave
)

func (srv *Server) startEngines() *engines { return nil }

func (e *engines) accept(*net.TCPListener, any) error { return nil }
func (e *engines) stop(order)                         {}
func (e *engines) wait()                              {}

// MaxFiles is how many files the process may have open.
func MaxFiles() int { return 10_000 }

// Memory is how many bytes the process may have.
func Memory() int64 { return 4 << 30 }

// hungUp cannot be found out here without reading: a client that sends much while it waits is missed until its command ends.
func hungUp(net.Conn) bool { return false }
