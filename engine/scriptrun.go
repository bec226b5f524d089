package engine

import (
	"bytes"
	"crypto/sha1"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/larder-cache/larder/engine/script"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/fault"
)

// A scriptRun is a script or function while it runs: what package script calls its host. Commands that it calls run as
// others do, on the same call, one after the other.
//
//	R1: a run that is stopped has changed nothing; one that fails has changed what it did before it failed, as in Redis
type scriptRun struct {
	name       string
	flags      script.Flags
	readOnly   bool // by the command that runs it
	keys, args [][]byte

	c        *call
	held     heldEvents
	dirty    bool // has called a command that writes
	refuses  bool // commands that write
	allowOOM bool
}

// compiledScripts keeps compiled scripts of all caches of a partition by the SHA1 of their text, as far as there is room.
type compiledScripts struct {
	lru   *simplelru.LRU[scriptSHA, *script.Chunk]
	bytes int64
}

// compiled returns a script, compiled.
func (p *Partition) compiled(sha scriptSHA, text string) (*script.Chunk, error) {
	return p.compile(sha, text, script.Compile)
}

// compiledLibrary is compiled for a library, whose text is never taken for a script's.
func (p *Partition) compiledLibrary(text string) (*script.Chunk, error) {
	return p.compile(sha1.Sum([]byte("library\x00"+text)), text, script.CompileLibrary)
}

func (p *Partition) compile(sha scriptSHA, text string, compile func(text string) (*script.Chunk, error)) (*script.Chunk, error) {
	k := &p.compiledScripts
	if k.lru == nil {
		k.lru, _ = simplelru.NewLRU(math.MaxInt32, func(_ scriptSHA, c *script.Chunk) { k.bytes -= c.Bytes() })
	}
	if chunk, ok := k.lru.Get(sha); ok {
		return chunk, nil
	}
	chunk, err := compile(strings.Clone(text))
	if err != nil {
		return nil, &fault.Error{Kind: fault.InvalidArgument, Op: "engine.compile", Argument: "script", Message: err.Error()}
	}
	k.lru.Add(sha, chunk)
	for k.bytes += chunk.Bytes(); k.bytes > compiledBytes && k.lru.Len() > 1; {
		k.lru.RemoveOldest()
	}
	return chunk, nil
}

// shownScripts is how many scripts that came by EVAL_RO a cache notes for EVALSHA_RO, and shownBytes how long they may be.
const (
	shownScripts = 64
	shownBytes   = 16 << 10
)

// show notes a script that came by EVAL_RO. That is no part of the state: EVALSHA_RO may always answer NOSCRIPT.
func (c *cache) show(sha scriptSHA, text string) {
	if len(text) > shownBytes || c.scripts != nil && c.scripts.bySHA[sha] != nil {
		return
	}
	if c.shown == nil {
		c.shown, _ = simplelru.NewLRU[scriptSHA, string](shownScripts, nil)
	}
	c.shown.Add(sha, text)
}

// prepare finds out whether the script may run at all.
func (s *scriptRun) prepare(c *call) error {
	s.c = c
	plain := s.flags&script.Plain != 0
	if !plain && s.flags&script.NoWrites == 0 && s.readOnly {
		return errScript(c, "Can not execute a script with write flag using *_ro command.")
	}
	if limit := c.cache.settings.MemoryLimit; !plain && limit > 0 && c.cache.used > limit && s.flags&(script.AllowOOM|script.NoWrites) == 0 {
		return fault.About(fault.OutOfMemory, "engine.script", "memory_limit_bytes", "command not allowed when used memory > 'maxmemory'.")
	}
	s.refuses = s.readOnly || !plain && s.flags&script.NoWrites != 0
	s.allowOOM = !plain && s.flags&script.AllowOOM != 0
	return nil
}

