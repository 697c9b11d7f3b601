package serve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/learn/exchange"
	"github.com/weirlb/weir/engine/learn/fedavg"
	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/model"
)

// sharing tells other engines of models and hears of theirs: one goroutine, which owns the connection. What it is told of waits in a
// bounded list; nobody waits for it. Its methods may be called on nil.
type sharing struct {
	eng            *Engine
	conf           config.Learn
	instance, zone string
	id             string // of this run of the engine

	// The goroutine's own.
	seq      int64                  // heard up to here
	parts    map[string]contributed // what engines trained last, this one too, by engine
	averaged int64                  // the newest part of the last average
	waiting  time.Time              // since when an average waits for being judged; zero = none does
	aside    bool                   // led without traffic to judge by, and lets others lead while that is so

	mu     sync.Mutex // guards all below
	outbox []exchange.Publication
	fault  string
	since  time.Time
	leads  bool
}

// contributed is a publication and when it was heard of.
type contributed struct {
	exchange.Publication
	at time.Time
}

// offered is an average for the learner to judge.
type offered struct {
	net  *model.Net
	base string
	card map[string]string
}

// followerName is what changes of models that others made are marked with.
const followerName = "sharing"

const (
	outboxMost  = 32
	enginesMost = 1024
	listen      = time.Second      // the longest that something to be told waits
	retryMost   = 15 * time.Second // between attempts to connect
)

// Share makes the engine share models as the configuration says. It is called before Learn and Start.
func (e *Engine) Share(c config.Learn) {
	if !bool(c.Follow) && !bool(c.Federated) {
		return
	}
	e.share = &sharing{eng: e, conf: c, instance: e.conf.Instance, zone: e.conf.Zone, id: newEpoch(), parts: map[string]contributed{}}
}

// changed tells the others that a model was made to serve here, or left. What was changed on their word is no news.
func (s *sharing) changed(m *Model, kind exchange.Kind, by, why string) {
	if s == nil || by == followerName {
		return
	}
	p := exchange.Publication{Kind: kind, Model: m.ID, Why: by + ": " + why}
	if kind == exchange.Promoted {
		p.File = m.File
	}
	s.tell(p)
}

// trained tells the others what was trained here. It is called by the learner's goroutine.
func (s *sharing) trained(c online.Candidate, base string, decisions int) {
	s.tell(exchange.Publication{Kind: exchange.Trained, Model: c.ID, Base: base, Samples: int64(decisions), File: c.File})
}

func (s *sharing) tell(p exchange.Publication) {
	p.Instance, p.Zone, p.Engine, p.AtMS = s.instance, s.zone, s.id, time.Now().UnixMilli()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.outbox) >= outboxMost {
		s.outbox = slices.Delete(s.outbox, 0, 1)
	}
	s.outbox = append(s.outbox, p)
}

// run connects, and connects again after each failure.
func (s *sharing) run(life context.Context) {
	retry := listen
	for life.Err() == nil {
		x, err := exchange.Open(life, s.conf.Share.Reveal())
		if err == nil {
			err = s.serve(life, x, func() { retry = listen })
			x.Close()
		}
		if life.Err() != nil {
			return
		}
		s.state(err)
		select {
		case <-life.Done():
		case <-time.After(retry):
		}
		retry = min(2*retry, retryMost)
	}
}

// serve shares over one connection until it fails or the engine ends.
func (s *sharing) serve(life context.Context, x exchange.Exchange, works func()) error {
	for life.Err() == nil {
		if err := s.publish(life, x); err != nil {
			return err
		}
		news, err := x.After(life, s.seq, bool(s.conf.Federated))
		if err != nil {
			return err
		}
		s.heed(news)
		if s.conf.Federated {
			if err := s.round(life, x); err != nil {
				return err
			}
		}
		s.state(nil)
		works()
		if err := x.Wait(life, listen); err != nil {
			return err
		}
	}
	return nil
}

