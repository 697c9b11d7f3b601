package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// What peers say of their own load (ORCA response headers).

// atOnce has reports count from the first one on.
const atOnce = "slow_start_ms: 0\nload_report: {blackout_ms: 0}"

func TestALoadReportReachesTheEngineInEachFormat(t *testing.T) {
	t.Parallel()
	formats := []string{"orca", "orca-json", "orca-bin", "orca-header"}
	opt := rig.Options{Tap: true, Workers: 1} // what two tell may come in another order
	for _, f := range formats {
		opt.Pools = append(opt.Pools, rig.Pool{Name: f, Peers: []string{"p-" + f}, Settings: atOnce})
	}
	r := start(t, opt)
	var all []*rig.Pending
	for _, f := range formats {
		b := r.Backend("p-" + f)
		b.Set(`{"reports":"` + f + `","slots":1,"speed":0,"default":{"mean_ms":200}}`) // longer than a busy machine keeps one report back and not the next
		all = append(all, r.Begin(4, rig.Request{Path: "/" + f + "/x"}))
		r.Eventually("the peer has all four", func() error {
			if n := b.Stats().InFlight; n != 4 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
	}
	for _, f := range formats {
		r.Backend("p-" + f).Set(goOn)
	}
	for _, p := range all {
		r.WantAll(p.Wait(), 200) // the answers leave 3, 2, 1 and 0 behind
	}
	for _, f := range formats {
		of := func(rec rig.Record) bool { return rec.Pool == f }
		left := map[int]int{}
		for _, rec := range r.WaitRecords(4, of) {
			left[rec.Reported]++
			// In a protobuf a utilisation of 0 is none at all.
			if idle := rec.Reported == 1 && (rec.Load == 0 || rec.Load == -1); !idle && rec.Load != 1 {
				t.Errorf("%s: a peer with one worker that is busy reports %+v", f, rec)
			}
		}
		if len(left) != 4 || left[1]*left[2]*left[3]*left[4] != 1 {
			t.Errorf("%s: the answers left 0 to 3 requests behind, reported + 1: %v", f, left)
		}
		r.Eventually("the engine shows the report", func() error {
			p := r.Engine.Figures(f, "p-"+f)
			if p.ReportState != "used" || p.ReportedInflight == nil || *p.ReportedInflight != 0 || p.ReportedLoad == nil || !(*p.ReportedLoad > 0) {
				return fmt.Errorf("%+v", p)
			}
			return nil
		})
	}
	r.Eventually("/metrics has them", func() error { // they are shown with the next table
		if got := strings.Join(r.Engine.Samples("weir_peer_reports_total"), "\n"); strings.Count(got, "} 4") != len(formats) {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}

func TestReportsAreKeptFromClientsUnlessTheOperatorPassesThem(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{
		{Name: "hidden", Peers: []string{"a"}, Settings: atOnce},
		{Name: "shown", Peers: []string{"a"}, Settings: atOnce, Location: "proxy_pass_header Endpoint-Load-Metrics; proxy_pass_header Endpoint-Load-Metrics-Bin;"},
	}})
	for _, format := range []string{"orca", "orca-header"} {
		name := http.CanonicalHeaderKey(map[string]string{"orca": "endpoint-load-metrics", "orca-header": "endpoint-load-metrics-bin"}[format])
		r.Backend("a").Set(`{"reports":"` + format + `","headers":{"X-Other":"1"}}`)
		hidden, shown := r.Do(rig.Request{Path: "/hidden/x"}), r.Do(rig.Request{Path: "/shown/x"})
		if hidden.Header.Get(name) != "" || hidden.Header.Get("X-Other") != "1" {
			t.Errorf("%s: the client sees %v", format, hidden.Header)
		}
		if shown.Header.Get(name) == "" {
			t.Errorf("%s: the operator wants the client to see it, and the client sees %v", format, shown.Header)
		}
	}
	for _, pool := range []string{"hidden", "shown"} {
		r.Eventually("reports are used in pool "+pool, func() error {
			if p := r.Engine.Figures(pool, "a"); p.ReportState != "used" {
				return fmt.Errorf("%+v", p)
			}
			return nil
		})
	}
}

func TestAMalformedReportChangesNothingButACountAndOneLineInTheLog(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}, Settings: atOnce}}})
	malformed := map[string]string{ // by the cause that NGINX counts
		"duplicate": "TEXT cpu_utilization=0.3,cpu_utilization=0.3", "finite": "TEXT cpu_utilization=NaN", "negative": "TEXT cpu_utilization=-1",
		"unknown": "TEXT cpu=0.3", "number": "TEXT cpu_utilization=much", "range": "TEXT cpu_utilization=1e30", "format": "cpu_utilization=0.3",
		"json": "JSON {", "base64": "BIN ???", "protobuf": "BIN CQ==", "too_long": "TEXT named_metrics." + strings.Repeat("a", 2100) + "=1",
	}
	const each = 3
	for _, value := range malformed {
		r.Backend("a").Set(fmt.Sprintf(`{"headers":{"endpoint-load-metrics":%q}}`, value))
		r.WantAll(r.Send(each, 1, rig.Request{Path: "/api/x"}), 200)
	}
	for _, rec := range r.WaitRecords(each*len(malformed), func(rig.Record) bool { return true }) {
		if rec.Load != -1 || rec.Reported != 0 || rec.Kind != rig.KindOK {
			t.Errorf("a malformed report became %+v", rec)
		}
	}
	if p := r.Engine.WaitAttempts("api", "a", each*len(malformed)); p.ReportState != "none" || p.Failed() != 0 || p.ReportedLoad != nil {
		t.Errorf("the engine took something of it: %+v", p)
	}
	log, counts := r.NGINX.ErrorLog(), r.NGINX.Status().Errors
	if n := strings.Count(log, "weir: load report of peer"); n != len(malformed) {
		t.Errorf("%d lines in the log for %d causes", n, len(malformed))
	}
	for cause := range malformed {
		if n := counts["load report "+cause]; n != each {
			t.Errorf("%s was counted %d times, not %d: %v", cause, n, each, counts)
		}
	}
	r.Eventually("Prometheus shows the causes", func() error {
		got := strings.Join(r.Engine.Samples("weir_load_reports_refused_total"), "\n")
		for cause := range malformed {
			if !strings.Contains(got, fmt.Sprintf(`{pool="api",reason=%q} %d`, cause, each)) {
				return fmt.Errorf("%s is not there %d times:\n%s", cause, each, got)
			}
		}
		return nil
	})
	// A good one in the other header wins, whatever is in this one.
	r.Backend("a").Set(`{"reports":"orca-header"}`)
	r.WantAll(r.Send(2, 1, rig.Request{Path: "/api/x"}), 200)
	r.WaitRecords(2, func(rec rig.Record) bool { return rec.Reported == 1 })
}

