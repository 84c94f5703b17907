// Package durabletest has a file system in memory that forgets, at a power cut,
// whatever was not synced.
package durabletest

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/sightd/sightd/internal/durable"
)

// FS is a [durable.FS]. Directories needn't be made: each path has its parent.
// The zero value is empty and ready; it may be used from several goroutines.
type FS struct {
	// Fail, where set, is asked before every operation (create, write, sync,
	// close, rename, remove, syncdir): its error is the operation's, which then
	// does nothing.
	Fail func(op, path string) error

	mu    sync.Mutex
	names map[string]*inode // as programs see them
	disk  map[string]*inode // as a power cut leaves them
}

// inode is a file's content; names point to it, so a rename moves no data.
type inode struct {
	data, synced []byte
}

var _ durable.FS = (*FS)(nil)

// Put places a file that is wholly durable.
func (f *FS) Put(path string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.init()
	n := &inode{data: data, synced: data}
	path = filepath.Clean(path)
	f.names[path], f.disk[path] = n, n
}

// Files is what programs find now, by path.
func (f *FS) Files() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	files := make(map[string]string, len(f.names))
	for path, n := range f.names {
		files[path] = string(n.data)
	}
	return files
}

// PowerCut is what is found after a power cut that happens now. Data that was
// not synced is gone. Names that were not synced are gone as well, or, where
// namesSurvive, there: a journal may have been written just before. The FS
// itself isn't changed.
func (f *FS) PowerCut(namesSurvive bool) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := f.disk
	if namesSurvive {
		left = f.names
	}
	after := &FS{}
	for path, n := range left {
		after.Put(path, n.synced)
	}
	return after
}

func (f *FS) init() {
	if f.names == nil {
		f.names, f.disk = map[string]*inode{}, map[string]*inode{}
	}
}

// do runs an operation unless Fail has an error for it.
func (f *FS) do(op, path string, run func() error) error {
	if f.Fail != nil {
		if err := f.Fail(op, path); err != nil {
			return &fs.PathError{Op: op, Path: path, Err: err}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.init()
	return run()
}

func (f *FS) Create(path string, _ os.FileMode) (durable.File, error) {
	path = filepath.Clean(path)
	n := &inode{}
	err := f.do("create", path, func() error {
		if _, there := f.names[path]; there {
			return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
		f.names[path] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &file{fs: f, path: path, inode: n}, nil
}

func (f *FS) Rename(oldPath, newPath string) error {
	oldPath, newPath = filepath.Clean(oldPath), filepath.Clean(newPath)
	return f.do("rename", oldPath, func() error {
		n, there := f.names[oldPath]
		if !there {
			return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: fs.ErrNotExist}
		}
		delete(f.names, oldPath)
		f.names[newPath] = n
		return nil
	})
}

func (f *FS) Remove(path string) error {
	path = filepath.Clean(path)
	return f.do("remove", path, func() error {
		if _, there := f.names[path]; !there {
			return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
		}
		delete(f.names, path)
		return nil
	})
}

func (f *FS) SyncDir(dir string) error {
	dir = filepath.Clean(dir)
	return f.do("syncdir", dir, func() error {
		inDir := func(path string, _ *inode) bool { return filepath.Dir(path) == dir }
		maps.DeleteFunc(f.disk, inDir)
		for path, n := range f.names {
			if inDir(path, n) {
				f.disk[path] = n
			}
		}
		return nil
	})
}

type file struct {
	fs   *FS
	path string
	*inode
}

func (f *file) Write(p []byte) (n int, err error) {
	err = f.fs.do("write", f.path, func() error {
		f.data = append(f.data[:len(f.data):len(f.data)], p...)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *file) Sync() error {
	return f.fs.do("sync", f.path, func() error { f.synced = f.data; return nil })
}

func (f *file) Close() error {
	return f.fs.do("close", f.path, func() error { return nil })
}
