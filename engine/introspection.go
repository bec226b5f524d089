package engine

import (
	"fmt"
	"strconv"

	"github.com/larder-cache/larder/internal/fault"
)

// Commands about a cache as a whole, or about what it costs to keep a key. They speak of this cache alone: of the process
// around it a client of a shared service learns nothing.
var introspectionCommands = []Command{
	{Name: "TIME", Arity: 1, Flags: Fast, Group: GroupServer, Categorized: []string{"@fast"}, Action: "cache:Connect", run: timeOf,
		Summary: "Tells the time by which deadlines are judged: seconds since 1970, and microseconds of the next", Complexity: "O(1)", Since: "2.6.0"},
	{Name: "SWAPDB", Arity: 3, Spread: PartsSame, Flags: Writes | Fast | Dangerous, Group: GroupServer, Action: "cache:Flush", run: swapdb,
		Usage: "index1 index2", Summary: "Swaps two databases of the cache", Complexity: "O(1)", Since: "4.0.0"},
	{Name: "MEMORY", Arity: -2, Keys: Keys{First: 2, Last: 2, Step: 1}, Group: GroupServer, Categorized: []string{"@read", "@slow"}, Action: "cache:Inspect", run: memoryOf,
		Usage: "<USAGE key [SAMPLES count] | STATS | DOCTOR | PURGE | MALLOC-STATS | HELP>", Summary: "Tells what a key, or all of the cache, takes of its memory limit", Complexity: "O(1)", Since: "4.0.0"},
	{Name: "LOLWUT", Arity: -1, Flags: Fast, Group: GroupServer, Categorized: []string{"@read", "@fast"}, Action: "cache:Connect", run: lolwut,
		Usage: "[VERSION version]", Summary: "Draws something of no use", Complexity: "O(1)", Since: "5.0.0"},
}

func timeOf(c *call) error {
	c.out.Array(2)
	c.out.Bulk(strconv.AppendInt(c.digits[:0], c.now/1000, 10))
	c.out.Bulk(strconv.AppendInt(c.digits[:0], c.now%1000*1000, 10))
	return nil
}

func swapdb(c *call) error {
	a, ok := parseInt(c.args[1])
	if !ok || a != int64(int32(a)) {
		return fault.About(fault.InvalidArgument, c.cmd.Name, "index1", "invalid first DB index")
	}
	b, ok := parseInt(c.args[2])
	if !ok || b != int64(int32(b)) {
		return fault.About(fault.InvalidArgument, c.cmd.Name, "index2", "invalid second DB index")
	}
	if a < 0 || b < 0 || a >= Databases || b >= Databases {
		return errDatabase
	}
	owner := c.cache
	if j := c.p.journal; j != nil {
		j.add(func() { owner.swap(int(a), int(b)) })
	}
	owner.swap(int(a), int(b))
	c.out.Status("OK")
	return nil
}

// swap gives two databases each other's keys. Whoever holds on to a keyspace holds on to the keys.
func (c *cache) swap(a, b int) {
	c.emptied()
	c.dbs[a], c.dbs[b] = c.dbs[b], c.dbs[a]
	for _, db := range [2]int{a, b} {
		if k := c.dbs[db]; k != nil {
			k.db = db
		}
	}
}

var memoryArities = map[string]int{"USAGE": -3, "STATS": 2, "DOCTOR": 2, "PURGE": 2, "MALLOC-STATS": 2, "HELP": 2}

var memoryHelp = []string{
	"DOCTOR",
	"    Says whether the cache is near its memory limit.",
	"MALLOC-STATS",
	"    What the cache takes, in words.",
	"PURGE",
	"    Does nothing: memory is given back all the time.",
	"STATS",
	"    What the cache takes, in numbers.",
	"USAGE <key> [SAMPLES <count>]",
	"    The bytes that a key with its value takes of the memory limit. They are",
	"    exact, so that no samples are taken.",
}

