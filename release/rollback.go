package release

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// RollBack leaves a release that serves for the one before, which is confirmed or
// the factory release: it returns that. One whose files are damaged is passed over, which
// the reason then says. Where there is none, nothing changes but that the
// release is marked as degraded, and the error is a [*NoWayBack]. After an [*Unnoted]
// it is left too; where the error is both, it is marked and the disk takes no note of that.
func (s *Store) RollBack(name string, id ID, factory int, code Code, reason string) (to Entry, err error) {
	back, damaged := false, ""
	// A release that it may go to is read through, which takes a while: while nobody waits
	// for the store. Then all is looked at once more.
	read := map[ID]error{}
	whole := func(id ID) error {
		err, ok := read[id]
		if !ok {
			return &toRead{id}
		}
		return err
	}
	for {
		err = s.rule(name, id, func(m *modelState, e *Entry) (err error) {
			if m.Serving != id {
				return fmt.Errorf("release %s of %s doesn't serve", id, name)
			}
			to, back, damaged, err = s.rollBack(name, m, e, factory, code, reason, whole)
			if err == nil && !back && code == ByHand {
				return errSame
			}
			return err
		})
		var next *toRead
		if !errors.As(err, &next) {
			break
		}
		read[next.id] = s.whole(name, next.id)
	}
	var unnoted *Unnoted
	if !back && (err == nil || errors.As(err, &unnoted)) { // it was found that there is none
		err = errors.Join(err, &NoWayBack{Name: name, ID: id, Damaged: damaged})
	}
	return to, err
}

// toRead is the error of a release of which isn't known whether its files are whole.
type toRead struct{ id ID }

func (e *toRead) Error() string { return fmt.Sprintf("release %s isn't read yet", e.id) }

// whole is an error where the files of a release aren't.
func (s *Store) whole(name string, id ID) error {
	rel, err := s.Get(name, id)
	if err != nil {
		return err
	}
	return rel.Close()
}

// rollBack is RollBack in a state that is being changed; damaged says what was passed
// over. whole tells whether a release's files are; after a [*toRead], which it may give,
// nothing is changed.
func (s *Store) rollBack(name string, m *modelState, e *Entry, factory int, code Code, reason string, whole func(ID) error) (to Entry, back bool, damaged string, err error) {
	was := *e
	e.State = RolledBack // so that it is none to go back to
	if to, back, damaged, err = s.wayBack(name, *m, factory, whole); err != nil {
		*e = was
		return Entry{}, false, "", err
	}
	if damaged != "" {
		reason += "; " + damaged
	}
	if !back {
		*e = was
		if code != ByHand {
			at := e.Since
			e.become(e.State, code, reason)
			e.Since, e.Degraded = at, true
		}
		return Entry{}, false, damaged, nil
	}
	e.become(RolledBack, code, reason)
	e.Trial, e.Degraded, e.Crashes, e.Served = "", false, 0, 0
	m.Confirmed = slices.DeleteFunc(m.Confirmed, func(c ID) bool { return c == e.ID() })
	m.Serving = ID{}
	if !to.Factory {
		m.Serving = to.ID()
	}
	return to, true, damaged, nil
}

// wayBack is the best release to go back to of those whose files are whole; damaged says
// which aren't.
func (s *Store) wayBack(name string, m modelState, factory int, whole func(ID) error) (to Entry, found bool, damaged string, err error) {
	var lost []string
	for _, e := range s.backs(name, m, factory) {
		if !e.Factory { // which whoever names it has opened
			err := whole(e.ID())
			var next *toRead
			if errors.As(err, &next) {
				return Entry{}, false, "", err
			}
			if err != nil {
				lost = append(lost, fmt.Sprintf("release %s can't be gone back to: %v", e.ID(), err))
				continue
			}
		}
		return e, true, strings.Join(lost, "; "), nil
	}
	return Entry{}, false, strings.Join(lost, "; "), nil
}

// NoWayBack is the error of a roll-back that has nowhere to go.
type NoWayBack struct {
	Name    string
	ID      ID
	Damaged string // those that there would be, and why not; "" where there are none
}

func (e *NoWayBack) Error() string {
	if e.Damaged != "" {
		return fmt.Sprintf("release %s of %s stays: %s", e.ID, e.Name, e.Damaged)
	}
	return fmt.Sprintf("release %s of %s stays: there is no confirmed release and no factory release to go back to", e.ID, e.Name)
}
