package train

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

// TuneOptions of a search for a price. The zero value of a field means its default.
type TuneOptions struct {
	Seed      uint64
	Scenarios []*scenario.Scenario // whose requests tell their size
	Tries     int                  // prices at most; default 40
	Jobs      int                  // runs at a time; default 1. The price does not depend on it.
	// Progress hears how far the search is, 0 to 1, and a line on it; nil = nobody.
	Progress func(done float64, line string)
	// Before are the tries of an earlier search of the same options that was ended: these prices are not played again.
	Before []Try
	// Saved is called after each try with all so far; an error ends the search. nil = nobody.
	Saved func(so []Try) error
}

// Score is what a price reached, over what DefaultPrice did on the same seeds.
type Score struct {
	Mean   float64 // ratio of the mean response times, geometric mean over the runs
	Tail   float64 // the same of the 99th percentiles
	Failed float64 // difference of the shares of requests that failed
}

// worth is what is made small: mean and tail, without giving any of the tail for the mean. What the tail rises counts riseWeight times: counted once, the search went
// down the mean by as much as the tail went up (Park: mean .92, p99 1.04 of the default's). What it falls counts fallWeight times: counted not at all or once, the search
// ended where the tail was as high as before, and on other seeds by chance above. A request that fails counts ten.
func (s Score) worth() float64 {
	tail := math.Log(s.Tail)
	w := math.Log(s.Mean) + max(fallWeight*tail, riseWeight*tail) + 10*max(s.Failed, 0)
	if math.IsNaN(w) {
		return math.Inf(1)
	}
	return w
}

// Try is one price that was played.
type Try struct {
	First Score // over the first seeds
	All   Score // over all seeds; zero where the first ones had shown enough
}

// better reports whether a price is to be taken for another.
func (t Try) better(than Try) bool { return t.All != Score{} && t.All.worth() < than.All.worth() }

// Tuned is the price that was found.
type Tuned struct {
	Price decide.Price
	Score Score
	Tries []Try // all of them, in order
}

// The seeds that prices are played with are the same for all: a difference of prices is then no chance of the arrivals. In the Park world the means of single seeds
// differ by 5 %, their ratios by 2, the ratios of their 99th percentiles by 3. So most prices show with the first seeds that they are worse, by more than within;
// the others are played with all (a race; Birattari and others 2002, "A racing algorithm for configuring metaheuristics").
const (
	firstSeeds = 8
	allSeeds   = 24
	within     = 0.005
)

const riseWeight, fallWeight = 4, 2

// The first step of the search is a factor; it is halved (in logarithms) where no constant gains by it, and ends below the last.
const firstStep, lastStep = 1.4, 1.04

