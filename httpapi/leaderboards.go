package httpapi

import (
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

func (a *API) leaderboardRoutes() []route {
	const all, one = "/v1/caches/:cache/leaderboards", "/v1/caches/:cache/leaderboards/:name"
	const members, member = one + "/members", one + "/members/:member"
	return []route{
		{method: http.MethodGet, path: all, serve: (*exchange).listLeaderboards},
		{method: http.MethodPut, path: one, serve: (*exchange).putLeaderboard},
		{method: http.MethodGet, path: one, serve: (*exchange).getLeaderboard},
		{method: http.MethodDelete, path: one, serve: (*exchange).deleteLeaderboard},
		{method: http.MethodGet, path: one + "/ttl", serve: (*exchange).getLeaderboardTTL},
		{method: http.MethodPut, path: one + "/ttl", serve: (*exchange).setLeaderboardTTL},
		{method: http.MethodDelete, path: one + "/ttl", serve: (*exchange).deleteLeaderboardTTL},
		{method: http.MethodGet, path: members, serve: (*exchange).getMembers},
		{method: http.MethodPost, path: members, serve: (*exchange).putMembers},
		{method: http.MethodPost, path: members + "/remove", serve: (*exchange).removeMembers},
		{method: http.MethodGet, path: member, serve: (*exchange).getMember},
		{method: http.MethodPut, path: member, serve: (*exchange).putMember},
		{method: http.MethodDelete, path: member, serve: (*exchange).deleteMember},
		{method: http.MethodGet, path: member + "/around", serve: (*exchange).getAround},
		{method: http.MethodPost, path: one + "/among", serve: (*exchange).getAmong},
		{method: http.MethodPost, path: one + "/trim", serve: (*exchange).trimLeaderboard},
	}
}

var (
	cmdBoardCreate = engine.MustLookup("LEADERBOARD.CREATE")
	cmdBoardInfo   = engine.MustLookup("LEADERBOARD.INFO")
	cmdBoardPut    = engine.MustLookup("LEADERBOARD.PUT")
	cmdBoardGet    = engine.MustLookup("LEADERBOARD.GET")
	cmdBoardPage   = engine.MustLookup("LEADERBOARD.PAGE")
	cmdBoardAround = engine.MustLookup("LEADERBOARD.AROUND")
	cmdBoardAmong  = engine.MustLookup("LEADERBOARD.AMONG")
	cmdBoardRemove = engine.MustLookup("LEADERBOARD.REMOVE")
	cmdBoardTrim   = engine.MustLookup("LEADERBOARD.TRIM")
	cmdBoardDelete = engine.MustLookup("LEADERBOARD.DELETE")
	cmdBoardExpire = engine.MustLookup("LEADERBOARD.EXPIRE")
	cmdBoardList   = engine.MustLookup("LEADERBOARD.LIST")
)

// Bounds of one request.
const (
	maxMembers = 10_000        // members named
	maxKeep    = math.MaxInt32 // members that a board can be told to keep
	maxOffset  = 1 << 53       // places into a board
	maxBeside  = 500           // members above or below another
)

// A board that nobody made is an empty one, as a counter that nobody made is 0: pages of it are empty, nothing
// is removed from it. Only what asks for the board itself, or for one of its members, is told that there is
// none.
var (
	errNoBoard  = fault.New(fault.NotFound, "leaderboards", "there is no such leaderboard, or it has expired")
	errNoMember = fault.New(fault.NotFound, "leaderboards", "there is no such member on the leaderboard")
)

// Score is a finite number of 64 bits. It is read from a JSON number or from a string that holds one. A score
// that another protocol made infinite is written as the string "+Inf" or "-Inf".
type Score float64

// MarshalJSONTo implements json.MarshalerTo.
func (s Score) MarshalJSONTo(e *jsontext.Encoder) error {
	return Number{Float: float64(s), IsFloat: true}.MarshalJSONTo(e)
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (s *Score) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case '0', '"':
	default:
		return wrongKind(d, "a number, or a string that holds one")
	}
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	f, ok := parseScore(t.String())
	if !ok {
		at := argument(d.StackPointer())
		return fault.About(fault.InvalidArgument, "leaderboards.score", at, "%s must be a finite number of 64 bits, not %.100q", at, t.String())
	}
	*s = Score(f)
	return nil
}

// parseScore reads a finite number in decimal notation.
func parseScore(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && strings.Trim(s, "0123456789.eE+-") == ""
}

func (s Score) text() []byte { return strconv.AppendFloat(nil, float64(s), 'g', -1, 64) }

// Standing is where a member stands on a leaderboard.
type Standing struct {
	Member          Bytes   `json:"member" swaggertype:"string" example:"ann"`
	Score           Score   `json:"score" swaggertype:"number" example:"1250.5"`
	Rank            int64   `json:"rank" minimum:"0" example:"3"`             // from 1, every member has its own; 0 when the board's keep let the member go at once
	CompetitionRank int64   `json:"competition_rank" minimum:"0" example:"2"` // equal scores share the best rank, and the next is as far off as they are many: 1 2 2 4
	DenseRank       int64   `json:"dense_rank" minimum:"0" example:"2"`       // equal scores share a rank, and the next follows at once: 1 2 2 3
	Percentile      float64 `json:"percentile" minimum:"0" maximum:"100" example:"98.5"`
}

