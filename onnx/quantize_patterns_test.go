package onnx

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// sketch builds a network of random weights, one operator after the other.
// Nodes are called as the tensors that they make.
type sketch struct {
	p      *pb.ModelProto
	random *rand.Rand
}

func newSketch(shape ...int64) *sketch {
	return &sketch{network(values(tensor("x", float, shape...)), nil, nil), rand.New(rand.NewPCG(1, 2))}
}

func (s *sketch) op(typ, output string, inputs []string, attrs ...*pb.AttributeProto) {
	s.p.Graph.Node = append(s.p.Graph.Node, op(typ, output, inputs, attrs...))
}

// weight adds an initialiser of normal values of the given spread around mean.
func (s *sketch) weight(name string, mean, spread float64, dims ...int64) string {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(mean + spread*s.random.NormFloat64())
	}
	return s.constant(floatTensor(name, dims, v...))
}

func (s *sketch) constant(t *pb.TensorProto) string {
	s.p.Graph.Initializer = append(s.p.Graph.Initializer, t)
	return t.GetName()
}

func (s *sketch) ints(name string, v ...int64) string {
	return s.constant(intTensor(name, []int64{int64(len(v))}, v...))
}

// conv adds a convolution of size×size with bias.
func (s *sketch) conv(in, out string, channels, filters, size int64, attrs ...*pb.AttributeProto) {
	group := int64(1)
	for _, a := range attrs {
		if a.GetName() == "group" {
			group = a.GetI()
		}
	}
	if size > 1 && !slices.ContainsFunc(attrs, func(a *pb.AttributeProto) bool { return a.GetName() == "pads" }) {
		attrs = append(attrs, intsAttr("pads", size/2, size/2, size/2, size/2))
	}
	s.op("Conv", out, from(in, s.weight(out+".w", 0, 0.3, filters, channels/group, size, size), s.weight(out+".b", 0, 0.3, filters)), attrs...)
}

func (s *sketch) relu(in, out string) { s.op("Relu", out, from(in)) }

func (s *sketch) clip(in, out string, lo, hi float32) {
	s.op("Clip", out, from(in, s.constant(floatTensor(out+".lo", nil, lo)), s.constant(floatTensor(out+".hi", nil, hi))))
}

// head ends the network, as classifiers end.
func (s *sketch) head(in string, channels int64) *pb.ModelProto {
	s.op("GlobalAveragePool", "pool", from(in))
	s.op("Flatten", "flat", from("pool"))
	s.op("Gemm", "y", from("flat", s.weight("y.w", 0, 0.3, 5, channels), s.weight("y.b", 0, 0.3, 5)), intAttr("transB", 1))
	return s.ends("y", 1, 5)
}

func (s *sketch) ends(out string, shape ...int64) *pb.ModelProto {
	s.p.Graph.Output = append(s.p.Graph.Output, tensor(out, float, shape...))
	return s.p
}

// ops counts operators.
type ops map[string]int

// with adds those that ONNX Runtime makes of head.
func (o ops) withHead() ops {
	o = maps.Clone(o)
	for op, n := range (ops{"QuantizeLinear": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1, "Flatten": 1}) {
		o[op] += n
	}
	return o
}

// pattern is a small network and what ONNX Runtime should make of it in INT8.
type pattern struct {
	name   string
	model  *pb.ModelProto
	fused  ops // its nodes, but for Transpose
	scales func(map[string]float32)
	least  float64 // dB, how near INT8 comes to floating point
}

