package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestTheHistoryStoreIsChosenByURLOrByTheDatabaseInParts(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"history: {url: OFF}":                  "off",
		"history: {url: 'file:/x/h.db'}":       "file:/x/h.db",
		"history: {url: 'postgresql://h/db'}":  "postgres://h/db",
		"history: {url: 'mariadb://u@h:1/db'}": "mysql://u@h:1/db",
		"database: {host: db}":                 "postgres://db/weir",
		"database: {host: db, port: 5433, user: u, password: 'p@/', name: n}": "postgres://u:p%40%2F@db:5433/n",
		"database: {host: '::1', port: 3306, name: n}":                        "mysql://[::1]:3306/n",
		"database: {host: /run/postgresql, user: u, name: n}":                 "postgres://u@/n?host=%2Frun%2Fpostgresql",
		"database: {host: db}\nhistory: {url: off}":                           "off",
	} {
		if got := mustParse(t, text).History.URL.Reveal(); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestAStoreURLThatMakesNoSenseIsRefused(t *testing.T) {
	for _, url := range []string{"x", "http://h/db", "file:relative.db", "file://host/x", "postgres://h", "postgres://h/", "mysql://u@h:1", "postgres://h:x/db"} {
		_, _, err := Parse("f", []byte("history: {url: '"+url+"'}"), none)
		if err == nil || !strings.Contains(err.Error(), "history.url") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestEnginesShareModelsInADatabaseOrAFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/history.db", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"learn: {follow: true, share: 'file:" + dir + "'}":                                                "file:" + dir,
		"learn: {follow: true, share: 'file:" + dir + "/models'}":                                         "file:" + dir + "/models",
		"learn: {follow: true, share: 'mariadb://h/db'}":                                                  "mysql://h/db",
		"learn: {follow: true}\nhistory: {url: 'postgres://h/db'}":                                        "postgres://h/db",
		"learn: {follow: true, share: 'file:" + dir + "'}\nhistory: {url: 'file:" + dir + "/history.db'}": "file:" + dir,
		"learn: {enabled: true, federated: true, share: 'file:" + dir + "'}\nhistory: {url: off}":         "file:" + dir,
	} {
		if got := mustParse(t, text).Learn.Share.Reveal(); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"learn: {follow: true}": "set learn.share",
		"learn: {follow: true}\nhistory: {url: 'file:" + dir + "/history.db'}": "file:/var/lib/weir/models",
		"learn: {follow: true, share: 'file:" + dir + "/history.db'}":          dir + "/history.db is a file",
		"learn: {follow: true, share: off}":                                    "set learn.share",
	} {
		if _, _, err := Parse("f", []byte(text), none); err == nil || !strings.Contains(err.Error(), "learn") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestTheStoresPasswordIsNeverShown(t *testing.T) {
	for _, url := range []string{"postgres://u:hunter2@h/db", "postgres://h/db?user=u&password=hunter2"} {
		u := mustParse(t, "history: {url: '"+url+"'}").History.URL
		for _, verb := range []string{"%v", "%s", "%q", "%x", "%#v", "%+v"} {
			if text := fmt.Sprintf(verb, u); strings.Contains(text, "hunter2") || !strings.Contains(text, "xxxxx") {
				t.Errorf("%s of %s: %s", verb, url, text)
			}
		}
	}
	_, _, err := Parse("f", []byte("history: {url: 'ftp://u:hunter2@h/db'}"), none)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}
