package calibration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
)

// What comes out is a fact about the images, not about how they were gone
// through: in which order, by how many threads, from memory or decoded anew.
func TestNoOrderAndNoNumberOfThreadsChangesWhatIsFound(t *testing.T) {
	t.Parallel()
	c := checked(t, "sound")
	files := pictures(t, 40)
	backwards := slices.Clone(files)
	slices.Reverse(backwards)
	want := observed(t, c, Options{Files: files, Threads: 1})

	for name, o := range map[string]Options{
		"backwards":     {Files: backwards, Threads: 1},
		"three threads": {Files: files, Threads: 3},
		"both":          {Files: backwards, Threads: 2},
	} {
		same(t, name, want, observed(t, c, o))
	}

	s := open(t, c, Options{Files: files, Threads: 2})
	again := newFrames(files, s.frames.reels[0].geometry, s.o.Worker, 2, nil)
	for _, r := range again.reels {
		r.room = 7 // the others are decoded for each pass
	}
	if err := again.read(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	s.frames = again
	if err := s.Observe(t.Context(), DefaultPercentile, false); err != nil {
		t.Fatal(err)
	}
	same(t, "not kept in memory", want, s)
}

func same(t *testing.T, name string, want, got *Study) {
	t.Helper()
	for i, w := range want.Tensors {
		g := got.Tensors[i]
		if w.Name != g.Name || w.Histogram.Max != g.Histogram.Max || !slices.Equal(w.Histogram.Counts, g.Histogram.Counts) {
			t.Errorf("%s: the histogram of %s differs", name, w.Name)
		}
	}
	for _, a := range Algorithms {
		w, _ := want.Cache(a, "10.3.0")
		g, _ := got.Cache(a, "10.3.0")
		if !bytes.Equal(w.Bytes(), g.Bytes()) {
			t.Errorf("%s: the cache of %s differs", name, a)
		}
	}
}

func TestHistogramsAreNumpys(t *testing.T) {
	t.Parallel()
	c := checked(t, "sound")
	files := pictures(t, 30)
	s := observed(t, c, Options{Files: files})

	var tensors []string
	for _, tensor := range s.Tensors {
		if h := tensor.Histogram; tensor.Producer != "" {
			tensors = append(tensors, fmt.Sprintf("%s=%v", tensor.Name, h.Width))
			if reach := h.Width * calibcache.HistogramBins; reach < float64(h.Max) || reach > 1.13*float64(h.Max) {
				t.Errorf("%s: the bins reach %v, the largest magnitude is %v", tensor.Name, reach, h.Max)
			}
		}
	}
	args := append([]string{"-B", "testdata/observe.py", model(t, "sound"), strings.Join(tensors, ","), "127.5", "127.5"}, files...)
	out, err := exec.Command(testenv.Python(t), args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]struct {
		Max    float64
		Counts []uint64
	}
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, tensor := range s.Tensors {
		w, ok := want[tensor.Name]
		if !ok {
			continue
		}
		found++
		h := tensor.Histogram
		if diff := math.Abs(w.Max-float64(h.Max)) / w.Max; diff > 1e-5 {
			t.Errorf("%s: the largest magnitude is %v, numpy has %v", tensor.Name, h.Max, w.Max)
		}
		// A value on the edge of two bins may fall into either.
		moved, ours, theirs := 0, 0, 0
		for k, n := range h.Counts {
			ours, theirs = ours+int(n), theirs+int(w.Counts[k])
			moved = max(moved, ours-theirs, theirs-ours)
		}
		if ours != theirs || moved > 1+ours/10000 {
			t.Errorf("%s: %d values, numpy has %d; up to %d lie elsewhere", tensor.Name, ours, theirs, moved)
		}
	}
	if found != len(tensors) || found != 6 {
		t.Errorf("%d of the tensors %v were observed", found, tensors)
	}
}

func TestEveryActivationIsInTheCacheInTheNetworksOrder(t *testing.T) {
	t.Parallel()
	s := observed(t, checked(t, "sound"), Options{Files: pictures(t, 3)})
	c, err := s.Cache(Entropy, "8.6.1")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range c.Entries {
		names = append(names, e.Name)
	}
	want := []string{"image", "c1", "r1", "c2", "sum", "gap", "flat", "scores"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if got := c.Header.String(); got != "TRT-8601-EntropyCalibration2" {
		t.Error(got)
	}
	if c, err = s.Cache(MinMax, "10.3.0"); err != nil || c.Header.String() != "TRT-100300-MinMaxCalibration" {
		t.Error(c, err)
	}
}

func TestActivationsInHalfPrecisionAreObservedToo(t *testing.T) {
	t.Parallel()
	s := observed(t, checked(t, "half"), Options{Files: pictures(t, 5)})
	scales := s.Scales(MinMax)
	for _, name := range []string{"image", "h", "c1", "r1", "wide", "scores"} {
		if !(scales[name] > 0) {
			t.Errorf("%s has the scale %v", name, scales[name])
		}
	}
	if scales["r1"] != scales["wide"] || scales["c1"] < scales["r1"] {
		t.Errorf("scales %v", scales)
	}
}

func TestPoolingKeepsItsInputsRange(t *testing.T) {
	t.Parallel()
	s := observed(t, checked(t, "pooled"), Options{Files: pictures(t, 20)})
	for _, a := range Algorithms {
		if scales := s.Scales(a); scales["pooled"] != scales["r1"] || scales["r1"] == 0 {
			t.Errorf("%s: %v behind the pooling, %v in front of it", a, scales["pooled"], scales["r1"])
		}
	}
}

func TestWhatIsNoNumberIsToldByLayerAndImage(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"nan":      `holds a value that is NaN`,
		"infinite": `holds a value that is infinite`,
	} {
		layer := map[string]string{"nan": `the tensor "log" of the layer "logarithm" (Log)`, "infinite": `the tensor "exp" of the layer "power" (Exp)`}[name]
		files := pictures(t, 4)
		s := open(t, checked(t, name), Options{Files: files, Threads: 1})
		err := s.Observe(t.Context(), DefaultPercentile, false)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), layer) || !strings.Contains(err.Error(), ".png: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALayerThatIsAlwaysZeroIsRefusedUnlessItIsKept(t *testing.T) {
	t.Parallel()
	s := observed(t, checked(t, "zero"), Options{Files: pictures(t, 4)})
	_, err := s.Faults(nil)
	if err == nil || !strings.Contains(err.Error(), `the tensor "c2" of the layer "dead" (Conv) is zero in all images`) ||
		!strings.Contains(err.Error(), `keep_fp: ["dead", "mean"]`) {
		t.Errorf("error %v", err)
	}
	// What follows is zero as well, and has to be kept too.
	warnings, err := s.Faults([]string{"dead", "mean", "classify"})
	if err != nil || len(warnings) == 0 || !strings.Contains(warnings[0], "zero in all images") {
		t.Errorf("warnings %q, error %v", warnings, err)
	}
	c, err := s.Cache(Entropy, "10.3.0")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Entries {
		if e.Name == "c2" {
			t.Error("a tensor without a value has a scale")
		}
	}
}

func TestALayerThatNeverChangesIsWarnedOf(t *testing.T) {
	t.Parallel()
	s := observed(t, checked(t, "constant"), Options{Files: pictures(t, 4)})
	warnings, err := s.Faults(nil)
	if err != nil || !slices.ContainsFunc(warnings, func(w string) bool {
		return strings.Contains(w, `the tensor "c2" of the layer "stuck" (Conv) holds the magnitude 1.5 alone`)
	}) {
		t.Errorf("warnings %q, error %v", warnings, err)
	}
}
