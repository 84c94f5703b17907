package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/durable/durabletest"
)

var errCut = errors.New("the power is out")

// cutAfter lets n operations pass.
func cutAfter(n int) func(op, path string) error {
	return func(string, string) error {
		if n--; n < 0 {
			return errCut
		}
		return nil
	}
}

// atEveryCut runs f on what setUp made, with the power cut before each of its
// operations in turn and at last not at all, and hands check what is found
// afterwards. done tells whether f had reported success.
func atEveryCut(t *testing.T, setUp func(*durabletest.FS), f func(durable.FS) error, check func(t *testing.T, files map[string]string, done bool)) {
	t.Helper()
	for _, namesSurvive := range []bool{false, true} {
		for n := 0; ; n++ {
			fsys := &durabletest.FS{}
			setUp(fsys)
			fsys.Fail = cutAfter(n)
			err := f(fsys)
			if err != nil && !errors.Is(err, errCut) {
				t.Fatalf("cut after %d operations: unexpected error %v", n, err)
			}
			check(t, fsys.PowerCut(namesSurvive).Files(), err == nil)
			if err == nil {
				if n < 2 {
					t.Fatalf("only %d operations", n)
				}
				break
			}
		}
	}
}

func withoutTemp(files map[string]string) map[string]string {
	for path := range files {
		if durable.IsTemp(path) {
			delete(files, path)
		}
	}
	return files
}

func TestWriteFileLeavesOldOrNewAtEveryPowerCut(t *testing.T) {
	t.Parallel()
	for name, old := range map[string]map[string]string{
		"replacing": {"/state/a": "old"},
		"new":       {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setUp := func(fsys *durabletest.FS) {
				for path, data := range old {
					fsys.Put(path, []byte(data))
				}
			}
			write := func(fsys durable.FS) error {
				return durable.WriteFileOn(fsys, "/state/a", []byte("new"), 0o644)
			}
			atEveryCut(t, setUp, write, func(t *testing.T, files map[string]string, done bool) {
				files = withoutTemp(files)
				isNew := cmp.Equal(files, map[string]string{"/state/a": "new"})
				isOld := cmp.Equal(files, old)
				if !isNew && !isOld {
					t.Errorf("after the cut: %q", files)
				}
				if done && !isNew {
					t.Errorf("reported done, yet after the cut: %q", files)
				}
			})
		})
	}
}

func TestRenameNeverLosesTheFileAtAPowerCut(t *testing.T) {
	t.Parallel()
	setUp := func(fsys *durabletest.FS) { fsys.Put("/staging/a", []byte("data")) }
	rename := func(fsys durable.FS) error { return durable.RenameOn(fsys, "/staging/a", "/releases/a") }
	atEveryCut(t, setUp, rename, func(t *testing.T, files map[string]string, done bool) {
		if files["/staging/a"] != "data" && files["/releases/a"] != "data" {
			t.Errorf("after the cut: %q", files)
		}
		if done && !cmp.Equal(files, map[string]string{"/releases/a": "data"}) {
			t.Errorf("reported done, yet after the cut: %q", files)
		}
	})
}

func TestWriteFileThatFailsLeavesTheOldFileAndNoTemporaryOne(t *testing.T) {
	t.Parallel()
	for op, errno := range map[string]syscall.Errno{
		"create": syscall.EROFS,
		"write":  syscall.ENOSPC,
		"sync":   syscall.EIO,
		"close":  syscall.EDQUOT,
		"rename": syscall.EACCES,
	} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			fsys := &durabletest.FS{Fail: func(o, _ string) error {
				if o == op {
					return errno
				}
				return nil
			}}
			fsys.Put("/state/a", []byte("old"))
			err := durable.WriteFileOn(fsys, "/state/a", []byte("new"), 0o644)
			if !errors.Is(err, errno) {
				t.Fatalf("error %v, want %v", err, errno)
			}
			if got := err.Error(); !strings.HasPrefix(got, "write /state/a: ") || strings.Contains(got, "sightd-tmp") {
				t.Errorf("error %q names the wrong file", got)
			}
			if diff := cmp.Diff(map[string]string{"/state/a": "old"}, fsys.Files()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWriteFileOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("long", 60))
	for _, content := range []string{"first", "second", ""} {
		if err := durable.WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Fatalf("read %q, %v; want %q", got, err, content)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o640 {
		t.Errorf("permissions %v", got)
	}
	onlyFile(t, dir, filepath.Base(path))
}

func TestWriteFileWhereTheDirectoryIsMissing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "no", "a")
	err := durable.WriteFile(path, nil, 0o644)
	want := "write " + path + ": create a temporary file beside it: no such file or directory"
	if err == nil || err.Error() != want || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestWriteFileOverADirectoryFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "a"), nil, 0o644); err == nil {
		t.Error("no error")
	}
	onlyFile(t, dir, "a")
}

func TestRenameOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := durable.WriteFile(a, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := durable.Rename(a, b); err != nil {
		t.Fatal(err)
	}
	onlyFile(t, dir, "b")
	if err := durable.Rename(a, b); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("renaming what isn't there: %v", err)
	}
}

func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("directory has %v, want only %s", entries, name)
	}
}
