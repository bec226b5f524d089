// Command tools makes what is generated: the OpenAPI document and the reference pages in docs/, the Go client
// in sdk/api/. It is a module of its own, so that the generators are no dependencies of Larder.
//
//	handlers' annotations ─ swag ─► Swagger 2.0 ─ kin-openapi ─► OpenAPI 3 ─ describe ─► docs/openapi.json
//	docs/openapi.json ─ oapi-codegen ─► sdk/api/api.gen.go
//	kinds of faults ─► sdk/errors.gen.go
//	command table, faults, actions, docs/openapi.json ─► docs/reference/*.md
//
// The same sources give the same bytes: running it twice changes nothing, which `make fresh` relies on.
//
// Start with generate.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	root := "../.."
	if len(os.Args) > 1 {
		root = filepath.Join(root, "docs", os.Args[1]) // as go:generate in docs/ says it
	}
	if err := generate(root); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// generate makes everything from the repository at root.
func generate(root string) error {
	old, err := readAnnotations(root)
	if err != nil {
		return fmt.Errorf("annotations: %w", err)
	}
	doc, err := describe(old)
	if err != nil {
		return fmt.Errorf("openapi: %w", err)
	}
	text, err := marshal(doc)
	if err != nil {
		return fmt.Errorf("openapi: %w", err)
	}
	if err := write(root, "docs/openapi.json", text); err != nil {
		return err
	}
	client, err := goClient(text)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if err := write(root, "sdk/api/api.gen.go", client); err != nil {
		return err
	}
	codes, err := goErrors()
	if err != nil {
		return fmt.Errorf("errors: %w", err)
	}
	if err := write(root, "sdk/errors.gen.go", codes); err != nil {
		return err
	}
	return referencePages(root, doc)
}

// write replaces a file if its content changes, so that nothing that watches files or their times wakes up
// for nothing.
func write(root, name string, content []byte) error {
	path := filepath.Join(root, name)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}
