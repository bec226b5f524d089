package httpapi

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

func (a *API) sessionRoutes() []route {
	const all, one = "/v1/caches/:cache/sessions", "/v1/caches/:cache/sessions/:id"
	return []route{
		{method: http.MethodPost, path: all, serve: (*exchange).createSession},
		{method: http.MethodGet, path: all, serve: (*exchange).listSessions},
		{method: http.MethodDelete, path: all, serve: (*exchange).revokeSessions},
		{method: http.MethodGet, path: one, serve: (*exchange).getSession},
		{method: http.MethodPut, path: one, serve: (*exchange).setSession},
		{method: http.MethodPatch, path: one, serve: (*exchange).patchSession},
		{method: http.MethodDelete, path: one, serve: (*exchange).deleteSession},
		{method: http.MethodPost, path: one + "/rotate", serve: (*exchange).rotateSession},
	}
}

var (
	cmdSessionCreate = engine.MustLookup("SESSION.CREATE")
	cmdSessionGet    = engine.MustLookup("SESSION.GET")
	cmdSessionTouch  = engine.MustLookup("SESSION.TOUCH")
	cmdSessionSet    = engine.MustLookup("SESSION.SET")
	cmdSessionPatch  = engine.MustLookup("SESSION.PATCH")
	cmdSessionDel    = engine.MustLookup("SESSION.DEL")
	cmdSessionRotate = engine.MustLookup("SESSION.ROTATE")
	cmdSessionList   = engine.MustLookup("SESSION.LIST")
	cmdSessionRevoke = engine.MustLookup("SESSION.REVOKE")
)

// A session's id is a tag and a secret, both in base64url. The secret is 256 bits that nobody can guess. The
// tag becomes the hash tag of the keys "session:{tag}secret" and "user:{tag}user", so that a user's sessions
// and the user's own key share a slot, and one command reaches them all however the cache is split. The tag
// follows from the user, or is drawn where there is none: it spreads users over the slots and hides nothing.
const (
	tagLength     = 3  // 18 bits, 16 times as many tags as slots
	secretLength  = 43 // 256 bits
	sessionPrefix = "session:{"
	userPrefix    = "user:{"
)

// maxUser is how many bytes a user's name may have: what is left of a key.
const maxUser = engine.MaxKey - len(userPrefix) - tagLength - len("}")

// maxPerUser is the highest max_per_user.
const maxPerUser = 10_000

// defaultIdle is the idle_ttl of a session that names no deadline.
const defaultIdle = 24 * time.Hour

// tagOf is the tag of a user's sessions: the first 18 bits of a digest.
func tagOf(user []byte) string {
	sum := sha256.Sum256(append([]byte("larder session user\x00"), user...))
	return base64.RawURLEncoding.EncodeToString(sum[:3])[:tagLength]
}

// drawTag is the tag of a session without a user.
func drawTag() string {
	var b [3]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])[:tagLength]
}

// drawID makes an id that no session has had.
func drawID(tag string) []byte {
	var secret [32]byte
	rand.Read(secret[:])
	return base64.RawURLEncoding.AppendEncode([]byte(tag), secret[:])
}

