package daemon

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"time"

	"golang.org/x/image/draw"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/mqtt"
)

// Bounds of snapshots.
const (
	// maxJPEG has the reply, whose image takes 4 bytes for 3, keep below 128 KiB:
	// some brokers take no more (AWS IoT Core, as its quotas say).
	maxJPEG        = 92 << 10
	leastWidth     = 16
	mostWidth      = 1920
	usualWidth     = 640
	usualQuality   = 80
	leastQuality   = 30               // below, a smaller picture shows more
	mostForPicture = 10 * time.Second // until a frame comes; mqtt allows a command 15 s
)

type snapshotArgs struct {
	mqtt.Request
	Camera  string `json:"camera"`
	Width   int    `json:"width"`   // pixels; 0: 640, or the camera's if that is less
	Quality int    `json:"quality"` // of JPEG, 1 to 100; 0: 80
}

// Snapshot is a picture of what is looked at: the camera's crop of the first
// frame after the command came.
type Snapshot struct {
	Camera      string    `json:"camera"`
	Frame       uint64    `json:"frame"` // counts the camera's frames, as in events
	Captured    mqtt.Time `json:"captured"`
	Width       int       `json:"width"`   // pixels; less than asked for where that was too large
	Height      int       `json:"height"`  // pixels
	Quality     int       `json:"quality"` // likewise
	ContentType string    `json:"content_type"`
	Image       []byte    `json:"image"` // base64
}

func (d *Daemon) commandSnapshot(ctx context.Context, a snapshotArgs) (any, error) {
	v, err := d.view(a.Camera)
	if err != nil {
		return nil, err
	}
	if a.Width != 0 && (a.Width < leastWidth || a.Width > mostWidth) {
		return nil, because(mqtt.RefusedInvalid, "width: found %d, wanted %d to %d", a.Width, leastWidth, mostWidth)
	}
	if a.Quality < 0 || a.Quality > 100 {
		return nil, because(mqtt.RefusedInvalid, "quality: found %d, wanted 1 to 100", a.Quality)
	}
	s := v.camera.Status()
	if s.State != camera.Online || s.Width == 0 || s.Height == 0 {
		return nil, because(noPicture, "camera %s is %s%s", v.name, s.State, prefixed(": ", s.Reason))
	}
	ctx, cancel := context.WithTimeout(ctx, mostForPicture)
	defer cancel()
	img, frame, err := picture(ctx, v, snapshotGeometry(v, s, a.Width))
	if err != nil {
		return nil, err
	}
	if a.Quality == 0 {
		a.Quality = usualQuality
	}
	img, data, quality, err := encodeWithin(img, a.Quality, maxJPEG)
	if err != nil {
		return nil, err
	}
	return &Snapshot{
		Camera: v.name, Frame: frame.Seq, Captured: mqtt.Time{Time: wall(time.Duration(frame.Captured))},
		Width: img.Rect.Dx(), Height: img.Rect.Dy(), Quality: quality, ContentType: "image/jpeg", Image: data,
	}, nil
}

// snapshotGeometry keeps the aspect of the part that is looked at, and makes it no
// larger than it is.
func snapshotGeometry(v view, s camera.Status, width int) camera.Geometry {
	w, h := float64(s.Width)*v.region[2], float64(s.Height)*v.region[3]
	if width == 0 {
		width = usualWidth
	}
	width = min(width, max(int(w+0.5), 1))
	height := max(int(math.Round(float64(width)*h/w)), 1)
	if most := 2 * mostWidth; height > most { // a strip
		width, height = max(width*most/height, 1), most
	}
	return camera.Geometry{Width: width, Height: height, Resize: "letterbox", Filter: "area", Region: v.region}
}

// picture is the next frame of a camera. The camera scales it for us alone, for
// as long as that takes.
func picture(ctx context.Context, v view, g camera.Geometry) (*image.RGBA, camera.Frame, error) {
	lane, err := v.camera.AddLane(g, 1)
	if err != nil {
		return nil, camera.Frame{}, because(noPicture, "%w", err)
	}
	defer v.camera.RemoveLane(lane)
	wake := make(chan struct{}, 1)
	lane.Notify(wake)
	for {
		if frame, ok := lane.Take(); ok {
			if frame.Err != "" {
				return nil, frame, because(noPicture, "frame %d of camera %s can't be read: %s", frame.Seq, v.name, frame.Err)
			}
			img := image.NewRGBA(image.Rect(0, 0, g.Width, g.Height))
			fromRGB(img.Pix, lane.Slots()[frame.Slot])
			return img, frame, nil
		}
		if lane.Ended() {
			return nil, camera.Frame{}, because(noPicture, "camera %s has ended", v.name)
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, camera.Frame{}, because(noPicture, "camera %s: no frame came: %w", v.name, ctx.Err())
		}
	}
}

// fromRGB makes opaque RGBA of packed RGB.
func fromRGB(rgba, rgb []byte) {
	for i, j := 0, 0; i+3 < len(rgba) && j+2 < len(rgb); i, j = i+4, j+3 {
		rgba[i], rgba[i+1], rgba[i+2], rgba[i+3] = rgb[j], rgb[j+1], rgb[j+2], 0xff
	}
}

// encodeWithin gives a JPEG of at most limit bytes: with a lower quality than asked
// for where it has to be, then of half the size, and so on.
func encodeWithin(img *image.RGBA, quality, limit int) (_ *image.RGBA, data []byte, _ int, err error) {
	for {
		var out bytes.Buffer
		if err := jpeg.Encode(&out, img, &jpeg.Options{Quality: quality}); err != nil {
			return nil, nil, 0, fmt.Errorf("encode the picture: %w", err)
		}
		w, h := img.Rect.Dx(), img.Rect.Dy()
		switch {
		case out.Len() <= limit:
			return img, out.Bytes(), quality, nil
		case quality > leastQuality:
			quality = max(quality-15, leastQuality)
		case w > 1 || h > 1:
			half := image.NewRGBA(image.Rect(0, 0, max(w/2, 1), max(h/2, 1)))
			draw.ApproxBiLinear.Scale(half, half.Rect, img, img.Rect, draw.Src, nil)
			img = half
		default:
			return nil, nil, 0, fmt.Errorf("no picture of at most %d bytes can be made", limit)
		}
	}
}
