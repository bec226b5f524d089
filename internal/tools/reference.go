package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// referencePages writes the pages that list what the code has in tables.
func referencePages(root string, doc *openapi3.T) error {
	settings, err := settingsPage(root)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	for name, text := range map[string]string{
		"commands": commandsPage(), "errors": errorsPage(), "actions": actionsPage(), "http": httpPage(doc), "settings": settings,
	} {
		if err := write(root, "docs/reference/"+name+".md", []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// A page is Markdown in the making.
type page struct{ strings.Builder }

// newPage begins a page that is generated from source.
func newPage(title, source, about string) *page {
	p := &page{}
	fmt.Fprintf(p, "<!-- Generated from %s by make generate. Do not edit. -->\n# %s\n\n%s\n", source, title, about)
	return p
}

func (p *page) section(title string) { fmt.Fprintf(p, "\n## %s\n\n", title) }

// row writes a row of a table.
func (p *page) row(cells ...string) {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(c, "|", `\|`)
	}
	fmt.Fprintf(p, "| %s |\n", strings.Join(cells, " | "))
}

// head writes the head of a table.
func (p *page) head(cells ...string) {
	p.row(cells...)
	p.WriteString(strings.Repeat("|---", len(cells)) + "|\n")
}

func code(s string) string { return "`" + s + "`" }

// titles are what groups of commands are called here, where that is not their name in the plural.
var titles = map[engine.Group]string{
	engine.GroupGeo: "Places", engine.GroupHash: "Hashes", engine.GroupHyperLogLog: "HyperLogLogs", engine.GroupKV: "Values with version and content type", engine.GroupServer: "Server",
	engine.GroupBloom: "Bloom filters", engine.GroupCuckoo: "Cuckoo filters", engine.GroupCountMin: "Count-min sketches", engine.GroupTopK: "Top-k", engine.GroupTDigest: "T-digests", engine.GroupJSON: "JSON documents",
}

func title(g engine.Group) string {
	if t, ok := titles[g]; ok {
		return t
	}
	name := strings.ReplaceAll(g.String(), "_", " ") + "s"
	return strings.ToUpper(name[:1]) + name[1:]
}

func commandsPage() string {
	p := newPage("Commands", "the command table", `Redis's commands keep Redis's names, arguments and answers; a command with a dot in its name is our own. HTTP runs
them by `+"`POST /v1/caches/{cache}/commands`"+`. «Needs» is the policy action that each of its keys needs; a + says that
its arguments may need more. Categories are those of Redis's ACLs; a command of @write goes through the partition's log. «Split»
says what becomes of it in a cache with several slot ranges: it is divided by key, carried out everywhere, or goes through the
ranges in turn with its cursor, in each case not in one step; or it needs all its keys in one slot.`)
	for g := range engine.NumGroups {
		p.section(title(g))
		p.head("command", "what it does", "categories", "complexity", "needs", "split", "since")
		for _, c := range engine.Commands() {
			if c.Group != g {
				continue
			}
			needs := ""
			if c.Action != "" {
				needs = code(c.Action)
			}
			if c.Also != nil || c.Rights != nil {
				needs += " +"
			}
			p.row(code(strings.TrimSpace(c.Name+" "+c.Usage)), c.Summary, code(strings.Join(c.Categories(), " ")), c.Complexity, needs, splits(c), c.Since)
		}
	}
	return p.String()
}

// splits is what becomes of a command in a cache with several slot ranges; empty for what has one key, or none and does not mind
// where it is carried out.
func splits(c *engine.Command) string {
	if len(c.Subspreads) > 0 {
		subs := slices.Sorted(maps.Keys(c.Subspreads))
		return c.Subspreads[subs[0]].String() + ": " + strings.Join(subs, ", ")
	}
	k := c.Keys
	if c.Spread == engine.One && k.Count+k.Store+k.Streams == 0 && k.First == k.Last {
		return ""
	}
	return c.Spread.String()
}

func errorsPage() string {
	p := newPage("Errors", "internal/fault", `Over HTTP an error is `+"`application/problem+json`"+` (RFC 9457): branch on `+"`code`"+`, which is stable; `+"`detail`"+` says what was
wrong and what the limit is, `+"`argument`"+` which argument, and `+"`request_id`"+` finds the request in the server's log.

    {"type":"about:blank","title":"Out of range","status":400,"code":"out_of_range",
     "detail":"limit is 1 to 1000, not 5000","argument":"limit","request_id":"dq1x0k3f2a-1f"}

The Go client has each code as an error to compare with errors.Is: larder.ErrOutOfRange. After unavailable and throttled
nothing has changed; Retry-After says when to come back. After outcome_unknown a write may have happened: repeat it with
the same Idempotency-Key.
`)
	p.head("status", "code", "when", "Redis", "memcached")
	kinds := fault.Kinds()
	slices.SortStableFunc(kinds, func(a, b fault.Kind) int { return a.Face().Status - b.Face().Status })
	for _, k := range kinds {
		f := k.Face()
		p.row(strconv.Itoa(f.Status), code(f.Code), meanings()[k], code(f.Redis), code(f.Memcached))
	}
	return p.String()
}

func actionsPage() string {
	p := newPage("Actions and condition keys", "auth/policy", `What policies speak of. A ready-made role allows the actions with a mark in its column. «Commands» are those whose keys
need the action; what their arguments may need besides stands with the command.`)
	needed := map[string][]string{}
	for _, c := range engine.Commands() {
		needed[c.Action] = append(needed[c.Action], c.Name)
	}
	roles := policy.Roles()
	head := []string{"action", "commands"}
	for _, r := range roles {
		head = append(head, r.Name)
	}
	p.section("Actions")
	p.head(head...)
	for _, action := range policy.Actions() {
		cells := []string{code(action), strings.Join(needed[action], ", ")}
		for _, r := range roles {
			mark := ""
			if allows(r, action) {
				mark = "✓"
			}
			cells = append(cells, mark)
		}
		p.row(cells...)
	}
	p.section("Ready-made roles")
	p.head("role", "what it allows")
	for _, r := range roles {
		p.row(code(r.Name), r.About)
	}
	p.section("Condition keys")
	p.head("key", "type")
	for _, k := range policy.ConditionKeys() {
		p.row(code(k.Name), k.Type)
	}
	return p.String()
}

// allows reports whether a ready-made role's one statement names an action.
func allows(r policy.Role, action string) bool {
	var d struct {
		Statement []struct{ Action []string }
	}
	if err := json.Unmarshal(r.Policy, &d); err != nil || len(d.Statement) != 1 {
		panic(fmt.Sprintf("role %s is not of one statement: %v", r.Name, err))
	}
	return slices.ContainsFunc(d.Statement[0].Action, func(pattern string) bool {
		prefix, family := strings.CutSuffix(pattern, "*")
		return pattern == action || family && strings.HasPrefix(action, prefix)
	})
}

func httpPage(doc *openapi3.T) string {
	p := newPage("HTTP routes", "docs/openapi.json", `All routes. [openapi.json](../openapi.json) has their parameters and bodies, and a running server shows them at /docs.`)
	for _, tag := range doc.Tags {
		p.section(tag.Name)
		fmt.Fprintf(p, "%s\n\n", tag.Description)
		p.head("route", "what it does", "name")
		for _, o := range operationsOf(doc, tag.Name) {
			p.row(code(o.method+" "+o.path), o.Summary, o.OperationID)
		}
	}
	return p.String()
}

type operation struct {
	*openapi3.Operation
	method, path string
}

// operationsOf lists the operations with a tag by their paths.
func operationsOf(doc *openapi3.T, tag string) (list []operation) {
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.Tags[0] == tag {
				list = append(list, operation{op, method, path})
			}
		}
	}
	order := []string{"POST", "PUT", "GET", "HEAD", "PATCH", "DELETE"}
	slices.SortFunc(list, func(a, b operation) int {
		if c := strings.Compare(a.path, b.path); c != 0 {
			return c
		}
		return slices.Index(order, a.method) - slices.Index(order, b.method)
	})
	return list
}

