package release

import (
	"fmt"
	"slices"
	"strings"
)

// The codes of releases that were good enough to be installed.
const (
	Crashed    Code = "crashed"    // sightd did, with the release's engine
	ByHand     Code = "by-hand"    // somebody asked for it
	Removed    Code = "removed"    // by hand
	Superseded Code = "superseded" // another release serves, which came later
)

// mostCrashes is how many processes may end, one after the other, while they prove a
// release. A stop of the machine or of the service doesn't count.
const mostCrashes = 3

// with changes the entry of an installed release.
func (s *Store) with(name string, id ID, f func(*modelState, *Entry) error) error {
	return s.change(name, func(m *modelState) error {
		e := m.find(id)
		if e == nil {
			return fmt.Errorf("release %s of %s is not installed", id, name)
		}
		return f(m, e)
	})
}

// rule is with for what holds also where it can't be written: see decide.
func (s *Store) rule(name string, id ID, f func(*modelState, *Entry) error) error {
	return s.decide(name, func(m *modelState) error {
		e := m.find(id)
		if e == nil {
			return fmt.Errorf("release %s of %s is not installed", id, name)
		}
		return f(m, e)
	})
}

func (e *Entry) become(state State, code Code, reason string) {
	if len(reason) > maxReason { // all of them together have to fit into state.json
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	e.State, e.Code, e.Reason, e.Since = state, code, reason, now()
}

// maxReason is the most bytes of a reason that are kept.
const maxReason = 2000

// Built notes that a staged release has an engine.
func (s *Store) Built(name string, id ID) error {
	return s.with(name, id, func(_ *modelState, e *Entry) error {
		if e.State != Staged {
			return errSame // a confirmed one stays so
		}
		e.become(Built, e.Code, e.Reason)
		return nil
	})
}

// Proven notes that a release's engine is good: it may serve, and no release with a
// lower number is taken from now on. budget is how many milliseconds a run may take
// while it is on probation, 0 for any.
func (s *Store) Proven(name string, id ID, budget float64) error {
	return s.with(name, id, func(m *modelState, e *Entry) error {
		if e.State == Rejected || e.State == RolledBack { // or removed, while it was proven
			return fmt.Errorf("release %s of %s is %s (%s)", id, name, e.State, e.Code)
		}
		if e.State != Confirmed {
			e.become(Proven, e.Code, e.Reason)
		}
		e.Trial, e.Crashes, e.Budget = "", 0, budget
		m.Highest = max(m.Highest, e.Number)
		return nil
	})
}

// Try notes that the process, in this boot, is about to run a release's engine of
// which nobody is sure yet. [Store.Recover] counts a process that then ends without
// [Store.Rest].
func (s *Store) Try(name string, id ID, boot string) error {
	return s.with(name, id, func(_ *modelState, e *Entry) error {
		if e.Trial == boot {
			return errSame
		}
		e.Trial = boot
		return nil
	})
}

// Settle notes that the process runs the release's engine no more, and hasn't ended by it.
func (s *Store) Settle(name string, id ID) error {
	return s.change(name, func(m *modelState) error {
		e := m.find(id)
		if e == nil || e.Trial == "" {
			return errSame
		}
		e.Trial = ""
		return nil
	})
}

// Rest notes that no process runs any engine of the model that it isn't sure of, as
// when the service stops in order. served are the seconds of its probation that the
// serving release has behind it; negative, it stays as it was noted.
func (s *Store) Rest(name string, served float64) error {
	return s.change(name, func(m *modelState) error {
		changed := false
		for i := range m.Releases {
			e := &m.Releases[i]
			if e.Trial != "" {
				e.Trial, changed = "", true
			}
			if e.ID() == m.Serving && e.State == Serving && served >= 0 && e.Served != served {
				e.Served, changed = served, true
			}
		}
		if !changed {
			return errSame
		}
		return nil
	})
}

// Probation notes how many seconds of its probation the serving release has behind
// it.
func (s *Store) Probation(name string, id ID, served float64) error {
	return s.with(name, id, func(_ *modelState, e *Entry) error {
		if e.State != Serving || e.Served == served {
			return errSame
		}
		e.Served = served
		return nil
	})
}

// Serve makes a release the one that serves, and is preferred to the factory release
// of the number given. It is on probation, unless it was confirmed before. What
// waited and is older, and what served without being confirmed, is held.
func (s *Store) Serve(name string, id ID, factory int, boot string) error {
	return s.with(name, id, func(m *modelState, e *Entry) error {
		if e.State == Rejected || e.State == RolledBack {
			return fmt.Errorf("release %s of %s is %s", id, name, e.State)
		}
		if m.Serving == id && (e.State == Confirmed || e.State == Serving && e.Trial == boot) {
			return errSame
		}
		m.supersede(id)
		m.Serving, e.Held, e.Asked, e.Over = id, false, false, max(e.Over, factory)
		if e.State != Confirmed {
			if e.State != Serving {
				e.become(Serving, "", "")
				e.Served = 0
			}
			e.Trial = boot
		}
		return nil
	})
}

// supersede holds what by comes before.
func (m *modelState) supersede(by ID) {
	for i := range m.Releases {
		e := &m.Releases[i]
		served := e.State == Serving && e.ID() != by
		waited := by != (ID{}) && e.State.pending() && e.ID().Compare(by) < 0
		if !served && !waited {
			continue
		}
		if served {
			e.State, e.Trial, e.Degraded = Proven, "", false
		}
		if e.Held && e.Code != Superseded {
			continue // somebody else holds it
		}
		e.Held, e.Code, e.Since = true, Superseded, now()
		e.Reason = "the factory release serves"
		if by != (ID{}) {
			e.Reason = fmt.Sprintf("release %s serves, which is newer", by)
		}
	}
}

// Hold has a release wait for [Store.Activate].
func (s *Store) Hold(name string, id ID, reason string) error {
	return s.with(name, id, func(_ *modelState, e *Entry) error {
		e.Held, e.Reason = true, reason
		return nil
	})
}

// Confirm notes that the serving release has passed its probation.
func (s *Store) Confirm(name string, id ID) error {
	return s.with(name, id, func(m *modelState, e *Entry) error {
		if e.State != Serving {
			return fmt.Errorf("release %s of %s is %s, not serving", id, name, e.State)
		}
		e.become(Confirmed, "", "")
		e.Trial, e.Crashes, e.Degraded = "", 0, false
		m.Confirmed = append(slices.DeleteFunc(m.Confirmed, func(c ID) bool { return c == id }), id)
		return nil
	})
}

// Reject notes that a release is not good enough to serve. It isn't tried again,
// unless [Store.Activate] asks for it. After an [*Unnoted] it is rejected too.
func (s *Store) Reject(name string, id ID, code Code, reason string) error {
	return s.rule(name, id, func(_ *modelState, e *Entry) error {
		e.reject(code, reason)
		return nil
	})
}

func (e *Entry) reject(code Code, reason string) {
	e.become(Rejected, code, reason)
	e.Trial, e.Held, e.Asked = "", false, false
}

// Activate lets a held release serve when it is ready, and has one that was rejected
// or rolled back tried again.
func (s *Store) Activate(name string, id ID) error {
	return s.with(name, id, func(m *modelState, e *Entry) error {
		switch {
		case m.Serving == id:
			return fmt.Errorf("release %s of %s serves already", id, name)
		case !s.there(name, id):
			return fmt.Errorf("release %s of %s is not in the store any more: install it again", id, name)
		}
		if e.State == Rejected || e.State == RolledBack {
			e.State = Staged // whatever it was found to be, it is proven anew
		}
		e.become(e.State, "", "")
		e.Asked, e.Held, e.Crashes, e.Trial, e.Degraded = true, false, 0, "", false
		return nil
	})
}
