package camera

import (
	"bytes"
	"encoding/binary"
	"image/jpeg"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
)

func TestBadOptionsAreRefused(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"has no kind":               {},
		"both a source and a list":  {Source: "test:bars", Files: []string{"a"}},
		"wanted both, or neither":   {Source: "test:bars", Width: 640},
		"fps -1: wanted":            {Source: "test:bars", FPS: -1},
		"can't be negative":         {Source: "test:bars", Stall: -1},
		"preload -3: wanted":        {Source: "test:bars", Preload: -3},
		"preload: v4l2:/dev/video0": {Source: "v4l2:/dev/video0", Preload: 3},
		`unknown kind "usb"`:        {Source: "usb:3"},
	} {
		o.Name = "door"
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `camera "door"`) {
			t.Errorf("%+v: error %v, wanted %q", o, err, want)
		}
	}
	c := open(t, Options{Source: "test:bars"})
	for want, change := range map[string]func(*Geometry){
		"size 0×24":       func(g *Geometry) { g.Width = 0 },
		"size 32×9000":    func(g *Geometry) { g.Height = 9000 },
		`resize "fit"`:    func(g *Geometry) { g.Resize = "fit" },
		`filter "lanczo`:  func(g *Geometry) { g.Filter = "lanczos" },
		"crop 1.5":        func(g *Geometry) { g.Crop = 1.5 },
		"region [0.5, 0,": func(g *Geometry) { g.Region = [4]float64{0.5, 0, 0.6, 1} },
		"region [0, 0, 1": func(g *Geometry) { g.Region = [4]float64{0, 0, 1, 0} },
	} {
		g := small
		change(&g)
		if _, err := c.AddLane(g, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, wanted %q", g, err, want)
		}
	}
	if _, err := c.AddLane(small, 0); err == nil || !strings.Contains(err.Error(), "0 claims") {
		t.Errorf("a lane without claims: %v", err)
	}
}

// A source that can't be opened says why, and keeps the camera offline.
func TestSourcesThatAreNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := writeFile(t, filepath.Join(dir, "text.mp4"), []byte("this is no video"))
	empty := writeFile(t, filepath.Join(dir, "empty.mp4"), nil)
	lost := writeFile(t, filepath.Join(dir, "codec.avi"), avi(t, "ZZZZ", 5))
	for source, want := range map[string]string{
		"file:/no/such.mp4": "file:/no/such.mp4: no such file or directory",
		"file:" + text:      "is neither an image nor a video that FFmpeg can read",
		"file:" + empty:     "is empty",
		"file:" + dir:       "is not a file",
		"file:" + lost:      "its codec is missing",
		"images:/no/such":   "images:/no/such: no such file or directory",
		"images:" + dir:     "no images there: wanted files that end in .jpg",
		"v4l2:/dev/video99": "no device /dev/video99: is the camera plugged in?",
		"v4l2:/dev/null":    "/dev/null is no camera",
		"gst:filesrc location=/no/such ! decodebin":                       "can't be started: try it with gst-launch-1.0",
		"gst:videotestsrc num-buffers=3 ! video/x-raw,width=64,height=48": "the stream ended after ",
		"rtsp://user:s3cret@127.0.0.1:9/cam":                              "rtsp://…@127.0.0.1:9/cam can't be opened",
	} {
		t.Run(strings.NewReplacer("/", " ", ":", " ").Replace(source), func(t *testing.T) {
			t.Parallel()
			var log lines
			c := open(t, Options{Source: source, Attempts: 1, Log: log.logger()})
			lane(t, c, small, 1)
			err := c.Run(t.Context())
			t.Log(err)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, wanted %q", err, want)
			}
			if s := c.Status(); s.State == Online || !strings.Contains(s.Reason, want) {
				t.Errorf("status %+v", s)
			}
			if strings.Contains(log.String()+err.Error(), "s3cret") {
				t.Errorf("the password is shown: %v\n%s", err, log.String())
			}
		})
	}
}

// OpenCV waits for ever for a pipeline whose elements are missing.
func TestPipelineWithoutItsElement(t *testing.T) {
	t.Parallel()
	c := open(t, Options{Source: "gst:nosuchelement", Attempts: 1, Open: 4 * time.Second})
	err := c.Run(t.Context())
	if want := `no element "nosuchelement"`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, wanted %q", err, want)
	}
}

func TestVideosCutShortGiveWhatThereIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	whole := avi(t, "MJPG", 40)
	files := []string{
		writeFile(t, filepath.Join(dir, "whole.avi"), whole),
		writeFile(t, filepath.Join(dir, "half.avi"), whole[:len(whole)/2]),
		writeFile(t, filepath.Join(dir, "after.y4m"), y4m(64, 48, 3)),
	}
	count := make([]int, len(files))
	for _, f := range all(t, files) {
		if f.Err != "" || f.Index != count[f.File] {
			t.Fatalf("frame %+v, after %v", f, count)
		}
		count[f.File]++
	}
	if count[0] != 40 || count[1] < 15 || count[1] > 21 || count[2] != 3 {
		t.Errorf("%v frames, wanted 40, about 20 and 3", count)
	}
}

