package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/trt"
)

// A TensorRT that is half installed may crash whoever opens it. So it is opened in
// a child process first, unless it was seen to work with these very files; what was
// seen stands in a note in the folder of engines. The note is also written before
// this process opens TensorRT: a daemon that finds itself to have died twice of that
// leaves it alone.

// probeNote is tensorrt.probe.json.
type probeNote struct {
	Library     string     `json:"library"`     // sightd's own for TensorRT
	Environment []string   `json:"environment"` // that decides which files are opened
	Driver      string     `json:"driver"`
	Files       []seenFile `json:"files"`
	Works       bool       `json:"works"` // this process had it open and lived
	Tries       int        `json:"tries"` // how often it was about to open it since then
}

// seenFile is a file as it was when TensorRT was opened.
type seenFile struct {
	Path string    `json:"path"`
	Size int64     `json:"size"`
	Time time.Time `json:"time"` // of its last change
}

const (
	probeFile = "tensorrt.probe.json"
	maxTries  = 2
	// probeWithin bounds a probe: a driver that hangs is no reason to hang too.
	probeWithin = 60 * time.Second
)

// NotInstalled is the error of a machine that has no TensorRT at all.
type NotInstalled struct{ Err error }

func (e *NotInstalled) Error() string { return e.Err.Error() }
func (e *NotInstalled) Unwrap() error { return e.Err }

var found struct {
	sync.Mutex
	done bool
	info trt.Info
	err  error
}

// FindTensorRT opens the machine's TensorRT, once a process. The folder of engines
// holds the note of what was seen; "" is none. The error says what is missing; it
// is a [*NotInstalled] where nothing is there.
func FindTensorRT(ctx context.Context, engines string) (trt.Info, error) {
	return findTensorRT(ctx, engines, slog.New(slog.DiscardHandler))
}

func findTensorRT(ctx context.Context, engines string, log *slog.Logger) (trt.Info, error) {
	found.Lock()
	defer found.Unlock()
	if found.done {
		return found.info, found.err
	}
	info, err := lookForTensorRT(ctx, engines, log)
	if ctx.Err() != nil {
		return info, ctx.Err()
	}
	found.done, found.info, found.err = true, info, err
	return info, err
}

func lookForTensorRT(ctx context.Context, engines string, log *slog.Logger) (trt.Info, error) {
	if !tensorRTThere() {
		info, err := trt.Open("") // finds nothing that could crash, and says so well
		if err != nil {
			err = &NotInstalled{err}
		}
		return info, err
	}
	note, noted := readProbe(engines)
	seen := noted && note.current()
	if !seen || !note.Works {
		ctx, cancel := context.WithTimeout(ctx, probeWithin)
		defer cancel()
		info, err := trt.Probe(ctx, childCommand("probe-child"), "")
		if err != nil {
			return info, err
		}
		if !seen || note.Library != info.Library {
			note = probeNote{Library: info.Library}
		}
	}
	if note.Tries >= maxTries {
		return trt.Info{}, fmt.Errorf("tensorrt: sightd died twice when it opened TensorRT by %s, though a child process didn't: "+
			"mend the installation, or remove %s to try again", note.Library, filepath.Join(engines, probeFile))
	}
	note.Works, note.Tries = false, note.Tries+1
	note.look(nil)
	writeProbe(engines, note, log)
	info, err := trt.Open("")
	if err != nil {
		note.Tries = 0 // it lived
		writeProbe(engines, note, log)
		return info, err
	}
	note.Library, note.Works, note.Tries = info.Library, true, 0
	note.look(openedFiles())
	writeProbe(engines, note, log)
	return info, nil
}

