// Package trt builds and runs TensorRT engines. It is the only door to
// TensorRT's C++: a small shared library with a C ABI (abi/sightd_trt.h),
// compiled once for each major version of TensorRT (shim/), which [Open] opens
// at run time, so that sightd itself needs neither TensorRT nor CUDA. A double
// of that library (double/) lets everything here be tested anywhere.
//
// Engines are built in a child process ([Build] and [Child]): a builder can
// crash, run out of memory, or take minutes that nobody wants to wait for, and
// its memory returns. They are run in this one ([Load]).
package trt

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Version is a version of TensorRT or CUDA, major × 10000 + minor × 100 +
// patch; 0 is not known.
type Version int32

// Major is the first part of the version.
func (v Version) Major() int { return int(v) / 10000 }

func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100)
}

// Info is what Open found.
type Info struct {
	Library  string  // path of libsightd-trtN.so
	TensorRT Version // that was opened
	Compiled Version // whose headers the library was compiled with
	CUDA     Version // the newest that the driver takes
	Device   Device
}

// Device is the GPU that engines run on, and what stands beside it.
type Device struct {
	Name         string
	Major, Minor int    // compute capability
	Integrated   bool   // it shares the host's memory, as a Jetson's does
	DLACores     int    // as TensorRT counts them
	Memory, Free uint64 // bytes
	UUID         string
}

// Status is what kind of failure an [Error] is. The numbers are the C ABI's.
type Status int32

// The kinds of failure.
const (
	BadArgument Status = 1 + iota
	Missing            // a library isn't there, or misses a part
	WrongVersion
	NoDevice // no GPU, no driver, or a driver too old
	NoMemory
	BadModel
	BadCache // the calibration cache was refused, or the calibration failed
	BadPlan  // damaged, or made for another version or device
	Cancelled
	Unsupported
	Failed
	Crashed // the builder's process ended without a word
)

// Error is a failure of TensorRT, CUDA, or of what stands between.
type Error struct {
	Status  Status
	Op      string // open, build, load, run, …
	Message string
}

func (e *Error) Error() string { return "tensorrt: " + e.Op + ": " + e.Message }

// StatusOf is the kind of the [Error] in err's chain, or 0.
func StatusOf(err error) Status {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// ErrClosed is the error of an engine or binding that is closed.
var ErrClosed = errors.New("tensorrt: the engine is closed")

// Job is one build.
type Job struct {
	Graph []byte `json:"-"` // ONNX, without external data

	INT8          bool     `json:"int8"`           // by the cache or by the graph's Q/DQ nodes
	FP16          bool     `json:"fp16"`           // what isn't INT8 may be FP16
	StronglyTyped bool     `json:"strongly_typed"` // types are the graph's alone: INT8 and FP16 are false then
	Cache         []byte   `json:"-"`              // calibration table under a header that this TensorRT takes; nil: none
	Calibrator    string   `json:"calibrator"`     // the header's algorithm; "" is none
	Keep          []string `json:"keep"`           // tensors whose makers stay in floating point
	Images        *Images  `json:"images"`         // calibrate on the device with these; nil: fail where no cache is taken

	Batch        int   `json:"batch"`         // most images in a run
	Workspace    int64 `json:"workspace"`     // bytes at most; 0: no limit
	TacticMemory int64 `json:"tactic_memory"` // bytes at most; 0: no limit
	Optimisation int   `json:"optimisation"`  // builder optimisation level, 0 to 5; -1: TensorRT's default
	ForceINT8    bool  `json:"force_int8"`    // every layer that can is INT8 whatever it costs

	TimingCache string  `json:"timing_cache"` // file, read where it is there and written; "" is none
	DLA         *DLAJob `json:"dla"`          // nil: the GPU
}

// Images are for a calibration on the device.
type Images struct {
	File  string `json:"file"` // packed 8-bit RGB, Count × height × width × 3 bytes
	Count int    `json:"count"`
	// For a graph whose input is float N×C×H×W: Table[c][b] is the value of byte b in
	// channel c, which is the pixel's Channels[c]-th byte. Nil: the graph takes bytes.
	Table    [][256]float32 `json:"table"`
	Channels []int          `json:"channels"`
}

// DLAJob is a build for DLA cores.
type DLAJob struct {
	Core       int     `json:"core"`        // any: cores are alike, and chosen at load
	Fallback   bool    `json:"fallback"`    // layers that DLA can't run go to the GPU
	Direct     bool    `json:"direct"`      // INT8 input in DLA's own format, FP16 output: the second form
	InputScale float32 `json:"input_scale"` // of Direct's INT8
}

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

// Progress is how far a build is.
type Progress struct {
	Phase       string // TensorRT's name for it, or parse, build, serialise
	Step, Steps int    // Steps 0: not known
	Elapsed     time.Duration
}

// Built is what a build made and found out.
type Built struct {
	Plan     string        `json:"-"`       // path of the engine, in the build's folder, synced
	Seconds  float64       `json:"seconds"` // that the builder took
	Layers   []Layer       `json:"layers"`
	Unscaled []string      `json:"unscaled"` // tensors that TensorRT found no scale for
	Warnings []string      `json:"warnings"` // the log's other warnings and errors, each once
	Cache    []byte        `json:"cache"`    // the table that a calibration on the device wrote
	DLA      []DLAVerdict  `json:"dla"`      // by layer of the network, before anything was fused
	Timing   TimingOutcome `json:"timing"`
	Info     Info          `json:"info"` // of the child
}

// TimingOutcome says what the timing cache did.
type TimingOutcome struct {
	Given   int64 `json:"given"`   // bytes of an earlier one; 0: none
	Refused bool  `json:"refused"` // it was damaged or another version's, and done without
	Size    int64 `json:"size"`    // bytes now
}

// DLAVerdict is whether DLA can run a layer of the network.
type DLAVerdict struct {
	Layer string `json:"layer"`
	Can   bool   `json:"can"`
}

// Layer is a layer of an engine, as TensorRT's inspector tells it.
type Layer struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Precision string `json:"precision"` // int8, fp16, fp32 or another; "" where it computes nothing
	Device    string `json:"device"`    // gpu or dla
	Reformat  bool   `json:"reformat"`  // it changes a tensor's format or type alone
}

