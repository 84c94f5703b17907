package onnx

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/onnx/internal/pb"
)

func activationsOf(t *testing.T, m *Model) map[string]Activation {
	t.Helper()
	list, err := m.Activations()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]Activation{}
	for _, a := range list {
		byName[a.Name] = a
	}
	return byName
}

func TestActivations(t *testing.T) {
	t.Parallel()
	m := decode(t, chain())
	got, err := m.Activations()
	if err != nil {
		t.Fatal(err)
	}
	want := []Activation{
		{
			Name: "image", Index: -1, Shape: []int64{1, 3, 8, 8}, Needed: true,
			Consumers: []Consumer{{"conv", "Conv", 0}},
		},
		{
			Name: "conv", Producer: "conv", Op: "Conv", Index: 0, Shape: []int64{1, 4, 8, 8}, Needed: true,
			Consumers: []Consumer{{"relu", "Relu", 1}}, Behind: "relu",
		},
		{
			Name: "relu", Producer: "relu", Op: "Relu", Index: 1, Shape: []int64{1, 4, 8, 8}, Needed: true,
			Consumers: []Consumer{{"pool", "GlobalAveragePool", 2}},
			Cut:       &Cut{Of: "conv", Hi: float32(math.Inf(1))},
		},
		{
			Name: "pool", Aliases: []string{"scores"}, Producer: "pool", Op: "GlobalAveragePool", Index: 2,
			Shape: []int64{1, 4, 1, 1}, // and, as "scores", the network's output
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestActivationsStayTheSameBehindAFrontAndBeforeASoftmax(t *testing.T) {
	t.Parallel()
	m := decode(t, chain())
	before := activationsOf(t, m)
	if err := m.AddFront(Front{Color: "bgr", Mean: []float32{1, 2, 3}}); err != nil {
		t.Fatal(err)
	}
	if err := m.AddSoftmax(); err != nil {
		t.Fatal(err)
	}
	after := activationsOf(t, m)
	for name, a := range after {
		if name == "probabilities" {
			continue
		}
		if b := before[name]; a.Needed != b.Needed || a.Op != b.Op || a.Behind != b.Behind {
			t.Errorf("%+v, was %+v", a, b)
		}
	}
	if len(after) != len(before)+1 || after["probabilities"].Needed {
		t.Errorf("%d activations, were %d", len(after), len(before))
	}
}

func TestActivationsThatNeedAScale(t *testing.T) {
	t.Parallel()
	// Two paths join; a shape is computed and used; scores and an index come out.
	m := decode(t, network(
		values(tensor("image", float, -1, 3, 8, 8)),
		values(tensor("scores", float, -1, 192), tensor("index", pb.TensorProto_INT64, -1, 1)),
		tensors(floatTensor("w", []int64{3, 3, 1, 1}, make([]float32, 9)...), floatTensor("six", nil, 6), floatTensor("zero", nil, 0),
			intTensor("first", nil, 0), intTensor("axes", []int64{1}, 0), intTensor("rest", []int64{1}, -1)),
		op("Conv", "a", from("image", "w")),
		op("Clip", "a6", from("a", "zero", "six")),
		op("Conv", "b", from("image", "w")),
		op("Relu", "b+", from("b")),
		op("Sigmoid", "gate", from("b")), // so the Relu isn't all that reads b
		op("Mul", "gated", from("b+", "gate")),
		op("Add", "join", from("a6", "gated")),
		op("Tanh", "tanh", from("join")),
		op("Exp", "exp", from("tanh")),
		op("Shape", "shape", from("image")),
		op("Gather", "n", from("shape", "first")),
		op("Unsqueeze", "n1", from("n", "axes")),
		op("Concat", "target", from("n1", "rest"), intAttr("axis", 0)),
		op("Mul", "weights squared", from("w", "w")),
		op("Conv", "c", from("exp", "weights squared")),
		op("Reshape", "flat", from("c", "target")),
		op("Softmax", "scores", from("flat")),
		op("ArgMax", "index", from("scores"), intAttr("axis", 1)),
	))
	got := activationsOf(t, m)
	var needed, not []string
	for name, a := range got {
		if a.Needed {
			needed = append(needed, name)
		} else {
			not = append(not, name)
		}
	}
	slices.Sort(needed)
	slices.Sort(not)
	if want := []string{"a", "a6", "b", "b+", "exp", "gate", "gated", "image", "join"}; !slices.Equal(needed, want) {
		t.Errorf("needed %q, want %q", needed, want)
	}
	if want := []string{"c", "scores", "tanh"}; !slices.Equal(not, want) {
		t.Errorf("not needed %q, want %q", not, want)
	}
	if got["a"].Behind != "a6" || got["b"].Behind != "" {
		t.Errorf("behind a %q, behind b %q", got["a"].Behind, got["b"].Behind)
	}
	if want := []string{"flat"}; !slices.Equal(got["c"].Aliases, want) {
		t.Errorf("aliases of c: %q, want %q", got["c"].Aliases, want)
	}
}

func TestActivationsRefusesAGraphThatContradictsItself(t *testing.T) {
	t.Parallel()
	p := chain()
	p.Graph.Input[0] = tensor("image", float, 1, 4, 8, 8)
	_, err := decode(t, p).Activations()
	if want := `node "conv" (Conv): 4 channels in, its weights are for 3`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// The tensors of this LeNet are those of a real cache.
func TestActivationsOfLeNetAreNamedByItsCache(t *testing.T) {
	t.Parallel()
	m, err := Read(testenv.Material(t, "models", "lenet_mnist_nvdla_fp32.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := m.Activations()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range list {
		names = append(names, a.Name)
	}
	want := []string{
		"data", "conv1", "pool1", "conv2", "pool2", "(Unnamed Layer* 4) [Fully Connected]_output", "ip1", "ip2", "prob",
	}
	if !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}
