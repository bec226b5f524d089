package redisapi

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

func init() {
	maps.Copy(handlers, map[string]handler{
		"CONFIG": noSubcommand, "CONFIG|GET": configGet, "CONFIG|SET": configSet, "CONFIG|RESETSTAT": configResetStat, "CONFIG|REWRITE": okay,
		"CONFIG|HELP": help("CONFIG",
			"GET <pattern>", "Return parameters matching the glob-like <pattern> and their values.",
			"SET <directive> <value>", "Set the configuration <directive> to <value>.",
			"RESETSTAT", "Reset statistics reported by the INFO command.",
			"REWRITE", "Rewrite the configuration file.",
		),
	})
}

// A parameter is a setting that belongs to the cache or to what this node observes of it.
type parameter struct {
	get func(s *Session, c *tenants.Cache) string
	// parse checks a value and says what to do with it: to change the cache's record, or what this node observes.
	parse func(value string) (change, error)
}

// A change is what CONFIG SET does for one parameter: one of the two.
type change struct {
	cache func(c *tenants.Cache)
	node  func(o *observations)
}

var parameters = map[string]parameter{
	"maxmemory": {
		get: func(_ *Session, c *tenants.Cache) string { return strconv.FormatInt(c.MemoryLimit, 10) },
		parse: func(value string) (change, error) {
			n, ok := parseMemory(value)
			if !ok {
				return change{}, invalid("argument must be a memory value")
			}
			return change{cache: func(c *tenants.Cache) {
				c.MemoryLimit, c.MaxValue = n, min(c.MaxValue, n)
			}}, nil
		},
	},
	"maxmemory-policy": {
		get: func(_ *Session, c *tenants.Cache) string { return c.Eviction },
		parse: func(value string) (change, error) {
			p, err := engine.ParseEvictionPolicy(strings.ToLower(value))
			if err != nil || value == "" {
				return change{}, invalid("argument(s) must be one of the following: " + strings.Join(engine.EvictionPolicies(), ", "))
			}
			return change{cache: func(c *tenants.Cache) { c.Eviction = p.String() }}, nil
		},
	},
	"notify-keyspace-events": {
		get: func(_ *Session, c *tenants.Cache) string { return c.NotifyKeyspaceEvents },
		parse: func(value string) (change, error) {
			class, err := engine.ParseEventClass(value)
			if err != nil {
				return change{}, invalid("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
			}
			return change{cache: func(c *tenants.Cache) { c.NotifyKeyspaceEvents = class.String() }}, nil
		},
	},
	"slowlog-log-slower-than": {
		get: func(s *Session, _ *tenants.Cache) string {
			return strconv.FormatInt(s.state.observed.threshold.Load(), 10)
		},
		parse: number(-1, 1<<62, func(o *observations, n int64) { o.threshold.Store(n) }),
	},
	"slowlog-max-len": {
		get:   func(s *Session, _ *tenants.Cache) string { return strconv.FormatInt(s.state.observed.keep.Load(), 10) },
		parse: number(0, maxSlow, (*observations).resize),
	},
	"acllog-max-len": {
		get: func(s *Session, _ *tenants.Cache) string {
			return strconv.FormatInt(s.state.observed.refusals.Load(), 10)
		},
		parse: number(0, maxRefusals, func(o *observations, n int64) { o.refusals.Store(n) }),
	},
}

// maxSlow is how many entries a slow log keeps at most. Each has a few KiB at the most.
const maxSlow = 1024

// fixed are parameters with one value, the one that holds here. Programs read them; to set one to the value that it has is
// no error, so that programs work which insist.
var fixed = func() map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(`
acl-pubsub-default resetchannels
active-expire-effort 1
activedefrag no
activerehashing yes
aof-use-rdb-preamble yes
appendfsync everysec
appendonly no
auto-aof-rewrite-min-size 67108864
auto-aof-rewrite-percentage 100
bind *
busy-reply-threshold 5000
client-output-buffer-limit normal 671088640 0 0 slave 0 0 0 pubsub 33554432 8388608 60
client-query-buffer-limit 536870912
cluster-enabled no
daemonize no
databases 16
dbfilename dump.rdb
dir /
dynamic-hz yes
hll-sparse-max-bytes 3000
hz 10
io-threads 1
latency-monitor-threshold 0
latency-tracking yes
latency-tracking-info-percentiles 50 99 99.9
lazyfree-lazy-eviction yes
lazyfree-lazy-expire yes
lazyfree-lazy-server-del yes
lazyfree-lazy-user-del yes
lazyfree-lazy-user-flush yes
lfu-decay-time 1
lfu-log-factor 10
loglevel notice
lua-time-limit 5000
maxclients 10000
maxmemory-clients 0
maxmemory-samples 5
min-replicas-max-lag 10
min-replicas-to-write 0
min-slaves-max-lag 10
min-slaves-to-write 0
proto-max-bulk-len 536870912
protected-mode yes
repl-backlog-size 1048576
replicaof
slaveof
replica-read-only yes
replica-serve-stale-data yes
requirepass
save
slave-read-only yes
stop-writes-on-bgsave-error yes
tcp-keepalive 300
timeout 0
tls-port 0
`) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name != "" {
			m[name] = value
		}
	}
	return m
}()

