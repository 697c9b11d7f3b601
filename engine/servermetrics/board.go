// Package servermetrics makes of what servers say about themselves (CPU, memory, a queue's length) what a pool needs: which peer is on
// its way to a limit, which has reached one, and how busy it is.
//
// It is pure: time is an argument, in ms of any monotonic clock. Fetching is in collect, running in serve.
package servermetrics

import (
	"fmt"
	"math"
	"strconv"
)

// Rule is one metric and what its values are for.
type Rule struct {
	Name      string
	Limit     float64 // at which a peer gets no more traffic; 0 = none
	HorizonMS float64 // a peer whose limit is nearer in time than this loses share; the climb is that of the last half of it
	ExpireMS  float64 // a value older than this is not known
	Load      bool    // it is the peer's utilisation: 1 = busy
}

// Board holds the recent values of a pool's metrics. Peers are known by address; others are forgotten by Keep. Not safe for concurrent
// use; the pool's goroutine owns it.
type Board struct {
	rules []Rule
	peers map[string][]meter // by rule
}

type meter struct {
	trend trend
	over  bool // at or above the limit, until it is clearly below
}

// release is how far below its limit a metric must fall before the peer is let in again, as a part of the limit.
const release = 0.05

// New returns a board of these rules. Values that a former board has for a rule that did not change are taken over; former may be nil.
func New(rules []Rule, former *Board) *Board {
	b := &Board{rules: rules, peers: map[string][]meter{}}
	if former == nil {
		return b
	}
	for addr, old := range former.peers {
		meters := make([]meter, len(rules))
		for i, r := range rules {
			for j, f := range former.rules {
				if r == f {
					meters[i] = old[j]
				}
			}
		}
		b.peers[addr] = meters
	}
	return b
}

// Rules returns the rules, in order. Not to be changed.
func (b *Board) Rules() []Rule { return b.rules }

// Keep forgets every peer that is not among these.
func (b *Board) Keep(addrs []string) {
	kept := make(map[string][]meter, len(addrs))
	for _, a := range addrs {
		if m, ok := b.peers[a]; ok {
			kept[a] = m
		}
	}
	b.peers = kept
}

// Put takes a value of metric i for a peer. What is no finite number, or older than the last, is ignored.
func (b *Board) Put(now float64, i int, addr string, value float64) {
	if i < 0 || i >= len(b.rules) || !(value-value == 0) || !(now-now == 0) {
		return
	}
	meters := b.peers[addr]
	if meters == nil {
		meters = make([]meter, len(b.rules))
		b.peers[addr] = meters
	}
	m, r := &meters[i], &b.rules[i]
	if m.trend.n > 0 && now <= m.trend.last.at {
		return
	}
	if m.trend.n > 0 && now-m.trend.last.at > r.ExpireMS {
		*m = meter{}
	}
	m.trend.add(sample{now, value}, r.HorizonMS/2)
	if r.Limit > 0 {
		m.over = value >= r.Limit || m.over && value > r.Limit*(1-release)
	}
}

// Verdict is what a peer's metrics say together.
type Verdict struct {
	// Risk is in [0, 1]: 0 when no metric reaches its limit within its horizon, 1 when one does within a quarter of it (for pool.Predict).
	Risk float64
	// Over is the highest value over its limit of the metrics that are at theirs, at least a little above 0; 0 = none is (for pool.Limit).
	Over float64
	// Why names the metric that is at its limit, for people.
	Why string
	// Load is the highest utilisation; negative = none is known.
	Load float64
}

// Verdict judges a peer. Values that have expired count for nothing.
func (b *Board) Verdict(now float64, addr string) Verdict {
	v := Verdict{Load: -1}
	for i, m := range b.peers[addr] {
		r := &b.rules[i]
		if !m.known(now, r) {
			continue
		}
		if r.Load {
			v.Load = max(v.Load, m.trend.last.value, 0)
		}
		if !(r.Limit > 0) {
			continue
		}
		v.Risk = max(v.Risk, m.risk(now, r))
		if over := max(m.trend.last.value/r.Limit, 0.01); m.over && over > v.Over {
			v.Over = over
			v.Why = fmt.Sprintf("%s is %s, its limit %s", r.Name, figure(m.trend.last.value), figure(r.Limit))
		}
	}
	return v
}

func figure(x float64) string { return strconv.FormatFloat(x, 'g', 3, 64) }

func (m *meter) known(now float64, r *Rule) bool {
	return m.trend.n > 0 && now-m.trend.last.at <= r.ExpireMS
}

// risk rises smoothly from 0 at the horizon to 1 at a quarter of it.
func (m *meter) risk(now float64, r *Rule) float64 {
	if m.over {
		return 1
	}
	if !(r.HorizonMS > 0) {
		return 0
	}
	x := min(max((1-m.trend.until(now, r.Limit)/r.HorizonMS)/0.75, 0), 1)
	return x * x * (3 - 2*x)
}

// Value is a metric of a peer, for people.
type Value struct {
	Name      string
	Value     float64 // NaN = not known, or expired
	AgeMS     float64 // +Inf = there never was one
	Limit     float64 // 0 = none
	ToLimitMS float64 // at the present climb; 0 = it is there, +Inf = it does not climb, or there is no limit
	Over      bool
}

// Values lists a peer's metrics in the order of the rules.
func (b *Board) Values(now float64, addr string) []Value {
	meters := b.peers[addr]
	out := make([]Value, len(b.rules))
	for i := range b.rules {
		r, v := &b.rules[i], &out[i]
		*v = Value{Name: r.Name, Value: math.NaN(), AgeMS: math.Inf(1), Limit: r.Limit, ToLimitMS: math.Inf(1)}
		if meters == nil || meters[i].trend.n == 0 {
			continue
		}
		m := &meters[i]
		v.AgeMS = max(now-m.trend.last.at, 0)
		if !m.known(now, r) {
			continue
		}
		v.Value, v.Over = m.trend.last.value, m.over
		if r.Limit > 0 {
			v.ToLimitMS = m.trend.until(now, r.Limit)
		}
	}
	return out
}
