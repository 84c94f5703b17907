package onnx

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// renameOperators writes operators as another that does the same.
func renameOperators(g *pb.GraphProto) {
	x := indexOf(g)
	for _, n := range g.GetNode() {
		if !standard(n) {
			continue
		}
		switch {
		case n.GetOpType() == "Sum" && len(n.GetInput()) == 2:
			n.OpType = proto.String("Add")
		case n.GetOpType() == "Dropout" && x.oneOutput(n) &&
			(len(n.GetInput()) < 3 || arg(n, 2) == ""): // without training_mode
			n.OpType, n.Attribute = proto.String("Identity"), nil
			n.Input, n.Output = []string{arg(n, 0)}, n.Output[:1]
		}
	}
}

// foldConstants replaces an Identity, Reshape or Transpose of an initialiser by one.
func foldConstants(g *pb.GraphProto, f *inference) {
	e := edit(g)
	for _, n := range g.GetNode() {
		op := n.GetOpType()
		if !standard(n) || op != "Identity" && op != "Reshape" && op != "Transpose" ||
			e.index.output[n.GetOutput()[0]] != nil || !e.index.oneOutput(n) {
			e.add(n)
			continue
		}
		t := e.index.initializer[arg(n, 0)]
		dims := f.of(n.GetOutput()[0]).sizes()
		if t == nil || dims == nil || slices.Contains(dims, -1) {
			e.add(n)
			continue
		}
		c := proto.Clone(t).(*pb.TensorProto)
		c.Name, c.Dims = proto.String(n.GetOutput()[0]), dims
		if op == "Transpose" {
			if c = transposed(t, c.GetName(), attrInts(n, "perm")); c == nil {
				e.add(n)
				continue
			}
		}
		e.index.initializer[e.initializer(c)] = c
	}
	e.finish()
}

// transposed returns a float32 tensor with its axes in the order of perm, reversed
// where that is nil; nil for other types.
func transposed(t *pb.TensorProto, name string, perm []int64) *pb.TensorProto {
	v, err := floats(t)
	rank := len(t.GetDims())
	if err != nil || t.GetDataType() != int32(pb.TensorProto_FLOAT) || perm != nil && len(perm) != rank {
		return nil
	}
	dims, strides := make([]int64, rank), make([]int, rank) // of the result's axes, in v
	seen := map[int]bool{}
	for i := range dims {
		axis := rank - 1 - i
		if perm != nil {
			if axis, err = axisOf(perm[i], rank); err != nil || seen[axis] {
				return nil
			}
			seen[axis] = true
		}
		dims[i], strides[i] = t.GetDims()[axis], 1
		for _, d := range t.GetDims()[axis+1:] {
			strides[i] *= int(d)
		}
	}
	out := make([]float32, 0, len(v))
	at, from := make([]int64, rank), 0
	for range v {
		out = append(out, v[from])
		for i := rank - 1; i >= 0; i-- {
			at[i]++
			from += strides[i]
			if at[i] < dims[i] {
				break
			}
			from -= int(at[i]) * strides[i]
			at[i] = 0
		}
	}
	return floatTensor(name, dims, out...)
}

// foldPads lets each Conv that reads an image padded with zeros pad by itself,
// where the image has a scale of its own.
func foldPads(g *pb.GraphProto, f *inference, scales map[string]float32, kept map[*pb.NodeProto]bool) {
	e := edit(g)
	for _, n := range g.GetNode() {
		pad := e.index.producer[arg(n, 0)]
		if n.GetOpType() == "Conv" && pad != nil && !kept[pad] && scales[arg(pad, 0)] != 0 {
			if sum := spatialPads(pad, n, e.index, f); sum != nil {
				setAttr(n, intsAttr("pads", sum...))
				n.Input[0] = arg(pad, 0)
			}
		}
	}
	x := indexOf(g)
	for _, n := range g.GetNode() {
		out := n.GetOutput()[0]
		if n.GetOpType() != "Pad" || x.consumers[out] != nil || x.output[out] != nil || !x.oneOutput(n) {
			e.add(n)
		}
	}
	e.finish()
}

// spatialPads returns the pads of a Conv and of the Pad before it together; nil
// where the two aren't the same kind.
func spatialPads(pad, conv *pb.NodeProto, x *graphIndex, f *inference) []int64 {
	auto := attr(conv, "auto_pad")
	if !padsZeros(pad, x) || auto != nil && string(auto.GetS()) != "NOTSET" || len(pad.GetInput()) < 2 {
		return nil
	}
	pads, ok := f.integers(arg(pad, 1))
	w := x.initializer[arg(conv, 1)]
	rank := len(w.GetDims())
	if !ok || rank < 3 || len(pads) != 2*rank || len(pad.GetInput()) > 3 && arg(pad, 3) != "" {
		return nil
	}
	if pads[0] != 0 || pads[1] != 0 || pads[rank] != 0 || pads[rank+1] != 0 || slices.Min(pads) < 0 {
		return nil
	}
	sum := append(slices.Clone(pads[2:rank]), pads[rank+2:]...)
	own := attrInts(conv, "pads")
	if len(own) > len(sum) {
		return nil
	}
	for i, p := range own {
		sum[i] += p
	}
	return sum
}