// encodings are the bounds of the small encodings, which are constants here. Any value that Redis takes may be set, and
// changes nothing: what a program asks of a bound is speed and memory, not answers.
var encodings = map[string]string{
	"hash-max-listpack-entries": "128", "hash-max-ziplist-entries": "128", "hash-max-listpack-value": "64", "hash-max-ziplist-value": "64",
	"zset-max-listpack-entries": "128", "zset-max-ziplist-entries": "128", "zset-max-listpack-value": "64", "zset-max-ziplist-value": "64",
	"set-max-intset-entries": "512", "set-max-listpack-entries": "128", "set-max-listpack-value": "64",
	"list-max-listpack-size": "-2", "list-max-ziplist-size": "-2", "list-compress-depth": "0",
	"tracking-table-max-keys": "1048576", // of no encoding, but a bound as well that is constant here
	"stream-node-max-bytes":   "4096", "stream-node-max-entries": "100",
}

// invalid is why a value cannot be set.
func invalid(why string) error { return fault.New(fault.InvalidArgument, "CONFIG SET", "%s", why) }

// number parses a value that this node observes by.
func number(low, high int64, set func(o *observations, n int64)) func(string) (change, error) {
	return func(value string) (change, error) {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return change{}, invalid("argument couldn't be parsed into an integer")
		}
		if n < low || n > high {
			return change{}, invalid("argument must be between " + strconv.FormatInt(low, 10) + " and " + strconv.FormatInt(high, 10) + " inclusive")
		}
		return change{node: func(o *observations) { set(o, n) }}, nil
	}
}

