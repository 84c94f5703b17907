package main

import (
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/onnx"
	"github.com/sightd/sightd/release"
)

// picturesIn writes n different small images into dir.
func picturesIn(t *testing.T, dir string, n int) {
	t.Helper()
	for i := range n {
		img := image.NewNRGBA(image.Rect(0, 0, 16, 16))
		for p := range 16 * 16 {
			v := i*7919 + p*p*31
			img.SetNRGBA(p%16, p/16, color.NRGBA{uint8(v), uint8(v >> 3), uint8(v >> 6), 255})
		}
		write(t, filepath.Join(dir, fmt.Sprintf("%03d.png", i)), asPNG(t, img))
	}
}

// uncalibrated is the small release without a cache, and a folder of images.
func uncalibrated(t *testing.T, images int) (spec, folder string) {
	t.Helper()
	dir := tinyWith(t, map[string][]byte{
		"model.yaml": []byte("# of the tests\nname: tiny\nrelease: 1\nmodel: net.onnx # small\nlabels: names.txt\ninput: {mean: [127.5], std: [127.5]}\n"),
	})
	if err := os.Remove(filepath.Join(dir, "calib.cache")); err != nil {
		t.Fatal(err)
	}
	folder = filepath.Join(t.TempDir(), "images")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	picturesIn(t, folder, images)
	return filepath.Join(dir, "model.yaml"), folder
}

