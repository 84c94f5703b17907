package release

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"aead.dev/minisign"
)

// Signed is what is known of a good signature.
type Signed struct {
	Key     string // the signer's key id, 16 hexadecimal digits
	File    string // of the trusted key
	Comment string // the trusted comment: as the signer wrote it
}

// VerifySignature tells whether the release's manifest is signed with a key that
// the device trusts for such a model. The signature is checked over the very bytes
// that the manifest was parsed from, whether or not the policy requires one;
// pre-hashed signatures and minisign's older ones are both taken.
func (p Policy) VerifySignature(r *Release) (*Signed, error) {
	m, err := r.Manifest()
	if err != nil {
		return nil, err
	}
	signed, err := p.checkSignature(signature{
		from: r.from, file: SignatureName, text: r.signature, message: "its manifest", model: m.Name,
		fits: func(key minisign.PublicKey) bool { return minisign.Verify(key, r.raw, r.signature) },
	})
	if err != nil {
		return nil, err
	}
	// Whoever signs a file for a drop-in doesn't sign a release.
	if strings.HasPrefix(signed.Comment, dropInMark) {
		return nil, rejectf(BadSignature, "%s: the signature was made for a drop-in, not for a release: sign the release", r.from)
	}
	return signed, nil
}

// signature is one to check.
type signature struct {
	from    string // what is signed, for messages
	file    string // the signature's own name, for messages
	text    []byte // nil: none
	message string // what was signed, in words
	model   string // whose name the key must be trusted for
	hashed  bool   // only pre-hashed signatures are taken
	fits    func(minisign.PublicKey) bool
}

func (p Policy) checkSignature(s signature) (*Signed, error) {
	const wayOut = "or set releases.require_signature: false to take unsigned releases"
	if len(p.Keys) == 0 {
		return nil, rejectf(NoTrustedKey, "releases must be signed, but no key is trusted: name the signer's public key under releases.keys, %s", wayOut)
	}
	if s.text == nil {
		return nil, rejectf(BadSignature, "%s has no %s: sign %s, %s", s.from, s.file, s.message, wayOut)
	}
	if len(s.text) > maxSignature {
		return nil, rejectf(BadSignature, "%s: %s is larger than %d bytes, which no signature is", s.from, s.file, maxSignature)
	}
	var found minisign.Signature
	if err := found.UnmarshalText(s.text); err != nil {
		return nil, rejectf(BadSignature, "%s: %s is no minisign signature: %w", s.from, s.file, err)
	}
	// The algorithm isn't under the signature: without this a hash's signature could
	// pass for one of a file that holds that hash, and the other way round.
	if s.hashed && found.Algorithm != minisign.HashEdDSA {
		return nil, rejectf(BadSignature, "%s: %s is a legacy signature, which is taken for manifests alone: sign again without -l", s.from, s.file)
	}
	signed, err := p.checkKey(s, found.KeyID)
	if err != nil {
		return nil, err
	}
	signed.Comment = found.TrustedComment
	return signed, nil
}

// checkKey finds the key of a signature among those that are trusted for the model.
func (p Policy) checkKey(s signature, by uint64) (*Signed, error) {
	id := keyID(by)
	if slices.ContainsFunc(p.Revoked, func(revoked string) bool { return isKey(revoked, by) }) {
		return nil, rejectf(NoTrustedKey, "%s is signed with key %s, which is revoked", s.from, id)
	}
	refusal := rejectf(NoTrustedKey, "%s is signed with key %s, which is none of releases.keys", s.from, id)
	for _, trusted := range p.Keys {
		key, err := minisign.PublicKeyFromFile(trusted.File)
		if err != nil {
			return nil, fmt.Errorf("releases.keys: read %s: %w", trusted.File, err)
		}
		switch {
		case key.ID() != by:
			// not the signer
		case len(trusted.Names) > 0 && !matchesAny(trusted.Names, s.model):
			refusal = rejectf(NoTrustedKey, "%s is signed with key %s, which is trusted for %s only, not for %s", s.from, id, strings.Join(trusted.Names, ", "), s.model)
		case !s.fits(key):
			refusal = rejectf(BadSignature, "%s: the signature doesn't fit %s: one of them was changed", s.from, s.message)
		default:
			return &Signed{Key: id, File: trusted.File}, nil
		}
	}
	return nil, refusal
}

// keyID is a key's id as people write it.
func keyID(id uint64) string { return fmt.Sprintf("%016X", id) }

// isKey compares an id as people write it; minisign leaves zeros at its front out.
func isKey(written string, id uint64) bool {
	n, err := strconv.ParseUint(written, 16, 64)
	return err == nil && n == id
}
