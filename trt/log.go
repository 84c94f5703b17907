package trt

import (
	"regexp"
	"strings"
)

// Severities of log lines, as TensorRT counts them: the less the worse.
const (
	InternalError = iota
	LogError
	Warning
	Note // TensorRT's info
	Verbose
)

// TakeLog hands over what TensorRT has logged in this process since the last call,
// and tells how many lines were lost since the process began, because nobody took
// them. Needs [Open].
func TakeLog(f func(severity int, line string)) (dropped uint64) {
	for {
		severity, line, lost, ok := nextLog()
		if !ok {
			return lost
		}
		f(severity, line)
	}
}

const (
	maxWarnings = 100
	maxUnscaled = 10000
	maxLine     = 1000 // bytes of a warning
)

// unscaled is how TensorRT 8 and 10 say that the cache lacks a tensor.
var unscaled = regexp.MustCompile(`Missing scale and zero-point for tensor (.+?)(?:, expect fall ?back|\. Tensor scale|$)`)

// warnings gathers what a build's log has to say, each once.
type warnings struct {
	unscaled, others []string
	seen             map[string]bool
	last             string // error, for where the builder says no more
}

func (w *warnings) add(severity int, line string) {
	if severity > Warning {
		return
	}
	if severity <= LogError {
		w.last = line
	}
	if m := unscaled.FindStringSubmatch(line); m != nil {
		w.once(&w.unscaled, "tensor "+m[1], m[1], maxUnscaled)
		return
	}
	line = cut(line, maxLine)
	w.once(&w.others, line, line, maxWarnings)
}

func (w *warnings) once(list *[]string, key, text string, most int) {
	if len(*list) >= most || w.seen[key] {
		return
	}
	if w.seen == nil {
		w.seen = map[string]bool{}
	}
	w.seen[key] = true
	*list = append(*list, text)
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

const maxTail = 8 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b[max(0, len(b)-maxTail):]...)
	if over := len(t.kept) - maxTail; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(b), nil
}

// lines are the last n lines that say something, as one.
func (t *tail) lines(n int) string {
	var said []string
	for line := range strings.Lines(string(t.kept)) {
		if line = cut(tidy(line), 300); line != "" {
			said = append(said, line)
		}
	}
	return strings.Join(said[max(0, len(said)-n):], " | ")
}
