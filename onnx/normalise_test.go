package onnx

import (
	"encoding/binary"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// The real models give what they gave before.
func TestDecodeChangesNothingOfWhatAModelGives(t *testing.T) {
	t.Parallel()
	originals := append(materialModels(), demoModel())
	var paths []string
	for _, path := range originals {
		m, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path, write(t, m))
	}
	results := run(t, paths...)
	for i, path := range originals {
		before, after := results[2*i], results[2*i+1]
		if before.Input != after.Input || before.Output != after.Output || !slices.Equal(before.Shape, after.Shape) {
			t.Errorf("%s: %+v became %+v", path, before, after)
		}
		near(t, after.Values, before.Values, 0)
	}
}

func TestDecodeMakesConstantsInitializers(t *testing.T) {
	t.Parallel()
	value := func(name string, a *pb.AttributeProto) *pb.AttributeProto {
		a.Name = proto.String(name)
		return a
	}
	m := decode(t, network(values(tensor("image", float, 1, 3, 2, 2)), values(tensor("sum", float, 1, 12)), nil,
		op("Constant", "a", nil, value("value", &pb.AttributeProto{Type: pb.AttributeProto_TENSOR.Enum(), T: floatTensor("", nil, 2)})),
		op("Constant", "b", nil, value("value_float", &pb.AttributeProto{Type: pb.AttributeProto_FLOAT.Enum(), F: proto.Float32(3)})),
		op("Constant", "c", nil, value("value_floats", &pb.AttributeProto{Type: pb.AttributeProto_FLOATS.Enum(), Floats: []float32{1, 2}})),
		op("Constant", "shape", nil, intsAttr("value_ints", 1, -1)),
		op("Constant", "axis", nil, intAttr("value_int", 1)),
		op("Gather", "c0", from("c", "axis")),
		op("Mul", "x", from("image", "a")),
		op("Add", "y", from("x", "b")),
		op("Add", "z", from("y", "c0")),
		op("Reshape", "sum", from("z", "shape")),
	))
	for _, n := range m.proto.Graph.Node {
		if n.GetOpType() == "Constant" {
			t.Errorf("%s is left", describe(n))
		}
	}
	if n := len(m.proto.Graph.Initializer); n != 5 {
		t.Errorf("%d initialisers, want 5", n)
	}
	run(t, write(t, m))
}

func TestDecodeWidensFloat16Weights(t *testing.T) {
	t.Parallel()
	halves := []uint16{0x3c00, 0xc000, 0x0001, 0x7bff} // 1, -2, 2⁻²⁴, 65504
	raw := make([]byte, 8)
	for i, h := range halves {
		binary.LittleEndian.PutUint16(raw[2*i:], h)
	}
	m := decode(t, network(values(tensor("image", float, 1, 1, 2, 2)), values(tensor("sum", float, 1, 1, 2, 2)),
		tensors(rawTensor("stored", float16, []int64{1, 1, 2, 2}, raw)),
		op("Cast", "weights", from("stored"), intAttr("to", int64(float))),
		op("Add", "sum", from("image", "weights")),
	))
	g := m.proto.Graph
	if len(g.Node) != 1 || len(g.Initializer) != 1 {
		t.Fatalf("%d nodes and %d initialisers, want 1 of each", len(g.Node), len(g.Initializer))
	}
	got, err := floats(g.Initializer[0])
	if want := []float32{1, -2, 1.0 / (1 << 24), 65504}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

func TestDecodeTakesInitializersOutOfTheInputs(t *testing.T) {
	t.Parallel()
	p := chain()
	p.IrVersion = proto.Int64(3)
	p.Graph.Input = append(p.Graph.Input, tensor("weights", float, 4, 3, 1, 1))
	m := decode(t, p)
	if _, err := m.Image(); err != nil {
		t.Error(err)
	}
	run(t, write(t, m))
}
