package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

func TestCachesThatAreRefused(t *testing.T) {
	t.Parallel()
	good := string(tinyFile(t, "calib.cache"))
	for name, test := range map[string]struct {
		cache []byte
		want  []string
	}{
		"Windows line ends": {
			[]byte(strings.ReplaceAll(good, "\n", "\r\n")),
			[]string{"line 1: ", "Windows line ends", "dos2unix"},
		},
		"duplicates": {
			[]byte(good + "relu: 3c010a15\n"),
			[]string{"line 8: ", `tensor "relu" has an entry on line 4 already`, "remove one of the two"},
		},
		"a missing header": {
			[]byte(good[strings.Index(good, "\n")+1:]),
			[]string{"line 1: ", "header is missing", "want TRT-<version>-<algorithm>"},
		},
		"an unknown algorithm": {
			[]byte(strings.Replace(good, "EntropyCalibration2", "BestCalibration", 1)),
			[]string{"line 1: ", `"BestCalibration"`, "known are EntropyCalibration2"},
		},
		"10 million lines": {
			append([]byte("TRT-8501-EntropyCalibration2\n"), bytes.Repeat([]byte("a: 0\n"), 10_000_000)...),
			[]string{"larger than", "the most that is"},
		},
		"10 million empty lines": {
			append([]byte("TRT-8501-EntropyCalibration2\n"), bytes.Repeat([]byte("\n"), 10_000_000)...),
			[]string{"line 2: ", "empty line, want `name: hex`"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := tinyWith(t, map[string][]byte{"calib.cache": test.cache})
			want := append(test.want, "calib.cache")
			refusedEverywhere(t, dir, want...)

			cache, out := filepath.Join(dir, "calib.cache"), filepath.Join(t.TempDir(), "out.cache")
			unchanged(t, filepath.Dir(out))
			wantRefusal(t, command(t, "cache", "show", cache), 1, want...)
			wantRefusal(t, command(t, "cache", "check", cache, "--model", filepath.Join(dir, "net.onnx")), 1, want...)
			wantRefusal(t, command(t, "cache", "diff", cache, cache), 1, want...)
			wantRefusal(t, command(t, "cache", "convert", cache, "--to", "10.3.0", "-o", out), 1, want...)
		})
	}
}

func TestCacheOfAnotherModelIsRefused(t *testing.T) {
	t.Parallel()
	other, err := os.ReadFile(testenv.Demo("lite0", "calibration.cache"))
	if err != nil {
		t.Fatal(err)
	}
	dir := tinyWith(t, map[string][]byte{"calib.cache": other})
	cache, onnx := filepath.Join(dir, "calib.cache"), filepath.Join(dir, "net.onnx")
	refusedEverywhere(t, dir, cache+" doesn't fit the model", "100.0 %", `"image"`,
		"`sightd cache check "+cache+" --model "+onnx+"` lists them")

	o := command(t, "cache", "check", cache, "--model", onnx)
	if o.status != 1 || o.stderr != "" {
		t.Errorf("exit status %d, standard error %q", o.status, o.stderr)
	}
	wantParts(t, o.stdout, cache+" does not fit "+onnx, "1 of 4", "missing", "  image\n", "left over", "  stem/conv\n")
}

// The scales are the same thing, however they were found.
func TestCachesOfOtherAlgorithmsAreTaken(t *testing.T) {
	t.Parallel()
	good := string(tinyFile(t, "calib.cache"))
	for _, algorithm := range []string{"MinMaxCalibration", "EntropyCalibration", "LegacyCalibration"} {
		cache := strings.Replace(good, "EntropyCalibration2", algorithm, 1)
		dir := tinyWith(t, map[string][]byte{"calib.cache": []byte(cache)})
		out := filepath.Join(t.TempDir(), "out.tar.zst")
		if o := command(t, "release", "pack", dir, "-o", out); o.status != 0 {
			t.Errorf("%s: exit status %d: %s", algorithm, o.status, o.stderr)
		}
	}
}
