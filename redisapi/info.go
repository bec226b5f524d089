package redisapi

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/engine"
)

func init() { handlers["INFO"] = info }

// A section is a part of what INFO says. usual ones are said without asking for any, the others on demand.
type section struct {
	name  string
	usual bool
	write func(*report)
}

// sections are in Redis's order. All of them speak of this cache as this node sees it, never of the process: what other
// tenants do must not be seen from here. Fields about the process, which programs look for all the same, are 0.
var sections = []section{
	{"server", true, (*report).server},
	{"clients", true, (*report).clients},
	{"memory", true, (*report).memory},
	{"persistence", true, (*report).persistence},
	{"stats", true, (*report).stats},
	{"replication", true, (*report).replication},
	{"cpu", true, (*report).cpu},
	{"modules", true, (*report).modules},
	{"commandstats", false, (*report).commandStats},
	{"errorstats", true, (*report).errorStats},
	{"latencystats", false, (*report).latencyStats},
	{"cluster", true, func(r *report) { r.title("Cluster"); r.number("cluster_enabled", 0) }},
	{"keyspace", true, (*report).keyspace},
}

// info serves INFO.
func info(s *Session, _ *engine.Command, args [][]byte) {
	wanted := map[string]bool{}
	for _, a := range args[1:] {
		wanted[strings.ToLower(clip(a))] = true
	}
	usual := len(wanted) == 0 || wanted["default"]
	all := wanted["all"] || wanted["everything"]
	r := &report{s: s, st: s.state}
	r.numbers()
	for _, part := range sections {
		if all || usual && part.usual || wanted[part.name] {
			part.write(r)
		}
	}
	s.out.Prose(r.text.String())
}

// A report is what INFO says, in the making.
type report struct {
	s    *Session
	st   *cacheState
	text strings.Builder

	live, since                   engine.Stats
	limit                         int64
	policy                        string
	peers                         []*Session
	blocked, blockingKeys, onGone int
}

// numbers asks for what the cache's partitions know.
func (r *report) numbers() {
	g := r.s.server.Gateway
	if c := g.Cache(&r.s.caller, r.s.cache); c != nil {
		r.limit, r.policy = c.MemoryLimit, c.Eviction
		r.live, _ = r.s.server.Stats(c)
	}
	r.blocked, r.blockingKeys, r.onGone = g.Waiting(&r.s.caller, r.s.cache)
	r.peers = r.s.server.living(r.st)
	r.st.observed.mu.Lock()
	r.since = r.st.observed.since
	r.st.observed.mu.Unlock()
}

func (r *report) title(name string) {
	if r.text.Len() > 0 {
		r.text.WriteString("\r\n")
	}
	r.text.WriteString("# " + name + "\r\n")
}

func (r *report) word(name, value string) { r.text.WriteString(name + ":" + value + "\r\n") }

func (r *report) number(name string, n int64) { r.word(name, strconv.FormatInt(n, 10)) }

// zeros writes fields that do not apply to a managed cache, which programs look for.
func (r *report) zeros(names string) {
	for name := range strings.FieldsSeq(names) {
		r.number(name, 0)
	}
}

// size writes a number of bytes, and beside it how people read it.
func (r *report) size(name string, n int64) {
	r.number(name, n)
	r.word(name+"_human", human(n))
}

// human writes a number of bytes as Redis does.
func human(n int64) string {
	f := float64(n)
	for _, unit := range []string{"B", "K", "M", "G", "T", "P"} {
		if f < 1024 || unit == "P" {
			if unit == "B" {
				return strconv.FormatInt(n, 10) + "B"
			}
			return strconv.FormatFloat(f, 'f', 2, 64) + unit
		}
		f /= 1024
	}
	return ""
}

// runID tells one life of a cache on a node from another.
func (st *cacheState) runID() string {
	sum := sha256.Sum256(append(st.id[:], st.began.String()...))
	return hex.EncodeToString(sum[:20])
}

