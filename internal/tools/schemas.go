package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// ourSchemas describe the types that write and read their own JSON (see ourTypes), and what no handler names.
func ourSchemas() openapi3.Schemas {
	number := openapi3.NewSchema()
	number.AnyOf = openapi3.SchemaRefs{
		openapi3.NewFloat64Schema().NewRef(),
		openapi3.NewStringSchema().WithPattern(`^-?[0-9.eE+-]+$`).WithMaxLength(32).NewRef(),
	}
	number.Description = "An integer of 64 bits, or a number with a fraction. Integers beyond 2^53 are written as strings, which are read wherever a number is."
	number.Example = 42

	score := openapi3.NewSchema()
	score.AnyOf = openapi3.SchemaRefs{
		openapi3.NewFloat64Schema().NewRef(),
		openapi3.NewStringSchema().WithMaxLength(32).NewRef(),
	}
	score.Description = "A finite number of 64 bits, or a string that holds one. \"+Inf\" and \"-Inf\" are written where another protocol made a score infinite."
	score.Example = 12.5

	base64 := openapi3.NewObjectSchema().WithProperty("base64", openapi3.NewStringSchema().WithFormat("byte").WithMaxLength(1<<26)).WithRequired([]string{"base64"}).WithoutAdditionalProperties()
	base64.Properties["base64"].Value.Example = "/wA="
	text := openapi3.NewSchema()
	text.OneOf = openapi3.SchemaRefs{openapi3.NewStringSchema().WithMaxLength(1 << 26).NewRef(), base64.NewRef()}
	text.Description = "Any bytes: a string where they are UTF-8, else `{\"base64\":\"…\"}`. Keys, names and members have 1 to 32768 bytes."
	text.Example = "ann"

	duration := openapi3.NewSchema()
	duration.AnyOf = openapi3.SchemaRefs{
		openapi3.NewStringSchema().WithPattern(`^[0-9.]+(ms|s|m|h|d|w)?$`).WithMaxLength(32).NewRef(),
		openapi3.NewFloat64Schema().WithMin(0.001).NewRef(),
	}
	duration.Description = "A length of time: a string with the unit ms, s, m, h, d or w, or a number of seconds. At least 1ms, at most 36500d."
	duration.Example = "90s"

	any := openapi3.NewSchema()
	any.Description = "Any JSON value, nested at most 64 deep."
	any.Example = map[string]interface{}{"cart": []int{7, 12}}

	jwk := openapi3.NewObjectSchema().WithAnyAdditionalProperties()
	jwk.Description = "A public key (RFC 8037)."
	jwk.Example = map[string]string{"alg": "EdDSA", "crv": "Ed25519", "kid": "2026-11", "kty": "OKP", "use": "sig", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
	jwks := openapi3.NewObjectSchema().WithProperty("keys", openapi3.NewArraySchema().WithItems(jwk).WithMaxItems(16)).WithRequired([]string{"keys"})
	jwks.Description = "The public keys that tokens are signed with (RFC 7517)."

	word := openapi3.NewSchema()
	word.AnyOf = openapi3.SchemaRefs{openapi3.NewStringSchema().WithMaxLength(1 << 26).NewRef(), openapi3.NewFloat64Schema().NewRef(), openapi3.NewBoolSchema().NewRef(), base64.NewRef()}
	command := openapi3.NewArraySchema().WithItems(word).WithMinItems(1).WithMaxItems(1_000_000)
	command.Description = "A command: its name and its arguments. A string stands for its UTF-8 bytes, a number for its text, `{\"base64\":\"…\"}` for any bytes."
	command.Example = []interface{}{"SET", "greeting", "hello", "EX", 60}

	restWord := openapi3.NewSchema()
	restWord.AnyOf = openapi3.SchemaRefs{openapi3.NewStringSchema().WithMaxLength(1 << 26).NewRef(), openapi3.NewFloat64Schema().NewRef(), openapi3.NewBoolSchema().NewRef()}
	restCommand := openapi3.NewArraySchema().WithItems(restWord).WithMinItems(1).WithMaxItems(1_000_000)
	restCommand.Description = "A command: its name and its arguments. A string stands for its UTF-8 bytes, a number for its text, true and false for these words."
	restCommand.Example = []interface{}{"SET", "greeting", "hello", "EX", 60}

	reply := openapi3.NewSchema()
	reply.Description = "null, a string, an integer, or an array of these"
	reply.Example = "OK"
	failure := openapi3.NewStringSchema().WithMaxLength(1 << 16)
	failure.Description = "as a Redis server would say it"
	failure.Example = "ERR value is not an integer or out of range"
	restResult := openapi3.NewObjectSchema().WithProperty("result", reply).WithProperty("error", failure)
	restResult.Description = "The answer to one command: a result, or an error."
	restResult.Example = map[string]interface{}{"result": "OK"}

	return openapi3.Schemas{
		"CommandText": command.NewRef(), "RestCommand": restCommand.NewRef(), "RestResult": restResult.NewRef(),
		"Bytes": text.NewRef(), "Number": number.NewRef(), "Score": score.NewRef(), "Duration": duration.NewRef(), "JSON": any.NewRef(), "JWKS": jwks.NewRef(),
	}
}

// describeSchemas mends what the way through Swagger 2.0 lost, and says what holds for many members.
func describeSchemas(doc *openapi3.T) {
	answers := map[string]bool{}
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			for _, r := range op.Responses.Map() {
				if r.Value == nil {
					continue
				}
				for _, media := range r.Value.Content {
					reach(doc, media.Schema, answers)
				}
			}
		}
	}
	for name, s := range doc.Components.Schemas {
		if s.Value == nil {
			continue
		}
		for member, p := range s.Value.Properties {
			if p.Value == nil {
				continue
			}
			v := p.Value
			if !answers[name] {
				v.Nullable = false // null is an answer's word for «none»; a request leaves the member out
			}
			if v.Type.Is("integer") && v.Format == "" {
				v.Format = "int64"
			}
			if v.Type.Is("string") && strings.HasSuffix(member, "_at") {
				v.Format = "date-time"
			}
			if v.Format == "float64" {
				v.Format = "double"
			}
			if e, ok := examples[name+"."+member]; ok {
				v.Example = e
			} else if e, ok := examples[member]; ok && v.Example == nil && v.Type.Is("integer") == isNumber(e) {
				v.Example = e
			}
		}
	}
}

