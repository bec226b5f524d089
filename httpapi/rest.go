package httpapi

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
)

// The REST dialect is Redis over HTTP as Upstash speaks it: a command is an array in a body, or the parts of a path,
// and its answer is {"result": …} or {"error": "ERR …"}, whatever goes wrong. Applications written for that API change
// a URL and a token.
//
//	rest.go       the forms of a request, and what becomes of each
//	restparse.go  commands in JSON, read where they lie
//	restreply.go  replies as JSON and as RESP2, and errors
//	reststream.go requests that listen: SUBSCRIBE, PSUBSCRIBE, MONITOR
//	webdis.go     the older dialect of Webdis, for one command in a path
//
// Start with restForm and answerRest.

func (a *API) restRoutes() (all []route) {
	for _, base := range []string{"/redis", "/v1/caches/:cache/redis"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut} {
			all = append(all, route{method: method, path: base + "/*", rest: true, serve: (*exchange).restPath})
		}
		all = append(all,
			route{method: http.MethodPost, path: base, rest: true, serve: (*exchange).restCommand},
			route{method: http.MethodPut, path: base, rest: true, serve: (*exchange).restCommand},
			route{method: http.MethodPost, path: base + "/pipeline", rest: true, serve: (*exchange).restPipeline},
			route{method: http.MethodPost, path: base + "/multi-exec", rest: true, serve: (*exchange).restTransaction})
	}
	return all
}

// inRest reports whether a path is one of the dialects', so that whatever goes wrong there is said in their words.
func inRest(path string) bool {
	if strings.HasPrefix(path, "/redis/") || path == "/redis" {
		return true
	}
	rest, ok := strings.CutPrefix(path, "/v1/caches/")
	if !ok {
		return false
	}
	_, rest, _ = strings.Cut(rest, "/")
	resource, _, _ := strings.Cut(rest, "/")
	return resource == "redis" || resource == "webdis"
}

// fallbackCache is the cache of a URL that names none, for a credential without a default cache.
const fallbackCache = "main"

// defaultCache is the cache of a URL that names none.
func defaultCache(who *auth.Principal) string {
	if who.DefaultCache != "" {
		return who.DefaultCache
	}
	return fallbackCache
}

// A restForm is how the answer to a request is written.
type restForm struct {
	base64 bool // strings in base64
	resp2  bool // not JSON, but what a Redis server sends
}

// restForm reads what the headers say of the answer, and settles which cache is meant.
func (x *exchange) restForm() (f restForm, err error) {
	if x.inCache = x.cache(); x.inCache == "" {
		x.inCache = defaultCache(x.who())
	}
	x.request.Refuse = refuseRest
	h := x.Request().Header
	x.header("Upstash-Sync-Token", x.id) // new with each answer, which is all that clients make of it: reads are the leader's
	if v := h["Upstash-Encoding"]; len(v) > 0 {
		f.base64 = strings.EqualFold(v[0], "base64")
	}
	format := h["Upstash-Response-Format"]
	if len(format) == 0 {
		format = h["Upstash-Reponse-Format"] // as their manual spells it
	}
	switch {
	case len(format) == 0 || strings.EqualFold(format[0], "json"):
	case !strings.EqualFold(format[0], "resp2"):
		return f, fault.About(fault.InvalidArgument, "rest.form", "Upstash-Response-Format", "Upstash-Response-Format is json or resp2, not %.100q", format[0])
	case f.base64:
		return f, fault.About(fault.InvalidArgument, "rest.form", "Upstash-Response-Format", "Upstash-Response-Format: resp2 cannot be combined with Upstash-Encoding: base64")
	default:
		f.resp2 = true
	}
	return f, nil
}

