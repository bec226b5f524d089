package httpapi

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

const sessionsPath = "/v1/caches/main/sessions"

// begin creates a session and returns where it is.
func (c caller) begin(t testing.TB, body string) string {
	t.Helper()
	return sessionsPath + "/" + c.do(t, "POST", sessionsPath, body).want(t, 201).text(t, "id")
}

// ids lists the ids of a user's sessions.
func (c caller) ids(t testing.TB, user string) []string {
	t.Helper()
	var page SessionPage
	c.do(t, "GET", sessionsPath+"?user="+url.QueryEscape(user), nil).want(t, 200).decodeOurs(t, &page)
	list := []string{}
	for _, s := range page.Sessions {
		list = append(list, s.ID)
	}
	return list
}

// decodeOurs reads the body into a type of ours, which only our own decoder knows.
func (a answer) decodeOurs(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s: %v: %s", a.request, err, a.body)
	}
}

func TestSessionFromItsBeginningToItsEnd(t *testing.T) {
	c := newTenant(t)
	began := c.clock.after(0)
	a := c.do(t, "POST", sessionsPath, `{"data":{"cart":[1,2]},"user":"ann","idle_ttl":"30m","absolute_ttl":"24h","max_per_user":5}`).want(t, 201)
	id := a.text(t, "id")
	ends := c.clock.after(24 * time.Hour)
	want := func(data, idle string) string {
		return fmt.Sprintf(`{"id":%q,"data":%s,"user":"ann","created_at":%q,"idle_ttl":"30m","idle_expires_at":%q,"expires_at":%q}`, id, data, began, idle, ends)
	}
	a.json(t, want(`{"cart":[1,2]}`, c.clock.after(30*time.Minute)))
	one := sessionsPath + "/" + id
	if got := a.header.Get("Location"); got != one {
		t.Errorf("Location is %q, want %q", got, one)
	}
	created := a.header.Get("ETag")
	if len(created) < 3 || created[0] != '"' {
		t.Errorf("ETag is %q", created)
	}

	c.clock.advance(10 * time.Minute)
	got := c.do(t, "GET", one, nil).want(t, 200).json(t, want(`{"cart":[1,2]}`, c.clock.after(30*time.Minute)))
	if got.header.Get("ETag") != created {
		t.Error("a read changed the ETag")
	}
	put := c.do(t, "PUT", one, `{"data":{"cart":[]}}`).want(t, 200).json(t, want(`{"cart":[]}`, c.clock.after(30*time.Minute)))
	if put.header.Get("ETag") == created {
		t.Error("other data, the same ETag")
	}
	patched := c.do(t, "PATCH", one, `{"theme":"dark"}`, "Content-Type", "application/merge-patch+json").want(t, 200)
	patched.json(t, want(`{"cart":[],"theme":"dark"}`, c.clock.after(30*time.Minute)))
	if patched.header.Get("ETag") == put.header.Get("ETag") {
		t.Error("patched data, the same ETag")
	}
	c.do(t, "DELETE", one, nil).want(t, 204)
	c.do(t, "DELETE", one, nil).problem(t, 404, "not_found", "")
	c.do(t, "GET", one, nil).problem(t, 404, "not_found", "")
	c.do(t, "PUT", one, `{"data":1}`).problem(t, 404, "not_found", "")
	c.do(t, "PATCH", one, `{}`, "Content-Type", "application/merge-patch+json").problem(t, 404, "not_found", "")
	c.do(t, "POST", one+"/rotate", nil).problem(t, 404, "not_found", "")
}

func TestSessionIDs(t *testing.T) {
	c := newTenant(t)
	seen := map[string]bool{}
	for range 20 {
		id := strings.TrimPrefix(c.begin(t, `{"user":"ann"}`), sessionsPath+"/")
		secret, err := base64.RawURLEncoding.Strict().DecodeString(id[3:])
		if len(id) != 46 || err != nil || len(secret) != 32 {
			t.Fatalf("id %q is not a tag and 256 bits", id)
		}
		if id[:3] != tagOf([]byte("ann")) {
			t.Errorf("id %q has another tag than the user", id)
		}
		if seen[id] || seen[id[3:]] {
			t.Errorf("id %q twice", id)
		}
		seen[id], seen[id[3:]] = true, true
	}
	tags := map[string]bool{}
	for range 20 {
		tags[strings.TrimPrefix(c.begin(t, `{}`), sessionsPath+"/")[:3]] = true
	}
	if len(tags) < 10 {
		t.Errorf("20 sessions without a user share %d tags", len(tags))
	}
}

