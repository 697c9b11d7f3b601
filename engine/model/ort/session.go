//go:build cgo

package ort

import (
	"fmt"
	"runtime"
	"sync"

	onnx "github.com/yalue/onnxruntime_go"

	"github.com/weirlb/weir/engine/model"
)

// Session is a model in ONNX Runtime, ready to predict. Safe for concurrent use: predictions wait for one another, since one
// core is what inference may take, and Close waits for the one that runs.
type Session struct {
	id   string
	meta model.Meta

	// mu guards all below, their memory in C included.
	mu         sync.Mutex
	lib        *Library // nil once closed
	session    *onnx.DynamicAdvancedSession
	x, y       []float32 // what C reads and writes, pinned; capacity rows of them
	pin        runtime.Pinner
	capacity   int
	full, tail bound // of blockRows rows, and of what is left over; kept from one prediction to the next
}

// bound is a view of the first rows of x and y that ONNX Runtime knows as its input and output.
type bound struct {
	rows    int // 0: nothing is bound
	in, out *onnx.Tensor[float32]
	binding *onnx.IoBinding
}

// Open loads a model, bytes as model.Encode wrote them. want says by its Features and Heads what the caller will feed and
// read, in order; a model that differs is refused.
func (l *Library) Open(file []byte, want model.Meta) (_ *Session, err error) {
	net, meta, err := model.Decode(file) // ONNX Runtime sees only what is known to be sound
	if err != nil {
		return nil, err
	}
	id := model.ID(file)
	if err := meta.Fits(want); err != nil {
		return nil, fmt.Errorf("model %s does not fit: %w", id, err)
	}
	lib, err := Load(l.path)
	if err != nil {
		return nil, err
	}
	s := &Session{id: id, meta: meta, lib: lib}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	options, err := onnx.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("model %s: options of ONNX Runtime: %w", id, err)
	}
	defer options.Destroy()
	for _, set := range []func() error{
		func() error { return options.SetIntraOpNumThreads(1) },
		func() error { return options.SetInterOpNumThreads(1) },
		func() error { return options.SetGraphOptimizationLevel(onnx.GraphOptimizationLevelEnableAll) },
		func() error { return options.SetLogSeverityLevel(onnx.LoggingLevelError) },
	} {
		if err := set(); err != nil {
			return nil, fmt.Errorf("model %s: options of ONNX Runtime: %w", id, err)
		}
	}
	if s.session, err = onnx.NewDynamicAdvancedSessionWithONNXData(file, []string{"x"}, []string{"y"}, options); err != nil {
		return nil, fmt.Errorf("model %s: ONNX Runtime %s refuses it: %w", id, l.version, err)
	}
	return s, s.probe(net)
}

// probe holds the session against the network in Go on one row, so that a library that computes something else is found
// before it steers traffic.
func (s *Session) probe(net *model.Net) error {
	x, got, want := make([]float32, net.In()), make([]float32, net.Out()), make([]float32, net.Out())
	for i := range x {
		x[i] = float32(i%3) - 0.75
	}
	if err := s.Predict(x, 1, got); err != nil {
		return err
	}
	var scratch model.Scratch
	net.Forward(x, 1, want, &scratch)
	size := make([]float32, net.Out())
	magnitudes(net).Forward(absolute(x), 1, size, &scratch)
	for i := range want {
		if !agree(got[i], want[i], size[i]) {
			return fmt.Errorf("model %s: ONNX Runtime %s computes %v where %v is right; the library is damaged", s.id, s.lib.version, got[i], want[i])
		}
	}
	return nil
}

// magnitudes is the network of absolute weights: on absolute inputs it gives a bound on every sum that the network forms, and so the
// size that rounding errors are relative to.
func magnitudes(net *model.Net) *model.Net {
	m := &model.Net{Sizes: net.Sizes}
	for l := range net.W {
		m.W, m.B = append(m.W, absolute(net.W[l])), append(m.B, absolute(net.B[l]))
	}
	return m
}

func absolute(v []float32) []float32 {
	a := make([]float32, len(v))
	for i, x := range v {
		a[i] = max(x, -x)
	}
	return a
}

// ID names the model by its bytes, as model.ID does.
func (s *Session) ID() string { return s.id }

// Meta is what the model's file says of it.
func (s *Session) Meta() model.Meta { return s.meta }

