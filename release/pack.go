package release

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sightd/sightd/internal/durable"
)

// Pack checks the release at path (see [Release.Check]) and packs it to out: an
// archive where out ends in .tar.zst, else a directory. The same release gives
// the same bytes. What is at out is kept unless it is an older archive and the
// new one is complete.
func Pack(path, out string) (*Checked, error) {
	r, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Pack(out)
}

// Pack is the function [Pack] for a release that has been opened.
func (r *Release) Pack(out string) (*Checked, error) {
	checked, err := r.Check("")
	if err != nil {
		return nil, err
	}
	if isArchiveName(out) {
		err = r.packArchive(out)
	} else {
		err = r.packDir(out)
	}
	if err != nil {
		return nil, fmt.Errorf("pack to %s: %w", out, err)
	}
	return checked, nil
}

// CheckOut says why a release couldn't be packed to out, as far as that can be told
// ahead of long work.
func CheckOut(out string) error {
	err := vacant(out)
	if isArchiveName(out) {
		_, err = os.Stat(filepath.Dir(out))
	}
	if err != nil {
		return fmt.Errorf("pack to %s: %w", out, err)
	}
	return nil
}

func isArchiveName(out string) bool { return strings.HasSuffix(out, ".tar.zst") }

// vacant says why there can be no new directory dir.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case err == nil && len(entries) > 0:
		return errors.New("the directory is there and not empty: choose another, or remove it")
	case errors.Is(err, os.ErrNotExist):
		_, err = os.Stat(filepath.Dir(filepath.Clean(dir)))
	}
	return err
}

func (r *Release) packDir(out string) error {
	if err := vacant(out); err != nil {
		return err
	}
	out = filepath.Clean(out)
	temp, err := os.MkdirTemp(filepath.Dir(out), "."+filepath.Base(out)+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := r.copyTo(durable.Disk{}, temp); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	return os.Rename(temp, out)
}

func (r *Release) packArchive(out string) error {
	temp, err := os.CreateTemp(filepath.Dir(out), "."+filepath.Base(out)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	err = r.WriteArchive(temp)
	if err == nil {
		err = temp.Chmod(0o644)
	}
	if err == nil {
		err = temp.Sync()
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), out)
}

// WriteArchive writes the release as a .tar.zst: files sorted by name, without
// times and owners, so that the same release gives the same bytes.
func (r *Release) WriteArchive(to io.Writer) error {
	z, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	err = r.each(func(name string, size int64, write func(io.Writer) error) error {
		if err := t.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644,
			ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
		}); err != nil {
			return err
		}
		return write(t)
	})
	if err != nil {
		z.Close() // ends what it holds; the archive is worthless
		return err
	}
	return errors.Join(t.Close(), z.Close())
}

// copyTo writes the release's files into an empty directory, synced.
func (r *Release) copyTo(disk durable.Tree, dir string) error {
	dirs := map[string]bool{dir: true}
	err := r.each(func(name string, _ int64, write func(io.Writer) error) error {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := durable.MkdirAllOn(disk, filepath.Dir(at), 0o755); err != nil {
			return err
		}
		for d := filepath.Dir(at); d != dir; d = filepath.Dir(d) {
			dirs[d] = true
		}
		f, err := disk.Create(at, 0o644)
		if err != nil {
			return err
		}
		err = write(f)
		if err == nil {
			err = f.Sync()
		}
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		return err
	})
	for d := range dirs {
		if err == nil {
			err = disk.SyncDir(d)
		}
	}
	return err
}

// each calls file for every file of the release, the manifest and its signature
// among them, in the order of their names. The files' bytes are checked against
// the manifest while they are written.
func (r *Release) each(file func(name string, size int64, write func(io.Writer) error) error) error {
	m, err := r.Manifest()
	if err != nil {
		return err
	}
	sources, err := r.sources()
	if err != nil {
		return err
	}
	whole := map[string][]byte{ManifestName: r.raw}
	if r.signature != nil {
		whole[SignatureName] = r.signature
	}
	names := slices.Collect(maps.Keys(sources))
	for name := range whole {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if b, ok := whole[name]; ok {
			err = file(name, int64(len(b)), func(w io.Writer) error {
				_, err := io.Copy(w, bytes.NewReader(b))
				return err
			})
		} else {
			err = file(name, m.Files[name].Size, func(w io.Writer) error {
				f, err := os.Open(sources[name])
				if err != nil {
					return err
				}
				defer f.Close()
				return copyChecked(w, f, sources[name], m.Files[name])
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
