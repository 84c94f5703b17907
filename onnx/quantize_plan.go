package onnx

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// plan says which layers run in INT8, and which tensors have which scale then.
type plan struct {
	nodes  []*pb.NodeProto
	index  *graphIndex
	scales map[string]float32 // by tensor; what has the same values under another name has the same scale

	layers  map[*pb.NodeProto]*layer // the operators that have a form in INT8
	reason  map[*pb.NodeProto]string // why another node doesn't run in INT8
	folded  map[*pb.NodeProto]*layer // a ReLU or Clip that is part of the layer before it
	tail    map[*pb.NodeProto]bool   // no layers, nor do any come behind them
	carried map[*pb.NodeProto]bool   // run in whatever form their input has: Reshape and the like
	marked  []string                 // the tensors that are INT8, in graph order
	grids   map[string]*grid         // of these
	made    map[string]bool          // of these, those that their producer makes in INT8
}

// layer is a node that can run in INT8, with the ReLU or Clip behind it.
type layer struct {
	node    *pb.NodeProto
	clip    *pb.NodeProto // nil where there is none
	lo, hi  float32       // what clip leaves; infinite where it sets no bound
	reads   []int         // which of the node's inputs are activations
	linear  *linear       // nil where the layer has no weights
	why     string        // "" where the layer runs in INT8; else why it doesn't
	reached bool          // it has weights, or works beside one that has
}

// makes is the tensor that the layer hands on.
func (l *layer) makes() string {
	if l.clip != nil {
		return l.clip.GetOutput()[0]
	}
	return l.node.GetOutput()[0]
}

// moves says whether the layer only picks values: what comes out is on the grid
// of what went in.
func (l *layer) moves() bool { return l.node.GetOpType() == "MaxPool" }

// optional says whether the layer can give floating-point values as well.
func (l *layer) optional() bool { op := l.node.GetOpType(); return op == "Gemm" || op == "MatMul" }

// grid is a set of values that a tensor in INT8 can have: the whole multiples
// of scale from −128 to 127 times.
type grid struct {
	root     string // the tensor whose entry in the scales it is
	scale    float32
	positive bool // no tensor on it goes below zero
	cut      bool // some would without the ReLU or Clip that is part of their layer
}

// carriers hand their input's values on, in another shape or order, or some of
// them, or zeros beside them.
var carriers = set("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose", "Slice", "Split", "Pad")

// planOf finds out what can run in INT8. kept are the nodes that may not; where
// only isn't nil, no others than these may. islands leaves more in floating point;
// see [plan.islands].
func planOf(g *pb.GraphProto, scales map[string]float32, kept, only map[*pb.NodeProto]bool, islands bool) (*plan, error) {
	p := &plan{
		nodes: g.GetNode(), index: indexOf(g), scales: maps.Clone(scales),
		layers: map[*pb.NodeProto]*layer{}, folded: map[*pb.NodeProto]*layer{}, reason: map[*pb.NodeProto]string{},
		carried: map[*pb.NodeProto]bool{}, grids: map[string]*grid{},
	}
	p.shareScales()
	p.tail = tailOf(p.nodes, p.index)
	for _, n := range p.nodes {
		if standard(n) && layerOps[n.GetOpType()] {
			l := p.layerOf(n)
			p.layers[n] = l
			switch {
			case kept[n] || l.clip != nil && kept[l.clip]:
				l.why = keptWhy
			case only != nil && !only[n] && (l.clip == nil || !only[l.clip]):
				l.why = "not among the layers to quantise"
			case l.why == "":
				l.why = p.unnamed(l)
			}
		}
	}
	if islands {
		p.islands()
	}
	if only == nil { // else it is asked for, whatever it gains
		p.reach()
		p.release()
	}
	withKept := map[*pb.NodeProto]bool{} // the ReLU or Clip of a layer that is kept
	for _, l := range p.layers {
		switch {
		case l.clip == nil:
		case l.why == "":
			p.folded[l.clip] = l
		case l.why == keptWhy:
			withKept[l.clip] = true
		}
	}
	for _, n := range p.nodes {
		switch {
		case kept[n] || withKept[n]:
			p.reason[n] = keptWhy
		case carries(n, p.index):
			p.reason[n] = "what it reads isn't INT8"
		case n.GetOpType() == "Relu" || n.GetOpType() == "Clip":
			p.reason[n] = "not part of an INT8 layer"
		default:
			p.reason[n] = "no INT8 form of " + n.GetOpType()
		}
	}
	return p, p.setGrids(kept)
}

