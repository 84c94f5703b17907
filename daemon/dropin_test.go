package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/sightd/sightd/release"
)

// fleet signs drop-ins for the configuration's model as it is packed.
type fleet struct {
	key  minisign.PrivateKey
	base *release.Release
	dir  string
}

func newFleet(t *testing.T, c *Config) *fleet {
	t.Helper()
	f := &fleet{dir: t.TempDir()}
	secret, public := filepath.Join(f.dir, "fleet.key"), filepath.Join(f.dir, "fleet.pub")
	_, err := release.GenerateKey(secret, public, nil)
	must(t, err)
	f.key, err = release.ReadSecretKey(secret, nil)
	must(t, err)
	packed := filepath.Join(f.dir, "packed")
	_, err = release.Pack(c.Models[0].Release, packed)
	must(t, err)
	f.base, err = release.Open(packed)
	must(t, err)
	t.Cleanup(func() { f.base.Close() })
	c.Releases.Inbox = filepath.Join(c.StateDir, "inbox")
	c.Releases.RequireSignature = true
	c.Releases.Keys = []KeyConfig{{File: public}}
	c.Releases.Probation = Duration(time.Millisecond)
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// drops signs a file and puts it into the inbox, its signature first.
func (f *fleet) drops(t *testing.T, c *Config, revision int64, name string, content, sidecar []byte) {
	t.Helper()
	at := filepath.Join(f.dir, name)
	must(t, os.WriteFile(at, content, 0o644))
	if sidecar != nil {
		must(t, os.WriteFile(strings.TrimSuffix(at, ".engine")+".json", sidecar, 0o644))
		drop(t, c, strings.TrimSuffix(name, ".engine")+".json", sidecar)
	}
	_, err := release.SignDropIn(at, f.base, revision, f.key, time.Now())
	must(t, err)
	signature, err := os.ReadFile(at + ".minisig")
	must(t, err)
	drop(t, c, name+".minisig", signature)
	drop(t, c, name, content)
}

// serves waits for the release to serve, with an engine of its own.
func serves(t *testing.T, d *Daemon, id release.ID) {
	t.Helper()
	eventually(t, "release "+id.String()+" serves", func() bool {
		s := d.units[0].Status()
		return s.State == modelServing && s.Release == id.Number && s.Revision == id.Revision && !s.Interim
	})
}

// changedCache is tiny's cache with another scale in it, where only the largest
// number of its last line is one bit greater.
func changedCache(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(tiny("calib.cache"))
	must(t, err)
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	last := lines[len(lines)-1]
	digit := "0"
	if strings.HasSuffix(last, "0") {
		digit = "1"
	}
	lines[len(lines)-1] = last[:len(last)-1] + digit
	return []byte(strings.Join(lines, "\n") + "\n")
}

func TestADroppedCacheServesAsARevision(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise?each=true"})
	f := newFleet(t, c)
	d, _ := start(t, c, false)
	serves(t, d, release.ID{Number: 1})
	eventually(t, "frames are classified", func() bool { return d.units[0].Status().Frames > 5 })
	f.drops(t, c, 3, "lite0.cache", changedCache(t), nil)
	serves(t, d, release.ID{Number: 1, Revision: 3})
	if s := d.units[0].Status(); s.Errors != 0 || s.Factory {
		t.Errorf("after the change: %+v", s)
	}
	// An older one is not taken.
	f.drops(t, c, 2, "lite0.cache", changedCache(t), nil)
	eventually(t, "revision 2 is rejected", func() bool { return fate(d, "lite0.cache").Code == release.NotNewer })
	drop(t, c, "stranger.cache", []byte("x"))
	eventually(t, "a stranger's is rejected", func() bool { return fate(d, "stranger.cache").Code == release.UnknownModel })
	serves(t, d, release.ID{Number: 1, Revision: 3})
}

// builtHere is the engine that serves, with its sidecar.
func builtHere(t *testing.T, d *Daemon) (engine []byte, info engineInfo) {
	t.Helper()
	s := d.units[0].Status()
	path := filepath.Join(d.cfg.StateDir, "engines", s.Engine.ID+".engine")
	engine, err := os.ReadFile(path)
	must(t, err)
	info, err = readSidecar(sidecar(path))
	must(t, err)
	return engine, info
}

func (i engineInfo) bytes(t *testing.T) []byte {
	t.Helper()
	b, err := json.Marshal(i)
	must(t, err)
	return b
}

func TestADroppedEngineServesWhereItIsThisDevices(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise?each=true"})
	f := newFleet(t, c)
	d, _ := start(t, c, false)
	u := d.units[0]
	serves(t, d, release.ID{Number: 1})
	engine, info := builtHere(t, d)
	before := u.Status().Engine.ID

	other := info
	other.Key.Identity = "onnxruntime of another device"
	f.drops(t, c, 1, "lite0.engine", engine, other.bytes(t))
	eventually(t, "another device's is rejected", func() bool { return fate(d, "lite0.engine").Code == release.WrongEngine })
	if r := fate(d, "lite0.engine"); !strings.Contains(r.Reason, `identity: found "onnxruntime of another device", wanted "`) {
		t.Errorf("reason: %s", r.Reason)
	}

	f.drops(t, c, 2, "lite0.engine", engine, info.bytes(t))
	serves(t, d, release.ID{Number: 1, Revision: 2})
	s := u.Status()
	if s.Engine.ID == before || !s.Engine.Stored {
		t.Errorf("engine %+v; wanted the one dropped, apart from %s", s.Engine, before)
	}
	must(t, d.rollBack(t.Context(), "lite0", release.ID{Number: 1, Revision: 2}, "the test asks for it"))
	serves(t, d, release.ID{Number: 1})
	if s := u.Status(); s.Engine.ID != before {
		t.Errorf("engine %s after the roll-back, wanted %s, which was built here", s.Engine.ID, before)
	}
}

func TestAnUnsignedEngineIsNotTaken(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise?each=true"})
	f := newFleet(t, c)
	c.Releases.RequireSignature = false
	d, _ := start(t, c, false)
	serves(t, d, release.ID{Number: 1})
	engine, info := builtHere(t, d)
	drop(t, c, "lite0.json", info.bytes(t))
	drop(t, c, "lite0.engine", engine)
	eventually(t, "it waits, then is rejected", func() bool { return fate(d, "lite0.engine").Code == release.BadSignature })
	// Signed by its key it is.
	f.drops(t, c, 1, "lite0.engine", engine, info.bytes(t))
	serves(t, d, release.ID{Number: 1, Revision: 1})
}

func TestAReleaseMayBringItsEngine(t *testing.T) {
	t.Parallel()
	first := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise?each=true"})
	d, _ := start(t, first, false)
	serves(t, d, release.ID{Number: 1})
	engine, info := builtHere(t, d)

	dir := filepath.Join(t.TempDir(), "packed")
	_, err := release.Pack(first.Models[0].Release, dir)
	must(t, err)
	raw, err := os.ReadFile(filepath.Join(dir, release.ManifestName))
	must(t, err)
	m, err := release.ParseManifest(release.ManifestName, raw)
	must(t, err)
	must(t, os.Mkdir(filepath.Join(dir, "engines"), 0o755))
	other := info
	other.Key.Identity = "another device's"
	for name, b := range map[string][]byte{
		"engines/a.engine": engine, "engines/a.json": other.bytes(t),
		"engines/b.engine": engine, "engines/b.json": info.bytes(t),
		"engines/c.engine": engine, "engines/c.json": []byte("{}"),
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
		m.Files[name] = release.FileInfo{Size: int64(len(b)), SHA256: hashBytes(b)}
	}
	raw, err = m.Bytes()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, release.ManifestName), raw, 0o644))

	second := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise?each=true"})
	second.Models[0].Release = dir
	d, _ = start(t, second, false)
	serves(t, d, release.ID{Number: 1})
	s := d.units[0].Status()
	if s.Engine.ID != info.Key.ID() || !s.Engine.Stored || s.Builds[buildOK] != 0 {
		t.Errorf("engine %+v after %v builds; wanted the one that came with the release", s.Engine, s.Builds)
	}
}