// restCommand serves POST and PUT /redis and /v1/caches/:cache/redis.
//
// @Summary     Do one command, as Upstash's REST API has it
// @Description A JSON array of the command's name and its arguments: strings, numbers (taken as they are written), true and false. Without a cache in the path it is the credential's default cache, else main.
// @Tags        rest
// @Param       Upstash-Encoding header string false "base64: strings in the answer are in base64" Enums(base64)
// @Param       Upstash-Response-Format header string false "resp2: the answer is what a Redis server sends" Enums(json,resp2)
// @Param       request body RestCommand true "the command"
// @Success     200 {object} RestResult
// @Failure     default {object} RestError
// @Router      /redis [post]
// @Router      /redis [put]
// @Router      /v1/caches/{cache}/redis [post]
// @Router      /v1/caches/{cache}/redis [put]
func (x *exchange) restCommand() error {
	f, err := x.restForm()
	if err != nil {
		return err
	}
	body, err := x.readCommands()
	if err != nil {
		return err
	}
	args, err := parseCommand(x.args, body)
	if err != nil {
		return err
	}
	x.args = args
	x.addRest(args)
	return x.answerRest(f, false)
}

// restPath serves GET, HEAD, POST and PUT /redis/* and /v1/caches/:cache/redis/*.
//
// @Summary     Do the command of the path, as Upstash's REST API has it
// @Description The command's name and its arguments, percent-encoded, between slashes; then the body, if there is one; then the names and values of the query. subscribe, psubscribe and monitor are answered with server-sent events.
// @Tags        rest
// @Param       Upstash-Encoding header string false "base64: strings in the answer are in base64" Enums(base64)
// @Param       Upstash-Response-Format header string false "resp2: the answer is what a Redis server sends" Enums(json,resp2)
// @Success     200 {object} RestResult
// @Failure     default {object} RestError
// @Router      /redis/{command} [post]
// @Router      /redis/{command} [get]
// @Router      /redis/{command} [head]
// @Router      /redis/{command} [put]
// @Router      /v1/caches/{cache}/redis/{command} [post]
// @Router      /v1/caches/{cache}/redis/{command} [get]
// @Router      /v1/caches/{cache}/redis/{command} [head]
// @Router      /v1/caches/{cache}/redis/{command} [put]
func (x *exchange) restPath() error {
	path := x.Param("*")
	if path == "" {
		return x.restCommand()
	}
	if serve := restForms[strings.TrimSuffix(path, "/")]; serve != nil {
		if m := x.Request().Method; m != http.MethodPost && m != http.MethodPut {
			return fault.New(fault.MethodNotAllowed, "rest.path", "%s is sent with POST, not with %s", path, m)
		}
		return serve(x)
	}
	f, err := x.restForm()
	if err != nil {
		return err
	}
	unescape := asItIs
	if x.Request().URL.RawPath != "" { // otherwise the router has decoded it, and no slash among it
		unescape = url.PathUnescape
	}
	if err := x.addParts(path, unescape); err != nil {
		return err
	}
	if c := restStreams[strings.ToLower(string(x.args[0]))]; c != nil {
		return x.stream(c)
	}
	if m := x.Request().Method; m == http.MethodPost || m == http.MethodPut {
		body, err := x.readCommands()
		if err != nil {
			return err
		}
		if len(body) > 0 {
			x.args = append(x.args, body)
		}
	}
	if err := x.addQuery(); err != nil {
		return err
	}
	x.addRest(x.args)
	return x.answerRest(f, false)
}

// restForms are the paths that are no commands.
var restForms = map[string]func(*exchange) error{
	"pipeline":   (*exchange).restPipeline,
	"multi-exec": (*exchange).restTransaction,
}

// restPipeline serves POST /redis/pipeline and /v1/caches/:cache/redis/pipeline.
//
// @Summary     Do many commands, as Upstash's REST API has it
// @Description In their order, each with its own result or error.
// @Tags        rest
// @Param       Upstash-Encoding header string false "base64: strings in the answer are in base64" Enums(base64)
// @Param       Upstash-Response-Format header string false "resp2: the answer is what a Redis server sends" Enums(json,resp2)
// @Param       request body []RestCommand true "the commands" maxItems(10000)
// @Success     200 {array} RestResult
// @Failure     default {object} RestError
// @Router      /redis/pipeline [post]
// @Router      /v1/caches/{cache}/redis/pipeline [post]
func (x *exchange) restPipeline() error {
	f, err := x.restForm()
	if err != nil {
		return err
	}
	if err := x.addCommands(); err != nil {
		return err
	}
	return x.answerRest(f, true)
}

