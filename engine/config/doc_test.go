package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rows gives the tables of the page by the key in their first column.
func rows(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for line := range strings.Lines(page(t)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		key := strings.TrimSpace(cells[0])
		if !strings.HasPrefix(key, "`") || !strings.HasPrefix(line, "|") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		key = strings.Trim(key, "`")
		if found[key] != nil {
			t.Errorf("%s is documented twice", key)
		}
		found[key] = cells
	}
	return found
}

// documented is the key as the page writes it: the settings of a pool stand there once, for `defaults` and for pools.
func documented(path string) string {
	if p, ok := strings.CutPrefix(path, "defaults."); ok {
		return p
	}
	if p, ok := strings.CutPrefix(path, "pools[]."); ok {
		if _, isSetting := find(properties(reflect.TypeFor[Settings]()), strings.Split(p, ".")[0]); isSetting {
			return p
		}
	}
	return path
}

func TestThePageHasEveryKeyWithItsDefaultAndRange(t *testing.T) {
	table := rows(t)
	known := map[string]bool{"defaults": true, "pools": true, "pools[].peers": true, "pools[].metrics": true, "pools[].dns": true, "check": true}
	for _, k := range Keys() {
		name := documented(k.Path)
		known[name] = true
		cells := table[name]
		if len(cells) != 4 {
			t.Errorf("%s: not in docs/configuration.md as a row of 4 cells", name)
			continue
		}
		want := "`" + k.Default + "`"
		if k.Default == "" {
			want = ""
		}
		if cells[1] != want {
			t.Errorf("%s: the page has the default %q, the code %q", name, cells[1], want)
		}
		if k.Range != "" && cells[2] != k.Range {
			t.Errorf("%s: the page has the values %q, the code %q", name, cells[2], k.Range)
		}
	}
	conventional := Conventional()
	for name, path := range conventional {
		if cells := table[name]; len(cells) != 2 || !strings.Contains(cells[1], "`"+path+"`") {
			t.Errorf("%s: not on the page as the variable of %s", name, path)
		}
	}
	for name := range table {
		if !known[name] && conventional[name] == "" {
			t.Errorf("%s: on the page, but not in the code", name)
		}
	}
}

func TestTheExamplesOnThePageAreValid(t *testing.T) {
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(page(t), -1)
	if len(examples) < 2 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, e := range examples {
		if _, warnings, err := Parse("example", []byte(e[1]), none); err != nil || len(warnings) > 0 {
			t.Errorf("%v, %v in\n%s", err, warnings, e[1])
		}
	}
}

func TestEveryNumberHasARange(t *testing.T) {
	for _, k := range Keys() {
		if k.Range == "" && regexp.MustCompile(`^[0-9.]+$`).MatchString(k.Default) && k.Path != "socket.mode" {
			t.Errorf("%s has none, so that only 0 would be allowed", k.Path)
		}
	}
}

func TestTheVariablesOnThePageExist(t *testing.T) {
	known := map[string]bool{"WEIR_SOCKET": true}
	for _, k := range Keys() {
		known[k.Variable] = true
	}
	for _, v := range regexp.MustCompile("`(WEIR_[A-Z_]*[A-Z])`").FindAllStringSubmatch(page(t), -1) {
		if !known[v[1]] {
			t.Errorf("no key has %s", v[1])
		}
	}
}

func TestEveryVariableSetsItsKey(t *testing.T) {
	good := map[string]string{
		"socket.path": "/x", "socket.mode": "0666", "admin.listen": "127.0.0.1:7", "log.level": "warn", "prometheus_url": "http://p", "defaults.objective": "p99",
		"defaults.check.path": "/x", "defaults.check.pass": "418", "defaults.check.method": "HEAD", "defaults.check.protocol": "grpc", "defaults.retry.tries": "1", "defaults.check.timeout_ms": "7",
		"defaults.check.interval_ms": "4444", "defaults.eject.max_ms": "70000", "defaults.max_stale_ms": "4444", "refresh_ms": "44", "defaults.retry.timeout_ms": "4444",
		"defaults.eject.interval_ms": "4444", "history.url": "off", "history.raw_days": "8", "defaults.policy": "analytic", "defaults.affinity.by": "cookie",
		"defaults.affinity.cookie.samesite": "Strict", "defaults.affinity.cookie.secure": "true", "defaults.affinity.cookie.httponly": "false",
		"defaults.affinity.cookie.path": "/x", "defaults.affinity.break_at": "7", "defaults.affinity.balance_factor": "7",
		"defaults.limit.adaptive": "true", "defaults.limit.tolerance": "2.5", "defaults.limit.normal": "0.9",
		"defaults.load_report.enabled": "false", "defaults.sizes": "false", "defaults.load_report.expire_ms": "4444",
		"learn.enabled": "true", "learn.every_ms": "44444", "learn.watch_ms": "44444", "learn.min_decisions": "777", "learn.decisions": "7777",
		"learn.follow": "true", "learn.federated": "true", "learn.share": "postgres://h/d",
	}
	for _, k := range Keys() {
		if k.Variable == "" || k.Path == "admin.token_file" {
			continue
		}
		value, ok := good[k.Path]
		switch {
		case ok:
		case strings.Contains(k.Default, "."):
			value = "0.125"
		default:
			value = "7"
		}
		text := "defaults: {check: {}}"
		if strings.HasPrefix(k.Path, "learn.f") { // takes something to share in, and to average
			text += "\nlearn: {enabled: true, share: postgres://h/d}"
		}
		c, _, err := Parse("f", []byte(text), vars(map[string]string{k.Variable: value}))
		if err != nil {
			t.Errorf("%s=%s: %v", k.Variable, value, err)
			continue
		}
		base, _, _ := Parse("f", []byte(text), none)
		if reflect.DeepEqual(c, base) {
			t.Errorf("%s=%s changes nothing", k.Variable, value)
		}
	}
}
