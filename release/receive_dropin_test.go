package release

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// dropBox is a directory for drop-ins beside a store in which release 7 serves.
type dropBox struct {
	*story
	signer
	dir string
}

func newDropBox(t *testing.T) *dropBox {
	t.Helper()
	b := &dropBox{story: newStory(t, 0, 7), signer: newSigner(t), dir: t.TempDir()}
	b.confirms(7)
	return b
}

// confirmed takes a staged release to where the next drop-ins go onto it.
func (b *dropBox) confirmed(id ID) {
	b.t.Helper()
	b.must(b.Built("tiny", id))
	b.must(b.Proven("tiny", id, 0))
	b.must(b.Serve("tiny", id, 0, "boot 1"))
	b.must(b.Confirm("tiny", id))
}

func (b *dropBox) at(name string) string { return filepath.Join(b.dir, name) }

func (b *dropBox) serving() *Release {
	b.t.Helper()
	p, err := b.Plan("tiny", 0)
	b.must(err)
	r, err := b.Get("tiny", p.Serve[0].ID())
	b.must(err)
	return r
}

// puts writes a drop-in, and signs it unless the revision is 0.
func (b *dropBox) puts(file, content string, revision int64) {
	b.t.Helper()
	write(b.t, b.at(file), content)
	if filepath.Ext(file) == engineExt {
		write(b.t, b.at(sidecarOf(file)), `{"key": "K"}`)
	}
	if revision > 0 {
		_, err := SignDropIn(b.at(file), b.serving(), revision, b.key, morning)
		b.must(err)
	}
}

func (b *dropBox) receive(file string, p Policy) (*Release, error) {
	b.t.Helper()
	root, err := os.OpenRoot(b.dir)
	b.must(err)
	defer root.Close()
	r, err := b.ReceiveDropIn(b.t.Context(), root, file, p, b.serving())
	if err == nil {
		b.t.Cleanup(func() { r.Close() })
	} else if left, _ := os.ReadDir(b.staging()); len(left) > 0 {
		b.t.Errorf("left in staging: %v", left)
	}
	return r, err
}

// takes receives a drop-in and installs what it makes.
func (b *dropBox) takes(file string, p Policy) *Release {
	b.t.Helper()
	r, err := b.receive(file, p)
	b.must(err)
	e, err := b.Install(r, p, Options{})
	b.must(err)
	b.must(r.Close())
	installed, err := b.Get("tiny", e.ID())
	b.must(err)
	return installed
}

// The small model's cache with another number in it, and its model with a remark.
func newCache(t *testing.T) string {
	t.Helper()
	return strings.Replace(read(t, filepath.Join(tiny, "calib.cache")), "3d810204", "3d810205", 1)
}

func otherCache(t *testing.T, last string) string {
	t.Helper()
	return strings.Replace(newCache(t), "3d810205", "3d81020"+last, 1)
}

func newModel(t *testing.T) string {
	t.Helper()
	return read(t, filepath.Join(tiny, "net.onnx")) + "\x32\x03new" // doc_string
}

