package memory

import "syscall"

// discard tells the operating system that b's memory is not needed: it takes it and, when b is used again, gives zeroes.
func discard(b []byte) {
	if err := syscall.Madvise(b, syscall.MADV_DONTNEED); err != nil {
		clear(b)
	}
}
