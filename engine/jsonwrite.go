package engine

import (
	"math"
	"slices"

	"github.com/larder-cache/larder/engine/jsondoc"
	"github.com/larder-cache/larder/engine/jsonpath"
	"github.com/larder-cache/larder/internal/fault"
)

// A jsonCondition says which values JSON.SET stores.
type jsonCondition uint8

const (
	whatever jsonCondition = iota
	onlyNew
	onlyThere
)

func jsonSet(c *call) error {
	condition := whatever
	for rest := c.args[4:]; len(rest) > 0; rest = rest[1:] {
		switch a := rest[0]; {
		case is(a, "NX") && condition == whatever:
			condition = onlyNew
		case is(a, "XX") && condition == whatever:
			condition = onlyThere
		case is(a, "FORMAT") && len(rest) > 1 && (is(rest[1], "JSON") || is(rest[1], "STRING")): // which differ in nothing
			rest = rest[1:]
		case is(a, "FORMAT"):
			return fault.New(fault.InvalidArgument, c.cmd.Name, "wrong format")
		case is(a, "FPHA") && len(rest) > 1: // in how few bits RedisJSON keeps the numbers of arrays; here all have 64
			if kind := rest[1]; !is(kind, "FP16") && !is(kind, "BF16") && !is(kind, "FP32") && !is(kind, "FP64") {
				return fault.About(fault.InvalidArgument, c.cmd.Name, "FPHA", "invalid FPHA type")
			}
			rest = rest[1:]
		case is(a, "FPHA"):
			return errArity(c)
		default:
			return errSyntax
		}
	}
	key := c.args[1]
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	path, err := c.jsonPath(2)
	if err != nil {
		return err
	}
	j, it, err := lookup[*jsonValue](c, key)
	if err != nil {
		return err
	}
	v, err := c.parseJSON(nil, c.args[3])
	switch {
	case err != nil:
		return err
	case j == nil && condition != onlyThere && !path.Root():
		return errNotAtRoot
	case j == nil && condition == onlyThere, j != nil && condition == onlyNew && path.Root():
		c.out.Null()
		return nil
	}
	at := c.defaultDeadline()
	if j != nil {
		at = it.expireAt
	}
	if !path.Root() {
		edits, err := c.jsonSetEdits(j.doc, path, v, condition, jsondoc.Replace)
		if err != nil {
			return err
		}
		if len(edits) == 0 {
			c.out.Null()
			return nil
		}
		if v, err = c.editJSON(j.doc, edits); err != nil {
			return err
		}
	}
	c.putJSON(key, v, at)
	c.out.Status("OK")
	return nil
}

// jsonSetEdits plans to store v wherever a path leads: by op at the values that it selects, or where it selects none
// but could name a new member, as that. No edits mean that there is nothing to do.
func (c *call) jsonSetEdits(d jsondoc.Doc, path *jsonpath.Path, v jsondoc.Doc, condition jsonCondition, op jsondoc.Op) ([]jsondoc.Edit, error) {
	if condition != onlyNew {
		ch, err := c.changeJSON(path, d, func(int) (jsondoc.Edit, bool, error) { return jsondoc.Edit{Op: op, Value: v}, true, nil })
		if err != nil || len(ch.edits) > 0 || condition == onlyThere {
			return edits(ch), err
		}
	}
	if !path.Singular() {
		return nil, errNotStatic
	}
	r := c.jsonReader()
	parent, name, named := path.Parent()
	if !named {
		if _, there, err := r.first(path, d); err != nil || there {
			return nil, err
		}
		return nil, errNoElement
	}
	at, ok, err := r.first(parent, d)
	if err != nil || !ok || d.Kind(at) != jsondoc.Object {
		return nil, err
	}
	if _, there := d.Member(at, name); there {
		return nil, nil
	}
	return []jsondoc.Edit{{At: at, Op: jsondoc.Add, Name: []byte(name), Value: v}}, nil
}

func edits(ch *jsonChange) []jsondoc.Edit {
	if ch == nil {
		return nil
	}
	return ch.edits
}

