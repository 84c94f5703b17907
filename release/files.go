package release

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// verify compares the files below dir with the manifest. Links that lead out of
// dir are not followed.
func (m *Manifest) verify(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the release: %w", err)
	}
	defer root.Close()
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		if err := m.verifyFile(root, dir, name); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manifest) verifyFile(root *os.Root, dir, name string) error {
	at := filepath.Join(dir, filepath.FromSlash(name))
	f, err := root.Open(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) {
		return rejectf(MissingFile, "%s is missing, which the manifest names", at)
	} else if err != nil {
		return rejectf(BadHash, "read %s: %w", at, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return rejectf(BadHash, "%s is no regular file", at)
	}
	return copyChecked(io.Discard, f, at, m.Files[name])
}

// copyChecked copies what want describes, and refuses anything else.
func copyChecked(to io.Writer, from io.Reader, name string, want FileInfo) error {
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, hash), io.LimitReader(from, want.Size+1))
	if err != nil {
		return err
	}
	if n != want.Size {
		size := fmt.Sprintf("%d bytes", n)
		if n > want.Size {
			size = "more"
		}
		return rejectf(BadHash, "%s: found %s, wanted the %d bytes that the manifest says", name, size, want.Size)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != want.SHA256 {
		return rejectf(BadHash, "%s: found SHA-256 %s, wanted the manifest's %s", name, sum, want.SHA256)
	}
	return nil
}

func hashFile(name string) (FileInfo, error) {
	f, err := os.Open(name)
	if err != nil {
		return FileInfo{}, err
	}
	defer f.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(f, maxFileSize+1))
	if err == nil && n > maxFileSize {
		err = fmt.Errorf("%s is larger than %d GiB, the most that a release holds", name, maxFileSize>>30)
	}
	return FileInfo{Size: n, SHA256: hex.EncodeToString(hash.Sum(nil))}, err
}

// Manifest is the release's manifest: as it was read, or, for a model.yaml,
// the one that Pack would write, for which all files are hashed.
func (r *Release) Manifest() (*Manifest, error) {
	if r.manifest != nil {
		return r.manifest, nil
	}
	sources, err := r.sources()
	if err != nil {
		return nil, err
	}
	m := &Manifest{Spec: r.Spec, Sightd: leastSightd, Files: map[string]FileInfo{}}
	m.Model = modelName
	if r.Calibration != "" {
		m.Calibration = cacheName
	}
	if r.Spec.Labels != "" {
		m.Labels = labelsName
	}
	if r.Golden != "" {
		m.Golden = goldenName + "/"
	}
	for name, file := range sources {
		if m.Files[name], err = hashFile(file); err != nil {
			return nil, fmt.Errorf("hash the release's files: %w", err)
		}
	}
	raw, err := m.Bytes()
	if err != nil {
		return nil, err
	}
	// What is written must be what the other side reads.
	if _, err := ParseManifest(ManifestName, raw); err != nil {
		return nil, fmt.Errorf("%s can't become a release: %w", r.from, err)
	}
	r.manifest, r.raw = m, raw
	return m, nil
}

// sources are the release's files: from the name inside the packed release to
// the path where the file is now.
func (r *Release) sources() (map[string]string, error) {
	all := map[string]string{}
	if r.packed {
		for name := range r.manifest.Files {
			all[name] = filepath.Join(r.dir, filepath.FromSlash(name))
		}
		return all, nil
	}
	all[modelName] = r.Model
	if r.Calibration != "" {
		all[cacheName] = r.Calibration
	}
	if r.Spec.Labels != "" {
		all[labelsName] = r.LabelsPath()
	}
	if r.Golden == "" {
		return all, nil
	}
	err := filepath.WalkDir(r.Golden, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if !entry.Type().IsRegular() {
			return fmt.Errorf("golden: %s is no regular file", at)
		}
		below, err := filepath.Rel(r.Golden, at)
		if err != nil {
			return err
		}
		if len(all) > maxFiles {
			return fmt.Errorf("golden: more than %d files", maxFiles)
		}
		if !strings.HasPrefix(entry.Name(), ".") {
			all[path.Join(goldenName, filepath.ToSlash(below))] = at
		}
		return nil
	})
	return all, err
}
