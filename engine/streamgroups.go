package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/internal/fault"
)

// A streamGroup is a group of consumers that share in reading a stream: each entry goes to one of them, and is pending
// until that one acknowledges it. Pending entries stand twice, in the group with what is known of the delivery and,
// by their ids alone, in the consumer, both in the order of ids. See X5 to X7 at streamValue.
type streamGroup struct {
	name      string
	last      streamID // the last entry delivered
	read      int64    // how many entries were ever delivered, unknownRead where that is not known
	pending   run[delivery]
	consumers []*streamConsumer // by name
	numbers   []*streamConsumer // by number, nil where a number is free
	free      []uint32          // numbers that are free
}

// unknownRead says that a group's position cannot be told as a number of entries.
const unknownRead = -1

// A streamConsumer is one of a group. Its number stands for it in the group's deliveries.
type streamConsumer struct {
	name    string
	number  uint32
	seen    int64 // when it last asked for something, in milliseconds since 1970
	active  int64 // when it last got something, or neverActive
	pending run[streamID]
}

// neverActive is of a consumer that has only asked.
const neverActive = -1

// A delivery is an entry that a consumer has not acknowledged.
type delivery struct {
	id       streamID
	at       int64 // the last time, in milliseconds since 1970
	times    int64
	consumer uint32
}

func (d delivery) key() streamID { return d.id }

func (g *streamGroup) encode(dst []byte) []byte {
	dst = appendText(dst, []byte(g.name))
	dst = binary.AppendVarint(g.last.encode(dst), g.read)
	dst = binary.AppendUvarint(dst, uint64(len(g.consumers)))
	rank := make([]int, len(g.numbers))
	for i, o := range g.consumers {
		rank[o.number] = i
		dst = binary.AppendVarint(binary.AppendVarint(appendText(dst, []byte(o.name)), o.seen), o.active)
	}
	dst = binary.AppendUvarint(dst, uint64(g.pending.n))
	for at := g.pending.first(); g.pending.valid(at); at = g.pending.next(at) {
		d := g.pending.at(at)
		dst = binary.AppendVarint(binary.AppendVarint(d.id.encode(dst), d.at), d.times)
		dst = binary.AppendUvarint(dst, uint64(rank[d.consumer]))
	}
	return dst
}

func (g *streamGroup) clone() *streamGroup {
	twin := *g
	twin.pending = g.pending.clone()
	twin.numbers = make([]*streamConsumer, len(g.numbers))
	twin.free = slices.Clone(g.free)
	twin.consumers = make([]*streamConsumer, len(g.consumers))
	for i, o := range g.consumers {
		copied := *o
		copied.pending = o.pending.clone()
		twin.consumers[i], twin.numbers[o.number] = &copied, &copied
	}
	return &twin
}

// checkGroups returns the first broken invariant of X5 to X7.
func (s *streamValue) checkGroups() error {
	owed, readers, named := 0, 0, 0
	for i, g := range s.groups {
		if i > 0 && s.groups[i-1].name >= g.name {
			return fmt.Errorf("X5: group %q stands before %q", s.groups[i-1].name, g.name)
		}
		if err := g.check(); err != nil {
			return fmt.Errorf("group %q: %w", g.name, err)
		}
		owed += g.pending.n
		readers += len(g.consumers)
		named += len(g.name)
		for _, o := range g.consumers {
			named += len(o.name)
		}
	}
	if owed != s.owed || readers != s.readers || named != s.named {
		return fmt.Errorf("X7: %d pending, %d consumers, %d bytes of names are counted as %d, %d and %d", owed, readers, named, s.owed, s.readers, s.named)
	}
	return nil
}

func (g *streamGroup) check() error {
	if err := g.pending.check(); err != nil {
		return err
	}
	listed := 0
	for i, o := range g.consumers {
		if i > 0 && g.consumers[i-1].name >= o.name {
			return fmt.Errorf("X5: consumer %q stands before %q", g.consumers[i-1].name, o.name)
		}
		if g.numbers[o.number] != o || slices.Contains(g.free, o.number) {
			return fmt.Errorf("X6: number %d of consumer %q is another's", o.number, o.name)
		}
		if err := o.pending.check(); err != nil {
			return err
		}
		for at := o.pending.first(); o.pending.valid(at); at = o.pending.next(at) {
			d := g.delivery(*o.pending.at(at))
			if d == nil || d.consumer != o.number {
				return fmt.Errorf("X6: consumer %q lists %v, which is not its own", o.name, *o.pending.at(at))
			}
		}
		listed += o.pending.n
	}
	if listed != g.pending.n || len(g.numbers) != len(g.consumers)+len(g.free) {
		return fmt.Errorf("X6: %d are pending, %d listed by %d consumers with %d numbers", g.pending.n, listed, len(g.consumers), len(g.numbers))
	}
	return nil
}

// place is where a group of this name stands or would stand.
func (s *streamValue) place(name []byte) (i int, found bool) {
	return slices.BinarySearchFunc(s.groups, name, func(g *streamGroup, name []byte) int { return strings.Compare(g.name, string(name)) })
}

// group returns the group of this name, nil when there is none. So it does on a nil stream.
func (s *streamValue) group(name []byte) *streamGroup {
	if s == nil {
		return nil
	}
	if i, found := s.place(name); found {
		return s.groups[i]
	}
	return nil
}

// weigh adds a group, or takes it away with -1, in the sums of X7.
func (s *streamValue) weigh(g *streamGroup, by int) {
	s.owed += by * g.pending.n
	s.readers += by * len(g.consumers)
	s.named += by * len(g.name)
	for _, o := range g.consumers {
		s.named += by * len(o.name)
	}
}

// addGroup adds a group under a name that no other has.
func (s *streamValue) addGroup(j *journal, g *streamGroup) {
	i, _ := s.place([]byte(g.name))
	s.groups = slices.Insert(s.groups, i, g)
	s.weigh(g, 1)
	if j != nil {
		j.add(func() { s.removeGroup(nil, g) })
	}
}

