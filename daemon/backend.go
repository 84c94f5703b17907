package daemon

import (
	"fmt"

	"github.com/sightd/sightd/ort"
)

// Engine runs one prepared graph: packed 8-bit RGB in, probabilities out. Its
// user is one goroutine at a time.
type Engine interface {
	// Bind prepares n images of Height×Width×3 bytes at pixels to be read in
	// place by Run, as often as they change. The memory stays the caller's and
	// must outlive the binding.
	Bind(pixels []byte, n int) (Binding, error)
	// Run classifies the images as they are now. It allocates nothing.
	Run(Binding) error
	// Close frees the engine; its bindings are worthless then.
	Close() error
}

// Binding is an engine's hold on the memory of its input and output.
type Binding interface {
	// Scores are the images' probabilities, n×classes, as the last Run left
	// them. The next one overwrites them.
	Scores() []float32
	Close() error
}

// Backend makes engines out of prepared graphs.
type Backend interface {
	Name() string
	// Identity is what an engine depends on beside graph and options: versions
	// and the machine's features, as text.
	Identity() string
	// Saturates tells whether graphs in INT8 have to keep their sums small.
	Saturates() bool
	// Build writes the engine for the graph to the file out. Bounded graphs
	// keep their sums small.
	Build(graph []byte, bounded bool, out string) error
	Load(path string) (Engine, error)
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

func (c cpu) Saturates() bool { return ort.Saturates() }

func (c cpu) Build(graph []byte, bounded bool, out string) error {
	o := c.options
	o.Bounded = bounded
	return ort.Build(graph, out, o)
}

func (c cpu) Load(path string) (Engine, error) {
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
func (e cpuEngine) Run(b Binding) error                        { return e.Engine.Run(b.(*ort.Binding)) }
