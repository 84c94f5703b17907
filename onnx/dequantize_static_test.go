package onnx

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

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
