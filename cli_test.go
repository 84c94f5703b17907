package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sightd/sightd/internal/testenv"
)

// All temporary files of the tests, and of the programs that they start, are
// below one folder. What is there at the end was left behind, and is a fault.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "build-child" || os.Args[1] == "probe-child") {
		main() // a child of a command that a test runs in its own process
	}
	temp, err := os.MkdirTemp("", "sightd-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for name, value := range map[string]string{
		"TMPDIR":             temp,
		"XDG_CACHE_HOME":     filepath.Join(temp, "cache"), // stored engines
		"SIGHTD_ONNXRUNTIME": filepath.Join(testenv.Root(), "lib/sightd/libonnxruntime.so"),
	} {
		os.Setenv(name, value)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		os.RemoveAll(filepath.Join(temp, "cache"))
		os.RemoveAll(filepath.Join(temp, fmt.Sprintf("sightd-double-%d", os.Getuid())))
		left, err := os.ReadDir(temp)
		if status == 0 && (err != nil || len(left) > 0) {
			fmt.Fprintln(os.Stderr, "left behind among the temporary files:", left, err)
			status = 1
		}
		os.RemoveAll(temp)
		os.Exit(status)
	}))
}

// outcome is what a command has said.
type outcome struct {
	status         int
	stdout, stderr string
}

// command carries a command line out in this process.
func command(t *testing.T, args ...string) outcome {
	t.Helper()
	status, stdout, stderr := sightd(t, args...)
	return outcome{status, stdout, stderr}
}

// program carries it out in a process of its own. Commands that start a camera's
// worker find it beside that program alone.
func program(t *testing.T, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), testenv.Sightd(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// wantRefusal holds an outcome to be one clear error and, but for a daemon's
// log, nothing else: a line on standard error that names what stands in parts.
func wantRefusal(t *testing.T, o outcome, status int, parts ...string) {
	t.Helper()
	if o.status != status || o.stdout != "" {
		t.Errorf("exit status %d, standard output %q; wanted %d and nothing", o.status, o.stdout, status)
	}
	said := slices.DeleteFunc(strings.Split(strings.TrimSuffix(o.stderr, "\n"), "\n"),
		func(line string) bool { return strings.HasPrefix(line, "time=") })
	if len(said) != 1 || !strings.HasPrefix(said[0], "sightd: ") {
		t.Errorf("standard error:\n%swanted one line that starts with `sightd: `", o.stderr)
	}
	wantParts(t, o.stderr, parts...)
}

func wantParts(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("found:\n%s\nwanted %q in it", text, part)
		}
	}
}

// unchanged holds what is below dir, at the end of the test, to what is there
// now.
func unchanged(t *testing.T, dir string) {
	t.Helper()
	before := listing(t, dir)
	t.Cleanup(func() {
		if diff := cmp.Diff(before, listing(t, dir)); diff != "" {
			t.Errorf("%s has changed:\n%s", dir, diff)
		}
	})
}

// listing describes all files below dir. A file that is large for a test is
// told by its size alone.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		files[path] = info.Mode().String()
		if info.Mode().IsRegular() {
			files[path] += fmt.Sprintf(" %d", info.Size())
			if info.Size() < 1<<20 {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				files[path] += fmt.Sprintf(" %x", sha256.Sum256(b))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// model is a model of testdata/models.py, which runs once.
func model(t *testing.T, name string) []byte {
	t.Helper()
	testenv.Python(t)
	made, err := makeModels()
	if err != nil {
		t.Fatal(err)
	}
	if made[name] == nil {
		t.Fatalf("testdata/models.py makes no %s", name)
	}
	return made[name]
}

var makeModels = sync.OnceValues(func() (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "models-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	python := filepath.Join(testenv.Root(), "build/venv/bin/python")
	if out, err := exec.Command(python, "testdata/models.py", dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("testdata/models.py: %w: %s", err, out)
	}
	made := map[string][]byte{}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	for _, file := range files {
		if err == nil {
			made[filepath.Base(file)], err = os.ReadFile(file)
		}
	}
	return made, err
})

// tinyWith copies the small release of package release's tests, with other
// content in some of its files, and returns the copy's folder.
func tinyWith(t *testing.T, others map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	for name, content := range others {
		write(t, filepath.Join(dir, name), content)
	}
	return dir
}

// tinyFile is the content of one of that release's files.
func tinyFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(tiny, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
