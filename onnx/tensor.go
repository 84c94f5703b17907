package onnx

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// floats returns the values of a float32 or float16 tensor as float32.
func floats(t *pb.TensorProto) ([]float32, error) {
	switch pb.TensorProto_DataType(t.GetDataType()) {
	case pb.TensorProto_FLOAT:
		if raw := t.GetRawData(); raw != nil {
			if len(raw)%4 != 0 {
				return nil, fmt.Errorf("tensor %q: %d bytes of raw data are no whole float32s", t.GetName(), len(raw))
			}
			v := make([]float32, len(raw)/4)
			for i := range v {
				v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
			}
			return v, nil
		}
		return t.GetFloatData(), nil
	case pb.TensorProto_FLOAT16:
		if raw := t.GetRawData(); raw != nil {
			if len(raw)%2 != 0 {
				return nil, fmt.Errorf("tensor %q: %d bytes of raw data are no whole float16s", t.GetName(), len(raw))
			}
			v := make([]float32, len(raw)/2)
			for i := range v {
				v[i] = halfToFloat(binary.LittleEndian.Uint16(raw[2*i:]))
			}
			return v, nil
		}
		v := make([]float32, len(t.GetInt32Data()))
		for i, h := range t.GetInt32Data() {
			v[i] = halfToFloat(uint16(h))
		}
		return v, nil
	}
	return nil, fmt.Errorf("tensor %q has type %s, want FLOAT or FLOAT16", t.GetName(),
		pb.TensorProto_DataType(t.GetDataType()))
}

// halfToFloat widens IEEE 754 binary16, exactly.
func halfToFloat(h uint16) float32 {
	sign, exp, man := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 0xff<<23 | man<<13)
	case exp == 0:
		f := float32(man) / (1 << 24)
		if sign != 0 {
			f = -f
		}
		return f
	}
	return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
}

// floatTensor makes a float32 tensor of the given dimensions.
func floatTensor(name string, dims []int64, v ...float32) *pb.TensorProto {
	raw := make([]byte, 4*len(v))
	for i, f := range v {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(f))
	}
	return rawTensor(name, pb.TensorProto_FLOAT, dims, raw)
}

func rawTensor(name string, typ pb.TensorProto_DataType, dims []int64, raw []byte) *pb.TensorProto {
	dt := int32(typ)
	return &pb.TensorProto{Name: &name, DataType: &dt, Dims: dims, RawData: raw}
}
