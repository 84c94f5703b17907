package onnx

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

var (
	movesNumbers = []string{"Identity", "MaxPool", "Clip", "Concat", "Transpose", "Pad", "Split", "Slice", "Shape", "Sigmoid"}
	worksOnFloat = []string{"Relu", "Neg", "Conv", "Add", "Concat", "MaxPool", "Clip", "Identity", "Sigmoid", "Transpose", "If"}
)

// qdqWriter makes a graph in QDQ format, more or less, of a fuzzer's bytes.
type qdqWriter struct {
	left    []byte
	nodes   []*pb.NodeProto
	floats  []string
	numbers []quantisedBy // not dequantised yet
	outputs []*pb.ValueInfoProto
}

type quantisedBy struct{ tensor, scale, zero string }

// next takes a number below n. What is unusual takes one that isn't 0, which is what
// follows once the bytes are used up.
func (w *qdqWriter) next(n int) int {
	if len(w.left) == 0 {
		return 0
	}
	v := int(w.left[0]) % n
	w.left = w.left[1:]
	return v
}

// float is the last tensor in floating point, mostly.
func (w *qdqWriter) float() string {
	back := 0
	if w.next(3) == 0 {
		back = w.next(len(w.floats))
	}
	return w.floats[len(w.floats)-1-back]
}

func (w *qdqWriter) add(operator string, inputs ...string) *pb.NodeProto {
	n := op(operator, fmt.Sprint("t", len(w.nodes)), inputs)
	if w.next(6) == 5 {
		n.Output[0] += []string{"_unquantized", "_quantized"}[w.next(2)]
	}
	switch operator {
	case "MaxPool":
		setAttr(n, intsAttr("kernel_shape", 1, 1))
	case "Concat":
		setAttr(n, intAttr("axis", 2))
	case "Transpose":
		setAttr(n, intsAttr("perm", 0, 1, 3, 2))
	case "Split":
		n.Output = append(n.Output, n.GetName()+"'")
		setAttr(n, intAttr("axis", 2))
	case "If":
		inner := network(nil, values(&pb.ValueInfoProto{Name: proto.String(n.GetName() + "in")}), nil, op("Relu", n.GetName()+"in", from(inputs[0])))
		n.Attribute = []*pb.AttributeProto{{Name: proto.String("then_branch"), Type: pb.AttributeProto_GRAPH.Enum(), G: inner.Graph}}
	case "QuantizeLinear", "DequantizeLinear":
		if w.next(8) == 7 {
			n.Domain = proto.String("com.microsoft")
		}
		if w.next(16) == 15 {
			setAttr(n, intAttr("axis", int64(w.next(6))-2))
		}
	}
	if w.next(8) == 7 {
		w.outputs = append(w.outputs, &pb.ValueInfoProto{Name: &n.Output[0]})
	}
	w.nodes = append(w.nodes, n)
	return n
}

func (w *qdqWriter) quantize() {
	q := quantisedBy{scale: "s", zero: []string{"zero", "128", "0", "-128", ""}[w.next(5)]}
	switch w.next(16) {
	case 13:
		q.zero = "3"
	case 14:
		q.scale = "s3"
	case 15:
		q.scale = "six"
	}
	q.tensor = w.add("QuantizeLinear", w.float(), q.scale, q.zero).Output[0]
	w.numbers = append(w.numbers, q)
}

func (w *qdqWriter) dequantize() {
	if len(w.numbers) == 0 {
		return
	}
	q := w.numbers[len(w.numbers)-1]
	if w.next(4) < 3 {
		w.numbers = w.numbers[:len(w.numbers)-1]
	}
	if w.next(32) == 31 {
		q.scale = "six"
	}
	w.floats = append(w.floats, w.add("DequantizeLinear", q.tensor, q.scale, q.zero).Output[0])
}

// move adds a node that works on numbers.
func (w *qdqWriter) move() {
	if len(w.numbers) == 0 {
		return
	}
	q := w.numbers[len(w.numbers)-1]
	inputs := from(q.tensor)
	operator := movesNumbers[w.next(len(movesNumbers))]
	switch operator {
	case "Clip":
		inputs = append(inputs, from("", "128", "0", "3")[w.next(4)], from("", "255", "3")[w.next(3)])
	case "Concat":
		inputs = append(inputs, w.numbers[w.next(len(w.numbers))].tensor)
	case "Pad":
		inputs = append(inputs, "pads", from("", q.zero)[w.next(2)])
	case "Slice":
		inputs = append(inputs, "from", "to")
	}
	for _, o := range w.add(operator, inputs...).Output {
		w.numbers = append(w.numbers, quantisedBy{o, q.scale, q.zero})
	}
}

