package history

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"

	"github.com/weirlb/weir/engine/observe"
)

// Parquet writes outcomes as a Parquet file: one row an attempt, required columns, plain encoding, zstd. It is written here because
// that is some two hundred lines, and the libraries for it are ten megabytes. The format is the one of
// https://parquet.apache.org/docs/file-format: pages of a column in turn, and their places in a footer of Thrift's compact protocol.
//
// Rows are held until there are enough for a row group. Not safe for concurrent use.
type Parquet struct {
	w      io.Writer
	err    error
	at     int64
	rows   int
	groups []parquetGroup
	data   [][]byte // of the row group in progress, by column
	held   int
	enc    *zstd.Encoder
	page   []byte
}

// groupRows are held at a time, some 15 MB.
const groupRows = 1 << 17

type parquetGroup struct {
	rows   int
	chunks []parquetChunk
}

type parquetChunk struct{ at, raw, packed int64 }

// Physical and converted types of Parquet.
const (
	parquetInt32  = 1
	parquetInt64  = 2
	parquetFloat  = 4
	parquetBytes  = 6
	parquetUTF8   = 0
	parquetMillis = 9 // a time, milliseconds, UTC
	parquetNone   = -1
)

type parquetColumn struct {
	name      string
	kind      int
	converted int
	append    func(dst []byte, o *Outcome, s Series) []byte
}

func parquetColumns() []parquetColumn {
	text := func(name string, of func(*Outcome, Series) string) parquetColumn {
		return parquetColumn{name, parquetBytes, parquetUTF8, func(dst []byte, o *Outcome, s Series) []byte {
			t := of(o, s)
			return append(binary.LittleEndian.AppendUint32(dst, uint32(len(t))), t...)
		}}
	}
	whole := func(name string, of func(*Outcome) int32) parquetColumn {
		return parquetColumn{name, parquetInt32, parquetNone, func(dst []byte, o *Outcome, _ Series) []byte {
			return binary.LittleEndian.AppendUint32(dst, uint32(of(o)))
		}}
	}
	float := func(name string, of func(*Outcome) float32) parquetColumn {
		return parquetColumn{name, parquetFloat, parquetNone, func(dst []byte, o *Outcome, _ Series) []byte {
			return binary.LittleEndian.AppendUint32(dst, math.Float32bits(of(o)))
		}}
	}
	return []parquetColumn{
		{"time", parquetInt64, parquetMillis, func(dst []byte, o *Outcome, _ Series) []byte {
			return binary.LittleEndian.AppendUint64(dst, uint64(o.AtMS))
		}},
		text("pool", func(_ *Outcome, s Series) string { return s.Pool }),
		text("peer", func(_ *Outcome, s Series) string { return s.Peer }),
		text("class", func(_ *Outcome, s Series) string { return s.Class }),
		whole("attempt", func(o *Outcome) int32 { return int32(o.Attempt) }),
		text("kind", func(o *Outcome, _ Series) string { return observe.Kind(o.Kind).String() }),
		whole("status", func(o *Outcome) int32 { return int32(o.Status) }),
		whole("flags", func(o *Outcome) int32 { return int32(o.Flags) }),
		whole("inflight", func(o *Outcome) int32 { return int32(o.Inflight) }),
		{"bytes", parquetInt64, parquetNone, func(dst []byte, o *Outcome, _ Series) []byte {
			return binary.LittleEndian.AppendUint64(dst, uint64(o.Bytes))
		}},
		float("propensity", func(o *Outcome) float32 { return o.Propensity }),
		float("header_ms", func(o *Outcome) float32 { return o.HeaderMS }),
		float("total_ms", func(o *Outcome) float32 { return o.TotalMS }),
		float("weight", func(o *Outcome) float32 { return o.Weight }),
		float("predicted_ms", func(o *Outcome) float32 { return o.PredictedMS }),
		float("load", func(o *Outcome) float32 { return o.Load }),
		float("rate", func(o *Outcome) float32 { return o.Rate }),
	}
}

// NewParquet begins a file. Close ends it; without that it cannot be read.
func NewParquet(w io.Writer) *Parquet {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		panic(err) // options that are wrong in the code
	}
	p := &Parquet{w: w, enc: enc, data: make([][]byte, len(parquetColumns()))}
	p.write([]byte("PAR1"))
	return p
}

func (p *Parquet) write(data []byte) {
	if p.err == nil {
		_, p.err = p.w.Write(data)
		p.at += int64(len(data))
	}
}

// Write adds outcomes.
func (p *Parquet) Write(series []Series, outcomes []Outcome) error {
	columns := parquetColumns()
	for len(outcomes) > 0 && p.err == nil {
		n := min(len(outcomes), groupRows-p.held)
		for c := range columns {
			for i := range outcomes[:n] {
				p.data[c] = columns[c].append(p.data[c], &outcomes[i], series[outcomes[i].Series])
			}
		}
		outcomes = outcomes[n:]
		if p.held += n; p.held == groupRows {
			p.flush()
		}
	}
	return p.err
}

