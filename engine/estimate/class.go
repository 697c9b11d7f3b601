package estimate

import (
	"cmp"
	"math"
	"slices"
)

// class is what is known of one request class over the pool. Index 0 is "*": it has the traffic of classes that have no index of
// their own.
//
// More classes are learned than listed (four times), so that one that becomes busy is known already when it is listed, and one
// that is not listed any more is not forgotten.
type class struct {
	name    string
	listed  bool
	traffic float64 // outcomes, decayed over trafficMS

	base   float64 // service time on a typical peer, ms; 0 = not known
	differ float64 // variance of the logarithm of its affinities
	seen   float64 // successes ever
	hint   float64 // decayed mean of weight hints; 0 = none seen
	ratio  float64 // decayed sums of measured over expected, and of its square, of answers that did not wait
	square float64
	ratioN float64
}

const (
	trafficMS  = 300_000 // memory of a class's traffic
	candidates = 4       // times TopClasses are learned
)

// Class returns the index to put into Outcome.Class for a class name. The index stays valid until the next call of Class or
// Refresh; "", "*" and names beyond the bound get 0.
//
// The bound works as in the frequent-items algorithm of Misra and Gries (1982): a name that finds no place takes one from the
// least busy unlisted class when that has faded, and otherwise makes all unlisted ones fade. So a flood of names seen once cannot push out
// a busy one, and a name that has more than one in as many requests as there are unlisted places gets one. Where only the least busy one
// faded, several that became busy at once took its place from each other for good, while seldom ones kept all the others.
func (p *Pool) Class(now float64, name string) int {
	p.tick(now)
	if name == "" || name == "*" {
		return 0
	}
	if c, ok := p.slot[name]; ok {
		return c
	}
	if len(p.classes) <= candidates*p.opt.TopClasses {
		p.classes = append(p.classes, class{name: name, differ: 0.05})
		for i := range p.peers {
			p.peers[i].cells = append(room(p.peers[i].cells), cell{})
		}
		c := len(p.classes) - 1
		p.slot[name] = c
		if len(p.listed) <= p.opt.TopClasses {
			p.classes[c].listed = true
			p.listed = append(p.listed, c)
		}
		return c
	}
	least := -1
	for c := 1; c < len(p.classes); c++ {
		if !p.classes[c].listed && (least < 0 || p.classes[c].traffic < p.classes[least].traffic) {
			least = c
		}
	}
	if least < 0 {
		return 0
	}
	if p.classes[least].traffic >= 1 {
		for c := 1; c < len(p.classes); c++ {
			if k := &p.classes[c]; !k.listed {
				k.traffic = max(k.traffic-1, 0)
			}
		}
		return 0
	}
	delete(p.slot, p.classes[least].name)
	p.classes[least] = class{name: name, differ: 0.05}
	for i := range p.peers {
		p.peers[i].cells[least] = cell{}
	}
	p.slot[name] = least
	return least
}

// room makes room for one more cell, and for few beside it: by doubling 200 peers of 51 classes had a megabyte that nothing was ever put in.
func room(cells []cell) []cell {
	if len(cells) < cap(cells) {
		return cells
	}
	return append(make([]cell, 0, len(cells)+8), cells...)
}

// list chooses the listed classes once a second. A listed class keeps its place against one up to 20 % busier.
func (p *Pool) list(now, dt float64) {
	f := math.Exp(-dt / trafficMS)
	for c := range p.classes {
		p.classes[c].traffic *= f
	}
	if now-p.selected < 1000 || len(p.classes) <= p.opt.TopClasses+1 {
		return
	}
	p.selected = now
	all := make([]int, 0, len(p.classes))
	for c := 1; c < len(p.classes); c++ {
		all = append(all, c)
	}
	rank := func(c int) float64 {
		if p.classes[c].listed {
			return 1.2 * p.classes[c].traffic
		}
		return p.classes[c].traffic
	}
	slices.SortFunc(all, func(a, b int) int {
		return cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(a, b))
	})
	for i, c := range all {
		p.classes[c].listed = i < p.opt.TopClasses
	}
	p.listed = p.listed[:1]
	for c := 1; c < len(p.classes); c++ {
		if p.classes[c].listed {
			p.listed = append(p.listed, c)
		}
	}
}

// size is how much bigger than usual for its class a request says it is.
func (k *class) size(weight float64) float64 {
	if !(weight > 0 && weight < 1e12) || k.hint <= 0 {
		return 1
	}
	return min(max(weight/k.hint, 1e-3), 1e3)
}
