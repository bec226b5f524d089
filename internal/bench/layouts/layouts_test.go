package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestLayoutsStoreWhatTheyAreGiven sends random requests to each layout and to a map.
func TestLayoutsStoreWhatTheyAreGiven(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			rng, layout := rand.New(rand.NewPCG(1, 2)), l.make(10_000)
			type item struct {
				value    []byte
				expireAt int64
			}
			twin, now := map[string]item{}, int64(start)
			for step := range 60_000 {
				key := fmt.Appendf(nil, "key %d", rng.IntN(4000))
				switch rng.IntN(4) {
				case 0:
					layout.Delete(key)
					delete(twin, string(key))
				default:
					it := item{value: bytes.Repeat([]byte{byte(step)}, rng.IntN(1+rng.IntN(8000)))}
					if rng.IntN(2) == 0 {
						it.expireAt = now + 1 + rng.Int64N(20_000)
					}
					layout.Put(key, it.value, it.expireAt)
					twin[string(key)] = it
				}
				if step%100 == 0 {
					now += 1000
					layout.Expire(now, 1<<30)
				}
				layout.Maintain(rng.IntN(60))
				if step%5000 != 4999 {
					continue
				}
				for layout.Maintain(1000) {
				}
				var live int64
				for key, it := range twin {
					if it.expireAt != 0 && it.expireAt <= now-1000 {
						delete(twin, key)
						it.value = nil
					}
					got := layout.Get([]byte(key))
					if it.expireAt != 0 && it.expireAt <= now && got == nil { // due, and a second is a diary's grain
						delete(twin, key)
						continue
					}
					if !bytes.Equal(got, it.value) {
						t.Fatalf("step %d: %q has %d bytes, want %d", step, key, len(got), len(it.value))
					}
					if got != nil {
						live += int64(sizeOf([]byte(key), it.value, it.expireAt))
					}
				}
				if u := layout.Usage(); u.Live != live || u.Memory < live {
					t.Fatalf("step %d: %d bytes live of %d, want %d", step, u.Live, u.Memory, live)
				}
			}
		})
	}
}
