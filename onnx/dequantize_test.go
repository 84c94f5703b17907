package onnx

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dequantized takes m apart, and holds it to having no quantised number left and
// to scales for tensors that there are.
func dequantized(t *testing.T, m *Model) DequantizeReport {
	t.Helper()
	r, err := m.Dequantize()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range m.proto.Graph.Node {
		if isQuantize(n) || isDequantize(n) {
			t.Errorf("%s is left", describe(n))
		}
	}
	f := m.infer()
	for name := range r.Scales {
		if f.index.producer[name] == nil && f.index.input[name] == nil {
			t.Errorf("the graph has no tensor %q", name)
		}
	}
	return r
}

// makes lists the tensors that the model's nodes make.
func makes(m *Model) []string {
	var names []string
	for _, n := range m.proto.Graph.Node {
		names = append(names, n.GetOutput()...)
	}
	return names
}

// sameScales fails where a tensor that Quantize quantised has another scale now.
func sameScales(t *testing.T, got map[string]float32, q QuantizeReport) {
	t.Helper()
	for _, want := range q.Tensors {
		if got[want.Name] != want.Scale {
			t.Errorf("%s has the scale %g, want %g", want.Name, got[want.Name], want.Scale)
		}
	}
}

var flavours = map[string]QuantizeOptions{
	"signed": {}, "unsigned": {Unsigned: true}, "saturating": {Unsigned: true, Saturating: true},
}

// Also scales that have nothing to do with the values: none is made up from them.
func TestDequantizeGivesTheScalesThatQuantizeGot(t *testing.T) {
	t.Parallel()
	for name, o := range flavours {
		m, q := quantized(t, branches(), branchScales(), o)
		r := dequantized(t, m)
		sameScales(t, r.Scales, q)
		if r.Weights < 5 || r.Activations < 6 {
			t.Errorf("%s: %d weights and %d activations", name, r.Weights, r.Activations)
		}
		there := makes(m)
		for _, tensor := range from("stem/relu", "pooled", "left/relu", "right/relu", "both", "last", "pool", "flat", "y") {
			if !slices.Contains(there, tensor) {
				t.Errorf("%s: the tensor %q is gone", name, tensor)
			}
		}
	}
}

// What Quantize wrote comes back, in each of its forms: scales to the bit, and
// answers to what rounding the weights costs.
func TestDequantizeUndoesQuantize(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var models []string
	cases := patterns()
	for i, c := range cases {
		path := filepath.Join(dir, fmt.Sprint(i, ".onnx"))
		store(t, decode(t, c.model), path)
		models = append(models, path)
	}
	var scales []map[string]float32
	python(t, &scales, "quantize.py", append([]string{"calibrate"}, models...)...)
	names := slices.Sorted(maps.Keys(flavours))
	var paths []string
	for i, c := range cases {
		paths = append(paths, models[i])
		for _, flavour := range names {
			m, q := quantized(t, c.model, scales[i], flavours[flavour])
			r := dequantized(t, m)
			t.Run(c.name+" "+flavour, func(t *testing.T) { sameScales(t, r.Scales, q) })
			path := filepath.Join(dir, fmt.Sprint(i, flavour, ".onnx"))
			store(t, m, path)
			paths = append(paths, path)
		}
	}
	results := run(t, paths...)
	for i, c := range cases {
		all := results[4*i : 4*i+4]
		for k, flavour := range names {
			t.Run(c.name+" "+flavour, func(t *testing.T) {
				near(t, all[1+k].Values, all[0].Values, 0.02)
				if all[1+k].Output != all[0].Output {
					t.Errorf("the output is %s, was %s", all[1+k].Output, all[0].Output)
				}
			})
		}
	}
}

// Also ReLU6, of which Quantize leaves nothing where the grid ends at 6.
func TestDequantizeGivesTheDemoModelItsNodesBack(t *testing.T) {
	t.Parallel()
	for name, o := range flavours {
		m, err := Read(demoModel())
		if err != nil {
			t.Fatal(err)
		}
		before := operatorsOf(m)
		scales := map[string]float32{}
		for i, a := range activationsOf(t, m) {
			scales[i] = 0.01 + 0.001*float32(a.Index%9)
			if a.Op == "Clip" {
				scales[i] = 6.0 / 127
			}
		}
		q, err := m.Quantize(scales, o)
		if err != nil {
			t.Fatal(err)
		}
		r := dequantized(t, m)
		sameScales(t, r.Scales, q)
		if got := operatorsOf(m); got != before {
			t.Errorf("%s: %s, want %s", name, got, before)
		}
	}
}

// The weights are what ONNX Runtime makes of them, to the bit.
func TestDequantizedConstantsAreWhatTheyWere(t *testing.T) {
	t.Parallel()
	bytes := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * 37)
		}
		return b
	}
	s := newSketch(1, 3, 4, 5)
	scales := s.constant(floatTensor("scales", []int64{4}, 0.1, 0.037, 3, 1e-9))
	rows := s.constant(floatTensor("rows", []int64{5}, 0.1, 0.2, 0.3, 0.4, 0.7))
	one := s.constant(floatTensor("one", []int64{1}, 0.07))
	signed := s.constant(rawTensor("signed", 3, []int64{3, 4, 5}, bytes(60)))
	unsigned := s.constant(rawTensor("unsigned", 2, []int64{4, 5}, bytes(20)))
	zeros := s.constant(rawTensor("zeros", 2, []int64{5}, bytes(5)))
	large := s.constant(rawTensor("large", 6, []int64{4, 5}, bytes(80)))
	s.op("DequantizeLinear", "a", from(signed, scales))
	s.op("DequantizeLinear", "b", from(unsigned, rows, zeros), intAttr("axis", -1))
	s.op("Identity", "shared", from(large))
	s.op("DequantizeLinear", "c", from("shared", one))
	s.op("Add", "x+a", from("x", "a"))
	s.op("Mul", "x+a*b", from("x+a", "b"))
	s.op("Add", "y", from("x+a*b", "c"))
	p := s.ends("y", 1, 3, 4, 5)
	before := write(t, decode(t, p))
	m := decode(t, p)
	r := dequantized(t, m)
	if r.Weights != 3 || len(r.Scales) != 0 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "nothing for a calibration cache") {
		t.Errorf("%+v", r)
	}
	results := run(t, before, write(t, m))
	near(t, results[1].Values, results[0].Values, 0)
	if math.IsNaN(results[0].Values[0]) {
		t.Error("nothing was compared")
	}
}
