package onnx

import (
	"fmt"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// window is a kernel's way over an image of len(kernel) dimensions.
type window struct {
	kernel, strides, dilations, begin, end []int64
	auto                                   string // auto_pad
	ceil                                   bool   // round the number of places up, not down
}

// window reads the attributes of a convolution or pooling over the given
// number of spatial dimensions.
func (c *call) window(kernel []int64, spatial int) (window, error) {
	w := window{kernel: kernel, ceil: attrInt(c.n, "ceil_mode", 0) != 0, auto: "NOTSET"}
	if a := attr(c.n, "auto_pad"); a != nil {
		w.auto = string(a.GetS())
	}
	list := func(name string, size int, fallback int64) ([]int64, error) {
		v := attrInts(c.n, name)
		if v == nil {
			v = make([]int64, size)
			for i := range v {
				v[i] = fallback
			}
		}
		if len(v) != size {
			return nil, fmt.Errorf("%d numbers in %s, want %d", len(v), name, size)
		}
		for _, n := range v {
			if n < fallback || n > maxElements {
				return nil, fmt.Errorf("%s has %d", name, n)
			}
		}
		return v, nil
	}
	if len(kernel) != spatial {
		return w, fmt.Errorf("a kernel of %d dimensions over an image of %d", len(kernel), spatial)
	}
	for _, k := range kernel {
		if k < 1 || k > maxElements {
			return w, fmt.Errorf("a kernel of size %d", k)
		}
	}
	var err error
	if w.strides, err = list("strides", spatial, 1); err != nil {
		return w, err
	}
	if w.dilations, err = list("dilations", spatial, 1); err != nil {
		return w, err
	}
	pads, err := list("pads", 2*spatial, 0)
	if err != nil {
		return w, err
	}
	w.begin, w.end = pads[:spatial], pads[spatial:]
	return w, nil
}

// extent is how far the kernel reaches in dimension i.
func (w *window) extent(i int) int64 { return (w.kernel[i]-1)*w.dilations[i] + 1 }

// places gives how many places the kernel takes along dimension i of size d.
func (w *window) places(i int, d dim) (dim, error) {
	stride := w.strides[i]
	if !d.known() {
		if stride == 1 && (w.auto == "SAME_UPPER" || w.auto == "SAME_LOWER" ||
			w.auto == "NOTSET" && w.begin[i]+w.end[i] == w.extent(i)-1) {
			return d, nil
		}
		return unknownDim, nil
	}
	begin, size := w.begin[i], d.n+w.begin[i]+w.end[i]
	switch w.auto {
	case "SAME_UPPER", "SAME_LOWER":
		return fixed((d.n + stride - 1) / stride), nil
	case "VALID":
		begin, size = 0, d.n
	}
	if size < w.extent(i) {
		return dim{}, fmt.Errorf("a kernel that reaches over %d on an image of %d with its padding", w.extent(i), size)
	}
	steps := (size - w.extent(i)) / stride
	if w.ceil {
		steps = (size - w.extent(i) + stride - 1) / stride
		if steps*stride >= d.n+begin { // would start outside
			steps--
		}
	}
	return fixed(steps + 1), nil
}

func conv(c *call) error {
	in, weights, typ := c.in(0), c.in(1), c.in(0).typ
	switch c.n.GetOpType() {
	case "ConvInteger":
		typ = pb.TensorProto_INT32
	case "QLinearConv":
		weights, typ = c.in(3), c.in(7).typ
	}
	if len(in.dims) < 3 || len(weights.dims) != len(in.dims) {
		return c.set(tensorInfo{typ: typ})
	}
	if channels := weights.dims[1]; channels.known() {
		want := channels.n * attrInt(c.n, "group", 1)
		if got := in.dims[1]; got.known() && got.n != want {
			return fmt.Errorf("%d channels in, its weights are for %d", got.n, want)
		}
	}
	kernel := attrInts(c.n, "kernel_shape")
	if kernel == nil {
		for _, d := range weights.dims[2:] {
			if !d.known() {
				return errUnknown
			}
			kernel = append(kernel, d.n)
		}
	}
	w, err := c.window(kernel, len(in.dims)-2)
	if err != nil {
		return err
	}
	dims := []dim{in.dims[0], weights.dims[0]}
	for i, d := range in.dims[2:] {
		p, err := w.places(i, d)
		if err != nil {
			return err
		}
		dims = append(dims, p)
	}
	return c.set(tensorInfo{typ: typ, ranked: true, dims: dims})
}

func convTranspose(c *call) error {
	in, weights := c.in(0), c.in(1)
	if len(in.dims) < 3 || len(weights.dims) != len(in.dims) {
		return errUnknown
	}
	spatial := len(in.dims) - 2
	kernel := attrInts(c.n, "kernel_shape")
	if kernel == nil {
		for _, d := range weights.dims[2:] {
			if !d.known() {
				return errUnknown
			}
			kernel = append(kernel, d.n)
		}
	}
	w, err := c.window(kernel, spatial)
	if err != nil {
		return err
	}
	out, extra := attrInts(c.n, "output_shape"), attrInts(c.n, "output_padding")
	channels := unknownDim
	if m := weights.dims[1]; m.known() {
		channels = fixed(m.n * attrInt(c.n, "group", 1))
	}
	dims := []dim{in.dims[0], channels}
	for i, d := range in.dims[2:] {
		size := unknownDim
		switch {
		case len(out) == spatial:
			size = fixed(out[i])
		case !d.known():
		case w.auto == "SAME_UPPER" || w.auto == "SAME_LOWER":
			size = fixed(d.n * w.strides[i])
		default:
			n := w.strides[i]*(d.n-1) + w.extent(i) - w.begin[i] - w.end[i]
			if len(extra) == spatial {
				n += extra[i]
			}
			if n < 1 {
				return fmt.Errorf("an image of size %d", n)
			}
			size = fixed(n)
		}
		dims = append(dims, size)
	}
	return c.give(dims)
}

func pool(c *call) error {
	in := c.in(0)
	if len(in.dims) < 3 {
		return errUnknown
	}
	w, err := c.window(attrInts(c.n, "kernel_shape"), len(in.dims)-2)
	if err != nil {
		return err
	}
	dims := []dim{in.dims[0], in.dims[1]}
	for i, d := range in.dims[2:] {
		p, err := w.places(i, d)
		if err != nil {
			return err
		}
		dims = append(dims, p)
	}
	return c.set(tensorInfo{typ: in.typ, ranked: true, dims: dims},
		tensorInfo{typ: pb.TensorProto_INT64, ranked: true, dims: dims})
}

func globalPool(c *call) error {
	in := c.in(0)
	if len(in.dims) < 3 {
		return errUnknown
	}
	dims := []dim{in.dims[0], in.dims[1]}
	for range in.dims[2:] {
		dims = append(dims, fixed(1))
	}
	return c.give(dims)
}
