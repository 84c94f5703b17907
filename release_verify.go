package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"aead.dev/minisign"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/release"
)

type releaseVerifyCmd struct {
	Path       string   `arg:"" type:"path" help:"A release, a folder or a .tar.zst; with --manifest-of, a NAME.cache, NAME.onnx or NAME.engine."`
	Key        []string `short:"p" sep:"none" placeholder:"FILE[=NAMES]" help:"A trusted public key, and the models that it may sign, such as fleet.pub=lite*,kiosk; may be given more than once."`
	Revoked    []string `placeholder:"ID" help:"Ids of revoked keys."`
	Config     string   `short:"c" type:"path" placeholder:"FILE" help:"Instead: the keys and the rest of a device's sightd.yaml."`
	ManifestOf string   `type:"path" placeholder:"RELEASE" help:"The release that a single file is dropped on."`
	Revision   int64    `placeholder:"N" help:"With --manifest-of: the highest revision that the device has taken."`
	JSON       bool     `name:"json" help:"One JSON document."`
}

// verdict is what `release verify --json` says.
type verdict struct {
	OK       bool         `json:"ok"`
	Path     string       `json:"path"`
	Name     string       `json:"name,omitempty"`
	Release  int          `json:"release,omitempty"`
	Revision int64        `json:"revision,omitempty"` // of a single file
	Files    int          `json:"files,omitempty"`
	Bytes    int64        `json:"bytes,omitempty"`
	Signed   bool         `json:"signed"`
	Key      string       `json:"key,omitempty"`
	KeyFile  string       `json:"key_file,omitempty"`
	Comment  string       `json:"comment,omitempty"`
	Code     release.Code `json:"code,omitempty"`
	Reason   string       `json:"reason,omitempty"`
}

func (c *releaseVerifyCmd) Run(a *app) error {
	policy, err := c.policy()
	if err != nil {
		return err
	}
	v := verdict{Path: c.Path}
	if c.ManifestOf != "" {
		err = c.verifyDropIn(policy, &v)
	} else {
		err = c.verifyRelease(policy, &v)
	}
	v.OK, v.Code = err == nil, release.CodeOf(err)
	if err != nil && v.Code == "" {
		return err // nothing that a release can do for
	}
	if err != nil {
		v.Reason = err.Error()
	}
	switch {
	case c.JSON:
		if err := writeJSON(a.stdout, v); err != nil || v.OK {
			return err
		}
		return exitStatus(1)
	case err != nil:
		return fmt.Errorf("refused (%s): %w", v.Code, err)
	}
	return v.print(a.stdout)
}

// policy is what the device takes. Its keys have been read.
func (c *releaseVerifyCmd) policy() (release.Policy, error) {
	if (c.Config == "") == (len(c.Key) == 0) {
		return release.Policy{}, usagef("name the trusted keys with --key, or a device's configuration with -c")
	}
	if c.Config != "" && len(c.Revoked) > 0 {
		return release.Policy{}, usagef("--revoked: with -c the configuration says that")
	}
	if c.Revision < 0 || c.Revision > 0 && c.ManifestOf == "" {
		return release.Policy{}, usagef("--revision %d: want the last one's number, with --manifest-of", c.Revision)
	}
	if c.ManifestOf == "" && release.DropInModel(filepath.Base(c.Path)) != "" {
		return release.Policy{}, usagef("%s is a single file: name the release that it is for with --manifest-of", c.Path)
	}
	if c.Config != "" {
		cfg, err := daemon.LoadConfig(c.Config, os.Environ())
		if err != nil {
			return release.Policy{}, err
		}
		return cfg.Policy(version), nil
	}
	p := release.Policy{RequireSignature: true, Revoked: c.Revoked}
	for _, id := range c.Revoked {
		if _, err := strconv.ParseUint(id, 16, 64); err != nil {
			return p, usagef("--revoked %s: want a key id, up to 16 hexadecimal digits", id)
		}
	}
	for _, text := range c.Key {
		key, err := trustedKey(text)
		if err != nil {
			return p, err
		}
		p.Keys = append(p.Keys, key)
	}
	return p, nil
}

