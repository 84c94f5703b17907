package onnx

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// convolutions is a network of convolutions one behind the other, the third of them
// depthwise, and the scales of all its tensors.
func convolutions(t *testing.T) (*Model, map[string]float32) {
	t.Helper()
	s := newSketch(1, 3, 8, 8)
	scales := map[string]float32{"x": 0.02}
	in, channels := "x", int64(3)
	for _, name := range []string{"a", "b", "depthwise", "c", "d", "e"} {
		if name == "depthwise" {
			s.conv(in, name, channels, channels, 3, intAttr("group", channels))
		} else {
			s.conv(in, name, channels, 8, 1)
		}
		s.op("Relu", name+"_relu", from(name))
		in, channels = name+"_relu", 8
		scales[name], scales[in] = 0.05, 0.05
	}
	s.p.Graph.Output = values(tensor(in, float, 1, 8, 8, 8))
	return decode(t, s.p), scales
}

func TestIslandsOfFloatingPoint(t *testing.T) {
	t.Parallel()
	const before, between, kept = "in front of a depthwise layer in floating point", "between layers in floating point", "to be kept in floating point"
	for name, test := range map[string]struct {
		keep []string
		want map[string]string // why layers aren't INT8
	}{
		"nothing kept":                        {nil, map[string]string{}},
		"the layer before a depthwise one":    {[]string{"depthwise"}, map[string]string{"depthwise": kept, "b": before}},
		"a layer between two":                 {[]string{"c", "e"}, map[string]string{"c": kept, "d": between, "e": kept}},
		"two between two stay in INT8":        {[]string{"b", "e"}, map[string]string{"b": kept, "e": kept}},
		"one island makes another":            {[]string{"depthwise", "d"}, map[string]string{"depthwise": kept, "b": before, "c": between, "d": kept}},
		"the first layer has nothing before":  {[]string{"b"}, map[string]string{"b": kept}},
		"a depthwise layer in INT8 is no end": {[]string{"a", "c"}, map[string]string{"a": kept, "c": kept}},
	} {
		m, scales := convolutions(t)
		report, err := m.Quantize(scales, QuantizeOptions{Unsigned: true, Islands: true, Keep: test.keep})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, l := range report.Layers {
			if !l.INT8 && l.Op == "Conv" {
				got[l.Name] = l.Why
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	m, scales := convolutions(t)
	if _, err := m.Quantize(scales, QuantizeOptions{Islands: true}); err == nil || !strings.Contains(err.Error(), "set Unsigned too") {
		t.Errorf("error %v", err)
	}
}

func TestOnlyTheLayersThatAreNamedBecomeINT8(t *testing.T) {
	t.Parallel()
	for _, only := range []string{"a", "depthwise", "d", "d_relu"} {
		m, scales := convolutions(t)
		report, err := m.Quantize(scales, QuantizeOptions{Unsigned: true, Only: []string{only}})
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(only, "_relu")
		for _, l := range report.Layers {
			if l.Op == "Conv" && l.INT8 != (l.Name == name) {
				t.Errorf("only %s: %+v", only, l)
			}
			if l.INT8 && (l.Layer != name || l.Output != name+"_relu") {
				t.Errorf("only %s: %s is part of %q, which makes %q", only, l.Name, l.Layer, l.Output)
			}
		}
	}
	m, scales := convolutions(t)
	if _, err := m.Quantize(scales, QuantizeOptions{Only: []string{"nothing"}}); err == nil ||
		err.Error() != `quantise alone: the model has no layer and no tensor "nothing"` {
		t.Errorf("error %v", err)
	}
}
