package main

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/train"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/sim/scenario"
)

func TestTrainWritesAModelThatSimulateTakes(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "small.onnx")
	args := []string{"train", "--out", out, "--worlds", "10", "--rounds", "2", "--requests", "1000", "--hidden", "8", "--seed", "5"}
	code, said, errs := weir(args...)
	if code != 0 || !strings.Contains(said, "loss on other worlds") {
		t.Fatalf("%d: %s%s", code, said, errs)
	}
	if n := strings.Count(errs, "round "); n != 2 {
		t.Errorf("%d rounds were told:\n%s", n, errs)
	}
	card, err := os.ReadFile(filepath.Join(dir, "small.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"weir train --seed 5 --rounds 2 --worlds 10", "Bertsekas and Tsitsiklis", "log_cost_rise"} {
		if !strings.Contains(string(card), want) {
			t.Errorf("the model card lacks %q:\n%s", want, card)
		}
	}
	first, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
	if code, _, errs := weir(args...); code != 0 {
		t.Fatal(errs)
	}
	if again, _ := os.ReadFile(out); string(again) != string(first) {
		t.Error("the same command made another file")
	}

	file := filepath.Join(dir, "two.yaml")
	const two = "name: two\nrequests: 2000\narrivals: {load: 0.5}\nclasses: [{service_ms: {mean: 50}}]\npeers: [{slots: 2}, {slots: 2, speed: 0.3}]\n"
	if err := os.WriteFile(file, []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
	simulate := func(more ...string) string {
		code, said, errs := weir(append([]string{"simulate", "--scenario", file, "--policy", "weir", "--json"}, more...)...)
		if code != 0 {
			t.Fatal(errs)
		}
		return said
	}
	if simulate("--model", out) == simulate("--policy", "weir_analytic") {
		t.Error("the model changes nothing")
	}
	cut := filepath.Join(dir, "cut.onnx")
	if err := os.WriteFile(cut, first[:len(first)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := weir("simulate", "--scenario", file, "--model", cut); code == 0 || !strings.Contains(errs, "cut.onnx") {
		t.Errorf("half a model: %d %s", code, errs)
	}
}

// sizedScenario writes a scenario whose requests tell their size, or do not.
func sizedScenario(t *testing.T, name string, told bool) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), name+".yaml")
	text := "name: " + name + "\nrequests: 2000\narrivals: {load: 0.5}\nclasses: [{service_ms: {mean: 50}, weight_hint: " + strconv.FormatBool(told) + "}]\npeers: [{slots: 2}, {slots: 2, speed: 0.3}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTrainSaysWhereANetworkHasNoSay(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]bool{"told": true, "plain": false} {
		file, out := sizedScenario(t, name, want), filepath.Join(dir, name+".onnx")
		code, _, errs := weir("train", "--out", out, "--scenario", file, "--worlds", "2", "--rounds", "1", "--requests", "500", "--hidden", "4", "--tries", "1")
		if code != 0 || strings.Contains(errs, "requests of "+name+" tell their size") != want {
			t.Errorf("%s: %d: %s", name, code, errs)
		}
	}
}