func (s *streamValue) removeGroup(j *journal, g *streamGroup) {
	i, _ := s.place([]byte(g.name))
	s.groups = slices.Delete(s.groups, i, i+1)
	s.weigh(g, -1)
	if j != nil {
		j.add(func() { s.addGroup(nil, g) })
	}
}

// moveTo changes what a group has read.
func (g *streamGroup) moveTo(j *journal, last streamID, read int64) {
	if j != nil {
		wasLast, wasRead := g.last, g.read
		j.add(func() { g.last, g.read = wasLast, wasRead })
	}
	g.last, g.read = last, read
}

func (g *streamGroup) place(name string) (i int, found bool) {
	return slices.BinarySearchFunc(g.consumers, name, func(o *streamConsumer, name string) int { return strings.Compare(o.name, name) })
}

// consumer returns the consumer of this name, nil when there is none.
func (g *streamGroup) consumer(name []byte) *streamConsumer {
	if i, found := g.place(string(name)); found {
		return g.consumers[i]
	}
	return nil
}

// addConsumer adds a consumer under a name that no other has.
func (s *streamValue) addConsumer(j *journal, g *streamGroup, o *streamConsumer) {
	i, _ := g.place(o.name)
	g.consumers = slices.Insert(g.consumers, i, o)
	if n := len(g.free); n > 0 {
		o.number, g.free = g.free[n-1], g.free[:n-1]
		g.numbers[o.number] = o
	} else {
		o.number = uint32(len(g.numbers))
		g.numbers = append(g.numbers, o)
	}
	s.readers++
	s.named += len(o.name)
	if j != nil {
		j.add(func() { s.removeConsumer(nil, g, o) })
	}
}

// removeConsumer removes a consumer to whom nothing is pending.
func (s *streamValue) removeConsumer(j *journal, g *streamGroup, o *streamConsumer) {
	i, _ := g.place(o.name)
	g.consumers = slices.Delete(g.consumers, i, i+1)
	g.numbers[o.number] = nil
	g.free = append(g.free, o.number)
	s.readers--
	s.named -= len(o.name)
	if j != nil {
		j.add(func() { s.addConsumer(nil, g, o) })
	}
}

// see returns the consumer of this name, made when there is none, and notes that it was seen.
func (s *streamValue) see(j *journal, g *streamGroup, name []byte, now int64) *streamConsumer {
	o := g.consumer(name)
	if o == nil {
		o = &streamConsumer{name: string(name), active: neverActive}
		s.addConsumer(j, g, o)
	}
	if j != nil {
		was := o.seen
		j.add(func() { o.seen = was })
	}
	o.seen = now
	return o
}

// act notes that a consumer got something.
func (o *streamConsumer) act(j *journal, now int64) {
	if j != nil {
		was := o.active
		j.add(func() { o.active = was })
	}
	o.active = now
}

// seeing is see for a command that need not have made the consumer, and tells when it did.
func (c *call) seeing(s *streamValue, g *streamGroup, key, name []byte) *streamConsumer {
	before := len(g.consumers)
	o := s.see(c.p.journal, g, name, c.now)
	if len(g.consumers) > before {
		c.notify(EventStream, "xgroup-createconsumer", key)
	}
	return o
}

// delivery returns what is known of a pending entry, nil when it is not pending; good until the group changes.
func (g *streamGroup) delivery(id streamID) *delivery {
	if at, found := g.pending.find(id); found {
		return g.pending.at(at)
	}
	return nil
}

// deliver makes an entry pending, or changes what is known of one that is.
func (s *streamValue) deliver(j *journal, g *streamGroup, d delivery) {
	old := g.delivery(d.id)
	if j != nil {
		if old == nil {
			j.add(func() { s.settle(nil, g, d.id) })
		} else {
			was := *old
			j.add(func() { s.deliver(nil, g, was) })
		}
	}
	switch {
	case old == nil:
		g.pending.insert(d)
		s.owed++
	case old.consumer == d.consumer:
		*old = d
		return
	default:
		from := &g.numbers[old.consumer].pending
		at, _ := from.find(d.id)
		from.remove(at)
		*old = d
	}
	g.numbers[d.consumer].pending.insert(d.id)
}

// settle makes an entry no longer pending, and reports whether it was.
func (s *streamValue) settle(j *journal, g *streamGroup, id streamID) bool {
	at, found := g.pending.find(id)
	if !found {
		return false
	}
	was := *g.pending.at(at)
	g.pending.remove(at)
	from := &g.numbers[was.consumer].pending
	at, _ = from.find(id)
	from.remove(at)
	s.owed--
	if j != nil {
		j.add(func() { s.deliver(nil, g, was) })
	}
	return true
}

// position tells how many entries were ever added up to id, unknownRead where that cannot be told.
func (s *streamValue) position(id streamID) int64 {
	first := s.first()
	switch {
	case s.added == 0:
		return 0
	case id == s.last || (s.n == 0 && s.last.above(id)):
		return int64(s.added)
	case id.above(s.last):
		return unknownRead
	case s.deleted != noID && !first.above(s.deleted): // entries are missing somewhere ahead
		return unknownRead
	case first.above(id):
		return int64(s.added) - int64(s.n)
	case id == first:
		return int64(s.added) - int64(s.n) + 1
	}
	return unknownRead
}

// missing reports whether an entry at or behind id was removed by XDEL from among those that are left, as far as is
// known.
func (s *streamValue) missing(id streamID) bool {
	return s.n > 0 && s.deleted != noID && !id.above(s.deleted) && !s.first().above(s.deleted)
}

// lag is how many entries a group has not read, and false where that cannot be told.
func (s *streamValue) lag(g *streamGroup) (lag int64, known bool) {
	read := g.read
	switch {
	case s.added == 0:
		return 0, true
	case read == unknownRead || s.missing(g.last):
		read = s.position(g.last)
	}
	return int64(s.added) - read, read != unknownRead
}

