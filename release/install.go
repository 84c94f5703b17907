package release

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Options are what an install is told beside the policy.
type Options struct {
	Factory int  // number of the model's factory release; 0: none
	Hold    bool // the release waits for [Store.Activate]
	Asked   bool // by somebody, not by a drop that lies there: what was removed meanwhile may come again

	// Contents are the files of the factory release, which a drop may leave out; see
	// [Release.Contents]. It is called when they are needed; nil: none.
	Contents func() (map[FileInfo]string, error)
}

// Install puts a release into the store, where it is staged: whoever serves the
// model takes it from there. It is refused, with a [Rejection] and nothing changed,
// unless the policy admits it, its parts fit each other, and it is new: its number
// is above that of the factory release and of every one that was proven, or its
// manifest says allow_downgrade, and no other release was installed with it. Where this
// very release is in the store, the error is an [*Installed], and where the disk has no
// room for it a [*NoRoom]. A release that the store has received is used up.
func (s *Store) Install(r *Release, p Policy, o Options) (*Entry, error) {
	entry, err := s.install(r, p, o)
	if err != nil && r.temp != "" {
		err = unplaced{err, r.dir, r.from}
	}
	return entry, err
}

func (s *Store) install(r *Release, p Policy, o Options) (*Entry, error) {
	if err := p.Admit(r); err != nil {
		return nil, err
	}
	name, id := r.Spec.Name, r.ID()
	m, err := s.read(name)
	if err != nil {
		return nil, err
	}
	manifest, err := r.manifestHash()
	if err != nil {
		return nil, err
	}
	if err := s.isNew(name, m, r.Spec, id, manifest, o); err != nil {
		return nil, err
	}
	if _, err := r.Check(""); err != nil {
		return nil, err
	}
	if r.room == nil {
		c, err := s.claim(r.manifest.bytes())
		if err != nil {
			return nil, s.hint(err)
		}
		defer c.end()
	}
	entry := Entry{Number: id.Number, Revision: id.Revision, State: Verified, Since: now(), Held: o.Hold, Manifest: manifest, Signers: r.signers}
	if r.Spec.AllowDowngrade {
		entry.Over = o.Factory
	}
	if err := s.place(r, &entry); err != nil {
		// Nothing has taken notice of it yet, so it can go again.
		return nil, errors.Join(s.hint(err), s.discard(name, id), s.unnote(name, id))
	}
	return &entry, nil
}

// place brings a release to its place and notes it. A release without a note is
// staged, so one that is to be more is noted before, lest a power cut between
// the two forget that.
func (s *Store) place(r *Release, e *Entry) error {
	if e.Held || e.Over > 0 || e.Signers != nil {
		if err := s.note(r.Spec.Name, *e); err != nil {
			return err
		}
	}
	if err := s.add(r); err != nil {
		return err
	}
	e.State = Staged
	return s.note(r.Spec.Name, *e)
}

// isNew refuses a release that was there before, or that comes too late.
func (s *Store) isNew(name string, m modelState, spec Spec, id ID, manifest string, o Options) error {
	there := s.there(name, id)
	if known := m.find(id); known != nil && (there || known.State != Verified) {
		was := known.Manifest
		if was == "" && there { // the note of it was lost
			if b, err := os.ReadFile(filepath.Join(s.path(name, id), ManifestName)); err == nil {
				was = hashOf(b)
			}
		}
		switch {
		case was != manifest:
			return rejectf(NotNewer, "release %s of %s isn't newer: another one was installed with this number before (it is %s): give it a higher number", id, name, known.State)
		case there || !o.Asked:
			return &Installed{name, *known}
		}
		return nil // the same one, of which only the note was left
	}
	if id.Revision > 0 || spec.AllowDowngrade {
		return nil
	}
	if id.Number <= m.Highest {
		return rejectf(NotNewer, "release %s of %s isn't newer than %d, the highest that was proven here: give it a higher number, or allow_downgrade: true", id, name, m.Highest)
	}
	if id.Number <= o.Factory {
		return rejectf(NotNewer, "release %s of %s isn't newer than %d, the factory release: give it a higher number, or allow_downgrade: true", id, name, o.Factory)
	}
	return nil
}

// manifestHash is the SHA-256 of the release's manifest.json.
func (r *Release) manifestHash() (string, error) {
	if _, err := r.Manifest(); err != nil {
		return "", err
	}
	return hashOf(r.raw), nil
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// note puts an entry into a model's state.json.
func (s *Store) note(name string, e Entry) error {
	return s.change(name, func(m *modelState) error {
		m.put(e)
		return nil
	})
}

// unnote takes it out again.
func (s *Store) unnote(name string, id ID) error {
	err := s.change(name, func(m *modelState) error {
		if m.find(id) == nil {
			return errSame
		}
		m.drop(id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget release %s of %s: %w", id, name, err)
	}
	return nil
}
