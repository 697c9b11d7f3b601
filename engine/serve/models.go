package serve

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/learn/exchange"
	"github.com/weirlb/weir/engine/telemetry"
)

// Role is what a model is to the engine.
type Role string

// The roles. There is one current, one previous and one candidate at most.
const (
	Current   Role = "current"   // tables are made with it, if it can be run
	Previous  Role = "previous"  // was current before: what a rollback goes to
	Candidate Role = "candidate" // proposed, not in use
	Retired   Role = "retired"   // was one of the others; may be promoted again while it is remembered
)

const (
	maxModels      = 8  // remembered, the current one included
	maxModelEvents = 64 // remembered; history has all
)

// ModelEvent is something that happened to a model.
type ModelEvent struct {
	AtMS   int64  `json:"at_ms"`  // Unix time
	Event  string `json:"event"`  // loaded refused failed unloaded proposed dropped promoted rolled_back, or a word of who trains and judges
	Model  string `json:"model"`  // id; "" where there is none
	From   string `json:"from"`   // id of the model that was current before, where it changed
	By     string `json:"by"`     // configuration, operator, or what whoever did it calls itself
	Detail string `json:"detail"` // why
}

// Models is the registry: which models there are and which one tables are made with. Safe for concurrent use.
//
// A swap drops no request and no table: whoever fills a table holds a use of the evaluator it began with, and the published table
// stays until the next one, which the refresh loop makes with the new model at once.
type Models struct {
	log *telemetry.Log
	tel *telemetry.Models
	eng *Engine // for history

	running atomic.Pointer[evaluator] // of the current model; nil = the analytic policy serves
	wanted  atomic.Bool               // Configure was called: reloads call it again
	failing atomic.Int64              // pools whose last table had to do without the model

	// mu guards all below. It is held while a model is read and opened, some milliseconds; no table waits for it.
	mu         sync.Mutex
	inference  inference
	configured string // id of the model in the configuration, "" = none or refused
	asked      bool   // the configuration wants a model
	fault      string // why the current model does not serve, or there is none though one is asked for
	refused    string // why the configured file was refused while another model went on
	known      []*known
	current    *known
	past       []*known // those that were current before, the last one last
	candidate  *known
	events     []ModelEvent
}

// Models returns the registry of models.
func (e *Engine) Models() *Models { return e.models }

// Configure loads what the configuration asks for. It is called at the start and at each reload; before the first call there is no
// model and none is missed. A file whose content is as before changes nothing, so what was promoted or rolled back since stays. A file
// that is refused leaves the model that serves. The error has been logged and is in the health.
func (r *Models) Configure(c config.Model) error {
	r.wanted.Store(true)
	m, err := ReadModel(c.File)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked, r.refused = c.File != config.ModelNone, ""
	switch {
	case err != nil:
		return r.refuse("", err)
	case m == nil:
		if r.current != nil {
			r.note("unloaded", r.current.ID, "", "configuration", `model.file is "none"`)
			r.log.Info().Str("model", r.current.ID).Msg("model unloaded; the analytic policy serves")
		}
		r.configured, r.current, r.past = "", nil, nil
		r.activate("")
		return nil
	case m.ID == r.configured && (r.current == nil || r.current.eval != nil):
		return nil
	}
	r.inference.load(c)
	k := r.entry(m)
	if err = r.open(k); err != nil && r.serves() {
		return r.refuse(m.ID, err)
	}
	r.configured = m.ID
	from := r.currentID()
	r.replace(k)
	if err != nil {
		r.activate(err.Error())
		r.tel.Refused.Inc()
		r.note("failed", m.ID, "", "configuration", err.Error())
		r.log.Error().Str("model", m.ID).Str("error", err.Error()).Msg("the model cannot be run; the analytic policy serves")
		return err
	}
	r.activate("")
	r.note("loaded", m.ID, from, "configuration", m.Origin)
	r.log.Info().Str("model", m.ID).Str("name", m.Meta.Card["name"]).Str("origin", m.Origin).Str("evaluator", r.inference.describe()).Msg("model loaded")
	return nil
}

// refuse notes that a configured model is not taken.
func (r *Models) refuse(id string, err error) error {
	r.tel.Refused.Inc()
	r.note("refused", id, "", "configuration", err.Error())
	e := r.log.Error().Str("error", err.Error())
	if r.serves() {
		r.refused = err.Error()
		e.Str("serves", r.current.ID).Msg("the model was refused; the one before stays")
	} else {
		r.fault = err.Error()
		e.Msg("the model was refused; the analytic policy serves")
	}
	return err
}

// Propose makes a model the candidate, in place of another candidate. It is opened, so that it is known to run.
func (r *Models) Propose(file []byte, origin string) (*Model, error) {
	m, err := newModel(file, origin)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.entry(m)
	switch {
	case k == r.current:
		return nil, &ModelError{m.ID, "is the current one"}
	case slices.Contains(r.past, k):
		return nil, &ModelError{m.ID, "was current before: promote it instead"}
	}
	if err := r.open(k); err != nil {
		return nil, err
	}
	r.candidate, k.since = k, time.Now()
	r.keep(k)
	r.note("proposed", m.ID, "", origin, "")
	return m, nil
}

// Drop gives a candidate up. Another id, or none, changes nothing.
func (r *Models) Drop(id, by, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.candidate == nil || r.candidate.ID != id {
		return
	}
	r.candidate.since = time.Now()
	r.candidate = nil
	r.forget()
	r.note("dropped", id, "", by, why)
}

