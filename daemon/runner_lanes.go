package daemon

import (
	"errors"
	"fmt"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/release"
)

// stream is one camera's frames for one engine: a lane of the camera's ring,
// with each of its slots bound to the engine once.
type stream struct {
	index    int // among the model's views
	camera   string
	lane     *camera.Lane
	bindings []Binding // by slot; none with batches
	frames   []Frame   // by slot, with batches
}

// Result is what one frame gave. It belongs to the runner and is overwritten
// by the next frame; a sink copies what it keeps.
type Result struct {
	Stream  *stream
	Frame   camera.Frame
	Scores  []float32     // probabilities by class
	Started time.Duration // monotonic time when the engine began
	Infer   time.Duration // until the result was there; a batch's share of it
	Err     error         // no scores: the frame couldn't be read, or the engine failed
	Engine  bool          // it is the engine that failed
}

// errNotFinite is a frame whose scores hold NaN or infinity: the engine's
// arithmetic is broken, or its cache fits another model.
var errNotFinite = errors.New("the engine's scores hold NaN or infinity")

// laneSet is a warmed engine with the streams that it serves: what a swap
// hands over whole.
type laneSet struct {
	engine  *OpenedEngine
	streams []*stream
	batch   int // frames that run together at most
	frame   int // bytes of one frame
	classes int
	vacant  bool            // there is no engine: one is to come
	release func()          // gives lanes and engine back; nil after close
	serve   func()          // called when the set begins to serve, between two frames; may be nil
	skimmed func()          // ends skim; nil: the lanes keep their frames
	wake    chan<- struct{} // the runner's

	// What a unit serves with it.
	rel      *release.Release
	prepared *Prepared
	backend  Backend
	interim  bool  // the CPU, until the unit's own back end has an engine
	memory   int64 // bytes that the engine takes, roughly
	fault    error // why frame after frame fails, once they do

	// What is under way on the engine's lanes: busy runs from the oldest on, round
	// the end. They end in the order in which they began, so each camera's results
	// come in order. There is one run more than there are lanes: that before the
	// oldest may have ended without its results having been said. Of the runner alone.
	runs   []run
	oldest int
	busy   int
	unsaid bool
}

// run is what one of the engine's lanes does.
type run struct {
	pixels  []byte    // for frames that run together, where they have to lie so; nil with batch 1
	bound   []Binding // by count of frames that run together, from 1; none with batch 1
	frames  []camera.Frame
	from    []*stream
	binding Binding // of the run under way
	started time.Duration
	took    time.Duration // once it has ended
	err     error
}

func (s *laneSet) lanes() int { return len(s.runs) - 1 }

