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
	raw, signature, err := d.glance(f)
	if err != nil {
		return nil, err
	}
	r, err := s.admit(d, raw, signature, p)
	if err != nil {
		return nil, err
	}
	// For what is borrowed, too. Files that the manifest doesn't name come on top.
	if d.room, err = s.claim(r.manifest.bytes()); err != nil {
		return nil, err
	}
	var unpacked int64
	room := func(n int64) error {
		unpacked += n
		if more := unpacked - d.room.n; more > 0 {
			return d.room.grow(more)
		}
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read %s: %w", d.at, errno(err))
	}
	from := &stoppable{ctx: d.ctx, from: f, at: d.at}
	if err := unpack(from, d.temp, room); err != nil {
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
// one directory there.
func (d *incoming) glance(f io.Reader) (raw, signature []byte, err error) {
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
		}
		if len(found[0]) == 2 {
			return io.EOF // a packed release's model comes after them
		}
		return nil
	})
	if err != nil {
		return nil, nil, d.packed(from, err)
	}
	at := found[0]
	if at[ManifestName] == nil {
		at = found[1]
	}
	if entries == 0 {
		return nil, nil, wrong(rejectf(BadArchive, "%s is empty", d.at))
	}
	if at[ManifestName] == nil {
		return nil, nil, wrong(rejectf(BadManifest, "%s holds no %s", d.at, ManifestName))
	}
	return at[ManifestName], at[SignatureName], nil
}
