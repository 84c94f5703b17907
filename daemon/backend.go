package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/release"
)

// Engine runs one prepared graph: packed 8-bit RGB in, probabilities out. Its
// user is one goroutine at a time.
type Engine interface {
	// Bind prepares n images of Height×Width×3 bytes at pixels to be read in
	// place by each run, as often as they change. The memory stays the caller's and
	// must outlive the binding.
	Bind(pixels []byte, n int) (Binding, error)
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
	// Scores are the images' probabilities, n×classes, as the last run left
	// them. The next one overwrites them.
	Scores() []float32
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
	// Load opens the engine that Build wrote for the same graph. The file has been
	// held to its hash.
	Load(p *Prepared, path string) (Engine, error)
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
	Warnings []string       `json:"warnings,omitempty"`
}

// OpenBackend opens the named back end (auto, tensorrt, ort) with so many
// threads (0: one a core).
func OpenBackend(name string, threads int) (Backend, error) {
	switch name {
	case "auto", "ort", "":
		if err := ort.Open(""); err != nil {
			return nil, err
		}
		return cpu{ort.Options{Threads: threads}}, nil
	case "tensorrt":
		return nil, fmt.Errorf("back end tensorrt: this version of sightd has none yet; use ort (the CPU) or auto")
	}
	return nil, fmt.Errorf("back end %q: want auto, tensorrt or ort", name)
}

// cpu is ONNX Runtime on the CPU.
type cpu struct{ options ort.Options }

func (c cpu) Name() string { return "ort" }

func (c cpu) Identity() string {
	return fmt.Sprintf("onnxruntime %s, %s", ort.Version(), ort.Features())
}

// Saturates tells whether graphs in INT8 have to keep their sums small.
func (c cpu) Saturates() bool { return ort.Saturates() }

func (c cpu) Prepare(rel *release.Release, o PrepareOptions) (*Prepared, error) {
	return prepareCPU(rel, o, c.Saturates())
}

func (c cpu) Build(_ context.Context, p *Prepared, dir string, _ func(BuildProgress)) (*BuildReport, error) {
	graph, err := p.graph()
	if err != nil {
		return nil, err
	}
	o := c.options
	o.Bounded = p.Bounded
	return &BuildReport{}, ort.Build(graph, filepath.Join(dir, engineFile), o)
}

func (c cpu) Load(_ *Prepared, path string) (Engine, error) {
	e, err := ort.Load(path, c.options)
	if err != nil {
		return nil, err
	}
	return cpuEngine{e}, nil
}

// cpuEngine gives ort's concrete bindings as the interface that TensorRT's
// will share.
type cpuEngine struct{ *ort.Engine }

func (e cpuEngine) Bind(pixels []byte, n int) (Binding, error) { return e.Engine.Bind(pixels, n) }
func (e cpuEngine) Lanes() int                                 { return 1 }
func (e cpuEngine) Start(Binding) error                        { return nil }
func (e cpuEngine) Wait(b Binding) error                       { return e.Engine.Run(b.(*ort.Binding)) }