// Predict evaluates the model for rows inputs: x holds rows times the number of features, row after row, y receives rows times
// the number of heads. Neither is kept. A value that is not finite, in x or in a result, is an error that names its
// row, and y then holds nothing of use. At a number of rows that stays the same it allocates nothing.
func (s *Session) Predict(x []float32, rows int, y []float32) error {
	in, out := len(s.meta.Features), len(s.meta.Heads)
	if rows < 0 || len(x) != rows*in || len(y) != rows*out {
		return fmt.Errorf("model %s: %d rows of %d features and %d heads need %d and %d values; there are %d and %d",
			s.id, rows, in, out, rows*in, rows*out, len(x), len(y))
	}
	if i := model.FirstNotFinite(x); i >= 0 {
		return fmt.Errorf("model %s: feature %q of row %d is %v", s.id, s.meta.Features[i%in], i/in, x[i])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lib == nil {
		return fmt.Errorf("model %s: %w", s.id, ErrClosed)
	}
	if err := s.grow(min(rows, blockRows)); err != nil {
		return fmt.Errorf("model %s: %w", s.id, err)
	}
	for r := 0; r < rows; r += blockRows {
		m := min(blockRows, rows-r)
		b := &s.full
		if m < blockRows {
			b = &s.tail
		}
		if err := s.run(b, m, x[r*in:(r+m)*in], y[r*out:(r+m)*out]); err != nil {
			return fmt.Errorf("model %s: rows %d to %d in ONNX Runtime: %w", s.id, r, r+m-1, err)
		}
	}
	if i := model.FirstNotFinite(y); i >= 0 {
		return fmt.Errorf("model %s: its %q for row %d is %v", s.id, s.meta.Heads[i%out], i/out, y[i])
	}
	return nil
}

// blockRows rows go to ONNX Runtime at a time, which bounds the memory of a session whatever the batch. From 128 to 4096 rows the
// time for 3200 hardly changes (0.49 to 0.41 ms, 32 -> 64 -> 32 -> 1), since a call into C costs 4 us.
const blockRows = 256

// run is called with mu held.
func (s *Session) run(b *bound, rows int, x, y []float32) error {
	if b.rows != rows {
		if err := s.bind(b, rows); err != nil {
			b.release()
			return err
		}
	}
	copy(s.x, x)
	if err := s.session.RunWithBinding(b.binding); err != nil {
		return err
	}
	copy(y, s.y)
	return nil
}

// grow makes x and y hold rows rows; called with mu held. C keeps their addresses between calls, which cgo allows for
// pinned memory only.
func (s *Session) grow(rows int) error {
	if rows <= s.capacity {
		return nil
	}
	s.unbind()
	rows = min((rows+63)/64*64, blockRows)
	s.x, s.y = make([]float32, rows*len(s.meta.Features)), make([]float32, rows*len(s.meta.Heads))
	s.pin.Pin(&s.x[0])
	s.pin.Pin(&s.y[0])
	s.capacity = rows
	return nil
}

func (s *Session) unbind() {
	s.full.release()
	s.tail.release()
	s.pin.Unpin()
	s.x, s.y, s.capacity = nil, nil, 0
}

func (s *Session) bind(b *bound, rows int) (err error) {
	b.release()
	if b.in, err = onnx.NewTensor(onnx.NewShape(int64(rows), int64(len(s.meta.Features))), s.x); err != nil {
		return err
	}
	if b.out, err = onnx.NewTensor(onnx.NewShape(int64(rows), int64(len(s.meta.Heads))), s.y); err != nil {
		return err
	}
	if b.binding, err = s.session.CreateIoBinding(); err != nil {
		return err
	}
	if err = b.binding.BindInput("x", b.in); err != nil {
		return err
	}
	if err = b.binding.BindOutput("y", b.out); err != nil {
		return err
	}
	b.rows = rows
	return nil
}

func (b *bound) release() {
	if b.binding != nil {
		_ = b.binding.Destroy()
	}
	if b.in != nil {
		_ = b.in.Destroy()
	}
	if b.out != nil {
		_ = b.out.Destroy()
	}
	*b = bound{}
}

// Close frees the session; it waits for a prediction that runs. Later predictions give ErrClosed. A second call does nothing.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lib == nil {
		return nil
	}
	s.unbind()
	if s.session != nil {
		_ = s.session.Destroy()
		s.session = nil
	}
	lib := s.lib
	s.lib = nil
	return lib.Close()
}
