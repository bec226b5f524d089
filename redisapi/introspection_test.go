package redisapi

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/peers"
	"github.com/larder-cache/larder/tenants"
)

// An installation is a server over everything that is below it, without sockets.
type installation struct {
	*Server
	store       *tenants.Store
	credentials *auth.Store
	drawn       atomic.Int64
}

// install makes one for all tests of what it tells.
var install = sync.OnceValues(func() (*installation, error) {
	w := theWorld
	c := w.config
	c.Plain = true
	return &installation{Server: New(c), store: w.store, credentials: w.keys}, nil
})

// A tenant is one with a cache called main.
type tenant struct {
	*installation
	name string
}

func newOwner(t *testing.T) tenant {
	t.Helper()
	in, err := install()
	if err != nil {
		t.Fatal(err)
	}
	made, err := in.store.Create(t.Context(), tenants.Tenant{Name: fmt.Sprintf("owner-%d", in.drawn.Add(1))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.store.CreateCache(t.Context(), made.Name, tenants.Cache{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	return tenant{in, made.Name}
}

func (who tenant) key(t *testing.T, role string) string {
	t.Helper()
	_, text, err := who.credentials.CreateKey(t.Context(), who.name, auth.KeySpec{Name: "k", Role: role})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A speaker is a client without a socket.
type speaker struct {
	*Session
	t *testing.T
}

// connect logs a client in, with a new key of a role.
func (who tenant) connect(t *testing.T, role string) speaker {
	t.Helper()
	s := who.newSession(netip.MustParseAddrPort("192.0.2.1:5000"), false, 0, &room{}, func() {})
	s.local = "198.51.100.7:6379"
	p := speaker{s, t}
	if got := p.say("AUTH", who.key(t, role)); got != "+OK\r\n" {
		t.Fatalf("AUTH: %q", got)
	}
	t.Cleanup(s.Close)
	return p
}

func onTheWire(args ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// say sends a command and returns all that comes back at once.
func (p speaker) say(args ...string) string {
	p.Feed(onTheWire(args...))
	return p.hear()
}

// hear returns what the client is told without asking.
func (p speaker) hear() string {
	p.Attend()
	out := string(p.Output())
	p.Sent(len(out))
	return out
}

// want fails the test unless a command, its words parted by spaces, is answered like this; * stands for anything.
func (p speaker) want(answer, command string) {
	p.t.Helper()
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(answer), `\*`, "(?s:.*)") + "$"
	if got := p.say(strings.Fields(command)...); !regexp.MustCompile(pattern).MatchString(got) {
		p.t.Errorf("%s: %q, want %q", command, got, answer)
	}
}

func TestClientLinesAreInRedisOrder(t *testing.T) {
	p := newOwner(t).connect(t, policy.RoleOwner)
	p.say("CLIENT", "SETNAME", "ann")
	p.say("CLIENT", "SETINFO", "LIB-NAME", "lib")
	got := p.say("CLIENT", "INFO")
	_, line, _ := strings.Cut(got, "\r\n")
	var names []string
	for field := range strings.FieldsSeq(line) {
		name, _, _ := strings.Cut(field, "=")
		names = append(names, name)
	}
	want := "id addr laddr fd name age idle flags db sub psub ssub multi watch qbuf qbuf-free argv-mem multi-mem rbs rbp obl oll omem tot-mem events cmd user redir resp lib-name lib-ver tot-net-in tot-net-out tot-cmds"
	if strings.Join(names, " ") != want {
		t.Errorf("%v", names)
	}
	for _, part := range []string{" addr=192.0.2.1:5000 laddr=198.51.100.7:6379 ", " name=ann ", " flags=N ", " cmd=client|info ", " lib-name=lib "} {
		if !strings.Contains(line, part) {
			t.Errorf("%q is not in %q", part, line)
		}
	}
}

func TestClientsOfOthersAreNotSeen(t *testing.T) {
	mine, other := newOwner(t), newOwner(t)
	p, stranger := mine.connect(t, policy.RoleOwner), other.connect(t, policy.RoleOwner)
	if got := p.say("CLIENT", "LIST"); strings.Count(got, "id=") != 1 {
		t.Errorf("CLIENT LIST: %q", got)
	}
	id := strconv.FormatInt(stranger.id, 10)
	p.want(":0\r\n", "CLIENT KILL ID "+id)
	p.want(":0\r\n", "CLIENT UNBLOCK "+id)
	p.want("-ERR The client ID you want redirect to does not exist\r\n", "CLIENT TRACKING ON REDIRECT "+id)
	p.want("-ERR No such client\r\n", "CLIENT KILL 192.0.2.1:5001")
	stranger.want("+PONG\r\n", "PING")
	key, _, _ := strings.Cut(strings.TrimPrefix(other.key(t, policy.RoleOwner), "lk_live_"), "_")
	p.want("-ERR User '*' not found\r\n", "ACL DRYRUN "+key+" GET k")
}

func TestDisturbingOthersNeedsMoreThanReading(t *testing.T) {
	who := newOwner(t)
	p := who.connect(t, policy.RoleReadWrite)
	for _, command := range []string{"CLIENT KILL SKIPME YES", "CLIENT PAUSE 1000", "CLIENT UNPAUSE", "CONFIG SET maxmemory 2mb", "CONFIG RESETSTAT", "SLOWLOG RESET"} {
		p.want("-NOPERM *", command)
	}
	if got := p.say("ACL", "LOG"); strings.Count(got, "$5\r\ncount\r\n:") != 1 || !strings.Contains(got, "\r\n:6\r\n") {
		t.Errorf("ACL LOG has to count six refusals of one thing: %q", got)
	}
	p.want("+OK\r\n", "ACL LOG RESET")
	p.want("*0\r\n", "ACL LOG")
}

// Valkey's COMMANDLOG is the slow log under another name; of large commands it remembers none.
func TestCommandlog(t *testing.T) {
	p := newOwner(t).connect(t, policy.RoleOwner)
	p.want("+OK\r\n", "CONFIG SET slowlog-log-slower-than 0")
	p.want("+PONG\r\n", "PING")
	if got := p.say("COMMANDLOG", "GET", "-1", "SLOW"); !strings.Contains(got, "PING") {
		t.Errorf("COMMANDLOG GET: %q", got)
	}
	p.want("*1\r\n*6\r\n*", "COMMANDLOG GET 1 slow")
	p.want("*0\r\n", "COMMANDLOG GET 10 large-request")
	p.want(":0\r\n", "COMMANDLOG LEN large-reply")
	p.want("+OK\r\n", "CONFIG SET slowlog-log-slower-than -1")
	p.want("+OK\r\n", "COMMANDLOG RESET large-reply")
	p.want("+OK\r\n", "COMMANDLOG RESET slow")
	p.want(":0\r\n", "COMMANDLOG LEN slow")
	p.want(":0\r\n", "SLOWLOG LEN")
	p.want("-ERR type should be one of *", "COMMANDLOG LEN quick")
	p.want("-ERR count should be greater *", "COMMANDLOG GET -2 slow")
	p.want("-ERR count should be greater *", "COMMANDLOG GET x large-reply")
	p.want("-ERR wrong number of arguments for 'commandlog|get' command\r\n", "COMMANDLOG GET 1")
}

func TestAPauseHoldsUntilItEnds(t *testing.T) {
	who := newOwner(t)
	boss, p := who.connect(t, policy.RoleOwner), who.connect(t, policy.RoleOwner)
	boss.want("+OK\r\n", "CLIENT PAUSE 100000 WRITE")
	p.want("$-1\r\n", "GET k")
	p.want("-ERR wrong number of arguments for 'set' command\r\n", "SET k")
	set := onTheWire("SET", "k", "v")
	if used := p.Feed(set); used != 0 || !p.Blocked() {
		t.Fatalf("%d bytes of SET were carried out during a pause", used)
	}
	if p.Attend() {
		t.Fatal("attending to a held session released it")
	}
	if got := boss.say("INFO", "clients"); !strings.Contains(got, "\r\nblocked_clients:1\r\n") {
		t.Errorf("INFO: %q", got)
	}
	boss.want("+OK\r\n", "CLIENT UNPAUSE")
	if !p.Attend() {
		t.Fatal("the pause has ended and the session is still held")
	}
	if used := p.Feed(set); used != len(set) || p.hear() != "+OK\r\n" {
		t.Errorf("SET after the pause: %d bytes", used)
	}
}

func TestUnblock(t *testing.T) {
	who := newOwner(t)
	boss := who.connect(t, policy.RoleOwner)
	for reason, want := range map[string]string{"TIMEOUT": "*-1\r\n", "ERROR": "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"} {
		p := who.connect(t, policy.RoleReadWrite)
		p.Feed(onTheWire("BLPOP", "list", "0"))
		boss.want(":1\r\n", "CLIENT UNBLOCK "+strconv.FormatInt(p.id, 10)+" "+reason)
		if got := p.hear(); got != want {
			t.Errorf("%s: %q", reason, got)
		}
		boss.want(":0\r\n", "CLIENT UNBLOCK "+strconv.FormatInt(p.id, 10)+" "+reason)
	}
}

// What rueidis sends for each cached read.
func TestOptInLastsForAWholeTransaction(t *testing.T) {
	who := newOwner(t)
	p, other := who.connect(t, policy.RoleReadWrite), who.connect(t, policy.RoleReadWrite)
	p.say("HELLO", "3")
	p.want("+OK\r\n", "CLIENT TRACKING ON OPTIN")
	other.say("MSET", "a", "1", "b", "1", "c", "1")
	for _, command := range []string{"GET c", "CLIENT CACHING YES", "MULTI", "PTTL a", "GET b", "EXEC", "GET c"} {
		p.say(strings.Fields(command)...)
	}
	for key, want := range map[string]string{"a": ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n", "b": ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nb\r\n", "c": ""} {
		other.say("SET", key, "2")
		if got := p.hear(); got != want {
			t.Errorf("after a change of %s: %q, want %q", key, got, want)
		}
	}
	p.want("+OK\r\n", "CLIENT TRACKING OFF")
	other.say("SET", "a", "3")
	if got := p.hear(); got != "" {
		t.Errorf("told without tracking: %q", got)
	}
}

func TestBroadcastTellsATaskInOneMessage(t *testing.T) {
	who := newOwner(t)
	p, other := who.connect(t, policy.RoleReadWrite), who.connect(t, policy.RoleReadWrite)
	p.say("HELLO", "3")
	p.want("+OK\r\n", "CLIENT TRACKING ON BCAST PREFIX a: PREFIX b:")
	p.want("-ERR Prefix 'a:x' overlaps with an existing prefix 'a:'. Prefixes for a single client must not overlap.\r\n", "CLIENT TRACKING ON BCAST PREFIX a:x")
	other.say("MSET", "a:2", "1", "c:1", "1", "a:1", "1", "a:2", "2")
	if got := p.hear(); got != ">2\r\n$10\r\ninvalidate\r\n*2\r\n$3\r\na:1\r\n$3\r\na:2\r\n" {
		t.Errorf("%q", got)
	}
}

func TestCommandsAreCountedOnce(t *testing.T) {
	p := newOwner(t).connect(t, policy.RoleOwner)
	p.want("+OK\r\n", "CONFIG RESETSTAT")
	p.say("MULTI")
	p.say("SET", "k", "v")
	p.say("LPUSH", "k", "v")
	p.say("EXEC")
	p.Feed(slices.Concat(onTheWire("GET", "k"), onTheWire("GET", "k"), onTheWire("LLEN", "k"), onTheWire("GET", "k")))
	p.hear()
	p.say("GET")
	got := p.say("INFO", "commandstats", "errorstats")
	for _, want := range []string{
		`cmdstat_set:calls=1,.*rejected_calls=0,failed_calls=0`, `cmdstat_exec:calls=1,`, `cmdstat_multi:calls=1,`,
		`cmdstat_get:calls=3,.*rejected_calls=1,failed_calls=0`, `cmdstat_llen:calls=1,.*rejected_calls=0,failed_calls=1`, `errorstat_WRONGTYPE:count=2`, `errorstat_ERR:count=1`,
	} {
		if !regexp.MustCompile("\n" + want).MatchString(got) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
}

func TestConfigSetChangesTheCache(t *testing.T) {
	who := newOwner(t)
	p := who.connect(t, policy.RoleOwner)
	p.want("+OK\r\n", "CONFIG SET maxmemory 2mb maxmemory-policy allkeys-lru notify-keyspace-events KEg$")
	c, _ := who.store.Cache(who.name, "main")
	if c.MemoryLimit != 2<<20 || c.Eviction != "allkeys-lru" || c.NotifyKeyspaceEvents != "g$KE" || c.Settings().Notify == 0 {
		t.Errorf("%+v", c)
	}
	p.want("-ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config*", "CONFIG SET maxmemory 3mb port 1")
	p.want("-ERR CONFIG SET failed (possibly related to argument 'maxmemory') - duplicate parameter\r\n", "CONFIG SET maxmemory 3mb maxmemory 3mb")
	p.want("-ERR Unknown option or number of arguments for CONFIG SET - 'nothing'\r\n", "CONFIG SET nothing 1")
	p.want("-ERR CONFIG SET failed - memory_limit_bytes is *", "CONFIG SET maxmemory 0")
	p.want("*2\r\n$9\r\nmaxmemory\r\n$7\r\n2097152\r\n", "CONFIG GET maxmemory")
	p.want("+OK\r\n", "CONFIG SET appendonly no")
}

func TestDryRunIsTheGatewaysDecision(t *testing.T) {
	who := newOwner(t)
	boss, reader := who.connect(t, policy.RoleOwner), who.connect(t, policy.RoleReadOnly)
	id := reader.caller.Principal.ID
	boss.want("+OK\r\n", "ACL DRYRUN "+id+" GET k")
	boss.want("$*User "+id+" has no permissions to access the 'k' key\r\n", "ACL DRYRUN "+id+" SET k v")
	boss.want("-ERR User 'nobody' not found\r\n", "ACL DRYRUN nobody GET k")
	reader.want("-NOPERM *", "ACL DRYRUN "+boss.caller.Principal.ID+" GET k") // whether there is such a key is not for a reader to know
	reader.want("-NOPERM *", "ACL DRYRUN nobody GET k")
	if got := reader.say("ACL", "USERS"); got != "*1\r\n$"+strconv.Itoa(len(id))+"\r\n"+id+"\r\n" {
		t.Errorf("ACL USERS of a reader: %q", got)
	}
	got := boss.say("ACL", "GETUSER", id)
	if !strings.Contains(got, "+get ") || strings.Contains(got, "+set ") {
		t.Errorf("ACL GETUSER: %q", got)
	}
}

func TestUsageBecomesArguments(t *testing.T) {
	short := func(list []argument) string {
		var show func([]argument) string
		show = func(list []argument) string {
			var parts []string
			for _, a := range list {
				s := a.kind + ":" + a.name
				if a.token != "" && a.kind != "pure-token" {
					s = a.token + "=" + s
				}
				if a.optional {
					s += "?"
				}
				if a.multiple {
					s += "*"
				}
				if len(a.inner) > 0 {
					s += "(" + show(a.inner) + ")"
				}
				parts = append(parts, s)
			}
			return strings.Join(parts, " ")
		}
		return show(list)
	}
	for usage1, want := range map[string]string{
		"key":                             "key:key",
		"key [key ...]":                   "key:key*",
		"key value [key value ...]":       "block:key-value*(key:key string:value)",
		"key [NX | XX] [EX seconds]":      "key:key oneof:nx-xx?(pure-token:nx pure-token:xx) EX=integer:seconds?",
		"numkeys key [key ...] LIMIT max": "integer:numkeys key:key* LIMIT=string:max",
		"":                                "",
	} {
		if got := short(usage(usage1)); got != want {
			t.Errorf("%q: %s, want %s", usage1, got, want)
		}
	}
	for _, c := range engine.Commands() {
		usage(c.Usage) // it ends
	}
}

// TestCommandsAreDescribedAsByRedis compares COMMAND INFO with a real redis-server 7.0.
func TestCommandsAreDescribedAsByRedis(t *testing.T) {
	conn, err := net.Dial("unix", peers.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := newOwner(t).connect(t, policy.RoleOwner)
	compared, different := 0, []string(nil)
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range profiles {
			if !yield(name) {
				return
			}
		}
	}) {
		if len(profiles[name].subs) > 0 {
			continue // which subcommands there are differs, and each is compared by itself
		}
		if _, err := conn.Write(onTheWire("COMMAND", "INFO", name)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64<<10)
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n := 0
		for n == 0 || replySize(b[:n]) > n || !strings.HasSuffix(string(b[:n]), "\r\n") {
			more, err := conn.Read(b[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += more
			time.Sleep(time.Millisecond)
		}
		theirs := withoutNotes(string(b[:n]))
		if theirs == "*1\r\n$-1\r\n" {
			continue // Redis 7.0 does not have it
		}
		compared++
		if ours := p.say("COMMAND", "INFO", name); ours != theirs {
			different = append(different, name)
			if !slices.Contains(knownToDiffer, name) {
				t.Errorf("%s:\n%q\n%q", name, ours, theirs)
			}
		}
	}
	if compared < 200 {
		t.Errorf("only %d commands were compared", compared)
	}
	t.Logf("%d commands compared, different: %v", compared, different)
}

// withoutNotes takes Redis's remarks about key specifications out: they are prose, and ours to write or not.
func withoutNotes(reply string) string {
	return regexp.MustCompile(`\*8\r\n\$5\r\nnotes\r\n\$\d+\r\n[^\r]*\r\n`).ReplaceAllString(reply, "*6\r\n")
}

// knownToDiffer are commands of which Redis 7.4 says something else than 7.0, and MODULE, which has no subcommands here.
var knownToDiffer = []string{"command|getkeys", "command|getkeysandflags", "module", "zrank", "zrevrank"}