// padsZeros says whether the node is a Pad that puts zeros around a tensor.
func padsZeros(n *pb.NodeProto, x *graphIndex) bool {
	mode := attr(n, "mode")
	if !standard(n) || n.GetOpType() != "Pad" || mode != nil && string(mode.GetS()) != "constant" {
		return false
	}
	if len(n.GetInput()) < 3 || arg(n, 2) == "" {
		return true
	}
	v, err := floats(x.initializer[arg(n, 2)])
	return err == nil && len(v) == 1 && v[0] == 0
}

// poolMeans writes the mean over an image's height and width as the
// GlobalAveragePool that it is, which runs in INT8.
func poolMeans(g *pb.GraphProto, f *inference, kept map[*pb.NodeProto]bool) {
	e := edit(g)
	for _, n := range g.GetNode() {
		if !standard(n) || n.GetOpType() != "ReduceMean" || !e.index.oneOutput(n) || !overImage(n, f) {
			e.add(n)
			continue
		}
		out := n.GetOutput()[0]
		mean, flat := out, attrInt(n, "keepdims", 1) == 0
		if flat {
			mean = e.unique(out + "_mean")
		}
		pool := newNode("GlobalAveragePool", n.GetName(), []string{arg(n, 0)}, []string{mean})
		kept[pool] = kept[n]
		e.add(pool)
		if flat {
			e.create("Flatten", nodeName(n)+"_flat", []string{mean}, []string{out})
		}
	}
	e.finish()
}

// overImage says whether a ReduceMean has four dimensions and takes the last two.
func overImage(n *pb.NodeProto, f *inference) bool {
	if len(f.of(arg(n, 0)).dims) != 4 {
		return false
	}
	axes := attrInts(n, "axes")
	if len(n.GetInput()) > 1 && arg(n, 1) != "" {
		axes, _ = f.integers(arg(n, 1))
	}
	axes = slices.Clone(axes)
	for i, a := range axes {
		if a < 0 {
			axes[i] = a + 4
		}
	}
	slices.Sort(axes)
	return slices.Equal(axes, []int64{2, 3})
}

// lastConvs writes a Conv that takes a whole image at once, with no layer behind
// it, as the matrix product that it is: that gives scores in floating point,
// where an INT8 convolution gives them in 8 bits.
func lastConvs(g *pb.GraphProto, f *inference) {
	e := edit(g)
	tail := tailOf(g.GetNode(), e.index)
	for _, n := range g.GetNode() {
		out := n.GetOutput()[0]
		if n.GetOpType() != "Conv" || !e.index.oneOutput(n) || !e.index.ends(out, tail) || !takesAll(n, e.index, f) {
			e.add(n)
			continue
		}
		l := linearOf(n, e.index)
		if l == nil {
			e.add(n)
			continue
		}
		flat, matrix := e.unique(out+"_flat"), e.unique(out+"_matrix")
		e.create("Flatten", nodeName(n)+"_flat", []string{n.GetInput()[0]}, []string{flat})
		dims := []int64{l.dims[0], int64(len(l.weights)) / l.dims[0]}
		n.OpType, n.Attribute = proto.String("Gemm"), []*pb.AttributeProto{intAttr("transB", 1)}
		n.Input[0], n.Input[1] = flat, e.initializer(floatTensor(e.unique(n.Input[1]+"_matrix"), dims, l.weights...))
		n.Output = []string{matrix}
		e.add(n)
		axes := []int64{}
		for i := 2; i < len(l.dims); i++ {
			axes = append(axes, int64(i))
		}
		list := e.initializer(intTensor(e.unique(out+"_axes"), []int64{int64(len(axes))}, axes...))
		e.create("Unsqueeze", nodeName(n)+"_image", []string{matrix, list}, []string{out})
	}
	e.finish()
}

// takesAll says whether the Conv's kernel covers all of its input, once.
func takesAll(n *pb.NodeProto, x *graphIndex, f *inference) bool {
	in, kernel := f.of(arg(n, 0)).dims, x.initializer[arg(n, 1)].GetDims()
	auto := attr(n, "auto_pad")
	if len(in) != len(kernel) || attrInt(n, "group", 1) != 1 || auto != nil && string(auto.GetS()) != "NOTSET" {
		return false
	}
	for i := 2; i < len(in); i++ {
		if in[i] != fixed(kernel[i]) {
			return false
		}
	}
	notOne := func(d int64) bool { return d != 1 }
	notZero := func(d int64) bool { return d != 0 }
	return !slices.ContainsFunc(attrInts(n, "dilations"), notOne) && !slices.ContainsFunc(attrInts(n, "pads"), notZero)
}

// integers returns the elements of a tensor of integers; false where they
// aren't known.
func (f *inference) integers(name string) ([]int64, bool) {
	var list []int64
	for _, v := range f.of(name).values {
		if !v.known {
			return nil, false
		}
		list = append(list, v.n)
	}
	return list, f.of(name).values != nil
}
