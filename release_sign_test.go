package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// keyPair makes a pair of keys without a password.
func keyPair(t *testing.T) (secret, public, id string) {
	t.Helper()
	dir := t.TempDir()
	secret, public = filepath.Join(dir, "fleet.key"), filepath.Join(dir, "fleet.pub")
	succeeds(t, "release", "keygen", secret, "--no-password")
	b, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	return secret, public, fmt.Sprintf("%016s", strings.TrimPrefix(first, "untrusted comment: minisign public key: "))
}

func succeeds(t *testing.T, args ...string) outcome {
	t.Helper()
	o := command(t, args...)
	if o.status != 0 {
		t.Fatalf("sightd %q: exit status %d: %s", args, o.status, o.stderr)
	}
	return o
}

// said parses what release verify --json says.
func said(t *testing.T, o outcome) verdict {
	t.Helper()
	var v verdict
	d := json.NewDecoder(strings.NewReader(o.stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil || d.More() {
		t.Fatalf("%v: %s%s", err, o.stdout, o.stderr)
	}
	return v
}

func TestASignedReleaseIsVerified(t *testing.T) {
	t.Parallel()
	secret, public, id := keyPair(t)
	path := tinyRelease(t, 7)
	o := succeeds(t, "release", "sign", path, "-s", secret)
	wantParts(t, o.stderr, path+" is signed with key "+id+": sightd-release:1 for:tiny:7 time:")
	o = succeeds(t, "release", "verify", path, "--key", public)
	wantParts(t, o.stdout, path+": good: release 7 of tiny, ", "signed with key "+id+" ("+public+"), trusted comment \"sightd-release:1 for:tiny:7 time:")
	v := said(t, succeeds(t, "release", "verify", path, "--key", public+"=lite*,tin?", "--json"))
	if !strings.HasPrefix(v.Comment, "sightd-release:1 for:tiny:7 time:") || v.Bytes == 0 || v.Files == 0 {
		t.Errorf("found %+v", v)
	}
	v.Comment, v.Bytes, v.Files = "", 0, 0
	if diff := cmp.Diff(verdict{OK: true, Path: path, Name: "tiny", Release: 7, Signed: true, Key: id, KeyFile: public}, v); diff != "" {
		t.Error(diff)
	}
}

func TestWhatADaemonWouldRefuseIsExitStatus1WithCodeAndWords(t *testing.T) {
	t.Parallel()
	secret, public, id := keyPair(t)
	_, stranger, _ := keyPair(t)
	unsigned, signed := tinyRelease(t, 7), tinyRelease(t, 7)
	succeeds(t, "release", "sign", signed, "-s", secret)
	damaged := filepath.Join(t.TempDir(), "damaged")
	succeeds(t, "release", "pack", tiny, "-o", damaged)
	succeeds(t, "release", "sign", damaged, "-s", secret)
	write(t, filepath.Join(damaged, "labels.txt"), []byte("x"))
	config, _ := configured(t, fmt.Sprintf("models: [{name: tiny}]\nreleases: {keys: [{file: %s, names: ['lite*']}]}\n", public))
	for name, c := range map[string]struct {
		args []string
		code string
		want string
	}{
		"unsigned":              {[]string{unsigned, "--key", public}, "bad-signature", "has no manifest.json.minisig"},
		"another key":           {[]string{signed, "--key", stranger}, "no-trusted-key", "is signed with key " + id + ", which is none of releases.keys"},
		"revoked":               {[]string{signed, "--key", public, "--revoked", "1,2", "--revoked", strings.ToLower(id)}, "no-trusted-key", "is revoked"},
		"other names":           {[]string{signed, "--key", stranger, "--key", public + "=lite*"}, "no-trusted-key", "is trusted for lite* only, not for tiny"},
		"as a device has it":    {[]string{signed, "-c", config}, "no-trusted-key", "is trusted for lite* only, not for tiny"},
		"file of another hash":  {[]string{damaged, "--key", public}, "bad-hash", "labels.txt"},
		"no release, no folder": {[]string{t.TempDir(), "--key", public}, "bad-manifest", "holds no release"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"release", "verify"}, c.args...)
			wantRefusal(t, command(t, args...), 1, "sightd: refused ("+c.code+"): ", c.want)
			o := command(t, append(args, "--json")...)
			v := said(t, o)
			if o.status != 1 || o.stderr != "" || v.OK || v.Signed || string(v.Code) != c.code || !strings.Contains(v.Reason, c.want) {
				t.Errorf("exit status %d, %s%s", o.status, o.stdout, o.stderr)
			}
		})
	}
	// Nothing that the release is to blame for.
	wantRefusal(t, command(t, "release", "verify", filepath.Join(damaged, "no"), "--key", public, "--json"), 1, "no such file")
}

func TestVerifyWithADevicesConfigurationSaysWhatTheDeviceSays(t *testing.T) {
	t.Parallel()
	secret, public, _ := keyPair(t)
	elsewhere := tinyWith(t, nil)
	spec := append(tinyFile(t, "model.yaml"), "for: {devices: ['gate-*']}\n"...)
	write(t, filepath.Join(elsewhere, "model.yaml"), spec)
	path := filepath.Join(t.TempDir(), "gate.tar.zst")
	succeeds(t, "release", "pack", elsewhere, "-o", path)
	lax, _ := configured(t, "models: [{name: tiny}]\nreleases: {require_signature: false}\n")
	strictly, _ := configured(t, "models: [{name: tiny}]\nreleases: {keys: ["+public+"]}\n")
	wantRefusal(t, command(t, "release", "verify", path, "-c", lax), 1, "refused (not-for-this-device)", "gate-*")
	wantRefusal(t, command(t, "release", "verify", path, "-c", strictly), 1, "refused (bad-signature)", "has no manifest.json.minisig")
	succeeds(t, "release", "sign", path, "-s", secret)
	succeeds(t, "release", "verify", path, "--key", public) // no device, nobody that it isn't for
	wantRefusal(t, command(t, "release", "verify", path, "-c", strictly), 1, "refused (not-for-this-device)")
	o := succeeds(t, "release", "verify", tinyRelease(t, 1), "-c", lax)
	wantParts(t, o.stdout, "good", "its signature wasn't looked at, for the configuration has require_signature: false")
}