// readStanding reads one standing of a LEADERBOARD command.
func readStanding(c *engine.Cursor) (Standing, error) {
	switch t := c.Next(); t.Kind {
	case engine.ReplyError:
		return Standing{}, t.Err
	case engine.ReplyArray:
	default:
		return Standing{}, errNoMember
	}
	return Standing{
		Member: c.Next().Bytes, Score: Score(c.Next().Float), Rank: c.Next().Int,
		CompetitionRank: c.Next().Int, DenseRank: c.Next().Int, Percentile: c.Next().Float,
	}, nil
}

// orderArg is which end of a board is the top, as a command takes it.
func orderArg(name, order string) ([]byte, error) {
	switch order {
	case "", "desc":
		return []byte("DESC"), nil
	case "asc":
		return []byte("ASC"), nil
	}
	return nil, fault.About(fault.InvalidArgument, "leaderboards.order", name, "%s is desc or asc, not %.100q", name, order)
}

// within is the integer that was given, or the default, if it is within its bounds.
func within(name string, given *int64, otherwise, low, high int64) ([]byte, error) {
	n := otherwise
	if given != nil {
		n = *given
	}
	if n < low || n > high {
		return nil, fault.About(fault.OutOfRange, "leaderboards", name, "%s is %d to %d, not %d", name, low, high, n)
	}
	return integer(n), nil
}

// checkMember bounds a member's name.
func checkMember(at string, member []byte) error {
	switch {
	case len(member) == 0:
		return fault.About(fault.InvalidArgument, "leaderboards.member", at, "%s is missing or empty", at)
	case len(member) > engine.MaxKey:
		return fault.About(fault.TooLarge, "leaderboards.member", at, "%s has at most %d bytes, not %d", at, engine.MaxKey, len(member))
	}
	return nil
}

// checkCount bounds how many members a request names.
func checkCount(n int) error {
	if n < 1 || n > maxMembers {
		return fault.About(fault.OutOfRange, "leaderboards.members", "members", "members holds 1 to %d members, not %d", maxMembers, n)
	}
	return nil
}

// element names a part of an element of members.
func element(i int, part string) string { return "members[" + strconv.Itoa(i) + "]" + part }

// appendMembers appends members to a command's arguments.
func appendMembers(args [][]byte, members []Bytes) ([][]byte, error) {
	if err := checkCount(len(members)); err != nil {
		return nil, err
	}
	for i, m := range members {
		if err := checkMember(element(i, ""), m); err != nil {
			return nil, err
		}
		args = append(args, m)
	}
	return args, nil
}

// The board itself.

// Leaderboard is a leaderboard's size and settings.
type Leaderboard struct {
	Name      Bytes  `json:"name" swaggertype:"string" example:"season-7"`
	Size      int64  `json:"size" minimum:"0" example:"1200"`
	TTLMs     *int64 `json:"ttl_ms" example:"604800000"` // null when it does not expire
	Ties      string `json:"ties" enums:"member,first,last" example:"first"`
	Keep      int64  `json:"keep" minimum:"0" example:"1000"` // 0 when all members stay
	KeepOrder string `json:"keep_order" enums:"desc,asc" example:"desc"`
}

// readLeaderboard reads the answer of LEADERBOARD.CREATE and LEADERBOARD.INFO.
func readLeaderboard(c *engine.Cursor, name []byte) (Leaderboard, error) {
	switch t := c.Next(); t.Kind {
	case engine.ReplyError:
		return Leaderboard{}, t.Err
	case engine.ReplyArray:
	default:
		return Leaderboard{}, errNoBoard
	}
	return Leaderboard{
		Name: name, Size: c.Next().Int, TTLMs: ttlOrNull(c.Next().Int), Ties: strings.ToLower(string(c.Next().Bytes)),
		Keep: c.Next().Int, KeepOrder: strings.ToLower(string(c.Next().Bytes)),
	}, nil
}

// ttlOrNull is a TTL in milliseconds that is -1 when there is none.
func ttlOrNull(ms int64) *int64 {
	if ms < 0 {
		return nil
	}
	return &ms
}

// answerLeaderboard asks for the command that was added and answers with the board.
func (x *exchange) answerLeaderboard(name []byte) error {
	c, err := x.do()
	if err != nil {
		return err
	}
	board, err := readLeaderboard(&c, name)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, board)
}

