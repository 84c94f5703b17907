package onnx

import (
	"fmt"
	"slices"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// editor writes the nodes of a graph anew, from first to last.
type editor struct {
	graph *pb.GraphProto
	index *graphIndex     // of the graph before
	taken map[string]bool // names of tensors
	named map[string]bool // names of nodes
	nodes []*pb.NodeProto
}

func edit(g *pb.GraphProto) *editor {
	e := &editor{graph: g, index: indexOf(g), taken: map[string]bool{}, named: map[string]bool{}}
	for name := range e.index.consumers {
		e.taken[name] = true
	}
	for name := range e.index.producer {
		e.taken[name] = true
	}
	for name := range e.index.initializer {
		e.taken[name] = true
	}
	for _, v := range g.GetInput() {
		e.taken[v.GetName()] = true
	}
	for _, n := range g.GetNode() {
		e.named[n.GetName()] = true
	}
	return e
}

// unique returns name, or one like it where a tensor is called so.
func (e *editor) unique(name string) string { return free(e.taken, name) }

// free returns name, or one like it where that is taken, and takes it.
func free(taken map[string]bool, name string) string {
	n := name
	for i := 2; taken[n]; i++ {
		n = fmt.Sprintf("%s_%d", name, i)
	}
	taken[n] = true
	return n
}

// add appends a node of the graph as it was.
func (e *editor) add(n *pb.NodeProto) { e.nodes = append(e.nodes, n) }

// create appends a new node, called name or like it.
func (e *editor) create(op, name string, inputs, outputs []string, attrs ...*pb.AttributeProto) {
	e.add(newNode(op, free(e.named, name), inputs, outputs, attrs...))
}

// initializer adds t, whose name came from unique, and returns that name.
func (e *editor) initializer(t *pb.TensorProto) string {
	e.graph.Initializer = append(e.graph.Initializer, t)
	return t.GetName()
}

// finish puts the new nodes into the graph, and takes out of it what nothing
// there reads or makes any more.
func (e *editor) finish() {
	e.graph.Node = e.nodes
	x := indexOf(e.graph)
	e.graph.Initializer = slices.DeleteFunc(e.graph.Initializer, func(t *pb.TensorProto) bool {
		return x.consumers[t.GetName()] == nil && x.output[t.GetName()] == nil
	})
	e.graph.ValueInfo = slices.DeleteFunc(e.graph.ValueInfo, func(v *pb.ValueInfoProto) bool {
		return x.producer[v.GetName()] == nil
	})
}

// only returns the node that alone reads the tensor, which is no result of the
// network; nil where there is none.
func (x *graphIndex) only(tensor string) *pb.NodeProto {
	if c := x.consumers[tensor]; len(c) == 1 && x.output[tensor] == nil {
		return c[0]
	}
	return nil
}

// arg is the name of input i of n, "" where it has none.
func arg(n *pb.NodeProto, i int) string {
	if i < len(n.GetInput()) {
		return n.GetInput()[i]
	}
	return ""
}

// oneOutput says whether nothing reads the node's outputs but for the first.
func (x *graphIndex) oneOutput(n *pb.NodeProto) bool {
	for _, t := range n.GetOutput()[1:] {
		if x.consumers[t] != nil || x.output[t] != nil {
			return false
		}
	}
	return true
}

func newNode(op, name string, inputs, outputs []string, attrs ...*pb.AttributeProto) *pb.NodeProto {
	return &pb.NodeProto{OpType: &op, Name: &name, Input: inputs, Output: outputs, Attribute: attrs}
}

func intAttr(name string, v int64) *pb.AttributeProto {
	return &pb.AttributeProto{Name: &name, Type: pb.AttributeProto_INT.Enum(), I: &v}
}

func intsAttr(name string, v ...int64) *pb.AttributeProto {
	return &pb.AttributeProto{Name: &name, Type: pb.AttributeProto_INTS.Enum(), Ints: v}
}

func floatAttr(name string, v float32) *pb.AttributeProto {
	return &pb.AttributeProto{Name: &name, Type: pb.AttributeProto_FLOAT.Enum(), F: &v}
}

func attrFloat(n *pb.NodeProto, name string, fallback float32) float32 {
	if a := attr(n, name); a != nil {
		return a.GetF()
	}
	return fallback
}

func setAttr(n *pb.NodeProto, a *pb.AttributeProto) {
	dropAttr(n, a.GetName())
	n.Attribute = append(n.Attribute, a)
}

func dropAttr(n *pb.NodeProto, name string) {
	n.Attribute = slices.DeleteFunc(n.Attribute, func(a *pb.AttributeProto) bool { return a.GetName() == name })
}
