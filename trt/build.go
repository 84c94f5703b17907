package trt

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sightd/sightd/internal/strict"
)

// Names of what lies in a build's folder.
const (
	graphFile  = "graph.onnx"
	cacheFile  = "calibration.cache"
	jobFile    = "job.json"
	engineFile = "engine"
	reportFile = "report.json"
)

// Limits of what is read of a child's.
const (
	maxReport = 64 << 20
	maxJob    = 64 << 20
)

// BuildOptions say how a build is run.
type BuildOptions struct {
	// Command starts the child, which calls [Child] with the folder: the folder is
	// appended to it.
	Command []string
	Library string // as for Open
	// Called from one goroutine, in order; may be nil.
	Progress func(Progress)
	Log      func(severity int, line string) // TensorRT's own lines
}

// order is what the child is to do, beside the files.
type order struct {
	Library string `json:"library"`
	Cache   bool   `json:"cache"` // there is a file with it
	Job     Job    `json:"job"`
}

// said is one line of the child's: one of these.
type said struct {
	Progress *progressLine `json:"progress,omitempty"`
	Log      *logLine      `json:"log,omitempty"`
	Error    *Error        `json:"error,omitempty"`
	Done     bool          `json:"done,omitempty"`    // the report is written
	Info     *Info         `json:"info,omitempty"`    // of a probe: what it found, also beside an error
	Opening  string        `json:"opening,omitempty"` // the library that a probe is about to open
}

type progressLine struct {
	Phase   string  `json:"phase"`
	Step    int     `json:"step"`
	Steps   int     `json:"steps"`
	Seconds float64 `json:"seconds"`
}

type logLine struct {
	Severity int    `json:"severity"`
	Line     string `json:"line"`
}

// Build builds an engine in a child process, in dir, which exists and is empty.
// When ctx ends the builder is asked to stop, and killed where it doesn't. After
// an error dir may hold anything. The error has a [Status].
func Build(ctx context.Context, dir string, job Job, o BuildOptions) (*Built, error) {
	if err := job.check(); err != nil {
		return nil, &Error{BadArgument, "build", err.Error()}
	}
	if err := writeOrder(dir, job, o.Library); err != nil {
		return nil, &Error{Failed, "build", err.Error()}
	}
	var images *feed
	var stdin *os.File
	if job.Images != nil {
		if job.Images.Feed == nil {
			return nil, &Error{BadArgument, "build", "a calibration with images that nothing feeds"}
		}
		var err error
		if images, err = startFeed(ctx, job.Images.Feed); err != nil {
			return nil, &Error{Failed, "build", err.Error()}
		}
		ctx, stdin = images.ctx, images.from
	}
	var log warnings
	done := false
	err := runChild(ctx, "build", append(append([]string(nil), o.Command...), dir), stdin, &log, func(s said) {
		switch {
		case s.Progress != nil && o.Progress != nil:
			p := s.Progress
			o.Progress(Progress{p.Phase, p.Step, p.Steps, time.Duration(p.Seconds * float64(time.Second))})
		case s.Log != nil && o.Log != nil:
			o.Log(s.Log.Severity, s.Log.Line)
		case s.Done:
			done = true
		}
	})
	if images != nil {
		err = images.end(err, job.Cache != nil)
	}
	if err != nil {
		return nil, err
	}
	if !done {
		return nil, &Error{Crashed, "build", "the builder ended without a result"}
	}
	made, err := readReport(dir)
	if err != nil {
		return nil, &Error{Failed, "build", err.Error()}
	}
	made.Unscaled, made.Warnings = log.unscaled, log.others
	return made, nil
}

// check refuses what no builder could take.
func (j Job) check() error {
	if len(j.Graph) == 0 {
		return fmt.Errorf("there is no graph")
	}
	if _, known := calibrators[j.Calibrator]; !known {
		return fmt.Errorf("calibrator %q: wanted EntropyCalibration2, MinMaxCalibration, EntropyCalibration, LegacyCalibration or none", j.Calibrator)
	}
	if j.Batch < 1 || j.Batch > maxDimension {
		return fmt.Errorf("batch of %d: wanted 1 to %d", j.Batch, maxDimension)
	}
	if j.Workspace < 0 || j.TacticMemory < 0 {
		return fmt.Errorf("workspace of %d bytes, tactic memory of %d: wanted 0 or more", j.Workspace, j.TacticMemory)
	}
	if j.Optimisation < -1 || j.Optimisation > 5 {
		return fmt.Errorf("optimisation level %d: wanted 0 to 5, or -1 for TensorRT's own", j.Optimisation)
	}
	if j.StronglyTyped && (j.INT8 || j.FP16 || j.Cache != nil) {
		return fmt.Errorf("a strongly typed graph says itself what is INT8 and FP16: neither these nor a cache can be asked for beside it")
	}
	if j.Calibrator == "" && (j.Cache != nil || j.Images != nil) {
		return fmt.Errorf("a cache or images without a calibrator: wanted the algorithm that the cache's header names")
	}
	if i := j.Images; i != nil {
		if i.Table != nil {
			return checkChannels(len(i.Table), i.Channels)
		}
	}
	return nil
}

// writeOrder leaves in dir what the child reads.
func writeOrder(dir string, job Job, library string) error {
	files := map[string][]byte{graphFile: job.Graph}
	if job.Cache != nil {
		files[cacheFile] = job.Cache
	}
	text, err := json.Marshal(order{library, job.Cache != nil, job})
	if err != nil {
		return err
	}
	files[jobFile] = text
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func readOrder(dir string) (order, error) {
	var o order
	text, err := strict.ReadFile(filepath.Join(dir, jobFile), maxJob)
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err == nil {
		o.Job.Graph, err = os.ReadFile(filepath.Join(dir, graphFile))
	}
	if err == nil && o.Cache {
		o.Job.Cache, err = os.ReadFile(filepath.Join(dir, cacheFile))
	}
	return o, err
}

// readReport reads what the child made and found out.
func readReport(dir string) (*Built, error) {
	path := filepath.Join(dir, reportFile)
	text, err := strict.ReadFile(path, maxReport)
	if err != nil {
		return nil, err
	}
	made := new(Built)
	if err := json.Unmarshal(text, made); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	made.Plan = filepath.Join(dir, engineFile)
	if info, err := os.Stat(made.Plan); err != nil {
		return nil, err
	} else if info.Size() == 0 {
		return nil, fmt.Errorf("%s: the builder left an empty engine", made.Plan)
	}
	return made, nil
}
