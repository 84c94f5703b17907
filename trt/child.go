package trt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
)

const (
	maxTimingCache = 1 << 30
	stdin          = 0 // where images come from
)

// Child is the main function of the child process: it carries the build in dir out
// and returns the exit status. Images for a calibration come by standard input.
// Standard output is the parent's to read; whatever else is written there in this
// process goes to standard error.
func Child(dir string) int {
	out, err := takeStdout()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	becomeVictim()
	err = buildChild(dir, out)
	return out.end(err, "build")
}

// speaker writes lines to the parent.
type speaker struct {
	mu sync.Mutex
	f  io.Writer
}

func (s *speaker) say(line said) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text, err := json.Marshal(line); err == nil {
		_, _ = s.f.Write(append(text, '\n')) // a parent that is gone kills this process
	}
}

// end says what went wrong, if anything did, and returns the exit status.
func (s *speaker) end(err error, op string) int {
	if err == nil {
		return 0
	}
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Failed, op, err.Error()}
	}
	s.say(said{Error: e})
	return 1
}

// takeStdout keeps standard output for the parent and lets everybody else who
// writes there write to standard error: libraries do.
func takeStdout() (*speaker, error) {
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("keep standard output: %w", err)
	}
	if err := unix.Dup3(2, 1, 0); err != nil {
		return nil, fmt.Errorf("turn standard output to standard error: %w", err)
	}
	return &speaker{f: os.NewFile(uintptr(fd), "parent")}, nil
}

// becomeVictim has the kernel take this process first where memory runs out, and a
// crash be seen as what it is, without a core file of gigabytes.
func becomeVictim() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // as far as it is allowed
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	dieOfSignals()
}

func buildChild(dir string, out *speaker) error {
	o, err := readOrder(dir)
	if err != nil {
		return err
	}
	info, err := Open(o.Library)
	if err != nil {
		return err
	}
	job := o.Job
	if err := job.check(); err != nil {
		return &Error{BadArgument, "build", err.Error()}
	}
	timing, err := readTimingCache(job.TimingCache)
	if err != nil {
		out.say(said{Log: &logLine{Warning, fmt.Sprintf("the timing cache isn't read: %v", err)}})
	}
	runtime.LockOSThread() // CUDA and TensorRT keep things by thread; this process ends with it
	begin := time.Now()
	follower := follow(out, begin)
	made, err := callBuild(job, stdin, timing)
	follower.end()
	if err != nil {
		return err
	}
	defer made.free()
	result := &Built{
		Seconds: time.Since(begin).Seconds(),
		Cache:   slices.Clone(made.cache),
		DLA:     verdicts(made.dla),
		Timing:  TimingOutcome{Given: int64(len(timing)), Refused: made.timingRefused, Size: int64(len(made.timing))},
		Info:    info,
	}
	// The plan is loaded here once: this process may crash of it, the parent mayn't. One
	// of floating-point input was made for its calibration alone, and can't be run.
	if job.Images == nil || job.Images.Table == nil {
		if result.Layers, err = layersOf(made.plan, job); err != nil {
			return err
		}
	}
	follower.drain()
	if job.TimingCache != "" && len(made.timing) > 0 {
		if err := durable.WriteFile(job.TimingCache, made.timing, 0o644); err != nil {
			out.say(said{Log: &logLine{Warning, fmt.Sprintf("the timing cache isn't kept: %v", err)}})
		}
	}
	if err := durable.WriteFile(filepath.Join(dir, engineFile), made.plan, 0o644); err != nil {
		return err
	}
	text, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, reportFile), text, 0o644); err != nil {
		return err
	}
	out.say(said{Done: true})
	return nil
}

// layersOf loads a plan that was just made and asks for its layers.
func layersOf(plan []byte, job Job) ([]Layer, error) {
	o := LoadOptions{Lanes: 1}
	if d := job.DLA; d != nil {
		o.Cores = []int{d.Core}
		if d.Direct {
			return layersOfDirect(plan, o)
		}
	}
	return layersAs(plan, o)
}

// layersOfDirect gives a plan of the second form the tables that it needs, whose
// content doesn't matter here, for as many channels as it turns out to have.
func layersOfDirect(plan []byte, o LoadOptions) ([]Layer, error) {
	var first error
	for _, channels := range [][]int{{0, 1, 2}, {0}} {
		o.Direct = &Direct{Table: make([][256]int8, len(channels)), Channels: channels}
		layers, err := layersAs(plan, o)
		if StatusOf(err) != BadArgument {
			return layers, err
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func layersAs(plan []byte, o LoadOptions) ([]Layer, error) {
	e, err := Load(plan, o)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	return e.Layers()
}

// verdicts reads whether DLA can run each layer, "1 name" or "0 name" a line.
func verdicts(text []byte) []DLAVerdict {
	var all []DLAVerdict
	for line := range strings.Lines(string(text)) {
		can, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if ok && (can == "0" || can == "1") {
			all = append(all, DLAVerdict{Layer: name, Can: can == "1"})
		}
	}
	return all
}

// readTimingCache reads an earlier build's; where there is none it is empty.
func readTimingCache(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	b, err := strict.ReadFile(path, maxTimingCache)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
