package history

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Parquet writes rows as a Parquet file: required columns, plain encoding, zstd. It is written here because that is some two hundred
// lines, and the libraries for it are ten megabytes. The format is the one of https://parquet.apache.org/docs/file-format: pages of a
// column in turn, and their places in a footer of Thrift's compact protocol.
//
// Rows are held until there are enough for a row group. Not safe for concurrent use.
type Parquet[T any] struct {
	w      io.Writer
	name   string // of what a row is
	cols   []parquetColumn[T]
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
	parquetDouble = 5
	parquetBytes  = 6
	parquetUTF8   = 0
	parquetMillis = 9 // a time, milliseconds, UTC
	parquetNone   = -1
)

type parquetColumn[T any] struct {
	name      string
	kind      int
	converted int
	append    func(dst []byte, row T) []byte
}

func parquetText[T any](name string, of func(T) string) parquetColumn[T] {
	return parquetColumn[T]{name, parquetBytes, parquetUTF8, func(dst []byte, row T) []byte {
		t := of(row)
		return append(binary.LittleEndian.AppendUint32(dst, uint32(len(t))), t...)
	}}
}

func parquetLong[T any](name string, converted int, of func(T) int64) parquetColumn[T] {
	return parquetColumn[T]{name, parquetInt64, converted, func(dst []byte, row T) []byte {
		return binary.LittleEndian.AppendUint64(dst, uint64(of(row)))
	}}
}

func newParquet[T any](w io.Writer, name string, columns []parquetColumn[T]) *Parquet[T] {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		panic(err) // options that are wrong in the code
	}
	p := &Parquet[T]{w: w, name: name, cols: columns, enc: enc, data: make([][]byte, len(columns))}
	p.write([]byte("PAR1"))
	return p
}

func (p *Parquet[T]) write(data []byte) {
	if p.err == nil {
		_, p.err = p.w.Write(data)
		p.at += int64(len(data))
	}
}

// Add adds a row.
func (p *Parquet[T]) Add(row T) error {
	for c := range p.cols {
		p.data[c] = p.cols[c].append(p.data[c], row)
	}
	if p.held++; p.held == groupRows {
		p.flush()
	}
	return p.err
}

// flush writes a row group: a page for each column.
func (p *Parquet[T]) flush() {
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
func (p *Parquet[T]) Close() error {
	p.flush()
	columns := p.cols
	f := thrift{}
	f.i32(1, 1) // version
	f.list(2, thriftStruct, len(columns)+1)
	f.enter()
	f.text(4, p.name)
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
