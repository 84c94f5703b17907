package dla_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/dla"
)

var (
	onDLA = dla.Wish{Device: "dla", Cores: "auto", Fallback: true, MaxGPUShare: 1}
	orin  = dla.Machine{Cores: 2, TensorRT: 10_03_00}
	int8s = dla.Numbers{Precision: "int8", Calibrator: "EntropyCalibration2"}
)

// with changes a copy of a value.
func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}

func strict(w *dla.Wish) { w.Fallback = false }

func TestWhatAPlacementBecomes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wish    dla.Wish
		machine dla.Machine
		numbers dla.Numbers
		cores   []int
		reason  string
	}{
		"all cores": {onDLA, orin, int8s, []int{0, 1}, "2 cores of 2, the GPU for layers that DLA can't run"},
		"one core":  {with(onDLA, func(w *dla.Wish) { w.Cores = "1" }), orin, int8s, []int{0}, "1 core of 2"},
		"no fallback": {
			with(onDLA, strict), orin, int8s, []int{0, 1}, "asks for DLA: 2 cores of 2",
		},
		"FP16 needs no table": {onDLA, orin, dla.Numbers{Precision: "fp16"}, []int{0, 1}, "2 cores"},
		"TensorRT 10.7":       {onDLA, with(orin, func(m *dla.Machine) { m.TensorRT = 10_07_00 }), int8s, []int{0, 1}, "2 cores"},
		"Q/DQ where DLA came back": {
			onDLA, with(orin, func(m *dla.Machine) { m.TensorRT = 11_04_01 }), dla.Numbers{Precision: "int8", Explicit: true}, []int{0, 1}, "2 cores",
		},
		"the GPU":           {dla.Wish{Device: "gpu"}, orin, int8s, nil, "asks for the GPU"},
		"auto":              {dla.Wish{Device: "auto"}, orin, int8s, nil, "auto is the GPU"},
		"no core here":      {onDLA, dla.Machine{TensorRT: 10_03_00}, int8s, nil, "the GPU instead of DLA: this machine has no DLA core: TensorRT counts 0"},
		"a version too new": {onDLA, dla.Machine{Cores: 2, TensorRT: 10_16_02}, int8s, nil, "TensorRT 10.16.2 has no DLA, which 10.8 to 11.3 left out"},
	} {
		got, err := dla.Resolve(c.wish, c.machine, c.numbers)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.cores, got.Cores); diff != "" || !strings.Contains(got.Reason, c.reason) || got.DLA() != (c.cores != nil) {
			t.Errorf("%s: %+v, want %q%s", name, got, c.reason, diff)
		}
		if got.DLA() && got.Fallback != c.wish.Fallback {
			t.Errorf("%s: fallback %t", name, got.Fallback)
		}
	}
}

func TestWhatDLACannotDoIsAnErrorWithAWayOut(t *testing.T) {
	t.Parallel()
	newest := dla.Machine{Cores: 2, TensorRT: 11_04_01}
	for name, c := range map[string]struct {
		wish    dla.Wish
		machine dla.Machine
		numbers dla.Numbers
		want    []string
	}{
		"no core, no fallback": {with(onDLA, strict), dla.Machine{TensorRT: 10_03_00}, int8s, []string{"TensorRT counts 0", "fallback: true"}},
		"10.8, no fallback":    {with(onDLA, strict), dla.Machine{Cores: 2, TensorRT: 10_08_00}, int8s, []string{"10.8.0 has no DLA", "device: auto or gpu"}},
		"11.3, no fallback":    {with(onDLA, strict), dla.Machine{Cores: 2, TensorRT: 11_03_00}, int8s, []string{"11.3.0 has no DLA"}},
		"too many cores":       {with(onDLA, func(w *dla.Wish) { w.Cores = "3" }), orin, int8s, []string{"placement.cores: 3", "counts 2 DLA cores", "at most 2"}},
		"no number of cores":   {with(onDLA, func(w *dla.Wish) { w.Cores = "both" }), orin, int8s, []string{`found "both", wanted auto or a number`}},
		"another device":       {dla.Wish{Device: "npu"}, orin, int8s, []string{`found "npu", wanted auto, gpu or dla`}},
		"FP32":                 {onDLA, orin, dla.Numbers{Precision: "fp32"}, []string{"INT8 and FP16 alone", "precision int8 or fp16"}},
		"another calibrator": {
			onDLA, orin,
			dla.Numbers{Precision: "int8", Calibrator: "MinMaxCalibration"},
			[]string{"header says MinMaxCalibration", "sightd calibrate", "cache convert FILE --algorithm EntropyCalibration2"},
		},
		"no table":           {onDLA, orin, dla.Numbers{Precision: "int8"}, []string{"there is none", "sightd calibrate"}},
		"Q/DQ before 11.4":   {onDLA, orin, dla.Numbers{Precision: "int8", Explicit: true}, []string{"TensorRT 10.3.0 runs no Q/DQ nodes on DLA", "--quantization implicit"}},
		"a table since 11.4": {onDLA, newest, int8s, []string{"TensorRT 11.4.1 reads no calibration cache", "--quantization explicit"}},
	} {
		got, err := dla.Resolve(c.wish, c.machine, c.numbers)
		if err == nil || got.DLA() || got.Reason != "" {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nlacks %q", name, err, want)
			}
		}
	}
}
