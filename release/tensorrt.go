package release

import (
	"fmt"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

// TensorRTForm is how a release's model is put to TensorRT.
type TensorRTForm string

const (
	// Implicit is the model in floating point with preprocessing in front and
	// softmax behind. For INT8 a calibration table comes with it, which TensorRT up
	// to 10 reads through a calibrator.
	Implicit TensorRTForm = "implicit"

	// Explicit is the same with the scales as Q/DQ nodes, for any TensorRT from 8 on;
	// 11 knows nothing else.
	Explicit TensorRTForm = "explicit"

	// DirectInput is DLA's second form: the model alone, as one layer that DLA can't
	// run splits a network. Pixels become its INT8 input through a table, and the
	// host makes probabilities of its scores.
	DirectInput TensorRTForm = "direct"

	// FloatInput is the model with an input of float32 N×C×H×W, for a calibration on
	// the device where the calibrator takes no bytes.
	FloatInput TensorRTForm = "float"
)

// TensorRTOptions say what [Checked.TensorRT] makes.
type TensorRTOptions struct {
	Version string // TensorRT's, such as 8.6.1: a calibration table is for one version
	Form    TensorRTForm
	Batch   int  // images in a run at most; 0 is 1, and always 1 for FloatInput
	Fixed   bool // the graph takes Batch images and no fewer, as DLA wants; else more than one leaves the batch open
	Softmax bool // probabilities come out, where the release says so
}

// TensorRTGraph is a release's model as TensorRT takes it.
type TensorRTGraph struct {
	Graph      []byte // ONNX
	Cache      []byte // calibration table under a header that the version takes; nil: none
	Calibrator string // the header's algorithm; "" without a table

	// Keep are the tensors whose makers are to stay in floating point: what the
	// layers that keep_fp names make, and what belongs to them. Q/DQ nodes say it
	// for themselves, so it is nil for Explicit.
	Keep []string

	Direct *DirectPixels // for DirectInput
	Planes *FloatPixels  // for FloatInput
}

// DirectPixels is how pixels become the input of DLA's second form.
type DirectPixels struct {
	Table      [][256]int8 // by channel of the network and byte: clamp(round(value ÷ InputScale))
	Channels   []int       // Channels[c] is which byte of a packed 8-bit RGB pixel channel c is made of
	InputScale float32     // value = InputScale × INT8
	Softmax    bool        // probabilities are to be made of the output by softmax
}

// FloatPixels is how pixels become a floating-point input.
type FloatPixels struct {
	Table    [][256]float32 // by channel of the network and byte
	Channels []int          // as in DirectPixels
}

// TensorRT is the release's model for TensorRT. INT8 has been checked for where the
// release was: the precision is that of [Release.Check]. Tensors that the model
// names keep their names in all forms, which TensorRT's parser keeps too.
func (c *Checked) TensorRT(o TensorRTOptions) (*TensorRTGraph, error) {
	quantised := c.Precision == "int8"
	t := &TensorRTGraph{}
	var m *onnx.Model
	var err error
	switch o.Form {
	case Explicit:
		g := GraphOptions{Batch: o.Batch, Softmax: o.Softmax}
		if quantised {
			g.Scales, g.Quantize = c.Fit.Scales, onnx.QuantizeOptions{Keep: c.Spec.KeepFP}
		}
		m, err = c.tensorRTGraph(g, o.Fixed)
	case Implicit:
		m, err = c.tensorRTGraph(GraphOptions{Batch: o.Batch, Softmax: o.Softmax}, o.Fixed)
	case DirectInput:
		m, t.Direct, err = c.direct(o)
	case FloatInput:
		m, t.Planes, err = c.floatInput()
	default:
		return nil, fmt.Errorf("form %q for TensorRT, wanted %s, %s, %s or %s", o.Form, Implicit, Explicit, DirectInput, FloatInput)
	}
	if err != nil {
		return nil, fmt.Errorf("TensorRT, %s form: %w", o.Form, err)
	}
	if quantised && o.Form != Explicit {
		if t.Keep, err = c.keep(m); err != nil {
			return nil, fmt.Errorf("TensorRT, %s form: %w", o.Form, err)
		}
		if o.Form != FloatInput {
			if err := c.table(t, o); err != nil {
				return nil, err
			}
		}
	}
	if t.Graph, err = m.Encode(); err != nil {
		return nil, fmt.Errorf("prepare model %s: %w", c.path, err)
	}
	return t, nil
}

// tensorRTGraph is Graph with a batch that is fixed where that is wanted.
func (c *Checked) tensorRTGraph(g GraphOptions, fixed bool) (*onnx.Model, error) {
	g.Batch = max(g.Batch, 1)
	batch := g.Batch
	if fixed && batch > 1 && c.Image.Batch != 0 { // set below, whatever the model's own is
		g.Batch = 1
	}
	m, _, err := c.Graph(g)
	if err == nil && fixed && batch > 1 {
		err = m.SetBatch(int64(batch))
	}
	return m, err
}

// table adds the calibration table.
func (c *Checked) table(t *TensorRTGraph, o TensorRTOptions) error {
	h, err := calibcache.HeaderFor(o.Version, c.cache.Header.Algorithm)
	if err != nil {
		return fmt.Errorf("TensorRT, %s form: %w; the %s form needs none", o.Form, err, Explicit)
	}
	table, err := c.Fit.Table(c.cache, h, c.Model)
	if err != nil {
		return fmt.Errorf("calibration table for model %s: %w", c.path, err)
	}
	t.Cache, t.Calibrator = table.Bytes(), string(h.Algorithm)
	return nil
}

// keep finds the tensors of m that the layers of keep_fp make. Which ReLU, batch
// normalisation and the like belong to a layer, quantising tells.
func (c *Checked) keep(m *onnx.Model) ([]string, error) {
	if len(c.Spec.KeepFP) == 0 {
		return nil, nil
	}
	report, err := c.Model.Clone().Quantize(c.Fit.Scales, onnx.QuantizeOptions{Keep: c.Spec.KeepFP})
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", c.path, err)
	}
	there := m.Tensors()
	var keep []string
	for _, l := range report.Layers {
		if !l.Kept {
			continue
		}
		for _, name := range l.Makes {
			if there[name] {
				keep = append(keep, name)
			}
		}
	}
	return keep, nil
}

// floatInput makes the form FloatInput. Where pixels become the model's own input
// through a table, that is the graph's; else the rest of the front stays in it.
func (c *Checked) floatInput() (*onnx.Model, *FloatPixels, error) {
	m := c.Model.Clone()
	if err := fixBatch(m, 1, c.Image.Batch); err != nil {
		return nil, nil, fmt.Errorf("prepare model %s: %w", c.path, err)
	}
	if table, channels, err := c.front().Table(); err == nil && c.Image.Layout == onnx.NCHW {
		return m, &FloatPixels{table, channels}, nil
	}
	if err := m.AddPlanesFront(c.front()); err != nil {
		return nil, nil, fmt.Errorf("prepare model %s: %w", c.path, err)
	}
	table, channels, err := onnx.Front{Color: "rgb"}.Table()
	return m, &FloatPixels{table, channels}, err
}