// shareScales gives a tensor the scale of what has the same values under
// another name.
func (p *plan) shareScales() {
	share := func(n *pb.NodeProto, from, to string) {
		if s, ok := p.scales[from]; ok && sameValues[n.GetOpType()] && standard(n) {
			if _, ok := p.scales[to]; !ok && to != "" {
				p.scales[to] = s
			}
		}
	}
	for _, n := range p.nodes {
		share(n, arg(n, 0), n.GetOutput()[0])
	}
	for _, n := range slices.Backward(p.nodes) {
		share(n, n.GetOutput()[0], arg(n, 0))
	}
}

// layerOps are the operators that have a form in INT8.
var layerOps = set("Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool")

// layerOf describes a node whose operator has a form in INT8.
func (p *plan) layerOf(n *pb.NodeProto) *layer {
	l := &layer{node: n, lo: float32(math.Inf(-1)), hi: float32(math.Inf(1))}
	if c := p.index.only(n.GetOutput()[0]); c != nil && folds[n.GetOpType()] {
		if lo, hi, ok := bounds(c, p.index); ok && arg(c, 0) == n.GetOutput()[0] && len(c.GetOutput()) == 1 {
			l.clip, l.lo, l.hi = c, lo, hi
		}
	}
	constant := func(i int) bool { return p.index.initializer[arg(n, i)] != nil }
	switch n.GetOpType() {
	case "Conv", "Gemm":
		l.reads = []int{0}
		if l.linear = linearOf(n, p.index); l.linear == nil {
			l.why = "weights or bias aren't constant, or not of a form that INT8 has"
		}
	case "MatMul":
		l.reads = []int{0}
		if l.linear = linearOf(n, p.index); l.linear == nil {
			l.reads = []int{0, 1}
		}
		if l.linear == nil && (constant(0) || constant(1)) {
			l.why = "weights aren't a constant matrix on the right"
		}
	case "Add", "Mul":
		l.reads = []int{0, 1}
		if constant(0) || constant(1) {
			l.why = "works with a constant"
		}
	case "Concat":
		for i := range n.GetInput() {
			l.reads = append(l.reads, i)
		}
	case "AveragePool":
		l.reads = []int{0}
		if slices.ContainsFunc(attrInts(n, "dilations"), func(d int64) bool { return d != 1 }) {
			l.why = "dilated"
		}
	default:
		l.reads = []int{0}
	}
	if len(n.GetOutput()) > 1 {
		l.why = "has a second output"
	}
	return l
}

// bounds returns what a ReLU, or a Clip between constants, leaves.
func bounds(n *pb.NodeProto, x *graphIndex) (lo, hi float32, ok bool) {
	lo, hi = float32(math.Inf(-1)), float32(math.Inf(1))
	switch {
	case !standard(n):
		return 0, 0, false
	case n.GetOpType() == "Relu":
		return 0, hi, true
	case n.GetOpType() != "Clip":
		return 0, 0, false
	}
	for i, b := range []*float32{1: &lo, 2: &hi} {
		if b == nil || arg(n, i) == "" {
			continue
		}
		v, err := floats(x.initializer[arg(n, i)])
		if err != nil || len(v) != 1 || v[0] != v[0] {
			return 0, 0, false
		}
		*b = v[0]
	}
	return lo, hi, lo <= hi
}