// runScript runs a script. While it runs, the partition's journal notes how to take everything back.
func (c *call) runScript(s *scriptRun, start func(m *script.Machine, job *script.Job) script.Outcome) error {
	if err := s.prepare(c); err != nil {
		return err
	}
	p := c.p
	if p.machine == nil {
		p.machine = script.NewMachine()
	}
	job := &script.Job{
		Name: s.name, Keys: s.keys, Args: s.args, Dice: p.random(), Host: s, Out: scriptOut{c.out},
		Budget: script.Budget{Cost: script.Cost{Steps: scriptSteps, Bytes: scriptBytes}, Late: c.task.Late},
	}
	outer, before, observer := p.journal, *c, p.observer
	all, unit := c.cache.feeds, feedUnit{}
	if all != nil {
		unit = all.mark()
	}
	if c.writing {
		p.journal = &journal{version: p.version}
	}
	if observer != nil {
		p.observer = &s.held
	}
	o := start(p.machine, job)
	*c = before
	p.viewed, p.looked = 0, look{}
	if c.writing {
		inner := p.journal
		if o.Stopped != "" {
			inner.undo(p)
			if all != nil {
				all.back(unit)
			}
		}
		p.journal = outer
		if outer == nil || o.Stopped != "" {
			inner.settle()
		} else {
			outer.join(inner)
		}
	}
	p.scriptUsed = o.Used
	clear(p.changes)
	p.changes, p.observer = p.changes[:0], observer
	if o.Stopped == "" {
		s.held.pass(observer)
	}
	switch {
	case o.Stopped != "":
		return fault.New(fault.TooLarge, c.cmd.Name, "Script %s was stopped, and has changed nothing: %s. It may take %d steps and allocate %d bytes", s.name, o.Stopped, scriptSteps, scriptBytes)
	case o.Failed == "":
		return nil
	case s.dirty && outer == nil: // what it did stays, so the call has not failed
		c.out.Error(scriptFault(o.Failed))
		return nil
	}
	return scriptFault(o.Failed)
}

// HeldEvents are what the partition's observer will be told when the script has come to its end, and will never hear of when
// the script is stopped. A message counts no receivers: a script must do the same on replicas, which have none.
type heldEvents struct{ list []func(o Observer) }

// heldEvent is about what an event takes beside the bytes in it.
const heldEvent = 100

func (h *heldEvents) hold(event func(o Observer)) { h.list = append(h.list, event) }

func (h *heldEvents) Touched(cache CacheID, db int, key []byte) {
	key = bytes.Clone(key)
	h.hold(func(o Observer) { o.Touched(cache, db, key) })
}

// Withdrawn is not a script's doing.
func (h *heldEvents) Withdrawn(CacheID, tenure.Span) {}

func (h *heldEvents) Flushed(cache CacheID, db int) {
	h.hold(func(o Observer) { o.Flushed(cache, db) })
}

func (h *heldEvents) Published(cache CacheID, sharded bool, channel, message []byte) int {
	channel, message = bytes.Clone(channel), bytes.Clone(message)
	h.hold(func(o Observer) { o.Published(cache, sharded, channel, message) })
	return 0
}

func (h *heldEvents) Notified(cache CacheID, db int, class EventClass, event string, key []byte) {
	key = bytes.Clone(key)
	h.hold(func(o Observer) { o.Notified(cache, db, class, event, key) })
}

// pass tells the observer.
func (h *heldEvents) pass(o Observer) {
	for _, event := range h.list {
		event(o)
	}
}

// scriptFault is an error of a script's: its first word is a code.
func scriptFault(failed string) *fault.Error {
	e := &fault.Error{Kind: fault.InvalidArgument, Op: "engine.script"}
	code, message, ok := strings.Cut(failed, " ")
	e.Message = message
	switch {
	case !ok:
		e.Prefix = code
	case code == "ERR":
	case code == fault.WrongType.Face().Redis:
		e.Kind = fault.WrongType
	case code == fault.OutOfMemory.Face().Redis:
		e.Kind = fault.OutOfMemory
	case code == fault.Denied.Face().Redis:
		e.Kind = fault.Denied
	default:
		e.Kind, e.Prefix = fault.Conflict, code
	}
	return e
}

