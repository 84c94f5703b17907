package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// Engine runs one prepared graph: packed 8-bit RGB in, probabilities out. Its
// user is one goroutine at a time.
type Engine interface {
	// Bind prepares n images of Height×Width×3 bytes at pixels to be read in
	// place by each run, as often as they change. The memory stays the caller's and
	// must outlive the binding.
	Bind(pixels []byte, n int) (Binding, error)
	// Frame prepares one image that lies apart, to be gathered into runs. The same
	// holds for its memory.
	Frame(pixels []byte) (Frame, error)
	// Lanes is how many runs may be under way at once, each with a binding of its
	// own: copies of one overlap with the work on another.
	Lanes() int
	// Start begins to classify the images as they are now, and Wait ends it. Where
	// there is one lane, Wait may do all of it. They allocate nothing. After Start's
	// error there is nothing to wait for.
	Start(Binding) error
	Wait(Binding) error
	// Close frees the engine; its bindings are worthless then.
	Close() error
}

// infer is Start and Wait.
func infer(e Engine, b Binding) error {
	if err := e.Start(b); err != nil {
		return err
	}
	return e.Wait(b)
}

// Binding is an engine's hold on the memory of its input and output.
type Binding interface {
	// Gather has the next run take the frame as its image i: on a GPU where it lies,
	// so that it must not change before Wait; the CPU copies it to the binding's
	// memory now. It allocates nothing.
	Gather(i int, f Frame) error
	// Scores are the images' probabilities, n×classes, as the last run left
	// them. The next one overwrites them.
	Scores() []float32
	Close() error
}

// Frame is an engine's hold on the memory of one image.
type Frame interface {
	Close() error
}

// Backend makes engines out of releases.
type Backend interface {
	Name() string
	// Identity is what an engine depends on beside its graph and options: versions,
	// the device, the machine's features, as text.
	Identity() string
	// Prepare turns a release's model into what Build takes. It is deterministic.
	Prepare(rel *release.Release, o PrepareOptions) (*Prepared, error)
	// Build writes the engine to the file engine in dir, an empty folder, which
	// holds whatever else building leaves. It ends soon after ctx. progress may be
	// nil.
	Build(ctx context.Context, p *Prepared, dir string, progress func(BuildProgress)) (*BuildReport, error)
	// Load opens the engine that Build wrote for the same graph. It is given the very
	// bytes that have been held to their hash, and doesn't need them afterwards.
	Load(p *Prepared, stored []byte) (Engine, error)
}

// BuildProgress is how far a build is.
type BuildProgress struct {
	Phase    string        `json:"phase"`
	Step     int           `json:"step,omitempty"`
	Steps    int           `json:"steps,omitempty"` // 0: not known
	Elapsed  time.Duration `json:"-"`
	Estimate time.Duration `json:"-"` // of the whole, from earlier builds; 0: not known
}

// BuildReport is what a build found out; it stands in the engine's sidecar.
type BuildReport struct {
	Layers   map[string]int `json:"layers,omitempty"`   // how many compute in each precision
	Unscaled []string       `json:"unscaled,omitempty"` // tensors that the builder found no scale for
	Kept     []string       `json:"kept,omitempty"`     // tensors whose makers stay in floating point because the release says so
	Warnings []string       `json:"warnings,omitempty"`
	DLA      *dla.Report    `json:"dla,omitempty"`

	Timing  *trt.TimingOutcome `json:"timing,omitempty"` // nil: the back end has no timing cache
	Without float64            `json:"-"`                // seconds that builds without one took; 0: not known
}

// BackendOptions say which back end is opened, and what holds for all engines
// that it builds.
type BackendOptions struct {
	Name    string // auto, tensorrt or ort; "" is auto
	Threads int    // of the CPU; 0: one a core

	// Of TensorRT.
	Quantization string // auto, implicit (calibration table) or explicit (Q/DQ nodes); "" is auto
	Workspace    int64  // bytes that a layer may take while it runs, at most; 0: no limit
	TacticMemory int64  // bytes that building may take to try a layer, at most; 0: no limit
	Optimisation string // builder optimisation level, 0 to 5; "" is TensorRT's default
	ForceINT8    bool   // INT8 whatever it costs

	Engines string // folder of the engines, beside which is kept what is learnt of TensorRT; "" is none
	Log     *slog.Logger
}

// OpenBackend opens a back end. auto is TensorRT where it works and the CPU
// elsewhere, which is said in the log once.
func OpenBackend(ctx context.Context, o BackendOptions) (Backend, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch name := cmp.Or(o.Name, "auto"); name {
	case "ort":
		return openCPU(o, "")
	case "tensorrt":
		t, err := openTensorRT(ctx, o)
		if err != nil {
			return nil, err
		}
		return t, nil
	case "auto":
		t, err := openTensorRT(ctx, o)
		if err == nil {
			return t, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var wrong *usage
		if errors.As(err, &wrong) {
			return nil, err
		}
		sayWhyNot(o.Log, err)
		c, cpuErr := openCPU(o, err.Error())
		if cpuErr != nil {
			return nil, fmt.Errorf("neither back end works: %w; %w", err, cpuErr)
		}
		return c, nil
	default:
		return nil, fmt.Errorf("back end %q: want auto, tensorrt or ort", name)
	}
}

func openCPU(o BackendOptions, why string) (Backend, error) {
	if err := ort.Open(""); err != nil {
		return nil, err
	}
	return cpu{ort.Options{Threads: o.Threads}, why}, nil
}

// WhyNot is why auto took this back end and not TensorRT; "" where it was asked
// for.
func WhyNot(b Backend) string {
	if c, ok := b.(cpu); ok {
		return c.why
	}
	return ""
}
