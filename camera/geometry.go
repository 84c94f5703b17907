package camera

import (
	"fmt"
	"math"
	"slices"
)

// maxSide is how wide or high a lane may be.
const maxSide = 8192

// Geometry is what becomes of a picture on its way into a lane. With the source
// w×h pixels large after Region, and floor(x+0.5) as the rounding:
//
//   - stretch resizes to Width×Height.
//   - letterbox resizes to round(w·s) × round(h·s) with s = min(Width/w,
//     Height/h), at least 1, puts that at floor(half) of what is left over, and
//     fills the rest with Pad.
//   - crop cuts out the centred rectangle of the target's aspect, of
//     round(min(w, h·Width/Height)·Crop) × round(min(h, w·Height/Width)·Crop)
//     pixels, at least 1, at floor(half) of what is left over, and resizes it to
//     Width×Height.
//
// The resizing is OpenCV's with the filter's INTER_ constant; a picture that
// has its size already stays as it is.
type Geometry struct {
	Width, Height int    // of the lane, in pixels
	Resize        string // letterbox, crop or stretch
	Filter        string // nearest, linear, cubic or area
	Crop          float64
	Pad           uint8 // the grey around, in all three channels
	// Region is the part of the picture that is looked at: x, y, width and
	// height as shares of the picture's. Its edges are rounded to whole pixels.
	Region [4]float64
}

// withDefaults fills in what is zero: the whole picture.
func (g Geometry) withDefaults() Geometry {
	if g.Crop == 0 {
		g.Crop = 1
	}
	if g.Region == ([4]float64{}) {
		g.Region = [4]float64{0, 0, 1, 1}
	}
	return g
}

// Check returns what is wrong with the geometry.
func (g Geometry) Check() error {
	g = g.withDefaults()
	x, y, w, h := g.Region[0], g.Region[1], g.Region[2], g.Region[3]
	switch {
	case g.Width < 1 || g.Height < 1 || g.Width > maxSide || g.Height > maxSide:
		return fmt.Errorf("size %d×%d: wanted 1×1 to %d×%d", g.Width, g.Height, maxSide, maxSide)
	case !slices.Contains([]string{"letterbox", "crop", "stretch"}, g.Resize):
		return fmt.Errorf("resize %q: wanted letterbox, crop or stretch", g.Resize)
	case !slices.Contains([]string{"nearest", "linear", "cubic", "area"}, g.Filter):
		return fmt.Errorf("filter %q: wanted nearest, linear, cubic or area", g.Filter)
	case !(g.Crop > 0 && g.Crop <= 1):
		return fmt.Errorf("crop %v: wanted a share above 0, up to 1", g.Crop)
	case !(x >= 0 && y >= 0 && w > 0 && h > 0 && x+w <= 1+1e-9 && y+h <= 1+1e-9) || math.IsInf(x+y+w+h, 0):
		return fmt.Errorf("region [%v, %v, %v, %v]: wanted x, y, width, height as shares of the picture, inside it", x, y, w, h)
	}
	return nil
}
