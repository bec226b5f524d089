package redisapi

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/wire"
)

// allowing makes a role of statements, TENANT being the tenant, and returns its name.
func (who tenant) allowing(t *testing.T, name, statements string) string {
	t.Helper()
	text := `{"Version":"2012-10-17","Statement":[` + strings.ReplaceAll(statements, "TENANT", who.name) + `]}`
	_, created, err := who.credentials.PutPolicy(t.Context(), who.name, name, []byte(text))
	if err == nil && created {
		_, err = who.credentials.CreateRole(t.Context(), who.name, auth.Role{Name: name, Policies: []string{name}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

const (
	allowAll = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	onMain   = `"Resource":"arn:cache:cache:*:TENANT:cache/main/`
)

// A pattern tells of no channel that the listener may not subscribe to by its name, whatever the pattern is called.
func TestPatternsDoNotTellOfDeniedChannels(t *testing.T) {
	who := newOwner(t)
	boss := who.connect(t, policy.RoleOwner)
	told := func(pattern, channel string) string {
		return fmt.Sprintf("*4\r\n$8\r\npmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n$1\r\nm\r\n", len(pattern), pattern, len(channel), channel)
	}
	for i, tt := range []struct {
		name, statements, pattern string
		heard, unheard            []string
	}{
		{"a Deny of one channel", allowAll + `,{"Effect":"Deny","Action":"topic:Subscribe",` + onMain + `channel/foo.secret"}`, "foo*", []string{"foo", "foo.x"}, []string{"foo.secret"}},
		{"a Deny of many", allowAll + `,{"Effect":"Deny","Action":"topic:*",` + onMain + `channel/*secret*"}`, "f*", []string{"fa"}, []string{"f-secret-x"}},
		{"a question mark that stands for a star", `{"Effect":"Allow","Action":"*",` + onMain + `channel/foo?"},{"Effect":"Allow","Action":"cache:Connect","Resource":"*"}`, "foo*", []string{"foo1"}, []string{"foo12", "foo"}},
		{"all with a question mark", `{"Effect":"Allow","Action":"*",` + onMain + `channel/?"},{"Effect":"Allow","Action":"cache:Connect","Resource":"*"}`, "*", []string{"a"}, []string{"ab"}},
		{"no limit", allowAll, "*", []string{"a", "secret"}, nil},
		{"by the command", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"cache:Command":["PSUBSCRIBE","AUTH"]}}}`, "*", []string{"a"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := who.connect(t, who.allowing(t, fmt.Sprint("p", i), tt.statements))
			p.want("*3\r\n$10\r\npsubscribe*:1\r\n", "PSUBSCRIBE "+tt.pattern)
			for _, channel := range tt.heard {
				boss.say("PUBLISH", channel, "m")
				if got := p.hear(); got != told(tt.pattern, channel) {
					t.Errorf("%s: %q", channel, got)
				}
			}
			for _, channel := range tt.unheard {
				boss.say("PUBLISH", channel, "m")
				if got := p.hear(); got != "" {
					t.Errorf("%s is denied, and told: %q", channel, got)
				}
			}
		})
	}
	t.Run("by rules of ACL", func(t *testing.T) {
		p := who.connect(t, policy.RoleReadOnly)
		boss.want("+OK\r\n", "ACL SETUSER "+p.caller.Principal.ID+" reset on &foo* +psubscribe")
		p.want("-NOPERM *", "PSUBSCRIBE foob*") // A51: letter for letter
		p.want("*3\r\n$10\r\npsubscribe*:1\r\n", "PSUBSCRIBE foo*")
		boss.say("PUBLISH", "foox", "m")
		if got := p.hear(); got != told("foo*", "foox") {
			t.Errorf("%q", got)
		}
	})
}

// A subscription does not outlive the right to it.
func TestSubscriptionsEndWithTheRight(t *testing.T) {
	who := newOwner(t)
	boss := who.connect(t, policy.RoleOwner)
	role := who.allowing(t, "r", allowAll)
	listener, pattern, watcher := who.connect(t, role), who.connect(t, role), who.connect(t, role)
	listener.say("SUBSCRIBE", "news")
	pattern.say("PSUBSCRIBE", "n*")
	watcher.want("+OK\r\n", "MONITOR")
	boss.say("PUBLISH", "news", "m")
	for name, p := range map[string]speaker{"a listener": listener, "one to a pattern": pattern, "one who monitors": watcher} {
		if got := p.hear(); !strings.Contains(got, "news") {
			t.Errorf("%s hears %q", name, got)
		}
	}
	who.allowing(t, "r", allowAll+`,{"Effect":"Deny","Action":["topic:Subscribe","cache:Get"],"Resource":"*"}`)
	boss.say("PUBLISH", "news", "secret")
	for name, p := range map[string]speaker{"a listener": listener, "one to a pattern": pattern, "one who monitors": watcher} {
		if got := p.hear(); strings.Contains(got, "secret") {
			t.Errorf("%s hears %q without the right", name, got)
		}
	}
	if !watcher.Closing() {
		t.Error("who monitored goes on")
	}
}

// What a command finds out as it goes is no way around the rights to it: SORT reads keys that only its patterns name, and
// MONITOR shows the values of all.
func TestCommandsOnKeysThatAreNotNamed(t *testing.T) {
	who := newOwner(t)
	boss := who.connect(t, policy.RoleOwner)
	boss.say("RPUSH", "list", "1")
	boss.say("MSET", "w_1", "1", "secret_1", "hidden")
	for i, tt := range []struct {
		name, statements string
		may              bool
	}{
		{"all", allowAll, true},
		{"all, under a condition that holds", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"cache:Protocol":"redis"}}}`, true},
		{"all but a secret", allowAll + `,{"Effect":"Deny","Action":"cache:Get",` + onMain + `key/secret_*"}`, false},
		{"nothing but the list", `{"Effect":"Allow","Action":"*",` + onMain + `key/list"},{"Effect":"Allow","Action":"*","Resource":"arn:cache:cache:*:TENANT:cache/main"}`, false},
		{"all, if the keys that are named are good", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAllValues:StringLike":{"cache:Keys":"list"}}}`, false},
	} {
		if i == 4 {
			tt.statements = strings.Replace(tt.statements, `}}}`, `},"Null":{"cache:Keys":"false"}}},{"Effect":"Allow","Action":"cache:Connect","Resource":"*"}`, 1)
		}
		t.Run(tt.name, func(t *testing.T) {
			p := who.connect(t, who.allowing(t, fmt.Sprint("s", i), tt.statements))
			p.want("*1\r\n$1\r\n1\r\n", "SORT list")
			for command, answer := range map[string]string{
				"SORT list GET secret_*": "*1\r\n$6\r\nhidden\r\n", "SORT_RO list BY w_* GET secret_*": "*1\r\n$6\r\nhidden\r\n",
				"SORT list BY w_* ALPHA": "*1\r\n$1\r\n1\r\n", "SORT list GET secret_*->f": "*1\r\n$-1\r\n",
			} {
				if !tt.may {
					answer = "-NOPERM *"
				}
				p.want(answer, command)
			}
			if !tt.may {
				if got := p.say("EVAL", "return redis.call('SORT', 'list', 'GET', 'secret_*')", "0"); !strings.HasPrefix(got, "-") {
					t.Errorf("in a script: %q", got)
				}
				p.want("-NOPERM *", "MONITOR")
			}
		})
	}
}

// What was queued under a right is not carried out without it.
func TestQueuedCommandsNeedTheRightWhenTheyRun(t *testing.T) {
	who := newOwner(t)
	p := who.connect(t, who.allowing(t, "q", allowAll))
	for _, command := range []string{"MULTI", "CONFIG SET maxmemory 2mb", "PING"} {
		p.say(strings.Fields(command)...)
	}
	who.allowing(t, "q", allowAll+`,{"Effect":"Deny","Action":"cache:UpdateCache","Resource":"*"}`)
	p.want("*2\r\n-NOPERM *", "EXEC")
	if c, _ := who.store.Cache(who.name, "main"); c.MemoryLimit == 2<<20 {
		t.Error("it was carried out")
	}
}

// A key that is revoked loses its connections, whatever they do at that moment, plain and over TLS.
func TestARevokedKeyLosesItsConnections(t *testing.T) {
	config := certificate(t)
	s := newService(t, func(c *Config, _ *wire.Patience) { c.TLS = config })
	who := newTenant(t)
	info, key, err := theWorld.keys.CreateKey(t.Context(), who.tenant, auth.KeySpec{Name: "k", Role: "owner"})
	if err != nil {
		t.Fatal(err)
	}
	stays := s.login(t, who)
	var peers sync.WaitGroup
	for _, sealed := range []bool{false, true} {
		for name, say := range map[string][]string{
			"idle": {"PING"}, "blocked": {"BLPOP", "none", "0"}, "subscribed": {"SUBSCRIBE", "c"}, "listening to a pattern": {"PSUBSCRIBE", "c*"},
			"monitoring": {"MONITOR"}, "waiting for a stream": {"XREAD", "BLOCK", "0", "STREAMS", "st", "$"}, "in a transaction": {"MULTI"}, "tracking": {"CLIENT", "TRACKING", "ON", "BCAST"},
		} {
			p := s.dial(t, "")
			if sealed {
				p = newPeer(t, tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true}))
			}
			p.do("+OK\r\n", "AUTH", key)
			if name == "tracking" {
				p.send(command("HELLO", "3"))
				p.expect("%7\r\n")
			}
			p.send(command(say...))
			if name == "blocked" || name == "waiting for a stream" {
				p.send(command("PING")) // more is behind it
			}
			peers.Go(func() {
				if p.rest(); t.Failed() {
					t.Errorf("%s, TLS %v", name, sealed)
				}
			})
		}
	}
	eventually(t, "all have said what they do", func() bool {
		n := 0
		for _, c := range s.everybody() {
			if c.facts.commands.Load() > 0 || c.facts.blocked.Load() {
				n++
			}
		}
		return n >= 16
	})
	if err := theWorld.keys.RevokeKey(t.Context(), who.tenant, info.ID); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	peers.Wait() // each has a deadline
	t.Logf("they ended within %v", time.Since(began))
	stays.do("+PONG\r\n", "PING")
}

