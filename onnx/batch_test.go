package onnx

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// Four images at a time give what one by one gives.
func TestSetBatchGivesTheSameScores(t *testing.T) {
	t.Parallel()
	originals := append(materialModels(), demoModel())
	var paths []string
	for _, path := range originals {
		m, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.SetBatch(4); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		paths = append(paths, path, write(t, m))
	}
	results := run(t, paths...)
	for i, path := range originals {
		before, after := results[2*i], results[2*i+1]
		if after.Batch != 4 || after.Declared[0] != 4 || after.Shape[0] != 4 {
			t.Errorf("%s: the batch is %d in, %d of %d out", path, after.Batch, after.Shape[0], after.Declared[0])
		}
		near(t, after.Values, before.Values, 1e-5)
	}
}

func TestSetBatchWorksOnAPreparedModel(t *testing.T) {
	t.Parallel()
	var paths []string
	for _, layout := range []Layout{NCHW, NHWC} {
		m := imageModel(t, layout, float, 1, 3)
		if err := m.AddFront(Front{Color: "bgr", Mean: []float32{1, 2, 3}, Std: []float32{4, 5, 6}}); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, write(t, m))
		if err := m.SetBatch(2); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, write(t, m))
	}
	results := run(t, paths...)
	near(t, results[1].Values, results[0].Values, 0)
	near(t, results[3].Values, results[2].Values, 0)
}

func TestSetBatchOfExportedView(t *testing.T) {
	t.Parallel()
	// PyTorch's x.view(x.size(0), -1), as it is exported.
	m := decode(t, network(values(tensor("image", float, -1, 3, 4, 4)), values(tensor("scores", float, -1, 48)),
		tensors(intTensor("zero", nil, 0), intTensor("axes", []int64{1}, 0), intTensor("rest", []int64{1}, -1)),
		op("Shape", "shape", from("image")),
		op("Gather", "n", from("shape", "zero")),
		op("Unsqueeze", "n1", from("n", "axes")),
		op("Concat", "target", from("n1", "rest"), intAttr("axis", 0)),
		op("Reshape", "scores", from("image", "target")),
	))
	if c, err := m.Classes(); err != nil || c.Classes != 48 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := m.SetBatch(2); err != nil {
		t.Fatal(err)
	}
	if r := run(t, write(t, m))[0]; r.Shape[0] != 2 || r.Shape[1] != 48 {
		t.Errorf("%+v", r)
	}
}

func TestSetBatchRefuses(t *testing.T) {
	t.Parallel()
	pooled := func(shape []int64, nodes ...*pb.NodeProto) *pb.ModelProto {
		p := chain()
		p.Graph.Node = append(p.Graph.Node[:3], nodes...)
		p.Graph.Initializer = append(p.Graph.Initializer, intTensor("shape", []int64{int64(len(shape))}, shape...),
			floatTensor("token", []int64{1, 1, 1, 1}, 0))
		return p
	}
	for _, c := range []struct {
		name  string
		model *pb.ModelProto
		n     int64
		want  string
	}{
		{"none", chain(), 0, "batch 0, want 1 to 4096"},
		{"too many", chain(), 5000, "batch 5000, want 1 to 4096"},
		{
			"a shape without the batch", pooled([]int64{4}, op("Reshape", "scores", from("pool", "shape"))), 4,
			`node "scores" (Reshape): an input of 4×4×1×1 can't become 4; export it with a dynamic batch`,
		},
		{
			"a shape that mixes images", pooled([]int64{2, -1}, op("Reshape", "scores", from("pool", "shape"))), 4,
			`the output "scores" is of 2×8: its graph is made for another number`,
		},
		{
			"a constant beside each image", pooled(nil, op("Concat", "scores", from("pool", "token"), intAttr("axis", 1))), 4,
			`node "scores" (Concat): it joins tensors of 4×4×1×1 and 1×1×1×1: sizes 4 and 1 differ`,
		},
		{"an operator without a rule", pooled(nil, op("Det", "scores", from("pool"))), 4, `the shape of the output "scores" can't be told`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := decode(t, c.model)
			before := proto.Clone(m.proto)
			if err := m.SetBatch(c.n); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if !proto.Equal(m.proto, before) {
				t.Error("the model was changed")
			}
		})
	}
}
