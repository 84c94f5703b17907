package release

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const tiny = "testdata/tiny"

// variant copies the small model of testdata, changes what the pairs of old and
// new text say in its model.yaml, and returns the path of that.
func variant(t *testing.T, pairs ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	spec := filepath.Join(dir, specName)
	text := read(t, spec)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not in %s", pairs[i], spec)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	write(t, spec, text)
	return spec
}

// packed packs a variant as a directory.
func packed(t *testing.T, pairs ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "packed")
	if _, err := Pack(variant(t, pairs...), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func opened(t *testing.T, path string) *Release {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tree is the content of all files below dir, by their paths.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			all[name] = read(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	return slices.Sorted(maps.Keys(tree(t, dir)))
}

// wantRejected checks an error's code and text.
func wantRejected(t *testing.T, err error, code Code, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, wanted %s", code)
		return
	}
	if got := CodeOf(err); got != code {
		t.Errorf("%v: code %q, wanted %q", err, got, code)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v\nlacks %q", err, text)
		}
	}
}
