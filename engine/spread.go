package engine

import (
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/keyslot"
)

// Spread says what becomes of a command whose cache has several slot ranges, which may lie on several partitions. Its row
// says it, and so routing, documentation and tests agree.
type Spread uint8

// What a command may be.
const (
	// One is carried out by one partition: all of its keys have to be in one slot. Without keys, any partition will do.
	One Spread = iota

	// These are divided by their keys: each partition does it for those that it holds, and not in one step with the others.
	KeysSummed // the answer is a number, and is added up
	KeysListed // the answer is a list with one element for each key
	KeysSame   // the answer is the same whatever the keys are

	// These are carried out by each partition.
	PartsSummed // the answer is a number, and is added up
	PartsListed // the answer is a list of keys, in any order
	PartsLowest // the answer is a list of numbers: what holds of all
	PartsAny    // the answer is a key or null: that of one partition, chosen by how many keys it has
	PartsSame   // the answer is the same everywhere
	PartsInTurn // the first argument is a cursor, which goes through the slot ranges one after another

	numSpreads
)

// spreadWords are what the reference page says of each.
var spreadWords = [numSpreads]string{
	One: "one slot", KeysSummed: "by key", KeysListed: "by key", KeysSame: "by key",
	PartsSummed: "everywhere", PartsListed: "everywhere", PartsLowest: "everywhere", PartsAny: "everywhere", PartsSame: "everywhere", PartsInTurn: "in turn",
}

func (s Spread) String() string { return spreadWords[s] }

// ByKey reports whether a command is divided by its keys.
func (s Spread) ByKey() bool { return s >= KeysSummed && s <= KeysSame }

// Everywhere reports whether a command concerns all partitions of its cache.
func (s Spread) Everywhere() bool { return s >= PartsSummed }

// SpreadOf is what becomes of a call with these arguments, of a container that of its subcommand. A wrong number of arguments
// is for one partition to refuse.
func (c *Command) SpreadOf(args [][]byte) Spread {
	if c.Subspreads == nil || len(args) < 2 {
		return c.Spread
	}
	for sub, spread := range c.Subspreads {
		if is(args[1], sub) {
			return spread
		}
	}
	return c.Spread
}

// KeySpan tells where the keys stand of a call that is divided by them: at first, first+step, … before end, each with the
// arguments up to the next; what follows from end on belongs to all of them. ok is false when the arguments do not come out
// even, which one partition may refuse.
func (c *Command) KeySpan(args [][]byte) (first, end, step int, ok bool) {
	k := c.Keys
	first, step, end = k.First, k.Step, len(args)
	if k.Last < -1 {
		end += k.Last + 1
	}
	return first, end, step, first > 0 && step > 0 && end > first && (end-first)%step == 0 && c.CheckArity(len(args)) == nil
}

// Page is how many keys a call wants whose cursor goes through the slot ranges, and where its arguments say so; 0 when they do
// not. What is no number is for a partition to refuse.
func (c *Command) Page(args [][]byte) (count int64, at int) {
	count = int64(c.PageCount)
	for i := -c.Arity; i+1 < len(args); i += 2 {
		if is(args[i], "COUNT") {
			at = i + 1
			count, _ = parseInt(args[at])
		}
	}
	return count, at
}

// beyond says why a script cannot carry out a call in a cache with several slot ranges, "" when it can: what lies in other slots
// than that of the keys which the script has declared may be elsewhere, or be moved there.
func (c *Command) beyond(args, declared [][]byte) string {
	if c.SpreadOf(args).Everywhere() {
		return "This Redis command is not allowed from script in a cache with several slot ranges"
	}
	var room [8][]byte
	for _, key := range c.AppendKeys(room[:0], args) {
		switch {
		case len(declared) == 0:
			return "Script attempted to access a key although it has declared none, in a cache with several slot ranges"
		case keyslot.Of(key) != keyslot.Of(declared[0]):
			return "Script attempted to access keys that do not hash to the same slot"
		}
	}
	return ""
}

// errBeyond refuses what reads keys that it finds out about as it goes.
var errBeyond = fault.New(fault.CrossSlot, "engine.spread", "BY and GET with a pattern read keys of other slots, which a cache with several slot ranges cannot do in one step")
