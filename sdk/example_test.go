package larder_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	larder "github.com/larder-cache/larder/sdk"
	"github.com/larder-cache/larder/sdk/api"
)

// The examples run against this: a server that answers a few requests as Larder does.
var server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	route, _ := strings.CutPrefix(r.URL.Path, "/v1/caches/main/")
	answer := map[string]string{
		"POST counters/page-views":              `{"name":"page-views","value":42,"ttl_ms":3600000}`,
		"POST sessions":                         session("mZ3x5sJ8", "ann", `{"cart":[7]}`),
		"PATCH sessions/mZ3x5sJ8":               session("mZ3x5sJ8", "ann", `{"cart":[7,12]}`),
		"POST sessions/mZ3x5sJ8/rotate":         session("kT9qLw2a", "ann", `{"cart":[7,12]}`),
		"PUT leaderboards/season-7/members/ann": standing("ann", 120, 1),
		"GET leaderboards/season-7/members":     `{"members":[` + standing("ann", 120, 1) + `,` + standing("bob", 80, 2) + `],"total":2,"next_cursor":""}`,
		"POST batch":                            `{"results":[{"result":{"created":true,"etag":"\"b1\""}},{"error":{"code":"not_found","message":"there is no such key, or it has expired"}}]}`,
		"POST commands":                         `{"results":[{"result":["ann","bob"]}]}`,
		"GET kv":                                `{"keys":[{"key":"user:1","type":"string","ttl_ms":null,"size":5},{"key":"user:2","type":"string","ttl_ms":null,"size":7}],"next_cursor":""}`,
	}[r.Method+" "+route]
	h := w.Header()
	h.Set("Content-Type", "application/json")
	switch {
	case answer != "":
		_, _ = io.WriteString(w, answer)
	case r.Method == "PUT" && route == "kv/greeting" && r.Header.Get("If-Match") == `"old"`:
		problem(w, 412, "precondition_failed", "precondition failed: the value has another version")
	case r.Method == "PUT" && strings.HasPrefix(route, "kv/"):
		h.Set("ETag", `"a1"`)
		w.WriteHeader(http.StatusCreated)
	case r.Method == "GET" && route == "kv/greeting":
		h.Set("ETag", `"a1"`)
		h.Set("Content-Type", "text/plain")
		h.Set("X-Larder-TTL-Ms", "3600000")
		_, _ = io.WriteString(w, "hello")
	default:
		problem(w, 404, "not_found", "there is no such key, or it has expired")
	}
}))

func problem(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"about:blank","title":"","status":%d,"code":%q,"detail":%q,"request_id":"r1"}`, status, code, detail)
}

func session(id, user, data string) string {
	return fmt.Sprintf(`{"id":%q,"user":%q,"data":%s,"created_at":"2026-01-31T09:30:00.000Z","idle_expires_at":"2026-01-31T10:00:00.000Z","expires_at":null}`, id, user, data)
}

func standing(member string, score, rank int) string {
	return fmt.Sprintf(`{"member":%q,"score":%d,"rank":%d,"competition_rank":%d,"dense_rank":%d,"percentile":100}`, member, score, rank, rank, rank)
}

func open() larder.Cache {
	client, err := larder.New(server.URL, larder.WithAPIKey("lk_live_example"))
	if err != nil {
		log.Fatal(err)
	}
	return client.Cache("main")
}

func Example() {
	ctx := context.Background()
	client, err := larder.New(server.URL, larder.WithAPIKey("lk_live_example"))
	if err != nil {
		log.Fatal(err)
	}
	kv := client.Cache("main").KV()

	if _, err := kv.Set(ctx, "greeting", []byte("hello"), larder.TTL(time.Hour), larder.ContentType("text/plain")); err != nil {
		log.Fatal(err)
	}
	value, err := kv.Get(ctx, "greeting")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, for %v more\n", value.Data, value.TTL)

	if _, err := kv.Get(ctx, "farewell"); errors.Is(err, larder.ErrNotFound) {
		fmt.Println("no farewell")
	}
	// Output:
	// hello, for 1h0m0s more
	// no farewell
}

// A value is replaced only if nobody else has done so meanwhile.
func ExampleKV_CompareAndSwap() {
	_, err := open().KV().CompareAndSwap(context.Background(), "greeting", `"old"`, []byte("good morning"))
	if errors.Is(err, larder.ErrPreconditionFailed) {
		fmt.Println("somebody was faster")
	}
	// Output: somebody was faster
}

func ExampleKV_Scan() {
	for key, err := range open().KV().Scan(context.Background(), larder.Filter{Prefix: "user:"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(key.Key, key.Size)
	}
	// Output:
	// user:1 5
	// user:2 7
}

func ExampleSessions() {
	ctx, sessions := context.Background(), open().Sessions()
	type cart struct {
		Cart []int `json:"cart"`
	}
	s, err := sessions.Create(ctx, larder.NewSession{User: "ann", Data: cart{[]int{7}}, IdleTTL: 30 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	s, err = sessions.Patch(ctx, s.ID, cart{[]int{7, 12}})
	if err != nil {
		log.Fatal(err)
	}
	s, err = sessions.Rotate(ctx, s.ID) // the user has signed in
	if err != nil {
		log.Fatal(err)
	}
	var c cart
	if err := s.Decode(&c); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.ID, *s.User, c.Cart)
	// Output: kT9qLw2a ann [7 12]
}

func ExampleLeaderboard() {
	ctx, board := context.Background(), open().Leaderboard("season-7")
	ann, err := board.Put(ctx, "ann", 120, larder.Highest)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ann has rank", ann.Rank)
	page, err := board.Page(ctx, larder.Page{Limit: 10})
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range page.Members {
		fmt.Println(m.Rank, m.Member, m.Score)
	}
	// Output:
	// ann has rank 1
	// 1 ann 120
	// 2 bob 80
}

func ExampleCounter() {
	c, err := open().Counter("page-views").Add(context.Background(), 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Value)
	// Output: 42
}

func ExampleBatch() {
	results, err := open().Batch().Set("greeting", "hello", time.Hour).Get("farewell").Do(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	var put api.PutResult
	if err := results[0].Decode(&put); err != nil {
		log.Fatal(err)
	}
	fmt.Println(put.Created, errors.Is(results[1].Err, larder.ErrNotFound))
	// Output: true true
}

// Every command of the command table can be run.
func ExampleCache_Do() {
	members, err := open().Do(context.Background(), "ZRANGE", "season-7", 0, 9, "REV")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", members)
	// Output: ["ann","bob"]
}
