package release

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

func TestAllFormsGiveTheSameAnswers(t *testing.T) {
	t.Parallel()
	c, photos := lite0(t)
	d := tensorRT(t, c, TensorRTOptions{Form: DirectInput, Softmax: true})
	// What DLA computes of its INT8 input is what Q/DQ nodes make of the first form.
	m := c.Model.Clone()
	if _, err := m.Quantize(c.Fit.Scales, onnx.QuantizeOptions{}); err != nil {
		t.Fatal(err)
	}
	alone, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	all := run(t, c, photos,
		stored(t, tensorRT(t, c, TensorRTOptions{Form: Implicit, Softmax: true})),
		stored(t, tensorRT(t, c, TensorRTOptions{Form: Explicit, Softmax: true})),
		stored(t, d),
		stored(t, &TensorRTGraph{Graph: alone, Direct: d.Direct}),
		stored(t, tensorRT(t, c, TensorRTOptions{Form: FloatInput})),
	)
	implicit, explicit, direct, directINT8, float := all[0], all[1], all[2], all[3], all[4]

	if implicit.Quantised != 0 || direct.Quantised != 0 || explicit.Quantised < 100 {
		t.Errorf("Q/DQ nodes: %d implicit, %d direct, %d explicit", implicit.Quantised, direct.Quantised, explicit.Quantised)
	}
	if diff := cmp.Diff([]int64{1, 224, 224, 3}, implicit.Shape); diff != "" || !implicit.has("Softmax") || !slices.Contains(implicit.Tensors, "input") {
		t.Errorf("implicit: %s%v", diff, implicit.Operators)
	}
	if diff := cmp.Diff([]int64{1, 3, 224, 224}, direct.Shape); diff != "" || direct.Input != "input" || direct.has("Cast") || direct.has("Transpose") || direct.has("Softmax") {
		t.Errorf("direct: %s%s %v", diff, direct.Input, direct.Operators)
	}
	if most, same := apart(t, implicit.Values, explicit.Values); !same || most > 0.2 {
		t.Errorf("INT8 and floating point: %.3f apart, the same best class: %t", most, same)
	}
	if most, same := apart(t, implicit.Values, direct.Values); !same || most > 0.05 {
		t.Errorf("the pixels in INT8 and in floating point: %.3f apart, the same best class: %t", most, same)
	}
	if most, same := apart(t, explicit.Values, directINT8.Values); !same || most > 1e-4 {
		t.Errorf("both forms in INT8: %g apart, the same best class: %t", most, same)
	}
	if most, _ := apart(t, scores(float.Values), implicit.Values); most > 1e-4 {
		t.Errorf("floating-point input: %g apart", most)
	}
}

func TestTableOfDLAsSecondFormIsTheQuantisedFront(t *testing.T) {
	t.Parallel()
	c := checked(t, variant(t, "input: {mean: [127.5], std: [127.5]}", "input: {color: bgr, mean: [104, 117, 123], std: [58, 57, 60]}"), "")
	d := tensorRT(t, c, TensorRTOptions{Form: DirectInput}).Direct
	if diff := cmp.Diff([]int{2, 1, 0}, d.Channels); diff != "" || d.InputScale != c.Fit.Scales["image"] {
		t.Errorf("%s%v", diff, d.InputScale)
	}
	for channel, row := range d.Table {
		mean, std := []float64{104, 117, 123}[channel], []float64{58, 57, 60}[channel]
		for b, q := range row {
			exact := (float64(b) - mean) / std / float64(d.InputScale)
			if want := min(max(exact, -128), 127); math.Abs(float64(q)-want) > 0.5+1e-4 {
				t.Fatalf("channel %d, byte %d: %d, want %v", channel, b, q, want)
			}
		}
	}
	if d.Table[0][255] != 127 || d.Table[0][0] != -128 { // beyond the input's range of ±1
		t.Errorf("bytes end at %d and %d", d.Table[0][0], d.Table[0][255])
	}
}

