package logs

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
)

// blocked is a sink whose reader has stopped, until it is opened.
type blocked struct {
	open chan struct{}
	mu   sync.Mutex
	got  bytes.Buffer
}

func (b *blocked) Write(p []byte) (int, error) {
	<-b.open
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.got.Write(p)
}

func TestABlockedSinkHoldsUpNobody(t *testing.T) {
	sink := &blocked{open: make(chan struct{})}
	w := NewWriter(sink)
	const extra = 100
	before := Dropped()
	for range queueLength + 1 + extra { // one line is in the writer's hands
		io.WriteString(w, "line\n") // would hang here
	}
	if d := w.dropped.Load(); d < extra || d > extra+1 {
		t.Errorf("%d lines dropped, want %d or one more", d, extra)
	}
	if d := Dropped() - before; d != w.dropped.Load() {
		t.Errorf("%d lines are counted as dropped", d)
	}
	w.Close() // would hang here
	close(sink.open)
	<-w.done
	if out := sink.got.String(); !strings.Contains(out, "lines were dropped") || strings.Count(out, "line\n") < queueLength {
		t.Errorf("after the sink opened, %d bytes arrived", len(out))
	}
}

func TestFormats(t *testing.T) {
	var b bytes.Buffer
	New(&b, "json", 0).Info("hello", "k", 1)
	New(&b, "text", 0).Info("hello", "k", 1)
	if out := b.String(); !strings.Contains(out, `"msg":"hello","k":1}`) || !strings.Contains(out, "msg=hello k=1\n") {
		t.Errorf("got %s", out)
	}
}
