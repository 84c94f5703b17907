package onnx

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// quantizeOpset is the least opset of an INT8 graph: from it on
// DequantizeLinear takes a scale for each channel. MaxPool and Clip take bytes
// from opset 12 on.
const (
	quantizeOpset = 13
	quantizeIR    = 7 // the file format of that opset
)

// sameSince7 are the operators that mean in opset 13 what they meant in
// opset 7 or whenever they came, when written in the same way.
var sameSince7 = set(strings.Fields(`
Abs Add And ArgMax ArgMin AveragePool Cast Ceil Concat Constant ConstantOfShape Conv ConvTranspose
DepthToSpace Div Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements Gemm GlobalAveragePool
GlobalMaxPool Greater HardSigmoid Identity InstanceNormalization LRN LeakyRelu Less Log LpNormalization
MatMul Max MaxPool Mean Min Mul Neg Not Or PRelu Pow Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean
ReduceMin ReduceProd Relu Reshape Round Selu Shape Sigmoid Sign Size Softplus Softsign SpaceToDepth Sqrt
Sub Sum Tan Tanh ThresholdedRelu Tile Transpose Where
`)...)

// upgrade rewrites p, of opset 7 to 12, for opset 13.
func upgrade(p *pb.ModelProto) error {
	var standardOpset *pb.OperatorSetIdProto
	for _, o := range p.GetOpsetImport() {
		if o.GetDomain() == "" || o.GetDomain() == "ai.onnx" {
			standardOpset = o
		}
	}
	if standardOpset.GetVersion() >= quantizeOpset {
		return nil
	}
	u := upgrader{editor: edit(p.GetGraph()), from: standardOpset.GetVersion()}
	for _, n := range p.GetGraph().GetNode() {
		if err := u.node(n); err != nil {
			return fmt.Errorf("%s: %w", describe(n), err)
		}
	}
	u.finish()
	standardOpset.Version = proto.Int64(quantizeOpset)
	p.IrVersion = proto.Int64(max(p.GetIrVersion(), quantizeIR))
	return nil
}

type upgrader struct {
	*editor
	from int64
}

// node appends n to the graph as opset 13 writes it.
func (u *upgrader) node(n *pb.NodeProto) error {
	if !standard(n) {
		u.add(n)
		return nil
	}
	switch op := n.GetOpType(); op {
	case "Clip":
		u.floatInput(n, "min", 1)
		u.floatInput(n, "max", 2)
	case "Dropout":
		if !u.index.oneOutput(n) {
			return u.unknown()
		}
		n.OpType, n.Attribute = proto.String("Identity"), nil
		n.Input, n.Output = []string{arg(n, 0)}, n.Output[:1]
	case "BatchNormalization":
		if attrInt(n, "spatial", 1) != 1 || !u.index.oneOutput(n) {
			return u.unknown()
		}
		dropAttr(n, "spatial")
		n.Output = n.Output[:1] // the others are of use in training
	case "Pad":
		u.intsInput(n, "pads", 1)
		u.floatInput(n, "value", 2)
	case "Slice":
		u.intsInput(n, "starts", 1)
		u.intsInput(n, "ends", 2)
		u.intsInput(n, "axes", 3)
	case "Squeeze", "Unsqueeze", "ReduceSum":
		u.intsInput(n, "axes", 1)
	case "Split":
		u.intsInput(n, "split", 1)
	case "TopK":
		if k := attr(n, "k"); k != nil {
			u.input(n, 1, intTensor(u.unique(nodeName(n)+"_k"), []int64{1}, k.GetI()))
			dropAttr(n, "k")
		}
	case "Softmax", "LogSoftmax":
		if !u.index.oneOutput(n) {
			return u.unknown()
		}
		u.softmax(n)
		return nil
	case "Resize":
		if u.from < 11 {
			return u.unknown()
		}
	default:
		if !sameSince7[op] {
			return u.unknown()
		}
	}
	u.add(n)
	return nil
}

func (u *upgrader) unknown() error {
	return fmt.Errorf("this form of opset %d can't be rewritten for opset %d, which INT8 needs: "+
		"export the model with opset %d or newer", u.from, quantizeOpset, quantizeOpset)
}

// softmax writes the Softmax n, which before opset 13 took axis and all that
// follow as one, and now takes axis alone.
func (u *upgrader) softmax(n *pb.NodeProto) {
	axis := attrInt(n, "axis", 1)
	if u.lastLong(n.GetOutput()[0], axis) {
		setAttr(n, intAttr("axis", axis))
		u.add(n)
		return
	}
	x, y, name := arg(n, 0), n.GetOutput()[0], nodeName(n)
	shape, flat, result := u.unique(y+"_shape"), u.unique(y+"_flat"), u.unique(y+"_flat_result")
	u.create("Shape", name+"_shape", []string{x}, []string{shape})
	u.create("Flatten", name+"_flat", []string{x}, []string{flat}, intAttr("axis", axis))
	u.create(n.GetOpType(), name, []string{flat}, []string{result}, intAttr("axis", 1))
	u.create("Reshape", name+"_back", []string{result, shape}, []string{y})
}

// lastLong says whether the model declares that the axes of the tensor behind
// the given one have the size 1, or that there are none.
func (u *upgrader) lastLong(tensor string, axis int64) bool {
	v := u.index.output[tensor]
	for _, w := range u.graph.GetValueInfo() {
		if w.GetName() == tensor {
			v = w
		}
	}
	if v.GetType().GetTensorType().GetShape() == nil {
		return false
	}
	dims := v.GetType().GetTensorType().GetShape().GetDim()
	if axis < 0 {
		axis += int64(len(dims))
	}
	for i, d := range dims {
		if int64(i) > axis && d.GetDimValue() != 1 {
			return false
		}
	}
	return true
}

// intsInput makes an input of the attribute that held integers before.
func (u *upgrader) intsInput(n *pb.NodeProto, name string, at int) {
	if a := attr(n, name); a != nil {
		u.input(n, at, intTensor(u.unique(nodeName(n)+"_"+name), []int64{int64(len(a.GetInts()))}, a.GetInts()...))
		dropAttr(n, name)
	}
}

// floatInput makes an input of the attribute that held a number before.
func (u *upgrader) floatInput(n *pb.NodeProto, name string, at int) {
	if a := attr(n, name); a != nil {
		u.input(n, at, floatTensor(u.unique(nodeName(n)+"_"+name), nil, a.GetF()))
		dropAttr(n, name)
	}
}

// input makes t the input of n at the position at.
func (u *upgrader) input(n *pb.NodeProto, at int, t *pb.TensorProto) {
	for len(n.Input) <= at {
		n.Input = append(n.Input, "")
	}
	n.Input[at] = u.initializer(t)
}
