package engine

// A call that only reads and goes over much rests now and then: whoever holds the partition's lock lets others in. What it is
// about to read must not change meanwhile, so those may read whatever they like, and write to other caches. What they do not do:
//
//	Z1: while a call on a cache rests, nothing is written to that cache: its caller sees to that
//	Z2: while any call rests, no record moves, and none that was freed is used again: resting sees to that
//
// So the answer is that of one moment, as if the call had never rested. Scripts do not rest, nor does what writes.

// restEvery is how many elements a call goes over before it rests: a fraction of a millisecond.
const restEvery = 2048

// SetRest has long readings rest: rest is called in the middle of a task of that cache, and may have the partition carry out
// others, within Z1, before it returns. nil, as at the beginning, lets nothing rest.
func (p *Partition) SetRest(rest func(cache CacheID)) { p.rest = rest }

// step counts an element that a call goes over.
func (c *call) step() {
	if p := c.p; p.patience > 0 {
		if p.patience--; p.patience == 0 {
			p.breathe()
		}
	}
}

// breathe rests, and leaves all that the call has at hand as it was.
func (p *Partition) breathe() {
	if p.running.task.Brief {
		panic(errLasts)
	}
	mine, dice := p.workspace, *p.dice
	p.workspace = workspace{}
	p.resting++
	p.rest(mine.running.task.Cache)
	p.resting--
	p.workspace, *p.dice = mine, dice
	p.patience = restEvery
	p.rested++
}

// settle is dense.Store.Settle, unless somebody rests who may look at what was freed.
func (p *Partition) settle() {
	if p.resting == 0 {
		p.store.Settle()
	}
}
