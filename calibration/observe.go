package calibration

import (
	"context"
	"fmt"
	"math"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/release"
)

// observer looks at all activations of a model in floating point while it runs.
//
// It goes through the images twice: for each tensor's largest magnitude, and with
// it known, for the histogram. Sums of counts and maxima don't depend on the
// order of images, and each image runs alone, in one thread, so what comes out is
// the same for any order and any number of threads, to the bit.
type observer struct {
	tensors []*Tensor
	probe   *ort.Probe
	views   []*ort.View // one for each goroutine
}

// viewBytes bounds the memory of all views, and with it the goroutines.
const viewBytes = 2 << 30

func observe(c *release.Checked, threads int) (*observer, error) {
	activations, err := c.Model.Activations()
	if err != nil {
		return nil, fmt.Errorf("find the network's activations: %w", err)
	}
	o := &observer{}
	var names []string
	for _, a := range activations {
		o.tensors = append(o.tensors, &Tensor{Activation: a})
		names = append(names, a.Name)
	}
	o.probe, err = openProbe(c, release.GraphOptions{Expose: names}, false)
	if err != nil {
		return nil, err
	}
	for n := range threads {
		v, err := o.probe.View()
		if err != nil {
			o.close()
			return nil, err
		}
		o.views = append(o.views, v)
		size := 0
		for i := range o.tensors {
			size += 4 * len(v.Output(i))
		}
		if (n+2)*size > viewBytes {
			break
		}
	}
	return o, nil
}

func (o *observer) close() { o.probe.Close() }

// openProbe opens the graph that the options make of the model, for one image at
// a time.
func openProbe(c *release.Checked, o release.GraphOptions, literal bool) (*ort.Probe, error) {
	o.Batch = 1
	m, _, err := c.Graph(o)
	if err != nil {
		return nil, err
	}
	b, err := m.Encode()
	if err != nil {
		return nil, err
	}
	g := ort.Graph{ONNX: b, Input: m.Inputs()[0], Height: c.Image.Height, Width: c.Image.Width, Outputs: m.Outputs(), Literal: literal}
	return ort.OpenProbe(g, ort.Options{Bounded: o.Quantize.Saturating})
}

// run runs the graph on the frame and returns the view with its outputs.
func (o *observer) run(worker int, f *frame) (*ort.View, error) {
	v := o.views[worker]
	copy(v.Pixels(), f.pixels)
	if err := v.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", f, err)
	}
	return v, nil
}

// ranges is the first pass: it finds each tensor's largest magnitude.
func (o *observer) ranges(ctx context.Context, s *frames, want func(*frame) bool, done func()) error {
	found := make([][]magnitude, len(o.views))
	for n := range found {
		found[n] = make([]magnitude, len(o.tensors))
	}
	err := s.each(ctx, len(o.views), want, done, func(worker int, f *frame) error {
		v, err := o.run(worker, f)
		if err != nil {
			return err
		}
		for i, t := range o.tensors {
			m := &found[worker][i]
			m.take(v.Output(i))
			if what := m.fault(); what != "" {
				return &valueError{what, t, f.String()}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, t := range o.tensors {
		var most magnitude
		for n := range found {
			most = max(most, found[n][i])
		}
		t.Histogram.Max = math.Float32frombits(uint32(most))
	}
	return nil
}

// leastMax is the magnitude below which a tensor counts as zero: 2048 bins below
// it would be beyond what float32 can tell apart.
const leastMax = 1e-30

// histograms is the second pass.
func (o *observer) histograms(ctx context.Context, s *frames, want func(*frame) bool, done func()) error {
	counters := make([][]*counter, len(o.views))
	for n := range counters {
		for _, t := range o.tensors {
			var c *counter
			if t.Histogram.Max > leastMax {
				c = newCounter(t.Histogram.Max)
			}
			counters[n] = append(counters[n], c)
		}
	}
	err := s.each(ctx, len(o.views), want, done, func(worker int, f *frame) error {
		v, err := o.run(worker, f)
		if err != nil {
			return err
		}
		for i, c := range counters[worker] {
			if c != nil {
				c.take(v.Output(i))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, t := range o.tensors {
		t.Histogram.Counts = make([]uint64, calibcache.HistogramBins)
		for _, list := range counters {
			if c := list[i]; c != nil {
				c.flush()
				for k, n := range c.counts {
					t.Histogram.Counts[k] += n
				}
			}
		}
	}
	return nil
}

// valueError is an activation that is no number for some image.
type valueError struct {
	what  string
	t     *Tensor
	image string
}

func (e *valueError) Error() string {
	return fmt.Sprintf("%s: %s holds a value that is %s: check that the image is sound, that the model gives numbers in floating point, and that mean and std are its own",
		e.image, e.t.describe(), e.what)
}

// Tensor is an activation and what was seen of it.
type Tensor struct {
	onnx.Activation
	Histogram calibcache.Histogram
	// Thresholds are the ranges that the algorithms choose, by name.
	Thresholds map[string]float64
}

// describe names a tensor and what makes it.
func (t *Tensor) describe() string {
	if t.Producer == "" {
		return fmt.Sprintf("the model's input %q", t.Name)
	}
	return fmt.Sprintf("the tensor %q of the layer %q (%s)", t.Name, t.Producer, t.Op)
}

// zero says whether the tensor never left zero.
func (t *Tensor) zero() bool { return t.Histogram.Max <= leastMax }

// constant says whether all of the tensor's values have about the same magnitude.
func (t *Tensor) constant() bool {
	h := &t.Histogram
	return !t.zero() && len(h.Counts) > 0 && h.Counts[len(h.Counts)-1] == h.Total() && h.Total() > 1
}
