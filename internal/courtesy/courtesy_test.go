package courtesy

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

func TestWriterAndReaderPassAll(t *testing.T) {
	var w Work
	for _, n := range []int{0, 1, piece - 1, piece, piece + 1, 3*piece + 7} {
		want := bytes.Repeat([]byte{1, 2, 3}, n)[:n]
		var to bytes.Buffer
		if m, err := w.Writer(&to).Write(want); m != n || err != nil || !bytes.Equal(to.Bytes(), want) {
			t.Errorf("%d bytes: %d written, %v", n, m, err)
		}
		if got, err := io.ReadAll(w.Reader(&to)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d read, %v", n, len(got), err)
		}
	}
}

func TestWriterTellsHowFarItCame(t *testing.T) {
	var w Work
	to := &upTo{room: piece + 100}
	if n, err := w.Writer(to).Write(make([]byte, 3*piece)); n != piece+100 || err != io.ErrShortWrite {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := io.ReadAll(w.Reader(iotest.ErrReader(io.ErrClosedPipe))); err != io.ErrClosedPipe {
		t.Error(err)
	}
}

type upTo struct{ room int }

func (u *upTo) Write(p []byte) (int, error) {
	n := min(len(p), u.room)
	if u.room -= n; n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func TestPauseLasts(t *testing.T) {
	for range 100 {
		began := time.Now()
		if pause(50 * time.Microsecond); time.Since(began) < 50*time.Microsecond {
			t.Fatalf("%v", time.Since(began))
		}
	}
}

func BenchmarkPause(b *testing.B) {
	for b.Loop() {
		pause(rest)
	}
}
