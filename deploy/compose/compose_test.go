// Package compose holds what deploy/compose.yaml mounts. Its tests hold the file to the Dockerfiles and to what it mounts.
package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/weirlb/weir/engine/config"
)

type service struct {
	Build struct {
		Context, Dockerfile, Target string
	}
	Command     []string
	Environment map[string]string
	Volumes     []string
	Tmpfs       []string
	ReadOnly    bool `yaml:"read_only"`
	Networks    yaml.Node
}

func load(t *testing.T) map[string]service {
	t.Helper()
	var file struct {
		Services map[string]service
		Volumes  map[string]any
	}
	if err := yaml.Unmarshal([]byte(read(t, "../compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	for name, s := range file.Services {
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if _, ok := file.Volumes[source]; !ok && !strings.HasPrefix(source, "./") {
				t.Errorf("%s: volume %q is not declared", name, source)
			}
		}
	}
	return file.Services
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// target is where a source of volumes is mounted; empty when it is not.
func (s service) target(source string) string {
	for _, v := range s.Volumes {
		if part := strings.Split(v, ":"); part[0] == source {
			return part[1]
		}
	}
	return ""
}

func TestEveryServiceIsBuiltFromAFileThatIsThereAndMountsWhatIsThere(t *testing.T) {
	services := load(t)
	if len(services) < 4 {
		t.Fatalf("%d services", len(services))
	}
	for name, s := range services {
		dockerfile := read(t, filepath.Join("..", s.Build.Context, s.Build.Dockerfile))
		if s.Build.Target != "" && !strings.Contains(dockerfile, " AS "+s.Build.Target+"\n") {
			t.Errorf("%s: %s has no stage %s", name, s.Build.Dockerfile, s.Build.Target)
		}
		if !s.ReadOnly {
			t.Errorf("%s: its root can be written", name)
		}
		for _, v := range s.Volumes {
			source, rest, _ := strings.Cut(v, ":")
			if _, err := os.Stat(filepath.Join("..", source)); strings.HasPrefix(source, "./") && err != nil {
				t.Errorf("%s mounts %s: %v", name, source, err)
			}
			mounted, _, _ := strings.Cut(rest, ":")
			if !strings.Contains(dockerfile, mounted) {
				t.Errorf("%s mounts %s, which %s does not know", name, mounted, s.Build.Dockerfile)
			}
		}
	}
	if a, b := services["nginx"].target("run"), services["engine"].target("run"); a != "/run/weir" || a != b {
		t.Errorf("the socket's volume is at %q for NGINX and at %q for the engine", a, b)
	}
	// A later stage would be what a build without --target makes.
	engine := read(t, "../../Dockerfile.engine")
	if last := engine[strings.LastIndex(engine, "\nFROM "):]; !strings.HasPrefix(last, "\nFROM scratch AS engine\n") {
		t.Errorf("the last stage of Dockerfile.engine is %.40q", last)
	}
}

func TestTheEngineNGINXAndTheServicesAgreeOnThePeers(t *testing.T) {
	services := load(t)
	conf, warnings, err := config.Load("etc/weir.yaml", func(string) (string, bool) { return "", false })
	if err != nil || len(warnings) > 0 || len(conf.Pools) != 1 {
		t.Fatalf("weir.yaml: %v %v", err, warnings)
	}
	var engine, own []string
	for _, p := range conf.Pools[0].Peers {
		engine = append(engine, fmt.Sprint(p.Address))
	}
	address := regexp.MustCompile(`ipv4_address|\d+\.\d+\.\d+\.\d+`)
	for _, name := range []string{"app-a", "app-b", "app-c"} {
		text, err := yaml.Marshal(services[name].Networks)
		if err != nil {
			t.Fatal(err)
		}
		found := address.FindAllString(string(text), -1)
		listen := regexp.MustCompile(`0\.0\.0\.0(:\d+)`).FindStringSubmatch(strings.Join(services[name].Command, " "))
		if len(found) != 2 || listen == nil {
			t.Fatalf("%s: address %q, command %q", name, found, services[name].Command)
		}
		own = append(own, found[1]+listen[1])
	}
	want := strings.Join(own, ", ")
	if got := strings.Join(engine, ", "); got != want {
		t.Errorf("weir.yaml has %s, the services are %s", got, want)
	}
	if got := services["nginx"].Environment["APP_PEERS"]; got != want {
		t.Errorf("NGINX has %s, the services are %s", got, want)
	}
	if text := read(t, "templates/app.conf.template"); !strings.Contains(text, `balance("`+conf.Pools[0].Name+`", "${APP_PEERS}")`) {
		t.Errorf("the template does not balance over pool %s", conf.Pools[0].Name)
	}
}
