package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAGroupOfASplitThatNobodyInThePeersFileIsInIsFound(t *testing.T) {
	for _, c := range []struct{ pool, file, want string }{
		{"", "10.0.0.1:80\n10.0.0.2:80 group=canary\n", ""},
		{"", "[]\n", ""},
		{"", "10.0.0.1:80\n10.0.0.2:80 group=canray\n", `no peer of pool "api" is in group "canary"`},
		{"", "10.0.0.1:80 group=canary\n", `all peers of pool "api" are in group "canary"`},
		{"peers: [{address: '10.0.0.3:80', group: canary}], ", "10.0.0.1:80\n", ""},
		{"peers: ['10.0.0.2:80'], ", "10.0.0.1:80\n10.0.0.2:80 group=canary\n", `no peer of pool "api" is in group "canary"`}, // the list says it first
		{"dns: {name: a.b, port: 80, group: canary}, ", "10.0.0.1:80\n", ""},
	} {
		dir := t.TempDir()
		text := "model: {file: none}\nhistory: {dir: h}\npools:\n- {name: api, " + c.pool + "split: {group: canary, share: 0.1}, peers_file: p}\n"
		for name, text := range map[string]string{"weir.yaml": text, "p": c.file} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := Check(filepath.Join(dir, "weir.yaml"), "", func(string) (string, bool) { return "", false })
		said := ""
		for _, f := range r.Warnings {
			said += f.String()
		}
		if len(r.Errors) > 0 || c.want == "" && said != "" || !strings.Contains(said, c.want) || c.want != "" && !strings.Contains(said, "weir.yaml:4: pools[0].peers_file: ") {
			t.Errorf("%s%q: want %q, got %q %v", c.pool, c.file, c.want, said, r.Errors)
		}
	}
}