// validID reports whether id looks like one of ours.
func validID(id []byte) bool {
	for _, c := range id {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(id) == tagLength+secretLength
}

// sessionKey is the key of the session with a valid id.
func sessionKey(id []byte) []byte {
	key := append([]byte(sessionPrefix), id[:tagLength]...)
	return append(append(key, '}'), id[tagLength:]...)
}

// userKey is the key that a user's sessions are listed and revoked by.
func userKey(user []byte) []byte {
	return append(append([]byte(userPrefix), tagOf(user)+"}"...), user...)
}

// untag takes a key apart that sessionKey or userKey made. Other protocols choose the keys of their sessions
// themselves; such a key is none of ours.
func untag(prefix string, key []byte) (tag, rest []byte, ours bool) {
	key, ours = bytes.CutPrefix(key, []byte(prefix))
	if !ours || len(key) <= tagLength || key[tagLength] != '}' {
		return nil, nil, false
	}
	return key[:tagLength], key[tagLength+1:], true
}

// checkUser bounds the name of a user.
func checkUser(user []byte) error {
	if len(user) == 0 || len(user) > maxUser {
		return fault.About(fault.InvalidArgument, "sessions.user", "user", "user has 1 to %d bytes, not %d", maxUser, len(user))
	}
	return nil
}

var errNoSession = fault.New(fault.NotFound, "sessions", "there is no such session, or it has expired")

// pathSession is the key of the session that the path names. An id that cannot be one is like an unknown one.
func (x *exchange) pathSession() (id, key []byte, err error) {
	id, err = x.pathBytes("id")
	if err != nil || !validID(id) {
		return nil, nil, errNoSession
	}
	return id, sessionKey(id), nil
}

// Session is a session as every route shows it.
type Session struct {
	ID            string         `json:"id" example:"mZ3x5sJ8Q2h0Vf6tqk1B7yUcW4nE9aRDgLPoXiTzKvHbN0"` // who holds it holds the session
	Data          jsontext.Value `json:"data" swaggertype:"object"`                                   // any JSON value
	User          *Bytes         `json:"user" swaggertype:"string" example:"ann"`                     // null for none
	CreatedAt     string         `json:"created_at" format:"date-time" example:"2026-01-31T09:30:00.000Z"`
	IdleTTL       Duration       `json:"idle_ttl,omitzero" swaggertype:"string" example:"30m"` // how far a use moves idle_expires_at
	IdleExpiresAt *string        `json:"idle_expires_at" format:"date-time" example:"2026-01-31T10:00:00.000Z"`
	ExpiresAt     *string        `json:"expires_at" format:"date-time" example:"2026-02-01T09:30:00.000Z"` // nothing moves it
	version       uint64
}

// readSession reads the answer of any SESSION command that shows the session. It points into the reply.
func readSession(c *engine.Cursor) (Session, error) {
	switch t := c.Next(); t.Kind {
	case engine.ReplyError:
		return Session{}, inOurWords(t.Err)
	case engine.ReplyArray:
	default:
		return Session{}, errNoSession
	}
	var s Session
	if tag, secret, ours := untag(sessionPrefix, c.Next().Bytes); ours {
		if id := slices.Concat(tag, secret); validID(id) {
			s.ID = string(id)
		}
	}
	s.Data = c.Next().Bytes
	if _, user, ours := untag(userPrefix, c.Next().Bytes); ours {
		s.User = (*Bytes)(&user)
	}
	s.CreatedAt = formatTime(c.Next().Int)
	if idle := c.Next().Int; idle != 0 {
		s.IdleTTL = Duration{Ms: idle, Set: true}
	}
	s.IdleExpiresAt = timeOrNull(c.Next().Int)
	s.ExpiresAt = timeOrNull(c.Next().Int)
	s.version = uint64(c.Next().Int)
	return s, nil
}

// inOurWords gives the argument at fault the name that it has over HTTP.
func inOurWords(err error) error {
	e := *fault.From(err)
	switch e.Argument {
	case "IFMATCH":
		e.Argument, e.Message = "If-Match", "precondition failed: the session's data has another version"
	case "value":
		e.Argument = "data"
	case "AFTER":
		return errSessionCursor
	}
	return &e
}

// timeOrNull is formatTime for a time that is 0 when there is none.
func timeOrNull(ms int64) *string {
	if ms == 0 {
		return nil
	}
	s := formatTime(ms)
	return &s
}

// answerSession asks for the command that was added and answers with the session.
func (x *exchange) answerSession(status int) error {
	c, err := x.do()
	if err != nil {
		return inOurWords(err)
	}
	s, err := readSession(&c)
	if err != nil {
		return err
	}
	h := x.Response().Header()
	h["Etag"] = []string{etagOf(s.version)}
	if status == http.StatusCreated {
		h["Location"] = []string{"/v1/caches/" + x.cache() + "/sessions/" + s.ID}
	}
	return x.json(status, s)
}

// CreateSessionRequest begins a session. It ends at the earlier of its deadlines; where neither is named,
// idle_ttl is 24h.
type CreateSessionRequest struct {
	Data        jsontext.Value `json:"data,omitempty" swaggertype:"object"`                             // any JSON value, {} if not given; its text is bounded by the cache's max_value_bytes
	User        *Bytes         `json:"user,omitempty" swaggertype:"string" example:"ann" minLength:"1"` // whose session it is, to list and revoke it by
	IdleTTL     Duration       `json:"idle_ttl,omitzero" swaggertype:"string" example:"30m"`            // ends it when it has not been used for so long
	AbsoluteTTL Duration       `json:"absolute_ttl,omitzero" swaggertype:"string" example:"24h"`        // ends it so long after it began, however it is used
	MaxPerUser  *int64         `json:"max_per_user,omitempty" minimum:"1" maximum:"10000" example:"5"`  // ends the user's oldest sessions beyond so many, this one counted
}

// args are the request as SESSION.CREATE takes it, with an id drawn for the session. If the request carries
// an idempotency key and is repeated, the answer holds the id that was drawn first.
func (r *CreateSessionRequest) args() ([][]byte, error) {
	data := r.Data
	if data == nil {
		data = jsontext.Value("{}")
	}
	var user []byte
	if r.User != nil {
		user = *r.User
		if err := checkUser(user); err != nil {
			return nil, err
		}
	}
	idle := r.IdleTTL
	if !idle.Set && !r.AbsoluteTTL.Set {
		idle = Duration{Ms: defaultIdle.Milliseconds(), Set: true}
	}
	var options [][]byte
	if idle.Set {
		options = append(options, []byte("IDLE"), integer(idle.Ms))
	}
	if r.AbsoluteTTL.Set {
		options = append(options, []byte("TTL"), integer(r.AbsoluteTTL.Ms))
	}
	if n := r.MaxPerUser; n != nil {
		switch {
		case *n < 1 || *n > maxPerUser:
			return nil, fault.About(fault.OutOfRange, "sessions.create", "max_per_user", "max_per_user is 1 to %d, not %d", maxPerUser, *n)
		case user == nil:
			return nil, fault.About(fault.InvalidArgument, "sessions.create", "max_per_user", "max_per_user needs user: it bounds the sessions of one user")
		}
		options = append(options, []byte("MAX"), integer(*n))
	}
	tag := ""
	if user != nil {
		tag = tagOf(user)
		options = append(options, []byte("USER"), userKey(user))
	} else {
		tag = drawTag()
	}
	return append([][]byte{sessionKey(drawID(tag)), data}, options...), nil
}

// createSession serves POST /v1/caches/:cache/sessions.
//
// @Summary     Begin a session
// @Description The server makes its id: 256 bits that nobody can guess. The session ends at the earlier of its deadlines, and never comes back.
// @Tags        sessions
// @Param       request body CreateSessionRequest false "the session"
// @Success     201 {object} Session
// @Failure     default {object} Problem
// @Header      201 {string} ETag "the version of the session"
// @Header      201 {string} Location "where the session is"
// @Router      /v1/caches/{cache}/sessions [post]
func (x *exchange) createSession() error {
	if err := x.query().end(); err != nil {
		return err
	}
	var req CreateSessionRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	args, err := req.args()
	if err != nil {
		return err
	}
	x.add(cmdSessionCreate, args...)
	return x.answerSession(http.StatusCreated)
}

// getSession serves GET /v1/caches/:cache/sessions/:id. It is a use of the session, unless touch is false.
//
// @Summary     Read a session
// @Description Reading is a use: it moves the idle deadline, unless touch is false.
// @Tags        sessions
// @Param       touch query bool false "false only looks" default(true)
// @Success     200 {object} Session
// @Failure     default {object} Problem
// @Header      200 {string} ETag "the version of the session"
// @Router      /v1/caches/{cache}/sessions/{id} [get]
func (x *exchange) getSession() error {
	_, key, err := x.pathSession()
	if err != nil {
		return err
	}
	q := x.query()
	touch := q.flag("touch", true)
	if err := q.end(); err != nil {
		return err
	}
	if touch {
		x.add(cmdSessionTouch, key)
	} else {
		x.add(cmdSessionGet, key)
	}
	return x.answerSession(http.StatusOK)
}

// SetSessionRequest replaces the data of a session.
type SetSessionRequest struct {
	Data jsontext.Value `json:"data" swaggertype:"object"` // any JSON value; its text is bounded by the cache's max_value_bytes
}

// args are the request as SESSION.SET takes it.
func (r *SetSessionRequest) args(key []byte, conditions [][]byte) ([][]byte, error) {
	if r.Data == nil {
		return nil, fault.About(fault.InvalidArgument, "sessions.set", "data", "data is missing")
	}
	return append([][]byte{key, r.Data}, conditions...), nil
}

// setSession serves PUT /v1/caches/:cache/sessions/:id.
//
// @Summary     Replace the data of a session
// @Tags        sessions
// @Param       If-Match header string false "only if the session still has this ETag" maxlength(2048)
// @Param       request body SetSessionRequest true "the data"
// @Success     200 {object} Session
// @Failure     default {object} Problem
// @Header      200 {string} ETag "the version of the session"
// @Router      /v1/caches/{cache}/sessions/{id} [put]
func (x *exchange) setSession() error {
	key, conditions, err := x.changeSession()
	if err != nil {
		return err
	}
	var req SetSessionRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	args, err := req.args(key, conditions)
	if err != nil {
		return err
	}
	x.add(cmdSessionSet, args...)
	return x.answerSession(http.StatusOK)
}

const mergePatch = "application/merge-patch+json"

// patchSession serves PATCH /v1/caches/:cache/sessions/:id. The body is the patch of data.
//
// @Summary     Change the data of a session
// @Description The body is a JSON merge patch (RFC 7396) of the data: members that are null are removed, others set.
// @Tags        sessions
// @Accept      application/merge-patch+json
// @Param       If-Match header string false "only if the session still has this ETag" maxlength(2048)
// @Param       request body object true "the patch"
// @Success     200 {object} Session
// @Failure     default {object} Problem
// @Header      200 {string} ETag "the version of the session"
// @Router      /v1/caches/{cache}/sessions/{id} [patch]
func (x *exchange) patchSession() error {
	key, conditions, err := x.changeSession()
	if err != nil {
		return err
	}
	if t := x.Request().Header.Get("Content-Type"); t != "" {
		media, _, err := mime.ParseMediaType(t)
		if err != nil || (media != mergePatch && media != "application/json" && media != curlDefault) {
			x.Response().Header()["Accept-Patch"] = []string{mergePatch}
			return fault.About(fault.UnsupportedMedia, "sessions.patch", "Content-Type", "a patch must be %s, not %.100q", mergePatch, t)
		}
	}
	var patch jsontext.Value
	if err := x.decode(&patch); err != nil {
		return err
	}
	if patch == nil {
		return fault.About(fault.InvalidArgument, "sessions.patch", "body", "the body is empty; it must be a JSON merge patch (RFC 7396)")
	}
	x.add(cmdSessionPatch, append([][]byte{key, patch}, conditions...)...)
	return x.answerSession(http.StatusOK)
}

// changeSession reads what the requests that change a session have in common.
func (x *exchange) changeSession() (key []byte, conditions [][]byte, err error) {
	if _, key, err = x.pathSession(); err != nil {
		return nil, nil, err
	}
	if err := x.query().end(); err != nil {
		return nil, nil, err
	}
	conditions, err = versionsOf(x.Request().Header)
	return key, conditions, err
}

// versionsOf turns If-Match into a command's options. A session that does not exist answers 404 whatever the
// condition is, as RFC 9110 wants of requests that would fail without it; so If-Match: * asks for nothing.
func versionsOf(h http.Header) ([][]byte, error) {
	if len(h["If-None-Match"]) > 0 {
		return nil, fault.About(fault.InvalidArgument, "sessions.conditions", "If-None-Match", "a session's id is made by the server, so If-None-Match has no meaning here; use If-Match")
	}
	options, err := conditionsOf(h)
	for _, o := range options {
		if string(o) == "IFANY" {
			return nil, err
		}
	}
	return options, err
}

// deleteSession serves DELETE /v1/caches/:cache/sessions/:id.
//
// @Summary     End a session
// @Tags        sessions
// @Param       If-Match header string false "only if the session still has this ETag" maxlength(2048)
// @Success     204 "ended"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/sessions/{id} [delete]
func (x *exchange) deleteSession() error {
	key, conditions, err := x.changeSession()
	if err != nil {
		return err
	}
	x.add(cmdSessionDel, append([][]byte{key}, conditions...)...)
	if err := x.noContentUnlessZero(errNoSession); err != nil {
		return inOurWords(err)
	}
	return nil
}

// rotateSession serves POST /v1/caches/:cache/sessions/:id/rotate: another id for the same session, and the
// old one is dead at once.
//
// @Summary     Give a session another id
// @Description The same data and deadlines; the old id is dead at once. Do it when a user signs in, against session fixation.
// @Tags        sessions
// @Success     200 {object} Session
// @Failure     default {object} Problem
// @Header      200 {string} ETag "the version of the session"
// @Router      /v1/caches/{cache}/sessions/{id}/rotate [post]
func (x *exchange) rotateSession() error {
	id, key, err := x.pathSession()
	if err != nil {
		return err
	}
	if err := x.query().end(); err != nil {
		return err
	}
	x.add(cmdSessionRotate, key, sessionKey(drawID(string(id[:tagLength]))))
	return x.answerSession(http.StatusOK)
}

// SessionPage is a page of a user's sessions.
type SessionPage struct {
	Sessions   []Session `json:"sessions"`               // the oldest first
	NextCursor string    `json:"next_cursor" example:""` // empty at the end
}

// listSessions serves GET /v1/caches/:cache/sessions.
//
// @Summary     List the sessions of a user
// @Tags        sessions
// @Param       user query string true "whose sessions" minlength(1) maxlength(32758) example(ann)
// @Param       cursor query string false "next_cursor of the page before" maxlength(65536)
// @Param       limit query int false "how many a page may hold" minimum(1) maximum(1000) default(100)
// @Success     200 {object} SessionPage
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/sessions [get]
func (x *exchange) listSessions() error {
	q := x.query()
	user := []byte(q.text("user", ""))
	cursor := q.text("cursor", "")
	limit := q.limit()
	if err := q.end(); err != nil {
		return err
	}
	if err := checkUser(user); err != nil {
		return err
	}
	args := [][]byte{userKey(user), []byte("COUNT"), integer(limit)}
	after, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return errSessionCursor
	}
	if len(after) > 0 {
		args = append(args, []byte("AFTER"), after)
	}
	x.add(cmdSessionList, args...)
	c, err := x.do()
	if err != nil {
		return inOurWords(err)
	}
	page, err := readSessions(&c)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, page)
}

