package memcacheapi

import (
	"bytes"
	"math"
	"strconv"

	"github.com/larder-cache/larder/engine"
)

// The rows of the command table that the protocols use.
var (
	getCommand   = engine.MustLookup("MC.GET")
	gatCommand   = engine.MustLookup("MC.GAT")
	fetchCommand = engine.MustLookup("MC.FETCH")
	setCommand   = engine.MustLookup("MC.SET")
	incrCommand  = engine.MustLookup("MC.INCR")
	decrCommand  = engine.MustLookup("MC.DECR")
	touchCommand = engine.MustLookup("MC.TOUCH")
	delCommand   = engine.MustLookup("MC.DEL")
	flushCommand = engine.MustLookup("MC.FLUSH")
)

// Words of the engine's commands.
var (
	metaWord    = []byte("META")
	addWord     = []byte("ADD")
	replaceWord = []byte("REPLACE")
	appendWord  = []byte("APPEND")
	prependWord = []byte("PREPEND")
	casWord     = []byte("CAS")
	newCASWord  = []byte("NEWCAS")
	staleWord   = []byte("STALE")
	clearWord   = []byte("CLEAR")
	vivifyWord  = []byte("VIVIFY")
	touchWord   = []byte("TOUCH")
	recacheWord = []byte("RECACHE")
	noteWord    = []byte("NOTE")
	initialWord = []byte("INITIAL")
	zero        = []byte("0")
)

// memcached's own words for what is wrong.
const (
	badFormat   = "CLIENT_ERROR bad command line format"
	badExptime  = "CLIENT_ERROR invalid exptime argument"
	badDelta    = "CLIENT_ERROR invalid numeric delta argument"
	badChunk    = "CLIENT_ERROR bad data chunk"
	tooLarge    = "SERVER_ERROR object too large for cache"
	unknown     = "ERROR"
	deleteUsage = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
)

// maxTokens is how many words memcached looks at in a line, except of keys to get.
const maxTokens = 23

// nextWord returns the word of line at or behind at, and where it ends; an empty one when there is no more.
func nextWord(line []byte, at int) (word []byte, end int) {
	for at < len(line) && line[at] == ' ' {
		at++
	}
	end = at
	for end < len(line) && line[end] != ' ' {
		end++
	}
	return line[at:end:end], end
}

// lineOf finds the line at the beginning of b as C sees it, and how many bytes it takes with its end. n is 0 when it has
// not arrived, -1 when it is too long to be one.
func (s *Session) lineOf(b []byte) (line []byte, n int) {
	end := bytes.IndexByte(b[s.scanned:], '\n')
	if end < 0 {
		s.scanned = len(b)
		s.needs = len(b) + 1
		if len(b) > maxWords && (len(b) > maxLine || !s.Known() || !getsKeys(b)) {
			return nil, -1
		}
		return nil, 0
	}
	end += s.scanned
	line = b[:end:end]
	if end > 1 && b[end-1] == '\r' {
		line = line[:end-1]
	}
	if at := bytes.IndexByte(line, 0); at >= 0 {
		line = line[:at]
	}
	return line, end + 1
}

// getsKeys reports whether a line without an end may go on for long.
func getsKeys(b []byte) bool {
	at := 0
	for at < len(b) && b[at] == ' ' {
		at++
	}
	return at <= 100 && (bytes.HasPrefix(b[at:], []byte("get ")) || bytes.HasPrefix(b[at:], []byte("gets ")))
}

