package engine

import (
	"bytes"
	"errors"
	"slices"
	"unicode/utf8"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/jsondoc"
	"github.com/larder-cache/larder/engine/jsonpath"
	"github.com/larder-cache/larder/internal/fault"
)

// A jsonValue is a JSON document with the commands of RedisJSON. Whatever its size it is a packed value: its bytes are
// the record's, so the garbage collector has nothing to visit and the account is exact. A change writes the document
// anew, in one pass that copies what stays in runs; see package jsondoc.
//
// A path that begins with $ is one of RFC 9535, and answers a list with one entry for each value that it selects. Any
// other is of RedisJSON's first dialect, and answers for one value: the first when it reads, the last that it changed
// when it writes.
type jsonValue struct{ doc jsondoc.Doc }

func (j *jsonValue) kind() string     { return "ReJSON-RL" }
func (j *jsonValue) empty() bool      { return false }
func (j *jsonValue) encoding() string { return "raw" }
func (j *jsonValue) check() error     { return jsondoc.Check(j.doc) }
func (j *jsonValue) len() int         { return len(j.doc) }

func (j *jsonValue) encode(dst []byte) []byte { return append(dst, j.doc...) }

func (j *jsonValue) pack(dst []byte) ([]byte, dense.Kind) { return append(dst, j.doc...), kindJSON }

