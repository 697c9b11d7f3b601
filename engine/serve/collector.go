package serve

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/servermetrics"
	"github.com/weirlb/weir/engine/servermetrics/collect"
	"github.com/weirlb/weir/engine/servermetrics/expr"
)

// collector asks for metrics of a pool, with one goroutine of its own that the pool starts and stops: for one metric by PromQL, or for all
// that are on the same pages of the peers' exporters and asked for equally often.
type collector struct {
	pool    *livePool
	at      []int           // of its metrics in the pool's list
	metrics []config.Metric // those
	stop    context.CancelFunc
	ended   chan struct{}

	// The pool's mutex guards these.
	started bool
	fault   string // "" = it works
	since   time.Time

	// The goroutine's own.
	exprs []*expr.Expr
	wants map[string]bool // names of metrics to keep of a page
	last  map[string]scraped
}

// scraped is a page and when it was read.
type scraped struct {
	page expr.Page
	at   time.Time
}

// abreast is how many exporters of a collector are asked at a time.
const abreast = 8

// newCollectors makes the collectors of a pool's metrics.
func newCollectors(p *livePool) (out []*collector) {
	for i, m := range p.conf.Metrics {
		same := slices.IndexFunc(out, func(s *collector) bool {
			o := &s.metrics[0]
			return m.Scrape != "" && o.Scrape == m.Scrape && o.EveryMS == m.EveryMS && o.TimeoutMS == m.TimeoutMS
		})
		if same < 0 {
			same = len(out)
			out = append(out, &collector{pool: p, ended: make(chan struct{}), wants: map[string]bool{}, last: map[string]scraped{}})
		}
		s := out[same]
		s.at, s.metrics = append(s.at, i), append(s.metrics, m)
		if m.Scrape != "" {
			e, err := expr.Parse(m.Query)
			if err != nil { // the configuration was checked: this cannot be
				continue
			}
			s.exprs = append(s.exprs, e)
			for _, n := range e.Names() {
				s.wants[n] = true
			}
		}
	}
	return out
}

// startCollectors starts those that do not run yet, when the engine runs.
func (p *livePool) startCollectors() {
	if !p.started || p.retired || p.meters == nil {
		return
	}
	for _, s := range p.meters.collectors {
		if s.started {
			continue
		}
		ctx, stop := context.WithCancel(p.eng.life)
		s.started, s.stop = true, stop
		p.eng.running.Go(func() { s.run(ctx) })
	}
}

func (s *collector) wait() { <-s.ended }

// names are those of its metrics, for people.
func (s *collector) names() string {
	names := make([]string, len(s.metrics))
	for i, m := range s.metrics {
		names[i] = m.Name
	}
	return strings.Join(names, ", ")
}

func (s *collector) run(ctx context.Context) {
	defer close(s.ended)
	defer s.stop()
	client := collect.New()
	defer client.Close()
	every := time.Duration(s.metrics[0].EveryMS) * time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		s.pool.mu.Lock()
		peers := s.pool.addrs()
		s.pool.unlock()
		var values []map[string]float64
		var fault string
		if s.metrics[0].Scrape != "" {
			values, fault = s.scrape(ctx, client, peers)
		} else {
			values, fault = s.ask(ctx, client, peers)
		}
		if ctx.Err() != nil {
			return
		}
		s.pool.measured(s, values, fault)
		// A tenth of jitter keeps many pools, and many engines, from asking at the same time.
		next := time.Duration(float64(every) * (0.95 + 0.1*rand.Float64()))
		timer.Reset(max(next-time.Since(began), every/10))
	}
}

func (s *collector) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(s.metrics[0].TimeoutMS)*time.Millisecond)
}

