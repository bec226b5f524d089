package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/go-openapi/spec"
	"github.com/swaggo/swag"
)

// readAnnotations has swag read the handlers' annotations and the types that they name, as Swagger 2.0.
func readAnnotations(root string) (*openapi2.T, error) {
	reader := swag.New(
		swag.SetStrict(true),
		swag.SetUseStructName(true),
		swag.SetDebugger(log.New(io.Discard, "", 0)),
		swag.SetFieldParserFactory(newField),
	)
	swagger := reader.GetSwagger()
	for name, schemaType := range ourTypes {
		swagger.Definitions[name] = spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{schemaType}}}
	}
	dirs := []string{filepath.Join(root, "httpapi"), filepath.Join(root, "tenants")}
	if err := reader.ParseAPIMultiSearchDir(dirs, "api.go", 0); err != nil {
		return nil, err
	}
	if len(swagger.Paths.Paths) == 0 {
		return nil, fmt.Errorf("no annotated handler in %s", dirs[0])
	}
	files, err := parsePackage(dirs[0])
	if err != nil {
		return nil, err
	}
	if err := addOperations(files, swagger); err != nil {
		return nil, err
	}
	addNames(files, swagger)
	text, err := json.Marshal(swagger)
	if err != nil {
		return nil, err
	}
	var doc openapi2.T
	return &doc, json.Unmarshal(text, &doc)
}

// parsePackage parses the files of a package, without its tests.
func parsePackage(dir string) (files []*ast.File, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// addNames gives each schema its type's comment, and each operation the name of its handler. Where one
// handler serves two routes, that of HEAD has head for its verb, and that of a longer path the path's last
// parameter at its end.
func addNames(files []*ast.File, doc *spec.Swagger) {
	for _, file := range files {
		for _, d := range file.Decls {
			if types, ok := d.(*ast.GenDecl); ok && types.Tok == token.TYPE {
				name := types.Specs[0].(*ast.TypeSpec).Name.Name
				if s, ok := doc.Definitions[name]; ok && s.Description == "" {
					s.Description = strings.Join(strings.Fields(types.Doc.Text()), " ")
					doc.Definitions[name] = s
				}
			}
			if handler, ok := d.(*ast.FuncDecl); ok {
				nameOperations(handler, doc)
			}
		}
	}
}

func nameOperations(handler *ast.FuncDecl, doc *spec.Swagger) {
	first, seen := "", map[string]bool{}
	for _, m := range routerLine.FindAllStringSubmatch(handler.Doc.Text(), -1) {
		path, method, id := m[1], m[2], handler.Name.Name
		switch {
		case first == "":
			first = path
		case path == first:
			rest := strings.TrimPrefix(id, "get")
			id = method + strings.ToUpper(rest[:1]) + rest[1:]
		default:
			last := path[strings.LastIndexByte(path, '{')+1 : strings.LastIndexByte(path, '}')]
			id += strings.ToUpper(last[:1]) + last[1:]
			if seen[path] {
				id = method + strings.ToUpper(id[:1]) + id[1:]
			}
		}
		seen[path] = true
		item := doc.Paths.Paths[path]
		for of, op := range map[string]*spec.Operation{"get": item.Get, "head": item.Head, "put": item.Put, "post": item.Post, "patch": item.Patch, "delete": item.Delete} {
			if of == method && op != nil {
				op.ID = id
			}
		}
	}
}

// operationPrefix begins the names of the schemas of a batch's operations.
const operationPrefix = "Batch."

// addOperations adds the schemas of what a batch can do: of the type that each row of the table «operations»
// decodes, with op, the row's name. Their rows name no routes, so swag does not see them.
func addOperations(files []*ast.File, doc *spec.Swagger) (err error) {
	structs := map[string]*ast.StructType{}
	abouts := map[string]string{}
	rows := map[string]string{}
	for _, file := range files {
		for _, d := range file.Decls {
			d, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if t, ok := s.Type.(*ast.StructType); ok {
						structs[s.Name.Name], abouts[s.Name.Name] = t, strings.Join(strings.Fields(d.Doc.Text()), " ")
					}
				case *ast.ValueSpec:
					if s.Names[0].Name == "operations" && len(s.Values) == 1 {
						err = readRows(s.Values[0], rows)
					}
				}
			}
		}
	}
	if err != nil || len(rows) == 0 {
		return fmt.Errorf("the table of a batch's operations: %d rows: %v", len(rows), err)
	}
	for op, name := range rows {
		s := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}, Description: abouts[name], Properties: spec.SchemaProperties{}}}
		s.Properties["op"] = spec.Schema{
			SchemaProps:        spec.SchemaProps{Type: spec.StringOrArray{"string"}, Enum: []any{op}},
			SwaggerSchemaProps: spec.SwaggerSchemaProps{Example: op},
		}
		s.Required = []string{"op"}
		if err := addFields(&s, structs, name); err != nil {
			return fmt.Errorf("%s: %s: %w", op, name, err)
		}
		doc.Definitions[operationPrefix+op] = s
	}
	for _, name := range batchResults {
		s := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}, Properties: spec.SchemaProperties{}}}
		if err := addFields(&s, structs, name); err != nil {
			return err
		}
		doc.Definitions[name] = s
	}
	return nil
}

