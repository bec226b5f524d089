package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
)

// describe makes the OpenAPI 3 document of what swag found, and adds what annotations cannot say or would say
// once for each route: how to authenticate, raw bodies, what every answer carries, every way to fail.
func describe(old *openapi2.T) (*openapi3.T, error) {
	given := parameterExamples(old)
	doc, err := openapi2conv.ToV3(old)
	if err != nil {
		return nil, err
	}
	doc.Info = &openapi3.Info{Title: "Larder", Version: "1", Description: about, License: &openapi3.License{Name: "Apache-2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0"}}
	doc.Servers = openapi3.Servers{{URL: "/", Description: "the server that serves this document"}}
	doc.Tags = tags()
	doc.Security = openapi3.SecurityRequirements{{"bearer": []string{}}}
	doc.Components.SecuritySchemes = openapi3.SecuritySchemes{"bearer": {Value: &openapi3.SecurityScheme{
		Type: "http", Scheme: "bearer", Description: "An API key (`lk_…`) or a token, alone: `Bearer` is put before it.",
	}}}
	doc.Components.Headers = headers()
	doc.Components.Parameters = openapi3.ParametersMap{"IdempotencyKey": {Value: idempotencyKey()}, "Consistency": {Value: consistency()}}
	maps.Copy(doc.Components.Schemas, ourSchemas())
	if err := failures(doc); err != nil {
		return nil, err
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			for _, p := range op.Parameters {
				p.Value.Example = given[[3]string{method, path, p.Value.Name}]
			}
			if err := describeOperation(doc, path, method, op); err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
		}
	}
	describeOperations(doc)
	describeSchemas(doc)
	return check(doc)
}

// check reads the document back, with its references followed, and validates it with all of its examples.
func check(doc *openapi3.T) (*openapi3.T, error) {
	text, err := marshal(doc)
	if err != nil {
		return nil, err
	}
	read, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, err
	}
	return read, read.Validate(context.Background(), openapi3.EnableExamplesValidation(), openapi3.EnableSchemaDefaultsValidation())
}

// marshal writes the document, its members in order.
func marshal(doc *openapi3.T) ([]byte, error) {
	var tree any
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err = e.Encode(tree)
	return out.Bytes(), err
}

const about = `A cache that many applications share. An application holds an API key or a token, and keeps values, sessions,
leaderboards and counters in its own cache.

* The tenant comes from the credential alone: send ` + "`Authorization: Bearer <API key or token>`" + `.
* An error is ` + "`application/problem+json`" + ` with a stable ` + "`code`" + `, the ` + "`argument`" + ` at fault and the limit in ` + "`detail`" + `.
* A write with an ` + "`Idempotency-Key`" + ` takes effect once, however often it is sent within 24 hours.
* Keys, names and members are any bytes: percent-encoded in a path; in JSON a string, or ` + "`{\"base64\":\"…\"}`" + ` where they are not UTF-8.
* Integers beyond 2^53 travel as strings. Durations are strings with a unit, times are RFC 3339 with milliseconds.
* Members and parameters that a route does not know are refused.`

// tags are the resources, in the order in which they are shown.
func tags() openapi3.Tags {
	return openapi3.Tags{
		{Name: "kv", Description: "Values: any bytes with their content type, under keys that are any bytes."},
		{Name: "sessions", Description: "Sessions of users, with an idle and an absolute deadline."},
		{Name: "leaderboards", Description: "Members ranked by score."},
		{Name: "counters", Description: "Numbers that are added to."},
		{Name: "batch", Description: "Many operations in one request."},
		{Name: "rest", Description: "Redis commands as Upstash's REST API has them, and as Webdis has them."},
		{Name: "caches", Description: "The caches of a tenant."},
		{Name: "snapshots", Description: "What a cache held at one moment, encrypted, and how to bring it back."},
		{Name: "encryption", Description: "The keys that snapshots are encrypted with: versions, and the end of one."},
		{Name: "transfer", Description: "What a cache holds as a file of Redis, JSON lines or CSV, and in again."},
		{Name: "endpoints", Description: "Doors to a cache for memcached clients that cannot log in."},
		{Name: "usage", Description: "What was used so far."},
		{Name: "keys", Description: "API keys, and who a credential belongs to."},
		{Name: "roles", Description: "Roles: which policies a key is under."},
		{Name: "policies", Description: "Policies: who may do what."},
		{Name: "tokens", Description: "Short-lived tokens that can do no more than who made them."},
		{Name: "tenants", Description: "The operator's tenants."},
		{Name: "cluster", Description: "The operator's cluster."},
		{Name: "system", Description: "Health, metrics and this description."},
	}
}

