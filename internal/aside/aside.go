// Package aside has work done in another process of this program, so that neither its threads nor its garbage collector are in the
// way of requests, and its end is not theirs. The other process hears what it is to do on its standard input, answers on its
// standard output, and may have files that are open here. It has nothing of this one's environment, and ends when this one does: then its
// input ends, or nobody takes what it writes.
package aside

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
)

// Work is what a process does: it reads in to its end, or for as long as it likes, and writes to out. What else it was given are files.
type Work func(in io.Reader, out io.Writer, files []*os.File) error

// A Helper is a process that works, or a goroutine that does the same.
type Helper struct {
	In  io.WriteCloser // what it reads
	Out io.Reader      // what it says, to its end

	wait func() error
	once sync.Once
	err  error
}

// Wait closes In, and returns when the helper has ended, with its error. What it says is to be read before: it waits for that.
func (h *Helper) Wait() error {
	h.once.Do(func() {
		_ = h.In.Close() // it may be closed
		h.err = h.wait()
	})
	return h.err
}

// A Starter starts helpers. The end of ctx ends a helper in the middle of whatever it does. files stay the caller's.
type Starter func(ctx context.Context, files ...*os.File) (*Helper, error)

// Here has work done by a goroutine.
func Here(work Work) Starter {
	return func(ctx context.Context, files ...*os.File) (*Helper, error) {
		in, toHelper := io.Pipe()
		fromHelper, out := io.Pipe()
		stop := context.AfterFunc(ctx, func() {
			_ = in.CloseWithError(ctx.Err())
			_ = out.CloseWithError(ctx.Err())
		})
		done := make(chan error, 1)
		go func() {
			err := guarded(work, in, out, files)
			stop()
			_ = out.CloseWithError(err) // nil ends what is read
			_ = in.CloseWithError(errors.Join(err, io.ErrClosedPipe))
			done <- err
		}()
		return &Helper{In: toHelper, Out: fromHelper, wait: func() error {
			err := <-done
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}}, nil
	}
}

// guarded turns a panic into an error.
func guarded(work Work, in io.Reader, out io.Writer, files []*os.File) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v", r)
		}
	}()
	return work(in, out, files)
}

// FirstFile is the descriptor of a process's first file; the others follow.
const FirstFile = 3

// Program has work done by this program, with other arguments, in another process: it is to call Main then.
func Program(args ...string) Starter {
	return func(ctx context.Context, files ...*os.File) (*Helper, error) {
		path, err := self()
		if err != nil {
			return nil, err
		}
		in, toHelper, err := pipe()
		if err != nil {
			return nil, err
		}
		defer in.Close()
		fromHelper, out, err := pipe()
		if err != nil {
			return nil, errors.Join(err, toHelper.Close())
		}
		defer out.Close()
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Stdin, cmd.Stdout, cmd.ExtraFiles, cmd.Env = in, out, files, []string{}
		said := &front{}
		cmd.Stderr = said
		if err := cmd.Start(); err != nil {
			return nil, errors.Join(err, toHelper.Close(), fromHelper.Close())
		}
		return &Helper{In: toHelper, Out: fromHelper, wait: func() error {
			err := cmd.Wait()
			_ = fromHelper.Close() // nothing more comes
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("the process that does it: %w: %s", err, said.b)
			}
			return nil
		}}, nil
	}
}

// Main is what a process of Program does. The error is for its exit status, and stands on its standard error.
func Main(work Work, files int) error {
	var list []*os.File
	for i := range files {
		list = append(list, os.NewFile(uintptr(FirstFile+i), "file"))
	}
	err := guarded(work, os.Stdin, os.Stdout, list)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return err
}

// A front keeps the beginning of what is written to it.
type front struct{ b []byte }

const maxFront = 4 << 10

func (t *front) Write(p []byte) (int, error) {
	t.b = append(t.b, p[:min(len(p), maxFront-len(t.b))]...)
	return len(p), nil
}
