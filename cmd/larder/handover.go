package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-cache/larder/internal/seal"
)

// What an orderly restart leaves in the data directory, and with which keys.
const (
	handOverFile = "hand-over.larder"
	refusedFile  = "hand-over.refused"
)

func (n *node) handOverHead() seal.Head {
	return seal.Head{Kind: "hand-over", Cluster: n.place.Cluster.ID, ID: n.settings.name}
}

// takeOver fills the partitions with what an earlier process of this node has left, if it was told to stop and all is there.
// The file is gone before anybody is served: what has changed since must not be undone by a later start. One that cannot be
// used is put aside, and never read again.
func (n *node) takeOver(ctx context.Context) error {
	path := filepath.Join(n.settings.dataDir, handOverFile)
	if err := os.Remove(path + seal.Unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	begun := time.Now()
	head, plain, err := seal.Open(ctx, f, n.keys, n.handOverHead())
	if err == nil {
		err = n.host.TakeOver(plain)
	}
	err = errors.Join(err, f.Close())
	if ctx.Err() != nil {
		return ctx.Err() // it stays for the next start
	}
	if err != nil {
		n.log.Error("the caches start empty: what the last process left cannot be used", "error", err, "file", filepath.Join(n.settings.dataDir, refusedFile))
		if err := os.Rename(path, filepath.Join(n.settings.dataDir, refusedFile)); err != nil {
			return err
		}
		return seal.SyncDir(n.settings.dataDir)
	}
	if err := errors.Join(os.Remove(path), seal.SyncDir(n.settings.dataDir)); err != nil {
		return err
	}
	n.log.Info("the caches are as the last process left them", "left", head.Created, "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// dropStrangers drops what the last process left of caches that are no more, or are elsewhere. Partitions that are being loaded
// come later: see openKeeper.
func (n *node) dropStrangers() error {
	for _, p := range n.place.Hosted() {
		if local := n.host.Local(p.ID); local != nil {
			if err := n.dropStrangersOf(local); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaveData leaves the partitions' data to the next process of this node. Nothing is served any more.
func (n *node) leaveData() {
	n.keeper.StopLoading()
	if !n.host.Any() {
		return
	}
	begun := time.Now()
	path := filepath.Join(n.settings.dataDir, handOverFile)
	size, err := n.writeHandOver(path)
	if err != nil {
		n.log.Error("the caches will start empty: their data could not be left to the next process", "error", err)
		if err := os.Remove(path + seal.Unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
			n.log.Warn("a file is of no use and cannot be removed", "error", err)
		}
		return
	}
	n.log.Info("the caches are left to the next process", "file", path, "bytes", size, "took", time.Since(begun).Round(time.Millisecond))
}

func (n *node) writeHandOver(path string) (size int64, err error) {
	f, err := seal.CreateFile(path)
	if err != nil {
		return 0, err
	}
	h := n.handOverHead()
	h.Created = time.Now().UTC().Truncate(time.Millisecond)
	w, err := seal.Writer(context.Background(), f, n.keys, h)
	if err != nil {
		return 0, errors.Join(err, f.Discard())
	}
	if err := n.host.HandOver(w); err != nil {
		return 0, errors.Join(err, f.Discard())
	}
	if err := w.Close(); err != nil {
		return 0, errors.Join(err, f.Discard())
	}
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	return size, f.Commit()
}
