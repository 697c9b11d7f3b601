package check

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAGroupOfTheSocketThatThisHostDoesNotHaveIsFoundBeforeTheEngineDoesNotStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.yaml")
	for group, want := range map[string]string{
		"no-such-group": `weir.yaml:3: socket.group: there is no group "no-such-group" on this host: the engine would not start`,
		"0":             "",
		"":              "",
	} {
		text := "socket:\n  path: /run/weir/engine.sock\n  group: '" + group + "'\nmodel: {file: none}\npools: [{name: api, peers: ['10.0.0.1:80']}]\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, f := range Check(path, "", func(string) (string, bool) { return "", false }).Errors {
			f.File = filepath.Base(f.File)
			said += f.String()
		}
		if said != want {
			t.Errorf("group %q: want %q, got %q", group, want, said)
		}
	}
}