// examples are those of members whose types belong to packages that know nothing of HTTP.
var examples = map[string]interface{}{
	"operations": 90512, "units": 90840, "bytes_in": 7340032, "bytes_out": 52428800, "denied": 3, "throttled": 0, "failed": 0,
	"CommandsRequest.commands":  [][]any{{"SET", "greeting", "hello", "EX", 60}, {"GET", "greeting"}},
	"BatchRequest.operations":   bodies["runBatch"].(map[string]any)["operations"],
	"PutPolicyRequest.document": policyExample, "Policy.document": policyExample, "Token.policy": policyExample, "NewToken.policy": policyExample,
	"CreateTokenRequest.policy": policyExample,
	"Tenant.guardrails":         []any{guardrailExample},
	"TenantSettings.guardrails": []any{guardrailExample}, "CreateTenantRequest.guardrails": []any{guardrailExample}, "UpdateTenantRequest.guardrails": []any{guardrailExample},
	"SimulatedPrincipal.policies": []any{policyExample},
	"SimulateRequest.context":     map[string]any{"cache:SourceIp": "10.1.2.3"},
	"Batch.sessions.patch.patch":  map[string]any{"cart": nil},
	"Result.result":               map[string]any{"name": "page-views", "value": 42, "ttl_ms": nil},
	"classes":                     map[string]any{"kv": map[string]int{"operations": 90512, "units": 90840}},
	"tags":                        map[string]string{"team": "web"},
	"data":                        map[string]any{"cart": []int{7, 12}},
}