// headers are what answers carry.
func headers() openapi3.Headers {
	header := func(about string, s *openapi3.Schema, example any) *openapi3.HeaderRef {
		return &openapi3.HeaderRef{Value: &openapi3.Header{Parameter: openapi3.Parameter{Description: about, Schema: s.NewRef(), Example: example}}}
	}
	text, whole := openapi3.NewStringSchema, openapi3.NewInt64Schema
	return openapi3.Headers{
		"RequestId":    header("For our log: name it when you ask about a request.", text(), "dq1x0k3f2a-1f"),
		"Units":        header("The request units that the request cost.", whole().WithMin(0), 1),
		"ServerTiming": header("How long the server took, in milliseconds.", text(), "total;dur=0.213"),
		"RetryAfter":   header("In how many seconds a retry makes sense.", whole().WithMin(1), 1),
		"Consistency":  header("What the answer to a read is, where the request said what it wants or it is not linearizable; of another replica than the leader, how many seconds ago that had all that the leader had.", text(), "eventual; age=0.120"),
		"Replayed":     header("true when the answer is that of an earlier request with the same Idempotency-Key.", text().WithEnum("true"), "true"),
	}
}

func headerRef(name string) *openapi3.HeaderRef {
	return &openapi3.HeaderRef{Ref: "#/components/headers/" + name}
}

// idempotencyKey is the parameter of every write.
func idempotencyKey() *openapi3.Parameter {
	p := openapi3.NewHeaderParameter("Idempotency-Key").WithSchema(openapi3.NewStringSchema().WithMinLength(1).WithMaxLength(255))
	p.Description = "Makes the write take effect once: a second one with the same key within 24 hours answers what the first did, and is refused if it is another request. Any text that is new, such as a UUID."
	return p
}

// consistency is the parameter of every route of data.
func consistency() *openapi3.Parameter {
	p := openapi3.NewHeaderParameter("X-Larder-Consistency").WithSchema(openapi3.NewStringSchema().WithEnum("linearizable", "leader", "eventual"))
	p.Description = "How current reads have to be; what the cache says if it is left out. Where parameters of the query are read, consistency=… says the same. Writes are always linearizable."
	return p
}

// pathParameters are the parts of paths; a name may mean different things in different resources.
var pathParameters = map[string]struct {
	about, example, pattern string
	max                     uint64
}{
	"cache":               {about: "the name of a cache", example: "main", pattern: cachePattern, max: 63},
	"key":                 {about: "any bytes, percent-encoded", example: "greeting", max: 32768},
	"endpoint":            {about: "the id of an endpoint: its port or its server name", example: "11300", max: 255},
	"keys.{id}":           {about: "the id of a key", example: "4kQ0c1mZx7Rb", max: 64},
	"tokens.{id}":         {about: "the id of a token", example: "5GJ3KX7Q2NQZC4M6WV5D6WQ3PT", max: 64},
	"roles.{name}":        {about: "the name of a role", example: "web", max: 63},
	"policies.{name}":     {about: "the name of a policy", example: "sessions", max: 63},
	"tenant":              {about: "the name of a tenant", example: "acme", max: 63},
	"node":                {about: "the name of a node", example: "node-1", max: 63},
	"partition":           {about: "the number of a partition", example: "0", max: 5},
	"snapshots.{id}":      {about: "the id of a snapshot", example: "20261127t081500-9f3a61c2", max: 64},
	"snapshots.{name}":    {about: "the name of a schedule", example: "nightly", pattern: cachePattern, max: 63},
	"sessions.{id}":       {about: "the id of a session", example: "mZ3x5sJ8Q2h0Vf6tqk1B7yUcW4nE9aRDgLPoXiTzKvHbN0", max: 46},
	"command":             {about: "the command and its arguments, each percent-encoded, with slashes in between", example: "PING", max: 65536},
	"member":              {about: "a member: any bytes, percent-encoded", example: "ann", max: 32768},
	"file":                {about: "a file of Swagger UI", example: "index.html", max: 255},
	"leaderboards.{name}": {about: "the name of a leaderboard: any bytes, percent-encoded", example: "season-7", max: 32768},
	"counters.{name}":     {about: "the name of a counter: any bytes, percent-encoded", example: "page-views", max: 32768},
}

