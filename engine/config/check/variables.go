package check

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/config/nginxconf"
)

// Keys of affinity, splits and rate limits are read in Lua, to which a variable that NGINX does not have is empty. In NGINX's own configuration it
// would be refused. So the names are looked at here; lua/resty/weir/doubt.lua says it in the error log.

// builtin are the variables of NGINX's own modules, up to 1.29. A name too many only means that a mistake is not told.
var builtin = words(`ancient_browser args binary_remote_addr body_bytes_sent bytes_sent connection connection_requests connection_time connections_active connections_reading
connections_waiting connections_writing content_length content_type date_gmt date_local document_root document_uri geoip_area_code geoip_city geoip_city_continent_code
geoip_city_country_code geoip_city_country_code3 geoip_city_country_name geoip_country_code geoip_country_code3 geoip_country_name geoip_dma_code geoip_latitude geoip_longitude
geoip_org geoip_postal_code geoip_region geoip_region_name host hostname http2 http3 https invalid_referer is_args is_request_port limit_conn_status limit_rate limit_req_status memcached_key
modern_browser msec msie nginx_version pid pipe proxy_protocol_addr proxy_protocol_port proxy_protocol_server_addr proxy_protocol_server_port query_string quic
realip_remote_addr realip_remote_port realpath_root remote_addr remote_port remote_user request request_body request_body_file request_completion request_filename request_id
request_length request_method request_port request_time request_uri scheme secure_link secure_link_expires server_addr server_name server_port server_protocol session_log_binary_id session_log_id
slice_range spdy spdy_request_priority ssl_alpn_protocol ssl_cipher ssl_ciphers ssl_client_cert ssl_client_escaped_cert ssl_client_fingerprint ssl_client_i_dn ssl_client_i_dn_legacy
ssl_client_raw_cert ssl_client_s_dn ssl_client_s_dn_legacy ssl_client_serial ssl_client_sigalg ssl_client_v_end ssl_client_v_remain ssl_client_v_start ssl_client_verify ssl_curve ssl_curves
ssl_early_data ssl_ech_outer_server_name ssl_ech_status ssl_encrypted_hello ssl_protocol ssl_server_name ssl_session_id ssl_session_reused ssl_sigalg status tcpinfo_rcv_space
tcpinfo_rtt tcpinfo_rttvar tcpinfo_snd_cwnd time_iso8601 time_local uid_got uid_reset uid_set upstream_addr upstream_bytes_received upstream_bytes_sent upstream_cache_age upstream_cache_key
upstream_cache_status upstream_connect_time upstream_first_byte_time upstream_header_time upstream_last_server_name upstream_queue_time upstream_response_length upstream_response_time
upstream_session_time upstream_status uri`)

// unreadable are those that NGINX keeps out of the table in which Lua looks (NGX_HTTP_VAR_NOHASH).
var unreadable = words(`fastcgi_path_info fastcgi_script_name gzip_ratio proxy_add_x_forwarded_for proxy_host proxy_internal_body_length proxy_internal_chunked proxy_port
upstream_cache_etag upstream_cache_last_modified`)

// prefixes are those of which NGINX makes variables of any name. jwt_ is NGINX Plus's.
var prefixes = [...]string{
	"http_", "cookie_", "arg_", "sent_http_", "sent_trailer_", "upstream_http_", "upstream_cookie_", "upstream_trailer_", "proxy_protocol_tlv_", "jwt_header_", "jwt_claim_",
}

// meant are those of the prefixes that a key is likely to have.
var meant = prefixes[:3]

func words(text string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(text) {
		set[w] = true
	}
	return set
}

var (
	variable = regexp.MustCompile(`\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))`)
	capture  = regexp.MustCompile(`\(\?P?[<']([A-Za-z_][A-Za-z0-9_]*)[>']`)
	hyphened = regexp.MustCompile(`\$((?:http|cookie|arg)_[A-Za-z0-9_]*)(-[A-Za-z0-9_-]+)`)
)

// mentions notes the variables that the http blocks speak of, wherever: NGINX refuses a configuration that speaks of one it does not have, so these it has,
// whichever directive of whichever module makes them.
func mentions(block []*nginxconf.Directive, into map[string]bool) {
	for _, d := range block {
		for _, arg := range append([]string{d.Name}, d.Args...) { // the name of an entry of a map is what it is for
			for _, m := range variable.FindAllStringSubmatch(arg, -1) {
				into[strings.ToLower(m[1]+m[2])] = true
			}
			for _, m := range capture.FindAllStringSubmatch(arg, -1) {
				into[strings.ToLower(m[1])] = true
			}
		}
		mentions(d.Block, into)
	}
}

// keys looks at the keys in weir.yaml.
func (c *checker) keys() {
	for i := range c.cfg.Pools {
		p := &c.cfg.Pools[i]
		if p.Affinity.By == config.AffinityHash {
			c.key(c.cfgPath, p.Line, "affinity.key", fmt.Sprintf("the affinity key of pool %q", p.Name), p.Affinity.Key, "requests are placed as without affinity")
		}
		if p.Split.Key != "" {
			c.key(c.cfgPath, p.Line, "split.key", fmt.Sprintf("the split's key of pool %q", p.Name), p.Split.Key, "each request is drawn for itself")
		}
	}
}

// key looks at one: what it is, its text, and what becomes of requests for which it is empty.
func (c *checker) key(file string, line int, place, what, text, otherwise string) {
	for _, m := range hyphened.FindAllStringSubmatch(text, -1) {
		right := "no variable of NGINX has a - in its name: `map` one of your own from it"
		if strings.HasPrefix(m[1], "http_") {
			right = "write $" + m[1] + strings.ReplaceAll(m[2], "-", "_")
		}
		c.warnf(file, line, place, "%s reads $%s with the text %q behind it; %s, or ${%s}%s if this is meant", what, m[1], m[2], right, m[1], m[2])
	}
	all := variable.FindAllStringSubmatch(text, -1)
	if len(all) > 1 {
		otherwise = "it counts as empty"
	}
	for _, m := range all {
		name := strings.ToLower(m[1] + m[2])
		if unreadable[name] {
			c.errorf(file, line, place, "%s reads $%s, which NGINX has for its own directives and does not give to Lua: %s; `set` or `map` a variable of your own from it", what, name, otherwise)
			continue
		}
		if builtin[name] || c.mentioned == nil || c.mentioned[name] ||
			slices.ContainsFunc(prefixes[:], func(p string) bool { return strings.HasPrefix(name, p) && len(name) > len(p) }) {
			continue
		}
		if near := c.nearVariable(name); near != "" {
			c.warnf(file, line, place, "%s reads $%s, which neither NGINX's own modules have nor the NGINX configuration speaks of: %s; did you mean $%s?", what, name, otherwise, near)
			continue
		}
		c.notef(file, line, place, "%s reads $%s, which neither NGINX's own modules have nor the NGINX configuration speaks of: unless another module has it, %s", what, name, otherwise)
	}
}

// nearVariable finds what was probably meant; "" = nothing is near.
func (c *checker) nearVariable(name string) string {
	if word, rest, ok := strings.Cut(name, "_"); ok && rest != "" {
		var stems []string
		for _, p := range meant {
			stems = append(stems, strings.TrimSuffix(p, "_"))
		}
		if stem := config.Nearest(word, stems); stem != "" {
			return stem + "_" + rest
		}
	}
	known := slices.Concat(slices.Sorted(maps.Keys(c.mentioned)), slices.Sorted(maps.Keys(builtin)))
	return config.Nearest(name, known)
}
