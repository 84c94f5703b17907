package daemon

import (
	"errors"
	"fmt"
	"time"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// noSpare says why nothing serves while an engine is built.
func (u *unit) noSpare(rel *release.Release, err error) {
	err = fmt.Errorf("the CPU can't serve while %s's engine is built: %w", properName(u.backend), err)
	u.mu.Lock()
	u.failure, u.failed = err.Error(), rel.ID()
	u.mu.Unlock()
	u.log.Error("nothing serves meanwhile", "model", u.name, "release", rel.ID(), "err", err)
}

// fail says why a release isn't served, and when it is tried again; nil is
// never, since the release itself is to blame. Where the CPU stands in, it is
// the back end's engine alone that isn't there.
func (u *unit) fail(rel *release.Release, err error, again *attempt, spared bool) {
	if again == nil {
		u.life.reject(rel, err) // on disk before it is told
	}
	attrs := []any{"model", u.name, "release", rel.ID(), "err", err}
	u.mu.Lock()
	if u.status.State != modelServing {
		u.status.State = modelFailed
	}
	u.failure, u.failed = fmt.Sprintf("release %s: %v", rel.ID(), err), rel.ID()
	u.status.Build = nil
	never := again == nil || again.parked && again.next.IsZero()
	u.refused = again != nil && never && final(err)
	if !never {
		next := again.next.UTC().Truncate(time.Second)
		u.status.Build = &BuildStatus{Release: rel.Spec.Release, Backend: u.backend.Name(), Attempts: again.failures, NextTry: &next}
		attrs = append(attrs, "next_try", next)
	}
	u.mu.Unlock()
	if spared {
		u.log.Warn(properName(u.backend)+"'s engine can't serve, so the CPU does", attrs...)
	} else {
		u.log.Error("release can't be served", attrs...)
	}
	if again != nil {
		u.say(rel, mqtt.Release{Phase: modelFailed})
	}
	u.stir()
}

// postpone says when an attempt that failed is made again.
func (k *keeper) postpone(a *attempt, err error) {
	a.failures++
	a.full = full(err)
	switch {
	case trt.StatusOf(err) == trt.Broken:
		a.parked, a.next = true, k.u.doom(err)
		return
	case final(err):
		a.parked, a.next = true, time.Time{}
		return
	}
	a.next = time.Now().Add(k.u.pace.after(a.failures))
	var noted *ErrBackOff
	if !errors.As(err, &noted) {
		return
	}
	// The store knows of failures before this start too, but takes no note of a full disk.
	if noted.cause == nil || noted.Count >= a.failures {
		a.failures, a.next = noted.Count, noted.Until
	}
}

// isCPU is whether a back end is the one that others are waited for with.
func isCPU(b Backend) bool { return b.Name() == "ort" }
