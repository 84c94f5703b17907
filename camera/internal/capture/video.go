//go:build gocv_specific_modules

package capture

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"gocv.io/x/gocv"

	"github.com/sightd/sightd/camera/internal/source"
	"github.com/sightd/sightd/camera/internal/wire"
)

// Properties of FFmpeg's back end that gocv has no names for, in ms.
const (
	openTimeout = 53
	readTimeout = 54
)

// open opens a capture. gocv's own errors quote the address with its
// credentials, so they go no further.
func open(name string, api gocv.VideoCaptureAPI, params ...gocv.VideoCaptureProperties) (*gocv.VideoCapture, error) {
	if !slices.Contains(gocv.VideoRegistry.GetStreamBackends(), api) {
		return nil, fmt.Errorf("OpenCV %s here was built without %s", Version(), gocv.VideoRegistry.GetBackendName(api))
	}
	var c *gocv.VideoCapture
	var err error
	if len(params) > 0 {
		c, err = gocv.VideoCaptureFileWithAPIParams(name, api, params)
	} else {
		c, err = gocv.VideoCaptureFileWithAPI(name, api)
	}
	if err == nil && c.IsOpened() {
		return c, nil
	}
	c.Close()
	return nil, errOpen
}

var errOpen = errors.New("can't be opened")

func openStream(url string, s wire.Settings) (Source, error) {
	name := source.Redact(url)
	// Later than the daemon's own patience: it finds a stall first, and this
	// brings the call back for an orderly end.
	read := time.Duration(s.Read) * 3 / 2
	c, err := open(url, gocv.VideoCaptureFFmpeg,
		openTimeout, gocv.VideoCaptureProperties(time.Duration(s.Open).Milliseconds()),
		readTimeout, gocv.VideoCaptureProperties(read.Milliseconds()))
	if errors.Is(err, errOpen) {
		return nil, fmt.Errorf("%s can't be opened: the host doesn't answer, refuses the credentials or the path, or sends a codec that FFmpeg lacks", name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &live{VideoCapture: c, name: name}, nil
}

func openPipeline(pipeline string) (Source, error) {
	if !strings.Contains(pipeline, "appsink") {
		pipeline += " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
	}
	name := "gst:" + source.Redact(pipeline)
	c, err := open(pipeline, gocv.VideoCaptureGstreamer)
	if errors.Is(err, errOpen) {
		return nil, fmt.Errorf("%s can't be started: try it with gst-launch-1.0, with fakesink for appsink; is an element's plugin missing?", name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &live{VideoCapture: c, name: name}, nil
}

func openDevice(path string, s wire.Settings) (Source, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no device %s: is the camera plugged in?", path)
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeCharDevice == 0:
		return nil, fmt.Errorf("%s is no device", path)
	case syscall.Access(path, 6) != nil:
		return nil, fmt.Errorf("%s may not be read and written: the user sightd runs as belongs into the group video", path)
	}
	c, err := open(path, gocv.VideoCaptureV4L2)
	if errors.Is(err, errOpen) {
		return nil, fmt.Errorf("%s is no camera, or another program uses it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if s.Width > 640 {
		// USB gives larger pictures at full rate only as JPEGs. A device that has
		// none keeps its own format.
		c.Set(gocv.VideoCaptureFOURCC, c.ToCodec("MJPG"))
	}
	if s.Width > 0 {
		c.Set(gocv.VideoCaptureFrameWidth, float64(s.Width))
		c.Set(gocv.VideoCaptureFrameHeight, float64(s.Height))
	}
	if s.FPS > 0 {
		c.Set(gocv.VideoCaptureFPS, s.FPS)
	}
	return &live{VideoCapture: c, name: path}, nil
}

// video is a file that FFmpeg reads.
type video struct {
	c      *gocv.VideoCapture
	period time.Duration
	frames int // that the file promises
	index  int // of the next frame
}

func openVideo(path string) (*video, error) {
	c, err := open(path, gocv.VideoCaptureFFmpeg)
	if errors.Is(err, errOpen) {
		return nil, errors.New("is neither an image nor a video that FFmpeg can read: it is damaged, or its codec is missing")
	}
	if err != nil {
		return nil, err
	}
	w, h := c.Get(gocv.VideoCaptureFrameWidth), c.Get(gocv.VideoCaptureFrameHeight)
	if !(w >= 1 && h >= 1 && w <= 1<<16 && h <= 1<<16) {
		c.Close()
		return nil, fmt.Errorf("is a video of %v×%v pixels", w, h)
	}
	fps := c.Get(gocv.VideoCaptureFPS)
	if !(fps >= 0.01 && fps <= 1000) {
		fps = 25 // what promises no rate is shown as film is
	}
	return &video{
		c:      c,
		period: time.Duration(float64(time.Second) / fps),
		frames: int(min(max(c.Get(gocv.VideoCaptureFrameCount), 0), 1<<40)),
	}, nil
}

// skip passes over frames.
func (v *video) skip(frames int) {
	_ = v.c.Grab(frames) // at the end Read says so
	v.index += frames
}

func (v *video) read(m *gocv.Mat) error {
	if !v.c.Read(m) || m.Empty() {
		switch {
		case v.index == 0:
			return fmt.Errorf("is a video of which %w: it is damaged, or its codec is missing", errNoFrame)
		case v.frames-v.index > max(2, v.frames/20):
			return fmt.Errorf("ends after %d of %d frames: it is cut short", v.index, v.frames)
		}
		return io.EOF
	}
	v.index++
	return nil
}

func (v *video) close() { v.c.Close() }
