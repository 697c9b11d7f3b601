package main

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/serve"
)

func readMeta(t *testing.T, path string) ([]byte, *model.Net, model.Meta) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	net, meta, err := model.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, net, meta
}

func TestAModelTrainedWhereSizesAreToldBringsAPriceAndTheNetworkThatIsBuiltIn(t *testing.T) {
	out, file := filepath.Join(t.TempDir(), "m.onnx"), sizedScenario(t, "told", true)
	args := []string{"train", "--out", out, "--scenario", file, "--tries", "3"}
	code, said, errs := weir(args...)
	if code != 0 || !strings.Contains(said, "of what the default price has in told, 3 prices tried") || strings.Count(errs, "price ") < 3 {
		t.Fatalf("%d: %s%s", code, said, errs)
	}
	whole, net, meta := readMeta(t, out)
	built, err := serve.ReadOnline("default")
	if err != nil {
		t.Fatal(err)
	}
	if !net.Equal(built.Net) || meta.Price == nil {
		t.Errorf("the network built in: %t; price %v", net.Equal(built.Net), meta.Price)
	}
	m, err := serve.ReadOnline(out)
	if err != nil || m.Price == (decide.Price{}) {
		t.Errorf("%+v: %v", m.Price, err)
	}
	card, err := os.ReadFile(strings.TrimSuffix(out, ".onnx") + ".md")
	if err != nil || !strings.Contains(string(card), "## Price") || !strings.Contains(string(card), "- `waiting` ") {
		t.Errorf("%v: %s", err, card)
	}

	// Interrupted after a price, it goes on and makes the same file.
	stop := errors.New("stop")
	c := trainCmd{Out: out, Name: "default", Seed: 1, Rounds: 3, Worlds: 300, Requests: 40_000, Share: 0.12, Shrink: 0.5, Hidden: []int{32, 32}, Epochs: 3, Scenario: []string{file}, Tries: 3}
	c.tried = func(n int) error {
		if n == 2 {
			return stop
		}
		return nil
	}
	var sink bytes.Buffer
	if err := c.Run(streams{out: &sink, err: &sink}); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if err := os.Remove(out); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := weir(append(args, "--resume")...); code != 0 || strings.Contains(errs, "price 2 of") {
		t.Fatalf("%d: %s", code, errs)
	}
	if again, _, _ := readMeta(t, out); !bytes.Equal(whole, again) {
		t.Error("another file came out")
	}
	if left, _ := filepath.Glob(out + ".*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestATrainingInScenariosOfBothKindsMakesNetworkAndPrice(t *testing.T) {
	out := filepath.Join(t.TempDir(), "m.onnx")
	told, plain := sizedScenario(t, "told", true), filepath.Join(t.TempDir(), "it's plain.yaml")
	if err := os.Rename(sizedScenario(t, "plain", false), plain); err != nil {
		t.Fatal(err)
	}
	code, said, errs := weir("train", "--out", out, "--scenario", told, "--scenario", plain,
		"--worlds", "2", "--rounds", "1", "--hidden", "4", "--tries", "1")
	if code != 0 {
		t.Fatalf("%d: %s%s", code, said, errs)
	}
	file, net, meta := readMeta(t, out)
	if meta.Price == nil || net.Sizes[1] != 4 || meta.Card["data"] != "simulated scenarios: told, plain" {
		t.Errorf("price %v, layers %v, data %q", meta.Price, net.Sizes, meta.Card["data"])
	}

	// The recipe is a command that makes the same file: a shell finds the scenarios by it.
	words, err := exec.Command("sh", "-c", "set -- "+meta.Card["recipe"]+"; shift; printf '%s\\n' \"$@\"").Output()
	if err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "again.onnx")
	if code, _, errs := weir(append(strings.Split(strings.TrimSuffix(string(words), "\n"), "\n"), "--out", again)...); code != 0 {
		t.Fatalf("%s: %d: %s", meta.Card["recipe"], code, errs)
	}
	if other, _, _ := readMeta(t, again); !bytes.Equal(other, file) {
		t.Errorf("%s made another file", meta.Card["recipe"])
	}
}

// A model file may come from anywhere.
func TestAModelWithAPriceOutOfRangeIsRefused(t *testing.T) {
	out := filepath.Join(t.TempDir(), "m.onnx")
	built, err := serve.ReadOnline("default")
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]map[string]float64{
		"its price has waiting 1e+09; it must be from 0.5 to 20":  {"waiting": 1e9},
		"its price has \"moon\", which this engine does not know": {"moon": 1},
	} {
		price := decide.DefaultPrice().Map()
		maps.Copy(price, change)
		file, err := model.Encode(built.Net, model.Meta{Features: decide.InputNames(), Heads: []string{decide.Head}, Price: price})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(out, file, 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, errs := weir("simulate", "--scenario", sizedScenario(t, "told", true), "--model", out)
		if code == 0 || !strings.Contains(errs, out) || !strings.Contains(errs, want) {
			t.Errorf("%d: %s", code, errs)
		}
	}
}
