package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// none is an environment with nothing in it.
func none(string) (string, bool) { return "", false }

func vars(kv map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := kv[name]
		return v, ok
	}
}

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, _, err := Parse("weir.yaml", []byte(text), none)
	if err != nil {
		t.Fatalf("refused:\n%v", err)
	}
	return c
}

// refused parses a text that must be refused and gives the findings as lines.
func refused(t *testing.T, text string, env func(string) (string, bool)) []string {
	t.Helper()
	c, _, err := Parse("weir.yaml", []byte(text), env)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("want an *Error, got %v for\n%s", err, text)
	}
	if c != nil {
		t.Fatal("a refused file gave a configuration")
	}
	return strings.Split(e.Error(), "\n")
}

func TestAnEmptyFileIsTheDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "{}", "null"} {
		c := mustParse(t, text)
		want := Default()
		want.Instance = c.Instance
		if fmt.Sprint(*c) != fmt.Sprint(want) {
			t.Errorf("%q: got %+v, want %+v", text, *c, want)
		}
		if c.Instance == "" {
			t.Error("instance is not the host's name")
		}
	}
}

func TestEveryKeyOfTheExampleIsRead(t *testing.T) {
	c := mustParse(t, `
socket: {path: /tmp/e.sock, mode: "0600", group: web}
admin: {listen: "0.0.0.0:9999", token: "0123456789abcdef"}
log: {level: debug}
refresh_ms: 250
model: {file: /m/x.onnx, library: /m/lib}
state_file: /var/lib/weir/state
prometheus_url: https://u:p@prom.example:9090/x
database: {host: db, port: 5432, user: u, password: "p#1", name: n}
zone: eu-1
instance: web1
defaults: {explore: 0.05, check: {path: /up}}
pools:
  - name: api
    policy: analytic
    objective: p99
    peers:
      - "10.0.0.1:8080"
      - {address: "[::1]:9001", weight: 2.5}
      - {address: unix:/run/app.sock, backup: true, zone: b, group: canary, max_inflight: 3}
    split: {group: canary, share: 0.05, key: $remote_addr, header: "X-Canary: yes", fallback: false}
    shadow_of: plain
    classes: {top: 7}
    spread: 0.3
    control: 0.1
    max_stale_ms: 5000
    connect_timeout_ms: 200
    retry: {tries: 2, timeout_ms: 900, share: 0.1, min_per_s: 3}
    check: {path: /healthz, interval_ms: 3000, timeout_ms: 500, rise: 1, fall: 4, pass: "200-299,401", host: app.example, method: HEAD, protocol: https}
    eject: {consecutive: 4, failure_share: 0.3, min_requests: 9, interval_ms: 4000, base_ms: 50, max_ms: 700, max_share: 0.25}
    slow_start_ms: 0
    tiers: {min_usable: 0.5}
    zone_cost: 0.2
    zone_cost_ms: 1.5
    affinity:
      {by: cookie, key: $arg_user, break_at: 2, balance_factor: 1.5, drain_ms: 1000, cookie: {name: sid, ttl_ms: 60000, path: /x, samesite: none, secure: true, httponly: false}}
    limit: {adaptive: true, min: 5, max: 500, tolerance: 2, normal: 0.8, low: 0.5}
    max_inflight: 40
    queue_ms: 20
    queue_max: 30
    load_report: {enabled: false, expire_ms: 9000, blackout_ms: 0}
    sizes: false
    balancers: 3
  - {name: plain, peers: ["10.0.0.2:1"]}
  - {name: bare, check: off, peers: ["10.0.0.2:1"]}
`)
	api := c.Pools[0]
	want := Pool{
		Name: "api",
		Settings: Settings{
			Policy: Analytic, Objective: P99, Classes: Classes{7}, Spread: 0.3, Explore: 0.05, Control: 0.1, MaxStaleMS: 5000, ConnectTimeoutMS: 200,
			Retry: Retry{2, 900, 0.1, 3},
			Check: Check{true, "/healthz", 3000, 500, 1, 4, c.Pools[0].Check.Pass, "app.example", "HEAD", "https", "", ""},
			Eject: Eject{4, 0.3, 9, 4000, 50, 700, 0.25}, LoadReport: LoadReport{false, 9000, 0}, Tiers: Tiers{0.5}, ZoneCost: 0.2, ZoneCostMS: 1.5,
			Affinity: Affinity{AffinityCookie, "$arg_user", 2, 1.5, 1000, Cookie{"sid", 60_000, "/x", "None", "true", false}},
			Limit:    Limit{true, 5, 500, 2, 0.8, 0.5}, MaxInflight: 40, QueueMS: 20, QueueMax: 30, Balancers: 3,
		},
		Peers: []Peer{
			{Address: "10.0.0.1:8080", Weight: 1},
			{Address: "[::1]:9001", Weight: 2.5},
			{Address: "unix:/run/app.sock", Weight: 1, Tier: 1, Backup: true, Zone: "b", Group: "canary", MaxInflight: 3},
		},
		Split: Split{"canary", 0.05, "$remote_addr", "X-Canary: yes", false}, ShadowOf: "plain",
	}
	if !api.Equal(&want) {
		t.Errorf("got  %+v\nwant %+v", api, want)
	}
	if got := api.Check.Pass.String(); got != "200-299,401" {
		t.Errorf("pass reads %s", got)
	}
	check := DefaultCheck()
	check.Path = "/up"
	inherited := DefaultSettings()
	inherited.Explore, inherited.Check = 0.05, check
	if c.Pools[1].Settings != inherited {
		t.Errorf("a pool that sets nothing has %+v, want the defaults %+v", c.Pools[1].Settings, inherited)
	}
	if c.Pools[2].Check != (Check{}) {
		t.Errorf("check: off kept %+v", c.Pools[2].Check)
	}
	if c.Socket != (Socket{"/tmp/e.sock", 0o600, "web"}) || c.Admin.Listen != "0.0.0.0:9999" || c.RefreshMS != 250 ||
		c.Log.Level != "debug" || c.StateFile != "/var/lib/weir/state" || c.Zone != "eu-1" || c.Instance != "web1" ||
		c.Database != (Database{"db", 5432, "u", "p#1", "n"}) || c.PrometheusURL.Reveal() != "https://u:p@prom.example:9090/x" {
		t.Errorf("top level read as %+v", c)
	}
}

func TestDefaultsApplyWhereverTheyStandInTheFile(t *testing.T) {
	c := mustParse(t, "pools: [{name: a, peers: ['10.0.0.1:80']}]\ndefaults: {explore: 0.1}\n")
	if c.Pools[0].Explore != 0.1 {
		t.Errorf("explore is %v", c.Pools[0].Explore)
	}
}

func TestAPlainSocketIsItsPath(t *testing.T) {
	c := mustParse(t, "socket: /tmp/x.sock")
	if c.Socket != (Socket{Path: "/tmp/x.sock", Mode: 0o660}) {
		t.Errorf("got %+v", c.Socket)
	}
}
