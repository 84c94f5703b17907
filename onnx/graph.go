package onnx

import (
	"fmt"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// graphIndex answers who makes and who reads each tensor of a graph as it was
// when the index was made.
type graphIndex struct {
	initializer map[string]*pb.TensorProto
	producer    map[string]*pb.NodeProto
	consumers   map[string][]*pb.NodeProto    // a node once for each time it reads the tensor, also inside its graphs
	input       map[string]*pb.ValueInfoProto // network inputs, without initialisers that are listed as inputs
	output      map[string]*pb.ValueInfoProto
}

func indexOf(g *pb.GraphProto) *graphIndex {
	x := &graphIndex{
		initializer: map[string]*pb.TensorProto{},
		producer:    map[string]*pb.NodeProto{},
		consumers:   map[string][]*pb.NodeProto{},
		input:       map[string]*pb.ValueInfoProto{},
		output:      map[string]*pb.ValueInfoProto{},
	}
	for _, t := range g.GetInitializer() {
		x.initializer[t.GetName()] = t
	}
	for _, n := range g.GetNode() {
		for _, name := range reads(n) {
			x.consumers[name] = append(x.consumers[name], n)
		}
		for _, name := range n.GetOutput() {
			if name != "" {
				x.producer[name] = n
			}
		}
	}
	for _, v := range g.GetInput() {
		if x.initializer[v.GetName()] == nil {
			x.input[v.GetName()] = v
		}
	}
	for _, v := range g.GetOutput() {
		x.output[v.GetName()] = v
	}
	return x
}

// attr returns the named attribute of n, or nil.
func attr(n *pb.NodeProto, name string) *pb.AttributeProto {
	for _, a := range n.GetAttribute() {
		if a.GetName() == name {
			return a
		}
	}
	return nil
}

func attrInt(n *pb.NodeProto, name string, fallback int64) int64 {
	if a := attr(n, name); a != nil {
		return a.GetI()
	}
	return fallback
}

func attrInts(n *pb.NodeProto, name string) []int64 {
	if a := attr(n, name); a != nil {
		return a.GetInts()
	}
	return nil
}

// set makes a set of names.
func set(names ...string) map[string]bool {
	s := make(map[string]bool, len(names))
	for _, name := range names {
		s[name] = true
	}
	return s
}

// reads returns the tensors that n reads: its inputs, and what the graphs
// inside it take from around them.
func reads(n *pb.NodeProto) []string {
	names := make([]string, 0, len(n.GetInput()))
	for _, name := range n.GetInput() {
		if name != "" {
			names = append(names, name)
		}
	}
	for _, g := range subgraphs(n) {
		names = append(names, captured(g)...)
	}
	return names
}

// captured returns the tensors that g reads and doesn't make.
func captured(g *pb.GraphProto) []string {
	own := map[string]bool{}
	for _, v := range g.GetInput() {
		own[v.GetName()] = true
	}
	for _, t := range g.GetInitializer() {
		own[t.GetName()] = true
	}
	for _, n := range g.GetNode() {
		for _, name := range n.GetOutput() {
			own[name] = true
		}
	}
	var names []string
	take := func(name string) {
		if !own[name] {
			own[name] = true
			names = append(names, name)
		}
	}
	for _, n := range g.GetNode() {
		for _, name := range reads(n) {
			take(name)
		}
	}
	for _, v := range g.GetOutput() {
		take(v.GetName())
	}
	return names
}

// subgraphs returns the graphs inside n: the branches of an If, the body of a
// Loop or Scan.
func subgraphs(n *pb.NodeProto) []*pb.GraphProto {
	var graphs []*pb.GraphProto
	for _, a := range n.GetAttribute() {
		if a.GetG() != nil {
			graphs = append(graphs, a.GetG())
		}
		graphs = append(graphs, a.GetGraphs()...)
	}
	return graphs
}

// nodeName is what a node is called: by its name, or else by what it makes.
func nodeName(n *pb.NodeProto) string {
	if n.GetName() != "" || len(n.GetOutput()) == 0 {
		return n.GetName()
	}
	return n.GetOutput()[0]
}

// describe names a node in an error.
func describe(n *pb.NodeProto) string {
	return fmt.Sprintf("node %q (%s)", nodeName(n), n.GetOpType())
}
