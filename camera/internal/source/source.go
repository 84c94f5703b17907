// Package source reads what a camera's configuration names as its source.
package source

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Kind is the kind of a source.
type Kind string

// The kinds of sources.
const (
	File   Kind = "file"   // one video or image
	Images Kind = "images" // the images of a folder, by name
	Files  Kind = "files"  // a list of videos and images; has no notation
	V4L2   Kind = "v4l2"
	RTSP   Kind = "rtsp"
	GST    Kind = "gst"
	Test   Kind = "test"
)

// Patterns are what a test source can show.
var Patterns = []string{"bars", "counter", "gradient", "noise"}

// Source is a source as the configuration names it.
type Source struct {
	Kind   Kind
	Name   string // path, device, URL, pipeline or pattern; may hold credentials
	Loop   bool   // begins again at its end
	Each   bool   // every frame once, as fast as they are taken
	Frames int    // a test source ends after so many, 0: never
}

// options are the keys that each kind takes behind a question mark.
var options = map[Kind][]string{
	File:   {"loop", "each"},
	Images: {"loop", "each"},
	Test:   {"each", "frames"},
}

// Parse reads a source: file:PATH, images:DIR, v4l2:DEVICE, rtsp://…, gst:PIPELINE
// or test:PATTERN, the first two and the last with options behind a question
// mark. An error never repeats credentials.
func Parse(text string) (Source, error) {
	scheme, rest, ok := strings.Cut(text, ":")
	if !ok {
		return Source{}, fmt.Errorf("source %q has no kind: write file:PATH, images:DIR, v4l2:/dev/videoN, rtsp://…, gst:PIPELINE or test:PATTERN", Redact(text))
	}
	switch s := (Source{Kind: Kind(scheme), Name: rest}); s.Kind {
	case File, Images, Test:
		return s.withOptions()
	case V4L2:
		return s, s.checkDevice()
	case RTSP, "rtsps":
		s.Kind, s.Name = RTSP, text
		return s, s.checkURL()
	case GST:
		if strings.TrimSpace(rest) == "" {
			return Source{}, fmt.Errorf("source gst: has no pipeline: write one as for gst-launch-1.0, such as gst:videotestsrc ! videoconvert ! appsink")
		}
		return s, nil
	case "csi":
		return Source{}, fmt.Errorf("source %q: csi: is not there yet; a gst: pipeline that begins with nvarguscamerasrc does the same", text)
	default:
		return Source{}, fmt.Errorf("source %q is of an unknown kind %q: file:, images:, v4l2:, rtsp://, rtsps://, gst: and test: are known", Redact(text), scheme)
	}
}

func (s Source) withOptions() (Source, error) {
	name, query, _ := cutLast(s.Name, "?")
	s.Name = name
	if name == "" {
		return Source{}, fmt.Errorf("source %s: names nothing: write %s", s.Kind,
			map[Kind]string{File: "file:PATH", Images: "images:DIR", Test: "test:bars"}[s.Kind])
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return Source{}, fmt.Errorf("source %s:%s: options %q: %w", s.Kind, name, query, err)
	}
	for key, v := range values {
		if !slices.Contains(options[s.Kind], key) {
			return Source{}, fmt.Errorf("source %s:%s: unknown option %q: known are %s", s.Kind, name, key, strings.Join(options[s.Kind], ", "))
		}
		if len(v) != 1 {
			return Source{}, fmt.Errorf("source %s:%s: option %s is given %d times", s.Kind, name, key, len(v))
		}
		switch key {
		case "loop":
			s.Loop, err = strconv.ParseBool(v[0])
		case "each":
			s.Each, err = strconv.ParseBool(v[0])
		case "frames":
			s.Frames, err = strconv.Atoi(v[0])
			if err == nil && s.Frames < 1 {
				err = fmt.Errorf("is below 1")
			}
		}
		if err != nil {
			return Source{}, fmt.Errorf("source %s:%s: option %s=%s: wanted %s", s.Kind, name, key, v[0],
				map[string]string{"loop": "true or false", "each": "true or false", "frames": "a number from 1"}[key])
		}
	}
	switch s.Kind {
	case Test:
		if !slices.Contains(Patterns, name) {
			return Source{}, fmt.Errorf("source test:%s: unknown pattern: known are %s", name, strings.Join(Patterns, ", "))
		}
	case File, Images:
		// What FFmpeg gets is never a URL or an option by accident.
		if s.Name, err = filepath.Abs(name); err != nil {
			return Source{}, fmt.Errorf("source %s:%s: %w", s.Kind, name, err)
		}
	}
	return s, nil
}

func (s Source) checkDevice() error {
	if !regexp.MustCompile(`^/dev/[A-Za-z0-9._/:-]+$`).MatchString(s.Name) || strings.Contains(s.Name, "..") {
		return fmt.Errorf("source v4l2:%s: wanted a device such as v4l2:/dev/video0", s.Name)
	}
	return nil
}

func (s Source) checkURL() error {
	u, err := url.Parse(s.Name)
	if err != nil || u.Host == "" {
		return fmt.Errorf("source %s: wanted rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH, with other characters than letters and digits of user and password written as %%XX", Redact(s.Name))
	}
	return nil
}

// Live is whether the source can't be waited for: what isn't taken is gone.
func (s Source) Live() bool { return s.Kind == V4L2 || s.Kind == RTSP || s.Kind == GST }

func (s Source) String() string {
	return Redact(string(s.Kind) + ":" + strings.TrimPrefix(s.Name, "rtsp:"))
}

// The forms that credentials take in URLs and GStreamer pipelines. A password
// may hold an @ or a / that should have been escaped: the last @ counts.
var (
	userInfo = regexp.MustCompile(`(?i)([a-z][a-z0-9+.-]*://)[^\s"']*@`)
	property = regexp.MustCompile(`(?i)\b((?:user|proxy)?-?(?:pw|pass|password|passwd|secret|token))\s*=\s*("[^"]*"|'[^']*'|[^\s!&]+)`)
)

// Redact hides the credentials in a text that may quote a URL or a pipeline.
func Redact(text string) string {
	return property.ReplaceAllString(userInfo.ReplaceAllString(text, "${1}…@"), "$1=…")
}

// Secrets are the parts of the source that no log may show, however quoted.
func (s Source) Secrets() []string {
	var secrets []string
	if u, err := url.Parse(s.Name); s.Kind == RTSP && err == nil && u.User != nil {
		raw := u.User.String()
		password, ok := u.User.Password()
		secrets = append(secrets, raw)
		if ok && password != "" {
			secrets = append(secrets, password)
			if _, escaped, ok := strings.Cut(raw, ":"); ok {
				secrets = append(secrets, escaped)
			}
		}
	}
	return secrets
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
