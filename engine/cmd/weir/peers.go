package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirlb/weir/engine/serve"
)

// adminAPI is where a running engine is asked.
type adminAPI struct {
	Admin string `default:"http://127.0.0.1:9180" help:"The engine's admin listener." placeholder:"URL"`
	Token string `env:"WEIR_ADMIN_TOKEN" help:"Token of the admin listener." placeholder:"TOKEN"`
}

type peersCmd struct {
	adminAPI
	JSON bool `name:"json" help:"Print JSON."`

	List    listCmd    `cmd:"" default:"1" help:"Show pools and peers (the default)."`
	Drain   drainCmd   `cmd:"" help:"Send a peer no new requests."`
	Undrain undrainCmd `cmd:"" help:"Send a drained peer requests again, few at first."`
	Weight  weightCmd  `cmd:"" help:"Change a peer's weight, until the engine ends or the file gives it another."`
}

// target is a peer on the command line.
type target struct {
	Pool string `arg:"" help:"Name of the pool."`
	Peer string `arg:"" help:"Address of the peer, as 10.0.0.1:8080."`
}

type (
	listCmd  struct{}
	drainCmd struct {
		target
		Force bool `help:"Drain even the last usable peer of the pool."`
	}
	undrainCmd struct{ target }
	weightCmd  struct {
		target
		Weight float64 `arg:"" help:"0.01 to 1000; a peer of weight 2 is meant to take twice as much as one of weight 1."`
	}
)

func (c *listCmd) Run(all *cli, to streams) error {
	var f serve.Figures
	raw, err := all.Peers.call("GET", "/api/metrics", nil, &f)
	if err != nil {
		return err
	}
	if all.Peers.JSON {
		_, err := to.out.Write(append(raw, '\n'))
		return err
	}
	return printPeers(to.out, &f)
}

func (c *drainCmd) Run(all *cli, to streams) error {
	return all.Peers.order(to, c.target, map[string]any{"drain": true, "force": c.Force})
}

func (c *undrainCmd) Run(all *cli, to streams) error {
	return all.Peers.order(to, c.target, map[string]any{"drain": false})
}

func (c *weightCmd) Run(all *cli, to streams) error {
	if !(c.Weight >= serve.MinWeight && c.Weight <= serve.MaxWeight) { // NaN, which JSON cannot say, is neither
		return &serve.RangeError{Weight: c.Weight}
	}
	return all.Peers.order(to, c.target, map[string]any{"weight": c.Weight})
}

func (c *peersCmd) order(to streams, at target, body any) error {
	var f serve.PeerFigures
	raw, err := c.call("PATCH", "/api/pools/"+url.PathEscape(at.Pool)+"/peers/"+url.PathEscape(at.Peer), body, &f)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err := to.out.Write(append(raw, '\n'))
		return err
	}
	_, err = fmt.Fprintf(to.out, "%s in pool %s: %s (%s), weight %g, %d in flight\n", f.Addr, f.Pool, f.State, f.Reason, f.Weight, f.Inflight)
	return err
}

// call asks the engine and decodes the answer; an error of the engine becomes one here, with what it knows.
func (c *adminAPI) call(method, path string, body, into any) ([]byte, error) {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(b)
	}
	if !strings.Contains(c.Admin, "://") {
		c.Admin = "http://" + c.Admin // as in weir.yaml's admin.listen
	}
	req, err := http.NewRequest(method, strings.TrimSuffix(c.Admin, "/")+path, sent)
	if err != nil {
		return nil, fmt.Errorf("--admin must be a URL as http://127.0.0.1:9180: %w", err)
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the engine at %s: %w", c.Admin, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 256<<20))
	if err != nil {
		return nil, fmt.Errorf("reading the engine's answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		var problem struct {
			Error string
			Known []string
		}
		if json.Unmarshal(raw, &problem) != nil || problem.Error == "" {
			return nil, fmt.Errorf("the engine at %s answered %s", c.Admin, res.Status)
		}
		if res.StatusCode == http.StatusUnauthorized {
			problem.Error += " (here: --token, or the environment variable WEIR_ADMIN_TOKEN)"
		}
		problem.Error = strings.Replace(problem.Error, `set "force": true`, "say --force", 1)
		if len(problem.Known) > 0 {
			problem.Error += "\n  " + strings.Join(problem.Known, "\n  ")
		}
		return nil, errors.New(problem.Error)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return nil, fmt.Errorf("understanding the engine's answer: %w", err)
	}
	return raw, nil
}

