package release

import (
	"path/filepath"

	"github.com/sightd/sightd/internal/durable"
)

// moveTo is copyTo for files that lie verified in the same file system: nothing is
// written twice. They are gone from where they were.
func (r *Release) moveTo(disk durable.Tree, dir string) error {
	sources, err := r.sources()
	if err != nil {
		return err
	}
	dirs := map[string]bool{dir: true}
	for name, from := range sources {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := durable.MkdirAllOn(disk, filepath.Dir(at), 0o755); err != nil {
			return err
		}
		for d := filepath.Dir(at); d != dir; d = filepath.Dir(d) {
			dirs[d] = true
		}
		if err := disk.SyncFile(from); err != nil {
			return err
		}
		if err := disk.Rename(from, at); err != nil {
			return err
		}
	}
	for name, b := range map[string][]byte{ManifestName: r.raw, SignatureName: r.signature} {
		if b == nil {
			continue
		}
		if err := durable.WriteFileOn(disk, filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	for d := range dirs {
		if err := disk.SyncDir(d); err != nil {
			return err
		}
	}
	return nil
}
