package daemon

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sightd/sightd/release"
)

// late are releases that are in the store and couldn't be offered to the keeper, which
// looks for them at its pace. The zero value is none.
type late struct {
	mu  sync.Mutex
	all []lateRelease
}

type lateRelease struct {
	id       release.ID
	failures int
	next     time.Time
}

func (l *late) add(id release.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.ContainsFunc(l.all, func(r lateRelease) bool { return r.id == id }) {
		l.all = append(l.all, lateRelease{id: id})
	}
}

func (l *late) forget(id release.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = slices.DeleteFunc(l.all, func(r lateRelease) bool { return r.id == id })
}

// due takes one out that is to be looked at now.
func (l *late) due(now time.Time) (r lateRelease, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.all, func(r lateRelease) bool { return !r.next.After(now) })
	if i < 0 {
		return r, false
	}
	r = l.all[i]
	l.all = slices.Delete(l.all, i, i+1)
	return r, true
}

// put puts it back until it is due again.
func (l *late) put(r lateRelease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, r)
}

// offerLate has the keeper take a release that couldn't be offered when it came.
func (k *keeper) offerLate(now time.Time) {
	r, ok := k.u.late.due(now)
	if !ok {
		return
	}
	if waits, err := k.u.life.waiting(r.id); err == nil && !waits {
		return // it was removed, or has come to something
	}
	rel, err := k.u.life.get(r.id)
	if err != nil {
		r.failures++
		r.next = now.Add(k.u.pace.after(r.failures))
		k.u.log.Error("installed release can't be opened yet", "model", k.u.name, "release", r.id, "next_try", r.next.UTC().Truncate(time.Second), "err", err)
		k.u.late.put(r)
		return
	}
	k.offered(rel)
}

// forget has the keeper let go of a release that was removed, and tells what became of it.
func (u *unit) forget(id release.ID) {
	u.late.forget(id)
	o := order{func(k *keeper) error { k.removed(id); return nil }, make(chan error, 1)}
	select {
	case u.orders <- o:
		<-o.done
	case <-u.kept:
	}
	if all, err := u.life.d.store.List(u.name); err == nil {
		for _, e := range all {
			if e.ID() == id {
				u.life.tell(e)
			}
		}
	}
}

// removed lets go of what is under way or waits for a release that is gone.
func (k *keeper) removed(id release.ID) {
	if w := k.work; w != nil && !w.rel.Factory && w.rel.ID() == id {
		k.cancel()
		k.late = true
	}
	k.drop(func(a *attempt) bool { return !a.rel.Factory && a.rel.ID() == id })
	k.u.forgot(id)
	if k.current != nil || k.work != nil || len(k.wanted) > 0 {
		return
	}
	if held := k.u.life.awaits(); len(held) > 0 {
		k.u.awaits(held)
		return
	}
	k.u.giveUp(fmt.Errorf("model %s: no release is left that could serve: `sightd release install` one", k.u.name))
}

// forgot has the status say nothing more of a release.
func (u *unit) forgot(id release.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := &u.status
	if s.State == modelServing && s.Release == id.Number && s.Revision == id.Revision {
		return
	}
	if u.failed == id {
		u.failure, u.failed, u.refused = "", release.ID{}, false
	}
	if s.Build != nil && s.Build.Release == id.Number {
		s.Build = nil
	}
}
