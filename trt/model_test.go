package trt_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sightd/sightd/onnx"
	"github.com/sightd/sightd/trt"
)

// The graph of the tests, and of the double's formula.
const (
	side    = 8
	classes = 5
	gain    = 8
)

// message is an encoded message of protocol buffers.
type message []byte

func (m message) bytes(field protowire.Number, b []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), b)
}

func (m message) text(field protowire.Number, s string) message { return m.bytes(field, []byte(s)) }

func (m message) number(field protowire.Number, n int64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), uint64(n))
}

// node is a NodeProto.
func node(op, name, domain string, in []string, out string, attributes ...message) message {
	var n message
	for _, i := range in {
		n = n.text(1, i)
	}
	n = n.text(2, out).text(3, name).text(4, op)
	for _, a := range attributes {
		n = n.bytes(5, a)
	}
	if domain != "" {
		n = n.text(7, domain)
	}
	return n
}

func integer(name string, v int64) message {
	return message(nil).text(1, name).number(3, v).number(20, 2)
}

func integers(name string, vs ...int64) message {
	m := message(nil).text(1, name)
	for _, v := range vs {
		m = m.number(8, v)
	}
	return m.number(20, 7)
}

// value is a ValueInfoProto; a dimension of 0 is open.
func value(name string, kind int64, dims ...int64) message {
	var shape message
	for _, d := range dims {
		if d == 0 {
			shape = shape.bytes(1, message(nil).text(2, "N"))
		} else {
			shape = shape.bytes(1, message(nil).number(1, d))
		}
	}
	tensor := message(nil).number(1, kind).bytes(2, shape)
	return message(nil).text(1, name).bytes(2, message(nil).bytes(1, tensor))
}

const (
	float32Type = 1
	uint8Type   = 2
)

// graph is the model by which the double and TensorRT are tested: N×side×side×3 bytes
// to N×classes scores, the double's formula. batch 0 leaves N open. extra nodes go
// between the flattened and the softmax; they make "logits" of "flat".
func graph(batch int64, extra ...message) []byte {
	weights := message(nil).number(1, classes).number(1, 3).number(1, 1).number(1, 1).number(2, float32Type).text(8, "weights")
	var raw []byte
	for class := range classes {
		for channel := range 3 {
			w := float32(0)
			if class == channel {
				w = gain
			}
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(w))
		}
	}
	weights = weights.bytes(9, raw)
	scale := message(nil).number(2, float32Type).text(8, "scale").
		bytes(9, binary.LittleEndian.AppendUint32(nil, math.Float32bits(1.0/255)))

	logits := "flat"
	nodes := []message{
		node("Cast", "cast", "", []string{"pixels"}, "floats", integer("to", float32Type)),
		node("Mul", "scaling", "", []string{"floats", "scale"}, "scaled"),
		node("Transpose", "transpose", "", []string{"scaled"}, "input", integers("perm", 0, 3, 1, 2)),
		node("Conv", "conv", "", []string{"input", "weights"}, "conv_out", integers("kernel_shape", 1, 1)),
		node("GlobalAveragePool", "pool", "", []string{"conv_out"}, "pool_out"),
		node("Flatten", "flatten", "", []string{"pool_out"}, "flat", integer("axis", 1)),
	}
	if len(extra) > 0 {
		nodes, logits = append(nodes, extra...), "logits"
	}
	nodes = append(nodes, node("Softmax", "softmax", "", []string{logits}, "scores", integer("axis", 1)))

	var g message
	for _, n := range nodes {
		g = g.bytes(1, n)
	}
	g = g.text(2, "mean_colour").bytes(5, weights).bytes(5, scale).
		bytes(11, value("pixels", uint8Type, batch, side, side, 3)).
		bytes(12, value("scores", float32Type, batch, classes))
	return message(nil).number(1, 8).bytes(7, g).bytes(8, message(nil).number(2, 13))
}

// scales are those of the graph's activations.
var scales = map[string]float32{"input": 1.0 / 127, "conv_out": gain / 127.0, "pool_out": gain / 127.0}

// quantised is the graph with its scales in it, as sightd has it made.
func quantised(t testing.TB) []byte {
	t.Helper()
	m, err := onnx.Decode(graph(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Quantize(scales, onnx.QuantizeOptions{}); err != nil {
		t.Fatal(err)
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// cacheOf is a calibration cache for the graph, as a version of TensorRT takes it.
func cacheOf(v trt.Version) []byte {
	n := int(v)
	if v.Major() < 10 {
		n = v.Major()*1000 + int(v)/100%100*100 + int(v)%100
	}
	text := fmt.Sprintf("TRT-%d-EntropyCalibration2\n", n)
	for _, name := range []string{"input", "conv_out", "pool_out"} {
		text += fmt.Sprintf("%s: %08x\n", name, math.Float32bits(scales[name]))
	}
	return []byte(text)
}

// picture is n images of the graph's size, of colours by seed, with some texture.
func picture(n, seed int) []byte {
	b := make([]byte, n*side*side*3)
	for i := range b {
		at := i / (side * side * 3)
		b[i] = byte((40*(i%3)+97*at+31*seed)%200 + (i/3)%40)
	}
	return b
}
