// Package train makes a model from simulated worlds.
//
// The method is approximate policy iteration (Bertsekas and Tsitsiklis, "Neuro-dynamic programming", 1996, section 6.2; Lagoudakis and
// Parr 2003): a round plays many worlds under the policy as it is, records decisions with how long they took, over how long the formulas
// expected, and fits the network to that. The next round's policy is the one that picks the lowest price corrected by that network. The
// first policy is the analytic one, so the first round starts near the end.
//
// What a request costs those behind it is in the price, a Whittle index (decide), and is not learned. With Options.Imposed it is: the target is
// then the Monte Carlo return, the delay imposed included (package returns), over the price. Behind a queue the price is many times that
// return, so such models drew prices back towards returns and took more from the tail than the mean gained (bench/README.md).
package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/fit"
	"github.com/weirlb/weir/engine/learn/returns"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/sim/scenario"
)

// Options of a training run. The zero value of a field means its default.
type Options struct {
	Seed     uint64
	Rounds   int     // default 3
	Worlds   int     // a round; default 300
	Requests int     // a world; default 40000
	Share    float64 // of the decisions that are recorded; default 0.12
	Imposed  float64 // how much of the delay imposed on others counts; 0: what is learned is how long requests take
	Shrink   float64 // what is taken of the correction; default 0.5
	Hidden   []int   // widths of the hidden layers; default 32, 32
	Epochs   int     // a round; default 3
	Jobs     int     // worlds at a time; default 1
	// Scenarios are played instead of random worlds, each with the seeds of the worlds it stands for.
	Scenarios []*scenario.Scenario
	// Data are rows from elsewhere (recorded history) that every round learns from besides.
	Data *fit.Rows
	// Progress hears what is being done, how far it is (0 to 1 over the whole run), and figures worth a line; nil = nobody.
	Progress func(done float64, line string)
	// Saved is called after each round with the network as it is and the result so far; an error stops the run. nil = nobody.
	Saved func(round int, net *model.Net, so *Result) error
	// Start is a network to go on with after Round rounds, and Before their figures; nil = a new one.
	Start  *model.Net
	Round  int
	Before Result
}

// DefaultShrink is returns.DefaultShrink.
const DefaultShrink = returns.DefaultShrink

func (o Options) sane() Options {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&o.Rounds, 3)
	set(&o.Worlds, 300)
	set(&o.Requests, 40_000)
	set(&o.Epochs, 3)
	set(&o.Jobs, 1)
	if !(o.Share > 0) {
		o.Share = 0.12
	}
	if !(o.Shrink > 0) {
		o.Shrink = DefaultShrink
	}
	if len(o.Hidden) == 0 {
		o.Hidden = []int{32, 32}
	}
	return o
}

// Result is a trained network and how the training went.
type Result struct {
	Net  *model.Net
	Rows int       // of the last round
	Loss []float64 // on worlds that were not learned from, after each round; less is better; NaN where there were none
	None float64   // the same of the analytic policy, on the last round's worlds
}

// Sizes are those of a network with these hidden layers.
func Sizes(hidden []int) []int {
	return append(append([]int{decide.Inputs}, hidden...), 1)
}

// validation is the share of worlds kept out of the fit.
const validation = 10