func TestWhyDLAsSecondFormCannotBeHad(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Checked)
		want   string
	}{
		"floating point": {func(c *Checked) { c.Precision = "fp16" }, "it is for INT8 alone"},
		"two channels":   {func(c *Checked) { c.Image.Channels = 2 }, "has 2 channels, DLA takes images of 1, 3 or 4"},
		"no scale":       {func(c *Checked) { delete(c.Fit.Scales, "image") }, `no scale for the input "image"`},
		"grey":           {func(c *Checked) { c.Spec.Input.Color = "gray" }, "mixes the three bytes of a pixel"},
		"no convolution": {func(c *Checked) { c.Model = madeOf(t, "Relu", 1, 3, 8, 8) }, `read by "first" (Relu), wanted a convolution`},
		"transposed":     {func(c *Checked) { c.Model = madeOf(t, "Transpose", 1, 3, 8, 8) }, "transposed to"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := checked(t, tiny, "")
			c.change(r)
			_, err := r.TensorRT(TensorRTOptions{Version: "8.6.1", Form: DirectInput})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "the implicit form has its preprocessing inside") {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// Where no table makes the model's input of bytes, the rest of the front stays in
// the graph.
func TestFloatingPointInputOfAnyColorAndLayout(t *testing.T) {
	t.Parallel()
	for name, shape := range map[string][]int{"gray": {1, 1, 5, 4}, "rgb": {1, 5, 4, 3}, "bgr": {1, 3, 5, 4}} {
		c := &Checked{Spec: DefaultSpec(), Precision: "fp16", Model: madeOf(t, "Relu", shape...)}
		c.Spec.Input.Color, c.Spec.Input.Mean, c.Spec.Input.Std = name, []float32{100}, []float32{50}
		var err error
		if c.Image, err = c.Model.Image(); err != nil {
			t.Fatal(err)
		}
		all := run(t, c, nil,
			stored(t, tensorRT(t, c, TensorRTOptions{Form: Implicit})), stored(t, tensorRT(t, c, TensorRTOptions{Form: FloatInput})))
		if most, _ := apart(t, all[0].Values, all[1].Values); most > 1e-6 || all[1].Shape[1] > 3 || all[1].has("Cast") {
			t.Errorf("%s: %g apart, input of %v", name, most, all[1].Shape)
		}
	}
}

func TestSoftmaxOfTheModelIsLeftToTheHost(t *testing.T) {
	t.Parallel()
	c := checked(t, tiny, "")
	c.Model = madeOf(t, "GlobalAveragePool", 1, 3, 8, 8)
	before, err := c.Model.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m := c.Model.Clone()
	if dropped, err := m.DropSoftmax(); !dropped || err != nil {
		t.Fatal(dropped, err)
	}
	if diff := cmp.Diff([]string{"a"}, m.Outputs()); diff != "" { // as Flatten is no more than another shape
		t.Error(diff)
	}
	if dropped, err := m.DropSoftmax(); dropped || err != nil {
		t.Error("dropped twice:", dropped, err)
	}
	bare, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	identity, channels, err := onnx.Front{Color: "rgb", Std: []float32{255}}.Table()
	if err != nil {
		t.Fatal(err)
	}
	own := stored(t, &TensorRTGraph{Graph: before, Planes: &FloatPixels{identity, channels}})
	host := stored(t, &TensorRTGraph{Graph: bare, Planes: &FloatPixels{identity, channels}})
	host.Softmax = true
	all := run(t, c, nil, own, host)
	if most, _ := apart(t, all[0].Values, all[1].Values); most > 1e-6 {
		t.Errorf("%g apart", most)
	}
}

func TestTableForTensorRTHoldsWhatWasChecked(t *testing.T) {
	t.Parallel()
	spec := variant(t)
	cache := filepath.Join(filepath.Dir(spec), "calib.cache")
	write(t, cache, strings.Join([]string{
		"TRT-8502-MinMaxCalibration",
		"image: 3c010204", "(Unnamed Layer* 1) [Convolution]_output: 3d418306", "relu: 3d418306", "pool: 3cc18306", "scores: 3d810204",
		"(Unnamed Layer* 7) [Constant]_output: 3f800000", // counted: with a front it is another constant
		"ONNXTRT_Broadcast_3_output: 3f800000",
		"fc_output: 3e000000",         // the product inside of the Gemm
		"pixels: 3f800000",            // of no tensor in the model
		"(Unnamed Layer* 0) [x: 0000", // the same
		"",
	}, "\n"))
	c := checked(t, spec, "")
	for version, header := range map[string]string{
		"8.6.1": "TRT-8601-MinMaxCalibration", "10.3.0": "TRT-100300-MinMaxCalibration",
	} {
		g := tensorRT(t, c, TensorRTOptions{Form: Implicit, Version: version})
		want := header + "\nimage: 3c010204\nconv: 3d418306\nrelu: 3d418306\npool: 3cc18306\nflat: 3cc18306\nscores: 3d810204\nfc_output: 3e000000\n"
		if diff := cmp.Diff(want, string(g.Cache)); diff != "" || g.Calibrator != "MinMaxCalibration" {
			t.Errorf("%s: %s%s", version, g.Calibrator, diff)
		}
		again, err := calibcache.Parse(g.Cache)
		if err != nil {
			t.Fatal(err)
		}
		if fit, err := calibcache.Check(again, c.Model); err != nil || fit.Coverage != 1 || len(fit.Leftover) > 0 {
			t.Errorf("%s: %v, %+v", version, err, fit)
		}
	}
	_, err := c.TensorRT(TensorRTOptions{Form: Implicit, Version: "11.2.0"})
	if err == nil || !strings.Contains(err.Error(), "TensorRT 11 removed calibrators") || !strings.Contains(err.Error(), "the explicit form needs none") {
		t.Error(err)
	}
	if g := tensorRT(t, c, TensorRTOptions{Form: Explicit, Version: "11.2.0"}); g.Cache != nil || g.Calibrator != "" || g.Keep != nil {
		t.Errorf("explicit: %+v", g)
	}
}

func TestLayersToKeepAreNamedByWhatTheyMake(t *testing.T) {
	t.Parallel()
	for keep, want := range map[string][]string{
		"conv": {"conv", "relu"}, "relu": {"conv", "relu"}, "scores": {"scores"}, "fc": {"scores"},
	} {
		c := checked(t, variant(t, "release: 1", "release: 1\nkeep_fp: ["+keep+"]"), "")
		for _, form := range []TensorRTForm{Implicit, DirectInput, FloatInput} {
			g := tensorRT(t, c, TensorRTOptions{Form: form})
			if diff := cmp.Diff(want, g.Keep); diff != "" {
				t.Errorf("%s, %s: %s", keep, form, diff)
			}
		}
		whole := tensorRT(t, checked(t, tiny, ""), TensorRTOptions{Form: Explicit})
		g := tensorRT(t, c, TensorRTOptions{Form: Explicit})
		all := run(t, c, nil, stored(t, whole), stored(t, g))
		if all[1].Quantised >= all[0].Quantised {
			t.Errorf("%s: %d Q/DQ nodes, without keep_fp %d", keep, all[1].Quantised, all[0].Quantised)
		}
	}
	c := checked(t, variant(t, "release: 1", "release: 1\nkeep_fp: [gone]"), "")
	if _, err := c.TensorRT(TensorRTOptions{Version: "8.6.1", Form: Implicit}); err == nil || !strings.Contains(err.Error(), `no layer and no tensor "gone"`) {
		t.Error(err)
	}
}

func TestFloatingPointNeedsNoTable(t *testing.T) {
	t.Parallel()
	c := checked(t, tiny, "fp16")
	for _, form := range []TensorRTForm{Implicit, Explicit} {
		g := tensorRT(t, c, TensorRTOptions{Form: form, Version: "11.2.0", Softmax: true})
		if g.Cache != nil || g.Calibrator != "" || g.Keep != nil {
			t.Errorf("%s: %+v", form, g)
		}
		if all := run(t, c, nil, stored(t, g)); all[0].Quantised != 0 || !all[0].has("Softmax") {
			t.Errorf("%s: %v", form, all[0].Operators)
		}
	}
}

func TestBatchesForTensorRT(t *testing.T) {
	t.Parallel()
	demo, _ := lite0(t)
	small := checked(t, tiny, "") // of one image at a time
	for _, c := range []struct {
		of   *Checked
		o    TensorRTOptions
		want int64
	}{
		{demo, TensorRTOptions{Form: Implicit}, 1},
		{demo, TensorRTOptions{Form: Implicit, Batch: 4}, -1},
		{demo, TensorRTOptions{Form: Explicit, Batch: 4}, -1},
		{demo, TensorRTOptions{Form: Explicit, Batch: 4, Fixed: true}, 4},
		{demo, TensorRTOptions{Form: DirectInput, Batch: 2}, 2},
		{demo, TensorRTOptions{Form: FloatInput, Batch: 4}, 1},
		{small, TensorRTOptions{Form: Implicit, Batch: 3, Fixed: true}, 3},
		{small, TensorRTOptions{Form: DirectInput, Batch: 3}, 3},
	} {
		got := run(t, c.of, nil, stored(t, tensorRT(t, c.of, c.o)))
		if got[0].Shape[0] != c.want {
			t.Errorf("%+v: %v, want %d images", c.o, got[0].Shape, c.want)
		}
	}
	if _, err := small.TensorRT(TensorRTOptions{Version: "8.6.1", Form: Implicit, Batch: 3}); err == nil || !strings.Contains(err.Error(), "its batch is fixed to 1") {
		t.Error(err)
	}
	if _, err := small.TensorRT(TensorRTOptions{Form: "fast"}); err == nil || !strings.Contains(err.Error(), `form "fast" for TensorRT, wanted implicit`) {
		t.Error(err)
	}
}
