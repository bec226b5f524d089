package engine

import (
	"math"

	"github.com/larder-cache/larder/engine/jsondoc"
	"github.com/larder-cache/larder/engine/jsonpath"
	"github.com/larder-cache/larder/internal/fault"
)

// readJSON looks up the document under a key for a reading command and counts the hit or miss.
func (c *call) readJSON(key []byte) (*jsonValue, error) {
	j, _, err := lookup[*jsonValue](c, key)
	if err == nil {
		c.count(j != nil)
	}
	return j, err
}

// A jsonForm says how values are told in RESP3: RedisJSON's FORMAT.
type jsonForm uint8

const (
	jsonText    jsonForm = iota // as JSON, as in RESP2
	jsonShallow                 // EXPAND1: numbers, truth values and null as such, all else as JSON
	jsonDeep                    // EXPAND: as replies within each other
)

// parseJSONForm reads what stands behind FORMAT; text is what the command calls JSON.
func parseJSONForm(a []byte, text string) (jsonForm, error) {
	switch {
	case is(a, text):
		return jsonText, nil
	case is(a, "EXPAND1"):
		return jsonShallow, nil
	case is(a, "EXPAND"):
		return jsonDeep, nil
	}
	return 0, fault.New(fault.InvalidArgument, "engine.json", "wrong reply format")
}

// tell writes a value in a form other than jsonText. What jsonShallow tells as JSON, text has in that form.
func (f jsonForm) tell(out Reply, d jsondoc.Doc, at int, text []byte) {
	switch k := d.Kind(at); {
	case k == jsondoc.Null:
		out.Null()
	case k == jsondoc.Bool:
		out.Bool(d.Bool(at))
	case k == jsondoc.Integer || k == jsondoc.Number:
		tellNumber(out, d, at)
	case f == jsonShallow:
		out.Bulk(text)
	case k == jsondoc.String:
		out.Bulk(d.Text(at))
	case k == jsondoc.Array:
		out.Array(d.Len(at))
		f.tellChildren(out, d, at)
	default:
		out.Map(d.Len(at))
		f.tellChildren(out, d, at)
	}
}

func (f jsonForm) tellChildren(out Reply, d jsondoc.Doc, at int) {
	for children := d.Children(at); ; {
		name, child, ok := children.Next()
		if !ok {
			return
		}
		if d.Kind(at) == jsondoc.Object {
			out.Bulk(name)
		}
		f.tell(out, d, child, nil)
	}
}

func tellNumber(out Reply, d jsondoc.Doc, at int) {
	if n, ok := d.Int(at); ok {
		out.Int(n)
	} else {
		out.Double(d.Float(at))
	}
}

func jsonGet(c *call) error {
	var format jsondoc.Format
	var texts [][]byte
	form, three := jsonText, false // three: only RESP3 may be answered
	for rest := c.args[2:]; len(rest) > 0; rest = rest[1:] {
		var option *string
		switch a := rest[0]; {
		case is(a, "NOESCAPE"): // an option of RedisJSON 1.0 that has no effect
			continue
		case is(a, "INDENT"):
			option = &format.Indent
		case is(a, "NEWLINE"):
			option = &format.Newline
		case is(a, "SPACE"):
			option = &format.Space
		case is(a, "FORMAT") && len(rest) > 1:
			var err error
			if form, err = parseJSONForm(rest[1], "STRING"); err != nil {
				return err
			}
			three = three || len(texts) == 0
			rest = rest[1:]
			continue
		case is(a, "FORMAT"):
			return errArity(c)
		default:
			texts = append(texts, a)
			continue
		}
		if len(rest) == 1 {
			return errArity(c)
		}
		*option = string(rest[1])
		rest = rest[1:]
	}
	if len(texts) == 0 {
		texts = [][]byte{[]byte(".")}
	}
	paths := make([]*jsonpath.Path, len(texts))
	legacy := true
	for i := range texts {
		path, err := c.parsePath(texts[i])
		if err != nil {
			return err
		}
		paths[i] = path
		legacy = legacy && path.Legacy
	}
	j, err := c.readJSON(c.args[1])
	if err != nil {
		return err
	}
	if j == nil {
		c.inThree(three, Reply.Null)
		return nil
	}
	r := c.jsonReader()
	w := jsondoc.Writer{Text: c.p.scratch[:0], Max: r.most, Format: format}
	if form != jsonText && three {
		return r.expand(&w, j.doc, paths, form)
	}
	if len(paths) == 1 {
		err = r.write(&w, j.doc, paths[0], legacy)
	} else {
		err = r.writeEach(&w, j.doc, texts, paths, legacy)
	}
	if err != nil {
		return err
	}
	c.p.scratch = keep(w.Text)
	c.inThree(three, func(out Reply) { out.Bulk(w.Text) })
	return nil
}

