package onnx

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/sightd/sightd/onnx/internal/pb"
)

const (
	maxRank     = 32
	maxElements = math.MaxInt32 // of a tensor; the bytes of most have to be in the file anyway
)

// elementBits is the size of an element in raw data, by type.
var elementBits = map[pb.TensorProto_DataType]int64{
	pb.TensorProto_FLOAT: 32, pb.TensorProto_DOUBLE: 64, pb.TensorProto_FLOAT16: 16, pb.TensorProto_BFLOAT16: 16,
	pb.TensorProto_FLOAT8E4M3FN: 8, pb.TensorProto_FLOAT8E4M3FNUZ: 8, pb.TensorProto_FLOAT8E5M2: 8,
	pb.TensorProto_FLOAT8E5M2FNUZ: 8, pb.TensorProto_FLOAT8E8M0: 8, pb.TensorProto_FLOAT4E2M1: 4,
	pb.TensorProto_INT64: 64, pb.TensorProto_INT32: 32, pb.TensorProto_INT16: 16, pb.TensorProto_INT8: 8,
	pb.TensorProto_UINT64: 64, pb.TensorProto_UINT32: 32, pb.TensorProto_UINT16: 16, pb.TensorProto_UINT8: 8,
	pb.TensorProto_INT4: 4, pb.TensorProto_UINT4: 4, pb.TensorProto_INT2: 2, pb.TensorProto_UINT2: 2,
	pb.TensorProto_BOOL: 8, pb.TensorProto_COMPLEX64: 64, pb.TensorProto_COMPLEX128: 128,
	pb.TensorProto_STRING: 0, // never raw
}

// checkTensor sees that t holds the values that its type and dimensions claim.
func checkTensor(t *pb.TensorProto) error {
	if t.GetDataLocation() == pb.TensorProto_EXTERNAL || len(t.GetExternalData()) > 0 {
		return errors.New("its values are in another file (external data), want them inside the model: " +
			"save it with onnx.save(onnx.load(PATH), OUT), which needs less than 2 GiB")
	}
	if t.GetSegment() != nil {
		return errors.New("its values are in segments, want them in one piece: export the model again")
	}
	typ := pb.TensorProto_DataType(t.GetDataType())
	bits, known := elementBits[typ]
	if !known {
		return fmt.Errorf("its type %s isn't supported", typ)
	}
	n, err := elements(t.GetDims())
	if err != nil {
		return err
	}
	if t.RawData != nil {
		if typ == pb.TensorProto_STRING {
			return errors.New("strings as raw data: the model is damaged, export it again")
		}
		if want := (n*bits + 7) / 8; int64(len(t.GetRawData())) != want {
			return fmt.Errorf("found %d bytes of values, want %d for %s %s: the model is damaged, export it again",
				len(t.GetRawData()), want, typ, dimsText(t.GetDims()))
		}
		return nil
	}
	if found, want := typedValues(t, typ, n); found != want {
		return fmt.Errorf("found %d values, want %d for %s %s: the model is damaged, export it again",
			found, want, typ, dimsText(t.GetDims()))
	}
	return nil
}

// typedValues returns how many entries t has in the list that its type uses,
// and how many it should have for n elements.
func typedValues(t *pb.TensorProto, typ pb.TensorProto_DataType, n int64) (found int, want int) {
	want = int(n)
	switch typ {
	case pb.TensorProto_FLOAT:
		found = len(t.GetFloatData())
	case pb.TensorProto_COMPLEX64:
		found, want = len(t.GetFloatData()), 2*want
	case pb.TensorProto_DOUBLE:
		found = len(t.GetDoubleData())
	case pb.TensorProto_COMPLEX128:
		found, want = len(t.GetDoubleData()), 2*want
	case pb.TensorProto_INT64:
		found = len(t.GetInt64Data())
	case pb.TensorProto_UINT32, pb.TensorProto_UINT64:
		found = len(t.GetUint64Data())
	case pb.TensorProto_STRING:
		found = len(t.GetStringData())
	case pb.TensorProto_INT4, pb.TensorProto_UINT4, pb.TensorProto_FLOAT4E2M1:
		found, want = len(t.GetInt32Data()), (want+1)/2
	case pb.TensorProto_INT2, pb.TensorProto_UINT2:
		found, want = len(t.GetInt32Data()), (want+3)/4
	default:
		found = len(t.GetInt32Data())
	}
	return found, want
}

// elements multiplies dims, within bounds.
func elements(dims []int64) (int64, error) {
	if len(dims) > maxRank {
		return 0, fmt.Errorf("%d dimensions, want at most %d", len(dims), maxRank)
	}
	n, size := int64(1), int64(1) // size leaves dimensions of zero out
	for _, d := range dims {
		if d < 0 || d > maxElements || size*max(d, 1) > maxElements {
			return 0, fmt.Errorf("its dimensions %s are negative or make more than %d elements: the model is damaged",
				dimsText(dims), int64(maxElements))
		}
		size *= max(d, 1)
		n *= d
	}
	return n, nil
}

// dimsText writes dimensions as 1×3×224×224, unknown ones as ?.
func dimsText(dims []int64) string {
	if len(dims) == 0 {
		return "scalar"
	}
	var b strings.Builder
	for i, d := range dims {
		if i > 0 {
			b.WriteString("×")
		}
		if d < 0 {
			b.WriteString("?")
		} else {
			fmt.Fprint(&b, d)
		}
	}
	return b.String()
}
