package calibcache_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/onnx"
)

// suspicious lists what a check found of one kind, as `name: why`.
func suspicious(fit *calibcache.Fit, kind calibcache.Suspicion) []string {
	var found []string
	for _, s := range fit.Suspicious {
		if s.Kind == kind {
			found = append(found, s.Name+": "+s.Why)
		}
	}
	return found
}

// evenCache has the same scale for all of testdata/net.onnx, but for those
// given.
func evenCache(t *testing.T, scales map[string]float32) *calibcache.Cache {
	t.Helper()
	c := cacheOf(t, netNames...)
	for i, e := range c.Entries {
		scale, ok := scales[e.Name]
		if !ok {
			scale = 1
		}
		c.Entries[i] = calibcache.EntryOf(e.Name, scale)
	}
	return c
}

func TestOutliers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		scales map[string]float32
		want   []string
	}{
		"none where all are alike":          {nil, nil},
		"50 times its neighbours":           {map[string]float32{"pool1": 50}, []string{`pool1: the range 6350 is at least 50 times its neighbours': 127 of "relu1" is the nearest`}},
		"not 49 times":                      {map[string]float32{"pool1": 49}, nil},
		"a 50th of its neighbours":          {map[string]float32{"conv2": 0.02}, []string{`conv2: the range 2.54 is at most 1/50 of its neighbours': 127 of "pool1" is the nearest`}},
		"not where one neighbour is as far": {map[string]float32{"conv2": 50, "pool1": 40}, nil},
		"a ReLU's values are its input's": {
			map[string]float32{"conv1": 100, "relu1": 90, "pool1": 80},
			[]string{
				`conv1: the range 1.27e+04 is at least 50 times its neighbours': 127 of "image" is the nearest`,
				`relu1: the range 1.143e+04 is at least 50 times its neighbours': 127 of "image" is the nearest`,
				`pool1: the range 1.016e+04 is at least 50 times its neighbours': 127 of "conv2" is the nearest`,
			},
		},
		"the input's range is the pixels'":   {map[string]float32{"image": 1000}, nil},
		"the results are the network's task": {map[string]float32{"logits": 1000, "prob": 0.001}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fit := check(t, evenCache(t, test.scales), "testdata/net.onnx")
			if diff := cmp.Diff(test.want, suspicious(fit, calibcache.Outlier)); diff != "" {
				t.Error(diff)
			}
			if fit.Coverage != 1 {
				t.Errorf("coverage %v: they are to be used", fit.Coverage)
			}
			for tensor, scale := range test.scales {
				if fit.Scales[tensor] != scale {
					t.Errorf("%s: scale %v, want %v", tensor, fit.Scales[tensor], scale)
				}
			}
		})
	}
}

func TestUnequalRanges(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		scales map[string]float32
		want   []string
	}{
		"none where all are equal": {nil, nil},
		"what goes into an addition": {
			map[string]float32{"clip2": 2},
			[]string{"sum: ranges of pool1 127, clip2 254 differ, DLA wants them equal at the inputs of Add"},
		},
		"an addition's result can differ": {
			map[string]float32{"sum": 2, "gap": 2}, nil,
		},
		"around a pooling": {
			map[string]float32{"gap": 2},
			[]string{"gap: ranges of gap 254, sum 127 differ, DLA wants them equal at input and output of GlobalAveragePool"},
		},
		"around a convolution they may": {map[string]float32{"image": 3, "conv1": 2, "conv2": 4}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fit := check(t, evenCache(t, test.scales), "testdata/net.onnx")
			if diff := cmp.Diff(test.want, suspicious(fit, calibcache.Unequal)); diff != "" {
				t.Error(diff)
			}
			if fit.Coverage != 1 {
				t.Errorf("coverage %v: they are to be used", fit.Coverage)
			}
		})
	}
}

// Both caches were calibrated, and nothing in them is wrong.
func TestCalibratedCachesHaveNoOutliers(t *testing.T) {
	t.Parallel()
	for cache, model := range map[string]string{
		testenv.Demo("lite0", "calibration.cache"):                                             testenv.Demo("lite0", "model.onnx"),
		testenv.Material(t, "caches", "LeiWang1999+nvdla_loadables__lenet.calibaration.table"): testenv.Material(t, "models", "lenet_mnist_nvdla_fp32.onnx"),
	} {
		c, err := calibcache.Read(cache)
		if err != nil {
			t.Fatal(err)
		}
		fit := check(t, c, model)
		if found := append(suspicious(fit, calibcache.Outlier), suspicious(fit, calibcache.Absurd)...); found != nil {
			t.Errorf("%s: %q", cache, found)
		}
	}
}

// A flipped bit of the exponent multiplies a range by 256 or more. Of the demo's
// activations, more than three quarters have neighbours that tell.
func TestDamagedRangesAreFound(t *testing.T) {
	t.Parallel()
	c, err := calibcache.Read(testenv.Demo("lite0", "calibration.cache"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Read(testenv.Demo("lite0", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	found, all := 0, 0
	for i, e := range c.Entries {
		if strings.Contains(e.Name, "/conv") || strings.Contains(e.Name, "/add") {
			all++
			c.Entries[i] = calibcache.EntryOf(e.Name, e.Scale()*256)
			fit, err := calibcache.Check(c, m)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(fmt.Sprint(suspicious(fit, calibcache.Outlier)), "["+e.Name+":") {
				found++
			}
			c.Entries[i] = e
		}
	}
	if all < 50 || 4*found < 3*all {
		t.Errorf("found %d of %d", found, all)
	}
}