// inThree answers a read, in RESP3 alone where that is asked for.
func (c *call) inThree(three bool, answer func(out Reply)) {
	if !three {
		answer(c.out)
		return
	}
	either(c.out, func(out Reply) { out.Error(errFormatInTwo) }, answer)
}

var errFormatInTwo = fault.New(fault.NotSupported, "JSON.GET", "FORMAT argument is not supported on RESP2")

// expand answers with a list of what each path selects, in a form that only RESP3 has.
func (r *jsonReader) expand(w *jsondoc.Writer, d jsondoc.Doc, paths []*jsonpath.Path, form jsonForm) error {
	found := make([][]uint32, len(paths))
	var ends []int // of the texts in w of what is found
	for i, path := range paths {
		places, err := r.find(path, d)
		if err == nil {
			err = r.within(d, places)
		}
		if err != nil {
			return err
		}
		found[i] = places
		for _, at := range places {
			if form == jsonShallow && !w.Over {
				w.Value(d, int(at))
			}
			ends = append(ends, len(w.Text))
		}
	}
	if w.Over {
		return r.tooLong()
	}
	r.c.p.scratch = keep(w.Text)
	r.c.inThree(true, func(out Reply) {
		out.Array(len(found))
		n, began := 0, 0
		for _, places := range found {
			out.Array(len(places))
			for _, at := range places {
				form.tell(out, d, int(at), w.Text[began:ends[n]])
				began = ends[n]
				n++
			}
		}
	})
	return nil
}

// write writes the values that a path selects: the first alone for a legacy path, or a list.
func (r *jsonReader) write(w *jsondoc.Writer, d jsondoc.Doc, path *jsonpath.Path, legacy bool) error {
	if r.c.p.patience > 0 && len(d) >= restBytes*restEvery {
		w.Each = r.c.step
	}
	if legacy {
		at, ok, err := r.first(path, d)
		switch {
		case err != nil:
			return err
		case !ok:
			return errNoJSONPath
		}
		w.Value(d, at)
	} else {
		places, err := r.find(path, d)
		if err != nil {
			return err
		}
		w.Begin(jsondoc.Array)
		for i, at := range places {
			if w.Over {
				break
			}
			w.Child(i == 0)
			w.Value(d, int(at))
		}
		w.Finish(jsondoc.Array, len(places) == 0)
	}
	if w.Over {
		return r.tooLong()
	}
	return nil
}

// writeEach writes an object with what each path selects, under its text. A path that repeats counts once.
func (r *jsonReader) writeEach(w *jsondoc.Writer, d jsondoc.Doc, texts [][]byte, paths []*jsonpath.Path, legacy bool) error {
	seen := map[string]bool{}
	w.Begin(jsondoc.Object)
	for i, path := range paths {
		if seen[string(texts[i])] {
			continue
		}
		seen[string(texts[i])] = true
		w.Child(i == 0)
		w.Name(texts[i])
		if err := r.write(w, d, path, legacy); err != nil {
			return err
		}
	}
	w.Finish(jsondoc.Object, false)
	if w.Over {
		return r.tooLong()
	}
	return nil
}

func jsonMGet(c *call) error {
	keys := c.args[1 : len(c.args)-1]
	path, err := c.jsonPath(len(c.args) - 1)
	if err != nil {
		return err
	}
	r := c.jsonReader()
	w := jsondoc.Writer{Text: c.p.scratch[:0], Max: r.most}
	ends := make([]int, len(keys)) // of their texts in w; -1 for null
	for i, key := range keys {
		ends[i] = -1
		c.step()
		j, err := c.readJSON(key)
		if err != nil || j == nil { // another type counts as absent
			continue
		}
		switch err := r.write(&w, j.doc, path, path.Legacy); err {
		case nil:
			c.steps(len(j.doc) / restBytes)
			ends[i] = len(w.Text)
		case errNoJSONPath:
		default:
			return err
		}
	}
	c.p.scratch = keep(w.Text)
	c.out.Array(len(keys))
	began := 0
	for _, end := range ends {
		if end < 0 {
			c.out.Null()
			continue
		}
		c.out.Bulk(w.Text[began:end])
		began = end
	}
	return nil
}

