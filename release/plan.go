package release

import (
	"cmp"
	"os"
	"slices"
)

// Plan is what a daemon is to do with a model's releases.
type Plan struct {
	// Serve are those that may serve at once, best first: the one that does, the
	// confirmed ones, and the factory release where its turn is.
	Serve []Entry
	// Pending are those that are to be built, proven and served, newest first. Held
	// ones are among them until they are proven, so that they are ready.
	Pending []Entry
}

// Plan says what is to be done with the model's releases; factory is the number of
// its factory release, 0 for none.
func (s *Store) Plan(name string, factory int) (Plan, error) {
	m, err := s.read(name)
	if err != nil {
		return Plan{}, err
	}
	return s.plan(name, m, factory), nil
}

func (s *Store) plan(name string, m modelState, factory int) Plan {
	var p Plan
	if e := m.find(m.Serving); e != nil && e.State != Rejected && e.State != RolledBack && e.beats(factory) && s.there(name, m.Serving) {
		p.Serve = append(p.Serve, *e)
	}
	for _, e := range s.backs(name, m, factory) {
		if e.Factory || e.ID() != m.Serving {
			p.Serve = append(p.Serve, e)
		}
	}
	for _, e := range slices.Backward(m.Releases) {
		if (e.State.pending() && !e.waits() || e.asked()) && e.beats(factory) && e.ID() != m.Serving && s.there(name, e.ID()) {
			p.Pending = append(p.Pending, e)
		}
	}
	return p
}

// asked is whether a release that was confirmed before is to serve again.
func (e Entry) asked() bool { return e.State == Confirmed && e.Asked }

// waits is whether nothing is to be done for a release until somebody asks.
func (e Entry) waits() bool { return e.Held && (e.State == Proven || e.Code == Superseded) }

// backs are the releases that a roll-back may go to, best first: the confirmed ones,
// the last first, and the factory release before those that are older than it.
func (s *Store) backs(name string, m modelState, factory int) []Entry {
	var all []Entry
	for _, id := range slices.Backward(m.Confirmed) {
		e := m.find(id)
		if e == nil || e.State != Confirmed || !s.there(name, id) {
			continue
		}
		if factory > 0 && !e.beats(factory) {
			break
		}
		all = append(all, *e)
	}
	if factory > 0 {
		all = append(all, Entry{Number: factory, State: Confirmed, Factory: true})
	}
	return all
}

// there is whether a release's files are in the store.
func (s *Store) there(name string, id ID) bool {
	_, err := os.Stat(s.path(name, id))
	return err == nil
}

// Prune removes the files of releases that are of no use any more, but for as many of
// the newest as are kept: of the rejected and rolled back, of those that newer ones
// have replaced, and of the confirmed before those that a roll-back goes to. What became of them stays
// known.
func (s *Store) Prune(name string, keep int, factory int) (pruned []ID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.read(name)
	if err != nil {
		return nil, err
	}
	// The last confirmed one, and, where that serves, the one before it: a roll-back by
	// hand goes there.
	var needed []ID
	for _, e := range s.backs(name, m, factory) {
		if e.Factory {
			break
		}
		needed = append(needed, e.ID())
		if e.ID() != m.Serving {
			break
		}
	}
	var old []Entry
	for _, e := range m.Releases {
		useful := e.ID() == m.Serving || slices.Contains(needed, e.ID()) || e.State.pending() && e.Code != Superseded || e.asked()
		if !useful && s.there(name, e.ID()) {
			old = append(old, e)
		}
	}
	slices.SortStableFunc(old, func(a, b Entry) int {
		return cmp.Or(b.Since.Compare(a.Since), b.ID().Compare(a.ID()))
	})
	for _, e := range old[min(keep, len(old)):] {
		if err := s.discard(name, e.ID()); err != nil {
			return pruned, s.hint(err)
		}
		pruned = append(pruned, e.ID())
	}
	return pruned, nil
}
