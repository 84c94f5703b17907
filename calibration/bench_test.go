package calibration

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/release"
)

// What looking at the activations costs beside computing them: the pass's images
// a second ÷ those of inference with all activations as outputs, in turns.
func BenchmarkPasses(b *testing.B) {
	if err := ort.Open(testenv.ONNXRuntime(b)); err != nil {
		b.Fatal(err)
	}
	r, err := release.Open(testenv.Demo("lite0"))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	c, err := r.Check("fp32")
	if err != nil {
		b.Fatal(err)
	}
	files, err := Files(testenv.Demo("photos"))
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(b.Context(), c, Options{Files: slices.Repeat(files, 20), Worker: testenv.Worker(b)})
	if err != nil {
		b.Fatal(err)
	}
	tensors, err := activations(c)
	if err != nil {
		b.Fatal(err)
	}
	o, err := observe(c, tensors, s.o.Threads)
	if err != nil {
		b.Fatal(err)
	}
	defer o.close()
	time1 := func(work func() error) float64 {
		start := time.Now()
		if err := work(); err != nil {
			b.Fatal(err)
		}
		return time.Since(start).Seconds()
	}
	all := slices.Clone(tensors)
	for i, t := range all {
		whole := *t
		whole.Cut = nil
		all[i] = &whole
	}
	everything, err := observe(c, all, s.o.Threads)
	if err != nil {
		b.Fatal(err)
	}
	defer everything.close()
	plain := func() error {
		return s.frames.each(b.Context(), len(everything.views), nil, nil, func(worker int, f *frame) error {
			_, err := everything.run(worker, f)
			return err
		})
	}
	var histograms, rate []float64
	for b.Loop() {
		p := time1(plain)
		histograms = append(histograms, p/time1(func() error { return o.histograms(b.Context(), s.frames, nil, nil) }))
		rate = append(rate, float64(s.Images())/p)
	}
	b.ReportMetric(median(histograms), "histograms/plain")
	b.ReportMetric(median(rate), "plain-images/s")

	start := time.Now()
	var group errgroup.Group
	group.SetLimit(s.o.Threads)
	for _, t := range tensors {
		group.Go(func() error { return t.thresholds(DefaultPercentile) })
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(start).Seconds(), "thresholds-s")
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
