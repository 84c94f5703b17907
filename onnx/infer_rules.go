package onnx

import (
	"fmt"
	"slices"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// rules are the shape and type rules by operator.
var rules map[string]rule

func init() {
	rules = map[string]rule{
		"Conv": conv, "ConvTranspose": convTranspose, "ConvInteger": conv, "QLinearConv": conv,
		"MaxPool": pool, "AveragePool": pool, "LpPool": pool,
		"GlobalAveragePool": globalPool, "GlobalMaxPool": globalPool, "GlobalLpPool": globalPool,
		"Gemm": gemm, "MatMul": matMul, "MatMulInteger": matMul, "QLinearMatMul": matMul,

		"Reshape": reshape, "Flatten": flatten, "Transpose": transpose, "Squeeze": squeeze, "Unsqueeze": unsqueeze,
		"Concat": concat, "Split": split, "Slice": slice, "Pad": pad, "Gather": gather, "Expand": expand, "Tile": tile,
		"DepthToSpace": depthToSpace, "SpaceToDepth": spaceToDepth, "Resize": resize, "Upsample": resize,

		"Shape": shapeOf, "Size": sizeOf, "ConstantOfShape": constantOfShape, "Range": rangeOf,
		"Cast": cast, "CastLike": castLike,
		"DynamicQuantizeLinear": dynamicQuantizeLinear, "QuantizeLinear": quantizeLinear, "DequantizeLinear": dequantizeLinear,
		"ArgMax": argMax, "ArgMin": argMax, "TopK": topK,
	}
	for _, op := range []string{
		"Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Swish",
		"Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Shrink", "Clip", "Erf",
		"Abs", "Neg", "Sign", "Ceil", "Floor", "Round", "Reciprocal", "Sqrt", "Exp", "Log",
		"Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh",
		"Softmax", "LogSoftmax", "Hardmax", "Identity", "Not", "BitwiseNot", "Trilu", "CumSum", "Dropout",
		"BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization",
		"RMSNormalization", "LpNormalization", "MeanVarianceNormalization", "LRN", "ScatterND", "ScatterElements",
	} {
		rules[op] = same
	}
	for _, op := range []string{
		"Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean", "Where", "And", "Or", "Xor", "BitShift",
		"BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual",
	} {
		rules[op] = elementwise
	}
	for _, op := range []string{
		"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
		"ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
	} {
		rules[op] = reduce
	}
	for _, op := range []string{"IsNaN", "IsInf"} {
		rules[op] = func(c *call) error {
			t := *c.in(0)
			return c.set(tensorInfo{typ: pb.TensorProto_BOOL, ranked: t.ranked, dims: t.dims})
		}
	}
}

// same is the rule of operators whose output is like their first input.
func same(c *call) error {
	t := *c.in(0)
	if c.n.GetOpType() != "Identity" {
		t.values = nil
	}
	mask := tensorInfo{typ: pb.TensorProto_BOOL, ranked: t.ranked, dims: t.dims}
	switch {
	case c.n.GetOpType() != "Dropout":
		return c.set(t)
	case c.f.opset < 10: // the mask had the input's type
		mask.typ = t.typ
	}
	return c.set(t, mask)
}

var comparisons = set("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor")

func elementwise(c *call) error {
	first := 0
	if c.n.GetOpType() == "Where" {
		first = 1
	}
	t := tensorInfo{typ: c.in(first).typ, ranked: true}
	if comparisons[c.n.GetOpType()] {
		t.typ = pb.TensorProto_BOOL
	}
	for i := range c.n.GetInput() {
		if !c.in(i).ranked {
			return c.set(tensorInfo{typ: t.typ})
		}
		dims, err := broadcast(t.dims, c.in(i).dims)
		if err != nil {
			return err
		}
		t.dims = dims
	}
	t.values = c.calculate(t.dims)
	return c.set(t)
}

func gemm(c *call) error {
	a, b := c.in(0), c.in(1)
	if len(a.dims) != 2 || len(b.dims) != 2 {
		return errUnknown
	}
	m, k := a.dims[0], a.dims[1]
	if attrInt(c.n, "transA", 0) != 0 {
		m, k = k, m
	}
	k2, n := b.dims[0], b.dims[1]
	if attrInt(c.n, "transB", 0) != 0 {
		k2, n = n, k2
	}
	if _, err := unify(k, k2); err != nil {
		return fmt.Errorf("the inner dimensions don't fit: %w", err)
	}
	return c.give([]dim{m, n})
}

func matMul(c *call) error {
	a, b, typ := c.in(0), c.in(1), c.in(0).typ
	switch c.n.GetOpType() {
	case "MatMulInteger":
		typ = pb.TensorProto_INT32
	case "QLinearMatMul":
		b, typ = c.in(3), c.in(7).typ
	}
	if !a.ranked || !b.ranked {
		return c.set(tensorInfo{typ: typ})
	}
	x, y := slices.Clone(a.dims), slices.Clone(b.dims)
	if len(x) == 0 || len(y) == 0 {
		return errUnknown
	}
	vectorA, vectorB := len(x) == 1, len(y) == 1
	if vectorA {
		x = append([]dim{fixed(1)}, x...)
	}
	if vectorB {
		y = append(y, fixed(1))
	}
	if _, err := unify(x[len(x)-1], y[len(y)-2]); err != nil {
		return fmt.Errorf("the inner dimensions don't fit: %w", err)
	}
	dims, err := broadcast(x[:len(x)-2], y[:len(y)-2])
	if err != nil {
		return err
	}
	if !vectorA {
		dims = append(dims, x[len(x)-2])
	}
	if !vectorB {
		dims = append(dims, y[len(y)-1])
	}
	return c.set(tensorInfo{typ: typ, ranked: true, dims: dims})
}

func reduce(c *call) error {
	in := c.in(0)
	axes, ok := c.list(1, "axes")
	keep := attrInt(c.n, "keepdims", 1) != 0
	switch {
	case !in.ranked || !ok && !keep:
		return c.set(tensorInfo{typ: in.typ})
	case !ok:
		return c.give(slices.Repeat([]dim{unknownDim}, len(in.dims)))
	case len(axes) == 0 && attrInt(c.n, "noop_with_empty_axes", 0) != 0:
		return c.give(in.dims)
	}
	drop, err := axisSet(axes, len(in.dims))
	if err != nil {
		return err
	}
	dims := []dim{}
	for i, d := range in.dims {
		switch {
		case len(axes) > 0 && !drop[i]:
			dims = append(dims, d)
		case keep:
			dims = append(dims, fixed(1))
		}
	}
	t := tensorInfo{typ: in.typ, ranked: true, dims: dims}
	if c.n.GetOpType() == "ReduceProd" && len(in.dims) == 1 && in.values != nil {
		var sizes []dim
		for _, v := range in.values {
			sizes = append(sizes, v.dim())
		}
		t.values = []value{product(sizes).value()}
	}
	return c.set(t)
}

// axisSet makes a set of axes of rank dimensions.
func axisSet(axes []int64, rank int) (map[int]bool, error) {
	s := map[int]bool{}
	for _, a := range axes {
		i, err := axisOf(a, rank)
		if err != nil {
			return nil, err
		}
		s[i] = true
	}
	return s, nil
}

func cast(c *call) error {
	t := *c.in(0)
	t.typ = pb.TensorProto_DataType(attrInt(c.n, "to", 0))
	if t.typ != pb.TensorProto_INT64 && t.typ != pb.TensorProto_INT32 {
		t.values = nil
	}
	return c.set(t)
}

func castLike(c *call) error {
	t := *c.in(0)
	t.typ, t.values = c.in(1).typ, nil
	return c.set(t)
}

func quantizeLinear(c *call) error {
	t := tensorInfo{typ: pb.TensorProto_UINT8, ranked: c.in(0).ranked, dims: c.in(0).dims}
	if c.has(2) {
		t.typ = c.in(2).typ
	} else if to := attrInt(c.n, "output_dtype", 0); to != 0 {
		t.typ = pb.TensorProto_DataType(to)
	}
	return c.set(t)
}

func dynamicQuantizeLinear(c *call) error {
	const u8 = pb.TensorProto_UINT8
	return c.set(tensorInfo{typ: u8, ranked: c.in(0).ranked, dims: c.in(0).dims},
		tensorInfo{typ: c.in(0).typ, ranked: true}, tensorInfo{typ: u8, ranked: true})
}

func dequantizeLinear(c *call) error {
	t := tensorInfo{typ: c.in(1).typ, ranked: c.in(0).ranked, dims: c.in(0).dims}
	if to := attrInt(c.n, "output_dtype", 0); to != 0 {
		t.typ = pb.TensorProto_DataType(to)
	}
	return c.set(t)
}

func argMax(c *call) error {
	in := c.in(0)
	t := tensorInfo{typ: pb.TensorProto_INT64}
	if !in.ranked {
		return c.set(t)
	}
	axis, err := c.axis(0, len(in.dims))
	if err != nil {
		return err
	}
	t.ranked, t.dims = true, slices.Clone(in.dims)
	if attrInt(c.n, "keepdims", 1) != 0 {
		t.dims[axis] = fixed(1)
	} else {
		t.dims = slices.Delete(t.dims, axis, axis+1)
	}
	return c.set(t)
}

func topK(c *call) error {
	in := c.in(0)
	if !in.ranked {
		return errUnknown
	}
	axis, err := c.axis(-1, len(in.dims))
	if err != nil {
		return err
	}
	k := dim{n: attrInt(c.n, "k", -1)}
	if v := c.in(1).values; len(v) == 1 {
		k = v[0].dim()
	}
	dims := slices.Clone(in.dims)
	dims[axis] = k
	return c.set(tensorInfo{typ: in.typ, ranked: true, dims: dims},
		tensorInfo{typ: pb.TensorProto_INT64, ranked: true, dims: dims})
}