// An engine refuses a batch whose header has a key that it does not know: the counts are not worth the records.
func TestAnEngineThatDoesNotAskForBadReportsIsNotToldOfThem(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Older: true, Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}, Settings: atOnce}}})
	r.Backend("a").Set(`{"headers":{"endpoint-load-metrics":"TEXT cpu=1"}}`)
	r.WantAll(r.Send(5, 1, rig.Request{Path: "/api/x"}), 200)
	r.Engine.WaitAttempts("api", "a", 5)
	r.WantAll(r.Send(5, 1, rig.Request{Path: "/api/x"}), 200)
	r.Engine.WaitAttempts("api", "a", 10) // a batch of its own, after the one in which the first would have come
	if got := r.Engine.Samples("weir_load_reports_refused_total"); len(got) > 0 || r.NGINX.Status().Errors["load report unknown"] != 10 {
		t.Errorf("the engine was told %q; NGINX has %v", got, r.NGINX.Status().Errors)
	}
}

func TestAPoolThatTurnsReportsOffReadsNone(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}, Settings: "load_report: {enabled: false}"}}})
	r.Backend("a").Set(`{"reports":"orca"}`)
	r.WantAll(r.Send(5, 1, rig.Request{Path: "/api/x"}), 200)
	for _, rec := range r.WaitRecords(5, func(rig.Record) bool { return true }) {
		if rec.Load != -1 || rec.Reported != 0 {
			t.Errorf("%+v", rec)
		}
	}
}

// A peer that never reports is looked at in one answer of 16; once it does, in each.
func TestAPeerThatBeginsToReportIsNoticedAndThenHeardEachTime(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}, Settings: atOnce}}})
	r.WantAll(r.Send(50, 1, rig.Request{Path: "/api/x"}), 200)
	r.WaitRecords(50, func(rec rig.Record) bool { return rec.Reported == 0 })
	r.Backend("a").Set(`{"reports":"orca"}`)
	r.WantAll(r.Send(50, 1, rig.Request{Path: "/api/x"}), 200)
	r.WaitRecords(100, func(rig.Record) bool { return true })
	if n := rig.Count(r.Tap.Records(t), func(rec rig.Record) bool { return rec.Reported == 1 }); n < 34 || n > 50 {
		t.Errorf("%d of 50 reports were heard, want all but the first 15 at most", n)
	}
	// One answer without a report, and it is still a peer that reports.
	before := rig.Count(r.Tap.Records(t), func(rec rig.Record) bool { return rec.Reported == 1 })
	r.Backend("a").Set(`{"reports":""}`)
	r.WantAll(r.Send(1, 1, rig.Request{Path: "/api/x"}), 200)
	r.Backend("a").Set(`{"reports":"orca"}`)
	r.WantAll(r.Send(10, 1, rig.Request{Path: "/api/x"}), 200)
	r.WaitRecords(111, func(rig.Record) bool { return true })
	if n := rig.Count(r.Tap.Records(t), func(rec rig.Record) bool { return rec.Reported == 1 }) - before; n < 9 {
		t.Errorf("after one answer without a report %d of 10 were heard, want all but the first", n)
	}
}

