package engine

import (
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"slices"
	"strings"

	"github.com/larder-cache/larder/engine/script"
	"github.com/larder-cache/larder/internal/fault"
)

// Commands about libraries of functions, and those that call a function.
var functionCommands = []Command{
	{Name: "FCALL", Arity: -3, Keys: Keys{Count: 2}, Flags: Writes | relieved, Group: GroupScripting, Action: "cache:EvalScript",
		run:   func(c *call) error { return c.fcall(false) },
		Usage: "function numkeys [key [key ...]] [arg [arg ...]]", Summary: "Calls a function of a library", Complexity: "Depends on the function", Since: "7.0.0"},
	{Name: "FCALL_RO", Arity: -3, Keys: Keys{Count: 2}, Group: GroupScripting, Action: "cache:EvalScript",
		run:   func(c *call) error { return c.fcall(true) },
		Usage: "function numkeys [key [key ...]] [arg [arg ...]]", Summary: "Calls a function of a library that only reads", Complexity: "Depends on the function", Since: "7.0.0"},
	{Name: "FUNCTION", Arity: -2, Subspreads: map[string]Spread{"LOAD": PartsSame, "DELETE": PartsSame, "FLUSH": PartsSame, "RESTORE": PartsSame}, Flags: Writes, Group: GroupScripting, Action: "cache:LoadScript", Rights: scriptRights("LIST", "STATS", "DUMP", "HELP"), run: function,
		Usage:   "<LOAD [REPLACE] library-code | DELETE library-name | FLUSH [ASYNC | SYNC] | LIST [LIBRARYNAME pattern] [WITHCODE] | DUMP | RESTORE payload [FLUSH | APPEND | REPLACE] | STATS | KILL | HELP>",
		Summary: "Loads, lists and removes libraries of functions", Complexity: "O(N) in the number of functions or the length of a library", Since: "7.0.0"},
}

// maxLibraries is how many libraries a cache may have, and maxLibraryBytes how long they may be together.
const (
	maxLibraries    = 1000
	maxLibraryBytes = 64 << 20
)

// A scriptLibrary is a library of functions, which does not change.
type scriptLibrary struct {
	name, code string
	functions  []script.Function // by name
}

// libraryCost and functionCost are what they cost in bytes beside their texts.
const (
	libraryCost  = 200
	functionCost = 150
)

func (l *scriptLibrary) bytes() int64 {
	n := libraryCost + int64(len(l.name)+len(l.code))
	for _, f := range l.functions {
		n += functionCost + int64(len(f.Name)+len(f.Description))
	}
	return n
}

// Libraries are what a cache has of them. They do not change either: see call.setLibraries.
type libraries struct {
	list  []*scriptLibrary // by name
	bytes int64
}

func (l *libraries) find(name string) (i int, ok bool) {
	if l == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(l.list, name, func(l *scriptLibrary, name string) int { return strings.Compare(l.name, name) })
}

// function finds a function by its name in any letter case.
func (l *libraries) function(name string) (*scriptLibrary, *script.Function) {
	if l != nil {
		for _, lib := range l.list {
			for i := range lib.functions {
				if strings.EqualFold(lib.functions[i].Name, name) {
					return lib, &lib.functions[i]
				}
			}
		}
	}
	return nil, nil
}

// with returns these libraries and another, in the place of the one with its name if replace says so.
func (l *libraries) with(lib *scriptLibrary, replace bool) (*libraries, error) {
	var list []*scriptLibrary
	if l != nil {
		list = slices.Clone(l.list)
	}
	i, found := l.find(lib.name)
	switch {
	case found && !replace:
		return nil, script.Error("Library '" + lib.name + "' already exists")
	case found:
		list = slices.Delete(list, i, i+1)
	}
	rest := &libraries{list: list}
	for _, f := range lib.functions {
		if other, _ := rest.function(f.Name); other != nil {
			return nil, script.Error("Function " + f.Name + " already exists")
		}
	}
	return newLibraries(slices.Insert(list, i, lib)), nil
}

func newLibraries(list []*scriptLibrary) *libraries {
	if len(list) == 0 {
		return nil
	}
	l := &libraries{list: list}
	for _, lib := range list {
		l.bytes += lib.bytes()
	}
	return l
}

func (l *libraries) size() int64 {
	if l == nil {
		return 0
	}
	return l.bytes
}

// setLibraries gives the cache other libraries.
func (c *call) setLibraries(l *libraries) {
	owner, old := c.cache, c.cache.libraries
	set := func(from, to *libraries) {
		owner.libraries = to
		owner.used += to.size() - from.size()
	}
	set(old, l)
	c.noting(func() { set(l, old) })
}

