package release

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeysAreWrittenForTheirOwnerAndNeverOver(t *testing.T) {
	t.Parallel()
	for _, there := range []string{"a.key", "a.pub"} {
		dir := t.TempDir()
		secret, public := filepath.Join(dir, "a.key"), filepath.Join(dir, "a.pub")
		write(t, filepath.Join(dir, there), "mine")
		if _, err := GenerateKey(secret, public, nil); err == nil || !strings.Contains(err.Error(), there+" is there") {
			t.Errorf("with %s there: %v", there, err)
		}
		if diff := cmp.Diff(map[string]string{there: "mine"}, tree(t, dir)); diff != "" {
			t.Error(diff)
		}
	}
	dir := t.TempDir()
	if err := os.Symlink("elsewhere", filepath.Join(dir, "a.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := GenerateKey(filepath.Join(dir, "a.key"), filepath.Join(dir, "a.pub"), nil); err == nil {
		t.Error("a link that leads nowhere was followed")
	}
	// The secret key goes where the public one can't be written.
	if _, err := GenerateKey(filepath.Join(dir, "b.key"), filepath.Join(dir, "no", "b.pub"), nil); err == nil {
		t.Error("no error without the public key's folder")
	}
	if _, err := os.Lstat(filepath.Join(dir, "b.key")); err == nil {
		t.Error("a secret key without a public one was left")
	}
	if _, err := GenerateKey(filepath.Join(dir, "c.key"), filepath.Join(dir, "c.pub"), nil); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"c.key": 0o600, "c.pub": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, wanted %v; %v", name, info.Mode(), want, err)
		}
	}
}

// encryptedKey is a minisign key made for this test, password "correct horse", at a
// cost that is small for a test; what keygen writes takes 1 GiB and seconds to open.
const encryptedKey = `untrusted comment: minisign encrypted secret key
RWRTY0IyAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8AgAAAAAAAAAAAAAEAAAAAI2P0/EZF+zYzuH6tLgEg+E8/R/hmN3KEPYZnSOaMhmgls7033jSaJPYhPAEYgFtO9JRnMivjjjWHZr/nsIFgOIXEHAlTgNfG1t6noBzCJ3fSnyNDgyeLO1Ennj6STNXJhzisDK8u3Ck=
`

func TestASecretKeyOpensWithItsPasswordAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.key")
	with := func(password string) func() (string, error) {
		return func() (string, error) { return password, nil }
	}
	write(t, path, encryptedKey)
	if key, err := ReadSecretKey(path, with("correct horse")); err != nil || keyID(key.ID()) != "A871C41274C0C23C" {
		t.Errorf("key %s: %v", keyID(key.ID()), err)
	}
	silent := errors.New("nobody answers")
	if _, err := ReadSecretKey(path, func() (string, error) { return "", silent }); !errors.Is(err, silent) {
		t.Error(err)
	}
	for name, c := range map[string]struct{ text, password, want string }{
		"another password": {encryptedKey, "Correct horse", "that is not its password, or the file is damaged"},
		"a damaged file":   {strings.Replace(encryptedKey, "3Ck=", "2Ck=", 1), "correct horse", "that is not its password, or the file is damaged"},
		"a public key":     {"untrusted comment: minisign public key A871C41274C0C23C\nRWQ8wsB0EsRxqJlWoUtCdr8JYs5TDLX0sF9IcoogfpBW9hnZUjv/WpTt\n", "", "is no minisign secret key"},
		"an empty file":    {"", "", "is no minisign secret key"},
		"a large file":     {strings.Repeat("A", maxKeyFile+1), "", "is larger than 4 KiB"},
	} {
		write(t, path, c.text)
		if _, err := ReadSecretKey(path, with(c.password)); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v\nwanted %s", name, err, c.want)
		}
	}
}
