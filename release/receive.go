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
// nothing. Links are followed only inside root, and nothing that is no regular
// file is read. Files that an installed release of the same name has by hash
// may be missing.
//
// The manifest comes too where it could be read. The error is an [*Incomplete] where more may come, an [*Installed]
// where there is nothing to do, a [Rejection] where the policy or the release
// itself forbids it; others, a full disk say, tell nothing of the drop.
func (s *Store) Receive(ctx context.Context, root *os.Root, name string, p Policy) (_ *Release, _ *Manifest, err error) {
	if err := s.makeStaging(); err != nil {
		return nil, nil, s.hint(err)
	}
	temp, err := os.MkdirTemp(s.staging(), "inbox-")
	if err != nil {
		return nil, nil, s.hint(err)
	}
	d := &incoming{ctx: ctx, root: root, below: name, at: filepath.Join(root.Name(), name), temp: temp, to: temp}
	defer func() {
		if err != nil {
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
	return r, d.manifest, err
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
	if err := s.installed(m, raw); err != nil {
		return nil, err
	}
	r := &Release{Spec: m.Spec, dir: d.to, from: d.at, packed: true, manifest: m, raw: raw, signature: signature, temp: d.temp}
	if err := p.Admit(r); CodeOf(err) == BadSignature {
		return nil, wrong(err) // it may be the one after, or the one before
	} else if err != nil {
		return nil, err
	}
	return r, nil
}

// installed is an [*Installed] where this very release is known already.
func (s *Store) installed(m *Manifest, raw []byte) error {
	state, err := s.read(m.Name)
	if err != nil {
		return err
	}
	err = s.isNew(m.Name, state, m.Spec, ID{Number: m.Release}, hashOf(raw), Options{})
	var known *Installed
	if errors.As(err, &known) {
		return err
	}
	return nil // what else is wrong is said after it is known to be from somebody who is trusted
}

// collect brings the manifest's files to where they are staged.
func (s *Store) collect(d *incoming, m *Manifest) error {
	have, err := s.files(m.Name)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(m.Files))
	if err := d.awaited(m, names, have); err != nil {
		return err
	}
	for _, name := range names {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		want := m.Files[name]
		err := d.bring(name, want)
		if from, ok := have[want]; ok && CodeOf(err) != "" {
			err = d.borrow(from, name, want)
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
