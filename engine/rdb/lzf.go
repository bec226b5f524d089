package rdb

// decompress undoes LZF, by which Redis makes texts smaller: runs of bytes as they are, each behind its length less one in
// 5 bits, and references to what has been written, a length in 3 bits (7: another byte more) and how far back in 13.
func decompress(b []byte, size int) ([]byte, error) {
	if size == 0 || size > len(b)*maxLZFRatio {
		return nil, bad("%d compressed bytes for %d", len(b), size)
	}
	out := make([]byte, 0, size)
	for len(b) > 0 {
		control := int(b[0])
		b = b[1:]
		if control < 32 {
			n := control + 1
			if n > len(b) || n > size-len(out) {
				return nil, bad("compressed bytes are cut off")
			}
			out, b = append(out, b[:n]...), b[n:]
			continue
		}
		n, back := control>>5, control&31<<8
		if n == 7 {
			if len(b) == 0 {
				return nil, bad("compressed bytes are cut off")
			}
			n, b = n+int(b[0]), b[1:]
		}
		n += 2
		if len(b) == 0 || n > size-len(out) {
			return nil, bad("compressed bytes are cut off")
		}
		back, b = back+int(b[0])+1, b[1:]
		if back > len(out) {
			return nil, bad("compressed bytes refer to what is not there")
		}
		for from := len(out) - back; n > 0; n-- { // one by one: it may read what it writes
			out = append(out, out[from])
			from++
		}
	}
	if len(out) != size {
		return nil, bad("%d bytes came of compressed ones, %d were announced", len(out), size)
	}
	return out, nil
}

// maxLZFRatio bounds what compressed bytes can become: three of them name at most 264.
const maxLZFRatio = 88
