package model

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func names(prefix string, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprint(prefix, i)
	}
	return s
}

func metaFor(n *Net) Meta {
	return Meta{Features: names("f", n.In()), Heads: names("h", n.Out()), Card: map[string]string{"name": "test", "seeds": "1 2"}}
}

func encoded(t testing.TB, n *Net, m Meta) []byte {
	t.Helper()
	file, err := Encode(n, m)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func sample(t testing.TB) []byte {
	n := random([]int{3, 4, 2}, seeded(1))
	return encoded(t, n, metaFor(n))
}

func TestWhatIsWrittenIsReadAndTheBytesAreAlwaysTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := random(drawSizes(t), seeded(rapid.Uint64().Draw(t, "seed")))
		m := metaFor(n)
		m.Card = rapid.MapOf(rapid.StringN(1, 10, -1), rapid.String()).Draw(t, "card")
		file, err := Encode(n, m)
		if err != nil {
			t.Fatal(err)
		}
		if twice, _ := Encode(n.Clone(), m); !bytes.Equal(file, twice) {
			t.Fatal("not deterministic")
		}
		back, about, err := Decode(file)
		if err != nil {
			t.Fatal(err)
		}
		if !back.Equal(n) || !slices.Equal(about.Features, m.Features) || !slices.Equal(about.Heads, m.Heads) || fmt.Sprint(about.Card) != fmt.Sprint(m.Card) {
			t.Fatalf("%v %v", back, about)
		}
	})
}