// Promote makes a known model the current one: the candidate, the previous one, or another that is remembered.
func (r *Models) Promote(id, by, why string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, err := r.find(id)
	if err != nil {
		return err
	}
	if k == r.current && k.eval != nil {
		return &ModelError{id, "is the current one already"}
	}
	if err := r.open(k); err != nil {
		return &ModelError{id, "cannot be run: " + err.Error()}
	}
	from := r.currentID()
	r.replace(k)
	r.activate("")
	r.note("promoted", id, from, by, why)
	r.eng.share.changed(k.Model, exchange.Promoted, by, why)
	r.log.Info().Str("model", id).Str("before", from).Str("by", by).Str("why", why).Msg("model promoted")
	return nil
}

// Adopt makes a model that another engine promoted the current one. A candidate that is being judged stays one.
func (r *Models) Adopt(file []byte, origin, why string) error {
	m, err := newModel(file, origin)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.entry(m)
	if k == r.current && k.eval != nil {
		return nil
	}
	if err := r.open(k); err != nil {
		return &ModelError{m.ID, "cannot be run: " + err.Error()}
	}
	from := r.currentID()
	r.replace(k)
	r.activate("")
	r.note("promoted", m.ID, from, followerName, origin+": "+why)
	r.log.Info().Str("model", m.ID).Str("before", from).Str("by", followerName).Str("origin", origin).Str("why", why).Msg("model promoted")
	return nil
}

// Rollback leaves the current model, which id must name, for the previous one; without one the analytic policy serves. The previous
// model has been kept open for this.
func (r *Models) Rollback(id, by, why string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, err := r.find(id)
	if err != nil {
		return err
	}
	if k != r.current {
		return &ModelError{id, "is not the current one; that is " + either(r.currentID(), "none")}
	}
	now := time.Now()
	k.since = now
	r.current = r.previous()
	fault := ""
	if to := r.current; to != nil {
		r.past, to.since = r.past[:len(r.past)-1], now
		if err := r.open(to); err != nil {
			fault = err.Error()
		}
	}
	r.activate(fault)
	if p := r.previous(); p != nil {
		_ = r.open(p) // ready for the next rollback; if it cannot be, that one tells
	}
	r.note("rolled_back", r.currentID(), id, by, why)
	r.eng.share.changed(k.Model, exchange.Withdrawn, by, why)
	r.log.Warn().Str("model", id).Str("to", either(r.currentID(), "the analytic policy")).Str("by", by).Str("why", why).Msg("model rolled back")
	return nil
}

// SetFigures adds to what is shown of a model: numbers of whoever judges it, by name. Unknown ids change nothing.
func (r *Models) SetFigures(id string, figures map[string]float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.known {
		if k.ID == id {
			if k.figures == nil {
				k.figures = map[string]float64{}
			}
			maps.Copy(k.figures, figures)
		}
	}
}

// Note adds an event to those that are shown and kept, for whoever trains and judges models.
func (r *Models) Note(event, id, by, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(event, id, "", by, detail)
}

// Get returns the model in a role and since when it is; nil when there is none.
func (r *Models) Get(role Role) (*Model, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := map[Role]*known{Current: r.current, Previous: r.previous(), Candidate: r.candidate}[role]
	if k == nil {
		return nil, time.Time{}
	}
	return k.Model, k.since
}

// Find returns a model that is listed.
func (r *Models) Find(id string) (*Model, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, err := r.find(id)
	if err != nil {
		return nil, err
	}
	return k.Model, nil
}

// Serving returns the model that tables are made with, nil when it is the analytic policy. It takes no lock.
func (r *Models) Serving() *Model {
	if v := r.running.Load(); v != nil {
		return v.model
	}
	return nil
}

// use returns the evaluator of the current model with one use added, nil when there is none.
func (r *Models) use() *evaluator {
	for {
		v := r.running.Load()
		if v == nil || v.retain() {
			return v
		}
	}
}

// close ends all use. What is being filled ends its own.
func (r *Models) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running.Store(nil)
	r.asked, r.fault, r.refused = false, "", ""
	for _, k := range r.known {
		k.eval.release()
		k.eval = nil
	}
	r.inference.close()
}

// note is called with mu held.
func (r *Models) note(event, id, from, by, detail string) {
	e := ModelEvent{AtMS: time.Now().UnixMilli(), Event: event, Model: id, From: from, By: by, Detail: cut(detail)}
	if len(r.events) >= maxModelEvents {
		r.events = slices.Delete(r.events, 0, 1)
	}
	r.events = append(r.events, e)
	r.tel.Event(event)
	if detail != "" {
		by += ": " + detail
	}
	r.eng.history.Event(history.Event{AtMS: e.AtMS, Kind: history.Model, Subject: either(id, "none"), From: from, To: event, Detail: cut(by)})
}

func either(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// ModelError refuses what is asked of a model.
type ModelError struct{ ID, Reason string }

func (e *ModelError) Error() string { return fmt.Sprintf("model %s %s", e.ID, e.Reason) }

// inspect adds what keeps a model from serving, if a pool has the learned policy.
func (r *Models) inspect(to *Report, learned bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	to.Model = r.report()
	switch {
	case !learned || !r.asked:
	case r.fault != "":
		to.add("model", "", "the analytic policy serves, the learned one cannot: "+r.fault)
	case r.refused != "":
		to.add("model", "", fmt.Sprintf("the model in the configuration was refused, %s goes on: %s", either(r.currentID(), "none"), r.refused))
	}
}

// newModels makes a registry without a model.
func newModels(e *Engine) *Models {
	r := &Models{log: e.log, eng: e}
	r.tel = e.tel.Models(func() float64 {
		if r.running.Load() != nil && r.failing.Load() == 0 {
			return 1
		}
		return 0
	})
	return r
}

func (r *Models) report() ModelReport {
	m := ModelReport{Evaluator: nullable(r.inference.describe())}
	if s := r.Serving(); s != nil {
		m.Serves = &s.ID
	}
	return m
}

func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
