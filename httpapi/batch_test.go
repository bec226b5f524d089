package httpapi

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/tenants"
)

const (
	batch    = "/v1/caches/main/batch"
	commands = "/v1/caches/main/commands"
)

// results returns each result of a batch as JSON, an error as its code.
func (a answer) results(t testing.TB) (list []string) {
	t.Helper()
	var body struct {
		Results []struct {
			Result stdjson.RawMessage
			Error  *ResultError
		}
	}
	a.decode(t, &body)
	for i, r := range body.Results {
		switch {
		case (r.Result == nil) == (r.Error == nil):
			t.Errorf("%s: result %d is neither a result nor an error, or both: %s", a.request, i, a.body)
		case r.Error != nil:
			if r.Error.Message == "" {
				t.Errorf("%s: result %d: an error without a message", a.request, i)
			}
			list = append(list, r.Error.Code)
		default:
			list = append(list, string(r.Result))
		}
	}
	return list
}

func TestABatchDoesEveryOperationInOrder(t *testing.T) {
	c := newTenant(t)
	session := c.do(t, "POST", "/v1/caches/main/sessions", `{"user":"ann","data":{"a":1}}`).want(t, 201).text(t, "id")
	ops := []struct{ op, want string }{ // want is a part of the result
		{`"op":"kv.put","key":"a","value":"x","ttl":"60s","if_none_match":"*","content_type":"text/plain"`, `"created":true`},
		{`"op":"kv.put","key":"a","value":"x","if_none_match":"*"`, `precondition_failed`},
		{`"op":"kv.put","key":"a","value":"x","if_match":"\"x\""`, `precondition_failed`},
		{`"op":"kv.get","key":"a"`, `"value":"x","content_type":"text/plain"`},
		{`"op":"kv.get","key":"a"`, `"ttl_ms":60000`},
		{`"op":"kv.get","key":"absent"`, `not_found`},
		{`"op":"kv.append","key":"a","value":{"base64":"/w=="}`, `"size":2,"created":false`},
		{`"op":"kv.get","key":"a"`, `"value":{"base64":"eP8="}`},
		{`"op":"kv.ttl","key":"a"`, `{"ttl_ms":60000,"ttl":"1m"}`},
		{`"op":"kv.expire","key":"a","ttl":"10s","if":"gt"`, `precondition_failed`},
		{`"op":"kv.expire","key":"absent","ttl":"10s","if":"gt"`, `not_found`},
		{`"op":"kv.expire","key":"a","ttl":"10s","if":"lt"`, `{"ttl_ms":10000,"ttl":"10s"}`},
		{`"op":"kv.persist","key":"a"`, `{"ttl_ms":null,"ttl":null}`},
		{`"op":"kv.persist","key":"a"`, `{"ttl_ms":null,"ttl":null}`},
		{`"op":"kv.persist","key":"absent"`, `not_found`},
		{`"op":"kv.delete","key":"a","if_match":"\"x\""`, `precondition_failed`},
		{`"op":"kv.delete","key":"a","if_match":"*"`, `{"deleted":true}`},
		{`"op":"kv.delete","key":"a"`, `not_found`},
		{`"op":"kv.put","key":"a","value":""`, `"created":true`},

		{`"op":"counters.add","name":"n","by":5,"ttl":"1h"`, `{"name":"n","value":5,"ttl_ms":3600000}`},
		{`"op":"counters.add","name":"n","by":"9007199254740993"`, `"value":"9007199254740998"`},
		{`"op":"counters.add","name":"n","by":1,"max":3`, `overflow`},
		{`"op":"counters.add","name":"n"`, `"value":"9007199254740999"`},
		{`"op":"counters.set","name":"n","value":7`, `{"name":"n","value":7,"ttl_ms":3600000}`},
		{`"op":"counters.reset","name":"n"`, `"value":7`},
		{`"op":"counters.get","name":"n"`, `"value":0`},
		{`"op":"counters.delete","name":"n"`, `{"deleted":true}`},
		{`"op":"counters.delete","name":"n"`, `not_found`},
		{`"op":"counters.get","name":"n"`, `not_found`},
		{`"op":"counters.add","name":"a","by":1`, `wrong_type`},

		{`"op":"sessions.create","user":"ann","data":{"b":2},"idle_ttl":"5m"`, `"data":{"b":2},"user":"ann"`},
		{`"op":"sessions.get","id":"` + session + `","touch":false`, `"id":"` + session + `","data":{"a":1}`},
		{`"op":"sessions.get","id":"` + session + `"`, `"etag":`},
		{`"op":"sessions.replace","id":"` + session + `","data":[1]`, `"data":[1]`},
		{`"op":"sessions.replace","id":"` + session + `","data":[1],"if_match":"\"x\""`, `precondition_failed`},
		{`"op":"sessions.patch","id":"` + session + `","patch":{"c":3},"if_match":"*"`, `"data":{"c":3}`},
		{`"op":"sessions.get","id":"nobody"`, `not_found`},
		{`"op":"sessions.rotate","id":"` + session + `"`, `"data":{"c":3}`},
		{`"op":"sessions.delete","id":"` + session + `"`, `not_found`},
		{`"op":"sessions.revoke","user":"ann"`, `{"revoked":2}`},

		{`"op":"leaderboards.create","name":"b","ties":"first"`, `"ties":"first"`},
		{`"op":"leaderboards.put","name":"b","members":[{"member":"x","score":1},{"member":"y","score":2},{"member":"z","score":3}]`, `{"added":3,"changed":0,"total":3}`},
		{`"op":"leaderboards.put","name":"b","mode":"max","members":[{"member":"x","score":0}]`, `{"added":0,"changed":0,"total":3}`},
		{`"op":"leaderboards.get","name":"b","member":"y"`, `"member":"y","score":2,"rank":2`},
		{`"op":"leaderboards.get","name":"b","member":"y","order":"asc"`, `"rank":2`},
		{`"op":"leaderboards.get","name":"b","member":"nobody"`, `not_found`},
		{`"op":"leaderboards.page","name":"b","limit":2`, `"total":3,"next_cursor":"2"`},
		{`"op":"leaderboards.page","name":"b","limit":2,"cursor":"2"`, `"total":3,"next_cursor":""`},
		{`"op":"leaderboards.around","name":"b","member":"y","above":1,"below":0`, `"total":3`},
		{`"op":"leaderboards.among","name":"b","members":["x","q","z"]`, `"rank_among":2`},
		{`"op":"leaderboards.info","name":"b"`, `"size":3`},
		{`"op":"leaderboards.remove","name":"b","members":["x"]`, `{"removed":1}`},
		{`"op":"leaderboards.trim","name":"b","keep":1`, `{"removed":1}`},
		{`"op":"leaderboards.expire","name":"b","ttl":"1h"`, `{"ttl_ms":3600000}`},
		{`"op":"leaderboards.persist","name":"b"`, `{"ttl_ms":null}`},
		{`"op":"leaderboards.delete","name":"b"`, `{"deleted":true}`},
		{`"op":"leaderboards.info","name":"b"`, `not_found`},
		{`"op":"leaderboards.expire","name":"b","ttl":"1h"`, `not_found`},
	}
	var body strings.Builder
	tried := map[string]bool{}
	for _, o := range ops {
		body.WriteString(",{" + o.op + "}")
		tried[strings.Split(o.op, `"`)[3]] = true
	}
	for name := range operations {
		if !tried[name] {
			t.Errorf("%s is not tried", name)
		}
	}
	request := `{"operations":[` + body.String()[1:] + `]}`
	a := c.do(t, "POST", batch, request).want(t, 200)
	got := a.results(t)
	if len(got) != len(ops) {
		t.Fatalf("%d results for %d operations: %s", len(got), len(ops), a.body)
	}
	for i, o := range ops {
		if !strings.Contains(got[i], o.want) {
			t.Errorf("operation %d {%s}:\n got %s\nwant %s", i, o.op, got[i], o.want)
		}
	}
}