// Of a stream that lasts, the report is as old as the stream.
func TestTheReportOfALongStreamIsNotTakenForNews(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}, Settings: atOnce}}})
	r.Backend("a").Set(`{"headers":{"endpoint-load-metrics":"TEXT named_metrics.in_flight=5"}}`)
	r.WantAll(r.Send(1, 1, rig.Request{Path: "/api/sse?n=14&every=100ms"}), 200)
	r.WantAll(r.Send(1, 1, rig.Request{Path: "/api/sse?n=1&every=100ms"}), 200)
	r.WaitRecords(1, func(rec rig.Record) bool { return rec.TotalMS > 1000 && rec.Reported == 0 })
	r.WaitRecords(1, func(rec rig.Record) bool { return rec.TotalMS < 1000 && rec.Reported == 6 })
}

func TestTheReportOfAStaleCopyIsNotTakenForThePeers(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Tap: true, HTTP: "proxy_cache_path cache keys_zone=cache:1m;",
		Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}, Settings: atOnce, Location: "proxy_cache cache; proxy_cache_valid 200 1s; proxy_cache_use_stale http_404 http_500;"}},
	})
	r.Backend("a").Set(`{"headers":{"endpoint-load-metrics":"TEXT named_metrics.in_flight=5"}}`)
	r.WantAll([]rig.Answer{r.Do(rig.Request{Path: "/api/x"})}, 200)
	r.WaitRecords(1, func(rec rig.Record) bool { return rec.Status == 200 && rec.Reported == 6 })
	time.Sleep(2100 * time.Millisecond) // the copy is stale
	for _, status := range []int{404, 500} {
		r.Backend("a").Set(fmt.Sprintf(`{"headers":null,"fail":{"status":%d,"share":1}}`, status))
		r.WantAll(r.Send(20, 1, rig.Request{Path: "/api/x"}), 200)
		r.WaitRecords(20, func(rec rig.Record) bool { return rec.Status == status })
	}
	for _, rec := range r.Tap.Records(t) {
		if rec.Status != 200 && rec.Reported != 0 {
			t.Fatalf("the report of the copy is the peer's: %+v", rec)
		}
	}
}

// loadedShare is the part of a second balancer's first requests that go to the half of the peers which another balancer keeps busy, and the
// requests of others that its engine believes at a busy and at a free peer. Neither balancer knows of the other.
func loadedShare(t *testing.T, reports string) (share float64, atBusy, atFree *float64) {
	busy, free := []string{"a", "b", "c", "d"}, []string{"e", "f", "g", "h"}
	all := append(append([]string{}, busy...), free...)
	other := start(t, rig.Options{Pools: []rig.Pool{{Name: "busy", Peers: busy, Settings: atOnce}, {Name: "free", Peers: free, Settings: atOnce}}})
	for _, p := range all {
		other.Backend(p).Set(`{"slots":4,"default":{"mean_ms":50,"dist":"exp"},"reports":"` + reports + `"}`)
	}
	r := start(t, rig.Options{Beside: other, Pools: []rig.Pool{{Name: "api", Peers: all, Settings: atOnce + "\nexplore: 0.02\ncontrol: 0"}}})
	load := other.StartLoad(24, 0, rig.Request{Path: "/busy/x"}) // six at each peer that works on four at a time
	r.Eventually("the other balancer's peers are busy", func() error {
		for _, p := range busy {
			if n := other.Backend(p).Stats().InFlight; n < 4 {
				return fmt.Errorf("%s holds %d", p, n)
			}
		}
		return nil
	})
	answers := r.Send(160, 6, rig.Request{Path: "/api/x"})
	load.Stop()
	r.WantAll(answers, 200)
	most := func(peers []string) (most *float64) {
		for _, p := range peers {
			if x := r.Engine.Figures("api", p).Elsewhere; x != nil && (most == nil || *x > *most) {
				most = x
			}
		}
		return most
	}
	for _, p := range busy {
		share += rig.Share(answers, p)
	}
	return share, most(busy), most(free)
}

// Without reports the second balancer has only the times of its own answers to go by: mostly it sends 20 to 50 % to the busy half, now and
// then it is lucky and sends 6 %. So it is not the ratio that is held to a bound, but what reports make of it.
func TestABalancerKeepsAwayFromPeersThatReportTheLoadOfAnother(t *testing.T) {
	without, busy, free := loadedShare(t, "")
	if busy != nil || free != nil {
		t.Error("the engine believes in requests of others without a report")
	}
	with, busy, free := loadedShare(t, "orca")
	t.Logf("to the busy half of the peers: %.3f of the requests without reports, %.3f with", without, with)
	if with > 0.2 || with > without+0.1 {
		t.Errorf("with reports %.3f of the requests go to the busy half of the peers, without %.3f", with, without)
	}
	if busy == nil || free == nil {
		t.Fatal("the engine made nothing of the reports")
	}
	if *busy < 2 || *busy < 2**free {
		t.Errorf("the engine believes in %v requests of others at a busy peer, %v at a free one", *busy, *free)
	}
}
