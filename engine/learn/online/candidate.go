package online

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/fit"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/ope"
	"github.com/weirlb/weir/engine/learn/replay"
	"github.com/weirlb/weir/engine/model"
)

// train makes a candidate and judges it.
func (l *Loop) train(ctx context.Context, now float64) {
	if l.opt.Share != nil && l.serving.Net == nil {
		return // each engine would begin at another network: an average of those means nothing
	}
	l.made++
	c, learned, check, figures, err := l.fit(ctx, now)
	if err != nil {
		if ctx.Err() == nil {
			l.host.Event(gate.Event{AtMS: now, Step: gate.Refused, From: l.serving.ID, Reason: "no candidate could be made: " + err.Error()})
		}
		return
	}
	figures["rows"] = float64(learned)
	if c.ID == l.serving.ID {
		return // a fit that changed nothing
	}
	if l.opt.Share != nil {
		l.host.Event(gate.Event{AtMS: now, Step: gate.Trained, Model: c.ID, From: l.serving.ID, Reason: "to be averaged with those of other engines", Figures: figures})
		l.opt.Share(c, l.serving.ID, learned)
		return
	}
	l.judge(ctx, now, c, check, figures)
}

// judge leads a candidate to the gates.
func (l *Loop) judge(ctx context.Context, now float64, c Candidate, check []replay.Decision, figures map[string]float64) {
	var err error
	l.gate.Candidate(now, c.ID, l.serving.ID, figures)
	l.candidate = c.Model
	if l.predictor, err = l.host.Propose(c); err != nil {
		l.do(now, l.gate.Refuse(now, "it cannot be run: "+err.Error(), nil))
		return
	}
	if l.predictor == nil {
		l.predictor = c.predictor()
	}
	r, err := ope.Evaluate(ctx, c.predictor(), l.serving.predictor(), check, ope.Options{Seed: l.made, Pause: l.opt.Pause})
	if ctx.Err() != nil {
		l.do(now, l.gate.Refuse(now, "something else came before it was judged", nil))
		return
	}
	l.do(now, l.gate.Judged(now, r, err))
}

// Offer judges a network that was made of the one that serves elsewhere, like a candidate of its own: it is shortened, and judged by the
// third of the decisions that none is fitted to. False when nothing can be judged now: something is being tried, there is a pause, or
// fewer decisions than a candidate takes.
func (l *Loop) Offer(ctx context.Context, now float64, net *model.Net, card map[string]string) bool {
	if !l.gate.Ready(now) || l.serving.Net == nil || l.Starved(now) {
		return false
	}
	all := l.store.All()
	defer l.events()
	var check []replay.Decision
	held := &fit.Rows{In: decide.Inputs}
	for i := range all {
		if d := &all[i]; heldBack(i, len(all)) {
			held.Add(d.Row(d.Chosen), d.Ratio())
			check = append(check, *d)
		}
	}
	before := l.serving.Net
	net = net.Clone()
	part, err := l.shorten(net, before, all)
	var c Candidate
	if err == nil {
		c, err = l.candidateOf(net, card)
	}
	if err != nil {
		l.host.Event(gate.Event{AtMS: now, Step: gate.Refused, From: l.serving.ID, Reason: "what was offered cannot be judged: " + err.Error()})
		return true
	}
	if c.ID != l.serving.ID {
		l.made++
		l.judge(ctx, now, c, check, map[string]float64{"step": part, "loss": fit.Loss(net, held), "loss_before": fit.Loss(before, held)})
	}
	return true
}

// Starved tells that nothing can be judged for want of traffic, and not because something is being tried or there is a pause.
func (l *Loop) Starved(now float64) bool { return l.store.Len() < l.opt.Least || l.gate.Starved(now) }

// candidateOf encodes a network with its card.
func (l *Loop) candidateOf(net *model.Net, card map[string]string) (Candidate, error) {
	card["parent"] = l.serving.ID
	for k, v := range l.opt.Card {
		card[k] = v
	}
	price := l.serving.Price
	file, err := model.Encode(net, model.Meta{Features: decide.InputNames(), Heads: []string{decide.Head}, Price: price.Map(), Card: card})
	if err != nil {
		return Candidate{}, err
	}
	return Candidate{Model{model.ID(file), net, price}, file}, nil
}

// heldBack tells whether decision i of n is for judging.
func heldBack(i, n int) bool { return i*stretches/n%3 == 2 }

// stretches is how many runs of decisions the store is cut into; every third is kept to judge by.
const stretches = 30

// fit makes a candidate of the decisions in the store, and returns those it was not fitted to.
func (l *Loop) fit(ctx context.Context, now float64) (c Candidate, learned int, check []replay.Decision, figures map[string]float64, err error) {
	all := l.store.All()
	rows, held := &fit.Rows{In: decide.Inputs}, &fit.Rows{In: decide.Inputs}
	for i := range all {
		d := &all[i]
		ratio := d.Ratio()
		if heldBack(i, len(all)) {
			held.Add(d.Row(d.Chosen), ratio)
			check = append(check, *d)
			continue
		}
		rows.Add(d.Row(d.Chosen), ratio)
	}
	net := l.serving.Net
	if net == nil {
		net = model.New([]int{decide.Inputs, 32, 32, 1}, rand.New(rand.NewPCG(l.opt.Seed, 0x1817)))
	}
	before := net
	// Answers tell the whole correction, and models have a part of it.
	whole := before.Scaled(1 / l.opt.Shrink)
	net = whole.Clone()
	err = fit.Train(ctx, net, rows, fit.Options{
		Epochs: l.opt.Epochs, Batch: 256, Rate: l.opt.Rate, Decay: l.opt.Decay, Towards: whole, Seed: l.opt.Seed + l.made, Step: l.opt.Pause,
	})
	if err != nil {
		return c, 0, nil, nil, err
	}
	net = net.Scaled(l.opt.Shrink)
	part, err := l.shorten(net, before, all)
	if err != nil {
		return c, 0, nil, nil, err
	}
	figures = map[string]float64{"step": part, "loss": fit.Loss(net, held), "loss_before": fit.Loss(before, held)}
	card := map[string]string{
		"name": fmt.Sprintf("online %d", l.made), "method": "fine-tuned on decisions of this engine, by what each took over what it was expected to take",
		"rows": strconv.Itoa(rows.Len()), "seed": strconv.FormatUint(l.opt.Seed, 10),
		"loss":        strconv.FormatFloat(figures["loss"], 'f', 4, 64),
		"loss_parent": strconv.FormatFloat(figures["loss_before"], 'f', 4, 64),
	}
	c, err = l.candidateOf(net, card)
	return c, rows.Len(), check, figures, err
}

// shorten goes back from a fitted network towards the one before until it sends few enough requests elsewhere, and returns the part of
// the step that is left. What is recorded says little of a policy that differs much from what served, so a long step could not
// be judged; several short ones can (conservative policy iteration: Kakade and Langford 2002).
func (l *Loop) shorten(net, before *model.Net, all []replay.Decision) (float64, error) {
	every := max(len(all)/500, 1)
	var some []replay.Decision
	for i := 0; i < len(all); i += every {
		some = append(some, all[i])
	}
	part := 1.0
	for {
		moved, err := ope.Moved(net.Predictor(), Model{Net: before}.predictor(), some)
		if err != nil || moved <= l.opt.MostMoved || part < 0.01 {
			return part, err
		}
		part /= 2
		for i := range net.W {
			halve(net.W[i], before.W[i])
			halve(net.B[i], before.B[i])
		}
	}
}

func halve(v, to []float32) {
	for i := range v {
		v[i] = (v[i] + to[i]) / 2
	}
}
