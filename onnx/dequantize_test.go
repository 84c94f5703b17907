package onnx

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
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

// quantizeStatic is a case of quantize_static.py.
type quantizeStatic struct {
	Model      string         `json:"model"`
	Out        string         `json:"out"`
	Unsigned   bool           `json:"unsigned"`
	PerChannel bool           `json:"per_channel"`
	Format     string         `json:"format"`
	Options    map[string]any `json:"options"`
}

// quantizedStatic is a tensor's scale and zero point.
type quantizedStatic struct {
	Scale float32
	Zero  int
}

func runQuantizeStatic(t *testing.T, cases []quantizeStatic) []map[string]quantizedStatic {
	t.Helper()
	b, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cases.json")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	var result []map[string]quantizedStatic
	python(t, &result, "quantize_static.py", path)
	return result
}

// onlyPositive is a network of which ONNX Runtime's quantizer can say all in
// unsigned numbers from 0: there it leaves the ReLUs to QuantizeLinear.
func onlyPositive(t *testing.T) string {
	s := newSketch(1, 8, 12, 12)
	s.relu("x", "x+")
	s.conv("x+", "a", 8, 16, 3)
	s.relu("a", "b")
	s.conv("b", "c", 16, 16, 1)
	s.clip("c", "d", 0, 6)
	return write(t, decode(t, s.head("d", 16)))
}

// What ONNX Runtime's own quantizer made of models becomes what it was: the same
// tensors under the same names, and the same answers.
func TestDequantizeUndoesONNXRuntime(t *testing.T) {
	t.Parallel()
	symmetric := map[string]any{"ActivationSymmetric": true}
	asIs := map[string]any{"ActivationSymmetric": true, "AddQDQPairToWeight": true, "QuantizeBias": false}
	m, err := Read(demoModel())
	if err != nil {
		t.Fatal(err)
	}
	demo := write(t, m) // its weights, which a Cast widens, are constants here
	cases := []quantizeStatic{
		{Model: demo, PerChannel: true, Options: symmetric},
		{Model: demo, Unsigned: true, PerChannel: true, Options: asIs},
		{Model: onlyPositive(t), Unsigned: true, Options: map[string]any{"OpTypesToExcludeOutputQuantization": []string{"Gemm"}}},
	}
	const restored = 2
	for _, name := range []string{"squeezenet1.1_fp32.onnx", "cifar10_resnet20_fp32.onnx"} {
		path := filepath.Join(testenv.Root(), "..", "shared", "material", "models", name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		dedicated := maps.Clone(asIs)
		dedicated["DedicatedQDQPair"], dedicated["UseQDQContribOps"] = true, true
		cases = append(cases, quantizeStatic{Model: path, Options: symmetric}, quantizeStatic{Model: path, Unsigned: true, Options: dedicated})
	}
	dir := t.TempDir()
	for i := range cases {
		cases[i].Out, cases[i].Format = filepath.Join(dir, fmt.Sprint(i, ".onnx")), "QDQ"
	}
	quantised := runQuantizeStatic(t, cases)
	var paths []string
	for i, c := range cases {
		m, err := Read(c.Out)
		if err != nil {
			t.Fatal(err)
		}
		r := dequantized(t, m)
		for name, q := range quantised[i] {
			want := q.Scale
			if i == restored {
				want = float32(float64(q.Scale) * 255 / 127)
			}
			if r.Scales[name] != want {
				t.Errorf("%s: %s has the scale %g, want %g", c.Out, name, r.Scales[name], want)
			}
		}
		if r.Activations != len(quantised[i]) || len(quantised[i]) < 5 {
			t.Errorf("%s: %d activations, want %d", c.Out, r.Activations, len(quantised[i]))
		}
		original, err := Read(c.Model)
		if err != nil {
			t.Fatal(err)
		}
		have := set(makes(m)...)
		for _, name := range makes(original) {
			if !have[name] && i != restored {
				t.Errorf("%s: the tensor %q is gone", c.Out, name)
			}
		}
		paths = append(paths, c.Model, write(t, m))
	}
	results := run(t, paths...)
	for i, c := range cases {
		share := 0.12 // noise for pictures, and weights in 8 bits
		if c.Options["AddQDQPairToWeight"] == true {
			share = 1e-6
		}
		if i == restored {
			share = 0.02
		}
		t.Run(fmt.Sprint(filepath.Base(c.Model), c.Options), func(t *testing.T) {
			before, after := results[2*i], results[2*i+1]
			near(t, after.Values, before.Values, share)
			if after.Output != before.Output || !slices.Equal(after.Shape, before.Shape) {
				t.Errorf("%+v became %+v", before, after)
			}
		})
	}
}

func TestDequantizeRefusesOtherFormsOfONNXRuntime(t *testing.T) {
	t.Parallel()
	s := newSketch(1, 8, 12, 12)
	s.conv("x", "a", 8, 16, 3)
	model := write(t, decode(t, s.head("a", 16)))
	dir := t.TempDir()
	cases := []quantizeStatic{
		{Model: model, Out: filepath.Join(dir, "operators.onnx"), Format: "QOperator"},
		{Model: model, Out: filepath.Join(dir, "asymmetric.onnx"), Format: "QDQ", Unsigned: true},
	}
	runQuantizeStatic(t, cases)
	for i, want := range []string{"it computes with 8-bit numbers: want floating-point operators between", `the activation "x" has the zero point 1`} {
		m, err := Read(cases[i].Out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Dequantize(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
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
	s.op("DequantizeLinear", "c", from(large, one))
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