func printPeers(w io.Writer, f *serve.Figures) error {
	if len(f.Pools) == 0 {
		_, err := fmt.Fprintln(w, "The engine has no pools.")
		return err
	}
	// What is said of a whole pool goes between the lines of the finished table: in it, a line of fewer cells would end the columns.
	var table bytes.Buffer
	t := tabwriter.NewWriter(&table, 0, 8, 2, ' ', 0)
	lines := 1
	after := map[int][]string{}
	say := func(pool, what string) { after[lines] = append(after[lines], pool+"  "+what+"\n") }
	grouped := slices.ContainsFunc(f.Pools, func(p serve.PoolFigures) bool {
		return slices.ContainsFunc(p.Peers, func(peer serve.PeerFigures) bool { return peer.Group != nil })
	})
	column := func(text string) string { // GROUP, where a peer is in one
		if grouped {
			return text + "\t"
		}
		return ""
	}
	fmt.Fprintln(t, "POOL\tPEER\t"+column("GROUP")+"TIER\tSTATE\tADMIT\tWEIGHT\tIN FLIGHT\tSHARE 10s\tP50 ms\tP99 ms\tSPEED\tSLOTS\tREPORTS\tFAILED\tMETRICS\tFROM\tWHY")
	slices.SortFunc(f.Pools, func(a, b serve.PoolFigures) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range f.Pools {
		if len(p.Peers) == 0 {
			say(p.Name, "(no peers)")
		}
		needed := 0
		lines += len(p.Peers)
		for _, peer := range p.Peers {
			if peer.Needed {
				needed++
			}
			failed := uint64(0)
			for _, n := range peer.Failures {
				failed += n
			}
			admit := "-"
			if peer.Usable {
				admit = percent(&peer.Admit)
			}
			group := "-"
			if peer.Group != nil {
				group = *peer.Group
			}
			fmt.Fprintf(t, "%s\t%s\t%s%d\t%s\t%s\t%g\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", p.Name, peer.Addr, column(group), peer.Tier, peer.State, admit, peer.Weight,
				peer.Inflight, percent(peer.Share10s), number(peer.Latency.P50), number(peer.Latency.P99), number(peer.Speed),
				number(peer.Concurrency), reports(&peer), failed, metricsLine(peer.Metrics), strings.Join(peer.Sources, ", "), why(&peer))
		}
		if needed > 0 && len(p.Peers) > 1 {
			say(p.Name, fmt.Sprintf("(needed: %d of %d, without which the others would be too busy)", needed, len(p.Peers)))
		}
		if p.Panic {
			say(p.Name, "(no peer is healthy: all that are not draining are used)")
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	n := 0
	for line := range bytes.Lines(table.Bytes()) {
		n++
		if _, err := fmt.Fprintf(w, "%s%s", line, strings.Join(after[n], "")); err != nil {
			return err
		}
	}
	return printSources(w, f)
}

// why is the reason of a peer's state, and of what its last check says as long as that fails: that so many of them failed tells nobody what to mend.
func why(f *serve.PeerFigures) string {
	if f.Check == nil || f.Check.Pass {
		return f.Reason
	}
	return f.Reason + "; its last check: " + f.Check.Detail
}

// printSources lists where the peers come from, for pools that have more than the configuration's own.
func printSources(w io.Writer, f *serve.Figures) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	begun := false
	for _, p := range f.Pools {
		if len(p.Sources) == 1 && p.Sources[0].Kind == "static" {
			continue
		}
		if !begun {
			fmt.Fprintln(t, "\nPOOL\tSOURCE\tPEERS\tSTATE\tANSWERED")
			begun = true
		}
		for _, s := range p.Sources {
			peers, age, state := "-", "-", "ok"
			if s.Peers != nil {
				peers = fmt.Sprint(*s.Peers)
			}
			if s.Age != nil {
				age = ago(*s.Age)
			}
			switch {
			case s.Error != nil:
				state = "fails: " + strings.ReplaceAll(*s.Error, "\n", "; ")
			case !s.Up:
				state = "no answer yet"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", p.Name, s.Name, peers, state, age)
		}
	}
	return t.Flush()
}

// metricsLine is what a server says of itself in a word each: "memory 0.63/0.9 in 40 s", the limit and when it is reached at this climb.
func metricsLine(metrics []serve.MetricFigure) string {
	var words []string
	for _, m := range metrics {
		word := m.Name + " " + number(m.Value)
		if m.Value != nil && m.Limit != nil {
			word += "/" + number(m.Limit)
			if m.ToLimitMS != nil && *m.ToLimitMS > 0 && *m.ToLimitMS < 3.6e6 {
				word += fmt.Sprintf(" in %.0f s", *m.ToLimitMS/1000)
			}
		}
		words = append(words, word)
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, ", ")
}

func ago(ms float64) string {
	return (time.Duration(ms) * time.Millisecond).Round(time.Second).String() + " ago"
}

// reports is what a peer says of its load: "85 %, 12 held".
func reports(p *serve.PeerFigures) string {
	switch {
	case p.ReportState == "blackout":
		return "blackout"
	case p.ReportedLoad == nil && p.ReportedHeld == nil:
		return "-"
	case p.ReportedHeld == nil:
		return percent(p.ReportedLoad)
	}
	return percent(p.ReportedLoad) + ", " + number(p.ReportedHeld) + " held"
}

func number(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.3g", *x)
}

func percent(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100**x)
}