func (c *call) fcall(readOnly bool) error {
	lib, f := c.cache.libraries.function(string(c.args[1]))
	if f == nil {
		return errScript(c, "Function not found")
	}
	keys, args, err := c.scriptArguments(errScript(c, "Bad number of keys provided"))
	if err != nil {
		return err
	}
	chunk, err := c.p.compiledLibrary(lib.code)
	if err != nil {
		return err
	}
	run := &scriptRun{name: f.Name, flags: f.Flags, readOnly: readOnly, keys: keys, args: args}
	return c.runScript(run, func(m *script.Machine, job *script.Job) script.Outcome { return m.Call(chunk, f.Name, job) })
}

var functionArities = map[string]int{"LOAD": -3, "DELETE": 3, "FLUSH": -2, "LIST": -2, "DUMP": 2, "RESTORE": -3, "STATS": 2, "KILL": 2, "HELP": 2}

func function(c *call) error {
	sub, err := c.subcommand(functionArities)
	if err != nil {
		return err
	}
	switch sub {
	case "HELP":
		return c.help(functionHelp)
	case "LOAD":
		return c.functionLoad()
	case "DELETE":
		i, ok := c.cache.libraries.find(string(c.args[2]))
		if !ok {
			return errScript(c, "Library not found")
		}
		list := slices.Clone(c.cache.libraries.list)
		c.setLibraries(newLibraries(slices.Delete(list, i, i+1)))
		c.out.Status("OK")
	case "FLUSH":
		if len(c.args) > 3 {
			return c.errSubcommand()
		}
		if len(c.args) == 3 && !is(c.args[2], "ASYNC") && !is(c.args[2], "SYNC") {
			return errScript(c, "FUNCTION FLUSH only supports SYNC|ASYNC option")
		}
		c.setLibraries(nil)
		c.out.Status("OK")
	case "LIST":
		return c.functionList()
	case "DUMP":
		c.out.Bulk(c.cache.libraries.dump())
	case "RESTORE":
		return c.functionRestore()
	case "KILL":
		return errNotBusy
	case "STATS":
		c.functionStats()
	}
	return nil
}

// newLibrary makes a library of its text.
func (c *call) newLibrary(code string) (*scriptLibrary, error) {
	engine, name, err := script.Library(code)
	switch {
	case err != nil:
		return nil, err
	case !script.ValidName(name):
		return nil, script.Error("Library names can only contain letters, numbers, or underscores(_) and must be at least one character long")
	case !strings.EqualFold(engine, "lua"):
		return nil, script.Error("Engine '" + engine + "' not found")
	}
	chunk, err := script.CompileLibrary(code)
	if err != nil {
		return nil, err
	}
	if c.p.machine == nil {
		c.p.machine = script.NewMachine()
	}
	job := &script.Job{Host: &scriptRun{c: c}, Dice: c.p.random(), Budget: script.Budget{Cost: script.Cost{Steps: loadSteps, Bytes: loadBytes}, Late: c.task.Late}}
	functions, o := c.p.machine.Load(chunk, job)
	switch {
	case o.Stopped != "":
		return nil, script.Error("Error registering functions: ERR FUNCTION LOAD timeout: " + o.Stopped)
	case o.Failed != "":
		return nil, script.Error("Error registering functions: " + o.Failed)
	case len(functions) == 0:
		return nil, script.Error("No functions registered")
	}
	slices.SortFunc(functions, func(a, b script.Function) int { return strings.Compare(a.Name, b.Name) })
	return &scriptLibrary{name: strings.Clone(name), code: code, functions: functions}, nil
}

// roomForLibraries refuses what would be too much.
func (c *call) roomForLibraries(l *libraries) error {
	if l != nil && (len(l.list) > maxLibraries || l.bytes > maxLibraryBytes) {
		return fault.New(fault.OutOfMemory, c.cmd.Name, "a cache has at most %d libraries of %d bytes together", maxLibraries, maxLibraryBytes)
	}
	return c.cache.admit(c.db, c.cmd, c.args)
}

func (c *call) functionLoad() error {
	replace := false
	at := 2
	for ; at < len(c.args)-1; at++ {
		if !is(c.args[at], "REPLACE") {
			return errScript(c, "Unknown option given: "+string(c.args[at]))
		}
		replace = true
	}
	lib, err := c.newLibrary(string(c.args[at]))
	if err != nil {
		return errScript(c, err.Error())
	}
	l, err := c.cache.libraries.with(lib, replace)
	if err != nil {
		return errScript(c, err.Error())
	}
	if err := c.roomForLibraries(l); err != nil {
		return err
	}
	c.setLibraries(l)
	c.out.Text(lib.name)
	return nil
}

