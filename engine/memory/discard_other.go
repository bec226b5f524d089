//go:build !linux

package memory

// discard zeroes b. Elsewhere than on Linux no portable call gives the memory back and promises zeroes.
func discard(b []byte) { clear(b) }

// prepare does nothing where it is not known how.
func prepare([]byte) {}
