package decide

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Price are the constants of what a request costs where requests tell their size (Work). A network has no say there, so these are what a model that was trained for such
// a pool brings (train.Tune): which are best depends on how much sizes scatter, how long an overload lasts, and what may be given of the tail for the mean. The zero value is DefaultPrice.
type Price struct {
	// Imposed is the part of the delay imposed on others that is charged. More of it is better for the mean and worse for the tail, from 0.4 on: in 100 episodes of the Park
	// world 648 / 3143 ms (mean / p99, medians of five seeds) there. From 0.1 to 0.25 chance is larger than what it does (medians of 24 seeds: 642 to 650 / 2832 to 2866);
	// greedy_oracle, which knows every size and speed, has 702 / 2970.
	Imposed float64
	// Waiting is what a ms of waiting counts beside one of the request's own service. A greedy rule sends a large request to the fastest peer that it need not wait for long
	// and so keeps that from the many that follow; the further it goes to find a slow one idle, the better for all. Measured, with the peers' true parameters: 689 / 3098 ms
	// at 1, 663 / 2948 at 2, 650 / 2960 at 4, 644 / 3058 at 10, without any delay imposed.
	Waiting float64
	// Power is that of the wait: one of q departures counts as q^Power of them. Below 1 a queue that is long already is avoided less for being longer, which keeps idle peers
	// for the small requests. In episodes that begin with empty queues that is better for all (Park 645 / 2884 -> 626 / 2840 ms at 0.7, twelve seeds); in pools that are
	// busy for long the tail pays for it (mixed speeds, 4 slots, load .92: p99 .535 of least_conn -> .621).
	Power float64
	// Behind is how much of the service of a mean request counts as waiting, for who comes next, while nobody waits (Work.Follow).
	Behind float64
}

// DefaultPrice is the price that no model changes.
func DefaultPrice() Price { return Price{Imposed: 0.2, Waiting: 4, Power: 1, Behind: 1} }

// Sane is the price with DefaultPrice for the zero value.
func (p Price) Sane() Price {
	if p == (Price{}) {
		return DefaultPrice()
	}
	return p
}

// PriceRange is what one constant of a Price may be.
type PriceRange struct {
	Name      string // as in model files
	Low, High float64
	Of        func(*Price) *float64
}

// PriceRanges lists the constants. What is outside of a range is refused (ReadPrice): a model file may come from anywhere.
func PriceRanges() [4]PriceRange {
	return [4]PriceRange{
		{"imposed", 0.02, 0.9, func(p *Price) *float64 { return &p.Imposed }},
		{"waiting", 0.5, 20, func(p *Price) *float64 { return &p.Waiting }},
		{"power", 0.1, 1.5, func(p *Price) *float64 { return &p.Power }},
		{"behind", 0.2, 5, func(p *Price) *float64 { return &p.Behind }},
	}
}

// ReadPrice reads a price by the names of its constants; empty is the zero value.
func ReadPrice(from map[string]float64) (Price, error) {
	if len(from) == 0 {
		return Price{}, nil
	}
	var p Price
	ranges, names := PriceRanges(), []string{}
	for _, r := range ranges {
		names = append(names, r.Name)
		x, ok := from[r.Name]
		switch {
		case !ok:
			return Price{}, fmt.Errorf("its price lacks %s", r.Name)
		case !(x >= r.Low && x <= r.High):
			return Price{}, fmt.Errorf("its price has %s %v; it must be from %v to %v", r.Name, x, r.Low, r.High)
		}
		*r.Of(&p) = x
	}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if !slices.Contains(names, name) {
			return Price{}, fmt.Errorf("its price has %q, which this engine does not know: only %s", name, strings.Join(names, ", "))
		}
	}
	return p, nil
}

// Map is the opposite of ReadPrice.
func (p Price) Map() map[string]float64 {
	if p == (Price{}) {
		return nil
	}
	to := map[string]float64{}
	for _, r := range PriceRanges() {
		to[r.Name] = *r.Of(&p)
	}
	return to
}
