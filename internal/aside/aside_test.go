package aside

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// TestMain is the other process, too: it tells it by its arguments, since it has no environment.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "echo" {
		if Main(echo, 1) != nil {
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// echo says what it reads, and then what its file has; it fails when that is said to be "fail", and panics for "panic".
func echo(in io.Reader, out io.Writer, files []*os.File) error {
	if len(os.Environ()) > 0 && len(os.Args) == 2 && os.Args[1] == "echo" {
		return errors.New("it has an environment")
	}
	b, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	switch string(b) {
	case "fail":
		return errors.New("it was told to fail")
	case "panic":
		panic("it was told to")
	}
	if _, err := out.Write(b); err != nil {
		return err
	}
	_, err = io.Copy(out, files[0])
	return err
}

func starters() map[string]Starter {
	return map[string]Starter{"here": Here(echo), "process": Program("echo")}
}

func file(t *testing.T, text string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "file")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestHelpersWork(t *testing.T) {
	long := strings.Repeat("what it reads", 100_000)
	for name, start := range starters() {
		t.Run(name, func(t *testing.T) {
			h, err := start(t.Context(), file(t, " and its file"))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				_, _ = io.WriteString(h.In, long) // what it says back tells of errors
				_ = h.In.Close()
			}()
			said, err := io.ReadAll(h.Out)
			if err = errors.Join(err, h.Wait(), h.Wait()); err != nil || string(said) != long+" and its file" {
				t.Errorf("%d bytes, %v", len(said), err)
			}
		})
	}
}

func TestHelpersFail(t *testing.T) {
	for name, start := range starters() {
		for _, word := range []string{"fail", "panic"} {
			t.Run(name+" "+word, func(t *testing.T) {
				h, err := start(t.Context(), file(t, ""))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(h.In, word); err != nil {
					t.Fatal(err)
				}
				_ = h.In.Close()
				_, _ = io.ReadAll(h.Out)
				if err := h.Wait(); err == nil || !strings.Contains(err.Error(), "it was told to") {
					t.Error(err)
				}
			})
		}
	}
}

func TestHelpersEndWithTheirContext(t *testing.T) {
	for name, start := range starters() {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			h, err := start(ctx, file(t, ""))
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			if _, err := io.ReadAll(h.Out); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if err := h.Wait(); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}
