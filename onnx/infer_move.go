package onnx

import (
	"fmt"
	"slices"
)

// The rules of operators that move elements about.

func reshape(c *call) error {
	in, shape := c.in(0), c.in(1)
	if shape.values == nil {
		if len(shape.dims) == 1 && shape.dims[0].known() && shape.dims[0].n <= maxRank {
			return c.give(slices.Repeat([]dim{unknownDim}, int(shape.dims[0].n)))
		}
		return c.set(typeOnly(in))
	}
	var dims []dim
	rest := -1 // where the size is to be found from the others
	for i, v := range shape.values {
		switch {
		case v.known && v.n == -1 && rest < 0:
			rest = i
			dims = append(dims, fixed(1))
		case v.known && v.n < 0:
			return fmt.Errorf("a second -1, or %d, in its shape", v.n)
		case v.known && v.n == 0 && attrInt(c.n, "allowzero", 0) == 0:
			if !in.ranked {
				dims = append(dims, unknownDim)
				continue
			}
			if i >= len(in.dims) {
				return fmt.Errorf("its shape has 0 at %d, want a size: its input has %d dimensions", i, len(in.dims))
			}
			dims = append(dims, in.dims[i])
		default:
			dims = append(dims, v.dim())
		}
	}
	if !in.ranked {
		if rest >= 0 {
			dims[rest] = unknownDim
		}
		return c.give(dims)
	}
	d, exact := quotient(in.dims, dims)
	switch {
	case rest >= 0 && !exact:
		return fmt.Errorf("an input of %s can't become %s", text(in.dims), text(dims))
	case rest >= 0:
		dims[rest] = d
	case !exact || d.known() && d.n != 1:
		return fmt.Errorf("an input of %s can't become %s", text(in.dims), text(dims))
	}
	t := typeOnly(in)
	t.ranked, t.dims, t.values = true, dims, in.values
	return c.set(t)
}

// quotient divides the product of a by the product of b: sizes of the same sym
// cancel out. exact is false where both are known and there is a remainder.
func quotient(a, b []dim) (q dim, exact bool) {
	b = slices.Clone(b)
	x, y, unknown := int64(1), int64(1), []dim{}
	for _, d := range a {
		if d.known() {
			if x *= d.n; x > maxElements {
				return unknownDim, true
			}
			continue
		}
		if i := slices.Index(b, d); i >= 0 && d.sym != "" {
			b = slices.Delete(b, i, i+1)
			continue
		}
		unknown = append(unknown, d)
	}
	for _, d := range b {
		if !d.known() {
			return unknownDim, true
		}
		if y *= d.n; y > maxElements {
			return unknownDim, true
		}
	}
	switch {
	case len(unknown) == 1 && x == y:
		return unknown[0], true
	case len(unknown) > 0:
		return unknownDim, true
	case y == 0:
		return fixed(1), x == 0
	}
	return fixed(x / y), x%y == 0
}

func text(dims []dim) string {
	t := tensorInfo{ranked: true, dims: dims}
	return dimsText(t.sizes())
}

func typeOnly(t *tensorInfo) tensorInfo { return tensorInfo{typ: t.typ} }

func flatten(c *call) error {
	in := c.in(0)
	if !in.ranked {
		return c.give([]dim{unknownDim, unknownDim})
	}
	axis := attrInt(c.n, "axis", 1)
	if axis < 0 {
		axis += int64(len(in.dims))
	}
	if axis < 0 || axis > int64(len(in.dims)) {
		return fmt.Errorf("axis %d of %d dimensions", axis, len(in.dims))
	}
	return c.give([]dim{product(in.dims[:axis]), product(in.dims[axis:])})
}

func transpose(c *call) error {
	in := c.in(0)
	if !in.ranked {
		return c.set(typeOnly(in))
	}
	perm := attrInts(c.n, "perm")
	if perm == nil {
		for i := range in.dims {
			perm = append(perm, int64(len(in.dims)-1-i))
		}
	}
	axes, err := axisSet(perm, len(in.dims))
	if err != nil {
		return err
	}
	if len(axes) != len(in.dims) || len(perm) != len(in.dims) {
		return fmt.Errorf("perm %v for %d dimensions", perm, len(in.dims))
	}
	t := tensorInfo{typ: in.typ, ranked: true, dims: make([]dim, len(perm))}
	order := make([]int, len(perm))
	for i, p := range perm {
		order[i], _ = axisOf(p, len(in.dims))
		t.dims[i] = in.dims[order[i]]
	}
	t.values = pick(in, t.dims, func(at []int64) []int64 {
		from := make([]int64, len(at))
		for i, p := range order {
			from[p] = at[i]
		}
		return from
	})
	return c.set(t)
}

func squeeze(c *call) error {
	in := c.in(0)
	axes, ok := c.list(1, "axes")
	if !in.ranked || !ok {
		return c.set(typeOnly(in))
	}
	drop, err := axisSet(axes, len(in.dims))
	if err != nil {
		return err
	}
	t := tensorInfo{typ: in.typ, ranked: true, dims: []dim{}, values: in.values}
	for i, d := range in.dims {
		switch {
		case drop[i] && d.known() && d.n != 1:
			return fmt.Errorf("it squeezes a dimension of size %d", d.n)
		case drop[i], len(axes) == 0 && d.is(1):
		case len(axes) == 0 && !d.known():
			return c.set(typeOnly(in))
		default:
			t.dims = append(t.dims, d)
		}
	}
	return c.set(t)
}

