package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Stats is the answer of GET /stats on the control port.
type Stats struct {
	Name        string `json:"name"`
	Addr        string `json:"addr"`
	Open        bool   `json:"open"`         // the port accepts connections
	Requests    int64  `json:"requests"`     // all but probes
	Probes      int64  `json:"probes"`       // requests for /healthz
	Connections int64  `json:"connections"`  // accepted since the start
	Aborted     int64  `json:"aborted"`      // requests whose client had left before the answer
	InFlight    int64  `json:"inflight"`     // requests held now, streams included
	MaxInFlight int64  `json:"max_inflight"` // highest since the start
	Streams     int64  `json:"streams"`      // WebSockets, events and big bodies being sent now
}

// Stats returns the counters.
func (b *Backend) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.counts
	return Stats{
		Name: b.opt.Name, Addr: b.addr, Open: b.door.server != nil, Requests: c.requests.Load(), Probes: c.probes.Load(),
		Connections: c.connections.Load(), Aborted: c.aborted.Load(), InFlight: c.inflight.Load(), MaxInFlight: c.maxInflight.Load(), Streams: c.streams.Load(),
	}
}

// ControlHandler serves the control port:
//
//	GET   /stats       the counters
//	GET   /settings    the behaviour
//	PATCH /settings    a JSON object laid over it; the answer is the whole, in effect
//	GET   /seen?id=X   how often a request with X-Request-Id: X arrived
func (b *Backend) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { reply(w, b.Stats()) })
	mux.HandleFunc("GET /settings", func(w http.ResponseWriter, _ *http.Request) {
		b.mu.Lock()
		s := b.settings
		b.mu.Unlock()
		reply(w, s)
	})
	mux.HandleFunc("PATCH /settings", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err == nil {
			var s Settings
			if s, err = b.Patch(text); err == nil {
				reply(w, s)
				return
			}
		}
		http.Error(w, err.Error(), http.StatusBadRequest)
	})
	mux.HandleFunc("GET /seen", func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]int{"seen": b.ledger.seen(r.URL.Query().Get("id"))})
	})
	return mux
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// Control talks to the control port of a backend process.
type Control struct {
	// URL is the root, such as http://127.0.0.1:9101.
	URL string
	// Client is used for the calls; nil means http.DefaultClient.
	Client *http.Client
}

// Patch lays a JSON object over the backend's settings. What it returns without error is in effect.
func (c Control) Patch(ctx context.Context, patch string) error {
	return c.call(ctx, http.MethodPatch, "/settings", strings.NewReader(patch), nil)
}

// Stats reads the counters.
func (c Control) Stats(ctx context.Context) (s Stats, err error) {
	return s, c.call(ctx, http.MethodGet, "/stats", nil, &s)
}

// Seen says how often a request id arrived.
func (c Control) Seen(ctx context.Context, id string) (int, error) {
	var answer struct{ Seen int }
	err := c.call(ctx, http.MethodGet, "/seen?id="+url.QueryEscape(id), nil, &answer)
	return answer.Seen, err
}

func (c Control) call(ctx context.Context, method, path string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, body)
	if err != nil {
		return fmt.Errorf("backend control: %w", err)
	}
	client := c.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("backend control: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("backend control: reading %s %s: %w", method, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("backend control: %s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("backend control: %s %s: %w", method, path, err)
	}
	return nil
}
