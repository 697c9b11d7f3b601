package check

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/model"
)

func TestAModelThatCannotServeIsToldWithItsLine(t *testing.T) {
	dir := t.TempDir()
	good, err := model.Encode(model.New([]int{decide.Inputs, 1}, rand.New(rand.NewPCG(1, 1))), model.Meta{Features: decide.InputNames(), Heads: []string{decide.Head}})
	if err != nil {
		t.Fatal(err)
	}
	other, err := model.Encode(model.New([]int{2, 1}, rand.New(rand.NewPCG(1, 1))), model.Meta{Features: []string{"log_n", "log_moon"}, Heads: []string{decide.Head}})
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"good.onnx": good, "half.onnx": good[:len(good)/2], "other.onnx": other, "lib.so": []byte("no library")} {
		if err := os.WriteFile(filepath.Join(dir, name), file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const pools = "pools: [{name: api, peers: ['10.0.0.1:80']}]\n"
	for _, c := range []struct{ text, says string }{
		{pools + "model:\n  file: good.onnx\n  library: builtin\n", ""},
		{pools + "model:\n  file: none\n", ""},
		{pools + "model:\n  file: nowhere.onnx\n  library: builtin\n", "weir.yaml:3: model.file: reading a model: open "},
		{pools + "model:\n  file: half.onnx\n  library: builtin\n", "half.onnx: model file: "},
		{pools + "model:\n  file: other.onnx\n  library: builtin\n", "unknown here: log_moon"},
		{pools + "model:\n  file: good.onnx\n  library: lib.so\n", "weir.yaml:4: model.library: "},
		{pools + "model:\n  file: good.onnx\n  library: nowhere.so\n", "weir.yaml:4: model.library: ONNX Runtime is not installed"},
		{"model: {file: nowhere.onnx}\npools: [{name: api, policy: analytic, peers: ['10.0.0.1:80']}]\n", ""},
	} {
		path := filepath.Join(dir, "weir.yaml")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := Check(path, "", func(string) (string, bool) { return "", false })
		said := ""
		for _, f := range r.Errors {
			said += f.String() + "\n"
		}
		if c.says == "" != r.OK() || !strings.Contains(said, c.says) || len(r.Errors) > 1 {
			t.Errorf("%s\nwant %q, got %s", c.text, c.says, said)
		}
	}
	if found, _ := filepath.Glob("/lib/*-linux-gnu/libm.so.6"); len(found) > 0 { // a sound library of something else
		if err := os.WriteFile(filepath.Join(dir, "weir.yaml"), []byte(pools+"model:\n  file: good.onnx\n  library: "+found[0]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := Check(filepath.Join(dir, "weir.yaml"), "", nil)
		if len(r.Errors) != 1 || !strings.Contains(r.Errors[0].String(), "weir.yaml:4: model.library: loading ONNX Runtime: "+found[0]) {
			t.Errorf("%+v", r.Errors)
		}
	}
	t.Setenv("WEIR_MODEL_FILE", filepath.Join(dir, "nowhere.onnx"))
	if err := os.WriteFile(filepath.Join(dir, "weir.yaml"), []byte(pools), 0o600); err != nil {
		t.Fatal(err)
	}
	r := Check(filepath.Join(dir, "weir.yaml"), "", nil)
	if len(r.Errors) != 1 || !strings.HasPrefix(r.Errors[0].String(), "environment: WEIR_MODEL_FILE: ") {
		t.Errorf("%+v", r.Errors)
	}
}
