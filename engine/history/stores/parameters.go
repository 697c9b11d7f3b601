package stores

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/weirlb/weir/engine/config"
)

// A parameter that the driver of PostgreSQL does not know it sends to the server as a setting of the session, of which servers have hundreds, and one
// that the server does not have ends every connection. So those are refused that were probably meant to be one of the driver's, the store's or
// every server's, and those of libpq that the driver lacks.
var (
	postgresKnows = []string{
		"host", "port", "user", "password", "dbname", "database", "passfile", "connect_timeout", "sslmode", "sslkey", "sslcert", "sslcertmode", "sslrootcert", "sslnegotiation", "sslpassword",
		"sslsni", "krbspn", "krbsrvname", "target_session_attrs", "service", "servicefile", "min_protocol_version", "max_protocol_version", "channel_binding", "require_auth",
		"pool_max_conns", "pool_min_conns", "pool_min_idle_conns", "pool_max_conn_lifetime", "pool_max_conn_idle_time", "pool_health_check_period",
		"pool_max_conn_lifetime_jitter", "pool_ping_timeout", "default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity", "weir_copy",
	}
	// postgresSettings are settings that every server has, in whatever case.
	postgresSettings = []string{
		"application_name", "options", "search_path", "client_encoding", "timezone", "statement_timeout", "lock_timeout", "transaction_timeout", "idle_session_timeout",
		"idle_in_transaction_session_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout", "synchronous_commit",
	}
	postgresLacks = []string{
		"hostaddr", "fallback_application_name", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "gssencmode", "gsslib", "gssdelegation",
		"sslcompression", "sslcrl", "sslcrldir", "ssl_max_protocol_version", "requirepeer", "requiressl", "load_balance_hosts",
	}
)

// postgresParameters tells which parameter of a URL no server would take. Values are not shown: one may be a password.
func postgresParameters(u *url.URL) error {
	for _, name := range slices.Sorted(maps.Keys(u.Query())) {
		switch {
		case slices.Contains(postgresKnows, name), slices.ContainsFunc(postgresSettings, func(s string) bool { return strings.EqualFold(s, name) }), strings.Contains(name, "."): // with a dot: an extension's
		case slices.Contains(postgresLacks, name):
			return fmt.Errorf("its parameter %s is one of libpq that Weir has not, and no setting of a server, which would refuse it: leave it out", name)
		default:
			if near := config.Nearest(name, slices.Concat(postgresKnows, postgresSettings)); near != "" {
				return fmt.Errorf("it has a parameter %.64q, which the server would refuse: is %s meant?", name, near)
			}
		}
	}
	return nil
}
