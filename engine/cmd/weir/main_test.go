package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/config"
)

func TestHelpHasOnlyCommandsThatWork(t *testing.T) {
	code, out, _ := weir("--help")
	if code != 0 {
		t.Errorf("ended with %d", code)
	}
	for _, want := range []string{"serve", "check", "peers list", "peers drain", "peers undrain", "peers weight", "explain", "history show", "history export", "migrate up", "migrate status", "simulate", "train", "version"} {
		if !strings.Contains(out, "\n  "+want+" ") {
			t.Errorf("%s is not in\n%s", want, out)
		}
	}
	if code, _, errs := weir("nonsense"); code == 0 || !strings.Contains(errs, "nonsense") {
		t.Errorf("an unknown command ended with %d: %s", code, errs)
	}
}

func TestVersionTellsWhatWasBuilt(t *testing.T) {
	t.Parallel() // it builds, mostly
	code, out, _ := weir("version")
	if code != 0 || !strings.HasPrefix(out, "weir ") || !strings.Contains(out, "protocol 1") {
		t.Errorf("%d %q", code, out)
	}
	var b build
	if _, out, _ = weir("version", "--json"); json.Unmarshal([]byte(out), &b) != nil || b.Protocol != 1 || b.Version == "" {
		t.Errorf("%q", out)
	}
	bin := filepath.Join(t.TempDir(), "weir")
	cmd := exec.Command("go", "build", "-ldflags", "-X main.version=9.8.7 -X main.revision=abc", "-o", bin, ".")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	cmd = exec.Command(bin, "version")
	cmd.Env = append(os.Environ(), "WEIR_ONNXRUNTIME=/nowhere/x.so")
	if text, err := cmd.Output(); err != nil || string(text) != "weir 9.8.7 (revision abc, protocol 1)\n"+
		"ONNX Runtime is not installed: the environment variable WEIR_ONNXRUNTIME names /nowhere/x.so, and there is no such file\n" {
		t.Errorf("%v %q", err, text)
	}
	if os.Getenv("WEIR_ONNXRUNTIME") == "" {
		return
	}
	if text, err := exec.Command(bin, "version").Output(); err != nil || !strings.Contains(string(text), "\nONNX Runtime 1.") {
		t.Errorf("%v %q", err, text)
	}
}

