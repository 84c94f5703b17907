package calibration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func touch(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFolderGivesItsImagesSortedAndThoseOfItsFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	touch(t, dir, "b.JPG", "a/z.png", "a/notes.txt", "c.webp", "README")
	got, err := Files(dir)
	want := []string{filepath.Join(dir, "a/z.png"), filepath.Join(dir, "b.JPG"), filepath.Join(dir, "c.webp")}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestAListIsRelativeToItsFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	touch(t, dir, "images/a.png", "images/b c.png")
	list := filepath.Join(dir, "list.txt")
	text := "images/a.png\r\n\n  images/b c.png  \n" + filepath.Join(dir, "images/a.png")
	if err := os.WriteFile(list, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Files(list)
	want := []string{filepath.Join(dir, "images/a.png"), filepath.Join(dir, "images/b c.png"), filepath.Join(dir, "images/a.png")}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestAListFromElsewhereSaysWhereItLooked(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(list, []byte("a/1.png\na/2.png\na/3.png\na/4.png\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Files(list)
	want := "images: 4 of the 4 paths lead to no file, neither from the list's folder " + filepath.Dir(list) +
		" nor from the working directory:\n  " + list + ":1: a/1.png\n  " + list + ":2: a/2.png\n  " + list +
		":3: a/3.png\n  … and 1 more\nput the list beside the images, or write absolute paths into it"
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestFilesThatGiveNoImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	touch(t, dir, "empty/notes.txt")
	for name, content := range map[string]string{"nothing.txt": "\n \n", "binary.txt": "a.png\n\x00\x01", "long.txt": strings.Repeat("a", 5000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"absent":      "no such file",
		"empty":       "no images in " + filepath.Join(dir, "empty"),
		"nothing.txt": "names no image: want a path a line",
		"binary.txt":  `binary.txt:2: found "\x00\x01", want a path a line`,
		"long.txt":    "long.txt:1: found",
	} {
		_, err := Files(filepath.Join(dir, path))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", path, err, want)
		}
	}
}

func TestUnreadableImages(t *testing.T) {
	t.Parallel()
	c := checked(t, "sound")
	dir := t.TempDir()
	empty, cut := filepath.Join(dir, "empty.png"), filepath.Join(dir, "cut.png")
	files := pictures(t, 200)
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{empty: nil, cut: whole[:len(whole)/2]} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	// One in a hundred may be bad, and is named.
	s := open(t, c, Options{Files: append(files[:198:198], empty, cut)})
	bad := s.Unreadable()
	if s.Images() != 198 || len(bad) != 2 || bad[0].Path != empty || bad[1].Path != cut || bad[0].Reason == "" {
		t.Errorf("%d images, unreadable: %v", s.Images(), bad)
	}

	_, err = Open(t.Context(), c, Options{Files: append(files[:97:97], empty, cut, filepath.Join(dir, "absent.png")), Worker: s.o.Worker})
	var many *unreadableError
	if !errors.As(err, &many) || !strings.HasPrefix(err.Error(), "3 of 100 images can't be read, more than 1 %:\n  "+empty+": ") {
		t.Errorf("error %v", err)
	}
	if _, err := Open(t.Context(), c, Options{}); err == nil || !strings.Contains(err.Error(), "no images") {
		t.Errorf("error %v", err)
	}
	if _, err := Open(t.Context(), c, Options{Files: []string{empty}, Worker: s.o.Worker}); !errors.As(err, &many) {
		t.Errorf("error %v", err)
	}
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte("a.png\nb/c.jpg\r\n\n/abs/d.bmp"))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := parseList("list.txt", data)
		if err == nil && (len(files) == 0 || len(files) > len(data)) {
			t.Errorf("%d files of %d bytes", len(files), len(data))
		}
	})
}
