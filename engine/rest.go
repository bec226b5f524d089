package engine

// A call that only reads and goes over much rests now and then: whoever holds the partition's lock lets others in. What it is
// about to read must not change meanwhile, so those may read whatever they like, and write to other caches. What they do not do:
//
//	Z1: while a call on a cache rests, nothing is written to that cache: its caller sees to that
//	Z2: while any call rests, no record moves, and none that was freed is used again: resting sees to that
//
// So the answer is that of one moment, as if the call had never rested. Scripts do not rest.
//
// Of what writes, those rest that work their result out beside the data and put it under its key at the end (Command.rests): as
// long as they rest, they have only read. They do so where nothing has to be undone or told to others as it was done: outside of
// tasks that are done in one go, in caches that nobody follows, and that the caller of SetRests names.

// restEvery is how many elements a call goes over before it rests: a fraction of a millisecond.
const restEvery = 2048

// Rests are how long calls let others in.
type Rests struct {
	// In is called in the middle of a task of that cache, and may have the partition carry out others, within Z1, before it returns.
	// nil lets nothing rest.
	In func(cache CacheID)
	// Writes says of which caches writes may rest as well; nil: of none. Alone is called before such a write changes anything, and
	// returns when no other call of that cache rests: within Z1, what others look at must not change while they rest.
	Writes func(cache CacheID) bool
	Alone  func(cache CacheID)
}

// SetRests says how long calls rest; at the beginning none does.
func (p *Partition) SetRests(r Rests) { p.rests = r }

// mayRest reports whether a call that writes may rest.
func (c *call) mayRest() bool {
	return c.cmd.rests && c.cache != nil && c.cache.feeds == nil && !c.task.whole() && !c.task.Brief && c.p.rests.Writes != nil && c.p.rests.Writes(c.cache.id)
}

// step counts an element that a call goes over.
func (c *call) step() {
	if p := c.p; p.patience > 0 {
		if p.patience--; p.patience == 0 {
			p.breathe()
		}
	}
}

// steps counts so many at once, for what goes over bytes.
func (c *call) steps(n int) {
	if p := c.p; p.patience > 0 {
		if p.patience -= n; p.patience <= 0 {
			p.breathe()
		}
	}
}

// stepBytes are as much work as a step where they are gone over one after the other.
const stepBytes = 1024

// breathe rests, and leaves all that the call has at hand as it was.
func (p *Partition) breathe() {
	if p.running.task.Brief {
		panic(errLasts)
	}
	p.pause(p.rests.In)
	p.patience = restEvery
	p.rested++
}

// alone ends the rests of a call that writes, which has its result and is about to put it in place. Who has not rested is alone.
func (c *call) alone() {
	if p := c.p; p.rested > 0 {
		p.pause(p.rests.Alone)
	}
	c.p.patience = 0
}

func (p *Partition) pause(rest func(CacheID)) {
	mine, dice := p.workspace, *p.dice
	p.workspace = workspace{}
	p.resting++
	rest(mine.running.task.Cache)
	p.resting--
	p.workspace, *p.dice = mine, dice
}

// settle is dense.Store.Settle, unless somebody rests who may look at what was freed.
func (p *Partition) settle() {
	if p.resting == 0 {
		p.store.Settle()
	}
}
