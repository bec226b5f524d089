package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// A listener counts what it is told.
type listener struct{ messages int }

func (l *listener) Receive(*Message) { l.messages++ }

// TestPatternsAreBounded: how many patterns the clients of a cache listen to, and for how long a message is compared with them.
func TestPatternsAreBounded(t *testing.T) {
	h, id, l := newHub(), engine.CacheID{1}, &listener{}
	subscribe := func(n int) error { return h.Subscribe(id, Pattern, fmt.Sprintf("*%d", n), l) }
	for i := range maxPatterns {
		if err := subscribe(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := subscribe(maxPatterns); !fault.Is(err, fault.TooLarge) {
		t.Errorf("one more: %v", err)
	}
	if err := h.Subscribe(engine.CacheID{2}, Pattern, "*", l); err != nil {
		t.Errorf("another cache: %v", err)
	}
	if err := h.Subscribe(id, Pattern, "*7", &listener{}); err != nil {
		t.Errorf("a pattern that is there: %v", err)
	}
	if n := h.Published(id, false, []byte("c7"), nil); n != 2 {
		t.Errorf("%d heard", n)
	}
	if n := h.Published(id, false, []byte(strings.Repeat("c", engine.MaxMatching/maxPatterns)+"7"), nil); n != 0 {
		t.Errorf("%d heard of a name that takes too long", n)
	}
	for i := range maxPatterns {
		h.Unsubscribe(id, Pattern, fmt.Sprintf("*%d", i), l)
	}
	if a := h.caches[id]; len(a.patterns) != 1 || a.steps != 1 {
		t.Errorf("%d patterns of %d steps are left", len(a.patterns), a.steps)
	}
	for i := range 100_000 { // long ones take more room than their number says
		if err := h.Subscribe(id, Pattern, fmt.Sprintf("%04d%s", i, strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz", 28)), l); err != nil {
			if used := h.caches[id].compiled; used > maxPatternBytes || i < maxPatterns/2 && used < maxPatternBytes-1<<14 {
				t.Errorf("refused after %d bytes", used)
			}
			return
		}
	}
	t.Error("never refused")
}

// A tracker counts the keys that it is told of.
type tracker struct{ told int }

func (t *tracker) Invalidate([]byte, any) func() { t.told++; return nil }

// TestTrackedKeysAreBounded: what is remembered of the keys that clients keep copies of.
func TestTrackedKeysAreBounded(t *testing.T) {
	h, id, tr := newHub(), engine.CacheID{1}, &tracker{}
	h.BeginTracking(id, tr, nil)
	zeros := strings.Repeat("0", engine.MaxKey-8)
	key := func(i int) []byte { return fmt.Appendf(nil, "%08d%s", i, zeros) }
	most := maxTrackedBytes / engine.MaxKey
	for i := range most + 10 {
		h.Track(id, key(i), tr)
	}
	if keys, items, _, _ := h.Tracked(id); keys != most || items != most || tr.told != 10 {
		t.Errorf("%d keys, %d items, told of %d", keys, items, tr.told)
	}
	h.Track(id, append(key(0), '0'), tr)
	if keys, _, _, _ := h.Tracked(id); keys != most {
		t.Errorf("a key longer than any is remembered")
	}
	h.Flushed(id, 0)
	if held := h.caches[id].held; held != 0 {
		t.Errorf("%d bytes are held after a flush", held)
	}
	h.Track(id, []byte("k"), tr)
	h.Touched(id, 0, []byte("k"), nil)
	if held := h.caches[id].held; held != 0 {
		t.Errorf("%d bytes are held after a change", held)
	}
}