// batchResults are the results of a batch's operations that are no answers of routes as well.
var batchResults = []string{"Deleted", "KeyValue", "PutResult", "TaggedSession"}

// readRows reads the operations' names and types: "kv.get": op(func(x *exchange, r *KeyOperation) …
func readRows(table ast.Expr, rows map[string]string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("a row is not as expected: %v", r)
		}
	}()
	for _, row := range table.(*ast.CompositeLit).Elts {
		row := row.(*ast.KeyValueExpr)
		name, err := strconv.Unquote(row.Key.(*ast.BasicLit).Value)
		if err != nil {
			return err
		}
		takes := row.Value.(*ast.CallExpr).Args[0].(*ast.FuncLit).Type.Params.List[1].Type.(*ast.StarExpr).X
		rows[name] = takes.(*ast.Ident).Name
	}
	return nil
}

// addFields adds the members of a struct to its schema, those of embedded ones included.
func addFields(s *spec.Schema, structs map[string]*ast.StructType, name string) error {
	t, ok := structs[name]
	if !ok {
		return fmt.Errorf("no struct %s", name)
	}
	for _, member := range t.Fields.List {
		f := newField(nil, member).(*field)
		if f.ShouldSkip() {
			continue
		}
		names, err := f.FieldNames()
		if err != nil {
			return err
		}
		if len(names) == 0 {
			if err := addFields(s, structs, member.Type.(*ast.Ident).Name); err != nil {
				return err
			}
			continue
		}
		of := schemaOfOurs(member.Type)
		if of == nil {
			of = schemaOfGo(member.Type)
		}
		if err := f.ComplementSchema(of); err != nil {
			return err
		}
		s.Properties[names[0]] = *of
		if required, _ := f.IsRequired(); required {
			s.Required = append(s.Required, names[0])
		}
	}
	return nil
}

// schemaOfGo is the schema of a plain Go type; other structs are taken to have theirs.
func schemaOfGo(t ast.Expr) *spec.Schema {
	switch t := t.(type) {
	case *ast.StarExpr:
		return schemaOfGo(t.X)
	case *ast.ArrayType:
		return spec.ArrayProperty(schemaOfGo(t.Elt))
	case *ast.Ident:
		switch t.Name {
		case "string":
			return spec.StringProperty()
		case "bool":
			return spec.BoolProperty()
		case "int", "int64":
			return spec.Int64Property()
		case "float64":
			return spec.Float64Property()
		default:
			return spec.RefSchema("#/definitions/" + t.Name)
		}
	}
	return &spec.Schema{}
}

