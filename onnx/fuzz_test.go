package onnx

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// Whatever the bytes: an error and no model, or a model that comes back from
// its own bytes, and that every method takes without a panic.
func FuzzDecode(f *testing.F) {
	f.Add(marshal(f, chain()))
	f.Add(marshal(f, network(values(tensor("x", float, -1, 4, 4, 3)), values(tensor("y", float, -1, 48)),
		tensors(intTensor("shape", []int64{2}, 0, -1)),
		op("Constant", "c", nil, &pb.AttributeProto{Name: proto.String("value_ints"), Ints: []int64{1, 2}}),
		op("Transpose", "t", from("x"), intsAttr("perm", 0, 3, 1, 2)),
		op("Shape", "s", from("t")),
		op("Slice", "s2", from("s", "c", "c", "c")),
		op("Pad", "p", from("t", "s")),
		op("Concat", "k", from("t", "p"), intAttr("axis", 1)),
		op("MaxPool", "m", from("k"), intsAttr("kernel_shape", 3, 3), intAttr("ceil_mode", 1)),
		op("If", "i", from("m"), &pb.AttributeProto{Name: proto.String("then_branch"), G: chain().Graph}),
		op("Reshape", "y", from("t", "shape")))))
	if b, err := os.ReadFile(demoModel()); err == nil {
		f.Add(b[:4096])
	}
	for _, magic := range []string{"", "\x89PNG\r\n\x1a\n", "\x08\x08\x3a\x02\x0a\x00"} {
		f.Add([]byte(magic))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			if m != nil {
				t.Fatal("a model and an error")
			}
			return
		}
		once, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(once)
		if err != nil {
			t.Fatalf("the model's own bytes: %v", err)
		}
		if twice, _ := again.Encode(); !bytes.Equal(once, twice) {
			t.Fatal("encode, decode, encode isn't stable")
		}
		_, _ = m.Activations()
		_, _ = m.Clone().Dequantize()
		exposeAll(t, m.Clone())
		image, err := m.Image()
		_, _ = m.Classes()
		_ = m.SetBatch(3)
		_ = m.AddSoftmax()
		if err == nil {
			color := map[int]string{1: "gray", 3: "rgb"}[image.Channels]
			if err := m.AddFront(Front{Color: color, Mean: []float32{1}}); err != nil {
				t.Fatal(err)
			}
		}
		_ = m.SetBatch(2)
	})
}

// exposeAll makes all tensors that can be outputs ones, and sees that the model can
// be read again.
func exposeAll(t *testing.T, m *Model) {
	var names []string
	f := m.infer()
	for _, name := range slices.Sorted(maps.Keys(m.Tensors())) {
		if f.exposable(name) == nil {
			names = append(names, name)
		}
	}
	if f.err != nil || len(names) == 0 {
		return
	}
	if err := m.Expose(names); err != nil {
		t.Fatal(err)
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(b); err != nil {
		t.Fatalf("with its tensors exposed: %v", err)
	}
}

// Graphs of any operators with any attributes, which bytes alone seldom make.
func FuzzInfer(f *testing.F) {
	names := slices.Sorted(maps.Keys(rules))
	numbers := []int64{0, 1, 2, 3, 4, 8, 9, -1, -2, -5, 1 << 31, 1 << 62, math.MaxInt64, math.MinInt64}
	f.Add([]byte("a graph"))
	for i := range names {
		f.Add(bytes.Repeat([]byte{byte(i), 1, 2, 0, 3}, 8))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		next := func(n int) int {
			if len(b) == 0 {
				return 0
			}
			v := int(b[0]) % n
			b = b[1:]
			return v
		}
		some := func() []int64 {
			v := make([]int64, next(5))
			for i := range v {
				v[i] = numbers[next(len(numbers))]
			}
			return v
		}
		pool := from("x", "w", "v", "scalar", "ints")
		list := some()
		inits := tensors(floatTensor("w", []int64{3, 3, 2, 2}, make([]float32, 36)...), floatTensor("v", []int64{3}, 1, 2, 3),
			intTensor("scalar", nil, numbers[next(len(numbers))]), intTensor("ints", []int64{int64(len(list))}, list...))
		var nodes []*pb.NodeProto
		for i := 0; len(b) > 0 && i < 20; i++ {
			name := names[next(len(names))]
			inputs := make([]string, 1+next(4))
			for j := range inputs {
				inputs[j] = pool[len(pool)-1-next(len(pool))]
			}
			n := op(name, fmt.Sprint("t", i), inputs)
			for range next(4) {
				switch k := next(14); {
				case k < 7:
					key := []string{"axis", "group", "keepdims", "allowzero", "to", "blocksize", "start"}[k]
					setAttr(n, intAttr(key, numbers[next(len(numbers))]))
				default:
					key := []string{"axes", "perm", "kernel_shape", "strides", "pads", "split", "output_shape"}[k-7]
					setAttr(n, intsAttr(key, some()...))
				}
			}
			if next(4) == 0 {
				n.Output = append(n.Output, fmt.Sprint("u", i))
			}
			nodes = append(nodes, n)
			pool = append(pool, n.Output...)
		}
		if len(nodes) == 0 {
			return
		}
		out := &pb.ValueInfoProto{Name: proto.String(nodes[len(nodes)-1].Output[0])}
		m := decode(t, network(values(tensor("x", float, -1, 3, 8, 8)), values(out), inits, nodes...))
		for name, info := range m.infer().info {
			for _, d := range info.dims {
				if d.n < -1 || d.n > maxElements {
					t.Errorf("%s has the size %d", name, d.n)
				}
			}
		}
		_, _ = m.Activations()
		_, _ = m.Classes()
		_ = m.AddSoftmax()
		_ = m.SetBatch(3)
		_ = m.SetBatch(2)
	})
}