func (c *call) functionList() error {
	var pattern []byte
	named, withCode := false, false
	for i := 2; i < len(c.args); i++ {
		switch a := c.args[i]; {
		case !withCode && is(a, "WITHCODE"):
			withCode = true
		case !named && is(a, "LIBRARYNAME"):
			if i++; i >= len(c.args) {
				return errScript(c, "library name argument was not given")
			}
			named, pattern = true, c.args[i]
		default:
			return errScript(c, "Unknown argument "+string(a))
		}
	}
	g, err := newGlob(c.cmd.Name, []byte(strings.ToLower(string(pattern))))
	if err != nil {
		return err
	}
	var list []*scriptLibrary
	if l := c.cache.libraries; l != nil {
		for _, lib := range l.list {
			if !named || g.match(strings.ToLower(lib.name)) {
				list = append(list, lib)
			}
		}
	}
	c.out.Array(len(list))
	for _, lib := range list {
		fields := 3
		if withCode {
			fields++
		}
		c.out.Map(fields)
		c.out.Text("library_name")
		c.out.Text(lib.name)
		c.out.Text("engine")
		c.out.Text("LUA")
		c.out.Text("functions")
		c.out.Array(len(lib.functions))
		for _, f := range lib.functions {
			c.out.Map(3)
			c.out.Text("name")
			c.out.Text(f.Name)
			c.out.Text("description")
			if f.Described {
				c.out.Text(f.Description)
			} else {
				c.out.Null()
			}
			c.out.Text("flags")
			names := f.Flags.Names()
			c.out.Set(len(names))
			for _, name := range names {
				c.out.Status(name)
			}
		}
		if withCode {
			c.out.Text("library_code")
			c.out.Text(lib.code)
		}
	}
	return nil
}

func (c *call) functionStats() {
	count, functions := 0, 0
	if l := c.cache.libraries; l != nil {
		count = len(l.list)
		for _, lib := range l.list {
			functions += len(lib.functions)
		}
	}
	c.out.Map(2)
	c.out.Text("running_script")
	c.out.Null()
	c.out.Text("engines")
	c.out.Map(1)
	c.out.Text("LUA")
	c.out.Map(2)
	c.out.Text("libraries_count")
	c.out.Int(int64(count))
	c.out.Text("functions_count")
	c.out.Int(int64(functions))
}

// Libraries are dumped as in Redis's files: for each a byte that says what it is and its text, and at the end the version of
// the format and a sum.
const (
	rdbLibrary     = 245
	rdbLibraryOld  = 246 // of versions before the first
	rdbVersion     = 11
	rdbNewest      = 80 // that we still try to read
	rdbCompressed  = 0xC3
	rdbTail        = 10
	rdbMaxExpanded = 4 * script.MaxSource
)

var crcTable = crc64.MakeTable(0x95AC9329AC4BC9B5)

// crc is Redis's sum, which is not inverted as that of the library is.
func crc(b []byte) uint64 { return ^crc64.Update(^uint64(0), crcTable, b) }

func (l *libraries) dump() []byte {
	var b []byte
	if l != nil {
		for _, lib := range l.list {
			b = append(b, rdbLibrary)
			b = append(appendRDBLength(b, len(lib.code)), lib.code...)
		}
	}
	b = append(b, rdbVersion, 0)
	return binary.LittleEndian.AppendUint64(b, crc(b))
}

func appendRDBLength(b []byte, n int) []byte {
	switch {
	case n < 64:
		return append(b, byte(n))
	case n < 1<<14:
		return append(b, 0x40|byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0x80), uint32(n))
}

// readRDBLength reads a length, and returns what follows it.
func readRDBLength(b []byte) (n int, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	switch c := b[0]; {
	case c>>6 == 0:
		return int(c), b[1:], true
	case c>>6 == 1 && len(b) > 1:
		return int(c&63)<<8 | int(b[1]), b[2:], true
	case c == 0x80 && len(b) > 4:
		return int(binary.BigEndian.Uint32(b[1:])), b[5:], true
	}
	return 0, nil, false
}

