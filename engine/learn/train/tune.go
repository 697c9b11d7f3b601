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
	// Before are the scores of an earlier search of the same options that was ended: these prices are not played again.
	Before []Score
	// Saved is called after each try with all scores so far; an error ends the search. nil = nobody.
	Saved func(so []Score) error
}

// Score is what a price reached, over what DefaultPrice did on the same seeds.
type Score struct {
	Mean   float64 // ratio of the mean response times, geometric mean over the runs
	Tail   float64 // the same of the 99th percentiles
	Failed float64 // difference of the shares of requests that failed
}

// worth is what is made small: the mean, without giving any of the tail for it. What the tail rises counts tailWeight times: counted once, the search went
// down the mean by as much as the tail went up (Park: mean .92, p99 1.04 of the default's). A request that fails counts ten.
func (s Score) worth() float64 {
	w := math.Log(s.Mean) + tailWeight*max(math.Log(s.Tail), 0) + 10*max(s.Failed, 0)
	if math.IsNaN(w) {
		return math.Inf(1)
	}
	return w
}

// Tuned is the price that was found.
type Tuned struct {
	Price decide.Price
	Score Score
	Tries []Score // all of them, in order
}

// tuneSeeds is how many seeds each price is played with, the same for all: a difference of prices is then no chance of the arrivals. In the Park world the means of
// single seeds differ by 5 %, their ratios by 2.
const tuneSeeds = 8

const tailWeight = 4

// The first step of the search is a factor; it is halved (in logarithms) where no constant gains by it, and ends below the last.
const firstStep, lastStep = 1.4, 1.04

// Tune searches the price that serves scenarios best whose requests tell their size. That is direct policy search by simulation: the policy is parametrised by a few constants, its worth is
// a sample average over fixed seeds (Kleywegt, Shapiro and Homem-de-Mello 2002), and a compass search goes down it (Kolda, Lewis and Torczon 2003): one constant up or down
// by a step at a time, on as long as that gains.
func Tune(ctx context.Context, opt TuneOptions) (*Tuned, error) {
	if opt.Tries <= 0 {
		opt.Tries = 40
	}
	opt.Jobs = max(opt.Jobs, 1)
	t := &tuner{TuneOptions: opt}
	best := Tuned{Price: decide.DefaultPrice(), Score: Score{Mean: 1, Tail: 1}}
	ranges := decide.PriceRanges()
	var down [len(ranges)]bool // the direction that is tried first: that which gained last
	for step := math.Log(firstStep); step > math.Log(lastStep) && !t.spent(); step /= 2 {
		for gained := true; gained && !t.spent(); {
			gained = false
			for i, r := range ranges {
				for _, turn := range []bool{false, true} {
					for !t.spent() {
						p, factor := best.Price, math.Exp(step)
						if down[i] != turn {
							factor = 1 / factor
						}
						x := r.Of(&p)
						*x = min(max(*x*factor, r.Low), r.High)
						if p == best.Price {
							break // at the end of its range
						}
						s, err := t.try(ctx, p, best.Score)
						if err != nil {
							return nil, err
						}
						if !(s.worth() < best.Score.worth()) {
							break
						}
						best.Price, best.Score, gained, down[i] = p, s, true, down[i] != turn
					}
				}
			}
		}
	}
	best.Tries = t.scores
	return &best, nil
}

// tuner plays prices.
type tuner struct {
	TuneOptions
	base   []world.Result // of DefaultPrice, by run; nil = not played yet
	scores []Score
}

func (t *tuner) spent() bool { return len(t.scores) >= t.Tries }

func (t *tuner) try(ctx context.Context, p decide.Price, best Score) (Score, error) {
	n := len(t.scores)
	if n < len(t.Before) {
		t.scores = append(t.scores, t.Before[n])
		return t.Before[n], nil
	}
	var err error
	if t.base == nil {
		if t.base, err = t.play(ctx, decide.DefaultPrice(), "playing the default price"); err != nil {
			return Score{}, err
		}
	}
	results, err := t.play(ctx, p, fmt.Sprintf("playing price %d of at most %d; best so far: mean %.3f, p99 %.3f of the default's", n+1, t.Tries, best.Mean, best.Tail))
	if err != nil {
		return Score{}, err
	}
	s := score(results, t.base)
	t.scores = append(t.scores, s)
	if t.Progress != nil {
		t.Progress(float64(n+2)/float64(t.Tries+1), fmt.Sprintf("price %d of at most %d: mean %.3f, p99 %.3f of the default's", n+1, t.Tries, s.Mean, s.Tail))
	}
	if t.Saved != nil {
		err = t.Saved(t.scores)
	}
	return s, err
}

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

// play runs all scenarios with all seeds under a price.
func (t *tuner) play(ctx context.Context, p decide.Price, line string) ([]world.Result, error) {
	results := make([]world.Result, len(t.Scenarios)*tuneSeeds)
	errs := make([]error, t.Jobs)
	runs := make(chan int)
	var players sync.WaitGroup
	var mu sync.Mutex // guards done, and the calls of Progress
	done := 0
	for j := range t.Jobs {
		players.Go(func() {
			for i := range runs {
				if errs[j] != nil {
					continue
				}
				w := world.New(t.Scenarios[i/tuneSeeds], t.Seed*1_000_003+uint64(i%tuneSeeds), policy.Weir(func(*world.Setup) policy.Variant {
					return policy.Variant{Policy: &decide.Analytic{Price: p}, Explore: -1}
				}))
				results[i], errs[j] = w.Run(func(int) error { return ctx.Err() })
				mu.Lock()
				done++
				if t.Progress != nil {
					t.Progress((float64(len(t.scores))+float64(done)/float64(len(results)))/float64(t.Tries+1), line)
				}
				mu.Unlock()
			}
		})
	}
	for i := range results {
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
