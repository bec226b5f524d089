package httpapi

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/tenants"
)

const boardsPath = "/v1/caches/main/leaderboards"

// fill puts scores, given as member=score, one after the other.
func (c caller) fill(t testing.TB, board string, scores ...string) {
	t.Helper()
	for _, s := range scores {
		member, score, _ := strings.Cut(s, "=")
		c.do(t, "PUT", boardsPath+"/"+board+"/members/"+url.PathEscape(member), `{"score":`+score+`}`).want(t, 200)
	}
}

// brief writes the members of a page as "rank member score", with / between them.
func (a answer) brief(t testing.TB) string {
	t.Helper()
	a.want(t, 200)
	var page struct {
		Members []struct {
			Member any     `json:"member"`
			Score  float64 `json:"score"`
			Rank   int     `json:"rank"`
		} `json:"members"`
	}
	a.decode(t, &page)
	var parts []string
	for _, m := range page.Members {
		parts = append(parts, fmt.Sprintf("%d %v %v", m.Rank, m.Member, m.Score))
	}
	return strings.Join(parts, "/")
}

func TestLeaderboardFromItsBeginningToItsEnd(t *testing.T) {
	c := newTenant(t)
	one := boardsPath + "/season"
	c.do(t, "GET", one, nil).problem(t, 404, "not_found", "")
	c.do(t, "PUT", one, `{"ties":"first","ttl":"7d","keep":1000,"keep_order":"asc"}`).want(t, 200).
		json(t, `{"name":"season","size":0,"ttl_ms":604800000,"ties":"first","keep":1000,"keep_order":"asc"}`)
	c.do(t, "PUT", one, `{"keep":0}`).want(t, 200).
		json(t, `{"name":"season","size":0,"ttl_ms":604800000,"ties":"first","keep":0,"keep_order":"desc"}`)
	c.do(t, "PUT", one+"/members/ann", `{"score":12.5}`).want(t, 200).
		json(t, `{"member":"ann","score":12.5,"rank":1,"competition_rank":1,"dense_rank":1,"percentile":100}`)
	c.do(t, "PUT", one+"/members/bob", `{"score":10}`).want(t, 200).
		json(t, `{"member":"bob","score":10,"rank":2,"competition_rank":2,"dense_rank":2,"percentile":50}`)
	c.do(t, "PUT", one+"/members/bob?order=asc", `{"score":10}`).want(t, 200).
		json(t, `{"member":"bob","score":10,"rank":1,"competition_rank":1,"dense_rank":1,"percentile":100}`)
	c.do(t, "PUT", one, `{"ties":"last"}`).problem(t, 409, "conflict", "ties")
	c.do(t, "GET", one, nil).want(t, 200).json(t, `{"name":"season","size":2,"ttl_ms":604800000,"ties":"first","keep":0,"keep_order":"desc"}`)

	c.do(t, "GET", one+"/members/ann", nil).want(t, 200).
		json(t, `{"member":"ann","score":12.5,"rank":1,"competition_rank":1,"dense_rank":1,"percentile":100}`)
	c.do(t, "GET", one+"/members/ann?order=asc", nil).want(t, 200).
		json(t, `{"member":"ann","score":12.5,"rank":2,"competition_rank":2,"dense_rank":2,"percentile":50}`)
	c.do(t, "GET", one+"/members/eve", nil).problem(t, 404, "not_found", "")
	c.do(t, "DELETE", one+"/members/eve", nil).problem(t, 404, "not_found", "")
	c.do(t, "DELETE", one+"/members/ann", nil).want(t, 204)
	c.do(t, "DELETE", one+"/members/bob", nil).want(t, 204)
	c.do(t, "GET", one, nil).want(t, 200).json(t, `{"name":"season","size":0,"ttl_ms":604800000,"ties":"first","keep":0,"keep_order":"desc"}`)
	c.do(t, "DELETE", one, nil).want(t, 204)
	c.do(t, "DELETE", one, nil).problem(t, 404, "not_found", "")
	c.do(t, "GET", one, nil).problem(t, 404, "not_found", "")
	c.do(t, "PUT", one, nil).want(t, 200).json(t, `{"name":"season","size":0,"ttl_ms":null,"ties":"member","keep":0,"keep_order":"desc"}`)
}

func TestLeaderboardTTL(t *testing.T) {
	c := newTenant(t)
	one := boardsPath + "/daily"
	for _, r := range []struct {
		method string
		body   any
	}{{"GET", nil}, {"PUT", `{"ttl":"1h"}`}, {"DELETE", nil}} {
		c.do(t, r.method, one+"/ttl", r.body).problem(t, 404, "not_found", "")
	}
	// Only the put that makes the board sets its TTL.
	c.do(t, "PUT", one+"/members/ann", `{"score":1,"mode":"increment","ttl":"1h"}`).want(t, 200)
	c.clock.advance(time.Minute)
	c.do(t, "POST", one+"/members", `{"ttl":"1h","members":[{"member":"ann","score":1}]}`).want(t, 200)
	c.do(t, "GET", one+"/ttl", nil).want(t, 200).json(t, `{"ttl_ms":3540000}`)
	c.do(t, "PUT", one+"/ttl", `{"ttl":"90s"}`).want(t, 200).json(t, `{"ttl_ms":90000}`)
	c.do(t, "GET", one, nil).want(t, 200).json(t, `{"name":"daily","size":1,"ttl_ms":90000,"ties":"member","keep":0,"keep_order":"desc"}`)
	c.do(t, "DELETE", one+"/ttl", nil).want(t, 204)
	c.do(t, "GET", one+"/ttl", nil).want(t, 200).json(t, `{"ttl_ms":null}`)
	c.clock.advance(100 * time.Second)
	c.do(t, "PUT", one+"/ttl", `{"ttl":"1s"}`).want(t, 200)
	c.clock.advance(999 * time.Millisecond)
	c.do(t, "GET", one+"/members/ann", nil).want(t, 200)
	c.clock.advance(time.Millisecond)
	c.do(t, "GET", one+"/members/ann", nil).problem(t, 404, "not_found", "")
	c.do(t, "GET", one, nil).problem(t, 404, "not_found", "")
	c.do(t, "GET", one+"/members", nil).want(t, 200).json(t, `{"members":[],"total":0,"next_cursor":""}`)

	// A new board lives as long as the cache says.
	short := "/v1/caches/" + c.newCache(t, tenants.Cache{DefaultTTLMs: 5000}) + "/leaderboards/b"
	c.do(t, "PUT", short+"/members/ann", `{"score":1}`).want(t, 200)
	c.do(t, "GET", short+"/ttl", nil).want(t, 200).json(t, `{"ttl_ms":5000}`)
}

