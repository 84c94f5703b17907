package calibcache

import (
	"fmt"
	"math"
)

// HistogramBins is how many bins a histogram has, as TensorRT's and
// pytorch-quantization's have.
const HistogramBins = 2048

// Histogram counts a tensor's values by their magnitude: bin k has those with
// k ≤ |x| ÷ Width < k+1, and the last one also those of magnitude
// HistogramBins × Width.
type Histogram struct {
	Max    float32  // the largest magnitude; the bins reach it, or a little farther
	Width  float64  // of a bin
	Counts []uint64 // HistogramBins of them
}

// Used is how many bins there are up to Max.
func (h *Histogram) Used() int {
	if !(h.Width > 0) {
		return 1
	}
	return int(min(float64(h.Max)/h.Width+1, HistogramBins))
}

// Total is how many values were counted.
func (h *Histogram) Total() uint64 {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Clipped is the share of the values that lie in bins beyond the threshold, from
// 0 to 1. The bin that the threshold cuts counts by the part that is cut off.
func (h *Histogram) Clipped(threshold float64) float64 {
	total := h.Total()
	if total == 0 || h.Width == 0 || threshold >= float64(h.Max) {
		return 0
	}
	beyond := 0.0
	at := threshold / h.Width
	for k, c := range h.Counts {
		beyond += float64(c) * min(max(float64(k+1)-at, 0), 1)
	}
	return beyond / float64(total)
}

// check says what makes a histogram useless.
func (h *Histogram) check() error {
	switch {
	case len(h.Counts) != HistogramBins:
		return fmt.Errorf("histogram of %d bins, want %d", len(h.Counts), HistogramBins)
	case !(h.Max > 0) || math.IsInf(float64(h.Max), 0):
		return fmt.Errorf("histogram up to %v, want a positive number", h.Max)
	case !(h.Width > 0) || h.Width*HistogramBins < float64(h.Max)*(1-1e-6):
		return fmt.Errorf("histogram of bins %v wide, which don't reach its largest magnitude %v", h.Width, h.Max)
	case h.Total() == 0:
		return fmt.Errorf("histogram without any value")
	case h.Total() > 1<<53: // beyond it, sums in float64 aren't exact
		return fmt.Errorf("histogram of %d values, want at most 2^53", h.Total())
	}
	return nil
}

// Percentile is the threshold that at least percent of the values stay within:
// the right edge of the first bin at which they do, and at most Max. percent is above 0 and at
// most 100, where the threshold is Max.
func (h *Histogram) Percentile(percent float64) (float64, error) {
	if err := h.check(); err != nil {
		return 0, err
	}
	if !(percent > 0 && percent <= 100) {
		return 0, fmt.Errorf("percentile %v, want one above 0, up to 100", percent)
	}
	total, sum := float64(h.Total()), uint64(0)
	for k, c := range h.Counts {
		if sum += c; float64(sum) >= percent/100*total {
			return min(float64(k+1)*h.Width, float64(h.Max)), nil
		}
	}
	return float64(h.Max), nil
}