// unnamed says which tensor of the layer has no scale, "" where all have one
// that need one.
func (p *plan) unnamed(l *layer) string {
	for _, i := range l.reads {
		if _, ok := p.scales[arg(l.node, i)]; !ok {
			return fmt.Sprintf("no scale for its input %q", arg(l.node, i))
		}
	}
	if _, ok := p.scales[l.makes()]; !ok && !(l.optional() && p.last(l.makes())) {
		return fmt.Sprintf("no scale for its output %q", l.makes())
	}
	return ""
}

// last says whether no layer comes behind the tensor.
func (p *plan) last(tensor string) bool { return p.index.ends(tensor, p.tail) }

// ends says whether nothing but nodes of the tail comes behind the tensor.
func (x *graphIndex) ends(tensor string, tail map[*pb.NodeProto]bool) bool {
	return !slices.ContainsFunc(x.consumers[tensor], func(n *pb.NodeProto) bool { return !tail[n] })
}

// tailOf returns the nodes that are no layers and have none behind them.
func tailOf(nodes []*pb.NodeProto, x *graphIndex) map[*pb.NodeProto]bool {
	tail := map[*pb.NodeProto]bool{}
	for _, n := range slices.Backward(nodes) {
		tail[n] = !(standard(n) && layerOps[n.GetOpType()]) &&
			!slices.ContainsFunc(n.GetOutput(), func(o string) bool { return !x.ends(o, tail) })
	}
	return tail
}

// reach leaves those layers without weights in floating point that work beside
// no INT8 layer with weights: there is nothing to be gained from them, but
// rounding.
func (p *plan) reach() {
	for changed := true; changed; {
		changed = false
		for _, n := range p.nodes {
			l := p.layers[n]
			if l == nil || l.why != "" || l.reached {
				continue
			}
			l.reached = l.linear != nil || slices.ContainsFunc(p.neighbours(l), func(b *layer) bool { return b.reached })
			changed = changed || l.reached
		}
	}
	for _, l := range p.layers {
		if l.why == "" && !l.reached {
			l.why = "no INT8 layer beside it"
		}
	}
}

// release leaves layers without weights in floating point where nothing behind
// them runs in INT8: rounding their results, a network's scores perhaps, would
// only cost accuracy. (Max pooling rounds nothing.)
func (p *plan) release() {
	for _, n := range slices.Backward(p.nodes) {
		l := p.layers[n]
		if l != nil && l.why == "" && l.linear == nil && !l.moves() && len(p.readers(l.makes())) == 0 {
			l.why = "no INT8 layer behind it"
		}
	}
}

// neighbours are the layers whose tensors l reads, or that read its own.
func (p *plan) neighbours(l *layer) []*layer {
	var list []*layer
	for _, i := range l.reads {
		if b := p.maker(arg(l.node, i)); b != nil {
			list = append(list, b)
		}
	}
	return append(list, p.readers(l.makes())...)
}

// maker is the layer, of whatever form, that made the tensor's values.
func (p *plan) maker(tensor string) *layer {
	for n := p.index.producer[tensor]; n != nil; n = p.index.producer[arg(n, 0)] {
		if l := p.layers[n]; l != nil {
			return l
		}
		if l := p.layers[p.index.producer[arg(n, 0)]]; l != nil && l.clip == n {
			return l
		}
		if !carries(n, p.index) {
			return nil
		}
	}
	return nil
}

// readers are the layers that are to run in INT8 and read the tensor's values.
func (p *plan) readers(tensor string) []*layer {
	var list []*layer
	for _, c := range p.index.consumers[tensor] {
		if l := p.layers[c]; l != nil {
			if l.why == "" {
				list = append(list, l)
			}
			continue
		}
		if carries(c, p.index) && arg(c, 0) == tensor {
			for _, o := range c.GetOutput() {
				list = append(list, p.readers(o)...)
			}
		}
	}
	return list
}
