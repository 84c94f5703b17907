package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// unit is a model of the configuration: the cameras that it looks at, the
// release that serves it, the goroutine that owns its engine (runner), and the
// one that comes by engines (keeper).
type unit struct {
	name      string
	backend   Backend
	spare     func() (Backend, error) // the CPU, which serves while an engine is built; nil: nothing does
	engines   EngineStore
	batch     int
	precision string             // "" is the release's own
	placement *PlacementOverride // nil: the release's
	pace      pace
	views     []view
	watches   []*watch // by view
	runner    *runner
	offers    chan *release.Release // to go over to, of capacity maxOffers
	orders    chan order            // to leave what serves, or to forget what waits
	late      late                  // releases of the store that couldn't be offered yet
	kept      chan struct{}         // closed when nobody takes orders any more
	broken    chan *laneSet         // capacity 1: the set that serves, once its engine fails on and on
	life      *life
	plan      func() (pending, trusted []*release.Release, err error) // what the store knows of; newest and best first
	progress  func(*release.Release, mqtt.Release)
	stir      func()                // the status line has changed
	doom      func(error) time.Time // CUDA is broken in this process, which ends then; zero: it goes on without
	log       *slog.Logger

	// Of releases that come to serve.
	when      when
	probation time.Duration
	limits    ProofConfig
	memory    string               // gap or refuse
	worker    string               // path of sightd-camera; "" finds it
	available func() (int64, bool) // bytes of memory, where that is known
	answers   answers
	recent    latencies

	infer prometheus.Observer
	age   []prometheus.Observer // by view

	settled chan struct{} // closed when a release has its lanes, or none can be served

	// The runner's own.
	serving *laneSet
	top     []Score
	first   int
	failing []bool // by view
	streak  int    // frames in a row that the engine failed on

	errors    atomic.Uint64 // frames that gave no scores
	faults    atomic.Uint64 // of those, those that the engine is to blame for
	damaged   atomic.Uint64 // stored engines that couldn't be used
	lastFrame atomic.Int64  // monotonic nanoseconds, of the last that did
	lost      atomic.Bool   // there is no release that can be served

	saying sync.Mutex // what is known is told to subscribers in order; taken before mu

	mu      sync.Mutex
	status  ModelStatus // but for what Status adds
	note    string      // what is to be said of what serves
	failure string      // why a release doesn't serve
	failed  release.ID  // that one
	refused bool        // for good, as far as this process goes
	build   *building   // nil: none is under way
}

// maxOffers is how many releases wait for the keeper at most, while it is busy.
const maxOffers = 32

// offer has the unit go over to a release when it is ready. It never waits: where too many
// wait, the oldest is offered later. One caller at a time.
func (u *unit) offer(rel *release.Release) {
	for {
		select {
		case u.offers <- rel:
			return
		default:
		}
		select {
		case old := <-u.offers:
			u.log.Warn("too many releases at once: one is looked at later", "model", u.name, "release", old.ID())
			u.late.add(old.ID())
			old.Close()
		default:
		}
	}
}

// run serves the best of the releases that can be, until ctx
// ends or, with untilEnd, until every source has ended. Where none of them can
// be served it calls hopeless and, unless untilEnd, waits for a release that
// is installed, or for the time to try again.
func (u *unit) run(ctx context.Context, wanted []*attempt, untilEnd bool, hopeless func(error)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := newKeeper(u, wanted)
	k.hopeless = func(err error) bool {
		if err != nil {
			u.lost.Store(true)
			hopeless(err)
		}
		return !untilEnd
	}
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		k.run(ctx)
	}()
	select {
	case set := <-k.first:
		set.serve()
		k.settle()
		u.runner.run(ctx, set, untilEnd)
	case <-kept:
	}
	cancel()
	<-kept
	k.settle()
	select {
	case set := <-k.first: // it ended before it began
		set.Close()
	default:
	}
}

// serve makes the set's release the one that speaks. The runner calls it
// between two frames.
func (u *unit) serve(set *laneSet) {
	rel, p, e := set.rel, set.prepared, set.engine
	spec := rel.Spec
	source := mqtt.Model{Name: u.name, Release: spec.Release, Revision: rel.ID().Revision, Engine: e.ID}
	u.recent.reset()
	for _, w := range u.watches {
		w.serve(source, p)
	}
	u.serving, u.streak = set, 0
	u.top, u.first = make([]Score, p.Top), p.First
	u.lost.Store(false)
	u.mu.Lock()
	s := &u.status
	s.State, s.Release, s.Revision, s.Factory, s.Interim = modelServing, spec.Release, rel.ID().Revision, rel.Factory, set.interim
	s.Probation, s.Degraded = nil, false
	s.Precision, s.Coverage = p.Precision, p.Coverage
	s.Engine = engineStatus(set)
	u.note = p.Note
	if !set.interim && spec.Release >= u.failed.Number {
		u.failure, u.failed, u.refused, s.Build = "", release.ID{}, false, nil
	}
	u.mu.Unlock()
	attrs := []any{
		"model", u.name, "release", rel.ID(), "precision", p.Precision,
		"backend", set.backend.Name(), "device", s.Engine.Device, "interim", set.interim, "stored", e.Stored,
		"build", e.Build.Round(time.Millisecond), "load", e.Load.Round(time.Millisecond),
	}
	if p.Note != "" {
		attrs = append(attrs, "reason", p.Note)
	}
	u.log.Info("serving", attrs...)
	u.sayServing(rel)
	u.stir()
}

// brokenAfter is how many frames in a row an engine fails on before it is
// opened again.
const brokenAfter = 10

// sink takes each frame's result in the runner's goroutine.
func (u *unit) sink(r *Result) {
	i := r.Stream.index
	if r.Err == nil {
		n, ok := topK(u.top, r.Scores, u.first)
		if !ok {
			r.Err = errNotFinite
		} else {
			now := monotonic()
			u.infer.Observe(r.Infer.Seconds())
			u.recent.add(r.Infer)
			u.answers.add(i, r.Frame.Seq, u.serving.prepared.Labels[u.top[0].Index])
			u.age[i].Observe((now - time.Duration(r.Frame.Captured)).Seconds())
			u.watches[i].observe(r.Frame, r.Scores, u.top[:n], r.Infer, now)
			u.lastFrame.Store(int64(now))
		}
	}
	if r.Err != nil {
		u.errors.Add(1)
		if r.Engine || errors.Is(r.Err, errNotFinite) {
			u.faults.Add(1)
		}
	}
	// One line when it begins to fail and one when it works again.
	switch {
	case r.Err != nil && !u.failing[i]:
		u.stir() // TensorRT may have logged why
		u.log.Error("frame can't be classified", "model", u.name, "camera", r.Stream.camera, "frame", r.Frame.Seq, "err", r.Err)
	case r.Err == nil && u.failing[i]:
		u.log.Info("frames are classified again", "model", u.name, "camera", r.Stream.camera)
	}
	u.failing[i] = r.Err != nil
	if !r.Engine {
		if r.Err == nil {
			u.streak = 0
		}
		return
	}
	u.streak++
	if trt.StatusOf(r.Err) == trt.Broken && u.streak < brokenAfter {
		u.streak = brokenAfter // no other frame will fare better
	}
	if u.streak == brokenAfter {
		u.serving.fault = r.Err
		select {
		case <-u.broken: // an earlier set's, which serves no more
		default:
		}
		u.broken <- u.serving // capacity 1, and nobody else sends
	}
}
