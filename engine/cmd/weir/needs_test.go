package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestAFlagThatDoesNothingWithoutAnotherIsRefusedWithoutIt(t *testing.T) {
	out := filepath.Join(t.TempDir(), "m.onnx")
	train := []string{"train", "--out", out, "--worlds", "1", "--rounds", "1", "--requests", "100", "--epochs", "1"}
	play := []string{"simulate", "--scenario", scenarioFile(t, "tiny.yaml", tiny), "--model", "none"}
	for _, c := range []struct {
		args []string
		want string
	}{
		{append(train, "--from", "1h"), "--from does nothing without --history"},
		{append(train, "--pool=api"), "--pool does nothing without --history"},
		{append(train, "--no-sizes"), "--sizes does nothing without --history"},
		{append(train, "--balancers", "1"), "--balancers does nothing without --history"},
		{append(train, "--last", "5"), "--last does nothing without --history"},
		{append(play, "--learn-every", "10"), "--learn-every does nothing without --learn"},
		{append(play, "--learn-steps"), "--learn-steps does nothing without --learn"},
		{append(play, "--learn-control=0.1"), "--learn-control does nothing without --learn"},
		{append(play, "--learn", "--policy", "least_conn"), "--learn does nothing without the policy weir"},
		{[]string{"split", "api", "--json", "--key", "u1"}, "--json and --key can't be used together"},
	} {
		if code, _, errs := weir(c.args...); code == 0 || !strings.Contains(errs, c.want) {
			t.Errorf("%v: %d: %s", c.args, code, errs)
		}
	}
	if code, _, errs := weir(play...); code != 0 {
		t.Errorf("without them: %d: %s", code, errs)
	}
}