// restTransaction serves POST /redis/multi-exec and /v1/caches/:cache/redis/multi-exec.
//
// @Summary     Do many commands as one transaction, as Upstash's REST API has it
// @Description In their order, with nothing of others in between. One that fails does not stop the rest; one that may not be done, or that nobody knows, discards them all.
// @Tags        rest
// @Param       Upstash-Encoding header string false "base64: strings in the answer are in base64" Enums(base64)
// @Param       request body []RestCommand true "the commands" maxItems(10000)
// @Success     200 {array} RestResult
// @Failure     default {object} RestError
// @Router      /redis/multi-exec [post]
// @Router      /v1/caches/{cache}/redis/multi-exec [post]
func (x *exchange) restTransaction() error {
	f, err := x.restForm()
	if err != nil {
		return err
	}
	if f.resp2 {
		return fault.About(fault.InvalidArgument, "rest.transaction", "Upstash-Response-Format", "Upstash-Response-Format: resp2 is not available for transactions")
	}
	if err := x.addCommands(); err != nil {
		return err
	}
	x.request.Whole = true
	return x.answerRest(f, true)
}

// readCommands reads a body that holds commands, or the last argument of one. It may be as long as a value of the
// cache, or as JSON elsewhere.
func (x *exchange) readCommands() ([]byte, error) {
	r := x.Request()
	limit := int64(maxJSONBody)
	if r.ContentLength < 0 || r.ContentLength > maxKept { // short ones are not worth the question
		if err := x.api.Gateway.Admit(&x.caller); err != nil {
			return nil, err
		}
		limit = max(limit, x.api.Gateway.MaxValue(&x.caller, x.cache())+maxKept)
	}
	body, err := x.readBody(limit)
	if err != nil {
		return nil, err
	}
	if len(r.Header["Idempotency-Key"]) > 0 { // which is of the body as it was sent
		body = bytes.Clone(body)
	}
	return body, nil
}

// addCommands adds the commands of a JSON array.
func (x *exchange) addCommands() error {
	body, err := x.readCommands()
	if err != nil {
		return err
	}
	return parseCommands(body, func(p *commandParser) error {
		from := len(x.args)
		args, err := p.command(x.args)
		if err != nil {
			return err
		}
		x.args = args
		x.addRest(args[from:len(args):len(args)])
		return nil
	})
}

// addParts adds the parts of a path to the arguments.
func (x *exchange) addParts(path string, unescape func(string) (string, error)) error {
	for part := range strings.SplitSeq(path, "/") {
		part, err := unescape(part)
		if err != nil {
			return fault.About(fault.InvalidArgument, "rest.path", "path", "the path is not percent-encoded properly")
		}
		x.args = append(x.args, x.keep(part))
	}
	return nil
}

func asItIs(s string) (string, error) { return s, nil }

// addQuery adds the parameters of the query to the arguments: the name of each, and its value if it has one.
func (x *exchange) addQuery() error {
	for name, value := range queryPairs(x.Request().URL.RawQuery) {
		name, err := url.QueryUnescape(name)
		if name == tokenParameter {
			continue
		}
		value, err2 := url.QueryUnescape(value)
		if err != nil || err2 != nil {
			return fault.About(fault.InvalidArgument, "rest.query", "query", "the query is not percent-encoded properly")
		}
		if x.args = append(x.args, x.keep(name)); value != "" {
			x.args = append(x.args, x.keep(value))
		}
	}
	return nil
}

// queryPairs are the names and values of a query in the order in which they stand there, still encoded.
func queryPairs(raw string) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		for pair := range strings.SplitSeq(raw, "&") {
			if name, value, _ := strings.Cut(pair, "="); name != "" && !yield(name, value) {
				return
			}
		}
	}
}

// tokenParameter is where the dialect takes a credential from a query, for clients that cannot send headers.
const tokenParameter = "_token"

// queryToken is the credential in a query, empty for none.
func queryToken(raw string) string {
	for name, value := range queryPairs(raw) {
		if name == tokenParameter {
			token, _ := url.QueryUnescape(value)
			return token
		}
	}
	return ""
}

