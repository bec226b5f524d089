// Command engine measures the engine beside others: libraries in process, and redis-server and memcached as
// processes. It writes one page, docs/reference/engine-benchmarks.md; the page's head says how each number came
// about. Each contender of each size is a fresh process: this binary again, with -child.
//
// Start with run, which says what is measured in which order; child.go measures stores of items in process,
// zset.go and memory.go what only concerns Larder, servers.go the two servers, page.go writes it all down.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	items    = flag.String("items", "1,5,10", "how many items, in millions, with commas between")
	quick    = flag.Bool("quick", false, "small sizes and few rounds, to see that it works")
	only     = flag.String("only", "", "only these sections, with commas between: store, ttl, servers, zset, delete, caches, mixed, soak")
	page     = flag.String("out", "docs/reference/engine-benchmarks.md", "the page to write; - for standard output")
	soak     = flag.Duration("soak", 20*time.Second, "how long to churn at a memory limit")
	rounds   = flag.Int("rounds", 5, "how often Larder and a peer are timed in turn")
	profile  = flag.String("cpuprofile", "", "write CPU profiles of Larder's GET and SET to this name with .get and .set behind it, and do nothing else")
	childJob = flag.String("child", "", "be a child process with this job (used by this program itself)")
)

var sections = []string{"store", "ttl", "servers", "zset", "delete", "caches", "mixed", "soak"}

