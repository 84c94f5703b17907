package onnx

import (
	"maps"
	"slices"
	"testing"
)

func TestTensorsAreAllNamesOfTheGraph(t *testing.T) {
	t.Parallel()
	m := decode(t, chain())
	m.proto.Graph.Node[0].Output = append(m.proto.Graph.Node[0].Output, "") // left out
	got := slices.Sorted(maps.Keys(m.Tensors()))
	if want := []string{"conv", "image", "pool", "relu", "scores", "weights"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
