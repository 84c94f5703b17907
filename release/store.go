package release

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

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
	return &Store{dir: stateDir}, nil
}

// Clean removes what an interrupted install left in staging.
func (s *Store) Clean() error {
	entries, err := os.ReadDir(s.staging())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.staging(), e.Name())))
	}
	return err
}

// Open is [Open], except that archives are unpacked in the store's staging,
// where there is room for them.
func (s *Store) Open(path string) (*Release, error) {
	if err := s.makeStaging(); err != nil {
		return nil, s.hint(err)
	}
	r, err := open(path, s.staging(), false)
	return r, s.hint(err)
}

// OpenArchive is [OpenArchive] in the store's staging.
func (s *Store) OpenArchive(name string, from io.Reader) (*Release, error) {
	if err := s.makeStaging(); err != nil {
		return nil, s.hint(err)
	}
	r, err := OpenArchive(name, from, s.staging())
	return r, s.hint(err)
}

// Install puts a release into the store, where it is staged: whoever serves
// the model takes it from there. It is refused, with a [Rejection] and nothing
// changed, unless the policy admits it, its number is above every one that was
// installed before and above that of the factory release (0: none), and its
// parts fit each other.
func (s *Store) Install(r *Release, p Policy, factory int) (*Entry, error) {
	entry, err := s.install(r, p, factory)
	if err != nil && r.temp != "" {
		err = unplaced{err, r.dir, r.from}
	}
	return entry, err
}

func (s *Store) install(r *Release, p Policy, factory int) (*Entry, error) {
	if err := p.Admit(r); err != nil {
		return nil, err
	}
	name, number := r.Spec.Name, r.Spec.Release
	state, err := s.read(name)
	if err != nil {
		return nil, err
	}
	if number <= state.Highest {
		return nil, rejectf(NotNewer, "release %d of %s isn't newer than %d, the highest that was installed: give it a higher number", number, name, state.Highest)
	}
	if number <= factory {
		return nil, rejectf(NotNewer, "release %d of %s isn't newer than %d, the factory release: give it a higher number", number, name, factory)
	}
	if _, err := r.Check(""); err != nil {
		return nil, err
	}
	if err := s.add(r); err != nil {
		return nil, s.hint(err)
	}
	entry := Entry{Number: number, State: Staged, Since: now()}
	if err := s.note(name, entry); err != nil {
		// Nothing has taken notice of it yet, so it can go again.
		return nil, errors.Join(s.hint(err), os.RemoveAll(s.path(name, number)))
	}
	return &entry, nil
}

// add copies the release to its place.
func (s *Store) add(r *Release) error {
	if err := s.makeStaging(); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(s.staging(), "install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := r.copyTo(temp); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	at := s.path(r.Spec.Name, r.Spec.Release)
	if err := s.makeDurable(filepath.Dir(at)); err != nil {
		return err
	}
	if err := adopt(s.dir, temp); err != nil {
		return err
	}
	return durable.Rename(temp, at)
}

func (s *Store) makeStaging() error {
	if err := os.MkdirAll(s.staging(), 0o755); err != nil {
		return err
	}
	return adopt(s.dir, s.staging())
}

// makeDurable makes a directory and those above it, each synced in its parent.
func (s *Store) makeDurable(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := s.makeDurable(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := adopt(s.dir, dir); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
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

// Serving are the releases of a model that may serve, best first: the installed
// ones that were not rejected or rolled back, newest first. The factory release
// comes after them, unless its number is higher.
func (s *Store) Serving(name string) ([]Entry, error) {
	all, err := s.List(name)
	if err != nil {
		return nil, err
	}
	may := slices.DeleteFunc(slices.Clone(all), func(e Entry) bool {
		_, gone := os.Stat(s.path(name, e.Number))
		return !e.State.servable() || gone != nil
	})
	slices.SortFunc(may, func(a, b Entry) int { return cmp.Compare(b.Number, a.Number) })
	return may, nil
}

// Get opens an installed release; its files are compared with its manifest.
func (s *Store) Get(name string, number int) (*Release, error) {
	return Open(s.path(name, number))
}

// SetState notes what became of an installed release.
func (s *Store) SetState(name string, number int, state State, code Code, reason string) error {
	all, err := s.read(name)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all.Releases, func(e Entry) bool { return e.Number == number }) {
		return fmt.Errorf("release %d of %s is not installed", number, name)
	}
	return s.hint(s.note(name, Entry{Number: number, State: state, Code: code, Reason: reason, Since: now()}))
}

// note puts an entry into a model's state.json.
func (s *Store) note(name string, e Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.read(name)
	if err != nil {
		return err
	}
	all.put(e)
	return s.write(name, all)
}

func (s *Store) staging() string { return filepath.Join(s.dir, "staging") }

func (s *Store) path(name string, number int) string {
	return filepath.Join(s.dir, "releases", name, strconv.Itoa(number))
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
