package release

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPackGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var before string
	for _, out := range []string{dir + "/a.tar.zst", dir + "/b.tar.zst"} {
		spec := variant(t) // other times, another place
		checked, err := Pack(spec, out)
		if err != nil {
			t.Fatal(err)
		}
		if checked.Image.Width != 8 || checked.Image.Height != 8 || checked.Output.Classes != 3 || checked.Fit.Coverage != 1 {
			t.Errorf("%+v", checked)
		}
		if got := read(t, out); before != "" && got != before {
			t.Error("another archive")
		} else {
			before = got
		}
	}
	// And from a packed release too.
	if _, err := Pack(dir+"/a.tar.zst", dir+"/c.tar.zst"); err != nil {
		t.Fatal(err)
	}
	if read(t, dir+"/c.tar.zst") != before {
		t.Error("packed again it is another archive")
	}
}

func TestPackedDirectory(t *testing.T) {
	t.Parallel()
	dir := packed(t, "name: tiny", "name: tiny\nprecision: fp16")
	want := []string{"calibration.cache", "golden/ants/1.png", "golden/index.tsv", "labels.txt", "manifest.json", "model.onnx"}
	if diff := cmp.Diff(want, namesIn(t, dir)); diff != "" {
		t.Error(diff)
	}
	m, err := ParseManifest("manifest.json", []byte(read(t, dir+"/manifest.json")))
	if err != nil {
		t.Fatal(err)
	}
	if m.Precision != "fp16" || m.Model != "model.onnx" || m.Golden != "golden/" || m.Sightd != leastSightd || len(m.Files) != 5 {
		t.Errorf("%+v", m)
	}
}

func TestBadReleasesAreNotPacked(t *testing.T) {
	t.Parallel()
	cut := variant(t)
	write(t, filepath.Dir(cut)+"/net.onnx", read(t, tiny+"/net.onnx")[:400])
	few := variant(t)
	write(t, filepath.Dir(few)+"/names.txt", "ant\nbee\n")
	many := variant(t)
	write(t, filepath.Dir(many)+"/names.txt", "ant\nbee\ncat\ndog\n")
	other := variant(t)
	write(t, filepath.Dir(other)+"/calib.cache", "TRT-8502-EntropyCalibration2\nimage: 3c010204\nsomething: 3c010204\n")
	broken := variant(t)
	write(t, filepath.Dir(broken)+"/calib.cache", "no cache\n")
	for name, c := range map[string]struct {
		spec string
		code Code
		want string
	}{
		"model cut short":    {cut, BadModel, "net.onnx"},
		"too few labels":     {few, BadLabels, "names.txt has 2 labels, wanted 3, since the model has 3 classes; set output.first: 1 if class 0 is the background"},
		"too many labels":    {many, BadLabels, "names.txt has 4 labels, wanted 3, since the model has 3 classes"},
		"gray for colour":    {variant(t, "{mean: [127.5]", "{color: gray, mean: [127.5]"), BadModel, "takes 3 channels, which input.color: gray doesn't give; wanted rgb or bgr"},
		"another's cache":    {other, CacheDoesNotFit, "doesn't fit the model: it names "},
		"broken cache":       {broken, BadCache, "calib.cache: "},
		"int8 without cache": {variant(t, "calibration: calib.cache\n", ""), BadManifest, "precision int8 needs a calibration cache"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, out := range []string{dir + "/out.tar.zst", dir + "/out"} {
				_, err := Pack(c.spec, out)
				wantRejected(t, err, c.code, c.want)
			}
			if entries, _ := os.ReadDir(dir); len(entries) > 0 {
				t.Error("it left", entries)
			}
		})
	}
}

func TestPackKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/mine/file", "x")
	_, err := Pack(tiny, dir+"/mine")
	if err == nil || !strings.Contains(err.Error(), "the directory is there and not empty") {
		t.Error(err)
	}
	if _, err := Pack(tiny, dir+"/none/out.tar.zst"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]string{"mine/file": "x"}, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}