// directions are what the search tries, up and down: how many steps each constant goes, in the order of decide.PriceRanges. Besides each by itself, waiting against
// power: where long waits count by less, short ones have to count by more, and neither gains much alone (Park: mean .946 and p99 .982 of the default's at 14 times and
// a power of .36; .944 and .995 was as far as single constants got).
var directions = [...][4]float64{{0, 1, -1, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}

// stepped is a price some steps along a direction, no further than a constant's range.
func stepped(p decide.Price, along [4]float64, by float64) decide.Price {
	for i, r := range decide.PriceRanges() {
		x := r.Of(&p)
		*x = min(max(*x*math.Exp(along[i]*by), r.Low), r.High)
	}
	return p
}

// place tells prices apart: up and down again is the same place, but for rounding.
func place(p decide.Price) (at [4]float64) {
	for i, r := range decide.PriceRanges() {
		at[i] = math.Round(1000 * math.Log(*r.Of(&p)))
	}
	return at
}

// Tune searches the price that serves scenarios best whose requests tell their size. That is direct policy search by simulation: the policy is parametrised by a few constants, its worth is
// a sample average over fixed seeds (Kleywegt, Shapiro and Homem-de-Mello 2002), and a compass search goes down it (Kolda, Lewis and Torczon 2003): a step up or down
// one direction at a time, on as long as that gains.
func Tune(ctx context.Context, opt TuneOptions) (*Tuned, error) {
	if opt.Tries <= 0 {
		opt.Tries = 40
	}
	opt.Jobs = max(opt.Jobs, 1)
	t := &tuner{TuneOptions: opt}
	same := Score{Mean: 1, Tail: 1}
	price, best := decide.DefaultPrice(), Try{same, same}
	played := map[[4]float64]bool{place(price): true}
	var down [len(directions)]bool // what is tried first: that which gained last
	for step := math.Log(firstStep); step > math.Log(lastStep) && !t.spent(); step /= 2 {
		for gained := true; gained && !t.spent(); {
			gained = false
			for i, along := range directions {
				for _, turn := range []bool{false, true} {
					by, falls := step, down[i] != turn
					if falls {
						by = -step
					}
					for !t.spent() {
						p := stepped(price, along, by)
						if played[place(p)] {
							break // where the search came from, or at the end of its range
						}
						played[place(p)] = true
						s, err := t.try(ctx, p, best)
						if err != nil {
							return nil, err
						}
						if !s.better(best) {
							break
						}
						price, best, gained, down[i] = p, s, true, falls
					}
				}
			}
		}
	}
	return &Tuned{Price: price, Score: best.All, Tries: t.tries}, nil
}

// tuner plays prices.
type tuner struct {
	TuneOptions
	base  []world.Result // of DefaultPrice, by seed and scenario; as many as were needed
	tries []Try
}

func (t *tuner) spent() bool { return len(t.tries) >= t.Tries }

// try plays a price: with the first seeds, and where it may be better than the best so far with all.
func (t *tuner) try(ctx context.Context, p decide.Price, best Try) (Try, error) {
	n := len(t.tries)
	if n < len(t.Before) {
		t.tries = append(t.tries, t.Before[n])
		return t.Before[n], nil
	}
	line := fmt.Sprintf("playing price %d of at most %d; best so far: mean %.3f, p99 %.3f of the default's", n+1, t.Tries, best.All.Mean, best.All.Tail)
	var this Try
	results, err := t.over(ctx, p, nil, firstSeeds, line)
	if err != nil {
		return Try{}, err
	}
	this.First = score(results, t.base)
	told := this.First
	if this.First.worth() < best.First.worth()+within {
		if results, err = t.over(ctx, p, results, allSeeds, line); err != nil {
			return Try{}, err
		}
		this.All = score(results, t.base)
		told = this.All
	}
	t.tries = append(t.tries, this)
	if t.Progress != nil {
		t.Progress(float64(n+1)/float64(t.Tries), fmt.Sprintf("price %d of at most %d: mean %.3f, p99 %.3f of the default's", n+1, t.Tries, told.Mean, told.Tail))
	}
	if t.Saved != nil {
		err = t.Saved(t.tries)
	}
	return this, err
}

// over plays a price with the seeds up to a number that it has no results of yet, and the default price with those that this has none of.
func (t *tuner) over(ctx context.Context, p decide.Price, so []world.Result, seeds int, line string) ([]world.Result, error) {
	var err error
	if t.base, err = t.play(ctx, decide.DefaultPrice(), t.base, seeds, "playing the default price"); err != nil {
		return nil, err
	}
	return t.play(ctx, p, so, seeds, line)
}

// score is of results over those of the default price, which has at least as many.
func score(results, base []world.Result) Score {
	var s Score
	for i, r := range results {
		b, n := base[i], float64(len(results))
		s.Mean += math.Log(r.MeanMS/b.MeanMS) / n
		s.Tail += math.Log(r.P99MS/b.P99MS) / n
		s.Failed += (float64(r.Failed)/float64(r.Requests) - float64(b.Failed)/float64(b.Requests)) / n
	}
	s.Mean, s.Tail = math.Exp(s.Mean), math.Exp(s.Tail)
	return s
}

// play adds to results of a price what all scenarios have with the further seeds, up to a number of them.
func (t *tuner) play(ctx context.Context, p decide.Price, so []world.Result, seeds int, line string) ([]world.Result, error) {
	begin, scenarios := len(so), len(t.Scenarios)
	if begin >= scenarios*seeds {
		return so, nil
	}
	results := append(so, make([]world.Result, scenarios*seeds-begin)...)
	errs := make([]error, t.Jobs)
	runs := make(chan int)
	var players sync.WaitGroup
	var mu sync.Mutex // guards done, and the calls of Progress
	done := begin
	for j := range t.Jobs {
		players.Go(func() {
			for i := range runs {
				if errs[j] != nil {
					continue
				}
				w := world.New(t.Scenarios[i%scenarios], t.Seed*1_000_003+uint64(i/scenarios), policy.Weir(func(*world.Setup) policy.Variant {
					return policy.Variant{Policy: &decide.Analytic{Price: p}, Explore: -1}
				}))
				results[i], errs[j] = w.Run(func(int) error { return ctx.Err() })
				mu.Lock()
				done++
				if t.Progress != nil {
					t.Progress((float64(len(t.tries))+float64(done)/float64(scenarios*allSeeds))/float64(t.Tries), line)
				}
				mu.Unlock()
			}
		})
	}
	for i := begin; i < len(results); i++ {
		runs <- i
	}
	close(runs)
	players.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	return results, nil
}
