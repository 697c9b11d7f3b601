package check

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatThePeersFileMakesOfAPoolIsLookedAt(t *testing.T) {
	many := ""
	for i := range 4096 {
		many += fmt.Sprintf("10.1.%d.%d:80\n", i/256, i%256)
	}
	for _, c := range []struct{ pool, file, want string }{
		{"", "10.0.0.1:80\n10.0.0.2:80 group=canary\n", ""},
		{"", "[]\n", ""},
		{"", "10.0.0.1:80\n10.0.0.2:80 group=canray\n", `no peer of pool "api" is in group "canary"`},
		{"", "10.0.0.1:80 group=canary\n", `all peers of pool "api" are in group "canary"`},
		{"peers: [{address: '10.0.0.3:80', group: canary}], ", "10.0.0.1:80\n", ""},
		{"peers: ['10.0.0.2:80'], ", "10.0.0.1:80\n10.0.0.2:80 group=canary\n", `no peer of pool "api" is in group "canary"`}, // the list says it first
		{"peers: ['10.0.0.3:80'], split: off, ", many, "the pool's own peers and those of the file are 4097 together"},
		{"dns: {name: a.b, port: 80, group: canary}, ", "10.0.0.1:80\n", ""},
	} {
		if !strings.Contains(c.pool, "split") {
			c.pool += "split: {group: canary, share: 0.1}, "
		}
		dir := t.TempDir()
		text := "model: {file: none}\nhistory: {dir: h}\npools:\n- {name: api, " + c.pool + "peers_file: p}\n"
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