// coverage is that of a cache for the small model.
func coverage(t *testing.T, path string) (*calibcache.Cache, float64) {
	t.Helper()
	c, err := calibcache.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Read(filepath.Join(tiny, "net.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	fit, err := calibcache.Check(c, m)
	if err != nil {
		t.Fatal(err)
	}
	return c, fit.Coverage
}

// The whole way of somebody who has a model and images: calibrate, look at it,
// classify in INT8.
func TestCalibrateMakesACacheThatTheReleaseServesWith(t *testing.T) {
	t.Parallel()
	spec, images := uncalibrated(t, 60)
	page := filepath.Join(t.TempDir(), "report.html")
	o := program(t, "calibrate", spec, "--images", images, "--write", "--report", page)
	if o.status != 0 || o.stderr != "" {
		t.Fatalf("exit status %d:\n%s%s", o.status, o.stdout, o.stderr)
	}
	cache := filepath.Join(filepath.Dir(spec), "calibration.cache")
	wantParts(t, o.stdout, "INT8 against FP32 on 12 images that were held back:", "entropy ", "minmax ", "percentile ", "← taken",
		cache+": 6 tensors, ", "60 images")
	if _, share := coverage(t, cache); share != 1 {
		t.Errorf("coverage %v", share)
	}
	text, err := os.ReadFile(spec)
	want := "# of the tests\nname: tiny\nrelease: 1\nmodel: net.onnx # small\nlabels: names.txt\ninput: {mean: [127.5], std: [127.5]}\ncalibration: calibration.cache\n"
	if diff := cmp.Diff(want, string(text)); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	wantParts(t, string(html), "Calibration of tiny, release 1", "<svg", "scores", "conv", "minmax")

	if o := program(t, "classify", spec, filepath.Join(images, "000.png"), "--json"); o.status != 0 {
		t.Errorf("classify: exit status %d: %s", o.status, o.stderr)
	}
	rows := "file\tclass\n"
	for i := range 60 {
		rows += fmt.Sprintf("%03d.png\t%d\n", i, i%3)
	}
	index := write(t, filepath.Join(t.TempDir(), "index.tsv"), []byte(rows))
	o = program(t, "eval", spec, "--images", images, "--index", index, "--layers", "--json", "--report", page)
	var e evaluation
	if err := json.Unmarshal([]byte(o.stdout), &e); err != nil || o.status != 0 {
		t.Fatalf("eval: exit status %d, %v: %s", o.status, err, o.stderr)
	}
	names := map[string]bool{}
	for _, l := range e.Layers {
		names[l.Name] = true
		if l.INT8 && (l.Alone == nil || l.SNR == nil) {
			t.Errorf("layer %+v wasn't measured", l)
		}
	}
	if !names["conv"] || !names["fc"] {
		t.Errorf("layers %v", names)
	}
	if html, err = os.ReadFile(page); err != nil {
		t.Fatal(err)
	}
	wantParts(t, string(html), "Evaluation of tiny, release 1", "top-1")
}

func TestCalibrateSaysInJSONWhatItDid(t *testing.T) {
	t.Parallel()
	spec, images := uncalibrated(t, 50)
	out := filepath.Join(t.TempDir(), "a.cache")
	o := program(t, "calibrate", spec, "--images", images, "-o", out, "--algorithm", "percentile", "--percentile", "99.9",
		"--tensorrt", "8.6.1", "--json")
	var got calibrated
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.status != 0 {
		t.Fatalf("exit status %d, %v: %s%s", o.status, err, o.stdout, o.stderr)
	}
	if got.Images != 50 || got.HeldBack != 0 || got.Tensors != 6 || got.Algorithm != "percentile" || *got.Percentile != 99.9 ||
		got.Header != "TRT-8601-EntropyCalibration2" || got.Output != out || !(got.Rate > 0) || len(got.Passes) != 3 {
		t.Errorf("found %+v", got)
	}
	c, share := coverage(t, out)
	if share != 1 || c.Header.String() != got.Header {
		t.Errorf("coverage %v, header %s", share, c.Header)
	}
	if before, _ := os.ReadFile(spec); strings.Contains(string(before), "calibration") {
		t.Error("model.yaml has changed without --write")
	}
}

// calibrationModel is the path of a model of package calibration's tests.
func calibrationModel(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command(testenv.Python(t), "-B", "calibration/testdata/models.py", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, name+".onnx")
}

func TestCalibrateKeepsLayersInFloatingPointToLoseLess(t *testing.T) {
	t.Parallel()
	dir, images := t.TempDir(), t.TempDir()
	picturesIn(t, images, 60)
	spec := write(t, filepath.Join(dir, "model.yaml"), []byte("name: wide\nrelease: 1\nmodel: "+calibrationModel(t, "wide")+
		"\ninput: {resize: stretch, mean: [127.5], std: [127.5]}\nkeep_fp: [] # none yet\n"))
	o := program(t, "calibrate", spec, "--images", images, "--algorithm", "minmax", "--write", "--max-drop", "10", "--json")
	var got calibrated
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.status != 0 {
		t.Fatalf("exit status %d, %v: %s%s", o.status, err, o.stdout, o.stderr)
	}
	if got.Kept == nil || got.Kept.Of != "agreement" || got.Kept.Before <= 10 || got.Kept.After > 10 || len(got.KeepFP) == 0 {
		t.Errorf("kept %+v, %v", got.Kept, got.KeepFP)
	}
	text, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	wantParts(t, string(text), "keep_fp: "+release.YAMLList(got.KeepFP)+" # none yet\n", "calibration: calibration.cache\n")
	r, err := release.Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if diff := cmp.Diff(got.KeepFP, r.Spec.KeepFP); diff != "" {
		t.Error(diff)
	}

	// Once more: what keep_fp names stays, and is said to be there already.
	again := program(t, "calibrate", spec, "--images", images, "--algorithm", "minmax", "--write", "--max-drop", "10")
	wantParts(t, again.stdout, fmt.Sprintf("with %d layers that keep_fp keeps already", len(got.KeepFP)))
}

func TestCalibrateWritesOverNothingThatItReads(t *testing.T) {
	t.Parallel()
	spec, images := uncalibrated(t, 4)
	dir := filepath.Dir(spec)
	list := write(t, filepath.Join(t.TempDir(), "list.txt"), []byte(filepath.Join(images, "000.png")+"\n"))
	unchanged(t, dir)
	unchanged(t, filepath.Dir(list))
	for _, out := range []string{spec, filepath.Join(dir, "net.onnx"), filepath.Join(dir, "names.txt"), list} {
		for _, args := range [][]string{{"-o", out}, {"-o", filepath.Join(t.TempDir(), "a"), "--report", out}} {
			o := program(t, append([]string{"calibrate", spec, "--images", list}, args...)...)
			wantRefusal(t, o, 2, out+" is to be written and used for something else too")
		}
	}
	cache := filepath.Join(t.TempDir(), "a.cache")
	wantRefusal(t, program(t, "calibrate", spec, "--images", list, "-o", cache, "--report", cache), 2, cache+" is to be written")
	wantRefusal(t, command(t, "cache", "convert", filepath.Join(tiny, "calib.cache"), "--format", "qdq",
		"--model", filepath.Join(dir, "net.onnx"), "-o", filepath.Join(dir, "net.onnx")), 2, "net.onnx is to be written")
}

func TestCalibrateRefusals(t *testing.T) {
	t.Parallel()
	spec, images := uncalibrated(t, 4)
	empty, zero := t.TempDir(), t.TempDir()
	write(t, filepath.Join(zero, "a.png"), nil)
	list := write(t, filepath.Join(t.TempDir(), "list.txt"), []byte("images/000.png\n"))
	out, good := filepath.Join(t.TempDir(), "out", "calib.cache"), filepath.Join(t.TempDir(), "calib.cache")
	packed := filepath.Join(t.TempDir(), "tiny.tar.zst")
	if o := command(t, "release", "pack", filepath.Join(tiny, "model.yaml"), "-o", packed); o.status != 0 {
		t.Fatal(o.stderr)
	}
	text, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	beside := func(name, content string) string {
		return write(t, filepath.Join(filepath.Dir(spec), name), []byte(content))
	}
	beside("broken.onnx", string(model(t, "operator.onnx")))
	broken := beside("broken.yaml", strings.Replace(string(text), "net.onnx", "broken.onnx", 1))
	kept := beside("kept.yaml", string(text)+"keep_fp: [nosuch]\n")
	tinyStd := beside("std.yaml", strings.Replace(string(text), "std: [127.5]", "std: [1e-9]", 1))
	for name, test := range map[string]struct {
		status int
		args   []string
		want   []string
	}{
		"no images":              {1, []string{spec, "--images", empty, "-o", good}, []string{"no images in " + empty}},
		"no such folder":         {1, []string{spec, "--images", empty + "/none", "-o", good}, []string{"no such file"}},
		"an image of zero bytes": {1, []string{spec, "--images", zero, "-o", good}, []string{"1 of 1 images can't be read", zero + "/a.png: ", "remove or replace"}},
		"a list from elsewhere":  {1, []string{spec, "--images", list, "-o", good}, []string{list + ":1: images/000.png", "write absolute paths"}},
		"nowhere to write":       {2, []string{spec, "--images", images}, []string{"name a file with -o", "--write"}},
		"a folder that isn't":    {1, []string{spec, "--images", images, "-o", out}, []string{"there is no folder " + filepath.Dir(out)}},
		"a packed release":       {2, []string{packed, "--images", images, "--write"}, []string{"is packed: name the model.yaml"}},
		"a model that can't run": {1, []string{broken, "--images", images, "-o", good}, []string{"broken.onnx"}},
		"a layer that isn't":     {1, []string{kept, "--images", images, "-o", good}, []string{`keep_fp: `, `no layer and no tensor "nosuch"`}},
		"an index for a list":    {2, []string{spec, "--images", list, "--index", list, "-o", good}, []string{"--index", "want --images to be that"}},
		"absurd std":             {1, []string{tinyStd, "--images", images, "-o", good}, []string{"absurdly large", "are mean and std the model's"}},
		"a percentile above 100": {2, []string{spec, "--images", images, "-o", good, "--percentile", "101"}, []string{"--percentile 101"}},
		"a drop below 0":         {2, []string{spec, "--images", images, "-o", good, "--max-drop=-1"}, []string{"--max-drop -1"}},
		"rows of no index":       {2, []string{spec, "--images", images, "-o", good, "--where", "a=b"}, []string{"--where", "--index"}},
		"TensorRT 11":            {2, []string{spec, "--images", images, "-o", good, "--tensorrt", "11.1"}, []string{"TensorRT 11 removed calibrators"}},
		"no model":               {1, []string{empty, "--images", images, "-o", good}, []string{"holds no release"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := program(t, append([]string{"calibrate"}, test.args...)...)
			if o.status != test.status || o.stdout != "" {
				t.Errorf("exit status %d, standard output %q", o.status, o.stdout)
			}
			wantParts(t, o.stderr, test.want...)
		})
	}
}

func TestCalibrateWarnsOfFewImagesAndNamesUnreadableOnes(t *testing.T) {
	t.Parallel()
	spec, images := uncalibrated(t, 120)
	write(t, filepath.Join(images, "zero.png"), nil)
	out := filepath.Join(t.TempDir(), "a.cache")
	o := program(t, "calibrate", spec, "--images", images, "-o", out, "--algorithm", "minmax")
	if o.status != 0 {
		t.Fatalf("exit status %d: %s", o.status, o.stderr)
	}
	wantParts(t, o.stderr, "warning: 1 of 121 images can't be read, the first: "+filepath.Join(images, "zero.png")+": ")

	spec, images = uncalibrated(t, 4)
	o = program(t, "calibrate", spec, "--images", images, "-o", out)
	if o.status != 0 {
		t.Fatalf("exit status %d: %s", o.status, o.stderr)
	}
	wantParts(t, o.stderr, "warning: 4 images are few: want 50 at least")
	wantParts(t, o.stdout, "on all 4 images, too few to hold any back")
}

func TestAFullDiskLeavesTheCacheAsItWas(t *testing.T) {
	t.Parallel()
	spec, images := uncalibrated(t, 4)
	dir := filepath.Join(t.TempDir(), "disk")
	disk(t, dir)
	out := write(t, filepath.Join(dir, "calib.cache"), []byte("what was there"))
	testenv.Fill(t, dir)
	unchanged(t, dir)
	o := program(t, "calibrate", spec, "--images", images, "-o", out)
	if o.status != 1 {
		t.Errorf("exit status %d", o.status)
	}
	wantParts(t, o.stderr, out, "no space left on device")
}

func TestCtrlCLeavesNoHalfCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Some hundred frames of a large model: nobody is through when the first are read.
	cmd := exec.CommandContext(t.Context(), testenv.Sightd(t), "calibrate", testenv.Demo("lite0"),
		"--images", testenv.Demo("video.mp4"), "-o", filepath.Join(dir, "a.cache"))
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	children := fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid)
	for working := false; !working && t.Context().Err() == nil; time.Sleep(time.Millisecond) {
		lists, err := filepath.Glob(children)
		if err != nil || len(lists) == 0 {
			t.Fatalf("it ended by itself: %v", err)
		}
		for _, list := range lists { // a worker decodes
			b, _ := os.ReadFile(list)
			working = working || len(b) > 0
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 1 || errs.String() != "sightd: interrupted\n" {
		t.Errorf("exit status %d: %s", status, errs.String())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
