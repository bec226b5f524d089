package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// start is when each workload begins, in milliseconds since 1970.
const start = 1_800_000_000_000

// A workload makes requests from a seed: the same for every layout.
type workload struct {
	name, what string
	run        func(c *client)
}

// Sizes are such that each workload holds some tens of MB, two hundred blocks and more.
var workloads = []workload{
	{"uniform", "64-byte values: 300,000 keys, then as many gets, deletions and puts of random keys", func(c *client) {
		c.mixed(300_000, func() int { return 64 })
	}},
	{"mixed", "16 B to 16 KiB, log-uniform: 30,000 keys, then the same", func(c *client) {
		c.mixed(30_000, func() int { return c.logUniform(16, 16<<10) })
	}},
	{"growing", "60,000 keys of 100 to 1,000 B, each rewritten a tenth longer, 12 rounds in random order", func(c *client) {
		sizes := make([]int, 60_000)
		for k := range sizes {
			sizes[k] = 100 + c.rng.IntN(900)
			c.put(k, sizes[k], 0)
		}
		for range 12 {
			for _, k := range c.rng.Perm(len(sizes)) {
				sizes[k] += sizes[k] / 10
				c.put(k, sizes[k], 0)
			}
		}
	}},
	{"ttl", "a put of a new key each millisecond, 16 B to 2 KiB, which lives for 1 to 600 s, both log-uniform; 400,000 puts", func(c *client) {
		for k := range 400_000 {
			c.put(k, c.logUniform(16, 2<<10), start+int64(k)+int64(c.logUniform(1000, 600_000)))
			c.now = start + int64(k)
		}
	}},
	{"delete-half", "200,000 keys of 150 to 250 B; half of them deleted at random; as many new ones of 260 to 300 B", func(c *client) {
		const n = 200_000
		for k := range n {
			c.put(k, 150+c.rng.IntN(101), 0)
		}
		for _, k := range c.rng.Perm(n)[:n/2] {
			c.delete(k)
		}
		for k := range n / 2 {
			c.put(n+k, 260+c.rng.IntN(41), 0)
		}
	}},
	{"overwrite", "100,000 keys of 200 to 600 B, overwritten at random with other sizes, 600,000 times", func(c *client) {
		const n = 100_000
		for k := range n {
			c.put(k, 200+c.rng.IntN(401), 0)
		}
		for range 6 * n {
			c.put(c.rng.IntN(n), 200+c.rng.IntN(401), 0)
		}
	}},
}

// A client sends the requests of a workload to a layout, and lets it do its maintenance after each.
type client struct {
	rng    *rand.Rand
	layout Layout
	now    int64
	ops    int
	noise  []byte
	key    [16]byte
	after  func() // each request
	before func()
}

// What is done after each request.
const (
	maintain = 32 // steps
	expire   = 16 // keys
)

func (c *client) done() {
	c.layout.Expire(c.now, expire)
	c.layout.Maintain(maintain)
	c.ops++
	c.after()
}

// keyOf gives 16 bytes that look random, as a key of a session does.
func (c *client) keyOf(k int) []byte {
	binary.LittleEndian.PutUint64(c.key[:], uint64(k))
	binary.LittleEndian.PutUint64(c.key[8:], uint64(k)*0x9E3779B97F4A7C15)
	return c.key[:]
}

func (c *client) put(k, size int, expireAt int64) {
	at := c.rng.IntN(len(c.noise) - size)
	c.before()
	c.layout.Put(c.keyOf(k), c.noise[at:at+size], expireAt)
	c.done()
}

func (c *client) delete(k int) {
	c.before()
	c.layout.Delete(c.keyOf(k))
	c.done()
}

func (c *client) get(k int) {
	c.before()
	c.layout.Get(c.keyOf(k))
	c.done()
}

func (c *client) logUniform(low, high float64) int {
	return int(low * math.Pow(high/low, c.rng.Float64()))
}

// mixed fills n keys, and then does 4n requests to them: half are gets, a quarter deletions, a quarter puts.
func (c *client) mixed(n int, size func() int) {
	for k := range n {
		c.put(k, size(), 0)
	}
	for range 4 * n {
		switch k := c.rng.IntN(n); c.rng.IntN(4) {
		case 0:
			c.put(k, size(), 0)
		case 1:
			c.delete(k)
		default:
			c.get(k)
		}
	}
}
