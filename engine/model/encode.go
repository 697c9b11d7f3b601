package model

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// What a file says of its form. IR 8 and operator set 17 are of 2022, so every ONNX Runtime since 1.12 loads the file.
const (
	irVersion = 8
	opset     = 17
	producer  = "weir"
	batchDim  = "N" // symbolic: any number of rows
)

// Field numbers of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), as far as they are used.
const (
	modelIR, modelProducer, modelGraph, modelOpset, modelProps      = 1, 2, 7, 8, 14
	opsetVersion                                                    = 2
	propKey, propValue                                              = 1, 2
	graphNode, graphName, graphInitializer, graphInput, graphOutput = 1, 2, 5, 11, 12
	nodeInput, nodeOutput, nodeName, nodeOp                         = 1, 2, 3, 4
	tensorDims, tensorType, tensorName, tensorRaw                   = 1, 2, 8, 9
	valueName, valueType                                            = 1, 2
	typeTensor, typeElem, typeShape, shapeDim, dimValue, dimParam   = 1, 1, 2, 1, 1, 2
	elemFloat32                                                     = 1
)

// Encode writes a network as ONNX: one Gemm a layer, Relu between, input "x" [N, features] and output "y" [N, heads], both
// float32, with meta as JSON in the metadata property "weir". The same network and meta give the same bytes.
func Encode(n *Net, meta Meta) ([]byte, error) {
	if err := n.Check(); err != nil {
		return nil, fmt.Errorf("encoding the model: %w", err)
	}
	if err := meta.Check(n.In(), n.Out()); err != nil {
		return nil, fmt.Errorf("encoding the model: %w", err)
	}
	about, err := meta.marshal()
	if err != nil {
		return nil, fmt.Errorf("encoding the model's metadata: %w", err)
	}
	var b []byte
	b = appendInt(b, modelIR, irVersion)
	b = appendText(b, modelProducer, producer)
	b = appendMessage(b, modelGraph, graph(n))
	b = appendMessage(b, modelOpset, appendInt(nil, opsetVersion, opset))
	b = appendMessage(b, modelProps, appendText(appendText(nil, propKey, metaKey), propValue, string(about)))
	return b, nil
}

func graph(n *Net) []byte {
	var g []byte
	last := len(n.W) - 1
	from := "x"
	for l := range n.W {
		i := strconv.Itoa(l)
		to := "h" + i
		if l == last {
			to = "y"
		}
		gemm := to
		if l < last {
			gemm = "z" + i
		}
		g = appendMessage(g, graphNode, node("Gemm", []string{from, "W" + i, "B" + i}, gemm))
		if l < last {
			g = appendMessage(g, graphNode, node("Relu", []string{gemm}, to))
		}
		from = to
	}
	g = appendText(g, graphName, producer)
	for l := range n.W {
		i := strconv.Itoa(l)
		g = appendMessage(g, graphInitializer, tensor("W"+i, n.W[l], n.Sizes[l], n.Sizes[l+1]))
		g = appendMessage(g, graphInitializer, tensor("B"+i, n.B[l], n.Sizes[l+1]))
	}
	g = appendMessage(g, graphInput, value("x", n.In()))
	return appendMessage(g, graphOutput, value("y", n.Out()))
}

func node(op string, in []string, out string) []byte {
	var b []byte
	for _, name := range in {
		b = appendText(b, nodeInput, name)
	}
	b = appendText(b, nodeOutput, out)
	b = appendText(b, nodeName, op+"_"+out)
	return appendText(b, nodeOp, op)
}

func tensor(name string, data []float32, dims ...int) []byte {
	var b []byte
	for _, d := range dims {
		b = appendInt(b, tensorDims, uint64(d))
	}
	b = appendInt(b, tensorType, elemFloat32)
	b = appendText(b, tensorName, name)
	raw := make([]byte, 0, 4*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return appendMessage(b, tensorRaw, raw)
}

// value describes a float32 matrix of any number of rows.
func value(name string, width int) []byte {
	var shape []byte
	shape = appendMessage(shape, shapeDim, appendText(nil, dimParam, batchDim))
	shape = appendMessage(shape, shapeDim, appendInt(nil, dimValue, uint64(width)))
	t := appendMessage(appendInt(nil, typeElem, elemFloat32), typeShape, shape)
	return appendMessage(appendText(nil, valueName, name), valueType, appendMessage(nil, typeTensor, t))
}

func appendInt(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendText(b []byte, field protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendMessage(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}
