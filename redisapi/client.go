package redisapi

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/wire"
)

func init() {
	maps.Copy(handlers, map[string]handler{
		"CLIENT": noSubcommand, "CLIENT|ID": clientID, "CLIENT|INFO": clientInfo, "CLIENT|LIST": clientList, "CLIENT|SETNAME": clientSetName, "CLIENT|GETNAME": clientGetName,
		"CLIENT|SETINFO": clientSetInfo, "CLIENT|NO-EVICT": clientNoEvict, "CLIENT|NO-TOUCH": clientNoTouch, "CLIENT|CONSISTENCY": clientConsistency, "CLIENT|KILL": clientKill,
		"CLIENT|PAUSE": clientPause, "CLIENT|UNPAUSE": clientUnpause, "CLIENT|REPLY": clientReply, "CLIENT|UNBLOCK": clientUnblock,
		"CLIENT|TRACKING": clientTracking, "CLIENT|TRACKINGINFO": clientTrackingInfo, "CLIENT|CACHING": clientCaching,
		"CLIENT|GETREDIR": func(s *Session, _ *engine.Command, _ [][]byte) { s.out.Int(s.redirect()) },
		"CLIENT|HELP": help("CLIENT",
			"CACHING (YES|NO)", "Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
			"CONSISTENCY [LINEARIZABLE|LEADER|EVENTUAL|DEFAULT]", "How current the reads of this connection have to be (Larder's own); without an argument what holds, and what the last read was.",
			"GETNAME", "Return the name of the current connection.",
			"GETREDIR", "Return the client ID we are redirecting to when tracking is enabled.",
			"ID", "Return the ID of the current connection.",
			"INFO", "Return information about the current client connection.",
			"KILL <ip:port>", "Kill connection made from <ip:port>.",
			"KILL <option> <value> [<option> <value> [...]]", "Kill connections that match all of ADDR, LADDR, TYPE, USER, ID, MAXAGE, SKIPME.",
			"LIST [options ...]", "Return information about client connections: TYPE (NORMAL|MASTER|REPLICA|PUBSUB), ID <id> [<id> ...].",
			"NO-EVICT (ON|OFF)", "Protect current client connection from eviction.",
			"NO-TOUCH (ON|OFF)", "Will not touch LRU/LFU stats when this mode is on.",
			"PAUSE <timeout> [WRITE|ALL]", "Suspend all, or just write, clients for <timeout> milliseconds.",
			"REPLY (ON|OFF|SKIP)", "Control the replies sent to the current connection.",
			"SETNAME <name>", "Assign the name <name> to the current connection.",
			"SETINFO <option> <value>", "Set client meta attr: LIB-NAME, LIB-VER.",
			"TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]", "Control server assisted client side caching.",
			"TRACKINGINFO", "Report tracking status for the current connection.",
			"UNBLOCK <clientid> [TIMEOUT|ERROR]", "Unblock the specified blocked client.",
			"UNPAUSE", "Stop the current client pause, resuming traffic.",
		),
	})
}

// noSubcommand refuses a container's name alone, or with a subcommand that it does not have.
func noSubcommand(s *Session, cmd *engine.Command, args [][]byte) {
	if len(args) < 2 {
		s.out.ErrorText(arityError(cmd))
		return
	}
	s.out.ErrorText("ERR unknown subcommand '" + clip(args[1]) + "'. Try " + cmd.Name + " HELP.")
}

// excess refuses a subcommand with more arguments than it takes, in Redis's words.
func excess(cmd *engine.Command) string {
	name, sub, _ := strings.Cut(cmd.Name, "|")
	return "ERR unknown subcommand or wrong number of arguments for '" + sub + "'. Try " + name + " HELP."
}

// clip bounds what an error quotes.
func clip(arg []byte) string { return string(arg[:min(len(arg), 128)]) }