// The tags are for ever: sessions under an old one would be lost.
func TestSessionKeysShareTheUsersSlot(t *testing.T) {
	for user, tag := range map[string]string{"ann": "95-", "bob": tagOf([]byte("bob")), "a}b{c": tagOf([]byte("a}b{c")), "\xff\x00": tagOf([]byte("\xff\x00"))} {
		if got := tagOf([]byte(user)); got != tag {
			t.Errorf("the tag of %q is %q, was %q", user, got, tag)
		}
		id := drawID(tagOf([]byte(user)))
		if !validID(id) {
			t.Errorf("drew %q", id)
		}
		if placement.Slot(sessionKey(id)) != placement.Slot(userKey([]byte(user))) {
			t.Errorf("a session of %q lies in another slot than the user", user)
		}
		gotTag, secret, ours := untag(sessionPrefix, sessionKey(id))
		if !ours || string(gotTag)+string(secret) != string(id) {
			t.Errorf("%q came back as %q %q", id, gotTag, secret)
		}
		if _, back, ours := untag(userPrefix, userKey([]byte(user))); !ours || string(back) != user {
			t.Errorf("user %q came back as %q", user, back)
		}
	}
	for _, foreign := range []string{"", "session:{", "session:{abc", "session:{abc}", "session:{abcd}e", "session:abc", "user:{abc}e"} {
		if tag, rest, ours := untag(sessionPrefix, []byte(foreign)); ours && len(rest) == secretLength {
			t.Errorf("%q was read as %q %q", foreign, tag, rest)
		}
	}
}

func TestSessionDeadlines(t *testing.T) {
	c := newTenant(t)
	tests := []struct {
		name           string
		body           string
		idle, absolute time.Duration // what is answered; 0 for null
	}{
		{"neither named", `{}`, 24 * time.Hour, 0},
		{"no body at all", ``, 24 * time.Hour, 0},
		{"idle alone", `{"idle_ttl":"90s"}`, 90 * time.Second, 0},
		{"absolute alone", `{"absolute_ttl":"7d"}`, 0, 7 * 24 * time.Hour},
		{"both", `{"idle_ttl":"15m","absolute_ttl":"1h"}`, 15 * time.Minute, time.Hour},
		{"the absolute one first", `{"idle_ttl":"1h","absolute_ttl":"15m"}`, time.Hour, 15 * time.Minute},
		{"seconds as a number", `{"idle_ttl":60}`, time.Minute, 0},
		{"the shortest", `{"idle_ttl":"1ms","absolute_ttl":"1ms"}`, time.Millisecond, time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := c.do(t, "POST", sessionsPath, tt.body).want(t, 201)
			o := a.object(t)
			for member, d := range map[string]time.Duration{"idle_expires_at": tt.idle, "expires_at": tt.absolute} {
				var want any
				if d != 0 {
					want = c.clock.after(d)
				}
				if got, there := o[member]; !there || got != want {
					t.Errorf("%s is %v, want %v", member, got, want)
				}
			}
			if _, there := o["idle_ttl"]; there != (tt.idle != 0) {
				t.Errorf("idle_ttl: %v", o["idle_ttl"])
			}
			if user, there := o["user"]; !there || user != nil {
				t.Errorf("user is %v, want null", user)
			}
			one := sessionsPath + "/" + a.text(t, "id")
			first := tt.idle
			if first == 0 || (tt.absolute != 0 && tt.absolute < first) {
				first = tt.absolute
			}
			if first > time.Millisecond {
				c.clock.advance(first - time.Millisecond)
				c.do(t, "GET", one+"?touch=false", nil).want(t, 200)
			}
			c.clock.advance(time.Millisecond)
			c.do(t, "GET", one, nil).problem(t, 404, "not_found", "")
			c.do(t, "GET", one+"?touch=false", nil).problem(t, 404, "not_found", "")
		})
	}
}

func TestSessionUsesSlideTheIdleDeadline(t *testing.T) {
	c := newTenant(t)
	patch := []string{"Content-Type", "application/merge-patch+json"}
	tests := []struct {
		name, method, suffix string
		body                 any
		headers              []string
		slides               bool
	}{
		{name: "a read", method: "GET", slides: true},
		{name: "a read that says so", method: "GET", suffix: "?touch=true", slides: true},
		{name: "a peek", method: "GET", suffix: "?touch=false"},
		{name: "a replacement", method: "PUT", body: `{"data":1}`, slides: true},
		{name: "a patch", method: "PATCH", body: `{}`, headers: patch, slides: true},
		{name: "a list", method: "GET", suffix: "list"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			one := c.begin(t, `{"user":"sliding","idle_ttl":"10m","absolute_ttl":"35m"}`)
			path := one + tt.suffix
			if tt.suffix == "list" {
				path = sessionsPath + "?user=sliding"
			}
			for range 3 { // 27 minutes in all
				c.clock.advance(9 * time.Minute)
				a := c.do(t, tt.method, path, tt.body, tt.headers...)
				if !tt.slides {
					break
				}
				if got, want := a.want(t, 200).text(t, "idle_expires_at"), c.clock.after(10*time.Minute); got != want {
					t.Fatalf("idle_expires_at is %s, want %s", got, want)
				}
			}
			if !tt.slides {
				c.clock.advance(time.Minute)
				c.do(t, "GET", one, nil).want(t, 404)
				return
			}
			c.clock.advance(8*time.Minute - time.Millisecond)
			c.do(t, tt.method, path, tt.body, tt.headers...).want(t, 200)
			c.clock.advance(time.Millisecond) // the absolute deadline: no use moves it
			c.do(t, tt.method, path, tt.body, tt.headers...).want(t, 404)
		})
	}
}

