package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// life is what becomes of a model's releases: noted in the store before it is acted
// on, then told to the log, the subscribers and the inbox. The factory release has no
// life of its own: it is trusted as the configuration is.
type life struct {
	d    *Daemon
	name string
	boot string // this boot of the machine

	mu         sync.Mutex
	rejected   map[release.Code]uint64 // releases, since the start
	rolledBack map[release.Code]uint64
}

// count counts a release that was left: whoever had the store note it calls this, once.
func (l *life) count(state release.State, code release.Code) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case release.Rejected:
		if l.rejected == nil {
			l.rejected = map[release.Code]uint64{}
		}
		l.rejected[code]++
	case release.RolledBack:
		if l.rolledBack == nil {
			l.rolledBack = map[release.Code]uint64{}
		}
		l.rolledBack[code]++
	}
}

// counts are the releases that were rejected and rolled back since the start, by code.
func (l *life) counts() (rejected, rolledBack map[release.Code]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.rejected), maps.Clone(l.rolledBack)
}

// bootID tells this boot of the machine from others.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("tell this boot from others: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// lives is whether the store knows the release.
func (l *life) lives(rel *release.Release) bool { return !rel.Factory && l.d.opts.factory == nil }

func (l *life) factory() int { return l.d.factories[l.name].number() }

// policy is what the device takes.
func (l *life) policy() release.Policy { return l.d.cfg.Policy(l.d.opts.Version) }

// admits tells whether the device takes a release of the store still: keys may have been
// revoked since it came.
func (l *life) admits(rel *release.Release) error {
	if !l.lives(rel) {
		return nil
	}
	e, err := l.entry(rel)
	if err != nil {
		return err
	}
	return l.policy().AdmitStored(rel, e)
}

// entry is what became of a release so far.
func (l *life) entry(rel *release.Release) (release.Entry, error) {
	if !l.lives(rel) {
		return release.Entry{Number: rel.Spec.Release, State: release.Confirmed, Factory: true}, nil
	}
	all, err := l.d.store.List(l.name)
	if err != nil {
		return release.Entry{}, err
	}
	for _, e := range all {
		if e.ID() == rel.ID() {
			return e, nil
		}
	}
	return release.Entry{}, fmt.Errorf("release %s of %s was removed", rel.ID(), l.name)
}

// held is whether a release waits for somebody to activate it.
func (l *life) held(rel *release.Release) bool {
	e, err := l.entry(rel)
	return err == nil && e.Held
}

// waiting is whether a release of the store is to come to serve.
func (l *life) waiting(id release.ID) (bool, error) {
	plan, err := l.d.store.Plan(l.name, l.factory())
	return slices.ContainsFunc(plan.Pending, func(e release.Entry) bool { return e.ID() == id }), err
}

// get opens a release of the store.
func (l *life) get(id release.ID) (*release.Release, error) {
	if l.d.opts.get != nil {
		return l.d.opts.get(l.name, id)
	}
	return l.d.store.Get(l.name, id)
}

// awaits are the releases that would serve if somebody activated them, by number.
func (l *life) awaits() (held []release.Entry) {
	if l.d.opts.factory != nil {
		return nil
	}
	all, err := l.d.store.Status(nil)
	if err != nil {
		return nil // which was said where the releases were to be opened
	}
	for _, m := range all.Models {
		for _, e := range m.Releases {
			if m.Name == l.name && e.Held && !e.Gone {
				held = append(held, e)
			}
		}
	}
	return held
}

// broke counts that the process has to end since a release's engine broke CUDA while it
// was being proven. The error is the rejection of one that does so each time.
func (l *life) broke(rel *release.Release) error {
	if !l.lives(rel) {
		return nil
	}
	rejected, err := l.d.store.Broke(l.name, rel.ID())
	if err != nil {
		l.d.log.Error("note that the release's engine broke CUDA", "model", l.name, "release", rel.ID(), "err", err)
	}
	if !rejected {
		return nil
	}
	return &release.Rejection{Code: release.Crashed, Err: fmt.Errorf("its engine has broken CUDA each time that it was tried")}
}

// recover finds out how the process before ended.
func (l *life) recover() {
	if l.d.opts.factory != nil {
		return
	}
	changed, err := l.d.store.Recover(l.name, l.factory(), l.boot)
	if l.unnoted(err) {
		err = nil
	}
	if err != nil {
		l.d.log.Error("what the process before did with releases can't be found out", "model", l.name, "err", err)
	}
	for _, e := range changed {
		l.d.log.Error("the process before crashed with a release that wasn't confirmed", "model", l.name,
			"release", e.ID(), "state", e.State, "code", e.Code, "err", e.Reason)
		l.count(e.State, e.Code)
		l.tell(e)
	}
}

// unnoted is whether err says no more than that a decision isn't on the disk yet. It holds,
// and the keeper has it written once that is possible.
func (l *life) unnoted(err error) bool {
	var u *release.Unnoted
	if !errors.As(err, &u) {
		return false
	}
	l.d.log.Error("what becomes of a release can't be noted; it counts all the same until sightd ends, and is noted as soon as that is possible", "model", l.name, "err", err)
	return true
}

// flush has what was decided noted, where it couldn't be before.
func (l *life) flush() {
	if written, _ := l.d.store.Flush(l.name); written { // that it can't was said
		l.d.log.Info("what became of releases is noted now", "model", l.name)
	}
}

