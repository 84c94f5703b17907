package release

import (
	"fmt"
	"path"
	"slices"
	"strconv"
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
	return p.suits(r, m)
}

// AdmitStored is [Policy.Admit] for a release of the store, of which e is what became:
// keys may have been revoked since it was taken.
func (p Policy) AdmitStored(r *Release, e Entry) error {
	m, err := r.Manifest()
	if err != nil {
		return err
	}
	if m.Revision == 0 {
		return p.Admit(r)
	}
	if p.RequireSignature { // nothing signs it as it is, so that who signed its parts was noted
		for _, id := range e.Signers {
			if err := p.trusts(id, m); err != nil {
				return err
			}
		}
	}
	return p.suits(r, m)
}

// trusts tells whether what a key signed for a model would be taken today.
func (p Policy) trusts(id string, m *Manifest) error {
	what := fmt.Sprintf("release %d.%d of %s", m.Release, m.Revision, m.Name)
	if id == unsigned {
		return rejectf(BadSignature, "%s was taken unsigned, and releases must be signed now", what)
	}
	key, err := strconv.ParseUint(id, 16, 64)
	if err != nil {
		return rejectf(BadSignature, "%s: its signer is noted as %.40q, which is no key's id", what, id)
	}
	_, err = p.checkKey(signature{from: what, model: m.Name, fits: func(minisign.PublicKey) bool { return true }}, key)
	return err
}

// suits tells whether the release is for this device and this sightd.
func (p Policy) suits(r *Release, m *Manifest) error {
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

// unsigned stands for a signer that there wasn't.
const unsigned = "unsigned"

// signers are the keys that signed what is made of a base and a drop-in. The signatures
// themselves were looked at when each was taken.
func (s *Store) signers(base *Release, d *incomingDropIn) ([]string, error) {
	var all []string
	switch {
	case base.Factory: // trusted as the configuration is
	case base.ID().Revision > 0:
		entries, err := s.List(d.on.Name)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.ID() == base.ID() {
				all = slices.Clone(e.Signers)
			}
		}
	case base.signature != nil: // else it serves unsigned, and the drop-in changes nothing about that
		all = append(all, signerOf(base.signature))
	}
	if by := signerOf(d.signature); !slices.Contains(all, by) {
		all = append(all, by)
	}
	return all, nil
}

// signerOf is the id of the key that made a signature.
func signerOf(text []byte) string {
	var found minisign.Signature
	if text == nil || found.UnmarshalText(text) != nil {
		return unsigned
	}
	return keyID(found.KeyID)
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