var jsonCommands = []Command{
	{Name: "JSON.GET", Arity: -2, Keys: oneKey, Group: GroupJSON, Action: "cache:Get", run: jsonGet,
		Usage: "key [FORMAT STRING | EXPAND1 | EXPAND] [INDENT indent] [NEWLINE newline] [SPACE space] [path [path ...]]", Summary: "Returns what one or several paths select in a JSON document, as JSON",
		Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.MGET", Arity: -3, Spread: KeysListed, Keys: Keys{First: 1, Last: -2, Step: 1}, Group: GroupJSON, Action: "cache:Get", run: jsonMGet,
		Usage: "key [key ...] path", Summary: "Returns what a path selects in each of several JSON documents", Complexity: "O(N) in the size of the documents", Since: "1.0.0"},
	{Name: "JSON.TYPE", Arity: -2, Keys: oneKey, Group: GroupJSON, Action: "cache:Get", run: jsonType,
		Usage: "key [path]", Summary: "Names the kind of the values at a path of a JSON document", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.STRLEN", Arity: -2, Keys: oneKey, Group: GroupJSON, Action: "cache:Get", run: jsonStrLen,
		Usage: "key [path]", Summary: "Returns the length of the strings at a path of a JSON document, in bytes", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.ARRLEN", Arity: -2, Keys: oneKey, Group: GroupJSON, Action: "cache:Get", run: jsonArrLen,
		Usage: "key [path]", Summary: "Returns how many elements the arrays at a path of a JSON document have", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.OBJLEN", Arity: -2, Keys: oneKey, Group: GroupJSON, Action: "cache:Get", run: jsonObjLen,
		Usage: "key [path]", Summary: "Returns how many members the objects at a path of a JSON document have", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.OBJKEYS", Arity: -2, Keys: oneKey, Group: GroupJSON, Action: "cache:Get", run: jsonObjKeys,
		Usage: "key [path]", Summary: "Lists the member names of the objects at a path of a JSON document", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.ARRINDEX", Arity: -4, Keys: oneKey, Group: GroupJSON, Action: "cache:Get", run: jsonArrIndex,
		Usage: "key path json [start [stop]]", Summary: "Finds the first element that equals a value in the arrays at a path of a JSON document", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.RESP", Arity: -2, Keys: oneKey, Group: GroupJSON, Action: "cache:Get", run: jsonResp,
		Usage: "key [path]", Summary: "Returns the values at a path of a JSON document as replies within each other", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.DEBUG", Arity: -2, Keys: Keys{First: 2, Last: 2, Step: 1}, Group: GroupJSON, Action: "cache:Get", run: jsonDebug,
		Usage: "MEMORY key [path]", Summary: "Returns how many bytes the values at a path of a JSON document take", Complexity: "O(N) in the size of the document", Since: "1.0.0"},

	{Name: "JSON.SET", Arity: -4, Keys: oneKey, Flags: Writes | Grows, Group: GroupJSON, Action: "cache:Set", Facts: valueAt(3), run: jsonSet,
		Usage: "key path json [NX | XX] [FPHA <FP16 | BF16 | FP32 | FP64>]", Summary: "Stores a JSON document, or values at a path of one", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.MSET", Arity: -4, Keys: Keys{First: 1, Last: -1, Step: 3}, Flags: Writes | Grows, Group: GroupJSON, Action: "cache:Set", Facts: jsonMSetFacts, run: jsonMSet,
		Usage: "key path json [key path json ...]", Summary: "Stores several JSON documents, or values in them, at once", Complexity: "O(N) in the size of the documents", Since: "2.6.0"},
	{Name: "JSON.MERGE", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupJSON, Action: "cache:Set", Facts: valueAt(3), run: jsonMerge,
		Usage: "key path json", Summary: "Applies a merge patch of RFC 7396 to the values at a path of a JSON document", Complexity: "O(N) in the size of the document", Since: "2.6.0"},
	{Name: "JSON.DEL", Arity: -2, Keys: oneKey, Flags: Writes, Group: GroupJSON, Action: "cache:Set", run: jsonDel,
		Usage: "key [path]", Summary: "Removes the values at a path of a JSON document, and the document when nothing is left", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.FORGET", Arity: -2, Keys: oneKey, Flags: Writes, Group: GroupJSON, Action: "cache:Set", run: jsonDel,
		Usage: "key [path]", Summary: "Removes the values at a path of a JSON document: another name of JSON.DEL", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.CLEAR", Arity: -2, Keys: oneKey, Flags: Writes, Group: GroupJSON, Action: "cache:Set", run: jsonClear,
		Usage: "key [path]", Summary: "Empties the arrays and objects at a path of a JSON document and sets its numbers there to 0", Complexity: "O(N) in the size of the document", Since: "2.0.0"},
	{Name: "JSON.TOGGLE", Arity: 3, Keys: oneKey, Flags: Writes, Group: GroupJSON, Action: "cache:Set", Also: alsoOnKey("cache:Get"), run: jsonToggle,
		Usage: "key path", Summary: "Turns the truth values at a path of a JSON document around", Complexity: "O(N) in the size of the document", Since: "2.0.0"},
	{Name: "JSON.NUMINCRBY", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupJSON, Action: "cache:Set", Also: alsoOnKey("cache:Get"),
		run:   func(c *call) error { return jsonArithmetic(c, addition) },
		Usage: "key path increment", Summary: "Adds to the numbers at a path of a JSON document", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.NUMMULTBY", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupJSON, Action: "cache:Set", Also: alsoOnKey("cache:Get"),
		run:   func(c *call) error { return jsonArithmetic(c, multiplication) },
		Usage: "key path by", Summary: "Multiplies the numbers at a path of a JSON document", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.NUMPOWBY", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupJSON, Action: "cache:Set", Also: alsoOnKey("cache:Get"),
		run:   func(c *call) error { return jsonArithmetic(c, power) },
		Usage: "key path by", Summary: "Raises the numbers at a path of a JSON document to a power", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.STRAPPEND", Arity: -3, Keys: oneKey, Flags: Writes | Grows, Group: GroupJSON, Action: "cache:Set", run: jsonStrAppend,
		Usage: "key [path] json", Summary: "Appends to the strings at a path of a JSON document", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.ARRAPPEND", Arity: -4, Keys: oneKey, Flags: Writes | Grows, Group: GroupJSON, Action: "cache:Set", Facts: valueAt(3), run: jsonArrAppend,
		Usage: "key path json [json ...]", Summary: "Appends values to the arrays at a path of a JSON document", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.ARRINSERT", Arity: -5, Keys: oneKey, Flags: Writes | Grows, Group: GroupJSON, Action: "cache:Set", Facts: valueAt(4), run: jsonArrInsert,
		Usage: "key path index json [json ...]", Summary: "Inserts values before an element of the arrays at a path of a JSON document", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.ARRPOP", Arity: -2, Keys: oneKey, Flags: Writes, Group: GroupJSON, Action: "cache:Set", Also: alsoOnKey("cache:Get"), run: jsonArrPop,
		Usage: "key [FORMAT STRINGS | EXPAND1 | EXPAND] [path [index]]", Summary: "Removes an element of the arrays at a path of a JSON document and returns it", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
	{Name: "JSON.ARRTRIM", Arity: 5, Keys: oneKey, Flags: Writes, Group: GroupJSON, Action: "cache:Set", run: jsonArrTrim,
		Usage: "key path start stop", Summary: "Keeps a range of the arrays at a path of a JSON document", Complexity: "O(N) in the size of the document", Since: "1.0.0"},
}

// The errors of RedisJSON, in its words.
var (
	errNoJSONKey    = fault.New(fault.NotFound, "engine.json", "could not perform this operation on a key that doesn't exist")
	errNoJSONPath   = fault.New(fault.NotFound, "engine.json", "Path does not exist")
	errNotAtRoot    = fault.New(fault.InvalidArgument, "engine.json", "new objects must be created at the root")
	errNotStatic    = &fault.Error{Kind: fault.InvalidArgument, Op: "engine.json", Prefix: "Err", Message: "wrong static path"}
	errNoElement    = fault.New(fault.OutOfRange, "engine.json", "array index out of range")
	errOutOfBounds  = fault.New(fault.OutOfRange, "engine.json", "index out of bounds")
	errJSONOverflow = fault.New(fault.Overflow, "engine.json", "numeric overflow")
	errNotANumber   = fault.New(fault.Overflow, "engine.json", "result is not a number")
	errJSONDepth    = fault.About(fault.TooLarge, "engine.json", "value", "recursion limit exceeded")
	errNotUTF8      = fault.New(fault.InvalidArgument, "engine.json", "Couldn't parse as UTF-8 string")
)

func errNoPathOr(what string) error {
	return fault.New(fault.NotFound, "engine.json", "Path does not exist or %s", what)
}

func errExpected(what string) error {
	return fault.New(fault.WrongType, "engine.json", "wrong type of path value - expected %s", what)
}

// How far a command may go through documents: jsonSteps for each command, and jsonStepsEach for each byte of its
// documents; see jsonpath.Path.Find. It changes at most jsonEditsMost values of one document, and what it answers, or
// puts in their places, has at most jsonReplyMost times the bytes of the largest value.
const (
	jsonSteps     = 1 << 20
	jsonStepsEach = 2
	jsonEditsMost = 256 << 10
	jsonReplyMost = 4

	jsonEffort     = 5   // of a script's steps, for each step on a path
	jsonEditEffort = 135 // for each value that is changed
)

// A jsonReader reads documents for one command.
type jsonReader struct {
	c     *call
	steps int // that are left
	most  int // bytes of what is yet to be answered
}

func (c *call) jsonReader() jsonReader {
	return jsonReader{c: c, steps: jsonSteps, most: int(jsonReplyMost * c.cache.maxValue())}
}

// taken counts steps on a path as elements that a reading goes over; nil where there are few, or it does not rest.
func (r *jsonReader) taken(d jsondoc.Doc) func(steps int) {
	if r.c.p.patience == 0 || len(d) < restBytes*restEvery {
		return nil
	}
	return r.c.steps
}

// find returns the places that a path selects.
func (r *jsonReader) find(path *jsonpath.Path, d jsondoc.Doc) ([]uint32, error) {
	r.steps += jsonStepsEach * len(d)
	before := r.steps
	places, err := path.FindSlowly(nil, d, &r.steps, r.taken(d))
	r.c.p.effort += jsonEffort * int64(before-r.steps+1)
	if err != nil {
		return nil, r.tooMuch()
	}
	return places, nil
}

// first returns the first of the places that a path selects.
func (r *jsonReader) first(path *jsonpath.Path, d jsondoc.Doc) (at int, ok bool, err error) {
	r.steps += jsonStepsEach * len(d)
	before := r.steps
	at, ok, err = path.FirstSlowly(d, &r.steps, r.taken(d))
	r.c.p.effort += jsonEffort * int64(before-r.steps+1)
	if err != nil {
		err = r.tooMuch()
	}
	return at, ok, err
}

func (r *jsonReader) tooMuch() error {
	return fault.About(fault.TooLarge, r.c.cmd.Name, "path", "the path asks for too much work: a command may look at %d values, and %d for each byte of its documents", jsonSteps, jsonStepsEach)
}

// within refuses places whose values have too many bytes together: a path may select one again and again.
func (r *jsonReader) within(d jsondoc.Doc, places []uint32) error {
	for _, at := range places {
		if r.most -= d.End(int(at)) - int(at); r.most < 0 {
			return r.tooLong()
		}
	}
	return nil
}

func (r *jsonReader) tooLong() error {
	return fault.About(fault.TooLarge, r.c.cmd.Name, "path", "the answer would have more than %d bytes", jsonReplyMost*r.c.cache.maxValue())
}

// jsonPath reads argument i as a path; where there is none, it is the root in the old dialect.
func (c *call) jsonPath(i int) (*jsonpath.Path, error) {
	if i >= len(c.args) {
		return &jsonpath.Path{Legacy: true}, nil
	}
	return c.parsePath(c.args[i])
}

func (c *call) parsePath(text []byte) (*jsonpath.Path, error) {
	if !utf8.Valid(text) {
		return nil, errNotUTF8
	}
	path, err := jsonpath.Parse(string(text))
	if err != nil {
		return nil, fault.About(fault.InvalidArgument, c.cmd.Name, "path", "%s", err.Error())
	}
	return path, nil
}

// parseJSON appends the value that text is.
func (c *call) parseJSON(dst, text []byte) (jsondoc.Doc, error) {
	if limit := c.cache.maxValue(); int64(len(text)) > limit {
		return nil, c.jsonTooLarge(int64(len(text)))
	}
	if dst == nil {
		dst = make([]byte, 0, len(text)+16)
	}
	c.p.effort += jsonEditEffort/2 + int64(len(text))
	d, err := jsondoc.Parse(dst, text)
	var syntax *jsondoc.SyntaxError
	switch {
	case err == nil:
		return d, nil
	case errors.As(err, &syntax):
		if !utf8.Valid(text) {
			return nil, errNotUTF8
		}
		before := text[:min(int(syntax.At), len(text))]
		line := 1 + bytes.Count(before, []byte("\n"))
		column := len(before) - bytes.LastIndexByte(before, '\n')
		return nil, fault.About(fault.InvalidArgument, c.cmd.Name, "value", "%s at line %d column %d", syntax.Why, line, column)
	}
	return nil, errJSONDepth
}

func (c *call) jsonTooLarge(size int64) error {
	return fault.About(fault.TooLarge, c.cmd.Name, "value", "max value size exceeded. Limit: %d bytes, Actual: %d bytes", c.cache.maxValue(), size)
}

// editJSON returns the document that edits, ordered by place, make of d.
func (c *call) editJSON(d jsondoc.Doc, edits []jsondoc.Edit) (jsondoc.Doc, error) {
	limit := c.cache.maxValue()
	c.p.effort += jsonEditEffort*int64(len(edits)) + int64(len(d))
	edited, err := d.Edit(c.p.scratch[:0], edits, int(limit))
	switch {
	case errors.Is(err, jsondoc.ErrSize):
		return nil, fault.About(fault.TooLarge, c.cmd.Name, "value", "max value size exceeded. Limit: %d bytes", limit)
	case err != nil:
		return nil, errJSONDepth
	}
	c.p.scratch = keep(edited)
	return edited, nil
}

// putJSON stores a document, whose bytes are anybody's but the store's.
func (c *call) putJSON(key []byte, d jsondoc.Doc, expireAt int64) {
	k := c.keys()
	it, b := k.hold(c.replacing(k, key), key, kindJSON, len(d), 0, expireAt)
	copy(b, d)
	k.loaded(it)
}

// A jsonChange is what a command does to the values that its path selects.
type jsonChange struct {
	legacy bool
	places []uint32       // in the path's order, some perhaps more than once
	edits  []jsondoc.Edit // by place
}

// edit is that of the value at a place, nil where it stays as it is.
func (ch *jsonChange) edit(place uint32) *jsondoc.Edit {
	i, ok := slices.BinarySearchFunc(ch.edits, int(place), func(e jsondoc.Edit, at int) int { return e.At - at })
	if !ok {
		return nil
	}
	return &ch.edits[i]
}

// outer is how many edits are not within others.
func (ch *jsonChange) outer(d jsondoc.Doc) (n int64) {
	end := 0
	for _, e := range ch.edits {
		if e.At >= end {
			n++
			end = d.End(e.At)
		}
	}
	return n
}

// changeJSON plans what a command does to the document it holds: change makes the edit of each value that a path
// selects, ok being false for those that are to stay. Nothing is changed yet.
func (c *call) changeJSON(path *jsonpath.Path, d jsondoc.Doc, change func(at int) (e jsondoc.Edit, ok bool, err error)) (*jsonChange, error) {
	r := c.jsonReader()
	places, err := r.find(path, d)
	if err != nil {
		return nil, err
	}
	ch := &jsonChange{legacy: path.Legacy, places: places}
	once := places
	if !slices.IsSorted(places) {
		once = slices.Sorted(slices.Values(places))
	}
	values := int64(0)
	for i, at := range once {
		if i > 0 && at == once[i-1] {
			continue
		}
		e, ok, err := change(int(at))
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		e.At = int(at)
		if values += int64(len(e.Value)); values > jsonReplyMost*c.cache.maxValue() {
			return nil, c.jsonTooLarge(values)
		}
		if len(ch.edits) == jsonEditsMost {
			return nil, fault.About(fault.TooLarge, c.cmd.Name, "path", "the path selects too many values: a command may change %d", jsonEditsMost)
		}
		ch.edits = append(ch.edits, e)
	}
	return ch, nil
}

// jsonUpdate is a command that changes values within a document and answers something for each. missing says what the
// error of a legacy path that selects nothing to change is about.
func (c *call) jsonUpdate(path *jsonpath.Path, missing string, change func(d jsondoc.Doc, at int) (e jsondoc.Edit, ok bool, err error), answer func(d jsondoc.Doc, e *jsondoc.Edit)) error {
	key := c.args[1]
	j, it, err := lookup[*jsonValue](c, key)
	switch {
	case err != nil:
		return err
	case j == nil:
		return errNoJSONKey
	}
	ch, err := c.changeJSON(path, j.doc, func(at int) (jsondoc.Edit, bool, error) { return change(j.doc, at) })
	if err != nil {
		return err
	}
	if path.Legacy && len(ch.edits) == 0 {
		return errNoPathOr(missing)
	}
	edited, err := c.editJSON(j.doc, ch.edits)
	if err != nil {
		return err
	}
	c.answerChange(j.doc, ch, answer) // while the bytes that it tells of are there; nothing can fail any more
	if len(ch.edits) > 0 {
		c.putJSON(key, edited, it.expireAt)
	}
	return nil
}

// answerChange answers for each value that was selected, or for the last that changed when the path is a legacy one.
func (c *call) answerChange(d jsondoc.Doc, ch *jsonChange, answer func(d jsondoc.Doc, e *jsondoc.Edit)) {
	if ch.legacy {
		var last *jsondoc.Edit
		for i := len(ch.places) - 1; last == nil; i-- {
			last = ch.edit(ch.places[i])
		}
		answer(d, last)
		return
	}
	c.out.Array(len(ch.places))
	for _, at := range ch.places {
		if e := ch.edit(at); e != nil {
			answer(d, e)
		} else {
			c.out.Null()
		}
	}
}
