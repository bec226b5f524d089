package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"testing"
	"time"

	larder "github.com/larder-cache/larder/sdk"
	"github.com/larder-cache/larder/sdk/api"
)

// goClient is the Go client with a caller's credential.
func (c caller) goClient(t *testing.T) *larder.Client {
	t.Helper()
	client, err := larder.New(c.url, larder.WithAPIKey(c.credential))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// must returns what a call returned, and fails the test if that is an error.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func collect[T any](t *testing.T, list iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for v, err := range list {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// wantErr fails the test unless err has a code.
func wantErr(t *testing.T, err error, code api.Code) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Errorf("got %v, want %s", err, code)
	}
}

// What the Go client says and understands is what the server understands and says.

func TestGoClientValues(t *testing.T) {
	ctx, kv := t.Context(), newTenant(t).goClient(t).Cache("main").KV()
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	for _, key := range []string{"plain", "a/b//c", "?#%2F", " ", ".", "..", "../..", string(everyByte), "é\u2028"} {
		etag := must[string](t)(kv.Set(ctx, key, everyByte, larder.TTL(time.Minute), larder.ContentType("image/x")))
		v := must[larder.Value](t)(kv.Get(ctx, key))
		if !bytes.Equal(v.Data, everyByte) || v.ContentType != "image/x" || v.ETag != etag || v.TTL != time.Minute || v.Size != 256 {
			t.Errorf("%q: got %+v", key, v)
		}
	}
	listed := map[string]bool{}
	for k, err := range kv.Scan(ctx, larder.Filter{PageSize: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		listed[string(k.Key)] = true
	}
	if len(listed) != 9 || !listed[string(everyByte)] || !listed[".."] {
		t.Errorf("listed %d keys: %v", len(listed), listed)
	}

	_, err := kv.SetIfAbsent(ctx, "plain", nil)
	wantErr(t, err, larder.ErrPreconditionFailed)
	_, err = kv.CompareAndSwap(ctx, "plain", `"no"`, nil)
	wantErr(t, err, larder.ErrPreconditionFailed)
	etag := must[larder.Value](t)(kv.Stat(ctx, "plain")).ETag
	must[string](t)(kv.CompareAndSwap(ctx, "plain", etag, []byte("hello")))
	if a := must[api.AppendResult](t)(kv.Append(ctx, "plain", []byte(" world"))); a.Size != 11 || a.Created {
		t.Errorf("appended: %+v", a)
	}
	if v := must[larder.Value](t)(kv.GetRange(ctx, "plain", 6, 100)); string(v.Data) != "world" || v.Size != 11 {
		t.Errorf("a range: %+v", v)
	}
	_, err = kv.GetRange(ctx, "plain", 11, 12)
	wantErr(t, err, larder.ErrRangeNotSatisfiable)

	must[string](t)(kv.Set(ctx, "empty", nil))
	if ttl := must[time.Duration](t)(kv.TTL(ctx, "empty")); ttl != 0 {
		t.Errorf("a TTL out of nothing: %v", ttl)
	}
	if err := kv.Expire(ctx, "empty", 1500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if ttl := must[time.Duration](t)(kv.TTL(ctx, "empty")); ttl != 1500*time.Millisecond {
		t.Errorf("TTL %v", ttl)
	}
	if err := errors.Join(kv.Persist(ctx, "empty"), kv.Delete(ctx, "empty")); err != nil {
		t.Fatal(err)
	}
	_, err = kv.Stat(ctx, "empty")
	wantErr(t, err, larder.ErrNotFound)
	wantErr(t, kv.Delete(ctx, "empty"), larder.ErrNotFound)
	for i := range 20 {
		must[string](t)(kv.Set(ctx, fmt.Sprintf("many:%d", i), []byte("v")))
	}
	if n := must[int64](t)(kv.DeletePrefix(ctx, "many:")); n != 20 {
		t.Errorf("deleted %d", n)
	}

	var e *larder.Error
	_, err = kv.Get(ctx, string(make([]byte, 40_000)))
	if !errors.As(err, &e) || e.Code != larder.ErrTooLarge && e.Status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a key that is too long: %v", err)
	}
	_, err = kv.Set(ctx, "k", nil, larder.TTL(200*365*24*time.Hour))
	if !errors.As(err, &e) || e.Code != larder.ErrOutOfRange || e.Argument != "ttl" || e.RequestID == "" || e.Status != 400 {
		t.Errorf("a TTL that is too long: %+v", e)
	}
}

// A write that is sent twice with the same key counts once; the client's own keys differ.
func TestGoClientIdempotency(t *testing.T) {
	ctx, n := t.Context(), newTenant(t).goClient(t).Cache("main").Counter("n")
	for range 3 {
		must[api.Counter](t)(n.Add(ctx, 5, larder.IdempotencyKey("one")))
	}
	for range 2 {
		must[api.Counter](t)(n.Add(ctx, 1))
	}
	if got := must[int64](t)(must[api.Counter](t)(n.Get(ctx)).Value.Int64()); got != 7 {
		t.Errorf("the counter is %d, want 7", got)
	}
	_, err := n.Add(ctx, 6, larder.IdempotencyKey("one"))
	wantErr(t, err, larder.ErrIdempotencyKeyReused)
}

func TestGoClientCounters(t *testing.T) {
	ctx, cache := t.Context(), newTenant(t).goClient(t).Cache("main")
	n, low, high := cache.Counter("views/\xff"), int64(-2), int64(9007199254740993)
	if c := must[api.Counter](t)(n.AddWithin(ctx, high, larder.Bounds{TTL: time.Hour, Max: &high})); c.Value != "9007199254740993" || *c.TTLMs != 3_600_000 || c.Name != "views/\xff" {
		t.Errorf("%+v", c)
	}
	_, err := n.AddWithin(ctx, 1, larder.Bounds{Max: &high})
	wantErr(t, err, larder.ErrOverflow)
	if c := must[api.Counter](t)(n.AddWithin(ctx, -high-5, larder.Bounds{Min: &low, Saturate: true})); c.Value != "-2" {
		t.Errorf("%+v", c)
	}
	if c := must[api.Counter](t)(n.Reset(ctx)); c.Value != "-2" {
		t.Errorf("%+v", c)
	}
	if c := must[api.Counter](t)(n.Set(ctx, 40, 0)); c.Value != "40" || c.TTLMs == nil {
		t.Errorf("%+v", c)
	}
	if f := must[float64](t)(must[api.Counter](t)(n.AddFloat(ctx, 2.5)).Value.Float64()); f != 42.5 {
		t.Errorf("%v", f)
	}
	if err := n.Delete(ctx); err != nil {
		t.Error(err)
	}
	_, err = n.Get(ctx)
	wantErr(t, err, larder.ErrNotFound)
}

func TestGoClientSessions(t *testing.T) {
	owner := newTenant(t)
	ctx, sessions := t.Context(), owner.goClient(t).Cache("main").Sessions()
	s := must[larder.Session](t)(sessions.Create(ctx, larder.NewSession{User: "ann", Data: map[string]int{"a": 1}, IdleTTL: time.Minute, AbsoluteTTL: time.Hour, MaxPerUser: 2}))
	if s.ETag == "" || *s.User != "ann" || time.Duration(*s.IdleTTL) != time.Minute || s.ExpiresAt.Sub(s.CreatedAt) != time.Hour {
		t.Errorf("%+v", s)
	}
	read := must[larder.Session](t)(sessions.Get(ctx, s.ID))
	if peeked := must[larder.Session](t)(sessions.Peek(ctx, s.ID)); peeked.ETag != read.ETag || peeked.ID != s.ID {
		t.Errorf("%+v, %+v", read, peeked)
	}
	patched := must[larder.Session](t)(sessions.Patch(ctx, s.ID, map[string]any{"a": nil, "b": 2}, larder.IfMatch(s.ETag)))
	_, err := sessions.Replace(ctx, s.ID, 1, larder.IfMatch(s.ETag))
	wantErr(t, err, larder.ErrPreconditionFailed)
	var data map[string]int
	if err := patched.Decode(&data); err != nil || len(data) != 1 || data["b"] != 2 {
		t.Errorf("%s: %v", patched.Data, err)
	}
	must[larder.Session](t)(sessions.Replace(ctx, s.ID, []string{"x"}))
	rotated := must[larder.Session](t)(sessions.Rotate(ctx, s.ID))
	_, err = sessions.Get(ctx, s.ID)
	wantErr(t, err, larder.ErrNotFound)
	owner.clock.advance(time.Second) // sessions are listed by the time they began
	other := must[larder.Session](t)(sessions.Create(ctx, larder.NewSession{User: "ann"}))
	if list := collect(t, sessions.OfUser(ctx, "ann")); len(list) != 2 || list[0].ID != rotated.ID || list[1].ID != other.ID {
		t.Errorf("%+v", list)
	}
	if n := must[int64](t)(sessions.Revoke(ctx, "ann", other.ID)); n != 1 {
		t.Errorf("revoked %d", n)
	}
	if err := sessions.Delete(ctx, other.ID); err != nil {
		t.Error(err)
	}
	if n := must[int64](t)(sessions.Revoke(ctx, "ann", "")); n != 0 {
		t.Errorf("revoked %d", n)
	}
}

func TestGoClientLeaderboards(t *testing.T) {
	ctx, cache := t.Context(), newTenant(t).goClient(t).Cache("main")
	board := cache.Leaderboard("season/7")
	must[api.Leaderboard](t)(board.Configure(ctx, api.PutLeaderboardRequest{Ties: new("first")}))
	must[api.PutMembersResult](t)(board.PutAll(ctx, []api.MemberScore{{Member: "ann", Score: 10}, {Member: "bob\xff", Score: 20}, {Member: "cat", Score: 30}}, larder.Replace))
	if s := must[api.Standing](t)(board.Put(ctx, "ann", 5, larder.Increment)); s.Score != 15 || s.Rank != 3 {
		t.Errorf("%+v", s)
	}
	if s := must[api.Standing](t)(board.Put(ctx, "ann", 1, larder.Highest)); s.Score != 15 {
		t.Errorf("%+v", s)
	}
	if s := must[api.Standing](t)(board.Ascending().Get(ctx, "ann")); s.Rank != 1 {
		t.Errorf("%+v", s)
	}
	var names []string
	for _, m := range collect(t, board.Members(ctx, larder.Page{Limit: 2})) {
		names = append(names, string(m.Member))
	}
	if !slices.Equal(names, []string{"cat", "bob\xff", "ann"}) {
		t.Errorf("%q", names)
	}
	if p := must[api.MembersPage](t)(board.Page(ctx, larder.Page{Min: "(15", Offset: 1})); p.Total != 2 || len(p.Members) != 1 {
		t.Errorf("%+v", p)
	}
	if p := must[api.MembersPage](t)(board.Around(ctx, "bob\xff", 0, 1)); len(p.Members) != 2 || p.Members[0].Member != "bob\xff" {
		t.Errorf("%+v", p)
	}
	if among := must[[]api.StandingAmong](t)(board.Among(ctx, []string{"ann", "cat", "nobody"})); len(among) != 2 || among[1].RankAmong != 2 || among[1].Rank != 3 {
		t.Errorf("%+v", among)
	}
	if n := must[int64](t)(board.Remove(ctx, []string{"ann", "nobody"})); n != 1 {
		t.Errorf("removed %d", n)
	}
	if n := must[int64](t)(board.Trim(ctx, 1)); n != 1 {
		t.Errorf("trimmed %d", n)
	}
	if err := errors.Join(board.Expire(ctx, time.Hour), board.Persist(ctx)); err != nil {
		t.Error(err)
	}
	if b := must[api.Leaderboard](t)(board.Describe(ctx)); b.Size != 1 || b.TTLMs != nil || b.Ties != "first" {
		t.Errorf("%+v", b)
	}
	if list := collect(t, cache.Leaderboards(ctx, "season/")); len(list) != 1 || list[0].Name != "season/7" {
		t.Errorf("%+v", list)
	}
	if err := board.Delete(ctx); err != nil {
		t.Error(err)
	}
	_, err := board.Get(ctx, "cat")
	wantErr(t, err, larder.ErrNotFound)
}

func TestGoClientBatches(t *testing.T) {
	ctx, cache := t.Context(), newTenant(t).goClient(t).Cache("main")
	results := must[[]larder.Result](t)(cache.Batch().Set("k\xff", "v\xfe", time.Minute).Get("k\xff").Add("n", 2).Put("b", "ann", 5, larder.Replace).Delete("none").Do(ctx))
	var put api.PutResult
	var value api.KeyValue
	var counter api.Counter
	if err := errors.Join(results[0].Decode(&put), results[1].Decode(&value), results[2].Decode(&counter), results[3].Err); err != nil {
		t.Fatal(err)
	}
	if !put.Created || value.Value != "v\xfe" || value.ETag != put.ETag || counter.Value != "2" {
		t.Errorf("%+v %+v %+v", put, value, counter)
	}
	wantErr(t, results[4].Err, larder.ErrNotFound)

	_, err := cache.Batch().Add("n", 1).Add("b", 1).DoAtomic(ctx)
	var e *larder.Error
	if !errors.As(err, &e) || e.Code != larder.ErrAborted || len(e.Results) != 2 || e.Results[1].Error.Code != string(larder.ErrWrongType) {
		t.Errorf("%+v", err)
	}
	if c := must[api.Counter](t)(cache.Counter("n").Get(ctx)); c.Value != "2" {
		t.Errorf("an aborted batch has counted: %+v", c)
	}

	if got, err := cache.Do(ctx, "ZADD", "b", 12.5, "bob", 7, []byte("\xff")); err != nil || string(got) != "2" {
		t.Errorf("%s, %v", got, err)
	}
	_, err = cache.Do(ctx, "NO.SUCH")
	if !errors.As(err, &e) || e.Code == "" {
		t.Errorf("%v", err)
	}
	results = must[[]larder.Result](t)(cache.Commands(ctx, true, []any{"GET", "none"}, []any{"INCRBY", "n", 5}))
	if string(results[0].Data) != "null" || string(results[1].Data) != "7" {
		t.Errorf("%s %s", results[0].Data, results[1].Data)
	}
}

func TestGoClientManagement(t *testing.T) {
	ctx, owner := t.Context(), newTenant(t)
	client, operations := owner.goClient(t), owner.goClient(t).API()
	me := must[api.WhoAmI](t)(client.Whoami(ctx))
	if me.Tenant != owner.tenant || me.Role != "owner" {
		t.Errorf("%+v", me)
	}
	for i := range 3 {
		must[api.Cache](t)(operations.CreateCache(ctx, api.CreateCacheRequest{Name: fmt.Sprintf("made-%d", i), DefaultTTL: new("1h")}))
	}
	if list := collect(t, client.Caches(ctx)); len(list) != 4 || list[0].Name != "made-0" || *list[0].DefaultTTL != "1h" {
		t.Errorf("%+v", list)
	}
	if c := must[api.Cache](t)(client.Cache("made-1").Describe(ctx)); c.Live == nil || c.Live.Items != 0 {
		t.Errorf("%+v", c)
	}
	if err := errors.Join(client.Cache("made-1").Flush(ctx), operations.DeleteCache(ctx, "made-1")); err != nil {
		t.Error(err)
	}
	must[api.Policy](t)(operations.PutPolicy(ctx, "reads", api.PutPolicyRequest{Document: []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cache:Get","Resource":"*"}]}`)}))
	must[api.Role](t)(operations.CreateRole(ctx, api.CreateRoleRequest{Name: "reader", Policies: []string{"reads"}}))
	key := must[api.NewAPIKey](t)(operations.CreateAPIKey(ctx, api.CreateAPIKeyRequest{Name: "web", Role: "reader", ExpiresIn: new(api.Duration(time.Hour))}))
	reader, err := larder.New(owner.url, larder.WithAPIKey(key.APIKey))
	if err != nil {
		t.Fatal(err)
	}
	_, err = reader.Cache("main").KV().Get(ctx, "none")
	wantErr(t, err, larder.ErrNotFound)
	_, err = reader.Cache("main").KV().Set(ctx, "k", nil)
	wantErr(t, err, larder.ErrDenied)
	must[api.NewToken](t)(operations.CreateToken(ctx, api.CreateTokenRequest{Subject: new("user-4")}))

	count := func(name string, n, want int) {
		t.Helper()
		if n < want {
			t.Errorf("%d %s, want at least %d", n, name, want)
		}
	}
	count("keys", len(collect(t, client.Keys(ctx))), 2)
	count("roles", len(collect(t, client.Roles(ctx))), 5)
	count("policies", len(collect(t, client.Policies(ctx))), 5)
	count("tokens", len(collect(t, client.Tokens(ctx))), 1)
	count("usages", len(collect(t, client.Usage(ctx))), 3)
	count("tenants", len(collect(t, newOperator(t).goClient(t).Tenants(ctx))), 2)
	for _, err := range client.Tenants(ctx) {
		wantErr(t, err, larder.ErrDenied)
	}
	nobody, err := larder.New(owner.url)
	if err != nil {
		t.Fatal(err)
	}
	_, err = nobody.Whoami(ctx)
	wantErr(t, err, larder.ErrUnauthenticated)
}
