package calibcache_test

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/onnx"
)

// netNames are the tensors of testdata/net.onnx as TensorRT would write them.
var netNames = []string{"image", "conv1", "relu1", "pool1", "conv2", "clip2", "sum", "gap", "logits", "prob"}

// cacheOf makes a cache whose n-th name, from 1, has the scale n.
func cacheOf(t *testing.T, names ...string) *calibcache.Cache {
	t.Helper()
	var b strings.Builder
	b.WriteString("TRT-8501-EntropyCalibration2\n")
	for i, name := range names {
		fmt.Fprintf(&b, "%s: %08x\n", name, math.Float32bits(float32(i+1)))
	}
	c, err := calibcache.Parse([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func check(t *testing.T, c *calibcache.Cache, model string) *calibcache.Fit {
	t.Helper()
	m, err := onnx.Read(model)
	if err != nil {
		t.Fatal(err)
	}
	fit, err := calibcache.Check(c, m)
	if err != nil {
		t.Fatal(err)
	}
	return fit
}

// without returns names but for one, renamed one to new where it isn't "".
func without(names []string, one, renamed string) []string {
	var rest []string
	for _, name := range names {
		if name == one {
			name = renamed
		}
		if name != "" {
			rest = append(rest, name)
		}
	}
	return rest
}

func set(c *calibcache.Cache, name string, bits uint32) {
	for i := range c.Entries {
		if c.Entries[i].Name == name {
			c.Entries[i].Bits = bits
		}
	}
}

func TestCheckOfAWholeCache(t *testing.T) {
	t.Parallel()
	fit := check(t, cacheOf(t, netNames...), "testdata/net.onnx")
	want := &calibcache.Fit{
		Coverage: 1, Needed: 8, Named: 8,
		Scales: map[string]float32{
			"image": 1, "conv1": 2, "relu1": 3, "pool1": 4, "conv2": 5, "clip2": 6, "sum": 7,
			"gap": 8, "flat": 8, "logits": 9, "prob": 10,
		},
	}
	fit.Suspicious = nil // the scales are all different
	if diff := cmp.Diff(want, fit); diff != "" {
		t.Error(diff)
	}
}

func TestCheckCountsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		names   []string
		missing []string
	}{
		"the result and what goes into its softmax aren't needed": {
			without(without(netNames, "prob", ""), "logits", ""), nil,
		},
		"before a folded ReLU the scale behind it is enough": {without(netNames, "conv1", ""), nil},
		"before a folded Clip the scale behind it is enough": {without(netNames, "conv2", ""), nil},
		"but the one before is not":                          {without(netNames, "relu1", ""), []string{"relu1"}},
		"a reshaped tensor's entry names its source":         {without(netNames, "gap", "flat"), nil},
		"a residual join is needed":                          {without(netNames, "sum", ""), []string{"sum"}},
		"the network's input is needed":                      {without(netNames, "image", ""), []string{"image"}},
		"nothing is named": {
			[]string{"other"}, []string{"image", "conv1", "relu1", "pool1", "conv2", "clip2", "sum", "gap"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fit := check(t, cacheOf(t, test.names...), "testdata/net.onnx")
			if diff := cmp.Diff(test.missing, fit.Missing); diff != "" {
				t.Error(diff)
			}
			named := 8 - len(test.missing)
			if fit.Needed != 8 || fit.Named != named || fit.Coverage != float64(named)/8 {
				t.Errorf("%d of %d, coverage %v; want %d of 8", fit.Named, fit.Needed, fit.Coverage, named)
			}
		})
	}
}

func TestSuspiciousValuesNameNothing(t *testing.T) {
	t.Parallel()
	for why, bits := range map[string]uint32{
		"the scale is zero":                      0,
		"the scale is not a number (7fc00000)":   0x7fc00000,
		"the scale is infinite (ff800000)":       0xff800000,
		"the scale -0.0078759":                   0xbc010a14,
		"the range 1.91e-39 is absurdly small":   0x00002a00,
		"the range 1.27e+11 is absurdly large":   math.Float32bits(1e9),
		"the range 4.32e+40 is absurdly large":   math.Float32bits(math.MaxFloat32),
		"the scale is zero: the tensor never le": 1 << 31, // -0
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			c := cacheOf(t, netNames...)
			set(c, "sum", bits)
			fit := check(t, c, "testdata/net.onnx")
			absurd := suspicious(fit, calibcache.Absurd)
			if len(absurd) != 1 || !strings.HasPrefix(absurd[0], "sum: "+why) {
				t.Errorf("suspicious %q", absurd)
			}
			if diff := cmp.Diff([]string{"sum"}, fit.Missing); diff != "" {
				t.Error(diff)
			}
			if _, there := fit.Scales["sum"]; there || fit.Coverage != 7.0/8 {
				t.Errorf("coverage %v, scales %v", fit.Coverage, fit.Scales)
			}
		})
	}
}

func TestAnAliasStandsInForASuspiciousValue(t *testing.T) {
	t.Parallel()
	c := cacheOf(t, append([]string{"flat"}, netNames...)...)
	set(c, "gap", 0)
	fit := check(t, c, "testdata/net.onnx")
	if fit.Coverage != 1 || fit.Scales["gap"] != 1 || len(suspicious(fit, calibcache.Absurd)) != 1 {
		t.Errorf("coverage %v, gap %v, suspicious %v", fit.Coverage, fit.Scales["gap"], fit.Suspicious)
	}
}

