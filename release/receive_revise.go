package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// revisions are what became of the releases that drop-ins were taken for.
func (s *Store) revisions(name string) ([]Entry, error) {
	entries, err := s.List(name)
	return slices.DeleteFunc(entries, func(e Entry) bool { return e.Revision == 0 }), err
}

// holdsFile is whether the entry's release was made of the drop-in.
func (s *Store) holdsFile(e Entry, base *Manifest, d *incomingDropIn) (bool, error) {
	raw, err := os.ReadFile(filepath.Join(s.path(d.on.Name, e.ID()), ManifestName))
	if err == nil {
		m, err := ParseManifest(ManifestName, raw)
		return err == nil && m.Files[m.place(d.name)] == d.is, nil
	}
	if e.Number != base.Release || e.Manifest == "" {
		return false, nil
	}
	// Its files are gone, but what its manifest was can be made again.
	_, raw, err = base.revised(d.on.Manifest, e.Revision, d.name, d.brings())
	return err == nil && hashOf(raw) == e.Manifest, err
}

// brings are the files that the drop-in adds to a release, by their names in the
// directory.
func (d *incomingDropIn) brings() map[string]FileInfo {
	files := map[string]FileInfo{d.name: d.is}
	for name, b := range d.small() {
		files[name] = FileInfo{Size: int64(len(b)), SHA256: hashOf(b)}
	}
	return files
}

// small are those that are in memory. A signature goes with an engine alone: who
// loads the engine looks at it again.
func (d *incomingDropIn) small() map[string][]byte {
	if !d.engine() {
		return nil
	}
	files := map[string][]byte{sidecarOf(d.name): d.sidecar}
	if d.signature != nil {
		files[d.name+signatureExt] = d.signature
	}
	return files
}

// revise stages the base with the drop-in in it.
func (s *Store) revise(base *Release, d *incomingDropIn) (_ *Release, err error) {
	before, err := base.Manifest()
	if err != nil {
		return nil, err
	}
	m, raw, err := before.revised(d.on.Manifest, d.revision, d.name, d.brings())
	if err != nil {
		return nil, err
	}
	if err := s.makeStaging(); err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(s.staging(), "inbox-")
	if err != nil {
		return nil, err
	}
	var room *claim
	defer func() {
		if err != nil {
			room.end()
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	var size int64
	for _, is := range d.brings() {
		size += is.Size
	}
	if room, err = s.claim(size); err != nil {
		return nil, err
	}
	sources, err := base.sources()
	if err != nil {
		return nil, err
	}
	for name := range d.brings() {
		delete(sources, m.place(name))
		if err := d.stage(name, filepath.Join(temp, filepath.FromSlash(m.place(name))), m.Files[m.place(name)]); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		if err := d.ctx.Err(); err != nil {
			return nil, err
		}
		want, kept := m.Files[name]
		if !kept {
			continue
		}
		if err := s.share(d.ctx, room, sources[name], filepath.Join(temp, filepath.FromSlash(name)), want); err != nil {
			return nil, err
		}
	}
	r := &Release{Spec: m.Spec, dir: temp, from: d.path(), packed: true, revised: true, manifest: m, raw: raw, temp: temp, room: room, received: true}
	r.locate()
	return r, r.readLabels()
}

// stage writes the drop-in, or what came with it, to where it is staged.
func (d *incomingDropIn) stage(name, to string, want FileInfo) error {
	var from io.Reader
	if b, ok := d.small()[name]; ok {
		from = bytes.NewReader(b)
	} else {
		f, err := openInside(d.root, name, d.path())
		if err != nil {
			return err
		}
		defer f.Close()
		from = &stoppable{ctx: d.ctx, from: f, at: d.path()}
	}
	err := create(to, from, d.path(), want)
	if CodeOf(err) != "" {
		err = wrong(rejectf(BadHash, "%s changed while it was read", d.path()))
	}
	return err
}

// share stages a file of the base: what is in the store never changes, so that another
// name for it will do.
func (s *Store) share(ctx context.Context, room *claim, from, to string, want FileInfo) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if s.holds(from) && os.Link(from, to) == nil {
		return nil
	}
	if err := room.grow(want.Size); err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	err = create(to, &stoppable{ctx: ctx, from: f, at: from}, from, want)
	if CodeOf(err) != "" {
		err = fmt.Errorf("the release that serves is damaged: %v", err) // which is no fault of the drop's
	}
	return err
}

// create writes a file that isn't there yet.
func create(to string, from io.Reader, at string, want FileInfo) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	err = copyChecked(f, from, at, want)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// checkRevised tells whether the file that came fits the others. The paths in its
// errors are those of where the files came from.
func (r *Release) checkRevised(d *incomingDropIn, base *Release) error {
	precision := ""
	if filepath.Ext(d.name) == cacheExt {
		precision = "int8" // what a cache is for, whatever the release's own precision is
	}
	_, err := r.Check(precision)
	if err != nil {
		err = unplaced{err, filepath.Join(r.dir, filepath.FromSlash(r.manifest.place(d.name))), d.path()}
		err = unplaced{err, r.dir, base.dir}
	}
	return err
}
