package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

// input is a model.yaml's, as far as it differs from case to case.
type input struct {
	Color  string    `json:"color"`
	Resize string    `json:"resize"`
	Filter string    `json:"filter"`
	Crop   float64   `json:"crop"`
	Pad    int       `json:"pad"`
	Mean   []float64 `json:"mean"`
	Std    []float64 `json:"std"`
}

// A classification is a model over images, prepared in one way.
type classification struct {
	Model  string   `json:"model"`
	Images []string `json:"images"`
	Input  input    `json:"input"`
}

// Every way of preparing an image gives the scores that the reference in Python
// gives, each of a thousand of them, to a thousandth.
func TestClassifyEqualsTheReference(t *testing.T) {
	t.Parallel()
	photos, err := filepath.Glob(testenv.Demo("photos", "*"))
	if err != nil || len(photos) < 4 {
		t.Fatalf("photographs %q, %v", photos, err)
	}
	lite0 := testenv.Demo("lite0", "model.onnx")
	gray := write(t, filepath.Join(t.TempDir(), "gray.onnx"), model(t, "gray.onnx"))
	var all []classification
	for i, resize := range []string{"letterbox", "crop", "stretch"} {
		for j, filter := range []string{"nearest", "linear", "cubic", "area"} {
			all = append(all, classification{lite0, photos, input{
				Color: "rgb", Resize: resize, Filter: filter, Crop: 0.6 + 0.1*float64(j), Pad: 100 * i,
				Mean: []float64{127, 127, 127}, Std: []float64{128, 128, 128},
			}})
		}
	}
	all = append(all,
		classification{lite0, photos, input{
			Color: "bgr", Resize: "crop", Filter: "area", Crop: 0.875, Pad: 127,
			Mean: []float64{100, 120, 140}, Std: []float64{110, 130, 150},
		}},
		classification{gray, photos, input{
			Color: "gray", Resize: "letterbox", Filter: "linear", Crop: 1, Pad: 10,
			Mean: []float64{127}, Std: []float64{64},
		}})
	want := reference(t, all)
	for i, c := range all {
		t.Run(fmt.Sprintf("%s %s %s", c.Input.Color, c.Input.Resize, c.Input.Filter), func(t *testing.T) {
			t.Parallel()
			got := scores(t, c)
			for j, path := range c.Images {
				if worst := distance(got[j], want[i][j]); !(worst <= 1e-3) {
					t.Errorf("%s: a score differs by %v", filepath.Base(path), worst)
				}
			}
		})
	}
}

// reference runs testdata/classify.py: scores by case, image and class.
func reference(t *testing.T, all []classification) [][][]float64 {
	t.Helper()
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), testenv.Python(t), "testdata/classify.py")
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(b), &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	var scores [][][]float64
	if err := json.Unmarshal(out, &scores); err != nil {
		t.Fatal(err)
	}
	return scores
}

// scores runs sightd: scores by image and class.
func scores(t *testing.T, c classification) [][]float64 {
	t.Helper()
	spec, err := json.Marshal(map[string]any{
		"name": "reference", "release": 1, "model": c.Model, "precision": "fp32", "input": c.Input,
	})
	if err != nil {
		t.Fatal(err)
	}
	release := write(t, filepath.Join(t.TempDir(), "model.yaml"), spec) // JSON is YAML
	o := program(t, append([]string{"classify", "--json", "--top", "1000", "--threads", "1", release}, c.Images...)...)
	if o.status != 0 {
		t.Fatal(o.stderr)
	}
	var all [][]float64
	for i, line := range lines(t, o.stdout, len(c.Images)) {
		var got classified
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Path != c.Images[i] {
			t.Fatalf("%v: %s", err, line)
		}
		of := make([]float64, len(got.Top))
		for _, label := range got.Top {
			of[label.Index] = float64(label.Score)
		}
		all = append(all, of)
	}
	return all
}

// distance is the greatest difference between two scores of one class.
func distance(a, b []float64) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range a {
		worst = max(worst, math.Abs(a[i]-b[i]))
	}
	return worst
}
