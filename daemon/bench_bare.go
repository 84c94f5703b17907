package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/release"
)

// bareLoop is the baseline: the engine alone, over frames in memory, with as
// many runs under way as it has lanes.
type bareLoop struct {
	model         *Model
	bindings      []Binding // of a run each
	unpin         []func()
	decode, scale float64 // ms a frame
}

func newBareLoop(ctx context.Context, rel *release.Release, o BenchOptions) (*bareLoop, error) {
	m, err := OpenModel(ctx, rel, o.Model)
	if err != nil {
		return nil, err
	}
	b := &bareLoop{model: m}
	frames, err := b.capture(ctx, o)
	if err == nil && len(frames) == 0 {
		err = fmt.Errorf("source %s gave no frame", o.Source)
	}
	if err == nil {
		err = b.bind(frames)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// bind makes runs of the frames, in turn: each frame is in one at least, and
// there are runs for all lanes.
func (b *bareLoop) bind(frames [][]byte) error {
	batch := b.model.Batch
	for i := range max((len(frames)+batch-1)/batch, b.model.Engine.Lanes()) {
		var pixels []byte
		for j := range batch {
			pixels = append(pixels, frames[(i*batch+j)%len(frames)]...)
		}
		b.unpin = append(b.unpin, pin(pixels))
		bound, err := b.model.Engine.Bind(pixels, batch)
		if err != nil {
			return err
		}
		b.bindings = append(b.bindings, bound)
	}
	return nil
}

func (b *bareLoop) lanes() int { return max(b.model.Engine.Lanes(), 1) }

// capture copies the source's first frames out of the ring.
func (b *bareLoop) capture(ctx context.Context, o BenchOptions) (frames [][]byte, err error) {
	var decode, scale int64
	err = eachFrame(ctx, benchSource(o), b.model.Geometry, func(f camera.Frame, pixels []byte) (bool, error) {
		if f.Err != "" {
			return false, errors.New(f.Err)
		}
		frames = append(frames, slices.Clone(pixels))
		decode, scale = decode+f.DecodeNS, scale+f.ScaleNS
		return len(frames) < o.Frames, nil
	})
	n := float64(max(len(frames), 1)) * 1e6
	b.decode, b.scale = float64(decode)/n, float64(scale)/n
	return frames, err
}

func benchSource(o BenchOptions) camera.Options {
	return camera.Options{Name: "bench", Source: o.Source, Preload: o.Frames, Worker: o.Model.Worker, Log: o.Model.Log, Attempts: attempts}
}

func (b *bareLoop) run(ctx context.Context, d time.Duration) (s sample, err error) {
	e, lanes, n := b.model.Engine, b.lanes(), len(b.bindings)
	m := startMeter()
	started, ended := 0, 0
	for time.Since(m.start) < d && ctx.Err() == nil && err == nil {
		if started-ended == lanes {
			err = e.Wait(b.bindings[ended%n])
			ended++
			continue
		}
		if err = e.Start(b.bindings[started%n]); err == nil {
			started++
		}
	}
	for ; ended < started; ended++ {
		err = errors.Join(err, e.Wait(b.bindings[ended%n]))
	}
	s.frames = ended * b.model.Batch
	m.stop(&s)
	return s, errors.Join(err, ctx.Err())
}

func (b *bareLoop) close() {
	for _, bound := range b.bindings {
		bound.Close()
	}
	b.model.Engine.Close()
	for _, unpin := range b.unpin {
		unpin()
	}
}
