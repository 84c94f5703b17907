package onnx

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// DequantizeReport says what Dequantize found.
type DequantizeReport struct {
	// Scales are those of the activations, by the tensor's name in the
	// floating-point model: what a calibration cache holds.
	Scales map[string]float32

	Notes []string // what a user should know of it, a sentence each

	Weights     int // how many constants had been quantised: weights and biases
	Activations int // how many activations had QuantizeLinear and DequantizeLinear of their own
}

// Dequantize turns an INT8 model in QDQ format, as quantisation-aware training
// exports it and as Quantize and ONNX Runtime's quantize_static write it, into the
// floating-point model and the scales that its INT8 form had: the two that
// TensorRT up to 10 and DLA want. It is the inverse of Quantize, but for what
// Quantize folded and rounded.
//
// QuantizeLinear and DequantizeLinear are taken out, and what read their result
// reads the tensor that was quantised. That tensor has the scale. It keeps its
// name, unless the result was an output of the graph, or is the name that it had
// before Quantize or ONNX Runtime renamed it: then it is called so. Where tensors
// without a scale hold the values of one that has one, such as behind max pooling,
// or go into nothing but such a layer, they get the same, as TensorRT and DLA
// can't run the layer in INT8 otherwise. NVIDIA's qdq-translator does likewise.
//
// Weights that stand in the model in floating point stay as they are, and aren't
// rounded: TensorRT quantises them by each channel's largest. Weights and biases
// that stand there in 8 or 32 bits become (q − zero point) × scale.
//
// A cache is for symmetric numbers. Signed ones around 0 and unsigned ones around
// 128 are on the same grid. Unsigned ones from 0 on, of what isn't negative, get
// the scale with which 127 is what 255 was: that grid is half as fine. Their
// QuantizeLinear cuts off what is negative; where no ReLU does that too, a Clip
// stands there now. Other zero points are refused, and so are scales by channel
// of activations, other types than 8 bits, and operators that work on quantised
// numbers, but for those that only move or clip them.
//
// With an error, the model is as it was.
func (m *Model) Dequantize() (DequantizeReport, error) {
	work := m.Clone()
	g := work.proto.GetGraph()
	if err := checkQDQ(g); err != nil {
		return DequantizeReport{}, err
	}
	f := work.infer()
	if f.err != nil {
		return DequantizeReport{}, f.err
	}
	d := newDequantizer(g, f, work.opset())
	for _, n := range g.GetNode() {
		if err := d.node(n); err != nil {
			return DequantizeReport{}, fmt.Errorf("%s: %w", describe(n), err)
		}
	}
	if err := d.end(); err != nil {
		return DequantizeReport{}, err
	}
	prune(g)
	foldConstants(g, work.infer())
	if err := work.report(d); err != nil {
		return DequantizeReport{}, err
	}
	m.proto = work.proto
	return d.report, nil
}

// isQuantize says whether the node quantises by a given scale.
func isQuantize(n *pb.NodeProto) bool { return isQDQ(n, "QuantizeLinear") }

func isDequantize(n *pb.NodeProto) bool { return isQDQ(n, "DequantizeLinear") }

// isQDQ says whether the node is of the given operator, ONNX's or ONNX Runtime's
// own, which was there first and is the same.
func isQDQ(n *pb.NodeProto, op string) bool {
	return n.GetOpType() == op && (standard(n) || n.GetDomain() == "com.microsoft")
}

// wantQDQ ends errors about other forms of INT8 models.
const wantQDQ = "want floating-point operators between DequantizeLinear and QuantizeLinear (QDQ format, in ONNX Runtime " +
	"quant_format=QuantFormat.QDQ)"

// checkQDQ sees that a model is in QDQ format.
func checkQDQ(g *pb.GraphProto) error {
	found := false
	for _, n := range g.GetNode() {
		if integerOperator(n) {
			return fmt.Errorf("%s: it computes with 8-bit numbers: %s", describe(n), wantQDQ)
		}
		found = found || isQuantize(n) || isDequantize(n)
		for _, sub := range subgraphs(n) {
			if err := refuseQDQ(sub); err != nil {
				return fmt.Errorf("%s: %w", describe(n), err)
			}
		}
	}
	if !found {
		return errors.New("the model has no QuantizeLinear/DequantizeLinear nodes: it is no INT8 model in QDQ format, " +
			"or a floating-point one already")
	}
	return nil
}

// refuseQDQ refuses quantised numbers in a graph inside a node.
func refuseQDQ(g *pb.GraphProto) error {
	for _, n := range g.GetNode() {
		if integerOperator(n) || isQuantize(n) || isDequantize(n) {
			return fmt.Errorf("%s: it is inside a branch or a loop, where quantised numbers aren't supported: "+
				"export the model without control flow", describe(n))
		}
		for _, sub := range subgraphs(n) {
			if err := refuseQDQ(sub); err != nil {
				return fmt.Errorf("%s: %w", describe(n), err)
			}
		}
	}
	return nil
}

// integerOperators compute with quantised numbers, beside those that are called
// QLinear… and QOrdered….
var integerOperators = set("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "MatMulIntegerToFloat",
	"DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QGemm", "QAttention", "QEmbedLayerNormalization", "MulInteger",
	"ReduceSumInteger", "QMoE")

func integerOperator(n *pb.NodeProto) bool {
	op := n.GetOpType()
	return integerOperators[op] || strings.HasPrefix(op, "QLinear") || strings.HasPrefix(op, "QOrdered")
}
