package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/trt/double"
)

// doubled runs the program on a machine that the double of TensorRT's library plays.
type doubled struct {
	t      *testing.T
	script string
	cache  string // the user's cache folder
}

// playing is such a machine, for the small release; further lines are the script's.
func playing(t *testing.T, lines ...string) *doubled {
	t.Helper()
	return &doubled{t, double.Script(t, append([]string{"classes 3"}, lines...)...), t.TempDir()}
}

// now changes the machine.
func (d *doubled) now(lines ...string) {
	d.t.Helper()
	write(d.t, d.script, []byte(strings.Join(append([]string{"classes 3"}, lines...), "\n")+"\n"))
}

func (d *doubled) command(args ...string) *exec.Cmd {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), testenv.Sightd(d.t), args...)
	cmd.Env = append(os.Environ(), "SIGHTD_TENSORRT="+double.Library(d.t), double.Environment+"="+d.script, "XDG_CACHE_HOME="+d.cache)
	return cmd
}

func (d *doubled) sightd(args ...string) outcome {
	d.t.Helper()
	var out, errs bytes.Buffer
	cmd := d.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// build builds the small release's engine and returns build --json.
func (d *doubled) build(args ...string) builtJSON {
	d.t.Helper()
	o := d.sightd(append([]string{"build", tiny, "--backend", "tensorrt", "--json"}, args...)...)
	var b builtJSON
	if err := json.Unmarshal([]byte(o.stdout), &b); err != nil || o.status != 0 {
		d.t.Fatalf("build: exit status %d, %v: %s%s", o.status, err, o.stdout, o.stderr)
	}
	return b
}

// left holds the folder of engines to have nothing of unfinished builds.
func (d *doubled) left() {
	d.t.Helper()
	if left, err := filepath.Glob(filepath.Join(d.cache, "sightd/engines/.build-*")); err != nil || len(left) > 0 {
		d.t.Errorf("left behind: %q, %v", left, err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestBuildMakesAnEngineThatIsLoadedNextTime(t *testing.T) {
	t.Parallel()
	d := playing(t, "device Orin 8.7 integrated", `log 2 "Missing scale and zero-point for tensor pool, expect fall back to non-int8 implementation"`)
	first := d.build()
	if first.Stored || first.Backend != "tensorrt" || first.Precision != "int8" || first.Quantization != "implicit" || first.Device != "gpu" {
		t.Errorf("built %+v", first)
	}
	r := first.Report
	if r == nil || len(r.Layers) == 0 || len(r.Unscaled) != 1 || r.Unscaled[0] != "pool" || r.Timing == nil || r.Timing.Given != 0 || r.Timing.Size == 0 {
		t.Errorf("its report: %+v", r)
	}
	if second := d.build(); !second.Stored || second.Key != first.Key {
		t.Errorf("the second time: %+v", second)
	}
	wantParts(t, content(t, strings.TrimSuffix(first.Engine, ".engine")+".json"), `"backend": "tensorrt"`, "TensorRT 10.3.0, CUDA 12.6.0, Orin (8.7)",
		`"device": "gpu"`, `"calibrator": "EntropyCalibration2"`, `"workspace": 1073741824`)
	wantParts(t, d.sightd("build", tiny).stdout, first.Key, "stored already", "int8 on tensorrt, gpu, implicit quantisation", "layers: ",
		"without a scale, so not INT8: 1\n  pool")
	if o := d.sightd("build", tiny); strings.Contains(o.stdout, "timing cache") {
		t.Errorf("of a stored engine it says what the timing cache did once:\n%s", o.stdout)
	}
	wantParts(t, d.sightd("build", tiny, "--workspace", "2MiB").stdout, "timing cache: ")
}

func TestEveryCommandRunsOnTensorRT(t *testing.T) {
	t.Parallel()
	d := playing(t)
	o := d.sightd("classify", tiny, testenv.Demo("photos", "camera.png"), "--json")
	var c classified
	if err := json.Unmarshal([]byte(o.stdout), &c); err != nil || o.status != 0 || len(c.Top) != 3 {
		t.Fatalf("classify: exit status %d: %s%s", o.status, o.stdout, o.stderr)
	}
	index := write(t, filepath.Join(t.TempDir(), "index.tsv"), []byte("file\tclass\ncamera.png\t0\n"))
	o = d.sightd("eval", tiny, "--images", testenv.Demo("photos"), "--index", index, "--json")
	var e evaluation
	if err := json.Unmarshal([]byte(o.stdout), &e); err != nil || o.status != 0 || e.Backend != "tensorrt" || e.Images != 1 || e.Agreement != 1 {
		t.Errorf("eval: exit status %d: %s%s", o.status, o.stdout, o.stderr)
	}
	wantParts(t, d.sightd("version").stdout, "tensorrt  10.3.0 on Double GPU")
	o = d.sightd("bench", tiny, "--round", "100ms", "--rounds", "1", "--frames", "4", "--json")
	if o.status != 0 {
		t.Errorf("bench: exit status %d: %s", o.status, o.stderr)
	}
	wantParts(t, o.stdout, `"backend":"tensorrt"`)
}

func TestTensorRTElevenIsToldOfINT8ByTheGraph(t *testing.T) {
	t.Parallel()
	d := playing(t, "version 11.2.0")
	if b := d.build(); b.Quantization != "explicit" {
		t.Errorf("built %+v", b)
	}
	wantRefusal(t, d.sightd("build", tiny, "--quantization", "implicit"), 1, "TensorRT 11.2.0 has no calibrators", "take auto or explicit")
}

// Measured on a GPU with 8.6.1: MobileNet v2 with its first layers in floating point
// answered nothing right by a graph with Q/DQ nodes, and all by a calibration table.
func TestTensorRTEightIsNotTrustedWithLayersThatAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	spec := filepath.Join(dir, "model.yaml")
	write(t, spec, []byte(content(t, spec)+"keep_fp: [conv]\n"))
	d := playing(t, "version 8.6.1")
	wantRefusal(t, d.sightd("build", dir, "--backend", "tensorrt", "--quantization", "explicit"), 1,
		"keep_fp with quantization explicit", "TensorRT 8.6.1", "take quantization implicit")
	for _, args := range [][]string{{"8.6.1", "implicit"}, {"10.6.0", "explicit"}} {
		d.now("version " + args[0])
		if o := d.sightd("build", dir, "--backend", "tensorrt", "--quantization", args[1]); o.status != 0 {
			t.Errorf("TensorRT %s, %s: %s", args[0], args[1], o.stderr)
		}
	}
}

func TestBothWaysOfINT8AreEnginesOfTheirOwn(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"8.6.1", "10.6.0"} {
		d := playing(t, "version "+version)
		implicit, explicit := d.build(), d.build("--quantization", "explicit")
		if implicit.Quantization != "implicit" || explicit.Quantization != "explicit" || implicit.Key == explicit.Key {
			t.Errorf("TensorRT %s: %+v and %+v", version, implicit, explicit)
		}
	}
}

func TestEngineForDLA(t *testing.T) {
	t.Parallel()
	d := playing(t, "cores 2")
	b := d.build("--device", "dla")
	if b.Device != "dla" || len(b.Cores) != 2 || b.Report.DLA == nil || len(b.Report.DLA.Pieces) == 0 {
		t.Errorf("built %+v, its report %+v", b, b.Report)
	}
	if one := d.build("--device", "dla", "--cores", "1"); one.Key != b.Key || !one.Stored {
		t.Errorf("for one core another engine is built: %+v", one)
	}
	o := d.sightd("build", tiny, "--device", "dla", "--cores", "3")
	if o.status != 1 {
		t.Errorf("exit status %d", o.status)
	}
	wantParts(t, o.stderr, "placement.cores: 3", "2 DLA cores")
	d.now()
	if none := d.build("--device", "dla"); none.Device != "gpu" || !strings.Contains(none.Note, "the GPU instead of DLA") {
		t.Errorf("without DLA: %+v", none)
	}
}

func TestStoredEngineThatIsUnfitIsBuiltAgain(t *testing.T) {
	t.Parallel()
	d := playing(t)
	first := d.build()
	whole := content(t, first.Engine)
	for name, damaged := range map[string]string{"cut": whole[:len(whole)/2], "empty": "", "flipped": string(whole[0]^1) + whole[1:]} {
		write(t, first.Engine, []byte(damaged))
		if b := d.build(); b.Stored {
			t.Errorf("%s: it counts as stored", name)
		}
	}
	d.now("version 10.3.1")
	if b := d.build(); b.Stored || b.Key == first.Key {
		t.Errorf("for another TensorRT: %+v", b)
	}
}

func TestTimingCacheHelpsAndMayBeDamaged(t *testing.T) {
	t.Parallel()
	d := playing(t)
	first, second := d.build(), d.build("--workspace", "2MiB")
	if second.Report.Timing.Given != first.Report.Timing.Size || second.Report.Timing.Refused {
		t.Errorf("the second build had %+v, the first left %+v", second.Report.Timing, first.Report.Timing)
	}
	cache := write(t, filepath.Join(d.cache, "sightd", "timing.cache"), []byte("rubbish"))
	if third := d.build("--workspace", "3MiB"); !third.Report.Timing.Refused || content(t, cache) == "rubbish" {
		t.Errorf("with a damaged one: %+v; now it is %q", third.Report.Timing, content(t, cache))
	}
	write(t, cache, []byte("as it was"))
	d.now(`fail build 11 "no"`)
	if o := d.sightd("build", tiny, "--workspace", "4MiB"); o.status != 1 || content(t, cache) != "as it was" {
		t.Errorf("a build that failed: exit status %d, the cache is %q", o.status, content(t, cache))
	}
}

func TestBuildThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	for line, part := range map[string]string{
		`fail build 5 "no memory left on the device"`: "no memory left on the device",
		`fail build 6 "a node lacks a plugin"`:        "a node lacks a plugin",
		"calibration asks":                            "calibration cache wasn't taken",
		"crash build segv":                            "it crashed (SIGSEGV)",
		"crash build kill":                            "killed (SIGKILL)",
	} {
		d := playing(t, line)
		o := d.sightd("build", tiny, "--backend", "tensorrt")
		if o.status != 1 || o.stdout != "" {
			t.Errorf("%s: exit status %d: %s", line, o.status, o.stdout)
		}
		wantParts(t, o.stderr, "sightd: build engine: tensorrt: build: ", part)
		d.left()
		d.now()
		d.build() // nothing keeps somebody who asks from trying again
	}
}

func TestBuildIsCancelledBySIGINT(t *testing.T) {
	t.Parallel()
	d := playing(t, "delay build 60s phase trying")
	cmd := d.command("build", tiny)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	for b := make([]byte, 4096); !strings.Contains(said.String(), ": trying"); {
		n, err := stderr.Read(b)
		said.Write(b[:n])
		if err != nil {
			t.Fatalf("it ended before: %s", said.String())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_, _ = said.ReadFrom(stderr)
	_ = cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 1 {
		t.Errorf("exit status %d", status)
	}
	wantParts(t, said.String(), "sightd: interrupted")
	d.left()
}

func TestTensorRTThatDoesNotWork(t *testing.T) {
	t.Parallel()
	image := testenv.Demo("photos", "camera.png")
	for line, part := range map[string]string{
		`fail open 4 "no driver"`:                                   "no driver",
		`fail open 2 "libnvinfer.so.10 needs libnvdla_compiler.so"`: "libnvdla_compiler.so",
		"crash open":      "it gave up (SIGABRT)",
		"crash open segv": "it crashed (SIGSEGV)",
	} {
		d := playing(t, line)
		wantRefusal(t, d.sightd("classify", tiny, image, "--backend", "tensorrt"), 1, "tensorrt: open: ", part)
		o := d.sightd("classify", tiny, image, "--quantization", "explicit")
		if o.status != 0 || !strings.Contains(o.stdout, "camera.png: ") {
			t.Errorf("%s: with auto: exit status %d: %s", line, o.status, o.stderr)
		}
		wantParts(t, o.stderr, "note: tensorrt isn't used: ", part, "note: --quantization explicit: without effect on the CPU")
		wantParts(t, d.sightd("version").stdout, "not here: ", part)
		o = d.sightd("doctor", "--json", "--backend", "tensorrt")
		if o.status != 1 {
			t.Errorf("%s: the doctor's exit status is %d", line, o.status)
		}
		wantParts(t, o.stdout, part, `"missing"`)
		if o := d.sightd("doctor"); o.status != 0 || !strings.Contains(o.stdout, checkWarning) {
			t.Errorf("%s: with auto the doctor's exit status is %d:\n%s", line, o.status, o.stdout)
		}
	}
}

func TestDoctorTellsWhatIsThereWithoutADriver(t *testing.T) {
	t.Parallel()
	d := playing(t, `fail open 4 "NVIDIA's driver isn't there: install it"`)
	o := d.sightd("doctor")
	for _, want := range []string{
		`ok +tensorrt +10\.3\.0 by \S+\.so, which was made with 10\.3\.0`,
		`not-applicable +onnx parser +\S+\.so opens none`,
		`warning +gpu +NVIDIA's driver isn't there: install it`,
	} {
		if !regexp.MustCompile(want).MatchString(o.stdout) {
			t.Errorf("wanted %s in\n%s", want, o.stdout)
		}
	}
}

func TestBuildForcesINT8WhereItCan(t *testing.T) {
	t.Parallel()
	d := playing(t, "version 11.2.0")
	wantParts(t, d.sightd("build", tiny, "--force-int8").stderr, "note: --force-int8: without effect where the graph says itself")
	d = playing(t)
	if o := d.sightd("build", tiny, "--force-int8"); o.status != 0 || strings.Contains(o.stderr, "note:") {
		t.Errorf("exit status %d: %s", o.status, o.stderr)
	}
}

// A note says that TensorRT works, so that not every start needs a child to try it.
func TestTensorRTIsOpenedNoMoreAfterItKilledTwo(t *testing.T) {
	t.Parallel()
	d := playing(t)
	d.build()
	note := filepath.Join(d.cache, "sightd/engines/tensorrt.probe.json")
	wantParts(t, content(t, note), `"works": true`, `"tries": 0`)
	for range 2 {
		// As if a child's try had gone well and this process's not.
		d.now("crash open")
		if o := d.sightd("build", tiny); o.status == 0 {
			t.Fatal("it didn't crash")
		}
		wantParts(t, content(t, note), `"works": false`)
		write(t, note, []byte(strings.Replace(content(t, note), `"works": false`, `"works": true`, 1)))
	}
	d.now()
	wantRefusal(t, d.sightd("build", tiny, "--backend", "tensorrt"), 1, "died twice", note)
	if err := os.Remove(note); err != nil {
		t.Fatal(err)
	}
	d.build()
}

func TestCalibrationOnTheDevice(t *testing.T) {
	t.Parallel()
	images := testenv.Demo("photos")
	for algorithm, header := range map[string]string{"auto": "TRT-100300-EntropyCalibration2", "minmax": "TRT-100300-MinMaxCalibration"} {
		out := filepath.Join(t.TempDir(), "calib.cache")
		o := playing(t).sightd("calibrate", tiny, "--images", images, "-o", out, "--backend", "tensorrt", "--algorithm", algorithm, "--json")
		if o.status != 0 {
			t.Fatalf("exit status %d: %s", o.status, o.stderr)
		}
		wantParts(t, o.stderr, "5 images are few", "calibrating tiny 1 with TensorRT: ")
		wantParts(t, o.stdout, header)
		if head, _, _ := strings.Cut(content(t, out), "\n"); head != header {
			t.Errorf("%s: the cache begins with %q, wanted %q", algorithm, head, header)
		}
	}
	out := filepath.Join(t.TempDir(), "calib.cache")
	d := playing(t, "version 11.2.0")
	wantRefusal(t, d.sightd("calibrate", tiny, "--images", images, "-o", out, "--backend", "tensorrt"), 1, "TensorRT 11.2.0 has no calibrators", "--backend ort")
	wantRefusal(t, d.sightd("calibrate", tiny, "--images", images, "-o", out, "--backend", "tensorrt", "--max-drop", "1"), 2, "--max-drop")
}

// The double's table is of all bytes that it was given, in their order.
func TestCalibrationOnTheDeviceSeesEachImageOnceAndInOrder(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var pixels []byte
	for i := range 300 {
		img := image.NewNRGBA(image.Rect(0, 0, 8, 8))
		for p := range 8 * 8 {
			v := i*7919 + p*p*31
			c := color.NRGBA{uint8(v), uint8(v >> 3), uint8(v >> 6), 255}
			img.SetNRGBA(p%8, p/8, c)
			pixels = append(pixels, c.R, c.G, c.B)
		}
		write(t, filepath.Join(folder, fmt.Sprintf("%03d.png", i)), asPNG(t, img))
	}
	write(t, filepath.Join(folder, "150-broken.png"), nil)
	out := filepath.Join(t.TempDir(), "calib.cache")
	d := playing(t)
	o := d.sightd("calibrate", tiny, "--images", folder, "-o", out, "--backend", "tensorrt", "--json")
	var r calibrated
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || o.status != 0 {
		t.Fatalf("exit status %d: %s", o.status, o.stderr)
	}
	if r.Images != 300 || len(r.Unreadable) != 1 {
		t.Errorf("%d images, unreadable %v, wanted 300 and the broken one", r.Images, r.Unreadable)
	}
	if got, want := content(t, out), fmt.Sprintf("TRT-100300-EntropyCalibration2\ninput: %08x\n", math.Float32bits(double.Scale(pixels))); got != want {
		t.Errorf("the cache is %q, wanted %q", got, want)
	}
}

func TestCalibrationOnTheDeviceThatFails(t *testing.T) {
	t.Parallel()
	images, none := testenv.Demo("photos"), t.TempDir()
	write(t, filepath.Join(none, "a.png"), nil)
	for _, c := range []struct{ script, images, want string }{
		{"crash calibrate segv", images, "SIGSEGV"},
		{`fail calibrate 5 "no memory left"`, images, "no memory left"},
		{"version 10.3.0", none, "none of the images can be read"},
	} {
		out := filepath.Join(t.TempDir(), "calib.cache")
		o := playing(t, c.script).sightd("calibrate", tiny, "--images", c.images, "-o", out, "--backend", "tensorrt")
		if _, err := os.Stat(out); err == nil || o.status != 1 {
			t.Errorf("%s: exit status %d, a cache was written: %v", c.want, o.status, err == nil)
		}
		wantParts(t, o.stderr, c.want)
	}
}

func TestBuildWritesTheEngineWhereItIsWanted(t *testing.T) {
	t.Parallel()
	d := playing(t)
	dir := t.TempDir()
	out, engines := filepath.Join(dir, "tiny.engine"), filepath.Join(dir, "engines")
	b := d.build("-o", out, "--engines", engines)
	if filepath.Dir(b.Engine) != engines || content(t, out) != content(t, b.Engine) {
		t.Errorf("it is stored as %s, and the copy may be another", b.Engine)
	}
	wantParts(t, content(t, filepath.Join(dir, "tiny.json")), "TensorRT 10.3.0")
	wantRefusal(t, d.sightd("build", tiny, "-o", filepath.Join(dir, "x.json")), 2, "want another")
	wantRefusal(t, d.sightd("build", tiny, "-o", filepath.Join(dir, "no/x.engine")), 1, "there is no folder")
	wantRefusal(t, d.sightd("build", tiny, "-o", dir), 1, "write "+dir+": it is a folder")
}
