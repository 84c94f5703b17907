package release

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
)

// State is how far a release has come.
type State string

// The states of a release.
const (
	Received   State = "received"
	Verified   State = "verified"
	Staged     State = "staged" // in the store
	Built      State = "built"
	Proven     State = "proven"
	Serving    State = "serving"
	Confirmed  State = "confirmed"
	Rejected   State = "rejected"
	RolledBack State = "rolled back"
)

var states = []State{Received, Verified, Staged, Built, Proven, Serving, Confirmed, Rejected, RolledBack}

func (s State) servable() bool { return s != Rejected && s != RolledBack }

// Entry is what became of a release.
type Entry struct {
	Number  int       `json:"number"`
	State   State     `json:"state"`
	Code    Code      `json:"code"`   // empty, or why it was rejected or rolled back
	Reason  string    `json:"reason"` // the same for people
	Since   time.Time `json:"since,omitzero"`
	Factory bool      `json:"factory,omitempty"` // named by the configuration, in no store
}

// modelState is state.json: what became of a model's releases.
type modelState struct {
	Highest  int     `json:"highest"` // number that was ever installed
	Releases []Entry `json:"releases"`
}

const maxState = 1 << 20

func (m *modelState) put(e Entry) {
	m.Highest = max(m.Highest, e.Number)
	i, found := slices.BinarySearchFunc(m.Releases, e.Number, func(a Entry, n int) int { return cmp.Compare(a.Number, n) })
	if found {
		m.Releases[i] = e
	} else {
		m.Releases = slices.Insert(m.Releases, i, e)
	}
}

func (s *Store) statePath(name string) string {
	return filepath.Join(s.dir, "releases", name, "state.json")
}

// read returns a model's state, with those releases that a power cut kept from
// being noted in it.
func (s *Store) read(name string) (modelState, error) {
	var m modelState
	path := s.statePath(name)
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
	dirs, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return modelState{}, fmt.Errorf("list the releases of %s: %w", name, err)
	}
	for _, d := range dirs {
		number, err := strconv.Atoi(d.Name())
		if err != nil || !d.IsDir() || number < 1 || number > MaxNumber {
			continue
		}
		if !slices.ContainsFunc(m.Releases, func(e Entry) bool { return e.Number == number }) {
			e := Entry{Number: number, State: Staged}
			if info, err := d.Info(); err == nil {
				e.Since = info.ModTime().UTC().Truncate(time.Second)
			}
			m.put(e)
		}
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
	}
	if err := doc.Err(); err != nil {
		return err
	}
	for _, e := range read.Releases {
		m.put(e)
	}
	m.Highest = max(m.Highest, read.Highest)
	return nil
}

func (s *Store) write(name string, m modelState) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(s.statePath(name), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return adopt(s.dir, s.statePath(name))
}

// Status is what `release status` shows.
type Status struct {
	Models []ModelStatus `json:"models"`
}

// ModelStatus is a model and its releases, by number.
type ModelStatus struct {
	Name      string  `json:"name"`
	Serving   int     `json:"serving"`   // number of the release that serves, or would in a stopped daemon; 0: none
	Confirmed int     `json:"confirmed"` // number of the last confirmed release; 0: none
	Releases  []Entry `json:"releases"`
}

// Status tells what is in the store, and what of it a daemon would serve. The
// factory releases' numbers are given by the models' names, 0 for a model
// without one.
func (s *Store) Status(factories map[string]int) (*Status, error) {
	names, err := s.Names()
	if err != nil {
		return nil, err
	}
	for name := range factories {
		names = append(names, name)
	}
	slices.Sort(names)
	status := &Status{Models: []ModelStatus{}}
	for _, name := range slices.Compact(names) {
		m, err := s.modelStatus(name, factories[name])
		if err != nil {
			return nil, err
		}
		status.Models = append(status.Models, m)
	}
	return status, nil
}

func (s *Store) modelStatus(name string, factory int) (ModelStatus, error) {
	entries, err := s.List(name)
	if err != nil {
		return ModelStatus{}, err
	}
	serving, err := s.Serving(name)
	if err != nil {
		return ModelStatus{}, err
	}
	m := ModelStatus{Name: name, Serving: factory, Confirmed: factory, Releases: []Entry{}}
	if len(serving) > 0 {
		m.Serving = max(m.Serving, serving[0].Number)
	}
	for _, e := range entries {
		if e.State == Confirmed {
			m.Confirmed = max(m.Confirmed, e.Number)
		}
	}
	if factory > 0 {
		entries = append(slices.Clone(entries), Entry{Number: factory, State: Confirmed, Factory: true})
		slices.SortStableFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Number, b.Number) })
	}
	m.Releases = append(m.Releases, entries...)
	return m, nil
}
