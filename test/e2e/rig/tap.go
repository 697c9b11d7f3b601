package rig

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Tap relays between NGINX and the engine and keeps the records of every batch NGINX sends. It decodes them by docs/protocol.md, with code
// of its own: a mistake that both sides of the product share would show here.
type Tap struct {
	server *http.Server
	done   chan struct{}

	version atomic.Pointer[string] // what the engine's answers are made to say; nil = as they are

	mu      sync.Mutex // guards all below
	records []Record
	dropped int
	errs    []error
}

// Record is one attempt as NGINX reported it.
type Record struct {
	Pool, Class, Peer   string
	Attempt, Kind       int
	Status, Flags       int
	InFlight            int
	Propensity          float64
	HeaderMS, TotalMS   float64
	Weight, PredictedMS float64
	AgeMS               float64
	Bytes               int
	Load                float64
	Reported            int // in-flight + 1, 0 = none
}

// The kinds of docs/protocol.md.
const (
	KindOK = iota
	KindRefused
	KindConnectTimeout
	KindTimeout
	KindReset
	KindStatus
	KindAbort
	KindIdleRace
)

// The flags of docs/protocol.md.
const (
	FlagExplored = 1 << iota
	FlagControl
	FlagStream
	FlagLocal
	FlagPanic
)

func startTap(t testing.TB, socket, engine string, older bool) *Tap {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	tap := &Tap{done: make(chan struct{})}
	relay := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
	relay.Transport = unixTransport(engine)
	relay.ModifyResponse = func(resp *http.Response) error {
		if v := tap.version.Load(); v != nil {
			resp.Header.Set("Weir-Protocol", *v)
		}
		if older && resp.Request.URL.Path == "/watch" && resp.StatusCode == http.StatusOK {
			return forgetAccepts(resp)
		}
		return nil
	}
	relay.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	tap.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/observe" {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			tap.keep(r.Header, body)
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		relay.ServeHTTP(w, r)
	})}
	go func() {
		defer close(tap.done)
		_ = tap.server.Serve(l)
	}()
	return tap
}

// forgetAccepts makes of an answer of /watch that of an engine which takes nothing in a batch's header but what the first ones did.
func forgetAccepts(resp *http.Response) error {
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	body = regexp.MustCompile(`"accepts":\[[^\]]*\],`).ReplaceAll(body, nil)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

func (t *Tap) close() {
	_ = t.server.Close()
	<-t.done
}

func (t *Tap) keep(h http.Header, body []byte) {
	records, dropped, err := decode(h, body)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records = append(t.records, records...)
	t.dropped += dropped
	if err != nil {
		t.errs = append(t.errs, err)
	}
}

// SpeakVersion has the engine's answers tell another protocol version from now on.
func (t *Tap) SpeakVersion(version string) { t.version.Store(&version) }

// Records are all records so far. A batch that cannot be read fails the test.
func (t *Tap) Records(tb testing.TB) []Record {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, err := range t.errs {
		tb.Errorf("NGINX sent a bad batch: %v", err)
	}
	return append([]Record(nil), t.records...)
}

// WaitRecords waits until NGINX has sent n records that fit and returns them.
func (r *Rig) WaitRecords(n int, fits func(Record) bool) (found []Record) {
	r.T.Helper()
	r.Eventually(fmt.Sprintf("%d records reach the engine", n), func() error {
		found = nil
		all := r.Tap.Records(r.T)
		for _, rec := range all {
			if fits(rec) {
				found = append(found, rec)
			}
		}
		if len(found) < n {
			return fmt.Errorf("%d of %d records fit", len(found), len(all))
		}
		return nil
	})
	return found
}

// Count says how many records fit.
func Count(records []Record, fits func(Record) bool) (n int) {
	for _, r := range records {
		if fits(r) {
			n++
		}
	}
	return n
}

const recordSize = 48

func decode(h http.Header, body []byte) (records []Record, dropped int, err error) {
	if v := h.Get("Weir-Protocol"); v != "1" {
		return nil, 0, fmt.Errorf("header Weir-Protocol is %q", v)
	}
	if ct := h.Get("Content-Type"); !strings.HasPrefix(ct, "application/x-weir-observe") {
		return nil, 0, fmt.Errorf("content type %q", ct)
	}
	line, rest, _ := bytes.Cut(body, []byte("\n"))
	var head struct {
		V                     int
		Records, Dropped      int
		Pools, Classes, Peers []string
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, 0, fmt.Errorf("first line %q: %w", line, err)
	}
	if head.V != 1 || len(rest) != head.Records*recordSize {
		return nil, head.Dropped, fmt.Errorf("version %d, %d records announced, %d bytes of them", head.V, head.Records, len(rest))
	}
	for i := 0; i < len(rest); i += recordSize {
		rec, err := decodeRecord(rest[i:i+recordSize], head.Pools, head.Classes, head.Peers)
		if err != nil {
			return records, head.Dropped, fmt.Errorf("record %d: %w", i/recordSize, err)
		}
		records = append(records, rec)
	}
	return records, head.Dropped, nil
}

func decodeRecord(b []byte, pools, classes, peers []string) (r Record, err error) {
	u16 := func(at int) int { return int(binary.LittleEndian.Uint16(b[at:])) }
	f32 := func(at int) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b[at:]))) }
	name := func(list []string, at int, what string) string {
		if i := u16(at); i < len(list) {
			return list[i]
		}
		err = fmt.Errorf("%s number %d of %d", what, u16(at), len(list))
		return ""
	}
	r = Record{
		Pool: name(pools, 0, "pool"), Class: name(classes, 2, "class"), Peer: name(peers, 4, "peer"),
		Attempt: int(b[6]), Kind: int(b[7]), Status: u16(8), Flags: u16(10), InFlight: u16(12), Propensity: f32(16),
		HeaderMS: f32(20), TotalMS: f32(24), Weight: f32(28), PredictedMS: f32(32), AgeMS: f32(36), Bytes: int(binary.LittleEndian.Uint32(b[40:])), Load: f32(44), Reported: u16(14),
	}
	switch {
	case err != nil:
	case r.Kind > KindIdleRace || r.Attempt < 1:
		err = fmt.Errorf("kind %d, attempt %d", r.Kind, r.Attempt)
	case !(r.Propensity > 0 && r.Propensity <= 1):
		err = fmt.Errorf("propensity %v", r.Propensity)
	case !(r.TotalMS >= 0) || math.IsInf(r.TotalMS, 0) || !(r.HeaderMS >= 0 || r.HeaderMS == -1):
		err = fmt.Errorf("header_ms %v, total_ms %v", r.HeaderMS, r.TotalMS)
	case strings.ContainsAny(r.Peer, ", "):
		err = fmt.Errorf("peer %q", r.Peer)
	}
	return r, err
}