// publish empties the outbox. What could not be told stays in it.
func (s *sharing) publish(life context.Context, x exchange.Exchange) error {
	for {
		s.mu.Lock()
		if len(s.outbox) == 0 {
			s.mu.Unlock()
			return nil
		}
		p := s.outbox[0]
		s.outbox = s.outbox[1:]
		s.mu.Unlock()
		if err := x.Publish(life, p); err != nil {
			s.mu.Lock()
			s.outbox = slices.Insert(s.outbox, 0, p)
			s.mu.Unlock()
			return err
		}
	}
}

// heed takes in what was told. Of promotions only the last counts whose model was not withdrawn since and can be run here.
func (s *sharing) heed(news []exchange.Publication) {
	var promoted []*exchange.Publication
	for i := range news {
		p := &news[i]
		s.seq = max(s.seq, p.Seq)
		own := p.Engine == s.id
		switch p.Kind {
		case exchange.Promoted:
			promoted = append(promoted, p)
			if own {
				promoted = nil
			}
		case exchange.Withdrawn:
			promoted = slices.DeleteFunc(promoted, func(o *exchange.Publication) bool { return o.Model == p.Model })
			if m := s.eng.models.Serving(); !own && m != nil && m.ID == p.Model {
				if err := s.eng.models.Rollback(p.Model, followerName, from(p)+": "+p.Why); err != nil {
					s.refuse(p, err)
				}
			}
		case exchange.Trained:
			if _, known := s.parts[p.Engine]; known || len(s.parts) < enginesMost {
				s.parts[p.Engine] = contributed{*p, time.Now()}
			}
		case exchange.Unreadable:
			s.refuse(p, errors.New(p.Why))
		}
	}
	for _, p := range slices.Backward(promoted) {
		err := s.eng.models.Adopt(p.File, from(p), p.Why)
		if err == nil {
			return
		}
		s.refuse(p, err)
	}
}

// from names the engine that a publication is of.
func from(p *exchange.Publication) string {
	name := "engine " + p.Instance
	if p.Zone != "" {
		name += " in zone " + p.Zone
	}
	return name
}

// refuse notes that what another engine told is not taken.
func (s *sharing) refuse(p *exchange.Publication, err error) {
	s.eng.models.Note("refused", p.Model, followerName, fmt.Sprintf("%s by %s: %v", p.Kind, from(p), err))
	s.eng.log.Warn().Str("model", p.Model).Str("kind", string(p.Kind)).Str("from", from(p)).Str("error", err.Error()).Msg("a shared model was refused")
}

// round averages what engines trained from the model that serves, if that is for this one to do and there is enough: something of every
// engine that contributed in the last three rounds, or a round has passed since the first. One alone is waited with twice as long.
func (s *sharing) round(life context.Context, x exchange.Exchange) error {
	leads, err := s.elect(life, x)
	if err != nil {
		return err
	}
	serving := s.eng.models.Serving()
	if !leads || serving == nil || s.eng.learner == nil {
		return nil
	}
	every := time.Duration(s.conf.EveryMS) * time.Millisecond
	maps.DeleteFunc(s.parts, func(_ string, p contributed) bool { return time.Since(p.at) > 3*every })
	parts, newest, age := s.fitting(serving)
	switch n := len(parts); {
	case n == 0, n == 1 && age < 2*every, n < len(s.parts) && age < every:
		return nil
	}
	net, err := fedavg.Average(serving.Net, parts)
	s.averaged = newest
	if err != nil { // each was checked
		s.eng.log.Error().Str("error", err.Error()).Msg("models could not be averaged")
		return nil
	}
	who, samples := []string{}, int64(0)
	for _, p := range parts {
		who, samples = append(who, p.Who), samples+p.Samples
	}
	s.eng.learner.offer.Store(&offered{net, serving.ID, map[string]string{
		"name": fmt.Sprintf("average of %d engines", len(parts)), "method": "federated averaging (McMahan et al. 2017) of models fine-tuned by each engine on its own decisions",
		"engines": strconv.Itoa(len(parts)), "rows": strconv.FormatInt(samples, 10),
	}})
	s.eng.models.Note("averaged", serving.ID, followerName, fmt.Sprintf("%d decisions of %s", samples, strings.Join(who[:min(len(who), 8)], ", ")))
	return nil
}

