package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/config/check"
	"github.com/weirlb/weir/engine/serve"
)

func TestTheTableShowsLossesLikeGains(t *testing.T) {
	plain := &result{All: figures{Requests: 100, P50: 10, P90: 20, P99: 100, Failed: 1}, Classes: map[string]figures{"light": {P99: 50}}}
	classical := &result{All: figures{Requests: 100, P50: 15, P90: 10, P99: 100, Failed: 7}, Classes: map[string]figures{"light": {P99: 75}}}
	modelled := &result{All: figures{Requests: 100, P50: 30, P90: 5, P99: 80, Failed: 3}, Classes: map[string]figures{"light": {P99: 50}}}
	var b strings.Builder
	printTable(&b, options{Rate: 1, Seconds: 100}, cast(), plain, classical, modelled)
	for _, want := range []string{
		"p50 10.0 ms 15.0 ms +50 % 30.0 ms +200 % +100 %", "p90 20.0 ms 10.0 ms -50 % 5.0 ms -75 % -50 %", "p99 100.0 ms 100.0 ms +0 % 80.0 ms -20 % -20 %",
		"p99 of /light 50.0 ms 75.0 ms +50 % 50.0 ms +0 % -33 %", "failures 1 7 3",
	} {
		found := false
		for line := range strings.Lines(b.String()) {
			found = found || strings.Join(strings.Fields(line), " ") == want
		}
		if !found {
			t.Errorf("no line %q in\n%s", want, b.String())
		}
	}
}

func TestTheTableSaysWhenTheMachineWasTooBusyToMeasure(t *testing.T) {
	quiet, late := &result{LateP99: 0.4}, &result{LateP99: 30}
	var b strings.Builder
	printTable(&b, options{}, nil, quiet, quiet, quiet)
	if strings.Contains(b.String(), "busy") {
		t.Error(b.String())
	}
	printTable(&b, options{}, nil, quiet, quiet, late)
	if !strings.Contains(b.String(), "30 ms late") {
		t.Error(b.String())
	}
	late.LateP99 = 1300
	printTable(&b, options{}, nil, quiet, late, quiet)
	if !strings.Contains(b.String(), "too busy to compare anything") {
		t.Error(b.String())
	}
}

func TestTheTableSaysWhatTheFailuresWere(t *testing.T) {
	before := &result{All: figures{Requests: 100}, Statuses: map[string]int{"200": 100}}
	after := &result{All: figures{Requests: 100, Failed: 3}, Errors: map[string]int{"time-out": 2}, Statuses: map[string]int{"200": 97, "502": 1}}
	var b strings.Builder
	printTable(&b, options{}, nil, before, before, after)
	if want := "with the analytic policy: none; with the learned one: 2 time-out, 1 status 502."; !strings.Contains(b.String(), want) {
		t.Errorf("no %q in\n%s", want, b.String())
	}
}

func TestTheControlSliceIsToldWithItsInterval(t *testing.T) {
	x := func(v float64) *float64 { return &v }
	c := serve.ControlFigures{Of: serve.SliceFigures{MeanMS: x(20)}, Control: serve.SliceFigures{Attempts: 300, MeanMS: x(25)}, Ratio: x(0.8)}
	var b strings.Builder
	printControl(&b, &c)
	if !strings.Contains(b.String(), "ratio 0.80, too few for an interval.") {
		t.Error(b.String())
	}
	c.Low, c.High = x(0.7), x(0.9)
	b.Reset()
	printControl(&b, &c)
	if !strings.Contains(b.String(), "300 requests") || !strings.Contains(b.String(), "95 % interval 0.70 to 0.90.") {
		t.Error(b.String())
	}
	b.Reset()
	if printControl(&b, &serve.ControlFigures{}); b.Len() > 0 {
		t.Error(b.String())
	}
}

func TestTheOptionsOfTheHelpTextAreTaken(t *testing.T) {
	opt, err := parse(strings.Fields("--dir d --bin b --seconds 5 --warmup 0 --rate 100.5 --seed 7 --keep"), io.Discard)
	if err != nil || opt.Seconds != 5 || opt.Warmup != 0 || opt.Rate != 100.5 || opt.Seed != 7 || !opt.Keep || !filepath.IsAbs(opt.Repo) {
		t.Errorf("%+v %v", opt, err)
	}
}

func TestOptionsThatCannotBeMeantAreRefused(t *testing.T) {
	for _, args := range [][]string{{"--seconds", "0"}, {"--rate", "0"}, {"--rate", "NaN"}, {"--rate", "1e9"}, {"--warmup", "-1"}, {"stray"}, {"--nonsense"}} {
		if _, err := parse(append([]string{"--dir", "d", "--bin", "b"}, args...), io.Discard); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestTakenPortsAreNotHandedOut(t *testing.T) {
	var p ports
	first, err := p.take()
	if err != nil {
		t.Fatal(err)
	}
	p = ports{}
	l, err := net.Listen("tcp", first)
	if err != nil {
		t.Skip(err) // somebody was faster
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(first)
	for _, c := range port {
		p.next = p.next*10 + int(c-'0')
	}
	if got, err := p.take(); err != nil || got == first {
		t.Errorf("%s again (%v)", got, err)
	}
}

func TestTheDemosConfigurationsPassTheCheck(t *testing.T) {
	d := &demo{dir: t.TempDir()}
	var err error
	if d.opt.Repo, err = filepath.Abs("../.."); err != nil {
		t.Fatal(err)
	}
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	for _, policy := range []string{analytic, learned} {
		r := check.Check(filepath.Join(d.dir, yamlOf(policy)), filepath.Join(d.dir, "nginx.conf"), func(string) (string, bool) { return "", false })
		if !r.OK() {
			_ = r.Print(os.Stderr)
			t.Errorf("weir check refuses the demo's configurations with the %s policy", policy)
		}
	}
}
