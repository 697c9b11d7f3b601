package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirlb/weir/engine/serve"
)

// printTable puts the three beside each other, gains and losses alike: each of Weir's columns with its change from least_conn, and at the
// end the change from the analytic policy to the learned one.
func printTable(w io.Writer, opt options, peers []*peer, plain, classical, modelled *result) {
	all := []*result{plain, classical, modelled}
	_, _ = fmt.Fprintf(w, "\n%d requests each: %g/s for %d s after %d s of warm-up, seed %d\n\n", plain.All.Requests, opt.Rate, opt.Seconds, opt.Warmup, opt.Seed)
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 3, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")+"\t") }
	ms := func(name string, of func(*result) float64) {
		a, b, c := of(plain), of(classical), of(modelled)
		show := func(x float64) string { return fmt.Sprintf("%.1f ms", x) }
		row(name, show(a), show(b), change(a, b), show(c), change(a, c), change(b, c))
	}
	row("", "least_conn", "analytic", "", "learned", "", "learned : analytic")
	ms("mean", func(r *result) float64 { return r.All.Mean })
	ms("p50", func(r *result) float64 { return r.All.P50 })
	ms("p90", func(r *result) float64 { return r.All.P90 })
	ms("p99", func(r *result) float64 { return r.All.P99 })
	for _, c := range loadClasses {
		name, _, _ := strings.Cut(c, ":")
		ms("p99 of /"+name, func(r *result) float64 { return r.Classes[name].P99 })
	}
	row("failures", fmt.Sprint(plain.All.Failed), fmt.Sprint(classical.All.Failed), "", fmt.Sprint(modelled.All.Failed), "", "")
	row("", "", "", "", "", "", "")
	for _, p := range peers {
		row("share of "+p.Name, percent(plain.Peers[p.Name].Share), percent(classical.Peers[p.Name].Share), "", percent(modelled.Peers[p.Name].Share), "", "")
	}
	_ = t.Flush() // into memory
	for line := range strings.Lines(b.String()) {
		_, _ = fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
	_, _ = fmt.Fprintln(w)
	for _, p := range peers {
		_, _ = fmt.Fprintf(w, "  %s  %s\n", p.Name, p.What)
	}
	failed, late := 0, 0.0
	for _, r := range all {
		failed += r.All.Failed
		late = max(late, r.LateP99)
	}
	if failed > 0 {
		_, _ = fmt.Fprintf(w, "\nFailures with least_conn: %s; with the analytic policy: %s; with the learned one: %s. (An answer after 5 s is a time-out.)\n",
			plain.failures(), classical.failures(), modelled.failures())
	}
	switch {
	case late > 100:
		_, _ = fmt.Fprintf(w, "\nThis machine was too busy to compare anything: the load generator itself was up to %.0f ms late (p99). Run it again when it is quiet.\n", late)
	case late > 5:
		_, _ = fmt.Fprintf(w, "\nThis machine was busy: the load generator itself was up to %.0f ms late (p99). That is in the figures above.\n", late)
	}
}

// printControl tells how the learned policy did beside its control slice.
func printControl(w io.Writer, c *serve.ControlFigures) {
	if c.Ratio == nil || c.Of.MeanMS == nil || c.Control.MeanMS == nil {
		return
	}
	interval := "too few for an interval"
	if c.Low != nil && c.High != nil {
		interval = fmt.Sprintf("95 %% interval %.2f to %.2f", *c.Low, *c.High)
	}
	_, _ = fmt.Fprintf(w, "\nControl slice: %d requests of the learned part were placed by the better of two random peers. Their mean is %.1f ms, that of the\nothers %.1f ms: ratio %.2f, %s.\n",
		c.Control.Attempts, *c.Control.MeanMS, *c.Of.MeanMS, *c.Ratio, interval)
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

func change(before, after float64) string {
	if before == 0 {
		return ""
	}
	return fmt.Sprintf("%+.0f %%", 100*(after/before-1))
}

// where tells how to look at what runs; without --keep, how it could have been looked at.
func (d *demo) where(took time.Duration) {
	if !d.opt.Keep {
		d.say("\nThat took %.0f s. With --keep everything stays up, with load, and you can look inside:\n"+
			"the engine's API and metrics, NGINX's /weir-status, and the backends' control ports.", took.Seconds())
		return
	}
	slow := d.backends[0]
	_, _ = fmt.Fprintf(d.out, `
Through Weir      http://%[1]s/light/1
Through NGINX     http://%[2]s/light/1
The engine's API  http://%[3]s  (described by http://%[3]s/openapi.yaml)
NGINX's own view  http://%[1]s/weir-status

  curl -s http://%[3]s/api/health
  curl -s http://%[3]s/api/metrics
  curl -s http://%[3]s/metrics
  curl -s -d '{"pool":"demo","method":"GET","path":"/heavy/1"}' http://%[3]s/api/route
  curl -s -X PATCH -d '{"drain":true}' http://%[3]s/api/pools/demo/peers/%[4]s
  curl -s -X PATCH -d '{"drain":false}' http://%[3]s/api/pools/demo/peers/%[4]s
  %[5]s peers --admin http://%[3]s
  %[5]s explain demo 'GET /heavy/{n}' --admin http://%[3]s
  curl -s http://%[3]s/api/models

Make backend %[6]s slow, failing, well again, and watch its share:

  curl -s -X PATCH -d '{"speed":0.1}' http://%[7]s/settings
  curl -s -X PATCH -d '{"speed":1,"fail":{"status":500,"after_ms":1,"share":1}}' http://%[7]s/settings
  curl -s -X PATCH -d '{"fail":null}' http://%[7]s/settings
`, d.weir, d.plain, d.admin, slow.Addr, d.opt.Bin+"/weir", slow.Name, slow.control)
}
