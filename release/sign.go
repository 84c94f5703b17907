package release

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// Policy is what a device takes.
type Policy struct {
	Device           string // its name, for a release's for.devices
	Module           string // of the Jetson family; empty elsewhere
	Version          string // of this sightd; empty: not compared
	RequireSignature bool
	Keys             []TrustedKey
	Revoked          []string // key ids in hexadecimal digits

	AllowUnsignedEngines bool // where no signature is required: prebuilt engines, which are code, need none either
}

// TrustedKey is a minisign public key, and the models that it may sign.
type TrustedKey struct {
	File  string   // path
	Names []string // patterns of model names; empty: all
}

// Admit tells whether the device takes the release: signed as demanded, for
// this device, and not for a newer sightd.
func (p Policy) Admit(r *Release) error {
	m, err := r.Manifest()
	if err != nil {
		return err
	}
	if m.Revision != 0 && !r.revised {
		return rejectf(BadManifest, "%s: revision: found %d, wanted none: sightd sets it where a bare drop-in replaces a file", r.from, m.Revision)
	}
	if p.RequireSignature && !r.revised { // the drop-in's own signature was looked at
		if _, err := p.VerifySignature(r); err != nil {
			return err
		}
	}
	if p.olderThan(m.Sightd) {
		return rejectf(NeedsNewerSightd, "%s needs sightd %s or later, this is %s", r.from, m.Sightd, p.Version)
	}
	if !matchesAny(m.For.Devices, p.Device) {
		return rejectf(NotForThisDevice, "%s is for the devices %s, this is %q", r.from, strings.Join(m.For.Devices, ", "), p.Device)
	}
	if !matchesAny(m.For.Modules, p.Module) {
		return rejectf(NotForThisDevice, "%s is for the modules %s, this is %q", r.from, strings.Join(m.For.Modules, ", "), p.Module)
	}
	return nil
}

// olderThan compares without what follows a hyphen: git describe writes a build
// of commits after 0.1.0 as v0.1.0-5-gabc, which sorts before 0.1.0.
func (p Policy) olderThan(wanted string) bool {
	v := "v" + strings.TrimPrefix(p.Version, "v")
	if !semver.IsValid(v) {
		return false
	}
	return semver.Compare(strings.TrimSuffix(v, semver.Prerelease(v)+semver.Build(v)), "v"+wanted) < 0
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}
