package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/pool"
)

func expose(t *testing.T, m *Metrics) string {
	t.Helper()
	var b bytes.Buffer
	if err := m.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// full has every series there can be, with names that need escaping.
func full() *Metrics {
	m := New()
	m.Build("1.2.3", "abc", 1, "web1")
	p := m.Peer("api", "a\"b\\c\nd\xff")
	p.Checked()
	p.Attempts[pool.OK].Inc()
	p.Duration.Update(0.02)
	p.State(pool.SlowStart)
	p.Check(true)
	p.Reported(0, 0, 0)
	p.Reported(3, 0.5, math.NaN())
	m.Peer("api", "[::1]:9001")
	memory := m.ServerMetric("api", "memory")
	memory.Collected(true)
	memory.Set("a\"b\\c\nd\xff", 0.5)
	memory.Set("a:1", math.NaN())
	m.Source("api", "dns", "dns app.internal").Looked(true, 2, true)
	m.Groups("api", "canary")
	m.Shadow("next", "api")
	api := m.Pool("api")
	api.Refresh.Update(0.001)
	api.ReportsRefused("finite", 2)
	m.History().Gauges(func() HistoryGauges { return HistoryGauges{Queue: 1, Up: 1} })
	models := m.Models(func() float64 { return 1 })
	models.Serving("abc", "default", "built in")
	models.Serving("def", "default", "built in")
	models.Event("loaded")
	models.Inference.Update(0.001)
	m.Learning(func() LearningGauges { return LearningGauges{Phase: "idle"} })
	m.Route("socket", "/decide").Count(200)
	m.Route("admin", "/metrics").Count(99999)
	return m
}

func TestWhatIsWrongWithLoadReportsMakesNoSeriesWithoutBound(t *testing.T) {
	m := New()
	api := m.Pool("api")
	if text := expose(t, m); strings.Contains(text, "weir_load_reports_refused_total") {
		t.Error("there are series before the first report that was refused")
	}
	for i := range 1000 {
		api.ReportsRefused("what comes"+strconv.Itoa(i), 1)
	}
	api.ReportsRefused("finite", 2)
	text := expose(t, m)
	if n := strings.Count(text, "\nweir_load_reports_refused_total{"); n != len(refusalReasons()) {
		t.Errorf("%d series for %d reasons", n, len(refusalReasons()))
	}
	for _, want := range []string{`{pool="api",reason="other"} 1000`, `{pool="api",reason="finite"} 2`, `{pool="api",reason="json"} 0`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
	api.Remove()
	if text := expose(t, m); strings.Contains(text, "weir_load_reports_refused_total") {
		t.Error("the series outlive their pool")
	}
}

func TestPromtoolFindsNothingToSay(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(expose(t, full()))
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) != 0 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestEveryDeclaredMetricIsExposedOnceWithItsHelp(t *testing.T) {
	text := expose(t, full())
	for _, f := range families() {
		if n := strings.Count(text, "# HELP "+f.name+" "+f.help+"\n# TYPE "+f.name+" "+f.kind+"\n"); n != 1 {
			t.Errorf("%s is introduced %d times", f.name, n)
		}
		if !strings.Contains(text, "\n"+f.name) {
			t.Errorf("%s has no sample", f.name)
		}
	}
}

func TestLabelValuesAreEscaped(t *testing.T) {
	want := `weir_attempts_total{pool="api",peer="a\"b\\c\nd` + "\uFFFD" + `",kind="ok"} 1`
	if text := expose(t, full()); !strings.Contains(text, want+"\n") {
		t.Errorf("%s is missing in\n%s", want, text)
	}
}

func TestARemovedPeerLeavesNoSeriesAndItsNeighboursStay(t *testing.T) {
	m := New()
	a, b := m.Peer("api", "a:1"), m.Peer("other", "a:1")
	pl := m.Pool("api")
	a.Remove()
	pl.Remove()
	a.Attempts[0].Inc() // late counts must not crash or bring it back
	text := expose(t, m)
	if strings.Contains(text, `pool="api"`) {
		t.Errorf("series of the removed peer or pool are left in\n%s", text)
	}
	if n := strings.Count(text, `pool="other"`); n < 20 {
		t.Errorf("only %d series of the other pool's peer are left", n)
	}
	b.Remove()
}

func TestAPeerThatComesBackCountsFromZero(t *testing.T) {
	m := New()
	a := m.Peer("api", "a:1")
	a.Ejections.Inc()
	a.Remove()
	m.Peer("api", "a:1")
	if text := expose(t, m); !strings.Contains(text, `weir_peer_ejections_total{pool="api",peer="a:1"} 0`+"\n") {
		t.Error("the new peer has the old one's count")
	}
}

func TestAPeerIsInOneState(t *testing.T) {
	m := New()
	p := m.Peer("api", "a:1")
	p.State(pool.Up)
	p.State(pool.Ejected)
	text := expose(t, m)
	for s := range pool.State(states) {
		want := fmt.Sprintf(`weir_peer_state{pool="api",peer="a:1",state=%q} %d`, s, map[bool]int{true: 1}[s == pool.Ejected])
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	m := New()
	r, p := m.Route("socket", "/decide"), m.Peer("a", "b")
	r.Count(200)
	p.Checked()
	if n := testing.AllocsPerRun(100, func() { r.Count(200); p.Attempts[0].Inc(); p.Duration.Update(1); p.Check(true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTheLogIsOneJSONObjectALine(t *testing.T) {
	var out bytes.Buffer
	l := NewLog(&out, "info")
	l.Debug().Msg("not shown")
	l.Info().Str("peer", "a\"b\nc").Msg("joined")
	l.SetLevel("error")
	l.Warn().Msg("not shown")
	l.SetLevel("nonsense")
	l.Warn().Msg("shown")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	var e struct{ Level, Peer, Message, Time string }
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil || e.Level != "info" || e.Peer != "a\"b\nc" || e.Message != "joined" {
		t.Errorf("%v: %s", err, lines[0])
	}
	if _, err := time.Parse(time.RFC3339Nano, e.Time); err != nil {
		t.Error(err)
	}
}

func TestARepeatedCauseIsWrittenOnceAMinuteWithTheNumberLeftOut(t *testing.T) {
	var out bytes.Buffer
	l := NewLog(&out, "info")
	for range 5 {
		l.Repeated("a").Msg("x")
	}
	l.Repeated("b").Msg("y")
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	if n, ok := l.due("a", time.Now().Add(59*time.Second)); ok {
		t.Errorf("written again within the minute (%d)", n)
	}
	if n, ok := l.due("a", time.Now().Add(61*time.Second)); !ok || n != 5 {
		t.Errorf("after the minute: %v with %d left out, want 5", ok, n)
	}
	for i := range 3 * maxCauses {
		l.due(fmt.Sprint(i), time.Now())
	}
	if len(l.said) > maxCauses {
		t.Errorf("%d causes are kept", len(l.said))
	}
}

// With one set for all, which the library searches for each series that goes, this took most of a minute, with the pool's lock held.
func TestThousandsOfPeersLeaveInNoTime(t *testing.T) {
	t.Parallel()
	m := New()
	peers := make([]*Peer, 4000)
	for i := range peers {
		peers[i] = m.Peer("api", fmt.Sprintf("10.0.%d.%d:80", i/250, i%250))
	}
	start := time.Now()
	for _, p := range slices.Backward(peers[1:]) { // the order in which the search is the longest
		p.Remove()
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	var page strings.Builder
	if err := m.Write(&page); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(page.String(), "\nweir_peer_inflight{"); n != 1 {
		t.Errorf("%d peers are left", n)
	}
}
