package engine

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/internal/fault"
)

// Bounds of JSON that the engine looks into.
const (
	maxJSONDepth    = 64      // objects and arrays within each other
	maxPatchMembers = 1 << 16 // members of all objects in one merge patch
)

// checkJSON refuses text that is not exactly one JSON value: in UTF-8, without repeated member names, nested at
// most maxJSONDepth deep. Errors name argument and never quote it.
func checkJSON(op, argument string, text []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(text))
	for values := 0; ; {
		_, err := d.ReadToken()
		switch {
		case err == io.EOF && values == 1:
			return nil
		case err != nil:
			at := d.InputOffset()
			var syntactic *jsontext.SyntacticError
			if errors.As(err, &syntactic) {
				at = syntactic.ByteOffset
			}
			if errors.Is(err, jsontext.ErrDuplicateName) {
				return fault.About(fault.InvalidArgument, op, argument, "%s repeats a member name at byte %d", argument, at)
			}
			return fault.About(fault.InvalidArgument, op, argument, "%s is not valid JSON: see byte %d", argument, at)
		case d.StackDepth() > maxJSONDepth:
			return fault.About(fault.InvalidArgument, op, argument, "%s is nested too deep: the limit is %d", argument, maxJSONDepth)
		}
		if d.StackDepth() == 0 {
			if values++; values > 1 {
				return fault.About(fault.InvalidArgument, op, argument, "%s holds more than one JSON value", argument)
			}
		}
	}
}

// mergePatch applies an RFC 7396 merge patch to target. Both have passed checkJSON. Members keep the order of
// the target, new ones follow in the order of the patch, and what is not patched keeps its very text, so that
// no number is rounded. The result is nested no deeper than the deeper of the two.
func mergePatch(op string, target, patch []byte) ([]byte, error) {
	count := 0
	p, err := parsePatch(op, patch, decoder(patch), &count)
	if err != nil {
		return nil, err
	}
	return p.apply(nil, target, decoder(target)), nil
}

// decoder reads text that has passed checkJSON.
func decoder(text []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true))
}

// A mergeNode is a merge patch, or the part of one for one member.
type mergeNode struct {
	raw     []byte // any value but an object; nil for an object
	members []mergeMember
	places  map[string]int // of members
}

type mergeMember struct {
	name    []byte // as it is written in JSON, with its quotes
	node    *mergeNode
	applied bool
}

func (n *mergeNode) null() bool { return string(n.raw) == "null" }

func parsePatch(op string, text []byte, d *jsontext.Decoder, count *int) (*mergeNode, error) {
	if d.PeekKind() != '{' {
		return &mergeNode{raw: take(text, d)}, nil
	}
	n := &mergeNode{places: map[string]int{}}
	must(d.ReadToken())
	for d.PeekKind() != '}' {
		if *count++; *count > maxPatchMembers {
			return nil, fault.About(fault.TooLarge, op, "patch", "patch has more than %d members", maxPatchMembers)
		}
		name := must(d.ReadToken()).String()
		node, err := parsePatch(op, text, d, count)
		if err != nil {
			return nil, err
		}
		quoted, _ := jsontext.AppendQuote(nil, name)
		n.places[name] = len(n.members)
		n.members = append(n.members, mergeMember{name: quoted, node: node})
	}
	must(d.ReadToken())
	return n, nil
}

// take returns the part of text with the value that d comes to, and passes over it.
func take(text []byte, d *jsontext.Decoder) []byte {
	v := must(d.ReadValue())
	end := d.InputOffset()
	return text[end-int64(len(v)) : end]
}

// must is for decoders of text that has passed checkJSON.
func must[T any](v T, err error) T {
	if err != nil {
		panic("engine: JSON that was checked: " + err.Error())
	}
	return v
}

// apply appends to dst what n makes of the value that d, which reads target, comes to.
func (n *mergeNode) apply(dst, target []byte, d *jsontext.Decoder) []byte {
	if n.raw != nil || d.PeekKind() != '{' {
		take(target, d)
		return n.append(dst)
	}
	o := jsonObject{dst: append(dst, '{')}
	must(d.ReadToken())
	for d.PeekKind() != '}' {
		name := must(d.ReadToken()).String()
		i, patched := n.places[name]
		switch {
		case !patched:
			quoted, _ := jsontext.AppendQuote(nil, name)
			o.member(quoted)
			o.dst = append(o.dst, take(target, d)...)
		case n.members[i].node.null():
			take(target, d)
		default:
			o.member(n.members[i].name)
			o.dst = n.members[i].node.apply(o.dst, target, d)
		}
		if patched {
			n.members[i].applied = true
		}
	}
	must(d.ReadToken())
	return n.appendRest(o)
}

// append appends what n makes of a value that is missing, or no object.
func (n *mergeNode) append(dst []byte) []byte {
	if n.raw != nil {
		return append(dst, n.raw...)
	}
	return n.appendRest(jsonObject{dst: append(dst, '{')})
}

// appendRest ends an object with the members of n that have not been applied.
func (n *mergeNode) appendRest(o jsonObject) []byte {
	for _, m := range n.members {
		if !m.applied && !m.node.null() {
			o.member(m.name)
			o.dst = m.node.append(o.dst)
		}
	}
	return append(o.dst, '}')
}

// A jsonObject is JSON text of an object that is being written.
type jsonObject struct {
	dst  []byte
	some bool // a member has been written
}

func (o *jsonObject) member(name []byte) {
	if o.some {
		o.dst = append(o.dst, ',')
	}
	o.some = true
	o.dst = append(append(o.dst, name...), ':')
}
