package onnx

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// dim is one size of a tensor: n, or -1 where it isn't known or not fixed. Two
// unknown sizes of the same sym, unless that is "", are equal.
type dim struct {
	n   int64
	sym string
}

var unknownDim = dim{n: -1}

func fixed(n int64) dim { return dim{n: n} }

func (d dim) known() bool     { return d.n >= 0 }
func (d dim) is(n int64) bool { return d.n == n }

// tensorInfo is what is known of a tensor. The zero value knows nothing.
type tensorInfo struct {
	typ    pb.TensorProto_DataType
	ranked bool
	dims   []dim // valid where ranked

	// values are the elements of a small integer tensor, row by row, where they
	// follow from constants and shapes; nil otherwise. Unlike a size, a value
	// may be negative: valueOf tells.
	values []value
}

// value is an integer that is known, or else the size that it stands for.
type value struct {
	known bool
	n     int64
	sym   string // of a size that isn't known
}

func valueOf(n int64) value { return value{known: true, n: n} }

func (d dim) value() value {
	if d.known() {
		return valueOf(d.n)
	}
	return value{sym: d.sym}
}

func (v value) dim() dim {
	if v.known {
		return fixed(max(v.n, -1))
	}
	return dim{n: -1, sym: v.sym}
}

// sizes returns the dimensions as in the public API: -1 where unknown, nil
// where the rank is.
func (t *tensorInfo) sizes() []int64 {
	if !t.ranked {
		return nil
	}
	s := make([]int64, len(t.dims))
	for i, d := range t.dims {
		s[i] = d.n
	}
	return s
}

// maxValues bounds the tensors whose values are followed.
const maxValues = 1024

// infoOfTensor tells what is known of an initialiser: everything but, for most,
// the values.
func infoOfTensor(t *pb.TensorProto) tensorInfo {
	info := tensorInfo{typ: pb.TensorProto_DataType(t.GetDataType()), ranked: true}
	n := int64(1)
	for _, d := range t.GetDims() {
		info.dims = append(info.dims, fixed(d))
		n *= d
	}
	if n <= maxValues {
		for _, v := range ints(t) {
			info.values = append(info.values, valueOf(v))
		}
		if n == 0 {
			info.values = []value{}
		}
	}
	return info
}

// ints returns the values of an int64 or int32 tensor, nil for other types.
func ints(t *pb.TensorProto) []int64 {
	raw := t.GetRawData()
	switch pb.TensorProto_DataType(t.GetDataType()) {
	case pb.TensorProto_INT64:
		if t.RawData == nil {
			return slices.Clone(t.GetInt64Data())
		}
		v := make([]int64, len(raw)/8)
		for i := range v {
			v[i] = int64(binary.LittleEndian.Uint64(raw[8*i:]))
		}
		return v
	case pb.TensorProto_INT32:
		if t.RawData == nil {
			v := make([]int64, len(t.GetInt32Data()))
			for i, n := range t.GetInt32Data() {
				v[i] = int64(n)
			}
			return v
		}
		v := make([]int64, len(raw)/4)
		for i := range v {
			v[i] = int64(int32(binary.LittleEndian.Uint32(raw[4*i:])))
		}
		return v
	}
	return nil
}

// infoOfValue tells what a graph declares of an input, an output or a tensor
// between them.
func infoOfValue(v *pb.ValueInfoProto) tensorInfo {
	t := v.GetType().GetTensorType()
	if t == nil {
		return tensorInfo{}
	}
	info := tensorInfo{typ: pb.TensorProto_DataType(t.GetElemType())}
	if t.GetShape() == nil {
		return info
	}
	info.ranked = true
	for i, d := range t.GetShape().GetDim() {
		switch {
		case d.GetDimValue() > 0 && d.GetDimValue() <= maxElements:
			info.dims = append(info.dims, fixed(d.GetDimValue()))
		case d.GetDimParam() != "":
			info.dims = append(info.dims, dim{n: -1, sym: d.GetDimParam()})
		default: // without a name: one of its own, so that it is recognised further on
			info.dims = append(info.dims, dim{n: -1, sym: fmt.Sprintf("%s%s#%d", unnamed, v.GetName(), i)})
		}
	}
	return info
}

// unnamed starts the sym of a size that the model gives no name.
const unnamed = "?"

// product multiplies sizes. Of those that aren't known it can keep one.
func product(dims []dim) dim {
	n, sym, unknown := int64(1), "", 0
	for _, d := range dims {
		if d.known() {
			if n *= d.n; n > maxElements {
				return unknownDim
			}
			continue
		}
		sym = d.sym
		unknown++
	}
	switch {
	case n == 0:
		return fixed(0)
	case unknown == 0:
		return fixed(n)
	case unknown == 1 && n == 1:
		return dim{n: -1, sym: sym}
	}
	return unknownDim
}

// broadcast gives the dimensions of an operator that works element by element
// on tensors of dimensions a and b, by ONNX's (NumPy's) rules.
func broadcast(a, b []dim) ([]dim, error) {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	for i := range b {
		x, y := &out[len(a)-len(b)+i], b[i]
		switch {
		case *x == y && (y.known() || y.sym != ""), y.is(1):
		case x.is(1):
			*x = y
		case x.known() && y.known():
			return nil, fmt.Errorf("sizes %d and %d don't go together", x.n, y.n)
		case y.known():
			*x = y
		case x.known():
		default:
			*x = unknownDim
		}
	}
	return out, nil
}

// unify gives what is known of a size that is a and b at once.
func unify(a, b dim) (dim, error) {
	switch {
	case a.known() && b.known() && a.n != b.n:
		return dim{}, fmt.Errorf("sizes %d and %d differ", a.n, b.n)
	case a.known():
		return a, nil
	case b.known() || a.sym == "":
		return b, nil
	}
	return a, nil
}
