package release

import (
	"slices"
	"sync"
)

// Unnoted is the error of a decision that the disk didn't take, such as a full one: it
// holds in this process all the same, since what is bad isn't to serve on for want of
// room, and [Store.Flush] writes it once that is possible. A process that starts before
// finds what is on the disk.
type Unnoted struct{ Err error }

func (e *Unnoted) Error() string { return e.Err.Error() }
func (e *Unnoted) Unwrap() error { return e.Err }

// unnoted are models' states as they were decided and are on no disk yet.
type unnoted struct {
	mu     sync.Mutex
	states map[string]modelState
}

func (u *unnoted) get(name string) (modelState, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	m, ok := u.states[name]
	m.Releases, m.Confirmed = slices.Clone(m.Releases), slices.Clone(m.Confirmed)
	return m, ok
}

func (u *unnoted) set(name string, m modelState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.states == nil {
		u.states = map[string]modelState{}
	}
	u.states[name] = m
}

func (u *unnoted) drop(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.states, name)
}

// decide is change for what holds also where it can't be written: the error is an
// [*Unnoted] then.
func (s *Store) decide(name string, f func(*modelState) error) error {
	return s.alter(name, f, func(name string, m modelState) error {
		if err := s.save(name, m); err != nil {
			s.unnoted.set(name, m)
			return &Unnoted{err}
		}
		return nil
	})
}

// Flush writes what was decided of a model's releases and couldn't be written then. It
// tells whether there was something and it is written now.
func (s *Store) Flush(name string) (written bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.unnoted.get(name)
	if !ok {
		return false, nil
	}
	if err := s.save(name, m); err != nil {
		return false, err
	}
	return true, nil
}