// trustedKey reads FILE or FILE=PATTERN,PATTERN.
func trustedKey(text string) (release.TrustedKey, error) {
	key := release.TrustedKey{File: text}
	if _, err := os.Stat(text); err != nil {
		if file, names, ok := strings.Cut(text, "="); ok {
			key = release.TrustedKey{File: file, Names: strings.Split(names, ",")}
		}
	}
	for _, pattern := range key.Names {
		if _, err := filepath.Match(pattern, ""); err != nil || pattern == "" {
			return key, usagef("--key %s: %q is no pattern of models' names", text, pattern)
		}
	}
	if _, err := minisign.PublicKeyFromFile(key.File); err != nil {
		return key, usagef("--key %s: want a minisign public key: %w", text, err)
	}
	return key, nil
}

func (c *releaseVerifyCmd) verifyRelease(p release.Policy, v *verdict) error {
	r, err := release.Open(c.Path)
	if err != nil {
		return err
	}
	defer r.Close()
	v.Name, v.Release = r.Spec.Name, r.Spec.Release
	m, err := r.Manifest()
	if err != nil {
		return err
	}
	v.Files = len(m.Files)
	for _, file := range m.Files {
		v.Bytes += file.Size
	}
	if p.RequireSignature {
		signed, err := p.VerifySignature(r)
		if err != nil {
			return err
		}
		v.signedBy(signed)
	}
	if c.Config == "" {
		return nil // no device to ask whether it is for it
	}
	return p.Admit(r)
}

func (c *releaseVerifyCmd) verifyDropIn(p release.Policy, v *verdict) error {
	on, err := release.Open(c.ManifestOf)
	if err != nil {
		return err
	}
	defer on.Close()
	if on.SpecPath() != "" {
		return usagef("--manifest-of %s: isn't packed", c.ManifestOf)
	}
	base, err := on.Base()
	if err != nil {
		return err
	}
	base.Revision = c.Revision
	v.Name, v.Release = base.Name, base.Release
	f, err := os.Open(c.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	count := &counted{from: f}
	found := release.Dropped{File: filepath.Base(c.Path), Content: count}
	if found.Signature, err = readIfThere(c.Path + ".minisig"); err != nil {
		return err
	}
	if ext := filepath.Ext(c.Path); ext == ".engine" {
		if found.Sidecar, err = readIfThere(strings.TrimSuffix(c.Path, ext) + ".json"); err != nil {
			return err
		}
	}
	says, signed, err := p.VerifyDropIn(found, base)
	if err != nil {
		return err
	}
	v.Files, v.Bytes, v.Revision = 1, count.n, says.Revision
	v.signedBy(signed)
	return on.CheckDropIn(c.Path)
}

// readIfThere reads a small file; nil where there is none.
func readIfThere(path string) ([]byte, error) {
	b, err := strict.ReadFile(path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// counted counts the bytes read.
type counted struct {
	from io.Reader
	n    int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.n += int64(n)
	return n, err
}

func (v *verdict) signedBy(s *release.Signed) {
	v.Signed, v.Key, v.KeyFile, v.Comment = true, s.Key, s.File, s.Comment
}

func (v *verdict) print(to io.Writer) error {
	what := fmt.Sprintf("release %d of %s, %d files with %d bytes as its manifest says", v.Release, v.Name, v.Files, v.Bytes)
	if v.Revision > 0 {
		what = fmt.Sprintf("revision %d for release %d of %s, %d bytes", v.Revision, v.Release, v.Name, v.Bytes)
	}
	by := "its signature wasn't looked at, for the configuration has require_signature: false"
	if v.Signed {
		by = fmt.Sprintf("signed with key %s (%s), trusted comment %q", v.Key, v.KeyFile, v.Comment)
	}
	_, err := fmt.Fprintf(to, "%s: good: %s; %s\n", v.Path, what, by)
	return err
}
