//go:build !linux

package redisapi

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

func (e *engines) accept(*net.TCPListener) error { return nil }
func (e *engines) stop(order)                    {}
func (e *engines) wait()                         {}

func maxFiles() int { return 10_000 }
func memory() int64 { return 4 << 30 }

// hungUp cannot be found out here without reading: a client that sends much while it waits is missed until its command ends.
func hungUp(net.Conn) bool { return false }