func TestLeaderboardModes(t *testing.T) {
	c := newTenant(t)
	tests := []struct {
		mode string
		put  string
		want float64
	}{
		{"set", "5", 5}, {"", "7", 7}, {"set", "-3", -3}, {"increment", "10", 7}, {"increment", "-0.5", 6.5},
		{"max", "6", 6.5}, {"max", "8", 8}, {"min", "9", 8}, {"min", "2", 2}, {"increment", `"1e2"`, 102},
	}
	for i, tt := range tests {
		mode := ""
		if tt.mode != "" {
			mode = `,"mode":"` + tt.mode + `"`
		}
		a := c.do(t, "PUT", boardsPath+"/modes/members/ann", `{"score":`+tt.put+mode+`}`).want(t, 200)
		if got := a.object(t)["score"]; got != tt.want {
			t.Errorf("step %d: %s %s gives %v, want %v", i, tt.mode, tt.put, got, tt.want)
		}
	}
	for i, mode := range []string{"set", "increment", "max", "min"} { // on members that are not there
		a := c.do(t, "PUT", boardsPath+"/modes/members/new"+strconv.Itoa(i), `{"score":-4,"mode":"`+mode+`"}`).want(t, 200)
		if got := a.object(t)["score"]; got != -4.0 {
			t.Errorf("%s on a new member gives %v", mode, got)
		}
	}
}

func TestLeaderboardRanks(t *testing.T) {
	c := newTenant(t)
	scores := []string{"dan=10", "ann=30", "eve=20", "bob=20", "cat=20", "fay=5"}
	tests := []struct {
		ties, order string
		want        string // rank, competition rank and dense rank of each
	}{
		{"member", "desc", "ann 1 1 1/bob 2 2 2/cat 3 2 2/eve 4 2 2/dan 5 5 3/fay 6 6 4"},
		{"member", "asc", "fay 1 1 1/dan 2 2 2/bob 3 3 3/cat 4 3 3/eve 5 3 3/ann 6 6 4"},
		{"first", "desc", "ann 1 1 1/eve 2 2 2/bob 3 2 2/cat 4 2 2/dan 5 5 3/fay 6 6 4"},
		{"first", "asc", "fay 1 1 1/dan 2 2 2/eve 3 3 3/bob 4 3 3/cat 5 3 3/ann 6 6 4"},
		{"last", "desc", "ann 1 1 1/cat 2 2 2/bob 3 2 2/eve 4 2 2/dan 5 5 3/fay 6 6 4"},
		{"last", "asc", "fay 1 1 1/dan 2 2 2/cat 3 3 3/bob 4 3 3/eve 5 3 3/ann 6 6 4"},
	}
	for _, tt := range tests {
		t.Run(tt.ties+" "+tt.order, func(t *testing.T) {
			one := boardsPath + "/" + tt.ties
			c.do(t, "PUT", one, `{}`).want(t, 200)
			if tt.order == "desc" {
				c.do(t, "PUT", one, `{"ties":"`+tt.ties+`"}`).want(t, 200)
				c.fill(t, tt.ties, scores...)
			}
			var page struct {
				Members []struct {
					Member          string  `json:"member"`
					Rank            int     `json:"rank"`
					CompetitionRank int     `json:"competition_rank"`
					DenseRank       int     `json:"dense_rank"`
					Percentile      float64 `json:"percentile"`
				} `json:"members"`
				Total int `json:"total"`
			}
			c.do(t, "GET", one+"/members?order="+tt.order, nil).want(t, 200).decode(t, &page)
			var got []string
			for _, m := range page.Members {
				got = append(got, fmt.Sprintf("%s %d %d %d", m.Member, m.Rank, m.CompetitionRank, m.DenseRank))
				if want := 100 * float64(page.Total-m.CompetitionRank+1) / float64(page.Total); m.Percentile != want {
					t.Errorf("%s is in percentile %v, want %v", m.Member, m.Percentile, want)
				}
				var alone struct {
					Rank            int `json:"rank"`
					CompetitionRank int `json:"competition_rank"`
					DenseRank       int `json:"dense_rank"`
				}
				c.do(t, "GET", one+"/members/"+m.Member+"?order="+tt.order, nil).want(t, 200).decode(t, &alone)
				if alone.Rank != m.Rank || alone.CompetitionRank != m.CompetitionRank || alone.DenseRank != m.DenseRank {
					t.Errorf("%s alone is %+v, on the page %+v", m.Member, alone, m)
				}
			}
			if s := strings.Join(got, "/"); s != tt.want {
				t.Errorf("\n got %s\nwant %s", s, tt.want)
			}
		})
	}
}

func TestLeaderboardPages(t *testing.T) {
	c := newTenant(t)
	c.fill(t, "b", "a=1", "b=2", "c=3", "d=4", "e=5")
	one := boardsPath + "/b/members"
	tests := []struct {
		name, query, want string
		total             int
		cursor            string
	}{
		{"all", "", "1 e 5/2 d 4/3 c 3/4 b 2/5 a 1", 5, ""},
		{"from the bottom", "order=asc", "1 a 1/2 b 2/3 c 3/4 d 4/5 e 5", 5, ""},
		{"the top", "limit=2", "1 e 5/2 d 4", 5, "2"},
		{"the middle", "limit=2&offset=2", "3 c 3/4 b 2", 5, "4"},
		{"the rest by cursor", "limit=2&cursor=4", "5 a 1", 5, ""},
		{"exactly to the end", "limit=2&offset=3", "4 b 2/5 a 1", 5, ""},
		{"behind the end", "offset=5", "", 5, ""},
		{"far behind the end", "offset=9007199254740992", "", 5, ""},
		{"the longest", "limit=1000", "1 e 5/2 d 4/3 c 3/4 b 2/5 a 1", 5, ""},
		{"scores from 3", "min_score=3", "1 e 5/2 d 4/3 c 3", 3, ""},
		{"scores above 3", "min_score=(3", "1 e 5/2 d 4", 2, ""},
		{"scores to 3", "max_score=3", "3 c 3/4 b 2/5 a 1", 3, ""},
		{"scores below 3, ascending", "max_score=(3&order=asc", "1 a 1/2 b 2", 2, ""},
		{"between", "min_score=1.5&max_score=4e0", "2 d 4/3 c 3/4 b 2", 3, ""},
		{"between, in parts", "min_score=2&max_score=4&limit=1&offset=1", "3 c 3", 3, "2"},
		{"any", "min_score=-inf&max_score=%2Binf", "1 e 5/2 d 4/3 c 3/4 b 2/5 a 1", 5, ""},
		{"nothing between", "min_score=4&max_score=3", "", 0, ""},
		{"nothing there", "min_score=6", "", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := c.do(t, "GET", one+"?"+tt.query, nil)
			if got := a.brief(t); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
			o := a.object(t)
			if o["total"] != float64(tt.total) || o["next_cursor"] != tt.cursor {
				t.Errorf("total %v and cursor %v, want %d and %q", o["total"], o["next_cursor"], tt.total, tt.cursor)
			}
		})
	}
	c.do(t, "GET", boardsPath+"/nobody/members", nil).want(t, 200).json(t, `{"members":[],"total":0,"next_cursor":""}`)
}

