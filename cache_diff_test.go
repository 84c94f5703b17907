package main

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCacheDiff(t *testing.T) {
	t.Parallel()
	left := writeCache(t, "TRT-8501-EntropyCalibration2\nsame: 3f800000\nhalf: 40000000\nzero: 0\nold: 1\ntwice: 3f800000\n")
	right := writeCache(t, "TRT-100300-MinMaxCalibration\nsame: 3f800000\nhalf: 3f800000\nzero: 3f800000\nnew: 1\ntwice: 40000001\n")
	got, _, err := runCommand(t, &cacheDiffCmd{Left: left, Right: right})
	want := "left:  " + left + ": TensorRT 8.5.1, EntropyCalibration2\n" +
		"right: " + right + ": TensorRT 10.3.0, MinMaxCalibration\n" + `
tensors: 1 identical, 3 changed, 1 only in left, 1 only in right

RATIO  LEFT  RIGHT  TENSOR
+Inf   0     1      zero
2      1     2      twice
0.5    2     1      half

only in left (1)
  old

only in right (1)
  new
`
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	got, _, err = runCommand(t, &cacheDiffCmd{Left: left, Right: right, JSON: true})
	want = `{"same":false,"headers":{"left":"TRT-8501-EntropyCalibration2","right":"TRT-100300-MinMaxCalibration"},"identical":1,"tensors":[` +
		`{"name":"zero","left":0,"right":1,"ratio":null},{"name":"twice","left":1,"right":2.000000238418579,"ratio":2.000000238418579},` +
		`{"name":"half","left":2,"right":1,"ratio":0.5},{"name":"same","left":1,"right":1,"ratio":1}],` +
		`"only_left":["old"],"only_right":["new"]}` + "\n"
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestCacheDiffOfTheSame(t *testing.T) {
	t.Parallel()
	path := writeCache(t, wholeCache)
	got, _, err := runCommand(t, &cacheDiffCmd{Left: path, Right: path, ExitCode: true})
	want := "left:  " + path + ": TensorRT 8.5.1, EntropyCalibration2\nright: " + path + ": TensorRT 8.5.1, EntropyCalibration2\n\n" +
		"tensors: 9 identical, 0 changed, 0 only in left, 0 only in right\n"
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestCacheDiffSaysByItsStatusWhatIsAsked(t *testing.T) {
	t.Parallel()
	left, right := writeCache(t, wholeCache), writeCache(t, wholeCache+"more: 1\n")
	if _, _, err := runCommand(t, &cacheDiffCmd{Left: left, Right: right}); err != nil {
		t.Errorf("without --exit-code: %v", err)
	}
	if _, _, err := runCommand(t, &cacheDiffCmd{Left: left, Right: right, ExitCode: true}); !errors.Is(err, exitStatus(1)) {
		t.Errorf("with --exit-code: %v", err)
	}
}

func TestCacheDiffRefuses(t *testing.T) {
	t.Parallel()
	good, dir := writeCache(t, wholeCache), t.TempDir()
	empty := write(t, filepath.Join(dir, "empty"), nil)
	for name, test := range map[string]struct{ left, right, want string }{
		"a file that isn't there": {good, filepath.Join(dir, "no"), "no such file"},
		"a directory":             {dir, good, "is a directory"},
		"an empty file":           {good, empty, empty + ": not a TensorRT calibration cache: it is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRefusal(t, command(t, "cache", "diff", test.left, test.right), 1, test.want)
		})
	}
}