var (
	policyExample    = document("Allow", "cache:Get", "cache/main/key/user:*")
	guardrailExample = document("Allow", "*", "*")
)

// document is a policy of one statement.
func document(effect, action, resource string) any {
	if resource != "*" {
		resource = "arn:cache:cache:*:acme:" + resource
	}
	return map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{"Effect": effect, "Action": []string{action}, "Resource": []string{resource}}}}
}

// bodies are examples of whole requests, where those of their members do not go together.
var bodies = map[string]any{
	"createAPIKey":   map[string]any{"name": "web servers", "role": "read-write", "expires_in": "90d"},
	"createRole":     map[string]any{"name": "web", "description": "what the web servers may do", "policies": []string{"read-only"}},
	"replaceRole":    map[string]any{"description": "what the web servers may do", "policies": []string{"read-only"}},
	"simulatePolicy": map[string]any{"principal": map[string]any{"role": "read-write"}, "action": "cache:Get", "resource": "cache/main/key/user:4"},
	"revokeTokens":   map[string]any{"subject": "user-4"},
	"patchSession":   map[string]any{"cart": nil, "plan": "pro"},
	"setTTL":         map[string]any{"ttl": "30s"},
	"runBatch": map[string]any{"operations": []any{
		map[string]any{"op": "kv.put", "key": "greeting", "value": "hello", "ttl": "60s"},
		map[string]any{"op": "counters.add", "name": "page-views", "by": 1},
		map[string]any{"op": "kv.get", "key": "greeting"},
	}},
}

func isNumber(v any) bool { _, ok := v.(int); return ok }

// describeOperations makes the schema of an operation of a batch: one of those that httpapi's table has.
func describeOperations(doc *openapi3.T) {
	any := openapi3.NewSchema()
	any.Description = "An operation with what it takes."
	any.Example = map[string]interface{}{"op": "counters.add", "name": "page-views", "by": 1}
	any.Discriminator = &openapi3.Discriminator{PropertyName: "op", Mapping: map[string]openapi3.MappingRef{}}
	for _, name := range slices.Sorted(maps.Keys(doc.Components.Schemas)) {
		if op := doc.Components.Schemas[name].Value.Properties["op"]; strings.HasPrefix(name, operationPrefix) && op != nil {
			ref := "#/components/schemas/" + name
			any.OneOf = append(any.OneOf, openapi3.NewSchemaRef(ref, nil))
			any.Discriminator.Mapping[op.Value.Enum[0].(string)] = openapi3.MappingRef{Ref: ref}
			doc.Components.Schemas[name].Value.WithoutAdditionalProperties()
		}
	}
	doc.Components.Schemas["Problem"].Value.Properties["results"].Value.Items = openapi3.NewSchemaRef("#/components/schemas/Result", nil)
	doc.Components.Schemas["Operation"] = any.NewRef()
	doc.Components.Schemas["BatchRequest"].Value.Properties["operations"].Value.Items = openapi3.NewSchemaRef("#/components/schemas/Operation", nil)
}

// reach marks the schemas that one leads to.
func reach(doc *openapi3.T, s *openapi3.SchemaRef, seen map[string]bool) {
	if s == nil {
		return
	}
	const prefix = "#/components/schemas/"
	if len(s.Ref) > len(prefix) {
		name := s.Ref[len(prefix):]
		if seen[name] {
			return
		}
		seen[name] = true
		s = doc.Components.Schemas[name]
	}
	if s == nil || s.Value == nil {
		return
	}
	v := s.Value
	for _, p := range v.Properties {
		reach(doc, p, seen)
	}
	reach(doc, v.Items, seen)
	reach(doc, v.AdditionalProperties.Schema, seen)
	for _, group := range []openapi3.SchemaRefs{v.AllOf, v.OneOf, v.AnyOf} {
		for _, part := range group {
			reach(doc, part, seen)
		}
	}
}