// PutLeaderboardRequest makes a leaderboard or changes its settings. What is not given stays as it is.
type PutLeaderboardRequest struct {
	Ties      string   `json:"ties,omitempty" enums:"member,first,last" default:"member" example:"first"` // who comes first among equal scores: by name, who had the score first, or last; fixed while the board has members
	TTL       Duration `json:"ttl,omitzero" swaggertype:"string" example:"7d"`                            // how long it lives from now on; a new one has the cache's default
	Keep      *int64   `json:"keep,omitempty" minimum:"0" maximum:"2147483647" example:"1000"`            // only the best so many stay, from now on; 0 for all
	KeepOrder string   `json:"keep_order,omitempty" enums:"desc,asc" default:"desc" example:"desc"`       // whether the highest or the lowest scores are the best
}

// args are the request as LEADERBOARD.CREATE takes it.
func (r *PutLeaderboardRequest) args(name []byte) ([][]byte, error) {
	args := [][]byte{name}
	switch r.Ties {
	case "":
	case "member", "first", "last":
		args = append(args, []byte("TIES"), []byte(r.Ties))
	default:
		return nil, fault.About(fault.InvalidArgument, "leaderboards.put", "ties", "ties is member, first or last, not %.100q", r.Ties)
	}
	if r.TTL.Set {
		args = append(args, []byte("PX"), integer(r.TTL.Ms))
	}
	order, err := orderArg("keep_order", r.KeepOrder)
	if err != nil {
		return nil, err
	}
	if r.Keep != nil {
		keep, err := within("keep", r.Keep, 0, 0, maxKeep)
		if err != nil {
			return nil, err
		}
		return append(args, []byte("KEEP"), keep, order), nil
	}
	if r.KeepOrder != "" {
		return nil, fault.About(fault.InvalidArgument, "leaderboards.put", "keep_order", "keep_order needs keep: it says which members are kept")
	}
	return args, nil
}

// putLeaderboard serves PUT /v1/caches/:cache/leaderboards/:name.
//
// @Summary     Make a leaderboard, or change its settings
// @Description Not needed before scores are put: a board is made by its first score. It is needed for other ties than by name, and for a board that keeps only its best.
// @Tags        leaderboards
// @Param       request body PutLeaderboardRequest false "its settings"
// @Success     200 {object} Leaderboard
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name} [put]
func (x *exchange) putLeaderboard() error {
	name, err := x.boardName()
	if err != nil {
		return err
	}
	var req PutLeaderboardRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	args, err := req.args(name)
	if err != nil {
		return err
	}
	x.add(cmdBoardCreate, args...)
	return x.answerLeaderboard(name)
}

// boardName reads the name in the path, for routes without a query.
func (x *exchange) boardName() ([]byte, error) {
	name, err := x.pathBytes("name")
	if err != nil {
		return nil, err
	}
	return name, x.query().end()
}

// getLeaderboard serves GET /v1/caches/:cache/leaderboards/:name.
//
// @Summary     Size and settings of a leaderboard
// @Tags        leaderboards
// @Success     200 {object} Leaderboard
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name} [get]
func (x *exchange) getLeaderboard() error {
	name, err := x.boardName()
	if err != nil {
		return err
	}
	x.add(cmdBoardInfo, name)
	return x.answerLeaderboard(name)
}

// deleteLeaderboard serves DELETE /v1/caches/:cache/leaderboards/:name.
//
// @Summary     Delete a leaderboard
// @Tags        leaderboards
// @Success     204 "deleted"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name} [delete]
func (x *exchange) deleteLeaderboard() error {
	name, err := x.boardName()
	if err != nil {
		return err
	}
	x.add(cmdBoardDelete, name)
	return x.noContentUnlessZero(errNoBoard)
}

// noContentUnlessZero asks for the command that was added, whose answer counts what it changed.
func (x *exchange) noContentUnlessZero(zero error) error {
	c, err := x.do()
	if err != nil {
		return err
	}
	if c.Next().Int == 0 {
		return zero
	}
	return x.noContent()
}

// LeaderboardItem is a leaderboard in a list.
type LeaderboardItem struct {
	Name  Bytes  `json:"name" swaggertype:"string" example:"season-7"`
	Size  int64  `json:"size" minimum:"0" example:"1200"`
	TTLMs *int64 `json:"ttl_ms" example:"604800000"` // null when it does not expire
}

// LeaderboardList is a page of leaderboards in no particular order.
type LeaderboardList struct {
	Leaderboards []LeaderboardItem `json:"leaderboards"`
	NextCursor   string            `json:"next_cursor" example:"1374"` // empty at the end; a page may hold fewer or a few more than limit, even none, before that
}

