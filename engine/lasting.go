package engine

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/larder-cache/larder/engine/script"
	"github.com/larder-cache/larder/internal/fault"
)

// How long one task keeps others waiting. Steps are those that scripts count, of about 10 ns.
//
//	H1: a task of several calls that may end in between does so after turnSteps
//	H2: a transaction that only reads rests between its calls, as a long reading does within one (rest.go)
//	H3: a transaction that writes is not begun when it would take more than wholeSpan, as far as the sizes of what it is about tell;
//	    scripts, of which nothing tells, are refused in any transaction behind wholeSpan
//	H4: a task with Brief ends before a reading goes over more than restEvery elements, and Lasts tells of one that writes before it is begun
//	H5: no call is begun that would take more than callSpan, and none behind that in a transaction that rests
const (
	turnSteps   = 400_000
	lastingSpan = 200_000 // from when on a task that writes is given to somebody whom nobody waits for
	wholeSpan   = 5_000_000
	callSpan    = 1_000_000_000
)

const (
	manyArguments = 256 // of a command that is quick by nature, and takes long all the same
	elementSteps  = 5   // for each element that a reading goes over
	takenSteps    = 20  // for each that is taken out
	briefSteps    = 25  // for a call that is brief
	restBytes     = 64  // of an answer, which count as one element
)

// errLasts ends a reading that is longer than its task allows. Nobody is shown it.
var errLasts = errors.New("engine: lasts")

// A Revocable is a Reply that can take back what it was told, up to where it had Len bytes. A task with Brief needs one.
type Revocable interface {
	Reply
	Len() int
	Truncate(n int)
}

// takers are commands that are quick by nature, but for how much they are asked to take out.
var takers = map[string]bool{}

func init() {
	for _, name := range strings.Fields("LPOP RPOP LMPOP BLMPOP SPOP ZPOPMIN ZPOPMAX ZMPOP BZMPOP XREADGROUP XAUTOCLAIM") {
		takers[name] = true
		MustLookup(name).takes = true
	}
}

// Brief reports whether a command is over soon with these arguments, whatever they are about. Scripts are bounded by themselves.
func (c *Command) Brief(args [][]byte) bool {
	switch {
	case len(args) > manyArguments, c.whole, c.takes && c.FactsOf(args, 0).MaxItems > restEvery:
		return false
	}
	return c.Flags&(Fast|Connection|Writes) != 0 || c.Group == GroupScripting
}

// Lasts reports whether a task that writes is going to take long, as far as can be told before.
func (p *Partition) Lasts(t *Task) bool { return p.expectAll(t, lastingSpan) > lastingSpan }

// expectAll is about what a task takes, in steps, scripts left out; it stops counting behind a limit.
func (p *Partition) expectAll(t *Task, limit int64) (sum int64) {
	p.patience = 0
	for i := range t.Calls {
		call := &t.Calls[i]
		if call.Command.Brief(call.Args) {
			sum += briefSteps + elementSteps*int64(len(call.Args))
		} else {
			sum += p.expect(t, call)
		}
		if sum > limit {
			break
		}
	}
	return sum
}

// expect is about what a call of a task will take, in steps; 0 for one that will be refused.
func (p *Partition) expect(t *Task, of *Call) (steps int64) {
	home := p.cache(t.Cache)
	if home == nil || t.DB < 0 || t.DB >= Databases || of.Command.CheckArity(len(of.Args)) != nil {
		return 0
	}
	if cmd := of.Command; cmd.Flags&Writes != 0 && !cmd.whole && !cmd.takes {
		return argumentSteps * int64(len(of.Args))
	}
	c := call{p: p, cache: home, db: t.DB, cmd: of.Command, args: of.Args}
	steps = c.effort()
	switch {
	case home.dbs[t.DB] == nil:
	case of.Command.takes:
		steps += takenSteps * c.elements()
	case of.Command.Flags&(Writes|Fast) == 0:
		steps += elementSteps * c.elements()
	}
	return steps
}

// elements bounds how many elements a call goes over: as many as its keys hold, or as it asks for.
func (c *call) elements() (n int64) {
	p, k := c.p, c.cache.dbs[c.db]
	var room [8][]byte
	for _, key := range c.cmd.AppendKeys(room[:0], c.args) {
		ref := k.table.Find(p.store.Hash(key), key)
		if ref == 0 || p.store.Kind(ref) != kindObject {
			continue
		}
		switch v := p.objects[binary.LittleEndian.Uint32(p.store.Value(ref))].value.(type) {
		case measured:
			n += int64(v.len())
		case *hashValue:
			n += 2 * int64(v.size())
		}
	}
	if asked := c.cmd.FactsOf(c.args, 0).MaxItems; asked >= 0 {
		n = min(n, asked)
	}
	return n
}

