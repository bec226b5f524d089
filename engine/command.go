package engine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/larder-cache/larder/internal/fault"
)

// A Command is one row of the command table: what authorisation, routing, metering, documentation and
// execution need to know of an operation. Adding a command is adding a row, its function and its tests.
type Command struct {
	Name       string // upper case; our own commands have a dot: KV.GET, LEADERBOARD.PUT
	Arity      int    // arguments with the name: exactly n, or at least -n when negative
	Keys       Keys   // where keys stand among the arguments
	Flags      Flags
	Group      Group
	Action     string // the policy action that each key needs; see Rights
	Also       rights // further rights that depend on the arguments; nil for most
	Rights     rights // all rights, where keys need different ones and Action is only the first among them; nil for most
	Facts      facts  // what policy conditions may ask about a call; nil when it has nothing to tell
	Usage      string // arguments after the name, in Redis's notation: "key [NX|XX]"
	Summary    string // one sentence without a full stop
	Complexity string // "O(1)"
	Since      string // the version of Redis that brought it, or of Larder for our own

	Spread     Spread            // in a cache with several slot ranges
	Subspreads map[string]Spread // of a container: of the subcommands for which Spread does not hold
	PageItem   int               // with PartsInTurn: how many elements of the list each key has; 0 when the answer is a number
	PageCount  int               // with PartsInTurn: how many keys a call wants that has no COUNT

	// Categorized are its ACL categories where Redis has others than those that follow from the rest; nil for most.
	Categorized []string

	run      func(c *call) error
	rests    bool                                // it writes, at its end, what it has worked out beside the data: see rest.go
	short    short                               // does what run does, in the plainest of cases; nil for most
	room     func(c *cache, args [][]byte) int64 // bytes that a call keeps beside its arguments; nil for none; see cache.need
	name     []byte                              // see NameArg
	whole    bool                                // goes over whole values: see wholeValues
	takes    bool                                // see takers
	contains bool                                // it has subcommands with rows of their own
	number   int                                 // see Number
}

// A CommandSet has a bit for each command, by its Number.
type CommandSet [MaxCommands / 64]uint64

// Has reports whether a command is in the set.
func (s *CommandSet) Has(c *Command) bool { return s[c.number/64]&(1<<(c.number%64)) != 0 }

// Add puts a command in.
func (s *CommandSet) Add(c *Command) { s[c.number/64] |= 1 << (c.number % 64) }

// MaxCommands bounds the numbers of commands.
const MaxCommands = 1024

// Number is the row's place in the table, from 0 and below MaxCommands, for those who keep something for each command. It
// is the same for as long as the process runs.
func (c *Command) Number() int { return c.number }

// NameArg is the command's name as the first argument of a call, for callers that make calls by themselves.
// It is shared: nobody changes it.
func (c *Command) NameArg() []byte { return c.name }

// Keys says where a command's keys stand: at First, First+Step, … up to Last, counted from 0 at the name. A
// negative Last counts from the end, -1 being the last argument. First 0 means no such keys. Where Count is
// not 0, the argument there says how many more keys follow it, each with Stride-1 arguments behind it. Where Store is not 0, the words STORE and STOREDIST
// may stand there or later, each before one more key. Where Streams is not 0, options begin there, the last of which is
// the word STREAMS: the first half of what follows it are keys.
type Keys struct{ First, Last, Step, Count, Stride, Store, Streams int }

// The usual places.
var (
	oneKey      = Keys{First: 1, Last: 1, Step: 1}
	twoKeys     = Keys{First: 1, Last: 2, Step: 1}
	allKeys     = Keys{First: 1, Last: -1, Step: 1}
	countedKeys = Keys{Count: 1} // numkeys key [key ...]
)

// Flags say how a command may be run.
type Flags uint16

// The flags of a command.
const (
	Writes     Flags = 1 << iota // may change the data: goes through the log
	Fast                         // O(1) or O(log n)
	Grows                        // may need memory: refused when the cache is full
	Dangerous                    // needs care in production: visits or empties everything at once
	Connection                   // is about the connection, not the data
	relieved                     // may need memory, but is not refused: see Relieve
	Blocks                       // may wait until it finds something
	Session                      // is carried out where the connection is, nowhere else
	internal                     // made by the leader, never by a client
)

// Group is a command's class in documentation and metering.
type Group uint8