func TestLeaderboardAroundAndAmong(t *testing.T) {
	c := newTenant(t)
	c.fill(t, "b", "a=1", "b=2", "c=3", "d=4", "e=5", "f=6", "g=7")
	one := boardsPath + "/b"
	for _, tt := range []struct{ query, want string }{
		{"d/around?above=1&below=2", "3 e 5/4 d 4/5 c 3/6 b 2"},
		{"d/around?above=1&below=2&order=asc", "3 c 3/4 d 4/5 e 5/6 f 6"},
		{"d/around", "1 g 7/2 f 6/3 e 5/4 d 4/5 c 3/6 b 2/7 a 1"},
		{"g/around?above=3&below=1", "1 g 7/2 f 6"},
		{"a/around?above=1&below=3", "6 b 2/7 a 1"},
		{"d/around?above=0&below=0", "4 d 4"},
		{"d/around?above=500&below=500", "1 g 7/2 f 6/3 e 5/4 d 4/5 c 3/6 b 2/7 a 1"},
	} {
		a := c.do(t, "GET", one+"/members/"+tt.query, nil)
		if got := a.brief(t); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.query, got, tt.want)
		}
		if o := a.object(t); o["total"] != 7.0 || o["next_cursor"] != "" {
			t.Errorf("%s: %s", tt.query, a.body)
		}
	}
	c.do(t, "GET", one+"/members/zed/around", nil).problem(t, 404, "not_found", "")
	c.do(t, "GET", boardsPath+"/nobody/members/zed/around", nil).problem(t, 404, "not_found", "")

	standing := func(member string, score, rank, among int) string {
		return fmt.Sprintf(`{"member":%q,"score":%d,"rank":%d,"competition_rank":%d,"dense_rank":%d,"percentile":%v,"rank_among":%d}`,
			member, score, rank, rank, rank, 100*float64(7-rank+1)/7, among)
	}
	c.do(t, "POST", one+"/among", `{"members":["b","zed","f","d","b"]}`).want(t, 200).
		json(t, `{"members":[`+standing("f", 6, 2, 1)+`,`+standing("d", 4, 4, 2)+`,`+standing("b", 2, 6, 3)+`]}`)
	c.do(t, "POST", one+"/among", `{"members":["b","f"],"order":"asc"}`).want(t, 200).
		json(t, `{"members":[`+standing("b", 2, 2, 1)+`,`+standing("f", 6, 6, 2)+`]}`)
	c.do(t, "POST", one+"/among", `{"members":["zed"]}`).want(t, 200).json(t, `{"members":[]}`)
	c.do(t, "POST", boardsPath+"/nobody/among", `{"members":["zed"]}`).want(t, 200).json(t, `{"members":[]}`)
}

func TestLeaderboardRemoveTrimKeep(t *testing.T) {
	c := newTenant(t)
	one := boardsPath + "/b"
	c.fill(t, "b", "a=1", "b=2", "c=3", "d=4", "e=5", "f=6")
	c.do(t, "POST", one+"/members/remove", `{"members":["b","zed","b","e"]}`).want(t, 200).json(t, `{"removed":2}`)
	c.do(t, "POST", one+"/trim", `{"keep":3}`).want(t, 200).json(t, `{"removed":1}`)
	if got := c.do(t, "GET", one+"/members", nil).brief(t); got != "1 f 6/2 d 4/3 c 3" {
		t.Errorf("left: %s", got)
	}
	c.do(t, "POST", one+"/trim", `{"keep":3,"order":"asc"}`).want(t, 200).json(t, `{"removed":0}`)
	c.do(t, "POST", one+"/trim", `{"keep":1,"order":"asc"}`).want(t, 200).json(t, `{"removed":2}`)
	if got := c.do(t, "GET", one+"/members", nil).brief(t); got != "1 c 3" {
		t.Errorf("left: %s", got)
	}
	c.do(t, "POST", one+"/trim", `{"keep":0}`).want(t, 200).json(t, `{"removed":1}`)
	c.do(t, "GET", one, nil).problem(t, 404, "not_found", "") // it had no settings that would keep it
	c.do(t, "POST", one+"/trim", `{"keep":5}`).want(t, 200).json(t, `{"removed":0}`)
	c.do(t, "POST", one+"/members/remove", `{"members":["a"]}`).want(t, 200).json(t, `{"removed":0}`)

	// A board that keeps its best two: who is not among them is let go at once, and told so.
	c.do(t, "PUT", boardsPath+"/top", `{"keep":2}`).want(t, 200)
	c.fill(t, "top", "a=1", "b=2", "c=3")
	c.do(t, "PUT", boardsPath+"/top/members/d", `{"score":0.5}`).want(t, 200).
		json(t, `{"member":"d","score":0.5,"rank":0,"competition_rank":0,"dense_rank":0,"percentile":0}`)
	c.do(t, "GET", boardsPath+"/top/members/d", nil).problem(t, 404, "not_found", "")
	c.do(t, "POST", boardsPath+"/top/members", `{"members":[{"member":"x","score":9},{"member":"y","score":8},{"member":"z","score":7}]}`).want(t, 200)
	if got := c.do(t, "GET", boardsPath+"/top/members", nil).brief(t); got != "1 x 9/2 y 8" {
		t.Errorf("kept: %s", got)
	}
}

