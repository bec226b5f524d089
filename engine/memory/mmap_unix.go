//go:build linux || darwin || freebsd || netbsd || openbsd

package memory

import (
	"fmt"
	"syscall"
)

// mmap takes size bytes of zeroed memory from the operating system. None of it costs anything until it is used.
func mmap(size int) []byte {
	b, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(fmt.Sprintf("memory: the operating system gives no more than it has given: %d bytes: %v", size, err))
	}
	return b
}

func munmap(b []byte) {
	if err := syscall.Munmap(b); err != nil {
		panic(fmt.Sprintf("memory: cannot give back %d bytes: %v", len(b), err))
	}
}
