package ort_test

import (
	"errors"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/sightd/sightd/ort"
)

func probe(t *testing.T, g ort.Graph) *ort.Probe {
	t.Helper()
	open(t)
	p, err := ort.OpenProbe(g, ort.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func small(t *testing.T) ort.Graph {
	t.Helper()
	return ort.Graph{ONNX: file(t, "dynamic.onnx"), Input: "pixels", Height: 6, Width: 8, Outputs: []string{"scores"}}
}

func TestViewsGiveTheAnswersOfPythonSideBySide(t *testing.T) {
	t.Parallel()
	images, want := file(t, "images.u8"), floats(t, "dynamic.f32")
	for _, literal := range []bool{false, true} {
		g := small(t)
		g.Literal = literal
		p := probe(t, g)
		var group errgroup.Group
		var got [2][]float32
		for i := range 2 {
			group.Go(func() error {
				v, err := p.View()
				if err != nil {
					return err
				}
				copy(v.Pixels(), images[i*6*8*3:])
				for range 20 {
					if err := v.Run(); err != nil {
						return err
					}
				}
				got[i] = v.Output(0)
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		near(t, got[0], want[:5])
		near(t, got[1], want[5:])
	}
}

func TestAClosedProbeSaysSo(t *testing.T) {
	t.Parallel()
	p := probe(t, small(t))
	v, err := p.View()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := v.Run(); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("run: %v", err)
	}
	if _, err := p.View(); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("view: %v", err)
	}
}

func TestGraphsThatNoProbeTakes(t *testing.T) {
	t.Parallel()
	open(t)
	broken := small(t)
	broken.ONNX = broken.ONNX[:len(broken.ONNX)/2]
	_, err := ort.OpenProbe(broken, ort.Options{})
	wantError(t, err, "onnx runtime: open the graph")

	other := small(t)
	other.Outputs = []string{"nothing"}
	p := probe(t, other)
	_, err = p.View()
	wantError(t, err, "onnx runtime: bind the graph", "nothing")
}
