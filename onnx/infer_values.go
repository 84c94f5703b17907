package onnx

import (
	"fmt"
	"slices"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// The rules that follow the values of small integer tensors: with these,
// exporters compute the shapes that Reshape, Expand, Slice and Pad get.

func shapeOf(c *call) error {
	in := c.in(0)
	t := tensorInfo{typ: pb.TensorProto_INT64, ranked: true, dims: []dim{unknownDim}}
	if in.ranked {
		rank := int64(len(in.dims))
		start, end := attrInt(c.n, "start", 0), attrInt(c.n, "end", rank)
		start, end = clamp(start, rank), clamp(end, rank)
		t.values = []value{}
		for i := start; i < end; i++ {
			t.values = append(t.values, in.dims[i].value())
		}
		t.dims[0] = fixed(int64(len(t.values)))
	}
	return c.set(t)
}

// clamp makes an index that may count from the end one of 0 to size.
func clamp(i, size int64) int64 {
	if i < 0 {
		i += size
	}
	return min(max(i, 0), size)
}

func sizeOf(c *call) error {
	t := tensorInfo{typ: pb.TensorProto_INT64, ranked: true, dims: []dim{}}
	if c.in(0).ranked {
		t.values = []value{product(c.in(0).dims).value()}
	}
	return c.set(t)
}

func constantOfShape(c *call) error {
	t := tensorInfo{typ: pb.TensorProto_FLOAT}
	fill := []int64{0}
	if a := attr(c.n, "value"); a != nil {
		t.typ = pb.TensorProto_DataType(a.GetT().GetDataType())
		fill = ints(a.GetT())
	}
	shape := c.in(0)
	if shape.values == nil || len(shape.values) > maxRank {
		return c.set(t)
	}
	t.ranked, t.dims = true, []dim{}
	for _, v := range shape.values {
		t.dims = append(t.dims, v.dim())
	}
	if n := product(t.dims); t.typ != pb.TensorProto_FLOAT && len(fill) == 1 && n.known() && n.n <= maxValues {
		t.values = slices.Repeat([]value{valueOf(fill[0])}, int(n.n))
	}
	return c.set(t)
}

func rangeOf(c *call) error {
	t := tensorInfo{typ: c.in(0).typ, ranked: true, dims: []dim{unknownDim}}
	var v [3]int64
	for i := range v {
		values := c.in(i).values
		if len(values) != 1 || !values[0].known {
			return c.set(t)
		}
		v[i] = values[0].n
	}
	start, limit, delta := v[0], v[1], v[2]
	if delta == 0 || max(start, limit, delta, -start, -limit, -delta) > maxElements {
		return c.set(t)
	}
	n := max(0, (limit-start)/delta)
	if (limit-start)%delta != 0 && (limit > start) == (delta > 0) {
		n++
	}
	t.dims[0] = fixed(n)
	if n <= maxValues {
		t.values = []value{}
		for i := range n {
			t.values = append(t.values, valueOf(start+i*delta))
		}
	}
	return c.set(t)
}

func gather(c *call) error {
	in, index := c.in(0), c.in(1)
	if !in.ranked || !index.ranked {
		return c.set(typeOnly(in))
	}
	axis, err := c.axis(0, len(in.dims))
	if err != nil {
		return err
	}
	t := tensorInfo{typ: in.typ, ranked: true}
	t.dims = append(slices.Clone(in.dims[:axis]), index.dims...)
	t.dims = append(t.dims, in.dims[axis+1:]...)
	if len(in.dims) == 1 && in.values != nil && index.values != nil {
		t.values = []value{}
		for _, v := range index.values {
			i := v.n
			if i < 0 {
				i += int64(len(in.values))
			}
			if !v.known || i < 0 || i >= int64(len(in.values)) {
				t.values = nil
				break
			}
			t.values = append(t.values, in.values[i])
		}
	}
	return c.set(t)
}

func slice(c *call) error {
	in := c.in(0)
	if !in.ranked {
		return c.set(typeOnly(in))
	}
	starts, ok1 := c.list(1, "starts")
	ends, ok2 := c.list(2, "ends")
	axes, ok3 := c.list(3, "axes")
	steps, ok4 := c.list(4, "")
	if axes == nil {
		for i := range starts {
			axes = append(axes, int64(i))
		}
	}
	if steps == nil {
		steps = slices.Repeat([]int64{1}, len(starts))
	}
	t := tensorInfo{typ: in.typ, ranked: true, dims: slices.Clone(in.dims)}
	if !ok1 || !ok2 || !ok3 || !ok4 {
		for i := range t.dims {
			t.dims[i] = unknownDim
		}
		return c.set(t)
	}
	if len(ends) != len(starts) || len(axes) != len(starts) || len(steps) != len(starts) {
		return fmt.Errorf("%d starts, %d ends, %d axes and %d steps", len(starts), len(ends), len(axes), len(steps))
	}
	first, stride := make([]int64, len(t.dims)), slices.Repeat([]int64{1}, len(t.dims))
	for i := range starts {
		j, err := axisOf(axes[i], len(t.dims))
		if err != nil {
			return err
		}
		if steps[i] == 0 {
			return fmt.Errorf("a step of 0")
		}
		if d := t.dims[j]; !d.known() {
			if starts[i] != 0 || steps[i] != 1 || ends[i] < maxElements {
				t.dims[j] = unknownDim
			}
			continue
		}
		var n int64
		first[j], n = sliced(starts[i], ends[i], steps[i], t.dims[j].n)
		stride[j] = steps[i]
		t.dims[j] = fixed(n)
	}
	t.values = pick(in, t.dims, func(at []int64) []int64 {
		from := make([]int64, len(at))
		for i := range at {
			from[i] = first[i] + at[i]*stride[i]
		}
		return from
	})
	return c.set(t)
}

// sliced gives the first index and the number of those that a slice takes.
func sliced(start, end, step, size int64) (first, n int64) {
	step = min(max(step, -maxElements), maxElements) // no size is larger
	if step > 0 {
		start, end = clamp(start, size), clamp(end, size)
		return start, max(0, (end-start+step-1)/step)
	}
	// Downwards: from size-1 at most, to -1 where it ends before the first.
	down := func(i int64) int64 {
		if i < 0 {
			i += size
		}
		return min(max(i, -1), size-1)
	}
	start, end = down(start), down(end)
	return start, max(0, (start-end-step-1)/-step)
}

// pick gives the values of a tensor of dimensions dims whose element at an
// index is t's at from(index); nil where they aren't known.
func pick(t *tensorInfo, dims []dim, from func(at []int64) []int64) []value {
	n := product(dims)
	if t.values == nil || !n.known() || n.n > maxValues {
		return nil
	}
	values := make([]value, 0, n.n)
	at := make([]int64, len(dims))
	for range n.n {
		i := int64(0)
		for axis, x := range from(at) {
			if x < 0 || x >= t.dims[axis].n {
				return nil
			}
			i = i*t.dims[axis].n + x
		}
		if i >= int64(len(t.values)) {
			return nil
		}
		values = append(values, t.values[i])
		for axis := len(at) - 1; axis >= 0; axis-- {
			if at[axis]++; at[axis] < dims[axis].n {
				break
			}
			at[axis] = 0
		}
	}
	return values
}

// calculate gives the values of an operator that works element by element; nil
// where they aren't known.
func (c *call) calculate(dims []dim) []value {
	n := product(dims)
	if !n.known() || n.n > maxValues || len(c.n.GetInput()) < 2 {
		return nil
	}
	inputs := make([][]value, len(c.n.GetInput()))
	for i := range inputs {
		t := c.in(i)
		inputs[i] = pick(t, dims, func(at []int64) []int64 {
			from := slices.Clone(at[len(at)-len(t.dims):])
			for j, d := range t.dims {
				if d.is(1) {
					from[j] = 0
				}
			}
			return from
		})
		if inputs[i] == nil {
			return nil
		}
	}
	values := make([]value, n.n)
	for i := range values {
		a, b := inputs[0][i], inputs[1][i]
		if c.n.GetOpType() == "Where" {
			switch {
			case !a.known:
			case a.n != 0:
				values[i] = b
			case len(inputs) > 2:
				values[i] = inputs[2][i]
			}
			continue
		}
		values[i] = arithmetic(c.n.GetOpType(), a, b)
		for _, more := range inputs[2:] {
			values[i] = arithmetic(c.n.GetOpType(), values[i], more[i])
		}
	}
	return values
}

// arithmetic computes with two integers; what can't be known isn't.
func arithmetic(op string, a, b value) value {
	one := func(v value) bool { return v.known && v.n == 1 }
	zero := func(v value) bool { return v.known && v.n == 0 }
	switch {
	case (op == "Mul" || op == "Div") && one(b), (op == "Add" || op == "Sub") && zero(b):
		return a
	case op == "Mul" && one(a), op == "Add" && zero(a):
		return b
	case op == "Equal" && a.known != b.known && min(a.n, b.n) < 0:
		return valueOf(0) // a size is never negative
	case !a.known || !b.known, max(a.n, b.n, -a.n, -b.n) > maxElements:
		return value{}
	}
	switch op {
	case "Add":
		return valueOf(a.n + b.n)
	case "Sub":
		return valueOf(a.n - b.n)
	case "Mul":
		return valueOf(a.n * b.n)
	case "Div":
		if b.n != 0 {
			return valueOf(a.n / b.n)
		}
	case "Min":
		return valueOf(min(a.n, b.n))
	case "Max":
		return valueOf(max(a.n, b.n))
	case "Equal":
		if a.n == b.n {
			return valueOf(1)
		}
		return valueOf(0)
	}
	return value{}
}
