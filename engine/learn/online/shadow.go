package online

import (
	"fmt"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/replay"
)

// shadowTables holds the memory of tables that nobody is served by.
type shadowTables struct {
	m           decide.Matrix
	y           []float32
	served, new decide.Table
}

// look makes a candidate's table of a frame, beside the one that serves, and compares them.
func (s *shadowTables) look(f *replay.Frame, candidate, serving decide.Predictor, clock func() float64) (l gate.Look) {
	f.Matrix(&s.m)
	began := clock()
	_, err := s.table(serving, &s.served, f)
	l.SoleMS = clock() - began
	if err != nil {
		return gate.Look{} // the serving model's fault is another's business
	}
	began = clock()
	l.Fault, err = s.table(candidate, &s.new, f)
	l.TookMS = clock() - began
	if err != nil {
		l.Fault = err.Error()
	}
	if l.Fault == "" {
		l.Moved = gate.Moved(&s.served, &s.new, f.Held, f.Usable, f.Rule)
	}
	return l
}

func (s *shadowTables) table(by decide.Predictor, t *decide.Table, f *replay.Frame) (fault string, err error) {
	t.Classes = t.Classes[:0]
	for range s.m.Classes {
		t.Classes = append(t.Classes, "")
	}
	t.Peers = append(t.Peers[:0], f.Peers...)
	t.Cost = append(t.Cost[:0], s.m.Cost...)
	if by == nil {
		return "", nil
	}
	if cap(s.y) < len(t.Cost) {
		s.y = make([]float32, len(t.Cost))
	}
	s.y = s.y[:len(t.Cost)]
	if err := by.Predict(s.m.X, len(t.Cost), s.y); err != nil {
		return "", err
	}
	for i, z := range s.y {
		if !(z-z == 0) {
			return fmt.Sprintf("it answered %v for peer %s", z, f.Peers[i/decide.GridPoints%s.m.Peers]), nil
		}
	}
	decide.Correct(t.Cost, s.y, f.Load)
	return "", nil
}