func jsonMSetFacts(args [][]byte, _ int64) Facts {
	f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
	for i := 3; i < len(args); i += 3 {
		f.ValueSize = max(f.ValueSize, int64(len(args[i])))
	}
	return f
}

// A jsonDraft is what a document is to become, until all of them are known.
type jsonDraft struct {
	key      []byte
	doc      jsondoc.Doc // nil while it is what is stored
	expireAt int64
	stored   bool // there is a document now
}

func jsonMSet(c *call) error {
	if len(c.args)%3 != 1 {
		return errArity(c)
	}
	drafts := make([]*jsonDraft, 0, len(c.args)/3)
	of := map[string]*jsonDraft{}
	all, size := true, 0
	for i := 1; i < len(c.args); i += 3 {
		draft := of[string(c.args[i])]
		if draft == nil {
			var err error
			if draft, err = c.jsonDraft(c.args[i]); err != nil {
				return err
			}
			of[string(draft.key)] = draft
			drafts = append(drafts, draft)
		}
		updated, err := c.jsonDrafted(draft, i)
		if err != nil {
			return err
		}
		all = all && updated
		if size += len(draft.doc); int64(size) > jsonReplyMost*c.cache.maxValue() {
			return c.jsonTooLarge(int64(size))
		}
	}
	for _, d := range drafts {
		if d.doc != nil {
			c.putJSON(d.key, d.doc, d.expireAt)
		}
	}
	if all {
		c.out.Status("OK")
	} else {
		c.out.Null()
	}
	return nil
}

func (c *call) jsonDraft(key []byte) (*jsonDraft, error) {
	if err := c.checkSizes(key, 0); err != nil {
		return nil, err
	}
	j, it, err := lookup[*jsonValue](c, key)
	if err != nil {
		return nil, err
	}
	draft := &jsonDraft{key: key, expireAt: c.defaultDeadline(), stored: j != nil}
	if j != nil {
		draft.expireAt = it.expireAt
	}
	return draft, nil
}

// jsonDrafted stores the value of the triplet that begins at argument i in a draft, and says whether it did.
func (c *call) jsonDrafted(draft *jsonDraft, i int) (updated bool, err error) {
	path, err := c.jsonPath(i + 1)
	if err != nil {
		return false, err
	}
	v, err := c.parseJSON(nil, c.args[i+2])
	switch {
	case err != nil:
		return false, err
	case path.Root():
		draft.doc = v
		return true, nil
	case draft.doc == nil && !draft.stored:
		return false, errNotAtRoot
	}
	d := draft.doc
	if d == nil {
		j, _, _ := lookup[*jsonValue](c, draft.key)
		d = j.doc
	}
	edits, err := c.jsonSetEdits(d, path, v, whatever, jsondoc.Replace)
	if err != nil || len(edits) == 0 {
		return false, err
	}
	edited, err := c.editJSON(d, edits)
	if err == nil {
		draft.doc = slices.Clone(edited)
	}
	return err == nil, err
}

func jsonMerge(c *call) error {
	key := c.args[1]
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	path, err := c.jsonPath(2)
	if err != nil {
		return err
	}
	j, it, err := lookup[*jsonValue](c, key)
	if err != nil {
		return err
	}
	v, err := c.parseJSON(nil, c.args[3])
	switch {
	case err != nil:
		return err
	case j == nil && !path.Root():
		return errNotAtRoot
	case j == nil:
		c.putJSON(key, v, c.defaultDeadline())
		c.out.Status("OK")
		return nil
	}
	edits, err := c.jsonSetEdits(j.doc, path, v, whatever, jsondoc.Merge)
	if err != nil {
		return err
	}
	if len(edits) == 0 {
		c.out.Null()
		return nil
	}
	if v, err = c.editJSON(j.doc, edits); err != nil {
		return err
	}
	c.putJSON(key, v, it.expireAt)
	c.out.Status("OK")
	return nil
}

