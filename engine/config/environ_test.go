package config

import (
	"strings"
	"testing"
)

func TestAVariableWinsOverTheFile(t *testing.T) {
	c, _, err := Parse("weir.yaml", []byte("admin: {listen: '127.0.0.1:1'}\ndefaults: {explore: 0.1}\npools: [{name: a}]"), vars(map[string]string{
		"WEIR_ADMIN_LISTEN":               "127.0.0.1:2",
		"WEIR_SOCKET":                     "/tmp/s",
		"WEIR_SOCKET_MODE":                "0600",
		"WEIR_LOG_LEVEL":                  "debug",
		"WEIR_REFRESH_MS":                 " 333 ",
		"WEIR_DEFAULTS_EXPLORE":           "0.2",
		"WEIR_DEFAULTS_RETRY_TRIES":       "1",
		"WEIR_DEFAULTS_CHECK_PATH":        "/up",
		"DB_HOST":                         "db",
		"DB_PORT":                         "5432",
		"DB_USER":                         "u",
		"DB_PASSWORD":                     "p",
		"DB_NAME":                         "n",
		"PROMETHEUS_URL":                  "http://prom:9090",
		"WEIR_INSTANCE":                   "",
		"WEIR_DEFAULTS_EJECT_CONSECUTIVE": "9",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if c.Admin.Listen != "127.0.0.1:2" || c.Socket != (Socket{"/tmp/s", 0o600, ""}) || c.Log.Level != "debug" || c.RefreshMS != 333 ||
		c.Database != (Database{"db", 5432, "u", "p", "n"}) || c.PrometheusURL != "http://prom:9090" || c.Instance == "" {
		t.Errorf("got %+v", *c)
	}
	if p := c.Pools[0]; p.Explore != 0.2 || p.Retry.Tries != 1 || p.Check.Path != "/up" || !p.Check.Enabled || p.Eject.Consecutive != 9 {
		t.Errorf("the pool has %+v", p)
	}
}

func TestAVariableFitsEveryFormTheFileMayHave(t *testing.T) {
	for _, text := range []string{"", "socket:", "socket: /x", "socket: {path: /x}", "socket: &s {path: /x}\nadmin: {}", "zone: &z a\nsocket:\n  path: /x\n"} {
		c, _, err := Parse("weir.yaml", []byte(text), vars(map[string]string{"WEIR_SOCKET_MODE": "0600", "WEIR_SOCKET_PATH": "/y"}))
		if err != nil || c.Socket != (Socket{"/y", 0o600, ""}) {
			t.Errorf("%q: %v, %+v", text, err, c)
		}
	}
	c, _, err := Parse("weir.yaml", []byte("socket: /x"), vars(map[string]string{"WEIR_SOCKET_MODE": "0600"}))
	if err != nil || c.Socket != (Socket{"/x", 0o600, ""}) {
		t.Errorf("the plain path was lost: %v, %+v", err, c)
	}
}

func TestAVariableChangesOnlyItsOwnUseOfASharedMapping(t *testing.T) {
	c, _, err := Parse("weir.yaml", []byte("pools: [{name: a, eject: &e {base_ms: 5}}]\ndefaults: {eject: *e}"), vars(map[string]string{"WEIR_DEFAULTS_EJECT_BASE_MS": "7"}))
	if err != nil || c.Defaults.Eject.BaseMS != 7 || c.Pools[0].Eject.BaseMS != 5 {
		t.Errorf("%v: %+v", err, c)
	}
}

func TestABadVariableIsNamed(t *testing.T) {
	got := refused(t, "refresh_ms: 100", vars(map[string]string{
		"WEIR_REFRESH_MS": "soon", "DB_PORT": "x", "WEIR_DEFAULTS_RETRY_TIMEOUT_MS": "5", "APP_PORT": "99999", "PROMETHEUS_URL": "u:secret@p",
	}))
	want := []string{
		`environment: APP_PORT: must be an address and a port, as "127.0.0.1:9180" or "[::1]:9180", is "127.0.0.1:99999"`,
		`environment: DB_PORT: must be a whole number from 0 to 65535, is "x"`,
		`environment: PROMETHEUS_URL: must be an http or https URL, as "http://127.0.0.1:9090", is something else`,
		`environment: WEIR_DEFAULTS_RETRY_TIMEOUT_MS: retry.timeout_ms (5) must be greater than connect_timeout_ms (1000) when retry.tries is 3: one connect that times out would use up all the time for another try`,
		`environment: WEIR_REFRESH_MS: must be a whole number from 10 to 60000, is "soon"`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAppPortKeepsTheHostOfTheListener(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "127.0.0.1:7000"},
		{"admin: {listen: '[::1]:9'}", "[::1]:7000"},
		{"admin: {listen: 'localhost:9'}", "localhost:7000"},
	} {
		got, _, err := Parse("weir.yaml", []byte(c.text), vars(map[string]string{"APP_PORT": "7000"}))
		if err != nil || got.Admin.Listen != c.want {
			t.Errorf("%q: %v, %+v", c.text, err, got)
		}
	}
	got, _, err := Parse("weir.yaml", nil, vars(map[string]string{"APP_PORT": "7000", "WEIR_ADMIN_LISTEN": "127.0.0.1:8"}))
	if err != nil || got.Admin.Listen != "127.0.0.1:8" {
		t.Errorf("WEIR_ADMIN_LISTEN does not win over APP_PORT: %v, %+v", err, got)
	}
}

// A Kubernetes service named "db" or "app" sets such variables in every pod of its namespace.
func TestAKubernetesServiceLinkIsNoPort(t *testing.T) {
	c, ws, err := Parse("weir.yaml", []byte("database: {host: db, port: 3}\npools: [{name: a, peers: ['10.0.0.1:1']}]"), vars(map[string]string{
		"DB_PORT": "tcp://10.0.0.1:5432", "APP_PORT": "tcp://10.0.0.2:80",
	}))
	if err != nil || c.Database.Port != 3 || c.Admin.Listen != "127.0.0.1:9180" || len(ws) != 2 ||
		ws[1].String() != "environment: DB_PORT: looks like a Kubernetes service link, not a port: ignored; use WEIR_DATABASE_PORT" {
		t.Errorf("%v, %+v, %v", err, c, ws)
	}
}

func TestAnUnknownWeirVariableIsAWarning(t *testing.T) {
	ws := UnknownVariables([]string{
		"WEIR_REFRESH=5", "PATH=/bin", "WEIR_CONFIG=/x", "WEIR_SOCKET=/x", "WEIR_REFRESH_MS=5", "WEIR_POOLS_0_NAME=a", "WEIR_TOKEN=hunter2",
		"WEIR_PORT=tcp://10.0.0.1:80", "WEIR_SERVICE_HOST=10.0.0.1", "WEIR_ENGINE_PORT_9180_TCP_ADDR=10.0.0.1", "WEIR_SERVICE_PORT_HTTP=80",
	})
	var got []string
	for _, w := range ws {
		got = append(got, w.String())
	}
	want := []string{
		"environment: WEIR_POOLS_0_NAME: no setting has this variable: it is ignored; pools are set in the file, or all at once by WEIR_DEFAULTS_...",
		"environment: WEIR_REFRESH: no setting has this variable: it is ignored",
		"environment: WEIR_TOKEN: no setting has this variable: it is ignored",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if ws := UnknownVariables([]string{"WEIR_LOG_LEVLE=x"}); len(ws) != 1 || !strings.HasSuffix(ws[0].Message, "did you mean WEIR_LOG_LEVEL?") {
		t.Errorf("got %v", ws)
	}
}

func TestAVariableSetToNothingCountsAsNotSet(t *testing.T) {
	for _, v := range []string{"", "  "} {
		c, _, err := Parse("weir.yaml", []byte("refresh_ms: 77"), vars(map[string]string{"WEIR_REFRESH_MS": v, "WEIR_SOCKET": v, "APP_PORT": v}))
		if err != nil || c.RefreshMS != 77 || c.Socket != Default().Socket || c.Admin != Default().Admin {
			t.Errorf("%q: %v, %+v", v, err, c)
		}
	}
}