func TestASingleFileIsSignedForOneRelease(t *testing.T) {
	t.Parallel()
	secret, public, id := keyPair(t)
	base, other := tinyRelease(t, 7), tinyRelease(t, 8)
	file := write(t, filepath.Join(t.TempDir(), "tiny.cache"), tinyFile(t, "calib.cache"))
	o := succeeds(t, "release", "sign", file, "-s", secret, "--for", "tiny:7", "--manifest-of", base, "--revision", "3")
	wantParts(t, o.stderr, file+".minisig is signed with key "+id+": sightd-drop-in:1 file:tiny.cache for:tiny:7 manifest:", " revision:3 time:")
	o = succeeds(t, "release", "verify", file, "--key", public, "--manifest-of", base, "--revision", "2")
	wantParts(t, o.stdout, "good: revision 3 for release 7 of tiny", "signed with key "+id)
	verify := func(file string, more ...string) outcome {
		return command(t, append([]string{"release", "verify", file, "--key", public}, more...)...)
	}
	wantRefusal(t, verify(file, "--manifest-of", base, "--revision", "3"), 1, "refused (not-newer)", "revision 3 was taken already")
	wantRefusal(t, verify(file, "--manifest-of", other), 1, "refused (not-for-this-release)", "was signed for release 7 of tiny, not for release 8")
	renamed := filepath.Join(t.TempDir(), "tiny.onnx")
	for _, end := range []string{"", ".minisig"} {
		b, err := os.ReadFile(file + end)
		if err != nil {
			t.Fatal(err)
		}
		write(t, renamed+end, b)
	}
	wantRefusal(t, verify(renamed, "--manifest-of", base), 1, "refused (not-for-this-release)", "was signed as tiny.cache")
	if err := os.Remove(file + ".minisig"); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, verify(file, "--manifest-of", base), 1, "refused (bad-signature)", "has no tiny.cache.minisig")
	wantRefusal(t, command(t, "release", "sign", file, "-s", secret, "--for", "tiny:8", "--manifest-of", base), 1, "is release 7 of tiny, and --for says tiny:8")
	wantRefusal(t, command(t, "release", "sign", base, "-s", secret, "--for", "tiny:7", "--manifest-of", base), 1, "wanted tiny.cache, tiny.onnx or tiny.engine")
}

func TestKeysAreNeverWrittenOver(t *testing.T) {
	t.Parallel()
	secret, public, _ := keyPair(t)
	unchanged(t, filepath.Dir(secret))
	wantRefusal(t, command(t, "release", "keygen", secret, "-W"), 1, secret+" is there, and keys are never written over")
	wantRefusal(t, command(t, "release", "keygen", secret+"2", "-p", public), 1, public+" is there")
}

func TestWithoutATerminalThePasswordComesFromAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := write(t, filepath.Join(dir, "empty"), []byte("\nsecond line"))
	unchanged(t, dir)
	key := filepath.Join(dir, "a.key")
	wantRefusal(t, command(t, "release", "keygen", key), 1, "there is no terminal to ask for it: name a file with it with --password-file")
	wantRefusal(t, command(t, "release", "keygen", key, "--password-file", empty), 1, "the password is empty")
	wantRefusal(t, command(t, "release", "keygen", key, "--password-file", empty+"x"), 1, "--password-file: open")
}

// In processes of their own: the tests' own would take minutes for the key's
// encryption.
func TestKeysWithAPasswordAreMinisigns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := write(t, filepath.Join(dir, "good"), []byte("correct horse\n"))
	release := filepath.Join(dir, "tiny")
	succeeds(t, "release", "pack", tiny, "-o", release)
	ours, public := filepath.Join(dir, "ours.key"), filepath.Join(dir, "ours.pub")
	if o := program(t, "release", "keygen", ours, "--password-file", good); o.status != 0 {
		t.Fatal(o.stderr)
	}
	if o := program(t, "release", "sign", release, "-s", ours, "--password-file", good); o.status != 0 {
		t.Fatal(o.stderr)
	}
	succeeds(t, "release", "verify", release, "--key", public)

	if _, err := exec.LookPath("minisign"); err != nil {
		t.Skip("the rest needs the minisign program (Debian: apt-get install minisign):", err)
	}
	minisign := func(answers string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "minisign", args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(answers)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("minisign %q: %v\n%s", args, err, out)
		}
	}
	manifest := filepath.Join(release, "manifest.json")
	minisign("", "-V", "-H", "-p", public, "-m", manifest)
	minisign("correct horse\n", "-S", "-s", ours, "-m", manifest)
	succeeds(t, "release", "verify", release, "--key", public)
	minisign("correct horse\ncorrect horse\n", "-G", "-s", "theirs.key", "-p", "theirs.pub")
	if o := program(t, "release", "sign", release, "-s", filepath.Join(dir, "theirs.key"), "--password-file", good); o.status != 0 {
		t.Fatal(o.stderr)
	}
	minisign("", "-V", "-H", "-p", "theirs.pub", "-m", manifest)
	wantRefusal(t, command(t, "release", "verify", release, "--key", public), 1, "refused (no-trusted-key)")
}