// The groups.
const (
	GroupString Group = iota
	GroupKey
	GroupHash
	GroupList
	GroupSet
	GroupSortedSet
	GroupBitmap
	GroupHyperLogLog
	GroupGeo
	GroupStream
	GroupKV
	GroupCounter
	GroupSession
	GroupLeaderboard
	GroupServer
	GroupPubSub
	GroupBloom
	GroupCuckoo
	GroupCountMin
	GroupTopK
	GroupTDigest
	GroupJSON
	GroupScripting
	GroupMemcached
	NumGroups // how many there are
)

// groups are the groups' names, and their Redis ACL categories; our own groups are categories as a module's would be.
var groups = [NumGroups]struct{ name, category string }{
	GroupString:      {"string", "@string"},
	GroupKey:         {"key", "@keyspace"},
	GroupHash:        {"hash", "@hash"},
	GroupList:        {"list", "@list"},
	GroupSet:         {"set", "@set"},
	GroupSortedSet:   {"sorted_set", "@sortedset"},
	GroupBitmap:      {"bitmap", "@bitmap"},
	GroupHyperLogLog: {"hyperloglog", "@hyperloglog"},
	GroupGeo:         {"geo", "@geo"},
	GroupStream:      {"stream", "@stream"},
	GroupKV:          {"kv", "@kv"},
	GroupCounter:     {"counter", "@counter"},
	GroupSession:     {"session", "@session"},
	GroupLeaderboard: {"leaderboard", "@leaderboard"},
	GroupServer:      {"server", "@keyspace"},
	GroupPubSub:      {"pubsub", "@pubsub"},
	GroupBloom:       {"bloom", "@bloom"},
	GroupCuckoo:      {"cuckoo", "@cuckoo"},
	GroupCountMin:    {"cms", "@cms"},
	GroupTopK:        {"topk", "@topk"},
	GroupTDigest:     {"tdigest", "@tdigest"},
	GroupJSON:        {"json", "@json"},
	GroupScripting:   {"scripting", "@scripting"},
	GroupMemcached:   {"memcached", "@memcached"},
}

func (g Group) String() string { return groups[g].name }

// Categories lists the Redis ACL categories that a command is in, so that rules such as +@read mean here what
// they mean there: what it does (@read, @write), how fast (@fast, @slow), on what (@string, @hash, …), and
// whether it is dangerous.
func (c *Command) Categories() []string {
	if c.Categorized != nil {
		return slices.Clone(c.Categorized)
	}
	var list []string
	switch {
	case c.Flags&Connection != 0:
		list = append(list, "@connection")
	case c.Group == GroupScripting: // what a script does needs the rights for that
		list = append(list, groups[c.Group].category)
	case c.Flags&Writes != 0:
		list = append(list, "@write", groups[c.Group].category)
	default:
		list = append(list, "@read", groups[c.Group].category)
	}
	if c.Flags&Fast != 0 {
		list = append(list, "@fast")
	} else {
		list = append(list, "@slow")
	}
	if c.Flags&Dangerous != 0 {
		list = append(list, "@dangerous")
	}
	return list
}

// ResourceKind says what sort of resource a right is on.
type ResourceKind uint8

// The resources that commands touch.
const (
	OnKey ResourceKind = iota
	OnLeaderboard
	OnCache // the cache as a whole
	OnTopic // a channel, by its name, or by the pattern of names that a client listens to
	OnKeys  // every key of the cache, whatever it is called: for commands that find out which keys they read as they go
)

// A Right is one thing a principal must be allowed to do: an action on a named resource of the cache.
type Right struct {
	Action string
	On     ResourceKind
	Name   []byte // the key or leaderboard; empty for OnCache and OnKeys
}

// rights appends to dst what a command needs beside its Action, given its arguments.
type rights func(dst []Right, args [][]byte) []Right

// Facts are what a policy's conditions may ask about a call, as far as its arguments tell.
type Facts struct {
	ValueSize int64  // bytes of the value written; -1 when none is
	TTL       int64  // milliseconds that a written value is given to live; -1 when none is named
	MaxItems  int64  // the most items a listing may return; -1 when not a listing
	Prefix    []byte // the key prefix of a scan or of a deletion by prefix; nil when it has none
}

type facts func(args [][]byte, now int64) Facts

