package release

import (
	"errors"
	"fmt"
	"math"

	"github.com/sightd/sightd/onnx"
)

// direct makes DLA's second form, or says why it can't be had.
func (c *Checked) direct(o TensorRTOptions) (*onnx.Model, *DirectPixels, error) {
	d, err := c.directPixels()
	if err != nil {
		return nil, nil, fmt.Errorf("model %s has no such form: %w; the %s form has its preprocessing inside", c.path, err, Implicit)
	}
	m := c.Model.Clone()
	dropped, err := m.DropSoftmax()
	if err == nil {
		err = m.SetBatch(int64(max(o.Batch, 1))) // DLA takes no open one
	}
	if err != nil {
		return nil, nil, fmt.Errorf("prepare model %s: %w", c.path, err)
	}
	d.Softmax = dropped || o.Softmax && c.wantsSoftmax()
	return m, d, nil
}

// directPixels is how pixels become INT8. They can where a convolution alone reads
// the input: DLA's packed formats are for its first layer.
func (c *Checked) directPixels() (*DirectPixels, error) {
	if c.Precision != "int8" {
		return nil, errors.New("it is for INT8 alone")
	}
	if n := c.Image.Channels; n != 1 && n != 3 && n != 4 {
		return nil, fmt.Errorf("the input has %d channels, DLA takes images of 1, 3 or 4", n)
	}
	scale, ok := c.Fit.Scales[c.Image.Name]
	if !ok {
		return nil, fmt.Errorf("the calibration cache has no scale for the input %q", c.Image.Name)
	}
	if err := c.readByConvolutions(); err != nil {
		return nil, err
	}
	values, channels, err := c.front().Table()
	if err != nil {
		return nil, err
	}
	d := &DirectPixels{Table: make([][256]int8, len(values)), Channels: channels, InputScale: scale}
	for channel := range values {
		for b, v := range values[channel] { // halves to even, as TensorRT and QuantizeLinear round
			q := math.RoundToEven(float64(v / scale))
			d.Table[channel][b] = int8(min(max(q, math.MinInt8), math.MaxInt8))
		}
	}
	return d, nil
}

func (c *Checked) readByConvolutions() error {
	activations, err := c.Model.Activations()
	if err != nil {
		return err
	}
	for _, a := range activations {
		if a.Name != c.Image.Name {
			continue
		}
		if len(a.Aliases) > 0 {
			return fmt.Errorf("the input %q is reshaped or transposed to %q first, wanted a convolution that reads it", a.Name, a.Aliases[0])
		}
		for _, r := range a.Consumers {
			if r.Op != "Conv" {
				return fmt.Errorf("the input %q is read by %q (%s), wanted a convolution", a.Name, r.Name, r.Op)
			}
		}
		if len(a.Consumers) > 0 {
			return nil
		}
	}
	return fmt.Errorf("no layer reads the input %q", c.Image.Name)
}