func (r *report) server() {
	r.title("Server")
	now := r.s.server.now()
	up := max(int64(now.Sub(r.st.began)/time.Second), 0)
	r.word("redis_version", RedisVersion)
	r.word("redis_git_sha1", "00000000")
	r.number("redis_git_dirty", 0)
	r.word("redis_build_id", r.st.runID()[:16])
	r.word("redis_mode", "standalone")
	r.word("server_name", "larder")
	r.word("larder_version", r.s.server.Version)
	r.word("larder_cache", r.st.name)
	r.word("os", "managed")
	r.number("arch_bits", 64)
	r.number("process_id", 1)
	r.word("process_supervised", "no")
	r.word("run_id", r.st.runID())
	r.word("tcp_port", r.s.port())
	r.number("server_time_usec", now.UnixMicro())
	r.number("uptime_in_seconds", up)
	r.number("uptime_in_days", up/86400)
	r.number("hz", 10)
	r.number("configured_hz", 10)
	r.number("lru_clock", now.Unix()&(1<<24-1))
	r.word("executable", "larder")
	r.word("config_file", "")
	r.number("io_threads_active", 0)
}

// port is where the client connected to; "0" without a socket.
func (s *Session) port() string {
	if _, port, err := net.SplitHostPort(s.local); err == nil {
		return port
	}
	return "0"
}

func (r *report) clients() {
	r.title("Clients")
	pubsub, tracking, watching, watched, held := int64(0), int64(0), int64(0), int64(0), 0
	for _, c := range r.peers {
		if c.facts.held.Load() {
			held++
		}
		c.facts.mu.Lock()
		if c.facts.subs != [3]int{} {
			pubsub++
		}
		if c.facts.flags.tracking {
			tracking++
		}
		if n := c.facts.watch; n > 0 {
			watching++
			watched += int64(n)
		}
		c.facts.mu.Unlock()
	}
	r.number("connected_clients", int64(len(r.peers)))
	r.number("cluster_connections", 0)
	r.number("maxclients", maxClients)
	r.zeros("client_recent_max_input_buffer client_recent_max_output_buffer")
	r.number("blocked_clients", int64(r.blocked+held))
	r.number("tracking_clients", tracking)
	r.number("pubsub_clients", pubsub)
	r.number("watching_clients", watching)
	r.number("clients_in_timeout_table", int64(r.blocked))
	r.number("total_watched_keys", watched)
	r.number("total_blocking_keys", int64(r.blockingKeys))
	r.number("total_blocking_keys_on_nokey", int64(r.onGone))
}

// maxClients is told to those who ask for a limit. There is none but what the machine bears.
const maxClients = 10_000

func (r *report) memory() {
	r.title("Memory")
	used, limit := r.live.Bytes, r.limit
	r.size("used_memory", used)
	r.size("used_memory_rss", used)
	r.size("used_memory_peak", used)
	r.word("used_memory_peak_perc", "100.00%")
	r.number("used_memory_overhead", 0)
	r.number("used_memory_startup", 0)
	r.number("used_memory_dataset", used)
	r.word("used_memory_dataset_perc", "100.00%")
	r.number("allocator_allocated", used)
	r.number("allocator_active", used)
	r.number("allocator_resident", used)
	r.size("total_system_memory", limit)
	r.zeros("used_memory_lua used_memory_vm_eval")
	r.word("used_memory_lua_human", human(0))
	r.zeros("used_memory_scripts_eval number_of_functions number_of_libraries used_memory_vm_functions used_memory_vm_total")
	r.number("number_of_cached_scripts", r.live.Scripts)
	r.word("used_memory_vm_total_human", human(0))
	r.zeros("used_memory_functions used_memory_scripts")
	r.word("used_memory_scripts_human", human(0))
	r.size("maxmemory", limit)
	r.word("maxmemory_policy", r.policy)
	r.word("allocator_frag_ratio", "1.00")
	r.number("allocator_frag_bytes", 0)
	r.word("allocator_rss_ratio", "1.00")
	r.number("allocator_rss_bytes", 0)
	r.word("rss_overhead_ratio", "1.00")
	r.number("rss_overhead_bytes", 0)
	r.word("mem_fragmentation_ratio", "1.00")
	r.zeros("mem_fragmentation_bytes mem_not_counted_for_evict mem_replication_backlog mem_total_replication_buffers mem_clients_slaves mem_clients_normal mem_cluster_links mem_aof_buffer")
	r.word("mem_allocator", "larder")
	r.zeros("active_defrag_running lazyfree_pending_objects lazyfreed_objects")
}

