package model

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// parts is what readFile finds in a file, not yet held against itself. Byte slices are of the file.
type parts struct {
	props   map[string]string
	tensors map[string]*tensorPart
	in, out int // declared widths of input and output; 0 when there is none
}

type tensorPart struct {
	dims []int
	elem uint64
	raw  []byte
}

// cursor reads one message. at is the offset of data in the file, path says where in the model that is, for errors.
type cursor struct {
	data []byte
	at   int
	path string
}

// field is one field of a message: a number, or bytes that may be a message.
type field struct {
	num   protowire.Number
	value uint64
	body  cursor
}

// each calls do for every field of the message. Fields of 32 and 64 bits and groups are refused: nothing that is read has any.
func (c cursor) each(do func(field) error) error {
	for len(c.data) > 0 {
		num, kind, n := protowire.ConsumeTag(c.data)
		if n < 0 {
			return c.broken("a field's number", n)
		}
		c.skip(n)
		f := field{num: num}
		switch kind {
		case protowire.VarintType:
			if f.value, n = protowire.ConsumeVarint(c.data); n < 0 {
				return c.broken(fmt.Sprintf("the value of field %d", num), n)
			}
			c.skip(n)
		case protowire.BytesType:
			length, n := protowire.ConsumeVarint(c.data)
			if n < 0 {
				return c.broken(fmt.Sprintf("the length of field %d", num), n)
			}
			c.skip(n)
			if length > uint64(len(c.data)) {
				return fmt.Errorf("it is truncated: field %d of %s starts at byte %d and needs %d bytes; %d are there", num, c.path, c.at, length, len(c.data))
			}
			f.body = cursor{data: c.data[:length:length], at: c.at, path: fmt.Sprintf("field %d of %s", num, c.path)}
			c.skip(int(length))
		default:
			return fmt.Errorf("at byte %d, in %s: field %d has wire type %d; the file is damaged or no ONNX model", c.at, c.path, num, kind)
		}
		if err := do(f); err != nil {
			return err
		}
	}
	return nil
}

func (c *cursor) skip(n int) { c.data, c.at = c.data[n:], c.at+n }

func (c cursor) broken(what string, code int) error {
	return fmt.Errorf("at byte %d, in %s: %s: %w; the file is truncated, damaged or no ONNX model", c.at, c.path, what, protowire.ParseError(code))
}

// as names a message by what it is.
func (c cursor) as(path string) cursor {
	c.path = path
	return c
}

func readFile(file []byte) (*parts, error) {
	p := &parts{props: map[string]string{}, tensors: map[string]*tensorPart{}}
	graphs := 0
	err := cursor{data: file, path: "the model"}.each(func(f field) error {
		switch f.num {
		case modelIR:
			if f.value != irVersion {
				return fmt.Errorf("its IR version is %d; %d is read", f.value, irVersion)
			}
		case modelOpset:
			return f.body.as("the operator set").each(func(f field) error {
				if f.num == opsetVersion && f.value != opset {
					return fmt.Errorf("its operator set is %d; %d is read", f.value, opset)
				}
				return nil
			})
		case modelProps:
			var key, value string
			err := f.body.as("a metadata property").each(func(f field) error {
				switch f.num {
				case propKey:
					key = string(f.body.data)
				case propValue:
					value = string(f.body.data)
				}
				return nil
			})
			p.props[key] = value
			return err
		case modelGraph:
			graphs++
			return p.readGraph(f.body.as("the graph"))
		}
		return nil
	})
	if err == nil && graphs != 1 {
		err = fmt.Errorf("it has %d graphs instead of one; it is truncated or no ONNX model", graphs)
	}
	return p, err
}

func (p *parts) readGraph(c cursor) error {
	return c.each(func(f field) error {
		switch f.num {
		case graphNode:
			return readNode(f.body.as("a node of the graph"))
		case graphInitializer:
			return p.readTensor(f.body.as("a tensor of the graph"))
		case graphInput:
			return readWidth(f.body, &p.in)
		case graphOutput:
			return readWidth(f.body, &p.out)
		}
		return nil
	})
}

// readNode only refuses operations that are not ours; how they are wired, decode finds by writing the network again.
func readNode(c cursor) error {
	return c.each(func(f field) error {
		if op := string(f.body.data); f.num == nodeOp && op != "Gemm" && op != "Relu" {
			return fmt.Errorf("at byte %d: the operation %.40q; only Gemm and Relu are read", f.body.at, op)
		}
		return nil
	})
}

func (p *parts) readTensor(c cursor) error {
	t, name := &tensorPart{}, ""
	err := c.each(func(f field) error {
		switch f.num {
		case tensorDims:
			if f.value > MaxWidth || len(t.dims) == 2 {
				return fmt.Errorf("at byte %d: %s has a dimension too many or one above %d", c.at, c.path, MaxWidth)
			}
			t.dims = append(t.dims, int(f.value))
		case tensorType:
			t.elem = f.value
		case tensorName:
			name = string(f.body.data)
		case tensorRaw:
			t.raw = f.body.data
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, twice := p.tensors[name]; twice {
		return fmt.Errorf("at byte %d: the tensor %.40q is there twice", c.at, name)
	}
	p.tensors[name] = t
	return nil
}

// readWidth reads the number of columns that an input or output declares: the last dimension that is a number.
func readWidth(c cursor, width *int) error {
	under := func(num protowire.Number, do func(field) error) func(field) error {
		return func(f field) error {
			if f.num != num {
				return nil
			}
			return f.body.as("the declaration of input or output").each(do)
		}
	}
	return c.as("the declaration of input or output").each(under(valueType, under(typeTensor, under(typeShape, under(shapeDim, func(f field) error {
		if f.num == dimValue {
			*width = int(min(f.value, MaxWidth+1))
		}
		return nil
	})))))
}
