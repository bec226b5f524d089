package httpapi

import (
	"bytes"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// CommandsRequest is several commands of the command table, which are done in their order. A JSON array of
// commands stands for a request that has nothing else.
type CommandsRequest struct {
	Commands List[CommandText] `json:"commands" swaggertype:"array,object" minItems:"1" maxItems:"10000"` // each an array: the command's name and its arguments
	Atomic   bool              `json:"atomic,omitempty" example:"false"`                                  // all or none, and nothing of others in between
	DB       int               `json:"db,omitempty" minimum:"0" maximum:"15" example:"0"`                 // which of the cache's databases
}

// A CommandText is a command as it is written in JSON: ["SET", "k", "v", "EX", 60]. A string stands for its
// UTF-8 bytes, a number for its text as it was sent, true and false for these words, {"base64": "…"} for any
// bytes.
type CommandText [][]byte

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *CommandText) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '[' {
		return wrongKind(d, "an array: a command's name and its arguments")
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		switch d.PeekKind() {
		case '0', 't', 'f':
			text, err := d.ReadValue()
			if err != nil {
				return err
			}
			*t = append(*t, bytes.Clone(text))
		case '"', '{':
			var b Bytes
			if err := b.UnmarshalJSONFrom(d); err != nil {
				return err
			}
			*t = append(*t, b)
		default:
			return wrongKind(d, "a string, a number, true, false, or an object with base64")
		}
	}
	_, err := d.ReadToken()
	return err
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom: see CommandsRequest.
func (r *CommandsRequest) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '[' {
		err := json.UnmarshalDecode(d, &r.Commands)
		if err != nil && fault.Is(err, fault.OutOfRange) {
			return renamed(err, map[string]string{"body": "commands"})
		}
		return err
	}
	type plain CommandsRequest
	return json.UnmarshalDecode(d, (*plain)(r))
}

// runCommands serves POST /v1/caches/:cache/commands.
//
// @Summary     Do many commands
// @Description Commands of the command table, each an array of its name and its arguments. A JSON array of commands stands for a request that has nothing else.
// @Tags        batch
// @Param       request body CommandsRequest true "the commands"
// @Success     200 {object} Results
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/commands [post]
func (x *exchange) runCommands() error {
	if err := x.query().end(); err != nil {
		return err
	}
	var req CommandsRequest
	if err := x.decodeMany(&req); err != nil {
		return err
	}
	if err := checkBatch("commands", len(req.Commands)); err != nil {
		return err
	}
	if req.DB < 0 || req.DB >= engine.Databases {
		return fault.About(fault.OutOfRange, "httpapi.commands", "db", "db is 0 to %d, not %d", engine.Databases-1, req.DB)
	}
	for i, args := range req.Commands {
		if len(args) == 0 {
			return inElement("commands", i, fault.New(fault.InvalidArgument, "httpapi.commands", "a command has at least its name"))
		}
		x.calls = append(x.calls, engine.Call{Command: engine.Lookup(args[0]), Args: args})
	}
	x.request.DB = req.DB
	return x.answerAll(req.Atomic, func(_ int, c *engine.Cursor) (any, error) {
		first := *c
		if t := first.Next(); t.Kind == engine.ReplyError {
			return nil, t.Err
		}
		return replyJSON{*c}, nil
	})
}

// A replyJSON is a command's reply as JSON: null; true and false; integers, those beyond 2^53 as strings;
// doubles as numbers, infinite ones and NaN as strings; status words and bytes as Bytes; arrays and sets as
// arrays; members with their scores and the like as arrays of pairs; maps as objects where every key is UTF-8,
// otherwise as arrays of pairs; errors inside of arrays as {"error": {…}}.
type replyJSON struct{ c engine.Cursor }

// MarshalJSONTo implements json.MarshalerTo.
func (r replyJSON) MarshalJSONTo(e *jsontext.Encoder) error { return writeReply(e, &r.c) }

// writeReply writes one value. It goes as deep as replies are nested, which the commands bound.
func writeReply(e *jsontext.Encoder, c *engine.Cursor) error {
	switch t := c.Next(); t.Kind {
	case engine.ReplyTrue, engine.ReplyFalse:
		return e.WriteToken(jsontext.Bool(t.Kind == engine.ReplyTrue))
	case engine.ReplyInt:
		return Number{Int: t.Int}.MarshalJSONTo(e)
	case engine.ReplyDouble:
		return Number{Float: t.Float, IsFloat: true}.MarshalJSONTo(e)
	case engine.ReplyStatus, engine.ReplyBulk:
		return Bytes(t.Bytes).MarshalJSONTo(e)
	case engine.ReplyArray, engine.ReplySet:
		return writeArray(e, t.Int, func() error { return writeReply(e, c) })
	case engine.ReplyMap, engine.ReplyKeyed:
		if textKeys(*c, t.Int) {
			return writeObject(e, c, t.Int)
		}
		fallthrough
	case engine.ReplyPairs:
		return writeArray(e, t.Int, func() error {
			return writeArray(e, 2, func() error { return writeReply(e, c) })
		})
	case engine.ReplyError:
		return json.MarshalEncode(e, Result{Error: resultError(t.Err)})
	default:
		return e.WriteToken(jsontext.Null)
	}
}

func writeArray(e *jsontext.Encoder, n int64, element func() error) error {
	if err := e.WriteToken(jsontext.BeginArray); err != nil {
		return err
	}
	for range n {
		if err := element(); err != nil {
			return err
		}
	}
	return e.WriteToken(jsontext.EndArray)
}

// textKeys reports whether the keys of a map of n pairs can be the names of an object's members.
func textKeys(c engine.Cursor, n int64) bool {
	for range n {
		if t := c.Next(); (t.Kind != engine.ReplyBulk && t.Kind != engine.ReplyStatus) || !utf8.Valid(t.Bytes) {
			return false
		}
		c.Skip()
	}
	return true
}

func writeObject(e *jsontext.Encoder, c *engine.Cursor, n int64) error {
	if err := e.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for range n {
		if err := e.WriteToken(jsontext.String(string(c.Next().Bytes))); err != nil {
			return err
		}
		if err := writeReply(e, c); err != nil {
			return err
		}
	}
	return e.WriteToken(jsontext.EndObject)
}

// maxReplies bounds what the replies of one request take together, in bytes: a value of the largest default
// size fits. The JSON made of them is up to six times as long.
const maxReplies = engine.DefaultMaxValue + 8<<20
