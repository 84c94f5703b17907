package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
)

// There and back again, by way of files and the command line.
func TestCacheConvertToEveryFormAndBack(t *testing.T) {
	t.Parallel()
	path := testenv.Demo("lite0", "calibration.cache")
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range calibcache.Forms {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			convertThereAndBack(t, path, form, want)
		})
	}
}

func TestCacheConvertOfEveryRealCache(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testenv.Material(t, "caches"), "*"))
	if err != nil || len(files) != 43 {
		t.Fatalf("%d caches, %v", len(files), err)
	}
	for _, file := range files {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range calibcache.Forms {
			convertThereAndBack(t, file, form, want)
		}
	}
}

func convertThereAndBack(t *testing.T, file string, form calibcache.Form, want []byte) {
	t.Helper()
	there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	_, said, err := runCommand(t, &cacheConvertCmd{File: file, Format: string(form), Output: there})
	if err != nil {
		t.Errorf("%s to %s: %v", file, form, err)
		return
	}
	if lost := strings.Contains(said, "has no place for the header TRT-"); lost == form.HasHeader() {
		t.Errorf("%s to %s: said %q", file, form, said)
	}
	cmd := cacheConvertCmd{File: there, Output: back}
	if !form.HasHeader() {
		c, err := calibcache.Parse(want)
		if err != nil {
			t.Fatal(err)
		}
		cmd.To, cmd.Algorithm = c.Header.Version(), string(c.Header.Algorithm)
	}
	if _, said, err := runCommand(t, &cmd); err != nil || said != "" {
		t.Errorf("%s from %s: %v, said %q", file, form, err, said)
		return
	}
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: other bytes come back from %s, %v", file, form, err)
	}
}

func TestCacheConvertsJSONIsThatOfShow(t *testing.T) {
	t.Parallel()
	path := writeCache(t, wholeCache)
	shown, _, err := runCommand(t, &cacheShowCmd{Files: []string{path}, JSON: true})
	if err != nil {
		t.Fatal(err)
	}
	converted, _, err := runCommand(t, &cacheConvertCmd{File: path, Format: "json", Output: "-"})
	if err != nil {
		t.Fatal(err)
	}
	var a, b map[string]any
	if err := json.Unmarshal([]byte(shown), &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(converted), &b); err != nil {
		t.Fatal(err)
	}
	delete(a, "path")
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}

	back, _, err := runCommand(t, &cacheConvertCmd{File: write(t, filepath.Join(t.TempDir(), "shown.json"), []byte(shown)), Output: "-"})
	if want := strings.ToLower(strings.TrimPrefix(wholeCache, cacheHeader)); err != nil || back != cacheHeader+want {
		t.Errorf("%v, %q", err, back)
	}
}

func TestCacheConvertSaysWhatIsLost(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "calibration.json"), []byte(`{"a": [-1.5, 3], "b": [0, 127]}`))
	o := command(t, "cache", "convert", path, "--to", "10.3.0")
	want := outcome{
		0, "TRT-100300-EntropyCalibration2\na: 3cc18306\nb: 3f800000\n",
		"sightd: " + path + ": 1 of 2 ranges are rounded: a cache has range ÷ 127 as a binary32 number\n" +
			"sightd: " + path + ": 2 of 2 tensors have a range that isn't the same on both sides of zero: a cache has the larger side\n" +
			"sightd: " + path + ": it names no algorithm: the header says EntropyCalibration2, which DLA takes; --algorithm changes that\n",
	}
	if diff := cmp.Diff(want, o, cmp.AllowUnexported(outcome{})); diff != "" {
		t.Error(diff)
	}
	o = command(t, "cache", "convert", path, "--to", "8.5.1", "--algorithm", "MinMaxCalibration", "--from", "ort-json")
	if o.status != 0 || !strings.HasPrefix(o.stdout, "TRT-8501-MinMaxCalibration\n") || strings.Contains(o.stderr, "algorithm") {
		t.Errorf("%+v", o)
	}
}

func TestCacheConvertWrongUsage(t *testing.T) {
	t.Parallel()
	cache := writeCache(t, wholeCache)
	table := write(t, filepath.Join(t.TempDir(), "table"), []byte("a 1.5\n"))
	unchanged(t, filepath.Dir(cache))
	for line, want := range map[string]string{
		cache + " --format yaml":                          `--format: unknown form "yaml", known are cache, json, trt-ranges, trt-json, nvdla, ort-table, ort-json, ort-flatbuffers and qdq`,
		cache + " --from yaml":                            `--from: unknown form "yaml"`,
		cache + " --format nvdla --to 10.3.0":             "--format nvdla: has no header, leave out --to and --algorithm",
		cache + " --format qdq":                           "name the model that the cache is for with --model",
		cache + " --model " + cacheModel:                  "--model: is for --format qdq alone",
		cache + " --format qdq --to 8.5.1 --model x.onnx": "has no header",
		table:                         table + " has no header: name the TensorRT version that the cache is for with --to",
		table + " --format json":      "has no header: name the TensorRT version",
		table + " --to 11.0.0":        "takes no calibration cache",
		table + " --algorithm MinMax": "--algorithm: unknown",
	} {
		wantRefusal(t, command(t, append([]string{"cache", "convert"}, strings.Fields(line)...)...), 2, want)
	}
}

func TestCacheConvertBadInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := writeCache(t, wholeCache)
	model, err := os.ReadFile(cacheModel)
	if err != nil {
		t.Fatal(err)
	}
	flat, _, err := runCommand(t, &cacheConvertCmd{File: good, Format: "ort-flatbuffers", Output: "-"})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file    string
		content string // "": there is none
		flags   []string
		want    []string
	}{
		"a file that isn't there":             {"missing", "", nil, []string{"no such file"}},
		"a directory":                         {".", "", nil, []string{"is a directory"}},
		"an empty file":                       {"empty", "\n", nil, []string{"it is empty"}},
		"flatbuffers cut off":                 {"cut", flat[:len(flat)-40], []string{"--from", "ort-flatbuffers"}, []string{"cut: not ONNX Runtime's calibration flatbuffers", "cut off"}},
		"the same, to be told by its content": {"cut2", flat[:len(flat)-40], nil, []string{"cut2: not a TensorRT calibration cache: it is a binary file"}},
		"JSON cut off":                        {"cut.json", `{"a": [1, 2], "b": [`, nil, []string{"cut.json: not ONNX Runtime's calibration JSON: it ends in the middle"}},
		"a line cut off":                      {"table", "a 1.5\nb\n", []string{"--from", "ort-table"}, []string{"table: not ONNX Runtime's calibration table: line 2: "}},
		"a range of nothing":                  {"nan", "a: 1.5\nb: nan\n", []string{"--from", "trt-ranges"}, []string{`line 2: tensor "b": the range NaN`}},
		"a cache as another form":             {"cache", wholeCache, []string{"--from", "nvdla"}, []string{"not an NVDLA calibration table"}},
		"a cache for qdq":                     {"other", cacheHeader + "a: 3f800000\n", []string{"--format", "qdq", "--model", cacheModel}, []string{"other: no layer of " + cacheModel + " can run in INT8", "0 of the 8 activations", "sightd cache check"}},
		"a model for qdq that isn't":          {"third", wholeCache, []string{"--format", "qdq", "--model", good}, []string{good + ": "}},
		"a model as a cache":                  {"model", string(model), nil, []string{"model: not a TensorRT calibration cache: "}},
		"a scale that isn't one":              {"inf", cacheHeader + "a: 7f800000\n", []string{"--format", "ort-json"}, []string{`inf: tensor "a": the scale +Inf (7f800000) can't be written`, "form json"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(dir, test.file)
			if test.content != "" {
				write(t, path, []byte(test.content))
			}
			out := filepath.Join(t.TempDir(), "out")
			unchanged(t, filepath.Dir(out))
			flags := test.flags
			if len(flags) == 0 || flags[0] == "--from" {
				flags = append(flags, "--to", "10.3.0")
			}
			o := command(t, append([]string{"cache", "convert", path, "-o", out}, flags...)...)
			wantRefusal(t, o, 1, test.want...)
		})
	}
}

func TestCacheConvertToWhereNothingCanBeWritten(t *testing.T) {
	t.Parallel()
	cache, dir := writeCache(t, wholeCache), t.TempDir()
	unchanged(t, dir)
	for out, want := range map[string]string{
		filepath.Join(dir, "no", "out"): "there is no folder",
		dir:                             "write " + dir,
		"/proc/out":                     "write /proc/out",
	} {
		o := command(t, "cache", "convert", cache, "--to", "10.3.0", "-o", out)
		wantRefusal(t, o, 1, out, want)
	}
}

// The disk fills while the file is written: what stood there stays.
func TestCacheConvertOntoAFullDisk(t *testing.T) {
	t.Parallel()
	const script = `mount -t tmpfs -o size=12k none "$1" || { echo no namespace; exit; }
echo old > "$1/out" && head -c 4096 /dev/zero > "$1/filler"
"$2" cache convert "$3" --format json -o "$1/out"; echo "status $?"
ls -A "$1"; cat "$1/out"`
	dir := t.TempDir()
	out, err := exec.Command("unshare", "--user", "--map-root-user", "--mount",
		"sh", "-c", script, "sh", dir, testenv.Sightd(t), testenv.Demo("lite0", "calibration.cache")).CombinedOutput()
	if strings.Contains(string(out), "no namespace") || strings.Contains(string(out), "unshare") || err != nil {
		t.Skipf("no mount namespace to be had here: %v %s", err, out)
	}
	want := fmt.Sprintf("sightd: write %s/out: no space left on device\nstatus 1\nfiller\nout\nold\n", dir)
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
}