// note does what the store is asked for, and tells what came of it.
func (l *life) note(rel *release.Release, ask func(release.ID) error) error {
	if !l.lives(rel) {
		return nil
	}
	if err := ask(rel.ID()); err != nil && !l.unnoted(err) {
		return fmt.Errorf("note what becomes of release %s: %w", rel.ID(), err)
	}
	e, err := l.entry(rel)
	if err != nil {
		return err
	}
	l.tell(e)
	return nil
}

// tell says what became of a release where its state isn't the unit's to tell: see
// unit.sayServing for those that serve.
func (l *life) tell(e release.Entry) {
	if l.d.inbox != nil {
		l.d.inbox.Tell(l.name, e)
	}
	if e.State != release.Serving {
		l.d.sayRelease(l.name, mqtt.Release{
			Release: e.Number, Revision: e.Revision, State: string(e.State), Code: string(e.Code), Reason: e.Reason,
			Since: mqtt.Time{Time: e.Since},
		})
	}
	l.d.stir()
}

// try notes that this process runs an engine of the release of which nobody is sure.
func (l *life) try(rel *release.Release) error {
	if !l.lives(rel) {
		return nil
	}
	return l.d.store.Try(l.name, rel.ID(), l.boot)
}

// settle notes that no process runs the release's engine any more.
func (l *life) settle(rel *release.Release) {
	if !l.lives(rel) {
		return
	}
	if err := l.d.store.Settle(l.name, rel.ID()); err != nil {
		l.d.log.Warn("note that the release's engine doesn't run", "model", l.name, "release", rel.ID(), "err", err)
	}
}

func (l *life) built(rel *release.Release) error {
	return l.note(rel, func(id release.ID) error { return l.d.store.Built(l.name, id) })
}

func (l *life) proven(rel *release.Release, budget time.Duration) error {
	return l.note(rel, func(id release.ID) error {
		return l.d.store.Proven(l.name, id, float64(budget)/float64(time.Millisecond))
	})
}

func (l *life) serve(rel *release.Release) error {
	return l.note(rel, func(id release.ID) error { return l.d.store.Serve(l.name, id, l.factory(), l.boot) })
}

func (l *life) hold(rel *release.Release, reason string) error {
	return l.note(rel, func(id release.ID) error { return l.d.store.Hold(l.name, id, reason) })
}

func (l *life) confirm(rel *release.Release) error {
	err := l.note(rel, func(id release.ID) error { return l.d.store.Confirm(l.name, id) })
	if err == nil && l.lives(rel) {
		l.d.log.Info("release confirmed", "model", l.name, "release", rel.ID())
		l.prune()
	}
	return err
}

// reject notes that a release is no good.
func (l *life) reject(rel *release.Release, why error) {
	err := l.note(rel, func(id release.ID) error {
		return l.d.store.Reject(l.name, id, release.CodeOf(why), why.Error())
	})
	if err != nil {
		l.d.log.Error("note that the release is rejected", "model", l.name, "release", rel.ID(), "err", err)
	} else if l.lives(rel) {
		l.count(release.Rejected, release.CodeOf(why))
	}
	l.prune()
}

// rollBack leaves a release for the one before; the error is a [*release.NoWayBack] where
// there is none.
func (l *life) rollBack(rel *release.Release, code release.Code, reason string) (to release.Entry, err error) {
	if !l.lives(rel) {
		return to, &release.NoWayBack{Name: l.name, ID: rel.ID()}
	}
	to, err = l.d.store.RollBack(l.name, rel.ID(), l.factory(), code, reason)
	var stays *release.NoWayBack
	none := errors.As(err, &stays)
	if l.unnoted(err) {
		if err = nil; none {
			err = stays
		}
	}
	switch {
	case none && code != release.ByHand:
		l.d.log.Error("release is degraded, and there is none to go back to", "model", l.name, "release", rel.ID(), "code", code, "err", whyStays(reason, stays))
	case err != nil:
		return to, err
	default:
		l.count(release.RolledBack, code)
		level, why := slog.LevelError, "err"
		if code == release.ByHand {
			level, why = slog.LevelWarn, "reason"
		}
		l.d.log.Log(context.Background(), level, "release rolled back", "model", l.name, "release", rel.ID(), "to", to.ID(), "code", code, why, reason)
	}
	if e, eerr := l.entry(rel); eerr == nil {
		l.tell(e)
	}
	return to, err
}

// whyStays is why a release is degraded.
func whyStays(reason string, stays *release.NoWayBack) string {
	if stays.Damaged != "" {
		reason += "; " + stays.Damaged
	}
	return reason
}

// probation notes how much of its probation a release has behind it.
func (l *life) probation(rel *release.Release, served time.Duration) {
	if err := l.d.store.Probation(l.name, rel.ID(), served.Seconds()); err != nil {
		l.d.log.Warn("note the probation", "model", l.name, "release", rel.ID(), "err", err)
	}
}

// rest notes that the process stops in order.
func (l *life) rest(served time.Duration) {
	if l.d.opts.factory != nil {
		return
	}
	l.flush()
	if err := l.d.store.Rest(l.name, served.Seconds()); err != nil {
		l.d.log.Error("that sightd stops in order can't be noted: the next start may take it for a crash", "model", l.name, "err", err)
	}
}

func (l *life) prune() {
	if l.d.opts.factory != nil {
		return
	}
	pruned, err := l.d.store.Prune(l.name, l.d.cfg.Releases.Keep, l.factory())
	if err != nil {
		l.d.log.Warn("old releases can't be removed", "model", l.name, "err", err)
	}
	for _, id := range pruned {
		l.d.log.Info("old release removed", "model", l.name, "release", id)
	}
}
