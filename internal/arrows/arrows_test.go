// Package arrows keeps the import arrows of the architecture true: a package may import those below it only.
package arrows

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/larder-cache/larder/"

// layers lists the project's folders from the top down. A folder may import folders of lower lines, itself,
// and internal; folders of one line do not know each other.
var layers = [][]string{
	{"cmd"},
	{"httpapi", "redisapi", "memcacheapi"},
	{"gateway"},
	{"tenants"},
	{"auth"},
	{"replication"},
	{"placement"},
	{"snapshots", "transfer"},
	{"engine"},
	{"internal"},
	{"docs"}, // the generated OpenAPI document as a package of bytes
}

// forbidden are arrows that point down and are wrong all the same.
var forbidden = map[string][]string{
	"httpapi":     {"replication"},
	"redisapi":    {"replication", "placement"},
	"memcacheapi": {"replication", "placement"},
	"engine":      {"docs"},
}

func layer(folder string) int {
	for i, names := range layers {
		for _, n := range names {
			if n == folder {
				return i
			}
		}
	}
	return -1
}

func TestArrowsPointDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := folder(fields[0])
		if from == "" || from == "sdk" { // the SDK is a module of its own and cannot import this one
			continue
		}
		if strings.HasPrefix(fields[0], module+"internal/bench/") {
			from = "cmd" // programs that measure, which may import what they measure
		}
		if layer(from) < 0 {
			t.Errorf("%s: the folder %q stands in no layer", fields[0], from)
		}
		for _, imported := range fields[1:] {
			to := folder(imported)
			if to == "" || to == from || to == "sdk" {
				continue
			}
			checked++
			if layer(to) <= layer(from) {
				t.Errorf("%s imports %s: arrows point down", fields[0], imported)
			}
			for _, not := range forbidden[from] {
				if to == not {
					t.Errorf("%s imports %s, which is not its business", fields[0], imported)
				}
			}
		}
	}
	if checked == 0 {
		t.Fatal("no arrow was checked")
	}
}

// folder is the top folder of a package of this module, empty for others.
func folder(path string) string {
	rest, ok := strings.CutPrefix(path, module)
	if !ok {
		return ""
	}
	top, _, _ := strings.Cut(rest, "/")
	return top
}

// TestTheEngineKnowsNoWorld keeps clock, dice, goroutines and I/O out of the engine.
func TestTheEngineKnowsNoWorld(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"engine/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		for _, imported := range fields[1:] {
			switch imported {
			case "os", "net", "net/http", "crypto/rand", "sync", "sync/atomic", "context", "log", "log/slog", "syscall":
				if imported == "syscall" && fields[0] == module+"engine/memory" {
					continue // memory comes from the operating system, and tells nothing about the world
				}
				t.Errorf("%s imports %s", fields[0], imported)
			}
		}
	}
	grep := exec.Command("grep", "-nE", `time\.(Now|Since|After|Tick|Sleep|NewTimer)|^[[:space:]]*go (func|[a-z])|maphash\.MakeSeed|rand\.(Int|Uint|Float|Perm|Shuffle|N)\(`, "-r", "--include=*.go", "--exclude=*_test.go", "../../engine")
	if found, _ := grep.Output(); len(found) > 0 { // grep fails when it finds nothing
		t.Errorf("the engine reads a clock, throws dice or starts goroutines:\n%s", found)
	}
}
