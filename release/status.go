package release

import (
	"cmp"
	"errors"
	"slices"
)

// Status is what `release status` shows.
type Status struct {
	Models []ModelStatus `json:"models"`
}

// ModelStatus is a model and its releases, by number.
type ModelStatus struct {
	Name      string  `json:"name"`
	Serving   int     `json:"serving"`                      // number of the release that serves, or would in a stopped daemon; 0: none
	Revision  int64   `json:"serving_revision,omitempty"`   // its revision
	Confirmed int     `json:"confirmed"`                    // number of the last confirmed release; 0: none
	Revised   int64   `json:"confirmed_revision,omitempty"` // its revision
	Error     string  `json:"error,omitempty"`              // why nothing is known of its releases; empty: it is
	Releases  []Entry `json:"releases"`
}

// Damaged is the error of the models of which nothing is known; nil: there are none.
func (s *Status) Damaged() error {
	var all []error
	for i := range s.Models {
		all = append(all, s.Models[i].Err())
	}
	return errors.Join(all...)
}

// Err is why nothing is known of the model's releases; nil: it is.
func (m *ModelStatus) Err() error {
	if m.Error == "" {
		return nil
	}
	return errors.New(m.Error)
}

// Status tells what is in the store, and what of it a daemon would serve. The
// factory releases' numbers are given by the models' names, 0 for a model
// without one. A model whose state can't be read is among them with its Error.
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
		if err != nil { // the others are none the worse for it
			m = ModelStatus{Name: name, Serving: factories[name], Confirmed: factories[name], Error: err.Error(), Releases: []Entry{}}
		}
		status.Models = append(status.Models, m)
	}
	return status, nil
}

func (s *Store) modelStatus(name string, factory int) (ModelStatus, error) {
	state, err := s.read(name)
	if err != nil {
		return ModelStatus{}, err
	}
	m := ModelStatus{Name: name, Releases: []Entry{}}
	m.Serving, m.Confirmed = factory, factory
	if serve := s.plan(name, state, factory).Serve; len(serve) > 0 && !serve[0].Factory {
		m.Serving, m.Revision = serve[0].Number, serve[0].Revision
	}
	if back := s.backs(name, state, factory); len(back) > 0 && !back[0].Factory {
		m.Confirmed, m.Revised = back[0].Number, back[0].Revision
	}
	entries := slices.Clone(state.Releases)
	for i := range entries {
		entries[i].Gone = entries[i].State != Verified && !s.there(name, entries[i].ID())
	}
	if factory > 0 {
		entries = append(entries, Entry{Number: factory, State: Confirmed, Factory: true})
		slices.SortStableFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Number, b.Number) })
	}
	m.Releases = append(m.Releases, entries...)
	return m, nil
}

// ServingID is the release that serves; the zero ID: none.
func (m *ModelStatus) ServingID() ID { return ID{m.Serving, m.Revision} }
