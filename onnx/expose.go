package onnx

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// Expose makes the tensors of these names the graph's outputs, in that order,
// so that running the model gives them: a calibrator reads activations so. The
// outputs that were there before are dropped, unless they are listed, and with
// them the nodes that no listed tensor needs; all else computes what it did.
//
// Shapes are declared as far as they can be told. A tensor has to be of floating
// point and be made by a node of the graph itself. One of another width than
// float32 is given through a Cast, as an output of a name of its own. One whose type can't be told is
// declared to be float32, which ONNX Runtime holds it to when it loads the
// model. The model's input can't be listed: who runs the model has it, and not
// every run time gives it back. On an error nothing is changed.
func (m *Model) Expose(names []string) error {
	f := m.infer()
	if f.err != nil {
		return f.err
	}
	if len(names) == 0 {
		return errors.New("no tensor to expose is named, want at least one: a graph has an output")
	}
	listed := map[string]bool{}
	for _, name := range names {
		if err := f.exposable(name); err != nil {
			return fmt.Errorf("expose the tensor %q: %w", name, err)
		}
		if listed[name] {
			return fmt.Errorf("expose the tensor %q: it is listed twice, want it once", name)
		}
		listed[name] = true
	}
	g := m.proto.GetGraph()
	e := edit(g)
	e.nodes = g.GetNode()
	var outputs []*pb.ValueInfoProto
	for _, name := range names {
		t := f.of(name)
		if t.typ != pb.TensorProto_FLOAT && t.typ != pb.TensorProto_UNDEFINED {
			wide := e.unique(name + "_float32")
			e.create("Cast", wide, []string{name}, []string{wide}, intAttr("to", int64(pb.TensorProto_FLOAT)))
			name = wide
		}
		v := valueInfo(name, pb.TensorProto_FLOAT, t.dims)
		if !t.ranked {
			v.GetType().GetTensorType().Shape = nil
		}
		outputs = append(outputs, v)
	}
	g.Node, g.Output = e.nodes, outputs
	prune(g)
	return nil
}

// exposable says why the tensor can't be an output.
func (f *inference) exposable(name string) error {
	typ := f.of(name).typ
	switch {
	case f.index.input[name] != nil:
		return errors.New("it is the model's input, want a tensor that a node makes")
	case f.index.initializer[name] != nil:
		return errors.New("it is an initialiser, a constant, want a tensor that a node makes")
	case f.index.producer[name] == nil:
		return errors.New("the graph makes no such tensor; check that the name is of this model")
	case !isFloat(typ) && typ != pb.TensorProto_UNDEFINED:
		return fmt.Errorf("it is of %s, want floating point", typ)
	}
	return nil
}

// prune takes the nodes out of g that none of its outputs needs, and what only
// these read.
func prune(g *pb.GraphProto) {
	e := edit(g)
	needed := map[string]bool{}
	for _, v := range g.GetOutput() {
		needed[v.GetName()] = true
	}
	for _, n := range slices.Backward(g.GetNode()) {
		if !slices.ContainsFunc(n.GetOutput(), func(name string) bool { return needed[name] }) {
			continue
		}
		for _, name := range reads(n) {
			needed[name] = true
		}
		e.add(n)
	}
	slices.Reverse(e.nodes)
	e.finish()
}