func patterns() []pattern {
	var list []pattern
	add := func(name string, fused ops, build func(s *sketch) *pb.ModelProto) *pattern {
		list = append(list, pattern{name: name, model: build(newSketch(1, 8, 12, 12)), fused: fused, least: 20})
		return &list[len(list)-1]
	}

	add("conv", ops{"QLinearConv": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3)
		return s.head("a", 16)
	})
	add("conv without bias", ops{"QLinearConv": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.op("Conv", "a", from("x", s.weight("w", 0, 0.3, 16, 8, 1, 1)))
		return s.head("a", 16)
	})
	add("conv, ReLU", ops{"QLinearConv": 1, "Clip": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3)
		s.relu("a", "b")
		return s.head("b", 16)
	})
	add("conv, ReLU6, depthwise, ReLU6", ops{"QLinearConv": 2, "Clip": 2}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 1)
		s.clip("a", "b", 0, 6)
		s.conv("b", "c", 16, 16, 3, intAttr("group", 16), intsAttr("strides", 2, 2))
		s.clip("c", "d", 0, 6)
		return s.head("d", 16)
	})
	add("conv, Clip to both sides", ops{"QLinearConv": 1, "Clip": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3)
		s.clip("a", "b", -1, 1.5)
		return s.head("b", 16)
	}).scales = func(scales map[string]float32) { scales["b"] *= 1.2 } // more than the Clip leaves
	add("grouped conv", ops{"QLinearConv": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3, intAttr("group", 4))
		return s.head("a", 16)
	})
	add("asymmetric padding", ops{"QLinearConv": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3, intsAttr("pads", 0, 0, 1, 1), intsAttr("strides", 2, 2))
		return s.head("a", 16)
	})
	add("conv, batch normalisation, ReLU", ops{"QLinearConv": 1, "Clip": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3)
		s.op("BatchNormalization", "b", from("a", s.weight("scale", 1, 0.3, 16), s.weight("shift", 0, 0.3, 16),
			s.weight("mean", 0, 0.3, 16), s.weight("var", 2, 0.1, 16)))
		s.relu("b", "c")
		return s.head("c", 16)
	})
	add("conv, Mul and Add of constants, ReLU", ops{"QLinearConv": 1, "Clip": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.op("Conv", "a", from("x", s.weight("w", 0, 0.3, 16, 8, 1, 1)))
		s.op("Mul", "b", from("a", s.weight("scale", 1, 0.3, 16, 1, 1)))
		s.op("Add", "c", from(s.weight("shift", 0, 0.3, 1, 16, 1, 1), "b"))
		s.relu("c", "d")
		return s.head("d", 16)
	})
	add("Pad, conv", ops{"QLinearConv": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.op("Pad", "p", from("x", s.ints("pads", 0, 0, 0, 1, 0, 0, 1, 2)))
		s.conv("p", "a", 8, 16, 3)
		return s.head("a", 16)
	})
	add("residual", ops{"QLinearConv": 3, "QLinearAdd": 1, "Clip": 3}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3)
		s.relu("a", "b")
		s.conv("b", "c", 16, 16, 3)
		s.relu("c", "d")
		s.conv("d", "e", 16, 16, 3)
		s.op("Add", "f", from("e", "b"))
		s.relu("f", "g")
		return s.head("g", 16)
	})
	add("residual without ReLU", ops{"QLinearConv": 4, "QLinearAdd": 2}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 1)
		s.conv("a", "b", 16, 16, 3)
		s.op("Add", "c", from("a", "b"))
		s.conv("c", "d", 16, 16, 3)
		s.op("Sum", "e", from("c", "d"))
		s.conv("e", "f", 16, 16, 1)
		return s.head("f", 16)
	})
	add("a tensor added to itself", ops{"QLinearConv": 1, "QLinearAdd": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 1)
		s.op("Add", "b", from("a", "a"))
		return s.head("b", 16)
	})
	add("squeeze and excite",
		ops{"QLinearConv": 3, "Clip": 2, "QLinearGlobalAveragePool": 1, "QLinearSigmoid": 1, "QLinearMul": 1}.withHead(),
		func(s *sketch) *pb.ModelProto {
			s.conv("x", "a", 8, 16, 3)
			s.relu("a", "b")
			s.op("GlobalAveragePool", "c", from("b"))
			s.conv("c", "d", 16, 4, 1)
			s.relu("d", "e")
			s.conv("e", "f", 4, 16, 1)
			s.op("Sigmoid", "g", from("f"))
			s.op("Mul", "h", from("b", "g"))
			return s.head("h", 16)
		})
	add("HardSwish between", ops{"QLinearConv": 2, "QuantizeLinear": 1, "DequantizeLinear": 2, "HardSigmoid": 1, "Mul": 1}.withHead(),
		func(s *sketch) *pb.ModelProto {
			s.conv("x", "a", 8, 16, 3)
			s.op("HardSigmoid", "b", from("a"))
			s.op("Mul", "c", from("a", "b"))
			s.conv("c", "d", 16, 16, 1)
			return s.head("d", 16)
		}).scales = func(scales map[string]float32) { delete(scales, "b") }
	add("max pooling: cut off behind it", ops{"QLinearConv": 2, "NhwcMaxPool": 1, "Clip": 2}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3)
		s.relu("a", "b")
		s.op("MaxPool", "c", from("b"), intsAttr("kernel_shape", 3, 3), intsAttr("strides", 2, 2), intsAttr("pads", 1, 1, 1, 1))
		s.conv("c", "d", 16, 16, 3)
		s.relu("d", "e")
		return s.head("e", 16)
	})
	add("average pooling", ops{"QLinearConv": 2, "QLinearAveragePool": 1, "Clip": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3)
		s.relu("a", "b")
		s.op("AveragePool", "c", from("b"), intsAttr("kernel_shape", 2, 2), intsAttr("strides", 2, 2))
		s.conv("c", "d", 16, 16, 3)
		return s.head("d", 16)
	})
	add("mean over the image", ops{"QLinearConv": 1, "Clip": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3)
		s.relu("a", "b")
		s.op("ReduceMean", "c", from("b"), intsAttr("axes", -1, -2), intAttr("keepdims", 0))
		s.op("Gemm", "y", from("c", s.weight("y.w", 0, 0.3, 5, 16)), intAttr("transB", 1))
		return s.ends("y", 1, 5)
	})
	add("inception: branches of one range", ops{"QLinearConv": 3, "Concat": 1, "Clip": 2}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3)
		s.relu("a", "b")
		s.conv("b", "c", 16, 8, 1)
		s.relu("c", "d")
		s.conv("b", "e", 16, 8, 3)
		s.relu("e", "f")
		s.op("Concat", "g", from("d", "f"), intAttr("axis", 1))
		return s.head("g", 16)
	})
	add("dense: a branch that is read elsewhere too", ops{"QLinearConv": 3, "QLinearConcat": 1, "Clip": 3}.withHead(),
		func(s *sketch) *pb.ModelProto {
			s.conv("x", "a", 8, 16, 3)
			s.relu("a", "b")
			s.conv("b", "c", 16, 8, 1)
			s.relu("c", "d")
			s.op("Concat", "e", from("b", "d"), intAttr("axis", 1))
			s.conv("e", "f", 24, 16, 1)
			s.relu("f", "g")
			return s.head("g", 16)
		}).scales = func(scales map[string]float32) { scales["e"] *= 1.1 }
	add("channel shuffle", ops{"QLinearConv": 2, "Clip": 1, "Reshape": 2}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 1)
		s.relu("a", "b")
		s.op("Reshape", "c", from("b", s.ints("apart", 1, 4, 4, 12, 12)))
		s.op("Transpose", "d", from("c"), intsAttr("perm", 0, 2, 1, 3, 4))
		s.op("Reshape", "e", from("d", s.ints("together", 1, 16, 12, 12)))
		s.conv("e", "f", 16, 16, 3, intAttr("group", 16))
		return s.head("f", 16)
	})
	add("split", ops{"QLinearConv": 2, "Clip": 2, "Split": 1, "Concat": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 1)
		s.relu("a", "b")
		s.p.Graph.Node = append(s.p.Graph.Node,
			newNode("Split", "split", from("b", s.ints("parts", 8, 8)), from("c", "d"), intAttr("axis", 1)))
		s.conv("d", "e", 8, 8, 3)
		s.relu("e", "f")
		s.op("Concat", "g", from("c", "f"), intAttr("axis", 1))
		return s.head("g", 16)
	})
	add("shortcut by slicing and padding", ops{"QLinearConv": 2, "Clip": 2, "Slice": 1, "Pad": 1, "QLinearAdd": 1}.withHead(),
		func(s *sketch) *pb.ModelProto {
			s.conv("x", "a", 8, 8, 3)
			s.relu("a", "b")
			s.conv("b", "c", 8, 16, 3, intsAttr("strides", 2, 2))
			s.op("Slice", "d", from("b", s.ints("from", 0, 0), s.ints("to", 12, 12), s.ints("axes", 2, 3), s.ints("by", 2, 2)))
			s.op("Pad", "e", from("d", s.ints("pads", 0, 4, 0, 0, 0, 4, 0, 0), s.constant(floatTensor("zero", nil, 0))))
			s.op("Add", "f", from("c", "e"))
			s.relu("f", "g")
			return s.head("g", 16)
		})
	add("matrix products", ops{"QuantizeLinear": 1, "Flatten": 1, "QGemm": 4, "Clip": 2}, func(s *sketch) *pb.ModelProto {
		s.op("Flatten", "flat", from("x"))
		s.op("Gemm", "a", from("flat", s.weight("a.w", 0, 0.1, 1152, 24), s.weight("a.b", 0, 0.3, 1, 24)),
			floatAttr("alpha", 0.5), floatAttr("beta", 2))
		s.relu("a", "b")
		s.op("MatMul", "c", from("b", s.weight("c.w", 0, 0.3, 24, 16)))
		s.op("Add", "d", from("c", s.weight("d.b", 0, 0.3, 16)))
		s.relu("d", "e")
		s.op("Identity", "e.same", from("e"))
		s.op("Dropout", "e.drop", from("e.same"))
		s.op("Gemm", "f", from("e.drop", s.weight("f.w", 0, 0.3, 12, 16)), intAttr("transB", 1))
		s.op("Gemm", "y", from("f", s.weight("y.w", 0, 0.3, 12, 5), s.constant(floatTensor("y.b", nil, 0.5))))
		return s.ends("y", 1, 5)
	})
	add("products of tokens", ops{"QuantizeLinear": 1, "Reshape": 1, "QLinearMatMul": 2, "MatMulIntegerToFloat": 1},
		func(s *sketch) *pb.ModelProto {
			s.op("Reshape", "t", from("x", s.ints("tokens", 1, 8, 144)))
			s.op("MatMul", "a", from("t", s.weight("a.w", 0, 0.1, 144, 16)))
			s.op("Transpose", "b", from("a"), intsAttr("perm", 0, 2, 1))
			s.op("MatMul", "c", from("a", "b"))
			s.op("MatMul", "y", from("c", s.weight("y.w", 0, 0.3, 8, 5)))
			return s.ends("y", 1, 8, 5)
		})
	add("a last convolution of the whole image", ops{"QuantizeLinear": 1, "QLinearConv": 1, "Clip": 1, "Flatten": 1, "QGemm": 1, "Unsqueeze": 1},
		func(s *sketch) *pb.ModelProto {
			s.conv("x", "a", 8, 16, 3, intsAttr("strides", 2, 2))
			s.relu("a", "b")
			s.conv("b", "y", 16, 5, 6, intsAttr("pads", 0, 0, 0, 0))
			return s.ends("y", 1, 5, 1, 1)
		})
	add("last convolution and pooling", ops{"QuantizeLinear": 1, "QLinearConv": 1, "Clip": 1, "DequantizeLinear": 1, "GlobalAveragePool": 1},
		func(s *sketch) *pb.ModelProto {
			s.conv("x", "a", 8, 5, 1)
			s.relu("a", "b")
			s.op("GlobalAveragePool", "y", from("b"))
			return s.ends("y", 1, 5, 1, 1)
		})
	add("a result in the middle", ops{"QLinearConv": 2, "Clip": 1, "DequantizeLinear": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 16, 3)
		s.relu("a", "b")
		s.conv("b", "c", 16, 16, 1)
		s.ends("b", 1, 16, 12, 12)
		return s.head("c", 16)
	})
	add("weights and bias that layers share", ops{"QLinearConv": 3, "Clip": 1}.withHead(), func(s *sketch) *pb.ModelProto {
		s.conv("x", "a", 8, 8, 1)
		s.relu("a", "b")
		s.op("Conv", "c", from("b", "a.w", "a.b"))
		s.op("Conv", "d", from("c", "a.w", "a.b"))
		return s.head("d", 8)
	})
	largest := add("the largest products there are", ops{"QuantizeLinear": 1, "QLinearConv": 3, "Clip": 1, "DequantizeLinear": 1},
		func(s *sketch) *pb.ModelProto {
			same := func(name string, out, in, size int64) string {
				v := slices.Repeat([]float32{0.5}, int(out*in*size*size))
				return s.constant(floatTensor(name, []int64{out, in, size, size}, v...))
			}
			s.op("Conv", "a", from("x", same("a.w", 16, 8, 3)))
			s.relu("a", "b")
			s.op("Conv", "c", from("b", same("c.w", 16, 16, 3)))
			s.op("Conv", "y", from("c", same("y.w", 5, 16, 3)))
			return s.ends("y", 1, 5, 6, 6)
		})
	largest.least = -100 // most is cut off
	largest.scales = func(scales map[string]float32) {
		for _, t := range []string{"x", "b", "c"} {
			scales[t] /= 50
		}
		scales["y"] = scales["c"] * 40
	}
	add("one matrix along both axes", ops{"QuantizeLinear": 1, "Reshape": 1, "QGemm": 3}, func(s *sketch) *pb.ModelProto {
		s.op("Reshape", "t", from("x", s.ints("rows", 72, 16)))
		s.weight("w", 0, 0.3, 16, 16)
		s.op("Gemm", "a", from("t", "w"))
		s.op("Gemm", "b", from("a", "w"), intAttr("transB", 1))
		s.op("Gemm", "y", from("b", "w"))
		return s.ends("y", 72, 16)
	})
	return list
}

