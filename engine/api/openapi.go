package api

import _ "embed"

// OpenAPI is the description of both listeners.
//
//go:embed openapi.yaml
var OpenAPI []byte

func (a *admin) openapi(c *call) {
	c.Response.Header.SetContentType("application/yaml")
	c.Response.SetBodyRaw(OpenAPI)
}
