package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// figures sum up a set of requests. Latencies are of answered requests (status below 500), in ms.
type figures struct {
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"`
	Mean     float64 `json:"mean_ms"`
	P50      float64 `json:"p50_ms"`
	P90      float64 `json:"p90_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p999_ms"`
	Max      float64 `json:"max_ms"`
}

type peerFigures struct {
	figures
	Share float64 `json:"share"` // of the answers that name a peer
}

// report is the result of a run.
type report struct {
	Options  options                `json:"options"`
	Seconds  float64                `json:"seconds"`
	PerS     float64                `json:"answered_per_s"`
	LateP99  float64                `json:"late_p99_ms"` // how late the generator itself was; to be small beside the latencies
	All      figures                `json:"all"`
	Statuses map[string]int         `json:"statuses"`
	Errors   map[string]int         `json:"errors"`
	Classes  map[string]figures     `json:"by_class"`
	Peers    map[string]peerFigures `json:"by_peer"`
}

func (l *load) report(measured time.Duration) report {
	r := report{
		Options: l.opt, Seconds: measured.Seconds(), All: figuresOf(l.samples),
		Statuses: map[string]int{}, Errors: map[string]int{}, Classes: map[string]figures{}, Peers: map[string]peerFigures{},
	}
	if r.Seconds > 0 {
		r.PerS = float64(r.All.Requests-r.All.Failed) / r.Seconds
	}
	late := make([]float64, len(l.samples))
	byClass, byPeer, named := map[string][]sample{}, map[string][]sample{}, 0
	for i, s := range l.samples {
		late[i] = ms(s.late)
		byClass[l.opt.Classes[s.class].Name] = append(byClass[l.opt.Classes[s.class].Name], s)
		if s.status > 0 {
			r.Statuses[strconv.Itoa(s.status)]++
		}
		if s.err != "" {
			r.Errors[s.err]++
		}
		if s.peer != "" {
			byPeer[s.peer] = append(byPeer[s.peer], s)
			named++
		}
	}
	slices.Sort(late)
	r.LateP99 = quantile(late, 0.99)
	for name, s := range byClass {
		r.Classes[name] = figuresOf(s)
	}
	for name, s := range byPeer {
		r.Peers[name] = peerFigures{figuresOf(s), float64(len(s)) / float64(named)}
	}
	return r
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func figuresOf(samples []sample) figures {
	f := figures{Requests: len(samples)}
	took := make([]float64, 0, len(samples))
	sum := 0.0
	for i := range samples {
		if samples[i].failed() {
			f.Failed++
			continue
		}
		took = append(took, ms(samples[i].latency))
		sum += ms(samples[i].latency)
	}
	if len(took) == 0 {
		return f
	}
	slices.Sort(took)
	f.Mean = sum / float64(len(took))
	f.P50, f.P90, f.P99, f.P999 = quantile(took, 0.5), quantile(took, 0.9), quantile(took, 0.99), quantile(took, 0.999)
	f.Max = took[len(took)-1]
	return f
}

// quantile is the smallest value that at least a share q of the sorted values do not exceed; 0 of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "%d requests in %.0f s (%.0f/s asked for, seed %d), %d failed; the generator was %.2f ms late (p99)\n", r.All.Requests, r.Seconds,
		r.Options.Rate, r.Options.Seed, r.All.Failed, r.LateP99)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\trequests\tshare\tmean ms\tp50\tp90\tp99\tfailed\t")
	row := func(name, share string, f figures) {
		fmt.Fprintf(t, "%s\t%d\t%s\t%.1f\t%.1f\t%.1f\t%.1f\t%d\t\n", name, f.Requests, share, f.Mean, f.P50, f.P90, f.P99, f.Failed)
	}
	row("all", "", r.All)
	for _, name := range slices.Sorted(maps.Keys(r.Classes)) {
		row("class "+name, "", r.Classes[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Peers)) {
		p := r.Peers[name]
		row("peer "+name, fmt.Sprintf("%.0f %%", 100*p.Share), p.figures)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, text := range slices.Sorted(maps.Keys(r.Errors)) {
		if _, err := fmt.Fprintf(w, "%6d x %s\n", r.Errors[text], text); err != nil {
			return err
		}
	}
	return nil
}