// ask has the Prometheus compute the query. Of several series about one peer the highest counts.
func (s *collector) ask(ctx context.Context, client *collect.Client, peers []string) ([]map[string]float64, string) {
	values := []map[string]float64{{}}
	base := s.pool.eng.prometheus
	if base == "" {
		return values, "prometheus_url is not set (it takes effect at the next start)"
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	m := &s.metrics[0]
	series, err := client.Query(ctx, base, m.Query)
	if err != nil {
		return values, err.Error()
	}
	match := servermetrics.Match{Label: m.Label, Pattern: m.Match.Regexp(), As: m.As, Exact: m.By == config.ByAddress}
	var about []string
	strangers := map[string]bool{}
	noNumber := "" // a peer whose value is NaN, as a share of nothing is, or infinite
	for _, one := range series {
		about = match.Peers(one.Labels, peers, about[:0])
		if one.Value-one.Value != 0 {
			if len(about) > 0 && noNumber == "" {
				noNumber = fmt.Sprintf("%g for %s", one.Value, about[0])
			}
			continue
		}
		if len(about) == 0 && len(strangers) < 3 {
			strangers[one.Labels[m.Label]] = true
		}
		for _, addr := range about {
			if v, ok := values[0][addr]; !ok || one.Value > v {
				values[0][addr] = one.Value
			}
		}
	}
	return values, missing(values, peers, func() string {
		if len(series) == 0 {
			return "the query gives no series"
		}
		if noNumber != "" {
			return "the query gives " + noNumber
		}
		var seen []string
		for v := range strangers {
			seen = append(seen, fmt.Sprintf("%.60q", v))
		}
		if len(seen) == 0 {
			return "the query gives no finite number"
		}
		slices.Sort(seen)
		return fmt.Sprintf("label %q of what the query gives has %s", m.Label, strings.Join(seen, ", "))
	})
}

// missing says for which peers there is no value, and why by the word of others; "" = for none.
func missing(values []map[string]float64, peers []string, why func() string) string {
	first, n := "", 0
	for _, p := range peers {
		for _, v := range values {
			if _, ok := v[p]; !ok {
				if n++; n == 1 {
					first = p
				}
				break
			}
		}
	}
	if n == 0 {
		return ""
	}
	text := "there is no value for " + first
	if n > 1 {
		text += fmt.Sprintf(" and %d more of %d peers", n-1, len(peers))
	}
	if said := why(); said != "" {
		text += ": " + said
	}
	return text
}

// scrape reads the page of each peer's exporter, a page that several share once.
func (s *collector) scrape(ctx context.Context, client *collect.Client, peers []string) ([]map[string]float64, string) {
	values := make([]map[string]float64, len(s.metrics))
	for i := range values {
		values[i] = map[string]float64{}
	}
	on := map[string][]string{} // peers by page
	var pages []string
	for _, p := range peers {
		page := servermetrics.Page(s.metrics[0].Scrape.Reveal(), p)
		if page == "" {
			continue
		}
		if on[page] == nil {
			pages = append(pages, page)
		}
		on[page] = append(on[page], p)
	}
	type answer struct {
		page scraped
		err  error
	}
	answers := make([]answer, len(pages))
	turns := make(chan struct{}, abreast)
	var all sync.WaitGroup
	for i, page := range pages {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			ctx, cancel := s.within(ctx)
			defer cancel()
			a := &answers[i]
			a.page.page, a.err = client.Scrape(ctx, page, s.wants)
			a.page.at = time.Now()
		})
	}
	all.Wait()
	said := ""
	last := make(map[string]scraped, len(pages))
	for i, page := range pages {
		a := &answers[i]
		if a.err != nil {
			if said == "" {
				said = a.err.Error()
			}
			continue
		}
		before := s.last[page]
		last[page] = a.page
		for j, e := range s.exprs {
			v, ok := e.Eval(a.page.page, before.page, a.page.at.Sub(before.at).Seconds())
			for _, p := range on[page] {
				if ok {
					values[j][p] = v
				}
			}
			if !ok && said == "" && before.page != nil {
				said = fmt.Sprintf("%s of its page is no number: %.120s; are these metrics there?", s.metrics[j].Name, strings.Join(e.Names(), ", "))
			}
		}
	}
	first := len(s.last) == 0
	s.last = last
	if first && said == "" {
		return values, "" // a rate needs a second page
	}
	return values, missing(values, peers, func() string { return said })
}
