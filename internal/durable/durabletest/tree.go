package durabletest

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/internal/durable"
)

// Left is what a power cut leaves of that which was not synced.
type Left struct{ Names, Contents bool }

// Lefts are all kinds of it. A journal may have been written just before the cut, or
// not, and contents before the names that lead to them, or after.
var Lefts = map[string]Left{
	"nothing that wasn't synced": {}, "names alone": {Names: true}, "contents alone": {Contents: true}, "everything": {true, true},
}

// Tree is a [durable.Tree] on a real directory, so that it may be read as usual, that
// remembers what was synced. What is written past it counts as not synced; what lay in
// the directory when it was made is durable. It may be used from several goroutines.
type Tree struct {
	// Fail is that of [FS], before mkdir too. It may have the power cut.
	Fail func(op, path string) error

	dir  string
	mu   sync.Mutex
	data map[node][]byte          // of files, as they were synced
	dirs map[node]map[string]node // names in directories, likewise
	held map[node]int             // open descriptors, lest a number is given to another file
}

// node is a file's or directory's number.
type node struct {
	dev, ino uint64
	dir      bool
}

var _ durable.Tree = (*Tree)(nil)

// NewTree is a tree on a directory.
func NewTree(t testing.TB, dir string) *Tree {
	t.Helper()
	f := &Tree{dir: dir, data: map[node][]byte{}, dirs: map[node]map[string]node{}, held: map[node]int{}}
	t.Cleanup(func() {
		for _, fd := range f.held {
			unix.Close(fd)
		}
	})
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return f.noteDir(path)
		}
		return f.noteFile(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// hold finds out which file it is that has a path.
func (f *Tree) hold(path string) (node, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return node{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	n := node{uint64(st.Dev), st.Ino, st.Mode&unix.S_IFMT == unix.S_IFDIR}
	if _, held := f.held[n]; held {
		return n, nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return node{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f.held[n] = fd
	return n, nil
}

func (f *Tree) noteFile(path string) error {
	n, err := f.hold(path)
	if err != nil {
		return err
	}
	f.data[n], err = os.ReadFile(path)
	return err
}

func (f *Tree) noteDir(path string) error {
	n, err := f.hold(path)
	if err != nil {
		return err
	}
	names, err := f.list(path)
	f.dirs[n] = names
	return err
}

func (f *Tree) list(path string) (map[string]node, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	names := map[string]node{}
	for _, e := range entries {
		if names[e.Name()], err = f.hold(filepath.Join(path, e.Name())); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// PowerCut is what is found after a power cut that happens now: the contents of files
// by their paths below the directory, and directories, whose paths end with a slash.
// The tree isn't changed.
func (f *Tree) PowerCut(left Left) (map[string]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	root, err := f.hold(f.dir)
	if err != nil {
		return nil, err
	}
	// Where things are now, of those that still are anywhere.
	at := map[node]string{}
	err = filepath.WalkDir(f.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n, err := f.hold(path)
		at[n] = path
		return err
	})
	found := map[string]string{}
	if err == nil {
		err = f.find(root, "", left, at, found)
	}
	return found, err
}

func (f *Tree) find(n node, to string, left Left, at map[node]string, found map[string]string) error {
	path, there := at[n]
	if !n.dir {
		data := f.data[n]
		if left.Contents && there {
			var err error
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		found[to] = string(data)
		return nil
	}
	found[to+"/"] = ""
	names := f.dirs[n]
	if left.Names && there {
		var err error
		if names, err = f.list(path); err != nil {
			return err
		}
	}
	for name, n := range names {
		if err := f.find(n, filepath.Join(to, name), left, at, found); err != nil {
			return err
		}
	}
	return nil
}

// Write makes what a power cut has left in a directory that isn't there yet.
func Write(dir string, found map[string]string) error {
	for _, path := range slices.Sorted(maps.Keys(found)) { // a directory before what is in it
		at := filepath.Join(dir, path)
		err := os.MkdirAll(filepath.Dir(at), 0o755)
		if err == nil && strings.HasSuffix(path, "/") {
			err = os.MkdirAll(at, 0o755)
		} else if err == nil {
			err = os.WriteFile(at, []byte(found[path]), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// do runs an operation unless Fail has an error for it.
func (f *Tree) do(op, path string, run func() error) error {
	if f.Fail != nil {
		if err := f.Fail(op, path); err != nil {
			return &fs.PathError{Op: op, Path: path, Err: err}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return run()
}

// Create implements [durable.FS].
func (f *Tree) Create(path string, perm os.FileMode) (file durable.File, err error) {
	err = f.do("create", path, func() error {
		made, err := durable.Disk{}.Create(path, perm)
		file = &treeFile{made, f, path}
		return err
	})
	return file, err
}

// Rename implements [durable.FS].
func (f *Tree) Rename(oldPath, newPath string) error {
	return f.do("rename", oldPath, func() error { return os.Rename(oldPath, newPath) })
}

// Remove implements [durable.FS].
func (f *Tree) Remove(path string) error {
	return f.do("remove", path, func() error { return os.Remove(path) })
}

// SyncDir implements [durable.FS].
func (f *Tree) SyncDir(dir string) error {
	return f.do("syncdir", dir, func() error { return f.noteDir(dir) })
}

// Mkdir implements [durable.Tree].
func (f *Tree) Mkdir(path string, perm os.FileMode) error {
	return f.do("mkdir", path, func() error { return os.Mkdir(path, perm) })
}

// MkdirTemp implements [durable.Tree].
func (f *Tree) MkdirTemp(dir, pattern string) (temp string, err error) {
	err = f.do("mkdir", filepath.Join(dir, pattern), func() error {
		temp, err = os.MkdirTemp(dir, pattern)
		return err
	})
	return temp, err
}

// RemoveAll implements [durable.Tree]. It may be cut short after each of the names that
// it removes.
func (f *Tree) RemoveAll(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if err := f.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return f.Remove(path)
}

// SyncFile implements [durable.Tree].
func (f *Tree) SyncFile(path string) error {
	return f.do("sync", path, func() error { return f.noteFile(path) })
}

type treeFile struct {
	durable.File
	tree *Tree
	path string
}

func (f *treeFile) Write(b []byte) (n int, err error) {
	err = f.tree.do("write", f.path, func() error { n, err = f.File.Write(b); return err })
	return n, err
}

func (f *treeFile) Sync() error { return f.tree.SyncFile(f.path) }

func (f *treeFile) Close() error {
	closed := f.File.Close()
	return errors.Join(f.tree.do("close", f.path, func() error { return nil }), closed)
}
