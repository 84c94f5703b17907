package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// came takes what an attempt gave.
func (k *keeper) came(ctx context.Context, o outcome) {
	if o.interim {
		switch {
		case o.err == nil && k.back && k.current != nil && k.work.rel == k.current.rel:
			o.set.Close() // it serves already
		case o.err == nil:
			k.hand(o.set)
		case ctx.Err() == nil:
			k.u.noSpare(k.work.rel, o.err)
		}
		return
	}
	a := k.work
	k.work = nil
	k.cancel()
	wanted := slices.Contains(k.wanted, a)
	if o.err != nil {
		k.u.life.settle(a.rel) // its engine doesn't run any more
	}
	switch {
	case o.err == nil && !wanted: // it was ready before it could be cancelled
		o.set.Close()
		k.close(a)
	case o.err == nil && a.trusted:
		k.restored(a, o.set)
	case o.err == nil:
		k.promote(a, o.set)
	case ctx.Err() != nil || k.late:
		// It stopped, or waits for its turn again behind a newer one.
		if !wanted {
			k.close(a)
		}
	default:
		k.failed(a, o.err, wanted)
	}
}

// restored has a release serve that served before.
func (k *keeper) restored(a *attempt, set *laneSet) {
	k.hand(set)
	k.sound, k.back, k.failures = true, false, nil
	better := true // than this one: those are tried again
	k.drop(func(b *attempt) bool {
		better = better && b != a
		return b.trusted && !better
	})
}

// promote has a release serve that is proven, or wait for its time.
func (k *keeper) promote(a *attempt, set *laneSet) {
	e, err := k.u.life.entry(a.rel)
	if err == nil {
		at, held := k.when.activate(e, time.Now(), k.current == nil || k.current.interim && k.current.rel == a.rel)
		if e.Held || held || at.After(time.Now()) {
			set.Close()
			if held && !e.Held {
				err = k.u.life.hold(a.rel, "releases.activate is manual: `sightd release activate` has it serve")
			}
			if err == nil && !at.IsZero() {
				a.windowed = true
				k.u.log.Info("release is proven and waits", "model", k.u.name, "release", a.rel.ID(), "until", at)
				return
			}
			if err == nil {
				k.u.log.Info("release is proven and held", "model", k.u.name, "release", a.rel.ID())
				k.drop(func(b *attempt) bool { return b == a })
				return
			}
		}
	}
	if err == nil {
		// On disk before it is acted on.
		err = k.u.life.serve(a.rel)
	}
	if err != nil {
		set.Close()
		k.postpone(a, err)
		k.u.fail(a.rel, err, a, false)
		return
	}
	k.hand(set)
	k.sound, k.back, k.failures = true, false, nil
	k.drop(func(b *attempt) bool { return b.trusted || b == a || b.rel.ID().Compare(a.rel.ID()) < 0 })
}

// failed is an attempt that gave nothing.
func (k *keeper) failed(a *attempt, err error, wanted bool) {
	if e, eerr := k.u.life.entry(a.rel); eerr == nil && e.Code == release.Removed {
		k.drop(func(b *attempt) bool { return b == a }) // somebody removed it meanwhile
		return
	}
	if !a.trusted && !a.gap && wanted && k.current != nil && outOfMemory(err) {
		if k.u.memory == "gap" {
			if k.awaits(a) {
				return
			}
			k.u.log.Warn("two engines don't fit at once: what serves is closed before the new one is loaded",
				"model", k.u.name, "release", a.rel.ID(), "err", err)
			a.gap = true
			return
		}
		err = &release.Rejection{Code: NoMemory, Err: fmt.Errorf("%w: there is no room for its engine beside the one that serves, and releases.memory is refuse", err)}
	} else if a.gap && outOfMemory(err) {
		err = &release.Rejection{Code: NoMemory, Err: fmt.Errorf("%w: its engine doesn't fit into this machine's memory", err)}
	}
	if !a.trusted && trt.StatusOf(err) == trt.Broken {
		// It may be the machine; not if it happens each time.
		if rejected := k.u.life.broke(a.rel); rejected != nil {
			k.u.doom(err)
			err = rejected
		}
	}
	if k.current == nil && !k.told {
		k.failures = append(k.failures, fmt.Errorf("model %s, release %s: %w", k.u.name, a.rel.ID(), err))
	}
	a.gap = false
	// What is wrong with the release itself condemns it; a full disk doesn't.
	if wanted && release.CodeOf(err) != "" {
		k.wanted = slices.DeleteFunc(k.wanted, func(b *attempt) bool { return b == a })
		k.u.fail(a.rel, err, nil, false)
		k.close(a)
		if c := k.current; c != nil && c.interim && c.rel == a.rel && k.u.life.lives(a.rel) {
			k.goBack(release.CodeOf(err), err.Error()) // the CPU doesn't serve what is rejected either
		}
		return
	}
	k.postpone(a, err)
	k.u.fail(a.rel, err, a, k.current != nil && k.current.interim && k.current.rel == a.rel)
}

