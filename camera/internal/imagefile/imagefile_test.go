package imagefile

import (
	"bytes"
	"image"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

// samples are small images of each format.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, 20, 10))
	for i := range img.Pix {
		img.Pix[i] = byte(i * i)
	}
	files := map[string][]byte{
		"PNM": []byte("P5\n#c\n 20\t10 255\n" + strings.Repeat("x", 200)),
		// One pixel, lossless, stretched by its header to 20×10.
		"WebP": []byte("RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x13\x40\x02\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00"),
	}
	for name, encode := range map[string]func(*bytes.Buffer) error{
		"JPEG": func(b *bytes.Buffer) error { return jpeg.Encode(b, img, nil) },
		"PNG":  func(b *bytes.Buffer) error { return png.Encode(b, img) },
		"BMP":  func(b *bytes.Buffer) error { return bmp.Encode(b, img) },
		"TIFF": func(b *bytes.Buffer) error { return tiff.Encode(b, img, nil) },
	} {
		var b bytes.Buffer
		if err := encode(&b); err != nil {
			t.Fatal(err)
		}
		files[name] = b.Bytes()
	}
	return files
}

func TestWholeImagesPass(t *testing.T) {
	t.Parallel()
	for name, data := range samples(t) {
		info, err := Check(data)
		if want := (Info{Format: name, Width: 20, Height: 10}); err != nil || info != want {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
		if !Is(data[:min(len(data), 16)]) {
			t.Errorf("%s is not known by its beginning", name)
		}
	}
}

// A JPEG or PNG is refused wherever it is cut: OpenCV would show what there is,
// and grey for the rest.
func TestImagesCutAnywhereAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"JPEG", "PNG"} {
		data := samples(t)[name]
		for n := range data {
			if _, err := Check(data[:n]); err == nil {
				t.Errorf("a %s of %d bytes was taken with %d", name, len(data), n)
			}
		}
	}
}

func TestBadImagesAreRefused(t *testing.T) {
	t.Parallel()
	s := samples(t)
	edit := func(data []byte, at int, with string) []byte {
		data = bytes.Clone(data)
		copy(data[at:], with)
		return data
	}
	sof := bytes.Index(s["JPEG"], []byte("\xff\xc0"))
	for want, data := range map[string][]byte{
		"is empty":                     {},
		"is not an image: wanted JPEG": []byte("GIF89a"),
		"is a PNG of 30000×10 pixels, at most 16384":   edit(s["PNG"], 16, "\x00\x00\x75\x30"),
		"is a PNG of 2147483647×10 pixels":             edit(s["PNG"], 16, "\xff\xff\xff\xff"),
		"is a PNG of 0×10 pixels":                      edit(s["PNG"], 16, "\x00\x00\x00\x00"),
		"is a broken PNG: it does not begin with IHDR": edit(s["PNG"], 12, "IDAT"),
		"is a JPEG of 20×65535 pixels":                 edit(s["JPEG"], sof+5, "\xff\xff"),
		"is a JPEG of 20×0 pixels":                     edit(s["JPEG"], sof+5, "\x00\x00"),
		"is a broken JPEG: byte 0x00":                  edit(s["JPEG"], sof, "\x00"),
		"is a broken JPEG: it has no picture data":     []byte("\xff\xd8\xff\xd9"),
		"is a broken JPEG: marker 0xe0 has a length":   []byte("\xff\xd8\xff\xe0\x00\x01"),
		"is a BMP of 16383×16383 pixels":               edit(s["BMP"], 18, "\xff\x3f\x00\x00\x01\xc0\xff\xff"),
		"is a BMP that is cut short":                   s["BMP"][:40],
		"is a WebP that is cut short":                  s["WebP"][:20],
		"is a TIFF that is cut short":                  s["TIFF"][:9],
		"is a PNM of 1073741824×1 pixels":              []byte("P6 99999999999999999999 1 255 "),
		"is a PNM that is cut short":                   []byte("P6\n# only a comment"),
		"is a broken PNM: its header has 'x'":          []byte("P6 x"),
	} {
		_, err := Check(data)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, wanted %q", err, want)
		}
	}
}

func TestProgressiveAndPaddedJPEG(t *testing.T) {
	t.Parallel()
	data := samples(t)["JPEG"]
	scan := bytes.Index(data, []byte("\xff\xda"))
	// Fill bytes before a marker, a restart in the data, and a second scan.
	var b []byte
	b = append(b, data[:scan]...)
	b = append(b, 0xff, 0xff)
	b = append(b, data[scan:len(data)-2]...)
	b = append(b, 0xff, 0xd3, 0x11, 0xff, 0x00, 0xff)
	b = append(b, data[scan:]...)
	if _, err := Check(b); err != nil {
		t.Error(err)
	}
}

func FuzzCheck(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := Check(data)
		if err != nil {
			return
		}
		if info.Width < 1 || info.Height < 1 || info.Width > MaxSide || info.Height > MaxSide || info.Width*info.Height > MaxPixels {
			t.Errorf("passed as %+v", info)
		}
	})
}
