package onnx

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// dequantizer writes a graph in QDQ format anew, in floating point.
type dequantizer struct {
	*editor
	f     *inference // of the graph before
	opset int64

	captured    map[string]bool // tensors that graphs inside nodes read
	constant    map[string]bool // tensors that don't depend on the model's input
	weights     map[string]bool // of these, those that were quantised
	cutWeights  []string        // of these, those of which the largest were cut off
	nonNegative map[string]bool

	bytes map[string]*quantisedTensor // tensors of quantised numbers
	order []string                    // these, in graph order
	flows [][2]string                 // from which of them numbers go into which; into "" where they are dequantised

	alias  map[string]string // what DequantizeLinear made, and what is read instead
	rename map[string]string // how tensors are called in the end
	relus  map[relu]string   // what was put behind tensors
	cut    []relu            // these, in graph order

	report DequantizeReport
}

// quantisedTensor is a tensor of quantised numbers.
type quantisedTensor struct {
	*params
	raw    string // the tensor that was quantised
	float  string // where the numbers' values are in floating point
	wants  string // how that is to be called if nothing else is called so; "" where it has its name
	weight bool   // depends on no input: it has no scale to keep
	top    int64  // how far above the zero point numbers can be
}

// relu is a ReLU, or a ReLU6, behind a tensor.
type relu struct {
	tensor string
	six    bool
}

func newDequantizer(g *pb.GraphProto, f *inference, opset int64) *dequantizer {
	d := &dequantizer{
		editor: edit(g), f: f, opset: opset,
		captured: map[string]bool{}, constant: map[string]bool{}, weights: map[string]bool{}, nonNegative: map[string]bool{},
		bytes: map[string]*quantisedTensor{}, alias: map[string]string{}, rename: map[string]string{}, relus: map[relu]string{},
	}
	for _, n := range g.GetNode() {
		for _, sub := range subgraphs(n) {
			for _, name := range captured(sub) {
				d.captured[name] = true
			}
		}
	}
	for name := range d.index.initializer {
		d.constant[name] = true
	}
	return d
}

// name is where the values of a tensor of the graph before are.
func (d *dequantizer) name(tensor string) string {
	if a := d.alias[tensor]; a != "" {
		return a
	}
	return tensor
}

// node writes n as it is in floating point.
func (d *dequantizer) node(n *pb.NodeProto) error {
	switch {
	case isQuantize(n):
		return d.quantize(n)
	case isDequantize(n):
		return d.dequantize(n)
	case slices.ContainsFunc(reads(n), func(t string) bool { return d.bytes[t] != nil }):
		return d.onBytes(n)
	}
	d.keep(n)
	return nil
}

// keep appends a node that works in floating point.
func (d *dequantizer) keep(n *pb.NodeProto) {
	for i, t := range n.GetInput() {
		n.Input[i] = d.name(t)
	}
	d.add(n)
	read := reads(n)
	constant := len(read) > 0 && !slices.ContainsFunc(read, func(t string) bool { return !d.constant[t] })
	weights := slices.ContainsFunc(read, func(t string) bool { return d.weights[t] })
	positive := nonNegative(n, d.index, d.nonNegative)
	for _, o := range n.GetOutput() {
		d.constant[o] = constant
		d.weights[o] = constant && weights
		d.nonNegative[o] = positive
	}
}

// quantize takes out a QuantizeLinear.
func (d *dequantizer) quantize(n *pb.NodeProto) error {
	p, err := d.paramsOf(n)
	if err != nil {
		return err
	}
	if err := p.eightBits(); err != nil {
		return err
	}
	if d.bytes[arg(n, 0)] != nil {
		return fmt.Errorf("it quantises %q, which is quantised already: the model is damaged, export it again", arg(n, 0))
	}
	x := d.name(arg(n, 0))
	_, hi := p.limits()
	q := &quantisedTensor{params: p, raw: x, float: x, weight: d.constant[x], top: hi - p.zero()}
	d.setBytes(n.GetOutput()[0], q)
	if q.weight {
		return d.floatWeight(x, p)
	}
	typ := d.f.of(x).typ
	if typ != pb.TensorProto_UNDEFINED && !isFloat(typ) {
		return fmt.Errorf("it quantises %q, which is of %s, want floating point", x, typ)
	}
	if err := p.symmetric(x); err != nil {
		return err
	}
	for _, suffix := range renamed {
		if name, ok := strings.CutSuffix(x, suffix); ok {
			q.wants = name
		}
	}
	if p.positive() && !d.nonNegative[x] {
		q.float = d.restore(relu{x, isSix(q.top, p)})
	}
	return nil
}

// floatWeight takes note of a constant that stands in the model in floating point.
func (d *dequantizer) floatWeight(name string, p *params) error {
	d.weights[name] = true
	d.report.Weights++
	if t := d.index.initializer[name]; t != nil {
		cuts, err := p.cuts(t)
		if err != nil {
			return err
		}
		if cuts {
			d.cutWeights = append(d.cutWeights, name)
		}
	}
	return nil
}

