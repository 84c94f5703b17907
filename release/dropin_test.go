package release

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/google/go-cmp/cmp"
)

func goodDropIn() *DropIn {
	return &DropIn{
		File: "lite0.cache", Name: "lite0", Release: 7, Manifest: oneHash, Revision: 3,
		Time: time.Date(2026, 11, 28, 8, 14, 6, 0, time.UTC),
	}
}

const goodComment = "sightd-drop-in:1 file:lite0.cache for:lite0:7 manifest:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a revision:3 time:2026-11-28T08:14:06Z"

func TestADropInsCommentIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	if got := goodDropIn().Comment(); got != goodComment {
		t.Errorf("found  %s\nwanted %s", got, goodComment)
	}
	engine := goodDropIn()
	engine.File, engine.Sidecar = "lite0.engine", oneHash
	for _, want := range []*DropIn{goodDropIn(), engine} {
		got, err := ParseDropIn(want.Comment())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestFaultsOfADropInsComment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, by, want string }{
		{goodComment, "", `wanted sightd-drop-in:1 file:`},
		{goodComment, "timestamp:1732781646\tfile:lite0.cache\thashed", `found "timestamp:`},
		{"sightd-drop-in:1", "sightd-release:1", `wanted sightd-drop-in:1`},
		{"sightd-drop-in:1", "sightd-drop-in:2", `a newer sightd may read it`},
		{"file:lite0.cache ", "", `found "for:lite0:7", wanted the fields file, for,`},
		{" time:2026-11-28T08:14:06Z", "", `time is missing`},
		{"revision:3", "revision:3 revision:4", `found "revision:4", wanted the fields`},
		{"revision:3", "revision:3  ", `wanted the fields`},
		{"06Z", "06Z ", `found "", wanted the fields`},
		{"06Z", "06Z more:1", `found "more:1"`},
		{"06Z", "06Z sidecar:" + oneHash, `sidecar: found one for lite0.cache, which has none`},
		{"06Z", "06Z sidecar:" + oneHash + " more:1", `found "more:1"`},
		{"lite0.cache", "lite0.engine", `sidecar: found "", wanted the SHA-256`},
		{"lite0.cache", "lite1.cache", `file: found the name "lite1.cache", wanted lite0.cache, lite0.onnx or lite0.engine`},
		{"lite0.cache", "lite0.txt", `file: found the name "lite0.txt"`},
		{"lite0.cache", "../lite0.cache", `file: found the name "../lite0.cache"`},
		{"lite0.cache", "", `file: found the name ""`},
		{"for:lite0:7", "for:Lite0:7", `for: found "Lite0"`},
		{"for:lite0:7", "for:lite0", `wanted NAME:NUMBER`},
		{"for:lite0:7", "for:lite0:0", `for: found release 0, wanted 1 to 2147483647`},
		{"for:lite0:7", "for:lite0:07", `wanted it written as`},
		{"for:lite0:7", "for:lite0:+7", `wanted it written as`},
		{"for:lite0:7", "for:lite0:7:8", `wanted NAME:NUMBER`},
		{"for:lite0:7", "for:lite0:9223372036854775808", `wanted NAME:NUMBER`},
		{oneHash, strings.ToUpper(oneHash), `manifest: found "0A0A`},
		{oneHash, oneHash[2:], `wanted 64 lower-case hexadecimal digits`},
		{"revision:3", "revision:0", `revision: found 0, wanted 1 to`},
		{"revision:3", "revision:-3", `revision: found -3`},
		{"revision:3", "revision:9007199254740992", `revision: found 9007199254740992`},
		{"revision:3", "revision:9223372036854775808", `wanted a whole number`},
		{"revision:3", "revision:3.0", `wanted a whole number`},
		{"06Z", "06.5Z", `wanted it written as`},
		{"06Z", "06+00:00", `wanted it written as`},
		{"2026-11-28T", "yesterday", `time: found "yesterday`},
		{"2026", "1969", `time: found the year 1969`},
		{"06Z", "06Z" + strings.Repeat(" ", maxDropInComment), `wanted at most 1024`},
	} {
		text := strings.Replace(goodComment, c.old, c.by, 1)
		if text == goodComment {
			t.Fatalf("%q is not in the comment", c.old)
		}
		if d, err := ParseDropIn(text); err == nil {
			t.Errorf("%.60q for %.60q is taken: %v", c.by, c.old, d)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q for %.60q: %v\nwanted %s", c.by, c.old, err, c.want)
		}
	}
}

