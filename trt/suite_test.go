package trt_test

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/trt"
	"github.com/sightd/sightd/trt/double"
)

// What every library passes: the double here, always, and the real one, in a process
// of its own, where SIGHTD_TRT_TEST_LIBRARY names it. All is made at run time, so that
// the compiled test program alone is enough on a machine with a GPU.
var suite = []struct {
	name string
	test func(t *testing.T, info trt.Info)
}{
	{"open says what it found, and again", suiteOpen},
	{"FP32", suiteFP32},
	{"FP16", suiteFP16},
	{"INT8 by a calibration cache", suiteImplicit},
	{"INT8 by the graph", suiteExplicit},
	{"batch of 4", suiteBatch},
	{"a build tells how far it is", suiteProgress},
	{"two runs under way at once", suiteLanes},
	{"pixels that change, where they lie", suiteChanging},
	{"closing in any order", suiteClosing},
	{"runs allocate no Go memory", suiteAllocations},
	{"a cache with a wrong header is refused", suiteWrongHeader},
	{"images make a cache", suiteImages},
	{"an operator that is lacking is named", suiteOperator},
	{"no model at all", suiteNoModel},
	{"a timing cache, kept and damaged", suiteTimingCache},
	{"a build is cancelled", suiteCancel},
	{"no leak over loads that succeed and fail", suiteLeaks},
	{"damaged plans", suiteDamaged},
}

func TestDoublePassesTheSuite(t *testing.T) {
	if real() {
		t.Skip("this process tests the real library")
	}
	t.Setenv(double.Environment, "")
	runSuite(t)
}

