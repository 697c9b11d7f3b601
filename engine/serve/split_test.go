package serve

import (
	"math"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/control"
	"github.com/weirlb/weir/engine/observe"
)

const parts = `
pools: [{name: api, peers: ["10.0.0.1:80", {address: "10.0.0.2:80", group: canary}], split: {group: canary, share: 0.1}}]`

func TestOnlyRequestsThatWereDrawnToASideAreCompared(t *testing.T) {
	e := still(t, parts)
	const drawn = observe.Confined
	for _, r := range []observe.Record{
		{Peer: 0, Flags: drawn},
		{Peer: 0, Flags: drawn | observe.Control},
		{Peer: 0, Flags: drawn | observe.Local},
		{Peer: 1, Flags: drawn},
		{Peer: 1, Flags: drawn | observe.ByHeader}, // apart
		{Peer: 1, Flags: drawn | observe.ByHeader, Kind: observe.Status},
		{Peer: 1, Flags: drawn, Kind: observe.Abort},
		{Peer: 0},
		{Peer: 0, Flags: observe.Bound},
		{Peer: 0, Flags: drawn | observe.Panic},
		{Peer: 0, Flags: drawn, Attempt: 2}, // not at all
	} {
		r.Attempt = max(r.Attempt, 1)
		r.Propensity, r.HeaderMS, r.Load, r.PredictedMS = 1, -1, -1, -1
		e.Observe(&observe.Batch{Pools: []string{"api"}, Classes: []string{"*"}, Peers: []string{"10.0.0.1:80", "10.0.0.2:80"}, Records: []observe.Record{r}})
	}
	f, err := e.Split("api")
	if err != nil {
		t.Fatal(err)
	}
	if f.OfRest.Requests != 3 || f.OfGroup.Requests != 1 || f.OfGroup.Aborted != 1 || f.OfHeader.Requests != 2 || f.OfHeader.Failures != 1 || f.OfGroup.Failures != 0 {
		t.Errorf("%+v", f)
	}
}

func TestTheShareOfTheOperatorHoldsUntilTheFileChangesTheSplit(t *testing.T) {
	e := still(t, parts)
	told := func() float64 {
		f, err := e.Split("api")
		if err != nil {
			t.Fatal(err)
		}
		return f.Share
	}
	if _, err := e.SetShare("api", 0.25); err != nil || told() != 0.25 {
		t.Fatalf("%v, %v", told(), err)
	}
	if s := string(e.State().Pool("api").settings); !strings.Contains(s, `"share":0.25`) {
		t.Errorf("NGINX is told %s", s)
	}
	for _, bad := range []float64{-0.1, 1.1, math.NaN()} {
		if _, err := e.SetShare("api", bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	e.Apply(parse(t, strings.Replace(parts, "name: api,", "name: api, explore: 0.02,", 1)))
	if told() != 0.25 {
		t.Errorf("after another change of the file it is %v", told())
	}
	e.Apply(parse(t, strings.Replace(parts, "share: 0.1", "share: 0.2", 1)))
	if told() != 0.2 {
		t.Errorf("after a change of the split it is %v", told())
	}
	e.Apply(parse(t, `pools: [{name: api, peers: ["10.0.0.1:80"]}]`))
	if _, err := e.SetShare("api", 0.5); err == nil || !strings.Contains(err.Error(), "has no split") {
		t.Errorf("without a split: %v", err)
	}
}

func TestWhatIsSaidClaimsNoMoreThanTheIntervals(t *testing.T) {
	nan := math.NaN()
	for want, v := range map[string]control.Versus{
		"too few":               {Ratio: nan, Low: nan, High: nan, MoreLow: nan, MoreHigh: nan},
		"too few requests to":   {Ratio: 1.5, Low: nan, High: nan, MoreLow: -0.1, MoreHigh: 0.1},
		"is slower":             {Ratio: 1.5, Low: 1.2, High: 1.9, MoreLow: -0.1, MoreHigh: 0.1},
		"is faster":             {Ratio: 0.5, Low: 0.3, High: 0.9, MoreLow: -0.1, MoreHigh: 0.1},
		"no difference in time": {Ratio: 1.1, Low: 0.9, High: 1.3, MoreLow: -0.1, MoreHigh: 0.1},
		"it fails more":         {Ratio: 1.1, Low: 0.9, High: 1.3, More: 0.1, MoreLow: 0.05, MoreHigh: 0.2},
		"it fails less":         {Ratio: 1.1, Low: 0.9, High: 1.3, More: -0.1, MoreLow: -0.2, MoreHigh: -0.05},
		"fails more, by 100":    {Ratio: nan, Low: nan, High: nan, More: 1, MoreLow: 0.8, MoreHigh: 1},
	} {
		if got := says(&v, "canary", "the rest"); !strings.Contains(got, want) {
			t.Errorf("%+v: %q lacks %q", v, got, want)
		}
	}
}

func TestAnExplanationKnowsTheSplit(t *testing.T) {
	explained := func(settings string) (Explanation, map[string]float64) {
		t.Helper()
		e := still(t, `
pools: [{name: api, peers: ["10.0.0.1:80", "10.0.0.3:80", {address: "10.0.0.2:80", group: canary}], split: {group: canary, share: 0.1`+settings+`}}]`)
		if settings != "" {
			if _, err := e.Order("api", "10.0.0.2:80", Order{Drain: ptr(true)}); err != nil {
				t.Fatal(err)
			}
		}
		x, err := e.Explain("api", "*")
		if err != nil {
			t.Fatal(err)
		}
		shares := map[string]float64{}
		for _, p := range x.Peers {
			shares[p.Peer] = p.Share
		}
		return x, shares
	}
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
	x, shares := explained("")
	if !near(shares["10.0.0.2:80"], 0.1) || !near(shares["10.0.0.1:80"]+shares["10.0.0.3:80"], 0.9) ||
		!strings.HasSuffix(x.Reason, "; 10 % of the requests go to group canary and choose among its peers alone, the others among the rest") {
		t.Errorf("%v: %s", shares, x.Reason)
	}
	if _, shares = explained(", fallback: true"); !near(shares["10.0.0.2:80"], 0) || !near(shares["10.0.0.1:80"]+shares["10.0.0.3:80"], 1) {
		t.Errorf("with the group drained: %v", shares)
	}
	if _, shares = explained(", fallback: false"); !near(shares["10.0.0.1:80"]+shares["10.0.0.3:80"], 0.9) {
		t.Errorf("with the group drained and no fallback: %v", shares)
	}
}