func memoryOf(c *call) error {
	sub, err := c.subcommand(memoryArities)
	if err != nil {
		return err
	}
	switch sub {
	case "USAGE":
		return c.memoryUsage()
	case "STATS":
		c.memoryStats()
	case "DOCTOR":
		c.out.Text(c.diagnosis())
	case "MALLOC-STATS":
		s, _ := c.p.Stats(c.cache.id)
		c.out.Text(fmt.Sprintf("%d keys take %d bytes of the cache's memory limit of %d (0: none).", s.Items, s.Bytes, c.cache.settings.MemoryLimit))
	case "PURGE":
		c.out.Status("OK")
	case "HELP":
		return c.help(memoryHelp)
	}
	return nil
}

func (c *call) memoryUsage() error {
	for rest := c.args[3:]; len(rest) > 0; rest = rest[2:] {
		if len(rest) < 2 || !is(rest[0], "SAMPLES") {
			return errSyntax
		}
		if n, ok := parseInt(rest[1]); !ok {
			return errNotInteger
		} else if n < 0 {
			return errSyntax
		}
	}
	if it := c.peek(c.args[2]); it != nil {
		c.out.Int(it.home.costOf(it.ref))
	} else {
		c.out.Null()
	}
	return nil
}

// memoryStats answers with those of Redis's numbers that there are for one cache.
func (c *call) memoryStats() {
	s, _ := c.p.Stats(c.cache.id)
	overhead, used := int64(0), 0
	for _, k := range c.cache.dbs {
		if k != nil && k.table.Len() > 0 {
			overhead += k.indexes()
			used++
		}
	}
	perKey, share := int64(0), 0.0
	if s.Items > 0 {
		perKey = s.Bytes / s.Items
		share = float64(s.Bytes-overhead) / float64(s.Bytes) * 100
	}
	c.out.Map(7 + used)
	for _, n := range []struct {
		name  string
		value int64
	}{{"total.allocated", s.Bytes}, {"maxmemory", c.cache.settings.MemoryLimit}, {"overhead.total", overhead},
		{"keys.count", s.Items}, {"keys.bytes-per-key", perKey}, {"dataset.bytes", s.Bytes - overhead}} {
		c.out.Text(n.name)
		c.out.Int(n.value)
	}
	c.out.Text("dataset.percentage")
	c.out.Double(share)
	for db, k := range c.cache.dbs {
		if k == nil || k.table.Len() == 0 {
			continue
		}
		c.out.Text("db." + strconv.Itoa(db))
		c.out.Map(2)
		c.out.Text("overhead.hashtable.main")
		c.out.Int(indexShare * int64(k.table.Len()))
		c.out.Text("overhead.hashtable.expires")
		c.out.Int(calendarShare * int64(k.timed()))
	}
}

func (c *call) diagnosis() string {
	s, _ := c.p.Stats(c.cache.id)
	limit := c.cache.settings.MemoryLimit
	switch {
	case limit == 0:
		return fmt.Sprintf("The cache takes %d bytes and has no memory limit.", s.Bytes)
	case s.Bytes < limit-limit/10:
		return fmt.Sprintf("The cache takes %d of at most %d bytes.", s.Bytes, limit)
	case c.cache.settings.Eviction == NoEviction:
		return fmt.Sprintf("The cache takes %d of at most %d bytes, and evicts nothing: writes will soon be refused.", s.Bytes, limit)
	}
	return fmt.Sprintf("The cache takes %d of at most %d bytes and evicts as %s says; it has evicted %d keys.", s.Bytes, limit, c.cache.settings.Eviction, s.Evicted)
}

// The shelf is the same for every version that is asked for.
func lolwut(c *call) error {
	c.out.Text(" _   ___   _    ___ \n(_) |   | (_)  |   |\n| | | L | | |  | D |\n|_| |___| |_|  |___|\n====================\nLarder, with the commands of Redis ver. 7.4.0\n")
	return nil
}
