// Package expr evaluates short expressions over the samples of one exporter's page, in a part of PromQL's syntax:
//
//	1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes
//	1 - rate(node_cpu_seconds_total{mode="idle"}) / rate(node_cpu_seconds_total)
//	max(queue_length{queue=~"in|out"})
//
// Numbers, + - * /, parentheses and selectors with = != =~ !~ mean what they mean in PromQL. What differs is that everything here
// is one number: a selector is the sum of the series it selects, max(), min() and avg() take another of them, and rate() is the
// increase a second since the page before, without a range. Pure.
package expr

import (
	"math"
	"regexp"
)

// Series is one sample of a page. Labels may be shared and are not changed.
type Series struct {
	Labels map[string]string
	Value  float64
}

// Page is what an exporter said at one time, by metric name.
type Page map[string][]Series

// Expr is a parsed expression. It is not changed and may be shared.
type Expr struct {
	root  node
	names []string
}

// Names lists the metrics that the expression reads, each once: nothing else of a page needs to be kept.
func (e *Expr) Names() []string { return e.names }

// Eval computes the expression over a page, and the page before with the seconds between the two for rates; before may be nil.
// False when a selector selects nothing, a rate has no page before, or the result is no finite number.
func (e *Expr) Eval(now, before Page, seconds float64) (float64, bool) {
	v := e.root.eval(&pages{now, before, seconds})
	return v, v-v == 0
}

type pages struct {
	now, before Page
	seconds     float64
}

// node computes NaN for what is not known.
type node interface{ eval(p *pages) float64 }

type number float64

func (n number) eval(*pages) float64 { return float64(n) }

type binary struct {
	op   byte
	a, b node
}

func (n *binary) eval(p *pages) float64 {
	a, b := n.a.eval(p), n.b.eval(p)
	switch n.op {
	case '+':
		return a + b
	case '-':
		return a - b
	case '*':
		return a * b
	}
	return a / b
}

type matcher struct {
	label, value string
	pattern      *regexp.Regexp // nil = compare with value
	negated      bool
}

func (m *matcher) matches(labels map[string]string) bool {
	v := labels[m.label] // as in PromQL a label that is not there is empty
	same := v == m.value
	if m.pattern != nil {
		same = m.pattern.MatchString(v)
	}
	return same != m.negated
}

type selector struct {
	name     string
	matchers []matcher
	of       string // sum, max, min or avg
}

func (s *selector) eval(p *pages) float64 { return s.over(p.now) }

func (s *selector) over(page Page) float64 {
	n, sum, high, low := 0, 0.0, math.Inf(-1), math.Inf(1)
	for _, one := range page[s.name] {
		if s.selects(one.Labels) {
			n++
			sum += one.Value
			high, low = max(high, one.Value), min(low, one.Value)
		}
	}
	switch {
	case n == 0:
		return math.NaN()
	case s.of == "max":
		return high
	case s.of == "min":
		return low
	case s.of == "avg":
		return sum / float64(n)
	}
	return sum
}

func (s *selector) selects(labels map[string]string) bool {
	for i := range s.matchers {
		if !s.matchers[i].matches(labels) {
			return false
		}
	}
	return true
}

type rate struct{ of *selector }

// eval takes a counter that fell for one that began again, as PromQL does: the whole of it is the increase then.
func (r *rate) eval(p *pages) float64 {
	if p.before == nil || !(p.seconds > 0) {
		return math.NaN()
	}
	now, before := r.of.over(p.now), r.of.over(p.before)
	if now < before {
		before = 0
	}
	return (now - before) / p.seconds
}
