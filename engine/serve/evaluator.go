package serve

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/model/ort"
	"github.com/weirlb/weir/engine/telemetry"
)

// evaluator computes what one model says, for every pool. It counts its uses, the registry's and that of each table that is being
// filled, and the last one closes it: a model may be replaced while tables are made with it.
type evaluator struct {
	model   *Model
	session *ort.Session // nil = the program itself evaluates the network
	tel     *telemetry.Models
	uses    atomic.Int64

	tables, rows, faults atomic.Uint64
	busyNS               atomic.Int64
}

// retain adds a use; false when the evaluator is closed already.
func (v *evaluator) retain() bool {
	for {
		n := v.uses.Load()
		if n <= 0 {
			return false
		}
		if v.uses.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (v *evaluator) release() {
	if v != nil && v.uses.Add(-1) == 0 && v.session != nil {
		_ = v.session.Close() // frees memory; there is nobody to tell
	}
}

// predictor makes the evaluator's form for one pool. A session may be shared; a network in Go has memory of its own.
func (v *evaluator) predictor() decide.Predictor {
	if v.session != nil {
		return &timed{v, v.session}
	}
	return &timed{v, v.model.Net.Predictor()}
}

// timed counts what an evaluator does.
type timed struct {
	eval *evaluator
	decide.Predictor
}

func (t *timed) Predict(x []float32, rows int, y []float32) error {
	began := time.Now()
	err := t.Predictor.Predict(x, rows, y)
	took := time.Since(began)
	t.eval.tables.Add(1)
	t.eval.rows.Add(uint64(rows))
	t.eval.busyNS.Add(int64(took))
	t.eval.tel.Inference.Update(took.Seconds())
	return err
}

// inference is what evaluates models: ONNX Runtime, the program itself, or nothing with the reason.
type inference struct {
	lib     *ort.Library
	builtin bool
	err     error
}

// load finds and loads what the configuration asks for. A library that was missing is looked for again at each reload.
func (r *inference) load(c config.Model) {
	if r.lib != nil || r.builtin {
		return
	}
	if c.Library == config.LibraryBuiltin {
		r.builtin, r.err = true, nil
		return
	}
	path, err := ort.Find(c.Library)
	if err == nil {
		r.lib, err = ort.Load(path)
	}
	if r.err = err; err != nil {
		r.lib = nil
	}
}

// describe names the evaluator for people; "" = there is none.
func (r *inference) describe() string {
	switch {
	case r.builtin:
		return "built in"
	case r.lib != nil:
		return fmt.Sprintf("ONNX Runtime %s (%s)", r.lib.Version(), r.lib.Path())
	}
	return ""
}

// open makes an evaluator with one use, the registry's.
func (r *inference) open(m *Model, tel *telemetry.Models) (*evaluator, error) {
	v := &evaluator{model: m, tel: tel}
	v.uses.Store(1)
	switch {
	case r.builtin:
	case r.lib == nil && r.err == nil:
		return nil, errors.New("the engine has no evaluator for models: it was started without, or is stopping")
	case r.lib == nil:
		return nil, r.err
	default:
		var err error
		if v.session, err = r.lib.Open(m.File, wanted()); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (r *inference) close() {
	if r.lib != nil {
		_ = r.lib.Close() // open sessions keep it until they end
	}
	*r = inference{}
}
