package api

import (
	"unicode/utf8"

	"github.com/valyala/fasthttp"
)

// explain is GET /api/explain?pool=&class=.
func (a *admin) explain(c *call) {
	args := c.QueryArgs()
	pool, class := string(args.Peek("pool")), string(args.Peek("class"))
	switch {
	case pool == "":
		c.failKnown(fasthttp.StatusBadRequest, `"pool" is missing: /api/explain?pool=NAME&class=CLASS, the class may be left out`, a.eng.State().Names())
		return
	case !utf8.ValidString(class):
		c.fail(fasthttp.StatusBadRequest, "class must be UTF-8")
		return
	}
	x, err := a.eng.Explain(pool, class)
	if err != nil {
		c.failError(err)
		return
	}
	c.json(fasthttp.StatusOK, x)
}
