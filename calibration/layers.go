package calibration

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sightd/sightd/onnx"
	"github.com/sightd/sightd/release"
)

// Layer is one of the model's layers that compute, with the ReLU and the like
// that belong to it.
type Layer struct {
	Name, Op string
	INT8     bool
	Why      string // why it stays in floating point
	Kept     bool   // because keep_fp names it

	output string // the tensor that it makes

	// SNR is how far the layer's output is from what it is in floating point, in
	// dB, with the whole network in INT8; NaN where it wasn't measured.
	SNR float64
	// Alone is what is lost where this layer alone is in INT8; nil where that
	// wasn't measured.
	Alone *Loss
}

// layerImages is how many of the sample's images layers are judged by: a ratio of
// powers, taken over all values of a tensor, is steady with fewer images than a
// count of answers.
const layerImages = 32

// Layers are the layers of the model when it is quantised with these scales, in
// graph order.
func (s *Study) Layers(scales map[string]float32, keep []string) ([]*Layer, error) {
	_, report, err := s.checked.Graph(release.GraphOptions{Scales: scales, Batch: 1, Quantize: onnx.QuantizeOptions{Keep: keep}})
	if err != nil {
		return nil, err
	}
	var list []*Layer
	seen := map[string]bool{}
	for _, l := range report.Layers {
		switch {
		case l.Layer != "" && !seen[l.Layer]:
			seen[l.Layer] = true
			list = append(list, &Layer{Name: l.Layer, Op: l.Op, INT8: true, output: l.Output, SNR: math.NaN()})
		case !l.INT8 && onnx.HasINT8(l.Op):
			list = append(list, &Layer{Name: l.Name, Op: l.Op, Why: l.Why, Kept: l.Kept, SNR: math.NaN()})
		}
	}
	return list, nil
}

// Rank measures what each INT8 layer costs alone, and returns these layers, the
// costliest first: by the noise that the scores have.
func (s *Study) Rank(ctx context.Context, layers []*Layer, scales map[string]float32) ([]*Layer, error) {
	if _, err := s.reference(ctx); err != nil {
		return nil, err
	}
	n := min(layerImages, len(s.sample))
	images, at := s.sample[:n], s.all()[:n]
	ranked := ByCost(layers)
	err := s.pass("layers alone", len(ranked), func(step func()) error {
		for _, l := range ranked {
			a, err := s.answer(ctx, quantised(scales, nil, []string{l.Name}), images, nil)
			if err != nil {
				return fmt.Errorf("layer %q alone: %w", l.Name, err)
			}
			loss := s.compare(a, at)
			l.Alone = &loss
			step()
		}
		return nil
	})
	return ByCost(ranked), err
}

// ByCost are the INT8 layers, the costliest first where that was measured.
func ByCost(layers []*Layer) []*Layer {
	ranked := slices.DeleteFunc(slices.Clone(layers), func(l *Layer) bool { return !l.INT8 })
	slices.SortStableFunc(ranked, func(a, b *Layer) int {
		if a.Alone == nil || b.Alone == nil {
			return 0
		}
		return cmp.Compare(a.Alone.SNR, b.Alone.SNR)
	})
	return ranked
}

// Noise measures how far each layer's output is from floating point with the
// whole network in INT8, rounded as TensorRT rounds, and fills in the layers' SNR.
func (s *Study) Noise(ctx context.Context, layers []*Layer, scales map[string]float32, keep []string) error {
	known := map[string]bool{}
	activations, err := s.checked.Model.Activations()
	if err != nil {
		return err
	}
	for _, a := range activations {
		known[a.Name] = true
	}
	var measured []*Layer
	var names []string
	for _, l := range layers {
		if known[l.output] {
			measured, names = append(measured, l), append(names, l.output)
		}
	}
	if len(measured) == 0 {
		return nil
	}
	exact, err := openProbe(s.checked, release.GraphOptions{Expose: names}, false)
	if err != nil {
		return err
	}
	defer exact.Close()
	rounded, err := openProbe(s.checked, release.GraphOptions{Expose: names, Scales: scales, Quantize: onnx.QuantizeOptions{Keep: keep}}, true)
	if err != nil {
		return err
	}
	defer rounded.Close()

	images := s.sample[:min(layerImages, len(s.sample))]
	wanted, err := views(exact, min(s.o.Threads, len(images)), len(names), 0)
	if err != nil {
		return err
	}
	gotten, err := views(rounded, len(wanted), len(names), 0)
	if err != nil {
		return err
	}
	signal, noise := make([]float64, len(names)), make([]float64, len(names))
	var mu sync.Mutex
	return s.pass("noise of the layers", len(images), func(step func()) error {
		group, ctx := errgroup.WithContext(ctx)
		work := make(chan *frame, len(images))
		for _, f := range images {
			work <- f
		}
		close(work)
		for n, got := range gotten {
			want := wanted[n]
			group.Go(func() error {
				for f := range work {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					copy(want.Pixels(), f.pixels)
					copy(got.Pixels(), f.pixels)
					if err := want.Run(); err != nil {
						return fmt.Errorf("%s: %w", f, err)
					}
					if err := got.Run(); err != nil {
						return fmt.Errorf("%s: %w", f, err)
					}
					for i := range names {
						p, q := powers(want.Output(i), got.Output(i))
						mu.Lock()
						signal[i] += p
						noise[i] += q
						mu.Unlock()
					}
					step()
				}
				return nil
			})
		}
		err := group.Wait()
		for i, l := range measured {
			l.SNR = decibels(signal[i], noise[i])
		}
		return err
	})
}

// powers are the sums of the squares of what is wanted and of what is off.
func powers(want, got []float32) (signal, noise float64) {
	for i, v := range want {
		d := float64(v) - float64(got[i])
		signal += float64(v) * float64(v)
		noise += d * d
	}
	return signal, noise
}