func (r *report) persistence() {
	r.title("Persistence")
	r.zeros("loading async_loading current_cow_peak current_cow_size current_cow_size_age")
	r.word("current_fork_perc", "0.00")
	r.zeros("current_save_keys_processed current_save_keys_total rdb_changes_since_last_save rdb_bgsave_in_progress")
	r.number("rdb_last_save_time", r.st.began.Unix())
	r.word("rdb_last_bgsave_status", "ok")
	r.number("rdb_last_bgsave_time_sec", -1)
	r.number("rdb_current_bgsave_time_sec", -1)
	r.zeros("rdb_saves rdb_last_cow_size rdb_last_load_keys_expired rdb_last_load_keys_loaded aof_enabled aof_rewrite_in_progress aof_rewrite_scheduled")
	r.number("aof_last_rewrite_time_sec", -1)
	r.number("aof_current_rewrite_time_sec", -1)
	r.word("aof_last_bgrewrite_status", "ok")
	r.zeros("aof_rewrites aof_rewrites_consecutive_failures")
	r.word("aof_last_write_status", "ok")
	r.zeros("aof_last_cow_size module_fork_in_progress module_fork_last_cow_size")
}

func (r *report) stats() {
	r.title("Stats")
	t, hub := &r.st.tally, r.s.server.Gateway.Hub()
	keys, items, prefixes, _ := hub.Tracked(r.st.id)
	r.number("total_connections_received", t.logins.Load())
	r.number("total_commands_processed", t.commands.Load())
	r.number("instantaneous_ops_per_sec", r.st.perSecond(r.s.server.now()))
	r.number("total_net_input_bytes", t.in.Load())
	r.number("total_net_output_bytes", t.out.Load())
	r.zeros("total_net_repl_input_bytes total_net_repl_output_bytes")
	for _, name := range []string{"instantaneous_input_kbps", "instantaneous_output_kbps", "instantaneous_input_repl_kbps", "instantaneous_output_repl_kbps"} {
		r.word(name, "0.00")
	}
	r.zeros("rejected_connections sync_full sync_partial_ok sync_partial_err")
	r.number("expired_keys", r.live.Expired-r.since.Expired)
	r.number("expired_subkeys", r.live.ExpiredFields-r.since.ExpiredFields)
	r.word("expired_stale_perc", "0.00")
	r.zeros("expired_time_cap_reached_count expire_cycle_cpu_milliseconds")
	r.number("evicted_keys", r.live.Evicted-r.since.Evicted)
	r.number("evicted_scripts", r.live.EvictedScripts)
	r.zeros("evicted_clients total_eviction_exceeded_time current_eviction_exceeded_time")
	r.number("keyspace_hits", r.live.Hits-r.since.Hits)
	r.number("keyspace_misses", r.live.Misses-r.since.Misses)
	r.number("pubsub_channels", int64(len(hub.Channels(r.st.id, 0, nil))))
	r.number("pubsub_patterns", int64(hub.Patterns(r.st.id)))
	r.number("pubsubshard_channels", int64(len(hub.Channels(r.st.id, 1, nil))))
	r.zeros("latest_fork_usec total_forks migrate_cached_sockets slave_expires_tracked_keys active_defrag_hits active_defrag_misses active_defrag_key_hits active_defrag_key_misses total_active_defrag_time current_active_defrag_time")
	r.number("tracking_total_keys", int64(keys))
	r.number("tracking_total_items", int64(items))
	r.number("tracking_total_prefixes", int64(prefixes))
	r.number("unexpected_error_replies", 0)
	r.number("total_error_replies", t.errors.Load())
	r.zeros("dump_payload_sanitizations total_reads_processed total_writes_processed io_threaded_reads_processed io_threaded_writes_processed client_query_buffer_limit_disconnections client_output_buffer_limit_disconnections reply_buffer_shrinks reply_buffer_expands eventloop_cycles eventloop_duration_sum eventloop_duration_cmd_sum instantaneous_eventloop_cycles_per_sec instantaneous_eventloop_duration_usec acl_access_denied_auth acl_access_denied_cmd acl_access_denied_key acl_access_denied_channel")
}