func TestAnEngineThatCannotBeLoadedIsNotBuiltInItsPlace(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	b := &builder{identity: "one"}
	p := preparedOf("graph")
	p.Import = hashBytes([]byte("dropped"))
	key := keyOf(b, p)
	info := engineInfo{Key: key, Size: 7, SHA256: p.Import}
	must(t, os.MkdirAll(s.Dir, 0o755))
	must(t, os.WriteFile(s.file(key), []byte("dropped"), 0o644))
	must(t, os.WriteFile(sidecar(s.file(key)), info.bytes(t), 0o644))
	e, err := s.Open(t.Context(), b, p, nil)
	must(t, err)
	must(t, e.Close())
	if b.loaded != "dropped" || b.builds != 0 {
		t.Errorf("loaded %q after %d builds", b.loaded, b.builds)
	}
	b.refuse = os.ErrInvalid
	p = preparedOf("graph")
	p.Import = info.SHA256
	if _, err := s.Open(t.Context(), b, p, nil); release.CodeOf(err) != release.WrongEngine || b.builds != 0 {
		t.Errorf("%v after %d builds", err, b.builds)
	}
}

func TestFaultsOfASidecarThatSomebodyBrings(t *testing.T) {
	t.Parallel()
	good := `{"key": {"backend": "b", "identity": "i", "graph": "g", "options": {"a": 1}}, "size": 1, "sha256": "s", "built": "2026-11-28T08:00:00Z", "build_seconds": 1, "report": null}`
	if _, err := parseSidecar("x.json", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, by, want string }{
		{good, "", "isn't the sidecar of an engine"},
		{good, "null", "the key lacks"},
		{good, good + "{}", "something follows"},
		{`"size": 1`, `"size": 0`, "size: found 0"},
		{`"size": 1`, `"size": -1`, "size: found -1"},
		{`"build_seconds": 1`, `"build_seconds": -1`, "build_seconds: found -1"},
		{`"build_seconds": 1`, `"build_seconds": 1e300`, "build_seconds: found 1e+300"},
		{`"backend": "b"`, `"backend": ""`, "lacks backend"},
		{`"graph": "g"`, `"graph": "g", "import": "s"`, "key.import"},
		{`"graph": "g"`, `"graph": "g", "more": "s"`, "unknown field"},
		{good, good + strings.Repeat(" ", maxDroppedSidecar), "wanted at most"},
	} {
		text := strings.Replace(good, c.old, c.by, 1)
		if _, err := parseSidecar("x.json", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q for %.40q: %v\nwanted %s", c.by, c.old, err, c.want)
		}
	}
}

func FuzzSidecar(f *testing.F) {
	f.Add([]byte(`{"key": {"backend": "b", "identity": "i", "graph": "g", "options": {"a": 1}}, "size": 1, "sha256": "s", "build_seconds": 1, "report": {"dla": {}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := parseSidecar("x.json", data)
		if err != nil {
			return
		}
		if again, err := parseSidecar("x.json", info.bytes(t)); err != nil || again.Key.ID() != info.Key.ID() || info.Key.differs(again.Key) != "" {
			t.Errorf("%q is read, written and not read alike: %v", data, err)
		}
		_ = (&Prepared{}).limits(info.Report)
	})
}