func main() {
	flag.Parse()
	log.SetFlags(0)
	if *childJob != "" {
		beChild(*childJob)
		return
	}
	p, err := planned()
	switch {
	case err != nil:
	case *profile != "":
		err = profileLarder(p.sizes[0], *profile)
	default:
		err = run(p)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// A plan is what this run measures, by the flags.
type plan struct {
	sizes    []int // items
	memory   []int // sizes at which only memory is measured: where a bar stands
	boards   []int // members of the sorted sets
	deleted  int   // items
	wait     float64
	caches   int
	mixed    int64 // accounted bytes
	soak     time.Duration
	limit    int64
	rounds   int     // at the smallest size; at most 3 at others
	ops      int     // in each round
	tails    int     // single operations timed
	watch    float64 // seconds for which the collector is watched
	sections []string
}

func planned() (plan, error) {
	p := plan{memory: []int{3_000_000}, boards: []int{1_000_000, 10_000_000}, deleted: 5_000_000, wait: 30, caches: 10_000, mixed: 300 << 20,
		soak: *soak, limit: 256 << 20, rounds: *rounds, ops: 150 * batch, tails: 1000 * batch, watch: 2, sections: sections}
	list := *items
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if *quick {
		p.memory, p.boards, p.deleted, p.wait, p.mixed, p.limit = nil, []int{200_000}, 1_000_000, 10, 50<<20, 64<<20
		p.rounds, p.ops, p.tails, p.watch = 3, 50*batch, 100*batch, 0.7
		if !given["items"] {
			list = "1"
		}
		if !given["soak"] {
			p.soak = 5 * time.Second
		}
	}
	for text := range strings.SplitSeq(list, ",") {
		millions, err := strconv.ParseFloat(text, 64)
		if err != nil || millions*1e6 < 1000 {
			return p, fmt.Errorf("-items: %q is no number of millions", text)
		}
		p.sizes = append(p.sizes, int(millions*1e6))
	}
	slices.Sort(p.sizes)
	p.memory = slices.DeleteFunc(p.memory, func(n int) bool { return slices.Contains(p.sizes, n) })
	if *only != "" {
		p.sections = strings.Split(*only, ",")
	}
	for _, s := range p.sections {
		if !slices.Contains(sections, s) {
			return p, fmt.Errorf("-only: there is no section %q; there are %s", s, strings.Join(sections, ", "))
		}
	}
	return p, nil
}

func (p plan) has(section string) bool { return slices.Contains(p.sections, section) }

// Results is all that a run measured.
type Results struct {
	plan    plan
	Began   time.Time
	Stores  []Stores
	Servers []ServerItems
	Boards  []Boards
	Deleted *Deleted
	Caches  *Caches
	Mixed   []Mixed
	Soaked  *Soaked
}

// Stores are the contenders at one size, Larder first.
type Stores struct {
	N        int
	Lifetime bool
	Rows     []Row
}

// A Row is what was measured of one contender at one size. Ratios are Larder's ÷ this one's, of operations a
// second: the median of the rounds.
type Row struct {
	Name               string
	Load               Loaded
	Get, Set           []Speed
	GetRatio, SetRatio float64 // one call to a task
	GetMany, SetMany   float64 // manyCalls to a task
	Tails              Tails
	GC                 Collector
}

// ServerItems are bytes of RSS for each item in the servers; 0 where one is not installed.
type ServerItems struct {
	N                int
	Lifetime         bool
	Redis, Memcached float64
}

// Boards are the same sorted set in both.
type Boards struct {
	N             int
	Larder, Redis Board
}

func run(p plan) error {
	r := Results{plan: p, Began: time.Now()}
	for _, lifetime := range []bool{false, true} {
		if !lifetime && !p.has("store") || lifetime && !p.has("ttl") {
			continue
		}
		for _, n := range p.memory {
			note("%d items in process, memory alone", n)
			loaded, _, err := startStore("Larder", n, lifetime, true)
			if err != nil {
				return err
			}
			r.Stores = append(r.Stores, Stores{N: n, Lifetime: lifetime, Rows: []Row{{Name: "Larder", Load: loaded}}})
		}
		for _, n := range p.sizes {
			s, err := measureStores(p, n, lifetime)
			if err != nil {
				return err
			}
			r.Stores = append(r.Stores, s)
		}
	}
	if p.has("servers") {
		if err := r.measureServers(); err != nil {
			return err
		}
	}
	if p.has("zset") {
		for _, n := range p.boards {
			note("a sorted set of %d members", n)
			ours, err := once[Board](job{Kind: "zset", N: n})
			if err != nil {
				return err
			}
			b := Boards{N: n, Larder: ours}
			if installed("redis-server") {
				if b.Redis, err = redisBoard(n); err != nil {
					return err
				}
			}
			r.Boards = append(r.Boards, b)
		}
	}
	if p.has("delete") {
		note("deleting 90 %% of %d items", p.deleted)
		d, err := once[Deleted](job{Kind: "delete", N: p.deleted, Seconds: p.wait})
		if err != nil {
			return err
		}
		r.Deleted = &d
	}
	if p.has("caches") {
		note("%d caches", p.caches)
		c, err := once[Caches](job{Kind: "caches", N: p.caches})
		if err != nil {
			return err
		}
		r.Caches = &c
	}
	if p.has("mixed") {
		for _, name := range mixedTypes {
			note("the account: %s", name)
			m, err := once[Mixed](job{Kind: "mixed", Name: name, Bytes: p.mixed})
			if err != nil {
				return err
			}
			r.Mixed = append(r.Mixed, m)
		}
	}
	if p.has("soak") {
		note("churning for %v", p.soak)
		s, err := once[Soaked](job{Kind: "soak", Seconds: p.soak.Seconds(), Bytes: p.limit})
		if err != nil {
			return err
		}
		r.Soaked = &s
	}
	text := r.page()
	if *page == "-" {
		fmt.Print(text)
		return nil
	}
	fmt.Print(r.bars())
	return os.WriteFile(*page, []byte(text), 0o644)
}

func startStore(name string, n int, lifetime, stop bool) (loaded Loaded, c *child, err error) {
	if c, err = startChild(job{Kind: "store", Name: name, N: n, Lifetime: lifetime}); err != nil {
		return loaded, nil, err
	}
	err = c.ask(request{Do: "load"}, &loaded)
	if err != nil || stop {
		if failed := c.stop(); err == nil {
			err = failed
		}
		return loaded, nil, err
	}
	return loaded, c, nil
}

// measureStores measures every contender at one size. Larder's process stays, idle, while its peers' come and
// go: each peer is timed in rounds with it, by turns.
func measureStores(p plan, n int, lifetime bool) (Stores, error) {
	s := Stores{N: n, Lifetime: lifetime}
	var ours *child
	defer func() {
		if ours != nil {
			_ = ours.stop()
		}
	}()
	var many Row
	for _, c := range contenders {
		if lifetime && !c.lifetime {
			continue
		}
		note("%d items in process, lifetimes %t: %s", n, lifetime, c.name)
		row := Row{Name: c.name}
		loaded, theirs, err := startStore(c.name, n, lifetime, false)
		if err != nil {
			return s, err
		}
		row.Load = loaded
		if ours == nil {
			ours = theirs
		} else if c.name == "(nothing)" {
			// There is no ratio to it.
		} else if err := row.timeInTurn(p, n, ours, theirs, &s.Rows[0], &many); err != nil {
			return s, err
		}
		if err := theirs.ask(request{Do: "latency", Ops: p.tails}, &row.Tails); err != nil {
			return s, err
		}
		if !lifetime {
			if err := theirs.ask(request{Do: "gc", Seconds: p.watch}, &row.GC); err != nil {
				return s, err
			}
		}
		s.Rows = append(s.Rows, row)
		if theirs != ours {
			if err := theirs.stop(); err != nil {
				return s, err
			}
		}
	}
	many.Name = fmt.Sprintf("Larder, %d calls to a task", manyCalls)
	s.Rows = slices.Insert(s.Rows, 1, many)
	return s, nil
}

// timeInTurn times Larder, with one and with many calls to a task, and a peer, round by round.
func (row *Row) timeInTurn(p plan, n int, ours, theirs *child, one, many *Row) error {
	time1 := func(c *child, do string, several bool, into *[]Speed) (float64, error) {
		var s Speed
		err := c.ask(request{Do: do, Ops: p.ops, Many: several}, &s)
		*into = append(*into, s)
		return s.Nanoseconds, err
	}
	rounds := p.rounds
	if n > p.sizes[0] {
		rounds = min(rounds, 3)
	}
	var ratios [4][]float64
	for range rounds {
		for i, do := range []string{"get", "set"} {
			mine, manyMine, their := &one.Get, &many.Get, &row.Get
			if do == "set" {
				mine, manyMine, their = &one.Set, &many.Set, &row.Set
			}
			a, err := time1(ours, do, false, mine)
			if err != nil {
				return err
			}
			b, err := time1(theirs, do, false, their)
			if err != nil {
				return err
			}
			c, err := time1(ours, do, true, manyMine)
			if err != nil {
				return err
			}
			ratios[i], ratios[2+i] = append(ratios[i], b/a), append(ratios[2+i], b/c)
		}
	}
	row.GetRatio, row.SetRatio, row.GetMany, row.SetMany = median(ratios[0]), median(ratios[1]), median(ratios[2]), median(ratios[3])
	return nil
}

func (r *Results) measureServers() error {
	sizes := slices.Sorted(slices.Values(slices.Concat(r.plan.sizes, r.plan.memory)))
	for _, n := range sizes {
		for _, lifetime := range []bool{false, true} {
			note("%d items in the servers, lifetimes %t", n, lifetime)
			s := ServerItems{N: n, Lifetime: lifetime}
			var err error
			if installed("redis-server") {
				if s.Redis, err = redisItems(n, lifetime); err != nil {
					return err
				}
			}
			if installed("memcached") {
				if s.Memcached, err = memcachedItems(n, lifetime); err != nil {
					return err
				}
			}
			r.Servers = append(r.Servers, s)
		}
	}
	return nil
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
