package release

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"aead.dev/minisign"
	"golang.org/x/mod/semver"
)

// Policy is what a device takes.
type Policy struct {
	Device           string // its name, for a release's for.devices
	Module           string // of the Jetson family; empty elsewhere
	Version          string // of this sightd; empty: not compared
	RequireSignature bool
	Keys             []TrustedKey
	Revoked          []string // key ids, 16 hexadecimal digits
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
	if p.RequireSignature {
		if err := p.verify(r, m.Name); err != nil {
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

func (p Policy) verify(r *Release, model string) error {
	const wayOut = "or set releases.require_signature: false to take unsigned releases"
	if len(p.Keys) == 0 {
		return rejectf(NoTrustedKey, "releases must be signed, but no key is trusted: name the signer's public key under releases.keys, %s", wayOut)
	}
	if r.signature == nil {
		return rejectf(BadSignature, "%s has no %s: sign its manifest, %s", r.from, SignatureName, wayOut)
	}
	var signature minisign.Signature
	if err := signature.UnmarshalText(r.signature); err != nil {
		return rejectf(BadSignature, "%s: %s is no minisign signature: %w", r.from, SignatureName, err)
	}
	id := fmt.Sprintf("%016X", signature.KeyID)
	if slices.ContainsFunc(p.Revoked, func(revoked string) bool { return strings.EqualFold(revoked, id) }) {
		return rejectf(NoTrustedKey, "%s is signed with key %s, which is revoked", r.from, id)
	}
	for _, trusted := range p.Keys {
		key, err := minisign.PublicKeyFromFile(trusted.File)
		if err != nil {
			return fmt.Errorf("releases.keys: read %s: %w", trusted.File, err)
		}
		if key.ID() != signature.KeyID {
			continue
		}
		if len(trusted.Names) > 0 && !matchesAny(trusted.Names, model) {
			return rejectf(NoTrustedKey, "%s is signed with key %s, which is trusted for %s only, not for %s", r.from, id, strings.Join(trusted.Names, ", "), model)
		}
		if !minisign.Verify(key, r.raw, r.signature) {
			return rejectf(BadSignature, "%s: the signature doesn't fit its manifest: one of them was changed", r.from)
		}
		return nil
	}
	return rejectf(NoTrustedKey, "%s is signed with key %s, which is none of releases.keys", r.from, id)
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}