// Run trains. It is a function of its options: seeds decide everything, the number of jobs nothing.
func Run(ctx context.Context, opt Options) (*Result, error) {
	opt = opt.sane()
	net := opt.Start
	if net == nil { // its last layer is zero: it corrects nothing
		net = model.New(Sizes(opt.Hidden), rand.New(rand.NewPCG(opt.Seed, 0x1817)))
	}
	res := &Result{Net: net.Scaled(opt.Shrink), Rows: opt.Before.Rows, Loss: slices.Clone(opt.Before.Loss), None: opt.Before.None}
	for round := opt.Round; round < opt.Rounds; round++ {
		r := &rounds{Options: opt, round: round}
		if round > 0 {
			r.net = net.Scaled(opt.Shrink)
		}
		learn, check, err := r.play(ctx)
		if err != nil {
			return nil, err
		}
		if opt.Data != nil {
			learn.X = append(learn.X, opt.Data.X...)
			learn.Ratio = append(learn.Ratio, opt.Data.Ratio...)
		}
		net = net.Clone()
		err = fit.Train(ctx, net, learn, fit.Options{
			Epochs: opt.Epochs, Seed: opt.Seed + uint64(round), Rate: 2e-3 / float64(1+round),
			Progress: func(done, loss float64) { r.tell(playing+(1-playing)*done, fmt.Sprintf("fitting, loss %.4f", loss)) },
		})
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", round+1, err)
		}
		res.Net, res.Rows = net.Scaled(opt.Shrink), learn.Len()
		loss := math.NaN()
		res.None = loss
		said := fmt.Sprintf("no loss: of fewer than %d worlds none is left to measure it on", validation)
		if check.Len() > 0 {
			loss, res.None = fit.Loss(net, check), fit.Loss(model.New([]int{decide.Inputs, 1}, rand.New(rand.NewPCG(0, 0))), check)
			said = fmt.Sprintf("loss %.4f on other worlds, %.4f without the model", loss, res.None)
		}
		res.Loss = append(res.Loss, loss)
		r.tell(1, fmt.Sprintf("round %d of %d: %d decisions, %s", round+1, opt.Rounds, learn.Len(), said))
		if opt.Saved != nil {
			if err := opt.Saved(round+1, net, res); err != nil {
				return nil, err
			}
		}
	}
	return res, nil
}

// playing is the share of a round's time that playing takes, about: for the progress only.
const playing = 0.8

// rounds is one round.
type rounds struct {
	Options
	round int
	net   *model.Net // of the policy that plays; nil = analytic

	mu   sync.Mutex // guards done, and the calls of Progress
	done int
}

func (r *rounds) tell(part float64, line string) {
	if r.Progress != nil {
		r.Progress((float64(r.round)+part)/float64(r.Rounds), line)
	}
}

// play plays the round's worlds and returns the decisions to learn from and those to check with.
func (r *rounds) play(ctx context.Context) (learn, check *fit.Rows, err error) {
	rows := make([]*fit.Rows, r.Worlds)
	errs := make([]error, r.Jobs)
	worlds := make(chan int)
	var players sync.WaitGroup
	for j := range r.Jobs {
		players.Go(func() {
			for i := range worlds {
				if errs[j] == nil && ctx.Err() == nil {
					rows[i], errs[j] = r.world(i)
				}
				r.mu.Lock()
				r.done++
				r.tell(playing*float64(r.done)/float64(r.Worlds), fmt.Sprintf("round %d: playing world %d of %d", r.round+1, r.done, r.Worlds))
				r.mu.Unlock()
			}
		})
	}
	for i := range r.Worlds {
		worlds <- i
	}
	close(worlds)
	players.Wait()
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("playing: %w", ctx.Err())
	}
	learn, check = &fit.Rows{In: decide.Inputs}, &fit.Rows{In: decide.Inputs}
	for i, w := range rows {
		if w == nil {
			for _, e := range errs {
				if e != nil {
					return nil, nil, e
				}
			}
		}
		to := learn
		if i%validation == validation-1 {
			to = check
		}
		to.X, to.Ratio = append(to.X, w.X...), append(to.Ratio, w.Ratio...)
	}
	return learn, check, nil
}

// world plays world i of the round.
func (r *rounds) world(i int) (*fit.Rows, error) {
	seed := r.Seed*1_000_003 + uint64(r.round)*100_003 + uint64(i)
	var s *scenario.Scenario
	if len(r.Scenarios) > 0 {
		s = r.Scenarios[i%len(r.Scenarios)]
	} else {
		s = World(Source(seed), r.Requests)
	}
	var m func() decide.Predictor
	if r.net != nil {
		m = func() decide.Predictor { return r.net.Predictor() }
	}
	rows, _, err := play(s, seed, m, r.Imposed, r.Share)
	if err != nil {
		return nil, fmt.Errorf("playing world %d (%s): %w", i, s.Name, err)
	}
	return rows, nil
}
