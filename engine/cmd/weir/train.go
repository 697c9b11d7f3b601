package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/recorded"
	"github.com/weirlb/weir/engine/learn/train"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/sim/scenario"
)

type trainCmd struct {
	Out      string        `required:"" help:"Model file to write; the model card goes beside it, as .md." placeholder:"FILE"`
	Name     string        `default:"default" help:"Name in the model card."`
	Seed     uint64        `default:"1" help:"The same seed makes the same model."`
	Rounds   int           `default:"3" help:"Rounds of playing and fitting."`
	Worlds   int           `default:"300" help:"Random worlds a round. Of scenarios, how often one is played, each in turn; left out, so often that they have as many requests as random worlds by default."`
	Requests int           `default:"40000" help:"Requests a random world. Scenarios have their own."`
	Share    float64       `default:"0.12" help:"Share of the decisions that are learned from."`
	Imposed  float64       `default:"0" help:"How much of the delay imposed on later requests is learned too, over the price that has it; 0 = how long requests take, over how long they were expected to."`
	Shrink   float64       `default:"0.5" help:"What is taken of the correction to the analytic costs."`
	Hidden   []int         `default:"32,32" help:"Widths of the hidden layers." placeholder:"N,N"`
	Epochs   int           `default:"3" help:"Passes over a round's decisions."`
	Scenario []string      `sep:"none" help:"Learn in this scenario (file or directory; may be repeated) instead of random worlds." placeholder:"FILE"`
	Tries    int           `default:"40" help:"Prices tried at most for scenarios whose requests tell their size."`
	Recorded recordedFlags `embed:"" prefix:""`
	Jobs     int           `help:"Worlds at a time. Default: one a processor. The model does not depend on it."`
	Resume   bool          `help:"Go on from the last finished round, kept beside the model file as .part."`

	free  bool                  // nobody said how many worlds
	saved func(round int) error // for tests: called when a round was saved; an error ends the training
	tried func(price int) error // the same for a price
}

// AfterApply refuses what says which history is read where none is.
func (c *trainCmd) AfterApply(parsed *kong.Context) error {
	c.free = !slices.ContainsFunc(parsed.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == "worlds" })
	return needs(parsed, c.Recorded.History != "", "history", "pool", "from", "to", "spread", "explore", "sizes", "balancers", "last", "warmup")
}

func (c *trainCmd) Run(to streams) error {
	if c.Jobs < 1 {
		c.Jobs = runtime.GOMAXPROCS(0)
	}
	if err := c.check(); err != nil {
		return err
	}
	opt := train.Options{
		Seed: c.Seed, Rounds: c.Rounds, Worlds: c.Worlds, Requests: c.Requests, Share: c.Share, Imposed: c.Imposed, Shrink: c.Shrink, Hidden: c.Hidden,
		Epochs: c.Epochs, Jobs: c.Jobs,
	}
	var scenarios, told []*scenario.Scenario
	var tried []train.Try
	var err error
	if len(c.Scenario) > 0 {
		if scenarios, err = loadScenarios(c.Scenario); err != nil {
			return err
		}
		told, opt.Scenarios = byHints(scenarios)
		if c.free && len(opt.Scenarios) > 0 {
			c.Worlds = plays(opt.Scenarios)
			opt.Worlds = c.Worlds
		}
		for _, s := range told {
			fmt.Fprintf(to.err, "weir: requests of %s tell their size: there a network has no say, and the price of waiting is tuned instead (docs/training.md)\n", s.Name)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	line := newTrainLine(to)
	recipe, played := c.recipe(scenarios), digest(scenarios)
	if len(told) > 0 && len(opt.Scenarios) == 0 && c.Recorded.History == "" {
		return c.tuneOnly(ctx, to, line, told, recipe, played)
	}
	if c.Recorded.History != "" {
		r, err := c.Recorded.readRecorded(ctx, to.err)
		if err != nil {
			return err
		}
		opt.Data = recorded.Rows(r.Decisions(), c.Imposed > 0)
	}
	part := c.Out + ".part"
	if c.Resume {
		if tried, err = resume(part, recipe, played, &opt); err != nil {
			return err
		}
	}
	whole := opt.Start // before what is taken of it: what --resume goes on with
	opt.Progress = line.show
	opt.Saved = func(round int, net *model.Net, so *train.Result) error {
		whole = net
		card := c.card(recipe, scenarios, so)
		card["round"] = strconv.Itoa(round)
		if played != "" {
			card["scenarios"] = played
		}
		if err := writeModel(part, net, decide.Price{}, card); err != nil || c.saved == nil {
			return err
		}
		return c.saved(round)
	}
	began := time.Now()
	r, err := train.Run(ctx, opt)
	line.end()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("%w; --resume goes on after the last finished round", err)
		}
		return err
	}
	card, price := c.card(recipe, scenarios, r), decide.Price{}
	if len(told) > 0 {
		kept := maps.Clone(card)
		kept["round"], kept["scenarios"] = strconv.Itoa(opt.Rounds), played
		tuned, err := c.tune(ctx, line, told, tried, part, whole, kept)
		if err != nil {
			return err
		}
		price = tuned.Price
		tellTuned(card, tuned, told)
	}
	if err := writeModel(c.Out, r.Net, price, card); err != nil {
		return err
	}
	_ = os.Remove(part)
	if opt.Round >= opt.Rounds {
		fmt.Fprintf(to.out, "%s written; all its rounds were finished before\n", c.Out)
		return nil
	}
	loss := ""
	if last := r.Loss[len(r.Loss)-1]; !math.IsNaN(last) {
		loss = fmt.Sprintf("; loss on other worlds %.4f, without the model %.4f", last, r.None)
	}
	fmt.Fprintf(to.out, "%s written in %s, from %d decisions a round%s\n", c.Out, time.Since(began).Round(time.Second), r.Rows, loss)
	return nil
}

