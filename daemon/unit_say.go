package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// state notes what is being done for a release, while none serves; an engine
// that serves goes on to do so. The attributes are the log's.
func (u *unit) state(state string, rel *release.Release, attrs ...any) {
	u.mu.Lock()
	if u.status.State != modelServing {
		u.status.State, u.status.Release = state, rel.Spec.Release
	}
	u.mu.Unlock()
	u.log.Info(state, append([]any{"model", u.name, "release", rel.ID()}, attrs...)...)
	u.say(rel, mqtt.Release{Phase: state})
}

// say tells the subscribers what is being done for a release, with the reason that
// the status has.
func (u *unit) say(rel *release.Release, r mqtt.Release) {
	u.saying.Lock()
	defer u.saying.Unlock()
	u.mu.Lock()
	if u.status.State == modelServing && u.status.Release == rel.Spec.Release && u.status.Revision == rel.ID().Revision {
		r.State = string(release.Serving) // by the CPU
	}
	r.Reason = u.reasonOf(rel.ID())
	u.mu.Unlock()
	u.progress(rel, r)
}

// sayServing notes that a release serves, and tells the subscribers what the status
// has to say of that.
func (u *unit) sayServing(rel *release.Release) {
	u.saying.Lock()
	defer u.saying.Unlock()
	r := mqtt.Release{State: string(release.Serving)}
	e, err := u.life.entry(rel)
	if err == nil && !e.Factory {
		r.State, r.Code = string(e.State), string(e.Code)
	}
	u.mu.Lock()
	if err == nil && e.Degraded && !u.status.Degraded { // by a process before this one
		u.status.Degraded = true
		u.failure, u.failed = degradedBy(rel, e.Code, e.Reason), rel.ID()
	}
	r.Reason = u.reasonOf(rel.ID())
	if u.status.Interim && u.failure != "" && u.failed == rel.ID() && u.build == nil {
		r.Phase = modelFailed // the back end's engine is
	}
	u.mu.Unlock()
	u.progress(rel, r)
}

// serves gives the number and revision of the release that serves; 0: none does.
func (u *unit) serves() (release int, revision int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.status.State != modelServing {
		return 0, 0
	}
	return u.status.Release, u.status.Revision
}

// idle notes that nothing serves for a while, since the engine has to make room.
func (u *unit) idle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.status.State, u.status.Engine = modelPreparing, nil
}

// proved notes what a release's proof found out.
func (u *unit) proved(rel *release.Release, pr *proof) {
	if pr.skip {
		return
	}
	r := &pr.report
	s := &ProofStatus{
		Release: rel.Spec.Release, Revision: rel.ID().Revision, Golden: r.golden.Images, Right: r.golden.Right,
		Live: r.live, Compared: r.compared, Agreed: r.agreed, Latency: r.latency.Seconds(), Budget: r.budget.Seconds(), Memory: r.memory,
	}
	u.mu.Lock()
	u.status.Proof = s
	u.mu.Unlock()
	u.log.Info("proven", "model", u.name, "release", rel.ID(), "golden", s.Golden, "right", s.Right,
		"frames", s.Live, "compared", s.Compared, "agreed", s.Agreed, "latency", r.latency, "serving", r.serving, "memory", r.memory)
}

// saysProbation notes how far the probation of what serves is.
func (u *unit) saysProbation(p *probation) {
	s := &ProbationStatus{Served: p.served.Seconds(), Of: u.probation.Seconds(), Failed: p.failed}
	u.mu.Lock()
	u.status.Probation = s
	u.mu.Unlock()
}

// confirmed notes that a release has passed its probation.
func (u *unit) confirmed(rel *release.Release) {
	u.mu.Lock()
	if u.status.Degraded && u.failed == rel.ID() {
		u.failure, u.failed = "", release.ID{}
	}
	u.status.Probation, u.status.Degraded = nil, false
	u.mu.Unlock()
	u.sayServing(rel)
	u.stir()
}

// degrade notes that a release should be left, and there is nothing to go back to.
func (u *unit) degrade(rel *release.Release, code release.Code, reason string) {
	u.mu.Lock()
	u.status.Degraded = true
	u.failure, u.failed = degradedBy(rel, code, reason), rel.ID()
	u.mu.Unlock()
	u.sayServing(rel)
	u.stir()
}

