package rig

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Switch carries packets between network namespaces and spoils them as it is told. Each namespace has a TUN device whose
// other end is a file of this process, so every packet passes through here, and no kernel module has to be there that drops
// or delays.
//
//	S1: a packet from a to b is treated by what was last said of that direction; the other direction is another link
type Switch struct {
	mu    sync.Mutex
	ports map[netip.Addr]*port
	links atomic.Pointer[map[direction]Link]
	dice  func() float64
}

type direction struct{ from, to netip.Addr }

// A Link says how packets fare in one direction. The zero Link is a good one.
type Link struct {
	Cut    bool
	Delay  time.Duration
	Jitter time.Duration // at random on top of Delay: packets overtake each other
	Loss   float64       // how many of 1 are lost
}

// A port is a namespace's way to the switch.
type port struct {
	addr netip.Addr
	file *os.File
}

// mtu is large: a packet costs a system call on each side, whatever its size.
const mtu = 60000

// newSwitch makes a switch without ports. seed decides which packets are lost and how long they take.
func newSwitch(seed uint64) *Switch {
	s := &Switch{ports: map[netip.Addr]*port{}}
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0x5717c4))
	s.dice = func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return rng.Float64()
	}
	s.links.Store(&map[direction]Link{})
	return s
}

// open makes a TUN device of a name in this namespace, for packets of addr.
func (s *Switch) open(name string, addr netip.Addr) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(request))); errno != 0 {
		return fmt.Errorf("making the device %s: %w", name, errno)
	}
	p := &port{addr, os.NewFile(uintptr(fd), name)}
	s.mu.Lock()
	s.ports[addr] = p
	s.mu.Unlock()
	go s.carry(p)
	return nil
}

// close ends the switch: the devices go with their files.
func (s *Switch) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.ports {
		_ = p.file.Close()
	}
}

// carry takes packets from a port to where they go, until the port is closed.
func (s *Switch) carry(p *port) {
	buf := make([]byte, mtu+64)
	for {
		n, err := p.file.Read(buf)
		if err != nil {
			return
		}
		if n < 20 || buf[0]>>4 != 4 { // IPv6 looks for neighbours, of which there are none
			continue
		}
		from := netip.AddrFrom4([4]byte(buf[12:16]))
		to := netip.AddrFrom4([4]byte(buf[16:20]))
		s.mu.Lock()
		out := s.ports[to]
		s.mu.Unlock()
		if out == nil {
			continue
		}
		link := (*s.links.Load())[direction{from, to}]
		if link.Cut || link.Loss > 0 && s.dice() < link.Loss {
			continue
		}
		if link.Delay == 0 && link.Jitter == 0 {
			_, _ = out.file.Write(buf[:n]) // a full queue drops, as switches do
			continue
		}
		packet := append([]byte(nil), buf[:n]...)
		time.AfterFunc(link.Delay+time.Duration(s.dice()*float64(link.Jitter)), func() { _, _ = out.file.Write(packet) })
	}
}

// Set says how packets from one address fare on their way to another.
func (s *Switch) Set(from, to netip.Addr, l Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	links := map[direction]Link{}
	for d, old := range *s.links.Load() {
		links[d] = old
	}
	if links[direction{from, to}] = l; l == (Link{}) {
		delete(links, direction{from, to})
	}
	s.links.Store(&links)
}

// Heal makes all links good.
func (s *Switch) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links.Store(&map[direction]Link{})
}

// address is the nth of the network of all namespaces.
func address(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|77<<16|uint32(n))
	return netip.AddrFrom4(b)
}