// parseMemory reads a number of bytes with Redis's units.
func parseMemory(text string) (int64, bool) {
	text = strings.ToLower(text)
	digits := strings.TrimRight(text, "bkmg")
	factor, ok := map[string]int64{"": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 1000 * 1000, "mb": 1 << 20, "g": 1000 * 1000 * 1000, "gb": 1 << 30}[text[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	return n * factor, ok && err == nil && n >= 0 && n <= (1<<62)/factor
}

// value is what holds for a parameter, and whether there is one of that name.
func (s *Session) value(c *tenants.Cache, name string) (string, bool) {
	if p, ok := parameters[name]; ok {
		return p.get(s, c), true
	}
	if v, ok := encodings[name]; ok {
		return v, true
	}
	if name == "port" {
		return s.port(), true
	}
	v, ok := fixed[name]
	return v, ok
}

// parameterNames lists what CONFIG GET knows.
var parameterNames = slices.Sorted(func(yield func(string) bool) {
	for _, names := range []map[string]string{fixed, encodings, {"port": ""}} {
		for name := range names {
			if !yield(name) {
				return
			}
		}
	}
	for name := range parameters {
		if !yield(name) {
			return
		}
	}
})

// maxAsked is how many patterns or names a question has that this node answers by itself: each takes time in which the other
// connections of a loop wait.
const maxAsked = 1024

func configGet(s *Session, cmd *engine.Command, args [][]byte) {
	c := s.server.Gateway.Cache(&s.caller, s.cache)
	if c == nil {
		s.out.ErrorText("ERR this cache does not exist any more")
		return
	}
	if s.asksTooMuch(cmd, args[2:]) {
		return
	}
	wanted := map[string]bool{}
	for _, a := range args[2:] {
		p, err := engine.NewPattern([]byte(strings.ToLower(string(a))))
		if err != nil {
			s.out.Error(fault.From(err))
			return
		}
		for _, name := range parameterNames {
			if p.Match([]byte(name)) {
				wanted[name] = true
			}
		}
	}
	found := slices.Sorted(maps.Keys(wanted))
	s.out.Map(len(found))
	for _, name := range found {
		v, _ := s.value(c, name)
		s.out.Text(name)
		s.out.Text(v)
	}
}

// configSet serves CONFIG SET: all that is asked for, or nothing when a part of it cannot be.
func configSet(s *Session, cmd *engine.Command, args [][]byte) {
	if len(args)%2 != 0 {
		s.out.ErrorText(arityError(cmd))
		return
	}
	c := s.server.Gateway.Cache(&s.caller, s.cache)
	if c == nil {
		s.out.ErrorText("ERR this cache does not exist any more")
		return
	}
	var changes []change
	seen := map[string]bool{}
	for i := 2; i < len(args); i += 2 {
		name, value := strings.ToLower(string(args[i])), string(args[i+1])
		now, known := s.value(c, name)
		if !known {
			s.out.ErrorText("ERR Unknown option or number of arguments for CONFIG SET - '" + clip(args[i]) + "'")
			return
		}
		ch, err := plan(name, value, now)
		if seen[name] {
			err = invalid("duplicate parameter")
		}
		if err != nil {
			s.out.ErrorText("ERR CONFIG SET failed (possibly related to argument '" + name + "') - " + fault.From(err).Message)
			return
		}
		seen[name] = true
		changes = append(changes, ch)
	}
	if err := s.change(changes); err != nil {
		s.out.ErrorText("ERR CONFIG SET failed - " + fault.From(err).Message)
		return
	}
	s.out.Status("OK")
}

// plan says what setting a parameter to a value means, where it is now another.
func plan(name, value, now string) (change, error) {
	if p, ok := parameters[name]; ok {
		return p.parse(value)
	}
	if _, ok := encodings[name]; ok {
		if _, memory := parseMemory(value); !memory && !strings.HasPrefix(value, "-") {
			return change{}, invalid("argument couldn't be parsed into an integer")
		}
		return change{}, nil
	}
	if !strings.EqualFold(value, now) {
		return change{}, invalid("can't set immutable config: it is '" + now + "' here, and a matter of the service")
	}
	return change{}, nil
}

// change carries out what CONFIG SET has planned.
func (s *Session) change(changes []change) error {
	persistent := slices.ContainsFunc(changes, func(ch change) bool { return ch.cache != nil })
	if persistent {
		gate := s.server.Gateway
		if err := gate.AuthorizeCache(&s.caller, policy.CacheUpdateCache, s.cache, nil); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), changeTime)
		defer cancel()
		_, err := s.server.Accounts.UpdateCache(ctx, s.caller.Principal.Tenant, s.cache, func(c *tenants.Cache) error {
			for _, ch := range changes {
				if ch.cache != nil {
					ch.cache(c)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, ch := range changes {
		if ch.node != nil {
			ch.node(&s.state.observed)
		}
	}
	return nil
}

// changeTime is how long CONFIG SET waits for the cache's record to be changed.
const changeTime = 5 * time.Second

func configResetStat(s *Session, _ *engine.Command, _ [][]byte) {
	s.state.tally.reset()
	if c := s.server.Gateway.Cache(&s.caller, s.cache); c != nil {
		live, _ := s.server.Stats(c)
		s.state.observed.mu.Lock()
		s.state.observed.since = live
		s.state.observed.mu.Unlock()
	}
	s.out.Status("OK")
}
