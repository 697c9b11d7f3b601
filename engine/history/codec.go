package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A batch's encoded form serves the spool, and its outcomes' part the embedded store. Outcomes are written column by column, the
// floats byte by byte of equal weight, so that the compressor sees like beside like: 15 to 18 bytes an outcome in place of 48.
//
//	"WH" version(one byte)  then zstd of: header, series, outcomes, rollups, events, metrics if there are any
//
// Numbers are unsigned varints, signed ones zigzag, texts have their length in front.

const (
	codecVersion = 2
	firstFine    = 2 // the version from which on times are to the microsecond; version 1 is read too
	// maxDecoded bounds what a damaged length can make a decoder allocate.
	maxDecoded = 64 << 20
	maxRows    = 1 << 20
)

// Codec encodes and decodes batches. It holds the compressor's memory. Not safe for concurrent use.
type Codec struct {
	enc     *zstd.Encoder
	dec     *zstd.Decoder
	scratch []byte
}

// NewCodec makes a codec. Its compressor and decompressor are made when they are needed first: most codecs do one of both.
func NewCodec() *Codec { return &Codec{} }

// compress appends the compressed form. One goroutine and a small window: a batch is a quarter second of outcomes.
func (c *Codec) compress(dst, data []byte) []byte {
	if c.enc == nil {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<18),
			zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // options that are wrong in the code
		}
		c.enc = enc
	}
	return c.enc.EncodeAll(data, dst)
}

func (c *Codec) decompress(dst, data []byte) ([]byte, error) {
	if c.dec == nil {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDecoded), zstd.WithDecoderLowmem(true))
		if err != nil {
			panic(err)
		}
		c.dec = dec
	}
	return c.dec.DecodeAll(data, dst)
}

// Append encodes a batch at the end of dst.
func (c *Codec) Append(dst []byte, b *Batch) []byte {
	w := c.scratch[:0]
	w = appendText(w, b.Writer)
	w = binary.AppendUvarint(w, b.Seq)
	w = appendText(w, b.Instance)
	w = appendText(w, b.Zone)
	w = binary.AppendVarint(w, b.AtMS)
	w = appendSeries(w, b.Series)
	w = appendOutcomes(w, b.Outcomes)
	w = appendRollups(w, b.Rollups)
	w = binary.AppendUvarint(w, uint64(len(b.Events)))
	for i := range b.Events {
		e := &b.Events[i]
		w = binary.AppendVarint(w, e.AtMS)
		for _, s := range [...]string{string(e.Kind), e.Pool, e.Subject, e.From, e.To, e.Detail} {
			w = appendText(w, s)
		}
	}
	w = appendMetrics(w, b.Metrics)
	c.scratch = w
	dst = append(dst, 'W', 'H', codecVersion)
	return c.compress(dst, w)
}

// AppendBlock encodes outcomes with their series alone.
func (c *Codec) AppendBlock(dst []byte, series []Series, outcomes []Outcome) []byte {
	c.scratch = appendOutcomes(appendSeries(c.scratch[:0], series), outcomes)
	dst = append(dst, 'W', 'B', codecVersion)
	return c.compress(dst, c.scratch)
}

var errShort = errors.New("it is cut off")

// Decode reads what Append wrote into b, whose memory is used again.
func (c *Codec) Decode(data []byte, b *Batch) error {
	r, err := c.open(data, 'H')
	if err != nil {
		return fmt.Errorf("decoding a batch of history: %w", err)
	}
	b.Writer, b.Seq, b.Instance, b.Zone, b.AtMS = r.text(), r.uvarint(), r.text(), r.text(), r.varint()
	b.Series = r.series(b.Series[:0])
	b.Outcomes = r.outcomes(b.Outcomes[:0])
	b.Rollups = r.rollups(b.Rollups[:0])
	b.Events = b.Events[:0]
	for range r.count() {
		e := Event{AtMS: r.varint(), Kind: EventKind(r.text()), Pool: r.text(), Subject: r.text(), From: r.text(), To: r.text(), Detail: r.text()}
		if r.err != nil {
			break
		}
		b.Events = append(b.Events, e)
	}
	b.Metrics = r.metrics(b.Metrics[:0])
	if r.err == nil && len(r.data) > 0 {
		r.err = errors.New("something follows it")
	}
	if r.err != nil {
		return fmt.Errorf("decoding a batch of history: %w", r.err)
	}
	return nil
}

