package estimate_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// As many seldom ones as have places were there before it. Busy names must not take the one place from each other that the least busy of those gave up.
func TestSeveralClassesThatBecomeBusyAtOnceAreListedThoughAllPlacesAreTaken(t *testing.T) {
	const top = 5
	rnd := rand.New(rand.NewPCG(1, 2))
	c, busy, seldom := newCrowded(top), busyNames(0, top), busyNames(50, 4*top)
	traffic := func(seconds int, names ...string) {
		for range seconds * 100 {
			c.now += 10
			c.answer(names[rnd.IntN(len(names))])
			if c.step++; c.step%10 == 0 {
				c.Refresh(c.now)
			}
		}
	}
	traffic(60, seldom...)
	all := slices.Clone(seldom)
	for range 20 { // each busy one has twenty times the traffic of a seldom one
		all = append(all, busy...)
	}
	traffic(1200, all...)
	c.wantListed(t, fmt.Sprintf("after %d minutes", 20), busy...)
}

// The engine was started in the midst of it, so that each place was taken by a name of the flood. Each of these classes has more than one in 150 of the
// requests, and there are 150 places for those that are not listed.
func TestClassesThatBecomeBusyAmidAFloodOfNamesAreListed(t *testing.T) {
	c, busy := newCrowded(50), busyNames(0, 5)
	c.play(1000, 10)
	c.play(2000, 10, busy...)
	got := c.listed()
	for _, name := range busy {
		if !slices.Contains(got, name) {
			t.Errorf("%q was busy for 20 s and is not listed", name)
		}
	}
}
