package history

import "encoding/binary"

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
