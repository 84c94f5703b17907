package camera

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	maxLine   = 1 << 10 // of the worker's standard error
	maxLines  = 40      // that are logged a minute, of each sort
	tailLines = 3
)

// tail is the end of what a worker has said on its standard error: mostly why
// it couldn't open its source.
type tail struct {
	mu      sync.Mutex
	lines   []string
	crashed bool // the last line tells of a crash; what follows is its trace
}

func (t *tail) add(line string) (crashed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.crashed {
		return true
	}
	t.crashed = crash.MatchString(line)
	if t.lines = append(t.lines, line); len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
	return t.crashed
}

// suffix is the lines to put behind an error.
func (t *tail) suffix() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return ""
	}
	return " (" + strings.Join(t.lines, "; ") + ")"
}

var (
	crash = regexp.MustCompile(`^(panic:|fatal error:|SIG[A-Z]+:|terminate called)`)
	// What GStreamer, OpenCV and FFmpeg put in front of their messages: times,
	// threads, places in their code.
	prefixes = regexp.MustCompile(`^(\d+:\d\d:\d\d\.\d+ +\d+ +0x[0-9a-f]+ +\w+ +\S+ +\S+:\d+:\w+:(<[^>]*>)?|` +
		`\[ *\w+:\d+@[\d.]+\] global \S+ \(\d+\) \S+( OpenCV \| GStreamer warning:)?|` +
		`\[[^\]]* @ 0x[0-9a-f]+\]) *`)
	// noise is what OpenCV says about every live pipeline.
	noise = regexp.MustCompile(`Cannot query video position|pipeline have not been created`)
)

// ration lets maxLines lines a minute pass.
type ration struct {
	until time.Time
	lines int
}

func (r *ration) one() bool {
	if now := time.Now(); now.After(r.until) {
		r.until, r.lines = now.Add(time.Minute), 0
	}
	r.lines++
	return r.lines <= maxLines
}

// follow logs what the worker writes on its standard error, until that ends.
// Lines are cut, and only so many a minute pass.
func (w *worker) follow(r io.Reader) {
	in := bufio.NewReaderSize(r, maxLine)
	var pass ration
	for {
		line, more, err := in.ReadLine()
		if err != nil {
			return
		}
		text := strings.TrimSpace(prefixes.ReplaceAllString(w.redact(string(line)), ""))
		for more && err == nil {
			_, more, err = in.ReadLine()
		}
		if text == "" || noise.MatchString(text) {
			continue
		}
		level := slog.LevelDebug
		if w.said.add(text) {
			level = slog.LevelWarn
		}
		if !pass.one() {
			continue
		}
		w.log.Log(context.Background(), level, "worker: "+text)
	}
}