func TestABareDropInMakesARevisionOfWhatServes(t *testing.T) {
	t.Parallel()
	for file, replaced := range map[string]string{
		"tiny.cache": cacheName, "tiny.onnx": modelName, "tiny.engine": "engines/tiny.engine",
	} {
		for _, signed := range []bool{true, false} {
			b := newDropBox(t)
			content := map[string]string{cacheExt: newCache(t), onnxExt: newModel(t), engineExt: "machine code"}[filepath.Ext(file)]
			p, revision := b.trusts(), int64(12)
			if !signed {
				p, revision = takesAll, 0
				p.AllowUnsignedEngines = true
			}
			b.puts(file, content, revision)
			base := b.serving()
			before := tree(t, base.dir)
			r := b.takes(file, p)

			id := ID{7, max(revision, 1)}
			if r.ID() != id {
				t.Errorf("%s: made %s, wanted %s", file, r.ID(), id)
			}
			on, err := r.Base()
			b.must(err)
			if want, _ := base.Base(); on != want {
				t.Errorf("%s: the next drop-in is for %v, wanted %v", file, on, want)
			}
			after, want := tree(t, r.dir), maps.Clone(before)
			want[replaced] = content
			if file == "tiny.engine" {
				want["engines/tiny.json"] = `{"key": "K"}`
				if signed {
					want["engines/tiny.engine.minisig"] = read(t, b.at("tiny.engine.minisig"))
				}
			}
			delete(after, ManifestName)
			delete(want, ManifestName)
			if diff := cmp.Diff(want, after); diff != "" {
				t.Errorf("%s: %s", file, diff)
			}
			if labels := filepath.Join(r.dir, labelsName); !sameFile(t, labels, filepath.Join(base.dir, labelsName)) {
				t.Errorf("%s: %s takes room of its own, although it is the base's", file, labels)
			}
			if diff := cmp.Diff(before, tree(t, base.dir)); diff != "" {
				t.Errorf("%s: the base has changed:\n%s", file, diff)
			}
			if e, err := b.List("tiny"); err != nil || len(e) != 2 || e[1].State != Staged || e[1].ID() != id {
				t.Errorf("%s: %+v, %v", file, e, err)
			}
			if left, _ := os.ReadDir(b.staging()); len(left) > 0 {
				t.Errorf("left in staging: %v", left)
			}
		}
	}
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	one, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(one, other)
}

func TestADropInWaitsForRoom(t *testing.T) {
	t.Parallel()
	b := newDropBox(t)
	b.puts("tiny.cache", newCache(t), 2)
	b.statfs = func(_ string, st *unix.Statfs_t) error {
		*st = unix.Statfs_t{Bsize: 4096, Blocks: 1 << 20, Bfree: 1, Bavail: 1}
		return nil
	}
	_, err := b.receive("tiny.cache", b.trusts())
	var full *NoRoom
	if !errors.As(err, &full) || CodeOf(err) != "" {
		t.Errorf("%v; wanted it to say that the disk has no room", err)
	}
	b.statfs = nil
	b.takes("tiny.cache", b.trusts())
}

func TestADropInGoesOntoAFactoryReleaseThatIsNotPacked(t *testing.T) {
	t.Parallel()
	b := newDropBox(t)
	s := newStore(t)
	write(t, b.at("tiny.cache"), newCache(t))
	root, err := os.OpenRoot(b.dir)
	b.must(err)
	defer root.Close()
	factory := opened(t, variant(t))
	factory.Factory = true
	r, err := s.ReceiveDropIn(t.Context(), root, "tiny.cache", takesAll, factory)
	b.must(err)
	defer r.Close()
	_, err = s.Install(r, takesAll, Options{Factory: 1})
	b.must(err)
	if p, err := s.Plan("tiny", 1); err != nil || len(p.Pending) != 1 || p.Pending[0].ID() != (ID{1, 1}) {
		t.Errorf("%+v, %v: release 1.1 is to come", p, err)
	}
}

func TestARevisionKeepsWhatEarlierDropInsBrought(t *testing.T) {
	t.Parallel()
	b := newDropBox(t)
	next := func(file, content string, revision int64) map[string]string {
		b.puts(file, content, revision)
		r := b.takes(file, b.trusts())
		b.confirmed(r.ID())
		return tree(t, r.dir)
	}
	next("tiny.cache", newCache(t), 3)
	files := next("tiny.onnx", newModel(t), 4)
	if files[cacheName] != newCache(t) || files[modelName] != newModel(t) {
		t.Error("7.4 hasn't both files")
	}
	files = next("tiny.engine", "machine code", 5)
	if files[cacheName] != newCache(t) || files["engines/tiny.engine"] != "machine code" {
		t.Error("7.5 lacks cache or engine")
	}
	files = next("tiny.cache", read(t, filepath.Join(tiny, "calib.cache")), 6)
	for name := range files {
		if strings.HasPrefix(name, "engines/") {
			t.Errorf("%s is of the files before", name)
		}
	}
	if files[modelName] != newModel(t) {
		t.Error("7.6 has lost its model")
	}
	if id := b.serving().ID(); id != (ID{7, 6}) {
		t.Errorf("%s serves", id)
	}
}