func TestSessionDataIsKeptAsItWasWritten(t *testing.T) {
	c := newTenant(t)
	deep := strings.Repeat("[", 63) + strings.Repeat("]", 63)
	for _, data := range []string{
		`null`, `true`, `""`, `0`, `-0.0`, `1.10`, `1e400`, `12345678901234567890123`, `0.1000000000000000055511151231257827`,
		`"ann \"\\ é 漢 \u0000"`, `[]`, `{}`, `[1,[2,{"a":null}]]`, `{"b":1,"a":2,"":3}`, deep,
	} {
		a := c.do(t, "POST", sessionsPath, `{"data": `+data+` }`).want(t, 201)
		if !bytes.Contains(a.body, []byte(`"data":`+data+`,"user"`)) {
			t.Errorf("%s was answered as %s", data, a.body)
		}
		one := sessionsPath + "/" + a.text(t, "id")
		if a := c.do(t, "GET", one, nil).want(t, 200); !bytes.Contains(a.body, []byte(`"data":`+data+`,"user"`)) {
			t.Errorf("%s was read as %s", data, a.body)
		}
		if a := c.do(t, "PUT", one, `{"data":`+data+`}`).want(t, 200); !bytes.Contains(a.body, []byte(`"data":`+data+`,"user"`)) {
			t.Errorf("%s was replaced by %s", data, a.body)
		}
	}
	if a := c.do(t, "POST", sessionsPath, `{"user":"ann"}`).want(t, 201); !bytes.Contains(a.body, []byte(`"data":{}`)) {
		t.Errorf("no data is not {}: %s", a.body)
	}
}