// FactsOf returns what conditions may ask about a call with these arguments at time now. A wrong number of
// arguments tells nothing.
func (c *Command) FactsOf(args [][]byte, now int64) Facts {
	if c.Facts == nil || c.CheckArity(len(args)) != nil {
		return Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
	}
	f := c.Facts(args, now)
	f.ValueSize, f.TTL, f.MaxItems = max(f.ValueSize, -1), max(f.TTL, -1), max(f.MaxItems, -1)
	return f
}

// AppendRights appends to dst every right that a call with these arguments needs: Action on each of its
// keys (on the cache where it has none), and what Also adds. All of them must be allowed. With a wrong number
// of arguments, which no command will run, it is Action on the cache.
func (c *Command) AppendRights(dst []Right, args [][]byte) []Right {
	if c.CheckArity(len(args)) != nil {
		return append(dst, Right{Action: c.Action, On: OnCache})
	}
	if c.Rights != nil {
		return c.Rights(dst, args)
	}
	on := OnKey
	if c.Group == GroupLeaderboard {
		on = OnLeaderboard
	}
	if c.Action != "" {
		before := len(dst)
		for i, last := c.Keys.span(len(args)); i <= last; i += c.Keys.Step {
			dst = append(dst, Right{Action: c.Action, On: on, Name: args[i]})
		}
		for _, key := range c.Keys.counted(args) {
			dst = append(dst, Right{Action: c.Action, On: on, Name: key})
		}
		for _, key := range c.Keys.streams(args) {
			dst = append(dst, Right{Action: c.Action, On: on, Name: key})
		}
		if len(dst) == before {
			dst = append(dst, Right{Action: c.Action, On: OnCache})
		}
	}
	if c.Also != nil {
		dst = c.Also(dst, args)
	}
	return dst
}

// span is the first and the last place of the keys with fixed places among n arguments; first lies behind last
// when there are none.
func (k Keys) span(n int) (first, last int) {
	if k.First == 0 {
		return 1, 0
	}
	last = k.Last
	if last < 0 {
		last += n
	}
	return k.First, min(last, n-1)
}

// counted returns the keys that follow the argument which says how many they are. A count that does not fit
// counts no keys: the command will say so when it runs.
func (k Keys) counted(args [][]byte) [][]byte {
	if k.Count == 0 || k.Count >= len(args) {
		return nil
	}
	rest, stride := args[k.Count+1:], max(k.Stride, 1)
	n, ok := parseInt(args[k.Count])
	switch {
	case !ok || n < 1 || n > int64(len(rest)/stride):
		return nil
	case stride == 1:
		return rest[:n]
	}
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = rest[i*stride]
	}
	return keys
}

// Fit reports whether as many keys stand behind a count as it says.
func (k Keys) Fit(args [][]byte) bool {
	if k.Count == 0 || k.Count >= len(args) {
		return k.Count == 0
	}
	n, ok := parseInt(args[k.Count])
	return ok && n >= 0 && n <= int64((len(args)-k.Count-1)/max(k.Stride, 1))
}

// stored appends to dst the keys that follow a STORE or STOREDIST. Where the words repeat, the last counts when the
// command runs; that every one of them names a key does no harm.
func (k Keys) stored(dst [][]byte, args [][]byte) [][]byte {
	last := 0
	for i := k.Store; k.Store > 0 && i+1 < len(args); i++ {
		if is(args[i], "STORE") || is(args[i], "STOREDIST") {
			i++
			last = i
		}
	}
	if last == 0 {
		return dst
	}
	return append(dst, args[last])
}

// streams returns the keys behind the word STREAMS, none when the options before it are not those of XREAD or
// XREADGROUP or when there is not an id for each key: the command will say so when it runs.
func (k Keys) streams(args [][]byte) [][]byte {
	for i := k.Streams; k.Streams > 0 && i < len(args); i++ {
		switch a := args[i]; {
		case is(a, "STREAMS"):
			keys, _ := halves(args[i+1:])
			return keys
		case is(a, "BLOCK"), is(a, "COUNT"):
			i++
		case is(a, "GROUP"):
			i += 2
		case !is(a, "NOACK"):
			return nil
		}
	}
	return nil
}

// halves returns the first and the second half of args, nil when there are none.
func halves(args [][]byte) (first, second [][]byte) {
	n := len(args) / 2
	if n == 0 || len(args)%2 != 0 {
		return nil, nil
	}
	return args[:n], args[n:]
}

