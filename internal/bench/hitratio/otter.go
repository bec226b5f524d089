package main

import (
	"github.com/maypok86/otter/v2"
)

// tinyLFU is W-TinyLFU as otter has it, the cache for Go that is best known for its hit ratio. All its work is
// done in the caller, before the next request.
type tinyLFU struct {
	cache *otter.Cache[uint64, struct{}]
}

func newTinyLFU(capacity int) *tinyLFU {
	return &tinyLFU{otter.Must(&otter.Options[uint64, struct{}]{MaximumSize: capacity, Executor: func(work func()) { work() }})}
}

func (p *tinyLFU) Len() int { return p.cache.EstimatedSize() }

func (p *tinyLFU) Request(key uint32) bool {
	_, hit := p.cache.GetIfPresent(uint64(key))
	if !hit {
		p.cache.Set(uint64(key), struct{}{})
	}
	p.cache.CleanUp()
	return hit
}
