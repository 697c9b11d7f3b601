package check

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/weirlb/weir/engine/config/nginxconf"
)

// rateLimit is what rate() is told: "rate=500r/s burst=100 key=$binary_remote_addr zone=weir_rate name=logins".
type rateLimit struct {
	GapMS     float64 // between requests at the rate
	Burst     int
	Key, Zone string
	Name      string
}

const maxRate, maxBurst = 1e6, 1e6

var (
	rateWord  = regexp.MustCompile(`^([a-z]+)=(.+)$`)
	rateValue = regexp.MustCompile(`^([0-9]+\.?[0-9]*)r/([smh])$`)
	digits    = regexp.MustCompile(`^[0-9]+$`)
)

// parseRate reads the words as lua/resty/weir/rate.lua does; test/vectors/rate.json holds the two together.
func parseRate(text string) (rateLimit, error) {
	l := rateLimit{Key: "$binary_remote_addr", Zone: "weir_rate"}
	seen := map[string]bool{}
	for _, word := range strings.Fields(text) {
		m := rateWord.FindStringSubmatch(word)
		if m == nil {
			m = []string{"", "", ""}
		}
		name, value := m[1], m[2]
		switch name {
		case "rate", "burst", "key", "zone", "name":
		default:
			return l, fmt.Errorf(`"%s" is none of rate=, burst=, key=, zone=, name=`, word)
		}
		if seen[name] {
			return l, fmt.Errorf("%s is there twice", name)
		}
		seen[name] = true
		switch name {
		case "rate":
			v := rateValue.FindStringSubmatch(value)
			n := 0.0
			if v != nil {
				n, _ = strconv.ParseFloat(v[1], 64)
				n /= map[string]float64{"s": 1, "m": 60, "h": 3600}[v[2]]
			}
			if !(n > 0) || n > maxRate {
				return l, fmt.Errorf(`"%s" is not like 500r/s, 30r/m or 10r/h, above 0 and up to %.0fr/s`, word, maxRate)
			}
			l.GapMS = 1000 / n
		case "burst":
			n, err := strconv.Atoi(value)
			if err != nil || !digits.MatchString(value) || n > maxBurst {
				return l, fmt.Errorf(`"%s" is not a whole number from 0 to %.0f`, word, maxBurst)
			}
			l.Burst = n
		case "key":
			l.Key = value
		case "zone":
			l.Zone = value
		case "name":
			l.Name = value
		}
	}
	if l.GapMS == 0 {
		return l, fmt.Errorf(`there is no rate, as in "rate=500r/s"`)
	}
	return l, nil
}

// zones notes what limits of an http block count in: shared dictionaries, and the zones of NGINX's own.
func (c *checker) zones(http *nginxconf.Directive) {
	c.dicts, c.reqZones = map[string]bool{}, map[string]float64{}
	for _, d := range http.Block {
		if d.Name == "lua_shared_dict" && len(d.Args) > 0 {
			c.dicts[d.Args[0]] = true
		}
		if d.Name != "limit_req_zone" {
			continue
		}
		zone, perS := "", 0.0
		for _, arg := range d.Args {
			if v, ok := strings.CutPrefix(arg, "zone="); ok {
				zone, _, _ = strings.Cut(v, ":")
			}
			if v, ok := strings.CutPrefix(arg, "rate="); ok {
				perS = requestsPerS(v)
			}
		}
		c.reqZones[zone] = perS
	}
}

// requestsPerS reads 50r/s or 30r/m; 0 when it is neither.
func requestsPerS(rate string) float64 {
	number, perMinute := strings.CutSuffix(rate, "r/m")
	if !perMinute {
		number = strings.TrimSuffix(rate, "r/s")
	}
	n, err := strconv.Atoi(number)
	if err != nil || number == rate {
		return 0
	}
	if perMinute {
		return float64(n) / 60
	}
	return float64(n)
}

// limitReq warns of a rate that NGINX's own limiter cannot keep: its clock has whole milliseconds, and without a burst it lets in one request each.
func (c *checker) limitReq(d *nginxconf.Directive) {
	zone, burst := "", false
	for _, arg := range d.Args {
		if v, ok := strings.CutPrefix(arg, "zone="); ok {
			zone = v
		}
		burst = burst || strings.HasPrefix(arg, "burst=") && arg != "burst=0"
	}
	if rate := c.reqZones[zone]; rate > 1000 && !burst {
		c.warnf(d.File, d.Line, d.Name, "lets in 1000 requests a second and key at most, not the %.0f of zone %s: without a burst NGINX takes one each millisecond; add `burst=%d nodelay`, or use Weir's rate()",
			rate, zone, max(10, int(rate/100)))
	}
}

// rates checks the rate limits in an access or rewrite phase. What is wrong there shows as an error in the log with the first request, and the limit lets
// everything in.
func (c *checker) rates(d *nginxconf.Directive) {
	for _, call := range weirCalls(lua(d), "rate") {
		if call.pool == "" && !call.poolGiven || !call.staticGiven {
			c.errorf(d.File, call.line, d.Name, `rate() needs a pool, under which refusals are counted, and the limit: rate("NAME", "rate=500r/s burst=100")`)
			continue
		}
		if call.pool != "" && c.cfg != nil && c.cfg.Pool(call.pool) == nil {
			c.errorf(d.File, call.line, d.Name, "rate() counts for pool %q, which %s does not have (%s)%s", call.pool, c.cfgPath, c.knownPools(), c.didYouMean(call.pool))
		}
		if call.static == nil {
			continue // an expression
		}
		limit, err := parseRate(*call.static)
		switch {
		case err != nil:
			c.errorf(d.File, call.line, d.Name, "the rate limit %q would let everything in: %v", *call.static, err)
		case limit.Zone == c.dictName:
			c.errorf(d.File, call.line, d.Name, "the rate limit has zone=%s, which is Weir's own memory: a flood of keys would push out what cannot be missed; declare another `lua_shared_dict`", limit.Zone)
		case !c.dicts[limit.Zone] && c.complete:
			c.errorf(d.File, call.line, d.Name, "the rate limit would let everything in: there is no `lua_shared_dict %s 10m;` in the http block", limit.Zone)
		}
		if err == nil {
			c.key(d.File, call.line, d.Name, "the key of rate()", limit.Key, "the limit lets everything in")
		}
	}
}

// rated checks that the limits before a pass are counted for the pool it goes to.
func (c *checker) rated(pass *nginxconf.Directive, in scope, u *upstream, possible []destination) {
	for _, phase := range beforeBody {
		d := in[phase]
		if d == nil || u.pool == nil {
			continue
		}
		for _, call := range weirCalls(lua(d), "rate") {
			if call.pool != "" && !namesOne(possible, call.pool) && c.cfg.Pool(call.pool) != nil {
				c.warnf(d.File, call.line, d.Name, "rate() counts for pool %q, but %s goes to pool %q", call.pool, pass.Name, u.pool.Name)
			}
		}
	}
}
