// Package script runs Lua 5.1 as Redis has it, for code that nobody vouches for.
//
// A Chunk is a compiled script, or a library of functions. A Machine runs one at a time, against a Host which is all that
// a script sees of the world. The machine reads no clock, has no randomness but a seed that it is given and starts no
// goroutine, so the same script with the same seed does the same on every replica. It keeps the order of pairs, the
// borders of tables and the messages of errors as the original has them, down to the algorithm of its tables.
//
// Whatever a script tries, a run ends: every step of it is paid from Budget.Steps, every byte that it allocates from
// Budget.Bytes, and no library function does more at once than it has paid for. Who has spent a budget is stopped by a
// panic that no script can catch, see vm.stop. Why this is no library: docs/decisions/0017-scripts.md.
//
// Start with Machine.Run, then read compile.go, which makes a tree of functions of a script's text.
package script

import (
	"strings"
)

// A Host is what a script runs in.
type Host interface {
	// Call runs a command and tells its answer to reply. What it returns is an error of the machine's, which the
	// command never met: the text that the script sees, with its code. Arguments are only lent. cost is what the call
	// took, in steps and in bytes, beside its answer.
	Call(args [][]byte, reply *Builder) (failed string, cost Cost)
	// MayCall reports whether the caller may run a command with these arguments; known is false when there is none.
	MayCall(args [][]byte) (may, known bool)
	// Log notes a message of the script's.
	Log(level int, message string)
}

// A Cost is what something takes of a budget.
type Cost struct {
	Steps int64 // of about 10 ns
	Bytes int64
}

// A Budget bounds one run.
type Budget struct {
	Cost
	// Late, if not nil, is asked every few thousand steps, and stops the script when it answers true.
	Late func() bool
}

// Bounds of what is compiled.
const (
	MaxSource = 256 << 10 // bytes of a script, which take some 30 ms to compile

	maxLevels   = 200 // of nested syntax
	maxLocals   = 200 // of one function
	maxUpvalues = 60
)

// Flags are what a script or function says of itself.
type Flags uint8

// The flags, in the order in which FUNCTION LIST names them.
const (
	NoWrites Flags = 1 << iota
	AllowOOM
	AllowStale
	NoCluster
	AllowCrossSlotKeys
	AllowKeyLocking // Upstash's: taken and ignored

	Plain Flags = 1 << 7 // a script without a first line that says what it is
)

var flagNames = []string{"no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys", "allow-key-locking"}

// Names lists the flags as scripts write them.
func (f Flags) Names() (list []string) {
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return list
}

func flagOf(name string) (f Flags, ok bool) {
	for i, n := range flagNames {
		if n == name {
			return 1 << i, true
		}
	}
	return 0, false
}

// A Chunk is compiled text. It does not change, so machines may share it.
type Chunk struct {
	Flags Flags
	main  *proto
	bytes int64
}

// Bytes is about what the chunk takes in memory.
func (c *Chunk) Bytes() int64 { return c.bytes }

// An Error says why text is no script, in Redis's words.
type Error string

func (e Error) Error() string { return string(e) }

// Compile makes a script for Machine.Run.
func Compile(text string) (*Chunk, error) {
	flags, first, err := scriptFlags(text)
	if err != nil {
		return nil, err
	}
	return compileChunk(text[first:], "user_script", flags, "Error compiling script (new function): ")
}

// CompileLibrary makes a library of its text without the first line, see LibraryName.
func CompileLibrary(text string) (*Chunk, error) {
	return compileChunk(text[max(strings.IndexByte(text, '\n'), 0):], "user_function", 0, "Error compiling function: ")
}

func compileChunk(text, name string, flags Flags, prefix string) (*Chunk, error) {
	if len(text) > MaxSource {
		return nil, Error(prefix + "the text is too long")
	}
	main, bytes, err := compile(text, "@"+name, name)
	if err != nil {
		return nil, Error(prefix + err.Error())
	}
	return &Chunk{Flags: flags, main: main, bytes: bytes}, nil
}

