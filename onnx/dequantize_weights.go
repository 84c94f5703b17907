package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// quantisedInts returns the elements of a tensor of 8-bit or int32 numbers.
func quantisedInts(t *pb.TensorProto) ([]int64, error) {
	typ := pb.TensorProto_DataType(t.GetDataType())
	switch typ {
	case pb.TensorProto_INT8, pb.TensorProto_UINT8, pb.TensorProto_INT32:
	default:
		return nil, fmt.Errorf("the tensor %q is of %s, want INT8 or UINT8, or INT32 for a bias: "+
			"a calibration cache is for 8-bit integers", t.GetName(), typ)
	}
	if t.RawData == nil {
		v := make([]int64, len(t.GetInt32Data()))
		for i, n := range t.GetInt32Data() {
			v[i] = int64(n)
		}
		return v, nil
	}
	raw := t.GetRawData()
	if typ == pb.TensorProto_INT32 {
		v := make([]int64, len(raw)/4)
		for i := range v {
			v[i] = int64(int32(binary.LittleEndian.Uint32(raw[4*i:])))
		}
		return v, nil
	}
	v := make([]int64, len(raw))
	for i, b := range raw {
		v[i] = int64(b)
		if typ == pb.TensorProto_INT8 {
			v[i] = int64(int8(b))
		}
	}
	return v, nil
}

// dequantised returns the float32 tensor that DequantizeLinear with p makes of t,
// rounded as ONNX Runtime does.
func (p *params) dequantised(t *pb.TensorProto, name string) (*pb.TensorProto, error) {
	q, err := quantisedInts(t)
	if err != nil {
		return nil, err
	}
	if p.typ != pb.TensorProto_UNDEFINED && p.typ != pb.TensorProto_DataType(t.GetDataType()) {
		return nil, fmt.Errorf("the tensor %q is of %s and its zero point of %s: the model is damaged, export it again",
			t.GetName(), pb.TensorProto_DataType(t.GetDataType()), p.typ)
	}
	inner, err := p.inner(t)
	if err != nil {
		return nil, err
	}
	v := make([]float32, len(q))
	for i := range v {
		c := i / inner % len(p.scales)
		zero := p.zero()
		if len(p.zeros) > 1 {
			zero = p.zeros[c]
		}
		v[i] = float32(q[i]-zero) * p.scales[c]
	}
	return floatTensor(name, slices.Clone(t.GetDims()), v...), nil
}

// inner is how many elements of t follow one another with the same scale.
func (p *params) inner(t *pb.TensorProto) (int, error) {
	inner := 1
	first := 0
	if len(p.scales) > 1 {
		axis, err := axisOf(p.axis, len(t.GetDims()))
		if err != nil {
			return 0, err
		}
		if n := t.GetDims()[axis]; n != int64(len(p.scales)) {
			return 0, fmt.Errorf("%d scales along axis %d of the tensor %q, want %d: the model is damaged, export it again",
				len(p.scales), axis, t.GetName(), n)
		}
		first = axis + 1
	}
	for _, d := range t.GetDims()[first:] {
		inner *= int(d)
	}
	return max(inner, 1), nil
}

// cuts says whether the scales are too small for the weights t, by more than a
// hundredth, so that the largest weights were cut off.
func (p *params) cuts(t *pb.TensorProto) (bool, error) {
	v, err := floats(t)
	if err != nil {
		return false, err
	}
	inner, err := p.inner(t)
	if err != nil {
		return false, err
	}
	for i, w := range v {
		if s := p.scales[i/inner%len(p.scales)]; math.Abs(float64(w)) > 128*1.01*float64(s) {
			return true, nil
		}
	}
	return false, nil
}
