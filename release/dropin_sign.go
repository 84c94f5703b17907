package release

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"aead.dev/minisign"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
)

const maxSidecar = 1 << 20

// Base is a release that a drop-in is dropped on.
type Base struct {
	Name     string
	Release  int
	Manifest string // SHA-256 of its manifest.json as it was packed and signed, 64 lower-case hexadecimal digits
	Revision int64  // the highest that was taken for it; 0: none yet
}

// Dropped is a bare drop-in as it was found.
type Dropped struct {
	File      string    // its name, without directories
	Content   io.Reader // read to its end
	Sidecar   []byte    // an engine's NAME.json; nil: none
	Signature []byte    // FILE.minisig; nil: none
}

// VerifyDropIn tells whether a drop-in may go onto the release: signed, with a key
// that the device trusts for the model, under this very name, for this very release
// and later than all that were taken for it. Whether signatures are required at all
// is for the caller to see. Only pre-hashed signatures are taken, which need no
// file in memory.
func (p Policy) VerifyDropIn(d Dropped, on Base) (*DropIn, *Signed, error) {
	says, signed, err := p.readDropIn(d, on)
	if err != nil {
		return nil, nil, err
	}
	if err := says.fits(d, on); err != nil {
		return nil, nil, err
	}
	return says, signed, nil
}

// readDropIn is what a trusted signer says of a drop-in, whether or not it fits the
// release.
func (p Policy) readDropIn(d Dropped, on Base) (*DropIn, *Signed, error) {
	if err := checkDropInName(d.File, on.Name); err != nil {
		return nil, nil, rejectf(NotForThisRelease, "a drop-in for %s: %w", on.Name, err)
	}
	content := minisign.NewReader(io.LimitReader(d.Content, maxFileSize+1))
	n, err := io.Copy(io.Discard, content)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", d.File, err)
	}
	if n > maxFileSize {
		return nil, nil, rejectf(BadHash, "%s is larger than %d GiB, the most that a release holds", d.File, maxFileSize>>30)
	}
	signed, err := p.checkSignature(signature{
		from: d.File, file: d.File + ".minisig", text: d.Signature, message: "the file", model: on.Name, hashed: true,
		fits: func(key minisign.PublicKey) bool { return content.Verify(key, d.Signature) },
	})
	if err != nil {
		return nil, nil, err
	}
	says, err := ParseDropIn(signed.Comment)
	if err != nil {
		return nil, nil, rejectf(BadSignature, "%s: the signature's trusted comment doesn't say what the file is for: %w; sign it with sightd release sign %s --for %s:%d", d.File, err, d.File, on.Name, on.Release)
	}
	return says, signed, nil
}

// fits compares what was signed with what was dropped where.
func (d *DropIn) fits(found Dropped, on Base) error {
	switch {
	case d.File != found.File:
		return rejectf(NotForThisRelease, "%s was signed as %s: a signature holds for one name alone", found.File, d.File)
	case d.Name != on.Name || d.Release != on.Release:
		return rejectf(NotForThisRelease, "%s was signed for release %d of %s, not for release %d of %s", found.File, d.Release, d.Name, on.Release, on.Name)
	case d.Manifest != on.Manifest:
		return rejectf(NotForThisRelease, "%s was signed for another release %d of %s: its manifest's SHA-256 is %s, this one's %s", found.File, d.Release, d.Name, d.Manifest, on.Manifest)
	case d.Revision <= on.Revision:
		return rejectf(NotNewer, "%s is revision %d for release %d of %s, and revision %d was taken already", found.File, d.Revision, on.Release, on.Name, on.Revision)
	case d.Sidecar == "":
		return nil
	case found.Sidecar == nil:
		return rejectf(MissingFile, "%s has no %s, which is signed with it", found.File, sidecarOf(found.File))
	}
	if sum := sha256.Sum256(found.Sidecar); hex.EncodeToString(sum[:]) != d.Sidecar {
		return rejectf(BadHash, "%s: found SHA-256 %x, wanted %s, which is signed with %s", sidecarOf(found.File), sum, d.Sidecar, found.File)
	}
	return nil
}

// CheckDropIn tells whether a bare drop-in, a cache or a model, fits the release, as the
// device that gets it will find. Of an engine that can't be told.
func (r *Release) CheckDropIn(file string) error {
	with, precision := *r, ""
	switch filepath.Ext(file) {
	case cacheExt:
		with.Calibration, precision = file, "int8" // what a cache is for
	case onnxExt:
		with.Model = file
	default:
		return nil
	}
	_, err := with.Check(precision)
	return err
}

// sidecarOf is the name of an engine's sidecar.
func sidecarOf(engine string) string { return strings.TrimSuffix(engine, engineExt) + ".json" }

// SignDropIn signs a bare drop-in for the packed release and writes FILE.minisig
// beside it. The revision must be higher than those signed before for that release;
// 0 takes the time in seconds, which grows by itself.
func SignDropIn(file string, base *Release, revision int64, key minisign.PrivateKey, now time.Time) (*DropIn, error) {
	if !base.packed {
		return nil, fmt.Errorf("%s isn't packed, and a drop-in is bound to a packed release's manifest", base.from)
	}
	on, err := base.Base()
	if err != nil {
		return nil, err
	}
	if revision == 0 {
		revision = now.Unix()
	}
	d := &DropIn{
		File: filepath.Base(file), Name: on.Name, Release: on.Release, Manifest: on.Manifest,
		Revision: revision, Time: now.UTC().Truncate(time.Second),
	}
	if err := checkDropInName(d.File, d.Name); err != nil {
		return nil, fmt.Errorf("%s: %w: rename it", file, err)
	}
	if path.Ext(d.File) == engineExt {
		sidecar, err := strict.ReadFile(filepath.Join(filepath.Dir(file), sidecarOf(d.File)), maxSidecar)
		if err != nil {
			return nil, fmt.Errorf("an engine is signed with its sidecar: %w", err)
		}
		sum := sha256.Sum256(sidecar)
		d.Sidecar = hex.EncodeToString(sum[:])
	}
	// What is signed must be what the other side takes.
	if _, err := ParseDropIn(d.Comment()); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := regular(file); err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content := minisign.NewReader(io.LimitReader(f, maxFileSize+1))
	if n, err := io.Copy(io.Discard, content); err != nil {
		return nil, err
	} else if n > maxFileSize {
		return nil, fmt.Errorf("%s is larger than %d GiB, the most that a release holds", file, maxFileSize>>30)
	}
	text := content.SignWithComments(key, d.Comment(), untrusted(key))
	return d, durable.WriteFile(file+".minisig", text, 0o644)
}

// untrusted is the comment that isn't signed.
func untrusted(key minisign.PrivateKey) string {
	return "signature from sightd with key " + keyID(key.ID())
}
