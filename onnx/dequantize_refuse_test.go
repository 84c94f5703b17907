package onnx

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

func TestDequantizeRefuses(t *testing.T) {
	t.Parallel()
	pair := func(s *sketch) *pb.ModelProto { // what most cases change
		s.qdq("x", "x1", 0.1, int8s, 0)
		s.op("Sigmoid", "y", from("x1"))
		return s.ends("y", 1, 4, 6, 6)
	}
	scale := func(v ...float32) func(s *sketch) *pb.ModelProto {
		return func(s *sketch) *pb.ModelProto {
			p := pair(s)
			p.Graph.Initializer[0] = floatTensor("x1/numbers/scale", []int64{int64(len(v))}, v...)
			return p
		}
	}
	zero := func(typ pb.TensorProto_DataType, b byte) func(s *sketch) *pb.ModelProto {
		return func(s *sketch) *pb.ModelProto {
			s.qdq("x", "x1", 0.1, typ, b)
			s.op("Sigmoid", "y", from("x1"))
			return s.ends("y", 1, 4, 6, 6)
		}
	}
	onNumbers := func(op string, inputs ...string) func(s *sketch) *pb.ModelProto {
		return func(s *sketch) *pb.ModelProto {
			s.quantize("x", "q", 0.1, uint8s, 128)
			s.quantize("x", "q2", 0.2, uint8s, 128)
			s.op("Sigmoid", "side", from("x"))
			s.op(op, "r", inputs, intAttr("axis", 1))
			s.dequantize("r", "q", "y")
			s.dequantize("q2", "q2", "z")
			return s.ends("y", 1, 4, 6, 6)
		}
	}
	for name, test := range map[string]struct {
		build func(s *sketch) *pb.ModelProto
		want  string
	}{
		"a model in floating point": {func(s *sketch) *pb.ModelProto {
			s.relu("x", "y")
			return s.ends("y", 1, 4, 6, 6)
		}, "the model has no QuantizeLinear/DequantizeLinear nodes"},
		"a zero point between": {zero(uint8s, 117), `node "x1/numbers" (QuantizeLinear): the activation "x" has the zero point 117 of UINT8, ` +
			"want 128 (or 0, for what isn't negative): a calibration cache has no zero points"},
		"a signed zero point":     {zero(int8s, 0xf6), `the activation "x" has the zero point -10 of INT8, want 0 (or -128, for`},
		"float8":                  {zero(pb.TensorProto_FLOAT8E4M3FN, 0), "is of FLOAT8E4M3FN, want INT8 or UINT8"},
		"int32":                   {zeroInt32, "it quantises to INT32, want INT8 or UINT8"},
		"scales by channel":       {scale(0.1, 0.1, 0.2, 0.1), `the activation "x" has 4 scales, want one: a calibration cache has no scales by channel`},
		"no scale":                {scale(), "is empty"},
		"a scale of zero":         {scale(0), `its scale "x1/numbers/scale" is 0, want a positive number`},
		"a scale that is no more": {scale(float32(math.NaN())), "is NaN, want a positive number"},
		"a scale in blocks": {func(s *sketch) *pb.ModelProto {
			p := pair(s)
			setAttr(p.Graph.Node[0], intAttr("block_size", 2))
			return p
		}, "it has a scale for each block"},
		"a scale that is computed": {func(s *sketch) *pb.ModelProto {
			p := pair(s)
			p.Graph.Node = append([]*pb.NodeProto{op("ReduceMax", "m", from("x"), intAttr("keepdims", 0))}, p.Graph.Node...)
			p.Graph.Node[1].Input[1] = "m"
			return p
		}, `its scale "m" isn't constant: fold constants`},
		"a zero point that is computed": {func(s *sketch) *pb.ModelProto {
			p := pair(s)
			p.Graph.Node = append([]*pb.NodeProto{op("Cast", "m", from("x1/numbers/scale"), intAttr("to", int64(int8s)))}, p.Graph.Node...)
			p.Graph.Node[1].Input[2] = "m"
			return p
		}, `its zero point "m" isn't constant`},
		"two scales of one pair": {func(s *sketch) *pb.ModelProto {
			p := pair(s)
			p.Graph.Node[1].Input[1] = s.constant(floatTensor("other", nil, 0.2))
			return p
		}, `node "x1" (DequantizeLinear): its scale or zero point isn't that with which "x" was quantised`},
		"a result of numbers": {func(s *sketch) *pb.ModelProto {
			s.quantize("x", "y", 0.1, int8s, 0)
			s.relu("x", "z")
			s.p.Graph.Output = values(tensor("y", int8s, 1, 4, 6, 6), tensor("z", float, 1, 4, 6, 6))
			return s.p
		}, `the output "y" is of quantised numbers`},
		"numbers that nobody reads": {func(s *sketch) *pb.ModelProto {
			s.quantize("x", "q", 0.1, int8s, 0)
			s.relu("x", "y")
			return s.ends("y", 1, 4, 6, 6)
		}, `nothing dequantises "x", which is quantised`},
		"QLinearConv":           {onNumbers("QLinearConv", "q", "q/scale", "q/zero"), `node "r" (QLinearConv): it computes with 8-bit numbers: want floating-point operators`},
		"ConvInteger":           {onNumbers("ConvInteger", "q", "q"), "it computes with 8-bit numbers"},
		"DynamicQuantizeLinear": {onNumbers("DynamicQuantizeLinear", "x"), "it computes with 8-bit numbers"},
		"an Add of numbers":     {onNumbers("Add", "q", "q"), `node "r" (Add): it works on quantised numbers: want floating-point`},
		"a Clip by numbers":     {onNumbers("Clip", "q", "q"), `its input "q" is of the wrong kind`},
		"a Clip of what isn't":  {onNumbers("Clip", "q", "side"), `its input "side" isn't constant`},
		"a Concat of two grids": {onNumbers("Concat", "q", "q2"), `its inputs "q" and "q2" are quantised differently`},
		"a Concat of both":      {onNumbers("Concat", "q", "x"), `its input "x" is of the wrong kind, quantised or not`},
		"numbers quantised":     {onNumbers("QuantizeLinear", "q", "q/scale", "q/zero"), `it quantises "q", which is quantised already`},
		"integers quantised": {func(s *sketch) *pb.ModelProto {
			s.op("Cast", "i", from("x"), intAttr("to", int64(pb.TensorProto_INT32)))
			s.qdq("i", "i1", 0.1, int8s, 0)
			s.op("Sigmoid", "y", from("i1"))
			return s.ends("y", 1, 4, 6, 6)
		}, `it quantises "i", which is of INT32, want floating point`},
		"numbers of another source": {func(s *sketch) *pb.ModelProto {
			s.op("Cast", "i", from("x"), intAttr("to", int64(int8s)))
			s.constant(floatTensor("scale", nil, 0.1))
			s.op("DequantizeLinear", "y", from("i", "scale"))
			return s.ends("y", 1, 4, 6, 6)
		}, `it reads "i", which is neither a constant nor what QuantizeLinear makes`},
		"weights of 4 bits": {func(s *sketch) *pb.ModelProto {
			s.constant(rawTensor("w", pb.TensorProto_INT4, []int64{6}, []byte{1, 2, 3}))
			s.constant(floatTensor("scale", nil, 0.1))
			s.op("DequantizeLinear", "w1", from("w", "scale"))
			s.op("Add", "y", from("x", "w1"))
			return s.ends("y", 1, 4, 6, 6)
		}, `the tensor "w" is of INT4, want INT8 or UINT8, or INT32 for a bias`},
		"weights with too few scales": {func(s *sketch) *pb.ModelProto {
			s.constant(rawTensor("w", int8s, []int64{4, 1, 6}, make([]byte, 24)))
			s.constant(floatTensor("scale", []int64{2}, 0.1, 0.2))
			s.op("DequantizeLinear", "w1", from("w", "scale"), intAttr("axis", 0))
			s.op("Add", "y", from("x", "w1"))
			return s.ends("y", 1, 4, 6, 6)
		}, `2 scales along axis 0 of the tensor "w", want 4`},
		"weights in half precision": {func(s *sketch) *pb.ModelProto {
			s.constant(rawTensor("w", int8s, nil, make([]byte, 1)))
			s.constant(rawTensor("scale", float16, nil, []byte{0, 0x3c}))
			s.op("DequantizeLinear", "w1", from("w", "scale"))
			s.op("Cast", "w2", from("w1"), intAttr("to", int64(float)))
			s.op("Add", "y", from("x", "w2"))
			return s.ends("y", 1, 4, 6, 6)
		}, `it makes FLOAT16 of the constant "w", want float32`},
		"a pair in a branch": {func(s *sketch) *pb.ModelProto {
			inner := network(nil, values(tensor("in", float, 1)), nil, op("DequantizeLinear", "in", from("x")))
			s.op("If", "y", from("x"), &pb.AttributeProto{Name: proto.String("then_branch"), Type: pb.AttributeProto_GRAPH.Enum(), G: inner.Graph})
			return s.ends("y", 1, 4, 6, 6)
		}, `node "y" (If): node "in" (DequantizeLinear): it is inside a branch or a loop`},
		"a branch that reads numbers": {func(s *sketch) *pb.ModelProto {
			s.quantize("x", "q", 0.1, int8s, 0)
			inner := network(nil, values(tensor("in", float, 1)), nil, op("Relu", "in", from("q")))
			s.op("If", "y", from("x"), &pb.AttributeProto{Name: proto.String("then_branch"), Type: pb.AttributeProto_GRAPH.Enum(), G: inner.Graph})
			return s.ends("y", 1, 4, 6, 6)
		}, `node "y" (If): it works on quantised numbers`},
		"nothing but numbers": {func(s *sketch) *pb.ModelProto {
			s.qdq("x", "x1", 0.1, int8s, 0)
			return s.ends("x", 1, 4, 6, 6)
		}, "does nothing but quantise and dequantise"},
		"a graph that contradicts itself": {func(s *sketch) *pb.ModelProto {
			s.qdq("x", "x1", 0.1, int8s, 0)
			s.op("Conv", "y", from("x1", s.weight("w", 0, 1, 4, 3, 1, 1)))
			return s.ends("y", 1, 4, 6, 6)
		}, "4 channels in, its weights are for 3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := decode(t, test.build(newSketch(1, 4, 6, 6)))
			before := marshal(t, m.proto)
			r, err := m.Dequantize()
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
			if r.Scales != nil || string(marshal(t, m.proto)) != string(before) {
				t.Error("it did something")
			}
		})
	}
}

func zeroInt32(s *sketch) *pb.ModelProto {
	s.constant(floatTensor("scale", nil, 0.1))
	s.constant(int32Tensor("zero", []int32{0}))
	s.op("QuantizeLinear", "q", from("x", "scale", "zero"))
	s.op("DequantizeLinear", "y", from("q", "scale", "zero"))
	return s.ends("y", 1, 4, 6, 6)
}