func TestACacheMayComeForAReleaseThatHasNone(t *testing.T) {
	t.Parallel()
	s := newStory(t, 0)
	b := &dropBox{story: s, signer: newSigner(t), dir: t.TempDir()}
	_, err := s.Install(opened(t, packed(t, "calibration: calib.cache", "precision: fp32", "release: 1", "release: 7")), takesAll, Options{})
	b.must(err)
	b.confirmed(id(7))
	b.puts("tiny.cache", newCache(t), 1)
	r := b.takes("tiny.cache", b.trusts())
	if r.Spec.Precision != "fp32" || r.Calibration == "" {
		t.Errorf("precision %s, cache %q; the cache is added, nothing else", r.Spec.Precision, r.Calibration)
	}
	// It is looked at although the release's own precision doesn't need it.
	write(t, b.at("tiny.cache"), "TRT-8502-EntropyCalibration2\nother: 3c010204\n")
	b.puts("tiny.cache", read(t, b.at("tiny.cache")), 2)
	_, err = b.receive("tiny.cache", b.trusts())
	wantRejected(t, err, CacheDoesNotFit)
}

func TestADropInForALaterReleaseWaits(t *testing.T) {
	t.Parallel()
	b := newDropBox(t)
	later := opened(t, numbered(t, 8))
	write(t, b.at("tiny.cache"), newCache(t))
	_, err := SignDropIn(b.at("tiny.cache"), later, 1, b.key, morning)
	b.must(err)
	_, err = b.receive("tiny.cache", b.trusts())
	var more *Incomplete
	if !errors.As(err, &more) || more.Wrong || CodeOf(err) != NotForThisRelease {
		t.Errorf("%v; wanted it to wait", err)
	}
	_, err = b.Install(later, takesAll, Options{})
	b.must(err)
	b.confirms(8)
	if r := b.takes("tiny.cache", b.trusts()); r.ID() != (ID{8, 1}) {
		t.Errorf("became %s", r.ID())
	}
}

// Unsigned ones say nothing of their age, so they are known by what they hold.
func TestAnUnsignedDropInThatLiesThereIsTakenOnce(t *testing.T) {
	t.Parallel()
	b := newDropBox(t)
	b.puts("tiny.cache", newCache(t), 0)
	known := func(when string, want ID) {
		t.Helper()
		_, err := b.receive("tiny.cache", takesAll)
		var known *Installed
		if !errors.As(err, &known) || known.Entry.ID() != want {
			t.Errorf("%s: %v; wanted release %s to be installed already", when, err, want)
		}
	}
	b.takes("tiny.cache", takesAll)
	known("staged", ID{7, 1})
	b.must(b.Reject("tiny", ID{7, 1}, BadModel, "constant answers"))
	_, err := b.Prune("tiny", 0, 0)
	b.must(err)
	known("pruned", ID{7, 1})

	b.puts("tiny.cache", otherCache(t, "6"), 0)
	b.confirmed(b.takes("tiny.cache", takesAll).ID())
	known("serving", ID{7, 2})
	b.installs(8)
	b.confirms(8)
	known("under the next release", ID{7, 2})
	b.puts("tiny.cache", read(t, filepath.Join(tiny, "calib.cache")), 0)
	known("what serves in any case", ID{Number: 8})
}

