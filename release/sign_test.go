package release

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/google/go-cmp/cmp"
)

// morning is when the tests sign.
var morning = time.Date(2026, 11, 28, 9, 14, 6, 7, time.FixedZone("CET", 3600))

// signer is a key pair, the public key in a file.
type signer struct {
	key minisign.PrivateKey
	id  string
	pub string // path
}

func newSigner(t *testing.T) signer {
	t.Helper()
	dir := t.TempDir()
	s := signer{pub: filepath.Join(dir, "fleet.pub")}
	var err error
	if s.id, err = GenerateKey(filepath.Join(dir, "fleet.key"), s.pub, nil); err != nil {
		t.Fatal(err)
	}
	if s.key, err = ReadSecretKey(filepath.Join(dir, "fleet.key"), nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// trusts is the policy of a device that trusts the signer for the names.
func (s signer) trusts(names ...string) Policy {
	return Policy{RequireSignature: true, Keys: []TrustedKey{{File: s.pub, Names: names}}}
}

func (s signer) signs(t *testing.T, path string) string {
	t.Helper()
	comment, err := Sign(path, s.key, morning)
	if err != nil {
		t.Fatal(err)
	}
	return comment
}

// archived packs a variant as an archive.
func archived(t *testing.T, pairs ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "packed.tar.zst")
	if _, err := Pack(variant(t, pairs...), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestASignedReleaseIsTakenWithTheSignersComment(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	for name, path := range map[string]string{"directory": packed(t), "archive": archived(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const want = "sightd-release:1 for:tiny:1 time:2026-11-28T08:14:06Z"
			if got := s.signs(t, path); got != want {
				t.Errorf("comment %q, wanted %q", got, want)
			}
			got, err := s.trusts().VerifySignature(opened(t, path))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&Signed{Key: s.id, File: s.pub, Comment: want}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSigningChangesNothingButTheSignature(t *testing.T) {
	t.Parallel()
	s, dir := newSigner(t), packed(t)
	before := tree(t, dir)
	s.signs(t, dir)
	after := tree(t, dir)
	if after[SignatureName] == "" {
		t.Fatal("no signature was written")
	}
	delete(after, SignatureName)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
}

func TestASignedArchiveHoldsWhatItHeld(t *testing.T) {
	t.Parallel()
	s, archive, dir := newSigner(t), archived(t), packed(t)
	if err := os.Chmod(archive, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "latest.tar.zst")
	if err := os.Symlink(archive, link); err != nil {
		t.Fatal(err)
	}
	s.signs(t, link)
	s.signs(t, dir)
	if diff := cmp.Diff(tree(t, dir), tree(t, opened(t, archive).dir)); diff != "" {
		t.Errorf("directory and archive differ:\n%s", diff)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Error("the link was replaced:", info.Mode(), err)
	}
	if info, err := os.Stat(archive); err != nil || info.Mode().Perm() != 0o640 {
		t.Error("the mode has changed:", info.Mode(), err)
	}
	if names := namesIn(t, filepath.Dir(archive)); len(names) != 1 {
		t.Errorf("left beside the archive: %q", names)
	}
}

func TestSigningAgainReplacesTheSignature(t *testing.T) {
	t.Parallel()
	before, now := newSigner(t), newSigner(t)
	for _, path := range []string{packed(t), archived(t)} {
		before.signs(t, path)
		now.signs(t, path)
		_, err := before.trusts().VerifySignature(opened(t, path))
		wantRejected(t, err, NoTrustedKey, "is signed with key "+now.id)
		if _, err := now.trusts().VerifySignature(opened(t, path)); err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyAWholePackedReleaseIsSigned(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	spec := variant(t)
	if _, err := Sign(spec, s.key, morning); err == nil || !strings.Contains(err.Error(), "isn't packed") || !strings.Contains(err.Error(), "sightd release pack "+spec+" -o OUT") {
		t.Error("a model.yaml:", err)
	}
	damaged := packed(t)
	write(t, filepath.Join(damaged, cacheName), "short")
	_, err := Sign(damaged, s.key, morning)
	wantRejected(t, err, BadHash, cacheName, "found 5 bytes")
	if _, err := os.Stat(filepath.Join(damaged, SignatureName)); err == nil {
		t.Error("a damaged release was signed")
	}
}

func TestSignaturesOfReleasesThatAreRefused(t *testing.T) {
	t.Parallel()
	s, stranger := newSigner(t), newSigner(t)
	other := packed(t, "release: 1", "release: 2")
	s.signs(t, other)
	for name, c := range map[string]struct {
		spoil  func(t *testing.T, dir string) // a signed release
		policy Policy
		code   Code
		want   string
	}{
		"unsigned": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, SignatureName)); err != nil {
				t.Fatal(err)
			}
		}, s.trusts(), BadSignature, "has no manifest.json.minisig"},
		"no key is trusted": {nil, Policy{}, NoTrustedKey, "no key is trusted"},
		"another key":       {nil, stranger.trusts(), NoTrustedKey, "is signed with key " + s.id + ", which is none of"},
		"key for other models": {
			nil, s.trusts("lite*", "kiosk"), NoTrustedKey, "is trusted for lite*, kiosk only, not for tiny",
		},
		"a revoked key": {
			nil, Policy{Keys: s.trusts().Keys, Revoked: []string{"00000000DEADBEEF", strings.ToLower(s.id)}}, NoTrustedKey, "key " + s.id + ", which is revoked",
		},
		"a revoked key as minisign writes it": {
			nil, Policy{Keys: s.trusts().Keys, Revoked: []string{strings.TrimLeft(s.id, "0")}}, NoTrustedKey, "which is revoked",
		},
		"signature of another manifest": {func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, SignatureName), read(t, filepath.Join(other, SignatureName)))
		}, s.trusts(), BadSignature, "doesn't fit its manifest"},
		"manifest changed by one byte": {func(t *testing.T, dir string) {
			replaceIn(t, filepath.Join(dir, ManifestName), `"release": 1,`, `"release": 2,`)
		}, s.trusts(), BadSignature, "doesn't fit its manifest"},
		"a space more in the manifest": {func(t *testing.T, dir string) {
			replaceIn(t, filepath.Join(dir, ManifestName), `"release": 1,`, `"release":  1,`)
		}, s.trusts(), BadSignature, "doesn't fit its manifest"},
		"comment changed": {func(t *testing.T, dir string) {
			replaceIn(t, filepath.Join(dir, SignatureName), "for:tiny:1", "for:tiny:2")
		}, s.trusts(), BadSignature, "doesn't fit its manifest"},
		"said to be a legacy signature": {func(t *testing.T, dir string) {
			replaceIn(t, filepath.Join(dir, SignatureName), "\nRU", "\nRW") // ED becomes Ed
		}, s.trusts(), BadSignature, "doesn't fit its manifest"},
		"no signature at all": {func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, SignatureName), "")
		}, s.trusts(), BadSignature, "is no minisign signature"},
		"something after the signature": {func(t *testing.T, dir string) {
			path := filepath.Join(dir, SignatureName)
			write(t, path, read(t, path)+"more")
		}, s.trusts(), BadSignature, "is no minisign signature"},
		"a signature for a drop-in": {func(t *testing.T, dir string) {
			signed, err := signHashed(s.key, []byte(read(t, filepath.Join(dir, ManifestName))), goodDropIn().Comment())
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, SignatureName), string(signed))
		}, s.trusts(), BadSignature, "was made for a drop-in"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := packed(t)
			s.signs(t, dir)
			if c.spoil != nil {
				c.spoil(t, dir)
			}
			_, err := c.policy.VerifySignature(opened(t, dir))
			wantRejected(t, err, c.code, c.want)
		})
	}
}

func TestAKeyThatStandsTwiceIsTrustedForTheNamesOfBoth(t *testing.T) {
	t.Parallel()
	s, dir := newSigner(t), packed(t)
	s.signs(t, dir)
	p := s.trusts("lite*")
	p.Keys = append(p.Keys, s.trusts("tin?").Keys...)
	if _, err := p.VerifySignature(opened(t, dir)); err != nil {
		t.Error(err)
	}
}

func TestLegacySignaturesOfManifestsAreTaken(t *testing.T) {
	t.Parallel()
	s, dir := newSigner(t), packed(t)
	write(t, filepath.Join(dir, SignatureName), string(minisign.Sign(s.key, []byte(read(t, filepath.Join(dir, ManifestName))))))
	if _, err := s.trusts().VerifySignature(opened(t, dir)); err != nil {
		t.Error(err)
	}
}

func replaceIn(t *testing.T, path, old, by string) {
	t.Helper()
	text := read(t, path)
	if !strings.Contains(text, old) {
		t.Fatalf("%q is not in %s", old, path)
	}
	write(t, path, strings.Replace(text, old, by, 1))
}
