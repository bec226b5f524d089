package main

import (
	"testing"

	"github.com/larder-cache/larder/placement"
)

// TestPlacings: of a partition that is being read the newest record is kept, and none is lost at the end.
func TestPlacings(t *testing.T) {
	var p placings
	first, second := &placement.Partition{ID: 7}, &placement.Partition{ID: 7}
	if p.later(first) || p.busy(7) {
		t.Fatal("nothing is being read")
	}
	p.begin(7)
	if !p.busy(7) || p.busy(8) || p.later(&placement.Partition{ID: 8}) {
		t.Fatal("partition 7 is being read, and no other")
	}
	if !p.later(first) || !p.later(second) {
		t.Fatal("a record has not been kept")
	}
	if got := p.next(7); got != second || !p.busy(7) {
		t.Fatal("the newest record is to be done, and the partition is not done yet")
	}
	if p.next(7) != nil || p.busy(7) || p.later(first) {
		t.Fatal("the partition is not done")
	}
}
