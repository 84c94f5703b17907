package release

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/internal/durable"
)

// Store keeps the releases of a device in its state directory, as
// releases/NAME/NUMBER/, with what became of each in releases/NAME/state.json.
// A release is put together in staging/, synced, and renamed in, so it is there
// as a whole or not at all, also after a power cut.
//
// Who changes the store holds the directory's [Lock]; reading needs none. The
// methods may be called by several goroutines, but one Install at a time.
type Store struct {
	dir string
	mu  sync.Mutex // from reading a state.json to writing it

	tree durable.Tree // that is written to
	sure sync.Map     // directories whose names are known to be durable

	unnoted unnoted

	claims struct { // room that is promised
		mu sync.Mutex
		n  int64
	}
	statfs func(path string, st *unix.Statfs_t) error // nil: the system's
}

// OpenStore opens the store of a state directory, which may not be there yet.
func OpenStore(stateDir string) (*Store, error) {
	info, err := os.Stat(stateDir)
	if err == nil && !info.IsDir() {
		return nil, fmt.Errorf("state_dir %s is a file, wanted a directory", stateDir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	return &Store{tree: durable.Disk{}, dir: stateDir}, nil
}

// Clean removes what an interrupted install left in staging.
func (s *Store) Clean() error {
	entries, err := os.ReadDir(s.staging())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, s.tree.RemoveAll(filepath.Join(s.staging(), e.Name())))
	}
	return err
}

// Open is [Open], except that archives are unpacked in the store's staging,
// where there is room for them.
func (s *Store) Open(path string) (*Release, error) {
	if err := s.makeStaging(); err != nil {
		return nil, s.hint(err)
	}
	if f := openArchiveFile(path); f != nil {
		defer f.Close()
		r, err := s.OpenArchive(path, f)
		if err == nil {
			r.room.end() // all of it is written, and it may stay open for long
		}
		return r, err
	}
	r, err := open(path, s.staging(), false)
	return r, s.hint(err)
}

// OpenArchive is [OpenArchive] in the store's staging, as far as there is room: a
// [NoRoom] says where there is none. Install moves the files from there.
func (s *Store) OpenArchive(name string, from io.Reader) (*Release, error) {
	if err := s.makeStaging(); err != nil {
		return nil, s.hint(err)
	}
	c := &claim{s: s}
	r, err := openArchive(name, from, s.staging(), c.grow)
	if err != nil {
		c.end()
		return nil, s.hint(err)
	}
	r.room, r.received = c, true
	return r, nil
}

// add copies the release to its place.
func (s *Store) add(r *Release) error {
	if err := s.makeStaging(); err != nil {
		return err
	}
	temp, err := s.tree.MkdirTemp(s.staging(), "install-")
	if err != nil {
		return err
	}
	defer s.tree.RemoveAll(temp)
	if r.received {
		err = r.moveTo(s.tree, temp)
	} else {
		err = r.copyTo(s.tree, temp)
	}
	if err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	at := s.path(r.Spec.Name, r.ID())
	if err := s.makeDurable(filepath.Dir(at)); err != nil {
		return err
	}
	if err := adopt(s.dir, temp); err != nil {
		return err
	}
	return durable.RenameOn(s.tree, temp, at)
}

func (s *Store) makeStaging() error {
	if err := os.MkdirAll(s.staging(), 0o755); err != nil {
		return err
	}
	return adopt(s.dir, s.staging())
}

// makeDurable makes a directory below the state directory and those above it, each
// synced in its parent: also those that somebody else has made.
func (s *Store) makeDurable(dir string) error {
	if _, sure := s.sure.Load(dir); sure {
		if _, err := os.Stat(dir); err == nil {
			return nil
		}
	}
	if dir == s.dir {
		err := durable.MkdirAllOn(s.tree, dir, 0o755)
		if err == nil { // it may have been made by somebody who didn't sync it
			err = s.tree.SyncDir(filepath.Dir(dir))
		}
		if err == nil || errors.Is(err, fs.ErrPermission) { // where not even reading is allowed
			s.sure.Store(dir, true)
			return nil
		}
		return err
	}
	if err := s.makeDurable(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := s.tree.Mkdir(dir, 0o755); err == nil {
		err = adopt(s.dir, dir)
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.tree.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	s.sure.Store(dir, true)
	return nil
}

// hint adds the way out to errors of the state directory's disk. Those of what a
// release is read from aren't.
func (s *Store) hint(err error) error {
	var system *fs.PathError
	if err == nil || CodeOf(err) != "" || !errors.As(err, &system) || !s.holds(system.Path) {
		return err
	}
	return unwritable(s.dir, err)
}

// holds is whether a path lies in the state directory.
func (s *Store) holds(path string) bool {
	path, err := filepath.Abs(path)
	dir, dirErr := filepath.Abs(s.dir)
	return err == nil && dirErr == nil && (path == dir || strings.HasPrefix(path, dir+string(filepath.Separator)))
}

// Names are the models that releases were installed of.
func (s *Store) Names() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "releases"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the releases: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && CheckName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// List returns what became of a model's releases, by number.
func (s *Store) List(name string) ([]Entry, error) {
	state, err := s.read(name)
	return state.Releases, err
}

// Get opens an installed release; its files are compared with its manifest.
func (s *Store) Get(name string, id ID) (*Release, error) {
	return Open(s.path(name, id))
}

// Remove removes a release and forgets it, unless it serves or is the one that a
// roll-back would go to.
func (s *Store) Remove(name string, id ID, factory int) error {
	return s.with(name, id, func(m *modelState, e *Entry) error {
		if e.Code == Removed && !s.there(name, id) {
			return fmt.Errorf("release %s of %s is not installed any more", id, name)
		}
		if id == m.Serving {
			return fmt.Errorf("release %s of %s serves: roll it back before", id, name)
		}
		if back := s.backs(name, *m, factory); len(back) > 0 && !back[0].Factory && back[0].ID() == id {
			return fmt.Errorf("release %s of %s is the last confirmed one, to which a roll-back goes: it stays", id, name)
		}
		if err := s.discard(name, id); err != nil {
			return s.hint(err)
		}
		// What became of it stays known, so that a drop of it that still lies there isn't
		// new, and the very same one may be installed again.
		e.State, e.Code, e.Reason, e.Since = removedFrom(e.State), Removed, "removed by hand", now()
		e.Held, e.Asked, e.Trial = false, false, ""
		m.Confirmed = slices.DeleteFunc(m.Confirmed, func(c ID) bool { return c == id })
		return nil
	})
}

// removedFrom is the state of a removed release: what came to an end keeps its.
func removedFrom(s State) State {
	if s.pending() || s == Serving {
		return Rejected
	}
	return s
}

// discard removes a release's files, at once also for who is looking.
func (s *Store) discard(name string, id ID) error {
	at := s.path(name, id)
	if _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := s.makeStaging(); err != nil {
		return err
	}
	temp, err := s.tree.MkdirTemp(s.staging(), "discard-")
	if err != nil {
		return err
	}
	if err := durable.RenameOn(s.tree, at, filepath.Join(temp, "release")); err != nil {
		// Where it was renamed and that may not last, none of its files is to be missing
		// when it is back: Clean removes them.
		_ = s.tree.Remove(temp)
		return err
	}
	return s.tree.RemoveAll(temp)
}

func (s *Store) staging() string { return filepath.Join(s.dir, "staging") }

func (s *Store) path(name string, id ID) string {
	return filepath.Join(s.dir, "releases", name, id.String())
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
