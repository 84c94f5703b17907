package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/internal/testenv"
)

func photo() string { return testenv.Demo("photos", "coffee.png") }

// commandsOnRelease are the ways in which a release meets sightd and is looked
// at as a whole.
func commandsOnRelease(t *testing.T, dir string) map[string][]string {
	out := filepath.Join(t.TempDir(), "out.tar.zst")
	spec := filepath.Join(dir, "model.yaml")
	return map[string][]string{
		"pack":     {"release", "pack", spec, "-o", out},
		"classify": {"classify", spec, photo()},
		"eval":     {"eval", spec, "--images", testenv.Demo("photos"), "--index", index(t)},
		"install":  {"release", "install", spec, "-c", stopped(t)},
	}
}

// index is one of eval's, with one photograph.
func index(t *testing.T) string {
	return write(t, filepath.Join(t.TempDir(), "index.tsv"), []byte("file\tclass\ncoffee.png\t0\n"))
}

// stopped is the configuration of a daemon that doesn't run, and whose state
// directory mustn't change.
func stopped(t *testing.T) string {
	config, state := configured(t, "releases: {require_signature: false}\nmodels: [{name: tiny}]\n")
	prepare(t, state)
	unchanged(t, state)
	return config
}

// prepare makes a state directory as a daemon leaves it.
func prepare(t *testing.T, state string) {
	t.Helper()
	for _, sub := range []string{"engines", "inbox", "releases", "staging"} {
		if err := os.MkdirAll(filepath.Join(state, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(state, "lock"), nil)
}

// refusedEverywhere holds a release to be refused by each command that looks at
// it, for the reason given, and to stay as it is.
func refusedEverywhere(t *testing.T, dir string, parts ...string) {
	t.Helper()
	unchanged(t, dir)
	for name, args := range commandsOnRelease(t, dir) {
		t.Run(name, func(t *testing.T) {
			if name == "pack" {
				unchanged(t, filepath.Dir(args[len(args)-1]))
			}
			wantRefusal(t, command(t, args...), 1, parts...)
		})
	}
}

func TestModelsThatAreRefused(t *testing.T) {
	t.Parallel()
	picture, err := os.ReadFile(photo())
	if err != nil {
		t.Fatal(err)
	}
	good := tinyFile(t, "net.onnx")
	for name, test := range map[string]struct {
		model []byte
		want  []string
	}{
		"cut short":           {good[:len(good)/2], []string{"cut short", "copy or export it again"}},
		"empty":               {[]byte{}, []string{"empty", "want an ONNX model"}},
		"a picture":           {picture, []string{"PNG picture", "want an ONNX model"}},
		"an unknown operator": {model(t, "operator.onnx"), []string{`node "layer 2"`, `unknown operator "Sharpen"`, "export the model with standard operators"}},
		"a cycle":             {model(t, "cycle.onnx"), []string{"cycle", `"relu"`, "export the model again"}},
		"two inputs":          {model(t, "inputs.onnx"), []string{"2 inputs", `"image" and "depth"`, "want one image"}},
		"no image as input":   {model(t, "noimage.onnx"), []string{`input "words" is of 1×4`, "no image", "want float32 or float16 of N×3×H×W"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refusedEverywhere(t, tinyWith(t, map[string][]byte{"net.onnx": test.model}), append(test.want, "net.onnx: ")...)
		})
	}
}

// Its size is looked at before it is read.
func TestModelOf3GBIsRefused(t *testing.T) {
	t.Parallel()
	dir := tinyWith(t, nil)
	if err := os.Truncate(filepath.Join(dir, "net.onnx"), 3<<30); err != nil {
		t.Skip("the file system has no sparse files: ", err)
	}
	refusedEverywhere(t, dir, "net.onnx: ", "3221225472 bytes", "at most 1073741824")
}

func TestLabelsThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		labels string
		want   []string
	}{
		"too few":  {"cat\ndog\n", []string{"2 labels, wanted 3", "the model has 3 classes"}},
		"too many": {"cat\ndog\nbird\nfish\n", []string{"4 labels, wanted 3", "the model has 3 classes"}},
		"none":     {"\n", []string{"is empty, wanted a label a line"}},
		"binary":   {"cat\ndog\nb\x00rd\n", []string{"names.txt:3: ", "wanted text in UTF-8"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refusedEverywhere(t, tinyWith(t, map[string][]byte{"names.txt": []byte(test.labels)}), append(test.want, "names.txt")...)
		})
	}
}

func TestColorThatTheModelDoesNotTakeIsRefused(t *testing.T) {
	t.Parallel()
	dir := tinyWith(t, map[string][]byte{"net.onnx": model(t, "gray.onnx")})
	refusedEverywhere(t, dir, "net.onnx", "color", "rgb", "channels")
}

// twoModels configures a daemon with a bad release beside a good one, or alone.
func twoModels(t *testing.T, beside bool) (config string) {
	bad := tinyWith(t, map[string][]byte{"net.onnx": nil})
	unchanged(t, bad)
	good := ""
	if beside {
		spec := bytes.Replace(tinyFile(t, "model.yaml"), []byte("name: tiny"), []byte("name: good"), 1)
		good = fmt.Sprintf("  - {name: good, release: %q}\n", tinyWith(t, map[string][]byte{"model.yaml": spec}))
	}
	config, _ = configured(t, fmt.Sprintf("http: {listen: \"\"}\ncameras: [{name: door, source: 'test:bars'}]\nmodels:\n  - {name: tiny, release: %q}\n%s", bad, good))
	return config
}

func TestADaemonWithNothingToServeEnds(t *testing.T) {
	t.Parallel()
	s := startService(t, twoModels(t, false))
	if status := s.end(); status != 1 {
		t.Errorf("exit status %d", status)
	}
	wantParts(t, s.refusal(), "model tiny", "net.onnx: ", "empty, want an ONNX model")
}

func TestAModelThatCannotBeServedStopsNoOther(t *testing.T) {
	t.Parallel()
	s := startService(t, twoModels(t, true))
	status := s.when("one serves, one failed", func(s *daemon.Status) bool {
		return s.Models[0].State == "failed" && s.Models[1].State == "serving" && s.Cameras[0].Classified > 0
	})
	wantParts(t, status.Models[0].Reason, "net.onnx: ", "empty, want an ONNX model")
	if status := s.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