func TestAMalformedOperationRefusesTheRequest(t *testing.T) {
	c := newTenant(t)
	long := strings.Repeat("k", engine.MaxKey+1)
	many := func(n int, element string) string { return strings.Repeat(element+",", n-1) + element }
	tests := []struct{ name, body, code, argument string }{
		{"no operations", `{}`, "out_of_range", "operations"},
		{"none", `{"operations":[]}`, "out_of_range", "operations"},
		{"one too many", `{"operations":[` + many(10_001, `{"op":"kv.get","key":"k"}`) + `]}`, "out_of_range", "operations"},
		{"not a list", `{"operations":{}}`, "invalid_argument", "operations"},
		{"a list alone", `[{"op":"kv.get","key":"k"}]`, "invalid_argument", "body"},
		{"another member", `{"operations":[{"op":"kv.get","key":"k"}],"ops":1}`, "invalid_argument", "ops"},
		{"atomic is a word", `{"operations":[{"op":"kv.get","key":"k"}],"atomic":"yes"}`, "invalid_argument", "atomic"},
		{"an operation that is a string", `{"operations":["kv.get"]}`, "invalid_argument", "operations[0].op"},
		{"an operation that is null", `{"operations":[null]}`, "invalid_argument", "operations[0].op"},
		{"no op", `{"operations":[{"key":"k"}]}`, "invalid_argument", "operations[0].op"},
		{"op is a number", `{"operations":[{"op":1,"key":"k"}]}`, "invalid_argument", "operations[0].op"},
		{"an unknown op", `{"operations":[{"op":"kv.get","key":"k"},{"op":"kv.steal","key":"k"}]}`, "invalid_argument", "operations[1].op"},
		{"an op in another case", `{"operations":[{"op":"KV.GET","key":"k"}]}`, "invalid_argument", "operations[0].op"},
		{"an unknown member", `{"operations":[{"op":"kv.get","key":"k","value":"v"}]}`, "invalid_argument", "operations[0].value"},
		{"a member in another case", `{"operations":[{"op":"kv.get","Key":"k"}]}`, "invalid_argument", "operations[0].Key"},
		{"a member twice", `{"operations":[{"op":"kv.get","key":"k","key":"l"}]}`, "invalid_argument", "body"},
		{"no key", `{"operations":[{"op":"kv.put","value":"v"}]}`, "invalid_argument", "operations[0].key"},
		{"an empty key", `{"operations":[{"op":"kv.get","key":""}]}`, "invalid_argument", "operations[0].key"},
		{"a key that is null", `{"operations":[{"op":"kv.get","key":null}]}`, "invalid_argument", "operations[0].key"},
		{"a key that is too long", `{"operations":[{"op":"kv.get","key":"` + long + `"}]}`, "too_large", "operations[0].key"},
		{"no value", `{"operations":[{"op":"kv.put","key":"k"}]}`, "invalid_argument", "operations[0].value"},
		{"a value that is a number", `{"operations":[{"op":"kv.put","key":"k","value":1}]}`, "invalid_argument", "operations[0].value"},
		{"broken base64", `{"operations":[{"op":"kv.put","key":"k","value":{"base64":"x"}}]}`, "invalid_argument", "operations[0].value"},
		{"base64 with newlines", `{"operations":[{"op":"kv.put","key":"k","value":{"base64":"eHh4\neHh4"}}]}`, "invalid_argument", "operations[0].value"},
		{"an object that is not base64", `{"operations":[{"op":"kv.put","key":"k","value":{"text":"x"}}]}`, "invalid_argument", "operations[0].value.text"},
		{"a TTL of 0", `{"operations":[{"op":"kv.put","key":"k","value":"v","ttl":0}]}`, "out_of_range", "operations[0].ttl"},
		{"a TTL in no unit", `{"operations":[{"op":"kv.put","key":"k","value":"v","ttl":"1y"}]}`, "invalid_argument", "operations[0].ttl"},
		{"a tag in if_none_match", `{"operations":[{"op":"kv.put","key":"k","value":"v","if_none_match":"x"}]}`, "invalid_argument", "operations[0].if_none_match"},
		{"both conditions", `{"operations":[{"op":"kv.put","key":"k","value":"v","if_none_match":"*","if_match":"*"}]}`, "invalid_argument", "operations[0].if_none_match"},
		{"an append with a star", `{"operations":[{"op":"kv.append","key":"k","value":"v","if_match":"*"}]}`, "invalid_argument", "operations[0].if_match"},
		{"a content type with a newline", `{"operations":[{"op":"kv.put","key":"k","value":"v","content_type":"a\nb"}]}`, "invalid_argument", "operations[0].content_type"},
		{"a content type that is too long", `{"operations":[{"op":"kv.put","key":"k","value":"v","content_type":"` + strings.Repeat("a", 256) + `"}]}`, "too_large", "operations[0].content_type"},
		{"no ttl", `{"operations":[{"op":"kv.expire","key":"k"}]}`, "invalid_argument", "operations[0].ttl"},
		{"a condition that is none", `{"operations":[{"op":"kv.expire","key":"k","ttl":"1s","if":"eq"}]}`, "invalid_argument", "operations[0].if"},
		{"no name", `{"operations":[{"op":"counters.add"}]}`, "invalid_argument", "operations[0].name"},
		{"an addend that is none", `{"operations":[{"op":"counters.add","name":"n","by":"many"}]}`, "invalid_argument", "operations[0].by"},
		{"an infinite addend", `{"operations":[{"op":"counters.add","name":"n","by":1e400}]}`, "invalid_argument", "operations[0].by"},
		{"an overflow that is none", `{"operations":[{"op":"counters.add","name":"n","overflow":"wrap"}]}`, "invalid_argument", "operations[0].overflow"},
		{"no value of a counter", `{"operations":[{"op":"counters.set","name":"n"}]}`, "invalid_argument", "operations[0].value"},
		{"no id", `{"operations":[{"op":"sessions.get"}]}`, "invalid_argument", "operations[0].id"},
		{"no user", `{"operations":[{"op":"sessions.revoke"}]}`, "invalid_argument", "operations[0].user"},
		{"an exception that is none", `{"operations":[{"op":"sessions.revoke","user":"u","except":"x"}]}`, "invalid_argument", "operations[0].except"},
		{"sessions without end", `{"operations":[{"op":"sessions.create","max_per_user":0,"user":"u"}]}`, "out_of_range", "operations[0].max_per_user"},
		{"no board", `{"operations":[{"op":"leaderboards.info"}]}`, "invalid_argument", "operations[0].name"},
		{"no member", `{"operations":[{"op":"leaderboards.get","name":"b"}]}`, "invalid_argument", "operations[0].member"},
		{"no members", `{"operations":[{"op":"leaderboards.put","name":"b"}]}`, "out_of_range", "operations[0].members"},
		{"a member without a score", `{"operations":[{"op":"leaderboards.put","name":"b","members":[{"member":"m"}]}]}`, "invalid_argument", "operations[0].members[0].score"},
		{"a limit beyond", `{"operations":[{"op":"leaderboards.page","name":"b","limit":1001}]}`, "out_of_range", "operations[0].limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status := 400
			if tt.code == "too_large" {
				status = 413
			}
			// Nothing of a malformed request is done, whatever stands before the mistake.
			body := strings.Replace(tt.body, `"operations":[{`, `"operations":[{"op":"kv.put","key":"trace","value":"v"},{`, 1)
			argument := tt.argument
			if body != tt.body {
				argument = strings.Replace(argument, "operations[1]", "operations[2]", 1)
				argument = strings.Replace(argument, "operations[0]", "operations[1]", 1)
			}
			c.do(t, "POST", batch, body).problem(t, status, tt.code, argument)
			c.do(t, "GET", kv+"trace", nil).want(t, 404)
		})
	}
	c.do(t, "POST", batch+"?atomic=true", `{"operations":[{"op":"kv.get","key":"k"}]}`).problem(t, 400, "invalid_argument", "atomic")
	c.do(t, "POST", "/v1/caches/nowhere/batch", `{"operations":[{"op":"kv.get","key":"k"}]}`).problem(t, 404, "not_found", "cache")
}