var routerLine = regexp.MustCompile(`(?m)^@Router\s+(\S+) \[(\w+)\]$`)

// ourTypes are the types that write and read their own JSON, with the type that their examples have. Their
// schemas stand in schemas.go.
var ourTypes = map[string]string{"Bytes": "string", "Number": "integer", "Score": "number", "Duration": "string", "JSON": "object", "CommandText": "array", "RestCommand": "array", "RestResult": "object"}

// A field is a struct's field as go-json-experiment/json encodes it, where swag's own reader thinks of
// encoding/json and of validators: a member is required unless it may be left out, a pointer that is always
// there may be null, and types with a JSON of their own are named rather than taken apart.
type field struct {
	*ast.Field
	tag     reflect.StructTag
	name    string // of the member; empty for an embedded struct
	options string // what follows the name in the json tag
}

func newField(_ *swag.Parser, f *ast.Field) swag.FieldParser {
	f.Type = plainList(f.Type)
	read := &field{Field: f}
	if f.Tag != nil {
		read.tag = reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
	}
	read.name, read.options, _ = strings.Cut(read.tag.Get("json"), ",")
	return read
}

// plainList takes httpapi's List[T], a bounded slice, for the []T that it is in JSON.
func plainList(t ast.Expr) ast.Expr {
	switch t := t.(type) {
	case *ast.StarExpr:
		t.X = plainList(t.X)
	case *ast.IndexExpr:
		if name, ok := t.X.(*ast.Ident); ok && name.Name == "List" {
			return &ast.ArrayType{Elt: t.Index}
		}
	}
	return t
}

// ShouldSkip implements swag.FieldParser.
func (f *field) ShouldSkip() bool {
	return f.name == "-" || len(f.Names) > 0 && !f.Names[0].IsExported()
}

// FieldNames implements swag.FieldParser.
func (f *field) FieldNames() ([]string, error) {
	switch {
	case f.name != "":
		return []string{f.name}, nil
	case len(f.Names) > 0:
		return nil, fmt.Errorf("%s has no json tag", f.Names[0])
	}
	return nil, nil
}

// IsRequired implements swag.FieldParser.
func (f *field) IsRequired() (bool, error) { return !strings.Contains(f.options, "omit"), nil }

// FirstTagValue implements swag.FieldParser; it is asked for collection formats, which nothing here has.
func (f *field) FirstTagValue(string) string { return "" }

// FormName implements swag.FieldParser.
func (f *field) FormName() string { return "" }

// HeaderName implements swag.FieldParser.
func (f *field) HeaderName() string { return "" }

// PathName implements swag.FieldParser.
func (f *field) PathName() string { return "" }

// CustomSchema implements swag.FieldParser.
func (f *field) CustomSchema() (*spec.Schema, error) {
	if s := schemaOfOurs(f.Type); s != nil {
		return s, nil
	}
	if t := f.tag.Get("swaggertype"); t != "" {
		return swag.BuildCustomSchema(strings.Split(t, ","))
	}
	return nil, nil
}

// schemaOfOurs is the schema of a type that writes its own JSON, nil for others.
func schemaOfOurs(t ast.Expr) *spec.Schema {
	switch t := t.(type) {
	case *ast.StarExpr:
		return schemaOfOurs(t.X)
	case *ast.ArrayType:
		if of := schemaOfOurs(t.Elt); of != nil {
			return spec.ArrayProperty(of)
		}
	case *ast.MapType:
		if of := schemaOfOurs(t.Value); of != nil {
			return spec.MapProperty(of)
		}
	case *ast.Ident:
		if _, ok := ourTypes[t.Name]; ok {
			return spec.RefSchema("#/definitions/" + t.Name)
		}
		if t.Name == "any" {
			return spec.RefSchema("#/definitions/JSON")
		}
	case *ast.SelectorExpr:
		switch fmt.Sprint(t.X) + "." + t.Sel.Name {
		case "jsontext.Value", "json.RawMessage":
			return spec.RefSchema("#/definitions/JSON")
		case "time.Time":
			return spec.DateTimeProperty()
		}
	}
	return nil
}

