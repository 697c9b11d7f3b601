package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/model"
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
	for _, want := range []string{"weir train --seed 5 --rounds 2 --worlds 10", "Wolpert and Tumer", "log_cost_rise"} {
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

func TestTrainSaysWhereAModelHasNoSay(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]bool{"told": true, "plain": false} {
		file := filepath.Join(dir, name+".yaml")
		text := "name: " + name + "\nrequests: 2000\narrivals: {load: 0.5}\nclasses: [{service_ms: {mean: 50}, weight_hint: " + strconv.FormatBool(want) + "}]\npeers: [{slots: 2}, {slots: 2, speed: 0.3}]\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, name+".onnx")
		code, _, errs := weir("train", "--out", out, "--scenario", file, "--worlds", "2", "--rounds", "1", "--requests", "500", "--hidden", "4")
		if code != 0 || strings.Contains(errs, "requests of "+name+" tell their size") != want {
			t.Errorf("%s: %d: %s", name, code, errs)
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
	if err := writeModel(out+".part", net, map[string]string{"recipe": meta.Card["recipe"], "round": "1"}); err != nil {
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
	if other, _, err := model.Decode(again); err != nil || !net.Equal(other) {
		t.Errorf("another model came out (%v)", err)
	}
}