var errSessionCursor = fault.About(fault.InvalidArgument, "sessions.list", "cursor", "cursor must be the next_cursor of the page before")

// readSessions reads the answer of SESSION.LIST. Sessions that another protocol made under a key of its own
// have no id and are left out.
func readSessions(c *engine.Cursor) (SessionPage, error) {
	if t := c.Next(); t.Kind == engine.ReplyError {
		return SessionPage{}, t.Err
	}
	page := SessionPage{NextCursor: base64.RawURLEncoding.EncodeToString(c.Next().Bytes)}
	for range c.Next().Int {
		s, err := readSession(c)
		if err != nil {
			return SessionPage{}, err
		}
		if s.ID != "" {
			page.Sessions = append(page.Sessions, s)
		}
	}
	return page, nil
}

// RevokedSessions says how many sessions were ended.
type RevokedSessions struct {
	Revoked int64 `json:"revoked" example:"3"`
}

// revokeSessions serves DELETE /v1/caches/:cache/sessions: ends all sessions of a user, or all but one.
//
// @Summary     End all sessions of a user
// @Tags        sessions
// @Param       user query string true "whose sessions" minlength(1) maxlength(32758) example(ann)
// @Param       except query string false "the id of a session to spare" minlength(46) maxlength(46)
// @Success     200 {object} RevokedSessions
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/sessions [delete]
func (x *exchange) revokeSessions() error {
	q := x.query()
	user := []byte(q.text("user", ""))
	except, spared := q.get("except")
	if err := q.end(); err != nil {
		return err
	}
	req := RevokeOperation{User: user}
	if spared {
		req.Except = &except
	}
	args, err := req.args()
	if err != nil {
		return err
	}
	x.add(cmdSessionRevoke, args...)
	c, err := x.do()
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, RevokedSessions{c.Next().Int})
}
