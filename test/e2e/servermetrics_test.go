package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// What servers say of themselves: real exporters, a real Prometheus, and a peer whose memory fills until it dies.

// metered is a peer with its metrics, as the admin API tells it.
type metered struct {
	Usable  bool
	State   string
	Reason  string
	Admit   float64
	Metrics []struct {
		Name      string
		Value     *float64
		Limit     *float64
		ToLimitMS *float64 `json:"to_limit_ms"`
		AtLimit   bool     `json:"at_limit"`
	}
}

func meteredPeer(r *rig.Rig, pool, backend string) (m metered) {
	r.T.Helper()
	status, body := r.Engine.Get(r.Engine.PeerPath(pool, backend))
	if err := json.Unmarshal(body, &m); err != nil || status != http.StatusOK {
		r.T.Fatalf("peer %s: %d %s %v", backend, status, body, err)
	}
	return m
}

// memoryOf scrapes the backends themselves, quickly.
const memoryOf = `metrics:
  - name: memory
    scrape: "http://{address}/metrics"
    query: backend_memory_bytes / backend_memory_limit_bytes
    every_ms: 300
    timeout_ms: 300
    expire_ms: 3000
    horizon_ms: 4000
    drain_above: 0.7
`

func TestAPeerWhoseMemoryClimbsIsDrainedBeforeItDiesAndNoClientSeesIt(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{`a --settings {"memory":{"from":0.3,"per_s":0}}`, "b", "c"}, Settings: memoryOf}}})
	// No retry may hide that a request was sent to a dead peer: POSTs are not repeated, and the peer's own word is asked for too.
	load := r.StartLoad(4, 5*time.Millisecond, rig.Request{Path: "/api/x", Method: "POST", Body: "x"})
	r.Engine.WaitAttempts("api", "a", 20)
	r.Backend("a").Set(`{"memory":{"from":0.3,"per_s":0.15}}`) // at the limit after 2.7 s, dead after 4.7

	shrunk := false
	r.Eventually("a drains", func() error {
		m := meteredPeer(r, "api", "a")
		shrunk = shrunk || m.State == "up" && m.Usable && m.Admit < 0.5
		if m.State != "draining" {
			return fmt.Errorf("it is %s with admit %v: %+v", m.State, m.Admit, m.Metrics)
		}
		if !strings.HasPrefix(m.Reason, "memory is 0.") || m.Usable {
			t.Errorf("usable %v, reason %q", m.Usable, m.Reason)
		}
		return nil
	})
	if !shrunk {
		t.Error("a lost no share before it drained")
	}
	r.Eventually("a is dead", func() error {
		if r.Backend("a").Alive() {
			return fmt.Errorf("it lives")
		}
		return nil
	})
	told := func() int { return strings.Count(r.Engine.Log(), `"message":"server metrics cannot be had`) }
	r.Eventually("it is told that the dead peer's exporter does not answer", func() error {
		if told() == 0 {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	before := told() // one, but for a page that a busy machine missed
	time.Sleep(time.Second)
	if n := told(); n != before {
		t.Errorf("that the dead peer's exporter does not answer is told again and again: %d times, then %d", before, n)
	}
	answers := load.Stop()
	r.WantAll(answers, 200)
	if f := r.Engine.Figures("api", "a"); f.Failed() > 0 {
		t.Errorf("a was sent requests that failed: %v", f.Failures)
	}
}

func TestAPeerAtItsLimitComesBackWhenItIsBelow(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: memoryOf + "slow_start_ms: 500"}}})
	r.Backend("a").Set(`{"memory":{"from":0.8,"per_s":0}}`)
	r.Engine.WaitState("api", "a", "draining")
	// The other one too: one of two may go.
	r.Backend("b").Set(`{"memory":{"from":0.75,"per_s":0}}`)
	r.Eventually("b is known to be at its limit", func() error {
		if m := meteredPeer(r, "api", "b").Metrics; len(m) != 1 || !m[0].AtLimit {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})
	if m := meteredPeer(r, "api", "b"); !m.Usable || m.State == "draining" {
		t.Errorf("the last peer is %s", m.State)
	}
	r.WantAll(r.Send(20, 2, rig.Request{Path: "/api/x"}), 200)
	r.Backend("a").Set(`{"memory":null}`)
	r.Engine.WaitState("api", "a", "up", "slow_start")
	r.Engine.WaitState("api", "b", "draining") // there is room for it now
	r.Eventually("a gets requests", func() error {
		if got := rig.Share(r.Send(5, 1, rig.Request{Path: "/api/x"}), "a"); got < 1 {
			return fmt.Errorf("%v of them", got)
		}
		return nil
	})
}