func TestAnAtomicBatchIsDoneWholeOrNotAtAll(t *testing.T) {
	c := newTenant(t)
	c.do(t, "PUT", kv+"there", "v").want(t, 201)
	// The failing operation stands behind one that takes two commands and one that takes none.
	request := func(last string) string {
		return `{"atomic":true,"operations":[{"op":"counters.add","name":"n"},{"op":"kv.persist","key":"there"},{"op":"sessions.get","id":"nobody"},{"op":"kv.get","key":"absent"},` + last + `]}`
	}
	done := c.do(t, "POST", batch, request(`{"op":"kv.put","key":"new","value":"v","if_none_match":"*"}`)).want(t, 200)
	if got := done.results(t); got[0] != `{"name":"n","value":1,"ttl_ms":null}` || got[1] != `{"ttl_ms":null,"ttl":null}` || got[2] != "not_found" || got[3] != "not_found" || !strings.Contains(got[4], `"created":true`) {
		t.Errorf("got %v", got)
	}
	readOnly := c.allowing(t, "cache:Increment", "cache:Persist", "cache:TTL", "cache:Get")
	for _, tt := range []struct {
		name, last, code string
		as               caller
	}{
		{"a precondition", `{"op":"kv.put","key":"new","value":"w","if_none_match":"*"}`, "precondition_failed", c},
		{"a wrong type", `{"op":"leaderboards.put","name":"there","members":[{"member":"m","score":1}]}`, "wrong_type", c},
		{"an overflow", `{"op":"counters.add","name":"n","by":5,"max":3}`, "overflow", c},
		{"a right that is missing", `{"op":"kv.put","key":"new","value":"w"}`, "denied", readOnly},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := tt.as.do(t, "POST", batch, request(tt.last)).problem(t, 409, "aborted", "").detail(t, "operation 4")
			if got := strings.Join(a.results(t), " "); got != "aborted aborted aborted aborted "+tt.code {
				t.Errorf("got %s", got)
			}
			c.do(t, "GET", "/v1/caches/main/counters/n", nil).json(t, `{"name":"n","value":1,"ttl_ms":null}`)
			if got := c.do(t, "GET", kv+"new", nil); string(got.body) != "v" {
				t.Errorf("an aborted batch left %q", got.body)
			}
		})
	}
}

