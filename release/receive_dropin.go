package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

// DropInFiles are the names of the files that a bare drop-in consists of, beside
// each other, the drop-in first; nil where the name isn't a drop-in's.
func DropInFiles(file string) []string {
	switch path.Ext(file) {
	case cacheExt, onnxExt:
		return []string{file, file + signatureExt}
	case engineExt:
		return []string{file, file + signatureExt, sidecarOf(file)}
	}
	return nil
}

const signatureExt = ".minisig"

// ReceiveDropIn makes a release of the base and of a bare drop-in that lies in a
// directory which others write to: the base's files with that one replaced, and a
// manifest that says so. The base is the release that serves the drop-in's model; it
// stays as it is, and the caller's. What is made lies in the store's staging until
// Close, and what happens in the directory afterwards changes nothing.
//
// A signature that lies beside the drop-in must be good; where the policy requires
// one it must be there. Errors are as [Store.Receive] has them: an [*Incomplete]
// where more may come, also the release that the drop-in is for; an [*Installed]
// where a release with this very file is in the store.
func (s *Store) ReceiveDropIn(ctx context.Context, root *os.Root, file string, p Policy, base *Release) (_ *Release, err error) {
	on, err := s.base(base)
	if err != nil {
		return nil, s.hint(err)
	}
	if err := checkDropInName(file, on.Name); err != nil {
		return nil, rejectf(NotForThisRelease, "a drop-in for %s: %w", on.Name, err)
	}
	d := &incomingDropIn{incoming: incoming{ctx: ctx, root: root, below: ".", at: root.Name()}, name: file, on: on}
	if err := d.look(p); err != nil {
		return nil, err
	}
	says, err := d.verify(p)
	if err != nil {
		return nil, err
	}
	if err := s.taken(base, d, says); err != nil {
		return nil, err
	}
	r, err := s.revise(base, d)
	if err != nil {
		return nil, s.hint(err)
	}
	if r.signers, err = s.signers(base, d); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if err := r.checkRevised(d, base); err != nil {
		if says == nil && CodeOf(err) != "" {
			err = wrong(err) // nothing tells whether all of it is there
		}
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// base is a release as one that drop-ins go onto: whatever became of those that were
// taken for it, none of them is taken again.
func (s *Store) base(r *Release) (Base, error) {
	on, err := r.Base()
	if err != nil {
		return on, err
	}
	entries, err := s.List(on.Name)
	for _, e := range entries {
		if e.Number == on.Release {
			on.Revision = max(on.Revision, e.Revision)
		}
	}
	return on, err
}

// incomingDropIn is a bare drop-in that is being received.
type incomingDropIn struct {
	incoming
	name      string
	on        Base
	is        FileInfo // the file, as it was when it was verified
	sidecar   []byte   // an engine's
	signature []byte   // nil: none
	revision  int64
}

func (d *incomingDropIn) engine() bool { return path.Ext(d.name) == engineExt }

func (d *incomingDropIn) path() string { return filepath.Join(d.at, d.name) }

// most is how large such a file may be.
func (d *incomingDropIn) most() int64 {
	switch path.Ext(d.name) {
	case cacheExt:
		return calibcache.MaxSize
	case onnxExt:
		return onnx.MaxSize
	}
	return maxFileSize
}

// look reads what lies beside the file, and tells what is awaited.
func (d *incomingDropIn) look(p Policy) (err error) {
	f, err := openInside(d.root, d.name, d.path())
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > d.most() {
		return rejectf(BadHash, "%s has %d bytes, of such files at most %d are taken", d.path(), info.Size(), d.most())
	}
	if d.engine() {
		if d.sidecar, err = d.beside(sidecarOf(d.name), maxSidecar); err != nil {
			return err
		}
		if d.sidecar == nil {
			return awaited(rejectf(MissingFile, "%s has no %s, which says what it was built for", d.path(), sidecarOf(d.name)))
		}
	}
	if d.signature, err = d.beside(d.name+signatureExt, maxSignature); err != nil || d.signature != nil {
		return err
	}
	if p.RequireSignature {
		_, err := p.checkSignature(signature{from: d.path(), file: d.name + signatureExt, message: "the file"})
		if CodeOf(err) == BadSignature {
			err = awaited(err)
		}
		return err
	}
	if d.engine() && !p.AllowUnsignedEngines {
		return awaited(rejectf(BadSignature, "%s has no %s, and an engine is code: sign it, or set releases.allow_unsigned_engines: true", d.path(), d.name+signatureExt))
	}
	return nil
}

// beside reads a small file; nil where it isn't there.
func (d *incomingDropIn) beside(name string, limit int64) ([]byte, error) {
	b, err := d.read(name, limit)
	var more *Incomplete
	if errors.As(err, &more) && CodeOf(err) == MissingFile {
		if _, err := d.root.Lstat(name); err == nil {
			return nil, more // it is there, and can't be read
		}
		return nil, nil
	}
	if b == nil {
		b = []byte{}
	}
	return b, err
}

// awaited is the error of a drop-in beside which a file lacks. It may be on its way;
// if it doesn't come, the drop-in is rejected for what err says.
func awaited(err error) error {
	return &Incomplete{Err: &Rejection{MissingFile, err}, Wrong: true}
}

// Final is what a drop is rejected for of which nothing more comes.
func (i *Incomplete) Final() error {
	var waits *Rejection
	if errors.As(i.Err, &waits) && CodeOf(waits.Err) != "" {
		return waits.Err
	}
	return i.Err
}

// verify reads the file to its end, without keeping any of it. It returns what the
// signer says, nil where there is no signature.
func (d *incomingDropIn) verify(p Policy) (*DropIn, error) {
	f, err := openInside(d.root, d.name, d.path())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash := sha256.New()
	size := &counter{from: io.LimitReader(&stoppable{ctx: d.ctx, from: f, at: d.path()}, d.most()+1)}
	content := io.TeeReader(size, hash)
	var says *DropIn
	if d.signature == nil {
		_, err = io.Copy(io.Discard, content)
	} else {
		says, _, err = p.readDropIn(Dropped{d.name, content, d.sidecar, d.signature}, d.on)
	}
	switch {
	case CodeOf(err) == BadSignature:
		return nil, wrong(err) // one of the two may be on its way still
	case err != nil:
		return nil, err
	case size.n > d.most():
		return nil, rejectf(BadHash, "%s has more than %d bytes, of such files at most that many are taken", d.path(), d.most())
	}
	d.is = FileInfo{Size: size.n, SHA256: hex.EncodeToString(hash.Sum(nil))}
	d.revision = d.on.Revision + 1
	if says != nil {
		d.revision = says.Revision
	} else if d.revision > MaxRevision {
		return nil, rejectf(NotNewer, "%s: release %d of %s had its last revision, %d", d.path(), d.on.Release, d.on.Name, d.on.Revision)
	}
	return says, nil
}

// judge holds what was signed against the base.
func (d *incomingDropIn) judge(says *DropIn) error {
	err := says.fits(Dropped{d.name, nil, d.sidecar, d.signature}, d.on)
	switch {
	case err == nil:
		return nil
	case says.File == d.name && says.Name == d.on.Name && says.Release > d.on.Release:
		return &Incomplete{Err: err} // that release may come
	case CodeOf(err) == BadHash: // the sidecar's
		return wrong(err)
	}
	return err
}

// taken is an error where the drop-in isn't to be taken, or was.
func (s *Store) taken(base *Release, d *incomingDropIn, says *DropIn) error {
	all, err := s.revisions(d.on.Name)
	if err != nil {
		return err
	}
	m, err := base.Manifest()
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(all) {
		// Of signed ones the last is known again, older ones are replayed.
		again := e.Revision == d.on.Revision && e.Number == d.on.Release
		if says != nil && !(again && says.Release == e.Number && says.Manifest == d.on.Manifest && says.Revision == e.Revision) {
			continue
		}
		same, err := s.holdsFile(e, m, d)
		if err != nil {
			return err
		}
		if same {
			return &Installed{d.on.Name, e}
		}
	}
	if says != nil {
		if err := d.judge(says); err != nil {
			return err
		}
	}
	if m.Files[m.place(d.name)] != d.is {
		return nil
	}
	// It serves as it is.
	entry := Entry{Number: m.Release, Revision: m.Revision, State: Confirmed, Factory: base.Factory}
	entries, err := s.List(m.Name)
	for _, e := range entries {
		if e.ID() == entry.ID() && !base.Factory {
			entry = e
		}
	}
	return errors.Join(err, &Installed{m.Name, entry})
}
