package servermetrics

import (
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func memory() *Board {
	return New([]Rule{{Name: "memory", Limit: 0.9, HorizonMS: 60_000, ExpireMS: 30_000}}, nil)
}

func TestAClimbTowardsTheLimitIsARiskBeforeTheLimit(t *testing.T) {
	b := memory()
	// 1 % a second from 20 %: the limit is 70 s away, after 10 s within the horizon.
	last := 0.0
	for s := 0.0; s <= 69; s++ {
		b.Put(s*1000, 0, "a", 0.2+0.01*s)
		v := b.Verdict(s*1000, "a")
		if s <= 9 && v.Risk > 0 {
			t.Fatalf("after %v s, 61 s before the limit, the risk is %v", s, v.Risk)
		}
		if v.Risk < last-1e-9 {
			t.Fatalf("after %v s the risk fell from %v to %v", s, last, v.Risk)
		}
		if v.Over != 0 {
			t.Fatalf("after %v s it is over its limit", s)
		}
		last = v.Risk
	}
	if last != 1 {
		t.Errorf("a second before the limit the risk is %v", last)
	}
	if at := b.Values(50_000+19_000, "a")[0].ToLimitMS; math.Abs(at-1000) > 50 {
		t.Errorf("a second before the limit it says %v ms", at)
	}
}

func TestNoiseAndSawteethAroundALevelAreNoClimb(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, level := range map[string]func(i int) float64{
		"noise":    func(int) float64 { return 0.6 + 0.1*r.Float64() },
		"sawtooth": func(i int) float64 { return 0.5 + 0.03*float64(i%10) },
		"falling":  func(i int) float64 { return 0.8 - 0.001*float64(i) },
	} {
		b := memory()
		for i := range 500 {
			b.Put(float64(i)*2000, 0, "a", level(i))
			if v := b.Verdict(float64(i)*2000, "a"); i > 30 && v.Risk > 0.3 {
				t.Errorf("%s: after %d samples the risk is %v", name, i, v.Risk)
				break
			}
		}
	}
}

func TestAtTheLimitAPeerIsOverUntilItIsClearlyBelow(t *testing.T) {
	b := memory()
	for i, c := range []struct {
		value float64
		over  bool
	}{{0.89, false}, {0.9, true}, {0.88, true}, {0.86, true}, {0.85, false}, {0.88, false}, {2, true}} {
		b.Put(float64(i)*1000, 0, "a", c.value)
		v := b.Verdict(float64(i)*1000, "a")
		if v.Over > 0 != c.over {
			t.Errorf("at %v: %+v", c.value, v)
		}
		if c.over && !strings.HasPrefix(v.Why, "memory is ") {
			t.Errorf("at %v it says %q", c.value, v.Why)
		}
	}
}

func TestAValueExpires(t *testing.T) {
	b := New([]Rule{{Name: "cpu", Limit: 0.5, HorizonMS: 1e6, ExpireMS: 1000, Load: true}}, nil)
	b.Put(0, 0, "a", 0.7)
	if v := b.Verdict(1000, "a"); v.Over == 0 || v.Load != 0.7 {
		t.Errorf("before: %+v", v)
	}
	if v := b.Verdict(1001, "a"); v.Over != 0 || v.Load != -1 || v.Risk != 0 {
		t.Errorf("after: %+v", v)
	}
	if v := b.Values(1001, "a")[0]; !math.IsNaN(v.Value) || v.AgeMS != 1001 || v.Over {
		t.Errorf("after: %+v", v)
	}
	// What comes next begins anew: nothing is known of the time between.
	b.Put(9000, 0, "a", 0.49)
	if v := b.Verdict(9000, "a"); v.Over != 0 {
		t.Errorf("it is over by a value from before: %+v", v)
	}
}

func TestARestartForgetsTheClimb(t *testing.T) {
	b := memory()
	for s := 0.0; s < 60; s++ {
		b.Put(s*1000, 0, "a", 0.01*s)
	}
	b.Put(60_000, 0, "a", 0.05)
	if v := b.Verdict(60_000, "a"); v.Risk != 0 {
		t.Errorf("%+v", v)
	}
}

func TestWhatIsNoNumberIsIgnored(t *testing.T) {
	b := memory()
	b.Put(0, 0, "a", 0.3)
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		b.Put(1, 0, "a", x)
		b.Put(x, 0, "a", 0.5)
	}
	b.Put(5, 7, "a", 1)
	b.Put(5, -1, "a", 1)
	if v := b.Values(5, "a"); len(v) != 1 || v[0].Value != 0.3 {
		t.Errorf("%+v", v)
	}
}

