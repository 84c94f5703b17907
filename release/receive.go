package release

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ArchiveSuffix ends the name of a release in one file.
const ArchiveSuffix = ".tar.zst"

// Receive copies a drop out of a directory that others write to: a directory
// with a manifest, or a file with [ArchiveSuffix]. The copy lies in the store's
// staging until Close, so that what happens in the inbox afterwards changes
// nothing; [Store.Install] moves it from there. Links are followed only inside root,
// which [os.Root] sees to by walking names one by one: no system call is needed
// for it that an old kernel or a sandbox lacks (openat2, say). Nothing that is
// no regular file is read. Files that an installed release of the same name, or the
// factory release, has by hash may be missing.
//
// Signature, number and room on the disk are looked at before anything is copied;
// options are those of the install to come, and may refuse the model.
//
// The manifest comes too where it could be read. The error is an [*Incomplete] where more may come, an [*Installed]
// where there is nothing to do, a [*NoRoom] where the disk is too full, a [Rejection] where the policy or the release
// itself forbids it; others, a full disk say, tell nothing of the drop.
func (s *Store) Receive(ctx context.Context, root *os.Root, name string, p Policy, options func(model string) (Options, error)) (_ *Release, _ *Manifest, err error) {
	if err := s.makeStaging(); err != nil {
		return nil, nil, s.hint(err)
	}
	temp, err := os.MkdirTemp(s.staging(), "inbox-")
	if err != nil {
		return nil, nil, s.hint(err)
	}
	d := &incoming{options: options, ctx: ctx, root: root, below: name, at: filepath.Join(root.Name(), name), temp: temp, to: temp}
	defer func() {
		if err != nil {
			d.room.end()
			err = errors.Join(s.hint(err), os.RemoveAll(temp))
		}
	}()
	if strings.HasSuffix(name, ArchiveSuffix) {
		unpacked, err := s.unpack(d, p)
		if err != nil {
			return nil, d.manifest, err
		}
		defer unpacked.Close()
	}
	r, err := s.receive(d, p)
	if err != nil {
		return nil, d.manifest, err
	}
	r.room, r.received = d.room, true
	return r, d.manifest, nil
}

// incoming is a drop that is being received.
type incoming struct {
	ctx      context.Context
	root     *os.Root // to read from
	below    string   // its path there
	at       string   // its path for messages
	temp, to string   // to is temp or below it, and gets the files
	unpacked bool     // root is to: the files are there already
	manifest *Manifest
	room     *claim // on the disk; nil: none yet

	options func(model string) (Options, error)
	install Options // for the manifest's model
}

func (s *Store) receive(d *incoming, p Policy) (*Release, error) {
	raw, err := d.read(ManifestName, maxManifest)
	if err != nil {
		return nil, err
	}
	signature, err := d.read(SignatureName, maxSignature)
	var more *Incomplete
	if err != nil && !(errors.As(err, &more) && CodeOf(err) == MissingFile) {
		return nil, err
	}
	// Before anything is copied: an unsigned drop gets no room on this disk.
	r, err := s.admit(d, raw, signature, p)
	if err != nil {
		return nil, err
	}
	m := r.manifest
	if err := s.collect(d, m); err != nil {
		return nil, err
	}
	r.locate()
	if err := r.readLabels(); err != nil {
		return nil, unquoted(filepath.Join(d.at, m.Labels), BadLabels, err)
	}
	return r, nil
}

// admit makes a release, its files yet to come, of a manifest and its signature
// (nil: none).
func (s *Store) admit(d *incoming, raw, signature []byte, p Policy) (*Release, error) {
	at := filepath.Join(d.at, ManifestName)
	m, err := ParseManifest(at, raw)
	if err != nil {
		err = unquoted(at, BadManifest, err)
		if !json.Valid(raw) {
			err = wrong(err)
		}
		return nil, err
	}
	d.manifest = m
	var known *Installed
	if err := s.isKnown(d, m, raw); errors.As(err, &known) {
		return nil, err
	} // what else is wrong is said after it is known to be from somebody who is trusted
	r := &Release{Spec: m.Spec, dir: d.to, from: d.at, packed: true, manifest: m, raw: raw, signature: signature, temp: d.temp}
	if err := p.Admit(r); CodeOf(err) == BadSignature {
		return nil, wrong(err) // it may be the one after, or the one before
	} else if err != nil {
		return nil, err
	}
	if d.options != nil {
		if d.install, err = d.options(m.Name); err != nil {
			return nil, err
		}
	}
	return r, s.isKnown(d, m, raw)
}

// isKnown refuses a release that was there before, or that comes too late.
func (s *Store) isKnown(d *incoming, m *Manifest, raw []byte) error {
	state, err := s.read(m.Name)
	if err != nil {
		return err
	}
	return s.isNew(m.Name, state, m.Spec, ID{Number: m.Release}, hashOf(raw), d.install)
}

// collect brings the manifest's files to where they are staged.
func (s *Store) collect(d *incoming, m *Manifest) error {
	installed, err := s.files(m.Name)
	if err != nil {
		return err
	}
	have := &shelf{have: installed, factory: d.install.Contents}
	names := slices.Sorted(maps.Keys(m.Files))
	if err := d.awaited(m, names, have); err != nil {
		return err
	}
	if d.room == nil { // borrowed files are copied too
		if d.room, err = s.claim(m.bytes()); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		want := m.Files[name]
		err := d.bring(name, want)
		if CodeOf(err) != "" {
			if from, ok := have.find(want); ok {
				err = d.borrow(from, name, want)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// files are those of the installed releases of a name, by what they are.
func (s *Store) files(name string) (map[FileInfo]string, error) {
	entries, err := s.List(name)
	if err != nil {
		return nil, err
	}
	all := map[FileInfo]string{}
	for _, e := range entries {
		dir := s.path(name, e.ID())
		raw, err := os.ReadFile(filepath.Join(dir, ManifestName))
		if err != nil {
			continue
		}
		if m, err := ParseManifest(ManifestName, raw); err == nil {
			for file, is := range m.Files {
				all[is] = filepath.Join(dir, filepath.FromSlash(file))
			}
		}
	}
	return all, nil
}
