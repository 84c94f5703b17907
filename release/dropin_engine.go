package release

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/sightd/sightd/internal/strict"
)

// WrongEngine is the code of an engine that was dropped in and isn't one for this
// device and this release.
const WrongEngine Code = "wrong-engine"

// PrebuiltEngine is an engine that a release carries.
type PrebuiltEngine struct {
	File    string   // its name in the release
	Path    string   // of the file
	Sidecar string   // path of what says what it was built for
	Is      FileInfo // as the manifest says
	Dropped bool     // it is what the release was revised with
}

// Engines are the prebuilt engines that the release carries, with a sidecar each.
func (r *Release) Engines() []PrebuiltEngine {
	if r.manifest == nil || !r.packed {
		return nil
	}
	var all []PrebuiltEngine
	for _, name := range slices.Sorted(maps.Keys(r.manifest.Files)) {
		if path.Ext(name) != engineExt || !r.manifest.prebuilt(name) {
			continue
		}
		if _, there := r.manifest.Files[sidecarOf(name)]; !there {
			continue
		}
		all = append(all, PrebuiltEngine{
			File: name, Path: resolve(r.dir, name), Sidecar: resolve(r.dir, sidecarOf(name)), Is: r.manifest.Files[name],
			Dropped: r.manifest.Revision > 0 && name == path.Join(enginesDir, r.Spec.Name+engineExt),
		})
	}
	return all
}

// AdmitEngine tells whether the device may load an engine that the release carries,
// since engines are code: where it takes unsigned ones, or where the release, or the
// drop-in that the engine was, is signed with a key that it trusts today. The engine's
// content is read to its end; that it is what the manifest says is the caller's to see.
func (p Policy) AdmitEngine(r *Release, e PrebuiltEngine, content io.Reader) error {
	if !p.RequireSignature && p.AllowUnsignedEngines {
		return nil
	}
	m, err := r.Manifest()
	if err != nil {
		return err
	}
	if m.Revision == 0 {
		if r.Factory { // trusted as the configuration is
			return nil
		}
		_, err := p.VerifySignature(r)
		return err
	}
	if !e.Dropped {
		return rejectf(BadSignature, "%s: nothing signs it in a revised release", e.File)
	}
	on, err := r.Base()
	if err != nil {
		return err
	}
	on.Revision = m.Revision - 1
	d := Dropped{File: path.Base(e.File), Content: content}
	if d.Sidecar, err = strict.ReadFile(e.Sidecar, maxSidecar); err != nil {
		return fmt.Errorf("read the engine's sidecar: %w", err)
	}
	if d.Signature, err = strict.ReadFile(e.Path+signatureExt, maxSignature); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the engine's signature: %w", err)
	}
	_, _, err = p.VerifyDropIn(d, on)
	return err
}