func unsqueeze(c *call) error {
	in := c.in(0)
	axes, ok := c.list(1, "axes")
	if !in.ranked || !ok || len(axes) > maxRank {
		return c.set(typeOnly(in))
	}
	rank := len(in.dims) + len(axes)
	insert, err := axisSet(axes, rank)
	if err != nil {
		return err
	}
	if len(insert) != len(axes) {
		return fmt.Errorf("axes %v name one twice", axes)
	}
	t := tensorInfo{typ: in.typ, ranked: true, dims: []dim{}, values: in.values}
	for i, from := 0, 0; i < rank; i++ {
		if insert[i] {
			t.dims = append(t.dims, fixed(1))
			continue
		}
		t.dims = append(t.dims, in.dims[from])
		from++
	}
	return c.set(t)
}

func concat(c *call) error {
	first := c.in(0)
	if !first.ranked {
		return c.set(typeOnly(first))
	}
	axis, err := c.axis(1, len(first.dims))
	if err != nil {
		return err
	}
	t := tensorInfo{typ: first.typ, ranked: true, dims: slices.Clone(first.dims)}
	if len(first.dims) == 1 {
		t.values = slices.Clone(first.values)
	}
	for i := range c.n.GetInput()[1:] {
		in := c.in(i + 1)
		if !in.ranked {
			t.values = nil
			for j := range t.dims {
				t.dims[j] = unknownDim
			}
			return c.set(t)
		}
		if len(in.dims) != len(t.dims) {
			return fmt.Errorf("it joins tensors of %d and %d dimensions", len(t.dims), len(in.dims))
		}
		for j, d := range in.dims {
			if j != axis {
				both, err := unify(t.dims[j], d)
				if err != nil {
					return fmt.Errorf("it joins tensors of %s and %s: %w", text(t.dims), text(in.dims), err)
				}
				t.dims[j] = both
				continue
			}
			if !d.known() || !t.dims[j].known() {
				t.dims[j] = unknownDim
			} else {
				t.dims[j] = fixed(t.dims[j].n + d.n)
			}
		}
		if t.values == nil || in.values == nil || len(t.values)+len(in.values) > maxValues {
			t.values = nil
		} else {
			t.values = append(t.values, in.values...)
		}
	}
	return c.set(t)
}

func split(c *call) error {
	in := c.in(0)
	if !in.ranked {
		return errUnknown
	}
	axis, err := c.axis(0, len(in.dims))
	if err != nil {
		return err
	}
	parts := int64(len(c.n.GetOutput()))
	sizes, ok := c.list(1, "split")
	for i := range c.n.GetOutput() {
		size := unknownDim
		whole := in.dims[axis]
		switch {
		case ok && i < len(sizes):
			size = fixed(sizes[i])
		case ok && len(sizes) == 0 && whole.known():
			each := (whole.n + parts - 1) / parts
			size = fixed(max(0, min(each, whole.n-int64(i)*each)))
		}
		dims := slices.Clone(in.dims)
		dims[axis] = size
		c.out = append(c.out, tensorInfo{typ: in.typ, ranked: true, dims: dims})
	}
	return nil
}

func pad(c *call) error {
	in := c.in(0)
	if !in.ranked {
		return c.set(typeOnly(in))
	}
	pads, ok := c.list(1, "pads")
	axes, axesKnown := c.list(3, "")
	if !ok || !axesKnown {
		return c.give(slices.Repeat([]dim{unknownDim}, len(in.dims)))
	}
	if axes == nil {
		for i := range in.dims {
			axes = append(axes, int64(i))
		}
	}
	if len(pads) != 2*len(axes) {
		return fmt.Errorf("%d pads, want %d", len(pads), 2*len(axes))
	}
	dims := slices.Clone(in.dims)
	for i, a := range axes {
		j, err := axisOf(a, len(in.dims))
		if err != nil {
			return err
		}
		begin, end := pads[i], pads[i+len(axes)]
		switch {
		case begin == 0 && end == 0:
		case !dims[j].known() || max(begin, end, -begin, -end) > maxElements:
			dims[j] = unknownDim
		default:
			dims[j] = fixed(max(0, dims[j].n+begin+end))
		}
	}
	return c.give(dims)
}

func expand(c *call) error {
	in, shape := c.in(0), c.in(1)
	if !in.ranked || shape.values == nil {
		return c.set(typeOnly(in))
	}
	var want []dim
	for _, v := range shape.values {
		want = append(want, v.dim())
	}
	dims, err := broadcast(in.dims, want)
	if err != nil {
		return err
	}
	return c.give(dims)
}

func tile(c *call) error {
	in, repeats := c.in(0), c.in(1)
	if !in.ranked {
		return c.set(typeOnly(in))
	}
	dims := slices.Clone(in.dims)
	for i := range dims {
		switch {
		case len(repeats.values) == len(dims) && repeats.values[i].known && repeats.values[i].n == 1:
		case len(repeats.values) == len(dims) && repeats.values[i].known && repeats.values[i].n >= 0 && dims[i].known():
			dims[i] = product([]dim{dims[i], fixed(repeats.values[i].n)})
		default:
			dims[i] = unknownDim
		}
	}
	return c.give(dims)
}
