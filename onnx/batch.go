package onnx

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// maxBatch bounds the images at a time; DLA takes no more.
const maxBatch = 4096

// SetBatch makes the model take exactly n images at a time. A batch that is
// fixed at another number is changed where the graph allows it: where only the
// shapes that Reshape nodes are given say so beside the input. On an error
// nothing is changed.
func (m *Model) SetBatch(n int64) error {
	if n < 1 || n > maxBatch {
		return fmt.Errorf("batch %d, want 1 to %d", n, maxBatch)
	}
	v, err := m.input()
	if err != nil {
		return err
	}
	before := infoOfValue(v)
	if len(before.dims) == 0 {
		return fmt.Errorf("the input %q is of %s, want a batch of images", v.GetName(), shapeText(v))
	}
	c := m.Clone()
	g := c.proto.GetGraph()
	if old := before.dims[0]; old.known() && old.n != n {
		c.freeReshapes(old.n)
	}
	dims := append([]dim{fixed(n)}, before.dims[1:]...)
	g.Input[0] = valueInfo(v.GetName(), before.typ, dims)
	g.ValueInfo = nil
	declared := map[string]tensorInfo{}
	for i, o := range g.GetOutput() {
		declared[o.GetName()] = infoOfValue(o)
		g.Output[i] = &pb.ValueInfoProto{Name: o.Name}
	}
	f := c.infer()
	if f.err != nil {
		return fmt.Errorf("the model can't take %d images at a time: %w; export it with a dynamic batch", n, f.err)
	}
	for i, o := range g.GetOutput() {
		t, was := f.of(o.GetName()), declared[o.GetName()]
		switch {
		case !t.ranked && !before.dims[0].known(): // nothing says that it depends on the batch
			g.Output[i] = proto.Clone(m.proto.GetGraph().GetOutput()[i]).(*pb.ValueInfoProto)
			continue
		case !t.ranked, len(t.dims) > 0 && !t.dims[0].known() && before.dims[0].known():
			return fmt.Errorf("the shape of the output %q can't be told, so neither can whether the model takes %d images "+
				"at a time: export it with a dynamic batch", o.GetName(), n)
		case len(t.dims) == 0 || t.dims[0].known() && t.dims[0].n != n:
			return fmt.Errorf("with %d images at a time, the output %q is of %s: its graph is made for another number; "+
				"export the model with a dynamic batch", n, o.GetName(), text(t.dims))
		}
		if t.typ == pb.TensorProto_UNDEFINED {
			t.typ = was.typ
		}
		g.Output[i] = valueInfo(o.GetName(), t.typ, t.dims)
	}
	m.proto = c.proto
	return nil
}

// freeReshapes makes Reshape nodes whose constant shape starts with the batch
// take the first size from their input instead, which means the same until the
// batch changes.
func (m *Model) freeReshapes(batch int64) {
	g := m.proto.GetGraph()
	f := m.infer()
	e := edit(g)
	for _, n := range g.GetNode() {
		if n.GetOpType() != "Reshape" || !standard(n) || len(n.GetInput()) != 2 || attrInt(n, "allowzero", 0) != 0 {
			continue
		}
		in, shape := f.of(n.GetInput()[0]), f.index.initializer[n.GetInput()[1]]
		if len(in.dims) == 0 || !in.dims[0].is(batch) || shape == nil || len(shape.GetDims()) != 1 {
			continue
		}
		sizes := ints(shape)
		if len(sizes) == 0 || sizes[0] != batch {
			continue
		}
		sizes[0] = 0
		n.Input[1] = e.initializer(intTensor(e.unique(shape.GetName()+"/batch"), shape.GetDims(), sizes...))
	}
	e.nodes = g.GetNode()
	e.finish()
}