func jsonDel(c *call) error {
	if len(c.args) > 3 {
		return errArity(c)
	}
	key := c.args[1]
	path, err := c.jsonPath(2)
	if err != nil {
		return err
	}
	j, it, err := lookup[*jsonValue](c, key)
	switch {
	case err != nil:
		return err
	case j == nil:
		c.out.Int(0)
		return nil
	case path.Root():
		c.dropItem(it)
		c.out.Int(1)
		return nil
	}
	ch, err := c.changeJSON(path, j.doc, func(int) (jsondoc.Edit, bool, error) { return jsondoc.Edit{Op: jsondoc.Delete}, true, nil })
	if err != nil {
		return err
	}
	n := ch.outer(j.doc)
	if n > 0 {
		edited, err := c.editJSON(j.doc, ch.edits)
		if err != nil {
			return err
		}
		if edited.Len(0) == 0 {
			c.dropItem(it)
		} else {
			c.putJSON(key, edited, it.expireAt)
		}
	}
	c.out.Int(n)
	return nil
}

func jsonClear(c *call) error {
	if len(c.args) > 3 {
		return errArity(c)
	}
	key := c.args[1]
	path, err := c.jsonPath(2)
	if err != nil {
		return err
	}
	j, it, err := lookup[*jsonValue](c, key)
	switch {
	case err != nil:
		return err
	case j == nil:
		return errNoJSONKey
	}
	d := j.doc
	ch, err := c.changeJSON(path, d, func(at int) (jsondoc.Edit, bool, error) {
		switch k := d.Kind(at); k {
		case jsondoc.Array, jsondoc.Object:
			return jsondoc.Edit{Value: jsondoc.AppendEmpty(nil, k)}, d.Len(at) > 0, nil
		case jsondoc.Integer, jsondoc.Number:
			return jsondoc.Edit{Value: jsondoc.AppendInt(nil, 0)}, d.Float(at) != 0, nil
		}
		return jsondoc.Edit{}, false, nil
	})
	if err != nil {
		return err
	}
	n := ch.outer(d)
	if n > 0 {
		edited, err := c.editJSON(d, ch.edits)
		if err != nil {
			return err
		}
		c.putJSON(key, edited, it.expireAt)
	}
	c.out.Int(n)
	return nil
}

func jsonToggle(c *call) error {
	path, err := c.jsonPath(2)
	if err != nil {
		return err
	}
	return c.jsonUpdate(path, "not a bool", func(d jsondoc.Doc, at int) (jsondoc.Edit, bool, error) {
		return jsondoc.Edit{Value: jsondoc.AppendBool(nil, !d.Bool(at))}, d.Kind(at) == jsondoc.Bool, nil
	}, func(_ jsondoc.Doc, e *jsondoc.Edit) {
		switch v := jsondoc.Doc(e.Value).Bool(0); {
		case path.Legacy:
			c.out.Bulk(jsondoc.Doc(e.Value).AppendText(c.digits[:0], 0))
		case v:
			c.out.Int(1)
		default:
			c.out.Int(0)
		}
	})
}

func jsonArithmetic(c *call, op jsonOperation) error {
	path, err := c.jsonPath(2)
	if err != nil {
		return err
	}
	by, err := c.parseJSON(nil, c.args[3])
	if err != nil {
		return err
	}
	if k := by.Kind(0); k != jsondoc.Integer && k != jsondoc.Number {
		return errNotANumber
	}
	key := c.args[1]
	j, it, err := lookup[*jsonValue](c, key)
	switch {
	case err != nil:
		return err
	case j == nil:
		return errNoJSONKey
	}
	ch, err := c.changeJSON(path, j.doc, func(at int) (jsondoc.Edit, bool, error) {
		if k := j.doc.Kind(at); k != jsondoc.Integer && k != jsondoc.Number {
			return jsondoc.Edit{}, false, nil
		}
		v, err := op.of(j.doc, at, by)
		return jsondoc.Edit{Value: v}, err == nil, err
	})
	if err != nil {
		return err
	}
	if path.Legacy && len(ch.edits) == 0 {
		return errNoPathOr("does not contains a number")
	}
	edited, err := c.editJSON(j.doc, ch.edits)
	if err != nil {
		return err
	}
	if len(ch.edits) > 0 {
		c.putJSON(key, edited, it.expireAt)
	}
	either(c.out, func(out Reply) { out.Bulk(ch.numbers()) }, ch.tellNumbers)
	return nil
}

