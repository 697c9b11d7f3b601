package estimate_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/pool"
)

// crowded is a pool of one peer, where each step of 10 ms brings an answer of the next of the busy classes, and names that are never met again but for
// every other one, which comes a second time.
type crowded struct {
	*estimate.Pool
	now   float64
	names int
	step  int
}

func (c *crowded) answer(name string) {
	c.Observe(c.now, estimate.Outcome{Class: c.Class(c.now, name), Status: 200, HeaderMS: 5, TotalMS: 5, ReportedLoad: -1, ReportedInFlight: -1, Kind: pool.OK})
}

func (c *crowded) play(steps, flood int, busy ...string) {
	for range steps {
		c.step++
		if c.now += 10; c.step%10 == 0 {
			c.Refresh(c.now)
		}
		if len(busy) > 0 {
			c.answer(busy[c.step%len(busy)])
		}
		for range flood {
			c.names++
			for range 1 + c.names%2 {
				c.answer(fmt.Sprintf("GET /%d", c.names))
			}
		}
	}
	c.Refresh(c.now)
}

func (c *crowded) listed() (names []string) {
	for _, i := range c.Listed() {
		names = append(names, c.ClassName(i))
	}
	slices.Sort(names)
	return names
}

func busyNames(first, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("busy %02d", first+i))
	}
	return names
}

func newCrowded(top int) *crowded {
	c := &crowded{Pool: estimate.New(estimate.Options{TopClasses: top})}
	c.SetPeers(0, []string{"a"})
	return c
}

// wantListed fails the test unless these and "*" are listed.
func (c *crowded) wantListed(t *testing.T, when string, names ...string) {
	t.Helper()
	want := append([]string{"*"}, names...)
	slices.Sort(want)
	if got := c.listed(); !slices.Equal(got, want) {
		t.Errorf("%s, %d classes are listed: %q", when, len(got), got)
	}
}

// A scanner asks for ten names in the time of one ordinary request.
func TestAFloodOfNamesDisplacesNoBusyClass(t *testing.T) {
	for _, top := range []int{0, 5} { // 0: the default
		k := top
		if top == 0 {
			k = 50
		}
		c, busy := newCrowded(top), busyNames(0, k)
		c.play(20*k, 0, busy...)
		places := map[string]int{}
		for _, name := range busy {
			places[name] = c.Class(c.now, name)
		}
		c.play(100*k, 10, busy...)
		c.wantListed(t, fmt.Sprintf("top %d, after %d names", top, c.names), busy...)
		for _, name := range busy {
			if at := c.Class(c.now, name); at != places[name] || c.ClassAt(at).Samples < 119 { // 120, but for one that the last step may have left out
				t.Errorf("%q had place %d and has %d, with what %.0f answers told", name, places[name], at, c.ClassAt(at).Samples)
			}
		}
	}
}

// What comes when all places are taken by busier classes has the shared one's.
func TestTheBusiestClassesAreListedAndTheRestIsTheSharedOnes(t *testing.T) {
	const top = 5
	c := newCrowded(top)
	busy, rest := busyNames(0, top), busyNames(50, 3*top) // four times as many are learned as are listed
	c.play(300, 0, rest...)                               // these come first, so five of them have the places
	c.play(600, 0, busy...)
	c.wantListed(t, "as others became busier", busy...)
	before := c.ClassAt(0).Traffic
	place := c.Class(c.now, "GET /x")
	c.answer("GET /x")
	if at := c.ClassAt(0).Traffic; place != 0 || at != before+1 {
		t.Errorf("a name that came late has place %d; %q had %.1f answers, and has %.1f", place, "*", before, at)
	}
}

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
	c.wantListed(t, "after 20 minutes", busy...)
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
