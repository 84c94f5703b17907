package camera

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

func encoded(t *testing.T, encode func(*bytes.Buffer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func jpegOf(t *testing.T, img image.Image) []byte {
	return encoded(t, func(b *bytes.Buffer) error { return jpeg.Encode(b, img, &jpeg.Options{Quality: 90}) })
}

func pngOf(t *testing.T, img image.Image) []byte {
	return encoded(t, func(b *bytes.Buffer) error { return png.Encode(b, img) })
}

// turned puts an EXIF orientation into a JPEG: 6 means that it is to be turned
// by 90° for display.
func turned(jpeg []byte) []byte {
	exif := "Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
	app1 := append([]byte{0xff, 0xe1, 0, byte(len(exif) + 2)}, exif...)
	return append(append(append([]byte{}, jpeg[:2]...), app1...), jpeg[2:]...)
}

// as converts a picture to another kind, such as grey or 16 bits.
func as[T draw.Image](to T, from image.Image) T {
	draw.Draw(to, to.Bounds(), from, image.Point{}, draw.Src)
	return to
}

// goodImages are images of every kind that is decoded.
func goodImages(t *testing.T) map[string][]byte {
	img := picture(60, 44)
	r := img.Bounds()
	clear := picture(60, 44)
	for i := 3; i < len(clear.Pix); i += 8 {
		clear.Pix[i] = 77
	}
	var ppm bytes.Buffer
	ppm.WriteString("P6\n# a comment\n60 44\n255\n")
	for i := 0; i < len(img.Pix); i += 4 {
		ppm.Write(img.Pix[i : i+3])
	}
	return map[string][]byte{
		"16-bit.png":   pngOf(t, as(image.NewRGBA64(r), img)),
		"1x1.jpg":      jpegOf(t, picture(1, 1)),
		"1x1.png":      pngOf(t, picture(1, 1)),
		"alpha.png":    pngOf(t, clear),
		"color.bmp":    encoded(t, func(b *bytes.Buffer) error { return bmp.Encode(b, img) }),
		"color.jpg":    jpegOf(t, img),
		"color.ppm":    ppm.Bytes(),
		"color.tif":    encoded(t, func(b *bytes.Buffer) error { return tiff.Encode(b, img, nil) }),
		"grey.jpg":     jpegOf(t, as(image.NewGray(r), img)),
		"grey16.png":   pngOf(t, as(image.NewGray16(r), img)),
		"palette.png":  pngOf(t, as(image.NewPaletted(r, color.Palette{color.Black, color.White, color.NRGBA{200, 30, 90, 255}}), img)),
		"turned.jpg":   turned(jpegOf(t, img)),
		"trailing.jpg": append(jpegOf(t, img), "more behind the end"...),
		"no extension": jpegOf(t, img),
	}
}

func TestImagesOfEveryKindEqualTheReference(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var files []string
	for name, data := range goodImages(t) {
		files = append(files, writeFile(t, filepath.Join(dir, name), data))
	}
	c := open(t, Options{Files: files})
	l := lane(t, c, Geometry{Width: 50, Height: 50, Resize: "letterbox", Filter: "linear"}, 1)
	want := reference(t, files, []*Lane{l})
	run(t, c)
	for i, file := range files {
		f, ok := next(t, l)
		if !ok || f.File != i || f.Err != "" {
			t.Fatalf("%s: frame %+v, %v", filepath.Base(file), f, ok)
		}
		if got := l.Slots()[f.Slot]; !bytes.Equal(got, want[i][0]) {
			t.Errorf("%s: %s", filepath.Base(file), difference(got, want[i][0]))
		}
		if strings.HasSuffix(file, "turned.jpg") && (f.Width != 44 || f.Height != 60) {
			t.Errorf("turned.jpg is %d×%d, wanted 44×60", f.Width, f.Height)
		}
		l.Release(f)
	}
}

// A file that can't be read gives a frame that says why, and the rest follows.
func TestBadFilesAreTold(t *testing.T) {
	t.Parallel()
	good := goodImages(t)
	half := func(name string) []byte { return good[name][:len(good[name])/2] }
	for name, test := range map[string]struct {
		data []byte
		err  string
	}{
		"half.jpg":   {half("color.jpg"), "is a JPEG that is cut short"},
		"noend.jpg":  {good["color.jpg"][:len(good["color.jpg"])-2], "is a JPEG that is cut short"},
		"half.png":   {half("alpha.png"), "is a PNG that is cut short"},
		"noend.png":  {good["alpha.png"][:len(good["alpha.png"])-12], "is a PNG that is cut short"},
		"half.bmp":   {half("color.bmp"), "is a BMP that is cut short"},
		"half.tif":   {half("color.tif"), "TIFF"},
		"half.ppm":   {half("color.ppm"), "is a PNM that OpenCV can't decode"},
		"empty.jpg":  {nil, "is empty"},
		"text.jpg":   {[]byte("this is no image at all"), "is not an image: wanted JPEG, PNG"},
		"text.bin":   {[]byte("this is no image at all"), "is neither an image nor a video"},
		"wide.png":   {claiming(good["alpha.png"], 30000, 2), "is a PNG of 30000×2 pixels, at most 16384 a side"},
		"many.png":   {claiming(good["alpha.png"], 12000, 9000), "is a PNG of 12000×9000 pixels"},
		"damage.png": {damaged(good["alpha.png"]), "is a PNG that OpenCV can't decode"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			files := []string{
				writeFile(t, filepath.Join(dir, "before.jpg"), good["color.jpg"]),
				writeFile(t, filepath.Join(dir, name), test.data),
				writeFile(t, filepath.Join(dir, "after.png"), good["alpha.png"]),
			}
			frames := all(t, files)
			if len(frames) != 3 || frames[0].Err != "" || frames[2].Err != "" {
				t.Fatalf("frames %+v", frames)
			}
			bad := frames[1]
			if bad.File != 1 || !strings.Contains(bad.Err, test.err) || !strings.Contains(bad.Err, name) {
				t.Errorf("frame %+v, wanted an error with %q and the path", bad, test.err)
			}
		})
	}
	t.Run("absent", func(t *testing.T) {
		t.Parallel()
		frames := all(t, []string{"/no/such/file.jpg", t.TempDir()})
		if len(frames) != 2 || !strings.Contains(frames[0].Err, "/no/such/file.jpg: no such file") ||
			!strings.Contains(frames[1].Err, "is not a file") {
			t.Errorf("frames %+v", frames)
		}
	})
}

// claiming changes the size that a PNG's header states.
func claiming(data []byte, w, h uint32) []byte {
	data = bytes.Clone(data)
	binary.BigEndian.PutUint32(data[16:], w)
	binary.BigEndian.PutUint32(data[20:], h)
	return data
}

// damaged turns bits over in the middle.
func damaged(data []byte) []byte {
	data = bytes.Clone(data)
	for i := len(data) / 2; i < len(data)/2+40; i++ {
		data[i] ^= 0x5a
	}
	return data
}

// all is the frames that a list of files gives.
func all(t *testing.T, files []string) []Frame {
	t.Helper()
	c := open(t, Options{Files: files})
	l := lane(t, c, small, 1)
	run(t, c)
	var frames []Frame
	for f, ok := next(t, l); ok; f, ok = next(t, l) {
		frames = append(frames, f)
		l.Release(f)
	}
	return frames
}
