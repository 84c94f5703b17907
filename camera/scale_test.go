package camera

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

// picture makes a picture with edges, slopes and noise.
func picture(w, h int) *image.NRGBA {
	r := rand.New(rand.NewPCG(uint64(w), uint64(h)))
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.NRGBA{R: byte(255 * x / w), G: byte(255 * y / h), B: byte(r.Uint32()), A: 255}
			if (x/7+y/5)%3 == 0 {
				c.R, c.G = 255-c.R, byte(r.Uint32())
			}
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}

func writePNG(t *testing.T, path string, img image.Image) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return writeFile(t, path, b.Bytes())
}

func writeFile(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Each way of scaling is OpenCV's own, as testdata/reference.py does it, to the
// last bit.
func TestScalingEqualsTheReference(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var files []string
	for _, size := range [][2]int{{160, 120}, {97, 211}, {64, 48}, {500, 9}, {1, 1}, {3, 2}} {
		name := fmt.Sprintf("%dx%d.png", size[0], size[1])
		files = append(files, writePNG(t, filepath.Join(dir, name), picture(size[0], size[1])))
	}
	var geometries []Geometry
	for _, resize := range []string{"letterbox", "crop", "stretch"} {
		for _, filter := range []string{"nearest", "linear", "cubic", "area"} {
			geometries = append(geometries, Geometry{Width: 64, Height: 48, Resize: resize, Filter: filter, Crop: 0.875, Pad: 127})
		}
	}
	geometries = append(geometries,
		Geometry{Width: 48, Height: 48, Resize: "letterbox", Filter: "cubic", Pad: 0, Region: [4]float64{0.25, 0.1, 0.5, 0.77}},
		Geometry{Width: 31, Height: 77, Resize: "crop", Filter: "linear", Crop: 1, Region: [4]float64{0.9, 0.9, 0.1, 0.1}},
		Geometry{Width: 224, Height: 224, Resize: "crop", Filter: "cubic", Crop: 0.875},
	)

	c := open(t, Options{Files: files})
	var lanes []*Lane
	for _, g := range geometries {
		lanes = append(lanes, lane(t, c, g, 1))
	}
	want := reference(t, files, lanes)
	run(t, c)
	for i, file := range files {
		for j, l := range lanes {
			f, ok := next(t, l)
			if !ok || f.File != i || f.Err != "" {
				t.Fatalf("file %d: frame %+v, %v", i, f, ok)
			}
			if got, want := l.Slots()[f.Slot], want[i][j]; !bytes.Equal(got, want) {
				t.Errorf("%s as %+v: %s", filepath.Base(file), l.Geometry(), difference(got, want))
			}
			l.Release(f)
		}
	}
}

// difference says how far two pictures are apart.
func difference(got, want []byte) string {
	most, n, first := 0, 0, -1
	for i := range got {
		d := int(got[i]) - int(want[i])
		d = max(d, -d)
		if d > 0 {
			n++
			if first < 0 {
				first = i
			}
		}
		most = max(most, d)
	}
	return fmt.Sprintf("%d of %d values differ, by up to %d, the first at %d", n, len(got), most, first)
}

// reference is each file as each lane should have it.
func reference(t *testing.T, files []string, lanes []*Lane) [][][]byte {
	t.Helper()
	type request struct {
		Path   string     `json:"path"`
		Width  int        `json:"width"`
		Height int        `json:"height"`
		Resize string     `json:"resize"`
		Filter string     `json:"filter"`
		Crop   float64    `json:"crop"`
		Pad    uint8      `json:"pad"`
		Region [4]float64 `json:"region"`
	}
	var requests []request
	for _, f := range files {
		for _, l := range lanes {
			g := l.Geometry()
			requests = append(requests, request{f, g.Width, g.Height, g.Resize, g.Filter, g.Crop, g.Pad, g.Region})
		}
	}
	in, err := json.Marshal(requests)
	if err != nil {
		t.Fatal(err)
	}
	var out, stderr bytes.Buffer
	cmd := exec.Command(testenv.Python(t), filepath.Join("testdata", "reference.py"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("reference: %v\n%s", err, stderr.Bytes())
	}
	pictures := make([][][]byte, len(files))
	for i := range files {
		for _, l := range lanes {
			pictures[i] = append(pictures[i], out.Next(len(l.Slots()[0])))
		}
	}
	return pictures
}
