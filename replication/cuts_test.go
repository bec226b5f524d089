package replication

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/placement"
)

func newHost(t *testing.T, caches bool) *Host {
	t.Helper()
	clock := &hand{}
	clock.ms.Store(1_800_000_000_000)
	h := NewHost(clock, slog.New(slog.DiscardHandler))
	for id := range 3 {
		h.Start(&placement.Partition{ID: placement.PartitionID(id), Seed: [2]uint64{uint64(id), 7}})
		if !caches {
			continue
		}
		l := h.Local(placement.PartitionID(id))
		if err := l.Execute(t.Context(), engine.ConfigureTask(testCache, engine.Settings{})); err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			do(t, l, "SADD", "s", fmt.Sprint(id, " ", i), strings.Repeat("long", 50))
		}
		do(t, l, "SET", "k", fmt.Sprint(id))
	}
	return h
}

// TestHandOverIsTakenWholeOrNotAtAll: what one host leaves another has; if it ends anywhere too soon, or is for other
// partitions, none of them has anything.
func TestHandOverIsTakenWholeOrNotAtAll(t *testing.T) {
	var left bytes.Buffer
	if err := newHost(t, true).HandOver(&left); err != nil {
		t.Fatal(err)
	}
	b := left.Bytes()
	h := newHost(t, false)
	if h.Any() {
		t.Fatal("a new host has data")
	}
	for n := 0; n < len(b); n += 97 {
		if err := h.TakeOver(bytes.NewReader(b[:n])); err == nil || h.Any() {
			t.Fatalf("%d of %d bytes were taken over: %v", n, len(b), err)
		}
	}
	if err := h.TakeOver(bytes.NewReader(append(bytes.Clone(b), 0))); err == nil || h.Any() {
		t.Fatalf("a byte more was taken over: %v", err)
	}
	other := NewHost(h.clock, h.log)
	for id := range 3 {
		other.Start(&placement.Partition{ID: placement.PartitionID(id), Seed: [2]uint64{uint64(id), 8}})
	}
	if err := other.TakeOver(bytes.NewReader(b)); err == nil || other.Any() {
		t.Fatalf("partitions with other seeds took it over: %v", err)
	}
	if err := h.TakeOver(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	for id := range 3 {
		l := h.Local(placement.PartitionID(id))
		if got := do(t, l, "GET", "k"); string(got.Bytes) != fmt.Sprint(id) {
			t.Errorf("partition %d has %q", id, got.Bytes)
		}
		if got := do(t, l, "SCARD", "s"); got.Int != 51 {
			t.Errorf("partition %d has %d members", id, got.Int)
		}
	}
	if err := h.TakeOver(bytes.NewReader(b)); err == nil {
		t.Error("a host with data took over other data")
	}
}

// TestCacheIsCutAtOneMoment: while somebody writes n to one partition after the other, no cut shows a second one ahead of the first.
func TestCacheIsCutAtOneMoment(t *testing.T) {
	h := newHost(t, true)
	locals := []*Local{h.Local(0), h.Local(1), h.Local(2)}
	holders := []Holder{locals[0], locals[1], locals[2]}
	options := func(int) engine.CutOptions { return engine.CutOptions{Prefix: []byte("n")} }
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			for _, l := range locals {
				do(t, l, "INCR", "n")
			}
		}
	})
	for range 20 {
		cuts, err := CutCache(t.Context(), holders, testCache, options, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := CutCache(t.Context(), holders, testCache, options, nil); err == nil {
			t.Error("a cache was cut twice at once")
		}
		var before int64 = -1
		for _, c := range cuts {
			at := NewHost(h.clock, h.log)
			at.Start(&placement.Partition{})
			l := at.Local(0)
			s := &engine.CutSplitter{All: 1, To: func(int, []byte) int { return 0 }, Emit: func(p *engine.CutPart) error {
				return l.Execute(t.Context(), engine.RestoreTask(testCache, p))
			}}
			if err := l.Execute(t.Context(), engine.ConfigureTask(testCache, engine.Settings{})); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(s, c); err != nil {
				t.Fatal(err)
			}
			if err := s.Done(); err != nil {
				t.Fatal(err)
			}
			n := do(t, l, "INCRBY", "n", "0").Int
			if before >= 0 && (n > before || n < before-1) {
				t.Errorf("%d after %d", n, before)
			}
			before = n
			c.Close()
		}
	}
	close(stop)
	writing.Wait()
}
