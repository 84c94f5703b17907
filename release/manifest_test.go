package release

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var oneHash = strings.Repeat("0a", 32)

func goodManifest() *Manifest {
	m := &Manifest{Spec: DefaultSpec(), Sightd: "0.1.0", Files: map[string]FileInfo{
		"model.onnx": {1, oneHash}, "calibration.cache": {2, oneHash}, "labels.txt": {0, oneHash}, "golden/a/b.jpg": {3, oneHash},
	}}
	m.Name, m.Release, m.Model, m.Calibration, m.Labels, m.Golden = "a", 1, "model.onnx", "calibration.cache", "labels.txt", "golden/"
	return m
}

func TestManifestsAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	want := goodManifest()
	b, err := want.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseManifest("manifest.json", b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	again, err := got.Bytes()
	if err != nil || string(again) != string(b) {
		t.Errorf("%v\n%s", err, again)
	}
}

func TestFaultsOfManifests(t *testing.T) {
	t.Parallel()
	b, err := goodManifest().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	for _, c := range []struct{ old, by, want string }{
		{`"sightd": "0.1.0"`, `"sightd": "new"`, `sightd: found "new", wanted a version such as "0.1.0"`},
		{"  \"sightd\": \"0.1.0\",\n", "", `sightd: missing: the least version of sightd`},
		{`"name": "a"`, `"name": "a", "name": "b"`, `the key "name" stands here twice`},
		{`"name": "a"`, `"Name": "a"`, `unknown key "Name": did you mean "name"?`},
		{`"name": "a"`, `"name": "a", "extra": 1`, `unknown key "extra"`},
		{`"release": 1`, `"release": "1"`, `release: found "1", wanted a whole number`},
		{`"size": 1,`, `"size": -1,`, `files.model.onnx: found size -1`},
		{`"size": 1,`, `"size": 9000000000,`, `files.model.onnx: found size 9000000000`},
		{oneHash, strings.ToUpper(oneHash), `wanted 64 lower-case hexadecimal digits`},
		{oneHash, oneHash[2:], `wanted 64 lower-case hexadecimal digits`},
		{`"model.onnx": {`, `"other.onnx": {`, `model: "model.onnx" has no size and hash under files`},
		{`golden/a/b.jpg`, `../b.jpg`, `files.../b.jpg: found a path with .., wanted one below the manifest`},
		{`golden/a/b.jpg`, `/b.jpg`, `found an absolute path, wanted one relative to the manifest`},
		{`golden/a/b.jpg`, `a//b.jpg`, `found an unclean path`},
		{`golden/a/b.jpg`, `a\\b.jpg`, `found an unclean path`},
		{`golden/a/b.jpg`, `a/b/c/d/e`, `found a path too long or too deep`},
		{`golden/a/b.jpg`, `manifest.json`, `a manifest can't name itself`},
		{`"golden": "golden/"`, `"golden": "/golden"`, `golden: found an absolute path`},
		{"}\n", "} x", `something follows the JSON value`},
		{"}\n", "", `the JSON ends too early`},
	} {
		at := strings.LastIndex(good, c.old)
		if c.old != "}\n" {
			at = strings.Index(good, c.old)
		}
		if at < 0 {
			t.Fatalf("%q is not in the manifest", c.old)
		}
		text := good[:at] + c.by + good[at+len(c.old):]
		_, err := ParseManifest("manifest.json", []byte(text))
		if err == nil {
			t.Errorf("%s for %s is taken", c.by, c.old)
		} else if !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "manifest.json:") {
			t.Errorf("%s for %s: %v\nwanted %s", c.by, c.old, err, c.want)
		}
	}
}

func FuzzManifest(f *testing.F) {
	b, err := goodManifest().Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"name": "a", "files": {"": {}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest("manifest.json", data)
		if (m == nil) != (err != nil) {
			t.Fatal(m, err)
		}
		if err != nil {
			return
		}
		b, err := m.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseManifest("manifest.json", b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Error(diff)
		}
	})
}
