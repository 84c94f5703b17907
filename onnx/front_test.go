package onnx

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// imageModel is a model that gives back the image that it takes.
func imageModel(t *testing.T, layout Layout, typ pb.TensorProto_DataType, batch, channels int64) *Model {
	t.Helper()
	sizes := []int64{batch, channels, 9, 7}
	if layout == NHWC {
		sizes = []int64{batch, 9, 7, channels}
	}
	return decode(t, network(values(tensor("image", typ, sizes...)), values(tensor("same", typ, sizes...)), nil,
		op("Identity", "same", from("image"))))
}

func TestFrontIsWhatOpenCVAndNumPyMake(t *testing.T) {
	t.Parallel()
	type testCase struct {
		Model  string    `json:"model"`
		Color  string    `json:"color"`
		Layout string    `json:"layout"`
		Mean   []float32 `json:"mean"`
		Std    []float32 `json:"std"`
		Half   bool      `json:"half"`
	}
	var cases []testCase
	for _, color := range []string{"rgb", "bgr", "gray"} {
		mean, std := []float32{103.53, 116.28, 123.675}, []float32{57.375, 57.12, 58.395}
		if color == "gray" {
			mean, std = []float32{33.3}, []float32{78.5}
		}
		for _, layout := range []Layout{NCHW, NHWC} {
			for _, batch := range []int64{1, 4, -1} {
				for _, half := range []bool{false, true} {
					if half && batch != 1 {
						continue
					}
					for _, f := range []Front{
						{Color: color},
						{Color: color, Mean: []float32{127}, Std: []float32{128}},
						{Color: color, Mean: mean, Std: std},
						{Color: color, Std: []float32{255}},
					} {
						typ, channels := float, int64(3)
						if half {
							typ = float16
						}
						if color == "gray" {
							channels = 1
						}
						m := imageModel(t, layout, typ, batch, channels)
						if err := m.AddFront(f); err != nil {
							t.Fatal(err)
						}
						cases = append(cases, testCase{write(t, m), color, layout.String(), f.Mean, f.Std, half})
					}
				}
			}
		}
	}
	list, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cases.json")
	if err := os.WriteFile(path, list, 0o644); err != nil {
		t.Fatal(err)
	}
	var results []struct {
		Input, Type string
		Difference  float64
	}
	python(t, &results, "front.py", path)
	for i, r := range results {
		limit := 1e-6
		if cases[i].Half {
			limit = 1e-3
		}
		if cases[i].Mean == nil && cases[i].Std == nil {
			limit = 0
		}
		if r.Input != "pixels" || r.Type != "tensor(uint8)" || r.Difference > limit {
			t.Errorf("%+v: %+v", cases[i], r)
		}
	}
}

func TestFrontKeepsTheInputsNameInside(t *testing.T) {
	t.Parallel()
	m := imageModel(t, NCHW, float, 1, 3)
	if err := m.AddFront(Front{Color: "bgr"}); err != nil {
		t.Fatal(err)
	}
	if x := indexOf(m.proto.Graph); x.producer["image"] == nil || x.input["pixels"] == nil || len(x.input) != 1 {
		t.Errorf("made by the front: %v; inputs: %v", x.producer["image"], x.input)
	}
}

func TestFrontFindsANameForItsInput(t *testing.T) {
	t.Parallel()
	m := decode(t, network(values(tensor("pixels", float, 1, 3, 4, 4)), values(tensor("same", float, 1, 3, 4, 4)), nil,
		op("Identity", "same", from("pixels"))))
	if err := m.AddFront(Front{Color: "rgb"}); err != nil {
		t.Fatal(err)
	}
	if got := m.proto.Graph.Input[0].GetName(); got != "pixels_2" {
		t.Errorf("the input is %q", got)
	}
	run(t, write(t, m))
}

func TestFrontRefuses(t *testing.T) {
	t.Parallel()
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		front    Front
		channels int64
		want     string
	}{
		{Front{Color: "yuv"}, 3, `color "yuv", want rgb, bgr or gray`},
		{Front{}, 3, `color "", want rgb, bgr or gray`},
		{Front{Color: "gray"}, 3, `color gray makes 1 channels, the model's input "image" has 3`},
		{Front{Color: "rgb"}, 1, `color rgb makes 3 channels, the model's input "image" has 1`},
		{Front{Color: "rgb", Mean: []float32{1, 2}}, 3, "2 numbers for mean, want 1 or 3"},
		{Front{Color: "rgb", Std: []float32{1, 2, 3, 4}}, 3, "4 numbers for std, want 1 or 3"},
		{Front{Color: "rgb", Std: []float32{1, 0, 1}}, 3, "std is 0, want numbers to divide by"},
		{Front{Color: "rgb", Std: []float32{1e-44}}, 3, "want numbers to divide by"},
		{Front{Color: "rgb", Mean: []float32{nan}}, 3, "mean is NaN, want finite numbers"},
		{Front{Color: "rgb", Std: []float32{inf}}, 3, "std is +Inf, want finite numbers"},
	} {
		t.Run(fmt.Sprint(c.front), func(t *testing.T) {
			t.Parallel()
			m := imageModel(t, NCHW, float, 1, c.channels)
			before, _ := m.Encode()
			err := m.AddFront(c.front)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if after, _ := m.Encode(); string(after) != string(before) {
				t.Error("the model was changed")
			}
		})
	}
}