// DecodeBlock reads what AppendBlock wrote, into the memory of the slices given.
func (c *Codec) DecodeBlock(data []byte, series []Series, outcomes []Outcome) ([]Series, []Outcome, error) {
	r, err := c.open(data, 'B')
	if err == nil {
		series = r.series(series[:0])
		outcomes = r.outcomes(outcomes[:0])
		err = r.err
	}
	if err != nil {
		return series[:0], outcomes[:0], fmt.Errorf("decoding a block of outcomes: %w", err)
	}
	for i := range outcomes {
		if int(outcomes[i].Series) >= len(series) {
			return series[:0], outcomes[:0], errors.New("decoding a block of outcomes: one is of no series")
		}
	}
	return series, outcomes, nil
}

func (c *Codec) open(data []byte, kind byte) (*reader, error) {
	if len(data) < 3 || data[0] != 'W' || data[1] != kind {
		return nil, errors.New("it does not begin as one")
	}
	if data[2] < 1 || data[2] > codecVersion {
		return nil, fmt.Errorf("its version is %d, this program reads 1 to %d", data[2], codecVersion)
	}
	raw, err := c.decompress(c.scratch[:0], data[3:])
	if err != nil {
		return nil, err
	}
	c.scratch = raw
	return &reader{data: raw, fine: data[2] >= firstFine}, nil
}

func appendText(w []byte, s string) []byte {
	return append(binary.AppendUvarint(w, uint64(len(s))), s...)
}

func appendSeries(w []byte, series []Series) []byte {
	w = binary.AppendUvarint(w, uint64(len(series)))
	for _, s := range series {
		w = appendText(appendText(appendText(w, s.Pool), s.Peer), s.Class)
	}
	return w
}

// floats of an outcome, in the order they are written.
func (o *Outcome) floats() [7]float32 {
	return [7]float32{o.Propensity, o.HeaderMS, o.TotalMS, o.Weight, o.PredictedMS, o.Load, o.Rate}
}

const floatBytes = 7 * 4

func appendOutcomes(w []byte, list []Outcome) []byte {
	w = binary.AppendUvarint(w, uint64(len(list)))
	last := int64(0)
	for i := range list {
		w = binary.AppendVarint(w, list[i].AtMS-last)
		last = list[i].AtMS
	}
	for i := range list {
		w = append(w, byte(list[i].AtUS))
	}
	for i := range list {
		w = append(w, byte(list[i].AtUS>>8))
	}
	for i := range list {
		w = binary.AppendUvarint(w, uint64(list[i].Series))
	}
	for i := range list {
		w = append(w, list[i].Attempt)
	}
	for i := range list {
		w = append(w, list[i].Kind)
	}
	for i := range list {
		w = binary.LittleEndian.AppendUint16(w, list[i].Status)
	}
	for i := range list {
		w = binary.LittleEndian.AppendUint16(w, list[i].Flags)
	}
	for i := range list {
		w = binary.LittleEndian.AppendUint16(w, list[i].Inflight)
	}
	for i := range list {
		w = binary.AppendUvarint(w, uint64(list[i].Bytes))
	}
	at, n := len(w), len(list)
	w = slices.Grow(w, floatBytes*n)[:at+floatBytes*n]
	planes := w[at:]
	for i := range list {
		for f, v := range list[i].floats() {
			x, p := math.Float32bits(v), planes[4*n*f:4*n*(f+1)]
			p[i], p[n+i], p[2*n+i], p[3*n+i] = byte(x>>24), byte(x>>16), byte(x>>8), byte(x)
		}
	}
	return w
}

func appendRollups(w []byte, list []Rollup) []byte {
	w = binary.AppendUvarint(w, uint64(len(list)))
	for i := range list {
		w = list[i].Append(w)
	}
	return w
}

// Append encodes a rollup.
func (r *Rollup) Append(w []byte) []byte {
	w = binary.AppendVarint(w, r.MinuteMS)
	for _, n := range [...]uint64{uint64(r.Series), r.Count, r.Failures, r.Others, r.Bytes} {
		w = binary.AppendUvarint(w, n)
	}
	w = binary.LittleEndian.AppendUint64(w, math.Float64bits(r.SumMS))
	for _, x := range [...]float32{r.MaxMS, r.P50, r.P90, r.P99} {
		w = binary.LittleEndian.AppendUint32(w, math.Float32bits(x))
	}
	w = binary.AppendUvarint(w, uint64(len(r.Sketch)))
	return append(w, r.Sketch...)
}

