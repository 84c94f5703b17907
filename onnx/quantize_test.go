package onnx

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// branches is a network with what Quantize has to decide about: x → conv → ReLU
// → max pool, then two branches that meet in a Concat, one of them with another
// max pool, then a convolution and the head.
func branches() *pb.ModelProto {
	s := newSketch(1, 8, 12, 12)
	s.conv("x", "stem", 8, 16, 3)
	s.relu("stem", "stem/relu")
	s.op("MaxPool", "pooled", from("stem/relu"), intsAttr("kernel_shape", 2, 2), intsAttr("strides", 2, 2))
	s.conv("pooled", "left", 16, 8, 1)
	s.relu("left", "left/relu")
	s.conv("pooled", "right", 16, 8, 3)
	s.relu("right", "right/relu")
	s.op("Concat", "both", from("left/relu", "right/relu"), intAttr("axis", 1))
	s.conv("both", "last", 16, 16, 1)
	return s.head("last", 16)
}

// branchScales are scales for all of branches, each another one.
func branchScales() map[string]float32 {
	return map[string]float32{
		"x": 0.010, "stem": 0.011, "stem/relu": 0.012, "pooled": 0.013, "left": 0.014, "left/relu": 0.015,
		"right": 0.016, "right/relu": 0.017, "both": 0.018, "last": 0.019, "pool": 0.020,
	}
}

func quantized(t *testing.T, p *pb.ModelProto, scales map[string]float32, o QuantizeOptions) (*Model, QuantizeReport) {
	t.Helper()
	m := decode(t, p)
	r, err := m.Quantize(scales, o)
	if err != nil {
		t.Fatal(err)
	}
	return m, r
}

// floating lists the layers of a report that stay in floating point.
func floating(r QuantizeReport) []string {
	var names []string
	for _, l := range r.Layers {
		if !l.INT8 {
			names = append(names, l.Name)
		}
	}
	return names
}

// quantizes lists the tensors that the model's QuantizeLinear nodes read, but
// for the end that unsigned raw results have.
func quantizes(m *Model) []string {
	var names []string
	for _, n := range m.proto.Graph.Node {
		if n.GetOpType() == "QuantizeLinear" {
			names = append(names, strings.TrimSuffix(n.GetInput()[0], "_unquantized"))
		}
	}
	return names
}

func TestEachTensorHasTheScaleThatItsGridIsFor(t *testing.T) {
	t.Parallel()
	_, r := quantized(t, branches(), branchScales(), QuantizeOptions{Unsigned: true})
	want := []QuantizedTensor{
		{"x", 0.010, "x"},
		{"stem/relu", 0.012, "stem/relu"}, // that before the ReLU is of no use
		{"pooled", 0.012, "stem/relu"},    // max pooling only picks values
		{"left/relu", 0.018, "both"},      // made as the Concat wants it
		{"right/relu", 0.018, "both"},
		{"both", 0.018, "both"},
		{"last", 0.019, "last"},
		{"pool", 0.020, "pool"},
		{"flat", 0.020, "pool"}, // and nothing for y: the scores stay in floating point
	}
	if !slices.Equal(r.Tensors, want) {
		t.Errorf("%v, want %v", r.Tensors, want)
	}
	if f := floating(r); f != nil {
		t.Errorf("%v stay in floating point, want none", f)
	}
	if r.INT8() != len(r.Layers) {
		t.Errorf("%d of %d layers in INT8", r.INT8(), len(r.Layers))
	}
}

