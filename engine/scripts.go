package engine

import (
	"container/list"
	"crypto/sha1"
	"encoding/hex"
	"strings"

	"github.com/larder-cache/larder/engine/script"
	"github.com/larder-cache/larder/internal/fault"
)

// Commands that run scripts, and those about the scripts that a cache knows.
var scriptCommands = []Command{
	{Name: "EVAL", Arity: -3, Keys: Keys{Count: 2}, Flags: Writes | relieved, Group: GroupScripting, Action: "cache:EvalScript",
		run:   func(c *call) error { return c.eval(false, false) },
		Usage: "script numkeys [key [key ...]] [arg [arg ...]]", Summary: "Runs a script in Lua", Complexity: "Depends on the script", Since: "2.6.0"},
	{Name: "EVAL_RO", Arity: -3, Keys: Keys{Count: 2}, Group: GroupScripting, Action: "cache:EvalScript",
		run:   func(c *call) error { return c.eval(false, true) },
		Usage: "script numkeys [key [key ...]] [arg [arg ...]]", Summary: "Runs a script in Lua that only reads", Complexity: "Depends on the script", Since: "7.0.0"},
	{Name: "EVALSHA", Arity: -3, Keys: Keys{Count: 2}, Flags: Writes | relieved, Group: GroupScripting, Action: "cache:EvalScript",
		run:   func(c *call) error { return c.eval(true, false) },
		Usage: "sha1 numkeys [key [key ...]] [arg [arg ...]]", Summary: "Runs a script that the cache knows, by the SHA1 of its text", Complexity: "Depends on the script", Since: "2.6.0"},
	{Name: "EVALSHA_RO", Arity: -3, Keys: Keys{Count: 2}, Group: GroupScripting, Action: "cache:EvalScript",
		run:   func(c *call) error { return c.eval(true, true) },
		Usage: "sha1 numkeys [key [key ...]] [arg [arg ...]]", Summary: "Runs a script that the cache knows and that only reads, by the SHA1 of its text", Complexity: "Depends on the script", Since: "7.0.0"},
	{Name: "SCRIPT", Arity: -2, Subspreads: map[string]Spread{"LOAD": PartsSame, "FLUSH": PartsSame, "EXISTS": PartsLowest}, Flags: Writes, Group: GroupScripting, Action: "cache:LoadScript", Rights: scriptRights("EXISTS", "SHOW", "HELP"), run: scriptCommand,
		Usage:   "<LOAD script | EXISTS sha1 [sha1 ...] | FLUSH [ASYNC | SYNC] | SHOW sha1 | KILL | DEBUG <YES | SYNC | NO> | HELP>",
		Summary: "Makes scripts known to the cache by their SHA1, shows and forgets them", Complexity: "O(N) in the length of a script or the number of scripts", Since: "2.6.0"},
}

// scriptRights needs cache:Inspect for the subcommands that only show something, and cache:LoadScript for the others.
func scriptRights(shows ...string) rights {
	return func(dst []Right, args [][]byte) []Right {
		for _, sub := range shows {
			if len(args) > 1 && is(args[1], sub) {
				return append(dst, Right{Action: "cache:Inspect", On: OnCache})
			}
		}
		return append(dst, Right{Action: "cache:LoadScript", On: OnCache})
	}
}

// Bounds of scripts. A run may take 4 million steps, which are measured to take 10 ns each at the most, and
// allocate 64 MiB in all; to load a library takes less.
const (
	scriptSteps = 4_000_000
	scriptBytes = 64 << 20
	loadSteps   = 1_000_000
	loadBytes   = 8 << 20

	evalScripts   = 500      // that EVAL made known; SCRIPT LOAD's stay
	loadedScripts = 10_000   // that SCRIPT LOAD made known
	keptScripts   = 64 << 20 // bytes of all scripts that a cache knows
	scriptCost    = 200      // bytes, what a script costs beside its text
	compiledBytes = 16 << 20 // of compiled scripts, for a whole partition
)

// A knownScript is one that a cache knows by its SHA1.
type knownScript struct {
	sha   scriptSHA
	text  string
	used  uint64        // counts up with every use
	place *list.Element // among those that EVAL made known; nil when SCRIPT LOAD did
}

type scriptSHA [sha1.Size]byte

func (s *knownScript) bytes() int64 { return scriptCost + int64(len(s.text)) }

// Scripts are what a cache knows of them.
//
//	U1: byUse holds the scripts that EVAL made known, in the order of used
//	U2: bytes is the sum of what all cost
type scripts struct {
	bySHA map[scriptSHA]*knownScript
	byUse list.List
	bytes int64
	uses  uint64
}

// noting adds to the journal of the task, if it has one.
func (c *call) noting(inverse func()) {
	if j := c.p.journal; j != nil {
		j.add(inverse)
	}
}