func TestLeaderboardManyMembersAreAllOrNone(t *testing.T) {
	c := newTenant(t)
	one := boardsPath + "/b"
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,{"member":"m%05d","score":%d}`, i, i)
		}
		return `{"members":[` + b.String()[1:] + `]}`
	}
	c.do(t, "POST", one+"/members", many(10_001)).problem(t, 400, "out_of_range", "members").detail(t, "10000", "10001")
	c.do(t, "GET", one, nil).want(t, 404)
	c.do(t, "POST", one+"/members", many(10_000)).want(t, 200).json(t, `{"added":10000,"changed":0,"total":10000}`)
	c.do(t, "POST", one+"/members", many(10_000)).want(t, 200).json(t, `{"added":0,"changed":0,"total":10000}`)
	c.do(t, "GET", one+"/members/m00000", nil).want(t, 200).
		json(t, `{"member":"m00000","score":0,"rank":10000,"competition_rank":10000,"dense_rank":10000,"percentile":0.01}`)
	var names []string
	for i := range 10_001 {
		names = append(names, fmt.Sprintf("m%05d", i))
	}
	list := func(n int) map[string]any { return map[string]any{"members": names[:n]} }
	c.do(t, "POST", one+"/among", list(10_001)).problem(t, 400, "out_of_range", "members")
	c.do(t, "POST", one+"/among", list(10_000)).want(t, 200)
	c.do(t, "POST", one+"/members/remove", list(10_001)).problem(t, 400, "out_of_range", "members")
	c.do(t, "POST", one+"/members/remove", list(10_000)).want(t, 200).json(t, `{"removed":10000}`)

	c.fill(t, "c", "a=1", "b=1.7e308")
	two := boardsPath + "/c"
	c.do(t, "POST", two+"/members", `{"mode":"increment","members":[{"member":"a","score":5},{"member":"b","score":1e308},{"member":"d","score":1}]}`).
		problem(t, 409, "overflow", "score")
	c.do(t, "POST", two+"/members", `{"members":[{"member":"a","score":5},{"member":"b"}]}`).problem(t, 400, "invalid_argument", "members[1].score")
	c.do(t, "PUT", two+"/members/b", `{"mode":"increment","score":1e308}`).problem(t, 409, "overflow", "score")
	if got := c.do(t, "GET", two+"/members", nil).brief(t); got != "1 b 1.7e+308/2 a 1" {
		t.Errorf("a put that failed left %s", got)
	}
	c.do(t, "POST", two+"/members", `{"mode":"increment","members":[{"member":"a","score":1},{"member":"a","score":"2"},{"member":"n","score":-1}]}`).
		want(t, 200).json(t, `{"added":1,"changed":2,"total":3}`)
	c.do(t, "GET", two+"/members/a", nil).want(t, 200).json(t, `{"member":"a","score":4,"rank":2,"competition_rank":2,"dense_rank":2,"percentile":66.66666666666667}`)
}

func TestLeaderboardScores(t *testing.T) {
	c := newTenant(t)
	one := boardsPath + "/scores/members/ann"
	for _, tt := range []struct{ put, want string }{
		{`0`, `0`}, {`-0`, `0`}, {`-0.0`, `0`}, {`"12.5"`, `12.5`}, {`1e3`, `1000`}, {`"1E3"`, `1000`}, {`"-7"`, `-7`}, {`"+7"`, `7`},
		{`9007199254740993`, `9007199254740992`}, {`100000000000000000000`, `100000000000000000000`}, {`1e21`, `1e+21`},
		{`1.7976931348623157e308`, `1.7976931348623157e+308`}, {`5e-324`, `5e-324`}, {`1e-400`, `0`}, {`0.1`, `0.1`},
		{`0.1000000000000000055511151231257827`, `0.1`},
	} {
		if a := c.do(t, "PUT", one, `{"score":`+tt.put+`}`).want(t, 200); !bytes.Contains(a.body, []byte(`"score":`+tt.want+`,`)) {
			t.Errorf("%s became %s, want %s", tt.put, a.body, tt.want)
		}
		if a := c.do(t, "GET", one, nil).want(t, 200); !bytes.Contains(a.body, []byte(`"score":`+tt.want+`,`)) {
			t.Errorf("%s was read as %s, want %s", tt.put, a.body, tt.want)
		}
	}
	c.do(t, "PUT", one, `{"score":1}`).want(t, 200)
	for _, bad := range []string{`1e309`, `-1e309`, `"1e309"`, `"NaN"`, `"nan"`, `"Infinity"`, `"-inf"`, `"0x10"`, `"1_000"`, `"1,5"`, `""`, `" 1"`, `"1 "`, `"one"`, `null`, `true`, `[]`, `{}`} {
		a := c.do(t, "PUT", one, `{"score":`+bad+`}`)
		a.problem(t, 400, "invalid_argument", "score")
		if bad != "null" {
			c.do(t, "POST", boardsPath+"/scores/members", `{"members":[{"member":"a","score":1},{"member":"b","score":`+bad+`}]}`).
				problem(t, 400, "invalid_argument", "members[1].score")
		}
	}
	for _, bad := range []string{`NaN`, `Infinity`, `-Infinity`, `1.`, `.5`, `+1`, `01`, `0x10`} { // no JSON at all
		c.do(t, "PUT", one, `{"score":`+bad+`}`).problem(t, 400, "invalid_argument", "body")
	}
	if a := c.do(t, "GET", one, nil).want(t, 200); !bytes.Contains(a.body, []byte(`"score":1,`)) {
		t.Errorf("a bad score was put: %s", a.body)
	}
}

// Other protocols know infinite scores; JSON does not.
func TestLeaderboardInfiniteScoresOfOthers(t *testing.T) {
	c := newTenant(t)
	c.do(t, "POST", "/v1/caches/main/commands", []any{[]any{"ZADD", "b", "+inf", "top", "-inf", "bottom", "1", "ann"}}).want(t, 200)
	var page struct{ Members []struct{ Score any } }
	c.do(t, "GET", boardsPath+"/b/members", nil).want(t, 200).decode(t, &page)
	if got := fmt.Sprint(page); got != "{[{+Inf} {1} {-Inf}]}" {
		t.Errorf("scores are %s", got)
	}
	c.do(t, "PUT", boardsPath+"/b/members/top", `{"score":1,"mode":"increment"}`).problem(t, 409, "overflow", "score")
	c.do(t, "PUT", boardsPath+"/b/members/top", `{"score":1,"mode":"min"}`).want(t, 200).
		json(t, `{"member":"top","score":1,"rank":2,"competition_rank":1,"dense_rank":1,"percentile":100}`)
}

// Members have any name, also those that the routes use and those that paths must encode.
func TestLeaderboardMembersOfAnyName(t *testing.T) {
	c := newTenant(t)
	one := boardsPath + "/" + url.PathEscape("a/b ü?#%") + "/members"
	names := []string{"remove", "around", "members", "a/b", "a/around", ".", "..", "/", "%2F", "漢字", " ", "\x00", "\xff\xfe", "a?b#c", strings.Repeat("m", 4096)}
	for i, name := range names {
		at := one + "/" + url.PathEscape(name)
		c.do(t, "PUT", at, `{"score":`+strconv.Itoa(i)+`}`).want(t, 200)
		c.do(t, "GET", at, nil).want(t, 200)
		c.do(t, "GET", at+"/around?above=0&below=0", nil).want(t, 200)
	}
	var page struct{ Members []struct{ Member any } }
	c.do(t, "GET", one+"?order=asc", nil).want(t, 200).decode(t, &page)
	if len(page.Members) != len(names) {
		t.Fatalf("%d members, want %d", len(page.Members), len(names))
	}
	for i, m := range page.Members {
		want := any(names[i])
		if names[i] == "\xff\xfe" {
			want = map[string]any{"base64": "//4="}
		}
		if fmt.Sprint(m.Member) != fmt.Sprint(want) {
			t.Errorf("%q is shown as %v", names[i], m.Member)
		}
	}
	c.do(t, "POST", one+"/remove", `{"members":["remove",{"base64":"//4="}]}`).want(t, 200).json(t, `{"removed":2}`)
	c.do(t, "DELETE", one+"/"+url.PathEscape("a/b"), nil).want(t, 204)
	longest := strings.Repeat("m", engine.MaxKey)
	c.do(t, "POST", one, `{"members":[{"member":"`+longest+`","score":1}]}`).want(t, 200)
	c.do(t, "POST", one, `{"members":[{"member":"`+longest+`m","score":1}]}`).problem(t, 413, "too_large", "members[0].member").detail(t, "32768", "32769")
}

func TestLeaderboardList(t *testing.T) {
	c := newTenant(t)
	c.do(t, "GET", boardsPath, nil).want(t, 200).json(t, `{"leaderboards":[],"next_cursor":""}`)
	want := map[string]bool{}
	for i := range 300 {
		name := fmt.Sprintf("season:%03d", i)
		c.do(t, "POST", boardsPath+"/"+name+"/members", `{"ttl":"1h","members":[{"member":"a","score":1},{"member":"b","score":2}]}`).want(t, 200)
		want[name] = true
	}
	c.do(t, "PUT", boardsPath+"/other", `{}`).want(t, 200)
	c.do(t, "PUT", "/v1/caches/main/kv/season:string", "no board").want(t, 201)
	list := func(query string) map[string]bool {
		t.Helper()
		got := map[string]bool{}
		for cursor := ""; ; {
			var page LeaderboardList
			c.do(t, "GET", boardsPath+"?"+query+"&cursor="+cursor, nil).want(t, 200).decodeOurs(t, &page)
			for _, b := range page.Leaderboards {
				got[string(b.Name)] = true
				if strings.HasPrefix(string(b.Name), "season") && (b.Size != 2 || b.TTLMs == nil || *b.TTLMs != 3_600_000) {
					t.Errorf("%s has %d members and the TTL %v", b.Name, b.Size, b.TTLMs)
				}
			}
			if cursor = page.NextCursor; cursor == "" {
				return got
			}
		}
	}
	equal := func(got, want map[string]bool) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("listed %d, want %d: %v", len(got), len(want), got)
		}
	}
	equal(list("prefix=season:&limit=7"), want)
	equal(list("prefix=season:01&limit=1000"), map[string]bool{"season:010": true, "season:011": true, "season:012": true, "season:013": true, "season:014": true,
		"season:015": true, "season:016": true, "season:017": true, "season:018": true, "season:019": true})
	want["other"] = true
	equal(list("limit=50"), want)
	c.clock.advance(time.Hour)
	equal(list("limit=50"), map[string]bool{"other": true})
}

func TestLeaderboardBadInput(t *testing.T) {
	c := newTenant(t)
	c.fill(t, "b", "ann=1")
	const one, ann = boardsPath + "/b", boardsPath + "/b/members/ann"
	long := strings.Repeat("n", engine.MaxKey+1)
	tests := []struct {
		name, method, path, body string
		status                   int
		code, argument           string
	}{
		{"ties that there are not", "PUT", one, `{"ties":"lucky"}`, 400, "invalid_argument", "ties"},
		{"ties that are a number", "PUT", one, `{"ties":1}`, 400, "invalid_argument", "ties"},
		{"a TTL of nothing", "PUT", one, `{"ttl":"0s"}`, 400, "out_of_range", "ttl"},
		{"a TTL that is none", "PUT", one, `{"ttl":"tomorrow"}`, 400, "invalid_argument", "ttl"},
		{"fewer than none to keep", "PUT", one, `{"keep":-1}`, 400, "out_of_range", "keep"},
		{"too many to keep", "PUT", one, `{"keep":2147483648}`, 400, "out_of_range", "keep"},
		{"a fraction to keep", "PUT", one, `{"keep":1.5}`, 400, "invalid_argument", "keep"},
		{"an order to keep by that there is not", "PUT", one, `{"keep":1,"keep_order":"up"}`, 400, "invalid_argument", "keep_order"},
		{"an order to keep by, and nothing to keep", "PUT", one, `{"keep_order":"asc"}`, 400, "invalid_argument", "keep_order"},
		{"an unknown setting", "PUT", one, `{"size":5}`, 400, "invalid_argument", "size"},
		{"an unknown parameter", "PUT", one + "?ttl=5", `{}`, 400, "invalid_argument", "ttl"},
		{"settings that are a list", "PUT", one, `[]`, 400, "invalid_argument", "body"},
		{"an unknown parameter of info", "GET", one + "?x", ``, 400, "invalid_argument", "x"},
		{"an unknown parameter of a deletion", "DELETE", one + "?x=1", ``, 400, "invalid_argument", "x"},

		{"no TTL", "PUT", one + "/ttl", `{}`, 400, "invalid_argument", "ttl"},
		{"a TTL of null", "PUT", one + "/ttl", `{"ttl":null}`, 400, "invalid_argument", "ttl"},
		{"a TTL beyond a hundred years", "PUT", one + "/ttl", `{"ttl":"36501d"}`, 400, "out_of_range", "ttl"},

		{"no score", "PUT", ann, `{}`, 400, "invalid_argument", "score"},
		{"no body", "PUT", ann, ``, 400, "invalid_argument", "score"},
		{"a mode that there is not", "PUT", ann, `{"score":1,"mode":"add"}`, 400, "invalid_argument", "mode"},
		{"a mode in capitals", "PUT", ann, `{"score":1,"mode":"SET"}`, 400, "invalid_argument", "mode"},
		{"an order that there is not", "PUT", ann + "?order=up", `{"score":1}`, 400, "invalid_argument", "order"},
		{"a member in the body too", "PUT", ann, `{"score":1,"member":"bob"}`, 400, "invalid_argument", "member"},
		{"half a body", "PUT", ann, `{"score":`, 400, "invalid_argument", "body"},

		{"no members", "POST", one + "/members", `{}`, 400, "out_of_range", "members"},
		{"an empty list", "POST", one + "/members", `{"members":[]}`, 400, "out_of_range", "members"},
		{"members that are no list", "POST", one + "/members", `{"members":{}}`, 400, "invalid_argument", "members"},
		{"a member that is a number", "POST", one + "/members", `{"members":[{"member":5,"score":1}]}`, 400, "invalid_argument", "members[0].member"},
		{"a member without a name", "POST", one + "/members", `{"members":[{"score":1}]}`, 400, "invalid_argument", "members[0].member"},
		{"a member with an empty name", "POST", one + "/members", `{"members":[{"member":"","score":1}]}`, 400, "invalid_argument", "members[0].member"},
		{"a member with a rank", "POST", one + "/members", `{"members":[{"member":"a","score":1,"rank":1}]}`, 400, "invalid_argument", "members[0].rank"},
		{"a mode of many that there is not", "POST", one + "/members", `{"mode":"avg","members":[{"member":"a","score":1}]}`, 400, "invalid_argument", "mode"},

		{"nothing to remove", "POST", one + "/members/remove", `{}`, 400, "out_of_range", "members"},
		{"removing a number", "POST", one + "/members/remove", `{"members":["a",5]}`, 400, "invalid_argument", "members[1]"},
		{"removing what is empty", "POST", one + "/members/remove", `{"members":[""]}`, 400, "invalid_argument", "members[0]"},
		{"removing what is too long", "POST", one + "/members/remove", `{"members":["` + long + `"]}`, 413, "too_large", "members[0]"},

		{"an empty page", "GET", one + "/members?limit=0", ``, 400, "out_of_range", "limit"},
		{"a page that is too long", "GET", one + "/members?limit=1001", ``, 400, "out_of_range", "limit"},
		{"a limit that is none", "GET", one + "/members?limit=ten", ``, 400, "invalid_argument", "limit"},
		{"a negative offset", "GET", one + "/members?offset=-1", ``, 400, "out_of_range", "offset"},
		{"an offset beyond the exact", "GET", one + "/members?offset=9007199254740993", ``, 400, "out_of_range", "offset"},
		{"an offset beyond 64 bits", "GET", one + "/members?offset=99999999999999999999", ``, 400, "invalid_argument", "offset"},
		{"a cursor and an offset", "GET", one + "/members?offset=1&cursor=1", ``, 400, "invalid_argument", "cursor"},
		{"a cursor that is none", "GET", one + "/members?cursor=abc", ``, 400, "invalid_argument", "cursor"},
		{"a negative cursor", "GET", one + "/members?cursor=-1", ``, 400, "invalid_argument", "cursor"},
		{"an order of pages that there is not", "GET", one + "/members?order=DESC", ``, 400, "invalid_argument", "order"},
		{"a lowest score that is none", "GET", one + "/members?min_score=low", ``, 400, "invalid_argument", "min_score"},
		{"a lowest score of NaN", "GET", one + "/members?min_score=nan", ``, 400, "invalid_argument", "min_score"},
		{"a highest score in brackets", "GET", one + "/members?max_score=((5", ``, 400, "invalid_argument", "max_score"},
		{"a highest score beyond numbers", "GET", one + "/members?max_score=1e999", ``, 400, "invalid_argument", "max_score"},
		{"a limit twice", "GET", one + "/members?limit=1&limit=2", ``, 400, "invalid_argument", "limit"},

		{"too many above", "GET", ann + "/around?above=501", ``, 400, "out_of_range", "above"},
		{"fewer than none below", "GET", ann + "/around?below=-1", ``, 400, "out_of_range", "below"},
		{"an order around that there is not", "GET", ann + "/around?order=up", ``, 400, "invalid_argument", "order"},
		{"nobody among", "POST", one + "/among", `{"members":[]}`, 400, "out_of_range", "members"},
		{"an order among that there is not", "POST", one + "/among", `{"members":["a"],"order":"up"}`, 400, "invalid_argument", "order"},
		{"a trim to nothing named", "POST", one + "/trim", `{}`, 400, "invalid_argument", "keep"},
		{"a trim to fewer than none", "POST", one + "/trim", `{"keep":-1}`, 400, "out_of_range", "keep"},
		{"a trim in an order that there is not", "POST", one + "/trim", `{"keep":1,"order":"up"}`, 400, "invalid_argument", "order"},

		{"a list with a cursor that is none", "GET", boardsPath + "?cursor=x", ``, 400, "invalid_argument", "cursor"},
		{"a list that is too long", "GET", boardsPath + "?limit=1001", ``, 400, "out_of_range", "limit"},
		{"a list by pattern", "GET", boardsPath + "?match=*", ``, 400, "invalid_argument", "match"},

		{"no such cache", "GET", "/v1/caches/nowhere/leaderboards/b", ``, 404, "not_found", "cache"},
		{"a method that there is not", "PATCH", one, `{}`, 405, "method_not_allowed", ""},
		{"posting a member", "POST", ann, `{}`, 405, "method_not_allowed", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var body any
			if tt.body != "" || tt.method == "PUT" {
				body = tt.body
			}
			c.do(t, tt.method, tt.path, body).problem(t, tt.status, tt.code, tt.argument)
		})
	}
	c.do(t, "GET", one+"/members", nil).want(t, 200).
		json(t, `{"members":[{"member":"ann","score":1,"rank":1,"competition_rank":1,"dense_rank":1,"percentile":100}],"total":1,"next_cursor":""}`)
	c.do(t, "PUT", one, `{"keep":2147483647}`).want(t, 200)
	c.do(t, "POST", one+"/trim", `{"keep":2147483647}`).want(t, 200)
}

func TestLeaderboardNameOfAnotherType(t *testing.T) {
	c := newTenant(t)
	c.do(t, "PUT", "/v1/caches/main/kv/text", "no board").want(t, 201)
	const one = boardsPath + "/text"
	for _, r := range []struct{ method, path, body string }{
		{"PUT", one, `{}`}, {"GET", one, ``}, {"DELETE", one, ``},
		{"GET", one + "/ttl", ``}, {"PUT", one + "/ttl", `{"ttl":"1h"}`}, {"DELETE", one + "/ttl", ``},
		{"GET", one + "/members", ``}, {"POST", one + "/members", `{"members":[{"member":"a","score":1}]}`},
		{"POST", one + "/members/remove", `{"members":["a"]}`}, {"GET", one + "/members/a", ``},
		{"PUT", one + "/members/a", `{"score":1}`}, {"DELETE", one + "/members/a", ``},
		{"GET", one + "/members/a/around", ``}, {"POST", one + "/among", `{"members":["a"]}`}, {"POST", one + "/trim", `{"keep":1}`},
	} {
		var body any
		if r.body != "" {
			body = r.body
		}
		c.do(t, r.method, r.path, body).problem(t, 409, "wrong_type", "")
	}
	if a := c.do(t, "GET", "/v1/caches/main/kv/text", nil).want(t, 200); string(a.body) != "no board" {
		t.Errorf("the value is %q now", a.body)
	}
	c.fill(t, "b", "a=1")
	c.do(t, "GET", "/v1/caches/main/kv/b", nil).problem(t, 409, "wrong_type", "")
}

// Each route needs just these actions: with them it is allowed, and with all others but one of them it is not.
func TestLeaderboardRights(t *testing.T) {
	owner := newTenant(t)
	const one = boardsPath + "/b"
	every := []string{"Create", "Upsert", "Increment", "Remove", "GetRank", "FetchByRank", "FetchByScore", "Length", "Delete", "List"}
	tests := []struct {
		method, path, body string
		needs              []string
	}{
		{"PUT", one, `{}`, []string{"Create"}},
		{"GET", one, ``, []string{"Length"}},
		{"GET", one + "/ttl", ``, []string{"Length"}},
		{"PUT", one + "/ttl", `{"ttl":"1h"}`, []string{"Create"}},
		{"DELETE", one + "/ttl", ``, []string{"Create"}},
		{"PUT", one + "/members/ann", `{"score":1}`, []string{"Upsert", "GetRank"}},
		{"PUT", one + "/members/ann", `{"score":1,"mode":"max"}`, []string{"Upsert", "GetRank"}},
		{"PUT", one + "/members/ann", `{"score":0,"mode":"increment"}`, []string{"Increment", "GetRank"}},
		{"POST", one + "/members", `{"members":[{"member":"ann","score":1}]}`, []string{"Upsert"}},
		{"POST", one + "/members", `{"mode":"increment","members":[{"member":"ann","score":0}]}`, []string{"Increment"}},
		{"GET", one + "/members/ann", ``, []string{"GetRank"}},
		{"GET", one + "/members/ann/around", ``, []string{"GetRank"}},
		{"POST", one + "/among", `{"members":["ann"]}`, []string{"GetRank"}},
		{"GET", one + "/members", ``, []string{"FetchByRank"}},
		{"GET", one + "/members?min_score=0", ``, []string{"FetchByScore"}},
		{"POST", one + "/members/remove", `{"members":["zed"]}`, []string{"Remove"}},
		{"POST", one + "/trim", `{"keep":10}`, []string{"Remove"}},
		{"GET", boardsPath, ``, []string{"List"}},
		{"DELETE", one, ``, []string{"Delete"}},
	}
	callers := map[string]caller{}
	allowing := func(actions []string) caller {
		key := fmt.Sprint(actions)
		if _, made := callers[key]; !made {
			var full []string
			for _, a := range actions {
				full = append(full, "leaderboard:"+a)
			}
			callers[key] = owner.allowing(t, full...)
		}
		return callers[key]
	}
	for _, tt := range tests {
		owner.do(t, "PUT", one+"/members/ann", `{"score":1}`).want(t, 200)
		var body any
		if tt.body != "" {
			body = tt.body
		}
		for _, missing := range tt.needs {
			rest := slices.DeleteFunc(slices.Clone(every), func(a string) bool { return a == missing })
			allowing(rest).do(t, tt.method, tt.path, body).problem(t, 403, "denied", "").detail(t, "leaderboard:"+missing)
		}
		if a := allowing(tt.needs).do(t, tt.method, tt.path, body); a.status != 200 && a.status != 204 {
			t.Errorf("%s with %v: %d %s", a.request, tt.needs, a.status, a.body)
		}
	}

	// What is refused for the second of its two rights has not done the first.
	owner.fill(t, "b", "ann=1")
	allowing([]string{"Upsert"}).do(t, "PUT", one+"/members/ann", `{"score":99}`).problem(t, 403, "denied", "")
	if got := owner.do(t, "GET", one+"/members", nil).brief(t); got != "1 ann 1" {
		t.Errorf("a refused put left %s", got)
	}

	// Rights on one board, by its name.
	arn := "arn:cache:cache:local:" + owner.tenant + ":cache/main/leaderboard/public-*"
	public := owner.withPolicy(t, `{"Version":"2012-10-17","Statement":[{"Sid":"S","Effect":"Allow","Action":"leaderboard:*","Resource":"`+arn+`"}]}`)
	public.do(t, "PUT", boardsPath+"/public-1/members/ann", `{"score":1}`).want(t, 200)
	public.do(t, "PUT", boardsPath+"/private/members/ann", `{"score":1}`).problem(t, 403, "denied", "")
	public.do(t, "GET", one+"/members", nil).problem(t, 403, "denied", "")
	public.do(t, "GET", boardsPath+"/nobody", nil).problem(t, 403, "denied", "") // the same whether it exists or not

	newTenant(t).do(t, "GET", one, nil).problem(t, 404, "not_found", "")
	owner.withRole(t, "read-only").do(t, "GET", one+"/members", nil).want(t, 200)
	owner.withRole(t, "read-only").do(t, "PUT", one+"/members/ann", `{"score":1}`).problem(t, 403, "denied", "")
}

func TestLeaderboardWritesTakeEffectOnce(t *testing.T) {
	c := newTenant(t)
	ann := boardsPath + "/b/members/ann"
	add := `{"score":5,"mode":"increment"}`
	first := c.do(t, "PUT", ann, add, "Idempotency-Key", "k1").want(t, 200)
	c.fill(t, "b", "bob=7")
	again := c.do(t, "PUT", ann, add, "Idempotency-Key", "k1").want(t, 200)
	if !bytes.Equal(again.body, first.body) || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("a repetition answers %s, not %s", again.body, first.body)
	}
	c.do(t, "GET", ann, nil).want(t, 200).json(t, `{"member":"ann","score":5,"rank":2,"competition_rank":2,"dense_rank":2,"percentile":50}`)
	c.do(t, "PUT", ann, `{"score":6,"mode":"increment"}`, "Idempotency-Key", "k1").want(t, 422)
	c.do(t, "PUT", ann+"?order=asc", add, "Idempotency-Key", "k1").want(t, 422)

	many := `{"mode":"increment","members":[{"member":"ann","score":1},{"member":"bob","score":1}]}`
	for range 3 {
		c.do(t, "POST", boardsPath+"/b/members", many, "Idempotency-Key", "k2").want(t, 200).json(t, `{"added":0,"changed":2,"total":2}`)
	}
	if got := c.do(t, "GET", boardsPath+"/b/members", nil).brief(t); got != "1 bob 8/2 ann 6" {
		t.Errorf("three times the same: %s", got)
	}
	// What failed is not remembered: it may be tried again.
	c.do(t, "PUT", "/v1/caches/main/kv/later", "x").want(t, 201)
	c.do(t, "PUT", boardsPath+"/later/members/ann", add, "Idempotency-Key", "k3").want(t, 409)
	c.do(t, "DELETE", "/v1/caches/main/kv/later", nil).want(t, 204)
	c.do(t, "PUT", boardsPath+"/later/members/ann", add, "Idempotency-Key", "k3").want(t, 200)
}

func TestLeaderboardConcurrentIncrements(t *testing.T) {
	c := newTenant(t)
	var all sync.WaitGroup
	for w := range 16 {
		all.Go(func() {
			for i := range 25 {
				member := "m" + strconv.Itoa((w+i)%4)
				if i%2 == 0 {
					c.do(t, "PUT", boardsPath+"/b/members/"+member, `{"score":1,"mode":"increment"}`).want(t, 200)
				} else {
					c.do(t, "POST", boardsPath+"/b/members", `{"mode":"increment","members":[{"member":"`+member+`","score":1}]}`).want(t, 200)
				}
			}
		})
	}
	all.Wait()
	if got := c.do(t, "GET", boardsPath+"/b/members", nil).brief(t); got != "1 m0 100/2 m1 100/3 m2 100/4 m3 100" {
		t.Errorf("400 increments add up to %s", got)
	}
}

// The model is a map that is sorted for every question.
func TestLeaderboardAgainstASortedMap(t *testing.T) {
	c := newTenant(t)
	rapid.Check(t, func(r *rapid.T) {
		one := boardsPath + "/" + c.fresh("model")
		model := map[string]float64{}
		member := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "ü", "g/h"})
		score := rapid.SampledFrom([]float64{-2, -1, 0, 0.5, 1, 2, 3})
		ranked := func(desc bool) []string {
			var names []string
			for m := range model {
				names = append(names, m)
			}
			slices.SortFunc(names, func(a, b string) int {
				switch {
				case model[a] == model[b]:
					return strings.Compare(a, b)
				case (model[a] > model[b]) == desc:
					return -1
				}
				return 1
			})
			return names
		}
		r.Repeat(map[string]func(*rapid.T){
			"put": func(r *rapid.T) {
				m, s, mode := member.Draw(r, "member"), score.Draw(r, "score"), rapid.SampledFrom([]string{"set", "increment", "max", "min"}).Draw(r, "mode")
				old, had := model[m]
				switch {
				case mode == "increment":
					model[m] = old + s
				case had && mode == "max":
					model[m] = max(old, s)
				case had && mode == "min":
					model[m] = min(old, s)
				default:
					model[m] = s
				}
				a := c.do(t, "PUT", one+"/members/"+url.PathEscape(m), map[string]any{"score": s, "mode": mode}).want(t, 200)
				if o := a.object(t); o["score"] != model[m] || o["rank"] != float64(slices.Index(ranked(true), m)+1) {
					r.Fatalf("%s %v to %s: %s, want %v of %v", mode, s, m, a.body, model[m], ranked(true))
				}
			},
			"remove": func(r *rapid.T) {
				m := member.Draw(r, "member")
				want := 404
				if _, had := model[m]; had {
					want = 204
				}
				delete(model, m)
				if a := c.do(t, "DELETE", one+"/members/"+url.PathEscape(m), nil); a.status != want {
					r.Fatalf("removing %s: %d, want %d", m, a.status, want)
				}
			},
			"trim": func(r *rapid.T) {
				n, desc := rapid.IntRange(0, 8).Draw(r, "n"), rapid.Bool().Draw(r, "desc")
				names := ranked(desc)
				gone := names[min(n, len(names)):]
				for _, m := range gone {
					delete(model, m)
				}
				a := c.do(t, "POST", one+"/trim", map[string]any{"keep": n, "order": orderName(desc)}).want(t, 200)
				if o := a.object(t); o["removed"] != float64(len(gone)) {
					r.Fatalf("trimming to %d: %s, want %d", n, a.body, len(gone))
				}
			},
			"": func(r *rapid.T) {
				desc := rapid.Bool().Draw(r, "desc")
				names := ranked(desc)
				var want []string
				for i, m := range names {
					want = append(want, fmt.Sprintf("%d %s %v", i+1, m, model[m]))
				}
				offset, limit := rapid.IntRange(0, 9).Draw(r, "offset"), rapid.IntRange(1, 9).Draw(r, "limit")
				from := min(offset, len(want))
				page := want[from:min(from+limit, len(want))]
				a := c.do(t, "GET", fmt.Sprintf("%s/members?order=%s&offset=%d&limit=%d", one, orderName(desc), offset, limit), nil)
				if got := a.brief(t); got != strings.Join(page, "/") {
					r.Fatalf("page %d+%d: got %s, want %v", offset, limit, got, page)
				}
				if len(names) > 0 {
					i := rapid.IntRange(0, len(names)-1).Draw(r, "i")
					a := c.do(t, "GET", fmt.Sprintf("%s/members/%s/around?above=2&below=1&order=%s", one, url.PathEscape(names[i]), orderName(desc)), nil)
					if got, want := a.brief(t), strings.Join(want[max(0, i-2):min(len(want), i+2)], "/"); got != want {
						r.Fatalf("around %s: got %s, want %s", names[i], got, want)
					}
				}
			},
		})
	})
}

func orderName(desc bool) string {
	if desc {
		return "desc"
	}
	return "asc"
}

// Whatever is read as a score is finite, and survives being written for a command and as JSON.
func FuzzScore(f *testing.F) {
	for _, s := range []string{`0`, `-0`, `12.5`, `"1e3"`, `1e308`, `1e309`, `"NaN"`, `"0x1p-2"`, `"1_0"`, `null`, `"Inf"`, `5e-324`, `100000000000000000000`, `"\u0031"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var s, again Score
		if json.Unmarshal(text, &s) != nil {
			return
		}
		if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			t.Fatalf("%q was read as %v", text, float64(s))
		}
		if back, ok := parseScore(string(s.text())); !ok || back != float64(s) {
			t.Fatalf("%q is %s for a command, which is %v", text, s.text(), back)
		}
		if err := json.Unmarshal(encode(s), &again); err != nil || again != s {
			t.Fatalf("%q is %s as JSON, which is %v: %v", text, encode(s), again, err)
		}
		var plain float64
		if stdjson.Unmarshal(text, &plain) == nil && plain != float64(s) {
			t.Fatalf("%q is %v, not %v", text, plain, float64(s))
		}
	})
}

// What passes for a bound of scores is what the engine takes for one.
func FuzzScoreBound(f *testing.F) {
	for _, s := range []string{"", "1", "(1", "((1", "-inf", "+inf", "inf", "(inf", "nan", "1e999", "0x1", " 1", "(", "1e-9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		bound, err := scoreBound("min_score", s, "-inf")
		if err != nil {
			return
		}
		if s != "" && string(bound) != s {
			t.Fatalf("%q became %q", s, bound)
		}
		number := strings.TrimPrefix(string(bound), "(")
		if v, err := strconv.ParseFloat(number, 64); err != nil || math.IsNaN(v) {
			t.Fatalf("%q passed", s)
		}
	})
}