// readAfter is how many entries were ever delivered when the entry id has been as well.
func (s *streamValue) readAfter(read int64, id streamID) int64 {
	if read != unknownRead && !s.missing(id) {
		return read + 1
	}
	return s.position(id)
}

var streamGroupCommands = []Command{
	{Name: "XGROUP", Arity: -2, Keys: Keys{First: 2, Last: 2, Step: 1}, Flags: Writes, Group: GroupStream, Action: "cache:StreamWrite", run: xgroup,
		Usage:   "<CREATE key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read] | SETID key group <id | $> [ENTRIESREAD entries-read] | DESTROY key group | CREATECONSUMER key group consumer | DELCONSUMER key group consumer | HELP>",
		Summary: "Makes, changes and removes the groups of a stream and their consumers", Complexity: "O(log N), O(M log N) for M entries pending to what is removed", Since: "5.0.0"},
	{Name: "XREADGROUP", Arity: -7, Keys: streamKeys, Flags: Writes | Blocks, Group: GroupStream, Action: "cache:StreamWrite", Also: xreadgroupRights, Facts: xreadFacts("XREADGROUP"), run: xreadgroup,
		Usage:   "GROUP group consumer [COUNT count] [BLOCK milliseconds] [CLAIM min-idle-time] [NOACK] STREAMS key [key ...] id [id ...]",
		Summary: "Returns entries that no consumer of the group has got yet, or with an id those pending to this one", Complexity: "O(M log N) for M entries", Since: "5.0.0"},
	{Name: "XACK", Arity: -4, Keys: oneKey, Flags: Writes | Fast, Group: GroupStream, Action: "cache:StreamWrite", run: xack,
		Usage: "key group id [id ...]", Summary: "Acknowledges entries and counts those that were pending", Complexity: "O(log N) for each entry", Since: "5.0.0"},
	{Name: "XPENDING", Arity: -3, Keys: oneKey, Group: GroupStream, Action: "cache:StreamRead", Facts: xpendingFacts, run: xpending,
		Usage: "key group [[IDLE min-idle-time] start end count [consumer]]", Summary: "Tells what is pending in a group", Complexity: "O(C) for C consumers, O(log N + M) for M entries visited", Since: "5.0.0"},
	{Name: "XCLAIM", Arity: -6, Keys: oneKey, Flags: Writes | Fast, Group: GroupStream, Action: "cache:StreamWrite", Also: streamReadRight, Facts: xclaimFacts, run: xclaim,
		Usage:   "key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]",
		Summary: "Gives pending entries to another consumer", Complexity: "O(log N) for each entry", Since: "5.0.0"},
	{Name: "XAUTOCLAIM", Arity: -6, Keys: oneKey, Flags: Writes | Fast, Group: GroupStream, Action: "cache:StreamWrite", Also: streamReadRight, Facts: xautoclaimFacts, run: xautoclaim,
		Usage: "key group consumer min-idle-time start [COUNT count] [JUSTID]", Summary: "Gives entries that have been pending for long to another consumer", Complexity: "O(M log N) for M entries visited", Since: "6.2.0"},
}

// streamReadRight: who claims entries reads them.
func streamReadRight(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:StreamRead", On: OnKey, Name: nth(args, 1)})
}

func xreadgroupRights(dst []Right, args [][]byte) []Right {
	for _, key := range streamKeys.streams(args) {
		dst = append(dst, Right{Action: "cache:StreamRead", On: OnKey, Name: key})
	}
	return dst
}

func xpendingFacts(args [][]byte, _ int64) Facts {
	o, err := parseXpending(args)
	if err != nil || o.summary {
		return listing(math.MaxInt64)
	}
	return listing(o.count)
}

func xclaimFacts(args [][]byte, _ int64) Facts { return listing(int64(len(args))) }

func xautoclaimFacts(args [][]byte, _ int64) Facts {
	o, err := parseXautoclaim("", args)
	if err != nil {
		return listing(math.MaxInt64)
	}
	return listing(o.count)
}

func errNoGroup(op, format string, names ...any) error {
	e := fault.New(fault.NotFound, op, format, names...)
	e.Prefix = "NOGROUP"
	return e
}

// streamGroupAt returns the stream under key with the group of this name, nil where there is none.
func (c *call) streamGroupAt(key, name []byte) (s *streamValue, g *streamGroup, it *item, err error) {
	s, it, err = lookup[*streamValue](c, key)
	return s, s.group(name), it, err
}

// needGroup is streamGroupAt with an error for a group that is not there.
func (c *call) needGroup(key, name []byte) (s *streamValue, g *streamGroup, it *item, err error) {
	s, g, it, err = c.streamGroupAt(key, name)
	if err == nil && g == nil {
		err = errNoGroup(c.cmd.Name, "No such key '%s' or consumer group '%s'", key, name)
	}
	return s, g, it, err
}

// subcommand refuses one of a container's commands that is unknown or has a wrong number of arguments: exactly n with
// both names, or at least -n when negative.
func (c *call) subcommand(arities map[string]int) (name string, err error) {
	name = strings.ToUpper(string(c.args[1][:min(len(c.args[1]), maxNameLength)]))
	n, known := arities[name]
	switch {
	case !known:
		return name, fault.New(fault.InvalidArgument, c.cmd.Name, "unknown subcommand '%.128s'. Try %s HELP.", c.args[1], c.cmd.Name)
	case n >= 0 && len(c.args) != n || len(c.args) < -n:
		return name, fault.New(fault.InvalidArgument, c.cmd.Name, "wrong number of arguments for '%s|%s' command", strings.ToLower(c.cmd.Name), strings.ToLower(name))
	}
	return name, nil
}

func (c *call) errSubcommand() error {
	return fault.New(fault.InvalidArgument, c.cmd.Name, "unknown subcommand or wrong number of arguments for '%.128s'. Try %s HELP.", c.args[1], c.cmd.Name)
}

