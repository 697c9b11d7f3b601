package main

import (
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"

	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/engine/split"
)

type splitCmd struct {
	adminAPI
	JSON bool `name:"json" xor:"form" help:"Print JSON."`

	Key   string   `xor:"form" help:"Tell on which side the requests with this key are, the text of split.key with its variables filled in." placeholder:"TEXT"`
	Pool  string   `arg:"" help:"Name of the pool."`
	Share *float64 `arg:"" optional:"" help:"Share of the requests, 0 to 1, that is to go to the group from now on, until the engine ends or the file changes the split."`
}

func (c *splitCmd) Run(to streams) error {
	var f serve.SplitFigures
	method, body := "GET", any(nil)
	if c.Share != nil {
		if !(*c.Share >= 0 && *c.Share <= 1) { // NaN, which JSON cannot say, is neither
			return &serve.ShareError{Share: *c.Share}
		}
		method, body = "PATCH", map[string]any{"share": *c.Share}
	}
	raw, err := c.call(method, "/api/pools/"+url.PathEscape(c.Pool)+"/split", body, &f)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err := to.out.Write(append(raw, '\n'))
		return err
	}
	if c.Key != "" {
		return printWhere(to.out, &f, c.Key)
	}
	return printSplit(to.out, &f)
}

// printWhere tells on which side a key is.
func printWhere(w io.Writer, f *serve.SplitFigures, key string) error {
	if f.Key == nil {
		return fmt.Errorf("the split of pool %q has no key: each request is drawn for itself", f.Pool)
	}
	at := split.Place(f.Pool, key)
	side := "the rest"
	if (split.Rule{Share: f.Share, Fallback: f.Fallback}).Side(split.Request{Keyed: true, At: at}).Side == split.Group {
		side = "group " + f.Group
	}
	_, err := fmt.Fprintf(w, "%s as %s goes to %s: it is in the group from a share of %.4f on, and the share is %g\n", key, *f.Key, side, at, f.Share)
	return err
}

func printSplit(w io.Writer, f *serve.SplitFigures) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SIDE\tSHARE\tUSABLE\tREQUESTS\tFAILED\tABORTED\tMEAN ms\tP50 ms\tP99 ms")
	rest := 1 - f.Share
	printSide(t, f.Group, fine(f.Share), &f.OfGroup)
	printSide(t, "the rest", fine(rest), &f.OfRest)
	if f.Header != nil {
		printSide(t, f.Group+" by header", "-", &f.OfHeader)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, f.Versus.Says)
	return err
}

func printSide(w io.Writer, name, share string, s *serve.SideFigures) {
	failed := fmt.Sprint(s.Failures)
	if s.FailureShare != nil && s.Failures > 0 {
		failed += " (" + fine(*s.FailureShare) + ")"
	}
	fmt.Fprintf(w, "%s\t%s\t%d of %d\t%d\t%s\t%d\t%s\t%s\t%s\n", name, share, s.Usable, s.Peers, s.Requests, failed, s.Aborted,
		number(s.MeanMS), number(s.P50MS), number(s.P99MS))
}

// fine is a share in percent with three digits: those of canaries are small.
func fine(x float64) string { return fmt.Sprintf("%.3g %%", 100*x) }
