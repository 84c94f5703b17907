package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/onnx"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// Prepared is a release's model as a back end takes it: uint8 N×H×W×3 packed
// RGB in, N×classes probabilities out.
type Prepared struct {
	Hash          string // SHA-256 of the graph
	Cache         string `json:",omitempty"` // SHA-256 of the calibration table; "" without one
	Width, Height int
	Classes       int
	Batch         int    // images in a run at most
	Precision     string // of the graph: int8, fp16 or fp32
	Note          string // what isn't as it was asked for, and why; empty where all is
	Bounded       bool   // the graph keeps its INT8 sums small; see onnx.QuantizeOptions.Saturating
	Coverage      float64
	Labels        []string `json:"-"` // by index; made of numbers where the release has none
	Top           int      // how many scores are reported
	First         int      // class of the first label
	Geometry      camera.Geometry

	Import string `json:"-"` // SHA-256 of the engine that was dropped in for it; "": it is built here

	TensorRT *TensorRTPlan `json:",omitempty"` // nil: not for TensorRT

	graph func() (graph, cache []byte, err error) // ONNX; calibration table, nil without one
}

// TensorRTPlan is how TensorRT builds and runs a prepared graph.
type TensorRTPlan struct {
	Quantization string      `json:"quantization,omitempty"` // of INT8: implicit or explicit
	Job          trt.Job     `json:"job"`                    // without graph, cache and paths
	Wish         dla.Wish    `json:"wish"`
	Cores        []int       `json:"cores,omitempty"` // DLA's; none: the GPU
	Reason       string      `json:"reason"`          // of the device
	Direct       *trt.Direct `json:"direct,omitempty"`
}

// Device is where the engine runs, as its key tells: "" on the CPU, gpu or dla.
func (p *Prepared) Device() string {
	switch {
	case p.TensorRT == nil:
		return ""
	case len(p.TensorRT.Cores) > 0:
		return "dla"
	}
	return "gpu"
}

// options is what the engine depends on beside the graph and the table, as JSON.
func (p *Prepared) options() json.RawMessage {
	if p.TensorRT == nil {
		return nil
	}
	b, err := json.Marshal(p.TensorRT.Job)
	if err != nil {
		panic(err) // numbers and strings only
	}
	return b
}

// PrepareOptions are what a graph depends on beside its release.
type PrepareOptions struct {
	Precision string    `json:"precision"`           // int8, fp16 or fp32; "" is the release's own
	Batch     int       `json:"batch"`               // images in a run at most; 0 is 1
	Placement *dla.Wish `json:"placement,omitempty"` // nil: the release's
}

// newPrepared is what all back ends take from a checked release.
func newPrepared(c *release.Checked, o PrepareOptions) *Prepared {
	in, out := c.Spec.Input, c.Spec.Output
	p := &Prepared{
		Width: c.Image.Width, Height: c.Image.Height,
		Classes: c.Output.Classes, Batch: max(o.Batch, 1), Precision: c.Precision,
		Labels: c.Labels, Top: min(out.Top, len(c.Labels)), First: out.First,
		Geometry: camera.Geometry{
			Width: c.Image.Width, Height: c.Image.Height,
			Resize: in.Resize, Filter: in.Filter, Crop: in.Crop, Pad: uint8(in.Pad),
			Region: [4]float64{0, 0, 1, 1},
		},
	}
	if c.Fit != nil {
		p.Coverage = c.Fit.Coverage
	}
	return p
}

// holds keeps what the engine is built from, and its hashes.
func (p *Prepared) holds(graph, cache []byte) {
	p.Hash = hashBytes(graph)
	if cache != nil {
		p.Cache = hashBytes(cache)
	}
	p.graph = func() ([]byte, []byte, error) { return graph, cache, nil }
}

func hashBytes(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// prepareCPU reads a release's model and turns it into the graph for the CPU: in
// INT8 quantised with the scales of the release's cache, preprocessing in
// front, softmax behind. A saturating CPU's graph keeps its sums small. A release
// that doesn't fit together is refused: nothing falls back silently.
func prepareCPU(rel *release.Release, o PrepareOptions, saturating bool) (*Prepared, error) {
	c, err := rel.Check(o.Precision)
	if err != nil {
		return nil, err
	}
	p := newPrepared(c, o)
	g := release.GraphOptions{Batch: p.Batch, Softmax: true}
	switch p.Precision {
	case "int8":
		p.Bounded = saturating
		g.Scales = c.Fit.Scales
		g.Quantize = onnx.QuantizeOptions{Unsigned: true, Saturating: saturating, Keep: c.Spec.KeepFP, Islands: true}
	case "fp16":
		p.Precision, p.Note = "fp32", "the CPU has no quick arithmetic in FP16, so it computes in FP32"
	}
	m, _, err := c.Graph(g)
	if err != nil {
		return nil, err
	}
	graph, err := m.Encode()
	if err != nil {
		return nil, fmt.Errorf("prepare model %s: %w", rel.Model, err)
	}
	p.holds(graph, nil)
	return p, nil
}