// of is the operation on the number at a place and another.
func (op jsonOperation) of(d jsondoc.Doc, at int, by jsondoc.Doc) (jsondoc.Doc, error) {
	a, exact := d.Int(at)
	if b, ok := by.Int(0); ok && exact {
		n, fits := op.integers(a, b)
		if !fits {
			return nil, errJSONOverflow
		}
		return jsondoc.AppendInt(nil, n), nil
	}
	f := op.doubles(d.Float(at), by.Float(0))
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errNotANumber
	}
	return jsondoc.AppendFloat(nil, f), nil
}

// numbers writes what the numbers became: as a JSON array with null for what is none, or the last for a legacy path.
func (ch *jsonChange) numbers() []byte {
	text := []byte{}
	if !ch.legacy {
		text = append(text, '[')
	}
	for i, at := range ch.places {
		e := ch.edit(at)
		switch {
		case ch.legacy && e != nil:
			text = jsondoc.Doc(e.Value).AppendNumber(text[:0], 0)
			continue
		case ch.legacy:
			continue
		case i > 0:
			text = append(text, ',')
		}
		if e == nil {
			text = append(text, "null"...)
		} else {
			text = jsondoc.Doc(e.Value).AppendNumber(text, 0)
		}
	}
	if !ch.legacy {
		text = append(text, ']')
	}
	return text
}

// tellNumbers answers with a list of what the numbers became, for a legacy path as well: the form of RESP3.
func (ch *jsonChange) tellNumbers(out Reply) {
	out.Array(len(ch.places))
	for _, at := range ch.places {
		if e := ch.edit(at); e != nil {
			tellNumber(out, e.Value, 0)
		} else {
			out.Null()
		}
	}
}

func jsonStrAppend(c *call) error {
	if len(c.args) > 4 {
		return errArity(c)
	}
	path := &jsonpath.Path{Legacy: true}
	if len(c.args) == 4 {
		var err error
		if path, err = c.jsonPath(2); err != nil {
			return err
		}
	}
	more, err := c.parseJSON(nil, c.args[len(c.args)-1])
	if err != nil {
		return err
	}
	if more.Kind(0) != jsondoc.String {
		return errExpected("string")
	}
	return c.jsonUpdate(path, "not a string", func(d jsondoc.Doc, at int) (jsondoc.Edit, bool, error) {
		if d.Kind(at) != jsondoc.String {
			return jsondoc.Edit{}, false, nil
		}
		return jsondoc.Edit{Value: jsondoc.AppendString(nil, slices.Concat(d.Text(at), more.Text(0)))}, true, nil
	}, func(_ jsondoc.Doc, e *jsondoc.Edit) { c.out.Int(int64(jsondoc.Doc(e.Value).Len(0))) })
}

// jsonSplice changes the arrays at a path: plan says which of n elements go, and before which one values come. The
// answer is how many there are then.
func (c *call) jsonSplice(path *jsonpath.Path, values jsondoc.Doc, count int, plan func(n int) (from, to int, err error)) error {
	return c.jsonUpdate(path, "not an array", func(d jsondoc.Doc, at int) (e jsondoc.Edit, ok bool, err error) {
		if d.Kind(at) != jsondoc.Array {
			return e, false, nil
		}
		from, to, err := plan(d.Len(at))
		return jsondoc.Edit{Op: jsondoc.Splice, From: from, To: to, Value: values, N: count}, err == nil, err
	}, func(d jsondoc.Doc, e *jsondoc.Edit) { c.out.Int(int64(d.Len(e.At) - (e.To - e.From) + e.N)) })
}

// jsonValues reads the arguments from i on as values, one after the other.
func (c *call) jsonValues(i int) (values jsondoc.Doc, n int, err error) {
	for _, text := range c.args[i:] {
		if values, err = c.parseJSON(values, text); err != nil {
			return nil, 0, err
		}
		n++
	}
	return values, n, nil
}

