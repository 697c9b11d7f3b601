package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestAMistakeInAMetricIsToldWithWhatWouldBeRight(t *testing.T) {
	for _, c := range []struct{ metric, want string }{
		{"{query: up, scrape: 'http://{host}/'}", "weir.yaml:4: pools[0].metrics[0]: has no name: add `name: NAME`"},
		{"{name: a b, query: up, scrape: 'http://{host}/'}", `weir.yaml:4: pools[0].metrics[0].name: must be 1 to 64 of A-Z a-z 0-9 . _ -, is "a b"`},
		{"{name: a}", "weir.yaml:4: pools[0].metrics[0]: has no query: add `query: EXPRESSION`"},
		{"{name: a, query: up, scrape: 'http://{host}/'}\n  - {name: a, query: up, scrape: 'http://{host}/'}", `weir.yaml:5: pools[0].metrics[1].name: the pool has a metric "a" already: names must differ`},
		{"{name: a, query: up}", `weir.yaml:4: pools[0].metrics[0].query: there is nobody to ask: set prometheus_url, or scrape to the exporter of a peer as "http://{host}:9100/metrics"`},
		{"{name: a, query: 'up{', scrape: 'http://{host}/'}", `weir.yaml:4: pools[0].metrics[0].query: expected a label's name at character 4, found the end, in "up{"`},
		{"{name: a, query: up, scrape: '{host}:9100'}", `weir.yaml:4: pools[0].metrics[0].scrape: must be an http or https URL in which {host}, {port} and {address} stand for the peer's, as "http://{host}:9100/metrics", is something else`},
		{"{name: a, query: up, scrape: 'http://{ip}:9100'}", `weir.yaml:4: pools[0].metrics[0].scrape: must be an http or https URL in which {host}, {port} and {address} stand for the peer's, as "http://{host}:9100/metrics", is something else`},
		{"{name: a, query: up, scrape: 'http://{host}/', match: '('}", "weir.yaml:4: pools[0].metrics[0].match: must be a regular expression (missing closing ): `^(?:()$`), is \"(\""},
		{"{name: a, query: up, scrape: 'http://{host}/', by: port}", `weir.yaml:4: pools[0].metrics[0].by: must be one of host, address, is "port"`},
		{"{name: a, query: up, scrape: 'http://{host}/', label: ''}", "weir.yaml:4: pools[0].metrics[0].label: must name a label, as instance"},
		{"{name: a, query: up, scrape: 'http://{host}/', every_ms: 1000}", "weir.yaml:4: pools[0].metrics[0].every_ms: timeout_ms (2000) must not exceed every_ms (1000)"},
		{"{name: a, query: up, scrape: 'http://{host}/', expire_ms: 9000}", "weir.yaml:4: pools[0].metrics[0].expire_ms: expire_ms (9000) must be at least twice every_ms (5000): one late answer would make the value unknown"},
		{"{name: a, query: up, scrape: 'http://{host}/', drain_above: 1, horizon_ms: 20000}", "weir.yaml:4: pools[0].metrics[0].horizon_ms: horizon_ms (20000) must be at least eight times every_ms (5000), or 0: the climb is seen over half of it, and takes four values"},
		{"{name: a, query: up, scrape: 'http://{host}/', drain_abov: 1}", `weir.yaml:4: pools[0].metrics[0].drain_abov: unknown key; did you mean "drain_above"?`},
		{"memory", "weir.yaml:4: pools[0].metrics[0]: must be a mapping as {name: memory, query: ...}, is a text"},
	} {
		got := strings.Join(refused(t, "pools:\n- name: a\n  metrics:\n  - "+c.metric+"\n  peers: ['10.0.0.1:1']", none), "\n")
		if got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.metric, got, c.want)
		}
	}
}

func TestMetricsAreReadWithTheirDefaultsAndComparedByReloads(t *testing.T) {
	text := "prometheus_url: http://p\npools:\n- {name: a, peers: ['10.0.0.1:1'], metrics: [{name: m, query: up, match: 'x.*', drain_above: %s}]}"
	c := mustParse(t, fmt.Sprintf(text, "0.9"))
	m := DefaultMetric()
	m.Name, m.Query, m.Match, m.Limit, m.As = "m", "up", "x.*", 0.9, "$0" // no group: the value itself
	if len(c.Pools[0].Metrics) != 1 || c.Pools[0].Metrics[0] != m {
		t.Errorf("%+v", c.Pools[0].Metrics)
	}
	if d := Diff(c, mustParse(t, fmt.Sprintf(text, "0.9"))); !d.None() {
		t.Errorf("the same: %+v", d)
	}
	if d := Diff(c, mustParse(t, fmt.Sprintf(text, "0.8"))); len(d.Changed) != 1 {
		t.Errorf("another limit: %+v", d)
	}
}

func TestThePasswordInTheURLOfAnExporterIsNotShown(t *testing.T) {
	c := mustParse(t, "pools:\n- {name: a, peers: ['10.0.0.1:1'], metrics: [{name: m, query: up, scrape: 'http://u:hunter2@{host}:9100/'}]}")
	m := c.Pools[0].Metrics[0]
	if out := fmt.Sprintf("%v %+v %s", m, c.Pools, m.Scrape); strings.Contains(out, "hunter2") {
		t.Error(out)
	}
	if m.Scrape.Reveal() != "http://u:hunter2@{host}:9100/" {
		t.Error(m.Scrape.Reveal())
	}
}
