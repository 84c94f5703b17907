package onnx

import (
	"testing"
)

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
	return r
}

// What Quantize wrote comes back: the scales to the bit, and the answers but for
// what rounding the weights costs.
func TestDequantizeUndoesQuantize(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]QuantizeOptions{
		"signed": {}, "unsigned": {Unsigned: true}, "saturating": {Unsigned: true, Saturating: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, q := quantized(t, branches(), branchScales(), o)
			r := dequantized(t, m)
			for _, want := range q.Tensors {
				if got := r.Scales[want.Name]; got != want.Scale {
					t.Errorf("%s has the scale %g, want %g", want.Name, got, want.Scale)
				}
			}
			t.Log(r)
			results := run(t, write(t, decode(t, branches())), write(t, m))
			near(t, results[1].Values, results[0].Values, 0.02)
		})
	}
}
