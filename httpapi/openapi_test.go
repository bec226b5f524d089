package httpapi

import (
	stdjson "encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/larder-cache/larder/docs"
)

// The tests in this file hold the document that clients are made from to the router, to itself, and to what
// the server does.

// A document is what these tests read of an OpenAPI document.
type document struct {
	Paths      map[string]map[string]*operationDoc
	Tags       []struct{ Name string }
	Components struct {
		Schemas    map[string]*schema
		Parameters map[string]*parameterDoc
		Responses  map[string]*responseDoc
	}
}

type operationDoc struct {
	OperationID string
	Summary     string
	Tags        []string
	Parameters  []*parameterDoc
	RequestBody *struct {
		Required bool
		Content  map[string]mediaDoc
	}
	Responses map[string]*responseDoc
	Security  *[]any

	method, path string
}

type parameterDoc struct {
	Ref         string `json:"$ref"`
	Name        string
	In          string
	Description string
	Required    bool
	Schema      *schema
	Example     any
}

type responseDoc struct {
	Ref         string `json:"$ref"`
	Description string
	Content     map[string]mediaDoc
}

type mediaDoc struct {
	Schema  *schema
	Example any
}

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 string
	Format               string
	Pattern              string
	Enum                 []any
	Example              any
	Default              any
	Minimum, Maximum     *float64
	MinLength, MaxLength *int64
	MinItems, MaxItems   *int64
	Properties           map[string]*schema
	Required             []string
	Items                *schema
	AllOf, AnyOf, OneOf  []*schema
	Nullable             bool
	AdditionalProperties stdjson.RawMessage
}

func readDocument(t *testing.T) *document {
	t.Helper()
	var d document
	if err := stdjson.Unmarshal(docs.OpenAPI, &d); err != nil {
		t.Fatal(err)
	}
	for path, methods := range d.Paths {
		for method, op := range methods {
			op.method, op.path = strings.ToUpper(method), path
			for i, p := range op.Parameters {
				if p.Ref != "" {
					op.Parameters[i] = d.Components.Parameters[strings.TrimPrefix(p.Ref, "#/components/parameters/")]
				}
			}
			for status, r := range op.Responses {
				if r.Ref != "" {
					op.Responses[status] = d.Components.Responses[strings.TrimPrefix(r.Ref, "#/components/responses/")]
				}
			}
		}
	}
	return &d
}

// operations lists the operations in an order in which they can be tried: what makes a thing comes before what
// reads it, and what removes things comes last, the parts before the whole.
func (d *document) operations() (list []*operationDoc) {
	paths := slices.Sorted(maps.Keys(d.Paths))
	for _, method := range []string{"put", "post", "get", "head", "patch"} {
		for _, path := range paths {
			if op := d.Paths[path][method]; op != nil {
				list = append(list, op)
			}
		}
	}
	for _, path := range slices.Backward(paths) {
		if op := d.Paths[path]["delete"]; op != nil {
			list = append(list, op)
		}
	}
	return list
}

// resolve follows a reference.
func (d *document) resolve(s *schema) *schema {
	for s != nil && s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	return s
}

// documentPath is the path of a route as OpenAPI writes it.
func documentPath(route string) string {
	parts := strings.Split(route, "/")
	for i, p := range parts {
		switch {
		case strings.HasPrefix(p, ":"):
			parts[i] = "{" + p[1:] + "}"
		case p == "*" && inRest(route):
			parts[i] = "{command}"
		case p == "*":
			parts[i] = "{file}"
		}
	}
	return strings.Join(parts, "/")
}

func TestDocumentAndRouterAgree(t *testing.T) {
	d := readDocument(t)
	routed := map[string]bool{}
	for _, r := range (&API{}).routes() {
		name := r.method + " " + documentPath(r.path)
		routed[name] = true
		op := d.Paths[documentPath(r.path)][strings.ToLower(r.method)]
		if op == nil {
			t.Errorf("%s is routed, but not in the document: annotate its handler and run make generate", name)
			continue
		}
		if free := op.Security != nil && len(*op.Security) == 0; free && !r.open {
			t.Errorf("%s needs no credential in the document, but it does", name)
		}
	}
	for _, op := range d.operations() {
		if !routed[op.method+" "+op.path] {
			t.Errorf("%s %s is in the document, but not routed", op.method, op.path)
		}
	}
}