// check refuses what would else be found out after hours of training, or be taken for another number and stand wrong in the recipe.
func (c *trainCmd) check() error {
	for _, n := range []struct {
		flag  string
		value int
	}{{"--rounds", c.Rounds}, {"--worlds", c.Worlds}, {"--requests", c.Requests}, {"--epochs", c.Epochs}, {"--tries", c.Tries}} {
		if n.value < 1 {
			return fmt.Errorf("%s must be 1 or more, not %d", n.flag, n.value)
		}
	}
	switch {
	case !(c.Share > 0 && c.Share <= 1):
		return fmt.Errorf("--share must be above 0 and at most 1, not %v", c.Share)
	case !(c.Imposed >= 0 && c.Imposed <= 10):
		return fmt.Errorf("--imposed must be from 0 to 10, not %v", c.Imposed)
	case !(c.Shrink > 0 && c.Shrink <= 1):
		return fmt.Errorf("--shrink must be above 0 and at most 1, not %v", c.Shrink)
	}
	if err := model.CheckSizes(train.Sizes(c.Hidden)); err != nil {
		return fmt.Errorf("--hidden %s: as a network, %w", joined(c.Hidden), err)
	}
	if c.Out == "" {
		return errors.New("--out is empty; name the file that the model is to be written to")
	}
	if info, err := os.Stat(c.Out); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("--out %s: there is something that is no file; name a file", c.Out)
	}
	tmp, err := os.CreateTemp(filepath.Dir(c.Out), filepath.Base(c.Out)+".*")
	if err != nil {
		return fmt.Errorf("--out %s: no model can be written there: %w", c.Out, err)
	}
	return errors.Join(tmp.Close(), os.Remove(tmp.Name()))
}

func joined(list []int) string {
	text := make([]string, len(list))
	for i, n := range list {
		text[i] = strconv.Itoa(n)
	}
	return strings.Join(text, ",")
}

// plays is how often scenarios are played a round where nobody says: until they have as many requests as the random worlds of a round by
// default. Those have 40,000 each; a scenario may have millions, and its decisions of a round are all held in memory. It is ten times at
// least, since one world of ten is kept to measure the loss on, and each scenario once.
func plays(scenarios []*scenario.Scenario) int {
	const worlds, requests = 300, 40_000
	total := 0
	for _, s := range scenarios {
		total += s.Total()
	}
	n := math.Ceil(worlds * requests * float64(len(scenarios)) / float64(total))
	return max(int(min(n, worlds)), 10, len(scenarios))
}

// recipe is all that decides what the model becomes, as a command line.
func (c *trainCmd) recipe(scenarios []*scenario.Scenario) string {
	s := fmt.Sprintf("weir train --seed %d --rounds %d --worlds %d --requests %d --share %g --imposed %g --shrink %g --hidden %s --epochs %d",
		c.Seed, c.Rounds, c.Worlds, c.Requests, c.Share, c.Imposed, c.Shrink, joined(c.Hidden), c.Epochs)
	for _, path := range c.Scenario {
		s += " --scenario " + quoted(path)
	}
	if told, _ := byHints(scenarios); len(told) > 0 {
		s += fmt.Sprintf(" --tries %d", c.Tries)
	}
	if r := c.Recorded; r.History != "" { // without the address, which may hold a password
		s += " --history ... --from " + quoted(r.From)
		if r.To != "" {
			s += " --to " + quoted(r.To)
		}
		s += fmt.Sprintf(" --spread %g --explore %g --sizes=%t --balancers %d --last %d --warmup %v", r.Spread, r.Explore, r.Sizes, r.Balancers, r.Last, r.Warmup)
		if r.Pool != "" {
			s += " --pool " + quoted(r.Pool)
		}
	}
	return s
}