// ComplementSchema implements swag.FieldParser: it adds what the field's tags and its comment say.
func (f *field) ComplementSchema(s *spec.Schema) error {
	target, kind := s, ""
	if ref := s.Ref.String(); ref != "" { // nothing may stand beside a reference: wrap it
		*s = spec.Schema{SchemaProps: spec.SchemaProps{AllOf: []spec.Schema{*s}}}
		kind = ourTypes[strings.TrimPrefix(ref, "#/definitions/")]
	} else if len(s.Type) > 0 {
		kind = s.Type[0]
	}
	if kind == "array" {
		if target = s.Items.Schema; len(target.Type) > 0 { // bounds of numbers and strings are those of the elements
			kind = target.Type[0]
		} else {
			kind = ourTypes[strings.TrimPrefix(target.Ref.String(), "#/definitions/")]
		}
	}
	s.Description = strings.TrimSpace(f.Doc.Text())
	if s.Description == "" {
		s.Description = strings.TrimSpace(f.Comment.Text())
	}
	if _, pointer := f.Type.(*ast.StarExpr); pointer && !strings.Contains(f.options, "omit") {
		s.AddExtension("x-nullable", true)
	}
	var err error
	number := func(tag string) *float64 {
		text, ok := f.tag.Lookup(tag)
		if !ok {
			return nil
		}
		n, e := strconv.ParseFloat(text, 64)
		if e != nil {
			err = fmt.Errorf("%s: %s: %w", f.name, tag, e)
		}
		return &n
	}
	count := func(tag string) *int64 {
		n := number(tag)
		if n == nil {
			return nil
		}
		whole := int64(*n)
		return &whole
	}
	bound := func(tag string, to **float64) {
		if n := number(tag); n != nil {
			*to = n
		}
	}
	bound("minimum", &target.Minimum)
	bound("maximum", &target.Maximum)
	target.MinLength, target.MaxLength = count("minLength"), count("maxLength")
	s.MinItems, s.MaxItems = count("minItems"), count("maxItems")
	if p := f.tag.Get("pattern"); p != "" {
		target.Pattern = p
	}
	if p := f.tag.Get("format"); p != "" {
		target.Format = p
	}
	if text, ok := f.tag.Lookup("enums"); ok {
		for word := range strings.SplitSeq(text, ",") {
			value, e := valueOf(kind, word)
			if e != nil {
				return fmt.Errorf("%s: enums: %w", f.name, e)
			}
			target.Enum = append(target.Enum, value)
		}
	}
	if text, ok := f.tag.Lookup("default"); ok {
		if s.Default, err = valueOf(kind, text); err != nil {
			return fmt.Errorf("%s: default: %w", f.name, err)
		}
	}
	if text, ok := f.tag.Lookup("example"); ok {
		if s.Example, err = f.example(kind, text, target != s); err != nil {
			return fmt.Errorf("%s: example: %w", f.name, err)
		}
	}
	if len(s.AllOf) == 1 && reflect.DeepEqual(*s, spec.Schema{SchemaProps: spec.SchemaProps{AllOf: s.AllOf}}) {
		*s = s.AllOf[0]
	}
	return err
}

// example reads the tag of that name: a value, the elements of an array with commas between them, or JSON.
func (f *field) example(kind, text string, array bool) (any, error) {
	if !array {
		return valueOf(kind, text)
	}
	if strings.HasPrefix(text, "[") {
		return valueOf("array", text)
	}
	var values []any
	for word := range strings.SplitSeq(text, ",") {
		value, err := valueOf(kind, word)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, nil
}

// valueOf is a value of a JSON type as a tag writes it.
func valueOf(kind, text string) (v any, err error) {
	if kind == "string" {
		return text, nil
	}
	err = json.Unmarshal([]byte(text), &v)
	return v, err
}
