package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/larder-cache/larder/internal/fault"
)

// failures adds to the document one response for each status that an error may have, and one for any error.
func failures(doc *openapi3.T) error {
	problem := doc.Components.Schemas["Problem"]
	if problem == nil {
		return fmt.Errorf("no handler's @Failure names Problem")
	}
	var codes []any
	for _, k := range kinds(0) {
		codes = append(codes, k.Face().Code)
	}
	problem.Value.Properties["code"].Value.Enum = codes
	doc.Components.Responses = openapi3.ResponseBodies{"Failure": failure("Any error.", fault.OutOfRange, nil)}
	rest := openapi3.NewResponse().WithDescription("Any error, with the status of its kind: 400 for what a command answers, 401 without a good credential, 405, 413, 429, 503.")
	rest.Content = openapi3.Content{"application/json": {Schema: openapi3.NewSchemaRef("#/components/schemas/RestError", nil)}}
	rest.Headers = openapi3.Headers{"X-Request-Id": headerRef("RequestId")}
	doc.Components.Responses["RestFailure"] = &openapi3.ResponseRef{Value: rest}
	for _, k := range kinds(0) {
		status := k.Face().Status
		about := []string{}
		for _, k := range kinds(status) {
			about = append(about, "`"+k.Face().Code+"`: "+meanings()[k]+".")
		}
		more := openapi3.Headers{}
		switch status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			more["Retry-After"] = headerRef("RetryAfter")
		}
		doc.Components.Responses[failureName(status)] = failure(strings.Join(about, " "), kinds(status)[0], more)
	}
	return nil
}

// failure is a response with a problem; k is its example.
func failure(about string, k fault.Kind, more openapi3.Headers) *openapi3.ResponseRef {
	face := k.Face()
	example := map[string]any{
		"type": "about:blank", "title": face.Title, "status": face.Status, "code": face.Code,
		"detail": meanings()[k], "request_id": "dq1x0k3f2a-1f",
	}
	if k == fault.OutOfRange {
		example["argument"], example["detail"] = "limit", "limit is 1 to 1000, not 5000"
	}
	r := openapi3.NewResponse().WithDescription(about)
	r.Content = openapi3.Content{"application/problem+json": {Schema: openapi3.NewSchemaRef("#/components/schemas/Problem", nil), Example: example}}
	r.Headers = openapi3.Headers{"X-Request-Id": headerRef("RequestId")}
	for name, h := range more {
		r.Headers[name] = h
	}
	return &openapi3.ResponseRef{Value: r}
}

// failureName is the name of the response with an error of status.
func failureName(status int) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return -1
	}, http.StatusText(status))
}

// kinds lists the kinds of errors that have an HTTP status, each code once; all of them if status is 0.
func kinds(status int) (list []fault.Kind) {
	for _, k := range fault.Kinds() {
		same := func(other fault.Kind) bool { return other.Face().Code == k.Face().Code }
		if (status == 0 || k.Face().Status == status) && !slices.ContainsFunc(list, same) {
			list = append(list, k)
		}
	}
	return list
}

// meanings tells what each kind of error means: the comments beside the kinds in package fault.
var meanings = func() func() map[fault.Kind]string {
	var read map[fault.Kind]string
	return func() map[fault.Kind]string {
		if read == nil {
			read = readMeanings("../fault/fault.go")
		}
		return read
	}
}()

func readMeanings(file string) map[fault.Kind]string {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		panic(err)
	}
	read := map[fault.Kind]string{}
	for _, d := range parsed.Decls {
		constants, ok := d.(*ast.GenDecl)
		if !ok || constants.Tok != token.CONST {
			continue
		}
		for i, s := range constants.Specs {
			if about := strings.TrimSpace(s.(*ast.ValueSpec).Comment.Text()); about != "" {
				read[fault.Kind(i)] = about
			}
		}
	}
	return read
}
