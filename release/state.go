package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
)

// State is how far a release has come.
type State string

// The states of a release.
const (
	Received   State = "received" // of a drop: it isn't whole, or wasn't looked at
	Verified   State = "verified" // and on its way into the store
	Staged     State = "staged"   // in the store
	Built      State = "built"    // it has an engine
	Proven     State = "proven"   // that is good
	Serving    State = "serving"  // on probation
	Confirmed  State = "confirmed"
	Rejected   State = "rejected"
	RolledBack State = "rolled back"
)

var states = []State{Received, Verified, Staged, Built, Proven, Serving, Confirmed, Rejected, RolledBack}

// pending is whether a release in the state may come to serve.
func (s State) pending() bool { return s == Staged || s == Built || s == Proven }

// Entry is what became of a release.
type Entry struct {
	Number   int       `json:"number"`
	Revision int64     `json:"revision,omitempty"` // of the drop-in that is in it; 0: none
	State    State     `json:"state"`
	Code     Code      `json:"code"`   // empty, or why it was rejected or rolled back, is held or degraded
	Reason   string    `json:"reason"` // the same for people
	Since    time.Time `json:"since,omitzero"`
	Factory  bool      `json:"factory,omitempty"`  // named by the configuration, in no store
	Held     bool      `json:"held,omitempty"`     // it waits for `release activate`
	Asked    bool      `json:"asked,omitempty"`    // it was activated by somebody, who isn't to wait for `releases.activate`
	Degraded bool      `json:"degraded,omitempty"` // it should be rolled back, but there is nothing to go back to

	Gone bool `json:"gone,omitempty"` // its files are removed; of what Status tells alone

	// Signers are the ids of the keys that signed what a revision is made of, which is looked
	// at again before it serves; "unsigned" stands for what wasn't.
	Signers []string `json:"signers,omitempty"`

	Manifest string  `json:"manifest,omitempty"`       // SHA-256 of its manifest.json
	Over     int     `json:"over,omitempty"`           // number of the factory release that it was preferred to
	Trial    string  `json:"trial,omitempty"`          // the boot in which a process has its engine loaded and isn't sure of it
	Crashes  int     `json:"crashes,omitempty"`        // processes that ended so, in a row
	Served   float64 `json:"served_seconds,omitempty"` // of its probation that are over
	Budget   float64 `json:"budget_ms,omitempty"`      // that a run may take during probation; 0: any
}

// ID is that of the entry's release.
func (e Entry) ID() ID { return ID{e.Number, e.Revision} }

// beats is whether the entry's release is preferred to a factory release.
func (e Entry) beats(factory int) bool { return max(e.Number, e.Over) >= factory }

// modelState is state.json: what became of a model's releases.
type modelState struct {
	Highest   int     `json:"highest"`   // number that was ever verified and proven
	Serving   ID      `json:"serving"`   // the release that serves or is to; none: the factory release
	Confirmed []ID    `json:"confirmed"` // those to go back to, the last one last
	Releases  []Entry `json:"releases"`  // by number and revision
}

const (
	maxState     = 1 << 20
	maxEntries   = 200 // that are remembered of a model
	maxConfirmed = 10
)

// find is the entry of a release; nil: there is none.
func (m *modelState) find(id ID) *Entry {
	i, found := m.search(id)
	if !found {
		return nil
	}
	return &m.Releases[i]
}

func (m *modelState) search(id ID) (int, bool) {
	return slices.BinarySearchFunc(m.Releases, id, func(e Entry, id ID) int { return e.ID().Compare(id) })
}

func (m *modelState) put(e Entry) {
	if i, found := m.search(e.ID()); found {
		m.Releases[i] = e
	} else {
		m.Releases = slices.Insert(m.Releases, i, e)
	}
}

func (m *modelState) drop(id ID) {
	m.Releases = slices.DeleteFunc(m.Releases, func(e Entry) bool { return e.ID() == id })
	m.Confirmed = slices.DeleteFunc(m.Confirmed, func(c ID) bool { return c == id })
	if m.Serving == id {
		m.Serving = ID{}
	}
}

