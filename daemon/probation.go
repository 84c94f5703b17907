package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sightd/sightd/release"
)

// The codes of releases whose engines are no good.
const (
	FailedInferences release.Code = "failed-inferences"
	NoAnswers        release.Code = "no-answers" // though frames were offered
	TooSlow          release.Code = "too-slow"
	TooLarge         release.Code = "too-large"
	NoMemory         release.Code = "no-memory"
	Disagrees        release.Code = "disagrees" // with the release before
)

// What a release on probation may do before it is left, beside failing on brokenAfter
// frames in a row.
const (
	mostFailed   = 10               // frames that the engine failed on, and at least one in a hundred
	unanswered   = 10 * time.Second // with frames offered and none answered
	slowFor      = 10               // checks in a row with runs beyond the budget
	lookForOne   = time.Minute      // between two looks whether there is a release to go back to now
	noteServed   = time.Minute      // of probation between two notes of how much is over
	usualChecks  = time.Second      // between two looks at what serves
	leastMeasure = 8                // runs that a median is taken of
)

// probation is the time in which a release has to show that it is good. It goes on only
// while frames are answered, so neither lost cameras nor stops and reboots count for or
// against it.
type probation struct {
	rel    *release.Release
	served time.Duration // without a fault
	noted  time.Duration // of that, in the store
	budget time.Duration // that a run may take; 0: any

	last     tally
	at       time.Time
	answered uint64 // since it began
	failed   uint64
	silent   time.Duration // since a frame was answered, with some offered
	slow     int           // checks in a row
	currents int64         // overCurrents at the last look at them
	degraded bool          // a fault has been found, and there is nothing to go back to
	tried    time.Time     // when that was last seen
	confirms retry         // of the store
	leaves   retry         // of the store
}

// retry is something that failed, and is tried again later each time; it is said when that
// begins.
type retry struct {
	failures int
	next     time.Time // not before
}

// failed tells whether it is the first time.
func (r *retry) failed(now time.Time, least time.Duration) (first bool) {
	r.next = now.Add(min(least<<min(r.failures, 16), lookForOne))
	r.failures++
	return r.failures == 1
}

// tally is what was counted of a unit's frames since the start.
type tally struct{ offered, answered, failed uint64 }

func (u *unit) tally() tally {
	t := tally{failed: u.faults.Load()}
	for i, w := range u.watches {
		t.answered += w.frames.Load()
		s := u.views[i].camera.Status()
		t.offered += s.Captured - s.Skipped // by the camera's fps
	}
	return t
}

// probation begins that of a set; nil: it needs none.
func (k *keeper) probation(set *laneSet) *probation {
	if set.interim {
		return nil // it isn't the engine that is to be looked at
	}
	e, err := k.u.life.entry(set.rel)
	if err != nil || e.State != release.Serving {
		return nil
	}
	served := time.Duration(e.Served * float64(time.Second))
	return &probation{
		rel: set.rel, served: served, noted: served, budget: time.Duration(e.Budget * float64(time.Millisecond)),
		last: k.u.tally(), at: time.Now(), degraded: e.Degraded,
	}
}

// check looks at what serves on probation: confirms it, leaves it, or lets it go on.
func (k *keeper) check() {
	k.u.life.flush()
	p := k.trial
	if p == nil {
		return
	}
	now := time.Now()
	code, reason := p.look(k.u, now)
	k.u.saysProbation(p)
	switch {
	case code != "":
		k.fault(code, reason)
	case p.served >= k.u.probation:
		if now.Before(p.confirms.next) {
			return
		}
		if err := k.u.life.confirm(p.rel); err != nil {
			if p.confirms.failed(now, k.checks()) {
				k.u.log.Error("release can't be confirmed yet; it serves on, and that is tried again", "model", k.u.name, "release", p.rel.ID(), "err", err)
			}
			return
		}
		if n := p.confirms.failures; n > 0 {
			k.u.log.Info("release could be confirmed now", "model", k.u.name, "release", p.rel.ID(), "failures", n)
		}
		k.trial = nil
		k.u.confirmed(p.rel)
	case p.served-p.noted >= noteServed:
		k.u.life.probation(p.rel, p.served)
		p.noted = p.served
	}
}

// checks is the time between two looks at what serves.
func (k *keeper) checks() time.Duration { return cmp.Or(k.u.pace.check, usualChecks) }

// look takes the time since the last look into account. The code is empty unless there
// is a fault.
func (p *probation) look(u *unit, now time.Time) (code release.Code, reason string) {
	t := u.tally()
	d := tally{t.offered - p.last.offered, t.answered - p.last.answered, t.failed - p.last.failed}
	passed := now.Sub(p.at)
	p.last, p.at = t, now
	p.answered += d.answered
	p.failed += d.failed
	switch {
	case d.failed > 0:
		p.served, p.silent = 0, 0
	case d.answered > 0:
		p.silent = 0
		p.served += passed
	case d.offered > 0:
		p.silent += passed
	}
	if p.failed >= mostFailed && p.failed*100 >= p.answered {
		return FailedInferences, fmt.Sprintf("the engine failed on %d of %d frames", p.failed, p.failed+p.answered)
	}
	if p.silent >= unanswered {
		return NoAnswers, fmt.Sprintf("no frame was answered for %v, though the cameras gave some", p.silent.Round(time.Second))
	}
	if quick, n := u.recent.quartile(); p.budget > 0 && d.answered > 0 && n >= leastMeasure && quick > p.budget && !p.throttled("/sys") {
		p.slow++
		p.served = 0
		if p.slow >= slowFor {
			return TooSlow, fmt.Sprintf("a run takes %v, at most %v are allowed (releases.proof.latency)", quick.Round(time.Microsecond), p.budget.Round(time.Microsecond))
		}
	} else if d.answered > 0 {
		p.slow = 0
	}
	return "", ""
}

