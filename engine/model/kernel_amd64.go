package model

import "golang.org/x/sys/cpu"

// Every x86-64 server since 2011 has AVX; without it the portable loops do the same, 9 times slower.
var haveTile = cpu.X86.HasAVX

// tile8x8 computes 8 outputs of 8 rows, y = ReLU(x W + b): x is the first value of the first of 8 rows of in values, w and b the
// first of the 8 columns of a layer with out outputs, y where the first result goes, rows being out apart.
//
// Each output is one lane, so its sum runs over the inputs in order, and product and sum are rounded apart: the same bits as
// from tile2x4.
//
//go:noescape
func tile8x8(x *float32, in int, w, b *float32, out int, y *float32)
