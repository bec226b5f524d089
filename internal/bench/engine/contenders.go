package main

import (
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/VictoriaMetrics/fastcache"
	"github.com/allegro/bigcache/v3"
	"github.com/coocood/freecache"
	"github.com/maypok86/otter/v2"
)

// A contender stores items in this process. Keys and values are lent to it; whoever keeps them copies them. get
// copies the value into a buffer of the contender's, unless its library returns a copy anyhow.
type contender interface {
	get(key []byte) (found bool)
	set(key, value []byte) // with the key's lifetime, when the contender was made with lifetimes
}

// A batcher can be asked for several keys at once, which stand one behind the other in keys.
type batcher interface {
	getMany(keys []byte) (found int)
	setMany(keys []byte)
}

// A maintained contender has background work, which is done every 10 ms while it is loaded and counts as part of
// the load.
type maintained interface{ tick() }

// The contenders by name, Larder first. None is told how many items will come, except those that reserve their
// room in advance: bigcache, freecache and fastcache get room for 2.5 times as many as will be there, because a
// value that is overwritten takes room in bigcache and fastcache until their rings come round. They touch what
// they use, so room to spare costs them no RSS.
var contenders = []struct {
	name     string
	lifetime bool // it knows lifetimes
	make     func(n int, lifetime bool) contender
}{
	{"Larder", true, func(n int, lifetime bool) contender { return newLarder(lifetime) }},
	{"map + mutex", false, func(int, bool) contender { return &goMap{m: map[string][]byte{}} }},
	{"otter", true, newOtter},
	{"bigcache", true, newBigcache},
	{"freecache", true, func(n int, lifetime bool) contender {
		return &freeCache{c: freecache.NewCache(reserve(n)), lifetime: lifetime}
	}},
	{"fastcache", false, func(n int, _ bool) contender { return &fastCache{c: fastcache.New(reserve(n))} }},
	{"(nothing)", false, func(int, bool) contender { return nothing{} }},
}

// reserve is the room in bytes for 2.5 n items of a library that puts up to 26 bytes before each.
func reserve(n int) int { return max(n*(keySize+valueSize+26)*5/2, 64<<20) }

func newContender(name string, n int, lifetime bool) (contender, error) {
	for _, c := range contenders {
		if c.name == name {
			return c.make(n, lifetime), nil
		}
	}
	return nil, fmt.Errorf("no contender %q", name)
}

// nothing is the loop alone: what it reports is the cost of the loop and the noise of the machine.
type nothing struct{}

func (nothing) get([]byte) bool { return true }
func (nothing) set(_, _ []byte) {}

type goMap struct {
	mu  sync.Mutex
	m   map[string][]byte
	out []byte
}

func (c *goMap) get(key []byte) bool {
	c.mu.Lock()
	v, ok := c.m[string(key)]
	c.out = append(c.out[:0], v...)
	c.mu.Unlock()
	return ok
}

// set makes a new value, as a cache must whose readers may still hold the old one.
func (c *goMap) set(key, value []byte) {
	own := append([]byte(nil), value...)
	c.mu.Lock()
	c.m[string(key)] = own
	c.mu.Unlock()
}

type otterCache struct {
	c   *otter.Cache[string, []byte]
	out []byte
}

func newOtter(n int, lifetime bool) contender {
	o := &otter.Options[string, []byte]{MaximumSize: 2 * n}
	if lifetime {
		o.ExpiryCalculator = otter.ExpiryWritingFunc(func(e otter.Entry[string, []byte]) time.Duration {
			return time.Duration(lifetimeOf([]byte(e.Key)).ms) * time.Millisecond
		})
	}
	return &otterCache{c: otter.Must(o)}
}

func (c *otterCache) get(key []byte) bool {
	v, ok := c.c.GetIfPresent(unsafe.String(unsafe.SliceData(key), len(key))) // spares it a conversion that allocates
	c.out = append(c.out[:0], v...)
	return ok
}

func (c *otterCache) set(key, value []byte) { c.c.Set(string(key), append([]byte(nil), value...)) }

type bigCache struct{ c *bigcache.BigCache }

// newBigcache has one lifetime for all items, since it knows no other, with lifetimes and without.
func newBigcache(n int, _ bool) contender {
	config := bigcache.DefaultConfig(2 * time.Hour)
	config.CleanWindow, config.Verbose = 0, false
	config.MaxEntriesInWindow, config.MaxEntrySize = n, keySize+valueSize+20
	config.HardMaxCacheSize = reserve(n) >> 20
	c, err := bigcache.NewBigCache(config)
	if err != nil {
		panic(err)
	}
	return &bigCache{c: c}
}

func (c *bigCache) get(key []byte) bool {
	_, err := c.c.Get(unsafe.String(unsafe.SliceData(key), len(key))) // which copies
	return err == nil
}

func (c *bigCache) set(key, value []byte) {
	if err := c.c.Set(unsafe.String(unsafe.SliceData(key), len(key)), value); err != nil {
		panic(err)
	}
}

type freeCache struct {
	c        *freecache.Cache
	lifetime bool
	out      [valueSize]byte
}

func (c *freeCache) get(key []byte) bool {
	_, err := c.c.GetWithBuf(key, c.out[:])
	return err == nil
}

func (c *freeCache) set(key, value []byte) {
	seconds := 0
	if c.lifetime {
		seconds = lifetimeOf(key).ms / 1000
	}
	if err := c.c.Set(key, value, seconds); err != nil {
		panic(err)
	}
}

type fastCache struct {
	c   *fastcache.Cache
	out []byte
}

func (c *fastCache) get(key []byte) (found bool) {
	c.out, found = c.c.HasGet(c.out[:0], key)
	return found
}

func (c *fastCache) set(key, value []byte) { c.c.Set(key, value) }
