package httpapi

import (
	"bytes"
	"maps"
	"math"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

func (a *API) batchRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/caches/:cache/batch", serve: (*exchange).runBatch},
		{method: http.MethodPost, path: "/v1/caches/:cache/commands", serve: (*exchange).runCommands},
	}
}

// maxBatch is how many operations one request may hold.
const maxBatch = 10_000

// checkName bounds a name or key that came in a body, in the member at.
func checkName(at string, name []byte) error {
	switch {
	case len(name) == 0:
		return fault.About(fault.InvalidArgument, "httpapi.name", at, "%s is missing or empty", at)
	case len(name) > engine.MaxKey:
		return fault.About(fault.TooLarge, "httpapi.name", at, "%s: max key size exceeded. Limit: %d bytes, Actual: %d bytes", at, engine.MaxKey, len(name))
	}
	return nil
}

// checkBatch bounds the number of operations in the member at.
func checkBatch(at string, n int) error {
	if n < 1 || n > maxBatch {
		return fault.About(fault.OutOfRange, "httpapi.batch", at, "%s holds 1 to %d, not %d", at, maxBatch, n)
	}
	return nil
}

// inElement says of an error about a member of an operation which operation it was.
func inElement(list string, i int, err error) error {
	e := *fault.From(err)
	at := list + "[" + strconv.Itoa(i) + "]"
	switch {
	case e.Argument == "" || e.Argument == "body":
		e.Argument = at
	case strings.HasPrefix(e.Argument, "["):
		e.Argument = at + e.Argument
	default:
		e.Argument = at + "." + e.Argument
	}
	e.Message = at + ": " + e.Message
	return &e
}

// Result is what became of one operation of several: a result, or an error.
type Result struct {
	Result any          `json:"result,omitzero" swaggertype:"object"`
	Error  *ResultError `json:"error,omitempty"`
}

// ResultError says why one operation of several failed.
type ResultError struct {
	Code     string `json:"code" example:"wrong_type"`
	Message  string `json:"message" example:"Operation against a key holding the wrong kind of value"`
	Argument string `json:"argument,omitempty" example:"by"`
}

// Results answers several operations, in their order.
type Results struct {
	Results []Result `json:"results"`
}

// An abortedBatch is an atomic request in which an operation failed, and so none was done.
type abortedBatch struct {
	cause   *fault.Error
	results []any
}

func (b *abortedBatch) Error() string { return b.cause.Error() }
func (b *abortedBatch) Unwrap() error { return b.cause }

// A reader makes an operation's result of the replies to its commands. What it returns may point into the
// replies.
type reader func(c *engine.Cursor) (any, error)

// A pending operation has had its commands added to an exchange: those before the call end, from where the
// operation before it ended.
type pending struct {
	end  int
	read reader
}

// answerAll asks for all the commands that were added and answers with one result for each: read makes that
// of the reply to command i.
func (x *exchange) answerAll(atomic bool, read func(i int, c *engine.Cursor) (any, error)) error {
	ops := make([]pending, len(x.calls))
	for i := range ops {
		ops[i] = pending{i + 1, func(c *engine.Cursor) (any, error) { return read(i, c) }}
	}
	return x.answerEach(atomic, ops)
}

// answerEach asks for all the commands that were added and answers with one result for each operation. Where
// one fails, only its own result is an error, unless all must be done or none: then the whole request is.
func (x *exchange) answerEach(atomic bool, ops []pending) error {
	x.request.Atomic = atomic
	err := x.ask(&engine.Bounded{Recording: &x.reply, Max: maxReplies})
	failed := x.request.Failed
	if err != nil && failed < 0 {
		return err
	}
	c := x.reply.Cursor()
	if failed >= 0 {
		if err == nil {
			for range failed {
				c.Skip()
			}
			err = c.Next().Err
		}
		return aborted(ops, failed, fault.From(err))
	}
	if first := c; x.request.Once != nil {
		if t := first.Next(); t.Kind == engine.ReplyError && t.Err.Kind == fault.KeyReused {
			return t.Err // the same for every call
		}
	}
	results, done := make([]Result, len(ops)), 0
	for i, op := range ops {
		rest := c
		for ; done < op.end; done++ {
			rest.Skip()
		}
		if value, err := op.read(&c); err != nil {
			results[i].Error = resultError(fault.From(err))
		} else {
			results[i].Result = value
		}
		c = rest
	}
	return x.json(http.StatusOK, Results{results})
}

