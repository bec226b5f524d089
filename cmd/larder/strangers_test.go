package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestStrangersOverRedis tries what TestTenantLeakOverRedis cannot: commands that act on connections, and all that one tenant does may be
// heard of by another that listens to everything, on a cache of the same name with the same keys, users, scripts and libraries.
func TestStrangersOverRedis(t *testing.T) {
	f := startDev(t)
	var other struct {
		APIKey string `json:"api_key"`
	}
	post(t, f, f.OperatorToken, "/v1/tenants", map[string]string{"name": "other"}, &other)
	post(t, f, other.APIKey, "/v1/caches", map[string]string{"name": f.Cache}, nil)
	const canary = "CANARY-1b7e"
	victim := func() *peer { return dialPeer(t, f.Redis, "HELLO", "3", "AUTH", f.Cache, other.APIKey) }
	b, tracks, waits, watches := victim(), victim(), victim(), victim()
	must := func(p *peer, args ...string) tree {
		t.Helper()
		got := p.do(args...)
		if strings.HasPrefix(got.text, "-") || strings.HasPrefix(got.text, "!") {
			t.Fatalf("%q: %s", args, got)
		}
		return got
	}
	id := func(p *peer) string { return strings.TrimPrefix(must(p, "CLIENT", "ID").text, ":") }
	must(b, "CONFIG", "SET", "notify-keyspace-events", "KEA")
	must(b, "CONFIG", "SET", "slowlog-log-slower-than", "0")
	must(b, "SET", "k", canary)
	must(b, "FUNCTION", "LOAD", "#!lua name="+strings.ToLower(strings.ReplaceAll(canary, "-", ""))+"\nredis.register_function('f', function() return 1 end)")
	sha := strings.TrimPrefix(must(b, "SCRIPT", "LOAD", "return '"+canary+"'").text, "$")
	must(tracks, "CLIENT", "TRACKING", "ON")
	must(tracks, "GET", "k")
	must(watches, "WATCH", "k")
	waiting := id(waits)
	waits.send("BLPOP", "list", "0")

	a := dialPeer(t, f.Redis, "HELLO", "3", "AUTH", f.Cache, f.APIKey)
	must(a, "CONFIG", "SET", "notify-keyspace-events", "KEA")
	must(a, "CONFIG", "SET", "slowlog-log-slower-than", "0")
	monitor, listener, tracker := dialPeer(t, f.Redis, "AUTH", f.Cache, f.APIKey), dialPeer(t, f.Redis, "HELLO", "3", "AUTH", f.Cache, f.APIKey), dialPeer(t, f.Redis, "HELLO", "3", "AUTH", f.Cache, f.APIKey)
	must(monitor, "MONITOR")
	must(listener, "PSUBSCRIBE", "*")
	must(tracker, "CLIENT", "TRACKING", "ON", "BCAST")

	for _, say := range [][]string{ // what acts on another's connection finds none
		{"CLIENT", "KILL", "ID", id(b)}, {"CLIENT", "KILL", "ID", waiting}, {"CLIENT", "KILL", "USER", "default", "TYPE", "normal", "SKIPME", "yes", "LADDR", "1.2.3.4:5"}, {"CLIENT", "UNBLOCK", waiting}, {"CLIENT", "UNBLOCK", waiting, "ERROR"},
	} {
		if got := a.do(say...); got.text != ":0" {
			t.Errorf("%q: %s", say, got)
		}
	}
	addr := b.conn.LocalAddr().String()
	for _, say := range [][]string{
		{"CLIENT", "KILL", addr}, {"CLIENT", "TRACKING", "ON", "REDIRECT", id(b)}, {"EVALSHA", sha, "0"}, {"FCALL", "f", "0"}, {"AUTH", f.Cache, other.APIKey + "x"}, {"ACL", "GETUSER", strings.SplitN(other.APIKey, ".", 2)[0]},
	} {
		got := a.do(say...)
		if !strings.HasPrefix(got.text, "-") && !strings.HasPrefix(got.text, "_") || strings.Contains(got.String(), canary) {
			t.Errorf("%q: %s", say, got)
		}
	}
	for _, say := range [][]string{
		{"CLIENT", "LIST"}, {"CLIENT", "LIST", "ID", id(b), waiting}, {"ACL", "LIST"}, {"ACL", "USERS"}, {"ACL", "LOG"}, {"SLOWLOG", "GET", "-1"}, {"LATENCY", "HISTOGRAM"}, {"INFO", "everything"},
		{"PUBSUB", "CHANNELS"}, {"FUNCTION", "LIST", "WITHCODE"}, {"FUNCTION", "DUMP"}, {"SCRIPT", "EXISTS", sha}, {"MEMORY", "STATS"}, {"CONFIG", "GET", "*"}, {"CLUSTER", "NODES"}, {"KEYS", "*"},
	} {
		got := must(a, say...).String()
		for _, secret := range []string{canary, strings.ToLower(strings.ReplaceAll(canary, "-", "")), addr, "id=" + waiting + " ", other.APIKey, "blocked_clients:1"} {
			if strings.Contains(got, secret) && (say[0] != "SLOWLOG" || secret != addr && secret != other.APIKey) { // which it has said itself
				t.Errorf("%q tells of another tenant's %s: %s", say, secret, got)
			}
		}
	}
	if got := must(a, "SCRIPT", "EXISTS", sha).String(); !strings.Contains(got, ":0") {
		t.Errorf("another's script is known: %s", got)
	}

	must(a, "FLUSHALL") // and what is done to one cache does nothing to the other
	must(a, "SCRIPT", "FLUSH")
	must(a, "FUNCTION", "FLUSH")
	must(a, "CLIENT", "PAUSE", "20000", "ALL")
	must(b, "PING")
	must(a, "CLIENT", "UNPAUSE")
	must(a, "CONFIG", "RESETSTAT")
	must(a, "SLOWLOG", "RESET")
	must(a, "RPUSH", "list", "theirs")
	must(a, "SET", "k", "theirs")
	if got := must(b, "GET", "k"); got.text != "$"+canary {
		t.Errorf("k is %s", got)
	}
	must(b, "FCALL", "f", "0")
	must(b, "EVALSHA", sha, "0")
	if got := must(b, "SLOWLOG", "LEN"); got.text == ":0" {
		t.Error("another's slow log was emptied")
	}
	must(watches, "MULTI")
	must(watches, "GET", "k")
	if got := must(watches, "EXEC"); len(got.in) != 1 {
		t.Errorf("a watched key changed with another tenant's: %s", got)
	}
	if got := must(b, "CLIENT", "LIST", "ID", waiting).String(); !strings.Contains(got, "cmd=blpop") {
		t.Errorf("who waits does so no more: %s", got)
	}

	must(b, "PUBLISH", "news", canary) // what the victim does is heard by nobody of the other
	must(b, "SPUBLISH", "news", canary)
	must(b, "SET", canary, "v", "EX", "100")
	must(b, "DEL", canary)
	must(b, "RPUSH", "list", canary)
	if got := waits.read(); !strings.Contains(got.String(), canary) {
		t.Errorf("who waited got %s", got)
	}
	must(b, "SET", "k", "new")
	must(a, "PUBLISH", "end", "end")
	must(a, "SET", "end", "end")
	for name, p := range map[string]*peer{"MONITOR": monitor, "PSUBSCRIBE": listener, "CLIENT TRACKING": tracker} {
		for heard := ""; !strings.Contains(heard, "end"); {
			heard = p.read().String()
			if strings.Contains(heard, canary) || strings.Contains(heard, "news") || strings.Contains(heard, addr) {
				t.Errorf("%s hears of another tenant: %s", name, heard)
			}
		}
	}
	if got := tracks.read().String(); !strings.Contains(got, "invalidate") || !strings.Contains(got, `"$k"`) {
		t.Errorf("the victim's own change is told as %s", got)
	}

	for _, path := range []string{"/v1/caches/" + f.Cache + "/redis/client/kill/id/" + waiting, "/v1/caches/" + f.Cache + "/redis/get/k", "/v1/caches/" + f.Cache + "/webdis/GET/k.json", "/v1/caches/" + f.Cache + "/webdis/EVALSHA/" + sha + "/0"} {
		r, err := http.NewRequest(http.MethodGet, f.HTTP+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+f.APIKey)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(resp.Header)
		for body, left := make([]byte, 4096), true; left; {
			n, err := resp.Body.Read(body)
			text, left = text+string(body[:n]), err == nil
		}
		resp.Body.Close()
		if strings.Contains(text, canary) || strings.Contains(text, `"new"`) {
			t.Errorf("%s tells %s", path, text)
		}
	}
}
