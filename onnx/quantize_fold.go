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
	poolMeans(g, f, kept)
	lastConvs(g, f)
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
	switch behind.GetOpType() {
	case "BatchNormalization", "Add", "Sub", "Mul", "Div":
	default:
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
