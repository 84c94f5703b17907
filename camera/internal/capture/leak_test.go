//go:build gocv_specific_modules && matprofile

package capture

import (
	"bytes"
	"errors"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"testing"

	"gocv.io/x/gocv"

	"github.com/sightd/sightd/camera/internal/wire"
)

// OpenCV's memory isn't Go's: every Mat is closed, whatever is read and however
// it is scaled. It needs the build tag matprofile.
func TestNoMatIsLeft(t *testing.T) {
	before := gocv.MatProfile.Count()
	dir := t.TempDir()
	var files []string
	for i, size := range []image.Rectangle{image.Rect(0, 0, 60, 40), image.Rect(0, 0, 32, 24), image.Rect(0, 0, 7, 90)} {
		var b bytes.Buffer
		if err := png.Encode(&b, image.NewGray(size)); err != nil {
			t.Fatal(err)
		}
		for _, data := range [][]byte{b.Bytes(), b.Bytes()[:b.Len()/2], append(b.Bytes()[:b.Len()-30:b.Len()-30], b.Bytes()[b.Len()-12:]...)} {
			name := filepath.Join(dir, string(rune('a'+i))+string(rune('a'+len(files)))+".png")
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
			files = append(files, name)
		}
	}
	read(t, wire.Settings{Files: files})
	read(t, wire.Settings{Source: "test:gradient?frames=20"})
	if n := gocv.MatProfile.Count(); n != before {
		var b bytes.Buffer
		if err := gocv.MatProfile.WriteTo(&b, 1); err != nil {
			t.Error(err)
		}
		t.Errorf("%d Mats are left:\n%s", n-before, &b)
	}
}

func read(t *testing.T, s wire.Settings) {
	t.Helper()
	src, _, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	slots := [][]byte{make([]byte, 32*24*3), make([]byte, 32*24*3)}
	var scalers []*Scaler
	for _, resize := range []string{"letterbox", "crop", "stretch"} {
		for filter := range filters {
			scaler, err := NewScaler(wire.Add{
				Width: 32, Height: 24, Resize: resize, Filter: filter, Crop: 0.5, Region: [4]float64{0, 0, 1, 0.5},
			}, len(slots))
			if err != nil {
				t.Fatal(err)
			}
			defer scaler.Close()
			scalers = append(scalers, scaler)
		}
	}
	frame := gocv.NewMat()
	defer func() { frame.Close() }()
	good := 0
	for {
		_, err := src.Read(&frame)
		var bad *FileError
		switch {
		case errors.Is(err, io.EOF):
			if good == 0 {
				t.Error("no frame was read")
			}
			return
		case errors.As(err, &bad):
			continue
		case err != nil:
			t.Fatal(err)
		}
		good++
		for _, scaler := range scalers {
			if err := scaler.Scale(frame, good%len(slots), slots[good%len(slots)]); err != nil {
				t.Fatal(err)
			}
		}
	}
}
