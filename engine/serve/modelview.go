package serve

import (
	"maps"
	"slices"
	"time"
)

// ModelsFigures is the answer of GET /api/models.
type ModelsFigures struct {
	ModelReport
	Fault     *string          `json:"fault"` // why the analytic policy serves though a model is asked for, or why a file was refused
	Current   *string          `json:"current"`
	Previous  *string          `json:"previous"`
	Candidate *string          `json:"candidate"`
	Models    []ModelFigures   `json:"models"` // the current one first, then by how long ago they changed their role
	Control   []ControlFigures `json:"control"`
	Learning  LearningView     `json:"learning"`
	Events    []ModelEvent     `json:"events"` // the last one last
}

// ModelFigures is a model, for people.
type ModelFigures struct {
	ID       string             `json:"id"`
	Name     string             `json:"name"`
	Role     Role               `json:"role"`
	SinceMS  int64              `json:"since_ms"` // of the role, Unix time
	Origin   string             `json:"origin"`
	Sizes    []int              `json:"sizes"` // of the layers, input to output
	Bytes    int                `json:"bytes"`
	Price    map[string]float64 `json:"price"` // what it brings where requests tell their size (decide.Price); empty = the default
	Card     map[string]string  `json:"card"`
	Tables   uint64             `json:"tables"` // made with it since it was opened
	Rows     uint64             `json:"rows"`
	Faults   uint64             `json:"faults"`   // tables that had to do without
	TableMS  *float64           `json:"table_ms"` // mean time to evaluate it for a table
	Judgment map[string]float64 `json:"figures"`  // of whoever judges it
}

// Figures collects what there is to say of models.
func (r *Models) Figures() ModelsFigures {
	comparisons := r.eng.Comparisons() // takes the pools' mutexes: before this one, as always
	r.mu.Lock()
	defer r.mu.Unlock()
	f := ModelsFigures{
		ModelReport: r.report(), Fault: nullable(either(r.fault, r.refused)), Current: idOf(r.current), Previous: idOf(r.previous()),
		Candidate: idOf(r.candidate), Models: []ModelFigures{}, Control: comparisons, Learning: r.eng.Learning(), Events: slices.Clone(r.events),
	}
	if f.Events == nil {
		f.Events = []ModelEvent{}
	}
	order := slices.Clone(r.known)
	slices.SortStableFunc(order, func(a, b *known) int {
		switch {
		case a == r.current:
			return -1
		case b == r.current:
			return 1
		}
		return b.since.Compare(a.since)
	})
	for _, k := range order {
		f.Models = append(f.Models, r.figures(k))
	}
	return f
}

func (r *Models) figures(k *known) ModelFigures {
	f := ModelFigures{
		ID: k.ID, Name: k.Meta.Card["name"], Role: r.role(k), SinceMS: k.since.UnixMilli(), Origin: k.Origin, Sizes: k.Net.Sizes,
		Bytes: len(k.File), Price: map[string]float64{}, Card: k.Meta.Card, Judgment: map[string]float64{},
	}
	if f.Card == nil {
		f.Card = map[string]string{}
	}
	maps.Copy(f.Price, k.Meta.Price)
	for name, x := range k.figures {
		if p := finite(x); p != nil {
			f.Judgment[name] = x
		}
	}
	if v := k.eval; v != nil {
		f.Tables, f.Rows, f.Faults = v.tables.Load(), v.rows.Load(), v.faults.Load()
		if f.Tables > 0 {
			f.TableMS = finite(float64(v.busyNS.Load()) / float64(f.Tables) / float64(time.Millisecond))
		}
	}
	return f
}

func idOf(k *known) *string {
	if k == nil {
		return nil
	}
	return &k.ID
}