// listLeaderboards serves GET /v1/caches/:cache/leaderboards. The guarantee is that of Redis's SCAN: a board
// that exists all the time is listed, and may be listed twice.
//
// @Summary     List leaderboards
// @Description In no particular order. A board that exists all the time is listed; it may be listed twice.
// @Tags        leaderboards
// @Param       prefix query string false "only names that begin so" maxlength(32768)
// @Param       cursor query string false "next_cursor of the page before" maxlength(20)
// @Param       limit query int false "how many a page should hold" minimum(1) maximum(1000) default(100)
// @Success     200 {object} LeaderboardList
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards [get]
func (x *exchange) listLeaderboards() error {
	q := x.query()
	cursor, prefix, limit := q.text("cursor", ""), q.text("prefix", ""), q.limit()
	if err := q.end(); err != nil {
		return err
	}
	if cursor == "" {
		cursor = "0"
	} else if _, err := strconv.ParseUint(cursor, 10, 64); err != nil {
		return fault.About(fault.InvalidArgument, "leaderboards.list", "cursor", "cursor must be the next_cursor of the page before")
	}
	args := [][]byte{[]byte(cursor), []byte("COUNT"), integer(limit)}
	if prefix != "" {
		args = append(args, []byte("PREFIX"), []byte(prefix))
	}
	x.add(cmdBoardList, args...)
	c, err := x.do()
	if err != nil {
		return err
	}
	c.Next()
	list := LeaderboardList{NextCursor: string(c.Next().Bytes)}
	if list.NextCursor == "0" {
		list.NextCursor = ""
	}
	for range c.Next().Int / 3 {
		list.Leaderboards = append(list.Leaderboards, LeaderboardItem{Name: c.Next().Bytes, Size: c.Next().Int, TTLMs: ttlOrNull(c.Next().Int)})
	}
	return x.json(http.StatusOK, list)
}

// LeaderboardTTL is how long a leaderboard still lives.
type LeaderboardTTL struct {
	TTLMs *int64 `json:"ttl_ms" example:"604800000"` // null when it does not expire
}

// getLeaderboardTTL serves GET /v1/caches/:cache/leaderboards/:name/ttl.
//
// @Summary     How long a leaderboard still lives
// @Tags        leaderboards
// @Success     200 {object} LeaderboardTTL
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/ttl [get]
func (x *exchange) getLeaderboardTTL() error {
	name, err := x.boardName()
	if err != nil {
		return err
	}
	x.add(cmdBoardInfo, name)
	c, err := x.do()
	if err != nil {
		return err
	}
	board, err := readLeaderboard(&c, name)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, LeaderboardTTL{board.TTLMs})
}

// SetLeaderboardTTLRequest gives a leaderboard a deadline.
type SetLeaderboardTTLRequest struct {
	TTL Duration `json:"ttl" swaggertype:"string" example:"7d"` // from now on
}

// args are the request as LEADERBOARD.EXPIRE takes it.
func (r *SetLeaderboardTTLRequest) args(name []byte) ([][]byte, error) {
	if !r.TTL.Set {
		return nil, fault.About(fault.InvalidArgument, "leaderboards.ttl", "ttl", "ttl is missing")
	}
	return [][]byte{name, integer(r.TTL.Ms)}, nil
}

// setLeaderboardTTL serves PUT /v1/caches/:cache/leaderboards/:name/ttl.
//
// @Summary     Give a leaderboard a deadline
// @Tags        leaderboards
// @Param       request body SetLeaderboardTTLRequest true "how long it lives from now on"
// @Success     200 {object} LeaderboardTTL
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/ttl [put]
func (x *exchange) setLeaderboardTTL() error {
	name, err := x.boardName()
	if err != nil {
		return err
	}
	var req SetLeaderboardTTLRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	args, err := req.args(name)
	if err != nil {
		return err
	}
	x.add(cmdBoardExpire, args...)
	c, err := x.do()
	if err != nil {
		return err
	}
	if c.Next().Int == 0 {
		return errNoBoard
	}
	return x.json(http.StatusOK, LeaderboardTTL{&req.TTL.Ms})
}

// deleteLeaderboardTTL serves DELETE /v1/caches/:cache/leaderboards/:name/ttl: the board stays for ever.
//
// @Summary     Let a leaderboard live for ever
// @Tags        leaderboards
// @Success     204 "it has no deadline any more"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/ttl [delete]
func (x *exchange) deleteLeaderboardTTL() error {
	name, err := x.boardName()
	if err != nil {
		return err
	}
	x.add(cmdBoardExpire, name, []byte("0"))
	return x.noContentUnlessZero(errNoBoard)
}

// Putting and removing members.

// ScoreMode says what a score does to the one that a member has, and how long a board lives that it makes.
type ScoreMode struct {
	Mode string   `json:"mode,omitempty" enums:"set,increment,max,min" default:"set" example:"max"` // max and min keep the higher and the lower of the two scores
	TTL  Duration `json:"ttl,omitzero" swaggertype:"string" example:"7d"`                           // only for a board that this request makes
}

// args are the part of LEADERBOARD.PUT before the scores.
func (r *ScoreMode) args(name []byte) ([][]byte, error) {
	mode := r.Mode
	switch mode {
	case "":
		mode = "set"
	case "set", "increment", "max", "min":
	default:
		return nil, fault.About(fault.InvalidArgument, "leaderboards.put", "mode", "mode is set, increment, max or min, not %.100q", mode)
	}
	args := [][]byte{name, []byte(mode)}
	if r.TTL.Set {
		args = append(args, []byte("PX"), integer(r.TTL.Ms))
	}
	return args, nil
}