func FuzzDropInComment(f *testing.F) {
	f.Add(goodComment)
	f.Add(strings.ReplaceAll(goodComment, "cache", "engine") + " sidecar:" + oneHash)
	f.Add("timestamp:1732781646\tfile:lite0.cache\thashed")
	f.Fuzz(func(t *testing.T, comment string) {
		d, err := ParseDropIn(comment)
		if (d == nil) != (err != nil) {
			t.Fatal(d, err)
		}
		if err == nil && d.Comment() != comment {
			t.Errorf("%q is taken, and written as %q", comment, d.Comment())
		}
	})
}

// dropped is a file that was signed for a packed release of tiny, and that release.
type dropped struct {
	content, sidecar, signature string
	on                          Base
}

func drop(t *testing.T, s signer, file string) dropped {
	t.Helper()
	base := opened(t, packed(t))
	d := dropped{content: "TRT-8502-EntropyCalibration2\nin: 3c010a14\n", sidecar: `{"key": "K"}`}
	path := filepath.Join(t.TempDir(), file)
	write(t, path, d.content)
	write(t, filepath.Join(filepath.Dir(path), "tiny.json"), d.sidecar)
	if _, err := SignDropIn(path, base, 3, s.key, morning); err != nil {
		t.Fatal(err)
	}
	d.signature = read(t, path+".minisig")
	var err error
	if d.on, err = base.Base(); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestADropInIsTakenOnWhatItWasSignedFor(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	for _, file := range []string{"tiny.cache", "tiny.onnx", "tiny.engine"} {
		d := drop(t, s, file)
		d.on.Revision = 2
		want := &DropIn{File: file, Name: "tiny", Release: 1, Manifest: d.on.Manifest, Revision: 3, Time: morning.UTC().Truncate(time.Second)}
		if file == "tiny.engine" {
			sum := sha256.Sum256([]byte(d.sidecar))
			want.Sidecar = hex.EncodeToString(sum[:])
		}
		got, signed, err := s.trusts("tin*").VerifyDropIn(Dropped{file, strings.NewReader(d.content), []byte(d.sidecar), []byte(d.signature)}, d.on)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(&Signed{s.id, s.pub, want.Comment()}, signed); diff != "" {
			t.Error(diff)
		}
	}
}

func TestABaseIsKnownByTheBytesOfItsManifest(t *testing.T) {
	t.Parallel()
	dir := packed(t)
	sum := sha256.Sum256([]byte(read(t, filepath.Join(dir, ManifestName))))
	got, err := opened(t, dir).Base()
	if want := (Base{"tiny", 1, hex.EncodeToString(sum[:]), 0}); err != nil || got != want {
		t.Errorf("found %v, wanted %v; %v", got, want, err)
	}
}

func TestDropInsThatAreRefused(t *testing.T) {
	t.Parallel()
	s, stranger := newSigner(t), newSigner(t)
	commented := func(comment string) func(*Dropped, *Base) {
		return func(d *Dropped, _ *Base) {
			d.Signature, _ = signHashed(s.key, []byte(textOf(d)), comment)
		}
	}
	for name, c := range map[string]struct {
		file   string // tiny.cache
		spoil  func(*Dropped, *Base)
		policy Policy
		code   Code
		want   string
	}{
		"another file name of the model": {"", func(d *Dropped, _ *Base) { d.File = "tiny.onnx" }, s.trusts(), NotForThisRelease, "tiny.onnx was signed as tiny.cache"},
		"another model's file name":      {"", func(d *Dropped, _ *Base) { d.File = "lite0.cache" }, s.trusts(), NotForThisRelease, `found the name "lite0.cache", wanted tiny.cache`},
		"renamed for another model": {
			"", func(d *Dropped, on *Base) { d.File, on.Name = "lite0.cache", "lite0" }, s.trusts(), NotForThisRelease, "lite0.cache was signed as tiny.cache",
		},
		"another number": {"", func(_ *Dropped, on *Base) { on.Release = 2 }, s.trusts(), NotForThisRelease, "was signed for release 1 of tiny, not for release 2 of tiny"},
		"another release of the same number": {
			"", func(_ *Dropped, on *Base) { on.Manifest = oneHash }, s.trusts(), NotForThisRelease, "was signed for another release 1 of tiny",
		},
		"the same once more": {"", func(_ *Dropped, on *Base) { on.Revision = 3 }, s.trusts(), NotNewer, "is revision 3 for release 1 of tiny, and revision 3 was taken already"},
		"an older revision":  {"", func(_ *Dropped, on *Base) { on.Revision = 4 }, s.trusts(), NotNewer, "revision 4 was taken already"},
		"unsigned":           {"", func(d *Dropped, _ *Base) { d.Signature = nil }, s.trusts(), BadSignature, "tiny.cache has no tiny.cache.minisig"},
		"a large signature": {
			"", func(d *Dropped, _ *Base) { d.Signature = make([]byte, maxSignature+1) }, s.trusts(), BadSignature, "is larger than 16384 bytes",
		},
		"content changed": {"", func(d *Dropped, _ *Base) { d.Content = strings.NewReader(textOf(d) + "\n") }, s.trusts(), BadSignature, "the signature doesn't fit the file"},
		"comment changed": {
			"", func(d *Dropped, _ *Base) {
				d.Signature = []byte(strings.Replace(string(d.Signature), "revision:3", "revision:4", 1))
			}, s.trusts(), BadSignature, "the signature doesn't fit the file",
		},
		"minisign's own comment":       {"", commented("timestamp:1732781646\tfile:tiny.cache\thashed"), s.trusts(), BadSignature, "the signature's trusted comment doesn't say what the file is for"},
		"the comment of a release":     {"", commented("sightd-release:1 for:tiny:1 time:2026-11-28T08:14:06Z"), s.trusts(), BadSignature, "doesn't say what the file is for"},
		"no comment":                   {"", commented(""), s.trusts(), BadSignature, "sign it with sightd release sign tiny.cache --for tiny:1"},
		"no key is trusted":            {"", nil, Policy{}, NoTrustedKey, "no key is trusted"},
		"another key":                  {"", nil, stranger.trusts(), NoTrustedKey, "is signed with key " + s.id},
		"key for other models":         {"", nil, s.trusts("lite*"), NoTrustedKey, "is trusted for lite* only, not for tiny"},
		"a revoked key":                {"", nil, Policy{Keys: s.trusts().Keys, Revoked: []string{s.id}}, NoTrustedKey, "which is revoked"},
		"an engine without sidecar":    {"tiny.engine", func(d *Dropped, _ *Base) { d.Sidecar = nil }, s.trusts(), MissingFile, "has no tiny.json, which is signed with it"},
		"an engine of another sidecar": {"tiny.engine", func(d *Dropped, _ *Base) { d.Sidecar = []byte("{}") }, s.trusts(), BadHash, "tiny.json: found SHA-256 "},
		"a legacy signature": {
			"", func(d *Dropped, on *Base) {
				says := DropIn{File: d.File, Name: on.Name, Release: on.Release, Manifest: on.Manifest, Revision: 3, Time: morning}
				d.Signature = minisign.SignWithComments(s.key, []byte(textOf(d)), says.Comment(), "")
			}, s.trusts(), BadSignature, "is a legacy signature, which is taken for manifests alone",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := c.file
			if file == "" {
				file = "tiny.cache"
			}
			d := drop(t, s, file)
			found := Dropped{file, strings.NewReader(d.content), []byte(d.sidecar), []byte(d.signature)}
			if c.spoil != nil {
				c.spoil(&found, &d.on)
			}
			_, _, err := c.policy.VerifyDropIn(found, d.on)
			wantRejected(t, err, c.code, c.want)
		})
	}
}

