//go:build gocv_specific_modules

package capture

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"gocv.io/x/gocv"

	"github.com/sightd/sightd/camera/internal/source"
	"github.com/sightd/sightd/camera/internal/wire"
)

// pattern makes pictures to test with:
//
//	bars      eight colour bars with a dark line that moves down
//	counter   every pixel's red, green and blue are the frame's index, the
//	          highest of its three bytes first
//	gradient  red grows to the right, green downwards, blue with the frames
//	noise     random, the same at every start
type pattern struct {
	name          string
	width, height int
	period        time.Duration
	index, frames int
}

func newPattern(src source.Source, s wire.Settings) *pattern {
	return &pattern{
		name: src.Name, frames: src.Frames, index: s.From.Index,
		width: cmp.Or(s.Width, 640), height: cmp.Or(s.Height, 480),
		period: time.Duration(float64(time.Second) / cmp.Or(s.FPS, 30)),
	}
}

func (p *pattern) Close() error { return nil }

func (p *pattern) Read(m *gocv.Mat) (Info, error) {
	if p.frames > 0 && p.index >= p.frames {
		return Info{}, io.EOF
	}
	start := time.Now()
	if m.Cols() != p.width || m.Rows() != p.height {
		m.Close()
		*m = gocv.NewMatWithSize(p.height, p.width, gocv.MatTypeCV8UC3)
	}
	bgr, err := m.DataPtrUint8()
	if err != nil {
		return Info{}, fmt.Errorf("test:%s: %w", p.name, err)
	}
	p.draw(bgr)
	info := Info{Index: p.index, Width: p.width, Height: p.height, Period: p.period, Decode: time.Since(start)}
	p.index++
	return info, nil
}

var bars = [8][3]byte{
	{255, 255, 255},
	{0, 255, 255},
	{255, 255, 0},
	{0, 255, 0},
	{255, 0, 255},
	{0, 0, 255},
	{255, 0, 0},
	{0, 0, 0},
}

func (p *pattern) draw(bgr []byte) {
	random := uint64(p.index)*0x9e3779b97f4a7c15 + 1
	for y := range p.height {
		row := bgr[3*p.width*y:][:3*p.width]
		for x := range p.width {
			pixel := row[3*x:][:3]
			switch p.name {
			case "bars":
				copy(pixel, bars[8*x/p.width][:])
				if y == p.index%p.height {
					copy(pixel, []byte{64, 64, 64})
				}
			case "counter":
				pixel[0], pixel[1], pixel[2] = byte(p.index), byte(p.index>>8), byte(p.index>>16)
			case "gradient":
				pixel[0], pixel[1], pixel[2] = byte(p.index), byte(256*y/p.height), byte(256*x/p.width)
			case "noise":
				random ^= random << 13
				random ^= random >> 7
				random ^= random << 17
				pixel[0], pixel[1], pixel[2] = byte(random), byte(random>>8), byte(random>>16)
			}
		}
	}
}
