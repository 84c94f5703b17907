package release

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The signatures and keys of sightd and of the minisign program are the same.

// minisignProgram runs minisign in dir, with lines for its questions, and returns
// what it says.
func minisignProgram(t *testing.T, dir, answers string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "minisign", args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(answers)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func needMinisign(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("minisign"); err != nil {
		t.Skip("the minisign program isn't here (Debian: apt-get install minisign):", err)
	}
}

func mustMinisign(t *testing.T, dir, answers string, args ...string) string {
	t.Helper()
	out, err := minisignProgram(t, dir, answers, args...)
	if err != nil {
		t.Fatalf("minisign %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func TestMinisignTakesWhatSightdSigns(t *testing.T) {
	t.Parallel()
	needMinisign(t)
	s, dir := newSigner(t), packed(t)
	comment := s.signs(t, dir)
	out := mustMinisign(t, dir, "", "-V", "-H", "-p", s.pub, "-m", ManifestName)
	if !strings.Contains(out, "Signature and comment signature verified") || !strings.Contains(out, "Trusted comment: "+comment) {
		t.Error(out)
	}
	replaceIn(t, filepath.Join(dir, ManifestName), `"release": 1,`, `"release": 2,`)
	if out, err := minisignProgram(t, dir, "", "-V", "-p", s.pub, "-m", ManifestName); err == nil {
		t.Error("a changed manifest passes:", out)
	}

	file := filepath.Join(t.TempDir(), "tiny.cache")
	write(t, file, "x")
	d, err := SignDropIn(file, opened(t, packed(t)), 3, s.key, morning)
	if err != nil {
		t.Fatal(err)
	}
	if out := mustMinisign(t, dir, "", "-V", "-H", "-Q", "-p", s.pub, "-m", file); strings.TrimSpace(out) != d.Comment() {
		t.Errorf("minisign reads the comment %q, wanted %q", out, d.Comment())
	}
}

func TestSightdTakesWhatMinisignSigns(t *testing.T) {
	t.Parallel()
	needMinisign(t)
	keys := t.TempDir()
	mustMinisign(t, keys, "", "-G", "-W", "-p", "m.pub", "-s", "m.key")
	secret, public := filepath.Join(keys, "m.key"), filepath.Join(keys, "m.pub")
	p := Policy{RequireSignature: true, Keys: []TrustedKey{{File: public}}}
	for name, flags := range map[string][]string{"pre-hashed": nil, "legacy": {"-l"}} {
		dir := packed(t)
		mustMinisign(t, dir, "", append(flags, "-S", "-W", "-s", secret, "-m", ManifestName)...)
		signed, err := p.VerifySignature(opened(t, dir))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !strings.Contains(signed.Comment, "file:manifest.json") {
			t.Errorf("%s: comment %q", name, signed.Comment)
		}
	}

	base := opened(t, packed(t))
	on, err := base.Base()
	if err != nil {
		t.Fatal(err)
	}
	says := DropIn{File: "tiny.cache", Name: on.Name, Release: on.Release, Manifest: on.Manifest, Revision: 1, Time: morning}
	dir := t.TempDir()
	write(t, filepath.Join(dir, says.File), "x")
	verify := func() error {
		_, _, err := p.VerifyDropIn(Dropped{says.File, strings.NewReader("x"), nil, []byte(read(t, filepath.Join(dir, says.File+".minisig")))}, on)
		return err
	}
	mustMinisign(t, dir, "", "-S", "-W", "-s", secret, "-t", says.Comment(), "-m", says.File)
	if err := verify(); err != nil {
		t.Error("a drop-in with the comment given by hand:", err)
	}
	mustMinisign(t, dir, "", "-S", "-W", "-l", "-s", secret, "-t", says.Comment(), "-m", says.File)
	wantRejected(t, verify(), BadSignature, "is a legacy signature")
	mustMinisign(t, dir, "", "-S", "-W", "-s", secret, "-m", says.File)
	wantRejected(t, verify(), BadSignature, "doesn't say what the file is for")
}

// Keys with a password: see the commands' tests.
func TestMinisignSignsWithSightdsKeysAndSightdWithMinisigns(t *testing.T) {
	t.Parallel()
	needMinisign(t)
	for name, generate := range map[string]func(t *testing.T, dir string){
		"sightd's": func(t *testing.T, dir string) {
			if _, err := GenerateKey(filepath.Join(dir, "k.key"), filepath.Join(dir, "k.pub"), nil); err != nil {
				t.Fatal(err)
			}
		},
		"minisign's": func(t *testing.T, dir string) { mustMinisign(t, dir, "", "-G", "-W", "-p", "k.pub", "-s", "k.key") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := t.TempDir()
			generate(t, keys)
			secret := filepath.Join(keys, "k.key")
			p := Policy{RequireSignature: true, Keys: []TrustedKey{{File: filepath.Join(keys, "k.pub")}}}

			byMinisign := packed(t)
			mustMinisign(t, byMinisign, "", "-S", "-W", "-s", secret, "-m", ManifestName)
			if _, err := p.VerifySignature(opened(t, byMinisign)); err != nil {
				t.Error("signed by minisign:", err)
			}
			key, err := ReadSecretKey(secret, nil)
			if err != nil {
				t.Fatal(err)
			}
			bySightd := packed(t)
			if _, err := Sign(bySightd, key, morning); err != nil {
				t.Fatal(err)
			}
			mustMinisign(t, bySightd, "", "-V", "-p", p.Keys[0].File, "-m", ManifestName)
		})
	}
}
