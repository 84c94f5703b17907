package onnx

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// QuantizeOptions says how Quantize writes INT8. Its zero value is for TensorRT.
type QuantizeOptions struct {
	// Unsigned is for ONNX Runtime on CPUs: activations are unsigned bytes, on
	// the same grid, biases 32-bit integers, and ReLU and Clip act on the bytes,
	// so that each layer runs as one INT8 kernel. Otherwise activations are
	// signed, biases and the ReLUs behind the layers in floating point, as
	// TensorRT wants to find them.
	Unsigned bool

	// Saturating, with Unsigned, is for x86 CPUs without VNNI. They add pairs of
	// products in 16 bits, where a sum of two 8-bit by 8-bit products may not
	// fit. It does where the activations are below 128; the other layers get
	// unsigned weights, for which ONNX Runtime has a slower, exact kernel.
	Saturating bool

	// Keep lists layers that stay in floating point, by the names of nodes or of
	// the tensors that they make.
	Keep []string

	// Islands, with Unsigned, leaves more in floating point than Keep names: what
	// would only be slower in INT8 among the layers that are kept.
	Islands bool

	// Only, where it isn't empty, lists the layers that alone become INT8, in the
	// same way: to see what one of them costs.
	Only []string
}

// QuantizeReport says what became of a model.
type QuantizeReport struct {
	Layers  []QuantizedLayer  // the graph's nodes, in its order
	Tensors []QuantizedTensor // those that are INT8 now, in graph order
}

// QuantizedLayer is a node of the graph.
type QuantizedLayer struct {
	Name, Op string
	INT8     bool
	Kept     bool     // it stays in floating point because Keep says so
	Why      string   // why it stays in floating point
	Makes    []string // the tensors that it made before the graph was changed

	// Layer is the name of the node that became the layer which this node is or
	// is part of: a ReLU's is the convolution before it. "" where it is part of
	// none that computes in INT8, as what only hands values on.
	Layer  string
	Output string // the tensor that Layer makes; "" without one
}

// QuantizedTensor is an activation that is quantised.
type QuantizedTensor struct {
	Name  string
	Scale float32
	From  string // the tensor that the scale was given for, which another one can share
}

// INT8 counts the layers that run in INT8.
func (r *QuantizeReport) INT8() int {
	n := 0
	for _, l := range r.Layers {
		if l.INT8 {
			n++
		}
	}
	return n
}

// Quantize turns a floating-point model into the INT8 one that the scales of a
// calibration cache describe, by tensor name: a value v is rounded to
// round(v ÷ scale), from −128 to 127. Weights get a scale for each output channel
// from their own values. It writes QuantizeLinear and DequantizeLinear nodes where
// ONNX Runtime and TensorRT look for them, rewrites the graph for opset 13 where
// it is older, and folds what stands between a layer and its activation into the
// layer.
//
// A layer of which an input or the output has no scale stays in floating point,
// as do preprocessing, softmax, and the results of a matrix product that no layer
// reads. With an error, the model is as it was.
func (m *Model) Quantize(scales map[string]float32, o QuantizeOptions) (QuantizeReport, error) {
	if o.Islands && !o.Unsigned {
		return QuantizeReport{}, errors.New("quantise with islands: they are a matter of CPUs, set Unsigned too")
	}
	if o.Saturating && !o.Unsigned {
		return QuantizeReport{}, errors.New("quantise for saturating products: they are a matter of unsigned activations, set Unsigned too")
	}
	work := m.Clone()
	g := work.proto.GetGraph()
	kept, err := find(g, o.Keep)
	if err != nil {
		return QuantizeReport{}, fmt.Errorf("keep in floating point: %w", err)
	}
	var only map[*pb.NodeProto]bool
	if len(o.Only) > 0 {
		if only, err = find(g, o.Only); err != nil {
			return QuantizeReport{}, fmt.Errorf("quantise alone: %w", err)
		}
	}
	before := listNodes(g)
	if len(scales) > 0 {
		if err := upgrade(work.proto); err != nil {
			return QuantizeReport{}, err
		}
		work.simplify(scales, kept)
	}
	p, err := planOf(g, scales, kept, only, o.Islands && len(kept) > 0)
	if err != nil {
		return QuantizeReport{}, err
	}
	report := p.report(before)
	if len(report.Tensors) > 0 {
		p.write(g, o)
		m.proto = work.proto
	}
	return report, nil
}

// find returns the nodes that have the given names or make tensors of these names.
func find(g *pb.GraphProto, names []string) (map[*pb.NodeProto]bool, error) {
	found := map[*pb.NodeProto]bool{}
	for _, name := range names {
		some := false
		for _, n := range g.GetNode() {
			if name != "" && (n.GetName() == name || slices.Contains(n.GetOutput(), name)) {
				found[n] = true
				some = true
			}
		}
		if !some {
			return nil, fmt.Errorf("the model has no layer and no tensor %q", name)
		}
	}
	return found, nil
}

// keptWhy is why a layer that Keep names stays in floating point.
const keptWhy = "to be kept in floating point"

// listedNode is a node as it was before the graph was changed.
type listedNode struct {
	node     *pb.NodeProto
	name, op string
	outputs  []string
}

func listNodes(g *pb.GraphProto) []listedNode {
	var list []listedNode
	for _, n := range g.GetNode() {
		list = append(list, listedNode{n, nodeName(n), n.GetOpType(), slices.Clone(n.GetOutput())})
	}
	return list
}

// report says what the plan makes of the nodes that the graph had before.
func (p *plan) report(before []listedNode) QuantizeReport {
	var r QuantizeReport
	still, names := map[*pb.NodeProto]bool{}, map[*pb.NodeProto]string{}
	for _, n := range p.nodes {
		still[n] = true
		names[n] = nodeName(n)
	}
	for _, b := range before {
		names[b.node] = b.name
	}
	for _, b := range before {
		n := b.node
		if !still[n] { // went into the one that makes its output now
			n = p.index.producer[b.outputs[0]]
		}
		l := QuantizedLayer{Name: b.name, Op: b.op, Makes: b.outputs}
		switch {
		case n == nil:
			l.Why = "part of the layers behind it, or constant"
		case p.folded[n] != nil || p.carried[n]:
			l.INT8 = true
		case p.layers[n] != nil:
			l.Why = p.layers[n].why
			l.INT8 = l.Why == ""
		default:
			l.Why = p.reason[n]
		}
		l.Kept = l.Why == keptWhy
		if layer := p.layerWith(n); l.INT8 && layer != nil && !layer.moves() {
			l.Layer, l.Output = names[layer.node], layer.makes()
		}
		r.Layers = append(r.Layers, l)
	}
	for _, t := range p.marked {
		r.Tensors = append(r.Tensors, QuantizedTensor{Name: t, Scale: p.grids[t].scale, From: p.grids[t].root})
	}
	return r
}

// layerWith is the layer that n is, or is folded into; nil where there is none.
func (p *plan) layerWith(n *pb.NodeProto) *layer {
	if l := p.folded[n]; l != nil {
		return l
	}
	return p.layers[n]
}

// HasINT8 says whether a standard operator has a form in INT8 that computes; not
// those that only pick values or hand them on.
func HasINT8(op string) bool { return layerOps[op] && op != "MaxPool" }