// flush writes a row group: a page for each column.
func (p *Parquet) flush() {
	if p.held == 0 {
		return
	}
	g := parquetGroup{rows: p.held}
	for c := range p.data {
		p.page = p.enc.EncodeAll(p.data[c], p.page[:0])
		header := thrift{}
		header.i32(1, 0) // a data page
		header.i32(2, int64(len(p.data[c])))
		header.i32(3, int64(len(p.page)))
		header.begin(5)
		header.i32(1, int64(p.held))
		header.i32(2, 0) // plain
		header.i32(3, 3) // levels are RLE, of which there are none: every column is required
		header.i32(4, 3)
		header.end()
		header.stop()
		chunk := parquetChunk{at: p.at, raw: int64(len(p.data[c]) + len(header.out)), packed: int64(len(p.page) + len(header.out))}
		p.write(header.out)
		p.write(p.page)
		g.chunks = append(g.chunks, chunk)
		p.data[c] = p.data[c][:0]
	}
	p.groups = append(p.groups, g)
	p.rows += p.held
	p.held = 0
}

// Close writes what is left and the footer. The writer stays open.
func (p *Parquet) Close() error {
	p.flush()
	columns := parquetColumns()
	f := thrift{}
	f.i32(1, 1) // version
	f.list(2, thriftStruct, len(columns)+1)
	f.enter()
	f.text(4, "outcome")
	f.i32(5, int64(len(columns)))
	f.leave()
	for _, c := range columns {
		f.enter()
		f.i32(1, int64(c.kind))
		f.i32(3, 0) // required
		f.text(4, c.name)
		if c.converted != parquetNone {
			f.i32(6, int64(c.converted))
		}
		f.leave()
	}
	f.i64(3, int64(p.rows))
	f.list(4, thriftStruct, len(p.groups))
	for _, g := range p.groups {
		total := int64(0)
		f.enter()
		f.list(1, thriftStruct, len(g.chunks))
		for c, chunk := range g.chunks {
			total += chunk.raw
			f.enter()
			f.i64(2, chunk.at)
			f.begin(3)
			f.i32(1, int64(columns[c].kind))
			f.list(2, thriftI32, 1)
			f.zigzag(0) // plain
			f.list(3, thriftBinary, 1)
			f.bytes(columns[c].name)
			f.i32(4, 6) // zstd
			f.i64(5, int64(g.rows))
			f.i64(6, chunk.raw)
			f.i64(7, chunk.packed)
			f.i64(9, chunk.at)
			f.end()
			f.leave()
		}
		f.i64(2, total)
		f.i64(3, int64(g.rows))
		f.leave()
	}
	f.text(6, "weir")
	f.stop()
	p.write(f.out)
	p.write(binary.LittleEndian.AppendUint32(nil, uint32(len(f.out))))
	p.write([]byte("PAR1"))
	if p.err != nil {
		return fmt.Errorf("writing Parquet: %w", p.err)
	}
	return nil
}

// Types of Thrift's compact protocol.
const (
	thriftI32    = 5
	thriftI64    = 6
	thriftBinary = 8
	thriftList   = 9
	thriftStruct = 12
)

// thrift writes Thrift's compact protocol. A field's header holds its distance from the last one of the same struct.
type thrift struct {
	out   []byte
	last  int
	outer []int
}

func (t *thrift) field(id, kind int) {
	t.out = append(t.out, byte(id-t.last)<<4|byte(kind))
	t.last = id
}

func (t *thrift) zigzag(x int64) { t.out = binary.AppendVarint(t.out, x) }

func (t *thrift) bytes(s string) {
	t.out = append(binary.AppendUvarint(t.out, uint64(len(s))), s...)
}

func (t *thrift) i32(id int, x int64)   { t.field(id, thriftI32); t.zigzag(x) }
func (t *thrift) i64(id int, x int64)   { t.field(id, thriftI64); t.zigzag(x) }
func (t *thrift) text(id int, s string) { t.field(id, thriftBinary); t.bytes(s) }
func (t *thrift) begin(id int)          { t.field(id, thriftStruct); t.enter() }
func (t *thrift) enter()                { t.outer = append(t.outer, t.last); t.last = 0 }
func (t *thrift) stop()                 { t.out = append(t.out, 0) }
func (t *thrift) end()                  { t.leave() }
func (t *thrift) list(id, of, length int) {
	t.field(id, thriftList)
	if length < 15 {
		t.out = append(t.out, byte(length)<<4|byte(of))
		return
	}
	t.out = binary.AppendUvarint(append(t.out, 0xf0|byte(of)), uint64(length))
}

func (t *thrift) leave() {
	t.stop()
	t.last = t.outer[len(t.outer)-1]
	t.outer = t.outer[:len(t.outer)-1]
}