// comparison is what quantize.py says of a model in floating point and in INT8.
type comparison struct {
	Quantised, Fused float64 // how near INT8 as written and as fused come to what they were made of, in dB
	Signed           bool    `json:"signed_same"`
	Saturating       bool    `json:"saturating_same"`
	Ops              ops     // as fused
}

// Each pattern is held to four things: INT8 stays near floating point, ONNX
// Runtime makes the kernels of it that it should, signed and unsigned form give
// the same answers to the bit, and so do the form for CPUs without VNNI and ONNX
// Runtime's own exact mode.
func TestQuantizedPatterns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cases := patterns()
	var models, dirs []string
	for i, c := range cases {
		d := filepath.Join(dir, string(rune('a'+i/26))+string(rune('a'+i%26)))
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		store(t, decode(t, c.model), filepath.Join(d, "fp32.onnx"))
		models, dirs = append(models, filepath.Join(d, "fp32.onnx")), append(dirs, d)
	}
	var scales []map[string]float32
	python(t, &scales, "quantize.py", append([]string{"calibrate"}, models...)...)
	for i, c := range cases {
		if c.scales != nil {
			c.scales(scales[i])
		}
		for name, o := range map[string]QuantizeOptions{
			"signed": {}, "unsigned": {Unsigned: true}, "saturating": {Unsigned: true, Saturating: true},
		} {
			m := decode(t, c.model)
			if _, err := m.Quantize(scales[i], o); err != nil {
				t.Fatalf("%s, %s: %v", c.name, name, err)
			}
			store(t, m, filepath.Join(dirs[i], name+".onnx"))
		}
	}
	var results []comparison
	python(t, &results, "quantize.py", append([]string{"compare"}, dirs...)...)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := results[i]
			if r.Quantised < c.least {
				t.Errorf("INT8 comes within %.1f dB of floating point, want %.0f", r.Quantised, c.least)
			}
			if r.Fused < 30 {
				t.Errorf("ONNX Runtime's kernels come within %.1f dB of the graph as written, want 30", r.Fused)
			}
			if !r.Signed {
				t.Error("signed and unsigned form differ")
			}
			if !r.Saturating {
				t.Error("the form for CPUs without VNNI differs")
			}
			delete(r.Ops, "Transpose")
			if !maps.Equal(r.Ops, c.fused) {
				t.Errorf("ONNX Runtime makes %v, want %v", r.Ops, c.fused)
			}
		})
	}
}

func store(t *testing.T, m *Model, path string) {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
