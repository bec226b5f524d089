package replication

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/courtesy"
	"github.com/larder-cache/larder/placement"
)

// cutBytes is how much of a cut is read while a partition's lock is held once: a request waits for it a fraction of a
// millisecond.
const cutBytes = 64 << 10

// cacheBytes is the same for the cut of a cache, which is taken while clients wait for nothing but their writes: a few dozen
// microseconds, and less when somebody waits. What is read is hashed and encrypted without the lock, which leaves others time to take it.
const cacheBytes = courtesy.Bite

// A CacheCut is the cut of a cache on one partition that is here.
type CacheCut struct {
	d    *desk
	s    *engine.CutStream // nil when it has ended
	buf  []byte
	rest []byte // of buf, not yet read
	work courtesy.Work
	over bool
}

// Read implements io.Reader.
func (c *CacheCut) Read(p []byte) (n int, err error) {
	for len(c.rest) == 0 {
		if c.over {
			return 0, io.EOF
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n = copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *CacheCut) fill() (err error) {
	c.work.StepBack()
	l := c.d
	defer l.yield()
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.s == nil {
		return errCutLost
	}
	if l.broken {
		return errBroken
	}
	defer l.guard(&err)
	var more bool
	c.buf, more = c.s.Read(c.buf[:0], cacheBytes)
	c.rest, c.over = c.buf, !more
	return nil
}

// Close ends the cut, whether or not all has been read.
func (c *CacheCut) Close() {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	c.end()
}

// end ends the cut. The caller holds the lock.
func (c *CacheCut) end() {
	if c.s != nil {
		c.s.Close()
		c.s = nil
		delete(c.d.cuts, c)
	}
}

// Holds reports whether the partition has a cache.
func (l *Local) Holds(id engine.CacheID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.loading && slices.Contains(l.p.Caches(), id)
}

// Caches lists the caches that the partition has, none while it is being loaded.
func (l *Local) Caches() []engine.CacheID {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loading {
		return nil
	}
	return l.p.Caches()
}

// Caches lists the caches that the partition has, none where this replica does not lead it.
func (g *Group) Caches() []engine.CacheID {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.settled || g.broken {
		return nil
	}
	return g.p.Caches()
}

// passing lists the caches that are gone with the process, unless it hands them over. Nobody loads the partition any more.
func (l *Local) passing() []engine.CacheID {
	return slices.DeleteFunc(l.p.Caches(), func(id engine.CacheID) bool {
		k := l.kept[id]
		return k != nil && k.stage == safe || (l.loading || l.damage != nil) && !l.before[id]
	})
}

// A hand-over is what a process leaves to the next one, so that a restart does not empty the caches. It is for partitions
// whose only replica is here:
//
//	handOverMagic
//	for each partition: 1; its number, 4 bytes; a fingerprint of its seed, 16 bytes; its cut in chunks, each behind its length
//	    in 4 bytes, and a length of 0
//	0
const handOverMagic = "larder hand-over 1\n"

// Any reports whether a partition here has a cache that is not durable.
func (h *Host) Any() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, l := range h.locals {
		l.mu.Lock()
		some := len(l.passing()) > 0
		l.mu.Unlock()
		if some {
			return true
		}
	}
	return false
}

// HandOver writes the data of all partitions, without their durable caches: these are on disk already. Nothing may change them
// any more.
func (h *Host) HandOver(w io.Writer) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	out := bufio.NewWriterSize(w, cutBytes)
	out.WriteString(handOverMagic) // Flush tells of errors
	for _, id := range h.ids() {
		if err := h.locals[id].writeOut(out, id); err != nil {
			return fmt.Errorf("partition %d: %w", id, err)
		}
	}
	out.WriteByte(0)
	return out.Flush()
}

// ids are the partitions that are here, in order. The caller holds mu.
func (h *Host) ids() (ids []placement.PartitionID) {
	for id := range h.locals {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b placement.PartitionID) int { return cmp.Compare(a, b) })
	return ids
}

func (l *Local) writeOut(w *bufio.Writer, id placement.PartitionID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken && l.damage == nil {
		return errBroken
	}
	l.giveWay()
	s, ok := l.p.CutCaches(l.passing())
	if !ok {
		return errors.New("a snapshot is being made")
	}
	defer s.Close()
	w.WriteByte(1)
	w.Write(binary.BigEndian.AppendUint32(nil, uint32(id)))
	w.Write(l.fingerprint())
	var buf []byte
	for more := true; more; {
		buf, more = s.Read(buf[:0], cutBytes)
		w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(buf))))
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	_, err := w.Write(make([]byte, 4))
	return err
}

// fingerprint tells seeds apart without telling them.
func (l *Local) fingerprint() []byte {
	return fingerprintOf(l.seed)
}

// errHandOver says that a hand-over is not one of ours, or not whole.
var errHandOver = errors.New("the hand-over is damaged, or of other partitions")

// TakeOver fills the partitions with what an earlier process has left, before anybody uses them: all of them, or after an error
// none. An error of r, and only io.EOF is none, counts too.
func (h *Host) TakeOver(r io.Reader) (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	taken := map[*Local]*engine.Partition{}
	defer func() {
		if err != nil {
			for _, p := range taken {
				p.Close()
			}
		}
	}()
	in := bufio.NewReaderSize(r, cutBytes)
	head := make([]byte, len(handOverMagic))
	if err := full(in, head); err != nil || string(head) != handOverMagic {
		return errors.Join(errHandOver, err)
	}
	for {
		more, err := in.ReadByte()
		if err != nil {
			return errors.Join(errHandOver, err)
		}
		if more == 0 {
			break
		}
		var id [4]byte
		print := make([]byte, 16)
		if err := errors.Join(full(in, id[:]), full(in, print)); err != nil {
			return errors.Join(errHandOver, err)
		}
		l := h.locals[placement.PartitionID(binary.BigEndian.Uint32(id[:]))]
		if l == nil || taken[l] != nil || string(print) != string(l.fingerprint()) || len(l.p.Caches()) > 0 {
			return errHandOver
		}
		taken[l] = engine.New(l.seed)
		if err := takeChunks(engine.RestorePartition(taken[l]), in); err != nil {
			return err
		}
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return errors.Join(errHandOver, err)
	}
	for l, p := range taken {
		l.p.Close()
		l.install(p)
	}
	return nil
}

// takeChunks restores from the chunks of a cut.
func takeChunks(restorer interface {
	io.Writer
	Done() error
}, in io.Reader) error {
	buf := make([]byte, cutBytes)
	for {
		var length [4]byte
		if err := full(in, length[:]); err != nil {
			return errors.Join(errHandOver, err)
		}
		left := int64(binary.BigEndian.Uint32(length[:]))
		if left == 0 {
			return restorer.Done()
		}
		for left > 0 {
			part := buf[:min(left, cutBytes)]
			if err := full(in, part); err != nil {
				return errors.Join(errHandOver, err)
			}
			if _, err := restorer.Write(part); err != nil {
				return err
			}
			left -= int64(len(part))
		}
	}
}

func full(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	return err
}
