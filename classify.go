package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

// modelFlags are the flags of every command that runs a release's model.
type modelFlags struct {
	Precision string `enum:"int8,fp16,fp32,auto" default:"auto" help:"int8, fp16, fp32, or auto: what the release says."`
	Backend   string `enum:"auto,tensorrt,ort" default:"auto" help:"auto, tensorrt or ort (the CPU)."`
	Threads   int    `default:"0" help:"Threads of the CPU's engine; 0: one a core."`

	Quantization string `enum:"auto,implicit,explicit" default:"auto" help:"How TensorRT is told of INT8: implicit (calibration table), explicit (Q/DQ nodes), or auto: implicit up to TensorRT 10."`

	OptimizationLevel string `enum:"auto,0,1,2,3,4,5" default:"auto" aliases:"optimisation,optimization" help:"TensorRT's builder optimisation level: the higher, the longer it builds for a quicker engine."`
	Engines           string `placeholder:"DIR" help:"Folder of stored engines, such as engines in a daemon's state_dir; default: the user's cache."`
}

// options are the flags as package daemon knows them.
func (f modelFlags) options(a *app) daemon.ModelOptions {
	level := f.OptimizationLevel
	if level == "auto" {
		level = ""
	}
	return daemon.ModelOptions{
		BackendOptions: daemon.BackendOptions{
			Name: f.Backend, Threads: f.Threads, Quantization: f.Quantization, Workspace: defaultWorkspace,
			Optimisation: level, Engines: f.Engines,
			Log: slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		},
		Precision: f.precision(),
	}
}

// defaultWorkspace is inference.workspace's, so that commands and daemon make the
// same engine.
var defaultWorkspace = int64(daemon.DefaultConfig().Inference.Workspace)

// precision is the flag's as package daemon knows it: "" is the release's own.
func (f modelFlags) precision() string {
	if f.Precision == "auto" {
		return ""
	}
	return f.Precision
}

// forTensorRT are the flags given that mean something to TensorRT alone.
func (f modelFlags) forTensorRT() []string {
	var given []string
	if f.Quantization != "auto" {
		given = append(given, "--quantization "+f.Quantization)
	}
	if f.OptimizationLevel != "auto" {
		given = append(given, "--optimization-level "+f.OptimizationLevel)
	}
	return given
}

// check refuses what can't be meant. More flags may be for TensorRT alone.
func (f modelFlags) check(more ...string) error {
	if f.Threads < 0 {
		return usagef("--threads %d: want 0 or more", f.Threads)
	}
	if given := append(f.forTensorRT(), more...); f.Backend == "ort" && len(given) > 0 {
		return usagef("%s: that is for TensorRT alone, --backend says ort: leave out the one or the other", strings.Join(given, ", "))
	}
	return nil
}

// note says what was done otherwise than one may think, where auto took the CPU:
// that TensorRT is there but doesn't work, and which flags had no effect.
func (f modelFlags) note(a *app, backend string, more ...string) {
	if f.Backend != "auto" || backend == "tensorrt" {
		return
	}
	var none *daemon.NotInstalled
	if _, err := daemon.FindTensorRT(a.ctx, ""); err != nil && !errors.As(err, &none) { // found once a process
		a.note("tensorrt isn't used: " + daemon.Unopened(err.Error()))
	}
	if given := append(f.forTensorRT(), more...); len(given) > 0 {
		a.note(strings.Join(given, ", ") + ": without effect on the CPU")
	}
}

// open opens a release and its model. Progress goes to standard error.
func (f modelFlags) open(a *app, path string, precision string) (*release.Release, *daemon.Model, error) {
	if err := f.check(); err != nil {
		return nil, nil, err
	}
	rel, err := release.Open(path)
	if err != nil {
		return nil, nil, err
	}
	m, err := f.openModel(a, rel, precision)
	if err != nil {
		rel.Close()
		return nil, nil, err
	}
	return rel, m, nil
}

// openModel opens the model of a release, which stays the caller's.
func (f modelFlags) openModel(a *app, rel *release.Release, precision string) (*daemon.Model, error) {
	o := f.options(a)
	o.Precision = precision
	o.Building = func(p daemon.BuildProgress) {
		if p.Elapsed == 0 {
			about := ""
			if p.Estimate > time.Second {
				about = fmt.Sprintf(", about %v", p.Estimate.Round(time.Second))
			}
			fmt.Fprintf(a.stderr, "building the engine of %s %d (stored for the next time%s) …\n", rel.Spec.Name, rel.Spec.Release, about)
		}
	}
	m, err := daemon.OpenModel(a.ctx, rel, o)
	if err != nil {
		return nil, err
	}
	f.note(a, m.Backend)
	if m.Note != "" {
		a.note(m.Note)
	}
	return m, nil
}

type classifyCmd struct {
	modelFlags
	Release string   `arg:"" help:"model.yaml, a release's folder, or a .tar.zst."`
	Files   []string `arg:"" name:"file" help:"Images and videos."`
	Top     int      `default:"0" help:"How many labels; 0: what the release says."`
	JSON    bool     `name:"json" help:"One JSON document a frame."`
}

// classified is a line of classify --json.
type classified struct {
	Path  string     `json:"path"`
	Frame int        `json:"frame"`
	Top   []topLabel `json:"top,omitempty"`
	MS    float64    `json:"ms"`
	Error string     `json:"error,omitempty"`
}

type topLabel struct {
	Label string  `json:"label"`
	Index int     `json:"index"`
	Score float32 `json:"score"`
}

type unreadable struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

func (c *classifyCmd) Run(a *app) error {
	if c.Top < 0 {
		return usagef("--top %d: want 0 or more", c.Top)
	}
	rel, m, err := c.open(a, c.Release, c.precision())
	if err != nil {
		return err
	}
	defer rel.Close()
	if c.Top > 0 {
		m.Top = min(c.Top, len(m.Labels))
	}
	out := json.NewEncoder(a.stdout)
	out.SetEscapeHTML(false)
	top := make([]daemon.Score, m.Top)
	failed, total := 0, 0
	err = m.Files(a.ctx, c.Files, func(r *daemon.Result) {
		path := c.Files[r.Frame.File]
		total++
		scores, err := m.TopK(top, r)
		if err != nil {
			failed++
			if c.JSON {
				_ = out.Encode(unreadable{path, reason(path, err)})
			} else {
				fmt.Fprintf(a.stderr, "%s: %s\n", path, reason(path, err))
			}
			return
		}
		line := classified{Path: path, Frame: r.Frame.Index, MS: milliseconds(r.Infer)}
		for _, s := range scores {
			line.Top = append(line.Top, topLabel{m.Labels[s.Index], s.Index, s.Score})
		}
		if c.JSON {
			_ = out.Encode(line)
			return
		}
		fmt.Fprintf(a.stdout, "%s\n", line.text())
	})
	if err != nil {
		return err
	}
	if failed > 0 {
		fmt.Fprintf(a.stderr, "%d of %d couldn't be read\n", failed, total)
		return exitStatus(1)
	}
	return a.ctx.Err()
}

// reason is an error about a file without the file's path, which most have.
func reason(path string, err error) string { return strings.TrimPrefix(err.Error(), path+": ") }

func (c classified) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", c.Path)
	if c.Frame > 0 {
		fmt.Fprintf(&b, " #%d", c.Frame)
	}
	for i, t := range c.Top {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s %.1f %%", sep, t.Label, 100*t.Score)
	}
	fmt.Fprintf(&b, "  (%.1f ms)", c.MS)
	return b.String()
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