// Close frees bindings, lanes and engine.
func (s *laneSet) Close() {
	s.collect()
	if s.release != nil {
		s.release()
		s.release = nil
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

func (s *laneSet) ended() bool {
	for _, st := range s.streams {
		if !st.lane.Ended() {
			return false
		}
	}
	return true
}

// free is the run of a free lane; where all are busy it waits for the oldest.
// Only then is a frame taken, so that none grows old waiting for a lane. What the
// oldest gave is said once the next one runs: a lane isn't to be idle meanwhile.
func (r *runner) free(set *laneSet) *run {
	r.say(set)
	if set.busy == set.lanes() {
		r.end(set)
	}
	n := &set.runs[(set.oldest+set.busy)%len(set.runs)]
	n.frames, n.from = n.frames[:0], n.from[:0]
	return n
}

// single starts a stream's next frame where it lies in the ring. It is false
// where there is none.
func (r *runner) single(set *laneSet, s *stream) bool {
	n := r.free(set)
	defer r.say(set)
	f, ok := r.take(s)
	if !ok {
		return false
	}
	if f.Err != "" {
		r.unread(set, s, f)
		return true
	}
	n.frames, n.from = append(n.frames, f), append(n.from, s)
	r.start(set, n, s.bindings[f.Slot])
	return true
}

// together runs the newest frames of the streams as one batch. It waits for none:
// those that are there go.
func (r *runner) together(set *laneSet) bool {
	worked := false
	n := r.free(set)
	defer r.say(set)
	for _, s := range set.streams {
		f, ok := r.take(s)
		if !ok {
			continue
		}
		worked = true
		if f.Err != "" {
			r.unread(set, s, f)
			continue
		}
		n.frames, n.from = append(n.frames, f), append(n.from, s)
		if len(n.frames) == set.batch {
			r.flush(set, n)
			n = r.free(set)
		}
	}
	r.flush(set, n)
	return worked
}

// one runs a single frame also where frames run in batches.
func (r *runner) one(set *laneSet, s *stream) bool {
	if set.batch == 1 {
		return r.single(set, s)
	}
	n := r.free(set)
	defer r.say(set)
	f, ok := r.take(s)
	switch {
	case !ok:
		return false
	case f.Err != "":
		r.unread(set, s, f)
	default:
		n.frames, n.from = append(n.frames, f), append(n.from, s)
		r.flush(set, n)
	}
	return true
}

// unread says that a frame couldn't be read, when all before it have been said.
func (r *runner) unread(set *laneSet, s *stream, f camera.Frame) {
	r.drain(set)
	s.lane.Release(f)
	r.result = Result{Stream: s, Frame: f, Started: monotonic(), Err: errors.New(f.Err)}
	r.sink(&r.result)
}

// flush starts a run of the frames that were taken for it.
func (r *runner) flush(set *laneSet, n *run) {
	if len(n.frames) > 0 {
		r.start(set, n, n.bound[len(n.frames)-1])
	}
}

// start begins a run on a free lane.
func (r *runner) start(set *laneSet, n *run, b Binding) {
	n.binding, n.started = b, monotonic()
	if err := n.begin(set.engine); err != nil {
		r.drain(set) // those before it come first
		n.took, n.err = monotonic()-n.started, err
		r.done(set, n)
		return
	}
	set.busy++
}

func (n *run) begin(e Engine) error {
	if n.pixels != nil {
		for i, f := range n.frames {
			if err := n.binding.Gather(i, n.from[i].frames[f.Slot]); err != nil {
				return err
			}
		}
	}
	return e.Start(n.binding)
}

// end waits for the oldest run.
func (r *runner) end(set *laneSet) {
	n := &set.runs[set.oldest]
	n.err = set.engine.Wait(n.binding)
	n.took = monotonic() - n.started
	set.oldest = (set.oldest + 1) % len(set.runs)
	set.busy--
	set.unsaid = true
}

// say says what the run that has ended gave, if that is still to be done.
func (r *runner) say(set *laneSet) {
	if set.unsaid {
		set.unsaid = false
		r.done(set, &set.runs[(set.oldest+set.lanes())%len(set.runs)])
	}
}

// finish waits for the oldest run and says what it gave.
func (r *runner) finish(set *laneSet) {
	r.say(set)
	r.end(set)
	r.say(set)
}

// drain finishes all that is under way.
func (r *runner) drain(set *laneSet) {
	r.say(set)
	for set.busy > 0 {
		r.finish(set)
	}
}

// done gives a run's frames back to the ring and hands its results to the sink.
func (r *runner) done(set *laneSet, n *run) {
	share := n.took / time.Duration(len(n.frames))
	err := n.err
	for i, f := range n.frames {
		n.from[i].lane.Release(f)
	}
	if err != nil {
		err = fmt.Errorf("engine: %w", err)
	}
	for i, f := range n.frames {
		res := &r.result
		*res = Result{Stream: n.from[i], Frame: f, Started: n.started, Infer: share, Err: err, Engine: err != nil}
		if err == nil {
			res.Scores = n.binding.Scores()[i*set.classes : (i+1)*set.classes]
		}
		r.sink(res)
	}
}
