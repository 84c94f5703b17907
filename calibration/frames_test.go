package calibration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/internal/testenv"
)

// readFrames reads the files, of which room frames may be kept in memory; -1: as
// many as usual.
func readFrames(t *testing.T, files []string, room int) *frames {
	t.Helper()
	g := camera.Geometry{Width: 12, Height: 12, Resize: "stretch", Filter: "linear", Region: [4]float64{0, 0, 1, 1}}
	s := newFrames(files, g, testenv.Worker(t), 2, nil)
	for _, r := range s.reels {
		if room >= 0 {
			r.room = room
		}
	}
	if err := s.read(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASampleIsTheSameWhetherFramesAreKeptOrNot(t *testing.T) {
	t.Parallel()
	files := pictures(t, 80)
	want, err := readFrames(t, files, -1).sample(t.Context(), 50)
	if err != nil || len(want) != 50 {
		t.Fatalf("%d frames, %v", len(want), err)
	}
	for _, room := range []int{0, 7} {
		got, err := readFrames(t, files, room).sample(t.Context(), 50)
		if err != nil || len(got) != 50 {
			t.Fatalf("%d frames, %v", len(got), err)
		}
		for i := range got {
			if got[i].path != want[i].path || !slices.Equal(got[i].pixels, want[i].pixels) {
				t.Fatalf("room for %d: frame %d is %s, of other pixels than %s has", room, i, got[i], want[i])
			}
		}
	}
}

func TestEqualImagesAreHeldBackTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	files := pictures(t, 1)
	s := readFrames(t, slices.Repeat(files, 60), -1)
	if last, n := s.part(5); n != 0 {
		t.Errorf("%d of 60 equal images are held back, up to %d", n, last)
	}
	if sample, err := s.sample(t.Context(), 5); err != nil || len(sample) != 5 {
		t.Errorf("%d frames in a sample of 5, %v", len(sample), err)
	}
	mixed := readFrames(t, append(pictures(t, 10), slices.Repeat(files, 20)...), -1)
	last, n := mixed.part(5)
	count := 0
	for _, h := range mixed.hashes {
		if h <= last {
			count++
		}
	}
	if n != count || n == 0 || n == 30 {
		t.Errorf("%d are held back, %d have such hashes", n, count)
	}
}

func TestAnImageThatGoesMeanwhileIsToldOf(t *testing.T) {
	t.Parallel()
	files := pictures(t, 20)
	s := readFrames(t, files, 3)
	if err := os.Remove(files[15]); err != nil {
		t.Fatal(err)
	}
	err := s.each(t.Context(), 1, nil, nil, func(int, *frame) error { return nil })
	if err == nil || !strings.Contains(err.Error(), files[15]+" could be read before and can't any more: ") {
		t.Errorf("error %v", err)
	}
}

func TestFoldersByLinkAndWhatIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	touch(t, dir, "images/a.png")
	if err := syscall.Mkfifo(filepath.Join(dir, "images", "pipe.png"), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("images", link); err != nil {
		t.Fatal(err)
	}
	got, err := Files(link)
	if err != nil || !slices.Equal(got, []string{filepath.Join(link, "a.png")}) {
		t.Errorf("%v, %v", got, err)
	}
	list := filepath.Join(dir, "list.txt")
	if err := os.WriteFile(list, []byte("images/pipe.png\n/dev/zero\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Files(list); err == nil || !strings.Contains(err.Error(), "2 of the 2 paths lead to no file") {
		t.Errorf("error %v", err)
	}
}