// A jsonQuestion is a command that reads something of each value at a path. Each function answers or returns an
// error, and an error of absent or other is one only for a legacy path: for the others it is a null.
type jsonQuestion struct {
	fits   func(k jsondoc.Kind) bool
	answer func(d jsondoc.Doc, at int)
	heavy  bool // the answer is as long as the value

	noKey       error // when there is no such key and the path is no legacy one; nil for a null
	noKeyLegacy error
	noPath      error // when a legacy path selects nothing; nil for a null
	other       error // when it selects another kind of value first
}

// ask runs a question about the path that is argument i.
func (q *jsonQuestion) ask(c *call, i int) error {
	path, err := c.jsonPath(i)
	if err != nil {
		return err
	}
	j, err := c.readJSON(c.args[1])
	switch {
	case err != nil:
		return err
	case j == nil && path.Legacy:
		return c.nullUnless(q.noKeyLegacy)
	case j == nil:
		return c.nullUnless(q.noKey)
	}
	r := c.jsonReader()
	if path.Legacy {
		at, ok, err := r.first(path, j.doc)
		switch {
		case err != nil:
			return err
		case !ok:
			return c.nullUnless(q.noPath)
		case !q.fits(j.doc.Kind(at)):
			return q.other
		}
		q.answer(j.doc, at)
		return nil
	}
	places, err := r.find(path, j.doc)
	if err != nil {
		return err
	}
	if q.heavy {
		if err := r.within(j.doc, places); err != nil {
			return err
		}
	}
	c.out.Array(len(places))
	for _, at := range places {
		if q.fits(j.doc.Kind(int(at))) {
			q.answer(j.doc, int(at))
		} else {
			c.out.Null()
		}
	}
	return nil
}

func (c *call) nullUnless(err error) error {
	if err == nil {
		c.out.Null()
	}
	return err
}

func anyKind(jsondoc.Kind) bool { return true }

func onlyKind(k jsondoc.Kind) func(jsondoc.Kind) bool {
	return func(have jsondoc.Kind) bool { return have == k }
}

// JSON.TYPE has one more list around it in RESP3.
func jsonType(c *call) error {
	out := c.out
	var answer Recording
	c.out = &answer
	q := jsonQuestion{fits: anyKind, answer: func(d jsondoc.Doc, at int) { answer.Text(d.Kind(at).String()) }}
	err := q.ask(c, 2)
	c.out = out
	if err != nil {
		return err
	}
	either(out, answer.Replay, func(out Reply) {
		out.Array(1)
		answer.Replay(out)
	})
	return nil
}

func jsonLength(c *call) func(d jsondoc.Doc, at int) {
	return func(d jsondoc.Doc, at int) { c.out.Int(int64(d.Len(at))) }
}

func jsonStrLen(c *call) error {
	q := jsonQuestion{fits: onlyKind(jsondoc.String), answer: jsonLength(c), noKey: errNoJSONKey, noPath: errNoJSONPath, other: errExpected("string")}
	return q.ask(c, 2)
}

func jsonArrLen(c *call) error {
	q := jsonQuestion{fits: onlyKind(jsondoc.Array), answer: jsonLength(c), noKey: errNoJSONKey, noPath: errNoJSONPath, other: errNoPathOr("not an array")}
	return q.ask(c, 2)
}

func jsonObjLen(c *call) error {
	q := jsonQuestion{fits: onlyKind(jsondoc.Object), answer: jsonLength(c), noKey: errNoPathOr("not an object"), other: errExpected("object")}
	return q.ask(c, 2)
}

func jsonObjKeys(c *call) error {
	q := jsonQuestion{fits: onlyKind(jsondoc.Object), heavy: true, noKey: errNoJSONKey, other: errNoPathOr("not an object"), answer: func(d jsondoc.Doc, at int) {
		c.out.Array(d.Len(at))
		for members := d.Children(at); ; {
			name, _, ok := members.Next()
			if !ok {
				return
			}
			c.out.Bulk(name)
		}
	}}
	return q.ask(c, 2)
}

func jsonArrIndex(c *call) error {
	if len(c.args) > 6 {
		return errArity(c)
	}
	wanted, err := c.parseJSON(nil, c.args[3])
	if err != nil {
		return err
	}
	bounds := [2]int64{}
	for i, a := range c.args[4:] {
		n, ok := parseInt(a)
		if !ok {
			return errNotInteger
		}
		bounds[i] = n
	}
	q := jsonQuestion{fits: onlyKind(jsondoc.Array), heavy: true, noKey: errNoJSONPath, noKeyLegacy: errNoJSONPath, noPath: errNoJSONPath, other: errExpected("array"),
		answer: func(d jsondoc.Doc, at int) { c.out.Int(jsonIndexOf(d, at, wanted, bounds[0], bounds[1])) }}
	return q.ask(c, 2)
}

