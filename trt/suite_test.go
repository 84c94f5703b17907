package trt_test

import (
	"context"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"

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
	{"images that lie apart run together", suiteGather},
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
	command.Stdout, command.Stderr = os.Stdout, os.Stderr // as it comes: it may take minutes
	if err := command.Run(); err != nil {
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

// plain is the job of the graph in FP32, in the way that this TensorRT has it, and as
// quickly as it can.
func plain(info trt.Info) trt.Job {
	return trt.Job{Graph: graph(1), Batch: 1, Optimisation: 0, StronglyTyped: info.TensorRT.Major() >= 11}
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
