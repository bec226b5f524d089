package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/usage"
)

// post sends JSON to a server's API and reads the answer into out.
func post(t *testing.T, f devFile, credential, path string, body, out any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, f.HTTP+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+credential)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("POST %s: %s", path, resp.Status)
	}
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTenantLeakOverRedis lets one tenant try every command of the table, on a cache and on keys that are called as another's, which
// hold a canary. No byte of the canary may come back, and nothing of the other's may change.
func TestTenantLeakOverRedis(t *testing.T) {
	f := startDev(t)
	var other struct {
		APIKey string `json:"api_key"`
	}
	post(t, f, f.OperatorToken, "/v1/tenants", map[string]string{"name": "other"}, &other)
	post(t, f, other.APIKey, "/v1/caches", map[string]string{"name": f.Cache}, nil)
	const canary = "CANARY-7f3a"
	b := dialPeer(t, f.Redis, "AUTH", f.Cache, other.APIKey)
	if got := b.do("CLIENT", "SETNAME", canary); strings.HasPrefix(got.text, "-") {
		t.Fatal(got)
	}
	writes := [][]string{
		{"SET", "a", canary}, {"LPUSH", "b", canary}, {"SADD", "c", canary}, {"ZADD", "d", "1", canary}, {"HSET", "{x}e", "f", canary},
		{"XADD", "st", "1-1", "f", canary}, {"SET", canary, "1"}, {"SET", "n", "1"}, {"SCRIPT", "LOAD", "return '" + canary + "'"},
	}
	for _, w := range writes {
		if got := b.do(w...); strings.HasPrefix(got.text, "-") {
			t.Fatalf("%q: %s", w, got)
		}
	}
	listener := dialPeer(t, f.Redis, "AUTH", f.Cache, other.APIKey)
	listener.do("SUBSCRIBE", canary)

	dice := rand.New(rand.NewPCG(5, 5))
	a := dialPeer(t, f.Redis, "HELLO", "3", "AUTH", f.Cache, f.APIKey)
	leaves := []string{"QUIT", "RESET", "MULTI", "MONITOR", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "AUTH", "HELLO", "CLIENT", "SHUTDOWN"}
	var commands []*engine.Command
	for _, c := range engine.Commands() {
		name, sub, _ := strings.Cut(c.Name, "|")
		if c.Flags&engine.Blocks == 0 && (!slices.Contains(leaves, name) || name == "CLIENT" && slices.Contains([]string{"LIST", "INFO", "ID", "GETNAME"}, sub)) {
			commands = append(commands, c)
		}
	}
	check := func(args []string, got tree) {
		t.Helper()
		if strings.Contains(got.String(), canary) && !strings.Contains(strings.Join(args, " "), canary) {
			t.Fatalf("%q answers %s", args, got)
		}
	}
	keys := []string{"a", "b", "c", "d", "{x}e", "st", "n", "*", "g"}
	for _, c := range commands {
		name := strings.Split(c.Name, "|")
		for range 20 {
			args := append(name, usage.Make(c.Name, c.Usage, time.Now().UnixMilli(), dice.IntN)[1:]...)
			check(args, a.do(args...))
		}
		least := append(slices.Clone(name), usage.Make(c.Name, c.Usage, time.Now().UnixMilli(), nil)[1:]...)
		for _, key := range keys {
			args := slices.Clone(least)
			for i := len(name); i < len(args); i++ {
				args[i] = key
			}
			check(args, a.do(args...))
		}
	}
	if got := a.do("PUBLISH", canary, "hello"); got.text != ":0" {
		t.Errorf("a message reached %s listeners of another tenant", got)
	}
	for _, check := range [][3]string{{"GET", "a", ""}, {"GET", "n", ""}} {
		want := map[string]string{"a": "$" + canary, "n": "$1"}[check[1]]
		if got := b.do(check[0], check[1]); got.text != want {
			t.Errorf("%s %s: %s, want %s", check[0], check[1], got, want)
		}
	}
	if got := b.do("DBSIZE"); got.text != ":8" {
		t.Errorf("the other tenant's keys: %s", got)
	}
}

// What is blocked is served in the order in which it came, between the calls of a pipeline, and forgotten when it leaves.
func TestBlockedClientsAreServedInOrder(t *testing.T) {
	f := startDev(t)
	dial := func() *peer { return dialPeer(t, f.Redis, "AUTH", f.Cache, f.APIKey) }
	push := dial()
	waiting := func(n int) {
		t.Helper()
		for range 200 {
			if strings.Contains(push.do("INFO", "clients").text, fmt.Sprintf("blocked_clients:%d\r\n", n)) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("there are never %d blocked clients", n)
	}
	var clients []*peer
	for i := range 5 {
		c := dial()
		c.send("BLPOP", "other", "l", "0")
		clients = append(clients, c)
		waiting(i + 1)
	}
	clients[1].conn.Close()
	waiting(4)
	push.send("RPUSH", "l", "1", "2")
	push.send("LLEN", "l")
	if n, left := push.read(), push.read(); n.text != ":2" || left.text != ":0" {
		t.Errorf("RPUSH and LLEN in a pipeline: %s %s", n, left)
	}
	for i, want := range map[int]string{0: "1", 2: "2"} {
		if got := clients[i].read(); len(got.in) != 2 || got.in[1].text != "$"+want {
			t.Errorf("client %d: %s, want %s", i, got, want)
		}
	}
	waiting(2)
	for _, args := range [][]string{{"MULTI"}, {"RPUSH", "l", "x"}, {"DEL", "l"}, {"EXEC"}} { // nobody sees what comes and goes
		push.do(args...)
	}
	waiting(2)
	push.do("RPUSH", "l", "3")
	if got := clients[3].read(); len(got.in) != 2 || got.in[1].text != "$3" {
		t.Errorf("the third in the queue: %s", got)
	}
}
