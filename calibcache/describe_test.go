package calibcache_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	m, err := onnx.Read("testdata/net.onnx")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{
		"image", "relu1", "pool1", "clip2", "sum", "flat", "logits", "prob", "fc.w_output", "conv2.b",
		"(Unnamed Layer* 0) [Convolution]_output", "(Unnamed Layer* 3) [Convolution]_output",
		"(Unnamed Layer* 50) [Shuffle]_output", "fire2",
	}
	tensors, err := calibcache.Describe(cacheOf(t, names...), m)
	if err != nil {
		t.Fatal(err)
	}
	type what struct {
		Name               string
		Role               calibcache.Role
		Of, Op, Producer   string
		Consumers          []string
		Shape              []int64
		IsAnActivationsToo bool
	}
	var got []what
	for _, tensor := range tensors {
		w := what{Name: tensor.Entry.Name, Role: tensor.Role, Of: tensor.Of}
		if a := tensor.Activation; a != nil {
			w.Op, w.Producer, w.Shape, w.IsAnActivationsToo = a.Op, a.Producer, a.Shape, true
			for _, c := range a.Consumers {
				w.Consumers = append(w.Consumers, c.Op)
			}
		}
		got = append(got, w)
	}
	want := []what{
		{"image", calibcache.IsActivation, "", "", "", []string{"Conv"}, []int64{1, 3, 8, 8}, true},
		{"relu1", calibcache.IsActivation, "", "Relu", "relu1", []string{"MaxPool"}, []int64{1, 4, 8, 8}, true},
		{"pool1", calibcache.IsActivation, "", "MaxPool", "pool1", []string{"Conv", "Add"}, []int64{1, 4, 4, 4}, true},
		{"clip2", calibcache.IsActivation, "", "Clip", "clip2", []string{"Add"}, []int64{1, 4, 4, 4}, true},
		{"sum", calibcache.IsActivation, "", "Add", "sum", []string{"GlobalAveragePool"}, []int64{1, 4, 4, 4}, true},
		{"flat", calibcache.IsAlias, "gap", "GlobalAveragePool", "gap", []string{"Gemm"}, []int64{1, 4, 1, 1}, true},
		{"logits", calibcache.IsActivation, "", "Gemm", "logits", []string{"Softmax"}, []int64{1, 5}, true},
		{"prob", calibcache.IsActivation, "", "Softmax", "prob", nil, []int64{1, 5}, true},
		{Name: "fc.w_output", Role: calibcache.IsConstant, Of: "fc.w"},
		{Name: "conv2.b", Role: calibcache.IsConstant},
		{names[10], calibcache.IsPositional, "conv1", "Conv", "conv1", []string{"Relu"}, []int64{1, 4, 8, 8}, true},
		{names[11], calibcache.IsPositional, "conv2", "Conv", "conv2", []string{"Clip"}, []int64{1, 4, 4, 4}, true},
		{Name: names[12], Role: calibcache.IsConstant},
		{Name: "fire2", Role: calibcache.IsNothing},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDescribeAnotherNetworksCache(t *testing.T) {
	t.Parallel()
	m, err := onnx.Read("testdata/net.onnx")
	if err != nil {
		t.Fatal(err)
	}
	tensors, err := calibcache.Describe(cacheOf(t, "a", "b", "(Unnamed Layer* 0) [Convolution]_output", "ONNXTRT_Broadcast_1_output"), m)
	if err != nil {
		t.Fatal(err)
	}
	for _, tensor := range tensors {
		if tensor.Role != calibcache.IsNothing || tensor.Activation != nil {
			t.Errorf("%+v", tensor)
		}
	}
}
