package release

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// unpack puts an archive's files where they are staged, and has d read them
// there. Before anything is written it looks whether the release is one that
// would be taken: that costs no room on the disk.
func (s *Store) unpack(d *incoming, p Policy) (*os.Root, error) {
	f, err := openInside(d.root, d.below, d.at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	top, raw, signature, err := d.glance(f)
	if err != nil {
		return nil, err
	}
	r, err := s.admit(d, raw, signature, p)
	if err != nil {
		return nil, err
	}
	if d.room, err = s.claim(r.manifest.bytes()); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read %s: %w", d.at, errno(err))
	}
	from := &stoppable{ctx: d.ctx, from: f, at: d.at}
	if err := unpack(from, d.temp, d.named(top, r.manifest)); err != nil {
		return nil, d.packed(from, err)
	}
	entries, err := os.ReadDir(d.temp)
	if err != nil {
		return nil, err
	}
	if len(entries) == 1 && entries[0].IsDir() {
		d.to = filepath.Join(d.temp, entries[0].Name())
	}
	if d.root, err = os.OpenRoot(d.to); err != nil {
		return nil, err
	}
	d.below, d.unpacked = ".", true
	return d.root, nil
}

// named takes those files of an archive that its manifest names, top being the
// directory that the manifest is in: what else is there takes no room.
func (d *incoming) named(top string, m *Manifest) func(name string, size int64) (bool, error) {
	return func(name string, size int64) (bool, error) {
		if top != "." {
			in, below, _ := strings.Cut(name, "/")
			if in != top {
				return false, nil
			}
			name = below
		}
		if name == ManifestName || name == SignatureName {
			return size <= maxManifest, nil
		}
		want, ok := m.Files[name]
		if ok && size != want.Size {
			return false, rejectf(BadHash, "%s: found %d bytes, wanted the %d bytes that the manifest says", filepath.Join(d.at, name), size, want.Size)
		}
		return ok, nil
	}
}

// packed is the error of a drop whose archive can't be read.
func (d *incoming) packed(from *stoppable, err error) error {
	var part damaged
	switch {
	case from.err != nil:
		return from.err
	case errors.As(err, &part):
		// A copy that goes on ends early; whatever else it may be may be, too.
		return &Incomplete{Err: reason(d.at, err), Wrong: !errors.Is(err, io.ErrUnexpectedEOF)}
	}
	return reason(d.at, err)
}

// glance reads an archive's manifest and signature, which stand at its top or in
// one directory there, top.
func (d *incoming) glance(f io.Reader) (top string, raw, signature []byte, err error) {
	from := &stoppable{ctx: d.ctx, from: f, at: d.at}
	var found [2]map[string][]byte // by depth
	found[0], found[1] = map[string][]byte{}, map[string][]byte{}
	entries := 0
	err = eachEntry(from, func(header *tar.Header, content io.Reader) error {
		entries++
		name := strings.TrimPrefix(header.Name, "./")
		depth, base := strings.Count(name, "/"), path.Base(name)
		if depth > 1 || header.Typeflag != tar.TypeReg || base != ManifestName && base != SignatureName {
			return nil
		}
		data, err := io.ReadAll(io.LimitReader(content, maxManifest+1))
		if err != nil {
			return notWhole(err)
		}
		if len(data) > maxManifest {
			return fmt.Errorf("%s is larger than %d bytes", base, maxManifest)
		}
		if _, twice := found[depth][base]; !twice {
			found[depth][base] = data
			if depth == 1 && base == ManifestName {
				top = path.Dir(name)
			}
		}
		if len(found[0]) == 2 {
			return io.EOF // a packed release's model comes after them
		}
		return nil
	})
	if err != nil {
		return "", nil, nil, d.packed(from, err)
	}
	at := found[0]
	if at[ManifestName] == nil {
		at = found[1]
	} else {
		top = "."
	}
	if entries == 0 {
		return "", nil, nil, wrong(rejectf(BadArchive, "%s is empty", d.at))
	}
	if at[ManifestName] == nil {
		return "", nil, nil, wrong(rejectf(BadManifest, "%s holds no %s", d.at, ManifestName))
	}
	return top, at[ManifestName], at[SignatureName], nil
}