// textOf reads the content of a drop-in and puts it back.
func textOf(d *Dropped) string {
	var b strings.Builder
	if _, err := d.Content.(*strings.Reader).WriteTo(&b); err != nil {
		panic(err)
	}
	d.Content = strings.NewReader(b.String())
	return b.String()
}

func TestOnlyWhatADeviceTakesIsSignedAsADropIn(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	base := opened(t, packed(t))
	dir := t.TempDir()
	for _, name := range []string{"tiny.cache", "calib.cache", "tiny.txt", "tiny.engine"} {
		write(t, filepath.Join(dir, name), "x")
	}
	before := namesIn(t, dir)
	for _, c := range []struct {
		file     string
		base     *Release
		revision int64
		want     string
	}{
		{"calib.cache", base, 1, `found the name "calib.cache", wanted tiny.cache, tiny.onnx or tiny.engine: rename it`},
		{"tiny.txt", base, 1, `found the name "tiny.txt"`},
		{"tiny.onnx", base, 1, "no such file"},
		{"tiny.engine", base, 1, "an engine is signed with its sidecar: open " + filepath.Join(dir, "tiny.json")},
		{"tiny.cache", base, -1, "revision: found -1"},
		{"tiny.cache", base, MaxRevision + 1, "revision: found 9007199254740992"},
		{"tiny.cache", opened(t, variant(t)), 1, "isn't packed"},
	} {
		if _, err := SignDropIn(filepath.Join(dir, c.file), c.base, c.revision, s.key, morning); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, revision %d: %v\nwanted %s", c.file, c.revision, err, c.want)
		}
	}
	if diff := cmp.Diff(before, namesIn(t, dir)); diff != "" {
		t.Errorf("something was written:\n%s", diff)
	}
	d, err := SignDropIn(filepath.Join(dir, "tiny.cache"), base, 0, s.key, morning)
	if err != nil || d.Revision != morning.Unix() {
		t.Errorf("%v, %v: without a revision it is the time", d, err)
	}
}
