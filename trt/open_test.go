package trt_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/trt"
	"github.com/sightd/sightd/trt/double"
)

// openIn runs the test program, copied to prefix/bin, to open a library there, and
// returns the one line that it says: path, version, status, error.
func openIn(t *testing.T, prefix, library string, environment ...string) string {
	t.Helper()
	program := filepath.Join(prefix, "bin", "sightd")
	if _, err := os.Stat(program); err != nil { // a program that may run still can't be written
		program = testenv.Install(t, prefix)
	}
	command := exec.Command(program)
	command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "SIGHTD_TENSORRT=", "LD_LIBRARY_PATH="+filepath.Join(prefix, "tensorrt"),
		double.Environment+"=", childVariable+"=open", "SIGHTD_TRT_TEST_OPEN="+library)
	command.Env = append(command.Env, environment...)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// install puts the double where an installation has the library for a version.
func install(t *testing.T, prefix string, major int, defines ...string) (path string) {
	t.Helper()
	path = filepath.Join(prefix, "lib", "sightd", fmt.Sprintf("libsightd-trt%d.so", major))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(double.Library(t, defines...), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// tensorRT puts a library of nothing where the loader finds it as a version of
// TensorRT, linked with others.
func tensorRT(t *testing.T, prefix string, major int, needs ...string) {
	t.Helper()
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skipf("no C compiler: %v", err)
	}
	dir := filepath.Join(prefix, "tensorrt")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// As TensorRT writes its version: until 8 major × 1000.
	source := filepath.Join(t.TempDir(), "nvinfer.c")
	version := cmp.Or(map[int]int{8: 8601}[major], major*10000)
	if err := os.WriteFile(source, fmt.Appendf(nil, "int getInferLibVersion(void) { return %d; }\n", version), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-shared", "-fPIC", "-Wl,--no-as-needed", source}
	for _, name := range needs {
		stub := filepath.Join(t.TempDir(), name)
		if out, err := exec.Command(compiler, "-shared", "-fPIC", "-Wl,-soname,"+name, "-x", "c", "/dev/null", "-o", stub).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		args = append(args, stub)
	}
	args = append(args, "-o", filepath.Join(dir, fmt.Sprintf("libnvinfer.so.%d", major)))
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// withoutTensorRT skips where the machine itself has one, which the loader would find.
func withoutTensorRT(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/*/libnvinfer.so.*", "/usr/lib/libnvinfer.so.*", "/usr/local/lib/libnvinfer.so.*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			t.Skipf("this machine has a TensorRT of its own: %v", found)
		}
	}
}

func TestOpenTakesTheLibraryOfTheTensorRTThatIsThere(t *testing.T) {
	t.Parallel()
	withoutTensorRT(t)
	for name, c := range map[string]struct {
		there, installed []int
		want             int
	}{
		"8":                      {[]int{8}, []int{8, 10, 11}, 8},
		"10":                     {[]int{10}, []int{8, 10, 11}, 10},
		"the newest of several":  {[]int{8, 10, 11}, []int{8, 10, 11}, 11},
		"the one with a library": {[]int{8, 10}, []int{8}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix := t.TempDir()
			for _, major := range c.there {
				tensorRT(t, prefix, major)
			}
			for _, major := range c.installed {
				install(t, prefix, major)
			}
			testenv.WantLine(t, openIn(t, prefix, ""), fmt.Sprintf("/lib/sightd/libsightd-trt%d.so 10.3.0 ok <nil>", c.want))
		})
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	withoutTensorRT(t)
	t.Run("no TensorRT", func(t *testing.T) {
		t.Parallel()
		prefix := t.TempDir()
		install(t, prefix, 10)
		testenv.WantLine(t, openIn(t, prefix, ""), trt.Missing.String(), "no TensorRT: the loader finds no libnvinfer.so.11, libnvinfer.so.10, libnvinfer.so.8",
			"apt install nvidia-jetpack", "use back end ort")
	})
	t.Run("no library for it", func(t *testing.T) {
		t.Parallel()
		prefix := t.TempDir()
		tensorRT(t, prefix, 10)
		install(t, prefix, 8)
		testenv.WantLine(t, openIn(t, prefix, ""), trt.Missing.String(), "TensorRT 10 is there, but sightd's library for it isn't", "libsightd-trt10.so",
			"/usr/local/lib/sightd", "make tensorrt")
	})
	t.Run("a part of TensorRT", func(t *testing.T) {
		t.Parallel()
		prefix := t.TempDir()
		tensorRT(t, prefix, 10, "libcudla_of_sightds_tests.so.1")
		install(t, prefix, 10)
		testenv.WantLine(t, openIn(t, prefix, ""), trt.Missing.String(), "TensorRT 10 is there, but it can't be loaded", "libcudla_of_sightds_tests.so.1",
			"install what is missing")
	})
	t.Run("the compiler for DLA", func(t *testing.T) {
		t.Parallel()
		prefix := t.TempDir()
		tensorRT(t, prefix, 10, "libnvdla_compiler.so")
		install(t, prefix, 10)
		testenv.WantLine(t, openIn(t, prefix, ""), trt.Missing.String(), "install nvidia-l4t-dla-compiler")
	})
}

func TestOpenFindsWhatALoaderWouldDieOf(t *testing.T) {
	t.Parallel()
	withoutTensorRT(t)
	prefix := t.TempDir()
	tensorRT(t, prefix, 8)
	install(t, prefix, 8)
	path := filepath.Join(prefix, "tensorrt", "libnvinfer.so.8")
	if err := os.Truncate(path, 5000); err != nil {
		t.Fatal(err)
	}
	for _, library := range []string{"", filepath.Join(prefix, "lib", "sightd", "libsightd-trt8.so")} {
		testenv.WantLine(t, openIn(t, prefix, library, double.Environment+"="+double.Script(t, "version 8.6.1")), trt.Missing.String(),
			"TensorRT 8 is there, but it can't be loaded: "+path, "cut short", "install it again")
	}
}

func TestOpenTellsTheVersionWithoutADriver(t *testing.T) {
	t.Parallel()
	withoutTensorRT(t)
	prefix := t.TempDir()
	tensorRT(t, prefix, 8)
	install(t, prefix, 8)
	// Sightd's library looks for the driver first, so it knows nothing of TensorRT yet.
	script := double.Script(t, "version 0.0.0", "compiled 8.5.2", `fail open 4 "NVIDIA's driver isn't there: install it"`)
	for _, library := range []string{"", filepath.Join(prefix, "lib", "sightd", "libsightd-trt8.so")} {
		testenv.WantLine(t, openIn(t, prefix, library, double.Environment+"="+script), "/lib/sightd/libsightd-trt8.so 8.6.1 ", trt.NoDevice.String(),
			"tensorrt: open: NVIDIA's driver isn't there: install it")
	}
}

func TestOpenSaysHowToNameAFileHere(t *testing.T) {
	t.Parallel()
	testenv.WantLine(t, openIn(t, t.TempDir(), "table.h"), trt.Missing.String(), "call it ./table.h")
}

func TestOpenRefusesLibrariesThatAreNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good, err := os.ReadFile(double.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	foreign := append([]byte(nil), good...)
	foreign[18], foreign[19] = 8, 0 // EM_MIPS
	for name, c := range map[string]struct {
		path, want string
		status     trt.Status
	}{
		"missing":      {filepath.Join(dir, "none.so"), "none.so: no such file or directory", trt.Missing},
		"a folder":     {dir, "not a file", trt.Missing},
		"text":         {write("text.so", []byte("not a library")), "not a shared library, or cut short", trt.Missing},
		"empty":        {write("empty.so", nil), "not a shared library, or cut short", trt.Missing},
		"cut short":    {write("cut.so", good[:len(good)/2]), "not a shared library, or cut short", trt.Missing},
		"foreign":      {write("foreign.so", foreign), "built for EM_MIPS", trt.Missing},
		"other ABI":    {double.Library(t, "SIGHTD_TRT_DOUBLE_ABI=99"), "its interface is 99, wanted ", trt.WrongVersion},
		"no symbol":    {double.Library(t, "SIGHTD_TRT_DOUBLE_WITHOUT_WAIT"), "it has no sightd_trt_wait", trt.Missing},
		"not findable": {"libsightd-trt-of-nowhere.so", "cannot open shared object file", trt.Missing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := openIn(t, t.TempDir(), c.path)
			testenv.WantLine(t, said, c.status.String(), c.want)
			if c.want != "cannot open shared object file" {
				testenv.WantLine(t, said, "make tensorrt")
			}
			testenv.WantLine(t, openIn(t, t.TempDir(), "", "SIGHTD_TENSORRT="+c.path), c.status.String(), c.want)
		})
	}
}

func TestOpenSaysWhyThereIsNoDevice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		line   string
		status trt.Status
		want   []string
	}{
		"no GPU":            {`fail open 4 "the driver finds no GPU"`, trt.NoDevice, []string{"finds no GPU", "nvidia-smi", "use back end ort"}},
		"driver too old":    {`fail open 4 "the driver is too old"`, trt.NoDevice, []string{"too old"}},
		"device is gone":    {`fail device 4 "no device"`, trt.NoDevice, []string{"no device", "nvidia-smi"}},
		"nvinfer is absent": {`fail open 2 "libnvinfer.so.10: cannot open shared object file"`, trt.Missing, []string{"libnvinfer.so.10", "apt install nvidia-jetpack"}},
		"no DLA compiler":   {`fail open 2 "libnvdla_compiler.so: cannot open shared object file"`, trt.Missing, []string{"nvidia-l4t-dla-compiler"}},
		"another TensorRT":  {`fail open 3 "TensorRT 8 was found, wanted 10"`, trt.WrongVersion, []string{"wanted 10", "make tensorrt"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := openIn(t, t.TempDir(), double.Library(t), double.Environment+"="+double.Script(t, c.line))
			testenv.WantLine(t, said, append(c.want, c.status.String(), "10.3.0")...)
		})
	}
}

func TestProbeSurvivesACrash(t *testing.T) {
	t.Parallel()
	for how, want := range map[string]string{"abort": "SIGABRT", "segv": "SIGSEGV", "exit4": "exit status 4"} {
		_, err := trt.Probe(context.Background(), child(t, "probe", "crash open "+how), "")
		wantStatus(t, err, trt.Crashed, "tensorrt: open: ", want, "libnvinfer.so.10 can't be opened: ")
	}
	info, err := trt.Probe(context.Background(), child(t, "probe", `fail open 4 "no GPU"`), "")
	wantStatus(t, err, trt.NoDevice, "no GPU")
	if info.Library != double.Library(t) || info.TensorRT.String() != "10.3.0" {
		t.Errorf("beside the error it found %+v", info)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = trt.Probe(ctx, child(t, "probe", "delay open 1h"), "")
	wantStatus(t, err, trt.Cancelled)
}

func TestAbsentIsTheLibraryItself(t *testing.T) {
	t.Parallel()
	const name = "libnvinfer.so.10"
	for text, want := range map[string]bool{
		"libnvinfer.so.10: cannot open shared object file: No such file or directory":                      true,
		"Error loading shared library libnvinfer.so.10: No such file or directory":                         true,
		"libnvdla_compiler.so: cannot open shared object file: No such file or directory":                  false,
		"Error loading shared library libcudla.so: No such file or directory (needed by libnvinfer.so.10)": false,
		"libnvinfer.so.10: cannot open shared object file: Permission denied":                              false,
		"/usr/lib/libnvinfer.so.10: undefined symbol: _ZN3abc":                                             false,
	} {
		if got := trt.Absent(name, text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
