package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// printTable puts both sides beside each other, gains and losses alike.
func printTable(w io.Writer, opt options, peers []*peer, before, after *result) {
	_, _ = fmt.Fprintf(w, "\n%d requests a side: %g/s for %d s after %d s of warm-up, seed %d\n\n", before.All.Requests, opt.Rate, opt.Seconds, opt.Warmup, opt.Seed)
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 3, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")+"\t") }
	ms := func(name string, a, b float64) {
		row(name, fmt.Sprintf("%.1f ms", a), fmt.Sprintf("%.1f ms", b), change(a, b))
	}
	row("", "least_conn", "Weir", "change")
	ms("mean", before.All.Mean, after.All.Mean)
	ms("p50", before.All.P50, after.All.P50)
	ms("p90", before.All.P90, after.All.P90)
	ms("p99", before.All.P99, after.All.P99)
	for _, c := range loadClasses {
		name, _, _ := strings.Cut(c, ":")
		ms("p99 of /"+name, before.Classes[name].P99, after.Classes[name].P99)
	}
	row("failures", fmt.Sprint(before.All.Failed), fmt.Sprint(after.All.Failed), "")
	row("", "", "", "")
	for _, p := range peers {
		row("share of "+p.Name, percent(before.Peers[p.Name].Share), percent(after.Peers[p.Name].Share), "")
	}
	_ = t.Flush() // into memory
	for line := range strings.Lines(b.String()) {
		_, _ = fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
	_, _ = fmt.Fprintln(w)
	for _, p := range peers {
		_, _ = fmt.Fprintf(w, "  %s  %s\n", p.Name, p.What)
	}
	if before.All.Failed+after.All.Failed > 0 {
		_, _ = fmt.Fprintf(w, "\nFailures with least_conn: %s; with Weir: %s. (An answer after 5 s is a time-out.)\n", before.failures(), after.failures())
	}
	if late := max(before.LateP99, after.LateP99); late > 5 {
		_, _ = fmt.Fprintf(w, "\nThis machine was busy: the load generator itself was up to %.0f ms late (p99). That is in the figures above.\n", late)
	}
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

Make backend %[6]s slow, failing, well again, and watch its share:

  curl -s -X PATCH -d '{"speed":0.1}' http://%[7]s/settings
  curl -s -X PATCH -d '{"speed":1,"fail":{"status":500,"after_ms":1,"share":1}}' http://%[7]s/settings
  curl -s -X PATCH -d '{"fail":null}' http://%[7]s/settings
`, d.weir, d.plain, d.admin, slow.Addr, d.opt.Bin+"/weir", slow.Name, slow.control)
}
