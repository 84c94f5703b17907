package onnx

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// taking is a model that takes these inputs and adds them up.
func taking(t *testing.T, inputs ...*pb.ValueInfoProto) *Model {
	t.Helper()
	var names []string
	for _, v := range inputs {
		names = append(names, v.GetName())
	}
	out := &pb.ValueInfoProto{Name: proto.String("out")}
	return decode(t, network(inputs, values(out), nil, op("Sum", "out", names)))
}

func TestImageFindsTheLayout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		input *pb.ValueInfoProto
		want  ImageInput
	}{
		{"NCHW", tensor("x", float, 1, 3, 224, 160), ImageInput{"x", NCHW, 1, 3, 224, 160}},
		{"grey", tensor("x", float, 1, 1, 28, 30), ImageInput{"x", NCHW, 1, 1, 28, 30}},
		{"NHWC", tensor("x", float, 8, 224, 160, 3), ImageInput{"x", NHWC, 8, 3, 224, 160}},
		{"grey NHWC", tensor("x", float, -1, 28, 30, 1), ImageInput{"x", NHWC, 0, 1, 28, 30}},
		{"dynamic batch", tensor("x", float, -1, 3, 32, 32), ImageInput{"x", NCHW, 0, 3, 32, 32}},
		{"float16", tensor("x", float16, 1, 3, 32, 32), ImageInput{"x", NCHW, 1, 3, 32, 32}},
		{"three pixels wide", tensor("x", float, 1, 3, 32, 3), ImageInput{"x", NCHW, 1, 3, 32, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got, err := taking(t, c.input).Image(); got != c.want || err != nil {
				t.Errorf("%+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestImageAsksTheGraphWhereSizesFitBothLayouts(t *testing.T) {
	t.Parallel()
	m := decode(t, network(values(tensor("x", float, 1, 3, 32, 3)), values(tensor("out", float, 1, 3, 3, 32)), nil,
		op("Transpose", "out", from("x"), intsAttr("perm", 0, 3, 1, 2))))
	if got, err := m.Image(); err != nil || got.Layout != NHWC {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestImageRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		inputs []*pb.ValueInfoProto
		want   string
	}{
		{
			"two inputs", values(tensor("a", float, 1, 3, 8, 8), tensor("b", float, 1, 3, 8, 8)),
			`the model has 2 inputs ("a" and "b", …), want one image`,
		},
		{"tokens", values(tensor("ids", pb.TensorProto_INT64, 1, 128)), `the input "ids" is INT64 1×128, no image`},
		{"two dimensions", values(tensor("x", float, 1, 784)), `the input "x" is of 1×784, no image: want float32 or float16 of N×3×H×W`},
		{"no shape", values(valueInfoWithoutShape("x")), `the input "x" is of unknown shape, no image`},
		{"four channels", values(tensor("x", float, 1, 4, 32, 32)), `is of 1×4×32×32, with 1 or 3 channels neither in second nor in last place`},
		{"dynamic size", values(tensor("x", float, 1, 3, -1, -1)), `is of 1×3×N×N: its height and width aren't fixed`},
		{"too large", values(tensor("x", float, 1, 3, 32, 9000)), "want at most 8192 pixels"},
		{"bytes", values(tensor("x", pb.TensorProto_UINT8, 1, 32, 32, 3)), "has its preprocessing inside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := taking(t, c.inputs...).Image(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestImageRefusesAModelWithoutInput(t *testing.T) {
	t.Parallel()
	m := decode(t, network(nil, values(tensor("y", float, 1)), tensors(floatTensor("x", []int64{1}, 1)), op("Relu", "y", from("x"))))
	if _, err := m.Image(); err == nil || !strings.Contains(err.Error(), "the model has no input") {
		t.Error(err)
	}
}

func valueInfoWithoutShape(name string) *pb.ValueInfoProto {
	v := tensor(name, float)
	v.GetType().GetTensorType().Shape = nil
	return v
}
