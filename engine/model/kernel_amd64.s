#include "textflag.h"

// func tile8x8(x *float32, in int, w, b *float32, out int, y *float32)
//
// Y0 to Y7 hold the sums of the 8 rows, Y8 the weights of one input, Y9 to Y12 one input of four rows and its products.
TEXT ·tile8x8(SB), NOSPLIT, $0-48
	MOVQ x+0(FP), SI
	MOVQ in+8(FP), CX
	MOVQ w+16(FP), BX
	MOVQ b+24(FP), AX
	MOVQ out+32(FP), DX
	MOVQ y+40(FP), DI
	SHLQ $2, DX           // bytes from one input's weights to the next, and from row to row of y
	MOVQ CX, R8
	SHLQ $2, R8           // bytes from row to row of x
	LEAQ (R8)(R8*2), R9
	LEAQ (SI)(R8*4), R10  // row 4 of x

	VMOVUPS (AX), Y0
	VMOVAPS Y0, Y1
	VMOVAPS Y0, Y2
	VMOVAPS Y0, Y3
	VMOVAPS Y0, Y4
	VMOVAPS Y0, Y5
	VMOVAPS Y0, Y6
	VMOVAPS Y0, Y7

input:
	VMOVUPS      (BX), Y8
	VBROADCASTSS (SI), Y9
	VBROADCASTSS (SI)(R8*1), Y10
	VBROADCASTSS (SI)(R8*2), Y11
	VBROADCASTSS (SI)(R9*1), Y12
	VMULPS       Y8, Y9, Y9
	VMULPS       Y8, Y10, Y10
	VMULPS       Y8, Y11, Y11
	VMULPS       Y8, Y12, Y12
	VADDPS       Y9, Y0, Y0
	VADDPS       Y10, Y1, Y1
	VADDPS       Y11, Y2, Y2
	VADDPS       Y12, Y3, Y3
	VBROADCASTSS (R10), Y9
	VBROADCASTSS (R10)(R8*1), Y10
	VBROADCASTSS (R10)(R8*2), Y11
	VBROADCASTSS (R10)(R9*1), Y12
	VMULPS       Y8, Y9, Y9
	VMULPS       Y8, Y10, Y10
	VMULPS       Y8, Y11, Y11
	VMULPS       Y8, Y12, Y12
	VADDPS       Y9, Y4, Y4
	VADDPS       Y10, Y5, Y5
	VADDPS       Y11, Y6, Y6
	VADDPS       Y12, Y7, Y7
	ADDQ         $4, SI
	ADDQ         $4, R10
	ADDQ         DX, BX
	DECQ         CX
	JNZ          input

	// ReLU as Go's max(v, 0) does it. Of two values of which one is NaN, VMAXPS returns the one written first here, so NaN stays; of
	// two zeros too, so adding +0 first turns -0 into +0.
	VXORPS Y8, Y8, Y8
	VADDPS Y8, Y0, Y0
	VADDPS Y8, Y1, Y1
	VADDPS Y8, Y2, Y2
	VADDPS Y8, Y3, Y3
	VADDPS Y8, Y4, Y4
	VADDPS Y8, Y5, Y5
	VADDPS Y8, Y6, Y6
	VADDPS Y8, Y7, Y7
	VMAXPS Y0, Y8, Y0
	VMAXPS Y1, Y8, Y1
	VMAXPS Y2, Y8, Y2
	VMAXPS Y3, Y8, Y3
	VMAXPS Y4, Y8, Y4
	VMAXPS Y5, Y8, Y5
	VMAXPS Y6, Y8, Y6
	VMAXPS Y7, Y8, Y7

	LEAQ    (DX)(DX*2), R9
	LEAQ    (DI)(DX*4), R10
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, (DI)(DX*1)
	VMOVUPS Y2, (DI)(DX*2)
	VMOVUPS Y3, (DI)(R9*1)
	VMOVUPS Y4, (R10)
	VMOVUPS Y5, (R10)(DX*1)
	VMOVUPS Y6, (R10)(DX*2)
	VMOVUPS Y7, (R10)(R9*1)
	VZEROUPPER
	RET