func jsonArrAppend(c *call) error {
	path, err := c.jsonPath(2)
	if err != nil {
		return err
	}
	values, n, err := c.jsonValues(3)
	if err != nil {
		return err
	}
	return c.jsonSplice(path, values, n, func(n int) (int, int, error) { return n, n, nil })
}

func jsonArrInsert(c *call) error {
	path, err := c.jsonPath(2)
	if err != nil {
		return err
	}
	index, ok := parseInt(c.args[3])
	if !ok {
		return errNotInteger
	}
	values, n, err := c.jsonValues(4)
	if err != nil {
		return err
	}
	return c.jsonSplice(path, values, n, func(n int) (int, int, error) {
		i := index
		if i < 0 {
			i += int64(n)
		}
		if i < 0 || i > int64(n) {
			return 0, 0, errOutOfBounds
		}
		return int(i), int(i), nil
	})
}

func jsonArrPop(c *call) error {
	at, form := 2, jsonText
	if len(c.args) > 3 && is(c.args[2], "FORMAT") {
		var err error
		if form, err = parseJSONForm(c.args[3], "STRINGS"); err != nil {
			return err
		}
		at = 4
	}
	if len(c.args) > at+2 {
		return errArity(c)
	}
	path, err := c.jsonPath(at)
	if err != nil {
		return err
	}
	if path.Legacy && form != jsonText {
		return errLegacyForm
	}
	index := int64(-1)
	if len(c.args) > at+1 {
		var ok bool
		if index, ok = parseInt(c.args[at+1]); !ok {
			return errNotInteger
		}
	}
	return c.jsonUpdate(path, "not an array", func(d jsondoc.Doc, at int) (jsondoc.Edit, bool, error) {
		if d.Kind(at) != jsondoc.Array {
			return jsondoc.Edit{}, false, nil
		}
		e := jsondoc.Edit{Op: jsondoc.Splice}
		if n := int64(d.Len(at)); n > 0 {
			e.From = int(elementIndex(index, n))
			e.To, e.Take = e.From+1, true
		}
		return e, true, nil
	}, func(_ jsondoc.Doc, e *jsondoc.Edit) {
		if e.Took == nil {
			c.out.Null()
			return
		}
		text := e.Took.AppendText(nil, 0)
		if form == jsonText {
			c.out.Bulk(text)
			return
		}
		either(c.out, func(out Reply) { out.Bulk(text) }, func(out Reply) { form.tell(out, e.Took, 0, text) })
	})
}

// Of a form that RESP2 lacks, RESP2 gets the text: what a write does cannot hang on who asked.
var errLegacyForm = fault.New(fault.InvalidArgument, "JSON.ARRPOP", "Legacy paths are supported only with FORMAT STRINGS")

func jsonArrTrim(c *call) error {
	path, err := c.jsonPath(2)
	if err != nil {
		return err
	}
	start, ok1 := parseInt(c.args[3])
	stop, ok2 := parseInt(c.args[4])
	if !ok1 || !ok2 {
		return errNotInteger
	}
	return c.jsonUpdate(path, "not an array", func(d jsondoc.Doc, at int) (jsondoc.Edit, bool, error) {
		if d.Kind(at) != jsondoc.Array {
			return jsondoc.Edit{}, false, nil
		}
		from, to := rangeKept(start, stop, int64(d.Len(at)))
		return jsondoc.Edit{Op: jsondoc.Trim, From: from, To: to}, true, nil
	}, func(_ jsondoc.Doc, e *jsondoc.Edit) { c.out.Int(int64(e.To - e.From)) })
}

// rangeKept is what JSON.ARRTRIM keeps of n elements: from up to but not to.
func rangeKept(start, stop, n int64) (from, to int) {
	if n == 0 || start >= n {
		return 0, 0
	}
	start, stop = elementIndex(start, n), elementIndex(stop, n)
	if start > stop {
		return 0, 0
	}
	return int(start), int(stop) + 1
}
