package ort

import "golang.org/x/sys/cpu"

func features() []feature {
	a := &cpu.ARM64
	return []feature{
		{"asimddp", a.HasASIMDDP},
		{"asimdhp", a.HasASIMDHP},
		{"i8mm", a.HasI8MM},
		{"sve", a.HasSVE},
		{"sve2", a.HasSVE2},
	}
}

// Saturates is false: the INT8 kernels for ARM have room for their sums.
func Saturates() bool { return false }