func TestWhatHasNoScaleStaysInFloatingPoint(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		missing string
		stay    []string // layers
		why     string
		q       []string // what is quantised
	}{
		{"stem", nil, "", []string{"x", "stem/relu", "left/relu", "right/relu", "last", "pool"}},
		{"x", []string{"stem", "stem/relu"}, `no scale for its input "x"`, []string{"stem/relu", "left/relu", "right/relu", "last", "pool"}},
		{"stem/relu", []string{"stem", "stem/relu", "pooled"}, `no scale for its output "stem/relu"`, []string{"pooled", "left/relu", "right/relu", "last", "pool"}},
		{"both", []string{"both", "last"}, `no scale for its output "both"`, []string{"x", "stem/relu", "left/relu", "right/relu", "last", "pool"}},
		{"left/relu", []string{"left", "left/relu", "both"}, `no scale for its output "left/relu"`, []string{"x", "stem/relu", "right/relu", "both", "last", "pool"}},
		{"pool", []string{"pool", "flat", "y"}, `no scale for its output "pool"`, []string{"x", "stem/relu", "left/relu", "right/relu", "last"}},
	} {
		t.Run(test.missing, func(t *testing.T) {
			t.Parallel()
			scales := branchScales()
			delete(scales, test.missing)
			for _, o := range []QuantizeOptions{{}, {Unsigned: true}} {
				m, r := quantized(t, branches(), scales, o)
				if got := floating(r); !slices.Equal(got, test.stay) {
					t.Errorf("%v stay in floating point, want %v", got, test.stay)
				}
				if test.why != "" && !slices.ContainsFunc(r.Layers, func(l QuantizedLayer) bool { return l.Why == test.why }) {
					t.Errorf("%v, want a layer of which is said %q", r.Layers, test.why)
				}
				if o.Unsigned && !slices.Equal(quantizes(m), test.q) {
					t.Errorf("quantised are %v, want %v", quantizes(m), test.q)
				}
			}
		})
	}
}

func TestKeepHoldsLayersInFloatingPoint(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		keep string
		stay []string
	}{
		{"stem", []string{"stem", "stem/relu"}},
		{"stem/relu", []string{"stem", "stem/relu"}}, // the ReLU is part of the layer
		{"pooled", []string{"pooled"}},
		{"both", []string{"both"}},
		{"y", []string{"pool", "flat", "y"}}, // pooling for a product in floating point gains nothing
	} {
		_, r := quantized(t, branches(), branchScales(), QuantizeOptions{Unsigned: true, Keep: []string{test.keep}})
		if got := floating(r); !slices.Equal(got, test.stay) {
			t.Errorf("with %s, %v stay in floating point, want %v", test.keep, got, test.stay)
		}
	}
	m := decode(t, branches())
	if _, err := m.Quantize(branchScales(), QuantizeOptions{Keep: []string{"stem", "stern"}}); err == nil ||
		!strings.Contains(err.Error(), `no layer and no tensor "stern"`) {
		t.Errorf("%v", err)
	}
}

func TestQuantizeRefusesScalesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, bad := range []float32{0, -0.1, float32(math.NaN()), float32(math.Inf(1)), 1e-40, 1e35} {
		m := decode(t, branches())
		before := marshal(t, m.proto)
		scales := branchScales()
		scales["last"] = bad
		_, err := m.Quantize(scales, QuantizeOptions{Unsigned: true})
		if err == nil || !strings.Contains(err.Error(), `scale of the tensor "last"`) {
			t.Errorf("%v: %v", bad, err)
		}
		if string(marshal(t, m.proto)) != string(before) {
			t.Errorf("%v: the model changed", bad)
		}
		delete(scales, "last") // of a tensor that isn't there it doesn't matter
		scales["elsewhere"] = bad
		if _, err := m.Quantize(scales, QuantizeOptions{}); err != nil {
			t.Error(err)
		}
	}
}

func TestQuantizeChangesNothingWithoutScales(t *testing.T) {
	t.Parallel()
	for name, scales := range map[string]map[string]float32{
		"none": nil, "of another model": {"data": 0.1, "conv1": 0.1}, "of the input alone": {"x": 0.1},
	} {
		m := decode(t, ofOpset(branches(), 11))
		before := marshal(t, m.proto)
		r, err := m.Quantize(scales, QuantizeOptions{})
		if err != nil || len(r.Tensors) > 0 || r.INT8() > 0 {
			t.Errorf("scales %s: %v, %v", name, r, err)
		}
		if string(marshal(t, m.proto)) != string(before) {
			t.Errorf("scales %s: the model changed", name)
		}
	}
}

func TestQuantizeIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	first, _ := quantized(t, branches(), branchScales(), QuantizeOptions{Unsigned: true})
	for range 10 {
		m, _ := quantized(t, branches(), branchScales(), QuantizeOptions{Unsigned: true})
		if string(marshal(t, m.proto)) != string(marshal(t, first.proto)) {
			t.Fatal("two runs differ")
		}
	}
}

