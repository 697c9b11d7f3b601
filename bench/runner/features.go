package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// feature is something an operator may turn on: what the pool has in weir.yaml, and what NGINX has.
type feature struct {
	name, what string
	settings   string                          // of the pool, a line each
	peer       func(i int, addr string) string // YAML of a peer; nil = its address

	http, location, server string
	reporting              bool   // its peers send load reports with their answers
	shows                  string // at /weir-status
	cookie                 bool   // clients come back with what they were given
}

const (
	reports = `        add_header Endpoint-Load-Metrics "TEXT cpu_utilization=0.3, named_metrics.in_flight=1" always;` + "\n"
	rateOn  = "rate=1000000r/s burst=100000"
)

func asked(pool string) string {
	return fmt.Sprintf(`require("resty.weir").admit("%s")`, pool)
}

func access(lua string) string { return "            access_by_lua_block { " + lua + " }\n" }

// featureList has those whose cost somebody may ask for. None of them refuses a request here: bounds are far above the load.
func (b *bench) featureList() []feature {
	rate := func(pool string) string { return fmt.Sprintf(`require("resty.weir").rate("%s", "%s")`, pool, rateOn) }
	sticky := fmt.Sprintf("            include %s/nginx/affinity.conf;\n", b.repo)
	return []feature{
		{name: "access", what: "an access phase in Lua that does nothing: part of limit, caps and rate", location: access("")},
		{name: "cookie", what: "affinity by cookie, clients that come back with it", settings: "affinity: {by: cookie}", location: sticky, shows: `"affinity":"cookie"`, cookie: true},
		{name: "cookie-new", what: "affinity by cookie, clients without: each answer sets one", settings: "affinity: {by: cookie}", location: sticky, shows: `"affinity":"cookie"`},
		{name: "hash", what: "affinity by a hash, one key a connection", settings: `affinity: {by: hash, key: "$connection"}`, shows: `"affinity":"hash"`},
		{
			name: "tiers", what: "two zones, and two backups that stand by", settings: "tiers: {min_usable: 0.7}\nzone_cost: 0.3", shows: `"tier":1`,
			peer: func(i int, addr string) string {
				if i < 2 {
					return fmt.Sprintf("{address: %q, backup: true}", addr)
				}
				return fmt.Sprintf("{address: %q, zone: %c}", addr, 'a'+i%2)
			},
		},
		{name: "limit", what: "a limit for the pool, asked in the access phase", settings: "limit: {adaptive: true, min: 1000}", location: access(asked("limit")), shows: `"limit":1000`},
		{name: "caps", what: "a cap for each peer, asked in the access phase", settings: "max_inflight: 1000", location: access(asked("caps")), shows: `"max_inflight":1000`},
		{name: "rate", what: "a rate limit by client address", location: access(rate("rate")), shows: `"rates":["rate=`},
		{
			name: "guarded", what: "rate, limit and caps in one access phase", settings: "limit: {adaptive: true, min: 1000}\nmax_inflight: 1000",
			location: access(rate("guarded") + " " + asked("guarded")), shows: `"rates":["rate=`,
		},
		{name: "reports", what: "peers that send a load report with each answer", reporting: true},
		{
			name: "split", what: "a tenth of the requests to a group of two peers, by the connection", settings: "split: {group: canary, share: 0.1, key: $connection}",
			peer: func(i int, addr string) string {
				if i < 2 {
					return fmt.Sprintf("{address: %q, group: canary}", addr)
				}
				return fmt.Sprintf("%q", addr)
			},
		},
		{
			name: "shadow", what: "a tenth of the requests sent to a shadow pool too",
			http:     "    split_clients $request_id $weir_shadow { 10% 1; * 0; }\n",
			location: "            set $weir_shadow_uri $uri; mirror /weir-shadow; mirror_request_body off;\n",
			server:   fmt.Sprintf("        location = /weir-shadow { proxy_pass http://next; include %[1]s/nginx/proxy.conf; include %[1]s/nginx/shadow.conf; }\n", b.repo),
		},
		{name: "sizes", what: "requests that carry a weight", http: "    map $uri $weir_weight { default 3; }\n"},
	}
}

