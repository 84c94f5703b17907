package onnx

import (
	"errors"
	"fmt"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// inference is what is known of a graph's tensors.
type inference struct {
	opset int64
	info  map[string]*tensorInfo
	index *graphIndex
	err   error // the first contradiction: a node whose inputs can't go together
}

// of returns what is known of a tensor, never nil.
func (f *inference) of(name string) *tensorInfo {
	if t := f.info[name]; t != nil && name != "" {
		return t
	}
	return &tensorInfo{}
}

// infer finds types and shapes from the network's input on. What an operator
// that has no rule gives is known only as far as the graph declares it.
func (m *Model) infer() *inference {
	g := m.proto.GetGraph()
	f := &inference{opset: m.opset(), info: map[string]*tensorInfo{}, index: indexOf(g)}
	for _, t := range g.GetInitializer() {
		info := infoOfTensor(t)
		f.info[t.GetName()] = &info
	}
	for _, v := range g.GetInput() {
		info := infoOfValue(v)
		f.info[v.GetName()] = &info
	}
	declared := map[string]*pb.ValueInfoProto{}
	for _, v := range g.GetValueInfo() {
		declared[v.GetName()] = v
	}
	for _, v := range g.GetOutput() {
		declared[v.GetName()] = v
	}
	for _, n := range g.GetNode() {
		f.node(n)
		for _, name := range n.GetOutput() {
			v := declared[name]
			if name == "" || v == nil {
				continue
			}
			t, d := f.info[name], infoOfValue(v)
			if t == nil {
				t = &tensorInfo{}
				f.info[name] = t
			}
			if t.typ == pb.TensorProto_UNDEFINED {
				t.typ = d.typ
			}
			if !t.ranked {
				t.ranked, t.dims = d.ranked, d.dims
			}
		}
	}
	return f
}

// node sets what is known of the outputs of n.
func (f *inference) node(n *pb.NodeProto) {
	rule := rules[n.GetOpType()]
	if rule == nil || !standard(n) || len(n.GetOutput()) == 0 {
		return
	}
	c := &call{f: f, n: n}
	if err := rule(c); err != nil {
		if f.err == nil && !errors.Is(err, errUnknown) {
			f.err = fmt.Errorf("%s: %w", describe(n), err)
		}
		return
	}
	for i, t := range c.out {
		if i >= len(n.GetOutput()) || n.GetOutput()[i] == "" {
			continue
		}
		for _, d := range t.dims {
			if d.n > maxElements || d.n < -1 {
				return
			}
		}
		f.info[n.GetOutput()[i]] = &t
	}
}

// errUnknown is what a rule returns that knows too little of its inputs to say
// anything.
var errUnknown = errors.New("not known")

// call is one application of a rule to a node.
type call struct {
	f   *inference
	n   *pb.NodeProto
	out []tensorInfo
}

// rule finds what is known of a node's outputs from its inputs.
type rule func(*call) error

// in is what is known of input i, never nil.
func (c *call) in(i int) *tensorInfo {
	if !c.has(i) {
		return &tensorInfo{}
	}
	return c.f.of(c.n.GetInput()[i])
}

func (c *call) has(i int) bool { return i < len(c.n.GetInput()) && c.n.GetInput()[i] != "" }

func (c *call) set(infos ...tensorInfo) error {
	c.out = infos
	return nil
}

// give sets the one output, of the type of input 0.
func (c *call) give(dims []dim) error {
	return c.set(tensorInfo{typ: c.in(0).typ, ranked: true, dims: dims})
}

// axis returns the attribute axis as an index into rank dimensions.
func (c *call) axis(fallback int64, rank int) (int, error) {
	return axisOf(attrInt(c.n, "axis", fallback), rank)
}

func axisOf(a int64, rank int) (int, error) {
	if a < -int64(rank) || a >= int64(rank) {
		return 0, fmt.Errorf("axis %d of %d dimensions", a, rank)
	}
	if a < 0 {
		a += int64(rank)
	}
	return int(a), nil
}

// list returns integers that newer opsets take as input i and older ones as the
// named attribute. ok is false where they aren't known; none is nil, true.
func (c *call) list(i int, name string) (list []int64, ok bool) {
	if !c.has(i) {
		return attrInts(c.n, name), true
	}
	values := c.in(i).values
	if values == nil {
		return nil, false
	}
	list = []int64{}
	for _, v := range values {
		if !v.known {
			return nil, false
		}
		list = append(list, v.n)
	}
	return list, true
}

// opset is the version of the standard operators.
func (m *Model) opset() int64 {
	for _, o := range m.proto.GetOpsetImport() {
		if o.GetDomain() == "" || o.GetDomain() == "ai.onnx" {
			return o.GetVersion()
		}
	}
	return 0
}
