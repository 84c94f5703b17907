package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// gradient is a picture with something on it.
func gradient(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetNRGBA(x, y, color.NRGBA{uint8(255 * x / w), uint8(255 * y / h), 90, 255})
		}
	}
	return img
}

func redrawn[T draw.Image](to T, from image.Image) T {
	draw.Draw(to, to.Bounds(), from, from.Bounds().Min, draw.Src)
	return to
}

func asPNG(t *testing.T, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJPEG(t *testing.T, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// motionJPEG is a video as an AVI of n frames, whose codec goes by the four
// letters given.
func motionJPEG(t *testing.T, fourcc string, n int) []byte {
	t.Helper()
	const w, h = 32, 24
	le := binary.LittleEndian
	chunk := func(id string, data []byte) []byte {
		b := le.AppendUint32([]byte(id), uint32(len(data)))
		b = append(b, data...)
		return append(b, make([]byte, len(data)%2)...)
	}
	list := func(kind string, parts ...[]byte) []byte {
		return chunk("LIST", append([]byte(kind), bytes.Join(parts, nil)...))
	}
	numbers := func(values ...uint32) (b []byte) {
		for _, v := range values {
			b = le.AppendUint32(b, v)
		}
		return b
	}
	main := numbers(100_000, 0, 0, 0, uint32(n), 0, 1, 0, w, h, 0, 0, 0, 0)
	stream := append([]byte("vids"+fourcc), numbers(0, 0, 0, 1, 10, 0, uint32(n), 0, 0, 0, 0, 0)...)
	format := slices.Concat(numbers(40, w, h), []byte{1, 0, 24, 0}, []byte(fourcc), numbers(0, 0, 0, 0, 0))
	frames := make([][]byte, n)
	for i := range frames {
		frames[i] = chunk("00dc", asJPEG(t, gradient(w, h)))
	}
	return chunk("RIFF", slices.Concat([]byte("AVI "),
		list("hdrl", chunk("avih", main), list("strl", chunk("strh", stream), chunk("strf", format))),
		list("movi", frames...)))
}

// Every picture is looked at as 8-bit RGB, whatever it was stored as.
func TestImagesOfEveryKindAreClassified(t *testing.T) {
	t.Parallel()
	img := gradient(60, 40)
	clear := gradient(60, 40)
	for i := 3; i < len(clear.Pix); i += 8 {
		clear.Pix[i] = 50
	}
	dir := t.TempDir()
	var files []string
	for name, content := range map[string][]byte{
		"16-bit.png":      asPNG(t, redrawn(image.NewRGBA64(img.Rect), img)),
		"grey.png":        asPNG(t, redrawn(image.NewGray(img.Rect), img)),
		"grey-16-bit.png": asPNG(t, redrawn(image.NewGray16(img.Rect), img)),
		"alpha.png":       asPNG(t, clear),
		"1x1.png":         asPNG(t, gradient(1, 1)),
		"1x1.jpg":         asJPEG(t, gradient(1, 1)),
		"video.avi":       motionJPEG(t, "MJPG", 1),
	} {
		files = append(files, write(t, filepath.Join(dir, name), content))
	}
	unchanged(t, dir)
	o := program(t, append([]string{"classify", "--json", tiny}, files...)...)
	if o.status != 0 {
		t.Fatalf("exit status %d: %s", o.status, o.stderr)
	}
	for i, line := range lines(t, o.stdout, len(files)) {
		var got classified
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Path != files[i] || len(got.Top) != 3 {
			t.Errorf("%v: %s\nwanted three labels for %s", err, line, files[i])
		}
	}
}

func lines(t *testing.T, text string, n int) []string {
	t.Helper()
	all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(all) != n {
		t.Fatalf("%d lines, wanted %d:\n%s", len(all), n, text)
	}
	return all
}

var badFiles = map[string]struct {
	make func(*testing.T) []byte
	want string
}{
	"half.jpg":  {func(t *testing.T) []byte { b := asJPEG(t, gradient(60, 40)); return b[:len(b)/2] }, "is a JPEG that is cut short"},
	"half.png":  {func(t *testing.T) []byte { b := asPNG(t, gradient(60, 40)); return b[:len(b)/2] }, "is a PNG that is cut short"},
	"wide.png":  {func(t *testing.T) []byte { return asPNG(t, gradient(30000, 2)) }, "30000×2 pixels, at most 16384 a side"},
	"empty.jpg": {func(*testing.T) []byte { return nil }, "is empty"},
	"text.jpg":  {func(*testing.T) []byte { return []byte("this is a letter\n") }, "is not an image: wanted JPEG, PNG"},
	"codec.avi": {func(t *testing.T) []byte { return motionJPEG(t, "XQZ9", 10) }, "codec is missing"},
}

// The others are classified all the same.
func TestFilesThatCannotBeReadGetOneErrorEach(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := write(t, filepath.Join(dir, "good.png"), asPNG(t, gradient(60, 40)))
	want := map[string]string{filepath.Join(dir, "none.png"): "no such file"}
	files := []string{good, filepath.Join(dir, "none.png")}
	for name, bad := range badFiles {
		path := write(t, filepath.Join(dir, name), bad.make(t))
		files, want[path] = append(files, path), bad.want
	}
	files = append(files, good)
	unchanged(t, dir)

	t.Run("as JSON", func(t *testing.T) {
		o := program(t, append([]string{"classify", "--json", tiny}, files...)...)
		if o.status != 1 {
			t.Errorf("exit status %d: %s", o.status, o.stderr)
		}
		for i, line := range lines(t, o.stdout, len(files)) {
			var got struct{ Path, Error string }
			if err := json.Unmarshal([]byte(line), &got); err != nil || got.Path != files[i] {
				t.Errorf("%v: %s\nwanted it for %s", err, line, files[i])
			}
			wantParts(t, got.Error, want[files[i]])
			if files[i] == good && got.Error != "" {
				t.Errorf("a good file has the error %q", got.Error)
			}
		}
	})
	t.Run("as text", func(t *testing.T) {
		o := program(t, append([]string{"classify", tiny}, files...)...)
		if o.status != 1 {
			t.Errorf("exit status %d", o.status)
		}
		for _, line := range lines(t, o.stdout, 2) {
			wantParts(t, line, good+": ", " %")
		}
		for path, want := range want {
			found := 0
			for _, line := range strings.Split(o.stderr, "\n") {
				if strings.Contains(line, path) {
					found++
					wantParts(t, line, path+": ", want)
				}
				if strings.Count(line, path) > 1 {
					t.Errorf("the path stands there twice: %s", line)
				}
			}
			if found != 1 {
				t.Errorf("%d lines about %s, wanted one:\n%s", found, path, o.stderr)
			}
		}
		wantParts(t, o.stderr, fmt.Sprintf("%d of %d couldn't be read\n", len(want), len(files)))
	})
}

func TestEvalTakesNoImageThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := write(t, filepath.Join(dir, "half.jpg"), badFiles["half.jpg"].make(t))
	index := write(t, filepath.Join(dir, "index.tsv"), []byte("file\tclass\nhalf.jpg\t0\n"))
	unchanged(t, dir)
	o := program(t, "eval", tiny, "--images", dir, "--index", index)
	if _, rest, built := strings.Cut(o.stderr, "…\n"); built { // the note that an engine is built
		o.stderr = rest
	}
	wantRefusal(t, o, 1, "sightd: "+bad+": is a JPEG that is cut short")
}