// DecodeRollups reads rollups that were appended one after the other and yields each. The sketch points into data.
func DecodeRollups(data []byte, yield func(*Rollup) error) error {
	r := reader{data: data}
	var one Rollup
	for len(r.data) > 0 {
		r.rollup(&one)
		if r.err != nil {
			return fmt.Errorf("decoding rollups: %w", r.err)
		}
		if err := yield(&one); err != nil {
			return err
		}
	}
	return nil
}

// reader reads the uncompressed form. After an error everything read is zero.
type reader struct {
	data []byte
	err  error
	fine bool // outcomes have microseconds
}

func (r *reader) fail() { r.err, r.data = errShort, nil }

func (r *reader) uvarint() uint64 {
	x, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return x
}

func (r *reader) varint() int64 {
	x, n := binary.Varint(r.data)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return x
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.data)) {
		r.fail()
		return nil
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes(r.uvarint())) }

// count reads the number of rows that follow; each takes at least one byte.
func (r *reader) count() int {
	n := r.uvarint()
	if n > maxRows || n > uint64(len(r.data)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) series(into []Series) []Series {
	for range r.count() {
		s := Series{r.text(), r.text(), r.text()}
		if r.err != nil {
			break
		}
		into = append(into, s)
	}
	return into
}

func (r *reader) outcomes(into []Outcome) []Outcome {
	n := r.count()
	if n == 0 {
		return into
	}
	if cap(into) < n {
		into = make([]Outcome, n)
	}
	into = into[:n]
	last := int64(0)
	for i := range into {
		last += r.varint()
		into[i].AtMS, into[i].AtUS = last, 0
	}
	if r.fine {
		low, high := r.bytes(uint64(n)), r.bytes(uint64(n))
		if r.err != nil {
			return into[:0]
		}
		for i := range into {
			into[i].AtUS = min(uint16(low[i])|uint16(high[i])<<8, 999)
		}
	}
	for i := range into {
		into[i].Series = uint32(r.uvarint())
	}
	if r.err != nil {
		return into[:0]
	}
	size := uint64(n)
	attempt, kind := r.bytes(size), r.bytes(size)
	status, flags, inflight := r.bytes(2*size), r.bytes(2*size), r.bytes(2*size)
	if r.err != nil {
		return into[:0]
	}
	for i := range into {
		o := &into[i]
		o.Attempt, o.Kind = attempt[i], kind[i]
		o.Status, o.Flags, o.Inflight = u16(status, i), u16(flags, i), u16(inflight, i)
		o.Bytes = uint32(r.uvarint())
	}
	planes := r.bytes(floatBytes * size)
	if r.err != nil {
		return into[:0]
	}
	for i := range into {
		var x [7]float32
		for f := range x {
			p := planes[4*n*f : 4*n*(f+1)]
			x[f] = math.Float32frombits(uint32(p[i])<<24 | uint32(p[n+i])<<16 | uint32(p[2*n+i])<<8 | uint32(p[3*n+i]))
		}
		o := &into[i]
		o.Propensity, o.HeaderMS, o.TotalMS, o.Weight, o.PredictedMS, o.Load, o.Rate = x[0], x[1], x[2], x[3], x[4], x[5], x[6]
	}
	return into
}

func u16(b []byte, i int) uint16 { return binary.LittleEndian.Uint16(b[2*i:]) }

func (r *reader) rollups(into []Rollup) []Rollup {
	for range r.count() {
		var one Rollup
		r.rollup(&one)
		if r.err != nil {
			break
		}
		one.Sketch = append([]byte(nil), one.Sketch...)
		into = append(into, one)
	}
	return into
}

func (r *reader) rollup(into *Rollup) {
	into.MinuteMS = r.varint()
	into.Series = uint32(r.uvarint())
	into.Count, into.Failures, into.Others, into.Bytes = r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
	fixed := r.bytes(24)
	if r.err != nil {
		return
	}
	into.SumMS = math.Float64frombits(binary.LittleEndian.Uint64(fixed))
	for i, x := range [...]*float32{&into.MaxMS, &into.P50, &into.P90, &into.P99} {
		*x = math.Float32frombits(binary.LittleEndian.Uint32(fixed[8+4*i:]))
	}
	into.Sketch = r.bytes(r.uvarint())
}
