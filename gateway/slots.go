package gateway

import "github.com/larder-cache/larder/placement"

// Slots is how many slots a cache's keys fall into, as in Redis Cluster.
const Slots = placement.Slots

// Slot is the slot of a key.
func Slot(key []byte) int { return int(placement.Slot(key)) }
