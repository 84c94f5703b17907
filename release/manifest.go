package release

import (
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/sightd/sightd/internal/strict"
)

// Names of the files of a packed release.
const (
	ManifestName  = "manifest.json"
	SignatureName = "manifest.json.minisig"
	specName      = "model.yaml"
	modelName     = "model.onnx"
	cacheName     = "calibration.cache"
	labelsName    = "labels.txt"
	goldenName    = "golden"
)

// leastSightd is the first version that reads what Pack writes.
const leastSightd = "0.1.0"

const (
	maxManifest = 1 << 20
	maxFiles    = 10_000
	maxFileSize = 4 << 30
	maxPath     = 4 // parts
)

// Manifest is manifest.json: the specification, and what every file must be.
// Paths are relative to the manifest, below it, with slashes.
type Manifest struct {
	Spec
	Sightd string `json:"sightd"` // the least version, such as 0.1.0
	// Of a release that sightd made of an installed one and a bare drop-in.
	Revision int64               `json:"revision,omitempty"` // of the drop-in; 0: none
	Base     string              `json:"base,omitempty"`     // SHA-256 of the installed one's manifest.json
	Files    map[string]FileInfo `json:"files"`
}

// FileInfo is what a manifest says of a file.
type FileInfo struct {
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // 64 lower-case hexadecimal digits
}

// ParseManifest reads a manifest.json; the name stands in errors, which list
// every fault with line and column.
func ParseManifest(name string, data []byte) (*Manifest, error) {
	doc, err := strict.JSON(name, data, maxManifest)
	if err != nil {
		return nil, err
	}
	m := Manifest{Spec: DefaultSpec()}
	doc.Decode(&m)
	m.validate(doc)
	m.validateCalibration(doc)
	m.validateFiles(doc)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return &m, nil
}

// Bytes is the manifest as Pack writes it: the same manifest gives the same
// bytes.
func (m *Manifest) Bytes() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	return append(b, '\n'), err
}

func (m *Manifest) validateFiles(f faults) {
	if !f.Has("sightd") {
		f.Errorf("sightd", "missing: the least version of sightd, such as %q", leastSightd)
	} else if !semver.IsValid("v" + m.Sightd) {
		f.Errorf("sightd", "found %q, wanted a version such as %q", m.Sightd, leastSightd)
	}
	if m.Revision < 0 || m.Revision > MaxRevision {
		f.Errorf("revision", "found %d, wanted 0 to %d", m.Revision, int64(MaxRevision))
	}
	if m.Revision != 0 && !isSHA256(m.Base) || m.Revision == 0 && m.Base != "" {
		f.Errorf("base", "found %.80q, wanted 64 lower-case hexadecimal digits with a revision, and none without", m.Base)
	}
	if len(m.Files) > maxFiles {
		f.Errorf("files", "found %d files, wanted at most %d", len(m.Files), maxFiles)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		at, file := "files."+name, m.Files[name]
		if why := badName(name); why != "" {
			f.Errorf(at, "%s", why)
		} else if name == ManifestName || name == SignatureName {
			f.Errorf(at, "a manifest can't name itself or its signature")
		}
		if file.Size < 0 || file.Size > maxFileSize {
			f.Errorf(at, "found size %d, wanted 0 to %d", file.Size, int64(maxFileSize))
		}
		if b, err := hex.DecodeString(file.SHA256); err != nil || len(b) != 32 || file.SHA256 != strings.ToLower(file.SHA256) {
			f.Errorf(at, "found sha256 %q, wanted 64 lower-case hexadecimal digits", file.SHA256)
		}
	}
	for _, part := range []struct{ path, file string }{
		{"model", m.Model}, {"calibration", m.Calibration}, {"labels", m.Labels},
	} {
		if _, named := m.Files[part.file]; part.file != "" && !named {
			f.Errorf(part.path, "%q has no size and hash under files", part.file)
		}
	}
	if m.Golden != "" {
		if why := badName(strings.TrimSuffix(m.Golden, "/")); why != "" {
			f.Errorf("golden", "%s", why)
		}
	}
}

// badName tells why a path can't be a file's name inside a release.
func badName(name string) string {
	switch {
	case strings.HasPrefix(name, "/"):
		return "found an absolute path, wanted one relative to the manifest"
	case slices.Contains(strings.Split(name, "/"), ".."):
		return "found a path with .., wanted one below the manifest"
	case !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00") || strings.ContainsFunc(name, isControl):
		return "found an unclean path, wanted names joined by single slashes"
	case strings.Count(name, "/") >= maxPath || len(name) > 512:
		return "found a path too long or too deep"
	}
	return ""
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
