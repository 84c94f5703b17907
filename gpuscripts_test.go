package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

// gpuKit is a kit for GPU machines, as far as its scripts go before they start a
// program, with a TensorRT 8 and a driver of nothing.
type gpuKit struct {
	t    *testing.T
	root string
}

func newGPUKit(t *testing.T) gpuKit {
	t.Helper()
	for _, name := range []string{"python3", "cc"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	k := gpuKit{t, t.TempDir()}
	for _, dir := range []string{"lib/sightd", "tensorrt", "driver", "results/8"} {
		if err := os.MkdirAll(filepath.Join(k.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"scripts", "gpu"} {
		if err := os.Symlink(filepath.Join(testenv.Root(), name), filepath.Join(k.root, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(k.root, "lib/sightd/libsightd-trt8.so"), nil)
	write(t, filepath.Join(k.root, "tensorrt/libnvinfer.so.8"), nil)
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-x", "c", "/dev/null", "-o", filepath.Join(k.root, "driver/libcuda.so.1")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return k
}

func (k gpuKit) script(driver, libraries string, args ...string) outcome {
	k.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(k.t.Context(), filepath.Join(k.root, "scripts", args[0]), args[1:]...)
	cmd.Env = append(os.Environ(), "RESULTS="+filepath.Join(k.root, "results"), "TENSORRT_LIBS="+libraries, "LD_LIBRARY_PATH="+driver)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func TestMeasuringOnAGPUPrintsWhatItMeasuredAlone(t *testing.T) {
	t.Parallel()
	k := newGPUKit(t)
	write(t, filepath.Join(k.root, "results/8/2-accuracy.md"), []byte("an earlier run's\n"))
	o := k.script(filepath.Join(k.root, "driver"), filepath.Join(k.root, "tensorrt"), "gpu-bench.sh", "--only", "foo")
	if o.status != 2 || o.stdout != "" {
		t.Errorf("exit status %d: %s", o.status, o.stdout)
	}
	wantParts(t, o.stderr, "--only: no foo: want machine, accuracy")
}

func TestMeasuringOnAGPUExplainsItself(t *testing.T) {
	t.Parallel()
	k := newGPUKit(t)
	for script, parts := range map[string][]string{"gpu-bench.sh": {"TENSORRT_LIBS", "--budget SECONDS"}, "gpu-test.sh": {"TENSORRT_LIBS", "TIMEOUT"}} {
		o := k.script("", "", script, "--help")
		if o.status != 0 || o.stderr != "" {
			t.Errorf("%s --help: exit status %d: %s", script, o.status, o.stderr)
		}
		wantParts(t, o.stdout, parts...)
	}
}

func TestNothingIsTriedOnAGPUWithoutADriver(t *testing.T) {
	t.Parallel()
	if out, _ := exec.Command("ldconfig", "-p").Output(); strings.Contains(string(out), "libcuda.so.1") {
		t.Skip("this machine has NVIDIA's driver")
	}
	k := newGPUKit(t)
	for _, script := range []string{"gpu-bench.sh", "gpu-test.sh"} {
		o := k.script("", filepath.Join(k.root, "tensorrt"), script)
		if o.status != 1 || o.stdout != "" {
			t.Errorf("%s: exit status %d: %s", script, o.status, o.stdout)
		}
		wantParts(t, o.stderr, "No libcuda.so.1: without NVIDIA's driver nothing here can run")
		if left, err := filepath.Glob(filepath.Join(k.root, "results", "*.*")); err != nil || len(left) > 0 {
			t.Errorf("%s wrote %q, %v", script, left, err)
		}
	}
}