// know adds a script to those that the cache knows, by SCRIPT LOAD or by EVAL.
func (c *call) know(sha scriptSHA, text string, loaded bool) {
	s := c.cache.scripts
	if s == nil {
		s = &scripts{bySHA: map[scriptSHA]*knownScript{}}
		owner := c.cache
		owner.scripts = s
		c.noting(func() { owner.scripts = nil })
	}
	k := &knownScript{sha: sha, text: strings.Clone(text)}
	s.uses++
	k.used = s.uses
	if !loaded {
		for s.byUse.Len() >= evalScripts || s.byUse.Len() > 0 && s.bytes+k.bytes() > keptScripts {
			c.forgetScript(s.byUse.Front().Value.(*knownScript))
		}
		k.place = s.byUse.PushBack(k)
	}
	owner := c.cache
	owner.keep(s, k)
	c.noting(func() {
		owner.unkeep(s, k)
		if k.place != nil {
			s.byUse.Remove(k.place)
		}
		s.uses--
	})
}

func (c *cache) keep(s *scripts, k *knownScript) {
	s.bySHA[k.sha] = k
	s.bytes += k.bytes()
	c.used += k.bytes()
}

func (c *cache) unkeep(s *scripts, k *knownScript) {
	delete(s.bySHA, k.sha)
	s.bytes -= k.bytes()
	c.used -= k.bytes()
}

// forgetScript drops the script that was not used for longest.
func (c *call) forgetScript(k *knownScript) {
	owner, s := c.cache, c.cache.scripts
	owner.unkeep(s, k)
	s.byUse.Remove(k.place)
	owner.counts.EvictedScripts++
	c.noting(func() {
		owner.keep(s, k)
		k.place = s.byUse.PushFront(k)
	})
}

// useScript notes that a script was used.
func (c *call) useScript(k *knownScript) {
	s := c.cache.scripts
	if k.place == nil || s.byUse.Back() == k.place {
		return
	}
	after, used := k.place.Next(), k.used
	s.uses++
	k.used = s.uses
	s.byUse.MoveToBack(k.place)
	c.noting(func() {
		s.byUse.MoveBefore(k.place, after)
		k.used = used
		s.uses--
	})
}

// promote makes of a script that EVAL made known one that stays.
func (c *call) promote(k *knownScript) {
	if k.place == nil {
		return
	}
	s, after := c.cache.scripts, k.place.Next()
	s.byUse.Remove(k.place)
	k.place = nil
	c.noting(func() {
		if after != nil {
			k.place = s.byUse.InsertBefore(k, after)
		} else {
			k.place = s.byUse.PushBack(k)
		}
	})
}

// flushScripts forgets all scripts.
func (c *call) flushScripts() {
	owner, s := c.cache, c.cache.scripts
	if s == nil {
		return
	}
	owner.scripts = nil
	owner.used -= s.bytes
	c.noting(func() {
		owner.scripts = s
		owner.used += s.bytes
	})
}

// scriptBySHA finds a script that the cache knows by its SHA1 in hexadecimal, in any letter case; nil for none.
func (c *cache) scriptBySHA(hexed []byte) *knownScript {
	var sha scriptSHA
	if c.scripts == nil || len(hexed) != 2*len(sha) {
		return nil
	}
	if _, err := hex.Decode(sha[:], hexed); err != nil {
		return nil
	}
	return c.scripts.bySHA[sha]
}

var errNoScript = &fault.Error{Kind: fault.NotFound, Op: "engine.script", Prefix: "NOSCRIPT", Message: "No matching script. Please use EVAL."}

// errScript is an error in the words of package script.
func errScript(c *call, message string) error {
	return &fault.Error{Kind: fault.InvalidArgument, Op: c.cmd.Name, Message: message}
}

// eval runs a script: its text, or one that the cache knows by its SHA1.
func (c *call) eval(bySHA, readOnly bool) error {
	if bySHA && len(c.args[1]) != 2*sha1.Size {
		return errNoScript
	}
	keys, args, err := c.scriptArguments(errNotInteger)
	if err != nil {
		return err
	}
	sha, chunk, err := c.chunkOf(bySHA)
	if err != nil {
		return err
	}
	var name [2 * sha1.Size]byte
	hex.Encode(name[:], sha[:])
	run := &scriptRun{name: string(name[:]), flags: chunk.Flags, readOnly: readOnly, keys: keys, args: args}
	return c.runScript(run, func(m *script.Machine, job *script.Job) script.Outcome { return m.Run(chunk, job) })
}

// scriptArguments splits what comes after the script's name.
func (c *call) scriptArguments(notNumber error) (keys, args [][]byte, err error) {
	n, ok := parseInt(c.args[2])
	switch rest := c.args[3:]; {
	case !ok:
		return nil, nil, notNumber
	case n > int64(len(rest)):
		return nil, nil, fault.About(fault.InvalidArgument, c.cmd.Name, "numkeys", "Number of keys can't be greater than number of args")
	case n < 0:
		return nil, nil, fault.About(fault.InvalidArgument, c.cmd.Name, "numkeys", "Number of keys can't be negative")
	default:
		return rest[:n], rest[n:], nil
	}
}

