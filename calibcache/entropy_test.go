package calibcache_test

import (
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sightd/sightd/calibcache"
)

// recorded is a histogram with the thresholds that other programs find in it;
// testdata/entropy/README.md says how they were made.
type recorded struct {
	Name                string   `json:"name"`
	Max                 float64  `json:"max"`
	Bins                []uint64 `json:"bins"`
	PytorchQuantization float64  `json:"pytorch_quantization"`
}

func readRecorded(t testing.TB) []recorded {
	t.Helper()
	f, err := os.Open("testdata/entropy/histograms.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var list []recorded
	if err := json.NewDecoder(z).Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list
}

// gaps are histograms without a value in the first 128 bins. For them
// pytorch-quantization takes a division of nothing by nothing for the least
// divergence, and so a threshold below all values.
var gaps = []string{
	"gap at the start, 128 bins", "gap at the start, 300 bins", "all in the last bin", "one value", "ten values",
	"bin 0 and one value in the last",
}

func histogramOf(r recorded) calibcache.Histogram {
	return calibcache.Histogram{Max: float32(r.Max), Width: r.Max / calibcache.HistogramBins, Counts: slices.Clone(r.Bins)}
}

func TestEntropyFindsPytorchQuantizationsThresholds(t *testing.T) {
	t.Parallel()
	list := readRecorded(t)
	if len(list) < 30 {
		t.Fatalf("%d histograms are recorded", len(list))
	}
	farthest := 0.0
	for _, r := range list {
		h := histogramOf(r)
		got, err := h.Entropy()
		if err != nil {
			t.Errorf("%s: %v", r.Name, err)
			continue
		}
		bins := math.Abs(got-r.PytorchQuantization) / (r.Max / calibcache.HistogramBins)
		if slices.Contains(gaps, strings.TrimSpace(r.Name)) {
			if got < r.PytorchQuantization*(1-1e-6) || got > r.Max*(1+1e-6) {
				t.Errorf("%s: threshold %v, want one from %v to %v", r.Name, got, r.PytorchQuantization, r.Max)
			}
			continue
		}
		farthest = max(farthest, bins)
		if bins > 1 {
			t.Errorf("%s: threshold %v, pytorch-quantization finds %v, %.0f bins away", r.Name, got, r.PytorchQuantization, bins)
		}
		if !slices.Equal(h.Counts, r.Bins) {
			t.Errorf("%s: the counts were changed", r.Name)
		}
	}
	t.Logf("%d histograms, at most %.3f bins apart", len(list), farthest)
}

func TestEntropyWithoutSmallValuesKeepsTheLargeOnes(t *testing.T) {
	t.Parallel()
	for _, r := range readRecorded(t) {
		if r.Name != "gap at the start, 300 bins" {
			continue
		}
		h := histogramOf(r)
		got, err := h.Entropy()
		if err != nil || h.Clipped(got) > 0.5 {
			t.Errorf("threshold %v clips %.0f %%, error %v", got, 100*h.Clipped(got), err)
		}
	}
}

func TestHistogramsThatGiveNoThreshold(t *testing.T) {
	t.Parallel()
	full := func() []uint64 { return slices.Repeat([]uint64{1}, calibcache.HistogramBins) }
	for name, test := range map[string]struct {
		h    calibcache.Histogram
		want string
	}{
		"empty":    {calibcache.Histogram{Max: 1, Width: 1, Counts: make([]uint64, calibcache.HistogramBins)}, "without any value"},
		"few bins": {calibcache.Histogram{Max: 1, Width: 1, Counts: full()[1:]}, "2047 bins, want 2048"},
		"zero":     {calibcache.Histogram{Counts: full()}, "up to 0, want a positive number"},
		"NaN":      {calibcache.Histogram{Max: float32(math.NaN()), Counts: full()}, "up to NaN"},
		"infinite": {calibcache.Histogram{Max: float32(math.Inf(1)), Counts: full()}, "up to +Inf"},
		"too full": {calibcache.Histogram{Max: 1, Width: 1, Counts: append(full()[1:], 1<<53)}, "at most 2^53"},
		"short":    {calibcache.Histogram{Max: 1, Width: 1e-4, Counts: full()}, "don't reach its largest magnitude 1"},
	} {
		_, entropy := test.h.Entropy()
		_, percentile := test.h.Percentile(99)
		for _, err := range []error{entropy, percentile} {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: error %v, want %s", name, err, test.want)
			}
		}
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	h := calibcache.Histogram{Max: 2048, Width: 1, Counts: make([]uint64, calibcache.HistogramBins)} // bins of width 1
	h.Counts[9], h.Counts[99], h.Counts[2047] = 900, 90, 10
	for percent, want := range map[float64]float64{1: 10, 90: 10, 90.1: 100, 99: 100, 99.1: 2048, 100: 2048} {
		if got, err := h.Percentile(percent); got != want || err != nil {
			t.Errorf("%v %%: %v, want %v, error %v", percent, got, want, err)
		}
	}
	for _, percent := range []float64{0, -1, 100.1, math.NaN()} {
		if _, err := h.Percentile(percent); err == nil {
			t.Errorf("%v %% is taken", percent)
		}
	}
}

func TestClippedIsTheShareBeyondAThreshold(t *testing.T) {
	t.Parallel()
	h := calibcache.Histogram{Max: 2048, Width: 1, Counts: make([]uint64, calibcache.HistogramBins)}
	h.Counts[9], h.Counts[99] = 900, 100
	for threshold, want := range map[float64]float64{2048: 0, 100: 0, 99.5: 0.05, 99: 0.1, 10: 0.1, 9: 1, 0: 1} {
		if got := h.Clipped(threshold); math.Abs(got-want) > 1e-12 {
			t.Errorf("beyond %v: %v, want %v", threshold, got, want)
		}
	}
}

func BenchmarkEntropy(b *testing.B) {
	list := readRecorded(b)
	for b.Loop() {
		for _, r := range list {
			h := histogramOf(r)
			if _, err := h.Entropy(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
