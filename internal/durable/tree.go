package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Tree is what durable writing needs of a file system where whole directories are put
// together, renamed and removed.
type Tree interface {
	FS
	Mkdir(path string, perm os.FileMode) error
	// MkdirTemp makes a directory with a new name, as [os.MkdirTemp] does.
	MkdirTemp(dir, pattern string) (string, error)
	RemoveAll(path string) error
	// SyncFile makes a file's content durable that somebody else has written.
	SyncFile(path string) error
}

// MkdirAll makes a directory and those above it that are missing, each made durable.
func MkdirAll(path string, perm os.FileMode) error { return MkdirAllOn(Disk{}, path, perm) }

// MkdirAllOn is [MkdirAll] on another file system.
func MkdirAllOn(t Tree, path string, perm os.FileMode) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	above := filepath.Dir(path)
	if above != path {
		if err := MkdirAllOn(t, above, perm); err != nil {
			return err
		}
	}
	if err := t.Mkdir(path, perm); err != nil {
		if info, statErr := os.Stat(path); errors.Is(err, fs.ErrExist) && statErr == nil && info.IsDir() {
			return nil
		}
		return err
	}
	return t.SyncDir(above)
}

// Mkdir implements [Tree].
func (Disk) Mkdir(path string, perm os.FileMode) error { return os.Mkdir(path, perm) }

// MkdirTemp implements [Tree].
func (Disk) MkdirTemp(dir, pattern string) (string, error) { return os.MkdirTemp(dir, pattern) }

// RemoveAll implements [Tree].
func (Disk) RemoveAll(path string) error { return os.RemoveAll(path) }

// SyncFile implements [Tree].
func (Disk) SyncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