func (c *call) help(lines []string) error {
	c.out.Array(len(lines) + 3)
	c.out.Status(c.cmd.Name + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
	for _, line := range lines {
		c.out.Status(line)
	}
	c.out.Status("HELP")
	c.out.Status("    Prints this help.")
	return nil
}

var xgroupArities = map[string]int{"CREATE": -5, "SETID": -5, "DESTROY": 4, "CREATECONSUMER": 5, "DELCONSUMER": 5, "HELP": 2}

var xgroupHelp = []string{
	"CREATE <key> <groupname> <id|$> [option]",
	"    Create a new consumer group. Options are:",
	"    * MKSTREAM",
	"      Create the empty stream if it does not exist.",
	"    * ENTRIESREAD entries_read",
	"      Set the group's entries_read counter (internal use).",
	"CREATECONSUMER <key> <groupname> <consumer>",
	"    Create a new consumer in the specified group.",
	"DELCONSUMER <key> <groupname> <consumer>",
	"    Remove the specified consumer.",
	"DESTROY <key> <groupname>",
	"    Remove the specified group.",
	"SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
	"    Set the current group ID and entries_read counter.",
}

func xgroup(c *call) error {
	sub, err := c.subcommand(xgroupArities)
	if err != nil {
		return err
	}
	if sub == "HELP" {
		return c.help(xgroupHelp)
	}
	mkStream, read, err := c.xgroupOptions(sub)
	if err != nil {
		return err
	}
	key, name := c.args[2], c.args[3]
	s, g, it, err := c.streamGroupAt(key, name)
	switch {
	case err != nil:
		return err
	case s == nil && !mkStream:
		return fault.New(fault.NotFound, c.cmd.Name, "The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.")
	case g == nil && sub != "CREATE" && sub != "DESTROY":
		return errNoGroup(c.cmd.Name, "No such consumer group '%s' for key name '%s'", name, key)
	}
	if sub == "CREATE" || sub == "CREATECONSUMER" { // the others must work in a cache that is full
		if err := c.cache.admit(c.db, c.cmd, c.args); err != nil {
			return err
		}
	}
	switch sub {
	case "CREATE":
		return c.xgroupCreate(s, it, read)
	case "SETID":
		id, err := parseGroupID(c.args[4], s, parseAnyID)
		if err != nil {
			return err
		}
		g.moveTo(c.p.journal, id, read)
		c.out.Status("OK")
	case "DESTROY":
		if g == nil {
			c.out.Int(0)
			return nil
		}
		s.removeGroup(c.p.journal, g)
		c.out.Int(1)
	case "CREATECONSUMER":
		if g.consumer(c.args[4]) != nil {
			c.out.Int(0)
			return nil
		}
		s.see(c.p.journal, g, c.args[4], c.now)
		c.out.Int(1)
	case "DELCONSUMER":
		c.out.Int(c.deleteConsumer(s, g, c.args[4]))
	}
	c.changed(it)
	return nil
}

// xgroupOptions reads what follows the id of CREATE and SETID; no other has anything there.
func (c *call) xgroupOptions(sub string) (mkStream bool, read int64, err error) {
	read = unknownRead
	for rest := c.args[min(5, len(c.args)):]; len(rest) > 0; rest = rest[1:] {
		switch {
		case sub == "CREATE" && is(rest[0], "MKSTREAM"):
			mkStream = true
		case is(rest[0], "ENTRIESREAD") && len(rest) > 1:
			var ok bool
			if read, ok = parseInt(rest[1]); !ok {
				return mkStream, read, errNotInteger
			}
			if read < 0 && read != unknownRead {
				return mkStream, read, fault.About(fault.OutOfRange, c.cmd.Name, "ENTRIESREAD", "value for ENTRIESREAD must be positive or -1")
			}
			rest = rest[1:]
		default:
			return mkStream, read, c.errSubcommand()
		}
	}
	if n := len(c.args); n > 8 || (sub == "SETID" && n != 5 && n != 7) {
		err = c.errSubcommand()
	}
	return mkStream, read, err
}

// parseGroupID reads where a group is to begin: $ is behind the last entry. s may be nil.
func parseGroupID(b []byte, s *streamValue, parse func(b []byte, missing uint64) (streamID, error)) (streamID, error) {
	switch {
	case string(b) != "$":
		return parse(b, 0)
	case s == nil:
		return noID, nil
	}
	return s.last, nil
}

func (c *call) xgroupCreate(s *streamValue, it *item, read int64) error {
	key, name := c.args[2], c.args[3]
	id, err := parseGroupID(c.args[4], s, parseID)
	if err != nil {
		return err
	}
	if err := c.checkSizes(key, int64(len(name))); err != nil {
		return err
	}
	if s.group(name) != nil {
		return &fault.Error{Kind: fault.Conflict, Op: c.cmd.Name, Prefix: "BUSYGROUP", Message: "Consumer Group name already exists"}
	}
	if s == nil {
		s = &streamValue{}
		it = c.put(key, s, c.defaultDeadline())
	}
	s.addGroup(c.p.journal, &streamGroup{name: string(name), last: id, read: read})
	c.changed(it)
	c.out.Status("OK")
	return nil
}

// deleteConsumer removes a consumer with all that is pending to it and returns how much that was.
func (c *call) deleteConsumer(s *streamValue, g *streamGroup, name []byte) (pending int64) {
	o := g.consumer(name)
	if o == nil {
		return 0
	}
	for o.pending.n > 0 {
		s.settle(c.p.journal, g, *o.pending.at(o.pending.last()))
		pending++
	}
	s.removeConsumer(c.p.journal, g, o)
	return pending
}

// groupPart is a part of a stream that a consumer gets: new entries, or those that are pending to it.
type groupPart struct {
	part
	group   *streamGroup
	it      *item
	history bool
	after   streamID   // of a history
	ids     []streamID // its answer
	claimed []delivery // what was pending for long, as it was before
}

func xreadgroup(c *call) error {
	o, err := parseXread(c.cmd.Name, c.args, c.now)
	if err != nil {
		return err
	}
	parts := make([]groupPart, len(o.keys))
	for i := range parts {
		if err := c.groupPart(&parts[i], o.keys[i], o.ids[i], &o); err != nil {
			return err
		}
	}
	served := 0
	for i := range parts {
		if c.serve(&parts[i], &o) {
			served++
		} else if !c.retried { // a wait is one look for something, and what it changes must not wake others without end
			c.seeing(parts[i].stream, parts[i].group, parts[i].key, o.consumer)
			c.changed(parts[i].it)
		}
	}
	if served == 0 && o.block > 0 {
		return c.park(Parked{Keys: o.keys, Kind: "stream", For: o.wait, Gone: true}, c.out.NullArray)
	}
	if served == 0 {
		c.out.NullArray()
		return nil
	}
	w := &entryWriter{call: c, out: c.out}
	c.out.Keyed(served)
	for i := range parts {
		switch p := &parts[i]; {
		case p.history:
			c.out.Bulk(p.key)
			w.history(p.stream, p.ids)
		case o.claims && (p.atMost > 0 || len(p.claimed) > 0):
			c.out.Bulk(p.key)
			w.claimed(p)
		case p.atMost > 0:
			c.out.Bulk(p.key)
			w.entries(p.stream, p.streamSpan)
		}
	}
	return nil
}

// claimed writes what a consumer has taken over, and then what is new, which was delivered to nobody.
func (w *entryWriter) claimed(p *groupPart) {
	n := 0
	if p.atMost > 0 {
		n = p.stream.countIn(p.streamSpan)
	}
	w.out.Array(len(p.claimed) + n)
	for _, d := range p.claimed {
		_, _, e, _ := p.stream.find(d.id)
		w.delivered(e, w.call.now-d.at, d.times)
	}
	if n > 0 {
		p.stream.walk(p.streamSpan, func(e streamEntry) { w.delivered(e, 0, 0) })
	}
}

// groupPart finds the stream and the group and reads the id.
func (c *call) groupPart(p *groupPart, key, id []byte, o *readOptions) (err error) {
	p.key = key
	if p.stream, p.group, p.it, err = c.streamGroupAt(key, o.group); err != nil {
		return err
	}
	c.count(p.stream != nil)
	if p.group == nil {
		return errNoGroup(c.cmd.Name, "No such key '%s' or consumer group '%s' in XREADGROUP with GROUP option", key, o.group)
	}
	switch string(id) {
	case "$", "+":
		return fault.About(fault.InvalidArgument, c.cmd.Name, "id", "The %s ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The %s ID would just return an empty result set.", id, id)
	case ">":
		return nil
	}
	p.after, err = parseID(id, 0)
	p.history = p.after != maxID // which Redis takes for >
	return err
}

// serve does what the delivery of a part changes, and reports whether there is something to answer.
func (c *call) serve(p *groupPart, o *readOptions) bool {
	j, s, g := c.p.journal, p.stream, p.group
	atMost := int(o.count)
	if atMost == 0 {
		atMost = math.MaxInt
	}
	fresh := s.n > 0 && s.top().above(g.last)
	var idle []delivery
	if o.claims && !p.history {
		idle = c.idle(g, o.idle, atMost)
	}
	if !p.history && !fresh && len(idle) == 0 {
		return false
	}
	consumer := c.seeing(s, g, p.key, o.consumer)
	if len(idle) > 0 {
		p.claimed = c.takeOver(s, g, consumer, idle)
		atMost -= len(p.claimed)
		if !fresh || atMost == 0 {
			c.changed(p.it)
			return len(p.claimed) > 0
		}
	}
	if p.history {
		p.ids = c.again(s, g, consumer, p.after, atMost)
	} else {
		p.from, _ = g.last.next()
		p.to, p.atMost = maxID, atMost
		last, read := g.last, g.read
		s.walk(p.streamSpan, func(e streamEntry) {
			last, read = e.id, s.readAfter(read, e.id)
			if !o.noAck {
				s.deliver(j, g, delivery{e.id, c.now, 1, consumer.number})
			}
		})
		if !o.noAck {
			consumer.act(j, c.now)
		}
		g.moveTo(j, last, read)
		p.to = last
	}
	c.changed(p.it)
	return true
}

// idleLooks is how many pending entries XREADGROUP looks at for each stream when it CLAIMs: about a millisecond's worth.
const idleLooks = 100_000

// idle returns the first deliveries of a group that are at least so many milliseconds old, by id.
func (c *call) idle(g *streamGroup, ms int64, atMost int) (found []delivery) {
	looks := idleLooks
	for at := g.pending.from(streamID{}); g.pending.valid(at) && len(found) < atMost && looks > 0; at = g.pending.next(at) {
		c.step()
		looks--
		if d := *g.pending.at(at); c.now-d.at >= ms {
			found = append(found, d)
		}
	}
	return found
}

// takeOver delivers to a consumer what was pending to others or to itself, settles what is deleted, and returns what was
// taken, as it was before.
func (c *call) takeOver(s *streamValue, g *streamGroup, consumer *streamConsumer, idle []delivery) (taken []delivery) {
	j := c.p.journal
	for _, d := range idle {
		if _, _, _, found := s.find(d.id); !found {
			s.settle(j, g, d.id)
			continue
		}
		taken = append(taken, d)
		s.deliver(j, g, delivery{d.id, c.now, d.times + 1, consumer.number})
	}
	if len(taken) > 0 {
		consumer.act(j, c.now)
	}
	return taken
}

// again delivers once more what is pending to a consumer behind an id, and returns the ids.
func (c *call) again(s *streamValue, g *streamGroup, o *streamConsumer, after streamID, atMost int) (ids []streamID) {
	from, _ := after.next()
	for at := o.pending.from(from); o.pending.valid(at) && len(ids) < atMost; at = o.pending.next(at) {
		ids = append(ids, *o.pending.at(at))
	}
	for _, id := range ids {
		if _, _, _, found := s.find(id); found {
			d := *g.delivery(id)
			d.at = c.now
			d.times++
			s.deliver(c.p.journal, g, d)
		}
	}
	return ids
}

// history writes entries by their ids, without fields those that have been removed.
func (w *entryWriter) history(s *streamValue, ids []streamID) {
	w.out.Array(len(ids))
	for _, id := range ids {
		if _, _, e, found := s.find(id); found {
			w.entry(e)
			continue
		}
		w.out.Array(2)
		w.id(id)
		w.out.NullArray()
	}
}

func xack(c *call) error {
	s, g, it, err := c.streamGroupAt(c.args[1], c.args[2])
	if err != nil {
		return err
	}
	if g == nil {
		c.out.Int(0)
		return nil
	}
	ids, err := parseIDs(c.args[3:])
	if err != nil {
		return err
	}
	var n int64
	for _, id := range ids {
		if s.settle(c.p.journal, g, id) {
			n++
		}
	}
	if n > 0 {
		c.changed(it)
	}
	c.out.Int(n)
	return nil
}

// pendingOptions are what XPENDING is told.
type pendingOptions struct {
	summary  bool
	from, to streamID
	count    int64
	idle     int64
	consumer []byte // nil for all
}

func parseXpending(args [][]byte) (o pendingOptions, err error) {
	rest := args[3:]
	if o.summary = len(rest) == 0; o.summary {
		return o, nil
	}
	if len(rest) < 3 || len(rest) > 6 {
		return o, errSyntax
	}
	var ok bool
	if is(rest[0], "IDLE") {
		if o.idle, ok = parseInt(rest[1]); !ok {
			return o, errNotInteger
		}
		if rest = rest[2:]; len(rest) < 3 {
			return o, errSyntax
		}
	}
	if o.count, ok = parseInt(rest[2]); !ok {
		return o, errNotInteger
	}
	o.count = max(o.count, 0)
	if o.from, err = parseStart(rest[0]); err != nil {
		return o, err
	}
	if o.to, err = parseRangeEnd(rest[1]); err != nil {
		return o, err
	}
	if len(rest) > 3 {
		o.consumer = rest[3]
	}
	return o, nil
}

func xpending(c *call) error {
	o, err := parseXpending(c.args)
	if err != nil {
		return err
	}
	_, g, it, err := c.needGroup(c.args[1], c.args[2])
	if err != nil {
		return err
	}
	c.count(it != nil)
	if o.summary {
		c.pendingSummary(g)
		return nil
	}
	var only *streamConsumer
	if o.consumer != nil {
		if only = g.consumer(o.consumer); only == nil {
			c.out.Array(0)
			return nil
		}
	}
	found := g.pendingIn(&o, only, c.now)
	w := &entryWriter{call: c, out: c.out}
	c.out.Array(len(found))
	for _, d := range found {
		c.out.Array(4)
		w.id(d.id)
		c.out.Text(g.numbers[d.consumer].name)
		c.out.Int(max(c.now-d.at, 0))
		c.out.Int(d.times)
	}
	return nil
}

// pendingIn returns what is pending in a range to one consumer, or with nil to all of them.
func (g *streamGroup) pendingIn(o *pendingOptions, only *streamConsumer, now int64) (found []delivery) {
	take := func(d *delivery) {
		if o.idle <= 0 || now-d.at >= o.idle {
			found = append(found, *d)
		}
	}
	if only == nil {
		for at := g.pending.from(o.from); g.pending.valid(at) && int64(len(found)) < o.count; at = g.pending.next(at) {
			d := g.pending.at(at)
			if d.id.above(o.to) {
				break
			}
			take(d)
		}
		return found
	}
	for at := only.pending.from(o.from); only.pending.valid(at) && int64(len(found)) < o.count; at = only.pending.next(at) {
		id := *only.pending.at(at)
		if id.above(o.to) {
			break
		}
		take(g.delivery(id))
	}
	return found
}

// pendingSummary answers with how much is pending, the first and the last of it, and how much to whom.
func (c *call) pendingSummary(g *streamGroup) {
	c.out.Array(4)
	c.out.Int(int64(g.pending.n))
	if g.pending.n == 0 {
		c.out.Null()
		c.out.Null()
		c.out.NullArray()
		return
	}
	w := &entryWriter{call: c, out: c.out}
	w.id(g.pending.at(g.pending.first()).id)
	w.id(g.pending.at(g.pending.last()).id)
	busy := 0
	for _, o := range g.consumers {
		if o.pending.n > 0 {
			busy++
		}
	}
	c.out.Array(busy)
	for _, o := range g.consumers {
		if o.pending.n > 0 {
			c.out.Array(2)
			c.out.Text(o.name)
			c.out.Bulk(strconv.AppendInt(w.buf[:0], int64(o.pending.n), 10))
		}
	}
}

// claimOptions are what XCLAIM and XAUTOCLAIM are told.
type claimOptions struct {
	idle   int64 // entries that were delivered later stay with whom they are
	at     int64 // when they count as delivered
	times  int64 // how often, -1 for once more
	force  bool
	justID bool
	last   streamID
	ids    []streamID
	from   streamID
	count  int64
}

// parseXclaim reads the ids, up to the first argument that is none, and the options behind them.
func parseXclaim(op string, args [][]byte, now int64) (o claimOptions, err error) {
	number := func(b []byte, what string) (n int64, err error) {
		n, ok := parseInt(b)
		if !ok {
			return 0, fault.New(fault.InvalidArgument, op, "Invalid %s argument for XCLAIM", what)
		}
		return n, nil
	}
	if o.idle, err = number(args[4], "min-idle-time"); err != nil {
		return o, err
	}
	rest := args[5:]
	for ; len(rest) > 0; rest = rest[1:] {
		id, err := parseID(rest[0], 0)
		if err != nil {
			break
		}
		o.ids = append(o.ids, id)
	}
	o.at, o.times = -1, -1
	for ; len(rest) > 0; rest = rest[1:] {
		a, more := rest[0], len(rest) > 1
		switch {
		case is(a, "FORCE"):
			o.force = true
			continue
		case is(a, "JUSTID"):
			o.justID = true
			continue
		case more && is(a, "IDLE"):
			o.at, err = number(rest[1], "IDLE option")
			o.at = now - o.at
		case more && is(a, "TIME"):
			o.at, err = number(rest[1], "TIME option")
		case more && is(a, "RETRYCOUNT"):
			o.times, err = number(rest[1], "RETRYCOUNT option")
		case more && is(a, "LASTID"):
			o.last, err = parseID(rest[1], 0)
		default:
			err = fault.New(fault.InvalidArgument, op, "Unrecognized XCLAIM option '%s'", a)
		}
		if err != nil {
			return o, err
		}
		rest = rest[1:]
	}
	if o.at < 0 || o.at > now { // a client's clock may be wrong
		o.at = now
	}
	return o, nil
}

// claim gives a pending entry to a consumer.
func (c *call) claim(s *streamValue, g *streamGroup, consumer *streamConsumer, d delivery, o *claimOptions) {
	consumer.act(c.p.journal, c.now)
	d.consumer = consumer.number
	d.at = o.at
	if o.times >= 0 {
		d.times = o.times
	} else if !o.justID {
		d.times++
	}
	s.deliver(c.p.journal, g, d)
	if all := c.cache.feeds; all != nil {
		all.claimed(c, d)
	}
}

// settleGone settles an entry that is deleted.
func (c *call) settleGone(s *streamValue, g *streamGroup, id streamID) {
	if s.settle(c.p.journal, g, id) && c.cache.feeds != nil {
		c.cache.feeds.settled(c, id)
	}
}

func xclaim(c *call) error {
	s, g, it, err := c.needGroup(c.args[1], c.args[2])
	if err != nil {
		return err
	}
	o, err := parseXclaim(c.cmd.Name, c.args, c.now)
	if err != nil {
		return err
	}
	if o.last.above(g.last) {
		g.moveTo(c.p.journal, o.last, g.read)
	}
	consumer := c.seeing(s, g, c.args[1], c.args[3])
	var claimed []streamID
	for _, id := range o.ids {
		if _, _, _, found := s.find(id); !found {
			c.settleGone(s, g, id)
			continue
		}
		d := delivery{id: id, times: 1}
		if old := g.delivery(id); old != nil {
			d = *old
			if o.idle > 0 && c.now-d.at < o.idle {
				continue
			}
		} else if !o.force {
			continue
		}
		c.claim(s, g, consumer, d, &o)
		claimed = append(claimed, id)
	}
	c.changed(it)
	c.claimed(s, claimed, o.justID)
	return nil
}

// claimed answers with the entries that were claimed, or just with their ids.
func (c *call) claimed(s *streamValue, ids []streamID, justID bool) {
	w := &entryWriter{call: c, out: c.out}
	if !justID {
		w.history(s, ids)
		return
	}
	c.out.Array(len(ids))
	for _, id := range ids {
		w.id(id)
	}
}

// maxClaims is the greatest COUNT of XAUTOCLAIM, and claimAttempts how many entries it visits for each one counted.
const (
	maxClaims     = math.MaxInt64 / 16
	claimAttempts = 10
)

func parseXautoclaim(op string, args [][]byte) (o claimOptions, err error) {
	o.count, o.times = 100, -1
	var ok bool
	if o.idle, ok = parseInt(args[4]); !ok {
		return o, fault.New(fault.InvalidArgument, op, "Invalid min-idle-time argument for XAUTOCLAIM")
	}
	if o.from, err = parseStart(args[5]); err != nil {
		return o, err
	}
	for rest := args[6:]; len(rest) > 0; rest = rest[1:] {
		switch {
		case len(rest) > 1 && is(rest[0], "COUNT"):
			if o.count, ok = parseInt(rest[1]); !ok || o.count < 1 || o.count > maxClaims {
				return o, fault.About(fault.OutOfRange, op, "COUNT", "COUNT must be > 0")
			}
			rest = rest[1:]
		case is(rest[0], "JUSTID"):
			o.justID = true
		default:
			return o, errSyntax
		}
	}
	return o, nil
}

func xautoclaim(c *call) error {
	o, err := parseXautoclaim(c.cmd.Name, c.args)
	if err != nil {
		return err
	}
	s, g, it, err := c.needGroup(c.args[1], c.args[2])
	if err != nil {
		return err
	}
	o.at = c.now
	consumer := c.seeing(s, g, c.args[1], c.args[3])
	var claimed, gone []streamID
	at := g.pending.from(o.from)
	for attempts := o.count * claimAttempts; attempts > 0 && o.count > 0 && g.pending.valid(at); attempts-- {
		d := *g.pending.at(at)
		switch _, _, _, found := s.find(d.id); {
		case !found:
			c.settleGone(s, g, d.id)
			gone = append(gone, d.id)
			o.count--
		case o.idle <= 0 || c.now-d.at >= o.idle:
			c.claim(s, g, consumer, d, &o)
			claimed = append(claimed, d.id)
			o.count--
		}
		at = g.pending.after(d.id)
	}
	c.changed(it)
	var cursor streamID
	if g.pending.valid(at) {
		cursor = g.pending.at(at).id
	}
	w := &entryWriter{call: c, out: c.out}
	c.out.Array(3)
	w.id(cursor)
	c.claimed(s, claimed, o.justID)
	c.out.Array(len(gone))
	for _, id := range gone {
		w.id(id)
	}
	return nil
}

var xinfoArities = map[string]int{"CONSUMERS": 4, "GROUPS": 3, "STREAM": -3, "HELP": 2}

var xinfoHelp = []string{
	"CONSUMERS <key> <groupname>",
	"    Show consumers of <groupname>.",
	"GROUPS <key>",
	"    Show the stream consumer groups.",
	"STREAM <key> [FULL [COUNT <count>]",
	"    Show information about the stream.",
}

func xinfo(c *call) error {
	sub, err := c.subcommand(xinfoArities)
	if err != nil {
		return err
	}
	if sub == "HELP" {
		return c.help(xinfoHelp)
	}
	s, err := c.streamAt(c.args[2])
	if err != nil {
		return err
	}
	if s == nil {
		return errNoSuchKey
	}
	w := &infoWriter{entryWriter{call: c, out: c.out}, s, c.now}
	switch sub {
	case "CONSUMERS":
		g := s.group(c.args[3])
		if g == nil {
			return errNoGroup(c.cmd.Name, "No such consumer group '%s' for key name '%s'", c.args[3], c.args[2])
		}
		w.consumers(g)
	case "GROUPS":
		w.groups()
	default:
		full, count, err := c.xinfoOptions(c.args[3:])
		if err != nil {
			return err
		}
		if full {
			w.full(count)
		} else {
			w.stream()
		}
	}
	return nil
}

// xinfoOptions reads XINFO STREAM's: whether to show everything, and how many entries of each list.
func (c *call) xinfoOptions(args [][]byte) (full bool, count int, err error) {
	switch {
	case len(args) == 0:
		return false, 0, nil
	case !is(args[0], "FULL") || len(args) == 2 || len(args) > 3 || (len(args) == 3 && !is(args[1], "COUNT")):
		return false, 0, c.errSubcommand()
	}
	n := int64(10)
	if len(args) == 3 {
		var ok bool
		if n, ok = parseInt(args[2]); !ok {
			return false, 0, errNotInteger
		}
	}
	switch {
	case n < 0:
		n = 10
	case n == 0:
		n = math.MaxInt
	}
	return true, int(n), nil
}

// An infoWriter writes XINFO's answers.
type infoWriter struct {
	entryWriter
	s   *streamValue
	now int64
}

func (w *infoWriter) number(name string, n int64) {
	w.out.Text(name)
	w.out.Int(n)
}

func (w *infoWriter) named(name string, id streamID) {
	w.out.Text(name)
	w.id(id)
}

// header writes what a stream's two descriptions begin with.
func (w *infoWriter) header() {
	w.number("length", int64(w.s.n))
	w.number("radix-tree-keys", int64(w.s.blocks.n)) // Redis keeps its blocks in a tree of nodes; we count ours
	w.number("radix-tree-nodes", int64(w.s.blocks.n)+1)
	w.named("last-generated-id", w.s.last)
	w.named("max-deleted-entry-id", w.s.deleted)
	w.number("entries-added", int64(w.s.added))
	w.named("recorded-first-entry-id", w.s.first())
}

func (w *infoWriter) stream() {
	w.out.Map(10)
	w.header()
	w.number("groups", int64(len(w.s.groups)))
	w.edge("first-entry", w.s.first())
	w.edge("last-entry", w.s.top())
}

func (w *infoWriter) edge(name string, id streamID) {
	w.out.Text(name)
	if _, _, e, found := w.s.find(id); found {
		w.entry(e)
	} else {
		w.out.Null()
	}
}

// progress writes how far a group has come.
func (w *infoWriter) progress(g *streamGroup) {
	w.named("last-delivered-id", g.last)
	w.out.Text("entries-read")
	if g.read == unknownRead {
		w.out.Null()
	} else {
		w.out.Int(g.read)
	}
	w.out.Text("lag")
	if lag, known := w.s.lag(g); known {
		w.out.Int(lag)
	} else {
		w.out.Null()
	}
}

func (w *infoWriter) groups() {
	w.out.Array(len(w.s.groups))
	for _, g := range w.s.groups {
		w.out.Map(6)
		w.out.Text("name")
		w.out.Text(g.name)
		w.number("consumers", int64(len(g.consumers)))
		w.number("pending", int64(g.pending.n))
		w.progress(g)
	}
}

func (w *infoWriter) consumers(g *streamGroup) {
	w.out.Array(len(g.consumers))
	for _, o := range g.consumers {
		w.out.Map(4)
		w.out.Text("name")
		w.out.Text(o.name)
		w.number("pending", int64(o.pending.n))
		w.number("idle", max(w.now-o.seen, 0))
		inactive := o.active
		if inactive != neverActive {
			inactive = max(w.now-inactive, 0)
		}
		w.number("inactive", inactive)
	}
}

// full writes all there is to tell, and of each list at most count elements.
func (w *infoWriter) full(count int) {
	w.out.Map(9)
	w.header()
	w.out.Text("entries")
	w.entries(w.s, streamSpan{noID, maxID, count})
	w.out.Text("groups")
	w.out.Array(len(w.s.groups))
	for _, g := range w.s.groups {
		w.out.Map(7)
		w.out.Text("name")
		w.out.Text(g.name)
		w.progress(g)
		w.number("pel-count", int64(g.pending.n))
		w.out.Text("pending")
		w.out.Array(min(g.pending.n, count))
		for at, left := g.pending.first(), count; g.pending.valid(at) && left > 0; at, left = g.pending.next(at), left-1 {
			w.delivery(g, g.pending.at(at), true)
		}
		w.out.Text("consumers")
		w.out.Array(len(g.consumers))
		for _, o := range g.consumers {
			w.consumer(g, o, count)
		}
	}
}

func (w *infoWriter) consumer(g *streamGroup, o *streamConsumer, count int) {
	w.out.Map(5)
	w.out.Text("name")
	w.out.Text(o.name)
	w.number("seen-time", o.seen)
	w.number("active-time", o.active)
	w.number("pel-count", int64(o.pending.n))
	w.out.Text("pending")
	w.out.Array(min(o.pending.n, count))
	for at, left := o.pending.first(), count; o.pending.valid(at) && left > 0; at, left = o.pending.next(at), left-1 {
		w.delivery(g, g.delivery(*o.pending.at(at)), false)
	}
}

// delivery writes what is pending, with its consumer where that is not clear.
func (w *infoWriter) delivery(g *streamGroup, d *delivery, whose bool) {
	if whose {
		w.out.Array(4)
	} else {
		w.out.Array(3)
	}
	w.id(d.id)
	if whose {
		w.out.Text(g.numbers[d.consumer].name)
	}
	w.out.Int(d.at)
	w.out.Int(d.times)
}