// PutMemberRequest gives a member a score.
type PutMemberRequest struct {
	Score     *Score `json:"score" swaggertype:"number" example:"12.5"` // a finite number
	ScoreMode `json:",inline"`
}

// args are the request as LEADERBOARD.PUT takes it.
func (r *PutMemberRequest) args(name, member []byte) ([][]byte, error) {
	if r.Score == nil {
		return nil, fault.About(fault.InvalidArgument, "leaderboards.put", "score", "score is missing")
	}
	args, err := r.ScoreMode.args(name)
	return append(args, r.Score.text(), member), err
}

// putMember serves PUT /v1/caches/:cache/leaderboards/:name/members/:member. The standing that answers is the
// one right after the score was put; whoever may put scores but not see ranks can use POST …/members.
//
// @Summary     Put a member's score
// @Tags        leaderboards
// @Param       order query string false "of the ranks in the answer; desc: the highest score has rank 1" Enums(desc, asc) default(desc)
// @Param       request body PutMemberRequest true "the score"
// @Success     200 {object} Standing
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/members/{member} [put]
func (x *exchange) putMember() error {
	name, member, order, err := x.pathMember()
	if err != nil {
		return err
	}
	var req PutMemberRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	args, err := req.args(name, member)
	if err != nil {
		return err
	}
	x.add(cmdBoardPut, args...)
	x.add(cmdBoardGet, name, order, member)
	x.request.Atomic = true
	c, err := x.do()
	if err != nil {
		return err
	}
	if failed := x.request.Failed; failed >= 0 {
		for range failed {
			c.Skip()
		}
		return c.Next().Err
	}
	standing, err := readPutAndStanding(&c, member)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, standing)
}

// pathMember reads the board, the member and the order that a request names.
func (x *exchange) pathMember() (name, member, order []byte, err error) {
	if name, err = x.pathBytes("name"); err != nil {
		return nil, nil, nil, err
	}
	if member, err = x.pathBytes("member"); err != nil {
		return nil, nil, nil, err
	}
	q := x.query()
	given := q.one("order", "desc", "asc")
	if err := q.end(); err != nil {
		return nil, nil, nil, err
	}
	order, err = orderArg("order", given)
	return name, member, order, err
}

// readPutAndStanding reads the answers of LEADERBOARD.PUT and LEADERBOARD.GET for one member. A board that
// keeps only its best may have let the member go again; then its ranks are 0.
func readPutAndStanding(c *engine.Cursor, member []byte) (Standing, error) {
	if t := c.Next(); t.Kind == engine.ReplyError {
		return Standing{}, t.Err
	}
	for range 3 { // added, changed, size
		c.Next()
	}
	c.Next()
	score := Score(c.Next().Float)
	c.Next()
	standing, err := readStanding(c)
	if err == errNoMember {
		return Standing{Member: member, Score: score}, nil
	}
	return standing, err
}

// MemberScore is a member with the score it is given.
type MemberScore struct {
	Member Bytes  `json:"member" swaggertype:"string" minLength:"1" example:"ann"`
	Score  *Score `json:"score" swaggertype:"number" example:"12.5"` // a finite number
}

// PutMembersRequest gives several members scores, all of them or none. A member named twice gets both, one
// after the other.
type PutMembersRequest struct {
	ScoreMode `json:",inline"`
	Members   []MemberScore `json:"members" minItems:"1" maxItems:"10000"`
}

// args are the request as LEADERBOARD.PUT takes it.
func (r *PutMembersRequest) args(name []byte) ([][]byte, error) {
	args, err := r.ScoreMode.args(name)
	if err != nil {
		return nil, err
	}
	if err := checkCount(len(r.Members)); err != nil {
		return nil, err
	}
	for i, m := range r.Members {
		if err := checkMember(element(i, ".member"), m.Member); err != nil {
			return nil, err
		}
		if m.Score == nil {
			at := element(i, ".score")
			return nil, fault.About(fault.InvalidArgument, "leaderboards.put", at, "%s is missing", at)
		}
		args = append(args, m.Score.text(), m.Member)
	}
	return args, nil
}

// PutMembersResult says what a request did to a leaderboard.
type PutMembersResult struct {
	Added   int64 `json:"added" example:"2"`   // members that are new
	Changed int64 `json:"changed" example:"1"` // members that have another score than before
	Total   int64 `json:"total" example:"1200"`
}

// readPut reads the answer of LEADERBOARD.PUT.
func readPut(c *engine.Cursor) (PutMembersResult, error) {
	if t := c.Next(); t.Kind == engine.ReplyError {
		return PutMembersResult{}, t.Err
	}
	return PutMembersResult{Added: c.Next().Int, Changed: c.Next().Int, Total: c.Next().Int}, nil
}

// putMembers serves POST /v1/caches/:cache/leaderboards/:name/members.
//
// @Summary     Put scores of several members
// @Description All or none.
// @Tags        leaderboards
// @Param       request body PutMembersRequest true "the members"
// @Success     200 {object} PutMembersResult
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/members [post]
func (x *exchange) putMembers() error {
	name, err := x.boardName()
	if err != nil {
		return err
	}
	var req PutMembersRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	args, err := req.args(name)
	if err != nil {
		return err
	}
	x.add(cmdBoardPut, args...)
	c, err := x.do()
	if err != nil {
		return err
	}
	result, err := readPut(&c)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, result)
}