// chunkOf returns the compiled script of a call, and makes it known to the cache when the call came with its text. A query
// changes nothing that replicas agree on: it notes the script only where EVALSHA_RO looks.
func (c *call) chunkOf(bySHA bool) (sha scriptSHA, chunk *script.Chunk, err error) {
	if bySHA {
		known := c.cache.scriptBySHA(c.args[1])
		if known == nil {
			if _, err := hex.Decode(sha[:], c.args[1]); err == nil && !c.writing && c.cache.shown != nil {
				if text, ok := c.cache.shown.Get(sha); ok {
					chunk, err = c.p.compiled(sha, text)
					return sha, chunk, err
				}
			}
			return sha, nil, errNoScript
		}
		if c.writing {
			c.useScript(known)
		}
		chunk, err = c.p.compiled(known.sha, known.text)
		return known.sha, chunk, err
	}
	sha = sha1.Sum(c.args[1])
	if chunk, err = c.p.compiled(sha, text(c.args[1])); err != nil {
		return sha, nil, err
	}
	switch {
	case !c.writing:
		c.cache.show(sha, string(c.args[1]))
	case c.cache.scripts == nil || c.cache.scripts.bySHA[sha] == nil:
		c.know(sha, text(c.args[1]), false)
	default:
		c.useScript(c.cache.scripts.bySHA[sha])
	}
	return sha, chunk, nil
}

func scriptCommand(c *call) error {
	if len(c.args) == 3 && is(c.args[1], "DEBUG") {
		switch {
		case is(c.args[2], "NO"):
			c.out.Status("OK")
			return nil
		case is(c.args[2], "YES"), is(c.args[2], "SYNC"):
			return fault.New(fault.NotSupported, c.cmd.Name, "SCRIPT DEBUG is not offered: others would wait for the debugger")
		}
		return errScript(c, "Use SCRIPT DEBUG YES/SYNC/NO")
	}
	sub, err := c.subcommand(scriptArities)
	if err != nil {
		return err
	}
	switch sub {
	case "HELP":
		return c.help(scriptHelp)
	case "FLUSH":
		if len(c.args) > 3 || len(c.args) == 3 && !is(c.args[2], "ASYNC") && !is(c.args[2], "SYNC") {
			return errScript(c, "SCRIPT FLUSH only support SYNC|ASYNC option")
		}
		c.flushScripts()
		c.cache.shown = nil
		c.out.Status("OK")
	case "EXISTS":
		c.out.Array(len(c.args) - 2)
		for _, sha := range c.args[2:] {
			if c.cache.scriptBySHA(sha) != nil {
				c.out.Int(1)
			} else {
				c.out.Int(0)
			}
		}
	case "SHOW":
		known := c.cache.scriptBySHA(c.args[2])
		if known == nil {
			return errNoScript
		}
		c.out.Text(known.text)
	case "KILL":
		return errNotBusy
	case "LOAD":
		return c.loadScript()
	}
	return nil
}

// A script ends before another command begins, so there is never one to be killed.
var errNotBusy = &fault.Error{Kind: fault.NotFound, Op: "engine.script", Prefix: "NOTBUSY", Message: "No scripts in execution right now."}

func (c *call) loadScript() error {
	sha := scriptSHA(sha1.Sum(c.args[2]))
	if _, err := c.p.compiled(sha, text(c.args[2])); err != nil {
		return err
	}
	switch s := c.cache.scripts; {
	case s == nil || s.bySHA[sha] == nil:
		if s != nil && (len(s.bySHA)-s.byUse.Len() >= loadedScripts || s.bytes+int64(len(c.args[2])) > keptScripts) {
			return fault.New(fault.OutOfMemory, c.cmd.Name, "a cache knows at most %d scripts of %d bytes together: SCRIPT FLUSH forgets them", loadedScripts, keptScripts)
		}
		c.know(sha, text(c.args[2]), true)
	default:
		c.promote(s.bySHA[sha])
	}
	c.out.Text(hex.EncodeToString(sha[:]))
	return nil
}

var scriptArities = map[string]int{"LOAD": 3, "EXISTS": -3, "FLUSH": -2, "SHOW": 3, "KILL": 2, "DEBUG": 3, "HELP": 2}

var scriptHelp = []string{
	"DEBUG (YES|SYNC|NO)",
	"    Set the debug mode for subsequent scripts executed.",
	"EXISTS <sha1> [<sha1> ...]",
	"    Return information about the existence of the scripts in the script cache.",
	"FLUSH [ASYNC|SYNC]",
	"    Flush the Lua scripts cache. Very dangerous on replicas.",
	"    When called without the optional mode argument, the behavior is determined",
	"    by the lazyfree-lazy-user-flush configuration directive. Valid modes are:",
	"    * ASYNC: Asynchronously flush the scripts cache.",
	"    * SYNC: Synchronously flush the scripts cache.",
	"KILL",
	"    Kill the currently executing Lua script.",
	"LOAD <script>",
	"    Load a script into the scripts cache without executing it.",
	"SHOW <sha1>",
	"    Show a script from the scripts cache.",
}
