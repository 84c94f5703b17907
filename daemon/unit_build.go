package daemon

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// pace is how often a unit speaks and tries.
type pace struct {
	tick time.Duration // between two words to subscribers and systemd about a build, at least
	log  time.Duration // between two lines about a phase that lasts
	wait time.Duration // after the first failed build; then twice as long each time
	most time.Duration // that a wait may be

	check time.Duration // between two looks at what serves on probation
}

var usualPace = pace{tick: time.Second, log: 30 * time.Second, wait: time.Minute, most: 6 * time.Hour, check: usualChecks}

// after is how long to wait after so many failures in a row.
func (p pace) after(failures int) time.Duration {
	d := p.wait
	for i := 1; i < failures && d < p.most; i++ {
		d *= 2
	}
	return min(d, p.most)
}

// The outcomes of a build, as they are counted.
const (
	buildOK        = "ok"
	buildFailed    = "failed"
	buildCrashed   = "crashed" // the builder's process ended without a word
	buildCancelled = "cancelled"
)

var buildOutcomes = []string{buildOK, buildFailed, buildCrashed, buildCancelled}

// builds counts builds by outcome.
type builds map[string]uint64

func (b builds) clone() builds { return maps.Clone(b) }

// building follows the build of an engine, where there is one: to the log, the
// status, systemd and the subscribers.
type building struct {
	unit    *unit
	rel     *release.Release
	backend string

	began  time.Time // zero: nothing had to be built
	ticker context.CancelFunc
	ticked sync.WaitGroup

	at BuildProgress // guarded by unit.mu
}

// progress is told by the engine store, first when a build begins.
func (w *building) progress(p BuildProgress) {
	u := w.unit
	if w.began.IsZero() {
		w.began = time.Now()
		u.mu.Lock()
		w.at, u.build = p, w
		u.mu.Unlock()
		u.state(modelBuilding, w.rel, "backend", w.backend)
		u.stir()
		ctx, cancel := context.WithCancel(context.Background())
		w.ticker = cancel
		w.ticked.Add(1)
		go func() {
			defer w.ticked.Done()
			w.follow(ctx)
		}()
		return
	}
	u.mu.Lock()
	w.at = p
	u.mu.Unlock()
}

// end counts the build, where there was one.
func (w *building) end(err error) {
	if w.began.IsZero() {
		return
	}
	w.ticker()
	w.ticked.Wait()
	outcome := buildFailed
	switch {
	case err == nil || goesToGPU(err):
		outcome = buildOK
	case errors.Is(err, context.Canceled) || trt.StatusOf(err) == trt.Cancelled:
		outcome = buildCancelled
	case trt.StatusOf(err) == trt.Crashed:
		outcome = buildCrashed
	}
	u := w.unit
	u.mu.Lock()
	u.build = nil
	u.status.Builds[outcome]++
	u.mu.Unlock()
	u.log.Info("built", "model", u.name, "release", w.rel.ID(), "backend", w.backend,
		"outcome", outcome, "took", time.Since(w.began).Round(time.Millisecond))
	u.stir()
}

// follow says how far the build is until ctx ends.
func (w *building) follow(ctx context.Context) {
	u := w.unit
	tick := time.NewTicker(u.pace.tick)
	defer tick.Stop()
	var phase string
	logged := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		u.mu.Lock()
		s := w.status(nil)
		u.mu.Unlock()
		if s.Phase != phase || time.Since(logged) >= u.pace.log {
			phase, logged = s.Phase, time.Now()
			attrs := []any{"model", u.name, "release", s.Release, "backend", s.Backend, "phase", phase, "elapsed", inSeconds(s.Elapsed)}
			if s.estimated() {
				attrs = append(attrs, "estimate", inSeconds(s.Estimate))
			}
			u.log.Info("building", attrs...)
		}
		u.say(w.rel, mqtt.Release{Phase: prefixed(modelBuilding+": ", s.Phase), Progress: s.Share(), Since: mqtt.Time{Time: w.began}})
		u.stir()
	}
}

// status is that of the build, after so many as before says. unit.mu is held.
func (w *building) status(before *BuildStatus) *BuildStatus {
	s := &BuildStatus{
		Release: w.rel.Spec.Release, Backend: w.backend, Phase: w.at.Phase, Step: w.at.Step, Steps: w.at.Steps,
		Elapsed: time.Since(w.began).Seconds(), Estimate: w.at.Estimate.Seconds(),
	}
	if before != nil && before.Release == s.Release {
		s.Attempts = before.Attempts
	}
	return s
}

// Share is how much of the build is behind it, 0 to 1, nil where that isn't known: by
// the time that earlier ones took, else by the steps of the phase.
func (b *BuildStatus) Share() *float64 {
	var v float64
	switch {
	case b.Estimate > 0:
		v = min(b.Elapsed/b.Estimate, .99)
	case b.Steps > 0:
		v = float64(b.Step) / float64(b.Steps)
	default:
		return nil
	}
	v = float64(int(v*1000)) / 1000
	return &v
}

// estimated is whether it is known how long the build takes, and worth a word: less
// than half a second would be written as none.
func (b *BuildStatus) estimated() bool { return b.Estimate >= .5 }

// String is the build's time and phase: 1m10s of about 3m (phase).
func (b *BuildStatus) String() string {
	s := inSeconds(b.Elapsed)
	if b.estimated() {
		s += " of about " + inSeconds(b.Estimate)
	}
	if b.Phase != "" {
		s += " (" + b.Phase + ")"
	}
	return s
}

// inSeconds is a number of seconds as people write it.
func inSeconds(v float64) string {
	s := time.Duration(v * float64(time.Second)).Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return s
}