func resultError(e *fault.Error) *ResultError {
	return &ResultError{Code: e.Kind.Face().Code, Message: detailOf(e), Argument: e.Argument}
}

// aborted is the answer to a request that is done as a whole or not at all, and whose call failed.
func aborted(ops []pending, call int, cause *fault.Error) error {
	if cause.Kind == fault.KeyReused {
		return cause
	}
	i := sort.Search(len(ops), func(i int) bool { return ops[i].end > call })
	results := make([]any, len(ops))
	for n := range results {
		results[n] = Result{Error: &ResultError{Code: fault.Aborted.Face().Code, Message: "not done, because another operation of the request failed"}}
	}
	results[i] = Result{Error: resultError(cause)}
	return &abortedBatch{fault.New(fault.Aborted, "httpapi.batch", "nothing was done: operation %d failed: %s", i, cause.Message), results}
}

// A List is a JSON array of at most maxBatch elements. One more ends the reading, before it takes memory.
type List[T any] []T

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (l *List[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '[' {
		return wrongKind(d, "an array")
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		if len(*l) == maxBatch {
			at := argument(d.StackPointer().Parent())
			return fault.About(fault.OutOfRange, "httpapi.batch", at, "%s holds 1 to %d, and here are more", at, maxBatch)
		}
		var v T
		if err := json.UnmarshalDecode(d, &v); err != nil {
			return err
		}
		*l = append(*l, v)
	}
	_, err := d.ReadToken()
	return err
}

// BatchRequest is several operations, which are done in their order.
type BatchRequest struct {
	Operations List[jsontext.Value] `json:"operations" swaggertype:"array,object" minItems:"1" maxItems:"10000"` // each an object with op, the operation's name, and what the operation takes
	Atomic     bool                 `json:"atomic,omitempty" example:"false"`                                    // all or none, and nothing of others in between
}

// runBatch serves POST /v1/caches/:cache/batch.
//
// @Summary     Do many operations
// @Description In their order, each with its own result; with "atomic", all or none, and nothing of others in between.
// @Tags        batch
// @Param       request body BatchRequest true "the operations"
// @Success     200 {object} Results
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/batch [post]
func (x *exchange) runBatch() error {
	if err := x.query().end(); err != nil {
		return err
	}
	var req BatchRequest
	if err := x.decodeMany(&req); err != nil {
		return err
	}
	if err := checkBatch("operations", len(req.Operations)); err != nil {
		return err
	}
	ops := make([]pending, len(req.Operations))
	for i, text := range req.Operations {
		read, err := x.addOperation(text)
		if err != nil {
			return inElement("operations", i, err)
		}
		ops[i] = pending{len(x.calls), read}
	}
	return x.answerEach(req.Atomic, ops)
}

// addOperation adds the commands of one operation and returns what reads their replies.
func (x *exchange) addOperation(text jsontext.Value) (reader, error) {
	name, err := operationName(text)
	if err != nil {
		return nil, err
	}
	add := operations[name]
	if add == nil {
		return nil, fault.About(fault.InvalidArgument, "httpapi.batch", "op", "there is no operation %.100q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(operations)), ", "))
	}
	return add(x, text)
}

// operationName finds the member op. That the text is JSON is known.
func operationName(text jsontext.Value) (string, error) {
	missing := fault.About(fault.InvalidArgument, "httpapi.batch", "op", "an operation is an object with op, the name of what to do")
	d := jsontext.NewDecoder(bytes.NewReader(text))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return "", missing
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return "", missing
		}
		if name.String() != "op" {
			if err := d.SkipValue(); err != nil {
				return "", missing
			}
			continue
		}
		if value, err := d.ReadToken(); err == nil && value.Kind() == '"' {
			return value.String(), nil
		}
		break
	}
	return "", missing
}