func TestPrometheusIsAskedAboutANodeExporterAndItsFailureIsToldOnce(t *testing.T) {
	t.Parallel()
	prom, node := startPrometheus(t)
	// The pool's peers are on the node that the exporter describes: by the host of the label's value.
	settings := `metrics:
  - {name: memory, query: "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", every_ms: 400, timeout_ms: 400, expire_ms: 1500}
  - {name: node, scrape: "http://` + node.Addr + `/metrics", query: 1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes, utilisation: true, every_ms: 1000, timeout_ms: 900}
  - {name: cpu, scrape: "http://` + node.Addr + `/metrics", query: '1 - rate(node_cpu_seconds_total{mode="idle"}) / rate(node_cpu_seconds_total)', every_ms: 1000, timeout_ms: 900}
  - {name: elsewhere, query: "node_memory_MemTotal_bytes", match: "10\\..*", every_ms: 1000, timeout_ms: 900}
`
	r := start(t, rig.Options{
		Config: "prometheus_url: http://" + prom.Addr,
		Pools:  []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: settings}},
	})
	health := func() string {
		_, body := r.Engine.Get("/api/health")
		return string(body)
	}
	values := func(backend string) map[string]float64 {
		out := map[string]float64{}
		for _, m := range meteredPeer(r, "api", backend).Metrics {
			if m.Value != nil {
				out[m.Name] = *m.Value
			}
		}
		return out
	}
	r.Eventually("Prometheus and the exporter have told", func() error {
		for _, b := range []string{"a", "b"} {
			v := values(b)
			for _, name := range []string{"memory", "node", "cpu"} {
				if x, ok := v[name]; !ok || x < 0 || x > 1 {
					return fmt.Errorf("%s of %s is %v (%v); %s", name, b, x, ok, health())
				}
			}
			if d := v["memory"] - v["node"]; d > 0.3 || d < -0.3 {
				t.Errorf("Prometheus says %v, the exporter %v", v["memory"], v["node"])
			}
		}
		return nil
	})
	r.Eventually("the model's feature is the utilisation", func() error {
		_, body := r.Engine.Get("/api/explain?pool=api")
		var x struct {
			Features []string
			Peers    []struct{ Values []float64 }
		}
		if err := json.Unmarshal(body, &x); err != nil {
			t.Fatal(err)
		}
		if at := slices.Index(x.Features, "load"); at < 0 || !(x.Peers[0].Values[at] > 0) {
			return fmt.Errorf("%s", body)
		}
		return nil
	})
	if s := r.Engine.Samples("weir_server_metric_value{"); len(s) != 6 {
		t.Errorf("%d series: %v", len(s), s)
	}
	wantCleanMetrics(r, 1000)
	r.Eventually("the metric that matches no peer is told", func() error {
		if h := health(); !strings.Contains(h, `elsewhere of pool \"api\" cannot be had: there is no value for 127.0.0.1:`) ||
			!strings.Contains(h, `label \"instance\" of what the query gives has \"127.0.0.1:`) {
			return fmt.Errorf("%s", h)
		}
		return nil
	})

	const told = `"metrics":"memory"`
	before := strings.Count(r.Engine.Log(), told) // none, but for an answer that a busy machine was late with
	prom.Stop()
	r.Eventually("the value expires and the outage is told", func() error {
		if _, known := values("a")["memory"]; known || !strings.Contains(health(), `memory of pool \"api\" cannot be had: asking http://`+prom.Addr) {
			return fmt.Errorf("%v, %s", values("a"), health())
		}
		return nil
	})
	if got := values("a"); got["node"] == 0 {
		t.Errorf("the other source is lost too: %v", got)
	}
	r.WantAll(r.Send(50, 2, rig.Request{Path: "/api/x"}), 200)
	if n := strings.Count(r.Engine.Log(), told) - before; n != 1 {
		t.Errorf("the outage has %d lines", n)
	}
	prom.Start()
	r.Eventually("the value is back", func() error {
		if _, known := values("a")["memory"]; !known {
			return fmt.Errorf("%s", health())
		}
		return nil
	})
	if n := strings.Count(r.Engine.Log(), told) - before; n != 2 {
		t.Errorf("the outage and its end have %d lines", n)
	}
}

// startPrometheus starts Debian's node exporter, and Debian's Prometheus to scrape it. It returns when there is a sample.
func startPrometheus(t *testing.T) (prom, node *rig.Program) {
	t.Helper()
	node = rig.StartProgram(t, programs, "prometheus-node-exporter", func(addr, _ string) []string {
		return []string{"--web.listen-address=" + addr, "--collector.disable-defaults", "--collector.meminfo", "--collector.cpu", "--log.level=error"}
	})
	prom = rig.StartProgram(t, programs, "prometheus", func(addr, dir string) []string {
		text := "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs: [{job_name: node, static_configs: [{targets: ['" + node.Addr + "']}]}]\n"
		if err := os.WriteFile(dir+"/prometheus.yml", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return []string{"--config.file=" + dir + "/prometheus.yml", "--storage.tsdb.path=" + dir + "/data", "--web.listen-address=" + addr, "--log.level=error"}
	})
	ask := "http://" + prom.Addr + "/api/v1/query?query=" + url.QueryEscape("node_memory_MemTotal_bytes")
	for until := time.Now().Add(2 * rig.Patience); ; time.Sleep(50 * time.Millisecond) {
		if body, err := rig.Read(ask); err == nil && strings.Contains(body, node.Addr) {
			return prom, node
		} else if time.Now().After(until) {
			t.Fatalf("Prometheus has no sample: %v %s\n%s\n%s", err, body, prom.Output(), node.Output())
		}
	}
}
