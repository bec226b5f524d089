//go:build amd64 || arm64

package dense

import "unsafe"

// prefetch has the processor bring in the cache line at an address, and does not wait for it. Any address will do: what cannot be
// read is not brought in.
//
//go:noescape
func prefetch(at unsafe.Pointer)