// Three hundred plays of a scenario of a million requests would take hours, and gigabytes of memory.
func TestTrainPlaysLargeScenariosLessOftenUnlessItIsToldHowOften(t *testing.T) {
	of := func(requests ...int) (all []*scenario.Scenario) {
		for _, n := range requests {
			all = append(all, &scenario.Scenario{Requests: n, Episodes: 1})
		}
		return all
	}
	for _, c := range []struct {
		scenarios []*scenario.Scenario
		want      int
	}{
		{of(300_000), 40},
		{of(40_000), 300},
		{of(200), 300},
		{of(300_000, 100_000), 60},
		{of(50_000_000), 10},
		{of(slices.Repeat([]int{20_000_000}, 12)...), 12},
	} {
		if got := plays(c.scenarios); got != c.want {
			t.Errorf("%d scenarios, the first of %d requests: %d plays, want %d", len(c.scenarios), c.scenarios[0].Requests, got, c.want)
		}
	}

	// What is left of a training that has nothing left to do is taken up only by a command of the same recipe.
	file := scenarioFile(t, "large.yaml", "requests: 300000\narrivals: {load: 0.5}\nclasses: [{service_ms: {mean: 50}}]\npeers: [{}]\n")
	loaded, err := loadScenarios([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "m.onnx")
	c := trainCmd{Name: "default", Seed: 1, Rounds: 1, Worlds: 40, Requests: 40_000, Share: 0.12, Shrink: 0.5, Hidden: []int{2}, Epochs: 3, Scenario: []string{file}}
	card := c.card(c.recipe(loaded), loaded, &train.Result{Rows: 1, Loss: []float64{1}, None: 1})
	card["round"], card["scenarios"] = "1", digest(loaded)
	net := model.New(train.Sizes(c.Hidden), rand.New(rand.NewPCG(1, 1)))
	for want, flags := range map[string][]string{"all its rounds were finished": nil, "another command": {"--worlds", "300"}} {
		if err := writeModel(out+".part", net, decide.Price{}, card); err != nil {
			t.Fatal(err)
		}
		_, said, errs := weir(append([]string{"train", "--out", out, "--rounds", "1", "--hidden", "2", "--scenario", file, "--resume"}, flags...)...)
		if !strings.Contains(said+errs, want) {
			t.Errorf("%v: %s%s", flags, said, errs)
		}
	}
}

func TestTrainRefusesToResumeAnotherTraining(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "m.onnx")
	small := []string{"train", "--out", out, "--worlds", "10", "--rounds", "1", "--requests", "500", "--hidden", "4"}
	if code, _, errs := weir(small...); code != 0 {
		t.Fatal(errs)
	}
	if err := os.Rename(out, out+".part"); err != nil { // a card without a round, of another recipe than --seed 2
		t.Fatal(err)
	}
	code, _, errs := weir(append(small, "--seed", "2", "--resume")...)
	if code == 0 || !strings.Contains(errs, "was begun by another command") {
		t.Errorf("%d: %s", code, errs)
	}
}

// A training that ended between its last round and its model file.
func TestTrainResumesWhenNothingIsLeftToDo(t *testing.T) {
	out := filepath.Join(t.TempDir(), "m.onnx")
	small := []string{"train", "--out", out, "--worlds", "10", "--rounds", "1", "--requests", "500", "--hidden", "4", "--shrink", "1", "--resume"}
	if code, _, errs := weir(small...); code != 0 {
		t.Fatal(errs)
	}
	first, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	net, meta, err := model.Decode(first)
	if err != nil {
		t.Fatal(err)
	}
	card := maps.Clone(meta.Card)
	card["round"] = "1"
	if err := writeModel(out+".part", net, decide.Price{}, card); err != nil {
		t.Fatal(err)
	}
	code, said, errs := weir(small...)
	if code != 0 || !strings.Contains(said, "all its rounds were finished") {
		t.Fatalf("%d: %s%s", code, said, errs)
	}
	again, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, again) {
		t.Error("another file came out")
	}
}

// A training of several rounds that was ended after the first, in the middle of the second, makes the same file in the end.
func TestTrainResumedMakesTheSameFileAndCard(t *testing.T) {
	dir := t.TempDir()
	whole, halves := filepath.Join(dir, "whole.onnx"), filepath.Join(dir, "halves.onnx")
	small := []string{"--worlds", "12", "--rounds", "2", "--requests", "500", "--hidden", "4", "--resume"}
	train := func(out string) {
		t.Helper()
		if code, _, errs := weir(append([]string{"train", "--out", out}, small...)...); code != 0 {
			t.Fatal(errs)
		}
	}
	train(whole)
	c := trainCmd{Out: halves, Name: "default", Seed: 1, Rounds: 2, Worlds: 12, Requests: 500, Share: 0.12, Shrink: 0.5, Hidden: []int{4}, Epochs: 3, Tries: 40, Resume: true}
	c.saved = func(int) error { return errors.New("enough") }
	if err := c.Run(streams{&output{}, &output{}}); err == nil {
		t.Fatal("it did not stop")
	}
	train(halves)
	for _, end := range []string{".onnx", ".md"} {
		a, err := os.ReadFile(filepath.Join(dir, "whole"+end))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "halves"+end)); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs (%v)", end, err)
		}
	}
}

