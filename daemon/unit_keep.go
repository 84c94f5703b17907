package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sightd/sightd/release"
)

// keeper comes by a unit's engines: one attempt to open a release is under way at a
// time, beside whatever serves, and what it gives is handed to the runner. Releases
// that served before are trusted; others have to prove themselves first, and then are
// on probation. An attempt that fails is made again later and later. All fields are of
// the goroutine that runs it.
type keeper struct {
	u        *unit
	when     when
	hopeless func(error) bool // told when nothing serves nor is tried, nil: it will be tried again; false: that is the end
	first    chan *laneSet    // capacity 1: the set that the runner begins with
	settle   func()

	wanted   []*attempt // those that are pending, newest first, then the trusted ones, best first
	work     *attempt   // of wanted, or an older one that is cancelled; nil: none is under way
	cancel   context.CancelFunc
	late     bool // another release has come, so that is cancelled
	outcomes chan outcome
	failures []error // until one serves, or that is told

	current *laneSet   // handed over last; nil: none, or it was closed to make room
	sound   bool       // it is the real back end's, and works
	back    bool       // it was rolled back: trusted releases come first
	trial   *probation // of what serves; nil: it isn't on probation
	since   time.Time
	breaks  int // how often in a row engines have failed while they served
	told    bool
	began   bool // the runner has its first set
}

// attempt is a release to be opened.
type attempt struct {
	rel      *release.Release
	trusted  bool // it served before, or is the factory release
	gap      bool // what serves is closed before its engine is loaded
	failures int
	next     time.Time // not before
	windowed bool      // in the window alone, as long as something serves
	full     bool      // the disk was, at the last try
	parked   bool      // no try in this process would go better; next is the next one's, zero: none
}

// outcome is what an attempt gave: perhaps a set of the CPU's first, then the
// last word.
type outcome struct {
	set     *laneSet
	err     error
	interim bool
}

// planned are the releases to be opened: wanted of [keeper].
func planned(pending, trusted []*release.Release) []*attempt {
	var all []*attempt
	for _, rel := range pending {
		all = append(all, &attempt{rel: rel})
	}
	for _, rel := range trusted {
		all = append(all, &attempt{rel: rel, trusted: true})
	}
	return all
}

func newKeeper(u *unit, wanted []*attempt) *keeper {
	k := &keeper{
		u: u, when: u.when, wanted: wanted, first: make(chan *laneSet, 1), outcomes: make(chan outcome),
		settle: sync.OnceFunc(func() { close(u.settled) }),
	}
	for _, a := range wanted {
		k.schedule(a)
	}
	return k
}

// schedule has a release wait for the time of the day at which it may be built.
func (k *keeper) schedule(a *attempt) {
	if a.trusted {
		return
	}
	if e, err := k.u.life.entry(a.rel); err == nil {
		a.windowed = k.when.waits(e)
	}
}

// run keeps the unit in engines until ctx or the runner ends.
func (k *keeper) run(ctx context.Context) {
	defer close(k.u.kept)
	defer k.stop()
	check := time.NewTicker(k.checks())
	defer check.Stop()
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
		case o := <-k.u.orders:
			o.done <- o.do(k)
		case set := <-k.u.broken:
			k.broke(ctx, set)
		case o := <-k.outcomes:
			k.came(ctx, o)
		case <-check.C:
			k.check()
			k.offerLate(time.Now())
		case <-k.due():
		}
	}
}

// begin starts the best attempt that is due.
func (k *keeper) begin(ctx context.Context) {
	a := k.best(time.Now())
	if a == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	k.work, k.cancel, k.late = a, cancel, false
	var pr *proof
	if !a.trusted {
		pr = k.proof(a)
	}
	var interim func(*laneSet, error)
	needed := k.current == nil && !a.gap && (a.trusted || !k.u.life.held(a.rel))
	if (needed || k.back && a.trusted) && k.u.spare != nil {
		interim = func(set *laneSet, err error) { k.outcomes <- outcome{set, err, true} }
	}
	var risk error
	if !a.trusted {
		risk = k.u.life.admits(a.rel) // before anything is closed or run for it
	}
	if risk == nil && a.gap {
		k.giveRoom()
	}
	if risk == nil {
		risk = k.u.risk(a.rel, pr) // noted here, so that none is after rest
	}
	go func() {
		if risk != nil {
			k.outcomes <- outcome{nil, risk, false}
			return
		}
		set, err := k.u.open(ctx, a.rel, pr, interim)
		k.outcomes <- outcome{set, err, false}
	}()
}