const cachePattern = "^[a-z0-9][a-z0-9_-]{0,62}$"

// describeOperation completes one operation.
func describeOperation(doc *openapi3.T, path, method string, op *openapi3.Operation) error {
	switch {
	case op.OperationID == "" || op.Summary == "" || len(op.Tags) != 1:
		return fmt.Errorf("a handler has @Summary and one of @Tags")
	case doc.Tags.Get(op.Tags[0]) == nil:
		return fmt.Errorf("no tag %q", op.Tags[0])
	}
	if method == http.MethodHead { // shares a handler, and so its annotations, with GET
		op.Summary += ": what it is, without its bytes"
		op.Parameters = slices.DeleteFunc(op.Parameters, func(p *openapi3.ParameterRef) bool { return p.Value.Name == "Range" })
		op.Responses.Delete("206")
	}
	open := op.Tags[0] == "system" && op.OperationID != "metrics"
	if open {
		op.Security = &openapi3.SecurityRequirements{}
	}
	if err := describePath(path, op); err != nil {
		return err
	}
	rest := op.Tags[0] == "rest"
	data := rest || strings.HasPrefix(path, "/v1/caches/{cache}/") && op.Tags[0] != "usage"
	writes := method != http.MethodGet && method != http.MethodHead && !strings.HasPrefix(op.OperationID, "get")
	keyed := writes && op.Tags[0] != "system" && op.OperationID != "simulatePolicy" && op.OperationID != "importCache" && op.OperationID != "takeSnapshot"
	if keyed {
		op.Parameters = append(op.Parameters, &openapi3.ParameterRef{Ref: "#/components/parameters/IdempotencyKey"})
	}
	if data && op.OperationID != "" {
		op.Parameters = append(op.Parameters, &openapi3.ParameterRef{Ref: "#/components/parameters/Consistency"})
	}
	describeBody(op)
	if media := restBody(op, rest); media != nil {
		command := openapi3.NewSchemaRef("#/components/schemas/RestCommand", nil)
		if media.Schema = command; strings.HasPrefix(op.OperationID, "restPipeline") || strings.HasPrefix(op.OperationID, "restTransaction") {
			many := openapi3.NewArraySchema().WithMinItems(1).WithMaxItems(10_000)
			many.Items = command
			media.Schema = many.NewRef()
		}
	}
	for status, r := range op.Responses.Map() {
		if status == "default" {
			continue
		}
		describeAnswer(method, status, r.Value)
		h := r.Value.Headers
		h["X-Request-Id"] = headerRef("RequestId")
		if data {
			h["X-Larder-Units"], h["Server-Timing"] = headerRef("Units"), headerRef("ServerTiming")
			h["X-Larder-Consistency"] = headerRef("Consistency")
		}
		if keyed {
			h["Idempotency-Replayed"] = headerRef("Replayed")
		}
	}
	if op.OperationID == "jwks" {
		op.Responses.Value("200").Value.Content = openapi3.Content{"application/jwk-set+json": {Schema: openapi3.NewSchemaRef("#/components/schemas/JWKS", nil)}}
	}

	has := func(name string) bool {
		return slices.ContainsFunc(op.Parameters, func(p *openapi3.ParameterRef) bool { return p.Value != nil && p.Value.Name == name })
	}
	statuses := []int{}
	if !open {
		statuses = append(statuses, 400, 401, 403, 429, 503)
		if strings.Contains(path, "{") {
			statuses = append(statuses, 404)
		}
	}
	if op.RequestBody != nil {
		statuses = append(statuses, 413, 415)
	}
	if writes {
		statuses = append(statuses, 409)
	}
	if keyed {
		statuses = append(statuses, 422, 504)
	}
	if data && writes {
		statuses = append(statuses, 507)
	}
	if has("If-Match") {
		statuses = append(statuses, 412)
	}
	if has("Range") {
		statuses = append(statuses, 416)
	}
	if op.OperationID == "readyz" {
		statuses = append(statuses, 503)
	}
	if rest { // says every error in one way
		op.Responses.Set("default", &openapi3.ResponseRef{Ref: "#/components/responses/RestFailure"})
		return nil
	}
	for _, status := range statuses {
		op.Responses.Set(strconv.Itoa(status), &openapi3.ResponseRef{Ref: "#/components/responses/" + failureName(status)})
	}
	op.Responses.Set("default", &openapi3.ResponseRef{Ref: "#/components/responses/Failure"})
	return nil
}

