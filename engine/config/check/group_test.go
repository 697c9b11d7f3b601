package check

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
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

func TestWorkersOfNGINXThatMayNotConnectToTheSocketAreFound(t *testing.T) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	own, err := user.LookupGroupId(nobody.Gid)
	if err != nil {
		t.Skip(err)
	}
	for _, c := range []struct{ user, socket, want string }{
		{"nobody " + own.Name, "{}", "which has the engine's own group and mode 0660: write `socket: {group: " + own.Name + "}`"},
		{"nobody " + own.Name, "{group: " + own.Name + "}", ""},
		{"nobody " + own.Name, "{group: daemon}", `which has group "daemon" and mode 0660`},
		{"nobody daemon", "{group: daemon}", ""}, // NGINX's workers are in both
		{"nobody " + own.Name, "{mode: '0666'}", ""},
		{"root", "{}", ""},
		{"no-such-user", "{}", ""}, // of another host, or NGINX says so
		{"", "{}", ""},
	} {
		dir := t.TempDir()
		conf := "events {}\nhttp {}\n"
		if c.user != "" {
			conf = "user " + c.user + ";\n" + conf
		}
		for name, text := range map[string]string{
			"weir.yaml":  "model: {file: none}\nhistory: {dir: h}\nsocket: " + c.socket + "\npools: []\n",
			"nginx.conf": conf,
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		env := func(name string) (string, bool) { return dir + "/engine.sock", name == "WEIR_SOCKET_PATH" }
		said := ""
		for _, f := range Check(filepath.Join(dir, "weir.yaml"), filepath.Join(dir, "nginx.conf"), env).Warnings {
			if f.Key == "socket.group" {
				said += f.Message
			}
		}
		if c.want == "" && said != "" || !strings.Contains(said, c.want) {
			t.Errorf("user %q, socket %s: want %q, got %q", c.user, c.socket, c.want, said)
		}
	}
}