// Build builds an engine in a child process, in dir, which exists and is empty.
// When ctx ends the builder is asked to stop, and killed where it doesn't. After
// an error dir may hold anything. The error has a [Status].
func Build(ctx context.Context, dir string, job Job, o BuildOptions) (*Built, error) {
	return nil, errors.New("tensorrt: build: not there yet")
}

// Child is the main function of the child process: it carries the build in dir out
// and returns the exit status.
func Child(dir string) int { return 1 }

// Open finds and opens the library for the TensorRT that this machine has, once a
// process: again it returns what it found then. With a path or a loader's name, that
// library and no other is taken; the environment's SIGHTD_TENSORRT stands for "".
// The error says what is missing and what to do.
func Open(library string) (Info, error) {
	return Info{}, &Error{Missing, "open", "not there yet"}
}

// Probe is Open in a child process, started by command, whose main function calls
// [ProbeChild]: where TensorRT is half installed it may crash, and this says so.
func Probe(ctx context.Context, command []string, library string) (Info, error) {
	return Info{}, &Error{Missing, "open", "not there yet"}
}

// ProbeChild is the main function of Probe's child and returns its exit status.
func ProbeChild(library string) int { return 1 }

// LoadOptions say how an engine is run.
type LoadOptions struct {
	Lanes  int     // runs that may be under way at once on the GPU; 0: 2
	Graphs bool    // launch runs as CUDA graphs, where that works
	Cores  []int   // DLA cores to run on, one lane each; nil: the GPU
	Direct *Direct // for a plan of the second form
}

// Direct is how pixels become the input of a plan of DLA's second form.
type Direct struct {
	Table    [][256]int8 // by channel of the network
	Channels []int       // Channels[c] is which byte of a pixel channel c is made of
	Softmax  bool        // scores are made of the output by softmax
}

// Engine is a loaded engine. Bind, Close and the rest may be called by several
// goroutines; a binding is one goroutine's at a time.
type Engine struct{}

// Load deserialises a plan, which must have been checked before: a plan is code.
func Load(plan []byte, o LoadOptions) (*Engine, error) { return nil, errors.New("not there yet") }

// Batch is the most images in a run.
func (e *Engine) Batch() int { return 0 }

// Height is that of the images, in pixels.
func (e *Engine) Height() int { return 0 }

// Width is that of the images, in pixels.
func (e *Engine) Width() int { return 0 }

// Classes is the number of scores for each image.
func (e *Engine) Classes() int { return 0 }

// Lanes is how many runs may be under way at once.
func (e *Engine) Lanes() int { return 0 }

// DeviceMemory is what the engine needs of the device's memory, in bytes, as far as
// TensorRT tells.
func (e *Engine) DeviceMemory() uint64 { return 0 }

// Layers are the engine's layers, in order, as the inspector tells them.
func (e *Engine) Layers() ([]Layer, error) { return nil, nil }

// Bind prepares n images of Height×Width×3 bytes at pixels, packed 8-bit RGB, to be
// read by each Start, as often as they change: where they lie, where CUDA can
// register that memory, else by way of a copy. The memory is the caller's and must
// not move: it is C's or a mapping, or the caller pins it, until the binding closes.
func (e *Engine) Bind(pixels []byte, n int) (*Binding, error) { return nil, nil }

// Start begins to classify the images on the next lane in turn. At most Lanes runs
// are under way, each with a binding of its own. It allocates no Go memory.
func (e *Engine) Start(b *Binding) error { return nil }

// Wait ends what Start began; then the scores hold its result.
func (e *Engine) Wait(b *Binding) error { return nil }

// Run is Start and Wait.
func (e *Engine) Run(b *Binding) error { return nil }

// Close waits for runs, closes the engine's bindings and frees all. Closing again
// does nothing.
func (e *Engine) Close() error { return nil }

// Binding is an engine's hold on the memory of its input and output.
type Binding struct{}

// Scores are the images' scores as the last Wait left them, n×classes. The next run
// overwrites them.
func (b *Binding) Scores() []float32 { return nil }

// Registered tells whether runs read the pixels where they lie.
func (b *Binding) Registered() bool { return false }

// Graphs tells whether runs are launched as CUDA graphs.
func (b *Binding) Graphs() bool { return false }

// Close lets the memory go. Closing again, or after the engine, does nothing.
func (b *Binding) Close() error { return nil }
