package report

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A single value among 2048 bins must be seen, and a gap stay a gap.
func TestColumnsShowTheFullestBin(t *testing.T) {
	t.Parallel()
	bins := make([]uint64, 2048)
	bins[3], bins[2045] = 1000, 1
	heights, decades := columnHeights(bins)
	want := make([]int, columns)
	want[0], want[255] = depth, int(math.Round(depth*belowLog1/(3+belowLog1)))
	if diff := cmp.Diff(want, heights); diff != "" || math.Abs(decades-3) > 1e-9 {
		t.Errorf("%v decades, want 3; %s", decades, diff)
	}
	if heights, _ := columnHeights(make([]uint64, 2048)); heights != nil {
		t.Errorf("no values give columns: %v", heights)
	}
	if heights, _ := columnHeights([]uint64{1, 10, 1}); len(heights) != 3 || heights[1] != depth {
		t.Errorf("three bins: %v, want the second highest", heights)
	}
}

func TestAreaIsSplitWithinAColumn(t *testing.T) {
	t.Parallel()
	heights := []int{200, 100, 100, 0, 50}
	for _, c := range []struct {
		from, to float64
		want     string
	}{
		{0, 5, "M0 200V0H1V100H3V200H4V150H5V200Z"},
		{0, 1.5, "M0 200V0H1V100H1.5V200Z"},
		{1.5, 5, "M1.5 200V100H3V200H4V150H5V200Z"},
		{5, 5, ""},
		{0, 0, ""},
	} {
		if got := area(heights, c.from, c.to); got != c.want {
			t.Errorf("from %v to %v: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

// A range beyond all values is part of the picture: it wastes steps.
func TestAxisReachesTheWidestRange(t *testing.T) {
	t.Parallel()
	h := plot(Tensor{Max: 2, Bins: []uint64{4, 2}, Chosen: 8}, []rangeRow{{Algorithm: "a", Value: 8, Chosen: true}})
	if h.Width != "25.00%" || h.Clipped != "" || h.Lines[0].X != "100.00%" {
		t.Errorf("bins take %s, beyond the range %q, line at %s; want 25.00%%, nothing, 100.00%%", h.Width, h.Clipped, h.Lines[0].X)
	}
	var labels []string
	for _, x := range h.X {
		labels = append(labels, x.Label)
	}
	if diff := cmp.Diff([]string{"0", "2", "4", "6", "8"}, labels); diff != "" {
		t.Error(diff)
	}
}

func TestShareBeyondARange(t *testing.T) {
	t.Parallel()
	bins := []uint64{50, 30, 20, 0}
	for v, want := range map[float64]float64{0: 1, 1: 0.5, 1.5: 0.35, 2: 0.2, 3: 0, 4: 0, 9: 0} {
		if got := beyond(bins, 4, v); math.Abs(got-want) > 1e-12 {
			t.Errorf("beyond %v: %v, want %v", v, got, want)
		}
	}
	if got := beyond(make([]uint64, 4), 4, 1); !math.IsNaN(got) {
		t.Errorf("of no values: %v, want NaN", got)
	}
}

// The chosen range is the chosen algorithm's even where another gives the same,
// and has a line of its own where none gives it.
func TestTheChosenRangeIsMarked(t *testing.T) {
	t.Parallel()
	algorithms := []Algorithm{{Name: "minmax"}, {Name: "entropy", Chosen: true}}
	for _, c := range []struct {
		name   string
		tensor Tensor
		want   string
	}{
		{"equal ranges", Tensor{Max: 6, Chosen: 6, Thresholds: []Threshold{{"minmax", 6}, {"entropy", 6}}}, "entropy"},
		{"rounded to float32", Tensor{Max: 6, Chosen: float64(float32(4.1)), Thresholds: []Threshold{{"minmax", 6}, {"entropy", 4.1}}}, "entropy"},
		{"another algorithm's", Tensor{Max: 6, Chosen: 6, Thresholds: []Threshold{{"minmax", 6}, {"entropy", 4.1}}}, "minmax"},
		{"none's", Tensor{Max: 6, Chosen: 5, Thresholds: []Threshold{{"minmax", 6}, {"entropy", 4.1}}}, "in the cache"},
	} {
		var chosen []string
		for _, r := range rangesOf(c.tensor, algorithms, nil) {
			if r.Chosen {
				chosen = append(chosen, r.Algorithm)
			}
		}
		if !cmp.Equal(chosen, []string{c.want}) {
			t.Errorf("%s: marked %q, want %q", c.name, chosen, c.want)
		}
	}
}

// Names are in rows of their own, and no line crosses a name beside it.
func TestLinesDontCrossNames(t *testing.T) {
	t.Parallel()
	lines := marks([]rangeRow{{Algorithm: "a", Value: 1}, {Algorithm: "b", Value: 2, Chosen: true}, {Algorithm: "c", Value: 8}, {Algorithm: "d", Value: 9}, {Algorithm: "none", Value: math.NaN()}}, 10)
	type line struct{ Name, Start, Anchor string }
	var got []line
	for _, l := range lines {
		got = append(got, line{l.Algorithm, l.Start, l.Anchor})
	}
	want := []line{{"a", "3.0", "start"}, {"d", "37.0", "end"}, {"c", "54.0", "end"}, {"b", "20.0", "start"}} // drawn last: the chosen
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNegativeDecibelsHangFromTheAxis(t *testing.T) {
	t.Parallel()
	layers := []layerRow{{Layer{SNR: 20}, 1}, {Layer{SNR: -10}, 2}, {Layer{SNR: math.Inf(1)}, 3}}
	c := bars("snr", "", layers, func(l Layer) float64 { return l.SNR })
	if len(c.Bars) != 2 || c.Bars[1].Y != c.Zero || c.Bars[0].Y == c.Zero || c.Bars[0].H != "100.0" || c.Bars[1].H != "50.0" {
		t.Errorf("bars %+v from zero at %s; want 100 pixels above, 50 below, none of what is infinite", c.Bars, c.Zero)
	}
	if bars("snr", "", layers[2:], func(l Layer) float64 { return l.SNR }) != nil {
		t.Errorf("a chart of no numbers")
	}
}
