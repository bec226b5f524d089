// Package transfer carries the contents of caches in and out: RDB files, JSON lines, CSV and streams of commands, and whole
// servers that run.
//
// What comes in becomes commands: RESTORE for what is small, and for a large collection the first part of it and then RPUSH,
// SADD and their like, so that nobody has to hold it as a whole. A Target carries them out. Whoever imports needs the rights of
// these commands on these keys, is within the limits of the cache, and pays as for any other request.
//
// What goes out is a cut of a cache: engine.CutReader tells the values, and a Writer writes them.
//
// Start with Loader and with Export; source.go speaks to other servers.
package transfer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/larder-cache/larder/engine/rdb"
	"github.com/larder-cache/larder/internal/fault"
)

// A Command is a name and arguments.
type Command [][]byte

// size is about how many bytes a command takes.
func (c Command) size() (n int) {
	for _, a := range c {
		n += len(a) + 16
	}
	return n
}

// command makes one of texts.
func command(texts ...string) Command {
	c := make(Command, len(texts))
	for i, t := range texts {
		c[i] = []byte(t)
	}
	return c
}

// A Target carries commands out, on one cache.
type Target interface {
	// Do carries commands out in their order, with nothing of others in between if they are a whole, and tells what became of
	// each: nil for what was done. The error is about all of them: nothing was done, unless it is fault.OutcomeUnknown.
	Do(ctx context.Context, db int, commands []Command, whole bool) ([]error, error)
}

// An Asker is a Target that can be asked whether a key is there.
type Asker interface {
	Target
	Exists(ctx context.Context, db int, key []byte) (bool, error)
}

// A Mode says what is to happen with a key that is there already.
type Mode int

// The modes.
const (
	Refuse  Mode = iota // it ends the import
	Replace             // it is replaced
	Skip                // it stays as it is
)

// Options say what is imported of a file, and how.
type Options struct {
	Mode     Mode
	DBs      []int  // only these databases; nil for all
	Prefix   []byte // only keys that begin so
	MaxValue int64  // bytes in one text of a value; a value with a longer one is left out
	PutOff   int64  // milliseconds by which deadlines of keys are put off
	Now      func() time.Time
	Told     func(Progress) // hears how far it is, often; nil for nobody
}

func (o *Options) wants(db uint64, key []byte) bool {
	return (o.DBs == nil || db < 1<<20 && slices.Contains(o.DBs, int(db))) && len(key) >= len(o.Prefix) && string(key[:len(o.Prefix)]) == string(o.Prefix)
}

// Progress is how far something is.
type Progress struct {
	Keys  int64 `json:"keys"`
	Bytes int64 `json:"bytes"` // of the file, that were read
}

// A Report tells what became of an import or an export.
type Report struct {
	Format    string           `json:"format" example:"rdb"`
	Source    string           `json:"source,omitempty" example:"redis 7.0.15, RDB version 10"` // who wrote it
	Keys      int64            `json:"keys" example:"1200"`
	ByType    map[string]int64 `json:"by_type"` // keys, by what TYPE calls their values
	Bytes     int64            `json:"bytes" example:"350000"`
	Expired   int64            `json:"expired" example:"3"`  // keys whose time had come, which were dropped
	Filtered  int64            `json:"filtered" example:"0"` // keys that were not asked for
	Commands  int64            `json:"commands,omitempty" example:"0"`
	Functions int64            `json:"functions" example:"0"` // libraries, and scripts of old files
	Skipped   []Skipped        `json:"skipped"`
	Notes     []string         `json:"notes,omitempty"` // what is not as it was, though nothing was skipped

	Denied *fault.Error `json:"-"` // the first refusal for the lack of a right, nil for none
}

// deny notes a refusal, and returns in which words it is reported.
func (r *Report) deny(e *fault.Error) string {
	if r.Denied == nil {
		r.Denied = e
	}
	return "the credential has no right to store it"
}

// Skipped is what was left out for one reason.
type Skipped struct {
	Reason string `json:"reason" example:"the value of a module, ReJSON-RL"`
	Count  int64  `json:"count" example:"2"`
	First  string `json:"first" example:"user:17"` // the first key, or the command's place
	Offset int64  `json:"offset,omitempty" example:"73401"`
}

// maxReasons bounds the reasons that a Report tells apart.
const maxReasons = 64

// skip counts something that is left out.
func (r *Report) skip(reason, first string, offset int64) {
	for i := range r.Skipped {
		if r.Skipped[i].Reason == reason {
			r.Skipped[i].Count++
			return
		}
	}
	if len(r.Skipped) >= maxReasons {
		r.Skipped[maxReasons-1].Reason = "other reasons"
		r.Skipped[maxReasons-1].Count++
		return
	}
	const longest = 256
	r.Skipped = append(r.Skipped, Skipped{Reason: reason, Count: 1, First: first[:min(len(first), longest)], Offset: offset})
}

// note notes something once.
func (r *Report) note(text string) {
	if !slices.Contains(r.Notes, text) && len(r.Notes) < maxReasons {
		r.Notes = append(r.Notes, text)
	}
}

// counted counts a key.
func (r *Report) counted(kind string) {
	if r.ByType == nil {
		r.ByType = map[string]int64{}
	}
	r.ByType[kind]++
	r.Keys++
}

// Types are the types of a report's keys, in order.
func (r *Report) Types() []string { return slices.Sorted(maps.Keys(r.ByType)) }

// Left is how many keys were left out that were asked for.
func (r *Report) Left() (n int64) {
	for _, s := range r.Skipped {
		n += s.Count
	}
	return n
}

// kindNames are what TYPE calls kinds.
var kindNames = map[rdb.Kind]string{rdb.String: "string", rdb.List: "list", rdb.Set: "set", rdb.SortedSet: "zset", rdb.Hash: "hash", rdb.Stream: "stream"}
