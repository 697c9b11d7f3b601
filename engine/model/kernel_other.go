//go:build !amd64

package model

// Elsewhere the portable loops do all the work.
const haveTile = false

func tile8x8(x *float32, in int, w, b *float32, out int, y *float32) { panic("model: no tile8x8 here") }
