// Package docs carries the documents that the server serves: the generated OpenAPI description and Swagger UI.
package docs

import (
	_ "embed"
	"io/fs"
	"mime"
	"path"

	swaggerfiles "github.com/swaggo/files/v2"
)

//go:generate go run -C ../internal/tools . ..

// OpenAPI is the OpenAPI 3 document of the HTTP API, generated from the annotations on its handlers.
//
//go:embed openapi.json
var OpenAPI []byte

// initializer starts Swagger UI on our document; it takes the place of the file that comes with Swagger UI. What
// makes a thing comes before what reads and what removes it.
const initializer = `window.onload = () => {
  const methods = ["post", "put", "get", "head", "patch", "delete"];
  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    tryItOutEnabled: true,
    operationsSorter: (a, b) => a.get("path").localeCompare(b.get("path")) || methods.indexOf(a.get("method")) - methods.indexOf(b.get("method")),
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    plugins: [SwaggerUIBundle.plugins.DownloadUrl],
    layout: "StandaloneLayout"
  });
};
`

// Page returns a file of Swagger UI with its content type.
func Page(name string) (content []byte, contentType string, ok bool) {
	contentType = mime.TypeByExtension(path.Ext(name))
	if name == "swagger-initializer.js" {
		return []byte(initializer), contentType, true
	}
	content, err := fs.ReadFile(swaggerfiles.FS, name)
	return content, contentType, err == nil
}