func TestAFileCutAnywhereIsRefusedWithThePlace(t *testing.T) {
	file := sample(t)
	for i := range file {
		_, _, err := Decode(file[:i])
		if err == nil {
			t.Fatalf("accepted with %d of %d bytes", i, len(file))
		}
		if text := err.Error(); !strings.Contains(text, "truncated") && !strings.Contains(text, "empty") && !strings.Contains(text, `no metadata property "weir"`) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if _, _, err := Decode(file[:200]); !strings.Contains(err.Error(), "field 7 of the model starts at byte") {
		t.Error(err)
	}
}

func TestAChangedByteIsNeverReadAsTheSameModel(t *testing.T) {
	file := sample(t)
	want, about, _ := Decode(file)
	for i := range file {
		changed := slices.Clone(file)
		changed[i] ^= 0x41
		n, m, err := Decode(changed)
		if err == nil && n.Equal(want) && m.Markdown() == about.Markdown() {
			t.Errorf("byte %d of %d changed nothing", i, len(file))
		}
	}
}

func TestBadFilesAreRefusedInWordsThatHelp(t *testing.T) {
	n := random([]int{3, 4, 2}, seeded(1))
	m := metaFor(n)
	file := encoded(t, n, m)
	replace := func(old, new string) []byte {
		if !bytes.Contains(file, []byte(old)) || len(old) != len(new) {
			t.Fatalf("%q cannot be replaced by %q", old, new)
		}
		return bytes.ReplaceAll(file, []byte(old), []byte(new))
	}
	float := func(v float32) string { return string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v))) }
	// A graph made of parts as Encode makes them, with one that does not fit.
	build := func(tensors ...[]byte) []byte {
		var g []byte
		for _, t := range tensors {
			g = appendMessage(g, graphInitializer, t)
		}
		g = appendMessage(appendMessage(g, graphInput, value("x", 3)), graphOutput, value("y", 2))
		about, _ := m.marshal()
		b := appendMessage(appendInt(nil, modelIR, irVersion), modelGraph, g)
		return appendMessage(b, modelProps, appendText(appendText(nil, propKey, metaKey), propValue, string(about)))
	}
	w0, b0 := tensor("W0", n.W[0], 3, 4), tensor("B0", n.B[0], 4)
	w1, b1 := tensor("W1", n.W[1], 4, 2), tensor("B1", n.B[1], 2)
	for want, file := range map[string][]byte{
		"it is empty":                                       {},
		"it has more than 64 MiB":                           make([]byte, MaxFile+1),
		"the file is damaged or no ONNX model":              []byte("not a model, some other text"),
		"0 graphs instead of one":                           appendInt(nil, modelIR, irVersion),
		"IR version is 7":                                   append(appendInt(nil, modelIR, 7), file[2:]...),
		"operator set is 18":                                replace("\x42\x02\x10\x11", "\x42\x02\x10\x12"),
		`no metadata property "weir"`:                       replace("\n\x04weir", "\n\x04wier"),
		"unknown field":                                     replace(`"features":`, `"faetures":`),
		`"Tanh"`:                                            replace("\x22\x04Relu", "\x22\x04Tanh"),
		"is not what Weir writes":                           replace("Gemm_z0", "Gemm_q0"),
		"the bias of output 1 is NaN":                       replace(float(n.B[0][1]), float(float32(math.NaN()))),
		"the weight from input 2 to output 3 is -Inf":       replace(float(n.W[0][11]), float(float32(math.Inf(-1)))),
		"0 tensors; two a layer":                            build(),
		"layer 2: there is no tensor B1":                    build(w0, b0, w1, tensor("X", n.B[1], 2)),
		"layer 1: tensor W0 has 1 dimensions instead of 2":  build(tensor("W0", n.B[0], 4), b0),
		"has 16 bytes of values instead of 80":              build(tensor("W0", n.B[0], 4, 5), b0),
		"layer 1 has 4 outputs and 2 biases":                build(w0, tensor("B0", n.B[1], 2)),
		"layer 2 takes 2 values; the layer before gives 4":  build(w0, b0, tensor("W1", n.W[1], 2, 4), tensor("B1", n.B[0], 4)),
		"output is declared with 2 values; layer 1 gives 4": build(w0, b0),
		"input is declared with 3 values; layer 1 takes 4":  build(tensor("W0", n.W[0], 4, 3), tensor("B0", n.B[0][:3], 3)),
		`the tensor "W0" is there twice`:                    build(w0, w0, b0, w1, b1),
		"a dimension too many or one above 4096":            build(tensor("W0", nil, 1<<40, 1<<40)),
	} {
		if _, _, err := Decode(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestAPipeIsNotWaitedForLongerThanItMayTake(t *testing.T) {
	t.Parallel() // it waits
	dir := t.TempDir()
	silent, said := filepath.Join(dir, "silent"), filepath.Join(dir, "said")
	for _, path := range []string{silent, said} {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) ([]byte, error) {
		type result struct {
			file []byte
			err  error
		}
		ended := make(chan result, 1)
		go func() {
			file, err := ReadFile(path)
			ended <- result{file, err}
		}()
		select {
		case r := <-ended:
			return r.file, r.err
		case <-time.After(4 * pipeWithin):
			t.Fatalf("%s is still being read", path)
			return nil, nil
		}
	}
	if file, err := read(silent); err != nil || len(file) != 0 {
		t.Errorf("without a writer: %d bytes, %v", len(file), err)
	}
	hold, err := os.OpenFile(said, os.O_RDWR, 0) // a writer that never ends
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	if _, err := hold.WriteString("part of a model"); err != nil {
		t.Fatal(err)
	}
	if _, err := read(said); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with a writer that does not end: %v", err)
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	for want, spoil := range map[string]func(n *Net, m *Meta){
		"is NaN":                               func(n *Net, _ *Meta) { n.W[0][0] = float32(math.NaN()) },
		"2 feature names for a network with 3": func(_ *Net, m *Meta) { m.Features = m.Features[:2] },
		"0 head names for a network with 2":    func(_ *Net, m *Meta) { m.Heads = nil },
		`features 0 and 2 are both named "f0"`: func(_ *Net, m *Meta) { m.Features[2] = "f0" },
		`head 1 has the name ""`:               func(_ *Net, m *Meta) { m.Heads[1] = "" },
		`the card's entry "a"`:                 func(_ *Net, m *Meta) { m.Card["a"] = "\xff" },
	} {
		n := random([]int{3, 4, 2}, seeded(1))
		m := metaFor(n)
		spoil(n, &m)
		if _, err := Encode(n, m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestIDIsTwelveHexDigitsOfTheBytes(t *testing.T) {
	if id := ID([]byte("abc")); id != "ba7816bf8f01" {
		t.Fatal(id)
	}
}

func TestNamesThatDifferAreTold(t *testing.T) {
	for want, names := range map[string][2][]string{
		"features: it has 1 features, 2 are wanted; it lacks b": {{"a"}, {"a", "b"}},
		"unknown here: c":                             {{"a", "b", "c"}, {"a", "b"}},
		"it lacks b; unknown here: c":                 {{"a", "c"}, {"a", "b"}},
		"the order differs: feature 0 is b":           {{"b", "a"}, {"a", "b"}},
		"it lacks 1, 2, 3, 4, 5, 6, 7, 8, and 1 more": {nil, {"1", "2", "3", "4", "5", "6", "7", "8", "9"}},
	} {
		if err := (Meta{Features: names[0]}).Fits(Meta{Features: names[1]}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if err := (Meta{Features: []string{"a"}}).Fits(Meta{Features: []string{"a"}}); err != nil {
		t.Error(err)
	}
}

func TestTheCardIsMarkdownThatNoValueBreaks(t *testing.T) {
	m := Meta{Features: []string{"load", "age"}, Heads: []string{"cost"}, Card: map[string]string{
		"name": "default", "zeal": "x|y\nz", "seeds": "1..5", "created": "2025-01-02", "alpha": "1",
	}}
	want := "# default\n\n| | |\n|---|---|\n| name | default |\n| created | 2025-01-02 |\n| seeds | 1..5 |\n| alpha | 1 |\n| zeal | x\\|y<br>z |\n\n" +
		"## Features\n\n0. `load`\n1. `age`\n\n## Heads\n\n0. `cost`\n"
	if got := m.Markdown(); got != want {
		t.Fatalf("%s", got)
	}
}

func FuzzDecode(f *testing.F) {
	file := sample(f)
	f.Add(file)
	f.Add(file[:len(file)/2])
	linear := New([]int{1, 1}, seeded(1))
	f.Add(encoded(f, linear, metaFor(linear)))
	f.Add([]byte("\x08\x08\x3a\x02\x0a\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		n, m, err := Decode(file)
		if err != nil {
			return
		}
		again, err := Encode(n, m)
		if err != nil || !bytes.Equal(again, file) {
			t.Fatalf("accepted, and written again as something else: %v", err)
		}
		n.Forward(make([]float32, n.In()), 1, make([]float32, n.Out()), &Scratch{})
	})
}
