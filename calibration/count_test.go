package calibration

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sightd/sightd/calibcache"
)

// spread are values of both signs whose magnitudes reach over many powers of two.
func spread(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.Ldexp(r.NormFloat64(), r.IntN(12)-6))
		if r.IntN(3) == 0 {
			v[i] = 0
		}
	}
	return v
}

func counted(parts ...[]float32) calibcache.Histogram {
	c := &counter{}
	for _, p := range parts {
		if what := c.take(p); what != "" {
			panic(what)
		}
	}
	return c.histogram(float32(math.Inf(-1)), float32(math.Inf(1)))
}

func TestCountsAreExactWhateverComesFirst(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		small, large := spread(r, 3000), spread(r, 5)
		for i := range large {
			large[i] *= float32(math.Ldexp(1, r.IntN(40)))
		}
		want := counted(small, large)
		exact := make([]uint64, calibcache.HistogramBins)
		for _, v := range slices.Concat(small, large) {
			exact[int(math.Abs(float64(v))/want.Width)]++
		}
		if !slices.Equal(want.Counts, exact) {
			t.Fatal("the counts aren't those of the definition")
		}
		one, two := &counter{}, &counter{}
		one.take(large)
		two.take(small)
		two.merge(one)
		for name, got := range map[string]calibcache.Histogram{
			"the large ones first": counted(large, small),
			"merged":               two.histogram(float32(math.Inf(-1)), float32(math.Inf(1))),
			"zeros first":          counted(make([]float32, 0), small, large),
		} {
			if got.Max != want.Max || got.Width != want.Width || !slices.Equal(got.Counts, want.Counts) {
				t.Fatalf("%s: another histogram: up to %v in bins of %v, want %v, %v", name, got.Max, got.Width, want.Max, want.Width)
			}
		}
	}
}

func TestAllMagnitudesHaveABin(t *testing.T) {
	t.Parallel()
	for _, most := range []float32{1e-29, 0x1p-20, 1 - 0x1p-24, 1, 1 + 0x1p-23, 6, 1e10, math.MaxFloat32} {
		h := counted([]float32{0, most / 3, -most / 2, most, -most})
		if h.Total() != 5 || h.Max != most || h.Counts[h.Used()-1] != 2 || h.Counts[0] != 1 {
			t.Errorf("up to %v: %d values, %d of them in the last bin, %d in the first", most, h.Total(), h.Counts[h.Used()-1], h.Counts[0])
		}
		if reach := h.Width * calibcache.HistogramBins; reach < float64(most) || reach > 1.13*float64(most) {
			t.Errorf("up to %v: the bins reach %v", most, reach)
		}
	}
	if h := counted(make([]float32, 3000)); h.Max != 0 || h.Total() != 3000 || h.Counts[0] != 3000 {
		t.Errorf("zeros: %v, %d values", h.Max, h.Total())
	}
}

func TestWhatAReLULeavesNeedNotBeCounted(t *testing.T) {
	t.Parallel()
	infinity := float32(math.Inf(1))
	r := rand.New(rand.NewPCG(3, 3))
	for name, cut := range map[string][2]float32{
		"ReLU": {0, infinity}, "ReLU6": {0, 6}, "both sides": {-1, 1.7}, "below": {-0.3, infinity}, "all": {0, 0},
	} {
		values := spread(r, 20_000)
		c := &counter{}
		c.take(values)
		got := c.histogram(cut[0], cut[1])
		most, exact := float32(0), make([]uint64, calibcache.HistogramBins)
		for i, v := range values {
			values[i] = min(max(v, cut[0]), cut[1])
			most = max(most, float32(math.Abs(float64(values[i]))))
		}
		for _, v := range values {
			exact[int(math.Abs(float64(v))/got.Width)]++
		}
		if got.Max != most || !slices.Equal(got.Counts, exact) {
			t.Errorf("%s: up to %v, want %v; the counts are right: %v", name, got.Max, most, slices.Equal(got.Counts, exact))
		}
	}
}

func TestManyValuesOverflowNothing(t *testing.T) {
	t.Parallel()
	c := &counter{}
	c.take([]float32{1, 0.5})
	c.inside, c.fine[3] = math.MaxUint32-1, math.MaxUint32-3 // as after four thousand million values
	c.take([]float32{0.25, 0.25, 0.75})
	h := c.histogram(float32(math.Inf(-1)), float32(math.Inf(1)))
	if got, want := h.Total(), uint64(math.MaxUint32-3+5); got != want {
		t.Errorf("%d values, want %d", got, want)
	}
}

func TestNoNumberIsCounted(t *testing.T) {
	t.Parallel()
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for what, v := range map[string][]float32{"NaN": {1, nan}, "infinite": {inf, 2}} {
		c := &counter{}
		if got := c.take(v); got != what {
			t.Errorf("%v: %q, want %q", v, got, what)
		}
	}
	if what := (&counter{}).take([]float32{float32(math.Copysign(float64(nan), -1))}); what != "NaN" {
		t.Errorf("negative NaN: %q", what)
	}
}