// quoted is a word of a command line as a shell reads it.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:,=@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func (c *trainCmd) card(recipe string, scenarios []*scenario.Scenario, r *train.Result) map[string]string {
	losses := make([]string, len(r.Loss))
	for i, l := range r.Loss {
		losses[i] = lossText(l)
	}
	return map[string]string{
		"name":          c.Name,
		"method":        c.method(),
		"recipe":        recipe,
		"data":          c.data(scenarios),
		"revision":      thisBuild().Revision,
		"seed":          strconv.FormatUint(c.Seed, 10),
		"rows":          strconv.Itoa(r.Rows),
		"loss":          strings.Join(losses, " "),
		"loss_analytic": lossText(r.None),
	}
}

func (c *trainCmd) method() string {
	if c.Imposed > 0 {
		return "approximate policy iteration with Monte Carlo returns (Bertsekas and Tsitsiklis 1996); a return is the response time and the delay imposed on later requests of the peer, a difference reward (Wolpert and Tumer 2002)"
	}
	return "approximate policy iteration (Bertsekas and Tsitsiklis 1996): response times under the policy, over those expected; the delay imposed on later requests is in the price they correct, a Whittle index (Whittle 1988)"
}

func lossText(x float64) string {
	if math.IsNaN(x) {
		return "unknown"
	}
	return strconv.FormatFloat(x, 'f', 4, 64)
}

func lossOf(text string) (float64, error) {
	if text == "unknown" {
		return math.NaN(), nil
	}
	return strconv.ParseFloat(text, 64)
}

// digest tells scenarios apart that stood in the same files; "" = there are none.
func digest(scenarios []*scenario.Scenario) string {
	if len(scenarios) == 0 {
		return ""
	}
	text, err := json.Marshal(scenarios)
	if err != nil {
		panic("scenarios as JSON: " + err.Error()) // they are numbers and texts
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))[:12]
}

// data says what the model was trained on.
func (c *trainCmd) data(scenarios []*scenario.Scenario) string {
	recorded := c.Recorded.History != ""
	switch {
	case len(scenarios) == 0 && recorded:
		return "simulated worlds and recorded history"
	case len(scenarios) == 0:
		return "simulated worlds only"
	}
	played := "simulated scenarios: " + strings.Join(names(scenarios), ", ")
	if recorded {
		played += "; and recorded history"
	}
	return played
}

func names(scenarios []*scenario.Scenario) []string {
	all := make([]string, len(scenarios))
	for i, s := range scenarios {
		all[i] = s.Name
	}
	return all
}

// resume reads what an earlier run of the same recipe left.
func resume(part, recipe, played string, opt *train.Options) (tried []train.Try, err error) {
	file, err := model.ReadFile(part)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // nothing finished yet: from the start
	}
	if err != nil {
		return nil, err
	}
	net, meta, err := model.Decode(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", part, err)
	}
	if meta.Card["recipe"] != recipe {
		return nil, fmt.Errorf("%s was begun by another command (%s); remove it, or train without --resume", part, meta.Card["recipe"])
	}
	if meta.Card["scenarios"] != played {
		return nil, fmt.Errorf("%s was begun with scenarios of these files that had another content; remove it, or train without --resume", part)
	}
	opt.Round, err = strconv.Atoi(meta.Card["round"])
	if err != nil {
		return nil, fmt.Errorf("%s: the round in its card: %w", part, err)
	}
	so := &opt.Before
	for text := range strings.FieldsSeq(meta.Card["loss"]) {
		l, err := lossOf(text)
		if err != nil {
			return nil, fmt.Errorf("%s: the losses in its card: %w", part, err)
		}
		so.Loss = append(so.Loss, l)
	}
	if so.None, err = lossOf(meta.Card["loss_analytic"]); err != nil {
		return nil, fmt.Errorf("%s: loss_analytic in its card: %w", part, err)
	}
	if so.Rows, err = strconv.Atoi(meta.Card["rows"]); err != nil {
		return nil, fmt.Errorf("%s: the rows in its card: %w", part, err)
	}
	if tried, err = readTries(meta.Card["tried"]); err != nil {
		return nil, fmt.Errorf("%s: %w", part, err)
	}
	opt.Start = net
	return tried, nil
}

// writeModel writes a model so that a reader finds the old file or the new one, whole.
func writeModel(path string, net *model.Net, price decide.Price, card map[string]string) error {
	meta := model.Meta{Features: decide.InputNames(), Heads: []string{decide.Head}, Price: price.Map(), Card: card}
	file, err := model.Encode(net, meta)
	if err != nil {
		return err
	}
	write := func(path string, data []byte) error {
		tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
		if err != nil {
			return fmt.Errorf("writing the model: %w", err)
		}
		defer os.Remove(tmp.Name())
		_, err = tmp.Write(data)
		if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
			return fmt.Errorf("writing the model: %w", err)
		}
		if err := os.Rename(tmp.Name(), path); err != nil {
			return fmt.Errorf("writing the model: %w", err)
		}
		return nil
	}
	if err := write(path, file); err != nil {
		return err
	}
	if filepath.Ext(path) != ".onnx" {
		return nil
	}
	return write(strings.TrimSuffix(path, ".onnx")+".md", []byte(meta.Markdown()))
}
