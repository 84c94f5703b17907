package release

import (
	"maps"
	"path"
	"strings"
)

// enginesDir is where a release has its prebuilt engines, each with its sidecar.
const enginesDir = "engines"

// place is where the file of a bare drop-in, or one that comes with an engine, lies
// in the release.
func (m *Manifest) place(dropped string) string {
	switch path.Ext(dropped) {
	case cacheExt:
		if m.Calibration != "" {
			return m.Calibration
		}
		return cacheName
	case onnxExt:
		return m.Model
	}
	return path.Join(enginesDir, dropped)
}

// revised is the manifest of a release that a drop-in goes onto with it in there:
// brings are the files, by the drop-in's names for them. The same gives the same
// bytes.
func (m *Manifest) revised(base string, revision int64, dropped string, brings map[string]FileInfo) (*Manifest, []byte, error) {
	r := *m
	r.Revision, r.Base, r.Files = revision, base, maps.Clone(m.Files)
	// Engines are of the files before, or there is a newer one now.
	maps.DeleteFunc(r.Files, func(name string, _ FileInfo) bool { return m.prebuilt(name) })
	if path.Ext(dropped) == cacheExt {
		r.Calibration = m.place(dropped)
	}
	for name, is := range brings {
		r.Files[m.place(name)] = is
	}
	raw, err := r.Bytes()
	if err != nil {
		return nil, nil, err
	}
	// What is written must be what the other side reads.
	parsed, err := ParseManifest(ManifestName, raw)
	if err != nil {
		return nil, nil, reject(BadManifest, err)
	}
	var total int64
	for _, is := range r.Files {
		total += is.Size
	}
	if total > maxUnpacked {
		return nil, nil, rejectf(BadManifest, "with %s release %d of %s is larger than %d GiB, the most that one holds", dropped, m.Release, m.Name, maxUnpacked>>30)
	}
	return parsed, raw, nil
}

// prebuilt is whether a file is a prebuilt engine or belongs to one.
func (m *Manifest) prebuilt(name string) bool {
	if name == m.Model || name == m.Calibration || name == m.Labels || path.Dir(name) != enginesDir {
		return false
	}
	engine := strings.TrimSuffix(name, signatureExt)
	if path.Ext(engine) == ".json" {
		engine = strings.TrimSuffix(engine, ".json") + engineExt
	}
	_, there := m.Files[engine]
	return there && path.Ext(engine) == engineExt
}
