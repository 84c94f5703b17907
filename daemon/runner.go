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

	next   *laneSet      // comes after the present one; nil: none
	nextBy time.Duration // monotonic time when it comes whatever its lanes hold
	last   []uint64      // by view: number of the frame that was taken last

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

// handOver is how long a set waits for the first frames of its lanes before it
// takes over without.
const handOver = 5 * time.Second

// run serves until ctx ends, or, where untilEnd, until every stream of its
// set has ended and its last frame was classified.
func (r *runner) run(ctx context.Context, set *laneSet, untilEnd bool) {
	defer close(r.ended)
	defer func() {
		set.Close()
		if r.next != nil {
			r.next.Close()
		}
	}()
	r.last = make([]uint64, len(set.streams))
	idle := time.NewTicker(idleBeat)
	defer idle.Stop()
	for ctx.Err() == nil {
		r.beat.Store(int64(monotonic()))
		worked := false
		if set.batch == nil {
			for _, s := range set.streams {
				if f, ok := r.take(s); ok {
					r.single(set, s, f)
					worked = true
				}
			}
		} else {
			worked = r.together(set)
		}
		if r.next == nil {
			select {
			case r.next = <-r.swap:
				r.nextBy = monotonic() + handOver
			default:
			}
		}
		if r.next != nil && (r.next.fed() || monotonic() > r.nextBy) {
			set = r.change(set)
			continue
		}
		if worked {
			continue
		}
		if untilEnd && set.ended() {
			return
		}
		swap := r.swap
		if r.next != nil {
			swap = nil // one after the other
		}
		select {
		case <-r.wake:
		case <-idle.C:
		case r.next = <-swap:
			r.nextBy = monotonic() + handOver
		case <-ctx.Done():
		}
	}
}

// take claims a stream's next frame. What another set's lane has given already
// isn't given again.
func (r *runner) take(s *stream) (camera.Frame, bool) {
	for {
		f, ok := s.lane.Take()
		if !ok {
			return f, false
		}
		if f.Seq > r.last[s.index] {
			r.last[s.index] = f.Seq
			return f, true
		}
		s.lane.Release(f)
	}
}

// fed is whether the lanes of all sources whose every frame counts hold a
// frame: the old lanes hold all before it then.
func (s *laneSet) fed() bool {
	for _, st := range s.streams {
		if st.lane.Each() && !st.lane.Waiting() && !st.lane.Ended() {
			return false
		}
	}
	return true
}

// change has the old set finish the frames that count and the next one serve.
func (r *runner) change(old *laneSet) *laneSet {
	// The worker waits for the new lanes by now, so what the old ones hold has
	// an end: their slots at most.
	for _, s := range old.streams {
		for range 2 * len(s.lane.Slots()) {
			if !s.lane.Each() {
				break
			}
			f, ok := r.take(s)
			if !ok {
				break
			}
			r.one(old, s, f)
		}
	}
	old.Close()
	next := r.next
	r.next = nil
	if next.serve != nil {
		next.serve()
	}
	return next
}

// one runs a single frame also where frames run in batches.
func (r *runner) one(set *laneSet, s *stream, f camera.Frame) {
	if set.batch == nil || f.Err != "" {
		r.single(set, s, f)
		return
	}
	r.gather(set, s, f)
	r.flush(set)
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
	err := infer(set.engine, b)
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
		f, ok := r.take(s)
		if !ok {
			continue
		}
		worked = true
		if f.Err != "" {
			r.single(set, s, f)
			continue
		}
		r.gather(set, s, f)
		if len(r.taken) == len(set.bound) {
			r.flush(set)
		}
	}
	r.flush(set)
	return worked
}

// gather copies a frame behind those that wait for the next run.
func (r *runner) gather(set *laneSet, s *stream, f camera.Frame) {
	copy(set.batch[len(r.taken)*set.frame:][:set.frame], s.lane.Slots()[f.Slot])
	s.lane.Release(f)
	r.taken, r.from = append(r.taken, f), append(r.from, s)
}

func (r *runner) flush(set *laneSet) {
	n := len(r.taken)
	if n == 0 {
		return
	}
	b := set.bound[n-1]
	start := monotonic()
	err := infer(set.engine, b)
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
