package onnx

import (
	"fmt"
	"math"
	"slices"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// setGrids gives each tensor that becomes INT8 its grid. A tensor has the scale
// that is given for it, but for two cases, which are TensorRT's too: what only
// picks values from a tensor (max pooling, reshaping, …) gives values on that
// tensor's grid, and what goes into one Concat and nowhere else is made on the
// grid of the Concat's output, so that nothing is rounded twice.
func (p *plan) setGrids(kept map[*pb.NodeProto]bool) error {
	p.mark(kept)
	root := p.roots()
	adopted := p.adopt(root)
	grids := map[string]*grid{}
	cut := map[string]bool{} // roots below which no value goes since it was cut off
	positive := p.nonNegative()
	for _, l := range p.layers {
		if l.why == "" && l.lo >= 0 {
			cut[l.makes()] = true
		}
	}
	for _, t := range p.marked {
		r := root(t)
		top := r
		for adopted[top] != "" {
			top = adopted[top]
		}
		g := grids[top]
		if g == nil {
			s := p.scales[top]
			if !(s >= 0x1p-126 && s <= 1e30) {
				return fmt.Errorf("the scale of the tensor %q is %v, want a positive number: "+
					"calibrate anew, or keep its layers in floating point", top, s)
			}
			g = &grid{root: top, scale: s, positive: true}
			grids[top] = g
		}
		g.positive = g.positive && positive[r]
		g.cut = g.cut || cut[r]
		p.grids[t] = g
	}
	return nil
}

// mark finds the tensors that become INT8, and the nodes that are carried along.
func (p *plan) mark(kept map[*pb.NodeProto]bool) {
	is := map[string]bool{}
	add := func(t string) {
		if !is[t] {
			is[t] = true
			p.marked = append(p.marked, t)
		}
	}
	p.made = map[string]bool{}
	for _, n := range p.nodes {
		l := p.layers[n]
		switch {
		case l != nil && l.why == "":
			for _, i := range l.reads {
				add(arg(n, i))
			}
			if !l.optional() || len(p.readers(l.makes())) > 0 {
				add(l.makes())
				p.made[l.makes()] = true
			}
		case carries(n, p.index) && !kept[n] && p.made[arg(n, 0)]:
			p.carried[n] = true
			for _, o := range n.GetOutput() {
				add(o)
				p.made[o] = true
			}
		}
	}
}

// carries says whether the node hands values on as they are, be they numbers or
// bytes.
func carries(n *pb.NodeProto, x *graphIndex) bool {
	return standard(n) && carriers[n.GetOpType()] && (n.GetOpType() != "Pad" || padsZeros(n, x))
}

// roots returns a function that finds the tensor whose values another one has.
func (p *plan) roots() func(string) string {
	root := map[string]string{}
	find := func(t string) string {
		if r := root[t]; r != "" {
			return r
		}
		return t
	}
	for _, n := range p.nodes {
		if l := p.layers[n]; p.carried[n] || l != nil && l.why == "" && l.moves() {
			for _, o := range n.GetOutput() {
				root[o] = find(arg(n, 0))
			}
		}
	}
	return find
}

// adopt says which roots are made on the grid of another one: the output of the
// Concat that alone reads them.
func (p *plan) adopt(root func(string) string) map[string]string {
	readers := map[string][]*pb.NodeProto{} // of each root's values
	for _, n := range p.nodes {
		l := p.layers[n]
		if p.carried[n] || l != nil && l.why == "" && l.moves() || isShape(n) {
			continue
		}
		for _, t := range reads(n) {
			readers[root(t)] = append(readers[root(t)], n)
		}
	}
	for t := range p.index.output {
		readers[root(t)] = append(readers[root(t)], nil)
	}
	adopted := map[string]string{}
	for _, n := range p.nodes {
		l := p.layers[n]
		if l == nil || l.why != "" || n.GetOpType() != "Concat" {
			continue
		}
		for _, t := range n.GetInput() {
			r := root(t)
			if !slices.ContainsFunc(readers[r], func(c *pb.NodeProto) bool { return c != n }) {
				adopted[r] = l.makes()
			}
		}
	}
	return adopted
}

// isShape says whether the node reads a tensor's dimensions and no values.
func isShape(n *pb.NodeProto) bool {
	return standard(n) && (n.GetOpType() == "Shape" || n.GetOpType() == "Size")
}

var (
	givesNonNegative = set("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Sqrt", "Softplus")
	keepsNonNegative = set("Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")
)

// nonNegative returns the tensors that hold nothing below zero.
func (p *plan) nonNegative() map[string]bool {
	is := map[string]bool{}
	for _, n := range p.nodes {
		if nonNegative(n, p.index, is) {
			for _, o := range n.GetOutput() {
				is[o] = true
			}
		}
	}
	return is
}

// nonNegative says whether the node makes nothing below zero; is holds the tensors
// before it of which that is known.
func nonNegative(n *pb.NodeProto, x *graphIndex, is map[string]bool) bool {
	op := n.GetOpType()
	switch {
	case !standard(n):
		return false
	case op == "Clip":
		lo, _, ok := bounds(n, x)
		return ok && lo >= 0
	case keepsNonNegative[op]:
		return !slices.ContainsFunc(n.GetInput(), func(t string) bool { return !is[t] })
	case carries(n, x):
		return is[arg(n, 0)]
	}
	return givesNonNegative[op]
}

// zeroPoint is the byte that stands for zero where activations are unsigned: 128,
// so that bytes end where the grid ends, at both sides; or 0, where a ReLU cuts
// off what is below zero. There the bytes go on above the grid's 127, so either
// way one side is left to a Clip. With 0 no byte is above 127 then, and pairs of
// products with such bytes fit into 16 bits.
func (g *grid) zeroPoint() int {
	if g.positive && g.cut {
		return 0
	}
	return 128
}

// equals says whether the same numbers stand for the same values on both.
func (g *grid) equals(other *grid) bool {
	return g.scale == other.scale && g.zeroPoint() == other.zeroPoint()
}

// limits returns the least and the largest of the unsigned numbers that values
// from lo to hi become.
func (g *grid) limits(lo, hi float32) (int, int) {
	zero := float64(g.zeroPoint())
	number := func(v float32) int {
		q := math.RoundToEven(float64(v / g.scale))
		return int(max(zero+min(max(q, -128), 127), 0))
	}
	return number(lo), number(hi)
}