// awaits is whether a release that doesn't fit beside what serves isn't to serve yet:
// then nothing is closed for it, and it is proven when its time comes.
func (k *keeper) awaits(a *attempt) bool {
	e, err := k.u.life.entry(a.rel)
	if err != nil {
		return false
	}
	at, held := k.when.activate(e, time.Now(), false)
	switch {
	case e.Held || held:
		if err := k.u.life.hold(a.rel, "there is no room for its engine beside the one that serves: it is proven when it is activated"); err != nil {
			k.u.log.Error("release can't be held", "model", k.u.name, "release", a.rel.ID(), "err", err)
		}
		k.drop(func(b *attempt) bool { return b == a })
		return true
	case at.After(time.Now()):
		a.windowed = true // and is tried beside what serves once more then: there may be room
		return true
	}
	return false
}

// giveRoom has the runner close what serves, which is opened again where what comes
// instead is no good.
func (k *keeper) giveRoom() {
	set := k.current
	if set == nil {
		return
	}
	if !slices.ContainsFunc(k.wanted, func(a *attempt) bool { return a.rel == set.rel }) {
		k.wanted = append(k.wanted, &attempt{rel: set.rel, trusted: true})
	}
	k.u.runner.vacate()
	k.u.idle()
	if k.trial != nil {
		k.u.life.probation(set.rel, k.trial.served)
	}
	k.current, k.trial, k.sound = nil, nil, false
}

// broke is told that the engine of a set fails on and on. A release on probation is
// left; else the CPU serves meanwhile, and the engine is opened again after a while.
func (k *keeper) broke(ctx context.Context, set *laneSet) {
	if set == k.current && k.trial != nil {
		k.fault(FailedInferences, fmt.Sprintf("%d frames in a row: %v", brokenAfter, set.fault))
		if k.back {
			if trt.StatusOf(set.fault) == trt.Broken {
				k.u.doom(set.fault) // the next process has the release that was rolled back to
			}
			return
		}
	}
	if set != k.current || set.interim || isCPU(set.backend) {
		if trt.StatusOf(set.fault) == trt.Broken {
			k.u.doom(set.fault) // whatever serves now
		}
		return
	}
	if time.Since(k.since) > k.u.pace.most {
		k.breaks = 0
	}
	k.breaks++
	k.sound = false
	a := &attempt{rel: set.rel, trusted: true, failures: k.breaks, next: time.Now().Add(k.u.pace.after(k.breaks))}
	err := fmt.Errorf("%d frames in a row: %w", brokenAfter, set.fault)
	if trt.StatusOf(set.fault) == trt.Broken {
		err = set.fault
		a.parked, a.next = true, k.u.doom(err)
	}
	k.wanted = append(k.wanted, a) // what else is wanted is newer
	var spare *laneSet
	if k.u.spare != nil {
		var none error
		if spare, none = k.u.openSpare(ctx, set.rel, nil); none != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w; the CPU can't serve meanwhile: %w", err, none)
		}
	}
	k.u.fail(set.rel, err, a, spare != nil)
	if spare != nil {
		k.hand(spare)
	}
}

// hand gives the runner a set, which it closes in time.
func (k *keeper) hand(set *laneSet) {
	set.collect()
	k.current, k.sound, k.since, k.told = set, false, time.Now(), false
	k.trial = k.probation(set)
	if !k.began {
		k.began = true
		k.first <- set
		return
	}
	select {
	case k.u.runner.swap <- set:
	case <-k.u.runner.ended:
		set.Close()
	}
}