// A scriptReply hands an answer to the script that asked for it.
type scriptReply struct{ *script.Builder }

func (r scriptReply) NullArray() { r.Null() }

func (r scriptReply) Double(f float64) {
	if r.RESP() == 2 {
		r.Bulk(appendFloat(nil, f))
		return
	}
	r.Builder.Double(f)
}

func (r scriptReply) Text(s string) { r.Bulk([]byte(s)) }

func (r scriptReply) Either(two, three func(out Reply)) {
	if r.RESP() == 3 {
		three(r)
		return
	}
	two(r)
}

func (r scriptReply) Error(e *fault.Error) { r.Builder.Error(e.Redis()) }

// A RichReply takes what only RESP 3 has words for. A Reply that is none gets it as bytes.
type RichReply interface {
	BigNumber(digits string)
	Verbatim(format string, b []byte)
}

// A scriptOut takes what a script returns.
type scriptOut struct{ Reply }

func (o scriptOut) BigNumber(digits string) {
	if r, ok := o.Reply.(RichReply); ok {
		r.BigNumber(digits)
		return
	}
	o.Text(digits)
}

func (o scriptOut) Verbatim(format string, b []byte) {
	if r, ok := o.Reply.(RichReply); ok {
		r.Verbatim(format, b)
		return
	}
	o.Bulk(b)
}

func (o scriptOut) Fail(text string) { o.Error(scriptFault(text)) }

// Log is for the log of a server that is the script's own; here nobody reads it.
func (s *scriptRun) Log(int, string) {}

// MayCall answers redis.acl_check_cmd.
func (s *scriptRun) MayCall(args [][]byte) (may, known bool) {
	cmd := Lookup(args[0])
	if cmd == nil {
		return ownCommand(args[0]) != nil, ownCommand(args[0]) != nil || notForScripts(args[0])
	}
	return s.c.task.Allowed == nil || s.c.task.Allowed(cmd, args) == nil, true
}

// Call runs a command for the script.
func (s *scriptRun) Call(args [][]byte, b *script.Builder) (failed string, cost script.Cost) {
	cmd := Lookup(args[0])
	if own := ownCommand(args[0]); own != nil {
		return own(s, args, scriptReply{b}), script.Cost{}
	}
	if cmd == nil {
		if notForScripts(args[0]) {
			return "This Redis command is not allowed from script", cost
		}
		return "Unknown command called from script", cost
	}
	c, p := s.c, s.c.p
	switch {
	case cmd.CheckArity(len(args)) != nil:
		return "Wrong number of args calling command from script", cost
	case cmd.Group == GroupScripting, notForScripts(cmd.name) && !(cmd.Name == "MEMORY" && len(args) > 1 && is(args[1], "USAGE")), cmd.Flags&Session != 0, cmd.Flags&Connection != 0 && cmd.Name != "PING" && cmd.Name != "ECHO":
		return "This Redis command is not allowed from script", cost
	}
	if c.cache.settings.Split {
		if why := cmd.beyond(args, s.keys); why != "" {
			return why, cost
		}
	}
	if c.task.Allowed != nil {
		if err := c.task.Allowed(cmd, args); err != nil {
			return "ACL failure in script: " + fault.From(err).Message, cost
		}
	}
	if no := c.cache.foreign(p, cmd, args); no != "" {
		return no, cost
	}
	writes := cmd.Flags&Writes != 0
	publishes := cmd.Name == "PUBLISH" || cmd.Name == "SPUBLISH"
	if (writes || publishes) && s.refuses {
		return "Write commands are not allowed from read-only scripts.", cost
	}
	c.cmd, c.args, c.out = cmd, args, scriptReply{b}
	c.roomy, c.waits, c.retried = s.allowOOM || s.dirty, nil, false
	p.viewed, p.looked = 0, look{}
	b.Charge(c.effort()) // before it is done: there is no way back from the middle of a command
	p.effort = 0
	var noted, used, made int64
	var dropped, inverses int
	if writes {
		noted, used, made, dropped, inverses = p.journal.bytes, c.cache.used, p.store.Made(), len(p.journal.dropped), len(p.journal.inverse)
	}
	err := c.perform()
	cost.Steps += p.effort
	if len(p.changes) > 0 {
		c.tell()
	}
	if publishes {
		cost.Steps += noteSteps
	}
	if writes || publishes { // about what heldEvents keeps, whether or not there is an observer: replicas have to come to the same cost
		cost.Bytes += heldEvent
		for _, a := range args {
			cost.Bytes += int64(len(a))
		}
	}
	if writes {
		cost.Bytes += p.journal.bytes - noted
		cost.Steps += writeSteps + noteSteps*int64(len(p.journal.inverse)-inverses)
		cost.Steps += (cost.Bytes + max(p.store.Made()-made, c.cache.used-used, 0)) / 16
		if len(p.journal.dropped) == dropped { // the journal holds what went
			cost.Bytes += max(used-c.cache.used, 0)
		}
	}
	if err != nil {
		scriptReply{b}.Error(fault.From(err))
	}
	s.dirty = s.dirty || writes && !fault.Is(err, fault.OutOfMemory) // from its first write on, a script may pass the limit
	return "", cost
}