// line carries out or puts together the command at the beginning of b, which begins at base in what is being fed. It
// returns how many bytes that has, 0 when it has not arrived whole, -1 when it cannot be done now.
func (s *Session) line(b []byte, base int) int {
	line, n := s.lineOf(b)
	if n <= 0 {
		if n < 0 {
			s.end("a line too long", nil)
		}
		return n
	}
	s.words = s.words[:0]
	for word, at := nextWord(line, 0); len(word) > 0 && len(s.words) < maxTokens; word, at = nextWord(line, at) {
		s.words = append(s.words, word)
	}
	if len(s.words) == 0 || len(s.words[0]) < 2 {
		s.say(unknown)
		return n
	}
	switch name := s.words[0]; string(name) {
	case "get", "bget":
		return s.getLine(line, n, base, false)
	case "gets":
		return s.getLine(line, n, base, true)
	case "gat":
		return s.gatLine(line, n, base, false)
	case "gats":
		return s.gatLine(line, n, base, true)
	case "set":
		return s.setLine(b, n, 5, nil)
	case "add":
		return s.setLine(b, n, 5, addWord)
	case "replace":
		return s.setLine(b, n, 5, replaceWord)
	case "append":
		return s.setLine(b, n, 5, appendWord)
	case "prepend":
		return s.setLine(b, n, 5, prependWord)
	case "cas":
		return s.setLine(b, n, 6, casWord)
	case "delete":
		s.deleteLine()
	case "incr":
		s.deltaLine(incrCommand, '+')
	case "decr":
		s.deltaLine(decrCommand, '-')
	case "touch":
		s.touchLine()
	case "mg":
		s.mgLine(line)
	case "ms":
		return s.msLine(b, line, n)
	case "md":
		s.mdLine(line)
	case "ma":
		s.maLine(line)
	case "me":
		s.meLine(line)
	case "mn":
		s.say("MN")
	case "flush_all":
		s.flushLine()
	case "stats":
		if !s.settle() {
			return -1
		}
		s.statsLine()
	case "version":
		s.say("VERSION " + MemcachedVersion)
	case "verbosity":
		s.verbosityLine()
	case "quit":
		if !s.settle() {
			return -1
		}
		s.end("quit", nil)
	default:
		if s.speaksHTTP() {
			if !s.settle() {
				return -1
			}
			s.end("HTTP", nil)
			return n
		}
		s.say(s.administration())
	}
	return n
}

// speaksHTTP reports whether the line is a request of HTTP: a browser may have been led here to do harm. Like memcached it
// looks at what cannot be the beginning of another command.
func (s *Session) speaksHTTP() bool {
	first := s.words[0][0]
	return bytes.HasPrefix(s.words[len(s.words)-1], []byte("HTTP/")) && !bytes.ContainsRune([]byte("gsacidt"), rune(first)) &&
		!(first == 'm' && len(s.words[0]) == 2)
}

// administration answers the commands that are about a memcached process and not about a cache, with memcached's own
// words for one that has them turned off.
func (s *Session) administration() string {
	switch string(s.words[0]) {
	case "shutdown":
		return "ERROR: shutdown not enabled"
	case "watch":
		return "CLIENT_ERROR watch commands not allowed"
	case "slabs":
		if len(s.words) == 4 && string(s.words[1]) == "reassign" {
			return "CLIENT_ERROR slab reassignment disabled"
		}
		if len(s.words) >= 3 && string(s.words[1]) == "automove" && string(s.words[2]) != "ratio" {
			if _, ok := unsigned(s.words[2]); !ok {
				return badFormat
			}
		}
	case "lru_crawler":
		if len(s.words) == 3 && (string(s.words[1]) == "crawl" || string(s.words[1]) == "metadump") {
			return "CLIENT_ERROR lru crawler disabled"
		}
	}
	return unknown
}

// noreply reports whether the last word says that no reply is wanted.
func (s *Session) noreply() bool { return string(s.words[len(s.words)-1]) == "noreply" }

// tell is say unless no reply is wanted.
func (s *Session) tell(quiet bool, text string) {
	if quiet {
		text = ""
	}
	s.say(text)
}

// signed reads a number as C's strtol does, cut down to 32 bits.
func signed(word []byte) (int32, bool) {
	digits, negative := word, false
	for len(digits) > 0 && (digits[0] == ' ' || ('\t' <= digits[0] && digits[0] <= '\r')) {
		digits = digits[1:]
	}
	if len(digits) > 0 && (digits[0] == '-' || digits[0] == '+') {
		negative = digits[0] == '-'
		digits = digits[1:]
	}
	if len(digits) == 0 || digits[0] < '0' || digits[0] > '9' {
		return 0, false
	}
	n, ok := engine.ParseC(digits)
	if !ok {
		// What follows the digits may hold a '-', which C would not mind in a signed number.
		end := 0
		for end < len(digits) && '0' <= digits[end] && digits[end] <= '9' {
			end++
		}
		if end < len(digits) && (digits[end] < '\t' || digits[end] > '\r') {
			return 0, false
		}
		if n, ok = engine.ParseC(digits[:end]); !ok {
			return 0, false
		}
	}
	switch {
	case negative && n > 1<<63, !negative && n > math.MaxInt64:
		return 0, false
	case negative:
		return int32(-n), true
	}
	return int32(n), true
}

