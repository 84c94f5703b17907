package onnx

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// exposed is what ONNX Runtime says of a model with exposed tensors.
type exposed struct {
	Names    []string
	Types    []string
	Declared [][]int64 // -1 where dynamic
	Shapes   [][]int64
	Differ   []string // the tensors that aren't what they are in the original
	Nodes    int
}

func expose(t *testing.T, m *Model, names ...string) *Model {
	t.Helper()
	if err := m.Expose(names); err != nil {
		t.Fatal(err)
	}
	return m
}

// All activations of the real models come out as they are inside the model.
func TestExposedActivationsAreWhatTheyWere(t *testing.T) {
	t.Parallel()
	var paths []string
	var names [][]string
	for _, path := range append(materialModels(), demoModel()) {
		m, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		list, err := m.Activations()
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, a := range list[1:] { // the first is the input
			all = append(all, a.Names()...)
		}
		paths = append(paths, path, write(t, expose(t, m, all...)))
		names = append(names, all)
	}
	var results []exposed
	python(t, &results, "expose.py", paths...)
	for i, r := range results {
		path := paths[2*i]
		if len(r.Differ) > 0 {
			t.Errorf("%s: %q are others now", path, r.Differ)
		}
		if !slices.Equal(r.Names, names[i]) || !slices.Equal(r.Types, []string{"tensor(float)"}) {
			t.Errorf("%s gives %q of %q, want %q", path, r.Names, r.Types, names[i])
		}
		for k, declared := range r.Declared {
			if len(declared) == 0 {
				continue // unknown
			}
			fits := func(d, n int64) int {
				if d == n || d < 0 {
					return 0
				}
				return 1
			}
			if slices.CompareFunc(declared, r.Shapes[k], fits) != 0 {
				t.Errorf("%s: %s is declared to be %v, and is %v", path, r.Names[k], declared, r.Shapes[k])
			}
		}
	}
}

func TestExposeDropsWhatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	original := write(t, decode(t, branches()))
	m := expose(t, decode(t, branches()), "right", "stem/relu")
	var results []exposed
	python(t, &results, "expose.py", original, write(t, m))
	r := results[0]
	if !slices.Equal(r.Names, []string{"right", "stem/relu"}) || len(r.Differ) > 0 {
		t.Errorf("%+v", r)
	}
	if want := []int64{1, 8, 6, 6}; !slices.Equal(r.Declared[0], want) {
		t.Errorf("declared to be %v, want %v", r.Declared[0], want)
	}
	if r.Nodes != 4 { // stem, its ReLU, the pooling, right
		t.Errorf("%d nodes are left, want 4", r.Nodes)
	}
	for _, w := range m.proto.Graph.Initializer {
		if strings.HasPrefix(w.GetName(), "left") {
			t.Errorf("the weights %s are left", w.GetName())
		}
	}
}

func TestExposeKeepsOutputsThatAreListed(t *testing.T) {
	t.Parallel()
	m := expose(t, decode(t, chain()), "conv", "scores")
	if r := run(t, write(t, m))[0]; r.Output != "conv" || r.Outputs != 2 || !slices.Equal(r.Declared, []int64{1, 4, 8, 8}) {
		t.Errorf("%+v", r)
	}
}

// The network's input is a tensor inside the graph once a front makes it.
func TestExposeGivesWhatTheFrontMakes(t *testing.T) {
	t.Parallel()
	m := decode(t, chain())
	if err := m.AddFront(Front{Color: "rgb", Std: []float32{255}}); err != nil {
		t.Fatal(err)
	}
	expose(t, m, "image")
	if r := run(t, write(t, m))[0]; r.Output != "image" || !slices.Equal(r.Shape, []int64{1, 3, 8, 8}) {
		t.Errorf("%+v", r)
	}
}

// A type that can't be told is left to ONNX Runtime to check.
func TestExposeTakesWhatHasNoKnownType(t *testing.T) {
	t.Parallel()
	p := network(values(tensor("x", float, 1, 3, 8, 8)), values(tensor("y", float, 1, 3)), nil,
		op("Einsum", "e", from("x"), &pb.AttributeProto{
			Name: proto.String("equation"), Type: pb.AttributeProto_STRING.Enum(), S: []byte("abcd->abd"),
		}),
		op("ReduceMean", "y", from("e"), intsAttr("axes", 2), intAttr("keepdims", 0)))
	var results []exposed
	python(t, &results, "expose.py", write(t, decode(t, p)), write(t, expose(t, decode(t, p), "e")))
	if r := results[0]; !slices.Equal(r.Names, from("e")) || !slices.Equal(r.Shapes[0], []int64{1, 3, 8}) || len(r.Differ) > 0 {
		t.Errorf("%+v", r)
	}
}

func TestExposeRefuses(t *testing.T) {
	t.Parallel()
	p := func() *pb.ModelProto {
		p := chain()
		p.Graph.Node = append(p.Graph.Node, op("Shape", "shape", from("conv")))
		return p
	}
	for _, test := range []struct {
		names []string
		want  string
	}{
		{nil, "no tensor to expose is named"},
		{from("conv", "conv2"), `expose the tensor "conv2": the graph makes no such tensor`},
		{from("conv", ""), `expose the tensor "": the graph makes no such tensor`},
		{from("image"), `expose the tensor "image": it is the model's input`},
		{from("conv", "weights"), `expose the tensor "weights": it is an initialiser`},
		{from("conv", "relu", "conv"), `expose the tensor "conv": it is listed twice`},
		{from("shape"), `expose the tensor "shape": it is of INT64, want floating point`},
	} {
		m := decode(t, p())
		before := marshal(t, m.proto)
		if err := m.Expose(test.names); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %s", test.names, err, test.want)
		}
		if string(marshal(t, m.proto)) != string(before) {
			t.Errorf("%q: the model changed", test.names)
		}
	}
	contradicts := p()
	contradicts.Graph.Input[0] = tensor("image", float, 1, 4, 8, 8)
	if err := decode(t, contradicts).Expose(from("conv")); err == nil || !strings.Contains(err.Error(), "4 channels in") {
		t.Errorf("%v", err)
	}
}
