package httpapi

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

// versions of values are counted by each partition for itself.
var versions = regexp.MustCompile(`"etag":"[^,}]*"|"version":"[^,}]*"`)

// operationsOnKeys are operations of a batch, in which K stands for a key.
var operationsOnKeys = []string{
	`{"op":"kv.put","key":"K","value":"v","ttl":"1h"}`, `{"op":"kv.put","key":"K","value":"w","if_none_match":"*"}`, `{"op":"kv.get","key":"K"}`,
	`{"op":"kv.append","key":"K","value":"x"}`, `{"op":"kv.delete","key":"K"}`, `{"op":"kv.ttl","key":"K"}`, `{"op":"kv.persist","key":"K"}`, `{"op":"kv.expire","key":"K","ttl":"2h"}`,
	`{"op":"counters.add","name":"K","by":3}`, `{"op":"counters.get","name":"K"}`, `{"op":"counters.delete","name":"K"}`,
	`{"op":"leaderboards.put","name":"K","members":[{"member":"m","score":2}]}`, `{"op":"leaderboards.get","name":"K","member":"m"}`, `{"op":"leaderboards.info","name":"K"}`,
}

// commandsOnKeys are commands, in which K stands for one key and each of K1 to K4 for another.
var commandsOnKeys = []string{
	`["SET","K","v"]`, `["GET","K"]`, `["MGET","K1","K2","K3","K4"]`, `["MSET","K1","1","K2","2","K3","3"]`, `["DEL","K1","K2","K3"]`, `["EXISTS","K1","K2","K1"]`,
	`["TOUCH","K1","K2"]`, `["UNLINK","K1","K4"]`, `["DBSIZE"]`, `["FLUSHDB"]`, `["HSET","K","f","v"]`, `["HGETALL","K"]`, `["JSON.SET","K","$","{\"a\":1}"]`, `["JSON.MGET","K1","K2","$.a"]`,
	`["SCRIPT","LOAD","return 1"]`, `["SCRIPT","EXISTS","e0e1f9fabfc9d4800c877a703b823ac0578ff8db"]`, `["RENAME","{t}a","{t}b"]`, `["NOSUCH"]`, `["MSET","K"]`,
}

// A batch is answered alike whatever the ranges of its cache, in our own form and in that of the REST dialect.
func TestABatchIsAnsweredAlikeWhateverTheRanges(t *testing.T) {
	c := newTenant(t)
	c.do(t, "POST", "/v1/caches", `{"name":"eight","ranges":8,"memory_limit_bytes":134217728}`).want(t, 201)
	if got := c.do(t, "GET", "/v1/caches/eight", nil).want(t, 200); !strings.Contains(string(got.body), `"ranges":8`) || !strings.Contains(string(got.body), `"live":{"items":0`) {
		t.Fatalf("%s", got.body)
	}
	rapid.Check(t, func(r *rapid.T) {
		fill := func(pattern string) string {
			key := rapid.StringMatching(`k[0-9]`)
			for i := 4; i >= 0; i-- {
				name := "K"
				if i > 0 {
					name = fmt.Sprint("K", i)
				}
				if strings.Contains(pattern, `"`+name+`"`) {
					pattern = strings.ReplaceAll(pattern, `"`+name+`"`, `"`+key.Draw(r, name)+`"`)
				}
			}
			return pattern
		}
		list := func(from []string) string {
			var all []string
			for range rapid.IntRange(1, 40).Draw(r, "length") {
				all = append(all, fill(rapid.SampledFrom(from).Draw(r, "operation")))
			}
			return strings.Join(all, ",")
		}
		for range 3 {
			path, body := "batch", `{"operations":[`+list(operationsOnKeys)+`]}`
			if rapid.Bool().Draw(r, "commands") {
				path, body = "commands", `{"commands":[`+list(commandsOnKeys)+`]}`
			}
			var got [2]string
			for i, cache := range []string{"main", "eight"} {
				a := c.do(t, "POST", "/v1/caches/"+cache+"/"+path, body)
				got[i] = fmt.Sprint(a.status, " ", versions.ReplaceAllString(string(a.body), ""))
			}
			if got[0] != got[1] || !strings.HasPrefix(got[0], "200 ") {
				r.Fatalf("%s\n%s\nwith eight ranges\n%s", body, got[0], got[1])
			}
		}
	})
}

func TestWhatASplitCacheRefuses(t *testing.T) {
	c := newTenant(t)
	c.newCache(t, tenants.Cache{Name: "four", Ranges: placement.Even(4)})
	two := `{"operations":[{"op":"kv.put","key":"a","value":"1"},{"op":"kv.put","key":"b","value":"1"}],"atomic":true}`
	a := c.do(t, "POST", "/v1/caches/four/batch", two).problem(t, 409, "cross_slot", "")
	if !strings.Contains(string(a.body), "hash tag") {
		t.Errorf("it does not say what helps: %s", a.body)
	}
	c.do(t, "POST", "/v1/caches/four/batch", strings.NewReplacer(`"a"`, `"{t}a"`, `"b"`, `"{t}b"`).Replace(two)).want(t, 200)
	rename := c.do(t, "POST", "/v1/caches/four/commands", `{"commands":[["RENAME","a","b"],["SET","a","1"]]}`).want(t, 200)
	if !strings.Contains(string(rename.body), `"code":"cross_slot"`) || !strings.Contains(string(rename.body), `"OK"`) {
		t.Errorf("%s", rename.body)
	}
	for body, argument := range map[string]string{`{"name":"x","ranges":0}`: "ranges", `{"name":"x","ranges":65}`: "ranges", `{"name":"x","ranges":8,"memory_limit_bytes":4194304}`: "memory_limit_bytes"} {
		c.do(t, "POST", "/v1/caches", body).problem(t, 400, "out_of_range", argument)
	}
	c.do(t, "PATCH", "/v1/caches/four", `{"ranges":2}`).problem(t, 400, "invalid_argument", "ranges")
}
