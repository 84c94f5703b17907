package ort_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/ort"
)

// openInstead names the variable that makes the test binary open a library,
// say how that went, and end: a process has but one ONNX Runtime.
const openInstead = "SIGHTD_TEST_OPEN"

func openAndSay(library string) {
	if err := ort.Open(library); err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println("version:", ort.Version())
}

// openIn runs the test binary, copied to prefix/bin, to open the library there,
// and returns all that it and the library said.
func openIn(t *testing.T, prefix, library string, environment ...string) string {
	t.Helper()
	command := exec.Command(testenv.Install(t, prefix))
	// The race detector would sleep a second at the program's end.
	command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "SIGHTD_ONNXRUNTIME=", "LD_LIBRARY_PATH=", openInstead+"="+library)
	command.Env = append(command.Env, environment...)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// install puts a link to the library at prefix/lib/sightd.
func install(t *testing.T, prefix, library string) (path string) {
	t.Helper()
	path = filepath.Join(prefix, "lib", "sightd", "libonnxruntime.so")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(library, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// compile makes a shared library of C source.
func compile(t *testing.T, source string, flags ...string) (path string) {
	t.Helper()
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skipf("no C compiler: %v", err)
	}
	dir := t.TempDir()
	path = filepath.Join(dir, "libonnxruntime.so")
	input := filepath.Join(dir, "library.c")
	if err := os.WriteFile(input, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-shared", "-fPIC", "-o", path, input}, flags...)
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// old is a library whose API ends before what is asked for.
const old = `
struct base { const void *(*api)(unsigned); const char *(*version)(void); };
static const void *api(unsigned n) { return 0; }
static const char *version(void) { return "1.20.1"; }
static const struct base base = { api, version };
const struct base *OrtGetApiBase(void) { return &base; }
`

func TestOpenIsForTheWholeProcess(t *testing.T) {
	t.Parallel()
	library := testenv.ONNXRuntime(t)
	var all errgroup.Group
	for range 8 {
		all.Go(func() error { return ort.Open(library) })
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := ort.Open(""); err != nil {
		t.Errorf("open again, wherever it is: %v", err)
	}
	wantError(t, ort.Open("/elsewhere.so"), "/elsewhere.so", library, "only one")
	if !strings.HasPrefix(ort.Version(), "1.") {
		t.Errorf("version %q, want 1.x", ort.Version())
	}
}

func TestOpenFindsTheLibrary(t *testing.T) {
	t.Parallel()
	library, elsewhere := testenv.ONNXRuntime(t), t.TempDir()
	t.Run("beside the program", func(t *testing.T) {
		t.Parallel()
		prefix := t.TempDir()
		install(t, prefix, library)
		testenv.WantLine(t, openIn(t, prefix, ""), "version: 1.")
	})
	t.Run("by the environment, which goes first", func(t *testing.T) {
		t.Parallel()
		prefix := t.TempDir()
		install(t, prefix, "/dev/null")
		testenv.WantLine(t, openIn(t, prefix, "", "SIGHTD_ONNXRUNTIME="+library), "version: 1.")
	})
	t.Run("by its path, which goes before that", func(t *testing.T) {
		t.Parallel()
		testenv.WantLine(t, openIn(t, t.TempDir(), library, "SIGHTD_ONNXRUNTIME=/nowhere"), "version: 1.")
	})
	t.Run("by the loader, at last", func(t *testing.T) {
		t.Parallel()
		if _, err := os.Stat("/usr/lib/sightd"); err == nil {
			t.Skip("sightd is installed here")
		}
		if err := os.Symlink(library, filepath.Join(elsewhere, "libonnxruntime.so.1")); err != nil {
			t.Fatal(err)
		}
		testenv.WantLine(t, openIn(t, t.TempDir(), "", "LD_LIBRARY_PATH="+elsewhere), "version: 1.")
	})
}

func TestOpenSaysWhyItCannot(t *testing.T) {
	t.Parallel()
	const wayOut = "run `make build`, install sightd's package, or set SIGHTD_ONNXRUNTIME"

	t.Run("none", func(t *testing.T) {
		t.Parallel()
		prefix := t.TempDir()
		said := openIn(t, prefix, "")
		if strings.HasPrefix(said, "version: ") {
			t.Skip("ONNX Runtime is installed on this system")
		}
		testenv.WantLine(t, said, filepath.Join(prefix, "lib/sightd/libonnxruntime.so"),
			"/usr/local/lib/sightd/libonnxruntime.so", "/usr/lib/sightd/libonnxruntime.so", "loader", wayOut)
	})
	t.Run("asked for one that isn't there", func(t *testing.T) {
		t.Parallel()
		testenv.WantLine(t, openIn(t, t.TempDir(), "/nowhere.so"), "library /nowhere.so: no such file", wayOut)
		testenv.WantLine(t, openIn(t, t.TempDir(), "", "SIGHTD_ONNXRUNTIME=/nowhere.so"), "library /nowhere.so: no such file", wayOut)
	})
	t.Run("a link to nothing, where it is installed", func(t *testing.T) {
		t.Parallel()
		prefix := t.TempDir()
		path := install(t, prefix, "/nowhere.so")
		testenv.WantLine(t, openIn(t, prefix, ""), "library "+path+": no such file", wayOut)
	})
	t.Run("not a library", func(t *testing.T) {
		t.Parallel()
		testenv.WantLine(t, openIn(t, t.TempDir(), "/etc/passwd"), "library /etc/passwd: not a shared library", wayOut)
		testenv.WantLine(t, openIn(t, t.TempDir(), "/usr/lib"), "library /usr/lib: not a file", wayOut)
	})
	t.Run("for another processor", func(t *testing.T) {
		t.Parallel()
		path := changed(t, func(library []byte) []byte {
			const machine, s390 = 18, 22 // of an ELF header
			binary.NativeEndian.PutUint16(library[machine:], s390)
			return library
		})
		testenv.WantLine(t, openIn(t, t.TempDir(), path), path+": built for EM_S390", wayOut)
	})
	t.Run("cut short", func(t *testing.T) {
		t.Parallel()
		path := changed(t, func(library []byte) []byte { return library[:len(library)/2] })
		testenv.WantLine(t, openIn(t, t.TempDir(), path), path+": not a shared library, or cut short", wayOut)
	})
	t.Run("another library", func(t *testing.T) {
		t.Parallel()
		path := compile(t, "int answer = 42;")
		testenv.WantLine(t, openIn(t, t.TempDir(), path), path+": not ONNX Runtime", wayOut)
	})
	t.Run("too old by its name", func(t *testing.T) {
		t.Parallel()
		versions := filepath.Join(t.TempDir(), "versions")
		if err := os.WriteFile(versions, []byte("VERS_1.20.1 { global: *; };"), 0o600); err != nil {
			t.Fatal(err)
		}
		path := compile(t, old, "-Wl,--version-script="+versions)
		testenv.WantLine(t, openIn(t, t.TempDir(), path), path+": version 1.20.1 is too old: wanted ONNX Runtime 1.24 or later", wayOut)
	})
	t.Run("too old by its API", func(t *testing.T) {
		t.Parallel()
		path := compile(t, old)
		testenv.WantLine(t, openIn(t, t.TempDir(), path), path+": too old: wanted ONNX Runtime 1.24 or later", wayOut)
	})
	t.Run("lacks what it links to", func(t *testing.T) {
		t.Parallel()
		path := compile(t, old+"int missing_symbol(void); int use(void) { return missing_symbol(); }", "-Wl,-z,now")
		testenv.WantLine(t, openIn(t, t.TempDir(), path), path+": ", "undefined symbol: missing_symbol", wayOut)
	})
}

// changed is the path of a changed copy of the library.
func changed(t *testing.T, change func([]byte) []byte) string {
	t.Helper()
	library, err := os.ReadFile(testenv.ONNXRuntime(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(path, change(library), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
