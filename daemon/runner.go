package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sightd/sightd/camera"
)

// stream is one camera's frames for one engine: a lane of the camera's ring,
// with each of its slots bound to the engine once.
type stream struct {
	index    int // among the model's views
	camera   string
	lane     *camera.Lane
	bindings []Binding // by slot; none with batches
}

// Result is what one frame gave. It belongs to the runner and is overwritten
// by the next frame; a sink copies what it keeps.
type Result struct {
	Stream  *stream
	Frame   camera.Frame
	Scores  []float32     // probabilities by class
	Started time.Duration // monotonic time when the engine began
	Infer   time.Duration // what the engine took; a batch's share of it
	Err     error         // no scores: the frame couldn't be read, or the engine failed
}

// errNotFinite is a frame whose scores hold NaN or infinity: the engine's
// arithmetic is broken, or its cache fits another model.
var errNotFinite = errors.New("the engine's scores hold NaN or infinity")

// laneSet is a warmed engine with the streams that it serves: what a swap
// hands over whole.
type laneSet struct {
	engine  *OpenedEngine
	streams []*stream
	batch   []byte    // pixels of the frames that run together; nil with batch 1
	bound   []Binding // by count of frames in batch, from 1
	frame   int       // bytes of one frame
	classes int
	release func() // gives lanes and engine back; nil after close
	serve   func() // called when the set begins to serve, between two frames; may be nil
}

// Close frees bindings, lanes and engine.
func (s *laneSet) Close() {
	if s.release != nil {
		s.release()
		s.release = nil
	}
}

// runner is the one goroutine that owns a model's engine. It takes the newest
// frame of each of its cameras in turn, so that a quick camera can't starve a
// slow one, and never queues.
type runner struct {
	// in
	swap chan *laneSet
	wake chan struct{} // capacity 1: some lane has a frame, or has ended

	// out
	sink func(*Result)

	beat  atomic.Int64 // monotonic nanoseconds of the last sign of life
	ended chan struct{}

	result Result
	taken  []camera.Frame // of the batch being gathered
	from   []*stream
}

// idleBeat is how often an idle runner shows that it isn't stuck.
const idleBeat = time.Second

func newRunner(sink func(*Result)) *runner {
	return &runner{
		swap:  make(chan *laneSet),
		wake:  make(chan struct{}, 1),
		ended: make(chan struct{}),
		sink:  sink,
	}
}

// run serves until ctx ends, or, where untilEnd, until every stream of its
// set has ended and its last frame was classified.
func (r *runner) run(ctx context.Context, set *laneSet, untilEnd bool) {
	defer close(r.ended)
	defer func() { set.Close() }()
	idle := time.NewTicker(idleBeat)
	defer idle.Stop()
	for ctx.Err() == nil {
		r.beat.Store(int64(monotonic()))
		worked := false
		if set.batch == nil {
			for _, s := range set.streams {
				if f, ok := s.lane.Take(); ok {
					r.single(set, s, f)
					worked = true
				}
			}
		} else {
			worked = r.together(set)
		}
		if worked {
			select {
			case next := <-r.swap:
				set = r.change(set, next)
			default:
			}
			continue
		}
		if untilEnd && set.ended() {
			return
		}
		select {
		case <-r.wake:
		case <-idle.C:
		case next := <-r.swap:
			set = r.change(set, next)
		case <-ctx.Done():
		}
	}
}

func (r *runner) change(old, next *laneSet) *laneSet {
	old.Close()
	if next.serve != nil {
		next.serve()
	}
	return next
}

func (s *laneSet) ended() bool {
	for _, st := range s.streams {
		if !st.lane.Ended() {
			return false
		}
	}
	return true
}

// single runs one frame where it lies in the ring.
func (r *runner) single(set *laneSet, s *stream, f camera.Frame) {
	res := &r.result
	*res = Result{Stream: s, Frame: f, Started: monotonic()}
	if f.Err != "" {
		res.Err = errors.New(f.Err)
		s.lane.Release(f)
		r.sink(res)
		return
	}
	b := s.bindings[f.Slot]
	err := set.engine.Run(b)
	res.Infer = monotonic() - res.Started
	s.lane.Release(f)
	if err != nil {
		res.Err = fmt.Errorf("engine: %w", err)
	} else {
		res.Scores = b.Scores()
	}
	r.sink(res)
}

// together copies the newest frames of the streams behind each other and runs
// them as one batch. It waits for none: those that are there go.
func (r *runner) together(set *laneSet) bool {
	worked := false
	for _, s := range set.streams {
		f, ok := s.lane.Take()
		if !ok {
			continue
		}
		worked = true
		if f.Err != "" {
			r.single(set, s, f)
			continue
		}
		copy(set.batch[len(r.taken)*set.frame:][:set.frame], s.lane.Slots()[f.Slot])
		s.lane.Release(f)
		r.taken, r.from = append(r.taken, f), append(r.from, s)
		if len(r.taken) == len(set.bound) {
			r.flush(set)
		}
	}
	r.flush(set)
	return worked
}

func (r *runner) flush(set *laneSet) {
	n := len(r.taken)
	if n == 0 {
		return
	}
	b := set.bound[n-1]
	start := monotonic()
	err := set.engine.Run(b)
	share := (monotonic() - start) / time.Duration(n)
	for i, f := range r.taken {
		res := &r.result
		*res = Result{Stream: r.from[i], Frame: f, Started: start, Infer: share}
		if err != nil {
			res.Err = fmt.Errorf("engine: %w", err)
		} else {
			res.Scores = b.Scores()[i*set.classes : (i+1)*set.classes]
		}
		r.sink(res)
	}
	r.taken, r.from = r.taken[:0], r.from[:0]
}