func TestCheckEndsWithOneOnErrorsOnly(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	for path, text := range map[string]string{good: onePool, bad: "pools: [{name: api, peeers: []}]"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, out, errs := weir("check", "--config", good); code != 0 {
		t.Errorf("good: %d %s%s", code, out, errs)
	}
	code, out, errs := weir("check", "--config", bad)
	if code != 1 || !strings.Contains(out, "bad.yaml:1") || !strings.Contains(out, "peeers") || errs != "" {
		t.Errorf("bad: %d %s%s", code, out, errs)
	}
	var report struct{ Errors []struct{ Line int } }
	code, out, _ = weir("check", "--config", bad, "--json")
	if err := json.Unmarshal([]byte(out), &report); code != 1 || err != nil || len(report.Errors) == 0 || report.Errors[0].Line != 1 {
		t.Errorf("as JSON: %d %v %s", code, err, out)
	}
	if code, _, _ := weir("check", "--config", filepath.Join(dir, "none.yaml")); code != 1 {
		t.Errorf("no file: %d", code)
	}
}

func TestServeTellsOnceThatItsConfigurationFileIsGone(t *testing.T) {
	t.Parallel() // it waits, mostly
	e := start(t, onePool)
	if err := os.Remove(e.file); err != nil {
		t.Fatal(err)
	}
	const gone, back = "the configuration file is gone", "the configuration file is back"
	within(t, 10*time.Second, "the engine tells", func() bool { return strings.Contains(e.log.String(), gone) })
	time.Sleep(2 * lookEvery)
	e.write(onePool)
	within(t, 10*time.Second, "the engine tells that it is back", func() bool { return strings.Contains(e.log.String(), back) })
	if n := strings.Count(e.log.String(), gone); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestAFileThatWasRefusedForWhatIsOutsideOfItIsTakenWhenThatIsWell(t *testing.T) {
	t.Parallel() // it waits, mostly
	e := start(t, onePool)
	if err := os.Rename(e.file, e.file+".away"); err != nil {
		t.Fatal(err)
	}
	e.hup <- syscall.SIGHUP
	within(t, 5*time.Second, "a file that is away is refused", func() bool { return strings.Contains(e.log.String(), "the configuration file was refused") })
	if err := os.Rename(e.file+".away", e.file); err != nil {
		t.Fatal(err)
	}
	within(t, 2*againEvery, "the same file is taken", func() bool { return strings.Contains(e.log.String(), "configuration read again; nothing changed") })
	time.Sleep(againEvery + time.Second)
	if n := strings.Count(e.log.String(), "configuration read again"); n != 1 {
		t.Errorf("a file that was taken was read again, %d times", n)
	}
}

func TestServeRefusesABadFileAndSaysWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(path, []byte("refresh_ms: soon\nadmin: {listen: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := weir("serve", "--config", path)
	if code != 1 || !strings.Contains(errs, path+":1: refresh_ms") || !strings.Contains(errs, path+":2: admin.listen") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestPeersAreShownDrainedAndWeighed(t *testing.T) {
	e := start(t, onePool)
	code, out, errs := e.peers()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 3 || !strings.HasPrefix(lines[0], "POOL") || !strings.Contains(lines[1], "10.0.0.1:80") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	if at := strings.Index(lines[0], "STATE"); strings.Index(lines[1], " up ") != at-1 || strings.Index(lines[2], " up ") != at-1 {
		t.Errorf("columns are not aligned:\n%s", out)
	}
	if code, out, errs = e.peers("drain", "api", "10.0.0.1:80"); code != 0 || !strings.Contains(out, "draining") {
		t.Errorf("drain: %d %s%s", code, out, errs)
	}
	if code, _, errs = e.peers("drain", "api", "10.0.0.2:80"); code != 1 || !strings.Contains(errs, "last usable peer") || !strings.Contains(errs, "say --force") {
		t.Errorf("draining the last one: %d %s", code, errs)
	}
	if code, out, errs = e.peers("drain", "api", "10.0.0.2:80", "--force"); code != 0 {
		t.Errorf("by force: %d %s%s", code, out, errs)
	}
	if code, out, _ = e.peers("undrain", "api", "10.0.0.1:80"); code != 0 || strings.Contains(out, "draining") {
		t.Errorf("undrain: %d %s", code, out)
	}
	if code, out, _ = e.peers("weight", "api", "10.0.0.1:80", "2.5"); code != 0 || !strings.Contains(out, "weight 2.5") {
		t.Errorf("weight: %d %s", code, out)
	}
	if code, _, errs = e.peers("weight", "api", "10.0.0.1:80", "NaN"); code != 1 || !strings.Contains(errs, "outside 0.01 to 1000") {
		t.Errorf("no weight: %d %s", code, errs)
	}
	if code, _, errs = e.peers("drain", "api", "9.9.9.9:1"); code != 1 || !strings.Contains(errs, "\n  10.0.0.1:80") {
		t.Errorf("unknown peer: %d %s", code, errs)
	}
	var f struct {
		Pools []struct{ Peers []struct{ Weight float64 } }
	}
	if code, out, _ = e.peers("--json"); code != 0 || json.Unmarshal([]byte(out), &f) != nil || f.Pools[0].Peers[0].Weight != 2.5 {
		t.Errorf("as JSON: %d %s", code, out)
	}
	if code, _, errs = weir("peers", "--admin", e.admin); code != 1 || !strings.Contains(errs, "WEIR_ADMIN_TOKEN") {
		t.Errorf("without the token: %d %s", code, errs)
	}
	if code, _, errs = weir("peers", "--admin", "127.0.0.1:1"); code != 1 || !strings.Contains(errs, "asking the engine at http://127.0.0.1:1") {
		t.Errorf("no engine: %d %s", code, errs)
	}
}

func TestTheFileIsReadAgainOnHangupAndOnChangeAndABadOneRefused(t *testing.T) {
	e := start(t, onePool)
	e.write(strings.ReplaceAll(onePool, "10.0.0.2:80", "10.0.0.3:80"))
	within(t, 10*time.Second, "a file written in place is applied", func() bool { return e.has("10.0.0.3:80") })

	next := e.file + ".new"
	if err := os.WriteFile(next, []byte(yamlFor(e.socket, strings.ReplaceAll(onePool, "10.0.0.2:80", "10.0.0.4:80"))), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, e.file); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "a file renamed over it is applied", func() bool { return e.has("10.0.0.4:80") })

	e.write("pools: [{name: api, peers: [nonsense]}]\nsecret_thing: hunter2hunter2\n")
	within(t, 10*time.Second, "a bad file is refused", func() bool {
		return strings.Contains(e.log.String(), "the configuration file was refused; the one before stays")
	})
	if !e.has("10.0.0.4:80") {
		t.Error("the old configuration is gone")
	}
	get := func(path string) string {
		req, _ := http.NewRequest("GET", e.admin+path, nil)
		req.Header.Set("Authorization", "Bearer 0123456789abcdef")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var b bytes.Buffer
		_, _ = b.ReadFrom(res.Body)
		return b.String()
	}
	if h := get("/api/health"); !strings.Contains(h, `"code":"config"`) || !strings.Contains(h, "weir.yaml:") {
		t.Errorf("health: %s", h)
	}
	if m := get("/metrics"); !strings.Contains(m, `weir_config_reloads_total{result="failed"} 1`) || !strings.Contains(m, `weir_config_reloads_total{result="ok"} 2`) {
		t.Error("reloads are not counted")
	}
	e.write(onePool)
	within(t, 10*time.Second, "a good file is applied again", func() bool { return e.has("10.0.0.2:80") })
	if h := get("/api/health"); !strings.Contains(h, `"status":"ok"`) {
		t.Errorf("health: %s", h)
	}
	before := strings.Count(e.log.String(), "configuration read again; nothing changed")
	e.hup <- syscall.SIGHUP
	within(t, 10*time.Second, "SIGHUP is heard", func() bool {
		return strings.Count(e.log.String(), "configuration read again; nothing changed") > before
	})
	if strings.Contains(e.log.String(), "0123456789abcdef") {
		t.Error("the token is in the log")
	}
}

func TestATokenIsKeptForAListenerThatOtherHostsReachUntilTheNextStart(t *testing.T) {
	conf := func(admin string) *config.Config {
		c, _, err := config.Parse("weir.yaml", []byte("admin: {"+admin+"}\n"), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const token = `, token: "0123456789abcdef"`
	for _, x := range []struct {
		started, next string
		want          bool
	}{
		{`listen: "0.0.0.0:9180"` + token, `listen: "127.0.0.1:9180"`, true},
		{`listen: ":9180"` + token, ``, true},
		{`listen: "0.0.0.0:9180"` + token, `listen: "127.0.0.1:9180"` + token, false},
		{`listen: "[::1]:9180"` + token, `listen: "127.0.0.1:9180"`, false},
		{`listen: "localhost:9180"` + token, ``, false},
	} {
		if got := opens(conf(x.started), conf(x.next)); got != x.want {
			t.Errorf("from %s to %s: %v", x.started, x.next, got)
		}
	}
}

// As of a full disk, or a copy that stopped half-way.
func TestAFileThatLostItsPoolsIsRefusedAndTheTokenStays(t *testing.T) {
	e := start(t, onePool)
	refused := func() int {
		return strings.Count(e.log.String(), "the configuration file was refused; the one before stays")
	}
	for i, text := range []string{"", "# weir.yaml\n", "socket: " + e.socket + "\n"} {
		if err := os.WriteFile(e.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		within(t, 10*time.Second, fmt.Sprintf("%q is refused", text), func() bool { return refused() > i })
		if !e.has("10.0.0.2:80") {
			t.Errorf("%q: the pool is gone", text)
		}
	}
	if !strings.Contains(e.log.String(), "write pools: []") {
		t.Error("the log does not say how to have none")
	}
	if code, _, _ := weir("peers", "--admin", e.admin, "--token", "wrong"); code != 1 {
		t.Error("no token is asked for any more")
	}
	e.write("pools: []\n")
	within(t, 10*time.Second, "all pools are removed", func() bool { return !e.has("10.0.0.2:80") })
}

func TestANewTokenInTheFileHoldsAtOnce(t *testing.T) {
	e := start(t, onePool)
	text := strings.ReplaceAll(yamlFor(e.socket, onePool), "0123456789abcdef", "another-token-of-ours")
	if err := os.WriteFile(e.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the new token is taken", func() bool {
		code, _, _ := weir("peers", "--admin", e.admin, "--token", "another-token-of-ours")
		return code == 0
	})
	if code, _, _ := e.peers(); code != 1 {
		t.Error("the old token is still good")
	}
}

func TestAPortOrSocketThatIsTakenEndsServeWithAClearError(t *testing.T) {
	e := start(t, onePool)
	code, _, errs := weir("serve", "--config", e.file)
	if code != 1 || !strings.Contains(errs, "another engine answers on "+e.socket) {
		t.Errorf("the socket is taken: %d %s", code, errs)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "weir.yaml")
	text := fmt.Sprintf("history: {url: off}\nsocket: %s/s\nadmin: {listen: %q}\n", dir, strings.TrimPrefix(e.admin, "http://"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs = weir("serve", "--config", path)
	if code != 1 || !strings.Contains(errs, "admin.listen") || !strings.Contains(errs, "in use") {
		t.Errorf("the port is taken: %d %s", code, errs)
	}
	if _, err := os.Lstat(dir + "/s"); !os.IsNotExist(err) {
		t.Errorf("it left its socket behind: %v", err)
	}
}

// The real process: SIGTERM with idle connections and a long poll, SIGKILL and a new start on the file it left.
func TestTheProcessStopsWithinASecondAndStartsAgainAfterAKill(t *testing.T) {
	t.Parallel() // it waits, mostly
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "weir.yaml"), filepath.Join(dir, "engine.sock")
	if err := os.WriteFile(file, []byte(yamlFor(socket, onePool)), 0o600); err != nil {
		t.Fatal(err)
	}
	launch := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestServeForAnother$")
		cmd.Env = append(os.Environ(), "TEST_WEIR_SERVE="+file, "GORACE=atexit_sleep_ms=0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		within(t, 10*time.Second, "it answers", func() bool {
			nc, err := net.Dial("unix", socket)
			if err == nil {
				nc.Close()
			}
			return err == nil
		})
		return cmd
	}
	cmd := launch()
	for _, send := range []string{"", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /watch?since=99999&epoch=x HTTP/1.1\r\nHost: x\r\n\r\n"} {
		nc, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := nc.Write([]byte(send)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(began); took > 3*time.Second { // 1 s, and room for a busy machine
		t.Errorf("it took %v to stop", took)
	} else {
		t.Logf("stopped in %v", took)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket file is left: %v", err)
	}

	cmd = launch()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("after SIGKILL the file should be there: %v", err)
	}
	cmd = launch()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
}
