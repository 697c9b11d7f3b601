package serve

import (
	"slices"
	"time"
)

// All of this file is called with Models.mu held.

// known is a model with what may change about it.
type known struct {
	*Model
	since   time.Time  // of its role
	eval    *evaluator // nil = not opened
	figures map[string]float64
}

func (r *Models) currentID() string {
	if r.current == nil {
		return ""
	}
	return r.current.ID
}

func (r *Models) previous() *known {
	if n := len(r.past); n > 0 {
		return r.past[n-1]
	}
	return nil
}

func (r *Models) role(k *known) Role {
	switch k {
	case r.current:
		return Current
	case r.previous():
		return Previous
	case r.candidate:
		return Candidate
	}
	return Retired
}

func (r *Models) find(id string) (*known, error) {
	ids := []string{}
	for _, k := range r.known {
		if k.ID == id {
			return k, nil
		}
		ids = append(ids, k.ID)
	}
	return nil, &UnknownError{What: "model", Name: id, Known: ids}
}

// entry returns what is known of a model, or a new entry that is not kept yet.
func (r *Models) entry(m *Model) *known {
	for _, k := range r.known {
		if k.ID == m.ID {
			return k
		}
	}
	return &known{Model: m, since: time.Now()}
}

func (r *Models) open(k *known) (err error) {
	if k.eval == nil {
		k.eval, err = r.inference.open(k.Model, r.tel)
	}
	return err
}

func (r *Models) serves() bool { return r.current != nil && r.current.eval != nil }

// replace makes k the current model, and the one that was current the previous one. activate is to follow.
func (r *Models) replace(k *known) {
	if k == r.current {
		return
	}
	now := time.Now()
	r.past = slices.DeleteFunc(r.past, func(p *known) bool { return p == k })
	if r.current != nil {
		r.current.since = now
		r.past = append(r.past, r.current)
	}
	if r.candidate == k {
		r.candidate = nil
	}
	r.current, k.since = k, now
	r.keep(k)
}

// activate lets tables be made with the current model from now on, if it is open; fault says why it is not. Models that lost their
// role are closed, once the last table that is being made with them is done.
func (r *Models) activate(fault string) {
	r.fault, r.refused = fault, ""
	if r.serves() {
		r.running.Store(r.current.eval)
		r.tel.Serving(r.current.ID, r.current.Meta.Card["name"], r.inference.describe())
	} else {
		r.running.Store(nil)
		r.tel.Serving("", "", "")
	}
	r.forget()
}

func (r *Models) keep(k *known) {
	if !slices.Contains(r.known, k) {
		r.known = append(r.known, k)
	}
	r.forget()
}

// forget closes what has no role any more, and drops the oldest of it when there is too much. The evaluator that tables are made with
// is spared: activate follows.
func (r *Models) forget() {
	for _, k := range r.known {
		if r.role(k) == Retired && k.eval != nil && k.eval != r.running.Load() {
			k.eval.release()
			k.eval = nil
		}
	}
	for len(r.known) > maxModels {
		at := slices.IndexFunc(r.known, func(k *known) bool { return r.role(k) == Retired && k.eval == nil })
		gone := r.known[at] // at most three have a role, and one more is spared
		r.past = slices.DeleteFunc(r.past, func(p *known) bool { return p == gone })
		r.known = slices.Delete(r.known, at, at+1)
	}
}
