package calibcache

import "math"

// levels is how many magnitudes INT8 tells apart, and with that the number of
// bins below which there is nothing to lose.
const levels = 128

// Entropy is the threshold whose INT8 grid loses least information, as
// TensorRT's entropy calibrator chooses it: for each number of bins i from 128
// on, P is the histogram with everything beyond i in its last bin, and Q the
// first i bins in 128 levels, each level's sum spread over those of its bins
// that hold anything. The threshold is the right end of the last i with the
// least Kullback-Leibler divergence of P from Q, a multiple of Width; but never
// more than Max.
//
// This is the algorithm of S. Migacz, "8-bit Inference with TensorRT", GTC 2017,
// in the form that pytorch-quantization 2.1 gives it (calib/histogram.py,
// _compute_amax_entropy with 8 signed bits, stride 1 and start_bin 128), whose
// results it is tested against. Like that it counts as many zeros as there are
// values in the second bin: the many zeros behind a ReLU would otherwise draw
// the threshold to them. In one thing it differs: a threshold beyond which most
// values lie is none, since the divergence says nothing where the few bins within
// hold next to nothing, as of values that stay away from zero. TensorRT's own code
// is closed.
func (h *Histogram) Entropy() (float64, error) {
	if err := h.check(); err != nil {
		return 0, err
	}
	s := newSums(h)
	best, at := math.Inf(1), HistogramBins
	for i := levels; i <= HistogramBins; i++ {
		if d := s.divergence(i); d <= best {
			best, at = d, i
		}
	}
	return min(float64(at)*h.Width, float64(h.Max)), nil
}

// sums are sums over the first bins of a histogram, by their number: with them
// a divergence costs as many steps as there are levels, instead of bins.
type sums struct {
	last   [HistogramBins + 1]float64 // the count of the last of them alone
	count  [HistogramBins + 1]float64
	filled [HistogramBins + 1]float64 // bins that aren't empty
	nLogN  [HistogramBins + 1]float64 // count × log(count)
	total  float64
}

func newSums(h *Histogram) *sums {
	s := &sums{}
	for k, c := range h.Counts {
		if k == 0 {
			c = h.Counts[1]
		}
		n := float64(c)
		s.last[k+1] = n
		s.count[k+1] = s.count[k] + n
		s.filled[k+1] = s.filled[k]
		s.nLogN[k+1] = s.nLogN[k] + nLogN(n)
		if n > 0 {
			s.filled[k+1]++
		}
	}
	s.total = s.count[HistogramBins]
	return s
}

func nLogN(n float64) float64 {
	if n == 0 {
		return 0
	}
	return n * math.Log(n)
}

// divergence is that of P from Q for the first i bins; infinite where Q has
// nothing in a bin that P has something in, or most lies outside.
//
// Times the total, and but for what the two distributions are divided by, it is
// Σ p·log p − Σ p·log q, where q is the same in all bins of a level.
func (s *sums) divergence(i int) float64 {
	inside, outliers := s.count[i], s.total-s.count[i]
	last := s.last[i]
	if inside == 0 || outliers > inside || last == 0 && outliers > 0 {
		return math.Inf(1)
	}
	sum := s.nLogN[i] - nLogN(last) + nLogN(last+outliers)
	from := 0
	for level := 1; level <= levels; level++ {
		to := (level*i + levels - 1) / levels
		n := s.count[to] - s.count[from]
		if n > 0 {
			p := n
			if level == levels {
				p += outliers
			}
			sum -= p * math.Log(n/(s.filled[to]-s.filled[from]))
		}
		from = to
	}
	return sum/s.total - math.Log(s.total) + math.Log(inside)
}
