package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A cache with eight ranges, over partitions that three nodes lead between them, is one cache through each of the nodes: what goes
// to several partitions comes together again, also after one of the nodes has died.
func TestRangesOnThreeNodes(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	first := nodes[0]
	made := first.do(t, http.MethodPost, "/v1/caches", `{"name":"eight","ranges":8}`).want(t, http.StatusCreated)
	if !strings.Contains(made.body, `"ranges":8`) {
		t.Fatalf("%s", made.body)
	}
	until(t, "three replicas of each partition vote, and each node leads one", func() bool {
		body := first.asOperator(t, http.MethodGet, "/v1/cluster", "").want(t, http.StatusOK).body
		return strings.Count(body, `"voters":3`) == 4
	})
	// run is the answers to commands in short, of a node that may not have heard of everything yet.
	run := func(n *server, commands ...string) string {
		var list [][]string
		for _, c := range commands {
			list = append(list, strings.Fields(c))
		}
		text, err := json.Marshal(map[string]any{"commands": list})
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Results []json.RawMessage }
		last := ""
		defer func() {
			if t.Failed() {
				t.Logf("%s answered %s", n.url, last)
			}
		}()
		until(t, "the node answers", func() bool {
			a := n.do(t, http.MethodPost, "/v1/caches/eight/commands", string(text))
			last = a.body
			return a.status == http.StatusOK && json.Unmarshal([]byte(a.body), &answer) == nil && !strings.Contains(a.body, `"unavailable"`)
		})
		var short []string
		for _, r := range answer.Results {
			short = append(short, strings.TrimSuffix(strings.TrimPrefix(string(r), `{"result":`), "}"))
		}
		return strings.Join(short, " ")
	}
	check := func(n *server, want string, commands ...string) {
		t.Helper()
		if got := run(n, commands...); got != want {
			t.Errorf("%s through %v: %s, want %s", commands, n.url, got, want)
		}
	}
	var set, get, values []string
	for i := range 64 {
		set, get, values = append(set, fmt.Sprint("k", i), fmt.Sprint("v", i)), append(get, fmt.Sprint("k", i)), append(values, fmt.Sprintf("%q", fmt.Sprint("v", i)))
	}
	all := "[" + strings.Join(values, ",") + "]"
	work := func(n *server) {
		t.Helper()
		check(n, `"OK" 64`, "MSET "+strings.Join(set, " "), "DBSIZE")
	}
	scan := func(n *server) {
		t.Helper()
		found := map[string]bool{}
		for cursor, steps := "0", 0; cursor != "0" || steps == 0; steps++ {
			var page []any
			if err := json.Unmarshal([]byte(run(n, "SCAN "+cursor+" COUNT 5")), &page); err != nil || len(page) != 2 || steps > 1000 {
				t.Fatalf("%v, %v", page, err)
			}
			cursor = page[0].(string)
			for _, key := range page[1].([]any) {
				found[key.(string)] = true
			}
		}
		if len(found) != 64 {
			t.Errorf("a scan through %v found %d keys", n.url, len(found))
		}
	}
	for i, n := range nodes {
		other := nodes[(i+1)%3]
		work(n)
		check(other, all+" 64 64", "MGET "+strings.Join(get, " "), "EXISTS "+strings.Join(get, " "), "TOUCH "+strings.Join(get, " "))
		scan(other)
		check(n, `2 62`, "DEL k1 k2 none", "DBSIZE")
		check(other, `"OK" 0`, "FLUSHALL", "DBSIZE")
		check(n, "0 [null,null]", "DBSIZE", "MGET k1 k3")
	}
	n := nodes[1]
	work(n)
	n.do(t, http.MethodPost, "/v1/caches/eight/batch", `{"atomic":true,"operations":[{"op":"kv.delete","key":"k1"},{"op":"kv.delete","key":"k2"}]}`).code(t, http.StatusConflict, "cross_slot")
	first.kill()
	until(t, "all partitions are led again", func() bool { return run(n, "DBSIZE") == "64" })
	check(nodes[2], all, "MGET "+strings.Join(get, " "))
	scan(n)
	check(n, `"OK" 0`, "FLUSHALL", "DBSIZE")
}
