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
		"database: {host: '::1'}":                                             "postgres://[::1]/weir",
		"database: {host: '[2001:db8::5]'}":                                   "postgres://[2001:db8::5]/weir",
		"database: {host: 'db:5433'}":                                         "postgres://db:5433/weir",
		"database: {host: '10.0.0.5,10.0.0.6', port: 5433}":                   "postgres://10.0.0.5,10.0.0.6:5433/weir",
		"database: {host: /run/postgresql, user: u, name: n}":                 "postgres://u@/n?host=%2Frun%2Fpostgresql",
		"database: {host: db}\nhistory: {url: off}":                           "off",
	} {
		if got := mustParse(t, text).History.URL.Reveal(); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestAStoreURLThatMakesNoSenseIsRefused(t *testing.T) {
	for _, url := range []string{"x", "http://h/db", "file:relative.db", "file://host/x", "postgres://h", "postgres://h/", "mysql://u@h:1", "postgres://h:x/db", "postgres://h:99999/db", "mysql://h:0/db"} {
		_, _, err := Parse("f", []byte("history: {url: '"+url+"'}"), none)
		if err == nil || !strings.Contains(err.Error(), "history.url") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// The engine would take a host that is none for a database that is down, for ever, and speak of a history.url that nobody set.
func TestADatabaseHostThatIsNoneIsRefusedByItsName(t *testing.T) {
	for _, parts := range []string{
		"host: a b", "host: a b, port: 5432", "host: 'db:5432', port: 5433", "host: h/db", "host: h/db, port: 5432",
		"host: 'postgres://u:hunter2@h/db'", "host: 'postgres://u:hunter2@h/db', port: 5432", "host: 'u:hunter2@h'",
	} {
		_, _, err := Parse("f", []byte("database: {"+parts+"}"), none)
		if err == nil || !strings.Contains(err.Error(), "database.host") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", parts, err)
		}
	}
}

// A parameter that nobody reads, as one for TLS with a slip in it, would send the password in the clear.
func TestAParameterOfAStoreThatWouldBePassedOverIsRefused(t *testing.T) {
	for url, want := range map[string]string{
		"mysql://u@h/db?tsl=true":         `"tsl"`,
		"mysql://u@h/db?sslmode=require":  "tls=true",
		"mysql://u@h/db?tls=yes":          "skip-verify",
		"postgres://u@h/db?tls=true":      "sslmode=require",
		"mysql://u:1/2@h/db":              "%2F", // the rest of the password would be the database's name
		"postgres://u:hun/ter@h:5432/db":  "%2F",
		"postgres://u:hun%ter@h:5432/db":  "%25",
		"mysql://u:1/hunter@h/db?tls=yes": "%2F",
	} {
		for _, text := range []string{"history: {url: '" + url + "'}", "learn: {follow: true, share: '" + url + "'}"} {
			_, _, err := Parse("f", []byte(text), none)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "ter@") {
				t.Errorf("%s: %v, want %q", text, err, want)
			}
		}
	}
	for _, url := range []string{"mysql://u@h/db?tls=true&tls_ca=/ca.pem", "mysql://u@/db?socket=/s", "postgres://u@h/db?sslmode=require&application_name=x", "postgres://u:p%2F%40@h/db"} {
		mustParse(t, "history: {url: '"+url+"'}\nlearn: {follow: true, share: '"+url+"'}")
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

// DB_HOST misspelt left the history in a file, without a word.
func TestADatabaseWithoutAHostIsTold(t *testing.T) {
	for text, want := range map[string]string{
		"database: {port: 5432, user: weir}":                  "f:1: database.port: counts for nothing without database.host (DB_HOST)",
		"database: {password: geheim}":                        "f:1: database.password: counts for nothing",
		"database: {host: db, user: weir}":                    "",
		"database: {user: weir}\nhistory: {url: off}":         "",
		"database: {user: weir}\nhistory: {url: 'file:/a.b'}": "",
	} {
		_, warnings, err := Parse("f", []byte(text+"\npools: []"), none)
		said := ""
		for _, w := range warnings {
			if !strings.Contains(w.Message, "no pools") {
				said += w.String()
			}
		}
		if err != nil || want == "" && said != "" || !strings.Contains(said, want) || strings.Contains(said, "geheim") {
			t.Errorf("%s: %q, %v, want %q", text, said, err, want)
		}
	}
}