// perSecond is how many commands were done each second since it was asked last, at least a second ago.
func (st *cacheState) perSecond(now time.Time) int64 {
	st.observed.mu.Lock()
	defer st.observed.mu.Unlock()
	p := &st.observed.pace
	if passed := now.Sub(p.at); passed >= time.Second {
		n := st.tally.commands.Load()
		if !p.at.IsZero() {
			p.rate = max(0, int64(float64(n-p.commands)/passed.Seconds()))
		}
		p.at, p.commands = now, n
	}
	return p.rate
}

func (r *report) replication() {
	r.title("Replication")
	r.word("role", "master")
	list := replicas(r.peers)
	r.number("connected_slaves", int64(len(list)))
	for i, of := range list {
		r.word("slave"+strconv.Itoa(i), fmt.Sprintf("ip=%s,port=%s,state=online,offset=%d,lag=0", of.host, of.port, of.acked.Load()))
	}
	r.word("master_failover_state", "no-failover")
	r.word("master_replid", r.st.runID())
	r.word("master_replid2", strings.Repeat("0", 40))
	r.number("master_repl_offset", 0)
	r.number("second_repl_offset", -1)
	r.zeros("repl_backlog_active repl_backlog_size repl_backlog_first_byte_offset repl_backlog_histlen")
}

func (r *report) modules() {
	r.title("Modules")
	for _, m := range modules {
		r.word("module", fmt.Sprintf("name=%s,ver=%d,api=1,filters=0,usedby=[],using=[],options=[]", m.name, m.version))
	}
}

// cpu tells how long the commands on this cache took: what the process as a whole takes is the affair of nobody here.
func (r *report) cpu() {
	r.title("CPU")
	_, counts := r.st.tally.each()
	micros := int64(0)
	for _, c := range counts {
		micros += c.micros
	}
	user := fmt.Sprintf("%.6f", float64(micros)/1e6)
	r.word("used_cpu_sys", "0.000000")
	r.word("used_cpu_user", user)
	r.word("used_cpu_sys_children", "0.000000")
	r.word("used_cpu_user_children", "0.000000")
	r.word("used_cpu_sys_main_thread", "0.000000")
	r.word("used_cpu_user_main_thread", user)
}

func (r *report) commandStats() {
	r.title("Commandstats")
	names, counts := r.st.tally.each()
	for _, name := range names {
		c := counts[name]
		each := 0.0
		if c.calls > 0 {
			each = float64(c.micros) / float64(c.calls)
		}
		r.word("cmdstat_"+name, fmt.Sprintf("calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=%d,failed_calls=%d", c.calls, c.micros, each, c.rejected, c.failed))
	}
}

func (r *report) errorStats() {
	r.title("Errorstats")
	names, counts := r.st.tally.kinds()
	for _, name := range names {
		r.word("errorstat_"+name, "count="+strconv.FormatInt(counts[name], 10))
	}
}

func (r *report) latencyStats() {
	r.title("Latencystats")
	names, counts := r.st.tally.each()
	for _, name := range names {
		c := counts[name]
		if c.calls > 0 {
			r.word("latency_percentiles_usec_"+name, fmt.Sprintf("p50=%d.000,p99=%d.000,p99.9=%d.000", c.percentile(0.5), c.percentile(0.99), c.percentile(0.999)))
		}
	}
}

// percentile is a time in microseconds that this part of the calls did not pass, to a factor of two.
func (c *commandTally) percentile(part float64) int64 {
	seen, all := int64(0), int64(0)
	for _, n := range c.times {
		all += n
	}
	for i, n := range c.times {
		if seen += n; n > 0 && float64(seen) >= part*float64(all) {
			return 1 << i
		}
	}
	return 0
}

func (r *report) keyspace() {
	r.title("Keyspace")
	for db, d := range r.live.Databases {
		if d.Items > 0 {
			r.word("db"+strconv.Itoa(db), fmt.Sprintf("keys=%d,expires=%d,avg_ttl=%d,subexpiry=%d", d.Items, d.Timed, d.TTL, d.Inner))
		}
	}
}