func TestSessionMergePatch(t *testing.T) {
	c := newTenant(t)
	tests := []struct{ data, patch, want string }{ // RFC 7396, appendix A
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{"n":12345678901234567890}`, `{"m":1.10}`, `{"n":12345678901234567890,"m":1.10}`},
	}
	for _, tt := range tests {
		one := c.begin(t, `{"data":`+tt.data+`}`)
		a := c.do(t, "PATCH", one, tt.patch, "Content-Type", "application/merge-patch+json; charset=utf-8").want(t, 200)
		if !bytes.Contains(a.body, []byte(`"data":`+tt.want+`,"user"`)) {
			t.Errorf("%s patched with %s: %s, want %s", tt.data, tt.patch, a.body, tt.want)
		}
	}

	one := c.begin(t, `{"data":{"a":1}}`)
	for _, media := range []string{"application/json-patch+json", "text/plain", "nonsense;;"} {
		a := c.do(t, "PATCH", one, `{"a":2}`, "Content-Type", media).problem(t, 415, "unsupported_media_type", "Content-Type")
		if a.header.Get("Accept-Patch") != "application/merge-patch+json" {
			t.Errorf("Accept-Patch is %q", a.header.Get("Accept-Patch"))
		}
	}
	for _, body := range []string{``, ` `, `{`, `{"a":}`, `{} {}`, `{"a":1,"a":2}`, "\"\xff\"", strings.Repeat("[", 65) + strings.Repeat("]", 65)} {
		c.do(t, "PATCH", one, body, "Content-Type", "application/merge-patch+json").problem(t, 400, "invalid_argument", "body")
	}
	c.do(t, "GET", one, nil).want(t, 200)
	if a := c.do(t, "GET", one, nil); !bytes.Contains(a.body, []byte(`"data":{"a":1}`)) {
		t.Errorf("a patch that was refused changed the data: %s", a.body)
	}
}

func TestSessionConditions(t *testing.T) {
	c := newTenant(t)
	merge := "application/merge-patch+json"
	for _, method := range []string{"PUT", "PATCH", "DELETE"} {
		t.Run(method, func(t *testing.T) {
			var body any
			media := "application/json"
			switch method {
			case "PUT":
				body = `{"data":"new"}`
			case "PATCH":
				body, media = `"new"`, merge
			}
			change := func(one string, headers ...string) answer {
				t.Helper()
				return c.do(t, method, one, body, append(headers, "Content-Type", media)...)
			}
			a := c.do(t, "POST", sessionsPath, `{"data":"first"}`).want(t, 201)
			one, first := sessionsPath+"/"+a.text(t, "id"), a.header.Get("ETag")
			second := c.do(t, "PUT", one, `{"data":"second"}`, "If-Match", first).want(t, 200).header.Get("ETag")

			for _, stale := range []string{first, `W/` + second, `"nonsense!"`, `""`, second[1:], first + `, "0"`} {
				change(one, "If-Match", stale).problem(t, 412, "precondition_failed", "If-Match")
			}
			c.do(t, "GET", one, nil).want(t, 200)
			if now := c.do(t, "GET", one, nil); now.header.Get("ETag") != second || now.text(t, "data") != "second" {
				t.Errorf("a condition that failed changed the session: %s", now.body)
			}
			change(one, "If-None-Match", "*").problem(t, 400, "invalid_argument", "If-None-Match")
			change(one, "If-Match", strings.Repeat(`"a",`, 64)+`"b"`).problem(t, 400, "invalid_argument", "If-Match")

			if status := change(one, "If-Match", first+", "+second).status; status != 200 && status != 204 {
				t.Errorf("one of two tags is right, and yet %d", status)
			}
			if status := change(c.begin(t, `{}`), "If-Match", "*").status; status != 200 && status != 204 {
				t.Errorf("If-Match: * on a session that is there: %d", status)
			}
			unknown := sessionsPath + "/" + string(drawID("abc"))
			change(unknown, "If-Match", first).problem(t, 404, "not_found", "")
			change(unknown, "If-Match", "*").problem(t, 404, "not_found", "")
		})
	}
}

func TestSessionRotation(t *testing.T) {
	c := newTenant(t)
	old := c.begin(t, `{"user":"ann","data":{"role":"admin"},"idle_ttl":"1h","absolute_ttl":"2h"}`)
	before := c.do(t, "GET", old, nil).want(t, 200)
	c.clock.advance(30 * time.Minute)
	a := c.do(t, "POST", old+"/rotate", nil).want(t, 200)
	id := a.text(t, "id")
	if sessionsPath+"/"+id == old || !strings.HasPrefix(id, tagOf([]byte("ann"))) {
		t.Errorf("%s was rotated to %s", old, id)
	}
	if a.header.Get("ETag") != before.header.Get("ETag") {
		t.Error("the data is the same, the ETag is not")
	}
	was, is := before.object(t), a.object(t)
	for _, member := range []string{"user", "created_at", "expires_at", "idle_ttl"} {
		if was[member] != is[member] {
			t.Errorf("%s went from %v to %v", member, was[member], is[member])
		}
	}
	c.do(t, "GET", old, nil).want(t, 404)
	c.do(t, "PUT", old, `{"data":1}`).want(t, 404)
	c.do(t, "POST", old+"/rotate", nil).want(t, 404)
	c.do(t, "GET", sessionsPath+"/"+id, nil).want(t, 200)
	if got := c.ids(t, "ann"); len(got) != 1 || got[0] != id {
		t.Errorf("ann has %v, want only %s", got, id)
	}
	anonymous := c.begin(t, `{}`)
	rotated := c.do(t, "POST", anonymous+"/rotate", nil).want(t, 200).text(t, "id")
	c.do(t, "GET", sessionsPath+"/"+rotated, nil).want(t, 200)
	c.do(t, "GET", anonymous, nil).want(t, 404)
}

func TestSessionsOfAUser(t *testing.T) {
	c := newTenant(t)
	var made []string
	for i := range 7 {
		made = append(made, strings.TrimPrefix(c.begin(t, fmt.Sprintf(`{"user":"ann","data":%d,"idle_ttl":"1h"}`, i)), sessionsPath+"/"))
		c.begin(t, `{"user":"bob"}`)
		c.begin(t, `{}`)
		c.clock.advance(time.Millisecond)
	}
	equal := func(got, want []string) {
		t.Helper()
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
	equal(c.ids(t, "ann"), made)
	equal(c.ids(t, "an"), nil)
	equal(c.ids(t, "Ann"), nil)

	// Pages, with a session on the border that ends between two of them.
	var paged []string
	cursor, pages := "", 0
	for {
		var page SessionPage
		c.do(t, "GET", sessionsPath+"?user=ann&limit=2&cursor="+url.QueryEscape(cursor), nil).want(t, 200).decodeOurs(t, &page)
		for _, s := range page.Sessions {
			paged = append(paged, s.ID)
		}
		if pages++; pages == 2 {
			c.do(t, "DELETE", sessionsPath+"/"+paged[3], nil).want(t, 204)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
		if len(page.Sessions) != 2 || strings.Contains(cursor, page.Sessions[1].ID) {
			t.Errorf("%d sessions and the cursor %q", len(page.Sessions), cursor)
		}
	}
	equal(paged, made)
	made = append(made[:3:3], made[4:]...)

	c.do(t, "DELETE", sessionsPath+"?user=nobody", nil).want(t, 200).json(t, `{"revoked":0}`)
	c.do(t, "DELETE", sessionsPath+"?user=ann&except="+made[2], nil).want(t, 200).json(t, `{"revoked":5}`)
	equal(c.ids(t, "ann"), made[2:3])
	c.do(t, "GET", sessionsPath+"/"+made[0], nil).want(t, 404)
	c.do(t, "GET", sessionsPath+"/"+made[2], nil).want(t, 200)
	c.do(t, "DELETE", sessionsPath+"?user=bob&except="+made[2], nil).want(t, 200).json(t, `{"revoked":7}`) // ann's session spares none of bob's
	c.do(t, "GET", sessionsPath+"/"+made[2], nil).want(t, 200)
	c.begin(t, `{"user":"ann"}`)
	c.do(t, "DELETE", sessionsPath+"?user=ann", nil).want(t, 200).json(t, `{"revoked":2}`)
	c.do(t, "GET", sessionsPath+"?user=ann", nil).want(t, 200).json(t, `{"sessions":[],"next_cursor":""}`)

	// What has expired is not listed and not counted.
	c.begin(t, `{"user":"ann","absolute_ttl":"1m"}`)
	last := c.begin(t, `{"user":"ann","absolute_ttl":"1h"}`)
	c.clock.advance(time.Minute)
	equal(c.ids(t, "ann"), []string{strings.TrimPrefix(last, sessionsPath+"/")})
	c.do(t, "DELETE", sessionsPath+"?user=ann", nil).want(t, 200).json(t, `{"revoked":1}`)
}

// Another protocol may put sessions under keys of its own, in a user's name. They have no id, so HTTP neither
// shows nor reads them; but a user's sessions end with them.
func TestSessionsUnderForeignKeys(t *testing.T) {
	c := newTenant(t)
	create := func(key, user string) {
		t.Helper()
		c.do(t, "POST", "/v1/caches/main/commands", []any{[]any{"SESSION.CREATE", key, "{}", "USER", user}}).want(t, 200)
		c.clock.advance(time.Millisecond)
	}
	ann := string(userKey([]byte("ann")))
	create("foreign-1", ann)
	create("session:{"+tagOf([]byte("ann"))+"}short", ann)
	mine := strings.TrimPrefix(c.begin(t, `{"user":"ann"}`), sessionsPath+"/")
	c.clock.advance(time.Millisecond)
	create("foreign-2", ann)
	if got := c.ids(t, "ann"); len(got) != 1 || got[0] != mine {
		t.Errorf("ann has %v, want only %s", got, mine)
	}
	seen, cursor := "", ""
	for range 4 {
		var page SessionPage
		c.do(t, "GET", sessionsPath+"?user=ann&limit=1&cursor="+cursor, nil).want(t, 200).decodeOurs(t, &page)
		for _, s := range page.Sessions {
			seen += s.ID
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if seen != mine || cursor != "" {
		t.Errorf("page by page ann has %q, want %q; the last cursor is %q", seen, mine, cursor)
	}
	c.do(t, "DELETE", sessionsPath+"?user=ann&except="+mine, nil).want(t, 200).json(t, `{"revoked":3}`)

	strange := string(sessionKey(drawID("abc")))
	create(strange, "somebody")
	_, secret, _ := untag(sessionPrefix, []byte(strange))
	if a := c.do(t, "GET", sessionsPath+"/abc"+string(secret), nil).want(t, 200); a.object(t)["user"] != nil {
		t.Errorf("a user of another kind is shown: %s", a.body)
	}
}

func TestSessionUsersMayHaveAnyName(t *testing.T) {
	c := newTenant(t)
	for _, user := range []string{"ann@example.com", "漢字", "a b/c?d#e%", "{x}", "}{", "\x00\x01", strings.Repeat("u", maxUser)} {
		quoted := string(bytes.TrimSpace(encode(user)))
		a := c.do(t, "POST", sessionsPath, `{"user":`+quoted+`}`).want(t, 201)
		if a.text(t, "user") != user {
			t.Errorf("%.40q came back as %.40q", user, a.text(t, "user"))
		}
		if len(user) > 10_000 { // too long for a request line
			continue
		}
		if got := c.ids(t, user); len(got) != 1 || got[0] != a.text(t, "id") {
			t.Errorf("%q has %v", user, got)
		}
	}
	a := c.do(t, "POST", sessionsPath, `{"user":{"base64":"/wA="}}`).want(t, 201)
	if !bytes.Contains(a.body, []byte(`"user":{"base64":"/wA="}`)) {
		t.Errorf("a user that is not UTF-8: %s", a.body)
	}
	c.do(t, "DELETE", sessionsPath+"?user=%FF%00", nil).want(t, 200).json(t, `{"revoked":1}`)
}

func TestSessionsPerUserAreBounded(t *testing.T) {
	c := newTenant(t)
	var made []string
	for range 6 {
		made = append(made, strings.TrimPrefix(c.begin(t, `{"user":"ann","max_per_user":3}`), sessionsPath+"/"))
		c.clock.advance(time.Millisecond)
	}
	if got := c.ids(t, "ann"); strings.Join(got, " ") != strings.Join(made[3:], " ") {
		t.Errorf("got %v, want the last three of %v", got, made)
	}
	only := c.begin(t, `{"user":"ann","max_per_user":1}`)
	if got := c.ids(t, "ann"); len(got) != 1 || sessionsPath+"/"+got[0] != only {
		t.Errorf("got %v, want %s alone", got, only)
	}
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() { c.do(t, "POST", sessionsPath, `{"user":"ann","max_per_user":4}`).want(t, 201) })
	}
	all.Wait()
	if got := c.ids(t, "ann"); len(got) != 4 {
		t.Errorf("40 at once left %d sessions, want 4", len(got))
	}
}

func TestSessionIDsThatCannotBe(t *testing.T) {
	c := newTenant(t)
	good := string(drawID("abc"))
	for _, id := range []string{"x", good[1:], good + "A", good[:45] + "=", good[:45] + "+", good[:45] + "%20", good[:45] + "%2F", "%00", strings.Repeat("a", 5000), "%E6%BC%A2", good} {
		for _, r := range []struct{ method, path string }{{"GET", id}, {"GET", id + "?touch=false"}, {"DELETE", id}, {"POST", id + "/rotate"}} {
			c.do(t, r.method, sessionsPath+"/"+r.path, nil).problem(t, 404, "not_found", "").detail(t, "no such session")
		}
		c.do(t, "PUT", sessionsPath+"/"+id, `{"data":1}`).problem(t, 404, "not_found", "")
	}
}

func TestSessionBadInput(t *testing.T) {
	c := newTenant(t)
	one := c.begin(t, `{"user":"ann"}`)
	long := strings.Repeat("u", maxUser+1)
	tests := []struct {
		name, method, path, body string
		status                   int
		code, argument           string
	}{
		{"broken JSON", "POST", sessionsPath, `{"data":`, 400, "invalid_argument", "body"},
		{"two values", "POST", sessionsPath, `{}{}`, 400, "invalid_argument", "body"},
		{"an array", "POST", sessionsPath, `[]`, 400, "invalid_argument", "body"},
		{"an unknown member", "POST", sessionsPath, `{"ttl":"1h"}`, 400, "invalid_argument", "ttl"},
		{"another letter case", "POST", sessionsPath, `{"Data":{}}`, 400, "invalid_argument", "Data"},
		{"a member twice", "POST", sessionsPath, `{"user":"a","user":"b"}`, 400, "invalid_argument", "body"},
		{"a member twice inside the data", "POST", sessionsPath, `{"data":{"a":1,"a":2}}`, 400, "invalid_argument", "body"},
		{"data nested too deep", "POST", sessionsPath, `{"data":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, 400, "invalid_argument", "body"},
		{"data that is not UTF-8", "POST", sessionsPath, "{\"data\":\"\xff\"}", 400, "invalid_argument", "body"},
		{"half a surrogate pair", "POST", sessionsPath, `{"data":"\ud800"}`, 400, "invalid_argument", "body"},
		{"an empty user", "POST", sessionsPath, `{"user":""}`, 400, "invalid_argument", "user"},
		{"a user that is a number", "POST", sessionsPath, `{"user":5}`, 400, "invalid_argument", "user"},
		{"a user that is too long", "POST", sessionsPath, `{"user":"` + long + `"}`, 400, "invalid_argument", "user"},
		{"no idle time", "POST", sessionsPath, `{"idle_ttl":"0s"}`, 400, "out_of_range", "idle_ttl"},
		{"a negative idle time", "POST", sessionsPath, `{"idle_ttl":"-1s"}`, 400, "invalid_argument", "idle_ttl"},
		{"an idle time that is none", "POST", sessionsPath, `{"idle_ttl":"soon"}`, 400, "invalid_argument", "idle_ttl"},
		{"an idle time that is an object", "POST", sessionsPath, `{"idle_ttl":{}}`, 400, "invalid_argument", "idle_ttl"},
		{"an absolute time that is too long", "POST", sessionsPath, `{"absolute_ttl":"36501d"}`, 400, "out_of_range", "absolute_ttl"},
		{"an absolute time beyond all numbers", "POST", sessionsPath, `{"absolute_ttl":"9999999999999999999999d"}`, 400, "out_of_range", "absolute_ttl"},
		{"no session per user", "POST", sessionsPath, `{"user":"ann","max_per_user":0}`, 400, "out_of_range", "max_per_user"},
		{"too many per user", "POST", sessionsPath, `{"user":"ann","max_per_user":10001}`, 400, "out_of_range", "max_per_user"},
		{"a fraction per user", "POST", sessionsPath, `{"user":"ann","max_per_user":1.5}`, 400, "invalid_argument", "max_per_user"},
		{"a bound without a user", "POST", sessionsPath, `{"max_per_user":5}`, 400, "invalid_argument", "max_per_user"},
		{"a parameter that create does not have", "POST", sessionsPath + "?touch=false", `{}`, 400, "invalid_argument", "touch"},

		{"touch that is neither", "GET", one + "?touch=maybe", ``, 400, "invalid_argument", "touch"},
		{"touch twice", "GET", one + "?touch=true&touch=false", ``, 400, "invalid_argument", "touch"},
		{"an unknown parameter", "GET", one + "?peek=1", ``, 400, "invalid_argument", "peek"},
		{"no data", "PUT", one, `{}`, 400, "invalid_argument", "data"},
		{"no body", "PUT", one, ``, 400, "invalid_argument", "data"},
		{"a member that a replacement does not have", "PUT", one, `{"data":1,"user":"bob"}`, 400, "invalid_argument", "user"},
		{"an unknown parameter of a deletion", "DELETE", one + "?force=1", ``, 400, "invalid_argument", "force"},
		{"an unknown parameter of a rotation", "POST", one + "/rotate?x=1", ``, 400, "invalid_argument", "x"},

		{"a list of all", "GET", sessionsPath, ``, 400, "invalid_argument", "user"},
		{"a list of nobody", "GET", sessionsPath + "?user=", ``, 400, "invalid_argument", "user"},
		{"an empty page", "GET", sessionsPath + "?user=ann&limit=0", ``, 400, "out_of_range", "limit"},
		{"a page that is too long", "GET", sessionsPath + "?user=ann&limit=1001", ``, 400, "out_of_range", "limit"},
		{"a limit that is none", "GET", sessionsPath + "?user=ann&limit=x", ``, 400, "invalid_argument", "limit"},
		{"a cursor that is not base64", "GET", sessionsPath + "?user=ann&cursor=!", ``, 400, "invalid_argument", "cursor"},
		{"a cursor that is not ours", "GET", sessionsPath + "?user=ann&cursor=Zm9v", ``, 400, "invalid_argument", "cursor"},
		{"an end for all", "DELETE", sessionsPath, ``, 400, "invalid_argument", "user"},
		{"all but a slip of the pen", "DELETE", sessionsPath + "?user=ann&except=x", ``, 400, "invalid_argument", "except"},
		{"all but nothing", "DELETE", sessionsPath + "?user=ann&except=", ``, 400, "invalid_argument", "except"},

		{"no such cache", "POST", "/v1/caches/nowhere/sessions", `{}`, 404, "not_found", "cache"},
		{"a method that there is not", "PUT", sessionsPath, `{}`, 405, "method_not_allowed", ""},
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
	if got := c.ids(t, "ann"); len(got) != 1 {
		t.Errorf("bad input made or ended sessions: %v", got)
	}
	c.do(t, "POST", sessionsPath, `{}`, "Content-Type", "text/plain").problem(t, 415, "unsupported_media_type", "Content-Type")
	c.do(t, "GET", sessionsPath+"?user=ann&limit=1000", nil).want(t, 200)
	c.do(t, "POST", sessionsPath, `{"user":"edge","max_per_user":10000,"idle_ttl":"36500d","absolute_ttl":"36500d"}`).want(t, 201)
}

func TestSessionDataHasABound(t *testing.T) {
	c := newTenant(t)
	small := "/v1/caches/" + c.newCache(t, tenants.Cache{MaxValue: 1024}) + "/sessions"
	text := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }
	c.do(t, "POST", small, `{"data":`+text(1025)+`}`).problem(t, 413, "too_large", "data").detail(t, "1024", "1025")
	a := c.do(t, "POST", small, `{"data":`+text(1024)+`}`).want(t, 201)
	one := small + "/" + a.text(t, "id")
	c.do(t, "PUT", one, `{"data":`+text(1025)+`}`).problem(t, 413, "too_large", "data")
	c.do(t, "PUT", one, `{"data":{"a":`+text(1000)+`}}`).want(t, 200)
	merge := []string{"Content-Type", "application/merge-patch+json"}
	c.do(t, "PATCH", one, `{"b":`+text(100)+`}`, merge...).problem(t, 413, "too_large", "data").detail(t, "1024")
	if a := c.do(t, "GET", one, nil).want(t, 200); !bytes.Contains(a.body, []byte(`"data":{"a":`+text(1000)+`}`)) {
		t.Errorf("what was too large changed the session: %.100s", a.body)
	}
	c.do(t, "PATCH", one, `{"b":1}`, merge...).want(t, 200)
	c.do(t, "POST", small, `{"data":`+text(maxJSONBody)+`}`).problem(t, 413, "too_large", "body")
}

func TestSessionKeyOfAnotherType(t *testing.T) {
	c := newTenant(t)
	id := string(drawID("abc"))
	c.do(t, "PUT", "/v1/caches/main/kv/"+url.PathEscape(string(sessionKey([]byte(id)))), "no session").want(t, 201)
	one := sessionsPath + "/" + id
	c.do(t, "GET", one, nil).problem(t, 409, "wrong_type", "")
	c.do(t, "GET", one+"?touch=false", nil).problem(t, 409, "wrong_type", "")
	c.do(t, "PUT", one, `{"data":1}`).problem(t, 409, "wrong_type", "")
	c.do(t, "PATCH", one, `{}`, "Content-Type", "application/merge-patch+json").problem(t, 409, "wrong_type", "")
	c.do(t, "DELETE", one, nil).problem(t, 409, "wrong_type", "")
	c.do(t, "POST", one+"/rotate", nil).problem(t, 409, "wrong_type", "")
	real := strings.TrimPrefix(c.begin(t, `{}`), sessionsPath+"/")
	c.do(t, "GET", "/v1/caches/main/kv/"+url.PathEscape(string(sessionKey([]byte(real)))), nil).problem(t, 409, "wrong_type", "")
}

func TestSessionWritesTakeEffectOnce(t *testing.T) {
	c := newTenant(t)
	body := `{"user":"ann","data":1}`
	first := c.do(t, "POST", sessionsPath, body, "Idempotency-Key", "k1").want(t, 201)
	c.clock.advance(time.Minute)
	again := c.do(t, "POST", sessionsPath, body, "Idempotency-Key", "k1").want(t, 201)
	if again.text(t, "id") != first.text(t, "id") || again.header.Get("Location") != first.header.Get("Location") || again.header.Get("ETag") != first.header.Get("ETag") {
		t.Errorf("a repetition answers\n%s, not\n%s", again.body, first.body)
	}
	if first.header.Get("Idempotency-Replayed") != "" || again.header.Get("Idempotency-Replayed") != "true" {
		t.Error("Idempotency-Replayed is wrong")
	}
	if got := c.ids(t, "ann"); len(got) != 1 {
		t.Errorf("ann has %d sessions", len(got))
	}
	c.do(t, "POST", sessionsPath, `{"user":"ann","data":2}`, "Idempotency-Key", "k1").want(t, 422)
	c.do(t, "POST", sessionsPath, body, "Idempotency-Key", "k2").want(t, 201)
	if got := c.ids(t, "ann"); len(got) != 2 {
		t.Errorf("ann has %d sessions", len(got))
	}

	one := sessionsPath + "/" + first.text(t, "id")
	rotated := c.do(t, "POST", one+"/rotate", nil, "Idempotency-Key", "k3").want(t, 200)
	if again := c.do(t, "POST", one+"/rotate", nil, "Idempotency-Key", "k3").want(t, 200); again.text(t, "id") != rotated.text(t, "id") {
		t.Errorf("a repeated rotation went on to %s", again.text(t, "id"))
	}
	c.do(t, "DELETE", sessionsPath+"?user=ann", nil, "Idempotency-Key", "k4").want(t, 200).json(t, `{"revoked":2}`)
	c.do(t, "DELETE", sessionsPath+"?user=ann", nil, "Idempotency-Key", "k4").want(t, 200).json(t, `{"revoked":2}`)

	// The key belongs to the credential, and is forgotten after a day.
	other := c.withRole(t, "read-write")
	if a := other.do(t, "POST", sessionsPath, body, "Idempotency-Key", "k1").want(t, 201); a.text(t, "id") == first.text(t, "id") {
		t.Error("another credential got this one's answer")
	}
	c.clock.advance(24 * time.Hour)
	if a := c.do(t, "POST", sessionsPath, body, "Idempotency-Key", "k1").want(t, 201); a.text(t, "id") == first.text(t, "id") {
		t.Error("an answer outlived its window")
	}
}

func TestSessionRights(t *testing.T) {
	owner := newTenant(t)
	one := owner.begin(t, `{"user":"ann"}`)
	reader := owner.withRole(t, "read-only")
	reader.do(t, "GET", one+"?touch=false", nil).want(t, 200)
	reader.do(t, "GET", sessionsPath+"?user=ann", nil).want(t, 200)
	for _, r := range []struct{ method, path, body string }{
		{"POST", sessionsPath, `{}`}, {"GET", one, ``}, {"PUT", one, `{"data":1}`}, {"PATCH", one, `{}`},
		{"DELETE", one, ``}, {"POST", one + "/rotate", ``}, {"DELETE", sessionsPath + "?user=ann", ``},
	} {
		headers := []string{}
		var body any
		if r.body != "" {
			body = r.body
		}
		if r.method == "PATCH" {
			headers = []string{"Content-Type", "application/merge-patch+json"}
		}
		reader.do(t, r.method, r.path, body, headers...).problem(t, 403, "denied", "")
	}

	// Who may write sessions but no user's key may begin one in nobody's name.
	nameless := owner.withPolicy(t, `{"Version":"2012-10-17","Statement":[{"Sid":"S","Effect":"Allow","Action":"cache:*","Resource":"arn:cache:cache:local:`+owner.tenant+`:cache/main/key/session:*"}]}`)
	nameless.do(t, "POST", sessionsPath, `{}`).want(t, 201)
	nameless.do(t, "POST", sessionsPath, `{"user":"ann"}`).problem(t, 403, "denied", "")
	nameless.do(t, "GET", sessionsPath+"?user=ann", nil).problem(t, 403, "denied", "")
	nameless.do(t, "GET", one, nil).want(t, 200)

	stranger := newTenant(t)
	stranger.do(t, "GET", one, nil).problem(t, 404, "not_found", "")
	stranger.do(t, "DELETE", sessionsPath+"?user=ann", nil).want(t, 200).json(t, `{"revoked":0}`)
	owner.with("").do(t, "GET", one, nil).want(t, 401)
	owner.do(t, "GET", one, nil).want(t, 200)
}