// deleteMember serves DELETE /v1/caches/:cache/leaderboards/:name/members/:member.
//
// @Summary     Remove a member
// @Tags        leaderboards
// @Success     204 "removed"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/members/{member} [delete]
func (x *exchange) deleteMember() error {
	name, err := x.boardName()
	if err != nil {
		return err
	}
	member, err := x.pathBytes("member")
	if err != nil {
		return err
	}
	x.add(cmdBoardRemove, name, member)
	return x.noContentUnlessZero(errNoMember)
}

// RemoveMembersRequest takes several members off a leaderboard.
type RemoveMembersRequest struct {
	Members []Bytes `json:"members" swaggertype:"array,string" minItems:"1" maxItems:"10000" example:"ann,bob"`
}

// args are the request as LEADERBOARD.REMOVE takes it.
func (r *RemoveMembersRequest) args(name []byte) ([][]byte, error) {
	return appendMembers([][]byte{name}, r.Members)
}

// RemovedMembers says how many members were removed.
type RemovedMembers struct {
	Removed int64 `json:"removed" example:"2"`
}

// readRemoved reads the answer of LEADERBOARD.REMOVE and LEADERBOARD.TRIM.
func readRemoved(c *engine.Cursor) (RemovedMembers, error) {
	t := c.Next()
	if t.Kind == engine.ReplyError {
		return RemovedMembers{}, t.Err
	}
	return RemovedMembers{t.Int}, nil
}

// removeMembers serves POST /v1/caches/:cache/leaderboards/:name/members/remove.
//
// @Summary     Remove several members
// @Tags        leaderboards
// @Param       request body RemoveMembersRequest true "the members"
// @Success     200 {object} RemovedMembers
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/members/remove [post]
func (x *exchange) removeMembers() error {
	name, err := x.boardName()
	if err != nil {
		return err
	}
	var req RemoveMembersRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	args, err := req.args(name)
	if err != nil {
		return err
	}
	x.add(cmdBoardRemove, args...)
	return x.answerRemoved()
}

func (x *exchange) answerRemoved() error {
	c, err := x.do()
	if err != nil {
		return err
	}
	removed, err := readRemoved(&c)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, removed)
}

// TrimRequest removes all but the best members.
type TrimRequest struct {
	Keep  *int64 `json:"keep" minimum:"0" maximum:"2147483647" example:"1000"`
	Order string `json:"order,omitempty" enums:"desc,asc" default:"desc" example:"desc"` // whether the highest or the lowest scores are the best
}

// args are the request as LEADERBOARD.TRIM takes it.
func (r *TrimRequest) args(name []byte) ([][]byte, error) {
	if r.Keep == nil {
		return nil, fault.About(fault.InvalidArgument, "leaderboards.trim", "keep", "keep is missing")
	}
	keep, err := within("keep", r.Keep, 0, 0, maxKeep)
	if err != nil {
		return nil, err
	}
	order, err := orderArg("order", r.Order)
	return [][]byte{name, order, keep}, err
}

// trimLeaderboard serves POST /v1/caches/:cache/leaderboards/:name/trim.
//
// @Summary     Keep only the best members
// @Tags        leaderboards
// @Param       request body TrimRequest true "how many"
// @Success     200 {object} RemovedMembers
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/trim [post]
func (x *exchange) trimLeaderboard() error {
	name, err := x.boardName()
	if err != nil {
		return err
	}
	var req TrimRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	args, err := req.args(name)
	if err != nil {
		return err
	}
	x.add(cmdBoardTrim, args...)
	return x.answerRemoved()
}

// Reading members.

// getMember serves GET /v1/caches/:cache/leaderboards/:name/members/:member.
//
// @Summary     A member's score and ranks
// @Tags        leaderboards
// @Param       order query string false "desc: the highest score has rank 1" Enums(desc, asc) default(desc)
// @Success     200 {object} Standing
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/members/{member} [get]
func (x *exchange) getMember() error {
	name, member, order, err := x.pathMember()
	if err != nil {
		return err
	}
	x.add(cmdBoardGet, name, order, member)
	c, err := x.do()
	if err != nil {
		return err
	}
	c.Next()
	standing, err := readStanding(&c)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, standing)
}

// MembersPage is a page of standings.
type MembersPage struct {
	Members    []Standing `json:"members"`
	Total      int64      `json:"total" minimum:"0" example:"1200"` // how many members all pages hold together
	NextCursor string     `json:"next_cursor" example:"100"`        // empty at the end
}