func TestDocumentedOperationsAreWhole(t *testing.T) {
	d := readDocument(t)
	ids := map[string]string{}
	tags := map[string]bool{}
	for _, tag := range d.Tags {
		tags[tag.Name] = true
	}
	for _, op := range d.operations() {
		at := op.method + " " + op.path
		if op.OperationID == "" || op.Summary == "" || len(op.Tags) != 1 {
			t.Errorf("%s: operationId %q, summary %q, tags %q", at, op.OperationID, op.Summary, op.Tags)
		}
		if other, taken := ids[op.OperationID]; taken {
			t.Errorf("%s and %s are both %s", at, other, op.OperationID)
		}
		ids[op.OperationID] = at
		for _, tag := range op.Tags {
			if !tags[tag] {
				t.Errorf("%s: no tag %q", at, tag)
			}
		}
		good := false
		for status, r := range op.Responses {
			if r == nil || r.Description == "" {
				t.Errorf("%s: response %s is not there or has no description", at, status)
				continue
			}
			good = good || status[0] == '2'
			if status == "default" || status[0] >= '4' {
				if _, ok := r.Content[contentOfErrors(op.path)]; !ok || len(r.Content) != 1 {
					t.Errorf("%s: response %s is not %s", at, status, contentOfErrors(op.path))
				}
			}
		}
		if !good || op.Responses["default"] == nil {
			t.Errorf("%s: no good answer, or no bad one", at)
		}
		declared := map[string]bool{}
		for _, p := range op.Parameters {
			if p == nil || p.Schema == nil || p.Description == "" {
				t.Errorf("%s: a parameter without schema or description: %+v", at, p)
				continue
			}
			if declared[p.In+p.Name] {
				t.Errorf("%s: %s is declared twice", at, p.Name)
			}
			declared[p.In+p.Name] = true
			if p.In == "path" && !p.Required || p.Required && p.Example == nil {
				t.Errorf("%s: %s is in the path and not required, or required and has no example", at, p.Name)
			}
			checkBounds(t, d, at+" "+p.Name, p.Schema)
		}
		for part := range strings.SplitSeq(op.path, "/") {
			if name, ok := strings.CutPrefix(part, "{"); ok && !declared["path"+strings.TrimSuffix(name, "}")] {
				t.Errorf("%s: %s is not declared", at, part)
			}
		}
	}
}

// checkBounds fails the test where a value that a client sends has no limit in the document.
func checkBounds(t *testing.T, d *document, at string, s *schema) {
	t.Helper()
	switch s = d.resolve(s); {
	case s.Type == "string" && s.Enum == nil && s.Format == "" && s.Pattern == "" && s.MaxLength == nil:
		t.Errorf("%s: a string without maxLength, pattern, enum or format", at)
	case (s.Type == "integer" || s.Type == "number") && (s.Minimum == nil || s.Maximum == nil):
		t.Errorf("%s: a number without minimum or maximum", at)
	case s.Type == "array" && s.MaxItems == nil:
		t.Errorf("%s: an array without maxItems", at)
	}
}

