package onnx

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// params are what a QuantizeLinear or DequantizeLinear has beside its tensor.
type params struct {
	typ    pb.TensorProto_DataType // of the quantised numbers; undefined where the node doesn't say
	float  pb.TensorProto_DataType // of the scales, and so of what is dequantised
	scales []float32
	zeros  []int64 // zero points; nil where all are 0
	axis   int64   // of which scales has one for each index; of no meaning with one scale
}

// paramsOf reads the constants of a QuantizeLinear or DequantizeLinear.
func (d *dequantizer) paramsOf(n *pb.NodeProto) (*params, error) {
	if len(n.GetInput()) < 2 || len(n.GetInput()) > 3 || len(n.GetOutput()) != 1 || arg(n, 0) == "" || n.GetOutput()[0] == "" {
		return nil, errors.New("it has too few or too many inputs or outputs: the model is damaged, export it again")
	}
	if attrInt(n, "block_size", 0) != 0 {
		return nil, errors.New("it has a scale for each block, want one for all or for each channel, as TensorRT's INT8 has it: " +
			"quantise without blocks")
	}
	const fold = "fold constants as you export (do_constant_folding=True), or with onnxsim"
	scale := d.constantOf(arg(n, 1))
	if scale == nil {
		return nil, fmt.Errorf("its scale %q isn't constant: %s", arg(n, 1), fold)
	}
	p := &params{axis: attrInt(n, "axis", 1), float: pb.TensorProto_DataType(scale.GetDataType())}
	if t := d.f.of(arg(n, 0)); p.axis < 0 && t.ranked {
		p.axis += int64(len(t.dims))
	}
	var err error
	if p.scales, err = floats(scale); err != nil {
		return nil, fmt.Errorf("its scale: %w", err)
	}
	for _, s := range p.scales {
		if !(s >= 0x1p-126 && s <= 1e30) {
			return nil, fmt.Errorf("its scale %q is %v, want a positive number: calibrate or train anew", arg(n, 1), s)
		}
	}
	if len(p.scales) == 0 {
		return nil, fmt.Errorf("its scale %q is empty: the model is damaged, export it again", arg(n, 1))
	}
	if isQuantize(n) {
		p.typ = pb.TensorProto_DataType(attrInt(n, "output_dtype", 0))
		if p.typ == pb.TensorProto_UNDEFINED {
			p.typ = pb.TensorProto_UINT8
		}
	}
	if arg(n, 2) == "" {
		return p, nil
	}
	zero := d.constantOf(arg(n, 2))
	if zero == nil {
		return nil, fmt.Errorf("its zero point %q isn't constant: %s", arg(n, 2), fold)
	}
	p.typ = pb.TensorProto_DataType(zero.GetDataType())
	if p.zeros, err = quantisedInts(zero); err != nil {
		return nil, fmt.Errorf("its zero point: %w", err)
	}
	if len(p.zeros) != 1 && len(p.zeros) != len(p.scales) {
		return nil, fmt.Errorf("it has %d zero points and %d scales: the model is damaged, export it again", len(p.zeros), len(p.scales))
	}
	if !slices.ContainsFunc(p.zeros, func(z int64) bool { return z != 0 }) {
		p.zeros = nil
	}
	return p, nil
}

// constantOf returns the constant that a tensor is, if need be under another
// name or in another shape; nil where it is none.
func (d *dequantizer) constantOf(name string) *pb.TensorProto {
	for {
		if t := d.index.initializer[name]; t != nil {
			return t
		}
		n := d.index.producer[name]
		if n == nil || !standard(n) || !sameValues[n.GetOpType()] || n.GetOpType() == "Transpose" || arg(n, 0) == "" {
			return nil
		}
		name = arg(n, 0)
	}
}

// same says whether a DequantizeLinear with q undoes a QuantizeLinear with p.
func (p *params) same(q *params) bool {
	return slices.Equal(p.scales, q.scales) && slices.Equal(p.zeros, q.zeros) &&
		(q.typ == p.typ || q.typ == pb.TensorProto_UNDEFINED) && (len(p.scales) == 1 || p.axis == q.axis)
}

// zero is the zero point of numbers that have one scale.
func (p *params) zero() int64 {
	if len(p.zeros) == 0 {
		return 0
	}
	return p.zeros[0]
}

// limits are the least and the largest number of the type.
func (p *params) limits() (int64, int64) {
	if p.typ == pb.TensorProto_INT8 {
		return -128, 127
	}
	return 0, 255
}

// positive says whether the numbers have nothing below zero.
func (p *params) positive() bool {
	lo, _ := p.limits()
	return p.zero() == lo
}

// eightBits says what is wrong with the type, for TensorRT's INT8.
func (p *params) eightBits() error {
	if p.typ != pb.TensorProto_INT8 && p.typ != pb.TensorProto_UINT8 {
		return fmt.Errorf("it quantises to %s, want INT8 or UINT8: a calibration cache is for 8-bit integers", p.typ)
	}
	return nil
}

// symmetric says why a calibration cache can't say the same of the activation.
func (p *params) symmetric(tensor string) error {
	const again = "quantise and export it again with symmetric activations (in ONNX Runtime ActivationSymmetric=True)"
	if len(p.scales) != 1 {
		return fmt.Errorf("the activation %q has %d scales, want one: a calibration cache has no scales by channel; "+
			"quantise it with one for the whole tensor", tensor, len(p.scales))
	}
	lo, _ := p.limits()
	if z := p.zero(); z != lo && z != lo+128 {
		return fmt.Errorf("the activation %q has the zero point %d of %s, want %d (or %d, for what isn't negative): "+
			"a calibration cache has no zero points; %s", tensor, z, p.typ, lo+128, lo, again)
	}
	return nil
}
