package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/weirlb/weir/test/e2e/rig"
)

// What the log says of a request is what the client saw, and what the engine is told of its last attempt.
func TestTheJSONLogHasPeerClassPolicyCostAndAttemptsOfEachRequest(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Workers: 1, Tap: true,
		Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "explore: 0", Location: "access_log access.json weir_json;"}},
	})
	policy := r.Engine.Decide("api", "*").Settings.Policy
	r.Backend("a").Set(`{"refuse":true}`) // what is sent to it has a second attempt
	var answers []rig.Answer
	for i := 0; i < 5 || i < 500 && r.NGINX.Peer("api", "a").Picks == 0; i++ {
		answers = append(answers, r.Do(rig.Request{Path: fmt.Sprintf("/api/items/%d", i)}))
	}
	n := len(answers)
	r.WantAll(answers, 200)
	const class = "GET /api/items/{n}"
	last := r.WaitRecords(n, func(rec rig.Record) bool { return rec.Class == class && rec.Kind == rig.KindOK })
	r.Eventually("all are logged", func() error {
		log, err := os.ReadFile(r.File("access.json"))
		if err != nil {
			return err
		}
		var lines [][]byte
		for line := range bytes.Lines(log) {
			if bytes.Contains(line, []byte("/api/items/")) {
				lines = append(lines, line)
			}
		}
		if len(lines) != n {
			return fmt.Errorf("%d of %d", len(lines), n)
		}
		retried := 0
		for i, line := range lines {
			var e struct {
				Addr      string `json:"upstream_addr"`
				Peer      string `json:"weir_peer"`
				Class     string `json:"weir_class"`
				Policy    string `json:"weir_policy"`
				Predicted string `json:"weir_predicted_ms"`
				Attempts  string `json:"weir_attempts"`
			}
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			tried := strings.Split(e.Addr, ", ")
			if len(tried) > 1 {
				retried++
			}
			if r.Name(e.Peer) != answers[i].Peer || e.Peer != last[i].Peer || e.Class != class || e.Attempts != strconv.Itoa(len(tried)) || e.Attempts != strconv.Itoa(last[i].Attempt) {
				t.Errorf("%s answered, by %+v: %s", answers[i].Peer, last[i], line)
			}
			wantPolicy, cost := policy, "-"
			if p := last[i].PredictedMS; p >= 0 {
				cost = fmt.Sprintf("%.1f", p)
			}
			switch flags := last[i].Flags; {
			case flags&rig.FlagLocal != 0:
				wantPolicy = "local"
			case flags&rig.FlagControl != 0:
				wantPolicy = "control"
			}
			if e.Policy != wantPolicy || e.Predicted != cost {
				t.Errorf("the rule is %s and the cost %s: %s", wantPolicy, cost, line)
			}
		}
		if retried == 0 || retried == n {
			t.Errorf("%d of %d requests had a second attempt", retried, n)
		}
		return nil
	})
}