func (f feature) pool(peers []string) string {
	var y strings.Builder
	fmt.Fprintf(&y, "  - name: %s\n", f.name)
	for line := range strings.Lines(f.settings) {
		fmt.Fprintf(&y, "    %s\n", strings.TrimSpace(line))
	}
	y.WriteString("    peers:\n")
	for i, addr := range peers {
		text := fmt.Sprintf("%q", addr)
		if f.peer != nil {
			text = f.peer(i, addr)
		}
		fmt.Fprintf(&y, "      - %s\n", text)
	}
	return y.String()
}

// featuresEngine starts the one engine that all variants share, and the peers that send load reports.
func (c *cpuCmd) featuresEngine(b *bench, peers []string, at placement) (*engine, error) {
	var err error
	if c.reporting, err = b.addrs(len(peers)); err != nil {
		return nil, err
	}
	if _, err := b.nginx(site{Name: "reporting", Template: "static", Peers: c.reporting, CPUMask: at.peersMask, Preload: at.preload, Server: reports}); err != nil {
		return nil, err
	}
	pools := feature{name: "api"}.pool(peers) + "  - {name: next, shadow_of: shadow, retry: {tries: 1}, peers: [" + fmt.Sprintf("%q", peers[0]) + "]}\n"
	limits := ""
	for _, f := range b.featureList() {
		pools += f.pool(c.peersOf(f, peers))
		if strings.Contains(f.settings, "adaptive") {
			limits += fmt.Sprintf(`,[%q,1000,1000]`, f.name)
		}
	}
	eng, err := b.engineOf("engine", pools, "zone: a\nhistory: {dir: engine-history}\n")
	if err != nil {
		return nil, err
	}
	// A limit is known only after an overload. So the engine is told one, as NGINX tells an engine that was started anew.
	body := `{"v":1,"instance":"bench","worker":0,"records":0,"limits":[` + strings.TrimPrefix(limits, ",") + "]}\n"
	resp, err := eng.unix.Post("http://weir/observe", "application/x-weir-observe", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("telling the engine a limit: %s: %s", resp.Status, text)
	}
	return eng, nil
}

func (c *cpuCmd) peersOf(f feature, all []string) []string {
	if f.reporting {
		return c.reporting
	}
	return all
}

// features are the variants: weir without any, and weir with each.
func (c *cpuCmd) features(b *bench, weir site, peers []string) []*variant {
	all := []*variant{{name: "weir", base: "least_conn", what: "Weir, live engine, no feature", site: weir}}
	for _, f := range b.featureList() {
		s := weir
		s.Upstream = poolUpstream(f.name, c.peersOf(f, peers))
		s.HTTP += f.http
		s.Location = f.location
		s.Server += f.server
		if f.server != "" {
			s.HTTP += "    upstream next {\n" + poolUpstream("next", peers[:1]) + "        keepalive 64;\n    }\n"
		}
		if strings.Contains(f.location, "rate(") {
			s.HTTP += "    lua_shared_dict weir_rate 10m;\n"
		}
		all = append(all, &variant{name: "weir-" + f.name, base: "weir", what: f.what, site: s, shows: f.shows, cookie: f.cookie})
	}
	return all
}

// fetchCookie gets what the client comes back with.
func (v *variant) fetchCookie() error {
	if !v.cookie {
		return nil
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + v.site.Listen + fixedPath)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	for _, c := range resp.Cookies() {
		v.sent = c.Name + "=" + c.Value
		return nil
	}
	return errors.New("the answer sets no cookie")
}

// on fails when the status page does not show that the feature is on: its cost would be that of nothing.
func (v *variant) on() error {
	if v.shows == "" {
		return nil
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + v.site.Listen + "/weir-status")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if !bytes.Contains(body, []byte(v.shows)) {
		return fmt.Errorf("the feature is not on: no %s in %s", v.shows, body)
	}
	return nil
}
