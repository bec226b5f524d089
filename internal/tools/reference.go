package main

import "github.com/getkin/kin-openapi/openapi3"

func referencePages(root string, doc *openapi3.T) error { return nil }
