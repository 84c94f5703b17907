package onnx

import (
	"bytes"
	"os"
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
