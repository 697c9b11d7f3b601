package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/exchange"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/test/dbserver"
)

// sharer is `weir serve` in a process of its own, with a model and a database that it shares models in.
type sharer struct {
	t     *testing.T
	name  string
	dir   string
	admin string
	cmd   *exec.Cmd
	log   *output
}

// startSharer starts one that is to serve a model: its own, or one that it hears of.
func startSharer(t *testing.T, name, url, learn string, file, want []byte) *sharer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sharer{t: t, name: name, dir: t.TempDir(), admin: l.Addr().String(), log: &output{}}
	_ = l.Close()
	s.model(file)
	yaml := fmt.Sprintf("socket: %s/engine.sock\nadmin: {listen: %q}\ninstance: %s\nzone: z1\nhistory: {url: \"off\"}\nmodel: {file: model.onnx, library: builtin}\nlearn: {share: %q, %s}\npools: [{name: api, peers: ['127.0.0.1:1', '127.0.0.1:2']}]\n",
		s.dir, s.admin, name, url, learn)
	if err := os.WriteFile(s.dir+"/weir.yaml", []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(os.Args[0], "-test.run=^TestServeForAnother$")
	s.cmd.Env = append(os.Environ(), "TEST_WEIR_SERVE="+s.dir+"/weir.yaml")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("engine %s:\n%s", name, s.log)
		}
	})
	within(t, 30*time.Second, "engine "+name+" serves its model", func() bool { return s.serves() == model.ID(want) })
	return s
}

func (s *sharer) model(file []byte) {
	s.t.Helper()
	path := filepath.Join(s.dir, "model.onnx")
	if err := errors.Join(os.WriteFile(path+".new", file, 0o600), os.Rename(path+".new", path)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sharer) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

func (s *sharer) call(method, path, body string) string {
	req, err := http.NewRequest(method, "http://"+s.admin+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return string(text)
}

func (s *sharer) serves() string {
	var m struct{ Serves string }
	_ = json.Unmarshal([]byte(s.call("GET", "/api/models", "")), &m)
	return m.Serves
}

// made is a model file, told apart by its bias.
func made(t *testing.T, bias float32, features ...string) []byte {
	t.Helper()
	if features == nil {
		features = decide.InputNames()
	}
	net := model.New([]int{len(features), 1}, nil)
	net.B[0][0] = bias
	file, err := model.Encode(net, model.Meta{Features: features, Heads: []string{decide.Head}, Card: map[string]string{"name": fmt.Sprint(bias)}})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// noNumber is a file in which the bias is NaN. No encoder would write it.
func noNumber(t *testing.T) []byte {
	const bias = 0.123456789
	raw := func(x float32) []byte { return binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)) }
	file := made(t, bias)
	if bytes.Count(file, raw(bias)) != 1 {
		t.Fatal("the bias is not in the file once")
	}
	return bytes.Replace(file, raw(bias), raw(float32(math.NaN())), 1)
}

// place is where models are shared, which can be away for a while.
type place interface {
	Kill()
	Start() error
}

// folder is a place without a server. It is away while a file has its name.
type folder string

func (f folder) Kill() {
	_ = os.Rename(string(f), string(f)+".away")
	_ = os.WriteFile(string(f), nil, 0o600)
}

func (f folder) Start() error {
	return errors.Join(os.Remove(string(f)), os.Rename(string(f)+".away", string(f)))
}

// sharing runs a test on a folder and on a real server of each kind.
func sharing(t *testing.T, do func(t *testing.T, server place, url string)) {
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "models")
		do(t, folder(path), "file:"+path)
	})
	sharingServers(t, do)
}

func sharingServers(t *testing.T, do func(t *testing.T, server place, url string)) {
	for name, begin := range map[string]func() (*dbserver.Server, error){"PostgreSQL": dbserver.Postgres, "MariaDB": dbserver.MariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := begin()
			if errors.Is(err, dbserver.ErrNotInstalled) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Remove)
			_, url, err := server.Database()
			if err != nil {
				t.Fatal(err)
			}
			do(t, server, url)
		})
	}
}

// stranger publishes as an engine of a name would.
func stranger(t *testing.T, url, name string, p exchange.Publication) {
	t.Helper()
	x, err := exchange.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	p.Instance, p.Engine, p.Model = name, name, model.ID(p.File)
	if err := x.Publish(context.Background(), p); err != nil {
		t.Fatal(err)
	}
}

func TestMigrateMakesTheTablesOfModelsThatAreSharedElsewhereThanHistory(t *testing.T) {
	sharingServers(t, func(t *testing.T, _ place, url string) {
		for _, history := range []string{`{url: "off"}`, "{dir: h}"} {
			file := filepath.Join(t.TempDir(), "weir.yaml")
			if err := os.WriteFile(file, fmt.Appendf(nil, "history: %s\nlearn: {follow: true, share: %q}\n%s", history, url, onePool), 0o600); err != nil {
				t.Fatal(err)
			}
			if code, out, _ := weir("migrate", "--config", file, "status"); code != 1 || !strings.Contains(out, "shared_models") {
				t.Errorf("before: %d %s", code, out)
			}
			if code, out, errs := weir("migrate", "--config", file, "up"); code != 0 || strings.Contains(out, "weir@") || strings.Count(out, "up to date") != strings.Count(history, "dir")+1 {
				t.Errorf("up: %d %s %s", code, out, errs)
			}
			if code, out, _ := weir("migrate", "--config", file, "status"); code != 0 || strings.Contains(out, "not applied") {
				t.Errorf("after: %d %s", code, out)
			}
		}
	})
}

