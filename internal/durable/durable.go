// Package durable writes and renames files so that a power cut leaves either
// the old content or the new one, and what was reported done stays done.
//
// A kill of the process alone doesn't show a missing sync, so the functions
// work on a small [FS], whose double in durabletest loses whatever was not
// synced at a simulated power cut.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// FS is what durable writing needs of a file system.
type FS interface {
	// Create makes a new file, and fails with [fs.ErrExist] where there is one.
	Create(path string, perm os.FileMode) (File, error)
	Rename(oldPath, newPath string) error
	Remove(path string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
}

// File is a new file that is being written.
type File interface {
	io.WriteCloser
	Sync() error
}

// WriteFile replaces the file at path by data, atomically: whoever opens path,
// before or after a power cut, finds the old file or the whole new one. After
// an error other than the directory's sync the old one is still there, and no
// temporary file is left; after nil the new one survives a power cut. The new
// file has the permissions perm before umask; a symbolic link at path is
// replaced, not followed.
func WriteFile(path string, data []byte, perm os.FileMode) error {
	return WriteFileOn(Disk{}, path, data, perm)
}

// Rename renames a file or directory, replacing a file at newPath, and makes
// that durable. What the file holds must have been synced by whoever wrote it.
func Rename(oldPath, newPath string) error {
	return RenameOn(Disk{}, oldPath, newPath)
}

// SyncDir makes the names in a directory durable: of files created, renamed
// and removed there.
func SyncDir(dir string) error {
	return Disk{}.SyncDir(dir)
}

// WriteFileOn is [WriteFile] on another file system.
func WriteFileOn(fsys FS, path string, data []byte, perm os.FileMode) error {
	temp, err := writeTemp(fsys, path, data, perm)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, reason(err))
	}
	if err := fsys.Rename(temp, path); err != nil {
		fsys.Remove(temp)
		return fmt.Errorf("write %s: %w", path, reason(err))
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write %s: written, but it may not survive a power cut: %w", path, err)
	}
	return nil
}

// RenameOn is [Rename] on another file system.
func RenameOn(fsys FS, oldPath, newPath string) error {
	if err := fsys.Rename(oldPath, newPath); err != nil {
		return err
	}
	// The new name first: between the two syncs a power cut may leave both
	// names, but never none.
	oldDir, newDir := filepath.Dir(oldPath), filepath.Dir(newPath)
	if err := fsys.SyncDir(newDir); err != nil {
		return err
	}
	if oldDir == newDir {
		return nil
	}
	return fsys.SyncDir(oldDir)
}

const tempMark = ".sightd-tmp-"

// IsTemp tells whether a file name is one that [WriteFile] uses while it
// writes. Outside of a WriteFile it is what a power cut left, and may go.
func IsTemp(name string) bool {
	name = filepath.Base(name)
	return strings.HasPrefix(name, ".") && strings.Contains(name, tempMark)
}

// writeTemp writes data to a new file beside path, synced and closed, and
// returns its path. It leaves nothing behind where it fails.
func writeTemp(fsys FS, path string, data []byte, perm os.FileMode) (string, error) {
	temp, f, err := createTemp(fsys, path, perm)
	if err != nil {
		return "", fmt.Errorf("create a temporary file beside it: %w", reason(err))
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		fsys.Remove(temp)
		return "", err
	}
	return temp, nil
}

func createTemp(fsys FS, path string, perm os.FileMode) (string, File, error) {
	dir, base := filepath.Split(path)
	// The mark and the number must fit a file name's 255 bytes too.
	base = base[:min(len(base), 200)]
	for try := 0; ; try++ {
		temp := dir + "." + base + tempMark + strconv.FormatUint(uint64(rand.Uint32()), 36)
		f, err := fsys.Create(temp, perm)
		if errors.Is(err, fs.ErrExist) && try < 100 {
			continue
		}
		return temp, f, err
	}
}

// reason takes the temporary file's name out of an error: the user knows only
// the file that was to be written.
func reason(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path) && IsTemp(path.Path):
		return path.Err
	case errors.As(err, &link) && IsTemp(link.Old):
		return link.Err
	}
	return err
}

// Disk is the machine's own file system.
type Disk struct{}

func (Disk) Create(path string, perm os.FileMode) (File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err // not f: a nil *os.File would make a File that isn't nil
	}
	return f, nil
}

func (Disk) Rename(oldPath, newPath string) error { return os.Rename(oldPath, newPath) }

func (Disk) Remove(path string) error { return os.Remove(path) }

func (Disk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Some file systems know no sync of a directory: there the names are as
	// durable as they can be.
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}
