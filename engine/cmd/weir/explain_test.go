package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestExplainShowsPeersCurvesAndFeatures(t *testing.T) {
	file, id := modelFile(t, 1)
	e := start(t, "model: {library: builtin, file: "+file+"}\n"+onePool)
	ask := func(args ...string) (int, string, string) {
		return weir(append([]string{"explain", "--admin", e.admin, "--token", "0123456789abcdef"}, args...)...)
	}
	var out string
	within(t, 5e9, "the model serves", func() bool { _, out, _ = ask("api"); return strings.Contains(out, "learned policy") })
	for _, want := range []string{
		"Pool api, class *: learned policy, model " + id + ", for the mean\n", "10.0.0.1:80 with 0 in flight is expected to cost",
		"WHY NOT THE FIRST", "TAKES ms", "x 1.00", "COST ms AT", "FEATURES THAT DIFFER",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if _, all, _ := ask("api", "GET /x", "--all"); strings.Count(all, "\n") < strings.Count(out, "\n")+10 || !strings.Contains(all, "log_cost_rise") {
		t.Errorf("--all shows\n%s", all)
	}
	code, raw, _ := ask("api", "--json")
	var x struct{ Model string }
	if err := json.Unmarshal([]byte(raw), &x); code != 0 || err != nil || x.Model != id {
		t.Errorf("%d %v %s", code, err, raw)
	}
	if code, _, errs := ask("nowhere"); code != 1 || !strings.Contains(errs, `no pool "nowhere"`) || !strings.Contains(errs, "\n  api") {
		t.Errorf("%d %s", code, errs)
	}
}