// FirstKey returns the key that a call is routed by, or nil when it has none.
func (c *Command) FirstKey(args [][]byte) []byte {
	if first, last := c.Keys.span(len(args)); first <= last {
		return args[first]
	}
	if keys := c.Keys.counted(args); len(keys) > 0 {
		return keys[0]
	}
	if keys := c.Keys.streams(args); len(keys) > 0 {
		return keys[0]
	}
	return nil
}

// AppendKeys appends to dst every key among args.
func (c *Command) AppendKeys(dst [][]byte, args [][]byte) [][]byte {
	for i, last := c.Keys.span(len(args)); i <= last; i += c.Keys.Step {
		dst = append(dst, args[i])
	}
	dst = append(append(dst, c.Keys.counted(args)...), c.Keys.streams(args)...)
	return c.Keys.stored(dst, args)
}

// CheckArity returns the error for a wrong number of arguments, or nil. n counts the name.
func (c *Command) CheckArity(n int) error {
	if (c.Arity >= 0 && n == c.Arity) || (c.Arity < 0 && n >= -c.Arity) {
		return nil
	}
	return fault.New(fault.InvalidArgument, c.Name, "wrong number of arguments for '%s' command", strings.ToLower(c.Name))
}

// Units is what a call costs: one request unit, and one more for each further started KiB of arguments and
// reply together. A command that does the work of many in one step costs one.
func (c *Command) Units(bytesIn, bytesOut int) int64 {
	kib := int64(bytesIn+bytesOut+1023) / 1024
	return max(kib, 1)
}

// maxNameLength bounds a command name, so that a lookup can fold it on the stack.
const maxNameLength = 40

// Lookup finds a client's command by its name in any letter case, or returns nil.
func Lookup(name []byte) *Command {
	var folded [maxNameLength]byte
	if len(name) > maxNameLength {
		return nil
	}
	for i, b := range name {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		folded[i] = b
	}
	if bytes.IndexByte(name, '|') >= 0 {
		return nil // see LookupCall
	}
	c := byName[string(folded[:len(name)])]
	if c == nil || c.Flags&internal != 0 {
		return nil
	}
	return c
}

// LookupCall is Lookup for a call with all of its arguments: of a container such as CLIENT it finds the subcommand, if that
// has a row of its own.
func LookupCall(args [][]byte) *Command {
	c := Lookup(args[0])
	if c == nil || len(args) < 2 || !c.contains {
		return c
	}
	if len(c.Name)+1+len(args[1]) <= maxNameLength {
		if sub := byName[c.Name+"|"+strings.ToUpper(string(args[1]))]; sub != nil {
			return sub
		}
	}
	return c
}

// Named finds a command by its exact Name, subcommands included; nil when there is none.
func Named(name []byte) *Command { return byName[string(name)] }

// MustLookup finds a command that is known to exist, for callers that name it in their source.
func MustLookup(name string) *Command {
	c := byName[name]
	if c == nil {
		panic("engine: no command " + name)
	}
	return c
}

// Commands lists the clients' commands by name.
func Commands() []*Command {
	var list []*Command
	for _, c := range byName {
		if c.Flags&internal == 0 {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *Command) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// byName is the command table. Its rows stand beside their functions.
var byName = func() map[string]*Command {
	table := map[string]*Command{}
	for _, rows := range [][]Command{
		stringCommands, conditionalCommands, throttleCommands, lcsCommands, blockingCommands, connectionCommands, sessionServerCommands, keyCommands, sortCommands, dumpCommands, hashCommands, hashExpiryCommands, listCommands, setCommands, sortedSetCommands,
		bitmapCommands, hyperLogLogCommands, geoCommands, streamCommands, streamGroupCommands, streamReferenceCommands,
		kvCommands, counterCommands, sessionCommands, leaderboardCommands, serverCommands, introspectionCommands,
		bloomCommands, cuckooCommands, countMinCommands, topKCommands, tDigestCommands,
		jsonCommands, upstashCommands, scriptCommands, functionCommands, memcachedCommands,
	} {
		for i := range rows {
			c := &rows[i]
			if table[c.Name] != nil || len(c.Name) > maxNameLength || c.run == nil {
				panic(fmt.Sprintf("engine: bad row %s in the command table", c.Name))
			}
			c.name, c.number = []byte(c.Name), len(table)
			if c.number >= MaxCommands {
				panic("engine: more rows than MaxCommands")
			}
			table[c.Name] = c
		}
	}
	for _, c := range table {
		if container, _, sub := strings.Cut(c.Name, "|"); sub {
			table[container].contains = true
		}
	}
	return table
}()