func TestDocumentedSchemasAreWhole(t *testing.T) {
	d := readDocument(t)
	sent := map[string]bool{}
	for _, op := range d.operations() {
		if op.RequestBody != nil {
			for _, media := range op.RequestBody.Content {
				d.reach(media.Schema, sent)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		s := d.Components.Schemas[name]
		for _, member := range slices.Sorted(maps.Keys(s.Properties)) {
			p := s.Properties[member]
			if p.Ref == "" && p.Type != "array" && p.Example == nil && !(len(p.AllOf) == 1 && d.resolve(p.AllOf[0]).Example != nil) && !(len(p.AllOf) == 1 && d.resolve(p.AllOf[0]).Type == "object") {
				t.Errorf("%s.%s has no example", name, member)
			}
			if sent[name] {
				checkBounds(t, d, name+"."+member, p)
				if p.Type == "array" {
					checkBounds(t, d, name+"."+member+"[]", p.Items)
				}
			}
		}
	}
}

// reach notes the names of the schemas that s leads to.
func (d *document) reach(s *schema, names map[string]bool) {
	if s == nil {
		return
	}
	if s.Ref != "" {
		name := strings.TrimPrefix(s.Ref, "#/components/schemas/")
		if names[name] {
			return
		}
		names[name] = true
		s = d.resolve(s)
	}
	for _, p := range s.Properties {
		d.reach(p, names)
	}
	d.reach(s.Items, names)
	for _, part := range slices.Concat(s.AllOf, s.AnyOf, s.OneOf) {
		d.reach(part, names)
	}
}

// sample is a value of a schema as Swagger UI makes it up: its example, or one put together of its parts'.
func (d *document) sample(s *schema) any {
	s = d.resolve(s)
	switch {
	case s == nil:
		return map[string]any{}
	case s.Example != nil:
		return s.Example
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	case len(s.AllOf) > 0:
		return d.sample(s.AllOf[0])
	case len(s.OneOf) > 0:
		return d.sample(s.OneOf[0])
	case len(s.AnyOf) > 0:
		return d.sample(s.AnyOf[0])
	}
	switch s.Type {
	case "array":
		return []any{d.sample(s.Items)}
	case "integer", "number":
		return 0
	case "boolean":
		return true
	case "string":
		return "string"
	}
	object := map[string]any{}
	for name, p := range s.Properties {
		object[name] = d.sample(p)
	}
	return object
}

// What «Try it out» sends without anything being typed is a good request on every route: the server
// understands it, and answers as the document says.
func TestDocumentedExamplesWork(t *testing.T) {
	d := readDocument(t)
	owner, operator := newTenant(t), newOperator(t)
	compared := 0
	for _, op := range d.operations() {
		if strings.HasPrefix(op.path, "/docs") {
			continue // pages
		}
		if op.OperationID == "takeSnapshot" {
			continue // a file that only this installation can have made
		}
		t.Run(op.OperationID, func(t *testing.T) {
			who := owner
			switch op.Tags[0] {
			case "tenants", "cluster":
				who = operator
			}
			path, headers, query := op.path, []string{}, url.Values{}
			for _, p := range op.Parameters {
				value := p.Example
				if value == nil {
					value = p.Schema.Default
				}
				switch {
				case value == nil:
				case p.In == "path":
					path = strings.Replace(path, "{"+p.Name+"}", url.PathEscape(fmt.Sprint(value)), 1)
				case p.In == "query":
					query.Set(p.Name, fmt.Sprint(value))
				case p.In == "header":
					headers = append(headers, p.Name, fmt.Sprint(value))
				}
			}
			if len(query) > 0 {
				path += "?" + query.Encode()
			}
			var body any
			if op.RequestBody != nil {
				first := slices.Sorted(maps.Keys(op.RequestBody.Content))[0]
				media := op.RequestBody.Content[first]
				headers = append(headers, "Content-Type", first)
				if body = media.Example; body == nil {
					body = d.sample(media.Schema)
				}
			}
			a := who.do(t, op.method, path, body, headers...)
			switch a.status {
			case http.StatusNotFound, http.StatusConflict: // what the example names need not exist, or may exist already
			case http.StatusTooManyRequests: // another test has rotated the signing keys
			default:
				if a.status >= 300 {
					t.Fatalf("%s %s with %v: status %d: %s", op.method, path, body, a.status, a.body)
				}
			}
			documented := op.Responses[fmt.Sprint(a.status)]
			if documented == nil {
				t.Fatalf("%s: the document knows no status %d", a.request, a.status)
			}
			if media, ok := documented.Content[a.header.Get("Content-Type")]; ok && len(a.body) > 0 {
				var value any
				a.decode(t, &value)
				if err := d.conforms(media.Schema, value, "body"); err != nil {
					t.Errorf("%s: the answer is not as documented: %v: %s", a.request, err, a.body)
				}
				if a.status < 300 {
					compared++
				}
			}
		})
	}
	if compared < 45 {
		t.Errorf("only %d answers were good and compared: the examples name what does not exist", compared)
	}
}

// conforms reports how a value differs from its schema. It knows as much of schemas as the document uses, and
// is stricter in one thing: an object has no members that its schema does not name.
func (d *document) conforms(s *schema, value any, at string) error {
	s = d.resolve(s)
	if value == nil {
		if s.Nullable || s.Type == "" && s.AllOf == nil && s.AnyOf == nil && s.OneOf == nil {
			return nil
		}
		return fmt.Errorf("%s is null", at)
	}
	for _, part := range s.AllOf {
		if err := d.conforms(part, value, at); err != nil {
			return err
		}
	}
	if choices := slices.Concat(s.AnyOf, s.OneOf); len(choices) > 0 {
		var err error
		for _, choice := range choices {
			if err = d.conforms(choice, value, at); err == nil {
				break
			}
		}
		if err != nil {
			return err
		}
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, value) {
		return fmt.Errorf("%s is %v, want one of %v", at, value, s.Enum)
	}
	wrong := fmt.Errorf("%s is a %T, want %s", at, value, s.Type)
	switch s.Type {
	case "string":
		if _, ok := value.(string); !ok {
			return wrong
		}
	case "boolean":
		if _, ok := value.(bool); !ok {
			return wrong
		}
	case "integer", "number":
		n, ok := value.(float64)
		switch {
		case !ok || s.Type == "integer" && n != math.Trunc(n):
			return wrong
		case s.Minimum != nil && n < *s.Minimum, s.Maximum != nil && n > *s.Maximum:
			return fmt.Errorf("%s is %v, out of its bounds", at, n)
		}
	case "array":
		list, ok := value.([]any)
		if !ok {
			return wrong
		}
		for i, element := range list {
			if err := d.conforms(s.Items, element, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "object":
		object, ok := value.(map[string]any)
		if !ok {
			return wrong
		}
		for _, name := range s.Required {
			if _, ok := object[name]; !ok {
				return fmt.Errorf("%s.%s is missing", at, name)
			}
		}
		for name, member := range object {
			known := s.Properties[name]
			if known == nil {
				if s.Properties == nil || len(s.AdditionalProperties) > 0 && string(s.AdditionalProperties) != "false" {
					continue // an object of any members
				}
				return fmt.Errorf("%s.%s is not documented", at, name)
			}
			if err := d.conforms(known, member, at+"."+name); err != nil {
				return err
			}
		}
	}
	return nil
}