// fault leaves the release on probation for the last confirmed one. Where there is
// none, it goes on, degraded, and its probation begins anew: once that passes, it is
// confirmed and degraded no more.
func (k *keeper) fault(code release.Code, reason string) {
	p := k.trial
	if p.degraded && time.Since(p.tried) < lookForOne {
		p.again()
		return // it was said
	}
	if time.Now().Before(p.leaves.next) {
		return // this too
	}
	_, err := k.u.life.rollBack(p.rel, code, reason)
	var stays *release.NoWayBack
	switch {
	case errors.As(err, &stays):
		p.degraded, p.tried = true, time.Now()
		p.again()
		k.u.degrade(p.rel, code, whyStays(reason, stays))
	case err != nil:
		if p.leaves.failed(time.Now(), k.checks()) {
			k.u.log.Error("release can't be rolled back yet; that is tried again", "model", k.u.name, "release", p.rel.ID(), "code", code, "reason", reason, "err", err)
		}
	default:
		if n := p.leaves.failures; n > 0 {
			k.u.log.Info("release could be rolled back now", "model", k.u.name, "release", p.rel.ID(), "failures", n)
		}
		k.goBack(code, reason)
	}
}

// again begins the probation once more.
func (p *probation) again() {
	p.served, p.silent, p.slow, p.answered, p.failed = 0, 0, 0, 0, 0
}

// goBack opens the release that the store names now, since what serves is to be left for
// the reason given; that goes on until then, and where there is none to open, degraded.
func (k *keeper) goBack(code release.Code, reason string) {
	k.trial, k.sound, k.back = nil, false, true
	if k.work != nil {
		k.cancel()
		k.late = true
	}
	k.drop(func(a *attempt) bool { return a.trusted })
	_, trusted, err := k.u.plan()
	if err != nil {
		k.u.log.Error("what was rolled back to can't be opened", "model", k.u.name, "err", err)
	}
	k.wanted = append(k.wanted, planned(nil, trusted)...)
	if len(trusted) == 0 && k.current != nil {
		k.u.degrade(k.current.rel, code, reason+"; there is no release to go back to that can be opened, so it goes on until sightd stops")
	}
}

// order is something that the keeper is to do between two other things.
type order struct {
	do   func(*keeper) error
	done chan error
}

// leave rolls a release back because somebody wants it.
func (k *keeper) leave(id release.ID, reason string) error {
	if k.current == nil {
		return fmt.Errorf("model %s: nothing serves that could be rolled back", k.u.name)
	}
	rel := k.current.rel
	if rel.Factory {
		return fmt.Errorf("model %s: the factory release serves, so there is nothing to roll back", k.u.name)
	}
	if id != (release.ID{}) && id != rel.ID() {
		return fmt.Errorf("model %s: release %s serves, not %s", k.u.name, rel.ID(), id)
	}
	reason = cmp.Or(reason, "asked for")
	if _, err := k.u.life.rollBack(rel, release.ByHand, reason); err != nil {
		return err
	}
	k.goBack(release.ByHand, reason)
	return nil
}

// leave has the unit leave a release for the one before; it returns when that is
// noted.
func (u *unit) leave(ctx context.Context, id release.ID, reason string) error {
	o := order{func(k *keeper) error { return k.leave(id, reason) }, make(chan error, 1)}
	select {
	case u.orders <- o:
		select {
		case err := <-o.done:
			return err
		case <-ctx.Done():
			return fmt.Errorf("model %s: the roll-back goes on, and what came of it isn't known yet: %w", u.name, ctx.Err())
		}
	case <-u.kept:
		return fmt.Errorf("model %s: nothing serves that could be rolled back", u.name)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// latencies are those of the latest runs. One goroutine adds.
type latencies struct {
	next atomic.Uint64
	ring [64]atomic.Int64 // nanoseconds
}

func (l *latencies) add(d time.Duration) {
	n := l.next.Load()
	l.ring[n%uint64(len(l.ring))].Store(int64(d))
	l.next.Store(n + 1)
}

// now is a moment for median.
func (l *latencies) now() uint64 { return l.next.Load() }

// all are the latest since a moment.
func (l *latencies) all(since uint64) []time.Duration {
	end := l.next.Load()
	if since > end { // another engine serves since
		since = 0
	}
	n := min(end-since, uint64(len(l.ring)))
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = time.Duration(l.ring[(end-uint64(i)-1)%uint64(len(l.ring))].Load())
	}
	return all
}

// median is that of so many since a moment.
func (l *latencies) median(since uint64) (time.Duration, int) {
	all := l.all(since)
	return middle(all), len(all)
}

// quartile is what a quarter of the latest took at most.
func (l *latencies) quartile() (time.Duration, int) {
	all := l.all(0)
	return quartile(all), len(all)
}

// quartile is what a quarter of them took at most, 0 of none.
func quartile(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/4]
}

// reset forgets them: another engine serves.
func (l *latencies) reset() { l.next.Store(0) }
