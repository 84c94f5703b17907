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
// Counts and their sums don't depend on the order of images, and each image runs
// alone, in one thread, so what comes out is the same for any order and any number
// of threads, to the bit.
type observer struct {
	tensors []*Tensor // those that are counted
	cut     []*Tensor // those that are one of these, cut off
	probe   *ort.Probe
	views   []*ort.View // one for each goroutine
}

// viewBytes bounds the memory of all views and counters, and with it the
// goroutines.
const viewBytes = 2 << 30

// views makes as many views as there are threads, or as fit into viewBytes with
// more bytes for each output; one in any case.
func views(p *ort.Probe, threads, outputs, more int) ([]*ort.View, error) {
	var list []*ort.View
	for n := range threads {
		v, err := p.View()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		size := 0
		for i := range outputs {
			size += 4*len(v.Output(i)) + more
		}
		if (n+2)*size > viewBytes {
			break
		}
	}
	return list, nil
}

// observe opens a model to look at these tensors.
func observe(c *release.Checked, tensors []*Tensor, threads int) (*observer, error) {
	o := &observer{}
	var names []string
	counted := map[string]bool{}
	for _, t := range tensors {
		if t.Cut != nil && counted[t.Cut.Of] && t.Cut.Lo <= 0 && t.Cut.Hi >= 0 {
			o.cut = append(o.cut, t)
			continue
		}
		counted[t.Name] = true
		o.tensors = append(o.tensors, t)
		names = append(names, t.Name)
	}
	var err error
	o.probe, err = openProbe(c, release.GraphOptions{Expose: names}, false)
	if err != nil {
		return nil, err
	}
	if o.views, err = views(o.probe, threads, len(names), counterBytes); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// activations are the model's, as tensors to look at.
func activations(c *release.Checked) ([]*Tensor, error) {
	list, err := c.Model.Activations()
	if err != nil {
		return nil, fmt.Errorf("find the network's activations: %w", err)
	}
	var tensors []*Tensor
	for _, a := range list {
		tensors = append(tensors, &Tensor{Activation: a})
	}
	return tensors, nil
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

// histograms goes through the images and counts.
func (o *observer) histograms(ctx context.Context, s *frames, want func(*frame) bool, done func()) error {
	counters := make([][]counter, len(o.views))
	for n := range counters {
		counters[n] = make([]counter, len(o.tensors))
	}
	err := s.each(ctx, len(o.views), want, done, func(worker int, f *frame) error {
		v, err := o.run(worker, f)
		if err != nil {
			return err
		}
		for i, t := range o.tensors {
			if what := counters[worker][i].take(v.Output(i)); what != "" {
				return &valueError{what, t, f.String()}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	found := map[string]*counter{}
	for i, t := range o.tensors {
		all := &counters[0][i]
		for n := 1; n < len(counters); n++ {
			all.merge(&counters[n][i])
		}
		found[t.Name] = all
		t.Histogram = all.histogram(float32(math.Inf(-1)), float32(math.Inf(1)))
	}
	for _, t := range o.cut {
		t.Histogram = found[t.Cut.Of].histogram(t.Cut.Lo, t.Cut.Hi)
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
func (t *Tensor) zero() bool { return t.Histogram.Max <= leastMagnitude }

// constant says whether all of the tensor's values have about the same magnitude.
func (t *Tensor) constant() bool {
	h := &t.Histogram
	return !t.zero() && h.Total() > 1 && h.Counts[h.Used()-1] == h.Total()
}