func TestEachOperationIsAuthorisedByItself(t *testing.T) {
	c := newTenant(t)
	some := c.withPolicy(t, `{"Version":"2012-10-17","Statement":[
		{"Sid":"A","Effect":"Allow","Action":["cache:Get","cache:Set"],"Resource":"arn:cache:cache:local:`+c.tenant+`:cache/main/key/mine:*"},
		{"Sid":"B","Effect":"Deny","Action":"cache:*","Resource":"arn:cache:cache:local:`+c.tenant+`:cache/main/key/mine:secret"}]}`)
	body := `{"operations":[{"op":"kv.put","key":"mine:a","value":"1"},{"op":"kv.put","key":"other","value":"1"},{"op":"kv.get","key":"mine:a"},{"op":"kv.get","key":"mine:secret"},{"op":"kv.persist","key":"mine:a"},{"op":"counters.add","name":"mine:n"},{"op":"kv.get","key":"mine:b"}]}`
	got := some.do(t, "POST", batch, body).want(t, 200).results(t)
	if !strings.Contains(got[0], "created") || got[1] != "denied" || !strings.Contains(got[2], `"value":"1"`) || strings.Join(got[3:], " ") != "denied denied denied not_found" {
		t.Errorf("got %v", got)
	}
	c.do(t, "GET", kv+"other", nil).want(t, 404)
	got = some.do(t, "POST", commands, `[["MSET","mine:x","1","other","2"],["get","mine:a"],["FLUSHALL"],["MGET","mine:a","mine:secret"]]`).want(t, 200).results(t)
	if strings.Join(got, " ") != `denied "1" denied denied` {
		t.Errorf("got %v", got)
	}
	c.do(t, "GET", kv+"mine:x", nil).want(t, 404)
}

