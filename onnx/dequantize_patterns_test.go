package onnx

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// qdq adds what quantises x to numbers of the given type around zero and back,
// as the tensor out.
func (s *sketch) qdq(x, out string, scale float32, typ pb.TensorProto_DataType, zero byte) {
	s.quantize(x, out+"/numbers", scale, typ, zero)
	s.op("DequantizeLinear", out, from(out+"/numbers", out+"/numbers/scale", out+"/numbers/zero"))
}

// quantize adds what quantises x to numbers called out.
func (s *sketch) quantize(x, out string, scale float32, typ pb.TensorProto_DataType, zero byte) {
	s.constant(floatTensor(out+"/scale", nil, scale))
	s.constant(rawTensor(out+"/zero", typ, nil, []byte{zero}))
	s.op("QuantizeLinear", out, from(x, out+"/scale", out+"/zero"))
}

// dequantize adds what makes floating point of numbers that quantize made as by.
func (s *sketch) dequantize(numbers, by, out string) {
	s.op("DequantizeLinear", out, from(numbers, by+"/scale", by+"/zero"))
}

// operatorsOf lists the nodes of a model, in its order.
func operatorsOf(m *Model) string {
	var list []string
	for _, n := range m.proto.Graph.Node {
		list = append(list, n.GetOpType())
	}
	return strings.Join(list, " ")
}

const (
	int8s  = pb.TensorProto_INT8
	uint8s = pb.TensorProto_UINT8
)

// qdqPattern is a small model in QDQ format, and what should become of it.
type qdqPattern struct {
	name   string
	model  *pb.ModelProto
	ops    string             // the nodes that are left
	scales map[string]float32 // all of them
	notes  []string           // how they start
	near   float64            // how near answers come to what they were, as a share of the largest; 0 for 0.1
}

