package httpapi

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImportAndExport: a file of a real Redis comes in, and goes out in every format, of the cache and of a snapshot.
func TestImportAndExport(t *testing.T) {
	owner := newTenant(t)
	file, err := os.ReadFile("../engine/rdb/testdata/redis-7.0.rdb")
	if err != nil {
		t.Fatal(err)
	}
	const in, out = "/v1/caches/main/import", "/v1/caches/main/export"
	owner.do(t, "GET", in, nil).problem(t, 404, "not_found", "cache")
	r := owner.do(t, "POST", in, file).want(t, 200).object(t)
	if r["format"] != "rdb" || r["keys"] != 24.0 || r["expired"].(float64)+24 < 24 || len(r["skipped"].([]any)) != 0 {
		t.Errorf("%v", r)
	}
	if p := owner.do(t, "GET", in, nil).want(t, 200).object(t); p["state"] != "done" || p["keys"] != 24.0 || p["bytes"] != float64(len(file)) {
		t.Errorf("%v", p)
	}
	owner.do(t, "POST", in, file).problem(t, 409, "conflict", "key")
	if r := owner.do(t, "POST", in+"?mode=skip&db=3", file).want(t, 200).object(t); r["keys"] != 0.0 || len(r["skipped"].([]any)) < 1 {
		t.Errorf("%v", r)
	}
	owner.do(t, "POST", in+"?mode=replace", file[:9000]).problem(t, 400, "invalid_argument", "body").detail(t, "at byte ", "are in the cache")
	owner.do(t, "POST", in, "nonsense").problem(t, 400, "invalid_argument", "body")
	owner.do(t, "POST", in, file, "Idempotency-Key", "k").problem(t, 400, "invalid_argument", "Idempotency-Key")
	owner.do(t, "POST", in+"?db=x", file).problem(t, 400, "invalid_argument", "db")

	r = owner.do(t, "POST", in, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n*1\r\n$5\r\nRESET\r\n").want(t, 200).object(t)
	if failed := r["errors"].([]any); r["commands"] != 1.0 || len(failed) != 2 || failed[0].(map[string]any)["index"] != 1.0 || failed[1].(map[string]any)["code"] != "not_supported" {
		t.Errorf("%v", r)
	}
	for format, begins := range map[string]string{"": "REDIS0010", "?format=rdb&rdb_version=12": "REDIS0012", "?format=jsonl&prefix=in": `{"`, "?format=csv": "db,key,type,ttl_ms,value"} {
		if a := owner.do(t, "GET", out+format, nil).want(t, 200); !strings.HasPrefix(string(a.body), begins) {
			t.Errorf("%s begins with %.40q", format, a.body)
		}
	}
	owner.do(t, "GET", out+"?rdb_version=8", nil).problem(t, 400, "out_of_range", "rdb_version")
	owner.do(t, "GET", out+"?format=xml", nil).problem(t, 400, "invalid_argument", "format")
	owner.do(t, "GET", "/v1/caches/none/export", nil).problem(t, 404, "not_found", "cache")

	id := owner.do(t, "POST", "/v1/caches/main/snapshots", `{}`).want(t, 202).text(t, "id")
	settles(t, owner, "/v1/caches/main/snapshots/"+id, "state", "available")
	now := owner.do(t, "GET", out+"?format=jsonl", nil).want(t, 200)
	owner.do(t, "POST", "/v1/caches/main/commands", `[["FLUSHALL"]]`).want(t, 200)
	then := owner.do(t, "GET", out+"?format=jsonl&snapshot="+id, nil).want(t, 200)
	if a, b := strings.Count(string(now.body), "\n"), strings.Count(string(then.body), "\n"); a != 25 || b != 25 {
		t.Errorf("%d lines, and %d of the snapshot", a, b)
	}
	if r := owner.do(t, "POST", in, then.body).want(t, 200).object(t); r["keys"] != 25.0 {
		t.Errorf("%v", r)
	}
}

// TestImportFromAStore: who may, imports a file that lies where the operator allows it, and nothing else.
func TestImportFromAStore(t *testing.T) {
	owner, other := newTenant(t), newTenant(t)
	file, err := os.ReadFile("../engine/rdb/testdata/redis-7.0.rdb")
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(owner.dumps, owner.tenant)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "dump.rdb"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	const in = "/v1/caches/main/import"
	from := func(name string) string { return in + "?from=" + url.QueryEscape("file://"+name) }
	there := from(folder + "/dump.rdb")
	r := owner.do(t, "POST", there, nil).want(t, 200).object(t)
	if r["format"] != "rdb" || r["keys"] != 24.0 || r["bytes"] != float64(len(file)) {
		t.Errorf("%v", r)
	}
	if p := owner.do(t, "GET", in, nil).want(t, 200).object(t); p["state"] != "done" || p["keys"] != 24.0 {
		t.Errorf("%v", p)
	}
	owner.do(t, "POST", there, nil).problem(t, 409, "conflict", "key")
	owner.do(t, "POST", there+"&mode=replace&prefix=x", nil).want(t, 200)
	owner.do(t, "POST", there, file).problem(t, 400, "invalid_argument", "from")
	owner.do(t, "POST", from(folder+"/none.rdb"), nil).problem(t, 404, "not_found", "from")
	other.do(t, "POST", there, nil).problem(t, 403, "denied", "from")
	owner.do(t, "POST", from("/etc/passwd"), nil).problem(t, 403, "denied", "from")
	owner.do(t, "POST", in+"?from=dump.rdb", nil).problem(t, 400, "invalid_argument", "from")
	owner.do(t, "POST", in+"?from="+strings.Repeat("x", 3000), nil).problem(t, 413, "too_large", "from")
	owner.withRole(t, "read-write").do(t, "POST", there, nil).want(t, 403)
}
