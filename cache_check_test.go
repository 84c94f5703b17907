package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCacheCheckNamesTheNearest(t *testing.T) {
	t.Parallel()
	path := writeCache(t, strings.ReplaceAll(wholeCache, "\npool1:", "\nmodel/Pool1:0:"))
	got, _, err := runCommand(t, &cacheCheckCmd{File: path, Model: cacheModel, Coverage: 1})
	want := path + " does not fit " + cacheModel + ": it has a scale for 7 of 8 needed activations, coverage 0.875, below the 1 asked for\n" + `
missing: the cache has no usable scale for (1)
  pool1 — the cache has model/Pool1:0, perhaps the same tensor under another export's name

left over: entries that belong to nothing in the model (1)
  model/Pool1:0
`
	if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, exitStatus(1)) {
		t.Errorf("%v\n%s", err, diff)
	}
	got, _, err = runCommand(t, &cacheCheckCmd{File: path, Model: cacheModel, Coverage: 1, JSON: true})
	wantParts(t, got, `"missing":["pool1"],"leftover":["model/Pool1:0"],"renamed":[{"name":"pool1","nearest":"model/Pool1:0","similarity":0.`)
	if !errors.Is(err, exitStatus(1)) {
		t.Error(err)
	}
}

// What is only worth a look doesn't make a cache unfit.
func TestCacheCheckTellsWarningsFromFaults(t *testing.T) {
	t.Parallel()
	path := writeCache(t, strings.ReplaceAll(wholeCache, "\npool1: 3d", "\npool1: 41"))
	got, _, err := runCommand(t, &cacheCheckCmd{File: path, Model: cacheModel, Coverage: 1})
	want := path + " fits " + cacheModel + ": it has a scale for 8 of 8 needed activations, coverage 1\n" + `
suspicious: ranges out of proportion to their neighbours', used as they are (1)
  pool1: the range 1016 is at least 50 times its neighbours': 3.969 of "relu1" is the nearest

unequal: ranges that DLA wants equal, used as they are (2)
  pool1: ranges of pool1 1016, relu1 3.969 differ, DLA wants them equal at input and output of MaxPool
  sum: ranges of pool1 1016, clip2 3.969 differ, DLA wants them equal at the inputs of Add
`
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	got, _, err = runCommand(t, &cacheCheckCmd{File: path, Model: cacheModel, Coverage: 1, JSON: true})
	wantParts(t, got, `{"ok":true,"coverage":1,`, `"suspicious":[{"name":"pool1","kind":"outlier","why":"the range 1016`, `{"name":"sum","kind":"unequal",`)
	if err != nil {
		t.Error(err)
	}
}

func TestCacheCheckForACalibrator(t *testing.T) {
	t.Parallel()
	path := writeCache(t, strings.Replace(wholeCache, "EntropyCalibration2", "MinMaxCalibration", 1))
	check := []string{"cache", "check", path, "--model", cacheModel}
	fits := path + " fits " + cacheModel + ": it has a scale for 8 of 8 needed activations, coverage 1\n"
	for name, test := range map[string]struct {
		flags  []string
		status int
		want   string
	}{
		"its own": {[]string{"--tensorrt", "8.5.1", "--algorithm", "MinMaxCalibration"}, 0, fits},
		"another algorithm's": {
			[]string{"--tensorrt", "8.5.1"},
			1,
			fits + path + " is not for TensorRT 8.5.1: a calibrator of EntropyCalibration2 takes no cache of MinMaxCalibration and would calibrate anew: " +
				"give it the header TRT-8501-EntropyCalibration2: the scales stay as they are " +
				"(sightd cache convert " + path + " --to 8.5.1 --algorithm EntropyCalibration2 -o OUT)\n",
		},
	} {
		o := command(t, append(check, test.flags...)...)
		if o.status != test.status || o.stderr != "" {
			t.Errorf("%s: exit status %d, %s", name, o.status, o.stderr)
		}
		if diff := cmp.Diff(test.want, o.stdout); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	o := command(t, append(check, "--tensorrt", "10.3.0", "--algorithm", "MinMaxCalibration", "--json")...)
	if o.status != 1 {
		t.Errorf("exit status %d", o.status)
	}
	wantParts(t, o.stdout, `{"ok":false,"coverage":1,`, `"calibrator":{"takes":false,"why":"TensorRT 10.3.0 takes no cache of TensorRT 8.5.1`)

	for flags, want := range map[string]string{
		"--tensorrt 11.0.0":                 "--tensorrt: TensorRT 11.0.0 takes no calibration cache",
		"--tensorrt 10.3.0 --algorithm Bes": "--algorithm: unknown",
		"--algorithm MinMaxCalibration":     "name its TensorRT with --tensorrt too",
	} {
		wantRefusal(t, command(t, append(check, strings.Fields(flags)...)...), 2, want)
	}
}