// A role that allows less than it did holds for what waits and listens already, too: see Server.Run.
func TestALesserRoleReachesThoseWhoWait(t *testing.T) {
	s := newService(t, nil)
	who := newOwner(t)
	boss := who.connect(t, policy.RoleOwner)
	less := func(name, denied string) (p *peer, deny func()) {
		who.allowing(t, name, allowAll)
		p = s.dial(t, "")
		p.do("+OK\r\n", "AUTH", who.key(t, name))
		return p, func() { who.allowing(t, name, allowAll+`,{"Effect":"Deny","Action":"`+denied+`","Resource":"*"}`) }
	}

	blocked, deny := less("blocked", "cache:ListWrite")
	blocked.send(command("BLPOP", "waited", "0") + command("PING"))
	eventually(t, "it waits", func() bool { return strings.Contains(boss.say("INFO", "clients"), "blocked_clients:1") })
	deny()
	blocked.until("-NOPERM ")
	blocked.until("\r\n+PONG\r\n")
	boss.want(":1\r\n", "RPUSH waited x")
	boss.want(":1\r\n", "LLEN waited")

	tracking, deny := less("tracking", "cache:Scan")
	tracking.send(command("HELLO", "3") + command("CLIENT", "TRACKING", "ON", "BCAST") + command("ECHO", "on"))
	tracking.until("$2\r\non\r\n")
	deny()
	tracking.rest() // the connection ends
}
