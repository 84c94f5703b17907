package daemon

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sightd/sightd/release"
)

// ReleaseInfo is what `release show` tells of a release.
type ReleaseInfo struct {
	Name    string        `json:"name"` // of the model
	ID      release.ID    `json:"id"`   // "7", or "7.3" for its revision 3
	Release release.Entry `json:"release"`
	Serves  bool          `json:"serves"`

	// The rest is missing where the release's files are there no more.
	Precision string       `json:"precision,omitempty"`
	Sightd    string       `json:"sightd,omitempty"` // the least version
	For       *release.For `json:"for,omitempty"`
	Bytes     int64        `json:"bytes,omitempty"` // of all files
	Files     []FileInfo   `json:"files,omitempty"` // by path
	Signer    *Signer      `json:"signer,omitempty"`
	Unsigned  string       `json:"unsigned,omitempty"` // why no signer is named
	Missing   string       `json:"missing,omitempty"`  // why the files can't be read
}

// FileInfo is a file of a release.
type FileInfo struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Signer is the trusted key that signed a release.
type Signer struct {
	Key     string `json:"key"` // id
	File    string `json:"file"`
	Comment string `json:"comment"`
}

// FindModel finds a model among those that have releases; the error tells which
// there are. It is an error too where nothing is known of that model's releases.
func FindModel(all *release.Status, name string) (*release.ModelStatus, error) {
	var names []string
	for i := range all.Models {
		if all.Models[i].Name == name {
			if err := all.Models[i].Err(); err != nil {
				return nil, err
			}
			return &all.Models[i], nil
		}
		names = append(names, all.Models[i].Name)
	}
	return nil, unknownError{fmt.Errorf("there is no model %q: the configuration and the store have %q", name, names)}
}

// FindRelease finds a release of a model.
func FindRelease(m *release.ModelStatus, id release.ID) (*release.Entry, error) {
	var factory *release.Entry
	for i := range m.Releases {
		e := &m.Releases[i]
		if e.ID() == id && !e.Factory && !(e.Gone && e.Code == release.Removed) {
			return e, nil
		}
		if e.ID() == id && e.Factory {
			factory = e
		}
	}
	if factory != nil {
		return factory, nil
	}
	return nil, unknownError{fmt.Errorf("release %s of %s is not installed: `sightd release list -c FILE %s` shows which are", id, m.Name, m.Name)}
}

// Describe tells what is known of a release: of the store, the configuration's factory
// releases, and what stands in all of them. Its files are compared with its manifest.
func Describe(store *release.Store, cfg *Config, version string, all *release.Status, name string, id release.ID) (*ReleaseInfo, error) {
	m, err := FindModel(all, name)
	if err != nil {
		return nil, err
	}
	e, err := FindRelease(m, id)
	if err != nil {
		return nil, err
	}
	info := &ReleaseInfo{Name: name, ID: id, Release: *e, Serves: m.ServingID() == id}
	rel, err := openEntry(store, cfg, name, e)
	if err != nil {
		info.Missing = err.Error()
		return info, nil
	}
	defer rel.Close()
	manifest, err := rel.Manifest()
	if err != nil {
		return nil, err
	}
	info.Precision, info.Sightd, info.For = manifest.Precision, manifest.Sightd, &manifest.For
	for _, path := range slices.Sorted(maps.Keys(manifest.Files)) {
		f := manifest.Files[path]
		info.Bytes += f.Size
		info.Files = append(info.Files, FileInfo{path, f.Size, f.SHA256})
	}
	signed, err := cfg.Policy(version).VerifySignature(rel)
	switch {
	case e.Factory && err != nil:
		info.Unsigned = "the configuration names it, so it is trusted"
	case e.Revision > 0:
		info.Unsigned = "it was made here of an installed release and a single file, whose signature was looked at then"
	case err != nil:
		info.Unsigned = err.Error()
	default:
		info.Signer = &Signer{signed.Key, signed.File, signed.Comment}
	}
	return info, nil
}

// openEntry opens an installed release, or the factory release of a model.
func openEntry(store *release.Store, cfg *Config, name string, e *release.Entry) (*release.Release, error) {
	if !e.Factory {
		return store.Get(name, e.ID())
	}
	for _, m := range cfg.Models {
		if m.Name == name {
			return store.Open(m.Release)
		}
	}
	return nil, fmt.Errorf("the configuration names no factory release of %s", name)
}
