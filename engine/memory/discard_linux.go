package memory

import "syscall"

// discard tells the operating system that b's memory is not needed: it takes it and, when b is used again, gives zeroes.
func discard(b []byte) {
	if err := syscall.Madvise(b, syscall.MADV_DONTNEED); err != nil {
		clear(b)
	}
}

// madvPopulateWrite is MADV_POPULATE_WRITE, of Linux 5.14: it brings pages in as if they were written to.
const madvPopulateWrite = 23

// prepare brings b in. Huge pages are allowed for that moment alone, or the kernel would make some of what is
// nearly empty later, and take back what was given to it. An error means that b is as it was, page by page.
func prepare(b []byte) {
	if syscall.Madvise(b, syscall.MADV_HUGEPAGE) != nil {
		return
	}
	_ = syscall.Madvise(b, madvPopulateWrite)
	_ = syscall.Madvise(b, syscall.MADV_NOHUGEPAGE)
}
