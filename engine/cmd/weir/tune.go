package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/train"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/engine/sim/scenario"
)

// tells reports whether requests of a scenario tell their size. A network has no say there, and the price is tuned (docs/training.md).
func tells(s *scenario.Scenario) bool {
	return slices.ContainsFunc(s.Classes, func(c scenario.Class) bool { return c.WeightHint })
}

// byHints parts the scenarios whose requests tell their size from the others.
func byHints(all []*scenario.Scenario) (told, others []*scenario.Scenario) {
	for _, s := range all {
		if tells(s) {
			told = append(told, s)
		} else {
			others = append(others, s)
		}
	}
	return told, others
}

// tuneOnly makes a model with the network that is built in and a price of its own: what can be learned of scenarios whose requests all tell their size.
func (c *trainCmd) tuneOnly(ctx context.Context, to streams, line *trainLine, told []*scenario.Scenario, recipe, played string) error {
	built, err := serve.ReadOnline("default")
	if err != nil {
		return err
	}
	part := c.Out + ".part"
	card := map[string]string{
		"name": c.Name, "recipe": recipe, "data": c.data(told), "revision": thisBuild().Revision, "seed": strconv.FormatUint(c.Seed, 10),
		"network": "that of model " + built.ID + ", which is built in",
	}
	var tried []train.Try
	if c.Resume {
		if tried, err = resume(part, recipe, played, &train.Options{}); err != nil {
			return err
		}
	}
	kept := maps.Clone(card)
	maps.Copy(kept, map[string]string{"round": "0", "rows": "0", "loss_analytic": "unknown", "scenarios": played})
	began := time.Now()
	tuned, err := c.tune(ctx, line, told, tried, part, built.Net, kept)
	if err != nil {
		return err
	}
	tellTuned(card, tuned, told)
	if err := writeModel(c.Out, built.Net, tuned.Price, card); err != nil {
		return err
	}
	_ = os.Remove(part)
	fmt.Fprintf(to.out, "%s written in %s: %s; the network is the one built in\n", c.Out, time.Since(began).Round(time.Second), card["price_score"])
	return nil
}

// tune searches the price for scenarios whose requests tell their size. After each try, what --resume goes on with is kept in part, with the network and this card.
func (c *trainCmd) tune(ctx context.Context, line *trainLine, told []*scenario.Scenario, tried []train.Try, part string, net *model.Net, card map[string]string) (*train.Tuned, error) {
	tuned, err := train.Tune(ctx, train.TuneOptions{
		Seed: c.Seed, Scenarios: told, Tries: c.Tries, Jobs: c.Jobs, Before: tried, Progress: line.show,
		Saved: func(so []train.Try) error {
			card["tried"] = triesText(so)
			if err := writeModel(part, net, decide.Price{}, card); err != nil || c.tried == nil {
				return err
			}
			return c.tried(len(so))
		},
	})
	line.end()
	if errors.Is(err, context.Canceled) {
		return nil, fmt.Errorf("%w; --resume goes on after the last price that was tried", err)
	}
	return tuned, err
}

// tellTuned adds to a card how its price came about.
func tellTuned(card map[string]string, t *train.Tuned, told []*scenario.Scenario) {
	card["price_method"] = "direct policy search in the simulator: compass search (Kolda, Lewis and Torczon 2003) over a sample average (Kleywegt, Shapiro and Homem-de-Mello 2002)"
	card["price_score"] = fmt.Sprintf("mean %.3f and p99 %.3f of what the default price has in %s, %d prices tried", t.Score.Mean, t.Score.Tail, strings.Join(names(told), ", "), len(t.Tries))
}

// triesText keeps scores exactly: what goes on from them is the same as what was not interrupted.
func triesText(so []train.Try) string {
	text := make([]string, len(so))
	for i := range so {
		var of [6]string
		for k, x := range figures(&so[i]) {
			of[k] = strconv.FormatFloat(*x, 'g', -1, 64)
		}
		text[i] = strings.Join(of[:], "/")
	}
	return strings.Join(text, " ")
}

func readTries(text string) ([]train.Try, error) {
	var all []train.Try
	for one := range strings.FieldsSeq(text) {
		var t train.Try
		to, parts := figures(&t), strings.Split(one, "/")
		if len(parts) != len(to) {
			return nil, fmt.Errorf("the scores in its card: %q", one)
		}
		for i := range to {
			var err error
			if *to[i], err = strconv.ParseFloat(parts[i], 64); err != nil {
				return nil, fmt.Errorf("the scores in its card: %w", err)
			}
		}
		all = append(all, t)
	}
	return all, nil
}

// figures of a try, in the order of a card.
func figures(t *train.Try) [6]*float64 {
	return [6]*float64{&t.First.Mean, &t.First.Tail, &t.First.Failed, &t.All.Mean, &t.All.Tail, &t.All.Failed}
}
