package onnx

import (
	"slices"

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

// sameValues are the operators whose first output holds its first input's
// values, at most in another order.
var sameValues = set("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Transpose")

// folds are the operators that a ReLU or Clip behind them is folded into.
var folds = set("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "BatchNormalization")

// Activations returns the network's activations in graph order, its input
// first. The front that AddFront made and what is computed from shapes or
// constants alone isn't among them.
func (m *Model) Activations() ([]Activation, error) {
	g := m.proto.GetGraph()
	x := indexOf(g)
	var (
		all   []*Activation
		of    = map[string]*Activation{} // by any name
		nodes = map[*pb.NodeProto]int{}
	)
	for i, n := range g.GetNode() {
		nodes[n] = i
	}
	add := func(a *Activation) {
		all = append(all, a)
		of[a.Name] = a
	}
	for _, v := range g.GetInput() {
		if x.input[v.GetName()] != nil {
			add(&Activation{Name: v.GetName(), Index: -1})
		}
	}
	for i, n := range g.GetNode() {
		if !readsAny(n, of) || n.GetOpType() == "Shape" || n.GetOpType() == "Size" {
			continue
		}
		outputs := n.GetOutput()
		if sameValues[n.GetOpType()] && standard(n) && of[n.GetInput()[0]] != nil && len(outputs) > 0 {
			a := of[n.GetInput()[0]]
			a.Aliases = append(a.Aliases, outputs[0])
			of[outputs[0]] = a
			continue
		}
		for _, o := range outputs {
			if o != "" {
				add(&Activation{Name: o, Producer: nodeName(n), Op: n.GetOpType(), Index: i})
			}
		}
	}
	for _, a := range all {
		relate(a, x, nodes, of)
	}
	activations := make([]Activation, 0, len(all))
	for _, a := range all {
		activations = append(activations, *a)
	}
	return activations, nil
}

// relate fills in who reads a, and what follows from it.
func relate(a *Activation, x *graphIndex, nodes map[*pb.NodeProto]int, of map[string]*Activation) {
	var result, enters bool // is a result of the network; enters a quantised operator
	for _, name := range a.Names() {
		result = result || x.output[name] != nil
		for _, c := range x.consumers[name] {
			if len(c.GetOutput()) > 0 && of[c.GetOutput()[0]] == a {
				continue // makes an alias
			}
			a.Consumers = append(a.Consumers, Consumer{Name: nodeName(c), Op: c.GetOpType(), Index: nodes[c]})
			enters = enters || standard(c) && quantised[c.GetOpType()]
		}
	}
	slices.SortStableFunc(a.Consumers, func(a, b Consumer) int { return a.Index - b.Index })
	a.Consumers = slices.Compact(a.Consumers)

	a.Needed = enters || quantised[a.Op] && !result
	if len(a.Consumers) != 1 || result {
		return
	}
	c := a.Consumers[0]
	if (c.Op == "Relu" || c.Op == "Clip") && folds[a.Op] {
		for _, b := range of {
			if b.Index == c.Index {
				a.Behind = b.Name
			}
		}
	}
	if c.Op == "Softmax" || c.Op == "LogSoftmax" {
		for _, b := range of {
			if b.Index == c.Index && !enters && anyOutput(b, x) {
				a.Needed = false // the network's result, but for the softmax
			}
		}
	}
}

func anyOutput(a *Activation, x *graphIndex) bool {
	return slices.ContainsFunc(a.Names(), func(name string) bool { return x.output[name] != nil })
}

func readsAny(n *pb.NodeProto, of map[string]*Activation) bool {
	return slices.ContainsFunc(n.GetInput(), func(name string) bool { return of[name] != nil })
}
