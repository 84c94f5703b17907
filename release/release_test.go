package release

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEveryFormOfAReleaseOpensTheSame(t *testing.T) {
	t.Parallel()
	archive := filepath.Join(t.TempDir(), "tiny-1.tar.zst")
	if _, err := Pack(tiny, archive); err != nil {
		t.Fatal(err)
	}
	dir := packed(t)
	for _, path := range []string{tiny, tiny + "/model.yaml", dir, dir + "/manifest.json", archive} {
		r := opened(t, path)
		if r.Spec.Name != "tiny" || r.Spec.Release != 1 || r.Spec.Input.Mean[0] != 127.5 {
			t.Errorf("%s: %+v", path, r.Spec)
		}
		if diff := cmp.Diff([]string{"ant", "bee", "cat"}, r.Labels()); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
		if read(t, r.Model) != read(t, tiny+"/net.onnx") || read(t, r.Calibration) != read(t, tiny+"/calib.cache") {
			t.Errorf("%s: other files", path)
		}
		if read(t, filepath.Join(r.Golden, "ants/1.png")) != read(t, tiny+"/golden/ants/1.png") {
			t.Errorf("%s: other golden images", path)
		}
		model := r.Model
		for range 2 {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := os.Stat(model); (err == nil) == (path == archive) {
			t.Errorf("%s: after Close: %v", path, err)
		}
	}
}

func TestWhatIsNoReleaseIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/picture.jpg", "\xff\xd8")
	for path, want := range map[string]string{
		dir + "/none":        "no such file",
		dir:                  "holds no release: neither a manifest.json nor a model.yaml is there",
		dir + "/picture.jpg": "is no release: wanted a model.yaml, a directory",
		"/dev/null":          "wanted a model.yaml, a directory or a .tar.zst",
	} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwanted %s", path, err, want)
		}
	}
}

func TestFilesOfASpecHaveToBeThere(t *testing.T) {
	t.Parallel()
	for old, c := range map[string]struct {
		by, want string
		code     Code
	}{
		"net.onnx":       {"gone.onnx", "model: stat", MissingFile},
		"calib.cache":    {"gone.cache", "calibration: stat", MissingFile},
		"names.txt":      {"golden", "labels: ", MissingFile},
		"golden: golden": {"golden: names.txt", "golden: ", MissingFile},
		"release: 1":     {"release: x", "model.yaml:2:10: release: found", BadManifest},
	} {
		_, err := Open(variant(t, old, c.by))
		wantRejected(t, err, c.code, c.want)
	}
}

func TestFilesAreComparedWithTheManifest(t *testing.T) {
	t.Parallel()
	t.Run("changed", func(t *testing.T) {
		t.Parallel()
		dir := packed(t)
		write(t, dir+"/labels.txt", "ant\nbee\ncow\n")
		_, err := Open(dir)
		wantRejected(t, err, BadHash, "labels.txt: found SHA-256 ", "wanted the manifest's ")
	})
	t.Run("cut short", func(t *testing.T) {
		t.Parallel()
		dir := packed(t)
		write(t, dir+"/model.onnx", read(t, dir+"/model.onnx")[:100])
		_, err := Open(dir)
		wantRejected(t, err, BadHash, "model.onnx: found 100 bytes, wanted the 803 bytes")
	})
	t.Run("longer", func(t *testing.T) {
		t.Parallel()
		dir := packed(t)
		write(t, dir+"/model.onnx", read(t, dir+"/model.onnx")+"x")
		_, err := Open(dir)
		wantRejected(t, err, BadHash, "model.onnx: found more, wanted the 803 bytes")
	})
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		dir := packed(t)
		if err := os.Remove(dir + "/golden/ants/1.png"); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir)
		wantRejected(t, err, MissingFile, "golden/ants/1.png is missing")
	})
	t.Run("a link that leads out", func(t *testing.T) {
		t.Parallel()
		dir := packed(t)
		outside := filepath.Join(t.TempDir(), "labels.txt")
		write(t, outside, read(t, dir+"/labels.txt"))
		if err := os.Remove(dir + "/labels.txt"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, dir+"/labels.txt"); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir)
		wantRejected(t, err, BadHash, "labels.txt")
	})
	t.Run("no file", func(t *testing.T) {
		t.Parallel()
		dir := packed(t)
		if err := os.Remove(dir + "/labels.txt"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir+"/labels.txt", 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir)
		wantRejected(t, err, BadHash, "labels.txt is no regular file")
	})
}

func TestLabelFiles(t *testing.T) {
	t.Parallel()
	got, err := parseLabels("l", []byte("\ufefftench, Tinca\r\ncrane\r\ncrane\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"tench, Tinca", "crane", "crane"}, got); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"": "l is empty", "\n\n": "l is empty", "a\n\nb": "l:2: found an empty line", "a\nb\xff": `l:2: found "b\xff"`, "a\x00b": "l:1: found",
	} {
		if _, err := parseLabels("l", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, wanted %s", text, err, want)
		}
	}
}

func TestLabelsForClasses(t *testing.T) {
	t.Parallel()
	r := &Release{Spec: DefaultSpec(), labels: []string{"a", "b"}}
	r.Spec.Labels = "l.txt"
	if got, err := r.LabelsFor(2); err != nil || len(got) != 2 {
		t.Error(got, err)
	}
	_, err := r.LabelsFor(3)
	wantRejected(t, err, BadLabels, "l.txt has 2 labels, wanted 3, since the model has 3 classes; set output.first: 1")
	_, err = r.LabelsFor(1)
	wantRejected(t, err, BadLabels, "l.txt has 2 labels, wanted 1, since the model has 1 classes")
	r.Spec.Output.First = 1
	if got, err := r.LabelsFor(3); err != nil || len(got) != 2 {
		t.Error(got, err)
	}
	_, err = r.LabelsFor(2)
	wantRejected(t, err, BadLabels, "wanted 1, since the model has 2 classes and output.first is 1; leave output.first at 0")
	_, err = r.LabelsFor(1)
	wantRejected(t, err, BadLabels, "output.first is 1, but the model has 1 classes")
	r.labels = nil
	got, err := r.LabelsFor(3)
	if diff := cmp.Diff([]string{"1", "2"}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}