func TestRealLibraryPassesTheSuite(t *testing.T) {
	t.Parallel()
	path := os.Getenv(libraryVariable)
	if path == "" {
		t.Skipf("no real library: %s names none; on a machine with TensorRT and a GPU, set it to a libsightd-trt*.so", libraryVariable)
	}
	command := exec.Command(os.Args[0], "-test.run=^TestSuiteProcess$", "-test.v")
	command.Env = append(os.Environ(), suiteVariable+"="+path)
	out, err := command.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

func TestSuiteProcess(t *testing.T) {
	if !real() {
		t.Skipf("%s starts this where it needs it", "TestRealLibraryPassesTheSuite")
	}
	runSuite(t)
}

func runSuite(t *testing.T) {
	info := open(t)
	t.Logf("TensorRT %v, compiled with %v, CUDA %v, %+v", info.TensorRT, info.Compiled, info.CUDA, info.Device)
	for _, s := range suite {
		t.Run(s.name, func(t *testing.T) { s.test(t, info) })
	}
}

// plain is the job of the graph in FP32, in the way that this TensorRT has it.
func plain(info trt.Info) trt.Job {
	return trt.Job{Graph: graph(1), Batch: 1, Optimisation: -1, StronglyTyped: info.TensorRT.Major() >= 11}
}

func build(t testing.TB, job trt.Job, script ...string) *trt.Built {
	t.Helper()
	made, err := tryBuild(t, job, script...)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func tryBuild(t testing.TB, job trt.Job, script ...string) (*trt.Built, error) {
	t.Helper()
	return trt.Build(context.Background(), t.TempDir(), job, trt.BuildOptions{Command: child(t, "build", script...)})
}

func load(t testing.TB, made *trt.Built, o trt.LoadOptions) *trt.Engine {
	t.Helper()
	e, err := trt.Load(planOf(t, made), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func planOf(t testing.TB, made *trt.Built) []byte {
	t.Helper()
	plan, err := os.ReadFile(made.Plan)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func bind(t testing.TB, e *trt.Engine, pixels []byte, n int) *trt.Binding {
	t.Helper()
	b, err := e.Bind(pixels, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// wantScores fails unless got are the formula's scores for the pictures.
func wantScores(t testing.TB, got []float32, pixels []byte, n int, tolerance float64) {
	t.Helper()
	for i := range n {
		want := double.Scores(pixels[i*side*side*3:(i+1)*side*side*3], classes, gain)
		for c := range classes {
			if d := math.Abs(float64(got[i*classes+c] - want[c])); !(d <= tolerance) {
				t.Fatalf("image %d: scores %v, want %v within %g", i, got[i*classes:(i+1)*classes], want, tolerance)
			}
		}
	}
}

// wantStatus fails unless err is of a kind and has all the texts.
func wantStatus(t testing.TB, err error, status trt.Status, texts ...string) {
	t.Helper()
	if trt.StatusOf(err) != status {
		t.Fatalf("error %v (%v), want %v", err, trt.StatusOf(err), status)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q, want %q in it", err, text)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error of several lines: %q", err)
	}
}

func runs(t testing.TB, made *trt.Built, n int, tolerance float64) {
	t.Helper()
	e := load(t, made, trt.LoadOptions{})
	pixels := picture(n, 1)
	b := bind(t, e, pixels, n)
	for range 3 {
		if err := e.Run(b); err != nil {
			t.Fatal(err)
		}
		wantScores(t, b.Scores(), pixels, n, tolerance)
	}
	t.Logf("registered %v, graphs %v, %d bytes of the device's memory", b.Registered(), b.Graphs(), e.DeviceMemory())
	for _, l := range made.Layers {
		t.Logf("layer %+v", l)
	}
	if len(made.Layers) == 0 {
		t.Error("no layers")
	}
}

func suiteOpen(t *testing.T, info trt.Info) {
	again, err := trt.Open("")
	if err != nil || again != info {
		t.Errorf("open again: %+v, %v", again, err)
	}
	if info.TensorRT.Major() < 8 || info.TensorRT.Major() != info.Compiled.Major() || info.Device.Name == "" || info.Device.Memory == 0 {
		t.Errorf("info %+v", info)
	}
	if device, err := trt.DeviceNow(); err != nil || device.Free == 0 || device.Free > device.Memory {
		t.Errorf("device now %+v, %v", device, err)
	}
	probed, err := trt.Probe(context.Background(), child(t, "probe"), "")
	probed.Device.Free = info.Device.Free
	if err != nil || probed != info {
		t.Errorf("probed %+v, %v; opened %+v", probed, err, info)
	}
}

func suiteFP32(t *testing.T, info trt.Info) {
	made := build(t, plain(info))
	runs(t, made, 1, 2e-3) // TF32 has 10 bits
	e := load(t, made, trt.LoadOptions{})
	if e.Batch() != 1 || e.Height() != side || e.Width() != side || e.Classes() != classes || e.Lanes() != 2 {
		t.Errorf("the engine takes %d images of %d×%d, gives %d classes, has %d lanes", e.Batch(), e.Width(), e.Height(), e.Classes(), e.Lanes())
	}
	if layers, err := e.Layers(); err != nil || len(layers) != len(made.Layers) {
		t.Errorf("layers %v, %v", layers, err)
	}
	if made.Info.TensorRT != info.TensorRT {
		t.Errorf("the builder had %+v", made.Info)
	}
}

func suiteFP16(t *testing.T, info trt.Info) {
	if info.TensorRT.Major() >= 11 {
		t.Skip("TensorRT 11 has no flags for precisions")
	}
	job := plain(info)
	job.FP16 = true
	runs(t, build(t, job), 1, 1e-2)
}

func suiteImplicit(t *testing.T, info trt.Info) {
	if info.TensorRT.Major() >= 11 {
		t.Skip("TensorRT 11 has no calibration")
	}
	job := plain(info)
	job.INT8, job.FP16, job.ForceINT8 = true, true, true
	job.Cache, job.Calibrator = cacheOf(info.TensorRT), "EntropyCalibration2"
	made := build(t, job)
	runs(t, made, 1, 3e-2)
	int8s := 0
	for _, l := range made.Layers {
		if l.Precision == "int8" && !l.Reformat {
			int8s++
		}
	}
	if int8s == 0 {
		t.Error("no layer is INT8")
	}
	if made.Cache != nil {
		t.Errorf("a cache was written though one was given: %q", made.Cache)
	}
}

func suiteExplicit(t *testing.T, info trt.Info) {
	job := plain(info)
	job.Graph = quantised(t)
	if info.TensorRT.Major() < 10 {
		job.INT8 = true
	} else {
		job.StronglyTyped = true
	}
	runs(t, build(t, job), 1, 3e-2)
}

func suiteBatch(t *testing.T, info trt.Info) {
	job := plain(info)
	job.Graph, job.Batch = graph(0), 4
	made := build(t, job)
	runs(t, made, 4, 2e-3)
	e := load(t, made, trt.LoadOptions{Lanes: 1})
	if e.Batch() != 4 || e.Lanes() != 1 {
		t.Errorf("batch %d, lanes %d", e.Batch(), e.Lanes())
	}
	for _, n := range []int{1, 3} {
		pixels := picture(n, n)
		b := bind(t, e, pixels, n)
		if err := e.Run(b); err != nil {
			t.Fatal(err)
		}
		wantScores(t, b.Scores(), pixels, n, 2e-3)
	}
	_, err := e.Bind(picture(5, 0), 5)
	wantStatus(t, err, trt.BadArgument, "batch of 5: wanted 1 to 4")
	_, err = e.Bind(picture(1, 0)[1:], 1)
	wantStatus(t, err, trt.BadArgument, "191 bytes: wanted 1×8×8×3 = 192")
}

func suiteProgress(t *testing.T, info trt.Info) {
	var seen []trt.Progress
	o := trt.BuildOptions{
		Command:  child(t, "build", "delay build 200ms phase Tactics", "delay build 100ms phase Engine"),
		Progress: func(p trt.Progress) { seen = append(seen, p) },
	}
	if _, err := trt.Build(context.Background(), t.TempDir(), plain(info), o); err != nil {
		t.Fatal(err)
	}
	if len(seen) == 0 {
		t.Fatal("no progress was told of")
	}
	last := seen[0]
	for _, p := range seen {
		if p.Phase == "" || p.Elapsed < last.Elapsed || p.Steps > 0 && p.Step > p.Steps {
			t.Errorf("progress %+v after %+v", p, last)
		}
		last = p
	}
}

func suiteLanes(t *testing.T, info trt.Info) {
	e := load(t, build(t, plain(info)), trt.LoadOptions{Lanes: 2, Graphs: true})
	first, second, third := picture(1, 1), picture(1, 2), picture(1, 3)
	a, b, c := bind(t, e, first, 1), bind(t, e, second, 1), bind(t, e, third, 1)
	for range 20 {
		for _, x := range []*trt.Binding{a, b} {
			if err := e.Start(x); err != nil {
				t.Fatal(err)
			}
		}
		wantStatus(t, e.Start(c), trt.BadArgument, "all lanes are busy")
		wantStatus(t, e.Start(a), trt.BadArgument, "hasn't been waited for")
		for _, x := range []*trt.Binding{b, a} {
			if err := e.Wait(x); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Run(c); err != nil { // on one lane and the other in turn
			t.Fatal(err)
		}
	}
	wantStatus(t, e.Wait(a), trt.BadArgument, "nothing was started")
	wantScores(t, a.Scores(), first, 1, 2e-3)
	wantScores(t, b.Scores(), second, 1, 2e-3)
	wantScores(t, c.Scores(), third, 1, 2e-3)

	other := load(t, build(t, plain(info)), trt.LoadOptions{})
	wantStatus(t, other.Start(a), trt.BadArgument, "another engine")
	wantStatus(t, other.Wait(a), trt.BadArgument, "another engine")
}

func suiteChanging(t *testing.T, info trt.Info) {
	e := load(t, build(t, plain(info)), trt.LoadOptions{})
	// A mapping, as the cameras' rings are.
	size := side * side * 3
	mapping, err := unix.Mmap(-1, 0, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapping)
	a, b := bind(t, e, mapping[:size], 1), bind(t, e, mapping[size:], 1) // both on one page
	defer a.Close()
	defer b.Close()
	for seed := range 4 {
		copy(mapping, picture(2, seed))
		for i, x := range []*trt.Binding{a, b} {
			if err := e.Run(x); err != nil {
				t.Fatal(err)
			}
			wantScores(t, x.Scores(), mapping[i*size:], 1, 2e-3)
		}
	}
}

func suiteClosing(t *testing.T, info trt.Info) {
	made := build(t, plain(info))
	e := load(t, made, trt.LoadOptions{})
	pixels := picture(1, 1)
	a, b, c := bind(t, e, pixels, 1), bind(t, e, pixels, 1), bind(t, e, pixels, 1)
	if err := e.Run(b); err != nil {
		t.Fatal(err)
	}
	a.Close()
	a.Close()
	if err := e.Run(a); !errors.Is(err, trt.ErrClosed) {
		t.Errorf("run of a closed binding: %v", err)
	}
	if err := e.Start(b); err != nil {
		t.Fatal(err)
	}
	b.Close() // which waits
	for range 2 {
		if err := e.Start(c); err != nil { // the lane is free again
			t.Fatal(err)
		}
		if err := e.Wait(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Start(c); err != nil {
		t.Fatal(err)
	}
	e.Close() // while a run is under way
	e.Close()
	c.Close()
	for what, err := range map[string]error{"start": e.Start(c), "wait": e.Wait(c)} {
		if !errors.Is(err, trt.ErrClosed) {
			t.Errorf("%s after closing: %v", what, err)
		}
	}
	if _, err := e.Bind(pixels, 1); !errors.Is(err, trt.ErrClosed) {
		t.Errorf("bind after closing: %v", err)
	}
	if _, err := e.Layers(); !errors.Is(err, trt.ErrClosed) {
		t.Errorf("layers after closing: %v", err)
	}
	wantScores(t, b.Scores(), pixels, 1, 2e-3) // they outlive it
}

func suiteAllocations(t *testing.T, info trt.Info) {
	e := load(t, build(t, plain(info)), trt.LoadOptions{})
	b := bind(t, e, picture(1, 1), 1)
	if n := testing.AllocsPerRun(100, func() {
		if err := e.Run(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

func suiteWrongHeader(t *testing.T, info trt.Info) {
	if info.TensorRT.Major() >= 11 {
		t.Skip("TensorRT 11 has no calibration")
	}
	job := plain(info)
	job.INT8, job.Calibrator = true, "EntropyCalibration2"
	for _, header := range []string{"TRT-7103-EntropyCalibration2", "no header"} {
		_, body, _ := strings.Cut(string(cacheOf(info.TensorRT)), "\n")
		job.Cache = []byte(header + "\n" + body)
		_, err := tryBuild(t, job)
		wantStatus(t, err, trt.BadCache)
		t.Log(err)
	}
}

func suiteImages(t *testing.T, info trt.Info) {
	if info.TensorRT.Major() >= 11 {
		t.Skip("TensorRT 11 has no calibration")
	}
	const n = 16
	file := filepath.Join(t.TempDir(), "images")
	if err := os.WriteFile(file, picture(n, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	job := plain(info)
	job.INT8, job.Calibrator, job.Images = true, "EntropyCalibration2", &trt.Images{File: file, Count: n}
	made, err := tryBuild(t, job)
	if real() && err != nil {
		t.Skipf("a calibration with bytes doesn't work, which is TensorRT's to decide: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(string(cacheOf(info.TensorRT)), "\n")
	if got := string(made.Cache); !strings.HasPrefix(got, header+"\n") || strings.Count(got, "\n") < 2 {
		t.Errorf("the calibration wrote %q, want the header %q and tensors", got, header)
	}
}

func suiteOperator(t *testing.T, info trt.Info) {
	job := plain(info)
	job.Graph = graph(1, node("NoSuchOperator", "the_culprit", "sightd.test", []string{"flat"}, "logits"))
	job.Graph = append(job.Graph, message(nil).bytes(8, message(nil).text(1, "sightd.test").number(2, 1))...)
	_, err := tryBuild(t, job)
	wantStatus(t, err, trt.BadModel, "NoSuchOperator", "the_culprit")
	t.Log(err)
}

func suiteNoModel(t *testing.T, info trt.Info) {
	job := plain(info)
	for _, b := range [][]byte{[]byte("this is no model"), graph(1)[:200], {0}} {
		job.Graph = b
		_, err := tryBuild(t, job)
		wantStatus(t, err, trt.BadModel)
	}
}

func suiteTimingCache(t *testing.T, info trt.Info) {
	job := plain(info)
	job.TimingCache = filepath.Join(t.TempDir(), "timing.cache")
	first := build(t, job)
	if first.Timing.Given != 0 || first.Timing.Refused || first.Timing.Size == 0 {
		t.Errorf("first build: %+v", first.Timing)
	}
	if second := build(t, job); second.Timing.Given != first.Timing.Size || second.Timing.Refused {
		t.Errorf("second build: %+v after %+v", second.Timing, first.Timing)
	}
	if err := os.WriteFile(job.TimingCache, []byte("this is no timing cache, and never was one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if third := build(t, job); !third.Timing.Refused || third.Timing.Size == 0 {
		t.Errorf("with a damaged one: %+v", third.Timing)
	}
	if fourth := build(t, job); fourth.Timing.Refused {
		t.Errorf("after that: %+v", fourth.Timing)
	}
}

func suiteCancel(t *testing.T, info trt.Info) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := trt.BuildOptions{
		Command:  child(t, "build", "delay build 1h"),
		Progress: func(trt.Progress) { cancel() },
		Log:      func(int, string) { cancel() },
	}
	_, err := trt.Build(ctx, t.TempDir(), plain(info), o)
	if real() && err == nil {
		t.Skip("the build was done before it could be cancelled")
	}
	wantStatus(t, err, trt.Cancelled, "cancelled")
}

// memory is what this process has of the host's memory, and what the device has left.
func memory(t testing.TB) (host, free int64) {
	t.Helper()
	debug.FreeOSMemory()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	device, err := trt.DeviceNow()
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize()), int64(device.Free)
}

func suiteLeaks(t *testing.T, info trt.Info) {
	plan := planOf(t, build(t, plain(info)))
	pixels := picture(1, 1)
	once := func() {
		e, err := trt.Load(plan, trt.LoadOptions{Graphs: true})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		b, err := e.Bind(pixels, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Run(b); err != nil {
			t.Fatal(err)
		}
	}
	fail := func() {
		if e, err := trt.Load(plan[:len(plan)/2], trt.LoadOptions{}); err == nil {
			e.Close()
			t.Fatal("half a plan was loaded")
		}
	}
	for range 20 {
		once()
	}
	fail()
	trt.TakeLog(func(int, string) {})
	host, free := memory(t)
	for range 200 {
		once()
	}
	for range 20 {
		fail()
	}
	trt.TakeLog(func(int, string) {})
	hostNow, freeNow := memory(t)
	t.Logf("over 200 loads and 20 that failed: %+d KiB of the host's memory, %+d KiB of the device's", (hostNow-host)>>10, (free-freeNow)>>10)
	if hostNow-host > 32<<20 {
		t.Errorf("the host's memory went from %d to %d bytes", host, hostNow)
	}
	if free-freeNow > 32<<20 {
		t.Errorf("the device's free memory went from %d to %d bytes", free, freeNow)
	}
}

// TensorRT protects itself against no flipped bit: who keeps plans has to, by a hash.
// A plan that is cut short is another matter.
func suiteDamaged(t *testing.T, info trt.Info) {
	plan := planOf(t, build(t, plain(info)))
	refused := func(what string, b []byte) {
		t.Helper()
		e, err := trt.Load(b, trt.LoadOptions{})
		if err == nil {
			e.Close()
			t.Errorf("%s: was loaded", what)
			return
		}
		if s := trt.StatusOf(err); s != trt.BadPlan && !(len(b) == 0 && s == trt.BadArgument) {
			t.Errorf("%s: error %v (%v)", what, err, s)
		}
	}
	for i := range 50 {
		at := i * len(plan) / 50
		refused("cut at "+strconv.Itoa(at), plan[:at])
		if !real() {
			damaged := append([]byte(nil), plan...)
			damaged[at] ^= 1 << (i % 8)
			refused("flipped at "+strconv.Itoa(at), damaged)
		}
	}
}
