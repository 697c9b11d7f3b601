package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const hunter = "hunter2hunter2hunter2"

func TestNoWayOfPrintingShowsASecret(t *testing.T) {
	c := mustParse(t, "admin: {token: "+hunter+"}\ndatabase: {password: "+hunter+"}\nprometheus_url: http://u:"+hunter+"@p:9090/")
	hex := fmt.Sprintf("%x", hunter)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{*c, c, c.Admin, c.Database, c.Admin.Token, c.PrometheusURL, []Secret{c.Admin.Token}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, hunter) || strings.Contains(s, hex) {
				t.Errorf("%s shows it: %s", verb, s)
			}
		}
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		s, err := marshal(c)
		if err != nil || strings.Contains(string(s), hunter) {
			t.Errorf("%v: %s", err, s)
		}
	}
	if c.Admin.Token.Reveal() != hunter || c.PrometheusURL.Reveal() != "http://u:"+hunter+"@p:9090/" {
		t.Error("Reveal does not give the secret")
	}
}

// Each of these is a plausible slip that puts a secret where the reader does not expect one.
func TestNoErrorShowsASecret(t *testing.T) {
	for _, text := range []string{
		"admin: {token: [" + hunter + "]}",
		"admin: {token: {" + hunter + ": x}}",
		"admin: {token:" + hunter + "}",
		"admin: token:" + hunter,
		"admin: {token: *" + hunter + "}",
		"admin: {token: &" + hunter + " }\nx: 1",
		"admin: {token: \"" + hunter + " with spaces\"}",
		"admin:\n  token: " + hunter + "\n  token: " + hunter,
		"admin: {token: x, token_file: " + hunter + "}",
		"database: {password: !!int " + hunter + "}\nx: 1",
		"database: {password: [" + hunter + "]}",
		"database: {pasword: " + hunter + "}",
		"database: " + hunter,
		"prometheus_url: ftp://u:" + hunter + "@p",
		"prometheus_url: http://u:" + hunter + "%zz@p",
		"prometheus_url: [http://u:" + hunter + "@p]",
		"admin: {token: \"" + hunter + "}",
		"admin: {token: '" + hunter + "\n",
		"admin: {token: %" + hunter + "}",
		"admin: {token: @" + hunter + "}",
		"admin: {token: `" + hunter + "}",
		"admin: {token: !" + hunter + "}\nx: 1",
		"%TAG ! " + hunter + "\n---\na: b",
		"database:\n  password: " + hunter + ": x\n",
	} {
		if got := strings.Join(refused(t, text, none), "\n"); strings.Contains(got, hunter) {
			t.Errorf("%q shows it:\n%s", text, got)
		}
	}
	got := strings.Join(refused(t, "x: 1", vars(map[string]string{"WEIR_ADMIN_TOKEN": hunter + " x", "WEIR_PROMETHEUS_URL": hunter, "DB_PASSWORD": hunter})), "\n")
	if strings.Contains(got, hunter) {
		t.Errorf("the environment shows it:\n%s", got)
	}
}