// best is the attempt to be made now; nil: none is due. Something that serves comes
// first; then what is to serve instead.
func (k *keeper) best(now time.Time) *attempt {
	first := k.current == nil || k.back
	for _, trusted := range []bool{first, !first} {
		for _, a := range k.wanted {
			if a.trusted == trusted && !a.parked && !k.at(a).After(now) {
				return a
			}
		}
	}
	return nil
}

// due is when an attempt is next due; nil where one is under way or none will be.
func (k *keeper) due() <-chan time.Time {
	if k.work != nil {
		return nil
	}
	var first *attempt
	for _, a := range k.wanted {
		if !a.parked && (first == nil || k.at(a).Before(k.at(first))) {
			first = a
		}
	}
	if first == nil {
		return nil
	}
	return time.After(time.Until(k.at(first)))
}

// at is when an attempt is to be made.
func (k *keeper) at(a *attempt) time.Time {
	if now := time.Now(); k.current != nil && a.windowed && !k.when.window.Contains(now) {
		return k.when.window.Next(now) // by the clock as it is now
	}
	return a.next
}

// despair says that nothing serves. Another back end's engine is tried again
// while the daemon waits; where the CPU can't serve, there is nothing to wait
// for, but for room on the disk and for releases that somebody may activate. It is false
// where there is nothing to go on for.
func (k *keeper) despair() bool {
	k.settle()
	if k.told {
		return true
	}
	k.told = true
	err := errors.Join(k.failures...)
	if held := k.u.life.awaits(); len(held) > 0 && len(k.wanted) == 0 {
		if k.hopeless(nil) {
			k.u.awaits(held)
			return true
		}
		err = errors.Join(err, errors.New(k.u.inactive(held)))
	}
	full := func(a *attempt) bool { return a.full }
	if len(k.wanted) > 0 && (!isCPU(k.u.backend) || slices.ContainsFunc(k.wanted, full)) && k.hopeless(nil) {
		return true
	}
	return k.hopeless(err)
}

// offered has a release tried before all others; those that served stay to fall back
// on until one serves.
func (k *keeper) offered(rel *release.Release) {
	a := &attempt{rel: rel}
	k.schedule(a)
	same := func(a *attempt) bool { return a.rel.ID() == rel.ID() && !a.rel.Factory }
	k.drop(func(a *attempt) bool { return a.trusted && k.sound || same(a) })
	e, err := k.u.life.entry(rel)
	asked := err == nil && e.Asked
	at := slices.IndexFunc(k.wanted, func(b *attempt) bool { return asked || b.trusted || b.rel.ID().Compare(rel.ID()) < 0 })
	if at < 0 {
		at = len(k.wanted)
	}
	comes := slices.Index(k.wanted, k.work) >= at || k.work != nil && !slices.Contains(k.wanted, k.work)
	k.wanted = slices.Insert(k.wanted, at, a)
	if k.work != nil && comes && !k.back && !k.work.gap && !(k.work.trusted && k.current == nil) {
		k.u.log.Info("a newer release comes first", "model", k.u.name, "release", k.work.rel.ID(), "newer", rel.ID())
		k.cancel()
		k.late = true
	}
}

// drop lets go of attempts, and of their releases.
func (k *keeper) drop(which func(*attempt) bool) {
	k.wanted = slices.DeleteFunc(k.wanted, func(a *attempt) bool {
		if !which(a) {
			return false
		}
		k.close(a)
		return true
	})
}

// close closes the release of an attempt that is wanted no more, unless it serves or
// is being opened: whoever has it then closes it.
func (k *keeper) close(a *attempt) {
	if serves := k.current != nil && k.current.rel == a.rel; !serves && !a.rel.Factory && a != k.work {
		a.rel.Close()
	}
}

// stop ends what is under way.
func (k *keeper) stop() {
	served := time.Duration(-1) // as it was noted
	if k.trial != nil {
		served = k.trial.served
	}
	k.u.life.rest(served)
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
