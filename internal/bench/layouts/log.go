package main

import "github.com/larder-cache/larder/engine/memory"

// appending is a log: records are only ever appended, and when more than an eighth of it is dead, and a little, Maintain
// copies what lives in the emptiest block to the end, and gives the block back.
//
//	A1: live of a block is the bytes of its records that the index points to; the rest up to end is dead
type appending struct {
	pages  *memory.Pages
	index  index
	diary  diary
	blocks []logBlock // 0 does not exist
	vacant []int
	open   int // where new records go
	clean  int // the block that is being cleaned, 0 for none
	at     int // its next record to look at
	total  int64
	usage  Usage
}

type logBlock struct {
	mem       []byte
	end, live int
}

func newLog(records int) Layout {
	l := &appending{pages: memory.New(), blocks: make([]logBlock, 1)}
	l.index = newIndex(records, func(r ref) []byte {
		key, _, _, _ := readRecord(l.bytes(r))
		return key
	})
	return l
}

func (l *appending) bytes(r ref) []byte { return l.blocks[r.block()].mem[r.offset():] }

// place appends room for n bytes.
func (l *appending) place(n int) ref {
	if l.open == 0 || l.blocks[l.open].end+n > blockSize {
		if old := l.open; old != 0 {
			l.total += int64(blockSize - l.blocks[old].end)
		}
		at := len(l.blocks)
		if n := len(l.vacant); n > 0 {
			at, l.vacant = l.vacant[n-1], l.vacant[:n-1]
		} else {
			l.blocks = append(l.blocks, logBlock{})
		}
		l.blocks[at].mem = l.pages.Alloc(blockSize)
		old := l.open
		l.open = at
		l.giveBack(old)
	}
	b := &l.blocks[l.open]
	r := refOf(l.open, b.end)
	b.end += n
	b.live += n
	l.total += int64(n)
	return r
}

func (l *appending) release(r ref, n int) {
	l.blocks[r.block()].live -= n
	l.giveBack(r.block())
}

// giveBack gives a block back that holds nothing alive.
func (l *appending) giveBack(at int) {
	b := &l.blocks[at]
	if at == 0 || at == l.open || b.live > 0 {
		return
	}
	l.pages.Free(b.mem)
	l.total -= blockSize
	*b = logBlock{}
	l.vacant = append(l.vacant, at)
	if at == l.clean {
		l.clean = 0
	}
}

func (l *appending) Put(key, value []byte, expireAt int64) {
	n, hash := sizeOf(key, value, expireAt), hashOf(key)
	at, old := l.index.find(hash, key)
	r := l.place(n)
	writeRecord(l.bytes(r), key, value, expireAt)
	l.index.set(at, hash, r)
	if old != 0 {
		_, _, _, was := readRecord(l.bytes(old))
		l.usage.Live -= int64(was)
		l.release(old, was)
	}
	l.usage.Live += int64(n)
	l.usage.Written += int64(n)
	if expireAt != 0 {
		l.diary.add(key, expireAt)
	}
}

func (l *appending) Get(key []byte) []byte {
	_, r := l.index.find(hashOf(key), key)
	if r == 0 {
		return nil
	}
	_, value, _, _ := readRecord(l.bytes(r))
	return value
}

func (l *appending) Delete(key []byte) {
	at, r := l.index.find(hashOf(key), key)
	if r == 0 {
		return
	}
	_, _, _, n := readRecord(l.bytes(r))
	l.index.drop(at)
	l.usage.Live -= int64(n)
	l.release(r, n)
}

func (l *appending) Expire(now int64, atMost int) {
	l.diary.due(now, atMost, func(key []byte) {
		_, r := l.index.find(hashOf(key), key)
		if r == 0 {
			return
		}
		if _, _, at, _ := readRecord(l.bytes(r)); at != 0 && at <= now {
			l.Delete(key)
		}
	})
}

func (l *appending) Maintain(steps int) bool {
	for steps > 0 {
		if l.clean == 0 && !l.choose() {
			return false
		}
		b := &l.blocks[l.clean]
		from := refOf(l.clean, l.at)
		key, _, _, n := readRecord(l.bytes(from))
		l.at += n
		steps--
		hash := hashOf(key)
		slot, alive := l.index.locate(hash, from)
		if !alive {
			continue
		}
		to := l.place(n)
		b = &l.blocks[l.clean]
		copy(l.bytes(to), b.mem[from.offset():from.offset()+n])
		l.index.set(slot, hash, to)
		l.usage.Moved += int64(n)
		l.release(from, n)
		steps -= 8
	}
	return true
}

// choose picks the emptiest block, if enough of the log is dead.
func (l *appending) choose() bool {
	if l.total-l.usage.Live <= l.total/8+2*blockSize {
		return false
	}
	least := 0
	for at := range l.blocks {
		if l.blocks[at].mem != nil && at != l.open && (least == 0 || l.blocks[at].live < l.blocks[least].live) {
			least = at
		}
	}
	l.clean, l.at = least, 0
	return least != 0
}

func (l *appending) Usage() Usage {
	u := l.usage
	u.Memory = l.pages.Used()
	return u
}

func (l *appending) Close() { l.pages.Close() }
