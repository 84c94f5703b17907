package onnx

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// ofOpset makes p one of another opset.
func ofOpset(p *pb.ModelProto, opset int64) *pb.ModelProto {
	p.OpsetImport[0].Version = proto.Int64(opset)
	return p
}

// forms are operators as opsets before 13 wrote them.
func oldForms() map[string]*pb.ModelProto {
	list := map[string]*pb.ModelProto{}
	add := func(name string, opset int64, shape []int64, build func(s *sketch)) {
		s := newSketch(1, 4, 6, 6)
		build(s)
		list[name] = ofOpset(s.ends("y", shape...), opset)
	}
	image := []int64{1, 4, 6, 6}
	add("Clip", 7, image, func(s *sketch) {
		s.op("Clip", "y", from("x"), floatAttr("min", -0.5), floatAttr("max", 0.7))
	})
	add("Clip without bounds", 6+1, image, func(s *sketch) { s.op("Clip", "y", from("x")) })
	add("Dropout", 7, image, func(s *sketch) { s.op("Dropout", "y", from("x"), floatAttr("ratio", 0.3)) })
	add("Dropout with a mask", 10, image, func(s *sketch) {
		s.p.Graph.Node = append(s.p.Graph.Node, newNode("Dropout", "drop", from("x"), from("y", "mask"), floatAttr("ratio", 0.3)))
	})
	add("BatchNormalization", 7, image, func(s *sketch) {
		s.op("BatchNormalization", "y", from("x", s.weight("scale", 1, 0.3, 4), s.weight("shift", 0, 0.3, 4),
			s.weight("mean", 0, 0.3, 4), s.weight("var", 2, 0.1, 4)), intAttr("spatial", 1))
	})
	add("Pad", 10, []int64{1, 4, 7, 9}, func(s *sketch) {
		s.op("Pad", "y", from("x"), intsAttr("pads", 0, 0, 1, 1, 0, 0, 0, 2), floatAttr("value", 1.5))
	})
	add("Slice", 9, []int64{1, 4, 3, 4}, func(s *sketch) {
		s.op("Slice", "y", from("x"), intsAttr("starts", 1, 0), intsAttr("ends", 4, -2), intsAttr("axes", 2, 3))
	})
	add("Slice without axes", 9, []int64{1, 2, 6, 6}, func(s *sketch) {
		s.op("Slice", "y", from("x"), intsAttr("starts", 0, 1), intsAttr("ends", 1, 3))
	})
	add("Squeeze and Unsqueeze", 11, []int64{1, 4, 1, 6, 6}, func(s *sketch) {
		s.op("Squeeze", "a", from("x"), intsAttr("axes", 0))
		s.op("Unsqueeze", "y", from("a"), intsAttr("axes", 0, 2))
	})
	add("ReduceSum", 11, []int64{1, 4}, func(s *sketch) {
		s.op("ReduceSum", "y", from("x"), intsAttr("axes", 2, 3), intAttr("keepdims", 0))
	})
	add("Split", 9, []int64{1, 3, 6, 6}, func(s *sketch) {
		s.p.Graph.Node = append(s.p.Graph.Node,
			newNode("Split", "split", from("x"), from("a", "y"), intAttr("axis", 1), intsAttr("split", 1, 3)))
	})
	add("Softmax over all that follows", 7, image, func(s *sketch) { s.op("Softmax", "a", from("x")); s.op("Relu", "y", from("a")) })
	add("Softmax along another axis", 11, image, func(s *sketch) { s.op("LogSoftmax", "a", from("x"), intAttr("axis", 2)); s.op("Abs", "y", from("a")) })
	add("Softmax at the end", 7, []int64{1, 4, 1, 1}, func(s *sketch) {
		s.op("GlobalAveragePool", "a", from("x"))
		s.op("Softmax", "y", from("a"))
	})
	add("TopK", 9, []int64{1, 4, 6, 2}, func(s *sketch) {
		s.p.Graph.Node = append(s.p.Graph.Node, newNode("TopK", "top", from("x"), from("y", "index"), intAttr("k", 2)))
	})
	return list
}

func TestUpgradeChangesNoAnswer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var names, paths []string
	for name, p := range oldForms() {
		old := decode(t, p)
		newer := old.Clone()
		if err := upgrade(newer.proto); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if newer.opset() != 13 {
			t.Errorf("%s: opset %d", name, newer.opset())
		}
		names = append(names, name)
		for suffix, m := range map[string]*Model{"-old": old, "-new": newer} {
			store(t, m, filepath.Join(dir, name+suffix))
		}
		paths = append(paths, filepath.Join(dir, name+"-old"), filepath.Join(dir, name+"-new"))
	}
	results := run(t, paths...)
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			near(t, results[2*i+1].Values, results[2*i].Values, 1e-6)
		})
	}
}

func TestUpgradeWritesSoftmaxPlainlyWhereItCan(t *testing.T) {
	t.Parallel()
	m := decode(t, oldForms()["Softmax at the end"])
	if err := upgrade(m.proto); err != nil {
		t.Fatal(err)
	}
	if n := m.proto.Graph.Node; len(n) != 2 || attrInt(n[1], "axis", 0) != 1 {
		t.Errorf("%v", n)
	}
}

func TestUpgradeRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	s := newSketch(1, 4, 6, 6)
	s.conv("x", "a", 4, 4, 1)
	s.op("Upsample", "b", from("a"), &pb.AttributeProto{
		Name: proto.String("scales"), Type: pb.AttributeProto_FLOATS.Enum(), Floats: []float32{1, 1, 2, 2},
	})
	m := decode(t, ofOpset(s.head("b", 4), 7))
	before := marshal(t, m.proto)
	_, err := m.Quantize(map[string]float32{"x": 0.1, "a": 0.1, "pool": 0.1}, QuantizeOptions{})
	if err == nil || !strings.Contains(err.Error(), `node "b" (Upsample): this form of opset 7`) {
		t.Errorf("%v", err)
	}
	if string(marshal(t, m.proto)) != string(before) {
		t.Error("the model changed")
	}
}