func TestCutVideoIsCounted(t *testing.T) {
	t.Parallel()
	whole := avi(t, "MJPG", 40)
	file := writeFile(t, filepath.Join(t.TempDir(), "half.avi"), whole[:len(whole)/2])
	var log lines
	c := open(t, Options{Files: []string{file}, Log: log.logger()})
	l := lane(t, c, small, 1)
	run(t, c)
	for f, ok := next(t, l); ok; f, ok = next(t, l) {
		l.Release(f)
	}
	if s := c.Status(); s.Errors != 1 || !strings.Contains(log.String(), "half.avi: ends after ") {
		t.Errorf("status %+v, log:\n%s", s, log.String())
	}
}

func TestFolderIsShownRoundAndRoundWithoutItsBadImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := goodImages(t)
	writeFile(t, filepath.Join(dir, "a.jpg"), good["color.jpg"])
	writeFile(t, filepath.Join(dir, "b.jpg"), good["color.jpg"][:99])
	writeFile(t, filepath.Join(dir, "c.png"), good["alpha.png"])
	writeFile(t, filepath.Join(dir, "notes.txt"), []byte("not an image"))
	var log lines
	c := open(t, Options{Source: "images:" + dir + "?loop=true", FPS: 200, Log: log.logger()})
	l := lane(t, c, small, 1)
	run(t, c)
	seen := map[int]int{}
	for range 20 {
		f, ok := next(t, l)
		if !ok || f.Err != "" {
			t.Fatalf("frame %+v, %v", f, ok)
		}
		seen[f.File]++
		l.Release(f)
	}
	if len(seen) != 2 || seen[0] == 0 || seen[2] == 0 {
		t.Errorf("files %v were shown, wanted the first and the third", seen)
	}
	until(t, "errors are counted", func() bool { return c.Status().Errors > 1 })
	if n := strings.Count(log.String(), "b.jpg: is a JPEG that is cut short"); n != 1 {
		t.Errorf("the bad image is told %d times", n)
	}
}

func TestFolderOfBadImagesIsAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.jpg"), []byte("not an image"))
	c := open(t, Options{Source: "images:" + dir + "?loop=true", Attempts: 1})
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "none of 1 files can be read") {
		t.Errorf("error %v", err)
	}
}

func TestVideoLoopsAtItsOwnPace(t *testing.T) {
	t.Parallel()
	file := writeFile(t, filepath.Join(t.TempDir(), "a.y4m"), y4m(64, 48, 10))
	c := open(t, Options{Source: "file:" + file + "?loop=true"})
	l := lane(t, c, small, 1)
	run(t, c)
	begin := time.Now()
	rounds, index := 0, -1
	for rounds < 2 {
		f, _ := next(t, l)
		if got := shown(l.Slots()[f.Slot][0]); got != f.Index {
			t.Fatalf("frame %d shows %d", f.Index, got)
		}
		if f.Index < index {
			rounds++
		}
		index = f.Index
		l.Release(f)
	}
	// 20 frames at 25 a second; never faster.
	if took := time.Since(begin); took < 700*time.Millisecond {
		t.Errorf("two rounds of 10 frames took %v", took)
	}
}

func TestDemoVideo(t *testing.T) {
	t.Parallel()
	videos, err := filepath.Glob(testenv.Demo("*.mp4"))
	if err != nil || len(videos) == 0 {
		t.Skip("the demo has no video")
	}
	frames := all(t, videos[:1])
	for i, f := range frames {
		if f.Err != "" || f.Index != i {
			t.Fatalf("frame %+v", f)
		}
	}
	if len(frames) < 10 {
		t.Errorf("%d frames", len(frames))
	}
}

// avi is a video of JPEGs in the simplest AVI, under any codec's name.
func avi(t *testing.T, codec string, frames int) []byte {
	t.Helper()
	const w, h = 64, 48
	le := binary.LittleEndian
	chunk := func(id string, body ...[]byte) []byte {
		data := bytes.Join(body, nil)
		out := le.AppendUint32([]byte(id), uint32(len(data)))
		out = append(out, data...)
		return append(out, make([]byte, len(data)%2)...)
	}
	words := func(v ...uint32) (out []byte) {
		for _, x := range v {
			out = le.AppendUint32(out, x)
		}
		return out
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, picture(w, h), nil); err != nil {
		t.Fatal(err)
	}
	picture := chunk("00dc", b.Bytes())
	n := uint32(frames)
	return chunk("RIFF", []byte("AVI "),
		chunk("LIST", []byte("hdrl"),
			chunk("avih", words(40_000, 0, 0, 0x10, n, 0, 1, 0, w, h, 0, 0, 0, 0)),
			chunk("LIST", []byte("strl"),
				chunk("strh", []byte("vids"+codec), words(0, 0, 0, 1, 25, 0, n, 0, 0, 0, 0, 0)),
				chunk("strf", words(40, w, h, 1|24<<16), []byte(codec), words(w*h*3, 0, 0, 0, 0)))),
		chunk("LIST", []byte("movi"), bytes.Repeat(picture, frames)),
		chunk("idx1", index(len(picture), frames)))
}

// index is an AVI's list of frames.
func index(size, frames int) (out []byte) {
	for i := range frames {
		out = append(out, "00dc"...)
		for _, v := range []int{0x10, 4 + i*size, size - 8} {
			out = binary.LittleEndian.AppendUint32(out, uint32(v))
		}
	}
	return out
}
