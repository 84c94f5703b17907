package calibration

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/release"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if made.dir != "" {
			os.RemoveAll(made.dir)
		}
		os.Exit(status)
	}))
}

// made is the folder that testdata/models.py has filled, once.
var made struct {
	once sync.Once
	dir  string
	err  error
}

// model is the path of a model that testdata/models.py makes.
func model(t *testing.T, name string) string {
	t.Helper()
	python := testenv.Python(t)
	made.once.Do(func() {
		if made.dir, made.err = os.MkdirTemp("", "sightd-calibration-"); made.err != nil {
			return
		}
		if out, err := exec.Command(python, "-B", "testdata/models.py", made.dir).CombinedOutput(); err != nil {
			made.err = fmt.Errorf("testdata/models.py: %w\n%s", err, out)
		}
	})
	if made.err != nil {
		t.Fatal(made.err)
	}
	return filepath.Join(made.dir, name+".onnx")
}

// checked is the release of a model that testdata/models.py makes.
func checked(t *testing.T, name string) *release.Checked {
	t.Helper()
	if err := ort.Open(testenv.ONNXRuntime(t)); err != nil {
		t.Fatal(err)
	}
	spec := filepath.Join(t.TempDir(), "model.yaml")
	text := fmt.Sprintf("name: tiny\nrelease: 1\nmodel: %s\ninput: {resize: stretch, mean: [127.5], std: [127.5]}\n", model(t, name))
	if err := os.WriteFile(spec, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := release.OpenUncalibrated(spec)
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Check("fp32")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pictures writes n images of 12×12 pixels, each different.
func pictures(t *testing.T, n int) []string {
	t.Helper()
	dir := t.TempDir()
	var files []string
	for i := range n {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		img := image.NewNRGBA(image.Rect(0, 0, 12, 12))
		low, spread := r.IntN(128), 1+r.IntN(127)
		for y := range 12 {
			for x := range 12 {
				img.SetNRGBA(x, y, color.NRGBA{uint8(low + r.IntN(spread)), uint8(20*y + r.IntN(20)), uint8(20*x + r.IntN(20)), 255})
			}
		}
		path := filepath.Join(dir, fmt.Sprintf("%03d.png", i))
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	return files
}

// open opens a study of a model.
func open(t *testing.T, c *release.Checked, o Options) *Study {
	t.Helper()
	o.Worker = testenv.Worker(t)
	s, err := Open(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// observed is a study that has observed all images.
func observed(t *testing.T, c *release.Checked, o Options) *Study {
	t.Helper()
	s := open(t, c, o)
	if err := s.Observe(context.Background(), DefaultPercentile, false); err != nil {
		t.Fatal(err)
	}
	return s
}
