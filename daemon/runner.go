package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sightd/sightd/camera"
)

// runner is the one goroutine that owns a model's engine. It takes the newest
// frame of each of its cameras in turn, so that a quick camera can't starve a
// slow one, and never queues: a frame is taken when a lane of the engine is free
// for it.
type runner struct {
	// in
	swap  chan *laneSet
	empty chan chan struct{} // has the present set closed, to make room for the next
	wake  chan struct{}      // capacity 1: some lane has a frame, or has ended

	// out
	sink func(*Result)

	beat  atomic.Int64 // monotonic nanoseconds of the last sign of life
	ended chan struct{}

	next   *laneSet      // comes after the present one; nil: none
	nextBy time.Duration // monotonic time when it comes whatever its lanes hold
	last   []uint64      // by view: number of the frame that was taken last

	result Result
}

// idleBeat is how often an idle runner shows that it isn't stuck.
const idleBeat = time.Second

func newRunner(sink func(*Result)) *runner {
	return &runner{
		swap:  make(chan *laneSet),
		empty: make(chan chan struct{}),
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
		r.drain(set) // the engine reads the memory until then
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
		if set.batch == 1 {
			for _, s := range set.streams {
				worked = r.single(set, s) || worked
			}
		} else {
			worked = r.together(set)
		}
		swap := r.swap
		if r.next != nil {
			swap = nil // one after the other
		}
		select {
		case r.next = <-swap:
			r.nextBy = monotonic() + handOver
		case done := <-r.empty:
			set = r.leave(set)
			close(done)
		default:
		}
		if r.next != nil && (r.next.fed() || monotonic() > r.nextBy) {
			set = r.change(set)
			continue
		}
		if worked {
			continue
		}
		if set.busy > 0 { // there is time to wait for a result
			r.finish(set)
			continue
		}
		if untilEnd && !set.vacant && set.ended() {
			return
		}
		select {
		case <-r.wake:
		case <-idle.C:
		case r.next = <-swap:
			r.nextBy = monotonic() + handOver
		case done := <-r.empty:
			set = r.leave(set)
			close(done)
		case <-ctx.Done():
		}
	}
}

// leave closes a set, and that which would have come next; the set that it returns has
// no engine.
func (r *runner) leave(set *laneSet) *laneSet {
	if r.next != nil {
		set = r.change(set)
	}
	r.drain(set)
	set.Close()
	return &laneSet{batch: 1, runs: make([]run, 2), vacant: true}
}

// vacate has the runner close the set that serves and wait for another; nothing serves
// meanwhile. It returns when the engine is closed. Nobody may hand over a set at the
// same time.
func (r *runner) vacate() {
	done := make(chan struct{})
	select {
	case r.empty <- done:
		<-done
	case <-r.ended:
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

// change has the old set finish what is under way and the frames that count,
// and the next one serve.
func (r *runner) change(old *laneSet) *laneSet {
	// The worker waits for the new lanes by now, so what the old ones hold has
	// an end: their slots at most. From the first frame on that a new one holds the next
	// set classifies them: it isn't to begin with empty lanes.
	for _, s := range old.streams {
		if !s.lane.Each() {
			continue
		}
		first := r.next.streams[s.index].lane.Next()
		for range 2 * len(s.lane.Slots()) {
			if first > 0 && r.last[s.index]+1 >= first {
				break
			}
			if !r.one(old, s) {
				break
			}
		}
	}
	r.drain(old)
	old.Close()
	next := r.next
	r.next = nil
	if next.serve != nil {
		next.serve()
	}
	return next
}
