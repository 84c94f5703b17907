package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/onnx"
)

func TestCacheConvertToAModelWithQDQ(t *testing.T) {
	t.Parallel()
	path, out := writeCache(t, wholeCache), filepath.Join(t.TempDir(), "qdq.onnx")
	o := command(t, "cache", "convert", path, "--format", "qdq", "--model", cacheModel, "-o", out)
	if o.status != 0 || o.stdout != "" {
		t.Fatalf("%+v", o)
	}
	wantParts(t, o.stderr, "sightd: "+path+": 9 of 10 layers are INT8\n")
	m, err := onnx.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	wantParts(t, string(b), "QuantizeLinear", "DequantizeLinear")

	part := writeCache(t, strings.Replace(wholeCache, "image: 3c010a14\n", "", 1))
	o = command(t, "cache", "convert", part, "--format", "qdq", "--model", cacheModel, "-o", out)
	wantParts(t, o.stderr, "1 of 8 needed activations have no scale: the layers around them stay in floating point")
}

// Cache and model become one with Q/DQ, and that becomes both again. What
// stands in front of a ReLU has none of its own there, and gets the ReLU's.
func TestCacheConvertThroughAModelWithQDQ(t *testing.T) {
	t.Parallel()
	cache, model := testenv.Demo("lite0", "calibration.cache"), testenv.Demo("lite0", "model.onnx")
	dir := t.TempDir()
	qdq, back, plain := filepath.Join(dir, "qdq.onnx"), filepath.Join(dir, "back.cache"), filepath.Join(dir, "plain.onnx")
	if o := command(t, "cache", "convert", cache, "--format", "qdq", "--model", model, "-o", qdq); o.status != 0 {
		t.Fatal(o.stderr)
	}
	o := command(t, "cache", "convert", qdq, "--to", "10.3.0", "-o", back, "--plain", plain)
	if o.status != 0 || o.stdout != "" || strings.Contains(o.stderr, "it has a scale for") {
		t.Fatalf("%+v", o)
	}
	wantParts(t, o.stderr, "sightd: "+qdq+": it names no algorithm: the header says EntropyCalibration2")

	for _, m := range []string{plain, model} {
		if o := command(t, "cache", "check", back, "--model", m, "--tensorrt", "10.3.0"); o.status != 0 {
			t.Errorf("with %s: %s", m, o.stdout)
		}
	}
	left, err := calibcache.Read(cache)
	if err != nil {
		t.Fatal(err)
	}
	right, err := calibcache.Read(back)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Read(model)
	if err != nil {
		t.Fatal(err)
	}
	activations, err := m.Activations()
	if err != nil {
		t.Fatal(err)
	}
	folded := map[string]bool{}
	for _, a := range activations {
		folded[a.Name] = a.Behind != ""
	}
	d := calibcache.Compare(left, right)
	for _, c := range d.Tensors[:len(d.Tensors)-d.Identical] {
		if !folded[c.Name] {
			t.Errorf("%s: was %v, is %v", c.Name, c.Left, c.Right)
		}
	}
	if d.Identical < 50 {
		t.Errorf("%d of %d scales are the same", d.Identical, len(d.Tensors))
	}
}

func TestCacheConvertOfAModelRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cut := write(t, filepath.Join(dir, "cut.onnx"), []byte("\x08\x07\x12"))
	model, err := os.ReadFile(cacheModel)
	if err != nil {
		t.Fatal(err)
	}
	unnamed := write(t, filepath.Join(dir, "model"), model)
	out := filepath.Join(dir, "out")
	unchanged(t, dir)
	for line, test := range map[string]struct {
		status int
		want   string
	}{
		cacheModel:                     {2, cacheModel + " is a model: name a file with --plain"},
		cacheModel + " --plain " + out: {2, "has no header: name the TensorRT version"},
		cacheModel + " --to 8.5.1 -o " + out + " --plain " + filepath.Dir(out) + "/./out": {2, "--plain and -o both name " + out},
		cacheModel + " --format qdq --model " + cacheModel:                                {2, cacheModel + " is a model already"},
		cut + "x --plain " + out + " --to 8.5.1":                                          {2, "--plain: is for a model to convert, which " + cut + "x isn't (--from qdq takes it as one)"},
		cacheModel + " --to 8.5.1 --plain " + out:                                         {1, cacheModel + ": the model has no QuantizeLinear"},
		unnamed + " --from qdq --to 8.5.1 --plain " + out:                                 {1, unnamed + ": the model has no QuantizeLinear"},
		cut + " --to 8.5.1 --plain " + out:                                                {1, cut + ": "},
		filepath.Join(dir, "no.onnx") + " --to 8.5.1 --plain " + out:                      {1, "no such file"},
		"release/testdata/tiny/calib.cache --from qdq --to 8.5.1 --plain " + out:          {1, "calib.cache: "},
	} {
		wantRefusal(t, command(t, append([]string{"cache", "convert"}, strings.Fields(line)...)...), test.status, test.want)
	}
}
