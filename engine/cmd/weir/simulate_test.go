package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const tiny = `requests: 2000
arrivals: {load: 0.5}
classes: [{service_ms: {mean: 100}}]
peers: [{count: 3, slots: 2}]
`

// simulate runs the command line and gives its output, errors and exit code.
func simulate(t *testing.T, args ...string) (string, string, int) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(append([]string{"simulate"}, args...), streams{&out, &errs})
	return out.String(), errs.String(), code
}

func scenarioFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestSimulatePrintsOneJSONObjectAPolicyWithExactlyTheAgreedKeys(t *testing.T) {
	out, errs, code := simulate(t, "--scenario", scenarioFile(t, "tiny.yaml", tiny), "--policy", "least_conn,p2c", "--seed", "7", "--json")
	if code != 0 || errs != "" {
		t.Fatalf("exit %d, %s", code, errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %s", len(lines), out)
	}
	for i, name := range []string{"least_conn", "p2c"} {
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[i]), &got); err != nil {
			t.Fatal(err)
		}
		want := []string{"policy", "requests", "failed", "mean_ms", "p50_ms", "p90_ms", "p99_ms", "p999_ms"}
		for _, key := range want {
			if _, ok := got[key]; !ok {
				t.Errorf("%s is missing in %s", key, lines[i])
			}
		}
		if len(got) != len(want) || got["policy"] != name || got["requests"] != 2000.0 {
			t.Errorf("%s", lines[i])
		}
	}
	again, _, _ := simulate(t, "--scenario", scenarioFile(t, "tiny.yaml", tiny), "--policy", "least_conn,p2c", "--seed", "7", "--json", "--jobs", "1")
	if again != out {
		t.Errorf("the same seed gives\n%s and\n%s", out, again)
	}
}

func TestSimulateNamesWhatIsWrongWithAScenario(t *testing.T) {
	file := scenarioFile(t, "bad.yaml", strings.Replace(tiny, "slots", "slot", 1))
	_, errs, code := simulate(t, "--scenario", file)
	if code == 0 || !strings.Contains(errs, `bad.yaml:4: unknown key "slot" in peers[0]`) {
		t.Errorf("exit %d, %s", code, errs)
	}
	_, errs, code = simulate(t, "--scenario", filepath.Join(t.TempDir(), "none.yaml"))
	if code == 0 || !strings.Contains(errs, "none.yaml") {
		t.Errorf("exit %d, %s", code, errs)
	}
	_, errs, code = simulate(t, "--scenario", scenarioFile(t, "tiny.yaml", tiny), "--learn", "--learn-control", "nan")
	if code == 0 || !strings.Contains(errs, "--learn-control from 0 to 0.5, not 60 and NaN") {
		t.Errorf("exit %d, %s", code, errs)
	}
	_, errs, code = simulate(t, "--scenario", "/dev/zero")
	if code == 0 || !strings.Contains(errs, "/dev/zero: it has more than") {
		t.Errorf("exit %d, %s", code, errs)
	}
	_, errs, code = simulate(t, "--scenario", scenarioFile(t, "tiny.yaml", tiny), "--policy", "least_con")
	if code == 0 || !strings.Contains(errs, `unknown policy "least_con"`) {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestSimulateRunsADirectoryAndSumsUp(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.yaml", "a.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(tiny), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, errs, code := simulate(t, "--scenario", dir, "--policy", "least_conn,weir", "--seeds", "2")
	if code != 0 {
		t.Fatal(errs)
	}
	a, b, sum := strings.Index(out, "a, seeds 1 to 2"), strings.Index(out, "b, seeds 1 to 2"), strings.Index(out, "weir in all scenarios")
	if a < 0 || b < a || sum < b || !strings.Contains(out, "±") {
		t.Errorf("%s", out)
	}
}

func TestTheBarTellsHowFarAndHowLong(t *testing.T) {
	if got, want := line(250, 1000, 2*time.Second), "[#######.......................]  25 %  0.00 M requests/s  6s left"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := line(2000, 1000, time.Second); !strings.Contains(got, "100 %") {
		t.Errorf("%s", got)
	}
}

func TestSimulateRefusesToCompareNoPolicy(t *testing.T) {
	out, errs, code := simulate(t, "--scenario", scenarioFile(t, "tiny.yaml", tiny), "--policy", "")
	if code == 0 || out != "" || !strings.Contains(errs, "--policy") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}