// work adds a node that works in floating point, or on anything.
func (w *qdqWriter) work(input string) {
	operator := worksOnFloat[w.next(len(worksOnFloat))]
	inputs := from(input)
	switch operator {
	case "Conv":
		inputs = append(inputs, from("w", w.float())[w.next(2)])
	case "Add", "Concat":
		inputs = append(inputs, w.float())
	case "Clip":
		inputs = append(inputs, "s")
	}
	w.floats = append(w.floats, w.add(operator, inputs...).Output[0])
}

// graph writes what the bytes say.
func (w *qdqWriter) graph() *pb.ModelProto {
	for len(w.left) > 0 && len(w.nodes) < 24 {
		switch w.next(8) {
		case 0, 1:
			w.quantize()
		case 2, 3:
			w.dequantize()
		case 4:
			w.move()
		case 5:
			name := from("q", "q32")[w.next(2)]
			w.floats = append(w.floats, w.add("DequantizeLinear", name, from("s", "s3")[w.next(2)]).Output[0])
		case 6:
			w.work(w.float())
		default:
			input := w.float()
			if len(w.numbers) > 0 && w.next(16) == 15 {
				input = w.numbers[0].tensor
			}
			w.work(input)
		}
	}
	for len(w.numbers) > 0 && w.next(32) < 31 {
		w.dequantize()
	}
	if len(w.outputs) == 0 {
		w.outputs = values(&pb.ValueInfoProto{Name: proto.String(w.floats[len(w.floats)-1])})
	}
	return network(values(tensor("x", float, -1, 3, 8, 8)), w.outputs, tensors(
		floatTensor("w", []int64{3, 3, 1, 1}, 1, -2, 3, 4, 5, 6, 7, 8, 9), floatTensor("s", nil, 0.1),
		floatTensor("six", []int64{1}, 6.0/255), floatTensor("s3", []int64{3}, 0.1, 0.2, 0.3),
		rawTensor("q", int8s, []int64{3, 3, 1, 1}, make([]byte, 9)), rawTensor("q32", pb.TensorProto_INT32, []int64{3}, make([]byte, 12)),
		intTensor("pads", []int64{8}, 0, 0, 1, 1, 0, 0, 1, 1), intTensor("from", []int64{1}, 0), intTensor("to", []int64{1}, 1),
		rawTensor("zero", int8s, nil, []byte{0}), rawTensor("-128", int8s, nil, []byte{128}), rawTensor("0", uint8s, nil, []byte{0}),
		rawTensor("128", uint8s, nil, []byte{128}), rawTensor("3", uint8s, nil, []byte{3}), rawTensor("255", uint8s, nil, []byte{255}),
	), w.nodes...)
}

// Any wiring of quantised and other operators is taken apart or refused; what is
// refused stays as it was, and what comes out can be read again, has no quantised
// number left, and scales for its tensors alone.
func FuzzDequantize(f *testing.F) {
	f.Add([]byte("a graph"))
	for i := range 8 {
		for k := range 6 {
			f.Add(bytes.Repeat([]byte{0, 1, byte(k), 1, 1, 1, 1, byte(i), byte(k), 1, 1, 2, 1, 1, 1, 1, 1, 6, 1, 1}, 3))
			f.Add(bytes.Repeat([]byte{0, 1, byte(i), byte(k), 3, 1, 1, 4, byte(i), byte(k), 1, 2, 1, 1, 1, 1, 1}, 3))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w := &qdqWriter{left: b, floats: from("w", "x")}
		opset := int64(10 + w.next(12))
		p := ofOpset(w.graph(), opset)
		p.OpsetImport = append(p.OpsetImport, &pb.OperatorSetIdProto{Domain: proto.String("com.microsoft"), Version: proto.Int64(1)})
		m, err := Decode(marshal(t, p))
		if err != nil {
			return
		}
		before, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Dequantize()
		whole, encodeErr := m.Encode()
		if encodeErr != nil {
			t.Fatal(encodeErr)
		}
		if err != nil {
			if !bytes.Equal(before, whole) || r.Scales != nil {
				t.Fatalf("refused (%v), and not as it was", err)
			}
			return
		}
		again, err := Decode(whole)
		if err != nil {
			t.Fatalf("what was taken apart can't be read: %v", err)
		}
		for _, n := range again.proto.Graph.Node {
			if isQuantize(n) || isDequantize(n) {
				t.Fatalf("%s is left", describe(n))
			}
		}
		for i, v := range again.proto.Graph.Output {
			if v.GetName() != p.Graph.Output[i].GetName() {
				t.Fatalf("the output %q was %q", v.GetName(), p.Graph.Output[i].GetName())
			}
		}
		there := again.Tensors()
		for name, s := range r.Scales {
			if !there[name] || !(s > 0) {
				t.Fatalf("%q has the scale %v", name, s)
			}
		}
	})
}
