package serve

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/observe"
)

func TestAReloadKeepsWhatIsKnownByAddressAndTellsWhatIsGone(t *testing.T) {
	e := still(t, threePeers)
	e.Observe(outcomes(t, "api", "*", "10.0.0.2:80", observe.Refused, 10, 1))
	e.Observe(outcomes(t, "api", "*", "10.0.0.3:80", observe.OK, 10, 7))
	if _, err := e.Order("api", "10.0.0.1:80", Order{Drain: ptr(true), Weight: ptr(3.0)}); err != nil {
		t.Fatal(err)
	}
	before := e.State()
	changes := e.Apply(parse(t, `
pools:
  - name: api
    peers: ["10.0.0.4:80", "10.0.0.3:80", "10.0.0.2:80", "10.0.0.1:80"]
  - name: fresh
    peers: ["10.9.0.1:80"]
`))
	if !slices.Equal(changes.Added, []string{"fresh"}) || !slices.Equal(changes.Removed, []string{"other"}) || !slices.Equal(changes.Changed, []string{"api"}) {
		t.Errorf("changes %+v", changes)
	}
	a := watched(t, e.State(), before.Epoch, before.Version, false)
	if len(a.Pools) != 2 || !slices.Equal(a.Removed, []string{"other"}) {
		t.Errorf("watchers hear %+v", a)
	}
	for addr, state := range map[string]string{"10.0.0.2:80": "ejected", "10.0.0.1:80": "draining", "10.0.0.3:80": "up", "10.0.0.4:80": "slow_start"} {
		if p := peerOf(t, e, "api", addr); p.State != state {
			t.Errorf("%s is %s, want %s", addr, p.State, state)
		}
	}
	if p := peerOf(t, e, "api", "10.0.0.1:80"); p.Weight != 3 {
		t.Errorf("the operator's weight became %v", p.Weight)
	}
	if f, _ := e.Peer("api", "10.0.0.3:80"); f.Attempts != 10 {
		t.Errorf("the peer's %d attempts are left of 10", f.Attempts)
	}
	text := scrape(t, e)
	if strings.Contains(text, `pool="other"`) || !strings.Contains(text, `pool="fresh",peer="10.9.0.1:80"`) {
		t.Error("series of the removed pool are left, or those of the new one are not there")
	}
	if _, unknown := e.Observe(outcomes(t, "other", "*", "10.0.0.1:80", observe.OK, 1, 1)); len(unknown) != 1 {
		t.Error("the removed pool still takes outcomes")
	}
	// Back again it is a new pool, and no watcher is told any more that it is gone.
	e.Apply(parse(t, threePeers))
	if a := watched(t, e.State(), before.Epoch, before.Version, false); slices.Contains(a.Removed, "other") || !slices.Contains(a.Removed, "fresh") {
		t.Errorf("after it came back: removed %q", a.Removed)
	}
}

func TestAWeightInAChangedFileTakesTheOperatorsPlace(t *testing.T) {
	e := still(t, `pools: [{name: api, peers: ["10.0.0.1:80", {address: "10.0.0.2:80", weight: 5}]}]`)
	for _, addr := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
		if _, err := e.Order("api", addr, Order{Weight: ptr(3.0)}); err != nil {
			t.Fatal(err)
		}
	}
	e.Apply(parse(t, `pools: [{name: api, peers: ["10.0.0.1:80", {address: "10.0.0.2:80", weight: 7}]}]`))
	if a, b := peerOf(t, e, "api", "10.0.0.1:80").Weight, peerOf(t, e, "api", "10.0.0.2:80").Weight; a != 3 || b != 7 {
		t.Errorf("weights %v and %v, want 3 (the operator's) and 7 (the file's)", a, b)
	}
}

// Figures are encoded when the pool's mutex is free again, while the next reload may be on its way.
func TestFiguresStayAsTheyWereTaken(t *testing.T) {
	e := still(t, `pools: [{name: api, peers: [{address: "10.0.0.1:80", zone: eu-1, group: canary}]}]`)
	f, err := e.Peer("api", "10.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	e.Apply(parse(t, `pools: [{name: api, peers: [{address: "10.0.0.1:80", zone: us, group: a}]}]`))
	if *f.Zone != "eu-1" || *f.Group != "canary" {
		t.Errorf("a reload made zone %q and group %q of them", *f.Zone, *f.Group)
	}

	file := filepath.Join(t.TempDir(), "peers")
	write(t, file, "no address\n")
	e = live(t, fmt.Sprintf(`pools: [{name: api, peers: ["10.0.0.1:80"], peers_file: %s}]`, file))
	fault := func() *string {
		all, err := e.Pool("api")
		if err != nil {
			t.Fatal(err)
		}
		return all.Sources[1].Error
	}
	within(t, 5*time.Second, "the file is refused", func() bool { return fault() != nil })
	before := fault()
	write(t, file, "10.0.0.2:80\n")
	within(t, 5*time.Second, "the file is taken", func() bool { return fault() == nil })
	if *before == "" {
		t.Error("the reason why a source failed is gone from figures of before, since it works now")
	}
}

func TestTheLastUsablePeerIsDrainedOnlyByForce(t *testing.T) {
	e := still(t, `pools: [{name: api, peers: ["10.0.0.1:80", "10.0.0.2:80"]}]`)
	if _, err := e.Order("api", "10.0.0.1:80", Order{Drain: ptr(true)}); err != nil {
		t.Fatal(err)
	}
	_, err := e.Order("api", "10.0.0.2:80", Order{Drain: ptr(true)})
	if _, conflict := err.(*ConflictError); !conflict {
		t.Fatalf("draining the last one: %v", err)
	}
	if p := peerOf(t, e, "api", "10.0.0.2:80"); p.State != "up" {
		t.Errorf("it is %s after the refusal", p.State)
	}
	f, err := e.Order("api", "10.0.0.2:80", Order{Drain: ptr(true), Force: true})
	if err != nil || f.State != "draining" {
		t.Errorf("forced: %v, %s", err, f.State)
	}
	if f, err = e.Order("api", "10.0.0.1:80", Order{Drain: ptr(false)}); err != nil || f.State == "draining" {
		t.Errorf("undrained: %v, %s", err, f.State)
	}
	for _, w := range []float64{0, -1, 1001, math.NaN(), math.Inf(1)} {
		if _, err := e.Order("api", "10.0.0.1:80", Order{Weight: &w}); err == nil {
			t.Errorf("weight %v was taken", w)
		}
	}
	if _, err := e.Order("api", "1.1.1.1:1", Order{Drain: ptr(true)}); err == nil || !strings.Contains(err.Error(), `no peer "1.1.1.1:1" in pool "api"`) {
		t.Errorf("unknown peer: %v", err)
	}
}

func TestMoreRemovedPoolsThanAreRememberedBeginANewEpoch(t *testing.T) {
	e := still(t, threePeers)
	epoch := e.State().Epoch
	for round := range 3 {
		var text strings.Builder
		text.WriteString("pools:\n")
		for i := range 600 {
			fmt.Fprintf(&text, "  - {name: p%d-%d, peers: []}\n", round, i)
		}
		e.Apply(parse(t, text.String()))
	}
	s := e.State()
	if len(s.Removed) > maxRemoved {
		t.Errorf("%d removed pools are kept", len(s.Removed))
	}
	if s.Epoch == epoch {
		t.Error("some removals were forgotten and the epoch is the same")
	}
}
