package onnx

import (
	"slices"
	"strings"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// Activation is a tensor that carries image data through the network, under
// all its names: what Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout
// and Transpose give has the values of what they took, so one scale holds for
// all of them.
type Activation struct {
	Name    string   // of the tensor where the values were made
	Aliases []string // the same values under other names, in graph order

	Producer string // name of the node that makes it; "" for the network's input
	Op       string // the producer's operator; "" for the network's input
	Index    int    // the producer's position in the graph; -1 for the network's input

	Consumers []Consumer // who reads it, under any of its names; in graph order

	Shape []int64 // nil where the rank is unknown; -1 for a size that is unknown or not fixed

	// Needed says that INT8 needs a scale for it: it enters or leaves an
	// operator that gets quantised, and is no result of the network.
	Needed bool

	// Behind names the activation behind the ReLU or Clip that this one goes
	// into and nowhere else. Where the ReLU or Clip is folded into this one's
	// producer, a scale for Behind serves for both. "" where there is none.
	Behind string

	// Cut tells of a ReLU's or a Clip's result which activation it was made of;
	// nil for all others.
	Cut *Cut
}

// Cut says that an activation's values are another one's, but for those below Lo,
// which became Lo, and above Hi, which became Hi.
type Cut struct {
	Of     string  // name of the other activation
	Lo, Hi float32 // may be infinite
}

// Consumer is a node that reads an activation.
type Consumer struct {
	Name, Op string
	Index    int // position in the graph
}

// Names returns the activation's name and its aliases.
func (a *Activation) Names() []string { return append([]string{a.Name}, a.Aliases...) }

// quantised are the operators that run in INT8 when scales for their inputs
// and outputs are known.
var quantised = set(
	"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat", "Relu", "Clip",
	"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool",
)

// sameValues are the operators whose first output holds their first input's
// values, at most in another order.
var sameValues = set("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Transpose")

// folds are the operators that a ReLU or Clip behind them is folded into.
var folds = set("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "BatchNormalization")

// Activations returns the network's activations in graph order, its input
// first: all floating-point tensors that depend on the image's pixels. The
// front that AddFront made isn't among them. It fails where the graph
// contradicts itself: a node's inputs that can't go together.
func (m *Model) Activations() ([]Activation, error) {
	g := m.proto.GetGraph()
	a := activations{
		inference: m.infer(),
		nodes:     map[*pb.NodeProto]int{},
		of:        map[string]*Activation{},
		pixels:    map[string]bool{},
		made:      map[int]*Activation{},
	}
	if a.err != nil {
		return nil, a.err
	}
	for _, v := range g.GetInput() {
		a.add(v.GetName(), nil, -1)
	}
	for i, n := range g.GetNode() {
		a.nodes[n] = i
		a.node(n, i)
	}
	list := make([]Activation, 0, len(a.all))
	for _, t := range a.all {
		a.relate(t)
		list = append(list, *t)
	}
	return list, nil
}

type activations struct {
	*inference
	nodes  map[*pb.NodeProto]int // positions
	all    []*Activation
	of     map[string]*Activation // by any name
	made   map[int]*Activation    // the first of each node, by its position
	pixels map[string]bool        // all tensors that depend on pixels, of any type
}

// add makes an activation of the tensor that n, at position i, makes, if it is
// of a floating-point type or of one that isn't known.
func (a *activations) add(name string, n *pb.NodeProto, i int) {
	if name == "" {
		return
	}
	a.pixels[name] = true
	info := a.inference.of(name)
	if info.typ != pb.TensorProto_UNDEFINED && !isFloat(info.typ) {
		return
	}
	t := &Activation{Name: name, Index: i, Shape: info.sizes()}
	if n != nil {
		t.Producer, t.Op = nodeName(n), n.GetOpType()
	}
	a.all = append(a.all, t)
	a.of[name] = t
	if a.made[i] == nil {
		a.made[i] = t
	}
}

func (a *activations) node(n *pb.NodeProto, i int) {
	if strings.HasPrefix(n.GetName(), frontPrefix) {
		if o := n.GetOutput()[0]; !strings.HasPrefix(o, frontPrefix) {
			a.add(o, nil, -1) // the front's last node makes what was the network's input
		}
		return
	}
	reads := slices.ContainsFunc(reads(n), func(name string) bool { return a.pixels[name] })
	if !reads || standard(n) && (n.GetOpType() == "Shape" || n.GetOpType() == "Size") {
		return
	}
	outputs := n.GetOutput()
	if t := a.of[arg(n, 0)]; t != nil && outputs[0] != "" && a.sameValues(n) {
		t.Aliases = append(t.Aliases, outputs[0])
		a.of[outputs[0]] = t
		a.pixels[outputs[0]] = true
		return
	}
	for _, name := range outputs {
		a.add(name, n, i)
	}
	if lo, hi, ok := bounds(n, a.index); ok {
		if t, of := a.of[outputs[0]], a.of[arg(n, 0)]; t != nil && of != nil {
			t.Cut = &Cut{of.Name, lo, hi}
		}
	}
}

// sameValues says whether n's output holds the values of its input.
func (a *activations) sameValues(n *pb.NodeProto) bool {
	if n.GetOpType() == "Cast" {
		return isFloat(a.inference.of(n.GetInput()[0]).typ) && isFloat(a.inference.of(n.GetOutput()[0]).typ)
	}
	return sameValues[n.GetOpType()] && standard(n)
}

// relate fills in who reads t, and what follows from it.
func (a *activations) relate(t *Activation) {
	enters := false // a quantised operator
	for _, name := range t.Names() {
		for _, c := range a.index.consumers[name] {
			if a.of[c.GetOutput()[0]] == t {
				continue // makes an alias
			}
			t.Consumers = append(t.Consumers, Consumer{Name: nodeName(c), Op: c.GetOpType(), Index: a.nodes[c]})
			enters = enters || standard(c) && quantised[c.GetOpType()]
		}
	}
	slices.SortFunc(t.Consumers, func(a, b Consumer) int { return a.Index - b.Index })
	t.Consumers = slices.Compact(t.Consumers)

	result := a.result(t)
	t.Needed = enters || quantised[t.Op] && !result
	if len(t.Consumers) != 1 || result {
		return
	}
	behind := a.made[t.Consumers[0].Index]
	switch op := t.Consumers[0].Op; {
	case behind == nil:
	case (op == "Relu" || op == "Clip") && folds[t.Op]:
		t.Behind = behind.Name
	case op == "Softmax" || op == "LogSoftmax":
		t.Needed = t.Needed && !a.result(behind) // or it is the result, but for the softmax
	}
}

// result says whether t is a result of the network, under any of its names.
func (a *activations) result(t *Activation) bool {
	return slices.ContainsFunc(t.Names(), func(name string) bool { return a.index.output[name] != nil })
}

func isFloat(t pb.TensorProto_DataType) bool {
	switch t {
	case pb.TensorProto_FLOAT, pb.TensorProto_FLOAT16, pb.TensorProto_BFLOAT16, pb.TensorProto_DOUBLE:
		return true
	}
	return false
}
