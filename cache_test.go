package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	cacheHeader = "TRT-8501-EntropyCalibration2\n"
	// wholeCache has all that the model below needs.
	wholeCache = cacheHeader + "image: 3c010a14\nconv1: 3d000000\nrelu1: 3D000000\npool1: 3d000000\n" +
		"conv2: 3d000000\nclip2: 3d000000\nsum: 3d000000\ngap: 3d000000\nprob: 3c000000\n"
	cacheModel = "calibcache/testdata/net.onnx"
)

// runCommand gives a command's standard output, standard error and error.
func runCommand(t *testing.T, c interface{ Run(*app) error }) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = c.Run(&app{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs})
	return out.String(), errs.String(), err
}

func writeCache(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "calib.cache")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCacheShow(t *testing.T) {
	t.Parallel()
	path := writeCache(t, "TRT-100300-MinMaxCalibration\nin:0: 3d000000\n<a&b>: 7FC00000\nnull: 0\n")
	got, _, err := runCommand(t, &cacheShowCmd{Files: []string{path}})
	want := path + ": TensorRT 10.3.0, MinMaxCalibration, tensors: 3\n\n" +
		"SCALE    RANGE    TENSOR\n" +
		"0.03125  3.96875  in:0\n" +
		"NaN      NaN      <a&b>\n" +
		"0        0        null\n"
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}

	got, _, err = runCommand(t, &cacheShowCmd{Files: []string{path}, JSON: true})
	want = `{"path":"` + path + `","header":"TRT-100300-MinMaxCalibration","version":"10.3.0","algorithm":"MinMaxCalibration","tensors":[` +
		`{"name":"in:0","scale":0.03125,"range":3.96875,"bits":"3d000000"},` +
		`{"name":"<a&b>","scale":null,"range":null,"bits":"7fc00000"},` +
		`{"name":"null","scale":0,"range":0,"bits":"00000000"}]}` + "\n"
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestCacheShowGoesOnAfterABadFile(t *testing.T) {
	t.Parallel()
	good, bad := writeCache(t, wholeCache), writeCache(t, "hello")
	got, stderr, err := runCommand(t, &cacheShowCmd{Files: []string{bad, good}, JSON: true})
	if !errors.Is(err, exitStatus(1)) || strings.Count(got, "\n") != 1 || !strings.Contains(got, good) {
		t.Errorf("error %v, output %s", err, got)
	}
	if !strings.HasPrefix(stderr, "sightd: "+bad+": not a TensorRT calibration cache: line 1: ") {
		t.Errorf("standard error %q", stderr)
	}
}

func TestCacheCheckOfAFit(t *testing.T) {
	t.Parallel()
	path := writeCache(t, wholeCache)
	got, _, err := runCommand(t, &cacheCheckCmd{File: path, Model: cacheModel, Coverage: 1})
	want := path + " fits " + cacheModel + ": it has a scale for 8 of 8 needed activations, coverage 1\n"
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	got, _, err = runCommand(t, &cacheCheckCmd{File: path, Model: cacheModel, Coverage: 1, JSON: true})
	want = `{"ok":true,"coverage":1,"needed":8,"named":8,"missing":[],"leftover":[],"renamed":[],"suspicious":[],"positional":[]}` + "\n"
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestCacheCheckOfNoFit(t *testing.T) {
	t.Parallel()
	content := strings.ReplaceAll(wholeCache, "sum: 3d000000", "sum: ff800000")
	content = strings.ReplaceAll(content, "pool1", "fire2")
	path := writeCache(t, content)
	got, _, err := runCommand(t, &cacheCheckCmd{File: path, Model: cacheModel, Coverage: 1})
	want := path + " does not fit " + cacheModel + ": it has a scale for 6 of 8 needed activations, coverage 0.75, below the 1 asked for\n" + `
missing: the cache has no usable scale for (2)
  pool1
  sum

left over: entries that belong to nothing in the model (1)
  fire2

suspicious: entries with a value that can't be right, used for nothing (1)
  sum: the scale is infinite (ff800000)
`
	if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, exitStatus(1)) {
		t.Errorf("%v\n%s", err, diff)
	}
	got, _, err = runCommand(t, &cacheCheckCmd{File: path, Model: cacheModel, Coverage: 1, JSON: true})
	want = `{"ok":false,"coverage":0.75,"needed":8,"named":6,"missing":["pool1","sum"],"leftover":["fire2"],"renamed":[],` +
		`"suspicious":[{"name":"sum","kind":"absurd","why":"the scale is infinite (ff800000)"}],"positional":[]}` + "\n"
	if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, exitStatus(1)) {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, _, err = runCommand(t, &cacheCheckCmd{File: path, Model: cacheModel, Coverage: 0.75}); err != nil {
		t.Errorf("coverage 0.75 is enough, yet: %v", err)
	}
}