// parameterExamples are the examples of parameters, by method, path and name: the way from Swagger 2.0 loses
// them. Swagger UI fills in what it finds, so only parameters that must be given have one.
func parameterExamples(old *openapi2.T) map[[3]string]any {
	examples := map[[3]string]any{}
	for path, item := range old.Paths {
		for method, op := range item.Operations() {
			for _, p := range op.Parameters {
				examples[[3]string{method, path, p.Name}] = p.Extensions["example"]
			}
		}
	}
	return examples
}

// describePath declares the parameters that stand in the path, before those that an annotation declares.
func describePath(path string, op *openapi3.Operation) error {
	op.Parameters = slices.DeleteFunc(op.Parameters, func(p *openapi3.ParameterRef) bool { return p.Value.In == "path" })
	var all openapi3.Parameters
	for part := range strings.SplitSeq(path, "/") {
		if !strings.HasPrefix(part, "{") {
			continue
		}
		name := strings.Trim(part, "{}")
		is, ok := pathParameters[op.Tags[0]+"."+part]
		if !ok {
			is, ok = pathParameters[name]
		}
		if !ok {
			return fmt.Errorf("tell what {%s} is in pathParameters", name)
		}
		p := openapi3.NewPathParameter(name).WithSchema(openapi3.NewStringSchema().WithMinLength(1).WithMaxLength(int64(is.max)).WithPattern(is.pattern))
		p.Description, p.Example = is.about, is.example
		all = append(all, &openapi3.ParameterRef{Value: p})
	}
	op.Parameters = append(all, op.Parameters...)
	return nil
}

// describeBody says which media types a body may have. A raw one may have any; JSON comes first, since that
// is what people type into Swagger UI.
func describeBody(op *openapi3.Operation) {
	if op.RequestBody == nil {
		return
	}
	body := op.RequestBody.Value
	body.Extensions = nil
	if body.Content[octets] == nil {
		if plain := body.Content["*/*"]; plain != nil { // what Swagger 2.0 leaves unsaid
			body.Content = openapi3.Content{"application/json": plain}
		}
		for _, media := range body.Content {
			if example, ok := bodies[op.OperationID]; ok {
				media.Example = example
			}
		}
		return
	}
	if op.OperationID == "takeSnapshot" {
		body.Content = openapi3.Content{octets: {Schema: binary().NewRef()}}
		return
	}
	if op.OperationID == "importCache" { // whose body is a file of a few kinds
		body.Content = openapi3.Content{
			octets:              {Schema: binary().NewRef()},
			"application/jsonl": {Schema: openapi3.NewStringSchema().NewRef(), Example: `{"key":"greeting","type":"string","value":"hello"}`},
		}
		return
	}
	body.Content = openapi3.Content{
		octets:             {Schema: binary().NewRef()},
		"application/json": {Schema: openapi3.NewSchema().NewRef(), Example: map[string]any{"plan": "pro"}},
		"text/plain":       {Schema: openapi3.NewStringSchema().NewRef(), Example: "hello"},
	}
	body.Description += ", with the media type that it is to be kept with: any"
}

// restBody is the body of an operation of the REST dialect that takes JSON, nil for others: swag takes its type apart.
func restBody(op *openapi3.Operation, rest bool) *openapi3.MediaType {
	if !rest || op.RequestBody == nil {
		return nil
	}
	return op.RequestBody.Value.Content["application/json"]
}

const octets = "application/octet-stream"

func binary() *openapi3.Schema { return openapi3.NewStringSchema().WithFormat("binary") }

// describeAnswer completes an answer that is no error.
func describeAnswer(method, status string, r *openapi3.Response) {
	if r.Headers == nil {
		r.Headers = openapi3.Headers{}
	}
	for _, h := range r.Headers {
		h.Value.Parameter.Schema = h.Value.Schema
	}
	switch {
	case method == http.MethodHead, status == "204", status == "302", status == "304":
		r.Content = nil
	case r.Content[octets] != nil:
		r.Content = openapi3.Content{"*/*": {Schema: binary().NewRef()}}
	}
}
