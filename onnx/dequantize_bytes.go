package onnx

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// onBytes writes a node that works on quantised numbers.
func (d *dequantizer) onBytes(n *pb.NodeProto) error {
	data := n.GetInput()[:min(1, len(n.GetInput()))]
	op := n.GetOpType()
	moves := carriers[op] || op == "MaxPool" || op == "Clip" || op == "Concat" || isShape(n)
	if op == "Concat" {
		data = n.GetInput()
	}
	if !standard(n) || !moves || len(subgraphs(n)) > 0 {
		return fmt.Errorf("it works on quantised numbers: %s", wantQDQ)
	}
	data = slices.Clone(data)
	for i, t := range n.GetInput() {
		switch q := d.bytes[t]; {
		case i >= len(data) && q != nil, i < len(data) && q == nil:
			return fmt.Errorf("its input %q is of the wrong kind, quantised or not: %s", t, wantQDQ)
		case i < len(data) && (!q.same(d.bytes[data[0]].params) || q.weight != d.bytes[data[0]].weight):
			return fmt.Errorf("its inputs %q and %q are quantised differently: %s", data[0], t, wantQDQ)
		}
	}
	for i, t := range data {
		n.Input[i] = d.bytes[t].float
	}
	if isShape(n) {
		d.keep(n)
		return nil
	}
	q := *d.bytes[data[0]]
	for _, t := range data {
		q.top = max(q.top, d.bytes[t].top)
	}
	switch op {
	case "Pad":
		if err := d.pad(n, &q); err != nil {
			return err
		}
	case "Clip":
		nothing, err := d.clip(n, &q)
		if err != nil {
			return err
		}
		if nothing {
			d.setBytes(n.GetOutput()[0], &q)
			d.flows = append(d.flows, [2]string{data[0], n.GetOutput()[0]})
			return nil
		}
	}
	for i, o := range n.GetOutput() {
		if o == "" || i > 0 && op != "Split" {
			continue // left out, or the indices of a MaxPool
		}
		out := q
		name, free := d.floatName(o)
		if !free {
			out.wants, name = name, d.unique(name)
		}
		out.float, out.raw = name, name
		n.Output[i] = out.float
		d.setBytes(o, &out)
		for _, t := range data {
			d.flows = append(d.flows, [2]string{t, o})
		}
	}
	d.keep(n)
	return nil
}

// floatName is how the floating-point values of a quantised tensor are to be
// called: as what dequantises it, if anything does.
func (d *dequantizer) floatName(tensor string) (name string, free bool) {
	for _, c := range d.index.consumers[tensor] {
		if isDequantize(c) && arg(c, 0) == tensor && c.GetOutput()[0] != "" {
			return c.GetOutput()[0], true
		}
	}
	return strings.TrimSuffix(tensor, "_quantized"), false
}

// scalar returns the number that input i of a node is, fallback where it has none.
func (d *dequantizer) scalar(n *pb.NodeProto, i int, fallback int64) (int64, error) {
	if arg(n, i) == "" {
		return fallback, nil
	}
	t := d.constantOf(arg(n, i))
	if t == nil {
		return 0, fmt.Errorf("its input %q isn't constant: %s", arg(n, i), wantQDQ)
	}
	v, err := quantisedInts(t)
	if err != nil {
		return 0, err
	}
	if len(v) != 1 {
		return 0, fmt.Errorf("its input %q has %d elements, want one: the model is damaged, export it again", arg(n, i), len(v))
	}
	return v[0], nil
}

// pad gives a Pad of quantised numbers its value in floating point.
func (d *dequantizer) pad(n *pb.NodeProto, q *quantisedTensor) error {
	if mode := attr(n, "mode"); mode != nil && string(mode.GetS()) != "constant" || len(n.GetInput()) < 2 {
		return nil
	}
	if len(q.scales) > 1 {
		return errors.New("it pads weights that have a scale for each channel: " + wantQDQ)
	}
	v, err := d.scalar(n, 2, 0)
	if err != nil {
		return err
	}
	n.Input = append(n.Input, "")[:max(3, len(n.GetInput()))]
	n.Input[2] = ""
	if v != q.zero() {
		n.Input[2] = d.number(nodeName(n)+"_value", float32(v-q.zero())*q.scales[0])
	}
	return nil
}

// clip makes of a Clip of quantised numbers the one in floating point. As Quantize
// writes it, a bound above that is the end of the grid, 127 steps, is none of the
// network, unless it is that of ReLU6 or there is a bound below beside zero. Nothing
// is left of a Clip that cuts off nothing else.
func (d *dequantizer) clip(n *pb.NodeProto, q *quantisedTensor) (nothing bool, err error) {
	if len(q.scales) > 1 || len(n.GetInput()) > 3 || len(n.GetOutput()) != 1 {
		return false, errors.New("want one with a number for each bound, and one scale: " + wantQDQ)
	}
	least, most := q.limits()
	lo, err := d.scalar(n, 1, least)
	if err != nil {
		return false, err
	}
	hi, err := d.scalar(n, 2, most)
	if err != nil {
		return false, err
	}
	if lo > hi {
		return false, fmt.Errorf("it clips to %d and above and %d and below: the model is damaged, export it again", lo, hi)
	}
	zero := q.zero()
	value := func(v int64) float32 { return float32(v-zero) * q.scales[0] }
	relu := lo == zero
	six := isSix(hi-zero, q.params) && (relu || hi < most)
	upper := six || hi < most && hi-zero != 127 || lo > least && !relu
	q.top = min(q.top, max(hi-zero, 1))
	switch {
	case lo <= least && !upper:
		return true, nil
	case relu && !upper:
		n.OpType, n.Input = proto.String("Relu"), n.Input[:1]
		return false, nil
	}
	n.Input = []string{n.Input[0], "", ""}
	if lo > least || relu {
		n.Input[1] = d.number(nodeName(n)+"_min", value(lo))
	}
	if upper {
		bound := value(hi)
		if six {
			bound = 6
		}
		n.Input[2] = d.number(nodeName(n)+"_max", bound)
	}
	return false, nil
}