func TestAModelThatOneEnginePromotesIsFollowedByTheOthersAndAWithdrawnOneLeft(t *testing.T) {
	sharing(t, func(t *testing.T, server place, url string) {
		first, better := made(t, 0), made(t, 0.01)
		a := startSharer(t, "a", url, "follow: true", better, better)
		b := startSharer(t, "b", url, "follow: true", first, first)
		c := startSharer(t, "c", url, "follow: true", first, first)
		all := []*sharer{a, b, c}
		serve := func(file []byte, who ...*sharer) {
			t.Helper()
			for _, s := range who {
				within(t, 15*time.Second, fmt.Sprintf("%s serves %s", s.name, model.ID(file)), func() bool { return s.serves() == model.ID(file) })
			}
		}
		a.model(first)
		_ = a.cmd.Process.Signal(syscall.SIGHUP)
		serve(first, a)
		a.call("POST", "/api/models/"+model.ID(better)+"/promote", `{"why": "it is better"}`)
		serve(better, all...)
		if said := b.call("GET", "/api/models", ""); !strings.Contains(said, "engine a in zone z1: operator: it is better") {
			t.Errorf("b does not say whose word it took: %s", said)
		}
		// An engine that starts later hears of it too.
		d := startSharer(t, "d", url, "follow: true", first, better)
		all = append(all, d)

		// What is no model for this engine is refused, and what serves goes on.
		for _, bad := range []struct {
			file []byte
			why  string
		}{
			{noNumber(t), "NaN"},
			{made(t, 0.5, "one", "two"), "was made for another engine"},
			{[]byte("no model at all"), "promoted by engine bad"},
			{nil, "promoted by engine bad"},
		} {
			stranger(t, url, "bad", exchange.Publication{Kind: exchange.Promoted, File: bad.file, Why: "trust me"})
			for _, s := range all {
				within(t, 15*time.Second, s.name+" refuses it: "+bad.why, func() bool {
					said := s.call("GET", "/api/models", "")
					return strings.Contains(said, `"event":"refused","model":"`+model.ID(bad.file)+`"`) && strings.Contains(said, bad.why)
				})
			}
		}
		serve(better, all...)

		// While the database is away nothing is followed, and it is told. What was promoted meanwhile is told when it is back.
		server.Kill()
		within(t, 30*time.Second, "the health tells", func() bool { return strings.Contains(a.call("GET", "/api/health", ""), `"code":"sharing"`) })
		a.call("POST", "/api/models/"+model.ID(better)+"/rollback", "")
		serve(first, a)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			within(t, 60*time.Second, s.name+" leaves what was withdrawn", func() bool { return s.serves() == model.ID(first) })
		}
		if n := strings.Count(a.log.String(), "models cannot be shared with other engines"); n != 1 {
			t.Errorf("the outage has %d lines", n)
		}
	})
}

func TestTheElectedEngineAveragesWhatOthersTrainAndIsReplacedWhenItDies(t *testing.T) {
	sharing(t, func(t *testing.T, _ place, url string) {
		base := made(t, 0)
		const learn = "enabled: true, federated: true, every_ms: 10000"
		const elected = "this engine averages the models of all from now on"
		engines := []*sharer{startSharer(t, "a", url, learn, base, base), startSharer(t, "b", url, learn, base, base)}
		leader := func() (found *sharer) {
			t.Helper()
			within(t, 30*time.Second, "an engine is elected", func() bool {
				for _, s := range engines {
					if s.cmd.ProcessState == nil && strings.Contains(s.log.String(), elected) {
						found = s
					}
				}
				return found != nil
			})
			return found
		}
		contribute := func(name string, file []byte, samples int64) {
			stranger(t, url, name, exchange.Publication{Kind: exchange.Trained, File: file, Base: model.ID(base), Samples: samples})
		}
		first := leader()
		// What cannot be averaged is refused; the others are averaged without it.
		contribute("nan", noNumber(t), 50)
		contribute("wide", made(t, 1, "one", "two"), 50)
		contribute("none", made(t, 1), 0)
		contribute("x", made(t, 0.01), 300)
		contribute("y", made(t, 0.02), 100)
		within(t, 40*time.Second, "what x and y trained is averaged", func() bool {
			said := first.call("GET", "/api/models", "")
			return strings.Contains(said, `"event":"averaged"`) && strings.Contains(said, "400 decisions of engine x, engine y")
		})
		said := first.call("GET", "/api/models", "")
		for _, why := range []string{"trained by engine nan: engine nan: ", "trained by engine wide: engine wide: model", "trained by engine none: it claims to be trained on 0 decisions"} {
			if !strings.Contains(said, why) {
				t.Errorf("%q is not told: %s", why, said)
			}
		}
		if first.serves() != model.ID(base) {
			t.Error("an average serves that nobody judged")
		}

		first.kill()
		second := leader()
		contribute("x", made(t, 0.03), 300)
		contribute("y", made(t, 0.04), 200)
		within(t, 40*time.Second, "the other one averages", func() bool {
			return strings.Contains(second.call("GET", "/api/models", ""), "500 decisions of engine x, engine y")
		})
	})
}
