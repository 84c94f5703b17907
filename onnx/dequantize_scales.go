package onnx

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// end puts the nodes into the graph, with the names that tensors have in the end,
// and finds the scales.
func (d *dequantizer) end() error {
	if len(d.nodes) == 0 {
		return errors.New("the model does nothing but quantise and dequantise, want an image classifier")
	}
	for _, v := range d.graph.GetOutput() {
		if d.bytes[v.GetName()] != nil {
			return fmt.Errorf("the output %q is of quantised numbers: %s, and a DequantizeLinear before the output", v.GetName(), wantQDQ)
		}
	}
	if err := d.scales(); err != nil {
		return err
	}
	d.giveNames()
	rename := func(names []string) {
		for i, name := range names {
			if r := d.rename[name]; r != "" {
				names[i] = r
			}
		}
	}
	for _, n := range d.nodes {
		rename(n.Input)
		rename(n.Output)
	}
	scales := map[string]float32{}
	for name, s := range d.report.Scales {
		one := []string{name}
		rename(one)
		scales[one[0]] = s
	}
	d.report.Scales = scales
	d.finish()
	return nil
}

// giveNames gives tensors the names that they had before they were quantised, where
// nothing else is called so by now.
func (d *dequantizer) giveNames() {
	there := map[string]bool{}
	for _, n := range d.nodes {
		for _, o := range n.GetOutput() {
			there[o] = true
		}
	}
	for _, name := range d.rename {
		there[name] = true
	}
	give := func(tensor, name string) bool {
		if name == "" || there[name] || d.index.input[name] != nil || d.index.initializer[name] != nil || !d.renamable(tensor) {
			return false
		}
		d.rename[tensor] = name
		there[name] = true
		return true
	}
	for _, name := range d.order {
		give(d.bytes[name].float, d.bytes[name].wants)
	}
	for _, r := range d.cut { // what comes out has the name that what goes in had
		if out := d.relus[r]; d.renamable(out) && give(r.tensor, d.unique(r.tensor+"_uncut")) {
			d.rename[out] = r.tensor
		}
	}
}

// scales finds the scales of the tensors that were quantised.
func (d *dequantizer) scales() error {
	largest := map[string]int64{} // above the zero point, that is dequantised of a tensor's numbers
	for _, f := range slices.Backward(d.flows) {
		from, to := f[0], f[1]
		if to == "" {
			largest[from] = max(largest[from], d.bytes[from].top)
		} else {
			largest[from] = max(largest[from], min(largest[to], d.bytes[from].top))
		}
	}
	d.report.Scales = map[string]float32{}
	var several, unsigned []string
	for _, name := range d.order {
		q := d.bytes[name]
		if largest[name] == 0 {
			return fmt.Errorf("nothing dequantises %q, which is quantised: %s", q.raw, wantQDQ)
		}
		if q.weight {
			continue
		}
		scale := q.scales[0]
		if q.positive() {
			scale = float32(float64(scale) * float64(largest[name]) / 127)
			if largest[name] > 127 {
				unsigned = append(unsigned, q.raw)
			}
		}
		before, known := d.report.Scales[q.float]
		if !known && isQuantize(d.index.producer[name]) {
			d.report.Activations++
		}
		if known && before != scale {
			several = append(several, q.raw)
		}
		d.report.Scales[q.float] = max(before, scale)
	}
	d.note(several, "quantised with several scales; a calibration cache has one for each tensor, the largest was taken")
	d.note(unsigned, "unsigned and not negative, with 255 steps: TensorRT has 127, so its scale is 255/127 of theirs")
	return nil
}

// note adds a sentence about tensors, if there are any.
func (d *dequantizer) note(tensors []string, what string) {
	if len(tensors) > 0 {
		d.report.Notes = append(d.report.Notes, listed(tensors)+": "+what)
	}
}