// readRDBString reads a string, compressed or not, and returns what follows it.
func readRDBString(b []byte) (s, rest []byte, ok bool) {
	if len(b) > 0 && b[0] == rdbCompressed {
		packed, b, ok := readRDBLength(b[1:])
		if !ok {
			return nil, nil, false
		}
		size, b, ok := readRDBLength(b)
		if !ok || packed > len(b) || size > rdbMaxExpanded {
			return nil, nil, false
		}
		s, ok = unLZF(b[:packed], size)
		return s, b[packed:], ok
	}
	n, b, ok := readRDBLength(b)
	if !ok || n > len(b) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// unLZF expands what LZF has compressed to exactly size bytes.
func unLZF(b []byte, size int) (out []byte, ok bool) {
	out = make([]byte, 0, size)
	for len(b) > 0 {
		c := int(b[0])
		b = b[1:]
		if c < 32 { // as it is
			if c+1 > len(b) || len(out)+c+1 > size {
				return nil, false
			}
			out = append(out, b[:c+1]...)
			b = b[c+1:]
			continue
		}
		n := c >> 5
		if n == 7 {
			if len(b) == 0 {
				return nil, false
			}
			n += int(b[0])
			b = b[1:]
		}
		if len(b) == 0 {
			return nil, false
		}
		from := len(out) - (c&31)<<8 - int(b[0]) - 1
		b = b[1:]
		if n += 2; from < 0 || len(out)+n > size {
			return nil, false
		}
		for range n {
			out = append(out, out[from])
			from++
		}
	}
	return out, len(out) == size
}

func (c *call) functionRestore() error {
	if len(c.args) > 4 {
		return c.errSubcommand()
	}
	flush, replace := false, false
	if len(c.args) == 4 {
		switch a := c.args[3]; {
		case is(a, "FLUSH"):
			flush = true
		case is(a, "REPLACE"):
			replace = true
		case !is(a, "APPEND"):
			return errScript(c, "Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
		}
	}
	b := c.args[2]
	if len(b) < rdbTail || binary.LittleEndian.Uint16(b[len(b)-rdbTail:]) > rdbNewest ||
		binary.LittleEndian.Uint64(b[len(b)-8:]) != 0 && binary.LittleEndian.Uint64(b[len(b)-8:]) != crc(b[:len(b)-8]) {
		return errScript(c, "DUMP payload version or checksum are wrong")
	}
	var restored *libraries
	steps := 0
	for b = b[:len(b)-rdbTail]; len(b) > 0; steps++ {
		kind := b[0]
		code, rest, ok := readRDBString(b[1:])
		switch {
		case kind == rdbLibraryOld:
			return errScript(c, "Pre-GA function format not supported")
		case kind != rdbLibrary:
			return errScript(c, "given type is not a function")
		case !ok:
			return errScript(c, "Failed loading library code")
		case steps >= maxLibraryDump:
			return errScript(c, fmt.Sprintf("at most %d libraries are restored at once", maxLibraryDump))
		}
		lib, err := c.newLibrary(string(code))
		if err == nil {
			restored, err = restored.with(lib, false)
		}
		if err != nil {
			return errScript(c, err.Error())
		}
		b = rest
	}
	l := restored
	if !flush {
		var err error
		if l, err = c.cache.libraries.join(restored, replace); err != nil {
			return errScript(c, err.Error())
		}
	}
	if err := c.roomForLibraries(l); err != nil {
		return err
	}
	c.setLibraries(l)
	c.out.Status("OK")
	return nil
}

// maxLibraryDump bounds the libraries of one FUNCTION RESTORE, each of which has to be run.
const maxLibraryDump = 100

// join returns these libraries and more, which take the place of those with their names if replace says so.
func (l *libraries) join(more *libraries, replace bool) (*libraries, error) {
	if more == nil {
		return l, nil
	}
	var kept []*scriptLibrary
	if l != nil {
		for _, lib := range l.list {
			if _, found := more.find(lib.name); !found {
				kept = append(kept, lib)
			} else if !replace {
				return nil, script.Error("Library " + lib.name + " already exists")
			}
		}
	}
	joined := newLibraries(kept)
	for _, lib := range more.list {
		var err error
		if joined, err = joined.with(lib, false); err != nil {
			return nil, err
		}
	}
	return joined, nil
}

var functionHelp = []string{
	"LOAD [REPLACE] <FUNCTION CODE>",
	"    Create a new library with the given library name and code.",
	"DELETE <LIBRARY NAME>",
	"    Delete the given library.",
	"LIST [LIBRARYNAME PATTERN] [WITHCODE]",
	"    Return general information on all the libraries:",
	"    * Library name",
	"    * The engine used to run the Library",
	"    * Functions list",
	"    * Library code (if WITHCODE is given)",
	"    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
	"STATS",
	"    Return information about the current function running:",
	"    * Function name",
	"    * Command used to run the function",
	"    * Duration in MS that the function is running",
	"    If no function is running, return nil",
	"    In addition, returns a list of available engines.",
	"KILL",
	"    Kill the current running function.",
	"FLUSH [ASYNC|SYNC]",
	"    Delete all the libraries.",
	"    When called without the optional mode argument, the behavior is determined by the",
	"    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
	"    * ASYNC: Asynchronously flush the libraries.",
	"    * SYNC: Synchronously flush the libraries.",
	"DUMP",
	"    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
	"RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
	"    Restore the libraries represented by the given payload, it is possible to give a restore policy to",
	"    control how to handle existing libraries (default APPEND):",
	"    * FLUSH: delete all existing libraries.",
	"    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
	"    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old",
	"      libraries with the new libraries (notice that even on this option there is a chance of failure",
	"      in case of functions name collision with another library).",
}