// help serves HELP: pairs of a subcommand with its arguments and what it does.
func help(name string, pairs ...string) handler {
	lines := []string{name + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"}
	for i, text := range pairs {
		if i%2 == 1 {
			text = "    " + text
		}
		lines = append(lines, text)
	}
	lines = append(lines, "HELP", "    Print this help.")
	return func(s *Session, _ *engine.Command, _ [][]byte) {
		s.out.Array(len(lines))
		for _, l := range lines {
			s.out.Status(l)
		}
	}
}

// client finds a client of a cache by its number, nil for none.
func (srv *Server) client(st *cacheState, id int64) *Session {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for _, s := range st.sessions {
		if s.id == id && !s.facts.gone.Load() {
			return s
		}
	}
	return nil
}

// living lists the clients of a cache that are not about to go, by number.
func (srv *Server) living(st *cacheState) []*Session {
	list := slices.DeleteFunc(srv.clients(st), func(s *Session) bool { return s.facts.gone.Load() })
	slices.SortFunc(list, func(a, b *Session) int { return cmp.Compare(a.id, b.id) })
	return list
}

func clientID(s *Session, _ *engine.Command, _ [][]byte) { s.out.Int(s.id) }

func clientInfo(s *Session, _ *engine.Command, _ [][]byte) {
	s.out.Prose(string(s.appendLine(nil)))
}

// appendLine describes the client as CLIENT LIST does. It is safe from any goroutine.
//
// What a connection's buffers take is not told: the words stand there for programs that look for them.
func (s *Session) appendLine(b []byte) []byte {
	now := s.server.now()
	command := "NULL"
	if c := s.facts.lastCommand.Load(); c != nil {
		command = strings.ToLower(c.Name)
	}
	s.mail.mu.Lock()
	letters, waiting := len(s.mail.items), s.mail.bytes
	s.mail.mu.Unlock()
	f := &s.facts
	f.mu.Lock()
	defer f.mu.Unlock()
	word := func(name, value string) {
		b = append(append(append(append(b, name...), '='), value...), ' ')
	}
	number := func(name string, n int64) {
		b = append(append(b, name...), '=')
		b = append(strconv.AppendInt(b, n, 10), ' ')
	}
	number("id", s.id)
	word("addr", s.caller.Peer)
	word("laddr", s.local)
	number("fd", -1)
	word("name", f.name)
	number("age", int64(now.Sub(s.born)/time.Second))
	number("idle", max(0, (now.UnixNano()-f.lastActive.Load())/int64(time.Second)))
	word("flags", f.letters())
	number("db", int64(f.db))
	number("sub", int64(f.subs[0]))
	number("psub", int64(f.subs[2]))
	number("ssub", int64(f.subs[1]))
	number("multi", int64(f.multi))
	number("watch", int64(f.watch))
	for _, name := range []string{"qbuf", "qbuf-free", "argv-mem"} {
		number(name, 0)
	}
	number("multi-mem", int64(f.queued))
	number("rbs", wire.ReadChunk)
	number("rbp", wire.ReadChunk)
	number("obl", 0)
	number("oll", int64(letters))
	number("omem", int64(waiting))
	number("tot-mem", int64(wire.ReadChunk+f.queued+waiting))
	word("events", "r")
	word("cmd", command)
	word("user", f.user)
	number("redir", f.flags.redirect)
	number("resp", int64(f.proto))
	word("lib-name", f.libName)
	word("lib-ver", f.libVer)
	number("tot-net-in", f.in.Load())
	number("tot-net-out", f.out.Load())
	number("tot-cmds", f.commands.Load())
	b[len(b)-1] = '\n'
	return b
}

// letters are the client's flags as CLIENT LIST writes them. The caller holds the lock.
func (f *facts) letters() string {
	var b []byte
	for _, flag := range []struct {
		on     bool
		letter byte
	}{
		{f.flags.monitor, 'O'}, {f.replica.Load() != nil, 'S'}, {f.subs != [3]int{}, 'P'}, {f.multi >= 0, 'x'}, {f.blocked.Load(), 'b'}, {f.flags.tracking, 't'},
		{f.broken.Load(), 'R'}, {f.flags.broadcasting, 'B'}, {f.flags.readOnly, 'r'}, {f.flags.noEvict, 'e'}, {f.flags.noTouch, 'T'},
	} {
		if flag.on {
			b = append(b, flag.letter)
		}
	}
	if len(b) == 0 {
		return "N"
	}
	return string(b)
}

// clientTypes are the types of clients that Redis knows; a cache has none but the first two.
var clientTypes = set("NORMAL", "PUBSUB", "MASTER", "REPLICA", "SLAVE")

// isOf reports whether the client is of a type.
func (s *Session) isOf(kind string) bool {
	s.facts.mu.Lock()
	defer s.facts.mu.Unlock()
	listens := s.facts.subs != [3]int{}
	follows := s.facts.replica.Load() != nil
	return kind == "NORMAL" && !listens && !follows || kind == "PUBSUB" && listens || (kind == "REPLICA" || kind == "SLAVE") && follows
}

func clientList(s *Session, cmd *engine.Command, args [][]byte) {
	chosen := s.server.living(s.state)
	switch {
	case len(args) == 2:
	case len(args) == 4 && equalFold(args[2], "TYPE"):
		kind := strings.ToUpper(clip(args[3]))
		if !clientTypes[kind] {
			s.out.ErrorText("ERR Unknown client type '" + clip(args[3]) + "'")
			return
		}
		chosen = slices.DeleteFunc(chosen, func(c *Session) bool { return !c.isOf(kind) })
	case len(args) > 3 && equalFold(args[2], "ID"):
		if s.asksTooMuch(cmd, args[3:]) {
			return
		}
		wanted := map[int64]bool{}
		for _, a := range args[3:] {
			id, err := strconv.ParseInt(string(a), 10, 64)
			if err != nil {
				s.out.ErrorText("ERR Invalid client ID")
				return
			}
			wanted[id] = true
		}
		chosen = slices.DeleteFunc(chosen, func(c *Session) bool { return !wanted[c.id] })
	default:
		s.out.ErrorText(syntaxError)
		return
	}
	var b []byte
	for _, c := range chosen {
		b = c.appendLine(b)
	}
	s.out.Prose(string(b))
}

const badName = "ERR Client names cannot contain spaces, newlines or special characters."

func clientSetName(s *Session, _ *engine.Command, args [][]byte) {
	if !printableName(args[2]) {
		s.out.ErrorText(badName)
		return
	}
	s.setName(string(args[2]))
	s.out.Status("OK")
}

func clientGetName(s *Session, _ *engine.Command, _ [][]byte) {
	s.facts.mu.Lock()
	name := s.facts.name
	s.facts.mu.Unlock()
	if name == "" {
		s.out.Null()
		return
	}
	s.out.Text(name)
}

func clientSetInfo(s *Session, _ *engine.Command, args [][]byte) {
	var to *string
	switch {
	case equalFold(args[2], "LIB-NAME"):
		to = &s.facts.libName
	case equalFold(args[2], "LIB-VER"):
		to = &s.facts.libVer
	default:
		s.out.ErrorText("ERR Unrecognized option '" + clip(args[2]) + "'")
		return
	}
	if !printableName(args[3]) {
		s.out.ErrorText("ERR " + strings.ToLower(string(args[2])) + " cannot contain spaces, newlines or special characters.")
		return
	}
	s.facts.mu.Lock()
	*to = string(args[3])
	s.facts.mu.Unlock()
	s.out.Status("OK")
}

// onOff reads ON or OFF.
func (s *Session) onOff(arg []byte) (on, ok bool) {
	on = equalFold(arg, "ON")
	if !on && !equalFold(arg, "OFF") {
		s.out.ErrorText(syntaxError)
		return false, false
	}
	return on, true
}

func clientNoEvict(s *Session, _ *engine.Command, args [][]byte) {
	if on, ok := s.onOff(args[2]); ok {
		s.facts.mu.Lock()
		s.facts.flags.noEvict = on
		s.facts.mu.Unlock()
		s.out.Status("OK")
	}
}

func clientNoTouch(s *Session, _ *engine.Command, args [][]byte) {
	if on, ok := s.onOff(args[2]); ok {
		s.untouching = on
		s.facts.mu.Lock()
		s.facts.flags.noTouch = on
		s.facts.mu.Unlock()
		s.out.Status("OK")
	}
}

// read says how current the connection's reads have to be from now on.
func (s *Session) read(level engine.Consistency) {
	s.level = level
	s.facts.mu.Lock()
	s.facts.flags.readOnly = level == engine.Eventual
	s.facts.mu.Unlock()
}

// levelled serves READONLY and READWRITE.
func levelled(level engine.Consistency) handler {
	return func(s *Session, _ *engine.Command, _ [][]byte) {
		s.read(level)
		s.out.Status("OK")
	}
}

// clientConsistency says how current reads have to be, for this connection, or tells it, and what the last answer was.
func clientConsistency(s *Session, cmd *engine.Command, args [][]byte) {
	switch {
	case len(args) > 3:
		s.out.ErrorText(arityError(cmd))
	case len(args) == 2:
		s.out.Map(3)
		s.out.Text("consistency")
		s.out.Text(cmp.Or(s.level.String(), "default"))
		s.out.Text("last")
		s.out.Text(max(s.was, engine.Linearizable).String())
		s.out.Text("age-ms")
		s.out.Int(s.age)
	case equalFold(args[2], "DEFAULT"):
		levelled(engine.DefaultConsistency)(s, cmd, args)
	default:
		level, ok := engine.ParseConsistency(strings.ToLower(clip(args[2])))
		if !ok {
			s.out.ErrorText("ERR consistency is one of " + strings.Join(engine.Consistencies(), ", ") + " and default, not '" + clip(args[2]) + "'")
			return
		}
		levelled(level)(s, cmd, args)
	}
}

// A killing says which clients CLIENT KILL means. What is empty means all.
type killing struct {
	id, maxAge              int64
	kind, user, addr, local string
	skipMe                  bool
}

func (k *killing) means(c, me *Session) bool {
	c.facts.mu.Lock()
	user := c.facts.user
	c.facts.mu.Unlock()
	return (k.id == 0 || k.id == c.id) && (k.user == "" || k.user == user) && (k.addr == "" || k.addr == c.caller.Peer) &&
		(k.local == "" || k.local == c.local) && !(k.skipMe && c == me) && (k.kind == "" || c.isOf(k.kind)) &&
		(k.maxAge == 0 || me.server.now().Sub(c.born) >= time.Duration(k.maxAge)*time.Second)
}

// parse reads pairs of a filter and its value.
func (k *killing) parse(s *Session, pairs [][]byte) (problem string) {
	if len(pairs)%2 != 0 {
		return syntaxError
	}
	for i := 0; i < len(pairs); i += 2 {
		value := pairs[i+1]
		switch a := pairs[i]; {
		case equalFold(a, "ID"):
			n, err := strconv.ParseInt(string(value), 10, 64)
			if err != nil || n <= 0 {
				return "ERR client-id should be greater than 0"
			}
			k.id = n
		case equalFold(a, "TYPE"):
			if k.kind = strings.ToUpper(clip(value)); !clientTypes[k.kind] {
				return "ERR Unknown client type '" + clip(value) + "'"
			}
		case equalFold(a, "ADDR"):
			k.addr = string(value)
		case equalFold(a, "LADDR"):
			k.local = string(value)
		case equalFold(a, "USER"):
			if k.user = string(value); !s.isUser(k.user) {
				return "ERR No such user '" + clip(value) + "'"
			}
		case equalFold(a, "SKIPME"):
			if k.skipMe = equalFold(value, "YES"); !k.skipMe && !equalFold(value, "NO") {
				return syntaxError
			}
		case equalFold(a, "MAXAGE"):
			n, err := strconv.ParseInt(string(value), 10, 64)
			if err != nil {
				return "ERR maxage is not an integer or out of range"
			}
			if n <= 0 {
				return "ERR maxage should be greater than 0"
			}
			k.maxAge = min(n, 1<<33)
		default:
			return syntaxError
		}
	}
	return ""
}

func clientKill(s *Session, _ *engine.Command, args [][]byte) {
	k := killing{skipMe: true}
	old := len(args) == 3
	if old {
		k = killing{addr: string(args[2])}
		if k.addr == "" {
			k.addr = "-"
		}
	} else if problem := k.parse(s, args[2:]); problem != "" {
		s.out.ErrorText(problem)
		return
	}
	n, me := 0, false
	for _, c := range s.server.living(s.state) {
		if !k.means(c, s) {
			continue
		}
		n++
		if c == s {
			me = true
		} else {
			c.kill("CLIENT KILL")
		}
	}
	switch {
	case !old:
		s.out.Int(int64(n))
	case n == 0:
		s.out.ErrorText("ERR No such client")
	default:
		s.out.Status("OK")
	}
	if me {
		s.end("CLIENT KILL", nil)
	}
}

func clientPause(s *Session, cmd *engine.Command, args [][]byte) {
	all := true
	switch {
	case len(args) == 3 || len(args) == 4 && equalFold(args[3], "ALL"):
	case len(args) == 4 && equalFold(args[3], "WRITE"):
		all = false
	case len(args) == 4:
		s.out.ErrorText("ERR CLIENT PAUSE mode must be WRITE or ALL")
		return
	default:
		s.out.ErrorText(excess(cmd))
		return
	}
	ms, err := strconv.ParseInt(string(args[2]), 10, 64)
	switch {
	case err != nil || ms > maxPause:
		s.out.ErrorText("ERR timeout is not an integer or out of range")
		return
	case ms < 0:
		s.out.ErrorText("ERR timeout is negative")
		return
	}
	p := &pause{until: s.server.now().Add(time.Duration(ms) * time.Millisecond), all: all}
	if was := s.state.pause.Load(); was != nil && s.server.now().Before(was.until) {
		p.all = p.all || was.all
		if was.until.After(p.until) {
			p.until = was.until
		}
	}
	s.server.setPause(s.state, p)
	s.out.Status("OK")
}

// maxPause is a hundred years, in milliseconds.
const maxPause = 100 * 365 * 24 * 3600 * 1000

func clientUnpause(s *Session, _ *engine.Command, _ [][]byte) {
	s.server.setPause(s.state, nil)
	s.out.Status("OK")
}

func clientReply(s *Session, _ *engine.Command, args [][]byte) {
	switch {
	case equalFold(args[2], "ON"):
		s.silence = speak
		s.out.Status("OK")
	case equalFold(args[2], "OFF"):
		s.silence = off
	case !equalFold(args[2], "SKIP"):
		s.out.ErrorText(syntaxError)
	case s.silence != off:
		s.silence = skipNext
	}
}

var unblocked = &fault.Error{Kind: fault.Conflict, Op: "CLIENT UNBLOCK", Prefix: "UNBLOCKED", Message: "client unblocked via CLIENT UNBLOCK"}

func clientUnblock(s *Session, cmd *engine.Command, args [][]byte) {
	var with *fault.Error
	switch {
	case len(args) > 4:
		s.out.ErrorText(excess(cmd))
		return
	case len(args) == 4 && equalFold(args[3], "ERROR"):
		with = unblocked
	case len(args) == 4 && !equalFold(args[3], "TIMEOUT"):
		s.out.ErrorText("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
		return
	}
	id, err := strconv.ParseInt(string(args[2]), 10, 64)
	if err != nil {
		s.out.ErrorText(notInteger)
		return
	}
	if c := s.server.client(s.state, id); c != nil && c.release(with) {
		s.out.Int(1)
		return
	}
	s.out.Int(0)
}

// release ends the client's wait, from any goroutine, and reports whether it waited.
func (s *Session) release(with *fault.Error) bool {
	s.facts.mu.Lock()
	at := s.facts.place
	if s.away.far { // its waiter serves for one wait only, and its loop must not wait for this lock while we wait for another node
		s.facts.mu.Unlock()
		return at.Waits() && at.Release(with)
	}
	defer s.facts.mu.Unlock()
	return at.Waits() && at.Release(with)
}