// renamed are what Quantize and ONNX Runtime's quantize_static append to a
// tensor's name where the quantised tensor takes over the name.
var renamed = []string{"_unquantized", "_QuantizeLinear_Input"}

func (d *dequantizer) setBytes(name string, q *quantisedTensor) {
	d.bytes[name] = q
	d.order = append(d.order, name)
}

// isSix says whether a number stands for the 6 of ReLU6, to half a step. Of all
// bounds above that is the one that classifiers have.
func isSix(aboveZero int64, p *params) bool {
	s := float64(p.scales[0])
	return math.Abs(float64(aboveZero)*s-6) <= s/2
}

// restore puts a ReLU or ReLU6 behind a tensor, whose QuantizeLinear did what it
// does, and returns the result.
func (d *dequantizer) restore(r relu) string {
	if d.relus[r] != "" {
		return d.relus[r]
	}
	out, name := d.unique(r.tensor+"_cut"), r.tensor+"_relu"
	switch {
	case !r.six:
		d.create("Relu", name, []string{r.tensor}, []string{out})
	case d.opset < 11:
		d.create("Clip", name, []string{r.tensor}, []string{out}, floatAttr("min", 0), floatAttr("max", 6))
	default:
		d.create("Clip", name, []string{r.tensor, d.number(out+"_min", 0), d.number(out+"_max", 6)}, []string{out})
	}
	d.nonNegative[out] = true
	d.relus[r] = out
	d.cut = append(d.cut, r)
	return out
}

// number makes a constant.
func (d *dequantizer) number(name string, v float32) string {
	t := floatTensor(d.unique(name), nil, v)
	d.index.initializer[t.GetName()] = t
	d.constant[t.GetName()] = true
	return d.initializer(t)
}

// dequantize takes out a DequantizeLinear.
func (d *dequantizer) dequantize(n *pb.NodeProto) error {
	p, err := d.paramsOf(n)
	if err != nil {
		return err
	}
	in, out := arg(n, 0), n.GetOutput()[0]
	q := d.bytes[in]
	if q == nil {
		return d.weight(n, p)
	}
	if !q.same(p) {
		return fmt.Errorf("its scale or zero point isn't that with which %q was quantised, so the two don't cancel out: "+
			"export or quantise the model again", q.raw)
	}
	if from, to := d.f.of(q.raw).typ, d.f.of(out).typ; from != to && from != pb.TensorProto_UNDEFINED && to != pb.TensorProto_UNDEFINED {
		return fmt.Errorf("it makes %s of %q, which is of %s: export the model in one type", to, q.raw, from)
	}
	d.flows = append(d.flows, [2]string{in, ""})
	if out != q.float {
		d.call(q.float, out)
	}
	return nil
}

// call sees to it that who reads the name that DequantizeLinear gave reads the
// tensor.
func (d *dequantizer) call(tensor, name string) {
	asked := d.index.output[name] != nil || d.captured[name]
	switch {
	case asked && d.renamable(tensor):
		d.rename[tensor] = name
	case asked:
		d.create("Identity", name, []string{tensor}, []string{name})
		d.constant[name] = d.constant[tensor]
		d.nonNegative[name] = d.nonNegative[tensor]
		return
	}
	d.alias[name] = tensor
}

// renamable says whether nothing asks for the tensor by its name.
func (d *dequantizer) renamable(tensor string) bool {
	return d.rename[tensor] == "" && d.index.output[tensor] == nil && !d.captured[tensor] &&
		d.index.input[tensor] == nil && d.index.initializer[tensor] == nil
}

// weight replaces the DequantizeLinear of a constant by what it gives.
func (d *dequantizer) weight(n *pb.NodeProto, p *params) error {
	in, out := arg(n, 0), n.GetOutput()[0]
	t := d.constantOf(in)
	if t == nil || t != d.index.initializer[in] {
		return fmt.Errorf("it reads %q, which is neither a constant nor what QuantizeLinear makes: %s", in, wantQDQ)
	}
	if typ := pb.TensorProto_DataType(attrInt(n, "output_dtype", int64(p.float))); typ != pb.TensorProto_FLOAT {
		return fmt.Errorf("it makes %s of the constant %q, want float32: export the model in float32", typ, in)
	}
	name := out
	if d.index.output[out] != nil {
		name = d.unique(out + "_constant")
		d.create("Identity", out, []string{name}, []string{out})
	}
	w, err := p.dequantised(t, name)
	if err != nil {
		return err
	}
	d.initializer(w)
	d.index.initializer[name] = w
	d.constant[name], d.constant[out] = true, true
	d.weights[name] = true
	d.report.Weights++
	return nil
}
