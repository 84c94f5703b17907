package release

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/internal/testenv"
)

func TestSpecIsReadWhole(t *testing.T) {
	t.Parallel()
	got, err := ParseSpec("model.yaml", []byte(`
name: squeezenet
release: 12
model: squeezenet1.1_fp32.onnx
calibration: calib.cache
labels: imagenet1000.txt
precision: fp16
input:
  color: bgr
  resize: crop
  filter: cubic
  crop: 0.9
  pad: 3
  mean: [104, 117, 123.5]
  std: [1, 2, 3]
output: {softmax: true, first: 1, top: 3}
coverage: 0.95
keep_fp: [conv1]
placement: {device: dla, cores: 2, fallback: false, max_pieces: 4, max_gpu_share: 0.5}
proof: {golden: 0.9, agreement: 0.8}
for: {devices: ['kiosk-*'], modules: [orin-nx-16]}
golden: golden/
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Spec{
		Name: "squeezenet", Release: 12, Model: "squeezenet1.1_fp32.onnx", Calibration: "calib.cache", Labels: "imagenet1000.txt", Precision: "fp16",
		Input:    Input{Color: "bgr", Resize: "crop", Filter: "cubic", Crop: 0.9, Pad: 3, Mean: []float32{104, 117, 123.5}, Std: []float32{1, 2, 3}},
		Output:   Output{Softmax: "true", First: 1, Top: 3},
		Coverage: 0.95, KeepFP: []string{"conv1"},
		Placement: Placement{Device: "dla", Cores: "2", MaxPieces: 4, MaxGPUShare: 0.5},
		Proof:     Proof{Golden: 0.9, Agreement: 0.8},
		For:       For{Devices: []string{"kiosk-*"}, Modules: []string{"orin-nx-16"}},
		Golden:    "golden/",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestShortSpecHasTheDefaults(t *testing.T) {
	t.Parallel()
	got, err := ParseSpec("model.yaml", []byte("name: a\nrelease: 2147483647\nmodel: m.onnx\ncalibration: c\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultSpec()
	want.Name, want.Release, want.Model, want.Calibration = "a", MaxNumber, "m.onnx", "c"
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDemoModelIsAGoodSpec(t *testing.T) {
	t.Parallel()
	if _, err := ReadSpec(testenv.Demo("lite0", "model.yaml")); err != nil {
		t.Error(err)
	}
}

func TestFaultsOfSpecs(t *testing.T) {
	t.Parallel()
	const good = "name: a\nrelease: 1\nmodel: m.onnx\ncalibration: c\nlabels: l\n"
	for _, c := range []struct{ text, want string }{
		{"", "model.yaml: name: missing: the model's name"},
		{"name: a\nrelease: 1\n", "model: missing: the ONNX file"},
		{"release: 1\nmodel: m\nprecision: fp32\n", "model.yaml:1:1: name: missing"},
		{good + "lables: x", `model.yaml:6:1: unknown key "lables": did you mean "labels"?`},
		{good + "name: b", `mapping key "name" already defined`},
		{"name: Big\nrelease: 1\nmodel: m\nprecision: fp32\n", `model.yaml:1:7: name: found "Big", wanted 1 to 64 of a-z 0-9 . _ -`},
		{"name: ..\nrelease: 1\nmodel: m\nprecision: fp32\n", `name: found ".."`},
		{"name: a\nrelease: 0\nmodel: m\nprecision: fp32\n", "model.yaml:2:10: release: found 0, wanted 1 to 2147483647"},
		{"name: a\nrelease: 2147483648\nmodel: m\nprecision: fp32\n", "release: found 2147483648, wanted 1 to 2147483647"},
		{"name: a\nrelease: 1.9\nmodel: m\nprecision: fp32\n", "release: found 1.9, wanted a whole number"},
		{"name: a\nrelease: 1\nmodel: ''\nprecision: fp32\n", "model: found nothing, wanted a path"},
		{"name: a\nrelease: 1\nmodel: m\n", "calibration: missing: precision int8 needs a calibration cache; make one with `sightd calibrate`, or choose precision: fp16 or fp32"},
		{good + "precision: int4", `model.yaml:6:12: precision: found "int4", wanted int8, fp16, fp32`},
		{good + "input: {color: grey}", `input.color: found "grey", wanted rgb, bgr, gray`},
		{good + "input: {resize: fit}", `input.resize: found "fit", wanted letterbox, crop, stretch`},
		{good + "input: {filter: lanczos}", `input.filter: found "lanczos", wanted nearest, linear, cubic, area`},
		{good + "input: {crop: 0}", "input.crop: found 0, wanted a share above 0, at most 1"},
		{good + "input: {crop: 1.1}", "input.crop: found 1.1"},
		{good + "input: {pad: 256}", "input.pad: found 256, wanted 0 to 255"},
		{good + "input: {mean: [1, 2]}", "input.mean: found 2 values, wanted 1 or 3"},
		{good + "input: {color: gray, std: [1, 2, 3]}", "input.std: found 3 values, wanted 1 for color gray"},
		{good + "input: {std: [1, 0, 1]}", "input.std[1]: found 0, wanted a number to divide by"},
		{good + "input: {mean: 5}", "input.mean: found 5, wanted a list"},
		{good + "output: {softmax: maybe}", `output.softmax: found "maybe", wanted auto, true, false`},
		{good + "output: {first: -1}", "output.first: found -1"},
		{good + "output: {top: 0}", "output.top: found 0, wanted 1 to"},
		{good + "coverage: 1.01", "coverage: found 1.01, wanted a share from 0 to 1"},
		{good + "placement: {device: npu}", `placement.device: found "npu"`},
		{good + "placement: {cores: all}", `placement.cores: found "all"`},
		{good + "proof: {golden: 2}", "proof.golden: found 2"},
		{good + "for: {devices: []}", "for.devices: found an empty list"},
		{good + "for: {modules: ['[']}", `for.modules[0]: found "["`},
		{strings.Repeat("#", maxSpec+1), "larger than 64 KiB"},
	} {
		_, err := ParseSpec("model.yaml", []byte(c.text))
		if err == nil {
			t.Errorf("%s\nis taken, wanted an error with %s", c.text, c.want)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n%v\nwanted an error with %s", c.text, err, c.want)
		}
	}
}

func FuzzSpec(f *testing.F) {
	f.Add([]byte("name: a\nrelease: 1\nmodel: m.onnx\ncalibration: c\ninput: {mean: [1, 2, 3]}\n"))
	f.Add([]byte("name: a\nfor:\n  devices:\n  - '*'\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSpec("model.yaml", data)
		if (s == nil) != (err != nil) || err != nil && err.Error() == "" {
			t.Fatal(s, err)
		}
	})
}
