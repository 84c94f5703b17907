package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// unit is a model of the configuration: the cameras that it looks at, the
// release that serves it, and the goroutine that owns its engine.
type unit struct {
	name      string
	backend   Backend
	engines   EngineStore
	batch     int
	precision string // "" is the release's own
	views     []view
	watches   []*watch // by view
	runner    *runner
	offers    chan *release.Release // releases to go over to, while it serves
	report    func(*release.Release, release.State, error)
	progress  func(rel *release.Release, phase string, err error)
	log       *slog.Logger

	infer prometheus.Observer
	age   []prometheus.Observer // by view

	settled chan struct{} // closed when a release has its lanes, or none can be served

	// The runner's own.
	top     []Score
	first   int
	failing []bool // by view

	errors    atomic.Uint64 // frames that gave no scores
	lastFrame atomic.Int64  // monotonic nanoseconds, of the last that did

	mu     sync.Mutex
	status ModelStatus
}

// offer has the unit go over to a release when it is ready. It never waits; of
// several that wait, the latest counts. One caller at a time.
func (u *unit) offer(rel *release.Release) {
	select {
	case old := <-u.offers:
		old.Close()
	default:
	}
	u.offers <- rel
}

// run serves the first of the candidates that can be, best first, until ctx
// ends or, with untilEnd, until every source has ended. Where none of them can
// be served it calls hopeless and, unless untilEnd, waits for a release that
// is installed.
func (u *unit) run(ctx context.Context, candidates []*release.Release, untilEnd bool, hopeless func(error)) {
	settle := sync.OnceFunc(func() { close(u.settled) })
	defer settle()
	var set *laneSet
	var failures []error
	var reason string
	for _, rel := range candidates {
		var err error
		if set, err = u.open(ctx, rel); err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		u.fail(rel, err)
		if reason == "" {
			reason = u.Status().Reason
		}
		failures = append(failures, fmt.Errorf("model %s, release %d: %w", u.name, rel.Spec.Release, err))
	}
	if set == nil {
		settle()
		if len(failures) > 0 {
			hopeless(errors.Join(failures...))
		}
		if untilEnd {
			return
		}
	}
	for set == nil {
		select {
		case <-ctx.Done():
			return
		case rel := <-u.offers:
			set = u.tryOpen(ctx, rel)
		}
	}
	set.serve()
	if reason != "" { // why a better one doesn't serve
		u.mu.Lock()
		u.status.Reason = reason
		u.mu.Unlock()
	}
	settle()
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		u.change(ctx)
	}()
	u.runner.run(ctx, set, untilEnd)
	<-changed
}

// change opens the releases that are offered while another serves, and hands
// each that is good over to the runner.
func (u *unit) change(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.runner.ended:
			return
		case rel := <-u.offers:
			set := u.tryOpen(ctx, rel)
			if set == nil {
				continue
			}
			select {
			case u.runner.swap <- set:
			case <-u.runner.ended:
				set.Close()
			}
		}
	}
}

// tryOpen opens an offered release; nil where it can't be served, which is
// said then.
func (u *unit) tryOpen(ctx context.Context, rel *release.Release) *laneSet {
	set, err := u.open(ctx, rel)
	if err == nil {
		return set
	}
	if ctx.Err() == nil {
		u.fail(rel, err)
	}
	rel.Close()
	return nil
}

// open makes a release ready to serve: prepared, built or loaded, warmed, and
// with lanes at every camera.
func (u *unit) open(ctx context.Context, rel *release.Release) (*laneSet, error) {
	u.state(modelPreparing, rel)
	p, err := u.engines.Prepare(u.backend, rel, PrepareOptions{Precision: u.precision, Batch: u.batch})
	if err != nil {
		return nil, err
	}
	e, err := u.engines.Open(ctx, u.backend, p, func(BuildProgress) { u.state(modelBuilding, rel) })
	if err != nil {
		return nil, err
	}
	if err := warm(e, p); err != nil {
		e.Close()
		return nil, err
	}
	if ctx.Err() != nil {
		e.Close()
		return nil, ctx.Err()
	}
	set, err := attach(e, p, u.views, u.runner.wake)
	if err != nil {
		return nil, err
	}
	set.serve = func() { u.serve(rel, p, set) }
	return set, nil
}