func TestFrontAndSoftmaxStayInFloatingPoint(t *testing.T) {
	t.Parallel()
	s := newSketch(1, 3, 12, 12)
	s.conv("x", "a", 3, 8, 3)
	m := decode(t, s.head("a", 8))
	if err := m.AddFront(Front{Color: "bgr", Mean: []float32{104, 117, 123}, Std: []float32{58}}); err != nil {
		t.Fatal(err)
	}
	if err := m.AddSoftmax(); err != nil {
		t.Fatal(err)
	}
	r, err := m.Quantize(map[string]float32{"x": 0.03, "a": 0.02, "pool": 0.01}, QuantizeOptions{Unsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range r.Layers {
		if ours := strings.HasPrefix(l.Name, "sightd/"); ours == l.INT8 {
			t.Errorf("%+v", l)
		}
	}
	if got := quantizes(m); !slices.Equal(got, []string{"x", "a", "pool"}) {
		t.Errorf("quantised are %v", got)
	}
}

func TestLayersThatINT8HasNoFormOfStay(t *testing.T) {
	t.Parallel()
	scales := map[string]float32{"x": 0.1, "a": 0.1, "b": 0.1, "c": 0.1, "pool": 0.1}
	for name, build := range map[string]func(s *sketch){
		"weights that aren't finite": func(s *sketch) {
			s.op("Conv", "b", from("a", s.constant(floatTensor("w", []int64{1, 8, 1, 1}, 1, 2, 3, 4, 5, 6, 7, float32(math.NaN())))))
		},
		"weights that are computed": func(s *sketch) {
			s.op("Relu", "w", from(s.weight("w.raw", 0, 1, 1, 8, 1, 1)))
			s.op("Conv", "b", from("a", "w"))
		},
		"an Add of a constant image": func(s *sketch) { s.op("Add", "b", from("a", s.weight("w", 0, 1, 1, 8, 12, 12))) },
		"pooling with indices": func(s *sketch) {
			s.p.Graph.Node = append(s.p.Graph.Node, newNode("MaxPool", "b", from("a"), from("b", "at"), intsAttr("kernel_shape", 2, 2)))
		},
		"an operator of its own kind": func(s *sketch) { s.op("Elu", "b", from("a")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSketch(1, 8, 12, 12)
			s.conv("x", "a", 8, 8, 1)
			build(s)
			_, r := quantized(t, s.ends("b", 1, 8, 12, 12), scales, QuantizeOptions{Unsigned: true})
			if !slices.Contains(floating(r), "b") || slices.Contains(floating(r), "a") {
				t.Errorf("%v", r.Layers)
			}
		})
	}
}

func TestSaturatingIsForUnsigned(t *testing.T) {
	t.Parallel()
	if _, err := decode(t, branches()).Quantize(branchScales(), QuantizeOptions{Saturating: true}); err == nil {
		t.Error("no error")
	}
}

// A layer's weights in 8 bits and bias in 32 give back what they were to within
// half a step, also where a channel is dead, or all but dead beside its bias.
func TestWeightsComeBackToHalfAStep(t *testing.T) {
	t.Parallel()
	const input = 0.05
	weights := []float32{0.5, -1.27, 0, 0, 1e-12, -1e-12, 3e-39, 1e-39, 1000, -3000}
	bias := []float32{-0.3, 2, 0.5, 1e-30, 1e4}
	l := &linear{weights: weights, dims: []int64{5, 2}, channels: 5, bias: bias, hasBias: true, alpha: 1}
	bytes, scales, ints, steps := l.quantise(input)
	for c := range bias {
		if steps[c] != input*scales[c] {
			t.Errorf("channel %d: the bias has the step %g, want %g", c, steps[c], input*scales[c])
		}
		if back := float64(ints[c]) * float64(steps[c]); math.Abs(back-float64(bias[c])) > 0.51*float64(steps[c]) {
			t.Errorf("channel %d: the bias %g came back as %g, its step is %g", c, bias[c], back, steps[c])
		}
		if share := float64(steps[c]) / math.Abs(float64(bias[c])); share > 1e-3 && c != 3 && c != 0 && c != 4 {
			t.Errorf("channel %d: the bias %g has the step %g", c, bias[c], steps[c])
		}
		for i := 2 * c; i < 2*c+2; i++ {
			if back := float32(bytes[i]) * scales[c]; math.Abs(float64(back-weights[i])) > 0.51*float64(scales[c]) {
				t.Errorf("channel %d: the weight %g came back as %g, its step is %g", c, weights[i], back, scales[c])
			}
		}
	}
	if bytes[1] != -127 || bytes[0] != 50 || scales[0] != 1.27/127 {
		t.Errorf("%d, %d of %g", bytes[0], bytes[1], scales[0])
	}
}
