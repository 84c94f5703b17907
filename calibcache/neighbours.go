package calibcache

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sightd/sightd/onnx"
)

// outlierFactor is how many times its neighbours' range makes one suspicious.
const outlierFactor = 50

// keeping are the operators whose results are of their inputs' order of
// magnitude in a trained network: neighbours are joined by them. Not among them
// are operators whose results are of some other (Sigmoid, Softmax), or that
// normalise or multiply.
var keeping = setOf(
	"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Sum", "Concat", "Relu", "Clip", "LeakyRelu", "PRelu",
	"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Pad", "Slice", "Split", "Resize", "Upsample",
	"Max", "Min",
)

// passing are those of them that hand on the largest of their inputs' values.
var passing = setOf("Relu", "LeakyRelu", "PRelu", "MaxPool", "GlobalMaxPool", "Pad", "Resize", "Upsample")

// poolings want equal ranges in and out on DLA, additions equal ranges in, and
// concatenations all equal.
var poolings = setOf("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// neighbourhood relates the ranges of activations that layers join.
type neighbourhood struct {
	activations []onnx.Activation
	entries     map[int]Entry // the usable one of an activation
	inputs      map[int][]int // activations that the node at a position reads
	outputs     map[int][]int // activations that it makes
}

func newNeighbourhood(r *resolver) *neighbourhood {
	n := &neighbourhood{
		activations: r.activations,
		entries:     map[int]Entry{}, inputs: map[int][]int{}, outputs: map[int][]int{},
	}
	for i, a := range r.activations {
		if e, ok := r.entryOf(i); ok {
			n.entries[i] = e
		}
		if a.Index >= 0 {
			n.outputs[a.Index] = append(n.outputs[a.Index], i)
		}
		for _, c := range a.Consumers {
			n.inputs[c.Index] = append(n.inputs[c.Index], i)
		}
	}
	return n
}

// outliers are the entries whose range is out of proportion to all of their
// neighbours', of which there must be two: which of two is wrong can't be said.
// The network's input and results, and what else INT8 needs no scale for, are
// not judged, since their range is a matter of the network's task.
func (n *neighbourhood) outliers() []Suspicious {
	var found []Suspicious
	for i, a := range n.activations {
		e, ok := n.entries[i]
		if !ok || !a.Needed || a.Producer == "" {
			continue
		}
		around := n.around(i)
		if len(around) < 2 {
			continue
		}
		least := slices.MinFunc(around, n.byRange)
		greatest := slices.MaxFunc(around, n.byRange)
		switch reach := e.Range(); {
		case reach >= outlierFactor*n.entries[greatest].Range():
			found = append(found, Suspicious{e.Name, Outlier, n.compared(reach, "at least %d times", greatest)})
		case reach <= n.entries[least].Range()/outlierFactor:
			found = append(found, Suspicious{e.Name, Outlier, n.compared(reach, "at most 1/%d of", least)})
		}
	}
	return found
}

func (n *neighbourhood) byRange(i, j int) int {
	a, b := n.entries[i].Range(), n.entries[j].Range()
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (n *neighbourhood) compared(reach float64, how string, nearest int) string {
	return fmt.Sprintf("the range %.4g is "+how+" its neighbours': %.4g of %q is the nearest",
		reach, outlierFactor, n.entries[nearest].Range(), n.activations[nearest].Name)
}

// around are the neighbours of the activation i that have a scale: what its
// producer reads, and what its consumers make, across operators that keep the
// order of magnitude. A neighbour that is i's values again, behind a ReLU or
// pooling, says nothing: its neighbours stand for it.
func (n *neighbourhood) around(i int) []int {
	var found []int
	reach := n.entries[i].Range()
	seen := map[int]bool{i: true}
	for queue := []int{i}; len(queue) > 0; queue = queue[1:] {
		a := n.activations[queue[0]]
		visit := func(op string, others []int) {
			for _, j := range others {
				e, ok := n.entries[j]
				if seen[j] || !ok || !keeping[op] {
					continue
				}
				seen[j] = true
				same := passing[op] && e.Range() < outlierFactor*reach && reach < outlierFactor*e.Range()
				if same {
					queue = append(queue, j)
				} else {
					found = append(found, j)
				}
			}
		}
		if a.Index >= 0 {
			visit(a.Op, n.inputs[a.Index])
		}
		for _, c := range a.Consumers {
			visit(c.Op, n.outputs[c.Index])
		}
	}
	return found
}

// unequal are the layers around which ranges differ that DLA wants equal, by
// what they make.
func (n *neighbourhood) unequal() []Suspicious {
	var found []Suspicious
	for i, a := range n.activations {
		around, wanted := []int(nil), ""
		switch {
		case a.Index < 0:
			continue
		case a.Op == "Add" || a.Op == "Sum":
			around, wanted = n.inputs[a.Index], "at the inputs"
		case a.Op == "Concat":
			around, wanted = append([]int{i}, n.inputs[a.Index]...), "at input and output"
		case poolings[a.Op]:
			around, wanted = append([]int{i}, n.inputs[a.Index]...), "at input and output"
		}
		around = slices.DeleteFunc(slices.Clone(around), func(j int) bool { _, ok := n.entries[j]; return !ok })
		differs := slices.ContainsFunc(around, func(j int) bool { return n.entries[j].Bits != n.entries[around[0]].Bits })
		if !differs {
			continue
		}
		name := a.Name
		if e, ok := n.entries[i]; ok {
			name = e.Name
		}
		found = append(found, Suspicious{name, Unequal, fmt.Sprintf("ranges of %s differ, DLA wants them equal %s of %s",
			n.listed(around), wanted, a.Op)})
	}
	return found
}

// listed names some activations with their ranges.
func (n *neighbourhood) listed(around []int) string {
	const most = 4
	var b strings.Builder
	for k, j := range around[:min(len(around), most)] {
		if k > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %.4g", n.activations[j].Name, n.entries[j].Range())
	}
	if more := len(around) - most; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}