func TestTenThousandOperations(t *testing.T) {
	c := newTenant(t)
	var ops []any
	for i := range maxBatch {
		ops = append(ops, map[string]any{"op": "counters.add", "name": fmt.Sprint("n", i%10), "by": i})
	}
	got := c.do(t, "POST", batch, map[string]any{"operations": ops, "atomic": true}).want(t, 200).results(t)
	if len(got) != maxBatch {
		t.Fatalf("%d results", len(got))
	}
	sums := make([]int, 10)
	for i := range maxBatch {
		sums[i%10] += i
		if want := fmt.Sprintf(`{"name":"n%d","value":%d,"ttl_ms":null}`, i%10, sums[i%10]); got[i] != want {
			t.Fatalf("result %d: got %s, want %s", i, got[i], want)
		}
	}
}

// TestAnswersAreBounded asks for more than there is memory for.
func TestAnswersAreBounded(t *testing.T) {
	c := newTenant(t)
	c.do(t, "PUT", kv+"large", bytes.Repeat([]byte("x"), maxReplies/4), "Content-Type", "text/plain").want(t, 201)
	c.do(t, "PUT", kv+"small", "s").want(t, 201)
	large := `{"op":"kv.get","key":"large"},{"op":"kv.get","key":"small"}`
	got := c.do(t, "POST", batch, `{"operations":[`+large+`,`+large+`,`+large+`,`+large+`,`+large+`,{"op":"counters.add","name":"n"}]}`).want(t, 200).results(t)
	for i, r := range got {
		switch {
		case i == 10:
			if !strings.Contains(r, `"value":1`) {
				t.Errorf("result %d: %.100s", i, r)
			}
		case i%2 == 1:
			if !strings.Contains(r, `"value":"s"`) {
				t.Errorf("result %d: %.100s", i, r)
			}
		case i < 6:
			if len(r) < maxReplies/4 {
				t.Errorf("result %d: %.100s", i, r)
			}
		default:
			if r != "too_large" {
				t.Errorf("result %d: %.100s", i, r)
			}
		}
	}
	got = c.do(t, "POST", commands, `[["MGET","large","large","large","large","large"],["GET","small"]]`).want(t, 200).results(t)
	if strings.Join(got, " ") != `too_large "s"` {
		t.Errorf("got %.200v", got)
	}
	c.do(t, "GET", kv+"large", nil).want(t, 200)
}

