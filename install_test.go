package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

// installed runs make install in a copy of the checkout, where no more was built than
// the libraries of the names given, and returns what is in lib/sightd afterwards.
func installed(t *testing.T, dest string, libraries ...string) []string {
	t.Helper()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skipf("no make: %v", err)
	}
	root := t.TempDir()
	for _, name := range []string{"Makefile", "LICENSE", "NOTICE", "demo", "systemd", "daemon"} {
		if err := os.Symlink(filepath.Join(testenv.Root(), name), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "lib/sightd"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bin/sightd", "bin/sightd-camera", "lib/sightd/libonnxruntime.so", "lib/sightd/onnxruntime-LICENSE"} {
		write(t, filepath.Join(root, name), nil)
	}
	for _, name := range libraries {
		write(t, filepath.Join(root, "lib/sightd", name), nil)
	}
	if out, err := exec.Command("make", "-C", root, "install", "DESTDIR="+dest, "PREFIX=/usr").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	entries, err := os.ReadDir(filepath.Join(dest, "usr/lib/sightd"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestInstallTakesTheLibrariesForTensorRT(t *testing.T) {
	t.Parallel()
	dest := t.TempDir()
	if got := installed(t, dest); !slices.Equal(got, []string{"libonnxruntime.so"}) {
		t.Errorf("where none was made, there are %q", got)
	}
	want := []string{"libonnxruntime.so", "libsightd-trt10.so", "libsightd-trt8.so"}
	if got := installed(t, dest, "libsightd-trt8.so", "libsightd-trt10.so"); !slices.Equal(got, want) {
		t.Errorf("there are %q, wanted %q", got, want)
	}
	if got := installed(t, dest, "libsightd-trt8.so"); !slices.Equal(got, []string{"libonnxruntime.so", "libsightd-trt8.so"}) {
		t.Errorf("over an earlier one, there are %q", got)
	}
}
