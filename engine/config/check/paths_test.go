package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsInTheWayOfTheEnginesFilesIsFound(t *testing.T) {
	dir := t.TempDir()
	file, folder := filepath.Join(dir, "file"), filepath.Join(dir, "folder")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	const share = "learn: {follow: true, share: 'file:"
	for text, want := range map[string]string{
		"socket: {path: " + file + "}":                     "E socket.path: FILE exists and is no socket",
		"socket: " + file:                                  "E socket: FILE exists and is no socket",
		"socket: {path: " + folder + "}":                   "E socket.path: FOLDER exists and is no socket",
		"socket: {path: " + file + "/engine.sock}":         "E socket.path: FILE is no folder",
		"socket: {path: " + folder + "/new/engine.sock}":   "",
		"history: {dir: " + file + "}":                     "E history.dir: FILE is no folder",
		"history: {dir: " + file + "/more}":                "E history.dir: FILE is no folder",
		"history: {dir: " + file + ", url: off}":           "",
		"history: {dir: " + folder + "/new}":               "",
		"history: {url: 'file:" + folder + "'}":            "E history.url: FOLDER is a folder",
		"history: {url: 'file:" + file + "/history.db'}":   "E history.url: FILE is no folder",
		"history: {url: 'file:" + folder + "/history.db'}": "",
		share + dir + "/none/models'}":                     "W learn.share: there is no folder DIR/none",
		share + file + "/models'}":                         "E learn.share: FILE is no folder",
		share + folder + "/models'}":                       "",
	} {
		if !strings.HasPrefix(text, "socket") {
			text = "socket: {path: " + dir + "/engine.sock}\n" + text
		}
		if !strings.Contains(text, "history") {
			text += "\nhistory: {dir: " + dir + "}"
		} else if !strings.Contains(text, "dir:") {
			text = strings.Replace(text, "history: {", "history: {dir: "+dir+", ", 1)
		}
		path := filepath.Join(dir, "weir.yaml")
		if err := os.WriteFile(path, []byte(text+"\nmodel: {file: none}\npools: [{name: api, peers: ['10.0.0.1:80']}]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := Check(path, "", func(string) (string, bool) { return "", false })
		said := ""
		for _, f := range r.Errors {
			said += "E " + f.Key + ": " + f.Message
			if f.Line == 0 {
				t.Errorf("%s\nno line: %v", text, f)
			}
		}
		for _, f := range r.Warnings {
			said += "W " + f.Key + ": " + f.Message
		}
		said = strings.NewReplacer(file, "FILE", folder, "FOLDER", dir, "DIR").Replace(said)
		if want == "" && said != "" || !strings.HasPrefix(said, want) {
			t.Errorf("%s\nwant %q\ngot  %q", text, want, said)
		}
	}
}

func TestAURLThatOnlyTheDriverRefusesIsFoundAndItsPasswordNotShown(t *testing.T) {
	const secret = "geheim%2Fword"
	for text, want := range map[string]string{
		"history: {url: 'postgres://weir:" + secret + "@db/weir?sslmode=foo'}":                                                                                "history.url: it has what PostgreSQL does not know",
		"history: {url: 'postgres://weir:" + secret + "@db/weir?connect_timeout=soon'}":                                                                       "history.url: it has what PostgreSQL does not know",
		"history: {url: 'postgres://weir:" + secret + "@db/weir?sslmode=verify-full&sslrootcert=/none.pem'}":                                                  "history.url: it has what PostgreSQL does not know",
		"history: {url: 'postgres://weir:" + secret + "@db/weir?pool_max_conns=many'}":                                                                        "history.url: it has what PostgreSQL does not know",
		"history: {url: 'postgres://weir:" + secret + "@db/weir?sslmod=disable'}":                                                                             "history.url: it has a parameter \"sslmod\", which the server would refuse: is sslmode meant?",
		"history: {url: 'postgres://weir:" + secret + "@db/weir?sslmode=disable&connect_timout=5'}":                                                           "history.url: it has a parameter \"connect_timout\", which the server would refuse: is connect_timeout meant?",
		"history: {url: 'postgres://weir:" + secret + "@db/weir?sslcrl=/x'}":                                                                                  "history.url: its parameter sslcrl is one of libpq that Weir has not",
		"history: {url: 'postgres://weir:" + secret + "@db/weir?statement_timeout=9s&work_mem=8MB&timescaledb.max_insert_batch_size=1&options=-c%20jit=off'}": "",
		"history: {url: 'mysql://weir:" + secret + "@db/weir?tls_ca=/none.pem'}":                                                                              "history.url: tls_ca: open /none.pem",
		"learn: {follow: true, share: 'postgres://weir:" + secret + "@db/weir?sslmode=foo'}":                                                                  "learn.share: it has what PostgreSQL does not know",
		"history: {url: 'postgres://weir:" + secret + "@db/weir?sslmode=require&weir_copy=off'}":                                                              "",
		"history: {url: 'mysql://weir:" + secret + "@db/weir?tls=true'}":                                                                                      "",
	} {
		path := filepath.Join(t.TempDir(), "weir.yaml")
		if err := os.WriteFile(path, []byte(text+"\nmodel: {file: none}\npools: [{name: api, peers: ['10.0.0.1:80']}]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, f := range Check(path, "", func(string) (string, bool) { return "", false }).Errors {
			said += f.Key + ": " + f.Message
		}
		if want == "" && said != "" || !strings.HasPrefix(said, want) || strings.Contains(said, "geheim") || strings.Contains(said, "@db") {
			t.Errorf("%s\nwant %q\ngot  %q", text, want, said)
		}
		if strings.Contains(text, "sslmode=foo") && !strings.Contains(said, "sslmode is invalid") || strings.Contains(text, "soon") && !strings.Contains(said, "connect_timeout") ||
			strings.Contains(text, "none.pem") && !strings.Contains(said, "/none.pem") || strings.Contains(text, "many") && !strings.Contains(said, "pool_max_conns") {
			t.Errorf("%s\ndoes not name what is wrong: %q", text, said)
		}
	}
}
