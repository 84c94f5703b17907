package onnx

import (
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// scoring is a model whose pooled scores, 1×8×1×1 of typ, go through nodes, the
// last of which makes "out".
func scoring(t *testing.T, opset int64, typ pb.TensorProto_DataType, nodes ...*pb.NodeProto) *Model {
	t.Helper()
	weights := make([]float32, 24)
	for i := range weights {
		weights[i] = float32(math.Sin(float64(i)))
	}
	w := floatTensor("weights", []int64{8, 3, 1, 1}, weights...)
	all := []*pb.NodeProto{op("Conv", "conv", from("image", "weights")), op("GlobalAveragePool", "pool", from("conv"))}
	if typ == float16 {
		raw := make([]byte, 48)
		for i := range weights {
			raw[2*i], raw[2*i+1] = byte(i), 0x38 // 0.5 and a bit
		}
		w = rawTensor("weights", float16, w.Dims, raw)
	}
	p := network(values(tensor("image", typ, 1, 3, 6, 6)), values(&pb.ValueInfoProto{Name: proto.String("out")}),
		tensors(w), append(all, nodes...)...)
	p.OpsetImport[0].Version = proto.Int64(opset)
	m := decode(t, p)
	f := m.infer()
	m.proto.Graph.Output[0] = valueInfo("out", f.of("out").typ, f.of("out").dims)
	return m
}

func TestClassesAndSoftmax(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name    string
		model   *Model
		softmax bool   // there before
		output  string // afterwards
	}{
		{"N×C×1×1", scoring(t, 13, float, op("Relu", "out", from("pool"))), false, "probabilities"},
		{"N×C", scoring(t, 13, float, op("Flatten", "out", from("pool"))), false, "probabilities"},
		{"N×1×1×C", scoring(t, 13, float, op("Transpose", "out", from("pool"), intsAttr("perm", 0, 2, 3, 1))), false, "probabilities"},
		{"softmax", scoring(t, 13, float, op("Flatten", "f", from("pool")), op("Softmax", "out", from("f"))), true, "out"},
		{"softmax of N×C×1×1", scoring(t, 13, float, op("Softmax", "out", from("pool"), intAttr("axis", 1))), true, "probabilities"},
		{"softmax of opset 7", scoring(t, 7, float, op("Softmax", "out", from("pool"))), true, "probabilities"},
		{"softmax, then more", scoring(t, 13, float, op("Softmax", "s", from("pool"), intAttr("axis", 1)), op("Flatten", "f", from("s")),
			op("Identity", "out", from("f"))), true, "out"},
		{"softmax over one", scoring(t, 13, float, op("Softmax", "s", from("pool"), intAttr("axis", 3)), op("Flatten", "out", from("s"))), false, "probabilities"},
		{"log softmax", scoring(t, 13, float, op("Flatten", "f", from("pool")), op("LogSoftmax", "out", from("f"))), false, "probabilities"},
		{"float16", scoring(t, 13, float16, op("Flatten", "out", from("pool"))), false, "probabilities"},
	}
	var paths []string
	for _, c := range cases {
		before, err := c.model.Classes()
		if want := (OutputInfo{"out", 8, c.softmax}); err != nil || before != want {
			t.Errorf("%s: %+v, %v, want %+v", c.name, before, err, want)
		}
		paths = append(paths, write(t, c.model))
		if err := c.model.AddSoftmax(); err != nil {
			t.Fatal(err)
		}
		after, err := c.model.Classes()
		if want := (OutputInfo{c.output, 8, true}); err != nil || after != want {
			t.Errorf("%s: %+v, %v, want %+v", c.name, after, err, want)
		}
		paths = append(paths, write(t, c.model))
	}
	results := run(t, paths...)
	for i, c := range cases {
		got, want := results[2*i+1], results[2*i].Values
		if !slices.Equal(got.Shape, []int64{1, 8}) || got.Output != c.output || !slices.Equal(got.Declared, got.Shape) {
			t.Errorf("%s: %+v", c.name, got)
		}
		if !c.softmax {
			want = softmax(want, 8)
		}
		near(t, got.Values, want, 1e-6)
	}
}

// softmax is computed over each n values.
func softmax(v []float64, n int) []float64 {
	var out []float64
	for row := range slices.Chunk(v, n) {
		sum := 0.0
		for _, x := range row {
			sum += math.Exp(x)
		}
		for _, x := range row {
			out = append(out, math.Exp(x)/sum)
		}
	}
	return out
}

func TestClassesTakesTheFirstOutputThatHoldsScores(t *testing.T) {
	t.Parallel()
	p := chain()
	p.Graph.Output = values(tensor("relu", float, 1, 4, 8, 8), tensor("scores", float, 1, 4), tensor("pool", float, 1, 4, 1, 1))
	m := decode(t, p)
	if got, err := m.Classes(); got.Name != "scores" || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if err := m.AddSoftmax(); err != nil {
		t.Fatal(err)
	}
	if r := run(t, write(t, m))[0]; r.Outputs != 1 || r.Output != "probabilities" {
		t.Errorf("%+v", r)
	}
}

func TestClassesRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		output *pb.ValueInfoProto
		nodes  []*pb.NodeProto
		want   string
	}{
		{"an image", tensor("relu", float, 1, 4, 8, 8), nil, `want float32 of N×classes, found "relu" of FLOAT 1×4×8×8`},
		{
			"an index", tensor("best", pb.TensorProto_INT64, 1, 1, 1, 1),
			[]*pb.NodeProto{op("ArgMax", "best", from("pool"), intAttr("axis", 1))},
			`found "best" of INT64 1×1×1×1`,
		},
		{
			"one class", tensor("one", float, 1, 1),
			[]*pb.NodeProto{op("ReduceMean", "one", from("scores"), intsAttr("axes", 1))},
			`found "one" of FLOAT 1×1`,
		},
		{
			"an operator without a rule", &pb.ValueInfoProto{Name: proto.String("x")},
			[]*pb.NodeProto{op("Det", "x", from("relu"))},
			`found "x" of UNDEFINED unknown shape`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := chain()
			p.Graph.Node = append(p.Graph.Node, c.nodes...)
			p.Graph.Output = values(c.output)
			m := decode(t, p)
			if _, err := m.Classes(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if err := m.AddSoftmax(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}