// keep copies a text into the exchange.
func (x *exchange) keep(s string) []byte {
	from := len(x.path)
	x.path = append(x.path, s...)
	return x.path[from:len(x.path):len(x.path)]
}

var (
	cmdPing          = engine.MustLookup("PING")
	cmdEcho          = engine.MustLookup("ECHO")
	cmdUnlink        = engine.MustLookup("UNLINK")
	cmdZRange        = engine.MustLookup("ZRANGE")
	cmdUpstashUnlink = engine.MustLookup("UPSTASH.UNLINK")
	cmdUpstashZRange = engine.MustLookup("UPSTASH.ZRANGE")
)

// addRest adds a command of the dialect.
func (x *exchange) addRest(args [][]byte) { x.calls = append(x.calls, restCall(args)) }

// restCall is a command of the dialect. Two of them take what Redis refuses, and so are commands of our own.
func restCall(args [][]byte) engine.Call {
	c := engine.LookupCall(args)
	switch {
	case c == cmdUnlink && len(args) == 1:
		c = cmdUpstashUnlink
	case c == cmdZRange && len(args) > 4:
		c = cmdUpstashZRange
	}
	return engine.Call{Command: c, Args: args}
}

// refuseRest says why a command does not go over HTTP: it waits, or it is about a connection that there is not.
func refuseRest(call *engine.Call) error {
	c := call.Command
	switch {
	case c == nil: // the gateway says so
	case c.Flags&(engine.Connection|engine.Session) != 0 && c != cmdPing && c != cmdEcho:
		return errOfConnection(c.Name)
	case c.Flags&engine.Blocks != 0 && (c.Keys.Streams == 0 || blocksOnStreams(call.Args[min(c.Keys.Streams, len(call.Args)):])):
		return errBlocks(c.Name)
	}
	return nil
}

func errBlocks(name string) error {
	return fault.New(fault.NotSupported, "rest.refuse", "%s is not available over REST: it would wait. Ask again later, or use the Redis protocol", name)
}

func errOfConnection(name string) error {
	return fault.New(fault.NotSupported, "rest.refuse", "%s is not available over REST: it is about a connection, and here there is none", name)
}

// blocksOnStreams reports whether the options of XREAD or XREADGROUP have a BLOCK before the keys.
func blocksOnStreams(options [][]byte) bool {
	for _, o := range options {
		if len(o) == 7 && strings.EqualFold(string(o), "STREAMS") {
			return false
		}
		if len(o) == 5 && strings.EqualFold(string(o), "BLOCK") {
			return true
		}
	}
	return false
}

// answerRest asks for the commands that were added and answers with their replies: one alone, or a list of them.
func (x *exchange) answerRest(f restForm, many bool) error {
	if f.resp2 {
		return x.answerRESP2(many)
	}
	j := &x.rest
	j.reset(f.base64, many, restRoom(x.api.Gateway, &x.caller, x.cache(), len(x.calls)))
	if err := x.ask(j); err != nil {
		if x.request.Failed >= 0 {
			return &discarded{fault.From(err), x.request.Failed, many}
		}
		return err
	}
	status := http.StatusOK
	if !many && j.failed != nil {
		status = restStatus(j.failed)
	}
	return x.writeRest(status, jsonContent, j.done())
}

// restRoom is how many bytes the answer to so many commands may have.
func restRoom(g *gateway.Gateway, caller *gateway.Caller, cache string, calls int) int {
	room := maxReplies
	if calls == 1 {
		room = max(room, int(g.MaxValue(caller, cache)))
	}
	return room + room/2 // in base64 a value is a third longer, as text about as long
}

var jsonContent = []string{"application/json"}

// writeRest answers with a body.
func (x *exchange) writeRest(status int, contentType []string, body []byte) error {
	h := x.Response().Header()
	noStore(h)
	h["Content-Type"] = contentType
	x.header("Content-Length", strconv.Itoa(len(body)))
	x.Response().WriteHeader(status)
	return x.write(body)
}
