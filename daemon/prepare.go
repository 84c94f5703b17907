package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/onnx"
	"github.com/sightd/sightd/release"
)

// Prepared is a release's model as a back end takes it: uint8 N×H×W×3 packed
// RGB in, N×classes probabilities out.
type Prepared struct {
	Hash          string // SHA-256 of the graph
	Width, Height int
	Classes       int
	Batch         int    // images in a run at most
	Precision     string // of the graph: int8 or fp32
	Note          string // why the precision isn't the one that was asked for; empty where it is
	Bounded       bool   // the graph keeps its INT8 sums small; see onnx.QuantizeOptions.Saturating
	Coverage      float64
	Labels        []string `json:"-"` // by index; made of numbers where the release has none
	Top           int      // how many scores are reported
	First         int      // class of the first label
	Geometry      camera.Geometry

	graph func() ([]byte, error) // ONNX
}

// PrepareOptions are what a graph depends on beside its release.
type PrepareOptions struct {
	Precision string `json:"precision"` // int8, fp16 or fp32; "" is the release's own
	Batch     int    `json:"batch"`     // images in a run at most; 0 is 1
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
	g := release.GraphOptions{Batch: p.Batch, Softmax: true}
	switch p.Precision {
	case "int8":
		p.Coverage = c.Fit.Coverage
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
	sum := sha256.Sum256(graph)
	p.Hash = hex.EncodeToString(sum[:])
	p.graph = func() ([]byte, error) { return graph, nil }
	return p, nil
}
