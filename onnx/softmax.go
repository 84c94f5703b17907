package onnx

import (
	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// AddSoftmax makes the model give probabilities, N×classes of float32, as its
// only output: it puts a Softmax behind the scores where there is none, and
// drops dimensions of one and other outputs. Scores keep their tensor's name;
// what is new is called "probabilities". A model that does all this already
// stays as it is. On an error nothing is changed.
func (m *Model) AddSoftmax() error {
	f := m.infer()
	v, classes, err := m.scores(f)
	if err != nil {
		return err
	}
	g := m.proto.GetGraph()
	e := edit(g)
	t := f.of(v.GetName())
	name := v.GetName()
	add := func(op, output string, attr *pb.AttributeProto) {
		output = e.unique(output)
		e.add(newNode(op, output, []string{name}, []string{output}, attr))
		name = output
	}
	if t.typ != pb.TensorProto_FLOAT {
		add("Cast", "sightd/softmax/Cast", intAttr("to", int64(pb.TensorProto_FLOAT)))
	}
	if len(t.dims) > 2 {
		add("Flatten", "sightd/softmax/Flatten", intAttr("axis", 1))
	}
	if !f.endsInSoftmax(v.GetName()) {
		add("Softmax", "sightd/softmax/Softmax", intAttr("axis", 1))
	}
	if n := len(e.nodes); n > 0 {
		name = e.unique("probabilities")
		e.nodes[n-1].Output[0] = name
	}
	g.Node = append(g.Node, e.nodes...)
	g.Output = []*pb.ValueInfoProto{valueInfo(name, pb.TensorProto_FLOAT, []dim{t.dims[0], fixed(classes)})}
	return nil
}

// DropSoftmax is the way back: it makes what the Softmax at the end reads the
// model's only output, for who makes probabilities of the scores elsewhere, and
// says whether there was one. What only reshapes the scores is dropped with it, so
// that they can be N×classes×1×1. On an error nothing is changed.
func (m *Model) DropSoftmax() (dropped bool, err error) {
	f := m.infer()
	v, classes, err := m.scores(f)
	if err != nil {
		return false, err
	}
	name := v.GetName()
	for n := f.index.producer[name]; n != nil && standard(n) && f.index.producer[arg(n, 0)] != nil; n = f.index.producer[name] {
		softmax := n.GetOpType() == "Softmax" && !dropped && f.overClasses(n)
		reshapes := sameValues[n.GetOpType()] && n.GetOpType() != "Transpose"
		if !softmax && !reshapes || classesOf(f.of(arg(n, 0))) != classes {
			break
		}
		dropped = dropped || softmax
		name = arg(n, 0)
	}
	if name == v.GetName() && len(m.proto.GetGraph().GetOutput()) == 1 {
		return false, nil
	}
	return dropped, m.Expose([]string{name})
}

// valueInfo declares an input or output.
func valueInfo(name string, typ pb.TensorProto_DataType, dims []dim) *pb.ValueInfoProto {
	shape := &pb.TensorShapeProto{}
	for _, d := range dims {
		p := &pb.TensorShapeProto_Dimension{}
		switch {
		case d.known():
			p.Value = &pb.TensorShapeProto_Dimension_DimValue{DimValue: d.n}
		case d.sym != "" && d.sym[:1] != unnamed:
			p.Value = &pb.TensorShapeProto_Dimension_DimParam{DimParam: d.sym}
		}
		shape.Dim = append(shape.Dim, p)
	}
	return &pb.ValueInfoProto{
		Name: proto.String(name),
		Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{TensorType: &pb.TypeProto_Tensor{
			ElemType: proto.Int32(int32(typ)),
			Shape:    shape,
		}}},
	}
}
