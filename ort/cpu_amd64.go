package ort

import "golang.org/x/sys/cpu"

func features() []feature {
	x := &cpu.X86
	return []feature{
		{"sse4.1", x.HasSSE41},
		{"avx", x.HasAVX},
		{"avx2", x.HasAVX2},
		{"fma", x.HasFMA},
		{"avx512f", x.HasAVX512F},
		{"avx512core", hasAVX512Core()},
		{"avx512vnni", x.HasAVX512VNNI},
		{"avx512bf16", x.HasAVX512BF16},
		{"avxvnni", x.HasAVXVNNI},
		{"avxvnniint8", x.HasAVXVNNIInt8},
		{"amxint8", x.HasAMXTile && x.HasAMXInt8},
	}
}

// Saturates tells whether products of unsigned activations and signed weights
// are summed in 16 bits, where two large ones don't fit: INT8 answers are wrong
// then. With session.x64quantprecision ONNX Runtime makes the weights unsigned,
// whose kernels sum in 32 bits; they are slower, and ONNX Runtime would do it on
// processors with VNNI too, which needn't have it.
//
// VNNI in its AVX form counts only without AVX-512: where there is that, ONNX
// Runtime uses the AVX-512 kernels.
func Saturates() bool {
	if hasAVX512Core() {
		return !cpu.X86.HasAVX512VNNI
	}
	return !cpu.X86.HasAVX2 || !cpu.X86.HasAVXVNNI
}

// hasAVX512Core tells of the part of AVX-512 that ONNX Runtime's INT8 kernels
// need.
func hasAVX512Core() bool {
	x := &cpu.X86
	return x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL
}
