package config

import (
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weirlb/weir/engine/servermetrics/expr"
)

// Metric is something that the servers of a pool say about themselves, by a Prometheus or by an exporter each.
type Metric struct {
	Name string `key:"name"`
	// Query is PromQL for the Prometheus, or with Scrape an expression over an exporter's page (servermetrics/expr).
	Query string `key:"query"`
	// Scrape is the URL of a peer's exporter, with {host}, {port} or {address} for the peer's; empty: Query goes to the Prometheus.
	Scrape PageURL `key:"scrape"`

	Label string  `key:"label"` // tells which peer a series of the Prometheus is about
	Match Pattern `key:"match"` // must match its value; empty = any
	As    string  `key:"as"`    // what then stands for the value, with groups of Match
	By    MatchBy `key:"by"`

	EveryMS   int     `key:"every_ms" range:"200..3600000"`
	TimeoutMS int     `key:"timeout_ms" range:"10..60000"`
	ExpireMS  int     `key:"expire_ms" range:"500..86400000"`
	Limit     float64 `key:"drain_above" range:"0..1000000000000000"` // 0 = none
	HorizonMS int     `key:"horizon_ms" range:"0..86400000"`          // 0 = no share is lost before the limit
	Load      Switch  `key:"utilisation"`
}

// DefaultMetric is what a metric has that only has a name and a query.
func DefaultMetric() Metric {
	return Metric{Label: "instance", As: "$1", By: ByHost, EveryMS: 5000, TimeoutMS: 2000, ExpireMS: 30_000, HorizonMS: 60_000}
}

// MatchBy is how much of a peer's address a series must name.
type MatchBy string

// By host: a series that names no peer's whole address is about every peer on its host. By address: it must name the whole.
const (
	ByHost    MatchBy = "host"
	ByAddress MatchBy = "address"
)

func (b *MatchBy) fromText(s string) error { return oneOf(b, s, ByHost, ByAddress) }

// Pattern is a regular expression that a whole text must match; empty matches anything.
type Pattern string

func (p *Pattern) fromText(s string) error {
	*p = Pattern(s)
	if _, err := p.compile(); err != nil {
		*p = ""
		return regexpError{err}
	}
	return nil
}

type regexpError struct{ error }

func (e regexpError) Error() string {
	return "must be a regular expression (" + strings.TrimPrefix(e.error.Error(), "error parsing regexp: ") + ")"
}

func (p Pattern) compile() (*regexp.Regexp, error) { return regexp.Compile("^(?:" + string(p) + ")$") }

// Regexp returns the expression; nil for an empty pattern.
func (p Pattern) Regexp() *regexp.Regexp {
	if p == "" {
		return nil
	}
	r, _ := p.compile()
	return r
}

// PageURL is the URL of an exporter, with placeholders. It may carry a password, so it prints without it.
type PageURL string

var pagePlaceholder = strings.NewReplacer("{host}", "host", "{port}", "1", "{address}", "host:1")

func (u *PageURL) fromText(s string) error {
	var plain URL
	if err := plain.fromText(pagePlaceholder.Replace(s)); err != nil || strings.ContainsAny(pagePlaceholder.Replace(s), "{}") {
		return pageError{}
	}
	*u = PageURL(s)
	return nil
}

type pageError struct{}

func (pageError) Error() string {
	return `must be an http or https URL in which {host}, {port} and {address} stand for the peer's, as "http://{host}:9100/metrics"`
}

// Reveal gives the URL with its password.
func (u PageURL) Reveal() string { return string(u) }

func (u PageURL) String() string {
	p, err := url.Parse(pagePlaceholder.Replace(string(u)))
	switch {
	case err != nil:
		return redacted
	case p.User == nil:
		return string(u)
	}
	return p.Redacted()
}

// MarshalText covers JSON and YAML.
func (u PageURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// maxMetrics bounds the metrics of a pool.
const maxMetrics = 16

// metrics reads a pool's list of metrics.
func (d *decoder) metrics(n *yaml.Node, v reflect.Value, path string) {
	items, ok := d.list(n, path, "metrics", maxMetrics)
	if !ok {
		return
	}
	var metrics []Metric
	for i, item := range items {
		m := DefaultMetric()
		at := path + "[" + strconv.Itoa(i) + "]"
		item = resolve(item)
		d.places[at] = d.at(item, at)
		if item.Kind != yaml.MappingNode {
			d.errorf(d.at(item, at), "must be a mapping as {name: memory, query: ...}, is %s", describe(item))
			continue
		}
		d.object(item, reflect.ValueOf(&m).Elem(), at)
		metrics = append(metrics, m)
	}
	v.Set(reflect.ValueOf(metrics))
}

// checkMetrics checks the metrics of a pool against one another and the rest of the file.
func (d *decoder) checkMetrics(c *Config, p *Pool, base string) {
	first := map[string]bool{}
	for i := range p.Metrics {
		m := &p.Metrics[i]
		at := base + ".metrics[" + strconv.Itoa(i) + "]"
		where := func(keys ...string) place {
			for j := range keys {
				keys[j] = at + "." + keys[j]
			}
			return d.where(at, keys...)
		}
		switch {
		case m.Name == "":
			d.errorf(where(), "has no name: add `name: NAME`")
		case !validName(m.Name):
			d.errorf(where("name"), "must be 1 to %d of A-Z a-z 0-9 . _ -, is %s", maxNameSize, quote(m.Name))
		case first[m.Name]:
			d.errorf(where("name"), "the pool has a metric %q already: names must differ", m.Name)
		}
		first[m.Name] = true
		_, told := d.places[at+".scrape"] // a URL that was refused is told already
		_, asked := d.places["prometheus_url"]
		switch {
		case strings.TrimSpace(m.Query) == "":
			d.errorf(where("query"), "has no query: add `query: EXPRESSION`")
		case len(m.Query) > expr.MaxSize:
			d.errorf(where("query"), "may have %d bytes, has %d", expr.MaxSize, len(m.Query))
		case m.Scrape != "":
			if _, err := expr.Parse(m.Query); err != nil {
				d.errorf(where("query"), "%v, in %s", err, quote(m.Query))
			}
		case !told && !asked:
			d.errorf(where("query"), "there is nobody to ask: set prometheus_url, or scrape to the exporter of a peer as \"http://{host}:9100/metrics\"")
		}
		if m.TimeoutMS > m.EveryMS {
			d.errorf(where("timeout_ms", "every_ms"), "timeout_ms (%d) must not exceed every_ms (%d)", m.TimeoutMS, m.EveryMS)
		}
		if m.ExpireMS < 2*m.EveryMS {
			d.errorf(where("expire_ms", "every_ms"), "expire_ms (%d) must be at least twice every_ms (%d): one late answer would make the value unknown", m.ExpireMS, m.EveryMS)
		}
		if m.Limit > 0 && m.HorizonMS > 0 && m.HorizonMS < 8*m.EveryMS {
			d.errorf(where("horizon_ms", "every_ms"),
				"horizon_ms (%d) must be at least eight times every_ms (%d), or 0: the climb is seen over half of it, and takes four values", m.HorizonMS, m.EveryMS)
		}
		if m.Label == "" {
			d.errorf(where("label"), "must name a label, as instance")
		}
		if m.Match != "" {
			if r := m.Match.Regexp(); r != nil && r.NumSubexp() == 0 && m.As == DefaultMetric().As {
				m.As = "$0"
			}
		}
	}
}