// tooLong says why a task that writes is not begun, nil when it is.
func (p *Partition) tooLong(t *Task) *fault.Error {
	if p.expectAll(t, wholeSpan) <= wholeSpan {
		return nil
	}
	return fault.New(fault.TooLarge, "engine.transaction", "nothing was done: the commands of this transaction would take more than %d steps, of about 10 ns, for which others would have to wait", wholeSpan)
}

// decline answers a task that is not begun.
func (t *Task) decline(e *fault.Error) {
	t.Failed, t.Replayed, t.Done, t.Parked, t.Moved = -1, false, len(t.Calls), nil, nil
	out := t.Reply
	if t.Atomic {
		t.Failed, t.Done = 0, 1
	}
	for i := 0; out != nil && i < t.Done; i++ {
		out.Error(e)
	}
}

// inTurn executes a call of a task, and adds to worked about what it took.
func (c *call) inTurn(t *Task, worked *int64) error {
	p, scripted := c.p, c.cmd.Group == GroupScripting
	brief := c.cmd.Brief(c.args)
	p.patience, p.rested = 0, 0
	if c.cache == nil || c.db < 0 || c.db >= Databases || c.cmd.CheckArity(len(c.args)) != nil {
		return c.perform()
	}
	if len(t.Calls) == 1 || brief && c.cmd.Flags&Fast != 0 {
		p.patience = c.patience(brief)
		err := c.goOver()
		c.answered()
		return err
	}
	if t.whole() && *worked > c.mayTake() && (scripted || !brief) {
		return fault.New(fault.TooLarge, "engine.transaction", "the commands before this one took as long as a transaction may: %d steps, of about 10 ns", c.mayTake())
	}
	*worked += c.effort()
	p.patience = c.patience(brief)
	p.effort, p.scriptUsed = 0, script.Cost{}
	before := p.patience
	err := c.goOver()
	*worked += p.effort + p.scriptUsed.Steps
	if before > 0 {
		*worked += elementSteps * int64(before-p.patience+p.rested*restEvery)
		p.unrested = p.patience
	}
	p.unrested -= int(p.scriptUsed.Steps / elementSteps)
	c.answered()
	return err
}

// mayTake is what a transaction may take, as far as it shows on the way.
func (c *call) mayTake() int64 {
	if c.writing || c.p.rests.In == nil || c.cmd.Group == GroupScripting {
		return wholeSpan
	}
	return callSpan
}

// patience is how many elements a call may go over before it rests, 0 for any number. A transaction rests before the call where it is
// time to.
func (c *call) patience(brief bool) int {
	p, t := c.p, c.task
	switch {
	case c.writing && c.mayRest():
		return restEvery
	case c.writing, brief && !t.whole(), p.rests.In == nil && !t.Brief:
		return 0
	}
	if t.whole() || t.Brief {
		if r, ok := c.out.(Revocable); ok {
			p.begins = r.Len()
		}
	}
	switch {
	case !t.whole() || t.Done == 0:
		p.unrested = restEvery
	case p.unrested <= 0:
		p.breathe()
		p.unrested = restEvery
	}
	if brief {
		return 0
	}
	return p.unrested
}

// answered counts the answer of a call of a transaction that rests.
func (c *call) answered() {
	p := c.p
	if c.writing || p.rests.In == nil || !c.task.whole() {
		return
	}
	p.unrested--
	if r, ok := c.out.(Revocable); ok {
		p.unrested -= max(r.Len()-p.begins, 0) / restBytes
	}
}

// goOver executes a call that may rest, or last.
func (c *call) goOver() (err error) {
	if c.p.patience == 0 || !c.task.Brief {
		return c.unlessEndless()
	}
	defer func() {
		if r := recover(); r == errLasts {
			err = errLasts
		} else if r != nil {
			panic(r)
		}
	}()
	return c.unlessEndless()
}

// unlessEndless executes a call that is not known to take very long.
func (c *call) unlessEndless() error {
	if c.cmd.whole && len(c.args) > manyArguments {
		if steps := c.effort(); steps > callSpan {
			return fault.New(fault.TooLarge, c.cmd.Name, "this would take about %d steps, of 10 ns: a command may take %d", steps, callSpan)
		}
	}
	return c.perform()
}

// takeBack ends a task before its call i, which was longer than the task allows. It only read, so there is nothing to undo but its answer.
func (c *call) takeBack(i int) {
	c.out.(Revocable).Truncate(c.p.begins)
	clear(c.p.changes)
	c.p.changes = c.p.changes[:0]
	c.task.Done, c.task.Lasts = i, i == 0
}