func TestNewRulesKeepTheValuesOfThoseThatStay(t *testing.T) {
	b := New([]Rule{{Name: "x", ExpireMS: 1e9}, {Name: "y", ExpireMS: 1e9}}, nil)
	b.Put(1, 0, "a", 5)
	b.Put(1, 1, "a", 6)
	b.Put(1, 1, "gone", 6)
	b = New([]Rule{{Name: "z", ExpireMS: 1e9}, {Name: "y", ExpireMS: 1e9}, {Name: "x", ExpireMS: 1}}, b)
	b.Keep([]string{"a"})
	v := b.Values(1, "a")
	if !math.IsNaN(v[0].Value) || v[1].Value != 6 || !math.IsNaN(v[2].Value) {
		t.Errorf("%+v", v)
	}
	if len(b.peers) != 1 {
		t.Errorf("%d peers", len(b.peers))
	}
}

// Whatever values come at whatever times, a verdict is within its bounds.
func TestVerdictsAreWithinBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := New([]Rule{{Name: "m", Limit: rapid.Float64Range(0.001, 1e9).Draw(t, "limit"), HorizonMS: rapid.Float64Range(0, 1e7).Draw(t, "horizon"), ExpireMS: 5000, Load: true}}, nil)
		now := 0.0
		for range rapid.IntRange(0, 80).Draw(t, "n") {
			now += rapid.Float64Range(0, 3000).Draw(t, "dt")
			b.Put(now, 0, "a", rapid.Float64().Draw(t, "value"))
			v := b.Verdict(now, "a")
			if !(v.Risk >= 0 && v.Risk <= 1) || !(v.Over >= 0) || !(v.Load == -1 || v.Load >= 0) || v.Over > 0 != (v.Why != "") {
				t.Fatalf("%+v", v)
			}
			if v := b.Values(now, "a")[0]; v.ToLimitMS < 0 || math.IsNaN(v.ToLimitMS) {
				t.Fatalf("%+v", v)
			}
		}
	})
}

func TestASeriesIsAboutThePeerWithItsAddressOrAllOnItsHost(t *testing.T) {
	peers := []string{"10.0.0.1:8080", "10.0.0.1:8081", "10.0.0.2:8080", "[fd00::2]:8080", "unix:/run/app.sock", "App-1.local:80"}
	for _, c := range []struct {
		m     Match
		value string
		want  []string
	}{
		{Match{}, "10.0.0.1:8081", peers[1:2]},
		{Match{}, "10.0.0.1:9100", peers[:2]},
		{Match{}, "10.0.0.1", peers[:2]},
		{Match{}, "10.0.0.3:9100", nil},
		{Match{}, "[fd00:0::2]:9100", peers[3:4]},
		{Match{}, "fd00::2", peers[3:4]},
		{Match{}, "app-1.LOCAL:9100", peers[5:]},
		{Match{}, "unix:/run/app.sock", peers[4:5]},
		{Match{}, "", nil},
		{Match{Exact: true}, "10.0.0.1:9100", nil},
		{Match{Exact: true}, "10.0.0.2:8080", peers[2:3]},
		{Match{Pattern: regexp.MustCompile(`^node-(.+):9100$`), As: "10.0.0.$1"}, "node-2:9100", peers[2:3]},
		{Match{Pattern: regexp.MustCompile(`^(.+):9(\d+)$`), As: "$1:8$2", Exact: true}, "10.0.0.1:9081", peers[1:2]},
		{Match{Pattern: regexp.MustCompile(`^node`), As: "$0"}, "10.0.0.1:8080", nil},
	} {
		c.m.Label = "instance"
		if got := c.m.Peers(map[string]string{"instance": c.value}, peers, nil); !slices.Equal(got, c.want) {
			t.Errorf("%q by %+v: %v, want %v", c.value, c.m, got, c.want)
		}
	}
	if got := (&Match{Label: "other"}).Peers(map[string]string{"instance": "10.0.0.1:8080"}, peers, nil); got != nil {
		t.Errorf("without the label: %v", got)
	}
}

func TestThePageOfAPeerIsMadeFromATemplate(t *testing.T) {
	for _, c := range []struct{ template, addr, want string }{
		{"http://{host}:9100/metrics", "10.0.0.1:8080", "http://10.0.0.1:9100/metrics"},
		{"http://{host}:9100/metrics", "[::1]:8080", "http://[::1]:9100/metrics"},
		{"http://{address}/metrics", "[::1]:8080", "http://[::1]:8080/metrics"},
		{"http://{host}:1{port}/m", "a:8080", "http://a:18080/m"},
		{"http://{host}:9100/metrics", "unix:/x", ""},
		{"http://127.0.0.1:9100/metrics", "unix:/x", "http://127.0.0.1:9100/metrics"},
	} {
		if got := Page(c.template, c.addr); got != c.want {
			t.Errorf("%s for %s: %q", c.template, c.addr, got)
		}
	}
}
