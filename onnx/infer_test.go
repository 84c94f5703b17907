package onnx

import (
	"path/filepath"
	"testing"
)

// ONNX's own shape inference is the oracle: what it finds, infer finds too.
func TestInferFindsWhatONNXFinds(t *testing.T) {
	t.Parallel()
	type tensor struct {
		Type int32
		Dims []int64 // null without a rank, -1 where unknown
	}
	args := append([]string{t.TempDir(), filepath.Join("testdata", "shapes.txt"), demoModel()}, materialModels()...)
	var want map[string]map[string]tensor
	python(t, &want, "shapes.py", args...)

	if len(want) < 9 {
		t.Fatalf("%d models compared", len(want))
	}
	for path, tensors := range want {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			m, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			m.proto.Graph.ValueInfo = nil // nothing taken from what is declared
			for _, v := range m.proto.Graph.Output {
				v.Type = nil
			}
			f := m.infer()
			if f.err != nil {
				t.Error(f.err)
			}
			for name, w := range tensors {
				if _, lifted := f.info[name]; !lifted && f.index.producer[name] == nil {
					continue // folded as the model was read
				}
				got := f.of(name)
				if int32(got.typ) != w.Type {
					t.Errorf("%s has type %v, want %v", name, got.typ, w.Type)
				}
				if w.Dims == nil {
					continue
				}
				if len(got.dims) != len(w.Dims) || !got.ranked {
					t.Errorf("%s is %s, want %s", name, text(got.dims), dimsText(w.Dims))
					continue
				}
				for i, n := range w.Dims {
					if n >= 0 && got.dims[i].n != n {
						t.Errorf("%s is %s, want %s", name, text(got.dims), dimsText(w.Dims))
						break
					}
				}
			}
		})
	}
}
