// Package imagefile looks at an image file before OpenCV gets it. OpenCV fills
// what is missing of a JPEG with grey and says nothing, allocates what a header
// claims, and explains nothing when it refuses.
package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"
)

// Limits on what is decoded: a picture of MaxPixels takes 300 MB.
const (
	MaxSide   = 16384
	MaxPixels = 100_000_000
	MaxBytes  = 512 << 20
)

var errShort = errors.New("cut short")

// Info is what an image file says about itself.
type Info struct {
	Format        string // JPEG, PNG, BMP, TIFF, WebP or PNM
	Width, Height int    // as stored, before any rotation
}

type format struct {
	name   string
	is     func([]byte) bool
	header func([]byte) (width, height int, err error)
}

var formats = []format{
	{"JPEG", prefix("\xff\xd8\xff"), jpegHeader},
	{"PNG", prefix("\x89PNG\r\n\x1a\n"), pngHeader},
	{"BMP", prefix("BM"), bmpHeader},
	{"TIFF", prefix("II*\x00", "MM\x00*"), tiffHeader},
	{"WebP", func(b []byte) bool { return len(b) >= 12 && string(b[:4]) == "RIFF" && string(b[8:12]) == "WEBP" }, webpHeader},
	{"PNM", isPNM, pnmHeader},
}

var extensions = []string{".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".pbm", ".pgm", ".ppm", ".pnm"}

// Named is whether a path has the extension of an image.
func Named(path string) bool {
	return slices.Contains(extensions, strings.ToLower(filepath.Ext(path)))
}

// Is is whether the beginning of a file is that of an image.
func Is(head []byte) bool {
	return slices.ContainsFunc(formats, func(f format) bool { return f.is(head) })
}

// Check reads an image's header and looks whether the file is whole. The error
// says what is wrong with it, but not which file it is.
func Check(data []byte) (Info, error) {
	if len(data) == 0 {
		return Info{}, errors.New("is empty")
	}
	for _, f := range formats {
		if !f.is(data) {
			continue
		}
		w, h, err := f.header(data)
		switch {
		case w < 0 || h < 0 || w > MaxSide || h > MaxSide || w*h > MaxPixels:
			return Info{}, fmt.Errorf("is a %s of %d×%d pixels, at most %d a side and %d million are decoded: scale it down",
				f.name, w, h, MaxSide, MaxPixels/1_000_000)
		case errors.Is(err, errShort):
			return Info{}, fmt.Errorf("is a %s that is cut short after %d bytes", f.name, len(data))
		case err != nil:
			return Info{}, fmt.Errorf("is a broken %s: %w", f.name, err)
		case w == 0 || h == 0:
			return Info{}, fmt.Errorf("is a %s of %d×%d pixels", f.name, w, h)
		}
		return Info{Format: f.name, Width: w, Height: h}, nil
	}
	return Info{}, errors.New("is not an image: wanted JPEG, PNG, BMP, TIFF, WebP or PNM")
}

func prefix(magics ...string) func([]byte) bool {
	return func(b []byte) bool {
		return slices.ContainsFunc(magics, func(m string) bool { return bytes.HasPrefix(b, []byte(m)) })
	}
}

// pngHeader walks the chunks up to IEND.
func pngHeader(b []byte) (w, h int, err error) {
	b = b[8:]
	for first := true; ; first = false {
		if len(b) < 12 {
			return w, h, errShort
		}
		n, kind := binary.BigEndian.Uint32(b), string(b[4:8])
		if first {
			if kind != "IHDR" || n != 13 {
				return 0, 0, errors.New("it does not begin with IHDR")
			}
			if len(b) < 12+13 {
				return 0, 0, errShort
			}
			w, h = side(binary.BigEndian.Uint32(b[8:])), side(binary.BigEndian.Uint32(b[12:]))
		}
		if uint64(n)+12 > uint64(len(b)) {
			return w, h, errShort
		}
		if kind == "IEND" {
			return w, h, nil
		}
		b = b[n+12:]
	}
}

func bmpHeader(b []byte) (w, h int, err error) {
	if len(b) < 26 {
		return 0, 0, errShort
	}
	if binary.LittleEndian.Uint32(b[14:]) == 12 { // OS/2
		w, h = int(binary.LittleEndian.Uint16(b[18:])), int(binary.LittleEndian.Uint16(b[20:]))
	} else {
		w, h = int(int32(binary.LittleEndian.Uint32(b[18:]))), int(int32(binary.LittleEndian.Uint32(b[22:])))
		h = max(h, -h) // negative: from the top down
	}
	if size := binary.LittleEndian.Uint32(b[2:]); uint64(size) > uint64(len(b)) {
		return w, h, errShort
	}
	return w, h, nil
}

func tiffHeader(b []byte) (w, h int, err error) {
	c, err := tiff.DecodeConfig(bytes.NewReader(b))
	return c.Width, c.Height, short(err)
}

func webpHeader(b []byte) (w, h int, err error) {
	c, err := webp.DecodeConfig(bytes.NewReader(b))
	if uint64(binary.LittleEndian.Uint32(b[4:]))+8 > uint64(len(b)) {
		err = errShort
	}
	return c.Width, c.Height, short(err)
}

func isPNM(b []byte) bool {
	return len(b) >= 3 && b[0] == 'P' && b[1] >= '1' && b[1] <= '6' && strings.IndexByte(" \t\r\n#", b[2]) >= 0
}

// pnmHeader reads width and height behind the magic: numbers with white space
// and comments between them.
func pnmHeader(b []byte) (w, h int, err error) {
	b = b[2:]
	var v [2]int
	for i := range v {
		b = bytes.TrimLeft(b, " \t\r\n")
		for len(b) > 0 && b[0] == '#' {
			_, b, _ = bytes.Cut(b, []byte("\n"))
			b = bytes.TrimLeft(b, " \t\r\n")
		}
		n := 0
		for n < len(b) && b[n] >= '0' && b[n] <= '9' {
			v[i] = min(v[i]*10+int(b[n]-'0'), 1<<30)
			n++
		}
		if n == len(b) {
			return 0, 0, errShort
		}
		if n == 0 {
			return 0, 0, fmt.Errorf("its header has %q where a number should be", b[0])
		}
		b = b[n:]
	}
	return v[0], v[1], nil
}

// side is a size from a header, where what is negative as int32 is just large.
func side(v uint32) int { return int(min(v, 1<<31-1)) }

func short(err error) error {
	// The decoders of images tell a file's early end in several ways.
	if err != nil && (strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "short")) {
		return errShort
	}
	return err
}
