package release

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Limits of an archive, for what is unpacked.
const (
	maxUnpacked = 8 << 30  // bytes in all
	maxRatio    = 200      // bytes unpacked for each byte packed…
	freeRatio   = 16 << 20 // …beyond this many
	maxWindow   = 128 << 20
)

var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// isArchive looks at the first bytes and puts f back to its start.
func isArchive(f *os.File) bool {
	b := make([]byte, len(zstdMagic))
	n, _ := f.ReadAt(b, 0)
	return bytes.Equal(b[:n], zstdMagic) || strings.HasSuffix(f.Name(), ".tar.zst")
}

// openArchiveFile is nil where there is no archive that can be read.
func openArchiveFile(path string) *os.File {
	if regular(path) != nil {
		return nil
	}
	f, err := os.Open(path)
	if err != nil || isArchive(f) {
		return f
	}
	f.Close()
	return nil
}

// OpenArchive opens a release that comes as a .tar.zst. It is unpacked below
// tempDir (empty: where temporary files go) until Close. The name stands in
// messages. An archive may have everything in one directory at its top.
func OpenArchive(name string, from io.Reader, tempDir string) (*Release, error) {
	return openArchive(name, from, tempDir, nil)
}

func openArchive(name string, from io.Reader, tempDir string, room func(int64) error) (_ *Release, err error) {
	temp, err := os.MkdirTemp(tempDir, "sightd-release-")
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(temp)
		}
	}()
	var take func(string, int64) (bool, error)
	if room != nil {
		take = func(_ string, size int64) (bool, error) {
			if err := room(size); err != nil {
				return false, noRoom{err}
			}
			return true, nil
		}
	}
	if err := unpack(from, temp, take); err != nil {
		return nil, reason(name, err)
	}
	dir := temp
	if entries, err := os.ReadDir(temp); err == nil && len(entries) == 1 && entries[0].IsDir() {
		dir = filepath.Join(temp, entries[0].Name())
	}
	if _, err := os.Stat(filepath.Join(dir, ManifestName)); err != nil {
		return nil, rejectf(BadManifest, "%s holds no %s", name, ManifestName)
	}
	r, err := openManifest(name, dir)
	if err != nil {
		return nil, unplaced{err, dir, name}
	}
	r.temp = temp
	return r, nil
}

func reason(name string, err error) error {
	var system *fs.PathError
	var full noRoom
	switch {
	case errors.As(err, &full):
		return full.error
	case CodeOf(err) != "":
		return err
	}
	if errors.As(err, &system) { // of the place it is unpacked to
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	return rejectf(BadArchive, "unpack %s: %w", name, err)
}

// unplaced shows an error about the temporary directory as one about the
// archive.
type unplaced struct {
	error
	dir, name string
}

func (u unplaced) Error() string { return strings.ReplaceAll(u.error.Error(), u.dir, u.name) }
func (u unplaced) Unwrap() error { return u.error }

// noRoom marks that a file of an archive finds no room.
type noRoom struct{ error }

// unpack writes the regular files of a tar in zstd below dir: those that take takes, by
// name and size; nil: all.
func unpack(from io.Reader, dir string, take func(name string, size int64) (bool, error)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return eachEntry(from, func(header *tar.Header, content io.Reader) error {
		return unpackEntry(root, header, content, take)
	})
}

// eachEntry calls do for each entry of a tar in zstd, until it says io.EOF.
func eachEntry(from io.Reader, do func(*tar.Header, io.Reader) error) error {
	packed := &counter{from: from}
	z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	unpacked := &counter{from: z, check: func(n int64) error {
		if n > maxUnpacked || n > freeRatio && n/maxRatio > packed.n {
			return grows{fmt.Errorf("it grows to more than %d times its size or %d GiB, which no release does", maxRatio, maxUnpacked>>30)}
		}
		return nil
	}}
	t := tar.NewReader(unpacked)
	for count := 0; ; {
		header, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return notWhole(err)
		}
		if count++; count > 2*maxFiles {
			return fmt.Errorf("more than %d entries", 2*maxFiles)
		}
		if err := do(header, t); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func unpackEntry(root *os.Root, header *tar.Header, content io.Reader, take func(string, int64) (bool, error)) error {
	name := strings.TrimSuffix(strings.TrimPrefix(header.Name, "./"), "/")
	if header.Typeflag == tar.TypeDir && (name == "" || name == ".") {
		return nil
	}
	if why := badName(name); why != "" {
		return fmt.Errorf("%q: %s", header.Name, why)
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return makeDirs(root, name)
	case tar.TypeReg:
	default:
		return fmt.Errorf("%q is no file or directory: a release holds no links and no devices", header.Name)
	}
	if take != nil {
		if wanted, err := take(name, header.Size); err != nil || !wanted {
			return err
		}
	}
	if err := makeDirs(root, path.Dir(name)); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%q stands in it twice", header.Name)
	} else if err != nil {
		return err
	}
	if _, err = io.Copy(f, content); err != nil {
		err = notWhole(err)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// damaged says that an archive ends too early or can't be decoded: of one that
// is still being copied that is no wonder.
type damaged struct{ error }

func (d damaged) Unwrap() error { return d.error }

// grows says that an archive is larger than it may be.
type grows struct{ error }

// notWhole marks an error of reading an archive's tar, unless it is one of a
// limit or of a disk.
func notWhole(err error) error {
	var limit grows
	var system *fs.PathError
	if errors.As(err, &limit) || errors.As(err, &system) {
		return err
	}
	return damaged{fmt.Errorf("not a whole tar in zstd: %w", err)}
}

// makeDirs makes a directory and those above it.
func makeDirs(root *os.Root, name string) error {
	if name == "." {
		return nil
	}
	if err := makeDirs(root, path.Dir(name)); err != nil {
		return err
	}
	if err := root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// counter counts the bytes read, and stops where check says so.
type counter struct {
	from  io.Reader
	n     int64
	check func(int64) error
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.n += int64(n)
	if c.check != nil {
		if err := c.check(c.n); err != nil {
			return n, err
		}
	}
	return n, err
}