// unsigned reads a number as C's strtoul does, cut down to 32 bits.
func unsigned(word []byte) (uint32, bool) {
	n, ok := engine.ParseC(word)
	return uint32(n), ok
}

// decimal writes a number for the engine. Where the client wrote it the same way, that is used.
func (s *Session) decimal(word []byte, n int64) []byte {
	if plain(word) {
		return word
	}
	return s.written(func(b []byte) []byte { return strconv.AppendInt(b, n, 10) })
}

func (s *Session) unsignedDecimal(word []byte, n uint64) []byte {
	if plain(word) {
		return word
	}
	return s.written(func(b []byte) []byte { return strconv.AppendUint(b, n, 10) })
}

func (s *Session) written(write func([]byte) []byte) []byte {
	from := len(s.spare)
	s.spare = write(s.spare)
	return s.spare[from:len(s.spare):len(s.spare)]
}

// plain reports whether a word is a short decimal without sign or leading zeros.
func plain(word []byte) bool {
	if len(word) == 0 || len(word) > 9 || (word[0] == '0' && len(word) > 1) {
		return false
	}
	for _, c := range word {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// getLine puts together the keys of a get. A line with very many of them may be done in parts.
func (s *Session) getLine(line []byte, n, base int, cas bool) int {
	if len(s.words) < 2 {
		s.say(unknown)
		return n
	}
	_, at := nextWord(line, 0)
	return s.keys(line, at, n, base, pending{render: renderGet, cas: cas}, func(key []byte) {
		s.arena = append(s.arena, getCommand.NameArg(), key)
	}, getCommand, 2)
}

func (s *Session) gatLine(line []byte, n, base int, cas bool) int {
	if len(s.words) < 2 {
		s.say(unknown)
		return n
	}
	exptime, ok := signed(s.words[1])
	if !ok {
		s.say(badExptime)
		return n
	}
	_, at := nextWord(line, 0)
	_, at = nextWord(line, at)
	time := s.words[1]
	if !plain(time) {
		time = strconv.AppendInt(nil, int64(exptime), 10) // it may outlive a batch
	}
	return s.keys(line, at, n, base, pending{render: renderGet, cas: cas, touches: true}, func(key []byte) {
		s.arena = append(s.arena, gatCommand.NameArg(), key, time)
	}, gatCommand, 3)
}

// keys puts together a call for each key of a line from at on.
func (s *Session) keys(line []byte, at, n, base int, p pending, args func(key []byte), cmd *engine.Command, many int) int {
	if s.resume == 0 {
		for key, next := nextWord(line, at); len(key) > 0; key, next = nextWord(line, next) {
			if len(key) > maxKey {
				s.say(badFormat)
				return n
			}
		}
	}
	key, next := nextWord(line, max(at, s.resume))
	if len(key) == 0 {
		s.say("END")
		return n
	}
	s.resume = 0
	for len(key) > 0 {
		following, after := nextWord(line, next)
		p.key, p.last, p.used, p.resume = key, len(following) == 0, base, next
		if p.last {
			p.used, p.resume = base+n, 0
		}
		args(key)
		s.call(cmd, many, p)
		if len(s.calls) >= maxBatch {
			if !s.run() {
				return -1
			}
			s.resume = 0
		}
		key, next = following, after
	}
	return n
}

// setLine puts together a command that stores. Its line has so many words, and one more with noreply; n bytes at the
// beginning of b are that line. mode is the engine's word for it, nil for set.
func (s *Session) setLine(b []byte, n, words int, mode []byte) int {
	w := s.words
	if len(w) != words && len(w) != words+1 {
		s.say(unknown)
		return n
	}
	quiet := s.noreply()
	key := w[1]
	flags, ok1 := unsigned(w[2])
	exptime, ok2 := signed(w[3])
	size, ok3 := signed(w[4])
	compares := words == 6
	var cas uint64
	ok4 := true
	if compares {
		cas, ok4 = engine.ParseC(w[5])
	}
	if len(key) > maxKey || !ok1 || !ok2 || !ok3 || !ok4 || size < 0 || size > math.MaxInt32-2 {
		s.tell(quiet, badFormat)
		return n
	}
	p := pending{render: renderStore, quiet: quiet, cas: compares, key: key}
	if int64(size) > s.limit {
		return s.refuse(n, int(size)+2, key, mode == nil, quiet, tooLarge)
	}
	whole := n + int(size) + 2
	if len(b) < whole {
		s.needs = whole
		return 0
	}
	if b[whole-2] != '\r' || b[whole-1] != '\n' {
		s.tell(quiet, badChunk)
		return whole
	}
	s.arena = append(s.arena, setCommand.NameArg(), key, b[n:whole-2:whole-2], s.unsignedDecimal(w[2], uint64(flags)), s.decimal(w[3], int64(exptime)))
	count := 5
	switch {
	case compares:
		s.arena = append(s.arena, casWord, s.unsignedDecimal(w[5], cas))
		count = 7
	case mode != nil:
		s.arena = append(s.arena, mode)
		count = 6
	}
	s.call(setCommand, count, p)
	return whole
}

// refuse answers a command whose data is too large, and throws that away as it comes. What the key held before goes with
// it, when the command would have replaced it: to find an old value there would be worse than to find none.
func (s *Session) refuse(n, data int, key []byte, replaces, quiet bool, text string) int {
	if !s.settle() {
		return -1
	}
	s.out.tally[storeTooLarge]++
	s.swallow = data
	if quiet {
		text = ""
	}
	if replaces {
		s.arena = append(s.arena, delCommand.NameArg(), key)
		s.call(delCommand, 2, pending{render: renderDrop, text: text})
	} else {
		s.say(text)
	}
	return n
}

func (s *Session) deleteLine() {
	w := s.words
	if len(w) < 2 || len(w) > 4 {
		s.say(unknown)
		return
	}
	quiet := false
	if len(w) > 2 {
		held := string(w[2]) == "0"
		quiet = s.noreply()
		if !(len(w) == 3 && (held || quiet)) && !(len(w) == 4 && held && quiet) {
			s.tell(quiet, deleteUsage)
			return
		}
	}
	if len(w[1]) > maxKey {
		s.tell(quiet, badFormat)
		return
	}
	s.arena = append(s.arena, delCommand.NameArg(), w[1])
	s.call(delCommand, 2, pending{render: renderDelete, quiet: quiet, key: w[1]})
}

func (s *Session) deltaLine(cmd *engine.Command, op byte) {
	w := s.words
	if len(w) != 3 && len(w) != 4 {
		s.say(unknown)
		return
	}
	quiet := s.noreply()
	delta, ok := engine.ParseC(w[2])
	switch {
	case len(w[1]) > maxKey:
		s.tell(quiet, badFormat)
		return
	case !ok:
		s.tell(quiet, badDelta)
		return
	}
	s.arena = append(s.arena, cmd.NameArg(), w[1], s.unsignedDecimal(w[2], delta))
	s.call(cmd, 3, pending{render: renderDelta, quiet: quiet, op: op})
}

func (s *Session) touchLine() {
	w := s.words
	if len(w) != 3 && len(w) != 4 {
		s.say(unknown)
		return
	}
	quiet := s.noreply()
	exptime, ok := signed(w[2])
	switch {
	case len(w[1]) > maxKey:
		s.tell(quiet, badFormat)
		return
	case !ok:
		s.tell(quiet, badExptime)
		return
	}
	s.arena = append(s.arena, touchCommand.NameArg(), w[1], s.decimal(w[2], int64(exptime)))
	s.call(touchCommand, 3, pending{render: renderTouch, quiet: quiet})
}

func (s *Session) flushLine() {
	w := s.words
	if len(w) > 3 {
		s.say(unknown)
		return
	}
	quiet := s.noreply()
	exptime, ok := int32(0), true
	if given := len(w) > 1; given && !(quiet && len(w) == 2) {
		exptime, ok = signed(w[1])
	}
	if !ok {
		s.tell(quiet, badExptime)
		return
	}
	time := zero
	if exptime > 0 {
		time = s.decimal(w[1], int64(exptime))
	}
	s.arena = append(s.arena, flushCommand.NameArg(), time)
	s.call(flushCommand, 2, pending{render: renderFlush, quiet: quiet})
}

// verbosityLine accepts what it is told: there is no log of this cache's that could say more.
func (s *Session) verbosityLine() {
	if len(s.words) != 2 && len(s.words) != 3 {
		s.say(unknown)
		return
	}
	quiet := s.noreply()
	if _, ok := unsigned(s.words[1]); !ok {
		s.tell(quiet, badFormat)
		return
	}
	s.tell(quiet, "OK")
}