// jsonIndexOf is the first index from start up to but not stop at which an array has a value, -1 for none. Negative
// ones count from the end; a stop of 0 is the end.
func jsonIndexOf(d jsondoc.Doc, at int, wanted jsondoc.Doc, start, stop int64) int64 {
	n := int64(d.Len(at))
	start = elementIndex(start, n)
	switch {
	case stop == 0:
		stop = n
	case stop < 0:
		stop = max(n+stop, 0)
	}
	i := int64(0)
	for elements := d.Children(at); i < stop; i++ {
		_, child, ok := elements.Next()
		if !ok {
			break
		}
		if i >= start && jsondoc.Alike(d, child, wanted, 0) {
			return i
		}
	}
	return -1
}

// elementIndex is the element of n that i means: from the end when negative, the nearest when there is none.
func elementIndex(i, n int64) int64 {
	if i < 0 {
		return max(n+i, 0)
	}
	return min(i, n-1)
}

func jsonResp(c *call) error {
	q := jsonQuestion{fits: anyKind, heavy: true, noPath: errNoJSONPath, answer: c.respond}
	return q.ask(c, 2)
}

// respond answers with a value as JSON.RESP does: an array begins with "[", an object with "{".
func (c *call) respond(d jsondoc.Doc, at int) {
	switch k := d.Kind(at); k {
	case jsondoc.Null:
		c.out.Null()
	case jsondoc.Bool:
		if d.Bool(at) {
			c.out.Status("true")
		} else {
			c.out.Status("false")
		}
	case jsondoc.Integer, jsondoc.Number:
		tellNumber(c.out, d, at)
	case jsondoc.String:
		c.out.Bulk(d.Text(at))
	default:
		begins, each := "[", 1
		if k == jsondoc.Object {
			begins, each = "{", 2
		}
		c.out.Array(1 + each*d.Len(at))
		c.out.Status(begins)
		for children := d.Children(at); ; {
			name, child, ok := children.Next()
			if !ok {
				return
			}
			if k == jsondoc.Object {
				c.out.Bulk(name)
			}
			c.respond(d, child)
		}
	}
}

func jsonDebug(c *call) error {
	switch sub := c.args[1]; {
	case is(sub, "HELP"):
		c.out.Array(2)
		c.out.Text("MEMORY <key> [path] - reports memory usage")
		c.out.Text("HELP                - this message")
		return nil
	case !is(sub, "MEMORY"):
		return fault.New(fault.InvalidArgument, c.cmd.Name, "unknown subcommand - try `JSON.DEBUG HELP`")
	case len(c.args) < 3:
		return errArity(c)
	}
	path, err := c.jsonPath(3)
	if err != nil {
		return err
	}
	j, err := c.readJSON(c.args[2])
	if err != nil {
		return err
	}
	if j == nil {
		if path.Legacy {
			c.out.Int(0)
		} else {
			c.out.Array(0)
		}
		return nil
	}
	r := c.jsonReader()
	places, err := r.find(path, j.doc)
	switch {
	case err != nil:
		return err
	case path.Legacy && len(places) == 0:
		return errNoJSONPath
	case path.Legacy:
		places = places[:1]
	default:
		c.out.Array(len(places))
	}
	for _, at := range places {
		c.out.Int(int64(j.doc.End(int(at)) - int(at)))
	}
	return nil
}

// The arithmetic of numbers in documents.
type jsonOperation uint8

const (
	addition jsonOperation = iota
	multiplication
	power
)

// integers is the operation on two integers; ok is false when the result does not fit into 64 bits.
func (op jsonOperation) integers(a, b int64) (n int64, ok bool) {
	switch op {
	case addition:
		n = a + b
		return n, (n > a) == (b > 0)
	case multiplication:
		return multiplied(a, b)
	}
	if b < 0 || b > math.MaxUint32 {
		return 0, false
	}
	n, ok = 1, true
	for ; b > 0 && ok; b >>= 1 {
		if b&1 == 1 {
			n, ok = multiplied(n, a)
		}
		if b > 1 && ok {
			a, ok = multiplied(a, a)
		}
	}
	return n, ok
}

func multiplied(a, b int64) (n int64, ok bool) {
	n = a * b
	return n, a == 0 || n/a == b && !(a == -1 && b == math.MinInt64)
}

func (op jsonOperation) doubles(a, b float64) float64 {
	switch op {
	case addition:
		return a + b
	case multiplication:
		return a * b
	}
	return math.Pow(a, b)
}
