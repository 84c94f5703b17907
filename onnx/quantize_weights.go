package onnx

import (
	"encoding/binary"
	"math"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// linear is a Conv, Gemm or MatMul with constant weights, seen alike.
type linear struct {
	weights  []float32
	dims     []int64
	axis     int       // of the output channels among dims
	channels int       // how many
	bias     []float32 // one for each channel; zeros where hasBias is false
	hasBias  bool
	alpha    float32 // still to be multiplied into the weights; bias has its factor

	axisFromEnd int // where the channels stand in what the layer makes, counted from its last dimension
}

// linearOf returns what n multiplies its first input with; nil where n is no
// such layer, or its weights aren't constant, of floating point and finite.
func linearOf(n *pb.NodeProto, x *graphIndex) *linear {
	if !standard(n) || len(n.GetInput()) < 2 {
		return nil
	}
	w := x.initializer[arg(n, 1)]
	if w.GetDataType() != int32(pb.TensorProto_FLOAT) { // half precision has no INT8 to gain
		return nil
	}
	values, err := floats(w)
	if err != nil || !finite(values) || len(values) == 0 {
		return nil
	}
	l := &linear{weights: values, dims: w.GetDims(), alpha: 1}
	beta := float32(1)
	switch n.GetOpType() {
	case "Conv":
		if len(l.dims) < 3 {
			return nil
		}
		l.axisFromEnd = len(l.dims) - 2
	case "Gemm":
		if len(l.dims) != 2 || attrInt(n, "transA", 0) != 0 {
			return nil
		}
		if attrInt(n, "transB", 0) == 0 {
			l.axis = 1
		}
		l.alpha, beta = attrFloat(n, "alpha", 1), attrFloat(n, "beta", 1)
	case "MatMul":
		if len(l.dims) != 2 {
			return nil
		}
		l.axis = 1
	default:
		return nil
	}
	l.channels = int(l.dims[l.axis])
	l.bias = make([]float32, l.channels)
	if len(n.GetInput()) > 2 && arg(n, 2) != "" {
		b := perChannel(x.initializer[arg(n, 2)], l.channels, 2, 0)
		if b == nil {
			return nil
		}
		l.hasBias = true
		for c := range l.bias {
			l.bias[c] = float32(b[c]) * beta
		}
		if !finite(l.bias) {
			return nil
		}
	}
	return l
}

// channel is the output channel of the weight at position i.
func (l *linear) channel(i int) int {
	inner := 1
	for _, d := range l.dims[l.axis+1:] {
		inner *= int(d)
	}
	return i / inner % l.channels
}

const (
	// maxBias leaves room in 32 bits for the sum that a bias is added to: that
	// of the largest layers (25,088 products of 8 bits) stays below 2³⁰.
	maxBias = 1 << 30
	// minStep keeps scales away from where float32 gets coarse, or zero.
	minStep = 1e-30
)

// quantise returns the weights in 8 bits, symmetric, with a scale for each
// channel, and the bias in 32 bits, for an input of the given scale. A channel's
// scale is its largest weight ÷ 127; it is larger where the bias would otherwise
// not fit, as in channels that are all but dead.
func (l *linear) quantise(input float32) (weights []int8, scales []float32, bias []int32, biasScales []float32) {
	scales = make([]float32, l.channels)
	for i, w := range l.weights {
		c := l.channel(i)
		scales[c] = max(scales[c], float32(math.Abs(float64(w*l.alpha))))
	}
	bias, biasScales = make([]int32, l.channels), make([]float32, l.channels)
	for c, most := range scales {
		b := float64(l.bias[c])
		scales[c] = max(most/127, float32(math.Abs(b)/float64(input)/maxBias), minStep/min(input, 1))
		if most == 0 && b == 0 {
			scales[c] = 1
		}
		biasScales[c] = input * scales[c]
		bias[c] = int32(math.RoundToEven(b / float64(biasScales[c])))
	}
	weights = make([]int8, len(l.weights))
	for i, w := range l.weights {
		q := math.RoundToEven(float64(w * l.alpha / scales[l.channel(i)]))
		weights[i] = int8(min(max(q, -127), 127))
	}
	return weights, scales, bias, biasScales
}

func finite(values []float32) bool {
	for _, v := range values {
		if v-v != 0 {
			return false
		}
	}
	return true
}

func int8Tensor(name string, dims []int64, v []int8) *pb.TensorProto {
	raw := make([]byte, len(v))
	for i, b := range v {
		raw[i] = byte(b)
	}
	return rawTensor(name, pb.TensorProto_INT8, dims, raw)
}

// uint8Tensor makes the tensor of v + 128.
func uint8Tensor(name string, dims []int64, v []int8) *pb.TensorProto {
	raw := make([]byte, len(v))
	for i, b := range v {
		raw[i] = byte(int(b) + 128)
	}
	return rawTensor(name, pb.TensorProto_UINT8, dims, raw)
}

func int32Tensor(name string, v []int32) *pb.TensorProto {
	raw := make([]byte, 0, 4*len(v))
	for _, b := range v {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(b))
	}
	return rawTensor(name, pb.TensorProto_INT32, []int64{int64(len(v))}, raw)
}
