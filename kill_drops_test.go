package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/release/inbox"
)

// firstNumber leaves room below for releases with a lower number.
const firstNumber = 10

// drop is what was put into the inbox.
type drop struct {
	name  string         // there
	ends  []release.Code // that it may come to, beside those of any drop; nil: it may be confirmed
	files []string       // its paths, to be removed when it has come to an end
}

// anyEnd are the codes that any drop may end with: it was overtaken, left by hand, or the
// kills were held against it.
var anyEnd = []release.Code{release.Superseded, release.ByHand, release.Crashed, release.NotNewer}

type signer struct {
	file    string // of the public key
	private minisign.PrivateKey
}

func newSigner(t *testing.T) signer {
	t.Helper()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := public.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return signer{write(t, filepath.Join(t.TempDir(), "key.pub"), text), private}
}

func (s signer) sign(t *testing.T, dir string) {
	t.Helper()
	raw := []byte(fileText(t, filepath.Join(dir, release.ManifestName)))
	write(t, filepath.Join(dir, release.SignatureName), minisign.Sign(s.private, raw))
}

// tinySpec copies the small release under another number, and changes its model.yaml as
// old, new, … say.
func tinySpec(t *testing.T, number int, change ...string) string {
	t.Helper()
	dir := tinyWith(t, nil)
	spec := filepath.Join(dir, "model.yaml")
	change = append(change, "release: 1", fmt.Sprint("release: ", number))
	write(t, spec, []byte(strings.NewReplacer(change...).Replace(fileText(t, spec))))
	return spec
}

// packed is a signed release of the small model; spoil changes it before it is signed.
func (v *victim) packed(number int, spoil func(dir string), change ...string) string {
	v.Helper()
	spec := tinySpec(v.T, number, change...)
	defer os.RemoveAll(filepath.Dir(spec))
	out := filepath.Join(v.TempDir(), "packed")
	_, err := release.Pack(spec, out)
	v.must(err)
	if spoil != nil {
		spoil(out)
	}
	v.signer.sign(v.T, out)
	return out
}

// rewrites has a packed release's file say something else, and its manifest name that.
func (v *victim) rewrites(dir, name, text string) {
	v.Helper()
	raw := []byte(fileText(v.T, filepath.Join(dir, release.ManifestName)))
	m, err := release.ParseManifest(release.ManifestName, raw)
	v.must(err)
	write(v.T, filepath.Join(dir, name), []byte(text))
	m.Files[name] = release.FileInfo{Size: int64(len(text)), SHA256: fmt.Sprintf("%x", sha256Of(text))}
	raw, err = m.Bytes()
	v.must(err)
	write(v.T, filepath.Join(dir, release.ManifestName), raw)
}

// plans draws what happens during a daemon's life, and returns what does it.
func (v *victim) plans() (act func(context.Context)) {
	v.clearsInbox()
	var acts []func(context.Context)
	add := func(f func(context.Context)) { acts = append(acts, f) }
	pause := v.random.Int64N(int64(300 * time.Millisecond))
	if v.random.IntN(8) > 0 {
		add(v.drop())
	}
	order := v.random.IntN(5)
	pick := v.random.IntN(1000)
	control := func(do func(context.Context, *daemon.Control, *release.ModelStatus)) {
		add(func(ctx context.Context) {
			v.sleep(pause)
			c, err := daemon.DialControl(filepath.Join(v.dir, "control.sock"))
			if err != nil {
				return
			}
			if all, err := c.Releases(ctx); err == nil {
				do(ctx, c, &all.Models[0])
			}
		})
	}
	switch order {
	case 0:
		control(func(ctx context.Context, c *daemon.Control, m *release.ModelStatus) {
			_, _ = c.RollBack(ctx, "tiny", m.ServingID(), "") // which may be refused, or broken off
		})
	case 1:
		control(func(ctx context.Context, c *daemon.Control, m *release.ModelStatus) {
			if e := m.Releases[pick%len(m.Releases)]; !e.Factory {
				_ = c.Activate(ctx, "tiny", e.ID())
			}
		})
	}
	return func(ctx context.Context) {
		for _, f := range acts {
			f(ctx)
		}
	}
}

