package serve

import (
	"fmt"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
)

// The names of policies in settings.policy, from where they reach NGINX's access logs.
const (
	learned  = string(config.Learned)
	analytic = string(config.Analytic)
)

// setPolicy makes the pool's policy. Its first table follows.
func (p *livePool) setPolicy(want config.Policy) {
	p.modelFailed(nil, "")
	p.eval = nil
	if want == config.Learned {
		p.learned = &decide.Learned{}
		p.policy = p.learned
		return
	}
	p.learned, p.policy = nil, &decide.Analytic{}
}

// equip gives the learned policy the model of the moment and returns a use of its evaluator, to be released when the table is made;
// nil when there is none.
func (p *livePool) equip() *evaluator {
	if p.learned == nil {
		return nil
	}
	large := p.large()
	p.learned.Forget = p.feed == nil || !p.learns() || large // nobody learns from the features
	v := p.eng.models.use()
	if v != p.eval {
		p.eval, p.learned.Model, p.learned.Analytic.Price = v, nil, decide.Price{}
		if v != nil {
			p.learned.Model, p.learned.Analytic.Price = v.predictor(), v.model.Price
		}
	}
	return v
}

// large tells that the pool's table is too large for a model. What is new of it is logged.
func (p *livePool) large() bool {
	classes, peers := len(p.est.Listed()), len(p.members)
	now := decide.Large(classes, peers)
	if now != p.tooLarge {
		p.tooLarge = now
		text := "the pool is small enough for its model again"
		if now {
			text = "the pool is too large for a model: the analytic policy serves it"
		}
		p.later(func() { p.eng.log.Info().Str("pool", p.name).Int("classes", classes).Int("peers", peers).Msg(text) })
	}
	return now
}

// fillTable fills the table. What the model cannot do the analytic policy does: a model that fails, panics, or has the table break
// its promise is done without.
func (p *livePool) fillTable(now float64, eval *evaluator, params decide.Params) (fault string) {
	broken := ""
	p.shown = false
	if eval != nil {
		if broken = p.tryModel(now, params); broken == "" {
			id := eval.model.ID
			if p.serving = learned; p.learned.Silent() && !p.learned.Priced() {
				p.serving, id = analytic, ""
			}
			p.shown = !p.learned.Forget
			p.modelFailed(eval, "")
			p.compareAnew(now, p.serving, id)
			return ""
		}
	}
	policy := p.policy
	if policy == decide.Policy(p.learned) {
		policy = &p.learned.Analytic // the same costs, without making features for nobody
	}
	policy.Fill(now, p.est, params, &p.table)
	if fault = p.tableFault(); fault != "" {
		return fault // whatever is wrong, it is not the model
	}
	p.serving = analytic
	p.modelFailed(eval, broken)
	p.compareAnew(now, analytic, "")
	return ""
}

// tryModel fills the table with the model and says why that cannot be used.
func (p *livePool) tryModel(now float64, params decide.Params) (broken string) {
	defer func() {
		if r := recover(); r != nil {
			broken = fmt.Sprintf("panic: %v", r)
		}
	}()
	p.policy.Fill(now, p.est, params, &p.table)
	if err := p.learned.Fault(); err != nil {
		return err.Error()
	}
	return p.tableFault()
}

// modelFailed notes that the model failed for the last table, or with "" that it did not, and logs what is new of it.
func (p *livePool) modelFailed(eval *evaluator, fault string) {
	before := p.modelFault
	p.modelFault = fault
	switch {
	case fault == "" && before != "":
		p.eng.models.failing.Add(-1)
		if eval != nil {
			id := eval.model.ID
			p.later(func() { p.eng.log.Info().Str("pool", p.name).Str("model", id).Msg("the model works again") })
		}
	case fault != "":
		eval.faults.Add(1)
		p.eng.models.tel.Failed.Inc()
		if before != "" {
			return
		}
		p.eng.models.failing.Add(1)
		id := eval.model.ID
		p.later(func() {
			p.eng.log.Error().Str("pool", p.name).Str("model", id).Str("error", fault).Msg("the model failed; the analytic policy serves")
		})
	}
}