// What a command that writes costs more than another, what a note in the journal does, and what each argument does behind
// the first few: one may be an element that is looked for, and put, among the 128 of a packed value.
const (
	writeSteps    = 25
	noteSteps     = 80
	argumentSteps = 100
	fewArguments  = 4
	wholeSteps    = 70
	commandSteps  = 12
	drawSteps     = 80      // for each element that is drawn by lot
	packedEach    = 4       // bytes of a packed value for a step
	depthSteps    = 7       // for each time that a collection's size was doubled
	packedMost    = 8 << 10 // bytes, behind which a packed value is a document or a sketch, which are not searched from end to end
)

// wholeValues are commands that go over whole values, however short their answers are.
var wholeValues = map[string]bool{}

func init() {
	for _, name := range strings.Fields(`COPY DUMP GEORADIUS GEORADIUSBYMEMBER GEORADIUS_RO GEORADIUSBYMEMBER_RO GEOSEARCH GEOSEARCHSTORE
		LCS LINSERT LPOS LREM LTRIM SDIFF SDIFFCARD SDIFFSTORE SINTER SINTERCARD SINTERSTORE SORT SORT_RO SUNION SUNIONCARD SUNIONSTORE
		ZDIFF ZDIFFSTORE ZINTER ZINTERCARD ZINTERSTORE ZUNION ZUNIONSTORE ZRANGESTORE ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE
		HSCAN SSCAN ZSCAN SESSION.PATCH BITCOUNT BITOP BITPOS PFCOUNT PFMERGE`) {
		wholeValues[name] = true
		MustLookup(name).whole = true
	}
}

