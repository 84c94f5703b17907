//go:build gocv_specific_modules

package capture

import (
	"image"
	"testing"

	"github.com/sightd/sightd/camera/internal/wire"
)

func TestPlace(t *testing.T) {
	t.Parallel()
	whole := [4]float64{0, 0, 1, 1}
	for name, test := range map[string]struct {
		w, h     int
		g        wire.Add
		from, to image.Rectangle
	}{
		"stretch": {
			640, 480,
			wire.Add{Width: 224, Height: 224, Resize: "stretch", Region: whole},
			image.Rect(0, 0, 640, 480), image.Rect(0, 0, 224, 224),
		},
		"letterbox of a wide picture": {
			640, 480,
			wire.Add{Width: 224, Height: 224, Resize: "letterbox", Region: whole},
			image.Rect(0, 0, 640, 480), image.Rect(0, 28, 224, 196),
		},
		"letterbox, the odd row below": {
			100, 51,
			wire.Add{Width: 100, Height: 52, Resize: "letterbox", Region: whole},
			image.Rect(0, 0, 100, 51), image.Rect(0, 0, 100, 51),
		},
		"letterbox of a thread": {
			10000, 1,
			wire.Add{Width: 50, Height: 50, Resize: "letterbox", Region: whole},
			image.Rect(0, 0, 10000, 1), image.Rect(0, 24, 50, 25),
		},
		"crop of a tall picture": {
			256, 340,
			wire.Add{Width: 224, Height: 224, Resize: "crop", Crop: 0.875, Region: whole},
			image.Rect(16, 58, 240, 282), image.Rect(0, 0, 224, 224),
		},
		"crop to another aspect": {
			300, 300,
			wire.Add{Width: 200, Height: 100, Resize: "crop", Crop: 1, Region: whole},
			image.Rect(0, 75, 300, 225), image.Rect(0, 0, 200, 100),
		},
		"region": {
			640, 480,
			wire.Add{Width: 64, Height: 48, Resize: "stretch", Region: [4]float64{0.25, 0.5, 0.5, 0.25}},
			image.Rect(160, 240, 480, 360), image.Rect(0, 0, 64, 48),
		},
		"region smaller than a pixel": {
			4, 4,
			wire.Add{Width: 9, Height: 9, Resize: "stretch", Region: [4]float64{0.999, 0.999, 0.001, 0.001}},
			image.Rect(3, 3, 4, 4), image.Rect(0, 0, 9, 9),
		},
		"one pixel": {
			1, 1,
			wire.Add{Width: 9, Height: 3, Resize: "crop", Crop: 0.1, Region: whole},
			image.Rect(0, 0, 1, 1), image.Rect(0, 0, 9, 3),
		},
	} {
		from, to := Place(test.w, test.h, test.g)
		if from != test.from || to != test.to {
			t.Errorf("%s: %v goes to %v, wanted %v to %v", name, from, to, test.from, test.to)
		}
	}
}
