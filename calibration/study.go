// Package calibration finds the scales of an INT8 model from images, and what
// INT8 costs: which algorithm's ranges keep the answers closest to those in
// floating point, how much noise each layer adds, which layers to leave in
// floating point.
//
// It runs the release's model on the CPU, with the release's own preprocessing.
// What it writes, a calibration cache, is TensorRT's as well.
package calibration

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/release"
)

// Options say how a model is studied.
type Options struct {
	Files   []string // images and videos
	Threads int      // 0: one for each processor
	Worker  string   // path of sightd-camera; "" finds it beside sightd
	Log     *slog.Logger

	// Classes are the right answers, by the files' paths, as indices of the
	// release's labels; nil: unknown.
	Classes map[string]int

	// Stage is called when a piece of work begins that takes its time: what it
	// is, and how many steps it has, -1 where that isn't known. Of what it returns,
	// step is called after each step, from several goroutines, and end in the end,
	// which may come before the last step. nil: nobody wants to know.
	Stage func(what string, steps int) (step, end func())
}

// Study is a release's model and the images that it is looked at with. Its
// methods are for one goroutine.
type Study struct {
	Tensors []*Tensor // the activations, in graph order; what was seen of them after Observe
	Passes  []Pass    // how long each piece of work took, in order

	o       Options
	checked *release.Checked
	frames  *frames
	sample  []*frame // what answers are compared for
	truth   *answers // the sample's, in floating point

	heldBack int // images that Observe left out
}

// Pass is a piece of work: steps are images, tensors or layers.
type Pass struct {
	Name    string
	Steps   int // that were done
	Elapsed time.Duration
}

// Rate is steps a second.
func (p Pass) Rate() float64 { return float64(p.Steps) / p.Elapsed.Seconds() }

// sampleImages and sampleBytes bound the sample, whose images and answers are
// held in memory.
const (
	sampleImages = 1000
	sampleBytes  = 128 << 20
)

// Few is the number of images below which the ranges found say little, and a fifth
// held back is no more than a handful.
const Few = 50

// Open reads all images once. A release that isn't sound, no image at all, and
// more than one unreadable in a hundred are errors.
func Open(ctx context.Context, c *release.Checked, o Options) (*Study, error) {
	if err := ort.Open(""); err != nil {
		return nil, err
	}
	if o.Threads < 0 {
		return nil, fmt.Errorf("threads: %d: want 0 or more", o.Threads)
	}
	o.Threads = cmp.Or(o.Threads, runtime.GOMAXPROCS(0))
	if o.Stage == nil {
		nothing := func() {}
		o.Stage = func(string, int) (step, end func()) { return nothing, nothing }
	}
	if len(o.Files) == 0 {
		return nil, fmt.Errorf("no images: want some %d at least, of what the cameras will see", Few)
	}
	in := c.Spec.Input
	s := &Study{o: o, checked: c}
	s.frames = newFrames(o.Files, camera.Geometry{
		Width: c.Image.Width, Height: c.Image.Height,
		Resize: in.Resize, Filter: in.Filter, Crop: in.Crop, Pad: uint8(in.Pad),
		Region: [4]float64{0, 0, 1, 1},
	}, o.Worker, o.Threads, o.Log)
	steps := -1
	if !anyVideo(o.Files) {
		steps = len(o.Files)
	}
	err := s.pass("reading images", steps, func(step func()) error { return s.frames.read(ctx, step) })
	if err != nil {
		return nil, err
	}
	if bad := s.frames.unreadable(); float64(len(bad)) > unreadableShare*float64(len(bad)+s.frames.count()) {
		return nil, &unreadableError{bad, len(bad) + s.frames.count()}
	}
	s.sample, err = s.frames.sample(ctx, max(1, min(sampleImages, sampleBytes/s.frames.reels[0].size())))
	return s, err
}

// pass times a piece of work.
func (s *Study) pass(name string, steps int, work func(step func()) error) error {
	start := time.Now()
	step, end := s.o.Stage(name, steps)
	defer end()
	var done atomic.Int64
	err := work(func() {
		done.Add(1)
		step()
	})
	s.Passes = append(s.Passes, Pass{Name: name, Steps: int(done.Load()), Elapsed: time.Since(start)})
	return err
}

// Images is how many images, or frames of videos, were read.
func (s *Study) Images() int { return s.frames.count() }

// Unreadable are the files that gave no image.
func (s *Study) Unreadable() []Unreadable { return s.frames.unreadable() }

func anyVideo(files []string) bool {
	for _, f := range files {
		if !camera.IsImageName(f) {
			return true
		}
	}
	return false
}

// unreadableError says that too many images can't be read.
type unreadableError struct {
	bad []Unreadable
	all int
}

func (e *unreadableError) Error() string {
	const most = 10
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d images can't be read, more than %g %%:", len(e.bad), e.all, 100*unreadableShare)
	for _, u := range e.bad[:min(most, len(e.bad))] {
		fmt.Fprintf(&b, "\n  %s: %s", u.Path, u.Reason)
	}
	if more := len(e.bad) - most; more > 0 {
		fmt.Fprintf(&b, "\n  … and %d more", more)
	}
	b.WriteString("\nremove or replace them")
	return b.String()
}

// reason is an error about a file without the file's path, which most have.
func reason(path, text string) string { return strings.TrimPrefix(text, path+": ") }
