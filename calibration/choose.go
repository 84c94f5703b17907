package calibration

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

// The algorithms that find ranges.
const (
	Entropy    = "entropy"    // see calibcache.Histogram.Entropy
	MinMax     = "minmax"     // the largest magnitude
	Percentile = "percentile" // see calibcache.Histogram.Percentile
)

// Algorithms are their names. Where two follow floating point equally well, the
// first one is chosen.
var Algorithms = []string{Entropy, MinMax, Percentile}

// DefaultPercentile is what is kept of an activation's values, in percent: a
// value in ten thousand is beyond the range.
const DefaultPercentile = 99.99

// heldBack is the part of the images that Choose compares with and Observe then
// leaves out: a fifth.
const heldBack = 5

// Observe goes through the images and fills in Tensors. percent is what
// Percentile takes. With holdBack a fifth of the images, chosen by their content,
// is left out for Choose.
func (s *Study) Observe(ctx context.Context, percent float64, holdBack bool) error {
	tensors, err := activations(s.checked)
	if err != nil {
		return err
	}
	seen := s.frames.count()
	var want func(*frame) bool
	s.heldBack = 0
	if last, held := s.frames.part(heldBack); holdBack && held > 0 {
		seen -= held
		s.heldBack = held
		want = func(f *frame) bool { return f.hash > last }
	}
	count := func(what string, tensors []*Tensor) error {
		o, err := observe(s.checked, tensors, s.o.Threads)
		if err != nil {
			return err
		}
		defer o.close()
		return s.pass(what, seen, func(step func()) error { return o.histograms(ctx, s.frames, want, step) })
	}
	if err := count("histograms", tensors); err != nil {
		return err
	}
	if coarse := coarse(tensors); len(coarse) > 0 {
		if err := count("finer histograms", coarse); err != nil {
			return err
		}
	}
	s.Tensors = tensors
	err = s.pass("thresholds", len(s.Tensors), func(step func()) error {
		var group errgroup.Group
		group.SetLimit(s.o.Threads)
		for _, t := range s.Tensors {
			group.Go(func() error {
				defer step()
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return t.thresholds(percent)
			})
		}
		return group.Wait()
	})
	s.passOn()
	return err
}

// coarse are the tensors that the bins of the tensor which they were cut from tell
// too little of: what a Clip to 6 leaves of a tensor that reaches to 1000, say.
func coarse(tensors []*Tensor) []*Tensor {
	return slices.DeleteFunc(slices.Clone(tensors), func(t *Tensor) bool {
		return t.zero() || t.Histogram.Used() >= calibcache.HistogramBins/2
	})
}

// passOn gives what pooling makes the range of what it reads, as TensorRT 8.6's
// and 10.6's calibrators do, but for global pooling: DLA takes no other.
func (s *Study) passOn() {
	for _, t := range s.Tensors {
		if t.Op != "MaxPool" && t.Op != "AveragePool" {
			continue
		}
		for _, from := range s.Tensors {
			if slices.ContainsFunc(from.Consumers, func(c onnx.Consumer) bool { return c.Index == t.Index }) {
				t.Thresholds = from.Thresholds
			}
		}
	}
}

// thresholds lets each algorithm choose a range.
func (t *Tensor) thresholds(percent float64) error {
	if t.zero() {
		return nil
	}
	h := &t.Histogram
	entropy, err := h.Entropy()
	if err != nil {
		return fmt.Errorf("%s: %w", t.describe(), err)
	}
	percentile, err := h.Percentile(percent)
	if err != nil {
		return fmt.Errorf("%s: %w", t.describe(), err)
	}
	t.Thresholds = map[string]float64{Entropy: entropy, MinMax: float64(h.Max), Percentile: percentile}
	return nil
}

// Scales are what the algorithm's ranges give, under all names of the tensors:
// what onnx's Quantize takes. Tensors that never left zero have none.
func (s *Study) Scales(algorithm string) map[string]float32 {
	scales := map[string]float32{}
	for _, t := range s.Tensors {
		if r, ok := t.Thresholds[algorithm]; ok {
			for _, name := range t.Names() {
				scales[name] = float32(r / 127)
			}
		}
	}
	return scales
}

// Candidate is an algorithm and what its ranges lose.
type Candidate struct {
	Algorithm string
	Loss      Loss
}

// Choose compares the algorithms by the images that Observe left out, or where
// there were too few for that, by all. The best comes first: the one that agrees
// with floating point most often, then the one whose probabilities are the closest.
func (s *Study) Choose(ctx context.Context, keep []string) ([]Candidate, error) {
	images, at := s.sample, s.all()
	if s.heldBack > 0 {
		n := min(s.heldBack, len(images)) // the sample begins with them
		images, at = images[:n], at[:n]
	}
	if _, err := s.reference(ctx); err != nil {
		return nil, err
	}
	var list []Candidate
	for _, name := range Algorithms {
		err := s.pass("answers with "+name, len(images), func(step func()) error {
			a, err := s.answer(ctx, quantised(s.Scales(name), keep, nil), images, step)
			if err == nil {
				list = append(list, Candidate{name, s.compare(a, at)})
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(list, func(a, b Candidate) int { return a.Loss.order(b.Loss) })
	return list, nil
}

// order puts the smaller loss first.
func (l Loss) order(o Loss) int {
	return cmp.Or(cmp.Compare(o.Agreement, l.Agreement), cmp.Compare(l.KL, o.KL))
}

// all are the positions of the whole sample.
func (s *Study) all() []int {
	at := make([]int, len(s.sample))
	for i := range at {
		at[i] = i
	}
	return at
}

// Faults says what is wrong with what was observed: the error is for what leaves
// needed tensors without a scale, the warnings for what works and is odd. keep are
// the layers that stay in floating point.
func (s *Study) Faults(keep []string) (warnings []string, err error) {
	var dead, layers []string
	for _, t := range s.Tensors {
		kept := slices.Contains(keep, t.Producer) || slices.ContainsFunc(t.Names(), func(n string) bool { return slices.Contains(keep, n) })
		switch {
		case t.zero() && t.Producer == "":
			return nil, fmt.Errorf("%s is zero in all images: are they black, or is mean another model's?", t.describe())
		case t.zero() && t.Needed && !kept:
			dead, layers = append(dead, t.describe()), append(layers, fmt.Sprintf("%q", t.Producer))
		case t.Producer == "" && t.Histogram.Max > 256:
			warnings = append(warnings, fmt.Sprintf("%s reaches %.6g: are mean and std for pixels from 0 to 255, and not for 0 to 1?", t.describe(), t.Histogram.Max))
		case t.zero():
			warnings = append(warnings, fmt.Sprintf("%s is zero in all images: it gets no scale", t.describe()))
		case t.constant():
			warnings = append(warnings, fmt.Sprintf("%s holds the magnitude %.6g alone, in all images: does the model look at its input?", t.describe(), t.Histogram.Max))
		}
	}
	if len(dead) > 0 {
		more := ""
		if len(dead) > 1 {
			more = fmt.Sprintf(", and %d more tensors", len(dead)-1)
		}
		err = fmt.Errorf("%s is zero in all images, from %s on%s: is the model damaged, or its preprocessing another? Layers that are meant to be so can stay in floating point: keep_fp: [%s]",
			dead[0], s.sample[0], more, strings.Join(layers, ", "))
	}
	return warnings, err
}

// HeldBack is how many images Observe left out for Choose.
func (s *Study) HeldBack() int { return s.heldBack }