// scriptFlags reads the first line of a script, if it says what the script is, and returns where it ends.
func scriptFlags(text string) (flags Flags, end int, err error) {
	if !strings.HasPrefix(text, "#!") {
		return Plain, 0, nil
	}
	end = strings.IndexByte(text, '\n')
	if end < 0 {
		return 0, 0, Error("Invalid script shebang")
	}
	parts, ok := splitArgs(text[:end])
	if !ok || len(parts) == 0 {
		return 0, 0, Error("Invalid engine in script shebang")
	}
	if parts[0] != "#!lua" {
		return 0, 0, Error("Unexpected engine in script shebang: " + parts[0])
	}
	for _, part := range parts[1:] {
		list, ok := strings.CutPrefix(part, "flags=")
		if !ok {
			return 0, 0, Error("Unknown lua shebang option: " + part)
		}
		if list == "" {
			continue
		}
		for _, name := range strings.Split(list, ",") {
			f, ok := flagOf(name)
			if !ok {
				return 0, 0, Error("Unexpected flag in script shebang: " + name)
			}
			flags |= f
		}
	}
	return flags, end, nil
}

// Library reads the first line of a library: the engine that it is for, and its name.
func Library(text string) (engine, name string, err error) {
	rest, ok := strings.CutPrefix(text, "#!")
	if !ok {
		return "", "", Error("Missing library metadata")
	}
	end := strings.IndexByte(rest, '\n')
	if end < 0 {
		return "", "", Error("Invalid library metadata")
	}
	parts, ok := splitArgs("#!" + rest[:end])
	if !ok || len(parts) == 0 {
		return "", "", Error("Invalid library metadata")
	}
	named := false
	for _, part := range parts[1:] {
		if len(part) < 5 || !strings.EqualFold(part[:5], "name=") {
			return "", "", Error("Invalid metadata value given: " + part)
		}
		if named {
			return "", "", Error("Invalid metadata value, name argument was given multiple times")
		}
		name, named = part[5:], true
	}
	if !named {
		return "", "", Error("Library name was not given")
	}
	return parts[0][2:], name, nil
}

// ValidName reports whether a library or function may have this name.
func ValidName(name string) bool {
	for i := range len(name) {
		if !isName(name[i]) {
			return false
		}
	}
	return name != ""
}

// splitArgs splits a line into words as Redis's command line does: with double quotes, which know escapes, and single ones.
func splitArgs(line string) (words []string, ok bool) {
	i := 0
	for {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) {
			return words, true
		}
		var word []byte
		for i < len(line) && !isSpace(line[i]) {
			quote := line[i]
			if quote != '"' && quote != '\'' {
				word = append(word, quote)
				i++
				continue
			}
			for i++; ; i++ {
				if i >= len(line) {
					return nil, false
				}
				c := line[i]
				if c == quote {
					i++
					break
				}
				if c == '\\' && i+1 < len(line) && quote == '\'' && line[i+1] == '\'' {
					i++
					c = '\''
				} else if c == '\\' && i+1 < len(line) && quote == '"' {
					i++
					c = line[i]
					switch c {
					case 'n':
						c = '\n'
					case 'r':
						c = '\r'
					case 't':
						c = '\t'
					case 'b':
						c = '\b'
					case 'a':
						c = '\a'
					case 'x':
						if i+2 < len(line) && hexDigit(line[i+1]) >= 0 && hexDigit(line[i+2]) >= 0 {
							c = byte(hexDigit(line[i+1])<<4 | hexDigit(line[i+2]))
							i += 2
						}
					}
				}
				word = append(word, c)
			}
			if i < len(line) && !isSpace(line[i]) {
				return nil, false
			}
		}
		words = append(words, string(word))
	}
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isAlpha(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isName(c byte) bool  { return isAlpha(c) || isDigit(c) || c == '_' }

func hexDigit(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