func TestTrainRefusesToResumeOnScenariosThatChanged(t *testing.T) {
	dir := t.TempDir()
	file, out := filepath.Join(dir, "s.yaml"), filepath.Join(dir, "m.onnx")
	write := func(speed string) {
		text := "requests: 2000\narrivals: {load: 0.5}\nclasses: [{service_ms: {mean: 50}}]\npeers: [{slots: 2}, {slots: 2, speed: " + speed + "}]\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("0.3")
	c := trainCmd{Out: out, Name: "default", Seed: 1, Rounds: 2, Worlds: 2, Requests: 500, Share: 0.12, Shrink: 0.5, Hidden: []int{4}, Epochs: 3, Tries: 40, Scenario: []string{file}}
	c.saved = func(int) error { return errors.New("enough") }
	if err := c.Run(streams{&output{}, &output{}}); err == nil {
		t.Fatal("it did not stop")
	}
	again := []string{"train", "--out", out, "--rounds", "2", "--worlds", "2", "--requests", "500", "--hidden", "4", "--scenario", file, "--resume"}
	write("0.4")
	if code, _, errs := weir(again...); code != 1 || !strings.Contains(errs, "scenarios of these files that had another content") {
		t.Errorf("%d: %s", code, errs)
	}
	write("0.3")
	if code, _, errs := weir(again...); code != 0 {
		t.Errorf("with the scenario as it was: %d: %s", code, errs)
	}
}

// Each is told before any world is played, and by the name of what is wrong.
func TestTrainRefusesAtOnceWhatCannotBeTrainedOrWritten(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "m.onnx")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"--rounds must be 1 or more, not 0", []string{"--rounds", "0"}},
		{"--worlds must be 1 or more, not -4", []string{"--worlds=-4"}},
		{"--requests must be 1 or more", []string{"--requests", "0"}},
		{"--epochs must be 1 or more", []string{"--epochs", "0"}},
		{"--share must be above 0 and at most 1, not NaN", []string{"--share", "nan"}},
		{"--share must be above 0 and at most 1, not 2", []string{"--share", "2"}},
		{"--imposed must be from 0 to 10, not NaN", []string{"--imposed", "nan"}},
		{"--shrink must be above 0 and at most 1, not 5", []string{"--shrink", "5"}},
		{"--hidden 8,0: as a network, sizes [28 8 0 1]: number 3 is 0; 1 to 4096 are allowed", []string{"--hidden", "8,0"}},
		{"--hidden 5000: as a network", []string{"--hidden", "5000"}},
		{"at most 16 are allowed", []string{"--hidden", strings.Repeat("4,", 16) + "4"}},
		{"--out is empty; name the file", []string{"--out="}},
		{"is no file; name a file", []string{"--out", dir}},
		{"no model can be written there", []string{"--out", filepath.Join(dir, "none", "m.onnx")}},
	} {
		args := append([]string{"train", "--out", out, "--worlds", "2", "--rounds", "1", "--requests", "200"}, c.args...)
		code, _, errs := weir(args...)
		if code != 1 || !strings.Contains(errs, c.want) || strings.Contains(errs, "round 1") {
			t.Errorf("%v: %d: %s", c.args, code, errs)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What --resume goes by: a round that was begun with other settings must not be gone on with.
func TestTheRecipeHasEveryFlagThatReadsHistory(t *testing.T) {
	recipe := func(change func(*recordedFlags)) string {
		c := trainCmd{}
		c.Recorded = recordedFlags{History: "history.db", From: "24h", Spread: 0.1, Explore: 0.01, Sizes: true, Last: 1000, Warmup: time.Minute}
		change(&c.Recorded)
		return c.recipe(nil)
	}
	first := recipe(func(*recordedFlags) {})
	for name, change := range map[string]func(*recordedFlags){
		"--pool": func(r *recordedFlags) { r.Pool = "api" }, "--from": func(r *recordedFlags) { r.From = "7d" }, "--to": func(r *recordedFlags) { r.To = "1h" },
		"--spread": func(r *recordedFlags) { r.Spread = 0.2 }, "--explore": func(r *recordedFlags) { r.Explore = 0.02 }, "--sizes": func(r *recordedFlags) { r.Sizes = false },
		"--balancers": func(r *recordedFlags) { r.Balancers = 4 }, "--last": func(r *recordedFlags) { r.Last = 2000 }, "--warmup": func(r *recordedFlags) { r.Warmup = time.Second },
	} {
		if recipe(change) == first {
			t.Errorf("%s is not in it: %s", name, first)
		}
	}
	for _, word := range strings.Fields(first)[2:] {
		if word == "--to" {
			t.Errorf("a flag without a value: %s", first)
		}
	}
}
