//go:build gocv_specific_modules

package capture

import (
	"errors"
	"fmt"
	"time"

	"gocv.io/x/gocv"

	"github.com/sightd/sightd/camera/internal/source"
	"github.com/sightd/sightd/camera/internal/wire"
)

// Info is which frame was read.
type Info struct {
	File, Index   int
	Width, Height int // of the source
	// Period is how long the frame stands at the source's own pace; 0 where it
	// comes when it comes.
	Period time.Duration
	Decode time.Duration // 0 where it can't be told from waiting
}

// FileError is one file that can't be read, wholly or from here on. The source
// goes on with the next.
type FileError struct {
	File int
	Err  error
	// Partial is set where frames of the file were given before.
	Partial bool
}

func (e *FileError) Error() string { return e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

// Source gives frames.
type Source interface {
	// Read waits for the next frame and puts it into m. It returns io.EOF at the
	// end, a *FileError where one file is to be left out, and other errors when
	// the source has to be opened again.
	Read(m *gocv.Mat) (Info, error)
	Close() error
}

// SetThreads gives OpenCV as many threads as it may use.
func SetThreads(threads int) { gocv.SetNumThreads(threads) }

// Version is OpenCV's version.
func Version() string { return gocv.OpenCVVersion() }

// Open opens what the settings name.
func Open(s wire.Settings) (Source, source.Source, error) {
	if len(s.Files) > 0 {
		return newPlaylist(s.Files, s), source.Source{Kind: source.Files, Each: true}, nil
	}
	src, err := source.Parse(s.Source)
	if err != nil {
		return nil, src, err
	}
	var opened Source
	switch src.Kind {
	case source.File:
		p := newPlaylist([]string{src.Name}, s)
		p.loop = src.Loop
		opened, err = p, p.probe()
	case source.Images:
		opened, err = openFolder(src, s)
	case source.V4L2:
		opened, err = openDevice(src.Name, s)
	case source.RTSP:
		opened, err = openStream(src.Name, s)
	case source.GST:
		opened, err = openPipeline(src.Name)
	case source.Test:
		opened = newPattern(src, s)
	}
	if err != nil {
		return nil, src, err
	}
	return opened, src, nil
}

var errNoFrame = errors.New("no frame can be decoded")

// live is a source that never ends by itself: when it does, it has failed.
type live struct {
	*gocv.VideoCapture
	name  string
	index int
}

func (l *live) Read(m *gocv.Mat) (Info, error) {
	if !l.VideoCapture.Read(m) || m.Empty() {
		if l.index == 0 {
			return Info{}, fmt.Errorf("%s: opened, but gives no frame", l.name)
		}
		return Info{}, fmt.Errorf("%s: the stream ended after %d frames", l.name, l.index)
	}
	info := Info{Index: l.index, Width: m.Cols(), Height: m.Rows()}
	l.index++
	return info, nil
}
