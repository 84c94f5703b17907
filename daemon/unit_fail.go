package daemon

import (
	"fmt"
	"time"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// noSpare says why nothing serves while an engine is built.
func (u *unit) noSpare(rel *release.Release, err error) {
	err = fmt.Errorf("the CPU can't serve while %s's engine is built: %w", properName(u.backend), err)
	u.mu.Lock()
	u.failure, u.failed = err.Error(), rel.Spec.Release
	u.mu.Unlock()
	u.log.Warn("nothing serves meanwhile", "model", u.name, "release", rel.Spec.Release, "err", err)
}

// fail says why a release isn't served, and when it is tried again; nil is
// never, since the release itself is to blame.
func (u *unit) fail(rel *release.Release, err error, again *attempt) {
	attrs := []any{"model", u.name, "release", rel.Spec.Release, "err", err}
	u.mu.Lock()
	if u.status.State != modelServing {
		u.status.State = modelFailed
	}
	u.failure, u.failed = fmt.Sprintf("release %d: %v", rel.Spec.Release, err), rel.Spec.Release
	u.status.Build = nil
	never := again == nil || again.parked && again.next.IsZero()
	u.refused = again != nil && never
	if !never {
		next := again.next.UTC().Truncate(time.Second)
		u.status.Build = &BuildStatus{Release: rel.Spec.Release, Backend: u.backend.Name(), Attempts: again.failures, NextTry: &next}
		attrs = append(attrs, "next_try", next)
	}
	u.mu.Unlock()
	u.log.Error("release can't be served", attrs...)
	if again == nil {
		u.report(rel, release.Rejected, err)
	} else {
		u.say(rel, mqtt.Release{Phase: modelFailed, Reason: err.Error()})
	}
	u.stir()
}

// isCPU is whether a back end is the one that others are waited for with.
func isCPU(b Backend) bool { return b.Name() == "ort" }
