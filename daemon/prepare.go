package daemon

import (
	"fmt"
	"os"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/onnx"
	"github.com/sightd/sightd/release"
)

// Prepared is a release's model as a back end takes it: uint8 N×H×W×3 packed
// RGB in, N×classes probabilities out.
type Prepared struct {
	Graph         []byte // ONNX
	Width, Height int
	Classes       int
	Batch         int    // images in a run at most
	Precision     string // of the graph: int8 or fp32
	Note          string // why the precision isn't the one that was asked for; empty where it is
	Coverage      float64
	Labels        []string // by index; made of numbers where the release has none
	Top           int      // how many scores are reported
	First         int      // class of the first label
	Geometry      camera.Geometry
}

// Prepare reads a release's model and turns it into the graph for the CPU: in
// INT8 quantised with the scales of the release's cache, preprocessing in
// front, softmax behind. precision "" is the release's own. Below the
// release's coverage it refuses: nothing falls back silently.
func Prepare(rel *release.Release, precision string, batch int) (*Prepared, error) {
	spec := rel.Spec
	if precision == "" {
		precision = spec.Precision
	}
	m, err := onnx.Read(rel.Model)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	image, err := m.Image()
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", rel.Model, err)
	}
	out, err := m.Classes()
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", rel.Model, err)
	}
	labels, err := rel.LabelsFor(out.Classes)
	if err != nil {
		return nil, err
	}
	p := &Prepared{
		Width: image.Width, Height: image.Height,
		Classes: out.Classes, Batch: max(batch, 1), Precision: precision,
		Labels: labels, Top: spec.Output.Top, First: spec.Output.First,
		Geometry: camera.Geometry{
			Width: image.Width, Height: image.Height,
			Resize: spec.Input.Resize, Filter: spec.Input.Filter,
			Crop: spec.Input.Crop, Pad: uint8(spec.Input.Pad),
			Region: [4]float64{0, 0, 1, 1},
		},
	}
	switch precision {
	case "int8":
		if err := p.quantize(rel, m); err != nil {
			return nil, err
		}
	case "fp16":
		p.Precision, p.Note = "fp32", "the CPU has no quick arithmetic in FP16, so it computes in FP32"
	}
	switch {
	case p.Batch == 1: // ONNX Runtime does best with a batch that it knows
		err = m.SetBatch(1)
	case image.Batch != 0:
		err = fmt.Errorf("its batch is fixed to %d, so inference.batch must be auto or 1", image.Batch)
	}
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", rel.Model, err)
	}
	if err := m.AddFront(onnx.Front{Color: spec.Input.Color, Mean: spec.Input.Mean, Std: spec.Input.Std}); err != nil {
		return nil, fmt.Errorf("model %s: %w", rel.Model, err)
	}
	if spec.Output.Softmax == "true" || spec.Output.Softmax == "auto" && !out.Softmax {
		if err := m.AddSoftmax(); err != nil {
			return nil, fmt.Errorf("model %s: %w", rel.Model, err)
		}
	}
	if p.Graph, err = m.Encode(); err != nil {
		return nil, fmt.Errorf("model %s: %w", rel.Model, err)
	}
	return p, nil
}

func (p *Prepared) quantize(rel *release.Release, m *onnx.Model) error {
	if rel.Calibration == "" {
		return fmt.Errorf("release %s %d has no calibration cache, which INT8 needs: name one as `calibration` in its model.yaml, or ask for fp32", rel.Spec.Name, rel.Spec.Release)
	}
	b, err := os.ReadFile(rel.Calibration)
	if err != nil {
		return fmt.Errorf("calibration cache: %w", err)
	}
	cache, err := calibcache.Parse(b)
	if err != nil {
		return fmt.Errorf("calibration cache %s: %w", rel.Calibration, err)
	}
	fit, err := calibcache.Check(cache, m)
	if err != nil {
		return fmt.Errorf("calibration cache %s: %w", rel.Calibration, err)
	}
	if fit.Coverage < rel.Spec.Coverage {
		return fmt.Errorf("calibration cache %s doesn't fit the model: it names %.1f %% of the activations that INT8 needs, coverage asks for %.1f %%%s; `sightd cache check %s --model %s` lists them",
			rel.Calibration, 100*fit.Coverage, 100*rel.Spec.Coverage, examples(fit.Missing), rel.Calibration, rel.Model)
	}
	p.Coverage = fit.Coverage
	if _, err := m.Quantize(fit.Scales, onnx.QuantizeOptions{Unsigned: true, Keep: rel.Spec.KeepFP}); err != nil {
		return fmt.Errorf("quantise %s: %w", rel.Model, err)
	}
	return nil
}

func examples(missing []string) string {
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf(" (missing: %q and %d more)", missing[0], len(missing)-1)
}
