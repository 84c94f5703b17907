package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sightd/sightd/release"
)

type releaseKeygenCmd struct {
	SecretKey  string `arg:"" type:"path" placeholder:"FILE" help:"The secret key's file, such as fleet.key."`
	PublicKey  string `short:"p" type:"path" placeholder:"FILE" help:"The public key's file; beside the secret key's with .pub by default."`
	NoPassword bool   `short:"W" help:"Don't encrypt the secret key."`
	passwordFlags
}

func (c *releaseKeygenCmd) Run(a *app) error {
	if c.NoPassword && c.PasswordFile != "" {
		return usagef("--no-password and --password-file exclude each other")
	}
	if c.PublicKey == "" {
		c.PublicKey = strings.TrimSuffix(c.SecretKey, ".key") + ".pub"
	}
	if c.PublicKey == c.SecretKey {
		return usagef("both keys would be %s: name another file with --public-key", c.SecretKey)
	}
	if err := release.CheckNoKeys(c.SecretKey, c.PublicKey); err != nil {
		return err // before a password is asked for
	}
	var password *string
	if !c.NoPassword {
		given, err := c.ask(a, c.SecretKey, true)
		if err != nil {
			return err
		}
		if given == "" {
			return fmt.Errorf("the password is empty: give one, or take --no-password")
		}
		password = &given
	}
	id, err := release.GenerateKey(c.SecretKey, c.PublicKey, password)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "key %s: %s signs and stays here; %s goes to the devices, under releases.keys\n", id, c.SecretKey, c.PublicKey)
	return nil
}

type releaseSignCmd struct {
	Path       string `arg:"" type:"path" help:"A packed release, a folder or a .tar.zst; with --for, a NAME.cache, NAME.onnx or NAME.engine."`
	SecretKey  string `short:"s" required:"" type:"path" placeholder:"FILE" help:"The secret key, of sightd release keygen or minisign."`
	For        string `placeholder:"NAME:NUMBER" help:"The release that a single file is for."`
	ManifestOf string `type:"path" placeholder:"RELEASE" help:"With --for: that release, a folder or a .tar.zst; the file is bound to its manifest."`
	Revision   int64  `placeholder:"N" help:"With --for: higher than any before for that release; by default the time in seconds."`
	passwordFlags
}

func (c *releaseSignCmd) Run(a *app) error {
	name, number, err := c.target()
	if err != nil {
		return err
	}
	var base *release.Release
	if c.For != "" { // before a password is asked for
		if base, err = release.Open(c.ManifestOf); err != nil {
			return err
		}
		defer base.Close()
		if base.Spec.Name != name || base.Spec.Release != number {
			return fmt.Errorf("--manifest-of %s: is release %d of %s, and --for says %s", c.ManifestOf, base.Spec.Release, base.Spec.Name, c.For)
		}
		if err := base.CheckDropIn(c.Path); err != nil {
			return fmt.Errorf("refused (%s): %w", release.CodeOf(err), err)
		}
	}
	key, err := release.ReadSecretKey(c.SecretKey, func() (string, error) { return c.ask(a, c.SecretKey, false) })
	if err != nil {
		return err
	}
	if base == nil {
		comment, err := release.Sign(c.Path, key, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stderr, "%s is signed with key %016X: %s\n", c.Path, key.ID(), comment)
		return nil
	}
	d, err := release.SignDropIn(c.Path, base, c.Revision, key, time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "%s.minisig is signed with key %016X: %s\n", c.Path, key.ID(), d.Comment())
	return nil
}

// target is the release that --for names.
func (c *releaseSignCmd) target() (name string, number int, err error) {
	if c.Revision < 0 || c.Revision > release.MaxRevision {
		return "", 0, usagef("--revision %d: want 1 to %d", c.Revision, int64(release.MaxRevision))
	}
	if c.For == "" {
		if c.ManifestOf != "" || c.Revision != 0 {
			return "", 0, usagef("--manifest-of and --revision are for a single file: name its release with --for NAME:NUMBER")
		}
		if release.DropInModel(filepath.Base(c.Path)) != "" {
			return "", 0, usagef("%s is a single file: name its release with --for NAME:NUMBER and --manifest-of", c.Path)
		}
		return "", 0, nil
	}
	name, text, _ := strings.Cut(c.For, ":")
	number, err = strconv.Atoi(text)
	if err != nil || release.CheckName(name) != nil || number < 1 || number > release.MaxNumber {
		return "", 0, usagef("--for %s: want NAME:NUMBER, such as lite0:7", c.For)
	}
	if c.ManifestOf == "" {
		return "", 0, usagef("--for %s: name that release with --manifest-of", c.For)
	}
	return name, number, nil
}