// An operation adds its commands to an exchange.
type operation func(x *exchange, text jsontext.Value) (reader, error)

// operations is what a batch can do: the resources' own requests, with the name that stands in their path as
// a member.
var operations = map[string]operation{
	"kv.put": op(func(x *exchange, r *PutOperation) (reader, error) {
		args, err := r.args()
		x.add(cmdKVSet, args...)
		return result(readPutKV), err
	}),
	"kv.get": op(func(x *exchange, r *KeyOperation) (reader, error) {
		x.add(cmdKVGet, r.Key)
		return func(c *engine.Cursor) (any, error) { return readKV(c, r.Key) }, checkName("key", r.Key)
	}),
	"kv.append": op(func(x *exchange, r *AppendOperation) (reader, error) {
		args, err := r.args()
		x.add(cmdKVAppend, args...)
		return result(readAppended), err
	}),
	"kv.delete": op(func(x *exchange, r *DeleteOperation) (reader, error) {
		args, err := r.args()
		x.add(cmdKVDel, args...)
		return deleted(errNoKey), err
	}),
	"kv.ttl": op(func(x *exchange, r *KeyOperation) (reader, error) {
		x.add(cmdPTTL, r.Key)
		return result(readTTL), checkName("key", r.Key)
	}),
	"kv.expire": op(func(x *exchange, r *ExpireOperation) (reader, error) {
		if err := checkName("key", r.Key); err != nil {
			return nil, err
		}
		return result(r.read), r.add(x, r.Key)
	}),
	"kv.persist": op(func(x *exchange, r *KeyOperation) (reader, error) {
		x.add(cmdPersist, r.Key)
		x.add(cmdPTTL, r.Key)
		return result(readPersisted), checkName("key", r.Key)
	}),

	"counters.add": op(func(x *exchange, r *NamedCounterAdd) (reader, error) {
		args, err := r.namedArgs()
		x.add(cmdCounterAdd, args...)
		return counter(r.Name), err
	}),
	"counters.get": op(func(x *exchange, r *NameOperation) (reader, error) {
		x.add(cmdCounterGet, r.Name)
		return counter(r.Name), checkName("name", r.Name)
	}),
	"counters.set": op(func(x *exchange, r *SetCounterOperation) (reader, error) {
		if err := checkName("name", r.Name); err != nil {
			return nil, err
		}
		args, err := r.args(r.Name)
		x.add(cmdCounterSet, args...)
		return counter(r.Name), err
	}),
	"counters.reset": op(func(x *exchange, r *NameOperation) (reader, error) {
		x.add(cmdCounterReset, r.Name)
		return counter(r.Name), checkName("name", r.Name)
	}),
	"counters.delete": op(func(x *exchange, r *NameOperation) (reader, error) {
		x.add(cmdCounterDel, r.Name)
		return deleted(errNoCounter), checkName("name", r.Name)
	}),

	"sessions.create": op(func(x *exchange, r *CreateSessionRequest) (reader, error) {
		args, err := r.args()
		x.add(cmdSessionCreate, args...)
		return result(readTaggedSession), err
	}),
	"sessions.get": op(func(x *exchange, r *GetSessionOperation) (reader, error) {
		return r.ask(x, result(readTaggedSession), func(key []byte) error {
			if r.Touch != nil && !*r.Touch {
				x.add(cmdSessionGet, key)
			} else {
				x.add(cmdSessionTouch, key)
			}
			return nil
		})
	}),
	"sessions.replace": op(func(x *exchange, r *ReplaceSessionOperation) (reader, error) {
		return r.ask(x, result(readTaggedSession), func(key []byte) error {
			conditions, err := r.versions()
			if err != nil {
				return err
			}
			args, err := r.args(key, conditions)
			x.add(cmdSessionSet, args...)
			return err
		})
	}),
	"sessions.patch": op(func(x *exchange, r *PatchSessionOperation) (reader, error) {
		return r.ask(x, result(readTaggedSession), func(key []byte) error {
			if r.Patch == nil {
				return fault.About(fault.InvalidArgument, "sessions.patch", "patch", "patch is missing")
			}
			conditions, err := r.versions()
			x.add(cmdSessionPatch, append([][]byte{key, r.Patch}, conditions...)...)
			return err
		})
	}),
	"sessions.delete": op(func(x *exchange, r *DeleteSessionOperation) (reader, error) {
		return r.ask(x, deleted(errNoSession), func(key []byte) error {
			conditions, err := r.versions()
			x.add(cmdSessionDel, append([][]byte{key}, conditions...)...)
			return err
		})
	}),
	"sessions.rotate": op(func(x *exchange, r *SessionOperation) (reader, error) {
		return r.ask(x, result(readTaggedSession), func(key []byte) error {
			x.add(cmdSessionRotate, key, sessionKey(drawID(r.ID[:tagLength])))
			return nil
		})
	}),
	"sessions.revoke": op(func(x *exchange, r *RevokeOperation) (reader, error) {
		args, err := r.args()
		x.add(cmdSessionRevoke, args...)
		return func(c *engine.Cursor) (any, error) {
			t := c.Next()
			if t.Kind == engine.ReplyError {
				return nil, t.Err
			}
			return RevokedSessions{t.Int}, nil
		}, err
	}),

	"leaderboards.create": op(func(x *exchange, r *CreateBoardOperation) (reader, error) {
		args, err := r.args(r.Name)
		x.add(cmdBoardCreate, args...)
		return board(r.Name), firstOf(checkName("name", r.Name), err)
	}),
	"leaderboards.info": op(func(x *exchange, r *NameOperation) (reader, error) {
		x.add(cmdBoardInfo, r.Name)
		return board(r.Name), checkName("name", r.Name)
	}),
	"leaderboards.put": op(func(x *exchange, r *PutMembersOperation) (reader, error) {
		args, err := r.args(r.Name)
		x.add(cmdBoardPut, args...)
		return result(readPut), firstOf(checkName("name", r.Name), err)
	}),
	"leaderboards.get": op(func(x *exchange, r *GetMemberOperation) (reader, error) {
		order, err := orderArg("order", r.Order)
		x.add(cmdBoardGet, r.Name, order, r.Member)
		return func(c *engine.Cursor) (any, error) {
			if t := c.Next(); t.Kind == engine.ReplyError {
				return nil, t.Err
			}
			return readStanding(c)
		}, firstOf(checkName("name", r.Name), checkMember("member", r.Member), err)
	}),
	"leaderboards.page": op(func(x *exchange, r *PageOperation) (reader, error) {
		args, err := r.args(r.Name)
		x.add(cmdBoardPage, args...)
		return result(r.read), firstOf(checkName("name", r.Name), err)
	}),
	"leaderboards.around": op(func(x *exchange, r *AroundOperation) (reader, error) {
		args, err := r.args(r.Name, r.Member)
		x.add(cmdBoardAround, args...)
		return result(readPage), firstOf(checkName("name", r.Name), checkMember("member", r.Member), err)
	}),
	"leaderboards.among": op(func(x *exchange, r *AmongOperation) (reader, error) {
		args, err := r.args(r.Name)
		x.add(cmdBoardAmong, args...)
		return result(readAmong), firstOf(checkName("name", r.Name), err)
	}),
	"leaderboards.remove": op(func(x *exchange, r *RemoveMembersOperation) (reader, error) {
		args, err := r.args(r.Name)
		x.add(cmdBoardRemove, args...)
		return result(readRemoved), firstOf(checkName("name", r.Name), err)
	}),
	"leaderboards.trim": op(func(x *exchange, r *TrimOperation) (reader, error) {
		args, err := r.args(r.Name)
		x.add(cmdBoardTrim, args...)
		return result(readRemoved), firstOf(checkName("name", r.Name), err)
	}),
	"leaderboards.expire": op(func(x *exchange, r *ExpireBoardOperation) (reader, error) {
		args, err := r.args(r.Name)
		x.add(cmdBoardExpire, args...)
		return boardTTL(&r.TTL.Ms), firstOf(checkName("name", r.Name), err)
	}),
	"leaderboards.persist": op(func(x *exchange, r *NameOperation) (reader, error) {
		x.add(cmdBoardExpire, r.Name, []byte("0"))
		return boardTTL(nil), checkName("name", r.Name)
	}),
	"leaderboards.delete": op(func(x *exchange, r *NameOperation) (reader, error) {
		x.add(cmdBoardDelete, r.Name)
		return deleted(errNoBoard), checkName("name", r.Name)
	}),
}