// drop makes one, and returns what puts it into the inbox.
func (v *victim) drop() func(context.Context) {
	v.dropped++
	v.number += 2
	name := fmt.Sprint("drop-", v.number)
	d := &drop{name: name, files: []string{v.inbox(name)}}
	rename := func(dir string) func(context.Context) {
		v.drops[name] = d
		return func(context.Context) { v.should(os.Rename(dir, v.inbox(name))) }
	}
	pace := v.random.Int64N(int64(150 * time.Millisecond))
	switch kind := v.random.IntN(12); kind {
	case 0:
		d.ends = []release.Code{release.ProofFailed}
		return rename(v.packed(v.number, func(dir string) {
			v.rewrites(dir, "golden/index.tsv", strings.Replace(fileText(v.T, filepath.Join(dir, "golden/index.tsv")), "1.png\t0", "1.png\t1", 1))
		}))
	case 1:
		d.ends = []release.Code{release.BadLabels}
		return rename(v.packed(v.number, func(dir string) { v.rewrites(dir, "labels.txt", "only one\n") }))
	case 2:
		d.ends = []release.Code{release.BadHash}
		// Of its labels no installed release has a copy.
		own := fmt.Sprintf("ant %[1]d\nbee %[1]d\nwasp %[1]d\n", v.number)
		dir := v.packed(v.number, func(dir string) { v.rewrites(dir, "labels.txt", own) })
		write(v.T, filepath.Join(dir, "labels.txt"), []byte(strings.ToUpper(own)))
		return rename(dir)
	case 3:
		return rename(v.packed(v.number-3, nil, "name: tiny", "name: tiny\nallow_downgrade: true"))
	case 4, 5: // an archive
		dir := v.packed(v.number, nil)
		name += release.ArchiveSuffix
		d.name, d.files = name, []string{v.inbox(name)}
		rel, err := release.Open(dir)
		v.must(err)
		defer rel.Close()
		var b bytes.Buffer
		v.must(rel.WriteArchive(&b))
		v.drops[name] = d
		return func(context.Context) { v.copies(v.inbox(name), b.Bytes(), pace) }
	case 6: // what an installed release has
		dir := v.packed(v.number, nil)
		v.must(os.Remove(filepath.Join(dir, "model.onnx")))
		return rename(dir)
	case 7, 8: // slowly
		dir := v.packed(v.number, nil)
		v.drops[name] = d
		files := shuffled(v.paths(dir), uint64(pace))
		return func(context.Context) {
			for _, file := range files {
				v.should(os.MkdirAll(filepath.Dir(v.inbox(name, file)), 0o755))
				b, err := os.ReadFile(filepath.Join(dir, file))
				v.should(err)
				v.copies(v.inbox(name, file), b, pace/4)
			}
		}
	case 9:
		if cache := v.cache(); cache != nil {
			return cache
		}
	}
	return rename(v.packed(v.number, nil))
}

// cache draws a calibration cache for what serves, as a single file; nil: one lies there
// still.
func (v *victim) cache() func(context.Context) {
	const name = "tiny.cache"
	if v.drops[name] != nil {
		return nil
	}
	all, err := v.store.Status(map[string]int{"tiny": 1})
	v.must(err)
	base, err := v.store.Get("tiny", all.Models[0].ServingID())
	if err != nil {
		return nil // the factory release
	}
	defer base.Close()
	file := filepath.Join(v.TempDir(), name)
	text := strings.Replace(string(tinyFile(v.T, "calib.cache")), "scores: 3d8102", fmt.Sprintf("scores: 3d81%02x", v.random.IntN(256)), 1)
	write(v.T, file, []byte(text))
	if _, err := release.SignDropIn(file, base, int64(v.number), v.signer.private, time.Now()); err != nil {
		v.Fatal(err)
	}
	v.drops[name] = &drop{
		name: name, files: []string{v.inbox(name), v.inbox(name + ".minisig")},
		ends: []release.Code{"", release.NotForThisRelease, release.ByHand},
	}
	signature := fileText(v.T, file+".minisig")
	return func(context.Context) {
		v.copies(v.inbox(name+".minisig"), []byte(signature), 0)
		v.copies(v.inbox(name), []byte(text), 0)
	}
}

// copies writes a file in two steps.
func (v *victim) copies(path string, content []byte, pause int64) {
	f, err := os.Create(path)
	if err != nil {
		v.Error(err)
		return
	}
	defer f.Close()
	half := len(content) / 2
	_, err = f.Write(content[:half])
	v.should(err)
	v.sleep(pause)
	_, err = f.Write(content[half:])
	v.should(err)
}

// should is must beside the test's own goroutine.
func (v *victim) should(err error) {
	if err != nil {
		v.Error(err)
	}
}

// clearsInbox removes drops that have come to an end, but for the latest, as whoever
// dropped them would: an inbox isn't made for thousands.
func (v *victim) clearsInbox() {
	v.Helper()
	const keep = 12
	over := 0
	for _, d := range v.drops {
		if v.result(d).State != "" && v.over(d) == "" {
			over++
		}
	}
	for name, d := range v.drops {
		if r := v.result(d); v.over(d) == "" && (over > keep || name == "tiny.cache") {
			v.wantEnd(d, r)
			over--
			for _, path := range append(d.files, v.inbox(d.name+inbox.ResultSuffix)) {
				v.must(os.RemoveAll(path))
			}
			delete(v.drops, name)
		}
	}
}

func (v *victim) result(d *drop) (r inbox.Result) {
	v.Helper()
	raw, err := os.ReadFile(v.inbox(d.name + inbox.ResultSuffix))
	if err != nil {
		return r
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		v.Errorf("half a result: %q: %v", raw, err)
	}
	return r
}

// over says what a drop still waits for; nothing when it has come to an end.
func (v *victim) over(d *drop) string {
	r := v.result(d)
	switch {
	case r.State == release.Confirmed, r.State == release.Rejected, r.State == release.RolledBack:
		return ""
	case r.Held && r.Code == release.Superseded:
		return ""
	}
	return fmt.Sprintf("%s is %q %s: %s", d.name, r.State, r.Code, r.Reason)
}

// wantEnd holds a drop's end to be one that it may come to.
func (v *victim) wantEnd(d *drop, r inbox.Result) {
	v.Helper()
	switch {
	case slices.Contains(d.ends, r.Code) || slices.Contains(anyEnd, r.Code):
	case d.ends == nil && r.State == release.Confirmed:
	default:
		v.Errorf("kill %d: drop %s became %s %s: %s; wanted one of %v", v.kill, d.name, r.State, r.Code, r.Reason, append(d.ends, anyEnd...))
	}
}
