//go:build gocv_specific_modules

package capture

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gocv.io/x/gocv"

	"github.com/sightd/sightd/camera/internal/imagefile"
	"github.com/sightd/sightd/camera/internal/source"
	"github.com/sightd/sightd/camera/internal/wire"
)

// playlist gives the frames of images and videos, one file after the other.
type playlist struct {
	paths  []string
	loop   bool
	period time.Duration // an image stands for so long

	file    int    // the next or present one
	video   *video // the present one, if it is a video
	from    int    // frames of it to pass over
	crashed bool   // the first file has ended workers: leave it out
	given   bool   // this round gave a frame
}

// imageRate is how many images a second are shown where nothing else is said.
const imageRate = 1

func newPlaylist(paths []string, s wire.Settings) *playlist {
	return &playlist{
		paths:  paths,
		period: time.Duration(float64(time.Second) / cmp.Or(s.FPS, imageRate)),
		file:   s.From.File, from: s.From.Index, crashed: s.Skip,
	}
}

// openFolder lists a folder's images by name.
func openFolder(src source.Source, s wire.Settings) (Source, error) {
	entries, err := os.ReadDir(src.Name)
	if err != nil {
		return nil, fmt.Errorf("images:%s: %w", src.Name, unwrapPath(err))
	}
	var paths []string
	for _, e := range entries { // ReadDir sorts
		if !e.IsDir() && imagefile.Named(e.Name()) {
			paths = append(paths, filepath.Join(src.Name, e.Name()))
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("images:%s: no images there: wanted files that end in .jpg, .png, .bmp, .tif, .webp or .ppm", src.Name)
	}
	p := newPlaylist(paths, s)
	p.loop = src.Loop
	return p, nil
}

// probe opens the only file ahead of time, so that an absent or unknown one is
// told as the source's fault.
func (p *playlist) probe() error {
	if p.crashed || p.file > 0 {
		return nil
	}
	if err := p.open(); err != nil && !errors.Is(err, errIsImage) {
		return fmt.Errorf("file:%s: %w", p.paths[0], err)
	}
	return nil
}

func (p *playlist) Read(m *gocv.Mat) (Info, error) {
	if p.crashed {
		p.crashed = false
		return p.fail(errors.New("ended the program that decodes it, twice: it is damaged, or meets a fault in OpenCV or FFmpeg"))
	}
	for {
		if p.file >= len(p.paths) {
			if !p.loop {
				return Info{}, io.EOF
			}
			if !p.given {
				return Info{}, fmt.Errorf("none of %d files can be read", len(p.paths))
			}
			p.file, p.given = 0, false
		}
		start := time.Now()
		if p.video == nil {
			switch err := p.open(); {
			case errors.Is(err, errIsImage) && p.from > 0:
				p.next() // it was given before the worker's restart
				p.given = true
				continue
			case errors.Is(err, errIsImage):
				return p.image(m, start)
			case err != nil:
				return p.fail(err)
			}
		}
		v := p.video
		switch err := v.read(m); {
		case errors.Is(err, io.EOF):
			p.next()
		case err != nil:
			return p.fail(err)
		default:
			p.given = true
			return Info{
				File: p.file, Index: v.index - 1, Width: m.Cols(), Height: m.Rows(),
				Period: v.period, Decode: time.Since(start),
			}, nil
		}
	}
}

func (p *playlist) image(m *gocv.Mat, start time.Time) (Info, error) {
	if err := decodeImage(p.paths[p.file], m); err != nil {
		return p.fail(err)
	}
	info := Info{
		File: p.file, Width: m.Cols(), Height: m.Rows(),
		Period: p.period, Decode: time.Since(start),
	}
	p.given = true
	p.next()
	return info, nil
}

func (p *playlist) fail(err error) (Info, error) {
	e := &FileError{File: p.file, Err: fmt.Errorf("%s: %w", p.paths[p.file], err)}
	if p.video != nil {
		e.Partial = p.video.index > 0
	}
	p.next()
	return Info{File: e.File}, e
}

// next leaves the present file behind.
func (p *playlist) next() {
	p.Close()
	p.file++
	p.from = 0
}

// open opens the file as a video, unless it is an image.
func (p *playlist) open() error {
	path := p.paths[p.file]
	is, err := isImage(path)
	if err != nil {
		return err
	}
	if is {
		return errIsImage
	}
	if p.video, err = openVideo(path); err != nil {
		return err
	}
	if p.from > 0 {
		p.video.skip(p.from)
	}
	return nil
}

func (p *playlist) Close() error {
	if p.video != nil {
		p.video.close()
		p.video = nil
	}
	return nil
}

var errIsImage = errors.New("is an image")

// isImage tells images from videos by their content, or by the name where the
// content is that of neither.
func isImage(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, unwrapPath(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return false, unwrapPath(err)
	case !info.Mode().IsRegular():
		return false, errors.New("is not a file")
	case info.Size() == 0:
		return false, errors.New("is empty")
	}
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, unwrapPath(err)
	}
	return imagefile.Is(head[:n]) || imagefile.Named(path), nil
}

// decodeImage puts an image into m as 8-bit BGR, turned as its EXIF data says:
// what OpenCV's imread gives.
func decodeImage(path string, m *gocv.Mat) error {
	data, err := readFile(path)
	if err != nil {
		return err
	}
	info, err := imagefile.Check(data)
	if err != nil {
		return err
	}
	img, err := gocv.IMDecode(data, gocv.IMReadColor)
	if err != nil || img.Empty() {
		img.Close()
		return fmt.Errorf("is a %s that OpenCV can't decode: it is damaged, or of a kind that OpenCV doesn't know", info.Format)
	}
	m.Close()
	*m = img
	return nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unwrapPath(err)
	}
	if info.Size() > imagefile.MaxBytes {
		return nil, fmt.Errorf("has %d bytes, at most %d are read", info.Size(), imagefile.MaxBytes)
	}
	data, err := os.ReadFile(path)
	return data, unwrapPath(err)
}

// unwrapPath takes the path out of an error that names it again.
func unwrapPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