// effort is about what the running command takes beside its answer, as far as it can be told before: without it, a script
// could ask ten thousand times for what takes a millisecond. What shows only on the way, a command counts in Partition.effort.
func (c *call) effort() (steps int64) {
	steps = commandSteps + argumentSteps*int64(max(len(c.args)-fewArguments, 0))
	k := c.cache.dbs[c.db]
	if k == nil {
		return steps
	}
	switch c.cmd.Name {
	case "KEYS":
		return steps + 5*int64(k.table.Len())
	case "RANDOMKEY":
		return steps + 135
	case "FLUSHALL", "FLUSHDB":
		return steps + 270
	}
	whole := wholeValues[c.cmd.Name]
	if whole {
		steps += wholeSteps
	}
	var room [8][]byte
	product := int64(1)
	for _, key := range c.cmd.AppendKeys(room[:0], c.args) {
		c.step()
		ref := k.table.Find(k.p.store.Hash(key), key)
		if ref == 0 {
			continue
		}
		size := k.costOf(ref)
		kind := k.p.store.Kind(ref)
		plain := kind == kindString || kind == kindTagged || kind == kindMarked
		switch {
		case whole && !plain:
			steps += 5 * size / 2
		case whole:
			steps += size / 12
		case kind == kindObject:
			steps += depthSteps * int64(bits.Len64(uint64(size)))
		case !plain: // a packed value is walked through
			steps += min(size, packedMost) / packedEach
		}
		product *= max(size, 1)
	}
	switch c.cmd.Name {
	case "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER", "SPOP":
		if len(c.args) > 2 {
			n, _ := parseInt(c.args[2])
			steps += drawSteps * max(min(n, product), min(-n, maxDraws), 0)
		}
	case "LCS":
		steps += product / 3
	case "SORT", "SORT_RO":
		steps *= 1 + int64(len(c.args))/2 // as many look-ups for each element as there are patterns
	}
	return steps
}

// Own commands do in scripts what they do nowhere else: elsewhere they are about a connection. They return an error, or "".
var ownCommands = map[string]func(s *scriptRun, args [][]byte, out Reply) (failed string){
	"SELECT": func(s *scriptRun, args [][]byte, out Reply) string {
		if len(args) != 2 {
			return "Wrong number of args calling command from script"
		}
		n, ok := parseInt(args[1])
		switch {
		case !ok:
			out.Error(errNotInteger)
		case n < 0 || n >= Databases:
			out.Error(fault.New(fault.OutOfRange, "engine.select", "DB index is out of range"))
		default:
			s.c.db = int(n)
			out.Status("OK")
		}
		return ""
	},
	"TIME": func(s *scriptRun, args [][]byte, out Reply) string {
		if len(args) != 1 {
			return "Wrong number of args calling command from script"
		}
		out.Array(2)
		out.Bulk(strconv.AppendInt(nil, s.c.now/1000, 10))
		out.Bulk(strconv.AppendInt(nil, s.c.now%1000*1000, 10))
		return ""
	},
	"WAIT": func(_ *scriptRun, args [][]byte, out Reply) string {
		if len(args) != 3 {
			return "Wrong number of args calling command from script"
		}
		out.Int(0)
		return ""
	},
	"WAITAOF": func(_ *scriptRun, args [][]byte, out Reply) string {
		if len(args) != 4 {
			return "Wrong number of args calling command from script"
		}
		out.Array(2)
		out.Int(0)
		out.Int(0)
		return ""
	},
}

func ownCommand(name []byte) func(s *scriptRun, args [][]byte, out Reply) string {
	return ownCommands[strings.ToUpper(string(name))]
}

// forbidden are commands of Redis's that scripts cannot call, whether we have them or not.
var forbidden = map[string]bool{}

func init() {
	for _, name := range strings.Fields(`ACL ASKING AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER CONFIG DEBUG DISCARD EVAL EVALSHA EVALSHA_RO EVAL_RO EXEC
		FAILOVER FCALL FCALL_RO FUNCTION HELLO INFO LATENCY MEMORY MIGRATE MODULE MONITOR MULTI PSUBSCRIBE PSYNC PUNSUBSCRIBE QUIT READONLY READWRITE
		REPLCONF REPLICAOF RESET RESTORE-ASKING ROLE SAVE SCRIPT SHUTDOWN SLAVEOF SLOWLOG COMMANDLOG SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE SYNC UNSUBSCRIBE UNWATCH WATCH`) {
		forbidden[name] = true
	}
}

func notForScripts(name []byte) bool { return forbidden[strings.ToUpper(string(name))] }
