package onnx

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

// readScales reads a calibration cache: a name and a number in hexadecimal a
// line.
func readScales(t *testing.T, path string) map[string]float32 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	scales := map[string]float32{}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n")[1:] {
		at := strings.LastIndex(line, ": ")
		bits, err := strconv.ParseUint(line[at+2:], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		scales[line[:at]] = math.Float32frombits(uint32(bits))
	}
	return scales
}

// A network in INT8 runs in INT8 as a whole: what ONNX Runtime makes of each is
// listed here, and nothing of it is slower than it need be.
func TestRealModelsFuseWhole(t *testing.T) {
	t.Parallel()
	material := func(name string) string {
		return filepath.Join(testenv.Root(), "..", "shared", "material", "models", name)
	}
	want := map[string]ops{
		demoModel(): {
			"QuantizeLinear": 1, "QLinearConv": 49, "Clip": 33, "QLinearAdd": 9, "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1,
		},
		material("squeezenet1.1_fp32.onnx"): {
			"QuantizeLinear": 1, "QLinearConv": 26, "Clip": 18, "Concat": 8, "NhwcMaxPool": 3,
			"DequantizeLinear": 1, "GlobalAveragePool": 1, "Softmax": 1,
		},
		material("mobilenet_v2_1.0_224_deq.onnx"): {
			"QuantizeLinear": 1, "QLinearConv": 52, "Clip": 35, "QLinearAdd": 10, "QLinearAveragePool": 1,
			"Flatten": 2, "QGemm": 1, "Unsqueeze": 1, "Softmax": 1,
		},
		material("cifar10_resnet20_fp32.onnx"): {
			"QuantizeLinear": 1, "QLinearConv": 19, "Clip": 19, "QLinearAdd": 9, "Slice": 4, "Pad": 3, "QLinearAveragePool": 1,
			"Flatten": 1, "QGemm": 1,
		},
		material("mnist.onnx"): {"QuantizeLinear": 1, "QLinearConv": 2, "Clip": 2, "NhwcMaxPool": 2, "Reshape": 1, "QGemm": 1},
	}
	dir := t.TempDir()
	var models []string
	for path := range want {
		if _, err := os.Stat(path); err == nil {
			models = append(models, path)
		}
	}
	var scales []map[string]float32
	python(t, &scales, "quantize.py", append([]string{"calibrate"}, models...)...)
	var dirs []string
	for i, path := range models {
		d := filepath.Join(dir, filepath.Base(path))
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, d)
		for name, o := range map[string]*QuantizeOptions{
			"fp32": nil, "signed": {}, "unsigned": {Unsigned: true}, "saturating": {Unsigned: true, Saturating: true},
		} {
			m, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if o != nil {
				if _, err := m.Quantize(scales[i], *o); err != nil {
					t.Fatalf("%s: %v", path, err)
				}
			}
			store(t, m, filepath.Join(d, name+".onnx"))
		}
	}
	var results []comparison
	python(t, &results, "quantize.py", append([]string{"compare"}, dirs...)...)
	for i, path := range models {
		t.Run(filepath.Base(path), func(t *testing.T) {
			r := results[i]
			if r.Quantised < 8 || r.Fused < 10 { // the pictures are noise
				t.Errorf("INT8 comes within %.1f dB of floating point, ONNX Runtime's kernels within %.1f dB of it", r.Quantised, r.Fused)
			}
			if !r.Signed || !r.Saturating {
				t.Errorf("same answers in signed form: %t, for CPUs without VNNI: %t", r.Signed, r.Saturating)
			}
			if r.Ops["Transpose"] > 2 { // at the network's input and output
				t.Errorf("%d Transpose nodes", r.Ops["Transpose"])
			}
			delete(r.Ops, "Transpose")
			if !maps.Equal(r.Ops, want[path]) {
				t.Errorf("ONNX Runtime makes %v, want %v", r.Ops, want[path])
			}
		})
	}
}

// NVIDIA's calibrator made this cache, for Caffe's LeNet.
func TestRealCacheKeepsAccuracy(t *testing.T) {
	t.Parallel()
	model := testenv.Material(t, "models", "lenet_mnist_nvdla_fp32.onnx")
	cache := testenv.Material(t, "caches", "LeiWang1999+nvdla_loadables__lenet.calibaration.table")
	images, labels := testenv.Material(t, "mnist", "t10k-images-idx3-ubyte.gz"), testenv.Material(t, "mnist", "t10k-labels-idx1-ubyte.gz")
	paths := []string{model}
	for _, o := range []QuantizeOptions{{Unsigned: true}, {Unsigned: true, Saturating: true}} {
		m, err := Read(model)
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Quantize(readScales(t, cache), o)
		if err != nil {
			t.Fatal(err)
		}
		if f := floating(r); len(f) != 1 || f[0] != "prob" {
			t.Errorf("%v stay in floating point, want the softmax alone", f)
		}
		paths = append(paths, write(t, m))
	}
	var right []float64
	python(t, &right, "quantize.py", append([]string{"digits", images, labels}, paths...)...)
	if right[0] < 0.97 || right[0]-right[1] > 0.005 || right[0]-right[2] > 0.005 {
		t.Errorf("right in floating point: %.4f, in INT8: %.4f", right[0], right[1:])
	}
}
