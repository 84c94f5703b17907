package onnx

import (
	"slices"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// islands leaves layers in floating point that lie so among others in floating
// point that ONNX Runtime computes them quicker there than in INT8:
//
//   - a Conv in front of a depthwise one. That has its quick kernel (NCHWc) only
//     behind another Conv in floating point; behind INT8 it takes eight times as
//     long, more than both together.
//   - a layer with nothing but floating point before and behind it: getting its
//     input into INT8 and its output back takes longer than INT8 saves.
//
// Measured with ONNX Runtime 1.32 on MobileNet v2 with single layers kept.
func (p *plan) islands() {
	for changed := true; changed; {
		changed = false
		for _, n := range slices.Backward(p.nodes) { // most islands grow towards the front
			l := p.layers[n]
			if l == nil || l.why != "" || l.linear == nil {
				continue
			}
			maker, readers := p.maker(arg(n, 0)), p.allReaders(l.makes())
			float := func(r *layer) bool { return r.why != "" }
			switch {
			case n.GetOpType() == "Conv" && slices.ContainsFunc(readers, func(r *layer) bool { return float(r) && depthwise(r.node, p.index) }):
				l.why = "in front of a depthwise layer in floating point"
			case maker != nil && float(maker) && len(readers) > 0 && !slices.ContainsFunc(readers, func(r *layer) bool { return !float(r) }):
				l.why = "between layers in floating point"
			}
			changed = changed || l.why != ""
		}
	}
}

// depthwise says whether the node is a Conv with one filter for each channel.
func depthwise(n *pb.NodeProto, x *graphIndex) bool {
	w := x.initializer[arg(n, 1)].GetDims()
	return n.GetOpType() == "Conv" && len(w) > 2 && w[1] == 1 && attrInt(n, "group", 1) == w[0] && w[0] > 1
}

// allReaders are the layers that read the tensor's values, in whatever form.
func (p *plan) allReaders(tensor string) []*layer {
	var list []*layer
	for _, c := range p.index.consumers[tensor] {
		if l := p.layers[c]; l != nil {
			list = append(list, l)
		} else if carries(c, p.index) && arg(c, 0) == tensor {
			for _, o := range c.GetOutput() {
				list = append(list, p.allReaders(o)...)
			}
		}
	}
	return list
}