// listed writes names, the first three of them where there are more.
func listed(names []string) string {
	slices.Sort(names)
	names = slices.Compact(names)
	more := ""
	if len(names) > 4 {
		more = fmt.Sprintf(" and %d more", len(names)-3)
		names = names[:3]
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(quoted, ", ") + more
}

// report completes the report on the model, which is in floating point now.
func (m *Model) report(d *dequantizer) error {
	g := m.proto.GetGraph()
	r := &d.report
	if len(r.Scales) == 0 {
		r.Notes = append(r.Notes, "no activation is quantised, weights alone are: there is nothing for a calibration cache")
		return nil
	}
	have := m.Tensors()
	for name := range r.Scales {
		if !have[name] { // of nodes that no output needed
			delete(r.Scales, name)
		}
	}
	d.note(spread(g, r.Scales), "not quantised; the scale is that of a tensor with the same values, before or behind "+
		"a layer that only moves them or cuts them off")
	list, err := m.Activations()
	if err != nil {
		return err
	}
	var missing []string
	for _, a := range list {
		has := func(name string) bool { return r.Scales[name] != 0 }
		if a.Needed && !slices.ContainsFunc(a.Names(), has) && !has(a.Behind) {
			missing = append(missing, a.Name)
		}
	}
	d.note(missing, "not quantised and without a scale, so TensorRT runs the layers beside them in higher precision")
	d.note(d.unquantised(g), "layers of which the weights weren't quantised, though what they read and make was: "+
		"they may be meant to stay in floating point")
	d.note(d.cutWeights, "weights of which the largest were cut off when they were quantised; TensorRT scales by the largest, "+
		"so its INT8 weights are coarser")
	return nil
}

// unquantised lists layers that TensorRT would run in INT8 though their weights
// have been left in floating point.
func (d *dequantizer) unquantised(g *pb.GraphProto) []string {
	var layers []string
	s := d.report.Scales
	for _, n := range g.GetNode() {
		if !standard(n) || !weighted[n.GetOpType()] || s[arg(n, 0)] == 0 || s[n.GetOutput()[0]] == 0 {
			continue
		}
		if w := arg(n, 1); d.constant[w] && !d.weights[w] {
			layers = append(layers, nodeName(n))
		}
	}
	return layers
}

var weighted = set("Conv", "ConvTranspose", "Gemm", "MatMul")

// spread gives scales to tensors that hold values of others, and lists these.
// What comes out of a layer that moves values or cuts them off has the scale of
// what goes in; so has what goes into such a layer and nowhere else, as rounding
// before it is the same as behind it.
func spread(g *pb.GraphProto, scales map[string]float32) []string {
	x := indexOf(g)
	var given []string
	give := func(tensor string, scale float32) {
		if scales[tensor] == 0 && tensor != "" {
			scales[tensor] = scale
			given = append(given, tensor)
		}
	}
	for _, n := range g.GetNode() {
		if scale, ok := taken(n, x, scales); ok {
			for i, o := range n.GetOutput() {
				if i == 0 || n.GetOpType() == "Split" {
					give(o, scale)
				}
			}
		}
	}
	for _, n := range slices.Backward(g.GetNode()) {
		scale := scales[n.GetOutput()[0]]
		if scale == 0 || len(n.GetOutput()) > 1 || !onGrid(n, x) {
			continue
		}
		for _, t := range dataOf(n) {
			if x.only(t) != nil && x.initializer[t] == nil {
				give(t, scale)
			}
		}
	}
	return given
}

// onGrid says whether values on a grid are on it still behind the node.
func onGrid(n *pb.NodeProto, x *graphIndex) bool {
	if !standard(n) {
		return false
	}
	switch n.GetOpType() {
	case "MaxPool", "Concat", "Relu", "Dropout", "DepthToSpace", "SpaceToDepth", "GlobalMaxPool":
		return true
	case "Clip":
		lo, hi, ok := bounds(n, x)
		return ok && lo <= 0 && hi >= 0
	}
	return carries(n, x)
}

// dataOf are the node's inputs that hold the values of what it makes.
func dataOf(n *pb.NodeProto) []string {
	if n.GetOpType() == "Concat" {
		return n.GetInput()
	}
	return n.GetInput()[:min(1, len(n.GetInput()))]
}

// taken is the scale that what the node makes has by what it reads.
func taken(n *pb.NodeProto, x *graphIndex, scales map[string]float32) (float32, bool) {
	if !onGrid(n, x) {
		return 0, false
	}
	largest := float32(0)
	for _, t := range dataOf(n) {
		if scales[t] == 0 {
			return 0, false
		}
		largest = max(largest, scales[t])
	}
	return largest, largest > 0
}
