package onnx

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// fuzzOps are what Quantize looks at.
var fuzzOps = []string{
	"Conv", "Gemm", "MatMul", "Add", "Mul", "Sub", "Div", "Sum", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool",
	"ReduceMean", "BatchNormalization", "Relu", "Clip", "Sigmoid", "Softmax", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
	"Identity", "Dropout", "Transpose", "Slice", "Split", "Pad", "Shape", "If", "Elu",
}

// Any wiring of operators is quantised or refused, and what comes of it can be
// read again.
func FuzzQuantize(f *testing.F) {
	f.Add([]byte("a graph"))
	for i := range fuzzOps {
		f.Add(bytes.Repeat([]byte{byte(i), 0, 1, 2, 3, 0}, 6))
		f.Add(bytes.Repeat([]byte{0, 1, 0, 1, 2, 0, byte(i), 1, 0, 2}, 4))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		next := func(n int) int {
			if len(b) == 0 {
				return 0
			}
			v := int(b[0]) % n
			b = b[1:]
			return v
		}
		opset := int64(7 + next(12))
		o := QuantizeOptions{Unsigned: next(2) == 0}
		o.Saturating = o.Unsigned && next(2) == 0
		weights := tensors(floatTensor("w", []int64{3, 3, 1, 1}, 1, -2, 3, 4, 5, 6, 7, 8, 9), floatTensor("m", []int64{3, 3}, make([]float32, 9)...),
			floatTensor("v", []int64{3}, 1, 2, 3), floatTensor("s", nil, 0.5), intTensor("ints", []int64{2}, 2, 3), intTensor("pads", []int64{8}, 0, 0, 1, 1, 0, 0, 1, 1))
		pool := from("", "x", "w", "m", "v", "s", "ints", "pads", "x")
		scales := map[string]float32{"x": 0.1}
		var nodes []*pb.NodeProto
		var outputs []*pb.ValueInfoProto
		for i := 0; len(b) > 0 && i < 16; i++ {
			name := fmt.Sprint("t", i)
			inputs := make([]string, next(4))
			for j := range inputs {
				inputs[j] = pool[len(pool)-1-next(len(pool))]
			}
			if next(3) > 0 && len(inputs) > 0 { // most read what came before
				inputs[0] = pool[len(pool)-1]
			}
			n := op(fuzzOps[next(len(fuzzOps))], name, inputs)
			switch next(6) {
			case 0:
				setAttr(n, intAttr("axis", int64(next(4))))
				setAttr(n, intsAttr("axes", 2, 3))
			case 1:
				setAttr(n, intAttr("transB", 1))
				setAttr(n, floatAttr("alpha", 0.5))
				setAttr(n, intsAttr("pads", 0, 0, 1, 1))
			case 2:
				n.Output = append(n.Output, name+"'")
			}
			if n.GetOpType() == "If" {
				inner := network(nil, values(&pb.ValueInfoProto{Name: proto.String(name + "in")}), nil, op("Relu", name+"in", from(pool[len(pool)-1])))
				if pool[len(pool)-1] != "" {
					n.Attribute = []*pb.AttributeProto{{Name: proto.String("then_branch"), Type: pb.AttributeProto_GRAPH.Enum(), G: inner.Graph}}
				}
			}
			if next(8) > 0 {
				scales[name] = 0.1 * float32(1+next(3))
			}
			if next(8) == 0 {
				outputs = append(outputs, &pb.ValueInfoProto{Name: proto.String(name)})
			}
			if next(10) == 0 {
				o.Keep = append(o.Keep, name)
			}
			nodes = append(nodes, n)
			pool = append(pool, n.Output...)
		}
		if len(nodes) == 0 {
			return
		}
		if len(outputs) == 0 {
			outputs = values(&pb.ValueInfoProto{Name: proto.String(pool[len(pool)-1])})
		}
		p := ofOpset(network(values(tensor("x", float, -1, 3, 8, 8)), outputs, weights, nodes...), opset)
		m, err := Decode(marshal(t, p))
		if err != nil {
			return
		}
		if _, err := m.Quantize(scales, o); err != nil {
			return
		}
		whole, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(whole); err != nil {
			t.Fatalf("what was quantised can't be read: %v", err)
		}
	})
}