// op makes an operation of a request type: its members, beside op, are those of R.
func op[R any](add func(x *exchange, r *R) (reader, error)) operation {
	return func(x *exchange, text jsontext.Value) (reader, error) {
		var in struct {
			Op      string `json:"op"`
			Request R      `json:",embed"`
		}
		if err := decodeBounded(text, &in, maxManyItems); err != nil {
			return nil, err
		}
		return add(x, &in.Request)
	}
}

// result is a typed read function as a reader.
func result[T any](read func(*engine.Cursor) (T, error)) reader {
	return func(c *engine.Cursor) (any, error) { return read(c) }
}

func counter(name []byte) reader {
	return func(c *engine.Cursor) (any, error) { return readCounter(c, name) }
}

func board(name []byte) reader {
	return func(c *engine.Cursor) (any, error) { return readLeaderboard(c, name) }
}

// Deleted is the result of an operation that removes one thing.
type Deleted struct {
	Deleted bool `json:"deleted" example:"true"`
}

// deleted reads an answer that counts what was removed.
func deleted(none error) reader {
	return func(c *engine.Cursor) (any, error) {
		switch t := c.Next(); {
		case t.Kind == engine.ReplyError:
			return nil, t.Err
		case t.Int == 0:
			return nil, none
		}
		return Deleted{true}, nil
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// KeyOperation names a key.
type KeyOperation struct {
	Key Bytes `json:"key" swaggertype:"string" minLength:"1" example:"user:42"`
}

// PutOperation stores a value: kv.put.
type PutOperation struct {
	KeyOperation
	Value       *Bytes   `json:"value" swaggertype:"string" example:"hello"`
	ContentType string   `json:"content_type,omitempty" maxLength:"255" example:"text/plain"`
	Flags       int64    `json:"flags,omitempty" minimum:"0" maximum:"4294967295" example:"0"` // memcached's
	TTL         Duration `json:"ttl,omitzero" swaggertype:"string" example:"60s"`              // without it the cache's default
	IfMatch     *string  `json:"if_match,omitempty" maxLength:"2048" example:"*"`              // as the header If-Match: tags in their quotes with commas between, or *
	IfNoneMatch *string  `json:"if_none_match,omitempty" enums:"*" example:"*"`                // only if there is none yet
}

func (r *PutOperation) args() ([][]byte, error) {
	if r.Value == nil {
		return nil, fault.About(fault.InvalidArgument, "kv.put", "value", "value is missing")
	}
	conditions, err := conditions("if_match", list(r.IfMatch), "if_none_match", list(r.IfNoneMatch))
	return putArgs(r.Key, *r.Value, r.ContentType, r.Flags, r.TTL, conditions),
		firstOf(checkName("key", r.Key), checkContentType("content_type", r.ContentType), checkFlags(r.Flags), err)
}

func checkFlags(n int64) error {
	if n < 0 || n > math.MaxUint32 {
		return fault.About(fault.OutOfRange, "kv.put", "flags", "flags is 0 to %d, not %d", uint32(math.MaxUint32), n)
	}
	return nil
}

// list is a member that may be missing as the values of a header.
func list(s *string) []string {
	if s == nil {
		return nil
	}
	return []string{*s}
}

// KeyValue is a value with its circumstances: the result of kv.get.
type KeyValue struct {
	Key         Bytes  `json:"key" swaggertype:"string" example:"user:42"`
	Value       Bytes  `json:"value" swaggertype:"string" example:"hello"`
	ContentType string `json:"content_type,omitempty" example:"text/plain"`
	ETag        string `json:"etag" example:"\"dq1x0k3f2a\""`
	TTLMs       *int64 `json:"ttl_ms" minimum:"0" example:"29500"`                           // null when it does not expire
	Flags       int64  `json:"flags,omitempty" minimum:"0" maximum:"4294967295" example:"0"` // memcached's
}

// readKV reads the answer of KV.GET.
func readKV(c *engine.Cursor, key []byte) (KeyValue, error) {
	switch t := c.Next(); t.Kind {
	case engine.ReplyError:
		return KeyValue{}, t.Err
	case engine.ReplyArray:
	default:
		return KeyValue{}, errNoKey
	}
	v := KeyValue{Key: key, ETag: etagOf(uint64(c.Next().Int)), TTLMs: ttlOrNull(c.Next().Int), ContentType: string(c.Next().Bytes)}
	c.Next() // its size
	v.Value, v.Flags = c.Next().Bytes, c.Next().Int
	return v, nil
}

// AppendOperation adds to the end of a value: kv.append.
type AppendOperation struct {
	KeyOperation
	Value   *Bytes  `json:"value" swaggertype:"string" example:" world"`
	IfMatch *string `json:"if_match,omitempty" maxLength:"2048" example:"\"dq1x0k3f2a\""`
}

func (r *AppendOperation) args() ([][]byte, error) {
	if r.Value == nil {
		return nil, fault.About(fault.InvalidArgument, "kv.append", "value", "value is missing")
	}
	conditions, err := tagsOf("if_match", list(r.IfMatch))
	return append([][]byte{r.Key, *r.Value}, conditions...), firstOf(checkName("key", r.Key), err, checkAppend("if_match", conditions))
}

// DeleteOperation removes a key: kv.delete.
type DeleteOperation struct {
	KeyOperation
	IfMatch *string `json:"if_match,omitempty" maxLength:"2048" example:"\"dq1x0k3f2a\""`
}

func (r *DeleteOperation) args() ([][]byte, error) {
	conditions, err := tagsOf("if_match", list(r.IfMatch))
	return deleteArgs(r.Key, conditions), firstOf(checkName("key", r.Key), err)
}

// ExpireOperation sets a key's TTL: kv.expire. A condition that does not hold changes nothing, and does not
// end an atomic batch.
type ExpireOperation struct {
	KeyOperation
	SetTTLRequest
}

// NameOperation names a counter or a leaderboard.
type NameOperation struct {
	Name Bytes `json:"name" swaggertype:"string" minLength:"1" example:"page-views"`
}

// SetCounterOperation sets a counter: counters.set.
type SetCounterOperation struct {
	NameOperation
	SetCounterRequest
}

// SessionOperation names a session.
type SessionOperation struct {
	ID string `json:"id" minLength:"46" maxLength:"46" example:"mZ3x5sJ8Q2h0Vf6tqk1B7yUcW4nE9aRDgLPoXiTzKvHbN0"`
}

// ask has add put the command on the session. An id that cannot be one is like an unknown one, and asks
// nothing.
func (r *SessionOperation) ask(x *exchange, read reader, add func(key []byte) error) (reader, error) {
	switch {
	case r.ID == "":
		return nil, fault.About(fault.InvalidArgument, "sessions", "id", "id is missing or empty")
	case !validID([]byte(r.ID)):
		return func(*engine.Cursor) (any, error) { return nil, errNoSession }, nil
	}
	return read, add(sessionKey([]byte(r.ID)))
}

// TaggedSession is a session with its entity tag, which stands in a header elsewhere.
type TaggedSession struct {
	Session
	ETag string `json:"etag" example:"\"dq1x0k3f2a\""`
}

func readTaggedSession(c *engine.Cursor) (TaggedSession, error) {
	s, err := readSession(c)
	return TaggedSession{s, etagOf(s.version)}, err
}

// GetSessionOperation reads a session: sessions.get.
type GetSessionOperation struct {
	SessionOperation
	Touch *bool `json:"touch,omitempty" default:"true" example:"true"` // whether this is a use of the session
}

// DeleteSessionOperation ends a session: sessions.delete.
type DeleteSessionOperation struct {
	SessionOperation
	IfMatch *string `json:"if_match,omitempty" maxLength:"2048" example:"\"dq1x0k3f2a\""`
}

// versions are the condition, of which * asks for nothing: see versionsOf.
func (r *DeleteSessionOperation) versions() ([][]byte, error) {
	conditions, err := tagsOf("if_match", list(r.IfMatch))
	if len(conditions) == 1 {
		conditions = nil
	}
	return conditions, err
}

// ReplaceSessionOperation replaces a session's data: sessions.replace.
type ReplaceSessionOperation struct {
	DeleteSessionOperation
	SetSessionRequest
}

// PatchSessionOperation changes a session's data: sessions.patch.
type PatchSessionOperation struct {
	DeleteSessionOperation
	Patch jsontext.Value `json:"patch" swaggertype:"object"` // a JSON merge patch (RFC 7396)
}

// RevokeOperation ends the sessions of a user: sessions.revoke.
type RevokeOperation struct {
	User   Bytes   `json:"user" swaggertype:"string" minLength:"1" example:"ann"`
	Except *string `json:"except,omitempty" minLength:"46" maxLength:"46" example:"mZ3x5sJ8Q2h0Vf6tqk1B7yUcW4nE9aRDgLPoXiTzKvHbN0"` // the id of a session that stays
}

func (r *RevokeOperation) args() ([][]byte, error) {
	args, err := [][]byte{userKey(r.User)}, checkUser(r.User)
	if r.Except != nil {
		if !validID([]byte(*r.Except)) { // a slip of the pen must not end the session that was to be spared
			return nil, fault.About(fault.InvalidArgument, "sessions.revoke", "except", "except is the id of a session: %d characters of A-Z, a-z, 0-9, - and _", tagLength+secretLength)
		}
		args = append(args, []byte("EXCEPT"), sessionKey([]byte(*r.Except)))
	}
	return args, err
}

// ExpireBoardOperation sets a leaderboard's TTL: leaderboards.expire.
type ExpireBoardOperation struct {
	NameOperation
	SetLeaderboardTTLRequest
}

// boardTTL reads the answer of LEADERBOARD.EXPIRE; ms is what the TTL became, nil for none.
func boardTTL(ms *int64) reader {
	return func(c *engine.Cursor) (any, error) {
		switch t := c.Next(); {
		case t.Kind == engine.ReplyError:
			return nil, t.Err
		case t.Int == 0:
			return nil, errNoBoard
		}
		return LeaderboardTTL{ms}, nil
	}
}

// CreateBoardOperation makes a leaderboard or changes its settings: leaderboards.create.
type CreateBoardOperation struct {
	NameOperation
	PutLeaderboardRequest
}

// PutMembersOperation gives members scores: leaderboards.put.
type PutMembersOperation struct {
	NameOperation
	PutMembersRequest
}

// GetMemberOperation asks where a member stands: leaderboards.get.
type GetMemberOperation struct {
	NameOperation
	Member Bytes  `json:"member" swaggertype:"string" minLength:"1" example:"ann"`
	Order  string `json:"order,omitempty" enums:"desc,asc" default:"desc" example:"desc"`
}

// PageOperation asks for a page of a leaderboard: leaderboards.page.
type PageOperation struct {
	NameOperation
	PageRequest
}

// AroundOperation asks for the members beside another: leaderboards.around.
type AroundOperation struct {
	NameOperation
	Member Bytes `json:"member" swaggertype:"string" minLength:"1" example:"ann"`
	AroundRequest
}

// AmongOperation asks how members rank among themselves: leaderboards.among.
type AmongOperation struct {
	NameOperation
	AmongRequest
}

// RemoveMembersOperation takes members off a leaderboard: leaderboards.remove.
type RemoveMembersOperation struct {
	NameOperation
	RemoveMembersRequest
}

// TrimOperation removes all but the best members: leaderboards.trim.
type TrimOperation struct {
	NameOperation
	TrimRequest
}
