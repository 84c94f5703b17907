package onnx

import "github.com/sightd/sightd/onnx/internal/pb"

// graphIndex answers who makes and who reads each tensor of a graph as it was
// when the index was made.
type graphIndex struct {
	initializer map[string]*pb.TensorProto
	producer    map[string]*pb.NodeProto
	consumers   map[string][]*pb.NodeProto    // a node once for each input that reads the tensor
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
		for _, name := range n.GetInput() {
			if name != "" {
				x.consumers[name] = append(x.consumers[name], n)
			}
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