func degradedBy(rel *release.Release, code release.Code, reason string) string {
	return fmt.Sprintf("release %s is degraded (%s): %s", rel.ID(), code, reason)
}

// giveUp notes that there is no release at all to serve.
func (u *unit) giveUp(err error) {
	u.lost.Store(true)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.status.State, u.failure = modelFailed, err.Error()
}

// awaits notes that nothing serves since nobody has activated any of the releases that
// are there.
func (u *unit) awaits(held []release.Entry) {
	why := u.inactive(held)
	u.mu.Lock()
	u.status.State = modelHeld
	newest := held[len(held)-1]
	u.status.Release, u.status.Revision = newest.Number, newest.Revision
	u.failure, u.failed, u.status.Build = why, newest.ID(), nil
	u.mu.Unlock()
	u.log.Warn("nothing serves: no release is activated yet", "model", u.name, "reason", why)
	u.life.d.sayRelease(u.name, mqtt.Release{
		Release: newest.Number, Revision: newest.Revision, State: string(newest.State), Reason: why, Since: mqtt.Time{Time: newest.Since},
	})
	u.stir()
}

// inactive says what would have one of the releases serve.
func (u *unit) inactive(held []release.Entry) string {
	ids := make([]string, len(held))
	for i, e := range held {
		ids[i] = e.ID().String()
	}
	newest := ids[len(ids)-1]
	if len(ids) == 1 {
		return fmt.Sprintf("no release is activated yet: `sightd release activate %s %s` has release %s serve", u.name, newest, newest)
	}
	return fmt.Sprintf("no release is activated yet: `sightd release activate %s %s` has release %s serve; releases %s wait",
		u.name, newest, newest, strings.Join(ids, ", "))
}

// interim says that the CPU serves and why; u.mu is held.
func (u *unit) interim() string {
	if !u.status.Interim {
		return ""
	}
	engine := properName(u.backend) + "'s engine"
	switch {
	case u.build != nil && u.build.backend == u.backend.Name():
		return "the CPU serves while " + engine + " is built"
	case u.status.Build != nil && u.status.Build.NextTry != nil:
		return "the CPU serves; " + engine + " is tried again at " + u.status.Build.NextTry.Format(time.RFC3339)
	}
	if u.refused && u.failed == u.shown() {
		return "the CPU serves, as " + properName(u.backend) + " has no engine for it"
	}
	return "the CPU serves until " + engine + " is there"
}

func properName(b Backend) string {
	switch name := b.Name(); name {
	case "tensorrt":
		return "TensorRT"
	case "ort":
		return "ONNX Runtime"
	default:
		return name
	}
}

// reason is all that is to be said of how the model is served: why a release isn't,
// why the CPU does, and what isn't as it was asked for; u.mu is held.
func (u *unit) reason() string { return joined(u.failure, u.interim(), u.note) }

// reasonOf is what of that is about the release; u.mu is held.
func (u *unit) reasonOf(id release.ID) string {
	return reasonOf(id, u.shown(), u.failed, u.failure, joined(u.interim(), u.note))
}

// shown is the release that the status names; u.mu is held.
func (u *unit) shown() release.ID {
	return release.ID{Number: u.status.Release, Revision: u.status.Revision}
}

func reasonOf(id, serving, failed release.ID, failure, standing string) string {
	if failed != id {
		failure = ""
	}
	if serving != id {
		standing = ""
	}
	return joined(failure, standing)
}

// joined is what isn't empty of reasons.
func joined(reasons ...string) string {
	return strings.Join(slices.DeleteFunc(reasons, func(s string) bool { return s == "" }), "; ")
}

// Status returns the model's status.
func (u *unit) Status() ModelStatus {
	u.mu.Lock()
	s := u.status
	s.Reason = u.reason()
	s.Failure, s.Failed, s.Standing = u.failure, u.failed, joined(u.interim(), u.note)
	s.Builds = s.Builds.clone()
	if u.build != nil {
		s.Build = u.build.status(s.Build)
	}
	u.mu.Unlock()
	for _, w := range u.watches {
		s.Frames += w.frames.Load()
	}
	s.Errors, s.Damaged = u.errors.Load(), u.damaged.Load()
	s.Rejected, s.RolledBack = u.life.counts()
	return s
}
