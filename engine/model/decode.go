package model

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// MaxFile bounds what Decode reads, in bytes. The largest model that Check accepts is larger; none that is of use is.
const MaxFile = 64 << 20

// pipeWithin bounds how long a pipe is read. The engine reads models at reloads, one after the other: one that waited for a pipe for
// ever would be the last.
const pipeWithin = 5 * time.Second

// ReadFile reads a model file, and no more of it than Decode would take. It may be a pipe that somebody writes to.
func ReadFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe without a writer is empty; else opening it would wait
	if err != nil {
		return nil, fmt.Errorf("reading a model: %w", err)
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(pipeWithin)) // regular files have none and need none
	file, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading a model: %w", err)
	}
	return file, nil
}

// Decode reads what Encode writes. It refuses everything else, valid ONNX of other programs included: the engine must be
// able to evaluate a model in Go as well, and must know what its inputs mean. The errors say at which byte and in which
// part of the file the trouble is.
func Decode(file []byte) (*Net, Meta, error) {
	n, meta, err := decode(file)
	if err != nil {
		return nil, Meta{}, fmt.Errorf("model file: %w", err)
	}
	return n, meta, nil
}

func decode(file []byte) (*Net, Meta, error) {
	switch {
	case len(file) == 0:
		return nil, Meta{}, errors.New("it is empty")
	case len(file) > MaxFile:
		return nil, Meta{}, fmt.Errorf("it has more than %d MiB, which no model of this kind has", MaxFile>>20)
	}
	parts, err := readFile(file)
	if err != nil {
		return nil, Meta{}, err
	}
	meta, err := parts.meta()
	if err != nil {
		return nil, Meta{}, err
	}
	n, err := parts.net()
	if err != nil {
		return nil, Meta{}, err
	}
	if err := n.Check(); err != nil {
		return nil, Meta{}, err
	}
	if err := meta.Check(n.In(), n.Out()); err != nil {
		return nil, Meta{}, err
	}
	// What is left (nodes wired in another way, attributes, other names) is found by writing the network again.
	again, err := Encode(n, meta)
	if err != nil {
		return nil, Meta{}, err
	}
	if !bytes.Equal(again, file) {
		return nil, Meta{}, fmt.Errorf("byte %d is not what Weir writes for such a network; only files that `weir` wrote are read", firstDifference(again, file))
	}
	return n, meta, nil
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// meta takes the metadata out of the properties.
func (p *parts) meta() (Meta, error) {
	about, ok := p.props[metaKey]
	if !ok {
		return Meta{}, fmt.Errorf("it has no metadata property %q, so nothing says which features it takes; write models by `weir train`", metaKey)
	}
	var m Meta
	d := json.NewDecoder(strings.NewReader(about))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Meta{}, fmt.Errorf("its metadata property %q: %w", metaKey, err)
	}
	return m, nil
}

// net puts the layers together: W0 and B0, W1 and B1, and so on.
func (p *parts) net() (*Net, error) {
	layers := len(p.tensors) / 2
	if layers < 1 || layers > MaxLayers {
		return nil, fmt.Errorf("it has %d tensors; two a layer and 1 to %d layers are allowed", len(p.tensors), MaxLayers)
	}
	n := &Net{}
	for l := range layers {
		w, err := p.tensor("W"+strconv.Itoa(l), 2)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", l+1, err)
		}
		b, err := p.tensor("B"+strconv.Itoa(l), 1)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", l+1, err)
		}
		in, out := w.dims[0], w.dims[1]
		switch {
		case l > 0 && n.Sizes[l] != in:
			return nil, fmt.Errorf("layer %d takes %d values; the layer before gives %d", l+1, in, n.Sizes[l])
		case b.dims[0] != out:
			return nil, fmt.Errorf("layer %d has %d outputs and %d biases", l+1, out, b.dims[0])
		case l == 0:
			n.Sizes = append(n.Sizes, in)
		}
		n.Sizes = append(n.Sizes, out)
		n.W, n.B = append(n.W, floats(w.raw)), append(n.B, floats(b.raw))
	}
	switch {
	case p.in != n.In():
		return nil, fmt.Errorf("its input is declared with %d values; layer 1 takes %d", p.in, n.In())
	case p.out != n.Out():
		return nil, fmt.Errorf("its output is declared with %d values; layer %d gives %d", p.out, layers, n.Out())
	}
	return n, nil
}

// tensor finds a tensor by name and checks its shape.
func (p *parts) tensor(name string, dims int) (*tensorPart, error) {
	t, ok := p.tensors[name]
	if !ok {
		return nil, fmt.Errorf("there is no tensor %s", name)
	}
	if len(t.dims) != dims {
		return nil, fmt.Errorf("tensor %s has %d dimensions instead of %d", name, len(t.dims), dims)
	}
	values := 1
	for _, d := range t.dims {
		if d < 1 || d > MaxWidth {
			return nil, fmt.Errorf("tensor %s has the shape %v; 1 to %d are allowed", name, t.dims, MaxWidth)
		}
		values *= d
	}
	if t.elem != elemFloat32 {
		return nil, fmt.Errorf("tensor %s has element type %d; only float32 (%d) is read", name, t.elem, elemFloat32)
	}
	if len(t.raw) != 4*values {
		return nil, fmt.Errorf("tensor %s of shape %v has %d bytes of values instead of %d", name, t.dims, len(t.raw), 4*values)
	}
	return t, nil
}

func floats(raw []byte) []float32 {
	v := make([]float32, len(raw)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return v
}
