package redisapi

import (
	"maps"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/engine"
)

func init() {
	maps.Copy(handlers, map[string]handler{
		"SLOWLOG": noSubcommand, "SLOWLOG|GET": slowlogGet, "SLOWLOG|LEN": slowlogLen, "SLOWLOG|RESET": slowlogReset,
		"SLOWLOG|HELP": help("SLOWLOG",
			"GET [<count>]", "Return top <count> entries from the slowlog (default: 10, -1 mean all).",
			"LEN", "Return the length of the slowlog.",
			"RESET", "Reset the slowlog.",
		),
		"COMMANDLOG": noSubcommand, "COMMANDLOG|GET": commandlogGet, "COMMANDLOG|LEN": commandlogLen, "COMMANDLOG|RESET": commandlogReset,
		"COMMANDLOG|HELP": help("COMMANDLOG",
			"GET <count> <type>", "Return top <count> entries of the specified <type> from the commandlog (-1 mean all).",
			"LEN <type>", "Return the length of the specified type of commandlog.",
			"RESET <type>", "Reset the specified type of commandlog.",
		),
	})
}

// commandlogType says whether Valkey's commandlog is asked for its slow commands; else for its large ones, of which there
// are none here. What is neither has been answered when ok is false.
func commandlogType(s *Session, name []byte) (slow, ok bool) {
	switch strings.ToLower(string(name[:min(len(name), 16)])) {
	case "slow":
		return true, true
	case "large-request", "large-reply":
		return false, true
	}
	s.out.ErrorText("ERR type should be one of the following: slow, large-request, large-reply")
	return false, false
}

func commandlogGet(s *Session, cmd *engine.Command, args [][]byte) {
	switch slow, ok := commandlogType(s, args[3]); {
	case slow:
		slowlogGet(s, cmd, args[:3])
	case ok:
		if n, err := strconv.ParseInt(string(args[2]), 10, 64); err != nil || n < -1 {
			s.out.ErrorText("ERR count should be greater than or equal to -1")
			return
		}
		s.out.Array(0)
	}
}

func commandlogLen(s *Session, cmd *engine.Command, args [][]byte) {
	switch slow, ok := commandlogType(s, args[2]); {
	case slow:
		slowlogLen(s, cmd, args)
	case ok:
		s.out.Int(0)
	}
}

func commandlogReset(s *Session, cmd *engine.Command, args [][]byte) {
	switch slow, ok := commandlogType(s, args[2]); {
	case slow:
		slowlogReset(s, cmd, args)
	case ok:
		s.out.Status("OK")
	}
}

func slowlogGet(s *Session, cmd *engine.Command, args [][]byte) {
	count := int64(10)
	switch len(args) {
	case 2:
	case 3:
		n, err := strconv.ParseInt(string(args[2]), 10, 64)
		if err != nil || n < -1 {
			s.out.ErrorText("ERR count should be greater than or equal to -1")
			return
		}
		count = n
	default:
		s.out.ErrorText(excess(cmd))
		return
	}
	o := &s.state.observed
	o.mu.Lock()
	defer o.mu.Unlock()
	if count < 0 || count > int64(len(o.slowest)) {
		count = int64(len(o.slowest))
	}
	s.out.Array(int(count))
	for i := range int(count) {
		e := &o.slowest[len(o.slowest)-1-i]
		s.out.Array(6)
		s.out.Int(e.id)
		s.out.Int(e.at)
		s.out.Int(e.micros)
		s.out.Array(len(e.args))
		for _, a := range e.args {
			s.out.Bulk(a)
		}
		s.out.Text(e.peer)
		s.out.Text(e.name)
	}
}

func slowlogLen(s *Session, _ *engine.Command, _ [][]byte) {
	o := &s.state.observed
	o.mu.Lock()
	defer o.mu.Unlock()
	s.out.Int(int64(len(o.slowest)))
}

func slowlogReset(s *Session, _ *engine.Command, _ [][]byte) {
	o := &s.state.observed
	o.mu.Lock()
	o.slowest = nil
	o.mu.Unlock()
	s.out.Status("OK")
}

// resize has the slow log keep n entries.
func (o *observations) resize(n int64) {
	o.keep.Store(n)
	o.mu.Lock()
	defer o.mu.Unlock()
	if over := len(o.slowest) - int(n); over > 0 {
		o.slowest = append([]slowEntry(nil), o.slowest[over:]...)
	}
}
