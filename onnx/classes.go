package onnx

import (
	"fmt"
	"strings"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// OutputInfo is the output that holds an image's scores.
type OutputInfo struct {
	Name    string
	Classes int  // scores an image
	Softmax bool // whether they are probabilities already
}

// Classes finds the output with the scores: the first of float32 or float16
// whose dimensions are the batch and, ones aside, the classes (N×C, N×C×1×1).
func (m *Model) Classes() (OutputInfo, error) {
	f := m.infer()
	v, classes, err := m.scores(f)
	if err != nil {
		return OutputInfo{}, err
	}
	return OutputInfo{Name: v.GetName(), Classes: int(classes), Softmax: f.endsInSoftmax(v.GetName())}, nil
}

func (m *Model) scores(f *inference) (v *pb.ValueInfoProto, classes int64, err error) {
	outputs := m.proto.GetGraph().GetOutput()
	var found []string
	for _, v := range outputs {
		t := f.of(v.GetName())
		if n := classesOf(t); n > 1 {
			return v, n, nil
		}
		dims := "unknown shape"
		if t.ranked {
			dims = text(t.dims)
		}
		found = append(found, fmt.Sprintf("%q of %s %s", v.GetName(), t.typ, dims))
	}
	if len(found) > 3 {
		found = append(found[:3], "…")
	}
	return nil, 0, fmt.Errorf("no output holds a classifier's scores, want float32 of N×classes, found %s: "+
		"is the model a classifier?", strings.Join(found, ", "))
}

// classesOf returns how many scores an image a tensor of this shape holds; 0
// where it doesn't look like scores.
func classesOf(t *tensorInfo) int64 {
	if t.typ != pb.TensorProto_FLOAT && t.typ != pb.TensorProto_FLOAT16 || len(t.dims) < 2 {
		return 0
	}
	classes := int64(1)
	for _, d := range t.dims[1:] {
		switch {
		case d.is(1):
		case !d.known() || classes > 1:
			return 0
		default:
			classes = d.n
		}
	}
	return classes
}

// endsInSoftmax says whether the scores in the named tensor come from a
// Softmax over the classes.
func (f *inference) endsInSoftmax(name string) bool {
	for {
		n := f.index.producer[name]
		switch {
		case n == nil || !standard(n) || len(n.GetInput()) == 0:
			return false
		case n.GetOpType() == "Softmax":
			return f.overClasses(n)
		case n.GetOpType() == "Transpose", !sameValues[n.GetOpType()] && n.GetOpType() != "Cast":
			return false
		}
		name = n.GetInput()[0]
	}
}

// overClasses says whether the Softmax n works over the classes and nothing
// else.
func (f *inference) overClasses(n *pb.NodeProto) bool {
	t := f.of(n.GetInput()[0])
	if classesOf(t) == 0 {
		return false
	}
	fallback := int64(-1)
	if f.opset < 13 {
		fallback = 1
	}
	axis, err := axisOf(attrInt(n, "axis", fallback), len(t.dims))
	if err != nil {
		return false
	}
	if f.opset < 13 { // over all dimensions from axis on
		return axis >= 1 && product(t.dims[1:axis]).is(1)
	}
	return t.dims[axis].n > 1
}