// current is whether all is as the note has it.
func (n *probeNote) current() bool {
	now := probeNote{Library: n.Library}
	var paths []string
	for _, f := range n.Files {
		paths = append(paths, f.Path)
	}
	now.look(paths)
	a, errA := json.Marshal([]any{n.Environment, n.Driver, n.Files})
	b, errB := json.Marshal([]any{now.Environment, now.Driver, now.Files})
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// look notes how the machine is now: the library, what the loader goes by, and the
// files that are named.
func (n *probeNote) look(files []string) {
	n.Environment = nil
	for _, name := range []string{"SIGHTD_TENSORRT", "LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES"} {
		n.Environment = append(n.Environment, name+"="+os.Getenv(name))
	}
	n.Driver = driver()
	n.Files = nil
	files = append([]string{n.Library, "/etc/ld.so.cache"}, files...)
	slices.Sort(files)
	for _, path := range slices.Compact(files) {
		if info, err := os.Stat(path); err == nil {
			n.Files = append(n.Files, seenFile{path, info.Size(), info.ModTime().UTC()})
		}
	}
}

// driver is the NVIDIA driver's version, or a Jetson's release.
func driver() string {
	for _, path := range []string{"/sys/module/nvidia/version", "/etc/nv_tegra_release"} {
		if b, err := strict.ReadFile(path, maxSidecar); err == nil {
			line, _, _ := strings.Cut(string(b), "\n")
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// openedFiles are the libraries of TensorRT and CUDA that this process has open.
func openedFiles() []string {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer f.Close()
	var files []string
	for s := bufio.NewScanner(f); s.Scan(); {
		i := strings.IndexByte(s.Text(), '/')
		if i < 0 {
			continue
		}
		path := s.Text()[i:]
		if name := filepath.Base(path); strings.HasPrefix(name, "libnv") || strings.HasPrefix(name, "libcu") {
			files = append(files, path)
		}
	}
	return files
}

// tensorRTThere is whether there is anything that could be TensorRT, judged without
// opening it.
func tensorRTThere() bool {
	if os.Getenv("SIGHTD_TENSORRT") != "" {
		return true
	}
	const name = "libnvinfer.so."
	if b, err := os.ReadFile("/etc/ld.so.cache"); err != nil || bytes.Contains(b, []byte(name)) {
		return true // or the loader has other ways
	}
	multiarch := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	dirs := append(filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")),
		"/lib", "/usr/lib", "/lib64", "/usr/lib64", filepath.Join("/lib", multiarch), filepath.Join("/usr/lib", multiarch))
	for _, dir := range dirs {
		if names, _ := filepath.Glob(filepath.Join(dir, name+"*")); len(names) > 0 {
			return true
		}
	}
	return false
}

func readProbe(engines string) (probeNote, bool) {
	var n probeNote
	if engines == "" {
		return n, false
	}
	b, err := strict.ReadFile(filepath.Join(engines, probeFile), maxSidecar)
	if err != nil || json.Unmarshal(b, &n) != nil {
		return probeNote{}, false // the probe takes a moment, that is all
	}
	return n, true
}

func writeProbe(engines string, n probeNote, log *slog.Logger) {
	if engines == "" {
		return
	}
	b, err := json.MarshalIndent(n, "", "  ")
	if err == nil {
		err = os.MkdirAll(engines, 0o755)
	}
	if err == nil {
		err = durable.WriteFile(filepath.Join(engines, probeFile), append(b, '\n'), 0o644)
	}
	if err != nil {
		log.Warn("it can't be noted whether TensorRT works", "err", err)
	}
}

// Unopened is why TensorRT doesn't open, where it is said that it is about that.
func Unopened(why string) string {
	return strings.TrimPrefix(strings.TrimPrefix(why, "tensorrt: "), "open: ")
}

var saidWhyNot sync.Once

// sayWhyNot says once a process why auto isn't TensorRT.
func sayWhyNot(log *slog.Logger, err error) {
	saidWhyNot.Do(func() {
		level := slog.LevelWarn
		var none *NotInstalled
		if errors.As(err, &none) {
			level = slog.LevelInfo
		}
		log.Log(context.Background(), level, "tensorrt isn't used: "+Unopened(err.Error()))
	})
}