func TestADropInThatChangesWhileItIsReadIsNotTaken(t *testing.T) {
	t.Parallel()
	b := newDropBox(t)
	b.puts("tiny.onnx", newModel(t), 2)
	root, err := os.OpenRoot(b.dir)
	b.must(err)
	defer root.Close()
	base := b.serving()
	on, err := b.base(base)
	b.must(err)
	d := &incomingDropIn{incoming: incoming{ctx: t.Context(), root: root, below: ".", at: b.dir}, name: "tiny.onnx", on: on}
	b.must(d.look(b.trusts()))
	_, err = d.verify(b.trusts())
	b.must(err)
	write(t, b.at("tiny.onnx"), strings.Replace(newModel(t), "new", "bad", 1))
	_, err = b.revise(base, d)
	var more *Incomplete
	if !errors.As(err, &more) || CodeOf(err) != BadHash {
		t.Errorf("%v; wanted it to wait", err)
	}
	if left, _ := os.ReadDir(b.staging()); len(left) > 0 {
		t.Errorf("left in staging: %v", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.ReceiveDropIn(ctx, root, "tiny.onnx", b.trusts(), base); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestAnEngineIsAdmittedByWhatSignsIt(t *testing.T) {
	t.Parallel()
	b := newDropBox(t)
	b.puts("tiny.engine", "machine code", 2)
	r := b.takes("tiny.engine", b.trusts())
	all := r.Engines()
	if len(all) != 1 || !all[0].Dropped || read(t, all[0].Path) != "machine code" || read(t, all[0].Sidecar) != `{"key": "K"}` {
		t.Fatalf("%+v", all)
	}
	for name, c := range map[string]struct {
		policy  Policy
		content string
		code    Code
	}{
		"its signer is trusted":       {b.trusts(), "machine code", ""},
		"and no more":                 {Policy{Keys: b.trusts().Keys, Revoked: []string{b.id}}, "machine code", NoTrustedKey},
		"changed in the store":        {b.trusts(), "machine codf", BadSignature},
		"where no signature is asked": {takesAll, "machine code", NoTrustedKey},
		"where anything goes":         {Policy{AllowUnsignedEngines: true}, "machine codf", ""},
		"where signatures are asked, allow_unsigned_engines says nothing": {
			Policy{RequireSignature: true, AllowUnsignedEngines: true, Keys: b.trusts().Keys}, "machine codf", BadSignature,
		},
	} {
		err := c.policy.AdmitEngine(r, all[0], strings.NewReader(c.content))
		if CodeOf(err) != c.code || (err == nil) != (c.code == "") {
			t.Errorf("%s: %v, wanted %q", name, err, c.code)
		}
	}

	// A whole release's are signed with its manifest.
	dir := numbered(t, 9)
	write(t, filepath.Join(dir, "engines", "K.engine"), "machine code")
	write(t, filepath.Join(dir, "engines", "K.json"), "{}")
	write(t, filepath.Join(dir, "engines", "other.json"), "{}")
	m, err := ParseManifest(ManifestName, []byte(read(t, filepath.Join(dir, ManifestName))))
	b.must(err)
	for _, name := range []string{"engines/K.engine", "engines/K.json", "engines/other.json"} {
		m.Files[name], err = hashFile(filepath.Join(dir, name))
		b.must(err)
	}
	raw, err := m.Bytes()
	b.must(err)
	write(t, filepath.Join(dir, ManifestName), string(raw))
	unsigned := opened(t, dir)
	if all := unsigned.Engines(); len(all) != 1 || all[0].File != "engines/K.engine" || all[0].Dropped {
		t.Fatalf("%+v", all)
	}
	if err := b.trusts().AdmitEngine(unsigned, unsigned.Engines()[0], strings.NewReader("")); CodeOf(err) != BadSignature {
		t.Errorf("unsigned: %v", err)
	}
	write(t, filepath.Join(dir, SignatureName), string(minisign.Sign(b.key, raw)))
	signed := opened(t, dir)
	if err := b.trusts().AdmitEngine(signed, signed.Engines()[0], strings.NewReader("")); err != nil {
		t.Errorf("signed: %v", err)
	}
}

func TestARevisionComesFromADropInAlone(t *testing.T) {
	t.Parallel()
	b := newDropBox(t)
	b.puts("tiny.cache", newCache(t), 2)
	r := b.takes("tiny.cache", b.trusts())
	copied := filepath.Join(t.TempDir(), "copy")
	b.must(os.CopyFS(copied, os.DirFS(r.dir)))
	s := newStore(t)
	wantRejected(t, install(t, s, copied, takesAll, 0), BadManifest, "revision: found 2, wanted none")
	for _, c := range []struct{ old, by string }{
		{`"revision": 2`, `"revision": -2`},
		{`"revision": 2`, `"revision": 9007199254740992`},
		{`"revision": 2,`, ``},
		{`"base": "`, `"base": "x`},
	} {
		raw := strings.Replace(string(r.raw), c.old, c.by, 1)
		if _, err := ParseManifest(ManifestName, []byte(raw)); err == nil || raw == string(r.raw) {
			t.Errorf("%s for %s is taken", c.by, c.old)
		}
	}
}
