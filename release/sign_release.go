package release

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"aead.dev/minisign"

	"github.com/sightd/sightd/internal/durable"
)

// releaseMark begins the trusted comment of a release's signature. It is for people:
// name and number stand in the manifest that is signed.
const releaseMark = "sightd-release:1"

// Sign signs the packed release at path, a directory or a .tar.zst, and returns the
// trusted comment. The release's files are checked against its manifest first. A
// directory gets a manifest.json.minisig, in place of the one that is there; an
// archive is written anew with it, replaced when the new one is whole.
func Sign(path string, key minisign.PrivateKey, now time.Time) (comment string, err error) {
	r, err := Open(path)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if !r.packed {
		return "", fmt.Errorf("%s isn't packed, and what is signed is a packed release's manifest: run sightd release pack %s -o OUT, and sign OUT", path, path)
	}
	comment = fmt.Sprintf("%s for:%s:%d time:%s", releaseMark, r.Spec.Name, r.Spec.Release, now.UTC().Format(time.RFC3339))
	if r.signature, err = signHashed(key, r.raw, comment); err != nil {
		return "", err
	}
	if r.temp != "" {
		err = r.replaceArchive(path)
	} else {
		err = durable.WriteFile(filepath.Join(r.dir, SignatureName), r.signature, 0o644)
	}
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", path, err)
	}
	return comment, nil
}

// replaceArchive writes the release over the archive that it was read from.
func (r *Release) replaceArchive(path string) error {
	path, err := filepath.EvalSymlinks(path) // a link stays one
	if err != nil {
		return err
	}
	before, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := r.packArchive(path); err != nil {
		return err
	}
	if err := os.Chmod(path, before.Mode().Perm()); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

func signHashed(key minisign.PrivateKey, message []byte, comment string) ([]byte, error) {
	hashed := minisign.NewReader(bytes.NewReader(message))
	if _, err := io.Copy(io.Discard, hashed); err != nil {
		return nil, err
	}
	return hashed.SignWithComments(key, comment, untrusted(key)), nil
}

// Base is the release as one that drop-ins are made for, none taken yet. What is
// hashed is the manifest as it was read; of a revised release it is that of the one
// that was packed, which all its drop-ins are made for.
func (r *Release) Base() (Base, error) {
	m, err := r.Manifest()
	if err != nil {
		return Base{}, err
	}
	on := Base{Name: m.Name, Release: m.Release, Manifest: hashOf(r.raw)}
	if m.Revision > 0 {
		on.Manifest = m.Base
	}
	return on, nil
}
