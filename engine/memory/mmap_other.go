//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package memory

// Where there is no mmap, memory is Go's: still without pointers, and never scanned.
func mmap(size int) []byte { return make([]byte, size) }

func munmap([]byte) {}
