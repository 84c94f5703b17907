package daemon

import (
	"log/slog"
	"sync"

	"github.com/sightd/sightd/trt"
)

// maxTensorRTLines is how many different lines of TensorRT's are passed on: it may
// put a number into each.
const maxTensorRTLines = 100

// tensorRTLog is what TensorRT has logged in this process, which has one log for all
// engines.
type tensorRTLog struct {
	mu     sync.Mutex
	seen   [2]map[string]bool // warnings, errors
	errors uint64
}

var ofTensorRT tensorRTLog

// take passes a line on, the first time: an engine that fails says the same at each
// frame. Most warnings are of no use to an operator.
func (l *tensorRTLog) take(log *slog.Logger, severity int, line string) {
	if severity > trt.Warning {
		return
	}
	kind := 0
	if severity <= trt.LogError {
		kind = 1
	}
	l.mu.Lock()
	l.errors += uint64(kind)
	fresh := !l.seen[kind][line] && len(l.seen[kind]) < maxTensorRTLines
	if fresh {
		if l.seen[kind] == nil {
			l.seen[kind] = map[string]bool{}
		}
		l.seen[kind][line] = true
	}
	last := fresh && len(l.seen[kind]) == maxTensorRTLines
	l.mu.Unlock()
	switch {
	case !fresh:
	case kind == 0:
		log.Debug("tensorrt says", "warning", line)
	default:
		log.Warn("tensorrt says", "error", line)
		if last {
			log.Warn("tensorrt says more and more: from now on its errors are only counted")
		}
	}
}

// failures is how many errors were logged.
func (l *tensorRTLog) failures() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errors
}

// sayTensorRT passes on what TensorRT has logged. TensorRT is open.
func sayTensorRT(log *slog.Logger) {
	trt.TakeLog(func(severity int, line string) { ofTensorRT.take(log, severity, line) })
}

// sayTensorRT does so where the daemon has it open.
func (d *Daemon) sayTensorRT() {
	for _, u := range d.units {
		if _, ok := u.backend.(*tensorRT); ok {
			sayTensorRT(d.log)
			return
		}
	}
}
