package release

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var takesAll = Policy{Device: "kiosk-7", Version: "0.1.0"}

// numbered packs the small model as a release with another number.
func numbered(t *testing.T, number int) string {
	t.Helper()
	return packed(t, "release: 1", fmt.Sprint("release: ", number))
}

func install(t *testing.T, s *Store, path string, p Policy, factory int) error {
	t.Helper()
	_, err := s.Install(opened(t, path), p, Options{Factory: factory})
	return err
}

func TestInstalledReleasesAreThereAsTheyCame(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	dir := numbered(t, 3)
	e, err := s.Install(opened(t, dir), takesAll, Options{Factory: 1})
	if err != nil {
		t.Fatal(err)
	}
	if e.Number != 3 || e.State != Staged {
		t.Errorf("%+v", e)
	}
	if diff := cmp.Diff(tree(t, dir), tree(t, s.path("tiny", ID{Number: 3}))); diff != "" {
		t.Error(diff)
	}
	r, err := s.Get("tiny", ID{Number: 3})
	if err != nil || r.Spec.Release != 3 {
		t.Error(r, err)
	}
	if left, _ := os.ReadDir(s.staging()); len(left) > 0 {
		t.Error("staging holds", left)
	}
}

func TestEveryFormCanBeInstalled(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	archive := filepath.Join(t.TempDir(), "a.tar.zst")
	if _, err := Pack(variant(t, "release: 1", "release: 2"), archive); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{tiny, archive, numbered(t, 3)} {
		r, err := s.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Install(r, takesAll, Options{}); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	plan, err := s.Plan("tiny", 0)
	if err != nil || len(plan.Pending) != 3 || plan.Pending[0].Number != 3 || plan.Pending[2].Number != 1 {
		t.Error(plan, err)
	}
	if left, _ := os.ReadDir(s.staging()); len(left) > 0 {
		t.Error("staging holds", left)
	}
}

func TestRefusedReleasesChangeNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if err := install(t, s, numbered(t, 5), takesAll, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Proven("tiny", ID{Number: 5}, 0); err != nil {
		t.Fatal(err)
	}
	before := tree(t, s.dir)
	other := takesAll
	other.Version = "0.0.9"
	for name, c := range map[string]struct {
		path    string
		policy  Policy
		factory int
		code    Code
		want    string
	}{
		"the same number": {packed(t, "release: 1", "release: 5\nkeep_fp: [some]"), takesAll, 0, NotNewer, "another one was installed with this number before (it is proven)"},
		"older":           {numbered(t, 4), takesAll, 0, NotNewer, "release 4 of tiny isn't newer than 5, the highest that was proven here"},
		"factory":         {numbered(t, 6), takesAll, 6, NotNewer, "isn't newer than 6, the factory release"},
		"other device":    {packed(t, "release: 1", "release: 9\nfor: {devices: ['hall-*', lab]}"), takesAll, 0, NotForThisDevice, `is for the devices hall-*, lab, this is "kiosk-7"`},
		"other module":    {packed(t, "release: 1", "release: 9\nfor: {modules: [orin-*]}"), takesAll, 0, NotForThisDevice, `is for the modules orin-*, this is ""`},
		"newer sightd":    {numbered(t, 9), other, 0, NeedsNewerSightd, "needs sightd 0.1.0 or later, this is 0.0.9"},
		"no key":          {numbered(t, 9), Policy{Device: "kiosk-7", RequireSignature: true}, 0, NoTrustedKey, "no key is trusted: name the signer's public key under releases.keys, or set releases.require_signature: false"},
		"labels too few":  {tooFewLabels(t), takesAll, 0, BadLabels, "has 1 labels, wanted 3"},
	} {
		t.Run(name, func(t *testing.T) {
			err := install(t, s, c.path, c.policy, c.factory)
			wantRejected(t, err, c.code, c.want)
			if diff := cmp.Diff(before, tree(t, s.dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// tooFewLabels is a release whose manifest is right and whose labels don't fit.
func tooFewLabels(t *testing.T) string {
	spec := variant(t, "release: 1", "release: 9")
	write(t, filepath.Dir(spec)+"/names.txt", "ant\n")
	return spec
}

func TestFilesThatChangeBehindItsBackAreNotInstalled(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	dir := numbered(t, 2)
	r := opened(t, dir)
	write(t, dir+"/golden/ants/1.png", "changed after it was read")
	_, err := s.Install(r, takesAll, Options{})
	wantRejected(t, err, BadHash, "golden/ants/1.png: found ")
	if names := namesIn(t, s.dir); len(names) > 0 {
		t.Error("it left", names)
	}
}

// Between the rename of the release and the writing of its state the power
// may go.
func TestReleasesWithoutAStateAreStaged(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if err := install(t, s, numbered(t, 2), takesAll, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.statePath("tiny")); err != nil {
		t.Fatal(err)
	}
	all, err := s.List("tiny")
	if err != nil || len(all) != 1 || all[0].State != Staged || all[0].Number != 2 {
		t.Error(all, err)
	}
	var known *Installed
	if err := install(t, s, numbered(t, 2), takesAll, 0); !errors.As(err, &known) || known.Entry.Number != 2 {
		t.Error(err)
	}
}

func TestDamagedStateSaysWhatToDo(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	write(t, s.statePath("tiny"), `{"highest": 1, "releases": [{"number": 1, "state": "fine"}]}`)
	_, err := s.List("tiny")
	if err == nil || !strings.Contains(err.Error(), `releases[0].state: found "fine", wanted a state`) || !strings.Contains(err.Error(), "remove the file to go on") {
		t.Error(err)
	}
}

func TestCleanRemovesLeftovers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if err := s.Clean(); err != nil {
		t.Error("without a staging:", err)
	}
	write(t, s.staging()+"/install-1/model.onnx", "half")
	if err := s.Clean(); err != nil {
		t.Error(err)
	}
	if names := namesIn(t, s.dir); len(names) > 0 {
		t.Error(names)
	}
}

func TestStateDirectoryThatIsAFile(t *testing.T) {
	t.Parallel()
	if _, err := OpenStore(tiny + "/names.txt"); err == nil || !strings.Contains(err.Error(), "is a file, wanted a directory") {
		t.Error(err)
	}
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "fleet.pub")
	text, err := public.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	write(t, key, string(text)+"\n")
	id := fmt.Sprintf("%016X", public.ID())
	trusting := Policy{Device: "kiosk-7", RequireSignature: true, Keys: []TrustedKey{{File: key}}}
	with := func(change func(*Policy)) Policy {
		p := trusting
		change(&p)
		return p
	}
	signed := func(key minisign.PrivateKey, message func(string) string) string {
		dir := numbered(t, 2)
		write(t, dir+"/"+SignatureName, string(minisign.Sign(key, []byte(message(read(t, dir+"/manifest.json"))))))
		return dir
	}
	whole := func(s string) string { return s }
	junk := numbered(t, 2)
	write(t, junk+"/"+SignatureName, "junk")

	for name, c := range map[string]struct {
		path   string
		policy Policy
		code   Code
		want   string
	}{
		"unsigned":        {numbered(t, 2), trusting, BadSignature, "has no manifest.json.minisig: sign its manifest, or set"},
		"another message": {signed(private, strings.ToUpper), trusting, BadSignature, "the signature doesn't fit its manifest"},
		"a stranger":      {signed(stranger, whole), trusting, NoTrustedKey, "which is none of releases.keys"},
		"junk":            {junk, trusting, BadSignature, "is no minisign signature"},
		"revoked":         {signed(private, whole), with(func(p *Policy) { p.Revoked = []string{strings.ToLower(id)} }), NoTrustedKey, "is signed with key " + id + ", which is revoked"},
		"another's model": {signed(private, whole), with(func(p *Policy) { p.Keys = []TrustedKey{{File: key, Names: []string{"lite*"}}} }), NoTrustedKey, "which is trusted for lite* only, not for tiny"},
		"no key file":     {signed(private, whole), with(func(p *Policy) { p.Keys = []TrustedKey{{File: key + "x"}} }), "", "releases.keys: read "},
		"good":            {signed(private, whole), trusting, "", ""},
		"good by name":    {signed(private, whole), with(func(p *Policy) { p.Keys = []TrustedKey{{File: key, Names: []string{"tin?"}}} }), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			err := install(t, s, c.path, c.policy, 0)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(filepath.Join(s.path("tiny", ID{Number: 2}), SignatureName)); err != nil {
					t.Error("the signature isn't kept:", err)
				}
				return
			}
			wantRejected(t, err, c.code, c.want)
		})
	}
}

func TestOnlyOneHoldsTheLock(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	l, err := TakeLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = TakeLock(dir)
	if want := fmt.Sprintf("state directory %s is in use by process %d", dir, os.Getpid()); !errors.Is(err, ErrLocked) || err.Error() != want {
		t.Errorf("%v, wanted %s", err, want)
	}
	// As a child has it between its fork and its program.
	copied, err := unix.Dup(int(l.f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(copied)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	l, err = TakeLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
