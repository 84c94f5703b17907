package onnx

import (
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// quantizer writes a graph as its plan says.
//
// A tensor keeps its name where it can be read in floating point: what an INT8
// layer makes is quantised and dequantised at once, and the result of that has
// the tensor's name, so that whoever reads it needn't know.
type quantizer struct {
	*editor
	p *plan
	o QuantizeOptions

	dequantised map[string]string   // of a tensor on its grid, in floating point
	integers    map[string]*integer // unsigned only
	params      map[*grid][2]string // initialisers: scale and zero point
	bounds      map[int]string      // initialisers that integers are cut off at
}

// integer is a tensor of unsigned bytes. Values below lo and above hi are still
// to be cut off.
type integer struct {
	name   string
	lo, hi int
	clip   string // the node that cuts off
}

const lowest, highest = 0, 255 // of unsigned bytes

// write turns the graph into what p says.
func (p *plan) write(g *pb.GraphProto, o QuantizeOptions) {
	q := &quantizer{
		editor: edit(g), p: p, o: o,
		dequantised: map[string]string{}, integers: map[string]*integer{}, params: map[*grid][2]string{},
		bounds: map[int]string{},
	}
	for _, n := range p.nodes {
		switch l := p.layers[n]; {
		case p.folded[n] != nil:
		case l != nil && l.why == "":
			q.layer(l)
		case p.carried[n]:
			q.carry(n)
		default:
			q.float(n)
		}
	}
	for _, v := range g.GetOutput() {
		q.readable(v.GetName())
	}
	q.finish()
}

// float writes a node that stays as it was.
func (q *quantizer) float(n *pb.NodeProto) {
	if v := q.integers[arg(n, 0)]; v != nil && isShape(n) {
		n.Input[0] = v.name
	}
	for _, t := range reads(n) {
		q.readable(t)
	}
	q.add(n)
}

// readable sees to it that the tensor can be read in floating point by its name.
func (q *quantizer) readable(t string) {
	if q.integers[t] != nil && q.p.made[t] {
		q.onGrid(t)
	}
}

// layer writes an INT8 layer.
func (q *quantizer) layer(l *layer) {
	n, out := l.node, l.makes()
	if l.moves() || n.GetOpType() == "Concat" && q.oneGrid(l) {
		q.carry(n)
		return
	}
	in, g := q.p.grids[arg(n, 0)], q.p.grids[out]
	limits := q.limits(l)
	for _, i := range l.reads {
		n.Input[i] = q.onGrid(arg(n, i))
	}
	if l.linear != nil {
		q.linear(l, in)
	}
	if g == nil || !q.p.made[out] {
		q.add(n)
		if l.clip != nil {
			q.add(l.clip)
		}
		return
	}
	raw := q.unique(out + "_unquantized")
	q.add(n)
	if l.clip != nil && !q.o.Unsigned {
		l.clip.Output = []string{raw}
		q.add(l.clip)
	} else {
		n.Output = []string{raw}
	}
	q.quantise(raw, out, limits)
}

// limits returns what is to be cut off from the unsigned bytes that l makes; nil
// where l makes none.
func (q *quantizer) limits(l *layer) *integer {
	g := q.p.grids[l.makes()]
	if g == nil {
		return nil
	}
	v := &integer{clip: l.makes() + "_clip"}
	if l.clip != nil {
		v.clip = nodeName(l.clip)
	}
	v.lo, v.hi = g.limits(l.lo, l.hi)
	wider := func(i int) bool { return q.p.grids[arg(l.node, i)].scale > g.scale }
	if l.node.GetOpType() == "Concat" && !slices.ContainsFunc(l.reads, wider) {
		v.lo, v.hi = lowest, highest // what lies on narrower grids lies on this one
	}
	return v
}

// oneGrid says whether all that a layer reads and makes is on one grid.
func (q *quantizer) oneGrid(l *layer) bool {
	for _, i := range l.reads {
		if !q.p.grids[arg(l.node, i)].equals(q.p.grids[l.makes()]) {
			return false
		}
	}
	return true
}

// carry writes a node that works on whatever form its inputs have.
func (q *quantizer) carry(n *pb.NodeProto) {
	if !q.o.Unsigned {
		for i, t := range n.GetInput() {
			if q.p.grids[t] != nil {
				n.Input[i] = q.onGrid(t)
			}
		}
		q.add(n)
		return
	}
	g := q.p.grids[arg(n, 0)]
	lo, hi := q.pending(n)
	for i, t := range n.GetInput() {
		if q.p.grids[t] != nil {
			n.Input[i] = q.take(t, lo, hi)
		}
	}
	if n.GetOpType() == "Pad" {
		_, zero := q.paramsOf(g)
		n.Input = append(n.Input, "", "")[:max(3, len(n.GetInput()))]
		n.Input[2] = zero
	}
	for i, t := range n.GetOutput() {
		v := &integer{name: q.unique(t + "_quantized"), lo: lo, hi: hi, clip: t + "_clip"}
		n.Output[i] = v.name
		q.integers[t] = v
	}
	q.add(n)
}

// pending returns what may be cut off behind the node n as well as in front of
// it, where there may be less to do: it has to be the same for all its inputs,
// which nothing else may read.
func (q *quantizer) pending(n *pb.NodeProto) (lo, hi int) {
	lo, hi = lowest, highest
	if n.GetOpType() != "MaxPool" && n.GetOpType() != "Concat" {
		return lo, hi // no less to do
	}
	for i, t := range n.GetInput() {
		if q.p.grids[t] == nil {
			continue
		}
		v := q.integers[t]
		if v == nil || q.index.only(t) != n || i > 0 && (v.lo != lo || v.hi != hi) {
			return lowest, highest
		}
		lo, hi = v.lo, v.hi
	}
	return lo, hi
}

// take returns the name of a tensor of bytes of which no more than values below
// lo and above hi are to be cut off.
func (q *quantizer) take(t string, lo, hi int) string {
	v := q.integer(t)
	if v.lo > lo || v.hi < hi {
		cut := q.unique(t + "_clipped")
		q.create("Clip", v.clip, []string{v.name, q.bound(v.lo), q.bound(v.hi)}, []string{cut})
		*v = integer{name: cut, lo: lowest, hi: highest}
	}
	return v.name
}

// integer returns the bytes of a tensor, which it quantises where its producer
// gives floating point.
func (q *quantizer) integer(t string) *integer {
	if q.integers[t] == nil {
		v := &integer{clip: t + "_clip"}
		v.lo, v.hi = q.p.grids[t].limits(float32(math.Inf(-1)), float32(math.Inf(1)))
		q.quantise(t, t, v)
	}
	return q.integers[t]
}

// onGrid returns the name of the tensor as floating-point values on its grid.
func (q *quantizer) onGrid(t string) string {
	if name := q.dequantised[t]; name != "" {
		return name
	}
	if !q.o.Unsigned {
		q.quantise(t, t, nil)
		return q.dequantised[t]
	}
	scale, zero := q.paramsOf(q.p.grids[t])
	bytes := q.take(t, lowest, highest)
	name := t
	if !q.p.made[t] {
		name = q.unique(t + "_dequantized")
	}
	q.create("DequantizeLinear", name+"_dequantize", []string{bytes, scale, zero}, []string{name})
	q.dequantised[t] = name
	return name
}

// quantise brings the values of the tensor raw onto the grid of t. limits say
// what is to be cut off from the bytes, where they are unsigned.
func (q *quantizer) quantise(raw, t string, limits *integer) {
	scale, zero := q.paramsOf(q.p.grids[t])
	bytes := q.unique(t + "_quantized")
	q.create("QuantizeLinear", t+"_quantize", []string{raw, scale, zero}, []string{bytes})
	if q.o.Unsigned {
		limits.name = bytes
		q.integers[t] = limits
		return
	}
	name := t
	if raw == t {
		name = q.unique(t + "_dequantized")
	}
	q.create("DequantizeLinear", name+"_dequantize", []string{bytes, scale, zero}, []string{name})
	q.dequantised[t] = name
}

// linear gives the layer l, which reads a tensor on the grid in, weights in 8
// bits and, for CPUs, a bias in 32.
func (q *quantizer) linear(l *layer, in *grid) {
	n := l.node
	weights, scales, bias, biasScales := l.linear.quantise(in.scale)
	n.Input[1] = q.weight(n.Input[1], l.linear, weights, scales, q.o.Saturating && in.zeroPoint() != 0)
	switch {
	case !l.linear.hasBias:
	case q.o.Unsigned:
		name := n.Input[2]
		values := q.initializer(int32Tensor(q.unique(name+"_quantized"), bias))
		n.Input[2] = q.perChannel(values, q.unique(name+"_dequantized"), biasScales, 0,
			int32Tensor(q.unique(name+"_zero_point"), make([]int32, len(bias))))
	default: // the same numbers, so that both forms give the same answers
		rounded := make([]float32, len(bias))
		for i, b := range bias {
			rounded[i] = float32(float64(b) * float64(biasScales[i]))
		}
		n.Input[2] = q.initializer(floatTensor(q.unique(n.Input[2]+"_rounded"), []int64{int64(len(bias))}, rounded...))
	}
	dropAttr(n, "alpha")
	dropAttr(n, "beta")
}

// weight returns what dequantises the weights; wide makes them unsigned around
// 128. Layers that share weights get each their own: the scales differ where the
// biases or axes do, and ONNX Runtime's exact mode fails on shared ones.
func (q *quantizer) weight(name string, l *linear, values []int8, scales []float32, wide bool) string {
	if !q.o.Unsigned && len(l.dims) == 2 {
		return q.quantisedMatrix(name, l, values, scales)
	}
	tensor := int8Tensor
	if wide {
		tensor = uint8Tensor
	}
	bytes := q.initializer(tensor(q.unique(name+"_quantized"), l.dims, values))
	zeros := tensor(q.unique(name+"_zero_point"), []int64{int64(len(scales))}, make([]int8, len(scales)))
	return q.perChannel(bytes, q.unique(name+"_dequantized"), scales, l.axis, zeros)
}

// quantisedMatrix gives a matrix product its weights for TensorRT: as floating-point
// numbers on their grid, quantised and dequantised. With bytes in the file TensorRT
// 8.6.1 fails to build (convertMyelinWeightsToFp32), which it doesn't for
// convolutions.
func (q *quantizer) quantisedMatrix(name string, l *linear, values []int8, scales []float32) string {
	floats := make([]float32, len(values))
	for i, v := range values {
		floats[i] = float32(v) * scales[l.channel(i)]
	}
	n := []int64{int64(len(scales))}
	raw := q.initializer(floatTensor(q.unique(name+"_rounded"), l.dims, floats...))
	scale := q.initializer(floatTensor(q.unique(name+"_scale"), n, scales...))
	zero := q.initializer(int8Tensor(q.unique(name+"_zero_point"), n, make([]int8, len(scales))))
	axis := intAttr("axis", int64(l.axis))
	bytes, out := q.unique(name+"_quantized"), q.unique(name+"_dequantized")
	q.create("QuantizeLinear", bytes, []string{raw, scale, zero}, []string{bytes}, axis)
	q.create("DequantizeLinear", out, []string{bytes, scale, zero}, []string{out}, axis)
	return out
}

// perChannel dequantises an initialiser with a scale for each index along axis.
func (q *quantizer) perChannel(bytes, name string, scales []float32, axis int, zeroPoint *pb.TensorProto) string {
	scale := q.initializer(floatTensor(q.unique(bytes+"_scale"), []int64{int64(len(scales))}, scales...))
	q.create("DequantizeLinear", name, []string{bytes, scale, q.initializer(zeroPoint)}, []string{name},
		intAttr("axis", int64(axis)))
	return name
}

// paramsOf returns the initialisers with the grid's scale and zero point.
func (q *quantizer) paramsOf(g *grid) (scale, zero string) {
	if p, ok := q.params[g]; ok {
		return p[0], p[1]
	}
	scale = q.initializer(floatTensor(q.unique(g.root+"_scale"), nil, g.scale))
	zeroPoint := rawTensor(q.unique(g.root+"_zero_point"), pb.TensorProto_INT8, nil, []byte{0})
	if q.o.Unsigned {
		zeroPoint.DataType, zeroPoint.RawData = proto.Int32(int32(pb.TensorProto_UINT8)), []byte{byte(g.zeroPoint())}
	}
	zero = q.initializer(zeroPoint)
	q.params[g] = [2]string{scale, zero}
	return scale, zero
}

// bound returns the initialiser of a number that bytes are cut off at, "" for
// their own limits.
func (q *quantizer) bound(b int) string {
	if b == lowest || b == highest {
		return ""
	}
	if q.bounds[b] == "" {
		q.bounds[b] = q.initializer(rawTensor(q.unique("limit_"+strconv.Itoa(b)), pb.TensorProto_UINT8, nil, []byte{byte(b)}))
	}
	return q.bounds[b]
}