// settingsPage lists the flags of `larder serve` as its source declares them: defaults that depend on the
// machine are told in words.
func settingsPage(root string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "cmd/larder/settings.go"), nil, 0)
	if err != nil {
		return "", err
	}
	p := newPage("Settings", "cmd/larder/settings.go", `What `+"`larder serve`"+` can be told: as a flag, as an environment variable, or by the flag's name in the YAML file that --config
names. A flag outweighs the environment, which outweighs the file.
`)
	p.head("flag", "environment", "default", "meaning")
	rows := 0
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 4 || err != nil {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !strings.HasSuffix(method.Sel.Name, "Var") {
			return true
		}
		var name, otherwise, about string
		if name, err = literal(root, call.Args[1]); err != nil {
			return false
		}
		if otherwise, err = literal(root, call.Args[2]); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			return false
		}
		if about, err = literal(root, call.Args[3]); err != nil {
			return false
		}
		rows++
		if otherwise != "" && !strings.HasPrefix(otherwise, "the ") {
			otherwise = code(otherwise)
		}
		p.row(code("--"+name), code("LARDER_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))), otherwise, about)
		return true
	})
	if err == nil && rows == 0 {
		err = fmt.Errorf("no flags found")
	}
	return p.String(), err
}

// literal is the value of an expression that a flag is declared with.
func literal(root string, e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			return strconv.Unquote(e.Value)
		}
		return e.Value, nil
	case *ast.Ident:
		switch e.Name {
		case "host":
			return "the host's name", nil
		case "allRoles":
			return "gateway,engine", nil
		case "nil":
			return "", nil
		case "true", "false":
			return e.Name, nil
		}
		return constant(filepath.Join(root, "cmd/larder"), e.Name)
	case *ast.CompositeLit:
		var parts []string
		for _, element := range e.Elts {
			part, err := literal(root, element)
			if err != nil {
				return "", err
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, ","), nil
	case *ast.BinaryExpr: // 5*time.Second
		n, err := literal(root, e.X)
		if unit, ok := e.Y.(*ast.SelectorExpr); ok && err == nil {
			if u := map[string]string{"Second": "s", "Minute": "m", "Hour": "h", "Millisecond": "ms"}[unit.Sel.Name]; u != "" {
				return n + u, nil
			}
		}
	case *ast.SelectorExpr:
		return constant(filepath.Join(root, fmt.Sprint(e.X)), e.Sel.Name)
	}
	return "", fmt.Errorf("a default that this page cannot tell; teach literal")
}

// constant is the value of a constant that the package in dir declares with a plain value.
func constant(dir, name string) (value string, err error) {
	files, err := parsePackage(dir)
	if err == nil {
		err = fmt.Errorf("no constant %s in %s", name, dir)
	}
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if c, ok := n.(*ast.ValueSpec); ok && c.Names[0].Name == name && len(c.Values) == 1 {
				value, err = literal("", c.Values[0])
			}
			return true
		})
	}
	return value, err
}
