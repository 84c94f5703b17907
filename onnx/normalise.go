package onnx

import (
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// normalise brings a checked model into the form that the package works on. It
// changes nothing of what the model computes.
func normalise(p *pb.ModelProto) {
	g := p.GetGraph()
	liftConstants(g)
	widenWeights(g)

	// Only before version 4 did initialisers have to be among the inputs; since
	// then one that is can be overridden, which keeps run times from folding it.
	p.IrVersion = proto.Int64(max(p.GetIrVersion(), 4))
	x := indexOf(g)
	g.Input = slices.DeleteFunc(g.GetInput(), func(v *pb.ValueInfoProto) bool {
		return x.initializer[v.GetName()] != nil
	})
}

// liftConstants replaces Constant nodes by initialisers.
func liftConstants(g *pb.GraphProto) {
	g.Node = slices.DeleteFunc(g.GetNode(), func(n *pb.NodeProto) bool {
		if n.GetOpType() != "Constant" || !standard(n) || len(n.GetAttribute()) != 1 || len(n.GetOutput()) != 1 {
			return false
		}
		t := constant(n.GetAttribute()[0])
		if t == nil {
			return false
		}
		t.Name = proto.String(n.GetOutput()[0])
		g.Initializer = append(g.Initializer, t)
		return true
	})
}

// constant returns the tensor that the attribute of a Constant node holds; nil
// for strings and sparse tensors.
func constant(a *pb.AttributeProto) *pb.TensorProto {
	switch a.GetName() {
	case "value":
		return a.GetT()
	case "value_float":
		return floatTensor("", nil, a.GetF())
	case "value_floats":
		return floatTensor("", []int64{int64(len(a.GetFloats()))}, a.GetFloats()...)
	case "value_int":
		return intTensor("", nil, a.GetI())
	case "value_ints":
		return intTensor("", []int64{int64(len(a.GetInts()))}, a.GetInts()...)
	}
	return nil
}

// widenWeights folds each Cast from a float16 initialiser to float32: so
// weights that are stored as float16 to save space are found as what they are.
func widenWeights(g *pb.GraphProto) {
	x := indexOf(g)
	cast := map[string]bool{} // initialisers that a folded Cast read
	g.Node = slices.DeleteFunc(g.GetNode(), func(n *pb.NodeProto) bool {
		if n.GetOpType() != "Cast" || !standard(n) || len(n.GetInput()) != 1 || len(n.GetOutput()) != 1 ||
			attrInt(n, "to", 0) != int64(pb.TensorProto_FLOAT) {
			return false
		}
		t := x.initializer[n.GetInput()[0]]
		if t == nil || t.GetDataType() != int32(pb.TensorProto_FLOAT16) || n.GetOutput()[0] == "" {
			return false
		}
		values, err := floats(t)
		if err != nil {
			return false
		}
		g.Initializer = append(g.Initializer, floatTensor(n.GetOutput()[0], t.GetDims(), values...))
		cast[t.GetName()] = true
		return true
	})
	if len(cast) == 0 {
		return
	}
	x = indexOf(g)
	g.Initializer = slices.DeleteFunc(g.GetInitializer(), func(t *pb.TensorProto) bool {
		return cast[t.GetName()] && x.consumers[t.GetName()] == nil && x.output[t.GetName()] == nil
	})
}

// intTensor makes an int64 tensor of the given dimensions.
func intTensor(name string, dims []int64, v ...int64) *pb.TensorProto {
	raw := make([]byte, 8*len(v))
	for i, n := range v {
		binary.LittleEndian.PutUint64(raw[8*i:], uint64(n))
	}
	return rawTensor(name, pb.TensorProto_INT64, dims, raw)
}
