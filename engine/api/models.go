package api

import (
	"fmt"

	"github.com/valyala/fasthttp"
)

func (a *admin) models(c *call) { c.json(fasthttp.StatusOK, a.eng.Models().Figures()) }

// modelFile answers with the file itself, so that what was learned online can be kept, and judged by `weir evaluate`.
func (a *admin) modelFile(c *call) {
	m, err := a.eng.Models().Find(c.params[0])
	if err != nil {
		c.failError(err)
		return
	}
	c.SetStatusCode(fasthttp.StatusOK)
	c.Response.Header.SetContentType("application/octet-stream")
	c.Response.Header.Set("Content-Disposition", `attachment; filename="`+m.ID+`.onnx"`)
	c.Response.SetBodyRaw(m.File)
}

// operator is how events name who asked over this API.
const operator = "operator"

func (a *admin) promote(c *call)  { a.change(c, a.eng.Models().Promote) }
func (a *admin) rollback(c *call) { a.change(c, a.eng.Models().Rollback) }

// change carries out what is asked of a model. The body may be left out.
func (a *admin) change(c *call, carryOut func(id, by, why string) error) {
	var body struct {
		Why string `json:"why"`
	}
	if sent := c.PostBody(); len(sent) > 0 {
		if err := strict(sent, &body); err != nil {
			c.fail(fasthttp.StatusBadRequest, `the body must be empty or as {"why": "slower since noon"}: `+err.Error())
			return
		}
	}
	const most = 500
	if len(body.Why) > most {
		c.fail(fasthttp.StatusBadRequest, fmt.Sprintf("why may have %d bytes, has %d", most, len(body.Why)))
		return
	}
	if err := carryOut(c.params[0], operator, body.Why); err != nil {
		c.failError(err)
		return
	}
	a.models(c)
}
