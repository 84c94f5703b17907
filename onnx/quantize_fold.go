package onnx

import (
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// simplify rewrites the graph into the few forms that the rest of Quantize
// knows, without changing what it computes: nothing may stand between a layer
// and the ReLU behind it, and what is added to a layer's channels or multiplied
// with them belongs into its weights, or else neither ONNX Runtime nor TensorRT
// makes one INT8 layer of the two. A layer that another one went into takes over
// its output's name; kept says which layers stay in floating point, and follows.
func (m *Model) simplify(scales map[string]float32, kept map[*pb.NodeProto]bool) {
	f := m.infer()
	g := m.proto.GetGraph()
	renameOperators(g)
	foldConstants(g, f)
	for changed := true; changed; {
		changed = foldAffine(g, f, kept)
	}
	foldPads(g, f, scales, kept)
	poolMeans(g, f, scales, kept)
	lastConvs(g, f)
}

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

// foldConstants replaces an Identity or Reshape of an initialiser by one.
func foldConstants(g *pb.GraphProto, f *inference) {
	e := edit(g)
	for _, n := range g.GetNode() {
		op := n.GetOpType()
		if !standard(n) || op != "Identity" && op != "Reshape" ||
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
		e.index.initializer[e.initializer(c)] = c
	}
	e.finish()
}

// foldAffine folds what scales or shifts the channels of a Conv, Gemm or MatMul
// behind it into its weights and bias: BatchNormalization, and Add, Sub, Mul and
// Div with constants. It folds one such node for each layer, and says whether it
// did.
func foldAffine(g *pb.GraphProto, f *inference, kept map[*pb.NodeProto]bool) bool {
	e := edit(g)
	gone := map[*pb.NodeProto]bool{}
	for _, n := range g.GetNode() {
		if gone[n] {
			continue
		}
		if behind := e.index.only(n.GetOutput()[0]); behind != nil && e.foldInto(n, behind, f) {
			gone[behind] = true
			kept[n] = kept[n] || kept[behind]
			n.Output = []string{behind.GetOutput()[0]}
		}
		e.add(n)
	}
	e.finish()
	return len(gone) > 0
}

// foldInto changes the weights of the layer n so that it gives what the node
// behind it gives; false where that can't be.
func (e *editor) foldInto(n, behind *pb.NodeProto, f *inference) bool {
	if !standard(n) || !standard(behind) || len(n.GetOutput()) > 1 || !e.index.oneOutput(behind) {
		return false
	}
	l := linearOf(n, e.index)
	if l == nil {
		return false
	}
	rank := len(l.dims)
	if n.GetOpType() == "MatMul" && len(f.of(arg(n, 0)).dims) != 2 {
		return false
	}
	factor, shift, ok := affine(behind, n.GetOutput()[0], l.channels, rank, l.axisFromEnd, e.index)
	if !ok {
		return false
	}
	w, b := make([]float32, len(l.weights)), make([]float32, l.channels)
	for i, v := range l.weights {
		w[i] = float32(float64(v) * float64(l.alpha) * factor[l.channel(i)])
	}
	for c := range b {
		b[c] = float32(float64(l.bias[c])*factor[c] + shift[c])
	}
	if !finite(w) || !finite(b) {
		return false
	}
	out := behind.GetOutput()[0]
	inputs := []string{
		arg(n, 0),
		e.initializer(floatTensor(e.unique(out+"_weight"), l.dims, w...)),
		e.initializer(floatTensor(e.unique(out+"_bias"), []int64{int64(l.channels)}, b...)),
	}
	n.Input = inputs
	if n.GetOpType() == "MatMul" {
		n.OpType = proto.String("Gemm")
	}
	dropAttr(n, "alpha")
	dropAttr(n, "beta")
	return true
}

// affine returns what the node does to the channels of the tensor x, that is
// x·factor + shift, where it does nothing else. The channels stand axisFromEnd
// dimensions before the last.
func affine(n *pb.NodeProto, x string, channels, rank, axisFromEnd int, g *graphIndex) (factor, shift []float64, ok bool) {
	constant := func(i int) []float64 {
		return perChannel(g.initializer[arg(n, i)], channels, rank, axisFromEnd)
	}
	factor, shift = slices.Repeat([]float64{1}, channels), make([]float64, channels)
	in := n.GetInput()
	switch n.GetOpType() {
	case "BatchNormalization":
		if len(in) != 5 || in[0] != x || attrInt(n, "training_mode", 0) != 0 {
			return nil, nil, false
		}
		v := make([][]float64, 5)
		for i := 1; i < 5; i++ {
			t := g.initializer[in[i]]
			if len(t.GetDims()) != 1 || t.GetDims()[0] != int64(channels) {
				return nil, nil, false
			}
			if v[i] = perChannel(t, channels, 2, 0); v[i] == nil {
				return nil, nil, false
			}
		}
		epsilon := float64(attrFloat(n, "epsilon", 1e-5))
		for c := range channels {
			factor[c] = v[1][c] / math.Sqrt(v[4][c]+epsilon)
			shift[c] = v[2][c] - v[3][c]*factor[c]
		}
		return factor, shift, true
	case "Add", "Sub", "Mul", "Div":
		other := 1
		if in[0] != x {
			other = 0
		}
		v := constant(other)
		if v == nil || other == 0 && n.GetOpType() == "Div" {
			return nil, nil, false
		}
		for c := range channels {
			switch {
			case n.GetOpType() == "Add":
				shift[c] = v[c]
			case n.GetOpType() == "Mul":
				factor[c] = v[c]
			case n.GetOpType() == "Div":
				factor[c] = 1 / v[c]
			case other == 1:
				shift[c] = -v[c]
			default:
				factor[c], shift[c] = -1, v[c]
			}
		}
		return factor, shift, true
	}
	return nil, nil, false
}

// perChannel returns the values of a constant that is broadcast along the
// channels of a tensor; nil where it differs along another dimension too.
func perChannel(t *pb.TensorProto, channels, rank, axisFromEnd int) []float64 {
	if t == nil || len(t.GetDims()) > rank {
		return nil
	}
	values, err := floats(t)
	if err != nil {
		return nil
	}
	for i, d := range t.GetDims() {
		fromEnd := len(t.GetDims()) - 1 - i
		if d != 1 && (fromEnd != axisFromEnd || d != int64(channels)) {
			return nil
		}
	}
	v := make([]float64, channels)
	for c := range v {
		v[c] = float64(values[c%len(values)])
	}
	return v
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
		unread := n.GetOpType() == "Pad" && x.consumers[n.GetOutput()[0]] == nil && x.output[n.GetOutput()[0]] == nil && x.oneOutput(n)
		if !unread {
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
	for i, p := range attrInts(conv, "pads") {
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
func poolMeans(g *pb.GraphProto, f *inference, scales map[string]float32, kept map[*pb.NodeProto]bool) {
	e := edit(g)
	for _, n := range g.GetNode() {
		if !standard(n) || n.GetOpType() != "ReduceMean" || !e.index.oneOutput(n) || len(f.of(arg(n, 0)).dims) != 4 || !overImage(n, f) {
			e.add(n)
			continue
		}
		in, out := n.GetInput()[:1], n.GetOutput()[0]
		if attrInt(n, "keepdims", 1) == 1 {
			pool := newNode("GlobalAveragePool", n.GetName(), in, []string{out})
			kept[pool] = kept[n]
			e.add(pool)
			continue
		}
		mean := e.unique(out + "_mean")
		if s, ok := scales[out]; ok {
			scales[mean] = s
		}
		pool := newNode("GlobalAveragePool", n.GetName(), in, []string{mean})
		kept[pool] = kept[n]
		e.add(pool)
		e.create("Flatten", nodeName(n)+"_flat", []string{mean}, []string{out})
	}
	e.finish()
}

// overImage says whether a ReduceMean of four dimensions takes the last two.
func overImage(n *pb.NodeProto, f *inference) bool {
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
		l := linearOf(n, e.index)
		if n.GetOpType() != "Conv" || l == nil || !e.index.oneOutput(n) || !e.index.ends(n.GetOutput()[0], tail) || !takesAll(n, l, f) {
			e.add(n)
			continue
		}
		out := n.GetOutput()[0]
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
func takesAll(n *pb.NodeProto, l *linear, f *inference) bool {
	in := f.of(n.GetInput()[0]).dims
	auto := attr(n, "auto_pad")
	if len(in) != len(l.dims) || attrInt(n, "group", 1) != 1 || auto != nil && string(auto.GetS()) != "NOTSET" {
		return false
	}
	for i := 2; i < len(in); i++ {
		if in[i] != fixed(l.dims[i]) {
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
