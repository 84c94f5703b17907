package source

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	here, err := filepath.Abs("a.mp4")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]Source{
		"file:/v/a.mp4":                      {Kind: File, Name: "/v/a.mp4"},
		"file:a.mp4":                         {Kind: File, Name: here},
		"file:///v/a.mp4":                    {Kind: File, Name: "/v/a.mp4"},
		"file:/v/a.mp4?loop=true&each=true":  {Kind: File, Name: "/v/a.mp4", Loop: true, Each: true},
		"file:/v/what?.mp4?":                 {Kind: File, Name: "/v/what?.mp4"},
		"images:/photos?each=1":              {Kind: Images, Name: "/photos", Each: true},
		"v4l2:/dev/video0":                   {Kind: V4L2, Name: "/dev/video0"},
		"v4l2:/dev/v4l/by-id/usb-cam-index0": {Kind: V4L2, Name: "/dev/v4l/by-id/usb-cam-index0"},
		"rtsp://u:p@host:554/stream":         {Kind: RTSP, Name: "rtsp://u:p@host:554/stream"},
		"rtsps://host/stream?a=b":            {Kind: RTSP, Name: "rtsps://host/stream?a=b"},
		"gst:videotestsrc ! appsink":         {Kind: GST, Name: "videotestsrc ! appsink"},
		"test:bars":                          {Kind: Test, Name: "bars"},
		"test:noise?frames=3&each=true":      {Kind: Test, Name: "noise", Frames: 3, Each: true},
	} {
		got, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestBadSourcesAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                "has no kind: write file:PATH",
		"video.mp4":                       "has no kind: write file:PATH",
		"usb:0":                           `unknown kind "usb": file:, images:`,
		"http://u:secret@host/x":          `unknown kind "http"`,
		"csi:0":                           "nvarguscamerasrc",
		"file:":                           "names nothing",
		"file:/a?speed=2":                 `unknown option "speed": known are loop, each`,
		"file:/a?loop=maybe":              "loop=maybe: wanted true or false",
		"file:/a?loop=true&loop=false":    "given 2 times",
		"file:/a?%zz=1":                   "options",
		"v4l2:video0":                     "wanted a device such as v4l2:/dev/video0",
		"v4l2:/dev/../etc/passwd":         "wanted a device",
		"rtsp:":                           "wanted rtsp://",
		"rtsp://":                         "wanted rtsp://",
		"rtsp://user:sec/ret@host/stream": "%XX",
		"gst: ":                           "has no pipeline",
		"test:cats":                       `unknown pattern: known are bars, counter, gradient, noise`,
		"test:bars?frames=0":              "wanted a number from 1",
		"test:bars?frames=x":              "wanted a number from 1",
	} {
		_, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, wanted %q", text, err, want)
		} else if strings.Contains(err.Error(), "sec") {
			t.Errorf("%q: the error shows the password: %v", text, err)
		}
	}
}

func TestNothingShowsCredentials(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"open rtsp://user:pw@host/a failed":            "open rtsp://…@host/a failed",
		"rtsp://user:p@w/d@host/a":                     "rtsp://…@host/a",
		"rtsp://host/a@b":                              "rtsp://…@b", // better too much than too little
		"rtspsrc location=rtsp://u:p@h user-pw=secret": "rtspsrc location=rtsp://…@h user-pw=…",
		`user-pw="a b" ! password='x y' proxy-pw = z`:  "user-pw=… ! password=… proxy-pw=…",
		"nothing to hide: a=b http://host/":            "nothing to hide: a=b http://host/",
	} {
		if got := Redact(text); got != want {
			t.Errorf("%q became %q, wanted %q", text, got, want)
		}
	}
	s, err := Parse("rtsp://user:p%21w@host/stream")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != "rtsp://…@host/stream" {
		t.Errorf("shown as %q", got)
	}
	if diff := cmp.Diff([]string{"user:p%21w", "p!w", "p%21w"}, s.Secrets()); diff != "" {
		t.Error(diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"file:/a?loop=true", "rtsp://u:p@h/x", "test:bars?frames=3", "gst:a ! b", "v4l2:/dev/video0", "images:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		if s.Name == "" || (s.Kind == File || s.Kind == Images) && !filepath.IsAbs(s.Name) {
			t.Errorf("%q became %+v", text, s)
		}
		for _, secret := range s.Secrets() {
			if len(secret) > 5 && strings.Count(text, secret) == 1 && strings.Contains(s.String(), secret) {
				t.Errorf("%q is shown as %q", text, s.String())
			}
		}
	})
}
