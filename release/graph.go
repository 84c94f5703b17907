package release

import (
	"fmt"

	"github.com/sightd/sightd/onnx"
)

// GraphOptions say what [Checked.Graph] makes of a release's model.
type GraphOptions struct {
	Scales   map[string]float32 // of activations, for INT8; nil leaves the model in floating point
	Quantize onnx.QuantizeOptions
	Batch    int      // images at a time
	Softmax  bool     // behind the scores, where the release says so
	Expose   []string // tensors that are the outputs instead of the model's own; nil: its own
}

// Graph is the release's model as back ends take it: packed 8-bit RGB, N×H×W×3,
// in. It is made anew each time; the release's model stays as it is.
func (c *Checked) Graph(o GraphOptions) (*onnx.Model, onnx.QuantizeReport, error) {
	m := c.Model.Clone()
	var report onnx.QuantizeReport
	var err error
	if o.Scales != nil {
		report, err = m.Quantize(o.Scales, o.Quantize)
	}
	if err == nil {
		err = fixBatch(m, o.Batch, c.Image.Batch)
	}
	if err == nil {
		err = m.AddFront(c.front())
	}
	if err == nil && o.Softmax && c.wantsSoftmax() {
		err = m.AddSoftmax()
	}
	if err == nil && o.Expose != nil {
		err = m.Expose(o.Expose)
	}
	if err != nil {
		return nil, report, fmt.Errorf("prepare model %s: %w", c.path, err)
	}
	return m, report, nil
}

// front is how pixels become the model's input.
func (c *Checked) front() onnx.Front {
	in := c.Spec.Input
	return onnx.Front{Color: in.Color, Mean: in.Mean, Std: in.Std}
}

// wantsSoftmax says whether softmax is to come behind the model's scores.
func (c *Checked) wantsSoftmax() bool {
	out := c.Spec.Output.Softmax
	return out == "true" || out == "auto" && !c.Output.Softmax
}

// fixBatch makes the graph take batches of the size wanted, where its own is
// given (0: any).
func fixBatch(m *onnx.Model, wanted int, own int64) error {
	switch {
	case wanted == 1: // ONNX Runtime does best with a batch that it knows
		return m.SetBatch(1)
	case own != 0:
		return fmt.Errorf("its batch is fixed to %d, so inference.batch must be auto or 1", own)
	}
	return nil
}