func qdqPatterns() []qdqPattern {
	var list []qdqPattern
	add := func(name, operators string, scales map[string]float32, notes []string, build func(s *sketch) *pb.ModelProto) *qdqPattern {
		list = append(list, qdqPattern{name, build(newSketch(1, 4, 6, 6)), operators, scales, notes, 0.1})
		return &list[len(list)-1]
	}
	const s = 0.04 // of tensors: images are drawn from −4 to 4 or so

	add("as pytorch-quantization exports it", "Conv Relu Conv Add GlobalAveragePool Flatten Gemm",
		map[string]float32{"x": s, "/conv1/Conv_output_0": 0.1, "/relu/Relu_output_0": 0.1, "/conv2/Conv_output_0": 0.2},
		from(`"/conv1/Conv_output_0": not quantised; the scale is that of`, `"/Add_output_0", "pool": not quantised and without a scale`),
		func(b *sketch) *pb.ModelProto {
			weights := func(name, out string, axis int64, dims ...int64) {
				b.weight(name, 0, 0.3, dims...)
				b.constant(floatTensor(name+"/scale", []int64{dims[axis]}, slices.Repeat([]float32{0.01}, int(dims[axis]))...))
				b.op("Identity", name+"/scale/shared", from(name+"/scale"))
				b.constant(rawTensor(name+"/zero", int8s, []int64{dims[axis]}, make([]byte, dims[axis])))
				b.op("QuantizeLinear", out+"/numbers", from(name, name+"/scale/shared", name+"/zero"), intAttr("axis", axis))
				b.op("DequantizeLinear", out, from(out+"/numbers", name+"/scale/shared", name+"/zero"), intAttr("axis", axis))
			}
			b.qdq("x", "/conv1/_input_quantizer/DequantizeLinear_output_0", s, int8s, 0)
			weights("conv1.weight", "/conv1/_weight_quantizer/DequantizeLinear_output_0", 0, 4, 4, 3, 3)
			b.op("Conv", "/conv1/Conv_output_0", from("/conv1/_input_quantizer/DequantizeLinear_output_0",
				"/conv1/_weight_quantizer/DequantizeLinear_output_0"), intsAttr("pads", 1, 1, 1, 1))
			b.relu("/conv1/Conv_output_0", "/relu/Relu_output_0")
			b.qdq("/relu/Relu_output_0", "/conv2/_input_quantizer/DequantizeLinear_output_0", 0.1, int8s, 0)
			weights("conv2.weight", "/conv2/_weight_quantizer/DequantizeLinear_output_0", 0, 4, 4, 1, 1)
			b.op("Conv", "/conv2/Conv_output_0", from("/conv2/_input_quantizer/DequantizeLinear_output_0",
				"/conv2/_weight_quantizer/DequantizeLinear_output_0"))
			b.qdq("/conv2/Conv_output_0", "/add/_quantizer/DequantizeLinear_output_0", 0.2, int8s, 0)
			b.op("Add", "/Add_output_0", from("/add/_quantizer/DequantizeLinear_output_0", "/relu/Relu_output_0"))
			b.op("GlobalAveragePool", "pool", from("/Add_output_0"))
			b.op("Flatten", "flat", from("pool"))
			weights("fc.weight", "/fc/_weight_quantizer/DequantizeLinear_output_0", 0, 5, 4)
			b.op("Gemm", "y", from("flat", "/fc/_weight_quantizer/DequantizeLinear_output_0"), intAttr("transB", 1))
			return b.ends("y", 1, 5)
		})
	add("one tensor with two scales", "Relu Sigmoid Tanh Add", map[string]float32{"x": 2 * s, "r": 3 * s},
		from(`"r", "x": quantised with several scales`, `"a", "b": not quantised and without`), func(b *sketch) *pb.ModelProto {
			b.qdq("x", "x1", s, int8s, 0)
			b.qdq("x1", "x2", 2*s, int8s, 0) // in a row
			b.relu("x2", "r")
			b.qdq("r", "r1", 3*s, int8s, 0) // side by side
			b.qdq("r", "r2", s, int8s, 0)
			b.op("Sigmoid", "a", from("r1"))
			b.op("Tanh", "b", from("r2"))
			b.op("Add", "y", from("a", "b"))
			return b.ends("y", 1, 4, 6, 6)
		})
	add("the result is an output", "Neg", map[string]float32{"y": s}, nil, func(b *sketch) *pb.ModelProto {
		b.op("Neg", "n", from("x"))
		b.qdq("n", "y", s, int8s, 0)
		return b.ends("y", 1, 4, 6, 6)
	})
	add("before and behind are outputs", "Neg Identity", map[string]float32{"y": s, "z": s}, from(`"z": not quantised`), func(b *sketch) *pb.ModelProto {
		b.op("Neg", "y", from("x"))
		b.qdq("y", "z", s, int8s, 0)
		b.ends("y", 1, 4, 6, 6)
		return b.ends("z", 1, 4, 6, 6)
	})
	add("the input as an output", "Identity", map[string]float32{"x": s, "y": s}, from(`"y": not quantised`), func(b *sketch) *pb.ModelProto {
		b.qdq("x", "y", s, int8s, 0)
		return b.ends("y", 1, 4, 6, 6)
	})
	add("unsigned around 128", "Neg Sigmoid", map[string]float32{"n": s}, nil, func(b *sketch) *pb.ModelProto {
		b.op("Neg", "n", from("x"))
		b.qdq("n", "q", s, uint8s, 128)
		b.op("Sigmoid", "y", from("q"))
		return b.ends("y", 1, 4, 6, 6)
	})
	wide := float32(float64(float32(s)) * 255 / 127)
	for name, typ := range map[string]pb.TensorProto_DataType{"unsigned from 0": uint8s, "signed from -128": int8s} {
		zero := map[pb.TensorProto_DataType]byte{int8s: 0x80}[typ]
		add(name+" of what isn't negative", "Exp Sigmoid", map[string]float32{"e": wide}, from(`"e": unsigned and not negative`), func(b *sketch) *pb.ModelProto {
			b.op("Exp", "e", from("x"))
			b.qdq("e", "q", s, typ, zero)
			b.op("Sigmoid", "y", from("q"))
			return b.ends("y", 1, 4, 6, 6)
		})
		add(name+" in place of a ReLU", "Neg Relu Sigmoid Tanh Add", map[string]float32{"n": wide, "n_uncut": wide},
			from(`"n": unsigned and not negative`, `"n_uncut": not quantised; the scale`, `"a", "b": not quantised and without`), func(b *sketch) *pb.ModelProto {
				b.op("Neg", "n", from("x"))
				b.qdq("n", "q", s, typ, zero)
				b.qdq("n", "q2", s, typ, zero)
				b.op("Sigmoid", "a", from("q"))
				b.op("Tanh", "b", from("q2"))
				b.op("Add", "y", from("a", "b"))
				return b.ends("y", 1, 4, 6, 6)
			})
	}
	const six = 6.0 / 127
	add("in place of a ReLU6", "Neg Clip Sigmoid", map[string]float32{"n": six, "n_uncut": six}, from(`"n": unsigned`, `"n_uncut": not`),
		func(b *sketch) *pb.ModelProto {
			b.op("Neg", "n", from("x"))
			b.qdq("n", "q", 6.0/255, uint8s, 0)
			b.op("Sigmoid", "y", from("q"))
			return b.ends("y", 1, 4, 6, 6)
		})
	add("layers that move numbers", "Neg MaxPool Pad Transpose Concat Relu Slice Sigmoid",
		map[string]float32{"n": s, "pooled": s, "padded": s, "turned": s, "both": s, "cut": s, "left": s}, nil, func(b *sketch) *pb.ModelProto {
			b.op("Neg", "n", from("x"))
			b.quantize("n", "n_quantized", s, uint8s, 128)
			b.op("MaxPool", "pooled_quantized", from("n_quantized"), intsAttr("kernel_shape", 2, 2), intsAttr("strides", 2, 2))
			b.op("Pad", "padded_quantized", from("pooled_quantized", b.ints("pads", 0, 0, 1, 0, 0, 0, 0, 1), "n_quantized/zero"))
			b.op("Transpose", "turned_quantized", from("padded_quantized"), intsAttr("perm", 0, 1, 3, 2))
			b.op("Concat", "both_quantized", from("padded_quantized", "turned_quantized"), intAttr("axis", 1))
			b.op("Clip", "cut_quantized", from("both_quantized", "n_quantized/zero"))
			b.op("Slice", "left_quantized", from("cut_quantized", b.ints("from", 0), b.ints("to", 3), b.ints("axes", 1)))
			b.dequantize("left_quantized", "n_quantized", "left")
			b.op("Sigmoid", "y", from("left"))
			return b.ends("y", 1, 3, 4, 4)
		})
	add("between layers that move values", "Conv Relu MaxPool Conv",
		map[string]float32{"x": s, "a": 0.1, "r": 0.1, "pooled": 0.1, "y": 0.2}, from(`"a", "r": not quantised; the scale`), func(b *sketch) *pb.ModelProto {
			b.qdq("x", "x1", s, int8s, 0)
			b.qdq("w", "w1", 0.01, int8s, 0)
			b.op("Conv", "a", from("x1", "w1"))
			b.relu("a", "r")
			b.op("MaxPool", "pooled", from("r"), intsAttr("kernel_shape", 2, 2))
			b.qdq("pooled", "p1", 0.1, int8s, 0)
			b.op("Conv", "c", from("p1", "w1"))
			b.qdq("c", "y", 0.2, int8s, 0)
			b.weight("w", 0, 0.3, 4, 4, 1, 1)
			return b.ends("y", 1, 4, 5, 5)
		})
	add("weights that are turned", "Conv", map[string]float32{"x": s}, nil, func(b *sketch) *pb.ModelProto {
		b.weight("w", 0, 0.3, 3, 3, 4, 2) // as Keras has them
		b.constant(floatTensor("w.scale", []int64{2}, 0.01, 0.02))
		b.constant(rawTensor("w.zero", int8s, []int64{2}, make([]byte, 2)))
		b.op("QuantizeLinear", "w.q", from("w", "w.scale", "w.zero"), intAttr("axis", 3))
		b.op("DequantizeLinear", "w.dq", from("w.q", "w.scale", "w.zero"), intAttr("axis", -1))
		b.op("Transpose", "w.t", from("w.dq"), intsAttr("perm", 3, 2, 0, 1))
		b.qdq("x", "x1", s, int8s, 0)
		b.op("Conv", "y", from("x1", "w.t"))
		return b.ends("y", 1, 2, 4, 4)
	})
	add("weights that were cut off", "Conv", map[string]float32{"x": s}, from(`"w": weights of which the largest were cut off`), func(b *sketch) *pb.ModelProto {
		b.constant(floatTensor("w", []int64{1, 4, 1, 1}, 0.5, -1.3, 0, 2))
		b.qdq("w", "w1", 0.01, int8s, 0)
		b.qdq("x", "x1", s, int8s, 0)
		b.op("Conv", "y", from("x1", "w1"))
		return b.ends("y", 1, 1, 6, 6)
	}).near = 0.5
	add("weights in floating point", "Conv Sigmoid", map[string]float32{"x": s, "c": 0.1}, from(`"c": layers of which the weights weren't quantised`),
		func(b *sketch) *pb.ModelProto {
			b.qdq("x", "x1", s, int8s, 0)
			b.op("Conv", "c", from("x1", b.weight("w", 0, 0.3, 4, 4, 1, 1)))
			b.qdq("c", "c1", 0.1, int8s, 0)
			b.op("Sigmoid", "y", from("c1"))
			return b.ends("y", 1, 4, 6, 6)
		})
	add("a layer without scales", "Conv Relu Conv", map[string]float32{"x": s}, from(`"a", "r": not quantised and without a scale`), func(b *sketch) *pb.ModelProto {
		b.qdq("x", "x1", s, int8s, 0)
		b.op("Conv", "a", from("x1", b.weight("w", 0, 0.3, 4, 4, 1, 1)))
		b.relu("a", "r")
		b.op("Conv", "y", from("r", "w"))
		return b.ends("y", 1, 4, 6, 6)
	})
	add("ONNX Runtime's own operators", "Sigmoid", map[string]float32{"x": s}, nil, func(b *sketch) *pb.ModelProto {
		b.qdq("x", "x1", s, int8s, 0)
		for _, n := range b.p.Graph.Node {
			n.Domain = proto.String("com.microsoft")
		}
		b.p.OpsetImport = append(b.p.OpsetImport, &pb.OperatorSetIdProto{Domain: proto.String("com.microsoft"), Version: proto.Int64(1)})
		b.op("Sigmoid", "y", from("x1"))
		return b.ends("y", 1, 4, 6, 6)
	})
	add("a branch reads the result", "Neg If", map[string]float32{"q": s}, nil, func(b *sketch) *pb.ModelProto {
		b.op("Neg", "n", from("x"))
		b.qdq("n", "q", s, int8s, 0)
		branch := func(name, op string) *pb.AttributeProto {
			g := network(nil, values(tensor(name+"/y", float, 1, 4, 6, 6)), nil, newNode(op, name, from("q"), from(name+"/y"))).Graph
			return &pb.AttributeProto{Name: proto.String(name), Type: pb.AttributeProto_GRAPH.Enum(), G: g}
		}
		b.constant(rawTensor("yes", pb.TensorProto_BOOL, nil, []byte{1}))
		b.op("If", "y", from("yes"), branch("then_branch", "Sigmoid"), branch("else_branch", "Relu"))
		return b.ends("y", 1, 4, 6, 6)
	})
	return list
}

// Each pattern leaves the nodes and scales that it should, and a model that gives
// what it gave with its numbers quantised, to a few of their steps.
func TestDequantizedPatterns(t *testing.T) {
	t.Parallel()
	var paths []string
	cases := qdqPatterns()
	for _, c := range cases {
		m := decode(t, c.model)
		before := write(t, m)
		t.Run(c.name, func(t *testing.T) {
			r := dequantized(t, m)
			if !maps.Equal(r.Scales, c.scales) {
				t.Errorf("scales %v, want %v", r.Scales, c.scales)
			}
			if got := operatorsOf(m); got != c.ops {
				t.Errorf("%s are left, want %s", got, c.ops)
			}
			if !slices.EqualFunc(r.Notes, c.notes, strings.HasPrefix) {
				t.Errorf("notes %q, want some that start with %q", r.Notes, c.notes)
			}
		})
		paths = append(paths, before, write(t, m))
	}
	results := run(t, paths...)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) { near(t, results[2*i+1].Values, results[2*i].Values, c.near) })
	}
}