// state notes what is being done for a release, while none serves; an engine
// that serves goes on to do so.
func (u *unit) state(state string, rel *release.Release) {
	u.mu.Lock()
	serving := u.status.State == modelServing
	if !serving {
		u.status.State, u.status.Release = state, rel.Spec.Release
	}
	u.mu.Unlock()
	u.log.Info(state, "model", u.name, "release", rel.Spec.Release)
	u.progress(rel, state, nil)
}

func (u *unit) fail(rel *release.Release, err error) {
	u.mu.Lock()
	if u.status.State != modelServing {
		u.status.State = modelFailed
	}
	u.status.Reason = fmt.Sprintf("release %d: %v", rel.Spec.Release, err)
	u.mu.Unlock()
	u.log.Error("release can't be served", "model", u.name, "release", rel.Spec.Release, "err", err)
	// What is wrong with the release itself condemns it; a full disk doesn't.
	if release.CodeOf(err) != "" {
		u.report(rel, release.Rejected, err)
	} else {
		u.progress(rel, modelFailed, err)
	}
}

// giveUp notes that there is no release at all to serve.
func (u *unit) giveUp(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.status.State, u.status.Reason = modelFailed, err.Error()
}

// serve makes the set's release the one that speaks. The runner calls it
// between two frames.
func (u *unit) serve(rel *release.Release, p *Prepared, set *laneSet) {
	spec := rel.Spec
	source := mqtt.Model{Name: u.name, Release: spec.Release, Engine: set.engine.ID}
	for _, w := range u.watches {
		w.serve(source, p)
	}
	u.top, u.first = make([]Score, p.Top), p.First
	u.mu.Lock()
	s := &u.status
	s.State, s.Reason, s.Release, s.Factory = modelServing, p.Note, spec.Release, rel.Factory
	s.Precision, s.Coverage = p.Precision, p.Coverage
	s.Engine = &EngineStatus{
		ID: set.engine.ID, Backend: u.backend.Name(), Stored: set.engine.Stored,
		Build: set.engine.Build.Seconds(), Load: set.engine.Load.Seconds(),
	}
	u.mu.Unlock()
	u.log.Info("serving", "model", u.name, "release", spec.Release, "precision", p.Precision,
		"backend", u.backend.Name(), "stored", set.engine.Stored, "build", set.engine.Build.Round(time.Millisecond),
		"load", set.engine.Load.Round(time.Millisecond))
	u.report(rel, release.Serving, nil)
}

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
			u.age[i].Observe((now - time.Duration(r.Frame.Captured)).Seconds())
			u.watches[i].observe(r.Frame, r.Scores, u.top[:n], r.Infer, now)
			u.lastFrame.Store(int64(now))
		}
	}
	if r.Err != nil {
		u.errors.Add(1)
	}
	// One line when it begins to fail and one when it works again.
	switch {
	case r.Err != nil && !u.failing[i]:
		u.log.Error("frame can't be classified", "model", u.name, "camera", r.Stream.camera, "frame", r.Frame.Seq, "err", r.Err)
	case r.Err == nil && u.failing[i]:
		u.log.Info("frames are classified again", "model", u.name, "camera", r.Stream.camera)
	}
	u.failing[i] = r.Err != nil
}

// Status returns the model's status.
func (u *unit) Status() ModelStatus {
	u.mu.Lock()
	s := u.status
	u.mu.Unlock()
	for _, w := range u.watches {
		s.Frames += w.frames.Load()
	}
	s.Errors = u.errors.Load()
	return s
}
