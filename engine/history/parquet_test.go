package history

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// unthrift reads a struct of Thrift's compact protocol into a map by field number: numbers, texts, lists, structs.
type unthrift struct{ in []byte }

func (u *unthrift) varint() uint64 {
	x, n := binary.Uvarint(u.in)
	u.in = u.in[n:]
	return x
}

func (u *unthrift) value(kind byte) any {
	switch kind {
	case thriftI32, thriftI64:
		x := u.varint()
		return int64(x>>1) ^ -int64(x&1)
	case thriftBinary:
		n := u.varint()
		s := string(u.in[:n])
		u.in = u.in[n:]
		return s
	case thriftList:
		head := u.in[0]
		u.in = u.in[1:]
		n := uint64(head >> 4)
		if n == 15 {
			n = u.varint()
		}
		list := make([]any, n)
		for i := range list {
			list[i] = u.value(head & 15)
		}
		return list
	case thriftStruct:
		m := map[int]any{}
		for last := 0; ; {
			head := u.in[0]
			u.in = u.in[1:]
			if head == 0 {
				return m
			}
			last += int(head >> 4)
			m[last] = u.value(head & 15)
		}
	}
	panic(kind)
}

// The file is read back by the description of the format. To read it by another program, WEIR_TEST_KEEP keeps it.
func TestAParquetFileHoldsEveryOutcomeInItsColumns(t *testing.T) {
	b := sample(groupRows + 1000)
	var file bytes.Buffer
	p := NewOutcomeParquet(&file)
	for from := 0; from < len(b.Outcomes); from += 10_007 {
		if err := p.Write(b.Series, b.Outcomes[from:min(from+10_007, len(b.Outcomes))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	data := file.Bytes()
	if keep := os.Getenv("WEIR_TEST_KEEP"); keep != "" {
		_ = os.WriteFile(keep, data, 0o600)
	}
	n := len(data)
	if string(data[:4]) != "PAR1" || string(data[n-4:]) != "PAR1" {
		t.Fatal("not a Parquet file")
	}
	length := int(binary.LittleEndian.Uint32(data[n-8:]))
	footer := (&unthrift{data[n-8-length : n-8]}).value(thriftStruct).(map[int]any)
	schema, groups := footer[2].([]any), footer[4].([]any)
	if footer[3] != int64(len(b.Outcomes)) || len(groups) != 2 || len(schema) != 18 || schema[13].(map[int]any)[4] != "total_ms" {
		t.Fatalf("footer: %v", footer)
	}
	dec, _ := zstd.NewReader(nil)
	defer dec.Close()
	row := 0
	for _, g := range groups {
		columns := g.(map[int]any)[1].([]any)
		page := func(c int) []byte {
			meta := columns[c].(map[int]any)[3].(map[int]any)
			u := &unthrift{data[meta[9].(int64):]}
			head := u.value(thriftStruct).(map[int]any)
			raw, err := dec.DecodeAll(u.in[:head[3].(int64)], nil)
			if err != nil || len(raw) != int(head[2].(int64)) || head[5].(map[int]any)[1] != g.(map[int]any)[3] {
				t.Fatalf("page of column %d: %v, %v", c, err, head)
			}
			return raw
		}
		times, peers, totals := page(0), page(2), page(12)
		for i := range int(g.(map[int]any)[3].(int64)) {
			o := &b.Outcomes[row]
			size := binary.LittleEndian.Uint32(peers)
			peer := string(peers[4 : 4+size])
			peers = peers[4+size:]
			if int64(binary.LittleEndian.Uint64(times[8*i:])) != o.AtMS || math.Float32frombits(binary.LittleEndian.Uint32(totals[4*i:])) != o.TotalMS || peer != b.Series[o.Series].Peer {
				t.Fatalf("row %d differs", row)
			}
			row++
		}
	}
	if row != len(b.Outcomes) {
		t.Errorf("%d rows", row)
	}
	t.Logf("%.1f bytes a row", float64(n)/float64(row))
}

func TestAParquetFileOfServerMetricsHasTheirColumns(t *testing.T) {
	var file bytes.Buffer
	p := NewMetricParquet(&file)
	for i := range 3 {
		if err := p.Add(&MetricRow{MetricSeries{"api", "10.0.0.1:80", "cpu"}, int64(i) * MinuteMS, 6, 0.5, 0.25, float64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	data := file.Bytes()
	n := len(data)
	length := int(binary.LittleEndian.Uint32(data[n-8:]))
	footer := (&unthrift{data[n-8-length : n-8]}).value(thriftStruct).(map[int]any)
	schema, group := footer[2].([]any), footer[4].([]any)[0].(map[int]any)
	if footer[3] != int64(3) || len(schema) != 9 || schema[8].(map[int]any)[4] != "max" || schema[8].(map[int]any)[1] != int64(parquetDouble) {
		t.Fatalf("footer: %v", footer)
	}
	meta := group[1].([]any)[7].(map[int]any)[3].(map[int]any)
	u := &unthrift{data[meta[9].(int64):]}
	head := u.value(thriftStruct).(map[int]any)
	dec, _ := zstd.NewReader(nil)
	defer dec.Close()
	raw, err := dec.DecodeAll(u.in[:head[3].(int64)], nil)
	if err != nil || len(raw) != 24 || math.Float64frombits(binary.LittleEndian.Uint64(raw[16:])) != 2 {
		t.Errorf("%v % x", err, raw)
	}
}
