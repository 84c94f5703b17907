package release

import (
	"fmt"
	"slices"
)

// Broke counts a process that has to end, in order, because of the engine of a release
// that is being proven, as a crash. It tells whether there were too many, so that the
// release is to be rejected.
func (s *Store) Broke(name string, id ID) (tooMany bool, err error) {
	err = s.with(name, id, func(_ *modelState, e *Entry) error {
		e.Trial = ""
		e.Crashes++
		tooMany = e.Crashes >= mostCrashes
		return nil
	})
	return tooMany, err
}

// Recover finds out how the process before ended, and is called once at the start,
// with the boot that this is. A process that ended in this boot, neither stopped nor
// with the machine, while it ran an engine of which nobody was sure, has crashed: a
// release on probation is rolled back, one that is being proven is rejected at the
// third time. The entries that this changed are returned, also with an [*Unnoted].
func (s *Store) Recover(name string, factory int, boot string) (changed []Entry, err error) {
	err = s.decide(name, func(m *modelState) error {
		tried := false
		m.Releases = slices.DeleteFunc(m.Releases, func(e Entry) bool {
			// It was on its way into the store.
			lost := e.State == Verified && !s.there(name, e.ID())
			tried = tried || lost
			return lost
		})
		for i := range m.Releases {
			if e := &m.Releases[i]; e.State == Verified {
				e.State, tried = Staged, true
			}
		}
		if e := m.find(m.Serving); e != nil && !e.beats(factory) {
			m.supersede(ID{})
			m.Serving, tried = ID{}, true
		}
		proving := slices.ContainsFunc(m.Releases, func(e Entry) bool { return e.Trial == boot && e.ID() != m.Serving })
		for i := range m.Releases {
			e := &m.Releases[i]
			if e.Trial == "" {
				continue
			}
			tried = true
			crashed := e.Trial == boot
			e.Trial = ""
			if !crashed {
				continue
			}
			if e.ID() == m.Serving && proving {
				continue // more likely it was the other, of which less is known
			}
			e.Crashes++
			if e.State == Serving && e.ID() == m.Serving {
				whole := func(id ID) error { return s.whole(name, id) } // nobody waits for the store yet
				_, _, _, _ = s.rollBack(name, m, e, factory, Crashed, "sightd ended unexpectedly while the release was on probation", whole)
				changed = append(changed, *e)
			} else if e.Crashes >= mostCrashes && (e.State.pending() || e.Asked) {
				e.reject(Crashed, fmt.Sprintf("sightd ended unexpectedly, %d times in a row, while it tried the release's engine", e.Crashes))
				changed = append(changed, *e)
			}
		}
		if !tried {
			return errSame
		}
		return nil
	})
	return changed, err
}
