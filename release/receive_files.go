package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// shelf is where files are that a drop may leave out.
type shelf struct {
	have    map[FileInfo]string // of installed releases
	factory func() (map[FileInfo]string, error)
	err     error // why the factory release's aren't known
}

// find is the path of a file; the factory release is asked last.
func (s *shelf) find(want FileInfo) (string, bool) {
	if at, ok := s.have[want]; ok || s.factory == nil {
		return at, ok
	}
	more, err := s.factory()
	s.factory = nil
	if err != nil {
		s.err = fmt.Errorf("look for the drop's missing files in the factory release: %v", err) // whatever it is, it isn't the drop's fault
	}
	for is, at := range more {
		if _, ok := s.have[is]; !ok {
			s.have[is] = at
		}
	}
	at, ok := s.have[want]
	return at, ok
}

// Contents are the paths of the release's files by what they are. Those of one that
// isn't packed are hashed for it.
func (r *Release) Contents() (map[FileInfo]string, error) {
	sources, err := r.sources()
	if err != nil {
		return nil, err
	}
	all := map[FileInfo]string{}
	for name, at := range sources {
		var is FileInfo
		if r.packed {
			is = r.manifest.Files[name]
		} else if is, err = hashFile(at); err != nil {
			return nil, fmt.Errorf("hash the release's files: %w", err)
		}
		all[is] = at
	}
	return all, nil
}

// awaited tells by sizes alone what of the drop isn't there, before anything of
// it is read.
func (d *incoming) awaited(m *Manifest, names []string, have *shelf) error {
	var total int64
	var lacking, long []string
	for _, name := range names {
		want := m.Files[name]
		if total += want.Size; total > maxUnpacked {
			return rejectf(BadManifest, "%s: its files are larger than %d GiB, the most that a release holds", d.at, maxUnpacked>>30)
		}
		info, err := d.root.Stat(path.Join(d.below, name))
		if err != nil {
			err = unread(filepath.Join(d.at, name), err)
		}
		var more *Incomplete
		switch {
		case err != nil && !errors.As(err, &more):
			return err
		case err == nil && !info.Mode().IsRegular():
			return irregular(filepath.Join(d.at, name))
		case err == nil && info.Size() == want.Size:
			continue
		}
		_, known := have.find(want)
		switch {
		case known:
		case have.err != nil:
			return have.err
		case err != nil:
			lacking = append(lacking, name)
		case info.Size() < want.Size:
			lacking = append(lacking, fmt.Sprintf("%s (%d of %d bytes are there)", name, info.Size(), want.Size))
		case info.Size() > want.Size:
			long = append(long, fmt.Sprintf("%s (found %d bytes, wanted %d)", name, info.Size(), want.Size))
		}
	}
	if len(lacking) > 0 {
		return missing("%s: missing: %s", d.at, few(lacking))
	}
	if len(long) > 0 {
		return wrong(rejectf(BadHash, "%s: too long: %s", d.at, few(long)))
	}
	return nil
}

// few is the first of a list, and how many more there are.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// bring has a file of the drop staged.
func (d *incoming) bring(name string, want FileInfo) error {
	at := filepath.Join(d.at, filepath.FromSlash(name))
	f, err := openInside(d.root, path.Join(d.below, name), at)
	if err != nil {
		return err
	}
	defer f.Close()
	if d.unpacked {
		err = copyChecked(io.Discard, &stoppable{ctx: d.ctx, from: f, at: at}, at, want)
	} else {
		err = d.write(name, &stoppable{ctx: d.ctx, from: f, at: at}, at, want)
	}
	if CodeOf(err) != "" {
		return wrong(err)
	}
	return err
}

// borrow stages a file of an installed release in place of the drop's.
func (d *incoming) borrow(from, name string, want FileInfo) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	err = d.write(name, &stoppable{ctx: d.ctx, from: f, at: from}, from, want)
	if CodeOf(err) != "" { // the disk has damaged it
		return missing("%s: missing: %s, and that of the installed release is damaged: %w", d.at, name, err)
	}
	return err
}

func (d *incoming) write(name string, from io.Reader, at string, want FileInfo) error {
	to := filepath.Join(d.to, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	err = copyChecked(f, from, at, want)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (d *incoming) read(name string, limit int64) ([]byte, error) {
	at := filepath.Join(d.at, name)
	f, err := openInside(d.root, path.Join(d.below, name), at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(&stoppable{ctx: d.ctx, from: f, at: at}, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = rejectf(BadManifest, "%s is larger than %d bytes", at, limit)
	}
	return data, err
}

// openInside opens a regular file, and nothing else: a FIFO doesn't hang it, and
// no device is touched.
func openInside(root *os.Root, name, at string) (*os.File, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, unread(at, err)
	}
	if !info.Mode().IsRegular() {
		return nil, irregular(at)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, unread(at, err)
	}
	if info, err = f.Stat(); err == nil && info.Mode().IsRegular() {
		return f, nil
	}
	f.Close()
	if err == nil {
		err = irregular(at)
	}
	return nil, err
}

// stoppable reads a file until ctx ends.
type stoppable struct {
	ctx  context.Context
	from io.Reader
	at   string // the file's path, for messages
	err  error  // why it stopped before the end
}

func (s *stoppable) Read(b []byte) (int, error) {
	if s.err = s.ctx.Err(); s.err != nil {
		return 0, s.err
	}
	n, err := s.from.Read(b)
	if err != nil && err != io.EOF {
		s.err = fmt.Errorf("read %s: %w", s.at, errno(err))
		err = s.err
	}
	return n, err
}

// NamedFiles are the paths below root of the files of a drop: an archive's own;
// a directory's manifest, its signature, and what the manifest names, where it
// can be read. Who compares what stat tells of them sees the drop change.
func NamedFiles(root *os.Root, name string) []string {
	if strings.HasSuffix(name, ArchiveSuffix) {
		return []string{name}
	}
	all := []string{path.Join(name, ManifestName), path.Join(name, SignatureName)}
	d := &incoming{ctx: context.Background(), root: root, below: name}
	raw, err := d.read(ManifestName, maxManifest)
	if err != nil {
		return all
	}
	m, err := ParseManifest(ManifestName, raw)
	if err != nil {
		return all
	}
	for _, file := range slices.Sorted(maps.Keys(m.Files)) {
		all = append(all, path.Join(name, file))
	}
	return all
}

// Identity is a hash of the manifest and its signature, which say what a whole
// release is.
func (r *Release) Identity() string { return identity(r.raw, r.signature) }

// IdentityOf is the identity that a drop in a directory has when it is whole;
// empty where it has no manifest, and for archives.
func IdentityOf(root *os.Root, name string) string {
	if strings.HasSuffix(name, ArchiveSuffix) {
		return ""
	}
	d := &incoming{ctx: context.Background(), root: root, below: name}
	raw, err := d.read(ManifestName, maxManifest)
	if err != nil {
		return ""
	}
	signature, err := d.read(SignatureName, maxSignature)
	if err != nil && CodeOf(err) != MissingFile {
		return ""
	}
	return identity(raw, signature)
}

func identity(raw, signature []byte) string {
	hash := sha256.New()
	hash.Write(raw)
	hash.Write([]byte{0})
	hash.Write(signature)
	return hex.EncodeToString(hash.Sum(nil))
}