func (s *Store) statePath(name string) string {
	return filepath.Join(s.dir, "releases", name, "state.json")
}

// read returns a model's state, with those releases that a power cut kept from
// being noted in it.
func (s *Store) read(name string) (modelState, error) {
	path := s.statePath(name)
	m, decided := s.unnoted.get(name)
	if !decided {
		data, err := strict.ReadFile(path, maxState)
		if err == nil {
			err = m.parse(path, data)
			if err != nil {
				err = fmt.Errorf("%w\nremove the file to go on: the releases stay, what became of them is forgotten", err)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return modelState{}, fmt.Errorf("read the state of %s: %w", name, err)
		}
	}
	dirs, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return modelState{}, fmt.Errorf("list the releases of %s: %w", name, err)
	}
	for _, d := range dirs {
		id, err := ParseID(d.Name())
		if err != nil || !d.IsDir() {
			continue
		}
		if m.find(id) != nil {
			continue
		}
		e := Entry{Number: id.Number, Revision: id.Revision, State: Staged}
		if info, err := d.Info(); err == nil {
			e.Since = info.ModTime().UTC().Truncate(time.Second)
		}
		m.put(e)
	}
	return m, nil
}

func (m *modelState) parse(name string, data []byte) error {
	doc, err := strict.JSON(name, data, maxState)
	if err != nil {
		return err
	}
	var read modelState
	doc.Decode(&read)
	for i, e := range read.Releases {
		at := fmt.Sprintf("releases[%d]", i)
		between(doc, at+".number", e.Number, 1, MaxNumber)
		if !slices.Contains(states, e.State) {
			doc.Errorf(at+".state", "found %q, wanted a state", e.State)
		}
		if e.Revision < 0 || e.Revision > MaxRevision {
			doc.Errorf(at+".revision", "found %d, wanted 0 to %d", e.Revision, int64(MaxRevision))
		}
	}
	if err := doc.Err(); err != nil {
		return err
	}
	m.Highest, m.Serving, m.Confirmed = read.Highest, read.Serving, read.Confirmed
	for _, e := range read.Releases {
		m.put(e)
	}
	return nil
}

// change reads a model's state, has f change it, and writes it. An error of f's
// leaves it as it was; f tells by [errSame] that there is nothing to write.
func (s *Store) change(name string, f func(*modelState) error) error {
	return s.alter(name, f, s.save)
}

// alter is change with another way to write.
func (s *Store) alter(name string, f func(*modelState) error, write func(string, modelState) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.read(name)
	if err != nil {
		return err
	}
	if err := f(&m); errors.Is(err, errSame) {
		return nil
	} else if err != nil {
		return err
	}
	return write(name, m)
}

// save writes a model's state, as change and decide made it.
func (s *Store) save(name string, m modelState) error {
	m.forget(func(id ID) bool { return s.there(name, id) })
	if err := s.write(name, m); err != nil {
		return unwritable(s.dir, err) // which hint wouldn't see: the temporary file isn't named
	}
	s.unnoted.drop(name)
	return nil
}

var errSame = errors.New("nothing changed")

// forget bounds what is remembered: the oldest go of which nothing else is left.
func (m *modelState) forget(there func(ID) bool) {
	if n := len(m.Confirmed) - maxConfirmed; n > 0 {
		m.Confirmed = m.Confirmed[n:]
	}
	excess := len(m.Releases) - maxEntries
	m.Releases = slices.DeleteFunc(m.Releases, func(e Entry) bool {
		if excess <= 0 || e.State == Verified || e.ID() == m.Serving || slices.Contains(m.Confirmed, e.ID()) || there(e.ID()) {
			return false
		}
		excess--
		return true
	})
}

func (s *Store) write(name string, m modelState) error {
	if m.Confirmed == nil {
		m.Confirmed = []ID{}
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := s.makeDurable(filepath.Dir(s.statePath(name))); err != nil {
		return err
	}
	if err := durable.WriteFileOn(s.tree, s.statePath(name), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return adopt(s.dir, s.statePath(name))
}