func TestLeftover(t *testing.T) {
	t.Parallel()
	helpers := []string{
		"(Unnamed Layer* 9) [Constant]_output", "(Unnamed Layer* 10) [Shuffle]_output",
		"(Unnamed Layer* 11) [Matrix Multiply]_output", "ONNXTRT_Broadcast_12_output", "tmp_refittable_weight_0_output",
	}
	t.Run("what TensorRT adds is not", func(t *testing.T) {
		t.Parallel()
		c := cacheOf(t, append(helpers, netNames...)...)
		set(c, "tmp_refittable_weight_0_output", 0)
		fit := check(t, c, "testdata/net.onnx")
		if fit.Leftover != nil || suspicious(fit, calibcache.Absurd) != nil || fit.Positional != nil || fit.Coverage != 1 {
			t.Errorf("%+v", fit)
		}
	})
	t.Run("a weight of the network is not", func(t *testing.T) {
		t.Parallel()
		c := cacheOf(t, append([]string{"conv2.b", "zero_output", "fc.w_output"}, netNames...)...)
		set(c, "zero_output", 0)
		fit := check(t, c, "testdata/net.onnx")
		if fit.Leftover != nil || suspicious(fit, calibcache.Absurd) != nil || fit.Coverage != 1 {
			t.Errorf("%+v", fit)
		}
	})
	t.Run("an entry of another network is", func(t *testing.T) {
		t.Parallel()
		fit := check(t, cacheOf(t, append([]string{"fire2"}, netNames...)...), "testdata/net.onnx")
		if diff := cmp.Diff([]string{"fire2"}, fit.Leftover); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("all of another network's cache is, with what TensorRT added", func(t *testing.T) {
		t.Parallel()
		names := append([]string{"a", "b", "(Unnamed Layer* 0) [Convolution]_output"}, helpers...)
		fit := check(t, cacheOf(t, names...), "testdata/net.onnx")
		if diff := cmp.Diff(names, fit.Leftover); diff != "" {
			t.Error(diff)
		}
		if fit.Coverage != 0 {
			t.Errorf("coverage %v", fit.Coverage)
		}
	})
}

func TestUnnamedLayersByOrder(t *testing.T) {
	t.Parallel()
	conv1, add := "(Unnamed Layer* 0) [Convolution]_output", "(Unnamed Layer* 5) [ElementWise]_output"
	conv2 := "(Unnamed Layer* 3) [Convolution]_output"
	both := []string{conv2, "image", "relu1", conv1, "pool1", "clip2", add, "gap", "logits", "prob"}

	t.Run("where every kind fits", func(t *testing.T) {
		t.Parallel()
		fit := check(t, cacheOf(t, both...), "testdata/net.onnx")
		want := []calibcache.Positional{{Name: conv1, Tensor: "conv1"}, {Name: conv2, Tensor: "conv2"}, {Name: add, Tensor: "sum"}}
		if diff := cmp.Diff(want, fit.Positional); diff != "" {
			t.Error(diff)
		}
		if fit.Coverage != 1 || fit.Leftover != nil || fit.Scales["conv1"] != 4 || fit.Scales["conv2"] != 1 || fit.Scales["sum"] != 7 {
			t.Errorf("%+v", fit)
		}
	})
	for name, names := range map[string][]string{
		"one too few":                         without(both, conv2, ""),
		"one too many":                        append([]string{"(Unnamed Layer* 8) [Convolution]_output"}, both...),
		"a kind that the graph lacks":         append([]string{"(Unnamed Layer* 1) [Scale]_output"}, both...),
		"another order":                       without(both, add, "(Unnamed Layer* 1) [ElementWise]_output"),
		"too little is this network's at all": {conv1, conv2, add, "a", "b", "c", "d", "e", "f", "g"},
	} {
		t.Run("not with "+name, func(t *testing.T) {
			t.Parallel()
			fit := check(t, cacheOf(t, names...), "testdata/net.onnx")
			if fit.Positional != nil || fit.Coverage == 1 || fit.Scales["sum"] != 0 {
				t.Errorf("%+v", fit)
			}
		})
	}
}

func TestNVDLAsLeNet(t *testing.T) {
	t.Parallel()
	c, err := calibcache.Read(testenv.Material(t, "caches", "LeiWang1999+nvdla_loadables__lenet.calibaration.table"))
	if err != nil {
		t.Fatal(err)
	}
	fit := check(t, c, testenv.Material(t, "models", "lenet_mnist_nvdla_fp32.onnx"))
	if fit.Coverage != 1 || fit.Missing != nil || fit.Leftover != nil || fit.Suspicious != nil || fit.Positional != nil {
		t.Errorf("%+v", fit)
	}
	for _, e := range c.Entries {
		if fit.Scales[e.Name] != e.Scale() {
			t.Errorf("%s: scale %v, want %v", e.Name, fit.Scales[e.Name], e.Scale())
		}
	}
}

func TestRealCachesOfOtherNetworks(t *testing.T) {
	t.Parallel()
	model := testenv.Material(t, "models", "squeezenet1.1_fp32.onnx")
	files, err := filepath.Glob(filepath.Join(testenv.Material(t, "caches"), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		c, err := calibcache.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		fit := check(t, c, model)
		if fit.Coverage > 0.02 || len(fit.Missing) != fit.Needed-fit.Named || len(fit.Leftover) < len(c.Entries)-1 {
			t.Errorf("%s: coverage %v, missing %d, left over %d of %d, by position %v",
				file, fit.Coverage, len(fit.Missing), len(fit.Leftover), len(c.Entries), fit.Positional)
		}
	}
}
