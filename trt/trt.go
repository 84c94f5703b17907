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
	"io"
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
	Broken  // CUDA doesn't work any more in this process, whatever is tried
)

var statuses = [...]string{
	"ok", "a wrong argument", "a missing library", "a wrong version", "no device", "no memory", "a model that can't be taken",
	"a calibration cache that can't be taken", "a plan that can't be taken", "cancelled", "unsupported", "failed", "crashed",
	"CUDA is broken in this process",
}

func (s Status) String() string {
	if s < 0 || int(s) >= len(statuses) {
		return fmt.Sprintf("status %d", int32(s))
	}
	return statuses[s]
}

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

// calibrators are the kinds of calibrator, as a cache's header names them, in the C
// ABI's numbers.
var calibrators = map[string]int{
	"":                    0,
	"EntropyCalibration2": 1,
	"MinMaxCalibration":   2,
	"EntropyCalibration":  3,
	"LegacyCalibration":   4,
}

// Job is one build.
type Job struct {
	Graph []byte `json:"-"` // ONNX, without external data

	INT8          bool     `json:"int8"`           // by the cache or by the graph's Q/DQ nodes
	FP16          bool     `json:"fp16"`           // what isn't INT8 may be FP16
	StronglyTyped bool     `json:"strongly_typed"` // types are the graph's alone: INT8 and FP16 are false then
	Cache         []byte   `json:"-"`              // calibration table under a header that this TensorRT takes; nil: none
	Calibrator    string   `json:"calibrator"`     // the header's algorithm, as EntropyCalibration2; "" is none
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
	// Feed writes images behind each other, packed 8-bit RGB of height × width × 3 bytes
	// each. The builder reads them as it needs them, so what is under way is bounded. It
	// is called once, in a goroutine of its own; ctx ends when nobody wants more. An
	// error other than one of writing ends the build, and is what Build returns.
	Feed func(ctx context.Context, to io.Writer) error `json:"-"`
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