// readPage reads the answer of LEADERBOARD.PAGE, as if there were no page after it, and of LEADERBOARD.AROUND.
func readPage(c *engine.Cursor) (MembersPage, error) {
	switch t := c.Next(); t.Kind {
	case engine.ReplyError:
		return MembersPage{}, t.Err
	case engine.ReplyArray:
	default:
		return MembersPage{}, errNoMember
	}
	page := MembersPage{Total: c.Next().Int}
	n := c.Next().Int
	page.Members = make([]Standing, n)
	for i := range page.Members {
		var err error
		if page.Members[i], err = readStanding(c); err != nil {
			return MembersPage{}, err
		}
	}
	return page, nil
}

// PageRequest asks for members of a leaderboard in the order of their ranks.
type PageRequest struct {
	Order    string `json:"order,omitempty" enums:"desc,asc" default:"desc" example:"desc"`
	Offset   *int64 `json:"offset,omitempty" minimum:"0" maximum:"9007199254740992" default:"0" example:"0"` // how many members to pass over
	Limit    *int64 `json:"limit,omitempty" minimum:"1" maximum:"1000" default:"100" example:"100"`
	MinScore string `json:"min_score,omitempty" maxLength:"32" example:"100"`  // only members with at least this score, or more than it after "("; "-inf" for any
	MaxScore string `json:"max_score,omitempty" maxLength:"32" example:"(200"` // only members with at most this score, or less than it after "("; "+inf" for any
	Cursor   string `json:"cursor,omitempty" maxLength:"20" example:"100"`     // in the place of offset: the next_cursor of the page before
}

// args are the request as LEADERBOARD.PAGE takes it.
func (r *PageRequest) args(name []byte) ([][]byte, error) {
	order, err := orderArg("order", r.Order)
	if err != nil {
		return nil, err
	}
	offset, err := r.offset()
	if err != nil {
		return nil, err
	}
	limit, err := within("limit", r.Limit, 100, 1, 1000)
	if err != nil {
		return nil, err
	}
	args := [][]byte{name, order, integer(offset), limit}
	if r.MinScore == "" && r.MaxScore == "" {
		return args, nil
	}
	low, err := scoreBound("min_score", r.MinScore, "-inf")
	if err != nil {
		return nil, err
	}
	high, err := scoreBound("max_score", r.MaxScore, "+inf")
	return append(args, []byte("SCORE"), low, high), err
}

// offset is where the page begins: a cursor is the offset of the next page, which the client need not know.
func (r *PageRequest) offset() (int64, error) {
	switch {
	case r.Cursor == "":
		n := int64(0)
		if r.Offset != nil {
			n = *r.Offset
		}
		if n < 0 || n > maxOffset {
			return 0, fault.About(fault.OutOfRange, "leaderboards.page", "offset", "offset is 0 to %d, not %d", maxOffset, n)
		}
		return n, nil
	case r.Offset != nil:
		return 0, fault.About(fault.InvalidArgument, "leaderboards.page", "cursor", "cursor and offset exclude each other")
	}
	n, err := strconv.ParseInt(r.Cursor, 10, 64)
	if err != nil || n < 0 || n > maxOffset {
		return 0, fault.About(fault.InvalidArgument, "leaderboards.page", "cursor", "cursor must be the next_cursor of the page before")
	}
	return n, nil
}

// read reads the answer of LEADERBOARD.PAGE to args.
func (r *PageRequest) read(c *engine.Cursor) (MembersPage, error) {
	page, err := readPage(c)
	offset, _ := r.offset() // args found it good
	if next := offset + int64(len(page.Members)); next < page.Total {
		page.NextCursor = strconv.FormatInt(next, 10)
	}
	return page, err
}

// scoreBound reads a bound in Redis's notation.
func scoreBound(name, s, otherwise string) ([]byte, error) {
	switch s {
	case "":
		return []byte(otherwise), nil
	case "-inf", "+inf", "inf":
		return []byte(s), nil
	}
	if _, ok := parseScore(strings.TrimPrefix(s, "(")); !ok {
		return nil, fault.About(fault.InvalidArgument, "leaderboards.page", name, "%s is a number, a number after \"(\" to leave it out, -inf or +inf, not %.100q", name, s)
	}
	return []byte(s), nil
}

// getMembers serves GET /v1/caches/:cache/leaderboards/:name/members.
//
// @Summary     A page of a leaderboard
// @Description Members in the order of their ranks, all of them or those within a range of scores.
// @Tags        leaderboards
// @Param       order query string false "desc: the highest score first" Enums(desc, asc) default(desc)
// @Param       offset query int false "how many members to pass over" minimum(0) maximum(9007199254740992) default(0)
// @Param       limit query int false "how many a page holds" minimum(1) maximum(1000) default(100)
// @Param       min_score query string false "only members with at least this score, or more than it after \"(\"; -inf for any" maxlength(32)
// @Param       max_score query string false "only members with at most this score, or less than it after \"(\"; +inf for any" maxlength(32)
// @Param       cursor query string false "in the place of offset: next_cursor of the page before" maxlength(20)
// @Success     200 {object} MembersPage
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/members [get]
func (x *exchange) getMembers() error {
	name, err := x.pathBytes("name")
	if err != nil {
		return err
	}
	q := x.query()
	req := PageRequest{Order: q.text("order", ""), MinScore: q.text("min_score", ""), MaxScore: q.text("max_score", ""), Cursor: q.text("cursor", "")}
	if _, given := q.get("offset"); given {
		n := q.number("offset", 0, 0, maxOffset)
		req.Offset = &n
	}
	limit := q.limit()
	req.Limit = &limit
	if err := q.end(); err != nil {
		return err
	}
	args, err := req.args(name)
	if err != nil {
		return err
	}
	x.add(cmdBoardPage, args...)
	c, err := x.do()
	if err != nil {
		return err
	}
	page, err := req.read(&c)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, page)
}

