//go:build gocv_specific_modules

// Package capture reads frames with OpenCV and scales them. It is the only
// door to gocv. Nothing in it is safe for concurrent use: one goroutine, tied
// to its thread, owns a source and all that it reads into.
package capture

import (
	"fmt"
	"image"
	"math"

	"gocv.io/x/gocv"

	"github.com/sightd/sightd/camera/internal/wire"
)

// Scaler turns frames into a lane's pictures, as camera.Geometry says.
type Scaler struct {
	g      wire.Add
	filter gocv.InterpolationFlags
	scaled gocv.Mat // between resizing and the slot
	views  []view   // of each slot
}

// view is a slot's memory as OpenCV sees it: the part that the picture covers.
type view struct {
	at  image.Rectangle
	mat gocv.Mat
}

var filters = map[string]gocv.InterpolationFlags{
	"nearest": gocv.InterpolationNearestNeighbor,
	"linear":  gocv.InterpolationLinear,
	"cubic":   gocv.InterpolationCubic,
	"area":    gocv.InterpolationArea,
}

// NewScaler scales into the slots of a lane, each Height×Width×3 bytes.
func NewScaler(g wire.Add, slots int) (*Scaler, error) {
	filter, ok := filters[g.Filter]
	if !ok {
		return nil, fmt.Errorf("unknown filter %q", g.Filter)
	}
	return &Scaler{g: g, filter: filter, scaled: gocv.NewMat(), views: make([]view, slots)}, nil
}

// Close frees OpenCV's memory. The slots stay.
func (s *Scaler) Close() {
	s.scaled.Close()
	for i := range s.views {
		s.views[i].close()
	}
}

// Forget makes nothing of what slot i holds: somebody else has written there.
func (s *Scaler) Forget(i int) { s.views[i].close() }

func (v *view) close() {
	if !v.at.Empty() {
		v.mat.Close()
		v.at = image.Rectangle{}
	}
}

// Scale writes a frame, which is BGR, grey or BGRA of 8 bits, into slot i, whose
// memory is pixels.
func (s *Scaler) Scale(frame gocv.Mat, i int, pixels []byte) error {
	code, err := toRGB(frame)
	if err != nil {
		return err
	}
	from, to := Place(frame.Cols(), frame.Rows(), s.g)
	if err := s.place(i, to, pixels); err != nil {
		return err
	}
	src := frame
	if from != image.Rect(0, 0, frame.Cols(), frame.Rows()) {
		cut := frame.Region(from)
		defer cut.Close()
		src = cut
	}
	if from.Size() != to.Size() {
		if err := gocv.Resize(src, &s.scaled, to.Size(), 0, 0, s.filter); err != nil {
			return fmt.Errorf("resize %v to %v: %w", from.Size(), to.Size(), err)
		}
		src = s.scaled
	}
	if err := gocv.CvtColor(src, &s.views[i].mat, code); err != nil {
		return fmt.Errorf("convert to RGB: %w", err)
	}
	return nil
}

// place makes OpenCV's view of a slot, and its grey borders, where the picture
// isn't where the slot's last one was.
func (s *Scaler) place(i int, to image.Rectangle, pixels []byte) error {
	v := &s.views[i]
	if v.at == to {
		return nil
	}
	v.close()
	if to.Dx() != s.g.Width || to.Dy() != s.g.Height {
		for j := range pixels {
			pixels[j] = s.g.Pad
		}
	}
	whole, err := gocv.NewMatFromBytes(s.g.Height, s.g.Width, gocv.MatTypeCV8UC3, pixels)
	if err != nil {
		return fmt.Errorf("view a slot: %w", err)
	}
	defer whole.Close()
	v.mat, v.at = whole.Region(to), to
	return nil
}

func toRGB(frame gocv.Mat) (gocv.ColorConversionCode, error) {
	switch frame.Type() {
	case gocv.MatTypeCV8UC3:
		return gocv.ColorBGRToRGB, nil
	case gocv.MatTypeCV8UC1:
		return gocv.ColorGrayToBGR, nil
	case gocv.MatTypeCV8UC4:
		return gocv.ColorBGRAToRGB, nil
	default:
		return 0, fmt.Errorf("a frame of type %v: wanted 8 bits, grey or colour: end the pipeline with videoconvert ! video/x-raw,format=BGR", frame.Type())
	}
}

// Place says which part of a w×h picture goes where in a lane. camera.Geometry
// documents it.
func Place(w, h int, g wire.Add) (from, to image.Rectangle) {
	from = region(w, h, g.Region)
	w, h = from.Dx(), from.Dy()
	W, H := float64(g.Width), float64(g.Height)
	to = image.Rect(0, 0, g.Width, g.Height)
	switch g.Resize {
	case "letterbox":
		s := min(W/float64(w), H/float64(h))
		to = centred(to, round(float64(w)*s, g.Width), round(float64(h)*s, g.Height))
	case "crop":
		cw := min(float64(w), float64(h)*W/H) * g.Crop
		ch := min(float64(h), float64(w)*H/W) * g.Crop
		from = centred(from, round(cw, w), round(ch, h))
	}
	return from, to
}

// region is the part that is looked at, in whole pixels and at least one.
func region(w, h int, r [4]float64) image.Rectangle {
	edges := func(n int, at, size float64) (int, int) {
		lo := min(int(math.Floor(float64(at*float64(n))+0.5)), n-1)
		return lo, max(lo+1, min(int(math.Floor(float64((at+size)*float64(n))+0.5)), n))
	}
	x0, x1 := edges(w, r[0], r[2])
	y0, y1 := edges(h, r[1], r[3])
	return image.Rect(x0, y0, x1, y1)
}

// round is the nearest whole number from 1 to most. The conversion keeps the
// product from being fused with the addition, so that every machine rounds alike.
func round(x float64, most int) int {
	return min(max(int(math.Floor(float64(x)+0.5)), 1), most)
}

// centred is a w×h rectangle in the middle of r.
func centred(r image.Rectangle, w, h int) image.Rectangle {
	at := r.Min.Add(image.Pt((r.Dx()-w)/2, (r.Dy()-h)/2))
	return image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))}
}