// TestLargeAnswersAreWrittenAsTheyAreSent asks for bytes that JSON writes with six characters each.
func TestLargeAnswersAreWrittenAsTheyAreSent(t *testing.T) {
	c := newTenant(t)
	value := make([]byte, largeReply+1)
	c.do(t, "PUT", kv+"zeros", value, "Content-Type", "text/plain").want(t, 201)
	want := `"` + strings.Repeat(`\u0000`, len(value)) + `"`
	ask := func(times int) string { return `[` + strings.Repeat(`["GET","zeros"],`, times-1) + `["GET","zeros"]]` }
	if got := c.do(t, "POST", commands, ask(2)).want(t, 200).results(t); len(got) != 2 || got[0] != want || got[1] != want {
		t.Errorf("got %.100q", got)
	}
	c.do(t, "POST", batch, `{"operations":[{"op":"kv.get","key":"zeros"}]}`).want(t, 200)

	r, err := http.NewRequest("POST", c.url+commands, strings.NewReader(ask(30)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.credential)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	sent, err := io.Copy(io.Discard, response.Body)
	runtime.ReadMemStats(&after)
	if err != nil || sent < int64(30*6*len(value)) {
		t.Fatalf("%d bytes were sent: %v", sent, err)
	}
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 2*uint64(sent) { // the room for the replies, a sixth of this, was taken again and again as it grew
		t.Errorf("%d bytes were allocated to send %d", grew, sent)
	}
}

// TestAnswersThatAreRememberedAreBounded: what an idempotency key remembers, the server keeps for a day.
func TestAnswersThatAreRememberedAreBounded(t *testing.T) {
	c := newTenant(t)
	c.do(t, "PUT", kv+"large", bytes.Repeat([]byte("x"), 5<<20), "Content-Type", "text/plain").want(t, 201)
	for range 2 {
		got := c.do(t, "POST", batch, `{"operations":[{"op":"counters.add","name":"n"},{"op":"kv.get","key":"large"},{"op":"kv.get","key":"large"},{"op":"counters.add","name":"n"}]}`, "Idempotency-Key", "large").want(t, 200).results(t)
		if !strings.Contains(got[0], `"value":1`) || len(got[1]) < 5<<20 || got[2] != "too_large" || !strings.Contains(got[3], `"value":2`) {
			t.Errorf("got %.300q", got)
		}
	}
}

func TestCommands(t *testing.T) {
	c := newTenant(t)
	tests := []struct{ command, want string }{
		{`["SET","k","v","EX",60]`, `"OK"`},
		{`["set","k2",1e+21]`, `"OK"`},
		{`["GET","k2"]`, `"1e+21"`},
		{`["MSET","a",0.10,"b",true,"c",false,"d",-0,"e",12345678901234567890]`, `"OK"`},
		{`["MGET","a","b","c","d","e","f"]`, `["0.10","true","false","-0","12345678901234567890",null]`},
		{`["SET",{"base64":"/wA="},{"base64":"AP8="}]`, `"OK"`},
		{`["GET",{"base64":"/wA="}]`, `{"base64":"AP8="}`},
		{`["GET","absent"]`, `null`},
		{`["STRLEN","k"]`, `1`},
		{`["INCRBY","n",9007199254740992]`, `9007199254740992`},
		{`["INCR","n"]`, `"9007199254740993"`},
		{`["DECRBY","n","18014398509481986"]`, `"-9007199254740993"`},
		{`["INCRBYFLOAT","f","0.1"]`, `"0.1"`},
		{`["HSET","h","x",1,"y","z"]`, `2`},
		{`["HGETALL","h"]`, `{"x":"1","y":"z"}`},
		{`["HSET","h2",{"base64":"/w=="},1]`, `1`},
		{`["HGETALL","h2"]`, `[[{"base64":"/w=="},"1"]]`},
		{`["HGETALL","absent"]`, `{}`},
		{`["ZADD","z",1.5,"a","+inf","b"]`, `2`},
		{`["ZSCORE","z","a"]`, `1.5`},
		{`["ZSCORE","z","b"]`, `"+Inf"`},
		{`["ZRANGE","z",0,-1,"WITHSCORES"]`, `[["a",1.5],["b","+Inf"]]`},
		{`["ZRANGE","z",0,-1]`, `["a","b"]`},
		{`["TYPE","z"]`, `"zset"`},
		{`["GET","z"]`, `wrong_type`},
		{`["NOSUCH","x"]`, `invalid_argument`},
		{`["GET"]`, `invalid_argument`},
		{`["GET","a","b"]`, `invalid_argument`},
		{`["LARDER.DROP","x"]`, `invalid_argument`},
		{`[5]`, `invalid_argument`},
		{`[""]`, `invalid_argument`},
		{`["INCR","k"]`, `invalid_argument`},
		{`["KV.SET","v","x","IFNONE"]`, `[1,`},
		{`["KV.SET","v","x","IFNONE"]`, `precondition_failed`},
		{`["PING"]`, `"PONG"`},
		{`["ECHO","\u0000\u2028€"]`, "\"\\u0000\u2028€\""},
	}
	var list []string
	for _, tt := range tests {
		list = append(list, tt.command)
	}
	for name, body := range map[string]string{
		"a bare list": `[` + strings.Join(list, ",") + `]`,
		"an object":   ` {"commands":[` + strings.Join(list, " , ") + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			c.do(t, "POST", "/v1/caches/main/flush", nil).want(t, 204)
			got := c.do(t, "POST", commands, body).want(t, 200).results(t)
			for i, tt := range tests {
				if got[i] != tt.want && !(strings.HasSuffix(tt.want, ",") && strings.HasPrefix(got[i], tt.want)) {
					t.Errorf("%s: got %s, want %s", tt.command, got[i], tt.want)
				}
			}
		})
	}
	t.Run("one failing command is a result too", func(t *testing.T) {
		if got := c.do(t, "POST", commands, `[["NOSUCH"]]`).want(t, 200).results(t); got[0] != "invalid_argument" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("databases", func(t *testing.T) {
		c.do(t, "POST", commands, `{"db":15,"commands":[["SET","only15","x"]]}`).want(t, 200)
		c.do(t, "POST", commands, `{"db":15,"commands":[["GET","only15"]]}`).want(t, 200).json(t, `{"results":[{"result":"x"}]}`)
		c.do(t, "POST", commands, `{"commands":[["GET","only15"]]}`).want(t, 200).json(t, `{"results":[{"result":null}]}`)
		c.do(t, "GET", kv+"only15", nil).want(t, 404)
	})
	t.Run("atomic", func(t *testing.T) {
		c.do(t, "POST", commands, `{"atomic":true,"commands":[["SET","at","1"],["INCR","at"]]}`).want(t, 200).json(t, `{"results":[{"result":"OK"},{"result":2}]}`)
		for _, last := range []string{`["INCR","k","l"]`, `["NOSUCH"]`, `["GET","z"]`} {
			a := c.do(t, "POST", commands, `{"atomic":true,"commands":[["INCR","at"],`+last+`]}`).problem(t, 409, "aborted", "")
			if got := a.results(t); got[0] != "aborted" || got[1] == "aborted" {
				t.Errorf("got %v", got)
			}
		}
		c.do(t, "POST", commands, `[["GET","at"]]`).json(t, `{"results":[{"result":"2"}]}`)
	})
	t.Run("malformed", func(t *testing.T) {
		for _, tt := range []struct{ body, code, argument string }{
			{`{}`, "out_of_range", "commands"}, {`[]`, "out_of_range", "commands"}, {``, "out_of_range", "commands"}, {`null`, "invalid_argument", "body"},
			{`[` + strings.Repeat(`["PING"],`, maxBatch) + `["PING"]]`, "out_of_range", "commands"},
			{`[[]]`, "invalid_argument", "commands[0]"}, {`[["PING"],[]]`, "invalid_argument", "commands[1]"},
			{`["PING"]`, "invalid_argument", "[0]"}, {`[["SET","k",null]]`, "invalid_argument", "[0][2]"}, {`{"commands":[["SET","k",["x"]]]}`, "invalid_argument", "commands[0][2]"},
			{`[["SET","k",{"base64":"!"}]]`, "invalid_argument", "[0][2]"}, {`[["SET","k",{"base64":"","x":1}]]`, "invalid_argument", "[0][2].x"}, {`[["SET","k",{}]]`, "invalid_argument", "[0][2]"},
			{`{"commands":[["PING"]],"db":16}`, "out_of_range", "db"}, {`{"commands":[["PING"]],"db":-1}`, "out_of_range", "db"}, {`{"commands":[["PING"]],"db":1.5}`, "invalid_argument", "db"}, {`{"commands":[["PING"]],"db":"1"}`, "invalid_argument", "db"},
			{`{"commands":[["PING"]],"db":99999999999999999999}`, "invalid_argument", "db"},
			{`{"commands":[["PING"]],"pipeline":true}`, "invalid_argument", "pipeline"}, {`"PING"`, "invalid_argument", "body"}, {`[["PING"]`, "invalid_argument", "body"}, {`[["PING"]]]`, "invalid_argument", "body"}, {`[["PING"]] [["PING"]]`, "invalid_argument", "body"},
			{`[["PING",]]`, "invalid_argument", "body"}, {`[["PING" "x"]]`, "invalid_argument", "body"}, {`[['PING']]`, "invalid_argument", "body"}, {"[[\"PING\xff\"]]", "invalid_argument", "body"}, {`[["\ud800"]]`, "invalid_argument", "body"}, {`[["SET","k",01]]`, "invalid_argument", "body"},
		} {
			c.do(t, "POST", commands, tt.body).problem(t, 400, tt.code, tt.argument)
		}
	})
}

func TestIdempotencyKeys(t *testing.T) {
	c := newTenant(t)
	counter := "/v1/caches/main/counters/n"
	same := func(t *testing.T, method, path string, body any, headers ...string) {
		t.Helper()
		key := c.fresh("key")
		headers = append(headers, "Idempotency-Key", key)
		first := c.do(t, method, path, body, headers...)
		again := c.do(t, method, path, body, headers...)
		if first.status >= 300 || first.header.Get("Idempotency-Replayed") != "" || again.header.Get("Idempotency-Replayed") != "true" {
			t.Fatalf("%s: first %d, replayed %q, then %q: %s", first.request, first.status, first.header.Get("Idempotency-Replayed"), again.header.Get("Idempotency-Replayed"), first.body)
		}
		if first.status != again.status || !bytes.Equal(first.body, again.body) || first.header.Get("Etag") != again.header.Get("Etag") || first.header.Get("Content-Type") != again.header.Get("Content-Type") {
			t.Errorf("%s: first %d %q %s, then %d %q %s", first.request, first.status, first.body, first.header.Get("Etag"), again.status, again.body, again.header.Get("Etag"))
		}
	}
	t.Run("every kind of write", func(t *testing.T) {
		same(t, "PUT", kv+"k", "v")
		same(t, "PUT", kv+"new", "v", "If-None-Match", "*")
		same(t, "POST", kv+"k/append", "w")
		same(t, "PUT", kv+"k/ttl?if=nx", `{"ttl":"1h"}`)
		same(t, "DELETE", kv+"k/ttl", nil)
		same(t, "POST", counter, `{"by":5}`)
		same(t, "POST", "/v1/caches/main/counters", `{"counters":[{"name":"n","by":1},{"name":"m"}]}`)
		same(t, "POST", batch, `{"operations":[{"op":"counters.add","name":"n"},{"op":"kv.get","key":"absent"},{"op":"kv.persist","key":"k"},{"op":"sessions.create","user":"u"}]}`)
		same(t, "POST", batch, `{"atomic":true,"operations":[{"op":"counters.add","name":"n"}]}`)
		same(t, "POST", commands, `[["INCR","n"],["NOSUCH"]]`[:13]+`]`)
		same(t, "POST", "/v1/caches/main/sessions", `{"user":"u"}`)
		same(t, "DELETE", kv+"k", nil)
		c.do(t, "GET", counter, nil).json(t, `{"name":"n","value":9,"ttl_ms":null}`)
		if got := c.do(t, "GET", kv+"new", nil); string(got.body) != "v" {
			t.Errorf("got %q", got.body)
		}
	})
	t.Run("reused for another request", func(t *testing.T) {
		use := func(method, path, body string, headers ...string) answer {
			return c.do(t, method, path, body, append(headers, "Idempotency-Key", "one")...)
		}
		use("PUT", kv+"r", "v").want(t, 201)
		for _, a := range []answer{
			use("PUT", kv+"r", "w"), use("PUT", kv+"s", "v"), use("PUT", kv+"r?ttl=1s", "v"), use("POST", kv+"r/append", "v"), use("PUT", kv+"r", "v", "If-Match", "*"),
			use("PUT", kv+"r", "v", "Content-Type", "text/plain"), use("DELETE", kv+"r", ""), use("POST", counter, `{"by":1}`), use("PUT", kv+"r/ttl?if=nx", `{"ttl":"1s"}`), use("DELETE", kv+"r/ttl", ""),
			use("POST", batch, `{"operations":[{"op":"counters.add","name":"n"},{"op":"counters.add","name":"n"}]}`), use("POST", batch, `{"atomic":true,"operations":[{"op":"counters.add","name":"n"}]}`),
			use("POST", commands, `[["SET","r","w"]]`), use("DELETE", "/v1/caches/main/kv?prefix=r", ""), use("POST", "/v1/caches/main/sessions", `{}`),
		} {
			a.problem(t, 422, "idempotency_key_reused", "")
		}
		if got := c.do(t, "GET", kv+"r", nil).want(t, 200); string(got.body) != "v" {
			t.Errorf("got %q", got.body)
		}
	})
	t.Run("other callers have keys of their own", func(t *testing.T) {
		other := c.withRole(t, "owner")
		other.do(t, "PUT", kv+"r", "mine", "Idempotency-Key", "one").want(t, 204)
	})
	t.Run("what failed may be tried again", func(t *testing.T) {
		body := `{"by":10,"max":5}`
		c.do(t, "POST", "/v1/caches/main/counters/x", body, "Idempotency-Key", "fails").problem(t, 409, "overflow", "by")
		c.do(t, "POST", "/v1/caches/main/counters/x", `{"by":-10}`).want(t, 200)
		a := c.do(t, "POST", "/v1/caches/main/counters/x", body, "Idempotency-Key", "fails").want(t, 200)
		if a.header.Get("Idempotency-Replayed") != "" {
			t.Error("a failure was remembered")
		}
		c.do(t, "POST", batch, `{"atomic":true,"operations":[{"op":"kv.put","key":"z","value":"v","if_match":"*"}]}`, "Idempotency-Key", "fails2").problem(t, 409, "aborted", "")
		c.do(t, "PUT", kv+"z", "v").want(t, 201)
		c.do(t, "POST", batch, `{"atomic":true,"operations":[{"op":"kv.put","key":"z","value":"v","if_match":"*"}]}`, "Idempotency-Key", "fails2").want(t, 200)
	})
	t.Run("a denied operation refuses a request that must count once", func(t *testing.T) {
		some := c.allowing(t, "cache:Increment")
		body := `{"operations":[{"op":"counters.add","name":"d"},{"op":"kv.get","key":"d"}]}`
		a := some.do(t, "POST", batch, body, "Idempotency-Key", "part").problem(t, 409, "aborted", "")
		if got := a.results(t); strings.Join(got, " ") != "aborted denied" {
			t.Errorf("got %v", got)
		}
		c.do(t, "GET", "/v1/caches/main/counters/d", nil).want(t, 404)
	})
	t.Run("bounds", func(t *testing.T) {
		for _, key := range []string{"a", strings.Repeat("a", 255), "ü \"x\""} {
			for range 2 {
				c.do(t, "POST", "/v1/caches/main/counters/bounds", `{}`, "Idempotency-Key", key).want(t, 200)
			}
		}
		c.do(t, "GET", "/v1/caches/main/counters/bounds", nil).json(t, `{"name":"bounds","value":3,"ttl_ms":null}`)
		c.do(t, "POST", counter, `{}`, "Idempotency-Key", strings.Repeat("a", 256)).problem(t, 400, "invalid_argument", "Idempotency-Key").detail(t, "255")
		a := c.raw(t, "GET", kv+"r", "")
		a.want(t, 200)
	})
	t.Run("a window of 24 hours", func(t *testing.T) {
		cache := c.newCache(t, tenants.Cache{})
		path := "/v1/caches/" + cache + "/counters/n"
		c.do(t, "POST", path, `{}`, "Idempotency-Key", "daily").want(t, 200)
		c.clock.advance(engine.OnceWindow - 1e6)
		c.do(t, "POST", path, `{}`, "Idempotency-Key", "daily").want(t, 200).json(t, `{"name":"n","value":1,"ttl_ms":null}`)
		c.clock.advance(1e6)
		c.do(t, "POST", path, `{}`, "Idempotency-Key", "daily").want(t, 200).json(t, `{"name":"n","value":2,"ttl_ms":null}`)
	})
}