// AroundRequest asks for the members beside another.
type AroundRequest struct {
	Above *int64 `json:"above,omitempty" minimum:"0" maximum:"500" default:"5" example:"5"` // how many with better ranks
	Below *int64 `json:"below,omitempty" minimum:"0" maximum:"500" default:"5" example:"5"` // how many with worse ranks
	Order string `json:"order,omitempty" enums:"desc,asc" default:"desc" example:"desc"`
}

// args are the request as LEADERBOARD.AROUND takes it.
func (r *AroundRequest) args(name, member []byte) ([][]byte, error) {
	order, err := orderArg("order", r.Order)
	if err != nil {
		return nil, err
	}
	above, err := within("above", r.Above, 5, 0, maxBeside)
	if err != nil {
		return nil, err
	}
	below, err := within("below", r.Below, 5, 0, maxBeside)
	return [][]byte{name, order, member, above, below}, err
}

// getAround serves GET /v1/caches/:cache/leaderboards/:name/members/:member/around.
//
// @Summary     The members above and below a member
// @Tags        leaderboards
// @Param       above query int false "how many with better ranks" minimum(0) maximum(500) default(5)
// @Param       below query int false "how many with worse ranks" minimum(0) maximum(500) default(5)
// @Param       order query string false "desc: the highest score first" Enums(desc, asc) default(desc)
// @Success     200 {object} MembersPage
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/members/{member}/around [get]
func (x *exchange) getAround() error {
	name, err := x.pathBytes("name")
	if err != nil {
		return err
	}
	member, err := x.pathBytes("member")
	if err != nil {
		return err
	}
	q := x.query()
	above, below := q.number("above", 5, 0, maxBeside), q.number("below", 5, 0, maxBeside)
	req := AroundRequest{Above: &above, Below: &below, Order: q.text("order", "")}
	if err := q.end(); err != nil {
		return err
	}
	args, err := req.args(name, member)
	if err != nil {
		return err
	}
	x.add(cmdBoardAround, args...)
	c, err := x.do()
	if err != nil {
		return err
	}
	page, err := readPage(&c)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, page)
}

// AmongRequest asks how some members rank among themselves.
type AmongRequest struct {
	Members []Bytes `json:"members" swaggertype:"array,string" minItems:"1" maxItems:"10000" example:"ann,bob"`
	Order   string  `json:"order,omitempty" enums:"desc,asc" default:"desc" example:"desc"`
}

// args are the request as LEADERBOARD.AMONG takes it.
func (r *AmongRequest) args(name []byte) ([][]byte, error) {
	order, err := orderArg("order", r.Order)
	if err != nil {
		return nil, err
	}
	return appendMembers([][]byte{name, order}, r.Members)
}

// StandingAmong is where a member stands on the leaderboard and among the members that were named.
type StandingAmong struct {
	Standing  `json:",inline"`
	RankAmong int64 `json:"rank_among" minimum:"1" example:"1"`
}

// MembersAmong are those of the named members that are on the leaderboard, the best first.
type MembersAmong struct {
	Members []StandingAmong `json:"members"`
}

// readAmong reads the answer of LEADERBOARD.AMONG.
func readAmong(c *engine.Cursor) (MembersAmong, error) {
	t := c.Next()
	if t.Kind == engine.ReplyError {
		return MembersAmong{}, t.Err
	}
	among := MembersAmong{Members: make([]StandingAmong, t.Int)}
	for i := range among.Members {
		var err error
		if among.Members[i].Standing, err = readStanding(c); err != nil {
			return MembersAmong{}, err
		}
		among.Members[i].RankAmong = c.Next().Int
	}
	return among, nil
}

// getAmong serves POST /v1/caches/:cache/leaderboards/:name/among.
//
// @Summary     Rank some members among themselves
// @Description A player's friends, say: each with the rank among those named, and with the rank on the whole board. It only reads; it is a POST because the list may be long.
// @Tags        leaderboards
// @Param       request body AmongRequest true "the members"
// @Success     200 {object} MembersAmong
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/leaderboards/{name}/among [post]
func (x *exchange) getAmong() error {
	name, err := x.boardName()
	if err != nil {
		return err
	}
	var req AmongRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	args, err := req.args(name)
	if err != nil {
		return err
	}
	x.add(cmdBoardAmong, args...)
	c, err := x.do()
	if err != nil {
		return err
	}
	among, err := readAmong(&c)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, among)
}