func TestCacheCheckCutsLongLists(t *testing.T) {
	t.Parallel()
	names := strings.Builder{}
	for _, a := range "abcde" {
		for _, b := range "abcde" {
			names.WriteString(string(a) + string(b) + ": 1\n")
		}
	}
	path := writeCache(t, cacheHeader+names.String())
	got, _, err := runCommand(t, &cacheCheckCmd{File: path, Model: cacheModel, Coverage: 1})
	if !errors.Is(err, exitStatus(1)) || !strings.Contains(got, "model (25)\n  aa\n") || !strings.Contains(got, "  de\n  … and 5 more, all with --json\n") {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestCacheCheckRefuses(t *testing.T) {
	t.Parallel()
	good := writeCache(t, wholeCache)
	for name, test := range map[string]struct {
		cmd  cacheCheckCmd
		want string
	}{
		"a coverage in percent": {cacheCheckCmd{File: good, Model: cacheModel, Coverage: 95}, "--coverage 95: want a share from 0 to 1"},
		"a file that isn't there": {
			cacheCheckCmd{File: good + ".no", Model: cacheModel}, "no such file",
		},
		"a model in place of the cache": {cacheCheckCmd{File: cacheModel, Model: cacheModel}, "not a TensorRT calibration cache: "},
		"a cache in place of the model": {cacheCheckCmd{File: good, Model: good}, good + ": "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _, err := runCommand(t, &test.cmd)
			if err == nil || !strings.Contains(err.Error(), test.want) || out != "" {
				t.Errorf("error %v, want …%s…; output %q", err, test.want, out)
			}
		})
	}
}

func TestCacheConvert(t *testing.T) {
	t.Parallel()
	content := strings.TrimSuffix(wholeCache, "\n")
	body := strings.TrimPrefix(content, cacheHeader)
	path := writeCache(t, content)
	for name, test := range map[string]struct {
		cmd  cacheConvertCmd
		want string
	}{
		"nothing":           {cacheConvertCmd{}, content},
		"the same version":  {cacheConvertCmd{To: "8.5.1"}, content},
		"another TensorRT":  {cacheConvertCmd{To: "10.3.0"}, "TRT-100300-EntropyCalibration2\n" + body},
		"another algorithm": {cacheConvertCmd{Algorithm: "MinMaxCalibration"}, "TRT-8501-MinMaxCalibration\n" + body},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.cmd.File, test.cmd.Output = path, "-"
			got, _, err := runCommand(t, &test.cmd)
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
			test.cmd.Output = filepath.Join(t.TempDir(), "out.cache")
			out, _, err := runCommand(t, &test.cmd)
			written, readErr := os.ReadFile(test.cmd.Output)
			if err != nil || readErr != nil || out != "" || string(written) != test.want {
				t.Errorf("errors %v, %v; wrote %q", err, readErr, written)
			}
		})
	}
}

func TestCacheConvertRefusesAndLeavesTheOutput(t *testing.T) {
	t.Parallel()
	good, out := writeCache(t, wholeCache), writeCache(t, "as it was")
	for name, test := range map[string]struct {
		cmd   cacheConvertCmd
		usage bool
		want  string
	}{
		"a bad cache":              {cacheConvertCmd{File: out}, false, "line 1: header"},
		"a version that isn't one": {cacheConvertCmd{File: good, To: "ten"}, true, `--to: TensorRT version "ten": want`},
		"a TensorRT without":       {cacheConvertCmd{File: good, To: "11.0.0"}, true, "takes no calibration cache"},
		"an unknown algorithm":     {cacheConvertCmd{File: good, Algorithm: "Best"}, true, `--algorithm: unknown calibration algorithm "Best"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.cmd.Output = out
			_, _, err := runCommand(t, &test.cmd)
			var usage usageError
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.As(err, &usage) != test.usage {
				t.Errorf("error %v, want …%s…", err, test.want)
			}
			if b, err := os.ReadFile(out); err != nil || string(b) != "as it was" {
				t.Errorf("the output is %q now, %v", b, err)
			}
		})
	}
}
