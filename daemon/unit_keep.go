package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// keeper comes by a unit's engines: one attempt to open a release is under way
// at a time, beside whatever serves, and what it gives is handed to the runner.
// Of several releases the best that is due is tried; an attempt that fails is
// made again later and later. All fields are of the goroutine that runs it.
type keeper struct {
	u        *unit
	hopeless func(error) bool // told when nothing serves nor is tried, nil: it will be tried again; false: that is the end
	first    chan *laneSet    // capacity 1: the set that the runner begins with
	settle   func()

	wanted   []*attempt // best first
	work     *attempt   // of wanted, or an older one that is cancelled; nil: none is under way
	cancel   context.CancelFunc
	late     bool // a newer release has come, so that is cancelled
	outcomes chan outcome
	failures []error // until one serves, or that is told

	current *laneSet // handed over last; nil: none
	sound   bool     // it is the real back end's, and works
	since   time.Time
	breaks  int // how often in a row engines have failed while they served
	told    bool
}

// attempt is a release to be opened.
type attempt struct {
	rel      *release.Release
	failures int
	next     time.Time // not before
	parked   bool      // no try in this process would go better; next is the next one's, zero: none
}

// outcome is what an attempt gave: perhaps a set of the CPU's first, then the
// last word.
type outcome struct {
	set     *laneSet
	err     error
	interim bool
}

func newKeeper(u *unit, candidates []*release.Release) *keeper {
	k := &keeper{
		u: u, first: make(chan *laneSet, 1), outcomes: make(chan outcome),
		settle: sync.OnceFunc(func() { close(u.settled) }),
	}
	for _, rel := range candidates {
		k.wanted = append(k.wanted, &attempt{rel: rel})
	}
	return k
}

// run keeps the unit in engines until ctx or the runner ends.
func (k *keeper) run(ctx context.Context) {
	defer k.stop()
	for ctx.Err() == nil {
		if k.work == nil {
			k.begin(ctx)
		}
		if k.work == nil && k.current == nil && !k.despair() {
			return
		}
		select {
		case <-ctx.Done():
		case <-k.u.runner.ended:
			return
		case rel := <-k.u.offers:
			k.offered(rel)
		case set := <-k.u.broken:
			k.broke(ctx, set)
		case o := <-k.outcomes:
			k.came(ctx, o)
		case <-k.due():
		}
	}
}

// begin starts the best attempt that is due.
func (k *keeper) begin(ctx context.Context) {
	now := time.Now()
	i := slices.IndexFunc(k.wanted, func(a *attempt) bool { return !a.parked && !a.next.After(now) })
	if i < 0 {
		return
	}
	a := k.wanted[i]
	ctx, cancel := context.WithCancel(ctx)
	k.work, k.cancel, k.late = a, cancel, false
	var interim func(*laneSet, error)
	if k.current == nil && k.u.spare != nil {
		interim = func(set *laneSet, err error) { k.outcomes <- outcome{set, err, true} }
	}
	go func() {
		set, err := k.u.open(ctx, a.rel, interim)
		k.outcomes <- outcome{set, err, false}
	}()
}

// due is when an attempt is next due; nil where one is under way or none will be.
func (k *keeper) due() <-chan time.Time {
	if k.work != nil {
		return nil
	}
	var first *attempt
	for _, a := range k.wanted {
		if !a.parked && (first == nil || a.next.Before(first.next)) {
			first = a
		}
	}
	if first == nil {
		return nil
	}
	return time.After(time.Until(first.next))
}

// despair says that nothing serves. Another back end's engine is tried again
// while the daemon waits; where the CPU can't serve, there is nothing to wait
// for. It is false where there is nothing to go on for.
func (k *keeper) despair() bool {
	k.settle()
	if k.told {
		return true
	}
	k.told = true
	err := errors.Join(k.failures...)
	if len(k.wanted) > 0 && !isCPU(k.u.backend) && k.hopeless(nil) {
		return true
	}
	return k.hopeless(err)
}

// offered has a release tried before all others; the older ones stay to fall
// back on until one of them serves.
func (k *keeper) offered(rel *release.Release) {
	if k.work != nil {
		k.u.log.Info("a newer release comes first", "model", k.u.name, "release", k.work.rel.Spec.Release, "newer", rel.Spec.Release)
		k.cancel()
		k.late = true
	}
	if k.sound {
		k.drop(k.wanted)
		k.wanted = nil
	}
	k.wanted = append([]*attempt{{rel: rel}}, k.wanted...)
}

// came takes what an attempt gave.
func (k *keeper) came(ctx context.Context, o outcome) {
	if o.interim {
		switch {
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
	i := slices.Index(k.wanted, a)
	switch {
	case o.err == nil:
		k.hand(o.set)
		k.sound = true
		k.failures = nil
		if i >= 0 {
			k.drop(k.wanted[i:])
			k.wanted = k.wanted[:i]
		}
	case ctx.Err() != nil || k.late:
		// It stopped, or waits for its turn again behind a newer one.
		if i < 0 {
			k.drop([]*attempt{a})
		}
	default:
		if k.current == nil && !k.told {
			k.failures = append(k.failures, fmt.Errorf("model %s, release %d: %w", k.u.name, a.rel.Spec.Release, o.err))
		}
		// What is wrong with the release itself condemns it; a full disk doesn't.
		if i >= 0 && release.CodeOf(o.err) != "" {
			k.wanted = slices.Delete(k.wanted, i, i+1)
			k.u.fail(a.rel, o.err, nil, false)
			k.drop([]*attempt{a})
			return
		}
		k.postpone(a, o.err)
		k.u.fail(a.rel, o.err, a, k.current != nil && k.current.interim && k.current.rel == a.rel)
	}
}

// broke has the CPU serve instead of a set whose engine fails, and the engine
// opened again after a while.
func (k *keeper) broke(ctx context.Context, set *laneSet) {
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
	a := &attempt{rel: set.rel, failures: k.breaks, next: time.Now().Add(k.u.pace.after(k.breaks))}
	err := fmt.Errorf("%d frames in a row: %w", brokenAfter, set.fault)
	if trt.StatusOf(set.fault) == trt.Broken {
		err = set.fault
		a.parked, a.next = true, k.u.doom(err)
	}
	k.wanted = append(k.wanted, a) // what else is wanted is newer
	var spare *laneSet
	if k.u.spare != nil {
		var none error
		if spare, none = k.u.openSpare(ctx, set.rel); none != nil && ctx.Err() == nil {
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
	began := k.current != nil
	k.current, k.sound, k.since, k.told = set, false, time.Now(), false
	if !began {
		k.first <- set
		return
	}
	select {
	case k.u.runner.swap <- set:
	case <-k.u.runner.ended:
		set.Close()
	}
}

// drop lets go of releases that are wanted no more.
func (k *keeper) drop(list []*attempt) {
	for _, a := range list {
		serves := k.current != nil && k.current.rel == a.rel
		if !serves && !a.rel.Factory && a != k.work {
			a.rel.Close()
		}
	}
}

// stop ends what is under way.
func (k *keeper) stop() {
	if k.work == nil {
		return
	}
	k.cancel()
	for {
		o := <-k.outcomes
		if o.set != nil {
			o.set.Close()
		}
		if !o.interim {
			return
		}
	}
}