// elect tells whether this engine leads. One that has too little traffic to judge by leads as long as no average waits for that: after a
// round it lets another lead, and does not stand again before it can judge.
func (s *sharing) elect(life context.Context, x exchange.Exchange) (leads bool, err error) {
	l := s.eng.learner
	starved := l != nil && l.starved.Load()
	if s.aside && starved {
		return false, nil
	}
	s.aside = false
	if leads, err = x.Lead(life); err != nil {
		return false, err
	}
	s.mu.Lock()
	elected := leads && !s.leads
	s.leads = leads
	s.mu.Unlock()
	if elected {
		s.eng.log.Info().Msg("this engine averages the models of all from now on")
	}
	switch {
	case !leads || !starved || l.offer.Load() == nil:
		s.waiting = time.Time{}
	case s.waiting.IsZero():
		s.waiting = time.Now()
	case time.Since(s.waiting) > time.Duration(s.conf.EveryMS)*time.Millisecond:
		if err := x.Resign(life); err != nil {
			return false, err
		}
		l.offer.Store(nil) // the next one makes its own
		s.mu.Lock()
		s.leads = false
		s.mu.Unlock()
		s.waiting, s.aside = time.Time{}, true
		s.eng.log.Info().Msg("this engine has too little traffic to judge the average of all models by: another one may make it")
		return false, nil
	}
	return leads, nil
}

// fitting lists what can be averaged now, the newest's number, and how old the first of it is. What can never be is refused and forgotten.
func (s *sharing) fitting(serving *Model) (parts []fedavg.Part, newest int64, age time.Duration) {
	for _, id := range slices.Sorted(maps.Keys(s.parts)) {
		p := s.parts[id]
		if p.Base != serving.ID || p.Seq <= s.averaged {
			continue
		}
		part := fedavg.Part{Who: from(&p.Publication), Samples: p.Samples}
		m, err := newModel(p.File, part.Who)
		if err == nil {
			part.Net = m.Net
			err = fedavg.Check(serving.Net, part)
		}
		if err != nil {
			s.refuse(&p.Publication, err)
			delete(s.parts, id)
			continue
		}
		parts = append(parts, part)
		newest, age = max(newest, p.Seq), max(age, time.Since(p.at))
	}
	return parts, newest, age
}

// judgeOffer leads an average to the gates when nothing else is there. It runs in the learner's goroutine.
func (l *Learner) judgeOffer(ctx context.Context, now float64) {
	o := l.offer.Load()
	if o == nil {
		return
	}
	if l.serving().ID != o.base || l.loop.Offer(ctx, now, o.net, o.card) {
		l.offer.CompareAndSwap(o, nil)
	}
}

// state notes whether sharing works, nil = it does, and says so once when that changes.
func (s *sharing) state(err error) {
	fault := ""
	if err != nil {
		fault = err.Error()
	}
	s.mu.Lock()
	before, since := s.fault, s.since
	s.fault = fault
	if fault != "" {
		s.leads = false
		if before == "" {
			s.since = time.Now()
		}
	}
	s.mu.Unlock()
	switch {
	case before == "" && fault != "":
		s.eng.log.Warn().Str("fault", fault).Msg("models cannot be shared with other engines; this one goes on by itself")
	case before != "" && fault == "":
		s.eng.log.Info().Float64("after_s", time.Since(since).Seconds()).Msg("models are shared again")
	}
}

// inspect adds that models cannot be shared.
func (s *sharing) inspect(r *Report) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != "" {
		r.add("sharing", "", fmt.Sprintf("models cannot be shared with other engines since %s: %s", s.since.UTC().Format(time.RFC3339), s.fault))
	}
}
